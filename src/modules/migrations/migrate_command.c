/*
 * bakend migrate: the migration files from the command line. Where a server runs on the data
 * directory it is that server's folder of files that is meant, else the one of --app.
 */
#include "command.h"

#include <stdio.h>

static void print_json(const struct migrations_command *command) {
    printf("%.*s\n", BK_SLICE_PRINT(bk_buffer_slice(&command->answer)));
}

/* Warnings go to standard error, names to standard output. */
static void print_names(const struct bk_json *names, const char *verb) {
    for (const struct bk_json *name = names == NULL ? NULL : names->child; name != NULL;
         name = name->next)
        printf("%s %.*s\n", verb, BK_SLICE_PRINT(name->string));
}

static void print_warnings(const struct bk_json *warnings) {
    for (const struct bk_json *item = warnings == NULL ? NULL : warnings->child; item != NULL;
         item = item->next)
        fprintf(stderr, "bakend: warning: %.*s\n", BK_SLICE_PRINT(item->string));
}

/* What went before a file that failed has been done. */
static int explain_stop(int status, const struct bk_json *answer, const char *verb) {
    const struct bk_json *data = bk_json_get(answer, BK_SLICE("data"));
    const struct bk_json *params =
        bk_json_get(bk_json_get(data, BK_SLICE("migrations")), BK_SLICE("params"));
    print_names(bk_json_get(params, BK_SLICE("done")), verb);
    print_warnings(bk_json_get(params, BK_SLICE("warnings")));
    return migrations_command_explain(status, answer);
}

static int apply(struct migrations_command *command, const char *target, const char *verb) {
    struct bk_json *answer;
    int status = migrations_command_call(command, BK_POST, target, &answer);
    if (status != 200)
        return explain_stop(status, answer, verb);
    const struct bk_json *names = bk_json_get(answer, bk_slice_from(verb));
    print_warnings(bk_json_get(answer, BK_SLICE("warnings")));
    if (command->context->is_json)
        print_json(command);
    else if (names == NULL || names->child == NULL)
        printf("nothing to do\n");
    else
        print_names(names, verb);
    return 0;
}

static int run_up(struct migrations_command *command) {
    bk_buffer_format(&command->body, "{\"allowDataLoss\":%s}",
                     command->allows_loss ? "true" : "false");
    return command->word_count > 1 ? 2 : apply(command, "/api/migrations/up", "applied");
}

static int run_down(struct migrations_command *command) {
    int64_t count = 1;
    if (command->word_count > 2 ||
        (command->word_count == 2 && !bk_slice_to_int64(bk_slice_from(command->words[1]), &count)))
        return 2;
    bk_buffer_format(&command->body, "{\"allowDataLoss\":%s,\"count\":%lld}",
                     command->allows_loss ? "true" : "false", (long long)count);
    return apply(command, "/api/migrations/down", "reverted");
}

static void print_entry(const struct bk_json *item) {
    struct bk_slice reason = bk_json_get_string(item, BK_SLICE("reason"));
    const struct bk_json *late = bk_json_get(item, BK_SLICE("late"));
    printf("%-9.*s  %-24.*s  %.*s%s%s%.*s\n",
           BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("state"))),
           BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("applied"))),
           BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("file"))),
           late != NULL && late->boolean ? "  (before one that is applied)" : "",
           reason.length > 0 ? "  " : "", BK_SLICE_PRINT(reason));
}

static int run_list(struct migrations_command *command) {
    struct bk_json *answer;
    if (command->word_count > 1)
        return 2;
    int status = migrations_command_call(command, BK_GET, "/api/migrations", &answer);
    if (status != 200)
        return migrations_command_explain(status, answer);
    if (command->context->is_json) {
        print_json(command);
        return 0;
    }
    const struct bk_json *items = bk_json_get(answer, BK_SLICE("items"));
    if (items == NULL || items->child == NULL)
        printf("no migrations in %.*s\n",
               BK_SLICE_PRINT(bk_json_get_string(answer, BK_SLICE("directory"))));
    for (const struct bk_json *item = items == NULL ? NULL : items->child; item != NULL;
         item = item->next)
        print_entry(item);
    return 0;
}

static int make_file(struct migrations_command *command, const char *target) {
    struct bk_json *answer;
    int status = migrations_command_call(command, BK_POST, target, &answer);
    if (status != 200)
        return migrations_command_explain(status, answer);
    if (command->context->is_json)
        print_json(command);
    else
        printf("%.*s\n", BK_SLICE_PRINT(bk_json_get_string(answer, BK_SLICE("path"))));
    return 0;
}

static int run_create(struct migrations_command *command) {
    if (command->word_count != 2)
        return 2;
    bk_buffer_append_char(&command->body, '{');
    bk_json_write_member_string(&command->body, BK_SLICE("name"), bk_slice_from(command->words[1]));
    bk_buffer_append_char(&command->body, '}');
    return make_file(command, "/api/migrations");
}

static int run_collections(struct migrations_command *command) {
    bk_buffer_append_literal(&command->body, "{}");
    return command->word_count > 1 ? 2 : make_file(command, "/api/migrations/collections");
}

static int run_sync(struct migrations_command *command) {
    struct bk_json *answer;
    if (command->word_count > 1)
        return 2;
    bk_buffer_append_literal(&command->body, "{}");
    int status = migrations_command_call(command, BK_POST, "/api/migrations/history-sync", &answer);
    if (status != 200)
        return migrations_command_explain(status, answer);
    const struct bk_json *forgotten = bk_json_get(answer, BK_SLICE("forgotten"));
    const struct bk_json *taken = bk_json_get(answer, BK_SLICE("taken"));
    if (command->context->is_json)
        print_json(command);
    else if (forgotten != NULL && forgotten->child == NULL &&
             (taken == NULL || taken->child == NULL))
        printf("nothing to do\n");
    else {
        print_names(forgotten, "forgotten");
        print_names(taken, "taken as it is");
    }
    return 0;
}

static const struct {
    const char *name;
    int (*run)(struct migrations_command *command);
} subcommands[] = {
    {"up", run_up},
    {"down", run_down},
    {"list", run_list},
    {"status", run_list},
    {"create", run_create},
    {"collections", run_collections},
    {"history-sync", run_sync},
};

int migrations_run_migrate(struct bk_command_context *context, int argument_count,
                           char **arguments) {
    struct migrations_command command;
    int code = 2;
    if (migrations_command_init(&command, context, argument_count, arguments) &&
        !command.deletes_missing) {
        const char *word = command.word_count == 0 ? "up" : command.words[0];
        for (size_t i = 0; i < BK_COUNT_OF(subcommands); i++)
            if (strcmp(word, subcommands[i].name) == 0)
                code = subcommands[i].run(&command);
    }
    migrations_command_fini(&command);
    return code;
}
