/*
 * Applies what waits, or takes back what was applied last: one file after the other, each in a
 * transaction of its own together with its row.
 *
 *   survey ─> read ─> resolve ─> count what would be lost ─> change ─> the next file
 *     files    pool    loop       reader                      writer
 *                       └───── the schema has changed meanwhile, for the worse ───┘
 *
 * A file that cannot be understood ends the run before anything is applied; one that cannot be
 * applied ends it there, and the ones before it stay applied.
 */
#include "migrations_private.h"

#include "bakend/alloc.h"

enum { TRIES_MAX = 5, LIST_BYTES_MAX = 4 * 1024 * 1024, PROBLEMS_SHOWN_MAX = 3 };

/* Where a change comes from. */
struct source {
    uint32_t number; /* of the operation in its file, from 1 */
    enum migration_kind kind;
    struct bk_slice name; /* of the collection */
};

struct migrations_run {
    struct migrations_state *state;
    struct bk_tenant *tenant;
    struct migrations_order order;
    void (*done)(void *user, const struct migrations_result *result);
    void *user;
    struct bk_arena arena, file_arena; /* of the run; of the file in hand */
    struct migration_survey survey;
    const struct migration_entry **queue; /* what is to be done */
    uint32_t queue_count, position, try_count;

    struct migration migration;
    struct bk_job job;
    enum bk_status read_status;
    struct migration_step *steps; /* one per operation, in the order of this run */
    struct bk_schema_step *changes;
    struct source *sources; /* of the changes */
    uint32_t change_count;
    uint64_t generation; /* of the schema that they were resolved against */
    struct migration_losses losses;
    struct bk_schema_change change;
    struct bk_problems problems;
    struct bk_origin origin;
    struct bk_write write;

    struct bk_buffer names, warnings;
    struct migrations_result result;
};

static void start_next(struct migrations_run *run);
static void start_reading(struct migrations_run *run);

static const struct migration_entry *entry_in_hand(const struct migrations_run *run) {
    return run->queue[run->position];
}

/* --- the end ---------------------------------------------------------------------------------- */

static void finish(struct migrations_run *run, enum bk_status status) {
    struct migrations_state *state = run->state;
    bk_buffer_append_char(&run->names, ']');
    bk_buffer_append_char(&run->warnings, ']');
    run->result.status = status;
    run->result.names = bk_buffer_slice(&run->names);
    run->result.warnings = bk_buffer_slice(&run->warnings);
    if (status != BK_OK && run->result.error.message[0] == '\0')
        bk_error_set(&run->result.error, status, "%s", bk_status_text(status));
    state->running = NULL;
    run->done(run->user, &run->result);
    bk_tenant_release(run->tenant);
    bk_buffer_fini(&run->names);
    bk_buffer_fini(&run->warnings);
    bk_arena_fini(&run->file_arena);
    bk_arena_fini(&run->arena);
    bk_free(run);
    migrations_end(state);
}

/* The error says what is wrong; this says with which file. */
static void fail(struct migrations_run *run, enum bk_status status) {
    struct bk_error *error = &run->result.error;
    run->result.file = entry_in_hand(run)->name;
    if (error->message[0] == '\0')
        status = bk_database_explain(run->tenant->database, status, error);
    if (error->message[0] == '\0')
        bk_error_set(error, status, "%s", bk_status_text(status));
    bk_error_prefix(error, "%.*s", BK_SLICE_PRINT(run->result.file));
    finish(run, status);
}

/* --- resolving -------------------------------------------------------------------------------- */

static enum bk_status operation_at(const struct migrations_run *run, uint32_t index,
                                   struct migration_operation *operation, struct bk_error *error) {
    const struct migration *migration = &run->migration;
    uint32_t number = run->order.is_reverse ? migration->count - 1 - index : index;
    const struct migration_operation *written = &migration->operations[number];
    *operation = *written;
    if (!run->order.is_reverse || migrations_reverse(written, operation))
        return BK_OK;
    return bk_error_set(error, BK_NOT_SUPPORTED,
                        "operation %u (%s %.*s) cannot be taken back: it does not say what was "
                        "before; write a migration that makes what you want",
                        number + 1, migrations_kind_name(written->kind),
                        BK_SLICE_PRINT(written->name));
}

static void prefix_source(struct bk_error *error, const struct source *source) {
    bk_error_prefix(error, "operation %u (%s %.*s)", source->number,
                    migrations_kind_name(source->kind), BK_SLICE_PRINT(source->name));
}

/* A collection is changed once: what a later operation says of it is laid over what is to be done
 * already. */
static enum bk_status fold(struct migrations_run *run, uint32_t index,
                           const struct migration_step *step, const struct source *source) {
    struct bk_schema_step *change = &run->changes[index];
    if (step->action == BK_SCHEMA_CREATE)
        return bk_error_set(&run->result.error, BK_INVALID,
                            "removes and makes the same collection: write two files");
    run->sources[index] = *source;
    if (step->action == BK_SCHEMA_UPDATE) {
        change->definition =
            migrations_overlay(&run->file_arena, change->definition, step->definition);
    } else if (change->action == BK_SCHEMA_UPDATE) {
        change->action = BK_SCHEMA_DELETE;
        change->definition = NULL;
    } else {
        size_t after = run->change_count - index - 1;
        memmove(change, change + 1, after * sizeof *change);
        memmove(&run->sources[index], &run->sources[index + 1], after * sizeof *source);
        run->change_count--;
    }
    return BK_OK;
}

static enum bk_status add_change(struct migrations_run *run, const struct migration_step *step,
                                 const struct source *source) {
    if (!step->is_needed)
        return BK_OK;
    for (uint32_t i = 0; i < run->change_count; i++)
        if (bk_slice_equal(run->changes[i].target, step->target))
            return fold(run, i, step, source);
    run->sources[run->change_count] = *source;
    run->changes[run->change_count++] = (struct bk_schema_step){
        .action = step->action, .target = step->target, .definition = step->definition};
    return BK_OK;
}

static enum bk_status resolve_one(struct migrations_run *run, const struct bk_schema *schema,
                                  uint32_t index) {
    struct bk_error *error = &run->result.error;
    struct migration_operation operation;
    enum bk_status status = operation_at(run, index, &operation, error);
    if (status != BK_OK)
        return status;
    const struct source source = {.number = run->order.is_reverse ? run->migration.count - index
                                                                  : index + 1,
                                  .kind = operation.kind,
                                  .name = operation.name};
    status = migrations_resolve(&operation, schema, &run->file_arena, run->steps, index, error);
    if (status == BK_OK)
        status = add_change(run, &run->steps[index], &source);
    if (status != BK_OK)
        prefix_source(error, &source);
    return status;
}

/* Against the schema as it is. */
static enum bk_status resolve(struct migrations_run *run) {
    struct bk_schema *schema = bk_schema_current(run->state->context->schema, run->tenant);
    struct bk_arena *arena = &run->file_arena;
    size_t count = (size_t)run->migration.count + 1;
    run->steps = bk_arena_alloc_zero(arena, count * sizeof *run->steps);
    run->changes = bk_arena_alloc_zero(arena, count * sizeof *run->changes);
    run->sources = bk_arena_alloc_zero(arena, count * sizeof *run->sources);
    if (arena->is_overflown)
        return bk_arena_status(arena);
    run->change_count = 0;
    run->generation = bk_schema_generation(schema);
    migrations_losses_init(&run->losses, arena);
    for (uint32_t i = 0; i < run->migration.count; i++) {
        enum bk_status status = resolve_one(run, schema, i);
        if (status != BK_OK)
            return status;
        migrations_losses_add(&run->losses, schema, &run->steps[i]);
    }
    return bk_arena_status(arena);
}

/* --- changing --------------------------------------------------------------------------------- */

static enum bk_status write_row(struct migrations_run *run, struct bk_transaction *transaction) {
    struct bk_slice hash = bk_slice_make(run->migration.hash, sizeof run->migration.hash);
    return run->order.is_reverse
               ? migrations_row_delete(transaction, run->migration.name)
               : migrations_row_insert(transaction, run->migration.name, hash, BK_SLICE(""));
}

static void on_applied(struct migrations_run *run) {
    struct bk_slice name = entry_in_hand(run)->name;
    bk_json_write_separator(&run->names);
    bk_json_write_string(&run->names, name);
    bk_log_info(&run->state->context->log,
                run->order.is_reverse ? "migration_reverted" : "migration_applied",
                BK_STRING("file", name), BK_STRING("tenant", run->tenant->name),
                BK_INT("changes", run->change_count));
    run->position++;
    run->try_count = 0;
    start_next(run);
}

/* What the definition has wrong, by field. */
static void explain(struct migrations_run *run) {
    const struct bk_schema_change *change = &run->change;
    struct bk_error *error = &run->result.error;
    struct bk_buffer text;
    bk_buffer_init(&text, BK_ERROR_MESSAGE_BYTES);
    uint32_t shown = 0;
    for (const struct bk_problem *problem = run->problems.first;
         problem != NULL && shown < PROBLEMS_SHOWN_MAX; problem = problem->next, shown++)
        bk_buffer_format(&text, "%s%.*s: %.*s", shown > 0 ? "; " : "",
                         BK_SLICE_PRINT(problem->field), BK_SLICE_PRINT(problem->message));
    if (shown == 0)
        bk_buffer_append_slice(&text, bk_slice_from(change->error.message));
    bk_error_set(error, BK_INVALID, "%.*s", BK_SLICE_PRINT(bk_buffer_slice(&text)));
    bk_buffer_fini(&text);
    if (change->failed_step < run->change_count)
        prefix_source(error, &run->sources[change->failed_step]);
}

/* Somebody has changed the schema since: the steps are made anew. What may lose data now is looked
 * at from the beginning. */
static enum bk_status on_turn(struct bk_schema_change *change, const struct bk_schema *newest) {
    struct migrations_run *run = bk_container_of(change, struct migrations_run, change);
    if (bk_schema_generation(newest) == run->generation)
        return BK_OK;
    enum bk_status status = resolve(run);
    bool is_safe = run->order.allows_loss || bk_list_is_empty(&run->losses.all);
    if (status != BK_OK || run->change_count == 0 || !is_safe)
        return BK_STALE;
    change->steps = run->changes;
    change->step_count = run->change_count;
    return BK_OK;
}

static enum bk_status on_change_run(struct bk_schema_change *change,
                                    struct bk_transaction *transaction) {
    return write_row(bk_container_of(change, struct migrations_run, change), transaction);
}

static void on_changed(struct bk_schema_change *change, enum bk_status status) {
    struct migrations_run *run = bk_container_of(change, struct migrations_run, change);
    if (status == BK_OK) {
        on_applied(run);
    } else if (status == BK_STALE && ++run->try_count < TRIES_MAX) {
        start_reading(run);
    } else if (status == BK_STALE) {
        bk_error_set(&run->result.error, BK_CONFLICT,
                     "the collections keep changing meanwhile: try again");
        fail(run, BK_CONFLICT);
    } else {
        explain(run);
        fail(run, status);
    }
}

static enum bk_status on_row_run(struct bk_transaction *transaction, struct bk_write *write) {
    return write_row(bk_container_of(write, struct migrations_run, write), transaction);
}

static void on_row_done(struct bk_write *write, enum bk_status status) {
    struct migrations_run *run = bk_container_of(write, struct migrations_run, write);
    if (status == BK_OK)
        on_applied(run);
    else
        fail(run, status);
}

/* Everything is as the file wants it: only that is to be kept. */
static void start_row(struct migrations_run *run) {
    run->write = (struct bk_write){
        .lane = BK_LANE_REQUEST, .origin = &run->origin, .run = on_row_run, .done = on_row_done};
    enum bk_status status = bk_store_write(run->tenant->database, &run->write);
    if (status != BK_OK)
        fail(run, status);
}

static void start_change(struct migrations_run *run) {
    run->origin.actor = bk_arena_format(&run->file_arena, MIGRATIONS_ACTOR "%.*s",
                                        BK_SLICE_PRINT(run->migration.name));
    if (run->change_count == 0) {
        start_row(run);
        return;
    }
    bk_problems_init(&run->problems, &run->file_arena);
    run->change = (struct bk_schema_change){.tenant = run->tenant,
                                            .steps = run->changes,
                                            .step_count = run->change_count,
                                            .make_steps = on_turn,
                                            .is_replay = true,
                                            .run_also = on_change_run,
                                            .arena = &run->file_arena,
                                            .problems = &run->problems,
                                            .origin = &run->origin,
                                            .done = on_changed};
    bk_schema_change(run->state->context->schema, &run->change);
}

/* --- what would be lost ----------------------------------------------------------------------- */

static void refuse_loss(struct migrations_run *run) {
    struct bk_buffer text;
    bk_buffer_init(&text, BK_ERROR_MESSAGE_BYTES);
    BK_LIST_FOR_EACH(link, &run->losses.all) {
        if (text.length > 0)
            bk_buffer_append_literal(&text, "; ");
        migrations_loss_write(&text, bk_container_of(link, struct migration_loss, link));
    }
    const char *verb = run->order.is_reverse ? "down" : "up";
    bk_error_set(&run->result.error, BK_CONFLICT,
                 "it would lose data: %.*s. To apply it all the same: `bakend migrate %s "
                 "--allow-data-loss`",
                 BK_SLICE_PRINT(bk_buffer_slice(&text)), verb);
    bk_buffer_fini(&text);
    run->result.losses = &run->losses;
    fail(run, BK_CONFLICT);
}

static void on_counted(struct migration_losses *losses, enum bk_status status) {
    struct migrations_run *run = bk_container_of(losses, struct migrations_run, losses);
    if (status != BK_OK)
        fail(run, status);
    else if (!bk_list_is_empty(&losses->all) && !run->order.allows_loss)
        refuse_loss(run);
    else
        start_change(run);
}

static void on_read(struct bk_job *job) {
    struct migrations_run *run = bk_container_of(job, struct migrations_run, job);
    enum bk_status status = run->read_status == BK_OK ? resolve(run) : run->read_status;
    if (status != BK_OK) {
        fail(run, status);
        return;
    }
    run->losses.done = on_counted;
    status = migrations_losses_count(&run->losses, run->tenant->database);
    if (status == BK_END)
        start_change(run);
    else if (status != BK_OK)
        fail(run, status);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void on_job(struct bk_job *job, uint32_t thread_index) {
    struct migrations_run *run = bk_container_of(job, struct migrations_run, job);
    (void)thread_index;
    run->read_status =
        migrations_read(&run->migration, run->state->directory, entry_in_hand(run)->name,
                        &run->file_arena, &run->result.error);
}

static void start_reading(struct migrations_run *run) {
    bk_arena_reset(&run->file_arena);
    run->result.error = (struct bk_error)BK_ERROR_INIT;
    run->job = (struct bk_job){.run = on_job, .done = on_read};
    enum bk_status status = bk_pool_submit(run->state->pool, &run->job);
    if (status != BK_OK)
        fail(run, status);
}

static void start_next(struct migrations_run *run) {
    if (run->position == run->queue_count)
        finish(run, BK_OK);
    else
        start_reading(run);
}

/* --- which files ------------------------------------------------------------------------------ */

static void warn(struct migrations_run *run, const struct migration_entry *entry, const char *event,
                 const char *text, const char *remedy) {
    bk_json_write_separator(&run->warnings);
    bk_json_write_string(
        &run->warnings,
        bk_arena_format(&run->arena, "%.*s %s: %s", BK_SLICE_PRINT(entry->name), text, remedy));
    bk_log_warn(&run->state->context->log, event, BK_STRING("file", entry->name),
                BK_STRING("tenant", run->tenant->name), BK_TEXT("remedy", remedy));
}

static void look_at(struct migrations_run *run, const struct migration_entry *entry) {
    if (entry->state == MIGRATION_CHANGED)
        warn(run, entry, "migration_changed", "was changed after it was applied",
             "put it back as it was, or take it as it is with `bakend migrate history-sync`");
    if (entry->is_late && !run->order.is_reverse)
        warn(run, entry, "migration_late", "comes before one that was applied already",
             "it is applied now; give it a later name if the order matters");
}

static enum bk_status queue_up(struct migrations_run *run) {
    struct bk_error *error = &run->result.error;
    BK_LIST_FOR_EACH(link, &run->survey.entries) {
        const struct migration_entry *entry = bk_container_of(link, struct migration_entry, link);
        look_at(run, entry);
        if (entry->state == MIGRATION_BROKEN) {
            run->result.file = entry->name;
            return bk_error_set(error, BK_INVALID,
                                "%.*s: %.*s. Mend the file or move it away: nothing was applied",
                                BK_SLICE_PRINT(entry->name), BK_SLICE_PRINT(entry->reason));
        }
        if (entry->state == MIGRATION_PENDING)
            run->queue[run->queue_count++] = entry;
    }
    return BK_OK;
}

/* The one applied last, of those before limit; NULL: there is none. */
static const struct migration_entry *last_applied(const struct migrations_run *run, int64_t limit) {
    const struct migration_entry *last = NULL;
    BK_LIST_FOR_EACH(link, &run->survey.entries) {
        const struct migration_entry *entry = bk_container_of(link, struct migration_entry, link);
        if (entry->row != NULL && entry->row->sequence < limit &&
            (last == NULL || entry->row->sequence > last->row->sequence))
            last = entry;
    }
    return last;
}

static enum bk_status queue_down(struct migrations_run *run) {
    int64_t limit = INT64_MAX;
    while (run->queue_count < run->order.count_max) {
        const struct migration_entry *entry = last_applied(run, limit);
        if (entry == NULL)
            return BK_OK;
        if (entry->state != MIGRATION_APPLIED) {
            run->result.file = entry->name;
            return bk_error_set(
                &run->result.error, BK_CONFLICT,
                "%.*s is %s: only a file that is as it was when it was applied can be taken back. "
                "Put it back, or forget it with `bakend migrate history-sync`",
                BK_SLICE_PRINT(entry->name), migrations_state_name(entry->state));
        }
        run->queue[run->queue_count++] = entry;
        limit = entry->row->sequence;
    }
    return BK_OK;
}

static void on_surveyed(struct migration_survey *survey, enum bk_status status) {
    struct migrations_run *run = bk_container_of(survey, struct migrations_run, survey);
    size_t count = 1;
    if (status != BK_OK)
        run->result.error = survey->error;
    if (status == BK_OK) {
        BK_LIST_FOR_EACH(link, &survey->entries)
            count++;
        run->queue = bk_arena_alloc_zero(&run->arena, count * sizeof(void *));
        status = bk_arena_status(&run->arena);
    }
    if (status == BK_OK)
        status = run->order.is_reverse ? queue_down(run) : queue_up(run);
    if (status == BK_OK)
        start_next(run);
    else
        finish(run, status);
}

enum bk_status
migrations_run_start(struct migrations_state *state, struct bk_tenant *tenant,
                     const struct migrations_order *order,
                     void (*done)(void *user, const struct migrations_result *result), void *user) {
    if (state->running != NULL)
        return BK_CONFLICT;
    struct migrations_run *run = bk_alloc_zero(sizeof *run);
    run->state = state;
    run->tenant = tenant;
    run->order = *order;
    run->done = done;
    run->user = user;
    run->result.error = (struct bk_error)BK_ERROR_INIT;
    bk_arena_init(&run->arena, MIGRATIONS_ARENA_BYTES_MAX);
    bk_arena_init(&run->file_arena, MIGRATIONS_ARENA_BYTES_MAX);
    bk_buffer_init(&run->names, LIST_BYTES_MAX);
    bk_buffer_init(&run->warnings, LIST_BYTES_MAX);
    bk_buffer_append_char(&run->names, '[');
    bk_buffer_append_char(&run->warnings, '[');
    run->survey.done = on_surveyed;
    enum bk_status status = migrations_survey_start(&run->survey, state, tenant, &run->arena);
    if (status != BK_OK) {
        bk_buffer_fini(&run->names);
        bk_buffer_fini(&run->warnings);
        bk_free(run);
        return status;
    }
    state->running = run;
    migrations_begin(state);
    bk_tenant_ref(tenant);
    return BK_OK;
}
