/* Multipart bodies, part by part: RFC 2046's framing, what clients send, and what breaks it. */
#include "support.h"

#include "bakend/assert.h"
#include "bakend/buffer.h"
#include "multipart.h"

/* One character more than RFC 2046 allows. */
#define LONG_BOUNDARY                                                                              \
    "multipart/form-data; boundary="                                                               \
    "01234567890123456789012345678901234567890123456789012345678901234567890"
#define TITLE "Content-Disposition: form-data; name=\"title\"\r\n\r\n"

static struct bk_arena arena;
static struct bk_error error;
static struct api_multipart multipart;

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

static enum bk_status open(const char *type, struct bk_slice body) {
    error = (struct bk_error)BK_ERROR_INIT;
    return api_multipart_init(&multipart, &arena, bk_slice_from(type), body, &error);
}

static struct bk_slice last_body;

static enum bk_status next(struct api_part *part) { return api_multipart_next(&multipart, part); }

static void begin(const char *body) {
    last_body = bk_slice_from(body);
    assert_int_equal(open("multipart/form-data; boundary=x", last_body), BK_OK);
}

static void part_is(const char *name, const char *file_name, const char *data) {
    struct api_part part;
    assert_int_equal(next(&part), BK_OK);
    assert_true(bk_slice_equal(part.name, bk_slice_from(name)));
    assert_true(bk_slice_equal(part.file_name, bk_slice_from(file_name)));
    assert_true(bk_slice_equal(part.data, bk_slice_from(data)));
    assert_true(part.data.data >= last_body.data &&
                part.data.data + part.data.length <= last_body.data + last_body.length);
}

static void ends(void) {
    struct api_part part;
    assert_int_equal(next(&part), BK_END);
}

/* Some part of it is refused, with a reason. */
static void refuses(const char *body) {
    struct api_part part;
    enum bk_status status;
    begin(body);
    while ((status = next(&part)) == BK_OK)
        continue;
    assert_int_equal(status, BK_INVALID);
    assert_true(error.message[0] != '\0');
}

static void reads_parts_in_order(void **state) {
    (void)state;
    begin("--x\r\n" TITLE "a\r\n--x\r\n"
          "content-type: text/plain\r\n"
          "Content-Disposition: form-data; name=\"doc\"; filename=\"a.txt\"\r\n\r\n"
          "line\r\n--y\r\n\r\n--x--\r\n");
    part_is("title", "", "a");
    part_is("doc", "a.txt", "line\r\n--y\r\n");
    ends();
    begin("--x--");
    ends();
}

static void finds_delimiters_only_where_they_are(void **state) {
    (void)state;
    begin("--x\r\n" TITLE "a--x\r\n--xy\r\n--x-\r\n\n--x\r\n--x \t\r\n" TITLE "b\r\n--x-- ");
    part_is("title", "", "a--x\r\n--xy\r\n--x-\r\n\n--x");
    part_is("title", "", "b");
    ends();
}

static void skips_what_stands_before_and_behind(void **state) {
    (void)state;
    begin("hello\r\n--x!\r\n--x\r\n" TITLE "a\r\n--x--\r\nbye\r\n--x\r\n");
    part_is("title", "", "a");
    ends();
}

static void reads_empty_parts(void **state) {
    (void)state;
    begin("--x\r\n" TITLE "\r\n--x\r\n" TITLE "--x--\r\n");
    part_is("title", "", "");
    part_is("title", "", "");
    ends();
}

static void reads_bodies_with_line_feeds_alone(void **state) {
    (void)state;
    begin("--x\nContent-Disposition: form-data; name=a\n\nb\r\n--x\n"
          "Content-Disposition: form-data; name=c\n\nd\n--x--\n");
    part_is("a", "", "b\r");
    part_is("c", "", "d");
    ends();
}

static void gives_file_names_without_folders(void **state) {
    (void)state;
    begin(
        "--x\r\nContent-Disposition: form-data; name=a; filename=\"/etc/passwd\"\r\n\r\n\r\n--x\r\n"
        "Content-Disposition: form-data; name=a; filename=\"b/c//\"\r\n\r\n\r\n--x\r\n"
        "Content-Disposition: form-data; name=a; filename=\"/\"\r\n\r\n\r\n--x--");
    part_is("a", "passwd", "");
    part_is("a", "c", "");
    part_is("a", "/", "");
    ends();
}

static void leaves_parts_of_no_field_without_a_name(void **state) {
    (void)state;
    begin("--x\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--x\r\n\r\n2\r\n--x\r\n"
          "Content-Disposition: form-data; filename=a\r\n\r\n3\r\n--x--");
    part_is("", "", "1");
    part_is("", "", "2");
    part_is("", "a", "3");
    ends();
}

static void reads_a_multipart_within_a_part_as_its_bytes(void **state) {
    (void)state;
    begin("--x\r\nContent-Type: multipart/mixed; boundary=y\r\n" TITLE
          "--y\r\n\r\n1\r\n--y--\r\n\r\n--x--");
    part_is("title", "", "--y\r\n\r\n1\r\n--y--\r\n");
    ends();
}

static void refuses_broken_framing(void **state) {
    (void)state;
    refuses("not a part");
    refuses("--x");
    refuses("--x\r\n");
    refuses("--x\r\n" TITLE);
    refuses("--x\r\n" TITLE "a");
    refuses("--x\r\n" TITLE "a\r\n--x\r\n");
    refuses("--x\r\n" TITLE "a\r\n--x more\r\n" TITLE "b\r\n--x--");
    refuses("--x\r\nContent-Disposition: form-data; name=a\r\n");
    refuses("--x\r\nContent-Disposition: form-data; name=a\n\nb\r\n--x--");
}

static void refuses_heads_with_two_readings(void **state) {
    (void)state;
    refuses("--x\r\n" TITLE "a\r\n--x\r\nContent-Disposition: form-data; name=a\r\n" TITLE
            "\r\n--x--");
    refuses("--x\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\nb\r\n--x--");
    refuses("--x\r\nContent-Disposition : form-data; name=a\r\n\r\nb\r\n--x--");
    refuses("--x\r\nno colon\r\n\r\nb\r\n--x--");
    refuses("--x\r\n: empty\r\n\r\nb\r\n--x--");
    refuses("--x\r\nX-A: a\x01\r\n\r\nb\r\n--x--");
    refuses("--x\r\nContent-Disposition: form-data; name=\"a\r\n\r\nb\r\n--x--");
    refuses("--x\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\nb\r\n--x--");
    refuses("--x\r\nContent-Disposition: form-data; name*=utf-8''%00\r\n\r\nb\r\n--x--");
    refuses("--x\r\nContent-Transfer-Encoding: base64\r\n" TITLE "YQ==\r\n--x--");
}

static void refuses_boundaries_that_are_none(void **state) {
    static const char *const types[] = {
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a\\\"b\"",
        "multipart/form-data; boundary=\"\xc3\xa9\"",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-datax; boundary=a",
        (LONG_BOUNDARY),
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(types); i++)
        assert_int_equal(open(types[i], BK_SLICE("--a--")), BK_INVALID);
    assert_int_equal(open("Multipart/Form-Data; charset=utf-8; Boundary=\"a b'()+_,-./:=?\"",
                          BK_SLICE("--a b'()+_,-./:=?--")),
                     BK_OK);
    ends();
}

static enum bk_status read_all(struct bk_slice body) {
    struct api_part part;
    enum bk_status status = open("multipart/form-data; boundary=x", body);
    while (status == BK_OK)
        status = next(&part);
    return status;
}

static void keeps_limits(void **state) {
    struct bk_buffer body;
    (void)state;
    bk_buffer_init(&body, 1 << 20);
    for (int i = 0; i < API_MULTIPART_PARTS_MAX; i++)
        bk_buffer_append_literal(&body, "--x\r\n" TITLE "\r\n");
    size_t most = body.length;
    bk_buffer_append_literal(&body, "--x--");
    assert_int_equal(read_all(bk_buffer_slice(&body)), BK_END);
    body.length = most;
    bk_buffer_append_literal(&body, "--x\r\n" TITLE "\r\n--x--");
    assert_int_equal(read_all(bk_buffer_slice(&body)), BK_TOO_LARGE);
    assert_non_null(strstr(error.message, "1000 parts"));

    bk_buffer_clear(&body);
    bk_buffer_append_literal(&body, "--x\r\nX-A: ");
    for (int i = 0; i < API_MULTIPART_HEAD_BYTES_MAX; i++)
        bk_buffer_append_char(&body, 'a');
    bk_buffer_append_literal(&body, "\r\n" TITLE "\r\n--x--");
    assert_int_equal(read_all(bk_buffer_slice(&body)), BK_TOO_LARGE);
    assert_non_null(strstr(error.message, "16384 bytes"));

    bk_buffer_clear(&body);
    bk_buffer_append_literal(&body, "--x\r\nContent-Disposition: form-data; name=");
    for (int i = 0; i <= API_MULTIPART_NAME_BYTES_MAX; i++)
        bk_buffer_append_char(&body, 'a');
    bk_buffer_append_literal(&body, "\r\n\r\n\r\n--x--");
    assert_int_equal(read_all(bk_buffer_slice(&body)), BK_TOO_LARGE);
    assert_non_null(strstr(error.message, "1024 bytes"));
    bk_buffer_fini(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_parts_in_order),
        cmocka_unit_test(finds_delimiters_only_where_they_are),
        cmocka_unit_test(skips_what_stands_before_and_behind),
        cmocka_unit_test(reads_empty_parts),
        cmocka_unit_test(reads_bodies_with_line_feeds_alone),
        cmocka_unit_test(gives_file_names_without_folders),
        cmocka_unit_test(leaves_parts_of_no_field_without_a_name),
        cmocka_unit_test(reads_a_multipart_within_a_part_as_its_bytes),
        cmocka_unit_test(refuses_broken_framing),
        cmocka_unit_test(refuses_heads_with_two_readings),
        cmocka_unit_test(refuses_boundaries_that_are_none),
        cmocka_unit_test(keeps_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
