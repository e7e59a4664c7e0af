/* UTF-8 in pieces: RFC 3629, and RFC 6455, section 8.1. */
#include "utf8.h"

#include "bakend/assert.h"
#include "support.h"

enum { TEXT_BYTES_MAX = 24, ROUNDS = 200000 };

static bool is_right(const char *data, size_t length) {
    struct websocket_utf8 utf8 = {0};
    return websocket_utf8_feed(&utf8, data, length) && websocket_utf8_is_whole(&utf8);
}

static void takes_every_code_point(void **state) {
    (void)state;
    for (uint32_t point = 0; point <= 0x10ffff; point++) {
        char text[4];
        size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        bool is_surrogate = point >= 0xd800 && point <= 0xdfff;
        for (size_t i = length; i > 1; i--)
            text[i - 1] = (char)(0x80 | (point >> (6 * (length - i)) & 0x3f));
        text[0] =
            (char)(length == 1 ? point : (uint32_t)0xf00 >> length | point >> (6 * (length - 1)));
        assert_int_equal(is_right(text, length), !is_surrogate);
    }
}

static void refuses_what_is_no_code_point(void **state) {
    static const struct bk_slice wrong[] = {
        BK_SLICE_INIT("\x80"),         BK_SLICE_INIT("\xc0\xaf"),     BK_SLICE_INIT("\xc1\x80"),
        BK_SLICE_INIT("\xe0\x9f\xbf"), BK_SLICE_INIT("\xed\xa0\x80"), BK_SLICE_INIT("\xf0\x8f"),
        BK_SLICE_INIT("\xf4\x90"),     BK_SLICE_INIT("\xf5"),         BK_SLICE_INIT("\xff"),
        BK_SLICE_INIT("a\xc3z"),       BK_SLICE_INIT("12345678\xc3"), BK_SLICE_INIT("\xe2\x82"),
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_false(is_right(wrong[i].data, wrong[i].length));
}

static void fails_at_the_first_byte_that_cannot_be_right(void **state) {
    static const char text[] = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90";
    struct websocket_utf8 utf8 = {0};
    (void)state;
    assert_true(websocket_utf8_feed(&utf8, text, sizeof(text) - 2));
    assert_false(websocket_utf8_is_whole(&utf8));
    assert_false(websocket_utf8_feed(&utf8, text + sizeof(text) - 2, 1));
}

/* Bytes that begin, go on and break sequences, in all orders, cut anywhere. */
static void judges_pieces_as_the_whole(void **state) {
    static const uint8_t bytes[] = {'a',  0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xdf,
                                    0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5};
    uint32_t random = 1;
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        char text[TEXT_BYTES_MAX];
        struct websocket_utf8 utf8 = {0};
        random = random * 1664525 + 1013904223;
        size_t length = random >> 8 & 7, cut = random >> 16 & 7;
        for (size_t i = 0; i < length; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = (char)bytes[(random >> 16) % sizeof(bytes)];
        }
        cut = cut > length ? length : cut;
        bool is_valid = websocket_utf8_feed(&utf8, text, cut) &&
                        websocket_utf8_feed(&utf8, text + cut, length - cut) &&
                        websocket_utf8_is_whole(&utf8);
        assert_int_equal(is_valid, bk_slice_is_utf8(bk_slice_make(text, length)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_code_point),
        cmocka_unit_test(refuses_what_is_no_code_point),
        cmocka_unit_test(fails_at_the_first_byte_that_cannot_be_right),
        cmocka_unit_test(judges_pieces_as_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
