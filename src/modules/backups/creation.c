/*
 * Making a backup. It outlives a client that goes away: what was asked for is made.
 *
 *   PREPARING (pool)  the folder; what an interrupted one left (names that begin with '.') is
 * removed COPYING (store)   .KEY.db, a consistent image; writers go on PACKING (pool)    .KEY.part,
 * synced, then renamed to KEY: a name without a dot is always whole RECORDING (write) the event
 * backup.created
 *
 * A failure anywhere removes the temporary files, makes the event backup.failed and answers the
 * reason.
 */
#include "archive.h"
#include "backups_private.h"

#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "bakend/file.h"
#include <stdio.h>

struct making {
    struct bk_list link; /* in state->makings */
    struct backups_state *state;
    struct bk_request *request;
    struct bk_slice key;
    char copy_path[BACKUPS_PATH_BYTES], part_path[BACKUPS_PATH_BYTES],
        final_path[BACKUPS_PATH_BYTES];
    enum bk_status status;
    struct bk_error error;
    int64_t size_bytes;
    struct bk_job job;
    struct bk_database_copy copy;
    struct bk_write write;
};

bool backups_is_active(const struct backups_state *state, const struct bk_tenant *tenant,
                       struct bk_slice key) {
    BK_LIST_FOR_EACH(link, &state->makings) {
        struct making *making = bk_container_of(link, struct making, link);
        if (making->request->tenant == tenant &&
            (key.length == 0 || bk_slice_equal(key, making->key)))
            return true;
    }
    return false;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void answer(struct making *making) {
    struct backups_state *state = making->state;
    struct bk_request *request = making->request;
    enum bk_status status = making->status;
    bk_list_remove(&making->link);
    if (status == BK_OK)
        bk_answer_empty(request);
    else
        bk_answer_error(request, status, "Failed to create backup.");
    backups_stop_when_done(state);
}

static enum bk_status on_record_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct making *making = bk_container_of(write, struct making, write);
    struct bk_buffer payload;
    bk_buffer_init(&payload, BACKUPS_PATH_BYTES);
    bk_buffer_append_char(&payload, '{');
    bk_json_write_member_string(&payload, BK_SLICE("key"), making->key);
    if (making->status == BK_OK)
        bk_json_write_member_int(&payload, BK_SLICE("size"), making->size_bytes);
    else
        bk_json_write_member_string(&payload, BK_SLICE("error"),
                                    bk_slice_from(bk_status_name(making->status)));
    bk_buffer_append_char(&payload, '}');
    bk_buffer_insist(&payload);
    struct bk_slice subject = bk_arena_format(bk_transaction_arena(transaction), "backups/%.*s",
                                              BK_SLICE_PRINT(making->key));
    struct bk_event_draft draft = {.type = making->status == BK_OK ? BK_SLICE("backup.created")
                                                                   : BK_SLICE("backup.failed"),
                                   .source = BK_SLICE("backups"),
                                   .subject = subject,
                                   .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

static void on_record_done(struct bk_write *write, enum bk_status status) {
    struct making *making = bk_container_of(write, struct making, write);
    if (status != BK_OK)
        bk_log_warn(&making->state->context->log, "backup_event_failed",
                    BK_STRING("key", making->key), BK_TEXT("status", bk_status_name(status)));
    answer(making);
}

/* The event, then the answer; when even the event cannot be written, the answer alone. */
static void end(struct making *making, enum bk_status status) {
    struct bk_log *log = &making->state->context->log;
    struct bk_slice tenant = making->request->tenant->name;
    making->status = status;
    (void)BK_FAILPOINT("backups.before_event");
    if (status == BK_OK)
        bk_log_info(log, "backup_created", BK_STRING("tenant", tenant),
                    BK_STRING("key", making->key), BK_INT("size", making->size_bytes));
    else
        bk_log_error(log, "backup_failed", BK_STRING("tenant", tenant),
                     BK_STRING("key", making->key), BK_TEXT("reason", making->error.message));
    making->write = (struct bk_write){.lane = BK_LANE_REQUEST,
                                      .origin = &making->request->origin,
                                      .run = on_record_run,
                                      .done = on_record_done};
    status = bk_store_write(making->request->tenant->database, &making->write);
    if (status != BK_OK)
        on_record_done(&making->write, status);
}

/* --- packing ---------------------------------------------------------------------------------- */

static void on_pack_run(struct bk_job *job, uint32_t thread_index) {
    struct making *making = bk_container_of(job, struct making, job);
    (void)thread_index;
    making->status = BK_FAILPOINT("backups.before_pack");
    if (making->status == BK_OK)
        making->status = backups_archive_write(making->part_path, making->copy_path,
                                               making->request->tenant->name, &making->error);
    (void)bk_file_remove(making->copy_path, NULL);
    if (making->status == BK_OK)
        making->status = BK_FAILPOINT("backups.before_rename");
    if (making->status == BK_OK)
        making->status = bk_file_rename(making->part_path, making->final_path, &making->error);
    if (making->status != BK_OK)
        (void)bk_file_remove(making->part_path, NULL);
    making->size_bytes = bk_file_size(making->final_path);
}

static void on_pack_done(struct bk_job *job) {
    struct making *making = bk_container_of(job, struct making, job);
    end(making, making->status);
}

/* --- copying ---------------------------------------------------------------------------------- */

static void submit(struct making *making, void (*run)(struct bk_job *job, uint32_t thread_index),
                   void (*done)(struct bk_job *job)) {
    making->job = (struct bk_job){.run = run, .done = done};
    enum bk_status status = bk_pool_submit(making->state->pool, &making->job);
    if (status != BK_OK)
        end(making, bk_error_set(&making->error, status, "the pool takes no more jobs"));
}

static void on_copied(struct bk_database_copy *copy, enum bk_status status) {
    struct making *making = bk_container_of(copy, struct making, copy);
    if (status == BK_OK) {
        submit(making, on_pack_run, on_pack_done);
        return;
    }
    making->error = copy->error;
    end(making, status);
}

static void start_copy(struct making *making) {
    making->copy = (struct bk_database_copy){
        .path = making->copy_path, .done = on_copied, .error = BK_ERROR_INIT};
    enum bk_status status = BK_FAILPOINT("backups.before_copy");
    if (status == BK_OK)
        status = bk_database_copy(making->request->tenant->database, &making->copy);
    if (status != BK_OK)
        end(making, bk_error_set(&making->error, status, "the database takes no copy now"));
}

/* --- preparing -------------------------------------------------------------------------------- */

static void on_leftover(void *user, const char *name, bool is_directory) {
    char path[BACKUPS_PATH_BYTES];
    if (!is_directory && name[0] == '.' && bk_path_join(path, sizeof path, user, name))
        (void)bk_file_remove(path, NULL);
}

static void on_prepare_run(struct bk_job *job, uint32_t thread_index) {
    struct making *making = bk_container_of(job, struct making, job);
    char directory[BACKUPS_PATH_BYTES];
    (void)thread_index;
    if (!bk_path_join(directory, sizeof directory, making->request->tenant->directory, "backups")) {
        making->status = bk_error_set(&making->error, BK_INVALID, "the path is too long");
        return;
    }
    making->status = bk_directory_create(directory, &making->error);
    if (making->status == BK_OK)
        making->status = bk_directory_list(directory, on_leftover, directory, &making->error);
}

static void on_prepare_done(struct bk_job *job) {
    struct making *making = bk_container_of(job, struct making, job);
    if (making->status == BK_OK)
        start_copy(making);
    else
        end(making, making->status);
}

/* --- what is asked for ------------------------------------------------------------------------ */

static void check_key(struct bk_request *request, struct bk_slice key) {
    char path[BACKUPS_PATH_BYTES];
    struct bk_slice field = BK_SLICE("name");
    if (key.length > BACKUPS_KEY_BYTES_MAX)
        bk_problems_add_params(&request->problems, field, "validation_length_out_of_range",
                               "The length must be between 1 and 150.",
                               BK_SLICE("{\"max\":150,\"min\":1}"));
    else if (!backups_key_is_valid(key))
        bk_problems_add(&request->problems, field, "validation_match_invalid",
                        "Must be in a valid format.");
    else if (!backups_path(path, request->tenant->directory, "", key, "") || bk_file_exists(path))
        bk_problems_add(&request->problems, field, "validation_backup_name_exists",
                        "The backup file name is invalid or already exists.");
}

static struct bk_slice key_of(struct bk_request *request) {
    struct bk_slice key = bk_json_get_string(request->json, BK_SLICE("name"));
    if (key.length > 0)
        return key;
    char made[BACKUPS_KEY_BYTES_MAX + 1];
    backups_key_make(made, request->tenant->name, bk_clock_wall_ms());
    return bk_arena_copy(&request->arena, bk_slice_from(made));
}

static bool set_paths(struct making *making) {
    const char *directory = making->request->tenant->directory;
    return backups_path(making->copy_path, directory, ".", making->key, ".db") &&
           backups_path(making->part_path, directory, ".", making->key, ".part") &&
           backups_path(making->final_path, directory, "", making->key, "");
}

void backups_create(struct bk_request *request) {
    struct bk_module_context *context = request->module;
    struct backups_state *state = context->state;
    if (backups_is_active(state, request->tenant, BK_SLICE_EMPTY)) {
        bk_answer_error(request, BK_INVALID,
                        "Try again later - another backup/restore process has already been "
                        "started.");
        return;
    }
    struct bk_slice key = key_of(request);
    check_key(request, key);
    struct making *making = bk_arena_alloc_zero(&request->arena, sizeof *making);
    *making =
        (struct making){.state = state, .request = request, .key = key, .error = BK_ERROR_INIT};
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID,
                           "An error occurred while validating the submitted data.");
        return;
    }
    BK_ASSERT(set_paths(making));
    bk_list_push(&state->makings, &making->link);
    submit(making, on_prepare_run, on_prepare_done);
}
