/* Proves the registry: who holds stays, who is not held makes room, and what is deleted is gone. */
#include "support.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/file.h"
#include "bakend/loop.h"
#include "bakend/tenant.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { OPEN_MAX = 3, PATH_BYTES = 512 };

struct fixture {
    struct bk_loop *loop;
    char *directory;
    struct bk_store *store;
    struct bk_tenants *tenants;
    char trace[256]; /* what the slots were told, in order */
};

static void start(struct fixture *fixture) {
    struct bk_store_options options;
    bk_store_options_init(&options);
    fixture->loop = bk_loop_create();
    options.loop = fixture->loop;
    fixture->store = bk_store_create(&options);
    fixture->tenants =
        bk_tenants_create(fixture->store, (struct bk_log){0}, fixture->directory, OPEN_MAX);
    assert_non_null(fixture->tenants);
}

static void set_flag(void *user) { *(bool *)user = true; }

static void stop(struct fixture *fixture) {
    void *state = fixture->loop;
    bool is_closed = false;
    bk_tenants_close(fixture->tenants, set_flag, &is_closed);
    assert_false(is_closed);
    support_loop_run_until(fixture->loop, &is_closed);
    bk_tenants_destroy(fixture->tenants);
    bk_store_destroy(fixture->store);
    assert_int_equal(support_loop_teardown(&state), 0);
}

static int setup(void **state) {
    struct fixture *fixture = bk_alloc_zero(sizeof(*fixture));
    fixture->directory = support_directory_create();
    start(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    stop(fixture);
    support_directory_remove(fixture->directory);
    bk_free(fixture);
    return 0;
}

/* --- waiting for a hold ----------------------------------------------------------------------- */

struct holding {
    struct bk_tenant_hold hold;
    bool is_done;
    enum bk_status status;
};

static void on_held(struct bk_tenant_hold *hold, enum bk_status status) {
    struct holding *self = bk_container_of(hold, struct holding, hold);
    self->is_done = true;
    self->status = status;
}

static void begin_hold(struct fixture *fixture, struct holding *holding, const char *name) {
    *holding = (struct holding){.hold.done = on_held};
    bk_tenant_hold(fixture->tenants, bk_slice_from(name), &holding->hold);
    assert_false(holding->is_done);
}

static struct bk_tenant *hold(struct fixture *fixture, const char *name, enum bk_status expected) {
    struct holding holding;
    begin_hold(fixture, &holding, name);
    support_loop_run_until(fixture->loop, &holding.is_done);
    assert_int_equal(holding.status, expected);
    assert_true((holding.hold.tenant != NULL) == (expected == BK_OK));
    return holding.hold.tenant;
}

static void create(struct fixture *fixture, const char *name) {
    assert_int_equal(bk_tenant_create(fixture->tenants, bk_slice_from(name), NULL), BK_OK);
}

/* --- names ------------------------------------------------------------------------------------ */

static void names_are_dns_labels(void **state) {
    static const char *const good[] = {"a", "0", "a-b", "default", "9lives"};
    static const char *const bad[] = {"", "-a", "A", "a_b", "a.b", "..", "a/b", "\xc3\xa9"};
    char longest[BK_TENANT_NAME_BYTES_MAX + 1];
    (void)state;
    memset(longest, 'a', sizeof(longest));
    for (size_t i = 0; i < BK_COUNT_OF(good); i++)
        assert_true(bk_tenant_name_is_valid(bk_slice_from(good[i])));
    for (size_t i = 0; i < BK_COUNT_OF(bad); i++)
        assert_false(bk_tenant_name_is_valid(bk_slice_from(bad[i])));
    assert_true(bk_tenant_name_is_valid(bk_slice_make(longest, BK_TENANT_NAME_BYTES_MAX)));
    assert_false(bk_tenant_name_is_valid(bk_slice_make(longest, BK_TENANT_NAME_BYTES_MAX + 1)));
}

static void count_name(struct bk_slice name, void *user) {
    (void)name;
    (*(int *)user)++;
}

static void default_exists_and_others_are_remembered(void **state) {
    struct fixture *fixture = *state;
    struct bk_error error = BK_ERROR_INIT;
    int count = 0;
    assert_true(bk_tenant_exists(fixture->tenants, BK_SLICE("default")));
    assert_int_equal(bk_tenant_create(fixture->tenants, BK_SLICE("default"), &error), BK_EXISTS);
    assert_int_equal(bk_tenant_create(fixture->tenants, BK_SLICE("No"), &error), BK_INVALID);
    create(fixture, "other");
    (void)hold(fixture, "nobody", BK_NOT_FOUND);
    stop(fixture);
    start(fixture);
    assert_true(bk_tenant_exists(fixture->tenants, BK_SLICE("other")));
    bk_tenants_for_each_name(fixture->tenants, count_name, &count);
    assert_int_equal(count, 2);
}

/* --- holds ------------------------------------------------------------------------------------ */

static void one_opening_serves_all_who_wait(void **state) {
    struct fixture *fixture = *state;
    struct holding holdings[5];
    struct stat information;
    char path[PATH_BYTES];
    for (int i = 0; i < 5; i++)
        begin_hold(fixture, &holdings[i], "default");
    assert_null(bk_tenant_hold_open(fixture->tenants, BK_SLICE("default")));
    for (int i = 0; i < 5; i++) {
        support_loop_run_until(fixture->loop, &holdings[i].is_done);
        assert_int_equal(holdings[i].status, BK_OK);
        assert_ptr_equal(holdings[i].hold.tenant, holdings[0].hold.tenant);
    }
    assert_int_equal(bk_tenants_open_count(fixture->tenants), 1);
    assert_ptr_equal(bk_tenant_of(holdings[0].hold.tenant->database), holdings[0].hold.tenant);
    assert_int_equal(stat(holdings[0].hold.tenant->directory, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0700);
    (void)snprintf(path, sizeof(path), "%s/tenants/default/data.db", fixture->directory);
    assert_true(bk_file_exists(path));
    for (int i = 0; i < 5; i++)
        bk_tenant_release(holdings[i].hold.tenant);
}

static void the_least_recently_used_unheld_tenant_makes_room(void **state) {
    struct fixture *fixture = *state;
    struct bk_tenant *a, *b, *c;
    create(fixture, "a");
    create(fixture, "b");
    create(fixture, "c");
    create(fixture, "d");
    a = hold(fixture, "a", BK_OK);
    b = hold(fixture, "b", BK_OK);
    c = hold(fixture, "c", BK_OK);
    (void)hold(fixture, "d", BK_BUSY);
    bk_tenant_release(b);
    bk_tenant_release(a);
    /* b was left first, but is used again. */
    assert_ptr_equal(bk_tenant_hold_open(fixture->tenants, BK_SLICE("b")), b);
    bk_tenant_release(b);
    bk_tenant_release(hold(fixture, "d", BK_OK));
    assert_null(bk_tenant_hold_open(fixture->tenants, BK_SLICE("a")));
    assert_int_equal(bk_tenants_open_count(fixture->tenants), OPEN_MAX);
    bk_tenant_ref(c);
    bk_tenant_release(c);
    bk_tenant_release(c);
}

static void a_tenant_wanted_while_it_closes_is_opened_again(void **state) {
    struct fixture *fixture = *state;
    struct holding again;
    static const char *const names[] = {"b", "c", "d"};
    create(fixture, "a");
    bk_tenant_release(hold(fixture, "a", BK_OK));
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        struct holding other;
        create(fixture, names[i]);
        begin_hold(fixture, &other, names[i]);
        if (i == 2) /* a has just begun to close for d */
            begin_hold(fixture, &again, "a");
        support_loop_run_until(fixture->loop, &other.is_done);
        assert_int_equal(other.status, BK_OK);
        bk_tenant_release(other.hold.tenant);
    }
    support_loop_run_until(fixture->loop, &again.is_done);
    assert_int_equal(again.status, BK_OK);
    bk_tenant_release(again.hold.tenant);
}

/* --- slots ------------------------------------------------------------------------------------ */

static void note(struct fixture *fixture, const char *what) {
    size_t length = strlen(fixture->trace);
    (void)snprintf(fixture->trace + length, sizeof(fixture->trace) - length, "%s ", what);
}

struct slot_user {
    struct fixture *fixture;
    const char *open_note, *close_note;
    enum bk_status failure;
};

static enum bk_status on_slot_prepare(struct bk_transaction *transaction, void *user,
                                      struct bk_error *error) {
    (void)user, (void)error;
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("INSERT INTO first VALUES (1)"));
}

static enum bk_status on_slot_open(struct bk_tenant *tenant, void **slot_state, void *user,
                                   struct bk_error *error) {
    struct slot_user *self = user;
    if (self->failure != BK_OK)
        return bk_error_set(error, self->failure, "no wish to open");
    assert_non_null(tenant->database);
    note(self->fixture, self->open_note);
    *slot_state = self;
    return BK_OK;
}

static void on_slot_close(struct bk_tenant *tenant, void *slot_state, void *user) {
    struct slot_user *self = user;
    assert_ptr_equal(slot_state, self);
    assert_int_equal(bk_database_waiting_count(tenant->database), 0);
    note(self->fixture, self->close_note);
}

static const struct bk_migration first_migrations[] = {{"first_1", "CREATE TABLE first (x)"}};

static void slots_open_in_order_and_close_in_reverse(void **state) {
    struct fixture *fixture = *state;
    struct slot_user users[2] = {{fixture, "+1", "-1", BK_OK}, {fixture, "+2", "-2", BK_OK}};
    struct bk_tenant_slot slots[2] = {
        {"first", first_migrations, 1, on_slot_prepare, on_slot_open, on_slot_close, &users[0]},
        {"second", NULL, 0, NULL, on_slot_open, on_slot_close, &users[1]}};
    struct bk_tenant *tenant;
    assert_int_equal(bk_tenants_add_slot(fixture->tenants, &slots[0]), 0);
    assert_int_equal(bk_tenants_add_slot(fixture->tenants, &slots[1]), 1);
    tenant = hold(fixture, "default", BK_OK);
    assert_ptr_equal(tenant->slots[1], &users[1]);
    assert_string_equal(fixture->trace, "+1 +2 ");
    bk_tenant_release(tenant);
    stop(fixture);
    assert_string_equal(fixture->trace, "+1 +2 -2 -1 ");
    start(fixture);
}

struct late_release {
    struct fixture *fixture;
    struct bk_tenant *tenant;
};

static void on_late_release(struct bk_timer *timer, void *user) {
    struct late_release *late = user;
    (void)timer;
    note(late->fixture, "released");
    bk_tenant_release(late->tenant);
}

static void closing_all_waits_for_who_holds_a_tenant(void **state) {
    struct fixture *fixture = *state;
    struct slot_user user = {fixture, "+", "-", BK_OK};
    struct bk_tenant_slot slot = {"slot", NULL, 0, NULL, on_slot_open, on_slot_close, &user};
    bk_tenants_add_slot(fixture->tenants, &slot);
    struct late_release late = {fixture, hold(fixture, "default", BK_OK)};
    struct bk_timer *timer = bk_timer_create(fixture->loop, on_late_release, &late);
    bool is_closed = false;
    bk_timer_start(timer, 20, 0);
    bk_tenants_close(fixture->tenants, set_flag, &is_closed);
    support_loop_run_until(fixture->loop, &is_closed);
    assert_string_equal(fixture->trace, "+ released - ");
    bk_timer_close(timer);
    bk_tenants_destroy(fixture->tenants);
    fixture->tenants =
        bk_tenants_create(fixture->store, (struct bk_log){0}, fixture->directory, OPEN_MAX);
}

static void a_slot_that_fails_closes_the_tenant_again(void **state) {
    struct fixture *fixture = *state;
    struct slot_user users[2] = {{fixture, "+1", "-1", BK_OK}, {fixture, "+2", "-2", BK_INTERNAL}};
    struct bk_tenant_slot slots[2] = {
        {"first", NULL, 0, NULL, on_slot_open, on_slot_close, &users[0]},
        {"second", NULL, 0, NULL, on_slot_open, on_slot_close, &users[1]}};
    struct holding holding;
    (void)bk_tenants_add_slot(fixture->tenants, &slots[0]);
    (void)bk_tenants_add_slot(fixture->tenants, &slots[1]);
    begin_hold(fixture, &holding, "default");
    support_loop_run_until(fixture->loop, &holding.is_done);
    assert_int_equal(holding.status, BK_INTERNAL);
    assert_non_null(
        strstr(holding.hold.error.message, "default/data.db cannot be opened: second:"));
    assert_non_null(strstr(holding.hold.error.message, "no wish to open"));
    users[1].failure = BK_INVALID;
    begin_hold(fixture, &holding, "default");
    support_loop_run_until(fixture->loop, &holding.is_done);
    assert_int_equal(holding.status, BK_CORRUPT);
    assert_non_null(strstr(holding.hold.error.message, "default/data.db is damaged"));
    assert_non_null(strstr(holding.hold.error.message, "second: no wish to open"));
    assert_non_null(strstr(holding.hold.error.message, "`bakend restore`"));
    users[1].failure = BK_OK;
    bk_tenant_release(hold(fixture, "default", BK_OK));
    assert_string_equal(fixture->trace, "+1 -1 +1 -1 +1 +2 ");
    stop(fixture);
    start(fixture);
}

/* --- deletion --------------------------------------------------------------------------------- */

struct deleting {
    bool is_done;
    enum bk_status status;
};

static void on_deleted(void *user, enum bk_status status) {
    struct deleting *self = user;
    self->is_done = true;
    self->status = status;
}

static void delete_and_wait(struct fixture *fixture, const char *name, enum bk_status expected) {
    struct deleting deleting = {.is_done = false};
    bk_tenant_delete(fixture->tenants, bk_slice_from(name), on_deleted, &deleting);
    assert_false(deleting.is_done);
    support_loop_run_until(fixture->loop, &deleting.is_done);
    assert_int_equal(deleting.status, expected);
}

static void a_deletion_waits_for_the_holds_and_leaves_nothing(void **state) {
    struct fixture *fixture = *state;
    struct deleting deleting = {.is_done = false};
    struct bk_tenant *tenant;
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/tenants/gone", fixture->directory);
    create(fixture, "gone");
    tenant = hold(fixture, "gone", BK_OK);
    bk_tenant_delete(fixture->tenants, BK_SLICE("gone"), on_deleted, &deleting);
    assert_false(bk_tenant_exists(fixture->tenants, BK_SLICE("gone")));
    (void)hold(fixture, "gone", BK_NOT_FOUND);
    assert_null(bk_tenant_hold_open(fixture->tenants, BK_SLICE("gone")));
    assert_int_equal(bk_tenant_create(fixture->tenants, BK_SLICE("gone"), NULL), BK_BUSY);
    support_loop_run_for(fixture->loop, 20);
    assert_false(deleting.is_done);
    assert_true(bk_file_exists(path));
    bk_tenant_release(tenant);
    support_loop_run_until(fixture->loop, &deleting.is_done);
    assert_int_equal(deleting.status, BK_OK);
    assert_false(bk_file_exists(path));
    create(fixture, "gone");
    bk_tenant_release(hold(fixture, "gone", BK_OK));
    delete_and_wait(fixture, "gone", BK_OK);
    delete_and_wait(fixture, "gone", BK_NOT_FOUND);
    delete_and_wait(fixture, "default", BK_FORBIDDEN);
}

static void a_deletion_that_the_disk_refuses_leaves_the_tenant(void **state) {
    struct fixture *fixture = *state;
    char path[PATH_BYTES], aside[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/tenants/kept", fixture->directory);
    (void)snprintf(aside, sizeof(aside), "%s/aside", fixture->directory);
    create(fixture, "kept");
    bk_tenant_release(hold(fixture, "kept", BK_OK));
    assert_int_equal(rename(path, aside), 0);
    delete_and_wait(fixture, "kept", BK_NOT_FOUND);
    assert_true(bk_tenant_exists(fixture->tenants, BK_SLICE("kept")));
    assert_int_equal(rename(aside, path), 0);
    bk_tenant_release(hold(fixture, "kept", BK_OK));
    delete_and_wait(fixture, "kept", BK_OK);
    assert_false(bk_tenant_exists(fixture->tenants, BK_SLICE("kept")));
}

static void count_entry(void *user, const char *name, bool is_directory) {
    (void)is_directory;
    if (strncmp(name, "trash-", 6) == 0)
        (*(int *)user)++;
}

static void what_a_deletion_left_is_removed_at_the_start(void **state) {
    struct fixture *fixture = *state;
    char path[PATH_BYTES];
    int count = 0;
    stop(fixture);
    (void)snprintf(path, sizeof(path), "%s/trash-abc/files", fixture->directory);
    assert_int_equal(bk_directory_create(path, NULL), BK_OK);
    start(fixture);
    assert_int_equal(bk_directory_list(fixture->directory, count_entry, &count, NULL), BK_OK);
    assert_int_equal(count, 0);
}

static void count_open(struct bk_tenant *tenant, void *user) {
    (void)tenant;
    (*(int *)user)++;
}

static void a_database_that_is_gone_is_not_replaced(void **state) {
    struct fixture *fixture = *state;
    char path[4096];
    create(fixture, "a");
    /* Others were made through default, so it had a database. */
    (void)hold(fixture, "default", BK_CORRUPT);
    assert_int_equal(snprintf(path, sizeof(path), "%s/tenants/a/kept", fixture->directory) > 0, 1);
    assert_int_equal(bk_file_write_atomic(path, BK_SLICE(""), NULL), BK_OK);
    (void)hold(fixture, "a", BK_CORRUPT);
    assert_int_equal(bk_file_remove(path, NULL), BK_OK);
    bk_tenant_release(hold(fixture, "a", BK_OK));
}

static void all_is_closed_whatever_state_it_is_in(void **state) {
    struct fixture *fixture = *state;
    struct holding opening;
    struct deleting deleting = {.is_done = false};
    int count = 0;
    bk_tenant_release(hold(fixture, "default", BK_OK));
    create(fixture, "a");
    create(fixture, "b");
    bk_tenant_release(hold(fixture, "a", BK_OK));
    bk_tenant_delete(fixture->tenants, BK_SLICE("a"), on_deleted, &deleting);
    begin_hold(fixture, &opening, "b");
    bk_tenants_for_each_open(fixture->tenants, count_open, &count);
    assert_int_equal(count, 1);
    stop(fixture);
    assert_true(opening.is_done && opening.status == BK_CLOSING);
    assert_true(deleting.is_done && deleting.status == BK_OK);
    start(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(names_are_dns_labels),
        TEST(default_exists_and_others_are_remembered),
        TEST(one_opening_serves_all_who_wait),
        TEST(the_least_recently_used_unheld_tenant_makes_room),
        TEST(a_tenant_wanted_while_it_closes_is_opened_again),
        TEST(slots_open_in_order_and_close_in_reverse),
        TEST(closing_all_waits_for_who_holds_a_tenant),
        TEST(a_slot_that_fails_closes_the_tenant_again),
        TEST(a_deletion_waits_for_the_holds_and_leaves_nothing),
        TEST(a_deletion_that_the_disk_refuses_leaves_the_tenant),
        TEST(what_a_deletion_left_is_removed_at_the_start),
        TEST(a_database_that_is_gone_is_not_replaced),
        TEST(all_is_closed_whatever_state_it_is_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
