/* A kernel with a feed, and a reader of positions that remembers what it was handed. */
#ifndef BAKEND_TESTS_POSITION_FIXTURE_H
#define BAKEND_TESTS_POSITION_FIXTURE_H

#include "kernel_fixture.h"

#include "bakend/position.h"

enum { SUPPORT_READER_SEEN_MAX = 65536 };

struct support_feed {
    struct support_kernel kernel;
    struct bk_bus *bus;
    struct bk_feed *feed;
};

/* No tenant is open yet, so that slots can be added; then support_kernel_open. NULL options: the
 * defaults. */
void support_feed_create(struct support_feed *fixture, const struct bk_store_options *options,
                         size_t tail_max_bytes);
/* Waits until the bus has dispatched everything. */
void support_feed_settle(struct support_feed *fixture);
/* Commits one write of count events. */
void support_feed_emit(struct support_feed *fixture, const char *type, const char *subject,
                       uint32_t count);
/* Closes all but the directory, as a shutdown does … */
void support_feed_close(struct support_feed *fixture);
/* … after which it can be created once more on the same directory … */
void support_feed_restart(struct support_feed *fixture, size_t tail_max_bytes);
/* … or is over. */
void support_feed_destroy(struct support_feed *fixture);

/* Runs the loop of a support_kernel until the condition holds. */
#define SUPPORT_RUN_UNTIL(kernel, condition)                                                       \
    do {                                                                                           \
        for (int round_ = 0; round_ < 5000 && !(condition); round_++)                              \
            support_loop_run_for((kernel)->loop, 1);                                               \
        assert_true(condition);                                                                    \
    } while (0)

/* Zero it, set what differs from the defaults and open it: phase plugins, all types, a window of
 * 16, from "now". */
struct support_reader {
    struct bk_position position;
    enum bk_handed answer; /* to each event */
    /* Instead of answer, when it is not NULL. */
    enum bk_handed (*on_event)(struct support_reader *reader, struct bk_event *event);
    void (*on_opened)(struct support_reader *reader); /* may be NULL */
    void *user;
    uint64_t *seen; /* sequences, in the order in which they came */
    size_t seen_count;
    uint32_t lost_count;
    bool is_opened; /* the opening was answered */
    enum bk_status status;
    enum bk_feed_problem problem;
};

/* name is borrowed. Opens without waiting. */
void support_reader_open(struct bk_feed *feed, struct bk_tenant *tenant,
                         struct support_reader *reader, const char *name);
/* Likewise, and waits for the answer. */
enum bk_status support_reader_open_now(struct support_kernel *kernel, struct bk_feed *feed,
                                       struct support_reader *reader, const char *name);
/* Closes it when it is open and frees what it remembers. */
void support_reader_fini(struct support_reader *reader);
enum bk_position_state support_reader_state(const struct support_reader *reader);
uint64_t support_reader_acknowledged(const struct support_reader *reader);
/* It was handed just these, in order. */
void support_reader_assert_saw(const struct support_reader *reader, uint64_t from, uint64_t to);

#endif
