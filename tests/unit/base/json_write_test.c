/* Writing JSON: escapes, repair of broken UTF-8, commas, and the maximum of the buffer. */
#include "bakend/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

static struct bk_buffer buffer;

static int on_setup(void **state) {
    (void)state;
    bk_buffer_init(&buffer, 1 << 20);
    return 0;
}

static int on_teardown(void **state) {
    (void)state;
    bk_buffer_fini(&buffer);
    return 0;
}

static void assert_writes(struct bk_slice text, const char *expected) {
    bk_buffer_clear(&buffer);
    bk_json_write_string(&buffer, text);
    if (!bk_slice_equal(bk_buffer_slice(&buffer), bk_slice_from(expected)))
        fail_msg("%s is written as %.*s", expected, BK_SLICE_PRINT(bk_buffer_slice(&buffer)));
}

static void test_strings_are_escaped(void **state) {
    (void)state;
    assert_writes(BK_SLICE_EMPTY, "\"\"");
    assert_writes(BK_SLICE("plain text / of more than sixteen bytes \x7f"),
                  "\"plain text / of more than sixteen bytes \x7f\"");
    assert_writes(BK_SLICE("\"\\"), "\"\\\"\\\\\"");
    assert_writes(BK_SLICE("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    assert_writes(BK_SLICE("\0\x01\x1f"), "\"\\u0000\\u0001\\u001f\"");
    assert_writes(BK_SLICE("\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80"),
                  "\"\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80\"");
}

static void test_broken_utf8_is_replaced_byte_by_byte(void **state) {
    (void)state;
    assert_writes(BK_SLICE("a\xff"
                           "b"),
                  "\"a\xef\xbf\xbd"
                  "b\"");
    assert_writes(BK_SLICE("\xc3"), "\"\xef\xbf\xbd\"");
    assert_writes(BK_SLICE("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    assert_writes(BK_SLICE("\xe2\x82\"\xc3\xa9"), "\"\xef\xbf\xbd\xef\xbf\xbd\\\"\xc3\xa9\"");
}

/* One byte that needs care at every place of texts of every length: the scan takes steps. */
static void test_care_is_taken_at_every_place(void **state) {
    (void)state;
    static const struct {
        char byte;
        const char *expected;
    } cases[] = {{'"', "\\\""},
                 {'\\', "\\\\"},
                 {'\n', "\\n"},
                 {'\x1f', "\\u001f"},
                 {'\x80', "\xef\xbf\xbd"}};
    for (size_t length = 1; length < 70; length++) {
        for (size_t place = 0; place < length; place++) {
            size_t kind = (length + place) % 5;
            char text[70], expected[200];
            memset(text, 'x', sizeof text);
            text[place] = cases[kind].byte;
            snprintf(expected, sizeof expected, "\"%.*s%s%.*s\"", (int)place, text,
                     cases[kind].expected, (int)(length - place - 1), text + place + 1);
            assert_writes(bk_slice_make(text, length), expected);
        }
    }
}

static void test_every_byte_round_trips(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1 << 20);
    for (int first = 1; first < 0x80; first++) {
        char text[2] = {(char)first, 'z'};
        bk_buffer_clear(&buffer);
        bk_json_write_string(&buffer, bk_slice_make(text, 2));
        struct bk_json *value = NULL;
        assert_int_equal(bk_json_parse(&arena, bk_buffer_slice(&buffer), &value, NULL), BK_OK);
        assert_true(bk_slice_equal(value->string, bk_slice_make(text, 2)));
    }
    bk_arena_fini(&arena);
}

static void test_random_bytes_give_valid_json(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1 << 20);
    uint64_t seed = 5;
    for (int i = 0; i < 20000; i++) {
        char text[64];
        size_t length = (size_t)i % sizeof text;
        for (size_t k = 0; k < length; k++) {
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            text[k] = (char)(seed >> 56);
            if (text[k] == '\0') /* valid to write, but the gate refuses to read it */
                text[k] = '\xe2';
        }
        bk_buffer_clear(&buffer);
        bk_json_write_string(&buffer, bk_slice_make(text, length));
        struct bk_json *value = NULL;
        assert_int_equal(bk_json_parse(&arena, bk_buffer_slice(&buffer), &value, NULL), BK_OK);
        if (bk_slice_is_utf8(bk_slice_make(text, length)))
            assert_true(bk_slice_equal(value->string, bk_slice_make(text, length)));
        bk_arena_reset(&arena);
    }
    bk_arena_fini(&arena);
}

static void test_members_and_elements_get_their_commas(void **state) {
    (void)state;
    bk_buffer_append_char(&buffer, '{');
    bk_json_write_member_string(&buffer, BK_SLICE("a\"b"), BK_SLICE("{"));
    bk_json_write_member_int(&buffer, BK_SLICE("n"), INT64_MIN);
    bk_json_write_member_bool(&buffer, BK_SLICE("t"), true);
    bk_json_write_member_bool(&buffer, BK_SLICE("f"), false);
    bk_json_write_member_raw(&buffer, BK_SLICE("r"), BK_SLICE("[]"));
    bk_json_write_key(&buffer, BK_SLICE("o"));
    bk_buffer_append_char(&buffer, '{');
    bk_json_write_member_int(&buffer, BK_SLICE("x"), 0);
    bk_buffer_append_char(&buffer, '}');
    bk_json_write_key(&buffer, BK_SLICE("l"));
    bk_buffer_append_char(&buffer, '[');
    for (int i = 0; i < 3; i++) {
        bk_json_write_separator(&buffer);
        bk_json_write_int(&buffer, i);
    }
    bk_buffer_append_literal(&buffer, "]}");
    assert_true(
        bk_slice_is(bk_buffer_slice(&buffer),
                    "{\"a\\\"b\":\"{\",\"n\":-9223372036854775808,\"t\":true,\"f\":false,\"r\":[],"
                    "\"o\":{\"x\":0},\"l\":[0,1,2]}"));
}

static void test_empty_buffer_needs_no_comma(void **state) {
    (void)state;
    bk_json_write_separator(&buffer);
    assert_int_equal(buffer.length, 0);
    bk_json_write_key(&buffer, BK_SLICE("k"));
    assert_true(bk_slice_is(bk_buffer_slice(&buffer), "\"k\":"));
}

static void test_overflow_sticks(void **state) {
    (void)state;
    static const size_t whole =
        sizeof "{\"key\":\"value\\n\xef\xbf\xbd of\",\"n\":123,\"d\":1.5}" - 1;
    for (size_t max_bytes = 0; max_bytes <= whole; max_bytes++) {
        struct bk_buffer small;
        bk_buffer_init(&small, max_bytes);
        bk_buffer_append_char(&small, '{');
        bk_json_write_member_string(&small, BK_SLICE("key"), BK_SLICE("value\n\xff of"));
        bk_json_write_member_int(&small, BK_SLICE("n"), 123);
        bk_json_write_key(&small, BK_SLICE("d"));
        bk_json_write_double(&small, 1.5);
        bk_buffer_append_char(&small, '}');
        assert_true(small.length <= max_bytes);
        assert_int_equal(small.is_overflown, max_bytes < whole);
        bk_buffer_fini(&small);
    }
}

int main(void) {
#define WRITE_TEST(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)
    const struct CMUnitTest tests[] = {
        WRITE_TEST(test_strings_are_escaped),
        WRITE_TEST(test_broken_utf8_is_replaced_byte_by_byte),
        WRITE_TEST(test_care_is_taken_at_every_place),
        WRITE_TEST(test_every_byte_round_trips),
        WRITE_TEST(test_random_bytes_give_valid_json),
        WRITE_TEST(test_members_and_elements_get_their_commas),
        WRITE_TEST(test_empty_buffer_needs_no_comma),
        WRITE_TEST(test_overflow_sticks),
    };
#undef WRITE_TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
