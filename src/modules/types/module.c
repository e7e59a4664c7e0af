/*
 * bakend types > bakend.d.ts: the collections as TypeScript, for programs that use the stock
 * `pocketbase` SDK. Made from what GET /api/collections answers, by the same names whenever the
 * definitions are the same.
 */
#include "types_private.h"

#include <stdio.h>

extern const struct bk_module bk_module_types;

enum { PAGE_SIZE = 500 };

struct typing {
    struct bk_command_context *context;
    struct bk_arena arena;
    struct bk_buffer answer, text;
    struct bk_json *first, **end; /* all definitions */
};

static int explain(int status, const struct bk_json *answer) {
    struct bk_slice message = bk_json_get_string(answer, BK_SLICE("message"));
    if (status >= 0)
        fprintf(stderr, "bakend: %.*s\n", BK_SLICE_PRINT(message));
    return 1;
}

/* Items are taken out of their page and chained. */
static int read_page(struct typing *typing, int page, uint32_t *count) {
    char target[64];
    struct bk_json *answer = NULL;
    snprintf(target, sizeof target, "/api/collections?perPage=%d&page=%d", PAGE_SIZE, page);
    bk_buffer_clear(&typing->answer);
    int status =
        typing->context->call(typing->context, BK_GET, target, BK_SLICE_EMPTY, &typing->answer);
    struct bk_slice text = bk_arena_copy(&typing->arena, bk_buffer_slice(&typing->answer));
    if (status >= 0 && bk_json_parse(&typing->arena, text, &answer, NULL) != BK_OK)
        answer = NULL;
    if (status != 200)
        return explain(status, answer);
    *count = 0;
    for (struct bk_json *member = answer == NULL ? NULL : answer->child; member != NULL;
         member = member->next) {
        if (!bk_slice_is(member->key, "items"))
            continue;
        *count = member->child_count;
        *typing->end = member->child;
        while (*typing->end != NULL)
            typing->end = &(*typing->end)->next;
    }
    return 0;
}

static int read_all(struct typing *typing) {
    uint32_t count = PAGE_SIZE;
    int code = 0;
    for (int page = 1; code == 0 && count == PAGE_SIZE; page++)
        code = read_page(typing, page, &count);
    return code;
}

static int write_all(struct typing *typing) {
    struct types_model model;
    types_model_init(&model, typing->first, &typing->arena);
    types_write_head(&typing->text);
    for (size_t i = 0; i < model.count; i++)
        types_write_collection(&typing->text, &model, &model.collections[i]);
    types_write_client(&typing->text, &model);
    if (typing->arena.is_overflown || typing->text.is_overflown) {
        fprintf(stderr, "bakend: there is not enough memory for so many collections\n");
        return 1;
    }
    struct bk_slice text = bk_buffer_slice(&typing->text);
    if (fwrite(text.data, 1, text.length, stdout) == text.length && fflush(stdout) == 0)
        return 0;
    fprintf(stderr, "bakend: the types cannot be written to standard output\n");
    return 1;
}

static int run_types(struct bk_command_context *context, int argument_count, char **arguments) {
    (void)arguments;
    if (argument_count > 0)
        return 2;
    struct typing typing = {.context = context};
    typing.end = &typing.first;
    bk_arena_init(&typing.arena, TYPES_ARENA_BYTES_MAX);
    bk_buffer_init(&typing.answer, TYPES_TEXT_BYTES_MAX);
    bk_buffer_init(&typing.text, TYPES_TEXT_BYTES_MAX);
    int code = read_all(&typing);
    if (code == 0)
        code = write_all(&typing);
    bk_buffer_fini(&typing.text);
    bk_buffer_fini(&typing.answer);
    bk_arena_fini(&typing.arena);
    return code;
}

static const struct bk_command commands[] = {
    {.name = "types",
     .usage = "types [--data DIR] [--tenant NAME]",
     .summary = "Prints the collections as TypeScript, for the pocketbase SDK.\n\n"
                "    bakend types > bakend.d.ts",
     .run = run_types},
};

const struct bk_module bk_module_types = {
    .name = "types",
    .summary = "Prints the collections as TypeScript.",
    .commands = commands,
    .command_count = BK_COUNT_OF(commands),
};
