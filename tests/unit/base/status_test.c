/* The status table: each status has a name, a sentence and an HTTP status. */
#include "bakend/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_name_is_snake_case(void **state) {
    (void)state;
    assert_string_equal(bk_status_name(BK_OK), "ok");
    assert_string_equal(bk_status_name(BK_NOT_FOUND), "not_found");
    assert_string_equal(bk_status_name(BK_UNSUPPORTED_TYPE), "unsupported_type");
    assert_string_equal(bk_status_name(BK_END), "end");
}

static void test_every_status_is_complete(void **state) {
    (void)state;
    for (int status = BK_OK; status <= BK_END; status++) {
        assert_true(strlen(bk_status_name((enum bk_status)status)) > 0);
        assert_true(strlen(bk_status_text((enum bk_status)status)) > 0);
        int http = bk_status_http((enum bk_status)status);
        assert_in_range(http, 100, 599);
        for (int other = BK_OK; other < status; other++)
            assert_string_not_equal(bk_status_name((enum bk_status)status),
                                    bk_status_name((enum bk_status)other));
    }
}

static void test_http_status_is_the_tables(void **state) {
    (void)state;
    assert_int_equal(bk_status_http(BK_OK), 200);
    assert_int_equal(bk_status_http(BK_INVALID), 400);
    assert_int_equal(bk_status_http(BK_BUSY), 503);
    assert_int_equal(bk_status_http(BK_DISK_FULL), 507);
    assert_string_equal(bk_status_text(BK_NOT_FOUND), "the requested resource was not found");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_is_snake_case),
        cmocka_unit_test(test_every_status_is_complete),
        cmocka_unit_test(test_http_status_is_the_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
