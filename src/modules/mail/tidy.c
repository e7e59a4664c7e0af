/*
 * Work of kind "mail-files": once a day mails in files go that are older than KEPT_DAYS. They hold
 * tokens and addresses, and where nobody writes new ones the rule of the newest thousand removes
 * none.
 *
 * One task does it for all tenants, that of the operators' tenant: their folders are looked at,
 * their databases are not, so none is opened for it.
 */
#include "mail.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/file.h"

enum { KEPT_DAYS = 30 };
#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)

struct tidying {
    struct bk_job job;
    struct mail_state *state;
    struct bk_work_task *task;
    char tenants[MAIL_PATH_BYTES]; /* "data/tenants" */
    int64_t before_ms;
    uint64_t removed_count;
};

/* --- on the pool ------------------------------------------------------------------------------ */

static void tidy(struct tidying *tidying, const char *directory) {
    char path[MAIL_PATH_BYTES];
    if (bk_path_join(path, sizeof path, directory, "mail"))
        tidying->removed_count += mail_files_remove_before(path, tidying->before_ms);
}

static void on_tenant(void *user, const char *name, bool is_directory) {
    struct tidying *tidying = user;
    char path[MAIL_PATH_BYTES];
    if (is_directory && bk_path_join(path, sizeof path, tidying->tenants, name))
        tidy(tidying, path);
}

static void on_run(struct bk_job *job, uint32_t thread_index) {
    struct tidying *tidying = bk_container_of(job, struct tidying, job);
    mail_give_way(tidying->state, thread_index);
    tidy(tidying, tidying->state->context->data_directory);
    (void)bk_directory_list(tidying->tenants, on_tenant, tidying, NULL);
}

/* --- on the loop ------------------------------------------------------------------------------ */

static void on_ran(struct bk_job *job) {
    struct tidying *tidying = bk_container_of(job, struct tidying, job);
    struct mail_state *state = tidying->state;
    if (tidying->removed_count > 0)
        bk_log_info(&state->context->log, "mail_files_removed",
                    BK_INT("count", (int64_t)tidying->removed_count), BK_INT("days", KEPT_DAYS));
    bk_work_done(tidying->task, BK_SLICE_EMPTY);
    bk_free(tidying);
    BK_ASSERT(state->active_count > 0);
    state->active_count--;
    mail_stop_when_done(state);
}

void mail_tidy(struct bk_work_task *task, void *user) {
    const struct bk_module_context *context = user;
    struct mail_state *state = context->state;
    struct tidying *tidying = bk_alloc_zero(sizeof *tidying);
    tidying->state = state;
    tidying->task = task;
    tidying->before_ms = bk_clock_wall_ms() - KEPT_DAYS * DAY_MS;
    tidying->job = (struct bk_job){.run = on_run, .done = on_ran};
    if (bk_path_join(tidying->tenants, sizeof tidying->tenants, context->data_directory,
                     "tenants") &&
        bk_pool_submit(state->pool, &tidying->job) == BK_OK) {
        state->active_count++;
        return;
    }
    bk_free(tidying);
    bk_work_again(task, 0, BK_SLICE("too many mails are being made"), BK_SLICE_EMPTY);
}
