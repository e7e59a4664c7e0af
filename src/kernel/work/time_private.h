/* When: the clock of dues, schedules, and closed tenants that are opened when they are due. It is
 * included by work_private.h. */
#ifndef BAKEND_WORK_TIME_PRIVATE_H
#define BAKEND_WORK_TIME_PRIVATE_H

#include "bakend/work.h"

/* --- clock.c: work time, by which dues are made and judged ------------------------------------ */

enum {
    /* What lies further ahead than that was set in a future that never came. A row's time may be so
     * much ahead by right: the clock follows small steps back at once. */
    WORK_FUTURE_MS = 60 * 1000,
    WORK_SLEW_MS = 5 * 1000,                 /* steps of the wall clock that are followed at once */
    WORK_DOUBT_MAX_MS = 24 * 60 * 60 * 1000, /* no leap is doubted for longer */
    WORK_LOOK_MS = 1000,
};

struct work_clock {
    int64_t offset_ms; /* from the pace to work time; atomic: any thread reads it */
    bool is_doubting;
    int64_t doubted_ms;    /* the offset that the wall clock stands by */
    uint64_t doubts_at_ms; /* of the pace: since when */
};

/* Milliseconds that nobody sets; they pass while the machine sleeps, too. Any thread. */
uint64_t work_clock_pace_ms(void);
/* Believes the wall clock. */
void work_clock_init(struct work_clock *clock);
/* Work time. Any thread. */
int64_t work_clock_now_ms(const struct work_clock *clock);
/* On the loop, each WORK_LOOK_MS: follows the wall clock, or doubts it. Returns by how much work
 * time has leapt; 0: not at all, or by a small step. */
int64_t work_clock_look(struct work_clock *clock, int64_t wall_ms, uint64_t pace_ms);

/* --- repair.c: rows of a future that never came ----------------------------------------------- */

/* Whether there may be any, or a repair is under way. Any thread that has the connection. */
enum bk_status work_repair_is_needed(struct bk_connection *connection, int64_t now_ms,
                                     bool *needed);
/* On the writer: a slice. is_done: nothing (more) is to be done in this tenant, and its schedules
 * are judged, too (read work_schedule_next again). */
enum bk_status work_repair(struct bk_transaction *transaction, int64_t now_ms, uint32_t row_limit,
                           bool *is_done);

/* --- schedule.c ------------------------------------------------------------------------------- */

extern const struct bk_migration work_schedule_migrations[];
extern const size_t work_schedule_migration_count;
/* On the writer, when a tenant is opened: puts the schedules of kinds, removes those of kinds that
 * have none any more, and judges the times that are stored. */
enum bk_status work_schedule_prepare(struct bk_work *work, struct bk_transaction *transaction,
                                     struct bk_error *error);
/* The first time of any; INT64_MAX: there is none. */
enum bk_status work_schedule_next(struct bk_connection *connection, int64_t *next_ms);
/* On the writer: adds the tasks of those whose time has come, at most WORK_SCHEDULE_TURN_MAX.
 * next_ms: the first time of those that are left. */
enum { WORK_SCHEDULE_TURN_MAX = 64 };
enum bk_status work_schedule_turn(struct bk_work *work, struct bk_transaction *transaction,
                                  int64_t now_ms, int64_t *next_ms);
/* On the writer: the times that were found with a clock that has leapt are found again. */
enum bk_status work_schedule_judge(struct bk_transaction *transaction, int64_t now_ms);

/* --- instance.c: data/instance.db ------------------------------------------------------------- */

struct work_instance;

/* Nothing is opened yet: that comes with the first tenant, or with the start. */
struct work_instance *work_instance_create(struct bk_work *work,
                                           const struct bk_work_options *options,
                                           struct work_clock *clock);
/* From now on tenants are opened when they are due. */
void work_instance_start(struct work_instance *instance);
void work_instance_tenant_opened(struct work_instance *instance, struct bk_tenant *tenant);
/* What is due in it has begun, or is known. */
void work_instance_tenant_settled(struct work_instance *instance, struct bk_tenant *tenant);
/* due_ms: of the first of its tasks and schedules; INT64_MAX: it has none. */
void work_instance_tenant_closed(struct work_instance *instance, struct bk_tenant *tenant,
                                 int64_t due_ms);
/* No tenant is opened any more. */
void work_instance_stop(struct work_instance *instance);
/* When all tenants are closed: what was told is stored, the file is closed; closed on the loop. */
void work_instance_close(struct work_instance *instance, void (*closed)(void *user), void *user);
void work_instance_destroy(struct work_instance *instance);

/* --- turn.c ----------------------------------------------------------------------------------- */

/* Work time has leapt, or the machine has slept: all that waits is looked at again. */
void work_time_leapt(struct bk_work *work);

#endif
