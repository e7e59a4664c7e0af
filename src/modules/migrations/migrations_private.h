/*
 * What the files of this module share.
 *
 *   file.c       one migration: its name, its text read and written
 *   layout.c     JSON trees written, compared
 *   patch.c      an operation and the collection as it is now → the change to make
 *   loss.c       what a change would lose, counted
 *   applied.c    the rows of _migrations_applied
 *   record.c     what superusers change is recorded; flush.c the files of it
 *   survey.c     files and rows side by side
 *   run.c        applies and reverts, one file after the other
 *   routes.c     the API; *_command.c the command line
 */
#ifndef MIGRATIONS_PRIVATE_H
#define MIGRATIONS_PRIVATE_H

#include "bakend/module.h"

enum {
    MIGRATIONS_FILE_BYTES_MAX = 8 * 1024 * 1024,
    MIGRATIONS_ARENA_BYTES_MAX = 64 * 1024 * 1024,
    MIGRATIONS_FILES_MAX = 10000,
    MIGRATIONS_OPERATIONS_MAX = 5000,
    MIGRATIONS_NAME_BYTES_MAX = 200, /* of a file, with ".json" */
    MIGRATIONS_PATH_BYTES = 4096,
    MIGRATIONS_HASH_BYTES = 64, /* hex of SHA-256 */
    MIGRATIONS_FORMAT = 1,
    MIGRATIONS_ROWS_MS = 5000,   /* to read the rows of what was applied */
    MIGRATIONS_COUNT_MS = 30000, /* to count the records that a change would touch */
};

struct migrations_options {
    bool automigrate;
};

/* --- JSON (layout.c) -------------------------------------------------------------------------- */

/* Without any space. */
void migrations_write_compact(struct bk_buffer *out, const struct bk_json *value);
/* Two spaces a level, for people and for diffs. depth: of the value itself. */
void migrations_write_pretty(struct bk_buffer *out, const struct bk_json *value, uint32_t depth);
/* Members in any order. */
bool migrations_json_equal(const struct bk_json *one, const struct bk_json *other);
/* Whether `there` has all that `wanted` says: members that wanted lacks may be anything. */
bool migrations_json_covers(const struct bk_json *there, const struct bk_json *wanted);

/* --- one migration (file.c) ------------------------------------------------------------------- */

enum migration_kind { MIGRATION_CREATE, MIGRATION_UPDATE, MIGRATION_DELETE, MIGRATION_PUT };
const char *migrations_kind_name(enum migration_kind kind);

struct migration_operation {
    enum migration_kind kind;
    struct bk_slice id, name;     /* of the collection; name as it is before, for people */
    const struct bk_json *before; /* update, delete; NULL where it was too large to keep */
    const struct bk_json *after;  /* create, update, put */
};

struct migration {
    struct bk_slice name;             /* of its file */
    char hash[MIGRATIONS_HASH_BYTES]; /* of what it says, whatever its layout */
    struct migration_operation *operations;
    uint32_t count;
};

bool migrations_name_is_valid(struct bk_slice name);
/* "1795340000_created_posts.json": what is put into letters that a name may have. */
struct bk_slice migrations_name_make(struct bk_arena *arena, int64_t seconds, const char *action,
                                     struct bk_slice what);
/* Lives in the arena and borrows text. BK_INVALID with what is wrong and where. */
enum bk_status migrations_parse(struct migration *migration, struct bk_slice name,
                                struct bk_slice text, struct bk_arena *arena,
                                struct bk_error *error);
/* Reads the file of this name and parses it. BK_NOT_FOUND. */
enum bk_status migrations_read(struct migration *migration, const char *directory,
                               struct bk_slice name, struct bk_arena *arena,
                               struct bk_error *error);
/* Writes the text of a file: begin, an operation each, end. */
void migrations_write_begin(struct bk_buffer *out);
void migrations_write_operation(struct bk_buffer *out, const struct migration_operation *operation);
void migrations_write_end(struct bk_buffer *out);
/* A definition as files hold it: without dates, without the fields of a view (its query makes
 * them), and without what no file should have: the providers of OAuth2, for their secrets. */
const struct bk_json *migrations_definition(struct bk_arena *arena,
                                            const struct bk_json *definition);
/* The operation that takes this one back. False: there is none. */
bool migrations_reverse(const struct migration_operation *operation,
                        struct migration_operation *reverse);

/* --- from an operation to a change (patch.c) -------------------------------------------------- */

struct migration_step {
    bool is_needed;    /* false: the schema is as the operation wants it */
    bool keeps_fields; /* those that an update's definition lacks stay, as in an import */
    enum bk_schema_action action;
    struct bk_slice target;           /* id of the collection */
    const struct bk_json *definition; /* create: the whole; update: what changes */
    const struct bk_json *result;     /* the whole as it will be; NULL: it will be gone */
};
/* Fills steps[number], those before it being the ones of the same file. Lives in the arena. What
 * others have changed since `before` stays. BK_CONFLICT when it cannot be brought together with
 * what is there. */
enum bk_status migrations_resolve(const struct migration_operation *operation,
                                  const struct bk_schema *schema, struct bk_arena *arena,
                                  struct migration_step *steps, uint32_t number,
                                  struct bk_error *error);

/* The members of patch, and those of current that it lacks. */
const struct bk_json *migrations_overlay(struct bk_arena *arena, const struct bk_json *current,
                                         const struct bk_json *patch);

/* --- what would be lost (loss.c) -------------------------------------------------------------- */

struct migration_loss {
    struct bk_list link;
    struct bk_slice collection, field; /* names; field empty: the whole collection */
    const char *reason;                /* "is removed", "keeps one value only" … */
    struct bk_sql count;
    int64_t record_count; /* -1: could not be counted in time */
};

/* Embed it. Looks at steps and counts on a reader. */
struct migration_losses {
    struct bk_list all; /* struct migration_loss with record_count other than 0 */
    struct bk_arena *arena;
    void (*done)(struct migration_losses *losses, enum bk_status status);
    struct bk_read read;
};
void migrations_losses_init(struct migration_losses *losses, struct bk_arena *arena);
/* Adds what the step may lose; nothing is counted yet. */
void migrations_losses_add(struct migration_losses *losses, const struct bk_schema *schema,
                           const struct migration_step *step);
/* BK_OK: done comes later. BK_END: there is nothing to count. Else as bk_store_read. */
enum bk_status migrations_losses_count(struct migration_losses *losses,
                                       struct bk_database *database);
/* "posts.title is removed: 3 records" */
void migrations_loss_write(struct bk_buffer *out, const struct migration_loss *loss);
/* [{"collection","field","reason","records"}] */
void migrations_losses_write_json(struct bk_buffer *out, const struct migration_losses *losses);

/* --- what was applied (applied.c) ------------------------------------------------------------- */

extern const struct bk_migration migrations_sql[];
enum { MIGRATIONS_SQL_COUNT = 1 };

struct migration_row {
    struct bk_list link;
    struct bk_slice name, hash, applied;
    struct bk_slice body; /* of a file that is still to be written; or empty */
    int64_t sequence;     /* rising in the order in which they were applied */
};
/* Embed it: the rows, in the order of names. */
struct migration_rows {
    bool is_unwritten_only; /* the caller's: only those that have a body */
    struct bk_list all;
    struct bk_arena *arena;
    struct bk_database *database;
    struct bk_error error; /* on done; "" where the status says it all */
    void (*done)(struct migration_rows *rows, enum bk_status status);
    struct bk_read read;
};
enum bk_status migrations_rows_read(struct migration_rows *rows, struct bk_arena *arena,
                                    struct bk_database *database);
/* On the writer. body empty: the file is there. */
enum bk_status migrations_row_insert(struct bk_transaction *transaction, struct bk_slice name,
                                     struct bk_slice hash, struct bk_slice body);
enum bk_status migrations_row_delete(struct bk_transaction *transaction, struct bk_slice name);
enum bk_status migrations_row_set_hash(struct bk_transaction *transaction, struct bk_slice name,
                                       struct bk_slice hash);
/* The file of this body is there, durably. */
enum bk_status migrations_row_written(struct bk_transaction *transaction, struct bk_slice name);
/* Seconds for a new name: now, or later than all that were recorded about now. */
enum bk_status migrations_row_seconds(struct bk_connection *connection, int64_t now_ms,
                                      int64_t *seconds);

/* --- the module's state ----------------------------------------------------------------------- */

struct migrations_run;

struct migrations_state {
    struct bk_module_context *context;
    char directory[MIGRATIONS_PATH_BYTES]; /* where the files are */
    bool is_recording;                     /* --automigrate; read on writers, set once */
    struct bk_commit_hook hook;
    struct bk_bus_tap tap;
    struct bk_pool *pool;       /* for files */
    struct bk_tenant *flushing; /* whose files are being written after a change; held by that */
    bool flushes_again;
    struct migrations_run *running;
    uint32_t pending_count; /* of what is under way; stop waits for it */
    void (*stopped)(void *user);
    void *stopped_user;
};
void migrations_begin(struct migrations_state *state);
void migrations_end(struct migrations_state *state); /* may call stopped */
enum { MIGRATIONS_THREADS = 1, MIGRATIONS_QUEUE_MAX = 64 };

/* --- changes become files (record.c, flush.c) ------------------------------------------------- */

/* The beginning of the actor's label in events of what a file has done. */
#define MIGRATIONS_ACTOR "migrations/"

void migrations_record_start(struct migrations_state *state);
void migrations_record_stop(struct migrations_state *state);
/* The text of a file that puts each collection as it is now. */
void migrations_snapshot_write(struct bk_buffer *out, const struct bk_schema *schema,
                               struct bk_arena *arena);

/* Where the hook leaves a file until the change is committed: hidden, beside its place. */
bool migrations_hidden_path(char path[MIGRATIONS_PATH_BYTES], const char *directory,
                            struct bk_slice name);
/* Files of rows that have their text still: written durably, then the rows let go of it. done may
 * be NULL; else it comes once, perhaps before this returns. Holds the tenant. */
void migrations_flush(struct migrations_state *state, struct bk_tenant *tenant,
                      void (*done)(void *user, enum bk_status status), void *user);

/* Removes the hidden files that no row knows; after the flush of a start. Blocking. */
void migrations_sweep(struct migrations_state *state);

/* --- files and rows side by side (survey.c) --------------------------------------------------- */

enum migration_state {
    MIGRATION_APPLIED,
    MIGRATION_PENDING,
    MIGRATION_CHANGED,   /* applied; the file says something else now */
    MIGRATION_MISSING,   /* applied; there is no file */
    MIGRATION_UNWRITTEN, /* applied; its file could not be written yet */
    MIGRATION_EMPTY,     /* no operations: nothing to apply */
    MIGRATION_BROKEN,    /* not applied, and not to be understood */
};
const char *migrations_state_name(enum migration_state state);

struct migration_entry {
    struct bk_list link;
    struct bk_slice name;
    enum migration_state state;
    const struct migration_row *row; /* NULL: not applied */
    struct bk_slice hash;            /* of the file; empty when there is none */
    uint32_t operation_count;
    struct bk_slice reason; /* broken, or changed into what is: what is wrong with it */
    bool is_late;           /* pending, and its name comes before one that was applied */
};

/* Embed it. Reads rows and files; the entries are in the order of names. */
struct migration_survey {
    struct bk_list entries;
    struct bk_arena *arena;
    void (*done)(struct migration_survey *survey, enum bk_status status);
    struct bk_error error;
    struct migration_rows rows;
    struct migrations_state *state;
    struct bk_tenant *tenant; /* the caller holds it */
    struct migration_names *names;
    struct bk_job job;
    enum bk_status status;
};
/* BK_OK: done comes later. Else never: as bk_pool_submit. */
enum bk_status migrations_survey_start(struct migration_survey *survey,
                                       struct migrations_state *state, struct bk_tenant *tenant,
                                       struct bk_arena *arena);

/* --- applying (run.c) ------------------------------------------------------------------------- */

struct migrations_order {
    bool is_reverse;
    uint32_t count_max; /* how many to take back */
    bool allows_loss;
};
/* What came of it. Valid during done. */
struct migrations_result {
    enum bk_status status;
    struct bk_error error;                 /* names the file */
    struct bk_slice names;                 /* JSON list of what was applied or taken back */
    struct bk_slice file;                  /* the one that failed; or empty */
    const struct migration_losses *losses; /* NULL: it was not for loss that it failed */
    struct bk_slice warnings;              /* JSON list of sentences */
};
/* One at a time: BK_CONFLICT. Holds the tenant. done comes later, once. */
enum bk_status
migrations_run_start(struct migrations_state *state, struct bk_tenant *tenant,
                     const struct migrations_order *order,
                     void (*done)(void *user, const struct migrations_result *result), void *user);

/* --- routes and commands ---------------------------------------------------------------------- */

enum { MIGRATIONS_BODY_MAX_BYTES = 64 * 1024, MIGRATIONS_LOSSES_BODY_MAX_BYTES = 8 * 1024 * 1024 };

void migrations_list(struct bk_request *request);
void migrations_up(struct bk_request *request);
void migrations_down(struct bk_request *request);
void migrations_create(struct bk_request *request);
void migrations_snapshot(struct bk_request *request);
void migrations_sync(struct bk_request *request);
void migrations_losses(struct bk_request *request);

int migrations_run_migrate(struct bk_command_context *context, int argument_count,
                           char **arguments);
int migrations_run_collections(struct bk_command_context *context, int argument_count,
                               char **arguments);

#endif
