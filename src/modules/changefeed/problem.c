/*
 * A cursor that cannot be followed, in the error shape: data.after says what is wrong and names the
 * oldest cursor to begin again from. Never a silent jump.
 */
#include "changefeed_private.h"

#include "bakend/clock.h"

static const struct {
    const char *code, *message;
} problems[] = {
    [BK_FEED_CURSOR_INVALID] = {"cursor_invalid",
                                "Must be a cursor from an earlier answer, \"start\", \"now\" or an "
                                "RFC 3339 time."},
    [BK_FEED_CURSOR_IN_FUTURE] = {"cursor_in_future",
                                  "The cursor is past the newest event: it is not from this "
                                  "server's present history."},
    [BK_FEED_CURSOR_EPOCH_CHANGED] = {"cursor_epoch_changed",
                                      "This cursor belongs to another history: the tenant was "
                                      "restored, or the cursor is another tenant's or server's. "
                                      "Take the current state anew and go on from a new cursor."},
    [BK_FEED_CURSOR_EXPIRED] = {"cursor_expired",
                                "The events behind this cursor are no longer kept. Take the "
                                "current state anew, or go on from the oldest cursor."},
};

/* A '+' that was not encoded arrives as a space: a time with an offset looks like this. */
static bool is_time_without_plus(struct bk_request *request, struct bk_slice after) {
    struct bk_slice rest = after, part = BK_SLICE_EMPTY;
    int64_t time_ms;
    while (rest.length > 0 && bk_slice_split(&rest, ' ', &part)) {
    }
    if (part.length == 0 || part.length == after.length)
        return false;
    int head_length = (int)(after.length - part.length - 1);
    struct bk_slice mended = bk_arena_format(&request->arena, "%.*s+%.*s", head_length, after.data,
                                             BK_SLICE_PRINT(part));
    return bk_time_parse(mended, &time_ms);
}

static const char *message_of(struct bk_request *request, enum bk_feed_problem problem,
                              struct bk_slice after) {
    BK_ASSERT((size_t)problem < BK_COUNT_OF(problems));
    if (problem == BK_FEED_CURSOR_INVALID && is_time_without_plus(request, after))
        return "In a query '+' stands for a space: send the '+' of a time's offset as %2B, or give "
               "the time in UTC with Z.";
    return problems[problem].message;
}

void changefeed_problem_add(struct bk_request *request, enum bk_feed_problem problem,
                            struct bk_slice after) {
    struct bk_journal_state journal = bk_journal_state(request->tenant->database);
    char oldest[BK_CURSOR_BYTES];
    const char *message = message_of(request, problem, after);
    bk_cursor_make(oldest, journal.epoch, journal.oldest - 1);
    struct bk_slice params =
        bk_arena_format(&request->arena, "{\"oldest\":\"%.*s\"}", BK_CURSOR_BYTES, oldest);
    bk_problems_add_params(&request->problems, BK_SLICE("after"), problems[problem].code, message,
                           params);
}

void changefeed_problem_answer(struct bk_request *request, const struct bk_feed_read *read,
                               enum bk_status status) {
    changefeed_problem_add(request, read->problem, read->query.after);
    bk_answer_problems(request, status, "The feed cannot be read from this position.");
}
