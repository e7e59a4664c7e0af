/* What there is to run, for people: made from the tables of commands and options, so it cannot lag.
 */
#include "cli_private.h"

#include <stdio.h>

enum { HELP_MAX_BYTES = 256 * 1024, NAME_COLUMNS = 14 };

struct own_command {
    const char *name, *usage, *summary;
};

static const struct own_command own_commands[] = {
    {"serve", "serve [--listen ADDRESS:PORT] [--data DIR] [--config FILE] …", "Starts the server."},
    {"config", "config [--json]", "Prints the options in force and where each value came from."},
    {"version", "version", "Prints the version."},
    {"help", "help [COMMAND]", "Explains a command, or lists them all."},
};

/* The next command in the order of the program's own, then the modules'; NULL at the end. */
static const struct bk_command *next_command(const struct bk_cli_host *host, size_t *module,
                                             size_t *index) {
    if (*module == 0) {
        if (host->commands[*index].name != NULL)
            return &host->commands[(*index)++];
        *module = 1;
        *index = 0;
    }
    for (; host->modules[*module - 1] != NULL; ++*module, *index = 0)
        if (*index < host->modules[*module - 1]->command_count)
            return &host->modules[*module - 1]->commands[(*index)++];
    return NULL;
}

const struct bk_command *cli_find_command(const struct bk_cli_host *host, struct bk_slice name) {
    size_t module = 0, index = 0;
    for (const struct bk_command *command; (command = next_command(host, &module, &index));)
        if (bk_slice_equal(bk_slice_from(command->name), name))
            return command;
    return NULL;
}

static const struct own_command *find_own(const char *name) {
    for (size_t i = 0; i < BK_COUNT_OF(own_commands); i++)
        if (strcmp(own_commands[i].name, name) == 0)
            return &own_commands[i];
    return NULL;
}

static void print_options(const struct bk_cli_host *host) {
    struct bk_buffer text;
    bk_buffer_init(&text, HELP_MAX_BYTES);
    bk_config_write_help(host->config, &text);
    printf("\nOptions (also keys of the configuration file in camelCase, and BAKEND_<OPTION>),\n"
           "with the default and the range:\n"
           "%.*s"
           "BYTES take B, KB, MB, GB, TB or KiB, MiB, GiB, TiB; TIME takes ms, s, m, h, d or w.\n",
           BK_SLICE_PRINT(bk_buffer_slice(&text)));
    bk_buffer_fini(&text);
}

void cli_print_help(const struct bk_cli_host *host) {
    printf("bakend %s: a backend whose nervous system is an event bus.\n\n"
           "usage: bakend COMMAND [ARGUMENT…] [--data DIR] [--tenant NAME] [--json]\n\nCommands:\n",
           host->version);
    for (size_t i = 0; i < BK_COUNT_OF(own_commands); i++)
        printf("  %-*s %s\n", NAME_COLUMNS, own_commands[i].name, own_commands[i].summary);
    size_t module = 0, index = 0;
    for (const struct bk_command *command; (command = next_command(host, &module, &index));)
        printf("  %-*s %.*s\n", NAME_COLUMNS, command->name, (int)strcspn(command->summary, "\n"),
               command->summary);
    printf("\n`bakend help COMMAND` explains one. Exit codes: 0 done, 1 failed, 2 wrong usage.\n");
}

bool cli_print_command_help(const struct bk_cli_host *host, const char *name) {
    const struct own_command *own = find_own(name);
    const struct bk_command *command = cli_find_command(host, bk_slice_from(name));
    if (own == NULL && command == NULL)
        return false;
    printf("usage: bakend %s\n\n%s\n", own != NULL ? own->usage : command->usage,
           own != NULL ? own->summary : command->summary);
    if (own != NULL && (strcmp(name, "serve") == 0 || strcmp(name, "config") == 0))
        print_options(host);
    return true;
}

void cli_print_unknown_command(const struct bk_cli_host *host, const char *name) {
    fprintf(stderr, "bakend: unknown command %s. There are:", name);
    for (size_t i = 0; i < BK_COUNT_OF(own_commands); i++)
        fprintf(stderr, " %s", own_commands[i].name);
    size_t module = 0, index = 0;
    for (const struct bk_command *command; (command = next_command(host, &module, &index));)
        fprintf(stderr, " %s", command->name);
    fprintf(stderr, "\n");
}
