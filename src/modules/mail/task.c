/*
 * Work of kind "mail": one message, tried for about a day.
 *
 *   loop    payload → template and record, as they are now → the message → sent (sending.c)
 *   writer  the end, with its event: mail.sent or mail.failed
 *
 * The Message-ID is made of the task's id, so it is the same at each attempt: at least once is what
 * this promises, and twice can be told.
 *
 * Of several recipients some may be refused while the rest has the message. Those who may take it
 * later get a task of their own for what is left; those who never will are named in the event. So
 * nobody gets a message again because of somebody else.
 *
 * An attempt's time is that of its connection: while others have all places, it stands still.
 *
 * A mail whose "expires" has passed is not sent any more: a code that is no longer good helps
 * nobody. When the program stops, a message is put back as if it had never begun, but for one whose
 * text is being sent: it would come twice, so its answer is waited for as long as there is time.
 */
#include "mail.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum {
    REST_DELAY_MS = 60 * 1000,
    BUSY_DELAY_MS = 1000,
    SERVICE_CLOSING = 421,
    EVENT_BYTES_MAX = 64 * 1024, /* of a hundred addresses, twice */
    REST_BYTES_MAX = BK_WORK_PAYLOAD_MAX_BYTES,
};

struct attempt {
    struct mail_sending sending;
    struct bk_arena arena;
    struct bk_work_task *task;
};

/* --- what an end tells ------------------------------------------------------------------------ */

static void write_people(struct bk_buffer *out, const struct mail_address *first) {
    for (; first != NULL; first = first->next) {
        bk_json_write_separator(out);
        bk_json_write_string(out, first->address);
    }
}

/* What is known before anything was sent: everybody that is named. */
static void write_named(struct bk_buffer *out, const struct mail_message *message) {
    bk_json_write_key(out, BK_SLICE("to"));
    bk_buffer_append_char(out, '[');
    write_people(out, message->to);
    write_people(out, message->cc);
    write_people(out, message->bcc);
    bk_buffer_append_char(out, ']');
}

static void write_template(struct bk_buffer *out, const struct mail_message *message) {
    if (message->template == MAIL_NO_TEMPLATE)
        return;
    bk_json_write_member_string(out, BK_SLICE("template"), message->template_name);
    if (message->public_subject.length > 0)
        bk_json_write_member_string(out, BK_SLICE("subject"), message->public_subject);
}

/* "to": those who took it, or, when nobody did, those it was for; "refused": who never will;
 * "deferred": who may later. */
static void write_envelope(struct bk_buffer *out, const struct mail_sending *sending) {
    static const char *const names[] = {"to", "refused", "deferred"};
    bool is_sent = sending->outcome == MAIL_SENT;
    for (size_t list = 0; list < BK_COUNT_OF(names); list++) {
        if (list > 0 && !is_sent)
            break;
        bk_json_write_key(out, bk_slice_from(names[list]));
        bk_buffer_append_char(out, '[');
        for (size_t i = 0; i < sending->recipient_count; i++) {
            bool is_refused = is_sent && mail_is_refused(sending, i);
            size_t own = !is_refused ? 0 : sending->replies[i] >= 500 ? 1 : 2;
            if (own != list)
                continue;
            bk_json_write_separator(out);
            bk_json_write_string(out, sending->recipients[i]);
        }
        bk_buffer_append_char(out, ']');
    }
}

static void write_result(struct bk_buffer *out, const struct mail_sending *sending) {
    bk_buffer_append_char(out, '{');
    if (sending->recipients == NULL)
        write_named(out, &sending->message);
    else
        write_envelope(out, sending);
    write_template(out, &sending->message);
    if (sending->message_id.length > 0)
        bk_json_write_member_string(out, BK_SLICE("messageId"), sending->message_id);
    if (sending->transport != NULL)
        bk_json_write_member_string(out, BK_SLICE("transport"), bk_slice_from(sending->transport));
    if (sending->status > 0)
        bk_json_write_member_int(out, BK_SLICE("status"), sending->status);
    bk_buffer_append_char(out, '}');
}

/* The server took the login and the sender, and judged recipients: nothing is wrong with it. */
static bool is_about_recipients(const struct mail_sending *sending) {
    if (sending->recipients == NULL || sending->status == SERVICE_CLOSING)
        return false;
    for (size_t i = 0; i < sending->recipient_count; i++)
        if (mail_is_refused(sending, i))
            return true;
    return false;
}

/* --- an attempt ------------------------------------------------------------------------------- */

static void on_sent(struct mail_sending *sending) {
    struct attempt *attempt = bk_container_of(sending, struct attempt, sending);
    struct bk_work_task *task = attempt->task;
    const struct bk_log *log = &sending->state->context->log;
    struct bk_slice error = bk_slice_from(sending->error.message);
    struct bk_buffer result;
    bk_buffer_init(&result, EVENT_BYTES_MAX);
    write_result(&result, sending);
    bk_buffer_insist(&result);
    if (sending->outcome == MAIL_AGAIN || sending->outcome == MAIL_DEAD)
        bk_log_warn(log, "mail_not_sent", BK_STRING("tenant", task->tenant->name),
                    BK_STRING("task", task->id), BK_INT("attempt", task->attempt),
                    BK_BOOL("dead", sending->outcome == MAIL_DEAD), BK_STRING("reason", error));
    if (sending->outcome == MAIL_SENT)
        bk_work_done(task, bk_buffer_slice(&result));
    else if (sending->outcome == MAIL_STOPPED) /* by hand, it is dead whatever is said here */
        bk_work_postpone(task, 0);
    else if (sending->outcome == MAIL_BUSY)
        bk_work_postpone(task, BUSY_DELAY_MS);
    else if (sending->outcome == MAIL_DEAD)
        bk_work_dead(task, error, bk_buffer_slice(&result));
    else if (is_about_recipients(sending))
        bk_work_put_off(task, 0, error, bk_buffer_slice(&result));
    else
        bk_work_again(task, 0, error, bk_buffer_slice(&result));
    bk_buffer_fini(&result);
    bk_arena_fini(&attempt->arena);
    bk_free(attempt);
}

static void on_begun(struct mail_sending *sending) {
    bk_work_go(bk_container_of(sending, struct attempt, sending)->task);
}

static void end_before(struct attempt *attempt, enum mail_outcome outcome) {
    attempt->sending.outcome = outcome;
    on_sent(&attempt->sending);
}

/* BK_INVALID: it is none, see error. */
static enum bk_status read_payload(struct bk_slice payload, struct bk_arena *arena,
                                   struct mail_message *message, struct bk_error *error) {
    struct bk_problems problems;
    struct bk_json *json;
    bk_problems_init(&problems, arena);
    enum bk_status status = bk_json_parse(arena, bk_arena_copy(arena, payload), &json, error);
    if (status == BK_OK)
        status = mail_message_read(json, &problems, message);
    if (problems.count > 0)
        bk_error_set(error, BK_INVALID, "%.*s: %.*s", BK_SLICE_PRINT(problems.first->field),
                     BK_SLICE_PRINT(problems.first->message));
    return status;
}

/* The template may have got another place since the mail was taken. */
static enum bk_status resolve(const struct bk_module_context *context, struct attempt *attempt) {
    struct mail_sending *sending = &attempt->sending;
    const char *names[MAIL_OWN_VARIABLES_MAX];
    enum bk_status status = mail_resolve(context, attempt->task->tenant, &attempt->arena,
                                         &sending->message, &sending->error);
    if (status == BK_OK && mail_find_lacking(&sending->message, names) > 0)
        status = bk_error_set(&sending->error, BK_NOT_FOUND,
                              "the template has {%s} in it, and the mail has no variable %s",
                              names[0], names[0]);
    return status;
}

static void on_task(struct bk_work_task *task, void *user) {
    struct bk_module_context *context = user;
    struct attempt *attempt = bk_alloc_zero(sizeof *attempt);
    struct mail_sending *sending = &attempt->sending;
    struct mail_message *message = &sending->message;
    bk_arena_init(&attempt->arena, MAIL_ARENA_BYTES_MAX);
    attempt->task = task;
    task->state = attempt;
    sending->state = context->state;
    sending->tenant = task->tenant;
    sending->id = bk_arena_copy(&attempt->arena, task->id);
    sending->arena = &attempt->arena;
    sending->begun = on_begun;
    sending->done = on_sent;
    bk_work_wait(task);
    if (read_payload(task->payload, &attempt->arena, message, &sending->error) != BK_OK) {
        end_before(attempt, MAIL_DEAD);
        return;
    }
    if (message->expires_ms > 0 && message->expires_ms <= bk_clock_wall_ms()) {
        bk_error_set(&sending->error, BK_GONE, "the message has expired");
        end_before(attempt, MAIL_DEAD);
        return;
    }
    enum bk_status status = BK_OK;
    if (message->template != MAIL_NO_TEMPLATE)
        status = resolve(context, attempt);
    if (status == BK_OK)
        mail_send(sending);
    else
        end_before(attempt,
                   status == BK_NOT_FOUND || status == BK_TOO_LARGE ? MAIL_DEAD : MAIL_AGAIN);
}

static void on_cancel(struct bk_work_task *task, void *user) {
    struct attempt *attempt = task->state;
    (void)user;
    if (task->is_cancelled)
        mail_send_cancel(&attempt->sending);
    else
        mail_send_withdraw(&attempt->sending);
}

/* --- on the writer: what becomes of it -------------------------------------------------------- */

/* As the handler has told, or, when it could not, as the payload says. */
static const struct bk_json *facts_of(const struct bk_work_end *end, struct bk_arena *arena) {
    struct mail_message message = {.template = MAIL_NO_TEMPLATE};
    struct bk_buffer out;
    struct bk_json *facts = NULL;
    if (end->result.length > 0 &&
        bk_json_parse(arena, bk_arena_copy(arena, end->result), &facts, NULL) == BK_OK)
        return facts;
    (void)read_payload(end->payload, arena, &message, NULL);
    bk_buffer_init(&out, EVENT_BYTES_MAX);
    bk_buffer_append_char(&out, '{');
    write_named(&out, &message);
    write_template(&out, &message);
    bk_buffer_append_char(&out, '}');
    bk_buffer_insist(&out);
    struct bk_slice text = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return bk_json_parse(arena, text, &facts, NULL) == BK_OK ? facts : NULL;
}

static void write_event(struct bk_buffer *out, const struct bk_work_end *end,
                        const struct bk_json *facts) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("task"), end->id);
    for (const struct bk_json *fact = facts == NULL ? NULL : facts->child; fact != NULL;
         fact = fact->next)
        if (fact->type != BK_JSON_ARRAY || fact->child != NULL || bk_slice_is(fact->key, "to"))
            bk_json_write_member_raw(out, fact->key, fact->text);
    bk_json_write_member_int(out, BK_SLICE("attempts"), end->attempt);
    if (end->outcome == BK_WORK_DEAD)
        bk_json_write_member_string(out, BK_SLICE("error"), end->error);
    bk_buffer_append_char(out, '}');
}

static enum bk_status emit(struct bk_transaction *transaction, const struct bk_work_end *end,
                           const struct bk_json *facts) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_buffer payload;
    bk_buffer_init(&payload, EVENT_BYTES_MAX);
    write_event(&payload, end, facts);
    bk_buffer_insist(&payload);
    struct bk_event_draft draft = {
        .source = BK_SLICE("mail"),
        .subject = bk_arena_format(arena, "mail/%.*s", BK_SLICE_PRINT(end->id)),
        .actor = end->actor,
        .payload = bk_buffer_slice(&payload),
    };
    if (end->outcome == BK_WORK_DONE)
        draft.type = BK_SLICE("mail.sent");
    else
        draft.type = BK_SLICE("mail.failed");
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

/* What is left to do for those who may take it later, as a task of its own. */
static enum bk_status add_rest(struct bk_work *work, struct bk_transaction *transaction,
                               const struct bk_work_end *end, const struct bk_json *facts) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    const struct bk_json *deferred = bk_json_get(facts, BK_SLICE("deferred"));
    struct bk_json *payload;
    struct bk_buffer rest;
    if (deferred == NULL || deferred->child == NULL)
        return BK_OK;
    enum bk_status status = bk_json_parse(arena, end->payload, &payload, NULL);
    if (status != BK_OK)
        return status;
    const struct bk_json *whole = bk_json_get(payload, BK_SLICE("message"));
    bool is_rest = whole != NULL && whole->type == BK_JSON_OBJECT;
    bk_buffer_init(&rest, REST_BYTES_MAX);
    bk_buffer_append_char(&rest, '{');
    bk_json_write_member_raw(&rest, BK_SLICE("message"), is_rest ? whole->text : payload->text);
    bk_json_write_member_raw(&rest, BK_SLICE("only"), deferred->text);
    bk_json_write_member_string(&rest, BK_SLICE("messageId"),
                                bk_json_get_string(facts, BK_SLICE("messageId")));
    bk_buffer_append_char(&rest, '}');
    const struct bk_work_draft draft = {.kind = "mail",
                                        .payload = bk_buffer_slice(&rest),
                                        .delay_ms = REST_DELAY_MS,
                                        .cause = end->cause,
                                        .actor = end->actor};
    status = bk_buffer_status(&rest);
    if (status == BK_OK)
        status = bk_work_add(work, transaction, &draft, NULL);
    bk_buffer_fini(&rest);
    return status;
}

static enum bk_status on_end(struct bk_transaction *transaction, const struct bk_work_end *end,
                             void *user) {
    const struct bk_module_context *context = user;
    if (end->outcome == BK_WORK_AGAIN)
        return BK_OK;
    const struct bk_json *facts = facts_of(end, bk_transaction_arena(transaction));
    enum bk_status status = emit(transaction, end, facts);
    if (status == BK_OK && end->outcome == BK_WORK_DONE)
        status = add_rest(context->work, transaction, end, facts);
    return status;
}

/* --- the kinds -------------------------------------------------------------------------------- */

enum { SECOND_MS = 1000, MINUTE_MS = 60 * SECOND_MS, HOUR_MS = 60 * MINUTE_MS };

/* About a day in all: a server that is repaired in the morning gets the mails of the night. */
static const uint32_t backoff_ms[] = {
    5 * SECOND_MS, 30 * SECOND_MS, 2 * MINUTE_MS, 10 * MINUTE_MS, 30 * MINUTE_MS,
    HOUR_MS,       2 * HOUR_MS,    4 * HOUR_MS,   8 * HOUR_MS,    8 * HOUR_MS,
};

const struct bk_work_kind mail_work_kinds[MAIL_KIND_COUNT] = {
    {.name = "mail",
     .timeout_ms = 150 * SECOND_MS, /* longer than --mail-timeout can be */
     .attempt_max = BK_COUNT_OF(backoff_ms) + 1,
     .backoff_ms = backoff_ms,
     .backoff_count = BK_COUNT_OF(backoff_ms),
     /* Of a tenant, whose mail server may be a small one; all together have more. */
     .lane = {.running_max = 4,
              .breaker_failures = 5,
              .breaker_first_ms = 5 * SECOND_MS,
              .breaker_max_ms = 5 * MINUTE_MS},
     .has_secrets = true,
     .on_task = on_task,
     .on_cancel = on_cancel,
     .on_end = on_end},
    {.name = "mail-files",
     .timeout_ms = 10 * MINUTE_MS,
     .attempt_max = 3,
     .schedule = "30 3 * * *",
     .is_operators = true,
     .on_task = mail_tidy},
};
