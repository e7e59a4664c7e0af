/* What `fields` leaves of an answer. */
#include "support.h"

#include "bakend/api.h"
#include "bakend/assert.h"

#include <stdio.h>
#include <string.h>

static struct bk_api *api;
static struct bk_request request;

static int setup(void **state) {
    struct bk_api_options options = {.request_arena_bytes = 65536, .answer_max_bytes = 65536};
    assert_int_equal(support_loop_setup(state), 0);
    options.loop = *state;
    api = bk_api_create(&options);
    bk_request_init(&request, api);
    return 0;
}

static int teardown(void **state) {
    bk_request_fini(&request);
    bk_api_destroy(api);
    return support_loop_teardown(state);
}

static void expect(const char *json, const char *fields, const char *left) {
    bk_buffer_clear(&request.out);
    bk_buffer_append_slice(&request.out, bk_slice_from(json));
    assert_int_equal(bk_answer_pick_fields(&request, bk_slice_from(fields)), BK_OK);
    bk_buffer_append_char(&request.out, '\0');
    assert_string_equal(request.out.data, left);
}

#define RECORD                                                                                     \
    "{\"id\":\"a\",\"title\":\"b\",\"n\": "                                                        \
    "1.50,\"expand\":{\"x\":{\"id\":1,\"y\":2},\"z\":[{\"id\":3,\"w\":4}]}}"

static void keeps_all_without_fields(void **state) {
    (void)state;
    expect(RECORD, "", RECORD);
    expect(RECORD, " ", RECORD);
    expect(RECORD, ",", RECORD);
}

static void keeps_what_is_named_in_its_order_and_bytes(void **state) {
    (void)state;
    expect(RECORD, "title", "{\"title\":\"b\"}");
    expect(RECORD, "n, id", "{\"id\":\"a\",\"n\":1.50}");
    expect(RECORD, "nothing", "{}");
    expect(RECORD, "titl,title2,ID", "{}");
}

static void excerpts_are_texts_without_html(void **state) {
    (void)state;
    static const struct {
        const char *html, *fields, *left;
    } cases[] = {
        {"<p>Hello <b>bold</b> world</p><p>second</p>", "x:excerpt(100)",
         "Hello bold world second"},
        {"<p>Hello <b>bold</b> world</p>", "x:excerpt(7)", "Hello b"},
        {"<p>Hello <b>bold</b> world</p>", "x:excerpt(6, true)", "Hello..."},
        {"<p>short</p>", "x:excerpt(5,true)", "short"},
        {"a<p>b</p>c<div>d</div>e<span>f</span>g", "x:excerpt(99)", "a b c d efg"},
        {"a<p>b<p>c", "x:excerpt(99)", "a b c"},
        {"<ul><li>one<li>two</ul>three", "x:excerpt(99)", "one two three"},
        {"&amp;&lt;&nbsp;&euro;&#8211;&#x2014;&copy &unknown; &", "x:excerpt(99)",
         "&<\xc2\xa0\xe2\x82\xac\xe2\x80\x93\xe2\x80\x94\xc2\xa9 &unknown; &"},
        {"<script>no()</script>x<style>b{}</style>y<form>gone</form>", "x:excerpt(9)", "xy"},
        {"<title>head</title>x<title>body</title>", "x:excerpt(99)", "x body"},
        {"a < b <3 <!-- c -->d <b", "x:excerpt(99)", "a < b <3 d"},
        {"<img src='x>y'>after<br>line", "x:excerpt(99)", "afterline"},
        {"\xd0\xb0\xd0\xb1\xd0\xb2", "x:excerpt(2)", "\xd0\xb0\xd0\xb1"},
        {"<b><p>x</b>y</p>z", "x:excerpt(99)", "xy z"},
        {"plain", "*:excerpt(3)", "pla"},
        {"plain", "x:excerpt(1),x:excerpt(2.0)", "pl"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        char json[256], left[256];
        snprintf(json, sizeof json, "{\"x\":\"%s\",\"n\":12345}", cases[i].html);
        bool is_all = cases[i].fields[0] == '*';
        snprintf(left, sizeof left, "{\"x\":\"%s\"%s}", cases[i].left,
                 is_all ? ",\"n\":12345" : "");
        expect(json, cases[i].fields, left);
    }
}

static void what_is_no_list_of_fields_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"x:excerpt",     "x:excerpt()",  "x:excerpt(0)",
                                        "x:excerpt(-1)", "x:excerpt(a)", "x:excerpt(3",
                                        "x:nope(3)",     "x:",           "x:excerpt(3,true,1)",
                                        "x:excerpt(3)'", "\"x",          "x,y:excerpt(1.5)"};
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_int_equal(bk_fields_check(bk_slice_from(wrong[i])), BK_INVALID);
    assert_int_equal(bk_fields_check(BK_SLICE("x:excerpt( 3 , yes ),'a,b'")), BK_OK);
}

static void follows_paths(void **state) {
    (void)state;
    expect(RECORD, "expand.x.id", "{\"expand\":{\"x\":{\"id\":1}}}");
    expect(RECORD, "expand.z.w,expand.x",
           "{\"expand\":{\"x\":{\"id\":1,\"y\":2},\"z\":[{\"w\":4}]}}");
    expect(RECORD, "expand.*",
           "{\"expand\":{\"x\":{\"id\":1,\"y\":2},\"z\":[{\"id\":3,\"w\":4}]}}");
    expect(RECORD, "title.deeper", "{\"title\":\"b\"}");
}

static void takes_a_star_for_the_rest(void **state) {
    (void)state;
    expect(RECORD, "*",
           "{\"id\":\"a\",\"title\":\"b\",\"n\":1.50,\"expand\":{\"x\":{\"id\":1,\"y\":2},\"z\":[{"
           "\"id\":3,\"w\":4}]}}");
    expect(RECORD, "*,expand.x.y",
           "{\"id\":\"a\",\"title\":\"b\",\"n\":1.50,\"expand\":{\"x\":{\"y\":2}}}");
}

static void cuts_arrays_and_the_items_of_lists(void **state) {
    (void)state;
    expect("[{\"a\":1,\"b\":2},{\"a\":3}]", "a", "[{\"a\":1},{\"a\":3}]");
    expect("{\"page\":1,\"perPage\":30,\"items\":[{\"a\":1,\"b\":2},{\"b\":3}]}", "b",
           "{\"page\":1,\"perPage\":30,\"items\":[{\"b\":2},{\"b\":3}]}");
    expect("{\"items\":[{\"a\":1,\"b\":2}]}", "items.a", "{\"items\":[{\"a\":1}]}");
    expect("[1,2]", "a", "[1,2]");
    expect("\"text\"", "a", "\"text\"");
}

static void reads_modifiers_and_leaves_the_value(void **state) {
    (void)state;
    expect(RECORD, "title:excerpt(1,true),id", "{\"id\":\"a\",\"title\":\"b\"}");
}

static void refuses_too_many(void **state) {
    char fields[402];
    (void)state;
    for (size_t i = 0; i < sizeof(fields) - 1; i++)
        fields[i] = i % 2 == 0 ? 'a' : ',';
    bk_buffer_clear(&request.out);
    bk_buffer_append_slice(&request.out, BK_SLICE(RECORD));
    assert_int_equal(bk_answer_pick_fields(&request, bk_slice_make(fields, sizeof(fields) - 1)),
                     BK_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_all_without_fields),
        cmocka_unit_test(keeps_what_is_named_in_its_order_and_bytes),
        cmocka_unit_test(excerpts_are_texts_without_html),
        cmocka_unit_test(what_is_no_list_of_fields_is_refused),
        cmocka_unit_test(follows_paths),
        cmocka_unit_test(takes_a_star_for_the_rest),
        cmocka_unit_test(cuts_arrays_and_the_items_of_lists),
        cmocka_unit_test(reads_modifiers_and_leaves_the_value),
        cmocka_unit_test(refuses_too_many),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
