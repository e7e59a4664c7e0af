/*
 * The gate in front of cJSON. It reads the text once, strictly by RFC 8259, and makes the outline
 * of the tree: one node per value with its type, its place in the text, its children and siblings.
 * What strings decode to is left to cJSON. Private to the base tier.
 */
#ifndef BAKEND_BASE_JSON_GATE_H
#define BAKEND_BASE_JSON_GATE_H

#include "bakend/json.h"

struct json_gate {
    struct bk_arena *arena;
    const char *start, *cursor, *end;
    /* A copy of the text, same length, in which what is valid JSON but trips cJSON is replaced;
     * NULL when nothing was: cJSON reads the text itself. */
    char *patched;
    uint32_t value_count;
    enum bk_status status;
    const char *reason; /* static, set with status */
};

/* NULL when the text is refused: status, reason and cursor (the offending byte) say why. */
struct bk_json *json_gate_read(struct json_gate *gate, struct bk_arena *arena,
                               struct bk_slice text);

#endif
