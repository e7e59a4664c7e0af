/*
 * Checkpoints: moving the WAL into the database file. By the writer only, between batches, after
 * the batch has been answered; a second checkpointer can corrupt a WAL of this SQLite.
 *
 *   past 4 MB           PASSIVE: what no reader needs any more. The next commit then starts the WAL
 *                       over, when no reader stands in it.
 *   past 32 MB          RESTART, which waits for readers: 20 ms at most, tried again 4 MB later
 *   idle for a second   TRUNCATE
 *
 * A try that did not get the WAL to start over is repeated when it has grown by another step, not
 * with each commit: each try syncs both files.
 */
#include "store_private.h"

enum {
    STEP_BYTES = 4 * 1024 * 1024,
    RESTART_BYTES = 32 * 1024 * 1024,
    RESTART_TIMEOUT_MS = 20,
    IDLE_MS = 1000
};

/* One that fails because of a reader is tried again; one that fails for the disk is a bad sign. */
static void run_checkpoint(struct bk_database *database, int mode) {
    struct bk_connection *connection = database->connection;
    int code;
    connection->deadline_ns = 0;
    (void)sqlite3_busy_timeout(connection->handle, RESTART_TIMEOUT_MS);
    code = sqlite3_wal_checkpoint_v2(connection->handle, NULL, mode, NULL, NULL);
    (void)sqlite3_busy_timeout(connection->handle, STORE_BUSY_TIMEOUT_MS);
    if (code == SQLITE_OK && mode == SQLITE_CHECKPOINT_TRUNCATE)
        connection->wal_bytes = 0;
    if (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return;
    (void)store_connection_fail(connection, code);
    bk_log_error(&database->store->log, "checkpoint_failed", BK_STRING("tenant", database->tenant),
                 BK_TEXT("path", database->path), BK_TEXT("error", connection->error),
                 BK_TEXT("remedy", "look at the disk and its free space"));
    /* After a failed fsync nobody knows what the kernel still holds: begin anew. */
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC)
        store_reopen(database);
}

static void publish_wal_bytes(struct bk_database *database) {
    __atomic_store_n(&database->wal_bytes,
                     database->is_broken ? 0 : database->connection->wal_bytes, __ATOMIC_RELAXED);
}

static void become_idle_later(struct bk_database *database) {
    database->truncate_at_ns = bk_clock_monotonic_ns() + IDLE_MS * STORE_NS_PER_MS;
    bk_list_remove(&database->idle_link);
    bk_list_push(&database->writer->idle, &database->idle_link);
}

void store_checkpoint_after_commit(struct bk_database *database) {
    struct bk_connection *connection = database->connection;
    if (database->is_broken)
        return;
    if (connection->wal_bytes + STEP_BYTES < database->checkpoint_at_bytes)
        database->checkpoint_at_bytes = STEP_BYTES; /* it has started over */
    if (connection->wal_bytes >= database->checkpoint_at_bytes) {
        database->checkpoint_at_bytes = connection->wal_bytes + STEP_BYTES;
        run_checkpoint(database, connection->wal_bytes >= RESTART_BYTES
                                     ? SQLITE_CHECKPOINT_RESTART
                                     : SQLITE_CHECKPOINT_PASSIVE);
    }
    if (!database->is_broken && database->connection->wal_bytes > 0)
        become_idle_later(database);
    publish_wal_bytes(database);
}

int store_checkpoint_idle(struct store_writer *writer) {
    uint64_t now_ns = bk_clock_monotonic_ns();
    while (!bk_list_is_empty(&writer->idle)) {
        struct bk_database *database =
            bk_container_of(writer->idle.next, struct bk_database, idle_link);
        if (database->truncate_at_ns > now_ns)
            return (int)((database->truncate_at_ns - now_ns) / STORE_NS_PER_MS) + 1;
        bk_list_remove(&database->idle_link);
        if (database->is_broken)
            continue;
        run_checkpoint(database, SQLITE_CHECKPOINT_TRUNCATE);
        database->checkpoint_at_bytes = STEP_BYTES;
        if (!database->is_broken && database->connection->wal_bytes > 0)
            become_idle_later(database); /* a reader stood in it */
        publish_wal_bytes(database);
    }
    return -1;
}

void store_checkpoint_forget(struct bk_database *database) {
    bk_list_remove(&database->idle_link);
    database->truncate_at_ns = 0;
}
