/*
 * data/instance.db: when each closed tenant is next due, so that nobody has to open them all to
 * know. It can be lost: what it says is in the tenants' databases, too.
 *
 *   tenants (name, is_open, due, updated)    due: work time; 0: unknown, so it is due now
 *
 * A tenant's row says `is_open` from its opening until its closing, when it gets its due time. What
 * is to be said is kept as a mark until it is stored; marks are gathered while a write is under
 * way.
 *
 * In the transaction that opens the file, on the writer:
 *   - a tenant that was open is due now: the program was killed, and nobody has told its due
 *   - so is one that has no row, whoever has put it there; a new file has no rows at all
 *   - so is one whose row is from the future: the clock was set back
 *   - and after a kill one with a write-ahead log, which a closed tenant has not: it was opened,
 *     and the mark that said so did not get to the disk
 * Then the due ones are opened, some at a time (instance_wake.c). So a start reads the names of the
 * tenants and one index; the tenants themselves cost nothing until they are due.
 *
 * A mark is synced: that a tenant is open could be told by its write-ahead log after a loss of
 * power, too, but the due time of one that was closed is nowhere else but in it. Marks of many
 * tenants share a commit, and an opening has syncs of its own.
 *
 * A damaged file is put aside as instance.db.damaged, and begun anew. When it cannot be opened or
 * written for another reason (a full disk) it is tried again; tenants that are open do their work
 * without it. The restore of a backup removes it.
 */
#include "instance_private.h"

#include "bakend/alloc.h"
#include "bakend/file.h"

#include <stdio.h>

enum { RETRY_MS = 5000, NAMES_MAX_BYTES = 64 * 1024 * 1024 };

/* Marks as they are stored; the loop may replace them meanwhile. */
struct instance_storing {
    struct bk_write write;
    struct work_instance *instance;
    bool judges;
    int64_t now_ms;
    size_t mark_count;
    struct instance_mark marks[];
};

static const struct bk_migration migrations[] = {
    {.name = "instance_1_tenants",
     .sql = "CREATE TABLE tenants (name TEXT PRIMARY KEY NOT NULL, is_open INTEGER NOT NULL, "
            "due INTEGER NOT NULL, updated INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE INDEX tenants_due ON tenants (due) WHERE is_open = 0"},
};

static void begin_opening(struct work_instance *instance);
static void continue_closing(struct work_instance *instance);

struct bk_slice work_instance_name_of(const char *name, size_t length) {
    return bk_slice_make(name, length);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_closed_task(struct bk_task *task) {
    struct work_instance *instance = bk_container_of(task, struct work_instance, closed_task);
    instance->closed(instance->closed_user);
}

struct work_instance *work_instance_create(struct bk_work *work,
                                           const struct bk_work_options *options,
                                           struct work_clock *clock) {
    struct work_instance *instance = bk_alloc_zero(sizeof *instance);
    instance->work = work;
    instance->loop = options->loop;
    instance->store = options->store;
    instance->tenants = options->tenants;
    instance->log = options->log;
    instance->clock = clock;
    bk_buffer_init(&instance->names, NAMES_MAX_BYTES);
    bk_map_init(&instance->marks);
    bk_task_init(&instance->closed_task, on_closed_task);
    const char *directory = options->data_directory;
    if (directory == NULL ||
        !bk_path_join(instance->path, sizeof instance->path, directory, "instance.db") ||
        !bk_path_join(instance->tenants_path, sizeof instance->tenants_path, directory, "tenants"))
        instance->path[0] = '\0';
    return instance;
}

void work_instance_destroy(struct work_instance *instance) {
    size_t cursor = 0;
    struct bk_map_entry *entry;
    BK_ASSERT(instance->database == NULL && instance->storing == NULL);
    work_instance_end_wakes(instance);
    while ((entry = bk_map_next(&instance->marks, &cursor)) != NULL)
        bk_free(entry->value);
    bk_map_fini(&instance->marks);
    bk_buffer_fini(&instance->names);
    bk_free(instance);
}

static void wait_and_retry(struct work_instance *instance) {
    instance->retry_ms = work_clock_pace_ms() + RETRY_MS;
}

static bool has_to_wait(const struct work_instance *instance) {
    return work_clock_pace_ms() < instance->retry_ms;
}

/* --- a file that is no good ------------------------------------------------------------------- */

static enum bk_status move(const char *path, const char *suffix, struct bk_error *error) {
    char from[INSTANCE_PATH_BYTES + 16], to[INSTANCE_PATH_BYTES + 32];
    (void)snprintf(from, sizeof from, "%s%s", path, suffix);
    (void)snprintf(to, sizeof to, "%s.damaged%s", path, suffix);
    if (!bk_file_exists(from))
        return bk_file_exists(to) ? bk_file_remove(to, error) : BK_OK;
    return bk_file_rename(from, to, error);
}

static void remove_beside(const char *path, const char *suffix) {
    char file[INSTANCE_PATH_BYTES + 16];
    (void)snprintf(file, sizeof file, "%s%s", path, suffix);
    if (bk_file_exists(file))
        (void)bk_file_remove(file, NULL);
}

static enum bk_status put_aside(struct work_instance *instance, struct bk_error *error) {
    enum bk_status status = move(instance->path, "", error);
    if (status == BK_OK)
        status = move(instance->path, "-wal", error);
    remove_beside(instance->path, "-shm");
    if (status == BK_OK)
        bk_log_warn(&instance->log, "instance_damaged", BK_TEXT("path", instance->path),
                    BK_TEXT("effect", "it is made anew: all tenants are opened in turn to see what "
                                      "is due in them"));
    return status;
}

/* The write-ahead log of a file that somebody has removed is not that of the next one. */
static void remove_remains(const char *path) {
    if (bk_file_exists(path))
        return;
    remove_beside(path, "-wal");
    remove_beside(path, "-shm");
}

/* --- on the writer: the opening transaction --------------------------------------------------- */

static enum bk_status was_killed(struct bk_connection *connection, bool *killed) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT value FROM _meta WHERE name = 'clean' AND value = 0"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    *killed = status == BK_OK;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status run_with_time(struct bk_connection *connection, struct bk_slice text,
                                    int64_t time_ms) {
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, time_ms);
    return bk_statement_run(statement);
}

static enum bk_status judge(struct bk_connection *connection, int64_t now_ms) {
    return run_with_time(connection,
                         BK_SLICE("UPDATE tenants SET due = 0 WHERE updated > ?1 AND is_open = 0"),
                         now_ms + WORK_FUTURE_MS);
}

/* What the process before has left. Rows that are due stay due until their tenants are opened. */
static enum bk_status take_over(struct bk_connection *connection, int64_t now_ms) {
    enum bk_status status =
        run_with_time(connection,
                      BK_SLICE("UPDATE tenants SET is_open = 0, due = 0, updated = ?1 WHERE "
                               "is_open = 1"),
                      now_ms);
    return status == BK_OK ? judge(connection, now_ms) : status;
}

static bool has_write_ahead_log(const struct work_instance *instance, struct bk_slice name) {
    char path[INSTANCE_PATH_BYTES + BK_TENANT_NAME_BYTES_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/%.*s/data.db-wal", instance->tenants_path,
                   BK_SLICE_PRINT(name));
    return bk_file_exists(path);
}

static enum bk_status add_name(struct bk_connection *connection, struct bk_slice name,
                               int64_t now_ms, bool is_due) {
    const struct bk_sql sql =
        bk_sql_make(is_due ? BK_SLICE("INSERT OR REPLACE INTO tenants VALUES (?1, 0, 0, ?2)")
                           : BK_SLICE("INSERT OR IGNORE INTO tenants VALUES (?1, 0, 0, ?2)"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, name);
    bk_statement_bind_int(statement, 2, now_ms);
    return bk_statement_run(statement);
}

static enum bk_status on_prepare(struct bk_transaction *transaction, void *user,
                                 struct bk_error *error) {
    const struct work_instance *instance = user;
    struct bk_connection *connection = bk_transaction_connection(transaction);
    int64_t now_ms = work_clock_now_ms(instance->clock);
    bool killed = false;
    enum bk_status status = was_killed(connection, &killed);
    (void)error;
    if (status == BK_OK)
        status = take_over(connection, now_ms);
    struct bk_slice rest = bk_buffer_slice(&instance->names), name;
    while (status == BK_OK && rest.length > 0 && bk_slice_split(&rest, '\n', &name))
        if (name.length > 0)
            status =
                add_name(connection, name, now_ms, killed && has_write_ahead_log(instance, name));
    return status;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Who was never opened has no tasks. */
static void on_name(struct bk_slice name, void *user) {
    struct work_instance *instance = user;
    if (!bk_tenant_has_database(instance->tenants, name))
        return;
    bk_buffer_append_slice(&instance->names, name);
    bk_buffer_append_char(&instance->names, '\n');
}

/* It is another program's, of a newer one, or damaged. */
static bool is_no_good(enum bk_status status) {
    return status == BK_CORRUPT || status == BK_NOT_SUPPORTED || status == BK_INVALID;
}

static void open_anew(struct work_instance *instance) {
    struct bk_error error = BK_ERROR_INIT;
    instance->is_renewed = true;
    if (put_aside(instance, &error) == BK_OK) {
        begin_opening(instance);
        return;
    }
    bk_log_error(&instance->log, "instance_not_opened", BK_TEXT("path", instance->path),
                 BK_TEXT("error", error.message), BK_TEXT("remedy", "move the file away"));
    instance->state = INSTANCE_FAILED;
    wait_and_retry(instance);
}

static void on_opened(struct bk_database_open *opening, enum bk_status status) {
    struct work_instance *instance = bk_container_of(opening, struct work_instance, opening);
    BK_ASSERT(instance->state == INSTANCE_OPENING);
    instance->database = opening->database;
    bk_buffer_clear(&instance->names);
    if (status == BK_OK) {
        instance->state = INSTANCE_OPEN;
        work_instance_flush(instance);
        work_instance_wake_due(instance);
    } else if (is_no_good(status) && !instance->is_renewed && instance->closed == NULL) {
        open_anew(instance);
    } else {
        bk_log_error(&instance->log, "instance_not_opened", BK_TEXT("path", instance->path),
                     BK_TEXT("error", opening->error.message),
                     BK_TEXT("effect", "closed tenants are not opened when they are due; it is "
                                       "tried again"));
        instance->state = INSTANCE_FAILED;
        wait_and_retry(instance);
    }
    continue_closing(instance);
}

static void begin_opening(struct work_instance *instance) {
    BK_ASSERT(instance->database == NULL);
    instance->state = INSTANCE_OPENING;
    remove_remains(instance->path);
    bk_buffer_clear(&instance->names);
    bk_tenants_for_each_name(instance->tenants, on_name, instance);
    instance->opening =
        (struct bk_database_open){.options = {.tenant = BK_SLICE("instance"),
                                              .path = instance->path,
                                              .synchronous = BK_SYNCHRONOUS_FULL,
                                              .migrations = migrations,
                                              .migration_count = BK_COUNT_OF(migrations),
                                              .on_prepare = on_prepare,
                                              .user = instance},
                                  .done = on_opened};
    bk_database_open(instance->store, &instance->opening);
}

void work_instance_begin(struct work_instance *instance) {
    if (instance->state == INSTANCE_WAITS && instance->path[0] != '\0' && instance->closed == NULL)
        begin_opening(instance);
}

/* --- marks ------------------------------------------------------------------------------------ */

void work_instance_put_mark(struct work_instance *instance, struct bk_slice name, bool is_open,
                            bool is_gone, int64_t due_ms) {
    struct instance_mark *mark = bk_map_get(&instance->marks, name);
    BK_ASSERT(name.length <= BK_TENANT_NAME_BYTES_MAX);
    if (instance->path[0] == '\0')
        return;
    if (mark == NULL) {
        mark = bk_alloc_zero(sizeof *mark);
        memcpy(mark->name, name.data, name.length);
        mark->name_length = name.length;
        (void)bk_map_put(&instance->marks, work_instance_name_of(mark->name, name.length), mark);
    }
    mark->is_open = is_open;
    mark->is_gone = is_gone;
    mark->due_ms = due_ms;
    mark->version = ++instance->version;
}

bool work_instance_has_mark(const struct work_instance *instance, struct bk_slice name) {
    return bk_map_get(&instance->marks, name) != NULL;
}

static enum bk_status store_mark(struct bk_connection *connection, const struct instance_mark *mark,
                                 int64_t now_ms) {
    const struct bk_sql sql = bk_sql_make(
        mark->is_gone ? BK_SLICE("DELETE FROM tenants WHERE name = ?1")
                      : BK_SLICE("INSERT OR REPLACE INTO tenants VALUES (?1, ?2, ?3, ?4)"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, work_instance_name_of(mark->name, mark->name_length));
    if (!mark->is_gone) {
        bk_statement_bind_int(statement, 2, mark->is_open);
        bk_statement_bind_int(statement, 3, mark->due_ms);
        bk_statement_bind_int(statement, 4, now_ms);
    }
    return bk_statement_run(statement);
}

static enum bk_status on_store(struct bk_transaction *transaction, struct bk_write *write) {
    const struct instance_storing *storing = bk_container_of(write, struct instance_storing, write);
    struct bk_connection *connection = bk_transaction_connection(transaction);
    enum bk_status status = storing->judges ? judge(connection, storing->now_ms) : BK_OK;
    for (size_t i = 0; i < storing->mark_count && status == BK_OK; i++)
        status = store_mark(connection, &storing->marks[i], storing->now_ms);
    return status;
}

/* Those that were replaced meanwhile are stored again. */
static void drop_stored(struct work_instance *instance, const struct instance_storing *storing) {
    for (size_t i = 0; i < storing->mark_count; i++) {
        struct bk_slice name =
            work_instance_name_of(storing->marks[i].name, storing->marks[i].name_length);
        const struct instance_mark *mark = bk_map_get(&instance->marks, name);
        if (mark != NULL && mark->version == storing->marks[i].version)
            bk_free(bk_map_remove(&instance->marks, name));
    }
}

static void on_damaged_closed(void *user) {
    struct work_instance *instance = user;
    instance->database = NULL;
    instance->state = INSTANCE_FAILED;
    if (instance->closed == NULL)
        open_anew(instance);
    continue_closing(instance);
}

static void storing_failed(struct work_instance *instance, enum bk_status status) {
    bk_log_warn(&instance->log, "instance_not_written", BK_TEXT("path", instance->path),
                BK_TEXT("status", bk_status_name(status)), BK_TEXT("remedy", "it is tried again"));
    wait_and_retry(instance);
    if (!is_no_good(status) || instance->is_renewed || instance->closed != NULL)
        return;
    instance->state = INSTANCE_CLOSING;
    bk_database_close(instance->database, on_damaged_closed, instance);
}

static void on_stored(struct bk_write *write, enum bk_status status) {
    struct instance_storing *storing = bk_container_of(write, struct instance_storing, write);
    struct work_instance *instance = storing->instance;
    instance->storing = NULL;
    if (status == BK_OK) {
        drop_stored(instance, storing);
        instance->is_renewed = false;
        instance->retry_ms = 0;
        work_instance_flush(instance);
        work_instance_wake_due(instance);
    } else {
        instance->wants_judge = instance->wants_judge || storing->judges;
        storing_failed(instance, status);
    }
    bk_free(storing);
    continue_closing(instance);
}

static struct instance_storing *gather(struct work_instance *instance) {
    struct instance_storing *storing =
        bk_alloc_zero(sizeof *storing + instance->marks.count * sizeof(struct instance_mark));
    size_t cursor = 0;
    struct bk_map_entry *entry;
    storing->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_store, .done = on_stored};
    storing->instance = instance;
    storing->judges = instance->wants_judge;
    storing->now_ms = work_clock_now_ms(instance->clock);
    while ((entry = bk_map_next(&instance->marks, &cursor)) != NULL)
        storing->marks[storing->mark_count++] = *(const struct instance_mark *)entry->value;
    return storing;
}

void work_instance_flush(struct work_instance *instance) {
    bool has_any = instance->marks.count > 0 || instance->wants_judge;
    if (has_to_wait(instance))
        return;
    if (instance->state == INSTANCE_FAILED && instance->closed == NULL)
        begin_opening(instance);
    if (instance->state != INSTANCE_OPEN || instance->storing != NULL || !has_any)
        return;
    struct instance_storing *storing = gather(instance);
    enum bk_status status = bk_store_write(instance->database, &storing->write);
    if (status != BK_OK) {
        bk_free(storing);
        wait_and_retry(instance);
        return;
    }
    instance->storing = storing;
    instance->wants_judge = false;
}

/* --- what a tenant tells ---------------------------------------------------------------------- */

void work_instance_tenant_opened(struct work_instance *instance, struct bk_tenant *tenant) {
    for (size_t i = 0; i < INSTANCE_WAKES_MAX; i++) {
        struct instance_wake *wake = &instance->wakes[i];
        if (wake->is_used &&
            bk_slice_equal(work_instance_name_of(wake->name, wake->name_length), tenant->name))
            wake->was_opened = true;
    }
    work_instance_put_mark(instance, tenant->name, true, false, 0);
    work_instance_begin(instance);
    work_instance_flush(instance);
}

void work_instance_tenant_closed(struct work_instance *instance, struct bk_tenant *tenant,
                                 int64_t due_ms) {
    bool is_gone = !bk_tenant_exists(instance->tenants, tenant->name);
    work_instance_put_mark(instance, tenant->name, false, is_gone, due_ms);
    work_instance_flush(instance);
}

/* --- closing ---------------------------------------------------------------------------------- */

static void on_closed(void *user) {
    struct work_instance *instance = user;
    instance->database = NULL;
    instance->state = INSTANCE_CLOSED;
    bk_loop_defer(instance->loop, &instance->closed_task);
}

/* What cannot be stored now is found at the next start: those tenants are noted as open. */
static void continue_closing(struct work_instance *instance) {
    if (instance->closed == NULL || instance->storing != NULL ||
        instance->state == INSTANCE_OPENING || instance->state == INSTANCE_CLOSING ||
        instance->state == INSTANCE_CLOSED)
        return; /* comes back by itself, or is done */
    work_instance_flush(instance);
    if (instance->storing != NULL)
        return;
    if (instance->state == INSTANCE_OPEN) {
        instance->state = INSTANCE_CLOSING;
        bk_database_close(instance->database, on_closed, instance);
    } else {
        on_closed(instance);
    }
}

void work_instance_close(struct work_instance *instance, void (*closed)(void *user), void *user) {
    BK_ASSERT(instance->closed == NULL && closed != NULL);
    work_instance_stop(instance);
    instance->closed = closed;
    instance->closed_user = user;
    instance->retry_ms = 0; /* once more, and at once */
    continue_closing(instance);
}
