/*
 * From an operation and the collection as it is now to the change that is to be made.
 *
 * An update is what is different between its before and its after, laid over what is there: fields
 * are matched by id, so that a renamed one keeps its values, and those that neither before nor
 * after knows stay, since somebody else's migration has brought them. What is already as it should
 * be is no change, so that a file can meet a database that has all of it, or half, without harm.
 */
#include "migrations_private.h"

static const struct bk_json *find_by_id(const struct bk_json *list, struct bk_slice id) {
    for (const struct bk_json *item = list == NULL ? NULL : list->child; item != NULL;
         item = item->next)
        if (id.length > 0 && bk_slice_equal(bk_json_get_string(item, BK_SLICE("id")), id))
            return item;
    return NULL;
}

static const struct bk_json *find_text(const struct bk_json *list, struct bk_slice text) {
    for (const struct bk_json *item = list == NULL ? NULL : list->child; item != NULL;
         item = item->next)
        if (item->type == BK_JSON_STRING && bk_slice_equal(item->string, text))
            return item;
    return NULL;
}

static void write_item(struct bk_buffer *out, const struct bk_json *item) {
    bk_json_write_separator(out);
    migrations_write_compact(out, item);
}

/* before NULL: nothing is known to be somebody else's but what after lacks. */
static void write_fields(struct bk_buffer *out, const struct bk_json *current,
                         const struct bk_json *before, const struct bk_json *after) {
    bk_buffer_append_char(out, '[');
    for (const struct bk_json *field = after->child; field != NULL; field = field->next) {
        struct bk_slice id = bk_json_get_string(field, BK_SLICE("id"));
        const struct bk_json *former = find_by_id(before, id);
        const struct bk_json *now = find_by_id(current, id);
        if (former == NULL || !migrations_json_equal(former, field))
            write_item(out, field);
        else if (now != NULL)
            write_item(out, now);
    }
    for (const struct bk_json *field = current == NULL ? NULL : current->child;
         before != NULL && field != NULL; field = field->next) {
        struct bk_slice id = bk_json_get_string(field, BK_SLICE("id"));
        if (find_by_id(after, id) == NULL && find_by_id(before, id) == NULL)
            write_item(out, field);
    }
    bk_buffer_append_char(out, ']');
}

static void write_indexes(struct bk_buffer *out, const struct bk_json *current,
                          const struct bk_json *before, const struct bk_json *after) {
    bk_buffer_append_char(out, '[');
    for (const struct bk_json *index = after->child; index != NULL; index = index->next)
        if (find_text(before, index->string) == NULL || find_text(current, index->string) != NULL)
            write_item(out, index);
    for (const struct bk_json *index = current == NULL ? NULL : current->child;
         before != NULL && index != NULL; index = index->next)
        if (find_text(after, index->string) == NULL && find_text(before, index->string) == NULL)
            write_item(out, index);
    bk_buffer_append_char(out, ']');
}

static bool is_list(const struct bk_json *member, const char *name) {
    return member->type == BK_JSON_ARRAY && bk_slice_equal(member->key, bk_slice_from(name));
}

static void write_member(struct bk_buffer *out, const struct bk_json *current,
                         const struct bk_json *before, const struct bk_json *member) {
    const struct bk_json *now = bk_json_get(current, member->key);
    const struct bk_json *former = bk_json_get(before, member->key);
    bk_json_write_key(out, member->key);
    if (is_list(member, "fields"))
        write_fields(out, now, former, member);
    else if (is_list(member, "indexes"))
        write_indexes(out, now, former, member);
    else
        migrations_write_compact(out, member);
}

/* The members of after that the update changes. before NULL: all of them. */
static void write_patch(struct bk_buffer *out, const struct bk_json *current,
                        const struct bk_json *before, const struct bk_json *after) {
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *member = after->child; member != NULL; member = member->next) {
        const struct bk_json *former = bk_json_get(before, member->key);
        if (!bk_slice_is(member->key, "id") &&
            (former == NULL || !migrations_json_equal(former, member)))
            write_member(out, current, before, member);
    }
    bk_buffer_append_char(out, '}');
}

/* Parsed anew, so that each value's text is its own. */
static enum bk_status parse(struct bk_arena *arena, const struct bk_buffer *text,
                            const struct bk_json **value, struct bk_error *error) {
    struct bk_json *made = NULL;
    struct bk_slice copy = bk_arena_copy(arena, bk_buffer_slice(text));
    enum bk_status status = bk_buffer_status(text);
    if (status == BK_OK)
        status = bk_arena_status(arena);
    if (status != BK_OK)
        return bk_error_set(error, status, "the definition is too large");
    status = bk_json_parse(arena, copy, &made, error);
    *value = made;
    return status;
}

static struct bk_json **append(struct bk_arena *arena, struct bk_json *object, struct bk_json **end,
                               const struct bk_json *member) {
    struct bk_json *copy = bk_arena_alloc(arena, sizeof *copy);
    *copy = *member;
    copy->next = NULL;
    *end = copy;
    object->child_count++;
    return &copy->next;
}

const struct bk_json *migrations_overlay(struct bk_arena *arena, const struct bk_json *current,
                                         const struct bk_json *patch) {
    struct bk_json *whole = bk_arena_alloc_zero(arena, sizeof *whole);
    struct bk_json **end = &whole->child;
    whole->type = BK_JSON_OBJECT;
    for (const struct bk_json *member = patch->child; member != NULL; member = member->next)
        end = append(arena, whole, end, member);
    for (const struct bk_json *member = current->child; member != NULL; member = member->next)
        if (bk_json_get(patch, member->key) == NULL)
            end = append(arena, whole, end, member);
    return whole;
}

static enum bk_status resolve_update(const struct migration_operation *operation,
                                     const struct bk_json *current, struct bk_arena *arena,
                                     struct migration_step *step, struct bk_error *error) {
    struct bk_buffer text;
    step->action = BK_SCHEMA_UPDATE;
    bk_buffer_init(&text, MIGRATIONS_FILE_BYTES_MAX);
    write_patch(&text, current, operation->kind == MIGRATION_PUT ? NULL : operation->before,
                operation->after);
    enum bk_status status = parse(arena, &text, &step->definition, error);
    bk_buffer_fini(&text);
    if (status != BK_OK)
        return status;
    step->is_needed = !migrations_json_covers(current, step->definition);
    step->result = migrations_overlay(arena, current, step->definition);
    return BK_OK;
}

static enum bk_status resolve_create(const struct migration_operation *operation,
                                     const struct bk_json *current, struct migration_step *step,
                                     struct bk_error *error) {
    step->action = BK_SCHEMA_CREATE;
    step->definition = step->result = operation->after;
    step->is_needed = current == NULL;
    if (current == NULL || migrations_json_covers(current, operation->after))
        return BK_OK;
    return bk_error_set(error, BK_CONFLICT,
                        "the collection %.*s (%.*s) exists already and is another: remove it, or "
                        "make the migration an update of it",
                        BK_SLICE_PRINT(bk_json_get_string(current, BK_SLICE("name"))),
                        BK_SLICE_PRINT(operation->id));
}

/* As the steps before leave it; NULL when there is none. */
static enum bk_status find_current(const struct bk_schema *schema, struct bk_arena *arena,
                                   const struct migration_step *steps, uint32_t number,
                                   const struct bk_json **current, struct bk_error *error) {
    struct bk_slice id = steps[number].target;
    struct bk_json *parsed = NULL;
    for (uint32_t i = number; i > 0; i--) {
        if (!bk_slice_equal(steps[i - 1].target, id))
            continue;
        *current = steps[i - 1].result;
        return BK_OK;
    }
    const struct bk_collection *there = bk_schema_find(schema, id);
    *current = NULL;
    if (there == NULL || !bk_slice_equal(there->id, id))
        return BK_OK;
    enum bk_status status = bk_json_parse(arena, there->definition, &parsed, error);
    *current = parsed;
    return status;
}

enum bk_status migrations_resolve(const struct migration_operation *operation,
                                  const struct bk_schema *schema, struct bk_arena *arena,
                                  struct migration_step *steps, uint32_t number,
                                  struct bk_error *error) {
    struct migration_step *step = &steps[number];
    const struct bk_json *current;
    *step = (struct migration_step){.target = operation->id};
    enum bk_status status = find_current(schema, arena, steps, number, &current, error);
    if (status != BK_OK)
        return status;
    if (operation->kind == MIGRATION_DELETE) {
        step->action = BK_SCHEMA_DELETE;
        step->is_needed = current != NULL;
        return BK_OK;
    }
    if (operation->kind == MIGRATION_CREATE ||
        (operation->kind == MIGRATION_PUT && current == NULL))
        return resolve_create(operation, current, step, error);
    if (current == NULL)
        return bk_error_set(error, BK_CONFLICT,
                            "there is no collection %.*s (%.*s): the migration that makes it is "
                            "missing",
                            BK_SLICE_PRINT(operation->name), BK_SLICE_PRINT(operation->id));
    return resolve_update(operation, current, arena, step, error);
}
