/*
 * `expand`: the records that a record is related to, inside it.
 *
 *   author, author.boss        what a relation points at, and on from there, six relations in all
 *   comments_via_post.by       the other way round: what points at the record; comments(post) is an
 *                              older way to write it
 *
 * The paths are one tree, made once. Each relation in it is one statement by key, which every
 * connection keeps prepared: a page of a thousand posts asks a thousand times for an author by its
 * id, which is cheaper than gathering ids and sorting out the answers (3 µs each).
 *
 *   posts ── author ── boss          SELECT … FROM "people" WHERE "id"=?1 AND (view rule)
 *         └─ comments_via_post       SELECT … FROM "comments" WHERE "post"=?1 LIMIT 1000
 *
 * As in the contract, a path that leads nowhere (no such relation, or one to records that are for
 * superusers only) is dropped as a whole, but only if there is a record at which that shows: the
 * author's author is not missed where nobody has an author. So a wrong relation is a node, too, and
 * whoever meets it drops the paths through it.
 */
#include "show_private.h"

enum {
    SQL_BYTES_MAX = 1024 * 1024,
    PATHS_MAX = BK_EXPAND_NODES_MAX,
    WORDS_MAX = BK_EXPAND_DEPTH_MAX,
};

enum expand_kind {
    EXPAND_WRONG, /* leads nowhere */
    EXPAND_ONE,   /* the id is in the field */
    EXPAND_LIST,  /* the ids are */
    EXPAND_BACK,  /* the field of another collection has our id */
};

struct expand_node {
    struct expand_node *next, *children;
    struct bk_slice name; /* as asked: its key in `expand` */
    uint32_t path_count;  /* that go through it and lead somewhere */
    enum expand_kind kind;
    bool is_single; /* an object, not a list */
    uint32_t depth; /* 1: of the record itself */
    const struct bk_field *field;
    struct show_face face;   /* of the records that it leads to */
    struct bk_question rule; /* its condition and values; asked as part of sql */
    struct bk_sql sql;
    struct bk_value *row;
};

struct expand_path {
    struct expand_node *nodes[WORDS_MAX];
    uint32_t length;
    bool is_dropped;
};

struct expand_tree {
    const struct bk_collection *collection;
    struct expand_node *children;
    struct expand_path *paths;
    uint32_t path_count, node_count, dropped;
};

struct making {
    struct expand_tree *tree;
    struct bk_arena *arena;
    struct bk_asker asker; /* the context is "expand" */
};

/* --- the parameter ---------------------------------------------------------------------------- */

/* Without spaces, and without dots at its ends. */
static struct bk_slice clean(struct bk_arena *arena, struct bk_slice text) {
    char *data = bk_arena_alloc(arena, text.length + 1);
    size_t length = 0, start = 0;
    for (size_t i = 0; i < text.length && !arena->is_overflown; i++)
        if (text.data[i] != ' ')
            data[length++] = text.data[i];
    while (length > start && data[length - 1] == '.')
        length--;
    while (start < length && data[start] == '.')
        start++;
    return bk_slice_make(data + start, length - start);
}

static enum bk_status read_paths(struct bk_arena *arena, struct bk_slice text,
                                 struct bk_slice *paths, uint32_t *count) {
    struct bk_slice word;
    *count = 0;
    if (text.length > BK_EXPAND_BYTES_MAX)
        return BK_LIMIT;
    while (bk_slice_split(&text, ',', &word)) {
        struct bk_slice path = clean(arena, word);
        if (path.length == 0)
            continue;
        if (*count == PATHS_MAX)
            return BK_LIMIT;
        paths[(*count)++] = path;
    }
    return bk_arena_status(arena);
}

static bool goes_on(struct bk_slice longer, struct bk_slice path) {
    return longer.length > path.length && longer.data[path.length] == '.' &&
           bk_slice_starts_with(longer, path);
}

/* Whether it is the first part of another one, or comes again. */
static bool is_superfluous(const struct bk_slice *paths, uint32_t count, uint32_t number) {
    for (uint32_t i = 0; i < count; i++)
        if (i != number && (goes_on(paths[i], paths[number]) ||
                            (i < number && bk_slice_equal(paths[i], paths[number]))))
            return true;
    return false;
}

static bool is_word(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '_')
            return false;
    }
    return text.length > 0;
}

/* "comments_via_post", the last _via_ counts, or "comments(post)". */
static bool split_back(struct bk_slice name, struct bk_slice *collection, struct bk_slice *field) {
    static const struct bk_slice via = BK_SLICE_INIT("_via_");
    size_t open = bk_slice_find(name, '(');
    if (open < name.length) {
        *collection = bk_slice_make(name.data, open);
        *field = bk_slice_make(name.data + open + 1, name.length - open - 1);
        if (field->length == 0 || field->data[field->length - 1] != ')')
            return false;
        field->length--;
        return is_word(*collection) && is_word(*field);
    }
    for (size_t i = name.length; i-- > 1;) {
        if (i + via.length >= name.length || memcmp(name.data + i, via.data, via.length) != 0)
            continue;
        *collection = bk_slice_make(name.data, i);
        *field = bk_slice_make(name.data + i + via.length, name.length - i - via.length);
        return is_word(name);
    }
    return false;
}

/* --- where a name leads ----------------------------------------------------------------------- */

/* The collection that it leads to; NULL: nowhere. */
static const struct bk_collection *
resolve(const struct making *making, const struct bk_collection *from, struct expand_node *node) {
    const struct bk_schema *schema = making->asker.schema;
    struct bk_slice collection_name, field_name;
    struct bk_relation relation;
    if (!split_back(node->name, &collection_name, &field_name)) {
        node->field = bk_collection_field(from, node->name);
        if (node->field == NULL || !bk_relation_of(node->field, &relation))
            return NULL;
        node->kind = relation.is_multiple ? EXPAND_LIST : EXPAND_ONE;
        node->is_single = !relation.is_multiple;
        return bk_schema_find(schema, relation.target_id);
    }
    const struct bk_collection *back = bk_schema_find(schema, collection_name);
    node->field = back == NULL ? NULL : bk_collection_field(back, field_name);
    if (node->field == NULL || !bk_relation_of(node->field, &relation) ||
        !bk_slice_equal(relation.target_id, from->id))
        return NULL;
    node->kind = EXPAND_BACK;
    node->is_single = bk_collection_is_unique_on(back, node->field->name, making->arena);
    return back;
}

/* --- statements ------------------------------------------------------------------------------- */

static void write_columns(const struct bk_collection *collection, struct bk_buffer *out) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        bk_buffer_format(out, "%s%.*s.%.*s", i == 0 ? "" : ",", BK_SLICE_PRINT(collection->quoted),
                         BK_SLICE_PRINT(collection->fields[i].quoted));
}

/* Where the field of the record has our id. A list is looked through only where the id occurs in
 * its text: ids have no characters that JSON would escape. */
static void write_refers(const struct expand_node *node, struct bk_buffer *out) {
    struct bk_slice quoted = node->field->quoted;
    if (!bk_field_is_multiple(node->field))
        bk_buffer_format(out, "%.*s=?1", BK_SLICE_PRINT(quoted));
    else
        bk_buffer_format(out,
                         "instr(%.*s,?1)>0 AND ?1 IN (SELECT value FROM json_each("
                         "CASE WHEN json_valid(%.*s) THEN %.*s ELSE json_array(%.*s) END))",
                         BK_SLICE_PRINT(quoted), BK_SLICE_PRINT(quoted), BK_SLICE_PRINT(quoted),
                         BK_SLICE_PRINT(quoted));
}

/* The records that there are, before any rule: their limit is of all of them. */
static void write_source(const struct expand_node *node, struct bk_buffer *out) {
    struct bk_slice table = node->face.collection->quoted;
    if (node->kind == EXPAND_BACK) {
        bk_buffer_format(out, "(SELECT \"id\" \"$id\" FROM %.*s WHERE ", BK_SLICE_PRINT(table));
        write_refers(node, out);
        bk_buffer_format(out, " LIMIT %d) \"$back\" CROSS JOIN ", BK_EXPAND_BACK_MAX);
    }
    bk_buffer_append_slice(out, table);
}

/* The depth stands in it, so that the same relation, followed twice, is two statements: the outer
 * one is at a row while the inner one is asked. */
static void write_sql(const struct expand_node *node, struct bk_buffer *out) {
    const struct bk_collection *collection = node->face.collection;
    bk_buffer_format(out, "/*%u*/SELECT ", node->depth);
    write_columns(collection, out);
    bk_buffer_append_literal(out, " FROM ");
    if (node->kind == EXPAND_BACK && !node->rule.is_there) {
        bk_buffer_append_slice(out, collection->quoted);
        bk_buffer_append_literal(out, " WHERE ");
        write_refers(node, out);
        bk_buffer_format(out, " LIMIT %d", node->is_single ? 1 : BK_EXPAND_BACK_MAX);
        return;
    }
    write_source(node, out);
    if (node->rule.is_there)
        bk_buffer_append_slice(out, node->rule.condition.joins);
    bk_buffer_format(out, " WHERE %.*s.\"id\"=%s", BK_SLICE_PRINT(collection->quoted),
                     node->kind == EXPAND_BACK ? "\"$back\".\"$id\"" : "?1");
    if (node->rule.is_there) {
        bk_buffer_append_literal(out, " AND ");
        bk_buffer_append_slice(out, node->rule.condition.where);
    }
    if (node->is_single)
        bk_buffer_append_literal(out, " LIMIT 1");
}

static enum bk_status make_sql(struct bk_arena *arena, struct expand_node *node) {
    struct bk_buffer out;
    bk_buffer_init(&out, SQL_BYTES_MAX);
    write_sql(node, &out);
    node->sql = bk_sql_make(bk_arena_copy(arena, bk_buffer_slice(&out)));
    enum bk_status status = bk_buffer_status(&out);
    bk_buffer_fini(&out);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

/* --- making ----------------------------------------------------------------------------------- */

/* BK_INVALID, BK_FORBIDDEN: it leads nowhere. */
static enum bk_status prepare(const struct making *making, const struct bk_collection *collection,
                              struct expand_node *node) {
    enum bk_status status = show_face_make(&node->face, making->arena, &making->asker, collection);
    if (status != BK_OK)
        return status;
    switch (bk_rules_authorize(making->asker.actor, collection, BK_MAY_VIEW)) {
    case BK_DENIED:
        return BK_FORBIDDEN;
    case BK_ALLOWED:
        break;
    case BK_ASKED:
        status = bk_question_make(&node->rule, making->arena, &making->asker, collection,
                                  collection->rules[BK_MAY_VIEW], BK_QUESTION_OF_STORED);
        break;
    }
    node->row = bk_arena_alloc(making->arena, collection->field_count * sizeof *node->row);
    return status == BK_OK ? make_sql(making->arena, node) : status;
}

static enum bk_status make_node(const struct making *making, const struct bk_collection *from,
                                struct bk_slice name, uint32_t depth, struct expand_node **made) {
    struct expand_node *node = bk_arena_alloc_zero(making->arena, sizeof *node);
    if (++making->tree->node_count > BK_EXPAND_NODES_MAX)
        return BK_LIMIT;
    if (making->arena->is_overflown)
        return bk_arena_status(making->arena);
    *made = node;
    node->name = name;
    node->depth = depth;
    const struct bk_collection *target = resolve(making, from, node);
    enum bk_status status = target == NULL ? BK_INVALID : prepare(making, target, node);
    if (status != BK_INVALID && status != BK_FORBIDDEN)
        return status;
    node->kind = EXPAND_WRONG;
    return BK_OK;
}

static enum bk_status get_node(const struct making *making, struct expand_node **place,
                               const struct bk_collection *from, struct bk_slice name,
                               uint32_t depth, struct expand_node **node) {
    while (*place != NULL && !bk_slice_equal((*place)->name, name))
        place = &(*place)->next;
    enum bk_status status = *place == NULL ? make_node(making, from, name, depth, place) : BK_OK;
    *node = *place;
    return status;
}

static enum bk_status add_path(const struct making *making, const struct bk_collection *from,
                               struct bk_slice text) {
    struct expand_tree *tree = making->tree;
    struct expand_path *path = &tree->paths[tree->path_count++];
    struct expand_node **place = &tree->children, *node;
    struct bk_slice word;
    while (path->length < WORDS_MAX && bk_slice_split(&text, '.', &word)) {
        enum bk_status status = get_node(making, place, from, word, path->length + 1, &node);
        if (status != BK_OK)
            return status;
        node->path_count++;
        path->nodes[path->length++] = node;
        if (node->kind == EXPAND_WRONG)
            break;
        place = &node->children;
        from = node->face.collection;
    }
    return BK_OK;
}

/* @request as it is, but for its context. */
static enum bk_status make_asker(struct making *making, const struct bk_asker *asker) {
    making->asker = *asker;
    if (asker->request == NULL)
        return BK_OK;
    struct bk_json *request = bk_arena_alloc(making->arena, sizeof *request);
    struct bk_json *context = bk_arena_alloc_zero(making->arena, sizeof *context);
    if (making->arena->is_overflown)
        return bk_arena_status(making->arena);
    *request = *asker->request;
    context->type = BK_JSON_STRING;
    context->key = BK_SLICE("context");
    context->string = BK_SLICE("expand");
    context->next = request->child; /* the first of a name counts */
    request->child = context;
    request->child_count++;
    making->asker.request = request;
    return BK_OK;
}

enum bk_status expand_make(struct expand_tree **tree, struct bk_arena *arena,
                           const struct bk_asker *asker, const struct bk_collection *collection,
                           struct bk_slice paths) {
    struct bk_slice texts[PATHS_MAX];
    struct making making = {.arena = arena};
    uint32_t count;
    *tree = NULL;
    if (paths.length == 0)
        return BK_OK;
    enum bk_status status = read_paths(arena, paths, texts, &count);
    if (status != BK_OK || count == 0)
        return status;
    making.tree = bk_arena_alloc_zero(arena, sizeof *making.tree);
    struct expand_path *room = bk_arena_alloc_zero(arena, count * sizeof *room);
    status = arena->is_overflown ? bk_arena_status(arena) : make_asker(&making, asker);
    if (status != BK_OK)
        return status;
    making.tree->collection = collection;
    making.tree->paths = room;
    for (uint32_t i = 0; i < count && status == BK_OK; i++)
        if (!is_superfluous(texts, count, i))
            status = add_path(&making, collection, texts[i]);
    *tree = making.tree;
    return status == BK_OK ? bk_arena_status(arena) : status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void drop_paths(struct expand_tree *tree, const struct expand_node *wrong) {
    for (uint32_t i = 0; i < tree->path_count; i++) {
        struct expand_path *path = &tree->paths[i];
        if (path->is_dropped || path->nodes[path->length - 1] != wrong)
            continue;
        path->is_dropped = true;
        tree->dropped++;
        for (uint32_t k = 0; k < path->length; k++)
            path->nodes[k]->path_count--;
    }
}

/* A record that is being written, and where the paths go on from it. */
struct place {
    const struct bk_collection *collection;
    const struct bk_value *values;
    struct expand_node *children;
};

static enum bk_status write_members(struct expand_tree *tree, const struct place *place,
                                    struct bk_connection *connection, struct bk_buffer *out);

static enum bk_status write_record(struct expand_tree *tree, struct expand_node *node,
                                   struct bk_connection *connection, struct bk_statement *statement,
                                   struct bk_buffer *out) {
    bk_record_read(node->face.collection, statement, node->row);
    enum bk_status status = show_face_write(&node->face, connection, node->row, out);
    if (status != BK_OK || node->children == NULL || out->is_overflown)
        return status;
    const struct place place = {node->face.collection, node->row, node->children};
    out->length--; /* the brace: one more member comes */
    status = write_members(tree, &place, connection, out);
    bk_buffer_append_char(out, '}');
    return status;
}

/* The records of a statement that is bound, as they come. */
static enum bk_status write_rows(struct expand_tree *tree, struct expand_node *node,
                                 struct bk_connection *connection, struct bk_statement *statement,
                                 uint32_t *count, struct bk_buffer *out) {
    enum bk_status status;
    while ((status = bk_statement_step(statement)) == BK_OK) {
        if ((*count)++ == 0) {
            bk_json_write_key(out, node->name);
            if (!node->is_single)
                bk_buffer_append_char(out, '[');
        }
        if (!node->is_single)
            bk_json_write_separator(out);
        status = write_record(tree, node, connection, statement, out);
        if (status == BK_OK && out->is_overflown)
            status = bk_buffer_status(out);
        if (status != BK_OK)
            break;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status ask(struct expand_tree *tree, struct expand_node *node, struct bk_slice key,
                          struct bk_connection *connection, uint32_t *count,
                          struct bk_buffer *out) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &node->sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, key);
    for (uint32_t i = 0; i < node->rule.condition.value_count; i++)
        bk_statement_bind(statement, node->rule.first_parameter + (int)i,
                          &node->rule.condition.values[i]);
    return write_rows(tree, node, connection, statement, count, out);
}

/* The next one of ["a","b"]: ids have no characters that JSON would escape. What a view has instead
 * of a list may be anything. */
static bool next_id(struct bk_slice *rest, struct bk_slice *id) {
    size_t begin = bk_slice_find(*rest, '"');
    if (begin == rest->length)
        return false;
    *rest = bk_slice_make(rest->data + begin + 1, rest->length - begin - 1);
    size_t end = bk_slice_find(*rest, '"');
    *id = bk_slice_make(rest->data, end);
    size_t taken = end < rest->length ? end + 1 : end;
    *rest = bk_slice_make(rest->data + taken, rest->length - taken);
    return true;
}

/* One record, or a list; nothing at all when there are none. */
static enum bk_status write_node(struct expand_tree *tree, struct expand_node *node,
                                 const struct place *place, struct bk_connection *connection,
                                 struct bk_buffer *out) {
    const struct bk_field *field =
        node->kind == EXPAND_BACK ? place->collection->id_field : node->field;
    const struct bk_value *value = &place->values[field->index];
    struct bk_slice rest = value->text, id;
    enum bk_status status = BK_OK;
    uint32_t count = 0;
    if (value->type != BK_VALUE_TEXT || rest.length == 0)
        return BK_OK;
    if (node->kind != EXPAND_LIST)
        status = ask(tree, node, rest, connection, &count, out);
    while (node->kind == EXPAND_LIST && status == BK_OK && next_id(&rest, &id))
        status = ask(tree, node, id, connection, &count, out);
    if (count > 0 && !node->is_single)
        bk_buffer_append_char(out, ']');
    return status;
}

static bool is_followed(const struct expand_node *node) {
    return node->path_count > 0 && node->kind != EXPAND_WRONG;
}

static enum bk_status write_members(struct expand_tree *tree, const struct place *place,
                                    struct bk_connection *connection, struct bk_buffer *out) {
    enum bk_status status = BK_OK;
    bool has_any = false;
    for (struct expand_node *node = place->children; node != NULL; node = node->next)
        if (node->kind == EXPAND_WRONG)
            drop_paths(tree, node);
    for (struct expand_node *node = place->children; node != NULL; node = node->next)
        has_any = has_any || is_followed(node);
    if (!has_any)
        return BK_OK;
    bk_buffer_append_literal(out, ",\"expand\":{");
    for (struct expand_node *node = place->children; node != NULL && status == BK_OK;
         node = node->next)
        if (is_followed(node))
            status = write_node(tree, node, place, connection, out);
    bk_buffer_append_char(out, '}');
    return status;
}

enum bk_status expand_write(struct expand_tree *tree, struct bk_connection *connection,
                            const struct bk_value *values, struct bk_buffer *out) {
    const struct place place = {tree->collection, values, tree->children};
    return write_members(tree, &place, connection, out);
}

uint32_t expand_dropped(const struct expand_tree *tree) { return tree->dropped; }
