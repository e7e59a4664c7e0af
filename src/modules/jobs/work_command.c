/*
 * `bakend work`: what is to be done later, for operators at night.
 *
 *   list, lanes      pages, a line each under a heading
 *   retry, drop      one task, or with --filter all dead ones that it names: page after page until
 *                    none is left of those that were dead when it began
 *   cancel           one task
 *   pause, resume    a lane
 *   clear            all that waits in one
 *
 * All of it is the routes of this module; --json prints their answers, one a line.
 */
#include "jobs_private.h"

#include "bakend/clock.h"
#include "bakend/encode.h"
#include "bakend/terminal.h"

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

/* Nothing is said yet. */
static int call(struct session *session, enum bk_method method, const char *target,
                struct bk_slice body) {
    struct bk_json *root = NULL;
    bk_arena_reset(&session->arena);
    bk_buffer_clear(&session->answer);
    int status = session->context->call(session->context, method, target, body, &session->answer);
    struct bk_slice text = bk_buffer_slice(&session->answer);
    if (text.length > 0 && bk_json_parse(&session->arena, text, &root, NULL) != BK_OK)
        root = NULL;
    session->root = root;
    return status;
}

static bool is_well(int status) { return status >= 200 && status < 300; }

/* False: it was refused, and why was said; below 0 it is already. */
static bool say(const struct session *session, int status) {
    struct bk_slice text = bk_buffer_slice(&session->answer);
    if (is_well(status) && session->context->is_json && text.length > 0)
        printf("%.*s\n", BK_SLICE_PRINT(text));
    else if (status >= 300)
        say_refusal(session);
    return is_well(status);
}

static bool ask(struct session *session, enum bk_method method, const char *target,
                struct bk_slice body) {
    return say(session, call(session, method, target, body));
}

static int call_get(struct session *session, const char *path, const char *filter) {
    struct bk_buffer target;
    int status = -1;
    bk_buffer_init(&target, TARGET_BYTES_MAX);
    bk_buffer_append_slice(&target, bk_slice_from(path));
    if (filter != NULL) {
        bk_buffer_append_literal(&target, "&filter=");
        bk_percent_encode(&target, bk_slice_from(filter));
    }
    bk_buffer_append_char(&target, '\0');
    if (target.is_overflown)
        fprintf(stderr, "bakend: --filter is too long\n");
    else
        status = call(session, BK_GET, target.data, BK_SLICE_EMPTY);
    bk_buffer_fini(&target);
    return status;
}

static bool get(struct session *session, const char *path, const char *filter) {
    return say(session, call_get(session, path, filter));
}

struct member {
    const char *key, *value;
};

static bool post(struct session *session, const char *target, const struct member *members,
                 size_t count) {
    struct bk_buffer body;
    bk_buffer_init(&body, JOBS_BODY_BYTES_MAX);
    bk_buffer_append_char(&body, '{');
    for (size_t i = 0; i < count; i++)
        bk_json_write_member_string(&body, bk_slice_from(members[i].key),
                                    bk_slice_from(members[i].value));
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

/* A member of each item, under its heading. */
struct column {
    const char *key, *heading;
    size_t width; /* in characters, as far as was seen */
};

static struct bk_slice cell(const struct bk_json *item, const struct column *column) {
    const struct bk_json *member = bk_json_get(item, bk_slice_from(column->key));
    struct bk_slice text = BK_SLICE_EMPTY;
    if (member != NULL)
        text = member->type == BK_JSON_STRING ? member->string : member->text;
    return text.length == 0 ? BK_SLICE("-") : text;
}

static size_t width_of(struct bk_slice text) {
    size_t width = 0;
    for (size_t i = 0; i < text.length; i++)
        width += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    return width;
}

/* Nothing stands behind the last one. */
static void print_cell(struct bk_slice text, const struct column *column, bool is_last) {
    bk_terminal_print(text);
    if (is_last)
        printf("\n");
    else
        printf("%*s", (int)(column->width - width_of(text)) + 2, "");
}

static void print_heading(const struct column *columns, size_t count) {
    for (size_t i = 0; i < count; i++)
        print_cell(bk_slice_from(columns[i].heading), &columns[i], i + 1 == count);
}

/* As a table, which has no heading when it is empty. Columns become wider from page to page. */
static void print_items(const struct session *session, struct column *columns, size_t count) {
    const struct bk_json *items = bk_json_get(session->root, BK_SLICE("items"));
    const struct bk_json *first = items == NULL ? NULL : items->child;
    bool is_first_page = columns[0].width == 0;
    if (session->context->is_json || first == NULL)
        return; /* printed already */
    for (size_t i = 0; i < count; i++) {
        size_t width = width_of(bk_slice_from(columns[i].heading));
        columns[i].width = columns[i].width > width ? columns[i].width : width;
        for (const struct bk_json *item = first; item != NULL; item = item->next) {
            width = width_of(cell(item, &columns[i]));
            columns[i].width = columns[i].width > width ? columns[i].width : width;
        }
    }
    if (is_first_page)
        print_heading(columns, count);
    for (const struct bk_json *item = first; item != NULL; item = item->next)
        for (size_t i = 0; i < count; i++)
            print_cell(cell(item, &columns[i]), &columns[i], i + 1 == count);
}

/* --- the commands ----------------------------------------------------------------------------- */

/* Whether the filter alone is refused: what is said of that counts from where it begins. */
static bool is_filter_refused(struct session *session) {
    return session->filter != NULL &&
           call_get(session, "/api/work?skipTotal=1&perPage=1&sort=-expires&fields=id",
                    session->filter) == 400;
}

/* By an index that the dead are in, and the backlog is not. */
static bool get_dead(struct session *session) {
    struct bk_buffer filter;
    char path[128];
    int status = -1;
    snprintf(path, sizeof path, "/api/work?skipTotal=1&sort=-expires&perPage=%lld",
             (long long)session->limit);
    bk_buffer_init(&filter, TARGET_BYTES_MAX);
    bk_buffer_append_literal(&filter, "state = \"dead\"");
    if (session->filter != NULL && session->filter[0] != '\0')
        bk_buffer_format(&filter, " && (%s\n)", session->filter);
    bk_buffer_append_char(&filter, '\0');
    if (!filter.is_overflown)
        status = call_get(session, path, filter.data);
    if (status == 400 && !is_filter_refused(session))
        status = call_get(session, path, filter.data);
    bk_buffer_fini(&filter);
    return say(session, status);
}

static bool get_newest(struct session *session) {
    char path[128];
    snprintf(path, sizeof path, "/api/work?skipTotal=1&sort=-id&perPage=%lld",
             (long long)session->limit);
    return get(session, path, session->filter);
}

static int list(struct session *session) {
    struct column columns[] = {
        {"id", "ID", 0},   {"state", "STATE", 0}, {"lane", "LANE", 0}, {"attempts", "ATTEMPTS", 0},
        {"due", "DUE", 0}, {"error", "ERROR", 0},
    };
    if (!(session->is_dead ? get_dead(session) : get_newest(session)))
        return 1;
    print_items(session, columns, BK_COUNT_OF(columns));
    return 0;
}

static int lanes(struct session *session) {
    struct column columns[] = {
        {"lane", "LANE", 0},       {"state", "STATE", 0}, {"running", "RUNNING", 0},
        {"waiting", "WAITING", 0}, {"due", "DUE", 0},
    };
    int64_t pages = 1;
    for (int64_t page = 1; page <= pages; page++) {
        char path[128];
        snprintf(path, sizeof path, "/api/work/lanes?perPage=%d&page=%lld", LANES_PER_PAGE,
                 (long long)page);
        if (!get(session, path, NULL))
            return 1;
        print_items(session, columns, BK_COUNT_OF(columns));
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
static int act_on_dead(struct session *session, const char *verb) {
    char target[64], now[BK_TIME_TEXT_BYTES + 1] = {0};
    const struct member members[] = {{"filter", session->filter}, {"until", now}};
    const struct bk_json *more;
    int64_t total = 0, count = 0;
    bool is_right;
    snprintf(target, sizeof target, "/api/work/%s", verb);
    bk_time_format(now, bk_clock_wall_ms(), ' ');
    do {
        is_right = post(session, target, members, BK_COUNT_OF(members));
        more = bk_json_get(session->root, BK_SLICE("hasMore"));
        if (is_right && !bk_json_to_int64(bk_json_get(session->root, BK_SLICE("count")), &count))
            count = 0;
        total += is_right ? count : 0;
    } while (is_right && count > 0 && more != NULL && more->boolean);
    if (!session->context->is_json && (is_right || total > 0))
        printf("%lld\n", (long long)total);
    return is_right ? 0 : 1;
}

static int act_on_lane(struct session *session, const char *verb) {
    char target[64];
    const struct member member = {"lane", session->word};
    snprintf(target, sizeof target, "/api/work/lanes/%s", verb);
    return post(session, target, &member, 1) ? 0 : 1;
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
    return act_on_lane(session, verb);
}

static bool is_verb(const char *word) {
    static const char *const verbs[] = {"list", "lanes", "retry",  "cancel",
                                        "drop", "pause", "resume", "clear"};
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
        fprintf(stderr, "bakend: work has the commands list, lanes, retry, cancel, drop, pause, "
                        "resume and clear: see `bakend help work`\n");
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
