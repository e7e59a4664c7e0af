/* Interests: each is called once, in the order of adding, and only those that ask; the walk
 * survives whatever its callbacks do to the set. A random test compares the index with asking
 * everybody. */
#include "bakend/assert.h"
#include "bakend/interest.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS_MAX = 64, RANDOM_INTERESTS = 60, RANDOM_ROUNDS = 400 };

struct named {
    struct bk_interest interest;
    struct bk_slice types[3];
    char letter;
    struct named *removes; /* when it is called */
};

static struct bk_interests *set;
static char trace[CALLS_MAX];

static int setup(void **state) {
    (void)state;
    set = bk_interests_create();
    memset(trace, 0, sizeof trace);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bk_interests_destroy(set);
    return 0;
}

static void on_match(struct bk_interest *interest, void *user) {
    struct named *named = bk_container_of(interest, struct named, interest);
    size_t length = strlen(trace);
    (void)user;
    assert_true(length + 1 < sizeof trace);
    trace[length] = named->letter;
    if (named->removes != NULL)
        bk_interests_remove(&named->removes->interest);
}

static void add(struct named *named, char letter, const char *subject, const char *a, const char *b,
                const char *c) {
    const char *types[] = {a, b, c};
    *named = (struct named){.letter = letter};
    for (size_t i = 0; i < 3 && types[i] != NULL; i++)
        named->types[named->interest.type_count++] = bk_slice_from(types[i]);
    named->interest.types = named->types;
    named->interest.subject = bk_slice_from(subject);
    assert_int_equal(bk_interests_add(set, &named->interest), BK_OK);
}

static const char *match(const char *type, const char *subject) {
    memset(trace, 0, sizeof trace);
    bk_interests_match(set, bk_slice_from(type), bk_slice_from(subject), on_match, NULL);
    return trace;
}

static void each_kind_of_pattern_is_found(void **state) {
    struct named a, b, c, d, e, f;
    (void)state;
    add(&a, 'a', "", "posts.created", NULL, NULL);
    add(&b, 'b', "", "posts.*", NULL, NULL);
    add(&c, 'c', "", "*.created", NULL, NULL);
    add(&d, 'd', "", NULL, NULL, NULL);
    add(&e, 'e', "posts/1", "posts.*", NULL, NULL);
    add(&f, 'f', "", "_*", NULL, NULL);
    assert_string_equal(match("posts.created", "posts/1"), "abcde");
    assert_string_equal(match("posts.created", "posts/2"), "abcd");
    assert_string_equal(match("posts.deleted", ""), "bd");
    assert_string_equal(match("users.created", "posts/1"), "cd");
    assert_string_equal(match("_keys.created", ""), "f");
    assert_string_equal(match("posts.a.b", ""), "bd");
    struct named *all[] = {&a, &b, &c, &d, &e, &f};
    for (size_t i = 0; i < BK_COUNT_OF(all); i++)
        bk_interests_remove(&all[i]->interest);
    assert_int_equal(bk_interests_count(set), 0);
    assert_string_equal(match("posts.created", "posts/1"), "");
}

static void one_with_many_patterns_is_called_once_at_its_place(void **state) {
    struct named a, b, c;
    (void)state;
    add(&a, 'a', "", "*.created", NULL, NULL);
    add(&b, 'b', "", "posts.*", "posts.created", "*.created");
    add(&c, 'c', "", "posts.created", NULL, NULL);
    assert_string_equal(match("posts.created", ""), "abc");
    bk_interests_remove(&a.interest);
    bk_interests_remove(&b.interest);
    bk_interests_remove(&c.interest);
}

static void what_is_removed_during_a_match_is_not_called(void **state) {
    struct named a, b, c;
    (void)state;
    add(&a, 'a', "", "posts.created", NULL, NULL);
    add(&b, 'b', "", "posts.created", NULL, NULL);
    add(&c, 'c', "", "posts.created", NULL, NULL);
    a.removes = &b;
    c.removes = &c;
    assert_string_equal(match("posts.created", ""), "ac");
    a.removes = NULL;
    assert_string_equal(match("posts.created", ""), "a");
    bk_interests_remove(&a.interest);
    bk_interests_remove(&a.interest); /* harmless */
}

static void a_wrong_pattern_is_refused_whole(void **state) {
    struct bk_slice types[] = {BK_SLICE("posts.created"), BK_SLICE("posts..x")};
    struct bk_interest interest = {.types = types, .type_count = 2};
    (void)state;
    assert_int_equal(bk_interests_add(set, &interest), BK_INVALID);
    assert_int_equal(bk_interests_count(set), 0);
    bk_interests_remove(&interest);
}

/* --- against the simplest way ----------------------------------------------------------------- */

static const char *const words[] = {"a", "b", "_c", "d"};
static const char *const stars[] = {"*", "_*", "a.*", "*.b", "a.*.b", "*.*", "b.a.*"};

static const char *random_pattern(char *room, size_t size) {
    if (rand() % 3 == 0)
        return stars[(size_t)rand() % BK_COUNT_OF(stars)];
    (void)snprintf(room, size, "%s.%s", words[rand() % 4], words[rand() % 4]);
    return room;
}

static void agrees_with_asking_everybody(void **state) {
    static struct named named[RANDOM_INTERESTS];
    static char texts[RANDOM_INTERESTS][3][16];
    (void)state;
    srand(7);
    memset(named, 0, sizeof named);
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        int i = rand() % RANDOM_INTERESTS;
        char type[24], expected[CALLS_MAX] = {0};
        const char *subject = rand() % 2 == 0 ? "a/1" : "a/2";
        if (named[i].interest.set != NULL)
            bk_interests_remove(&named[i].interest);
        else
            add(&named[i], (char)('0' + i), rand() % 4 == 0 ? "a/1" : "",
                random_pattern(texts[i][0], 16), random_pattern(texts[i][1], 16), NULL);
        (void)snprintf(type, sizeof type, "%s.%s%s", words[rand() % 4], words[rand() % 4],
                       rand() % 2 == 0 ? ".b" : "");
        for (uint64_t order = 1; order <= (uint64_t)RANDOM_ROUNDS + 1; order++)
            for (int j = 0; j < RANDOM_INTERESTS; j++)
                if (named[j].interest.set != NULL && named[j].interest.order == order &&
                    bk_interest_matches(&named[j].interest, bk_slice_from(type),
                                        bk_slice_from(subject)))
                    expected[strlen(expected)] = named[j].letter;
        assert_string_equal(match(type, subject), expected);
    }
    for (int i = 0; i < RANDOM_INTERESTS; i++)
        bk_interests_remove(&named[i].interest);
}

static void its_memory_is_counted_and_given_back(void **state) {
    static struct named named[RANDOM_INTERESTS];
    struct named *first = &named[0];
    (void)state;
    memset(named, 0, sizeof named);
    assert_int_equal(bk_interests_bytes(set), 0);
    add(first, 'a', "", "posts.*", "*.deleted", NULL);
    size_t one = bk_interests_bytes(set), most = bk_interest_bytes_max(&first->interest);
    assert_true(one > 0);
    for (int i = 1; i < RANDOM_INTERESTS; i++)
        add(&named[i], (char)('a' + i), i % 2 == 0 ? "" : "posts/1", "posts.*", "*.deleted", NULL);
    assert_true(bk_interests_bytes(set) <= one + (RANDOM_INTERESTS - 1) * most);
    for (int i = RANDOM_INTERESTS - 1; i >= 0; i--)
        bk_interests_remove(&named[i].interest);
    assert_int_equal(bk_interests_bytes(set), 0);
}

/* --- tests of whole events -------------------------------------------------------------------- */

/* Holds for events whose payload is the key. */
struct counting_test {
    struct bk_event_test test;
    int *asked;
};

static bool on_test(const struct bk_event_test *test, const struct bk_event_fields *fields) {
    const struct counting_test *own = bk_const_container_of(test, struct counting_test, test);
    ++*own->asked;
    return bk_slice_equal(fields->payload, test->key);
}

static const char *match_event(const char *payload) {
    const struct bk_event_fields fields = {.type = BK_SLICE("posts.created"),
                                           .subject = BK_SLICE("posts/a"),
                                           .payload = bk_slice_from(payload)};
    memset(trace, 0, sizeof trace);
    bk_interests_match_event(set, &fields, on_match, NULL);
    return trace;
}

static void add_tested(struct named *named, char letter, const struct bk_event_test *test) {
    add(named, letter, "", "posts.*", NULL, NULL);
    bk_interests_remove(&named->interest);
    named->interest.test = test;
    assert_int_equal(bk_interests_add(set, &named->interest), BK_OK);
}

static void equal_tests_are_asked_once_for_an_event_whoever_has_left(void **state) {
    (void)state;
    int asked = 0;
    struct counting_test one = {{BK_SLICE("1"), on_test}, &asked}, same = one;
    struct counting_test two = {{BK_SLICE("2"), on_test}, &asked};
    struct named a, b, c, d;
    add_tested(&a, 'a', &one.test);
    add_tested(&b, 'b', &same.test);
    add_tested(&c, 'c', &two.test);
    add(&d, 'd', "", "posts.created", NULL, NULL);
    assert_string_equal(match_event("1"), "abd");
    assert_int_equal(asked, 2);
    assert_string_equal(match_event("2"), "cd");
    assert_int_equal(bk_interests_tested(set), 4);
    /* The one whose test was asked goes, and its memory with it. */
    bk_interests_remove(&a.interest);
    memset(&one, 0xff, sizeof one);
    assert_string_equal(match_event("1"), "bd");
    assert_string_equal(match("posts.created", "posts/a"), "bcd");
    bk_interests_remove(&b.interest);
    bk_interests_remove(&c.interest);
    asked = 0;
    assert_string_equal(match_event("1"), "d");
    assert_int_equal(asked, 0);
    bk_interests_remove(&d.interest);
    assert_int_equal(bk_interests_count(set), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(each_kind_of_pattern_is_found),
        TEST(one_with_many_patterns_is_called_once_at_its_place),
        TEST(what_is_removed_during_a_match_is_not_called),
        TEST(a_wrong_pattern_is_refused_whole),
        TEST(agrees_with_asking_everybody),
        TEST(its_memory_is_counted_and_given_back),
        TEST(equal_tests_are_asked_once_for_an_event_whoever_has_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
