/*
 * Asking for replays. POST /api/webhooks/{id}/replay: of many, which becomes a task (replay.c), or,
 * with dryRun, a count and nothing else. POST /api/deliveries/{id}/replay: of one, which becomes
 * the task of its next attempt (retry.c), at once.
 *
 * A count looks at the journal in pages on a reader thread, PAGES_MAX at most: of a longer range it
 * says how far it came.
 */
#include "replay.h"

#include "bakend/clock.h"

enum {
    PAGE_ROWS = 2000,
    PAGES_MAX = 50,
    PAYLOAD_BYTES_MAX = 64 * 1024,
};

/* One request. */
struct asking {
    struct bk_request *request;
    struct webhooks_state *state;
    struct webhooks_config *config; /* referenced while it is counted */
    struct bk_slice webhook;
    struct webhooks_replay_range range;
    uint64_t stands_at; /* all up to it has come to its endpoint, or passed by */
    bool is_dry;
    bool begins_with_failed; /* right before the oldest of those: looked up on a reader */
    /* The task. */
    struct bk_write write;
    char task[BK_WORK_ID_BYTES + 1];
    /* The count. */
    struct bk_read read;
    uint64_t at; /* all up to it was looked at */
    uint64_t page_at;
    uint64_t count, page_count;
    uint32_t page_number;
    struct bk_connection *connection; /* during a page */
    enum bk_status status;
};

/* --- what is asked for ------------------------------------------------------------------------ */

static const struct bk_slice names[] = {
    BK_SLICE_INIT("after"), BK_SLICE_INIT("until"),   BK_SLICE_INIT("types"),
    BK_SLICE_INIT("state"), BK_SLICE_INIT("missing"), BK_SLICE_INIT("dryRun"),
};

/* A slip that was ignored would send more than was meant. */
static void refuse_unknown_names(struct bk_request *request) {
    const struct bk_json *member = request->json == NULL ? NULL : request->json->child;
    for (; member != NULL; member = member->next) {
        bool is_known = false;
        for (size_t i = 0; i < BK_COUNT_OF(names); i++)
            is_known = is_known || bk_slice_equal(names[i], member->key);
        if (!is_known)
            bk_problems_add(&request->problems, member->key, "validation_unknown_name",
                            "There is no such name here, only: after, until, types, state, "
                            "missing, dryRun.");
    }
}

static bool read_flag(struct bk_request *request, struct bk_slice name) {
    const struct bk_json *member = bk_json_get(request->json, name);
    if (member == NULL || member->type == BK_JSON_NULL)
        return false;
    if (member->type != BK_JSON_BOOL)
        bk_problems_add(&request->problems, name, "validation_invalid_value",
                        "Must be true or false.");
    return member->boolean;
}

static void add_type(struct bk_request *request, struct webhooks_replay_range *range,
                     struct bk_slice *texts, const struct bk_json *type) {
    if (type->type == BK_JSON_STRING && bk_event_pattern_is_valid(type->string))
        texts[range->type_count++] = type->string;
    else
        bk_problems_add(&request->problems, BK_SLICE("types"), "validation_invalid_type",
                        "Each must be an event type or a pattern: posts.created, users.*, "
                        "*.deleted, * or _*.");
}

static void read_types(struct bk_request *request, struct webhooks_replay_range *range) {
    const struct bk_json *types = bk_json_get(request->json, BK_SLICE("types"));
    if (types == NULL || types->type == BK_JSON_NULL)
        return;
    if (types->type != BK_JSON_ARRAY || types->child_count > WEBHOOKS_TYPES_MAX) {
        bk_problems_add(&request->problems, BK_SLICE("types"), "validation_invalid_value",
                        "Must be a list of at most 100 event types.");
        return;
    }
    struct bk_slice *texts =
        bk_arena_alloc(&request->arena, (types->child_count + 1) * sizeof *texts);
    for (const struct bk_json *each = types->child; each != NULL; each = each->next)
        add_type(request, range, texts, each);
    range->types = texts;
}

static void read_state(struct bk_request *request, struct webhooks_replay_range *range) {
    const struct bk_json *state = bk_json_get(request->json, BK_SLICE("state"));
    if (state == NULL || state->type == BK_JSON_NULL)
        return;
    range->state = state->string;
    if (!bk_slice_is(state->string, "failed") && !bk_slice_is(state->string, "delivered"))
        bk_problems_add(&request->problems, BK_SLICE("state"), "validation_invalid_value",
                        "Must be failed or delivered. What is retrying is on its way.");
    else if (range->is_missing)
        bk_problems_add(&request->problems, BK_SLICE("state"), "validation_invalid_value",
                        "What is missing has no delivery that could be in a state: leave out one "
                        "of the two.");
}

/* --- from where to where ---------------------------------------------------------------------- */

static const char *message_of(enum bk_feed_problem problem) {
    if (problem == BK_FEED_CURSOR_IN_FUTURE)
        return "The cursor is past the newest event: it is not from this server's present "
               "history.";
    if (problem == BK_FEED_CURSOR_EPOCH_CHANGED)
        return "This cursor belongs to another history: the tenant was restored, or the cursor is "
               "another tenant's or server's.";
    if (problem == BK_FEED_CURSOR_EXPIRED)
        return "The events behind this cursor are no longer kept: \"start\" is the oldest that "
               "are.";
    return "Must be a cursor, \"start\", \"now\" or an RFC 3339 time.";
}

static enum bk_status seek_time(struct bk_tenant *tenant, int64_t wall_ms, uint64_t *sequence) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    uint64_t first = 1;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_journal_seek(connection, wall_ms, &first);
    *sequence = first - 1;
    return status;
}

/* False: it is not there, or wrong, which is a problem then. */
static bool read_place(struct bk_request *request, struct bk_slice name, uint64_t *sequence) {
    const struct bk_json *member = bk_json_get(request->json, name);
    enum bk_feed_problem problem = BK_FEED_NO_PROBLEM;
    int64_t wall_ms;
    if (member == NULL || member->type == BK_JSON_NULL)
        return false;
    enum bk_status status =
        member->type == BK_JSON_STRING && member->string.length > 0
            ? bk_feed_resolve(request->tenant, member->string, sequence, &problem)
            : BK_INVALID;
    if (status == BK_NOT_SUPPORTED && bk_time_parse(member->string, &wall_ms))
        status = seek_time(request->tenant, wall_ms, sequence);
    if (status != BK_OK)
        bk_problems_add(&request->problems, name, "cursor_invalid", message_of(problem));
    return status == BK_OK;
}

/* Times may both stand for a place before all that is kept. */
static bool are_times_in_order(struct bk_request *request) {
    int64_t after_ms, until_ms;
    return !bk_time_parse(bk_json_get_string(request->json, BK_SLICE("after")), &after_ms) ||
           !bk_time_parse(bk_json_get_string(request->json, BK_SLICE("until")), &until_ms) ||
           after_ms <= until_ms;
}

/* A single row of the loop's connection; a value that is not there is 0. */
static enum bk_status read_numbers(struct bk_tenant *tenant, struct bk_slice text,
                                   struct bk_slice webhook, uint64_t *values, int count) {
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, webhook);
    status = bk_statement_step(statement);
    for (int i = 0; i < count; i++)
        values[i] = status == BK_OK ? (uint64_t)bk_statement_int(statement, i) : 0;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* Where it was switched off, up to where it was enabled again; nothing when it never was. */
static enum bk_status find_gap(const struct asking *asking, uint64_t *after, uint64_t *until) {
    struct bk_tenant *tenant = asking->request->tenant;
    uint64_t last = bk_journal_state(tenant->database).last, gap[2] = {0};
    enum bk_status status = read_numbers(
        tenant,
        BK_SLICE("SELECT missedAfter, missedUntil FROM _webhookStates WHERE webhook = ?1 AND "
                 "(missedAfter > 0 OR missedUntil > 0)"),
        asking->webhook, gap, 2);
    bool is_open = gap[1] == 0 && !asking->config->is_enabled;
    *after = gap[1] == 0 && !is_open ? last : gap[0];
    *until = gap[1] == 0 ? last : gap[1];
    return status;
}

/* Without `after` what is meant is known only of what is missing and of what has failed: all that
 * there ever was is not sent for a slip. */
static enum bk_status read_bounds(struct asking *asking) {
    struct bk_request *request = asking->request;
    struct webhooks_replay_range *range = &asking->range;
    struct bk_journal_state journal = bk_journal_state(request->tenant->database);
    enum bk_status status = BK_OK;
    uint64_t after = 0, until = journal.last;
    bool has_after = bk_json_get(request->json, BK_SLICE("after")) != NULL;
    if (range->is_missing && !has_after)
        status = find_gap(asking, &after, &until);
    else if (bk_slice_is(range->state, "failed") && !has_after)
        asking->begins_with_failed = true;
    else if (!has_after)
        bk_problems_add(&request->problems, BK_SLICE("after"), "validation_required",
                        "Say from where on: a cursor, \"start\" or an RFC 3339 time; or ask for "
                        "state \"failed\", or for what is missing.");
    range->is_gap = range->is_missing && !has_after;
    (void)read_place(request, BK_SLICE("after"), &after);
    if (read_place(request, BK_SLICE("until"), &until))
        range->is_gap = false;
    range->after = after + 1 < journal.oldest ? journal.oldest - 1 : after;
    range->until = until;
    if (request->problems.count == 0 &&
        (range->until < range->after || !are_times_in_order(request))) {
        if (bk_json_get(request->json, BK_SLICE("until")) != NULL)
            bk_problems_add(&request->problems, BK_SLICE("until"), "validation_invalid_value",
                            "Must not be before `after`.");
    }
    /* What is behind that comes by itself. */
    if (range->until > asking->stands_at)
        range->until = asking->stands_at;
    if (range->until < range->after)
        range->until = range->after;
    return status;
}

static struct bk_slice cursor_of(struct bk_request *request, uint64_t sequence) {
    struct bk_journal_state journal = bk_journal_state(request->tenant->database);
    char cursor[BK_CURSOR_BYTES];
    bk_cursor_make(cursor, journal.epoch, sequence);
    return bk_arena_copy(&request->arena, bk_slice_make(cursor, sizeof cursor));
}

/* --- a count ---------------------------------------------------------------------------------- */

static bool on_row(void *user, const struct bk_event_fields *fields) {
    struct asking *asking = user;
    struct webhooks_replay_row row;
    bool is_wanted = false;
    asking->status = webhooks_replay_range_wants(asking->connection, &asking->range, asking->config,
                                                 fields, &row, &is_wanted);
    asking->page_count += is_wanted;
    asking->page_at = fields->sequence;
    return asking->status == BK_OK;
}

/* May run again: it begins anew then. */
static enum bk_status run_page(struct bk_connection *connection, struct bk_read *read) {
    struct asking *asking = bk_container_of(read, struct asking, read);
    const struct bk_journal_query query = {.from = asking->at + 1,
                                           .to = asking->range.until,
                                           .row_limit = PAGE_ROWS,
                                           .on_row = on_row,
                                           .user = asking};
    asking->connection = connection;
    asking->page_count = 0;
    asking->page_at = asking->at;
    asking->status = BK_OK;
    enum bk_status status = bk_journal_read(connection, &query);
    return status == BK_OK || status == BK_END ? asking->status : status;
}

static void answer_count(struct asking *asking) {
    struct bk_request *request = asking->request;
    struct bk_buffer *out = &request->out;
    bool is_complete = asking->at >= asking->range.until;
    webhooks_config_unref(asking->config);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_int(out, BK_SLICE("count"), (int64_t)asking->count);
    bk_json_write_member_bool(out, BK_SLICE("isComplete"), is_complete);
    bk_json_write_member_string(out, BK_SLICE("from"), cursor_of(request, asking->range.after));
    bk_json_write_member_string(out, BK_SLICE("until"), cursor_of(request, asking->at));
    bk_buffer_append_char(out, '}');
    bk_answer(request, 200);
}

static void read_page(struct asking *asking);

static void fail_count(struct asking *asking, enum bk_status status) {
    webhooks_config_unref(asking->config);
    bk_answer_error(asking->request, status, NULL);
}

static void on_page(struct bk_read *read, enum bk_status status) {
    struct asking *asking = bk_container_of(read, struct asking, read);
    if (status != BK_OK) {
        fail_count(asking, status);
        return;
    }
    asking->count += asking->page_count;
    /* A page without a row is the last one. */
    asking->at = asking->page_at > asking->at ? asking->page_at : asking->range.until;
    asking->page_number++;
    read_page(asking);
}

static void read_page(struct asking *asking) {
    if (asking->at >= asking->range.until || asking->page_number == PAGES_MAX ||
        asking->request->is_aborted) {
        answer_count(asking);
        return;
    }
    asking->read = (struct bk_read){.may_run_again = true, .run = run_page, .done = on_page};
    enum bk_status status = bk_store_read(asking->request->tenant->database, &asking->read);
    if (status != BK_OK)
        fail_count(asking, status);
}

static void count(struct asking *asking) {
    (void)webhooks_config_ref(asking->config);
    asking->at = asking->range.after;
    read_page(asking);
}

/* --- the task --------------------------------------------------------------------------------- */

static enum bk_status run_add(struct bk_transaction *transaction, struct bk_write *write) {
    struct asking *asking = bk_container_of(write, struct asking, write);
    struct bk_buffer payload;
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    webhooks_replay_range_write(&payload, &asking->range);
    const struct bk_work_draft draft = {.kind = WEBHOOKS_REPLAY_KIND,
                                        .lane = asking->webhook,
                                        .payload = bk_buffer_slice(&payload),
                                        .is_replay = true};
    enum bk_status status = bk_buffer_status(&payload);
    if (status == BK_OK)
        status = bk_work_add(asking->state->context->work, transaction, &draft, asking->task);
    bk_buffer_fini(&payload);
    return status;
}

static void on_added(struct bk_write *write, enum bk_status status) {
    struct asking *asking = bk_container_of(write, struct asking, write);
    struct bk_request *request = asking->request;
    struct bk_buffer *out = &request->out;
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("task"), bk_slice_from(asking->task));
    bk_json_write_member_string(out, BK_SLICE("from"), cursor_of(request, asking->range.after));
    bk_json_write_member_string(out, BK_SLICE("until"), cursor_of(request, asking->range.until));
    bk_buffer_append_char(out, '}');
    bk_answer(request, 202);
}

static const char switched_off[] =
    "The webhook is switched off: enable it first, then ask for the replay. What was missed "
    "meanwhile is sent by {\"missing\":true}.";

static void add(struct asking *asking) {
    if (!asking->config->is_enabled) {
        bk_answer_error(asking->request, BK_CONFLICT, switched_off);
        return;
    }
    asking->write = (struct bk_write){.origin = &asking->request->origin,
                                      .lane = BK_LANE_REQUEST,
                                      .run = run_add,
                                      .done = on_added};
    enum bk_status status = bk_store_write(asking->request->tenant->database, &asking->write);
    if (status != BK_OK)
        bk_answer_error(asking->request, status, NULL);
}

static void proceed(struct asking *asking) {
    if (asking->is_dry)
        count(asking);
    else
        add(asking);
}

/* --- the oldest that has failed --------------------------------------------------------------- */

static enum bk_status run_find(struct bk_connection *connection, struct bk_read *read) {
    struct asking *asking = bk_container_of(read, struct asking, read);
    /* The second condition on the state is that of the index. */
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT sequence FROM _deliveries WHERE state = 'failed' AND state != "
                             "'delivered' AND webhook = ?1 ORDER BY id LIMIT 1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, asking->webhook);
    status = bk_statement_step(statement);
    asking->at = status == BK_OK ? (uint64_t)bk_statement_int(statement, 0) - 1 : UINT64_MAX;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static void on_found(struct bk_read *read, enum bk_status status) {
    struct asking *asking = bk_container_of(read, struct asking, read);
    struct webhooks_config *config = asking->config;
    struct webhooks_replay_range *range = &asking->range;
    if (status == BK_OK && asking->at > range->after)
        range->after = asking->at < range->until ? asking->at : range->until;
    if (status == BK_OK)
        proceed(asking);
    else
        bk_answer_error(asking->request, status, NULL);
    webhooks_config_unref(config);
}

static void find(struct asking *asking) {
    (void)webhooks_config_ref(asking->config);
    asking->read = (struct bk_read){.may_run_again = true, .run = run_find, .done = on_found};
    enum bk_status status = bk_store_read(asking->request->tenant->database, &asking->read);
    if (status == BK_OK)
        return;
    webhooks_config_unref(asking->config);
    bk_answer_error(asking->request, status, NULL);
}

/* --- the request ------------------------------------------------------------------------------ */

/* Nothing comes to one that is switched off. */
static uint64_t standing_of(const struct webhooks_endpoint *endpoint) {
    if (!endpoint->config->is_enabled)
        return UINT64_MAX;
    uint64_t passed = endpoint->is_open ? bk_position_facts(&endpoint->position).acknowledged : 0;
    return passed > endpoint->ended ? passed : endpoint->ended;
}

void webhooks_replay_many(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct asking *asking = bk_arena_alloc_zero(&request->arena, sizeof *asking);
    struct bk_slice id = bk_request_parameter(request, BK_SLICE("id"));
    struct webhooks_endpoint *endpoint =
        webhooks_endpoint_find(context->state, request->tenant, id);
    if (endpoint == NULL) {
        bk_answer_error(request, BK_NOT_FOUND, NULL);
        return;
    }
    asking->request = request;
    asking->state = context->state;
    asking->config = endpoint->config;
    asking->webhook = id;
    asking->stands_at = standing_of(endpoint);
    refuse_unknown_names(request);
    asking->is_dry = read_flag(request, BK_SLICE("dryRun"));
    asking->range.is_missing = read_flag(request, BK_SLICE("missing"));
    read_state(request, &asking->range);
    read_types(request, &asking->range);
    enum bk_status status = read_bounds(asking);
    if (request->problems.count > 0)
        bk_answer_problems(request, BK_INVALID, "The replay cannot be begun.");
    else if (status != BK_OK)
        bk_answer_error(request, status, NULL);
    else if (asking->begins_with_failed)
        find(asking);
    else
        proceed(asking);
}

/* --- one delivery ----------------------------------------------------------------------------- */

struct one {
    struct bk_request *request;
    const struct webhooks_state *state;
    struct bk_slice id; /* of the delivery */
    struct webhooks_attempt attempt;
    bool is_waiting;
    bool is_ordered; /* its endpoint: all that waits is in one lane then */
    struct bk_write write;
};

static bool read_one(struct one *one) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT webhook, event, type, subject, sequence, `after`, format, "
                             "state FROM _deliveries WHERE id = ?1"));
    struct bk_arena *arena = &one->request->arena;
    struct bk_connection *connection = bk_store_read_now(one->request->tenant->database);
    struct bk_statement *statement;
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK)
        return false;
    bk_statement_bind_text(statement, 1, one->id);
    bool is_found = bk_statement_step(statement) == BK_OK;
    if (is_found) {
        one->attempt = (struct webhooks_attempt){
            .webhook = bk_arena_copy(arena, bk_statement_text(statement, 0)),
            .event = bk_arena_copy(arena, bk_statement_text(statement, 1)),
            .type = bk_arena_copy(arena, bk_statement_text(statement, 2)),
            .subject = bk_arena_copy(arena, bk_statement_text(statement, 3)),
            .sequence = (uint64_t)bk_statement_int(statement, 4),
            .after = (uint64_t)bk_statement_int(statement, 5),
            .format = webhooks_format_named(bk_statement_text(statement, 6)),
            .state = WEBHOOKS_RETRYING};
        one->is_waiting = bk_slice_is(bk_statement_text(statement, 7), "retrying");
    }
    bk_statement_reset(statement);
    return is_found;
}

/* BK_NOT_FOUND: nothing waits of it. */
static enum bk_status hasten(const struct one *one, struct bk_transaction *transaction) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT id FROM _work WHERE uniqueKey = ?1 AND uniqueKey != '' AND "
                             "state != 'dead' AND state != 'done'"));
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1,
                           bk_arena_format(arena, WEBHOOKS_KIND " %.*s", BK_SLICE_PRINT(one->id)));
    status = bk_statement_step(statement);
    struct bk_slice task = BK_SLICE_EMPTY;
    if (status == BK_OK)
        task = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    if (status != BK_OK)
        return status == BK_END ? BK_NOT_FOUND : status;
    status = bk_work_retry(one->state->context->work, transaction, task);
    return status == BK_CONFLICT ? BK_OK : status; /* it is being tried right now */
}

static enum bk_status run_replay_one(struct bk_transaction *transaction, struct bk_write *write) {
    struct one *one = bk_container_of(write, struct one, write);
    enum bk_status status = one->is_waiting ? hasten(one, transaction) : BK_NOT_FOUND;
    if (status != BK_NOT_FOUND)
        return status;
    one->attempt.next_ms = bk_transaction_now_ms(transaction);
    status = webhooks_delivery_write(transaction, &one->attempt);
    if (status == BK_OK)
        status = webhooks_retry_add(one->state, transaction, &one->attempt, !one->is_ordered);
    return status;
}

static void on_replayed_one(struct bk_write *write, enum bk_status status) {
    struct one *one = bk_container_of(write, struct one, write);
    struct bk_buffer *out = &one->request->out;
    if (status != BK_OK) {
        bk_answer_error(one->request, status, NULL);
        return;
    }
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("delivery"), one->id);
    bk_json_write_member_string(out, BK_SLICE("webhook"), one->attempt.webhook);
    bk_json_write_member_string(out, BK_SLICE("state"), BK_SLICE("retrying"));
    bk_buffer_append_char(out, '}');
    bk_answer(one->request, 202);
}

/* False: it was answered. */
static bool may_be_sent(struct one *one) {
    struct bk_request *request = one->request;
    const struct webhooks_endpoint *endpoint =
        webhooks_endpoint_find(one->state, request->tenant, one->attempt.webhook);
    if (endpoint == NULL || endpoint->is_gone)
        bk_answer_error(request, BK_CONFLICT, "The webhook of this delivery was deleted.");
    else if (!endpoint->config->is_enabled)
        bk_answer_error(request, BK_CONFLICT, switched_off);
    else if (one->attempt.sequence < bk_journal_state(request->tenant->database).oldest)
        bk_answer_error(request, BK_GONE,
                        "The event of this delivery is no longer kept, so it cannot be sent "
                        "again.");
    else {
        one->is_ordered = endpoint->config->is_ordered;
        return true;
    }
    return false;
}

void webhooks_replay_one(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct one *one = bk_arena_alloc_zero(&request->arena, sizeof *one);
    one->request = request;
    one->state = context->state;
    one->id = bk_request_parameter(request, BK_SLICE("id"));
    if (!read_one(one)) {
        bk_answer_error(request, BK_NOT_FOUND, NULL);
        return;
    }
    if (!may_be_sent(one))
        return;
    one->write = (struct bk_write){.origin = &request->origin,
                                   .lane = BK_LANE_REQUEST,
                                   .run = run_replay_one,
                                   .done = on_replayed_one};
    enum bk_status status = bk_store_write(request->tenant->database, &one->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}
