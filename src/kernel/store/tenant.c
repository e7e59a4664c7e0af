/*
 * The registry of tenants: which exist, which are open, who holds them.
 *
 *            hold                 all slots opened
 *   (none) ───────> OPENING ───────────────────────> OPEN <──> unheld, in the order of last use
 *      ^               │ failed                        │ evicted, deleted, or all are closed
 *      └───────────────┴────────── CLOSING <───────────┘
 *
 * One opening serves all who wait for it. A tenant that is wanted again while it closes is opened
 * again when it is closed. Closing waits until nothing is outstanding on the database and nobody
 * holds the tenant (the last commits are dispatched meanwhile), then tells the slots in reverse
 * order, then closes the database.
 *
 * A deletion takes the name away first, so nobody new gets in; then waits for the holds, closes,
 * renames the directory and removes it on a thread that may take its time.
 */
#include "tenant_private.h"

#include "bakend/file.h"

#include <stdio.h>

enum entry_state { ENTRY_OPENING, ENTRY_OPEN, ENTRY_CLOSING };

struct deletion {
    struct bk_job job;
    struct bk_task task; /* answers without a job */
    struct bk_tenants *tenants;
    char *name;
    char trash[TENANT_PATH_BYTES_MAX];
    enum bk_status status;
    void (*done)(void *user, enum bk_status status);
    void *user;
};

struct entry {
    struct bk_tenant tenant;
    enum entry_state state;
    uint32_t hold_count;
    uint32_t opened_slot_count;
    bool is_quiet;              /* closing, nothing outstanding, but somebody still holds it */
    struct bk_list link;        /* bk_tenants.open */
    struct bk_list unheld_link; /* bk_tenants.unheld */
    struct bk_list waiting;     /* bk_tenant_hold.link */
    struct bk_database_open opening;
    struct deletion *deletion; /* waits for this entry to go */
    char *name;
    char directory[TENANT_PATH_BYTES_MAX], path[TENANT_PATH_BYTES_MAX];
    char head_path[TENANT_PATH_BYTES_MAX];
};

static void open_entry(struct bk_tenants *tenants, struct bk_slice name,
                       struct bk_tenant_hold *hold);
static void close_entry(struct entry *entry);
static void on_quiet(void *user);
static void discard(struct deletion *deletion);
static void continue_closing_all(struct bk_tenants *tenants);

static struct entry *entry_of(struct bk_tenant *tenant) {
    return bk_container_of(tenant, struct entry, tenant);
}

static struct bk_loop *loop_of(const struct bk_tenants *tenants) {
    return tenants->store->options.loop;
}

/* --- the registry ----------------------------------------------------------------------------- */

static void on_closed_task(struct bk_task *task) {
    struct bk_tenants *tenants = bk_container_of(task, struct bk_tenants, closed_task);
    tenants->on_closed(tenants->on_closed_user);
}

struct bk_tenants *bk_tenants_create(struct bk_store *store, struct bk_log log,
                                     const char *data_directory, uint32_t open_max) {
    struct bk_tenants *tenants = bk_alloc_zero(sizeof(*tenants));
    struct bk_error error = BK_ERROR_INIT;
    BK_ASSERT(open_max >= 1);
    tenants->store = store;
    tenants->log = log;
    tenants->data_directory = store_text_copy(data_directory);
    tenants->open_max = open_max;
    bk_map_init(&tenants->names);
    bk_map_init(&tenants->entries);
    bk_list_init(&tenants->open);
    bk_list_init(&tenants->unheld);
    bk_task_init(&tenants->closed_task, on_closed_task);
    if (tenant_directory_scan(tenants, &error) == BK_OK)
        return tenants;
    bk_log_error(&log, "data_directory_failed", BK_TEXT("path", data_directory),
                 BK_TEXT("error", error.message),
                 BK_TEXT("remedy", "give a directory that this user may write to"));
    bk_tenants_destroy(tenants);
    return NULL;
}

struct bk_store *bk_tenants_store(const struct bk_tenants *tenants) {
    return tenants->store;
}

void bk_tenants_destroy(struct bk_tenants *tenants) {
    size_t cursor = 0;
    struct bk_map_entry *name;
    BK_ASSERT(tenants->entry_count == 0 && tenants->deletion_count == 0);
    while ((name = bk_map_next(&tenants->names, &cursor)) != NULL)
        bk_free(name->value);
    bk_map_fini(&tenants->names);
    bk_map_fini(&tenants->entries);
    bk_free(tenants->migrations);
    bk_free(tenants->data_directory);
    bk_free(tenants);
}

uint32_t bk_tenants_add_slot(struct bk_tenants *tenants, const struct bk_tenant_slot *slot) {
    BK_ASSERT(tenants->slot_count < BK_TENANT_SLOTS_MAX);
    BK_ASSERT(tenants->entry_count == 0 && tenants->migrations == NULL);
    tenants->slots[tenants->slot_count] = *slot;
    return tenants->slot_count++;
}

bool bk_tenant_exists(struct bk_tenants *tenants, struct bk_slice name) {
    return bk_map_get(&tenants->names, name) != NULL;
}

uint32_t bk_tenants_open_count(const struct bk_tenants *tenants) {
    return tenants->entry_count - tenants->closing_count;
}

uint32_t bk_tenants_open_max(const struct bk_tenants *tenants) { return tenants->open_max; }

void bk_tenants_for_each_open(struct bk_tenants *tenants,
                              void (*on_tenant)(struct bk_tenant *tenant, void *user), void *user) {
    BK_LIST_FOR_EACH(node, &tenants->open) {
        struct entry *entry = bk_container_of(node, struct entry, link);
        if (entry->state == ENTRY_OPEN)
            on_tenant(&entry->tenant, user);
    }
}

void bk_tenants_for_each_name(struct bk_tenants *tenants,
                              void (*on_name)(struct bk_slice name, void *user), void *user) {
    size_t cursor = 0;
    struct bk_map_entry *name;
    while ((name = bk_map_next(&tenants->names, &cursor)) != NULL)
        on_name(name->key, user);
}

enum bk_status bk_tenant_create(struct bk_tenants *tenants, struct bk_slice name,
                                struct bk_error *error) {
    if (!bk_tenant_name_is_valid(name))
        return bk_error_set(error, BK_INVALID,
                            "name: a tenant's name is 1 to 63 of a-z, 0-9 and '-', and does not "
                            "begin with '-'");
    if (bk_tenant_exists(tenants, name))
        return bk_error_set(error, BK_EXISTS, "the tenant %.*s exists already",
                            BK_SLICE_PRINT(name));
    if (bk_map_get(&tenants->entries, name) != NULL)
        return bk_error_set(error, BK_BUSY, "the tenant %.*s is being deleted: try again",
                            BK_SLICE_PRINT(name));
    return tenant_directory_create(tenants, name, error);
}

struct bk_tenant *bk_tenant_of(struct bk_database *database) {
    return database->owner;
}

/* --- holds ------------------------------------------------------------------------------------ */

static void on_hold_answer(struct bk_task *task) {
    struct bk_tenant_hold *hold = bk_container_of(task, struct bk_tenant_hold, task);
    hold->done(hold, hold->error.status);
}

/* Later in this turn: done never comes before bk_tenant_hold returns. */
static void answer_hold(struct bk_tenants *tenants, struct bk_tenant_hold *hold,
                        struct entry *entry, enum bk_status status) {
    hold->tenant = entry == NULL ? NULL : &entry->tenant;
    hold->error.status = status;
    bk_loop_defer(loop_of(tenants), &hold->task);
}

static void refuse_hold(struct bk_tenants *tenants, struct bk_tenant_hold *hold,
                        enum bk_status status, const char *message) {
    (void)bk_error_set(&hold->error, status, "%s", message);
    answer_hold(tenants, hold, NULL, status);
}

static void add_hold(struct entry *entry) {
    BK_ASSERT(entry->state == ENTRY_OPEN);
    entry->hold_count++;
    bk_list_remove(&entry->unheld_link);
}

/* Also of a tenant that nobody holds: what its last commit brought is being dispatched. */
void bk_tenant_ref(struct bk_tenant *tenant) {
    struct entry *entry = entry_of(tenant);
    entry->hold_count++;
    bk_list_remove(&entry->unheld_link);
}

void bk_tenant_release(struct bk_tenant *tenant) {
    struct entry *entry = entry_of(tenant);
    BK_ASSERT(entry->hold_count > 0);
    if (--entry->hold_count > 0)
        return;
    if (entry->is_quiet) {
        /* The holder may have written something. */
        entry->is_quiet = false;
        store_database_when_quiet(entry->tenant.database, on_quiet, entry);
    }
    if (entry->state != ENTRY_OPEN)
        return;
    if (entry->deletion != NULL)
        close_entry(entry);
    else
        bk_list_push(&tenant->tenants->unheld, &entry->unheld_link);
}

struct bk_tenant *bk_tenant_hold_open(struct bk_tenants *tenants, struct bk_slice name) {
    struct entry *entry = bk_map_get(&tenants->entries, name);
    if (entry == NULL || entry->state != ENTRY_OPEN || entry->deletion != NULL ||
        tenants->is_closing)
        return NULL;
    add_hold(entry);
    return &entry->tenant;
}

/* Makes room for one more; false when all that are open are held. */
static bool make_room(struct bk_tenants *tenants) {
    if (bk_tenants_open_count(tenants) < tenants->open_max)
        return true;
    if (bk_list_is_empty(&tenants->unheld))
        return false;
    close_entry(bk_container_of(tenants->unheld.next, struct entry, unheld_link));
    return true;
}

void bk_tenant_hold(struct bk_tenants *tenants, struct bk_slice name, struct bk_tenant_hold *hold) {
    struct entry *entry = bk_map_get(&tenants->entries, name);
    BK_ASSERT(hold->done != NULL);
    hold->error = (struct bk_error)BK_ERROR_INIT;
    hold->tenant = NULL;
    bk_list_init(&hold->link);
    bk_task_init(&hold->task, on_hold_answer);
    if (tenants->is_closing) {
        refuse_hold(tenants, hold, BK_CLOSING, "the server is shutting down");
    } else if (!bk_tenant_exists(tenants, name)) {
        refuse_hold(tenants, hold, BK_NOT_FOUND, "there is no such tenant");
    } else if (entry != NULL && entry->state == ENTRY_OPEN) {
        add_hold(entry);
        answer_hold(tenants, hold, entry, BK_OK);
    } else if (entry != NULL) {
        bk_list_push(&entry->waiting, &hold->link);
    } else if (tenant_directory_lost_database(tenants, name, &hold->error)) {
        bk_log_error(&tenants->log, "tenant_open_failed", BK_STRING("tenant", name),
                     BK_TEXT("error", hold->error.message));
        answer_hold(tenants, hold, NULL, BK_CORRUPT);
    } else if (!make_room(tenants)) {
        refuse_hold(tenants, hold, BK_BUSY, "as many tenants as may be open are in use: try again");
    } else {
        open_entry(tenants, name, hold);
    }
}

static void refuse_waiting(struct entry *entry, enum bk_status status, const char *message) {
    struct bk_list *node;
    while ((node = bk_list_pop(&entry->waiting)) != NULL)
        refuse_hold(entry->tenant.tenants, bk_container_of(node, struct bk_tenant_hold, link),
                    status, message);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void gather_migrations(struct bk_tenants *tenants) {
    size_t count = 0;
    if (tenants->migrations != NULL)
        return;
    for (uint32_t i = 0; i < tenants->slot_count; i++)
        count += tenants->slots[i].migration_count;
    tenants->migrations = bk_alloc_zero((count + 1) * sizeof(struct bk_migration));
    for (uint32_t i = 0; i < tenants->slot_count; i++) {
        for (size_t j = 0; j < tenants->slots[i].migration_count; j++)
            tenants->migrations[tenants->migration_count++] = tenants->slots[i].migrations[j];
    }
}

/* On the writer: the slots do not change once a tenant has been opened. */
static enum bk_status on_prepare(struct bk_transaction *transaction, void *user,
                                 struct bk_error *error) {
    const struct bk_tenants *tenants = user;
    enum bk_status status = BK_OK;
    for (uint32_t i = 0; i < tenants->slot_count && status == BK_OK; i++) {
        const struct bk_tenant_slot *slot = &tenants->slots[i];
        if (slot->on_prepare != NULL)
            status = slot->on_prepare(transaction, slot->user, error);
        if (status != BK_OK)
            bk_error_prefix(error, "%s", slot->name);
    }
    return status;
}

static void entry_destroy(struct entry *entry) {
    struct bk_tenants *tenants = entry->tenant.tenants;
    BK_ASSERT(bk_list_is_empty(&entry->waiting) && entry->hold_count == 0);
    (void)bk_map_remove(&tenants->entries, entry->tenant.name);
    bk_list_remove(&entry->link);
    bk_list_remove(&entry->unheld_link);
    tenants->entry_count--;
    bk_free(entry->name);
    bk_free(entry);
}

static enum bk_status open_slots(struct entry *entry, struct bk_error *error) {
    struct bk_tenants *tenants = entry->tenant.tenants;
    for (uint32_t i = 0; i < tenants->slot_count; i++) {
        const struct bk_tenant_slot *slot = &tenants->slots[i];
        enum bk_status status = BK_OK;
        if (slot->on_open != NULL)
            status = slot->on_open(&entry->tenant, &entry->tenant.slots[i], slot->user, error);
        if (status != BK_OK) {
            const struct bk_database *database = entry->tenant.database;
            bk_error_prefix(error, "%s", slot->name);
            return store_error_explain(error, status, database->path,
                                       database->loop_connection->error);
        }
        entry->opened_slot_count++;
    }
    return BK_OK;
}

static void close_slots(struct entry *entry) {
    struct bk_tenants *tenants = entry->tenant.tenants;
    while (entry->opened_slot_count > 0) {
        uint32_t i = --entry->opened_slot_count;
        const struct bk_tenant_slot *slot = &tenants->slots[i];
        if (slot->on_close != NULL)
            slot->on_close(&entry->tenant, entry->tenant.slots[i], slot->user);
        entry->tenant.slots[i] = NULL;
    }
}

static void give_to_waiting(struct entry *entry) {
    struct bk_list *node;
    while ((node = bk_list_pop(&entry->waiting)) != NULL) {
        add_hold(entry);
        answer_hold(entry->tenant.tenants, bk_container_of(node, struct bk_tenant_hold, link),
                    entry, BK_OK);
    }
    if (entry->hold_count > 0)
        return;
    if (entry->deletion != NULL)
        close_entry(entry);
    else
        bk_list_push(&entry->tenant.tenants->unheld, &entry->unheld_link);
}

static void opening_failed(struct entry *entry, enum bk_status status, const char *message) {
    struct bk_tenants *tenants = entry->tenant.tenants;
    struct deletion *deletion = entry->deletion;
    bk_log_error(&tenants->log, "tenant_open_failed", BK_STRING("tenant", entry->tenant.name),
                 BK_TEXT("error", message));
    refuse_waiting(entry, status, message);
    if (entry->tenant.database != NULL) {
        close_entry(entry);
        return;
    }
    entry_destroy(entry);
    if (deletion != NULL)
        discard(deletion);
    continue_closing_all(tenants);
}

static void on_opened(struct bk_database_open *opening, enum bk_status status) {
    struct entry *entry = bk_container_of(opening, struct entry, opening);
    if (status == BK_OK) {
        entry->tenant.database = opening->database;
        opening->database->owner = &entry->tenant;
        status = open_slots(entry, &opening->error);
    }
    entry->state = ENTRY_OPEN;
    if (status != BK_OK) {
        opening_failed(entry, status, opening->error.message);
    } else if (entry->tenant.tenants->is_closing) {
        refuse_waiting(entry, BK_CLOSING, "the server is shutting down");
        close_entry(entry);
    } else {
        give_to_waiting(entry);
    }
}

static void start_opening(struct entry *entry) {
    struct bk_tenants *tenants = entry->tenant.tenants;
    gather_migrations(tenants);
    entry->state = ENTRY_OPENING;
    entry->opening = (struct bk_database_open){
        .options = {.tenant = entry->tenant.name,
                    .path = entry->path,
                    .head_path = entry->head_path,
                    .has_journal = true,
                    .migrations = tenants->migrations,
                    .migration_count = tenants->migration_count,
                    .on_prepare = on_prepare,
                    .user = tenants},
        .done = on_opened,
    };
    bk_database_open(tenants->store, &entry->opening);
}

static void open_entry(struct bk_tenants *tenants, struct bk_slice name,
                       struct bk_tenant_hold *hold) {
    struct entry *entry = bk_alloc_zero(sizeof(*entry));
    entry->name = bk_alloc(name.length + 1);
    memcpy(entry->name, name.data, name.length);
    entry->name[name.length] = '\0';
    entry->tenant.name = bk_slice_make(entry->name, name.length);
    entry->tenant.directory = entry->directory;
    entry->tenant.tenants = tenants;
    bk_list_init(&entry->link);
    bk_list_init(&entry->unheld_link);
    bk_list_init(&entry->waiting);
    if (!bk_path_join(entry->directory, sizeof(entry->directory), tenants->directory,
                      entry->name) ||
        !bk_path_join(entry->path, sizeof(entry->path), entry->directory, "data.db") ||
        !bk_path_join(entry->head_path, sizeof(entry->head_path), entry->directory, "head")) {
        bk_free(entry->name);
        bk_free(entry);
        refuse_hold(tenants, hold, BK_INVALID, "the path of the data directory is too long");
        return;
    }
    (void)bk_map_put(&tenants->entries, entry->tenant.name, entry);
    bk_list_push(&tenants->open, &entry->link);
    tenants->entry_count++;
    bk_list_push(&entry->waiting, &hold->link);
    start_opening(entry);
}

/* --- closing ---------------------------------------------------------------------------------- */

/* Whoever waited for a tenant that was closing gets it opened again. */
static bool open_again(struct entry *entry) {
    struct bk_tenants *tenants = entry->tenant.tenants;
    if (bk_list_is_empty(&entry->waiting))
        return false;
    if (tenants->is_closing)
        refuse_waiting(entry, BK_CLOSING, "the server is shutting down");
    else if (!bk_tenant_exists(tenants, entry->tenant.name))
        refuse_waiting(entry, BK_NOT_FOUND, "there is no such tenant");
    else if (!make_room(tenants))
        refuse_waiting(entry, BK_BUSY, "as many tenants as may be open are in use: try again");
    if (bk_list_is_empty(&entry->waiting))
        return false;
    start_opening(entry);
    return true;
}

static void on_database_closed(void *user) {
    struct entry *entry = user;
    struct bk_tenants *tenants = entry->tenant.tenants;
    struct deletion *deletion = entry->deletion;
    entry->tenant.database = NULL;
    if (!open_again(entry))
        entry_destroy(entry);
    tenants->closing_count--;
    if (deletion != NULL)
        discard(deletion);
    continue_closing_all(tenants);
}

static void on_quiet(void *user) {
    struct entry *entry = user;
    entry->is_quiet = entry->hold_count > 0;
    if (entry->is_quiet)
        return;
    close_slots(entry);
    bk_database_close(entry->tenant.database, on_database_closed, entry);
}

static void close_entry(struct entry *entry) {
    BK_ASSERT(entry->state == ENTRY_OPEN);
    entry->state = ENTRY_CLOSING;
    entry->tenant.tenants->closing_count++;
    bk_list_remove(&entry->unheld_link);
    store_database_when_quiet(entry->tenant.database, on_quiet, entry);
}

static void continue_closing_all(struct bk_tenants *tenants) {
    if (tenants->is_closing && tenants->entry_count == 0 && tenants->deletion_count == 0)
        bk_loop_defer(loop_of(tenants), &tenants->closed_task);
}

void bk_tenants_close(struct bk_tenants *tenants, void (*closed)(void *user), void *user) {
    BK_ASSERT(!tenants->is_closing && closed != NULL);
    tenants->is_closing = true;
    tenants->on_closed = closed;
    tenants->on_closed_user = user;
    BK_LIST_FOR_EACH(node, &tenants->open) {
        struct entry *entry = bk_container_of(node, struct entry, link);
        if (entry->state == ENTRY_OPEN)
            close_entry(entry);
    }
    continue_closing_all(tenants);
}

/* --- deleting --------------------------------------------------------------------------------- */

static void finish_deletion(struct deletion *deletion) {
    struct bk_tenants *tenants = deletion->tenants;
    tenants->deletion_count--;
    deletion->done(deletion->user, deletion->status);
    bk_free(deletion->name);
    bk_free(deletion);
    continue_closing_all(tenants);
}

static void on_deletion_task(struct bk_task *task) {
    finish_deletion(bk_container_of(task, struct deletion, task));
}

static void on_remove_run(struct bk_job *job, uint32_t thread_index) {
    struct deletion *deletion = bk_container_of(job, struct deletion, job);
    (void)thread_index;
    deletion->status = bk_directory_remove(deletion->trash, NULL);
}

static void on_remove_done(struct bk_job *job) {
    struct deletion *deletion = bk_container_of(job, struct deletion, job);
    /* The tenant is gone in any case; the next start tries to remove the rest. */
    if (deletion->status != BK_OK)
        bk_log_warn(&deletion->tenants->log, "trash_not_removed", BK_TEXT("path", deletion->trash),
                    BK_TEXT("status", bk_status_name(deletion->status)));
    deletion->status = BK_OK;
    finish_deletion(deletion);
}

/* Nobody has the tenant's files open any more. */
static void discard(struct deletion *deletion) {
    struct bk_tenants *tenants = deletion->tenants;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_slice name = bk_slice_from(deletion->name);
    deletion->status = tenant_directory_discard(tenants, name, deletion->trash, &error);
    if (deletion->status == BK_OK &&
        bk_pool_submit(tenants->store->maintenance, &deletion->job) == BK_OK)
        return;
    if (deletion->status != BK_OK) {
        bk_log_error(&tenants->log, "tenant_delete_failed", BK_STRING("tenant", name),
                     BK_TEXT("error", error.message));
        tenant_directory_add_name(tenants, name);
    }
    bk_loop_defer(loop_of(tenants), &deletion->task);
}

void bk_tenant_delete(struct bk_tenants *tenants, struct bk_slice name,
                      void (*done)(void *user, enum bk_status status), void *user) {
    struct entry *entry = bk_map_get(&tenants->entries, name);
    struct deletion *deletion = bk_alloc_zero(sizeof(*deletion));
    deletion->tenants = tenants;
    deletion->done = done;
    deletion->user = user;
    deletion->name = bk_alloc(name.length + 1);
    memcpy(deletion->name, name.data, name.length);
    deletion->name[name.length] = '\0';
    deletion->job.run = on_remove_run;
    deletion->job.done = on_remove_done;
    bk_task_init(&deletion->task, on_deletion_task);
    tenants->deletion_count++;
    if (!bk_tenant_exists(tenants, name) || bk_slice_is(name, "default")) {
        /* "default" exists from the start and for ever. */
        deletion->status = bk_tenant_exists(tenants, name) ? BK_FORBIDDEN : BK_NOT_FOUND;
        bk_loop_defer(loop_of(tenants), &deletion->task);
        return;
    }
    tenant_directory_remove_name(tenants, name);
    if (entry == NULL) {
        discard(deletion);
        return;
    }
    entry->deletion = deletion;
    if (entry->state == ENTRY_OPEN && entry->hold_count == 0)
        close_entry(entry);
}
