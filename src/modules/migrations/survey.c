/*
 * Files and rows side by side: what is applied, what waits, what has changed since, what is gone.
 * The folder is listed first, then the rows are read, then the files: a change that is recorded
 * meanwhile has its row before its file, so none is taken for one that waits. Rows are read on a
 * reader, files on the pool's thread. Names that are no migration's are left
 * alone, and so are folders.
 */
#include "migrations_private.h"

#include "bakend/file.h"
#include <stdlib.h>

static const char *const state_names[] = {
    [MIGRATION_APPLIED] = "applied",     [MIGRATION_PENDING] = "pending",
    [MIGRATION_CHANGED] = "changed",     [MIGRATION_MISSING] = "missing",
    [MIGRATION_UNWRITTEN] = "unwritten", [MIGRATION_EMPTY] = "empty",
    [MIGRATION_BROKEN] = "broken",
};

const char *migrations_state_name(enum migration_state state) { return state_names[state]; }

/* --- the files -------------------------------------------------------------------------------- */

struct migration_names {
    struct bk_arena *arena;
    struct bk_slice items[MIGRATIONS_FILES_MAX];
    size_t count;
    bool is_full;
};

static void on_file(void *user, const char *name, bool is_directory) {
    struct migration_names *names = user;
    if (is_directory || !migrations_name_is_valid(bk_slice_from(name)))
        return;
    if (names->count == MIGRATIONS_FILES_MAX)
        names->is_full = true;
    else
        names->items[names->count++] = bk_arena_copy(names->arena, bk_slice_from(name));
}

static int compare_names(const void *left, const void *right) {
    const struct bk_slice *one = left, *other = right;
    return bk_slice_compare(*one, *other);
}

static enum bk_status list_files(struct migration_survey *survey, struct migration_names *names) {
    const char *directory = survey->state->directory;
    if (!bk_file_exists(directory))
        return BK_OK;
    enum bk_status status = bk_directory_list(directory, on_file, names, &survey->error);
    if (status == BK_OK && names->is_full)
        status = bk_error_set(&survey->error, BK_LIMIT,
                              "%s: there are more than %d migrations: make a snapshot with "
                              "`bakend migrate collections` and remove the older ones",
                              directory, MIGRATIONS_FILES_MAX);
    qsort(names->items, names->count, sizeof names->items[0], compare_names);
    return status;
}

/* --- entries ---------------------------------------------------------------------------------- */

/* False: somebody has removed the file since it was listed. */
static bool judge(struct migration_survey *survey, struct migration_entry *entry) {
    struct migration migration;
    struct bk_arena scratch;
    struct bk_error error = BK_ERROR_INIT;
    bk_arena_init(&scratch, MIGRATIONS_ARENA_BYTES_MAX);
    enum bk_status status =
        migrations_read(&migration, survey->state->directory, entry->name, &scratch, &error);
    if (status != BK_OK && status != BK_NOT_FOUND) {
        entry->state = entry->row == NULL ? MIGRATION_BROKEN : MIGRATION_CHANGED;
        entry->reason = bk_arena_copy(survey->arena, bk_slice_from(error.message));
        if (entry->reason.length == 0)
            entry->reason = bk_slice_from(bk_status_text(status));
    } else if (status == BK_OK) {
        entry->hash =
            bk_arena_copy(survey->arena, bk_slice_make(migration.hash, sizeof migration.hash));
        entry->operation_count = migration.count;
        if (entry->row == NULL)
            entry->state = migration.count == 0 ? MIGRATION_EMPTY : MIGRATION_PENDING;
        else
            entry->state = bk_slice_equal(entry->row->hash, entry->hash) ? MIGRATION_APPLIED
                                                                         : MIGRATION_CHANGED;
    }
    bk_arena_fini(&scratch);
    return status != BK_NOT_FOUND;
}

static void add(struct migration_survey *survey, struct bk_slice name,
                const struct migration_row *row, bool has_file) {
    struct migration_entry *entry = bk_arena_alloc_zero(survey->arena, sizeof *entry);
    entry->name = name;
    entry->row = row;
    if (!has_file || !judge(survey, entry)) {
        if (row == NULL)
            return;
        entry->state = row->body.length > 0 ? MIGRATION_UNWRITTEN : MIGRATION_MISSING;
    }
    bk_list_push(&survey->entries, &entry->link);
}

/* Both are in the order of names. */
static void merge(struct migration_survey *survey, const struct migration_names *names) {
    struct bk_list *link = survey->rows.all.next;
    size_t index = 0;
    while (index < names->count || link != &survey->rows.all) {
        const struct migration_row *row =
            link == &survey->rows.all ? NULL : bk_container_of(link, struct migration_row, link);
        int order = row == NULL            ? -1
                    : index < names->count ? bk_slice_compare(names->items[index], row->name)
                                           : 1;
        add(survey, order <= 0 ? names->items[index] : row->name, order < 0 ? NULL : row,
            order <= 0);
        if (order <= 0)
            index++;
        if (order >= 0)
            link = link->next;
    }
}

/* Applied in the order of names all the same, but somebody may want to know. */
static void mark_late(struct migration_survey *survey) {
    bool is_after = false;
    for (struct bk_list *link = survey->entries.previous; link != &survey->entries;
         link = link->previous) {
        struct migration_entry *entry = bk_container_of(link, struct migration_entry, link);
        is_after |= entry->row != NULL;
        entry->is_late = is_after && entry->state == MIGRATION_PENDING;
    }
}

/* --- the flow --------------------------------------------------------------------------------- */

static void on_merge(struct bk_job *job, uint32_t thread_index) {
    struct migration_survey *survey = bk_container_of(job, struct migration_survey, job);
    (void)thread_index;
    merge(survey, survey->names);
    mark_late(survey);
    survey->status = bk_arena_status(survey->arena);
}

static void on_merged(struct bk_job *job) {
    struct migration_survey *survey = bk_container_of(job, struct migration_survey, job);
    survey->done(survey, survey->status);
}

static void on_rows(struct migration_rows *rows, enum bk_status status) {
    struct migration_survey *survey = bk_container_of(rows, struct migration_survey, rows);
    survey->job = (struct bk_job){.run = on_merge, .done = on_merged};
    survey->error = rows->error;
    if (status == BK_OK)
        status = bk_pool_submit(survey->state->pool, &survey->job);
    if (status != BK_OK)
        survey->done(survey, status);
}

static void on_list(struct bk_job *job, uint32_t thread_index) {
    struct migration_survey *survey = bk_container_of(job, struct migration_survey, job);
    struct migration_names *names = bk_arena_alloc(survey->arena, sizeof *names);
    (void)thread_index;
    survey->names = names;
    survey->status = BK_NO_MEMORY;
    if (names == NULL || survey->arena->is_overflown)
        return;
    names->arena = survey->arena;
    names->count = 0;
    names->is_full = false;
    survey->status = list_files(survey, names);
}

static void on_listed(struct bk_job *job) {
    struct migration_survey *survey = bk_container_of(job, struct migration_survey, job);
    enum bk_status status = survey->status;
    if (status == BK_OK)
        status = migrations_rows_read(&survey->rows, survey->arena, survey->tenant->database);
    if (status != BK_OK)
        survey->done(survey, status);
}

enum bk_status migrations_survey_start(struct migration_survey *survey,
                                       struct migrations_state *state, struct bk_tenant *tenant,
                                       struct bk_arena *arena) {
    BK_ASSERT(survey->done != NULL);
    survey->state = state;
    survey->tenant = tenant;
    survey->arena = arena;
    survey->error = (struct bk_error)BK_ERROR_INIT;
    survey->rows.done = on_rows;
    survey->rows.is_unwritten_only = false;
    bk_list_init(&survey->entries);
    survey->job = (struct bk_job){.run = on_list, .done = on_listed};
    return bk_pool_submit(state->pool, &survey->job);
}
