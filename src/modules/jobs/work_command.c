/*
 * `bakend work`: what is to be done later, for operators at night.
 *
 *   list, lanes      pages, a line each
 *   retry, drop      one task, or with --filter all dead ones that it names: page after page until
 *                    none is left of those that were dead when it began
 *   cancel           one task
 *   pause, resume    a lane
 *
 * All of it is the routes of this module; --json prints their answers, one a line.
 */
#include "jobs_private.h"

#include "bakend/clock.h"
#include "bakend/encode.h"

#include <stdio.h>

enum {
    ANSWER_BYTES_MAX = 16 * 1024 * 1024,
    TARGET_BYTES_MAX = 32 * 1024,
    LIST_DEFAULT = 30,
    LIST_MAX = 1000,
    LANES_PER_PAGE = 200,
};

struct session {
    struct bk_command_context *context;
    const char *word;   /* an id or a lane; NULL: none was given */
    const char *filter; /* NULL: none */
    int64_t limit;
    bool is_dead; /* --dead */
    struct bk_buffer answer;
    struct bk_arena arena;      /* of what follows, until the next call */
    const struct bk_json *root; /* of the answer; NULL: it has none */
};

/* --- asking ----------------------------------------------------------------------------------- */

static void say_refusal(const struct session *session) {
    const struct bk_json *data = bk_json_get(session->root, BK_SLICE("data"));
    struct bk_slice message = bk_json_get_string(session->root, BK_SLICE("message"));
    if (message.length == 0)
        message = BK_SLICE("the answer cannot be read: see the server's log");
    fprintf(stderr, "bakend: %.*s\n", BK_SLICE_PRINT(message));
    for (const struct bk_json *field = data == NULL ? NULL : data->child; field != NULL;
         field = field->next)
        fprintf(stderr, "  %.*s: %.*s\n", BK_SLICE_PRINT(field->key),
                BK_SLICE_PRINT(bk_json_get_string(field, BK_SLICE("message"))));
}

/* False: it was refused, and why was said. */
static bool ask(struct session *session, enum bk_method method, const char *target,
                struct bk_slice body) {
    struct bk_json *root = NULL;
    bk_arena_reset(&session->arena);
    bk_buffer_clear(&session->answer);
    int status = session->context->call(session->context, method, target, body, &session->answer);
    struct bk_slice text = bk_buffer_slice(&session->answer);
    if (text.length > 0 && bk_json_parse(&session->arena, text, &root, NULL) != BK_OK)
        root = NULL;
    session->root = root;
    if (status >= 200 && status < 300 && session->context->is_json && text.length > 0)
        printf("%.*s\n", BK_SLICE_PRINT(text));
    else if (status >= 300)
        say_refusal(session);
    return status >= 200 && status < 300;
}

static bool get(struct session *session, const char *path, const char *filter) {
    struct bk_buffer target;
    bk_buffer_init(&target, TARGET_BYTES_MAX);
    bk_buffer_append_slice(&target, bk_slice_from(path));
    if (filter != NULL) {
        bk_buffer_append_literal(&target, "&filter=");
        bk_percent_encode(&target, bk_slice_from(filter));
    }
    bk_buffer_append_char(&target, '\0');
    bool is_right = !target.is_overflown;
    if (is_right)
        is_right = ask(session, BK_GET, target.data, BK_SLICE_EMPTY);
    else
        fprintf(stderr, "bakend: --filter is too long\n");
    bk_buffer_fini(&target);
    return is_right;
}

/* A body of one member. */
static bool post(struct session *session, const char *target, const char *key, const char *value) {
    struct bk_buffer body;
    bk_buffer_init(&body, JOBS_BODY_BYTES_MAX);
    bk_buffer_append_char(&body, '{');
    bk_json_write_member_string(&body, bk_slice_from(key), bk_slice_from(value));
    bk_buffer_append_char(&body, '}');
    bool is_right = !body.is_overflown;
    if (is_right)
        is_right = ask(session, BK_POST, target, bk_buffer_slice(&body));
    else
        fprintf(stderr, "bakend: --filter is too long\n");
    bk_buffer_fini(&body);
    return is_right;
}

/* --- printing --------------------------------------------------------------------------------- */

/* What a terminal would obey is not for it: control characters, DEL and C1. */
static void print_text(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool is_c1 = c == 0xc2 && i + 1 < text.length && (unsigned char)text.data[i + 1] < 0xa0;
        (void)putchar(c < 0x20 || c == 0x7f || is_c1 ? '?' : c);
        i += is_c1;
    }
}

static void print_member(const struct bk_json *object, const char *key) {
    const struct bk_json *member = bk_json_get(object, bk_slice_from(key));
    struct bk_slice text = BK_SLICE_EMPTY;
    if (member != NULL)
        text = member->type == BK_JSON_STRING ? member->string : member->text;
    print_text(text.length == 0 ? BK_SLICE("-") : text);
    printf("  ");
}

/* The members of each item that are named; the list ends with NULL. */
static void print_items(const struct session *session, const char *const *keys) {
    const struct bk_json *items = bk_json_get(session->root, BK_SLICE("items"));
    if (session->context->is_json)
        return; /* printed already */
    for (const struct bk_json *item = items == NULL ? NULL : items->child; item != NULL;
         item = item->next) {
        for (const char *const *key = keys; *key != NULL; key++)
            print_member(item, *key);
        printf("\n");
    }
}

/* --- the commands ----------------------------------------------------------------------------- */

/* By an index that the dead are in, and the backlog is not. */
static bool get_dead(struct session *session) {
    struct bk_buffer filter;
    char path[128];
    snprintf(path, sizeof path, "/api/work?skipTotal=1&sort=-expires&perPage=%lld",
             (long long)session->limit);
    bk_buffer_init(&filter, TARGET_BYTES_MAX);
    bk_buffer_append_literal(&filter, "state = \"dead\"");
    if (session->filter != NULL && session->filter[0] != '\0')
        bk_buffer_format(&filter, " && (%s\n)", session->filter);
    bk_buffer_append_char(&filter, '\0');
    bool is_right = !filter.is_overflown && get(session, path, filter.data);
    bk_buffer_fini(&filter);
    return is_right;
}

static bool get_newest(struct session *session) {
    char path[128];
    snprintf(path, sizeof path, "/api/work?skipTotal=1&sort=-id&perPage=%lld",
             (long long)session->limit);
    return get(session, path, session->filter);
}

static int list(struct session *session) {
    static const char *const keys[] = {"id", "state", "lane", "attempts", "due", "error", NULL};
    if (!(session->is_dead ? get_dead(session) : get_newest(session)))
        return 1;
    print_items(session, keys);
    return 0;
}

static int lanes(struct session *session) {
    static const char *const keys[] = {"lane", "state", "running", "waiting", "due", NULL};
    int64_t pages = 1;
    for (int64_t page = 1; page <= pages; page++) {
        char path[128];
        snprintf(path, sizeof path, "/api/work/lanes?perPage=%d&page=%lld", LANES_PER_PAGE,
                 (long long)page);
        if (!get(session, path, NULL))
            return 1;
        print_items(session, keys);
        (void)bk_json_to_int64(bk_json_get(session->root, BK_SLICE("totalPages")), &pages);
    }
    return 0;
}

static int act_on_one(struct session *session, const char *verb) {
    struct bk_buffer target;
    bool is_drop = strcmp(verb, "drop") == 0;
    bk_buffer_init(&target, TARGET_BYTES_MAX);
    bk_buffer_append_literal(&target, "/api/work/");
    bk_percent_encode(&target, bk_slice_from(session->word));
    if (!is_drop)
        bk_buffer_format(&target, "/%s", verb);
    bk_buffer_append_char(&target, '\0');
    bool is_right = !target.is_overflown &&
                    ask(session, is_drop ? BK_DELETE : BK_POST, target.data, BK_SLICE_EMPTY);
    bk_buffer_fini(&target);
    return is_right ? 0 : 1;
}

/* Those that die again meanwhile are not taken up again: it would have no end. */
static void write_dead_filter(const struct session *session, struct bk_buffer *filter) {
    char now[BK_TIME_TEXT_BYTES];
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    bk_buffer_format(filter, "updated <= \"%.*s\"", BK_TIME_TEXT_BYTES, now);
    if (session->filter[0] != '\0')
        bk_buffer_format(filter, " && (%s\n)", session->filter);
    bk_buffer_append_char(filter, '\0');
}

static int act_on_dead(struct session *session, const char *verb) {
    char target[64];
    struct bk_buffer filter;
    const struct bk_json *more;
    int64_t total = 0, count = 0;
    snprintf(target, sizeof target, "/api/work/%s", verb);
    bk_buffer_init(&filter, JOBS_BODY_BYTES_MAX);
    write_dead_filter(session, &filter);
    bool is_right = !filter.is_overflown;
    if (!is_right)
        fprintf(stderr, "bakend: --filter is too long\n");
    do {
        is_right = is_right && post(session, target, "filter", filter.data);
        more = bk_json_get(session->root, BK_SLICE("hasMore"));
        if (is_right && !bk_json_to_int64(bk_json_get(session->root, BK_SLICE("count")), &count))
            count = 0;
        total += is_right ? count : 0;
    } while (is_right && count > 0 && more != NULL && more->boolean);
    bk_buffer_fini(&filter);
    if (!session->context->is_json && (is_right || total > 0))
        printf("%lld\n", (long long)total);
    return is_right ? 0 : 1;
}

/* --- the command line ------------------------------------------------------------------------- */

/* 2: it is used wrongly, which was said. */
static int run(struct session *session, const char *verb) {
    bool is_bulk = strcmp(verb, "retry") == 0 || strcmp(verb, "drop") == 0;
    if (strcmp(verb, "list") == 0)
        return list(session);
    if (strcmp(verb, "lanes") == 0)
        return lanes(session);
    if (is_bulk && session->word == NULL && session->filter != NULL)
        return act_on_dead(session, verb);
    if (session->word == NULL || session->filter != NULL) {
        fprintf(stderr, "bakend: work %s takes %s: see `bakend help work`\n", verb,
                is_bulk ? "an id or --filter" : "one name");
        return 2;
    }
    if (is_bulk || strcmp(verb, "cancel") == 0)
        return act_on_one(session, verb);
    return post(session,
                strcmp(verb, "pause") == 0 ? "/api/work/lanes/pause" : "/api/work/lanes/resume",
                "lane", session->word)
               ? 0
               : 1;
}

static bool is_verb(const char *word) {
    static const char *const verbs[] = {"list", "lanes", "retry", "cancel",
                                        "drop", "pause", "resume"};
    for (size_t i = 0; i < BK_COUNT_OF(verbs); i++)
        if (strcmp(word, verbs[i]) == 0)
            return true;
    return false;
}

static bool read_argument(struct session *session, int *index, int count, char **arguments) {
    const char *argument = arguments[*index];
    bool is_filter = strcmp(argument, "--filter") == 0, is_limit = strcmp(argument, "--limit") == 0;
    if ((is_filter || is_limit) && *index + 1 >= count) {
        fprintf(stderr, "bakend: %s needs a value behind it\n", argument);
        return false;
    }
    if (strcmp(argument, "--dead") == 0) {
        session->is_dead = true;
        return true;
    }
    if (is_filter) {
        session->filter = arguments[++*index];
        return true;
    }
    if (is_limit) {
        struct bk_slice text = bk_slice_from(arguments[++*index]);
        if (bk_slice_to_int64(text, &session->limit) && session->limit >= 1 &&
            session->limit <= LIST_MAX)
            return true;
        fprintf(stderr, "bakend: --limit must be from 1 to %d\n", LIST_MAX);
        return false;
    }
    if (argument[0] == '-' || session->word != NULL) {
        fprintf(stderr, "bakend: unexpected argument %s: see `bakend help work`\n", argument);
        return false;
    }
    session->word = argument;
    return true;
}

int jobs_run_work(struct bk_command_context *context, int argument_count, char **arguments) {
    struct session session = {.context = context, .limit = LIST_DEFAULT};
    if (argument_count < 1 || !is_verb(arguments[0])) {
        fprintf(stderr, "bakend: work has the commands list, lanes, retry, cancel, drop, pause and "
                        "resume: see `bakend help work`\n");
        return 2;
    }
    for (int i = 1; i < argument_count; i++)
        if (!read_argument(&session, &i, argument_count, arguments))
            return 2;
    bk_buffer_init(&session.answer, ANSWER_BYTES_MAX);
    bk_arena_init(&session.arena, (size_t)8 * ANSWER_BYTES_MAX);
    int code = run(&session, arguments[0]);
    bk_arena_fini(&session.arena);
    bk_buffer_fini(&session.answer);
    return code;
}
