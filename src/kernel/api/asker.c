/*
 * A request as rules and filters see it: @request, an object in the request's arena.
 *
 *   {"context","method","headers","query","body","auth"}
 */
#include "bakend/api.h"
#include "bakend/encode.h"

static struct bk_json *add_member(struct bk_arena *arena, struct bk_json *object,
                                  struct bk_slice key, enum bk_json_type type) {
    struct bk_json *member = bk_arena_alloc_zero(arena, sizeof *member);
    member->key = key;
    member->type = type;
    member->next = object->child;
    object->child = member;
    object->child_count++;
    return member;
}

static void add_text(struct bk_arena *arena, struct bk_json *object, struct bk_slice key,
                     struct bk_slice text) {
    add_member(arena, object, key, BK_JSON_STRING)->string = text;
}

/* content_type for Content-Type. */
static struct bk_slice header_key(struct bk_arena *arena, struct bk_slice name) {
    char *key = bk_arena_alloc(arena, name.length);
    if (arena->is_overflown)
        return BK_SLICE_EMPTY;
    for (size_t i = 0; i < name.length; i++)
        key[i] = name.data[i] == '-' ? '_' : name.data[i];
    return bk_slice_make(key, name.length);
}

static void add_headers(struct bk_request *request, struct bk_json *root) {
    struct bk_arena *arena = &request->arena;
    struct bk_json *headers = add_member(arena, root, BK_SLICE("headers"), BK_JSON_OBJECT);
    for (uint32_t i = 0; i < request->header_count && !arena->is_overflown; i++)
        add_text(arena, headers, header_key(arena, request->headers[i].name),
                 request->headers[i].value);
}

/* The first of each name counts: later ones are put behind it. */
static void add_query(struct bk_request *request, struct bk_json *root) {
    struct bk_arena *arena = &request->arena;
    struct bk_json *query = add_member(arena, root, BK_SLICE("query"), BK_JSON_OBJECT);
    struct bk_slice rest = request->query, pair, name;
    while (rest.length > 0 && bk_slice_split(&rest, '&', &pair) && !arena->is_overflown) {
        struct bk_slice raw = bk_slice_make(pair.data, bk_slice_find(pair, '='));
        if (bk_percent_decode(arena, raw, true, &name) && bk_json_get(query, name) == NULL)
            add_text(arena, query, name, bk_request_query(request, name));
    }
}

static void add_body(struct bk_arena *arena, const struct bk_json *sent, struct bk_json *root) {
    struct bk_json *body = add_member(arena, root, BK_SLICE("body"), BK_JSON_OBJECT);
    if (sent == NULL || sent->type != BK_JSON_OBJECT)
        return;
    body->child = sent->child;
    body->child_count = sent->child_count;
}

static void add_auth(struct bk_request *request, const struct bk_collection *collection,
                     struct bk_json *root) {
    struct bk_arena *arena = &request->arena;
    if (collection == NULL)
        return;
    struct bk_json *auth = add_member(arena, root, BK_SLICE("auth"), BK_JSON_OBJECT);
    add_text(arena, auth, BK_SLICE("id"), request->actor.id);
    add_text(arena, auth, BK_SLICE("collectionId"), collection->id);
    add_text(arena, auth, BK_SLICE("collectionName"), collection->name);
}

static const struct bk_json *describe(struct bk_request *request, const struct bk_json *body,
                                      struct bk_slice context,
                                      const struct bk_collection *auth_collection) {
    struct bk_arena *arena = &request->arena;
    struct bk_json *root = bk_arena_alloc_zero(arena, sizeof *root);
    root->type = BK_JSON_OBJECT;
    add_text(arena, root, BK_SLICE("context"), context);
    add_text(arena, root, BK_SLICE("method"), bk_slice_from(bk_method_name(request->method)));
    add_headers(request, root);
    add_query(request, root);
    add_body(arena, body, root);
    add_auth(request, auth_collection, root);
    return root;
}

enum bk_status bk_request_asker(struct bk_request *request, const struct bk_schema *schema,
                                const struct bk_json *body, struct bk_slice context,
                                struct bk_asker *asker) {
    bk_asker_init(asker, schema, &request->actor, NULL);
    asker->request = describe(request, body, context, asker->auth_collection);
    return bk_arena_status(&request->arena);
}
