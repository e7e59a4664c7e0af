/* The reader asserts what holds for every position: its opening is answered once and before the
 * first event, and no event comes that it did not ask for, or a transient one. */
#include "position_fixture.h"

#include "bakend/alloc.h"

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
