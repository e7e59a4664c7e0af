/*
 * The filter language, from its text to an answer:
 *
 *   scanner.c    text → tokens
 *   parser.c     tokens → a tree, in an arena
 *   value.c      operands → what they stand for: fields, constants, macros, functions
 *   path.c       fields, and the relations on the way to them
 *   request.c    @request: what is known of who asks, and what for
 *   join.c       the tables that a path leads through
 *   query.c      the tree → tests, each with its values resolved; conditions of tests
 *   where.c      conditions → SQL, in an order that gives nothing away
 *   compare.c    two values and an operator → SQL
 *   rules.c      who may do what
 *
 * What is resolved is either written as SQL or computed in memory, with the same answer:
 *
 *   evaluate.c         the tests of a condition, over a record
 *   evaluate_value.c   what a value is, for a record
 *   evaluate_json.c    paths into JSON, and its elements
 *   strftime.c         times, as that function writes them
 *   number.c           numbers, texts and their comparison as SQLite has them
 *   event_filter.c     filters over events, which are computed only
 *
 *   filter     := term { ("&&" | "||") term }          && binds before ||; // begins a comment
 *   term       := operand [ "?" ] operator operand | "(" filter ")"
 *   operand    := identifier | 'text' | "text" | number | name(operand, …)
 *   operator   := = != ~ !~ > >= < <=
 */
#ifndef RULES_PRIVATE_H
#define RULES_PRIVATE_H

#include "bakend/rules.h"

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
    FILTER_JOIN_RELATION,   /* what the field of the parent points at, or the parent's elements */
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
    struct filter_judge *judge;   /* says which of its rows a client may know of; NULL: all */
    bool is_judged;               /* it has one, or gets one when the filter is read */
    bool is_of_path;              /* elements of what name leads to in the field's JSON */
    bool is_required;             /* its row is there wherever the conditions hold */
    bool is_of_client;            /* no rule needs it */
};

struct filter_test;

/* The list rule of a collection, asked of a row of a join by its id. */
struct filter_judge {
    struct filter_join *rows; /* the base of the rule, and the joins that it needs behind it */
    struct filter_test *tests;
};

/* Finds it or makes it. */
struct filter_join *filter_join_get(struct bk_filter_query *query,
                                    const struct filter_join *wanted);
/* " LEFT JOIN …" */
void filter_join_write(const struct filter_join *join, char letter, struct bk_buffer *out);
/* All from the base to this one, with names of their own. */
void filter_join_write_chain(const struct filter_join *join, char letter, struct bk_buffer *out);
/* Whether a client may know of the row, or there is none. */
void filter_join_write_judge(const struct filter_join *join, char letter, struct bk_buffer *out);
/* " AND " each judge, and that an email address is shown, of what a value goes over. */
struct filter_value;
void filter_value_write_seen(const struct filter_value *value, char letter, struct bk_buffer *out);
/* The name of its rows. The base has one name only. */
void filter_join_write_name(const struct filter_join *join, char letter, struct bk_buffer *out);
/* json_each(…) of a column, whether or not it has a list. */
void filter_write_each(const struct filter_join *join, const struct bk_field *field, char letter,
                       struct bk_buffer *out);
enum { FILTER_LETTER = 'f', FILTER_MATCH_LETTER = 'm', FILTER_OTHER_MATCH_LETTER = 'w' };

/* --- value.c ---------------------------------------------------------------------------------- */

enum filter_value_kind {
    FILTER_VALUE_NULL,
    FILTER_VALUE_LITERAL,   /* text: digits, TRUE or FALSE */
    FILTER_VALUE_PARAMETER, /* bound */
    FILTER_VALUE_COLUMN,
    FILTER_VALUE_JSON, /* path: in the column */
    FILTER_VALUE_LENGTH,
    FILTER_VALUE_ELEMENT,
    FILTER_VALUE_DISTANCE,
    FILTER_VALUE_STRFTIME,
    FILTER_VALUE_CONDITION, /* whether the tests hold */
};

/* What to do with NULL in a comparison. */
enum filter_fallback { FILTER_FALLBACK_AUTO, FILTER_FALLBACK_NONE, FILTER_FALLBACK_ALWAYS };

struct filter_value {
    enum filter_value_kind kind;
    enum filter_fallback fallback;
    bool is_lower;
    bool is_expression;       /* of a column: without its type */
    bool is_many;             /* several: all of them must match */
    bool is_of_path;          /* a length of what the path leads to */
    bool is_of_all;           /* of the comparison that all of several must pass */
    bool needs_visible_email; /* it is an email: only where its owner shows it */
    struct filter_join *join; /* whose row it is in; NULL: none */
    const struct bk_field *field;
    struct bk_slice text; /* literal or path */
    struct filter_constant *constant;
    struct filter_value *arguments;
    uint32_t argument_count;
    struct filter_test *condition;
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
    uint32_t number;              /* 0: not written yet */
    bool is_bool;                 /* in a pattern it is "true" or "false" */
    struct bk_slice macro;        /* "@now": it depends on when it is asked; or empty */
    struct filter_constant *next; /* macro */
};
struct filter_constant *filter_constant_make(struct bk_filter_query *query,
                                             const struct bk_value *value);
void filter_constant_write(struct filter_constant *constant, struct bk_buffer *out);
/* What a macro of time stands for; false: there is none of this name. text: room for a time. */
bool filter_macro_value(struct bk_slice name, int64_t now_ms, char *text, struct bk_value *value);
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

/* A comparison with its values resolved, or a group of tests. */
struct filter_test {
    struct filter_test *next;
    bool is_or;
    struct filter_test *group; /* the first one in it; NULL: a comparison */
    const struct filter_node *node;
    struct filter_value left, right;
    struct filter_value pattern; /* of LIKE with a constant on its right */
    bool has_pattern;
    bool is_of_client; /* all rows that it may know of must match, not those that it may not */
};

/* Makes the pattern of a test whose values are resolved. */
void filter_compare_prepare(struct bk_filter_query *query, struct filter_test *test);
void filter_compare_write(const struct filter_test *test, struct bk_buffer *out);
/* Marks the joins without whose rows the tests cannot hold: NULL is less, equal or like nothing. */
void filter_compare_require(const struct filter_test *first);
/* The value in the comparison that all of several must pass, where the contract has other ideas of
 * what is surely not empty. */
struct filter_value filter_compare_all(const struct filter_value *value);
/* A boolean of the request, which LIKE compares with as "true" or "false". */
bool filter_value_is_word(const struct filter_value *value);
/* Whether it is '' or null, whatever the record; whether it surely is neither. */
bool filter_value_is_empty(const struct filter_value *value);
bool filter_value_is_filled(const struct filter_value *value);
/* %text%, with what LIKE would read as a wildcard escaped, unless it has one of its own. */
struct bk_value filter_make_pattern(struct bk_arena *arena, const struct bk_value *value);

/* --- query.c ---------------------------------------------------------------------------------- */

struct filter_condition {
    struct filter_condition *next;
    struct filter_test *tests;  /* as one group */
    struct filter_join *judged; /* instead of tests: its judge; or NULL */
    bool is_many;               /* it speaks of rows of which there may be several */
    bool is_of_client;
    bool is_served; /* a client's: indexes may serve it; see where.c */
};

struct bk_filter_query {
    struct bk_filter_scope scope;
    struct bk_arena *arena;
    struct bk_error *error;
    struct filter_join *joins, **joins_end;
    struct filter_join *base; /* of the filter that is added */
    struct filter_condition *conditions, **conditions_end;
    struct filter_constant *macros;
    struct bk_value *values;
    uint32_t value_count, value_capacity, join_count;
    enum bk_filter_trust trust;
    bool has_many;     /* the tests under way speak of such rows */
    bool is_of_event;  /* what it speaks of is an event */
    bool is_of_new;    /* what it speaks of is a record that nothing can refer to yet */
    bool needs_sqlite; /* there is a function that only SQLite has */
};
/* By name or id; the collection of the scope may not be in its schema yet. NULL. */
const struct bk_collection *filter_find_collection(const struct bk_filter_query *query,
                                                   struct bk_slice name_or_id);
/* A row of nodes as tests. */
enum bk_status filter_tests_resolve(struct bk_filter_query *query, const struct filter_node *first,
                                    struct filter_test **tests);
/* Their SQL. */
void filter_tests_write(const struct filter_test *first, struct bk_buffer *out);

/* --- where.c ---------------------------------------------------------------------------------- */

/* " LEFT JOIN …" of what there is one of at most. */
void filter_where_write_joins(const struct bk_filter_query *query, struct bk_buffer *out);
/* All conditions; never empty. */
void filter_where_write(const struct bk_filter_query *query, struct bk_buffer *out);
bool filter_where_is_served(const struct bk_filter_query *query,
                            const struct filter_condition *condition);

/* --- number.c --------------------------------------------------------------------------------- */

/* What SQLite makes of a column's values before it compares them. */
enum filter_affinity {
    FILTER_AFFINITY_NONE, /* an expression */
    FILTER_AFFINITY_BLOB, /* a column without a type */
    FILTER_AFFINITY_TEXT,
    FILTER_AFFINITY_NUMERIC,
};
enum filter_affinity filter_column_affinity(const struct bk_field *field);
/* Of the records that are asked. A list that is in no table has none: it is no number, and SQL has
 * no cast that would leave it as it is. */
enum filter_affinity filter_new_affinity(const struct bk_field *field, enum bk_question_of of);
/* Less than, equal to or greater than 0; neither is NULL. arena: for numbers as texts. */
int filter_compare_values(struct bk_arena *arena, const struct bk_value *left,
                          enum filter_affinity left_affinity, const struct bk_value *right,
                          enum filter_affinity right_affinity);
/* A number as SQLite writes it; a text as it is. */
struct bk_slice filter_text_of(struct bk_arena *arena, const struct bk_value *value);
/* Whether it is what SQL takes for true: not 0, a text by the number that it begins with. */
bool filter_is_true(const struct bk_value *value);
/* A text that is a number becomes one. */
struct bk_value filter_numeric_of(const struct bk_value *value);
/* A number of JSON: an integer where SQLite has one. */
struct bk_value filter_number_of(struct bk_slice text);

/* --- strftime.c ------------------------------------------------------------------------------- */

/* False: it takes SQLite. */
bool filter_strftime(struct bk_arena *arena, const struct bk_value *format,
                     const struct bk_value *time, int64_t now_ms, struct bk_value *out);

/* --- evaluate.c, evaluate_value.c, evaluate_json.c -------------------------------------------- */

enum {
    FILTER_ELEMENT_STEPS_MAX = 20 * 1000,          /* comparisons of elements with elements */
    FILTER_LIKE_LOOKS_MAX = 256,                   /* of BK_LIKE_LOOK_STEPS */
    FILTER_EVALUATION_BYTES_MAX = 4 * 1024 * 1024, /* of what is made on the way */
};

/* A record, whose JSON is read when it is first asked for. */
struct filter_row {
    const struct bk_collection *collection;
    const struct bk_value *values;
    const struct bk_json **json; /* of each field; NULL: not read yet, or none */
    struct bk_arena *arena;      /* that the JSON is in */
};

/* The values that a join stands for, one after the other. */
struct filter_elements {
    const struct filter_join *join;
    struct bk_value *items;
    uint32_t count, at;
};

struct filter_evaluation {
    const struct bk_filter_query *query;
    struct filter_row row, auth; /* auth.values NULL: not known here */
    struct bk_arena *arena;
    int64_t now_ms;
    enum bk_question_of of; /* what the row is */
    struct filter_elements *elements;
    uint32_t element_count, steps, like_looks;
};

enum bk_answer filter_evaluate(struct filter_evaluation *evaluation);
/* False: it takes tables. chosen: the elements that are meant, of a join that it names; or NULL. */
bool filter_compute(struct filter_evaluation *evaluation, const struct filter_value *value,
                    const struct filter_elements *chosen, struct bk_value *out);
enum filter_affinity filter_value_affinity(const struct filter_evaluation *evaluation,
                                           const struct filter_value *value);
/* Whether the tests hold: 1, 0 or NULL. False: it takes tables. */
bool filter_compute_tests(struct filter_evaluation *evaluation, const struct filter_test *first,
                          struct bk_value *out);
/* The row of a join, NULL when it is in a table. */
struct filter_row *filter_row_of(struct filter_evaluation *evaluation,
                                 const struct filter_join *join);

enum filter_json { FILTER_JSON_IS, FILTER_JSON_IS_NOT, FILTER_JSON_UNKNOWN };
/* What a column holds, as JSON, if it is JSON. */
enum filter_json filter_row_json(struct filter_row *row, const struct bk_field *field,
                                 const struct bk_json **json);
/* ".a[0].b"; NULL: there is nothing. */
const struct bk_json *filter_json_at(const struct bk_json *json, struct bk_slice path);
/* Without the spaces between its parts. */
struct bk_slice filter_json_compact(struct bk_arena *arena, struct bk_slice text);
/* As json_extract gives it. */
struct bk_value filter_json_value(struct bk_arena *arena, const struct bk_json *json);
/* The elements of what a join stands for, one NULL when there are none. False: tables. */
bool filter_elements_of(struct filter_evaluation *evaluation, const struct filter_join *join,
                        struct filter_elements *elements);

#endif
