/*
 * A change on the writer, alone in a transaction.
 *
 *   each step     table or view → row → event
 *   then          rules that speak of new views → views that read what has changed → run_also
 *
 * The store may run it more than once, so whatever it makes is given up when it begins again: the
 * collections of views, whose fields come from the database, and the schema that has them.
 *
 * A view follows what it reads: its fields are derived anew, and when they differ it is changed
 * with an event of its own. One that no longer compiles stays as it is, so that whoever has broken
 * it can mend it; but nothing can be deleted that a view needs.
 */
#include "schema_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

struct running {
    struct schema_plan *plan;
    struct bk_schema_change *change;
    struct bk_transaction *transaction;
    struct bk_connection *connection;
    struct bk_error error;
};

void schema_plan_forget_run(struct schema_plan *plan) {
    for (uint32_t i = 0; i < plan->follower_count; i++) {
        struct schema_step *follower = &plan->steps[plan->step_count + i];
        schema_box_unref(follower->old_box);
        schema_box_unref(follower->new_box);
    }
    plan->follower_count = 0;
    bk_schema_unref(plan->after);
    plan->after = NULL;
}

/* --- one collection --------------------------------------------------------------------------- */

static enum bk_status emit(const struct running *running, const struct schema_step *step) {
    static const char *const types[] = {"_collections.created", "_collections.updated",
                                        "_collections.deleted"};
    const struct bk_collection *subject =
        step->new_box != NULL ? &step->new_box->collection : &step->old_box->collection;
    struct bk_event_draft draft = {
        .type = bk_slice_from(types[step->action]),
        .source = BK_SLICE("collections"),
        .subject = bk_arena_format(bk_transaction_arena(running->transaction), "_collections/%.*s",
                                   BK_SLICE_PRINT(subject->id)),
        .payload = subject->definition,
    };
    if (step->old_box != NULL && step->new_box != NULL)
        draft.previous = step->old_box->collection.definition;
    return bk_transaction_emit(running->transaction, &draft);
}

/* Who signs in by it is at stake. */
static enum bk_status tell_watch(const struct running *running, const struct schema_step *step) {
    const struct bk_auth_watch *watch = running->plan->state->kind->auth_watch;
    const struct bk_collection *before = step->old_box == NULL ? NULL : &step->old_box->collection;
    if (before == NULL || before->type != BK_COLLECTION_AUTH || watch == NULL ||
        watch->on_collection == NULL)
        return BK_OK;
    return watch->on_collection(watch->user, running->transaction, before,
                                step->new_box == NULL ? NULL : &step->new_box->collection);
}

static void replace(struct schema_plan *plan, const struct schema_box *old_box,
                    struct schema_box *new_box) {
    struct bk_schema *after =
        schema_snapshot_change(plan->after, old_box, schema_box_ref(new_box), plan->generation);
    bk_schema_unref(plan->after);
    plan->after = after;
}

/* What a refusal says: the problems, or why. */
static enum bk_status refuse(struct running *running, const struct schema_step *step,
                             enum bk_status status) {
    if (status != BK_OK && running->error.message[0] != '\0')
        schema_refuse(running->change, step->action, &running->error);
    return status;
}

/* Whether an update of a list leaves everything as it is, but for its date. */
static bool is_unchanged(const struct schema_plan *plan, const struct schema_step *step) {
    if (plan->is_single || step->action != BK_SCHEMA_UPDATE)
        return false;
    const struct bk_collection *old = &step->old_box->collection;
    struct bk_collection dated = step->new_box->collection;
    dated.updated = old->updated;
    struct bk_buffer out;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    schema_definition_write(&dated, &out);
    bool is_same = !out.is_overflown && bk_slice_equal(bk_buffer_slice(&out), old->definition) &&
                   bk_slice_equal(dated.secrets, old->secrets);
    bk_buffer_fini(&out);
    return is_same;
}

/* A view's collection, with the fields that its query has now. */
static enum bk_status make_view(struct running *running, struct schema_step *step) {
    struct schema_plan *plan = running->plan;
    struct bk_schema_change *change = running->change;
    struct schema_box *box;
    enum bk_status status =
        schema_view_make(plan->state->kind, plan->after, step->draft, running->connection, &box,
                         change->problems, &running->error);
    if (status != BK_OK)
        return status;
    if (step->old_box != NULL)
        schema_view_keep_ids(step->old_box, box);
    const struct schema_box *former = step->new_box;
    replace(plan, former, box);
    schema_box_unref(step->new_box);
    step->new_box = box;
    struct bk_problems none;
    bk_problems_init(&none, &plan->arena);
    schema_definition_check(plan->state->kind, plan->after, box, step->old_box, false, &none,
                            change->problems);
    if (!plan->defers_rules)
        schema_rules_check(plan->state->kind, plan->after, box, step->old_box, false,
                           change->problems);
    if (change->problems->count > 0) {
        schema_view_refuse_fields(box, change->problems);
        return bk_error_set(&change->error, BK_INVALID, "Failed to %s collection.",
                            schema_action_name(step->action));
    }
    return schema_box_finish(plan->state->kind, box);
}

static enum bk_status change_table(struct running *running, struct schema_step *step) {
    const struct schema_box *known = step->new_box != NULL ? step->new_box : step->old_box;
    if (known->collection.type != BK_COLLECTION_VIEW)
        return schema_table_change(running->transaction, step->old_box, step->new_box,
                                   running->change->problems, &running->error);
    return schema_view_create(running->plan->after, step->old_box, step->new_box,
                              running->connection, !running->change->is_replay,
                              running->change->problems);
}

static enum bk_status run_step(struct running *running, struct schema_step *step) {
    enum bk_status status = BK_OK;
    if (step->draft != NULL)
        status = make_view(running, step);
    if (status == BK_OK && is_unchanged(running->plan, step)) {
        replace(running->plan, step->new_box, step->old_box); /* its dates, too */
        return BK_OK;
    }
    if (status == BK_OK)
        status = change_table(running, step);
    if (status == BK_OK)
        status = schema_row_write(running->transaction, step->old_box, step->new_box, BK_SLICE(""),
                                  &running->error);
    if (status == BK_OK)
        status = emit(running, step);
    if (status == BK_OK)
        status = tell_watch(running, step);
    return refuse(running, step, status);
}

/* --- after the steps -------------------------------------------------------------------------- */

static enum bk_status check_rules(struct running *running) {
    struct schema_plan *plan = running->plan;
    for (uint32_t i = 0; plan->defers_rules && i < plan->step_count; i++) {
        const struct schema_step *step = &plan->steps[i];
        running->change->failed_step = i;
        if (step->new_box != NULL)
            schema_rules_check(plan->state->kind, plan->after, step->new_box, step->old_box, false,
                               running->change->problems);
        if (running->change->problems->count > 0)
            return BK_INVALID;
    }
    return BK_OK;
}

static bool is_asked_for(const struct schema_plan *plan, const struct schema_box *box) {
    for (uint32_t i = 0; i < plan->step_count; i++)
        if (plan->steps[i].new_box == box)
            return true;
    return false;
}

/* A view that its step has not changed, made anew; NULL when there is nothing to change. */
static enum bk_status derive(struct running *running, struct schema_box *view,
                             struct schema_box **derived) {
    struct schema_plan *plan = running->plan;
    struct bk_problems problems, none;
    struct bk_arena arena;
    bk_arena_init(&arena, SCHEMA_BOX_BYTES_MAX);
    bk_problems_init(&problems, &arena);
    bk_problems_init(&none, &arena);
    *derived = NULL;
    enum bk_status status =
        schema_view_make(plan->state->kind, plan->after, view, running->connection, derived,
                         &problems, &running->error);
    if (status == BK_OK)
        schema_definition_check(plan->state->kind, plan->after, *derived, view, false, &none,
                                &problems);
    if (status == BK_OK && problems.count > 0)
        status = BK_INVALID;
    bk_arena_fini(&arena);
    if (status == BK_OK && !schema_view_has_same_fields(view, *derived))
        return schema_box_finish(plan->state->kind, *derived);
    schema_box_unref(*derived);
    *derived = NULL;
    return status;
}

static enum bk_status follow(struct running *running, struct schema_box *view, bool is_needed) {
    struct schema_plan *plan = running->plan;
    struct schema_box *derived;
    enum bk_status status = derive(running, view, &derived);
    if (status == BK_INVALID && is_needed)
        return bk_error_set(&running->change->error, BK_INVALID,
                            "Failed to delete collection: the view %.*s needs it.",
                            BK_SLICE_PRINT(view->collection.name));
    if (status != BK_OK || derived == NULL)
        return status == BK_INVALID ? BK_OK : status;
    plan->steps = bk_realloc(plan->steps,
                             sizeof *plan->steps * (plan->step_count + plan->follower_count + 1));
    struct schema_step *step = &plan->steps[plan->step_count + plan->follower_count++];
    *step = (struct schema_step){
        .action = BK_SCHEMA_UPDATE, .old_box = schema_box_ref(view), .new_box = derived};
    replace(plan, view, derived);
    return run_step(running, step);
}

/* Views in the order they were made, so that one that reads another comes after it. */
static enum bk_status follow_all(struct running *running) {
    struct schema_plan *plan = running->plan;
    bool is_needed = false;
    for (uint32_t i = 0; i < plan->step_count; i++)
        is_needed |= plan->steps[i].action == BK_SCHEMA_DELETE;
    enum bk_status status = BK_OK;
    for (size_t i = 0; i < plan->after->count && status == BK_OK; i++) {
        struct schema_box *box = plan->after->boxes[i];
        if (box->collection.type == BK_COLLECTION_VIEW && !is_asked_for(plan, box))
            status = follow(running, box, is_needed);
    }
    return status;
}

static enum bk_status run_also(struct running *running) {
    struct bk_schema_change *change = running->change;
    struct schema_plan *plan = running->plan;
    if (change->run_also == NULL)
        return BK_OK;
    change->collection = NULL;
    if (plan->is_single && plan->steps[0].new_box != NULL)
        change->collection = &plan->steps[0].new_box->collection;
    enum bk_status status = change->run_also(change, running->transaction);
    change->collection = NULL;
    return status;
}

enum bk_status schema_plan_run(struct schema_plan *plan, struct bk_transaction *transaction) {
    struct running running = {.plan = plan,
                              .change = plan->change,
                              .transaction = transaction,
                              .connection = bk_transaction_connection(transaction),
                              .error = BK_ERROR_INIT};
    schema_plan_forget_run(plan);
    plan->is_proven = false;
    plan->after = bk_schema_ref(plan->planned);
    schema_head_set(plan->head, plan->generation);
    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct schema_step *step = &plan->steps[i];
        if (step->draft == NULL || step->new_box == step->draft)
            continue; /* else one that an earlier run has made */
        schema_box_unref(step->new_box);
        step->new_box = schema_box_ref(step->draft);
    }
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < plan->step_count && status == BK_OK; i++) {
        plan->change->failed_step = i;
        status = run_step(&running, &plan->steps[i]);
    }
    if (status == BK_OK)
        status = check_rules(&running);
    if (status == BK_OK)
        status = follow_all(&running);
    if (status == BK_OK)
        status = run_also(&running);
    if (status != BK_OK || !plan->change->is_trial)
        return status;
    plan->is_proven = true;
    return BK_END; /* takes it all back */
}
