/* Texts made from patterns: they match what they were made from, and what cannot be made says
 * why. */
#include "types/types.h"

#include "support.h"
#include <string.h>

enum { TRIES = 200 };

static void what_is_generated_matches_its_pattern(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "[a-z0-9]{15}",
        "inv-[A-C]{3}[0-9]{4}",
        "same",
        "a?b*c+",
        "(ab|cd){2}",
        "\\d{3}\\.\\w",
        "[\\w-]{4}",
        "é[à-ü]",
        "(?:x(y|z)?){1,3}",
        ".{5}",
        "[.+\\-]{3}",
        "a{2,}",
        "",
        "[a-c\\d]{6}",
        "x{0,1}y",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct bk_arena arena;
        bk_arena_init(&arena, 1024 * 1024);
        struct bk_slice anchored = bk_arena_format(&arena, "^(?:%s)$", patterns[i]);
        struct schema_pattern *pattern = schema_pattern_compile(anchored, &arena, NULL);
        assert_non_null(pattern);
        for (int n = 0; n < TRIES; n++) {
            struct bk_buffer out;
            bk_buffer_init(&out, 1024);
            assert_int_equal(schema_generate(bk_slice_from(patterns[i]), &out, NULL), BK_OK);
            if (!schema_pattern_matches(pattern, bk_buffer_slice(&out)))
                fail_msg("%s made %.*s", patterns[i], BK_SLICE_PRINT(bk_buffer_slice(&out)));
            bk_buffer_fini(&out);
        }
        bk_arena_fini(&arena);
    }
}

static void what_cannot_be_generated_says_why(void **state) {
    (void)state;
    static const char *const patterns[][2] = {
        {"^a", "anchors"},
        {"a$", "anchors"},
        {"[^a]", "not to take"},
        {"[[:alpha:]]", "named"},
        {"(?i)a", "flags"},
        {"(?=a)", "flags"},
        {"\\b", "escape"},
        {"\\1", "escape"},
        {"a{2000}", "more than 1000"},
        {"a{3,1}", "cannot be read"},
        {"(a", "without its )"},
        {"a)", "without its group"},
        {"[a", "without its ]"},
        {"[b-a]", "ends before"},
        {"*a", "repetition of nothing"},
        {"a{", "number is missing"},
        {"[\\d-z]x[", "without"},
        {"\\", "escape"},
        {"((((((((((((((((((a))))))))))))))))))", "too deep"},
        {"((a{900}){900}){900}", ""},
    };
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct bk_error error = BK_ERROR_INIT;
        struct bk_buffer out;
        bk_buffer_init(&out, SCHEMA_GENERATED_BYTES_MAX);
        enum bk_status status = schema_generate(bk_slice_from(patterns[i][0]), &out, &error);
        if (status != BK_INVALID || strstr(error.message, patterns[i][1]) == NULL)
            fail_msg("%s: %s", patterns[i][0], error.message);
        bk_buffer_fini(&out);
    }
}

static void every_alternative_comes_up(void **state) {
    (void)state;
    bool seen[3] = {false, false, false};
    for (int i = 0; i < TRIES; i++) {
        struct bk_buffer out;
        bk_buffer_init(&out, 64);
        assert_int_equal(schema_generate(BK_SLICE("(a|b|c)"), &out, NULL), BK_OK);
        seen[out.data[0] - 'a'] = true;
        bk_buffer_fini(&out);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
}

static void a_pattern_that_backtracks_for_ever_does_not_match(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1024 * 1024);
    struct schema_pattern *pattern = schema_pattern_compile(BK_SLICE("^(a+)+$"), &arena, NULL);
    assert_non_null(pattern);
    char text[64];
    memset(text, 'a', sizeof text);
    text[63] = 'b';
    assert_false(schema_pattern_matches(pattern, bk_slice_make(text, sizeof text)));
    assert_true(schema_pattern_matches(pattern, bk_slice_make(text, 20)));
    bk_arena_fini(&arena);
}

static void the_pattern_of_ids_needs_no_engine_and_means_the_same(void **state) {
    (void)state;
    struct bk_arena arena;
    bk_arena_init(&arena, 1024 * 1024);
    struct schema_pattern *quick = schema_pattern_compile(BK_SLICE("^[a-z0-9]+$"), &arena, NULL);
    struct schema_pattern *slow = schema_pattern_compile(BK_SLICE("^(?:[a-z0-9]+)$"), &arena, NULL);
    static const char *const texts[] = {"", "a", "abc123", "abc\n", "ABC", "a b", "é", "_"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(schema_pattern_matches(quick, bk_slice_from(texts[i])),
                         schema_pattern_matches(slow, bk_slice_from(texts[i])));
    bk_arena_fini(&arena);
}

static void a_wrong_pattern_has_a_reason_and_a_place(void **state) {
    (void)state;
    struct bk_arena arena;
    struct bk_error error = BK_ERROR_INIT;
    bk_arena_init(&arena, 1024 * 1024);
    assert_null(schema_pattern_compile(BK_SLICE("a(b"), &arena, &error));
    assert_non_null(strstr(error.message, "at byte 3"));
    bk_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_generated_matches_its_pattern),
        cmocka_unit_test(what_cannot_be_generated_says_why),
        cmocka_unit_test(every_alternative_comes_up),
        cmocka_unit_test(a_pattern_that_backtracks_for_ever_does_not_match),
        cmocka_unit_test(the_pattern_of_ids_needs_no_engine_and_means_the_same),
        cmocka_unit_test(a_wrong_pattern_has_a_reason_and_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
