/* Lines of the head: folded, encoded, and never more lines than meant. */
#include "mail.h"

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

static void assert_written(const char *expected) {
    struct bk_slice written = bk_buffer_slice(&out);
    if (!bk_slice_equal(written, bk_slice_from(expected)))
        fail_msg("%.*s", BK_SLICE_PRINT(written));
    bk_buffer_clear(&out);
}

/* Every line but the first is a continuation, ends in CRLF, and is not too long. */
static void assert_one_header(void) {
    size_t column = 0;
    for (size_t i = 0; i < out.length; i++) {
        column++;
        assert_true(column <= 78);
        if (out.data[i] != '\n')
            continue;
        assert_true(i > 0 && out.data[i - 1] == '\r');
        assert_true(column > 2 + (i + 1 < out.length));
        assert_true(i + 1 == out.length || out.data[i + 1] == ' ');
        column = 0;
    }
    assert_int_equal(column, 0);
}

static void ascii_stays_readable(void **state) {
    (void)state;
    mail_header_write(&out, "Subject", BK_SLICE("Reset your Acme password"));
    assert_written("Subject: Reset your Acme password\r\n");
    mail_header_write(&out, "Subject", BK_SLICE("  two  spaces inside "));
    assert_written("Subject: two  spaces inside\r\n");
}

static void long_texts_are_folded_where_they_have_spaces(void **state) {
    (void)state;
    mail_header_write(&out, "Subject",
                      BK_SLICE("one two three four five six seven eight nine ten eleven twelve "
                               "thirteen fourteen"));
    assert_written("Subject: one two three four five six seven eight nine ten eleven twelve\r\n"
                   " thirteen fourteen\r\n");
}

static void other_letters_become_encoded_words_of_whole_characters(void **state) {
    char text[3 * 200];
    (void)state;
    mail_header_write(&out, "Subject",
                      BK_SLICE("Gr\xc3\xbc\xc3\x9f"
                               "e"));
    assert_written("Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n");
    for (size_t i = 0; i < sizeof text; i += 3) {
        text[i] = '\xe2';
        text[i + 1] = '\x82';
        text[i + 2] = '\xac';
    }
    for (size_t length = 3; length <= sizeof text; length += 3) {
        mail_header_write(&out, "Subject", bk_slice_make(text, length));
        assert_one_header();
        for (size_t i = 0; i + 1 < out.length; i++) /* whole groups of whole characters */
            if (out.data[i] == 'B' && out.data[i + 1] == '?')
                assert_memory_equal(out.data + i + 2, "4oKs", 4);
        bk_buffer_clear(&out);
    }
}

static void what_looks_encoded_is_encoded(void **state) {
    (void)state;
    mail_header_write(&out, "Subject", BK_SLICE("=?utf-8?B?R3I=?="));
    assert_written("Subject: =?utf-8?B?PT91dGYtOD9CP1IzST0/PQ==?=\r\n");
}

static void a_long_word_is_encoded_to_be_folded(void **state) {
    char text[500];
    (void)state;
    memset(text, 'x', sizeof text);
    mail_header_write(&out, "Subject", bk_slice_make(text, sizeof text));
    assert_one_header();
    assert_true(out.length > sizeof text);
}

static void no_text_leaves_its_header(void **state) {
    static const char bad[] = "a\r\nBcc: eve@example.com\r\n\r\nbody\n\rx\0y";
    const struct mail_address person = {.address = BK_SLICE_INIT("ann@example.com"),
                                        .name = {bad, sizeof bad - 1}};
    (void)state;
    mail_header_write(&out, "Subject", bk_slice_make(bad, sizeof bad - 1));
    assert_one_header();
    mail_header_write_raw(&out, BK_SLICE("X-A"), bk_slice_make(bad, sizeof bad - 1));
    mail_header_write_addresses(&out, "To", &person);
    size_t lines = 0;
    for (size_t i = 0; i < out.length; i++)
        lines += out.data[i] == '\n' && (i + 1 == out.length || out.data[i + 1] != ' ');
    assert_int_equal(lines, 3);
}

/* Whoever decodes it would read a second line. */
static void no_encoded_word_has_the_end_of_a_line_in_it(void **state) {
    (void)state;
    mail_header_write(&out, "Subject",
                      BK_SLICE("\xc3\xbc\r\n"
                               "Bcc"));
    assert_written("Subject: =?utf-8?B?w7wgIEJjYw==?=\r\n");
}

static void names_are_quoted_or_encoded(void **state) {
    struct mail_address third = {.address = BK_SLICE_INIT("cy@example.com"),
                                 .name = BK_SLICE_INIT("M\xc3\xbcller")};
    struct mail_address second = {&third, BK_SLICE_INIT("bob@example.com"), {NULL, 0}};
    struct mail_address first = {&second, BK_SLICE_INIT("ann@example.com"),
                                 BK_SLICE_INIT("Ann \"the\\\" Lee <x@y>, Jr.")};
    (void)state;
    mail_header_write_addresses(&out, "To", &first);
    assert_written(
        "To: \"Ann \\\"the\\\\\\\" Lee <x@y>, Jr.\" <ann@example.com>, bob@example.com,\r\n"
        " =?utf-8?B?TcO8bGxlcg==?= <cy@example.com>\r\n");
}

static void simple_names_stand_as_they_are(void **state) {
    struct mail_address second = {NULL, BK_SLICE_INIT("bob@example.com"), BK_SLICE_INIT("Bob  B")};
    struct mail_address first = {&second, BK_SLICE_INIT("ann@example.com"),
                                 BK_SLICE_INIT(" Ann Lee 2 ")};
    (void)state;
    mail_header_write_addresses(&out, "To", &first);
    assert_written("To: Ann Lee 2 <ann@example.com>, \"Bob  B\" <bob@example.com>\r\n");
}

static void a_hundred_people_stand_on_short_lines(void **state) {
    struct mail_address people[100];
    (void)state;
    for (size_t i = 0; i < 100; i++)
        people[i] = (struct mail_address){
            i == 99 ? NULL : &people[i + 1], BK_SLICE("somebody@example.com"),
            i % 2 == 0 ? BK_SLICE("J\xc3\xb6rg of the Test") : BK_SLICE("A Person With A Name")};
    mail_header_write_addresses(&out, "To", people);
    assert_one_header();
}

static void structured_values_are_not_touched(void **state) {
    (void)state;
    mail_header_write_raw(&out, BK_SLICE("List-Unsubscribe"),
                          BK_SLICE("<mailto:u@example.com?subject=unsubscribe>, "
                                   "<https://example.com/a/very/long/way/to/leave/the/list/"
                                   "that/nobody/folds>"));
    assert_written("List-Unsubscribe: <mailto:u@example.com?subject=unsubscribe>,\r\n"
                   " <https://example.com/a/very/long/way/to/leave/the/list/that/nobody/folds>"
                   "\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ascii_stays_readable, setup, teardown),
        cmocka_unit_test_setup_teardown(long_texts_are_folded_where_they_have_spaces, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(other_letters_become_encoded_words_of_whole_characters,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_looks_encoded_is_encoded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_word_is_encoded_to_be_folded, setup, teardown),
        cmocka_unit_test_setup_teardown(no_text_leaves_its_header, setup, teardown),
        cmocka_unit_test_setup_teardown(no_encoded_word_has_the_end_of_a_line_in_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(names_are_quoted_or_encoded, setup, teardown),
        cmocka_unit_test_setup_teardown(simple_names_stand_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hundred_people_stand_on_short_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(structured_values_are_not_touched, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
