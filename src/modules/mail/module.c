/*
 * Mail: messages of the application, and of whoever enqueues work of kind "mail", over the tenant's
 * own mail server; without one, into files.
 *
 *   message.c    the payload, judged          template.c, resolve.c   what a template says
 *   address.c    whom a mail can go to        html_text.c             the text of a page
 *   header.c, body.c, compose.c   the message as bytes
 *   sending.c    by SMTP, or (file.c) into a file
 *   task.c       the work kind and its events         routes.c    POST /api/mail, the test mail
 *   tidy.c       old files go
 *
 * Two channels to the outside: the operators' may go anywhere, their mail server is often next
 * door; that of all other tenants goes to public addresses and to those of --mail-allow, since who
 * may set a host and a port could otherwise ask around behind the firewall.
 */
#include "mail.h"

#include "bakend/alloc.h"

enum { POOL_QUEUE_MAX = 1024 };

/* --- options ---------------------------------------------------------------------------------- */

static const char *refuse_networks(const char *text) {
    struct bk_network *networks;
    size_t count;
    if (bk_networks_parse(bk_slice_from(text), &networks, &count, NULL) != BK_OK)
        return "must be addresses or networks separated by commas, such as 10.0.0.0/8 or ::1";
    bk_free(networks);
    return NULL;
}

static const struct bk_option options[] = {
    {.name = "mail-allow",
     .type = BK_OPTION_TEXT,
     .offset = offsetof(struct mail_options, allow),
     .default_value = "",
     .argument = "CIDR,…",
     .help = "Networks in which tenants other than default may have their mail server, beside "
             "public ones.",
     .refuse = refuse_networks},
    {.name = "mail-timeout",
     .type = BK_OPTION_DURATION,
     .offset = offsetof(struct mail_options, timeout_ms),
     .default_value = "60s",
     .minimum = 1000,
     .maximum = 120 * 1000,
     .argument = "TIME",
     .help = "How long sending one mail may take once it has a connection."},
};

/* --- routes, events --------------------------------------------------------------------------- */

static const struct bk_route_parameter retry_parameter[] = {
    {"Idempotency-Key", "header", "string",
     "Of this request, 1 to 255 bytes: sent again with it, it is answered again and not done "
     "again."},
    {NULL, NULL, NULL, NULL},
};

static const struct bk_route routes[] = {
    {.method = BK_POST,
     .path = "/api/mail",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "mail:write",
     .body_max_bytes = BK_WORK_PAYLOAD_MAX_BYTES,
     .has_json_body = true,
     .summary = "Takes a mail to be sent: {to, cc, bcc, replyTo, subject, text, html, headers, "
                "expires}, or {template, collection, record, variables}. Answers the task's id.",
     .tag = "mail",
     .parameters = retry_parameter,
     .handle = mail_enqueue},
    {.method = BK_POST,
     .path = "/api/settings/test/email",
     .access = BK_ACCESS_SUPERUSER,
     .body_max_bytes = 64 * 1024,
     .has_json_body = true,
     .summary = "Sends one of a collection's templates to an address, now: {template, email, "
                "collection}.",
     .tag = "settings",
     .handle = mail_test},
};

static const struct bk_event_declaration events[] = {
    {"mail.sent", true, "MailSent", "A mail was taken by the mail server, or written to a file."},
    {"mail.failed", true, "MailFailed", "A mail will not be sent."},
};

/* --- life ------------------------------------------------------------------------------------- */

/* Who mends them does not wait for the next probe. */
static enum bk_status on_settings(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                  struct bk_event *event) {
    struct mail_state *state = bk_container_of(subscription, struct mail_state, settings);
    (void)event;
    bk_work_lane_wake(state->context->work, tenant, bk_slice_from(mail_work_kinds[0].name));
    return BK_OK;
}

static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    struct mail_state *state = context->state;
    const struct mail_options *given = context->options;
    state->context = context;
    state->pool = bk_pool_create(context->loop, "mail", MAIL_POOL_THREADS, POOL_QUEUE_MAX);
    state->settings = (struct bk_subscription){.name = "mail.settings",
                                               .phase = BK_PHASE_FUNCTIONS,
                                               .pattern = BK_SLICE("settings.updated"),
                                               .on_event = on_settings};
    enum bk_status status = bk_bus_subscribe(context->bus, &state->settings);
    BK_ASSERT(status == BK_OK);
    return bk_networks_parse(bk_slice_from(given->allow), &state->allowed, &state->allowed_count,
                             error);
}

/* Here and not before: what has started is stopped, and then they are closed. */
static enum bk_status on_start(struct bk_module_context *context, struct bk_error *error) {
    struct mail_state *state = context->state;
    const struct bk_outbound_policy operators = {
        .name = "mail", .allows_any_address = true, .allows_plain = true};
    const struct bk_outbound_policy tenants = {.name = "mail-tenants",
                                               .allows_plain = true,
                                               .allowed = state->allowed,
                                               .allowed_count = state->allowed_count};
    (void)error;
    state->operators = bk_outbound_open(context->outbound, &operators);
    state->tenants = bk_outbound_open(context->outbound, &tenants);
    state->open_count = 2;
    return BK_OK;
}

void mail_give_way(struct mail_state *state, uint32_t thread_index) {
    BK_ASSERT(thread_index < MAIL_POOL_THREADS);
    if (state->gives_way[thread_index])
        return;
    state->gives_way[thread_index] = true;
    bk_thread_lower_priority();
}

void mail_stop_when_done(struct mail_state *state) {
    if (state->is_stopping && state->open_count == 0 && state->active_count == 0)
        state->stopped(state->stopped_user);
}

static void on_closed(void *user) {
    struct mail_state *state = user;
    BK_ASSERT(state->open_count > 0);
    state->open_count--;
    mail_stop_when_done(state);
}

/* What is still on its way ends now, and each of them answers whoever waits for it. */
static void on_stop(struct bk_module_context *context, void (*stopped)(void *user), void *user) {
    struct mail_state *state = context->state;
    state->is_stopping = true;
    state->stopped = stopped;
    state->stopped_user = user;
    bk_outbound_close(state->operators, on_closed, state);
    bk_outbound_close(state->tenants, on_closed, state);
}

static void on_fini(struct bk_module_context *context) {
    struct mail_state *state = context->state;
    bk_bus_unsubscribe(context->bus, &state->settings);
    bk_pool_destroy(state->pool);
    bk_free(state->allowed);
}

extern const struct bk_module bk_module_mail;
const struct bk_module bk_module_mail = {
    .name = "mail",
    .summary = "Sends mails by SMTP, or writes them to files.",
    .options = options,
    .option_count = BK_COUNT_OF(options),
    .options_size = sizeof(struct mail_options),
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .events = events,
    .event_count = BK_COUNT_OF(events),
    .work_kinds = mail_work_kinds,
    .work_kind_count = BK_COUNT_OF(mail_work_kinds),
    .state_size = sizeof(struct mail_state),
    .init = on_init,
    .start = on_start,
    .stop = on_stop,
    .fini = on_fini,
};
