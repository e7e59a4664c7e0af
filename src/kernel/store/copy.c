/*
 * What takes its time and must not keep readers waiting: copying a database, and checking one after
 * an unclean stop. Both run on the maintenance thread, on a read-only connection of their own.
 *
 * A copy holds one read transaction from beginning to end: SQLite's backup would start over
 * whenever another connection commits between two of its steps. Writers go on meanwhile, and the
 * WAL grows, since it cannot start over in front of a reader; hence a copy is made at the disk's
 * pace, with no pauses. The copy is written to a new file of mode 0600, synced, and removed again
 * when anything fails. It has the mark of a database in use, so it is checked when it is first
 * opened.
 *
 * A database that closes interrupts a check and waits for a copy.
 */
#include "store_private.h"

#include "bakend/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    STEP_PAGES = 1024 /* 4 MiB */
};

struct copying {
    struct bk_job job;
    struct bk_database *database;
    struct bk_database_copy *copy;
    enum bk_status status;
};

/* --- copying ---------------------------------------------------------------------------------- */

static enum bk_status status_of_creation(int system_error) {
    if (system_error == ENOSPC || system_error == EDQUOT)
        return BK_DISK_FULL;
    return system_error == EMFILE || system_error == ENFILE ? BK_BUSY : BK_IO;
}

/* SQLite would make the file with the process's umask, and would take an existing one. */
static enum bk_status create_target(const char *path, struct bk_error *error) {
    int descriptor = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor < 0 && errno == EEXIST)
        return bk_error_set(error, BK_EXISTS, "%s exists already: give another name", path);
    if (descriptor < 0)
        return bk_error_set(error, status_of_creation(errno), "%s cannot be created: %s", path,
                            strerror(errno));
    (void)close(descriptor);
    return BK_OK;
}

static int copy_pages(sqlite3 *target, sqlite3 *source) {
    sqlite3_backup *backup = sqlite3_backup_init(target, "main", source, "main");
    int code;
    if (backup == NULL)
        return sqlite3_errcode(target);
    do
        code = sqlite3_backup_step(backup, STEP_PAGES);
    while (code == SQLITE_OK);
    (void)sqlite3_backup_finish(backup);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static enum bk_status fill_target(struct bk_connection *source, const char *path,
                                  struct bk_error *error) {
    sqlite3 *target = NULL;
    enum bk_status status = BK_OK;
    int code = sqlite3_open_v2(
        path, &target, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    /* The file is removed when the copy fails, so it needs no journal of its own. */
    if (code == SQLITE_OK)
        code = sqlite3_exec(target, "PRAGMA journal_mode=OFF; PRAGMA synchronous=FULL", NULL, NULL,
                            NULL);
    if (code == SQLITE_OK)
        code = copy_pages(target, source->handle);
    if (code != SQLITE_OK)
        status = bk_error_set(error, (code & 0xff) == SQLITE_FULL ? BK_DISK_FULL : BK_IO,
                              "%s cannot be written: %s", path, sqlite3_errmsg(target));
    (void)sqlite3_close(target);
    return status;
}

static enum bk_status copy_in_transaction(struct bk_connection *source,
                                          struct bk_database_copy *copy) {
    int64_t ignored;
    enum bk_status status = store_connection_run_fixed(source, STORE_FIXED_BEGIN);
    /* A read makes the transaction take its snapshot. */
    if (status == BK_OK)
        status =
            store_connection_query_int(source, "SELECT count(*) FROM sqlite_schema", 0, &ignored);
    if (status != BK_OK)
        return bk_error_set(&copy->error, status, "the database cannot be read: %s", source->error);
    status = fill_target(source, copy->path, &copy->error);
    store_connection_roll_back(source);
    return status;
}

static void on_copy_run(struct bk_job *job, uint32_t thread_index) {
    struct copying *copying = bk_container_of(job, struct copying, job);
    struct bk_database_copy *copy = copying->copy;
    struct bk_connection *source = NULL;
    (void)thread_index;
    copying->status = create_target(copy->path, &copy->error);
    if (copying->status != BK_OK)
        return;
    copying->status = store_connection_open(copying->database, copying->database->path,
                                            STORE_CONNECTION_READER, &source, &copy->error);
    if (copying->status == BK_OK) {
        copying->status = copy_in_transaction(source, copy);
        store_connection_close(source, false);
    }
    if (copying->status != BK_OK)
        (void)bk_file_remove(copy->path, NULL);
}

static void on_copy_done(struct bk_job *job) {
    struct copying *copying = bk_container_of(job, struct copying, job);
    struct bk_database *database = copying->database;
    struct bk_database_copy *copy = copying->copy;
    enum bk_status status = copying->status;
    copy->storage = NULL;
    bk_free(copying);
    copy->done(copy, status);
    store_arrived(database->store, database);
    store_database_continue_closing(database);
}

enum bk_status bk_database_copy(struct bk_database *database, struct bk_database_copy *copy) {
    struct copying *copying;
    enum bk_status status;
    BK_ASSERT(copy->path != NULL && copy->done != NULL);
    if (database->is_closing)
        return BK_CLOSING;
    copying = bk_alloc_zero(sizeof(*copying));
    copying->job.run = on_copy_run;
    copying->job.done = on_copy_done;
    copying->database = database;
    copying->copy = copy;
    copy->error = (struct bk_error)BK_ERROR_INIT;
    status = bk_pool_submit(database->store->maintenance, &copying->job);
    if (status != BK_OK) {
        bk_free(copying);
        return status;
    }
    copy->storage = copying;
    store_await(database->store, database);
    return BK_OK;
}

/* --- checking in the background --------------------------------------------------------------- */

struct checking {
    struct bk_job job;
    struct bk_database *database;
};

static void report_damage(const struct bk_database *database, const char *what) {
    bk_log_error(&database->store->log, "database_damaged", BK_STRING("tenant", database->tenant),
                 BK_TEXT("path", database->path), BK_TEXT("error", what),
                 BK_TEXT("remedy", "stop bakend and restore a backup with `bakend restore`"));
}

static void check(struct bk_connection *connection) {
    sqlite3_stmt *statement = NULL;
    int code =
        sqlite3_prepare_v2(connection->handle, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        const char *verdict = (const char *)sqlite3_column_text(statement, 0);
        if (verdict != NULL && strcmp(verdict, "ok") != 0)
            report_damage(connection->database, verdict);
    } else if ((code & 0xff) != SQLITE_INTERRUPT) {
        report_damage(connection->database, sqlite3_errmsg(connection->handle));
    }
    (void)sqlite3_finalize(statement);
}

static void on_check_run(struct bk_job *job, uint32_t thread_index) {
    struct checking *checking = bk_container_of(job, struct checking, job);
    struct bk_database *database = checking->database;
    struct bk_connection *connection = NULL;
    (void)thread_index;
    if (store_connection_open(database, database->path, STORE_CONNECTION_READER, &connection,
                              NULL) != BK_OK)
        return;
    connection->is_cancelled = &database->is_stopping;
    check(connection);
    store_connection_close(connection, false);
}

static void on_check_done(struct bk_job *job) {
    struct checking *checking = bk_container_of(job, struct checking, job);
    struct bk_database *database = checking->database;
    bk_free(checking);
    store_arrived(database->store, database);
    store_database_continue_closing(database);
}

void store_check_in_background(struct bk_database *database) {
    struct checking *checking = bk_alloc_zero(sizeof(*checking));
    checking->job.run = on_check_run;
    checking->job.done = on_check_done;
    checking->database = database;
    if (bk_pool_submit(database->store->maintenance, &checking->job) != BK_OK) {
        bk_free(checking);
        return;
    }
    store_await(database->store, database);
}
