/*
 * What an auth collection has beyond a base one. Its options are kept as the JSON they were given
 * in, one member each, with defaults for those that were not given; who uses one (the auth module)
 * reads it there. The secret that its tokens are signed with is made once and never part of the
 * definition.
 */
#include "schema_private.h"

#include "bakend/assert.h"
#include "bakend/id.h"

struct option {
    const char *name, *fallback;
};

/* Durations in seconds: the contract's. */
static const struct option options[] = {
    {"authRule", "\"\""},
    {"manageRule", "null"},
    {"authAlert", "{\"enabled\":true}"},
    {"oauth2", "{\"enabled\":false,\"mappedFields\":{\"id\":\"\",\"name\":\"\",\"username\":\"\","
               "\"avatarURL\":\"\"},\"providers\":[]}"},
    {"passwordAuth", "{\"enabled\":true,\"identityFields\":[\"email\"]}"},
    {"mfa", "{\"enabled\":false,\"duration\":600,\"rule\":\"\"}"},
    {"otp", "{\"enabled\":false,\"duration\":180,\"length\":8}"},
    {"authToken", "{\"duration\":432000}"},
    {"passwordResetToken", "{\"duration\":1800}"},
    {"emailChangeToken", "{\"duration\":1800}"},
    {"verificationToken", "{\"duration\":86400}"},
    {"fileToken", "{\"duration\":180}"},
};

void schema_auth_options_read(const struct schema_source *source, struct schema_box *box) {
    struct bk_buffer out;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    for (size_t i = 0; i < BK_COUNT_OF(options); i++) {
        const struct bk_json *member = schema_source_get(source, options[i].name);
        bk_json_write_member_raw(&out, bk_slice_from(options[i].name),
                                 member == NULL ? bk_slice_from(options[i].fallback)
                                                : member->text);
    }
    box->collection.options =
        out.is_overflown ? BK_SLICE_EMPTY : bk_arena_copy(&box->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    schema_auth_indexes_add(box);
    if (box->collection.token_secret.length > 0)
        return;
    char secret[SCHEMA_TOKEN_SECRET_BYTES];
    bk_random_text(secret, sizeof secret,
                   BK_SLICE("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"));
    box->collection.token_secret = bk_arena_copy(&box->arena, bk_slice_make(secret, sizeof secret));
}

void schema_auth_options_check(const struct bk_json *given, const struct bk_json *former,
                               struct bk_problems *problems) {
    for (size_t i = 0; i < BK_COUNT_OF(options); i++) {
        struct bk_slice name = bk_slice_from(options[i].name);
        const struct bk_json *wanted = bk_json_get(given, name), *kept = bk_json_get(former, name);
        if (wanted == NULL || kept == NULL || bk_slice_equal(wanted->text, kept->text))
            continue;
        bk_problems_add(problems, name, "validation_option_not_available",
                        "This option cannot be changed yet: leave it out or send it as it is.");
    }
}

static void add_index(struct schema_box *box, const char *field, const char *condition) {
    struct bk_collection *collection = &box->collection;
    if (schema_index_is_unique_on(collection, bk_slice_from(field), &box->arena))
        return;
    struct bk_slice owner = collection->id.length > 0 ? collection->id : collection->name;
    collection->indexes[collection->index_count++].sql =
        bk_arena_format(&box->arena, "CREATE UNIQUE INDEX `idx_%s_%.*s` ON `%.*s` (`%s`)%s", field,
                        BK_SLICE_PRINT(owner), BK_SLICE_PRINT(collection->name), field, condition);
}

void schema_auth_indexes_add(struct schema_box *box) {
    add_index(box, "tokenKey", "");
    add_index(box, "email", " WHERE `email` != ''");
}
