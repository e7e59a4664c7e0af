/* Our LIKE finds what SQLite's finds: random patterns over few letters, with and without ESCAPE. */
#include "store_fixture.h"

#include <sqlite3.h>
#include <string.h>

enum { ROUNDS = 20000, PATTERN_PIECES_MAX = 8, TEXT_PIECES_MAX = 12, BYTES_MAX = 64 };

static const char *const pieces[] = {"a", "A", "b", "%", "_", "\\", "\xc3\xa9", "\xc3\x89"};

static uint32_t draw(uint32_t *seed, uint32_t below) {
    *seed = *seed * 1664525U + 1013904223U;
    return (*seed >> 16) % below;
}

static void draw_text(uint32_t *seed, uint32_t count_max, char out[BYTES_MAX]) {
    size_t length = 0;
    for (uint32_t count = draw(seed, count_max + 1); count > 0; count--) {
        const char *piece = pieces[draw(seed, sizeof pieces / sizeof pieces[0])];
        memcpy(out + length, piece, strlen(piece));
        length += strlen(piece);
    }
    out[length] = '\0';
}

static int ask_sqlite(sqlite3 *handle, const char *sql, const char *text, const char *pattern) {
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(handle, sql, -1, &statement, NULL), SQLITE_OK);
    (void)sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(statement, 2, pattern, -1, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int found = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    return found;
}

static int64_t ask_us(struct bk_connection *connection, const char *sql, const char *text,
                      const char *pattern) {
    const struct bk_sql prepared = bk_sql_make(bk_slice_from(sql));
    struct bk_statement *statement;
    assert_int_equal(bk_connection_statement(connection, &prepared, &statement), BK_OK);
    bk_statement_bind_text(statement, 1, bk_slice_from(text));
    bk_statement_bind_text(statement, 2, bk_slice_from(pattern));
    assert_int_equal(bk_statement_step(statement), BK_OK);
    int64_t found = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return found;
}

static enum bk_status compare(struct bk_connection *connection, void *user) {
    static const char *const questions[] = {"SELECT ?1 LIKE ?2", "SELECT ?1 LIKE ?2 ESCAPE '\\'"};
    char text[BYTES_MAX], pattern[BYTES_MAX];
    uint32_t seed = 7;
    sqlite3 *handle = user;
    for (int i = 0; i < ROUNDS; i++) {
        draw_text(&seed, TEXT_PIECES_MAX, text);
        draw_text(&seed, PATTERN_PIECES_MAX, pattern);
        const char *sql = questions[i % 2];
        if (ask_us(connection, sql, text, pattern) != ask_sqlite(handle, sql, text, pattern))
            fail_msg("%s: %s and %s", sql, text, pattern);
    }
    return BK_OK;
}

static void it_finds_what_sqlite_finds(void **state) {
    sqlite3 *handle;
    assert_int_equal(sqlite3_open(":memory:", &handle), SQLITE_OK);
    assert_int_equal(support_store_read(*state, compare, handle), BK_OK);
    (void)sqlite3_close(handle);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_finds_what_sqlite_finds, support_store_setup,
                                        support_store_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
