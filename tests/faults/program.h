/*
 * The whole program in a process of its own whose memory can be made to fail from outside, and
 * requests to it. Its main is the real one; what it allocates goes by a counter that this process
 * shares with it.
 */
#ifndef BAKEND_TESTS_FAULTS_PROGRAM_H
#define BAKEND_TESTS_FAULTS_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum program_memory {
    PROGRAM_MEMORY_SIZED,  /* bk_try_alloc: what input sizes; JSON, zlib and patterns, too */
    PROGRAM_MEMORY_SMALL,  /* bk_alloc, and libuv: ends the process */
    PROGRAM_MEMORY_SQLITE, /* sqlite3_malloc and all that SQLite allocates itself */
    PROGRAM_MEMORIES
};

extern const char *const program_memory_names[PROGRAM_MEMORIES];

enum { PROGRAM_ANSWER_BYTES = 1024 * 1024, PROGRAM_PATH_BYTES = 512 };

enum program_end {
    PROGRAM_END_WELL,    /* exit code 0 and nothing leaked */
    PROGRAM_END_CLEAN,   /* "out of memory", as bk_alloc says it */
    PROGRAM_END_REFUSED, /* exit code 1 or 2 with a message: it did not start */
    PROGRAM_END_BAD
};

struct program_under_fault {
    char directory[PROGRAM_PATH_BYTES]; /* data and log lie in it */
    pid_t pid;                          /* 0: it does not run */
    uint16_t port;
    char *answer; /* of the last request, head and body, with a NUL */
    size_t answer_length;
};

void program_init(struct program_under_fault *program, const char *directory);
void program_fini(struct program_under_fault *program);
/* False when it ended before it was ready. */
bool program_start(struct program_under_fault *program);
/* Terminates it when it still runs, and waits for its end. A bad end is printed. */
enum program_end program_stop(struct program_under_fault *program);
bool program_is_gone(struct program_under_fault *program);

/* From now on the nth (from 1) allocation of this kind fails; 0: they are only counted. */
void program_arm(enum program_memory memory, uint32_t nth, bool is_sticky);
/* Returns how many there were. */
uint32_t program_disarm(void);

/* The HTTP status, or 0 when the connection ended without one, -1 when nothing came for long.
 * as_operator: over the control socket. body may be NULL. */
int program_request(struct program_under_fault *program, bool as_operator, const char *method,
                    const char *target, const char *body);
/* The body of the last answer. */
const char *program_body(const struct program_under_fault *program);
/* A TCP connection with a timeout; -1. */
int program_connect(const struct program_under_fault *program);

#endif
