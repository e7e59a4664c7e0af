/* Options: which place decides, what is refused and how, and what is shown. */
#include "bakend/config.h"
#include "bakend/file.h"
#include "support.h"

#include <stdio.h>
#include <string.h>

struct values {
    const char *name, *password;
    int64_t count, size, age;
    bool is_on;
};

static const struct bk_option options[] = {
    {.name = "name", .type = BK_OPTION_TEXT, .offset = offsetof(struct values, name), .help = "."},
    {.name = "api-password",
     .type = BK_OPTION_SECRET,
     .offset = offsetof(struct values, password),
     .help = "."},
    {.name = "item-count",
     .type = BK_OPTION_INT,
     .offset = offsetof(struct values, count),
     .default_value = "5",
     .minimum = 1,
     .maximum = 10,
     .argument = "COUNT",
     .help = "How many."},
    {.name = "max-size",
     .type = BK_OPTION_BYTES,
     .offset = offsetof(struct values, size),
     .default_value = "4KiB",
     .help = "."},
    {.name = "max-age",
     .type = BK_OPTION_DURATION,
     .offset = offsetof(struct values, age),
     .default_value = "30d",
     .help = "."},
    {.name = "verbose",
     .type = BK_OPTION_BOOL,
     .offset = offsetof(struct values, is_on),
     .default_value = "false",
     .help = "."},
};

struct fixture {
    struct bk_config *config;
    struct values values;
    struct bk_error error;
    char *directory;
    char path[512];
};

static int setup(void **state) {
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    fixture.config = bk_config_create();
    fixture.directory = support_directory_create();
    assert_true(bk_path_join(fixture.path, sizeof fixture.path, fixture.directory, "bakend.json"));
    bk_config_add(fixture.config, "test", options, sizeof options / sizeof options[0],
                  &fixture.values);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_config_destroy(fixture->config);
    support_directory_remove(fixture->directory);
    return 0;
}

static enum bk_status read_file(struct fixture *fixture, const char *text) {
    assert_int_equal(bk_file_write_atomic(fixture->path, bk_slice_from(text), NULL), BK_OK);
    return bk_config_read_file(fixture->config, fixture->path, &fixture->error);
}

static enum bk_status read_variable(struct fixture *fixture, char *variable) {
    char *environment[] = {variable, NULL};
    return bk_config_read_environment(fixture->config, environment, &fixture->error);
}

static enum bk_status read_flag(struct fixture *fixture, char *flag) {
    char *arguments[] = {flag};
    int count = 1;
    return bk_config_read_flags(fixture->config, &count, arguments, &fixture->error);
}

#define assert_message(fixture, part) assert_non_null(strstr((fixture)->error.message, (part)))

/* --- places ----------------------------------------------------------------------------------- */

static void test_defaults_are_in_the_values_at_once(void **state) {
    struct fixture *fixture = *state;
    assert_null(fixture->values.name);
    assert_int_equal(fixture->values.count, 5);
    assert_int_equal(fixture->values.size, 4096);
    assert_int_equal(fixture->values.age, INT64_C(30) * 86400000);
    assert_false(fixture->values.is_on);
}

static void test_the_strongest_place_decides_in_any_order_of_reading(void **state) {
    struct fixture *fixture = *state;
    char flag[] = "--item-count=2", variable[] = "BAKEND_ITEM_COUNT=3";
    assert_int_equal(read_flag(fixture, flag), BK_OK);
    assert_int_equal(read_variable(fixture, variable), BK_OK);
    assert_int_equal(read_file(fixture, "{\"itemCount\": 4, \"maxAge\": \"1h\"}"), BK_OK);
    assert_int_equal(fixture->values.count, 2);
    assert_int_equal(fixture->values.age, 3600000);
    assert_int_equal(bk_config_origin(fixture->config, "item-count"), BK_CONFIG_FLAG);
    assert_int_equal(bk_config_origin(fixture->config, "max-age"), BK_CONFIG_FILE);
    assert_int_equal(bk_config_origin(fixture->config, "max-size"), BK_CONFIG_DEFAULT);
}

static void test_a_wrong_value_is_found_also_where_a_stronger_place_overrides_it(void **state) {
    struct fixture *fixture = *state;
    char flag[] = "--item-count=2";
    assert_int_equal(read_flag(fixture, flag), BK_OK);
    assert_int_equal(read_file(fixture, "{\"itemCount\": 11}"), BK_INVALID);
    assert_message(fixture, "itemCount in ");
    assert_message(fixture, "\"11\" must be from 1 to 10");
}

/* --- flags ------------------------------------------------------------------------------------ */

static void test_known_flags_are_taken_out_and_the_rest_stays_in_order(void **state) {
    struct fixture *fixture = *state;
    char a[] = "list", b[] = "--item-count", c[] = "7", d[] = "--other", e[] = "--verbose",
         f[] = "x", g[] = "--", h[] = "--name";
    char *arguments[] = {a, b, c, d, e, f, g, h};
    int count = 8;
    assert_int_equal(bk_config_read_flags(fixture->config, &count, arguments, &fixture->error),
                     BK_OK);
    assert_int_equal(count, 4);
    assert_string_equal(arguments[0], "list");
    assert_string_equal(arguments[1], "--other");
    assert_string_equal(arguments[2], "x");
    assert_string_equal(arguments[3], "--name");
    assert_int_equal(fixture->values.count, 7);
    assert_true(fixture->values.is_on);
    assert_null(fixture->values.name);
}

static void test_a_flag_without_its_value_is_refused(void **state) {
    struct fixture *fixture = *state;
    char flag[] = "--item-count";
    assert_int_equal(read_flag(fixture, flag), BK_INVALID);
    assert_message(fixture, "--item-count needs a value: --item-count COUNT");
}

static void test_of_a_flag_given_twice_the_last_counts(void **state) {
    struct fixture *fixture = *state;
    char a[] = "--name=first", b[] = "--name=";
    assert_int_equal(read_flag(fixture, a), BK_OK);
    assert_int_equal(read_flag(fixture, b), BK_OK);
    assert_string_equal(fixture->values.name, "");
}

static void test_an_unknown_flag_is_refused_with_the_nearest_name(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(bk_config_refuse_flag(fixture->config, "--item-cuont=3", &fixture->error),
                     BK_INVALID);
    assert_string_equal(
        fixture->error.message,
        "unknown option --item-cuont: did you mean --item-count? See `bakend help serve`");
    bk_config_refuse_flag(fixture->config, "--else", &fixture->error);
    assert_string_equal(fixture->error.message, "unknown option --else: see `bakend help serve`");
}

/* --- secrets ---------------------------------------------------------------------------------- */

static void test_a_secret_is_no_flag_and_is_never_shown(void **state) {
    struct fixture *fixture = *state;
    char flag[] = "--api-password=hidden-1", variable[] = "BAKEND_API_PASSWORD=hidden-1";
    struct bk_buffer out;
    assert_int_equal(read_flag(fixture, flag), BK_INVALID);
    assert_message(fixture, "BAKEND_API_PASSWORD");
    assert_null(strstr(fixture->error.message, "hidden-1"));
    assert_int_equal(read_variable(fixture, variable), BK_OK);
    assert_string_equal(fixture->values.password, "hidden-1");
    bk_buffer_init(&out, 65536);
    bk_config_write_text(fixture->config, &out);
    bk_config_write_json(fixture->config, &out);
    bk_buffer_append_char(&out, '\0');
    assert_null(strstr(out.data, "hidden-1"));
    assert_non_null(strstr(out.data, "\"apiPassword\":{\"value\":\"********\""));
    bk_buffer_fini(&out);
}

/* Found by fuzzing: the text as it was given, 007, is no number in JSON. */
static void test_a_number_is_printed_as_the_number_that_it_is(void **state) {
    struct fixture *fixture = *state;
    char variable[] = "BAKEND_ITEM_COUNT=007";
    struct bk_buffer out;
    assert_int_equal(read_variable(fixture, variable), BK_OK);
    bk_buffer_init(&out, 65536);
    bk_config_write_json(fixture->config, &out);
    bk_buffer_append_char(&out, '\0');
    assert_non_null(strstr(out.data, "\"itemCount\":{\"value\":7,"));
    bk_buffer_fini(&out);
}

/* --- environment and file --------------------------------------------------------------------- */

static void test_a_slip_in_a_variable_is_refused_and_a_foreign_one_ignored(void **state) {
    struct fixture *fixture = *state;
    char slip[] = "BAKEND_ITEM_CONT=3", foreign[] = "BAKEND_TEST_RUN=3";
    assert_int_equal(read_variable(fixture, slip), BK_INVALID);
    assert_message(fixture, "did you mean BAKEND_ITEM_COUNT?");
    assert_int_equal(read_variable(fixture, foreign), BK_OK);
}

static void test_a_file_takes_texts_numbers_switches_and_lists(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(read_file(fixture, "{\"name\": [\"a\", \"b\"], \"itemCount\": 3, "
                                        "\"maxSize\": 10, \"verbose\": true}"),
                     BK_OK);
    assert_string_equal(fixture->values.name, "a,b");
    assert_int_equal(fixture->values.count, 3);
    assert_int_equal(fixture->values.size, 10);
    assert_true(fixture->values.is_on);
}

static void test_a_wrong_file_is_refused_with_the_place(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(read_file(fixture, "{\"itemcount\": 3}"), BK_INVALID);
    assert_message(fixture, "unknown key itemcount");
    assert_message(fixture, "did you mean itemCount?");
    assert_int_equal(read_file(fixture, "[]"), BK_INVALID);
    assert_message(fixture, "must be a JSON object");
    assert_int_equal(read_file(fixture, "{\"name\": {}}"), BK_INVALID);
    assert_int_equal(read_file(fixture, "{\"name\": null}"), BK_INVALID);
    assert_int_equal(read_file(fixture, "{\"name\": 1"), BK_INVALID);
    assert_message(fixture, "bakend.json");
    assert_int_equal(bk_config_read_file(fixture->config, "/missing", &fixture->error),
                     BK_NOT_FOUND);
}

/* --- values ----------------------------------------------------------------------------------- */

static void assert_size(struct fixture *fixture, const char *text, int64_t expected) {
    char flag[64];
    snprintf(flag, sizeof flag, "--max-size=%s", text);
    fixture->values.size = -1;
    enum bk_status status = read_flag(fixture, flag);
    assert_int_equal(status, expected < 0 ? BK_INVALID : BK_OK);
    assert_int_equal(fixture->values.size, expected);
}

static void test_bytes_take_exact_units_only(void **state) {
    struct fixture *fixture = *state;
    assert_size(fixture, "0", 0);
    assert_size(fixture, "4096", 4096);
    assert_size(fixture, "10B", 10);
    assert_size(fixture, "2KB", 2000);
    assert_size(fixture, "2KiB", 2048);
    assert_size(fixture, "64MiB", 67108864);
    assert_size(fixture, "10GB", INT64_C(10000000000));
    assert_size(fixture, "1TiB", INT64_C(1) << 40);
    assert_size(fixture, "2kb", -1);
    assert_size(fixture, "2 KB", -1);
    assert_size(fixture, "1.5GB", -1);
    assert_size(fixture, "-1", -1);
    assert_size(fixture, "", -1);
    assert_size(fixture, "KB", -1);
    assert_size(fixture, "9999999999TiB", -1);
}

static void assert_age(struct fixture *fixture, const char *text, int64_t expected) {
    char flag[64];
    snprintf(flag, sizeof flag, "--max-age=%s", text);
    fixture->values.age = -1;
    enum bk_status status = read_flag(fixture, flag);
    assert_int_equal(status, expected < 0 ? BK_INVALID : BK_OK);
    assert_int_equal(fixture->values.age, expected);
}

static void test_durations_name_their_unit(void **state) {
    struct fixture *fixture = *state;
    assert_age(fixture, "0", 0);
    assert_age(fixture, "250ms", 250);
    assert_age(fixture, "10s", 10000);
    assert_age(fixture, "5m", 300000);
    assert_age(fixture, "12h", 43200000);
    assert_age(fixture, "30d", INT64_C(2592000000));
    assert_age(fixture, "2w", INT64_C(1209600000));
    assert_age(fixture, "10", -1);
    assert_age(fixture, "10S", -1);
    assert_age(fixture, "10 s", -1);
    assert_age(fixture, "s", -1);
}

static void test_switches_are_true_or_false(void **state) {
    struct fixture *fixture = *state;
    char on[] = "--verbose=true", off[] = "--verbose=false", wrong[] = "--verbose=yes";
    assert_int_equal(read_flag(fixture, on), BK_OK);
    assert_true(fixture->values.is_on);
    assert_int_equal(read_flag(fixture, off), BK_OK);
    assert_false(fixture->values.is_on);
    assert_int_equal(read_flag(fixture, wrong), BK_INVALID);
    assert_message(fixture, "--verbose: \"yes\" must be true or false");
}

static void test_the_help_has_a_line_for_each_option(void **state) {
    struct fixture *fixture = *state;
    struct bk_buffer out;
    bk_buffer_init(&out, 65536);
    bk_config_write_help(fixture->config, &out);
    bk_buffer_append_char(&out, '\0');
    assert_non_null(strstr(out.data, "--item-count COUNT"));
    assert_non_null(strstr(out.data, "How many. (5; 1 to 10)\n"));
    bk_buffer_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_defaults_are_in_the_values_at_once),
        TEST(test_the_strongest_place_decides_in_any_order_of_reading),
        TEST(test_a_wrong_value_is_found_also_where_a_stronger_place_overrides_it),
        TEST(test_known_flags_are_taken_out_and_the_rest_stays_in_order),
        TEST(test_a_flag_without_its_value_is_refused),
        TEST(test_of_a_flag_given_twice_the_last_counts),
        TEST(test_an_unknown_flag_is_refused_with_the_nearest_name),
        TEST(test_a_number_is_printed_as_the_number_that_it_is),
        TEST(test_a_secret_is_no_flag_and_is_never_shown),
        TEST(test_a_slip_in_a_variable_is_refused_and_a_foreign_one_ignored),
        TEST(test_a_file_takes_texts_numbers_switches_and_lists),
        TEST(test_a_wrong_file_is_refused_with_the_place),
        TEST(test_bytes_take_exact_units_only),
        TEST(test_durations_name_their_unit),
        TEST(test_switches_are_true_or_false),
        TEST(test_the_help_has_a_line_for_each_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
