/* File fields: names of files, and what may be uploaded. What is expected is what PocketBase 0.39.7
 * answers, but for the last word about an upload that is right: it cannot be stored yet. */
#include "types/types.h"

#include "schema_fixture.h"

#include <stdio.h>

static const char *define(struct support_schema *fixture, const char *options) {
    char json[600];
    (void)support_schema_change(fixture, BK_SCHEMA_DELETE, "c", NULL);
    assert_true(snprintf(json, sizeof(json), "{'name':'c','fields':[{'name':'f','type':'file'%s}]}",
                         options) > 0);
    enum bk_status status = support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, json);
    return status == BK_OK ? "" : support_schema_problems(fixture);
}

static const struct bk_field *field_of(struct support_schema *fixture) {
    return bk_collection_field(support_schema_find(fixture, "c"), BK_SLICE("f"));
}

/* What is stored of an input. */
static struct bk_value value_of(struct support_schema *fixture, const char *json) {
    const struct bk_field *field = field_of(fixture);
    struct bk_value value;
    field->type->normalise(field, support_schema_json(fixture, json), &value, &fixture->arena);
    return value;
}

static void stores(struct support_schema *fixture, const char *json, const char *stored) {
    struct bk_value value = value_of(fixture, json);
    assert_int_equal(value.type, BK_VALUE_TEXT);
    if (!bk_slice_equal(value.text, bk_slice_from(stored)))
        fail_msg("%s: %.*s instead of %s", json, BK_SLICE_PRINT(value.text), stored);
}

static const char *problems_of(struct support_schema *fixture, const char *before,
                               const char *after, const struct bk_upload *uploads) {
    const struct bk_field *field = field_of(fixture);
    struct bk_value old = value_of(fixture, before == NULL ? "null" : before);
    struct bk_value new = value_of(fixture, after);
    bk_problems_init(&fixture->problems, &fixture->arena);
    field->type->validate_change(field, before == NULL ? NULL : &old, &new, uploads,
                                 &fixture->problems);
    return support_schema_problems(fixture);
}

static void keeps_one_name_or_a_list(void **state) {
    assert_string_equal(define(*state, ""), "");
    stores(*state, "null", "");
    stores(*state, "''", "");
    stores(*state, "'a.txt'", "a.txt");
    stores(*state, "['a.txt','b.txt']", "b.txt");
    stores(*state, "[]", "");
    stores(*state, "12", "12");
    stores(*state, "{'a':1}", "");
    assert_string_equal(define(*state, ",'maxSelect':3"), "");
    stores(*state, "null", "[]");
    stores(*state, "''", "[]");
    stores(*state, "'a.txt'", "[\"a.txt\"]");
    stores(*state, "['a.txt','','b.txt','a.txt',{},['c.txt'],['d','e'],['[]'],'[\\'f.txt\\']']",
           "[\"a.txt\",\"b.txt\",\"c.txt\",\"f.txt\"]");
}

static void refuses_names_that_were_not_sent(void **state) {
    struct bk_upload upload = {.stored_name = BK_SLICE_INIT("new.txt"),
                               .name = BK_SLICE_INIT("n.txt")};
    assert_string_equal(define(*state, ",'maxSelect':2"), "");
    assert_string_equal(problems_of(*state, NULL, "[]", NULL), "{}");
    assert_string_equal(problems_of(*state, "['a','b']", "['b','a']", NULL), "{}");
    assert_string_equal(problems_of(*state, "['a']", "[]", NULL), "{}");
    assert_string_equal(problems_of(*state, NULL, "['a','b']", NULL),
                        "{'f':{'code':'validation_invalid_file','message':'Invalid new files: [a "
                        "b].','params':{'invalidFiles':['a','b']}}}");
    assert_string_equal(problems_of(*state, "['a']", "['a','x','new.txt']", &upload),
                        "{'f':{'code':'validation_invalid_file','message':'Invalid new files: "
                        "[x].','params':{'invalidFiles':['x']}}}");
    assert_string_equal(problems_of(*state, "['a','b','c']", "['a','b','c']", NULL),
                        "{'f':{'code':'validation_too_many_files','message':'The maximum allowed "
                        "files is 2.','params':{'maxSelect':2}}}");
}

static void requires_one(void **state) {
    assert_string_equal(define(*state, ",'required':true"), "");
    assert_string_equal(problems_of(*state, "'a'", "''", NULL),
                        "{'f':{'code':'validation_required','message':'Cannot be blank.'}}");
    assert_string_equal(problems_of(*state, "'a'", "'a'", NULL), "{}");
}

static void judges_uploads_by_size_and_content(void **state) {
    struct bk_upload upload = {
        .stored_name = BK_SLICE_INIT("a_1.png"),
        .name = BK_SLICE_INIT("a.png"),
        .content_type = BK_SLICE_INIT("image/png"),
        .data = BK_SLICE_INIT("<script>alert(1)</script>"),
    };
    assert_string_equal(define(*state, ",'maxSize':10,'mimeTypes':['image/png','image/jpeg']"), "");
    assert_string_equal(problems_of(*state, NULL, "'a_1.png'", &upload),
                        "{'f':{'code':'validation_file_size_limit','message':'Failed to upload "
                        "a.png - the maximum allowed file size is 10 bytes.','params':{'file':"
                        "'a.png','maxSize':10}}}");
    upload.data.length = 8;
    assert_string_equal(problems_of(*state, NULL, "'a_1.png'", &upload),
                        "{'f':{'code':'validation_invalid_mime_type','message':'\\'a_1.png\\' mime "
                        "type must be one of: image/png, image/jpeg.'}}");
    upload.data = BK_SLICE("\x89PNG\r\n\x1a\n");
    assert_non_null(strstr(problems_of(*state, NULL, "'a_1.png'", &upload),
                           "{'f':{'code':'validation_not_supported'"));
}

static void checks_its_options(void **state) {
    assert_string_equal(define(*state, ",'maxSelect':-1,'maxSize':-5"),
                        "{'fields':{'1':{'maxSelect':{'code':"
                        "'validation_min_greater_equal_than_required','message':'Must be no less "
                        "than 0.','params':{'threshold':0}},'maxSize':{'code':"
                        "'validation_min_greater_equal_than_required','message':'Must be no less "
                        "than 0.','params':{'threshold':0}}}}}");
    assert_string_equal(define(*state, ",'thumbs':['10x20','0x5t','x5','0x0f','5x5z','']"),
                        "{'fields':{'1':{'thumbs':{'2':{'code':'validation_match_invalid',"
                        "'message':'Must be in a valid format.'},'3':{'code':"
                        "'validation_not_in_invalid','message':'Must not be in list.'},'4':{'code':"
                        "'validation_match_invalid','message':'Must be in a valid format.'}}}}}");
    assert_string_equal(define(*state, ""), "");
    assert_non_null(strstr(support_schema_definition(*state, "c"),
                           "'maxSelect':0,'maxSize':0,'mimeTypes':null,'protected':false,'thumbs':"
                           "null"));
    assert_string_equal(define(*state, ",'mimeTypes':[],'thumbs':['5x0'],'protected':true"), "");
    assert_non_null(strstr(support_schema_definition(*state, "c"),
                           "'mimeTypes':[],'protected':true,'thumbs':['5x0']"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_one_name_or_a_list),
        cmocka_unit_test(refuses_names_that_were_not_sent),
        cmocka_unit_test(requires_one),
        cmocka_unit_test(judges_uploads_by_size_and_content),
        cmocka_unit_test(checks_its_options),
    };
    return cmocka_run_group_tests(tests, support_schema_setup, support_schema_teardown);
}
