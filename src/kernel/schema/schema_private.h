/*
 * What the files of the schema know of each other.
 *
 *   kind.c           types, system collections, reserved names; a tenant's opening and closing
 *   snapshot.c       the immutable snapshot and its look-ups
 *   box.c            one collection in memory, with what is prebuilt
 *   definition.c     JSON → a collection; field_list.c its fields
 *   auth_options.c   what an auth collection has beyond a base one; auth_shape.c all of it declared
 *   check.c          what makes a definition wrong; check_indexes.c its indexes, auth_check.c the
 *                    options of an auth collection
 *   index.c          CREATE INDEX, read and written
 *   table.c          a collection's table and its changes
 *   row.c            rows of _collections
 *   change.c         a change from the request to the new snapshot; change_run.c its part on the
 *                    writer
 *   view.c           a view's fields and its SQL; view_query.c its SELECT, as far as fields need it
 *   scaffold.c       what a new collection has
 *   system.c         collections that modules declare
 *   record.c         rows → values → JSON
 *   search.c         the option `search` and the table of words; search_build.c the words of what
 *                    was there before
 *   types/           one file a field type
 *
 * A collection is read once and shared by all snapshots until it changes, so a change costs one
 * reading, not one per collection. Boxes and snapshots are reference-counted across threads.
 */
#ifndef SCHEMA_PRIVATE_H
#define SCHEMA_PRIVATE_H

#include "bakend/list.h"
#include "bakend/map.h"
#include "bakend/schema.h"
#include "bakend/shape.h"

enum {
    SCHEMA_TYPES_MAX = 64,
    SCHEMA_SYSTEMS_MAX = 128,
    SCHEMA_INDEXES_MAX = 64,
    SCHEMA_BOX_BYTES_MAX = 8 * 1024 * 1024,
    SCHEMA_DEFINITION_BYTES_MAX = 4 * 1024 * 1024,
    SCHEMA_NAME_BYTES_MAX = 100, /* of a field, and of ids */
};

/* --- the kind (kind.c) ------------------------------------------------------------------------ */

struct schema_system {
    struct bk_system_collection declared;
    struct bk_slice name, source; /* name as in its definition */
    char digest[2 * 8 + 1];       /* of the definition: an unchanged one is not looked at again */
};

struct bk_schema_kind {
    struct bk_tenants *tenants;
    struct bk_log log;
    uint32_t slot;
    const struct bk_field_type *types[SCHEMA_TYPES_MAX];
    uint32_t type_count;
    struct schema_system systems[SCHEMA_SYSTEMS_MAX];
    uint32_t system_count;
    struct bk_map reserved; /* lower-case nouns */
    bk_rule_check *is_rule_valid;
    const struct bk_auth_watch *auth_watch;
    struct bk_arena arena; /* texts of the above */
};

/* What a tenant's slot holds. On the loop. */
struct schema_state {
    struct bk_schema_kind *kind;
    struct bk_tenant *tenant;
    struct bk_schema *current;
    struct bk_list changes;           /* struct schema_plan, in order; the first one runs */
    struct schema_building *building; /* search_build.c; NULL: nothing was built yet */
};

/* NULL when no module declares a collection of this name. */
const struct schema_system *schema_kind_system(const struct bk_schema_kind *kind,
                                               struct bk_slice name);
struct schema_state *schema_state_of(struct bk_schema_kind *kind, struct bk_tenant *tenant);

/* --- one collection (box.c) ------------------------------------------------------------------- */

struct schema_box {
    struct bk_collection collection; /* first, so that one leads to the other */
    struct bk_arena arena;
    struct bk_slice folded;   /* its name in lower case */
    struct bk_slice view_sql; /* of one that view.c has made: its SQL view, behind the name */
    enum bk_status status;    /* of what is prebuilt: whether there was room for it */
    int reference_count;      /* atomic */
};

struct schema_box *schema_box_create(void); /* empty, one reference */
struct schema_box *schema_box_ref(struct schema_box *box);
void schema_box_unref(struct schema_box *box); /* NULL is fine */
struct schema_box *schema_box_of(const struct bk_collection *collection);
/* Makes what is prebuilt: SQL, heads, the definition's JSON. BK_TOO_LARGE past the arena's cap,
 * BK_NO_MEMORY. */
enum bk_status schema_box_finish(const struct bk_schema_kind *kind, struct schema_box *box);
/* "name" quoted for SQL. */
void schema_write_quoted(struct bk_buffer *out, struct bk_slice name);
/* ASCII letters in lower case, in the arena. */
struct bk_slice schema_fold(struct bk_slice text, struct bk_arena *arena);
/* Which events, list and rules a collection has by who declared it. */
void schema_box_set_role(const struct bk_schema_kind *kind, struct schema_box *box);

/* --- snapshots (snapshot.c) ------------------------------------------------------------------- */

/* Shared by all snapshots of a tenant's opening: what the writer holds to be the newest. */
struct schema_head {
    uint64_t newest;     /* atomic: a generation */
    int reference_count; /* atomic */
};

struct bk_schema {
    uint64_t generation;
    struct schema_head *head;
    struct schema_box **boxes; /* in the order they were created */
    size_t count;
    struct bk_map by_name; /* folded */
    struct bk_map by_id;
    int reference_count; /* atomic */
};

/* Takes the boxes (not the array). head NULL: a new one. */
struct bk_schema *schema_snapshot_create(struct schema_box *const *boxes, size_t count,
                                         struct schema_head *head, uint64_t generation);
/* The same with one more, with one replaced (by id), or without one. Takes new_box. */
struct bk_schema *schema_snapshot_change(const struct bk_schema *schema,
                                         const struct schema_box *old_box,
                                         struct schema_box *new_box, uint64_t generation);
void schema_head_set(struct schema_head *head, uint64_t generation);

/* --- definitions ------------------------------------------------------------------------------ */

/* Where a collection is read from. Members that `given` lacks are those of `former`. */
struct schema_source {
    const struct bk_json *given;
    const struct bk_json *former; /* NULL: none */
    bool is_stored;               /* a row of _collections: everything in it holds */
    struct bk_arena *arena;       /* for what lives as long as the reading */
};

/* Reads into an empty box. BK_INVALID with a message in error when it has not the form of a
 * definition; what is wrong with options of fields becomes problems. (definition.c) */
enum bk_status schema_definition_read(const struct bk_schema_kind *kind,
                                      const struct schema_source *source, struct schema_box *box,
                                      struct bk_problems *option_problems, struct bk_error *error);
/* Gives it an id when it has none: of its type and name, unique among the schema's. */
void schema_definition_set_id(struct schema_box *box, const struct bk_schema *schema);
/* `{"id":…}` as GET answers it. */
void schema_definition_write(const struct bk_collection *collection, struct bk_buffer *out);
/* "text1234567890": a type or prefix and the CRC-32 of a text. */
struct bk_slice schema_checksum_id(struct bk_arena *arena, const char *prefix, struct bk_slice head,
                                   struct bk_slice tail);
/* A member of given, or else of former; NULL when absent. */
const struct bk_json *schema_source_get(const struct schema_source *source, const char *name);

/* Fields from the list of definitions, with the ones that the type brings. (field_list.c) */
enum bk_status schema_fields_read(const struct bk_schema_kind *kind,
                                  const struct schema_source *source, struct schema_box *box,
                                  struct bk_problems *option_problems, struct bk_error *error);
/* What an auth collection has beyond a base one. (auth_shape.c) */
extern const struct bk_shape schema_auth_shape;
/* Its options, over those that the box has as `secrets`. (auth_options.c) */
enum bk_status schema_auth_options_read(const struct schema_source *source, struct schema_box *box,
                                        struct bk_error *error);
/* An option, "otp" "length"; name NULL: the whole group. */
const struct bk_json *schema_auth_get(const struct bk_json *whole, const char *group,
                                      const char *name);
bool schema_auth_flag(const struct bk_json *whole, const char *group, const char *name);
/* What is wrong with its options. (auth_check.c) */
void schema_auth_check(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                       const struct schema_box *box, const struct schema_box *old, bool is_own,
                       struct bk_problems *problems);
/* Unique indexes on tokenKey and email, where they are missing; of a base one nothing. */
void schema_auth_indexes_add(struct schema_box *box);

/* What the contract finds wrong. old: the collection that changes, or NULL. is_own: a module's
 * declaration, which may have a name that clients may not give. (check.c) */
void schema_definition_check(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                             const struct schema_box *box, const struct schema_box *old,
                             bool is_own, const struct bk_problems *option_problems,
                             struct bk_problems *problems);
/* The rules for indexes among them. (check_indexes.c) */
void schema_indexes_check(const struct bk_schema *schema, const struct schema_box *box,
                          const struct schema_box *old, struct bk_problems *problems);

/* The rules by the rules' own language, which may speak of any collection of the schema. */
void schema_rules_check(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                        const struct schema_box *box, const struct schema_box *old, bool is_own,
                        struct bk_problems *problems);
/* The JSON of one field, with this id and name. (definition.c) */
void schema_field_write(const struct bk_field *field, struct bk_slice id, struct bk_slice name,
                        struct bk_buffer *out);

/* --- changes (change.c, change_run.c) --------------------------------------------------------- */

/* What happens to one collection. */
struct schema_step {
    enum bk_schema_action action;
    struct schema_box *old_box, *new_box; /* references; either may be NULL */
    struct schema_box *draft;             /* a view as it was read, without its fields; or NULL */
    struct bk_problems option_problems;   /* in the plan's arena */
};

struct schema_plan {
    struct bk_list link;
    struct schema_state *state;
    struct bk_schema_change *change;
    enum bk_status status;     /* of planning */
    struct schema_step *steps; /* those asked for, then the views that follow them */
    uint32_t step_count;       /* asked for */
    uint32_t follower_count;   /* made anew by each run */
    bool is_single;            /* one collection, not a list of steps */
    bool defers_rules;         /* they are judged when the views have their fields */
    bool is_proven;            /* a trial that would have worked */
    struct bk_schema *planned; /* the schema after the steps, its new views without fields */
    struct bk_schema *after;   /* the same as the writer has made it; NULL before */
    uint64_t generation;       /* that the change makes */
    struct schema_head *head;  /* of the schema that it changes */
    struct bk_arena arena;     /* of parsing */
};

/* On the writer: all of it, in the transaction. (change_run.c) */
enum bk_status schema_plan_run(struct schema_plan *plan, struct bk_transaction *transaction);
/* Gives up what the last run has made. Any thread that has the plan. */
void schema_plan_forget_run(struct schema_plan *plan);
/* PocketBase's SDK shows the message of a refusal that has no fields. */
enum bk_status schema_refuse(struct bk_schema_change *change, enum bk_schema_action action,
                             const struct bk_error *reason);
const char *schema_action_name(enum bk_schema_action action);

/* --- views (view.c) --------------------------------------------------------------------------- */

/* Makes the collection of a draft: what its query gives as fields. The query is judged: problems of
 * viewQuery. The box is made in any case, maybe without fields; BK_OK unless something failed. On
 * the writer; schema: with everything that the query may read. */
enum bk_status schema_view_make(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                                const struct schema_box *draft, struct bk_connection *connection,
                                struct schema_box **box, struct bk_problems *problems,
                                struct bk_error *error);
/* Creates the SQL view in place of the former one (NULL: there is none). BK_INVALID: SQLite
 * does not take it, or (judges_records) what it gives now cannot be records: a problem of
 * viewQuery. */
enum bk_status schema_view_create(const struct bk_schema *schema, const struct schema_box *old_box,
                                  const struct schema_box *new_box,
                                  struct bk_connection *connection, bool judges_records,
                                  struct bk_problems *problems);
/* Whether two collections have the same fields, but for their ids. */
bool schema_view_has_same_fields(const struct schema_box *a, const struct schema_box *b);
/* Fields that are the same as before keep their ids, which are drawn. */
void schema_view_keep_ids(const struct schema_box *old_box, struct schema_box *new_box);
/* A problem of viewQuery, where there is one of a field that it gives. */
void schema_view_refuse_fields(const struct schema_box *box, struct bk_problems *problems);

/* SQL in which "text" is 'text', where SQLite has found no column of this name, as its reason says;
 * NULL data when that is not why. The contract takes such texts. */
enum { SCHEMA_REQUOTED_MAX = 100 };
struct bk_slice schema_requote(struct bk_slice sql, struct bk_slice reason, struct bk_arena *arena);

/* --- a view's SELECT (view_query.c) ----------------------------------------------------------- */

struct schema_view_name {
    struct bk_slice original, alias;
};
struct schema_view_query {
    struct schema_view_name *columns, *tables; /* the first table is the main one */
    uint32_t column_count, table_count;
};
/* What it selects from where, as far as it can be told without a parser of SQL: the contract's
 * way. Any thread. */
enum bk_status schema_view_query_read(struct bk_slice text, struct bk_arena *arena,
                                      struct schema_view_query *query, struct bk_error *error);
/* Without the space and the semicolons around it. */
struct bk_slice schema_view_query_trim(struct bk_slice text);
/* False when there is a semicolon between two parts. */
bool schema_view_query_is_single(struct bk_slice text);

/* --- CREATE INDEX (index.c) ------------------------------------------------------------------- */

struct schema_index_column {
    struct bk_slice name; /* or an expression */
    struct bk_slice collation;
    struct bk_slice order; /* "", "ASC", "DESC" */
};
struct schema_index {
    bool is_unique, is_optional;
    struct bk_slice database, name, table, condition;
    struct schema_index_column *columns;
    uint32_t column_count;
};
/* False when it is no such statement, or more than one. */
bool schema_index_parse(struct bk_slice sql, struct bk_arena *arena, struct schema_index *index);
struct bk_slice schema_index_build(const struct schema_index *index, struct bk_arena *arena);
/* Whether one of the indexes makes this column alone unique. */
bool schema_index_is_unique_on(const struct bk_collection *collection, struct bk_slice column,
                               struct bk_arena *arena);

/* --- the database ----------------------------------------------------------------------------- */

/* Makes the table right for new_box, coming from old_box (NULL: none; new_box NULL: drops it). On
 * the writer. What SQLite finds wrong with an index is a problem. (table.c) */
enum bk_status schema_table_change(struct bk_transaction *transaction,
                                   const struct schema_box *old_box,
                                   const struct schema_box *new_box, struct bk_problems *problems,
                                   struct bk_error *error);

/* The option `search`. (search.c) */
enum bk_status schema_search_read(const struct schema_source *source, struct schema_box *box,
                                  struct bk_problems *problems, struct bk_error *error);
void schema_search_write(const struct bk_collection *collection, struct bk_buffer *out);
void schema_search_finish(struct schema_box *box);
/* After the table's own change: makes the table of words, makes it anew where it is made of other
 * fields, or drops it. old, new: NULL when there is none. */
enum bk_status schema_search_change(struct bk_connection *connection,
                                    const struct bk_collection *old,
                                    const struct bk_collection *new, struct bk_error *error);
/* When a tenant is opened: tables of words as this version makes them. */
enum bk_status schema_search_prepare(const struct bk_schema *schema,
                                     struct bk_connection *connection, struct bk_error *error);
/* The words of a record whose row is there: add after it was written, take (with what the words
 * were made of) before they are added anew, or before the row is deleted. */
enum bk_status schema_search_add(const struct bk_collection *collection,
                                 struct bk_connection *connection, const struct bk_value *values);
enum bk_status schema_search_take(const struct bk_collection *collection,
                                  struct bk_connection *connection, const struct bk_value *values);
bool schema_search_differs(const struct bk_collection *collection, const struct bk_value *before,
                           const struct bk_value *after);

/* Rows of _searches, and the words of records that were there before. begin: with an empty table of
 * words, on the writer. (search_build.c) */
enum bk_status schema_search_is_made(struct bk_connection *connection,
                                     const struct bk_collection *collection, bool *is_made);
enum bk_status schema_search_begin(struct bk_connection *connection,
                                   const struct bk_collection *collection);
enum bk_status schema_search_forget(struct bk_connection *connection,
                                    const struct bk_collection *collection);
/* On the loop, when there may be more to do; and when the tenant closes. */
void schema_search_build(struct schema_state *state);
void schema_search_close(struct schema_state *state);

/* Keeps the count of the records, with a change of the collection. old, new: NULL when there is
 * none. (totals.c) */
enum bk_status schema_totals_change(struct bk_connection *connection,
                                    const struct bk_collection *old,
                                    const struct bk_collection *new);
/* In the opening transaction: counts what is not counted yet. */
enum bk_status schema_totals_prepare(const struct bk_schema *schema,
                                     struct bk_connection *connection);

/* Rows of _collections. (row.c) */
extern const struct bk_migration schema_migrations[];
extern const size_t schema_migration_count;
/* Stores, replaces (by id) or removes the row, and settles since when the collection has its name.
 * declared: the digest of a module's declaration, or empty. */
enum bk_status schema_row_write(struct bk_transaction *transaction,
                                const struct schema_box *old_box, struct schema_box *new_box,
                                struct bk_slice declared, struct bk_error *error);
/* Reads all rows into a new snapshot. Any thread that has the connection. */
enum bk_status schema_rows_read(const struct bk_schema_kind *kind, struct bk_connection *connection,
                                struct bk_schema **schema, struct bk_error *error);
/* Calls with the digest stored for the collection of this name; empty when there is none. */
enum bk_status schema_row_declared(struct bk_connection *connection, struct bk_slice name,
                                   char *digest, size_t size);

/* Notes that the collection of the application's own with this name was made; *is_first: not
 * before. */
enum bk_status schema_row_sow(struct bk_transaction *transaction, struct bk_slice name,
                              bool *is_first, struct bk_error *error);

/* Creates what modules declare, or brings it up to date; on the writer, in the opening transaction.
 * (system.c) */
enum bk_status schema_systems_prepare(const struct bk_schema_kind *kind,
                                      struct bk_transaction *transaction, struct bk_error *error);

#endif
