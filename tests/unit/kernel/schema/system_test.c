/* Collections that modules declare: made when a tenant opens, brought up to date, kept for
 * operators. */
#include "schema_private.h"

#include "schema_fixture.h"

#define OURS "{'name':'_ours','type':'base','system':true,'fields':[{'name':'a','type':'text'}]}"

static char first_declared[512], second_declared[512];

/* With quotes for apostrophes, as a module would write it. */
static const char *quoted(char *out, size_t size, const char *json) {
    size_t i = 0;
    for (; json[i] != '\0' && i + 1 < size; i++)
        out[i] = json[i] == '\'' ? '"' : json[i];
    out[i] = '\0';
    return out;
}

static void declare(struct support_schema *fixture, const char *definition, bool is_operators) {
    const struct bk_system_collection declared = {
        .definition = definition, .role = BK_ROLE_STATE, .is_operators = is_operators};
    bk_schema_add_system(fixture->kind, &declared, "mine");
}

/* Closes everything but the store and begins again, as a restart with another program would. */
static void restart(struct support_schema *fixture) {
    support_schema_close(fixture);
    bk_tenants_destroy(fixture->kernel.tenants);
    bk_schema_kind_destroy(fixture->kind);
    fixture->kernel.tenants =
        bk_tenants_create(fixture->kernel.store, (struct bk_log){0}, fixture->kernel.directory, 4);
    fixture->kind = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
}

static int setup(void **state) {
    static struct support_schema fixture;
    support_schema_create(&fixture);
    declare(&fixture, quoted(first_declared, sizeof first_declared, OURS), true);
    support_schema_open(&fixture);
    *state = &fixture;
    return 0;
}

static void a_declared_collection_is_there_with_its_role(void **state) {
    struct support_schema *fixture = *state;
    const struct bk_collection *ours = support_schema_find(fixture, "_ours");
    assert_true(ours->is_system && ours->is_unlisted);
    assert_int_equal(ours->role, BK_ROLE_STATE);
    assert_true(bk_slice_is(ours->source, "mine"));
    assert_int_equal(support_schema_insert(fixture, "_ours", "{'a':'x'}"), BK_OK);
}

static void opening_again_changes_nothing(void **state) {
    struct support_schema *fixture = *state;
    char before[SUPPORT_SCHEMA_TEXT_BYTES];
    strncpy(before, support_schema_definition(fixture, "_ours"), sizeof before - 1);
    before[sizeof before - 1] = '\0';
    restart(fixture);
    declare(fixture, first_declared, true);
    support_schema_open(fixture);
    assert_string_equal(support_schema_definition(fixture, "_ours"), before);
}

static void a_new_declaration_keeps_records_and_the_fields_of_others(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_insert(fixture, "_ours", "{'id':'record000000001','a':'x'}"),
                     BK_OK);
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_UPDATE, "_ours",
                                           "{'fields':[{'name':'a','type':'text'},{'name':'extra',"
                                           "'type':'bool'}]}"),
                     BK_OK);
    restart(fixture);
    declare(fixture,
            quoted(second_declared, sizeof second_declared,
                   "{'name':'_ours','system':true,'fields':[{'name':'a','type':'text','hidden':"
                   "true},{'name':'b','type':'number'}],'indexes':['CREATE INDEX idx_ours ON "
                   "_ours (b)']}"),
            true);
    support_schema_open(fixture);
    assert_string_equal(support_schema_record(fixture, "_ours", "record000000001"),
                        "{'collectionId':'pbc_1381853168','collectionName':'_ours','id':"
                        "'record000000001','a':'x','extra':false,'b':0}");
    assert_true(
        bk_collection_field(support_schema_find(fixture, "_ours"), BK_SLICE("a"))->is_hidden);
}

static void what_is_for_operators_is_in_the_default_tenant_only(void **state) {
    struct support_schema *fixture = *state;
    struct bk_tenant *other = support_kernel_hold(&fixture->kernel, BK_SLICE("other"));
    assert_null(bk_schema_find(bk_schema_current(fixture->kind, other), BK_SLICE("_ours")));
    bk_tenant_release(other);
}

static void a_system_collection_cannot_go_or_be_opened_to_others(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_DELETE, "_ours", NULL), BK_INVALID);
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_UPDATE, "_ours", "{'listRule':''}"),
                     BK_INVALID);
    assert_true(bk_problems_has(&fixture->problems, BK_SLICE("listRule")));
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_UPDATE, "_ours", "{'name':'mine'}"),
                     BK_INVALID);
}

static void a_collection_whose_module_is_gone_stays_out_of_the_way(void **state) {
    struct support_schema *fixture = *state;
    restart(fixture);
    support_schema_open(fixture);
    const struct bk_collection *ours = support_schema_find(fixture, "_ours");
    assert_true(ours->is_unlisted);
    assert_int_equal(ours->role, BK_ROLE_STATE);
}

static void declare_seed(struct support_schema *fixture) {
    static char seed[512];
    const struct bk_system_collection declared = {
        .definition =
            quoted(seed, sizeof seed, "{'name':'people','fields':[{'name':'a','type':'text'}]}"),
        .is_seed = true};
    bk_schema_add_system(fixture->kind, &declared, "mine");
}

static void a_seed_is_the_applications_own(void **state) {
    struct support_schema *fixture = *state;
    restart(fixture);
    declare_seed(fixture);
    support_schema_open(fixture);
    const struct bk_collection *people = support_schema_find(fixture, "people");
    assert_true(!people->is_system && !people->is_unlisted);
    assert_int_equal(people->role, BK_ROLE_APPLICATION);
    assert_true(bk_slice_is(people->source, "collections"));
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_UPDATE, "people", "{'listRule':''}"),
                     BK_OK);
}

static void a_seed_that_was_deleted_stays_so(void **state) {
    struct support_schema *fixture = *state;
    restart(fixture);
    declare_seed(fixture);
    support_schema_open(fixture);
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_DELETE, "people", NULL), BK_OK);
    restart(fixture);
    declare_seed(fixture);
    support_schema_open(fixture);
    assert_null(bk_schema_find(bk_schema_current(fixture->kind, fixture->kernel.tenant),
                               BK_SLICE("people")));
}

static void a_seed_leaves_what_the_application_has(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(
        support_schema_change(fixture, BK_SCHEMA_CREATE, NULL,
                              "{'name':'people','fields':[{'name':'z','type':'bool'}]}"),
        BK_OK);
    restart(fixture);
    declare_seed(fixture);
    support_schema_open(fixture);
    assert_non_null(bk_collection_field(support_schema_find(fixture, "people"), BK_SLICE("z")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_declared_collection_is_there_with_its_role),
        TEST(opening_again_changes_nothing),
        TEST(a_new_declaration_keeps_records_and_the_fields_of_others),
        TEST(what_is_for_operators_is_in_the_default_tenant_only),
        TEST(a_system_collection_cannot_go_or_be_opened_to_others),
        TEST(a_collection_whose_module_is_gone_stays_out_of_the_way),
        TEST(a_seed_is_the_applications_own),
        TEST(a_seed_that_was_deleted_stays_so),
        TEST(a_seed_leaves_what_the_application_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
