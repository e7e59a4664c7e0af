/*
 * What the dashboard and the SDKs ask about collections in general: what a new one has, which
 * OAuth2 providers there are, and what a view's query would give. A dry run makes the view and
 * takes it back in the same transaction, so that it is judged by just what would judge it.
 */
#include "collections.h"

#include "bakend/id.h"

enum { QUERY_CHARACTERS_MAX = 5000, SAMPLE_MAX = 10, SAMPLE_BYTES_MAX = 4 * 1024 * 1024 };

/* --- scaffolds -------------------------------------------------------------------------------- */

void collections_definition_scaffolds(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    static const enum bk_collection_type types[] = {BK_COLLECTION_AUTH, BK_COLLECTION_BASE,
                                                    BK_COLLECTION_VIEW};
    static const char *const names[] = {"auth", "base", "view"};
    enum bk_status status = BK_OK;
    bk_buffer_append_char(&request->out, '{');
    for (size_t i = 0; i < BK_COUNT_OF(types) && status == BK_OK; i++) {
        bk_json_write_key(&request->out, bk_slice_from(names[i]));
        status = bk_schema_write_scaffold(context->schema, types[i], &request->out);
    }
    bk_buffer_append_char(&request->out, '}');
    if (status == BK_OK)
        status = bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

/* --- OAuth2 providers ------------------------------------------------------------------------- */

/* In the contract's order. Their logos are others' property: a page that wants one has its own. */
static const char *const providers[][2] = {
    {"apple", "Apple"},
    {"google", "Google"},
    {"microsoft", "Microsoft"},
    {"yandex", "Yandex"},
    {"facebook", "Facebook"},
    {"instagram2", "Instagram"},
    {"github", "GitHub"},
    {"gitlab", "GitLab"},
    {"bitbucket", "Bitbucket"},
    {"gitee", "Gitee"},
    {"gitea", "Gitea/Forgejo"},
    {"discord", "Discord"},
    {"twitter", "X/Twitter"},
    {"kakao", "Kakao"},
    {"vk", "ВКонтакте"},
    {"linear", "Linear"},
    {"notion", "Notion"},
    {"monday", "monday.com"},
    {"lark", "Lark"},
    {"box", "Box"},
    {"spotify", "Spotify"},
    {"trakt", "Trakt"},
    {"twitch", "Twitch"},
    {"patreon", "Patreon"},
    {"strava", "Strava"},
    {"wakatime", "WakaTime"},
    {"livechat", "LiveChat"},
    {"mailcow", "mailcow"},
    {"planningcenter", "Planning Center"},
    {"oidc", "OIDC"},
    {"oidc2", "OIDC"},
    {"oidc3", "OIDC"},
};

void collections_definition_providers(struct bk_request *request) {
    struct bk_buffer *out = &request->out;
    bk_buffer_append_char(out, '[');
    for (size_t i = 0; i < BK_COUNT_OF(providers); i++) {
        bk_json_write_separator(out);
        bk_buffer_append_char(out, '{');
        bk_json_write_member_string(out, BK_SLICE("name"), bk_slice_from(providers[i][0]));
        bk_json_write_member_string(out, BK_SLICE("displayName"), bk_slice_from(providers[i][1]));
        bk_json_write_member_string(out, BK_SLICE("logo"), BK_SLICE(""));
        bk_buffer_append_char(out, '}');
    }
    bk_buffer_append_char(out, ']');
    enum bk_status status =
        bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

/* --- a view's dry run ------------------------------------------------------------------------- */

struct dry_run {
    struct bk_schema_change change;
    struct bk_request *request;
};

static void write_fields(const struct bk_collection *collection, struct bk_arena *arena,
                         struct bk_buffer *out) {
    struct bk_json *definition;
    const struct bk_json *fields = NULL;
    if (bk_json_parse(arena, collection->definition, &definition, NULL) == BK_OK)
        fields = bk_json_get(definition, BK_SLICE("fields"));
    bk_buffer_append_literal(out, "{\"fields\":");
    bk_buffer_append_slice(out, fields == NULL ? BK_SLICE("[]") : fields->text);
}

/* On the writer, where the view is for the moment. May come again. */
static enum bk_status on_made(struct bk_schema_change *change, struct bk_transaction *transaction) {
    struct dry_run *dry_run = bk_container_of(change, struct dry_run, change);
    const struct bk_collection *collection = change->collection;
    struct bk_buffer *out = &dry_run->request->out;
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    struct bk_value values[BK_COLLECTION_FIELDS_MAX + 8];
    const struct bk_sql sql = bk_sql_make(bk_arena_format(
        arena, "SELECT %.*s FROM %.*s LIMIT %d", BK_SLICE_PRINT(collection->columns),
        BK_SLICE_PRINT(collection->quoted), SAMPLE_MAX));
    bk_buffer_clear(out);
    write_fields(collection, arena, out);
    bk_buffer_append_literal(out, ",\"sample\":[");
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    while ((status = bk_statement_step(statement)) == BK_OK && out->length < SAMPLE_BYTES_MAX) {
        bk_json_write_separator(out);
        bk_record_read(collection, statement, values);
        bk_record_write_json(collection, values, BK_VIEW_PUBLIC, out);
    }
    bk_statement_reset(statement);
    bk_buffer_append_literal(out, "]}");
    return status == BK_END ? BK_OK : status;
}

/* The problem of viewQuery says it, with the beginning that it has there. */
static const char *reason_of(const struct dry_run *dry_run, enum bk_status status) {
    static const struct bk_slice head = BK_SLICE_INIT("Invalid query - ");
    struct bk_request *request = dry_run->request;
    struct bk_slice text = bk_slice_from(dry_run->change.error.message);
    for (const struct bk_problem *problem = request->problems.first; problem != NULL;
         problem = problem->next)
        if (bk_slice_is(problem->field, "viewQuery"))
            text = problem->message;
    if (bk_slice_starts_with(text, head))
        text = bk_slice_make(text.data + head.length, text.length - head.length);
    if (status == BK_TIMEOUT)
        text = BK_SLICE("it takes too long: an index may help, or asking for less.");
    return bk_arena_format(&request->arena, "Invalid view query. Raw error: \n%.*s",
                           BK_SLICE_PRINT(text))
        .data;
}

static void on_dry_run(struct bk_schema_change *change, enum bk_status status) {
    struct dry_run *dry_run = bk_container_of(change, struct dry_run, change);
    struct bk_request *request = dry_run->request;
    if (status == BK_OK)
        status = bk_buffer_status(&request->out);
    if (status == BK_OK) {
        bk_answer(request, 200);
    } else if (status == BK_INVALID || status == BK_TIMEOUT || status == BK_CONFLICT) {
        bk_buffer_clear(&request->out);
        bk_answer_error(request, BK_INVALID, reason_of(dry_run, status));
    } else {
        bk_buffer_clear(&request->out);
        bk_answer_error(request, status, NULL);
    }
}

static const struct bk_json *make_definition(struct bk_request *request, struct bk_slice query) {
    char suffix[5];
    struct bk_buffer out;
    struct bk_json *definition = NULL;
    bk_random_text(suffix, sizeof suffix, BK_SLICE("abcdefghijklmnopqrstuvwxyz0123456789"));
    bk_buffer_init(&out, BK_BODY_MAX_BYTES);
    bk_buffer_append_literal(&out, "{\"type\":\"view\"");
    bk_json_write_member_string(
        &out, BK_SLICE("name"),
        bk_arena_format(&request->arena, "temp_view_%.*s", (int)sizeof suffix, suffix));
    bk_json_write_member_string(&out, BK_SLICE("viewQuery"), query);
    bk_buffer_append_char(&out, '}');
    struct bk_slice text = bk_arena_copy(&request->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    if (bk_json_parse(&request->arena, text, &definition, NULL) != BK_OK)
        return NULL;
    return definition;
}

static bool refuse_query(struct bk_request *request, struct bk_slice query) {
    if (query.length == 0)
        bk_problems_add(&request->problems, BK_SLICE("query"), "validation_required",
                        "Cannot be blank.");
    else if (query.length > QUERY_CHARACTERS_MAX)
        bk_problems_add_params(&request->problems, BK_SLICE("query"), "validation_length_too_long",
                               "The length must be no more than 5000.",
                               BK_SLICE("{\"max\":5000,\"min\":0}"));
    if (request->problems.count == 0)
        return false;
    bk_answer_problems(request, BK_INVALID,
                       "An error occurred while validating the submitted data.");
    return true;
}

void collections_definition_dry_run(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    const struct bk_json *member = bk_json_get(request->json, BK_SLICE("query"));
    struct dry_run *dry_run = bk_arena_alloc_zero(&request->arena, sizeof(*dry_run));
    if (member != NULL && member->type != BK_JSON_STRING && member->type != BK_JSON_NULL) {
        bk_answer_error(request, BK_INVALID, "An error occurred while loading the submitted data.");
        return;
    }
    struct bk_slice query = bk_json_get_string(request->json, BK_SLICE("query"));
    if (refuse_query(request, query))
        return;
    dry_run->request = request;
    dry_run->change.tenant = request->tenant;
    dry_run->change.action = BK_SCHEMA_CREATE;
    dry_run->change.definition = make_definition(request, query);
    dry_run->change.is_trial = true;
    dry_run->change.run_also = on_made;
    dry_run->change.arena = &request->arena;
    dry_run->change.problems = &request->problems;
    dry_run->change.origin = &request->origin;
    dry_run->change.done = on_dry_run;
    if (dry_run->change.definition == NULL || request->arena.is_overflown)
        bk_answer_error(request, BK_TOO_LARGE, NULL);
    else
        bk_schema_change(context->schema, &dry_run->change);
}
