/*
 * Filters over events: the language of filter.h, over what an event consists of, for the feed,
 * realtime, webhooks and consumers:
 *
 *   type = "posts.updated" && payload.total >= 50 && previous.total < 50
 *
 * Names: id, type, timestamp, source, tenant, subject, sequence, actor, version, cause,
 * payload.<path> and previous.<path>, with :lower, and of a path also :each and :length. There are
 * no tables behind an event, so every filter is computed in memory. Macros (@now, @todayStart …)
 * are of the event's own timestamp, so that a replay gives the same answer.
 */
#ifndef BAKEND_EVENT_FILTER_H
#define BAKEND_EVENT_FILTER_H

#include "bakend/arena.h"
#include "bakend/error.h"
#include "bakend/event.h"
#include "bakend/interest.h"
#include "bakend/json.h"
#include "bakend/store.h"

enum { BK_EVENT_FILTER_BYTES_MAX = 3500 };

/* Immutable, with memory of its own; any thread. */
struct bk_event_filter;

/* text: not empty; copied. BK_INVALID with the position, "at 14: …", in error; BK_TOO_LARGE,
 * BK_NO_MEMORY. The filter has one reference. */
enum bk_status bk_event_filter_parse(struct bk_slice text, struct bk_event_filter **filter,
                                     struct bk_error *error);
struct bk_event_filter *bk_event_filter_ref(struct bk_event_filter *filter);
void bk_event_filter_unref(struct bk_event_filter *filter); /* NULL is fine */
/* The filter written in one way: without comments and with single blanks. Filters with equal texts
 * are equal. */
struct bk_slice bk_event_filter_text(const struct bk_event_filter *filter);
/* As the feed and sets of interests ask it, which know tests only. Lives as long as the filter;
 * NULL for NULL. */
const struct bk_event_test *bk_event_filter_test(const struct bk_event_filter *filter);
/* Unrefs the filter that such a test is of. NULL is fine. */
void bk_event_filter_test_unref(const struct bk_event_test *test);

/* An event that filters look at. Its JSON is read once, when the first of them asks for it. */
struct bk_event_view {
    const struct bk_event_fields *fields;
    struct bk_arena arena;
    struct bk_value values[12];
    const struct bk_json *json[12];
    char timestamp[24];
};
/* fields: borrowed as long as the view. Nothing is allocated yet. One thread at a time. */
void bk_event_view_init(struct bk_event_view *view, const struct bk_event_fields *fields);
void bk_event_view_fini(struct bk_event_view *view);

/* Whether the filter holds. It is bounded in time; an event that could not be judged within it
 * (thousands of list elements against each other, a long pattern on a long text) is let through. */
bool bk_event_filter_holds(const struct bk_event_filter *filter, struct bk_event_view *view);

#endif
