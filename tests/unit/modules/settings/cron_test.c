/* Cron expressions: which are taken, and what is said of the others. */
#include "settings.h"

#include "support.h"

static struct bk_arena arena;

static const char *problem_of(const char *text) {
    struct bk_slice problem = settings_cron_problem(bk_slice_from(text), &arena);
    return problem.length == 0 ? "" : bk_arena_copy(&arena, problem).data;
}

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 1024 * 1024);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

static void expressions_of_the_contract_are_taken(void **state) {
    static const char *const good[] = {
        "* * * * *",   "0 0 1 1 0",           "59 23 31 12 6", "*/5 1-3,7 * * 0-6/2",
        "@yearly",     "@annually",           "@monthly",      "@weekly",
        "@daily",      "@midnight",           "@hourly",       "*/1 * * * *",
        "5/1 * * * *", "1,2,3-5,*/7 * * * *",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(good); i++)
        assert_string_equal(problem_of(good[i]), "");
}

static void others_are_refused_with_a_reason(void **state) {
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"nope", "exactly 5"},
        {"* * *", "exactly 5"},
        {" * * * * * ", "exactly 5"},
        {"*  * * * *", "exactly 5"},
        {"@reboot", "exactly 5"},
        {"", "exactly 5"},
        {"61 * * * *", "min and max"},
        {"* 24 * * *", "min and max"},
        {"* * 0 * *", "min and max"},
        {"* * * 13 *", "min and max"},
        {"* * * * 7", "min and max"},
        {"* * * JAN *", "no number"},
        {"1,,2 * * * *", "no number"},
        {"1-x * * * *", "no number"},
        {"*/x * * * *", "no number"},
        {"1/2 * * * *", "step > 1"},
        {"5-1 * * * *", "between 5 and 59"},
        {"5-60 * * * *", "between 5 and 59"},
        {"*/0 * * * *", "between 1 and the 59"},
        {"*/60 * * * *", "between 1 and the 59"},
        {"1-2-3 * * * *", "1 or 2 parts"},
        {"*/5/2 * * * *", "*/n or 1-30/n"},
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(bad); i++)
        if (strstr(problem_of(bad[i].text), bad[i].part) == NULL)
            fail_msg("\"%s\": \"%s\" does not say \"%s\"", bad[i].text, problem_of(bad[i].text),
                     bad[i].part);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(expressions_of_the_contract_are_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(others_are_refused_with_a_reason, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
