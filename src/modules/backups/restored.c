/*
 * A restore is a fact in the history that it begins. The command that restores does not write to
 * the journal: it leaves a note in the new directory, which changes places with it. The first
 * opening turns the note into the event backup.restored and removes it after the commit, so a death
 * between the two tells it twice, never not at all.
 */
#include "backups_private.h"

#include "bakend/alloc.h"
#include "bakend/file.h"

#define NOTE_NAME "restored"

struct telling {
    struct backups_state *state;
    struct bk_tenant *tenant; /* held */
    struct bk_buffer payload; /* the note */
    struct bk_write write;
};

enum bk_status backups_restored_note(const char *directory, const char *archive,
                                     struct bk_error *error) {
    char path[BACKUPS_PATH_BYTES];
    const char *slash = strrchr(archive, '/');
    struct bk_buffer note;
    if (!bk_path_join(path, sizeof path, directory, NOTE_NAME))
        return bk_error_set(error, BK_INVALID, "--data: the path is too long");
    bk_buffer_init(&note, BACKUPS_PATH_BYTES);
    bk_buffer_append_char(&note, '{');
    bk_json_write_member_string(&note, BK_SLICE("key"),
                                bk_slice_from(slash != NULL ? slash + 1 : archive));
    bk_buffer_append_char(&note, '}');
    bk_buffer_insist(&note);
    enum bk_status status = bk_file_write_atomic(path, bk_buffer_slice(&note), error);
    bk_buffer_fini(&note);
    return status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct telling *telling = bk_container_of(write, struct telling, write);
    struct bk_event_draft draft = {.type = BK_SLICE("backup.restored"),
                                   .source = BK_SLICE("backups"),
                                   .payload = bk_buffer_slice(&telling->payload)};
    return bk_transaction_emit(transaction, &draft);
}

static void end(struct telling *telling, enum bk_status status) {
    struct backups_state *state = telling->state;
    struct bk_tenant *tenant = telling->tenant;
    char path[BACKUPS_PATH_BYTES];
    if (status != BK_OK)
        bk_log_warn(&state->context->log, "restore_event_failed", BK_STRING("tenant", tenant->name),
                    BK_TEXT("status", bk_status_name(status)));
    else if (bk_path_join(path, sizeof path, tenant->directory, NOTE_NAME))
        (void)bk_file_remove(path, NULL);
    bk_tenant_release(tenant);
    bk_buffer_fini(&telling->payload);
    bk_free(telling);
    BK_ASSERT(state->telling_count > 0);
    state->telling_count--;
    backups_stop_when_done(state);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    end(bk_container_of(write, struct telling, write), status);
}

/* The write waits in the queue of a database that is about to be open. */
enum bk_status backups_restored_tell(struct bk_module_context *context, struct bk_tenant *tenant) {
    struct backups_state *state = context->state;
    char path[BACKUPS_PATH_BYTES];
    if (!bk_path_join(path, sizeof path, tenant->directory, NOTE_NAME) || !bk_file_exists(path))
        return BK_OK;
    struct telling *telling = bk_alloc_zero(sizeof *telling);
    telling->state = state;
    telling->tenant = tenant;
    bk_buffer_init(&telling->payload, BACKUPS_PATH_BYTES);
    telling->write = (struct bk_write){.lane = BK_LANE_REQUEST, .run = on_run, .done = on_done};
    bk_tenant_ref(tenant);
    state->telling_count++;
    enum bk_status status = bk_file_read(path, &telling->payload, NULL);
    if (status == BK_OK)
        status = bk_store_write(tenant->database, &telling->write);
    if (status != BK_OK)
        end(telling, status);
    return BK_OK;
}
