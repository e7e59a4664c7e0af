/*
 * The engine that changes records, see record_change.h: from a body to a row, an event and an
 * answer.
 *
 *   prepare ─> find ─> read ─> begin ─┬─────────────────────> prepared
 *                                     └─> (hash, compare) ──────^        the last one calls
 *
 * What is wrong with an input is gathered field by field and told at once, but only to who may do
 * this at all: that is known on the writer, so what has been found before waits for it.
 *
 * Memory has two limits, the request's arena and the transaction's. A text that does not fit
 * becomes an empty one, so nothing is stored once either has overflown.
 */
#include "record_change.h"

#include "bakend/assert.h"
#include <stdio.h>

/* A type's work that is under way for one field. */
struct field_begun {
    struct bk_field_work work;
    struct record_change *change;
};

enum { LIMIT_TEXT_BYTES = 200 };

/* --- preparing -------------------------------------------------------------------------------- */

static void count_down(struct record_change *change) {
    if (--change->works_waiting > 0)
        return;
    if (change->begun_status == BK_OK)
        change->begun_status = bk_arena_status(&change->request->arena);
    change->prepared(change, change->begun_status);
}

static void on_work_done(struct record_change *change, enum bk_status status) {
    if (status != BK_OK && change->begun_status == BK_OK)
        change->begun_status = status;
    count_down(change);
}

static void on_field_done(struct bk_field_work *work, enum bk_status status) {
    struct field_begun *begun = bk_container_of(work, struct field_begun, work);
    on_work_done(begun->change, status);
}

static enum bk_status begin_field(struct record_change *change, const struct bk_field *field) {
    struct bk_arena *arena = &change->request->arena;
    struct field_begun *begun = bk_arena_alloc_zero(arena, sizeof(*begun));
    if (arena->is_overflown) /* what has begun would share memory */
        return bk_arena_status(arena);
    begun->change = change;
    begun->work = (struct bk_field_work){.done = on_field_done,
                                         .value = &change->sent[field->index],
                                         .arena = arena,
                                         .problems = &change->begun_problems,
                                         .field = field};
    return field->type->begin(&begun->work);
}

static void note_begun(struct record_change *change, enum bk_status status) {
    if (status == BK_END)
        change->works_waiting++;
    else if (status != BK_OK && change->begun_status == BK_OK)
        change->begun_status = status;
}

/* Starts what takes time; the last one to finish calls prepared. The change itself counts as
 * one. */
static void begin(struct record_change *change) {
    const struct bk_collection *collection = change->collection;
    bool hashes = true;
    change->works_waiting = 1;
    change->begun_status = BK_OK;
    bk_problems_init(&change->begun_problems, &change->request->arena);
    if (change->auth != NULL)
        change->begun_status = collections_auth_read(change, &hashes);
    if (change->auth != NULL && change->begun_status == BK_OK)
        note_begun(change, collections_auth_begin(change, on_work_done));
    for (uint32_t i = 0; hashes && i < collection->field_count; i++)
        if (change->begun_status == BK_OK && change->is_given[i] &&
            collection->fields[i].type->begin != NULL)
            note_begun(change, begin_field(change, &collection->fields[i]));
    count_down(change);
}

static enum bk_status read_values(struct record_change *change) {
    struct bk_arena *arena = &change->request->arena;
    uint32_t count = change->collection->field_count;
    change->sent = bk_arena_alloc(arena, count * sizeof(*change->sent));
    change->values = bk_arena_alloc(arena, count * sizeof(*change->values));
    change->is_given = bk_arena_alloc(arena, count);
    /* Memory of an overflown arena is shared: values would lie upon each other. */
    if (!arena->is_overflown)
        collections_input_read(change);
    if (!arena->is_overflown)
        collections_input_merge(change, NULL);
    return bk_arena_status(arena);
}

static bool is_asked_late(const struct record_change *change) {
    if (change->action == RECORD_UPSERT)
        return true;
    return change->action == RECORD_UPDATE && change->rule.length > 0 &&
           collections_input_needs_record(change);
}

/* --- asking before hashing -------------------------------------------------------------------- */

/* Who may not change a record is not to make passwords be hashed, nor to see by the time it takes
 * whether there is one. Parts of a batch are asked on the writer alone, since what stands before
 * them may be what makes the rule hold. */
static bool is_asked_before(const struct record_change *change) {
    const struct bk_field *password = bk_collection_field(change->collection, BK_SLICE("password"));
    return change->auth != NULL && change->action == RECORD_UPDATE && !change->is_asked_late &&
           password != NULL && change->is_given[password->index] &&
           !bk_slice_is(change->context, "batch") &&
           !bk_actor_is_superuser(&change->request->actor);
}

static enum bk_status on_ask(struct bk_connection *connection, struct bk_read *read) {
    const struct record_change *change = bk_container_of(read, struct record_change, asking);
    return bk_question_ask(&change->question, connection, change->id);
}

static void on_asked(struct bk_read *read, enum bk_status status) {
    struct record_change *change = bk_container_of(read, struct record_change, asking);
    if (status == BK_OK)
        begin(change);
    else
        change->prepared(change, status);
}

static void ask_before(struct record_change *change) {
    change->asking = (struct bk_read){.run = on_ask, .done = on_asked};
    enum bk_status status = bk_store_read(change->request->tenant->database, &change->asking);
    if (status != BK_OK)
        change->prepared(change, status);
}

void collections_change_prepare(struct record_change *change) {
    change->message = NULL;
    change->auth = NULL;
    change->is_upsert = change->action == RECORD_UPSERT;
    enum bk_status status = collections_ask_find(change);
    if (status == BK_OK && change->action != RECORD_DELETE)
        status = read_values(change);
    if (status == BK_OK && change->action != RECORD_DELETE &&
        change->collection->type == BK_COLLECTION_AUTH)
        status = collections_auth_make(change);
    if (status == BK_OK) {
        change->is_asked_late = is_asked_late(change);
        if (!change->is_asked_late)
            status = collections_ask_make(change);
    }
    if (status != BK_OK)
        change->prepared(change, status);
    else if (change->action == RECORD_DELETE)
        change->prepared(change, BK_OK);
    else if (is_asked_before(change))
        ask_before(change);
    else
        begin(change);
}

/* --- running ---------------------------------------------------------------------------------- */

/* A run may be the second one: what the first has found does not count. */
static void begin_run(struct record_change *change) {
    bk_problems_init(&change->request->problems, &change->request->arena);
    bk_buffer_clear(&change->request->out);
    change->message = NULL;
    if (change->is_upsert)
        change->action = RECORD_UPSERT;
}

static enum bk_status run_delete(struct record_change *change, struct bk_transaction *transaction) {
    enum bk_status status =
        bk_question_ask(&change->question, bk_transaction_connection(transaction), change->id);
    if (status != BK_OK)
        return status;
    return collections_record_remove(transaction, change->schema, change->collection, change->id,
                                     &change->request->problems, &change->message);
}

static enum bk_status decide_upsert(struct record_change *change,
                                    struct bk_transaction *transaction) {
    bool exists;
    enum bk_status status = collections_write_exists(change, transaction, &exists);
    if (status != BK_OK)
        return status;
    change->action = exists ? RECORD_UPDATE : RECORD_CREATE;
    change->request->method = exists ? BK_PATCH : BK_POST; /* to rules it is what it does */
    return collections_ask_decide(change);
}

static enum bk_status run_write(struct record_change *change, struct bk_transaction *transaction) {
    struct bk_request *request = change->request;
    enum bk_status status = BK_OK;
    if (change->is_upsert)
        status = decide_upsert(change, transaction);
    if (status == BK_OK && change->action == RECORD_CREATE)
        status = collections_write_create(change, transaction);
    else if (status == BK_OK)
        status = collections_write_update(change, transaction);
    if (status == BK_OK)
        status = collections_ask_show(change, transaction, change->values);
    return request->arena.is_overflown ? bk_arena_status(&request->arena) : status;
}

enum bk_status collections_change_run(struct record_change *change,
                                      struct bk_transaction *transaction) {
    begin_run(change);
    return change->action == RECORD_DELETE ? run_delete(change, transaction)
                                           : run_write(change, transaction);
}

void collections_change_finish(struct record_change *change) {
    if (change->schema != NULL)
        bk_schema_unref(change->schema);
    change->schema = NULL;
}

/* --- what became of it ------------------------------------------------------------------------ */

int collections_change_http_status(const struct record_change *change) {
    return change->action == RECORD_DELETE ? 204 : 200;
}

static const char *failure_message(const struct record_change *change) {
    return change->action == RECORD_UPDATE ? "Failed to update record."
                                           : "Failed to create record.";
}

/* Says which limit it was, as long as the request tells. */
static const char *too_large_message(struct record_change *change) {
    static const char lacking[] = "The record needs more memory than a write may have.";
    struct bk_request *request = change->request;
    char text[LIMIT_TEXT_BYTES];
    const char *what = "with the record that it changes it needs more memory than a write may have";
    size_t limit_bytes = BK_TRANSACTION_ARENA_BYTES_MAX;
    if (request->out.is_overflown) {
        what = "the record would be longer than an answer may be";
        limit_bytes = request->out.max_bytes;
    } else if (request->arena.is_overflown) {
        what = "its values need more memory than a request may have";
        limit_bytes = request->arena.max_bytes;
    }
    const char *failure = failure_message(change);
    int length = snprintf(text, sizeof(text), "%.*s: %s, %zu bytes.", (int)strlen(failure) - 1,
                          failure, what, limit_bytes);
    BK_ASSERT(length > 0 && (size_t)length < sizeof(text));
    /* The arena may be what is full, but its emergency memory has room for a sentence. */
    char *copy = bk_arena_alloc(&request->arena, sizeof(text));
    if (copy == NULL)
        return lacking;
    memcpy(copy, text, (size_t)length + 1);
    return copy;
}

static enum bk_status explain_delete(struct record_change *change, enum bk_status status) {
    switch (status) {
    case BK_CONFLICT:
        /* What refers to it may be nothing that others are told of. */
        if (change->message == NULL || !bk_actor_is_superuser(&change->request->actor))
            change->message = "Failed to delete record. Make sure that the record is not part of "
                              "a required relation reference.";
        return BK_INVALID;
    case BK_LIMIT:
        change->message = "Failed to delete record: more than 10000 records refer to it. Delete "
                          "those first.";
        return BK_INVALID;
    case BK_TIMEOUT:
        change->message =
            "Failed to delete record: too many records have to be looked through to find what "
            "refers to it. Make an index on the relation fields that point at it, or delete in "
            "parts, what refers to it first.";
        return BK_INVALID;
    case BK_TOO_LARGE:
        change->message = "Failed to delete record: one that is deleted or changed with it needs "
                          "more memory than a write may have, 64 MiB.";
        return status;
    default:
        return status;
    }
}

enum bk_status collections_change_explain(struct record_change *change, enum bk_status status) {
    BK_ASSERT(status != BK_OK);
    if (status == BK_STALE)
        status = BK_BUSY;
    if (change->action == RECORD_DELETE && (change->message == NULL || status == BK_CONFLICT))
        return explain_delete(change, status);
    if (change->message != NULL)
        return status;
    if (status == BK_TOO_LARGE)
        change->message = too_large_message(change);
    else if (status == BK_INVALID)
        change->message = failure_message(change);
    return status;
}
