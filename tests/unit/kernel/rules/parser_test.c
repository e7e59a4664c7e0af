/* Filters are read as the contract's server reads them, and refused with the place where they are
 * wrong and what was expected there. */
#include "rules_private.h"
#include "support.h"

static struct bk_error last_error;

static enum bk_status parse(struct bk_arena *arena, const char *text, struct bk_filter **filter) {
    last_error = (struct bk_error)BK_ERROR_INIT;
    return bk_filter_parse(arena, bk_slice_from(text), BK_FILTER_BYTES_MAX, filter, &last_error);
}

static void what_the_language_has_is_read(void **state) {
    static const char *const filters[] = {
        "a=1",
        " a = 1 ",
        "a\t!=\n-1.5",
        "(a = 1)",
        "((a = 1 || b ?= 2) && c !~ 'x')",
        "a.b.c:each ?> @now",
        "@collection.posts:x.title = @request.body.title:isset",
        "#a = _b",
        "'a' = \"b\"",
        "// a comment\na = 1 // another",
        "geoDistance(a.lon, a.lat, 1, -2.5) < 3",
        "strftime('%Y', created,) = '2026'",
        "a = ''",
        "a = \"it's \\\"q\\\"\"",
    };
    struct bk_filter *filter;
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(filters); i++) {
        struct bk_arena arena;
        bk_arena_init(&arena, 1024 * 1024);
        if (parse(&arena, filters[i], &filter) != BK_OK)
            fail_msg("%s: %s", filters[i], last_error.message);
        bk_arena_fini(&arena);
    }
}

static void what_is_wrong_is_refused_with_its_place(void **state) {
    static const struct {
        const char *filter, *message;
    } wrong[] = {
        {"", "at 1: expected a field, a text, a number or a function, got the end"},
        {"   // nothing", "at 14: expected a field"},
        {"a", "at 2: expected one of = != ~ !~ < <= > >=, or one of them with ? before it, got "
              "the end"},
        {"a =", "at 4: expected a field, a text, a number or a function, got the end"},
        {"a == 1", "at 3: expected one of = != ~ !~ < <= > >=, or one of them with ? before it, "
                   "got =="},
        {"a = 1 & b = 2", "at 7: expected && or ||, got &"},
        {"a = 1 b = 2", "at 7: expected && or ||, got b"},
        {"a = 1)", "at 6: expected && or ||, got )"},
        {"(a = 1", "at 7: expected &&, || or a closing parenthesis, got the end"},
        {"()", "at 2: expected a field"},
        {"a = 'x", "at 5: expected a text with a closing quote, got 'x"},
        {"a = 'x\\'", "at 5: expected a text with a closing quote"},
        {"a = 1.", "at 5: expected a number, got 1."},
        {"a = -", "at 5: expected a number, got -"},
        {"a = 1e6", "at 6: expected && or ||, got e6"},
        {"a = .5", "at 5: expected a name, a text"},
        {"a. = 1", "at 1: expected a whole name, got a."},
        {"@ = 1", "at 1: expected a whole name, got @"},
        {"a / 1 = 1", "at 3: expected // for a comment, got /"},
        {"a = 1;", "at 6: expected a name, a text"},
        {"a = f(1", "at 8: expected a comma or a closing parenthesis, got the end"},
        {"a = f(,1)", "at 7: expected a field"},
        {"f(f(f(f(1)))) = 1", "at 8: at most 3 functions in functions are read"},
    };
    struct bk_filter *filter;
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        struct bk_arena arena;
        bk_arena_init(&arena, 1024 * 1024);
        if (parse(&arena, wrong[i].filter, &filter) != BK_INVALID ||
            strncmp(last_error.message, wrong[i].message, strlen(wrong[i].message)) != 0)
            fail_msg("%s: %s", wrong[i].filter, last_error.message);
        bk_arena_fini(&arena);
    }
}

static void only_its_own_quote_is_escaped_in_a_text(void **state) {
    struct bk_filter *filter;
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 1024 * 1024);
    assert_int_equal(parse(&arena, "a = 'it\\'s \\n \\\" \\\\n'", &filter), BK_OK);
    assert_true(bk_slice_is(filter->first->right.text, "it's \\n \\\" \\\\n"));
    bk_arena_fini(&arena);
}

/* Repeats text until the limit is met. */
static enum bk_status parse_repeated(const char *before, const char *text, int count,
                                     const char *after) {
    struct bk_buffer out;
    struct bk_arena arena;
    struct bk_filter *filter;
    bk_arena_init(&arena, 1024 * 1024);
    bk_buffer_init(&out, 64 * 1024);
    bk_buffer_append_slice(&out, bk_slice_from(before));
    for (int i = 0; i < count; i++)
        bk_buffer_append_slice(&out, bk_slice_from(text));
    bk_buffer_append_slice(&out, bk_slice_from(after));
    last_error = (struct bk_error)BK_ERROR_INIT;
    enum bk_status status =
        bk_filter_parse(&arena, bk_buffer_slice(&out), out.length, &filter, &last_error);
    bk_buffer_fini(&out);
    bk_arena_fini(&arena);
    return status;
}

static void depth_number_and_length_are_bounded(void **state) {
    struct bk_filter *filter;
    struct bk_arena arena;
    (void)state;
    assert_int_equal(parse_repeated("a=1", "&&a=1", BK_FILTER_COMPARISONS_MAX - 1, ""), BK_OK);
    assert_int_equal(parse_repeated("a=1", "&&a=1", BK_FILTER_COMPARISONS_MAX, ""), BK_INVALID);
    assert_non_null(strstr(last_error.message, "at most 200 comparisons"));
    assert_int_equal(parse_repeated("", "(", 100000, "a=1"), BK_INVALID);
    assert_non_null(strstr(last_error.message, "at most 32 groups in groups"));
    bk_arena_init(&arena, 1024 * 1024);
    assert_int_equal(bk_filter_parse(&arena, BK_SLICE("a = 1"), 4, &filter, &last_error),
                     BK_INVALID);
    assert_string_equal(last_error.message, "it has 5 bytes: at most 4 are read");
    bk_arena_fini(&arena);
}

static void a_filter_that_needs_more_than_its_arena_is_too_large(void **state) {
    struct bk_filter *filter;
    struct bk_arena arena;
    (void)state;
    bk_arena_init(&arena, 256);
    assert_int_equal(parse(&arena, "a = 1 && b = 2 && c = 3", &filter), BK_TOO_LARGE);
    bk_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_language_has_is_read),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_place),
        cmocka_unit_test(only_its_own_quote_is_escaped_in_a_text),
        cmocka_unit_test(depth_number_and_length_are_bounded),
        cmocka_unit_test(a_filter_that_needs_more_than_its_arena_is_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
