/*
 * A part of a batch: {"method", "url", "headers", "body"}, of which the URL is one of
 *
 *   POST   /api/collections/{collection}/records
 *   PUT    /api/collections/{collection}/records        an upsert, by body.id
 *   PATCH  /api/collections/{collection}/records/{id}
 *   DELETE /api/collections/{collection}/records/{id}
 *
 * with a query behind it. To rules it is a request like any other: its method, query, headers and
 * body are its own; headers that it does not have are those of the batch. Who asks is the same for
 * all: an Authorization of a part means nothing. To guards it is one as well, so that a batch is no
 * way around the limits of what is in it.
 */
#include "batch.h"

#include "bakend/alloc.h"
#include "bakend/encode.h"
#include "bakend/settings.h"

/* --- the form --------------------------------------------------------------------------------- */

static bool is_absent(const struct bk_json *value) {
    return value == NULL || value->type == BK_JSON_NULL;
}

static bool is_text_or_absent(const struct bk_json *element, struct bk_slice key) {
    const struct bk_json *value = bk_json_get(element, key);
    return is_absent(value) || value->type == BK_JSON_STRING;
}

static bool has_form(const struct bk_json *element) {
    const struct bk_json *headers = bk_json_get(element, BK_SLICE("headers"));
    const struct bk_json *body = bk_json_get(element, BK_SLICE("body"));
    if (element->type != BK_JSON_OBJECT || !is_text_or_absent(element, BK_SLICE("method")) ||
        !is_text_or_absent(element, BK_SLICE("url")) ||
        !(is_absent(body) || body->type == BK_JSON_OBJECT))
        return false;
    if (is_absent(headers))
        return true;
    for (const struct bk_json *header = headers->child; header != NULL; header = header->next)
        if (!(is_absent(header) || header->type == BK_JSON_STRING))
            return false;
    return headers->type == BK_JSON_OBJECT;
}

bool collections_batch_list_read(const struct bk_json *body, const struct bk_json **list) {
    *list = bk_json_get(body, BK_SLICE("requests"));
    if (is_absent(*list)) {
        *list = NULL;
        return true;
    }
    if ((*list)->type != BK_JSON_ARRAY)
        return false;
    for (const struct bk_json *element = (*list)->child; element != NULL; element = element->next)
        if (!has_form(element))
            return false;
    return true;
}

/* --- the request ------------------------------------------------------------------------------ */

static struct bk_slice lower(struct bk_arena *arena, struct bk_slice text) {
    struct bk_slice copy = bk_arena_copy(arena, text);
    char *data = bk_arena_alloc(arena, text.length + 1);
    if (arena->is_overflown)
        return BK_SLICE_EMPTY;
    for (size_t i = 0; i < copy.length; i++) {
        char c = copy.data[i];
        data[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    return bk_slice_make(data, copy.length);
}

static void set_header(struct bk_header *headers, uint32_t *count, struct bk_slice name,
                       struct bk_slice value) {
    for (uint32_t i = 0; i < *count; i++) {
        if (!bk_slice_equal(headers[i].name, name))
            continue;
        headers[i].value = value;
        return;
    }
    headers[(*count)++] = (struct bk_header){name, value};
}

/* Those of the batch, and over them those of the part. */
static void read_headers(struct bk_request *part, const struct bk_request *batch,
                         const struct bk_json *given) {
    uint32_t count = batch->header_count;
    size_t room = count + (is_absent(given) ? 0 : given->child_count);
    struct bk_header *headers = bk_arena_alloc(&part->arena, (room + 2) * sizeof(*headers));
    if (part->arena.is_overflown)
        return;
    memcpy(headers, batch->headers, count * sizeof(*headers));
    for (const struct bk_json *each = is_absent(given) ? NULL : given->child; each != NULL;
         each = each->next) {
        struct bk_slice name = lower(&part->arena, each->key);
        if (!bk_slice_is(name, "authorization") && each->type == BK_JSON_STRING)
            set_header(headers, &count, name, each->string);
    }
    /* As the contract has it, whatever the batch came as. */
    set_header(headers, &count, BK_SLICE("content-type"), BK_SLICE("multipart/form-data"));
    part->headers = headers;
    part->header_count = count;
}

/* What the responder and the tenant's count know of it: nothing. */
static void borrow(struct bk_request *part, const struct bk_request *batch) {
    part->module = batch->module;
    part->tenant = batch->tenant;
    part->actor = batch->actor;
    part->origin = batch->origin;
    part->remote_address = batch->remote_address;
    part->host = batch->host;
    part->is_control = batch->is_control;
    part->responder = batch->responder; /* guards let calls in process pass; it answers nothing */
    memcpy(part->id, batch->id, sizeof(part->id));
}

static void set_target(struct bk_request *part, struct bk_slice url) {
    size_t at = bk_slice_find(url, '?');
    part->target = url;
    part->path = bk_slice_make(url.data, at);
    part->query =
        at == url.length ? BK_SLICE_EMPTY : bk_slice_make(url.data + at + 1, url.length - at - 1);
}

/* --- what it asks for ------------------------------------------------------------------------- */

/* The path's collection and id, decoded; false when it is another path. */
static bool read_path(struct batch_part *part, bool has_id) {
    static const struct bk_slice prefix = BK_SLICE_INIT("/api/collections/");
    struct bk_arena *arena = &part->request.arena;
    struct bk_slice rest = part->request.path, name, word, id = BK_SLICE_EMPTY, more;
    if (!bk_slice_starts_with(rest, prefix))
        return false;
    rest = bk_slice_make(rest.data + prefix.length, rest.length - prefix.length);
    if (!bk_slice_split(&rest, '/', &name) || name.length == 0 ||
        !bk_slice_split(&rest, '/', &word) || !bk_slice_is(word, "records"))
        return false;
    if (has_id && (!bk_slice_split(&rest, '/', &id) || id.length == 0))
        return false;
    if (bk_slice_split(&rest, '/', &more))
        return false;
    return bk_percent_decode(arena, name, false, &part->collection_name) &&
           bk_percent_decode(arena, id, false, &part->id);
}

/* Of a record that may be there or not: as the field of ids reads it. */
static struct bk_slice id_of_body(const struct bk_json *body) {
    const struct bk_json *id = bk_json_get(body, BK_SLICE("id"));
    if (id == NULL)
        return BK_SLICE_EMPTY;
    if (id->type == BK_JSON_STRING)
        return id->string;
    return id->type == BK_JSON_NUMBER ? id->text : BK_SLICE_EMPTY;
}

static bool read_action(struct batch_part *part) {
    switch (part->request.method) {
    case BK_POST:
        part->action = RECORD_CREATE;
        return read_path(part, false);
    case BK_PUT:
        part->action = RECORD_UPSERT;
        if (!read_path(part, false))
            return false;
        part->id = id_of_body(part->request.json);
        if (part->id.length == 0) {
            part->action = RECORD_CREATE;
            part->request.method = BK_POST;
        }
        return true;
    case BK_PATCH:
        part->action = RECORD_UPDATE;
        return read_path(part, true);
    case BK_DELETE:
        part->action = RECORD_DELETE;
        return read_path(part, true);
    default:
        return false;
    }
}

/* --- guards ----------------------------------------------------------------------------------- */

/* As those of collections.c, as far as guards look at them. */
static const struct bk_route routes[] = {
    [RECORD_CREATE] = {.path = "/api/collections/{collection}/records", .labels = "create"},
    [RECORD_UPDATE] = {.path = "/api/collections/{collection}/records/{id}", .labels = "update"},
    [RECORD_DELETE] = {.path = "/api/collections/{collection}/records/{id}", .labels = "delete"},
};

static bool is_stored(const struct batch_part *part) {
    const struct bk_request *request = &part->request;
    const struct bk_module_context *context = request->module;
    const struct bk_collection *collection =
        bk_schema_find(bk_schema_current(context->schema, request->tenant), part->collection_name);
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    struct bk_statement *statement;
    if (collection == NULL || collection->type == BK_COLLECTION_VIEW || connection == NULL ||
        bk_connection_statement(connection, &collection->exists_by_id, &statement) != BK_OK)
        return false;
    bk_statement_bind_text(statement, 1, part->id);
    enum bk_status status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_OK;
}

/* An upsert is held to what it would be now: parts before it may yet make that another thing. */
enum bk_status collections_batch_part_ask_guards(struct batch_part *part) {
    struct bk_request *request = &part->request;
    enum record_action action = part->action;
    if (action == RECORD_UPSERT)
        action = bk_settings_of(request->tenant)->limits.is_enabled && is_stored(part)
                     ? RECORD_UPDATE
                     : RECORD_CREATE;
    request->route = &routes[action];
    request->parameters[0] = part->collection_name;
    request->parameters[1] = part->id;
    request->parameter_count = action == RECORD_CREATE ? 1 : 2;
    enum bk_status status = bk_request_ask_guards(request);
    part->is_limited = status != BK_OK;
    return status;
}

/* ---------------------------------------------------------------------------------------------- */

void collections_batch_part_init(struct batch_part *part, struct bk_request *request,
                                 const struct bk_json *element) {
    struct bk_request *own = &part->request;
    const struct bk_json *body = bk_json_get(element, BK_SLICE("body"));
    *part = (struct batch_part){.read_status = BK_OK};
    bk_request_init(own, request->api);
    borrow(own, request);
    own->method = bk_method_parse(bk_json_get_string(element, BK_SLICE("method")));
    own->json = is_absent(body) ? NULL : body;
    set_target(own, bk_json_get_string(element, BK_SLICE("url")));
    read_headers(own, request, bk_json_get(element, BK_SLICE("headers")));
    if (!read_action(part))
        part->read_status = BK_INVALID;
    part->fields = bk_request_query(own, BK_SLICE("fields"));
    if (!bk_fields_fit(part->fields)) {
        part->read_status = BK_INVALID;
        part->message = "At most 200 fields can be named.";
    }
    if (part->read_status == BK_OK)
        part->read_status = bk_arena_status(&own->arena);
}

void collections_batch_release(struct batch *batch) {
    for (uint32_t i = 0; i < batch->part_count; i++) {
        struct batch_part *part = &batch->parts[i];
        collections_change_finish(&part->change);
        part->request.tenant = NULL; /* the batch holds it */
        bk_request_fini(&part->request);
    }
    bk_free(batch->parts);
    batch->parts = NULL;
    batch->part_count = 0;
}
