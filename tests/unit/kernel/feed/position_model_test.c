/*
 * Positions against a model, by random walks with seeds: commits of random events, readers with
 * different interests and windows that acknowledge in any order, fail, close, reopen, seek, and act
 * on each other from within a call; restarts, and crashes that forget what was not stored.
 *
 * The model knows of each reader only its cursor (the event handed last) and which events it has
 * acknowledged since it stood before them. Whatever comes is then checked:
 *
 * - it was asked for, was dispatched, and has not been acknowledged;
 * - it is younger than the cursor: order;
 * - every event between the cursor and it that was asked for has been acknowledged: none skipped.
 *
 * A failure moves the cursor back before what failed; a reopening, to what was stored.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "position_fixture.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    TAIL_BYTES = 16 * 1024, /* about thirty events */
    READERS = 6,
    EVENTS_MAX = 60000,
    ROUNDS = 400,
    SEEDS = 6,
    TAKEN_MAX = 64
};

static const struct bk_slice types[] = {
    BK_SLICE_INIT("posts.created"), BK_SLICE_INIT("posts.updated"), BK_SLICE_INIT("users.created"),
    BK_SLICE_INIT("_webhooks.updated")};
static const struct bk_slice subjects[] = {BK_SLICE_INIT("posts/a"), BK_SLICE_INIT("posts/b")};
static const struct bk_slice pattern_posts[] = {BK_SLICE_INIT("posts.*")};
static const struct bk_slice pattern_exact[] = {BK_SLICE_INIT("users.created"),
                                                BK_SLICE_INIT("_webhooks.updated")};
static const struct bk_slice pattern_all[] = {BK_SLICE_INIT("*"), BK_SLICE_INIT("_*")};

struct model_reader {
    struct support_reader reader;
    char name[16];
    uint64_t cursor;
    uint64_t base;                    /* all up to it is done */
    uint64_t watermark;               /* at least so far: it does not go back */
    uint8_t acknowledged[EVENTS_MAX]; /* since it stood before it */
    uint64_t taken[TAKEN_MAX];
    size_t taken_count;
    uint64_t lowest, highest; /* where its next opening may begin */
    uint64_t done;            /* what it had done by then */
    bool is_sought;           /* seeks: what is stored may stand further ahead */
};

static struct {
    struct support_kernel kernel;
    struct bk_bus *bus;
    struct bk_feed *feed;
    struct bk_bus_tap tap;
    struct bk_subscription dispatches[2];
    uint64_t dispatched;
    struct bk_event *events[EVENTS_MAX]; /* by sequence */
    uint64_t last;
    struct model_reader *readers[READERS];
    bool is_draining; /* all is acknowledged, nothing else is done */
    uint64_t state;
} model;

static uint32_t random_below(uint32_t bound) {
    model.state = model.state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(model.state >> 33) % bound;
}

static bool happens(uint32_t percent) { return random_below(100) < percent; }

/* --- the world -------------------------------------------------------------------------------- */

static void on_committed(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                         struct bk_event *const *events, size_t event_count) {
    (void)tap;
    (void)tenant;
    for (size_t i = 0; i < event_count; i++) {
        uint64_t sequence = events[i]->fields.sequence;
        assert_int_equal(sequence, model.last + 1);
        assert_true(sequence < EVENTS_MAX);
        model.events[sequence] = bk_event_ref(events[i]);
        model.last = sequence;
    }
}

static enum bk_status on_dispatched(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                    struct bk_event *event) {
    (void)subscription;
    (void)tenant;
    model.dispatched = event->fields.sequence;
    return BK_OK;
}

static void see_dispatches(struct bk_subscription *subscription, struct bk_slice pattern) {
    *subscription = (struct bk_subscription){
        .name = "model", .phase = BK_PHASE_LOGGING, .pattern = pattern, .on_event = on_dispatched};
    assert_int_equal(bk_bus_subscribe(model.bus, subscription), BK_OK);
}

static void create_feed(void) {
    model.bus = bk_bus_create(model.kernel.loop, model.kernel.store, (struct bk_log){0});
    model.feed = bk_feed_create(model.kernel.loop, model.bus, model.kernel.tenants,
                                (struct bk_log){0}, TAIL_BYTES);
    model.feed->positions->retry_first_ms = 2;
    model.feed->positions->retry_max_ms = 8;
    model.tap.on_committed = on_committed;
    bk_bus_add_tap(model.bus, &model.tap);
    see_dispatches(&model.dispatches[0], BK_SLICE("*"));
    see_dispatches(&model.dispatches[1], BK_SLICE("_*"));
}

static void destroy_feed(void) {
    bk_bus_remove_tap(&model.tap);
    bk_bus_unsubscribe(model.bus, &model.dispatches[0]);
    bk_bus_unsubscribe(model.bus, &model.dispatches[1]);
    bk_feed_destroy(model.feed);
    bk_bus_destroy(model.bus);
}

static void run_until_idle(void) {
    for (int i = 0; i < 5000 && !bk_bus_is_idle(model.bus); i++)
        support_loop_run_for(model.kernel.loop, 1);
    assert_true(bk_bus_is_idle(model.bus));
}

/* --- the model of a reader -------------------------------------------------------------------- */

static bool asks(const struct model_reader *self, uint64_t sequence) {
    const struct bk_event_fields *fields = &model.events[sequence]->fields;
    const struct bk_position *position = &self->reader.position;
    if (fields->depth >= BK_CAUSE_DEPTH_MAX && !position->sees_cut_chains)
        return false;
    return bk_interest_matches(&position->interest, fields->type, fields->subject);
}

/* All up to it was acknowledged or not asked for. */
static uint64_t highest_watermark(struct model_reader *self) {
    while (self->base < model.last &&
           (!asks(self, self->base + 1) || self->acknowledged[self->base + 1] != 0))
        self->base++;
    return self->base;
}

/* Stands right behind sequence; what was done behind it counts no more. */
static void stand(struct model_reader *self, uint64_t sequence) {
    self->cursor = self->base = self->watermark = sequence;
    self->taken_count = 0;
    memset(self->acknowledged + sequence + 1, 0, EVENTS_MAX - sequence - 1);
}

static void take(struct model_reader *self, uint64_t sequence) {
    assert_true(self->taken_count < TAKEN_MAX);
    self->taken[self->taken_count++] = sequence;
}

static void acknowledge_one(struct model_reader *self) {
    if (self->taken_count == 0)
        return;
    size_t index = random_below((uint32_t)self->taken_count);
    uint64_t sequence = self->taken[index];
    self->taken[index] = self->taken[--self->taken_count];
    self->acknowledged[sequence] = 1;
    bk_position_acknowledge(&self->reader.position, sequence);
}

/* What fails and what stands behind it comes again; now and then one of those is done after all. */
static void forget_from(struct model_reader *self, uint64_t sequence) {
    size_t kept = 0;
    if (sequence - 1 < self->cursor)
        self->cursor = sequence - 1;
    for (size_t i = 0; i < self->taken_count; i++) {
        if (self->taken[i] < sequence)
            self->taken[kept++] = self->taken[i];
        else if (happens(20)) {
            self->acknowledged[self->taken[i]] = 1;
            bk_position_acknowledge(&self->reader.position, self->taken[i]);
        }
    }
    self->taken_count = kept;
}

static void fail_one(struct model_reader *self) {
    if (self->taken_count == 0)
        return;
    uint64_t sequence = self->taken[random_below((uint32_t)self->taken_count)];
    bk_position_fail(&self->reader.position, sequence);
    forget_from(self, sequence);
}

static bool is_open(const struct model_reader *self) {
    return self->reader.position.own != NULL && self->reader.is_opened;
}

static void check_facts(struct model_reader *self) {
    if (!is_open(self))
        return;
    struct bk_position_facts facts = bk_position_facts(&self->reader.position);
    assert_true(facts.handed <= self->reader.position.window);
    assert_true(facts.handed >= self->taken_count);
    assert_true(facts.acknowledged >= self->watermark);
    assert_true(facts.acknowledged <= highest_watermark(self));
    self->watermark = facts.acknowledged;
    if (!self->is_sought)
        assert_true(self->reader.position.own->stored <= highest_watermark(self));
}

static void close_reader(struct model_reader *self) {
    if (!is_open(self))
        return;
    check_facts(self);
    self->done = highest_watermark(self);
    self->lowest = self->highest = bk_position_facts(&self->reader.position).acknowledged;
    bk_position_close(&self->reader.position);
    stand(self, self->lowest);
}

static void on_opened(struct support_reader *reader) {
    struct model_reader *self = bk_container_of(reader, struct model_reader, reader);
    uint64_t watermark = bk_position_facts(&reader->position).acknowledged;
    assert_int_equal(reader->status, BK_OK);
    assert_true(watermark >= self->lowest);
    assert_true(self->is_sought || reader->position.own->stored <= self->done);
    /* One that is live has passed what it did not ask for. */
    stand(self, self->highest < watermark ? self->highest : watermark);
    assert_true(watermark <= highest_watermark(self));
}

static void seek_reader(struct model_reader *self, uint64_t sequence) {
    char cursor[BK_CURSOR_BYTES];
    if (!is_open(self) || !self->is_sought)
        return;
    struct bk_journal_state journal = bk_journal_state(model.kernel.tenant->database);
    if (sequence > journal.last)
        sequence = journal.last;
    bk_cursor_make(cursor, journal.epoch, sequence);
    assert_int_equal(
        bk_position_seek(&self->reader.position, bk_slice_make(cursor, sizeof cursor), NULL),
        BK_OK);
    stand(self, sequence);
}

/* --- being called ----------------------------------------------------------------------------- */

static void act_on_another(void) {
    struct model_reader *other = model.readers[random_below(READERS)];
    if (!is_open(other))
        return;
    switch (random_below(6)) {
    case 0:
        close_reader(other);
        return;
    case 1:
        seek_reader(other, random_below((uint32_t)model.last + 1));
        return;
    case 2:
        fail_one(other);
        return;
    default:
        acknowledge_one(other);
        return;
    }
}

static void check_order(struct model_reader *self, uint64_t sequence) {
    assert_true(asks(self, sequence));
    assert_true(sequence <= model.dispatched);
    assert_int_equal(self->acknowledged[sequence], 0);
    assert_true(sequence > self->cursor);
    for (uint64_t between = self->cursor + 1; between < sequence; between++)
        assert_true(!asks(self, between) || self->acknowledged[between] != 0);
}

static enum bk_handed on_event(struct support_reader *reader, struct bk_event *event) {
    struct model_reader *self = bk_container_of(reader, struct model_reader, reader);
    uint64_t sequence = event->fields.sequence;
    reader->seen_count = 0; /* the model remembers */
    assert_true(bk_slice_equal(event->json, model.events[sequence]->json));
    check_order(self, sequence);
    self->cursor = sequence;
    uint32_t dice = model.is_draining ? 0 : random_below(100);
    if (dice >= 97) {
        bk_position_fail(&reader->position, sequence);
        forget_from(self, sequence);
        return happens(50) ? BK_HANDED_FAILED : BK_HANDED_TAKEN;
    }
    if (dice >= 94) {
        forget_from(self, sequence);
        return BK_HANDED_FAILED;
    }
    if (dice >= 50) {
        take(self, sequence);
        if (happens(5))
            act_on_another();
        return BK_HANDED_TAKEN;
    }
    self->acknowledged[sequence] = 1;
    if (dice >= 45)
        act_on_another();
    return BK_HANDED_DONE;
}

/* --- what happens ----------------------------------------------------------------------------- */

static void emit_some(void) {
    struct bk_origin origin = {.actor = BK_SLICE("system"),
                               .depth = happens(10) ? BK_CAUSE_DEPTH_MAX : 0};
    struct bk_event_draft draft = {.type = types[random_below(BK_COUNT_OF(types))],
                                   .subject = subjects[random_below(BK_COUNT_OF(subjects))],
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE("{\"text\":\"grüße\",\"n\":12.50}")};
    uint32_t count = 1 + random_below(happens(5) ? 400 : 12);
    assert_int_equal(support_kernel_emit(&model.kernel, model.kernel.tenant, &draft, count,
                                         happens(30) ? &origin : NULL),
                     BK_OK);
}

static void restart_kernel(void) {
    support_kernel_close(&model.kernel);
    destroy_feed();
    support_kernel_restart(&model.kernel);
    create_feed();
    support_kernel_open(&model.kernel);
}

static void open_all(void) {
    for (size_t i = 0; i < READERS; i++)
        if (model.readers[i]->reader.position.own == NULL)
            support_reader_open(model.feed, model.kernel.tenant, &model.readers[i]->reader,
                                model.readers[i]->name);
    for (size_t i = 0; i < READERS; i++)
        support_loop_run_until(model.kernel.loop, &model.readers[i]->reader.is_opened);
}

/* Each goes on exactly where it was closed. */
static void restart(void) {
    run_until_idle();
    for (size_t i = 0; i < READERS; i++)
        close_reader(model.readers[i]);
    bk_feed_flush(model.feed);
    restart_kernel();
    open_all();
}

/* What a crash leaves: the row, where no write is in flight. */
static void note_stored(struct model_reader *self) {
    struct feed_positions *all = feed_positions_of(model.feed, model.kernel.tenant);
    const struct feed_position *own = bk_map_get(&all->names, bk_slice_from(self->name));
    if (own == NULL)
        return; /* closed and stored */
    if (is_open(self))
        self->done = highest_watermark(self);
    self->lowest = own->is_in_flight ? 0 : own->stored;
    self->highest = own->is_in_flight ? model.last : own->stored;
}

/* Forgets what is not stored; a write that is in flight may arrive. */
static void crash(void) {
    run_until_idle();
    struct feed_positions *all = feed_positions_of(model.feed, model.kernel.tenant);
    for (size_t i = 0; i < READERS; i++)
        note_stored(model.readers[i]);
    BK_LIST_FOR_EACH(node, &all->all) {
        struct feed_position *own = bk_container_of(node, struct feed_position, all_link);
        own->is_dirty = false;
        bk_list_remove(&own->dirty_link);
        own->stored_state = FEED_STORED_UNKNOWN;
        if (own->position != NULL)
            bk_position_close(own->position);
        else
            feed_position_settle(own);
    }
    restart_kernel();
    open_all();
}

static void one_round(void) {
    struct model_reader *self = model.readers[random_below(READERS)];
    uint32_t dice = random_below(100);
    if (dice < 40)
        emit_some();
    else if (dice < 70)
        for (uint32_t count = random_below(20); count > 0; count--)
            acknowledge_one(self);
    else if (dice < 78 && is_open(self))
        fail_one(self);
    else if (dice < 84)
        close_reader(self);
    else if (dice < 88)
        seek_reader(self, random_below((uint32_t)model.last + 1));
    else if (dice < 90)
        restart();
    else if (dice < 92)
        crash();
    else
        support_loop_run_for(model.kernel.loop, random_below(4));
    open_all();
    for (size_t i = 0; i < READERS; i++)
        check_facts(model.readers[i]);
}

/* --- the walk --------------------------------------------------------------------------------- */

static void create_readers(void) {
    static const struct {
        struct bk_slice subject;
        const struct bk_slice *types;
        size_t type_count;
        uint32_t window;
        enum bk_phase phase;
        bool sees_cut_chains;
    } kinds[READERS] = {
        {.window = 1, .phase = BK_PHASE_FUNCTIONS},
        {BK_SLICE_INIT(""), pattern_posts, BK_COUNT_OF(pattern_posts), 4, BK_PHASE_PLUGINS, false},
        {BK_SLICE_INIT(""), pattern_exact, BK_COUNT_OF(pattern_exact), 16, BK_PHASE_FUNCTIONS,
         true},
        {BK_SLICE_INIT(""), pattern_all, BK_COUNT_OF(pattern_all), 64, BK_PHASE_PLUGINS, true},
        {BK_SLICE_INIT("posts/a"), pattern_posts, BK_COUNT_OF(pattern_posts), 2, BK_PHASE_PLUGINS,
         true},
        {BK_SLICE_INIT(""), pattern_all, BK_COUNT_OF(pattern_all), 8, BK_PHASE_FUNCTIONS, false},
    };
    for (size_t i = 0; i < READERS; i++) {
        struct model_reader *self = model.readers[i] = bk_alloc_zero(sizeof *self);
        struct bk_position *position = &self->reader.position;
        (void)snprintf(self->name, sizeof self->name, "model/%zu", i);
        position->interest.types = kinds[i].types;
        position->interest.type_count = kinds[i].type_count;
        position->interest.subject = kinds[i].subject;
        position->window = kinds[i].window;
        position->phase = kinds[i].phase;
        position->sees_cut_chains = kinds[i].sees_cut_chains;
        position->after = BK_SLICE("start");
        self->is_sought = i >= READERS / 2;
        self->reader.on_event = on_event;
        self->reader.on_opened = on_opened;
    }
}

static bool are_all_done(void) {
    for (size_t i = 0; i < READERS; i++) {
        const struct bk_position *position = &model.readers[i]->reader.position;
        struct bk_position_facts facts = bk_position_facts(position);
        if (facts.state != BK_POSITION_LIVE || facts.acknowledged != model.last)
            return false;
    }
    return true;
}

static void drain(void) {
    model.is_draining = true;
    open_all(); /* one may have closed another since */
    for (int round = 0; round < 5000 && !are_all_done(); round++) {
        for (size_t i = 0; i < READERS; i++)
            while (model.readers[i]->taken_count > 0)
                acknowledge_one(model.readers[i]);
        support_loop_run_for(model.kernel.loop, 1);
    }
    assert_true(are_all_done());
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(highest_watermark(model.readers[i]), model.last);
    model.is_draining = false;
}

static void walk(uint64_t seed) {
    memset(&model, 0, sizeof model);
    model.state = seed;
    support_kernel_create(&model.kernel, NULL);
    create_feed();
    support_kernel_open(&model.kernel);
    create_readers();
    open_all();
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        one_round();
        if (round % (ROUNDS / 4) == 0)
            drain();
    }
    for (size_t i = 0; i < READERS; i++)
        support_reader_fini(&model.readers[i]->reader);
    run_until_idle();
    support_kernel_close(&model.kernel);
    destroy_feed();
    support_kernel_destroy(&model.kernel);
    for (size_t i = 0; i < READERS; i++)
        bk_free(model.readers[i]);
    for (uint64_t sequence = 1; sequence <= model.last; sequence++)
        bk_event_unref(model.events[sequence]);
}

/* BAKEND_SEED walks with that seed only. */
static void test_every_event_is_handed_in_order_and_none_is_skipped(void **state) {
    (void)state;
    const char *given = getenv("BAKEND_SEED");
    uint64_t first = given == NULL ? 1 : strtoull(given, NULL, 10);
    for (uint64_t seed = first; seed < first + (given == NULL ? SEEDS : 1); seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        walk(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_is_handed_in_order_and_none_is_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
