/* A whole message, as it goes over the wire. */
#include "mail.h"

#include "support.h"

static const struct mail_composing composing = {
    .id = BK_SLICE_INIT("task00000000001"),
    .wall_ms = 1795351623000, /* Sunday, 22 November 2026, 12:47:03 */
    .from = {.address = BK_SLICE_INIT("support@example.com"), .name = BK_SLICE_INIT("Support")},
    .message_id = BK_SLICE_INIT("task00000000001@example.com"),
};

static void a_page_has_a_text_beside_it(void **state) {
    struct mail_address to = {.address = BK_SLICE_INIT("ann@example.com")};
    struct mail_address hidden = {.address = BK_SLICE_INIT("eve@example.org")};
    const struct mail_message message = {.to = &to,
                                         .bcc = &hidden,
                                         .subject = BK_SLICE("Hi"),
                                         .html = BK_SLICE("<p>Hello <b>Ann</b></p>")};
    struct bk_buffer out;
    (void)state;
    bk_buffer_init(&out, MAIL_BYTES_MAX);
    assert_int_equal(mail_compose(&message, &composing, &out), BK_OK);
    bk_buffer_append_char(&out, '\0');
    assert_string_equal(out.data, "Date: Sun, 22 Nov 2026 12:47:03 +0000\r\n"
                                  "From: Support <support@example.com>\r\n"
                                  "To: ann@example.com\r\n"
                                  "Subject: Hi\r\n"
                                  "Message-ID: <task00000000001@example.com>\r\n"
                                  "Auto-Submitted: auto-generated\r\n"
                                  "MIME-Version: 1.0\r\n"
                                  "Content-Type: multipart/alternative;\r\n"
                                  " boundary=\"=_task00000000001\"\r\n\r\n"
                                  "--=_task00000000001\r\n"
                                  "Content-Type: text/plain; charset=utf-8\r\n"
                                  "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
                                  "Hello Ann\r\n"
                                  "--=_task00000000001\r\n"
                                  "Content-Type: text/html; charset=utf-8\r\n"
                                  "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
                                  "<p>Hello <b>Ann</b></p>\r\n"
                                  "--=_task00000000001--\r\n");
    bk_buffer_fini(&out);
}

static void blind_copies_alone_are_not_named(void **state) {
    struct mail_address hidden = {.address = BK_SLICE_INIT("eve@example.org")};
    const struct mail_message message = {
        .bcc = &hidden, .subject = BK_SLICE("Hi"), .text = BK_SLICE("Hello")};
    struct bk_buffer out;
    (void)state;
    bk_buffer_init(&out, MAIL_BYTES_MAX);
    assert_int_equal(mail_compose(&message, &composing, &out), BK_OK);
    bk_buffer_append_char(&out, '\0');
    assert_non_null(strstr(out.data, "To: undisclosed-recipients:;\r\n"));
    assert_null(strstr(out.data, "eve"));
    assert_null(strstr(out.data, "multipart"));
    bk_buffer_fini(&out);
}

static void what_is_too_large_is_said(void **state) {
    struct mail_address to = {.address = BK_SLICE_INIT("ann@example.com")};
    const struct mail_message message = {
        .to = &to, .subject = BK_SLICE("Hi"), .text = BK_SLICE("a text that has no room")};
    struct bk_buffer out;
    (void)state;
    bk_buffer_init(&out, 300);
    assert_int_equal(mail_compose(&message, &composing, &out), BK_TOO_LARGE);
    bk_buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_has_a_text_beside_it),
        cmocka_unit_test(blind_copies_alone_are_not_named),
        cmocka_unit_test(what_is_too_large_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
