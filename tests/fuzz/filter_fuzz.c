/*
 * Filters. The input's first character says whose it is, the rest is the filter:
 *
 *   c   a client's
 *   r   a rule, a guest asks
 *   a   a rule, a record of "others" asks
 *
 * Whatever it is: what cannot be read is refused with a reason; what can be read is SQL that SQLite
 * compiles and runs; no record comes twice. A rule gives the same records by a list, by asking for
 * each record, and, where it says that it needs no tables, in memory.
 */
#include "fuzz.h"

#include "bakend/rules.h"
#include "kernel/schema/schema_private.h"
#include "kernel/schema/types/types.h"
#include "kernel/store/store_private.h"

enum {
    ARENA_BYTES_MAX = 64 * 1024 * 1024,
    SQL_BYTES_MAX = 2 * 1024 * 1024,
    KIND_BYTES_MAX = 64 * 1024,
    RECORDS_MAX = 16
};
static const int64_t NOW_MS = 1767225600000;

static const struct bk_field_type *const types[] = {
    &schema_type_text,     &schema_type_number, &schema_type_bool,      &schema_type_email,
    &schema_type_url,      &schema_type_date,   &schema_type_autodate,  &schema_type_select,
    &schema_type_relation, &schema_type_editor, &schema_type_geo_point, &schema_type_json,
    &schema_type_file,
};

static const char *const definitions[] = {
    "{\"id\":\"pbc_others\",\"name\":\"others\",\"listRule\":\"level > 0\",\"fields\":["
    "{\"name\":\"label\",\"type\":\"text\"},{\"name\":\"level\",\"type\":\"number\"},"
    "{\"name\":\"flags\",\"type\":\"select\",\"values\":[\"x\",\"y\"],\"maxSelect\":2},"
    "{\"name\":\"secret\",\"type\":\"text\",\"hidden\":true},"
    "{\"name\":\"data\",\"type\":\"json\"}]}",
    "{\"id\":\"pbc_things\",\"name\":\"things\",\"listRule\":\"\",\"fields\":["
    "{\"name\":\"title\",\"type\":\"text\"},{\"name\":\"stars\",\"type\":\"number\"},"
    "{\"name\":\"on\",\"type\":\"bool\"},{\"name\":\"meta\",\"type\":\"json\"},"
    "{\"name\":\"kind\",\"type\":\"select\",\"values\":[\"a\",\"b\"]},"
    "{\"name\":\"tags\",\"type\":\"select\",\"values\":[\"a\",\"b\",\"5\"],\"maxSelect\":3},"
    "{\"name\":\"owner\",\"type\":\"relation\",\"collectionId\":\"pbc_others\"},"
    "{\"name\":\"readers\",\"type\":\"relation\",\"collectionId\":\"pbc_others\",\"maxSelect\":5},"
    "{\"name\":\"files\",\"type\":\"file\",\"maxSelect\":2},"
    "{\"name\":\"place\",\"type\":\"geoPoint\"},{\"name\":\"at\",\"type\":\"date\"}]}",
};

static const char *const records[] = {
    "{\"id\":\"other0000000001\",\"label\":\"a\",\"level\":5,\"flags\":[\"x\",\"y\"],"
    "\"secret\":\"s\",\"data\":{\"a\":1}}",
    "{\"id\":\"other0000000002\",\"label\":\"Ż\",\"level\":-1}",
    "{\"id\":\"thing0000000001\"}",
    "{\"id\":\"thing0000000002\",\"title\":\"a\",\"stars\":5,\"on\":true,\"meta\":{\"a\":[1,\"x\"]}"
    ","
    "\"kind\":\"a\",\"tags\":[\"a\",\"b\"],\"owner\":\"other0000000001\",\"readers\":"
    "[\"other0000000001\",\"other0000000002\"],\"files\":[\"f.txt\"],\"place\":"
    "{\"lon\":21,\"lat\":52},\"at\":\"2026-06-08 12:00:00.000Z\"}",
    "{\"id\":\"thing0000000003\",\"title\":\"%_ \\\"'\",\"stars\":-0.5,\"meta\":\"x\","
    "\"owner\":\"other0000000002\",\"tags\":[\"5\"]}",
    "{\"id\":\"thing0000000004\",\"title\":\"5\",\"stars\":1e300,\"meta\":[[1],{\"a\":null}],"
    "\"readers\":[\"other0000000002\"],\"at\":\"1999-12-31\"}",
};

static const char request_json[] =
    "{\"context\":\"default\",\"method\":\"POST\",\"query\":{\"q\":\"a\"},\"headers\":{\"x_y\":"
    "\"5\"},\"body\":{\"title\":\"a\",\"stars\":5,\"tags\":[\"a\"],\"owner\":\"other0000000001\"},"
    "\"auth\":null}";

/* --- the world, made once --------------------------------------------------------------------- */

struct world {
    struct bk_schema_kind kind;
    struct bk_schema *schema;
    const struct bk_collection *things, *others;
    struct bk_connection *connection;
    struct bk_arena arena;
    struct bk_json *request;
    struct bk_value *values[RECORDS_MAX]; /* of things */
    struct bk_slice ids[RECORDS_MAX];
    uint32_t count;
};

static struct world world;

static struct schema_box *read_box(const char *definition) {
    struct bk_problems problems;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_json *json = NULL;
    struct schema_box *box = schema_box_create();
    bk_problems_init(&problems, &world.arena);
    BK_ASSERT(bk_json_parse(&world.arena, bk_slice_from(definition), &json, &error) == BK_OK);
    struct schema_source source = {.given = json, .arena = &world.arena};
    BK_ASSERT(schema_definition_read(&world.kind, &source, box, &problems, &error) == BK_OK);
    BK_ASSERT(problems.count == 0 && schema_box_finish(&world.kind, box) == BK_OK);
    return box;
}

static void execute(const char *sql) {
    BK_ASSERT(sqlite3_exec(world.connection->handle, sql, NULL, NULL, NULL) == SQLITE_OK);
}

static void create_table(const struct bk_collection *collection) {
    struct bk_buffer sql;
    bk_buffer_init(&sql, SQL_BYTES_MAX);
    bk_buffer_format(&sql, "CREATE TABLE %.*s (", BK_SLICE_PRINT(collection->quoted));
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        bk_buffer_format(&sql, "%s%.*s %s", i > 0 ? ", " : "", BK_SLICE_PRINT(field->quoted),
                         field->type->column_of != NULL ? field->type->column_of(field)
                                                        : field->type->column);
    }
    bk_buffer_append(&sql, ")", 2);
    execute(sql.data);
    bk_buffer_fini(&sql);
}

static void insert(const struct bk_collection *collection, const struct bk_json *json) {
    struct bk_value *values =
        bk_arena_alloc(&world.arena, collection->field_count * sizeof(*values));
    struct bk_statement *statement;
    BK_ASSERT(bk_connection_statement(world.connection, &collection->insert, &statement) == BK_OK);
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_json *input = bk_json_get(json, field->name);
        if (input != NULL)
            field->type->normalise(field, input, &values[i], &world.arena);
        else
            field->type->empty(field, &values[i]);
        bk_statement_bind(statement, (int)i + 1, &values[i]);
    }
    BK_ASSERT(bk_statement_run(statement) == BK_OK);
    if (collection == world.things) {
        world.ids[world.count] = bk_json_get_string(json, BK_SLICE("id"));
        world.values[world.count++] = values;
    }
}

static void make_world(void) {
    struct schema_box *boxes[BK_COUNT_OF(definitions)];
    struct bk_error error = BK_ERROR_INIT;
    struct bk_json *json;
    bk_arena_init(&world.kind.arena, KIND_BYTES_MAX);
    bk_arena_init(&world.arena, ARENA_BYTES_MAX);
    bk_map_init(&world.kind.reserved);
    for (size_t i = 0; i < BK_COUNT_OF(types); i++)
        bk_schema_add_type(&world.kind, types[i]);
    BK_ASSERT(store_connection_open(NULL, ":memory:", STORE_CONNECTION_WRITER, &world.connection,
                                    &error) == BK_OK);
    for (size_t i = 0; i < BK_COUNT_OF(boxes); i++) {
        boxes[i] = read_box(definitions[i]);
        create_table(&boxes[i]->collection);
    }
    world.others = &boxes[0]->collection;
    world.things = &boxes[1]->collection;
    world.schema = schema_snapshot_create(boxes, BK_COUNT_OF(boxes), NULL, 1);
    for (size_t i = 0; i < BK_COUNT_OF(records); i++) {
        BK_ASSERT(bk_json_parse(&world.arena, bk_slice_from(records[i]), &json, NULL) == BK_OK);
        insert(records[i][7] == 'o' ? world.others : world.things, json);
    }
    BK_ASSERT(bk_json_parse(&world.arena, bk_slice_from(request_json), &world.request, NULL) ==
              BK_OK);
}

/* --- lists ------------------------------------------------------------------------------------ */

static uint32_t index_of(struct bk_slice id) {
    uint32_t i = 0;
    while (i < world.count && !bk_slice_equal(world.ids[i], id))
        i++;
    BK_ASSERT(i < world.count);
    return i;
}

/* Too much was asked for: how much that is depends on the machine. */
static bool is_out_of_bounds(enum bk_status status) {
    return status == BK_TIMEOUT || status == BK_TOO_LARGE;
}

/* False when it takes too long. */
static bool step_all(struct bk_statement *statement, bool *is_found) {
    enum bk_status status;
    while ((status = bk_statement_step(statement)) == BK_OK) {
        uint32_t i = index_of(bk_statement_text(statement, 0));
        BK_ASSERT(!is_found[i]);
        is_found[i] = true;
    }
    bk_statement_reset(statement);
    BK_ASSERT(status == BK_END || is_out_of_bounds(status));
    return status == BK_END;
}

static bool list(struct bk_arena *arena, const struct bk_filter_sql *condition, bool *is_found) {
    struct bk_statement *statement;
    struct bk_buffer out;
    bk_buffer_init(&out, SQL_BYTES_MAX);
    bk_buffer_append_literal(&out, "SELECT \"things\".\"id\" FROM \"things\"");
    bk_buffer_append_slice(&out, condition->joins);
    bk_buffer_append_literal(&out, " WHERE ");
    bk_buffer_append_slice(&out, condition->where);
    BK_ASSERT(!out.is_overflown);
    struct bk_sql sql = bk_sql_make(bk_arena_copy(arena, bk_buffer_slice(&out)));
    bk_buffer_fini(&out);
    enum bk_status status = bk_connection_statement(world.connection, &sql, &statement);
    if (status == BK_TOO_LARGE)
        return false; /* SQLite takes a statement of 1 MB */
    BK_ASSERT(status == BK_OK);
    for (uint32_t i = 0; i < condition->value_count; i++)
        bk_statement_bind(statement, (int)i + 1, &condition->values[i]);
    bool is_whole = step_all(statement, is_found);
    store_connection_give_back(world.connection);
    return is_whole;
}

/* --- rules ------------------------------------------------------------------------------------ */

static void check_rule(struct bk_arena *arena, const struct bk_asker *asker, struct bk_slice rule,
                       const bool *is_found) {
    struct bk_question question;
    enum bk_status status =
        bk_question_make(&question, arena, asker, world.things, rule, BK_QUESTION_OF_STORED);
    BK_ASSERT(status == BK_OK || status == BK_TOO_LARGE);
    for (uint32_t i = 0; status == BK_OK && question.is_there && i < world.count; i++) {
        enum bk_status asked = bk_question_ask(&question, world.connection, world.ids[i]);
        store_connection_give_back(world.connection);
        if (is_out_of_bounds(asked))
            return;
        BK_ASSERT(asked == (is_found[i] ? BK_OK : BK_NOT_FOUND));
        enum bk_answer answer = bk_question_judge(&question, world.values[i]);
        BK_ASSERT(answer == BK_ANSWER_NEEDS_TABLES || (answer == BK_ANSWER_YES) == is_found[i]);
    }
}

static void check(struct bk_arena *arena, char kind, struct bk_slice text) {
    struct bk_actor actor = bk_actor_guest;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_filter *filter = NULL;
    struct bk_filter_scope scope;
    struct bk_filter_sql condition;
    struct bk_asker asker;
    bool is_found[RECORDS_MAX] = {false};
    bool is_client = kind == 'c';
    if (kind == 'a') {
        actor.id = BK_SLICE("other0000000001");
        actor.collection_id = world.others->id;
    }
    bk_asker_init(&asker, world.schema, &actor, world.request);
    asker.now_ms = NOW_MS;
    enum bk_status status = bk_filter_parse(
        arena, text, is_client ? BK_FILTER_BYTES_MAX : BK_RULE_BYTES_MAX, &filter, &error);
    if (status == BK_OK) {
        bk_asker_scope(&asker, world.things, 1, &scope);
        struct bk_filter_query *query = bk_filter_query_create(arena, &scope);
        BK_ASSERT(query != NULL);
        status = bk_filter_query_add(query, filter,
                                     is_client ? BK_FILTER_OF_CLIENT : BK_FILTER_OF_RULE, &error);
        if (status == BK_OK)
            status = bk_filter_query_finish(query, &condition);
    }
    BK_ASSERT(status == BK_OK || status == BK_INVALID || status == BK_TOO_LARGE ||
              (status == BK_FORBIDDEN && is_client));
    BK_ASSERT(status != BK_INVALID || error.message[0] != '\0');
    if (status == BK_OK && list(arena, &condition, is_found) && !is_client && text.length > 0)
        check_rule(arena, &asker, text, is_found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy;
    struct bk_arena arena;
    if (world.schema == NULL)
        make_world();
    if (size == 0)
        return 0;
    copy = fuzz_copy(data + 1, size - 1);
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    check(&arena, (char)data[0], copy);
    bk_arena_fini(&arena);
    fuzz_free(copy);
    return 0;
}
