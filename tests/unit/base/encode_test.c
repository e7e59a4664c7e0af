/* Text forms of bytes: the RFCs' examples, round trips, and strictness. */
#include "bakend/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_base64url(const char *bytes, size_t length, const char *expected) {
    char text[64];
    size_t written = bk_base64url_encode(text, bytes, length);
    assert_int_equal(written, BK_BASE64URL_BYTES(length));
    assert_true(bk_slice_equal(bk_slice_make(text, written), bk_slice_from(expected)));
    char back[64];
    size_t room = length;
    assert_true(bk_base64url_decode(bk_slice_from(expected), back, &room));
    assert_int_equal(room, length);
    assert_memory_equal(back, bytes, length);
}

static void test_base64url_examples_of_rfc_4648(void **state) {
    (void)state;
    assert_base64url("", 0, "");
    assert_base64url("f", 1, "Zg");
    assert_base64url("fo", 2, "Zm8");
    assert_base64url("foo", 3, "Zm9v");
    assert_base64url("foob", 4, "Zm9vYg");
    assert_base64url("fooba", 5, "Zm9vYmE");
    assert_base64url("foobar", 6, "Zm9vYmFy");
    assert_base64url("\xfb\xff\xfe", 3, "-__-");
}

static void test_base64url_random_round_trips(void **state) {
    (void)state;
    uint64_t seed = 3;
    for (size_t length = 0; length < 300; length++) {
        unsigned char bytes[300], back[300];
        char text[402];
        for (size_t i = 0; i < length; i++) {
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            bytes[i] = (unsigned char)(seed >> 56);
        }
        size_t written = bk_base64url_encode(text, bytes, length);
        size_t room = sizeof back;
        assert_true(bk_base64url_decode(bk_slice_make(text, written), back, &room));
        assert_int_equal(room, length);
        assert_memory_equal(back, bytes, length);
    }
}

static void test_base64url_has_one_text_per_value(void **state) {
    (void)state;
    static const char *refused[] = {"A",    "Zg==", "Zg=", "Zh",     "Zm9",   "Zm9v=",
                                    "Zm+v", "Zm/v", "Z g", "Zm9v\n", "AAAAA", "Z\xc3\xa9g"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char out[16];
        size_t room = sizeof out;
        if (bk_base64url_decode(bk_slice_from(refused[i]), out, &room))
            fail_msg("accepted: %s", refused[i]);
        assert_int_equal(room, sizeof out);
    }
}

static void test_base64url_respects_the_room(void **state) {
    (void)state;
    char out[4] = "xxx";
    size_t room = 2;
    assert_false(bk_base64url_decode(BK_SLICE("Zm9v"), out, &room));
    assert_string_equal(out, "xxx");
    room = 3;
    assert_true(bk_base64url_decode(BK_SLICE("Zm9v"), out, &room));
}

static void test_base64_is_padded_and_has_one_text_per_value(void **state) {
    (void)state;
    static const char *pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"\xfb\xff\xfe", "+//+"},
    };
    static const char *refused[] = {"Zg",   "Zg=",  "Zm8",  "=",      "====", "Zg===",
                                    "Zh==", "-_-_", "Z g=", "Zm9v\n", "Z=g=", "AAAAA==="};
    char out[16];
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct bk_slice bytes = bk_slice_from(pairs[i][0]), text = bk_slice_from(pairs[i][1]);
        size_t written = bk_base64_encode(out, bytes.data, bytes.length), room = bytes.length;
        assert_int_equal(written, BK_BASE64_BYTES(bytes.length));
        assert_true(bk_slice_equal(bk_slice_make(out, written), text));
        assert_true(bk_base64_decode(text, out, &room));
        assert_true(bk_slice_equal(bk_slice_make(out, room), bytes));
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        size_t room = sizeof out;
        if (bk_base64_decode(bk_slice_from(refused[i]), out, &room))
            fail_msg("accepted: %s", refused[i]);
    }
}

static void test_hex(void **state) {
    (void)state;
    char text[9] = "????????";
    bk_hex_encode(text, "\x00\x9f\xa0\xff", 4);
    assert_string_equal(text, "009fa0ff");
}

static void test_percent_decode(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1000);
    struct bk_slice out;
    struct bk_slice plain = BK_SLICE("a+b");
    assert_true(bk_percent_decode(&arena, plain, false, &out));
    assert_ptr_equal(out.data, plain.data);
    assert_true(bk_percent_decode(&arena, plain, true, &out));
    assert_true(bk_slice_is(out, "a b"));
    assert_true(bk_percent_decode(&arena, BK_SLICE("%41%c3%A9%2B"), true, &out));
    assert_true(bk_slice_is(out, "A\xc3\xa9+"));
    assert_true(bk_percent_decode(&arena, BK_SLICE_EMPTY, true, &out));
    assert_int_equal(out.length, 0);
    static const char *broken[] = {"%", "%4", "%4g", "%g4", "a%", "%%41", "% 1", "%-1"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        out = plain;
        assert_false(bk_percent_decode(&arena, bk_slice_from(broken[i]), false, &out));
        assert_ptr_equal(out.data, plain.data);
    }
    bk_arena_fini(&arena);
}

static void test_percent_encode_and_back_for_every_byte(void **state) {
    (void)state;
    struct bk_arena arena;
    struct bk_buffer buffer;
    bk_arena_init(&arena, 10000);
    bk_buffer_init(&buffer, 1000);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    bk_percent_encode(&buffer, bk_slice_make(all, sizeof all));
    assert_int_equal(buffer.length, 66 + 190 * 3);
    struct bk_slice back;
    assert_true(bk_percent_decode(&arena, bk_buffer_slice(&buffer), true, &back));
    assert_true(bk_slice_equal(back, bk_slice_make(all, sizeof all)));
    bk_buffer_clear(&buffer);
    bk_percent_encode(&buffer, BK_SLICE("a-._~ /\xc3"));
    assert_true(bk_slice_is(bk_buffer_slice(&buffer), "a-._~%20%2F%C3"));
    bk_buffer_fini(&buffer);
    bk_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64url_examples_of_rfc_4648),
        cmocka_unit_test(test_base64url_random_round_trips),
        cmocka_unit_test(test_base64url_has_one_text_per_value),
        cmocka_unit_test(test_base64url_respects_the_room),
        cmocka_unit_test(test_base64_is_padded_and_has_one_text_per_value),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_percent_decode),
        cmocka_unit_test(test_percent_encode_and_back_for_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
