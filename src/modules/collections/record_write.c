/*
 * Create and update, on the writer: rule → merge → fill → validate → check → SQL → event. What is
 * wrong is gathered field by field in request->problems; the rule comes before, so that who may not
 * change a record learns nothing of what would be wrong with it.
 */
#include "record_change.h"

enum { ID_DRAWS_MAX = 3 };

/* --- the record whole ------------------------------------------------------------------------- */

static void validate(struct record_change *change, const struct bk_field *field,
                     const struct bk_value *before) {
    const struct bk_value *value = &change->values[field->index];
    struct bk_problems *problems = &change->request->problems;
    if (field->type->validate_change != NULL)
        field->type->validate_change(field, before == NULL ? NULL : &before[field->index], value,
                                     change->uploads, problems);
    else if (field->type->validate != NULL)
        field->type->validate(field, value, problems);
}

static void fill_and_validate(struct record_change *change, const struct bk_value *before,
                              int64_t now_ms) {
    struct bk_request *request = change->request;
    const struct bk_collection *collection = change->collection;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        struct bk_value *value = &change->values[i];
        if (field->type->fill != NULL)
            field->type->fill(field, value, change->action == RECORD_CREATE, change->is_given[i],
                              now_ms, &request->arena);
        /* What takes time was judged when it began; what is stored now is not what the client
         * sent. */
        bool is_begun = field->type->begin != NULL && change->is_given[i];
        if (!is_begun)
            validate(change, field, before);
    }
}

static enum bk_status check_fields(struct record_change *change, struct bk_transaction *transaction,
                                   const struct bk_value *before) {
    const struct bk_collection *collection = change->collection;
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field->type->check == NULL)
            continue;
        if (before != NULL && bk_value_equal(&before[i], &change->values[i]))
            continue;
        enum bk_status status = field->type->check(field, &change->values[i], transaction,
                                                   change->schema, &change->request->problems);
        if (status != BK_OK)
            return status;
    }
    return change->request->problems.count > 0 ? BK_INVALID : BK_OK;
}

/* Apps send whole records back, so the same id may be given; another one may not. */
static void check_same_id(struct record_change *change, const struct bk_value *before) {
    const struct bk_field *id = change->collection->id_field;
    if (!bk_value_equal(&before[id->index], &change->values[id->index]))
        bk_problems_add(&change->request->problems, id->name, "validation_pk_change",
                        "The record primary key cannot be changed.");
    change->values[id->index] = before[id->index];
}

/* Of what has taken time; a second run takes them again. */
static void take_begun_problems(struct record_change *change) {
    struct bk_problems *problems = &change->request->problems;
    *problems = change->begun_problems;
    if (problems->last != NULL)
        problems->last->next = NULL;
}

/* All that can be wrong with the record, before it is written. */
static enum bk_status judge(struct record_change *change, struct bk_transaction *transaction,
                            const struct bk_value *before) {
    enum bk_status status = BK_OK;
    if (change->auth != NULL)
        status = collections_auth_check(change, transaction, before);
    if (status != BK_OK)
        return status;
    if (change->auth != NULL)
        collections_auth_fill(change, before);
    take_begun_problems(change);
    if (before != NULL)
        check_same_id(change, before);
    fill_and_validate(change, before, bk_transaction_now_ms(transaction));
    status = check_fields(change, transaction, before);
    if (status == BK_OK && change->auth != NULL)
        status = collections_auth_check_id(change, transaction);
    else if (status == BK_OK && collections_belongs(change->collection))
        status = collections_belonging_check(change, transaction);
    return status;
}

/* --- SQL -------------------------------------------------------------------------------------- */

/* "posts.title, posts.slug" → a problem for each field. */
void collections_conflict_explain(const struct bk_collection *collection,
                                  struct bk_connection *connection, struct bk_problems *problems) {
    struct bk_slice rest = bk_connection_conflict(connection), column;
    while (bk_slice_split(&rest, ',', &column)) {
        column = bk_slice_trim(column);
        size_t dot = bk_slice_find(column, '.');
        struct bk_slice name = dot == column.length
                                   ? column
                                   : bk_slice_make(column.data + dot + 1, column.length - dot - 1);
        if (bk_collection_field(collection, name) != NULL)
            bk_problems_add(problems, name, "validation_not_unique", "Value must be unique.");
    }
}

static enum bk_status explain_conflict(struct record_change *change,
                                       struct bk_connection *connection) {
    collections_conflict_explain(change->collection, connection, &change->request->problems);
    return BK_INVALID;
}

static bool is_id_conflict(const struct record_change *change, struct bk_connection *connection) {
    struct bk_slice column = bk_connection_conflict(connection);
    const struct bk_slice name = change->collection->id_field->name;
    return bk_slice_find(column, ',') == column.length && bk_slice_ends_with(column, name) &&
           column.length == change->collection->name.length + 1 + name.length;
}

/* A generated id that clashes is drawn again. */
static enum bk_status insert(struct record_change *change, struct bk_connection *connection,
                             int64_t now_ms) {
    const struct bk_field *id = change->collection->id_field;
    for (int draw = 1;; draw++) {
        enum bk_status status = bk_record_insert(change->collection, connection, change->values);
        if (status != BK_CONFLICT)
            return status;
        if (!change->is_id_generated || draw == ID_DRAWS_MAX || !is_id_conflict(change, connection))
            return explain_conflict(change, connection);
        id->type->empty(id, &change->values[id->index]);
        id->type->fill(id, &change->values[id->index], true, false, now_ms,
                       &change->request->arena);
    }
}

/* --- create ----------------------------------------------------------------------------------- */

/* A rule may look at the id that the record will have; that it is verified is nothing that who
 * creates it can say. */
static enum bk_status ask_create(struct record_change *change, struct bk_transaction *transaction) {
    const struct bk_field *id = change->collection->id_field;
    if (!change->question.is_there)
        return BK_OK;
    id->type->fill(id, &change->values[id->index], true, !change->is_id_generated,
                   bk_transaction_now_ms(transaction), &change->request->arena);
    enum bk_status status = collections_auth_ask_values(change, &change->question, transaction);
    return status == BK_NOT_FOUND ? BK_INVALID : status;
}

enum bk_status collections_write_create(struct record_change *change,
                                        struct bk_transaction *transaction) {
    const struct bk_field *id = change->collection->id_field;
    enum bk_status status = BK_OK;
    collections_input_merge(change, NULL);
    change->is_id_generated = change->values[id->index].text.length == 0;
    if (change->is_asked_late)
        status = collections_ask_make(change);
    if (status == BK_OK)
        status = ask_create(change, transaction);
    if (status == BK_OK)
        status = judge(change, transaction, NULL);
    if (status == BK_OK)
        status = insert(change, bk_transaction_connection(transaction),
                        bk_transaction_now_ms(transaction));
    if (status == BK_OK)
        status = bk_record_emit(transaction, change->collection, NULL, change->values);
    return status;
}

/* --- update ----------------------------------------------------------------------------------- */

enum bk_status collections_write_exists(struct record_change *change,
                                        struct bk_transaction *transaction, bool *exists) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(transaction),
                                                    &change->collection->exists_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, change->id);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    *exists = status == BK_OK;
    return status == BK_END ? BK_OK : status;
}

enum bk_status collections_write_read(struct record_change *change,
                                      struct bk_transaction *transaction, struct bk_value *values) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(bk_transaction_connection(transaction),
                                                    &change->collection->select_by_id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, change->id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        status = collections_record_copy(change->collection, statement, values,
                                         bk_transaction_arena(transaction));
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* Reads the record, makes what is asked of it where that was not known before, and asks. */
static enum bk_status ask_update(struct record_change *change, struct bk_transaction *transaction,
                                 struct bk_value *before) {
    enum bk_status status = collections_write_read(change, transaction, before);
    if (status != BK_OK)
        return status;
    collections_input_merge(change, before);
    if (change->is_asked_late)
        status = collections_ask_make(change);
    if (status == BK_OK)
        status =
            bk_question_ask(&change->question, bk_transaction_connection(transaction), change->id);
    return status;
}

enum bk_status collections_write_update(struct record_change *change,
                                        struct bk_transaction *transaction) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_value *before = bk_arena_alloc(bk_transaction_arena(transaction),
                                             change->collection->field_count * sizeof(*before));
    if (before == NULL)
        return BK_TOO_LARGE;
    enum bk_status status = ask_update(change, transaction, before);
    if (status != BK_OK)
        return status;
    status = judge(change, transaction, before);
    if (status == BK_OK)
        status = bk_record_update(change->collection, connection, before, change->values);
    if (status == BK_CONFLICT)
        status = explain_conflict(change, connection);
    if (status == BK_OK)
        status = bk_record_emit(transaction, change->collection, before, change->values);
    return status == BK_OK ? collections_belonging_end(change, transaction, before) : status;
}
