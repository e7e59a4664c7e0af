/*
 * Messages of a tenant that has no mail server: files that a mail client opens, one for each,
 * named by the task. So that nobody who forgets them fills a disk, only the newest stay. Names sort
 * by time, and begin with it (id.h).
 *
 * They hold what mails hold, tokens too: directory and files are for nobody but the program's user.
 */
#include "mail.h"

#include "bakend/alloc.h"
#include "bakend/file.h"
#include "bakend/id.h"
#include <stdlib.h>

enum { NAME_BYTES = 32, LISTED_MAX = 100000, NAME_TIME_BYTES = 8 };

bool mail_directory(const struct bk_module_context *context, const struct bk_tenant *tenant,
                    char path[MAIL_PATH_BYTES]) {
    bool is_operators = bk_slice_is(tenant->name, "default");
    return bk_path_join(path, MAIL_PATH_BYTES,
                        is_operators ? context->data_directory : tenant->directory, "mail");
}

/* --- the oldest go ---------------------------------------------------------------------------- */

struct mail_file {
    char name[NAME_BYTES];
    int64_t size_bytes;
};

struct survey {
    const char *directory;
    struct bk_buffer files; /* of struct mail_file */
    int64_t size_bytes;
};

static void on_entry(void *user, const char *name, bool is_directory) {
    struct survey *survey = user;
    struct mail_file file = {.size_bytes = 0};
    struct bk_slice text = bk_slice_from(name);
    char path[MAIL_PATH_BYTES];
    if (is_directory || !bk_slice_ends_with(text, BK_SLICE(".eml")) || text.length >= NAME_BYTES ||
        !bk_path_join(path, sizeof path, survey->directory, name))
        return;
    memcpy(file.name, name, text.length + 1);
    file.size_bytes = bk_file_size(path);
    if (file.size_bytes < 0)
        return;
    bk_buffer_append(&survey->files, &file, sizeof file);
    survey->size_bytes += file.size_bytes;
}

static int compare(const void *a, const void *b) {
    return strcmp(((const struct mail_file *)a)->name, ((const struct mail_file *)b)->name);
}

/* The newest one stays, however large it is. */
static void remove_oldest(struct survey *survey, size_t files_max, int64_t bytes_max) {
    size_t count = survey->files.length / sizeof(struct mail_file);
    struct mail_file *files = bk_alloc(survey->files.length + 1);
    char path[MAIL_PATH_BYTES];
    if (count > 0)
        memcpy(files, survey->files.data, survey->files.length);
    qsort(files, count, sizeof *files, compare);
    for (size_t i = 0; i + 1 < count; i++) {
        if (count - i <= files_max && survey->size_bytes <= bytes_max)
            break;
        if (bk_path_join(path, sizeof path, survey->directory, files[i].name) &&
            bk_file_remove(path, NULL) == BK_OK)
            survey->size_bytes -= files[i].size_bytes;
    }
    bk_free(files);
}

enum bk_status mail_file_write(const char *directory, struct bk_slice name, struct bk_slice data,
                               size_t files_max, int64_t bytes_max, struct bk_error *error) {
    struct survey survey = {.directory = directory};
    char path[MAIL_PATH_BYTES], base[NAME_BYTES];
    BK_ASSERT(name.length + sizeof ".eml" <= sizeof base);
    memcpy(base, name.data, name.length);
    memcpy(base + name.length, ".eml", sizeof ".eml");
    enum bk_status status = bk_directory_create(directory, error);
    if (status == BK_OK && !bk_path_join(path, sizeof path, directory, base))
        status = bk_error_set(error, BK_INVALID, "%s: the path is too long", directory);
    if (status == BK_OK)
        status = bk_file_write_atomic(path, data, error);
    if (status != BK_OK)
        return status;
    bk_buffer_init(&survey.files, LISTED_MAX * sizeof(struct mail_file));
    /* What cannot be tidied up now is so with the next one. */
    if (bk_directory_list(directory, on_entry, &survey, NULL) == BK_OK)
        remove_oldest(&survey, files_max, bytes_max);
    bk_buffer_fini(&survey.files);
    return BK_OK;
}

/* --- the old ones go -------------------------------------------------------------------------- */

/* What somebody put there himself stays. */
static bool is_of_task(struct bk_slice name) {
    struct bk_slice id = bk_slice_make(name.data, name.length - strlen(".eml"));
    for (size_t i = 0; i < id.length; i++)
        if ((id.data[i] < '0' || id.data[i] > '9') && (id.data[i] < 'a' || id.data[i] > 'z'))
            return false;
    return id.length == BK_RECORD_ID_BYTES;
}

uint64_t mail_files_remove_before(const char *directory, int64_t wall_ms) {
    struct survey survey = {.directory = directory};
    char path[MAIL_PATH_BYTES], first[BK_RECORD_ID_BYTES];
    uint64_t removed_count = 0;
    bk_record_id_make(first, wall_ms);
    bk_buffer_init(&survey.files, LISTED_MAX * sizeof(struct mail_file));
    if (bk_file_exists(directory))
        (void)bk_directory_list(directory, on_entry, &survey, NULL);
    for (size_t at = 0; at + sizeof(struct mail_file) <= survey.files.length;
         at += sizeof(struct mail_file)) {
        struct mail_file file;
        memcpy(&file, survey.files.data + at, sizeof file);
        if (is_of_task(bk_slice_from(file.name)) &&
            strncmp(file.name, first, NAME_TIME_BYTES) < 0 &&
            bk_path_join(path, sizeof path, directory, file.name))
            removed_count += bk_file_remove(path, NULL) == BK_OK;
    }
    bk_buffer_fini(&survey.files);
    return removed_count;
}
