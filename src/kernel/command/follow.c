/*
 * Following the journal from outside of the server: see follow.h.
 *
 * The last words are made whenever the cursor moves, with the signals blocked meanwhile, so that
 * the handler writes what is whole and does nothing else.
 */
#include "bakend/follow.h"

#include "bakend/encode.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum {
    POLL_SECONDS = 30,
    /* A page of the feed ends at 4 MiB, or with one event, which may be written at six times its
     * 256 KiB and more when all of it is escaped. */
    ANSWER_BYTES_MAX = 16 * 1024 * 1024,
    ARENA_BYTES_MAX = 128 * 1024 * 1024, /* of an answer's values */
    TARGET_BYTES_MAX = 32 * 1024,
    FLAGS_BYTES_MAX = TARGET_BYTES_MAX - 512, /* the rest is of the path, and a cursor */
};

/* --- the last words --------------------------------------------------------------------------- */

static char last_words[BK_FOLLOW_CURSOR_BYTES + 64];
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

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void bk_follow_move(struct bk_follow *follow, struct bk_slice cursor) {
    block_signals(true);
    snprintf(follow->cursor, sizeof follow->cursor, "%.*s", BK_SLICE_PRINT(cursor));
    int length =
        snprintf(last_words, sizeof last_words, "bakend: go on with --after %s\n", follow->cursor);
    last_words_length = length > 0 && (size_t)length < sizeof last_words ? length : 0;
    block_signals(false);
}

void bk_follow_say_end(const struct bk_follow *follow) {
    fprintf(stderr, "bakend: go on with --after %s\n", follow->cursor);
}

/* --- the command line ------------------------------------------------------------------------- */

static bool read_after(struct bk_follow *follow, const char *text) {
    follow->has_after = text[0] != '\0' && strlen(text) < BK_FOLLOW_CURSOR_BYTES;
    if (follow->has_after)
        bk_follow_move(follow, bk_slice_from(text));
    else
        fprintf(stderr,
                "bakend: --after must be a cursor, \"start\", \"now\" or an RFC 3339 time\n");
    return follow->has_after;
}

static bool read_types(struct bk_follow *follow, const char *text) {
    struct bk_slice rest = bk_slice_from(text), part;
    bool is_right = rest.length > 0;
    while (is_right && rest.length > 0 && bk_slice_split(&rest, ',', &part))
        is_right = bk_event_pattern_is_valid(bk_slice_trim(part));
    if (!is_right)
        fprintf(stderr, "bakend: --types must be event types or patterns with commas between them: "
                        "posts.created,users.*\n");
    follow->types = text;
    return is_right;
}

static bool read_subject(struct bk_follow *follow, const char *text) {
    follow->subject = text;
    return true;
}

static bool read_filter(struct bk_follow *follow, const char *text) {
    follow->filter = text;
    return true;
}

enum bk_follow_flag bk_follow_read_flag(struct bk_follow *follow, int *index, int argument_count,
                                        char **arguments) {
    static const struct {
        const char *name;
        bool (*read)(struct bk_follow *follow, const char *text);
    } flags[] = {
        {"--types", read_types},
        {"--subject", read_subject},
        {"--filter", read_filter},
        {"--after", read_after},
    };
    for (size_t i = 0; i < BK_COUNT_OF(flags); i++) {
        const char *value = bk_command_flag_value(flags[i].name, index, argument_count, arguments);
        if (value != NULL)
            return flags[i].read(follow, value) ? BK_FOLLOW_FLAG_TAKEN : BK_FOLLOW_FLAG_WRONG;
    }
    return BK_FOLLOW_FLAG_OTHER;
}

/* --- asking ----------------------------------------------------------------------------------- */

static void write_parameter(struct bk_buffer *out, const char *name, const char *value) {
    if (value == NULL)
        return;
    bk_buffer_format(out, "&%s=", name);
    bk_percent_encode(out, bk_slice_from(value));
}

void bk_follow_init(struct bk_follow *follow, struct bk_command_context *command) {
    *follow = (struct bk_follow){.command = command};
    bk_buffer_init(&follow->flags, FLAGS_BYTES_MAX);
    bk_buffer_init(&follow->answer, ANSWER_BYTES_MAX);
    bk_arena_init(&follow->arena, ARENA_BYTES_MAX);
}

void bk_follow_fini(struct bk_follow *follow) {
    bk_arena_fini(&follow->arena);
    bk_buffer_fini(&follow->answer);
    bk_buffer_fini(&follow->flags);
}

bool bk_follow_begin(struct bk_follow *follow) {
    write_parameter(&follow->flags, "types", follow->types);
    write_parameter(&follow->flags, "subject", follow->subject);
    write_parameter(&follow->flags, "filter", follow->filter);
    if (follow->flags.is_overflown) {
        fprintf(stderr, "bakend: --types, --subject and --filter are too long\n");
        return false;
    }
    if (follow->command->is_running)
        catch_signals();
    return true;
}

static void parse(struct bk_follow *follow) {
    struct bk_json *root = NULL;
    bk_arena_reset(&follow->arena);
    if (bk_json_parse(&follow->arena, bk_buffer_slice(&follow->answer), &root, NULL) != BK_OK)
        root = NULL;
    follow->page = root;
}

int bk_follow_ask(struct bk_follow *follow, const char *after, uint32_t limit, const char *more) {
    struct bk_buffer target;
    bk_buffer_init(&target, TARGET_BYTES_MAX);
    bk_buffer_format(&target, "/api/events?limit=%u%s", limit, more);
    write_parameter(&target, "after", after);
    bk_buffer_append_slice(&target, bk_buffer_slice(&follow->flags));
    bk_buffer_append_char(&target, '\0');
    BK_ASSERT(!target.is_overflown);
    bk_buffer_clear(&follow->answer);
    int status = follow->command->call(follow->command, BK_GET, target.data, BK_SLICE_EMPTY,
                                       &follow->answer);
    bk_buffer_fini(&target);
    parse(follow);
    return status == 200 && follow->page == NULL ? -1 : status;
}

/* --- following -------------------------------------------------------------------------------- */

/* status: -1, nobody answers, or 503, with the reason in the answer. */
static void say_away(struct bk_follow *follow, int status) {
    if (follow->is_away)
        return;
    follow->is_away = true;
    if (status == 503 && follow->page != NULL)
        fprintf(stderr, "bakend: the server is not ready, waiting for it: %.*s\n",
                BK_SLICE_PRINT(bk_json_get_string(follow->page, BK_SLICE("message"))));
    else
        fprintf(stderr, "bakend: the server on %s does not answer: waiting for it\n",
                follow->command->data_directory);
}

static void say_back(struct bk_follow *follow) {
    if (follow->is_away)
        fprintf(stderr, "bakend: the server is back: going on behind %s\n", follow->cursor);
    follow->is_away = false;
}

/* A page of JSON has a bound on its values; one event of any kind is within it. */
static int ask_next(struct bk_follow *follow, uint32_t limit, bool waits) {
    char more[32] = "";
    if (waits)
        snprintf(more, sizeof more, "&wait=%d", POLL_SECONDS);
    int status = bk_follow_ask(follow, follow->cursor, limit, more);
    bool is_too_much = status == -1 && follow->answer.length > 0 && limit > 1;
    return is_too_much ? bk_follow_ask(follow, follow->cursor, 1, more) : status;
}

int bk_follow_next(struct bk_follow *follow, uint32_t limit, bool waits) {
    follow->command->is_patient = waits;
    for (;;) {
        int status = ask_next(follow, limit, waits);
        if (!waits || (status != -1 && status != 503)) {
            say_back(follow);
            return status;
        }
        say_away(follow, status);
        (void)usleep(BK_FOLLOW_RETRY_MS * 1000);
    }
}

/* --- the page --------------------------------------------------------------------------------- */

const struct bk_json *bk_follow_first(const struct bk_follow *follow) {
    const struct bk_json *events = bk_json_get(follow->page, BK_SLICE("events"));
    return events == NULL ? NULL : events->child;
}

struct bk_slice bk_follow_page_end(const struct bk_follow *follow) {
    return bk_json_get_string(follow->page, BK_SLICE("next"));
}

bool bk_follow_has_more(const struct bk_follow *follow) {
    const struct bk_json *has_more = bk_json_get(follow->page, BK_SLICE("hasMore"));
    return has_more != NULL && has_more->boolean;
}

/* --- refusals --------------------------------------------------------------------------------- */

/* Where a cursor cannot be followed there is another way on. */
static void say_oldest(const struct bk_json *field) {
    struct bk_slice oldest =
        bk_json_get_string(bk_json_get(field, BK_SLICE("params")), BK_SLICE("oldest"));
    struct bk_slice code = bk_json_get_string(field, BK_SLICE("code"));
    if (oldest.length > 0 && !bk_slice_is(code, "cursor_invalid"))
        fprintf(stderr, "bakend: what is still kept begins behind --after %.*s\n",
                BK_SLICE_PRINT(oldest));
}

void bk_follow_say_refusal(const struct bk_follow *follow, int status) {
    struct bk_slice message = BK_SLICE("the answer cannot be read: see the server's log");
    const struct bk_json *data = NULL;
    if (status < 0)
        return;
    if (follow->page != NULL) {
        message = bk_json_get_string(follow->page, BK_SLICE("message"));
        data = bk_json_get(follow->page, BK_SLICE("data"));
    }
    fprintf(stderr, "bakend: %.*s\n", BK_SLICE_PRINT(message));
    for (const struct bk_json *field = data == NULL ? NULL : data->child; field != NULL;
         field = field->next) {
        struct bk_slice text = bk_json_get_string(field, BK_SLICE("message"));
        fprintf(stderr, "bakend: --%.*s: %.*s\n", BK_SLICE_PRINT(field->key), BK_SLICE_PRINT(text));
        say_oldest(field);
    }
}
