/*
 * Bakend with one more module, `bench`: tasks that do nothing, so that what is measured beside them
 * is the work itself.
 *
 *   work_server serve …            as bakend
 *   POST /api/bench/tasks/{count}  adds so many, at most ADDED_MAX, in one write; superusers
 */
#define _GNU_SOURCE 1 /* environ */
#include "server/process_setup.h"
#include "server/program.h"

#include "bakend/alloc.h"
#include "bakend/cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ADDED_MAX = 10 * 1000 };

/* --- the module ------------------------------------------------------------------------------- */

static void on_task(struct bk_work_task *task, void *user) {
    (void)user;
    bk_work_done(task, BK_SLICE_EMPTY);
}

static const struct bk_work_kind kinds[] = {
    {.name = "bench", .lane = {.running_max = 256}, .on_task = on_task},
};

struct addition {
    struct bk_write write;
    struct bk_request *request;
    struct bk_work *work;
    long count;
};

static enum bk_status run_add(struct bk_transaction *transaction, struct bk_write *write) {
    const struct addition *addition = bk_container_of(write, struct addition, write);
    const struct bk_work_draft draft = {.kind = "bench", .payload = BK_SLICE("{\"number\":1}")};
    enum bk_status status = BK_OK;
    for (long i = 0; i < addition->count && status == BK_OK; i++)
        status = bk_work_add(addition->work, transaction, &draft, NULL);
    return status;
}

static void on_added(struct bk_write *write, enum bk_status status) {
    struct bk_request *request = bk_container_of(write, struct addition, write)->request;
    if (status == BK_OK)
        bk_answer_empty(request);
    else
        bk_answer_error(request, status, NULL);
}

static void handle_add(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct bk_slice text = bk_request_parameter(request, BK_SLICE("count"));
    struct addition *addition = bk_arena_alloc_zero(&request->arena, sizeof *addition);
    char room[16] = {0};
    memcpy(room, text.data, text.length < sizeof room ? text.length : sizeof room - 1);
    addition->count = strtol(room, NULL, 10);
    addition->request = request;
    addition->work = context->work;
    addition->write = (struct bk_write){.run = run_add, .done = on_added};
    enum bk_status status = addition->count < 1 || addition->count > ADDED_MAX ? BK_INVALID : BK_OK;
    if (status == BK_OK)
        status = bk_store_write(request->tenant->database, &addition->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

static const struct bk_route routes[] = {
    {.method = BK_POST,
     .path = "/api/bench/tasks/{count}",
     .access = BK_ACCESS_SUPERUSER,
     .summary = "Adds tasks that do nothing.",
     .tag = "bench",
     .handle = handle_add},
};

static const struct bk_module bench_module = {
    .name = "bench",
    .summary = "Tasks that do nothing.",
    .routes = routes,
    .route_count = BK_COUNT_OF(routes),
    .work_kinds = kinds,
    .work_kind_count = BK_COUNT_OF(kinds),
};

/* --- the program ------------------------------------------------------------------------------ */

#define BK_MODULE(name) extern const struct bk_module bk_module_##name;
#include "modules/modules.def"
#undef BK_MODULE

static const struct bk_module *const all_modules[] = {
#define BK_MODULE(name) &bk_module_##name,
#include "modules/modules.def"
#undef BK_MODULE
    &bench_module,
    NULL,
};

static void declare_options(struct program *program) {
    bk_config_add(program->config, "server", server_option_table, server_option_count,
                  &program->options);
    for (size_t i = 0; all_modules[i] != NULL; i++) {
        const struct bk_module *module = all_modules[i];
        if (module->options_size > 0)
            program->module_options[i] = bk_alloc_zero(module->options_size);
        bk_config_add(program->config, module->name, module->options, module->option_count,
                      program->module_options[i]);
    }
}

static int serve(struct program *program, int argument_count, char **arguments) {
    const struct bk_command commands[] = {{0}};
    const struct bk_cli_host host = {.config = program->config,
                                     .config_path = &program->options.config,
                                     .data_directory = &program->options.data,
                                     .modules = all_modules,
                                     .commands = commands,
                                     .version = "bench",
                                     .user = program,
                                     .serve = program_serve};
    return bk_cli_run(&host, argument_count, arguments, environ);
}

int main(int argument_count, char **arguments) {
    struct bk_error error = BK_ERROR_INIT;
    if (process_setup(&error) != BK_OK) {
        (void)fprintf(stderr, "work_server: %s\n", error.message);
        return 1;
    }
    struct program *program = bk_alloc_zero(sizeof *program);
    program->config = bk_config_create();
    program->server.options = &program->options;
    program->server.modules = all_modules;
    program->server.module_options = program->module_options;
    declare_options(program);
    int code = serve(program, argument_count, arguments);
    bk_config_destroy(program->config);
    for (size_t i = 0; i < SERVER_MODULES_MAX; i++)
        bk_free(program->module_options[i]);
    bk_free(program);
    return code;
}
