/* The reader asserts what holds for every position: its opening is answered once and before the
 * first event, and no event comes that it did not ask for, or a transient one. */
#include "position_fixture.h"

#include "bakend/alloc.h"

/* --- the kernel ------------------------------------------------------------------------------- */

static void create_feed(struct support_feed *fixture, size_t tail_max_bytes) {
    struct support_kernel *kernel = &fixture->kernel;
    fixture->bus = bk_bus_create(kernel->loop, kernel->store, (struct bk_log){0});
    fixture->feed = bk_feed_create(kernel->loop, fixture->bus, kernel->tenants, (struct bk_log){0},
                                   tail_max_bytes);
}

void support_feed_create(struct support_feed *fixture, const struct bk_store_options *options,
                         size_t tail_max_bytes) {
    support_kernel_create(&fixture->kernel, options);
    create_feed(fixture, tail_max_bytes);
}

void support_feed_settle(struct support_feed *fixture) {
    SUPPORT_RUN_UNTIL(&fixture->kernel, bk_bus_is_idle(fixture->bus));
}

void support_feed_emit(struct support_feed *fixture, const char *type, const char *subject,
                       uint32_t count) {
    struct bk_event_draft draft = {.type = bk_slice_from(type),
                                   .subject = bk_slice_from(subject),
                                   .source = BK_SLICE("test"),
                                   .payload = BK_SLICE("{\"text\":\"grüße\",\"n\":12.50}")};
    assert_int_equal(
        support_kernel_emit(&fixture->kernel, fixture->kernel.tenant, &draft, count, NULL), BK_OK);
}

void support_feed_close(struct support_feed *fixture) {
    support_feed_settle(fixture);
    bk_feed_flush(fixture->feed);
    support_kernel_close(&fixture->kernel);
    bk_feed_destroy(fixture->feed);
    bk_bus_destroy(fixture->bus);
}

void support_feed_restart(struct support_feed *fixture, size_t tail_max_bytes) {
    support_kernel_restart(&fixture->kernel);
    create_feed(fixture, tail_max_bytes);
}

void support_feed_destroy(struct support_feed *fixture) {
    support_kernel_destroy(&fixture->kernel);
}

/* --- the reader ------------------------------------------------------------------------------- */

static struct support_reader *reader_of(struct bk_position *position) {
    return bk_container_of(position, struct support_reader, position);
}

static void on_opened(struct bk_position *position, enum bk_status status,
                      enum bk_feed_problem problem) {
    struct support_reader *reader = reader_of(position);
    assert_false(reader->is_opened);
    assert_int_equal(reader->seen_count, 0);
    reader->is_opened = true;
    reader->status = status;
    reader->problem = problem;
    if (reader->on_opened != NULL)
        reader->on_opened(reader);
}

static enum bk_handed on_event(struct bk_position *position, struct bk_event *event) {
    struct support_reader *reader = reader_of(position);
    assert_true(reader->is_opened);
    assert_int_equal(reader->status, BK_OK);
    assert_true(event->fields.sequence > 0);
    assert_true(
        bk_interest_matches(&position->interest, event->fields.type, event->fields.subject));
    assert_true(reader->seen_count < SUPPORT_READER_SEEN_MAX);
    if ((reader->seen_count & (reader->seen_count - 1)) == 0)
        reader->seen = bk_realloc(reader->seen, (2 * reader->seen_count + 1) * sizeof(uint64_t));
    reader->seen[reader->seen_count++] = event->fields.sequence;
    return reader->on_event != NULL ? reader->on_event(reader, event) : reader->answer;
}

static void on_lost(struct bk_position *position) { reader_of(position)->lost_count++; }

void support_reader_open(struct bk_feed *feed, struct bk_tenant *tenant,
                         struct support_reader *reader, const char *name) {
    struct bk_position *position = &reader->position;
    if (position->kind == NULL)
        position->kind = "test";
    if (position->phase == 0)
        position->phase = BK_PHASE_PLUGINS;
    if (position->window == 0)
        position->window = 16;
    position->name = bk_slice_from(name);
    position->on_event = on_event;
    position->on_lost = on_lost;
    reader->is_opened = false;
    reader->seen_count = 0;
    bk_position_open(feed, tenant, position, on_opened);
    assert_false(reader->is_opened);
}

enum bk_status support_reader_open_now(struct support_kernel *kernel, struct bk_feed *feed,
                                       struct support_reader *reader, const char *name) {
    support_reader_open(feed, kernel->tenant, reader, name);
    support_loop_run_until(kernel->loop, &reader->is_opened);
    return reader->status;
}

void support_reader_fini(struct support_reader *reader) {
    bk_position_close(&reader->position);
    bk_free(reader->seen);
    reader->seen = NULL;
    reader->seen_count = 0;
}

enum bk_position_state support_reader_state(const struct support_reader *reader) {
    return bk_position_facts(&reader->position).state;
}

uint64_t support_reader_acknowledged(const struct support_reader *reader) {
    return bk_position_facts(&reader->position).acknowledged;
}

void support_reader_assert_saw(const struct support_reader *reader, uint64_t from, uint64_t to) {
    assert_int_equal(reader->seen_count, to - from + 1);
    for (size_t i = 0; i < reader->seen_count; i++)
        assert_int_equal(reader->seen[i], from + i);
}
