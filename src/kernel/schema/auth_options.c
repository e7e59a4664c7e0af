/*
 * What an auth collection has beyond a base one. Its options are one whole (auth_shape.c) with the
 * secrets that its tokens are signed with and those of its OAuth2 providers. The whole is kept
 * beside the definition and never shown; the definition has what is left without the secrets. Who
 * uses an option reads it in the tree of the whole.
 *
 *   given (a definition, or a part of one)  over  the former whole  →  settled  →  the new whole
 *
 * What is settled: mapped fields that are no longer there are forgotten, a changed authRule makes a
 * new secret of tokens, which ends all sessions, and superusers sign in by password and not by
 * OAuth2, whatever is asked for.
 */
#include "schema_private.h"

#include "bakend/assert.h"

static const struct bk_slice no_member = {NULL, 0};

const struct bk_json *schema_auth_get(const struct bk_json *whole, const char *group,
                                      const char *name) {
    const struct bk_json *member = bk_json_get(whole, bk_slice_from(group));
    return name == NULL ? member : bk_json_get(member, bk_slice_from(name));
}

bool schema_auth_flag(const struct bk_json *whole, const char *group, const char *name) {
    const struct bk_json *member = schema_auth_get(whole, group, name);
    return member != NULL && member->type == BK_JSON_BOOL && member->boolean;
}

/* NULL data: null. */
static struct bk_slice rule_of(const struct bk_json *whole) {
    const struct bk_json *rule = schema_auth_get(whole, "authRule", NULL);
    if (rule == NULL || rule->type != BK_JSON_STRING)
        return no_member;
    return rule->string.length == 0 ? BK_SLICE("") : rule->string;
}

/* --- laying ----------------------------------------------------------------------------------- */

/* Lays given over what the box has, whose own tree it becomes. */
static enum bk_status lay(struct schema_box *box, const struct bk_json *given,
                          struct bk_error *error) {
    struct bk_buffer out;
    struct bk_json *whole;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    enum bk_status status =
        bk_shape_lay(&schema_auth_shape, given, box->collection.auth, &out, error);
    if (status == BK_OK && bk_buffer_status(&out) != BK_OK)
        status = bk_error_set(error, bk_buffer_status(&out), "the definition is too large");
    if (status == BK_OK) {
        box->collection.secrets = bk_arena_copy(&box->arena, bk_buffer_slice(&out));
        status = bk_arena_status(&box->arena);
    }
    bk_buffer_fini(&out);
    if (status == BK_OK)
        status = bk_json_parse(&box->arena, box->collection.secrets, &whole, error);
    if (status == BK_OK)
        box->collection.auth = whole;
    return status;
}

/* What an auth collection would have that begins as one of another type, which it cannot: the
 * contract then finds all of this missing. */
#define BLANK_MAIL "{\"subject\":\"\",\"body\":\"\"}"
#define BLANK_TOKEN "{\"secret\":\"\",\"duration\":0}"
static const char blank[] =
    "{\"authRule\":null,\"authAlert\":{\"enabled\":false,\"emailTemplate\":" BLANK_MAIL "},"
    "\"passwordAuth\":{\"enabled\":false},\"mfa\":{\"duration\":0},"
    "\"otp\":{\"duration\":0,\"length\":0,\"emailTemplate\":" BLANK_MAIL "},"
    "\"authToken\":" BLANK_TOKEN ",\"passwordResetToken\":" BLANK_TOKEN ","
    "\"emailChangeToken\":" BLANK_TOKEN ",\"verificationToken\":" BLANK_TOKEN ","
    "\"fileToken\":" BLANK_TOKEN ",\"verificationTemplate\":" BLANK_MAIL ","
    "\"resetPasswordTemplate\":" BLANK_MAIL ",\"confirmEmailChangeTemplate\":" BLANK_MAIL "}";

/* What the box was given of its former self, or of its row. Before options were kept as a whole a
 * row had the secret of the tokens only. */
static enum bk_status read_former(struct schema_box *box, bool is_change, struct bk_error *error) {
    struct bk_slice former = box->collection.secrets;
    struct bk_json *whole = NULL;
    enum bk_status status = BK_OK;
    box->collection.auth = NULL;
    if (former.length == 0 && is_change)
        former = bk_slice_from(blank);
    if (former.length == 0)
        return BK_OK;
    if (former.data[0] != '{')
        former = bk_arena_format(&box->arena, "{\"authToken\":{\"secret\":\"%.*s\"}}",
                                 BK_SLICE_PRINT(former));
    status = bk_json_parse(&box->arena, former, &whole, error);
    box->collection.auth = whole;
    return status;
}

/* The members of the definition that are options; what a stored row lacks, it has in its former. */
static struct bk_json *given_options(const struct schema_source *source, struct bk_arena *arena) {
    struct bk_json *given = bk_arena_alloc_zero(arena, sizeof *given);
    struct bk_json **end = &given->child;
    given->type = BK_JSON_OBJECT;
    for (size_t i = 0; i < schema_auth_shape.count; i++) {
        const char *name = schema_auth_shape.members[i].name;
        const struct bk_json *member = bk_json_get(source->given, bk_slice_from(name));
        if (member == NULL)
            continue;
        struct bk_json *copy = bk_arena_alloc(arena, sizeof *copy);
        *copy = *member;
        copy->next = NULL;
        *end = copy;
        end = &copy->next;
        given->child_count++;
    }
    return given;
}

/* --- settling --------------------------------------------------------------------------------- */

static void settle_mapped(const struct schema_box *box, struct bk_buffer *out) {
    const struct bk_json *mapped = schema_auth_get(box->collection.auth, "oauth2", "mappedFields");
    for (const struct bk_json *member = mapped == NULL ? NULL : mapped->child; member != NULL;
         member = member->next)
        if (member->string.length > 0 &&
            bk_collection_field(&box->collection, member->string) == NULL)
            bk_json_write_member_string(out, member->key, BK_SLICE(""));
}

static bool is_same_rule(struct bk_slice a, struct bk_slice b) {
    return bk_slice_equal(a, b) && (a.data == NULL) == (b.data == NULL);
}

static void write_settled(const struct schema_box *box, bool ends_sessions, struct bk_buffer *out) {
    bool is_superusers = bk_slice_is(box->collection.name, "_superusers");
    bk_buffer_append_literal(out, "{\"oauth2\":{\"mappedFields\":{");
    settle_mapped(box, out);
    bk_buffer_append_char(out, '}');
    if (is_superusers)
        bk_buffer_append_literal(out, ",\"enabled\":false,\"providers\":[]");
    bk_buffer_append_char(out, '}');
    if (is_superusers)
        bk_buffer_append_literal(out, ",\"passwordAuth\":{\"enabled\":true}");
    if (is_superusers && schema_auth_flag(box->collection.auth, "otp", "enabled"))
        bk_buffer_append_literal(out, ",\"mfa\":{\"enabled\":true}");
    if (ends_sessions) {
        char secret[BK_SHAPE_GENERATED_BYTES];
        bk_shape_generate(secret);
        bk_buffer_append_literal(out, ",\"authToken\":{");
        bk_json_write_member_string(out, BK_SLICE("secret"), bk_slice_make(secret, sizeof secret));
        bk_buffer_append_char(out, '}');
    }
    bk_buffer_append_char(out, '}');
}

static enum bk_status settle(struct schema_box *box, bool ends_sessions, struct bk_error *error) {
    struct bk_buffer out;
    struct bk_json *settled;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    write_settled(box, ends_sessions, &out);
    enum bk_status status = bk_buffer_status(&out);
    if (status == BK_OK)
        status = bk_json_parse(&box->arena, bk_buffer_slice(&out), &settled, error);
    if (status == BK_OK)
        status = lay(box, settled, error);
    bk_buffer_fini(&out);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum bk_status write_shown(struct schema_box *box, struct bk_error *error) {
    struct bk_buffer out;
    bk_buffer_init(&out, SCHEMA_DEFINITION_BYTES_MAX);
    bk_shape_write_members(&schema_auth_shape, box->collection.auth, &out);
    enum bk_status status = bk_buffer_status(&out);
    if (status == BK_OK)
        box->collection.options = bk_arena_copy(&box->arena, bk_buffer_slice(&out));
    else
        bk_error_set(error, status, "the definition is too large");
    bk_buffer_fini(&out);
    return status;
}

enum bk_status schema_auth_options_read(const struct schema_source *source, struct schema_box *box,
                                        struct bk_error *error) {
    enum bk_status status = read_former(box, source->former != NULL, error);
    if (status != BK_OK)
        return status;
    const struct bk_json *former = box->collection.auth;
    struct bk_slice former_rule = rule_of(former);
    status = lay(box, given_options(source, source->arena), error);
    bool ends_sessions = status == BK_OK && former != NULL && !source->is_stored &&
                         schema_auth_get(former, "authRule", NULL) != NULL &&
                         !is_same_rule(former_rule, rule_of(box->collection.auth));
    if (status == BK_OK && !source->is_stored)
        status = settle(box, ends_sessions, error);
    if (status != BK_OK)
        return status;
    const struct bk_json *secret = schema_auth_get(box->collection.auth, "authToken", "secret");
    BK_ASSERT(secret != NULL);
    box->collection.token_secret = secret->string;
    box->collection.auth_rule = rule_of(box->collection.auth);
    return write_shown(box, error);
}

/* --- indexes ---------------------------------------------------------------------------------- */

enum { INDEX_NAME_BYTES_MAX = 64 };

static void add_index(struct schema_box *box, const char *field, const char *condition) {
    struct bk_collection *collection = &box->collection;
    if (schema_index_is_unique_on(collection, bk_slice_from(field), &box->arena))
        return;
    struct bk_index *index = &collection->indexes[collection->index_count++];
    index->name =
        bk_arena_format(&box->arena, "idx_%s_%.*s", field, BK_SLICE_PRINT(collection->id));
    if (index->name.length > INDEX_NAME_BYTES_MAX)
        index->name.length = INDEX_NAME_BYTES_MAX;
    index->sql = bk_arena_format(&box->arena, "CREATE UNIQUE INDEX `%.*s` ON `%.*s` (`%s`)%s",
                                 BK_SLICE_PRINT(index->name), BK_SLICE_PRINT(collection->name),
                                 field, condition);
}

void schema_auth_indexes_add(struct schema_box *box) {
    if (box->collection.type != BK_COLLECTION_AUTH)
        return;
    add_index(box, "tokenKey", "");
    add_index(box, "email", " WHERE `email` != ''");
}
