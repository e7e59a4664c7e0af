/* Values of each type from a client's JSON through the table to the answer. What is expected is
 * what PocketBase 0.39.7 answers. */
#include "schema_private.h"

#include "schema_fixture.h"
#include <stdio.h>

/* One field of one definition, and what becomes of inputs: the answer's JSON, or "!code". */
struct sample {
    const char *input, *expected;
};

static void define(struct support_schema *fixture, const char *field) {
    char json[600];
    support_schema_change(fixture, BK_SCHEMA_DELETE, "c", NULL);
    snprintf(json, sizeof json, "{'name':'c','fields':[{'name':'f',%s}]}", field);
    if (support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json) != BK_OK)
        fail_msg("%s: %s %s", json, support_schema_problems(fixture), fixture->error.message);
}

static void assert_problem(struct support_schema *fixture, const char *input, const char *code) {
    if (fixture->problems.first == NULL ||
        !bk_slice_equal(fixture->problems.first->code, bk_slice_from(code)))
        fail_msg("%s: %s instead of %s", input, support_schema_problems(fixture), code);
}

static void assert_samples(struct support_schema *fixture, const char *field,
                           const struct sample *samples) {
    define(fixture, field);
    for (int i = 0; samples[i].input != NULL; i++) {
        char json[600], id[20], expected[600];
        snprintf(id, sizeof id, "record%09d", i);
        snprintf(json, sizeof json, "{'id':'%s','f':%s}", id, samples[i].input);
        enum bk_status status = support_schema_insert(fixture, "c", json);
        if (samples[i].expected[0] == '!') {
            assert_int_equal(status, BK_INVALID);
            assert_problem(fixture, samples[i].input, samples[i].expected + 1);
            continue;
        }
        if (status != BK_OK)
            fail_msg("%s: %s", json, support_schema_problems(fixture));
        snprintf(expected, sizeof expected,
                 "{'collectionId':'%.*s','collectionName':'c','id':'%s','f':%s}",
                 BK_SLICE_PRINT(support_schema_find(fixture, "c")->id), id, samples[i].expected);
        assert_string_equal(support_schema_record(fixture, "c", id), expected);
    }
}

static void texts(void **state) {
    assert_samples(*state, "'type':'text'",
                   (struct sample[]){{"null", "''"},
                                     {"' a '", "' a '"},
                                     {"12", "'12'"},
                                     {"-1.5", "'-1.5'"},
                                     {"-0.0", "'-0'"},
                                     {"1e21", "'1000000000000000000000'"},
                                     {"1.5e-7", "'0.00000015'"},
                                     {"true", "'true'"},
                                     {"[1]", "''"},
                                     {"{}", "''"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'text','min':2,'max':4,'pattern':'^[a-zü]+$'",
                   (struct sample[]){{"''", "''"},
                                     {"'a'", "!validation_min_text_constraint"},
                                     {"'üüüü'", "'üüüü'"},
                                     {"'üüüüü'", "!validation_max_text_constraint"},
                                     {"'AB'", "!validation_invalid_format"},
                                     {"'ab\\n'", "!validation_invalid_format"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'text','required':true",
                   (struct sample[]){{"''", "!validation_required"}, {NULL, NULL}});
}

static void numbers(void **state) {
    assert_samples(*state, "'type':'number'",
                   (struct sample[]){{"9007199254740993", "9007199254740993"},
                                     {"0.1", "0.1"},
                                     {"1.0", "1"},
                                     {"1e21", "1e+21"},
                                     {"'12.50'", "12.5"},
                                     {"'1e3'", "1000"},
                                     {"'.5'", "0.5"},
                                     {"'+3'", "3"},
                                     {"'007'", "7"},
                                     {"' 7 '", "0"},
                                     {"'12abc'", "0"},
                                     {"'0x10'", "0"},
                                     {"'1e999'", "0"},
                                     {"'inf'", "!validation_not_a_number"},
                                     {"true", "1"},
                                     {"[1]", "0"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'number','min':2,'max':4.5",
                   (struct sample[]){{"0", "0"}, /* empty, so not looked at */
                                     {"1.5", "!validation_min_number_constraint"},
                                     {"4.5", "4.5"},
                                     {"5", "!validation_max_number_constraint"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'number','onlyInt':true,'required':true",
                   (struct sample[]){{"1.5", "!validation_only_int_constraint"},
                                     {"0", "!validation_required"},
                                     {NULL, NULL}});
}

static void bools(void **state) {
    assert_samples(*state, "'type':'bool'",
                   (struct sample[]){{"'t'", "true"},
                                     {"'yes'", "false"},
                                     {"-1", "true"},
                                     {"0", "false"},
                                     {"[true]", "false"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'bool','required':true",
                   (struct sample[]){{"false", "!validation_required"}, {NULL, NULL}});
}

static void emails_and_urls(void **state) {
    assert_samples(*state, "'type':'email','onlyDomains':['a.com']",
                   (struct sample[]){{"'A@a.com'", "'A@a.com'"},
                                     {"'a@b.com'", "!validation_email_domain_not_allowed"},
                                     {"'a@@a.com'", "!validation_is_email"},
                                     {"'a@1.2.3.4'", "!validation_is_email"},
                                     {"''", "''"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'url','exceptDomains':['b.com']",
                   (struct sample[]){{"'https://a.com/x?y#z'", "'https://a.com/x?y#z'"},
                                     {"'a.com'", "'a.com'"},
                                     {"'https://b.com'", "!validation_url_domain_not_allowed"},
                                     {"'word'", "!validation_invalid_url"},
                                     {"'javascript:alert(1)'", "!validation_invalid_url"},
                                     {"'http://a b.com'", "!validation_invalid_url"},
                                     {NULL, NULL}});
}

static void dates(void **state) {
    assert_samples(*state, "'type':'date','max':'2030-01-01'",
                   (struct sample[]){
                       {"'2022-01-02'", "'2022-01-02 00:00:00.000Z'"},
                       {"'2022-01-02T03:04:05+02:00'", "'2022-01-02 01:04:05.000Z'"},
                       {"'2022-01-02 03:04:05.6789Z'", "'2022-01-02 03:04:05.678Z'"},
                       {"'Sun, 02 Jan 2022 03:04:05 GMT'", "'2022-01-02 03:04:05.000Z'"},
                       {"'2022-01-02 03:04'", "''"},
                       {"'2023-02-29'", "''"},
                       {"'0001-01-01 00:00:00.000Z'", "''"},
                       {"'3:04PM'", "'0000-01-01 15:04:00.000Z'"},
                       {"1641092645", "''"},
                       {"'2030-01-01 00:00:00.001Z'", "!validation_max_less_equal_than_required"},
                       {NULL, NULL}});
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_insert(fixture, "c", "{'f':'2031-01-01'}"), BK_INVALID);
    assert_string_equal(support_schema_problems(fixture),
                        "{'f':{'code':'validation_max_less_equal_than_required','message':'Must be "
                        "no greater than 2030-01-01 00:00:00 +0000 UTC.','params':{'threshold':"
                        "'2030-01-01T00:00:00Z'}}}");
}

static void selects(void **state) {
    assert_samples(*state, "'type':'select','values':['a','b','1']",
                   (struct sample[]){{"'a'", "'a'"},
                                     {"['a','b']", "'b'"},
                                     {"1", "'1'"},
                                     {"[null]", "''"},
                                     {"'[\\'a\\']'", "'a'"},
                                     {"'x'", "!validation_invalid_value"},
                                     {"'[1,\\'a\\']'", "!validation_too_many_values"},
                                     {"'[1]'", "!validation_invalid_value"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'select','values':['a','b','c\\''],'maxSelect':2",
                   (struct sample[]){{"'a'", "['a']"},
                                     {"['a','a','b']", "['a','b']"},
                                     {"['','a']", "['a']"},
                                     {"null", "[]"},
                                     {"{}", "[]"},
                                     {"['x']", "!validation_invalid_value"},
                                     {"['a','b','x']", "!validation_too_many_values"},
                                     {NULL, NULL}});
}

static void json_values(void **state) {
    assert_samples(*state, "'type':'json'",
                   (struct sample[]){{"null", "null"},
                                     {"'null'", "null"},
                                     {"{ 'a' : [ 1 , ' x ' ] }", "{'a':[1,' x ']}"},
                                     {"12345678901234567890", "12345678901234567890"},
                                     {"'1.50'", "1.50"},
                                     {"'12abc'", "'12abc'"},
                                     {"'[1, 2]'", "[1,2]"},
                                     {"'{bad'", "'{bad'"},
                                     {"''", "''"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'json','maxSize':5,'required':true",
                   (struct sample[]){{"'abcd'", "!validation_json_size_limit"},
                                     {"[]", "!validation_required"},
                                     {"0", "0"},
                                     {NULL, NULL}});
}

static void editors_and_places(void **state) {
    assert_samples(*state, "'type':'editor','maxSize':5",
                   (struct sample[]){{"'<p>'", "'<p>'"},
                                     {"'üüü'", "!validation_content_size_limit"},
                                     {NULL, NULL}});
    assert_samples(*state, "'type':'geoPoint'",
                   (struct sample[]){{"{'lon':1.5,'lat':-2}", "{'lon':1.5,'lat':-2}"},
                                     {"'{\\'lon\\':3}'", "{'lon':3,'lat':0}"},
                                     {"{'Lon':3,'LAT':4}", "{'lon':3,'lat':4}"},
                                     {"'text'", "{'lon':0,'lat':0}"},
                                     {"{'lat':91,'lon':0}", "!validation_invalid_latitude"},
                                     {"{'lat':0,'lon':181}", "!validation_invalid_longitude"},
                                     {NULL, NULL}});
}

static void relations_must_exist(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(
        support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, "{'id':'target','name':'to'}"),
        BK_OK);
    assert_int_equal(support_schema_insert(fixture, "to", "{'id':'one000000000001'}"), BK_OK);
    assert_int_equal(support_schema_insert(fixture, "to", "{'id':'two000000000002'}"), BK_OK);
    assert_samples(fixture, "'type':'relation','collectionId':'target'",
                   (struct sample[]){{"'one000000000001'", "'one000000000001'"},
                                     {"''", "''"},
                                     {"['x','two000000000002']", "'two000000000002'"},
                                     {"'none'", "!validation_missing_rel_records"},
                                     {"'[1,\\'a\\']'", "!validation_too_many_values"},
                                     {NULL, NULL}});
    assert_samples(
        fixture, "'type':'relation','collectionId':'target','minSelect':2,'maxSelect':3",
        (struct sample[]){
            {"['one000000000001','two000000000002']", "['one000000000001','two000000000002']"},
            {"['one000000000001','none']", "!validation_missing_rel_records"},
            {"['one000000000001']", "!validation_not_enough_values"},
            {"['a','b','c','d']", "!validation_too_many_values"},
            {NULL, NULL}});
    struct bk_relation relation;
    const struct bk_collection *from = support_schema_find(fixture, "c");
    assert_true(bk_relation_of(&from->fields[1], &relation));
    assert_true(bk_slice_is(relation.target_id, "target") && relation.is_multiple);
    assert_false(bk_relation_of(&from->fields[0], &relation));
}

/* --- what is filled in ------------------------------------------------------------------------ */

static void ids_and_texts_are_generated(void **state) {
    struct support_schema *fixture = *state;
    define(fixture, "'type':'text','autogeneratePattern':'inv-[A-C]{3}[0-9]{4}'");
    assert_int_equal(support_schema_insert(fixture, "c", "{}"), BK_OK);
    assert_string_equal(
        support_schema_query(fixture, "SELECT (f GLOB 'inv-[A-C][A-C][A-C][0-9][0-9][0-9][0-9]') "
                                      "|| length(id) || (id NOT GLOB '*[^a-z0-9]*') FROM c"),
        "1151");
    static const struct sample ids[] = {{"short", "validation_min_text_constraint"},
                                        {"aaaaaaaaaaaaaaaa", "validation_max_text_constraint"},
                                        {"AAAAAAAAAAAAAAA", "validation_invalid_format"},
                                        {NULL, NULL}};
    for (int i = 0; ids[i].input != NULL; i++) {
        char json[60];
        snprintf(json, sizeof json, "{'id':'%s'}", ids[i].input);
        assert_int_equal(support_schema_insert(fixture, "c", json), BK_INVALID);
        assert_problem(fixture, json, ids[i].expected);
    }
}

static void ids_of_another_pattern_are_unique_without_case(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(
        support_schema_change(fixture, BK_SCHEMA_CREATE, NULL,
                              "{'name':'c','fields':[{'name':'id','type':'text','pattern':'.+',"
                              "'autogeneratePattern':'[0-9]{6}'}]}"),
        BK_OK);
    assert_int_equal(support_schema_insert(fixture, "c", "{'id':'Abc'}"), BK_OK);
    static const struct sample ids[] = {{"aBC", "validation_pk_invalid"},
                                        {"a/b", "validation_forbidden_pk_character"},
                                        {"nul", "validation_reserved_pk"},
                                        {NULL, NULL}};
    for (int i = 0; ids[i].input != NULL; i++) {
        char json[60];
        snprintf(json, sizeof json, "{'id':'%s'}", ids[i].input);
        assert_int_equal(support_schema_insert(fixture, "c", json), BK_INVALID);
        assert_problem(fixture, json, ids[i].expected);
    }
}

static void autodates_are_set_whatever_is_sent(void **state) {
    struct support_schema *fixture = *state;
    define(fixture, "'type':'autodate','onCreate':true");
    support_clock_set(INT64_C(1700000000123));
    assert_int_equal(support_schema_insert(
                         fixture, "c", "{'id':'record000000000','f':'2020-01-01 00:00:00.000Z'}"),
                     BK_OK);
    support_clock_reset();
    assert_string_equal(support_schema_query(fixture, "SELECT substr(f, 1, 20) FROM c"),
                        "2023-11-14 22:13:20.");
}

static void hidden_fields_and_secrets_stay_out_of_sight(void **state) {
    struct support_schema *fixture = *state;
    define(fixture, "'type':'text','hidden':true");
    const struct bk_collection *collection = support_schema_find(fixture, "c");
    const struct bk_value values[] = {BK_VALUE_OF_TEXT(BK_SLICE("i")),
                                      BK_VALUE_OF_TEXT(BK_SLICE("h"))};
    struct bk_buffer out;
    bk_buffer_init(&out, 1024);
    bk_record_write_members(collection, values, BK_VIEW_PUBLIC, &out);
    assert_true(bk_slice_is(bk_buffer_slice(&out), ",\"id\":\"i\""));
    bk_buffer_clear(&out);
    bk_record_write_members(collection, values, BK_VIEW_FULL, &out);
    assert_true(bk_slice_is(bk_buffer_slice(&out), ",\"id\":\"i\",\"f\":\"h\""));
    collection->fields[1].is_secret = true;
    bk_buffer_clear(&out);
    bk_record_write_members(collection, values, BK_VIEW_FULL, &out);
    assert_true(bk_slice_is(bk_buffer_slice(&out), ",\"id\":\"i\""));
    bk_buffer_fini(&out);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_schema_setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(texts),
        TEST(numbers),
        TEST(bools),
        TEST(emails_and_urls),
        TEST(dates),
        TEST(selects),
        TEST(json_values),
        TEST(editors_and_places),
        TEST(relations_must_exist),
        TEST(ids_and_texts_are_generated),
        TEST(ids_of_another_pattern_are_unique_without_case),
        TEST(autodates_are_set_whatever_is_sent),
        TEST(hidden_fields_and_secrets_stay_out_of_sight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
