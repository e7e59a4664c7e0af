/*
 * The feed on a real store, with a tail so small that the seam between memory and journal lies in
 * the middle of everything. A model holds the type and subject of each event by its sequence;
 * whatever a read gives is compared with what the model says.
 */
#include "bakend/feed.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/id.h"
#include "kernel_fixture.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    MODEL_MAX = 16384,
    TAIL_BYTES = 24 * 1024, /* about forty events */
    LONG_TAIL_BYTES = 16 * 1024 * 1024,
    PAGE_BYTES_MAX = 16 * 1024 * 1024,
    MODEL_ROUNDS = 1500,
};

static const struct bk_slice types[] = {
    BK_SLICE_INIT("posts.created"), BK_SLICE_INIT("posts.updated"), BK_SLICE_INIT("users.created"),
    BK_SLICE_INIT("auth.login"), BK_SLICE_INIT("_webhooks.updated")};
static const struct bk_slice subjects[] = {BK_SLICE_INIT("posts/a"), BK_SLICE_INIT("posts/b"),
                                           BK_SLICE_INIT("users/\"q\"")};

static struct {
    struct support_kernel kernel;
    struct bk_bus *bus;
    struct bk_feed *feed;
    struct bk_buffer page;
    uint8_t type_of[MODEL_MAX], subject_of[MODEL_MAX]; /* by sequence */
    uint64_t last;
} fixture;

static void open_with_tail(const struct bk_store_options *options, size_t tail_bytes) {
    support_kernel_create(&fixture.kernel, options);
    fixture.bus = bk_bus_create(fixture.kernel.loop, fixture.kernel.store, (struct bk_log){0});
    fixture.feed = bk_feed_create(fixture.kernel.loop, fixture.bus, fixture.kernel.tenants,
                                  (struct bk_log){0}, tail_bytes);
    support_kernel_open(&fixture.kernel);
    bk_buffer_init(&fixture.page, PAGE_BYTES_MAX);
    fixture.last = 0;
}

static int setup(void **state) {
    (void)state;
    srand(7);
    open_with_tail(NULL, TAIL_BYTES);
    return 0;
}

static void run_until_idle(void) {
    for (int i = 0; i < 1000 && !bk_bus_is_idle(fixture.bus); i++)
        support_loop_run_for(fixture.kernel.loop, 1);
    assert_true(bk_bus_is_idle(fixture.bus));
}

static int teardown(void **state) {
    (void)state;
    run_until_idle();
    bk_buffer_fini(&fixture.page);
    support_kernel_close(&fixture.kernel);
    bk_feed_destroy(fixture.feed);
    bk_bus_destroy(fixture.bus);
    support_kernel_destroy(&fixture.kernel);
    support_clock_reset();
    return 0;
}

#define EVENT_PAYLOAD "{\"text\":\"grüße\",\"n\":12.50}"
enum { EVENT_PAYLOAD_BYTES = sizeof EVENT_PAYLOAD - 1 };

/* --- writing ---------------------------------------------------------------------------------- */

static void emit(uint8_t type, uint8_t subject, uint32_t count) {
    struct bk_event_draft draft = {.type = types[type],
                                   .subject = subjects[subject],
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE(EVENT_PAYLOAD)};
    assert_int_equal(
        support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, count, NULL), BK_OK);
    for (uint32_t i = 0; i < count; i++) {
        fixture.last++;
        assert_true(fixture.last < MODEL_MAX);
        fixture.type_of[fixture.last] = type;
        fixture.subject_of[fixture.last] = subject;
    }
}

static uint32_t random_below(uint32_t bound) { return (uint32_t)rand() % bound; }

static void emit_some(uint32_t commit_count) {
    for (uint32_t i = 0; i < commit_count; i++)
        emit((uint8_t)random_below(BK_COUNT_OF(types)),
             (uint8_t)random_below(BK_COUNT_OF(subjects)), 1 + random_below(5));
}

/* --- reading ---------------------------------------------------------------------------------- */

struct waiting_read {
    struct bk_feed_read read;
    bool is_done;
    enum bk_status status;
};

static void on_done(struct bk_feed_read *read, enum bk_status status) {
    struct waiting_read *waiting = bk_container_of(read, struct waiting_read, read);
    assert_false(waiting->is_done);
    waiting->is_done = true;
    waiting->status = status;
}

static void begin_read(struct waiting_read *waiting) {
    waiting->read.tenant = fixture.kernel.tenant;
    waiting->read.events = &fixture.page;
    waiting->read.done = on_done;
    waiting->is_done = false;
    if (waiting->read.query.limit == 0)
        waiting->read.query.limit = 100;
    bk_buffer_clear(&fixture.page);
}

static enum bk_status run_read(struct waiting_read *waiting) {
    begin_read(waiting);
    bk_feed_read(fixture.feed, &waiting->read);
    assert_false(waiting->is_done);
    support_loop_run_until(fixture.kernel.loop, &waiting->is_done);
    return waiting->status;
}

static struct bk_slice cursor_of(char text[BK_CURSOR_BYTES], uint64_t sequence) {
    struct bk_journal_state journal = bk_journal_state(fixture.kernel.tenant->database);
    bk_cursor_make(text, journal.epoch, sequence);
    return bk_slice_make(text, BK_CURSOR_BYTES);
}

/* The sequences of the events on the page, in their order. */
static size_t page_sequences(uint64_t *out, size_t out_max) {
    static const char key[] = "\"sequence\":";
    size_t count = 0;
    bk_buffer_append_char(&fixture.page, '\0');
    for (const char *at = strstr(fixture.page.data, key); at != NULL; at = strstr(at + 1, key)) {
        assert_true(count < out_max);
        out[count++] = strtoull(at + sizeof key - 1, NULL, 10);
    }
    fixture.page.length--;
    return count;
}

/* --- the model -------------------------------------------------------------------------------- */

static bool model_matches(const struct bk_feed_query *query, uint64_t sequence) {
    struct bk_slice type = types[fixture.type_of[sequence]];
    if (query->subject.length > 0 &&
        !bk_slice_equal(query->subject, subjects[fixture.subject_of[sequence]]))
        return false;
    if (query->type_count == 0)
        return bk_event_pattern_matches(BK_SLICE("*"), type);
    for (size_t i = 0; i < query->type_count; i++) {
        if (bk_event_pattern_matches(query->types[i], type))
            return true;
    }
    return false;
}

/* Checks a page against the model, for a read from a position in a journal of
 * oldest..fixture.last. */
static void check_page(const struct bk_feed_read *read, uint64_t position, uint64_t oldest) {
    static uint64_t found[BK_FEED_LIMIT_MAX];
    bool is_descending = read->query.is_descending;
    size_t count = page_sequences(found, BK_COUNT_OF(found));
    uint64_t looked_at = 0, matched = 0;
    uint64_t sequence = is_descending ? position : position + 1;
    while (is_descending ? sequence >= oldest : sequence <= fixture.last) {
        if (looked_at == BK_FEED_SCAN_MAX || matched == read->query.limit)
            break;
        looked_at++;
        if (model_matches(&read->query, sequence)) {
            assert_true(matched < count);
            assert_int_equal(found[matched], sequence);
            matched++;
        }
        sequence = is_descending ? sequence - 1 : sequence + 1;
    }
    assert_int_equal(count, matched);
    assert_int_equal(read->event_count, matched);
    assert_int_equal(read->skipped, looked_at - matched);
    assert_int_equal(read->last_sequence - read->first_sequence + 1, looked_at);
    if (is_descending) {
        assert_int_equal(read->last_sequence, position);
        assert_int_equal(read->next_sequence, position - looked_at);
        assert_int_equal(read->has_more, read->next_sequence >= oldest);
    } else {
        assert_int_equal(read->first_sequence, position + 1);
        assert_int_equal(read->next_sequence, position + looked_at);
        assert_int_equal(read->has_more, read->next_sequence < fixture.last);
    }
}

static void choose_filter(struct bk_feed_query *query, struct bk_slice *patterns) {
    static const struct bk_slice choices[] = {BK_SLICE_INIT("posts.created"),
                                              BK_SLICE_INIT("posts.*"),
                                              BK_SLICE_INIT("*.created"),
                                              BK_SLICE_INIT("*"),
                                              BK_SLICE_INIT("_*"),
                                              BK_SLICE_INIT("auth.login"),
                                              BK_SLICE_INIT("nothing.here"),
                                              BK_SLICE_INIT("users.created")};
    query->types = patterns;
    query->type_count = random_below(4);
    for (size_t i = 0; i < query->type_count; i++)
        patterns[i] = choices[random_below(BK_COUNT_OF(choices))];
    query->subject = BK_SLICE_EMPTY;
    if (random_below(3) == 0)
        query->subject = subjects[random_below(BK_COUNT_OF(subjects))];
}

/* --- cursors ---------------------------------------------------------------------------------- */

static void test_a_cursor_reads_back_as_what_it_was_made_from(void **state) {
    (void)state;
    static const uint64_t sequences[] = {0, 1, 255, 256, UINT64_C(1) << 47, UINT64_MAX};
    const uint8_t epoch[8] = {1, 2, 3, 4, 0xFF, 6, 7, 8};
    for (size_t i = 0; i < BK_COUNT_OF(sequences); i++) {
        char text[BK_CURSOR_BYTES];
        uint8_t epoch_read[8];
        uint64_t sequence;
        bk_cursor_make(text, epoch, sequences[i]);
        assert_true(bk_cursor_parse(bk_slice_make(text, sizeof text), epoch_read, &sequence));
        assert_memory_equal(epoch, epoch_read, sizeof epoch);
        assert_true(sequence == sequences[i]);
    }
}

static void test_a_mangled_cursor_is_none(void **state) {
    (void)state;
    const uint8_t epoch[8] = {9};
    char text[BK_CURSOR_BYTES];
    uint8_t epoch_read[8];
    uint64_t sequence;
    bk_cursor_make(text, epoch, 12345);
    for (size_t i = 0; i < sizeof text; i++) {
        char kept = text[i];
        text[i] = kept == 'A' ? 'B' : 'A';
        assert_false(bk_cursor_parse(bk_slice_make(text, sizeof text), epoch_read, &sequence));
        text[i] = kept;
    }
    assert_true(bk_cursor_parse(bk_slice_make(text, sizeof text), epoch_read, &sequence));
    assert_false(bk_cursor_parse(bk_slice_make(text, sizeof text - 1), epoch_read, &sequence));
    assert_false(bk_cursor_parse(BK_SLICE(""), epoch_read, &sequence));
    assert_false(bk_cursor_parse(BK_SLICE("start"), epoch_read, &sequence));
}

/* --- pages ------------------------------------------------------------------------------------ */

static void test_an_empty_journal_gives_empty_pages_both_ways(void **state) {
    (void)state;
    static const char *const places[] = {"", "start", "now", "2026-01-01T00:00:00Z"};
    for (size_t i = 0; i < 2 * BK_COUNT_OF(places); i++) {
        struct waiting_read waiting = {
            .read.query = {.after = bk_slice_from(places[i / 2]), .is_descending = i % 2 == 1}};
        assert_int_equal(run_read(&waiting), BK_OK);
        assert_int_equal(waiting.read.event_count, 0);
        assert_int_equal(waiting.read.skipped, 0);
        assert_int_equal(waiting.read.first_sequence, waiting.read.last_sequence + 1);
        assert_int_equal(waiting.read.next_sequence, 0);
        assert_false(waiting.read.has_more);
    }
}

static void test_random_pages_are_those_of_the_model(void **state) {
    (void)state;
    struct bk_slice patterns[4];
    char cursor[BK_CURSOR_BYTES];
    emit_some(200);
    for (int round = 0; round < MODEL_ROUNDS; round++) {
        struct waiting_read waiting = {0};
        struct bk_feed_query *query = &waiting.read.query;
        if (random_below(4) == 0)
            emit_some(1);
        uint64_t position = random_below((uint32_t)fixture.last + 1);
        if (random_below(2) == 0 && fixture.last > 80) /* near the seam */
            position = fixture.last - random_below(80);
        choose_filter(query, patterns);
        query->is_descending = random_below(2) == 0;
        query->limit = 1 + random_below(random_below(2) == 0 ? 5 : BK_FEED_LIMIT_MAX);
        query->after = cursor_of(cursor, position);
        assert_int_equal(run_read(&waiting), BK_OK);
        check_page(&waiting.read, position, 1);
    }
    struct bk_feed_figures figures = bk_feed_figures(fixture.feed);
    assert_true(figures.tail_reads > MODEL_ROUNDS / 20);
    assert_true(figures.journal_reads > MODEL_ROUNDS / 20);
    assert_true(figures.tail_events > 10 && figures.tail_events < fixture.last / 2);
    assert_true(figures.tail_bytes <= TAIL_BYTES);
}

static void test_words_stand_for_the_ends(void **state) {
    (void)state;
    emit_some(100);
    const struct {
        const char *after;
        bool is_descending;
        uint64_t position;
    } cases[] = {{"", false, 0},         {"start", false, 0},       {"now", false, UINT64_MAX},
                 {"", true, UINT64_MAX}, {"now", true, UINT64_MAX}, {"start", true, 0}};
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        struct waiting_read waiting = {.read.query = {.after = bk_slice_from(cases[i].after),
                                                      .is_descending = cases[i].is_descending,
                                                      .limit = 10}};
        assert_int_equal(run_read(&waiting), BK_OK);
        check_page(&waiting.read,
                   cases[i].position == UINT64_MAX ? fixture.last : cases[i].position, 1);
    }
}

/* Pages on from next until there is no more, with commits in between, and counts what matched. */
static void walk_all(bool is_descending, uint64_t begin) {
    struct bk_slice patterns[4];
    struct bk_feed_query filter = {0};
    char cursor[BK_CURSOR_BYTES];
    uint64_t position = begin;
    uint64_t matched = 0, expected = 0;
    bool has_more = true;
    choose_filter(&filter, patterns);
    while (has_more) {
        struct waiting_read waiting = {.read.query = filter};
        waiting.read.query.is_descending = is_descending;
        waiting.read.query.limit = 1 + random_below(60);
        waiting.read.query.after = cursor_of(cursor, position);
        assert_int_equal(run_read(&waiting), BK_OK);
        check_page(&waiting.read, position, 1);
        matched += waiting.read.event_count;
        position = waiting.read.next_sequence;
        has_more = waiting.read.has_more;
        if (fixture.last < begin + 400 && random_below(4) == 0)
            emit_some(1);
    }
    uint64_t low = is_descending ? 1 : begin + 1;
    uint64_t high = is_descending ? begin : fixture.last;
    filter.is_descending = is_descending;
    if (!is_descending && position < fixture.last)
        high = position;
    for (uint64_t sequence = low; sequence <= high; sequence++)
        expected += model_matches(&filter, sequence) ? 1 : 0;
    assert_int_equal(matched, expected);
}

static void test_following_next_neither_skips_nor_repeats(void **state) {
    (void)state;
    emit_some(150);
    for (int round = 0; round < 20; round++) {
        walk_all(false, 0);
        walk_all(true, fixture.last);
    }
}

static void test_memory_and_journal_hold_the_same_bytes(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES];
    emit(0, 2, 1);
    struct waiting_read waiting = {.read.query = {.after = cursor_of(cursor, 0), .limit = 1}};
    assert_int_equal(run_read(&waiting), BK_OK);
    assert_int_equal(bk_feed_figures(fixture.feed).journal_reads, 0);
    struct bk_buffer from_memory;
    bk_buffer_init(&from_memory, PAGE_BYTES_MAX);
    bk_buffer_append_slice(&from_memory, bk_buffer_slice(&fixture.page));
    emit_some(200); /* drives it out of the tail */
    assert_int_equal(run_read(&waiting), BK_OK);
    assert_int_equal(bk_feed_figures(fixture.feed).journal_reads, 1);
    assert_int_equal(from_memory.length, fixture.page.length);
    assert_memory_equal(from_memory.data, fixture.page.data, from_memory.length);
    bk_buffer_fini(&from_memory);
}

static void test_one_page_looks_at_no_more_than_the_scan_limit(void **state) {
    (void)state;
    static const struct bk_slice pattern[] = {BK_SLICE_INIT("nothing.here")};
    for (int i = 0; i < 15; i++)
        emit(0, 0, 800);
    for (int i = 0; i < 2; i++) {
        struct waiting_read waiting = {
            .read.query = {.types = pattern, .type_count = 1, .is_descending = i == 1}};
        assert_int_equal(run_read(&waiting), BK_OK);
        assert_int_equal(waiting.read.skipped, BK_FEED_SCAN_MAX);
        assert_int_equal(waiting.read.event_count, 0);
        assert_true(waiting.read.has_more);
        check_page(&waiting.read, i == 1 ? fixture.last : 0, 1);
    }
}

static void test_a_long_look_keeps_nobody_waiting(void **state) {
    (void)state;
    static const struct bk_slice pattern[] = {BK_SLICE_INIT("nothing.here")};
    char cursor[BK_CURSOR_BYTES];
    for (int i = 0; i < 5; i++)
        emit(0, 0, 800);
    struct waiting_read look = {.read.query = {.types = pattern, .type_count = 1}};
    struct waiting_read other = look;
    begin_read(&look);
    begin_read(&other);
    other.read.query.after = cursor_of(cursor, fixture.last - 1);
    bk_feed_read(fixture.feed, &look.read);
    bk_feed_read(fixture.feed, &other.read);
    support_loop_run_until(fixture.kernel.loop, &other.is_done);
    assert_false(look.is_done);
    support_loop_run_until(fixture.kernel.loop, &look.is_done);
    assert_int_equal(look.read.skipped, fixture.last);
    assert_int_equal(bk_feed_figures(fixture.feed).journal_reads, 0);
}

static void test_what_the_buffer_does_not_take_is_left_to_the_next_page(void **state) {
    (void)state;
    struct waiting_read waiting = {.read.query = {.limit = 100}};
    emit(0, 0, 100);
    bk_buffer_fini(&fixture.page);
    bk_buffer_init(&fixture.page, BK_FEED_PAGE_MARGIN_BYTES + 8 * 1024);
    assert_int_equal(run_read(&waiting), BK_OK);
    assert_true(waiting.read.event_count > 0 && waiting.read.event_count < 100);
    assert_true(waiting.read.has_more);
    assert_false(fixture.page.is_overflown);
    assert_int_equal(waiting.read.last_sequence - waiting.read.first_sequence + 1,
                     waiting.read.event_count + waiting.read.skipped);
    bk_buffer_fini(&fixture.page);
    bk_buffer_init(&fixture.page, BK_FEED_PAGE_MARGIN_BYTES + 100);
    assert_int_equal(run_read(&waiting), BK_TOO_LARGE);
    waiting.read.query.is_descending = true;
    assert_int_equal(run_read(&waiting), BK_TOO_LARGE);
}

static void test_a_read_beside_commits_ends_at_the_head_it_began_with(void **state) {
    (void)state;
    emit_some(100);
    for (int round = 0; round < 50; round++) {
        struct waiting_read waiting = {.read.query = {.limit = BK_FEED_LIMIT_MAX}};
        uint64_t head = fixture.last;
        begin_read(&waiting);
        bk_feed_read(fixture.feed, &waiting.read);
        emit_some(2);
        support_loop_run_until(fixture.kernel.loop, &waiting.is_done);
        assert_int_equal(waiting.status, BK_OK);
        assert_int_equal(waiting.read.first_sequence, 1);
        assert_true(waiting.read.last_sequence >= head);
        assert_int_equal(waiting.read.last_sequence,
                         waiting.read.event_count + waiting.read.skipped);
    }
}

/* --- problems --------------------------------------------------------------------------------- */

static void test_a_cursor_that_cannot_be_followed_says_why(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES];
    const uint8_t other_epoch[8] = {0};
    emit_some(3);
    for (int i = 0; i < 2; i++) {
        struct waiting_read waiting = {.read.query = {.is_descending = i == 1}};
        waiting.read.query.after = BK_SLICE("yesterday");
        assert_int_equal(run_read(&waiting), BK_INVALID);
        assert_int_equal(waiting.read.problem, BK_FEED_CURSOR_INVALID);
        waiting.read.query.after = cursor_of(cursor, fixture.last + 1);
        assert_int_equal(run_read(&waiting), BK_INVALID);
        assert_int_equal(waiting.read.problem, BK_FEED_CURSOR_IN_FUTURE);
        bk_cursor_make(cursor, other_epoch, 1);
        assert_int_equal(run_read(&waiting), BK_CONFLICT);
        assert_int_equal(waiting.read.problem, BK_FEED_CURSOR_EPOCH_CHANGED);
        waiting.read.query.after = cursor_of(cursor, fixture.last);
        assert_int_equal(run_read(&waiting), BK_OK);
        assert_int_equal(waiting.read.problem, BK_FEED_NO_PROBLEM);
    }
}

static bool is_pruned_to(uint64_t oldest) {
    return bk_journal_state(fixture.kernel.tenant->database).oldest >= oldest;
}

static void test_a_cursor_whose_next_event_was_pruned_has_expired(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES];
    emit_some(60);
    uint64_t old_last = fixture.last;
    support_clock_advance(120 * 1000);
    emit_some(20);
    for (int i = 0; i < 500 && !is_pruned_to(old_last + 1); i++)
        support_loop_run_for(fixture.kernel.loop, 5);
    struct bk_journal_state journal = bk_journal_state(fixture.kernel.tenant->database);
    assert_int_equal(journal.oldest, old_last + 1);
    struct waiting_read waiting = {.read.query = {.after = cursor_of(cursor, old_last - 1)}};
    assert_int_equal(run_read(&waiting), BK_GONE);
    assert_int_equal(waiting.read.problem, BK_FEED_CURSOR_EXPIRED);
    cursor_of(cursor, old_last);
    assert_int_equal(run_read(&waiting), BK_OK);
    check_page(&waiting.read, old_last, journal.oldest);
    waiting.read.query.after = BK_SLICE("start");
    assert_int_equal(run_read(&waiting), BK_OK);
    check_page(&waiting.read, old_last, journal.oldest);
    waiting.read.query = (struct bk_feed_query){.is_descending = true, .limit = 1000};
    assert_int_equal(run_read(&waiting), BK_OK);
    check_page(&waiting.read, fixture.last, journal.oldest);
    assert_int_equal(waiting.read.first_sequence, journal.oldest);
}

/* --- other forms ------------------------------------------------------------------------------ */

static void write_line(struct bk_feed_read *read, struct bk_buffer *out,
                       const struct bk_event_fields *fields, struct bk_slice json, bool is_first) {
    assert_ptr_equal(read->user, &fixture);
    if (!is_first)
        bk_buffer_append_literal(out, "\n");
    bk_buffer_append_literal(out, "- ");
    if (json.length > 0)
        bk_buffer_append_slice(out, json);
    else
        bk_event_write_json(out, fields);
}

static void test_a_page_is_written_in_the_readers_own_way_from_both_sources(void **state) {
    (void)state;
    emit_some(200);
    uint64_t positions[] = {0, fixture.last - 5};
    for (size_t i = 0; i < BK_COUNT_OF(positions); i++) {
        char cursor[BK_CURSOR_BYTES];
        struct waiting_read waiting = {.read = {.query = {.limit = 50},
                                                .write_event = write_line,
                                                .write_bytes_max = 3,
                                                .user = &fixture}};
        waiting.read.query.after = cursor_of(cursor, positions[i]);
        assert_int_equal(run_read(&waiting), BK_OK);
        check_page(&waiting.read, positions[i], 1);
        uint32_t lines = 0;
        struct bk_slice rest = bk_buffer_slice(&fixture.page), line;
        while (bk_slice_split(&rest, '\n', &line))
            lines += bk_slice_starts_with(line, BK_SLICE("- {\"id\":"));
        assert_int_equal(lines, waiting.read.event_count);
    }
}

static void test_places_are_resolved_without_a_read(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES];
    uint64_t sequence = 99;
    enum bk_feed_problem problem;
    struct bk_tenant *tenant = fixture.kernel.tenant;
    emit_some(10);
    assert_int_equal(bk_feed_resolve(tenant, BK_SLICE("start"), &sequence, &problem), BK_OK);
    assert_int_equal(sequence, 0);
    assert_int_equal(bk_feed_resolve(tenant, BK_SLICE("now"), &sequence, &problem), BK_OK);
    assert_int_equal(sequence, fixture.last);
    assert_int_equal(bk_feed_resolve(tenant, cursor_of(cursor, 5), &sequence, &problem), BK_OK);
    assert_int_equal(sequence, 5);
    assert_int_equal(
        bk_feed_resolve(tenant, cursor_of(cursor, fixture.last + 1), &sequence, &problem),
        BK_INVALID);
    assert_int_equal(problem, BK_FEED_CURSOR_IN_FUTURE);
    assert_int_equal(bk_feed_resolve(tenant, BK_SLICE("2026-01-01T00:00:00Z"), &sequence, &problem),
                     BK_NOT_SUPPORTED);
    assert_int_equal(bk_feed_resolve(tenant, BK_SLICE("nowhere"), &sequence, &problem), BK_INVALID);
    assert_int_equal(problem, BK_FEED_CURSOR_INVALID);
}

/* --- time ------------------------------------------------------------------------------------- */

static void test_a_time_is_the_place_before_the_first_event_not_older(void **state) {
    (void)state;
    static const int64_t start_ms = INT64_C(1767225600000); /* 2026-01-01 */
    uint64_t first_of_hour[6];
    support_clock_set(start_ms);
    for (int hour = 0; hour < 6; hour++) {
        support_clock_set(start_ms + hour * INT64_C(3600000));
        first_of_hour[hour] = fixture.last + 1;
        emit_some(15);
    }
    for (int i = 0; i < 12; i++) {
        char after[32];
        snprintf(after, sizeof after, "2026-01-01T%02d:00:00Z", i / 2);
        struct waiting_read waiting = {
            .read.query = {.after = bk_slice_from(after), .limit = 7, .is_descending = i % 2 == 1}};
        assert_int_equal(run_read(&waiting), BK_OK);
        check_page(&waiting.read, first_of_hour[i / 2] - 1, 1);
    }
    struct waiting_read future = {.read.query = {.after = BK_SLICE("2030-01-01T00:00:00Z")}};
    assert_int_equal(run_read(&future), BK_OK);
    check_page(&future.read, fixture.last, 1);
    struct waiting_read past = {.read.query = {.after = BK_SLICE("2020-01-01")}};
    assert_int_equal(run_read(&past), BK_OK);
    check_page(&past.read, 0, 1);
}

/* --- one event -------------------------------------------------------------------------------- */

static struct bk_slice id_on_page(void) {
    static const char prefix[] = "{\"id\":\"";
    assert_memory_equal(fixture.page.data, prefix, sizeof prefix - 1);
    return bk_slice_make(fixture.page.data + sizeof prefix - 1, BK_EVENT_ID_BYTES);
}

static enum bk_status run_get(struct waiting_read *waiting, struct bk_slice id) {
    begin_read(waiting);
    waiting->read.query.after = id;
    bk_feed_get(fixture.feed, &waiting->read);
    support_loop_run_until(fixture.kernel.loop, &waiting->is_done);
    return waiting->status;
}

static void test_an_event_is_found_by_its_id_in_memory_and_in_the_journal(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES];
    char id[BK_EVENT_ID_BYTES];
    emit(0, 0, 300);
    const uint64_t sequences[] = {1, 2, 150, 299, 300};
    for (size_t i = 0; i < BK_COUNT_OF(sequences); i++) {
        struct waiting_read waiting = {
            .read.query = {.after = cursor_of(cursor, sequences[i] - 1), .limit = 1}};
        assert_int_equal(run_read(&waiting), BK_OK);
        memcpy(id, id_on_page().data, sizeof id);
        assert_int_equal(run_get(&waiting, bk_slice_make(id, sizeof id)), BK_OK);
        uint64_t found;
        assert_int_equal(page_sequences(&found, 1), 1);
        assert_int_equal(found, sequences[i]);
        id[sizeof id - 1] = id[sizeof id - 1] == '0' ? '1' : '0'; /* another random part */
        assert_int_equal(run_get(&waiting, bk_slice_make(id, sizeof id)), BK_NOT_FOUND);
        assert_int_equal(fixture.page.length, 0);
    }
}

static void test_an_id_that_never_was_is_not_found(void **state) {
    (void)state;
    struct waiting_read waiting = {0};
    char id[BK_EVENT_ID_BYTES];
    emit(0, 0, 3);
    assert_int_equal(run_get(&waiting, BK_SLICE("evt_123")), BK_NOT_FOUND);
    bk_event_id_make(id, bk_clock_wall_ms(), 0, 7);
    assert_int_equal(run_get(&waiting, bk_slice_make(id, sizeof id)), BK_NOT_FOUND);
    bk_event_id_make(id, bk_clock_wall_ms(), 4, 7);
    assert_int_equal(run_get(&waiting, bk_slice_make(id, sizeof id)), BK_NOT_FOUND);
}

/* --- tenants ---------------------------------------------------------------------------------- */

static void test_tenants_have_number_lines_of_their_own(void **state) {
    (void)state;
    emit_some(10);
    struct bk_tenant *first = fixture.kernel.tenant;
    uint64_t first_last = fixture.last;
    fixture.kernel.tenant = support_kernel_hold(&fixture.kernel, BK_SLICE("second"));
    fixture.last = 0;
    emit(1, 1, 3);
    struct waiting_read waiting = {0};
    assert_int_equal(run_read(&waiting), BK_OK);
    check_page(&waiting.read, 0, 1);
    run_until_idle();
    bk_tenant_release(fixture.kernel.tenant);
    fixture.kernel.tenant = first;
    assert_int_equal(bk_journal_state(first->database).last, first_last);
}

/* --- retention -------------------------------------------------------------------------------- */

enum { RETAINED_EVENTS = 100 };

static uint64_t oldest_kept(void) {
    return bk_journal_state(fixture.kernel.tenant->database).oldest;
}

static void test_a_bound_on_bytes_is_kept_while_events_come_and_readers_are_told(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES];
    struct waiting_read waiting = {.read.query.limit = 1000};
    for (int round = 1; round <= 5; round++) {
        emit(0, 0, 3 * RETAINED_EVENTS);
        uint64_t expected = fixture.last - RETAINED_EVENTS + 1;
        for (int i = 0; i < 500 && oldest_kept() < expected; i++)
            support_loop_run_for(fixture.kernel.loop, 10);
        assert_int_equal(oldest_kept(), expected);
        waiting.read.query.after = BK_SLICE("start");
        assert_int_equal(run_read(&waiting), BK_OK);
        assert_int_equal(waiting.read.first_sequence, expected);
        assert_int_equal(waiting.read.last_sequence, fixture.last);
        waiting.read.query.after = cursor_of(cursor, expected - 2);
        assert_int_equal(run_read(&waiting), BK_GONE);
    }
}

static int setup_long_tail(void **state) {
    (void)state;
    open_with_tail(NULL, LONG_TAIL_BYTES);
    return 0;
}

static int setup_bound_on_bytes(void **state) {
    (void)state;
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.retention_ms = 0;
    options.retention_max_bytes = RETAINED_EVENTS * EVENT_PAYLOAD_BYTES;
    options.prune_interval_ms = 20;
    open_with_tail(&options, TAIL_BYTES);
    return 0;
}

static int setup_pruning(void **state) {
    (void)state;
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.retention_ms = 60 * 1000;
    options.prune_interval_ms = 20;
    srand(7);
    open_with_tail(&options, TAIL_BYTES);
    return 0;
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cursor_reads_back_as_what_it_was_made_from),
        cmocka_unit_test(test_a_mangled_cursor_is_none),
        TEST(an_empty_journal_gives_empty_pages_both_ways),
        TEST(random_pages_are_those_of_the_model),
        TEST(words_stand_for_the_ends),
        TEST(following_next_neither_skips_nor_repeats),
        TEST(memory_and_journal_hold_the_same_bytes),
        TEST(one_page_looks_at_no_more_than_the_scan_limit),
        cmocka_unit_test_setup_teardown(test_a_long_look_keeps_nobody_waiting, setup_long_tail,
                                        teardown),
        TEST(what_the_buffer_does_not_take_is_left_to_the_next_page),
        TEST(a_read_beside_commits_ends_at_the_head_it_began_with),
        TEST(a_cursor_that_cannot_be_followed_says_why),
        cmocka_unit_test_setup_teardown(test_a_cursor_whose_next_event_was_pruned_has_expired,
                                        setup_pruning, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_bound_on_bytes_is_kept_while_events_come_and_readers_are_told,
            setup_bound_on_bytes, teardown),
        TEST(a_page_is_written_in_the_readers_own_way_from_both_sources),
        TEST(places_are_resolved_without_a_read),
        TEST(a_time_is_the_place_before_the_first_event_not_older),
        TEST(an_event_is_found_by_its_id_in_memory_and_in_the_journal),
        TEST(an_id_that_never_was_is_not_found),
        TEST(tenants_have_number_lines_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
