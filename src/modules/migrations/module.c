/*
 * Migrations: what collections there are, as files in `migrations/` of the app's folder.
 *
 *   a superuser changes a collection ─> a file, by itself (record.c)
 *   a file that was not applied      ─> applied when the server starts, in order of names (run.c)
 *
 * The files are the instance's, and so are its commands: only operators call these routes. What
 * starts by itself concerns the tenant "default"; files are applied to another tenant when somebody
 * asks for it, by its name.
 */
#include "migrations_private.h"

#include "bakend/file.h"
#include <limits.h>
#include <stdlib.h>

extern const struct bk_module bk_module_migrations;

static const struct bk_option options[] = {
    {.name = "automigrate",
     .type = BK_OPTION_BOOL,
     .offset = offsetof(struct migrations_options, automigrate),
     .default_value = "true",
     .help = "Write each change that a superuser makes to the collections of the tenant default as "
             "a file into migrations/ of the app's folder. Where --app is not given, only if the "
             "data directory lies in the working folder."},
};

static const struct bk_route routes[] = {
    {.method = BK_GET,
     .path = "/api/migrations",
     .access = BK_ACCESS_OPERATOR,
     .scope = "migrations:read",
     .summary = "Lists the migration files and which of them are applied.",
     .tag = "migrations",
     .handle = migrations_list},
    {.method = BK_POST,
     .path = "/api/migrations",
     .access = BK_ACCESS_OPERATOR,
     .scope = "migrations:write",
     .body_max_bytes = MIGRATIONS_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Makes an empty migration file.",
     .tag = "migrations",
     .handle = migrations_create},
    {.method = BK_POST,
     .path = "/api/migrations/up",
     .access = BK_ACCESS_OPERATOR,
     .scope = "migrations:write",
     .body_max_bytes = MIGRATIONS_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Applies the migrations that wait; refuses what would lose data unless "
                "allowDataLoss is true.",
     .tag = "migrations",
     .handle = migrations_up},
    {.method = BK_POST,
     .path = "/api/migrations/down",
     .access = BK_ACCESS_OPERATOR,
     .scope = "migrations:write",
     .body_max_bytes = MIGRATIONS_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Takes back the migrations that were applied last; refuses what would lose data "
                "unless allowDataLoss is true.",
     .tag = "migrations",
     .handle = migrations_down},
    {.method = BK_POST,
     .path = "/api/migrations/collections",
     .access = BK_ACCESS_OPERATOR,
     .scope = "migrations:write",
     .body_max_bytes = MIGRATIONS_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Writes a migration that makes all collections as they are now.",
     .tag = "migrations",
     .handle = migrations_snapshot},
    {.method = BK_POST,
     .path = "/api/migrations/history-sync",
     .access = BK_ACCESS_OPERATOR,
     .scope = "migrations:write",
     .body_max_bytes = MIGRATIONS_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Forgets applied migrations whose files are gone, and takes changed files as they "
                "are.",
     .tag = "migrations",
     .handle = migrations_sync},
    {.method = BK_POST,
     .path = "/api/migrations/losses",
     .access = BK_ACCESS_OPERATOR,
     .scope = "migrations:read",
     .body_max_bytes = MIGRATIONS_LOSSES_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Says what an import of collections would lose, and changes nothing.",
     .tag = "migrations",
     .handle = migrations_losses},
};

static const struct bk_command commands[] = {
    {.name = "migrate",
     .usage = "migrate [up|down [COUNT]|list|create NAME|collections|history-sync] "
              "[--allow-data-loss] [--data DIR] [--app DIR] [--tenant NAME] [--json]",
     .summary =
         "Applies, takes back and lists the migration files of the app's folder.\n\n"
         "  up            applies those that wait, in the order of names (also without a word)\n"
         "  down [COUNT]  takes back the last one, or so many\n"
         "  list          shows all of them and their state\n"
         "  create NAME   makes an empty one to be filled in\n"
         "  collections   makes one that puts all collections as they are now\n"
         "  history-sync  forgets those whose files are gone, takes changed files as they are\n\n"
         "What would lose data is refused, by name and number of records, unless\n"
         "--allow-data-loss is given.",
     .run = migrations_run_migrate},
    {.name = "collections",
     .usage = "collections export [FILE] | import FILE [--delete-missing] [--allow-data-loss] "
              "[--data DIR] [--tenant NAME] [--json]",
     .summary =
         "Writes the definitions of all collections as JSON, and reads them in again.\n\n"
         "An import that would lose data says what, and is done with --allow-data-loss only.",
     .run = migrations_run_collections},
};

/* --- work that stop waits for ----------------------------------------------------------------- */

void migrations_begin(struct migrations_state *state) { state->pending_count++; }

void migrations_end(struct migrations_state *state) {
    BK_ASSERT(state->pending_count > 0);
    if (--state->pending_count > 0 || state->stopped == NULL)
        return;
    void (*stopped)(void *user) = state->stopped;
    state->stopped = NULL;
    stopped(state->stopped_user);
}

/* --- start ------------------------------------------------------------------------------------ */

enum { AWAKE_MS = 1000 };

struct starting {
    struct migrations_state *state;
    struct bk_error *error;
    enum bk_status status;
    bool is_done;
};

static void on_applied(void *user, const struct migrations_result *result) {
    struct starting *starting = user;
    starting->status = result->status;
    if (result->status != BK_OK)
        bk_error_set(starting->error, result->status, "%s", result->error.message);
    starting->is_done = true;
}

static void on_flushed(void *user, enum bk_status status) {
    struct starting *starting = user;
    (void)status; /* said in the log; it is tried again with the next change */
    starting->is_done = true;
}

static void on_awake(struct bk_timer *timer, void *user) { (void)timer, (void)user; }

/* Work is under way on threads that do not keep the loop alive; the timer does. */
static void wait(struct starting *starting) {
    struct bk_loop *loop = starting->state->context->loop;
    struct bk_timer *awake = bk_timer_create(loop, on_awake, NULL);
    bk_timer_start(awake, AWAKE_MS, AWAKE_MS);
    bool is_done = bk_loop_run_until(loop, &starting->is_done);
    BK_ASSERT(is_done);
    bk_timer_close(awake);
}

static void start_applying(struct starting *starting, struct bk_tenant *tenant) {
    static const struct migrations_order order = {.count_max = 0};
    starting->is_done = false;
    starting->status = migrations_run_start(starting->state, tenant, &order, on_applied, starting);
    if (starting->status == BK_OK)
        wait(starting);
}

/* A command does what it is asked for and no more; only a server applies what waits. */
static enum bk_status on_start(struct bk_module_context *context, struct bk_error *error) {
    struct migrations_state *state = context->state;
    struct starting starting = {.state = state, .error = error};
    struct bk_tenant *tenant = bk_tenant_hold_open(context->tenants, BK_SLICE("default"));
    if (tenant == NULL)
        return BK_OK;
    migrations_flush(state, tenant, on_flushed, &starting);
    if (!starting.is_done)
        wait(&starting);
    migrations_sweep(state);
    if (context->is_serving)
        start_applying(&starting, tenant);
    bk_tenant_release(tenant);
    return starting.status;
}

/* --- life ------------------------------------------------------------------------------------- */

/* Where --app was not given, the data must lie inside the working folder: a server that happens to
 * be started somewhere, on data elsewhere, leaves no files there. */
static bool is_at_home(const struct bk_module_context *context) {
    char here[PATH_MAX], data[PATH_MAX];
    if (strcmp(context->app_directory, ".") != 0)
        return true;
    if (realpath(".", here) == NULL || realpath(context->data_directory, data) == NULL)
        return false;
    struct bk_slice folder = bk_slice_from(here), inside = bk_slice_from(data);
    bool is_root = folder.length == 1;
    return bk_slice_starts_with(inside, folder) &&
           (is_root || inside.length == folder.length || inside.data[folder.length] == '/');
}

static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    struct migrations_state *state = context->state;
    const struct migrations_options *given = context->options;
    state->context = context;
    state->is_recording = given->automigrate && is_at_home(context);
    if (given->automigrate && !state->is_recording && context->is_serving)
        bk_log_info(&context->log, "automigrate_off",
                    BK_TEXT("reason", "the data directory lies outside the working folder"),
                    BK_TEXT("remedy", "name the folder of the app with --app"));
    if (!bk_path_join(state->directory, sizeof state->directory, context->app_directory,
                      "migrations"))
        return bk_error_set(error, BK_INVALID, "--app: the path is too long");
    state->pool =
        bk_pool_create(context->loop, "migrations", MIGRATIONS_THREADS, MIGRATIONS_QUEUE_MAX);
    migrations_record_start(state);
    return BK_OK;
}

static void on_stop(struct bk_module_context *context, void (*stopped)(void *user), void *user) {
    struct migrations_state *state = context->state;
    if (state->pending_count == 0) {
        stopped(user);
        return;
    }
    state->stopped = stopped;
    state->stopped_user = user;
}

static void on_fini(struct bk_module_context *context) {
    struct migrations_state *state = context->state;
    migrations_record_stop(state);
    if (state->pool != NULL)
        bk_pool_destroy(state->pool);
}

const struct bk_module bk_module_migrations = {
    .name = "migrations",
    .summary = "Keeps the collections as files, and applies those files.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct migrations_options),
    .migrations = migrations_sql,
    .migration_count = MIGRATIONS_SQL_COUNT,
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
    .state_size = sizeof(struct migrations_state),
    .init = on_init,
    .start = on_start,
    .stop = on_stop,
    .fini = on_fini,
};
