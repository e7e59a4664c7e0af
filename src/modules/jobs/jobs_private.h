/* What the files of the module of jobs share; module.c has the design. */
#ifndef BAKEND_JOBS_PRIVATE_H
#define BAKEND_JOBS_PRIVATE_H

#include "bakend/module.h"

#define JOBS_RECORDS "/api/collections/_work/records"

enum {
    JOBS_BODY_BYTES_MAX = 16 * 1024,
    JOBS_BULK_MAX = 500,   /* tasks of one call: a transaction that holds others up for a moment */
    JOBS_COUNT_MAX = 1000, /* tasks of a lane are counted up to here, so that a count is quick */
};

struct jobs_state {
    struct bk_module_context *context;
    struct bk_metrics_source metrics;
};

/* --- tasks.c ---------------------------------------------------------------------------------- */

void jobs_tasks_list(struct bk_request *request);
void jobs_task_view(struct bk_request *request);
void jobs_task_retry(struct bk_request *request);
void jobs_task_cancel(struct bk_request *request);
void jobs_task_drop(struct bk_request *request);

/* --- bulk.c ----------------------------------------------------------------------------------- */

void jobs_dead_retry(struct bk_request *request);
void jobs_dead_drop(struct bk_request *request);

/* --- lanes.c ---------------------------------------------------------------------------------- */

void jobs_lanes_list(struct bk_request *request);
void jobs_lane_pause(struct bk_request *request);
void jobs_lane_resume(struct bk_request *request);
void jobs_lane_clear(struct bk_request *request);

/* --- crons.c ---------------------------------------------------------------------------------- */

void jobs_crons_list(struct bk_request *request);
void jobs_cron_run(struct bk_request *request);

/* --- failed.c: the event job.failed ----------------------------------------------------------- */

enum bk_status jobs_on_dead(struct bk_transaction *transaction, const struct bk_work_kind *kind,
                            const struct bk_work_end *end, void *user);

/* --- by_hand.c: what operators do, with the event that tells of it ---------------------------- */

enum bk_status jobs_retry(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice id);
enum bk_status jobs_cancel(struct bk_work *work, struct bk_transaction *transaction,
                           struct bk_slice id);
enum bk_status jobs_drop(struct bk_work *work, struct bk_transaction *transaction,
                         struct bk_slice id);
enum bk_status jobs_pause(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice lane);
enum bk_status jobs_resume(struct bk_work *work, struct bk_transaction *transaction,
                           struct bk_slice lane);
enum bk_status jobs_clear(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice lane);

/* --- figures.c -------------------------------------------------------------------------------- */

/* Kinds of all modules together: each has one or two. */
enum { JOBS_KINDS_MAX = 64 };
void jobs_write_metrics(struct bk_metrics_source *source, struct bk_buffer *out);

/* --- work_command.c --------------------------------------------------------------------------- */

int jobs_run_work(struct bk_command_context *context, int argument_count, char **arguments);

#endif
