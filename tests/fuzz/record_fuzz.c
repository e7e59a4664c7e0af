/*
 * A record as a client sends it, through every field type of the kernel, each plain and with its
 * options.
 *
 * Whatever the body: what is kept is written as JSON that reads; reading it again is the same
 * record, so that a client that sends back what it got changes nothing; what passes validation
 * passes it again; and what is wrong is told under the name of a field, as JSON.
 */
#include "fuzz.h"

#include "kernel/schema/schema_private.h"
#include "kernel/schema/types/types.h"

enum {
    ARENA_BYTES_MAX = 32 * 1024 * 1024,
    TEXT_BYTES_MAX = 8 * 1024 * 1024,
    FIELDS_MAX = 64,
    KIND_BYTES_MAX = 64 * 1024
};
static const int64_t NOW_MS = 1767225600000;

static const struct bk_field_type *const types[] = {
    &schema_type_text,     &schema_type_number, &schema_type_bool,      &schema_type_email,
    &schema_type_url,      &schema_type_date,   &schema_type_autodate,  &schema_type_select,
    &schema_type_relation, &schema_type_editor, &schema_type_geo_point, &schema_type_json,
    &schema_type_file,
};

static const char definition[] =
    "{\"name\":\"posts\",\"type\":\"base\",\"fields\":["
    "{\"name\":\"text\",\"type\":\"text\"},"
    "{\"name\":\"word\",\"type\":\"text\",\"min\":2,\"max\":4,\"pattern\":\"^[a-zü]+$\"},"
    "{\"name\":\"code\",\"type\":\"text\",\"autogeneratePattern\":\"[a-z]{3}-[0-9]{2}\"},"
    "{\"name\":\"number\",\"type\":\"number\"},"
    "{\"name\":\"few\",\"type\":\"number\",\"min\":-2,\"max\":4.5},"
    "{\"name\":\"count\",\"type\":\"number\",\"onlyInt\":true},"
    "{\"name\":\"flag\",\"type\":\"bool\"},"
    "{\"name\":\"mail\",\"type\":\"email\",\"exceptDomains\":[\"b.com\"]},"
    "{\"name\":\"link\",\"type\":\"url\",\"onlyDomains\":[\"a.com\"]},"
    "{\"name\":\"site\",\"type\":\"url\"},"
    "{\"name\":\"day\",\"type\":\"date\"},"
    "{\"name\":\"soon\",\"type\":\"date\",\"min\":\"2020-01-01\",\"max\":\"2030-01-01\"},"
    "{\"name\":\"made\",\"type\":\"autodate\",\"onCreate\":true,\"onUpdate\":true},"
    "{\"name\":\"one\",\"type\":\"select\",\"values\":[\"a\",\"b\",\"[c]\"]},"
    "{\"name\":\"some\",\"type\":\"select\",\"maxSelect\":2,\"values\":[\"a\",\"b\",\"é\\\"\"]},"
    "{\"name\":\"friend\",\"type\":\"relation\",\"collectionId\":\"pbc_1\"},"
    "{\"name\":\"friends\",\"type\":\"relation\",\"collectionId\":\"pbc_1\",\"maxSelect\":3},"
    "{\"name\":\"page\",\"type\":\"editor\",\"maxSize\":64},"
    "{\"name\":\"place\",\"type\":\"geoPoint\"},"
    "{\"name\":\"doc\",\"type\":\"file\"},"
    "{\"name\":\"docs\",\"type\":\"file\",\"maxSelect\":3},"
    "{\"name\":\"data\",\"type\":\"json\"},"
    "{\"name\":\"small\",\"type\":\"json\",\"maxSize\":32,\"required\":true}]}";

struct record {
    struct bk_value values[FIELDS_MAX];
    bool is_valid[FIELDS_MAX];
};

/* --- the collection, made once ---------------------------------------------------------------- */

static struct bk_schema_kind kind;
static struct schema_box *box;

static const struct bk_collection *the_collection(void) {
    if (box != NULL)
        return &box->collection;
    struct bk_arena arena;
    struct bk_problems problems;
    struct bk_json *json = NULL;
    struct bk_error error = BK_ERROR_INIT;
    bk_arena_init(&kind.arena, KIND_BYTES_MAX);
    bk_map_init(&kind.reserved);
    for (size_t i = 0; i < BK_COUNT_OF(types); i++)
        bk_schema_add_type(&kind, types[i]);
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bk_problems_init(&problems, &arena);
    BK_ASSERT(bk_json_parse(&arena, bk_slice_from(definition), &json, &error) == BK_OK);
    struct schema_source source = {.given = json, .arena = &arena};
    box = schema_box_create();
    enum bk_status status = schema_definition_read(&kind, &source, box, &problems, &error);
    BK_ASSERT(status == BK_OK && problems.count == 0);
    BK_ASSERT(schema_box_finish(&kind, box) == BK_OK);
    BK_ASSERT(box->collection.field_count <= FIELDS_MAX);
    bk_arena_fini(&arena);
    return &box->collection;
}

/* --- a record --------------------------------------------------------------------------------- */

static void check_problems(struct bk_problems *problems, struct bk_arena *arena,
                           const struct bk_collection *collection) {
    struct bk_buffer out;
    struct bk_json *told;
    if (problems->count == 0)
        return;
    bk_buffer_init(&out, TEXT_BYTES_MAX);
    bk_problems_write_json(problems, &out);
    BK_ASSERT(bk_json_parse(arena, bk_buffer_slice(&out), &told, NULL) == BK_OK);
    BK_ASSERT(told->child_count > 0);
    for (const struct bk_json *member = told->child; member != NULL; member = member->next) {
        BK_ASSERT(bk_collection_field(collection, member->key) != NULL);
        BK_ASSERT(bk_json_get_string(member, BK_SLICE("code")).length > 0);
    }
    bk_buffer_fini(&out);
}

/* Normalises and validates, as a create does on the loop and on the writer. */
static void read_record(const struct bk_collection *collection, const struct bk_json *body,
                        struct record *record, struct bk_arena *arena, bool is_create) {
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_json *input = bk_json_get(body, field->name);
        struct bk_value *value = &record->values[i];
        struct bk_problems problems;
        bk_problems_init(&problems, arena);
        bool is_given = input != NULL && (!field->type->is_read_only || !is_create);
        if (is_given)
            field->type->normalise(field, input, value, arena);
        else
            field->type->empty(field, value);
        if (field->type->fill != NULL && is_create)
            field->type->fill(field, value, true, is_given, NOW_MS, arena);
        if (field->type->validate != NULL)
            field->type->validate(field, value, &problems);
        record->is_valid[i] = problems.count == 0;
        check_problems(&problems, arena, collection);
    }
}

static bool is_same(const struct bk_value *a, const struct bk_value *b) {
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case BK_VALUE_NULL:
        return true;
    case BK_VALUE_INT:
        return a->integer == b->integer;
    case BK_VALUE_REAL:
        return a->real >= b->real && a->real <= b->real;
    case BK_VALUE_TEXT:
        return bk_slice_equal(a->text, b->text);
    }
    return false;
}

/* By the contract two types look into texts: a JSON string that holds a number is a number the
 * second time, and a relation that holds "[\"a\"]" is "a" (no record has such an id). */
static bool looks_into(const struct bk_field *field, const struct bk_value *value) {
    if (value->type != BK_VALUE_TEXT || value->text.length == 0)
        return false;
    if (field->type == &schema_type_json)
        return value->text.data[0] == '"';
    return (field->type == &schema_type_relation || field->type == &schema_type_file) &&
           (bk_slice_find(value->text, '[') < value->text.length) && !bk_field_is_multiple(field);
}

/* --- what must hold --------------------------------------------------------------------------- */

static void check_again(const struct bk_collection *collection, const struct record *record,
                        const struct bk_json *written, struct bk_arena *arena) {
    static struct record again;
    read_record(collection, written, &again, arena, false);
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (!record->is_valid[i] || looks_into(field, &record->values[i]))
            continue;
        BK_ASSERT(again.is_valid[i]);
        if (!field->type->is_read_only)
            BK_ASSERT(is_same(&record->values[i], &again.values[i]));
    }
}

static void check(const struct bk_collection *collection, const struct bk_json *body,
                  struct bk_arena *arena) {
    static struct record record;
    struct bk_buffer out;
    struct bk_json *written = NULL;
    read_record(collection, body, &record, arena, true);
    BK_ASSERT(!arena->is_overflown);
    bk_buffer_init(&out, TEXT_BYTES_MAX);
    bk_record_write_json(collection, record.values, BK_VIEW_FULL, &out);
    BK_ASSERT(!out.is_overflown);
    bool is_finite = true;
    for (uint32_t i = 0; i < collection->field_count; i++)
        is_finite = is_finite && (record.values[i].type != BK_VALUE_REAL || record.is_valid[i]);
    BK_ASSERT(bk_json_parse(arena, bk_buffer_slice(&out), &written, NULL) == BK_OK);
    BK_ASSERT(written->child_count == collection->field_count + 2);
    if (is_finite)
        check_again(collection, &record, written, arena);
    bk_buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct bk_collection *collection = the_collection();
    struct bk_slice text = fuzz_copy(data, size);
    struct bk_arena arena;
    struct bk_json *body = NULL;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (bk_json_parse(&arena, text, &body, NULL) == BK_OK && body->type == BK_JSON_OBJECT)
        check(collection, body, &arena);
    bk_arena_fini(&arena);
    fuzz_free(text);
    return 0;
}
