/*
 * Failpoints: a small table, read once at start and only counted in afterwards, so that any thread
 * may pass one without a lock. To switch all off leaves the table as it is: a thread that is just
 * passing one reads what it read before. A name may stand in the list several times ("fail at the
 * 2nd and at the 5th passing"); each entry counts for itself and the first one that fails decides.
 */
#include "bakend/failpoint.h"
#include "bakend/assert.h"
#include "bakend/slice.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FAILPOINTS_MAX = 32, NAME_MAX_BYTES = 64, SLEEP_MAX_MS = 600000 };

enum failpoint_action { ACTION_KILL, ACTION_ERROR, ACTION_FULL, ACTION_SLEEP };

struct failpoint {
    char name[NAME_MAX_BYTES]; /* with NUL */
    enum failpoint_action action;
    int64_t sleep_ms;
    uint64_t nth; /* 0: every passing */
};

atomic_bool bk_failpoints_are_on = false;

static struct failpoint failpoints[FAILPOINTS_MAX];
static atomic_uint_fast64_t passings[FAILPOINTS_MAX];
static atomic_size_t failpoint_count;

/* --- reading the list ------------------------------------------------------------------------- */

static bool parse_action(struct bk_slice text, struct failpoint *out) {
    const struct bk_slice sleep_prefix = BK_SLICE("sleep=");
    if (bk_slice_is(text, "kill")) {
        out->action = ACTION_KILL;
    } else if (bk_slice_is(text, "error")) {
        out->action = ACTION_ERROR;
    } else if (bk_slice_is(text, "full")) {
        out->action = ACTION_FULL;
    } else if (bk_slice_starts_with(text, sleep_prefix)) {
        out->action = ACTION_SLEEP;
        return bk_slice_to_int64(bk_slice_make(text.data + sleep_prefix.length,
                                               text.length - sleep_prefix.length),
                                 &out->sleep_ms) &&
               out->sleep_ms >= 0 && out->sleep_ms <= SLEEP_MAX_MS;
    } else {
        return false;
    }
    return true;
}

/* The tail of text after its first separator goes to *tail; false when there is none. */
static bool cut(struct bk_slice *text, char separator, struct bk_slice *tail) {
    size_t at = bk_slice_find(*text, separator);
    if (at == text->length)
        return false;
    *tail = bk_slice_make(text->data + at + 1, text->length - at - 1);
    text->length = at;
    return true;
}

/* name:action[@n] */
static bool parse_failpoint(struct bk_slice text, struct failpoint *out) {
    struct bk_slice action, number;
    int64_t nth;
    *out = (struct failpoint){.nth = 0};
    if (!cut(&text, ':', &action))
        return false;
    if (cut(&action, '@', &number)) {
        if (!bk_slice_to_int64(number, &nth) || nth < 1)
            return false;
        out->nth = (uint64_t)nth;
    }
    if (text.length == 0 || text.length >= sizeof(out->name))
        return false;
    memcpy(out->name, text.data, text.length);
    return parse_action(action, out);
}

enum bk_status bk_failpoint_configure(const char *list) {
    struct failpoint parsed[FAILPOINTS_MAX];
    struct bk_slice rest = bk_slice_from(list), part;
    size_t count = 0;
    while (rest.length > 0 && bk_slice_split(&rest, ',', &part)) {
        if (count == FAILPOINTS_MAX || !parse_failpoint(bk_slice_trim(part), &parsed[count]))
            return BK_INVALID;
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        failpoints[i] = parsed[i];
        atomic_store(&passings[i], 0);
    }
    atomic_store(&failpoint_count, count);
    atomic_store(&bk_failpoints_are_on, count > 0);
    return BK_OK;
}

/* --- passing one ------------------------------------------------------------------------------ */

static void sleep_for(int64_t ms) {
    struct timespec rest = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&rest, &rest) != 0)
        continue; /* a signal: sleep what is left */
}

static enum bk_status act(const struct failpoint *failpoint) {
    switch (failpoint->action) {
    case ACTION_KILL:
        (void)kill(getpid(), SIGKILL);
        BK_UNREACHABLE();
    case ACTION_ERROR:
        return BK_IO;
    case ACTION_FULL:
        return BK_DISK_FULL;
    case ACTION_SLEEP:
        sleep_for(failpoint->sleep_ms);
        return BK_OK;
    }
    BK_UNREACHABLE();
}

enum bk_status bk_failpoint_hit(const char *name) {
    enum bk_status result = BK_OK;
    size_t count = atomic_load(&failpoint_count);
    BK_ASSERT(name != NULL);
    for (size_t i = 0; i < count; i++) {
        enum bk_status status = BK_OK;
        uint64_t passing;
        if (strcmp(failpoints[i].name, name) != 0)
            continue;
        passing = (uint64_t)atomic_fetch_add(&passings[i], 1) + 1;
        if (failpoints[i].nth == 0 || failpoints[i].nth == passing)
            status = act(&failpoints[i]);
        if (result == BK_OK)
            result = status;
    }
    return result;
}
