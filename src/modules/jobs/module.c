/*
 * Jobs, the first part: the surface of durable work, which is the kernel's.
 *
 *   tasks.c         the tasks as records of `_work`, and what can be done with one of them
 *   bulk.c          dead letters, many at once
 *   lanes.c         lanes: how they are, pausing, resuming
 *   crons.c         schedules, in the contract's shape
 *   failed.c        job.failed, the event of every task that ends dead, whatever its kind
 *   by_hand.c       what is done by hand, with the event that tells who did it
 *   figures.c       for Prometheus
 *   work_command.c  `bakend work`
 *
 * Nothing here runs a task: handlers come with the modules whose kinds they are. The table is
 * declared here, so that it is a collection like any other to those who look, and written by the
 * kernel alone.
 */
#include "jobs_private.h"

extern const struct bk_module bk_module_jobs;

static const struct bk_system_collection collections[] = {
    {.definition = bk_work_definition, .role = BK_ROLE_STATE, .is_closed = true, .alias = "work"},
};

static const struct bk_route_parameter page_parameters[] = {
    {"page", "query", "integer=1", "The page, from 1."},
    {"perPage", "query", "integer=30", "Lanes a page, at most 200; 30 when absent."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route routes[] = {
    {.method = BK_GET,
     .path = "/api/work",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Lists tasks, as the records of a collection: filter, sort, page, perPage.",
     .tag = "work",
     .handle = jobs_tasks_list},
    {.method = BK_GET,
     .path = "/api/work/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Answers a task.",
     .tag = "work",
     .handle = jobs_task_view},
    {.method = BK_POST,
     .path = "/api/work/{id}/retry",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "work:write",
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .summary = "Makes a task that waits or is dead due now, with all its attempts again.",
     .tag = "work",
     .handle = jobs_task_retry},
    {.method = BK_POST,
     .path = "/api/work/{id}/cancel",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "work:write",
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .summary = "Ends a task: one that waits is dead at once, one that runs is asked to end, and "
                "no attempt follows.",
     .tag = "work",
     .handle = jobs_task_cancel},
    {.method = BK_DELETE,
     .path = "/api/work/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "work:write",
     .summary = "Drops a task that does not run.",
     .tag = "work",
     .handle = jobs_task_drop},
    {.method = BK_POST,
     .path = "/api/work/retry",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Retries the dead tasks that a filter names, at most 500 a call: {filter, until}.",
     .tag = "work",
     .handle = jobs_dead_retry},
    {.method = BK_POST,
     .path = "/api/work/drop",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Drops the dead tasks that a filter names, at most 500 a call: {filter, until}.",
     .tag = "work",
     .handle = jobs_dead_drop},
    {.method = BK_GET,
     .path = "/api/work/lanes",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "work:read",
     .summary = "Lists the lanes that are paused or have tasks, by name.",
     .tag = "work",
     .parameters = page_parameters,
     .handle = jobs_lanes_list},
    {.method = BK_POST,
     .path = "/api/work/lanes/pause",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "work:write",
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Pauses a lane until it is resumed, over restarts too: {lane}.",
     .tag = "work",
     .handle = jobs_lane_pause},
    {.method = BK_POST,
     .path = "/api/work/lanes/resume",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "work:write",
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Resumes a lane: {lane}.",
     .tag = "work",
     .handle = jobs_lane_resume},
    {.method = BK_POST,
     .path = "/api/work/lanes/clear",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "work:write",
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .has_json_body = true,
     .summary = "Removes all that waits in a lane, and cancels what runs: {lane}.",
     .tag = "work",
     .handle = jobs_lane_clear},
    {.method = BK_GET,
     .path = "/api/crons",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Lists the schedules, by name.",
     .tag = "crons",
     .handle = jobs_crons_list},
    {.method = BK_POST,
     .path = "/api/crons/{id}",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = JOBS_BODY_BYTES_MAX,
     .summary = "Runs a schedule now, beside its times.",
     .tag = "crons",
     .handle = jobs_cron_run},
};

static const struct bk_event_declaration events[] = {
    {"job.failed", true, "JobFailed",
     "A task ended dead: its last attempt failed, its handler gave it up, or it was cancelled."},
    {"job.retried", true, "JobRetried", "Somebody had a task tried again."},
    {"job.cancelled", true, "JobCancelled", "Somebody ended a task."},
    {"job.dropped", true, "JobDropped", "Somebody removed a task."},
    {"job.paused", true, "JobPaused", "Somebody stopped a lane."},
    {"job.resumed", true, "JobResumed", "Somebody let a lane go on."},
    {"job.cleared", true, "JobCleared", "Somebody removed all that waited in a lane."},
};

static const struct bk_command commands[] = {
    {.name = "work",
     .usage = "work list|lanes|retry|cancel|drop|pause|resume|clear [ID|LANE] [--dead] "
              "[--filter FILTER] "
              "[--limit COUNT] [--data DIR] [--tenant NAME] [--json]",
     .summary =
         "Shows what is to be done later in a tenant, and deals with what failed.\n\n"
         "  work list [--dead] [--filter FILTER]  tasks, the newest first; of the dead, those\n"
         "                                        that died last\n"
         "  work lanes                            lanes, and how they are\n"
         "  work retry ID | --filter FILTER       tries again what is dead\n"
         "  work cancel ID                        ends a task\n"
         "  work drop ID | --filter FILTER        removes what is dead\n"
         "  work pause LANE, work resume LANE     stops a lane, and lets it go on\n"
         "  work clear LANE                       removes all that waits in it\n\n"
         "Filters are those of collections, over the fields of _work:\n"
         "  bakend work list --dead --filter 'kind = \"mail\"'\n"
         "Retry and drop with a filter go on until there is none left.",
     .run = jobs_run_work},
};

static enum bk_status init(struct bk_module_context *context, struct bk_error *error) {
    struct jobs_state *state = context->state;
    (void)error;
    state->context = context;
    state->metrics.write = jobs_write_metrics;
    bk_api_add_metrics(context->api, &state->metrics);
    bk_work_on_dead(context->work, jobs_on_dead, context);
    return BK_OK;
}

const struct bk_module bk_module_jobs = {
    .name = "jobs",
    .summary = "Shows durable work, and what to do with what failed.",
    .collections = collections,
    .collection_count = BK_COUNT_OF(collections),
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
    .state_size = sizeof(struct jobs_state),
    .init = init,
};
