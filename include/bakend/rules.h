/*
 * Rules: who may do what. One authorisation function, through which every door goes: REST,
 * realtime, replay, expand, batch, snapshot. A collection's rule is null (superusers only), ""
 * (everyone), or an expression of the filter language (filter.h), which each record is asked.
 */
#ifndef BAKEND_RULES_H
#define BAKEND_RULES_H

#include "bakend/filter.h"
#include "bakend/schema.h"

enum bk_actor_kind {
    BK_ACTOR_GUEST,
    BK_ACTOR_RECORD,
    BK_ACTOR_KEY,
    BK_ACTOR_SUPERUSER,
    BK_ACTOR_SYSTEM
};

/* Who asks. Slices are borrowed from whoever made it, usually the request's arena. */
struct bk_actor {
    enum bk_actor_kind kind;
    bool is_operator;      /* a superuser of "default", or the control socket */
    struct bk_slice label; /* "users/abc", "_superusers/abc", "key/…", "system", "guest" */
    struct bk_slice id;    /* of its record or key */
    struct bk_slice collection_id; /* of its record */
    struct bk_slice scopes;        /* of a key: words separated by spaces */
    struct bk_slice tenant;        /* the tenant that it belongs to */
    struct bk_slice session;       /* id of the one that its token is of; empty: none */
    int64_t expires_s;             /* of what it came in with, seconds since 1970; 0: never */
};

extern const struct bk_actor bk_actor_guest;
extern const struct bk_actor bk_actor_system; /* an operator: the program itself */

/* Superusers and the system. */
bool bk_actor_is_superuser(const struct bk_actor *actor);
/* A key holds it when listed, as itself or as "resource:*"; superusers hold all but tenants:*,
 * which operators hold; records and guests hold none. */
bool bk_actor_has_scope(const struct bk_actor *actor, struct bk_slice scope);

enum bk_verdict {
    BK_ALLOWED,
    BK_ASKED,  /* each record is asked: the rule is an expression */
    BK_DENIED, /* the rule is null: 403 "Only superusers can perform this action." */
};
/* A key's scopes stand in for the rules: records:read lets it list and view, records:write create,
 * update and delete, in all collections but the house's own, or in one (records:read:posts). It
 * manages nobody. Where its scopes say nothing the rules are asked, as of a guest. */
enum bk_verdict bk_rules_authorize(const struct bk_actor *actor,
                                   const struct bk_collection *collection,
                                   enum bk_operation operation);
/* Which fields the actor gets of a record of this collection. */
enum bk_view bk_rules_view(const struct bk_actor *actor, const struct bk_collection *collection);

/* --- asking records --------------------------------------------------------------------------- */

/* Who asks, and how: what the rules of every door may speak of. Borrowed, like the schema, as long
 * as what is made with it. */
struct bk_asker {
    const struct bk_schema *schema;
    const struct bk_actor *actor;
    const struct bk_json *request;               /* @request, see filter.h; NULL: all of it null */
    const struct bk_collection *auth_collection; /* of the actor's record; NULL: it has none */
    /* Of the actor's record, as it is now: then @request.auth takes no tables. The caller may set
     * it after bk_asker_init; NULL: it is looked up. */
    const struct bk_value *auth_values;
    int64_t now_ms;
};
void bk_asker_init(struct bk_asker *asker, const struct bk_schema *schema,
                   const struct bk_actor *actor, const struct bk_json *request);
/* What its filters and rules may speak of, of records of this collection. */
void bk_asker_scope(const struct bk_asker *asker, const struct bk_collection *collection,
                    int first_parameter, struct bk_filter_scope *scope);

/* A rule that is an expression, ready to be asked on any thread that has a connection. */
enum bk_question_of {
    BK_QUESTION_OF_STORED, /* records by their id */
    /* Records that are values and in no table: one that is to be created. What the rule says of
     * other records of the collection is not said of it. */
    BK_QUESTION_OF_VALUES,
    /* The same for a record as it was in its table, of an event: compared as if it were there still
     * (a number with a text that is one). */
    BK_QUESTION_OF_EVENT,
};
struct bk_question {
    bool is_there; /* false: the rule is empty, the answer is always yes */
    const struct bk_collection *collection;
    int first_parameter;
    enum bk_question_of of;
    int64_t now_ms; /* of @now and the like; see bk_question_set_now */
    struct bk_filter_query *query;
    struct bk_filter_sql condition;
    struct bk_sql sql;
};
/* rule: not null. BK_INVALID: the schema no longer has what it speaks of. */
enum bk_status bk_question_make(struct bk_question *question, struct bk_arena *arena,
                                const struct bk_asker *asker,
                                const struct bk_collection *collection, struct bk_slice rule,
                                enum bk_question_of of);
/* The same of any filter; of a client's, at most BK_FILTER_BYTES_MAX long, what filter.h says of
 * BK_FILTER_OF_CLIENT. error: what is wrong with it, or NULL. */
enum bk_status bk_question_make_filter(struct bk_question *question, struct bk_arena *arena,
                                       const struct bk_asker *asker,
                                       const struct bk_collection *collection, struct bk_slice text,
                                       enum bk_question_of of, enum bk_filter_trust trust,
                                       struct bk_error *error);
/* BK_NOT_FOUND: there is no such record, or the rule does not hold for it. */
enum bk_status bk_question_ask(const struct bk_question *question, struct bk_connection *connection,
                               struct bk_slice id);
enum bk_status bk_question_ask_values(const struct bk_question *question,
                                      struct bk_connection *connection,
                                      const struct bk_value *values);

/* Rows that a table no longer has: a JSON array of arrays, the values of all fields in their
 * order. */
struct bk_former_rows {
    const struct bk_collection *collection;
    struct bk_slice rows;
};
/* The collections that it joins, each once; at most so many. */
uint32_t bk_question_tables(const struct bk_question *question,
                            const struct bk_collection **collections, uint32_t max);
/* bk_question_ask_values, where these tables have these rows: no others, or (and_stored, which
 * reads all of a table) also those that they have now. */
enum bk_status bk_question_ask_former(const struct bk_question *question,
                                      struct bk_connection *connection,
                                      const struct bk_value *values,
                                      const struct bk_former_rows *tables, uint32_t table_count,
                                      bool and_stored);

/* What can be said without a connection. */
enum bk_answer {
    BK_ANSWER_NO,
    BK_ANSWER_YES,
    BK_ANSWER_NEEDS_TABLES, /* it speaks of other records, or takes long: bk_question_ask… says */
};
/* The answer that bk_question_ask would give of a stored record with these values, or
 * bk_question_ask_values. What takes tables matters only where it decides. Any thread, several at
 * a time; bounded in time and memory. */
enum bk_answer bk_question_judge(const struct bk_question *question, const struct bk_value *values);
/* Whether it is always answered without tables. */
bool bk_question_is_plain(const struct bk_question *question);
/* For questions that are kept: @now and the like are of this moment from here on. Nobody may be
 * asking meanwhile. */
void bk_question_set_now(struct bk_question *question, int64_t now_ms);

/* Whether the language reads this rule of the collection; a problem (validation_invalid_rule) for
 * field otherwise. */
bool bk_rule_is_valid(const struct bk_schema *schema, const struct bk_collection *collection,
                      struct bk_slice rule, struct bk_slice field, struct bk_problems *problems);

#endif
