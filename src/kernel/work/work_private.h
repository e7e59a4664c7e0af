/* What the files of the work share. On the loop, but for what says that it is on the writer. */
#ifndef BAKEND_WORK_PRIVATE_H
#define BAKEND_WORK_PRIVATE_H

#include "bakend/work.h"

#include "heap.h"
#include "time_private.h"

#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/mailbox.h"
#include "bakend/map.h"
#include <pthread.h>

enum {
    WORK_KINDS_MAX = 256,
    WORK_ROUND_TASKS_MAX = 256, /* claimed in one transaction: a few ms of the writer */
    WORK_ROUND_ENDS_MAX = 512,  /* recorded in one */
    WORK_ROUND_LANES_MAX = 256, /* asked in one */
    WORK_COURTEOUS_TASKS_MAX = 64,
    WORK_PROGRESS_MAX = 64,     /* stored in one */
    WORK_SCAN_LANES_MAX = 1000, /* found in one when a tenant opens */
    WORK_REPAIR_ROWS_MAX = 500,
    WORK_MOVE_ROWS_MAX = 1000, /* from the inbox in one: about 10 ms of the writer … */
    WORK_MOVE_SLICE_ROWS = 16, /* … with a look at who waits after so many */
    WORK_PRUNE_ROWS_MAX = 200,
    WORK_HINTS_MAX = 1000, /* lanes that writers tell of between two turns: past it all are read */
    WORK_LEASE_EXTRA_MS = 60 * 1000,
};

/* --- SQL: table.c ----------------------------------------------------------------------------- */

enum work_sql {
    WORK_SQL_HAS_TABLE,
    WORK_SQL_INSERT,
    WORK_SQL_INBOX_ADD,
    WORK_SQL_INBOX_END,
    WORK_SQL_INBOX_MOVE,
    WORK_SQL_INBOX_RENAME,
    WORK_SQL_INBOX_CLEAR,
    WORK_SQL_INBOX_DUE,
    WORK_SQL_FIND_UNIQUE,
    WORK_SQL_FIND_CHAIN,
    WORK_SQL_INSERT_SECRET,
    WORK_SQL_READ_SECRET,
    WORK_SQL_DELETE_SECRET,
    WORK_SQL_FIND_DUE,
    WORK_SQL_CLAIM,
    WORK_SQL_NEXT_LANE,
    WORK_SQL_HAS_LANE,
    WORK_SQL_FIND_ORPHANS,
    WORK_SQL_HAS_RUNNING,
    WORK_SQL_FIND_CANCELLED,
    WORK_SQL_FIND_PAUSED,
    WORK_SQL_COUNT_PAUSED,
    WORK_SQL_PAUSE,
    WORK_SQL_RESUME,
    WORK_SQL_COUNT_CLEARINGS,
    WORK_SQL_HAS_CLEARINGS,
    WORK_SQL_CLEARING_ADD,
    WORK_SQL_CLEARING_FIND,
    WORK_SQL_CLEARING_FIRST,
    WORK_SQL_CLEARING_MOVE,
    WORK_SQL_CLEARING_END,
    WORK_SQL_CLEARING_BLOCKED,
    WORK_SQL_CLEARING_WAITING,
    WORK_SQL_CLEARING_TASK,
    WORK_SQL_CANCEL_LANE,
    WORK_SQL_DELETE,
    WORK_SQL_IS_CANCELLED,
    WORK_SQL_WAIT,
    WORK_SQL_END,
    WORK_SQL_UNBLOCK,
    WORK_SQL_PROGRESS,
    WORK_SQL_FIND,
    WORK_SQL_RETRY,
    WORK_SQL_CANCEL_RUNNING,
    WORK_SQL_FIND_EXPIRED,
    WORK_SQL_FIRST_EXPIRES,
    WORK_SQL_STORE_TIME,
    WORK_SQL_COUNT_WAITING,
    WORK_SQL_COUNT_DUE,
    WORK_SQL_COUNT_DEAD,
    WORK_SQL_COUNT
};

/* --- kinds ------------------------------------------------------------------------------------ */

struct work_kind {
    const struct bk_work_kind *declared;
    struct bk_slice name;
    void *user; /* of its callbacks */
    uint32_t timeout_ms, attempt_max;
    struct bk_work_lane_policy policy; /* with the defaults filled in */
    uint32_t index;                    /* in bk_work.kinds */
    uint64_t added;                    /* by writers: atomic */
    uint64_t attempts, done, again, died, timeouts;
};

/* --- an attempt ------------------------------------------------------------------------------- */

enum work_answer { WORK_UNANSWERED, WORK_DONE, WORK_AGAIN, WORK_DEAD, WORK_POSTPONED };

/* Hooks that are not called, since they failed. */
enum { WORK_SKIP_ON_END = 1, WORK_SKIP_ON_DEAD = 2 };

/* What the writer has recorded of an end. */
struct work_record {
    enum work_answer answer; /* what it came to; WORK_UNANSWERED: its row was gone */
    bool is_cancelled;
    int64_t due_ms;     /* a task of the lane is due then: this one, or the next of its key;
                                INT64_MAX: none */
    int64_t expires_ms; /* INT64_MAX: it does not */
};

/* A task that was claimed. It lives until its handler has answered and its end is on disk. Made on
 * the writer, with its texts behind it. */
struct work_attempt {
    struct bk_work_task task;
    struct work_kind *kind;
    struct work_tenant *of; /* NULL: what it answers counts no more */
    struct work_lane *lane; /* likewise */
    struct bk_list link;    /* bk_work.unbegun or lost, work_tenant.handled, ended or late */
    struct work_heap_node timeout;
    int64_t rowid;
    enum work_answer answer;
    bool is_in_handler; /* its handler was called and has not answered */
    bool is_put_off;    /* again, but no failure of its lane */
    bool is_late;       /* it ran out of time: what its handler answers does not count */
    bool is_recording;  /* the round in flight records it */
    bool is_chained;    /* by its key: when it ends, the next may begin */
    bool is_orphan;     /* it ran when the program ended */
    bool is_shut;       /* its payload does not open: see secret.c */
    bool is_probe, has_progress;
    uint32_t skips; /* WORK_SKIP_… */
    uint32_t timeout_ms;
    enum bk_status hook_status;
    uint64_t delay_ms;
    char *error, *result;
    size_t error_length, result_length;
    uint64_t progress_done, progress_total;
    struct work_record record;
};

/* --- lanes ------------------------------------------------------------------------------------ */

enum work_lane_place { WORK_LANE_NOWHERE, WORK_LANE_LATER, WORK_LANE_READY };

struct work_lane {
    struct work_tenant *of;
    struct work_kind *kind;
    struct bk_slice name; /* in this allocation */
    struct bk_list link;  /* work_tenant.ready[is_replay] */
    struct work_heap_node later;
    enum work_lane_place place;
    struct bk_work_lane_policy policy;
    bool has_own_policy, is_replay, is_paused;
    bool is_asked;      /* the round in flight asks it */
    int64_t head_ms;    /* of the first that waits, as far as known; INT64_MAX: none */
    uint32_t running;   /* claimed and not answered */
    uint32_t abandoned; /* handlers that have not come back after their timeouts */
    uint32_t ended;     /* answered and not on disk yet */
    int64_t rest_ms;    /* it rests until then */
    int64_t full_us;    /* when the bucket of its rate is full again */
    uint32_t failures;  /* in a row */
    uint32_t breaks;    /* 1 when it broke, and one more for each probe that failed; 0: whole */
    int64_t probe_ms;   /* when the next probe may begin */
    bool is_probing;
};

/* --- what writers tell the loop --------------------------------------------------------------- */

/* A lane has a task due then. A hint: the transaction may be taken back. */
struct work_hint {
    struct work_hint *next;
    int64_t due_ms;
    struct bk_slice lane; /* in this allocation */
};

/* Under the work's lock. */
struct work_hints {
    struct work_hint *first;
    uint32_t count;
    uint32_t task_count; /* told of: several may be one hint */
    bool is_overflown, has_pauses, has_cancels, has_clearings;
    int64_t schedule_ms; /* INT64_MAX: nothing was said */
};

/* --- a round ---------------------------------------------------------------------------------- */

/* Of a task that runs; copied, since it may end meanwhile. */
struct work_progress {
    int64_t rowid;
    char id[BK_WORK_ID_BYTES];
    uint64_t done, total;
};

/* What a lane is asked, and what was found. */
struct work_claim {
    struct work_lane *lane;
    uint32_t room, timeout_ms;
    int64_t head_ms;
};

struct work_found {
    struct bk_slice lane; /* in its own allocation */
    int64_t due_ms;
};

/* What else a round does for its tenant. */
enum {
    WORK_WANTS_ORPHANS = 1, /* what ran when the program ended */
    WORK_WANTS_REPAIR = 2,  /* rows of a future that never came */
    WORK_WANTS_SCAN = 4,    /* all lanes with tasks that wait */
    WORK_WANTS_PAUSES = 8,
    WORK_WANTS_CANCELS = 16,
    WORK_WANTS_LEASES = 32, /* rows that run without an attempt in memory */
    WORK_WANTS_PRUNE = 64,
    WORK_WANTS_SCHEDULES = 128,
    WORK_WANTS_PROGRESS = 256,
    WORK_WANTS_EXPIRES = 512,
    WORK_WANTS_MOVE = 1024,  /* what came into the inbox */
    WORK_WANTS_CLEAR = 2048, /* lanes are to be cleared; comes with the one before */
    WORK_WANTS_AT_OPENING = WORK_WANTS_ORPHANS | WORK_WANTS_REPAIR | WORK_WANTS_SCAN |
                            WORK_WANTS_PAUSES | WORK_WANTS_EXPIRES | WORK_WANTS_MOVE |
                            WORK_WANTS_CLEAR
};

/* How far a round came. */
enum { WORK_STEP_ENDS, WORK_STEP_WISHES, WORK_STEP_OVER };

/* One background write. */
struct work_round {
    struct bk_write write;
    bool is_flying;
    /* Asked. */
    int64_t now_ms, age_ms;
    uint64_t budget_ns; /* of the writer's time */
    uint32_t row_min;   /* of each kind of row, whoever waits: see work_round_is_over */
    bool is_behind;     /* its tenant was when it began */
    bool is_first;      /* or one of the first: its tenant was not known then */
    bool stores_time;
    uint32_t wants;
    struct work_attempt **ends;
    uint32_t end_count;
    struct work_progress *progress;
    uint32_t progress_count;
    struct work_claim *claims;
    uint32_t claim_count, reserved, reserved_replay;
    char scan_from[BK_WORK_LANE_MAX_BYTES];
    size_t scan_from_length;
    /* Answered. */
    uint64_t began_ns, part_ns;
    uint32_t row_count;  /* of what it is at: see work_round_is_over */
    uint32_t end_done;   /* of the ends: those behind are left for the next round */
    uint32_t claim_done; /* and of the claims */
    bool has_no_table;
    uint32_t done;                   /* of wants: what is over */
    struct bk_list claimed, orphans; /* work_attempt.link */
    struct work_found *found;
    uint32_t found_count;
    struct bk_buffer paused; /* names, each ended by a NUL */
    char (*cancelled)[BK_WORK_ID_BYTES];
    uint32_t cancelled_count;
    int64_t schedule_ms, expires_ms;
    uint32_t step;      /* WORK_STEP_… that the writer came to */
    int64_t failed_end; /* the index of the end whose hook failed; -1: none */
    uint32_t failed_hook;
};

/* --- a tenant --------------------------------------------------------------------------------- */

struct work_tenant {
    struct bk_work *work;
    struct bk_tenant *tenant;
    struct bk_list link;       /* bk_work.tenants */
    struct bk_list ready_link; /* bk_work.ready: has something for a round */
    struct bk_map lanes;
    uint32_t lane_count;     /* atomic: writers read it */
    struct bk_list ready[2]; /* work_lane.link; the second: replays */
    struct bk_list handled, ended, late;
    uint32_t attempt_count; /* unbegun, running, ended, recording and late */
    uint32_t end_max;       /* of the next round: after a hook that failed, those up to it */
    uint32_t wants;
    struct work_round round;
    uint32_t done; /* of wants, once at least */
    bool is_known; /* its first rounds are over */
    bool is_held, is_leaving, is_closed, has_no_table;
    bool has_lost;       /* tasks that ran when the grace was over: their rows say so */
    bool has_unfinished; /* what is no task: it is opened at the next start */
    bool ends_alone;     /* what else the last round wished for has failed */
    bool is_behind;      /* the last round has left something that could be done at once */
    bool replays_first;  /* the last round did not come to them */
    uint32_t task_count; /* that were told of since the last round began */
    uint32_t failures;   /* of rounds, in a row */
    uint32_t *running;   /* claimed and not answered, by kind */
    int64_t schedule_ms; /* the next of its schedules; INT64_MAX: none */
    int64_t expires_ms;  /* of the first that is to be pruned; INT64_MAX: none */
    int64_t retry_ms;    /* a round failed: no other before that */
    int64_t stored_time_ms;
    int64_t lease_ms;            /* when the last lease of what it has claimed is over */
    int64_t move_ms;             /* when the inbox is emptied at the latest */
    int64_t progress_ms;         /* of the last round that stored progress */
    struct work_heap_node later; /* the first of schedule_ms, retry_ms and progress */
    struct bk_task release;
    char scan_from[BK_WORK_LANE_MAX_BYTES];
    size_t scan_from_length;
    /* Under the work's lock. */
    struct work_hints hints;
    bool is_posted;
    struct bk_message message;
    int64_t cleared_ms;    /* of the last wish to clear a lane: what was added by then goes */
    struct bk_map ordered; /* of lanes with their own policy: whether they are ordered by key */
    /* Counting. */
    struct work_count *count;
};

/* --- the part --------------------------------------------------------------------------------- */

enum work_phase { WORK_CREATED, WORK_STARTED, WORK_STOPPING, WORK_STOPPED };

struct bk_work {
    struct bk_loop *loop;
    struct bk_store *store;
    struct bk_tenants *registry;
    struct bk_log log;
    enum work_phase phase;
    uint32_t slot, running_max;
    uint64_t dead_kept_ms;
    uint8_t secret_key[BK_KEY_BYTES];
    struct bk_sql sql[WORK_SQL_COUNT];
    struct bk_migration *migrations;
    struct work_kind *kinds[WORK_KINDS_MAX];
    size_t kind_count;
    enum bk_status (*on_dead)(struct bk_transaction *transaction, const struct bk_work_kind *kind,
                              const struct bk_work_end *end, void *user);
    void *on_dead_user;
    struct work_clock clock;
    struct work_instance *instance;
    struct bk_list tenants;
    struct bk_list ready;   /* work_tenant.ready_link, in turn */
    struct bk_list unbegun; /* claimed; their handlers are called in slices */
    struct bk_list lost;    /* nobody waits for them any more, and their handlers are not back */
    uint32_t running_count, replay_count;           /* claimed and not answered */
    uint32_t reserved_count, reserved_replay_count; /* may be claimed by rounds in flight */
    uint32_t flying_count, attempt_count;
    uint32_t busy_count; /* tenants with attempts */
    struct bk_task turn, begin, stopping;
    struct bk_timer *timer;
    uint64_t timer_ms;         /* of the loop's time, when it runs; 0: it does not */
    struct work_heap later;    /* lanes and tenants, by work time */
    struct work_heap timeouts; /* attempts, by the loop's time */
    struct bk_timer *upkeep;
    /* Making room for requests. */
    struct bk_timer *pause;
    bool is_pausing;
    uint32_t behind_count; /* rounds in flight of tenants that are behind */
    /* Stopping. */
    struct bk_timer *grace;
    bool is_grace_over;
    void (*stopped)(void *user);
    void *stopped_user;
    /* Events that are being added. */
    struct bk_list intakes;
    /* Counting. */
    struct bk_timer *counting; /* NULL: nobody has asked yet */
    uint64_t counted_ms, asked_ms;
    struct bk_list counts; /* work_count.link: to be counted, one after the other */
    /* From writers. */
    pthread_mutex_t lock;
    struct bk_map names; /* open tenants by name; under the lock */
    struct bk_mailbox *mailbox;
};

/* --- table.c ---------------------------------------------------------------------------------- */

extern const struct bk_migration work_table_migrations[];
extern const size_t work_table_migration_count;
void work_sql_init(struct bk_work *work);
/* Whatever thread has the connection. */
enum bk_status work_statement(const struct bk_work *work, struct bk_connection *connection,
                              enum work_sql sql, struct bk_statement **statement);
/* A time as the rows have it, and back; 0 for an empty one. */
void work_time_write(char out[BK_TIME_TEXT_BYTES], int64_t time_ms);
int64_t work_time_read(struct bk_slice text);
/* room lives until the statement is reset. */
void work_bind_time(struct bk_statement *statement, int index, char room[BK_TIME_TEXT_BYTES],
                    int64_t time_ms);

/* --- work.c ----------------------------------------------------------------------------------- */

size_t work_kind_count(const struct bk_work *work);
const struct bk_work_kind *work_kind_at(const struct bk_work *work, size_t index);
const struct bk_work_kind *work_kind_find(struct bk_work *work, const char *name);
struct work_kind *work_kind_of_name(const struct bk_work *work, struct bk_slice name);
/* Of a lane: what is before the first "/". */
struct work_kind *work_kind_of_lane(const struct bk_work *work, struct bk_slice lane);
struct work_clock *work_clock_of(struct bk_work *work);
/* Work time. Any thread. */
int64_t work_now_ms(const struct bk_work *work);
void work_policy_fill(const struct work_kind *kind, struct bk_work_lane_policy *policy);

/* --- hint.c: from writers to the loop --------------------------------------------------------- */

/* On the writer, about the transaction's tenant. A lane has a task that is due then. */
void work_note_due(struct bk_work *work, struct bk_transaction *transaction, struct bk_slice lane,
                   int64_t due_ms);
/* Its next schedule is at that time. */
void work_note_schedule(struct bk_work *work, struct bk_transaction *transaction, int64_t next_ms);
void work_note_pauses(struct bk_work *work, struct bk_transaction *transaction);
void work_note_cancel(struct bk_work *work, struct bk_transaction *transaction);
/* Lanes are to be cleared of what was added by then. */
void work_note_clearing(struct bk_work *work, struct bk_transaction *transaction,
                        int64_t cleared_ms);
/* Whether a lane's tasks are ordered by key; and whether there is room for one more lane. */
bool work_lane_is_ordered(struct bk_work *work, struct bk_transaction *transaction,
                          const struct work_kind *kind, struct bk_slice lane);
bool work_lanes_are_full(struct bk_work *work, struct bk_transaction *transaction,
                         int64_t *cleared_ms);
/* On the loop. */
void work_hints_open(struct work_tenant *tenant);
/* False: a message is under way, and the tenant is freed when it comes; *due_ms is the first of
 * what it would have told. */
bool work_hints_close(struct work_tenant *tenant, int64_t *due_ms);
void work_hints_set_ordered(struct work_tenant *tenant, struct bk_slice lane, bool is_ordered);
void work_hints_forget_ordered(struct work_tenant *tenant, struct bk_slice lane);

/* --- secret.c --------------------------------------------------------------------------------- */

struct work_secret {
    struct bk_slice payload; /* "null" where there is none */
    char *memory;            /* of it; NULL: there is no row */
    bool is_shut;            /* sealed with another key, or for another task */
};
/* The error of a task whose payload is shut. */
extern const struct bk_slice work_secret_is_shut;
void work_secrets_init(struct bk_work *work, struct bk_slice instance_key);
/* On the writer. */
enum bk_status work_secret_insert(struct bk_work *work, struct bk_transaction *transaction,
                                  struct bk_slice id, struct bk_slice payload);
/* Whatever comes of it, it is to be freed. */
enum bk_status work_secret_read(struct bk_work *work, struct bk_transaction *transaction,
                                struct bk_slice id, struct work_secret *secret);
void work_secret_free(struct work_secret *secret);

/* --- payload.c, inbox.c ----------------------------------------------------------------------- */

bool work_payload_is_json(struct bk_slice text);
/* On the writer: at most so many rows become rows of _work. */
enum bk_status work_inbox_move(struct bk_work *work, struct bk_transaction *transaction,
                               uint32_t row_limit, bool *is_empty);

/* --- add.c ------------------------------------------------------------------------------------ */

/* The whole name of a lane, in room; its length, or 0 when it is too long. */
size_t work_lane_name(const struct work_kind *kind, struct bk_slice lane, bool is_replay,
                      char room[BK_WORK_LANE_MAX_BYTES]);
/* What a chain is called, in the transaction's arena. */
struct bk_slice work_chain_name(struct bk_transaction *transaction, struct bk_slice lane,
                                struct bk_slice key);

/* --- clear.c: on the writer ------------------------------------------------------------------- */

/* Removes what waits in lanes that are to be cleared, as far as the round has time. */
enum bk_status work_clear_lanes(struct bk_work *work, struct bk_transaction *transaction,
                                struct work_round *round);
/* Whether any is, and whether this one is: then none of its tasks begins. */
enum bk_status work_are_clearings(struct bk_work *work, struct bk_connection *connection,
                                  bool *are_any);
enum bk_status work_is_being_cleared(struct bk_work *work, struct bk_connection *connection,
                                     struct bk_slice lane, bool *answer);
/* When such a lane is asked again. */
int64_t work_clearing_look_ms(int64_t now_ms);
/* One task goes now, if it would anyway. */
enum bk_status work_clear_task(struct bk_work *work, struct bk_transaction *transaction,
                               int64_t rowid, bool *is_gone);
/* The time of what is added now: behind what goes. */
int64_t work_clearing_add_ms(int64_t now_ms, int64_t cleared_ms);

/* --- lane.c ----------------------------------------------------------------------------------- */

struct work_lane *work_lane_find(struct work_tenant *tenant, struct bk_slice name);
/* Made when it is missing; NULL: of a kind that nobody has declared. */
struct work_lane *work_lane_get(struct work_tenant *tenant, struct bk_slice name);
/* A task of it is due then. */
void work_lane_wait(struct work_lane *lane, int64_t due_ms);
/* After anything that changed when it may begin a task: puts it where it belongs, or forgets it. */
void work_lane_settle(struct work_lane *lane);
/* When it may begin one if nothing changes; INT64_MAX: not at all. */
int64_t work_lane_ready_ms(const struct work_lane *lane);
/* Work time has leapt: what was to happen at a time happens now. */
void work_lane_forget_times(struct work_lane *lane);
/* How many it may begin now. */
uint32_t work_lane_room(const struct work_lane *lane, int64_t now_ms);
void work_lane_begun(struct work_lane *lane, struct work_attempt *attempt, int64_t now_ms);
/* An attempt of it was answered. */
void work_lane_judge(struct work_lane *lane, const struct work_attempt *attempt);
void work_lane_set_paused(struct work_lane *lane, bool is_paused);
void work_lane_destroy(struct work_lane *lane);
enum bk_work_lane_state work_lane_state(const struct work_lane *lane, int64_t now_ms);

/* --- attempt.c -------------------------------------------------------------------------------- */

/* On the writer: of the row that a statement of TASK_COLUMNS stands on. */
struct work_attempt *work_attempt_create(struct bk_statement *statement, struct work_kind *kind,
                                         const struct work_secret *secret);
void work_attempt_free(struct work_attempt *attempt);
void work_attempts_free(struct bk_list *list);
/* A hook of its end failed with that: it is recorded without it. */
void work_attempt_spoil(struct work_attempt *attempt, uint32_t hook, enum bk_status status);
/* Claimed: its handler is called soon. */
void work_attempt_take(struct work_tenant *tenant, struct work_attempt *attempt);
/* It ran when the program ended. */
void work_attempt_take_orphan(struct work_tenant *tenant, struct work_attempt *attempt);
void work_attempt_cancel(struct work_attempt *attempt);
/* Those of a tenant that is being deleted. */
void work_attempts_cancel(struct work_tenant *tenant);
/* Tells them that the program stops. */
void work_attempts_stop(struct work_tenant *tenant);
/* What came of its record; it may be freed. */
void work_attempt_recorded(struct work_attempt *attempt);
void work_attempts_time_out(struct bk_work *work);
void work_attempts_begin(struct bk_task *task);
/* The grace is over: what a tenant's handlers answer counts no more. */
void work_attempts_lose(struct work_tenant *tenant);
/* Those that were not begun wait again: of a tenant; NULL: of all. */
void work_attempts_return(struct bk_work *work, const struct work_tenant *tenant);

/* --- record.c, claim.c: on the writer --------------------------------------------------------- */

enum bk_status work_record_end(struct bk_work *work, struct bk_transaction *transaction,
                               struct work_round *round, uint32_t index);
/* Whether a failure is of the database, and passes, or somebody's fault. */
bool work_is_of_the_disk(enum bk_status status);
enum bk_status work_record_progress(struct bk_work *work, struct bk_transaction *transaction,
                                    const struct work_progress *progress);
/* The next of a chain may begin: *due_ms is when, INT64_MAX when there is none. */
enum bk_status work_unblock(struct bk_work *work, struct bk_transaction *transaction,
                            struct bk_slice chain, int64_t *due_ms);
enum bk_status work_delete_row(struct bk_work *work, struct bk_transaction *transaction,
                               const struct work_kind *kind, int64_t rowid, struct bk_slice id);
enum bk_status work_end_row(struct bk_work *work, struct bk_transaction *transaction, int64_t rowid,
                            const char *state, struct bk_slice error, uint64_t kept_ms,
                            int64_t *expires_ms);
enum bk_status work_call_on_dead(struct bk_work *work, struct bk_transaction *transaction,
                                 const struct work_kind *kind, const struct bk_work_end *end);
enum bk_status work_claim_lane(struct bk_work *work, struct bk_transaction *transaction,
                               struct work_round *round, struct work_claim *claim);
enum bk_status work_find_orphans(struct bk_work *work, struct bk_transaction *transaction,
                                 struct work_round *round, bool only_expired);
enum bk_status work_scan_lanes(struct bk_work *work, struct bk_transaction *transaction,
                               struct work_round *round);
enum bk_status work_prune(struct bk_work *work, struct bk_transaction *transaction,
                          struct work_round *round);

/* --- round.c ---------------------------------------------------------------------------------- */

/* share: how many tasks it may claim at most. */
void work_round_start(struct work_tenant *tenant, uint32_t share, uint32_t replay_share);
/* Whether it would claim any. */
bool work_round_has_room(const struct work_tenant *tenant, uint32_t replay_share);
void work_round_init(struct work_tenant *tenant);
void work_round_fini(struct work_tenant *tenant);

/* --- courtesy.c: room for requests ------------------------------------------------------------ */

void work_courtesy_init(struct bk_work *work);
void work_courtesy_fini(struct bk_work *work);
/* Whether somebody outside has asked for something a moment ago. */
bool work_is_courteous(const struct bk_work *work);
/* How much of the writer's time a round may take that begins now, and of the loop's a slice. */
/* Another kind of row is begun. */
void work_round_part(struct work_round *round);
uint64_t work_round_budget_ns(const struct bk_work *work);
/* How many tasks the round, which has begun, may claim or record. */
uint32_t work_round_tasks_max(const struct work_tenant *tenant);
uint64_t work_slice_ns(const struct bk_work *work);
/* Whether a tenant that is behind waits, so that requests have their turn. */
bool work_must_pause(const struct work_tenant *tenant);
void work_courtesy_begin(struct work_tenant *tenant);
/* A round is over; tenant->is_behind is as it has left it. */
void work_courtesy_end(struct work_tenant *tenant);
/* On the writer, before each row that could as well be written by the next round: whether it is
 * left to that. */
bool work_round_is_over(struct work_round *round, const struct bk_transaction *transaction);
/* Likewise, how many of so many rows are to be read. */
uint32_t work_round_room(const struct work_round *round, const struct bk_transaction *transaction,
                         uint32_t row_count);

/* --- turn.c ----------------------------------------------------------------------------------- */

void work_turn_init(struct bk_work *work);
void work_turn_fini(struct bk_work *work);
void work_turn_soon(struct bk_work *work);
/* Places that nobody has, and what nobody has claimed. */
uint32_t work_places(const struct bk_work *work);
/* After anything that changed what a tenant has to do. */
void work_tenant_settle(struct work_tenant *tenant);
/* The timer runs when the first of the heaps is due. */
void work_timer_adjust(struct bk_work *work);
enum { WORK_NODE_LANE, WORK_NODE_TENANT };

/* --- tenant.c --------------------------------------------------------------------------------- */

void work_tenants_init(struct bk_work *work);
struct work_tenant *work_tenant_of(const struct bk_work *work, const struct bk_tenant *tenant);
void work_tenant_hold(struct work_tenant *tenant, bool is_held);
void work_tenant_free(struct work_tenant *tenant);
/* Its first rounds are over. */
void work_tenant_know(struct work_tenant *tenant);
/* Notices that it is being deleted: then nothing of it begins any more. */
void work_tenant_look(struct work_tenant *tenant);
/* Likewise all whose tasks run, which need no round for long. */
void work_tenants_look(struct bk_work *work);

/* --- figures.c -------------------------------------------------------------------------------- */

void work_count_fini(struct work_tenant *tenant);

#endif
