/*
 * Dead letters in bulk: those that a filter names are tried again or dropped.
 *
 *   the filter ─> reader: the ids of those among the dead that it holds for, one more than a call
 *                 takes, which tells whether to call again
 *              ─> writer: each that is still dead is retried or dropped
 *              ─> how many there were, how many could not be, and whether there are more
 *
 * The statement is made here and not by the records route: its condition on the state is a literal,
 * so that the index of the ended tasks is read and never the backlog. Each task is looked at again
 * in the write, since time has passed; one that cannot be retried, because another that is made of
 * the same thing waits already, is left as it is and keeps none of the others. Whoever waits for
 * the writer has his turn before the whole page is done: the call then says that there is more.
 */
#include "jobs_private.h"

#include "bakend/clock.h"

enum {
    READ_MS = 1000, /* of work: among a million dead ones a few may be meant */
    ROWS_MIN = 32,  /* of a page, whoever waits: about two milliseconds */
    SQL_BYTES_MAX = BK_FILTER_SQL_BYTES_MAX + 1024,
};

struct bulk {
    struct bk_request *request;
    struct bk_work *work;
    enum bk_status (*act)(struct bk_work *work, struct bk_transaction *transaction,
                          struct bk_slice id);
    struct bk_schema *schema; /* until the ids are read */
    struct bk_asker asker;
    struct bk_filter_sql condition;
    struct bk_slice until; /* as rows have it; empty: all */
    struct bk_sql sql;
    struct bk_read read;
    struct bk_write write;
    struct bk_slice ids[JOBS_BULK_MAX];
    size_t id_count;
    bool has_more, was_cut; /* by the reader; by the writer */
    int64_t done_count, skipped_count;
};

/* --- the writer ------------------------------------------------------------------------------- */

static enum bk_status is_dead(struct bk_connection *connection, struct bk_slice id, bool *answer) {
    struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT 1 FROM _work WHERE id = ?1 AND state = 'dead'"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    *answer = status == BK_OK;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status run_bulk(struct bk_transaction *transaction, struct bk_write *write) {
    struct bulk *bulk = bk_container_of(write, struct bulk, write);
    bulk->done_count = bulk->skipped_count = 0;
    bulk->was_cut = false;
    for (size_t i = 0; i < bulk->id_count; i++) {
        bool is_still = false;
        /* It is one of those that wait itself. */
        bulk->was_cut =
            bulk->done_count >= ROWS_MIN && bk_transaction_awaiting_count(transaction) > 1;
        if (bulk->was_cut)
            break;
        enum bk_status status =
            is_dead(bk_transaction_connection(transaction), bulk->ids[i], &is_still);
        if (status == BK_OK && is_still)
            status = bulk->act(bulk->work, transaction, bulk->ids[i]);
        if (status != BK_OK && status != BK_CONFLICT)
            return status;
        bulk->done_count += status == BK_OK && is_still;
        bulk->skipped_count += status == BK_CONFLICT;
    }
    return BK_OK;
}

static void answer(struct bulk *bulk) {
    struct bk_buffer *out = &bulk->request->out;
    bk_buffer_append_char(out, '{');
    bk_json_write_member_int(out, BK_SLICE("count"), bulk->done_count);
    bk_json_write_member_int(out, BK_SLICE("skipped"), bulk->skipped_count);
    bk_json_write_member_bool(out, BK_SLICE("hasMore"), bulk->has_more || bulk->was_cut);
    bk_buffer_append_char(out, '}');
    bk_answer(bulk->request, 200);
}

static void on_written(struct bk_write *write, enum bk_status status) {
    struct bulk *bulk = bk_container_of(write, struct bulk, write);
    if (status == BK_OK)
        answer(bulk);
    else
        bk_answer_error(bulk->request, status, NULL);
}

/* --- the reader ------------------------------------------------------------------------------- */

static enum bk_status run_read(struct bk_connection *connection, struct bk_read *read) {
    struct bulk *bulk = bk_container_of(read, struct bulk, read);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &bulk->sql, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < bulk->condition.value_count; i++)
        bk_statement_bind(statement, (int)i + 1, &bulk->condition.values[i]);
    if (bulk->until.length > 0)
        bk_statement_bind_text(statement, (int)bulk->condition.value_count + 1, bulk->until);
    while (!bulk->has_more && (status = bk_statement_step(statement)) == BK_OK) {
        bulk->has_more = bulk->id_count == JOBS_BULK_MAX;
        if (!bulk->has_more)
            bulk->ids[bulk->id_count++] =
                bk_arena_copy(&bulk->request->arena, bk_statement_text(statement, 0));
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static void on_read(struct bk_read *read, enum bk_status status) {
    struct bulk *bulk = bk_container_of(read, struct bulk, read);
    struct bk_request *request = bulk->request;
    bk_schema_unref(bulk->schema);
    if (status == BK_OK && bulk->id_count == 0) {
        answer(bulk);
        return;
    }
    bulk->write = (struct bk_write){
        .origin = &request->origin, .lane = BK_LANE_REQUEST, .run = run_bulk, .done = on_written};
    if (status == BK_OK)
        status = bk_store_write(request->tenant->database, &bulk->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

/* --- what is asked for ------------------------------------------------------------------------ */

static void problem(struct bk_request *request, struct bk_slice field, const char *code,
                    const char *message) {
    bk_problems_add(&request->problems, field, code, message);
}

/* A slip would mean all of them: the filter has to be there, and nothing else may, but until. What
 * is said of the filter counts from its first character. */
static struct bk_slice read_text(struct bk_request *request) {
    const struct bk_json *given = bk_json_get(request->json, BK_SLICE("filter"));
    const struct bk_json *member = request->json == NULL ? NULL : request->json->child;
    for (; member != NULL; member = member->next)
        if (!bk_slice_is(member->key, "filter") && !bk_slice_is(member->key, "until"))
            problem(request, member->key, "validation_unknown_name", "Means nothing here.");
    if (given == NULL || given->type != BK_JSON_STRING)
        problem(request, BK_SLICE("filter"), "validation_required",
                "Must be a filter over the fields of _work, or \"\" for all that are dead.");
    if (given == NULL || bk_slice_trim(given->string).length == 0)
        return BK_SLICE_EMPTY;
    return given->string;
}

/* As rows have it; empty: it was not given. */
static struct bk_slice read_until(struct bk_request *request) {
    const struct bk_json *given = bk_json_get(request->json, BK_SLICE("until"));
    char text[BK_TIME_TEXT_BYTES];
    int64_t time_ms;
    if (given == NULL)
        return BK_SLICE_EMPTY;
    if (given->type != BK_JSON_STRING || !bk_time_parse(given->string, &time_ms)) {
        problem(request, BK_SLICE("until"), "validation_invalid_date",
                "Must be a date, such as 2030-01-31 12:00:00Z.");
        return BK_SLICE_EMPTY;
    }
    bk_time_format(text, time_ms, ' ');
    return bk_arena_copy(&request->arena, bk_slice_make(text, sizeof text));
}

static enum bk_status read_filter(struct bulk *bulk, const struct bk_collection *collection,
                                  struct bk_slice text, struct bk_error *error) {
    struct bk_request *request = bulk->request;
    struct bk_filter_scope scope;
    struct bk_filter *filter;
    if (text.length == 0)
        return BK_OK;
    enum bk_status status =
        bk_request_asker(request, bulk->schema, request->json, BK_SLICE("default"), &bulk->asker);
    if (status == BK_OK)
        status = bk_filter_parse(&request->arena, text, BK_FILTER_BYTES_MAX, &filter, error);
    if (status != BK_OK)
        return status;
    bk_asker_scope(&bulk->asker, collection, 1, &scope);
    struct bk_filter_query *query = bk_filter_query_create(&request->arena, &scope);
    if (query == NULL)
        return bk_arena_status(&request->arena);
    /* Who is here is a superuser: hidden fields may be asked, as in the list. */
    status = bk_filter_query_add(query, filter, BK_FILTER_OF_RULE, error);
    return status == BK_OK ? bk_filter_query_finish(query, &bulk->condition) : status;
}

static enum bk_status make_sql(struct bulk *bulk) {
    struct bk_arena *arena = &bulk->request->arena;
    struct bk_buffer out;
    bk_buffer_init(&out, SQL_BYTES_MAX);
    bk_buffer_append_literal(&out, "SELECT \"_work\".\"id\" FROM \"_work\"");
    bk_buffer_append_slice(&out, bulk->condition.joins);
    bk_buffer_append_literal(&out, " WHERE \"_work\".\"state\" = 'dead'");
    if (bulk->condition.where.length > 0)
        bk_buffer_format(&out, " AND (%.*s)", BK_SLICE_PRINT(bulk->condition.where));
    if (bulk->until.length > 0)
        bk_buffer_format(&out, " AND \"_work\".\"updated\" <= ?%u",
                         (unsigned)bulk->condition.value_count + 1);
    bk_buffer_format(&out, " LIMIT %d", JOBS_BULK_MAX + 1);
    bulk->sql = bk_sql_make(bk_arena_copy(arena, bk_buffer_slice(&out)));
    enum bk_status status = bk_buffer_status(&out);
    bk_buffer_fini(&out);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

static enum bk_status submit(struct bulk *bulk, struct bk_slice text, struct bk_error *error) {
    const struct bk_collection *collection = bk_schema_find(bulk->schema, BK_SLICE("_work"));
    if (collection == NULL)
        return BK_NOT_FOUND;
    enum bk_status status = read_filter(bulk, collection, text, error);
    if (status == BK_OK)
        status = make_sql(bulk);
    bulk->read = (struct bk_read){.deadline_ms = READ_MS, .run = run_read, .done = on_read};
    if (status == BK_OK)
        status = bk_store_read(bulk->request->tenant->database, &bulk->read);
    return status;
}

static void begin(struct bk_request *request,
                  enum bk_status (*act)(struct bk_work *work, struct bk_transaction *transaction,
                                        struct bk_slice id)) {
    const struct bk_module_context *context = request->module;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_slice text = read_text(request), until = read_until(request);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "The tasks cannot be named like this.");
        return;
    }
    struct bulk *bulk = bk_arena_alloc_zero(&request->arena, sizeof *bulk);
    bulk->request = request;
    bulk->work = context->work;
    bulk->act = act;
    bulk->until = until;
    bulk->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    enum bk_status status = submit(bulk, text, &error);
    if (status == BK_OK)
        return;
    bk_schema_unref(bulk->schema);
    if (error.message[0] == '\0') {
        bk_answer_error(request, status, NULL);
        return;
    }
    problem(request, BK_SLICE("filter"), "validation_invalid_filter",
            bk_arena_format(&request->arena, "Invalid filter: %s.", error.message).data);
    bk_answer_problems(request, BK_INVALID, "The filter cannot be read.");
}

void jobs_dead_retry(struct bk_request *request) { begin(request, jobs_retry); }
void jobs_dead_drop(struct bk_request *request) { begin(request, jobs_drop); }
