/* Work time: what it follows, what it doubts, and when it comes round. */
#include "time_private.h"

#include "support.h"

#include "bakend/clock.h"

static const int64_t SECOND_MS = 1000;
static const int64_t HOUR_MS = INT64_C(3600) * 1000;
static const int64_t YEARS_MS = INT64_C(3652) * 24 * 3600 * 1000; /* ten */
static const int64_t NOON_MS = INT64_C(1795348800000);

/* A machine: its wall clock is set by hand, its pace goes on. */
struct machine {
    struct work_clock clock;
    int64_t wall_ms;
    uint64_t pace_ms;
};

static struct machine start(void) {
    struct machine machine = {.wall_ms = NOON_MS, .pace_ms = 5000};
    machine.clock.offset_ms = machine.wall_ms - (int64_t)machine.pace_ms;
    return machine;
}

static int64_t now(const struct machine *machine) {
    return machine->clock.offset_ms + (int64_t)machine->pace_ms;
}

/* Looks every second for so long. Returns the sum of what it leapt by. */
static int64_t run(struct machine *machine, int64_t duration_ms) {
    int64_t leapt_ms = 0;
    for (int64_t i = 0; i < duration_ms; i += SECOND_MS) {
        machine->wall_ms += SECOND_MS;
        machine->pace_ms += (uint64_t)SECOND_MS;
        leapt_ms += work_clock_look(&machine->clock, machine->wall_ms, machine->pace_ms);
    }
    return leapt_ms;
}

static void it_begins_with_the_wall_clock(void **state) {
    struct work_clock clock;
    (void)state;
    support_clock_set(NOON_MS);
    work_clock_init(&clock);
    assert_true(work_clock_now_ms(&clock) >= NOON_MS);
    assert_true(work_clock_now_ms(&clock) < NOON_MS + 10 * SECOND_MS);
    support_clock_advance(YEARS_MS);
    assert_true(work_clock_now_ms(&clock) < NOON_MS + 10 * SECOND_MS);
    assert_int_equal(work_clock_look(&clock, bk_clock_wall_ms(), work_clock_pace_ms()), 0);
    assert_true(work_clock_now_ms(&clock) < NOON_MS + 10 * SECOND_MS);
    support_clock_reset();
}

static void small_steps_are_followed_at_once(void **state) {
    static const int64_t steps[] = {1, -1, 900, -900, 5000, -5000};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(steps); i++) {
        struct machine machine = start();
        machine.wall_ms += steps[i];
        assert_int_equal(run(&machine, SECOND_MS), 0);
        assert_int_equal(now(&machine), machine.wall_ms);
    }
}

static void a_clock_that_is_slewed_for_days_is_followed(void **state) {
    struct machine machine = start();
    (void)state;
    for (int i = 0; i < 200000; i++) {
        machine.wall_ms += i % 2;
        assert_int_equal(run(&machine, SECOND_MS), 0);
        assert_int_equal(now(&machine), machine.wall_ms);
    }
}

static void a_leap_that_is_taken_back_changes_nothing(void **state) {
    const int64_t leaps[] = {HOUR_MS, -HOUR_MS, YEARS_MS, -YEARS_MS};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(leaps); i++) {
        struct machine machine = start();
        machine.wall_ms += leaps[i];
        assert_int_equal(run(&machine, HOUR_MS - SECOND_MS), 0);
        assert_int_equal(now(&machine), machine.wall_ms - leaps[i]);
        machine.wall_ms -= leaps[i];
        assert_int_equal(run(&machine, SECOND_MS), 0);
        assert_int_equal(now(&machine), machine.wall_ms);
        assert_int_equal(now(&machine), NOON_MS + HOUR_MS);
    }
}

static void a_leap_is_believed_when_it_has_stood_as_long_as_it_leapt(void **state) {
    const int64_t leaps[] = {10 * SECOND_MS, -10 * SECOND_MS, HOUR_MS, -HOUR_MS};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(leaps); i++) {
        int64_t distance = leaps[i] < 0 ? -leaps[i] : leaps[i];
        struct machine machine = start();
        machine.wall_ms += leaps[i];
        assert_int_equal(run(&machine, distance), 0);
        assert_int_equal(now(&machine), machine.wall_ms - leaps[i]);
        assert_int_equal(run(&machine, SECOND_MS), leaps[i]);
        assert_int_equal(now(&machine), machine.wall_ms);
    }
}

static void ten_years_are_believed_after_a_day(void **state) {
    const int64_t leaps[] = {YEARS_MS, -YEARS_MS};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(leaps); i++) {
        struct machine machine = start();
        machine.wall_ms += leaps[i];
        assert_int_equal(run(&machine, 24 * HOUR_MS), 0);
        assert_int_equal(run(&machine, SECOND_MS), leaps[i]);
        assert_int_equal(now(&machine), machine.wall_ms);
        assert_int_equal(run(&machine, 48 * HOUR_MS), 0);
    }
}

static void each_new_leap_is_doubted_anew(void **state) {
    struct machine machine = start();
    (void)state;
    for (int i = 0; i < 50; i++) {
        machine.wall_ms += i % 2 == 0 ? HOUR_MS : HOUR_MS / 2;
        assert_int_equal(run(&machine, HOUR_MS / 2), 0);
    }
    assert_int_equal(now(&machine), NOON_MS + 50 * HOUR_MS / 2);
}

static void a_leap_may_be_slewed_while_it_is_doubted(void **state) {
    struct machine machine = start();
    (void)state;
    machine.wall_ms += HOUR_MS;
    for (int i = 0; i < 3000; i++) {
        machine.wall_ms += 1;
        assert_int_equal(run(&machine, SECOND_MS), 0);
    }
    assert_int_equal(run(&machine, 600 * SECOND_MS), 0);
    assert_true(run(&machine, 10 * SECOND_MS) > HOUR_MS);
    assert_int_equal(now(&machine), machine.wall_ms);
}

static void a_sleep_is_no_leap(void **state) {
    struct machine machine = start();
    (void)state;
    machine.wall_ms += 8 * HOUR_MS;
    machine.pace_ms += (uint64_t)(8 * HOUR_MS);
    assert_int_equal(run(&machine, SECOND_MS), 0);
    assert_int_equal(now(&machine), machine.wall_ms);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_begins_with_the_wall_clock),
        cmocka_unit_test(small_steps_are_followed_at_once),
        cmocka_unit_test(a_clock_that_is_slewed_for_days_is_followed),
        cmocka_unit_test(a_leap_that_is_taken_back_changes_nothing),
        cmocka_unit_test(a_leap_is_believed_when_it_has_stood_as_long_as_it_leapt),
        cmocka_unit_test(ten_years_are_believed_after_a_day),
        cmocka_unit_test(each_new_leap_is_doubted_anew),
        cmocka_unit_test(a_leap_may_be_slewed_while_it_is_doubted),
        cmocka_unit_test(a_sleep_is_no_leap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
