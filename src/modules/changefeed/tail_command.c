/*
 * `bakend events tail`: what happens in a tenant, on a terminal or in a pipe.
 *
 *   the last events ─> a page behind the cursor ─> printed ─> the cursor moves on ─┐
 *                      ^ long polls, when a server runs ───────────────────────────┘
 *
 * The cursor moves on when a page was printed and flushed, so whoever goes on from it may see an
 * event twice and misses none. A server that goes away is waited for, and the reason told.
 * Ctrl-C ends the program where it stands: a blocking call cannot be left in any other way, and
 * nothing is open but a socket.
 */
#include "changefeed_private.h"

#include "bakend/clock.h"
#include "bakend/encode.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    LAST_EVENTS = 10,
    PAGE_EVENTS = 100,
    POLL_SECONDS = 30,
    RETRY_MS = 500,
    BACKWARD_PAGES_MAX = 100, /* of 10,000 events each, to find the last ones of a rare type */
    ANSWER_MAX_BYTES = 16 * 1024 * 1024, /* a page, and an event that exceeds it */
    ARENA_MAX_BYTES = 128 * 1024 * 1024,
    TARGET_MAX_BYTES = 32 * 1024,
    CURSOR_TEXT_BYTES = 64, /* a cursor, a word or a time */
    PAYLOAD_SHOWN_BYTES = 100,
};

struct tail {
    struct bk_command_context *context;
    const char *types, *subject, *filter; /* NULL: any */
    char cursor[CURSOR_TEXT_BYTES];
    int64_t limit; /* -1: none was given */
    int64_t left;  /* events to show; -1: no end */
    bool follows, is_coloured, has_after, is_away;
    struct bk_buffer answer;
    struct bk_arena arena;
    const struct bk_json *page;
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

static void set_cursor(struct tail *tail, struct bk_slice cursor) {
    block_signals(true);
    snprintf(tail->cursor, sizeof tail->cursor, "%.*s", BK_SLICE_PRINT(cursor));
    int length =
        snprintf(last_words, sizeof last_words, "bakend: go on with --after %s\n", tail->cursor);
    last_words_length = length > 0 && (size_t)length < sizeof last_words ? length : 0;
    block_signals(false);
}

static int end_well(const struct tail *tail) {
    fprintf(stderr, "bakend: go on with --after %s\n", tail->cursor);
    return 0;
}

/* Where the directory is opened in this process, its own way of ending is left alone. */
static void catch_signals(const struct tail *tail) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    if (!tail->context->is_running)
        return;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* --- asking ----------------------------------------------------------------------------------- */

static void write_parameter(struct bk_buffer *out, const char *name, const char *value) {
    if (value == NULL)
        return;
    bk_buffer_format(out, "&%s=", name);
    bk_percent_encode(out, bk_slice_from(value));
}

static int call(struct tail *tail, const char *after, int64_t limit, const char *more) {
    struct bk_buffer target;
    bk_buffer_init(&target, TARGET_MAX_BYTES);
    bk_buffer_format(&target, "/api/events?limit=%lld%s", (long long)limit, more);
    write_parameter(&target, "after", after);
    write_parameter(&target, "types", tail->types);
    write_parameter(&target, "subject", tail->subject);
    write_parameter(&target, "filter", tail->filter);
    bk_buffer_append_char(&target, '\0');
    bk_buffer_clear(&tail->answer);
    int status = -1;
    if (target.is_overflown)
        fprintf(stderr, "bakend: --types, --subject and --filter are too long\n");
    else
        status =
            tail->context->call(tail->context, BK_GET, target.data, BK_SLICE_EMPTY, &tail->answer);
    bk_buffer_fini(&target);
    return status;
}

static bool parse(struct tail *tail) {
    struct bk_json *root = NULL;
    bk_arena_reset(&tail->arena);
    bool is_parsed =
        bk_json_parse(&tail->arena, bk_buffer_slice(&tail->answer), &root, NULL) == BK_OK;
    tail->page = root;
    return is_parsed;
}

/* Where a cursor cannot be followed there is another way on. */
static void print_oldest(const struct bk_json *field) {
    struct bk_slice oldest =
        bk_json_get_string(bk_json_get(field, BK_SLICE("params")), BK_SLICE("oldest"));
    struct bk_slice code = bk_json_get_string(field, BK_SLICE("code"));
    if (oldest.length > 0 && !bk_slice_is(code, "cursor_invalid"))
        fprintf(stderr, "bakend: what is still kept begins behind --after %.*s\n",
                BK_SLICE_PRINT(oldest));
}

/* What is wrong, field by field where the answer has fields. */
static void print_refusal(struct tail *tail) {
    struct bk_slice message = BK_SLICE("the answer cannot be read: see the server's log");
    const struct bk_json *field = NULL;
    if (parse(tail)) {
        const struct bk_json *data = bk_json_get(tail->page, BK_SLICE("data"));
        message = bk_json_get_string(tail->page, BK_SLICE("message"));
        field = data == NULL ? NULL : data->child;
    }
    fprintf(stderr, "bakend: %.*s\n", BK_SLICE_PRINT(message));
    for (; field != NULL; field = field->next) {
        struct bk_slice text = bk_json_get_string(field, BK_SLICE("message"));
        fprintf(stderr, "bakend: --%.*s: %.*s\n", BK_SLICE_PRINT(field->key), BK_SLICE_PRINT(text));
        print_oldest(field);
    }
}

/* --- printing --------------------------------------------------------------------------------- */

static const char *colour_of(struct bk_slice type) {
    if (bk_slice_ends_with(type, BK_SLICE(".created")))
        return "\033[32m";
    if (bk_slice_ends_with(type, BK_SLICE(".updated")))
        return "\033[33m";
    if (bk_slice_ends_with(type, BK_SLICE(".deleted")))
        return "\033[31m";
    return "\033[36m";
}

static void print_time(struct bk_slice timestamp) {
    int64_t wall_ms = 0;
    struct tm local;
    char text[32] = "";
    if (bk_time_parse(timestamp, &wall_ms)) {
        time_t seconds = (time_t)(wall_ms / 1000);
        if (localtime_r(&seconds, &local) == NULL ||
            strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local) == 0)
            text[0] = '\0';
    }
    printf("%s.%03d", text, (int)(wall_ms % 1000));
}

/* Not in the middle of a character. */
static struct bk_slice shorten(struct bk_slice text) {
    if (text.length <= PAYLOAD_SHOWN_BYTES)
        return text;
    text.length = PAYLOAD_SHOWN_BYTES;
    while (text.length > 0 && ((unsigned char)text.data[text.length] & 0xc0) == 0x80)
        text.length--;
    return text;
}

/* JSON has its control characters escaped, but for those that UTF-8 writes in two bytes and a
 * terminal may obey: C2 80 to C2 9F, and DEL. */
static void print_text(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool is_control = c < 0x20 || c == 0x7f;
        if (c == 0xc2 && i + 1 < text.length && (unsigned char)text.data[i + 1] < 0xa0) {
            is_control = true;
            i++;
        }
        (void)putchar(is_control ? '?' : c);
    }
}

/* As it stands in the JSON, without the quotes. */
static void print_member(const struct bk_json *event, struct bk_slice key) {
    const struct bk_json *member = bk_json_get(event, key);
    struct bk_slice text = member == NULL ? BK_SLICE_EMPTY : member->text;
    if (text.length >= 2 && text.data[0] == '"')
        text = bk_slice_make(text.data + 1, text.length - 2);
    print_text(text.length == 0 ? BK_SLICE("-") : text);
}

static void print_line(const struct tail *tail, const struct bk_json *event) {
    const struct bk_json *payload = bk_json_get(event, BK_SLICE("payload"));
    struct bk_slice text = payload == NULL ? BK_SLICE_EMPTY : payload->text;
    struct bk_slice shown = shorten(text);
    print_time(bk_json_get_string(event, BK_SLICE("timestamp")));
    printf("  %s", tail->is_coloured ? colour_of(bk_json_get_string(event, BK_SLICE("type"))) : "");
    print_member(event, BK_SLICE("type"));
    printf("%s  ", tail->is_coloured ? "\033[0m" : "");
    print_member(event, BK_SLICE("subject"));
    printf("  ");
    print_member(event, BK_SLICE("actor"));
    printf("  ");
    print_text(shown);
    printf("%s\n", shown.length < text.length ? "…" : "");
}

static void print_event(const struct tail *tail, const struct bk_json *event) {
    if (tail->context->is_json)
        printf("%.*s\n", BK_SLICE_PRINT(event->text));
    else
        print_line(tail, event);
}

/* False when nobody reads it any more. */
static bool flush(void) {
    if (fflush(stdout) == 0)
        return true;
    if (errno != EPIPE)
        fprintf(stderr, "bakend: cannot write to standard output\n");
    return false;
}

static bool print_page(struct tail *tail) {
    const struct bk_json *events = bk_json_get(tail->page, BK_SLICE("events"));
    const struct bk_json *event = events == NULL ? NULL : events->child;
    for (; event != NULL; event = event->next) {
        print_event(tail, event);
        if (tail->left > 0)
            tail->left--;
    }
    return flush();
}

/* --- the last events -------------------------------------------------------------------------- */

/* Events come the newest first: each is put in front. */
struct newest {
    struct bk_buffer lines; /* of JSON */
    size_t starts[BK_FEED_LIMIT_MAX + 1];
    size_t count;
};

static void keep_newest(struct tail *tail, struct newest *newest) {
    const struct bk_json *events = bk_json_get(tail->page, BK_SLICE("events"));
    const struct bk_json *event = events == NULL ? NULL : events->child;
    for (; event != NULL && newest->count < BK_FEED_LIMIT_MAX; event = event->next) {
        newest->starts[newest->count++] = newest->lines.length;
        bk_buffer_append_slice(&newest->lines, event->text);
    }
    newest->starts[newest->count] = newest->lines.length;
}

static bool print_newest(struct tail *tail, const struct newest *newest) {
    for (size_t i = newest->count; i > 0; i--) {
        struct bk_json *event = NULL;
        size_t length = newest->starts[i] - newest->starts[i - 1];
        struct bk_slice text = bk_slice_make(newest->lines.data + newest->starts[i - 1], length);
        bk_arena_reset(&tail->arena);
        if (bk_json_parse(&tail->arena, text, &event, NULL) == BK_OK)
            print_event(tail, event);
    }
    return flush();
}

/* Backward from the cursor, until there are enough. */
static int gather_newest(struct tail *tail, struct newest *newest, int64_t wanted) {
    char before[CURSOR_TEXT_BYTES];
    snprintf(before, sizeof before, "%s", tail->cursor);
    for (int i = 0; i < BACKWARD_PAGES_MAX && (int64_t)newest->count < wanted; i++) {
        int64_t missing = wanted - (int64_t)newest->count;
        int64_t limit = missing < PAGE_EVENTS ? missing : PAGE_EVENTS;
        int status = call(tail, before, limit, "&order=desc");
        if (status != 200)
            return status;
        if (!parse(tail))
            return -1;
        keep_newest(tail, newest);
        const struct bk_json *has_more = bk_json_get(tail->page, BK_SLICE("hasMore"));
        if (has_more == NULL || !has_more->boolean)
            break;
        snprintf(before, sizeof before, "%.*s",
                 BK_SLICE_PRINT(bk_json_get_string(tail->page, BK_SLICE("next"))));
    }
    return 200;
}

/* The head first: what is committed while the last events are gathered follows them. */
static int begin_with_newest(struct tail *tail) {
    static struct newest newest;
    int64_t wanted = tail->limit < 0 ? LAST_EVENTS : tail->limit;
    int status = call(tail, "now", 1, "");
    if (status != 200 || !parse(tail))
        return status == 200 ? -1 : status;
    set_cursor(tail, bk_json_get_string(tail->page, BK_SLICE("next")));
    newest.count = 0;
    bk_buffer_init(&newest.lines, (size_t)4 * ANSWER_MAX_BYTES);
    status = gather_newest(tail, &newest, wanted);
    if (status == 200 && (newest.lines.is_overflown || !print_newest(tail, &newest)))
        status = -1;
    bk_buffer_fini(&newest.lines);
    return status;
}

/* --- following -------------------------------------------------------------------------------- */

/* status: -1, nobody answers, or 503, with the reason in the answer. */
static void say_away(struct tail *tail, int status) {
    if (tail->is_away)
        return;
    tail->is_away = true;
    if (status == 503 && parse(tail))
        fprintf(stderr, "bakend: the server is not ready, waiting for it: %.*s\n",
                BK_SLICE_PRINT(bk_json_get_string(tail->page, BK_SLICE("message"))));
    else
        fprintf(stderr, "bakend: the server on %s does not answer: waiting for it\n",
                tail->context->data_directory);
}

static void say_back(struct tail *tail) {
    if (tail->is_away)
        fprintf(stderr, "bakend: the server is back: going on behind %s\n", tail->cursor);
    tail->is_away = false;
}

/* A page of JSON has a bound on its values; one event of any kind is within it. */
static int call_page(struct tail *tail) {
    int64_t limit = tail->left >= 0 && tail->left < PAGE_EVENTS ? tail->left : PAGE_EVENTS;
    char more[32] = "";
    if (tail->follows)
        snprintf(more, sizeof more, "&wait=%d", POLL_SECONDS);
    int status = call(tail, tail->cursor, limit, more);
    if (status == 200 && !parse(tail))
        status = call(tail, tail->cursor, 1, more);
    if (status == 200 && tail->page == NULL && !parse(tail))
        status = -1;
    return status;
}

static int follow(struct tail *tail) {
    while (tail->left != 0) {
        int status = call_page(tail);
        if (tail->follows && (status == -1 || status == 503)) {
            say_away(tail, status);
            (void)usleep(RETRY_MS * 1000);
            continue;
        }
        if (status != 200)
            return status;
        say_back(tail);
        if (!print_page(tail))
            return -1;
        set_cursor(tail, bk_json_get_string(tail->page, BK_SLICE("next")));
        const struct bk_json *has_more = bk_json_get(tail->page, BK_SLICE("hasMore"));
        if (!tail->follows && (has_more == NULL || !has_more->boolean))
            break;
    }
    return 200;
}

static int run(struct tail *tail) {
    int status = 200;
    if (!tail->has_after)
        status = begin_with_newest(tail);
    if (status == 200 && (tail->has_after || tail->follows)) {
        tail->context->is_patient = tail->follows;
        status = follow(tail);
    }
    if (status == 200)
        return end_well(tail);
    if (status > 0)
        print_refusal(tail);
    return 1;
}

/* --- the command line ------------------------------------------------------------------------- */

static bool is_colour_wanted(void) {
    const char *no_color = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && (no_color == NULL || no_color[0] == '\0') &&
           terminal != NULL && strcmp(terminal, "dumb") != 0;
}

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

static bool read_limit(struct tail *tail, const char *text) {
    if (bk_slice_to_int64(bk_slice_from(text), &tail->limit) && tail->limit >= 0 &&
        tail->limit <= BK_FEED_LIMIT_MAX)
        return true;
    fprintf(stderr, "bakend: --limit must be from 0 to %d\n", BK_FEED_LIMIT_MAX);
    return false;
}

static bool read_after(struct tail *tail, const char *text) {
    tail->has_after = text[0] != '\0' && strlen(text) < CURSOR_TEXT_BYTES;
    if (tail->has_after)
        set_cursor(tail, bk_slice_from(text));
    else
        fprintf(stderr,
                "bakend: --after must be a cursor, \"start\", \"now\" or an RFC 3339 time\n");
    return tail->has_after;
}

static bool read_types(struct tail *tail, const char *text) {
    struct bk_slice rest = bk_slice_from(text), part;
    bool is_right = rest.length > 0;
    while (is_right && rest.length > 0 && bk_slice_split(&rest, ',', &part))
        is_right = bk_event_pattern_is_valid(bk_slice_trim(part));
    if (!is_right)
        fprintf(stderr, "bakend: --types must be event types or patterns with commas between them: "
                        "posts.created,users.*\n");
    tail->types = text;
    return is_right;
}

static bool read_argument(struct tail *tail, int *index, int argument_count, char **arguments) {
    const char *value;
    if (strcmp(arguments[*index], "--no-follow") == 0) {
        tail->follows = false;
        return true;
    }
    if ((value = value_of("--types", index, argument_count, arguments)) != NULL)
        return read_types(tail, value);
    if ((value = value_of("--subject", index, argument_count, arguments)) != NULL) {
        tail->subject = value;
        return true;
    }
    if ((value = value_of("--filter", index, argument_count, arguments)) != NULL) {
        tail->filter = value;
        return true;
    }
    if ((value = value_of("--limit", index, argument_count, arguments)) != NULL)
        return read_limit(tail, value);
    value = value_of("--after", index, argument_count, arguments);
    if (value == NULL && arguments[*index][0] != '-')
        fprintf(stderr, "bakend: unexpected argument %s: see `bakend help events`\n",
                arguments[*index]);
    return value != NULL && read_after(tail, value);
}

int changefeed_run_events(struct bk_command_context *context, int argument_count,
                          char **arguments) {
    struct tail tail = {.context = context, .limit = -1, .follows = context->is_running};
    if (argument_count < 1 || strcmp(arguments[0], "tail") != 0) {
        fprintf(stderr, "bakend: events has one command: `bakend events tail`\n");
        return 2;
    }
    for (int i = 1; i < argument_count; i++)
        if (!read_argument(&tail, &i, argument_count, arguments))
            return 2;
    tail.left = tail.has_after ? tail.limit : -1;
    tail.is_coloured = is_colour_wanted();
    bk_buffer_init(&tail.answer, ANSWER_MAX_BYTES);
    bk_arena_init(&tail.arena, ARENA_MAX_BYTES);
    catch_signals(&tail);
    int code = run(&tail);
    bk_arena_fini(&tail.arena);
    bk_buffer_fini(&tail.answer);
    return code;
}
