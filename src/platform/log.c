/*
 * The log: two buffers that change places.
 *
 * A caller formats its line straight into the active buffer, under the mutex: no allocation in the
 * steady state, no copy, no system call. The writer thread swaps the buffers under the mutex and
 * writes the full one outside of it. After a write it naps NAP_MS, so that a burst becomes few
 * large writes; callers signal it only when it waits with nothing to do.
 *
 * A line that does not fit is taken back whole and counted; the writer puts one log_dropped line
 * with the count at the head of the next buffer, which is empty then. Lines lost to a descriptor
 * that fails (a closed pipe) count as dropped as well, but are reported behind the next line only:
 * a report at once would be lost, and reported, without end.
 *
 * Writing to a pipe, socket or terminal may block for as long as its reader likes. Such a
 * descriptor is polled first and given at most PIPE_BUF bytes at a time, which then do not block.
 * So a reader that hangs costs lines, and holds up destroy for CLOSE_PATIENCE_MS at most.
 *
 * Names of fields, events and components are constants of the program and are written as they are;
 * text is escaped, and cut at TEXT_MAX_BYTES.
 */
#include "bakend/log.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/buffer.h"
#include "bakend/clock.h"
#include "bakend/json.h"
#include "bakend/thread.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    NAP_MS = 20,
    POLL_MS = 100,             /* how soon a writer that is stuck notices that the log closes */
    CLOSE_PATIENCE_MS = 2000,  /* less than any supervisor waits before it kills */
    BUFFER_LEAST_BYTES = 1024, /* room for the report of what was dropped */
    TEXT_MAX_BYTES = 16384,
    KEPT_BUFFER_BYTES = 262144, /* what a burst left behind beyond this is given back */
    NS_PER_MS = 1000000,
    NS_PER_SECOND = 1000000000
};

static const struct {
    const char *name;
    enum bk_log_level level;
} LEVELS[] = {{"debug", BK_LOG_DEBUG},
              {"info", BK_LOG_INFO},
              {"warn", BK_LOG_WARN},
              {"error", BK_LOG_ERROR},
              {"off", BK_LOG_OFF}};

struct bk_logger {
    int descriptor;
    bool may_block; /* not a regular file */
    enum bk_log_level level;
    struct bk_thread *thread;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;   /* the writer's */
    pthread_cond_t written;
    struct bk_buffer buffers[2];
    struct bk_buffer *active;
    uint64_t appended_count, written_count; /* lines */
    uint64_t dropped_count, unreported_count;
    uint64_t lost_count;  /* becomes unreported with the next line */
    uint32_t flush_count; /* callers in bk_logger_flush */
    bool is_idle;         /* the writer waits for a first line */
    bool is_closing;
    uint64_t deadline_ns; /* of the last writes, once it closes */
    int64_t time_ms;      /* that time_text says */
    char time_text[BK_TIME_TEXT_BYTES];
};

/* --- making a line ---------------------------------------------------------------------------- */

bool bk_log_level_parse(struct bk_slice text, enum bk_log_level *level) {
    for (size_t i = 0; i < BK_COUNT_OF(LEVELS); i++) {
        if (!bk_slice_equal(text, bk_slice_from(LEVELS[i].name)))
            continue;
        *level = LEVELS[i].level;
        return true;
    }
    return false;
}

bool bk_log_is_on(const struct bk_log *log, enum bk_log_level level) {
    return log != NULL && log->logger != NULL && level < BK_LOG_OFF && level >= log->logger->level;
}

/* Many lines fall into one millisecond: its text is made once. */
static void append_time(struct bk_logger *logger, struct bk_buffer *out) {
    int64_t now_ms = bk_clock_wall_ms();
    if (now_ms != logger->time_ms) {
        bk_time_format(logger->time_text, now_ms, 'T');
        logger->time_ms = now_ms;
    }
    bk_buffer_append(out, logger->time_text, sizeof(logger->time_text));
}

static void append_head(struct bk_logger *logger, struct bk_buffer *out, enum bk_log_level level,
                        const char *component, const char *event) {
    bk_buffer_append_literal(out, "{\"time\":\"");
    append_time(logger, out);
    bk_buffer_append_literal(out, "\",\"level\":\"");
    bk_buffer_append_slice(out, bk_slice_from(LEVELS[level].name));
    bk_buffer_append_literal(out, "\",\"component\":\"");
    bk_buffer_append_slice(out, bk_slice_from(component));
    bk_buffer_append_literal(out, "\",\"event\":\"");
    bk_buffer_append_slice(out, bk_slice_from(event));
    bk_buffer_append_char(out, '"');
}

static void append_text(struct bk_buffer *out, struct bk_slice text) {
    if (text.length > TEXT_MAX_BYTES)
        text.length = TEXT_MAX_BYTES;
    bk_json_write_string(out, text);
}

static void append_field(struct bk_buffer *out, const struct bk_log_field *field) {
    bk_buffer_append_literal(out, ",\"");
    bk_buffer_append_slice(out, bk_slice_from(field->name));
    bk_buffer_append_literal(out, "\":");
    switch (field->kind) {
    case BK_LOG_TEXT_FIELD:
        append_text(out, field->text);
        break;
    case BK_LOG_INT_FIELD:
        bk_buffer_append_int(out, field->integer);
        break;
    case BK_LOG_BOOL_FIELD:
        bk_buffer_append_slice(out, bk_slice_from(field->integer != 0 ? "true" : "false"));
        break;
    case BK_LOG_RAW_FIELD:
        bk_buffer_append_slice(out, field->text);
        break;
    }
}

/* Under the mutex: the line counts, or is taken back and counts as dropped. */
static void finish_line(struct bk_logger *logger, size_t start) {
    struct bk_buffer *out = logger->active;
    bk_buffer_append_literal(out, "}\n");
    if (!out->is_overflown) {
        logger->appended_count++;
        return;
    }
    out->length = start;
    out->is_overflown = false;
    logger->dropped_count++;
    logger->unreported_count++;
}

void bk_log_write(const struct bk_log *log, enum bk_log_level level, const char *event,
                  const struct bk_log_field *fields, size_t field_count) {
    struct bk_logger *logger;
    size_t start;
    bool must_wake;
    if (!bk_log_is_on(log, level))
        return;
    logger = log->logger;
    (void)pthread_mutex_lock(&logger->mutex);
    logger->unreported_count += logger->lost_count;
    logger->lost_count = 0;
    start = logger->active->length;
    append_head(logger, logger->active, level, log->component, event);
    for (size_t i = 0; i < field_count; i++)
        append_field(logger->active, &fields[i]);
    finish_line(logger, start);
    must_wake = logger->is_idle;
    logger->is_idle = false;
    (void)pthread_mutex_unlock(&logger->mutex);
    if (must_wake)
        (void)pthread_cond_signal(&logger->wake);
}

/* --- the writer thread ------------------------------------------------------------------------ */

/* Under the mutex, while the active buffer is empty, so that the line fits. The total is for when
 * this line is lost itself. */
static void report_dropped(struct bk_logger *logger) {
    uint64_t count = logger->unreported_count;
    BK_ASSERT(logger->active->length == 0);
    if (count == 0)
        return;
    logger->unreported_count = 0;
    append_head(logger, logger->active, BK_LOG_WARN, "log", "log_dropped");
    append_field(logger->active, &BK_INT("count", count));
    append_field(logger->active, &BK_INT("total", logger->dropped_count));
    finish_line(logger, 0);
}

static bool is_out_of_patience(struct bk_logger *logger) {
    uint64_t deadline_ns;
    (void)pthread_mutex_lock(&logger->mutex);
    deadline_ns = logger->is_closing ? logger->deadline_ns : UINT64_MAX;
    (void)pthread_mutex_unlock(&logger->mutex);
    return bk_clock_monotonic_ns() >= deadline_ns;
}

/* False when the reader does not come back in time while the log closes. */
static bool wait_until_writable(struct bk_logger *logger) {
    struct pollfd poll_entry = {.fd = logger->descriptor, .events = POLLOUT};
    while (poll(&poll_entry, 1, POLL_MS) == 0) {
        if (is_out_of_patience(logger))
            return false;
    }
    return true;
}

/* Returns how many bytes were written: all but when the descriptor fails. */
static size_t write_all(struct bk_logger *logger, struct bk_slice data) {
    size_t done = 0;
    while (done < data.length) {
        size_t piece = data.length - done;
        ssize_t written;
        if (logger->may_block && !wait_until_writable(logger))
            break;
        if (logger->may_block && piece > PIPE_BUF)
            piece = PIPE_BUF;
        written = write(logger->descriptor, data.data + done, piece);
        if (written > 0)
            done += (size_t)written;
        else if (written < 0 && errno != EINTR && errno != EAGAIN)
            break;
    }
    return done;
}

static uint64_t count_lines(struct bk_slice text) {
    uint64_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += text.data[i] == '\n';
    return count;
}

static struct timespec nap_end(void) {
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)NAP_MS * NS_PER_MS;
    if (end.tv_nsec >= NS_PER_SECOND) {
        end.tv_sec++;
        end.tv_nsec -= NS_PER_SECOND;
    }
    return end;
}

/* Under the mutex. Nothing but a flush or the end cuts a nap short. */
static void nap(struct bk_logger *logger) {
    struct timespec end = nap_end();
    while (!logger->is_closing && logger->flush_count == 0) {
        if (pthread_cond_timedwait(&logger->wake, &logger->mutex, &end) == ETIMEDOUT)
            return;
    }
}

/* Under the mutex, which is given back while it writes. */
static void write_active(struct bk_logger *logger) {
    struct bk_buffer *full = logger->active;
    uint64_t last_line = logger->appended_count, lost_count;
    struct bk_slice text = bk_buffer_slice(full);
    size_t written;
    logger->active = full == &logger->buffers[0] ? &logger->buffers[1] : &logger->buffers[0];
    report_dropped(logger);
    (void)pthread_mutex_unlock(&logger->mutex);
    written = write_all(logger, text);
    lost_count = count_lines(bk_slice_make(text.data + written, text.length - written));
    (void)pthread_mutex_lock(&logger->mutex);
    logger->dropped_count += lost_count;
    logger->lost_count += lost_count;
    logger->written_count = last_line;
    bk_buffer_clear(full);
    if (full->capacity > KEPT_BUFFER_BYTES) {
        size_t max_bytes = full->max_bytes;
        bk_buffer_fini(full);
        bk_buffer_init(full, max_bytes);
    }
    (void)pthread_cond_broadcast(&logger->written);
}

static void writer_main(void *argument) {
    struct bk_logger *logger = argument;
    (void)pthread_mutex_lock(&logger->mutex);
    for (;;) {
        while (logger->active->length == 0 && !logger->is_closing) {
            logger->is_idle = true;
            (void)pthread_cond_wait(&logger->wake, &logger->mutex);
            logger->is_idle = false;
        }
        if (logger->active->length == 0)
            break;
        write_active(logger);
        nap(logger);
    }
    (void)pthread_mutex_unlock(&logger->mutex);
}

/* --- life cycle ------------------------------------------------------------------------------- */

static void init_synchronisation(struct bk_logger *logger) {
    pthread_condattr_t attributes;
    BK_ASSERT(pthread_mutex_init(&logger->mutex, NULL) == 0);
    BK_ASSERT(pthread_condattr_init(&attributes) == 0);
    BK_ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    BK_ASSERT(pthread_cond_init(&logger->wake, &attributes) == 0);
    BK_ASSERT(pthread_cond_init(&logger->written, NULL) == 0);
    (void)pthread_condattr_destroy(&attributes);
}

struct bk_logger *bk_logger_create(int descriptor, enum bk_log_level level,
                                   size_t buffer_max_bytes) {
    struct bk_logger *logger = bk_alloc_zero(sizeof(*logger));
    struct stat facts;
    BK_ASSERT(descriptor >= 0);
    BK_ASSERT(buffer_max_bytes >= BUFFER_LEAST_BYTES);
    logger->descriptor = descriptor;
    logger->may_block = fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode);
    logger->level = level;
    logger->time_ms = INT64_MIN;
    for (size_t i = 0; i < BK_COUNT_OF(logger->buffers); i++)
        bk_buffer_init(&logger->buffers[i], buffer_max_bytes);
    logger->active = &logger->buffers[0];
    init_synchronisation(logger);
    logger->thread = bk_thread_start("log", writer_main, logger);
    return logger;
}

void bk_logger_destroy(struct bk_logger *logger) {
    if (logger == NULL)
        return;
    (void)pthread_mutex_lock(&logger->mutex);
    BK_ASSERT(logger->flush_count == 0);
    logger->is_closing = true;
    logger->deadline_ns = bk_clock_monotonic_ns() + (uint64_t)CLOSE_PATIENCE_MS * NS_PER_MS;
    (void)pthread_cond_signal(&logger->wake);
    (void)pthread_mutex_unlock(&logger->mutex);
    bk_thread_join(logger->thread);
    (void)pthread_cond_destroy(&logger->written);
    (void)pthread_cond_destroy(&logger->wake);
    (void)pthread_mutex_destroy(&logger->mutex);
    for (size_t i = 0; i < BK_COUNT_OF(logger->buffers); i++)
        bk_buffer_fini(&logger->buffers[i]);
    bk_free(logger);
}

/* What was dropped so far is reported, too: here when nothing waits, else by the writer, as the
 * first line after those that do. */
void bk_logger_flush(struct bk_logger *logger) {
    uint64_t last_line;
    (void)pthread_mutex_lock(&logger->mutex);
    if (logger->active->length == 0)
        report_dropped(logger);
    last_line = logger->appended_count + (logger->unreported_count > 0 ? 1 : 0);
    logger->flush_count++;
    (void)pthread_cond_signal(&logger->wake);
    while (logger->written_count < last_line)
        (void)pthread_cond_wait(&logger->written, &logger->mutex);
    logger->flush_count--;
    (void)pthread_mutex_unlock(&logger->mutex);
}

uint64_t bk_logger_dropped_count(struct bk_logger *logger) {
    uint64_t count;
    (void)pthread_mutex_lock(&logger->mutex);
    count = logger->dropped_count;
    (void)pthread_mutex_unlock(&logger->mutex);
    return count;
}
