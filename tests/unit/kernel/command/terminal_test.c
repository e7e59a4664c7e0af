/* What commands print: text that a terminal cannot obey, cut where a character ends. */
#include "bakend/terminal.h"

#include "support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is on standard output of it. */
static const char *printed(struct bk_slice text) {
    static char bytes[256];
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stdout);
    int real = dup(STDOUT_FILENO);
    assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
    bk_terminal_print(text);
    bool is_flushed = bk_terminal_flush();
    assert_true(dup2(real, STDOUT_FILENO) >= 0);
    close(real);
    rewind(file);
    bytes[fread(bytes, 1, sizeof bytes - 1, file)] = '\0';
    fclose(file);
    assert_true(is_flushed);
    return bytes;
}

static void what_a_terminal_obeys_is_not_printed(void **state) {
    (void)state;
    assert_string_equal(printed(BK_SLICE("a\x1b[31mb\nc\x7f")), "a?[31mb?c?");
    assert_string_equal(printed(BK_SLICE("C1 \xc2\x9b"
                                         "31m")),
                        "C1 ?31m");
    assert_string_equal(printed(BK_SLICE("gr\xc3\xbc\xc3\x9f \xc2\xa9")),
                        "gr\xc3\xbc\xc3\x9f \xc2\xa9");
}

static void no_character_is_cut_in_two(void **state) {
    (void)state;
    struct bk_slice text = BK_SLICE("ab\xe2\x82\xac");
    assert_int_equal(bk_terminal_shorten(text, 5).length, 5);
    assert_int_equal(bk_terminal_shorten(text, 4).length, 2);
    assert_int_equal(bk_terminal_shorten(text, 3).length, 2);
    assert_int_equal(bk_terminal_shorten(text, 1).length, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_terminal_obeys_is_not_printed),
        cmocka_unit_test(no_character_is_cut_in_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
