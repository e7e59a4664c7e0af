/* What is put into a template, and what it cannot do there. */
#include "mail.h"

#include "support.h"

static struct bk_buffer out;
static struct mail_variables variables;

static int setup(void **state) {
    (void)state;
    bk_buffer_init(&out, 1024 * 1024);
    variables.count = 0;
    mail_variables_add(&variables, BK_SLICE("APP_NAME"), BK_SLICE("A & B"), true);
    mail_variables_add(&variables, BK_SLICE("TOKEN"), BK_SLICE("secret"), false);
    mail_variables_add(&variables, BK_SLICE("RECORD:name"),
                       BK_SLICE("<script>{TOKEN}</script>\r\nBcc: eve@example.com"), false);
    mail_variables_add(&variables, BK_SLICE("RECORD:quote"), BK_SLICE("\" onclick='x"), false);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_buffer_fini(&out);
    return 0;
}

static void assert_filled(const char *text, enum mail_filling filling, const char *expected) {
    bk_buffer_clear(&out);
    mail_template_fill(bk_slice_from(text), &variables, filling, &out);
    if (!bk_slice_equal(bk_buffer_slice(&out), bk_slice_from(expected)))
        fail_msg("%s: %.*s", text, BK_SLICE_PRINT(bk_buffer_slice(&out)));
}

static void values_are_escaped_in_a_page(void **state) {
    (void)state;
    assert_filled("<p>{APP_NAME} {RECORD:name}</p>", MAIL_FILL_HTML,
                  "<p>A &amp; B &lt;script&gt;{TOKEN}&lt;/script&gt;\r\nBcc: "
                  "eve@example.com</p>");
    assert_filled("<a title=\"{RECORD:quote}\">", MAIL_FILL_HTML,
                  "<a title=\"&#34; onclick=&#39;x\">");
}

static void values_end_no_line_of_the_head(void **state) {
    (void)state;
    assert_filled("Hi {RECORD:name}", MAIL_FILL_LINE,
                  "Hi <script>{TOKEN}</script>  Bcc: eve@example.com");
    assert_filled("a\r\nBcc: x", MAIL_FILL_LINE, "a  Bcc: x");
}

static void an_event_sees_no_secret(void **state) {
    (void)state;
    assert_filled("{TOKEN} for {APP_NAME}", MAIL_FILL_LINE, "secret for A & B");
    assert_filled("{TOKEN} for {APP_NAME} {RECORD:name}", MAIL_FILL_PUBLIC_LINE,
                  "{TOKEN} for A & B {RECORD:name}");
}

static void what_is_unknown_stays(void **state) {
    (void)state;
    assert_filled("{NOPE} {RECORD:password} {} { {APP_NAME} {{APP_NAME}} {APP_NAME", MAIL_FILL_HTML,
                  "{NOPE} {RECORD:password} {} { A &amp; B {A &amp; B} {APP_NAME");
}

static void the_first_of_a_name_counts(void **state) {
    (void)state;
    mail_variables_add(&variables, BK_SLICE("APP_NAME"), BK_SLICE("another"), true);
    assert_filled("{APP_NAME}", MAIL_FILL_LINE, "A & B");
}

static void a_body_gets_a_page_unless_it_is_one(void **state) {
    (void)state;
    mail_layout_write(BK_SLICE("<p>x</p>"), &out);
    assert_true(bk_slice_starts_with(bk_buffer_slice(&out), BK_SLICE("<!doctype html>")));
    assert_true(bk_slice_ends_with(bk_buffer_slice(&out), BK_SLICE("</html>\n")));
    bk_buffer_clear(&out);
    mail_layout_write(BK_SLICE("\n<HTML><p>x"), &out);
    assert_true(bk_slice_is(bk_buffer_slice(&out), "\n<HTML><p>x"));
}

static void templates_have_the_names_of_the_contract(void **state) {
    (void)state;
    assert_int_equal(mail_template_named(BK_SLICE("verification")), MAIL_VERIFICATION);
    assert_int_equal(mail_template_named(BK_SLICE("login-alert")), MAIL_LOGIN_ALERT);
    assert_int_equal(mail_template_named(BK_SLICE("")), MAIL_NO_TEMPLATE);
    assert_int_equal(mail_template_named(BK_SLICE("OTP")), MAIL_NO_TEMPLATE);
}

static void a_text_lacks_what_it_has_a_place_and_no_value_for(void **state) {
    (void)state;
    mail_variables_add(&variables, BK_SLICE("OTP"), BK_SLICE(""), false);
    assert_true(mail_template_lacks(BK_SLICE("{{OTP} }"), &variables, BK_SLICE("OTP")));
    assert_true(mail_template_lacks(BK_SLICE("a{b{OTP_ID}"), &variables, BK_SLICE("OTP_ID")));
    assert_false(mail_template_lacks(BK_SLICE("{OTP_ID"), &variables, BK_SLICE("OTP_ID")));
    assert_false(mail_template_lacks(BK_SLICE("{OTP_IDS}"), &variables, BK_SLICE("OTP_ID")));
    assert_false(mail_template_lacks(BK_SLICE("{TOKEN}"), &variables, BK_SLICE("TOKEN")));
    assert_false(mail_template_lacks(BK_SLICE(""), &variables, BK_SLICE("OTP")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_are_escaped_in_a_page, setup, teardown),
        cmocka_unit_test_setup_teardown(values_end_no_line_of_the_head, setup, teardown),
        cmocka_unit_test_setup_teardown(an_event_sees_no_secret, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_unknown_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_of_a_name_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_gets_a_page_unless_it_is_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_text_lacks_what_it_has_a_place_and_no_value_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(templates_have_the_names_of_the_contract, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
