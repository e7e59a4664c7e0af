/*
 * The schedule of a delivery's attempts: "0s,5s,30s,2m,…", the pause before each; the first one is
 * made at once. Pauses are spread, so that what failed together does not come back together: the
 * first three by a fifth, the later ones over half to one and a half.
 */
#include "webhooks.h"

#include "bakend/id.h"

enum {
    NARROW_SPREADS = 3,
    NARROW_PERCENT = 20,
    WIDE_PERCENT = 50,
    DIGITS_MAX = 9,
};
#define PAUSE_MAX_MS (UINT64_C(30) * 24 * 60 * 60 * 1000)
#define FLOOR_MAX_MS (UINT64_C(24) * 60 * 60 * 1000)

static bool read_pause(struct bk_slice text, uint64_t *pause_ms) {
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 86400000}};
    size_t digits = 0;
    uint64_t number = 0;
    while (digits < text.length && text.data[digits] >= '0' && text.data[digits] <= '9')
        number = number * 10 + (uint64_t)(text.data[digits++] - '0');
    if (digits == 0 || digits > DIGITS_MAX)
        return false;
    struct bk_slice unit = bk_slice_make(text.data + digits, text.length - digits);
    for (size_t i = 0; i < BK_COUNT_OF(units); i++) {
        if (!bk_slice_equal(unit, bk_slice_from(units[i].unit)))
            continue;
        *pause_ms = number * units[i].ms;
        return *pause_ms <= PAUSE_MAX_MS;
    }
    return false;
}

enum bk_status webhooks_schedule_parse(struct bk_slice text, struct webhooks_state *state,
                                       struct bk_error *error) {
    struct bk_slice rest = text, part;
    uint64_t pauses_ms[WEBHOOKS_SCHEDULE_MAX];
    uint32_t count = 0;
    while (bk_slice_split(&rest, ',', &part)) {
        if (count == WEBHOOKS_SCHEDULE_MAX)
            return bk_error_set(error, BK_INVALID, "has more than %d attempts",
                                WEBHOOKS_SCHEDULE_MAX);
        part = bk_slice_trim(part);
        if (!read_pause(part, &pauses_ms[count++]))
            return bk_error_set(error, BK_INVALID,
                                "\"%.*s\" is no pause: a number and ms, s, m, h or d, up to 30d",
                                BK_SLICE_PRINT(part));
    }
    if (count == 0 || pauses_ms[0] != 0)
        return bk_error_set(error, BK_INVALID,
                            "must begin with 0s, since the first attempt is made at once");
    if (state == NULL)
        return BK_OK;
    state->schedule_count = count;
    memcpy(state->schedule_ms, pauses_ms, count * sizeof pauses_ms[0]);
    return BK_OK;
}

int64_t webhooks_retry_delay(const struct webhooks_state *state, uint32_t number,
                             uint64_t floor_ms) {
    if (number >= state->schedule_count)
        return -1;
    uint64_t pause_ms = state->schedule_ms[number];
    uint64_t spread_ms =
        pause_ms * (number <= NARROW_SPREADS ? NARROW_PERCENT : WIDE_PERCENT) / 100;
    pause_ms = pause_ms - spread_ms + bk_random_u64() % (2 * spread_ms + 1);
    if (floor_ms > FLOOR_MAX_MS)
        floor_ms = FLOOR_MAX_MS;
    return (int64_t)(pause_ms > floor_ms ? pause_ms : floor_ms);
}
