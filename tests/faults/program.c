/*
 * The process is forked from the test, so that both share one page with the counter. In it the
 * linker's --wrap leads bk_alloc and its kind here, which libuv allocates through as well; SQLite
 * takes an allocator when it is asked to; cJSON, zlib and the patterns allocate through
 * bk_try_alloc.
 */
#define _GNU_SOURCE 1 /* pipe2 */
#include "program.h"

#include "support.h"

#include "bakend/alloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SILENCE_SECONDS = 20, LOG_BYTES = 64 * 1024, HEAD_BYTES = 1024 };

/* src/server/main.c, whose main has this name here. */
int bakend_main(int argument_count, char **arguments);

const char *const program_memory_names[PROGRAM_MEMORIES] = {"sized", "small", "SQLite"};

/* Shared by both processes; each field atomic. */
struct control {
    uint32_t memory, nth, count;
    bool is_armed, is_sticky;
};

static struct control *control;

/* --- in the program --------------------------------------------------------------------------- */

static bool strikes(enum program_memory memory) {
    uint32_t count, nth;
    if (control == NULL || !__atomic_load_n(&control->is_armed, __ATOMIC_ACQUIRE) ||
        control->memory != memory)
        return false;
    count = __atomic_add_fetch(&control->count, 1, __ATOMIC_RELAXED);
    nth = control->nth;
    if (nth == 0)
        return false;
    return control->is_sticky ? count >= nth : count == nth;
}

void *__real_bk_alloc(size_t size_bytes);
void *__real_bk_alloc_zero(size_t size_bytes);
void *__real_bk_realloc(void *memory, size_t size_bytes);
void *__real_bk_try_alloc(size_t size_bytes);
void *__real_bk_try_realloc(void *memory, size_t size_bytes);
void *__wrap_bk_alloc(size_t size_bytes);
void *__wrap_bk_alloc_zero(size_t size_bytes);
void *__wrap_bk_realloc(void *memory, size_t size_bytes);
void *__wrap_bk_try_alloc(size_t size_bytes);
void *__wrap_bk_try_realloc(void *memory, size_t size_bytes);

void *__wrap_bk_alloc(size_t size_bytes) {
    if (strikes(PROGRAM_MEMORY_SMALL))
        bk_alloc_give_up(size_bytes);
    return __real_bk_alloc(size_bytes);
}

void *__wrap_bk_alloc_zero(size_t size_bytes) {
    if (strikes(PROGRAM_MEMORY_SMALL))
        bk_alloc_give_up(size_bytes);
    return __real_bk_alloc_zero(size_bytes);
}

void *__wrap_bk_realloc(void *memory, size_t size_bytes) {
    if (strikes(PROGRAM_MEMORY_SMALL))
        bk_alloc_give_up(size_bytes);
    return __real_bk_realloc(memory, size_bytes);
}

void *__wrap_bk_try_alloc(size_t size_bytes) {
    return strikes(PROGRAM_MEMORY_SIZED) ? NULL : __real_bk_try_alloc(size_bytes);
}

void *__wrap_bk_try_realloc(void *memory, size_t size_bytes) {
    return strikes(PROGRAM_MEMORY_SIZED) ? NULL : __real_bk_try_realloc(memory, size_bytes);
}

static sqlite3_mem_methods sqlite_methods;

static void *sqlite_malloc(int size_bytes) {
    return strikes(PROGRAM_MEMORY_SQLITE) ? NULL : sqlite_methods.xMalloc(size_bytes);
}

static void *sqlite_realloc(void *memory, int size_bytes) {
    return strikes(PROGRAM_MEMORY_SQLITE) ? NULL : sqlite_methods.xRealloc(memory, size_bytes);
}

static void replace_allocator(void) {
    sqlite3_mem_methods methods;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_methods) != SQLITE_OK)
        abort();
    methods = sqlite_methods;
    methods.xMalloc = sqlite_malloc;
    methods.xRealloc = sqlite_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK)
        abort();
}

static _Noreturn void run_program(struct program_under_fault *program, int out) {
    char data[PROGRAM_PATH_BYTES + 8], log[PROGRAM_PATH_BYTES + 8];
    char serve[] = "serve", listen[] = "--listen", address[] = "127.0.0.1:0", d[] = "--data",
         app[] = "--app", level[] = "--log-level", debug[] = "warn", name[] = "bakend";
    char *arguments[] = {name,  serve, listen, address, d, data, app, program->directory,
                         level, debug, NULL};
    int error;
    (void)snprintf(data, sizeof(data), "%s/data", program->directory);
    (void)snprintf(log, sizeof(log), "%s/log", program->directory);
    error = open(log, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
    if (error < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(error, STDERR_FILENO) < 0)
        abort();
    replace_allocator();
    exit(bakend_main(10, arguments));
}

/* --- its life --------------------------------------------------------------------------------- */

void program_init(struct program_under_fault *program, const char *directory) {
    *program = (struct program_under_fault){.answer = NULL};
    (void)snprintf(program->directory, sizeof(program->directory), "%s", directory);
    program->answer = bk_alloc(PROGRAM_ANSWER_BYTES + 1);
    if (control == NULL)
        control =
            mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(control, MAP_FAILED);
}

void program_fini(struct program_under_fault *program) {
    if (program->pid != 0)
        (void)program_stop(program);
    bk_free(program->answer);
}

bool program_start(struct program_under_fault *program) {
    char line[256];
    const char *colon;
    int ends[2];
    FILE *out;
    assert_int_equal(program->pid, 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    (void)fflush(NULL);
    program->pid = fork();
    assert_true(program->pid >= 0);
    if (program->pid == 0)
        run_program(program, ends[1]);
    (void)close(ends[1]);
    out = fdopen(ends[0], "r");
    assert_non_null(out);
    line[0] = '\0';
    while (fgets(line, sizeof(line), out) != NULL && strstr(line, "bakend ready") == NULL)
        line[0] = '\0';
    (void)fclose(out);
    colon = strrchr(line, ':');
    program->port = colon == NULL ? 0 : (uint16_t)strtoul(colon + 1, NULL, 10);
    return program->port != 0;
}

static void read_log(const struct program_under_fault *program, char log[LOG_BYTES]) {
    char path[PROGRAM_PATH_BYTES + 8];
    size_t length = 0;
    FILE *file;
    (void)snprintf(path, sizeof(path), "%s/log", program->directory);
    file = fopen(path, "r");
    if (file != NULL) {
        length = fread(log, 1, LOG_BYTES - 1, file);
        (void)fclose(file);
    }
    log[length] = '\0';
}

static enum program_end judge(const struct program_under_fault *program, int status) {
    static char log[LOG_BYTES];
    read_log(program, log);
    if (strstr(log, "Sanitizer") == NULL && strstr(log, "runtime error") == NULL) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return PROGRAM_END_WELL;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT &&
            strstr(log, "bakend: out of memory: ") != NULL)
            return PROGRAM_END_CLEAN;
        if (WIFEXITED(status) && WEXITSTATUS(status) <= 2 && strstr(log, "bakend: ") != NULL)
            return PROGRAM_END_REFUSED;
    }
    print_error("the program ended with %x and said:\n%s\n", (unsigned)status, log);
    return PROGRAM_END_BAD;
}

enum program_end program_stop(struct program_under_fault *program) {
    int status = 0;
    (void)kill(program->pid, SIGTERM);
    assert_int_equal(waitpid(program->pid, &status, 0), program->pid);
    program->pid = 0;
    return judge(program, status);
}

/* A second's grace: it may just be writing its message. */
bool program_is_gone(struct program_under_fault *program) {
    siginfo_t information = {.si_pid = 0};
    for (int i = 0; i < 100; i++) {
        assert_int_equal(
            waitid(P_PID, (id_t)program->pid, &information, WEXITED | WNOHANG | WNOWAIT), 0);
        if (information.si_pid != 0)
            return true;
        (void)usleep(10000);
    }
    return false;
}

void program_arm(enum program_memory memory, uint32_t nth, bool is_sticky) {
    control->memory = memory;
    control->nth = nth;
    control->count = 0;
    control->is_sticky = is_sticky;
    __atomic_store_n(&control->is_armed, true, __ATOMIC_RELEASE);
}

uint32_t program_disarm(void) {
    __atomic_store_n(&control->is_armed, false, __ATOMIC_RELEASE);
    return __atomic_load_n(&control->count, __ATOMIC_RELAXED);
}

/* --- requests --------------------------------------------------------------------------------- */

static int with_timeout(int descriptor) {
    const struct timeval patience = {.tv_sec = SILENCE_SECONDS};
    (void)setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return descriptor;
}

int program_connect(const struct program_under_fault *program) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(program->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    if (connect(descriptor, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return with_timeout(descriptor);
    (void)close(descriptor);
    return -1;
}

static int connect_as_operator(const struct program_under_fault *program) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/data/bakend.sock",
                   program->directory);
    if (connect(descriptor, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return with_timeout(descriptor);
    (void)close(descriptor);
    return -1;
}

static void send_all(int descriptor, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = send(descriptor, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        bytes += sent;
        length -= (size_t)sent;
    }
}

/* -1: nothing came for long. */
static int receive_all(struct program_under_fault *program, int descriptor) {
    program->answer_length = 0;
    while (program->answer_length < PROGRAM_ANSWER_BYTES) {
        ssize_t length = recv(descriptor, program->answer + program->answer_length,
                              PROGRAM_ANSWER_BYTES - program->answer_length, 0);
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return -1;
        if (length <= 0)
            break;
        program->answer_length += (size_t)length;
    }
    program->answer[program->answer_length] = '\0';
    return 0;
}

int program_request(struct program_under_fault *program, bool as_operator, const char *method,
                    const char *target, const char *body) {
    char head[HEAD_BYTES];
    int status = -1,
        descriptor = as_operator ? connect_as_operator(program) : program_connect(program);
    program->answer_length = 0;
    program->answer[0] = '\0';
    if (descriptor < 0)
        return 0;
    (void)snprintf(
        head, sizeof(head),
        "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n"
        "%s\r\n",
        method, target, body == NULL ? 0 : strlen(body),
        body == NULL ? "" : "Content-Type: application/json\r\n");
    send_all(descriptor, head, strlen(head));
    if (body != NULL)
        send_all(descriptor, body, strlen(body));
    if (receive_all(program, descriptor) == 0)
        status = strncmp(program->answer, "HTTP/1.1 ", 9) == 0
                     ? (int)strtol(program->answer + 9, NULL, 10)
                     : 0;
    (void)close(descriptor);
    return status;
}

const char *program_body(const struct program_under_fault *program) {
    const char *end = strstr(program->answer, "\r\n\r\n");
    return end == NULL ? "" : end + 4;
}
