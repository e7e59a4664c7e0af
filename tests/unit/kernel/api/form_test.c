/* Forms as JSON: lists, guessed types, payloads, and what is refused. */
#include "support.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "form.h"

#include <stdio.h>

static struct bk_arena arena;
static struct bk_error error;
static struct api_form form;

static enum bk_status read_pairs(const char *text, struct bk_json **object) {
    enum bk_status status;
    error = (struct bk_error)BK_ERROR_INIT;
    api_form_init(&form, &arena, &error);
    status = api_form_add_pairs(&form, bk_slice_from(text));
    if (status == BK_OK)
        status = api_form_finish(&form, object);
    api_form_fini(&form);
    return status;
}

static void expect(const char *text, const char *json) {
    struct bk_json *object = NULL;
    assert_int_equal(read_pairs(text, &object), BK_OK);
    assert_true(bk_slice_equal(object->text, bk_slice_from(json)));
}

static void refuses(const char *text, enum bk_status status) {
    struct bk_json *object = NULL;
    assert_int_equal(read_pairs(text, &object), status);
    assert_null(object);
    assert_true(error.message[0] != '\0');
}

static void value_is(const char *text, const char *json) {
    struct bk_json *object = NULL;
    error = (struct bk_error)BK_ERROR_INIT;
    api_form_init(&form, &arena, &error);
    assert_int_equal(api_form_add(&form, BK_SLICE("v"), bk_slice_from(text)), BK_OK);
    assert_int_equal(api_form_finish(&form, &object), BK_OK);
    api_form_fini(&form);
    assert_true(bk_slice_equal(object->child->text, bk_slice_from(json)));
    assert_true(bk_slice_equal(object->child->string, bk_slice_from(text)));
    assert_true(bk_slice_equal(bk_json_get_string(object, BK_SLICE("v")), bk_slice_from(text)));
}

static void gathers_values_by_key(void **state) {
    (void)state;
    expect("", "{}");
    expect("a=x&b=y&a=z", "{\"a\":[\"x\",\"z\"],\"b\":\"y\"}");
    expect("a&b=&=c&&d=e=f", "{\"a\":\"\",\"b\":\"\",\"\":\"c\",\"d\":\"e=f\"}");
    expect("a+b=c+d&%61=%26%3D", "{\"a b\":\"c d\",\"a\":\"&=\"}");
    expect("a.b=1&c[]=2&c[0]=3&d%2B=x", "{\"a.b\":1,\"c[]\":2,\"c[0]\":3,\"d+\":\"x\"}");
}

static void guesses_what_reads_back_as_the_same_text(void **state) {
    static const char *const guessed[] = {
        "true",
        "false",
        "0",
        "-0",
        "12",
        "-12",
        "1.5",
        "-0.25",
        "100000000000000000000000",
        "9007199254740992",
        "1234567890.125",
        "0.000001",
        "0.0000000001",
    };
    static const char *const texts[] = {
        "",
        " ",
        "True",
        "null",
        "-",
        "--1",
        "1.",
        ".5",
        "+1",
        "01",
        "-01",
        "0.0",
        "1.50",
        "1e6",
        "1E2",
        "0x10",
        "NaN",
        "Infinity",
        "1 ",
        "1.2.3",
        "1-2",
        "9007199254740993",
        "12345678901234567890",
        "0.1000000000000000055511151231257827",
        "{}",
        "[1]",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(guessed); i++)
        value_is(guessed[i], guessed[i]);
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++) {
        char json[64];
        assert_true(snprintf(json, sizeof(json), "\"%s\"", texts[i]) > 0);
        value_is(texts[i], json);
    }
}

static void does_not_guess_beyond_a_double(void **state) {
    char digits[500], json[sizeof(digits) + 2];
    (void)state;
    memset(digits, '9', sizeof(digits) - 1);
    digits[sizeof(digits) - 1] = '\0';
    assert_true(snprintf(json, sizeof(json), "\"%s\"", digits) > 0);
    value_is(digits, json);
    digits[390] = '\0'; /* still more than a double holds */
    assert_true(snprintf(json, sizeof(json), "\"%s\"", digits) > 0);
    value_is(digits, json);
}

static void keeps_the_texts_of_guessed_values(void **state) {
    struct bk_json *object = NULL;
    (void)state;
    assert_int_equal(read_pairs("a=1&b=true&c=2&c=x&@jsonPayload={\"d\":3}", &object), BK_OK);
    assert_true(bk_slice_is(bk_json_get_string(object, BK_SLICE("a")), "1"));
    assert_true(bk_slice_is(bk_json_get_string(object, BK_SLICE("b")), "true"));
    assert_true(bk_slice_is(bk_json_get(object, BK_SLICE("c"))->child->string, "2"));
    assert_int_equal(bk_json_get_string(object, BK_SLICE("d")).length, 0);
}

static void merges_payloads_over_the_values(void **state) {
    (void)state;
    expect("@jsonPayload={\"a\":\"1\",\"o\":{\"x\":[1]}}&a=2&b=3",
           "{\"a\":\"1\",\"b\":3,\"o\":{\"x\":[1]}}");
    expect("@jsonPayload={\"a\":1}&@jsonPayload={\"a\":null,\"b\":2}", "{\"a\":null,\"b\":2}");
    expect("a=1&@jsonPayload=null&@jsonPayload={\"b\":2}", "{\"b\":2}");
    refuses("@jsonPayload=", BK_INVALID);
    refuses("@jsonPayload=[1]", BK_INVALID);
    refuses("@jsonPayload=\"a\"", BK_INVALID);
    refuses("@jsonPayload={\"a\":1", BK_INVALID);
    refuses("@jsonPayload={\"a\":1,\"a\":2}", BK_INVALID);
}

static void refuses_what_is_no_text(void **state) {
    (void)state;
    refuses("a=%00", BK_INVALID);
    refuses("a%00=1", BK_INVALID);
    refuses("a=%ff", BK_INVALID);
    refuses("a=%f", BK_INVALID);
    refuses("a=%zz", BK_INVALID);
    refuses("a=1;b=2", BK_INVALID);
}

static void keeps_limits(void **state) {
    struct bk_buffer pairs;
    struct bk_arena small;
    struct bk_json *object = NULL;
    (void)state;
    bk_buffer_init(&pairs, 1 << 20);
    for (int i = 0; i < API_FORM_VALUES_MAX; i++)
        bk_buffer_append_literal(&pairs, "a=1&");
    bk_buffer_append_char(&pairs, '\0');
    assert_int_equal(read_pairs(pairs.data, &object), BK_OK);
    assert_int_equal(object->child->child_count, API_FORM_VALUES_MAX);
    pairs.length--;
    bk_buffer_append(&pairs, "a=1", 4);
    object = NULL;
    refuses(pairs.data, BK_TOO_LARGE);
    assert_non_null(strstr(error.message, "10000 values"));

    bk_arena_init(&small, 4096);
    api_form_init(&form, &small, &error);
    assert_int_equal(api_form_add_pairs(&form, bk_slice_from(pairs.data)), BK_TOO_LARGE);
    api_form_fini(&form);
    bk_arena_fini(&small);
    bk_buffer_fini(&pairs);
}

static int setup(void **state) {
    (void)state;
    bk_arena_init(&arena, 32 << 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_arena_fini(&arena);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gathers_values_by_key),
        cmocka_unit_test(guesses_what_reads_back_as_the_same_text),
        cmocka_unit_test(does_not_guess_beyond_a_double),
        cmocka_unit_test(keeps_the_texts_of_guessed_values),
        cmocka_unit_test(merges_payloads_over_the_values),
        cmocka_unit_test(refuses_what_is_no_text),
        cmocka_unit_test(keeps_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
