/* What the commands of this module share. */
#include "command.h"

#include <stdio.h>

static bool take_flag(struct migrations_command *command, const char *argument) {
    if (strcmp(argument, "--allow-data-loss") == 0)
        command->allows_loss = true;
    else if (strcmp(argument, "--delete-missing") == 0)
        command->deletes_missing = true;
    else
        return false;
    return true;
}

bool migrations_command_init(struct migrations_command *command, struct bk_command_context *context,
                             int argument_count, char **arguments) {
    *command = (struct migrations_command){.context = context};
    bk_arena_init(&command->arena, MIGRATIONS_COMMAND_BYTES_MAX);
    bk_buffer_init(&command->answer, MIGRATIONS_ANSWER_BYTES_MAX);
    bk_buffer_init(&command->body, MIGRATIONS_ANSWER_BYTES_MAX);
    for (int i = 0; i < argument_count; i++) {
        if (take_flag(command, arguments[i]))
            continue;
        if (arguments[i][0] == '-' || command->word_count == (int)BK_COUNT_OF(command->words))
            return false;
        command->words[command->word_count++] = arguments[i];
    }
    return true;
}

void migrations_command_fini(struct migrations_command *command) {
    bk_buffer_fini(&command->body);
    bk_buffer_fini(&command->answer);
    bk_arena_fini(&command->arena);
}

int migrations_command_call(struct migrations_command *command, enum bk_method method,
                            const char *target, struct bk_json **answer) {
    *answer = NULL;
    bk_buffer_clear(&command->answer);
    int status = command->context->call(command->context, method, target,
                                        bk_buffer_slice(&command->body), &command->answer);
    /* The tree borrows the text: keep it where it does not move. */
    struct bk_slice text = bk_arena_copy(&command->arena, bk_buffer_slice(&command->answer));
    if (status > 0 && text.length > 0 &&
        bk_json_parse(&command->arena, text, answer, NULL) != BK_OK)
        *answer = NULL;
    return status;
}

void migrations_command_print_losses(const struct bk_json *losses) {
    for (const struct bk_json *item = losses == NULL ? NULL : losses->child; item != NULL;
         item = item->next) {
        struct bk_slice field = bk_json_get_string(item, BK_SLICE("field"));
        int64_t records = -1;
        (void)bk_json_to_int64(bk_json_get(item, BK_SLICE("records")), &records);
        fprintf(stderr, "  %.*s%s%.*s %.*s: ",
                BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("collection"))),
                field.length > 0 ? "." : "", BK_SLICE_PRINT(field),
                BK_SLICE_PRINT(bk_json_get_string(item, BK_SLICE("reason"))));
        if (records < 0)
            fprintf(stderr, "too many records to be counted in time\n");
        else
            fprintf(stderr, "%lld record%s\n", (long long)records, records == 1 ? "" : "s");
    }
}

/* One level of what is wrong by field; below it names are joined with dots. */
static void print_problems(const struct bk_json *object, struct bk_slice path,
                           struct bk_arena *arena) {
    for (const struct bk_json *item = object == NULL ? NULL : object->child; item != NULL;
         item = item->next) {
        if (item->type != BK_JSON_OBJECT)
            continue;
        struct bk_slice name =
            bk_arena_format(arena, "%.*s%s%.*s", BK_SLICE_PRINT(path), path.length > 0 ? "." : "",
                            BK_SLICE_PRINT(item->key));
        const struct bk_json *message = bk_json_get(item, BK_SLICE("message"));
        if (message != NULL && message->type == BK_JSON_STRING)
            fprintf(stderr, "  %.*s: %.*s\n", BK_SLICE_PRINT(name),
                    BK_SLICE_PRINT(message->string));
        else
            print_problems(item, name, arena);
    }
}

int migrations_command_explain(int status, const struct bk_json *answer) {
    if (status < 0)
        return 1; /* said already */
    struct bk_arena arena;
    const struct bk_json *data = bk_json_get(answer, BK_SLICE("data"));
    const struct bk_json *stopped = bk_json_get(data, BK_SLICE("migrations"));
    struct bk_slice message = bk_json_get_string(answer, BK_SLICE("message"));
    if (message.length == 0)
        message = BK_SLICE("the answer cannot be read: see the server's log");
    fprintf(stderr, "bakend: %.*s\n", BK_SLICE_PRINT(message));
    bk_arena_init(&arena, MIGRATIONS_COMMAND_BYTES_MAX);
    if (stopped == NULL)
        print_problems(data, BK_SLICE(""), &arena);
    else
        migrations_command_print_losses(
            bk_json_get(bk_json_get(stopped, BK_SLICE("params")), BK_SLICE("losses")));
    bk_arena_fini(&arena);
    return 1;
}
