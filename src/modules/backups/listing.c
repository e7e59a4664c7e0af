/* The list of a tenant's backups, and the removal of one: both on the pool, since a directory is
 * read or synced. */
#include "backups_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/file.h"
#include <sys/stat.h>

enum { LISTED_MAX = 10000 };
#define REFUSAL "Invalid or already deleted backup file."

/* --- the list --------------------------------------------------------------------------------- */

struct listing {
    struct bk_request *request;
    struct bk_job job;
    char directory[BACKUPS_PATH_BYTES];
    uint32_t count;
    enum bk_status status;
};

static int64_t modified_ms(const struct stat *info) {
    return (int64_t)info->st_mtim.tv_sec * 1000 + info->st_mtim.tv_nsec / 1000000;
}

/* One backup as the contract lists it; only whole files have a valid key. */
static void on_entry(void *user, const char *name, bool is_directory) {
    struct listing *listing = user;
    struct bk_buffer *out = &listing->request->out;
    char path[BACKUPS_PATH_BYTES], modified[BK_TIME_TEXT_BYTES];
    struct stat info;
    if (is_directory || !backups_key_is_valid(bk_slice_from(name)) ||
        listing->count == LISTED_MAX ||
        !bk_path_join(path, sizeof path, listing->directory, name) || lstat(path, &info) != 0)
        return;
    listing->count++;
    bk_time_format(modified, modified_ms(&info), ' ');
    bk_json_write_separator(out);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("modified"),
                                bk_slice_make(modified, BK_TIME_TEXT_BYTES));
    bk_json_write_member_string(out, BK_SLICE("key"), bk_slice_from(name));
    bk_json_write_member_int(out, BK_SLICE("size"), info.st_size);
    bk_buffer_append_char(out, '}');
}

static void on_list_run(struct bk_job *job, uint32_t thread_index) {
    struct listing *listing = bk_container_of(job, struct listing, job);
    (void)thread_index;
    bk_buffer_append_char(&listing->request->out, '[');
    listing->status = BK_OK;
    if (bk_file_exists(listing->directory))
        listing->status = bk_directory_list(listing->directory, on_entry, listing, NULL);
    bk_buffer_append_char(&listing->request->out, ']');
}

static void on_list_done(struct bk_job *job) {
    struct listing *listing = bk_container_of(job, struct listing, job);
    if (listing->status == BK_OK)
        bk_answer(listing->request, 200);
    else
        bk_answer_error(listing->request, listing->status, NULL);
}

void backups_list(struct bk_request *request) {
    struct bk_module_context *context = request->module;
    struct backups_state *state = context->state;
    struct listing *listing = bk_arena_alloc_zero(&request->arena, sizeof *listing);
    listing->request = request;
    listing->job = (struct bk_job){.run = on_list_run, .done = on_list_done};
    enum bk_status status = BK_INVALID;
    if (bk_path_join(listing->directory, sizeof listing->directory, request->tenant->directory,
                     "backups"))
        status = bk_pool_submit(state->pool, &listing->job);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

/* --- removal ---------------------------------------------------------------------------------- */

struct removal {
    struct bk_request *request;
    struct bk_job job;
    char path[BACKUPS_PATH_BYTES];
    enum bk_status status;
};

static void on_remove_run(struct bk_job *job, uint32_t thread_index) {
    struct removal *removal = bk_container_of(job, struct removal, job);
    (void)thread_index;
    removal->status = bk_file_remove(removal->path, NULL);
}

static void on_remove_done(struct bk_job *job) {
    struct removal *removal = bk_container_of(job, struct removal, job);
    if (removal->status == BK_OK)
        bk_answer_empty(removal->request);
    else if (removal->status == BK_NOT_FOUND)
        bk_answer_error(removal->request, BK_INVALID, REFUSAL);
    else
        bk_answer_error(removal->request, removal->status, NULL);
}

void backups_delete(struct bk_request *request) {
    struct bk_module_context *context = request->module;
    struct backups_state *state = context->state;
    struct bk_slice key = bk_request_parameter(request, BK_SLICE("key"));
    if (backups_is_active(state, request->tenant, key)) {
        bk_answer_error(request, BK_INVALID,
                        "The backup is currently being used and cannot be deleted.");
        return;
    }
    struct removal *removal = bk_arena_alloc_zero(&request->arena, sizeof *removal);
    removal->request = request;
    removal->job = (struct bk_job){.run = on_remove_run, .done = on_remove_done};
    if (!backups_key_is_valid(key) ||
        !backups_path(removal->path, request->tenant->directory, "", key, "")) {
        bk_answer_error(request, BK_INVALID, REFUSAL);
        return;
    }
    enum bk_status status = bk_pool_submit(state->pool, &removal->job);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}
