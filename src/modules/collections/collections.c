/*
 * Collections over REST: definitions at /api/collections, records at /api/collections/{c}/records
 * and by the short form /{c}. Every change of a record is one event, written in the same
 * transaction.
 *
 *   definitions.c     the collections themselves
 *   record_request.c  create, update, delete as requests
 *   record_change.c   the engine behind them: prepare on the loop, run on the writer
 *   record_input.c    from the keys of a body to values, modifiers
 *   record_ask.c      who may, and how the answer shows the record
 *   record_auth.c     what records of auth collections have besides
 *   record_belonging.c what belongs to auth records
 *   record_write.c    create and update on the writer: check, SQL, event
 *   batch.c           several changes at once, all or nothing
 *   cascade.c         what refers to a deleted record
 *   retry.c           requests that are sent again, with an Idempotency-Key
 *   record_read.c     one record by id, on the loop
 *   record_list.c     pages of records, on a reader
 *   snapshot.c        all records as a stream, to begin a copy with
 *   request.c         what requests have in common
 *   definitions_….c   beside one collection: list.c all of them, import.c many at once, truncate.c
 *                     the records of one, meta.c what there may be
 */
#include "bakend/encode.h"
#include "bakend/settings.h"
#include "retry.h"

struct collections_state {
    struct bk_fallback fallback;
    struct bk_module_context *context;
    struct collections_snapshots snapshots;
};

static const struct bk_route_parameter list_parameters[] = {
    {"page", "query", "integer=1", "The page, from 1."},
    {"perPage", "query", "integer=30", "Items a page, at most 1000; 30 when absent."},
    {"filter", "query", "string", "Which records: title ~ 'x' && stars > 3. See docs/filters.md."},
    {"sort", "query", "string",
     "Fields separated by commas; '-' before one turns it round. As inserted when absent."},
    {"skipTotal", "query", "boolean=false", "Leaves totalItems and totalPages uncounted (-1)."},
    {"fields", "query", "string",
     "Which members of an item to answer, separated by commas; all when absent."},
    {"cursor", "query", "string",
     "Pages by key: empty for the first page, then the nextCursor of the page before."},
    {"expand", "query", "string", "Relations whose records come along: author.boss,editors."},
    {"search", "query", "string", "Words, \"phrases\" and begin* of the fields that are searched."},
    {NULL, NULL, NULL, NULL},
};
static const struct bk_route_parameter definition_list_parameters[] = {
    {"page", "query", "integer=1", "The page, from 1."},
    {"perPage", "query", "integer=30", "Items a page, at most 1000; 30 when absent."},
    {"filter", "query", "string", "Which ones, by name, id, type, system, created and updated."},
    {"sort", "query", "string", "name, type, system, created, updated or id; '-' turns it round."},
    {"skipTotal", "query", "boolean=false", "Leaves totalItems and totalPages uncounted (-1)."},
    {"fields", "query", "string",
     "Which members of an item to answer, separated by commas; all when absent."},
    {"system", "query", "string",
     "all: also the collections that the server's own modules declare."},
    {NULL, NULL, NULL, NULL},
};
#define RETRY_PARAMETER                                                                            \
    {                                                                                              \
        "Idempotency-Key", "header", "string",                                                     \
            "Of this request, 1 to 255 bytes: sent again with it, it is answered again and not "   \
            "done again."                                                                          \
    }
static const struct bk_route_parameter change_parameters[] = {
    {"fields", "query", "string", "Which members to answer, separated by commas; all when absent."},
    {"expand", "query", "string", "Relations whose records come along: author,comments_via_post."},
    RETRY_PARAMETER,
    {NULL, NULL, NULL, NULL},
};
static const struct bk_route_parameter retry_parameter[] = {
    RETRY_PARAMETER,
    {NULL, NULL, NULL, NULL},
};
static const struct bk_route_parameter fields_parameter[] = {
    {"fields", "query", "string", "Which members to answer, separated by commas; all when absent."},
    {NULL, NULL, NULL, NULL},
};

#define RECORDS_PATH "/api/collections/{collection}/records"

enum { ROUTE_LIST, ROUTE_CREATE, ROUTE_VIEW, ROUTE_UPDATE, ROUTE_DELETE };

static const struct bk_route routes[] = {
    [ROUTE_LIST] = {.method = BK_GET,
                    .path = RECORDS_PATH,
                    .scope = "records:read",
                    .labels = "list",
                    .summary = "Lists a collection's records.",
                    .tag = "records",
                    .parameters = list_parameters,
                    .handle = collections_records_list},
    [ROUTE_CREATE] = {.method = BK_POST,
                      .path = RECORDS_PATH,
                      .scope = "records:write",
                      .body_max_bytes = BK_BODY_MAX_BYTES,
                      .has_json_body = true,
                      .labels = "create",
                      .summary = "Creates a record.",
                      .tag = "records",
                      .parameters = change_parameters,
                      .handle = collections_record_create},
    [ROUTE_VIEW] = {.method = BK_GET,
                    .path = RECORDS_PATH "/{id}",
                    .scope = "records:read",
                    .labels = "view",
                    .summary = "Answers one record.",
                    .tag = "records",
                    .parameters = fields_parameter,
                    .handle = collections_record_view},
    [ROUTE_UPDATE] = {.method = BK_PATCH,
                      .path = RECORDS_PATH "/{id}",
                      .scope = "records:write",
                      .body_max_bytes = BK_BODY_MAX_BYTES,
                      .has_json_body = true,
                      .labels = "update",
                      .summary = "Changes the given fields of a record.",
                      .tag = "records",
                      .parameters = change_parameters,
                      .handle = collections_record_update},
    [ROUTE_DELETE] = {.method = BK_DELETE,
                      .path = RECORDS_PATH "/{id}",
                      .scope = "records:write",
                      .body_max_bytes = 4096,
                      .labels = "delete",
                      .summary = "Deletes a record, and what refers to it as its relation says.",
                      .tag = "records",
                      .parameters = retry_parameter,
                      .handle = collections_record_delete},
    {.method = BK_POST,
     .path = "/api/batch",
     .scope = "records:write",
     .body_max_bytes = BK_BATCH_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Creates, updates and deletes several records, all or none.",
     .tag = "records",
     .parameters = retry_parameter,
     .handle = collections_batch},
    {.method = BK_GET,
     .path = "/api/collections/{collection}/snapshot",
     .scope = "records:read",
     .summary = "Streams all records between two cursors of the feed, as NDJSON.",
     .tag = "records",
     .handle = collections_snapshot},
    {.method = BK_GET,
     .path = "/api/collections",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Lists the collections.",
     .tag = "collections",
     .parameters = definition_list_parameters,
     .handle = collections_definitions_list},
    {.method = BK_POST,
     .path = "/api/collections",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = BK_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Creates a collection.",
     .tag = "collections",
     .parameters = fields_parameter,
     .handle = collections_definition_create},
    {.method = BK_PUT,
     .path = "/api/collections/import",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = BK_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Creates, changes and, if asked, deletes many collections at once.",
     .tag = "collections",
     .handle = collections_definitions_import},
    {.method = BK_GET,
     .path = "/api/collections/meta/scaffolds",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Answers what a new collection of each type has.",
     .tag = "collections",
     .parameters = fields_parameter,
     .handle = collections_definition_scaffolds},
    {.method = BK_GET,
     .path = "/api/collections/meta/oauth2-providers",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Lists the OAuth2 providers that an auth collection may name.",
     .tag = "collections",
     .parameters = fields_parameter,
     .handle = collections_definition_providers},
    {.method = BK_POST,
     .path = "/api/collections/meta/dry-run-view",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = BK_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Answers the fields of a view's query and some of its records.",
     .tag = "collections",
     .handle = collections_definition_dry_run},
    {.method = BK_DELETE,
     .path = "/api/collections/{collection}/truncate",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = 4096,
     .summary = "Deletes all records of a collection, and what refers to them.",
     .tag = "collections",
     .handle = collections_definition_truncate},
    {.method = BK_GET,
     .path = "/api/collections/{collection}",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Answers one collection, by name or id.",
     .tag = "collections",
     .parameters = fields_parameter,
     .handle = collections_definition_view},
    {.method = BK_PATCH,
     .path = "/api/collections/{collection}",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = BK_BODY_MAX_BYTES,
     .has_json_body = true,
     .summary = "Changes a collection; its records keep what its new fields can hold.",
     .tag = "collections",
     .parameters = fields_parameter,
     .handle = collections_definition_update},
    {.method = BK_DELETE,
     .path = "/api/collections/{collection}",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = 4096,
     .summary = "Deletes a collection with its records.",
     .tag = "collections",
     .handle = collections_definition_delete},
};

static const struct bk_event_declaration events[] = {
    {"*.created", true, "RecordCreated",
     "A record was created in the collection named by the noun."},
    {"*.updated", true, "RecordUpdated", "A record was changed; previous holds the former values."},
    {"*.deleted", true, "RecordDeleted",
     "A record was deleted; the payload is the record as it was."},
    {"_collections.created", true, "CollectionCreated", "A collection was created."},
    {"_collections.updated", true, "CollectionUpdated", "A collection's definition was changed."},
    {"_collections.deleted", true, "CollectionDeleted",
     "A collection was deleted with its records."},
};

/* --- the short form and the aliases of resources ---------------------------------------------- */

/* Whether a client would rather have a page than JSON: its first choice is HTML. */
static bool prefers_html(const struct bk_request *request) {
    struct bk_slice accept = bk_request_header(request, BK_SLICE("accept"));
    struct bk_slice first;
    if (!bk_slice_split(&accept, ',', &first))
        return false;
    return bk_slice_starts_with(bk_slice_trim(first), BK_SLICE("text/html"));
}

static const struct bk_route *route_of(enum bk_method method, bool has_id) {
    switch (method) {
    case BK_GET:
    case BK_HEAD:
        return &routes[has_id ? ROUTE_VIEW : ROUTE_LIST];
    case BK_POST:
        return has_id ? NULL : &routes[ROUTE_CREATE];
    case BK_PATCH:
        return has_id ? &routes[ROUTE_UPDATE] : NULL;
    case BK_DELETE:
        return has_id ? &routes[ROUTE_DELETE] : NULL;
    default:
        return NULL;
    }
}

/* The system collection with this alias, "_tenants" for "tenants". */
static struct bk_slice collection_of_alias(const struct bk_module_context *context,
                                           struct bk_arena *arena, struct bk_slice alias) {
    for (const struct bk_module *const *module = context->modules; *module != NULL; module++)
        for (size_t i = 0; i < (*module)->collection_count; i++) {
            const char *known = (*module)->collections[i].alias;
            if (known != NULL && bk_slice_equal(bk_slice_from(known), alias))
                return bk_arena_format(arena, "_%s", known);
        }
    return BK_SLICE_EMPTY;
}

/* /posts, /posts/{id}, /api/webhooks, /api/webhooks/{id}: nothing longer. */
static const struct bk_route *on_find(struct bk_fallback *fallback, struct bk_request *request) {
    struct collections_state *state = bk_container_of(fallback, struct collections_state, fallback);
    struct bk_slice rest = bk_slice_make(request->path.data + 1, request->path.length - 1);
    struct bk_slice noun, id, more;
    if (!bk_slice_split(&rest, '/', &noun))
        return NULL;
    bool is_alias = bk_slice_is(noun, "api");
    if (is_alias && !bk_slice_split(&rest, '/', &noun))
        return NULL;
    bool has_id = bk_slice_split(&rest, '/', &id);
    if (noun.length == 0 || (has_id && id.length == 0) || bk_slice_split(&rest, '/', &more))
        return NULL;
    const struct bk_route *route = route_of(request->method, has_id);
    if (route == NULL)
        return NULL;
    if (is_alias) {
        request->parameters[0] = collection_of_alias(state->context, &request->arena, noun);
        if (request->parameters[0].length == 0)
            return NULL;
    } else {
        bool is_read = request->method == BK_GET || request->method == BK_HEAD;
        if (noun.data[0] == '_' || (is_read && prefers_html(request)))
            return NULL;
        if (is_read)
            bk_answer_header(request, "Vary", BK_SLICE("Accept"));
        if (!bk_percent_decode(&request->arena, noun, false, &request->parameters[0]))
            return NULL;
    }
    if (has_id && !bk_percent_decode(&request->arena, id, false, &request->parameters[1]))
        return NULL;
    request->parameter_count = has_id ? 2 : 1;
    return route;
}

static enum bk_status collections_init(struct bk_module_context *context, struct bk_error *error) {
    (void)error;
    struct collections_state *state = context->state;
    state->context = context;
    state->fallback.find = on_find;
    state->fallback.module = context;
    bk_api_add_fallback(context->api, &state->fallback);
    collections_snapshots_init(&state->snapshots, context);
    return BK_OK;
}

struct collections_snapshots *collections_snapshots_of(const struct bk_module_context *context) {
    struct collections_state *state = context->state;
    return &state->snapshots;
}

const struct bk_module bk_module_collections;
const struct bk_module bk_module_collections = {
    .name = "collections",
    .summary = "Collections and their records over REST.",
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .migrations = bk_retry_migrations,
    .migration_count = BK_RETRY_MIGRATION_COUNT,
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .state_size = sizeof(struct collections_state),
    .init = collections_init,
};
