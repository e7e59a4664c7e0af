/*
 * Commands of modules: `bakend NAME …`. A command talks to the server by the router only: over the
 * control socket where one runs on the data directory, else in a process that opens the directory
 * itself, without a listener.
 */
#ifndef BAKEND_COMMAND_H
#define BAKEND_COMMAND_H

#include "bakend/api.h"

struct bk_command_context {
    const char *data_directory;
    bool is_json;           /* --json */
    bool is_running;        /* a server has the directory */
    bool is_patient;        /* set by a command that calls again: no server is no message */
    struct bk_slice tenant; /* --tenant; "default" */
    /* Returns the HTTP status, or -1 with a message on standard error. The answer is appended to
     * out. */
    int (*call)(struct bk_command_context *context, enum bk_method method, const char *target,
                struct bk_slice body, struct bk_buffer *out);
    /* A password: prompted on a terminal, else one line of standard input. False: none was
     * given. */
    bool (*read_password)(struct bk_command_context *context, struct bk_buffer *out);
    void *user;
};

struct bk_command {
    const char *name;    /* "superuser" */
    const char *usage;   /* "superuser create|update|delete|list|token EMAIL" */
    const char *summary; /* a sentence; what follows an empty line is for `bakend help COMMAND` */
    /* arguments after the name, options of the program already taken out. 0 done, 1 failed, 2
     * usage. */
    int (*run)(struct bk_command_context *context, int argument_count, char **arguments);
    /* Works on files, not through the router: refused while a server runs. No command makes the
     * data directory, so that a slip in --data leaves nothing; this kind may begin one in an empty
     * directory, and takes back what it made there when it fails. */
    bool needs_stopped;
};

/* The value of "--name VALUE" or "--name=VALUE" at *index, which is moved to the last argument of
 * it. NULL: it is another argument, or has no value, which is said on standard error. */
const char *bk_command_flag_value(const char *name, int *index, int argument_count,
                                  char **arguments);

#endif
