/* CREATE INDEX statements: read, written again, refused. */
#include "schema_private.h"

#include "support.h"

static struct bk_arena arena;

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

static void assert_rebuilt(const char *sql, const char *expected) {
    struct schema_index index;
    if (!schema_index_parse(bk_slice_from(sql), &arena, &index))
        fail_msg("%s is refused", sql);
    struct bk_slice built = schema_index_build(&index, &arena);
    assert_string_equal(built.data, expected);
}

static void any_spelling_is_written_in_one_form(void **state) {
    (void)state;
    assert_rebuilt("create index i on t(a)", "CREATE INDEX `i` ON `t` (`a`)");
    assert_rebuilt("  CREATE  UNIQUE\nINDEX if not exists \"i\" ON [t] ( `a` desc ) ;",
                   "CREATE UNIQUE INDEX IF NOT EXISTS `i` ON `t` (`a` DESC)");
    assert_rebuilt("CREATE INDEX main.i ON t (a, b collate nocase asc)",
                   "CREATE INDEX `main`.`i` ON `t` (\n  `a`,\n  `b` COLLATE nocase ASC\n)");
    assert_rebuilt("CREATE INDEX i ON t (lower(a), substr(b, 1, 2) DESC)",
                   "CREATE INDEX `i` ON `t` (\n  lower(a),\n  substr(b, 1, 2) DESC\n)");
    assert_rebuilt("CREATE INDEX i ON t (a) where b != ';)' and c > 1",
                   "CREATE INDEX `i` ON `t` (`a`) WHERE b != ';)' and c > 1");
}

/* Found by fuzzing: quotes were taken off the ends of an expression. */
static void an_expression_is_left_as_it_stands(void **state) {
    (void)state;
    assert_rebuilt("CREATE INDEX i ON t ('x'||a)", "CREATE INDEX `i` ON `t` ('x'||a)");
    assert_rebuilt("CREATE INDEX i ON t (\"a\"||\"b\")", "CREATE INDEX `i` ON `t` (\"a\"||\"b\")");
    assert_rebuilt("CREATE INDEX i ON t (\"c d\" DESC)", "CREATE INDEX `i` ON `t` (\"c d\" DESC)");
    assert_rebuilt("CREATE INDEX i ON t (a COLLATE \"nocase\")",
                   "CREATE INDEX `i` ON `t` (a COLLATE \"nocase\")");
    assert_rebuilt("CREATE INDEX i ON t (-a)", "CREATE INDEX `i` ON `t` (-a)");
}

static void what_is_no_single_index_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "CREATE TABLE t (a)",
        "CREATE INDEX ON t (a)",
        "CREATE INDEX i t (a)",
        "CREATE INDEX i ON t",
        "CREATE INDEX i ON t (",
        "CREATE INDEX i ON t ()",
        "CREATE INDEX i ON t (a) more",
        "CREATE INDEX i ON t (a); DROP TABLE t",
        "CREATE INDEX i ON t (a) WHERE b = 1; DROP TABLE t",
        "CREATE INDEX i ON t (a; b)",
        "CREATEINDEX i ON t (a)",
        /* Between quotes again, these would end where they should not. */
        "CREATE INDEX \"x` ON `other` (`a`) --\" ON t (a)",
        "CREATE INDEX i ON \"t`u\" (a)",
        "CREATE INDEX \"m`n\".i ON t (a)",
    };
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        struct schema_index index;
        if (schema_index_parse(bk_slice_from(wrong[i]), &arena, &index))
            fail_msg("%s is taken", wrong[i]);
    }
}

static void uniqueness_of_one_column_is_found(void **state) {
    (void)state;
    struct bk_index indexes[] = {{.sql = BK_SLICE_INIT("CREATE UNIQUE INDEX a ON t (x, y)")},
                                 {.sql = BK_SLICE_INIT("CREATE INDEX b ON t (y)")},
                                 {.sql = BK_SLICE_INIT("CREATE UNIQUE INDEX c ON t (Z)")}};
    const struct bk_collection collection = {.indexes = indexes, .index_count = 3};
    assert_false(schema_index_is_unique_on(&collection, BK_SLICE("x"), &arena));
    assert_false(schema_index_is_unique_on(&collection, BK_SLICE("y"), &arena));
    assert_true(schema_index_is_unique_on(&collection, BK_SLICE("z"), &arena));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(any_spelling_is_written_in_one_form),
        TEST(an_expression_is_left_as_it_stands),
        TEST(what_is_no_single_index_is_refused),
        TEST(uniqueness_of_one_column_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
