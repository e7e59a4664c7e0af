/*
 * Positions on a real store, with a tail so small that a reader that stands back a little is served
 * from the journal. Each promise has its own test; what is stored is in position_store_test.c, and
 * position_model_test.c walks at random.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "position_fixture.h"
#include <stdio.h>

enum { TAIL_BYTES = 24 * 1024 /* about forty events */, RETAINED_BYTES = 4000, MANY = 10000 };

static struct support_feed fixture;

static int setup_with(const struct bk_store_options *options) {
    support_feed_create(&fixture, options, TAIL_BYTES);
    fixture.feed->positions->retry_first_ms = 20;
    fixture.feed->positions->retry_max_ms = 200;
    support_kernel_open(&fixture.kernel);
    return 0;
}

static int setup(void **state) {
    (void)state;
    return setup_with(NULL);
}

static int teardown(void **state) {
    (void)state;
    support_feed_close(&fixture);
    support_feed_destroy(&fixture);
    return 0;
}

static struct feed_positions *positions(void) {
    return feed_positions_of(fixture.feed, fixture.kernel.tenant);
}

static void emit(uint32_t count) { support_feed_emit(&fixture, "posts.created", "posts/a", count); }

static enum bk_status open_reader(struct support_reader *reader, const char *name) {
    return support_reader_open_now(&fixture.kernel, fixture.feed, reader, name);
}

#define RUN_UNTIL(condition) SUPPORT_RUN_UNTIL(&fixture.kernel, condition)

static uint64_t last(void) { return bk_journal_state(fixture.kernel.tenant->database).last; }

/* --- where one begins ------------------------------------------------------------------------- */

static void test_one_begins_behind_now_by_default(void **state) {
    (void)state;
    struct support_reader reader = {0};
    emit(3);
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_LIVE);
    emit(4);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 4, 7);
    assert_int_equal(support_reader_acknowledged(&reader), 7);
    assert_int_equal(bk_position_facts(&reader.position).lag, 0);
    support_reader_fini(&reader);
}

static void test_one_that_begins_at_the_start_catches_up_from_the_journal(void **state) {
    (void)state;
    struct support_reader reader = {.position.after = BK_SLICE_INIT("start")};
    emit(3000);
    support_feed_settle(&fixture);
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_BEHIND);
    RUN_UNTIL(support_reader_state(&reader) == BK_POSITION_LIVE);
    support_reader_assert_saw(&reader, 1, 3000);
    emit(2);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 1, 3002);
    support_reader_fini(&reader);
}

static void test_one_begins_at_a_cursor_or_a_time(void **state) {
    (void)state;
    char cursor[BK_CURSOR_BYTES], time[BK_TIME_TEXT_BYTES];
    emit(10);
    struct bk_journal_state journal = bk_journal_state(fixture.kernel.tenant->database);
    bk_cursor_make(cursor, journal.epoch, 6);
    support_clock_set(bk_clock_wall_ms() + 60000);
    emit(5);
    bk_time_format(time, bk_clock_wall_ms() - 30000, 'T');
    struct support_reader at_cursor = {.position.after = bk_slice_make(cursor, sizeof cursor)};
    struct support_reader at_time = {.position.after = bk_slice_make(time, sizeof time)};
    assert_int_equal(open_reader(&at_cursor, "test/cursor"), BK_OK);
    assert_int_equal(open_reader(&at_time, "test/time"), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&at_cursor) == 15 &&
              support_reader_acknowledged(&at_time) == 15);
    support_reader_assert_saw(&at_cursor, 7, 15);
    support_reader_assert_saw(&at_time, 11, 15);
    support_reader_fini(&at_cursor);
    support_reader_fini(&at_time);
    support_clock_reset();
}

static void test_what_it_cannot_begin_at_is_refused_with_the_problem(void **state) {
    (void)state;
    static const struct bk_slice wrong_pattern = BK_SLICE_INIT("posts..created");
    char cursor[BK_CURSOR_BYTES];
    uint8_t epoch[8] = {1};
    bk_cursor_make(cursor, epoch, 0);
    struct support_reader garbage = {.position.after = BK_SLICE_INIT("garbage")};
    assert_int_equal(open_reader(&garbage, "test/a"), BK_INVALID);
    assert_int_equal(garbage.problem, BK_FEED_CURSOR_INVALID);
    assert_int_equal(support_reader_state(&garbage), BK_POSITION_CLOSED);
    struct support_reader foreign = {.position.after = bk_slice_make(cursor, sizeof cursor)};
    assert_int_equal(open_reader(&foreign, "test/a"), BK_CONFLICT);
    assert_int_equal(foreign.problem, BK_FEED_CURSOR_EPOCH_CHANGED);
    struct support_reader pattern = {
        .position.interest = {.types = &wrong_pattern, .type_count = 1}};
    assert_int_equal(open_reader(&pattern, "test/a"), BK_INVALID);
    assert_int_equal(bk_map_get(&positions()->names, BK_SLICE("test/a")) != NULL, false);
    support_reader_fini(&garbage);
    support_reader_fini(&foreign);
    support_reader_fini(&pattern);
}

static void test_a_name_is_open_once(void **state) {
    (void)state;
    struct support_reader first = {0}, second = {0};
    assert_int_equal(open_reader(&first, "test/a"), BK_OK);
    assert_int_equal(open_reader(&second, "test/a"), BK_EXISTS);
    emit(1);
    support_feed_settle(&fixture);
    assert_int_equal(first.seen_count, 1);
    bk_position_close(&first.position);
    assert_int_equal(open_reader(&second, "test/a"), BK_OK);
    emit(1);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&second, 2, 2);
    support_reader_fini(&first);
    support_reader_fini(&second);
}

/* --- what is handed --------------------------------------------------------------------------- */

static void test_it_is_handed_what_it_asks_for_and_nothing_else(void **state) {
    (void)state;
    static const struct bk_slice types[] = {BK_SLICE_INIT("posts.*"), BK_SLICE_INIT("_jobs.done")};
    struct support_reader reader = {.position.interest = {.types = types,
                                                          .type_count = 2,
                                                          .subject = BK_SLICE_INIT("posts/a")}};
    struct support_reader behind = {
        .position = {.interest = reader.position.interest, .after = BK_SLICE_INIT("start")}};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    support_feed_emit(&fixture, "posts.created", "posts/a", 1);
    support_feed_emit(&fixture, "posts.created", "posts/b", 1);
    support_feed_emit(&fixture, "_jobs.done", "posts/a", 1);
    support_feed_emit(&fixture, "users.created", "posts/a", 1);
    support_feed_settle(&fixture);
    assert_int_equal(reader.seen_count, 2);
    assert_int_equal(reader.seen[1], 3);
    assert_int_equal(support_reader_acknowledged(&reader), 4);
    assert_int_equal(open_reader(&behind, "test/b"), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&behind) == 4);
    assert_int_equal(behind.seen_count, 2);
    support_reader_fini(&reader);
    support_reader_fini(&behind);
}

static void test_a_transient_event_is_never_handed(void **state) {
    (void)state;
    struct support_reader reader = {0};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    struct bk_event_draft draft = {.type = BK_SLICE("posts.seen"), .source = BK_SLICE("test")};
    assert_int_equal(bk_bus_publish(fixture.bus, fixture.kernel.tenant, &draft, NULL), BK_OK);
    emit(1);
    support_feed_settle(&fixture);
    assert_int_equal(reader.seen_count, 1);
    support_reader_fini(&reader);
}

static void test_a_cut_chain_reaches_only_those_that_cause_nothing(void **state) {
    (void)state;
    static const struct bk_slice types[] = {BK_SLICE_INIT("posts.created")};
    const struct bk_interest posts = {.types = types, .type_count = 1};
    struct bk_origin origin = {.actor = BK_SLICE("system"), .depth = BK_CAUSE_DEPTH_MAX};
    struct bk_event_draft draft = {
        .type = types[0], .source = BK_SLICE("test"), .payload = BK_SLICE("{}")};
    struct support_reader causing = {.position = {.interest = posts}};
    struct support_reader relay = {.position = {.interest = posts, .sees_cut_chains = true}};
    struct support_reader late = {.position = {.interest = posts, .after = BK_SLICE("start")}};
    struct support_reader late_relay = {
        .position = {.interest = posts, .after = BK_SLICE("start"), .sees_cut_chains = true}};
    assert_int_equal(open_reader(&relay, "test/relay"), BK_OK);
    support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, 1, &origin);
    support_feed_settle(&fixture);
    assert_int_equal(relay.seen_count, 1);
    assert_int_equal(bk_bus_figures(fixture.bus).chains_cut, 0); /* nobody was kept from it */
    assert_int_equal(open_reader(&causing, "test/causing"), BK_OK);
    support_kernel_emit(&fixture.kernel, fixture.kernel.tenant, &draft, 1, &origin);
    support_feed_settle(&fixture);
    assert_int_equal(relay.seen_count, 2);
    assert_int_equal(causing.seen_count, 0);
    assert_int_equal(support_reader_acknowledged(&causing), last());
    assert_int_equal(bk_bus_figures(fixture.bus).chains_cut, 1);
    assert_int_equal(open_reader(&late, "test/late"), BK_OK);
    assert_int_equal(open_reader(&late_relay, "test/late_relay"), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&late) == last() &&
              support_reader_acknowledged(&late_relay) == last());
    assert_int_equal(late.seen_count, 0);
    assert_int_equal(late_relay.seen_count, 2);
    support_reader_fini(&causing);
    support_reader_fini(&relay);
    support_reader_fini(&late);
    support_reader_fini(&late_relay);
}

/* --- the window ------------------------------------------------------------------------------- */

static void test_a_full_one_gets_no_more_until_it_acknowledges(void **state) {
    (void)state;
    struct support_reader reader = {.position.window = 3, .answer = BK_HANDED_TAKEN};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(10);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 1, 3);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_FULL);
    assert_int_equal(bk_position_facts(&reader.position).handed, 3);
    bk_position_acknowledge(&reader.position, 2);
    assert_int_equal(support_reader_acknowledged(&reader), 0);
    RUN_UNTIL(reader.seen_count == 4);
    bk_position_acknowledge(&reader.position, 1);
    assert_int_equal(support_reader_acknowledged(&reader), 2);
    bk_position_acknowledge(&reader.position, 1);
    bk_position_acknowledge(&reader.position, 9); /* not handed yet: nothing happens */
    RUN_UNTIL(reader.seen_count == 5);
    support_reader_assert_saw(&reader, 1, 5);
    for (uint64_t sequence = 3; sequence <= 10; sequence++) {
        RUN_UNTIL(reader.seen_count >= sequence);
        bk_position_acknowledge(&reader.position, sequence);
    }
    RUN_UNTIL(support_reader_state(&reader) == BK_POSITION_LIVE);
    support_reader_assert_saw(&reader, 1, 10);
    assert_int_equal(support_reader_acknowledged(&reader), 10);
    support_reader_fini(&reader);
}

static void test_its_window_may_shrink_and_grow_while_it_is_open(void **state) {
    (void)state;
    struct support_reader reader = {.position.window = 4, .answer = BK_HANDED_TAKEN};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(3);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 1, 3);
    reader.position.window = 2; /* fewer than it has */
    emit(7);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 1, 3);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_FULL);
    bk_position_acknowledge(&reader.position, 1);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 1, 3);
    reader.position.window = 4;
    bk_position_acknowledge(&reader.position, 2);
    RUN_UNTIL(reader.seen_count == 6);
    support_reader_assert_saw(&reader, 1, 6);
    support_reader_fini(&reader);
}

/* --- failing ---------------------------------------------------------------------------------- */

static void test_what_failed_and_what_stood_behind_it_comes_again(void **state) {
    (void)state;
    struct support_reader reader = {.answer = BK_HANDED_TAKEN};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(6);
    support_feed_settle(&fixture);
    support_reader_assert_saw(&reader, 1, 6);
    bk_position_acknowledge(&reader.position, 1);
    bk_position_acknowledge(&reader.position, 5);
    /* Longer than what follows takes on a slow machine. */
    fixture.feed->positions->retry_first_ms = fixture.feed->positions->retry_max_ms = 1000;
    bk_position_fail(&reader.position, 3);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_WAITING);
    assert_int_equal(bk_position_facts(&reader.position).failures, 1);
    emit(2);
    support_feed_settle(&fixture);
    assert_int_equal(reader.seen_count, 6);
    bk_position_acknowledge(&reader.position, 4); /* done after all: it does not come again */
    RUN_UNTIL(reader.seen_count == 10);
    static const uint64_t again[] = {3, 6, 7, 8};
    for (size_t i = 0; i < BK_COUNT_OF(again); i++)
        assert_int_equal(reader.seen[6 + i], again[i]);
    assert_int_equal(support_reader_acknowledged(&reader), 1);
    bk_position_acknowledge(&reader.position, 2);
    assert_int_equal(bk_position_facts(&reader.position).failures, 1);
    bk_position_acknowledge(&reader.position, 3);
    assert_int_equal(bk_position_facts(&reader.position).failures, 0);
    assert_int_equal(support_reader_acknowledged(&reader), 5);
    support_reader_fini(&reader);
}

static enum bk_handed fail_three_times(struct support_reader *reader, struct bk_event *event) {
    (void)event;
    return reader->seen_count <= 3 ? BK_HANDED_FAILED : BK_HANDED_DONE;
}

static void test_the_pause_doubles_and_nothing_passes_what_failed(void **state) {
    (void)state;
    struct support_reader reader = {.on_event = fail_three_times};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    uint64_t begun_ns = bk_clock_monotonic_ns();
    emit(2);
    RUN_UNTIL(support_reader_state(&reader) == BK_POSITION_LIVE && reader.seen_count == 5);
    /* 20 + 40 + 80 ms, each shortened by a fifth at most. */
    assert_true(bk_clock_monotonic_ns() - begun_ns >= 112 * 1000000ULL);
    static const uint64_t seen[] = {1, 1, 1, 1, 2};
    assert_memory_equal(reader.seen, seen, sizeof seen);
    struct bk_position_figures figures[2];
    assert_int_equal(bk_feed_position_figures(fixture.feed, figures, 2), 1);
    assert_string_equal(figures[0].kind, "test");
    assert_int_equal(figures[0].handed, 5);
    assert_int_equal(figures[0].failed, 3);
    assert_int_equal(figures[0].acknowledged, 2);
    assert_int_equal(figures[0].states[BK_POSITION_LIVE], 1);
    support_reader_fini(&reader);
}

static void test_the_pause_is_bounded_and_jittered(void **state) {
    (void)state;
    struct support_reader reader = {.answer = BK_HANDED_FAILED};
    fixture.feed->positions->retry_first_ms = BK_POSITION_RETRY_FIRST_MS;
    fixture.feed->positions->retry_max_ms = BK_POSITION_RETRY_MAX_MS;
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(1);
    support_feed_settle(&fixture);
    struct feed_position *own = reader.position.own;
    for (uint32_t failures = 1; failures < 40; failures++) {
        uint64_t whole = failures > 6 ? 60000 : 1000ULL << (failures - 1);
        uint64_t pause = own->due_ms - bk_loop_now_ms(fixture.kernel.loop);
        assert_int_equal(own->failures, failures);
        assert_true(pause <= whole && pause + whole / 5 + 50 >= whole);
        feed_position_wake(own);
        RUN_UNTIL(support_reader_state(&reader) == BK_POSITION_WAITING);
    }
    support_reader_fini(&reader);
}

/* --- seeking ---------------------------------------------------------------------------------- */

static void test_a_seek_goes_on_from_elsewhere_and_forgets_what_was_handed(void **state) {
    (void)state;
    struct support_reader reader = {.answer = BK_HANDED_TAKEN};
    enum bk_feed_problem problem;
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(5);
    support_feed_settle(&fixture);
    assert_int_equal(bk_position_seek(&reader.position, BK_SLICE("2026-01-01T00:00:00Z"), &problem),
                     BK_NOT_SUPPORTED);
    assert_int_equal(bk_position_seek(&reader.position, BK_SLICE("garbage"), NULL), BK_INVALID);
    assert_int_equal(bk_position_facts(&reader.position).handed, 5);
    assert_int_equal(bk_position_seek(&reader.position, BK_SLICE("start"), &problem), BK_OK);
    assert_int_equal(bk_position_facts(&reader.position).handed, 0);
    bk_position_acknowledge(&reader.position, 1);
    assert_int_equal(support_reader_acknowledged(&reader), 0);
    reader.answer = BK_HANDED_DONE;
    RUN_UNTIL(reader.seen_count == 10);
    assert_int_equal(reader.seen[5], 1);
    assert_int_equal(support_reader_acknowledged(&reader), 5);
    assert_int_equal(bk_position_seek(&reader.position, BK_SLICE("now"), NULL), BK_OK);
    assert_int_equal(support_reader_state(&reader), BK_POSITION_LIVE);
    emit(1);
    support_feed_settle(&fixture);
    assert_int_equal(reader.seen_count, 11);
    support_reader_fini(&reader);
}

/* --- from within a call ----------------------------------------------------------------------- */

static struct support_reader *others[2];

static enum bk_handed close_all(struct support_reader *reader, struct bk_event *event) {
    (void)event;
    bk_position_close(&others[0]->position);
    bk_position_close(&others[1]->position);
    bk_position_close(&reader->position);
    return BK_HANDED_DONE;
}

static void test_a_call_may_close_itself_and_others(void **state) {
    (void)state;
    struct support_reader first = {0}, second = {.on_event = close_all}, third = {0};
    others[0] = &first;
    others[1] = &third;
    for (int round = 0; round < 2; round++) { /* live, then from the journal */
        support_reader_open(fixture.feed, fixture.kernel.tenant, &first, "test/a");
        support_reader_open(fixture.feed, fixture.kernel.tenant, &second, "test/b");
        support_reader_open(fixture.feed, fixture.kernel.tenant, &third, "test/c");
        RUN_UNTIL(third.is_opened);
        if (round == 0)
            emit(100);
        RUN_UNTIL(support_reader_state(&first) == BK_POSITION_CLOSED);
        /* The second time the first one stands behind event 1, which the second one did not
         * acknowledge. */
        assert_int_equal(first.seen_count, round == 0 ? 1 : 0);
        support_reader_assert_saw(&second, 1, 1);
        assert_int_equal(third.seen_count, 0);
        support_feed_settle(&fixture);
    }
    assert_int_equal(open_reader(&third, "test/c"), BK_OK);
    RUN_UNTIL(support_reader_acknowledged(&third) == 100);
    support_reader_assert_saw(&third, 1,
                              100); /* what it was kept from was not acknowledged for it */
    support_reader_fini(&first);
    support_reader_fini(&second);
    support_reader_fini(&third);
}

static enum bk_handed seek_back_once(struct support_reader *reader, struct bk_event *event) {
    if (event->fields.sequence == 3 && reader->seen_count == 3)
        assert_int_equal(bk_position_seek(&reader->position, BK_SLICE("start"), NULL), BK_OK);
    return BK_HANDED_DONE;
}

static void test_a_call_may_seek_itself(void **state) {
    (void)state;
    struct support_reader reader = {.on_event = seek_back_once};
    assert_int_equal(open_reader(&reader, "test/a"), BK_OK);
    emit(5);
    RUN_UNTIL(support_reader_acknowledged(&reader) == 5);
    static const uint64_t seen[] = {1, 2, 3, 1, 2, 3, 4, 5};
    assert_int_equal(reader.seen_count, BK_COUNT_OF(seen));
    assert_memory_equal(reader.seen, seen, sizeof seen);
    support_reader_fini(&reader);
}

/* At each second event, for which the other one has no room and has been visited before. */
static enum bk_handed acknowledge_other(struct support_reader *reader, struct bk_event *event) {
    (void)reader;
    if (event->fields.sequence % 2 == 0)
        bk_position_acknowledge(&others[0]->position, others[0]->seen[others[0]->seen_count - 1]);
    return BK_HANDED_DONE;
}

static void
test_one_that_gets_room_while_its_next_event_is_dispatched_misses_nothing(void **state) {
    (void)state;
    struct support_reader full = {.position.window = 1, .answer = BK_HANDED_TAKEN};
    struct support_reader helper = {.on_event = acknowledge_other};
    others[0] = &full;
    assert_int_equal(open_reader(&full, "test/full"), BK_OK);
    assert_int_equal(open_reader(&helper, "test/helper"), BK_OK);
    for (uint64_t round = 1; round <= 20; round++) {
        emit(2);
        RUN_UNTIL(full.seen_count >= 2 * round);
        bk_position_acknowledge(&full.position, 2 * round);
        RUN_UNTIL(support_reader_state(&full) == BK_POSITION_LIVE);
    }
    support_reader_assert_saw(&full, 1, 40);
    support_reader_fini(&full);
    support_reader_fini(&helper);
}

/* --- being lost ------------------------------------------------------------------------------- */

static int setup_pruning(void **state) {
    struct bk_store_options options;
    (void)state;
    bk_store_options_init(&options);
    options.retention_max_bytes = RETAINED_BYTES;
    options.prune_interval_ms = 5;
    return setup_with(&options);
}

static void test_one_whose_next_event_was_pruned_is_lost_until_it_is_sought(void **state) {
    (void)state;
    struct support_reader closed = {0};
    struct support_reader full = {.position.window = 1, .answer = BK_HANDED_TAKEN};
    assert_int_equal(open_reader(&closed, "test/closed"), BK_OK);
    assert_int_equal(open_reader(&full, "test/full"), BK_OK);
    bk_position_close(&closed.position);
    for (int i = 0; i < 10; i++)
        emit(100);
    RUN_UNTIL(bk_journal_state(fixture.kernel.tenant->database).oldest > 500);
    RUN_UNTIL(full.lost_count == 1);
    assert_int_equal(support_reader_state(&full), BK_POSITION_LOST);
    assert_int_equal(open_reader(&closed, "test/closed"), BK_OK);
    RUN_UNTIL(closed.lost_count == 1);
    assert_int_equal(closed.seen_count, 0);
    assert_int_equal(support_reader_state(&closed), BK_POSITION_LOST);
    bk_position_acknowledge(&full.position, 1);
    emit(1);
    support_feed_settle(&fixture);
    assert_int_equal(support_reader_state(&full), BK_POSITION_LOST);
    RUN_UNTIL(bk_journal_state(fixture.kernel.tenant->database).size_bytes <= RETAINED_BYTES);
    assert_int_equal(bk_position_seek(&closed.position, BK_SLICE("start"), NULL), BK_OK);
    assert_int_equal(support_reader_state(&closed), BK_POSITION_BEHIND);
    RUN_UNTIL(support_reader_state(&closed) == BK_POSITION_LIVE);
    assert_int_equal(closed.seen[closed.seen_count - 1], last());
    struct bk_position_figures figures[1];
    assert_int_equal(bk_feed_position_figures(fixture.feed, figures, 1), 1);
    assert_true(figures[0].lost >= 2);
    bk_position_drop(&full.position);
    support_reader_fini(&closed);
    support_reader_fini(&full);
}

/* --- what it costs ---------------------------------------------------------------------------- */

static struct support_reader *open_many(char (*names)[16], const struct bk_slice *ten,
                                        const struct bk_slice *rest) {
    struct support_reader *readers = bk_alloc_zero(MANY * sizeof *readers);
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(names[i], sizeof names[i], "test/%zu", i);
        readers[i].position.interest.types = i % (MANY / 10) == 0 ? ten : rest;
        readers[i].position.interest.type_count = 1;
        support_reader_open(fixture.feed, fixture.kernel.tenant, &readers[i], names[i]);
    }
    RUN_UNTIL(!positions()->is_held);
    return readers;
}

static void close_many(struct support_reader *readers) {
    for (size_t i = 0; i < MANY; i++)
        support_reader_fini(&readers[i]);
    bk_free(readers);
}

static void test_an_event_visits_only_those_that_ask_for_it(void **state) {
    (void)state;
    static const struct bk_slice ten = BK_SLICE_INIT("posts.created");
    static const struct bk_slice rest = BK_SLICE_INIT("users.created");
    char(*names)[16] = bk_alloc(MANY * sizeof *names);
    struct support_reader *readers = open_many(names, &ten, &rest);
    uint64_t before = fixture.feed->positions->visits;
    emit(100);
    support_feed_settle(&fixture);
    assert_int_equal(fixture.feed->positions->visits - before, 1000);
    assert_int_equal(readers[0].seen_count, 100);
    assert_int_equal(readers[1].seen_count, 0);
    assert_int_equal(support_reader_acknowledged(&readers[1]), 100);
    close_many(readers);
    bk_free(names);
}

static void test_many_at_one_place_share_one_scan(void **state) {
    (void)state;
    static const struct bk_slice both = BK_SLICE_INIT("users.created");
    char(*names)[16] = bk_alloc(MANY * sizeof *names);
    struct support_reader *readers = open_many(names, &both, &both);
    for (size_t i = 0; i < MANY; i++)
        bk_position_close(&readers[i].position);
    RUN_UNTIL(!positions()->is_held);
    emit(2995);
    support_feed_emit(&fixture, "users.created", "users/a", 5);
    support_feed_settle(&fixture);
    uint64_t reads = bk_store_figures(fixture.kernel.store).reads;
    uint64_t pages = positions()->scan.number;
    for (size_t i = 0; i < MANY; i++)
        support_reader_open(fixture.feed, fixture.kernel.tenant, &readers[i], names[i]);
    RUN_UNTIL(!positions()->is_held);
    for (size_t i = 0; i < MANY; i++)
        support_reader_assert_saw(&readers[i], 2996, 3000);
    assert_true(bk_store_figures(fixture.kernel.store).reads - reads <= 4);
    assert_true(positions()->scan.number - pages <= 4);
    close_many(readers);
    bk_free(names);
}

static enum bk_handed slowly(struct support_reader *reader, struct bk_event *event) {
    (void)event;
    uint64_t begun_ns = bk_clock_monotonic_ns();
    while (reader->user != NULL && bk_clock_monotonic_ns() - begun_ns < 100 * 1000)
        ;
    return BK_HANDED_DONE;
}

static void test_one_that_is_far_behind_holds_nobody_up(void **state) {
    (void)state;
    struct support_reader far = {
        .position.after = BK_SLICE_INIT("start"), .on_event = slowly, .user = &fixture};
    struct support_reader near = {0};
    char cursor[BK_CURSOR_BYTES];
    for (int i = 0; i < 8; i++)
        emit(1000);
    support_feed_settle(&fixture);
    struct bk_journal_state journal = bk_journal_state(fixture.kernel.tenant->database);
    bk_cursor_make(cursor, journal.epoch, 7900);
    near.position.after = bk_slice_make(cursor, sizeof cursor);
    assert_int_equal(open_reader(&far, "test/far"), BK_OK);
    assert_int_equal(open_reader(&near, "test/near"), BK_OK);
    size_t seen_before = far.seen_count;
    RUN_UNTIL(support_reader_state(&near) == BK_POSITION_LIVE);
    assert_true(far.seen_count - seen_before <= 2000); /* the page under way, and one more */
    RUN_UNTIL(support_reader_state(&far) == BK_POSITION_LIVE);
    support_reader_assert_saw(&far, 1, 8000);
    support_reader_fini(&far);
    support_reader_fini(&near);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_one_begins_behind_now_by_default),
        TEST(test_one_that_begins_at_the_start_catches_up_from_the_journal),
        TEST(test_one_begins_at_a_cursor_or_a_time),
        TEST(test_what_it_cannot_begin_at_is_refused_with_the_problem),
        TEST(test_a_name_is_open_once),
        TEST(test_it_is_handed_what_it_asks_for_and_nothing_else),
        TEST(test_a_transient_event_is_never_handed),
        TEST(test_a_cut_chain_reaches_only_those_that_cause_nothing),
        TEST(test_a_full_one_gets_no_more_until_it_acknowledges),
        TEST(test_its_window_may_shrink_and_grow_while_it_is_open),
        TEST(test_what_failed_and_what_stood_behind_it_comes_again),
        TEST(test_the_pause_doubles_and_nothing_passes_what_failed),
        TEST(test_the_pause_is_bounded_and_jittered),
        TEST(test_a_seek_goes_on_from_elsewhere_and_forgets_what_was_handed),
        TEST(test_a_call_may_close_itself_and_others),
        TEST(test_a_call_may_seek_itself),
        TEST(test_one_that_gets_room_while_its_next_event_is_dispatched_misses_nothing),
        cmocka_unit_test_setup_teardown(
            test_one_whose_next_event_was_pruned_is_lost_until_it_is_sought, setup_pruning,
            teardown),
        TEST(test_an_event_visits_only_those_that_ask_for_it),
        TEST(test_many_at_one_place_share_one_scan),
        TEST(test_one_that_is_far_behind_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
