/* Changes from the definition to the table, on a real store. */
#include "schema_private.h"

#include "bakend/failpoint.h"
#include "schema_fixture.h"
#include <stdio.h>

#define CREATE(json) support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json)
#define UPDATE(name, json) support_schema_change(fixture, BK_SCHEMA_UPDATE, name, json)
#define DELETE(name) support_schema_change(fixture, BK_SCHEMA_DELETE, name, NULL)

static void assert_problem(struct support_schema *fixture, const char *path, const char *code) {
    for (const struct bk_problem *problem = fixture->problems.first; problem != NULL;
         problem = problem->next) {
        if (!bk_slice_equal(problem->field, bk_slice_from(path)))
            continue;
        if (!bk_slice_equal(problem->code, bk_slice_from(code)))
            fail_msg("%s is %.*s, not %s", path, BK_SLICE_PRINT(problem->code), code);
        return;
    }
    fail_msg("%s has no problem: %s %s", path, support_schema_problems(fixture),
             fixture->error.message);
}

static void assert_refused(struct support_schema *fixture, const char *json, const char *path,
                           const char *code) {
    assert_int_equal(CREATE(json), BK_INVALID);
    assert_problem(fixture, path, code);
}

/* --- create ----------------------------------------------------------------------------------- */

static void a_bare_collection_gets_an_id_field_and_the_contracts_ids(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'posts','fields':[{'name':'title','type':'text'}]}"), BK_OK);
    const struct bk_collection *posts = support_schema_find(fixture, "posts");
    assert_true(bk_slice_is(posts->id, "pbc_1125843985"));
    assert_int_equal(posts->field_count, 2);
    assert_true(bk_slice_is(posts->fields[0].id, "text3208210256"));
    assert_true(bk_slice_is(posts->fields[0].name, "id"));
    assert_true(bk_slice_is(posts->fields[1].id, "text724990059"));
    assert_ptr_equal(posts->id_field, &posts->fields[0]);
    assert_true(posts->fields[0].is_primary_key && posts->fields[0].is_required);
    assert_null(posts->rules[BK_MAY_LIST].data);
    assert_true(bk_slice_is(posts->source, "collections"));
}

static void the_definition_has_the_contracts_members(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'posts','listRule':'','fields':[{'name':'n','type':'number',"
                            "'max':5}],'indexes':['CREATE INDEX i ON posts (n)']}"),
                     BK_OK);
    const struct bk_json *definition =
        support_schema_json(fixture, support_schema_definition(fixture, "posts"));
    static const char *const names[] = {
        "id",   "listRule", "viewRule", "createRule", "updateRule", "deleteRule", "name",
        "type", "fields",   "indexes",  "created",    "updated",    "system"};
    for (size_t i = 0; i < BK_COUNT_OF(names); i++)
        assert_non_null(bk_json_get(definition, bk_slice_from(names[i])));
    assert_int_equal(definition->child_count, BK_COUNT_OF(names));
    const struct bk_json *id = bk_json_get(definition, BK_SLICE("fields"))->child;
    assert_int_equal(id->child_count, 13); /* of a text field */
    const struct bk_json *number = id->next;
    assert_int_equal(number->child_count, 11);
    assert_int_equal(bk_json_get(number, BK_SLICE("min"))->type, BK_JSON_NULL);
    assert_true(bk_slice_is(bk_json_get(number, BK_SLICE("max"))->text, "5"));
}

static void names_are_refused_with_the_contracts_codes(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'taken'}"), BK_OK);
    bk_schema_reserve_name(fixture->kind, BK_SLICE("job"));
    assert_refused(fixture, "{}", "name", "validation_required");
    assert_refused(fixture, "{'name':''}", "name", "validation_required");
    assert_refused(fixture, "{'name':'a b'}", "name", "validation_match_invalid");
    assert_refused(fixture, "{'name':'a_via_b'}", "name", "validation_found_via");
    assert_refused(fixture, "{'name':'TAKEN'}", "name", "validation_collection_name_exists");
    assert_refused(fixture, "{'name':'_own'}", "name", "validation_collection_name_invalid");
    assert_refused(fixture, "{'name':'Job'}", "name", "validation_collection_name_invalid");
    assert_refused(fixture, "{'name':'v','type':'nope'}", "type", "validation_in_invalid");
    assert_refused(fixture, "{'name':'v','type':'view'}", "viewQuery", "validation_required");
    assert_refused(fixture, "{'name':'v','listRule':'a = 1'}", "listRule",
                   "validation_invalid_rule");
    char long_name[400];
    snprintf(long_name, sizeof long_name, "{'name':'%0256d'}", 1);
    assert_refused(fixture, long_name, "name", "validation_length_out_of_range");
    assert_string_equal(support_schema_problems(fixture),
                        "{'name':{'code':'validation_length_out_of_range','message':'The length "
                        "must be between 1 and 255.','params':{'max':255,'min':1}}}");
}

static void what_has_not_the_form_of_a_definition_is_one_message(void **state) {
    struct support_schema *fixture = *state;
    static const char *const wrong[] = {
        "{'name':12}",
        "{'name':'SQLite_x'}",
        "{'name':'a','type':1}",
        "{'name':'a','fields':{}}",
        "{'name':'a','fields':[1]}",
        "{'name':'a','fields':[{'name':'x','type':'nope'}]}",
        "{'name':'a','fields':[{'name':'x','type':'text','required':1}]}",
        "{'name':'a','indexes':[1]}",
        "{'name':'a','listRule':1}",
    };
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        assert_int_equal(CREATE(wrong[i]), BK_INVALID);
        assert_int_equal(fixture->problems.count, 0);
        assert_true(bk_slice_starts_with(bk_slice_from(fixture->error.message),
                                         BK_SLICE("Failed to create collection: ")));
    }
}

static void fields_are_refused_with_the_contracts_codes(void **state) {
    struct support_schema *fixture = *state;
    static const struct {
        const char *field, *path, *code;
    } wrong[] = {
        {"{'type':'text'}", "fields.1.name", "validation_required"},
        {"{'name':'a-b','type':'text'}", "fields.1.name", "validation_match_invalid"},
        {"{'name':'expand','type':'text'}", "fields.1.name", "validation_not_in_invalid"},
        {"{'name':'ID','type':'text'}", "fields.1.name", "validation_duplicated_field_name"},
        {"{'name':'a','type':'text','min':-1}", "fields.1.min",
         "validation_min_greater_equal_than_required"},
        {"{'name':'a','type':'text','min':5,'max':2}", "fields.1.max",
         "validation_min_greater_equal_than_required"},
        {"{'name':'a','type':'text','pattern':'('}", "fields.1.pattern",
         "validation_invalid_regex"},
        {"{'name':'a','type':'text','autogeneratePattern':'^a'}", "fields.1.autogeneratePattern",
         "validation_invalid_autogenerate_pattern"},
        {"{'name':'a','type':'text','max':2,'autogeneratePattern':'[a-z]{3}'}",
         "fields.1.autogeneratePattern", "validation_invalid_autogenerate_pattern_value"},
        {"{'name':'a','type':'number','min':3,'max':1}", "fields.1.max",
         "validation_min_number_constraint"},
        {"{'name':'a','type':'number','onlyInt':true,'min':1.5}", "fields.1.min",
         "validation_only_int_constraint"},
        {"{'name':'a','type':'email','onlyDomains':['nope']}", "fields.1.onlyDomains.0",
         "validation_is_domain"},
        {"{'name':'a','type':'url','onlyDomains':['a.com'],'exceptDomains':['b.com']}",
         "fields.1.exceptDomains", "validation_empty"},
        {"{'name':'a','type':'autodate'}", "fields.1.onCreate", "validation_required"},
        {"{'name':'a','type':'select'}", "fields.1.values", "validation_required"},
        {"{'name':'a','type':'select','values':['x'],'maxSelect':2}", "fields.1.maxSelect",
         "validation_max_less_equal_than_required"},
        {"{'name':'a','type':'relation'}", "fields.1.collectionId", "validation_required"},
        {"{'name':'a','type':'relation','collectionId':'none'}", "fields.1.collectionId",
         "validation_field_relation_missing_collection"},
        {"{'name':'a','type':'json','maxSize':-1}", "fields.1.maxSize",
         "validation_min_greater_equal_than_required"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        char json[300];
        snprintf(json, sizeof json, "{'name':'c','fields':[%s]}", wrong[i].field);
        assert_refused(fixture, json, wrong[i].path, wrong[i].code);
    }
}

static void two_primary_keys_are_refused(void **state) {
    struct support_schema *fixture = *state;
    assert_refused(fixture, "{'name':'c','fields':[{'name':'a','type':'text','primaryKey':true}]}",
                   "fields.1.primaryKey", "validation_unsupported_composite_pk");
}

static void problems_of_nested_paths_nest(void **state) {
    struct support_schema *fixture = *state;
    assert_refused(fixture, "{'name':'c','fields':[{'name':'a b','type':'text'}]}", "fields.1.name",
                   "validation_match_invalid");
    assert_string_equal(support_schema_problems(fixture),
                        "{'fields':{'1':{'name':{'code':'validation_match_invalid','message':"
                        "'Must be in a valid format.'}}}}");
}

/* --- update ----------------------------------------------------------------------------------- */

static void a_renamed_collection_and_field_keep_the_records(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a','fields':[{'name':'t','type':'text'},{'name':'n','type':"
                            "'number'}],'indexes':['CREATE UNIQUE INDEX idx ON a (t, n DESC)']}"),
                     BK_OK);
    assert_int_equal(
        support_schema_insert(fixture, "a", "{'id':'record000000001','t':'kept','n':5}"), BK_OK);
    /* The two fields swap their names: ids decide. */
    assert_int_equal(
        UPDATE("a", "{'name':'b','fields':[{'id':'text3208210256','name':'id','type':"
                    "'text'},{'id':'text1883269387','name':'x','type':'text'}]}"),
        BK_INVALID); /* that id does not exist: t and n would be gone, and the index with them */
    assert_problem(fixture, "indexes.0", "validation_invalid_index_expression");
    const struct bk_collection *a = support_schema_find(fixture, "a");
    char json[600];
    snprintf(json, sizeof json,
             "{'name':'b','indexes':[],'fields':[{'name':'id','type':'text'},{'id':'%.*s','name':"
             "'n','type':'text'},{'id':'%.*s','name':'t','type':'number'}]}",
             BK_SLICE_PRINT(a->fields[1].id), BK_SLICE_PRINT(a->fields[2].id));
    assert_int_equal(UPDATE("a", json), BK_OK);
    assert_string_equal(support_schema_record(fixture, "b", "record000000001"),
                        "{'collectionId':'pbc_3535952755','collectionName':'b','id':"
                        "'record000000001','n':'kept','t':5}");
    assert_null(
        bk_schema_find(bk_schema_current(fixture->kind, fixture->kernel.tenant), BK_SLICE("a")));
}

static void an_index_follows_the_tables_name(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a','fields':[{'name':'t','type':'text'},{'name':'n','type':"
                            "'number'}],'indexes':['create unique index idx on other (t, n desc) "
                            "where n > 1']}"),
                     BK_OK);
    assert_int_equal(UPDATE("a", "{'name':'b'}"), BK_OK);
    const struct bk_collection *b = support_schema_find(fixture, "b");
    assert_true(bk_slice_is(b->indexes[0].sql, "CREATE UNIQUE INDEX `idx` ON `b` (\n  `t`,\n  `n` "
                                               "DESC\n) WHERE n > 1"));
    assert_true(bk_slice_is(b->indexes[0].name, "idx"));
    assert_string_equal(support_schema_query(fixture, "SELECT tbl_name FROM sqlite_schema WHERE "
                                                      "name = 'idx'"),
                        "b");
}

static void an_index_of_a_missing_column_is_a_problem_of_that_index(void **state) {
    struct support_schema *fixture = *state;
    assert_refused(fixture,
                   "{'name':'a','indexes':['CREATE INDEX i ON a (id)','CREATE INDEX j ON "
                   "a (nope)']}",
                   "indexes.1", "validation_invalid_index_expression");
    assert_string_equal(support_schema_query(fixture, "SELECT count(*) FROM sqlite_schema WHERE "
                                                      "tbl_name = 'a'"),
                        "0");
    assert_refused(fixture, "{'name':'a','indexes':['nonsense']}", "indexes.0",
                   "validation_invalid_index_expression");
    assert_refused(fixture,
                   "{'name':'a','indexes':['CREATE INDEX i ON a (id)','CREATE INDEX I ON "
                   "a (id DESC)']}",
                   "indexes.1", "validation_duplicated_index_name");
    assert_refused(fixture,
                   "{'name':'a','indexes':['CREATE INDEX i ON a (id)','CREATE INDEX j ON "
                   "a (id)']}",
                   "indexes.1", "validation_duplicated_index_definition");
    assert_refused(fixture,
                   "{'name':'a','indexes':['CREATE INDEX i ON a (id); DROP TABLE "
                   "_collections']}",
                   "indexes.0", "validation_invalid_index_expression");
    assert_int_equal(CREATE("{'name':'a','indexes':['CREATE INDEX i ON a (id)']}"), BK_OK);
    assert_refused(fixture, "{'name':'b','indexes':['CREATE INDEX i ON b (id)']}", "indexes.0",
                   "validation_existing_index_name");
}

static void a_unique_index_over_equal_values_is_refused_and_nothing_changes(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a','fields':[{'name':'t','type':'text'}]}"), BK_OK);
    assert_int_equal(support_schema_insert(fixture, "a", "{'t':'x'}"), BK_OK);
    assert_int_equal(support_schema_insert(fixture, "a", "{'t':'x'}"), BK_OK);
    uint64_t before =
        bk_schema_generation(bk_schema_current(fixture->kind, fixture->kernel.tenant));
    assert_int_equal(UPDATE("a", "{'indexes':['CREATE UNIQUE INDEX i ON a (t)']}"), BK_INVALID);
    assert_problem(fixture, "indexes.0", "validation_invalid_index_expression");
    assert_int_equal(bk_schema_generation(bk_schema_current(fixture->kind, fixture->kernel.tenant)),
                     before);
    /* And the writer still takes what was planned with the schema as it is. */
    assert_int_equal(support_schema_insert(fixture, "a", "{'t':'y'}"), BK_OK);
}

static void a_select_goes_from_one_to_many_and_back(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a','fields':[{'name':'old','type':'select','values':['x','y']"
                            ",'maxSelect':1}]}"),
                     BK_OK);
    assert_int_equal(support_schema_insert(fixture, "a", "{'id':'record000000001','old':'y'}"),
                     BK_OK);
    assert_int_equal(support_schema_insert(fixture, "a", "{'id':'record000000002'}"), BK_OK);
    assert_int_equal(UPDATE("a", "{'fields':[{'name':'old','type':'select','values':['x','y'],"
                                 "'maxSelect':2}]}"),
                     BK_OK);
    assert_string_equal(support_schema_record(fixture, "a", "record000000001"),
                        "{'collectionId':'pbc_3535952755','collectionName':'a','id':"
                        "'record000000001','old':['y']}");
    assert_string_equal(support_schema_record(fixture, "a", "record000000002"),
                        "{'collectionId':'pbc_3535952755','collectionName':'a','id':"
                        "'record000000002','old':[]}");
    assert_int_equal(
        support_schema_insert(fixture, "a", "{'id':'record000000003','old':['x','y']}"), BK_OK);
    assert_int_equal(UPDATE("a", "{'fields':[{'name':'old','type':'select','values':['x','y']}]}"),
                     BK_OK);
    assert_string_equal(support_schema_query(fixture, "SELECT group_concat(old, '|') FROM a"),
                        "y||y");
}

static void a_field_that_is_left_out_is_gone_and_a_new_one_is_empty(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a','fields':[{'name':'t','type':'text'}]}"), BK_OK);
    assert_int_equal(support_schema_insert(fixture, "a", "{'id':'record000000001','t':'x'}"),
                     BK_OK);
    assert_int_equal(UPDATE("a", "{'fields':[{'name':'n','type':'number'},{'name':'j','type':"
                                 "'json'},{'name':'b','type':'bool'}]}"),
                     BK_OK);
    assert_string_equal(support_schema_record(fixture, "a", "record000000001"),
                        "{'collectionId':'pbc_3535952755','collectionName':'a','id':"
                        "'record000000001','n':0,'j':null,'b':false}");
}

static void what_may_not_change_is_refused(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a','fields':[{'name':'t','type':'text'}]}"), BK_OK);
    assert_int_equal(CREATE("{'name':'b'}"), BK_OK);
    assert_int_equal(UPDATE("a", "{'id':'other'}"), BK_INVALID);
    assert_int_equal(fixture->problems.count, 0);
    assert_int_equal(UPDATE("a", "{'type':'auth','system':true,'name':'B'}"), BK_INVALID);
    assert_problem(fixture, "type", "validation_collection_type_change");
    assert_problem(fixture, "system", "validation_collection_system_flag_change");
    assert_problem(fixture, "name", "validation_collection_name_exists");
    const struct bk_collection *a = support_schema_find(fixture, "a");
    char json[300];
    snprintf(json, sizeof json, "{'fields':[{'id':'%.*s','name':'t','type':'number'}]}",
             BK_SLICE_PRINT(a->fields[1].id));
    assert_int_equal(UPDATE("a", json), BK_INVALID);
    assert_problem(fixture, "fields.1", "validation_field_type_change");
    assert_int_equal(UPDATE("a", "{'fields':[{'id':'text3208210256','name':'key','type':'text'}]}"),
                     BK_INVALID);
    assert_int_equal(UPDATE("none", "{}"), BK_NOT_FOUND);
}

static void an_empty_patch_moves_updated_only(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a'}"), BK_OK);
    const struct bk_collection *before = support_schema_find(fixture, "a");
    char created[64], updated[64];
    snprintf(created, sizeof created, "%.*s", BK_SLICE_PRINT(before->created));
    snprintf(updated, sizeof updated, "%.*s", BK_SLICE_PRINT(before->updated));
    support_clock_advance(5000);
    assert_int_equal(UPDATE("a", "{}"), BK_OK);
    const struct bk_collection *after = support_schema_find(fixture, "a");
    assert_true(bk_slice_equal(after->created, bk_slice_from(created)));
    assert_false(bk_slice_equal(after->updated, bk_slice_from(updated)));
    support_clock_reset();
}

/* --- delete ----------------------------------------------------------------------------------- */

static void a_collection_that_another_relates_to_stays(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'to'}"), BK_OK);
    const struct bk_collection *to = support_schema_find(fixture, "to");
    char json[300];
    snprintf(json, sizeof json,
             "{'name':'from','fields':[{'name':'r','type':'relation','collectionId':'%.*s'}]}",
             BK_SLICE_PRINT(to->id));
    assert_int_equal(CREATE(json), BK_OK);
    assert_int_equal(DELETE("to"), BK_INVALID);
    assert_int_equal(fixture->problems.count, 0);
    assert_string_equal(fixture->error.message, "Failed to delete collection probably due to "
                                                "existing reference in from.");
    assert_int_equal(DELETE("from"), BK_OK);
    assert_int_equal(DELETE("to"), BK_OK);
    assert_int_equal(DELETE("to"), BK_NOT_FOUND);
    assert_string_equal(support_schema_query(fixture, "SELECT count(*) FROM sqlite_schema WHERE "
                                                      "name IN ('to', 'from')"),
                        "0");
}

/* --- events, generations, reopening ----------------------------------------------------------- */

static bool on_row(void *user, const struct bk_event_fields *fields) {
    char *log = user;
    size_t length = strlen(log);
    snprintf(log + length, 400 - length, "%.*s %.*s %.*s %s;", BK_SLICE_PRINT(fields->type),
             BK_SLICE_PRINT(fields->source), BK_SLICE_PRINT(fields->subject),
             fields->previous.length > 0 ? "with previous" : "");
    return true;
}

static void each_change_is_a_durable_event(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a'}"), BK_OK);
    assert_int_equal(UPDATE("a", "{'listRule':''}"), BK_OK);
    assert_int_equal(CREATE("{'name':'A'}"), BK_INVALID);
    assert_int_equal(DELETE("a"), BK_OK);
    char log[400] = "";
    const struct bk_journal_query query = {
        .from = 1, .to = 100, .row_limit = 100, .on_row = on_row, .user = log};
    struct bk_connection *connection = bk_store_read_now(fixture->kernel.tenant->database);
    assert_int_equal(bk_journal_read(connection, &query), BK_OK);
    assert_string_equal(
        log, "_collections.created collections _collections/pbc_3535952755 ;"
             "_collections.updated collections _collections/pbc_3535952755 with previous;"
             "_collections.deleted collections _collections/pbc_3535952755 ;");
}

struct probe {
    struct bk_write write;
    struct bk_schema *schema;
    bool is_done;
    enum bk_status status;
};

static enum bk_status run_probe(struct bk_transaction *transaction, struct bk_write *write) {
    struct probe *probe = bk_container_of(write, struct probe, write);
    return bk_schema_verify(probe->schema, transaction);
}

static void on_probed(struct bk_write *write, enum bk_status status) {
    struct probe *probe = bk_container_of(write, struct probe, write);
    probe->is_done = true;
    probe->status = status;
}

static void a_request_of_the_former_schema_is_stale(void **state) {
    struct support_schema *fixture = *state;
    struct bk_database *database = fixture->kernel.tenant->database;
    struct bk_schema *former =
        bk_schema_ref(bk_schema_current(fixture->kind, fixture->kernel.tenant));
    assert_int_equal(CREATE("{'name':'a'}"), BK_OK);
    struct probe probe = {.write = {.run = run_probe, .done = on_probed}, .schema = former};
    assert_int_equal(bk_store_write(database, &probe.write), BK_OK);
    support_loop_run_until(fixture->kernel.loop, &probe.is_done);
    assert_int_equal(probe.status, BK_STALE);
    bk_schema_unref(former);
    probe = (struct probe){.write = {.run = run_probe, .done = on_probed},
                           .schema = bk_schema_current(fixture->kind, fixture->kernel.tenant)};
    assert_int_equal(bk_store_write(database, &probe.write), BK_OK);
    support_loop_run_until(fixture->kernel.loop, &probe.is_done);
    assert_int_equal(probe.status, BK_OK);
}

static void a_change_whose_commit_fails_leaves_the_schema_as_it_was(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(CREATE("{'name':'a','fields':[{'name':'t','type':'text'}]}"), BK_OK);
    /* Nobody else is at work: the writer sees the switch with its next write. */
    assert_int_equal(bk_failpoint_configure("store.before_commit:full"), BK_OK);
    assert_int_equal(UPDATE("a", "{'name':'b'}"), BK_DISK_FULL);
    assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    assert_true(fixture->error.message[0] != '\0');
    assert_int_equal(support_schema_insert(fixture, "a", "{'t':'x'}"), BK_OK);
    assert_int_equal(UPDATE("a", "{'name':'b'}"), BK_OK);
    assert_int_equal(support_schema_insert(fixture, "b", "{'t':'y'}"), BK_OK);
}

struct racing {
    struct bk_schema_change change;
    struct bk_problems problems;
    bool is_done;
    enum bk_status status;
};

static void on_raced(struct bk_schema_change *change, enum bk_status status) {
    struct racing *racing = bk_container_of(change, struct racing, change);
    racing->is_done = true;
    racing->status = status;
}

static void of_two_changes_at_once_the_second_sees_the_first(void **state) {
    struct support_schema *fixture = *state;
    struct racing racing[3];
    static const char *const bodies[] = {"{'name':'a'}", "{'name':'a'}",
                                         "{'fields':[{'name':'t','type':'text'}]}"};
    for (size_t i = 0; i < 3; i++) {
        racing[i] = (struct racing){.is_done = false};
        bk_problems_init(&racing[i].problems, &fixture->arena);
        racing[i].change =
            (struct bk_schema_change){.tenant = fixture->kernel.tenant,
                                      .action = i == 2 ? BK_SCHEMA_UPDATE : BK_SCHEMA_CREATE,
                                      .target = i == 2 ? BK_SLICE("a") : BK_SLICE_EMPTY,
                                      .definition = support_schema_json(fixture, bodies[i]),
                                      .arena = &fixture->arena,
                                      .problems = &racing[i].problems,
                                      .done = on_raced};
    }
    for (size_t i = 0; i < 3; i++)
        bk_schema_change(fixture->kind, &racing[i].change);
    assert_false(racing[0].is_done);
    support_loop_run_until(fixture->kernel.loop, &racing[2].is_done);
    assert_int_equal(racing[0].status, BK_OK);
    assert_int_equal(racing[1].status, BK_INVALID);
    assert_true(bk_problems_has(&racing[1].problems, BK_SLICE("name")));
    assert_int_equal(racing[2].status, BK_OK);
    assert_int_equal(support_schema_find(fixture, "a")->field_count, 2);
}

static void a_reopened_tenant_has_the_same_definitions(void **state) {
    struct support_schema *fixture = *state;
    assert_int_equal(
        CREATE("{'name':'a','createRule':'','fields':[{'name':'t','type':'text','pattern':'^a'},"
               "{'name':'e','type':'email','onlyDomains':['a.com']},{'name':'d','type':'date',"
               "'min':'2020-01-01'},{'name':'s','type':'select','values':['x'],'maxSelect':1},"
               "{'name':'c','type':'autodate','onCreate':true}]}"),
        BK_OK);
    char before[SUPPORT_SCHEMA_TEXT_BYTES];
    snprintf(before, sizeof before, "%s", support_schema_definition(fixture, "a"));
    support_schema_close(fixture);
    bk_tenants_destroy(fixture->kernel.tenants);
    bk_schema_kind_destroy(fixture->kind);
    fixture->kernel.tenants =
        bk_tenants_create(fixture->kernel.store, (struct bk_log){0}, fixture->kernel.directory, 4);
    fixture->kind = bk_schema_kind_create(fixture->kernel.tenants, (struct bk_log){0});
    support_schema_open(fixture);
    assert_string_equal(support_schema_definition(fixture, "a"), before);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, support_schema_setup, support_schema_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_bare_collection_gets_an_id_field_and_the_contracts_ids),
        TEST(the_definition_has_the_contracts_members),
        TEST(names_are_refused_with_the_contracts_codes),
        TEST(what_has_not_the_form_of_a_definition_is_one_message),
        TEST(fields_are_refused_with_the_contracts_codes),
        TEST(two_primary_keys_are_refused),
        TEST(problems_of_nested_paths_nest),
        TEST(a_renamed_collection_and_field_keep_the_records),
        TEST(an_index_follows_the_tables_name),
        TEST(an_index_of_a_missing_column_is_a_problem_of_that_index),
        TEST(a_unique_index_over_equal_values_is_refused_and_nothing_changes),
        TEST(a_select_goes_from_one_to_many_and_back),
        TEST(a_field_that_is_left_out_is_gone_and_a_new_one_is_empty),
        TEST(what_may_not_change_is_refused),
        TEST(an_empty_patch_moves_updated_only),
        TEST(a_collection_that_another_relates_to_stays),
        TEST(each_change_is_a_durable_event),
        TEST(a_request_of_the_former_schema_is_stale),
        TEST(a_change_whose_commit_fails_leaves_the_schema_as_it_was),
        TEST(of_two_changes_at_once_the_second_sees_the_first),
        TEST(a_reopened_tenant_has_the_same_definitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
