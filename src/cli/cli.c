/* From the command line to one function: options first, then the command. Help and the version work
 * without reading any option, so a broken configuration cannot hide them. */
#include "cli_private.h"

#include <stdio.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, PRINTED_MAX_BYTES = 1024 * 1024 };

static int refuse(const struct bk_error *error) {
    fprintf(stderr, "bakend: %s\n", error->message);
    return EXIT_USAGE;
}

/* The file named by --config; the default one may be missing. */
static enum bk_status read_file(const struct bk_cli_host *host, struct bk_error *error) {
    const char *path = *host->config_path;
    if (path == NULL || path[0] == '\0')
        return BK_OK;
    enum bk_status status = bk_config_read_file(host->config, path, error);
    if (status == BK_NOT_FOUND && bk_config_origin(host->config, "config") == BK_CONFIG_DEFAULT)
        return BK_OK;
    if (status == BK_NOT_FOUND)
        return bk_error_set(error, status,
                            "--config: there is no file %s: name one that exists, or leave the "
                            "option out",
                            path);
    return status;
}

static int print_config(const struct bk_cli_host *host, bool is_json) {
    struct bk_buffer text;
    bk_buffer_init(&text, PRINTED_MAX_BYTES);
    if (is_json)
        bk_config_write_json(host->config, &text);
    else
        bk_config_write_text(host->config, &text);
    size_t written = fwrite(text.data, 1, text.length, stdout);
    bool is_written = written == text.length && fflush(stdout) == 0;
    bk_buffer_fini(&text);
    return is_written ? EXIT_DONE : EXIT_FAILED;
}

static int print_help(const struct bk_cli_host *host, const char *name) {
    if (name == NULL) {
        cli_print_help(host);
        return EXIT_DONE;
    }
    if (cli_print_command_help(host, name))
        return EXIT_DONE;
    cli_print_unknown_command(host, name);
    return EXIT_USAGE;
}

/* serve and config take options only. */
static int run_own(const struct bk_cli_host *host, const struct cli_invocation *invocation,
                   bool is_serve) {
    struct bk_error error = BK_ERROR_INIT;
    if (invocation->argument_count > 0) {
        const char *argument = invocation->arguments[0];
        if (argument[0] == '-')
            bk_config_refuse_flag(host->config, argument, &error);
        else
            bk_error_set(&error, BK_INVALID, "unexpected argument %s: see bakend help %s", argument,
                         invocation->command);
        return refuse(&error);
    }
    return is_serve ? host->serve(host->user) : print_config(host, invocation->is_json);
}

/* True when the command line asks for words only; *code is the exit code. */
static bool answer_plainly(const struct bk_cli_host *host, const struct cli_invocation *invocation,
                           int *code) {
    const char *command = invocation->command;
    bool is_help = command != NULL && strcmp(command, "help") == 0;
    if (is_help || invocation->wants_help) {
        const char *topic = command;
        if (is_help)
            topic = invocation->argument_count > 0 ? invocation->arguments[0] : NULL;
        *code = print_help(host, topic);
        return true;
    }
    if (invocation->wants_version || (command != NULL && strcmp(command, "version") == 0)) {
        printf("bakend %s\n", host->version);
        *code = EXIT_DONE;
        return true;
    }
    return false;
}

static int run_command(const struct bk_cli_host *host, const struct cli_invocation *invocation) {
    const char *name = invocation->command;
    bool is_serve = strcmp(name, "serve") == 0;
    if (is_serve || strcmp(name, "config") == 0)
        return run_own(host, invocation, is_serve);
    const struct bk_command *command = cli_find_command(host, bk_slice_from(name));
    BK_ASSERT(command != NULL);
    return cli_run_command(host, command, invocation);
}

static bool command_exists(const struct bk_cli_host *host, const char *name) {
    return strcmp(name, "serve") == 0 || strcmp(name, "config") == 0 ||
           cli_find_command(host, bk_slice_from(name)) != NULL;
}

/* Without a command: what the words are, for who does not know them yet. */
static int refuse_without_command(const struct bk_cli_host *host,
                                  const struct cli_invocation *invocation) {
    struct bk_error error = BK_ERROR_INIT;
    if (invocation->argument_count > 0) {
        bk_config_refuse_flag(host->config, invocation->arguments[0], &error);
        return refuse(&error);
    }
    fprintf(stderr, "bakend: a command is missing: `bakend serve` starts the server, `bakend help` "
                    "lists the others\n");
    return EXIT_USAGE;
}

int bk_cli_run(const struct bk_cli_host *host, int argument_count, char **arguments,
               char *const *environment) {
    BK_ASSERT(argument_count >= 1);
    struct bk_error error = BK_ERROR_INIT;
    struct cli_invocation invocation;
    int count = argument_count - 1, code = 0;
    if (bk_config_read_flags(host->config, &count, arguments + 1, &error) != BK_OK ||
        cli_invocation_read(&invocation, count, arguments + 1, &error) != BK_OK)
        return refuse(&error);
    if (answer_plainly(host, &invocation, &code))
        return code;
    if (invocation.command == NULL)
        return refuse_without_command(host, &invocation);
    if (!command_exists(host, invocation.command)) {
        cli_print_unknown_command(host, invocation.command);
        return EXIT_USAGE;
    }
    if (bk_config_read_environment(host->config, environment, &error) != BK_OK ||
        read_file(host, &error) != BK_OK)
        return refuse(&error);
    return run_command(host, &invocation);
}
