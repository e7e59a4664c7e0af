/*
 * A collection that gets another name takes its rate limits along, as in the contract: the rules
 * whose label is `<old name>:…` say the new one from then on. It is a change of the settings like
 * any other, with its event, in the commit behind the collection's.
 */
#include "settings.h"

#include "bakend/alloc.h"

enum { NAMES_BYTES_MAX = 4 * 1024, DEFINITION_BYTES_MAX = 64 * 1024 * 1024 };

struct rename {
    struct bk_write write;
    struct bk_origin origin;
    struct bk_arena names, arena;
    struct bk_tenant *tenant;
    struct settings_tenant *state;
    struct bk_slice old_prefix, new_prefix; /* "posts:" */
    struct bk_settings shared;
    bool is_changed;
};

static void rename_free(struct rename *rename) {
    bk_tenant_release(rename->tenant);
    bk_arena_fini(&rename->names);
    bk_arena_fini(&rename->arena);
    bk_free(rename);
}

/* --- on the writer ---------------------------------------------------------------------------- */

static void write_rule(const struct rename *rename, const struct bk_json *rule,
                       struct bk_buffer *out) {
    bk_json_write_separator(out);
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *member = rule->child; member != NULL; member = member->next) {
        struct bk_slice rest = member->string;
        if (!bk_slice_is(member->key, "label") || !bk_slice_starts_with(rest, rename->old_prefix)) {
            bk_json_write_member_raw(out, member->key, member->text);
            continue;
        }
        rest = bk_slice_make(rest.data + rename->old_prefix.length,
                             rest.length - rename->old_prefix.length);
        bk_json_write_key(out, member->key);
        bk_buffer_append_char(out, '"'); /* of words, none of which is to be escaped */
        bk_buffer_append_slice(out, rename->new_prefix);
        bk_buffer_append_slice(out, rest);
        bk_buffer_append_char(out, '"');
    }
    bk_buffer_append_char(out, '}');
}

static void write_rules(const struct rename *rename, const struct bk_json *former,
                        struct bk_buffer *out) {
    const struct bk_json *rules =
        bk_json_get(bk_json_get(former, BK_SLICE("rateLimits")), BK_SLICE("rules"));
    bk_buffer_append_literal(out, "{\"rateLimits\":{\"rules\":[");
    for (const struct bk_json *rule = rules == NULL ? NULL : rules->child; rule != NULL;
         rule = rule->next)
        write_rule(rename, rule, out);
    bk_buffer_append_literal(out, "]}}");
}

static enum bk_status lay_rules(const struct rename *rename, const struct bk_json *former,
                                struct bk_arena *arena, struct bk_json **whole) {
    struct bk_buffer given;
    struct bk_json *json;
    bk_buffer_init(&given, SETTINGS_BYTES_MAX);
    write_rules(rename, former, &given);
    enum bk_status status = bk_buffer_status(&given);
    if (status == BK_OK)
        status = bk_json_parse(arena, bk_arena_copy(arena, bk_buffer_slice(&given)), &json, NULL);
    bk_buffer_fini(&given);
    return status == BK_OK ? settings_lay(json, former, arena, whole, NULL) : status;
}

/* May run again: begins anew. */
static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct rename *rename = bk_container_of(write, struct rename, write);
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_json *former, *whole;
    rename->is_changed = false;
    enum bk_status status =
        settings_read(bk_transaction_connection(transaction), arena, &former, NULL);
    if (status == BK_OK)
        status = lay_rules(rename, former, arena, &whole);
    if (status != BK_OK || bk_slice_equal(whole->text, former->text))
        return status;
    rename->is_changed = true;
    bk_arena_reset(&rename->arena);
    settings_share(whole, &rename->arena, &rename->shared);
    status = bk_arena_status(&rename->arena);
    return status == BK_OK ? settings_store(transaction, whole, former) : status;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct rename *rename = bk_container_of(write, struct rename, write);
    if (status == BK_OK && rename->is_changed)
        settings_keep(rename->state, &rename->shared);
    rename_free(rename);
}

/* --- on the loop ------------------------------------------------------------------------------ */

/* "posts:" of a definition; empty when it was too large for the event. */
static struct bk_slice read_prefix(struct bk_slice definition, struct bk_arena *names) {
    struct bk_arena scratch;
    struct bk_json *json;
    struct bk_slice prefix = BK_SLICE_EMPTY;
    bk_arena_init(&scratch, DEFINITION_BYTES_MAX);
    if (definition.length > 0 && bk_json_parse(&scratch, definition, &json, NULL) == BK_OK) {
        struct bk_slice name = bk_json_get_string(json, BK_SLICE("name"));
        if (name.length > 0)
            prefix = bk_arena_format(names, "%.*s:", BK_SLICE_PRINT(name));
    }
    bk_arena_fini(&scratch);
    return prefix;
}

enum bk_status settings_follow_rename(struct settings_tenant *state, struct bk_tenant *tenant,
                                      const struct bk_event *event) {
    struct rename *rename = bk_alloc_zero(sizeof *rename);
    bk_arena_init(&rename->names, NAMES_BYTES_MAX);
    bk_arena_init(&rename->arena, SETTINGS_TREE_BYTES_MAX);
    rename->tenant = tenant;
    bk_tenant_ref(tenant);
    rename->state = state;
    rename->old_prefix = read_prefix(event->fields.previous, &rename->names);
    rename->new_prefix = read_prefix(event->fields.payload, &rename->names);
    if (rename->old_prefix.length == 0 || rename->new_prefix.length == 0 ||
        bk_slice_equal(rename->old_prefix, rename->new_prefix)) {
        rename_free(rename);
        return BK_OK;
    }
    rename->origin = (struct bk_origin){.actor = bk_arena_copy(&rename->names, event->fields.actor),
                                        .cause = bk_arena_copy(&rename->names, event->fields.id),
                                        .depth = event->fields.depth + 1};
    rename->write.origin = &rename->origin;
    rename->write.run = on_run;
    rename->write.done = on_done;
    enum bk_status status = bk_store_write(tenant->database, &rename->write);
    if (status != BK_OK)
        rename_free(rename);
    return status;
}
