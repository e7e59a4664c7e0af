/*
 * A damaged logs.db gives way to a new one: only logs are in it, and what is left of them stays
 * beside it for whoever wants to look, as logs.db.damaged-20260608120000000, until the next one.
 *
 *   1  what was kept of an earlier damage is removed
 *   2  logs.db is renamed, then its write-ahead log
 *
 * Interrupted between the two it leaves a write-ahead log without a database, which is damage
 * again: the next opening goes on. On the loop: two renames and two unlinks, once in the life of a
 * tenant's logs at most.
 */
#include "logging_private.h"

#include "bakend/clock.h"
#include "bakend/file.h"

#include <stdio.h>

static const struct bk_slice kept_prefix = BK_SLICE_INIT("logs.db.damaged-");

enum { ASIDE_SUFFIX_BYTES = 64 }; /* ".damaged-", 17 digits, "-wal" */

/* --- what was kept earlier -------------------------------------------------------------------- */

struct removal {
    const char *directory;
    enum bk_status status;
    struct bk_error *error;
};

static void on_entry(void *user, const char *name, bool is_directory) {
    struct removal *removal = user;
    char path[LOGGING_PATH_BYTES];
    if (is_directory || !bk_slice_starts_with(bk_slice_from(name), kept_prefix) ||
        !bk_path_join(path, sizeof path, removal->directory, name))
        return;
    enum bk_status status = bk_file_remove(path, removal->error);
    if (status != BK_OK)
        removal->status = status;
}

static enum bk_status remove_kept(const char *path, struct bk_error *error) {
    char directory[LOGGING_PATH_BYTES];
    struct removal removal = {.directory = directory, .status = BK_OK, .error = error};
    const char *slash = strrchr(path, '/');
    BK_ASSERT(slash != NULL);
    snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    enum bk_status status = bk_directory_list(directory, on_entry, &removal, error);
    return status == BK_OK ? removal.status : status;
}

/* --- moving aside ----------------------------------------------------------------------------- */

/* Either may be missing, as after an interruption. */
static enum bk_status rename_if_there(const char *path, const char *aside, const char *suffix,
                                      struct bk_error *error) {
    char from[LOGGING_PATH_BYTES + ASIDE_SUFFIX_BYTES], to[LOGGING_PATH_BYTES + ASIDE_SUFFIX_BYTES];
    snprintf(from, sizeof from, "%s%s", path, suffix);
    snprintf(to, sizeof to, "%s%s", aside, suffix);
    return bk_file_exists(from) ? bk_file_rename(from, to, error) : BK_OK;
}

static void remove_shared_memory(const char *path) {
    char shared[LOGGING_PATH_BYTES + ASIDE_SUFFIX_BYTES];
    snprintf(shared, sizeof shared, "%s-shm", path);
    if (bk_file_exists(shared))
        (void)bk_file_remove(shared, NULL); /* SQLite makes it anew from the log */
}

static void write_aside(char *out, size_t size_bytes, const char *path) {
    char time[BK_TIME_TEXT_BYTES], digits[BK_TIME_TEXT_BYTES + 1];
    size_t count = 0;
    bk_time_format(time, bk_clock_wall_ms(), 'T');
    for (size_t i = 0; i < sizeof time; i++) {
        if (time[i] >= '0' && time[i] <= '9')
            digits[count++] = time[i];
    }
    digits[count] = '\0';
    snprintf(out, size_bytes, "%s.damaged-%s", path, digits);
}

enum bk_status logging_move_aside(const struct logging_journal *journal, struct bk_error *error) {
    char aside[LOGGING_PATH_BYTES + ASIDE_SUFFIX_BYTES];
    BK_ASSERT(journal->database == NULL);
    write_aside(aside, sizeof aside, journal->path);
    enum bk_status status = remove_kept(journal->path, error);
    if (status == BK_OK)
        status = rename_if_there(journal->path, aside, "", error);
    if (status == BK_OK)
        status = rename_if_there(journal->path, aside, "-wal", error);
    if (status != BK_OK)
        return status;
    remove_shared_memory(journal->path);
    bk_log_warn(&journal->logging->context->log, "logs_damaged",
                BK_STRING("tenant", bk_slice_make(journal->tenant, journal->tenant_length)),
                BK_TEXT("kept", aside),
                BK_TEXT("effect", "only logs were in it: a new logs.db is made"));
    return BK_OK;
}
