/*
 * One change of one record, of a request of its own or of a part of a batch. The engine changes and
 * never answers: whoever asked says what became of it.
 *
 *   loop    collections_change_prepare   collection, rule, keys of the body → values; begins what
 *                                        takes time (hashes); `prepared` comes once, now or later
 *   writer  collections_change_run       rule → merge → validate → check → SQL → event; the body of
 *                                        the answer in request->out; may be called more than once
 *   loop    collections_change_finish    lets go of the schema
 */
#ifndef RECORD_CHANGE_H
#define RECORD_CHANGE_H

#include "bakend/show.h"
#include "collections.h"

enum { RECORD_FILE_PREFIXES_MAX = 2 };
enum record_action { RECORD_CREATE, RECORD_UPDATE, RECORD_DELETE, RECORD_UPSERT };

/* A key of the body with a modifier, "tags+". */
struct record_modification {
    const struct bk_field *field;
    enum bk_modifier modifier;
    const struct bk_json *input;
};

/* What only records of auth collections have, see record_auth.c. */
struct record_auth;

struct record_change {
    /* The caller's. */
    struct bk_request *request; /* what was sent, memory, problems, and the answer's body */
    enum record_action action;  /* an upsert becomes a create or an update on the writer */
    struct bk_slice collection_name;
    struct bk_slice id;      /* of all but a create */
    struct bk_slice context; /* @request.context */
    /* Of a form; prefixes: what the keys of those that are meant begin with. */
    const struct bk_request_file *files;
    struct bk_slice file_prefixes[RECORD_FILE_PREFIXES_MAX];
    /* Anything but BK_OK: it will not do; see collections_change_explain. */
    void (*prepared)(struct record_change *change, enum bk_status status);
    void *user;

    /* The engine's, and after prepared the caller's to read. */
    bool is_upsert;
    struct bk_schema *schema; /* pinned until finish */
    const struct bk_collection *collection;
    const char *message; /* of a failure, where the engine knows one */

    /* The engine's. */
    struct bk_slice rule;
    const struct bk_json *body; /* the request's, with its files under the names of their fields */
    struct bk_upload *uploads;
    struct bk_value *sent;   /* one a field: what the body says, or empty */
    struct bk_value *values; /* the record as it is going to be */
    bool *is_given;          /* the body has a value for the field, or a modifier */
    struct record_modification *modifications;
    uint32_t modification_count;
    struct bk_asker asker;
    struct bk_question question;
    struct bk_read asking; /* the question, before something is hashed */
    struct bk_show *show;
    struct record_auth *auth;
    struct bk_problems begun_problems; /* of what has begun; they are told with all others */
    uint32_t works_waiting;            /* begun and not done, and one while beginning */
    enum bk_status begun_status;
    bool is_asked_late; /* what is asked is known on the writer only */
    bool is_id_generated;
};

/* --- record_change.c -------------------------------------------------------------------------- */

void collections_change_prepare(struct record_change *change);
/* The caller has verified the schema. */
enum bk_status collections_change_run(struct record_change *change,
                                      struct bk_transaction *transaction);
void collections_change_finish(struct record_change *change);
/* What a failure is to the client: the status to answer with, with change->message and, where there
 * are any, request->problems. */
enum bk_status collections_change_explain(struct record_change *change, enum bk_status status);
/* 200 or 204. */
int collections_change_http_status(const struct record_change *change);

/* --- record_input.c: from keys to values ------------------------------------------------------ */

/* Whether the client may set this field at all; what it may not is ignored, as unknown keys are. */
bool collections_input_is_settable(const struct record_change *change,
                                   const struct bk_field *field);
/* Fills in sent, is_given and modifications. */
void collections_input_read(struct record_change *change);
/* The record as it is going to be, before it is filled: what it was (NULL: nothing), what was sent,
 * what modifiers do. */
void collections_input_merge(struct record_change *change, const struct bk_value *before);
/* Whether what rules see of the body depends on the record as it was. */
bool collections_input_needs_record(const struct record_change *change);
/* @request.body: fields are what they will be, not what was sent for them, so that no rule is
 * talked past with {"admin": "true"}. */
enum bk_status collections_input_body(struct record_change *change, struct bk_json **body);

/* --- record_ask.c: who may, and what is shown ------------------------------------------------- */

/* The collection, when the actor may do this at all. */
enum bk_status collections_ask_find(struct record_change *change);
/* The same for an upsert, now that it is known what it is. */
enum bk_status collections_ask_decide(struct record_change *change);
/* Makes the questions and the way to show the record. Loop or writer. */
enum bk_status collections_ask_make(struct record_change *change);
/* The way to show the record alone, of a change that was done before. */
enum bk_status collections_ask_again(struct record_change *change);
/* Writes the record into request->out. On the writer. */
enum bk_status collections_ask_show(struct record_change *change,
                                    struct bk_transaction *transaction,
                                    const struct bk_value *values);

/* --- record_auth.c ---------------------------------------------------------------------------- */

/* Makes change->auth. */
enum bk_status collections_auth_make(struct record_change *change);
/* What was sent beside fields; passwords that cannot be right are not hashed: *hashes is false. */
enum bk_status collections_auth_read(struct record_change *change, bool *hashes);
/* Starts the comparison of the old password, if there is one to compare: BK_END, work->done comes
 * later. */
enum bk_status collections_auth_begin(struct record_change *change,
                                      void (*done)(struct record_change *change,
                                                   enum bk_status status));
/* Makes what is asked about managers. */
enum bk_status collections_auth_ask(struct record_change *change);
/* Asks the record that is to be; that it is verified is nothing that who creates it can say. */
enum bk_status collections_auth_ask_values(struct record_change *change,
                                           const struct bk_question *question,
                                           struct bk_transaction *transaction);
/* Adds what is wrong with what only some may change. before: NULL on create. On the writer. */
enum bk_status collections_auth_check(struct record_change *change,
                                      struct bk_transaction *transaction,
                                      const struct bk_value *before);
/* Values that follow from others: the token key, what superusers always are. */
void collections_auth_fill(struct record_change *change, const struct bk_value *before);
/* No two auth records have the same id, in whatever collection. */
enum bk_status collections_auth_check_id(struct record_change *change,
                                         struct bk_transaction *transaction);

/* --- record_belonging.c: what belongs to auth records, on the writer -------------------------- */

/* Whether what a record belongs to is there; BK_INVALID with a problem. */
enum bk_status collections_belonging_check(struct record_change *change,
                                           struct bk_transaction *transaction);
/* After an update of an auth record: what a new password or token key ends. */
enum bk_status collections_belonging_end(struct record_change *change,
                                         struct bk_transaction *transaction,
                                         const struct bk_value *before);

/* --- record_write.c, on the writer ------------------------------------------------------------ */

enum bk_status collections_write_create(struct record_change *change,
                                        struct bk_transaction *transaction);
enum bk_status collections_write_update(struct record_change *change,
                                        struct bk_transaction *transaction);
/* The row with this id into values, which live in the transaction's arena. BK_NOT_FOUND. */
enum bk_status collections_write_read(struct record_change *change,
                                      struct bk_transaction *transaction, struct bk_value *values);
enum bk_status collections_write_exists(struct record_change *change,
                                        struct bk_transaction *transaction, bool *exists);

#endif
