/*
 * Collections that modules declare. In the transaction that opens a tenant each is created where it
 * is missing, or brought up to date where its declaration has changed since: declared members
 * replace what is there, fields and indexes that others have added stay. A seed is made once and is
 * the application's from then on. Nothing is journalled: nobody changed anything.
 */
#include "schema_private.h"

#include "bakend/assert.h"

enum { DIGEST_BYTES = sizeof(((struct schema_system *)0)->digest) };

struct preparing {
    const struct bk_schema_kind *kind;
    struct bk_transaction *transaction;
    struct bk_schema *schema; /* as it is so far */
    struct bk_arena arena;
    struct bk_error *error;
};

/* Fields are the same by name, indexes by text. */
static const struct bk_json *find_same(const struct bk_json *list, const struct bk_json *item,
                                       bool is_fields) {
    static const struct bk_slice name = BK_SLICE_INIT("name");
    for (const struct bk_json *child = list == NULL ? NULL : list->child; child != NULL;
         child = child->next) {
        bool is_same = is_fields ? bk_slice_equal(bk_json_get_string(child, name),
                                                  bk_json_get_string(item, name))
                                 : bk_slice_equal(child->string, item->string);
        if (is_same)
            return child;
    }
    return NULL;
}

/* Appends a copy, since an item is in one list only. */
static struct bk_json **append(struct preparing *preparing, struct bk_json *list,
                               struct bk_json **end, const struct bk_json *item) {
    struct bk_json *copy = bk_arena_alloc(&preparing->arena, sizeof *copy);
    *copy = *item;
    copy->next = NULL;
    *end = copy;
    list->child_count++;
    return &copy->next;
}

/* The former list in its order, each item as it is declared now, then what is new. */
static const struct bk_json *join(struct preparing *preparing, const struct bk_json *declared,
                                  const struct bk_json *former, bool is_fields) {
    struct bk_json *joined = bk_arena_alloc(&preparing->arena, sizeof *joined);
    *joined = *declared;
    joined->child = NULL;
    joined->child_count = 0;
    struct bk_json **end = &joined->child;
    for (const struct bk_json *child = former == NULL ? NULL : former->child; child != NULL;
         child = child->next) {
        const struct bk_json *now = find_same(declared, child, is_fields);
        end = append(preparing, joined, end, now == NULL ? child : now);
    }
    for (const struct bk_json *child = declared->child; child != NULL; child = child->next)
        if (find_same(former, child, is_fields) == NULL)
            end = append(preparing, joined, end, child);
    return joined;
}

/* A declaration that has the lists of the former definition joined to its own. */
static const struct bk_json *merge(struct preparing *preparing, const struct bk_json *declared,
                                   const struct bk_json *former) {
    if (former == NULL)
        return declared;
    struct bk_json *merged = bk_arena_alloc(&preparing->arena, sizeof *merged);
    *merged = *declared;
    struct bk_json **end = &merged->child;
    for (const struct bk_json *child = declared->child; child != NULL; child = child->next) {
        struct bk_json *copy = bk_arena_alloc(&preparing->arena, sizeof *copy);
        bool is_fields = bk_slice_is(child->key, "fields");
        if (is_fields || bk_slice_is(child->key, "indexes"))
            *copy = *join(preparing, child, bk_json_get(former, child->key), is_fields);
        else
            *copy = *child;
        copy->key = child->key;
        copy->next = NULL;
        *end = copy;
        end = &copy->next;
    }
    return merged;
}

static enum bk_status check(struct preparing *preparing, const struct schema_box *box,
                            const struct schema_box *old,
                            const struct bk_problems *option_problems) {
    struct bk_problems problems;
    bk_problems_init(&problems, &preparing->arena);
    schema_definition_check(preparing->kind, preparing->schema, box, old, true, option_problems,
                            &problems);
    schema_rules_check(preparing->kind, preparing->schema, box, old, true, &problems);
    if (problems.count == 0)
        return BK_OK;
    const struct bk_problem *first = problems.first;
    return bk_error_set(preparing->error, BK_INVALID, "%.*s: %.*s",
                        BK_SLICE_PRINT(first == NULL ? BK_SLICE("?") : first->field),
                        BK_SLICE_PRINT(first == NULL ? BK_SLICE("?") : first->message));
}

static enum bk_status read_declared(struct preparing *preparing, const struct schema_system *system,
                                    struct schema_box *old, struct schema_box *box) {
    struct bk_json *declared = NULL, *former = NULL;
    struct bk_problems option_problems;
    bk_problems_init(&option_problems, &preparing->arena);
    enum bk_status status = bk_json_parse(
        &preparing->arena, bk_slice_from(system->declared.definition), &declared, preparing->error);
    if (status == BK_OK && old != NULL)
        status =
            bk_json_parse(&preparing->arena, old->collection.definition, &former, preparing->error);
    if (status != BK_OK)
        return status;
    if (old != NULL)
        box->collection.secrets = bk_arena_copy(&box->arena, old->collection.secrets);
    const struct schema_source source = {
        .given = merge(preparing, declared, former), .former = former, .arena = &preparing->arena};
    status =
        schema_definition_read(preparing->kind, &source, box, &option_problems, preparing->error);
    if (status != BK_OK)
        return status;
    schema_definition_set_id(box, preparing->schema);
    status = schema_box_finish(preparing->kind, box);
    return status == BK_OK ? check(preparing, box, old, &option_problems) : status;
}

/* declared: the digest to remember, empty for what is the application's own. */
static enum bk_status install(struct preparing *preparing, const struct schema_system *system,
                              struct schema_box *old, struct bk_slice declared) {
    struct schema_box *box = schema_box_create();
    enum bk_status status = read_declared(preparing, system, old, box);
    struct bk_problems problems;
    bk_problems_init(&problems, &preparing->arena);
    if (status == BK_OK)
        status = schema_table_change(preparing->transaction, old, box, &problems, preparing->error);
    if (status == BK_OK)
        status = schema_row_write(preparing->transaction, old, box, declared, preparing->error);
    if (status != BK_OK) {
        schema_box_unref(box);
        return status;
    }
    struct bk_schema *changed = schema_snapshot_change(preparing->schema, old, box, 1);
    bk_schema_unref(preparing->schema);
    preparing->schema = changed;
    return BK_OK;
}

static enum bk_status prepare_one(struct preparing *preparing, const struct schema_system *system) {
    char digest[DIGEST_BYTES];
    struct bk_connection *connection = bk_transaction_connection(preparing->transaction);
    enum bk_status status = schema_row_declared(connection, system->name, digest, sizeof digest);
    if (status != BK_OK || memcmp(digest, system->digest, sizeof digest) == 0)
        return status;
    return install(preparing, system,
                   schema_box_of(bk_schema_find(preparing->schema, system->name)),
                   bk_slice_from(system->digest));
}

/* Once in the life of a tenant, unless the application has one of that name. */
static enum bk_status prepare_seed(struct preparing *preparing,
                                   const struct schema_system *system) {
    bool is_first;
    enum bk_status status =
        schema_row_sow(preparing->transaction, system->name, &is_first, preparing->error);
    if (status != BK_OK || !is_first || bk_schema_find(preparing->schema, system->name) != NULL)
        return status;
    return install(preparing, system, NULL, BK_SLICE(""));
}

enum bk_status schema_systems_prepare(const struct bk_schema_kind *kind,
                                      struct bk_transaction *transaction, struct bk_error *error) {
    struct preparing preparing = {.kind = kind, .transaction = transaction, .error = error};
    enum bk_status status =
        schema_rows_read(kind, bk_transaction_connection(transaction), &preparing.schema, error);
    if (status != BK_OK)
        return status;
    bool is_default = bk_slice_is(bk_transaction_tenant(transaction), "default");
    bk_arena_init(&preparing.arena, SCHEMA_BOX_BYTES_MAX);
    for (uint32_t i = 0; i < kind->system_count && status == BK_OK; i++) {
        const struct schema_system *system = &kind->systems[i];
        if (system->declared.is_operators && !is_default)
            continue;
        status = system->declared.is_seed ? prepare_seed(&preparing, system)
                                          : prepare_one(&preparing, system);
        if (status != BK_OK)
            bk_error_prefix(error, "system collection \"%.*s\"", BK_SLICE_PRINT(system->name));
        bk_arena_reset(&preparing.arena);
    }
    if (status == BK_OK)
        status = schema_totals_prepare(preparing.schema, bk_transaction_connection(transaction));
    if (status == BK_OK)
        status =
            schema_search_prepare(preparing.schema, bk_transaction_connection(transaction), error);
    bk_arena_fini(&preparing.arena);
    bk_schema_unref(preparing.schema);
    return status;
}
