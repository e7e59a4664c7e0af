/*
 * The store: databases, each one SQLite file in WAL mode with synchronous=FULL and one writer.
 *
 *   loop    bk_store_write(database, write) ─┐                    ┌─> write->done(write, status)
 *   writer  BEGIN IMMEDIATE                  └> run, run … before_commit, COMMIT = fsync
 *
 * Nothing gathers a batch: what queues while one commit syncs is the next one (at most batch_max).
 * A write that fails hurts no neighbour. Most fail before they have changed a row; when one fails
 * later, the batch is rolled back and run again with a savepoint around each write. When SQLite
 * drops the whole transaction instead (full disk, I/O error, no memory), nothing is acknowledged,
 * and the batch is run again one by one, once. So `run` may be called more than once.
 *
 * The journal is the table that durable events are appended to inside the transaction that caused
 * them: contiguous sequence from 1, per database, stored counter, never reused.
 *
 * Threads: everything here is called on the loop unless it says otherwise. sqlite3 is not visible.
 */
#ifndef BAKEND_STORE_H
#define BAKEND_STORE_H

#include "bakend/error.h"
#include "bakend/event.h"
#include "bakend/log.h"
#include "bakend/thread.h"

struct bk_store;
struct bk_database;
struct bk_connection;
struct bk_statement;
struct bk_transaction;

/* --- statements: on whatever thread the connection is lent to --------------------------------- */

/* SQL text with its hash, made once (per constant or per schema snapshot) and looked up in the
 * connection's cache of prepared statements. */
struct bk_sql {
    struct bk_slice text;
    uint64_t hash;
};
struct bk_sql bk_sql_make(struct bk_slice text);

enum bk_value_type { BK_VALUE_NULL, BK_VALUE_INT, BK_VALUE_REAL, BK_VALUE_TEXT };
struct bk_value {
    enum bk_value_type type;
    int64_t integer;
    double real;
    struct bk_slice text;
};
#define BK_VALUE_OF_NULL ((struct bk_value){.type = BK_VALUE_NULL})
#define BK_VALUE_OF_INT(number) ((struct bk_value){.type = BK_VALUE_INT, .integer = (number)})
#define BK_VALUE_OF_REAL(number) ((struct bk_value){.type = BK_VALUE_REAL, .real = (number)})
#define BK_VALUE_OF_TEXT(slice) ((struct bk_value){.type = BK_VALUE_TEXT, .text = (slice)})

/* A cached statement, reset and unbound; it belongs to the caller until the next
 * bk_connection_statement for the same SQL, bk_statement_reset or the end of run. BK_INVALID with
 * SQLite's text in bk_connection_error when it does not compile. */
enum bk_status bk_connection_statement(struct bk_connection *connection, const struct bk_sql *sql,
                                       struct bk_statement **statement);
/* index from 1. Text is borrowed until the statement is reset. */
void bk_statement_bind(struct bk_statement *statement, int index, const struct bk_value *value);
void bk_statement_bind_text(struct bk_statement *statement, int index, struct bk_slice text);
void bk_statement_bind_int(struct bk_statement *statement, int index, int64_t value);
void bk_statement_bind_null(struct bk_statement *statement, int index);
/* BK_OK: a row. BK_END: done (and reset). BK_CONFLICT: a unique or primary key (see
 * bk_connection_conflict). BK_TIMEOUT: a deadline passed. Else BK_DISK_FULL, BK_IO, BK_CORRUPT,
 * BK_NO_MEMORY, BK_BUSY, BK_INVALID. */
enum bk_status bk_statement_step(struct bk_statement *statement);
/* Steps a statement that gives no rows: BK_OK instead of BK_END; reset in any case. */
enum bk_status bk_statement_run(struct bk_statement *statement);
void bk_statement_reset(struct bk_statement *statement);
/* index from 0; valid until the next step or reset. */
bool bk_statement_is_null(struct bk_statement *statement, int index);
enum bk_value_type bk_statement_type(struct bk_statement *statement, int index);
int64_t bk_statement_int(struct bk_statement *statement, int index);
double bk_statement_real(struct bk_statement *statement, int index);
struct bk_slice bk_statement_text(struct bk_statement *statement, int index);
struct bk_value bk_statement_value(struct bk_statement *statement, int index);
int bk_statement_column_count(struct bk_statement *statement);
/* How many steps of SQLite's program it has taken since it was asked last. */
uint64_t bk_statement_take_steps(struct bk_statement *statement);
/* SQLite's message for the last failure; "" after success. Not for answers to clients. */
const char *bk_connection_error(struct bk_connection *connection);
/* After BK_CONFLICT: "table.column, table.column" of the violated constraint. */
struct bk_slice bk_connection_conflict(struct bk_connection *connection);
/* Text of one or more statements without parameters (DDL, migrations); not cached. */
enum bk_status bk_connection_execute(struct bk_connection *connection, struct bk_slice sql);
/* Forgets cached statements (after DDL; the store does it for other connections itself). */
void bk_connection_forget_statements(struct bk_connection *connection);

/* SQL that a client has written, looked at before it may run. Nothing of it runs here. */
struct bk_sql_column {
    struct bk_slice name, type; /* type: as its table declares it; empty: an expression's */
};
struct bk_sql_judge {
    struct bk_arena *arena; /* of the columns */
    /* Whether a column of a table or view may be read; column empty: some row of it. through: the
     * view or the WITH that it is read through, or empty. */
    bool (*may_read)(void *user, struct bk_slice table, struct bk_slice column,
                     struct bk_slice through);
    void *user;
    struct bk_sql_column *columns; /* what it gives */
    uint32_t column_count;
};
/* Compiles what must be one SELECT without parameters, which reads what may_read allows and calls
 * no function that reaches outside of the database. BK_INVALID: with the reason in
 * bk_connection_error. Whatever may_read refuses, and PRAGMAs, are "not allowed" there. */
enum bk_status bk_connection_judge(struct bk_connection *connection, struct bk_slice sql,
                                   struct bk_sql_judge *judge);

/* --- writing ---------------------------------------------------------------------------------- */

enum bk_lane { BK_LANE_REQUEST, BK_LANE_BACKGROUND };

/* Who caused a write. Borrowed by the write until done; NULL means "system". */
struct bk_origin {
    struct bk_slice actor; /* "users/abc" */
    struct bk_slice cause; /* id of the event that led to it, or empty */
    uint32_t depth;        /* depth of that event + 1, or 0 */
    /* Of who is behind it, for those who tell of accounts; empty where nobody knows. */
    struct bk_slice remote_address, user_agent;
};

struct bk_write {
    /* The caller's. */
    enum bk_lane lane;
    bool runs_alone; /* in a transaction of its own: schema changes, restores, large deletes */
    const struct bk_origin *origin;
    /* On the writer, in the batch's transaction. Touches the transaction, this write and what is
     * pinned in it, nothing else. Any status but BK_OK takes back what it has done and becomes the
     * write's status. Statements that change the schema are for writes that run alone. */
    enum bk_status (*run)(struct bk_transaction *transaction, struct bk_write *write);
    /* On the loop, once, after the commit (or the failure). May submit again. */
    void (*done)(struct bk_write *write, enum bk_status status);
    /* The store's. */
    struct bk_message message;
    struct bk_list link;
    struct bk_database *database;
    enum bk_status status;
    uint64_t queued_ns;
};

/* BK_OK: done will be called, never before this returns. BK_BUSY (the lane is full), BK_CLOSING or
 * BK_IO (the database has failed a moment ago): never. */
enum bk_status bk_store_write(struct bk_database *database, struct bk_write *write);

/* The transaction's connection, for statements. On the writer. */
struct bk_connection *bk_transaction_connection(struct bk_transaction *transaction);
struct bk_slice bk_transaction_tenant(struct bk_transaction *transaction);
/* Wall milliseconds, one reading per run, for created/updated and events alike. */
int64_t bk_transaction_now_ms(struct bk_transaction *transaction);
/* Of this run; NULL: "system". Another one for the rest of the run: what it causes is caused by
 * that. Borrowed until then. */
const struct bk_origin *bk_transaction_origin(const struct bk_transaction *transaction);
void bk_transaction_set_origin(struct bk_transaction *transaction, const struct bk_origin *origin);
/* Of the newest event in the journal, with those that this transaction emitted. */
uint64_t bk_transaction_sequence(const struct bk_transaction *transaction);
/* Scratch memory of this run, empty when it begins and gone when it returns: the next run has it. A
 * run that overflows it fails with BK_TOO_LARGE even if it returns BK_OK. */
enum { BK_TRANSACTION_ARENA_BYTES_MAX = 64 * 1024 * 1024 };
struct bk_arena *bk_transaction_arena(struct bk_transaction *transaction);
/* Gives the rest of this run so much time. SELECTs end with BK_TIMEOUT when it is over, instead of
 * after 50 ms each. 0: no budget again, as at the start. */
void bk_transaction_set_budget(struct bk_transaction *transaction, uint32_t budget_ms);
/* Lets the SELECTs of the rest of this run take so many steps of SQLite's program in all, whatever
 * the clock says: what is refused with BK_TIMEOUT then depends on the data and not on the machine.
 * A step takes tens of nanoseconds. 0: no such limit again, as at the start. */
void bk_transaction_set_steps(struct bk_transaction *transaction, uint64_t step_max);
/* Writes of requests that wait for this commit: those of the batch, and those that have come to its
 * writer meanwhile. A background run that can go on in another one ends early for them. */
uint32_t bk_transaction_awaiting_count(const struct bk_transaction *transaction);

/* An event to be. Texts are copied. */
struct bk_event_draft {
    struct bk_slice type, source, subject;
    struct bk_slice actor; /* empty: the origin's */
    struct bk_slice payload, previous, hidden, hidden_previous;
    uint32_t version;  /* 0 means 1 */
    bool is_transient; /* goes to the bus after the commit, not into the journal */
};
/* Appends to the journal (unless transient) and to what the bus gets after the commit; taken back
 * with the write. BK_NOT_SUPPORTED for a durable event when the database has no journal. */
enum bk_status bk_transaction_emit(struct bk_transaction *transaction,
                                   const struct bk_event_draft *draft);

/* Runs on the writer before each COMMIT of a database with a journal, in the order added, with the
 * batch's durable events. A failure fails the whole batch. */
struct bk_commit_hook {
    struct bk_list link;
    enum bk_status (*before_commit)(struct bk_commit_hook *hook, struct bk_transaction *transaction,
                                    struct bk_event *const *events, size_t event_count);
};
void bk_store_add_commit_hook(struct bk_store *store, struct bk_commit_hook *hook);

/* Called on the loop after the batch's done callbacks, with all its events in order (borrowed: ref
 * to keep). One owner: the bus. */
typedef void (*bk_committed_cb)(void *user, struct bk_database *database,
                                struct bk_event *const *events, size_t event_count);
void bk_store_on_committed(struct bk_store *store, bk_committed_cb on_committed, void *user);

/* --- reading ---------------------------------------------------------------------------------- */

/* A read on a reader thread, inside one read transaction. Reads that take long are kept apart from
 * the others: one with a deadline longer than the store's begins among them, and one that
 * may_run_again moves there when others wait for it. */
struct bk_read {
    /* Of work on a processor, and ten times as much by the clock; 0: the store's
     * read_deadline_ms. */
    uint32_t deadline_ms;
    /* run may be ended by BK_TIMEOUT before its deadline and called once more, in another
     * transaction and on another thread: it has to begin anew then. */
    bool may_run_again;
    enum bk_status (*run)(struct bk_connection *connection, struct bk_read *read);
    void (*done)(struct bk_read *read, enum bk_status status);
    /* The store's. */
    struct bk_job job;
    struct bk_database *database;
    enum bk_status status;
    bool is_cancelled; /* atomic */
    bool is_long, has_given_way;
};
/* BK_OK: done will be called later on the loop. BK_BUSY, BK_CLOSING: never. */
enum bk_status bk_store_read(struct bk_database *database, struct bk_read *read);
/* Nobody waits for it any more: one that has not begun never does, one that runs ends soon. done
 * still comes, with BK_CANCELLED as a rule. */
void bk_store_read_cancel(struct bk_read *read);
/* The loop's own connection, for single rows by key: its read transaction begins with the first
 * call of a turn and ends with the turn or with the next completed commit. NULL when the database
 * is closing or has failed. Statements must be reset before the turn ends (the store does it
 * too). */
struct bk_connection *bk_store_read_now(struct bk_database *database);

/* How many rows a table has. Its count is kept from bk_rows_keep on (which counts what there is) by
 * every transaction that inserts or deletes, but for tables whose names begin with "_". Any thread
 * that has the connection; BK_NOT_FOUND: it is not kept. */
enum bk_status bk_rows_read(struct bk_connection *connection, struct bk_slice table,
                            int64_t *count);
/* What a SELECT COUNT(*) gives, its values bound from 1 on. changes_with_events: it reads nothing
 * but what never changes without a durable event, and nothing that changes by itself, as the time
 * does. Then a reader remembers the outcome until the journal goes on. Any thread that has the
 * connection; as bk_statement_step. */
enum bk_status bk_rows_count(struct bk_connection *connection, const struct bk_sql *sql,
                             const struct bk_value *values, uint32_t value_count,
                             bool changes_with_events, int64_t *count);
/* On the writer, in a transaction, with what is done to the table. quoted: its name for SQL. */
enum bk_status bk_rows_keep(struct bk_connection *connection, struct bk_slice table,
                            struct bk_slice quoted);
enum bk_status bk_rows_rename(struct bk_connection *connection, struct bk_slice from,
                              struct bk_slice to);
enum bk_status bk_rows_forget(struct bk_connection *connection, struct bk_slice table);

/* --- the journal ------------------------------------------------------------------------------ */

struct bk_journal_state {
    uint64_t oldest;     /* sequence of the oldest retained event; last + 1 when there is none */
    uint64_t last;       /* sequence of the newest committed event; 0: none ever */
    uint8_t epoch[8];    /* of the database's history; a restore makes a new one */
    uint64_t size_bytes; /* of retained payloads, about */
};
/* As of the last commit that the loop has seen. */
struct bk_journal_state bk_journal_state(struct bk_database *database);

/* Any thread that has the connection. Rows with from <= sequence <= to, ascending or descending, at
 * most row_limit; each is handed to on_row (borrowed for the call) until it returns false.
 * fields.hidden and hidden_previous are empty; fields.tenant is set. */
struct bk_journal_query {
    uint64_t from, to;
    bool is_descending;
    uint32_t row_limit;
    bool (*on_row)(void *user, const struct bk_event_fields *fields);
    void *user;
};
enum bk_status bk_journal_read(struct bk_connection *connection,
                               const struct bk_journal_query *query);
/* The time by which ages are judged (age_clock.h). It begins at the newest event of the first
 * journal that is opened, so that a clock that was wrong at the start is found out, too. On the
 * loop. */
int64_t bk_store_age_now_ms(struct bk_store *store);
/* The first sequence whose timestamp is >= wall_ms (last + 1 when none): bisection over the
 * sequence, so it is approximate where the wall clock was set back. */
enum bk_status bk_journal_seek(struct bk_connection *connection, int64_t wall_ms,
                               uint64_t *sequence);

/* --- databases -------------------------------------------------------------------------------- */

/* Migrations run in order, each once, in the opening transaction; recorded by name in
 * _migrations. */
struct bk_migration {
    const char *name; /* "collections_1_definitions" */
    const char *sql;
};

enum bk_synchronous { BK_SYNCHRONOUS_FULL, BK_SYNCHRONOUS_OFF };

struct bk_database_options {
    struct bk_slice tenant; /* for events and logs */
    const char *path;       /* of the file; its directory exists */
    /* Of a small file that tells when an older copy of the database was put back by hand: then the
     * journal gets a new epoch. Only with a journal; NULL: there is none. */
    const char *head_path;
    bool has_journal;
    enum bk_synchronous synchronous; /* OFF for what can be lost (logs.db) */
    const struct bk_migration *migrations;
    size_t migration_count;
    /* On the writer, in the opening transaction, after the migrations. May be NULL. */
    enum bk_status (*on_prepare)(struct bk_transaction *transaction, void *user,
                                 struct bk_error *error);
    void *user;
};

struct bk_database_open {
    struct bk_database_options options;
    void (*done)(struct bk_database_open *open, enum bk_status status);
    struct bk_database *database; /* on success */
    struct bk_error error;        /* says what to do */
    struct bk_message message;
};

struct bk_store_options {
    struct bk_loop *loop;
    struct bk_logger *logger;
    uint32_t writer_count;        /* 1..4 */
    uint32_t reader_count;        /* 1..16 threads, and as many for long reads */
    uint32_t queue_max;           /* waiting writes per database and lane; past it BK_BUSY */
    uint32_t read_queue_max;      /* waiting reads in all; past it BK_BUSY */
    uint32_t batch_max;           /* writes per commit */
    uint32_t gather_max;          /* writes of one turn that the writer is handed at once */
    uint32_t read_deadline_ms;    /* a longer read is interrupted: BK_TIMEOUT */
    int64_t retention_ms;         /* journal rows older than this are pruned; 0: kept for ever */
    uint64_t retention_max_bytes; /* past it the oldest are pruned; 0: no bound */
    uint64_t prune_interval_ms;
};
/* Fills in the defaults: 2 writers, 2 readers, 4096, 1024, 128, 100 ms, 30 days, no bound, 60 s. */
void bk_store_options_init(struct bk_store_options *options);

struct bk_store *bk_store_create(const struct bk_store_options *options);
struct bk_loop *bk_store_loop(const struct bk_store *store);
/* All databases are closed by now. */
void bk_store_destroy(struct bk_store *store);

/* Opens (or creates) on the database's writer: checks the header, recovers the WAL, runs
 * migrations, checks the journal (counter, the last 1,000 rows contiguous) after an unclean stop. A
 * damaged file is refused with BK_CORRUPT and a message that says what to do, and never written.
 * done comes on the loop. */
void bk_database_open(struct bk_store *store, struct bk_database_open *open);
/* For whoever cannot go on without what he keeps in a database, and has failed to read it: what
 * only damage brings (no such column, a key that is there twice) becomes BK_CORRUPT, and the
 * message names the file and the remedy. Any other status and message stay. Returns the status.
 * Loop. */
enum bk_status bk_database_explain(const struct bk_database *database, enum bk_status status,
                                   struct bk_error *error);
/* Finishes what is queued, checkpoints, closes; closed comes on the loop. */
void bk_database_close(struct bk_database *database, void (*closed)(void *user), void *user);
/* Writes that wait, in both lanes. */
uint32_t bk_database_waiting_count(const struct bk_database *database);
/* Whether somebody waits for it to be quiet: whoever writes on by himself stops. On the loop. */
bool bk_database_is_stopping(const struct bk_database *database);
/* Asked on the loop before each slice that is pruned: the newest sequence that may go by age; what
 * is younger stays until retention_max_bytes. One owner: the feed. NULL: none is kept back. */
void bk_store_on_prune(struct bk_store *store,
                       uint64_t (*prunable)(void *user, struct bk_database *database), void *user);
/* For schema changes: makes every connection forget its statements before its next use. */
void bk_database_forget_statements(struct bk_database *database);

/* Copies a consistent image of the database to path with SQLite's backup API, in steps, on a
 * reader; never blocks writers. done on the loop. */
struct bk_database_copy {
    const char *path;
    void (*done)(struct bk_database_copy *copy, enum bk_status status);
    struct bk_error error;
    void *storage; /* the store's */
};
enum bk_status bk_database_copy(struct bk_database *database, struct bk_database_copy *copy);
/* On a file that nobody has open: integrity_check, journal contiguous. Blocking. */
enum bk_status bk_database_check_file(const char *path, struct bk_error *error);
/* On a file that nobody has open: counts the rows of each table whose number is kept, and calls for
 * those where it is another one; mends: the right one is kept from here on. Blocking. */
struct bk_rows_check {
    bool mends;
    void (*on_wrong)(void *user, const char *table, int64_t kept, int64_t counted);
    void *user;
};
enum bk_status bk_rows_check_file(const char *path, const struct bk_rows_check *check,
                                  struct bk_error *error);
/* On a file that nobody has open: a new epoch (after a restore). Blocking. */
enum bk_status bk_database_renew_epoch(const char *path, struct bk_error *error);

/* --- figures ---------------------------------------------------------------------------------- */

struct bk_store_figures {
    uint64_t commits, writes, writes_failed, batches_rerun, batches_spoilt, reads, reads_timed_out;
    uint64_t events;                /* durable, ever since the start */
    uint64_t commit_ns_sum;         /* of COMMIT */
    uint64_t commit_ns_buckets[16]; /* count of commits that took < 2^(i+16) ns (65 µs, 131 µs …) */
    uint64_t
        batch_size_buckets[9]; /* count of commits of < 2^(i+1) writes … the last is the rest */
    uint32_t waiting_requests, waiting_background, waiting_reads;
    uint64_t wal_bytes; /* of all open databases */
    uint32_t databases_open;
};
struct bk_store_figures bk_store_figures(struct bk_store *store);

#endif
