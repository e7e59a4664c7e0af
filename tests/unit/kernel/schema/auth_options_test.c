/* Options of auth collections: laid over one another, judged, and shown without their secrets. */
#include "schema_private.h"

#include "schema_fixture.h"

/* Tests of the kernel have no passwords: the field type is the auth module's. */
#define CREATE(json) support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json)
#define UPDATE(json) support_schema_change(fixture, BK_SCHEMA_UPDATE, "people", json)

/* Everything but the store is closed and begins again. */
static void restart(struct support_schema *fixture) {
    support_schema_close(fixture);
    bk_tenants_destroy(fixture->kernel.tenants);
    bk_schema_kind_destroy(fixture->kind);
    fixture->kernel.tenants =
        bk_tenants_create(fixture->kernel.store, (struct bk_log){0}, fixture->kernel.directory, 4);
    fixture->kind = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    support_schema_open(fixture);
}

static int setup(void **state) {
    support_schema_setup(state);
    struct support_schema *fixture = *state;
    assert_int_equal(
        CREATE("{'name':'people','type':'auth','fields':[{'name':'nick','type':'text'},"
               "{'name':'plain','type':'text'}],'indexes':["
               "'CREATE UNIQUE INDEX i_nick ON people (nick)']}"),
        BK_OK);
    return 0;
}

static struct bk_slice secret_of(struct support_schema *fixture, const char *group) {
    const struct bk_collection *people = support_schema_find(fixture, "people");
    const struct bk_json *secret = schema_auth_get(people->auth, group, "secret");
    return bk_arena_copy(&fixture->arena, secret->string);
}

static void assert_shows(struct support_schema *fixture, const char *part) {
    if (strstr(support_schema_definition(fixture, "people"), part) == NULL)
        fail_msg("%s is not in %s", part, support_schema_definition(fixture, "people"));
}

static void assert_problem(struct support_schema *fixture, const char *json, const char *part) {
    assert_int_equal(UPDATE(json), BK_INVALID);
    if (strstr(support_schema_problems(fixture), part) == NULL)
        fail_msg("%s is not in %s", part, support_schema_problems(fixture));
}

static void a_new_one_has_every_option(void **state) {
    struct support_schema *fixture = *state;
    assert_shows(fixture, "'authRule':'','manageRule':null,'authAlert':{'enabled':true,");
    assert_shows(fixture, "'passwordAuth':{'enabled':true,'identityFields':['email']}");
    assert_shows(fixture, "'mfa':{'enabled':false,'duration':600,'rule':''}");
    assert_shows(fixture, "'authToken':{'duration':432000}");
    assert_shows(fixture, "'fileToken':{'duration':180}");
    assert_shows(fixture, "'verificationTemplate':{'subject':'Verify your {APP_NAME} email'");
}

static void its_indexes_are_named_after_its_id(void **state) {
    struct support_schema *fixture = *state;
    const struct bk_collection *people = support_schema_find(fixture, "people");
    struct bk_slice expected =
        bk_arena_format(&fixture->arena, "idx_email_%.*s", BK_SLICE_PRINT(people->id));
    assert_int_equal(people->index_count, 3);
    assert_true(bk_slice_equal(people->indexes[2].name, expected));
}

static void a_change_touches_only_what_it_names(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(UPDATE("{'otp':{'enabled':true,'length':6},'mfa':null}"), BK_OK);
    assert_shows(fixture, "'otp':{'enabled':true,'duration':180,'length':6,'emailTemplate':{");
    assert_shows(fixture, "'mfa':{'enabled':false,'duration':600,'rule':''}");
}

static void secrets_are_made_kept_and_never_shown(void **state) {
    struct support_schema *fixture = *state;
    struct bk_slice before = secret_of(fixture, "authToken");
    assert_int_equal(before.length, BK_SHAPE_GENERATED_BYTES);
    assert_false(bk_slice_equal(before, secret_of(fixture, "fileToken")));
    assert_int_equal(UPDATE("{'oauth2':{'enabled':true,'providers':[{'name':'google',"
                            "'clientId':'c','clientSecret':'CANARY'}]}}"),
                     BK_OK);
    assert_true(bk_slice_equal(secret_of(fixture, "authToken"), before));
    restart(fixture);
    assert_true(bk_slice_equal(secret_of(fixture, "authToken"), before));
    const char *shown = support_schema_definition(fixture, "people");
    assert_null(strstr(shown, "ecret"));
    assert_null(strstr(shown, "CANARY"));
    assert_string_equal(support_schema_query(fixture,
                                             "SELECT count(*) FROM _journal WHERE "
                                             "instr(payload, 'CANARY') OR instr(payload, 'ecret')"),
                        "0");
    /* Kept for the provider of that name, wherever it stands. */
    assert_int_equal(UPDATE("{'oauth2':{'providers':[{'name':'google'}]}}"), BK_OK);
    assert_problem(fixture, "{'oauth2':{'providers':[{'name':'github','clientId':'c'}]}}",
                   "'clientSecret':{'code':'validation_required'");
}

static void a_changed_auth_rule_ends_all_sessions(void **state) {
    struct support_schema *fixture = *state;
    struct bk_slice before = secret_of(fixture, "authToken");
    assert_int_equal(UPDATE("{'name':'people','authRule':''}"), BK_OK);
    assert_true(bk_slice_equal(secret_of(fixture, "authToken"), before));
    assert_int_equal(UPDATE("{'authRule':null}"), BK_OK);
    assert_false(bk_slice_equal(secret_of(fixture, "authToken"), before));
    assert_null(support_schema_find(fixture, "people")->auth_rule.data);
}

static void a_secret_can_be_given(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(
        UPDATE("{'authToken':{'secret':'0123456789012345678901234567890','duration':77}}"), BK_OK);
    assert_true(bk_slice_is(secret_of(fixture, "authToken"), "0123456789012345678901234567890"));
    assert_shows(fixture, "'authToken':{'duration':77}");
}

static void what_is_wrong_has_its_path(void **state) {
    struct support_schema *fixture = *state;
    assert_problem(fixture, "{'authToken':{'secret':'x','duration':1}}",
                   "{'authToken':{'secret':{'code':'validation_length_out_of_range'");
    assert_problem(fixture, "{'manageRule':''}", "validation_nil_or_not_empty_required");
    assert_problem(fixture, "{'otp':{'enabled':true,'length':3}}",
                   "{'otp':{'length':{'code':'validation_min_greater_equal_than_required'");
    assert_problem(fixture, "{'verificationTemplate':{'body':''}}",
                   "{'verificationTemplate':{'body':{'code':'validation_required'");
    assert_problem(fixture, "{'mfa':{'enabled':true}}", "validation_mfa_not_enough_auths");
    assert_problem(fixture,
                   "{'oauth2':{'enabled':true,'providers':[{'name':'nope','clientId':'c',"
                   "'clientSecret':'s'}]}}",
                   "{'oauth2':{'providers':{'0':{'name':{'code':'validation_missing_provider'");
    assert_problem(fixture,
                   "{'oauth2':{'enabled':true,'providers':[{'name':'google'},"
                   "{'name':'google'}]}}",
                   "{'oauth2':{'providers':{'1':{'name':{'code':'validation_duplicated_provider'");
    assert_int_equal(UPDATE("{'authToken':5}"), BK_INVALID);
    assert_int_equal(UPDATE("{'authToken':{'duration':'5'}}"), BK_INVALID);
}

static void identity_fields_name_one_record_each(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(UPDATE("{'passwordAuth':{'identityFields':['nick','email']}}"), BK_OK);
    assert_problem(fixture, "{'passwordAuth':{'identityFields':['plain']}}",
                   "validation_missing_unique_constraint");
    assert_problem(fixture, "{'passwordAuth':{'identityFields':['nope']}}",
                   "validation_missing_field");
    assert_problem(fixture, "{'passwordAuth':{'identityFields':[]}}", "validation_required");
    assert_int_equal(UPDATE("{'passwordAuth':{'enabled':false,'identityFields':['nope']}}"), BK_OK);
}

static void a_mapped_field_that_is_gone_is_forgotten(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(UPDATE("{'oauth2':{'mappedFields':{'name':'nick','avatarURL':'nope'}}}"),
                     BK_OK);
    assert_shows(fixture, "'mappedFields':{'id':'','name':'nick','username':'','avatarURL':''}");
}

static void a_field_of_another_type_gives_its_name_up(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(
        CREATE("{'name':'others','type':'auth','fields':[{'name':'email','type':'text'},"
               "{'name':'z','type':'bool'}]}"),
        BK_OK);
    const struct bk_collection *others = support_schema_find(fixture, "others");
    assert_string_equal(bk_collection_field(others, BK_SLICE("email"))->type->name, "email");
    assert_int_equal(bk_collection_field(others, BK_SLICE("email"))->index, 1);
}

/* As it was stored before options were kept as a whole. */
static void a_row_with_the_secret_of_tokens_alone_is_read(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_execute(fixture, "UPDATE _collections SET secret = 'OLDONE' "
                                                     "WHERE name = 'people'"),
                     BK_OK);
    restart(fixture);
    assert_true(bk_slice_is(secret_of(fixture, "authToken"), "OLDONE"));
    assert_true(bk_slice_is(support_schema_find(fixture, "people")->token_secret, "OLDONE"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_new_one_has_every_option),
        TEST(its_indexes_are_named_after_its_id),
        TEST(a_change_touches_only_what_it_names),
        TEST(secrets_are_made_kept_and_never_shown),
        TEST(a_changed_auth_rule_ends_all_sessions),
        TEST(a_secret_can_be_given),
        TEST(what_is_wrong_has_its_path),
        TEST(identity_fields_name_one_record_each),
        TEST(a_mapped_field_that_is_gone_is_forgotten),
        TEST(a_field_of_another_type_gives_its_name_up),
        TEST(a_row_with_the_secret_of_tokens_alone_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
