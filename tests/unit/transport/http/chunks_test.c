/*
 * The framing of chunked bodies: what is read, what is refused, and that it makes no difference how
 * the bytes are cut.
 */
#include "chunks.h"

#include "support.h"

#include "bakend/assert.h"

struct row {
    const char *text;
    size_t length, body_length;
};

/* A body and what lies behind it. */
#define BODY(body, behind)                                                                         \
    { body behind, sizeof(body behind) - 1, sizeof(body) - 1 }
#define BROKEN(text) BODY(text, "")

static const struct row ends[] = {
    BODY("0\r\n\r\n", ""),
    BODY("0\r\n\r\n", "GET / HTTP/1.1\r\n"),
    BODY("00000\r\n\r\n", "0"),
    BODY("3\r\nabc\r\n0\r\n\r\n", ""),
    BODY("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", ""),
    BODY("0000000000000001\r\n\r\r\n0\r\n\r\n", ""),
    BODY("1\r\n\n\r\n0\r\n\r\n", ""),
    BODY("1;\r\nx\r\n0\r\n\r\n", ""),
    BODY("1;a=b;c=\"d e\"\t\xff\r\nx\r\n0;z\r\n\r\n", ""),
    BODY("0\r\nX-Sum: 1\r\nY:\r\n\r\n", ""),
    BODY("0\r\nContent-Length-: 1\r\nContent-Lengt: 1\r\n\r\n", ""),
};

static const struct row broken[] = {
    BROKEN("\r\n"),
    BROKEN(";a\r\n"),
    BROKEN(" 1\r\n"),
    BROKEN("1 \r\n"),
    BROKEN("1 ;a\r\n"),
    BROKEN("1\t\r\n"),
    BROKEN("+1\r\n"),
    BROKEN("-1\r\n"),
    BROKEN("0x1\r\n"),
    BROKEN("g\r\n"),
    BROKEN("1\0\r\n"),
    BROKEN("00000000000000001\r\n"), /* 17 digits */
    BROKEN("1\nx"),
    BROKEN("1\rx"),
    BROKEN("1\r\r\n"),
    BROKEN("1;\n"),
    BROKEN("1;\r;"),
    BROKEN("1;\x01\r\n"),
    BROKEN("1;\x7f\r\n"),
    BROKEN("1\r\nxy"),
    BROKEN("1\r\nx\n"),
    BROKEN("1\r\nx\rx"),
    BROKEN("0\r\n\n"),
    BROKEN("0\r\n\rX"),
    BROKEN("0\r\n X: y\r\n"),
    BROKEN("0\r\nX: y\r\n z\r\n"),
    BROKEN("0\r\nX : y\r\n"),
    BROKEN("0\r\n: y\r\n"),
    BROKEN("0\r\nX\r\n"),
    BROKEN("0\r\nX: y\n"),
    BROKEN("0\r\nX: y\rz"),
    BROKEN("0\r\nX: \0\r\n"),
    BROKEN("0\r\nX\xe4: y\r\n"),
    BROKEN("0\r\nContent-Length: 1\r\n"),
    BROKEN("0\r\nA: b\r\ntransfer-ENCODING: chunked\r\n"),
};

/* In two pieces; *used counts both. */
static enum http_chunks_result read_cut(const struct row *row, size_t cut, size_t *used) {
    struct http_chunks chunks = {0};
    size_t first = 0, second = 0;
    enum http_chunks_result result = http_chunks_read(&chunks, row->text, cut, &first);
    if (result == HTTP_CHUNKS_MORE)
        result = http_chunks_read(&chunks, row->text + cut, row->length - cut, &second);
    *used = first + second;
    return result;
}

static enum http_chunks_result read_slowly(const struct row *row, size_t *used) {
    struct http_chunks chunks = {0};
    enum http_chunks_result result = HTTP_CHUNKS_MORE;
    *used = 0;
    for (size_t at = 0; at < row->length && result == HTTP_CHUNKS_MORE; at++) {
        size_t one;
        result = http_chunks_read(&chunks, row->text + at, 1, &one);
        *used += one;
    }
    return result;
}

static void a_body_ends_at_the_same_place_however_it_is_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(ends); i++) {
        size_t used;
        for (size_t cut = 0; cut <= ends[i].length; cut++) {
            assert_int_equal(read_cut(&ends[i], cut, &used), HTTP_CHUNKS_END);
            assert_int_equal(used, ends[i].body_length);
        }
        assert_int_equal(read_slowly(&ends[i], &used), HTTP_CHUNKS_END);
        assert_int_equal(used, ends[i].body_length);
    }
}

static void a_body_that_is_cut_short_waits_for_more(void **state) {
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(ends); i++) {
        for (size_t length = 0; length < ends[i].body_length; length++) {
            struct http_chunks chunks = {0};
            size_t used;
            assert_int_equal(http_chunks_read(&chunks, ends[i].text, length, &used),
                             HTTP_CHUNKS_MORE);
            assert_int_equal(used, length);
        }
    }
}

static void framing_that_is_in_doubt_is_broken_however_it_is_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(broken); i++) {
        size_t used;
        for (size_t cut = 0; cut <= broken[i].length; cut++)
            if (read_cut(&broken[i], cut, &used) != HTTP_CHUNKS_BROKEN)
                fail_msg("row %zu cut at %zu is let through", i, cut);
        assert_int_equal(read_slowly(&broken[i], &used), HTTP_CHUNKS_BROKEN);
    }
}

static void the_largest_size_is_read(void **state) {
    (void)state;
    static const struct row largest = BROKEN("ffffffffffffffff\r\nabc");
    struct http_chunks chunks = {0};
    size_t used;
    assert_int_equal(http_chunks_read(&chunks, largest.text, largest.length, &used),
                     HTTP_CHUNKS_MORE);
    assert_true(chunks.left == UINT64_MAX - 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_ends_at_the_same_place_however_it_is_cut),
        cmocka_unit_test(a_body_that_is_cut_short_waits_for_more),
        cmocka_unit_test(framing_that_is_in_doubt_is_broken_however_it_is_cut),
        cmocka_unit_test(the_largest_size_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
