/* What a client's SELECT may do is seen without running it. */
#include "store_fixture.h"

#include "bakend/arena.h"

#include <stdio.h>
#include <string.h>

struct asked {
    uint32_t count;
    const char *forbidden;
    char seen[256];
};

static bool may_read(void *user, struct bk_slice table, struct bk_slice column,
                     struct bk_slice through) {
    struct asked *asked = user;
    (void)through;
    asked->count++;
    size_t length = strlen(asked->seen);
    (void)snprintf(asked->seen + length, sizeof asked->seen - length, "%.*s.%.*s ",
                   BK_SLICE_PRINT(table), BK_SLICE_PRINT(column));
    return asked->forbidden == NULL || !bk_slice_equal(table, bk_slice_from(asked->forbidden));
}

static enum bk_status judge(struct bk_connection *connection, const char *sql, struct asked *asked,
                            struct bk_arena *arena, struct bk_sql_judge *judge) {
    *judge = (struct bk_sql_judge){.arena = arena, .may_read = may_read, .user = asked};
    asked->count = 0;
    asked->seen[0] = '\0';
    return bk_connection_judge(connection, bk_slice_from(sql), judge);
}

static enum bk_status look(struct bk_connection *connection, void *user) {
    struct bk_arena arena;
    struct bk_sql_judge result;
    struct asked asked = {.forbidden = "_meta"};
    (void)user;
    bk_arena_init(&arena, 64 * 1024);

    assert_int_equal(
        judge(connection, "SELECT type, sequence + 1 AS n FROM _journal", &asked, &arena, &result),
        BK_OK);
    assert_string_equal(asked.seen, "_journal.type _journal.sequence ");
    assert_int_equal(result.column_count, 2);
    assert_true(bk_slice_is(result.columns[0].name, "type"));
    assert_true(bk_slice_is(result.columns[0].type, "TEXT"));
    assert_true(bk_slice_is(result.columns[1].name, "n"));
    assert_int_equal(result.columns[1].type.length, 0);

    assert_int_equal(
        judge(connection, "SELECT e.value FROM json_each('[1]') AS e", &asked, &arena, &result),
        BK_OK);
    static const char *const refused[] = {
        "SELECT name FROM _meta",
        "SELECT (SELECT count(*) FROM _meta) FROM _journal",
        "SELECT load_extension('x')",
        "DELETE FROM _journal",
        "CREATE TABLE t (x)",
        "PRAGMA user_version",
        "ATTACH 'x' AS y",
        "SELECT 1; SELECT 2",
        "SELECT ?1",
        "SELECT nope FROM _journal",
        "",
    };
    for (size_t i = 0; i < BK_COUNT_OF(refused); i++) {
        if (judge(connection, refused[i], &asked, &arena, &result) != BK_INVALID)
            fail_msg("taken: %s", refused[i]);
        assert_true(bk_connection_error(connection)[0] != '\0');
    }
    bk_arena_fini(&arena);
    return BK_OK;
}

static void a_select_of_what_may_be_read_is_taken_and_nothing_else(void **state) {
    assert_int_equal(support_store_read(*state, look, NULL), BK_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_select_of_what_may_be_read_is_taken_and_nothing_else,
                                        support_store_setup, support_store_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
