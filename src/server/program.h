/* The program: one server (or a directory opened for a command) behind the command line. */
#ifndef BAKEND_SERVER_PROGRAM_H
#define BAKEND_SERVER_PROGRAM_H

#include "server.h"

#include "bakend/config.h"

struct program {
    struct bk_config *config;
    struct server_options options;
    struct server server;
    void *module_options[SERVER_MODULES_MAX];
};

/* serve.c: opens, listens, runs until a signal, drains, closes. The exit code. */
int program_serve(void *user);
/* The log level of the options; BK_INVALID. is_command: only warnings, unless the level was asked
 * for. */
enum bk_status program_prepare(struct program *program, bool is_command, struct bk_error *error);

/* doctor.c */
extern const struct bk_command doctor_command;

#endif
