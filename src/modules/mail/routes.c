/*
 * POST /api/mail: a message is judged and becomes a task, in a write of its own. 202 says that it
 * is on disk; what becomes of it, the events mail.sent and mail.failed say. Sent again with its
 * Idempotency-Key it is answered with the id of that task, and no other is made.
 *
 * POST /api/settings/test/email, the contract's: one of a collection's templates, with made-up
 * values, sent while the client waits, and what went wrong in words; that there is no mail server
 * is wrong, too. It makes no task and no event.
 */
#include "mail.h"

#include "bakend/clock.h"
#include "bakend/id.h"
#include "bakend/retry.h"

#include <stdio.h>

/* --- POST /api/mail --------------------------------------------------------------------------- */

struct enqueuing {
    struct bk_write write;
    struct bk_request *request;
    struct bk_retry retry;
    bool is_done_before;
    char id[BK_WORK_ID_BYTES + 1];
};

/* The outcome of the request is the id: ["…"]. */
static enum bk_status add_task(struct enqueuing *enqueuing, struct bk_transaction *transaction) {
    const struct bk_module_context *context = enqueuing->request->module;
    const struct bk_work_draft draft = {.kind = "mail", .payload = enqueuing->request->json->text};
    char outcome[sizeof enqueuing->id + 4];
    enum bk_status status = bk_work_add(context->work, transaction, &draft, enqueuing->id);
    if (status != BK_OK || !enqueuing->retry.is_asked)
        return status;
    snprintf(outcome, sizeof outcome, "[\"%s\"]", enqueuing->id);
    return bk_retry_keep(&enqueuing->retry, transaction, bk_slice_from(outcome));
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct enqueuing *enqueuing = bk_container_of(write, struct enqueuing, write);
    const struct bk_json *outcome = NULL;
    enum bk_status status =
        bk_retry_find(&enqueuing->retry, transaction, &enqueuing->request->arena, &outcome);
    enqueuing->is_done_before = status == BK_OK;
    if (status == BK_END)
        return add_task(enqueuing, transaction);
    if (status != BK_OK)
        return status;
    if (outcome->child == NULL || outcome->child->string.length != BK_WORK_ID_BYTES)
        return BK_CORRUPT;
    memcpy(enqueuing->id, outcome->child->string.data, BK_WORK_ID_BYTES);
    enqueuing->id[BK_WORK_ID_BYTES] = '\0';
    return BK_OK;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct enqueuing *enqueuing = bk_container_of(write, struct enqueuing, write);
    struct bk_request *request = enqueuing->request;
    if (status != BK_OK) {
        bk_answer_error(request, status,
                        status == BK_UNPROCESSABLE ? bk_retry_conflict_message : NULL);
        return;
    }
    if (enqueuing->is_done_before)
        bk_answer_header(request, "Idempotent-Replayed", BK_SLICE("true"));
    bk_buffer_append_char(&request->out, '{');
    bk_json_write_member_string(&request->out, BK_SLICE("id"), bk_slice_from(enqueuing->id));
    bk_buffer_append_char(&request->out, '}');
    bk_answer(request, 202);
}

static void add(struct bk_request *request, const char *field, const char *code,
                const char *message) {
    bk_problems_add(&request->problems, bk_slice_from(field), code, message);
}

static bool is_one_of(struct bk_slice name, const char *const *names) {
    while (*names != NULL && !bk_slice_equal(name, bk_slice_from(*names)))
        names++;
    return *names != NULL;
}

/* A member that would be left out is a mail that is not the one that was meant. */
static void judge_members(struct bk_request *request, bool has_template) {
    static const char *const all[] = {"to", "cc", "bcc", "replyTo", "headers", "expires", NULL};
    static const char *const own[] = {"subject", "text", "html", NULL};
    static const char *const of_template[] = {"template", "collection", "record", "variables",
                                              NULL};
    const struct bk_json *member = request->json == NULL ? NULL : request->json->child;
    for (; member != NULL; member = member->next) {
        const char *message = NULL;
        if (is_one_of(member->key, own))
            message = has_template ? "Means nothing beside a template, which has its own." : NULL;
        else if (is_one_of(member->key, of_template))
            message = has_template ? NULL : "Means nothing without a template.";
        else if (!is_one_of(member->key, all))
            message = "Is no part of a mail: it has to, cc, bcc, replyTo, subject, text, html, "
                      "headers and expires.";
        if (message != NULL && member->type != BK_JSON_NULL)
            bk_problems_add(&request->problems, member->key, "validation_unknown_name", message);
    }
}

static void judge_variables(struct bk_request *request, const struct mail_message *message) {
    const char *names[MAIL_OWN_VARIABLES_MAX];
    size_t count = mail_find_lacking(message, names);
    for (size_t i = 0; i < count; i++)
        bk_problems_add(&request->problems,
                        bk_arena_format(&request->arena, "variables.%s", names[i]),
                        "validation_required",
                        bk_arena_format(&request->arena,
                                        "Cannot be blank: the template has {%s} in it.", names[i])
                            .data);
}

/* Whether there is what it is made from: it may be another when it is sent, or gone. */
static void judge_origin(struct bk_request *request, struct mail_message message) {
    const struct bk_module_context *context = request->module;
    const struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *collection = bk_schema_find(schema, message.collection);
    struct bk_error error = BK_ERROR_INIT;
    if (collection == NULL || collection->type != BK_COLLECTION_AUTH) {
        add(request, "collection", "validation_invalid_auth_collection",
            "Must be a valid auth collection id or name.");
        return;
    }
    enum bk_status status =
        mail_resolve(context, request->tenant, &request->arena, &message, &error);
    if (status == BK_NOT_FOUND)
        add(request, "record", "validation_missing_rel_records",
            "Must be the id of a record of the collection.");
    else if (status == BK_OK)
        judge_variables(request, &message);
}

void mail_enqueue(struct bk_request *request) {
    struct mail_message message;
    bk_problems_init(&request->problems, &request->arena);
    enum bk_status status = mail_message_read(request->json, &request->problems, &message);
    judge_members(request, message.template_name.length > 0);
    if (status == BK_OK && message.template != MAIL_NO_TEMPLATE)
        judge_origin(request, message);
    if (status != BK_OK || request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "Failed to send the mail.");
        return;
    }
    struct enqueuing *enqueuing = bk_arena_alloc_zero(&request->arena, sizeof *enqueuing);
    if (!bk_retry_read(request, &enqueuing->retry))
        return;
    enqueuing->request = request;
    enqueuing->write.origin = &request->origin;
    enqueuing->write.run = on_run;
    enqueuing->write.done = on_done;
    status = bk_store_write(request->tenant->database, &enqueuing->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

/* --- POST /api/settings/test/email ------------------------------------------------------------ */

struct test {
    struct mail_sending sending;
    struct bk_request *request;
    char id[BK_RECORD_ID_BYTES];
};

static void refuse(struct bk_request *request, const char *reason) {
    struct bk_slice message =
        bk_arena_format(&request->arena, "Failed to send the test email. Raw error: \n%s", reason);
    bk_answer_error(request, BK_INVALID, message.data);
}

/* Whoever tests wants to know whether mails arrive: one in a file has reached nobody. */
static void on_tested(struct mail_sending *sending) {
    struct test *test = bk_container_of(sending, struct test, sending);
    if (sending->outcome != MAIL_SENT)
        refuse(test->request, sending->error.message);
    else if (strcmp(sending->transport, "file") == 0)
        refuse(test->request,
               bk_arena_format(&test->request->arena,
                               "no mail server is set (smtp.enabled): the mail is in the file "
                               "mail/%.*s.eml of the tenant's data, and reached nobody",
                               BK_SLICE_PRINT(sending->id))
                   .data);
    else
        bk_answer_empty(test->request);
}

/* By default the superusers', who have templates like everybody else. */
static const struct bk_collection *judge_collection(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct bk_slice name = bk_json_get_string(request->json, BK_SLICE("collection"));
    const struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_collection *collection =
        bk_schema_find(schema, name.length > 0 ? name : BK_SLICE("_superusers"));
    if (collection == NULL || collection->type != BK_COLLECTION_AUTH)
        add(request, "collection", "validation_invalid_auth_collection",
            "Must be a valid auth collection id or name.");
    return collection;
}

static void judge_address(struct bk_request *request, struct bk_slice address) {
    if (address.length == 0)
        add(request, "email", "validation_required", "Cannot be blank.");
    else if (!mail_address_is_valid(address))
        add(request, "email", "validation_is_email", "Must be a valid email address.");
}

/* What stands for what a real mail would bring along. */
static const struct bk_json *sample_variables(struct bk_arena *arena) {
    char now[BK_TIME_TEXT_BYTES];
    struct bk_json *variables = NULL;
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    struct bk_slice text =
        bk_arena_format(arena,
                        "{\"TOKEN\":\"test_token\",\"OTP\":\"123456\",\"OTP_ID\":\"test_otp_id\","
                        "\"ALERT_INFO\":\"%.*s - TEST_IP TEST_USER_AGENT\"}",
                        BK_TIME_TEXT_BYTES, now);
    return bk_json_parse(arena, text, &variables, NULL) == BK_OK ? variables : NULL;
}

static void judge_template(struct bk_request *request, struct mail_message *message) {
    message->template_name = bk_json_get_string(request->json, BK_SLICE("template"));
    message->template = mail_template_named(message->template_name);
    if (message->template_name.length == 0)
        add(request, "template", "validation_required", "Cannot be blank.");
    else if (message->template == MAIL_NO_TEMPLATE)
        add(request, "template", "validation_in_invalid", "Must be a valid value.");
}

void mail_test(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct test *test = bk_arena_alloc_zero(&request->arena, sizeof *test);
    struct mail_sending *sending = &test->sending;
    struct mail_message *message = &sending->message;
    struct mail_address *to = bk_arena_alloc_zero(&request->arena, sizeof *to);
    bk_problems_init(&request->problems, &request->arena);
    test->request = request;
    to->address = bk_json_get_string(request->json, BK_SLICE("email"));
    const struct bk_collection *collection = judge_collection(request);
    judge_address(request, to->address);
    judge_template(request, message);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "Failed to send the test email.");
        return;
    }
    bk_record_id_make(test->id, bk_clock_wall_ms());
    message->to = to;
    message->recipient_count = 1;
    message->variables = sample_variables(&request->arena);
    sending->state = context->state;
    sending->tenant = request->tenant;
    sending->id = bk_slice_make(test->id, sizeof test->id);
    sending->arena = &request->arena;
    sending->done = on_tested;
    if (mail_resolve_sample(collection, request->tenant, &request->arena, message,
                            &sending->error) == BK_OK)
        mail_send(sending);
    else
        refuse(request, sending->error.message);
}
