/*
 * Paths: "author.team.name", from the record to a field of another one, at most six relations on.
 *
 *   field             a relation of the record, or its last field
 *   posts_via_author  the other way round: the posts whose author it is
 *   meta.a.0.b        into JSON, and lon and lat of a geoPoint
 *   @collection.name  any record of a collection; with :alias, another one than without
 *
 * The last field may have a modifier: :each (element by element), :length, :lower.
 */
#include "rules_private.h"

static const struct bk_field *find_field(const struct filter_path *path, struct bk_slice name) {
    return path->join->collection == NULL ? NULL
                                          : bk_collection_field(path->join->collection, name);
}

static bool is_of_type(const struct bk_field *field, const char *type) {
    return strcmp(field->type->name, type) == 0;
}

enum bk_status filter_split_modifier(struct bk_filter_query *query,
                                     const struct filter_operand *operand, struct bk_slice word,
                                     struct bk_slice *name, struct bk_slice *modifier) {
    static const char *const modifiers[] = {"isset", "each", "length", "lower", "changed"};
    size_t colon = bk_slice_find(word, ':');
    *name = word;
    *modifier = BK_SLICE_EMPTY;
    if (colon == word.length)
        return BK_OK;
    *modifier = bk_slice_make(word.data + colon + 1, word.length - colon - 1);
    if (bk_slice_find(*modifier, ':') < modifier->length) {
        *modifier = BK_SLICE_EMPTY; /* with two of them it is a name, which nothing has */
        return BK_OK;
    }
    *name = bk_slice_make(word.data, colon);
    for (size_t i = 0; i < sizeof modifiers / sizeof modifiers[0]; i++)
        if (bk_slice_equal(*modifier, bk_slice_from(modifiers[i])))
            return BK_OK;
    return filter_refuse_name(query, operand,
                              "there is no modifier :%.*s: each, length, lower, isset or changed",
                              BK_SLICE_PRINT(*modifier));
}

/* Nothing, where that is allowed; else a refusal. */
static enum bk_status miss(struct bk_filter_query *query, const struct filter_path *path,
                           struct bk_slice name, struct filter_value *value) {
    if (path->is_null_when_missing) {
        *value = (struct filter_value){.kind = FILTER_VALUE_NULL};
        return BK_OK;
    }
    return filter_refuse_name(query, path->operand, "there is no field %.*s to filter by",
                              BK_SLICE_PRINT(name));
}

/* Rules, and superusers, may ask for what nobody is shown: a hash can be compared. */
static bool may_use(const struct bk_filter_query *query, const struct bk_field *field) {
    return query->trust == BK_FILTER_OF_RULE || (!field->is_hidden && !field->is_secret);
}

/* --- to another record ------------------------------------------------------------------------ */

/* What a client may see of another collection: all that its list rule shows, or all that a key's
 * scopes open. */
static enum bk_verdict may_list(const struct bk_filter_query *query,
                                const struct bk_collection *collection) {
    const struct bk_actor *actor = query->scope.actor;
    if (query->trust != BK_FILTER_OF_CLIENT || collection == NULL)
        return BK_ALLOWED;
    return bk_rules_authorize(actor == NULL ? &bk_actor_guest : actor, collection, BK_MAY_LIST);
}

static enum bk_status enter(struct bk_filter_query *query, struct filter_path *path,
                            const struct filter_join *wanted) {
    enum bk_verdict verdict = may_list(query, wanted->collection);
    if (verdict == BK_DENIED)
        return filter_refuse_name(query, path->operand,
                                  "the records of %.*s are for superusers only",
                                  BK_SLICE_PRINT(wanted->collection->name));
    path->join = filter_join_get(query, wanted);
    if (verdict == BK_ASKED)
        path->join->is_judged = true;
    return BK_OK;
}

/* Of several, by way of the list of their ids: what is asked of its elements with :each is asked of
 * the same ones. */
static struct filter_join *elements_of(struct bk_filter_query *query,
                                       const struct filter_path *path,
                                       const struct bk_field *field) {
    const struct filter_join wanted = {.kind = FILTER_JOIN_EACH,
                                       .parent = path->join,
                                       .field = field,
                                       .is_many = bk_field_is_multiple(field)};
    return filter_join_get(query, &wanted);
}

static enum bk_status follow(struct bk_filter_query *query, struct filter_path *path,
                             const struct bk_relation *relation, struct filter_value *value) {
    const struct bk_collection *target = filter_find_collection(query, relation->target_id);
    if (target == NULL)
        return miss(query, path, relation->field->name, value);
    const struct filter_join wanted = {
        .kind = FILTER_JOIN_RELATION,
        .parent = relation->is_multiple ? elements_of(query, path, relation->field) : path->join,
        .collection = target,
        .field = relation->field,
        .is_many = relation->is_multiple};
    return enter(query, path, &wanted);
}

/* Whether at most one record can point at another by the field. */
static bool is_unique(const struct bk_field *field) {
    const struct bk_collection *collection = field->collection;
    for (uint32_t i = 0; i < collection->index_count; i++) {
        struct bk_slice sql = collection->indexes[i].sql;
        size_t open = bk_slice_find(sql, '('), close = bk_slice_find(sql, ')');
        if (open >= close || close == sql.length)
            continue;
        struct bk_slice column =
            bk_slice_trim(bk_slice_make(sql.data + open + 1, close - open - 1));
        struct bk_slice head = bk_slice_make(sql.data, open);
        bool is_only = bk_slice_equal(column, field->name) ||
                       bk_slice_equal(column, field->quoted) ||
                       (column.length == field->name.length + 2 && column.data[0] == '`' &&
                        memcmp(column.data + 1, field->name.data, field->name.length) == 0);
        for (size_t k = 0; is_only && k + 6 <= head.length; k++)
            if (bk_slice_equal_ignore_case(bk_slice_make(head.data + k, 6), BK_SLICE("UNIQUE")))
                return bk_slice_trim(bk_slice_make(sql.data + close + 1, sql.length - close - 1))
                           .length == 0;
    }
    return false;
}

/* "posts_via_author": the last _via_ counts. */
static bool split_via(struct bk_slice word, struct bk_slice *collection, struct bk_slice *field) {
    static const struct bk_slice via = BK_SLICE_INIT("_via_");
    for (size_t i = word.length; i-- > 1;) {
        if (i + via.length < word.length && memcmp(word.data + i, via.data, via.length) == 0) {
            *collection = bk_slice_make(word.data, i);
            *field = bk_slice_make(word.data + i + via.length, word.length - i - via.length);
            return true;
        }
    }
    return false;
}

static enum bk_status follow_back(struct bk_filter_query *query, struct filter_path *path,
                                  struct bk_slice word, struct filter_value *value) {
    struct bk_slice collection_name, field_name;
    struct bk_relation relation;
    if (!split_via(word, &collection_name, &field_name))
        return miss(query, path, word, value);
    if (query->is_of_new && path->join->kind == FILTER_JOIN_BASE)
        return filter_refuse_name(query, path->operand, "nothing refers to a new record");
    const struct bk_collection *collection = filter_find_collection(query, collection_name);
    const struct bk_field *field =
        collection == NULL ? NULL : bk_collection_field(collection, field_name);
    if (field == NULL || !bk_relation_of(field, &relation) ||
        !bk_slice_equal(relation.target_id, path->join->collection->id) || !may_use(query, field))
        return miss(query, path, word, value);
    /* That it is there is not to be found out. */
    if (may_list(query, collection) == BK_DENIED)
        return miss(query, path, word, value);
    const struct filter_join wanted = {.kind = FILTER_JOIN_BACK,
                                       .parent = path->join,
                                       .collection = collection,
                                       .field = field,
                                       .is_many = relation.is_multiple || !is_unique(field)};
    return enter(query, path, &wanted);
}

/* --- the last field --------------------------------------------------------------------------- */

static bool is_index(struct bk_slice text) {
    int64_t number;
    return bk_slice_to_int64(text, &number) && number >= 0;
}

static bool has_lists(const struct bk_field *field) {
    return is_of_type(field, "select") || is_of_type(field, "relation") ||
           is_of_type(field, "file");
}

/* Names are letters, digits and "_", by the scanner; modifiers are not for what is in JSON, and
 * their colon is left out, as in the contract. */
static void append_json_step(struct bk_buffer *out, struct bk_slice word) {
    bk_buffer_append_char(out, is_index(word) ? '[' : '.');
    for (size_t i = 0; i < word.length; i++)
        if (word.data[i] != ':')
            bk_buffer_append_char(out, word.data[i]);
    if (is_index(word))
        bk_buffer_append_char(out, ']');
}

/* Modifiers of what is in the JSON of an event. */
static enum bk_status modify_json(struct bk_filter_query *query, const struct filter_path *path,
                                  struct bk_slice modifier, struct filter_value *value) {
    const struct filter_join wanted = {.kind = FILTER_JOIN_EACH,
                                       .parent = value->join,
                                       .field = value->field,
                                       .name = value->text,
                                       .is_of_path = true,
                                       .is_many = true};
    if (bk_slice_is(modifier, "lower")) {
        value->is_lower = true;
    } else if (bk_slice_is(modifier, "length")) {
        value->kind = FILTER_VALUE_LENGTH;
        value->is_of_path = true;
    } else if (bk_slice_is(modifier, "each")) {
        value->kind = FILTER_VALUE_ELEMENT;
        value->join = filter_join_get(query, &wanted);
        value->is_many = true;
    } else if (modifier.length > 0) {
        return filter_refuse_name(query, path->operand, ":%.*s is not for events",
                                  BK_SLICE_PRINT(modifier));
    }
    return BK_OK;
}

/* ".a[0].b", of all that is left; of an event without the modifier at its end. */
static enum bk_status read_json_path(struct bk_filter_query *query, struct filter_path *path,
                                     bool *is_whole, struct bk_slice *modifier,
                                     struct bk_buffer *out) {
    struct bk_slice word;
    *modifier = BK_SLICE_EMPTY;
    *is_whole = true;
    while (bk_slice_split(&path->rest, '.', &word)) {
        if (query->is_of_event && path->rest.length == 0) {
            enum bk_status status =
                filter_split_modifier(query, path->operand, word, &word, modifier);
            if (status != BK_OK)
                return status;
        }
        *is_whole = *is_whole && word.length > 0 && word.data[0] != ':';
        append_json_step(out, word);
    }
    return bk_buffer_status(out);
}

/* The rest of the path leads into the value. */
static enum bk_status enter_json(struct bk_filter_query *query, struct filter_path *path,
                                 const struct bk_field *field, struct filter_value *value) {
    struct bk_buffer out;
    struct bk_slice modifier;
    bool is_whole;
    bk_buffer_init(&out, BK_RULE_BYTES_MAX);
    enum bk_status status = read_json_path(query, path, &is_whole, &modifier, &out);
    *value = (struct filter_value){.kind = FILTER_VALUE_JSON,
                                   .fallback = FILTER_FALLBACK_NONE,
                                   .is_many = path->join->is_many,
                                   .join = path->join,
                                   .field = field,
                                   .text = bk_arena_copy(query->arena, bk_buffer_slice(&out))};
    bk_buffer_fini(&out);
    if (status == BK_OK && !is_whole)
        return miss(query, path, field->name, value);
    return status == BK_OK && query->is_of_event ? modify_json(query, path, modifier, value)
                                                 : status;
}

static void set_elements(struct bk_filter_query *query, struct filter_path *path,
                         const struct bk_field *field, struct filter_value *value) {
    value->kind = FILTER_VALUE_ELEMENT;
    value->join = elements_of(query, path, field);
    value->is_many = value->join->is_many;
}

static bool is_guarded_email(const struct bk_filter_query *query, const struct bk_field *field) {
    return query->trust == BK_FILTER_OF_CLIENT && field->collection != NULL &&
           field->collection->type == BK_COLLECTION_AUTH && bk_slice_is(field->name, "email");
}

static enum bk_status finish(struct bk_filter_query *query, struct filter_path *path,
                             struct bk_slice word, struct filter_value *value) {
    struct bk_slice name, modifier;
    enum bk_status status = filter_split_modifier(query, path->operand, word, &name, &modifier);
    if (status != BK_OK)
        return status;
    const struct bk_field *field = find_field(path, name);
    if (field == NULL || !may_use(query, field))
        return miss(query, path, name, value);
    if (query->is_of_event && modifier.length > 0 && !bk_slice_is(modifier, "lower"))
        return filter_refuse_name(query, path->operand, "%.*s has no :%.*s", BK_SLICE_PRINT(name),
                                  BK_SLICE_PRINT(modifier));
    *value = (struct filter_value){.kind = FILTER_VALUE_COLUMN,
                                   .is_many = path->join->is_many,
                                   .join = path->join,
                                   .field = field,
                                   .is_lower = bk_slice_is(modifier, "lower"),
                                   .needs_visible_email = is_guarded_email(query, field)};
    if (bk_slice_is(modifier, "length") && has_lists(field)) {
        value->kind = FILTER_VALUE_LENGTH;
    } else if (bk_slice_is(modifier, "each") && has_lists(field)) {
        set_elements(query, path, field, value);
    } else if (is_of_type(field, "json")) {
        if (query->is_of_event)
            return filter_refuse_name(query, path->operand, "%.*s.<path> is expected",
                                      BK_SLICE_PRINT(name));
        value->kind = FILTER_VALUE_JSON;
        value->fallback = FILTER_FALLBACK_NONE;
    }
    return BK_OK;
}

/* --- step by step ----------------------------------------------------------------------------- */

/* "user.id" is "user": no other table is needed. */
static bool is_own_id(const struct filter_path *path, const struct bk_relation *relation) {
    return !relation->is_multiple && bk_slice_is(path->rest, "id");
}

/* value->kind tells whether that was all. */
static enum bk_status step(struct bk_filter_query *query, struct filter_path *path,
                           struct bk_slice word, bool *is_done, struct filter_value *value) {
    struct bk_relation relation;
    struct filter_join *before = path->join;
    const struct bk_field *field = find_field(path, word);
    enum bk_status status;
    *is_done = true;
    if (field != NULL && !may_use(query, field))
        return miss(query, path, word, value);
    if (field != NULL && (is_of_type(field, "json") || is_of_type(field, "geoPoint")))
        return enter_json(query, path, field, value);
    if (field == NULL) {
        status = follow_back(query, path, word, value);
    } else {
        if (!bk_relation_of(field, &relation))
            return filter_refuse_name(query, path->operand, "%.*s is no relation",
                                      BK_SLICE_PRINT(word));
        if (is_own_id(path, &relation))
            return finish(query, path, word, value);
        status = follow(query, path, &relation, value);
    }
    *is_done = path->join == before;
    return status;
}

enum bk_status filter_path_walk(struct bk_filter_query *query, struct filter_path *path,
                                struct filter_value *value) {
    struct bk_slice word;
    bool is_done = false;
    for (uint32_t depth = 0; bk_slice_split(&path->rest, '.', &word); depth++) {
        if (word.length == 0)
            return miss(query, path, word, value);
        if (path->rest.length == 0)
            return finish(query, path, word, value);
        if (depth >= BK_FILTER_RELATIONS_MAX)
            return filter_refuse_name(query, path->operand, "at most %d relations are followed",
                                      BK_FILTER_RELATIONS_MAX);
        enum bk_status status = step(query, path, word, &is_done, value);
        if (status != BK_OK || is_done)
            return status;
    }
    return miss(query, path, BK_SLICE_EMPTY, value);
}

/* --- where paths begin ------------------------------------------------------------------------ */

static bool is_alias(struct bk_slice text) {
    return text.length > 0 && bk_slice_find(text, ':') == text.length;
}

static enum bk_status enter_collection(struct bk_filter_query *query, struct filter_path *path) {
    struct bk_slice word, name;
    if (query->trust == BK_FILTER_OF_CLIENT)
        return bk_error_set(query->error, BK_FORBIDDEN,
                            "Only superusers can filter by @collection and @request fields.");
    (void)bk_slice_split(&path->rest, '.', &word);
    if (!bk_slice_split(&path->rest, '.', &word) || path->rest.length == 0)
        return filter_refuse_name(query, path->operand, "@collection.name.field is expected");
    size_t colon = bk_slice_find(word, ':');
    name = bk_slice_make(word.data, colon);
    if (colon < word.length &&
        !is_alias(bk_slice_make(word.data + colon + 1, word.length - colon - 1)))
        return filter_refuse_name(query, path->operand, "an alias is expected behind the colon");
    const struct bk_collection *collection = filter_find_collection(query, name);
    if (collection == NULL)
        return filter_refuse_name(query, path->operand, "there is no collection %.*s",
                                  BK_SLICE_PRINT(name));
    const struct filter_join wanted = {
        .kind = FILTER_JOIN_COLLECTION,
        .collection = collection,
        .name = colon == word.length ? BK_SLICE_EMPTY
                                     : bk_slice_make(word.data + colon, word.length - colon),
        .is_many = true};
    return enter(query, path, &wanted);
}

enum bk_status filter_field_resolve(struct bk_filter_query *query,
                                    const struct filter_operand *operand,
                                    struct filter_value *value) {
    struct filter_path path = {.operand = operand, .rest = operand->text, .join = query->base};
    enum bk_status status = BK_OK;
    if (bk_slice_starts_with(operand->text, BK_SLICE("@collection.")))
        status = enter_collection(query, &path);
    else if (operand->text.data[0] == '@' || operand->text.data[0] == '#')
        status =
            filter_refuse_name(query, operand, "there is no %.*s", BK_SLICE_PRINT(operand->text));
    return status == BK_OK ? filter_path_walk(query, &path, value) : status;
}
