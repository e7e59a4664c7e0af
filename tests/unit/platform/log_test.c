/* The log: what a line looks like, what is left out, and what happens when nobody reads. */
#include "bakend/buffer.h"
#include "bakend/clock.h"
#include "bakend/error.h"
#include "bakend/file.h"
#include "bakend/log.h"
#include "bakend/thread.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_MAX_BYTES = 16 * 1024 * 1024,
    PLENTY_BYTES = 1024 * 1024,
    THREAD_COUNT = 4,
    LINES_PER_THREAD = 2000
};

/* --- a log into a file of its own ------------------------------------------------------------- */

struct fixture {
    int descriptor;
    char path[64];
    struct bk_logger *logger;
    struct bk_log log;
    struct bk_buffer text;
};

static void open_log(struct fixture *fixture, enum bk_log_level level, size_t buffer_max_bytes) {
    memcpy(fixture->path, "/tmp/bakend-log-XXXXXX", sizeof("/tmp/bakend-log-XXXXXX"));
    fixture->descriptor = mkstemp(fixture->path);
    assert_true(fixture->descriptor >= 0);
    fixture->logger = bk_logger_create(fixture->descriptor, level, buffer_max_bytes);
    fixture->log = (struct bk_log){fixture->logger, "test"};
    bk_buffer_init(&fixture->text, FILE_MAX_BYTES);
}

/* What was written so far, as a C string. */
static const char *read_log(struct fixture *fixture) {
    bk_buffer_clear(&fixture->text);
    assert_int_equal(bk_file_read(fixture->path, &fixture->text, NULL), BK_OK);
    bk_buffer_append_char(&fixture->text, '\0');
    return fixture->text.data;
}

static void close_log(struct fixture *fixture) {
    bk_logger_destroy(fixture->logger);
    bk_buffer_fini(&fixture->text);
    (void)close(fixture->descriptor);
    (void)unlink(fixture->path);
}

static size_t count_of(const char *text, const char *part) {
    size_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        count++;
    return count;
}

/* --- lines ------------------------------------------------------------------------------------ */

static void test_a_line_is_one_json_object_with_its_fields_in_order(void **state) {
    struct fixture fixture;
    (void)state;
    support_clock_set(1780920000123);
    open_log(&fixture, BK_LOG_DEBUG, PLENTY_BYTES);
    bk_log_warn(&fixture.log, "delivery_failed", BK_TEXT("endpoint", "abc"), BK_INT("attempt", -3),
                BK_BOOL("final", true), BK_STRING("part", bk_slice_make("xyz", 2)),
                BK_RAW("more", BK_SLICE("[1,{}]")));
    bk_logger_flush(fixture.logger);
    assert_non_null(strstr(read_log(&fixture),
                           "\"level\":\"warn\",\"component\":\"test\",\"event\":\"delivery_failed\""
                           ",\"endpoint\":\"abc\",\"attempt\":-3,\"final\":true,\"part\":\"xy\","
                           "\"more\":[1,{}]}\n"));
    assert_memory_equal(read_log(&fixture), "{\"time\":\"2026-06-08T12:00:00.1", 30);
    support_clock_reset();
    close_log(&fixture);
}

static void test_text_cannot_break_out_of_its_line(void **state) {
    struct fixture fixture;
    const char *text;
    (void)state;
    open_log(&fixture, BK_LOG_DEBUG, PLENTY_BYTES);
    bk_log_error(&fixture.log, "bad", BK_TEXT("name", "a\"\n{\"level\":\"error\"}\x1b[31m\\"));
    bk_log_info(&fixture.log, "worse", BK_STRING("bytes", bk_slice_make("\xff\0\r", 3)),
                BK_TEXT("null", NULL));
    bk_logger_flush(fixture.logger);
    text = read_log(&fixture);
    assert_int_equal(count_of(text, "\n"), 2);
    assert_non_null(strstr(text, "a\\\"\\n{\\\"level\\\":\\\"error\\\"}\\u001b[31m\\\\\"}"));
    assert_null(strchr(text, '\x1b'));
    assert_non_null(strstr(text, "\"null\":\"\"}"));
    close_log(&fixture);
}

static void test_long_text_is_cut_but_raw_json_is_not(void **state) {
    struct fixture fixture;
    char *longest = test_calloc(1, 40001);
    (void)state;
    memset(longest, '@', 40000);
    open_log(&fixture, BK_LOG_DEBUG, PLENTY_BYTES);
    bk_log_info(&fixture.log, "long", BK_TEXT("text", longest));
    bk_logger_flush(fixture.logger);
    assert_int_equal(count_of(read_log(&fixture), "@"), 16384);
    longest[0] = longest[39999] = '"';
    bk_log_info(&fixture.log, "long", BK_RAW("json", bk_slice_from(longest)));
    bk_logger_flush(fixture.logger);
    assert_int_equal(count_of(read_log(&fixture), "@"), 16384 + 39998);
    close_log(&fixture);
    test_free(longest);
}

static void test_lines_below_the_level_are_left_out(void **state) {
    struct fixture fixture;
    struct bk_log none = {NULL, "test"};
    (void)state;
    open_log(&fixture, BK_LOG_WARN, PLENTY_BYTES);
    assert_false(bk_log_is_on(&fixture.log, BK_LOG_INFO));
    assert_true(bk_log_is_on(&fixture.log, BK_LOG_WARN));
    assert_false(bk_log_is_on(&fixture.log, BK_LOG_OFF));
    assert_false(bk_log_is_on(&none, BK_LOG_ERROR));
    assert_false(bk_log_is_on(NULL, BK_LOG_ERROR));
    bk_log_info(&fixture.log, "left_out");
    bk_log_error(&none, "left_out");
    bk_log_error(NULL, "left_out");
    bk_log_error(&fixture.log, "kept");
    bk_logger_flush(fixture.logger);
    assert_int_equal(count_of(read_log(&fixture), "\n"), 1);
    assert_non_null(strstr(read_log(&fixture), "\"event\":\"kept\"}"));
    close_log(&fixture);
}

static void test_levels_are_read_by_name(void **state) {
    enum bk_log_level level = BK_LOG_DEBUG;
    (void)state;
    assert_true(bk_log_level_parse(BK_SLICE("error"), &level));
    assert_int_equal(level, BK_LOG_ERROR);
    assert_false(bk_log_level_parse(BK_SLICE("Error"), &level));
    assert_false(bk_log_level_parse(BK_SLICE("err"), &level));
    assert_int_equal(level, BK_LOG_ERROR);
    assert_true(bk_log_level_parse(BK_SLICE("off"), &level));
    assert_int_equal(level, BK_LOG_OFF);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void test_destroy_writes_what_waits(void **state) {
    struct fixture fixture;
    (void)state;
    open_log(&fixture, BK_LOG_INFO, PLENTY_BYTES);
    for (int i = 0; i < 100; i++)
        bk_log_info(&fixture.log, "line", BK_INT("i", i));
    bk_logger_destroy(fixture.logger);
    assert_int_equal(count_of(read_log(&fixture), "\"event\":\"line\""), 100);
    fixture.logger = NULL;
    close_log(&fixture);
}

static void log_many(void *argument) {
    struct bk_log *log = argument;
    for (int i = 0; i < LINES_PER_THREAD; i++)
        bk_log_info(log, "line", BK_INT("i", i));
}

static void test_lines_of_many_threads_are_whole(void **state) {
    struct bk_thread *threads[THREAD_COUNT];
    struct fixture fixture;
    struct bk_slice rest, line;
    size_t count = 0;
    (void)state;
    open_log(&fixture, BK_LOG_INFO, FILE_MAX_BYTES);
    for (size_t i = 0; i < THREAD_COUNT; i++)
        threads[i] = bk_thread_start("talker", log_many, &fixture.log);
    for (size_t i = 0; i < THREAD_COUNT; i++)
        bk_thread_join(threads[i]);
    bk_logger_flush(fixture.logger);
    rest = bk_slice_from(read_log(&fixture));
    while (bk_slice_split(&rest, '\n', &line) && line.length > 0) {
        assert_true(bk_slice_starts_with(line, BK_SLICE("{\"time\":\"")));
        assert_int_equal(line.data[line.length - 1], '}');
        count++;
    }
    assert_int_equal(count, THREAD_COUNT * LINES_PER_THREAD);
    assert_int_equal(bk_logger_dropped_count(fixture.logger), 0);
    close_log(&fixture);
}

/* --- when nobody reads ------------------------------------------------------------------------ */

struct reader {
    int descriptor;
    struct bk_buffer text;
};

static void read_to_end(void *argument) {
    struct reader *reader = argument;
    char bytes[4096];
    ssize_t got;
    while ((got = read(reader->descriptor, bytes, sizeof(bytes))) > 0)
        bk_buffer_append(&reader->text, bytes, (size_t)got);
}

/* The pipe is full, then the buffers; the callers go on. When the reader comes back it gets the
 * lines that had room, whole, and the number of those that had none. */
static void test_a_full_buffer_drops_lines_and_says_how_many(void **state) {
    struct reader reader;
    struct bk_thread *thread;
    struct bk_logger *logger;
    struct bk_log log;
    uint64_t dropped_count;
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    logger = bk_logger_create(ends[1], BK_LOG_INFO, 32768);
    log = (struct bk_log){logger, "test"};
    for (int i = 0; i < 5000; i++)
        bk_log_info(&log, "line", BK_INT("i", i));
    dropped_count = bk_logger_dropped_count(logger);
    assert_true(dropped_count > 0 && dropped_count < 5000);
    reader.descriptor = ends[0];
    bk_buffer_init(&reader.text, FILE_MAX_BYTES);
    thread = bk_thread_start("reader", read_to_end, &reader);
    bk_logger_flush(logger);
    bk_log_info(&log, "after");
    bk_logger_destroy(logger);
    (void)close(ends[1]);
    bk_thread_join(thread);
    bk_buffer_append_char(&reader.text, '\0');
    assert_int_equal(count_of(reader.text.data, "\"event\":\"line\""), 5000 - dropped_count);
    assert_non_null(strstr(reader.text.data, "\"event\":\"log_dropped\",\"count\":"));
    assert_non_null(strstr(strstr(reader.text.data, "log_dropped"), "\"event\":\"after\""));
    bk_buffer_fini(&reader.text);
    (void)close(ends[0]);
}

static void test_a_pipe_without_a_reader_costs_lines_and_no_more(void **state) {
    struct bk_logger *logger;
    struct bk_log log;
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    (void)close(ends[0]);
    logger = bk_logger_create(ends[1], BK_LOG_INFO, PLENTY_BYTES);
    log = (struct bk_log){logger, "test"};
    bk_log_info(&log, "lost");
    bk_log_info(&log, "lost");
    bk_logger_flush(logger);
    assert_true(bk_logger_dropped_count(logger) >= 2);
    bk_logger_flush(logger); /* of nothing but the report, which is lost as well */
    bk_logger_destroy(logger);
    (void)close(ends[1]);
}

static void test_a_descriptor_that_would_block_is_waited_for(void **state) {
    struct reader reader;
    struct bk_thread *thread;
    struct bk_logger *logger;
    struct bk_log log;
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    logger = bk_logger_create(ends[1], BK_LOG_INFO, PLENTY_BYTES);
    log = (struct bk_log){logger, "test"};
    for (int i = 0; i < 5000; i++)
        bk_log_info(&log, "line", BK_INT("i", i));
    reader.descriptor = ends[0];
    bk_buffer_init(&reader.text, FILE_MAX_BYTES);
    thread = bk_thread_start("reader", read_to_end, &reader);
    bk_logger_destroy(logger);
    (void)close(ends[1]);
    bk_thread_join(thread);
    bk_buffer_append_char(&reader.text, '\0');
    assert_int_equal(count_of(reader.text.data, "\"event\":\"line\""), 5000);
    bk_buffer_fini(&reader.text);
    (void)close(ends[0]);
}

static void test_a_reader_that_hangs_does_not_hold_up_the_end(void **state) {
    uint64_t start_ns = bk_clock_monotonic_ns();
    struct bk_logger *logger;
    struct bk_log log;
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    logger = bk_logger_create(ends[1], BK_LOG_INFO, PLENTY_BYTES);
    log = (struct bk_log){logger, "test"};
    for (int i = 0; i < 5000; i++)
        bk_log_info(&log, "line", BK_INT("i", i));
    bk_logger_destroy(logger);
    assert_true(bk_clock_monotonic_ns() - start_ns < 20ULL * 1000000000);
    (void)(close(ends[0]) + close(ends[1]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_is_one_json_object_with_its_fields_in_order),
        cmocka_unit_test(test_text_cannot_break_out_of_its_line),
        cmocka_unit_test(test_long_text_is_cut_but_raw_json_is_not),
        cmocka_unit_test(test_lines_below_the_level_are_left_out),
        cmocka_unit_test(test_levels_are_read_by_name),
        cmocka_unit_test(test_destroy_writes_what_waits),
        cmocka_unit_test(test_lines_of_many_threads_are_whole),
        cmocka_unit_test(test_a_full_buffer_drops_lines_and_says_how_many),
        cmocka_unit_test(test_a_pipe_without_a_reader_costs_lines_and_no_more),
        cmocka_unit_test(test_a_descriptor_that_would_block_is_waited_for),
        cmocka_unit_test(test_a_reader_that_hangs_does_not_hold_up_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
