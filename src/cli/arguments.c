/* The command, its arguments, and the three flags that are neither options nor a command's own. */
#include "cli_private.h"

/* "--tenant NAME" or "--tenant=NAME" at *index. */
static enum bk_status read_tenant(struct cli_invocation *invocation, int *index, int argument_count,
                                  char **arguments, struct bk_error *error) {
    struct bk_slice text = bk_slice_from(arguments[*index]);
    size_t length = bk_slice_find(text, '=');
    const char *name = NULL;
    if (length < text.length)
        name = text.data + length + 1;
    else if (*index + 1 < argument_count)
        name = arguments[++*index];
    if (name == NULL || !bk_tenant_name_is_valid(bk_slice_from(name)))
        return bk_error_set(error, BK_INVALID,
                            "--tenant needs the name of a tenant: 1 to 63 of a-z, 0-9 and -");
    invocation->tenant = name;
    return BK_OK;
}

static bool is_tenant_flag(const char *argument) {
    return strcmp(argument, "--tenant") == 0 || strncmp(argument, "--tenant=", 9) == 0;
}

/* True when argument is a flag of ours without a value. */
static bool read_switch(struct cli_invocation *invocation, const char *argument) {
    if (strcmp(argument, "--json") == 0)
        invocation->is_json = true;
    else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0)
        invocation->wants_help = true;
    else if (strcmp(argument, "--version") == 0)
        invocation->wants_version = true;
    else
        return false;
    return true;
}

enum bk_status cli_invocation_read(struct cli_invocation *invocation, int argument_count,
                                   char **arguments, struct bk_error *error) {
    BK_ASSERT(argument_count >= 0);
    *invocation = (struct cli_invocation){.arguments = arguments};
    int kept = 0;
    for (int index = 0; index < argument_count; index++) {
        if (is_tenant_flag(arguments[index])) {
            enum bk_status status =
                read_tenant(invocation, &index, argument_count, arguments, error);
            if (status != BK_OK)
                return status;
        } else if (!read_switch(invocation, arguments[index])) {
            arguments[kept++] = arguments[index];
        }
    }
    if (kept > 0 && arguments[0][0] != '-') {
        invocation->command = arguments[0];
        invocation->arguments = arguments + 1;
        kept--;
    }
    invocation->argument_count = kept;
    return BK_OK;
}
