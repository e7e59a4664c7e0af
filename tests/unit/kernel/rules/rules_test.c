/* Who may do what while rules are null or empty. */
#include "bakend/rules.h"

#include "support.h"

static const struct bk_actor superuser = {.kind = BK_ACTOR_SUPERUSER};
static const struct bk_actor user = {.kind = BK_ACTOR_RECORD};
static const struct bk_actor operator_ = {.kind = BK_ACTOR_SUPERUSER, .is_operator = true};

static void a_null_rule_is_for_superusers_only(void **state) {
    (void)state;
    const struct bk_collection collection = {.is_system = false};
    for (int operation = 0; operation < BK_OPERATION_COUNT; operation++) {
        enum bk_operation which = (enum bk_operation)operation;
        assert_int_equal(bk_rules_authorize(&superuser, &collection, which), BK_ALLOWED);
        assert_int_equal(bk_rules_authorize(&bk_actor_system, &collection, which), BK_ALLOWED);
        assert_int_equal(bk_rules_authorize(&user, &collection, which), BK_DENIED);
        assert_int_equal(bk_rules_authorize(&bk_actor_guest, &collection, which), BK_DENIED);
    }
}

static void an_empty_rule_is_for_everyone_and_for_its_operation_only(void **state) {
    (void)state;
    const struct bk_collection collection = {.rules = {[BK_MAY_VIEW] = BK_SLICE_INIT("")}};
    assert_int_equal(bk_rules_authorize(&bk_actor_guest, &collection, BK_MAY_VIEW), BK_ALLOWED);
    assert_int_equal(bk_rules_authorize(&bk_actor_guest, &collection, BK_MAY_LIST), BK_DENIED);
}

static void an_expression_is_asked_of_each_record(void **state) {
    (void)state;
    const struct bk_collection collection = {.rules = {[BK_MAY_VIEW] = BK_SLICE_INIT("id != ''")}};
    assert_int_equal(bk_rules_authorize(&user, &collection, BK_MAY_VIEW), BK_ASKED);
}

static void hidden_fields_are_for_superusers(void **state) {
    (void)state;
    const struct bk_collection collection = {.is_system = false};
    assert_int_equal(bk_rules_view(&superuser, &collection), BK_VIEW_FULL);
    assert_int_equal(bk_rules_view(&bk_actor_system, &collection), BK_VIEW_FULL);
    assert_int_equal(bk_rules_view(&user, &collection), BK_VIEW_PUBLIC);
}

static void a_key_holds_the_scopes_it_lists(void **state) {
    (void)state;
    const struct bk_actor key = {.kind = BK_ACTOR_KEY,
                                 .scopes = BK_SLICE_INIT("records:* events:read")};
    assert_true(bk_actor_has_scope(&key, BK_SLICE("records:write")));
    assert_true(bk_actor_has_scope(&key, BK_SLICE("events:read")));
    assert_false(bk_actor_has_scope(&key, BK_SLICE("events:write")));
    assert_false(bk_actor_has_scope(&key, BK_SLICE("record:write")));
    assert_false(bk_actor_has_scope(&key, BK_SLICE("events:readmore")));
    const struct bk_actor bare = {.kind = BK_ACTOR_KEY};
    assert_false(bk_actor_has_scope(&bare, BK_SLICE("records:read")));
}

static enum bk_verdict verdict_of(const char *scopes, const struct bk_collection *collection,
                                  enum bk_operation operation) {
    const struct bk_actor key = {.kind = BK_ACTOR_KEY, .scopes = bk_slice_from(scopes)};
    return bk_rules_authorize(&key, collection, operation);
}

static void scopes_of_records_stand_in_for_rules(void **state) {
    (void)state;
    const struct bk_collection posts = {.name = BK_SLICE("posts")};
    static const struct {
        const char *scopes;
        enum bk_operation operation;
        enum bk_verdict verdict;
    } cases[] = {
        {"records:read", BK_MAY_LIST, BK_ALLOWED},
        {"records:read", BK_MAY_VIEW, BK_ALLOWED},
        {"records:read", BK_MAY_CREATE, BK_DENIED},
        {"records:read", BK_MAY_DELETE, BK_DENIED},
        {"records:write", BK_MAY_VIEW, BK_DENIED},
        {"records:write", BK_MAY_CREATE, BK_ALLOWED},
        {"records:write", BK_MAY_UPDATE, BK_ALLOWED},
        {"records:write", BK_MAY_DELETE, BK_ALLOWED},
        {"records:*", BK_MAY_DELETE, BK_ALLOWED},
        {"records:*", BK_MAY_MANAGE, BK_DENIED},
        {"events:read records:read:posts", BK_MAY_VIEW, BK_ALLOWED},
        {"records:read:posts", BK_MAY_UPDATE, BK_DENIED},
        {"records:read:post", BK_MAY_VIEW, BK_DENIED},
        {"records:read:postsx", BK_MAY_VIEW, BK_DENIED},
        {"records:readxposts", BK_MAY_VIEW, BK_DENIED},
        {"events:*", BK_MAY_VIEW, BK_DENIED},
        {"", BK_MAY_VIEW, BK_DENIED},
    };
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++)
        assert_int_equal(verdict_of(cases[i].scopes, &posts, cases[i].operation), cases[i].verdict);
}

static void no_scope_opens_the_collections_of_the_house(void **state) {
    (void)state;
    const struct bk_collection closed = {.name = BK_SLICE("_superusers"), .is_system = true};
    const struct bk_collection ruled = {.name = BK_SLICE("_mfas"),
                                        .is_system = true,
                                        .rules = {[BK_MAY_LIST] = BK_SLICE_INIT("id = ''")}};
    assert_int_equal(verdict_of("records:*", &closed, BK_MAY_LIST), BK_DENIED);
    assert_int_equal(verdict_of("records:read:_superusers", &closed, BK_MAY_LIST), BK_DENIED);
    assert_int_equal(verdict_of("records:*", &ruled, BK_MAY_LIST), BK_ASKED);
}

static void hidden_fields_are_not_for_keys(void **state) {
    (void)state;
    const struct bk_collection collection = {.is_system = false};
    const struct bk_actor key = {.kind = BK_ACTOR_KEY, .scopes = BK_SLICE_INIT("records:*")};
    assert_int_equal(bk_rules_view(&key, &collection), BK_VIEW_PUBLIC);
}

static void only_operators_hold_tenants(void **state) {
    (void)state;
    assert_true(bk_actor_has_scope(&superuser, BK_SLICE("events:read")));
    assert_false(bk_actor_has_scope(&superuser, BK_SLICE("tenants:write")));
    assert_true(bk_actor_has_scope(&operator_, BK_SLICE("tenants:write")));
    assert_true(bk_actor_has_scope(&bk_actor_system, BK_SLICE("tenants:write")));
    assert_false(bk_actor_has_scope(&user, BK_SLICE("events:read")));
    assert_false(bk_actor_has_scope(&bk_actor_guest, BK_SLICE("events:read")));
}

static void a_rule_that_cannot_be_read_is_refused_with_the_contracts_code(void **state) {
    (void)state;
    struct bk_arena arena;
    struct bk_problems problems;
    const struct bk_collection collection = {.name = BK_SLICE("posts")};
    bk_arena_init(&arena, 64 * 1024);
    bk_problems_init(&problems, &arena);
    assert_true(bk_rule_is_valid(NULL, &collection, BK_SLICE(""), BK_SLICE("listRule"), &problems));
    assert_true(bk_rule_is_valid(NULL, &collection, BK_SLICE("@request.auth.id != ''"),
                                 BK_SLICE("listRule"), &problems));
    assert_int_equal(problems.count, 0);
    assert_false(bk_rule_is_valid(NULL, &collection, BK_SLICE("title = 1"), BK_SLICE("listRule"),
                                  &problems));
    assert_true(bk_slice_is(problems.first->code, "validation_invalid_rule"));
    assert_true(bk_slice_is(problems.first->field, "listRule"));
    assert_true(bk_slice_is(problems.first->message,
                            "Invalid rule: at 1: there is no field title to filter by."));
    bk_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_null_rule_is_for_superusers_only),
        cmocka_unit_test(an_empty_rule_is_for_everyone_and_for_its_operation_only),
        cmocka_unit_test(an_expression_is_asked_of_each_record),
        cmocka_unit_test(hidden_fields_are_for_superusers),
        cmocka_unit_test(a_key_holds_the_scopes_it_lists),
        cmocka_unit_test(scopes_of_records_stand_in_for_rules),
        cmocka_unit_test(no_scope_opens_the_collections_of_the_house),
        cmocka_unit_test(hidden_fields_are_not_for_keys),
        cmocka_unit_test(only_operators_hold_tenants),
        cmocka_unit_test(a_rule_that_cannot_be_read_is_refused_with_the_contracts_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
