/* Following the journal by a router that is played here: answers in order, and what was asked. */
#include "bakend/follow.h"

#include "support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ANSWERS_MAX = 8, TARGET_BYTES = 256, SAID_BYTES = 4096 };

struct answer {
    int status;
    const char *text;
};

static struct answer answers[ANSWERS_MAX];
static char targets[ANSWERS_MAX][TARGET_BYTES];
static size_t answer_count, asked_count;

static int on_call(struct bk_command_context *context, enum bk_method method, const char *target,
                   struct bk_slice body, struct bk_buffer *out) {
    (void)context;
    assert_int_equal(method, BK_GET);
    assert_int_equal(body.length, 0);
    assert_true(asked_count < answer_count);
    snprintf(targets[asked_count], TARGET_BYTES, "%s", target);
    bk_buffer_append_slice(out, bk_slice_from(answers[asked_count].text));
    return answers[asked_count++].status;
}

static struct bk_command_context command;
static struct bk_follow follow;

static int setup(void **state) {
    (void)state;
    command = (struct bk_command_context){.data_directory = "data", .call = on_call};
    answer_count = asked_count = 0;
    bk_follow_init(&follow, &command);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_follow_fini(&follow);
    return 0;
}

static void will_answer(int status, const char *text) {
    assert_true(answer_count < ANSWERS_MAX);
    answers[answer_count++] = (struct answer){status, text};
}

/* --- what is said on standard error ----------------------------------------------------------- */

static int real_stderr = -1;
static FILE *said_file;

static void listen(void) {
    said_file = tmpfile();
    assert_non_null(said_file);
    fflush(stderr);
    real_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fileno(said_file), STDERR_FILENO) >= 0);
}

static const char *said(void) {
    static char text[SAID_BYTES];
    fflush(stderr);
    assert_true(dup2(real_stderr, STDERR_FILENO) >= 0);
    close(real_stderr);
    rewind(said_file);
    text[fread(text, 1, sizeof text - 1, said_file)] = '\0';
    fclose(said_file);
    return text;
}

/* --- tests ------------------------------------------------------------------------------------ */

static enum bk_follow_flag read_flag(int count, char **arguments, int *index) {
    *index = 0;
    return bk_follow_read_flag(&follow, index, count, arguments);
}

static void flags_are_read_in_both_spellings(void **state) {
    (void)state;
    char a[] = "--types", b[] = "posts.*, users.created", c[] = "--subject=posts/a b",
         d[] = "--json";
    char *two[] = {a, b}, *one[] = {c}, *other[] = {d};
    int index;
    assert_int_equal(read_flag(2, two, &index), BK_FOLLOW_FLAG_TAKEN);
    assert_int_equal(index, 1);
    assert_int_equal(read_flag(1, one, &index), BK_FOLLOW_FLAG_TAKEN);
    assert_int_equal(index, 0);
    assert_string_equal(follow.subject, "posts/a b");
    assert_int_equal(read_flag(1, other, &index), BK_FOLLOW_FLAG_OTHER);
}

static void wrong_flags_are_explained(void **state) {
    (void)state;
    char a[] = "--types=nodot", b[] = "--after=", c[] = "--filter";
    char *types[] = {a}, *after[] = {b}, *filter[] = {c};
    int index;
    listen();
    enum bk_follow_flag first = read_flag(1, types, &index), second = read_flag(1, after, &index),
                        third = read_flag(1, filter, &index);
    const char *text = said();
    assert_int_equal(first, BK_FOLLOW_FLAG_WRONG);
    assert_int_equal(second, BK_FOLLOW_FLAG_WRONG);
    assert_int_equal(third, BK_FOLLOW_FLAG_OTHER);
    assert_false(follow.has_after);
    assert_non_null(strstr(text, "--types must be"));
    assert_non_null(strstr(text, "--after must be"));
    assert_non_null(strstr(text, "--filter needs a value behind it"));
}

static void pages_are_asked_for_behind_the_cursor(void **state) {
    (void)state;
    follow.filter = "a = 'b'";
    assert_true(bk_follow_begin(&follow));
    will_answer(200, "{\"next\":\"head\",\"events\":[]}");
    will_answer(200,
                "{\"next\":\"later\",\"hasMore\":true,\"events\":[{\"id\":\"1\"},{\"id\":\"2\"}]}");
    assert_int_equal(bk_follow_ask(&follow, "now", 1, ""), 200);
    assert_null(bk_follow_first(&follow));
    assert_false(bk_follow_has_more(&follow));
    bk_follow_move(&follow, bk_follow_page_end(&follow));
    assert_int_equal(bk_follow_next(&follow, 50, true), 200);
    assert_string_equal(targets[0], "/api/events?limit=1&after=now&filter=a%20%3D%20%27b%27");
    assert_string_equal(targets[1],
                        "/api/events?limit=50&wait=30&after=head&filter=a%20%3D%20%27b%27");
    assert_true(bk_follow_has_more(&follow));
    assert_true(bk_slice_is(bk_json_get_string(bk_follow_first(&follow), BK_SLICE("id")), "1"));
    assert_true(bk_slice_is(bk_follow_page_end(&follow), "later"));
}

static void a_page_that_cannot_be_held_is_asked_for_by_the_event(void **state) {
    (void)state;
    will_answer(200, "{\"next\":\"later\",\"events\":[{]}");
    will_answer(200, "{\"next\":\"later\",\"events\":[{\"id\":\"1\"}]}");
    assert_true(bk_follow_begin(&follow));
    bk_follow_move(&follow, BK_SLICE("head"));
    assert_int_equal(bk_follow_next(&follow, 50, false), 200);
    assert_string_equal(targets[1], "/api/events?limit=1&after=head");
}

static void a_server_that_is_away_is_waited_for_and_said_so_once(void **state) {
    (void)state;
    will_answer(503, "{\"message\":\"Starting.\"}");
    will_answer(-1, "");
    will_answer(200, "{\"next\":\"later\",\"events\":[]}");
    assert_true(bk_follow_begin(&follow));
    bk_follow_move(&follow, BK_SLICE("head"));
    listen();
    int status = bk_follow_next(&follow, 50, true);
    const char *text = said();
    assert_int_equal(status, 200);
    assert_true(command.is_patient);
    assert_string_equal(text, "bakend: the server is not ready, waiting for it: Starting.\n"
                              "bakend: the server is back: going on behind head\n");
}

static void nobody_is_waited_for_without_a_long_poll(void **state) {
    (void)state;
    will_answer(-1, "");
    assert_true(bk_follow_begin(&follow));
    assert_int_equal(bk_follow_next(&follow, 50, false), -1);
    assert_false(command.is_patient);
}

static void a_refusal_is_said_field_by_field(void **state) {
    (void)state;
    will_answer(410, "{\"message\":\"Gone.\",\"data\":{\"after\":{\"code\":\"cursor_expired\","
                     "\"message\":\"Too old.\",\"params\":{\"oldest\":\"abc\"}}}}");
    assert_true(bk_follow_begin(&follow));
    int status = bk_follow_ask(&follow, "old", 1, "");
    listen();
    bk_follow_say_refusal(&follow, status);
    bk_follow_say_refusal(&follow, -1);
    assert_string_equal(said(), "bakend: Gone.\nbakend: --after: Too old.\n"
                                "bakend: what is still kept begins behind --after abc\n");
}

/* Of a call that cannot be made it must not be thought that nobody answers: it would wait for
 * ever. */
static void flags_that_are_too_long_are_refused_before_anything_is_asked(void **state) {
    static char filter[33 * 1024];
    (void)state;
    memset(filter, 'a', sizeof filter - 1);
    follow.filter = filter;
    listen();
    bool has_begun = bk_follow_begin(&follow);
    const char *text = said();
    assert_false(has_begun);
    assert_string_equal(text, "bakend: --types, --subject and --filter are too long\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(flags_are_read_in_both_spellings),
        TEST(wrong_flags_are_explained),
        TEST(pages_are_asked_for_behind_the_cursor),
        TEST(a_page_that_cannot_be_held_is_asked_for_by_the_event),
        TEST(a_server_that_is_away_is_waited_for_and_said_so_once),
        TEST(nobody_is_waited_for_without_a_long_poll),
        TEST(a_refusal_is_said_field_by_field),
        TEST(flags_that_are_too_long_are_refused_before_anything_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
