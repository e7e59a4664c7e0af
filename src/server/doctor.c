/*
 * `bakend doctor`: looks at a data directory and says what is wrong and what to do. It changes
 * nothing, but for numbers of records that are wrong, with --fix. On a stopped directory it holds
 * the lock and checks every tenant's database file; where a server runs the databases are its own,
 * so it is asked how it is, and only the files around are checked.
 *
 * Findings are ok, warning or problem; the exit code is 1 when there is a problem.
 */
#include "data_directory.h"
#include "program.h"

#include "bakend/file.h"
#include <stdio.h>
#include <sys/statvfs.h>

enum {
    PATH_BYTES = 4096,
    OTHERS_MAY = 077,
    REPORT_MAX_BYTES = 4 * 1024 * 1024,
};
#define FREE_BYTES_MIN ((uint64_t)1024 * 1024 * 1024)

enum finding_level { FINDING_OK, FINDING_WARNING, FINDING_PROBLEM };

struct doctor {
    const char *data_directory;
    bool is_running, mends;
    struct bk_buffer text, json;
    uint32_t counts[3];
};

/* --- findings --------------------------------------------------------------------------------- */

/* remedy: what to do; "" when there is nothing to do. */
static void report(struct doctor *doctor, enum finding_level level, const char *subject,
                   const char *finding, const char *remedy) {
    static const char *const names[] = {"ok", "warning", "problem"};
    doctor->counts[level]++;
    bk_buffer_format(&doctor->text, "%-8s %s: %s\n", names[level], subject, finding);
    if (remedy[0] != '\0')
        bk_buffer_format(&doctor->text, "         %s\n", remedy);
    bk_json_write_separator(&doctor->json);
    bk_buffer_append_char(&doctor->json, '{');
    bk_json_write_member_string(&doctor->json, BK_SLICE("level"), bk_slice_from(names[level]));
    bk_json_write_member_string(&doctor->json, BK_SLICE("subject"), bk_slice_from(subject));
    bk_json_write_member_string(&doctor->json, BK_SLICE("finding"), bk_slice_from(finding));
    bk_json_write_member_string(&doctor->json, BK_SLICE("remedy"), bk_slice_from(remedy));
    bk_buffer_append_char(&doctor->json, '}');
}

static void check_mode(struct doctor *doctor, const char *path, const char *right_mode) {
    char finding[128], remedy[PATH_BYTES + 128];
    int mode = data_directory_mode(path);
    if (mode < 0)
        return;
    if ((mode & OTHERS_MAY) == 0) {
        report(doctor, FINDING_OK, path, "private", "");
        return;
    }
    snprintf(finding, sizeof finding, "other users may reach it (mode %04o)", (unsigned)mode);
    snprintf(remedy, sizeof remedy, "run chmod %s %s", right_mode, path);
    report(doctor, FINDING_PROBLEM, path, finding, remedy);
}

/* --- the directory ---------------------------------------------------------------------------- */

static void check_key(struct doctor *doctor) {
    char path[PATH_BYTES];
    struct bk_error error = BK_ERROR_INIT;
    uint8_t key[BK_KEY_BYTES];
    bool is_new = false;
    if (!bk_path_join(path, sizeof path, doctor->data_directory, "instance.key"))
        return;
    if (!bk_file_exists(path)) {
        report(doctor, FINDING_WARNING, path, "missing",
               "the next start makes a new one: tokens and secrets made with the old one are lost");
        return;
    }
    if (data_directory_read_key(doctor->data_directory, key, &is_new, &error) == BK_OK)
        report(doctor, FINDING_OK, path, "readable by its owner only, and a key", "");
    else
        report(doctor, FINDING_PROBLEM, path, error.message, "");
    bk_crypto_wipe(key, sizeof key);
}

/* Nothing is lost with it. */
static void check_instance(struct doctor *doctor) {
    char path[PATH_BYTES];
    if (!bk_path_join(path, sizeof path, doctor->data_directory, "instance.db") ||
        !bk_file_exists(path))
        return;
    check_mode(doctor, path, "600");
    if (doctor->is_running)
        return;
    enum bk_status status = bk_database_check_file(path, NULL);
    if (status == BK_OK)
        report(doctor, FINDING_OK, path, "whole", "");
    else if (status == BK_CORRUPT)
        report(doctor, FINDING_WARNING, path, "damaged",
               "the next start puts it aside and opens all tenants in turn to see what is due");
    else
        report(doctor, FINDING_WARNING, path, bk_status_text(status),
               "remove it: the next start makes it anew");
}

static void check_free_space(struct doctor *doctor) {
    struct statvfs disk;
    char finding[64];
    if (statvfs(doctor->data_directory, &disk) != 0)
        return;
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    snprintf(finding, sizeof finding, "%llu MiB free on its disk",
             (unsigned long long)(free_bytes / (1024 * 1024)));
    if (free_bytes >= FREE_BYTES_MIN)
        report(doctor, FINDING_OK, doctor->data_directory, finding, "");
    else
        report(doctor, FINDING_WARNING, doctor->data_directory, finding,
               "make room, or lower --retention-max-age: a full disk stops all writes");
}

/* --- tenants ---------------------------------------------------------------------------------- */

static void on_content(void *user, const char *name, bool is_directory) {
    (void)is_directory;
    if (name[0] != '.')
        ++*(uint32_t *)user;
}

static void explain_missing(struct doctor *doctor, const char *directory, const char *path) {
    uint32_t count = 0;
    (void)bk_directory_list(directory, on_content, &count, NULL);
    if (data_directory_has(directory, "unfinished"))
        report(doctor, FINDING_WARNING, path, "missing: the tenant is half made or half removed",
               "the next start removes the directory");
    else if (count > 0)
        report(doctor, FINDING_PROBLEM, path, "missing, though this tenant was in use",
               "put the file back, or restore a backup with `bakend restore`");
    else
        report(doctor, FINDING_WARNING, path, "missing, as of a tenant never used",
               "its first request makes the database; the next start removes the directory if no "
               "record of _tenants names it");
}

struct totals {
    struct doctor *doctor;
    const char *path;
};

static void on_wrong_total(void *user, const char *table, int64_t kept, int64_t counted) {
    struct totals *totals = user;
    char finding[PATH_BYTES];
    snprintf(finding, sizeof finding, "%s has %lld records, and lists say %lld", table,
             (long long)counted, (long long)kept);
    if (totals->doctor->mends)
        report(totals->doctor, FINDING_WARNING, totals->path, finding, "mended");
    else
        report(totals->doctor, FINDING_PROBLEM, totals->path, finding,
               "`bakend doctor --fix` puts the right number in its place");
}

/* Kept by each transaction (store/rows.c): wrong only after a fault, or a hand. */
static void check_totals(struct doctor *doctor, const char *path) {
    struct totals totals = {doctor, path};
    const struct bk_rows_check check = {doctor->mends, on_wrong_total, &totals};
    struct bk_error error = BK_ERROR_INIT;
    if (bk_rows_check_file(path, &check, &error) != BK_OK)
        report(doctor, FINDING_PROBLEM, path, error.message, "");
}

static void check_database(struct doctor *doctor, const char *directory) {
    char path[PATH_BYTES];
    struct bk_error error = BK_ERROR_INIT;
    if (!bk_path_join(path, sizeof path, directory, "data.db"))
        return;
    if (!bk_file_exists(path)) {
        explain_missing(doctor, directory, path);
        return;
    }
    check_mode(doctor, path, "600");
    if (doctor->is_running)
        return;
    if (bk_database_check_file(path, &error) != BK_OK) {
        report(
            doctor, FINDING_PROBLEM, path, error.message,
            "keep a copy of the directory, then `bakend restore FILE` with the last backup (with "
            "--tenant NAME unless it is default)");
        return;
    }
    report(doctor, FINDING_OK, path, "whole, its journal without gaps", "");
    check_totals(doctor, path);
}

struct tenant_walk {
    struct doctor *doctor;
    const char *tenants_directory;
};

static void on_tenant_entry(void *user, const char *name, bool is_directory) {
    struct tenant_walk *walk = user;
    char directory[PATH_BYTES];
    if (!is_directory || !bk_path_join(directory, sizeof directory, walk->tenants_directory, name))
        return;
    if (!bk_tenant_name_is_valid(bk_slice_from(name))) {
        bool is_restore = bk_slice_starts_with(bk_slice_from(name), BK_SLICE(".restoring-"));
        report(walk->doctor, FINDING_WARNING, directory,
               is_restore ? "an interrupted restore" : "not the directory of a tenant",
               is_restore ? "the next start finishes it" : "no start looks at it: move it away");
        return;
    }
    check_mode(walk->doctor, directory, "700");
    check_database(walk->doctor, directory);
}

static void check_tenants(struct doctor *doctor) {
    char directory[PATH_BYTES];
    struct bk_error error = BK_ERROR_INIT;
    struct tenant_walk walk = {doctor, directory};
    if (!bk_path_join(directory, sizeof directory, doctor->data_directory, "tenants") ||
        !bk_file_exists(directory))
        return;
    if (bk_directory_list(directory, on_tenant_entry, &walk, &error) != BK_OK)
        report(doctor, FINDING_PROBLEM, directory, error.message, "");
}

/* --- the command ------------------------------------------------------------------------------ */

static void ask_server(struct doctor *doctor, struct bk_command_context *context) {
    struct bk_buffer answer;
    bk_buffer_init(&answer, REPORT_MAX_BYTES);
    int status = context->call(context, BK_GET, "/api/health", BK_SLICE_EMPTY, &answer);
    if (status == 200)
        report(doctor, FINDING_OK, "server", "runs and answers",
               "stop it and run doctor again to have the databases checked");
    else
        report(doctor, FINDING_PROBLEM, "server", "does not answer /api/health with 200",
               "see its log on standard error");
    bk_buffer_fini(&answer);
}

static void examine(struct doctor *doctor) {
    check_mode(doctor, doctor->data_directory, "700");
    check_key(doctor);
    check_instance(doctor);
    check_free_space(doctor);
    check_tenants(doctor);
}

/* Holds the lock meanwhile, where there is one, so that no server starts under the check. */
static void examine_stopped(struct doctor *doctor) {
    struct bk_error error = BK_ERROR_INIT;
    int lock = -1;
    if (data_directory_hold(doctor->data_directory, &lock, &error) != BK_OK) {
        report(doctor, FINDING_PROBLEM, "lock", error.message, "stop it and run doctor again");
        return;
    }
    examine(doctor);
    if (lock >= 0)
        bk_file_unlock(lock);
}

static void print_report(struct doctor *doctor, bool is_json) {
    uint32_t problems = doctor->counts[FINDING_PROBLEM], warnings = doctor->counts[FINDING_WARNING];
    bk_buffer_append_char(&doctor->json, ']');
    if (is_json)
        printf("{\"problems\":%u,\"warnings\":%u,\"findings\":%.*s}\n", problems, warnings,
               BK_SLICE_PRINT(bk_buffer_slice(&doctor->json)));
    else
        printf("%.*s%u problem%s, %u warning%s\n", BK_SLICE_PRINT(bk_buffer_slice(&doctor->text)),
               problems, problems == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
}

/* Whether there is anything to look at. */
static bool is_data_directory(struct doctor *doctor) {
    const char *path = doctor->data_directory;
    if (data_directory_has(path, "instance.key") || data_directory_has(path, "tenants"))
        return true;
    report(doctor, FINDING_PROBLEM, path,
           bk_file_exists(path) ? "not a data directory" : "there is no such directory",
           "name the data directory with --data, or start a server to make one");
    return false;
}

static int run(struct bk_command_context *context, int argument_count, char **arguments) {
    bool mends = argument_count == 1 && strcmp(arguments[0], "--fix") == 0;
    if (argument_count > 0 && !mends)
        return 2;
    struct doctor doctor = {.data_directory = context->data_directory,
                            .is_running = context->is_running,
                            .mends = mends};
    bk_buffer_init(&doctor.text, REPORT_MAX_BYTES);
    bk_buffer_init(&doctor.json, REPORT_MAX_BYTES);
    bk_buffer_append_char(&doctor.json, '[');
    if (context->is_running) {
        ask_server(&doctor, context);
        examine(&doctor);
    } else if (is_data_directory(&doctor)) {
        examine_stopped(&doctor);
    }
    print_report(&doctor, context->is_json);
    bk_buffer_fini(&doctor.text);
    bk_buffer_fini(&doctor.json);
    return doctor.counts[FINDING_PROBLEM] > 0 ? 1 : 0;
}

const struct bk_command doctor_command = {
    .name = "doctor",
    .usage = "doctor [--data DIR] [--json] [--fix]",
    .summary = "Checks the data directory and says what to do about what is wrong.",
    .run = run,
};
