/*
 * SELECTs of views through the schema's reader, which only guesses what SQLite will decide.
 *
 * Whatever the bytes: it comes to an end, it finds no more names than there are commas, and what it
 * finds is the same when the query is read again with spaces around it.
 */
#include "fuzz.h"

#include "kernel/schema/schema_private.h"

enum { ARENA_BYTES_MAX = 16 * 1024 * 1024 };

static uint32_t count_commas(struct bk_slice text) {
    uint32_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += text.data[i] == ',';
    return count;
}

static void check_same(const struct schema_view_name *a, const struct schema_view_name *b,
                       uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        BK_ASSERT(bk_slice_equal(a[i].original, b[i].original));
        BK_ASSERT(bk_slice_equal(a[i].alias, b[i].alias));
    }
}

static void check(struct bk_slice text, struct bk_arena *arena) {
    struct schema_view_query query, again;
    struct bk_error error = BK_ERROR_INIT;
    (void)schema_view_query_is_single(text);
    enum bk_status status = schema_view_query_read(text, arena, &query, &error);
    BK_ASSERT(status == BK_OK || error.message[0] != '\0');
    if (status != BK_OK || arena->is_overflown)
        return;
    BK_ASSERT(query.column_count <= count_commas(text) + 1);
    struct bk_slice spaced = bk_arena_format(arena, "\n %.*s \n", BK_SLICE_PRINT(text));
    if (arena->is_overflown || memchr(text.data == NULL ? "" : text.data, '\0', text.length))
        return;
    BK_ASSERT(schema_view_query_read(spaced, arena, &again, &error) == BK_OK);
    BK_ASSERT(query.column_count == again.column_count && query.table_count == again.table_count);
    check_same(query.columns, again.columns, query.column_count);
    check_same(query.tables, again.tables, query.table_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice text = fuzz_copy(data, size);
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    check(text, &arena);
    bk_arena_fini(&arena);
    fuzz_free(text);
    return 0;
}
