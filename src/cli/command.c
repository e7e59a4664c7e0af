/*
 * Runs one command of a module. The context's calls go to the server that runs on the data
 * directory; without one the directory is opened in this process with the first call. A command
 * that works on files (needs_stopped) holds the directory's lock meanwhile, so no server can start
 * under it; it makes no directory either, and may begin a new one only where an empty one stands.
 */
#include "cli_private.h"

#include "bakend/file.h"
#include <stdio.h>
#include <unistd.h>

struct command_run {
    struct bk_command_context context;
    const struct bk_cli_host *host;
    bool is_open, has_failed;
};

static int call_server(struct command_run *run, const struct control_request *request,
                       struct bk_buffer *out) {
    struct bk_error error = BK_ERROR_INIT;
    int descriptor = control_client_connect(run->context.data_directory);
    if (descriptor < 0) {
        if (!run->context.is_patient)
            fprintf(stderr, "bakend: the server on %s has stopped; run the command again\n",
                    run->context.data_directory);
        return -1;
    }
    int status = control_client_call(descriptor, request, out, &error);
    if (status < 0 && !run->context.is_patient)
        fprintf(stderr, "bakend: %s\n", error.message);
    return status;
}

/* Only the server makes a data directory; the key is the first thing in it. */
static bool has_data_directory(const char *data_directory) {
    char path[4096];
    if (bk_path_join(path, sizeof path, data_directory, "instance.key") && bk_file_exists(path))
        return true;
    if (bk_path_join(path, sizeof path, data_directory, "tenants") && bk_file_exists(path))
        fprintf(stderr,
                "bakend: %s has no instance.key: put the file back from a copy, or start the "
                "server, which makes a new one (tokens made with the old one end)\n",
                data_directory);
    else
        fprintf(stderr,
                "bakend: no data directory at %s: name it with --data, or start the server, which "
                "makes one\n",
                data_directory);
    return false;
}

static bool open_directory(struct command_run *run) {
    if (run->is_open || run->has_failed)
        return run->is_open;
    struct bk_error error = BK_ERROR_INIT;
    run->has_failed = !has_data_directory(run->context.data_directory);
    if (run->has_failed)
        return false;
    run->is_open = run->host->open(run->host->user, &error) == BK_OK;
    run->has_failed = !run->is_open;
    if (run->has_failed)
        fprintf(stderr, "bakend: %s\n", error.message);
    return run->is_open;
}

static int on_call(struct bk_command_context *context, enum bk_method method, const char *target,
                   struct bk_slice body, struct bk_buffer *out) {
    struct command_run *run = context->user;
    struct control_request request = {
        .method = method, .target = target, .tenant = context->tenant, .body = body};
    if (context->is_running)
        return call_server(run, &request, out);
    if (!open_directory(run))
        return -1;
    return run->host->call(run->host->user, context->tenant, method, target, body, out);
}

static bool on_read_password(struct bk_command_context *context, struct bk_buffer *out) {
    (void)context;
    return cli_read_password(out);
}

static bool server_runs(const char *data_directory) {
    int descriptor = control_client_connect(data_directory);
    if (descriptor >= 0)
        close(descriptor);
    return descriptor >= 0;
}

/* --- commands that work on files -------------------------------------------------------------- */

struct place {
    bool is_data, is_used;
};

static void on_entry(void *user, const char *name, bool is_directory) {
    struct place *place = user;
    (void)is_directory;
    place->is_used = true;
    if (strcmp(name, "instance.key") == 0 || strcmp(name, "tenants") == 0)
        place->is_data = true;
}

/* A slip in --data must not become a directory, nor may a directory of something else become
 * ours. */
static enum bk_status check_place(const char *path, bool *is_empty, struct bk_error *error) {
    struct place place = {0};
    enum bk_status status;
    if (!bk_file_exists(path))
        return bk_error_set(error, BK_NOT_FOUND,
                            "there is no directory %s: name the data directory with --data; to "
                            "begin a new one there, make the empty directory first",
                            path);
    status = bk_directory_list(path, on_entry, &place, error);
    if (status == BK_OK && place.is_used && !place.is_data)
        status = bk_error_set(error, BK_INVALID,
                              "%s is not a data directory: name it with --data; to begin a new "
                              "one, name an empty directory",
                              path);
    *is_empty = !place.is_used;
    return status;
}

/* The lock for a command that works on files; -1 with a message. */
static int lock_directory(const char *data_directory, char *path, size_t path_bytes,
                          bool *was_empty) {
    struct bk_error error = BK_ERROR_INIT;
    int descriptor = -1;
    if (!bk_path_join(path, path_bytes, data_directory, "lock"))
        bk_error_set(&error, BK_INVALID, "the path %s is too long", data_directory);
    else if (check_place(data_directory, was_empty, &error) == BK_OK &&
             bk_file_lock(path, &descriptor, &error) == BK_OK)
        return descriptor;
    fprintf(stderr, "bakend: %s\n", error.message);
    return -1;
}

static int run_with_lock(struct command_run *run, const struct bk_command *command,
                         const struct cli_invocation *invocation) {
    if (run->context.is_running) {
        fprintf(stderr, "bakend: a server runs on %s: stop it first, then run `bakend %s` again\n",
                run->context.data_directory, command->name);
        return 1;
    }
    char path[4096];
    bool was_empty = false;
    int lock = lock_directory(run->context.data_directory, path, sizeof path, &was_empty);
    if (lock < 0)
        return 1;
    int code = command->run(&run->context, invocation->argument_count, invocation->arguments);
    if (code != 0 && was_empty)
        (void)bk_file_remove(path, NULL);
    bk_file_unlock(lock);
    return code;
}

/* --- slips ------------------------------------------------------------------------------------ */

enum { FLAG_BYTES_MAX = 40, SLIPS_MAX = 2 };

/* How many letters have to be put in, left out or replaced. */
static size_t distance_of(struct bk_slice one, struct bk_slice other) {
    size_t row[FLAG_BYTES_MAX + 1];
    if (one.length > FLAG_BYTES_MAX || other.length > FLAG_BYTES_MAX)
        return FLAG_BYTES_MAX;
    for (size_t j = 0; j <= other.length; j++)
        row[j] = j;
    for (size_t i = 1; i <= one.length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= other.length; j++) {
            size_t above = row[j], best = diagonal + (one.data[i - 1] != other.data[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
        }
    }
    return row[other.length];
}

/* The next flag of a usage; empty at its end. */
static struct bk_slice next_flag(const char **usage) {
    const char *start = strstr(*usage, "--");
    if (start == NULL)
        return BK_SLICE_EMPTY;
    size_t length = 2 + strspn(start + 2, "abcdefghijklmnopqrstuvwxyz-");
    *usage = start + length;
    return bk_slice_make(start, length);
}

static struct bk_slice nearest_flag(const struct bk_command *command, struct bk_slice flag) {
    struct bk_slice nearest = BK_SLICE_EMPTY, each;
    const char *rest = command->usage;
    size_t least = SLIPS_MAX + 1;
    while ((each = next_flag(&rest)).length > 0) {
        size_t distance = distance_of(flag, each);
        if (distance < least) {
            least = distance;
            nearest = each;
        }
    }
    return nearest;
}

/* The command's own flags first, then the options that all take. */
static void explain_flag(const struct bk_cli_host *host, const struct bk_command *command,
                         const char *argument) {
    struct bk_error error = BK_ERROR_INIT;
    struct bk_slice flag = bk_slice_from(argument);
    flag.length = bk_slice_find(flag, '=');
    struct bk_slice nearest = nearest_flag(command, flag);
    if (bk_slice_equal(nearest, flag))
        return;
    bk_config_refuse_flag(host->config, argument, &error);
    if (nearest.length > 0)
        bk_error_set(&error, BK_INVALID,
                     "unknown option %.*s: did you mean %.*s? See `bakend help %s`",
                     BK_SLICE_PRINT(flag), BK_SLICE_PRINT(nearest), command->name);
    else if (strstr(error.message, "did you mean") == NULL)
        bk_error_set(&error, BK_INVALID, "unknown option %.*s: see `bakend help %s`",
                     BK_SLICE_PRINT(flag), command->name);
    fprintf(stderr, "bakend: %s\n", error.message);
}

/* A flag that is neither an option nor in the command's usage is a slip. */
static void explain_unknown_flags(const struct bk_cli_host *host, const struct bk_command *command,
                                  const struct cli_invocation *invocation) {
    for (int i = 0; i < invocation->argument_count; i++)
        if (strncmp(invocation->arguments[i], "--", 2) == 0)
            explain_flag(host, command, invocation->arguments[i]);
}

/* --- running ---------------------------------------------------------------------------------- */

int cli_run_command(const struct bk_cli_host *host, const struct bk_command *command,
                    const struct cli_invocation *invocation) {
    struct command_run run = {.host = host};
    const char *tenant = invocation->tenant != NULL ? invocation->tenant : "default";
    run.context = (struct bk_command_context){.data_directory = *host->data_directory,
                                              .is_json = invocation->is_json,
                                              .is_running = server_runs(*host->data_directory),
                                              .tenant = bk_slice_from(tenant),
                                              .call = on_call,
                                              .read_password = on_read_password,
                                              .user = &run};
    int code;
    if (command->needs_stopped)
        code = run_with_lock(&run, command, invocation);
    else
        code = command->run(&run.context, invocation->argument_count, invocation->arguments);
    if (run.is_open)
        host->close(host->user);
    if (code == 2)
        explain_unknown_flags(host, command, invocation);
    if (code == 2)
        fprintf(stderr, "usage: bakend %s\n", command->usage);
    return code;
}
