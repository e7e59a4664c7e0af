/* Directories and records brought together again at start, for what a crash left undone. */
#include "tenants_private.h"

#include "bakend/alloc.h"
#include "bakend/map.h"

/* --- records without a directory, directories without a record -------------------------------- */

struct name_entry {
    struct bk_list link;
    struct bk_slice name;
    bool has_record;
};

struct survey {
    struct tenants_state *state;
    struct bk_list directories; /* of struct name_entry */
    struct bk_map names;        /* of the same */
};

static void on_directory(struct bk_slice name, void *user) {
    struct survey *survey = user;
    if (bk_slice_is(name, "default"))
        return;
    struct name_entry *entry = bk_alloc_zero(sizeof *entry + name.length);
    char *text = (char *)(entry + 1);
    memcpy(text, name.data, name.length);
    entry->name = bk_slice_make(text, name.length);
    bk_list_push(&survey->directories, &entry->link);
    (void)bk_map_put(&survey->names, entry->name, entry);
}

static void on_record(void *user, struct bk_slice name) {
    struct survey *survey = user;
    struct name_entry *entry = bk_map_get(&survey->names, name);
    if (entry != NULL) {
        entry->has_record = true;
        return;
    }
    bk_log_error(&survey->state->context->log, "tenant_directory_missing",
                 BK_STRING("tenant", name),
                 BK_TEXT("remedy", "restore a backup of it, or delete the tenant"));
}

/* --- repairs ---------------------------------------------------------------------------------- */

struct repair {
    struct tenants_state *state;
    struct bk_slice name; /* behind the struct */
    struct bk_buffer body;
    struct bk_call call;
};

static struct repair *begin_repair(struct tenants_state *state, struct bk_slice name) {
    struct repair *repair = bk_alloc_zero(sizeof *repair + name.length);
    char *text = (char *)(repair + 1);
    memcpy(text, name.data, name.length);
    repair->state = state;
    repair->name = bk_slice_make(text, name.length);
    bk_buffer_init(&repair->body, TENANTS_BODY_MAX_BYTES);
    state->pending_count++;
    return repair;
}

static void end_repair(struct repair *repair) {
    struct tenants_state *state = repair->state;
    BK_ASSERT(state->pending_count > 0);
    bk_buffer_fini(&repair->body);
    bk_free(repair);
    if (--state->pending_count == 0 && state->stopped != NULL)
        state->stopped(state->stopped_user);
}

static void on_removed(void *user, enum bk_status status) {
    struct repair *repair = user;
    if (status == BK_OK)
        bk_log_warn(&repair->state->context->log, "tenant_directory_removed",
                    BK_STRING("tenant", repair->name));
    else
        bk_log_error(&repair->state->context->log, "tenant_directory_left",
                     BK_STRING("tenant", repair->name), BK_TEXT("status", bk_status_name(status)));
    end_repair(repair);
}

static void remove_directory(struct tenants_state *state, struct bk_slice name) {
    bk_tenant_delete(state->context->tenants, name, on_removed, begin_repair(state, name));
}

static void on_adopted(struct bk_call *call) {
    struct repair *repair = bk_container_of(call, struct repair, call);
    if (call->status == 200)
        bk_log_warn(&repair->state->context->log, "tenant_adopted",
                    BK_STRING("tenant", repair->name));
    else
        bk_log_error(&repair->state->context->log, "tenant_not_adopted",
                     BK_STRING("tenant", repair->name), BK_INT("status", call->status));
    end_repair(repair);
}

static void adopt(struct tenants_state *state, struct bk_slice name) {
    struct repair *repair = begin_repair(state, name);
    bk_buffer_append_char(&repair->body, '{');
    bk_json_write_member_string(&repair->body, BK_SLICE("name"), repair->name);
    bk_buffer_append_char(&repair->body, '}');
    repair->call = (struct bk_call){.actor = &bk_actor_system,
                                    .tenant = BK_SLICE("default"),
                                    .method = BK_POST,
                                    .target = BK_SLICE(TENANTS_RECORDS),
                                    .body = bk_buffer_slice(&repair->body),
                                    .done = on_adopted};
    bk_api_call(state->context->api, &repair->call);
}

/* --- at start --------------------------------------------------------------------------------- */

static void repair_directory(struct tenants_state *state, const struct name_entry *entry) {
    bool is_marked = tenants_marker_is_set(state->context, entry->name);
    if (entry->has_record) {
        if (is_marked)
            tenants_marker_clear(state->context, entry->name);
    } else if (is_marked || tenants_directory_is_empty(state->context, entry->name)) {
        remove_directory(state, entry->name);
    } else if (tenants_has_database(state->context, entry->name)) {
        adopt(state, entry->name);
    } else {
        bk_log_error(&state->context->log, "tenant_database_missing",
                     BK_STRING("tenant", entry->name),
                     BK_TEXT("remedy", "restore a backup of it, or remove its directory"));
    }
}

enum bk_status tenants_repair(struct tenants_state *state, struct bk_error *error) {
    struct survey survey = {.state = state};
    bk_list_init(&survey.directories);
    bk_map_init(&survey.names);
    bk_tenants_for_each_name(state->context->tenants, on_directory, &survey);
    enum bk_status status = tenants_for_each_record(state->context, on_record, &survey, error);
    bk_map_fini(&survey.names);
    for (struct bk_list *link; (link = bk_list_pop(&survey.directories)) != NULL;) {
        struct name_entry *entry = bk_container_of(link, struct name_entry, link);
        if (status == BK_OK)
            repair_directory(state, entry);
        bk_free(entry);
    }
    return status;
}
