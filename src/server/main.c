/* Declares every option, hands the composition to the command line, and ends with its code. */
#define _GNU_SOURCE 1 /* environ */
#include "process_setup.h"
#include "program.h"

#include "bakend/alloc.h"
#include "bakend/cli.h"
#include <stdio.h>
#include <unistd.h>

#define BAKEND_VERSION "0.1.0"

#define BK_MODULE(name) extern const struct bk_module bk_module_##name;
#include "modules.def"
#undef BK_MODULE

static const struct bk_module *const all_modules[] = {
#define BK_MODULE(name) &bk_module_##name,
#include "modules.def"
#undef BK_MODULE
    NULL,
};

static enum bk_status on_open(void *user, struct bk_error *error) {
    struct program *program = user;
    enum bk_status status = program_prepare(program, true, error);
    return status == BK_OK ? server_open(&program->server, error) : status;
}

static int on_call(void *user, struct bk_slice tenant, enum bk_method method, const char *target,
                   struct bk_slice body, struct bk_buffer *out) {
    struct program *program = user;
    return server_call(&program->server, tenant, method, target, body, out);
}

static void on_close(void *user) {
    struct program *program = user;
    server_close(&program->server);
}

static void declare_options(struct program *program) {
    bk_config_add(program->config, "server", server_option_table, server_option_count,
                  &program->options);
    for (size_t i = 0; all_modules[i] != NULL; i++) {
        BK_ASSERT(i < SERVER_MODULES_MAX);
        const struct bk_module *module = all_modules[i];
        if (module->options_size > 0)
            program->module_options[i] = bk_alloc_zero(module->options_size);
        bk_config_add(program->config, module->name, module->options, module->option_count,
                      program->module_options[i]);
    }
}

static int run(struct program *program, int argument_count, char **arguments) {
    const struct bk_command commands[] = {doctor_command, {0}};
    const struct bk_cli_host host = {.config = program->config,
                                     .config_path = &program->options.config,
                                     .data_directory = &program->options.data,
                                     .modules = all_modules,
                                     .commands = commands,
                                     .version = BAKEND_VERSION,
                                     .user = program,
                                     .serve = program_serve,
                                     .open = on_open,
                                     .call = on_call,
                                     .close = on_close};
    return bk_cli_run(&host, argument_count, arguments, environ);
}

int main(int argument_count, char **arguments) {
    struct bk_error error = BK_ERROR_INIT;
    if (process_setup(&error) != BK_OK) {
        fprintf(stderr, "bakend: %s\n", error.message);
        return 1;
    }
    struct program *program = bk_alloc_zero(sizeof *program);
    program->config = bk_config_create();
    program->server.options = &program->options;
    program->server.modules = all_modules;
    program->server.module_options = program->module_options;
    declare_options(program);
    int code = run(program, argument_count, arguments);
    bk_config_destroy(program->config);
    for (size_t i = 0; i < SERVER_MODULES_MAX; i++)
        bk_free(program->module_options[i]);
    bk_free(program);
    return code;
}
