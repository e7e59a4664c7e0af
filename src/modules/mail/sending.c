/*
 * One message on its way: composed, then handed to the tenant's mail server by the outbound part,
 * or written to a file where the tenant has none.
 *
 * What an answer means:
 *   2xx            sent; recipients that were refused while others were not are told one by one
 *   4xx, nobody there, nothing moves, the line is cut, the handshake fails: later
 *   5xx            never; but for what the operators can mend while the mail waits (530, 534, 535,
 *                  538: who are we, and by which means), and a login that is refused: later
 *   an address or a host that may not be spoken to: never
 *
 * Encryption. `tls` is TLS from the first byte. Without it STARTTLS is used where the server offers
 * it, and is a must where there is a password to lose: a password goes in plain to the machine
 * itself and to nobody else.
 */
#include "mail.h"

#include "bakend/clock.h"

enum { CONNECT_TIMEOUT_MS = 30000 };

static void end(struct mail_sending *sending, enum mail_outcome outcome) {
    bk_buffer_fini(&sending->bytes);
    sending->outcome = outcome;
    sending->done(sending);
}

static void fail(struct mail_sending *sending, enum mail_outcome outcome, const char *message) {
    bk_error_set(&sending->error, BK_INVALID, "%s", message);
    end(sending, outcome);
}

/* --- the envelope ----------------------------------------------------------------------------- */

static bool is_wanted(const struct mail_message *message, struct bk_slice address) {
    if (message->only == NULL)
        return true;
    for (const struct bk_json *item = message->only->child; item != NULL; item = item->next)
        if (item->type == BK_JSON_STRING && bk_slice_equal(item->string, address))
            return true;
    return false;
}

static bool is_there(const struct bk_slice *recipients, size_t count, struct bk_slice address) {
    for (size_t i = 0; i < count; i++)
        if (bk_slice_equal_ignore_case(recipients[i], address))
            return true;
    return false;
}

/* Everybody once, wherever they stand. */
static void gather(struct mail_sending *sending) {
    const struct mail_message *message = &sending->message;
    const struct mail_address *const lists[] = {message->to, message->cc, message->bcc};
    struct bk_slice *recipients =
        bk_arena_alloc_zero(sending->arena, (message->recipient_count + 1) * sizeof *recipients);
    size_t count = 0;
    for (size_t i = 0; i < BK_COUNT_OF(lists); i++)
        for (const struct mail_address *person = lists[i]; person != NULL; person = person->next)
            if (is_wanted(message, person->address) &&
                !is_there(recipients, count, person->address)) {
                BK_ASSERT(count < message->recipient_count);
                recipients[count++] = person->address;
            }
    sending->recipients = recipients;
    sending->recipient_count = count;
}

/* --- into a file ------------------------------------------------------------------------------ */

static void on_write(struct bk_job *job, uint32_t thread_index) {
    struct mail_sending *sending = bk_container_of(job, struct mail_sending, job);
    (void)thread_index;
    sending->error.status =
        mail_file_write(sending->directory, sending->id, bk_buffer_slice(&sending->bytes),
                        MAIL_FILES_MAX, MAIL_FILES_BYTES_MAX, &sending->error);
}

static void on_written(struct bk_job *job) {
    struct mail_sending *sending = bk_container_of(job, struct mail_sending, job);
    const struct bk_log *log = &sending->state->context->log;
    if (sending->error.status != BK_OK) {
        bk_log_error(log, "mail_write_failed", BK_STRING("tenant", sending->tenant->name),
                     BK_STRING("task", sending->id), BK_TEXT("reason", sending->error.message));
        end(sending, MAIL_AGAIN);
        return;
    }
    struct bk_slice path = bk_arena_format(sending->arena, "%s/%.*s.eml", sending->directory,
                                           BK_SLICE_PRINT(sending->id));
    bk_log_info(log, "mail_written", BK_STRING("tenant", sending->tenant->name),
                BK_STRING("task", sending->id), BK_STRING("path", path));
    end(sending, MAIL_SENT);
}

static void write_file(struct mail_sending *sending) {
    sending->transport = "file";
    sending->job = (struct bk_job){.run = on_write, .done = on_written};
    if (!mail_directory(sending->state->context, sending->tenant, sending->directory))
        fail(sending, MAIL_DEAD, "the path of the mail directory is too long");
    else if (bk_pool_submit(sending->state->pool, &sending->job) != BK_OK)
        fail(sending, MAIL_AGAIN, "too many mails are being written");
}

/* --- to the server ---------------------------------------------------------------------------- */

static bool is_loopback(struct bk_slice host) {
    return bk_slice_equal_ignore_case(host, BK_SLICE("localhost")) ||
           bk_slice_is(host, "127.0.0.1") || bk_slice_is(host, "::1");
}

static bool can_be_mended(uint32_t status) {
    return status < 500 || status == 530 || status == 534 || status == 535 || status == 538;
}

static enum mail_outcome outcome_of(const struct bk_outbound_request *request) {
    switch (request->failure) {
    case BK_OUTBOUND_OK:
        if (request->status >= 200 && request->status < 300)
            return MAIL_SENT;
        return can_be_mended(request->status) ? MAIL_AGAIN : MAIL_DEAD;
    case BK_OUTBOUND_BLOCKED:
    case BK_OUTBOUND_URL:
        return MAIL_DEAD;
    case BK_OUTBOUND_CANCELLED:
        return MAIL_STOPPED;
    case BK_OUTBOUND_RESOLVE:
    case BK_OUTBOUND_CONNECT:
    case BK_OUTBOUND_TLS:
    case BK_OUTBOUND_TIMEOUT:
    case BK_OUTBOUND_CUT:
    case BK_OUTBOUND_PROTOCOL:
    case BK_OUTBOUND_TOO_LARGE:
    case BK_OUTBOUND_LOGIN:
        break;
    }
    return MAIL_AGAIN;
}

static void tell(struct mail_sending *sending) {
    const struct bk_outbound_request *request = &sending->request;
    if (request->failure == BK_OUTBOUND_OK || request->failure == BK_OUTBOUND_LOGIN)
        bk_error_set(&sending->error, BK_INVALID, "the mail server answered %u: %.*s",
                     request->status, BK_SLICE_PRINT(request->answer));
    else if (request->failure == BK_OUTBOUND_BLOCKED)
        bk_error_set(&sending->error, BK_FORBIDDEN,
                     "the mail server is not at a public address; --mail-allow takes its network");
    else
        bk_error_set(&sending->error, BK_INVALID, "%s: %.*s",
                     bk_outbound_failure_name(request->failure), BK_SLICE_PRINT(request->reason));
}

static void on_answered(struct bk_outbound_request *request) {
    struct mail_sending *sending = bk_container_of(request, struct mail_sending, request);
    enum mail_outcome outcome = outcome_of(request);
    sending->is_submitted = false;
    sending->status = request->status;
    if (outcome != MAIL_SENT)
        tell(sending);
    end(sending, outcome);
}

static void fill_login(struct mail_sending *sending, const struct bk_settings_smtp *settings) {
    struct bk_smtp *smtp = &sending->smtp;
    bool has_login = settings->user.length > 0 || settings->password.length > 0;
    if (has_login)
        smtp->login =
            bk_slice_is(settings->login, "LOGIN") ? BK_SMTP_LOGIN_LOGIN : BK_SMTP_LOGIN_PLAIN;
    smtp->user = bk_arena_copy(sending->arena, settings->user);
    smtp->password = bk_arena_copy(sending->arena, settings->password);
    if (settings->is_tls)
        smtp->security = BK_SMTP_TLS;
    else if (has_login && !is_loopback(settings->host))
        smtp->security = BK_SMTP_STARTTLS;
    else
        smtp->security = BK_SMTP_STARTTLS_IF_OFFERED;
}

static void submit(struct mail_sending *sending, const struct bk_settings *settings) {
    struct mail_state *state = sending->state;
    const struct mail_options *options = state->context->options;
    struct bk_smtp *smtp = &sending->smtp;
    bool is_operators = bk_slice_is(sending->tenant->name, "default");
    uint16_t *replies =
        bk_arena_alloc_zero(sending->arena, (sending->recipient_count + 1) * sizeof *replies);
    fill_login(sending, &settings->smtp);
    smtp->host = bk_arena_copy(sending->arena, settings->smtp.host);
    smtp->port = (uint16_t)settings->smtp.port;
    smtp->local_name = bk_arena_copy(sending->arena, settings->smtp.local_name);
    smtp->from = bk_arena_copy(sending->arena, settings->meta.sender_address);
    smtp->recipients = sending->recipients;
    smtp->recipient_count = sending->recipient_count;
    smtp->replies = replies;
    smtp->message = bk_buffer_slice(&sending->bytes);
    sending->replies = replies;
    sending->transport = "smtp";
    uint32_t timeout_ms = (uint32_t)options->timeout_ms;
    sending->request = (struct bk_outbound_request){
        .smtp = smtp,
        .connect_timeout_ms = timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms : CONNECT_TIMEOUT_MS,
        .timeout_ms = timeout_ms,
        .done = on_answered,
    };
    enum bk_status status =
        bk_outbound_submit(is_operators ? state->operators : state->tenants, &sending->request);
    sending->is_submitted = status == BK_OK;
    if (status == BK_INVALID)
        fail(sending, MAIL_AGAIN, "the settings of the mail server have texts of several lines");
    else if (status != BK_OK)
        fail(sending, MAIL_AGAIN, bk_status_text(status));
}

/* --- the way ---------------------------------------------------------------------------------- */

static enum bk_status compose(struct mail_sending *sending, const struct bk_settings *settings) {
    const struct mail_message *message = &sending->message;
    sending->message_id =
        message->message_id.length > 0
            ? message->message_id
            : mail_message_id(sending->id, settings->meta.sender_address, sending->arena);
    const struct mail_composing composing = {
        .id = sending->id,
        .wall_ms = bk_clock_wall_ms(),
        .from = {.address = settings->meta.sender_address, .name = settings->meta.sender_name},
        .message_id = sending->message_id,
    };
    return mail_compose(message, &composing, &sending->bytes);
}

void mail_send(struct mail_sending *sending) {
    const struct bk_settings *settings = bk_settings_of(sending->tenant);
    bk_buffer_init(&sending->bytes, MAIL_BYTES_MAX);
    gather(sending);
    if (!mail_address_is_valid(settings->meta.sender_address)) {
        fail(sending, MAIL_AGAIN, "the sender is no address in ASCII: set meta.senderAddress");
        return;
    }
    enum bk_status status = compose(sending, settings);
    bool is_enabled = settings->smtp.is_enabled;
    if (status == BK_OK)
        status = bk_arena_status(sending->arena);
    if (status != BK_OK)
        fail(sending, MAIL_DEAD, "the mail becomes too large");
    else if (is_enabled && (settings->smtp.port < 1 || settings->smtp.port > UINT16_MAX))
        fail(sending, MAIL_AGAIN, "the mail server's port is none: set smtp.port to 1..65535");
    else if (is_enabled)
        submit(sending, settings);
    else
        write_file(sending);
}

void mail_send_cancel(struct mail_sending *sending) {
    if (sending->is_submitted)
        bk_outbound_cancel(&sending->request);
}

bool mail_is_refused(const struct mail_sending *sending, size_t index) {
    BK_ASSERT(index < sending->recipient_count);
    return sending->replies != NULL && sending->replies[index] >= 400;
}
