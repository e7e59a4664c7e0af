/* Child processes: lines and ends, input, killing, and what they must not inherit or leave
 * behind. */
#include "bakend/buffer.h"
#include "bakend/clock.h"
#include "bakend/process.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 65536, TEXT_MAX_BYTES = 8 * 1024 * 1024 };

/* What a child said: each line behind "o:" or "e:" and before "|". */
struct witness {
    struct bk_loop *loop;
    struct bk_process *process;
    struct bk_buffer text;
    uint32_t line_count;
    size_t longest_line_bytes;
    bool has_line, has_exited, closes_at_line, closes_at_exit;
    int64_t exit_code;
    int signal_number;
};

static void on_line(void *user, bool is_error, struct bk_slice line) {
    struct witness *witness = user;
    assert_false(witness->has_exited);
    bk_buffer_append(&witness->text, is_error ? "e:" : "o:", 2);
    bk_buffer_append_slice(&witness->text, line);
    bk_buffer_append_char(&witness->text, '|');
    witness->line_count++;
    witness->has_line = true;
    if (line.length > witness->longest_line_bytes)
        witness->longest_line_bytes = line.length;
    if (witness->closes_at_line)
        bk_process_close(witness->process);
}

static void on_exit_seen(void *user, int64_t exit_code, int signal_number) {
    struct witness *witness = user;
    assert_false(witness->has_exited);
    witness->has_exited = true;
    witness->exit_code = exit_code;
    witness->signal_number = signal_number;
    if (witness->closes_at_exit)
        bk_process_close(witness->process);
}

static void start(struct witness *witness, void **state, char *const *arguments,
                  char *const *environment, size_t line_max_bytes) {
    struct bk_error error = BK_ERROR_INIT;
    struct bk_process_options options = {.file = arguments[0],
                                         .arguments = arguments,
                                         .environment = environment,
                                         .line_max_bytes = line_max_bytes,
                                         .on_line = on_line,
                                         .on_exit = on_exit_seen,
                                         .user = witness};
    *witness = (struct witness){.loop = *state};
    bk_buffer_init(&witness->text, TEXT_MAX_BYTES);
    if (bk_process_spawn(*state, &options, &witness->process, &error) != BK_OK)
        fail_msg("%s", error.message);
}

static void start_shell(struct witness *witness, void **state, const char *script) {
    char shell[] = "/bin/sh", option[] = "-c", *text = test_malloc(strlen(script) + 1);
    char *arguments[] = {shell, option, text, NULL};
    memcpy(text, script, strlen(script) + 1);
    start(witness, state, arguments, NULL, LINE_MAX_BYTES);
    test_free(text);
}

static void assert_said(struct witness *witness, const char *expected) {
    struct bk_slice text = bk_buffer_slice(&witness->text);
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.data, expected, text.length);
}

static void finish(struct witness *witness) {
    bk_process_close(witness->process);
    bk_buffer_fini(&witness->text);
}

static void await_exit(struct witness *witness) {
    support_loop_run_until(witness->loop, &witness->has_exited);
}

/* --- lines and ends --------------------------------------------------------------------------- */

static void test_lines_come_in_order_and_the_end_after_the_last(void **state) {
    struct witness witness;
    start_shell(&witness, state, "echo one; echo; printf 'two\\nthree without end'; exit 7");
    await_exit(&witness);
    assert_said(&witness, "o:one|o:|o:two|o:three without end|");
    assert_int_equal(witness.exit_code, 7);
    assert_int_equal(witness.signal_number, 0);
    finish(&witness);
}

static void test_errors_are_told_apart(void **state) {
    struct witness witness;
    start_shell(&witness, state, "echo bad >&2");
    await_exit(&witness);
    assert_said(&witness, "e:bad|");
    assert_int_equal(witness.exit_code, 0);
    finish(&witness);
}

static void test_a_line_that_is_too_long_is_cut(void **state) {
    char shell[] = "/bin/sh", option[] = "-c";
    char script[] = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo 12345678901; echo ok";
    char *arguments[] = {shell, option, script, NULL};
    char path[] = "PATH=/usr/bin:/bin", *environment[] = {path, NULL};
    struct witness witness;
    start(&witness, state, arguments, environment, 10);
    await_exit(&witness);
    assert_said(&witness, "o:xxxxxxxxxx|o:1234567890|o:ok|");
    finish(&witness);
}

static void test_a_flood_of_lines_comes_whole(void **state) {
    char seq[] = "/usr/bin/seq", last[] = "200000";
    char *arguments[] = {seq, last, NULL};
    struct witness witness;
    start(&witness, state, arguments, NULL, LINE_MAX_BYTES);
    await_exit(&witness);
    assert_int_equal(witness.line_count, 200000);
    assert_int_equal(witness.longest_line_bytes, 6);
    assert_memory_equal(witness.text.data + witness.text.length - 18, "o:199999|o:200000|", 18);
    finish(&witness);
}

/* --- input ------------------------------------------------------------------------------------ */

static void test_input_comes_back_from_cat(void **state) {
    struct witness witness;
    start_shell(&witness, state, "exec cat");
    assert_int_equal(bk_process_write(witness.process, BK_SLICE("first\nsec")), BK_OK);
    assert_int_equal(bk_process_write(witness.process, BK_SLICE("ond\n")), BK_OK);
    support_loop_run_until(*state, &witness.has_line);
    assert_int_equal(bk_process_write(witness.process, BK_SLICE("third\n")), BK_OK);
    bk_process_close_input(witness.process);
    assert_int_equal(bk_process_write(witness.process, BK_SLICE("late\n")), BK_CLOSING);
    await_exit(&witness);
    assert_said(&witness, "o:first|o:second|o:third|");
    assert_int_equal(witness.exit_code, 0);
    finish(&witness);
}

static struct bk_slice make_lines(char *room, size_t size_bytes) {
    memset(room, 'x', size_bytes);
    for (size_t i = 1023; i < size_bytes; i += 1024)
        room[i] = '\n';
    return bk_slice_make(room, size_bytes);
}

static void test_input_is_bounded_and_what_was_taken_arrives(void **state) {
    size_t size_bytes = 768 * 1024;
    char *room = test_malloc(size_bytes);
    struct bk_slice lines = make_lines(room, size_bytes);
    struct witness witness;
    start_shell(&witness, state, "sleep 0.05; exec cat");
    assert_int_equal(bk_process_write(witness.process, lines), BK_OK);
    assert_int_equal(bk_process_write(witness.process, lines), BK_BUSY);
    support_loop_run_for(*state, 10);
    assert_int_equal(bk_process_write(witness.process, lines), BK_BUSY);
    assert_int_equal(bk_process_write(witness.process, BK_SLICE("more\n")), BK_OK);
    bk_process_close_input(witness.process);
    await_exit(&witness);
    assert_int_equal(witness.line_count, 768 + 1);
    assert_int_equal(witness.longest_line_bytes, 1023);
    finish(&witness);
    test_free(room);
}

static void test_a_child_that_does_not_read_is_no_trouble(void **state) {
    size_t size_bytes = 512 * 1024;
    char *room = test_malloc(size_bytes);
    struct witness witness;
    start_shell(&witness, state, "exec 0<&-; echo deaf; sleep 0.05; exit 3");
    support_loop_run_until(*state, &witness.has_line);
    (void)bk_process_write(witness.process, make_lines(room, size_bytes));
    await_exit(&witness);
    assert_int_equal(witness.exit_code, 3);
    assert_int_equal(bk_process_write(witness.process, BK_SLICE("x")), BK_CLOSING);
    finish(&witness);
    test_free(room);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_a_killed_child_tells_its_signal(void **state) {
    struct witness witness;
    start_shell(&witness, state, "echo ready; exec sleep 60");
    support_loop_run_until(*state, &witness.has_line);
    bk_process_kill(witness.process, SIGTERM);
    await_exit(&witness);
    assert_int_equal(witness.exit_code, -1);
    assert_int_equal(witness.signal_number, SIGTERM);
    bk_process_kill(witness.process, SIGTERM); /* too late, and harmless */
    finish(&witness);
}

static void test_closing_kills_silences_and_reaps(void **state) {
    struct witness witness;
    start_shell(&witness, state,
                "trap '' TERM; echo ready; while :; do echo more; sleep 0.01; done");
    support_loop_run_until(*state, &witness.has_line);
    finish(&witness);
    witness.line_count = 0;
    bk_loop_run(*state);
    assert_int_equal(witness.line_count, 0);
    assert_false(witness.has_exited);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_may_be_closed_in_its_callbacks(void **state) {
    struct witness witness;
    start_shell(&witness, state, "echo one; echo two; sleep 60");
    witness.closes_at_line = true;
    bk_loop_run(*state);
    assert_said(&witness, "o:one|");
    bk_buffer_fini(&witness.text);
    start_shell(&witness, state, "exit 5");
    witness.closes_at_exit = true;
    bk_loop_run(*state);
    assert_int_equal(witness.exit_code, 5);
    bk_buffer_fini(&witness.text);
}

/* The grandchild would hold the output open for a minute. */
static void test_what_a_child_leaves_behind_ends_with_it(void **state) {
    uint64_t start_ns = bk_clock_monotonic_ns();
    struct witness witness;
    start_shell(&witness, state, "sleep 60 & echo $!; exit 0");
    await_exit(&witness);
    assert_true(bk_clock_monotonic_ns() - start_ns < 30ULL * 1000000000);
    assert_int_equal(witness.exit_code, 0);
    finish(&witness);
}

/* This one has left the group, so it lives; its hold on the output is given up after a second. */
static void test_a_grandchild_that_fled_does_not_hold_up_the_end(void **state) {
    struct witness witness;
    struct bk_slice said;
    int64_t fled;
    start_shell(&witness, state, "/usr/bin/setsid /bin/sh -c 'echo $$; exec sleep 30' & sleep 0.2");
    await_exit(&witness);
    said = bk_slice_make(witness.text.data + 2, witness.text.length - 3);
    assert_true(bk_slice_to_int64(said, &fled) && fled > 1);
    assert_int_equal(kill((pid_t)fled, SIGKILL), 0);
    finish(&witness);
}

/* --- starting --------------------------------------------------------------------------------- */

static void test_a_program_that_cannot_start_calls_nothing_back(void **state) {
    char none[] = "/nowhere/to/be/found", *arguments[] = {none, NULL};
    struct witness witness = {.loop = *state};
    struct bk_error error = BK_ERROR_INIT;
    struct bk_process *process = NULL;
    struct bk_process_options options = {.file = none,
                                         .arguments = arguments,
                                         .line_max_bytes = 10,
                                         .on_line = on_line,
                                         .on_exit = on_exit_seen,
                                         .user = &witness};
    assert_int_equal(bk_process_spawn(*state, &options, &process, &error), BK_NOT_FOUND);
    assert_null(process);
    assert_non_null(strstr(error.message, "start /nowhere/to/be/found: no such file"));
    options.file = "/etc/passwd";
    assert_int_equal(bk_process_spawn(*state, &options, &process, &error), BK_IO);
    bk_loop_run(*state);
    assert_false(witness.has_exited || witness.has_line);
}

static void test_the_environment_is_only_what_is_given(void **state) {
    char env[] = "/usr/bin/env", *arguments[] = {env, NULL};
    char variable[] = "ONLY=this", *environment[] = {variable, NULL};
    struct witness witness;
    start(&witness, state, arguments, environment, LINE_MAX_BYTES);
    await_exit(&witness);
    assert_said(&witness, "o:ONLY=this|");
    finish(&witness);
    start(&witness, state, arguments, NULL, LINE_MAX_BYTES);
    await_exit(&witness);
    assert_said(&witness, "");
    finish(&witness);
}

static void test_no_descriptor_is_inherited(void **state) {
    int careless = open("/dev/null", O_RDONLY);
    struct witness witness;
    char script[64];
    assert_true(careless > 2);
    (void)snprintf(script, sizeof(script), "test -e /proc/self/fd/%d", careless);
    start_shell(&witness, state, script);
    await_exit(&witness);
    assert_int_equal(witness.exit_code, 1);
    finish(&witness);
    (void)close(careless);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_lines_come_in_order_and_the_end_after_the_last),
        LOOP_TEST(test_errors_are_told_apart),
        LOOP_TEST(test_a_line_that_is_too_long_is_cut),
        LOOP_TEST(test_a_flood_of_lines_comes_whole),
        LOOP_TEST(test_input_comes_back_from_cat),
        LOOP_TEST(test_input_is_bounded_and_what_was_taken_arrives),
        LOOP_TEST(test_a_child_that_does_not_read_is_no_trouble),
        LOOP_TEST(test_a_killed_child_tells_its_signal),
        LOOP_TEST(test_closing_kills_silences_and_reaps),
        LOOP_TEST(test_may_be_closed_in_its_callbacks),
        LOOP_TEST(test_what_a_child_leaves_behind_ends_with_it),
        LOOP_TEST(test_a_grandchild_that_fled_does_not_hold_up_the_end),
        LOOP_TEST(test_a_program_that_cannot_start_calls_nothing_back),
        LOOP_TEST(test_the_environment_is_only_what_is_given),
        LOOP_TEST(test_no_descriptor_is_inherited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
