/*
 * bakend api-key create|list|rotate|delete: keys of programs, from the machine itself. Everything
 * goes through the routes, so that it is judged and becomes an event as from anywhere else. A key
 * is printed alone on standard output, so that a script can take it.
 */
#include "auth.h"
#include "bakend/encode.h"
#include <stdio.h>

enum { ANSWER_BYTES_MAX = 4 * 1024 * 1024, ARENA_BYTES_MAX = 16 * 1024 * 1024, PAGE_SIZE = 200 };

#define KEYS "/api/api-keys"

struct task {
    struct bk_command_context *command;
    const char *name, *expires; /* NULL: not given */
    const char *scopes[64];
    size_t scope_count;
    struct bk_arena arena;
    struct bk_buffer answer, body;
};

/* The answer parsed; NULL when it has no body or no JSON. */
static int ask(struct task *task, enum bk_method method, const char *target,
               struct bk_json **json) {
    *json = NULL;
    bk_buffer_clear(&task->answer);
    int status = task->command->call(task->command, method, target, bk_buffer_slice(&task->body),
                                     &task->answer);
    struct bk_slice text = bk_arena_copy(&task->arena, bk_buffer_slice(&task->answer));
    if (status > 0 && text.length > 0 && bk_json_parse(&task->arena, text, json, NULL) != BK_OK)
        *json = NULL;
    return status;
}

static int explain(int status, const struct bk_json *answer) {
    if (status < 0)
        return 1; /* said already */
    struct bk_slice message = bk_json_get_string(answer, BK_SLICE("message"));
    fprintf(stderr, "bakend: %.*s\n", BK_SLICE_PRINT(message));
    const struct bk_json *data = bk_json_get(answer, BK_SLICE("data"));
    for (const struct bk_json *item = data != NULL ? data->child : NULL; item != NULL;
         item = item->next)
        fprintf(stderr, "  %.*s: %.*s\n", BK_SLICE_PRINT(item->key),
                BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("message"))));
    return 1;
}

/* "/api/api-keys/<name><suffix>" */
static const char *path_of(struct task *task, const char *suffix) {
    struct bk_buffer path;
    bk_buffer_init(&path, ARENA_BYTES_MAX / 2);
    bk_buffer_append_literal(&path, KEYS "/");
    bk_percent_encode(&path, bk_slice_from(task->name));
    bk_buffer_append_slice(&path, bk_slice_from(suffix));
    bk_buffer_append_char(&path, '\0');
    const char *text = bk_arena_copy(&task->arena, bk_buffer_slice(&path)).data;
    bk_buffer_fini(&path);
    return text;
}

/* --- subcommands ------------------------------------------------------------------------------ */

static int show_key(struct task *task, enum bk_method method, const char *target) {
    struct bk_json *answer;
    int status = ask(task, method, target, &answer);
    if (status != 200)
        return explain(status, answer);
    if (task->command->is_json)
        printf("%.*s\n", BK_SLICE_PRINT(bk_buffer_slice(&task->answer)));
    else
        printf("%.*s\n", BK_SLICE_PRINT(bk_json_get_string(answer, BK_SLICE("key"))));
    return 0;
}

static int run_create(struct task *task) {
    struct bk_buffer *body = &task->body;
    bk_buffer_append_char(body, '{');
    bk_json_write_member_string(body, BK_SLICE("name"), bk_slice_from(task->name));
    bk_json_write_key(body, BK_SLICE("scopes"));
    bk_buffer_append_char(body, '[');
    for (size_t i = 0; i < task->scope_count; i++) {
        bk_json_write_separator(body);
        bk_json_write_string(body, bk_slice_from(task->scopes[i]));
    }
    bk_buffer_append_char(body, ']');
    if (task->expires != NULL)
        bk_json_write_member_string(body, BK_SLICE("expires"), bk_slice_from(task->expires));
    bk_buffer_append_char(body, '}');
    return show_key(task, BK_POST, KEYS);
}

static int run_rotate(struct task *task) {
    return show_key(task, BK_POST, path_of(task, "/rotate"));
}

static int run_delete(struct task *task) {
    struct bk_json *answer;
    int status = ask(task, BK_DELETE, path_of(task, ""), &answer);
    if (status != 204)
        return explain(status, answer);
    printf("API key %s deleted in tenant %.*s\n", task->name,
           BK_SLICE_PRINT(task->command->tenant));
    return 0;
}

static void print_line(const struct bk_json *item) {
    const struct bk_json *scopes = bk_json_get(item, BK_SLICE("scopes"));
    struct bk_slice used = bk_json_get_string(item, BK_SLICE("lastUsed"));
    struct bk_slice expires = bk_json_get_string(item, BK_SLICE("expires"));
    printf("%.*s  %.*s…  ", BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("name"))),
           BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("prefix"))));
    for (const struct bk_json *scope = scopes == NULL ? NULL : scopes->child; scope != NULL;
         scope = scope->next)
        printf("%.*s%s", BK_SLICE_PRINT(scope->string), scope->next == NULL ? "" : ",");
    printf("  used %.*s  expires %.*s\n",
           BK_SLICE_PRINT(used.length > 0 ? used : BK_SLICE("never")),
           BK_SLICE_PRINT(expires.length > 0 ? expires : BK_SLICE("never")));
}

static int run_list(struct task *task) {
    bool is_first = true, is_json = task->command->is_json;
    if (is_json)
        putchar('[');
    for (int page = 1;; page++) {
        char target[128];
        struct bk_json *answer;
        snprintf(target, sizeof(target), KEYS "?perPage=%d&page=%d&skipTotal=1&sort=name",
                 PAGE_SIZE, page);
        int status = ask(task, BK_GET, target, &answer);
        if (status != 200)
            return explain(status, answer);
        const struct bk_json *items = bk_json_get(answer, BK_SLICE("items"));
        for (const struct bk_json *item = items != NULL ? items->child : NULL; item != NULL;
             item = item->next) {
            if (is_json)
                printf("%s%.*s", is_first ? "" : ",", BK_SLICE_PRINT(item->text));
            else
                print_line(item);
            is_first = false;
        }
        if (items == NULL || items->child_count < PAGE_SIZE)
            break;
    }
    if (is_json)
        puts("]");
    return 0;
}

/* --- the command ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    bool has_name, has_options;
    int (*run)(struct task *task);
} subcommands[] = {
    {"create", true, true, run_create},
    {"list", false, false, run_list},
    {"rotate", true, false, run_rotate},
    {"delete", true, false, run_delete},
};

/* False: they are not what the usage says. */
static bool read_options(struct task *task, int count, char **arguments) {
    for (int i = 0; i < count; i += 2) {
        if (i + 1 == count)
            return false;
        if (strcmp(arguments[i], "--scope") == 0 && task->scope_count < BK_COUNT_OF(task->scopes))
            task->scopes[task->scope_count++] = arguments[i + 1];
        else if (strcmp(arguments[i], "--expires") == 0 && task->expires == NULL)
            task->expires = arguments[i + 1];
        else
            return false;
    }
    return true;
}

int auth_api_key_command(struct bk_command_context *context, int argument_count, char **arguments) {
    for (size_t i = 0; argument_count > 0 && i < BK_COUNT_OF(subcommands); i++) {
        int taken = subcommands[i].has_name ? 2 : 1;
        struct task task = {.command = context};
        if (strcmp(arguments[0], subcommands[i].name) != 0)
            continue;
        if (argument_count < taken || (!subcommands[i].has_options && argument_count > taken) ||
            !read_options(&task, argument_count - taken, arguments + taken))
            return 2;
        task.name = subcommands[i].has_name ? arguments[1] : NULL;
        bk_arena_init(&task.arena, ARENA_BYTES_MAX);
        bk_buffer_init(&task.answer, ANSWER_BYTES_MAX);
        bk_buffer_init(&task.body, AUTH_API_KEY_BODY_BYTES_MAX);
        int code = subcommands[i].run(&task);
        bk_buffer_fini(&task.body);
        bk_buffer_fini(&task.answer);
        bk_arena_fini(&task.arena);
        return code;
    }
    return 2;
}
