/*
 * The OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.0), written from the table of routes: what a
 * route declares about itself is what the document says, so the two cannot differ.
 *
 * Paths are grouped: a path item holds all methods of a path, whatever module they come from.
 */
#include "api_private.h"

static const char *const method_keys[BK_METHOD_OTHER] = {"get",   "head",   "post",   "put",
                                                         "patch", "delete", "options"};

static void write_key(struct bk_buffer *out, const char *key) {
    bk_json_write_key(out, bk_slice_from(key));
}

static void write_member(struct bk_buffer *out, const char *key, const char *text) {
    bk_json_write_member_string(out, bk_slice_from(key), bk_slice_from(text));
}

/* --- one operation ---------------------------------------------------------------------------- */

/* "{path...}" is plain "{path}" there. */
static void write_path(struct bk_buffer *out, const char *path) {
    const char *rest = strstr(path, "...}");
    if (rest == NULL) {
        bk_json_write_key(out, bk_slice_from(path));
        return;
    }
    if (out->length > 0 && out->data[out->length - 1] != '{')
        bk_buffer_append_char(out, ',');
    bk_buffer_format(out, "\"%.*s}\":", (int)(rest - path), path);
}

/* get_api_collections_collection_records: the method and the words of the path. */
static void write_operation_id(struct bk_buffer *out, const struct bk_route *route) {
    bool is_between = true;
    write_key(out, "operationId");
    bk_buffer_format(out, "\"%s", method_keys[route->method]);
    for (const char *c = route->path; *c != '\0'; c++) {
        bool is_word =
            (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (is_word && is_between)
            bk_buffer_append_char(out, '_');
        if (is_word)
            bk_buffer_append_char(out, *c);
        is_between = !is_word;
    }
    bk_buffer_append_char(out, '"');
}

/* type: as a route's parameter declares it, "integer" or "integer=30". */
static void write_type(struct bk_buffer *out, struct bk_slice type) {
    size_t at = bk_slice_find(type, '=');
    struct bk_slice name = bk_slice_make(type.data, at);
    bk_json_write_member_string(out, BK_SLICE("type"), name);
    if (at < type.length) {
        struct bk_slice value = bk_slice_make(type.data + at + 1, type.length - at - 1);
        write_key(out, "default");
        if (bk_slice_is(name, "string"))
            bk_json_write_string(out, value);
        else
            bk_buffer_append_slice(out, value);
    }
}

static void write_parameter(struct bk_buffer *out, struct bk_slice name, const char *in,
                            const char *type, const char *summary) {
    bk_json_write_separator(out);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("name"), name);
    write_member(out, "in", in);
    if (strcmp(in, "path") == 0)
        bk_json_write_member_bool(out, BK_SLICE("required"), true);
    if (summary != NULL)
        write_member(out, "description", summary);
    write_key(out, "schema");
    bk_buffer_append_char(out, '{');
    write_type(out, bk_slice_from(type == NULL ? "string" : type));
    bk_buffer_append_literal(out, "}}");
}

static const struct bk_route_parameter *declared(const struct bk_route *route,
                                                 struct bk_slice name) {
    const struct bk_route_parameter *parameter = route->parameters;
    for (; parameter != NULL && parameter->name != NULL; parameter++)
        if (strcmp(parameter->in, "path") == 0 &&
            bk_slice_equal(bk_slice_from(parameter->name), name))
            return parameter;
    return NULL;
}

/* "body", or "body!": it must be there. */
static bool is_of_body(const struct bk_route_parameter *parameter) {
    return strncmp(parameter->in, "body", strlen("body")) == 0;
}

static void write_parameters(struct bk_buffer *out, const struct bk_route *route) {
    const struct bk_route_parameter *parameter;
    struct bk_slice name;
    size_t offset = 0;
    write_key(out, "parameters");
    bk_buffer_append_char(out, '[');
    while ((name = api_path_next_parameter(route->path, &offset)).length > 0) {
        parameter = declared(route, name);
        write_parameter(out, name, "path", parameter == NULL ? NULL : parameter->type,
                        parameter == NULL ? NULL : parameter->summary);
    }
    for (parameter = route->parameters; parameter != NULL && parameter->name != NULL; parameter++)
        if (strcmp(parameter->in, "path") != 0 && !is_of_body(parameter))
            write_parameter(out, bk_slice_from(parameter->name), parameter->in, parameter->type,
                            parameter->summary);
    bk_buffer_append_char(out, ']');
}

static const char *access_text(enum bk_access access) {
    switch (access) {
    case BK_ACCESS_PUBLIC:
        return "Open to everyone; where records are concerned, their collection's rules decide.";
    case BK_ACCESS_ACTOR:
        return "Needs a token.";
    case BK_ACCESS_SUPERUSER:
        return "Needs a superuser's token.";
    case BK_ACCESS_OPERATOR:
        return "Needs the token of a superuser of the tenant \\\"default\\\".";
    }
    return "";
}

/* A token may be sent to public routes too, hence the empty alternative. */
static void write_security(struct bk_buffer *out, const struct bk_route *route) {
    write_key(out, "description");
    bk_buffer_format(out, "\"%s", access_text(route->access));
    if (route->scope != NULL)
        bk_buffer_format(out, " An API key needs the scope %s.", route->scope);
    bk_buffer_append_char(out, '"');
    write_key(out, "security");
    if (route->access == BK_ACCESS_PUBLIC)
        bk_buffer_append_literal(out, "[{},{\"token\":[]}]");
    else
        bk_buffer_append_literal(out, "[{\"token\":[]}]");
}

/* What a body of another method means is not defined (RFC 9110, 9.3.1 and 9.3.5). */
static bool has_request_body(const struct bk_route *route) {
    return route->body_max_bytes > 0 &&
           (route->method == BK_POST || route->method == BK_PUT || route->method == BK_PATCH);
}

static void write_member_schema(struct bk_buffer *out, const struct bk_route_parameter *member) {
    struct bk_slice type = bk_slice_from(member->type);
    bk_json_write_key(out, bk_slice_from(member->name));
    bk_buffer_append_char(out, '{');
    write_member(out, "description", member->summary);
    write_type(out, type);
    if (bk_slice_is(type, "array"))
        bk_buffer_append_literal(out, ",\"items\":{\"type\":\"string\"}");
    bk_buffer_append_char(out, '}');
}

/* An object of the members that the route names; of any, when it names none. */
static void write_body_schema(struct bk_buffer *out, const struct bk_route *route) {
    const struct bk_route_parameter *each;
    bool has_members = false, has_required = false;
    bk_buffer_append_literal(out, "{\"type\":\"object\"");
    for (each = route->parameters; each != NULL && each->name != NULL; each++) {
        if (!is_of_body(each))
            continue;
        if (!has_members)
            bk_buffer_append_literal(out, ",\"properties\":{");
        has_members = true;
        write_member_schema(out, each);
    }
    if (has_members)
        bk_buffer_append_literal(out, "},\"additionalProperties\":false");
    for (each = route->parameters; each != NULL && each->name != NULL; each++) {
        if (strcmp(each->in, "body!") != 0)
            continue;
        bk_buffer_append_slice(out, has_required ? BK_SLICE(",") : BK_SLICE(",\"required\":["));
        has_required = true;
        bk_json_write_string(out, bk_slice_from(each->name));
    }
    if (has_required)
        bk_buffer_append_char(out, ']');
    bk_buffer_append_char(out, '}');
}

static void write_body(struct bk_buffer *out, const struct bk_route *route) {
    if (!has_request_body(route))
        return;
    write_key(out, "requestBody");
    if (route->has_json_body) {
        bk_buffer_append_literal(out, "{\"content\":{\"application/json\":{\"schema\":");
        write_body_schema(out, route);
        bk_buffer_append_literal(
            out, "},\"multipart/form-data\":{\"schema\":{\"type\":\"object\"}},"
                 "\"application/x-www-form-urlencoded\":{\"schema\":{\"type\":\"object\"}}}}");
    } else {
        bk_buffer_append_literal(out, "{\"content\":{\"application/json\":{},"
                                      "\"multipart/form-data\":{},\"*/*\":{}}}");
    }
}

/* A route with the parameter `page` answers the contract's envelope. */
static bool is_paged(const struct bk_route *route) {
    const struct bk_route_parameter *parameter = route->parameters;
    for (; parameter != NULL && parameter->name != NULL; parameter++)
        if (strcmp(parameter->name, "page") == 0 && strcmp(parameter->in, "query") == 0)
            return true;
    return false;
}

static void write_operation(struct bk_buffer *out, const struct bk_route *route) {
    write_key(out, method_keys[route->method]);
    bk_buffer_append_char(out, '{');
    write_operation_id(out, route);
    if (route->summary != NULL)
        write_member(out, "summary", route->summary);
    if (route->tag != NULL) {
        write_key(out, "tags");
        bk_buffer_append_char(out, '[');
        bk_json_write_string(out, bk_slice_from(route->tag));
        bk_buffer_append_char(out, ']');
    }
    write_security(out, route);
    write_parameters(out, route);
    write_body(out, route);
    bk_buffer_append_literal(out, ",\"responses\":{\"2XX\":{\"description\":\"Done.\"");
    if (is_paged(route))
        bk_buffer_append_literal(out, ",\"content\":{\"application/json\":{\"schema\":"
                                      "{\"$ref\":\"#/components/schemas/List\"}}}");
    bk_buffer_append_literal(
        out, "},\"default\":{\"description\":\"An error.\",\"content\":{\"application/json\":"
             "{\"schema\":{\"$ref\":\"#/components/schemas/Error\"}}}}}}");
}

/* --- the document ----------------------------------------------------------------------------- */

static bool was_written(const struct api_router *router, size_t index) {
    for (size_t i = 0; i < index; i++)
        if (strcmp(router->entries[i].route->path, router->entries[index].route->path) == 0)
            return true;
    return false;
}

static void write_path_item(struct bk_buffer *out, const struct api_router *router, size_t index) {
    const char *path = router->entries[index].route->path;
    write_path(out, path);
    bk_buffer_append_char(out, '{');
    for (size_t i = index; i < router->count; i++)
        if (strcmp(router->entries[i].route->path, path) == 0)
            write_operation(out, router->entries[i].route);
    bk_buffer_append_char(out, '}');
}

static void write_components(struct bk_buffer *out) {
    bk_buffer_append_literal(
        out,
        ",\"components\":{\"securitySchemes\":{\"token\":{\"type\":\"apiKey\",\"in\":\"header\","
        "\"name\":\"Authorization\",\"description\":\"A user's or superuser's token or an API "
        "key, with or without Bearer before it.\"}},"
        "\"schemas\":{\"FieldError\":{\"type\":\"object\",\"required\":[\"code\",\"message\"],"
        "\"properties\":{\"code\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"},"
        "\"params\":{\"type\":\"object\"}}},"
        "\"Problems\":{\"type\":\"object\",\"description\":\"What is wrong, by field; what is "
        "wrong inside of a field is nested in the same way.\",\"additionalProperties\":{\"anyOf\":["
        "{\"$ref\":\"#/components/schemas/FieldError\"},"
        "{\"$ref\":\"#/components/schemas/Problems\"}]}},"
        "\"Error\":{\"type\":\"object\",\"required\":[\"status\",\"message\",\"data\"],"
        "\"properties\":{\"status\":{\"type\":\"integer\"},\"message\":{\"type\":\"string\"},"
        "\"data\":{\"$ref\":\"#/components/schemas/Problems\"},"
        "\"requestId\":{\"type\":\"string\"}}},"
        "\"List\":{\"type\":\"object\","
        "\"required\":[\"page\",\"perPage\",\"totalItems\",\"totalPages\",\"items\"],"
        "\"properties\":{\"page\":{\"type\":\"integer\"},\"perPage\":{\"type\":\"integer\"},"
        "\"totalItems\":{\"type\":\"integer\",\"description\":\"-1 when it was not counted.\"},"
        "\"totalPages\":{\"type\":\"integer\",\"description\":\"-1 when it was not counted.\"},"
        "\"items\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}},"
        "\"nextCursor\":{\"type\":\"string\"}}}}}");
}

void bk_api_write_openapi(struct bk_api *api, struct bk_buffer *out) {
    const struct api_router *router = &api->router;
    bk_buffer_append_literal(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Bakend\","
                                  "\"version\":\"1\",\"description\":\"The routes of this "
                                  "server.\"},\"paths\":{");
    for (size_t i = 0; i < router->count; i++)
        if (!was_written(router, i))
            write_path_item(out, router, i);
    bk_buffer_append_char(out, '}');
    write_components(out);
    bk_buffer_append_char(out, '}');
}
