/*
 * The query parameter `fields`: the input's first line is its value, the rest the JSON answer.
 *
 * Whatever both are: what comes out is JSON, holds nothing that the answer did not hold, in its
 * order, cut no further the second time; and with "*" everything stays.
 */
#include "fuzz.h"

#include "bakend/api.h"

enum { ARENA_BYTES_MAX = 16 * 1024 * 1024, TEXT_BYTES_MAX = 1024 * 1024 };

static void check_is_part(const struct bk_json *part, const struct bk_json *whole);

static void check_object(const struct bk_json *part, const struct bk_json *whole) {
    const struct bk_json *from = whole->child;
    for (const struct bk_json *member = part->child; member != NULL; member = member->next) {
        while (from != NULL && !bk_slice_equal(from->key, member->key))
            from = from->next;
        BK_ASSERT(from != NULL);
        check_is_part(member, from);
        from = from->next;
    }
}

static void check_is_part(const struct bk_json *part, const struct bk_json *whole) {
    BK_ASSERT(part->type == whole->type);
    if (part->type == BK_JSON_OBJECT) {
        check_object(part, whole);
        return;
    }
    if (part->type != BK_JSON_ARRAY) {
        BK_ASSERT(bk_slice_equal(part->text, whole->text));
        return;
    }
    BK_ASSERT(part->child_count == whole->child_count);
    for (part = part->child, whole = whole->child; part != NULL;
         part = part->next, whole = whole->next)
        check_is_part(part, whole);
}

static void check_picked(struct bk_arena *arena, struct bk_slice json, struct bk_slice fields,
                         const struct bk_buffer *picked) {
    struct bk_json *part, *whole;
    struct bk_buffer again;
    BK_ASSERT(bk_json_parse(arena, json, &whole, NULL) == BK_OK);
    BK_ASSERT(bk_json_parse(arena, bk_buffer_slice(picked), &part, NULL) == BK_OK);
    check_is_part(part, whole);
    BK_ASSERT(!bk_slice_is(fields, "*") || part->child_count == whole->child_count);
    bk_buffer_init(&again, TEXT_BYTES_MAX);
    BK_ASSERT(bk_fields_pick(arena, bk_buffer_slice(picked), fields, &again) == BK_OK);
    BK_ASSERT(bk_slice_equal(bk_buffer_slice(picked), bk_buffer_slice(&again)));
    bk_buffer_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size), rest = copy;
    struct bk_slice fields = fuzz_take(&rest, '\n');
    struct bk_arena arena;
    struct bk_buffer out;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bk_buffer_init(&out, TEXT_BYTES_MAX);
    enum bk_status status = bk_fields_pick(&arena, rest, fields, &out);
    if (status == BK_OK)
        check_picked(&arena, rest, fields, &out);
    else
        BK_ASSERT(status == BK_INVALID || status == BK_TOO_LARGE ||
                  (status == BK_LIMIT && !bk_fields_fit(fields)));
    bk_buffer_fini(&out);
    bk_arena_fini(&arena);
    fuzz_free(copy);
    return 0;
}
