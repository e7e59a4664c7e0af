/* Proves which types are well formed and which patterns pick them. */
#include "support.h"

#include "bakend/event.h"

#include <string.h>

struct match {
    const char *pattern, *type;
    bool expected;
};

static void patterns_pick_by_words(void **state) {
    static const struct match matches[] = {
        {"posts.created", "posts.created", true},
        {"posts.created", "posts.updated", false},
        {"posts.created", "posts.created.twice", false},
        {"users.*", "users.created", true},
        {"users.*", "users.mail.changed", true},
        {"users.*", "users", false},
        {"users.*", "usersx.created", false},
        {"*.created", "posts.created", true},
        {"*.created", "a.b.created", false},
        {"*.created", "_work.created", false},
        {"a.*.c", "a.b.c", true},
        {"a.*.c", "a._b.c", true},
        {"a.*.c", "a.b.b.c", false},
        {"*", "posts.created", true},
        {"*", "a.b.c", true},
        {"*", "_work.created", false},
        {"_*", "_work.created", true},
        {"_*", "posts.created", false},
        {"_work.*", "_work.created", true},
        {"posts.created", "posts", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(matches) / sizeof(matches[0]); i++) {
        bool found = bk_event_pattern_matches(bk_slice_from(matches[i].pattern),
                                              bk_slice_from(matches[i].type));
        if (found != matches[i].expected)
            fail_msg("%s on %s", matches[i].pattern, matches[i].type);
    }
}

static void only_well_formed_types_and_patterns_are_valid(void **state) {
    static const char *const good[] = {"a.b", "A_1.b2.c", "_work.created"};
    static const char *const bad[] = {"", "a", "a.", ".a", "a..b", "a.b-c", "a.b c", "a.*", "*"};
    static const char *const good_patterns[] = {"*", "_*", "a.*", "*.a", "a.b", "a.*.c"};
    static const char *const bad_patterns[] = {"", "a", "a*.b", "_*.a", "a.b*", "a..*", "**"};
    char longest[BK_EVENT_TYPE_BYTES_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(bk_event_type_is_valid(bk_slice_from(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(bk_event_type_is_valid(bk_slice_from(bad[i])));
    for (size_t i = 0; i < sizeof(good_patterns) / sizeof(good_patterns[0]); i++)
        assert_true(bk_event_pattern_is_valid(bk_slice_from(good_patterns[i])));
    for (size_t i = 0; i < sizeof(bad_patterns) / sizeof(bad_patterns[0]); i++)
        assert_false(bk_event_pattern_is_valid(bk_slice_from(bad_patterns[i])));
    memset(longest, 'a', sizeof(longest));
    longest[1] = '.';
    assert_true(bk_event_type_is_valid(bk_slice_make(longest, BK_EVENT_TYPE_BYTES_MAX)));
    assert_false(bk_event_type_is_valid(bk_slice_make(longest, BK_EVENT_TYPE_BYTES_MAX + 1)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_pick_by_words),
        cmocka_unit_test(only_well_formed_types_and_patterns_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
