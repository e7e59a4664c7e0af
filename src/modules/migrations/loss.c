/*
 * What a change would lose: the records of a collection that is removed, the values of a field that
 * is removed or gets another type, all but the last value where a field no longer keeps several.
 * Found by comparing the step with the schema, then counted on a reader. A number, a truth value or
 * a date counts as a value whatever it is; a text or a list when it is not empty.
 */
#include "migrations_private.h"

void migrations_losses_init(struct migration_losses *losses, struct bk_arena *arena) {
    *losses = (struct migration_losses){.arena = arena};
    bk_list_init(&losses->all);
}

/* --- finding ---------------------------------------------------------------------------------- */

static void add(struct migration_losses *losses, const struct bk_collection *collection,
                const struct bk_field *field, const char *reason, const char *condition) {
    struct bk_arena *arena = losses->arena;
    struct migration_loss *loss = bk_arena_alloc_zero(arena, sizeof *loss);
    struct bk_slice where = BK_SLICE("");
    loss->collection = bk_arena_copy(arena, collection->name);
    loss->reason = reason;
    if (field != NULL)
        loss->field = bk_arena_copy(arena, field->name);
    if (condition != NULL)
        where = bk_arena_format(arena, " WHERE (SELECT %s FROM (SELECT %.*s AS \"value\"))",
                                condition, BK_SLICE_PRINT(field->quoted));
    loss->count =
        bk_sql_make(bk_arena_format(arena, "SELECT count(*) FROM %.*s%.*s",
                                    BK_SLICE_PRINT(collection->quoted), BK_SLICE_PRINT(where)));
    bk_list_push(&losses->all, &loss->link);
}

static const char *has_value(const struct bk_field *field) {
    static const char *const always[] = {"number", "bool", "autodate"};
    for (size_t i = 0; i < BK_COUNT_OF(always); i++)
        if (strcmp(field->type->name, always[i]) == 0)
            return NULL;
    return "\"value\" IS NOT NULL AND CAST(\"value\" AS TEXT) NOT IN "
           "('', '[]', '{}', 'null', '{\"lon\":0,\"lat\":0}')";
}

/* By id; a definition that was written by hand may have names only. */
static const struct bk_json *find_field(const struct bk_json *fields,
                                        const struct bk_field *field) {
    for (const struct bk_json *item = fields->child; item != NULL; item = item->next) {
        struct bk_slice id = bk_json_get_string(item, BK_SLICE("id"));
        if (bk_slice_equal(id, field->id))
            return item;
        if (id.length == 0 &&
            bk_slice_equal(bk_json_get_string(item, BK_SLICE("name")), field->name) &&
            bk_slice_equal(bk_json_get_string(item, BK_SLICE("type")),
                           bk_slice_from(field->type->name)))
            return item;
    }
    return NULL;
}

static bool keeps_several(const struct bk_json *definition) {
    const struct bk_json *maximum = bk_json_get(definition, BK_SLICE("maxSelect"));
    int64_t count = 0;
    return maximum != NULL && bk_json_to_int64(maximum, &count) && count > 1;
}

static void add_field(struct migration_losses *losses, const struct migration_step *step,
                      const struct bk_field *field, const struct bk_json *fields) {
    const struct bk_collection *collection = field->collection;
    const struct bk_json *now = find_field(fields, field);
    if (now == NULL) {
        if (!field->is_system && !step->keeps_fields)
            add(losses, collection, field, "is removed", has_value(field));
        return;
    }
    struct bk_slice type = bk_json_get_string(now, BK_SLICE("type"));
    if (type.length > 0 && !bk_slice_equal(type, bk_slice_from(field->type->name)))
        add(losses, collection, field, "gets another type", has_value(field));
    else if (bk_field_is_multiple(field) && !keeps_several(now))
        add(losses, collection, field, "keeps its last value only",
            "json_valid(\"value\") AND json_array_length(\"value\") > 1");
}

void migrations_losses_add(struct migration_losses *losses, const struct bk_schema *schema,
                           const struct migration_step *step) {
    if (!step->is_needed || step->action == BK_SCHEMA_CREATE)
        return;
    const struct bk_collection *collection = bk_schema_find(schema, step->target);
    if (collection == NULL || collection->type == BK_COLLECTION_VIEW)
        return;
    if (step->action == BK_SCHEMA_DELETE) {
        add(losses, collection, NULL, "is removed", NULL);
        return;
    }
    const struct bk_json *fields = bk_json_get(step->definition, BK_SLICE("fields"));
    if (fields == NULL || fields->type != BK_JSON_ARRAY)
        return;
    for (uint32_t i = 0; i < collection->field_count; i++)
        add_field(losses, step, &collection->fields[i], fields);
}

/* --- counting --------------------------------------------------------------------------------- */

static enum bk_status count_one(struct bk_connection *connection, struct migration_loss *loss) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &loss->count, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    if (status == BK_OK)
        loss->record_count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status;
}

/* What cannot be counted in time is taken to be something. */
static enum bk_status on_run(struct bk_connection *connection, struct bk_read *read) {
    struct migration_losses *losses = bk_container_of(read, struct migration_losses, read);
    enum bk_status status = BK_OK;
    BK_LIST_FOR_EACH(link, &losses->all) {
        struct migration_loss *loss = bk_container_of(link, struct migration_loss, link);
        loss->record_count = -1;
        if (status != BK_OK)
            continue;
        status = count_one(connection, loss);
    }
    return status == BK_TIMEOUT ? BK_OK : status;
}

static void on_done(struct bk_read *read, enum bk_status status) {
    struct migration_losses *losses = bk_container_of(read, struct migration_losses, read);
    struct bk_list *next;
    for (struct bk_list *link = losses->all.next; link != &losses->all; link = next) {
        next = link->next;
        if (bk_container_of(link, struct migration_loss, link)->record_count == 0)
            bk_list_remove(link);
    }
    losses->done(losses, status);
}

enum bk_status migrations_losses_count(struct migration_losses *losses,
                                       struct bk_database *database) {
    if (losses->arena->is_overflown)
        return bk_arena_status(losses->arena);
    if (bk_list_is_empty(&losses->all))
        return BK_END;
    losses->read =
        (struct bk_read){.deadline_ms = MIGRATIONS_COUNT_MS, .run = on_run, .done = on_done};
    return bk_store_read(database, &losses->read);
}

/* --- saying ----------------------------------------------------------------------------------- */

void migrations_loss_write(struct bk_buffer *out, const struct migration_loss *loss) {
    bk_buffer_format(out, "%.*s%s%.*s %s: ", BK_SLICE_PRINT(loss->collection),
                     loss->field.length > 0 ? "." : "", BK_SLICE_PRINT(loss->field), loss->reason);
    if (loss->record_count < 0)
        bk_buffer_append_literal(out, "too many records to be counted in time");
    else
        bk_buffer_format(out, "%lld record%s", (long long)loss->record_count,
                         loss->record_count == 1 ? "" : "s");
}

void migrations_losses_write_json(struct bk_buffer *out, const struct migration_losses *losses) {
    bk_buffer_append_char(out, '[');
    BK_LIST_FOR_EACH(link, &losses->all) {
        const struct migration_loss *loss = bk_container_of(link, struct migration_loss, link);
        bk_json_write_separator(out);
        bk_buffer_append_char(out, '{');
        bk_json_write_member_string(out, BK_SLICE("collection"), loss->collection);
        bk_json_write_member_string(out, BK_SLICE("field"), loss->field);
        bk_json_write_member_string(out, BK_SLICE("reason"), bk_slice_from(loss->reason));
        bk_json_write_member_int(out, BK_SLICE("records"), loss->record_count);
        bk_buffer_append_char(out, '}');
    }
    bk_buffer_append_char(out, ']');
}
