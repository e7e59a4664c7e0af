/*
 * Work time: the clock by which dues are made and judged.
 *
 * It is the wall clock as far as that can be believed. Within a process it keeps the pace of a
 * clock that nobody sets, so whoever sets the wall clock wrong and right again changes nothing:
 * what was to happen in five minutes happens in five minutes, and no schedule sees a time twice or
 * misses one. All dues are made with it, too; with the wall clock's time a due would be ten years
 * ahead while that is.
 *
 *   wall − work time       what is done
 *   ≤ 5 s                  followed at once: daemons slew and step a clock by as much
 *   more, either way       doubted: work time keeps its pace. Believed when the wall clock has
 *                          stood by the new time for as long as it leapt, at most a day; one look
 *                          at the old time ends the doubt
 *
 * As long as it leapt: a leap of ten minutes can move nothing by more than ten minutes, and is not
 * worth a longer doubt; whoever mistypes a year has a day to see it, as with the clock of ages
 * (age_clock.h). A leap that was right is late by that, and starves nobody: what had a delay keeps
 * it meanwhile, and what had an hour of the day comes at the old one.
 *
 * Believed ahead, work time passes over what lies between: delayed tasks come early by as much, and
 * schedules run once for all the times that were passed over. Believed back, times come again: a
 * schedule does not run again for one that it has run for (schedule.c), and rows that were set in
 * the time that was taken back get their delay from now on (repair.c). That is work_time_leapt.
 *
 * At the start the wall clock is believed: how long the program was down, nobody else can tell.
 * Rows of a later time, which never came, are told by the time at which they were set.
 *
 * The pace counts time in which the machine slept (CLOCK_BOOTTIME), so waking up is no leap. A
 * virtual machine that was frozen without its knowledge sees one, and is late by as long as it was
 * frozen, at most a day.
 */
#include "time_private.h"

#include "bakend/assert.h"
#include "bakend/clock.h"

uint64_t work_clock_pace_ms(void) {
    enum { NS_PER_MS = 1000000 };
    return bk_clock_boot_ns() / NS_PER_MS;
}

static int64_t offset_of(const struct work_clock *clock) {
    return __atomic_load_n(&clock->offset_ms, __ATOMIC_RELAXED);
}

static void set_offset(struct work_clock *clock, int64_t offset_ms) {
    __atomic_store_n(&clock->offset_ms, offset_ms, __ATOMIC_RELAXED);
    clock->is_doubting = false;
}

void work_clock_init(struct work_clock *clock) {
    *clock = (struct work_clock){0};
    set_offset(clock, bk_clock_wall_ms() - (int64_t)work_clock_pace_ms());
}

int64_t work_clock_now_ms(const struct work_clock *clock) {
    return offset_of(clock) + (int64_t)work_clock_pace_ms();
}

static int64_t distance(int64_t one, int64_t other) {
    return one > other ? one - other : other - one;
}

/* True when the wall clock has stood by its leap for long enough. */
static bool is_believed(struct work_clock *clock, int64_t offset_ms, uint64_t pace_ms) {
    int64_t leap_ms = distance(offset_ms, offset_of(clock));
    if (!clock->is_doubting || distance(offset_ms, clock->doubted_ms) > WORK_SLEW_MS) {
        clock->is_doubting = true;
        clock->doubts_at_ms = pace_ms;
    }
    clock->doubted_ms = offset_ms; /* it may be slewed meanwhile */
    BK_ASSERT(pace_ms >= clock->doubts_at_ms);
    int64_t wanted_ms = leap_ms < WORK_DOUBT_MAX_MS ? leap_ms : WORK_DOUBT_MAX_MS;
    return (int64_t)(pace_ms - clock->doubts_at_ms) >= wanted_ms;
}

int64_t work_clock_look(struct work_clock *clock, int64_t wall_ms, uint64_t pace_ms) {
    int64_t offset_ms = wall_ms - (int64_t)pace_ms;
    int64_t leap_ms = offset_ms - offset_of(clock);
    bool is_small = distance(leap_ms, 0) <= WORK_SLEW_MS;
    if (!is_small && !is_believed(clock, offset_ms, pace_ms))
        return 0;
    set_offset(clock, offset_ms);
    return is_small ? 0 : leap_ms;
}
