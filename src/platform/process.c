/*
 * A child process and its three pipes.
 *
 *   running ──child exits──▶ exited ──both outputs ended──▶ ended (on_exit) ──close──▶ freed
 *      └──────────────────────── close ───▶ silenced, killed, reaped ──────────────────▶ freed
 *
 * Order: on_exit waits for the end of both outputs, so that no line comes after it. A grandchild
 * may hold them open for ever, so the child leads a process group of its own, which is killed as a
 * whole once the child is gone, and OUTPUT_GRACE_MS later the outputs count as ended.
 *
 * Input: writes gather in a buffer which is sent once at the end of the turn, so that many small
 * messages are one system call; at most INPUT_MAX_BYTES wait. What the kernel does not take at once
 * goes out by one uv_write at a time, while the next bytes gather in the other buffer.
 *
 * A child that is closed while it runs stays in the loop, unseen, until it is reaped: a libuv
 * handle closed earlier would leave a zombie.
 *
 * When this process dies without a chance to close its children (SIGKILL), their input ends, and a
 * child is to end with it. The parent cannot ask the kernel for a signal in the child's name
 * through uv_spawn; our own children do so themselves (PR_SET_PDEATHSIG) when they start.
 */
#define _GNU_SOURCE 1 /* close_range */
#include "bakend/process.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/buffer.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum {
    READ_BYTES = 16384,
    INPUT_MAX_BYTES = 1024 * 1024,
    OUTPUT_GRACE_MS = 1000,
    FIRST_INHERITED = 3 /* the first descriptor that is not one of the pipes */
};

struct process_output {
    struct bk_process *process;
    uv_pipe_t pipe;
    bool is_error, is_ended;
    struct bk_buffer line; /* the beginning of a line whose end has not come yet */
    char bytes[READ_BYTES];
};

struct bk_process {
    struct bk_loop *loop;
    struct bk_process_options options; /* callbacks and user; the strings are not kept */
    uv_process_t child;
    uint32_t open_handle_count;
    bool has_exited, has_reported, is_closing;
    int64_t exit_code;
    int signal_number;
    struct bk_timer *grace; /* runs between exit and the end of the outputs */

    uv_pipe_t input;
    uv_write_t write;
    struct bk_task flush;
    struct bk_buffer gathering, sending;
    size_t sending_offset;
    bool is_writing, is_input_ending, is_input_closed;

    struct process_output outputs[2];
};

/* --- handles ---------------------------------------------------------------------------------- */

static void release(struct bk_process *process) {
    BK_ASSERT(process->open_handle_count == 0);
    BK_ASSERT(!bk_task_is_waiting(&process->flush));
    bk_buffer_fini(&process->gathering);
    bk_buffer_fini(&process->sending);
    for (size_t i = 0; i < BK_COUNT_OF(process->outputs); i++)
        bk_buffer_fini(&process->outputs[i].line);
    bk_free(process);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct bk_process *process = handle->data;
    BK_ASSERT(process->open_handle_count > 0);
    process->open_handle_count--;
    if (process->open_handle_count == 0 && process->is_closing)
        release(process);
}

static void close_handle(uv_handle_t *handle) {
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static void open_pipe(struct bk_process *process, uv_pipe_t *pipe) {
    BK_ASSERT(uv_pipe_init(bk_loop_uv(process->loop), pipe, 0) == 0);
    pipe->data = process;
    process->open_handle_count++;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* May be the last that is seen of the process: callers do not touch it afterwards. It is not freed
 * inside, since each caller is the callback of a handle that has just begun to close. */
static void report_if_ended(struct bk_process *process) {
    if (!process->has_exited || !process->outputs[0].is_ended || !process->outputs[1].is_ended)
        return;
    if (process->has_reported || process->is_closing)
        return;
    process->has_reported = true;
    bk_timer_close(process->grace);
    process->grace = NULL;
    if (process->options.on_exit != NULL)
        process->options.on_exit(process->options.user, process->exit_code, process->signal_number);
}

static void stop_input(struct bk_process *process) {
    bk_task_cancel(&process->flush);
    process->is_input_closed = true;
    close_handle((uv_handle_t *)&process->input);
}

static void deliver_line(struct process_output *output, struct bk_slice line) {
    struct bk_process *process = output->process;
    if (!process->is_closing && process->options.on_line != NULL)
        process->options.on_line(process->options.user, output->is_error, line);
}

/* A last line without an end is a line. */
static void end_output(struct process_output *output) {
    if (output->is_ended)
        return;
    if (output->line.length > 0)
        deliver_line(output, bk_buffer_slice(&output->line));
    bk_buffer_clear(&output->line);
    output->is_ended = true;
    close_handle((uv_handle_t *)&output->pipe);
}

static void on_grace_over(struct bk_timer *timer, void *user) {
    struct bk_process *process = user;
    (void)timer;
    end_output(&process->outputs[0]);
    end_output(&process->outputs[1]);
    report_if_ended(process);
}

static void on_child_exit(uv_process_t *child, int64_t exit_status, int term_signal) {
    struct bk_process *process = child->data;
    process->has_exited = true;
    process->exit_code = term_signal != 0 ? -1 : exit_status;
    process->signal_number = term_signal;
    /* What it left behind in its group goes with it; there is usually nothing. */
    (void)kill(-child->pid, SIGKILL);
    close_handle((uv_handle_t *)child);
    stop_input(process);
    if (process->is_closing)
        return;
    process->grace = bk_timer_create(process->loop, on_grace_over, process);
    bk_timer_start(process->grace, OUTPUT_GRACE_MS, 0);
    report_if_ended(process);
}

/* --- output ----------------------------------------------------------------------------------- */

static void on_allocate(uv_handle_t *handle, size_t suggested_bytes, uv_buf_t *out) {
    uv_pipe_t *pipe = (uv_pipe_t *)handle;
    struct process_output *output = bk_container_of(pipe, struct process_output, pipe);
    (void)suggested_bytes;
    *out = uv_buf_init(output->bytes, sizeof(output->bytes));
}

/* Keeps what fits; the rest of a line that is too long is not wanted. */
static void append_to_line(struct process_output *output, struct bk_slice part) {
    size_t room = output->line.max_bytes - output->line.length;
    bk_buffer_append(&output->line, part.data, part.length < room ? part.length : room);
}

static void end_line(struct process_output *output, struct bk_slice part) {
    if (output->line.length > 0) {
        append_to_line(output, part);
        deliver_line(output, bk_buffer_slice(&output->line));
        bk_buffer_clear(&output->line);
        return;
    }
    if (part.length > output->line.max_bytes)
        part.length = output->line.max_bytes;
    deliver_line(output, part);
}

static void split_lines(struct process_output *output, struct bk_slice rest) {
    while (rest.length > 0 && !output->process->is_closing) {
        size_t end = bk_slice_find(rest, '\n');
        if (end == rest.length) {
            append_to_line(output, rest);
            return;
        }
        end_line(output, bk_slice_make(rest.data, end));
        rest = bk_slice_make(rest.data + end + 1, rest.length - end - 1);
    }
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer) {
    uv_pipe_t *pipe = (uv_pipe_t *)stream;
    struct process_output *output = bk_container_of(pipe, struct process_output, pipe);
    if (length > 0) {
        split_lines(output, bk_slice_make(buffer->base, (size_t)length));
    } else if (length < 0) {
        end_output(output);
        report_if_ended(output->process);
    }
}

/* --- input ------------------------------------------------------------------------------------ */

static void send_input(struct bk_process *process);

static void on_written(uv_write_t *write, int result) {
    struct bk_process *process = write->data;
    process->is_writing = false;
    bk_buffer_clear(&process->sending);
    if (process->is_input_closed)
        return;
    if (result < 0)
        stop_input(process);
    else
        send_input(process);
}

static void swap_buffers(struct bk_process *process) {
    struct bk_buffer full = process->gathering;
    process->gathering = process->sending;
    process->sending = full;
    bk_buffer_clear(&process->gathering);
}

/* Hands the rest of what is sent to libuv; it is ours again in on_written. */
static void send_rest(struct bk_process *process, size_t offset) {
    uv_buf_t rest = uv_buf_init(process->sending.data + offset,
                                (unsigned int)(process->sending.length - offset));
    process->write.data = process;
    if (uv_write(&process->write, (uv_stream_t *)&process->input, &rest, 1, on_written) == 0)
        process->is_writing = true;
    else
        stop_input(process);
}

/* A child that no longer reads gets no input; that it ends is told by its exit, not from here. */
static void send_input(struct bk_process *process) {
    uv_buf_t all;
    int sent;
    BK_ASSERT(!process->is_writing && !process->is_input_closed);
    if (process->gathering.length > 0) {
        swap_buffers(process);
        all = uv_buf_init(process->sending.data, (unsigned int)process->sending.length);
        sent = uv_try_write((uv_stream_t *)&process->input, &all, 1);
        if (sent < 0 && sent != UV_EAGAIN)
            stop_input(process);
        else if (sent < 0 || (size_t)sent < process->sending.length)
            send_rest(process, sent < 0 ? 0 : (size_t)sent);
        else
            bk_buffer_clear(&process->sending);
    }
    if (process->is_input_ending && !process->is_writing && !process->is_input_closed)
        stop_input(process);
}

static void on_flush(struct bk_task *task) {
    struct bk_process *process = bk_container_of(task, struct bk_process, flush);
    if (!process->is_writing && !process->is_input_closed)
        send_input(process);
}

enum bk_status bk_process_write(struct bk_process *process, struct bk_slice data) {
    size_t waiting_bytes = process->gathering.length + process->sending.length;
    BK_ASSERT(!process->is_closing);
    if (process->is_input_ending || process->is_input_closed)
        return BK_CLOSING;
    if (data.length > INPUT_MAX_BYTES - waiting_bytes)
        return BK_BUSY;
    bk_buffer_append_slice(&process->gathering, data);
    BK_ASSERT(!process->gathering.is_overflown);
    bk_loop_defer(process->loop, &process->flush);
    return BK_OK;
}

void bk_process_close_input(struct bk_process *process) {
    if (process->is_input_ending || process->is_input_closed)
        return;
    process->is_input_ending = true;
    bk_loop_defer(process->loop, &process->flush);
}

/* --- life cycle ------------------------------------------------------------------------------- */

static size_t count_strings(char *const *strings) {
    size_t count = 0;
    while (strings != NULL && strings[count] != NULL)
        count++;
    return count;
}

/* libuv wants the list writable; it does not write. */
static char **copy_list(char *const *strings) {
    size_t count = count_strings(strings);
    char **copy = bk_alloc_zero((count + 1) * sizeof(*copy));
    for (size_t i = 0; i < count; i++)
        copy[i] = strings[i];
    return copy;
}

/* Descriptors that a library opened without O_CLOEXEC. Closing on exec does not touch this
 * process. */
static void keep_descriptors_from_children(void) {
    DIR *directory;
    struct dirent *entry;
    if (close_range(FIRST_INHERITED, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
    directory = opendir("/proc/self/fd"); /* a kernel before 5.11 */
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        int64_t descriptor;
        if (bk_slice_to_int64(bk_slice_from(entry->d_name), &descriptor) &&
            descriptor >= FIRST_INHERITED)
            (void)fcntl((int)descriptor, F_SETFD, FD_CLOEXEC);
    }
    if (directory != NULL)
        (void)closedir(directory);
}

static struct bk_process *create(struct bk_loop *loop, const struct bk_process_options *options) {
    struct bk_process *process = bk_alloc_zero(sizeof(*process));
    process->loop = loop;
    process->options = *options;
    process->child.data = process;
    bk_task_init(&process->flush, on_flush);
    bk_buffer_init(&process->gathering, INPUT_MAX_BYTES);
    bk_buffer_init(&process->sending, INPUT_MAX_BYTES);
    open_pipe(process, &process->input);
    for (size_t i = 0; i < BK_COUNT_OF(process->outputs); i++) {
        process->outputs[i].process = process;
        process->outputs[i].is_error = i == 1;
        bk_buffer_init(&process->outputs[i].line, options->line_max_bytes);
        open_pipe(process, &process->outputs[i].pipe);
    }
    return process;
}

static int spawn(struct bk_process *process, const struct bk_process_options *options) {
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&process->input},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&process->outputs[0].pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&process->outputs[1].pipe}};
    char **arguments = copy_list(options->arguments),
         **environment = copy_list(options->environment);
    uv_process_options_t uv_options = {.exit_cb = on_child_exit,
                                       .file = options->file,
                                       .args = arguments,
                                       .env = environment,
                                       .cwd = options->working_directory,
                                       .flags = UV_PROCESS_DETACHED,
                                       .stdio_count = 3,
                                       .stdio = stdio};
    int result;
    keep_descriptors_from_children();
    result = uv_spawn(bk_loop_uv(process->loop), &process->child, &uv_options);
    process->open_handle_count++;
    bk_free(arguments);
    bk_free(environment);
    return result;
}

static enum bk_status status_of(int code) {
    switch (code) {
    case UV_ENOENT:
        return BK_NOT_FOUND;
    case UV_ENOMEM:
        return BK_NO_MEMORY;
    case UV_EAGAIN:
        return BK_LIMIT;
    default:
        return BK_IO;
    }
}

static void close_all_handles(struct bk_process *process) {
    stop_input(process);
    close_handle((uv_handle_t *)&process->outputs[0].pipe);
    close_handle((uv_handle_t *)&process->outputs[1].pipe);
}

enum bk_status bk_process_spawn(struct bk_loop *loop, const struct bk_process_options *options,
                                struct bk_process **process, struct bk_error *error) {
    struct bk_process *started;
    char reason[128];
    int result;
    BK_ASSERT(bk_loop_is_current(loop));
    BK_ASSERT(options->file != NULL && options->arguments != NULL);
    BK_ASSERT(options->line_max_bytes > 0);
    started = create(loop, options);
    result = spawn(started, options);
    if (result != 0) {
        started->is_closing = true;
        close_handle((uv_handle_t *)&started->child);
        close_all_handles(started);
        return bk_error_set(error, status_of(result), "start %s: %s", options->file,
                            uv_strerror_r(result, reason, sizeof(reason)));
    }
    for (size_t i = 0; i < BK_COUNT_OF(started->outputs); i++)
        BK_ASSERT(uv_read_start((uv_stream_t *)&started->outputs[i].pipe, on_allocate, on_read) ==
                  0);
    *process = started;
    return BK_OK;
}

void bk_process_kill(struct bk_process *process, int signal_number) {
    if (!process->has_exited)
        (void)kill(-process->child.pid, signal_number);
}

void bk_process_close(struct bk_process *process) {
    if (process == NULL)
        return;
    BK_ASSERT(bk_loop_is_current(process->loop));
    BK_ASSERT(!process->is_closing);
    process->is_closing = true;
    bk_timer_close(process->grace);
    process->grace = NULL;
    bk_process_kill(process, SIGKILL);
    close_all_handles(process);
    if (process->open_handle_count == 0)
        release(process);
}
