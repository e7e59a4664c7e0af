/*
 * From a code to a user, by the provider's own word:
 *
 *   token    POST code, verifier, secret → access_token [id_token]     (RFC 6749 4.1.3, RFC 7636)
 *              401, or an error that is not of the code → once more, with the secret in the other
 *              place: some providers know it in the Authorization header alone, some in the body
 *   user     GET, with the token as bearer; or the claims of the id_token
 *   emails   GET, of providers that tell of addresses apart; not allowed: there is none
 *
 * Each is one request of the channel: TLS, no redirects, no addresses of networks that the
 * operators have not named, a time and a size that are bounded. What comes is parsed in an arena
 * of its own and copied where it is kept. The log says why one has failed, without a text that
 * came or went.
 */
#include "bakend/clock.h"
#include "bakend/encode.h"
#include "oauth2.h"

enum {
    ANSWER_BYTES_MAX = 256 * 1024,
    PARSE_ARENA_BYTES_MAX = 8 * 1024 * 1024,
    BODY_BYTES_MAX = 128 * 1024,
    SECRET_BYTES_MAX = 16 * 1024,
    ERROR_BYTES_MAX = 100,
};

static const char token_failed[] = "Failed to fetch OAuth2 token.";
static const char user_failed[] = "Failed to fetch OAuth2 user.";

static void on_answered(struct bk_outbound_request *request);

/* --- the end ---------------------------------------------------------------------------------- */

static void end(struct oauth2_exchange *exchange, enum bk_status status) {
    exchange->status = status;
    exchange->done(exchange);
}

static const char *step_name(const struct oauth2_exchange *exchange) {
    static const char *const names[] = {"token", "user", "emails"};
    return names[exchange->step];
}

static void fail(struct oauth2_exchange *exchange, struct bk_slice reason) {
    bk_log_warn(&exchange->oauth2->context->log, "oauth2_failed",
                BK_STRING("tenant", exchange->tenant),
                BK_TEXT("provider", exchange->provider->name), BK_TEXT("step", step_name(exchange)),
                BK_STRING("reason", reason), BK_INT("status", exchange->request.status));
    exchange->message = exchange->step == OAUTH2_TOKEN ? token_failed : user_failed;
    end(exchange, BK_INVALID);
}

static void fail_text(struct oauth2_exchange *exchange, const char *reason) {
    fail(exchange, bk_slice_from(reason));
}

/* --- asking ----------------------------------------------------------------------------------- */

static void add_header(struct oauth2_exchange *exchange, const char *name, struct bk_slice value) {
    BK_ASSERT(exchange->header_count < OAUTH2_HEADERS_MAX);
    exchange->headers[exchange->header_count++] =
        (struct bk_outbound_header){bk_slice_from(name), value};
}

static void begin_headers(struct oauth2_exchange *exchange) {
    exchange->header_count = 0;
    add_header(exchange, "Accept", BK_SLICE("application/json"));
    add_header(exchange, "User-Agent", BK_SLICE("Bakend"));
}

static enum bk_status submit(struct oauth2_exchange *exchange, const char *method,
                             struct bk_slice url, struct bk_slice body) {
    const struct auth_options *options = exchange->oauth2->context->options;
    exchange->request = (struct bk_outbound_request){
        .method = method,
        .url = url,
        .headers = exchange->headers,
        .header_count = exchange->header_count,
        .body = body,
        .group = exchange->tenant,
        .timeout_ms = (uint32_t)options->oauth2_timeout_ms,
        .answer_max_bytes = ANSWER_BYTES_MAX,
        .done = on_answered,
    };
    return exchange->oauth2->channel == NULL
               ? BK_CLOSING
               : bk_outbound_submit(exchange->oauth2->channel, &exchange->request);
}

/* Of what follows the first request. */
static void submit_next(struct oauth2_exchange *exchange, const char *method, struct bk_slice url,
                        struct bk_slice body) {
    enum bk_status status = bk_arena_status(exchange->arena);
    if (status == BK_OK)
        status = submit(exchange, method, url, body);
    if (status == BK_INVALID)
        fail_text(exchange, "the URL, or what the provider has told, cannot be sent");
    else if (status != BK_OK)
        end(exchange, status);
}

/* --- the token -------------------------------------------------------------------------------- */

static struct bk_slice config_text(const struct oauth2_exchange *exchange, const char *name) {
    return bk_json_get_string(exchange->config, bk_slice_from(name));
}

static void add_field(struct bk_buffer *out, const char *name, struct bk_slice value) {
    if (value.length == 0)
        return;
    bk_buffer_format(out, "%s%s=", out->length > 0 ? "&" : "", name);
    bk_percent_encode(out, value);
}

static struct bk_slice take_text(struct bk_buffer *buffer, struct bk_arena *arena) {
    struct bk_slice text = bk_buffer_status(buffer) == BK_OK
                               ? bk_arena_copy(arena, bk_buffer_slice(buffer))
                               : BK_SLICE_EMPTY;
    bk_buffer_fini(buffer);
    return text;
}

static struct bk_slice make_body(struct oauth2_exchange *exchange) {
    struct bk_buffer out;
    bk_buffer_init(&out, BODY_BYTES_MAX);
    add_field(&out, "grant_type", BK_SLICE("authorization_code"));
    add_field(&out, "code", exchange->code);
    add_field(&out, "redirect_uri", exchange->redirect_url);
    if (auth_oauth2_has_pkce(exchange->provider, exchange->config))
        add_field(&out, "code_verifier", exchange->verifier);
    if (exchange->is_secret_in_body) {
        add_field(&out, "client_id", config_text(exchange, "clientId"));
        add_field(&out, "client_secret", config_text(exchange, "clientSecret"));
    }
    return take_text(&out, exchange->arena);
}

/* Encoded as in a form first (RFC 6749, 2.3.1). */
static struct bk_slice make_authorization(struct oauth2_exchange *exchange) {
    struct bk_buffer pair, out;
    bk_buffer_init(&pair, SECRET_BYTES_MAX);
    bk_buffer_init(&out, 2 * SECRET_BYTES_MAX);
    bk_percent_encode(&pair, config_text(exchange, "clientId"));
    bk_buffer_append_char(&pair, ':');
    bk_percent_encode(&pair, config_text(exchange, "clientSecret"));
    struct bk_slice text = take_text(&pair, exchange->arena);
    bk_buffer_append_literal(&out, "Basic ");
    if (bk_buffer_reserve(&out, BK_BASE64_BYTES(text.length)))
        out.length += bk_base64_encode(out.data + out.length, text.data, text.length);
    return take_text(&out, exchange->arena);
}

static enum bk_status ask_token(struct oauth2_exchange *exchange) {
    exchange->step = OAUTH2_TOKEN;
    begin_headers(exchange);
    add_header(exchange, "Content-Type", BK_SLICE("application/x-www-form-urlencoded"));
    if (!exchange->is_secret_in_body)
        add_header(exchange, "Authorization", make_authorization(exchange));
    struct bk_slice body = make_body(exchange);
    enum bk_status status = bk_arena_status(exchange->arena);
    return status == BK_OK ? submit(exchange, "POST",
                                    auth_oauth2_url(exchange->config, "tokenURL",
                                                    exchange->provider->token_url),
                                    body)
                           : status;
}

enum bk_status auth_oauth2_exchange_start(struct oauth2_exchange *exchange) {
    exchange->is_secret_in_body = exchange->provider->takes_secret_in_body;
    return ask_token(exchange);
}

static struct bk_slice keep(struct oauth2_exchange *exchange, const struct bk_json *answer,
                            const char *name) {
    return bk_arena_copy(exchange->arena, auth_oauth2_text(auth_oauth2_member(answer, name)));
}

static void read_token(struct oauth2_exchange *exchange, const struct bk_json *answer) {
    struct oauth2_user *user = &exchange->user;
    struct bk_slice lifetime = auth_oauth2_text(auth_oauth2_member(answer, "expires_in"));
    int64_t seconds;
    user->access_token = keep(exchange, answer, "access_token");
    user->refresh_token = keep(exchange, answer, "refresh_token");
    exchange->id_token = keep(exchange, answer, "id_token");
    if (exchange->provider->email_is_in_token)
        exchange->token_email = keep(exchange, answer, "email");
    if (bk_slice_to_int64(lifetime, &seconds) && seconds > 0 && seconds <= AUTH_TOKEN_SECONDS_MAX)
        user->expires_ms = bk_clock_wall_ms() + seconds * 1000;
}

/* --- the user --------------------------------------------------------------------------------- */

static void ask_with_token(struct oauth2_exchange *exchange, struct bk_slice url) {
    const struct oauth2_provider *provider = exchange->provider;
    const char *query = exchange->step == OAUTH2_USER ? provider->query : NULL;
    begin_headers(exchange);
    add_header(exchange, "Authorization",
               bk_arena_format(exchange->arena, "Bearer %.*s",
                               BK_SLICE_PRINT(exchange->user.access_token)));
    for (size_t i = 0; i < BK_COUNT_OF(provider->headers) && provider->headers[i].name != NULL; i++)
        add_header(exchange, provider->headers[i].name,
                   provider->headers[i].value == NULL ? config_text(exchange, "clientId")
                                                      : bk_slice_from(provider->headers[i].value));
    if (query != NULL)
        add_header(exchange, "Content-Type", BK_SLICE("application/json"));
    submit_next(exchange, query != NULL ? "POST" : "GET", url, bk_slice_from(query));
}

/* Empty: the id_token says who it is. Whose tokens have an issuer of their own tell it there. */
static struct bk_slice user_url(const struct oauth2_exchange *exchange) {
    const struct oauth2_provider *provider = exchange->provider;
    return provider->issuer != NULL
               ? BK_SLICE_EMPTY
               : auth_oauth2_url(exchange->config, "userInfoURL", provider->user_url);
}

static void ask_emails(struct oauth2_exchange *exchange) {
    struct bk_slice own = bk_slice_from(exchange->provider->emails_url);
    exchange->step = OAUTH2_EMAILS;
    if (own.data[0] == '/')
        own = bk_arena_format(exchange->arena, "%.*s%.*s", BK_SLICE_PRINT(user_url(exchange)),
                              BK_SLICE_PRINT(own));
    ask_with_token(exchange, own);
}

static const struct bk_json *read_claims(struct oauth2_exchange *exchange, struct bk_arena *arena,
                                         const char **reason) {
    const struct oidc_expected expected = {
        .client_id = config_text(exchange, "clientId"),
        .issuer = exchange->provider->issuer,
        .issuers = auth_oauth2_extra(exchange->config, "issuers"),
        .now_s = bk_clock_wall_ms() / 1000,
    };
    return auth_oidc_claims_read(arena, exchange->id_token, &expected, reason);
}

/* raw NULL: the claims are the user. Of two tokens the subject must be one (OpenID Connect Core
 * 5.3.2). */
static const char *read_user(struct oauth2_exchange *exchange, const struct bk_json *raw,
                             struct bk_arena *arena) {
    const struct oauth2_provider *provider = exchange->provider;
    bool wants_claims =
        provider->has_id_token || auth_oauth2_extra(exchange->config, "idTokenEmailClaim") != NULL;
    const struct bk_json *claims = NULL;
    const char *reason = NULL;
    if (wants_claims && (raw == NULL || exchange->id_token.length > 0))
        claims = read_claims(exchange, arena, &reason);
    if (reason != NULL)
        return reason;
    if (provider->has_id_token && raw != NULL && claims != NULL &&
        !bk_slice_equal(bk_json_get_string(raw, BK_SLICE("sub")),
                        bk_json_get_string(claims, BK_SLICE("sub"))))
        return "the id_token is of another user";
    struct oauth2_reading reading = {.provider = provider,
                                     .config = exchange->config,
                                     .raw = raw == NULL ? claims : raw,
                                     .claims = claims,
                                     .arena = exchange->arena,
                                     .user = &exchange->user};
    if (reading.raw == NULL)
        return "there is no id_token, and no userInfoURL";
    return auth_oauth2_user_read(&reading);
}

static void take_user(struct oauth2_exchange *exchange, const struct bk_json *raw) {
    struct oauth2_user *user = &exchange->user;
    struct bk_arena arena;
    bk_arena_init(&arena, PARSE_ARENA_BYTES_MAX);
    const char *reason = read_user(exchange, raw, &arena);
    bk_arena_fini(&arena);
    if (reason == NULL && bk_arena_status(exchange->arena) != BK_OK)
        reason = "the user takes too much memory";
    if (reason == NULL && exchange->token_email.length > 0) {
        user->email = exchange->token_email;
        user->is_email_verified = true;
    }
    if (reason != NULL)
        fail_text(exchange, reason);
    else if (exchange->provider->emails_url != NULL)
        ask_emails(exchange);
    else
        end(exchange, BK_OK);
}

/* --- answers ---------------------------------------------------------------------------------- */

static bool is_well(const struct bk_outbound_request *request) {
    return request->status >= 200 && request->status < 300;
}

/* Whether another place for the secret may help: nothing was said of the code. */
static bool may_ask_again(const struct oauth2_exchange *exchange, struct bk_slice error) {
    uint32_t status = exchange->request.status;
    if (exchange->is_second || status >= 500 || bk_slice_is(error, "invalid_grant"))
        return false;
    return status == 400 || status == 401 || status == 403 ||
           bk_slice_is(error, "invalid_client") ||
           bk_slice_is(error, "incorrect_client_credentials");
}

static void refuse_token(struct oauth2_exchange *exchange, const struct bk_json *answer) {
    struct bk_slice error = bk_json_get_string(answer, BK_SLICE("error"));
    if (may_ask_again(exchange, error)) {
        exchange->is_second = true;
        exchange->is_secret_in_body = !exchange->is_secret_in_body;
        enum bk_status status = ask_token(exchange);
        if (status == BK_INVALID)
            fail_text(exchange, "the client's id and secret cannot be sent");
        else if (status != BK_OK)
            end(exchange, status);
        return;
    }
    if (error.length > ERROR_BYTES_MAX)
        error.length = ERROR_BYTES_MAX;
    fail(exchange, error.length > 0 ? error : BK_SLICE("there is no token in the answer"));
}

static void take_token(struct oauth2_exchange *exchange, const struct bk_json *answer) {
    if (is_well(&exchange->request) && answer != NULL)
        read_token(exchange, answer);
    if (exchange->user.access_token.length == 0) {
        refuse_token(exchange, answer);
        return;
    }
    struct bk_slice url = user_url(exchange);
    exchange->step = OAUTH2_USER;
    if (url.length > 0)
        ask_with_token(exchange, url);
    else
        take_user(exchange, NULL);
}

/* Who has not allowed it has none here. */
static void take_emails(struct oauth2_exchange *exchange, const struct bk_json *answer) {
    uint32_t status = exchange->request.status;
    struct oauth2_user *user = &exchange->user;
    bool is_refused = status == 401 || status == 403 || status == 404;
    if (!is_refused && (!is_well(&exchange->request) || answer == NULL)) {
        fail_text(exchange, "the addresses cannot be read");
        return;
    }
    user->email = is_refused ? BK_SLICE_EMPTY : auth_oauth2_emails_read(answer, exchange->arena);
    user->is_email_verified = user->email.length > 0;
    end(exchange, BK_OK);
}

static void take_answer(struct oauth2_exchange *exchange, const struct bk_json *answer) {
    switch (exchange->step) {
    case OAUTH2_TOKEN:
        take_token(exchange, answer);
        return;
    case OAUTH2_USER:
        if (is_well(&exchange->request) && answer != NULL && answer->type == BK_JSON_OBJECT)
            take_user(exchange, answer);
        else
            fail_text(exchange, "the user cannot be read");
        return;
    case OAUTH2_EMAILS:
        take_emails(exchange, answer);
        return;
    }
    BK_UNREACHABLE();
}

static void on_answered(struct bk_outbound_request *request) {
    struct oauth2_exchange *exchange = bk_container_of(request, struct oauth2_exchange, request);
    struct bk_arena arena;
    struct bk_json *answer = NULL;
    if (request->failure != BK_OUTBOUND_OK) {
        fail_text(exchange, bk_outbound_failure_name(request->failure));
        return;
    }
    bk_arena_init(&arena, PARSE_ARENA_BYTES_MAX);
    if (bk_json_parse(&arena, request->answer, &answer, NULL) != BK_OK)
        answer = NULL;
    take_answer(exchange, answer);
    bk_arena_fini(&arena);
}
