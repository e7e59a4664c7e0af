/* A reader of positions that remembers what it was handed, for tests of what stands on the feed. */
#ifndef BAKEND_TESTS_POSITION_FIXTURE_H
#define BAKEND_TESTS_POSITION_FIXTURE_H

#include "kernel_fixture.h"

#include "bakend/position.h"

enum { SUPPORT_READER_SEEN_MAX = 65536 };

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

#endif
