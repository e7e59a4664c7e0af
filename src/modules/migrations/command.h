/* What the two commands share: a call of the router, parsed, and its refusal in words. */
#ifndef MIGRATIONS_COMMAND_H
#define MIGRATIONS_COMMAND_H

#include "migrations_private.h"

enum {
    MIGRATIONS_ANSWER_BYTES_MAX = 64 * 1024 * 1024,
    MIGRATIONS_COMMAND_BYTES_MAX = 256 * 1024 * 1024
};

struct migrations_command {
    struct bk_command_context *context;
    struct bk_arena arena;
    struct bk_buffer answer, body;
    bool allows_loss, deletes_missing;
    const char *words[3]; /* arguments that are no flags */
    int word_count;
};

/* Takes the flags out. False: an argument is none that is known. */
bool migrations_command_init(struct migrations_command *command, struct bk_command_context *context,
                             int argument_count, char **arguments);
void migrations_command_fini(struct migrations_command *command);
/* One call; the answer parsed, NULL when it has no body. Returns the HTTP status, or -1 when why is
 * said already. */
int migrations_command_call(struct migrations_command *command, enum bk_method method,
                            const char *target, struct bk_json **answer);
/* Prints what a refusal says; 1. */
int migrations_command_explain(int status, const struct bk_json *answer);
/* "  posts.title is removed: 3 records" for each. */
void migrations_command_print_losses(const struct bk_json *losses);

#endif
