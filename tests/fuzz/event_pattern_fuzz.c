/*
 * Patterns of events, and the index of those who wait for them.
 *
 * The input's lines: a type, a subject, then one interest a line: patterns separated by commas and,
 * behind a blank, a subject; one that begins with '!' removes those behind it when it is told.
 *
 * Whatever they are: the index finds those whose patterns match one by one, each once, in the order
 * in which they were added, and leaves out those that were removed meanwhile; and a pattern matches
 * what a second reading of its rules says.
 */
#include "fuzz.h"

#include "bakend/interest.h"

enum { INTERESTS_MAX = 32, TYPES_MAX = 8 };

struct reader {
    struct bk_interest interest;
    struct bk_slice types[TYPES_MAX];
    size_t index;
    bool removes, is_told;
};

struct world {
    struct bk_interests *set;
    struct reader readers[INTERESTS_MAX];
    size_t count, told_count, last_told;
    struct bk_slice type, subject;
};

/* --- a second reading of the rules ------------------------------------------------------------ */

static size_t word_length(struct bk_slice text) { return bk_slice_find(text, '.'); }

static struct bk_slice behind(struct bk_slice text, size_t length) {
    return length < text.length ? bk_slice_make(text.data + length + 1, text.length - length - 1)
                                : BK_SLICE_EMPTY;
}

static bool matches_from(struct bk_slice pattern, struct bk_slice type) {
    size_t wanted = word_length(pattern), word = word_length(type);
    bool is_star = wanted == 1 && pattern.data[0] == '*';
    if (is_star && wanted == pattern.length)
        return true; /* the last star stands for all that is left */
    if (!is_star &&
        !bk_slice_equal(bk_slice_make(pattern.data, wanted), bk_slice_make(type.data, word)))
        return false;
    if (wanted == pattern.length || word == type.length)
        return wanted == pattern.length && word == type.length;
    return matches_from(behind(pattern, wanted), behind(type, word));
}

static bool matches(struct bk_slice pattern, struct bk_slice type) {
    bool is_internal = type.data[0] == '_';
    if (bk_slice_is(pattern, "_*"))
        return is_internal;
    if (pattern.data[0] == '*' && is_internal)
        return false;
    return matches_from(pattern, type);
}

static bool is_wanted(const struct reader *reader, const struct world *world) {
    const struct bk_interest *interest = &reader->interest;
    bool does_match = interest->type_count == 0 && world->type.data[0] != '_';
    for (size_t i = 0; i < interest->type_count; i++) {
        bool is_match = bk_event_pattern_matches(reader->types[i], world->type);
        BK_ASSERT(is_match == matches(reader->types[i], world->type));
        does_match = does_match || is_match;
    }
    return does_match &&
           (interest->subject.length == 0 || bk_slice_equal(interest->subject, world->subject));
}

/* --- the index -------------------------------------------------------------------------------- */

static void on_match(struct bk_interest *interest, void *user) {
    struct world *world = user;
    struct reader *reader = bk_container_of(interest, struct reader, interest);
    BK_ASSERT(!reader->is_told && interest->set == world->set);
    BK_ASSERT(world->told_count == 0 || world->last_told < reader->index);
    reader->is_told = true;
    world->last_told = reader->index;
    world->told_count++;
    for (size_t i = 0; reader->removes && i < world->count; i++)
        if (i % 2 == 0)
            bk_interests_remove(&world->readers[i].interest);
}

static void read_interest(struct world *world, struct bk_slice line) {
    struct reader *reader = &world->readers[world->count];
    struct bk_slice types = fuzz_take(&line, ' ');
    *reader = (struct reader){.index = world->count};
    reader->removes = types.length > 0 && types.data[0] == '!';
    if (reader->removes)
        types = bk_slice_make(types.data + 1, types.length - 1);
    while (types.length > 0 && reader->interest.type_count < TYPES_MAX) {
        struct bk_slice type = fuzz_take(&types, ',');
        bool is_valid = bk_event_pattern_is_valid(type);
        /* A type may be waited for by its name. */
        BK_ASSERT(is_valid || !bk_event_type_is_valid(type));
        reader->types[reader->interest.type_count++] = type;
    }
    reader->interest.types = reader->types;
    reader->interest.subject = line;
    if (bk_interests_add(world->set, &reader->interest) == BK_OK)
        world->count++;
}

/* Plays the match by hand, and compares. */
static void check(struct world *world) {
    bool is_removed[INTERESTS_MAX] = {false};
    bool is_expected[INTERESTS_MAX] = {false};
    for (size_t i = 0; i < world->count; i++) {
        const struct reader *reader = &world->readers[i];
        bool does_match = is_wanted(reader, world);
        BK_ASSERT(does_match ==
                  bk_interest_matches(&reader->interest, world->type, world->subject));
        is_expected[i] = does_match && !is_removed[i];
        for (size_t k = 0; is_expected[i] && reader->removes && k < world->count; k += 2)
            is_removed[k] = true;
    }
    bk_interests_match(world->set, world->type, world->subject, on_match, world);
    for (size_t i = 0; i < world->count; i++)
        BK_ASSERT(world->readers[i].is_told == is_expected[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct world world;
    struct bk_slice copy = fuzz_copy(data, size), rest = copy;
    world.count = world.told_count = 0;
    world.set = bk_interests_create();
    world.type = fuzz_take(&rest, '\n');
    world.subject = fuzz_take(&rest, '\n');
    while (rest.length > 0 && world.count < INTERESTS_MAX)
        read_interest(&world, fuzz_take(&rest, '\n'));
    if (bk_event_type_is_valid(world.type))
        check(&world);
    for (size_t i = 0; i < world.count; i++)
        bk_interests_remove(&world.readers[i].interest);
    bk_interests_destroy(world.set);
    fuzz_free(copy);
    return 0;
}
