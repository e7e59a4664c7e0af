/*
 * The filter language, from its text to an answer:
 *
 *   scanner.c    text → tokens
 *   parser.c     tokens → a tree, in an arena
 *   value.c      operands → what they stand for: fields, constants, macros, functions
 *   path.c       fields, and the relations on the way to them
 *   request.c    @request: what is known of who asks, and what for
 *   join.c       the tables that a path leads through
 *   compare.c    two values and an operator → SQL
 *   query.c      the tree → a condition
 *   rules.c      who may do what
 *
 *   filter     := term { ("&&" | "||") term }          && binds before ||; // begins a comment
 *   term       := operand [ "?" ] operator operand | "(" filter ")"
 *   operand    := identifier | 'text' | "text" | number | name(operand, …)
 *   operator   := = != ~ !~ > >= < <=
 */
#ifndef RULES_PRIVATE_H
#define RULES_PRIVATE_H

#include "bakend/filter.h"

/* --- scanner.c -------------------------------------------------------------------------------- */

enum filter_token_type {
    FILTER_END,
    FILTER_IDENTIFIER,
    FILTER_TEXT,
    FILTER_NUMBER,
    FILTER_FUNCTION, /* a name with "(" right behind it, which is the next token */
    FILTER_OPERATOR,
    FILTER_JOIN,
    FILTER_OPEN,
    FILTER_CLOSE,
    FILTER_COMMA,
};

struct filter_token {
    enum filter_token_type type;
    struct bk_slice text; /* as written; of a text: decoded */
    size_t position;      /* of its first byte, from 0 */
};

struct filter_scanner {
    struct bk_slice text;
    size_t position;
    struct bk_arena *arena;
    struct bk_error *error;
};

/* BK_INVALID with a message that names the position when there is no token here. */
enum bk_status filter_scan(struct filter_scanner *scanner, struct filter_token *token);
/* "at N: expected …, got …"; N counts bytes from 1. Returns BK_INVALID. */
enum bk_status filter_refuse(struct bk_error *error, size_t position, const char *expected,
                             struct bk_slice got);

/* --- parser.c --------------------------------------------------------------------------------- */

enum filter_operator {
    FILTER_EQUAL,
    FILTER_NOT_EQUAL,
    FILTER_LIKE,
    FILTER_NOT_LIKE,
    FILTER_LESS,
    FILTER_LESS_EQUAL,
    FILTER_GREATER,
    FILTER_GREATER_EQUAL,
};

struct filter_operand {
    enum filter_token_type type; /* identifier, text, number or function */
    struct bk_slice text;
    size_t position;
    struct filter_operand *arguments; /* of a function: the first one */
    uint32_t argument_count;
    struct filter_operand *next; /* argument */
};

/* A comparison, or a group of nodes. */
struct filter_node {
    struct filter_node *next;
    bool is_or;                /* joined to the node before it with || */
    struct filter_node *group; /* the first one in it; NULL: a comparison */
    struct filter_operand left, right;
    enum filter_operator sign;
    bool is_any; /* written with "?": one of many values is enough */
};

struct bk_filter {
    struct filter_node *first;
    uint32_t comparison_count;
};

/* --- join.c ----------------------------------------------------------------------------------- */

enum filter_join_kind {
    FILTER_JOIN_BASE,       /* the records that are selected */
    FILTER_JOIN_RELATION,   /* what the field of the parent points at */
    FILTER_JOIN_BACK,       /* what points at the parent with the field */
    FILTER_JOIN_COLLECTION, /* every record of a collection */
    FILTER_JOIN_IDS,        /* the records of a list of ids: a value that is bound */
    FILTER_JOIN_EACH,       /* the elements of the field of the parent */
    FILTER_JOIN_LIST,       /* the elements of a list: a value that is bound */
};

struct filter_constant;

/* A row for each thing that a path leads to. Paths that begin alike share rows. */
struct filter_join {
    struct filter_join *next; /* in the order of making: parents first */
    enum filter_join_kind kind;
    struct filter_join *parent;             /* NULL: leads from nowhere */
    const struct bk_collection *collection; /* NULL: elements */
    const struct bk_field *field;
    struct bk_slice name; /* of the base, and what tells others apart: an alias, a field */
    uint32_t number;
    struct filter_constant *list; /* of ids, of elements */
    bool is_many;                 /* may be several rows for one record */
    bool is_judged;               /* the list rule of its collection holds for it */
};

/* Finds it or makes it. */
struct filter_join *filter_join_get(struct bk_filter_query *query,
                                    const struct filter_join *wanted);
/* " LEFT JOIN …" */
void filter_join_write(const struct filter_join *join, char letter, struct bk_buffer *out);
/* All from the base to this one, with names of their own. */
void filter_join_write_chain(const struct filter_join *join, char letter, struct bk_buffer *out);
/* The name of its rows. The base has one name only. */
void filter_join_write_name(const struct filter_join *join, char letter, struct bk_buffer *out);
/* json_each(…) of a column, whether or not it has a list. */
void filter_write_each(const struct filter_join *join, const struct bk_field *field, char letter,
                       struct bk_buffer *out);
enum { FILTER_LETTER = 'f', FILTER_MATCH_LETTER = 'm', FILTER_OTHER_MATCH_LETTER = 'w' };

/* --- value.c ---------------------------------------------------------------------------------- */

enum filter_value_kind {
    FILTER_VALUE_NULL,
    FILTER_VALUE_LITERAL,   /* text: of SQL */
    FILTER_VALUE_PARAMETER, /* bound */
    FILTER_VALUE_COLUMN,
    FILTER_VALUE_JSON, /* path: in the column */
    FILTER_VALUE_LENGTH,
    FILTER_VALUE_ELEMENT,
    FILTER_VALUE_DISTANCE,
    FILTER_VALUE_STRFTIME,
};

/* What to do with NULL in a comparison. */
enum filter_fallback { FILTER_FALLBACK_AUTO, FILTER_FALLBACK_NONE, FILTER_FALLBACK_ALWAYS };

struct filter_value {
    enum filter_value_kind kind;
    enum filter_fallback fallback;
    bool is_lower;
    bool is_many;             /* several: all of them must match */
    bool needs_visible_email; /* it is an email: only where its owner shows it */
    struct filter_join *join; /* whose row it is in; NULL: none */
    const struct bk_field *field;
    struct bk_slice text; /* literal or path */
    struct filter_constant *constant;
    struct filter_value *arguments;
    uint32_t argument_count;
};

enum bk_status filter_value_resolve(struct bk_filter_query *query,
                                    const struct filter_operand *operand,
                                    struct filter_value *value);
void filter_value_write(const struct filter_value *value, char letter, struct bk_buffer *out);
/* A value to be bound. It gets its number when it is written for the first time, so that every
 * number is met in the statement. */
struct filter_constant {
    struct bk_filter_query *query;
    struct bk_value value;
    uint32_t number; /* 0: not written yet */
};
struct filter_constant *filter_constant_make(struct bk_filter_query *query,
                                             const struct bk_value *value);
void filter_constant_write(struct filter_constant *constant, struct bk_buffer *out);
/* A value of a constant. */
void filter_value_bind(struct bk_filter_query *query, const struct bk_value *constant,
                       struct filter_value *value);

/* --- path.c, request.c ------------------------------------------------------------------------ */

/* An identifier cut at its dots. */
struct filter_path {
    const struct filter_operand *operand;
    struct bk_slice rest;      /* what is still to be walked */
    struct filter_join *join;  /* where it stands */
    bool is_null_when_missing; /* of @request: what is not there is null */
};
/* "name:modifier"; BK_INVALID for an unknown modifier. */
enum bk_status filter_split_modifier(struct bk_filter_query *query,
                                     const struct filter_operand *operand, struct bk_slice word,
                                     struct bk_slice *name, struct bk_slice *modifier);
/* Walks from where the path stands to a field. */
enum bk_status filter_path_walk(struct bk_filter_query *query, struct filter_path *path,
                                struct filter_value *value);
enum bk_status filter_field_resolve(struct bk_filter_query *query,
                                    const struct filter_operand *operand,
                                    struct filter_value *value);
enum bk_status filter_request_resolve(struct bk_filter_query *query,
                                      const struct filter_operand *operand,
                                      struct filter_value *value);
/* "at N: …" */
enum bk_status filter_refuse_name(struct bk_filter_query *query,
                                  const struct filter_operand *operand, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- compare.c -------------------------------------------------------------------------------- */

void filter_compare_write(struct bk_filter_query *query, const struct filter_value *left,
                          const struct filter_node *node, const struct filter_value *right,
                          struct bk_buffer *out);

/* --- query.c ---------------------------------------------------------------------------------- */

struct filter_condition {
    struct filter_condition *next;
    struct bk_slice sql;
    bool is_many; /* it speaks of rows of which there may be several */
};

struct bk_filter_query {
    struct bk_filter_scope scope;
    struct bk_arena *arena;
    struct bk_error *error;
    struct filter_join *joins, **joins_end;
    struct filter_join *base; /* of the filter that is added */
    struct filter_condition *conditions, **conditions_end;
    struct bk_value *values;
    uint32_t value_count, value_capacity, join_count;
    enum bk_filter_trust trust;
    bool has_many; /* the comparison under way speaks of such rows */
};
/* By name or id; the collection of the scope may not be in its schema yet. NULL. */
const struct bk_collection *filter_find_collection(const struct bk_filter_query *query,
                                                   struct bk_slice name_or_id);
/* The SQL of a row of nodes. */
enum bk_status filter_nodes_write(struct bk_filter_query *query, const struct filter_node *first,
                                  struct bk_buffer *out);

#endif
