/*
 * One message on its way: composed on the pool, since a large page takes long to be read, then
 * handed to the tenant's mail server by the outbound part, or written to a file where the tenant
 * has none.
 *
 *   loop   the envelope, the settings as they are now
 *   pool   what a template says, the message [, the file]
 *   loop   [to the server,] done
 *
 * What an answer means:
 *   2xx            sent; recipients that were refused while others were not are told one by one
 *   4xx, nobody there, nothing moves, the line is cut, the handshake fails: later
 *   5xx            never; but for what the operators can mend while the mail waits (530, 534, 535,
 *                  538: who are we, and by which means), and a login that is refused: later
 *   an address or a host that may not be spoken to: never
 *
 * Taken back. A mail that is cancelled is cut, whatever it is at. When the program stops, one whose
 * text is being sent is waited for, since the server may have it already, and any other ends.
 *
 * Encryption. `tls` is TLS from the first byte. Without it STARTTLS is used where the server offers
 * it, and is a must where there is a password to lose: a password goes in plain to the machine
 * itself and to nobody else.
 */
#include "mail.h"

#include "bakend/clock.h"

enum { CONNECT_TIMEOUT_MS = 30000, SMTPS_PORT = 465 };

#define BUSY_TEXT "too many mails are on their way: try again in a moment"

/* After done it is gone. */
static void end(struct mail_sending *sending, enum mail_outcome outcome) {
    struct mail_state *state = sending->state;
    BK_ASSERT(state->active_count > 0);
    bk_buffer_fini(&sending->bytes);
    sending->outcome = outcome;
    sending->done(sending);
    state->active_count--;
    mail_stop_when_done(state);
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

static const char *remedy_of(const struct mail_sending *sending) {
    if (sending->request.failure == BK_OUTBOUND_TLS)
        return sending->server.is_tls ? "; for a server with STARTTLS, as on port 587, set "
                                        "smtp.tls to false; the file "
                                        "SSL_CERT_FILE names private authorities"
                                      : "; the file SSL_CERT_FILE names private authorities";
    if (sending->request.failure == BK_OUTBOUND_TIMEOUT && !sending->server.is_tls &&
        sending->server.port == SMTPS_PORT)
        return "; port 465 is for smtp.tls";
    return "";
}

static void tell(struct mail_sending *sending) {
    const struct bk_outbound_request *request = &sending->request;
    struct bk_slice server =
        bk_arena_format(sending->arena, "the mail server %.*s:%u",
                        BK_SLICE_PRINT(sending->server.host), (unsigned)sending->server.port);
    if (request->failure == BK_OUTBOUND_OK || request->failure == BK_OUTBOUND_LOGIN)
        bk_error_set(&sending->error, BK_INVALID, "%.*s answered %u: %.*s", BK_SLICE_PRINT(server),
                     request->status, BK_SLICE_PRINT(request->answer));
    else if (request->failure == BK_OUTBOUND_BLOCKED)
        bk_error_set(&sending->error, BK_FORBIDDEN,
                     "%.*s is not at a public address; --mail-allow takes its network",
                     BK_SLICE_PRINT(server));
    else
        bk_error_set(&sending->error, BK_INVALID, "%.*s: %s: %.*s%s", BK_SLICE_PRINT(server),
                     bk_outbound_failure_name(request->failure), BK_SLICE_PRINT(request->reason),
                     remedy_of(sending));
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

static void on_begun(struct bk_outbound_request *request) {
    struct mail_sending *sending = bk_container_of(request, struct mail_sending, request);
    if (sending->begun != NULL)
        sending->begun(sending);
}

static void fill_login(struct mail_sending *sending) {
    const struct bk_settings_smtp *server = &sending->server;
    struct bk_smtp *smtp = &sending->smtp;
    bool has_login = server->user.length > 0 || server->password.length > 0;
    if (has_login)
        smtp->login =
            bk_slice_is(server->login, "LOGIN") ? BK_SMTP_LOGIN_LOGIN : BK_SMTP_LOGIN_PLAIN;
    smtp->user = server->user;
    smtp->password = server->password;
    if (server->is_tls)
        smtp->security = BK_SMTP_TLS;
    else if (has_login && !is_loopback(server->host))
        smtp->security = BK_SMTP_STARTTLS;
    else
        smtp->security = BK_SMTP_STARTTLS_IF_OFFERED;
}

static void fill_envelope(struct mail_sending *sending) {
    struct bk_smtp *smtp = &sending->smtp;
    uint16_t *replies =
        bk_arena_alloc_zero(sending->arena, (sending->recipient_count + 1) * sizeof *replies);
    smtp->host = sending->server.host;
    smtp->port = (uint16_t)sending->server.port;
    smtp->local_name = sending->server.local_name;
    smtp->from = sending->meta.sender_address;
    smtp->recipients = sending->recipients;
    smtp->recipient_count = sending->recipient_count;
    smtp->replies = replies;
    smtp->message = bk_buffer_slice(&sending->bytes);
    sending->replies = replies;
}

static void submit(struct mail_sending *sending) {
    struct mail_state *state = sending->state;
    const struct mail_options *options = state->context->options;
    bool is_operators = bk_slice_is(sending->tenant->name, "default");
    uint32_t timeout_ms = (uint32_t)options->timeout_ms;
    fill_login(sending);
    fill_envelope(sending);
    sending->transport = "smtp";
    sending->request = (struct bk_outbound_request){
        .smtp = &sending->smtp,
        .group = is_operators ? BK_SLICE_EMPTY : sending->tenant->name,
        .connect_timeout_ms = timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms : CONNECT_TIMEOUT_MS,
        .timeout_ms = timeout_ms,
        .begun = on_begun,
        .done = on_answered,
    };
    enum bk_status status =
        bk_outbound_submit(is_operators ? state->operators : state->tenants, &sending->request);
    sending->is_submitted = status == BK_OK;
    if (status == BK_INVALID)
        fail(sending, MAIL_AGAIN, "the settings of the mail server have texts of several lines");
    else if (status == BK_BUSY)
        fail(sending, MAIL_BUSY, BUSY_TEXT);
    else if (status != BK_OK)
        fail(sending, MAIL_AGAIN, bk_status_text(status));
}

/* --- into a file ------------------------------------------------------------------------------ */

static void tell_file(struct mail_sending *sending) {
    const struct bk_log *log = &sending->state->context->log;
    struct bk_slice tenant = sending->tenant->name;
    if (sending->prepared != BK_OK) {
        bk_log_error(log, "mail_write_failed", BK_STRING("tenant", tenant),
                     BK_STRING("task", sending->id), BK_TEXT("reason", sending->error.message));
        end(sending, MAIL_AGAIN);
        return;
    }
    struct bk_slice path = bk_arena_format(sending->arena, "%s/%.*s.eml", sending->directory,
                                           BK_SLICE_PRINT(sending->id));
    bk_log_info(log, "mail_written", BK_STRING("tenant", tenant), BK_STRING("task", sending->id),
                BK_STRING("path", path));
    end(sending, MAIL_SENT);
}

/* --- on the pool ------------------------------------------------------------------------------ */

static enum bk_status compose(struct mail_sending *sending) {
    struct mail_message *message = &sending->message;
    const struct mail_composing composing = {
        .id = sending->id,
        .wall_ms = bk_clock_wall_ms(),
        .from = {.address = sending->meta.sender_address, .name = sending->meta.sender_name},
        .message_id = sending->message_id,
    };
    enum bk_status status = BK_OK;
    if (message->filling_in != NULL)
        status = mail_fill_in(message, sending->arena);
    return status == BK_OK ? mail_compose(message, &composing, &sending->bytes) : status;
}

static void on_prepare(struct bk_job *job, uint32_t thread_index) {
    struct mail_sending *sending = bk_container_of(job, struct mail_sending, job);
    mail_give_way(sending->state, thread_index);
    sending->prepared = compose(sending);
    if (sending->prepared != BK_OK || sending->server.is_enabled)
        return;
    sending->transport = "file";
    sending->prepared =
        mail_file_write(sending->directory, sending->id, bk_buffer_slice(&sending->bytes),
                        MAIL_FILES_MAX, MAIL_FILES_BYTES_MAX, &sending->error);
}

static void on_prepared(struct bk_job *job) {
    struct mail_sending *sending = bk_container_of(job, struct mail_sending, job);
    if (sending->transport != NULL)
        tell_file(sending);
    else if (sending->prepared != BK_OK)
        fail(sending, sending->prepared == BK_NO_MEMORY ? MAIL_AGAIN : MAIL_DEAD,
             "the mail becomes too large");
    else if (sending->is_cancelled || sending->state->is_stopping)
        fail(sending, MAIL_STOPPED, "the server is stopping");
    else
        submit(sending);
}

/* --- the beginning ---------------------------------------------------------------------------- */

static void copy_settings(struct mail_sending *sending, const struct bk_settings *settings) {
    sending->meta = settings->meta;
    sending->server = settings->smtp;
    struct bk_slice *const texts[] = {
        &sending->meta.app_name,       &sending->meta.app_url, &sending->meta.sender_name,
        &sending->meta.sender_address, &sending->server.host,  &sending->server.user,
        &sending->server.password,     &sending->server.login, &sending->server.local_name,
    };
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
        *texts[i] = bk_arena_copy(sending->arena, *texts[i]);
}

/* What is wrong before anything was done; NULL: nothing. */
static const char *problem_of(const struct mail_sending *sending, enum mail_outcome *outcome) {
    const struct bk_settings_smtp *server = &sending->server;
    *outcome = MAIL_DEAD;
    if (sending->recipient_count == 0) /* of the rest of a mail: the address is another by now */
        return "nobody is left to send it to";
    if (bk_arena_status(sending->arena) != BK_OK)
        return "the mail becomes too large";
    *outcome = MAIL_AGAIN;
    if (!mail_address_is_valid(sending->meta.sender_address))
        return "the sender is no address in ASCII: set meta.senderAddress";
    if (server->is_enabled && (server->port < 1 || server->port > UINT16_MAX))
        return bk_arena_format(sending->arena,
                               "smtp.port is %lld, which is no port: set it to "
                               "that of the mail server, 1 to 65535",
                               (long long)server->port)
            .data;
    return NULL;
}

void mail_send(struct mail_sending *sending) {
    const struct mail_message *message = &sending->message;
    enum mail_outcome outcome;
    sending->state->active_count++;
    bk_buffer_init(&sending->bytes, MAIL_BYTES_MAX);
    gather(sending);
    copy_settings(sending, bk_settings_of(sending->tenant));
    const char *problem = problem_of(sending, &outcome);
    if (problem != NULL) {
        fail(sending, outcome, problem);
        return;
    }
    sending->message_id =
        message->message_id.length > 0
            ? message->message_id
            : mail_message_id(sending->id, sending->meta.sender_address, sending->arena);
    sending->job = (struct bk_job){.run = on_prepare, .done = on_prepared};
    if (!mail_directory(sending->state->context, sending->tenant, sending->directory))
        fail(sending, MAIL_DEAD, "the path of the mail directory is too long");
    else if (bk_pool_submit(sending->state->pool, &sending->job) != BK_OK)
        fail(sending, MAIL_BUSY, BUSY_TEXT);
}

void mail_send_cancel(struct mail_sending *sending) {
    sending->is_cancelled = true;
    if (sending->is_submitted)
        bk_outbound_cancel(&sending->request);
}

void mail_send_withdraw(struct mail_sending *sending) {
    sending->is_cancelled = true;
    if (sending->is_submitted)
        bk_outbound_withdraw(&sending->request);
}

bool mail_is_refused(const struct mail_sending *sending, size_t index) {
    BK_ASSERT(index < sending->recipient_count);
    return sending->replies != NULL && sending->replies[index] >= 400;
}
