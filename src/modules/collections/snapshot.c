/*
 * A collection as one stream, to make a copy of it that the change feed then keeps: NDJSON,
 *
 *   {"from":cursor}             where the feed stood before the first read
 *   {"collectionId":…,"id":…}   a record a line, as REST shows it to this actor, by id; where the
 *                               list rule is an expression, those that it shows them
 *   {"done":true,"to":cursor}   where it stood in the last read
 *
 * The rows are read in pieces, each in a read transaction of its own that begins behind the last
 * id, so that a slow client keeps nobody's snapshot of the database open. What changes while the
 * stream runs is therefore in it or not; the feed of (from, to] has all of it, and a copy to which
 * that was applied is exact at `to`. `to` is read inside the last transaction: no row that was sent
 * is younger.
 *
 *   read ─> write ─┬─ there is room ──> read …
 *                  ├─ clogged ── on_drain ──> read …
 *                  └─ the last ──> {"done"} ──> end
 *
 * A rule may hold for few of many records. Each read therefore looks at a window of ids: it ends at
 * the window's end although no record was found, and the next one begins there. A window that takes
 * longer than a read may is halved.
 *
 * Before the first piece was read what goes wrong is an ordinary answer. Afterwards it is a last
 * line {"error":{"status","code","message"}}: a stream without `done` is no copy. A collection that
 * is changed or deleted meanwhile ends it, which each read sees in its own transaction.
 */
#include "collections.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"

enum {
    PIECE_ROWS = 500,
    WINDOW_ROWS = 5000, /* that a rule is asked about in a read */
    SQL_BYTES_MAX = 4 * 1024 * 1024,
    CONDITION_PARAMETER = 4, /* behind the limit and both ends of the window */
    PIECE_BYTES = 256 * 1024,
    PIECE_BYTES_MAX = 64 * 1024 * 1024, /* with the row that passes PIECE_BYTES */
    ACTIVE_MAX = 64,                    /* snapshots at a time, in the whole process */
    TENANT_ACTIVE_MAX = 16,             /* … of one tenant: its clients may be slow for hours */
    RETRY_MS = 50,                      /* after a read that could not be queued or was too slow */
    RETRIES_MAX = 40,                   /* in a row */
};

struct snapshot {
    struct bk_list link; /* in the module's list of those that run */
    struct bk_request *request;
    struct collections_snapshots *owner;
    struct bk_read read;
    struct bk_timer *retry;
    struct bk_schema *schema; /* as it was planned with */
    const struct bk_collection *collection;
    struct bk_slice rule; /* empty: every record is shown */
    struct bk_asker asker;
    struct bk_filter_sql condition;
    struct bk_show *show;
    struct bk_sql first_sql, next_sql;            /* without a rule */
    struct bk_sql window_sql, part_sql, rest_sql; /* with one */
    struct bk_buffer piece, last_id;
    struct bk_buffer window_end;     /* of this read; empty: there is nothing behind it */
    struct bk_journal_state journal; /* as the stream began */
    uint64_t to;
    uint32_t row_count; /* of this piece */
    uint32_t retry_count;
    bool is_last, is_changed, is_begun, waits_for_drain, is_draining;
};

static void read_piece(struct snapshot *snapshot);

/* --- on a reader ------------------------------------------------------------------------------ */

/* Whether the definition is still the one that the request was planned with. */
static enum bk_status check_definition(struct snapshot *snapshot,
                                       struct bk_connection *connection) {
    struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT updated FROM _collections WHERE id = ?1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, snapshot->collection->id);
    status = bk_statement_step(statement);
    snapshot->is_changed =
        status == BK_END || (status == BK_OK && !bk_slice_equal(bk_statement_text(statement, 0),
                                                                snapshot->collection->updated));
    bk_statement_reset(statement);
    return snapshot->is_changed ? BK_STALE : status;
}

/* The id up to which this read looks; none when all that is left fits. */
static enum bk_status find_window(struct snapshot *snapshot, struct bk_connection *connection) {
    struct bk_statement *statement;
    uint32_t rows = WINDOW_ROWS >> (snapshot->retry_count < 12 ? snapshot->retry_count : 12);
    bk_buffer_clear(&snapshot->window_end);
    enum bk_status status = bk_connection_statement(connection, &snapshot->window_sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_buffer_slice(&snapshot->last_id));
    bk_statement_bind_int(statement, 2, rows);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        bk_buffer_append_slice(&snapshot->window_end, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* What the rule shows of the window. */
static enum bk_status begin_shown_rows(struct snapshot *snapshot, struct bk_connection *connection,
                                       struct bk_statement **statement) {
    const struct bk_filter_sql *condition = &snapshot->condition;
    enum bk_status status = find_window(snapshot, connection);
    bool is_part = snapshot->window_end.length > 0;
    if (status == BK_OK)
        status = bk_connection_statement(
            connection, is_part ? &snapshot->part_sql : &snapshot->rest_sql, statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(*statement, 1, PIECE_ROWS);
    bk_statement_bind_text(*statement, 2, bk_buffer_slice(&snapshot->last_id));
    bk_statement_bind_text(*statement, 3, bk_buffer_slice(&snapshot->window_end));
    for (uint32_t i = 0; i < condition->value_count; i++)
        bk_statement_bind(*statement, CONDITION_PARAMETER + (int)i, &condition->values[i]);
    return BK_OK;
}

static enum bk_status begin_rows(struct snapshot *snapshot, struct bk_connection *connection,
                                 struct bk_statement **statement) {
    bool is_first = snapshot->last_id.length == 0;
    if (snapshot->rule.length > 0)
        return begin_shown_rows(snapshot, connection, statement);
    enum bk_status status = bk_connection_statement(
        connection, is_first ? &snapshot->first_sql : &snapshot->next_sql, statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(*statement, 1, PIECE_ROWS);
    if (!is_first)
        bk_statement_bind_text(*statement, 2, bk_buffer_slice(&snapshot->last_id));
    return BK_OK;
}

static enum bk_status write_row(struct snapshot *snapshot, struct bk_connection *connection,
                                struct bk_statement *statement) {
    const struct bk_collection *collection = snapshot->collection;
    struct bk_value values[BK_COLLECTION_FIELDS_MAX];
    size_t start = snapshot->piece.length;
    bk_record_read(collection, statement, values);
    enum bk_status status = bk_show_write(snapshot->show, connection, values, &snapshot->piece);
    if (status != BK_OK) {
        snapshot->piece.length = start;
        return status;
    }
    bk_buffer_append_char(&snapshot->piece, '\n');
    bk_buffer_clear(&snapshot->last_id);
    bk_buffer_append_slice(&snapshot->last_id, values[collection->id_field->index].text);
    snapshot->row_count++;
    return BK_OK;
}

/* BK_END: there is no row behind the last one. */
static enum bk_status write_rows(struct snapshot *snapshot, struct bk_connection *connection,
                                 struct bk_statement *statement) {
    enum bk_status status = BK_OK;
    while (status == BK_OK && snapshot->row_count < PIECE_ROWS &&
           snapshot->piece.length < PIECE_BYTES) {
        status = bk_statement_step(statement);
        if (status == BK_OK)
            status = write_row(snapshot, connection, statement);
    }
    bk_statement_reset(statement);
    if (snapshot->piece.is_overflown || snapshot->last_id.is_overflown)
        return bk_buffer_status(snapshot->piece.is_overflown ? &snapshot->piece
                                                             : &snapshot->last_id);
    if (status == BK_END && snapshot->window_end.length > 0) {
        bk_buffer_clear(&snapshot->last_id);
        bk_buffer_append_slice(&snapshot->last_id, bk_buffer_slice(&snapshot->window_end));
        return bk_buffer_status(&snapshot->last_id);
    }
    /* Late, but it got somewhere: a shorter piece is a correct one. */
    return status == BK_TIMEOUT && snapshot->row_count > 0 ? BK_OK : status;
}

static enum bk_status on_run(struct bk_connection *connection, struct bk_read *read) {
    struct snapshot *snapshot = bk_container_of(read, struct snapshot, read);
    struct bk_statement *statement;
    uint64_t behind_last = 0;
    snapshot->row_count = 0;
    bk_buffer_clear(&snapshot->piece);
    enum bk_status status = BK_FAILPOINT("collections.snapshot");
    if (status == BK_OK)
        status = check_definition(snapshot, connection);
    if (status == BK_OK)
        status = begin_rows(snapshot, connection, &statement);
    if (status == BK_OK)
        status = write_rows(snapshot, connection, statement);
    if (status != BK_END)
        return status;
    status = BK_FAILPOINT("collections.snapshot_end");
    if (status == BK_OK)
        status = bk_journal_seek(connection, INT64_MAX, &behind_last);
    snapshot->is_last = status == BK_OK;
    snapshot->to = behind_last - 1;
    /* What is in the piece is behind us: it goes out, and the next one, without a row, asks again
     * where the end is. */
    return snapshot->row_count > 0 ? BK_OK : status;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void release(struct snapshot *snapshot) {
    bk_list_remove(&snapshot->link);
    snapshot->owner->active_count--;
    bk_timer_close(snapshot->retry);
    bk_buffer_fini(&snapshot->piece);
    bk_buffer_fini(&snapshot->last_id);
    bk_buffer_fini(&snapshot->window_end);
    bk_schema_unref(snapshot->schema);
}

static void end_stream(struct snapshot *snapshot) {
    struct bk_request *request = snapshot->request;
    release(snapshot);
    bk_stream_end(request);
}

static void write_line(struct snapshot *snapshot, struct bk_buffer *line) {
    bk_buffer_append_literal(line, "}\n");
    bk_buffer_insist(line);
    (void)bk_stream_write(snapshot->request, bk_buffer_slice(line));
    bk_buffer_fini(line);
}

static void write_cursor_line(struct snapshot *snapshot, struct bk_slice key, uint64_t sequence,
                              bool is_done) {
    char cursor[BK_CURSOR_BYTES];
    struct bk_buffer line;
    bk_buffer_init(&line, 256);
    bk_buffer_append_char(&line, '{');
    if (is_done)
        bk_json_write_member_bool(&line, BK_SLICE("done"), true);
    bk_cursor_make(cursor, snapshot->journal.epoch, sequence);
    bk_json_write_member_string(&line, key, bk_slice_make(cursor, BK_CURSOR_BYTES));
    write_line(snapshot, &line);
}

static const char *message_of(const struct snapshot *snapshot, enum bk_status status) {
    if (snapshot->is_changed)
        return "The collection was changed or deleted while it was sent: take the snapshot anew.";
    if (status == BK_CLOSING)
        return "The server is shutting down: take the snapshot anew.";
    return "The snapshot could not be read to its end: take it anew.";
}

static void fail(struct snapshot *snapshot, enum bk_status status) {
    struct bk_request *request = snapshot->request;
    const char *message = message_of(snapshot, status);
    struct bk_buffer line;
    if (!snapshot->is_begun) {
        release(snapshot);
        bk_answer_error(request, status, status == BK_STALE ? message : NULL);
        return;
    }
    bk_buffer_init(&line, 1024);
    bk_buffer_append_literal(&line, "{\"error\":{");
    bk_json_write_member_int(&line, BK_SLICE("status"), bk_status_http(status));
    bk_json_write_member_string(&line, BK_SLICE("code"),
                                snapshot->is_changed ? BK_SLICE("collection_changed")
                                                     : bk_slice_from(bk_status_name(status)));
    bk_json_write_member_string(&line, BK_SLICE("message"), bk_slice_from(message));
    bk_buffer_append_char(&line, '}');
    write_line(snapshot, &line);
    end_stream(snapshot);
}

/* --- piece by piece, on the loop -------------------------------------------------------------- */

static void begin_stream(struct snapshot *snapshot) {
    struct bk_request *request = snapshot->request;
    snapshot->is_begun = true;
    request->content_type = "application/x-ndjson";
    bk_answer_header(request, "Cache-Control", BK_SLICE("no-store"));
    bk_stream_begin(request, 200);
    write_cursor_line(snapshot, BK_SLICE("from"), snapshot->journal.last, false);
}

/* False: this was the end. */
static bool may_go_on(struct snapshot *snapshot) {
    struct bk_request *request = snapshot->request;
    if (request->is_aborted || (snapshot->is_begun && request->method == BK_HEAD)) {
        if (snapshot->is_begun)
            end_stream(snapshot);
        else
            fail(snapshot, BK_CANCELLED);
        return false;
    }
    if (snapshot->is_draining && !snapshot->is_last) {
        fail(snapshot, BK_CLOSING);
        return false;
    }
    return true;
}

static void send_piece(struct snapshot *snapshot) {
    bool has_room = true;
    if (!snapshot->is_begun)
        begin_stream(snapshot);
    if (!may_go_on(snapshot))
        return;
    if (snapshot->piece.length > 0)
        has_room = bk_stream_write(snapshot->request, bk_buffer_slice(&snapshot->piece));
    if (snapshot->is_last) {
        write_cursor_line(snapshot, BK_SLICE("to"), snapshot->to, true);
        end_stream(snapshot);
        return;
    }
    if (!may_go_on(snapshot))
        return;
    if (has_room)
        read_piece(snapshot);
    else
        snapshot->waits_for_drain = true;
}

static bool is_passing(enum bk_status status) { return status == BK_BUSY || status == BK_TIMEOUT; }

static void on_read_done(struct bk_read *read, enum bk_status status) {
    struct snapshot *snapshot = bk_container_of(read, struct snapshot, read);
    if (is_passing(status) && snapshot->retry_count < RETRIES_MAX &&
        !snapshot->request->is_aborted) {
        snapshot->retry_count++;
        bk_timer_start(snapshot->retry, RETRY_MS, 0);
        return;
    }
    if (status != BK_OK) {
        fail(snapshot, status);
        return;
    }
    snapshot->retry_count = 0;
    send_piece(snapshot);
}

static void on_retry(struct bk_timer *timer, void *user) {
    (void)timer;
    read_piece(user);
}

static void read_piece(struct snapshot *snapshot) {
    if (!may_go_on(snapshot))
        return;
    snapshot->read = (struct bk_read){.may_run_again = true, .run = on_run, .done = on_read_done};
    enum bk_status status = bk_store_read(snapshot->request->tenant->database, &snapshot->read);
    if (status != BK_OK)
        on_read_done(&snapshot->read, status);
}

static void on_drain(struct bk_request *request) {
    struct snapshot *snapshot = request->state;
    if (!snapshot->waits_for_drain)
        return;
    snapshot->waits_for_drain = false;
    read_piece(snapshot);
}

/* What is on a reader or waits for its timer ends when that comes; what waits for the client
 * would wait for ever. */
static void on_abort(struct bk_request *request) { on_drain(request); }

/* --- the beginning ---------------------------------------------------------------------------- */

static void make_sql(struct snapshot *snapshot) {
    const struct bk_collection *collection = snapshot->collection;
    struct bk_arena *arena = &snapshot->request->arena;
    struct bk_slice id = collection->id_field->quoted;
    snapshot->first_sql = bk_sql_make(bk_arena_format(
        arena, "SELECT %.*s FROM %.*s ORDER BY %.*s LIMIT ?1", BK_SLICE_PRINT(collection->columns),
        BK_SLICE_PRINT(collection->quoted), BK_SLICE_PRINT(id)));
    snapshot->next_sql = bk_sql_make(
        bk_arena_format(arena, "SELECT %.*s FROM %.*s WHERE %.*s > ?2 ORDER BY %.*s LIMIT ?1",
                        BK_SLICE_PRINT(collection->columns), BK_SLICE_PRINT(collection->quoted),
                        BK_SLICE_PRINT(id), BK_SLICE_PRINT(id)));
}

/* The rows that the rule shows behind ?2, up to ?3 when the window has an end. */
static struct bk_sql make_shown_sql(struct snapshot *snapshot, bool is_part) {
    const struct bk_collection *collection = snapshot->collection;
    struct bk_slice rows = collection->quoted, id = collection->id_field->quoted;
    struct bk_buffer sql;
    bk_buffer_init(&sql, SQL_BYTES_MAX);
    bk_buffer_append_literal(&sql, "SELECT ");
    for (uint32_t i = 0; i < collection->field_count; i++)
        bk_buffer_format(&sql, "%s%.*s.%.*s", i == 0 ? "" : ",", BK_SLICE_PRINT(rows),
                         BK_SLICE_PRINT(collection->fields[i].quoted));
    bk_buffer_format(&sql, " FROM %.*s", BK_SLICE_PRINT(rows));
    bk_buffer_append_slice(&sql, snapshot->condition.joins);
    bk_buffer_format(&sql, " WHERE %.*s.%.*s > ?2", BK_SLICE_PRINT(rows), BK_SLICE_PRINT(id));
    if (is_part)
        bk_buffer_format(&sql, " AND %.*s.%.*s <= ?3", BK_SLICE_PRINT(rows), BK_SLICE_PRINT(id));
    else
        bk_buffer_append_literal(&sql, " AND ?3 = ''");
    bk_buffer_append_literal(&sql, " AND ");
    bk_buffer_append_slice(&sql, snapshot->condition.where);
    bk_buffer_format(&sql, " ORDER BY %.*s.%.*s LIMIT ?1", BK_SLICE_PRINT(rows),
                     BK_SLICE_PRINT(id));
    bk_buffer_insist(&sql);
    struct bk_sql made =
        bk_sql_make(bk_arena_copy(&snapshot->request->arena, bk_buffer_slice(&sql)));
    bk_buffer_fini(&sql);
    return made;
}

static enum bk_status make_condition(struct snapshot *snapshot, struct bk_slice rule) {
    struct bk_request *request = snapshot->request;
    struct bk_arena *arena = &request->arena;
    struct bk_filter_scope scope;
    struct bk_filter *filter;
    enum bk_status status = bk_request_asker(request, snapshot->schema, request->json,
                                             BK_SLICE("default"), &snapshot->asker);
    if (status != BK_OK)
        return status;
    bk_asker_scope(&snapshot->asker, snapshot->collection, CONDITION_PARAMETER, &scope);
    struct bk_filter_query *query = bk_filter_query_create(arena, &scope);
    if (query == NULL)
        return bk_arena_status(arena);
    status = bk_filter_parse(arena, rule, BK_RULE_BYTES_MAX, &filter, NULL);
    if (status == BK_OK)
        status = bk_filter_query_add(query, filter, BK_FILTER_OF_RULE, NULL);
    if (status == BK_OK)
        status = bk_filter_query_finish(query, &snapshot->condition);
    return status;
}

static enum bk_status make_rule(struct snapshot *snapshot, struct bk_slice rule) {
    const struct bk_collection *collection = snapshot->collection;
    struct bk_slice id = collection->id_field->quoted;
    if (rule.length == 0)
        return BK_OK;
    snapshot->rule = rule;
    enum bk_status status = make_condition(snapshot, rule);
    if (status != BK_OK)
        return status;
    snapshot->window_sql = bk_sql_make(bk_arena_format(
        &snapshot->request->arena,
        "SELECT %.*s FROM %.*s WHERE %.*s > ?1 ORDER BY %.*s LIMIT 1 OFFSET ?2", BK_SLICE_PRINT(id),
        BK_SLICE_PRINT(collection->quoted), BK_SLICE_PRINT(id), BK_SLICE_PRINT(id)));
    snapshot->part_sql = make_shown_sql(snapshot, true);
    snapshot->rest_sql = make_shown_sql(snapshot, false);
    return BK_OK;
}

/* NULL: the request was answered. */
static struct snapshot *create(struct bk_request *request, const struct bk_collection *collection,
                               struct bk_schema *schema, struct bk_slice rule) {
    struct snapshot *snapshot = bk_arena_alloc_zero(&request->arena, sizeof *snapshot);
    snapshot->request = request;
    snapshot->collection = collection;
    snapshot->schema = schema;
    if (!collections_show_make(request, schema, collection, &snapshot->show))
        return NULL;
    make_sql(snapshot);
    enum bk_status status = make_rule(snapshot, rule);
    if (status == BK_OK)
        status = bk_arena_status(&request->arena);
    if (status == BK_OK)
        return snapshot;
    bk_answer_error(request, status, NULL);
    return NULL;
}

static void start(struct snapshot *snapshot, struct collections_snapshots *owner) {
    struct bk_request *request = snapshot->request;
    snapshot->owner = owner;
    (void)bk_schema_ref(snapshot->schema);
    snapshot->journal = bk_journal_state(request->tenant->database);
    snapshot->retry = bk_timer_create(owner->loop, on_retry, snapshot);
    bk_buffer_init(&snapshot->piece, PIECE_BYTES_MAX);
    bk_buffer_init(&snapshot->last_id, PIECE_BYTES_MAX);
    bk_buffer_init(&snapshot->window_end, PIECE_BYTES_MAX);
    bk_list_push(&owner->active, &snapshot->link);
    owner->active_count++;
    request->state = snapshot;
    request->on_drain = on_drain;
    request->on_abort = on_abort;
    read_piece(snapshot);
}

static uint32_t count_of_tenant(const struct collections_snapshots *owner,
                                const struct bk_tenant *tenant) {
    uint32_t count = 0;
    for (const struct bk_list *node = owner->active.next; node != &owner->active; node = node->next)
        count += bk_const_container_of(node, struct snapshot, link)->request->tenant == tenant;
    return count;
}

/* False: the request was answered. */
static bool may_begin(struct bk_request *request, const struct collections_snapshots *owner) {
    if (bk_api_is_draining(request->api))
        bk_answer_error(request, BK_CLOSING, NULL);
    else if (owner->active_count >= ACTIVE_MAX)
        bk_answer_error(request, BK_BUSY, "Too many snapshots are being taken: try again.");
    else if (count_of_tenant(owner, request->tenant) >= TENANT_ACTIVE_MAX)
        bk_answer_error(request, BK_BUSY,
                        "A tenant may take 16 snapshots at once: read those to their end, or try "
                        "again.");
    else
        return true;
    return false;
}

/* Parameters of lists that would make it no copy of the collection. */
static bool refuse_parameters(struct bk_request *request) {
    static const char *const refused[] = {"expand", "filter"};
    for (size_t i = 0; i < BK_COUNT_OF(refused); i++)
        if (bk_request_query(request, bk_slice_from(refused[i])).length > 0)
            bk_problems_add(&request->problems, bk_slice_from(refused[i]),
                            "validation_not_supported",
                            "A snapshot is of whole records, all of them: leave it out.");
    if (request->problems.count == 0)
        return false;
    bk_answer_problems(request, BK_INVALID, "Failed to begin the snapshot.");
    return true;
}

void collections_snapshot(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct collections_snapshots *owner = collections_snapshots_of(context);
    struct bk_schema *schema;
    struct bk_slice rule;
    const struct bk_collection *collection = collections_open(request, BK_MAY_LIST, &schema, &rule);
    if (collection == NULL || refuse_parameters(request))
        return;
    if (collection->type == BK_COLLECTION_VIEW) {
        bk_answer_error(request, BK_INVALID,
                        "A view has no events that could keep a copy of it: take the snapshots of "
                        "the collections that it is made of.");
        return;
    }
    if (!may_begin(request, owner))
        return;
    struct snapshot *snapshot = create(request, collection, schema, rule);
    if (snapshot != NULL)
        start(snapshot, owner);
}

/* --- the server stops ------------------------------------------------------------------------- */

static void on_server_drain(struct bk_drain_hook *hook, uint32_t deadline_ms) {
    struct collections_snapshots *owner =
        bk_container_of(hook, struct collections_snapshots, drain_hook);
    (void)deadline_ms;
    BK_LIST_FOR_EACH(node, &owner->active) {
        struct snapshot *snapshot = bk_container_of(node, struct snapshot, link);
        snapshot->is_draining = true;
        on_drain(snapshot->request);
    }
}

void collections_snapshots_init(struct collections_snapshots *owner,
                                const struct bk_module_context *context) {
    owner->loop = context->loop;
    owner->active_count = 0;
    bk_list_init(&owner->active);
    bk_list_init(&owner->drain_hook.link);
    owner->drain_hook.on_drain = on_server_drain;
    bk_api_add_drain_hook(context->api, &owner->drain_hook);
}
