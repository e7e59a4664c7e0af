/*
 * What a replay is of: a range of the journal, of which those are sent that the endpoint asks for
 * (it is never sent anything else), that have one of the types, and whose delivery is as the
 * replay wants it. Deliveries are looked up by their ids, which are made of event and endpoint.
 *
 * A delivery that waits for its next attempt is left to that: it is on its way already.
 */
#include "replay.h"

/* --- the payload of the task ------------------------------------------------------------------ */

void webhooks_replay_range_write(struct bk_buffer *out, const struct webhooks_replay_range *range) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_int(out, BK_SLICE("after"), (int64_t)range->after);
    bk_json_write_member_int(out, BK_SLICE("until"), (int64_t)range->until);
    bk_json_write_key(out, BK_SLICE("types"));
    bk_buffer_append_char(out, '[');
    for (size_t i = 0; i < range->type_count; i++) {
        bk_json_write_separator(out);
        bk_json_write_string(out, range->types[i]);
    }
    bk_buffer_append_char(out, ']');
    bk_json_write_member_string(out, BK_SLICE("state"), range->state);
    bk_json_write_member_bool(out, BK_SLICE("missing"), range->is_missing);
    bk_json_write_member_bool(out, BK_SLICE("gap"), range->is_gap);
    bk_buffer_append_char(out, '}');
}

static bool read_sequence(const struct bk_json *json, struct bk_slice key, uint64_t *sequence) {
    const struct bk_json *member = bk_json_get(json, key);
    int64_t value;
    if (member == NULL || !bk_json_to_int64(member, &value) || value < 0)
        return false;
    *sequence = (uint64_t)value;
    return true;
}

static bool read_flag(const struct bk_json *json, struct bk_slice key) {
    const struct bk_json *member = bk_json_get(json, key);
    return member != NULL && member->boolean;
}

static void read_types(struct bk_arena *arena, const struct bk_json *types,
                       struct webhooks_replay_range *range) {
    if (types == NULL || types->child_count == 0)
        return;
    struct bk_slice *texts = bk_arena_alloc(arena, types->child_count * sizeof *texts);
    if (texts == NULL)
        return;
    for (const struct bk_json *each = types->child; each != NULL; each = each->next)
        texts[range->type_count++] = each->string;
    range->types = texts;
}

enum bk_status webhooks_replay_range_read(struct bk_arena *arena, struct bk_slice payload,
                                          struct webhooks_replay_range *range) {
    struct bk_json *json;
    *range = (struct webhooks_replay_range){0};
    enum bk_status status = bk_json_parse(arena, payload, &json, NULL);
    if (status != BK_OK)
        return status;
    if (!read_sequence(json, BK_SLICE("after"), &range->after) ||
        !read_sequence(json, BK_SLICE("until"), &range->until))
        return BK_INVALID;
    read_types(arena, bk_json_get(json, BK_SLICE("types")), range);
    range->state = bk_json_get_string(json, BK_SLICE("state"));
    range->is_missing = read_flag(json, BK_SLICE("missing"));
    range->is_gap = read_flag(json, BK_SLICE("gap"));
    return bk_arena_status(arena);
}

/* --- what is wanted --------------------------------------------------------------------------- */

static bool has_type(const struct webhooks_replay_range *range, struct bk_slice type) {
    bool does_match = range->type_count == 0;
    for (size_t i = 0; i < range->type_count && !does_match; i++)
        does_match = bk_event_pattern_matches(range->types[i], type);
    return does_match;
}

static bool does_ask(const struct webhooks_config *config, const struct bk_event_fields *fields) {
    const struct bk_interest interest = {
        .types = config->types, .type_count = config->type_count, .subject = config->subject};
    if (!bk_interest_matches(&interest, fields->type, fields->subject))
        return false;
    if (config->filter == NULL)
        return true;
    struct bk_event_view view;
    bk_event_view_init(&view, fields);
    bool does_hold = bk_event_filter_holds(config->filter, &view);
    bk_event_view_fini(&view);
    return does_hold;
}

/* state: "failed", "delivered", "retrying"; borrowed by the statement, so it is judged here. */
static enum bk_status read_row(struct bk_connection *connection, struct bk_slice webhook,
                               const struct webhooks_replay_range *range, uint64_t sequence,
                               struct webhooks_replay_row *row, bool *has_state) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT state, `after`, format FROM _deliveries WHERE id = ?1"));
    struct bk_statement *statement;
    char id[WEBHOOKS_ID_BYTES];
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    webhooks_delivery_id(id, sequence, webhook);
    bk_statement_bind_text(statement, 1, bk_slice_make(id, sizeof id));
    status = bk_statement_step(statement);
    *row = (struct webhooks_replay_row){.exists = status == BK_OK};
    *has_state = range->state.length == 0;
    if (status == BK_OK) {
        struct bk_slice state = bk_statement_text(statement, 0);
        row->is_waiting = bk_slice_is(state, "retrying");
        row->after = (uint64_t)bk_statement_int(statement, 1);
        row->format = webhooks_format_named(bk_statement_text(statement, 2));
        *has_state = *has_state || bk_slice_equal(state, range->state);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

enum bk_status webhooks_replay_range_wants(struct bk_connection *connection,
                                           const struct webhooks_replay_range *range,
                                           const struct webhooks_config *config,
                                           const struct bk_event_fields *fields,
                                           struct webhooks_replay_row *row, bool *is_wanted) {
    bool has_state = false;
    *row = (struct webhooks_replay_row){0};
    *is_wanted = false;
    if (!has_type(range, fields->type) || !does_ask(config, fields))
        return BK_OK;
    enum bk_status status =
        read_row(connection, config->id, range, fields->sequence, row, &has_state);
    *is_wanted =
        status == BK_OK && has_state && !row->is_waiting && !(range->is_missing && row->exists);
    return status;
}

enum bk_status webhooks_replay_range_before(struct bk_connection *connection,
                                            struct bk_slice webhook, uint64_t sequence,
                                            uint64_t otherwise, uint64_t *before) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT sequence FROM _deliveries WHERE webhook = ?1 AND id < ?2 "
                             "ORDER BY id DESC LIMIT 1"));
    struct bk_statement *statement;
    char id[WEBHOOKS_ID_BYTES];
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    webhooks_delivery_id(id, sequence, webhook);
    bk_statement_bind_text(statement, 1, webhook);
    bk_statement_bind_text(statement, 2, bk_slice_make(id, sizeof id));
    status = bk_statement_step(statement);
    *before = status == BK_OK ? (uint64_t)bk_statement_int(statement, 0) : otherwise;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}
