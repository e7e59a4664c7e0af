/*
 * `bakend webhooks listen`: what happens in a tenant is posted to a server on the developer's own
 * machine, in the form and with the signature of a webhook, without one being made.
 *
 *   a page behind the cursor ─> each event posted ─> a line printed ─> the cursor moves on ─┐
 *   ^ long polls ───────────────────────────────────────────────────────────────────────────┘
 *
 * Events come through the server's router, by the control socket (see follow.h, also for its end);
 * the requests go out from here, by a loop that runs while one is on its way. A local server that
 * is away is waited for, and the event posted when it is back; whatever it answers is shown, and
 * the next one follows: who develops wants to see an error, not twelve of them.
 *
 * The cursor moves on behind each event, so whoever goes on from it may see one twice and misses
 * none.
 */
#include "webhooks.h"

#include "bakend/clock.h"
#include "bakend/follow.h"
#include "bakend/terminal.h"

#include <stdio.h>
#include <unistd.h>

enum {
    SIGN_ARENA_BYTES_MAX = 64 * 1024,
    BODY_BYTES_MAX = 32 * 1024 * 1024,
    LINE_BYTES_MAX = 32 * 1024,
    POST_TIMEOUT_MS = 60 * 1000, /* a debugger may stop it for a while */
    REPLY_BYTES_MAX = 64 * 1024,
    REPLY_SHOWN_BYTES = 200, /* of an error */
};

struct listen {
    struct bk_follow follow;
    const char *forward, *secret;
    bool is_target_away;
    struct bk_buffer body;
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

static void print_json(const struct listen *listen, const struct bk_event_fields *fields,
                       int64_t wall_ms) {
    const struct bk_outbound_request *request = &listen->request;
    struct bk_buffer line;
    char time[BK_TIME_TEXT_BYTES];
    bk_buffer_init(&line, LINE_BYTES_MAX);
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
    bk_terminal_print_time(wall_ms);
    printf("  ");
    bk_terminal_print(fields->type);
    printf("  ");
    bk_terminal_print(fields->subject.length > 0 ? fields->subject : BK_SLICE("-"));
    if (request->failure == BK_OUTBOUND_OK)
        printf("  %u", request->status);
    else
        printf("  %s", bk_outbound_failure_name(request->failure));
    printf("  %lld ms", (long long)request->duration_us / 1000);
    if (request->status >= 300 && request->answer.length > 0) {
        printf("  ");
        bk_terminal_print(bk_terminal_shorten(request->answer, REPLY_SHOWN_BYTES));
    }
    printf("\n");
}

static bool print_outcome(const struct listen *listen, const struct bk_event_fields *fields) {
    int64_t wall_ms = bk_clock_wall_ms();
    if (listen->follow.command->is_json)
        print_json(listen, fields, wall_ms);
    else
        print_line(listen, fields, wall_ms);
    return bk_terminal_flush();
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
        (void)usleep(BK_FOLLOW_RETRY_MS * 1000);
    }
    listen->form.after = fields.sequence;
    bk_cursor_make(cursor, listen->form.epoch, fields.sequence);
    bk_follow_move(&listen->follow, bk_slice_make(cursor, sizeof cursor));
    return print_outcome(listen, &fields);
}

static bool forward_page(struct listen *listen) {
    const struct bk_json *event = bk_follow_first(&listen->follow);
    uint64_t sequence;
    struct bk_slice next = bk_follow_page_end(&listen->follow);
    if (!bk_cursor_parse(next, listen->form.epoch, &sequence))
        return false;
    for (; event != NULL; event = event->next)
        if (!forward(listen, event))
            return false;
    bk_follow_move(&listen->follow, next);
    return true;
}

static int follow(struct listen *listen) {
    for (;;) {
        int status = bk_follow_next(&listen->follow, BK_FOLLOW_PAGE_EVENTS, true);
        if (status != 200)
            return status;
        if (!forward_page(listen))
            return -1;
    }
}

/* Where it stands is known before the first line is printed: what happens from then on is seen. */
static int find_start(struct listen *listen) {
    struct bk_follow *follow = &listen->follow;
    uint64_t sequence = 0;
    int status = bk_follow_ask(follow, follow->has_after ? follow->cursor : "now", 1, "");
    if (status != 200)
        return status;
    struct bk_slice next = bk_follow_page_end(follow);
    if (!bk_cursor_parse(next, listen->form.epoch, &sequence))
        return -1;
    const struct bk_json *first = bk_json_get(follow->page, BK_SLICE("firstSequence"));
    int64_t number = 1;
    if (first != NULL)
        (void)bk_json_to_int64(first, &number);
    listen->form.after = (uint64_t)(number > 0 ? number - 1 : 0);
    if (!follow->has_after)
        bk_follow_move(follow, next);
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
    if (!bk_follow_begin(&listen->follow))
        return 1;
    int status = find_start(listen);
    if (status == 200) {
        say_start(listen);
        status = follow(listen);
    }
    bk_follow_say_refusal(&listen->follow, status);
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
    bk_buffer_init(&listen->body, BODY_BYTES_MAX);
    listen->module.options = &listen->options;
    listen->state.context = &listen->module;
    listen->config.url = bk_slice_from(listen->forward);
    open_channel(listen);
    int code = run(listen);
    close_channel(listen);
    bk_buffer_fini(&listen->body);
    return code;
}

/* --- the command line ------------------------------------------------------------------------- */

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
    listen->secret = text;
    if (webhooks_secret_make(bk_slice_from(text), &listen->config.keys) == BK_OK && text[0] != '\0')
        return true;
    fprintf(stderr, "bakend: --secret must be \"whsec_\" and 24 to 64 bytes in base64; without it "
                    "one is made\n");
    return false;
}

static bool read_format(struct listen *listen, const char *text) {
    listen->form.format = webhooks_format_named(bk_slice_from(text));
    if (listen->form.format != WEBHOOKS_FORMAT_COUNT)
        return true;
    fprintf(stderr, "bakend: --format must be standard, cloudevents or cloudevents-binary\n");
    return false;
}

static bool read_argument(struct listen *listen, int *index, int argument_count, char **arguments) {
    static const struct {
        const char *name;
        bool (*read)(struct listen *listen, const char *text);
    } flags[] = {
        {"--forward", read_forward},
        {"--secret", read_secret},
        {"--format", read_format},
    };
    enum bk_follow_flag flag =
        bk_follow_read_flag(&listen->follow, index, argument_count, arguments);
    if (flag != BK_FOLLOW_FLAG_OTHER)
        return flag == BK_FOLLOW_FLAG_TAKEN;
    for (size_t i = 0; i < BK_COUNT_OF(flags); i++) {
        const char *value = bk_command_flag_value(flags[i].name, index, argument_count, arguments);
        if (value != NULL)
            return flags[i].read(listen, value);
    }
    if (arguments[*index][0] != '-')
        fprintf(stderr, "bakend: unexpected argument %s: see `bakend help webhooks`\n",
                arguments[*index]);
    return false;
}

static int read_and_run(struct listen *listen, int argument_count, char **arguments) {
    const struct bk_command_context *context = listen->follow.command;
    for (int i = 1; i < argument_count; i++)
        if (!read_argument(listen, &i, argument_count, arguments))
            return 2;
    if (listen->forward == NULL) {
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
    if (listen->secret == NULL)
        (void)webhooks_secret_make(BK_SLICE_EMPTY, &listen->config.keys);
    return listen_until_end(listen);
}

int webhooks_run_command(struct bk_command_context *context, int argument_count, char **arguments) {
    static struct listen listen;
    listen = (struct listen){.options.origin = ""};
    if (argument_count < 1 || strcmp(arguments[0], "listen") != 0) {
        fprintf(stderr, "bakend: webhooks has one command: `bakend webhooks listen`\n");
        return 2;
    }
    bk_follow_init(&listen.follow, context);
    int code = read_and_run(&listen, argument_count, arguments);
    bk_follow_fini(&listen.follow);
    bk_crypto_wipe(&listen.config.keys, sizeof listen.config.keys);
    return code;
}
