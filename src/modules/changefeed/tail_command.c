/*
 * `bakend events tail`: what happens in a tenant, on a terminal or in a pipe.
 *
 *   the last events ─> a page behind the cursor ─> printed ─> the cursor moves on ─┐
 *                      ^ long polls, when a server runs ───────────────────────────┘
 *
 * The cursor moves on when a page was printed and flushed. How it is followed, and how Ctrl-C ends
 * it, is in follow.h.
 */
#include "changefeed_private.h"

#include "bakend/clock.h"
#include "bakend/follow.h"
#include "bakend/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    LAST_EVENTS = 10,
    BACKWARD_PAGES_MAX = 100, /* of 10,000 events each, to find the last ones of a rare type */
    NEWEST_BYTES_MAX = 64 * 1024 * 1024,
    EVENT_ARENA_BYTES_MAX = 128 * 1024 * 1024,
    PAYLOAD_SHOWN_BYTES = 100,
};

struct tail {
    struct bk_follow follow;
    int64_t limit; /* -1: none was given */
    int64_t left;  /* events to show; -1: no end */
    bool follows, is_coloured;
};

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

/* As it stands in the JSON, without the quotes. */
static void print_member(const struct bk_json *event, struct bk_slice key) {
    const struct bk_json *member = bk_json_get(event, key);
    struct bk_slice text = member == NULL ? BK_SLICE_EMPTY : member->text;
    if (text.length >= 2 && text.data[0] == '"')
        text = bk_slice_make(text.data + 1, text.length - 2);
    bk_terminal_print(text.length == 0 ? BK_SLICE("-") : text);
}

static void print_line(const struct tail *tail, const struct bk_json *event) {
    const struct bk_json *payload = bk_json_get(event, BK_SLICE("payload"));
    struct bk_slice text = payload == NULL ? BK_SLICE_EMPTY : payload->text;
    struct bk_slice shown = bk_terminal_shorten(text, PAYLOAD_SHOWN_BYTES);
    int64_t wall_ms = 0;
    (void)bk_time_parse(bk_json_get_string(event, BK_SLICE("timestamp")), &wall_ms);
    bk_terminal_print_time(wall_ms);
    printf("  %s", tail->is_coloured ? colour_of(bk_json_get_string(event, BK_SLICE("type"))) : "");
    print_member(event, BK_SLICE("type"));
    printf("%s  ", tail->is_coloured ? "\033[0m" : "");
    print_member(event, BK_SLICE("subject"));
    printf("  ");
    print_member(event, BK_SLICE("actor"));
    printf("  ");
    bk_terminal_print(shown);
    printf("%s\n", shown.length < text.length ? "…" : "");
}

static void print_event(const struct tail *tail, const struct bk_json *event) {
    if (tail->follow.command->is_json)
        printf("%.*s\n", BK_SLICE_PRINT(event->text));
    else
        print_line(tail, event);
}

static bool print_page(struct tail *tail) {
    const struct bk_json *event = bk_follow_first(&tail->follow);
    for (; event != NULL; event = event->next) {
        print_event(tail, event);
        if (tail->left > 0)
            tail->left--;
    }
    return bk_terminal_flush();
}

/* Events of a page, when so many are left to show; below 0: no end. */
static uint32_t page_limit(int64_t left) {
    return left >= 0 && left < BK_FOLLOW_PAGE_EVENTS ? (uint32_t)left : BK_FOLLOW_PAGE_EVENTS;
}

/* --- the last events -------------------------------------------------------------------------- */

/* Events come the newest first: each is put in front. */
struct newest {
    struct bk_buffer lines; /* of JSON */
    size_t starts[BK_FEED_LIMIT_MAX + 1];
    size_t count;
};

static void keep_newest(const struct tail *tail, struct newest *newest) {
    const struct bk_json *event = bk_follow_first(&tail->follow);
    for (; event != NULL && newest->count < BK_FEED_LIMIT_MAX; event = event->next) {
        newest->starts[newest->count++] = newest->lines.length;
        bk_buffer_append_slice(&newest->lines, event->text);
    }
    newest->starts[newest->count] = newest->lines.length;
}

static bool print_newest(const struct tail *tail, const struct newest *newest) {
    struct bk_arena arena;
    bk_arena_init(&arena, EVENT_ARENA_BYTES_MAX);
    for (size_t i = newest->count; i > 0; i--) {
        struct bk_json *event = NULL;
        size_t length = newest->starts[i] - newest->starts[i - 1];
        struct bk_slice text = bk_slice_make(newest->lines.data + newest->starts[i - 1], length);
        bk_arena_reset(&arena);
        if (bk_json_parse(&arena, text, &event, NULL) == BK_OK)
            print_event(tail, event);
    }
    bk_arena_fini(&arena);
    return bk_terminal_flush();
}

/* Backward from the cursor, until there are enough. */
static int gather_newest(struct tail *tail, struct newest *newest, int64_t wanted) {
    char before[BK_FOLLOW_CURSOR_BYTES];
    snprintf(before, sizeof before, "%s", tail->follow.cursor);
    for (int i = 0; i < BACKWARD_PAGES_MAX && (int64_t)newest->count < wanted; i++) {
        uint32_t limit = page_limit(wanted - (int64_t)newest->count);
        int status = bk_follow_ask(&tail->follow, before, limit, "&order=desc");
        if (status != 200)
            return status;
        keep_newest(tail, newest);
        if (!bk_follow_has_more(&tail->follow))
            break;
        snprintf(before, sizeof before, "%.*s", BK_SLICE_PRINT(bk_follow_page_end(&tail->follow)));
    }
    return 200;
}

/* The head first: what is committed while the last events are gathered follows them. */
static int begin_with_newest(struct tail *tail) {
    static struct newest newest;
    int64_t wanted = tail->limit < 0 ? LAST_EVENTS : tail->limit;
    int status = bk_follow_ask(&tail->follow, "now", 1, "");
    if (status != 200)
        return status;
    bk_follow_move(&tail->follow, bk_follow_page_end(&tail->follow));
    newest.count = 0;
    bk_buffer_init(&newest.lines, NEWEST_BYTES_MAX);
    status = gather_newest(tail, &newest, wanted);
    if (status == 200 && (newest.lines.is_overflown || !print_newest(tail, &newest)))
        status = -1;
    bk_buffer_fini(&newest.lines);
    return status;
}

/* --- following -------------------------------------------------------------------------------- */

static int follow(struct tail *tail) {
    while (tail->left != 0) {
        int status = bk_follow_next(&tail->follow, page_limit(tail->left), tail->follows);
        if (status != 200)
            return status;
        if (!print_page(tail))
            return -1;
        bk_follow_move(&tail->follow, bk_follow_page_end(&tail->follow));
        if (!tail->follows && !bk_follow_has_more(&tail->follow))
            break;
    }
    return 200;
}

static int run(struct tail *tail) {
    int status = 200;
    if (!bk_follow_begin(&tail->follow))
        return 1;
    if (!tail->follow.has_after)
        status = begin_with_newest(tail);
    if (status == 200 && (tail->follow.has_after || tail->follows))
        status = follow(tail);
    if (status == 200)
        bk_follow_say_end(&tail->follow);
    else
        bk_follow_say_refusal(&tail->follow, status);
    return status == 200 ? 0 : 1;
}

/* --- the command line ------------------------------------------------------------------------- */

static bool is_colour_wanted(void) {
    const char *no_color = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && (no_color == NULL || no_color[0] == '\0') &&
           terminal != NULL && strcmp(terminal, "dumb") != 0;
}

static bool read_limit(struct tail *tail, const char *text) {
    if (bk_slice_to_int64(bk_slice_from(text), &tail->limit) && tail->limit >= 0 &&
        tail->limit <= BK_FEED_LIMIT_MAX)
        return true;
    fprintf(stderr, "bakend: --limit must be from 0 to %d\n", BK_FEED_LIMIT_MAX);
    return false;
}

static bool read_argument(struct tail *tail, int *index, int argument_count, char **arguments) {
    if (strcmp(arguments[*index], "--no-follow") == 0) {
        tail->follows = false;
        return true;
    }
    enum bk_follow_flag flag = bk_follow_read_flag(&tail->follow, index, argument_count, arguments);
    if (flag != BK_FOLLOW_FLAG_OTHER)
        return flag == BK_FOLLOW_FLAG_TAKEN;
    const char *limit = bk_command_flag_value("--limit", index, argument_count, arguments);
    if (limit == NULL && arguments[*index][0] != '-')
        fprintf(stderr, "bakend: unexpected argument %s: see `bakend help events`\n",
                arguments[*index]);
    return limit != NULL && read_limit(tail, limit);
}

static int read_and_run(struct tail *tail, int argument_count, char **arguments) {
    for (int i = 1; i < argument_count; i++)
        if (!read_argument(tail, &i, argument_count, arguments))
            return 2;
    tail->left = tail->follow.has_after ? tail->limit : -1;
    tail->is_coloured = is_colour_wanted();
    return run(tail);
}

int changefeed_run_events(struct bk_command_context *context, int argument_count,
                          char **arguments) {
    struct tail tail = {.limit = -1, .follows = context->is_running};
    if (argument_count < 1 || strcmp(arguments[0], "tail") != 0) {
        fprintf(stderr, "bakend: events has one command: `bakend events tail`\n");
        return 2;
    }
    bk_follow_init(&tail.follow, context);
    int code = read_and_run(&tail, argument_count, arguments);
    bk_follow_fini(&tail.follow);
    return code;
}
