/*
 * A change, from the request to the new snapshot.
 *
 *   loop    queued behind the tenant's other changes → planned against the newest schema
 *   writer  the head's generation rises → the table → the row → the event: alone in a transaction
 *   loop    the new snapshot is installed, statements are forgotten → the next is planned → done
 *
 * Changes of one tenant run one after the other, each planned when the one before it is installed,
 * so none can be stale. When the plan finds problems nothing goes to the writer but a write that
 * fails at once: its way back is how done comes later and never from inside bk_schema_change.
 */
#include "schema_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

enum { PLAN_BYTES_MAX = SCHEMA_BOX_BYTES_MAX };

struct schema_plan {
    struct bk_list link;
    struct schema_state *state;
    struct bk_schema_change *change;
    enum bk_status status;                /* of planning */
    struct schema_box *old_box, *new_box; /* references; either may be NULL */
    uint64_t generation;                  /* that the change makes */
    struct schema_head *head;             /* of the schema that it changes */
    struct bk_arena arena;                /* of parsing */
};

static void start_first(struct schema_state *state);

/* --- planning --------------------------------------------------------------------------------- */

/* PocketBase's SDK shows the message of a refusal that has no fields. */
static enum bk_status refuse(struct bk_schema_change *change, const char *action,
                             const struct bk_error *reason) {
    return bk_error_set(&change->error, reason->status, "Failed to %s collection: %s.", action,
                        reason->message);
}

static const char *action_name(const struct bk_schema_change *change) {
    static const char *const names[] = {"create", "update", "delete"};
    return names[change->action];
}

/* Who else relates to the collection that is to go. */
struct references {
    const struct bk_collection *target;
    struct bk_buffer names;
    const struct bk_collection *last;
};

static bool on_relation(void *user, const struct bk_relation *relation) {
    struct references *references = user;
    if (relation->collection == references->target || relation->collection == references->last)
        return true;
    references->last = relation->collection;
    if (references->names.length > 0)
        bk_buffer_append_literal(&references->names, ", ");
    bk_buffer_append_slice(&references->names, relation->collection->name);
    return true;
}

static enum bk_status plan_delete(struct schema_plan *plan) {
    struct bk_schema_change *change = plan->change;
    const struct bk_collection *target = &plan->old_box->collection;
    if (target->is_system)
        return bk_error_set(&change->error, BK_INVALID,
                            "Failed to delete collection: it is a system collection.");
    struct references references = {.target = target};
    bk_buffer_init(&references.names, BK_ERROR_MESSAGE_BYTES);
    bk_schema_relations_to(plan->state->current, target, on_relation, &references);
    enum bk_status status = BK_OK;
    if (references.names.length > 0)
        status =
            bk_error_set(&change->error, BK_INVALID,
                         "Failed to delete collection probably due to existing reference in %.*s.",
                         BK_SLICE_PRINT(bk_buffer_slice(&references.names)));
    bk_buffer_fini(&references.names);
    return status;
}

static enum bk_status read_definition(struct schema_plan *plan, struct bk_problems *problems,
                                      struct bk_error *error) {
    struct schema_box *old_box = plan->old_box, *box = plan->new_box;
    struct bk_json *former = NULL;
    enum bk_status status = BK_OK;
    if (old_box != NULL) {
        box->collection.secrets = bk_arena_copy(&box->arena, old_box->collection.secrets);
        status = bk_json_parse(&plan->arena, old_box->collection.definition, &former, error);
    }
    if (status != BK_OK)
        return status;
    const struct schema_source source = {
        .given = plan->change->definition, .former = former, .arena = &plan->arena};
    status = schema_definition_read(plan->state->kind, &source, box, problems, error);
    if (status == BK_OK && old_box != NULL &&
        !bk_slice_equal(box->collection.id, old_box->collection.id))
        status = bk_error_set(error, BK_INVALID, "the id cannot be changed");
    return status;
}

static enum bk_status plan_definition(struct schema_plan *plan) {
    struct bk_schema_change *change = plan->change;
    struct bk_schema *current = plan->state->current;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_problems option_problems;
    bk_problems_init(&option_problems, &plan->arena);
    plan->new_box = schema_box_create();
    enum bk_status status = read_definition(plan, &option_problems, &error);
    if (status != BK_OK)
        return refuse(change, action_name(change), &error);
    schema_definition_set_id(plan->new_box, current);
    plan->new_box->folded = schema_fold(plan->new_box->collection.name, &plan->new_box->arena);
    schema_definition_check(plan->state->kind, current, plan->new_box, plan->old_box, false,
                            &option_problems, change->problems);
    if (plan->arena.is_overflown || change->arena->is_overflown)
        return bk_error_set(&change->error, BK_TOO_LARGE, "The definition is too large.");
    if (change->problems->count > 0)
        return bk_error_set(&change->error, BK_INVALID, "Failed to %s collection.",
                            action_name(change));
    if (plan->old_box == NULL && current->count >= BK_COLLECTIONS_MAX)
        return bk_error_set(&change->error, BK_LIMIT,
                            "There are %d collections already: delete some first.",
                            BK_COLLECTIONS_MAX);
    status = schema_box_finish(plan->state->kind, plan->new_box);
    if (status == BK_TOO_LARGE)
        bk_error_set(&change->error, status, "The definition is too large.");
    return status;
}

static enum bk_status make_plan(struct schema_plan *plan) {
    struct bk_schema_change *change = plan->change;
    struct bk_schema *current = plan->state->current;
    plan->generation = current->generation + 1;
    plan->head = current->head;
    if (change->action == BK_SCHEMA_CREATE)
        return plan_definition(plan);
    const struct bk_collection *target = bk_schema_find(current, change->target);
    if (target == NULL)
        return bk_error_set(&change->error, BK_NOT_FOUND, "There is no such collection.");
    plan->old_box = schema_box_ref(schema_box_of(target));
    return change->action == BK_SCHEMA_DELETE ? plan_delete(plan) : plan_definition(plan);
}

/* --- on the writer ---------------------------------------------------------------------------- */

static enum bk_status emit(struct bk_transaction *transaction, const struct schema_plan *plan) {
    static const char *const types[] = {"_collections.created", "_collections.updated",
                                        "_collections.deleted"};
    const struct bk_collection *subject =
        plan->new_box != NULL ? &plan->new_box->collection : &plan->old_box->collection;
    struct bk_event_draft draft = {
        .type = bk_slice_from(types[plan->change->action]),
        .source = BK_SLICE("collections"),
        .subject = bk_arena_format(bk_transaction_arena(transaction), "_collections/%.*s",
                                   BK_SLICE_PRINT(subject->id)),
        .payload = subject->definition,
    };
    if (plan->old_box != NULL && plan->new_box != NULL)
        draft.previous = plan->old_box->collection.definition;
    return bk_transaction_emit(transaction, &draft);
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct bk_schema_change *change = bk_container_of(write, struct bk_schema_change, write);
    struct schema_plan *plan = change->plan;
    if (plan->status != BK_OK)
        return plan->status;
    schema_head_set(plan->head, plan->generation);
    struct bk_error error = BK_ERROR_INIT;
    enum bk_status status =
        schema_table_change(transaction, plan->old_box, plan->new_box, change->problems, &error);
    if (status == BK_OK)
        status = schema_row_write(transaction, plan->old_box, plan->new_box, BK_SLICE(""), &error);
    if (status == BK_OK)
        status = emit(transaction, plan);
    if (status != BK_OK)
        refuse(change, action_name(change), &error);
    return status;
}

/* --- back on the loop ------------------------------------------------------------------------- */

static void install(struct schema_plan *plan) {
    struct schema_state *state = plan->state;
    struct bk_schema *former = state->current;
    state->current = schema_snapshot_change(
        former, plan->old_box, plan->new_box == NULL ? NULL : schema_box_ref(plan->new_box),
        plan->generation);
    bk_schema_unref(former);
    bk_database_forget_statements(state->tenant->database);
    if (plan->new_box != NULL)
        plan->change->collection = &plan->new_box->collection;
}

static void plan_destroy(struct schema_plan *plan) {
    schema_box_unref(plan->old_box);
    schema_box_unref(plan->new_box);
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
    if (status != BK_OK && change->error.message[0] == '\0')
        bk_error_set(&change->error, status, "Failed to %s collection.", action_name(change));
    change->plan = NULL;
    plan_destroy(plan);
    /* The next one first: done may bring another change, or give up the last hold on the tenant. */
    start_first(state);
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
    BK_ASSERT(change->action == BK_SCHEMA_CREATE || change->target.length > 0);
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
