/* What the SELECT of a view names: columns with their aliases, tables with theirs. */
#include "schema_private.h"

#include "support.h"

static char text[4096];

/* "columns | tables", each original=alias; or "! reason". */
static const char *read_query(const char *sql) {
    struct bk_arena arena;
    struct bk_buffer out;
    struct schema_view_query query;
    struct bk_error error = BK_ERROR_INIT;
    bk_arena_init(&arena, sizeof text * 16);
    bk_buffer_init(&out, sizeof text - 1);
    if (schema_view_query_read(bk_slice_from(sql), &arena, &query, &error) != BK_OK) {
        bk_buffer_format(&out, "! %s", error.message);
    } else {
        for (uint32_t i = 0; i < query.column_count; i++)
            bk_buffer_format(&out, "%.*s=%.*s ", BK_SLICE_PRINT(query.columns[i].original),
                             BK_SLICE_PRINT(query.columns[i].alias));
        bk_buffer_append_char(&out, '|');
        for (uint32_t i = 0; i < query.table_count; i++)
            bk_buffer_format(&out, " %.*s=%.*s", BK_SLICE_PRINT(query.tables[i].original),
                             BK_SLICE_PRINT(query.tables[i].alias));
    }
    memcpy(text, out.data, out.length);
    text[out.length] = '\0';
    bk_buffer_fini(&out);
    bk_arena_fini(&arena);
    return text;
}

static void columns_and_tables_have_their_aliases(void **state) {
    (void)state;
    assert_string_equal(read_query("select id, title as t, n m from posts"),
                        "id=id title=t n=m | posts=posts");
    assert_string_equal(read_query("SELECT a.id, b.title FROM posts a, users AS b"),
                        "a.id=id b.title=title | posts=a users=b");
    assert_string_equal(read_query("select `id`, \"title\", [n] as 'q' from \"posts\" ;"),
                        "id=id title=title n=q | posts=posts");
    assert_string_equal(read_query("select\tid,\n\ttitle\nfrom\n\tposts\n"),
                        "id=id title=title | posts=posts");
}

static void joins_are_tables_and_conditions_are_left_out(void **state) {
    (void)state;
    assert_string_equal(
        read_query("select p.id from posts p left outer join users u on u.id = p.user "
                   "inner join likes on likes.post = p.id where p.n > 1 group by p.id limit 5"),
        "p.id=id | posts=p users=u likes=likes");
}

static void what_is_in_parentheses_or_quotes_is_one_word(void **state) {
    (void)state;
    assert_string_equal(read_query("select id, (a || ' , from ' || b) as c from posts"),
                        "id=id (a || ' , from ' || b)=c | posts=posts");
    assert_string_equal(read_query("select count(*) as total, max(n), id from posts"),
                        "count(*)=total max(n)=max(n) id=id | posts=posts");
    assert_string_equal(read_query("with x as (select id from posts) select id from x"),
                        "id=id | x=x");
}

static void comments_are_no_words(void **state) {
    (void)state;
    assert_string_equal(read_query("select id, -- of the post\n title /* as t */ from posts"),
                        "id=id title=title | posts=posts");
}

static void what_it_cannot_tell_is_refused(void **state) {
    (void)state;
    assert_string_equal(read_query("select id, n + 1 as m from posts"),
                        "! invalid identifier parts [n + 1 as m]");
    assert_string_equal(read_query("select id, title of x from posts"),
                        "! invalid identifier part - expected \"as\", got of");
    assert_string_equal(read_query("select id, (n from posts"),
                        "! unbalanced parenthesis or quoted expression: \"(n from posts\"");
}

static void one_statement_may_end_in_semicolons(void **state) {
    (void)state;
    assert_true(schema_view_query_is_single(
        schema_view_query_trim(BK_SLICE("  ;select ';' as id from posts;; "))));
    assert_false(schema_view_query_is_single(BK_SLICE("select id from posts; select 1")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_and_tables_have_their_aliases),
        cmocka_unit_test(joins_are_tables_and_conditions_are_left_out),
        cmocka_unit_test(what_is_in_parentheses_or_quotes_is_one_word),
        cmocka_unit_test(comments_are_no_words),
        cmocka_unit_test(what_it_cannot_tell_is_refused),
        cmocka_unit_test(one_statement_may_end_in_semicolons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
