/*
 * The schema: what collections there are and how a field of each type behaves.
 *
 * A tenant's schema is an immutable, reference-counted snapshot. A request pins the one it was
 * planned with; the writer compares generations, and a stale request is planned again, once.
 * Changes run alone.
 *
 * A record's life through the stages of its field types:
 *   loop    normalise  JSON → value, in the request's arena; what cannot be read becomes empty, as
 *                      the contract has it; `begin` starts what takes time (hash a password,
 *                      receive a file)
 *   writer  validate   the merged record, pure; adds problems
 *   writer  check      inside the transaction: do related records exist …
 *   loop    committed / rolled back
 */
#ifndef BAKEND_SCHEMA_H
#define BAKEND_SCHEMA_H

#include "bakend/json.h"
#include "bakend/problem.h"
#include "bakend/store.h"
#include "bakend/tenant.h"

struct bk_schema;      /* a snapshot */
struct bk_schema_kind; /* the registry of field types and system collections, one per process */
struct bk_field;
struct bk_request; /* api.h */

enum {
    BK_COLLECTION_FIELDS_MAX = 300,
    BK_COLLECTION_NAME_BYTES_MAX = 255,
    BK_COLLECTIONS_MAX = 5000
};

enum bk_collection_type { BK_COLLECTION_BASE, BK_COLLECTION_AUTH, BK_COLLECTION_VIEW };
/* What its changes are. State collections make no journal rows. */
enum bk_collection_role { BK_ROLE_APPLICATION, BK_ROLE_CONFIGURATION, BK_ROLE_STATE };
enum bk_operation {
    BK_MAY_LIST,
    BK_MAY_VIEW,
    BK_MAY_CREATE,
    BK_MAY_UPDATE,
    BK_MAY_DELETE,
    BK_MAY_MANAGE
};
enum { BK_OPERATION_COUNT = 6 };

/* Work that a field type begins on the loop before the write (see begin). Embed it in the type's
 * own. */
struct bk_field_work {
    void (*done)(struct bk_field_work *work, enum bk_status status); /* the records engine's */
    struct bk_value *value; /* replaced by what is to be stored, in arena */
    struct bk_arena *arena;
    struct bk_problems *problems;
    const struct bk_field *field;
    /* Of a comparison: who asks, and the id of the record that has the secret, so that guesses are
     * counted. NULL: they are not. */
    struct bk_request *request;
    struct bk_slice account;
    void *user;
};

/* What a key of a body may ask for instead of a new value. */
enum bk_modifier {
    BK_MODIFIER_APPEND = 1,      /* "tags+": one more; of a number: plus */
    BK_MODIFIER_PREPEND = 2,     /* "+tags" */
    BK_MODIFIER_REMOVE = 4,      /* "tags-"; of a number: minus */
    BK_MODIFIER_AUTOGENERATE = 8 /* "code:autogenerate": what is sent, and a made text behind it */
};

/* A file that came with a request. Borrowed from its body. */
struct bk_upload {
    struct bk_upload *next;
    struct bk_slice stored_name;  /* what a record's value has; nobody can foretell it */
    struct bk_slice name;         /* as the client gave it */
    struct bk_slice content_type; /* likewise; may be empty */
    struct bk_slice data;
};

/* One file per type. Any member marked optional may be NULL. */
struct bk_field_type {
    const char *name;    /* "text" */
    const char *column;  /* SQL type and default: "TEXT DEFAULT '' NOT NULL" */
    size_t options_size; /* of the struct that configure fills, zeroed */
    /* Reads the type's own options from a definition into field->options (slices into arena). */
    void (*configure)(struct bk_field *field, const struct bk_json *definition,
                      struct bk_slice path, struct bk_problems *problems, struct bk_arena *arena);
    /* Writes `"min":0,"max":0,…` (members, each preceded by a comma). */
    void (*write_options)(const struct bk_field *field, struct bk_buffer *out);
    /* optional: multi-valued fields have another column. */
    const char *(*column_of)(const struct bk_field *field);
    /* JSON → value. Never fails: what cannot be read becomes the type's empty value. */
    void (*normalise)(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena);
    /* optional. Those of enum bk_modifier that it knows, and what they do to the value. Pure, any
     * thread. */
    uint32_t modifiers;
    void (*modify)(const struct bk_field *field, enum bk_modifier modifier,
                   const struct bk_json *input, struct bk_value *value, struct bk_arena *arena);
    /* The empty value. */
    void (*empty)(const struct bk_field *field, struct bk_value *value);
    /* optional. Pure, any thread. */
    void (*validate)(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems);
    /* optional, in its place. before: as the record is stored, NULL when it is created. uploads: of
     * the request, also those for other fields. Pure, any thread. */
    void (*validate_change)(const struct bk_field *field, const struct bk_value *before,
                            const struct bk_value *after, const struct bk_upload *uploads,
                            struct bk_problems *problems);
    /* optional. Called before validate for a create (is_create) or update; given: the client sent
     * the field. autodate sets now, text autogenerates. */
    void (*fill)(const struct bk_field *field, struct bk_value *value, bool is_create, bool given,
                 int64_t now_ms, struct bk_arena *arena);
    /* optional. On the writer, in the transaction, after validate and only when the value
     * changed. */
    enum bk_status (*check)(const struct bk_field *field, const struct bk_value *value,
                            struct bk_transaction *transaction, const struct bk_schema *schema,
                            struct bk_problems *problems);
    /* optional. On the loop, before the write, when the client gave a value. BK_OK: nothing to wait
     * for. BK_BUSY: refused. BK_END: work->done comes later, once (never before this returns). */
    enum bk_status (*begin)(struct bk_field_work *work);
    /* optional. The same for a secret: whether work->value, a plain text, is what is stored.
     * BK_END: work->done comes with BK_OK, or BK_UNAUTHORIZED when it is not. Any other status:
     * refused. */
    enum bk_status (*compare)(struct bk_field_work *work, struct bk_slice stored);
    /* Value → JSON. */
    void (*write_json)(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out);
    bool is_secret;     /* never in an answer, an event or a hidden part: password, tokenKey */
    bool is_read_only;  /* what a client sends is ignored, as if it were not given: autodate */
    bool takes_uploads; /* what a form sends as files under its name is of its value */
};

struct bk_field {
    struct bk_slice id, name;
    const struct bk_field_type *type;
    const struct bk_collection *collection; /* that it belongs to */
    void *options;
    uint32_t index; /* in collection->fields, and of its column */
    bool is_system, is_hidden, is_presentable, is_required, is_primary_key;
    bool is_secret; /* the type's, or a tokenKey */
    struct bk_slice help;
    struct bk_slice quoted;   /* "name" quoted for SQL */
    struct bk_slice json_key; /* "name": for direct writing */
};

struct bk_index {
    struct bk_slice sql; /* as given */
    struct bk_slice name;
};

/* Full-text search, an option of a collection: the words of these fields are found. */
enum { BK_SEARCH_BYTES_MAX = 1000, BK_SEARCH_WORDS_MAX = 32 }; /* of what is searched for */
struct bk_search {
    const struct bk_field **fields;
    uint32_t field_count;
    struct bk_slice tokenizer;
    struct bk_slice table;     /* of FTS5, quoted; its rowid is the record's */
    struct bk_slice made_of;   /* by which a table of words is known to be made of the same */
    struct bk_sql add, remove; /* the words of the rowid ?1, whose texts are ?2 and on */
    struct bk_sql locate; /* the rowid of the record ?1 of the collection ?2, if it has words */
    struct bk_sql next;   /* rowid and texts of the first record behind ?1, ?2 at most */
};

struct bk_collection {
    struct bk_slice id, name;
    enum bk_collection_type type;
    enum bk_collection_role role;
    bool is_system;
    bool is_unlisted; /* declared by a module and not in the contract: the list leaves it out */
    /* As its module has declared it, see bk_system_collection. */
    bool is_closed;
    const char *alias, *keeps_last;
    struct bk_slice source; /* of its events: "collections", or the module that declared it */
    struct bk_field *fields;
    uint32_t field_count;
    struct bk_field *id_field; /* fields[0] as a rule */
    /* auth: the address, and whether it is shown; NULL in others. */
    const struct bk_field *email_field, *email_visibility_field;
    struct bk_index *indexes;
    uint32_t index_count;
    /* NULL data: null (superusers); length 0 with data: everyone. */
    struct bk_slice rules[BK_OPERATION_COUNT];
    struct bk_slice created, updated; /* record dates */
    uint64_t named_after;       /* events up to this sequence are not of what has its name now */
    struct bk_slice definition; /* its JSON, as GET answers it, without secrets */
    struct bk_slice options; /* JSON members of its type beyond the common ones (auth); or empty */
    /* auth: all its options as one tree, secrets too, which are shown to nobody; NULL in others.
     * Its text, and what is asked for often. */
    const struct bk_json *auth;
    struct bk_slice secrets;
    struct bk_slice auth_rule;         /* NULL data: null, nobody signs in */
    struct bk_slice token_secret;      /* of its tokens */
    const struct bk_auth_watch *watch; /* of its records; NULL: nobody watches */
    struct bk_slice view_query;        /* view: its SELECT, as it was given */
    struct bk_search *search;          /* NULL: it cannot be searched */
    /* Made once per snapshot. Columns in the order of fields. */
    struct bk_slice quoted;     /* table name quoted */
    struct bk_slice columns;    /* quoted names, comma-separated, in the order of fields */
    struct bk_sql select_by_id; /* SELECT columns FROM t WHERE id = ?1 */
    /* For bk_record_insert and the like, which write what belongs to a row, too. */
    struct bk_sql insert; /* all columns, ?1… in the order of fields */
    struct bk_sql
        update; /* all columns but id, ?1… in the order of fields, WHERE id = ?(id's index + 1) */
    struct bk_sql delete_by_id;
    struct bk_sql exists_by_id;     /* SELECT 1 FROM t WHERE id = ?1 */
    struct bk_slice json_head;      /* `{"collectionId":"…","collectionName":"…"` */
    struct bk_slice event_types[3]; /* "posts.created", "posts.updated", "posts.deleted" */
};

/* --- declaring -------------------------------------------------------------------------------- */

/* A collection that a module declares: exists in every tenant from its opening on. */
struct bk_system_collection {
    const char
        *definition; /* JSON as for POST /api/collections: name, type, fields, indexes, rules, id */
    enum bk_collection_role role;
    bool is_in_contract; /* one of PocketBase's own: listed by GET /api/collections */
    bool is_operators;   /* only in the tenant "default" */
    const char *alias;   /* "tenants": /api/tenants[/{id}] are its records routes; NULL: none */
    /* Its records are written by the system actor alone, that is by its module, which does more
     * than change a row: the records routes send everybody else to the alias. */
    bool is_closed;
    /* Why its last record cannot be deleted, as a sentence for the client; NULL: it can. */
    const char *keeps_last;
    /* The application's own: made once, when a tenant is opened that has never had it, and from
     * then on a collection like those that clients make, which may be changed and deleted for
     * good. */
    bool is_seed;
};

struct bk_schema_kind *bk_schema_kind_create(struct bk_tenants *tenants, struct bk_log log);
void bk_schema_kind_destroy(struct bk_schema_kind *kind);
/* The built-in types are registered already; a module adds its own (password, file) at init. */
void bk_schema_add_type(struct bk_schema_kind *kind, const struct bk_field_type *type);
const struct bk_field_type *bk_schema_type(const struct bk_schema_kind *kind, struct bk_slice name);
/* source: the module's name, for the events of its records. At init. */
void bk_schema_add_system(struct bk_schema_kind *kind,
                          const struct bk_system_collection *collection, const char *source);
/* Nouns of declared events: a new collection may not have this name. At init. */
void bk_schema_reserve_name(struct bk_schema_kind *kind, struct bk_slice noun);
/* Who judges a collection's rules: bk_rule_is_valid of the rules, which know the schema and not the
 * other way round. collection: as it is going to be, not in the schema yet. Without one any rule
 * but null and "" is refused. At init. */
typedef bool bk_rule_check(const struct bk_schema *schema, const struct bk_collection *collection,
                           struct bk_slice rule, struct bk_slice field,
                           struct bk_problems *problems);
void bk_schema_set_rule_check(struct bk_schema_kind *kind, bk_rule_check *is_valid);

/* Who is told of each change of a record of an auth collection, whatever door it came through: on
 * the writer, in the transaction of the change, behind its event. What it writes is there with the
 * change or not at all; any status but BK_OK fails both. */
struct bk_auth_watch {
    /* before: NULL when the record was created; after: NULL when it was deleted. All values of the
     * record, as they are stored. */
    enum bk_status (*on_change)(void *user, struct bk_transaction *transaction,
                                const struct bk_collection *collection,
                                const struct bk_value *before, const struct bk_value *after);
    /* Of the collection itself, behind its event. after: NULL when it was deleted. NULL: nobody is
     * told. */
    enum bk_status (*on_collection)(void *user, struct bk_transaction *transaction,
                                    const struct bk_collection *before,
                                    const struct bk_collection *after);
    void *user;
};
/* Outlives the kind. At init. */
void bk_schema_set_auth_watch(struct bk_schema_kind *kind, const struct bk_auth_watch *watch);

/* --- snapshots -------------------------------------------------------------------------------- */

/* The tenant's current one; borrowed: ref it before the turn ends. */
struct bk_schema *bk_schema_current(struct bk_schema_kind *kind, struct bk_tenant *tenant);
struct bk_schema *bk_schema_ref(struct bk_schema *schema); /* any thread */
void bk_schema_unref(struct bk_schema *schema);
uint64_t bk_schema_generation(const struct bk_schema *schema);
/* By name or id; NULL. */
const struct bk_collection *bk_schema_find(const struct bk_schema *schema,
                                           struct bk_slice name_or_id);
size_t bk_schema_count(const struct bk_schema *schema);
const struct bk_collection *bk_schema_at(const struct bk_schema *schema, size_t index);
const struct bk_field *bk_collection_field(const struct bk_collection *collection,
                                           struct bk_slice name);
/* Whether a unique index is over this column alone; its WHERE is not looked at. */
bool bk_collection_is_unique_on(const struct bk_collection *collection, struct bk_slice column,
                                struct bk_arena *scratch);
/* Whether the number of its records is kept: bk_rows_read of its name. */
bool bk_collection_is_counted(const struct bk_collection *collection);
/* Whether an index begins with this column, so that it can be searched and sorted by: one of all
 * rows, that compares as the column does. */
bool bk_collection_is_indexed(const struct bk_collection *collection, struct bk_slice column,
                              struct bk_arena *scratch);
/* Whether its values are lists (JSON arrays in their column): a select or relation with maxSelect >
 * 1. */
bool bk_field_is_multiple(const struct bk_field *field);

/* Whether a text is what the field types url and email take. */
bool bk_url_is_valid(struct bk_slice text);
bool bk_email_is_valid(struct bk_slice text);
/* Regular expressions as fields have them. Compiled into the arena, where they live; NULL with a
 * reason in error. Matching is for any thread; a text that takes too long does not match. */
struct bk_pattern;
struct bk_pattern *bk_pattern_compile(struct bk_slice text, struct bk_arena *arena,
                                      struct bk_error *error);
bool bk_pattern_matches(const struct bk_pattern *pattern, struct bk_slice text);
/* Whether a unique index is over this column alone, and how that compares ("nocase"; empty: as the
 * column does). The texts are made in scratch. */
bool bk_collection_unique_collation(const struct bk_collection *collection, struct bk_slice column,
                                    struct bk_arena *scratch, struct bk_slice *collation);

/* A relation field and where it points. */
struct bk_relation {
    const struct bk_collection *collection; /* that has the field */
    const struct bk_field *field;
    struct bk_slice target_id; /* of the collection that it points at */
    bool is_multiple;
    bool cascades; /* cascadeDelete: a record goes with the last one that it points at */
};
/* False when the field is no relation. */
bool bk_relation_of(const struct bk_field *field, struct bk_relation *relation);
/* Calls with every relation field, of any collection, that points at target; until on_relation
 * returns false. Any thread. */
void bk_schema_relations_to(const struct bk_schema *schema, const struct bk_collection *target,
                            bool (*on_relation)(void *user, const struct bk_relation *relation),
                            void *user);
/* On the writer: BK_STALE when the snapshot is not the newest. First thing in a run. */
enum bk_status bk_schema_verify(const struct bk_schema *schema, struct bk_transaction *transaction);

/* How much of a collection's records can be searched. BK_END: all of them. BK_OK: the words of what
 * was there before it had the option are still being written, and some would not be found. Any
 * thread that has the connection. */
enum bk_status bk_search_progress(struct bk_connection *connection,
                                  const struct bk_collection *collection, uint32_t *percent);

/* --- changing --------------------------------------------------------------------------------- */

enum bk_schema_action { BK_SCHEMA_CREATE, BK_SCHEMA_UPDATE, BK_SCHEMA_DELETE };

struct bk_schema_step {
    enum bk_schema_action action;
    struct bk_slice target;           /* name or id, for update and delete */
    const struct bk_json *definition; /* for create and update (a patch) */
};

/* Embed it. Creates, changes or removes one collection, or several in one transaction: validates,
 * runs the DDL and the rows of _collections alone on the writer, emits
 * _collections.created/updated/deleted for each, installs the new snapshot, then calls done; before
 * bk_schema_change returns only when the database takes no writes.
 *
 * Views whose columns change with what they read are changed with it, after the steps, and have an
 * event each, too. */
struct bk_schema_change {
    struct bk_tenant *tenant; /* the caller holds it */
    enum bk_schema_action action;
    struct bk_slice target;           /* name or id, for update and delete */
    const struct bk_json *definition; /* for create and update (a patch) */
    /* Instead of these three: several, in their order, judged by the schema as it will be after all
     * of them. A view comes after what it reads. An update that changes nothing is left out. */
    const struct bk_schema_step *steps;
    uint32_t step_count;
    /* Optional. On the loop, when its turn has come: makes steps, with the newest schema in view.
     * Any status but BK_OK ends the change; problems and error are as after a refusal. */
    enum bk_status (*make_steps)(struct bk_schema_change *change, const struct bk_schema *newest);
    /* Optional. On the writer, after the steps, in their transaction; maybe more than once.
     * collection is set for a create or update of one. */
    enum bk_status (*run_also)(struct bk_schema_change *change, struct bk_transaction *transaction);
    /* Made elsewhere and judged there: what depends on the records of this tenant, and on nothing
     * else (whether a view gives ids), is not judged again. For migrations. */
    bool is_replay;
    bool is_trial;                  /* all is done and taken back: the status says how it went */
    struct bk_arena *arena;         /* the request's */
    struct bk_problems *problems;   /* filled when status is BK_INVALID; empty: see error */
    const struct bk_origin *origin; /* borrowed until done; may be NULL */
    void (*done)(struct bk_schema_change *change, enum bk_status status);
    uint32_t failed_step; /* which one was refused */
    const struct bk_collection
        *collection;       /* on BK_OK, create and update of one: in the current snapshot */
    struct bk_error error; /* its message may be shown to the client, who is a superuser */
    /* The schema's. */
    struct bk_write write;
    struct bk_task task;
    void *plan;
};
void bk_schema_change(struct bk_schema_kind *kind, struct bk_schema_change *change);

/* What a new collection of this type has before anything is said of it, as the contract's
 * scaffolds: no id, no name. BK_TOO_LARGE, BK_NO_MEMORY. */
enum bk_status bk_schema_write_scaffold(const struct bk_schema_kind *kind,
                                        enum bk_collection_type type, struct bk_buffer *out);

/* --- records ---------------------------------------------------------------------------------- */

/* Which fields a viewer gets. */
enum bk_view {
    BK_VIEW_PUBLIC,
    BK_VIEW_FULL,  /* superusers: hidden fields too; never secrets */
    BK_VIEW_OWNER, /* public, and the email address of an auth record that does not show it */
};
/* Whether it is a record with an email address that it does not show: emailVisibility is false. */
bool bk_record_hides_email(const struct bk_collection *collection, const struct bk_value *values);

/* Reads the fields of a SELECT of collection->columns into values (borrowing from the
 * statement). */
void bk_record_read(const struct bk_collection *collection, struct bk_statement *statement,
                    struct bk_value *values);
/* On the writer: the row of a record, and its words where the collection can be searched. Statuses
 * are those of bk_statement_run: BK_CONFLICT. before: all its values as they are stored. */
enum bk_status bk_record_insert(const struct bk_collection *collection,
                                struct bk_connection *connection, const struct bk_value *values);
enum bk_status bk_record_update(const struct bk_collection *collection,
                                struct bk_connection *connection, const struct bk_value *before,
                                const struct bk_value *values);
enum bk_status bk_record_delete(const struct bk_collection *collection,
                                struct bk_connection *connection, const struct bk_value *before);
/* On the writer, with the row: its change as an event, unless the collection makes none. before:
 * as it was stored, NULL when it was created; after: NULL when it was deleted. No secret is in it.
 * Tells who watches the collection. */
enum bk_status bk_record_emit(struct bk_transaction *transaction,
                              const struct bk_collection *collection, const struct bk_value *before,
                              const struct bk_value *after);
/* The same type and the same value. */
bool bk_value_equal(const struct bk_value *a, const struct bk_value *b);
/* `,"id":"…","title":"…"` : the members of a record, each preceded by a comma. */
void bk_record_write_members(const struct bk_collection *collection, const struct bk_value *values,
                             enum bk_view view, struct bk_buffer *out);
/* The whole record as REST answers it: collectionId, collectionName, then the members. */
void bk_record_write_json(const struct bk_collection *collection, const struct bk_value *values,
                          enum bk_view view, struct bk_buffer *out);

#endif
