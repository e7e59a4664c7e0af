/* Problems: kept in order, once a field, written nested. */
#include "bakend/problem.h"

#include "support.h"

struct fixture {
    struct bk_arena arena;
    struct bk_problems problems;
    struct bk_buffer out;
};

static int setup(void **state) {
    static struct fixture fixture;
    bk_arena_init(&fixture.arena, 1024 * 1024);
    bk_problems_init(&fixture.problems, &fixture.arena);
    bk_buffer_init(&fixture.out, 1024 * 1024);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_buffer_fini(&fixture->out);
    bk_arena_fini(&fixture->arena);
    return 0;
}

static void assert_written(struct fixture *fixture, const char *expected) {
    bk_buffer_clear(&fixture->out);
    bk_problems_write_json(&fixture->problems, &fixture->out);
    bk_buffer_append_char(&fixture->out, '\0');
    assert_string_equal(fixture->out.data, expected);
}

static void none_is_an_empty_object(void **state) {
    struct fixture *fixture = *state;
    assert_written(fixture, "{}");
    assert_false(bk_problems_has(&fixture->problems, BK_SLICE("title")));
}

static void a_problem_has_a_code_a_message_and_params(void **state) {
    struct fixture *fixture = *state;
    bk_problems_add(&fixture->problems, BK_SLICE("a"), "code_a", "Says \"so\".");
    bk_problems_add_params(&fixture->problems, BK_SLICE("b"), "code_b", "Too short.",
                           BK_SLICE("{\"min\":2}"));
    assert_written(fixture, "{\"a\":{\"code\":\"code_a\",\"message\":\"Says \\\"so\\\".\"},"
                            "\"b\":{\"code\":\"code_b\",\"message\":\"Too short.\","
                            "\"params\":{\"min\":2}}}");
}

static void the_first_problem_of_a_field_stays(void **state) {
    struct fixture *fixture = *state;
    bk_problems_add(&fixture->problems, BK_SLICE("a"), "first", "First.");
    bk_problems_add(&fixture->problems, BK_SLICE("a"), "second", "Second.");
    assert_int_equal(fixture->problems.count, 1);
    assert_written(fixture, "{\"a\":{\"code\":\"first\",\"message\":\"First.\"}}");
}

static void paths_nest_whatever_their_order(void **state) {
    struct fixture *fixture = *state;
    bk_problems_add(&fixture->problems, BK_SLICE("fields.0.name"), "x", "X.");
    bk_problems_add(&fixture->problems, BK_SLICE("name"), "y", "Y.");
    bk_problems_add(&fixture->problems, BK_SLICE("fields.10.max"), "z", "Z.");
    bk_problems_add(&fixture->problems, BK_SLICE("fields.0.max"), "w", "W.");
    assert_written(fixture, "{\"fields\":{\"0\":{\"name\":{\"code\":\"x\",\"message\":\"X.\"},"
                            "\"max\":{\"code\":\"w\",\"message\":\"W.\"}},"
                            "\"10\":{\"max\":{\"code\":\"z\",\"message\":\"Z.\"}}},"
                            "\"name\":{\"code\":\"y\",\"message\":\"Y.\"}}");
}

static void texts_are_copied(void **state) {
    struct fixture *fixture = *state;
    char field[] = "a", message[] = "M.";
    bk_problems_add(&fixture->problems, bk_slice_from(field), "c", message);
    field[0] = message[0] = 'z';
    assert_written(fixture, "{\"a\":{\"code\":\"c\",\"message\":\"M.\"}}");
}

static void a_full_arena_counts_what_it_cannot_keep(void **state) {
    (void)state;
    struct bk_arena arena;
    struct bk_problems problems;
    bk_arena_init(&arena, 512);
    bk_problems_init(&problems, &arena);
    for (int i = 0; i < 100; i++)
        bk_problems_add(&problems, bk_arena_format(&arena, "f%d", i), "code", "A message.");
    assert_true(problems.count > 10);
    size_t kept = 0;
    for (const struct bk_problem *problem = problems.first; problem != NULL && kept < 1000;
         problem = problem->next)
        kept++;
    assert_true(kept < problems.count);
    bk_arena_fini(&arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(none_is_an_empty_object),
        TEST(a_problem_has_a_code_a_message_and_params),
        TEST(the_first_problem_of_a_field_stays),
        TEST(paths_nest_whatever_their_order),
        TEST(texts_are_copied),
        TEST(a_full_arena_counts_what_it_cannot_keep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
