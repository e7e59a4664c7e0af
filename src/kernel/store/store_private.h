/*
 * What the files of the store know of each other. Who may touch what is written at each field:
 * "loop" and "writer" are threads, "fixed" means set while opening and never changed, "atomic" any
 * thread.
 *
 *   store.c        life cycle, options, figures    connection.c  open, harden, translate errors
 *   submit.c       the loop's side of a write      statement.c   statements and their cache
 *   writer.c       the writer thread, its lanes    reader.c      reader threads, loop connection
 *   batch.c        one commit, and once more       journal.c     append, counter, read, seek
 *   transaction.c  what a write's run may do       prune.c  checkpoint.c  copy.c
 *   database.c     open and close on the loop      opening.c     the same on the writer
 * *   inspect.c      is this file ours and whole?    head.c         is it an older one, put back?
 *   judge.c        may this SELECT of a client run?
 *   rows.c         how many rows a table has       json_order.c  what JSON is sorted by
 *   event*.c  tenant*.c
 */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include "bakend/age_clock.h"
#include "bakend/alloc.h"
#include "bakend/arena.h"
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "bakend/list.h"
#include "bakend/loop.h"
#include "bakend/map.h"
#include "bakend/store.h"
#include "bakend/thread.h"

#include <pthread.h>
#include <sqlite3.h>

enum {
    STORE_WRITERS_MAX = 4,
    STORE_READERS_MAX = 16,
    STORE_READER_THREADS_MAX = 2 * STORE_READERS_MAX, /* from STORE_READERS_MAX on: of long reads */
    STORE_READ_SLICE_MS = 2,    /* of work: many pages of a list, little of what is long */
    STORE_STATEMENTS_MAX = 256, /* cached per connection; the least recently used goes */
    STORE_STATEMENT_BUCKETS = 512,
    STORE_READ_PATIENCE = 10, /* times its deadline, for what waits for a processor or the disk */
    STORE_READER_CONNECTIONS_MAX = 32, /* per reader thread: 2 descriptors and about 100 KiB each */
    STORE_LONG_READER_CONNECTIONS_MAX = 8, /* to open one costs a long read little */
    STORE_PAGE_BYTES = 4096,
    STORE_WAL_FRAME_BYTES = STORE_PAGE_BYTES + 24, /* a page behind its frame header */
    STORE_FORMAT_VERSION = 1,
    STORE_APPLICATION_ID = 0x42616b64, /* "Bakd" in the file's header */
    STORE_EPOCH_BYTES = 8,
    STORE_REOPEN_MS = 250, /* between two tries to open a file that could not be opened again */
    STORE_BUSY_TIMEOUT_MS = 5000,  /* another process on the file: a backup tool, a shell */
    STORE_SELECT_DEADLINE_MS = 50, /* of a SELECT on the writer or the loop */
    STORE_JOURNAL_CHECK_ROWS =
        1000, /* checked at once after an unclean stop: under a millisecond */
    STORE_BATCH_ARENA_BYTES_MAX = BK_TRANSACTION_ARENA_BYTES_MAX
};

#define STORE_NS_PER_MS UINT64_C(1000000)

/* --- connections ------------------------------------------------------------------------------ */

enum store_connection_kind {
    STORE_CONNECTION_WRITER,
    STORE_CONNECTION_READER,
    STORE_CONNECTION_LOOP
};

/* Statements that a connection keeps outside of its cache. */
enum store_fixed {
    STORE_FIXED_BEGIN,
    STORE_FIXED_BEGIN_IMMEDIATE,
    STORE_FIXED_COMMIT,
    STORE_FIXED_ROLLBACK,
    STORE_FIXED_SAVEPOINT,
    STORE_FIXED_RELEASE,
    STORE_FIXED_ROLLBACK_TO,
    STORE_FIXED_APPEND,
    STORE_FIXED_COUNTER,
    STORE_FIXED_COUNT
};

struct bk_statement {
    sqlite3_stmt *handle;
    struct bk_connection *connection;
    struct bk_statement *chain; /* the next one in its bucket */
    struct bk_list recent;      /* bk_connection.recent */
    struct bk_list used;        /* bk_connection.used, while handed out */
    uint64_t hash;
    uint64_t deadline_ns; /* while it runs, on the writer and the loop */
    bool is_readonly, is_active, is_bound, has_bad_binding;
    struct bk_slice text; /* behind this struct */
};

/* A deadline from when the progress handler first looks: a short statement needs no clock. */
#define STORE_DEADLINE_FROM_NOW UINT64_MAX
/* What stands in place of the time of a SELECT whose steps are counted. */
#define STORE_DEADLINE_OF_STEPS (UINT64_MAX - 1)

/* How many rows have come and gone, of the transaction under way. (rows.c) */
struct store_rows {
    struct store_rows_slot *slots; /* tables */
    uint32_t slot_count, slot_capacity, last_slot;
    struct store_rows_change *changes;
    size_t change_count, change_capacity, mark;
};

struct bk_connection {
    sqlite3 *handle;
    struct bk_database *database;
    enum store_connection_kind kind;
    uint32_t generation; /* of the statements in the cache */
    uint32_t step_count;
    uint64_t deadline_ns;   /* 0: none */
    uint64_t work_end_ns;   /* reader: the thread's own time up to which it may work; 0: none */
    uint64_t budget_end_ns; /* writer: of the run, for all its SELECTs; 0: each has its own time */
    uint64_t step_max;      /* likewise instead of a time; 0: none */
    uint64_t steps_taken;   /* of these */
    const bool *is_cancelled; /* atomic; a look at it interrupts, NULL: none */
    uint64_t slice_end_ns;    /* likewise: from when on it gives way to who waits; 0: it does not */
    bool has_given_way;
    struct bk_statement *buckets[STORE_STATEMENT_BUCKETS];
    size_t statement_count;
    struct bk_list recent; /* newest first */
    struct bk_list used;   /* handed out since the connection was borrowed */
    sqlite3_stmt *fixed[STORE_FIXED_COUNT];
    bool has_forgotten;       /* asked to forget since the batch began: others must, too */
    bool is_certain;          /* nothing of a COMMIT that has failed can be on the disk */
    uint64_t wal_bytes;       /* writer: as of the last commit */
    struct bk_list pool_link; /* reader: the thread's, newest first */
    struct store_rows rows;   /* writer */
    char error[256];
    char conflict[256];
};

/* The file exists; the caller closes it. On failure *connection is untouched. */
enum bk_status store_connection_open(struct bk_database *database, const char *path,
                                     enum store_connection_kind kind,
                                     struct bk_connection **connection, struct bk_error *error);
/* Settings that may write to the file: journal mode WAL and its size limit. Writer only. */
enum bk_status store_connection_start_wal(struct bk_connection *connection,
                                          enum bk_synchronous synchronous);
/* allow_checkpoint: the last connection may move the WAL into the database and remove it. */
void store_connection_close(struct bk_connection *connection, bool allow_checkpoint);
/* Resets what was handed out. */
void store_connection_give_back(struct bk_connection *connection);
/* Whether the statement under way is to end: its deadline has passed, or it was cancelled. */
bool store_connection_is_late(struct bk_connection *connection);
/* Of a database that nobody reads any more. (totals.c) */
void store_totals_destroy(struct bk_database *database);
/* LIKE that keeps deadlines; SQLite's code. (like.c) */
int store_like_register(struct bk_connection *connection);
/* bk_json_order(text): what a JSON value is sorted by; SQLite's code. (json_order.c) */
int store_json_order_register(struct bk_connection *connection);
/* Counting rows. (rows.c) */
void store_rows_watch(struct bk_connection *connection);
void store_rows_fini(struct bk_connection *connection);
void store_rows_begin(struct bk_connection *connection);
/* What was gathered by now, to return to. */
size_t store_rows_mark(struct bk_connection *connection);
void store_rows_return(struct bk_connection *connection, size_t mark);
/* Stores the counts of the tables that have changed: the last thing before the commit. */
enum bk_status store_rows_store(struct bk_connection *connection);
/* What is remembered of them may be wrong: the commit has failed, or the schema changes. */
void store_rows_doubt(struct bk_connection *connection);
/* Forgets the cache when the database's generation has moved on. */
void store_connection_refresh(struct bk_connection *connection);
/* NULL when it does not compile. */
sqlite3_stmt *store_connection_fixed(struct bk_connection *connection, enum store_fixed which);
/* Runs a fixed statement without parameters. */
enum bk_status store_connection_run_fixed(struct bk_connection *connection, enum store_fixed which);
bool store_connection_has_transaction(const struct bk_connection *connection);
/* Rows inserted, changed and deleted since it was opened, but for those of statements that failed.
 * Changes of the schema do not count. */
int64_t store_connection_change_count(const struct bk_connection *connection);
/* Rolls back when there is something to roll back. */
void store_connection_roll_back(struct bk_connection *connection);
/* Remembers SQLite's message and translates its code. */
enum bk_status store_connection_fail(struct bk_connection *connection, int code);
/* Moves all of the WAL into the file, whose sync is then the proof that it is on the disk, and
 * empties it. A sync of the WAL itself proves nothing when an earlier one has failed: Linux has
 * dropped the pages that it could not write, and reads them from its cache as if they were there.
 * BK_BUSY: a reader is in the way. */
enum bk_status store_connection_settle_wal(struct bk_connection *connection);
/* The first column of the first row, or fallback when there is no row or it is NULL. */
enum bk_status store_connection_query_int(struct bk_connection *connection, const char *sql,
                                          int64_t fallback, int64_t *value);
/* Finalises all cached statements. */
void store_connection_drop_statements(struct bk_connection *connection);

/* --- batches and writers ---------------------------------------------------------------------- */

struct store_counter {
    uint64_t last, oldest, bytes;
};

/* Writes of one database that share a commit, on their way to the disk and back to the loop. */
struct store_batch {
    struct bk_message message;
    struct store_writer *writer;
    struct bk_database *database;
    struct bk_write **writes;          /* batch_max of them */
    size_t write_count, request_count; /* in all, and of the request lane */
    struct bk_event **events;          /* one reference each */
    size_t event_count, event_capacity, transient_count;
    struct bk_journal_state journal;
    bool has_failed_database;
    struct bk_arena arena;
};

struct bk_transaction {
    struct store_batch *batch;
    struct bk_database *database;
    struct bk_connection *connection;
    const struct bk_origin *origin;
    int64_t now_ms;
    enum bk_status failure; /* of an emit; the write fails even if its run looked away */
    bool is_before_commit;
};

struct store_writer {
    struct bk_store *store;
    struct bk_thread *thread;
    struct bk_mailbox *inbox;
    struct bk_mailbox *spare; /* batches that the loop gives back */

    /* Loop: what was submitted in this turn, a ring through bk_write.link. */
    struct bk_write *gathered;
    uint32_t gathered_count;
    struct bk_task flush;

    /* Writer. */
    struct bk_list ready; /* bk_database.ready_link: those with waiting writes, next one first */
    struct bk_list idle; /* bk_database.idle_link: those with something to truncate, oldest first */

    uint32_t requests_waiting; /* atomic: submitted in the request lane and not yet in a batch */

    /* Atomic: written by this thread alone. */
    uint64_t commits, writes, writes_failed, batches_rerun, batches_spoilt, events, commit_ns_sum;
    uint64_t commit_ns_buckets[16], batch_size_buckets[9];
};

/* Writer: what the file beside the database says (head.c). */
struct store_head {
    char *path; /* fixed; NULL: the database has none */
    uint8_t epoch[STORE_EPOCH_BYTES];
    uint64_t base, reserved;
    uint64_t write_count;
    uint64_t synced_ns;   /* when it was synced last */
    bool has_file;        /* a whole one, of this epoch */
    const char *renewal;  /* while opening: why there must be a new epoch; NULL: there need not */
    uint64_t former_base; /* and the base that was found then */
};

struct bk_database {
    /* Fixed. */
    struct bk_store *store;
    struct store_writer *writer;
    char *path;
    struct bk_slice tenant;
    bool has_journal;
    enum bk_synchronous synchronous;
    uint8_t epoch[STORE_EPOCH_BYTES];

    /* Loop. */
    struct bk_list link; /* bk_store.databases */
    bool is_closing, is_close_posted, has_failed, is_pruning;
    uint64_t try_again_ns;      /* when it has failed: the next write that the writer sees */
    uint32_t waiting[2];        /* writes submitted and not yet done, by lane */
    uint32_t outstanding_count; /* writes, reads and maintenance not yet done */
    struct bk_journal_state journal;
    struct bk_connection *loop_connection;
    struct bk_list turn_link; /* bk_store.reading_now, while its read transaction is open */
    void (*on_closed)(void *user);
    void *on_closed_user;
    struct bk_message close_message;
    struct bk_write prune_write;
    uint64_t prunable; /* by age, up to this sequence */
    int64_t prune_now_ms;
    bool has_more_to_prune;
    void (*on_quiet)(void *user); /* once, when nothing is outstanding */
    void *on_quiet_user;
    struct bk_tenant *owner; /* tenant.c's */

    /* Writer; the loop until the database is open and after it is closed. */
    struct bk_connection *connection;
    struct bk_list lanes[2]; /* bk_write.link */
    struct bk_list ready_link, idle_link;
    bool owes_background;     /* a lone write of the background lane has been passed over once */
    uint32_t careful_batches; /* to be run with savepoints, since one was spoilt */
    bool is_broken;           /* could not be opened again, and has no connection */
    uint64_t reopen_at_ns;    /* if it is broken */
    struct store_counter counter;
    int64_t id_ms; /* of the last event's id */
    struct store_head head;
    uint64_t checkpoint_at_bytes, truncate_at_ns;
    int64_t schema_version;
    struct store_batch *opening_batch; /* the events of the opening transaction */
    bool was_unclean;                  /* the process ended without closing it */

    /* Each under the mutex of its reader thread. */
    struct bk_connection *reader_connections[STORE_READER_THREADS_MAX];

    /* Atomic. */
    uint32_t generation; /* of the schema: a connection with another one forgets its statements */
    uint64_t wal_bytes;
    bool is_stopping;            /* maintenance is to give up */
    struct store_totals *totals; /* made at first need */
};

struct store_reader_thread {
    pthread_mutex_t mutex;
    struct bk_list connections; /* bk_connection.pool_link, newest first */
    uint32_t connection_count;
    bool has_lower_priority;
    uint64_t reads, reads_timed_out; /* atomic */
};

struct bk_store {
    struct bk_store_options options;
    struct bk_log log;
    struct bk_mailbox *answers;
    struct store_writer writers[STORE_WRITERS_MAX];
    struct bk_pool *readers, *long_readers;
    struct bk_pool *maintenance; /* one thread: copies and checks, which take their time */
    struct store_reader_thread reader_threads[STORE_READER_THREADS_MAX];
    struct bk_list commit_hooks;
    bk_committed_cb on_committed;
    void *on_committed_user;
    struct bk_list databases;
    uint32_t database_count;
    struct bk_list reading_now; /* databases whose loop connection is in a transaction */
    struct bk_turn_hook turn_hook;
    struct bk_timer *prune_timer;
    struct bk_age_clock age_clock;
    uint64_t (*prunable)(void *user, struct bk_database *database); /* NULL: all may go */
    void *prunable_user;
    uint64_t outstanding_count; /* while there is any, the loop stays alive */
};

/* --- store.c, submit.c ------------------------------------------------------------------------ */

/* Something is on its way through other threads: the loop must wait for it. A database that is
 * given is not closed until it has arrived. */
void store_await(struct bk_store *store, struct bk_database *database);
void store_arrived(struct bk_store *store, struct bk_database *database);
void store_submit_init(struct store_writer *writer);
/* Message handler on the loop for batches. */
void store_batch_on_answered(struct bk_message *message);
void store_deliver_events(struct bk_store *store, struct store_batch *batch);
void store_count(uint64_t *counter, uint64_t amount);
uint64_t store_counted(const uint64_t *counter);
char *store_text_copy(const char *text);

/* --- writer.c, batch.c ------------------------------------------------------------------------ */

void store_writer_start(struct store_writer *writer, struct bk_store *store, uint32_t index);
void store_writer_stop(struct store_writer *writer);
/* For a writer's inbox: on_message runs on the writer. */
void store_writer_post(struct store_writer *writer, struct bk_message *message);
struct store_batch *store_batch_take(struct store_writer *writer, struct bk_database *database);
/* On the loop: drops the events and gives the memory back. */
void store_batch_recycle(struct store_batch *batch);
void store_batch_free(struct store_batch *batch);
void store_batch_drop_events(struct store_batch *batch, size_t from);
/* Commits the writes of the batch (or says why not) and posts it. */
void store_batch_run(struct store_batch *batch);
/* Stores the counter when it differs from former, calls the hooks with the events from first on,
 * and commits. *is_unknown: nobody can say whether it is committed. */
enum bk_status store_batch_commit(struct bk_transaction *transaction, size_t first_event,
                                  const struct store_counter *former, bool *is_unknown);

/* --- journal.c, prune.c, checkpoint.c --------------------------------------------------------- */

enum bk_status store_journal_append(struct bk_connection *connection, const struct bk_event *event);
enum bk_status store_journal_store_counter(struct bk_connection *connection,
                                           const struct store_counter *counter);
/* Reads counter and epoch; after an unclean stop also checks the newest rows. Writes nothing. */
enum bk_status store_journal_load(struct bk_connection *connection, bool is_unclean,
                                  struct store_counter *counter, uint8_t epoch[STORE_EPOCH_BYTES],
                                  struct bk_error *error);
/* Every sequence from the oldest to the last is there. */
enum bk_status store_journal_check_all(struct bk_connection *connection, struct bk_error *error);
struct bk_journal_state store_journal_snapshot(const struct bk_database *database);
void store_journal_init(void);
void store_prune_init(struct bk_database *database);
void store_prune_on_opened(struct bk_database *database);
void store_prune_start_timer(struct bk_store *store);
/* On the writer, when the batch is answered. */
void store_checkpoint_after_commit(struct bk_database *database);
/* Truncates what has been idle; returns the milliseconds until the next one, -1: there is none. */
int store_checkpoint_idle(struct store_writer *writer);
void store_checkpoint_forget(struct bk_database *database);

/* --- reader.c, copy.c ------------------------------------------------------------- */

void store_readers_init(struct bk_store *store);
void store_readers_fini(struct bk_store *store);
uint32_t store_readers_waiting_count(struct bk_store *store);
/* Takes the database's connections out of the reader threads' hands and closes them. Any thread. */
void store_readers_close_database(struct bk_database *database);
/* Ends the loop's read transaction. */
void store_read_now_end(struct bk_database *database);
void store_on_turn_end(struct bk_turn_hook *hook);
/* quick_check in the background, after an unclean stop. */
void store_check_in_background(struct bk_database *database);

/* --- database.c, opening.c, head.c, inspect.c ------------------------------------------------- */

/* On the loop, when something outstanding has come back: goes on with a close that waits for it. */
void store_database_continue_closing(struct bk_database *database);
/* Calls once when nothing is outstanding, perhaps at once. Gives up checks in the background. */
void store_database_when_quiet(struct bk_database *database, void (*on_quiet)(void *user),
                               void *user);
/* On the writer. */
enum bk_status store_opening_run(struct bk_database *database,
                                 const struct bk_database_options *options, struct bk_error *error);
void store_closing_run(struct bk_database *database);
/* After a commit of unknown outcome: closes the connection and opens the file again, with recovery,
 * the journal's check and an empty WAL. On failure the database is broken until a later try, with
 * the next write that comes after STORE_REOPEN_MS. */
void store_reopen(struct bk_database *database);

/* While opening, with the journal loaded: reads the head and sets `renewal`. Writes nothing. */
enum bk_status store_head_examine(struct bk_database *database, struct bk_error *error);
/* After the opening transaction: writes the head unless it is right as it is. */
void store_head_begin(struct bk_database *database);
/* Before a commit; committed: the last sequence before it. */
void store_head_reserve(struct bk_database *database, uint64_t committed);
/* Before the database is marked as closed; false: it must not be. */
bool store_head_end(struct bk_database *database);

/* Gives the journal a new epoch, in the connection's transaction if it has one. BK_NOT_SUPPORTED:
 * there is no journal. */
enum bk_status store_epoch_renew(struct bk_connection *connection);
/* Whether there is a WAL with something in it next to the file. */
bool store_has_wal(const char *path);
enum store_file_state { STORE_FILE_NEW, STORE_FILE_DATABASE };
/* Looks at the headers of the file and of its WAL, as plain files: nobody may have it open.
 * BK_CORRUPT with what is wrong. */
enum bk_status store_inspect_file(const char *path, enum store_file_state *state,
                                  struct bk_error *error);
/* Whether an open file is ours, or has nothing in it yet (*is_empty). BK_CORRUPT when it is of
 * another program. */
enum bk_status store_check_identity(struct bk_connection *connection, const char *path,
                                    bool *is_empty, struct bk_error *error);
/* Sets the message of a damaged file: what is wrong, which file, what to do. */
enum bk_status store_error_damaged(struct bk_error *error, const char *path, const char *what);
/* What cannot come from a database that is as this program has made it. One damaged byte in a
 * statement of the schema, or in a key, is a column that is missing or a row that is there twice:
 * SQLite calls only some of it damage. */
bool store_is_of_content(enum bk_status status);
/* Completes the message of a failure on a database that was there: with the file, with what SQLite
 * said ("": nothing), and with the remedy where its content is at fault, which is BK_CORRUPT then.
 * A message that names the file stays as it is. Returns the status. */
enum bk_status store_error_explain(struct bk_error *error, enum bk_status status, const char *path,
                                   const char *said);
/* Text that may hold bytes of a damaged file, in place: one line of UTF-8. */
void store_text_tidy(char *text);

#endif
