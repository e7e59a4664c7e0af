/*
 * A change, from the request to the new snapshot.
 *
 *   loop    queued behind the tenant's other changes → planned against the newest schema
 *   writer  the head's generation rises → tables and views → rows → events: alone in a transaction
 *           (change_run.c)
 *   loop    the new snapshot is installed, statements are forgotten → the next is planned → done
 *
 * A change is a list of steps, one collection each, as a rule of one. All are read and judged
 * before the first of them runs, against the schema as it will be after the last, so that they may
 * speak of each other. Only what a view's fields have to be known for is left to the writer.
 *
 * Changes of one tenant run one after the other, each planned when the one before it is installed,
 * so none can be stale. When the plan finds problems nothing goes to the writer but a write that
 * fails at once: its way back is how done comes later and never from inside bk_schema_change.
 */
#include "schema_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

enum { PLAN_BYTES_MAX = 4 * SCHEMA_BOX_BYTES_MAX };

static void start_first(struct schema_state *state);

/* --- refusals --------------------------------------------------------------------------------- */

const char *schema_action_name(enum bk_schema_action action) {
    static const char *const names[] = {"create", "update", "delete"};
    return names[action];
}

enum bk_status schema_refuse(struct bk_schema_change *change, enum bk_schema_action action,
                             const struct bk_error *reason) {
    return bk_error_set(&change->error, reason->status, "Failed to %s collection: %s.",
                        schema_action_name(action), reason->message);
}

/* --- steps ------------------------------------------------------------------------------------ */

static enum bk_status read_definition(struct schema_plan *plan, struct schema_step *step,
                                      const struct bk_json *definition, struct bk_error *error) {
    const struct schema_box *old_box = step->old_box;
    struct schema_box *box = step->new_box;
    struct bk_json *former = NULL;
    enum bk_status status = BK_OK;
    if (old_box != NULL) {
        box->collection.secrets = bk_arena_copy(&box->arena, old_box->collection.secrets);
        status = bk_json_parse(&plan->arena, old_box->collection.definition, &former, error);
    }
    if (status != BK_OK)
        return status;
    const struct schema_source source = {
        .given = definition, .former = former, .arena = &plan->arena};
    status = schema_definition_read(plan->state->kind, &source, box, &step->option_problems, error);
    if (status == BK_OK && old_box != NULL &&
        !bk_slice_equal(box->collection.id, old_box->collection.id))
        status = bk_error_set(error, BK_INVALID, "the id cannot be changed");
    return status;
}

/* Puts the box into the planned schema in the place of the former one. */
static void plan_box(struct schema_plan *plan, const struct schema_box *old_box,
                     struct schema_box *new_box) {
    struct bk_schema *planned = schema_snapshot_change(
        plan->planned, old_box, new_box == NULL ? NULL : schema_box_ref(new_box), plan->generation);
    bk_schema_unref(plan->planned);
    plan->planned = planned;
}

static enum bk_status plan_definition(struct schema_plan *plan, struct schema_step *step,
                                      const struct bk_json *definition) {
    struct bk_schema_change *change = plan->change;
    struct bk_error error = BK_ERROR_INIT;
    bk_problems_init(&step->option_problems, &plan->arena);
    step->new_box = schema_box_create();
    enum bk_status status = read_definition(plan, step, definition, &error);
    if (status != BK_OK)
        return schema_refuse(change, step->action, &error);
    struct schema_box *box = step->new_box;
    schema_definition_set_id(box, plan->planned);
    box->folded = schema_fold(box->collection.name, &box->arena);
    if (plan->arena.is_overflown || change->arena->is_overflown)
        return bk_error_set(&change->error, BK_TOO_LARGE, "The definition is too large.");
    if (step->old_box == NULL && plan->planned->count >= BK_COLLECTIONS_MAX)
        return bk_error_set(&change->error, BK_LIMIT,
                            "There are %d collections already: delete some first.",
                            BK_COLLECTIONS_MAX);
    if (box->collection.type == BK_COLLECTION_VIEW) {
        schema_box_set_role(plan->state->kind, box);
        step->draft = schema_box_ref(box);
    }
    plan_box(plan, step->old_box, box);
    return BK_OK;
}

static enum bk_status plan_step(struct schema_plan *plan, struct schema_step *step,
                                const struct bk_schema_step *wanted) {
    struct bk_schema_change *change = plan->change;
    step->action = wanted->action;
    if (step->action == BK_SCHEMA_CREATE)
        return plan_definition(plan, step, wanted->definition);
    const struct bk_collection *target = bk_schema_find(plan->planned, wanted->target);
    if (target == NULL)
        return bk_error_set(&change->error, BK_NOT_FOUND, "There is no collection \"%.*s\".",
                            BK_SLICE_PRINT(wanted->target));
    step->old_box = schema_box_ref(schema_box_of(target));
    if (step->action == BK_SCHEMA_UPDATE)
        return plan_definition(plan, step, wanted->definition);
    if (target->is_system)
        return bk_error_set(&change->error, BK_INVALID,
                            "Failed to delete collection: it is a system collection.");
    plan_box(plan, step->old_box, NULL);
    return BK_OK;
}

/* --- judging ---------------------------------------------------------------------------------- */

/* Who else relates to the collection that is to go. */
struct references {
    struct bk_buffer names;
    const struct bk_collection *last;
};

static bool on_relation(void *user, const struct bk_relation *relation) {
    struct references *references = user;
    if (relation->collection == references->last)
        return true;
    references->last = relation->collection;
    if (references->names.length > 0)
        bk_buffer_append_literal(&references->names, ", ");
    bk_buffer_append_slice(&references->names, relation->collection->name);
    return true;
}

static enum bk_status judge_delete(struct schema_plan *plan, const struct schema_step *step) {
    struct bk_schema_change *change = plan->change;
    struct references references = {.last = NULL};
    bk_buffer_init(&references.names, BK_ERROR_MESSAGE_BYTES);
    bk_schema_relations_to(plan->planned, &step->old_box->collection, on_relation, &references);
    enum bk_status status = BK_OK;
    if (references.names.length > 0)
        status =
            bk_error_set(&change->error, BK_INVALID,
                         "Failed to delete collection probably due to existing reference in %.*s.",
                         BK_SLICE_PRINT(bk_buffer_slice(&references.names)));
    bk_buffer_fini(&references.names);
    return status;
}

static enum bk_status judge_definition(struct schema_plan *plan, struct schema_step *step) {
    struct bk_schema_change *change = plan->change;
    const struct bk_schema_kind *kind = plan->state->kind;
    /* One that is not there yet cannot be related to, but among many it can. */
    const struct bk_schema *schema = plan->is_single ? plan->state->current : plan->planned;
    schema_definition_check(kind, schema, step->new_box, step->old_box, false,
                            &step->option_problems, change->problems);
    if (!plan->defers_rules)
        schema_rules_check(kind, schema, step->new_box, step->old_box, false, change->problems);
    if (plan->arena.is_overflown || change->arena->is_overflown)
        return bk_error_set(&change->error, BK_TOO_LARGE, "The definition is too large.");
    if (change->problems->count > 0)
        return bk_error_set(&change->error, BK_INVALID, "Failed to %s collection.",
                            schema_action_name(step->action));
    enum bk_status status = schema_box_finish(kind, step->new_box);
    if (status == BK_TOO_LARGE)
        bk_error_set(&change->error, status, "The definition is too large.");
    return status;
}

static enum bk_status judge_step(struct schema_plan *plan, struct schema_step *step) {
    if (step->action == BK_SCHEMA_DELETE)
        return judge_delete(plan, step);
    return step->draft != NULL ? BK_OK : judge_definition(plan, step);
}

/* --- the plan --------------------------------------------------------------------------------- */

static enum bk_status plan_steps(struct schema_plan *plan, const struct bk_schema_step *wanted) {
    struct bk_schema_change *change = plan->change;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < plan->step_count && status == BK_OK; i++) {
        change->failed_step = i;
        status = plan_step(plan, &plan->steps[i], &wanted[i]);
        plan->defers_rules |= !plan->is_single && plan->steps[i].draft != NULL;
    }
    for (uint32_t i = 0; i < plan->step_count && status == BK_OK; i++) {
        change->failed_step = i;
        status = judge_step(plan, &plan->steps[i]);
    }
    return status;
}

static enum bk_status make_plan(struct schema_plan *plan) {
    struct bk_schema_change *change = plan->change;
    struct bk_schema *current = plan->state->current;
    const struct bk_schema_step single = {change->action, change->target, change->definition};
    plan->generation = current->generation + 1;
    plan->head = current->head;
    plan->planned = bk_schema_ref(current);
    enum bk_status status =
        change->make_steps == NULL ? BK_OK : change->make_steps(change, current);
    if (status != BK_OK)
        return status;
    plan->is_single = change->steps == NULL;
    plan->step_count = plan->is_single ? 1 : change->step_count;
    plan->steps = bk_alloc_zero(sizeof *plan->steps * (plan->step_count + 1));
    return plan_steps(plan, plan->is_single ? &single : change->steps);
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct bk_schema_change *change = bk_container_of(write, struct bk_schema_change, write);
    struct schema_plan *plan = change->plan;
    return plan->status == BK_OK ? schema_plan_run(plan, transaction) : plan->status;
}

/* --- back on the loop ------------------------------------------------------------------------- */

static void install(struct schema_plan *plan) {
    struct schema_state *state = plan->state;
    bk_schema_unref(state->current);
    state->current = bk_schema_ref(plan->after);
    bk_database_forget_statements(state->tenant->database);
    if (plan->is_single && plan->steps[0].new_box != NULL)
        plan->change->collection = &plan->steps[0].new_box->collection;
}

static void plan_destroy(struct schema_plan *plan) {
    schema_plan_forget_run(plan);
    for (uint32_t i = 0; i < plan->step_count; i++) {
        schema_box_unref(plan->steps[i].old_box);
        schema_box_unref(plan->steps[i].new_box);
        schema_box_unref(plan->steps[i].draft);
    }
    bk_free(plan->steps);
    bk_schema_unref(plan->planned);
    bk_arena_fini(&plan->arena);
    bk_free(plan);
}

static void finish(struct schema_plan *plan, enum bk_status status) {
    struct schema_state *state = plan->state;
    struct bk_schema_change *change = plan->change;
    bk_list_remove(&plan->link);
    if (status == BK_OK)
        install(plan);
    else
        schema_head_set(plan->head, state->current->generation);
    if (plan->is_proven)
        status = BK_OK;
    if (status != BK_OK && change->error.message[0] == '\0')
        bk_error_set(&change->error, status, "Failed to %s collection.",
                     schema_action_name(change->action));
    change->plan = NULL;
    plan_destroy(plan);
    /* The next one first: done may bring another change, or give up the last hold on the tenant. */
    start_first(state);
    schema_search_build(state);
    change->done(change, status);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct bk_schema_change *change = bk_container_of(write, struct bk_schema_change, write);
    finish(change->plan, status);
}

/* Plans the first change of the queue and sends it off. One that is not taken is over. */
static void start_first(struct schema_state *state) {
    if (bk_list_is_empty(&state->changes))
        return;
    struct schema_plan *plan = bk_container_of(state->changes.next, struct schema_plan, link);
    struct bk_schema_change *change = plan->change;
    plan->status = make_plan(plan);
    change->write = (struct bk_write){.lane = BK_LANE_REQUEST,
                                      .runs_alone = true,
                                      .origin = change->origin,
                                      .run = on_run,
                                      .done = on_done};
    enum bk_status status = bk_store_write(state->tenant->database, &change->write);
    if (status != BK_OK)
        finish(plan, plan->status == BK_OK ? status : plan->status);
}

void bk_schema_change(struct bk_schema_kind *kind, struct bk_schema_change *change) {
    BK_ASSERT(change->done != NULL && change->problems != NULL);
    BK_ASSERT(change->action == BK_SCHEMA_CREATE || change->target.length > 0 ||
              change->make_steps != NULL || change->steps != NULL);
    struct schema_state *state = schema_state_of(kind, change->tenant);
    struct schema_plan *plan = bk_alloc_zero(sizeof *plan);
    plan->state = state;
    plan->change = change;
    bk_arena_init(&plan->arena, PLAN_BYTES_MAX);
    change->plan = plan;
    change->collection = NULL;
    change->error = (struct bk_error)BK_ERROR_INIT;
    bool is_first = bk_list_is_empty(&state->changes);
    bk_list_push(&state->changes, &plan->link);
    if (is_first)
        start_first(state);
}
