/*
 * bakend collections export|import: all definitions as one JSON list, as the dashboard has it. An
 * import that would lose data says what it is first, and is not done.
 */
#include "command.h"

#include "bakend/file.h"
#include <stdio.h>

enum { PAGE_SIZE = 500 };

/* --- export ----------------------------------------------------------------------------------- */

static int add_page(struct migrations_command *command, int page, struct bk_buffer *text,
                    bool *is_last) {
    char target[64];
    struct bk_json *answer;
    snprintf(target, sizeof target, "/api/collections?perPage=%d&page=%d", PAGE_SIZE, page);
    int status = migrations_command_call(command, BK_GET, target, &answer);
    if (status != 200)
        return migrations_command_explain(status, answer);
    const struct bk_json *items = bk_json_get(answer, BK_SLICE("items"));
    for (const struct bk_json *item = items == NULL ? NULL : items->child; item != NULL;
         item = item->next) {
        bk_buffer_append_slice(text, text->length == 1 ? BK_SLICE("\n  ") : BK_SLICE(",\n  "));
        migrations_write_pretty(text, migrations_definition(&command->arena, item), 1);
    }
    *is_last = items == NULL || items->child_count < PAGE_SIZE;
    return 0;
}

static int export_all(struct migrations_command *command, struct bk_buffer *text) {
    bool is_last = false;
    bk_buffer_append_char(text, '[');
    for (int page = 1; !is_last; page++) {
        int code = add_page(command, page, text, &is_last);
        if (code != 0)
            return code;
    }
    bk_buffer_append_literal(text, "\n]\n");
    if (!text->is_overflown && !command->arena.is_overflown)
        return 0;
    fprintf(stderr, "bakend: the definitions are too large for one file\n");
    return 1;
}

static int run_export(struct migrations_command *command) {
    struct bk_buffer text;
    struct bk_error error = BK_ERROR_INIT;
    if (command->word_count > 2 || command->allows_loss || command->deletes_missing)
        return 2;
    bk_buffer_init(&text, MIGRATIONS_ANSWER_BYTES_MAX);
    int code = export_all(command, &text);
    if (code == 0 && command->word_count == 1) {
        printf("%.*s", BK_SLICE_PRINT(bk_buffer_slice(&text)));
    } else if (code == 0 &&
               bk_file_write_atomic(command->words[1], bk_buffer_slice(&text), &error) != BK_OK) {
        fprintf(stderr, "bakend: %s\n", error.message);
        code = 1;
    }
    bk_buffer_fini(&text);
    return code;
}

/* --- import ----------------------------------------------------------------------------------- */

/* The list itself, or an object that has it: an import's body, or the answer to a list. */
static const struct bk_json *list_of(const struct bk_json *root) {
    if (root->type != BK_JSON_OBJECT)
        return root;
    const struct bk_json *list = bk_json_get(root, BK_SLICE("collections"));
    return list != NULL ? list : bk_json_get(root, BK_SLICE("items"));
}

/* Before 0.23 PocketBase had other definitions, of which nothing but the name would be left. */
static bool is_outdated(const struct bk_json *list) {
    for (const struct bk_json *each = list->child; each != NULL; each = each->next)
        if (each->type == BK_JSON_OBJECT && bk_json_get(each, BK_SLICE("schema")) != NULL &&
            bk_json_get(each, BK_SLICE("fields")) == NULL)
            return true;
    return false;
}

static const struct bk_json *read_list(struct migrations_command *command) {
    struct bk_buffer text;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_json *root = NULL;
    bk_buffer_init(&text, MIGRATIONS_LOSSES_BODY_MAX_BYTES);
    enum bk_status status = bk_file_read(command->words[1], &text, &error);
    struct bk_slice copy = bk_arena_copy(&command->arena, bk_buffer_slice(&text));
    bk_buffer_fini(&text);
    if (status == BK_OK)
        status = bk_json_parse(&command->arena, copy, &root, &error);
    const struct bk_json *list = status == BK_OK ? list_of(root) : NULL;
    if (status == BK_OK && (list == NULL || list->type != BK_JSON_ARRAY))
        status = bk_error_set(&error, BK_INVALID,
                              "must be a list of collections, as `bakend collections export` "
                              "writes it");
    else if (status == BK_OK && is_outdated(list))
        status = bk_error_set(&error, BK_INVALID,
                              "has a \"schema\" for \"fields\": it was exported by a PocketBase "
                              "before 0.23. Upgrade that one first, and export again");
    if (status == BK_OK)
        return list;
    fprintf(stderr, "bakend: %s: %s\n", command->words[1],
            error.message[0] != '\0' ? error.message : bk_status_text(status));
    return NULL;
}

static int refuse_losses(struct migrations_command *command) {
    struct bk_json *answer;
    int status = migrations_command_call(command, BK_POST, "/api/migrations/losses", &answer);
    if (status != 200)
        return migrations_command_explain(status, answer);
    const struct bk_json *losses = bk_json_get(answer, BK_SLICE("losses"));
    if (losses == NULL || losses->child == NULL)
        return 0;
    fprintf(stderr, "bakend: the import would lose data, and nothing was imported. To import it "
                    "all the same: --allow-data-loss\n");
    migrations_command_print_losses(losses);
    return 1;
}

static int run_import(struct migrations_command *command) {
    if (command->word_count != 2)
        return 2;
    const struct bk_json *list = read_list(command);
    if (list == NULL)
        return 1;
    bk_buffer_append_literal(&command->body, "{\"collections\":");
    migrations_write_compact(&command->body, list);
    bk_buffer_format(&command->body, ",\"deleteMissing\":%s}",
                     command->deletes_missing ? "true" : "false");
    int code = command->allows_loss ? 0 : refuse_losses(command);
    if (code != 0)
        return code;
    struct bk_json *answer;
    int status = migrations_command_call(command, BK_PUT, "/api/collections/import", &answer);
    if (status < 200 || status > 299)
        return migrations_command_explain(status, answer);
    if (command->context->is_json)
        printf("{\"imported\":%u}\n", list->child_count);
    else
        printf("imported %u collection%s\n", list->child_count, list->child_count == 1 ? "" : "s");
    return 0;
}

int migrations_run_collections(struct bk_command_context *context, int argument_count,
                               char **arguments) {
    struct migrations_command command;
    int code = 2;
    if (migrations_command_init(&command, context, argument_count, arguments) &&
        command.word_count > 0) {
        if (strcmp(command.words[0], "export") == 0)
            code = run_export(&command);
        else if (strcmp(command.words[0], "import") == 0)
            code = run_import(&command);
    }
    migrations_command_fini(&command);
    return code;
}
