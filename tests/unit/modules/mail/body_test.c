/* Bodies: short lines of ASCII, and the same text again when they are decoded. */
#include "mail.h"

#include "bakend/id.h"
#include "support.h"

static struct bk_buffer out;

static int setup(void **state) {
    (void)state;
    bk_buffer_init(&out, 1024 * 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_buffer_fini(&out);
    return 0;
}

static struct bk_slice body_of(struct bk_slice text) {
    bk_buffer_clear(&out);
    mail_body_write(&out, "text/plain", text);
    assert_int_equal(bk_buffer_status(&out), BK_OK);
    bk_buffer_append_char(&out, '\0');
    const char *body = strstr(out.data, "\r\n\r\n");
    assert_non_null(body);
    return bk_slice_make(body + 4, (size_t)(out.data + out.length - 1 - (body + 4)));
}

static void assert_body(struct bk_slice text, const char *expected) {
    struct bk_slice body = body_of(text);
    if (!bk_slice_equal(body, bk_slice_from(expected)))
        fail_msg("%.*s", BK_SLICE_PRINT(body));
}

static void ascii_stays_readable(void **state) {
    (void)state;
    assert_body(BK_SLICE("Hello,\nthis = a test.\n"), "Hello,\r\nthis =3D a test.\r\n");
    assert_body(BK_SLICE("Gr\xc3\xbc\xc3\x9f"
                         "e aus dem Norden, wo es kalt ist"),
                "Gr=C3=BC=C3=9Fe aus dem Norden, wo es kalt ist\r\n");
    assert_body(BK_SLICE(""), "");
}

static void line_ends_of_any_kind_are_one_kind(void **state) {
    (void)state;
    assert_body(BK_SLICE("a\nb\r\nc\rd\n\ne"), "a\r\nb\r\nc\r\nd\r\n\r\ne\r\n");
}

static void spaces_at_the_end_of_a_line_survive(void **state) {
    (void)state;
    assert_body(BK_SLICE("a \nb\t"), "a=20\r\nb=09\r\n");
}

static void no_line_looks_like_the_protocol(void **state) {
    (void)state;
    assert_body(BK_SLICE(".\n..\nFrom here\na.b"), "=2E\r\n=2E.\r\n=46rom here\r\na.b\r\n");
}

static int hex(char c) { return c <= '9' ? c - '0' : c - 'A' + 10; }

/* Decodes what body_of gave, in place of a mail client. */
static size_t decode_quoted(struct bk_slice body, char *text) {
    size_t length = 0, column = 0;
    for (size_t i = 0; i < body.length; i++) {
        column = body.data[i] == '\n' ? 0 : column + 1;
        assert_true(column <= 77); /* with its CR */
        assert_true((unsigned char)body.data[i] < 0x80);
        if (body.data[i] != '=') {
            text[length++] = body.data[i];
            continue;
        }
        if (body.data[i + 1] != '\r')
            text[length++] = (char)(hex(body.data[i + 1]) * 16 + hex(body.data[i + 2]));
        else
            column = 0;
        i += 2;
    }
    return length;
}

static size_t decode_base64(struct bk_slice body, char *text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = 0, column = 0, count = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < body.length; i++) {
        column = body.data[i] == '\n' ? 0 : column + 1;
        assert_true(column <= 77);
        const char *digit = memchr(digits, body.data[i], 64);
        if (digit == NULL)
            continue;
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (++count % 4 != 1)
            text[length++] = (char)(bits >> (6 - 2 * ((count - 1) % 4)));
    }
    return length;
}

static void any_text_comes_out_as_it_went_in(void **state) {
    static char text[3000], decoded[6000];
    (void)state;
    for (uint32_t round = 0; round < 500; round++) {
        size_t length = bk_random_u64() % (round < 250 ? 200 : sizeof text), expected = 0;
        for (size_t i = 0; i < length; i++) {
            uint64_t kind = bk_random_u64() % 100;
            text[i] = (char)(kind < (round % 3) * 30 ? 0x80 + bk_random_u64() % 128
                                                     : 0x20 + bk_random_u64() % 95);
        }
        struct bk_slice body = body_of(bk_slice_make(text, length));
        if (strstr(out.data, "quoted-printable") != NULL)
            expected = decode_quoted(body, decoded);
        else
            expected = decode_base64(body, decoded);
        assert_int_equal(expected, length == 0 ? 0 : length + 2);
        assert_memory_equal(decoded, text, length);
    }
}

static void what_is_mostly_not_ascii_is_base64(void **state) {
    (void)state;
    body_of(BK_SLICE("\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"));
    assert_non_null(strstr(out.data, "base64"));
    body_of(BK_SLICE("plain"));
    assert_non_null(strstr(out.data, "quoted-printable"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ascii_stays_readable, setup, teardown),
        cmocka_unit_test_setup_teardown(line_ends_of_any_kind_are_one_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(spaces_at_the_end_of_a_line_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(no_line_looks_like_the_protocol, setup, teardown),
        cmocka_unit_test_setup_teardown(any_text_comes_out_as_it_went_in, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_mostly_not_ascii_is_base64, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
