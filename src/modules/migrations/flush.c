/*
 * Files of rows that still hold their text: each is written (temporary file, fsync, rename) on the
 * pool's thread, then one write takes the texts out of the rows. A file that is there and says
 * something else is somebody's: it is left, and so is the row. What a crash left hidden in the
 * folder goes at the next start.
 */
#include "migrations_private.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"
#include "bakend/file.h"
#include <stdio.h>

struct flush {
    struct migrations_state *state;
    struct bk_tenant *tenant;
    void (*done)(void *user, enum bk_status status);
    void *user;
    struct bk_arena arena;
    struct migration_rows rows;
    struct bk_job job;
    struct bk_write write;
    enum bk_status status; /* of the files */
    struct bk_slice file;  /* the first that failed */
    struct bk_error error;
};

static void finish(struct flush *flush, enum bk_status status) {
    struct migrations_state *state = flush->state;
    if (status != BK_OK)
        bk_log_warn(&state->context->log, "migration_not_written", BK_STRING("file", flush->file),
                    BK_TEXT("directory", state->directory),
                    BK_TEXT("reason", flush->error.message[0] != '\0' ? flush->error.message
                                                                      : bk_status_text(status)),
                    BK_TEXT("remedy", "make the folder writable: the next change of a collection "
                                      "or the next start writes it; or start with "
                                      "--automigrate=false"));
    if (flush->done != NULL)
        flush->done(flush->user, status);
    bk_tenant_release(flush->tenant);
    bk_arena_fini(&flush->arena);
    bk_free(flush);
    migrations_end(state);
}

/* --- on the pool's thread --------------------------------------------------------------------- */

/* BK_OK: it is there. BK_NOT_FOUND. BK_EXISTS: another one is. */
static enum bk_status look_for(const char *path, struct bk_slice text) {
    struct bk_buffer there;
    if (!bk_file_exists(path))
        return BK_NOT_FOUND;
    bk_buffer_init(&there, MIGRATIONS_FILE_BYTES_MAX);
    bool is_same =
        bk_file_read(path, &there, NULL) == BK_OK && bk_slice_equal(bk_buffer_slice(&there), text);
    bk_buffer_fini(&there);
    return is_same ? BK_OK : BK_EXISTS;
}

/* One that has its name already was synchronised before; renaming it to itself does that for the
 * folder. */
static enum bk_status write_file(struct flush *flush, const struct migration_row *row) {
    const char *directory = flush->state->directory;
    char path[MIGRATIONS_PATH_BYTES], hidden[MIGRATIONS_PATH_BYTES];
    if (!bk_path_join(path, sizeof path, directory, row->name.data) ||
        !migrations_hidden_path(hidden, directory, row->name))
        return bk_error_set(&flush->error, BK_INVALID, "the path is too long");
    enum bk_status status = look_for(path, row->body);
    if (status == BK_OK)
        return bk_file_rename(path, path, &flush->error);
    if (status == BK_EXISTS)
        return bk_error_set(&flush->error, status,
                            "a file of this name is there and says something else: move it away");
    status = bk_directory_create(directory, &flush->error);
    if (status == BK_OK)
        status = bk_file_write_atomic(path, row->body, &flush->error);
    if (status == BK_OK && bk_file_exists(hidden))
        (void)bk_file_remove(hidden, NULL);
    return status;
}

/* A row whose file is not there keeps its text. */
static void on_run(struct bk_job *job, uint32_t thread_index) {
    struct flush *flush = bk_container_of(job, struct flush, job);
    (void)thread_index;
    BK_LIST_FOR_EACH(link, &flush->rows.all) {
        struct migration_row *row = bk_container_of(link, struct migration_row, link);
        enum bk_status status = write_file(flush, row);
        if (status == BK_OK)
            continue;
        bk_list_remove(link);
        if (flush->status == BK_OK) {
            flush->status = status;
            flush->file = row->name;
        }
    }
    (void)BK_FAILPOINT("migrations.written");
}

/* --- the rows --------------------------------------------------------------------------------- */

static enum bk_status on_write(struct bk_transaction *transaction, struct bk_write *write) {
    struct flush *flush = bk_container_of(write, struct flush, write);
    enum bk_status status = BK_OK;
    BK_LIST_FOR_EACH(link, &flush->rows.all) {
        const struct migration_row *row = bk_container_of(link, struct migration_row, link);
        if (status == BK_OK)
            status = migrations_row_written(transaction, row->name);
    }
    return status;
}

static void on_write_done(struct bk_write *write, enum bk_status status) {
    struct flush *flush = bk_container_of(write, struct flush, write);
    finish(flush, flush->status != BK_OK ? flush->status : status);
}

static void on_job_done(struct bk_job *job) {
    struct flush *flush = bk_container_of(job, struct flush, job);
    if (bk_list_is_empty(&flush->rows.all)) {
        finish(flush, flush->status);
        return;
    }
    flush->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_write, .done = on_write_done};
    enum bk_status status = bk_store_write(flush->tenant->database, &flush->write);
    if (status != BK_OK)
        finish(flush, status);
}

static void on_rows(struct migration_rows *rows, enum bk_status status) {
    struct flush *flush = bk_container_of(rows, struct flush, rows);
    if (status == BK_OK && !bk_list_is_empty(&rows->all)) {
        flush->job = (struct bk_job){.run = on_run, .done = on_job_done};
        status = bk_pool_submit(flush->state->pool, &flush->job);
        if (status == BK_OK)
            return;
    }
    flush->error = rows->error;
    finish(flush, status);
}

void migrations_flush(struct migrations_state *state, struct bk_tenant *tenant,
                      void (*done)(void *user, enum bk_status status), void *user) {
    struct flush *flush = bk_alloc_zero(sizeof *flush);
    flush->state = state;
    flush->tenant = tenant;
    flush->done = done;
    flush->user = user;
    flush->error = (struct bk_error)BK_ERROR_INIT;
    flush->rows.is_unwritten_only = true;
    flush->rows.done = on_rows;
    bk_arena_init(&flush->arena, MIGRATIONS_ARENA_BYTES_MAX);
    migrations_begin(state);
    bk_tenant_ref(tenant);
    enum bk_status status = migrations_rows_read(&flush->rows, &flush->arena, tenant->database);
    if (status != BK_OK)
        finish(flush, status);
}

/* --- what a crash left ------------------------------------------------------------------------ */

static void on_entry(void *user, const char *name, bool is_directory) {
    const struct migrations_state *state = user;
    char path[MIGRATIONS_PATH_BYTES];
    bool is_left = name[0] == '.' && strstr(name, ".json.") != NULL &&
                   (strstr(name, ".tmp-") != NULL ||
                    bk_slice_ends_with(bk_slice_from(name), BK_SLICE(".json.new")));
    if (!is_directory && is_left && bk_path_join(path, sizeof path, state->directory, name))
        (void)bk_file_remove(path, NULL);
}

void migrations_sweep(struct migrations_state *state) {
    if (bk_file_exists(state->directory))
        (void)bk_directory_list(state->directory, on_entry, state, NULL);
}
