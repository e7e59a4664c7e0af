/*
 * The command line: `bakend COMMAND [argument…] [--option value…]`.
 *
 * serve, config, version and help are the program's own; all others are rows that modules (and the
 * server) bring. A command reaches the data through the router only. Where a server runs on the
 * data directory its calls go over the control socket, else this process opens the directory
 * itself, with the first call, and closes it in order at the end: one process alone ever opens the
 * database.
 *
 * Exit codes: 0 done, 1 failed (the message says what to do next), 2 wrong usage.
 */
#ifndef BAKEND_CLI_H
#define BAKEND_CLI_H

#include "bakend/config.h"
#include "bakend/module.h"

/* What the composition gives the command line. All members are set; texts are read when used. */
struct bk_cli_host {
    struct bk_config *config; /* all options declared, nothing read yet */
    const char *const *config_path;
    const char *const *data_directory;
    const struct bk_module *const *modules; /* ended by NULL */
    const struct bk_command *commands;      /* of the program itself; ended by a NULL name */
    const char *version;
    void *user;
    /* Runs the server until it is told to stop; the exit code. */
    int (*serve)(void *user);
    /* Opens the data directory in this process, without a listener. Never after a failure. */
    enum bk_status (*open)(void *user, struct bk_error *error);
    /* As bk_command_context.call, between open and close. */
    int (*call)(void *user, struct bk_slice tenant, enum bk_method method, const char *target,
                struct bk_slice body, struct bk_buffer *out);
    void (*close)(void *user);
};

/* Returns the exit code. arguments are changed in place. */
int bk_cli_run(const struct bk_cli_host *host, int argument_count, char **arguments,
               char *const *environment);

#endif
