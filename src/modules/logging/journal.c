/*
 * The logs of one tenant: its logs.db, from the opening of the tenant until what was left to write
 * is written, which may be after the tenant has closed.
 *
 *              ┌─ damaged: moved aside ─┐
 *              v                        │
 *   WAITS ──> OPENING ──> OPEN ──> CLOSING ──> CLOSED
 *     │        │ ^ └────> FAILED
 *     │        └─┘ damaged: moved aside
 *     └─ ended before its turn ──────────────> CLOSED
 *
 * A damaged logs.db, found so when it is opened or written, gives way to a new one (damaged.c);
 * once until the tenant is opened again, since a disk that damages all it is given would have no
 * end of new ones.
 *
 * A tenant that is opened again while its former logs.db is still closing waits for that: one file
 * has one writer. Rows and readers wait in memory until the database is open, or open again. Ended
 * means: nothing new is taken, what waits is written, then the database closes. Freed when over and
 * detached.
 */
#include "logging_private.h"

#include "bakend/alloc.h"
#include "bakend/file.h"

static const struct bk_migration migrations[] = {
    {"logging_1_rows",
     "CREATE TABLE _logs ("
     " id TEXT PRIMARY KEY NOT NULL,"
     " level INTEGER NOT NULL,"
     " message TEXT NOT NULL,"
     " data TEXT NOT NULL,"
     " created TEXT NOT NULL);"
     "CREATE INDEX _logs_hour ON _logs (strftime('%Y-%m-%d %H:00:00', created));"},
};

static void begin_opening(struct logging_journal *journal);
static void open_anew(struct logging_journal *journal);

bool logging_journal_is_over(const struct logging_journal *journal) {
    return journal->state == LOGGING_CLOSED || journal->state == LOGGING_FAILED;
}

static struct bk_slice tenant_name(const struct logging_journal *journal) {
    return bk_slice_make(journal->tenant, journal->tenant_length);
}

static bool is_ending(const struct logging_journal *journal) {
    return journal->is_detached || journal->logging->is_stopping;
}

/* --- readers that waited ---------------------------------------------------------------------- */

static void run_reader(struct logging_journal *journal, struct logging_reader *reader) {
    enum bk_status status =
        journal->state == LOGGING_OPEN ? bk_store_read(journal->database, &reader->read) : BK_IO;
    if (status != BK_OK)
        reader->read.done(&reader->read, status);
}

static void run_readers(struct logging_journal *journal) {
    struct bk_list *node;
    while ((node = bk_list_pop(&journal->readers)) != NULL)
        run_reader(journal, bk_container_of(node, struct logging_reader, link));
}

/* --- the end ---------------------------------------------------------------------------------- */

static void start_successor(struct logging *logging, const char *path) {
    BK_LIST_FOR_EACH(node, &logging->journals) {
        struct logging_journal *other = bk_container_of(node, struct logging_journal, link);
        if (other->state == LOGGING_WAITS && strcmp(other->path, path) == 0) {
            begin_opening(other);
            return;
        }
    }
}

static void report_stopped(struct logging *logging) {
    BK_LIST_FOR_EACH(node, &logging->journals) {
        if (!logging_journal_is_over(bk_container_of(node, struct logging_journal, link)))
            return;
    }
    void (*stopped)(void *user) = logging->stopped;
    logging->stopped = NULL;
    if (stopped != NULL)
        stopped(logging->stopped_user);
}

/* It is over. */
static void settle(struct logging_journal *journal) {
    struct logging *logging = journal->logging;
    BK_ASSERT(logging_journal_is_over(journal) && !journal->is_writing);
    run_readers(journal);
    logging_rows_drop(journal);
    if (journal->is_detached) {
        bk_list_remove(&journal->link);
        start_successor(logging, journal->path);
        bk_free(journal);
    }
    report_stopped(logging);
}

static void on_closed(void *user) {
    struct logging_journal *journal = user;
    BK_ASSERT(journal->state == LOGGING_CLOSING);
    journal->database = NULL;
    if (journal->is_damaged && !is_ending(journal)) {
        open_anew(journal);
        return;
    }
    journal->state = LOGGING_CLOSED;
    settle(journal);
}

void logging_journal_end(struct logging_journal *journal) {
    BK_ASSERT(is_ending(journal));
    switch (journal->state) {
    case LOGGING_WAITS:
        journal->state = LOGGING_CLOSED;
        settle(journal);
        return;
    case LOGGING_OPEN:
        logging_rows_flush(journal);
        if (journal->is_writing)
            return; /* comes back when it is written */
        journal->state = LOGGING_CLOSING;
        bk_database_close(journal->database, on_closed, journal);
        return;
    case LOGGING_FAILED:
    case LOGGING_CLOSED:
        settle(journal);
        return;
    case LOGGING_OPENING:
    case LOGGING_CLOSING:
        return; /* comes back by itself */
    }
    BK_UNREACHABLE();
}

void logging_journal_detach(struct logging_journal *journal) {
    BK_ASSERT(!journal->is_detached);
    journal->is_detached = true;
    logging_journal_end(journal);
}

/* --- the beginning ---------------------------------------------------------------------------- */

static void fail(struct logging_journal *journal, enum bk_status status, const char *message) {
    journal->state = LOGGING_FAILED;
    bk_log_error(&journal->logging->context->log, "logs_not_opened",
                 BK_STRING("tenant", tenant_name(journal)),
                 BK_TEXT("status", bk_status_name(status)), BK_TEXT("path", journal->path),
                 BK_TEXT("message", message),
                 BK_TEXT("remedy", "move logs.db away and restart; only logs are in it"));
    if (is_ending(journal)) {
        settle(journal);
        return;
    }
    run_readers(journal);
    logging_rows_drop(journal);
}

/* The file is damaged and nobody has it open. */
static void open_anew(struct logging_journal *journal) {
    struct bk_error error = BK_ERROR_INIT;
    journal->is_damaged = false;
    journal->is_renewed = true;
    enum bk_status status = logging_move_aside(journal, &error);
    if (status == BK_OK) {
        journal->state = LOGGING_WAITS;
        begin_opening(journal);
    } else {
        fail(journal, status, error.message);
    }
}

void logging_journal_renew(struct logging_journal *journal) {
    BK_ASSERT(!journal->is_writing);
    if (journal->state != LOGGING_OPEN || journal->is_renewed || is_ending(journal))
        return;
    journal->is_damaged = true;
    journal->state = LOGGING_CLOSING;
    bk_database_close(journal->database, on_closed, journal);
}

/* What the store says of these two ends with the advice to restore a backup, and none has logs. */
static const char *message_of(const struct bk_database_open *open, enum bk_status status) {
    return status == BK_CORRUPT || status == BK_NOT_SUPPORTED ? bk_status_text(status)
                                                              : open->error.message;
}

static void on_opened(struct bk_database_open *open, enum bk_status status) {
    struct logging_journal *journal = bk_container_of(open, struct logging_journal, open);
    BK_ASSERT(journal->state == LOGGING_OPENING);
    journal->database = open->database;
    if (status == BK_CORRUPT && !journal->is_renewed && !is_ending(journal)) {
        open_anew(journal);
        return;
    }
    if (status != BK_OK) {
        fail(journal, status, message_of(open, status));
        return;
    }
    journal->state = LOGGING_OPEN;
    run_readers(journal);
    if (is_ending(journal))
        logging_journal_end(journal);
}

static void begin_opening(struct logging_journal *journal) {
    BK_ASSERT(journal->state == LOGGING_WAITS);
    journal->state = LOGGING_OPENING;
    journal->open = (struct bk_database_open){
        .options = {.tenant = tenant_name(journal),
                    .path = journal->path,
                    .synchronous = BK_SYNCHRONOUS_OFF,
                    .migrations = migrations,
                    .migration_count = BK_COUNT_OF(migrations)},
        .done = on_opened,
    };
    bk_database_open(journal->logging->context->store, &journal->open);
}

static bool has_predecessor(const struct logging *logging, const char *path) {
    BK_LIST_FOR_EACH(node, &logging->journals) {
        if (strcmp(bk_container_of(node, struct logging_journal, link)->path, path) == 0)
            return true;
    }
    return false;
}

struct logging_journal *logging_journal_open(struct logging *logging, struct bk_tenant *tenant) {
    struct logging_journal *journal = bk_alloc_zero(sizeof *journal);
    if (!bk_path_join(journal->path, sizeof journal->path, tenant->directory, "logs.db")) {
        bk_free(journal);
        return NULL;
    }
    BK_ASSERT(tenant->name.length <= sizeof journal->tenant);
    memcpy(journal->tenant, tenant->name.data, tenant->name.length);
    journal->tenant_length = tenant->name.length;
    journal->logging = logging;
    journal->state = LOGGING_WAITS;
    bk_list_init(&journal->rows);
    bk_list_init(&journal->batch);
    bk_list_init(&journal->readers);
    bool has_to_wait = has_predecessor(logging, journal->path);
    bk_list_push(&logging->journals, &journal->link);
    if (!has_to_wait)
        begin_opening(journal);
    return journal;
}

void logging_journal_read(struct logging_journal *journal, struct logging_reader *reader) {
    BK_ASSERT(reader->read.run != NULL && reader->read.done != NULL);
    bool opens = journal->state == LOGGING_WAITS || journal->state == LOGGING_OPENING ||
                 (journal->is_damaged && !is_ending(journal));
    if (opens)
        bk_list_push(&journal->readers, &reader->link);
    else
        run_reader(journal, reader);
}
