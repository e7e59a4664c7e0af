/*
 * One migration file:
 *
 *   {
 *     "format": 1,
 *     "operations": [
 *       {"operation": "create", "collection": "posts", "id": "pbc_1", "after": {…}},
 *       {"operation": "update", "collection": "posts", "id": "pbc_1", "before": {…}, "after": {…}},
 *       {"operation": "delete", "collection": "posts", "id": "pbc_1", "before": {…}},
 *       {"operation": "put", "collection": "posts", "id": "pbc_1", "after": {…}}
 *     ]
 *   }
 *
 * before and after are whole definitions as GET answers them, without dates. An update does what is
 * different between the two, so that two files of two people fit together; where before is missing
 * after counts as it is. A put makes the collection just so, whatever is there: a snapshot consists
 * of puts. The hash is that of the operations without any space, so a formatter may go over a file.
 */
#include "migrations_private.h"

#include "bakend/crypto.h"
#include "bakend/encode.h"
#include "bakend/file.h"

static const char *const kind_names[] = {
    [MIGRATION_CREATE] = "create",
    [MIGRATION_UPDATE] = "update",
    [MIGRATION_DELETE] = "delete",
    [MIGRATION_PUT] = "put",
};

const char *migrations_kind_name(enum migration_kind kind) { return kind_names[kind]; }

/* --- names ------------------------------------------------------------------------------------ */

enum { DIGITS_MIN = 10, DIGITS_MAX = 14, WHAT_BYTES_MAX = 120 };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '-';
}

bool migrations_name_is_valid(struct bk_slice name) {
    if (!bk_slice_ends_with(name, BK_SLICE(".json")) || name.length > MIGRATIONS_NAME_BYTES_MAX)
        return false;
    size_t digits = 0, end = name.length - sizeof ".json" + 1;
    while (digits < end && is_digit(name.data[digits]))
        digits++;
    if (digits < DIGITS_MIN || digits > DIGITS_MAX || digits + 2 > end || name.data[digits] != '_')
        return false;
    for (size_t i = digits + 1; i < end; i++)
        if (!is_letter(name.data[i]))
            return false;
    return true;
}

struct bk_slice migrations_name_make(struct bk_arena *arena, int64_t seconds, const char *action,
                                     struct bk_slice what) {
    char text[WHAT_BYTES_MAX + 1];
    size_t length = what.length < WHAT_BYTES_MAX ? what.length : WHAT_BYTES_MAX;
    for (size_t i = 0; i < length; i++)
        text[i] = what.data[i];
    for (size_t i = 0; i < length; i++)
        if (!is_letter(text[i]))
            text[i] = '_';
    text[length] = '\0';
    return bk_arena_format(arena, "%010lld%s%s%s%s.json", (long long)seconds,
                           action[0] == '\0' ? "" : "_", action, length == 0 ? "" : "_", text);
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum bk_status refuse(struct bk_error *error, uint32_t number, const char *reason) {
    return bk_error_set(error, BK_INVALID, "operations[%u]: %s", number, reason);
}

static bool read_kind(struct bk_slice text, enum migration_kind *kind) {
    for (size_t i = 0; i < BK_COUNT_OF(kind_names); i++) {
        if (!bk_slice_equal(text, bk_slice_from(kind_names[i])))
            continue;
        *kind = (enum migration_kind)i;
        return true;
    }
    return false;
}

/* The definition of that name, or NULL; one that is not of this collection is wrong. */
static enum bk_status read_definition(const struct bk_json *item, const char *member,
                                      struct migration_operation *operation,
                                      const struct bk_json **definition, struct bk_error *error) {
    *definition = bk_json_get(item, bk_slice_from(member));
    if (*definition == NULL || (*definition)->type == BK_JSON_NULL) {
        *definition = NULL;
        return BK_OK;
    }
    if ((*definition)->type != BK_JSON_OBJECT)
        return bk_error_set(error, BK_INVALID, "%s must be the definition of a collection", member);
    struct bk_slice id = bk_json_get_string(*definition, BK_SLICE("id"));
    if (operation->id.length == 0)
        operation->id = id;
    if (operation->id.length == 0 || !bk_slice_equal(id, operation->id))
        return bk_error_set(error, BK_INVALID, "%s.id must be the id of the collection, as in id",
                            member);
    if (bk_json_get_string(*definition, BK_SLICE("name")).length == 0)
        return bk_error_set(error, BK_INVALID, "%s.name must be the name of the collection",
                            member);
    return BK_OK;
}

static enum bk_status read_operation(const struct bk_json *item, uint32_t number,
                                     struct migration_operation *operation,
                                     struct bk_error *error) {
    if (item->type != BK_JSON_OBJECT)
        return refuse(error, number, "must be an object");
    if (!read_kind(bk_json_get_string(item, BK_SLICE("operation")), &operation->kind))
        return refuse(error, number, "operation must be create, update, delete or put");
    operation->id = bk_json_get_string(item, BK_SLICE("id"));
    operation->name = bk_json_get_string(item, BK_SLICE("collection"));
    enum bk_status status = read_definition(item, "before", operation, &operation->before, error);
    if (status == BK_OK)
        status = read_definition(item, "after", operation, &operation->after, error);
    if (status != BK_OK) {
        bk_error_prefix(error, "operations[%u]", number);
        return status;
    }
    if (operation->id.length == 0)
        return refuse(error, number, "id must be the id of the collection");
    if (operation->kind != MIGRATION_DELETE && operation->after == NULL)
        return refuse(error, number, "after must be the definition of the collection");
    if (operation->name.length == 0)
        operation->name = bk_json_get_string(
            operation->before != NULL ? operation->before : operation->after, BK_SLICE("name"));
    if (operation->name.length == 0)
        operation->name = operation->id;
    return BK_OK;
}

static enum bk_status hash_of(struct migration *migration, const struct bk_json *operations,
                              struct bk_error *error) {
    struct bk_buffer text;
    uint8_t digest[BK_SHA256_BYTES];
    bk_buffer_init(&text, 2 * MIGRATIONS_FILE_BYTES_MAX);
    migrations_write_compact(&text, operations);
    bk_sha256(digest, bk_buffer_slice(&text));
    enum bk_status status = bk_buffer_status(&text);
    bk_buffer_fini(&text);
    bk_hex_encode(migration->hash, digest, sizeof digest);
    return status == BK_OK ? status : bk_error_set(error, status, "the file is too large");
}

static enum bk_status read_root(const struct bk_json *root, const struct bk_json **operations,
                                struct bk_error *error) {
    int64_t format = 0;
    if (root->type != BK_JSON_OBJECT)
        return bk_error_set(error, BK_INVALID, "must be an object with format and operations");
    const struct bk_json *member = bk_json_get(root, BK_SLICE("format"));
    if (member == NULL || !bk_json_to_int64(member, &format) || format != MIGRATIONS_FORMAT)
        return bk_error_set(error, BK_INVALID, "format must be %d: this version knows no other",
                            MIGRATIONS_FORMAT);
    *operations = bk_json_get(root, BK_SLICE("operations"));
    if (*operations == NULL || (*operations)->type != BK_JSON_ARRAY ||
        (*operations)->child_count > MIGRATIONS_OPERATIONS_MAX)
        return bk_error_set(error, BK_INVALID, "operations must be a list of at most %d",
                            MIGRATIONS_OPERATIONS_MAX);
    return BK_OK;
}

enum bk_status migrations_parse(struct migration *migration, struct bk_slice name,
                                struct bk_slice text, struct bk_arena *arena,
                                struct bk_error *error) {
    struct bk_json *root;
    const struct bk_json *operations = NULL;
    *migration = (struct migration){.name = name};
    enum bk_status status = bk_json_parse(arena, text, &root, error);
    if (status == BK_OK)
        status = read_root(root, &operations, error);
    if (status != BK_OK)
        return status;
    size_t size = sizeof *migration->operations * ((size_t)operations->child_count + 1);
    migration->operations = bk_arena_alloc_zero(arena, size);
    if (arena->is_overflown)
        return bk_error_set(error, bk_arena_status(arena), "the file is too large");
    for (const struct bk_json *item = operations->child; item != NULL; item = item->next) {
        status =
            read_operation(item, migration->count, &migration->operations[migration->count], error);
        if (status != BK_OK)
            return status;
        migration->count++;
    }
    return hash_of(migration, operations, error);
}

enum bk_status migrations_read(struct migration *migration, const char *directory,
                               struct bk_slice name, struct bk_arena *arena,
                               struct bk_error *error) {
    char path[MIGRATIONS_PATH_BYTES];
    struct bk_buffer text;
    *migration = (struct migration){.name = name};
    struct bk_slice terminated = bk_arena_copy(arena, name);
    if (!bk_path_join(path, sizeof path, directory, terminated.data))
        return bk_error_set(error, BK_INVALID, "the path is too long");
    bk_buffer_init(&text, MIGRATIONS_FILE_BYTES_MAX);
    enum bk_status status = bk_file_read(path, &text, error);
    struct bk_slice copy = bk_arena_copy(arena, bk_buffer_slice(&text));
    bk_buffer_fini(&text);
    if (status == BK_TOO_LARGE)
        return bk_error_set(error, status, "it is larger than %d bytes", MIGRATIONS_FILE_BYTES_MAX);
    return status == BK_OK ? migrations_parse(migration, name, copy, arena, error) : status;
}

/* --- writing ---------------------------------------------------------------------------------- */

void migrations_write_begin(struct bk_buffer *out) {
    bk_buffer_append_literal(out, "{\n  \"format\": 1,\n  \"operations\": [");
}

static void write_member(struct bk_buffer *out, const char *key, struct bk_slice text) {
    bk_buffer_format(out, ",\n      \"%s\": ", key);
    bk_json_write_string(out, text);
}

static void write_definition(struct bk_buffer *out, const char *key,
                             const struct bk_json *definition) {
    if (definition == NULL)
        return;
    bk_buffer_format(out, ",\n      \"%s\": ", key);
    migrations_write_pretty(out, definition, 3);
}

void migrations_write_operation(struct bk_buffer *out,
                                const struct migration_operation *operation) {
    bool is_first = out->length > 0 && out->data[out->length - 1] == '[';
    bk_buffer_format(out, "%s\n    {\n      \"operation\": \"%s\"", is_first ? "" : ",",
                     kind_names[operation->kind]);
    write_member(out, "collection", operation->name);
    write_member(out, "id", operation->id);
    write_definition(out, "before", operation->before);
    write_definition(out, "after", operation->after);
    bk_buffer_append_literal(out, "\n    }");
}

void migrations_write_end(struct bk_buffer *out) {
    bool is_empty = out->length > 0 && out->data[out->length - 1] == '[';
    bk_buffer_format(out, "%s]\n}\n", is_empty ? "" : "\n  ");
}

/* A copy of an object without some members. */
static struct bk_json *copy_without(struct bk_arena *arena, const struct bk_json *object,
                                    const char *const *names, size_t count) {
    struct bk_json *copy = bk_arena_alloc_zero(arena, sizeof *copy);
    struct bk_json **end = &copy->child;
    copy->type = BK_JSON_OBJECT;
    copy->key = object->key;
    for (const struct bk_json *child = object->child; child != NULL; child = child->next) {
        bool is_left_out = false;
        for (size_t i = 0; i < count; i++)
            is_left_out |= bk_slice_equal(child->key, bk_slice_from(names[i]));
        if (is_left_out)
            continue;
        struct bk_json *member = bk_arena_alloc(arena, sizeof *member);
        *member = *child;
        member->next = NULL;
        *end = member;
        end = &member->next;
        copy->child_count++;
    }
    return copy;
}

const struct bk_json *migrations_definition(struct bk_arena *arena,
                                            const struct bk_json *definition) {
    static const char *const left_out[] = {"created", "updated", "fields"};
    static const char *const providers[] = {"providers"};
    if (definition == NULL || definition->type != BK_JSON_OBJECT)
        return NULL;
    bool is_view = bk_slice_is(bk_json_get_string(definition, BK_SLICE("type")), "view");
    struct bk_json *copy =
        copy_without(arena, definition, left_out, BK_COUNT_OF(left_out) - (is_view ? 0 : 1));
    struct bk_json **link = &copy->child;
    for (; *link != NULL; link = &(*link)->next) {
        if (!bk_slice_is((*link)->key, "oauth2") || (*link)->type != BK_JSON_OBJECT)
            continue;
        struct bk_json *bare = copy_without(arena, *link, providers, BK_COUNT_OF(providers));
        bare->next = (*link)->next;
        *link = bare;
    }
    return copy;
}

bool migrations_reverse(const struct migration_operation *operation,
                        struct migration_operation *reverse) {
    *reverse = *operation;
    reverse->before = operation->after;
    reverse->after = operation->before;
    switch (operation->kind) {
    case MIGRATION_CREATE:
        reverse->kind = MIGRATION_DELETE;
        return true;
    case MIGRATION_DELETE:
        reverse->kind = MIGRATION_CREATE;
        return operation->before != NULL;
    case MIGRATION_UPDATE:
        return operation->before != NULL;
    case MIGRATION_PUT:
        return false;
    }
    BK_UNREACHABLE();
}
