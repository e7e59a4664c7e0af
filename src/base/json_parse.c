/*
 * Parsing in three steps:
 *
 *   1. the gate (json_gate.c) reads the text strictly and makes the outline of the tree;
 *   2. cJSON reads the same text, with all its memory taken from the caller's arena;
 *   3. both trees are walked side by side: keys and strings are taken over from cJSON's, and
 *      objects with a name twice are refused. Where the two readers disagree about the shape of the
 *      text it is refused too: a difference between parsers is what attacks are made of.
 *
 * cJSON's hooks are global and set once. They find the arena through a thread-local pointer, and
 * freeing is left to the arena. cJSON also writes a global with the place of its last error, from
 * any thread; nobody here reads it.
 */
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/json.h"
#include "bakend/map.h"

#include "json_gate.h"
#include "utf8.h"
#include <cjson/cJSON.h>
#include <pthread.h>

enum {
    PAIRWISE_MEMBERS_MAX = 16, /* up to here comparing all pairs is cheaper than hashing */
    SHOWN_KEY_BYTES = 64
};

static _Thread_local struct bk_arena *hook_arena;
static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

/* Outside of a parse of ours the hooks serve the heap, for a library that uses cJSON as well. */
static void *on_cjson_alloc(size_t size_bytes) {
    if (hook_arena == NULL)
        return bk_try_alloc(size_bytes);
    void *memory = bk_arena_alloc(hook_arena, size_bytes);
    return hook_arena->is_overflown ? NULL : memory;
}

static void on_cjson_free(void *memory) {
    if (hook_arena == NULL)
        bk_free(memory);
}

static void install_hooks(void) {
    cJSON_Hooks hooks = {.malloc_fn = on_cjson_alloc, .free_fn = on_cjson_free};
    cJSON_InitHooks(&hooks);
}

/* The whole of text, a single value without space around it, or NULL. */
static const cJSON *read_with_cjson(struct bk_arena *arena, struct bk_slice text) {
    BK_ASSERT(hook_arena == NULL);
    pthread_once(&hooks_once, install_hooks);
    const char *end = NULL;
    hook_arena = arena;
    const cJSON *tree = cJSON_ParseWithLengthOpts(text.data, text.length, &end, false);
    hook_arena = NULL;
    return end == text.data + text.length ? tree : NULL;
}

/* What step 3 carries down the tree. */
struct merge {
    struct bk_arena *arena;
    const char *start;
    struct bk_error *error;
};

static enum bk_status disagree(const struct merge *merge, const struct bk_json *node) {
    return bk_error_set(merge->error, BK_INVALID, "byte %zu: the text is not valid JSON",
                        (size_t)(node->text.data - merge->start));
}

/* The name is the sender's: it is cut between characters, and its controls do not reach a log. */
static enum bk_status refuse_duplicate(const struct merge *merge, const struct bk_json *member) {
    char shown[SHOWN_KEY_BYTES];
    size_t length = 0;
    while (length < member->key.length) {
        const char *rest = member->key.data + length;
        size_t step = utf8_sequence_length(rest, member->key.length - length);
        BK_ASSERT(step > 0);
        if (step > sizeof shown - length)
            break;
        memcpy(shown + length, rest, step);
        if ((unsigned char)*rest < 0x20 || *rest == 0x7F)
            shown[length] = '?';
        length += step;
    }
    return bk_error_set(merge->error, BK_INVALID, "byte %zu: the object has \"%.*s\" twice",
                        (size_t)(member->text.data - merge->start), (int)length, shown);
}

static enum bk_status check_pairwise(const struct merge *merge, const struct bk_json *object) {
    for (const struct bk_json *later = object->child; later != NULL; later = later->next) {
        for (const struct bk_json *sooner = object->child; sooner != later; sooner = sooner->next) {
            if (bk_slice_equal(sooner->key, later->key))
                return refuse_duplicate(merge, later);
        }
    }
    return BK_OK;
}

static enum bk_status check_hashed(const struct merge *merge, const struct bk_json *object) {
    size_t capacity = 64;
    while (capacity < (size_t)object->child_count * 2)
        capacity *= 2;
    const struct bk_json **slots = bk_arena_alloc_zero(merge->arena, capacity * sizeof *slots);
    if (merge->arena->is_overflown)
        return bk_error_set(merge->error, bk_arena_status(merge->arena),
                            "the text takes more memory than it may");
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        size_t slot = (size_t)bk_map_hash(member->key) & (capacity - 1);
        while (slots[slot] != NULL) {
            if (bk_slice_equal(slots[slot]->key, member->key))
                return refuse_duplicate(merge, member);
            slot = (slot + 1) & (capacity - 1);
        }
        slots[slot] = member;
    }
    return BK_OK;
}

static enum bk_status check_duplicates(const struct merge *merge, const struct bk_json *object) {
    return object->child_count <= PAIRWISE_MEMBERS_MAX ? check_pairwise(merge, object)
                                                       : check_hashed(merge, object);
}

static bool is_same_type(const cJSON *item, const struct bk_json *node) {
    switch (node->type) {
    case BK_JSON_NULL:
        return cJSON_IsNull(item);
    case BK_JSON_BOOL:
        return node->boolean ? cJSON_IsTrue(item) : cJSON_IsFalse(item);
    case BK_JSON_NUMBER:
        return cJSON_IsNumber(item);
    case BK_JSON_STRING:
        return cJSON_IsString(item) && item->valuestring != NULL;
    case BK_JSON_ARRAY:
        return cJSON_IsArray(item);
    case BK_JSON_OBJECT:
        return cJSON_IsObject(item);
    }
    BK_UNREACHABLE();
}

/* Recursive, no deeper than the gate has let through. */
static enum bk_status merge_value(const struct merge *merge, const cJSON *item,
                                  struct bk_json *node) {
    if (!is_same_type(item, node))
        return disagree(merge, node);
    if (node->type == BK_JSON_STRING)
        node->string = bk_slice_from(item->valuestring);
    const cJSON *item_child = item->child;
    for (struct bk_json *child = node->child; child != NULL; child = child->next) {
        if (item_child == NULL)
            return disagree(merge, node);
        if (node->type == BK_JSON_OBJECT) {
            if (item_child->string == NULL)
                return disagree(merge, child);
            child->key = bk_slice_from(item_child->string);
        }
        enum bk_status status = merge_value(merge, item_child, child);
        if (status != BK_OK)
            return status;
        item_child = item_child->next;
    }
    if (item_child != NULL)
        return disagree(merge, node);
    return node->type == BK_JSON_OBJECT ? check_duplicates(merge, node) : BK_OK;
}

enum bk_status bk_json_parse(struct bk_arena *arena, struct bk_slice text, struct bk_json **value,
                             struct bk_error *error) {
    BK_ASSERT(arena != NULL && value != NULL);
    if (arena->is_overflown)
        return bk_error_set(error, bk_arena_status(arena),
                            "the text takes more memory than it may");
    struct json_gate gate;
    struct bk_json *root = json_gate_read(&gate, arena, text);
    if (root == NULL)
        return bk_error_set(error, gate.status, "byte %zu: %s", (size_t)(gate.cursor - gate.start),
                            gate.reason);
    struct merge merge = {.arena = arena, .start = gate.start, .error = error};
    struct bk_slice span = root->text;
    if (gate.patched != NULL)
        span.data = gate.patched + (root->text.data - gate.start);
    const cJSON *tree = read_with_cjson(arena, span);
    if (tree == NULL) {
        if (arena->is_overflown)
            return bk_error_set(error, bk_arena_status(arena),
                                "the text takes more memory than it may");
        return disagree(&merge, root);
    }
    enum bk_status status = merge_value(&merge, tree, root);
    if (status == BK_OK)
        *value = root;
    return status;
}

const struct bk_json *bk_json_get(const struct bk_json *object, struct bk_slice key) {
    if (object == NULL || object->type != BK_JSON_OBJECT)
        return NULL;
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        if (bk_slice_equal(member->key, key))
            return member;
    }
    return NULL;
}

struct bk_slice bk_json_get_string(const struct bk_json *object, struct bk_slice key) {
    const struct bk_json *member = bk_json_get(object, key);
    return member != NULL ? member->string : BK_SLICE_EMPTY;
}
