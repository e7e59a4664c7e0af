/*
 * `bakend webhooks listen`: what happens in a tenant is posted to a server on the developer's own
 * machine, in the form and with the signature of a webhook, without one being made.
 *
 *   a page behind the cursor ─> each event posted ─> a line printed ─> the cursor moves on ─┐
 *   ^ long polls ───────────────────────────────────────────────────────────────────────────┘
 *
 * Events come through the server's router, by the control socket; the requests go out from here,
 * by a loop that runs while one is on its way. A local server that is away is waited for, and the
 * event posted when it is back; whatever it answers is shown, and the next one follows: who
 * develops wants to see an error, not twelve of them. Our own server is waited for, too.
 *
 * The cursor moves on behind each event, so whoever goes on from it may see one twice and misses
 * none. Ctrl-C ends the program where it stands, as `bakend events tail` does.
 */
#include "webhooks.h"

#include "bakend/clock.h"
#include "bakend/encode.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE_EVENTS = 50,
    POLL_SECONDS = 30,
    RETRY_MS = 500,
    ANSWER_BYTES_MAX = 32 * 1024 * 1024,
    ARENA_BYTES_MAX = 128 * 1024 * 1024,
    SIGN_ARENA_BYTES_MAX = 64 * 1024,
    TARGET_BYTES_MAX = 32 * 1024,
    CURSOR_TEXT_BYTES = 64,      /* a cursor, a word or a time */
    POST_TIMEOUT_MS = 60 * 1000, /* a debugger may stop it for a while */
    REPLY_BYTES_MAX = 64 * 1024,
    REPLY_SHOWN_BYTES = 200, /* of an error */
};

struct listen {
    struct bk_command_context *context;
    const char *types, *subject, *filter; /* NULL: any */
    const char *forward, *secret;
    char cursor[CURSOR_TEXT_BYTES];
    bool has_after, is_away, is_target_away;
    struct bk_buffer answer, body;
    struct bk_arena arena; /* of a page */
    const struct bk_json *page;
    /* What signs: an endpoint that is in no collection. */
    struct webhooks_options options;
    struct bk_module_context module;
    struct webhooks_state state;
    struct webhooks_config config;
    struct webhooks_form form;
    /* What sends. */
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *channel;
    struct bk_outbound_request request;
    bool is_over; /* what the loop was run for */
};

/* --- the last words --------------------------------------------------------------------------- */

static char last_words[CURSOR_TEXT_BYTES + 64];
static volatile sig_atomic_t last_words_length;

static void on_signal(int number) {
    (void)number;
    ssize_t ignored = write(STDERR_FILENO, last_words, (size_t)last_words_length);
    (void)ignored;
    _exit(0);
}

static void block_signals(bool is_blocked) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(is_blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void set_cursor(struct listen *listen, struct bk_slice cursor) {
    block_signals(true);
    snprintf(listen->cursor, sizeof listen->cursor, "%.*s", BK_SLICE_PRINT(cursor));
    int length =
        snprintf(last_words, sizeof last_words, "bakend: go on with --after %s\n", listen->cursor);
    last_words_length = length > 0 && (size_t)length < sizeof last_words ? length : 0;
    block_signals(false);
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* --- asking our own server -------------------------------------------------------------------- */

static void write_parameter(struct bk_buffer *out, const char *name, const char *value) {
    if (value == NULL)
        return;
    bk_buffer_format(out, "&%s=", name);
    bk_percent_encode(out, bk_slice_from(value));
}

static int call(struct listen *listen, const char *after, uint32_t limit, uint32_t wait_s) {
    struct bk_buffer target;
    bk_buffer_init(&target, TARGET_BYTES_MAX);
    bk_buffer_format(&target, "/api/events?limit=%u&wait=%u", limit, wait_s);
    write_parameter(&target, "after", after);
    write_parameter(&target, "types", listen->types);
    write_parameter(&target, "subject", listen->subject);
    write_parameter(&target, "filter", listen->filter);
    bk_buffer_append_char(&target, '\0');
    bk_buffer_clear(&listen->answer);
    int status = -1;
    if (target.is_overflown)
        fprintf(stderr, "bakend: --types, --subject and --filter are too long\n");
    else
        status = listen->context->call(listen->context, BK_GET, target.data, BK_SLICE_EMPTY,
                                       &listen->answer);
    bk_buffer_fini(&target);
    return status;
}

static bool parse(struct listen *listen) {
    struct bk_json *root = NULL;
    bk_arena_reset(&listen->arena);
    bool is_parsed =
        bk_json_parse(&listen->arena, bk_buffer_slice(&listen->answer), &root, NULL) == BK_OK;
    listen->page = root;
    return is_parsed;
}

/* A page of JSON has a bound on its values; one event of any kind is within it. */
static int call_page(struct listen *listen, uint32_t wait_s) {
    int status = call(listen, listen->cursor, PAGE_EVENTS, wait_s);
    if (status == 200 && !parse(listen))
        status = call(listen, listen->cursor, 1, wait_s);
    if (status == 200 && listen->page == NULL && !parse(listen))
        status = -1;
    return status;
}

/* Field by field, where the answer has fields. */
static void print_refusal(struct listen *listen) {
    struct bk_slice message = BK_SLICE("the answer cannot be read: see the server's log");
    const struct bk_json *field = NULL;
    if (parse(listen)) {
        const struct bk_json *data = bk_json_get(listen->page, BK_SLICE("data"));
        message = bk_json_get_string(listen->page, BK_SLICE("message"));
        field = data == NULL ? NULL : data->child;
    }
    fprintf(stderr, "bakend: %.*s\n", BK_SLICE_PRINT(message));
    for (; field != NULL; field = field->next)
        fprintf(stderr, "bakend: --%.*s: %.*s\n", BK_SLICE_PRINT(field->key),
                BK_SLICE_PRINT(bk_json_get_string(field, BK_SLICE("message"))));
}

/* --- one event, posted ------------------------------------------------------------------------ */

static struct bk_slice raw_of(const struct bk_json *event, struct bk_slice key) {
    const struct bk_json *member = bk_json_get(event, key);
    return member == NULL ? BK_SLICE_EMPTY : member->text;
}

/* The event as the journal has it, out of the bytes that were made of it. */
static bool read_event(const struct bk_json *event, struct bk_event_fields *fields) {
    const struct bk_json *sequence = bk_json_get(event, BK_SLICE("sequence"));
    const struct bk_json *version = bk_json_get(event, BK_SLICE("version"));
    int64_t number = 0, version_number = 1;
    *fields = (struct bk_event_fields){.id = bk_json_get_string(event, BK_SLICE("id")),
                                       .type = bk_json_get_string(event, BK_SLICE("type")),
                                       .source = bk_json_get_string(event, BK_SLICE("source")),
                                       .tenant = bk_json_get_string(event, BK_SLICE("tenant")),
                                       .subject = bk_json_get_string(event, BK_SLICE("subject")),
                                       .actor = bk_json_get_string(event, BK_SLICE("actor")),
                                       .cause = bk_json_get_string(event, BK_SLICE("cause")),
                                       .payload = raw_of(event, BK_SLICE("payload")),
                                       .previous = raw_of(event, BK_SLICE("previous")),
                                       .omitted = raw_of(event, BK_SLICE("omitted"))};
    if (version != NULL)
        (void)bk_json_to_int64(version, &version_number);
    fields->version = (uint32_t)version_number;
    if (sequence == NULL || !bk_json_to_int64(sequence, &number) || number <= 0)
        return false;
    fields->sequence = (uint64_t)number;
    return bk_time_parse(bk_json_get_string(event, BK_SLICE("timestamp")), &fields->timestamp_ms);
}

static void on_posted(struct bk_outbound_request *request) {
    struct listen *listen = bk_container_of(request, struct listen, request);
    listen->is_over = true;
}

/* False: it cannot be sent at all. */
static bool post(struct listen *listen, const struct bk_event_fields *fields) {
    struct bk_arena arena;
    bk_arena_init(&arena, SIGN_ARENA_BYTES_MAX);
    bk_buffer_clear(&listen->body);
    webhooks_body_write(&listen->body, fields, &listen->form);
    listen->request = (struct bk_outbound_request){.method = "POST",
                                                   .url = listen->config.url,
                                                   .body = bk_buffer_slice(&listen->body),
                                                   .timeout_ms = POST_TIMEOUT_MS,
                                                   .answer_max_bytes = REPLY_BYTES_MAX,
                                                   .cuts_answer = true,
                                                   .done = on_posted};
    const struct webhooks_signing signing = {.state = &listen->state,
                                             .config = &listen->config,
                                             .event = fields,
                                             .form = &listen->form,
                                             .body = bk_buffer_slice(&listen->body),
                                             .now_s = bk_clock_wall_ms() / 1000};
    listen->is_over = false;
    bool is_sent = !listen->body.is_overflown &&
                   webhooks_sign(&signing, &arena, &listen->request) == BK_OK &&
                   bk_outbound_submit(listen->channel, &listen->request) == BK_OK &&
                   bk_loop_run_until(listen->loop, &listen->is_over);
    bk_arena_fini(&arena);
    return is_sent;
}

/* --- printing --------------------------------------------------------------------------------- */

/* What a terminal may obey is not shown. */
static void print_text(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        (void)putchar(c < 0x20 || c == 0x7f ? '?' : c);
    }
}

/* Not in the middle of a character. */
static struct bk_slice shorten(struct bk_slice text) {
    if (text.length <= REPLY_SHOWN_BYTES)
        return text;
    text.length = REPLY_SHOWN_BYTES;
    while (text.length > 0 && ((unsigned char)text.data[text.length] & 0xc0) == 0x80)
        text.length--;
    return text;
}

static void print_time(int64_t wall_ms) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm local;
    char text[32] = "";
    if (localtime_r(&seconds, &local) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local) == 0)
        text[0] = '\0';
    printf("%s.%03d", text, (int)(wall_ms % 1000));
}

static void print_json(const struct listen *listen, const struct bk_event_fields *fields,
                       int64_t wall_ms) {
    const struct bk_outbound_request *request = &listen->request;
    struct bk_buffer line;
    char time[BK_TIME_TEXT_BYTES];
    bk_buffer_init(&line, TARGET_BYTES_MAX);
    bk_time_format(time, wall_ms, 'T');
    bk_buffer_append_char(&line, '{');
    bk_json_write_member_string(&line, BK_SLICE("time"), bk_slice_make(time, sizeof time));
    bk_json_write_member_string(&line, BK_SLICE("event"), fields->id);
    bk_json_write_member_string(&line, BK_SLICE("type"), fields->type);
    bk_json_write_member_string(&line, BK_SLICE("subject"), fields->subject);
    bk_json_write_member_int(&line, BK_SLICE("status"), request->status);
    bk_json_write_member_int(&line, BK_SLICE("latencyMs"), (int64_t)request->duration_us / 1000);
    bk_json_write_member_string(&line, BK_SLICE("error"),
                                request->failure == BK_OUTBOUND_OK ? BK_SLICE("")
                                                                   : request->reason);
    printf("%.*s}\n", BK_SLICE_PRINT(bk_buffer_slice(&line)));
    bk_buffer_fini(&line);
}

static void print_line(const struct listen *listen, const struct bk_event_fields *fields,
                       int64_t wall_ms) {
    const struct bk_outbound_request *request = &listen->request;
    print_time(wall_ms);
    printf("  ");
    print_text(fields->type);
    printf("  ");
    print_text(fields->subject.length > 0 ? fields->subject : BK_SLICE("-"));
    if (request->failure == BK_OUTBOUND_OK)
        printf("  %u", request->status);
    else
        printf("  %s", bk_outbound_failure_name(request->failure));
    printf("  %lld ms", (long long)request->duration_us / 1000);
    if (request->status >= 300 && request->answer.length > 0) {
        printf("  ");
        print_text(shorten(request->answer));
    }
    printf("\n");
}

/* False when nobody reads it any more. */
static bool flush(void) {
    if (fflush(stdout) == 0)
        return true;
    if (errno != EPIPE)
        fprintf(stderr, "bakend: cannot write to standard output\n");
    return false;
}

static bool print_outcome(const struct listen *listen, const struct bk_event_fields *fields) {
    int64_t wall_ms = bk_clock_wall_ms();
    if (listen->context->is_json)
        print_json(listen, fields, wall_ms);
    else
        print_line(listen, fields, wall_ms);
    return flush();
}

/* --- following -------------------------------------------------------------------------------- */

/* Nothing of it has arrived, so it comes again. */
static bool is_target_away(const struct listen *listen) {
    return listen->request.failure == BK_OUTBOUND_CONNECT ||
           listen->request.failure == BK_OUTBOUND_RESOLVE;
}

static void say_target(struct listen *listen, bool is_away) {
    if (is_away && !listen->is_target_away)
        fprintf(stderr, "bakend: %s does not answer (%.*s): waiting for it\n", listen->forward,
                BK_SLICE_PRINT(listen->request.reason));
    else if (!is_away && listen->is_target_away)
        fprintf(stderr, "bakend: %s is back\n", listen->forward);
    listen->is_target_away = is_away;
}

static bool forward(struct listen *listen, const struct bk_json *json) {
    struct bk_event_fields fields;
    char cursor[BK_CURSOR_BYTES];
    if (!read_event(json, &fields)) {
        fprintf(stderr, "bakend: an event cannot be read\n");
        return false;
    }
    for (;;) {
        if (!post(listen, &fields)) {
            fprintf(stderr, "bakend: an event cannot be posted to %s\n", listen->forward);
            return false;
        }
        say_target(listen, is_target_away(listen));
        if (!listen->is_target_away)
            break;
        (void)usleep(RETRY_MS * 1000);
    }
    listen->form.after = fields.sequence;
    bk_cursor_make(cursor, listen->form.epoch, fields.sequence);
    set_cursor(listen, bk_slice_make(cursor, sizeof cursor));
    return print_outcome(listen, &fields);
}

static bool forward_page(struct listen *listen) {
    const struct bk_json *events = bk_json_get(listen->page, BK_SLICE("events"));
    const struct bk_json *event = events == NULL ? NULL : events->child;
    uint64_t sequence;
    struct bk_slice next = bk_json_get_string(listen->page, BK_SLICE("next"));
    if (!bk_cursor_parse(next, listen->form.epoch, &sequence))
        return false;
    for (; event != NULL; event = event->next)
        if (!forward(listen, event))
            return false;
    set_cursor(listen, next);
    return true;
}

/* status: -1, nobody answers, or 503, with the reason in the answer. */
static void say_away(struct listen *listen) {
    if (!listen->is_away)
        fprintf(stderr, "bakend: the server on %s does not answer: waiting for it\n",
                listen->context->data_directory);
    listen->is_away = true;
    (void)usleep(RETRY_MS * 1000);
}

static int follow(struct listen *listen) {
    for (;;) {
        int status = call_page(listen, POLL_SECONDS);
        if (status == -1 || status == 503) {
            say_away(listen);
            continue;
        }
        if (status != 200)
            return status;
        if (listen->is_away)
            fprintf(stderr, "bakend: the server is back: going on behind %s\n", listen->cursor);
        listen->is_away = false;
        if (!forward_page(listen))
            return -1;
    }
}

/* Where it stands is known before the first line is printed: what happens from then on is seen. */
static int find_start(struct listen *listen) {
    uint64_t sequence = 0;
    int status = call(listen, listen->has_after ? listen->cursor : "now", 1, 0);
    if (status != 200)
        return status;
    if (!parse(listen))
        return -1;
    struct bk_slice next = bk_json_get_string(listen->page, BK_SLICE("next"));
    if (!bk_cursor_parse(next, listen->form.epoch, &sequence))
        return -1;
    const struct bk_json *first = bk_json_get(listen->page, BK_SLICE("firstSequence"));
    int64_t number = 1;
    if (first != NULL)
        (void)bk_json_to_int64(first, &number);
    listen->form.after = (uint64_t)(number > 0 ? number - 1 : 0);
    if (!listen->has_after)
        set_cursor(listen, next);
    return 200;
}

/* A secret that was given is known, and may be one that matters: it stays out of logs. */
static void say_start(const struct listen *listen) {
    struct bk_arena arena;
    if (listen->secret != NULL) {
        fprintf(stderr, "bakend: forwarding to %s, signed with --secret\n", listen->forward);
        return;
    }
    bk_arena_init(&arena, SIGN_ARENA_BYTES_MAX);
    fprintf(stderr, "bakend: forwarding to %s, signed with %.*s\n", listen->forward,
            BK_SLICE_PRINT(webhooks_secret_text(&listen->config.keys, &arena)));
    bk_arena_fini(&arena);
}

static int run(struct listen *listen) {
    int status = find_start(listen);
    if (status == 200) {
        say_start(listen);
        listen->context->is_patient = true;
        status = follow(listen);
    }
    if (status > 0)
        print_refusal(listen);
    return 1;
}

/* --- what sends ------------------------------------------------------------------------------- */

static void on_closed(void *user) { *(bool *)user = true; }

static void open_channel(struct listen *listen) {
    const struct bk_outbound_policy policy = {
        .name = "listen", .allows_any_address = true, .allows_plain = true};
    listen->loop = bk_loop_create();
    listen->outbound = bk_outbound_create(listen->loop);
    listen->channel = bk_outbound_open(listen->outbound, &policy);
}

static void close_channel(struct listen *listen) {
    listen->is_over = false;
    bk_outbound_close(listen->channel, on_closed, &listen->is_over);
    (void)bk_loop_run_until(listen->loop, &listen->is_over);
    bk_outbound_destroy(listen->outbound);
    bk_loop_run(listen->loop);
    bk_loop_destroy(listen->loop);
}

static int listen_until_end(struct listen *listen) {
    bk_buffer_init(&listen->answer, ANSWER_BYTES_MAX);
    bk_buffer_init(&listen->body, ANSWER_BYTES_MAX);
    bk_arena_init(&listen->arena, ARENA_BYTES_MAX);
    listen->module.options = &listen->options;
    listen->state.context = &listen->module;
    listen->config.url = bk_slice_from(listen->forward);
    open_channel(listen);
    catch_signals();
    int code = run(listen);
    close_channel(listen);
    bk_arena_fini(&listen->arena);
    bk_buffer_fini(&listen->body);
    bk_buffer_fini(&listen->answer);
    return code;
}

/* --- the command line ------------------------------------------------------------------------- */

/* "--name VALUE" or "--name=VALUE" at *index; NULL when it is another one, or has no value. */
static const char *value_of(const char *name, int *index, int argument_count, char **arguments) {
    size_t length = strlen(name);
    const char *argument = arguments[*index];
    if (strncmp(argument, name, length) != 0)
        return NULL;
    if (argument[length] == '=')
        return argument + length + 1;
    if (argument[length] != '\0')
        return NULL;
    if (*index + 1 >= argument_count) {
        fprintf(stderr, "bakend: %s needs a value behind it\n", name);
        return NULL;
    }
    return arguments[++*index];
}

static bool read_forward(struct listen *listen, const char *text) {
    const struct bk_outbound_policy policy = {.allows_any_address = true, .allows_plain = true};
    struct bk_error error = BK_ERROR_INIT;
    listen->forward = text;
    if (bk_outbound_check_url(&policy, bk_slice_from(text), &error) == BK_OK)
        return true;
    fprintf(stderr, "bakend: --forward must be a URL such as http://localhost:3000/hook, without a "
                    "login in it\n");
    return false;
}

static bool read_secret(struct listen *listen, const char *text) {
    if (webhooks_secret_make(bk_slice_from(text), &listen->config.keys) == BK_OK && text[0] != '\0')
        return true;
    fprintf(stderr, "bakend: --secret must be \"whsec_\" and 24 to 64 bytes in base64; without it "
                    "one is made\n");
    return false;
}

static bool read_after(struct listen *listen, const char *text) {
    listen->has_after = text[0] != '\0' && strlen(text) < CURSOR_TEXT_BYTES;
    if (listen->has_after)
        set_cursor(listen, bk_slice_from(text));
    else
        fprintf(stderr,
                "bakend: --after must be a cursor, \"start\", \"now\" or an RFC 3339 time\n");
    return listen->has_after;
}

static bool read_format(struct listen *listen, const char *text) {
    listen->form.format = webhooks_format_named(bk_slice_from(text));
    if (listen->form.format != WEBHOOKS_FORMAT_COUNT)
        return true;
    fprintf(stderr, "bakend: --format must be standard, cloudevents or cloudevents-binary\n");
    return false;
}

static bool read_argument(struct listen *listen, int *index, int argument_count, char **arguments) {
    const struct {
        const char *name, **text;
        bool (*read)(struct listen *listen, const char *text);
    } flags[] = {
        {"--types", &listen->types, NULL},
        {"--subject", &listen->subject, NULL},
        {"--filter", &listen->filter, NULL},
        {"--forward", NULL, read_forward},
        {"--secret", &listen->secret, read_secret},
        {"--after", NULL, read_after},
        {"--format", NULL, read_format},
    };
    for (size_t i = 0; i < BK_COUNT_OF(flags); i++) {
        const char *value = value_of(flags[i].name, index, argument_count, arguments);
        if (value == NULL)
            continue;
        if (flags[i].text != NULL)
            *flags[i].text = value;
        return flags[i].read == NULL || flags[i].read(listen, value);
    }
    if (arguments[*index][0] != '-')
        fprintf(stderr, "bakend: unexpected argument %s: see `bakend help webhooks`\n",
                arguments[*index]);
    return false;
}

int webhooks_run_command(struct bk_command_context *context, int argument_count, char **arguments) {
    static struct listen listen;
    listen = (struct listen){.context = context, .options.origin = ""};
    if (argument_count < 1 || strcmp(arguments[0], "listen") != 0) {
        fprintf(stderr, "bakend: webhooks has one command: `bakend webhooks listen`\n");
        return 2;
    }
    for (int i = 1; i < argument_count; i++)
        if (!read_argument(&listen, &i, argument_count, arguments))
            return 2;
    if (listen.forward == NULL) {
        fprintf(stderr, "bakend: say where to: --forward http://localhost:3000/hook\n");
        return 2;
    }
    if (!context->is_running) {
        fprintf(stderr, "bakend: no server runs on %s: start it, then run the command again\n",
                context->data_directory);
        return 1;
    }
    if (bk_crypto_init() != BK_OK)
        return 1;
    if (listen.secret == NULL)
        (void)webhooks_secret_make(BK_SLICE_EMPTY, &listen.config.keys);
    int code = listen_until_end(&listen);
    bk_crypto_wipe(&listen.config.keys, sizeof listen.config.keys);
    return code;
}
