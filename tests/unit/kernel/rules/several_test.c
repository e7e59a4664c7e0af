/*
 * A client's filter over several records of which it may see some: SQL against a model of it.
 *
 *   name ?= "a"   one that may be seen has it
 *   name = "a"    and no other one that may be seen has not
 *
 * Terms joined by && or || speak of the same record. What a list rule hides is not there, neither
 * for one nor for all; where nothing may be seen of those that there are, nothing holds. A relation
 * to no record at all, or to one that is gone, is one that has no value.
 *
 * Filters and records are drawn; the seed is fixed. BAKEND_LONG=n draws n times as many, and
 * BAKEND_SEED=n begins elsewhere.
 */
#include "bakend/rules.h"

#include "schema_fixture.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    ARENA_BYTES = 1024 * 1024,
    OWNERS = 8,
    POSTS = 60,
    OWNERS_MAX = 4,
    FILTERS = 1500,
    TERMS_MAX = 2,
    GONE = OWNERS, /* the number of an owner that was deleted */
};

static const char *const names[] = {"", "a", "b", "ab", "ba", "abc"};

struct chance {
    uint64_t state;
};

static uint64_t draw(struct chance *chance, uint64_t below) {
    chance->state = chance->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (chance->state >> 33) % below;
}

struct world {
    struct support_schema *fixture;
    const char *owner_names[OWNERS];
    bool is_open[OWNERS];
    uint32_t owners[POSTS][OWNERS_MAX], owner_count[POSTS];
    uint64_t found, asked;
};

/* --- the records ------------------------------------------------------------------------------ */

static void define(struct support_schema *fixture) {
    bk_schema_set_rule_check(fixture->kind, bk_rule_is_valid);
    assert_int_equal(support_schema_change(
                         fixture, BK_SCHEMA_CREATE, NULL,
                         "{'name':'owners','id':'owners000000000','listRule':'open = true',"
                         "'fields':[{'name':'name','type':'text'},{'name':'open','type':'bool'}]}"),
                     BK_OK);
    assert_int_equal(
        support_schema_change(fixture, BK_SCHEMA_CREATE, NULL,
                              "{'name':'posts','fields':[{'name':'owners','type':'relation',"
                              "'maxSelect':9,'collectionId':'owners000000000'}]}"),
        BK_OK);
}

static void fill(struct world *world, struct chance *chance) {
    char sql[512], list[256];
    for (uint32_t i = 0; i < OWNERS; i++) {
        world->owner_names[i] = names[draw(chance, BK_COUNT_OF(names))];
        world->is_open[i] = draw(chance, 2) == 1;
        snprintf(sql, sizeof sql,
                 "INSERT INTO owners (id, name, open) VALUES ('owner%u', '%s', %d)", i,
                 world->owner_names[i], world->is_open[i]);
        assert_int_equal(support_schema_execute(world->fixture, sql), BK_OK);
    }
    for (uint32_t i = 0; i < POSTS; i++) {
        size_t length = 0;
        world->owner_count[i] = (uint32_t)draw(chance, OWNERS_MAX + 1);
        for (uint32_t k = 0; k < world->owner_count[i]; k++) {
            world->owners[i][k] = (uint32_t)draw(chance, OWNERS + 1);
            length += (size_t)snprintf(list + length, sizeof list - length, "%s\"owner%u\"",
                                       k == 0 ? "" : ",", world->owners[i][k]);
        }
        list[length] = '\0';
        snprintf(sql, sizeof sql, "INSERT INTO posts (id, owners) VALUES ('%u', '[%s]')", i, list);
        assert_int_equal(support_schema_execute(world->fixture, sql), BK_OK);
    }
}

/* --- the model -------------------------------------------------------------------------------- */

struct term {
    uint32_t sign;
    bool is_any;
    const char *constant;
};

struct filter {
    struct term terms[TERMS_MAX];
    uint32_t count;
    bool is_or;
};

static const char *const signs[] = {"=", "!=", "~", "!~"};

enum truth { NO, YES, UNKNOWN };

/* name NULL: there is no record. That is neither equal to a text nor, as in the contract, what
 * keeps all of several from being equal to it. */
static enum truth holds(const struct term *term, const char *name) {
    bool is_equal = strcmp(name == NULL ? "" : name, term->constant) == 0;
    if (term->sign == 0 && name == NULL && !is_equal)
        return UNKNOWN;
    if (term->sign == 0)
        return is_equal;
    if (term->sign == 1)
        return !is_equal;
    if (name == NULL)
        return UNKNOWN;
    return (strstr(name, term->constant) != NULL) == (term->sign == 2);
}

/* What may be seen of a post's owners; one without a name where there is none. */
static uint32_t see(const struct world *world, uint32_t post, const char **seen) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->owner_count[post]; i++) {
        uint32_t owner = world->owners[post][i];
        if (owner == GONE || world->is_open[owner])
            seen[count++] = owner == GONE ? NULL : world->owner_names[owner];
    }
    if (world->owner_count[post] == 0)
        seen[count++] = NULL;
    return count;
}

static bool passes(const struct term *term, const char *name, const char *const *seen,
                   uint32_t count) {
    for (uint32_t i = 0; !term->is_any && i < count; i++)
        if (holds(term, seen[i]) == NO)
            return false;
    return holds(term, name) == YES;
}

static bool is_found(const struct world *world, const struct filter *filter, uint32_t post) {
    const char *seen[OWNERS_MAX];
    uint32_t count = see(world, post, seen);
    for (uint32_t i = 0; i < count; i++) {
        bool first = passes(&filter->terms[0], seen[i], seen, count);
        bool second = filter->count < 2 ? first : passes(&filter->terms[1], seen[i], seen, count);
        if (filter->is_or ? first || second : first && second)
            return true;
    }
    return false;
}

/* --- SQL -------------------------------------------------------------------------------------- */

static void draw_filter(struct chance *chance, struct filter *filter, char *text, size_t size) {
    size_t length = 0;
    filter->count = 1 + (uint32_t)draw(chance, TERMS_MAX);
    filter->is_or = draw(chance, 2) == 1;
    for (uint32_t i = 0; i < filter->count; i++) {
        struct term *term = &filter->terms[i];
        term->sign = (uint32_t)draw(chance, BK_COUNT_OF(signs));
        term->is_any = draw(chance, 2) == 1;
        term->constant = names[draw(chance, BK_COUNT_OF(names))];
        length += (size_t)snprintf(text + length, size - length, "%sowners.name %s%s '%s'",
                                   i == 0          ? ""
                                   : filter->is_or ? " || "
                                                   : " && ",
                                   term->is_any ? "?" : "", signs[term->sign], term->constant);
    }
}

static struct bk_sql make_sql(struct support_schema *fixture, struct bk_arena *arena,
                              const char *text, struct bk_filter_sql *condition) {
    struct bk_asker asker;
    struct bk_filter_scope scope;
    struct bk_filter *parsed;
    bk_asker_init(&asker, bk_schema_current(fixture->kind, fixture->kernel.tenant), &bk_actor_guest,
                  NULL);
    bk_asker_scope(&asker, support_schema_find(fixture, "posts"), 1, &scope);
    struct bk_filter_query *query = bk_filter_query_create(arena, &scope);
    assert_int_equal(bk_filter_parse(arena, bk_slice_from(text), BK_RULE_BYTES_MAX, &parsed, NULL),
                     BK_OK);
    assert_int_equal(bk_filter_query_add(query, parsed, BK_FILTER_OF_CLIENT, NULL), BK_OK);
    assert_int_equal(bk_filter_query_finish(query, condition), BK_OK);
    return bk_sql_make(bk_arena_format(arena, "SELECT posts.id FROM posts%.*s WHERE %.*s",
                                       BK_SLICE_PRINT(condition->joins),
                                       BK_SLICE_PRINT(condition->where)));
}

/* Asks again where a busy machine took all the time that a SELECT has here. */
static enum bk_status find(struct world *world, const struct bk_sql *sql,
                           const struct bk_filter_sql *condition, bool *found) {
    struct bk_connection *connection = bk_store_read_now(world->fixture->kernel.tenant->database);
    struct bk_statement *statement;
    enum bk_status status = BK_TIMEOUT;
    while (status == BK_TIMEOUT) {
        memset(found, 0, POSTS * sizeof(*found));
        assert_int_equal(bk_connection_statement(connection, sql, &statement), BK_OK);
        for (uint32_t i = 0; i < condition->value_count; i++)
            bk_statement_bind(statement, (int)i + 1, &condition->values[i]);
        while ((status = bk_statement_step(statement)) == BK_OK)
            found[bk_statement_int(statement, 0)] = true;
        bk_statement_reset(statement);
    }
    return status;
}

static void compare(struct world *world, const struct filter *filter, const char *text) {
    struct bk_filter_sql condition;
    struct bk_arena arena;
    bool found[POSTS];
    bk_arena_init(&arena, ARENA_BYTES);
    const struct bk_sql sql = make_sql(world->fixture, &arena, text, &condition);
    assert_int_equal(find(world, &sql, &condition, found), BK_END);
    bk_arena_fini(&arena);
    for (uint32_t post = 0; post < POSTS; post++) {
        if (found[post] != is_found(world, filter, post))
            fail_msg("%s: post %u is%s found", text, post, found[post] ? "" : " not");
        world->found += found[post];
        world->asked++;
    }
}

static uint64_t number_of(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void of_several_those_count_that_may_be_seen(void **state) {
    struct chance chance = {number_of("BAKEND_SEED", 20261122)};
    uint64_t count = FILTERS * number_of("BAKEND_LONG", 1);
    struct world world = {.fixture = *state};
    struct filter filter;
    char text[256];
    define(world.fixture);
    fill(&world, &chance);
    for (uint64_t i = 0; i < count; i++) {
        draw_filter(&chance, &filter, text, sizeof text);
        compare(&world, &filter, text);
    }
    assert_in_range(world.found * 10, world.asked, world.asked * 9); /* there was a choice */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_several_those_count_that_may_be_seen,
                                        support_schema_setup, support_schema_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
