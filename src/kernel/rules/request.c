/*
 * @request: what is known of a request while its rule is judged.
 *
 *   @request.context, .method, .query.x, .headers.x   texts
 *   @request.body.x      what the client sent; through a relation of it to the records it names
 *   @request.auth.x      a field of who asks, or through a relation of theirs; null for a guest
 *
 * Modifiers: :isset for all; of the body also :each, :length, :lower and :changed (sent, and not
 * what the record has). What is not there is null, never an error.
 */
#include "rules_private.h"

static void set_null(struct filter_value *value) {
    *value = (struct filter_value){.kind = FILTER_VALUE_NULL};
}

static void set_literal(struct filter_value *value, struct bk_slice text) {
    *value = (struct filter_value){.kind = FILTER_VALUE_LITERAL, .text = text};
}

/* --- values of JSON --------------------------------------------------------------------------- */

static const struct bk_json *element_at(const struct bk_json *array, struct bk_slice word) {
    int64_t index;
    if (!bk_slice_to_int64(word, &index) || index < 0)
        return NULL;
    const struct bk_json *each = array->child;
    while (each != NULL && index-- > 0)
        each = each->next;
    return each;
}

static const struct bk_json *find_member(const struct bk_json *json, struct bk_slice word) {
    if (json == NULL)
        return NULL;
    return json->type == BK_JSON_ARRAY ? element_at(json, word) : bk_json_get(json, word);
}

/* A number that was sent as a text, as forms do, is the number where the field is one. */
static bool number_of(const struct bk_json *json, struct bk_slice field_type, double *number) {
    if (json->type == BK_JSON_NUMBER)
        return bk_json_to_double(json, number);
    if (json->type != BK_JSON_STRING || !bk_slice_is(field_type, "number"))
        return false;
    const struct bk_json text = {.type = BK_JSON_NUMBER, .text = bk_slice_trim(json->string)};
    return text.text.length > 0 && bk_json_to_double(&text, number);
}

static void bind_json(struct bk_filter_query *query, const struct bk_json *json,
                      struct bk_slice field_type, struct filter_value *value) {
    struct bk_value constant;
    double number;
    if (json == NULL || json->type == BK_JSON_NULL) {
        set_null(value);
        return;
    }
    if (json->type == BK_JSON_BOOL) {
        constant = BK_VALUE_OF_INT(json->boolean ? 1 : 0);
        filter_value_bind(query, &constant, value);
        value->constant->is_bool = true;
        return;
    }
    if (number_of(json, field_type, &number))
        constant = BK_VALUE_OF_REAL(number);
    else
        constant = BK_VALUE_OF_TEXT(json->type == BK_JSON_STRING ? json->string : json->text);
    filter_value_bind(query, &constant, value);
}

/* --- plain values ----------------------------------------------------------------------------- */

static struct bk_slice type_of(const struct bk_filter_query *query, struct bk_slice name) {
    const struct bk_field *field = bk_collection_field(query->scope.collection, name);
    return field == NULL ? BK_SLICE_EMPTY : bk_slice_from(field->type->name);
}

/* Of a json field that was sent: its text. */
static bool bind_json_field(struct bk_filter_query *query, const struct bk_json *json,
                            struct bk_slice name, struct filter_value *value) {
    if (json == NULL || !bk_slice_is(type_of(query, name), "json"))
        return false;
    struct bk_value text = BK_VALUE_OF_TEXT(filter_json_compact(query->arena, json->text));
    filter_value_bind(query, &text, value);
    return true;
}

static enum bk_status resolve_plain(struct bk_filter_query *query,
                                    const struct filter_operand *operand, struct bk_slice rest,
                                    struct filter_value *value) {
    const struct bk_json *json = query->scope.request;
    struct bk_slice word, name = BK_SLICE_EMPTY, modifier = BK_SLICE_EMPTY;
    uint32_t depth = 0;
    bool is_of_body = bk_slice_starts_with(rest, BK_SLICE("body."));
    for (; bk_slice_split(&rest, '.', &word); depth++) {
        name = word;
        if (rest.length == 0) {
            enum bk_status status = filter_split_modifier(query, operand, word, &name, &modifier);
            if (status != BK_OK)
                return status;
        }
        json = find_member(json, name);
    }
    if (bk_slice_is(modifier, "isset")) {
        set_literal(value, json != NULL ? BK_SLICE("TRUE") : BK_SLICE("FALSE"));
        return BK_OK;
    }
    if (modifier.length > 0 && !bk_slice_is(modifier, "lower"))
        return filter_refuse_name(query, operand, ":%.*s is not for this value",
                                  BK_SLICE_PRINT(modifier));
    if (!is_of_body || depth != 2 || !bind_json_field(query, json, name, value))
        bind_json(query, json, type_of(query, name), value);
    value->is_lower = modifier.length > 0 && value->kind == FILTER_VALUE_PARAMETER;
    return BK_OK;
}

/* --- who asks --------------------------------------------------------------------------------- */

/* What is known without asking the database. */
static bool is_plain_of_auth(struct bk_slice rest) {
    return bk_slice_is(rest, "id") || bk_slice_is(rest, "collectionId") ||
           bk_slice_is(rest, "collectionName");
}

/* What the contract binds as a value: its column's type does not count. */
static bool is_bound_of_auth(struct bk_slice rest) {
    return bk_slice_is(rest, "email") || bk_slice_is(rest, "emailVisibility") ||
           bk_slice_is(rest, "verified");
}

static struct bk_slice list_of_one(struct bk_filter_query *query, struct bk_slice id) {
    return bk_arena_format(query->arena, "[\"%.*s\"]", BK_SLICE_PRINT(id));
}

static enum bk_status walk_from_ids(struct bk_filter_query *query,
                                    const struct filter_operand *operand,
                                    const struct filter_join *wanted, struct bk_slice ids,
                                    struct bk_slice rest, struct filter_value *value) {
    struct filter_path path = {.operand = operand, .rest = rest, .is_null_when_missing = true};
    struct bk_value list = BK_VALUE_OF_TEXT(ids);
    path.join = filter_join_get(query, wanted);
    if (path.join->list == NULL)
        path.join->list = filter_constant_make(query, &list);
    return filter_path_walk(query, &path, value);
}

static enum bk_status resolve_auth(struct bk_filter_query *query,
                                   const struct filter_operand *operand, struct bk_slice rest,
                                   struct filter_value *value) {
    struct bk_slice below = rest, word;
    if (query->scope.auth_collection == NULL) {
        set_null(value);
        return BK_OK;
    }
    (void)bk_slice_split(&below, '.', &word);
    if (is_plain_of_auth(below))
        return resolve_plain(query, operand, rest, value);
    const struct filter_join wanted = {.kind = FILTER_JOIN_IDS,
                                       .collection = query->scope.auth_collection,
                                       .name = BK_SLICE("auth")};
    enum bk_status status = walk_from_ids(query, operand, &wanted,
                                          list_of_one(query, query->scope.auth_id), below, value);
    value->is_expression = value->kind == FILTER_VALUE_COLUMN && is_bound_of_auth(below);
    return status;
}

/* --- the body --------------------------------------------------------------------------------- */

static const struct bk_json *body_of(const struct bk_filter_query *query, struct bk_slice name) {
    return bk_json_get(bk_json_get(query->scope.request, BK_SLICE("body")), name);
}

/* What was sent as a JSON list, whatever it was. */
static struct bk_slice as_list(struct bk_filter_query *query, const struct bk_json *json) {
    if (json == NULL || json->type == BK_JSON_NULL)
        return BK_SLICE("[]");
    if (json->type == BK_JSON_ARRAY)
        return json->text;
    return bk_arena_format(query->arena, "[%.*s]", BK_SLICE_PRINT(json->text));
}

static bool has_lists(const struct bk_field *field) {
    const char *type = field->type->name;
    return strcmp(type, "select") == 0 || strcmp(type, "relation") == 0 ||
           strcmp(type, "file") == 0;
}

static enum bk_status resolve_elements(struct bk_filter_query *query, const struct bk_field *field,
                                       struct filter_value *value) {
    const struct filter_join wanted = {.kind = FILTER_JOIN_LIST,
                                       .field = field,
                                       .name = field->name,
                                       .is_many = bk_field_is_multiple(field)};
    struct filter_join *join = filter_join_get(query, &wanted);
    struct bk_value list = BK_VALUE_OF_TEXT(as_list(query, body_of(query, field->name)));
    if (join->list == NULL)
        join->list = filter_constant_make(query, &list);
    *value =
        (struct filter_value){.kind = FILTER_VALUE_ELEMENT, .join = join, .is_many = join->is_many};
    return BK_OK;
}

static enum bk_status resolve_length(struct bk_filter_query *query, const struct bk_field *field,
                                     struct filter_value *value) {
    const struct bk_json *json = body_of(query, field->name);
    uint32_t count = json == NULL || json->type == BK_JSON_NULL ? 0
                     : json->type == BK_JSON_ARRAY              ? json->child_count
                                                                : 1;
    set_literal(value, bk_arena_format(query->arena, "%u", count));
    return BK_OK;
}

static enum bk_status resolve_lower(struct bk_filter_query *query, const struct bk_field *field,
                                    struct filter_value *value) {
    const struct bk_json *json = body_of(query, field->name);
    struct bk_value text = BK_VALUE_OF_TEXT(BK_SLICE(""));
    bool is_plain = json != NULL && (json->type == BK_JSON_NUMBER || json->type == BK_JSON_BOOL);
    if (bind_json_field(query, json, field->name, value)) {
        value->is_lower = true;
        return BK_OK;
    }
    if (json != NULL && json->type == BK_JSON_STRING)
        text.text = json->string;
    else if (is_plain)
        text.text = json->text;
    filter_value_bind(query, &text, value);
    value->is_lower = true;
    return BK_OK;
}

/* It was sent, and is not what the record has. */
static enum bk_status resolve_changed(struct bk_filter_query *query, const struct bk_field *field,
                                      struct filter_value *value) {
    struct bk_slice text = bk_arena_format(
        query->arena, "@request.body.%.*s:isset = true && @request.body.%.*s != %.*s",
        BK_SLICE_PRINT(field->name), BK_SLICE_PRINT(field->name), BK_SLICE_PRINT(field->name));
    struct bk_filter *filter;
    *value =
        (struct filter_value){.kind = FILTER_VALUE_CONDITION, .fallback = FILTER_FALLBACK_NONE};
    enum bk_status status = bk_filter_parse(query->arena, text, text.length, &filter, query->error);
    return status == BK_OK ? filter_tests_resolve(query, filter->first, &value->condition) : status;
}

static enum bk_status resolve_body_field(struct bk_filter_query *query,
                                         const struct filter_operand *operand,
                                         const struct bk_field *field, struct bk_slice modifier,
                                         struct bk_slice rest, struct filter_value *value) {
    bool is_of_list = bk_slice_is(modifier, "each") || bk_slice_is(modifier, "length");
    if (is_of_list && !has_lists(field))
        return filter_refuse_name(query, operand, "%.*s holds one value: :%.*s is for lists",
                                  BK_SLICE_PRINT(field->name), BK_SLICE_PRINT(modifier));
    if (bk_slice_is(modifier, "each"))
        return resolve_elements(query, field, value);
    if (bk_slice_is(modifier, "length"))
        return resolve_length(query, field, value);
    if (bk_slice_is(modifier, "lower"))
        return resolve_lower(query, field, value);
    if (bk_slice_is(modifier, "changed"))
        return resolve_changed(query, field, value);
    return resolve_plain(query, operand, rest, value);
}

/* rest: "body.name…" */
static enum bk_status resolve_body(struct bk_filter_query *query,
                                   const struct filter_operand *operand, struct bk_slice rest,
                                   struct filter_value *value) {
    struct bk_slice below = rest, word, name, modifier;
    struct bk_relation relation;
    (void)bk_slice_split(&below, '.', &word);
    (void)bk_slice_split(&below, '.', &word);
    enum bk_status status = filter_split_modifier(query, operand, word, &name, &modifier);
    if (status != BK_OK)
        return status;
    const struct bk_field *field = bk_collection_field(query->scope.collection, name);
    if (field == NULL)
        return resolve_plain(query, operand, rest, value);
    if (below.length == 0)
        return resolve_body_field(query, operand, field, modifier, rest, value);
    const struct bk_collection *target =
        bk_relation_of(field, &relation) ? filter_find_collection(query, relation.target_id) : NULL;
    if (target == NULL)
        return resolve_plain(query, operand, rest, value);
    struct bk_slice ids = as_list(query, body_of(query, field->name));
    if (bk_slice_is(ids, "[]") || bk_slice_is(ids, "[\"\"]")) {
        set_null(value);
        return BK_OK;
    }
    const struct filter_join wanted = {.kind = FILTER_JOIN_IDS,
                                       .collection = target,
                                       .field = field,
                                       .name = field->name,
                                       .is_many = relation.is_multiple};
    return walk_from_ids(query, operand, &wanted, ids, below, value);
}

enum bk_status filter_request_resolve(struct bk_filter_query *query,
                                      const struct filter_operand *operand,
                                      struct filter_value *value) {
    static const struct bk_slice prefix = BK_SLICE_INIT("@request.");
    struct bk_slice rest =
        bk_slice_make(operand->text.data + prefix.length, operand->text.length - prefix.length);
    struct bk_slice below = rest, word;
    if (query->trust == BK_FILTER_OF_CLIENT)
        return bk_error_set(query->error, BK_FORBIDDEN,
                            "Only superusers can filter by @collection and @request fields.");
    (void)bk_slice_split(&below, '.', &word);
    if (bk_slice_is(word, "context") || bk_slice_is(word, "method")) {
        if (below.length > 0)
            return filter_refuse_name(query, operand, "@request.%.*s has nothing in it",
                                      BK_SLICE_PRINT(word));
        return resolve_plain(query, operand, rest, value);
    }
    if (below.length == 0 || below.data[0] == '.')
        return filter_refuse_name(query, operand, "there is no %.*s",
                                  BK_SLICE_PRINT(operand->text));
    if (bk_slice_is(word, "auth"))
        return resolve_auth(query, operand, rest, value);
    if (bk_slice_is(word, "body"))
        return resolve_body(query, operand, rest, value);
    if (bk_slice_is(word, "query") || bk_slice_is(word, "headers"))
        return resolve_plain(query, operand, rest, value);
    return filter_refuse_name(
        query, operand, "there is no @request.%.*s: context, method, query, headers, body or auth",
        BK_SLICE_PRINT(word));
}
