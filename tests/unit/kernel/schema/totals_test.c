/* The number of records that is kept with a collection, on a real store. */
#include "bakend/schema.h"

#include "schema_fixture.h"

static int64_t kept(struct support_schema *fixture, const char *table) {
    int64_t count = -2;
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    enum bk_status status = bk_rows_read(connection, bk_slice_from(table), &count);
    return status == BK_NOT_FOUND ? -1 : count;
}

static int setup(void **state) {
    support_schema_setup(state);
    assert_int_equal(support_schema_change(*state, BK_SCHEMA_CREATE, NULL,
                                           "{'name':'posts','fields':[{'name':'n','type':'number'}]"
                                           "}"),
                     BK_OK);
    return 0;
}

static enum bk_status execute(void **state, const char *sql) {
    return support_schema_execute(*state, sql);
}

static void it_follows_what_is_inserted_and_deleted(void **state) {
    assert_int_equal(kept(*state, "posts"), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(support_schema_insert(*state, "posts", "{'n':1}"), BK_OK);
    assert_int_equal(kept(*state, "posts"), 3);
    assert_int_equal(execute(state, "UPDATE posts SET n = 2"), BK_OK);
    assert_int_equal(kept(*state, "posts"), 3);
    assert_int_equal(execute(state, "DELETE FROM posts WHERE rowid <= 2; "
                                    "INSERT INTO posts (id) VALUES ('a'), ('b'), ('c')"),
                     BK_OK);
    assert_int_equal(kept(*state, "posts"), 4);
}

static void what_is_taken_back_does_not_count(void **state) {
    assert_int_equal(execute(state, "INSERT INTO posts (id) VALUES ('a')"), BK_OK);
    assert_int_equal(execute(state, "INSERT INTO posts (id) VALUES ('b'), ('c'); "
                                    "INSERT INTO posts (id) VALUES ('a')"),
                     BK_CONFLICT);
    assert_int_equal(kept(*state, "posts"), 1);
    assert_int_equal(execute(state, "INSERT INTO posts (id) VALUES ('b')"), BK_OK);
    assert_int_equal(kept(*state, "posts"), 2);
}

static void it_goes_with_the_collection(void **state) {
    assert_int_equal(execute(state, "INSERT INTO posts (id) VALUES ('a'), ('b')"), BK_OK);
    assert_int_equal(
        support_schema_change(*state, BK_SCHEMA_UPDATE, "posts", "{'name':'articles'}"), BK_OK);
    assert_int_equal(kept(*state, "posts"), -1);
    assert_int_equal(kept(*state, "articles"), 2);
    assert_int_equal(execute(state, "INSERT INTO articles (id) VALUES ('c')"), BK_OK);
    assert_int_equal(kept(*state, "articles"), 3);
    assert_int_equal(support_schema_change(*state, BK_SCHEMA_DELETE, "articles", NULL), BK_OK);
    assert_int_equal(kept(*state, "articles"), -1);
    assert_int_equal(support_schema_change(*state, BK_SCHEMA_CREATE, NULL, "{'name':'articles'}"),
                     BK_OK);
    assert_int_equal(kept(*state, "articles"), 0);
}

static void what_is_missing_is_counted_at_the_next_opening(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(execute(state, "INSERT INTO posts (id) VALUES ('a'), ('b')"), BK_OK);
    assert_int_equal(execute(state, "DELETE FROM _meta WHERE name = 'rows.posts'"), BK_OK);
    assert_int_equal(kept(fixture, "posts"), -1);
    support_schema_close(fixture);
    bk_tenants_destroy(fixture->kernel.tenants);
    bk_schema_kind_destroy(fixture->kind);
    fixture->kernel.tenants =
        bk_tenants_create(fixture->kernel.store, (struct bk_log){0}, fixture->kernel.directory, 4);
    fixture->kind = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    support_schema_open(fixture);
    assert_int_equal(kept(fixture, "posts"), 2);
    assert_int_equal(execute(state, "INSERT INTO posts (id) VALUES ('c')"), BK_OK);
    assert_int_equal(kept(fixture, "posts"), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(it_follows_what_is_inserted_and_deleted),
        TEST(what_is_taken_back_does_not_count),
        TEST(it_goes_with_the_collection),
        TEST(what_is_missing_is_counted_at_the_next_opening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
