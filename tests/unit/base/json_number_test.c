/* Numbers: nothing is lost on the way in, and the way out is ECMAScript's. */
#include "bakend/assert.h"
#include "bakend/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

static struct bk_arena arena;
static struct bk_buffer buffer;

static int on_setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 1 << 24);
    bk_buffer_init(&buffer, 1 << 20);
    return 0;
}

static int on_teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    bk_buffer_fini(&buffer);
    return 0;
}

static const struct bk_json *parse(struct bk_slice text) {
    struct bk_json *value = NULL;
    assert_int_equal(bk_json_parse(&arena, text, &value, NULL), BK_OK);
    assert_int_equal(value->type, BK_JSON_NUMBER);
    return value;
}

static const struct bk_json *parse_text(const char *text) { return parse(bk_slice_from(text)); }

static void test_text_is_kept_as_it_was_written(void **state) {
    (void)state;
    static const char *texts[] = {"9007199254740991",
                                  "9007199254740993",
                                  "1763741880123456789",
                                  "0.30000000000000004",
                                  "-0",
                                  "1e999",
                                  "1.50",
                                  "1E+02"};
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
        assert_true(bk_slice_equal(parse_text(texts[i])->text, bk_slice_from(texts[i])));
}

static void test_whole_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t number;
    } cases[] = {
        {"0", 0},
        {"-0", 0},
        {"-0.000e7", 0},
        {"0e99999999999999999999", 0},
        {"42", 42},
        {"-42", -42},
        {"9007199254740993", 9007199254740993},
        {"1763741880123456789", 1763741880123456789},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"9223372036854775807.000", INT64_MAX},
        {"-9.223372036854775808e18", INT64_MIN},
        {"9223372036854775807000e-3", INT64_MAX},
        {"1e3", 1000},
        {"1E+3", 1000},
        {"1.0", 1},
        {"1.50e1", 15},
        {"0.05e2", 5},
        {"100e-2", 1},
        {"1200e-00000000000000000000000000000002", 12},
        {"10.10e1", 101},
        {"1e18", 1000000000000000000},
        {"0.000000000000000000000000000000000001e36", 1},
        {"1000000000000000000000000000000000000000000000000000000000000000000000000000000e-78", 1},
    };
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        int64_t number = 77;
        if (!bk_json_to_int64(parse_text(cases[i].text), &number))
            fail_msg("%s is refused", cases[i].text);
        assert_true(number == cases[i].number);
    }
}

static void test_what_is_no_int64(void **state) {
    (void)state;
    static const char *texts[] = {"0.5",
                                  "1.5",
                                  "1e-1",
                                  "15e-1",
                                  "1e300",
                                  "1e19",
                                  "9223372036854775808",
                                  "-9223372036854775809",
                                  "9.223372036854775808e18",
                                  "1e99999999999999999999",
                                  "1e-99999999999999999999",
                                  "99999999999999999999",
                                  "9223372036854775807.1",
                                  "0.00000000000000000000000000000000001"};
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++) {
        int64_t number = 77;
        if (bk_json_to_int64(parse_text(texts[i]), &number))
            fail_msg("%s is taken as an integer", texts[i]);
        assert_int_equal(number, 77);
    }
    struct bk_json *string = NULL;
    int64_t number = 77;
    assert_int_equal(bk_json_parse(&arena, BK_SLICE("\"1\""), &string, NULL), BK_OK);
    assert_false(bk_json_to_int64(string, &number));
    assert_false(bk_json_to_int64(NULL, &number));
}

static void test_doubles(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double number;
    } cases[] = {
        {"0.30000000000000004", 0.1 + 0.2},
        {"-0", -0.0},
        {"1e308", 1e308},
        {"1.7976931348623157e308", DBL_MAX},
        {"5e-324", 5e-324},
        {"1e-999", 0},
        {"9007199254740993", 9007199254740992.0},
        {"123456789012345678901234567890123456789012345678901234567890123456789",
         1.2345678901234568e68},
    };
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        double number = NAN;
        assert_true(bk_json_to_double(parse_text(cases[i].text), &number));
        assert_true(number == cases[i].number);
        assert_int_equal(signbit(number) != 0, signbit(cases[i].number) != 0);
    }
    double number = 77;
    assert_false(bk_json_to_double(parse_text("1e999"), &number));
    assert_false(bk_json_to_double(parse_text("-1e999"), &number));
    assert_false(bk_json_to_double(NULL, &number));
    assert_true(number == 77);
}

static void test_numbers_longer_than_cjsons_buffer(void **state) {
    (void)state;
    for (size_t length = 60; length < 400; length++) {
        char text[500];
        memset(text, '0', sizeof text);
        text[0] = '7';
        text[1] = '.';
        const struct bk_json *value = parse(bk_slice_make(text, length));
        assert_int_equal(value->text.length, length);
        assert_ptr_equal(value->text.data, text);
        int64_t whole = 0;
        double number = 0;
        assert_true(bk_json_to_int64(value, &whole) && whole == 7);
        assert_true(bk_json_to_double(value, &number) && number == 7);
        bk_arena_reset(&arena);
    }
    /* In the midst of other values, which are left alone. */
    struct bk_buffer text;
    bk_buffer_init(&text, 1 << 20);
    bk_buffer_append_literal(&text, "{\"a\":\"12\",\"b\":[-1");
    for (int i = 0; i < 100000; i++)
        bk_buffer_append_char(&text, '0');
    bk_buffer_append_literal(&text, ",5],\"c\":6}");
    struct bk_json *object = NULL;
    assert_int_equal(bk_json_parse(&arena, bk_buffer_slice(&text), &object, NULL), BK_OK);
    const struct bk_json *list = bk_json_get(object, BK_SLICE("b"));
    assert_int_equal(list->child->text.length, 100002);
    double number = 0;
    assert_false(bk_json_to_double(list->child, &number));
    assert_true(bk_slice_is(list->child->next->text, "5"));
    assert_true(bk_slice_is(bk_json_get_string(object, BK_SLICE("a")), "12"));
    bk_buffer_fini(&text);
}

static void assert_writes(double number, const char *expected) {
    bk_buffer_clear(&buffer);
    bk_json_write_double(&buffer, number);
    if (!bk_slice_equal(bk_buffer_slice(&buffer), bk_slice_from(expected)))
        fail_msg("%s is written as %.*s", expected, BK_SLICE_PRINT(bk_buffer_slice(&buffer)));
}

static void test_doubles_are_written_as_ecmascript_does(void **state) {
    (void)state;
    assert_writes(0, "0");
    assert_writes(-0.0, "0");
    assert_writes(1, "1");
    assert_writes(-1.5, "-1.5");
    assert_writes(19.99, "19.99");
    assert_writes(-0.05, "-0.05");
    assert_writes(0.1 + 0.2, "0.30000000000000004");
    assert_writes(1.0 / 3, "0.3333333333333333");
    assert_writes(123456.789012, "123456.789012");
    assert_writes(0.000001, "0.000001");
    assert_writes(0.0000001, "1e-7");
    assert_writes(1.5e-7, "1.5e-7");
    assert_writes(-1.234e-10, "-1.234e-10");
    assert_writes(999999999999999, "999999999999999");
    assert_writes(1e15, "1000000000000000");
    assert_writes(9007199254740991, "9007199254740991");
    assert_writes(9007199254740993.0, "9007199254740992");
    assert_writes(1e20, "100000000000000000000");
    assert_writes(1e21, "1e+21");
    assert_writes(123456789012345680000.0, "123456789012345680000");
    assert_writes(1.2345678901234568e21, "1.2345678901234568e+21");
    assert_writes(1.234567890123457e68, "1.234567890123457e+68");
    assert_writes(DBL_MAX, "1.7976931348623157e+308");
    assert_writes(DBL_MIN, "2.2250738585072014e-308");
    assert_writes(5e-324, "5e-324");
    assert_writes(1.5e-323, "1.5e-323");
    assert_writes(4.35, "4.35");
    assert_writes(0.000035, "0.000035");
    assert_writes(NAN, "null");
    assert_writes(INFINITY, "null");
    assert_writes(-INFINITY, "null");
}

/* Powers of two whose nearest decimal of 16 digits is another double's, but not the next one up. */
static void test_shortest_may_lie_above_a_power_of_two(void **state) {
    (void)state;
    assert_writes(ldexp(1, -1017), "7.120236347223045e-307");
    assert_writes(ldexp(1, -44), "5.684341886080802e-14");
    assert_writes(ldexp(1, -140), "7.174648137343064e-43");
}

static void test_random_doubles_read_back(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        uint64_t bits = seed ^ seed >> 29;
        double number;
        if (i % 2 == 0)
            memcpy(&number, &bits, sizeof number);
        else
            number = (double)(int64_t)(bits % 1000000000) / (i % 3 == 0 ? 100 : 10000000);
        if (!isfinite(number))
            continue;
        bk_buffer_clear(&buffer);
        bk_json_write_double(&buffer, number);
        double back = NAN;
        assert_true(bk_json_to_double(parse(bk_buffer_slice(&buffer)), &back));
        assert_true(back == number);
        bk_arena_reset(&arena);
    }
}

static void test_locale_does_not_matter(void **state) {
    (void)state;
    static const char *names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8"};
    const char *found = NULL;
    for (size_t i = 0; i < BK_COUNT_OF(names) && found == NULL; i++)
        found = setlocale(LC_ALL, names[i]);
    if (found == NULL)
        skip();
    double number = 0;
    bool is_read = bk_json_to_double(parse_text("1.25"), &number);
    bk_buffer_clear(&buffer);
    bk_json_write_double(&buffer, 1.0 / 3);
    setlocale(LC_ALL, "C");
    assert_true(is_read && number == 1.25);
    assert_true(bk_slice_is(bk_buffer_slice(&buffer), "0.3333333333333333"));
}

int main(void) {
#define NUMBER_TEST(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)
    const struct CMUnitTest tests[] = {
        NUMBER_TEST(test_text_is_kept_as_it_was_written),
        NUMBER_TEST(test_whole_numbers),
        NUMBER_TEST(test_what_is_no_int64),
        NUMBER_TEST(test_doubles),
        NUMBER_TEST(test_numbers_longer_than_cjsons_buffer),
        NUMBER_TEST(test_doubles_are_written_as_ecmascript_does),
        NUMBER_TEST(test_shortest_may_lie_above_a_power_of_two),
        NUMBER_TEST(test_random_doubles_read_back),
        NUMBER_TEST(test_locale_does_not_matter),
    };
#undef NUMBER_TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
