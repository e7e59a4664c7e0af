/* Who may do what: a rule is null (superusers), empty (everyone) or an expression. */
#include "bakend/rules.h"

#include "bakend/assert.h"
#include "bakend/filter.h"
#include <stdio.h>

#define TEXT(literal) BK_SLICE_INIT(literal)

const struct bk_actor bk_actor_guest = {.kind = BK_ACTOR_GUEST, .label = TEXT("guest")};
const struct bk_actor bk_actor_system = {
    .kind = BK_ACTOR_SYSTEM, .is_operator = true, .label = TEXT("system")};

bool bk_actor_is_superuser(const struct bk_actor *actor) {
    return actor->kind == BK_ACTOR_SUPERUSER || actor->kind == BK_ACTOR_SYSTEM;
}

/* "records:*" for "records:read". */
static bool is_all_of(struct bk_slice word, struct bk_slice scope) {
    size_t colon = bk_slice_find(scope, ':');
    return colon < scope.length && word.length == colon + 2 && word.data[colon + 1] == '*' &&
           memcmp(word.data, scope.data, colon + 1) == 0;
}

static bool key_holds(struct bk_slice scopes, struct bk_slice scope) {
    struct bk_slice word;
    while (bk_slice_split(&scopes, ' ', &word))
        if (word.length > 0 && (bk_slice_equal(word, scope) || is_all_of(word, scope)))
            return true;
    return false;
}

bool bk_actor_has_scope(const struct bk_actor *actor, struct bk_slice scope) {
    BK_ASSERT(scope.length > 0);
    if (actor->kind == BK_ACTOR_KEY)
        return key_holds(actor->scopes, scope);
    if (!bk_actor_is_superuser(actor))
        return false;
    return actor->is_operator || !bk_slice_starts_with(scope, BK_SLICE("tenants:"));
}

/* "records:read:posts" */
static bool names_collection(struct bk_slice scopes, struct bk_slice scope,
                             const struct bk_collection *collection) {
    struct bk_slice word;
    while (bk_slice_split(&scopes, ' ', &word))
        if (word.length == scope.length + 1 + collection->name.length &&
            bk_slice_starts_with(word, scope) && word.data[scope.length] == ':' &&
            bk_slice_ends_with(word, collection->name))
            return true;
    return false;
}

static bool key_opens(const struct bk_actor *actor, const struct bk_collection *collection,
                      enum bk_operation operation) {
    static const struct bk_slice read = TEXT("records:read"), write = TEXT("records:write");
    struct bk_slice scope = operation <= BK_MAY_VIEW ? read : write;
    if (collection->is_system || operation == BK_MAY_MANAGE)
        return false;
    return key_holds(actor->scopes, scope) || names_collection(actor->scopes, scope, collection);
}

enum bk_verdict bk_rules_authorize(const struct bk_actor *actor,
                                   const struct bk_collection *collection,
                                   enum bk_operation operation) {
    BK_ASSERT((int)operation >= 0 && (int)operation < BK_OPERATION_COUNT);
    if (bk_actor_is_superuser(actor) ||
        (actor->kind == BK_ACTOR_KEY && key_opens(actor, collection, operation)))
        return BK_ALLOWED;
    struct bk_slice rule = collection->rules[operation];
    if (rule.data == NULL)
        return BK_DENIED;
    return rule.length == 0 ? BK_ALLOWED : BK_ASKED;
}

enum bk_view bk_rules_view(const struct bk_actor *actor, const struct bk_collection *collection) {
    (void)collection; /* a manage rule, which is of the language, will open hidden fields too */
    return bk_actor_is_superuser(actor) ? BK_VIEW_FULL : BK_VIEW_PUBLIC;
}

static enum bk_status read_rule(struct bk_arena *arena, const struct bk_schema *schema,
                                const struct bk_collection *collection, struct bk_slice rule,
                                struct bk_error *error) {
    const struct bk_filter_scope scope = {
        .schema = schema, .collection = collection, .first_parameter = 1};
    struct bk_filter_sql sql;
    struct bk_filter *filter;
    enum bk_status status = bk_filter_parse(arena, rule, BK_RULE_BYTES_MAX, &filter, error);
    if (status != BK_OK)
        return status;
    struct bk_filter_query *query = bk_filter_query_create(arena, &scope);
    if (query == NULL)
        return bk_arena_status(arena);
    status = bk_filter_query_add(query, filter, BK_FILTER_OF_RULE, error);
    return status == BK_OK ? bk_filter_query_finish(query, &sql) : status;
}

bool bk_rule_is_valid(const struct bk_schema *schema, const struct bk_collection *collection,
                      struct bk_slice rule, struct bk_slice field, struct bk_problems *problems) {
    enum { ARENA_BYTES_MAX = 8 * 1024 * 1024 };
    struct bk_error error = BK_ERROR_INIT;
    struct bk_arena arena;
    if (rule.length == 0)
        return true;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    enum bk_status status = read_rule(&arena, schema, collection, rule, &error);
    bk_arena_fini(&arena);
    if (status == BK_OK)
        return true;
    if (status != BK_INVALID)
        bk_error_set(&error, status, "it takes more than a rule may: make it shorter");
    char message[BK_ERROR_MESSAGE_BYTES];
    snprintf(message, sizeof message, "Invalid rule: %.480s.", error.message);
    bk_problems_add(problems, field, "validation_invalid_rule", message);
    return false;
}
