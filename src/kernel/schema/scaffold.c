/* What a new collection of a type has before anything is said of it: the form that the dashboard
 * and the SDKs begin with. The names of its indexes have a random part, since it has no id yet. */
#include "schema_private.h"

#include "bakend/id.h"

enum { RANDOM_ID_BYTES = 10 };

enum bk_status bk_schema_write_scaffold(const struct bk_schema_kind *kind,
                                        enum bk_collection_type type, struct bk_buffer *out) {
    static const char *const names[] = {"base", "auth", "view"};
    struct bk_arena arena;
    struct bk_problems ignored;
    struct bk_json *definition;
    char id[RANDOM_ID_BYTES];
    struct schema_box *box = schema_box_create();
    bk_arena_init(&arena, SCHEMA_BOX_BYTES_MAX);
    bk_problems_init(&ignored, &arena);
    bk_random_text(id, sizeof id, BK_SLICE("abcdefghijklmnopqrstuvwxyz0123456789"));
    struct bk_slice text = bk_arena_format(&arena, "{\"id\":\"%.*s\",\"type\":\"%s\"}",
                                           RANDOM_ID_BYTES, id, names[type]);
    enum bk_status status = bk_json_parse(&arena, text, &definition, NULL);
    const struct schema_source source = {.given = status == BK_OK ? definition : NULL,
                                         .arena = &arena};
    if (status == BK_OK)
        status = schema_definition_read(kind, &source, box, &ignored, NULL);
    if (status == BK_OK) {
        schema_definition_set_id(box, NULL); /* has one: its indexes are named after it */
        box->collection.id = box->collection.created = box->collection.updated = BK_SLICE("");
        schema_definition_write(&box->collection, out);
        status = bk_buffer_status(out);
    }
    bk_arena_fini(&arena);
    schema_box_unref(box);
    return status;
}
