/* What LIKE finds, and that it can be stopped. */
#include "bakend/like.h"

#include "support.h"

#include <ctype.h>

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

/* What LIKE means, with nothing done for speed. */
static bool matches_plainly(struct bk_slice pattern, struct bk_slice text) {
    if (pattern.length == 0)
        return text.length == 0;
    struct bk_slice behind = bk_slice_make(pattern.data + 1, pattern.length - 1);
    if (pattern.data[0] == '%') {
        size_t at = 0;
        while (!matches_plainly(behind, bk_slice_make(text.data + at, text.length - at))) {
            if (at == text.length)
                return false;
            for (at++; at < text.length && ((unsigned char)text.data[at] & 0xC0) == 0x80; at++)
                ;
        }
        return true;
    }
    if (text.length == 0)
        return false;
    size_t taken = 1;
    bool is_any = pattern.data[0] == '_';
    char wanted = pattern.data[0];
    if (wanted == '\\') {
        if (pattern.length == 1)
            return false;
        wanted = pattern.data[1];
        behind = bk_slice_make(pattern.data + 2, pattern.length - 2);
    }
    while (is_any && taken < text.length && ((unsigned char)text.data[taken] & 0xC0) == 0x80)
        taken++;
    if (!is_any && tolower((unsigned char)wanted) != tolower((unsigned char)text.data[0]))
        return false;
    return matches_plainly(behind, bk_slice_make(text.data + taken, text.length - taken));
}

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 16;
}

static struct bk_slice make_text(char *out, const char *const *pieces, uint32_t piece_count,
                                 uint32_t count, uint32_t *seed) {
    size_t length = 0;
    for (uint32_t i = 0; i < count; i++) {
        const char *piece = pieces[next_random(seed) % piece_count];
        memcpy(out + length, piece, strlen(piece));
        length += strlen(piece);
    }
    return bk_slice_make(out, length);
}

static void running_ahead_finds_the_same(void **state) {
    static const char *const texts[] = {"a", "A",        "b",        "%",
                                        "_", "\xc5\xbb", "\xc5\xbc", "\xe2\x82\xac"};
    static const char *const patterns[] = {
        "a", "A", "b", "%", "%", "_", "%", "\\%", "\\_", "\xc5\xbb", "\xc5\xbc", "\xe2\x82\xac"};
    uint32_t seed = 7, found = 0;
    (void)state;
    for (uint32_t i = 0; i < 200 * 1000; i++) {
        char pattern_bytes[64], text_bytes[64];
        struct bk_slice pattern =
            make_text(pattern_bytes, patterns, 12, next_random(&seed) % 7, &seed);
        struct bk_slice text = make_text(text_bytes, texts, 8, next_random(&seed) % 10, &seed);
        const struct bk_like like = {.pattern = pattern, .text = text, .escape = '\\'};
        bool is_found = bk_like_match(&like) == BK_LIKE_YES;
        assert_int_equal(is_found, matches_plainly(pattern, text));
        found += is_found;
    }
    assert_true(found > 1000);
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
        cmocka_unit_test(running_ahead_finds_the_same),
        cmocka_unit_test(it_stops_when_it_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
