/*
 * Work: what must happen later, happens. A task is a row of the tenant's `_work`, written in the
 * transaction of what it follows from; a handler that a module has declared for its kind is handed
 * it when it is due, until it says that the task is done.
 *
 *   bk_work_add ─> WAITING ── due ──> RUNNING ── done ──> gone, or DONE for as long as wanted
 *                   ^  ^                 │ │
 *        the one    │  └─ again, later ──┘ └─ fails for good, no attempt left, cancelled ─> DEAD
 *        before ends│                                                                        │
 *               BLOCKED   (ordered by key)           retry: WAITING, attempts from 0 <───────┘
 *
 * At least once: an attempt is on disk before its handler is called, and what it led to is on disk,
 * with the events of its end, before the task counts as ended. A crash between the two hands it
 * over again, one attempt later; a task that ends the process each time is dead after its last
 * attempt like any other. Its id is the same each time: handlers pass it on as idempotency key.
 *
 * Lanes. A lane is a kind's, `mail`, or a part of it that fails and waits alone, `webhooks/abc`:
 * with a number of tasks that run at once, a rate, an order, a breaker and a pause of its own.
 * Whoever hangs or fails hurts that lane only. Turns are fair over tenants, then over their lanes;
 * replays go into a lane of low priority beside each, `webhooks/abc/replay`, which gets what the
 * others leave. In memory there is one entry and one due time per lane that has tasks, and
 * those tasks that run: never the backlog.
 *
 * Time. What is due is judged by a clock that keeps its pace within a process whatever the wall
 * clock does, and rows of a future that never came (the clock was set back) are due after the delay
 * that they were given. A schedule adds a task once for each of its times, however often the clock
 * passes it, and one task for all the times that were missed.
 *
 * A tenant with tasks that run is held open; a closed one is opened when its next is due.
 *
 * Requests come first. What work does for itself it does in slices, on the loop and on the writer;
 * while requests come these are short, end when one waits, and with a backlog there is a pause
 * behind each. What handlers do is theirs: see bk_thread_lower_priority.
 *
 * Threads: on the loop, but for what takes a transaction, which is on the writer.
 */
#ifndef BAKEND_WORK_H
#define BAKEND_WORK_H

#include "bakend/feed.h"
#include "bakend/json.h"
#include "bakend/position.h"
#include "bakend/tenant.h"

enum {
    BK_WORK_PAYLOAD_MAX_BYTES = 256 * 1024,
    BK_WORK_LANE_MAX_BYTES = 200, /* of a lane's whole name */
    BK_WORK_KEY_MAX_BYTES = 200,
    BK_WORK_UNIQUE_MAX_BYTES = 300,
    BK_WORK_ERROR_MAX_BYTES = 1000, /* what is kept of a failure; the rest is cut */
    BK_WORK_LANES_MAX = 10000,      /* of a tenant with tasks that wait; more: BK_BUSY */
    BK_WORK_DELAY_MAX_DAYS = 3660,
    BK_WORK_ID_BYTES = 15, /* a record's id, ordered by time */
};

struct bk_work;
struct bk_work_task;
struct bk_module_context;

/* --- kinds ------------------------------------------------------------------------------------ */

/* How the tasks of a lane are handed over. 0 in any: its default. */
struct bk_work_lane_policy {
    uint32_t running_max;     /* at once; 1 by default */
    uint32_t rate_per_minute; /* begun, as a token bucket that holds a second's worth, at least 1;
                                 0: as fast as they come */
    /* By key: a task waits for the end of the one before it with the same key. One that is dead
     * holds nobody up. Of a lane's own policy: for what is added from then on. */
    bool is_ordered;
    /* Broken, it hands over nothing but one probe now and then, until one is done: after this many
     * failures in a row (again, or out of time; dead is a verdict on the task, and counts as done;
     * what is put off does not count).
     * 0: there is no breaker. */
    uint32_t breaker_failures;
    uint32_t breaker_first_ms, breaker_max_ms; /* to the first probe, doubling; 30 s and 10 min */
    uint32_t timeout_ms;                       /* of an attempt; the kind's by default */
};

enum bk_work_outcome { BK_WORK_DONE, BK_WORK_AGAIN, BK_WORK_DEAD };

/* How an attempt ended, for the transaction that records it. */
struct bk_work_end {
    enum bk_work_outcome outcome;
    struct bk_slice id, lane, key, payload, cause, actor;
    uint32_t attempt;       /* 1 for the first */
    uint32_t depth;         /* of the origin of what is caused here; the transaction has it */
    struct bk_slice error;  /* AGAIN and DEAD */
    struct bk_slice result; /* as the handler gave it; empty after a timeout or a crash */
    int64_t due_ms;         /* AGAIN: of the next attempt, as in its row */
};

/* Declared by a module as a constant. user of its callbacks: the module's context. */
struct bk_work_kind {
    const char *name;     /* "mail": of [a-z0-9_-] */
    uint32_t timeout_ms;  /* of an attempt; 0: 30 s */
    uint32_t attempt_max; /* 0: 10 */
    /* Between attempts, ± 20 %; the last one for all that follow. NULL: 5 s, 30 s, 2 min, 10 min,
     * 30 min, 2 h, 5 h, 10 h, 14 h. */
    const uint32_t *backoff_ms;
    size_t backoff_count;
    struct bk_work_lane_policy lane;
    uint64_t done_kept_ms; /* 0: a task that is done is gone */
    const char *schedule;  /* a cron expression (UTC): one task of each tenant; NULL: none */
    bool is_operators;     /* its schedule is of the tenant "default" alone */
    bool has_secrets;      /* its payload is shown to nobody, and sealed on disk */
    /* On the loop, when an attempt begins. Must not block. It ends with one call of bk_work_done,
     * bk_work_again, bk_work_dead or bk_work_postpone, now or later. */
    void (*on_task)(struct bk_work_task *task, void *user);
    /* Its end is wished for. task says how much:
     *   is_cancelled  it is of no use any more: it ran out of time, or was cancelled, or its tenant
     *                 is being deleted. To be ended at once. What it answers after a timeout no
     *                 longer counts, but its call still ends the task's life.
     *   is_stopping   alone: the program stops, and waits for it for the rest of the grace. What is
     *                 nearly over, or would happen twice, goes on; what can wait ends with again or
     *                 postpone, which cost no attempt then.
     * Called once for each, so twice when it is cancelled, or out of time, while the program stops.
     * NULL: it cannot be hastened. */
    void (*on_cancel)(struct bk_work_task *task, void *user);
    /* On the loop: a lane was broken by its failures, or is whole again: a task of it was done, or
     * it has had none for so long that it was forgotten. In turns, from broken on, while its tenant
     * is open; not told again after that. Must not answer tasks. NULL: nobody asks. */
    void (*on_lane)(struct bk_tenant *tenant, struct bk_slice lane, bool is_broken, void *user);
    /* On the writer, in the transaction that records an attempt: emits events, writes rows. The
     * transaction's origin is the task's cause and actor meanwhile. Any status but BK_OK fails the
     * attempt with that, and then only that is recorded. NULL: nothing. */
    enum bk_status (*on_end)(struct bk_transaction *transaction, const struct bk_work_end *end,
                             void *user);
};

/* --- adding ----------------------------------------------------------------------------------- */

struct bk_work_draft {
    const char *kind;
    struct bk_slice lane;    /* behind the kind: "abc" of "webhooks/abc"; empty: the kind's own */
    struct bk_slice key;     /* of an ordered lane */
    struct bk_slice payload; /* JSON; empty: null */
    uint64_t delay_ms;
    bool is_replay;
    /* Of what it is made from ("webhooks/abc evt_…"): while a task of the same one is there, it is
     * not added again; kinds do not share them. Empty: always. */
    struct bk_slice unique;
    struct bk_slice cause; /* id of the event that led to it; empty: the write's origin's */
    struct bk_slice actor; /* likewise */
};

/* On the writer: a row of the same transaction, taken back with it. id: BK_WORK_ID_BYTES and NUL,
 * of the task that is there when unique found one; may be NULL. BK_NOT_FOUND: no such kind.
 * BK_TOO_LARGE: payload, lane, key or unique. BK_INVALID: payload is no JSON, a delay past the
 * maximum. */
enum bk_status bk_work_add(struct bk_work *work, struct bk_transaction *transaction,
                           const struct bk_work_draft *draft, char *id);

/* On the loop: for an event that a position was handed (and answers BK_HANDED_TAKEN for): adds the
 * task, once even if the event is handed over again before it ends, and acknowledges the event when
 * it is on disk, or fails it. draft's texts are copied; unique and cause are the event's. */
void bk_work_add_from(struct bk_work *work, struct bk_position *position, struct bk_event *event,
                      const struct bk_work_draft *draft);
/* Before a position is closed whose events may be under way here: they are added, and nobody is
 * told. */
void bk_work_forget(struct bk_work *work, const struct bk_position *position);

/* --- an attempt ------------------------------------------------------------------------------- */

struct bk_work_task {
    struct bk_tenant *tenant; /* held while it runs */
    struct bk_slice id, lane, key, payload, cause, actor;
    uint32_t attempt;  /* 1 for the first */
    uint32_t depth;    /* with cause and actor: for the origin of what the handler writes */
    bool is_last;      /* no attempt follows */
    bool is_cancelled; /* it is of no use any more: see on_cancel */
    bool is_stopping;  /* the program stops, or its tenant goes: then again is no attempt */
    void *state;       /* the handler's; NULL at first */
};

/* Each ends it: task is gone. Texts are copied. result: for on_end. */
void bk_work_done(struct bk_work_task *task, struct bk_slice result);
/* delay_ms: at least so long (Retry-After); 0: as its kind backs off. Dead after the last one. */
void bk_work_again(struct bk_work_task *task, uint64_t delay_ms, struct bk_slice error,
                   struct bk_slice result);
/* The same, for a reason of the task's own, as a recipient who is greylisted: neither a failure of
 * its lane nor a sign that it works. */
void bk_work_put_off(struct bk_work_task *task, uint64_t delay_ms, struct bk_slice error,
                     struct bk_slice result);
void bk_work_dead(struct bk_work_task *task, struct bk_slice error, struct bk_slice result);
/* Not an attempt: comes again after delay_ms, as if it had never begun; after 100 ms at least, so
 * that one who postpones always is not called as fast as the disk can write. */
void bk_work_postpone(struct bk_work_task *task, uint64_t delay_ms);
/* It waits for a place that others have: until bk_work_go its time stands still, and then begins
 * anew. Who waits must be sure that it ends. */
void bk_work_wait(struct bk_work_task *task);
void bk_work_go(struct bk_work_task *task);
/* Shown in _work, stored now and then, and with its end. */
void bk_work_set_progress(struct bk_work_task *task, uint64_t done, uint64_t total);

/* --- lanes ------------------------------------------------------------------------------------ */

/* Another policy than the kind's, for as long as the tenant is open; NULL: the kind's again. */
void bk_work_lane_set_policy(struct bk_work *work, struct bk_tenant *tenant, struct bk_slice name,
                             const struct bk_work_lane_policy *policy);
/* Hands over nothing of it for so long (Retry-After of the peer behind it). */
void bk_work_lane_rest(struct bk_work *work, struct bk_tenant *tenant, struct bk_slice name,
                       uint64_t delay_ms);
/* Begins now what is due later because of a breaker or a rest. */
void bk_work_lane_wake(struct bk_work *work, struct bk_tenant *tenant, struct bk_slice name);

enum bk_work_lane_state {
    BK_WORK_LANE_OPEN,
    BK_WORK_LANE_PAUSED, /* by hand, until it is resumed; survives a restart */
    BK_WORK_LANE_RESTING,
    BK_WORK_LANE_BROKEN, /* its breaker hands over probes only */
    BK_WORK_LANE_STUCK   /* its handlers have not come back after their timeouts */
};
struct bk_work_lane_facts {
    struct bk_slice name; /* borrowed for the call */
    const struct bk_work_kind *kind;
    enum bk_work_lane_state state;
    uint32_t running;
    int64_t due_ms; /* of the first that waits, as in its row; INT64_MAX: none */
};
/* Those of an open tenant that are paused or have tasks, by name. */
void bk_work_for_each_lane(struct bk_work *work, struct bk_tenant *tenant,
                           void (*on_lane)(void *user, const struct bk_work_lane_facts *facts),
                           void *user);

/* --- by hand: on the writer, in a transaction ------------------------------------------------- */

/* DEAD or WAITING: it is due now, with all its attempts again. BK_NOT_FOUND; BK_CONFLICT: it runs
 * or is done. */
enum bk_status bk_work_retry(struct bk_work *work, struct bk_transaction *transaction,
                             struct bk_slice id);
/* WAITING: it is dead at once. RUNNING: its handler is asked to end, and no attempt follows. */
enum bk_status bk_work_cancel(struct bk_work *work, struct bk_transaction *transaction,
                              struct bk_slice id);
/* The row goes. BK_CONFLICT: it runs (cancel it first). */
enum bk_status bk_work_drop(struct bk_work *work, struct bk_transaction *transaction,
                            struct bk_slice id);
enum bk_status bk_work_pause(struct bk_work *work, struct bk_transaction *transaction,
                             struct bk_slice lane);
enum bk_status bk_work_resume(struct bk_work *work, struct bk_transaction *transaction,
                              struct bk_slice lane);
/* All that waits in a lane goes, and in that of the replays beside it: what was added before this,
 * and not what is added after. None of it begins once this is on disk; the rows go in slices, so
 * that a million of them hold up nobody. What runs is cancelled; what is dead or done stays. For
 * who deletes what the lane is for. BK_NOT_FOUND: no such kind. BK_INVALID: the name. BK_LIMIT:
 * BK_WORK_LANES_MAX are being cleared. */
enum bk_status bk_work_clear(struct bk_work *work, struct bk_transaction *transaction,
                             struct bk_slice lane);

/* --- schedules -------------------------------------------------------------------------------- */

/* A task of kind at each time of a cron expression (five fields or a macro, UTC). A kind's own
 * schedule has the kind's name. What is declared while the tenant is open and differs from what is
 * stored begins at its next time. While its task of an earlier time waits or runs, no other is
 * added for a time that comes. */
struct bk_work_schedule {
    struct bk_slice name; /* 1..200 bytes, unique in the tenant */
    const char *kind;
    struct bk_slice lane, payload; /* as in a draft */
    struct bk_slice expression;
};
enum bk_status bk_work_schedule_put(struct bk_work *work, struct bk_transaction *transaction,
                                    const struct bk_work_schedule *schedule,
                                    struct bk_error *error);
enum bk_status bk_work_schedule_remove(struct bk_work *work, struct bk_transaction *transaction,
                                       struct bk_slice name);
/* One task of it now, beside its times. */
enum bk_status bk_work_schedule_run(struct bk_work *work, struct bk_transaction *transaction,
                                    struct bk_slice name);
struct bk_work_schedule_facts {
    struct bk_work_schedule schedule;
    int64_t next_ms, last_ms; /* wall time; last 0: never */
};
/* Any thread that has the connection; by name. */
enum bk_status
bk_work_schedule_each(struct bk_connection *connection,
                      void (*on_schedule)(void *user, const struct bk_work_schedule_facts *facts),
                      void *user);
/* What is wrong with an expression, in the arena, in the words of the contract; empty: nothing. */
struct bk_slice bk_cron_problem(struct bk_slice expression, struct bk_arena *arena);
/* The first time of a right expression after wall_ms (UTC); INT64_MAX: it never comes (31
 * February). */
int64_t bk_cron_next_ms(struct bk_slice expression, int64_t wall_ms);

/* --- the part --------------------------------------------------------------------------------- */

struct bk_work_options {
    struct bk_loop *loop;
    struct bk_store *store;
    struct bk_tenants *tenants;
    struct bk_log log;
    const char
        *data_directory;   /* instance.db, which can be rebuilt: when each tenant is next due */
    uint32_t running_max;  /* of all tenants; 0: 256 */
    uint64_t dead_kept_ms; /* 0: 30 days */
    struct bk_slice instance_key; /* payloads with secrets are sealed under a key made of it */
};
struct bk_work *bk_work_create(const struct bk_work_options *options);
void bk_work_destroy(struct bk_work *work);
/* At init. BK_EXISTS. user of its callbacks. */
enum bk_status bk_work_add_kind(struct bk_work *work, const struct bk_work_kind *declared,
                                void *user);
/* What ends of itself, for who emits the event of it (modules/jobs): on the writer, in the
 * transaction that makes a task of any kind dead, after its kind's on_end. One owner, at init. */
void bk_work_on_dead(struct bk_work *work,
                     enum bk_status (*on_dead)(struct bk_transaction *transaction,
                                               const struct bk_work_kind *kind,
                                               const struct bk_work_end *end, void *user),
                     void *user);
/* Modules have started: tasks are handed over from now on. Not called when the program was opened
 * for one command. */
void bk_work_start(struct bk_work *work);
/* Nothing is handed over any more; handlers are told (is_stopping), and what has not ended after
 * grace_ms is left to the next start. stopped comes once, on the loop, before modules stop. */
void bk_work_stop(struct bk_work *work, uint64_t grace_ms, void (*stopped)(void *user), void *user);
/* The program stops, and somebody has not finished what he does in an open tenant without a task:
 * it is opened at the next start, whatever is due in it. */
void bk_work_wake_at_start(struct bk_work *work, struct bk_tenant *tenant);
/* When all tenants are closed, before the store goes: what was noted of them is stored; closed on
 * the loop. */
void bk_work_close(struct bk_work *work, void (*closed)(void *user), void *user);

/* The definition of the system collection `_work`, which modules/jobs declares (role state,
 * closed). */
extern const char bk_work_definition[];

/* For metrics: open tenants, by kind; lanes too many to name each. */
struct bk_work_figures {
    const struct bk_work_kind *kind;
    uint32_t lanes, lanes_paused, lanes_broken, lanes_stuck, running;
    /* That wait though their time has come, as of the last count, < 15 s ago. */
    uint64_t due;
    uint64_t waiting, dead; /* likewise */
    int64_t oldest_ms;      /* age of the first that is due; 0: none is */
    uint64_t added, attempts, done, again, died, timeouts; /* ever since the start */
};
/* At most count kinds; returns how many. */
size_t bk_work_figures(struct bk_work *work, struct bk_work_figures *figures, size_t count);

#endif
