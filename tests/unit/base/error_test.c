/* Errors gather context from the inside out and never overrun their line. */
#include "bakend/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_set_returns_the_status_and_keeps_the_message(void **state) {
    (void)state;
    struct bk_error error = BK_ERROR_INIT;
    assert_int_equal(bk_error_set(&error, BK_CORRUPT, "sequence %d is missing", 12), BK_CORRUPT);
    assert_int_equal(error.status, BK_CORRUPT);
    assert_string_equal(error.message, "sequence 12 is missing");
}

static void test_prefixes_go_outermost_first(void **state) {
    (void)state;
    struct bk_error error = BK_ERROR_INIT;
    bk_error_set(&error, BK_CORRUPT, "sequence 12 is missing");
    bk_error_prefix(&error, "journal");
    bk_error_prefix(&error, "open %s", "data/default");
    assert_string_equal(error.message, "open data/default: journal: sequence 12 is missing");
    assert_int_equal(error.status, BK_CORRUPT);
}

static void test_null_error_is_fine(void **state) {
    (void)state;
    assert_int_equal(bk_error_set(NULL, BK_IO, "x"), BK_IO);
    bk_error_prefix(NULL, "y");
}

static void test_message_may_quote_itself(void **state) {
    (void)state;
    struct bk_error error = BK_ERROR_INIT;
    bk_error_set(&error, BK_IO, "disk");
    bk_error_set(&error, BK_INTERNAL, "after %s: gave up", error.message);
    assert_string_equal(error.message, "after disk: gave up");
    bk_error_prefix(&error, "%s", error.message);
    assert_string_equal(error.message, "after disk: gave up: after disk: gave up");
}

static void test_long_messages_are_cut(void **state) {
    (void)state;
    struct {
        struct bk_error error;
        char guard[16];
    } fixture = {.error = BK_ERROR_INIT};
    memset(fixture.guard, 'G', sizeof fixture.guard);
    char text[2000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    bk_error_set(&fixture.error, BK_IO, "%s", text);
    assert_int_equal(strlen(fixture.error.message), BK_ERROR_MESSAGE_BYTES - 1);
    bk_error_prefix(&fixture.error, "outer");
    assert_int_equal(strlen(fixture.error.message), BK_ERROR_MESSAGE_BYTES - 1);
    assert_memory_equal(fixture.error.message, "outer: aaa", 10);
    bk_error_prefix(&fixture.error, "%s", text);
    assert_int_equal(strlen(fixture.error.message), BK_ERROR_MESSAGE_BYTES - 1);
    for (size_t i = 0; i < sizeof fixture.guard; i++)
        assert_int_equal(fixture.guard[i], 'G');
}

static void test_every_length_around_the_limit_fits(void **state) {
    (void)state;
    char text[BK_ERROR_MESSAGE_BYTES + 8];
    for (size_t length = BK_ERROR_MESSAGE_BYTES - 8; length < sizeof text; length++) {
        struct bk_error error = BK_ERROR_INIT;
        memset(text, 'b', sizeof text);
        bk_error_set(&error, BK_IO, "tail");
        bk_error_prefix(&error, "%.*s", (int)length, text);
        size_t whole = length + strlen(": tail");
        size_t most = BK_ERROR_MESSAGE_BYTES - 1;
        assert_int_equal(strlen(error.message), whole < most ? whole : most);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_returns_the_status_and_keeps_the_message),
        cmocka_unit_test(test_prefixes_go_outermost_first),
        cmocka_unit_test(test_null_error_is_fine),
        cmocka_unit_test(test_message_may_quote_itself),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_every_length_around_the_limit_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
