/* What LIKE finds, and that it can be stopped. */
#include "bakend/like.h"

#include "support.h"

static enum bk_like_answer match(const char *pattern, const char *text) {
    const struct bk_like like = {
        .pattern = bk_slice_from(pattern), .text = bk_slice_from(text), .escape = '\\'};
    return bk_like_match(&like);
}

static void it_finds_what_sql_finds(void **state) {
    (void)state;
    assert_int_equal(match("%b%", "abc"), BK_LIKE_YES);
    assert_int_equal(match("b", "abc"), BK_LIKE_NO);
    assert_int_equal(match("A_C", "abc"), BK_LIKE_YES);
    assert_int_equal(match("_", "Ż"), BK_LIKE_YES);
    assert_int_equal(match("ż", "Ż"), BK_LIKE_NO); /* ASCII only */
    assert_int_equal(match("%a%b%", "xaxxbx"), BK_LIKE_YES);
    assert_int_equal(match("%a%b", "xaxxbx"), BK_LIKE_NO);
    assert_int_equal(match("", ""), BK_LIKE_YES);
    assert_int_equal(match("%", ""), BK_LIKE_YES);
    assert_int_equal(match("_", ""), BK_LIKE_NO);
}

static void an_escaped_wildcard_is_itself(void **state) {
    (void)state;
    assert_int_equal(match("50\\%", "50%"), BK_LIKE_YES);
    assert_int_equal(match("50\\%", "50x"), BK_LIKE_NO);
    assert_int_equal(match("a\\_c", "abc"), BK_LIKE_NO);
    assert_int_equal(match("a\\", "a"), BK_LIKE_NO);
}

static bool on_look(void *user) {
    int *looks = user;
    return ++*looks == 2;
}

static void it_stops_when_it_is_late(void **state) {
    (void)state;
    enum { LENGTH = 20 * 1000 };
    static char text[LENGTH];
    int looks = 0;
    memset(text, 'a', sizeof text);
    const struct bk_like like = {.pattern = BK_SLICE("%aaaaaaaaab"),
                                 .text = bk_slice_make(text, LENGTH),
                                 .escape = BK_LIKE_NO_ESCAPE,
                                 .is_late = on_look,
                                 .user = &looks};
    assert_int_equal(bk_like_match(&like), BK_LIKE_LATE);
    assert_int_equal(looks, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_finds_what_sql_finds),
        cmocka_unit_test(an_escaped_wildcard_is_itself),
        cmocka_unit_test(it_stops_when_it_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
