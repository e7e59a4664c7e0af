/* What the command line says beside options: the command, its arguments, --tenant, --json, --help.
 */
#include "cli_private.h"
#include "support.h"

#include <string.h>

static enum bk_status read_arguments(struct cli_invocation *invocation, int count,
                                     char **arguments) {
    struct bk_error error = BK_ERROR_INIT;
    return cli_invocation_read(invocation, count, arguments, &error);
}

static void test_the_first_word_is_the_command(void **state) {
    (void)state;
    char a[] = "superuser", b[] = "create", c[] = "a@example.com";
    char *arguments[] = {a, b, c};
    struct cli_invocation invocation;
    assert_int_equal(read_arguments(&invocation, 3, arguments), BK_OK);
    assert_string_equal(invocation.command, "superuser");
    assert_int_equal(invocation.argument_count, 2);
    assert_string_equal(invocation.arguments[1], "a@example.com");
    assert_null(invocation.tenant);
    assert_false(invocation.is_json);
}

static void test_switches_may_stand_anywhere(void **state) {
    (void)state;
    char a[] = "--json", b[] = "backup", c[] = "--tenant", d[] = "acme", e[] = "file", f[] = "-h";
    char *arguments[] = {a, b, c, d, e, f};
    struct cli_invocation invocation;
    assert_int_equal(read_arguments(&invocation, 6, arguments), BK_OK);
    assert_string_equal(invocation.command, "backup");
    assert_string_equal(invocation.tenant, "acme");
    assert_true(invocation.is_json);
    assert_true(invocation.wants_help);
    assert_int_equal(invocation.argument_count, 1);
    assert_string_equal(invocation.arguments[0], "file");
}

static void test_a_commands_own_flags_are_left_to_it(void **state) {
    (void)state;
    char a[] = "events", b[] = "--types", c[] = "users.*";
    char *arguments[] = {a, b, c};
    struct cli_invocation invocation;
    assert_int_equal(read_arguments(&invocation, 3, arguments), BK_OK);
    assert_int_equal(invocation.argument_count, 2);
    assert_string_equal(invocation.arguments[0], "--types");
}

static void test_a_flag_in_front_is_no_command(void **state) {
    (void)state;
    char a[] = "--nope";
    char *arguments[] = {a};
    struct cli_invocation invocation;
    assert_int_equal(read_arguments(&invocation, 1, arguments), BK_OK);
    assert_null(invocation.command);
    assert_int_equal(invocation.argument_count, 1);
    assert_int_equal(read_arguments(&invocation, 0, arguments), BK_OK);
    assert_null(invocation.command);
}

static void test_a_tenant_must_have_a_tenants_name(void **state) {
    (void)state;
    char a[] = "--tenant=../x", b[] = "--tenant=", c[] = "--tenant", d[] = "--tenant=a-1";
    char *wrong[] = {a, b, c}, *right[] = {d};
    struct cli_invocation invocation;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(read_arguments(&invocation, 1, &wrong[i]), BK_INVALID);
    assert_int_equal(read_arguments(&invocation, 1, right), BK_OK);
    assert_string_equal(invocation.tenant, "a-1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_word_is_the_command),
        cmocka_unit_test(test_switches_may_stand_anywhere),
        cmocka_unit_test(test_a_commands_own_flags_are_left_to_it),
        cmocka_unit_test(test_a_flag_in_front_is_no_command),
        cmocka_unit_test(test_a_tenant_must_have_a_tenants_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
