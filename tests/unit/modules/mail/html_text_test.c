/* The text that is read where a page is not shown. */
#include "mail.h"

#include "bakend/clock.h"
#include "bakend/id.h"
#include "support.h"

static struct bk_buffer out;

static int setup(void **state) {
    (void)state;
    bk_buffer_init(&out, 4 * 1024 * 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_buffer_fini(&out);
    return 0;
}

static void assert_text(const char *html, const char *expected) {
    bk_buffer_clear(&out);
    mail_html_to_text(bk_slice_from(html), &out);
    if (!bk_slice_equal(bk_buffer_slice(&out), bk_slice_from(expected)))
        fail_msg("%s:\n%.*s", html, BK_SLICE_PRINT(bk_buffer_slice(&out)));
}

static void paragraphs_and_lines(void **state) {
    (void)state;
    assert_text("<p>Hello,</p>\n<p>two   words\n of <b>text</b>.</p>",
                "Hello,\n\ntwo words of text.\n");
    assert_text("<p>Thanks,<br/>\n  Acme team</p>", "Thanks,\nAcme team\n");
    assert_text("a<br><br>b", "a\n\nb\n");
    assert_text("<div>a</div><div>b</div><hr>c", "a\nb\n---\nc\n");
    assert_text("<pre>a\n  b</pre>", "a\n  b\n");
    assert_text("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n");
    assert_text("", "");
    assert_text("  <p> </p> ", "");
}

static void links_have_their_addresses(void **state) {
    (void)state;
    assert_text("<a class=\"btn\" href=\"https://x.org/a?b=1&amp;c=2\">Verify</a> now",
                "Verify <https://x.org/a?b=1&c=2> now\n");
    assert_text("<a href='https://x.org'>https://x.org</a>", "https://x.org\n");
    assert_text("<a href=https://x.org></a>", "https://x.org\n");
    assert_text("<a href=\"mailto:a@b.c\">a@b.c</a>", "a@b.c\n");
    assert_text("<a href=\"#top\">Up</a> <a>none</a>", "Up none\n");
    assert_text("<p><a href=\"u\">one<p>two", "one\n\ntwo <u>\n");
}

static void lists_have_dashes_or_numbers(void **state) {
    (void)state;
    assert_text("<p>List:</p><ul>\n <li> one</li>\n <li><p>two</p></li></ul><p>end",
                "List:\n\n- one\n- two\n\nend\n");
    assert_text("<ol><li>a<ul><li>b</ul><li>c</ol>", "1. a\n  - b\n2. c\n");
}

static void what_nobody_reads_is_left_out(void **state) {
    (void)state;
    assert_text("<!doctype html><html><head><title>T</title><style>p { a > b }</style>"
                "<script>if (a < b) x('</p>')</script></head><body><!-- c <p> -->x</body></html>",
                "x\n");
    assert_text("<img src=x alt=\"A picture\"> y", "A picture y\n");
}

static void references_are_read(void **state) {
    (void)state;
    assert_text("a &amp; b &lt;c&gt; &#39;d&#x27; &quot;&euro;&nbsp;&unknown; &;",
                "a & b <c> 'd' \"\xe2\x82\xac &unknown; &;\n");
    assert_text("&#0;&#xd800;&#x110000;&#99999999999;", "&#0;&#xd800;&#x110000;&#99999999999;\n");
}

static void broken_html_is_text(void **state) {
    (void)state;
    assert_text("1 < 2 <", "1 < 2 <\n");
    assert_text("a <b", "a <b\n");
    assert_text("</li></ul></ol></a>x", "x\n");
    assert_text("<p title=\"a > b\">x", "x\n");
    assert_text("<p title=\"never", "<p title=\"never\n");
}

static uint64_t time_of(struct bk_slice html) {
    uint64_t began_ns = bk_clock_thread_ns();
    bk_buffer_clear(&out);
    mail_html_to_text(html, &out);
    return bk_clock_thread_ns() - began_ns;
}

static void any_bytes_end_in_time(void **state) {
    static const char *const parts[] = {
        "<",    ">",     "<a ",  "href=",     "\"", "'",      "<p>",  "</", "<!--", "-->",
        "<ul>", "<li>",  "&",    "&#",        "x;", "<style", "text", " ",  "</a>", "<br/>",
        "=",    "<pre>", "<ol>", "<img alt=", "\n", "\xc3",   "<?",   "/"};
    enum { SLACK_NS = 20 * 1000 * 1000 };
    static char html[200 * 1024];
    (void)state;
    for (uint32_t round = 0; round < 2000; round++) {
        size_t length = 0, count = bk_random_u64() % 40;
        for (size_t i = 0; i < count; i++) {
            struct bk_slice part = bk_slice_from(parts[bk_random_u64() % BK_COUNT_OF(parts)]);
            memcpy(html + length, part.data, part.length);
            length += part.length;
        }
        bk_buffer_clear(&out);
        mail_html_to_text(bk_slice_make(html, length), &out);
        assert_false(out.is_overflown);
    }
    for (size_t i = 0; i < BK_COUNT_OF(parts); i++) { /* the same part over and over */
        struct bk_slice part = bk_slice_from(parts[i]);
        size_t length = 0;
        for (; length + part.length < sizeof html; length += part.length)
            memcpy(html + length, part.data, part.length);
        /* Eight times as much takes eight times as long, not 64 times, however slow this is. */
        uint64_t part_ns = time_of(bk_slice_make(html, length / 8));
        assert_true(time_of(bk_slice_make(html, length)) < 24 * part_ns + SLACK_NS);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(paragraphs_and_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(links_have_their_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_have_dashes_or_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_reads_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(references_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_html_is_text, setup, teardown),
        cmocka_unit_test_setup_teardown(any_bytes_end_in_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
