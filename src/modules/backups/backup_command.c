/*
 * `bakend backup [FILE]`: asks the router for a backup under a name of its own, then takes the file
 * from the tenant's folder, which is on this machine either way. Without FILE it stays there.
 */
#define _GNU_SOURCE 1 /* strerrordesc_np */
#include "backups_private.h"

#include "bakend/clock.h"
#include "bakend/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum { ANSWER_MAX_BYTES = 1024 * 1024, BODY_MAX_BYTES = 1024, STEP_BYTES = 1024 * 1024 };

/* Between two file systems a rename does not do. The target is new: nothing is overwritten. */
static bool copy_across(int source, int target) {
    ssize_t count;
    while ((count = sendfile(target, source, NULL, STEP_BYTES)) > 0)
        continue;
    return count == 0 && fsync(target) == 0;
}

static bool copy_file(const char *from, const char *to) {
    int source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return false;
    int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool is_copied = target >= 0 && copy_across(source, target);
    int reason = errno;
    if (target >= 0)
        close(target);
    close(source);
    if (!is_copied && target >= 0)
        (void)unlink(to);
    errno = reason;
    return is_copied;
}

/* link fails where the target exists, so that an older backup is never lost to a slip. */
static bool move_file(const char *from, const char *to) {
    bool is_there = link(from, to) == 0;
    if (!is_there && errno != EEXIST)
        is_there = copy_file(from, to);
    if (!is_there)
        fprintf(stderr, "bakend: cannot write %s: %s; the backup is at %s\n", to,
                strerrordesc_np(errno), from);
    else
        (void)unlink(from);
    return is_there;
}

/* The sentence of an error answer, for people. */
static void print_refusal(struct bk_slice answer) {
    struct bk_arena arena;
    struct bk_json *root = NULL;
    bk_arena_init(&arena, ANSWER_MAX_BYTES);
    struct bk_slice message = BK_SLICE("the answer cannot be read: see the server's log");
    if (bk_json_parse(&arena, answer, &root, NULL) == BK_OK &&
        bk_json_get_string(root, BK_SLICE("message")).length > 0)
        message = bk_json_get_string(root, BK_SLICE("message"));
    fprintf(stderr, "bakend: the backup failed: %.*s\n", BK_SLICE_PRINT(message));
    bk_arena_fini(&arena);
}

static bool ask(struct bk_command_context *context, const char *key) {
    char body[BODY_MAX_BYTES];
    struct bk_buffer answer;
    int length = snprintf(body, sizeof body, "{\"name\":\"%s\"}", key);
    bk_buffer_init(&answer, ANSWER_MAX_BYTES);
    int status = context->call(context, BK_POST, "/api/backups",
                               bk_slice_make(body, (size_t)length), &answer);
    if (status >= 300)
        print_refusal(bk_buffer_slice(&answer));
    bk_buffer_fini(&answer);
    return status >= 200 && status < 300;
}

static void print_result(const struct bk_command_context *context, const char *path) {
    struct bk_buffer line;
    int64_t size = bk_file_size(path);
    bk_buffer_init(&line, 4 * BACKUPS_PATH_BYTES);
    if (context->is_json) {
        bk_buffer_append_char(&line, '{');
        bk_json_write_member_string(&line, BK_SLICE("file"), bk_slice_from(path));
        bk_json_write_member_int(&line, BK_SLICE("size"), size);
        bk_buffer_append_char(&line, '}');
    } else {
        bk_buffer_format(&line, "%s (%lld bytes)", path, (long long)size);
    }
    printf("%.*s\n", BK_SLICE_PRINT(bk_buffer_slice(&line)));
    bk_buffer_fini(&line);
}

int backups_run_backup(struct bk_command_context *context, int argument_count, char **arguments) {
    char key[BACKUPS_KEY_BYTES_MAX + 1], directory[BACKUPS_PATH_BYTES], path[BACKUPS_PATH_BYTES];
    if (argument_count > 1 || (argument_count == 1 && arguments[0][0] == '-'))
        return 2;
    if (argument_count == 1 && bk_file_exists(arguments[0])) {
        fprintf(stderr, "bakend: %s exists already: give another name\n", arguments[0]);
        return 1;
    }
    int length = snprintf(directory, sizeof directory, "%s/tenants/%.*s", context->data_directory,
                          BK_SLICE_PRINT(context->tenant));
    backups_key_make(key, context->tenant, bk_clock_wall_ms());
    if (length >= BACKUPS_PATH_BYTES ||
        !backups_path(path, directory, "", bk_slice_from(key), "")) {
        fprintf(stderr, "bakend: --data: the path is too long\n");
        return 1;
    }
    if (!ask(context, key))
        return 1;
    const char *result = path;
    if (argument_count == 1) {
        if (!move_file(path, arguments[0]))
            return 1;
        result = arguments[0];
    }
    print_result(context, result);
    return 0;
}
