/*
 * bakend superuser create|update|delete|list|token: superusers from the machine itself. Everything
 * goes through the records routes, so that it is validated and becomes an event as from anywhere
 * else.
 */
#include "auth.h"
#include "bakend/encode.h"
#include <stdio.h>

enum { ANSWER_BYTES_MAX = 4 * 1024 * 1024, ARENA_BYTES_MAX = 16 * 1024 * 1024, PAGE_SIZE = 500 };

#define RECORDS "/api/collections/_superusers/records"

/* What a subcommand works with. */
struct superuser_task {
    struct bk_command_context *command;
    struct bk_slice email;
    struct bk_arena arena;
    struct bk_buffer answer;
};

/* One call; the answer parsed, NULL when it has no body or no JSON. */
static int call(struct superuser_task *task, enum bk_method method, const char *target,
                struct bk_slice body, struct bk_json **json) {
    *json = NULL;
    bk_buffer_clear(&task->answer);
    int status = task->command->call(task->command, method, target, body, &task->answer);
    /* The tree borrows the text: keep it where it does not move. */
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

/* --- finding ---------------------------------------------------------------------------------- */

/* Calls with each superuser until it returns false. */
static int for_each(struct superuser_task *task,
                    bool (*on_superuser)(struct superuser_task *task, const struct bk_json *item,
                                         void *user),
                    void *user) {
    for (int page = 1;; page++) {
        char target[128];
        struct bk_json *answer;
        snprintf(target, sizeof(target), RECORDS "?perPage=%d&page=%d&skipTotal=1&sort=created,id",
                 PAGE_SIZE, page);
        int status = call(task, BK_GET, target, BK_SLICE_EMPTY, &answer);
        if (status != 200)
            return explain(status, answer);
        const struct bk_json *items = bk_json_get(answer, BK_SLICE("items"));
        for (const struct bk_json *item = items != NULL ? items->child : NULL; item != NULL;
             item = item->next)
            if (!on_superuser(task, item, user))
                return 0;
        if (items == NULL || items->child_count < PAGE_SIZE)
            return 0;
    }
}

static bool on_compare(struct superuser_task *task, const struct bk_json *item, void *user) {
    struct bk_slice *id = user;
    if (!bk_slice_equal(bk_json_get_string(item, BK_SLICE("email")), task->email))
        return true;
    *id = bk_json_get_string(item, BK_SLICE("id"));
    return false;
}

/* 0 and the path behind prefix, or an exit code. */
static int find(struct superuser_task *task, const char *prefix, struct bk_slice *target) {
    struct bk_slice id = BK_SLICE_EMPTY;
    int code = for_each(task, on_compare, &id);
    if (code != 0)
        return code;
    if (id.length == 0) {
        fprintf(stderr, "bakend: there is no superuser %.*s: `bakend superuser list` shows them\n",
                BK_SLICE_PRINT(task->email));
        return 1;
    }
    *target = bk_arena_format(&task->arena, "%s/%.*s", prefix, BK_SLICE_PRINT(id));
    return 0;
}

/* --- subcommands ------------------------------------------------------------------------------ */

static bool write_password(struct superuser_task *task, struct bk_buffer *body) {
    struct bk_buffer password;
    bk_buffer_init(&password, 4096);
    bool is_read = task->command->read_password(task->command, &password);
    if (is_read) {
        bk_json_write_member_string(body, BK_SLICE("password"), bk_buffer_slice(&password));
        bk_json_write_member_string(body, BK_SLICE("passwordConfirm"), bk_buffer_slice(&password));
    } else {
        fprintf(stderr, "bakend: no password: give one line on standard input\n");
    }
    bk_buffer_fini(&password);
    return is_read;
}

static int save(struct superuser_task *task, enum bk_method method, const char *target,
                const char *done) {
    struct bk_buffer body;
    struct bk_json *answer;
    int code = 1;
    bk_buffer_init(&body, 16 * 1024);
    bk_buffer_append_char(&body, '{');
    if (method == BK_POST)
        bk_json_write_member_string(&body, BK_SLICE("email"), task->email);
    if (write_password(task, &body)) {
        bk_buffer_append_char(&body, '}');
        int status = call(task, method, target, bk_buffer_slice(&body), &answer);
        code = status == 200 ? 0 : explain(status, answer);
        if (code == 0 && task->command->is_json)
            printf("%.*s\n", BK_SLICE_PRINT(bk_buffer_slice(&task->answer)));
        else if (code == 0)
            printf("superuser %.*s %s in tenant %.*s\n", BK_SLICE_PRINT(task->email), done,
                   BK_SLICE_PRINT(task->command->tenant));
    }
    bk_buffer_fini(&body);
    return code;
}

static int run_create(struct superuser_task *task) {
    return save(task, BK_POST, RECORDS, "created");
}

static int run_update(struct superuser_task *task) {
    struct bk_slice target;
    int code = find(task, RECORDS, &target);
    return code != 0 ? code : save(task, BK_PATCH, target.data, "updated");
}

static int run_delete(struct superuser_task *task) {
    struct bk_slice target;
    struct bk_json *answer;
    int code = find(task, RECORDS, &target);
    if (code != 0)
        return code;
    int status = call(task, BK_DELETE, target.data, BK_SLICE_EMPTY, &answer);
    if (status != 204)
        return explain(status, answer);
    printf("superuser %.*s deleted in tenant %.*s\n", BK_SLICE_PRINT(task->email),
           BK_SLICE_PRINT(task->command->tenant));
    return 0;
}

static int run_token(struct superuser_task *task) {
    struct bk_slice target;
    struct bk_json *answer;
    int code = find(task, "/api/collections/_superusers/impersonate", &target);
    if (code != 0)
        return code;
    int status = call(task, BK_POST, target.data, BK_SLICE("{}"), &answer);
    if (status != 200)
        return explain(status, answer);
    printf("%.*s\n", BK_SLICE_PRINT(bk_json_get_string(answer, BK_SLICE("token"))));
    return 0;
}

static bool on_print(struct superuser_task *task, const struct bk_json *item, void *user) {
    bool *is_first = user;
    if (task->command->is_json)
        printf("%s%.*s", *is_first ? "" : ",", BK_SLICE_PRINT(item->text));
    else
        printf("%.*s  %.*s\n", BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("id"))),
               BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("email"))));
    *is_first = false;
    return true;
}

static int run_list(struct superuser_task *task) {
    bool is_first = true;
    if (task->command->is_json)
        putchar('[');
    int code = for_each(task, on_print, &is_first);
    if (task->command->is_json)
        puts("]");
    return code;
}

/* --- the command ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    int argument_count;
    int (*run)(struct superuser_task *task);
} subcommands[] = {
    {"create", 2, run_create}, {"update", 2, run_update}, {"delete", 2, run_delete},
    {"list", 1, run_list},     {"token", 2, run_token},
};

int auth_superuser_command(struct bk_command_context *context, int argument_count,
                           char **arguments) {
    for (size_t i = 0; argument_count > 0 && i < BK_COUNT_OF(subcommands); i++) {
        if (strcmp(arguments[0], subcommands[i].name) != 0 ||
            argument_count != subcommands[i].argument_count)
            continue;
        struct superuser_task task = {.command = context};
        task.email = argument_count > 1 ? bk_slice_from(arguments[1]) : BK_SLICE_EMPTY;
        bk_arena_init(&task.arena, ARENA_BYTES_MAX);
        bk_buffer_init(&task.answer, ANSWER_BYTES_MAX);
        int code = subcommands[i].run(&task);
        bk_buffer_fini(&task.answer);
        bk_arena_fini(&task.arena);
        return code;
    }
    return 2;
}
