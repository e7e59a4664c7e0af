/*
 * /api/logs, in PocketBase's shape, on a reader of the tenant's logs.db. The filter language is not
 * there yet: a request that needs it is refused rather than answered with everything.
 *
 * A list is sorted as asked; rows without an order of their own come in the order written. Totals
 * cost a pass over the index, and skipTotal leaves them out.
 */
#include "logging_private.h"

enum {
    PER_PAGE_DEFAULT = 30,
    PER_PAGE_MAX = 1000,
    PAGE_MAX = 1000000,
    SORTS_MAX = 8,
    SORT_BYTES_MAX = 255,
    DEADLINE_MS = 2000, /* counting a million rows; no writer waits for this database */
    SQL_BYTES_MAX = 4096,
};

#define COLUMNS "id, level, message, data, created"

struct log_state {
    struct bk_request *request;
    struct logging_reader reader;
    int64_t page, per_page;
    bool skips_total;
    struct bk_slice id, fields;
    struct bk_buffer sql; /* of the list; freed with the answer */
};

/* --- shared ----------------------------------------------------------------------------------- */

static struct log_state *state_of(struct bk_read *read) {
    return bk_container_of(read, struct log_state, reader.read);
}

static struct log_state *begin(struct bk_request *request) {
    struct log_state *state = bk_arena_alloc_zero(&request->arena, sizeof *state);
    state->request = request;
    bk_buffer_init(&state->sql, SQL_BYTES_MAX);
    request->state = state;
    return state;
}

static void on_read(struct bk_read *read, enum bk_status status) {
    struct log_state *state = state_of(read);
    struct bk_request *request = state->request;
    bk_buffer_fini(&state->sql);
    if (status == BK_OK && request->out.is_overflown)
        status = BK_TOO_LARGE;
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

static void submit(struct log_state *state,
                   enum bk_status (*run)(struct bk_connection *connection, struct bk_read *read)) {
    struct bk_request *request = state->request;
    const struct bk_module_context *context = request->module;
    struct logging_journal *journal = request->tenant->slots[context->tenant_slot];
    BK_ASSERT(journal != NULL);
    bk_list_init(&state->reader.link);
    state->reader.read = (struct bk_read){.deadline_ms = DEADLINE_MS, .run = run, .done = on_read};
    logging_journal_read(journal, &state->reader);
}

/* The problems found so far end the request. */
static bool is_refused(struct log_state *state) {
    struct bk_request *request = state->request;
    if (bk_request_query(request, BK_SLICE("filter")).length > 0)
        bk_problems_add(&request->problems, BK_SLICE("filter"), "validation_not_supported",
                        "Not supported by this version of the server: leave it out.");
    if (request->arena.is_overflown || request->problems.count > 0) {
        bk_buffer_fini(&state->sql);
        bk_answer_problems(request, BK_INVALID, NULL);
        return true;
    }
    return false;
}

static void write_row(struct bk_buffer *out, struct bk_statement *statement) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("id"), bk_statement_text(statement, 0));
    bk_json_write_member_string(out, BK_SLICE("created"), bk_statement_text(statement, 4));
    bk_json_write_member_raw(out, BK_SLICE("data"), bk_statement_text(statement, 3));
    bk_json_write_member_string(out, BK_SLICE("message"), bk_statement_text(statement, 2));
    bk_json_write_member_int(out, BK_SLICE("level"), bk_statement_int(statement, 1));
    bk_buffer_append_char(out, '}');
}

/* --- GET /api/logs ---------------------------------------------------------------------------- */

/* "data.status": letters, digits, '_', '.' and ':', and a letter, digit or '_' at the end. */
static bool is_data_path(struct bk_slice name) {
    if (!bk_slice_starts_with(name, BK_SLICE("data.")) || name.length > SORT_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool is_word =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (!is_word && (i + 1 == name.length || (c != '.' && c != ':')))
            return false;
    }
    return true;
}

static bool append_sort_field(struct bk_buffer *sql, struct bk_slice name) {
    static const struct bk_slice columns[] = {BK_SLICE_INIT("id"), BK_SLICE_INIT("level"),
                                              BK_SLICE_INIT("message"), BK_SLICE_INIT("data"),
                                              BK_SLICE_INIT("created")};
    for (size_t i = 0; i < BK_COUNT_OF(columns); i++) {
        if (bk_slice_equal(name, columns[i])) {
            bk_buffer_append_slice(sql, name);
            return true;
        }
    }
    if (bk_slice_is(name, "@rowid")) {
        bk_buffer_append_literal(sql, "rowid");
    } else if (bk_slice_is(name, "@random")) {
        bk_buffer_append_literal(sql, "random()");
    } else if (is_data_path(name)) {
        bk_buffer_append_literal(sql, "json_extract(data, '$");
        bk_buffer_append(sql, name.data + 4, name.length - 4);
        bk_buffer_append_literal(sql, "')");
    } else {
        return false;
    }
    return true;
}

static void refuse_sort(struct bk_request *request) {
    bk_problems_add(&request->problems, BK_SLICE("sort"), "validation_invalid_sort",
                    "Each must be id, level, message, data, created, @rowid, @random or a member "
                    "of data, such as data.status; at most 8.");
}

static void parse_sort(struct log_state *state) {
    struct bk_request *request = state->request;
    struct bk_slice rest = bk_request_query(request, BK_SLICE("sort"));
    struct bk_slice part;
    uint32_t count = 0;
    while (rest.length > 0 && bk_slice_split(&rest, ',', &part)) {
        part = bk_slice_trim(part);
        bool is_descending = bk_slice_starts_with(part, BK_SLICE("-"));
        if (is_descending || bk_slice_starts_with(part, BK_SLICE("+")))
            part = bk_slice_make(part.data + 1, part.length - 1);
        bk_buffer_format(&state->sql, "%s", count == 0 ? " ORDER BY " : ", ");
        if (++count > SORTS_MAX || !append_sort_field(&state->sql, part)) {
            refuse_sort(request);
            return;
        }
        if (is_descending)
            bk_buffer_append_literal(&state->sql, " DESC");
    }
}

/* As PocketBase: what is out of bounds is brought within; what is no number is a problem. */
static int64_t parse_count(struct bk_request *request, struct bk_slice name, int64_t maximum,
                           int64_t fallback) {
    int64_t value = bk_request_query_int(request, name, INT32_MIN, INT32_MAX, fallback);
    return value <= 0 ? fallback : value > maximum ? maximum : value;
}

static enum bk_status count_rows(struct bk_connection *connection, int64_t *count) {
    struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT count(*) FROM _logs"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status != BK_OK)
        return status;
    *count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return BK_OK;
}

static enum bk_status write_rows(struct bk_connection *connection, struct log_state *state) {
    struct bk_buffer *out = &state->request->out;
    struct bk_sql sql = bk_sql_make(bk_buffer_slice(&state->sql));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, state->per_page);
    bk_statement_bind_int(statement, 2, (state->page - 1) * state->per_page);
    while ((status = bk_statement_step(statement)) == BK_OK && !out->is_overflown) {
        bk_json_write_separator(out);
        write_row(out, statement);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status run_list(struct bk_connection *connection, struct bk_read *read) {
    struct log_state *state = state_of(read);
    struct bk_buffer *out = &state->request->out;
    int64_t total = -1;
    enum bk_status status = state->skips_total ? BK_OK : count_rows(connection, &total);
    if (status != BK_OK)
        return status;
    int64_t pages = total < 0 ? -1 : (total + state->per_page - 1) / state->per_page;
    bk_buffer_append_literal(out, "{\"items\":[");
    status = write_rows(connection, state);
    if (status != BK_OK)
        return status;
    bk_buffer_append_char(out, ']');
    bk_json_write_member_int(out, BK_SLICE("page"), state->page);
    bk_json_write_member_int(out, BK_SLICE("perPage"), state->per_page);
    bk_json_write_member_int(out, BK_SLICE("totalItems"), total);
    bk_json_write_member_int(out, BK_SLICE("totalPages"), pages);
    bk_buffer_append_char(out, '}');
    status = bk_answer_pick_fields(state->request, state->fields);
    if (status == BK_OK)
        bk_answer_compress(state->request);
    return status;
}

void logging_list(struct bk_request *request) {
    struct log_state *state = begin(request);
    state->page = parse_count(request, BK_SLICE("page"), PAGE_MAX, 1);
    state->per_page = parse_count(request, BK_SLICE("perPage"), PER_PAGE_MAX, PER_PAGE_DEFAULT);
    state->skips_total = bk_request_query_bool(request, BK_SLICE("skipTotal"));
    state->fields = bk_request_query(request, BK_SLICE("fields"));
    bk_buffer_append_literal(&state->sql, "SELECT " COLUMNS " FROM _logs");
    parse_sort(state);
    bk_buffer_append_literal(&state->sql, " LIMIT ?1 OFFSET ?2");
    if (state->sql.is_overflown)
        refuse_sort(request);
    if (!is_refused(state))
        submit(state, run_list);
}

/* --- GET /api/logs/stats ---------------------------------------------------------------------- */

static enum bk_status run_stats(struct bk_connection *connection, struct bk_read *read) {
    struct bk_buffer *out = &state_of(read)->request->out;
    struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT count(*), strftime('%Y-%m-%d %H:00:00', created) AS hour FROM _logs"
                 " GROUP BY hour"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_buffer_append_char(out, '[');
    while ((status = bk_statement_step(statement)) == BK_OK && !out->is_overflown) {
        struct bk_slice hour = bk_statement_text(statement, 1);
        bk_json_write_separator(out);
        bk_buffer_format(out, "{\"date\":\"%.*s.000Z\",\"total\":", BK_SLICE_PRINT(hour));
        bk_buffer_append_int(out, bk_statement_int(statement, 0));
        bk_buffer_append_char(out, '}');
    }
    bk_statement_reset(statement);
    bk_buffer_append_char(out, ']');
    return status == BK_END ? BK_OK : status;
}

void logging_stats(struct bk_request *request) {
    struct log_state *state = begin(request);
    if (!is_refused(state))
        submit(state, run_stats);
}

/* --- GET /api/logs/{id} ----------------------------------------------------------------------- */

static enum bk_status run_view(struct bk_connection *connection, struct bk_read *read) {
    struct log_state *state = state_of(read);
    struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT " COLUMNS " FROM _logs WHERE id = ?1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, state->id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        write_row(&state->request->out, statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

void logging_view(struct bk_request *request) {
    struct log_state *state = begin(request);
    state->id = bk_request_parameter(request, BK_SLICE("id"));
    if (!is_refused(state))
        submit(state, run_view);
}
