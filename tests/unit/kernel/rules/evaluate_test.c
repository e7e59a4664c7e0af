/*
 * A filter has one answer, computed in memory or asked of SQLite. Random filters over a collection
 * with a field of each kind are asked of random records both ways, of stored ones and of values; a
 * difference is made as small as it can be and shown.
 *
 * BAKEND_LONG=n runs n times as many filters; BAKEND_SEED=n begins elsewhere.
 */
#include "bakend/rules.h"

#include "schema_fixture.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RECORD_COUNT = 48,
    FILTER_COUNT = 300,
    TERMS_MAX = 5,
    TEXT_BYTES = 4096,
    ARENA_BYTES = 16 * 1024 * 1024,
};

/* --- chance ----------------------------------------------------------------------------------- */

struct chance {
    uint64_t state;
};

static uint64_t draw(struct chance *chance, uint64_t below) {
    uint64_t x = chance->state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (x ^ (x >> 31)) % below;
}

#define PICK(chance, pool) (pool)[draw((chance), sizeof(pool) / sizeof((pool)[0]))]

/* --- records ---------------------------------------------------------------------------------- */

static const char *const texts[] = {"''",     "'a'",
                                    "'A'",    "'abc'",
                                    "'ABC'",  "'Ż'",
                                    "'ż ó'",  "'5'",
                                    "'5.0'",  "' 5 '",
                                    "'1e2'",  "'100'",
                                    "'%'",    "'a_c'",
                                    "'a%b'",  "'a\\\\\\\\b'",
                                    "'[1]'",  "'null'",
                                    "'true'", "'{}'",
                                    "'0'",    "'2026-06-08 12:00:00.000Z'",
                                    "'😀x'",   "'-1'",
                                    "'1'"};
static const char *const numbers[] = {"0",
                                      "1",
                                      "-1",
                                      "5",
                                      "100",
                                      "0.1",
                                      "-2.5",
                                      "1e20",
                                      "1e-7",
                                      "9007199254740993",
                                      "9223372036854775807",
                                      "-9223372036854775808",
                                      "1.5e300"};
static const char *const jsons[] = {"null",
                                    "1",
                                    "1.0",
                                    "'x'",
                                    "''",
                                    "true",
                                    "false",
                                    "[]",
                                    "{}",
                                    "[1,2,'a',null,true]",
                                    "{'a':1,'b':{'c':'X'},'l':[{'d':2},3]}",
                                    "{'a':null}",
                                    "{'a':'5'}",
                                    "{'a':[ ]}",
                                    "1e2",
                                    "12345678901234567890",
                                    "'5'",
                                    "{'a':{'b':[1, 2 ,3]}}",
                                    "[[1],[2]]",
                                    "-0.0"};
static const char *const singles[] = {"''", "'a'", "'b'", "'5'"};
static const char *const tags[] = {"[]",        "['a']",     "['b']",
                                   "['a','b']", "['5','a']", "['b','a','5']"};
static const char *const one[] = {"''", "'other0000000001'", "'other0000000002'"};
static const char *const many[] = {"[]", "['other0000000001']",
                                   "['other0000000001','other0000000002']"};
static const char *const points[] = {"{'lon':0,'lat':0}", "{'lon':21.01,'lat':52.23}",
                                     "{'lon':-180,'lat':90}", "{'lon':21.01,'lat':52.24}"};
static const char *const dates[] = {"''", "'2026-06-08 12:00:00.000Z'", "'2030-01-01'",
                                    "'1999-12-31 23:59:59.999Z'"};
static const char *const urls[] = {"''", "'https://a.example/x'"};
static const char *const emails[] = {"''", "'A@a.example'"};

static void write_record(struct chance *chance, int number, char *out, size_t size) {
    snprintf(out, size,
             "{'id':'record%09d','title':%s,'name':%s,'stars':%s,'price':%s,'on':%s,'meta':%s,"
             "'kind':%s,'tags':%s,'owner':%s,'readers':%s,'place':%s,'at':%s,'url':%s,'mail':%s}",
             number, PICK(chance, texts), PICK(chance, texts), PICK(chance, numbers),
             PICK(chance, numbers), draw(chance, 2) == 0 ? "true" : "false", PICK(chance, jsons),
             PICK(chance, singles), PICK(chance, tags), PICK(chance, one), PICK(chance, many),
             PICK(chance, points), PICK(chance, dates), PICK(chance, urls), PICK(chance, emails));
}

static const char definition[] =
    "{'name':'things','fields':[{'name':'title','type':'text'},{'name':'name','type':'text'},"
    "{'name':'stars','type':'number'},{'name':'price','type':'number'},{'name':'on','type':'bool'},"
    "{'name':'meta','type':'json'},"
    "{'name':'kind','type':'select','values':['a','b','5'],'maxSelect':1},"
    "{'name':'tags','type':'select','values':['a','b','5'],'maxSelect':3},"
    "{'name':'owner','type':'relation','collectionId':'%s','maxSelect':1},"
    "{'name':'readers','type':'relation','collectionId':'%s','maxSelect':5},"
    "{'name':'place','type':'geoPoint'},{'name':'at','type':'date'},{'name':'url','type':'url'},"
    "{'name':'mail','type':'email'},{'name':'since','type':'autodate','onCreate':true}]}";

static void insert(struct support_schema *fixture, const char *collection, const char *json) {
    if (support_schema_insert(fixture, collection, json) != BK_OK)
        fail_msg("%s: %s", json, support_schema_problems(fixture));
}

static void define(struct support_schema *fixture) {
    char text[sizeof definition + 100];
    const char *other = "{'name':'others','fields':[{'name':'label','type':'text'},"
                        "{'name':'level','type':'number'},{'name':'flags','type':'select',"
                        "'values':['x','y'],'maxSelect':2},{'name':'data','type':'json'}]}";
    assert_int_equal(support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, other), BK_OK);
    struct bk_slice id = support_schema_find(fixture, "others")->id;
    snprintf(text, sizeof text, definition, id.data, id.data);
    if (support_schema_change(fixture, BK_SCHEMA_CREATE, NULL, text) != BK_OK)
        fail_msg("%s %s", support_schema_problems(fixture), fixture->error.message);
    insert(fixture, "others",
           "{'id':'other0000000001','label':'a','level':5,'flags':['x','y'],'data':{'a':1}}");
    insert(fixture, "others", "{'id':'other0000000002','label':'Ż','level':-1,'flags':[]}");
}

static void fill(struct support_schema *fixture, struct chance *chance) {
    for (int i = 0; i < RECORD_COUNT; i++) {
        char json[2000];
        write_record(chance, i, json, sizeof json);
        insert(fixture, "things", json);
    }
    /* What a table may hold that no client can write. */
    assert_int_equal(
        support_schema_execute(
            fixture, "UPDATE things SET meta='no json', kind='[\"a\",\"b\"]' WHERE id LIKE '%07';"
                     "UPDATE things SET meta='', tags='' WHERE id LIKE '%08';"
                     "UPDATE things SET place='', meta=' [1 , {\"a\" : \"x y\"}] ' "
                     "WHERE id LIKE '%09'"),
        BK_OK);
}

/* --- filters ---------------------------------------------------------------------------------- */

struct term {
    char text[400];
    bool is_or, opens, closes;
};

struct filter {
    struct term terms[TERMS_MAX];
    size_t count;
};

static const char *const constants[] = {"\"\"",
                                        "'a'",
                                        "'A'",
                                        "'abc'",
                                        "'5'",
                                        "'5.0'",
                                        "' 5'",
                                        "'%'",
                                        "'a%'",
                                        "'%b'",
                                        "'_'",
                                        "'a_c'",
                                        "'Ż'",
                                        "'ż'",
                                        "'100'",
                                        "'1e2'",
                                        "'\\\\'",
                                        "'a\\\\b'",
                                        "'other0000000001'",
                                        "'null'",
                                        "'[1]'",
                                        "'[\"a\",\"b\"]'",
                                        "'true'",
                                        "'2026-06-08'",
                                        "'😀'",
                                        "null",
                                        "true",
                                        "false",
                                        "NULL",
                                        "0",
                                        "1",
                                        "-1",
                                        "5",
                                        "5.0",
                                        "0.1",
                                        "100",
                                        "-2.5",
                                        "9007199254740992",
                                        "9007199254740993",
                                        "9223372036854775807",
                                        "100000000000000000000",
                                        "'c'",
                                        "'X'",
                                        "2",
                                        "3",
                                        "'x'",
                                        "'1'",
                                        "'0'"};
static const char *const fields[] = {"title",
                                     "name",
                                     "stars",
                                     "price",
                                     "on",
                                     "meta",
                                     "kind",
                                     "tags",
                                     "owner",
                                     "readers",
                                     "place",
                                     "at",
                                     "url",
                                     "mail",
                                     "id",
                                     "since",
                                     "meta.a",
                                     "meta.b.c",
                                     "meta.l.0.d",
                                     "meta.2",
                                     "meta.a.b.1",
                                     "place.lon",
                                     "place.lat",
                                     "owner.id",
                                     "title:lower",
                                     "name:lower",
                                     "stars:lower",
                                     "meta:lower",
                                     "tags:lower",
                                     "tags:each",
                                     "readers:each",
                                     "kind:each",
                                     "owner:each",
                                     "tags:length",
                                     "readers:length",
                                     "kind:length",
                                     "owner:length",
                                     "tags:each",
                                     "tags:each:lower",
                                     "meta.a:lower"};
static const char *const others[] = {"owner.label",
                                     "owner.level",
                                     "readers.label",
                                     "readers.id",
                                     "owner.data.a",
                                     "@collection.others.label",
                                     "owner.flags:each",
                                     "strftime('%Y-%m-%d %H:%M:%f', at)",
                                     "strftime('%j %W %w %s', at)",
                                     "strftime('%Y', title)",
                                     "strftime('%d', stars)",
                                     "strftime('%Y', at, '+1 day')"};
static const char *const requests[] = {"@request.context",
                                       "@request.method",
                                       "@request.query.q",
                                       "@request.query.n",
                                       "@request.query.none",
                                       "@request.headers.x_y",
                                       "@request.body.title",
                                       "@request.body.stars",
                                       "@request.body.on",
                                       "@request.body.on",
                                       "@request.body.tags",
                                       "@request.body.none",
                                       "@request.body.meta",
                                       "@request.body.meta.a",
                                       "@request.body.title:lower",
                                       "@request.body.title:isset",
                                       "@request.body.none:isset",
                                       "@request.body.title:changed",
                                       "@request.body.stars:changed",
                                       "@request.body.kind:changed",
                                       "@request.body.tags:each",
                                       "@request.body.tags:length",
                                       "@request.body.kind:each",
                                       "@request.body.kind:length",
                                       "@request.query.q:lower",
                                       "@request.query.q:isset",
                                       "@request.body.readers:each",
                                       "@request.body.meta.2"};
static const char *const auths[] = {
    "@request.auth.id",          "@request.auth.label",         "@request.auth.level",
    "@request.auth.flags",       "@request.auth.flags:each",    "@request.auth.flags:length",
    "@request.auth.data.a",      "@request.auth.none",          "@request.auth.verified",
    "@request.auth.label:lower", "@request.auth.collectionName"};
static const char *const macros[] = {"@now",     "@todayStart", "@yearEnd",
                                     "@year",    "@month",      "@yesterday",
                                     "@weekday", "@hour",       "@monthStart"};
static const char *const distances[] = {
    "geoDistance(place.lon, place.lat, 21.01, 52.23)", "geoDistance(0, 0, place.lon, place.lat)",
    "geoDistance(stars, price, place.lon, 5)", "geoDistance(title, 1, 2, name)"};

static void write_constant(struct chance *chance, char *out, size_t size) {
    snprintf(out, size, "%s", PICK(chance, constants));
}

static void write_operand(struct chance *chance, char *out, size_t size) {
    uint64_t kind = draw(chance, 100);
    if (kind < 50)
        snprintf(out, size, "%s", PICK(chance, fields));
    else if (kind < 72)
        write_constant(chance, out, size);
    else if (kind < 82)
        snprintf(out, size, "%s", PICK(chance, requests));
    else if (kind < 89)
        snprintf(out, size, "%s", PICK(chance, auths));
    else if (kind < 92)
        snprintf(out, size, "%s", PICK(chance, macros));
    else if (kind < 95)
        snprintf(out, size, "%s", PICK(chance, distances));
    else
        snprintf(out, size, "%s", PICK(chance, others));
}

static void write_term(struct chance *chance, struct term *term) {
    static const char *const signs[] = {"=", "!=", "~", "!~", "<", "<=", ">", ">=", "=", "!=", "~"};
    char left[120], right[120];
    write_operand(chance, left, sizeof left);
    if (draw(chance, 3) == 0)
        write_operand(chance, right, sizeof right);
    else
        write_constant(chance, right, sizeof right);
    bool is_turned = draw(chance, 6) == 0;
    snprintf(term->text, sizeof term->text, "%s %s%s %s", is_turned ? right : left,
             draw(chance, 3) == 0 ? "?" : "", PICK(chance, signs), is_turned ? left : right);
    term->is_or = draw(chance, 3) == 0;
    term->opens = term->closes = false;
}

static void draw_filter(struct chance *chance, struct filter *filter) {
    filter->count = 1 + draw(chance, TERMS_MAX);
    for (size_t i = 0; i < filter->count; i++)
        write_term(chance, &filter->terms[i]);
    if (filter->count > 2 && draw(chance, 2) == 0) {
        size_t first = draw(chance, filter->count - 1);
        filter->terms[first].opens = true;
        filter->terms[first + 1].closes = true;
    }
}

static struct bk_slice write_filter(const struct filter *filter, char *out) {
    size_t length = 0;
    for (size_t i = 0; i < filter->count; i++) {
        const struct term *term = &filter->terms[i];
        length += (size_t)snprintf(out + length, TEXT_BYTES - length, "%s%s%s%s",
                                   i == 0        ? ""
                                   : term->is_or ? " || "
                                                 : " && ",
                                   term->opens ? "(" : "", term->text, term->closes ? ")" : "");
    }
    return bk_slice_make(out, length);
}

/* --- both ways -------------------------------------------------------------------------------- */

struct world {
    struct support_schema *fixture;
    const struct bk_collection *things, *others;
    struct bk_asker asker;
    struct bk_actor actor;
    struct bk_arena records; /* copies of their values */
    struct bk_value values[RECORD_COUNT][SUPPORT_SCHEMA_FIELDS_MAX];
    struct bk_value auth[SUPPORT_SCHEMA_FIELDS_MAX];
    uint64_t compared, in_tables, refused;
};

static void copy_record(struct world *world, const struct bk_collection *collection, const char *id,
                        struct bk_value *values) {
    struct bk_connection *connection = bk_store_read_now(world->fixture->kernel.tenant->database);
    struct bk_statement *statement;
    assert_int_equal(bk_connection_statement(connection, &collection->select_by_id, &statement),
                     BK_OK);
    bk_statement_bind_text(statement, 1, bk_slice_from(id));
    assert_int_equal(bk_statement_step(statement), BK_OK);
    bk_record_read(collection, statement, values);
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (values[i].type == BK_VALUE_TEXT)
            values[i].text = bk_arena_copy(&world->records, values[i].text);
    bk_statement_reset(statement);
}

static const char request_json[] =
    "{'context':'default','method':'PATCH','query':{'q':'A','n':'5'},'headers':{'x_y':'a'},"
    "'body':{'title':'Abc','stars':5,'on':true,'tags':['a','5'],'kind':'a','none':null,"
    "'readers':['other0000000001'],'meta':{'a':[1, {'b' : 2}],'2':'x'}},"
    "'auth':{'id':'other0000000001','collectionName':'others'}}";

static void world_init(struct world *world, struct support_schema *fixture, struct chance *chance) {
    *world = (struct world){.fixture = fixture};
    define(fixture);
    fill(fixture, chance);
    bk_arena_init(&world->records, ARENA_BYTES);
    world->things = support_schema_find(fixture, "things");
    world->others = support_schema_find(fixture, "others");
    for (int i = 0; i < RECORD_COUNT; i++) {
        char id[20];
        snprintf(id, sizeof id, "record%09d", i);
        copy_record(world, world->things, id, world->values[i]);
    }
    copy_record(world, world->others, "other0000000001", world->auth);
    world->actor = (struct bk_actor){.kind = BK_ACTOR_RECORD,
                                     .id = BK_SLICE("other0000000001"),
                                     .collection_id = world->others->id};
    bk_asker_init(&world->asker, bk_schema_current(fixture->kind, fixture->kernel.tenant),
                  &world->actor, support_schema_json(fixture, request_json));
    world->asker.auth_values = world->auth;
    world->asker.now_ms = INT64_C(1780920000123);
}

static enum bk_status ask_once(struct world *world, const struct bk_question *question,
                               const struct bk_value *values) {
    struct bk_connection *connection = bk_store_read_now(world->fixture->kernel.tenant->database);
    return question->of == BK_QUESTION_OF_STORED
               ? bk_question_ask(question, connection, values[world->things->id_field->index].text)
               : bk_question_ask_values(question, connection, values);
}

/* 1, 0, or what went wrong, below 0. Once more where a busy machine took all the time that a SELECT
 * has here. */
static int ask(struct world *world, const struct bk_question *question,
               const struct bk_value *values) {
    enum bk_status status = ask_once(world, question, values);
    for (int i = 0; i < 10 && status == BK_TIMEOUT; i++)
        status = ask_once(world, question, values);
    if (status == BK_OK || status == BK_NOT_FOUND)
        return status == BK_OK;
    print_message("%.*s: %s\n", BK_SLICE_PRINT(question->sql.text),
                  bk_connection_error(bk_store_read_now(world->fixture->kernel.tenant->database)));
    return -1;
}

/* The first record, from `record` on, whose answers differ; RECORD_COUNT: none. */
static int find_difference(struct world *world, struct bk_slice text, enum bk_question_of of,
                           int record) {
    struct bk_question question;
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES);
    enum bk_status status =
        bk_question_make(&question, &arena, &world->asker, world->things, text, of);
    world->refused += status != BK_OK ? 1 : 0;
    for (; record < RECORD_COUNT && status == BK_OK; record++) {
        enum bk_answer answer = bk_question_judge(&question, world->values[record]);
        world->compared++;
        world->in_tables += answer == BK_ANSWER_NEEDS_TABLES ? 1 : 0;
        if (answer == BK_ANSWER_NEEDS_TABLES) {
            assert_false(bk_question_is_plain(&question));
            continue;
        }
        if (ask(world, &question, world->values[record]) != (answer == BK_ANSWER_YES))
            break;
    }
    bk_arena_fini(&arena);
    return status == BK_OK ? record : RECORD_COUNT;
}

static bool still_differs(struct world *world, const struct filter *filter, enum bk_question_of of,
                          int record) {
    char text[TEXT_BYTES];
    return find_difference(world, write_filter(filter, text), of, record) == record;
}

static void shrink(struct world *world, struct filter *filter, enum bk_question_of of, int record) {
    for (size_t i = 0; i < filter->count;) {
        struct filter smaller = *filter;
        for (size_t k = 0; k < smaller.count; k++)
            smaller.terms[k].opens = smaller.terms[k].closes = false;
        memmove(&smaller.terms[i], &smaller.terms[i + 1],
                (--smaller.count - i) * sizeof smaller.terms[0]);
        if (smaller.count > 0 && still_differs(world, &smaller, of, record))
            *filter = smaller;
        else
            i++;
    }
}

static void show_difference(struct world *world, struct filter *filter, enum bk_question_of of,
                            int record) {
    static const char *const forms[] = {"stored", "values", "event"};
    char text[TEXT_BYTES], id[20];
    shrink(world, filter, of, record);
    write_filter(filter, text);
    snprintf(id, sizeof id, "record%09d", record);
    fail_msg("%s (%s) differs for %s", text, forms[of],
             support_schema_record(world->fixture, "things", id));
}

static uint64_t number_of(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void memory_and_sql_give_one_answer(void **state) {
    struct chance chance = {number_of("BAKEND_SEED", 20261122)};
    uint64_t count = FILTER_COUNT * number_of("BAKEND_LONG", 1);
    struct filter filter;
    struct world world;
    char text[TEXT_BYTES];
    world_init(&world, *state, &chance);
    for (uint64_t i = 0; i < count; i++) {
        draw_filter(&chance, &filter);
        struct bk_slice written = write_filter(&filter, text);
        for (int of = BK_QUESTION_OF_STORED; of <= BK_QUESTION_OF_EVENT; of++) {
            int record = find_difference(&world, written, (enum bk_question_of)of, 0);
            if (record < RECORD_COUNT)
                show_difference(&world, &filter, (enum bk_question_of)of, record);
        }
    }
    print_message("%llu answers compared, %llu take tables, %llu filters refused\n",
                  (unsigned long long)(world.compared - world.in_tables),
                  (unsigned long long)world.in_tables, (unsigned long long)world.refused);
    assert_true(world.compared - world.in_tables >= 20 * 1000);
    assert_true(world.in_tables * 4 < world.compared);
    bk_arena_fini(&world.records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_and_sql_give_one_answer, support_schema_setup,
                                        support_schema_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
