/* The routes. Each begins work that ends on the loop with the answer. */
#include "migrations_private.h"

#include "bakend/clock.h"
#include "bakend/file.h"

enum { DOWN_MAX = 1000, ANSWER_LIST_BYTES_MAX = 4 * 1024 * 1024 };

static struct migrations_state *state_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    return context->state;
}

static bool is_set(const struct bk_request *request, const char *name) {
    const struct bk_json *member = bk_json_get(request->json, bk_slice_from(name));
    return member != NULL && member->type == BK_JSON_BOOL && member->boolean;
}

static void answer_failure(struct bk_request *request, enum bk_status status,
                           const struct bk_error *error) {
    bk_answer_error(request, status, error->message[0] != '\0' ? error->message : NULL);
}

/* --- list ------------------------------------------------------------------------------------- */

struct listing {
    struct bk_request *request;
    struct migration_survey survey;
    struct bk_write write; /* of a sync */
};

static void write_entry(struct bk_buffer *out, const struct migration_entry *entry) {
    bk_json_write_separator(out);
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("file"), entry->name);
    bk_json_write_member_string(out, BK_SLICE("state"),
                                bk_slice_from(migrations_state_name(entry->state)));
    bk_json_write_member_string(out, BK_SLICE("applied"),
                                entry->row == NULL ? BK_SLICE("") : entry->row->applied);
    bk_json_write_member_int(out, BK_SLICE("operations"), entry->operation_count);
    bk_json_write_member_bool(out, BK_SLICE("late"), entry->is_late);
    bk_json_write_member_string(out, BK_SLICE("reason"), entry->reason);
    bk_buffer_append_char(out, '}');
}

static void on_listed(struct migration_survey *survey, enum bk_status status) {
    struct listing *listing = bk_container_of(survey, struct listing, survey);
    struct bk_request *request = listing->request;
    struct migrations_state *state = state_of(request);
    if (status == BK_OK) {
        bk_buffer_append_char(&request->out, '{');
        bk_json_write_member_string(&request->out, BK_SLICE("directory"),
                                    bk_slice_from(state->directory));
        bk_json_write_key(&request->out, BK_SLICE("items"));
        bk_buffer_append_char(&request->out, '[');
        BK_LIST_FOR_EACH(link, &survey->entries) {
            write_entry(&request->out, bk_container_of(link, struct migration_entry, link));
        }
        bk_buffer_append_literal(&request->out, "]}");
        bk_answer(request, 200);
    } else {
        answer_failure(request, status, &survey->error);
    }
    migrations_end(state);
}

static void start_listing(struct bk_request *request,
                          void (*done)(struct migration_survey *survey, enum bk_status status)) {
    struct migrations_state *state = state_of(request);
    struct listing *listing = bk_arena_alloc_zero(&request->arena, sizeof *listing);
    listing->request = request;
    listing->survey.done = done;
    enum bk_status status =
        migrations_survey_start(&listing->survey, state, request->tenant, &request->arena);
    if (status == BK_OK)
        migrations_begin(state);
    else
        bk_answer_error(request, status, NULL);
}

void migrations_list(struct bk_request *request) { start_listing(request, on_listed); }

/* --- up, down --------------------------------------------------------------------------------- */

static void write_params(struct bk_buffer *out, const struct migrations_result *result) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("file"), result->file);
    bk_json_write_member_raw(out, BK_SLICE("done"), result->names);
    bk_json_write_member_raw(out, BK_SLICE("warnings"), result->warnings);
    if (result->losses != NULL) {
        bk_json_write_key(out, BK_SLICE("losses"));
        migrations_losses_write_json(out, result->losses);
    }
    bk_buffer_append_char(out, '}');
}

/* data.migrations: the file, what was done before it, and what it would have lost. */
static void answer_stopped(struct bk_request *request, const struct migrations_result *result) {
    struct bk_buffer params;
    bk_buffer_init(&params, ANSWER_LIST_BYTES_MAX);
    write_params(&params, result);
    bk_problems_add_params(&request->problems, BK_SLICE("migrations"),
                           result->losses != NULL ? "data_loss" : "migration_failed",
                           result->error.message, bk_buffer_slice(&params));
    bk_buffer_fini(&params);
    bk_answer_problems(request, result->status == BK_CONFLICT ? BK_CONFLICT : BK_INVALID,
                       result->error.message);
}

static void on_run_done(void *user, const struct migrations_result *result) {
    struct bk_request *request = user;
    if (result->status != BK_OK && result->file.length > 0) {
        answer_stopped(request, result);
        return;
    }
    if (result->status != BK_OK) {
        answer_failure(request, result->status, &result->error);
        return;
    }
    bool is_reverse = bk_slice_ends_with(request->path, BK_SLICE("/down"));
    bk_buffer_append_char(&request->out, '{');
    bk_json_write_member_raw(&request->out, is_reverse ? BK_SLICE("reverted") : BK_SLICE("applied"),
                             result->names);
    bk_json_write_member_raw(&request->out, BK_SLICE("warnings"), result->warnings);
    bk_buffer_append_char(&request->out, '}');
    bk_answer(request, 200);
}

static void start_run(struct bk_request *request, const struct migrations_order *order) {
    enum bk_status status =
        migrations_run_start(state_of(request), request->tenant, order, on_run_done, request);
    if (status == BK_CONFLICT)
        bk_answer_error(request, status,
                        "Migrations are being applied already: try again in a moment.");
    else if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

void migrations_up(struct bk_request *request) {
    const struct migrations_order order = {.allows_loss = is_set(request, "allowDataLoss")};
    start_run(request, &order);
}

void migrations_down(struct bk_request *request) {
    const struct bk_json *member = bk_json_get(request->json, BK_SLICE("count"));
    int64_t count = 1;
    if (member != NULL && (!bk_json_to_int64(member, &count) || count < 1 || count > DOWN_MAX)) {
        bk_problems_add(&request->problems, BK_SLICE("count"), "validation_invalid_count",
                        "Must be a number from 1 to 1000: how many to take back.");
        bk_answer_problems(request, BK_INVALID, "Nothing was taken back.");
        return;
    }
    const struct migrations_order order = {.is_reverse = true,
                                           .count_max = (uint32_t)count,
                                           .allows_loss = is_set(request, "allowDataLoss")};
    start_run(request, &order);
}

/* --- an empty file ---------------------------------------------------------------------------- */

struct creation {
    struct bk_request *request;
    struct migrations_state *state;
    struct bk_job job;
    struct bk_slice name;
    enum bk_status status;
    struct bk_error error;
};

static void on_create(struct bk_job *job, uint32_t thread_index) {
    struct creation *creation = bk_container_of(job, struct creation, job);
    const char *directory = creation->state->directory;
    char path[MIGRATIONS_PATH_BYTES];
    (void)thread_index;
    creation->status = bk_directory_create(directory, &creation->error);
    if (creation->status != BK_OK)
        return;
    if (!bk_path_join(path, sizeof path, directory, creation->name.data))
        creation->status = bk_error_set(&creation->error, BK_INVALID, "The path is too long.");
    else if (bk_file_exists(path))
        creation->status = bk_error_set(&creation->error, BK_EXISTS, "%s exists already.", path);
    else
        creation->status = bk_file_write_atomic(
            path, BK_SLICE("{\n  \"format\": 1,\n  \"operations\": []\n}\n"), &creation->error);
}

static void answer_file(struct bk_request *request, struct bk_slice name) {
    struct migrations_state *state = state_of(request);
    bk_buffer_append_char(&request->out, '{');
    bk_json_write_member_string(&request->out, BK_SLICE("file"), name);
    bk_json_write_member_string(
        &request->out, BK_SLICE("path"),
        bk_arena_format(&request->arena, "%s/%.*s", state->directory, BK_SLICE_PRINT(name)));
    bk_buffer_append_char(&request->out, '}');
    bk_answer(request, 200);
}

static void on_created(struct bk_job *job) {
    struct creation *creation = bk_container_of(job, struct creation, job);
    struct migrations_state *state = creation->state;
    if (creation->status == BK_OK)
        answer_file(creation->request, creation->name);
    else
        answer_failure(creation->request, creation->status, &creation->error);
    migrations_end(state);
}

void migrations_create(struct bk_request *request) {
    struct migrations_state *state = state_of(request);
    struct bk_slice what = bk_json_get_string(request->json, BK_SLICE("name"));
    if (what.length == 0) {
        bk_problems_add(&request->problems, BK_SLICE("name"), "validation_required",
                        "Say in a word what the migration does.");
        bk_answer_problems(request, BK_INVALID, "No migration was made.");
        return;
    }
    struct creation *creation = bk_arena_alloc_zero(&request->arena, sizeof *creation);
    creation->request = request;
    creation->state = state;
    /* Behind those that are applied: several changes of a second have run ahead of the clock. */
    int64_t seconds = bk_clock_wall_ms() / 1000;
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    enum bk_status status = connection == NULL
                                ? BK_CLOSING
                                : migrations_row_seconds(connection, 1000 * seconds, &seconds);
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    creation->name = migrations_name_make(&request->arena, seconds, "", what);
    creation->job = (struct bk_job){.run = on_create, .done = on_created};
    status = bk_pool_submit(state->pool, &creation->job);
    if (status == BK_OK)
        migrations_begin(state);
    else
        bk_answer_error(request, status, NULL);
}

/* --- a snapshot ------------------------------------------------------------------------------- */

struct snapshot {
    struct bk_request *request;
    struct bk_buffer text;
    struct bk_slice name;
    struct bk_write write;
};

/* It is what the database is already, so it counts as applied from the beginning. */
static enum bk_status on_snapshot_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct snapshot *snapshot = bk_container_of(write, struct snapshot, write);
    struct bk_slice text = bk_buffer_slice(&snapshot->text);
    struct bk_arena arena;
    struct migration parsed;
    int64_t seconds = 0;
    enum bk_status status = migrations_row_seconds(bk_transaction_connection(transaction),
                                                   bk_transaction_now_ms(transaction), &seconds);
    if (status != BK_OK)
        return status;
    bk_arena_init(&arena, MIGRATIONS_ARENA_BYTES_MAX);
    struct bk_slice name =
        migrations_name_make(&arena, seconds, "collections_snapshot", BK_SLICE(""));
    status = migrations_parse(&parsed, name, text, &arena, NULL);
    if (status == BK_OK)
        status = migrations_row_insert(transaction, name,
                                       bk_slice_make(parsed.hash, sizeof parsed.hash), text);
    /* The request waits, so its arena is this write's. */
    snapshot->name = bk_arena_copy(&snapshot->request->arena, name);
    bk_arena_fini(&arena);
    return status;
}

static void on_snapshot_flushed(void *user, enum bk_status status) {
    struct snapshot *snapshot = user;
    struct bk_request *request = snapshot->request;
    bk_buffer_fini(&snapshot->text);
    if (status == BK_OK)
        answer_file(request, snapshot->name);
    else
        bk_answer_error(request, status,
                        "The file could not be written: make the folder migrations writable. The "
                        "next start writes it.");
}

static void on_snapshot_done(struct bk_write *write, enum bk_status status) {
    struct snapshot *snapshot = bk_container_of(write, struct snapshot, write);
    struct bk_request *request = snapshot->request;
    if (status == BK_OK) {
        migrations_flush(state_of(request), request->tenant, on_snapshot_flushed, snapshot);
    } else {
        bk_buffer_fini(&snapshot->text);
        bk_answer_error(request, status, NULL);
    }
}

void migrations_snapshot(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct snapshot *snapshot = bk_arena_alloc_zero(&request->arena, sizeof *snapshot);
    struct bk_arena arena;
    snapshot->request = request;
    bk_buffer_init(&snapshot->text, MIGRATIONS_FILE_BYTES_MAX);
    bk_arena_init(&arena, MIGRATIONS_ARENA_BYTES_MAX);
    migrations_snapshot_write(&snapshot->text, bk_schema_current(context->schema, request->tenant),
                              &arena);
    enum bk_status status = bk_arena_status(&arena);
    bk_arena_fini(&arena);
    if (status == BK_OK)
        status = bk_buffer_status(&snapshot->text);
    snapshot->write = (struct bk_write){.lane = BK_LANE_REQUEST,
                                        .origin = &request->origin,
                                        .run = on_snapshot_run,
                                        .done = on_snapshot_done};
    if (status == BK_OK)
        status = bk_store_write(request->tenant->database, &snapshot->write);
    if (status == BK_OK)
        return;
    bk_buffer_fini(&snapshot->text);
    bk_answer_error(request, status, NULL);
}

/* --- history-sync ----------------------------------------------------------------------------- */

static bool is_acceptable(const struct migration_entry *entry) {
    return entry->state == MIGRATION_CHANGED && entry->hash.length > 0;
}

static enum bk_status on_sync_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct listing *listing = bk_container_of(write, struct listing, write);
    enum bk_status status = BK_OK;
    BK_LIST_FOR_EACH(link, &listing->survey.entries) {
        const struct migration_entry *entry = bk_container_of(link, struct migration_entry, link);
        if (status == BK_OK && entry->state == MIGRATION_MISSING)
            status = migrations_row_delete(transaction, entry->name);
        else if (status == BK_OK && is_acceptable(entry))
            status = migrations_row_set_hash(transaction, entry->name, entry->hash);
    }
    return status;
}

static void on_synced(struct bk_write *write, enum bk_status status) {
    struct listing *listing = bk_container_of(write, struct listing, write);
    struct bk_request *request = listing->request;
    struct migrations_state *state = state_of(request);
    struct bk_buffer *out = &request->out;
    if (status == BK_OK) {
        bk_buffer_append_literal(out, "{\"forgotten\":[");
        BK_LIST_FOR_EACH(link, &listing->survey.entries) {
            const struct migration_entry *entry =
                bk_container_of(link, struct migration_entry, link);
            if (entry->state == MIGRATION_MISSING) {
                bk_json_write_separator(out);
                bk_json_write_string(out, entry->name);
            }
        }
        bk_buffer_append_literal(out, "],\"taken\":[");
        BK_LIST_FOR_EACH(link, &listing->survey.entries) {
            const struct migration_entry *entry =
                bk_container_of(link, struct migration_entry, link);
            if (is_acceptable(entry)) {
                bk_json_write_separator(out);
                bk_json_write_string(out, entry->name);
            }
        }
        bk_buffer_append_literal(out, "]}");
        bk_answer(request, 200);
    } else {
        bk_answer_error(request, status, NULL);
    }
    migrations_end(state);
}

static void on_surveyed(struct migration_survey *survey, enum bk_status status) {
    struct listing *listing = bk_container_of(survey, struct listing, survey);
    struct bk_request *request = listing->request;
    listing->write = (struct bk_write){
        .lane = BK_LANE_REQUEST, .origin = &request->origin, .run = on_sync_run, .done = on_synced};
    if (status == BK_OK)
        status = bk_store_write(request->tenant->database, &listing->write);
    if (status == BK_OK)
        return;
    struct migrations_state *state = state_of(request);
    answer_failure(request, status, &survey->error);
    migrations_end(state);
}

void migrations_sync(struct bk_request *request) { start_listing(request, on_surveyed); }

/* --- what an import would lose ---------------------------------------------------------------- */

struct judging {
    struct bk_request *request;
    struct migration_losses losses;
};

static void answer_losses(struct judging *judging) {
    struct bk_request *request = judging->request;
    bk_buffer_append_literal(&request->out, "{\"losses\":");
    migrations_losses_write_json(&request->out, &judging->losses);
    bk_buffer_append_char(&request->out, '}');
    bk_answer(request, 200);
}

static void on_losses(struct migration_losses *losses, enum bk_status status) {
    struct judging *judging = bk_container_of(losses, struct judging, losses);
    if (status == BK_OK)
        answer_losses(judging);
    else
        bk_answer_error(judging->request, status, NULL);
}

/* The collection that an item of an import is for: by its id, or by its name without one. */
static const struct bk_collection *find_target(const struct bk_schema *schema,
                                               const struct bk_json *item) {
    struct bk_slice id = bk_json_get_string(item, BK_SLICE("id"));
    if (id.length == 0)
        id = bk_json_get_string(item, BK_SLICE("name"));
    return id.length == 0 ? NULL : bk_schema_find(schema, id);
}

static bool is_imported(const struct bk_schema *schema, const struct bk_json *list,
                        const struct bk_collection *collection) {
    for (const struct bk_json *item = list->child; item != NULL; item = item->next)
        if (find_target(schema, item) == collection)
            return true;
    return false;
}

/* An import that removes what is missing takes the fields of one that has no list at all. */
static void add_item(struct judging *judging, const struct bk_schema *schema,
                     const struct bk_json *item, bool is_exact) {
    static const struct bk_json no_fields = {
        .type = BK_JSON_ARRAY, .key = BK_SLICE_INIT("fields"), .text = BK_SLICE_INIT("[]")};
    struct bk_json bare = {.type = BK_JSON_OBJECT, .child_count = 1};
    struct bk_json fields = no_fields;
    const struct bk_collection *target = find_target(schema, item);
    if (target == NULL)
        return;
    bare.child = &fields;
    bool is_bare = is_exact && bk_json_get(item, BK_SLICE("fields")) == NULL;
    const struct migration_step step = {.is_needed = true,
                                        .keeps_fields = !is_exact,
                                        .action = BK_SCHEMA_UPDATE,
                                        .target = target->id,
                                        .definition = is_bare ? &bare : item};
    migrations_losses_add(&judging->losses, schema, &step);
}

void migrations_losses(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    const struct bk_schema *schema = bk_schema_current(context->schema, request->tenant);
    const struct bk_json *list = bk_json_get(request->json, BK_SLICE("collections"));
    bool is_exact = is_set(request, "deleteMissing");
    if (list == NULL || list->type != BK_JSON_ARRAY) {
        bk_problems_add(&request->problems, BK_SLICE("collections"), "validation_required",
                        "Must be the list of collections that is to be imported.");
        bk_answer_problems(request, BK_INVALID, "Nothing was looked at.");
        return;
    }
    struct judging *judging = bk_arena_alloc_zero(&request->arena, sizeof *judging);
    judging->request = request;
    migrations_losses_init(&judging->losses, &request->arena);
    judging->losses.done = on_losses;
    for (const struct bk_json *item = list->child; item != NULL; item = item->next)
        add_item(judging, schema, item, is_exact);
    for (size_t i = 0; is_exact && i < bk_schema_count(schema); i++) {
        const struct bk_collection *collection = bk_schema_at(schema, i);
        const struct migration_step step = {
            .is_needed = true, .action = BK_SCHEMA_DELETE, .target = collection->id};
        if (!collection->is_system && !is_imported(schema, list, collection))
            migrations_losses_add(&judging->losses, schema, &step);
    }
    enum bk_status status = migrations_losses_count(&judging->losses, request->tenant->database);
    if (status == BK_END)
        answer_losses(judging);
    else if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}
