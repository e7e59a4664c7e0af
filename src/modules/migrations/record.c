/*
 * What a superuser changes in the tenant "default" becomes a migration file.
 *
 *   writer  the change's events → the file's text → a row of _migrations_applied that holds it, in
 *           the transaction of the change; the file itself, hidden, beside its place
 *   loop    the change is committed → the hidden file gets its name, before the answer leaves
 *   pool    the file is made sure of on the disk → the row lets go of the text
 *
 * So a change and its row come or stay away together. When the process ends anywhere in between,
 * the next start writes the file from the row; a hidden file without a row is nobody's. A folder
 * that cannot be written is no reason to refuse the change: the row keeps the text and the log says
 * so.
 *
 * What a file has done is not recorded again: its events have the file for their actor. One
 * transaction is one file, so an import of forty collections is one.
 */
#include "migrations_private.h"

#include "bakend/failpoint.h"
#include "bakend/file.h"
#include <stdio.h>

bool migrations_hidden_path(char path[MIGRATIONS_PATH_BYTES], const char *directory,
                            struct bk_slice name) {
    int length =
        snprintf(path, MIGRATIONS_PATH_BYTES, "%s/.%.*s.new", directory, BK_SLICE_PRINT(name));
    return length > 0 && length < MIGRATIONS_PATH_BYTES;
}

/* --- events → operations ---------------------------------------------------------------------- */

/* Asked of every event there is: nearly all are told by their first letter. */
static bool is_of_definitions(const struct bk_event_fields *fields) {
    return fields->type.data[0] == '_' &&
           bk_slice_starts_with(fields->type, BK_SLICE("_collections.")) &&
           !bk_slice_starts_with(fields->actor, BK_SLICE(MIGRATIONS_ACTOR));
}

static enum migration_kind kind_of(const struct bk_event_fields *fields) {
    if (bk_slice_ends_with(fields->type, BK_SLICE(".created")))
        return MIGRATION_CREATE;
    return bk_slice_ends_with(fields->type, BK_SLICE(".deleted")) ? MIGRATION_DELETE
                                                                  : MIGRATION_UPDATE;
}

/* The row has what was too large for the event. */
static enum bk_status read_whole(struct bk_transaction *transaction, struct bk_slice id,
                                 struct bk_arena *arena, struct bk_slice *text) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT definition FROM _collections WHERE id = ?1"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    *text =
        status == BK_OK ? bk_arena_copy(arena, bk_statement_text(statement, 0)) : BK_SLICE_EMPTY;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status read_definition(struct bk_arena *arena, struct bk_slice text,
                                      const struct bk_json **definition) {
    struct bk_json *parsed;
    *definition = NULL;
    if (text.length == 0)
        return BK_OK;
    enum bk_status status = bk_json_parse(arena, text, &parsed, NULL);
    if (status == BK_OK)
        *definition = migrations_definition(arena, parsed);
    return status;
}

static enum bk_status read_operation(struct bk_transaction *transaction,
                                     const struct bk_event_fields *fields, struct bk_arena *arena,
                                     struct migration_operation *operation) {
    struct bk_slice payload = fields->payload, previous = fields->previous;
    struct bk_slice id = fields->subject;
    const size_t skipped = sizeof "_collections/" - 1;
    enum bk_status status = BK_OK;
    BK_ASSERT(id.length > skipped);
    id = bk_slice_make(id.data + skipped, id.length - skipped);
    *operation = (struct migration_operation){.kind = kind_of(fields), .id = id};
    if (fields->omitted.length > 0) {
        previous = BK_SLICE_EMPTY;
        status = read_whole(transaction, id, arena, &payload);
    }
    const struct bk_json *now = NULL;
    if (status == BK_OK)
        status = read_definition(arena, payload, &now);
    if (status == BK_OK)
        status = read_definition(arena, previous, &operation->before);
    if (operation->kind == MIGRATION_DELETE)
        operation->before = now;
    else
        operation->after = now;
    const struct bk_json *named = operation->before != NULL ? operation->before : now;
    operation->name = bk_json_get_string(named, BK_SLICE("name"));
    if (operation->name.length == 0)
        operation->name = id;
    return status;
}

/* --- a file's text ---------------------------------------------------------------------------- */

struct recording {
    struct bk_transaction *transaction;
    struct bk_arena arena;
    struct bk_buffer text;
    uint32_t count;
    enum migration_kind kind; /* of the last operation */
    struct bk_slice what;     /* it concerns */
};

static enum bk_status add_event(struct recording *recording, const struct bk_event_fields *fields) {
    struct migration_operation operation;
    enum bk_status status =
        read_operation(recording->transaction, fields, &recording->arena, &operation);
    if (status != BK_OK)
        return status;
    if (operation.kind != MIGRATION_DELETE && operation.after == NULL)
        return BK_OK;
    if (operation.kind == MIGRATION_UPDATE && operation.before != NULL &&
        migrations_json_equal(operation.before, operation.after))
        return BK_OK;
    migrations_write_operation(&recording->text, &operation);
    recording->kind = operation.kind;
    recording->what = bk_arena_copy(&recording->arena, operation.name);
    recording->count++;
    return BK_OK;
}

/* A file that cannot be written now is written later: see flush.c. */
static void prepare_file(const struct migrations_state *state, struct bk_slice name,
                         struct bk_slice text) {
    char path[MIGRATIONS_PATH_BYTES];
    if (migrations_hidden_path(path, state->directory, name) &&
        bk_directory_create(state->directory, NULL) == BK_OK)
        (void)bk_file_write_atomic(path, text, NULL);
}

static enum bk_status keep(const struct migrations_state *state, struct recording *recording) {
    static const char *const verbs[] = {"created", "updated", "deleted", "put"};
    struct migration parsed;
    int64_t seconds = 0;
    enum bk_status status =
        migrations_row_seconds(bk_transaction_connection(recording->transaction),
                               bk_transaction_now_ms(recording->transaction), &seconds);
    if (status != BK_OK)
        return status;
    bool is_one = recording->count == 1;
    struct bk_slice name = migrations_name_make(
        &recording->arena, seconds, is_one ? verbs[recording->kind] : "changed",
        is_one ? recording->what
               : bk_arena_format(&recording->arena, "%u_collections", recording->count));
    struct bk_slice text = bk_buffer_slice(&recording->text);
    status = bk_buffer_status(&recording->text);
    if (status == BK_OK)
        status = migrations_parse(&parsed, name, text, &recording->arena, NULL);
    if (status == BK_OK)
        status = migrations_row_insert(recording->transaction, name,
                                       bk_slice_make(parsed.hash, sizeof parsed.hash), text);
    if (status == BK_OK) {
        prepare_file(state, name, text);
        status = BK_FAILPOINT("migrations.prepared");
    }
    return status;
}

static enum bk_status record(const struct migrations_state *state,
                             struct bk_transaction *transaction, struct bk_event *const *events,
                             size_t event_count) {
    struct recording recording = {.transaction = transaction};
    enum bk_status status = BK_OK;
    bk_arena_init(&recording.arena, MIGRATIONS_ARENA_BYTES_MAX);
    bk_buffer_init(&recording.text, MIGRATIONS_FILE_BYTES_MAX);
    migrations_write_begin(&recording.text);
    for (size_t i = 0; i < event_count && status == BK_OK; i++)
        if (is_of_definitions(&events[i]->fields))
            status = add_event(&recording, &events[i]->fields);
    migrations_write_end(&recording.text);
    if (status == BK_OK && recording.count > 0)
        status = keep(state, &recording);
    if (status == BK_OK)
        status = bk_arena_status(&recording.arena);
    bk_buffer_fini(&recording.text);
    bk_arena_fini(&recording.arena);
    return status;
}

static enum bk_status on_before_commit(struct bk_commit_hook *hook,
                                       struct bk_transaction *transaction,
                                       struct bk_event *const *events, size_t event_count) {
    const struct migrations_state *state = bk_container_of(hook, struct migrations_state, hook);
    bool is_concerned = false;
    for (size_t i = 0; i < event_count; i++)
        is_concerned |= is_of_definitions(&events[i]->fields);
    if (!is_concerned || !bk_slice_is(bk_transaction_tenant(transaction), "default"))
        return BK_OK;
    return record(state, transaction, events, event_count);
}

/* --- after the commit ------------------------------------------------------------------------- */

/* The file appears before the client hears of its change; that it is durable comes later. */
static void give_names(const struct migrations_state *state, struct bk_tenant *tenant) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT name FROM _migrations_applied WHERE body != ''"));
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    char hidden[MIGRATIONS_PATH_BYTES], path[MIGRATIONS_PATH_BYTES];
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK)
        return;
    while (bk_statement_step(statement) == BK_OK) {
        struct bk_slice name = bk_statement_text(statement, 0);
        int length = snprintf(path, sizeof path, "%s/%.*s", state->directory, BK_SLICE_PRINT(name));
        if (length > 0 && length < MIGRATIONS_PATH_BYTES &&
            migrations_hidden_path(hidden, state->directory, name) && !bk_file_exists(path))
            (void)rename(hidden, path);
    }
    bk_statement_reset(statement);
}

static void start_flush(struct migrations_state *state, struct bk_tenant *tenant);

static void on_flushed(void *user, enum bk_status status) {
    struct migrations_state *state = user;
    struct bk_tenant *tenant = state->flushing;
    (void)status; /* said in the log; the next change tries again */
    state->flushing = NULL;
    if (state->flushes_again)
        start_flush(state, tenant);
}

/* One at a time: what comes meanwhile is the next one's, all together. */
static void start_flush(struct migrations_state *state, struct bk_tenant *tenant) {
    state->flushes_again = state->flushing != NULL;
    if (state->flushes_again)
        return;
    state->flushing = tenant;
    migrations_flush(state, tenant, on_flushed, state);
}

static void on_committed(struct bk_bus_tap *tap, struct bk_tenant *tenant,
                         struct bk_event *const *events, size_t event_count) {
    struct migrations_state *state = bk_container_of(tap, struct migrations_state, tap);
    bool is_concerned = false;
    for (size_t i = 0; i < event_count; i++)
        is_concerned |= is_of_definitions(&events[i]->fields);
    if (!is_concerned || !bk_slice_is(tenant->name, "default"))
        return;
    (void)BK_FAILPOINT("migrations.committed");
    give_names(state, tenant);
    start_flush(state, tenant);
}

void migrations_record_start(struct migrations_state *state) {
    state->hook.before_commit = on_before_commit;
    state->tap.on_committed = on_committed;
    if (!state->is_recording)
        return;
    bk_store_add_commit_hook(state->context->store, &state->hook);
    bk_bus_add_tap(state->context->bus, &state->tap);
}

void migrations_record_stop(struct migrations_state *state) {
    if (state->is_recording)
        bk_bus_remove_tap(&state->tap);
}

/* --- a snapshot ------------------------------------------------------------------------------- */

static void write_put(struct bk_buffer *out, const struct bk_collection *collection,
                      struct bk_arena *arena) {
    struct bk_json *definition;
    if (bk_json_parse(arena, collection->definition, &definition, NULL) != BK_OK)
        return;
    const struct migration_operation operation = {.kind = MIGRATION_PUT,
                                                  .id = collection->id,
                                                  .name = collection->name,
                                                  .after =
                                                      migrations_definition(arena, definition)};
    migrations_write_operation(out, &operation);
}

/* Views last, since they read the others. */
void migrations_snapshot_write(struct bk_buffer *out, const struct bk_schema *schema,
                               struct bk_arena *arena) {
    migrations_write_begin(out);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < bk_schema_count(schema); i++) {
            const struct bk_collection *collection = bk_schema_at(schema, i);
            if (!collection->is_unlisted && (collection->type == BK_COLLECTION_VIEW) == (pass == 1))
                write_put(out, collection, arena);
        }
    }
    migrations_write_end(out);
}
