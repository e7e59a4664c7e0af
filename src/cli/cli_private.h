/* What the files of this folder share. */
#ifndef BAKEND_CLI_PRIVATE_H
#define BAKEND_CLI_PRIVATE_H

#include "bakend/cli.h"

/* What the command line says beside the command and the options. */
struct cli_invocation {
    const char *command; /* NULL: none was given */
    const char *tenant;  /* NULL: not named */
    bool is_json, wants_help, wants_version;
    int argument_count; /* after the command */
    char **arguments;
};

/* arguments.c: what is left once the configuration took its flags. BK_INVALID. */
enum bk_status cli_invocation_read(struct cli_invocation *invocation, int argument_count,
                                   char **arguments, struct bk_error *error);

/* help.c */
const struct bk_command *cli_find_command(const struct bk_cli_host *host, struct bk_slice name);
void cli_print_help(const struct bk_cli_host *host);
/* False when there is no such command. */
bool cli_print_command_help(const struct bk_cli_host *host, const char *name);
void cli_print_unknown_command(const struct bk_cli_host *host, const char *name);

/* command.c: runs a module's command; the exit code. */
int cli_run_command(const struct bk_cli_host *host, const struct bk_command *command,
                    const struct cli_invocation *invocation);

/* control_client.c: the socket of the server that runs on the directory, or -1 when none does. */
int control_client_connect(const char *data_directory);
struct control_request {
    enum bk_method method;
    const char *target;
    struct bk_slice tenant; /* empty: not named */
    struct bk_slice body;
};
/* One request on a connection of its own, which it closes. The answer's body is appended to out.
 * Returns the HTTP status, or -1 with the reason in error. */
int control_client_call(int descriptor, const struct control_request *request,
                        struct bk_buffer *out, struct bk_error *error);
/* The parser of answers, apart from the socket: reads the head of `text`. False while it is
 * incomplete or when it is none (error set). */
struct control_answer {
    int status;
    int64_t content_length; /* -1: not given */
    bool is_chunked;
    size_t head_length; /* with the empty line */
};
bool control_answer_read_head(struct control_answer *answer, struct bk_slice text,
                              struct bk_error *error);
/* Takes the chunks apart into out. BK_END when the last chunk was seen, BK_OK when more must come.
 */
enum bk_status control_answer_read_chunks(struct bk_slice text, struct bk_buffer *out,
                                          struct bk_error *error);

/* password.c */
bool cli_read_password(struct bk_buffer *out);

#endif
