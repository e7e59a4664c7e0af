/*
 * Child processes under supervision. No descriptor but the three pipes is inherited; the child dies
 * with its parent. All callbacks come on the loop.
 */
#ifndef BAKEND_PROCESS_H
#define BAKEND_PROCESS_H

#include "bakend/error.h"
#include "bakend/loop.h"
#include "bakend/slice.h"

struct bk_process;

struct bk_process_options {
    const char *file;              /* path of the program */
    char *const *arguments;        /* NULL-terminated, with arguments[0] */
    char *const *environment;      /* NULL-terminated; NULL: empty */
    const char *working_directory; /* NULL: ours */
    size_t line_max_bytes;         /* a longer line is cut there */
    /* One line of standard output or standard error without its end; borrowed. */
    void (*on_line)(void *user, bool is_error, struct bk_slice line);
    /* After the last line. exit_code, or -1 and the signal that ended it. Still close it. */
    void (*on_exit)(void *user, int64_t exit_code, int signal_number);
    void *user;
};

/* BK_NOT_FOUND, BK_IO … with the reason; then no callback ever comes. */
enum bk_status bk_process_spawn(struct bk_loop *loop, const struct bk_process_options *options,
                                struct bk_process **process, struct bk_error *error);
/* Queues bytes for its standard input (copied). BK_BUSY past 1 MiB waiting, BK_CLOSING once it
 * ended. */
enum bk_status bk_process_write(struct bk_process *process, struct bk_slice data);
void bk_process_close_input(struct bk_process *process);
void bk_process_kill(struct bk_process *process, int signal_number);
/* Kills it if it still runs, silences its callbacks, frees. */
void bk_process_close(struct bk_process *process);

#endif
