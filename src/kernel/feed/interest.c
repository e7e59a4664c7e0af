/*
 * The index of interests. Each pattern of an interest stands in one bucket:
 *
 *   subjects   those that name a subject: by subject; their types are looked at one by one
 *   types      "posts.created"   by the type itself
 *   prefixes   "posts.*"         by "posts.": an event looks there once for each of its dots
 *   general    "*", "_*", "*.created" …: a list, one bucket for each distinct pattern
 *
 * What is left after that is put to its test, where it has one: equal tests are one in the set,
 * with its answer for the event under way.
 *
 * So an event costs a few look-ups, one comparison for each distinct general pattern, and those
 * that it concerns. They are gathered in an array first and put in the order in which they were
 * added; an interest knows its slot there, so that removing it during the walk empties the slot and
 * its memory is not touched again.
 */
#include "bakend/interest.h"

#include "bakend/alloc.h"
#include "bakend/list.h"
#include "bakend/map.h"

#include <stdlib.h>

struct bucket {
    struct bk_list entries; /* interest_entry.link, in the order of adding */
    struct bk_list link;    /* of the general ones */
    struct bk_map *map;     /* of the others */
    struct bk_slice key;    /* in this allocation */
};

/* One pattern of one interest, or its subject. */
struct interest_entry {
    struct bk_list link;
    struct bucket *bucket;
    struct bk_interest *interest;
};

/* Of all interests whose tests are equal: one of these is asked. */
struct interest_test {
    struct bk_list interests;
    uint64_t match; /* that it was asked in last … */
    bool holds;     /* … and its answer */
};

struct bk_interests {
    struct bk_map types, prefixes, subjects; /* of struct bucket */
    struct bk_map tests;                     /* of struct interest_test */
    uint64_t tested;
    struct bk_list general;
    size_t count;
    size_t bytes;                 /* of buckets and entries */
    uint64_t order, match;        /* the last ones given out */
    struct bk_interest **matched; /* of the match under way; NULL: removed meanwhile */
    size_t matched_count, matched_capacity;
    bool is_matching, is_mixed; /* mixed: from more than one bucket */
};

enum {
    MATCHED_AT_FIRST = 16,
    ALLOCATION_BYTES = 16,     /* that an allocation takes beside its own */
    TABLE_SLOTS_PER_KEY = 3,   /* of a map, at most: it doubles when it is three quarters full */
    MATCHED_SLOTS_PER_ONE = 2, /* of the array of matches, likewise */
};

static const struct bk_slice everything = BK_SLICE_INIT("*");

/* --- life cycle ------------------------------------------------------------------------------- */

struct bk_interests *bk_interests_create(void) {
    struct bk_interests *set = bk_alloc_zero(sizeof *set);
    bk_map_init(&set->types);
    bk_map_init(&set->prefixes);
    bk_map_init(&set->subjects);
    bk_map_init(&set->tests);
    bk_list_init(&set->general);
    return set;
}

void bk_interests_destroy(struct bk_interests *set) {
    BK_ASSERT(set->count == 0 && !set->is_matching);
    bk_map_fini(&set->types);
    bk_map_fini(&set->prefixes);
    bk_map_fini(&set->subjects);
    bk_map_fini(&set->tests);
    bk_free(set->matched);
    bk_free(set);
}

size_t bk_interests_count(const struct bk_interests *set) { return set->count; }

/* --- what it takes ---------------------------------------------------------------------------- */

static size_t bucket_bytes(size_t key_length) {
    return ALLOCATION_BYTES + sizeof(struct bucket) + key_length;
}

static size_t entries_bytes(size_t count) {
    return ALLOCATION_BYTES + count * sizeof(struct interest_entry);
}

static size_t table_bytes(const struct bk_map *map) {
    return map->capacity * sizeof(struct bk_map_entry);
}

size_t bk_interests_bytes(const struct bk_interests *set) {
    return set->bytes + table_bytes(&set->types) + table_bytes(&set->prefixes) +
           table_bytes(&set->subjects) + table_bytes(&set->tests) +
           set->matched_capacity * sizeof(struct bk_interest *);
}

static size_t table_growth(const struct bk_map *map) {
    bool is_full = 4 * (map->count + 1) > 3 * map->capacity;
    return is_full ? table_bytes(map) : 0;
}

size_t bk_interests_growth(const struct bk_interests *set) {
    return table_growth(&set->types) + table_growth(&set->prefixes) + table_growth(&set->subjects);
}

size_t bk_interest_bytes_max(const struct bk_interest *interest) {
    const size_t per_key = TABLE_SLOTS_PER_KEY * sizeof(struct bk_map_entry);
    bool has_subject = interest->subject.length > 0;
    size_t count = interest->type_count == 0 || has_subject ? 1 : interest->type_count;
    size_t bytes = entries_bytes(count) + MATCHED_SLOTS_PER_ONE * sizeof(struct bk_interest *);
    if (has_subject)
        return bytes + bucket_bytes(interest->subject.length) + per_key;
    for (size_t i = 0; i < count; i++) {
        size_t length = interest->type_count == 0 ? everything.length : interest->types[i].length;
        bytes += bucket_bytes(length) + per_key;
    }
    return bytes;
}

/* --- buckets ---------------------------------------------------------------------------------- */

static struct bucket *create_bucket(struct bk_interests *set, struct bk_slice key) {
    struct bucket *bucket = bk_alloc(sizeof *bucket + key.length);
    char *text = (char *)(bucket + 1);
    memcpy(text, key.data, key.length);
    *bucket = (struct bucket){.key = bk_slice_make(text, key.length)};
    bk_list_init(&bucket->entries);
    bk_list_init(&bucket->link);
    set->bytes += bucket_bytes(key.length);
    return bucket;
}

static struct bucket *bucket_in(struct bk_interests *set, struct bk_map *map, struct bk_slice key) {
    struct bucket *bucket = bk_map_get(map, key);
    if (bucket != NULL)
        return bucket;
    bucket = create_bucket(set, key);
    bucket->map = map;
    bk_map_put(map, bucket->key, bucket);
    return bucket;
}

static struct bucket *general_bucket(struct bk_interests *set, struct bk_slice pattern) {
    BK_LIST_FOR_EACH(node, &set->general) {
        struct bucket *bucket = bk_container_of(node, struct bucket, link);
        if (bk_slice_equal(bucket->key, pattern))
            return bucket;
    }
    struct bucket *bucket = create_bucket(set, pattern);
    bk_list_push(&set->general, &bucket->link);
    return bucket;
}

static struct bucket *bucket_of(struct bk_interests *set, struct bk_slice pattern) {
    size_t star = bk_slice_find(pattern, '*');
    if (star == pattern.length)
        return bucket_in(set, &set->types, pattern);
    if (star + 1 == pattern.length && star > 0 && pattern.data[star - 1] == '.')
        return bucket_in(set, &set->prefixes, bk_slice_make(pattern.data, star));
    return general_bucket(set, pattern);
}

static void leave_map(struct bk_map *map, struct bk_slice key) {
    bk_map_remove(map, key);
    if (map->count > 0)
        return;
    bk_map_fini(map); /* the table of what was once there */
    bk_map_init(map);
}

static void leave_bucket(struct bk_interests *set, struct interest_entry *entry) {
    struct bucket *bucket = entry->bucket;
    bk_list_remove(&entry->link);
    if (!bk_list_is_empty(&bucket->entries))
        return;
    bk_list_remove(&bucket->link);
    if (bucket->map != NULL)
        leave_map(bucket->map, bucket->key);
    set->bytes -= bucket_bytes(bucket->key.length);
    bk_free(bucket);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void share_test(struct bk_interests *set, struct bk_interest *interest) {
    struct interest_test *shared = bk_map_get(&set->tests, interest->test->key);
    if (shared == NULL) {
        shared = bk_alloc_zero(sizeof *shared);
        bk_list_init(&shared->interests);
        bk_map_put(&set->tests, interest->test->key, shared);
        set->bytes += ALLOCATION_BYTES + sizeof *shared;
    }
    bk_list_init(&interest->of_shared);
    bk_list_push(&shared->interests, &interest->of_shared);
    interest->shared = shared;
}

static const struct bk_event_test *test_of(const struct interest_test *shared) {
    return bk_const_container_of(shared->interests.next, struct bk_interest, of_shared)->test;
}

static void leave_test(struct bk_interests *set, struct bk_interest *interest) {
    struct interest_test *shared = interest->shared;
    interest->shared = NULL;
    if (shared == NULL)
        return;
    bk_list_remove(&interest->of_shared);
    if (!bk_list_is_empty(&shared->interests)) {
        bk_map_put(&set->tests, test_of(shared)->key, shared); /* the key of one that stays */
        return;
    }
    leave_map(&set->tests, interest->test->key);
    set->bytes -= ALLOCATION_BYTES + sizeof *shared;
    bk_free(shared);
}

static bool passes(struct bk_interests *set, struct interest_test *shared,
                   const struct bk_event_fields *fields) {
    if (shared == NULL || fields == NULL)
        return true;
    if (shared->match != set->match) {
        const struct bk_event_test *test = test_of(shared);
        shared->match = set->match;
        shared->holds = test->holds(test, fields);
        set->tested++;
    }
    return shared->holds;
}

uint64_t bk_interests_tested(const struct bk_interests *set) { return set->tested; }

/* --- adding and removing ---------------------------------------------------------------------- */

static void enter_bucket(struct bk_interest *interest, struct bucket *bucket) {
    struct interest_entry *entry = &interest->entries[interest->entry_count++];
    *entry = (struct interest_entry){.bucket = bucket, .interest = interest};
    bk_list_init(&entry->link);
    bk_list_push(&bucket->entries, &entry->link);
}

enum bk_status bk_interests_add(struct bk_interests *set, struct bk_interest *interest) {
    bool has_subject = interest->subject.length > 0;
    const struct bk_slice *types = interest->type_count == 0 ? &everything : interest->types;
    size_t type_count = interest->type_count == 0 ? 1 : interest->type_count;
    BK_ASSERT(interest->set == NULL);
    for (size_t i = 0; i < type_count; i++)
        if (!bk_event_pattern_is_valid(types[i]))
            return BK_INVALID;
    interest->set = set;
    interest->order = ++set->order;
    interest->seen = 0;
    interest->entry_count = 0;
    interest->entries = bk_alloc(sizeof(struct interest_entry) * (has_subject ? 1 : type_count));
    if (has_subject)
        enter_bucket(interest, bucket_in(set, &set->subjects, interest->subject));
    for (size_t i = 0; !has_subject && i < type_count; i++)
        enter_bucket(interest, bucket_of(set, types[i]));
    if (interest->test != NULL)
        share_test(set, interest);
    set->bytes += entries_bytes(interest->entry_count);
    set->count++;
    return BK_OK;
}

void bk_interests_remove(struct bk_interest *interest) {
    struct bk_interests *set = interest->set;
    if (set == NULL)
        return;
    if (set->is_matching && interest->seen == set->match)
        set->matched[interest->slot] = NULL;
    for (uint32_t i = 0; i < interest->entry_count; i++)
        leave_bucket(set, &interest->entries[i]);
    leave_test(set, interest);
    set->bytes -= entries_bytes(interest->entry_count);
    bk_free(interest->entries);
    interest->entries = NULL;
    interest->entry_count = 0;
    interest->set = NULL;
    set->count--;
}

/* --- matching --------------------------------------------------------------------------------- */

static bool types_match(const struct bk_interest *interest, struct bk_slice type) {
    if (interest->type_count == 0)
        return bk_event_pattern_matches(everything, type);
    for (size_t i = 0; i < interest->type_count; i++)
        if (bk_event_pattern_matches(interest->types[i], type))
            return true;
    return false;
}

bool bk_interest_matches(const struct bk_interest *interest, struct bk_slice type,
                         struct bk_slice subject) {
    if (interest->subject.length > 0 && !bk_slice_equal(interest->subject, subject))
        return false;
    return types_match(interest, type);
}

static void gather(struct bk_interests *set, struct bk_interest *interest) {
    if (interest->seen == set->match)
        return;
    if (set->matched_count == set->matched_capacity) {
        size_t capacity = set->matched_capacity == 0 ? MATCHED_AT_FIRST : 2 * set->matched_capacity;
        set->matched = bk_realloc(set->matched, capacity * sizeof(struct bk_interest *));
        set->matched_capacity = capacity;
    }
    interest->seen = set->match;
    interest->slot = (uint32_t)set->matched_count;
    set->matched[set->matched_count++] = interest;
}

/* type: NULL data when the bucket says all there is to say about it. */
static void gather_bucket(struct bk_interests *set, struct bucket *bucket, struct bk_slice type) {
    if (bucket == NULL)
        return;
    set->is_mixed = set->is_mixed || set->matched_count > 0;
    BK_LIST_FOR_EACH(node, &bucket->entries) {
        struct interest_entry *entry = bk_container_of(node, struct interest_entry, link);
        if (type.data == NULL || types_match(entry->interest, type))
            gather(set, entry->interest);
    }
}

static void gather_all(struct bk_interests *set, struct bk_slice type, struct bk_slice subject) {
    gather_bucket(set, bk_map_get(&set->types, type), BK_SLICE_EMPTY);
    for (size_t i = 0; set->prefixes.count > 0 && i < type.length; i++)
        if (type.data[i] == '.')
            gather_bucket(set, bk_map_get(&set->prefixes, bk_slice_make(type.data, i + 1)),
                          BK_SLICE_EMPTY);
    BK_LIST_FOR_EACH(node, &set->general) {
        struct bucket *bucket = bk_container_of(node, struct bucket, link);
        if (bk_event_pattern_matches(bucket->key, type))
            gather_bucket(set, bucket, BK_SLICE_EMPTY);
    }
    if (subject.length > 0)
        gather_bucket(set, bk_map_get(&set->subjects, subject), type);
}

static int compare_order(const void *left, const void *right) {
    const struct bk_interest *a = *(struct bk_interest *const *)left;
    const struct bk_interest *b = *(struct bk_interest *const *)right;
    return a->order < b->order ? -1 : a->order > b->order;
}

static void sort_matched(struct bk_interests *set) {
    qsort(set->matched, set->matched_count, sizeof(struct bk_interest *), compare_order);
    for (size_t i = 0; i < set->matched_count; i++)
        set->matched[i]->slot = (uint32_t)i;
}

static void match(struct bk_interests *set, struct bk_slice type, struct bk_slice subject,
                  const struct bk_event_fields *fields,
                  void (*on_match)(struct bk_interest *interest, void *user), void *user) {
    BK_ASSERT(!set->is_matching);
    if (set->count == 0)
        return;
    set->match++;
    set->matched_count = 0;
    set->is_mixed = false;
    set->is_matching = true;
    gather_all(set, type, subject);
    if (set->is_mixed)
        sort_matched(set);
    for (size_t i = 0; i < set->matched_count; i++)
        if (set->matched[i] != NULL && passes(set, set->matched[i]->shared, fields))
            on_match(set->matched[i], user);
    set->is_matching = false;
}

void bk_interests_match(struct bk_interests *set, struct bk_slice type, struct bk_slice subject,
                        void (*on_match)(struct bk_interest *interest, void *user), void *user) {
    match(set, type, subject, NULL, on_match, user);
}

void bk_interests_match_event(struct bk_interests *set, const struct bk_event_fields *fields,
                              void (*on_match)(struct bk_interest *interest, void *user),
                              void *user) {
    match(set, fields->type, fields->subject, fields, on_match, user);
}
