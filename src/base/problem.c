/* Problems are kept as a flat list in the order they were found. The nested form is made when they
 * are written: each level walks the list for the paths below its own, so that no tree is ever
 * built. */
#include "bakend/problem.h"

#include "bakend/assert.h"
#include "bakend/json.h"

/* Deeper paths than any definition has; the rest of a longer one is one name. */
enum { LEVELS_MAX = 16 };

void bk_problems_init(struct bk_problems *problems, struct bk_arena *arena) {
    BK_ASSERT(arena != NULL);
    *problems = (struct bk_problems){.arena = arena};
}

void bk_problems_add_params(struct bk_problems *problems, struct bk_slice field, const char *code,
                            const char *message, struct bk_slice params) {
    BK_ASSERT(code != NULL && message != NULL);
    if (bk_problems_has(problems, field))
        return;
    struct bk_arena *arena = problems->arena;
    struct bk_problem *problem = bk_arena_alloc_zero(arena, sizeof *problem);
    problem->field = bk_arena_copy(arena, field);
    problem->code = bk_arena_copy(arena, bk_slice_from(code));
    problem->message = bk_arena_copy(arena, bk_slice_from(message));
    problem->params = bk_arena_copy(arena, params);
    problems->count++;
    /* Memory that an overflown arena lends is lent again, so it is counted but not kept. */
    if (arena->is_overflown)
        return;
    if (problems->last == NULL)
        problems->first = problem;
    else
        problems->last->next = problem;
    problems->last = problem;
}

void bk_problems_add(struct bk_problems *problems, struct bk_slice field, const char *code,
                     const char *message) {
    bk_problems_add_params(problems, field, code, message, BK_SLICE_EMPTY);
}

bool bk_problems_has(const struct bk_problems *problems, struct bk_slice field) {
    for (const struct bk_problem *problem = problems->first; problem != NULL;
         problem = problem->next)
        if (bk_slice_equal(problem->field, field))
            return true;
    return false;
}

/* The name that the path has below a level of this many bytes, dot included; false when the path
 * does not lie there. */
static bool name_below(struct bk_slice path, struct bk_slice level, bool is_deepest,
                       struct bk_slice *name) {
    if (!bk_slice_starts_with(path, level) || path.length == level.length)
        return false;
    *name = bk_slice_make(path.data + level.length, path.length - level.length);
    if (!is_deepest)
        name->length = bk_slice_find(*name, '.');
    return true;
}

static void write_problem(const struct bk_problem *problem, struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("code"), problem->code);
    bk_json_write_member_string(out, BK_SLICE("message"), problem->message);
    if (problem->params.length > 0)
        bk_json_write_member_raw(out, BK_SLICE("params"), problem->params);
    bk_buffer_append_char(out, '}');
}

/* Whether an earlier problem has begun the member that this one belongs to. */
static bool is_begun(const struct bk_problems *problems, const struct bk_problem *problem,
                     struct bk_slice level, bool is_deepest, struct bk_slice name) {
    for (const struct bk_problem *earlier = problems->first; earlier != problem;
         earlier = earlier->next) {
        struct bk_slice other;
        if (name_below(earlier->field, level, is_deepest, &other) && bk_slice_equal(other, name))
            return true;
    }
    return false;
}

/* level: the path that all of them begin with, with its last dot; empty at the top. */
static void write_level(const struct bk_problems *problems, struct bk_slice level, int depth,
                        struct bk_buffer *out) {
    bool is_deepest = depth == LEVELS_MAX;
    bk_buffer_append_char(out, '{');
    for (const struct bk_problem *problem = problems->first; problem != NULL;
         problem = problem->next) {
        struct bk_slice name;
        if (!name_below(problem->field, level, is_deepest, &name) ||
            is_begun(problems, problem, level, is_deepest, name))
            continue;
        bk_json_write_key(out, name);
        size_t reached = level.length + name.length;
        if (problem->field.length == reached)
            write_problem(problem, out);
        else
            write_level(problems, bk_slice_make(problem->field.data, reached + 1), depth + 1, out);
    }
    bk_buffer_append_char(out, '}');
}

void bk_problems_write_json(const struct bk_problems *problems, struct bk_buffer *out) {
    write_level(problems, BK_SLICE_EMPTY, 0, out);
}
