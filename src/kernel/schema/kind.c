/*
 * The registry: field types, the collections that modules declare, and names that clients may not
 * give. It is filled while modules initialise and only read from then on, by any thread. Per tenant
 * it keeps the current snapshot in a slot: made when the tenant opens, given up when it closes.
 */
#include "schema_private.h"
#include "types/types.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

enum {
    KIND_BYTES_MAX = 1024 * 1024,
    DECLARATION_FORMAT = 2, /* of how declarations are read: another one reads all of them anew */
};

static const struct bk_field_type *const builtin[] = {
    &schema_type_text,     &schema_type_number, &schema_type_bool,      &schema_type_email,
    &schema_type_url,      &schema_type_date,   &schema_type_autodate,  &schema_type_select,
    &schema_type_relation, &schema_type_editor, &schema_type_geo_point, &schema_type_json,
    &schema_type_file,
};

/* --- a tenant's slot -------------------------------------------------------------------------- */

static enum bk_status on_prepare(struct bk_transaction *transaction, void *user,
                                 struct bk_error *error) {
    return schema_systems_prepare(user, transaction, error);
}

static enum bk_status on_open(struct bk_tenant *tenant, void **state, void *user,
                              struct bk_error *error) {
    struct bk_schema_kind *kind = user;
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    if (connection == NULL)
        return bk_error_set(error, BK_IO, "the database cannot be read");
    struct bk_schema *schema;
    enum bk_status status = schema_rows_read(kind, connection, &schema, error);
    if (status != BK_OK)
        return status;
    struct schema_state *made = bk_alloc_zero(sizeof *made);
    made->kind = kind;
    made->tenant = tenant;
    made->current = schema;
    bk_list_init(&made->changes);
    *state = made;
    schema_search_build(made);
    return BK_OK;
}

static void on_close(struct bk_tenant *tenant, void *state, void *user) {
    (void)tenant;
    (void)user;
    struct schema_state *closing = state;
    BK_ASSERT(bk_list_is_empty(&closing->changes)); /* a change holds its tenant */
    schema_search_close(closing);
    bk_schema_unref(closing->current);
    bk_free(closing);
}

/* --- the registry ----------------------------------------------------------------------------- */

static bool is_no_rule(const struct bk_schema *schema, const struct bk_collection *collection,
                       struct bk_slice rule, struct bk_slice field, struct bk_problems *problems) {
    (void)schema;
    (void)collection;
    if (rule.length == 0)
        return true;
    bk_problems_add(problems, field, "validation_invalid_rule",
                    "Must be null, for superusers only, or an empty text, for everyone.");
    return false;
}

struct bk_schema_kind *bk_schema_kind_create(struct bk_tenants *tenants, struct bk_log log) {
    struct bk_schema_kind *kind = bk_alloc_zero(sizeof *kind);
    kind->tenants = tenants;
    kind->log = log;
    kind->is_rule_valid = is_no_rule;
    bk_map_init(&kind->reserved);
    bk_arena_init(&kind->arena, KIND_BYTES_MAX);
    for (size_t i = 0; i < BK_COUNT_OF(builtin); i++)
        bk_schema_add_type(kind, builtin[i]);
    const struct bk_tenant_slot slot = {
        .name = "schema",
        .migrations = schema_migrations,
        .migration_count = schema_migration_count,
        .on_prepare = on_prepare,
        .on_open = on_open,
        .on_close = on_close,
        .user = kind,
    };
    kind->slot = bk_tenants_add_slot(tenants, &slot);
    return kind;
}

void bk_schema_kind_destroy(struct bk_schema_kind *kind) {
    if (kind == NULL)
        return;
    bk_map_fini(&kind->reserved);
    bk_arena_fini(&kind->arena);
    bk_free(kind);
}

void bk_schema_add_type(struct bk_schema_kind *kind, const struct bk_field_type *type) {
    BK_ASSERT(kind->type_count < SCHEMA_TYPES_MAX);
    BK_ASSERT(bk_schema_type(kind, bk_slice_from(type->name)) == NULL);
    BK_ASSERT(type->normalise != NULL && type->empty != NULL && type->write_json != NULL);
    kind->types[kind->type_count++] = type;
}

const struct bk_field_type *bk_schema_type(const struct bk_schema_kind *kind,
                                           struct bk_slice name) {
    for (uint32_t i = 0; i < kind->type_count; i++)
        if (bk_slice_equal(bk_slice_from(kind->types[i]->name), name))
            return kind->types[i];
    return NULL;
}

void bk_schema_add_system(struct bk_schema_kind *kind,
                          const struct bk_system_collection *collection, const char *source) {
    BK_ASSERT(kind->system_count < SCHEMA_SYSTEMS_MAX);
    struct schema_system *system = &kind->systems[kind->system_count];
    struct bk_json *definition;
    enum bk_status status =
        bk_json_parse(&kind->arena, bk_slice_from(collection->definition), &definition, NULL);
    if (kind->arena.lacks_memory)
        bk_alloc_give_up(strlen(collection->definition));
    BK_ASSERT(status == BK_OK); /* a module's constant */
    system->declared = *collection;
    system->name = bk_json_get_string(definition, BK_SLICE("name"));
    system->source = bk_slice_from(source);
    BK_ASSERT(system->name.length > 0 && schema_kind_system(kind, system->name) == NULL);
    /* FNV-1a, which is the same in every run, unlike the hash of maps. */
    uint64_t digest = UINT64_C(0xcbf29ce484222325) ^ DECLARATION_FORMAT;
    for (const char *byte = collection->definition; *byte != '\0'; byte++)
        digest = (digest ^ (unsigned char)*byte) * UINT64_C(0x100000001b3);
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++)
        system->digest[i] = digits[digest >> (60 - 4 * i) & 15];
    kind->system_count++;
}

const struct schema_system *schema_kind_system(const struct bk_schema_kind *kind,
                                               struct bk_slice name) {
    for (uint32_t i = 0; i < kind->system_count; i++)
        if (!kind->systems[i].declared.is_seed && bk_slice_equal(kind->systems[i].name, name))
            return &kind->systems[i];
    return NULL;
}

void bk_schema_reserve_name(struct bk_schema_kind *kind, struct bk_slice noun) {
    struct bk_slice folded = schema_fold(noun, &kind->arena);
    if (kind->arena.lacks_memory)
        bk_alloc_give_up(noun.length);
    BK_ASSERT(!kind->arena.is_overflown);
    bk_map_put(&kind->reserved, folded, kind);
}

void bk_schema_set_rule_check(struct bk_schema_kind *kind, bk_rule_check *is_valid) {
    BK_ASSERT(is_valid != NULL);
    kind->is_rule_valid = is_valid;
}

void bk_schema_set_auth_watch(struct bk_schema_kind *kind, const struct bk_auth_watch *watch) {
    BK_ASSERT(kind->auth_watch == NULL);
    kind->auth_watch = watch;
}

/* --- the current snapshot --------------------------------------------------------------------- */

struct schema_state *schema_state_of(struct bk_schema_kind *kind, struct bk_tenant *tenant) {
    struct schema_state *state = tenant->slots[kind->slot];
    BK_ASSERT(state != NULL);
    return state;
}

struct bk_schema *bk_schema_current(struct bk_schema_kind *kind, struct bk_tenant *tenant) {
    return schema_state_of(kind, tenant)->current;
}
