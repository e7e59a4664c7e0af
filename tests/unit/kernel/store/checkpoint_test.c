/* Proves that the WAL stays short under load, also with readers about, and is gone when all is
 * quiet. */
#include "store_fixture.h"

#include "bakend/file.h"

#include <stdio.h>

enum { MIB = 1024 * 1024, ROUNDS = 300, ROW_BYTES = 64 * 1024, IDLE_MS = 1500 };

static enum bk_status write_blob(struct bk_transaction *transaction, void *user) {
    char sql[128];
    (void)user;
    (void)snprintf(sql, sizeof(sql), "INSERT INTO blobs VALUES (zeroblob(%d))", ROW_BYTES);
    return bk_connection_execute(bk_transaction_connection(transaction), bk_slice_from(sql));
}

static void the_wal_starts_over_and_is_truncated_when_idle(void **state) {
    struct support_store *fixture = *state;
    char table[] = "CREATE TABLE blobs (data)";
    char wal[SUPPORT_STORE_PATH_BYTES + 8];
    (void)snprintf(wal, sizeof(wal), "%s-wal", fixture->path);
    assert_int_equal(support_store_run(fixture, support_run_sql, table), BK_OK);
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(support_store_run(fixture, write_blob, NULL), BK_OK);
        if (i % 20 == 0)
            (void)support_store_number(fixture, "SELECT count(*) FROM blobs");
    }
    /* 19 MB went through it. */
    assert_true(bk_file_size(wal) > 0 && bk_file_size(wal) < 9 * MIB);
    assert_true(bk_store_figures(fixture->store).wal_bytes < 9 * MIB);
    support_loop_run_for(fixture->loop, IDLE_MS);
    assert_int_equal(bk_file_size(wal), 0);
    assert_int_equal(bk_store_figures(fixture->store).wal_bytes, 0);
    assert_int_equal(support_store_number(fixture, "SELECT count(*) FROM blobs"), ROUNDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_wal_starts_over_and_is_truncated_when_idle,
                                        support_store_setup, support_store_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
