/* What modules ask of texts and indexes that are not their own: judged as the fields of records and
 * the rules of definitions judge theirs. */
#include "schema_private.h"
#include "types/types.h"

bool bk_url_is_valid(struct bk_slice text) { return schema_url_is_valid(text); }

bool bk_email_is_valid(struct bk_slice text) { return schema_email_is_valid(text); }

/* A pattern of the schema's under the name that modules know. */
struct bk_pattern *bk_pattern_compile(struct bk_slice text, struct bk_arena *arena,
                                      struct bk_error *error) {
    return (struct bk_pattern *)schema_pattern_compile(text, arena, error);
}

bool bk_pattern_matches(const struct bk_pattern *pattern, struct bk_slice text) {
    return schema_pattern_matches((const struct schema_pattern *)pattern, text);
}

bool bk_collection_unique_collation(const struct bk_collection *collection, struct bk_slice column,
                                    struct bk_arena *scratch, struct bk_slice *collation) {
    for (uint32_t i = 0; i < collection->index_count; i++) {
        struct schema_index index;
        if (!schema_index_parse(collection->indexes[i].sql, scratch, &index) || !index.is_unique ||
            index.column_count != 1 || !bk_slice_equal_ignore_case(index.columns[0].name, column))
            continue;
        *collation = index.columns[0].collation;
        return true;
    }
    return false;
}
