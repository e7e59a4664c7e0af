/*
 * What a webhook may be like: each member of a request's body is judged by a function of its own,
 * which writes it into the record's body in the one form that is kept, or says what is wrong and
 * what to do. All problems are found in one go. Members that are unknown are refused: a slip in
 * "filter" would send everything.
 */
#include "routes.h"

enum { SUBJECT_BYTES_MAX = 1024, MESSAGE_BYTES_MAX = 1000 };

static void problem(struct webhooks_task *task, const struct bk_json *json, const char *code,
                    const char *message) {
    bk_problems_add(&task->request->problems, json->key, code, message);
}

/* The reason as a sentence, and what can be done about it. */
static void problem_reason(struct webhooks_task *task, const struct bk_json *json, const char *code,
                           const char *reason, const char *remedy) {
    char first = reason[0] >= 'a' && reason[0] <= 'z' ? (char)(reason[0] - ('a' - 'A')) : reason[0];
    struct bk_slice message = bk_arena_format(&task->request->arena, "%c%s.%s", first,
                                              reason[0] == '\0' ? "" : reason + 1, remedy);
    problem(task, json, code, message.data == NULL ? "It is not valid." : message.data);
}

/* --- by type ---------------------------------------------------------------------------------- */

/* Null empties it. */
static bool is_text(struct webhooks_task *task, const struct bk_json *json, size_t bytes_max) {
    if (json->type == BK_JSON_NULL)
        return true;
    if (json->type != BK_JSON_STRING)
        problem(task, json, "validation_invalid_type", "Must be a text.");
    else if (json->string.length > bytes_max)
        bk_problems_add(
            &task->request->problems, json->key, "validation_max_text_constraint",
            bk_arena_format(&task->request->arena, "Must be no more than %zu bytes.", bytes_max)
                .data);
    else
        return true;
    return false;
}

static struct bk_slice text_of(const struct bk_json *json) {
    return json->type == BK_JSON_STRING ? json->string : BK_SLICE_EMPTY;
}

static void read_text(struct webhooks_task *task, const struct bk_json *json, size_t bytes_max) {
    if (is_text(task, json, bytes_max))
        bk_json_write_member_string(&task->body, json->key, text_of(json));
}

static bool read_bool(struct webhooks_task *task, const struct bk_json *json) {
    if (json->type == BK_JSON_BOOL)
        return true;
    problem(task, json, "validation_invalid_type", "Must be true or false.");
    return false;
}

/* 0 and null: the default. */
static void read_number(struct webhooks_task *task, const struct bk_json *json, int64_t minimum,
                        int64_t maximum, const char *message, int64_t fallback) {
    int64_t value = 0;
    bool is_number = json->type == BK_JSON_NULL ||
                     (json->type == BK_JSON_NUMBER && bk_json_to_int64(json, &value) &&
                      (value == 0 || (value >= minimum && value <= maximum)));
    if (is_number)
        bk_json_write_member_int(&task->body, json->key, value == 0 ? fallback : value);
    else
        problem(task, json, "validation_invalid_number", message);
}

/* --- the members ------------------------------------------------------------------------------ */

/* "scheme://host:port" */
static struct bk_slice origin_of(struct bk_slice url) {
    size_t host = bk_slice_find(url, ':') + strlen("://"), end = host;
    while (end < url.length && strchr("/?#", url.data[end]) == NULL)
        end++;
    return end < url.length ? bk_slice_make(url.data, end) : url;
}

static void read_url(struct webhooks_task *task, const struct bk_json *json) {
    struct bk_error error = BK_ERROR_INIT;
    struct bk_slice url = bk_slice_trim(text_of(json));
    if (json->type != BK_JSON_STRING && json->type != BK_JSON_NULL) {
        problem(task, json, "validation_invalid_type", "Must be a text.");
        return;
    }
    if (url.length == 0) {
        problem(task, json, "validation_required",
                "Cannot be blank: where events are posted to, such as https://example.com/hook.");
        return;
    }
    if (bk_outbound_check_url(&task->state->policy, url, &error) != BK_OK) {
        problem_reason(task, json, "validation_invalid_url", error.message,
                       " Other addresses, and plain http, only inside --webhooks-allow.");
        return;
    }
    bk_json_write_member_string(&task->body, json->key, url);
    if (task->url.length == 0 || bk_slice_equal(task->url, url))
        return;
    task->moves_away |= !bk_slice_equal_ignore_case(origin_of(task->url), origin_of(url));
    /* What the former one has agreed to. */
    bk_json_write_member_string(&task->body, BK_SLICE("verifiedAt"), BK_SLICE_EMPTY);
    bk_json_write_member_int(&task->body, BK_SLICE("allowedRate"), 0);
}

static void read_types(struct webhooks_task *task, const struct bk_json *json) {
    if (json->type != BK_JSON_ARRAY || json->child_count == 0 ||
        json->child_count > WEBHOOKS_TYPES_MAX) {
        problem(task, json, "validation_invalid_types",
                "Must be a list of 1 to 100 types of events: [\"posts.*\", \"users.created\"], or "
                "[\"*\"] for all.");
        return;
    }
    bk_json_write_key(&task->body, json->key);
    bk_buffer_append_char(&task->body, '[');
    for (const struct bk_json *item = json->child; item != NULL; item = item->next) {
        struct bk_slice pattern = text_of(item);
        if (!bk_event_pattern_is_valid(pattern)) {
            struct bk_slice message = bk_arena_format(
                &task->request->arena,
                "\"%.*s\" is no type of events: words with dots between them, a * for one of them "
                "or, at the end, for all the rest.",
                (int)(pattern.length < 100 ? pattern.length : 0), pattern.data);
            problem(task, json, "validation_invalid_types",
                    message.data == NULL ? "One of them is no type of events." : message.data);
            break;
        }
        bk_json_write_separator(&task->body);
        bk_json_write_string(&task->body, pattern);
    }
    bk_buffer_append_char(&task->body, ']');
}

/* As the feed has it: no event would ever have another one. */
static void read_subject(struct webhooks_task *task, const struct bk_json *json) {
    struct bk_slice subject = text_of(json);
    size_t slash = bk_slice_find(subject, '/');
    bool is_one = subject.length == 0 || (slash > 0 && slash + 1 < subject.length &&
                                          bk_slice_find(subject, '*') == subject.length);
    if (!is_text(task, json, SUBJECT_BYTES_MAX))
        return;
    if (is_one)
        bk_json_write_member_string(&task->body, json->key, subject);
    else
        problem(task, json, "validation_invalid_subject",
                "Must be a collection and an id, such as posts/abc, or empty for any. For all "
                "records of posts, types says posts.*.");
}

static void read_filter(struct webhooks_task *task, const struct bk_json *json) {
    struct bk_event_filter *filter = NULL;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_slice text = bk_slice_trim(text_of(json));
    if (!is_text(task, json, BK_EVENT_FILTER_BYTES_MAX))
        return;
    if (text.length > 0 && bk_event_filter_parse(text, &filter, &error) != BK_OK) {
        problem_reason(task, json, "validation_invalid_filter", error.message,
                       " A filter is like payload.total >= 50 && source = \"collections\".");
        return;
    }
    bk_event_filter_unref(filter);
    bk_json_write_member_string(&task->body, json->key, text);
}

static void read_description(struct webhooks_task *task, const struct bk_json *json) {
    read_text(task, json, WEBHOOKS_DESCRIPTION_MAX);
}

/* What goes with it is written when the whole body was read. */
static void read_enabled(struct webhooks_task *task, const struct bk_json *json) {
    task->gives_enabled = read_bool(task, json);
    task->enables = json->boolean;
}

static void read_format(struct webhooks_task *task, const struct bk_json *json) {
    static const struct bk_slice names[] = {BK_SLICE_INIT("standard"), BK_SLICE_INIT("cloudevents"),
                                            BK_SLICE_INIT("cloudevents-binary")};
    struct bk_slice name = json->type == BK_JSON_NULL ? names[0] : text_of(json);
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        if (!bk_slice_equal(name, names[i]))
            continue;
        bk_json_write_member_string(&task->body, json->key, name);
        return;
    }
    problem(task, json, "validation_invalid_format",
            "Must be standard, cloudevents or cloudevents-binary.");
}

/* Names alone go into the record, see headers.c. */
static void read_headers(struct webhooks_task *task, const struct bk_json *json) {
    webhooks_headers_check(&task->request->problems, json, task->known_headers);
    bk_json_write_key(&task->body, json->key);
    if (json->type == BK_JSON_OBJECT)
        webhooks_headers_write_names(&task->body, json);
    else
        bk_buffer_append_literal(&task->body, "{}");
    task->gives_headers = true;
    task->keeps_headers |= json->type == BK_JSON_OBJECT && webhooks_headers_keep_any(json);
    task->headers = json;
}

/* Values are shown to nobody, so they are not sent to whoever comes next either: of whoever may
 * change a webhook, but has not been told them. */
static void judge_move(struct webhooks_task *task) {
    bool keeps_any = task->gives_headers ? task->keeps_headers : task->known_headers != NULL;
    if (task->moves_away && keeps_any)
        bk_problems_add(
            &task->request->problems, BK_SLICE("headers"), "validation_required",
            "The values that are kept were said for the host that url had: say all of them again "
            "with the new one, or {} for none.");
}

static void read_rate_limit(struct webhooks_task *task, const struct bk_json *json) {
    read_number(task, json, 1, WEBHOOKS_RATE_MAX,
                "Must be 1 to 600000 deliveries a minute, or 0 for as fast as they come.", 0);
}

static void read_max_in_flight(struct webhooks_task *task, const struct bk_json *json) {
    read_number(task, json, 1, WEBHOOKS_IN_FLIGHT_MAX,
                "Must be 1 to 64 requests at once, or 0 for the default, 8.", WEBHOOKS_IN_FLIGHT);
}

static void read_ordered(struct webhooks_task *task, const struct bk_json *json) {
    if (read_bool(task, json))
        bk_json_write_member_bool(&task->body, json->key, json->boolean);
}

static void read_timeout(struct webhooks_task *task, const struct bk_json *json) {
    read_number(task, json, WEBHOOKS_TIMEOUT_MIN_MS, WEBHOOKS_TIMEOUT_MAX_MS,
                "Must be 1000 to 30000 milliseconds, or 0 for that of --webhooks-timeout.", 0);
}

static void read_ed25519(struct webhooks_task *task, const struct bk_json *json) {
    task->gives_ed25519 = read_bool(task, json);
    task->wants_ed25519 = json->boolean;
}

void webhooks_fields_read_secret(struct webhooks_task *task, const struct bk_json *json) {
    struct webhooks_keys probe = {0};
    if (json->type == BK_JSON_NULL)
        return;
    if (json->type != BK_JSON_STRING || json->string.length == 0 ||
        webhooks_secret_make(json->string, &probe) != BK_OK)
        problem(task, json, "validation_invalid_secret",
                "Must be \"whsec_\" and 24 to 64 bytes in base64, or left out for a random one.");
    else
        task->given_secret = json->string;
    bk_crypto_wipe(&probe, sizeof(probe));
}

static const struct member {
    const char *name;
    void (*read)(struct webhooks_task *task, const struct bk_json *json);
    bool is_of_create_alone;
} members[] = {
    {"url", read_url, false},
    {"types", read_types, false},
    {"subject", read_subject, false},
    {"filter", read_filter, false},
    {"description", read_description, false},
    {"enabled", read_enabled, false},
    {"format", read_format, false},
    {"headers", read_headers, false},
    {"rateLimit", read_rate_limit, false},
    {"maxInFlight", read_max_in_flight, false},
    {"ordered", read_ordered, false},
    {"timeoutMs", read_timeout, false},
    {"ed25519", read_ed25519, false},
    {"secret", webhooks_fields_read_secret, true},
};

static void read_member(struct webhooks_task *task, const struct bk_json *json, bool is_create) {
    for (size_t i = 0; i < BK_COUNT_OF(members); i++) {
        if (!bk_slice_equal(json->key, bk_slice_from(members[i].name)))
            continue;
        if (members[i].is_of_create_alone && !is_create)
            problem(task, json, "validation_not_changeable",
                    "Is changed by POST /api/webhooks/{id}/rotate.");
        else
            members[i].read(task, json);
        return;
    }
    problem(task, json, "validation_unknown_name",
            "There is no such name to be set here, only: url, types, subject, filter, description, "
            "enabled, format, headers, rateLimit, maxInFlight, ordered, timeoutMs, ed25519, and "
            "secret when it is made.");
}

/* --- the whole -------------------------------------------------------------------------------- */

static void require(struct webhooks_task *task, const char *name, const char *message) {
    struct bk_request *request = task->request;
    if (bk_json_get(request->json, bk_slice_from(name)) == NULL)
        bk_problems_add(&request->problems, bk_slice_from(name), "validation_required", message);
}

static void read_defaults(struct webhooks_task *task) {
    const struct bk_json *given = task->request->json;
    if (bk_json_get(given, BK_SLICE("format")) == NULL)
        bk_json_write_member_string(&task->body, BK_SLICE("format"), BK_SLICE("standard"));
    if (bk_json_get(given, BK_SLICE("maxInFlight")) == NULL)
        bk_json_write_member_int(&task->body, BK_SLICE("maxInFlight"), WEBHOOKS_IN_FLIGHT);
    if (bk_json_get(given, BK_SLICE("headers")) == NULL)
        bk_json_write_member_raw(&task->body, BK_SLICE("headers"), BK_SLICE("{}"));
    if (!task->gives_enabled) {
        task->gives_enabled = true;
        task->enables = true;
    }
}

static bool answer_problems(struct webhooks_task *task) {
    struct bk_request *request = task->request;
    if (request->problems.count == 0 && bk_arena_status(&request->arena) == BK_OK &&
        bk_buffer_status(&task->body) == BK_OK)
        return true;
    webhooks_task_end(task);
    if (request->problems.count == 0)
        bk_answer_error(request, BK_TOO_LARGE, NULL);
    else
        bk_answer_problems(request, BK_INVALID, "The webhook cannot be like this.");
    return false;
}

bool webhooks_fields_read(struct webhooks_task *task, bool is_create) {
    const struct bk_json *json = task->request->json;
    if (is_create) {
        require(task, "url",
                "Cannot be blank: where events are posted to, such as https://example.com/hook.");
        require(task, "types",
                "Cannot be blank: the types of events that it gets, such as [\"posts.*\"], or "
                "[\"*\"] for all.");
    }
    for (const struct bk_json *member = json == NULL ? NULL : json->child; member != NULL;
         member = member->next)
        read_member(task, member, is_create);
    if (is_create)
        read_defaults(task);
    judge_move(task);
    return answer_problems(task);
}
