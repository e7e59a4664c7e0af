/*
 * What is wrong with an input, field by field, in the contract's shape:
 *   {"title": {"code": "validation_required", "message": "Cannot be blank."}}
 * Kept in an arena; a second problem of the same field is dropped.
 */
#ifndef BAKEND_PROBLEM_H
#define BAKEND_PROBLEM_H

#include "bakend/arena.h"
#include "bakend/buffer.h"

struct bk_problem {
    struct bk_problem *next;
    struct bk_slice field; /* a name, or a path: "fields.0.name" nests */
    struct bk_slice code;  /* snake_case */
    struct bk_slice message;
    struct bk_slice params; /* JSON object text or empty */
};

struct bk_problems {
    struct bk_arena *arena;
    struct bk_problem *first, *last;
    uint32_t count;
};

void bk_problems_init(struct bk_problems *problems, struct bk_arena *arena);
/* Texts are copied. */
void bk_problems_add(struct bk_problems *problems, struct bk_slice field, const char *code,
                     const char *message);
/* The same with params, a JSON object. */
void bk_problems_add_params(struct bk_problems *problems, struct bk_slice field, const char *code,
                            const char *message, struct bk_slice params);
bool bk_problems_has(const struct bk_problems *problems, struct bk_slice field);
/* The object; "{}" when there are none. Paths with dots nest: {"fields":{"0":{"name":{…}}}}. */
void bk_problems_write_json(const struct bk_problems *problems, struct bk_buffer *out);

#endif
