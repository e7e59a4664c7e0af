/*
 * Filters: the expressions that select records, in lists and in rules. The language is the
 * contract's; see docs/filters.md.
 */
#ifndef BAKEND_FILTER_H
#define BAKEND_FILTER_H

#include "bakend/schema.h"

enum {
    BK_FILTER_BYTES_MAX = 3500,    /* of a client's filter */
    BK_RULE_BYTES_MAX = 16 * 1024, /* of a rule */
    BK_FILTER_COMPARISONS_MAX = 200,
    BK_FILTER_DEPTH_MAX = 32, /* of groups in groups */
    BK_FILTER_FUNCTION_DEPTH_MAX = 3,
    BK_FILTER_ARGUMENTS_MAX = 10,
    BK_FILTER_RELATIONS_MAX = 6, /* from field to field in a path */
    BK_FILTER_JOINS_MAX = 60,    /* tables of all paths: SQLite joins 64 */
    BK_FILTER_SQL_BYTES_MAX = 1024 * 1024,
};

struct bk_actor;
struct bk_filter;

/* Reads a filter into the arena; text is borrowed as long as the filter. BK_INVALID, with the
 * position and what was expected there; BK_TOO_LARGE when the arena is full. Any thread. */
enum bk_status bk_filter_parse(struct bk_arena *arena, struct bk_slice text, size_t bytes_max,
                               struct bk_filter **filter, struct bk_error *error);

/* --- SQL -------------------------------------------------------------------------------------- */

/* What a filter may speak of. Borrowed as long as the query. */
struct bk_filter_scope {
    const struct bk_schema *schema;
    const struct bk_collection *collection; /* whose records are selected */
    struct bk_slice rows; /* the name that they have in the statement, quoted; empty: its own */
    /* @request: {"context","method","query","headers","body","auth"}; NULL: all of it is null. */
    const struct bk_json *request;
    const struct bk_collection *auth_collection; /* of who asks; NULL: a guest */
    struct bk_slice auth_id;
    const struct bk_actor *actor; /* who asks, for where a client's paths may lead; NULL: a guest */
    const struct bk_value *auth_values; /* of that record, where they are known; or NULL */
    int64_t now_ms;
    int first_parameter; /* ?N: those before it are the caller's */
};

/* A condition in the making, of one or more filters that must all hold. */
struct bk_filter_query;

/* For clients: hidden fields do not exist, neither do @request and @collection; relations lead to
 * what the list rules of their collections show. */
enum bk_filter_trust { BK_FILTER_OF_CLIENT, BK_FILTER_OF_RULE };

/* NULL when the arena is full. */
struct bk_filter_query *bk_filter_query_create(struct bk_arena *arena,
                                               const struct bk_filter_scope *scope);
/* BK_INVALID: a name that is not there, with its position. BK_FORBIDDEN: @request or @collection
 * of a client. */
enum bk_status bk_filter_query_add(struct bk_filter_query *query, const struct bk_filter *filter,
                                   enum bk_filter_trust trust, struct bk_error *error);

/* What a path of the language stands for as an expression to sort by; of several values the first.
 * BK_INVALID: it is none. */
enum bk_status bk_filter_query_sort(struct bk_filter_query *query, struct bk_slice path,
                                    enum bk_filter_trust trust, struct bk_slice *sql,
                                    struct bk_error *error);

/* SELECT … FROM "posts" <joins> WHERE <where>; no record comes twice. where is never empty. */
struct bk_filter_sql {
    struct bk_slice joins, where;
    const struct bk_value *values; /* of ?first_parameter and on */
    uint32_t value_count;
    /* Whether it holds for the same records until an event says otherwise: bk_rows_count. */
    bool changes_with_events;
};
enum bk_status bk_filter_query_finish(struct bk_filter_query *query, struct bk_filter_sql *sql);

#endif
