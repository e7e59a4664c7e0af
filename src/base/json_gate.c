/*
 * A recursive descent over the grammar of RFC 8259, at most BK_JSON_DEPTH_MAX levels deep, so the
 * stack it takes is bounded. Refused here, since cJSON lets them through:
 *
 *   duplicate keys (by json_parse.c, which sees them decoded)   a NUL escape: cJSON cuts the string
 *   invalid UTF-8                                               raw controls inside a string
 *   01  1.  .5  +1  1e  and the like                            a byte order mark, trailing text
 *
 * Valid, but cJSON fails on it, hence replaced in a copy of the text that cJSON reads instead:
 *
 *   a lone surrogate escape   becomes \ufffd, as Go and others read it
 *   a number over 63 bytes    becomes spaces and a 0; its text is kept from the original anyway
 */
#include "json_gate.h"

#include "json_scan.h"
#include "utf8.h"

enum {
    CJSON_NUMBER_BYTES_MAX = 63, /* its buffer is 64 bytes with the NUL */
    UNICODE_ESCAPE_BYTES = 6     /* \uXXXX */
};

static bool refuse(struct json_gate *gate, enum bk_status status, const char *reason) {
    gate->status = status;
    gate->reason = reason;
    return false;
}

static bool invalid(struct json_gate *gate, const char *reason) {
    return refuse(gate, BK_INVALID, reason);
}

static bool at(const struct json_gate *gate, char c) {
    return gate->cursor < gate->end && *gate->cursor == c;
}

static void skip_space(struct json_gate *gate) {
    while (at(gate, ' ') || at(gate, '\n') || at(gate, '\r') || at(gate, '\t'))
        gate->cursor++;
}

/* The place in the copy that stands for the cursor; NULL past the arena's cap. */
static char *patch_here(struct json_gate *gate) {
    if (gate->patched == NULL) {
        size_t length = (size_t)(gate->end - gate->start);
        char *copy = bk_arena_alloc(gate->arena, length);
        if (gate->arena->is_overflown) {
            refuse(gate, bk_arena_status(gate->arena), "the text takes more memory than it may");
            return NULL;
        }
        memcpy(copy, gate->start, length);
        gate->patched = copy;
    }
    return gate->patched + (gate->cursor - gate->start);
}

/* The four digits after \u, or -1. */
static int hex_escape(const struct json_gate *gate, const char *escape) {
    if (gate->end - escape < UNICODE_ESCAPE_BYTES || escape[0] != '\\' || escape[1] != 'u')
        return -1;
    int code = 0;
    for (int i = 2; i < UNICODE_ESCAPE_BYTES; i++) {
        char c = escape[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

static bool read_unicode_escape(struct json_gate *gate) {
    int code = hex_escape(gate, gate->cursor);
    if (code < 0)
        return invalid(gate, "\\u wants four hexadecimal digits");
    if (code == 0)
        return invalid(gate, "a string may not hold \\u0000");
    if (code >= 0xD800 && code <= 0xDBFF) {
        int low = hex_escape(gate, gate->cursor + UNICODE_ESCAPE_BYTES);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            gate->cursor += 2 * UNICODE_ESCAPE_BYTES;
            return true;
        }
    }
    if (code >= 0xD800 && code <= 0xDFFF) {
        char *patch = patch_here(gate);
        if (patch == NULL)
            return false;
        memcpy(patch, "\\ufffd", UNICODE_ESCAPE_BYTES);
    }
    gate->cursor += UNICODE_ESCAPE_BYTES;
    return true;
}

static bool read_escape(struct json_gate *gate) {
    if (gate->end - gate->cursor < 2)
        return invalid(gate, "a string does not end");
    switch (gate->cursor[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        gate->cursor += 2;
        return true;
    case 'u':
        return read_unicode_escape(gate);
    default:
        return invalid(gate, "unknown escape in a string");
    }
}

static bool read_string(struct json_gate *gate) {
    gate->cursor++;
    for (;;) {
        gate->cursor = json_skip_plain(gate->cursor, gate->end);
        if (gate->cursor == gate->end)
            return invalid(gate, "a string does not end");
        unsigned char byte = (unsigned char)*gate->cursor;
        if (byte == '"') {
            gate->cursor++;
            return true;
        }
        if (byte == '\\') {
            if (!read_escape(gate))
                return false;
        } else if (byte < 0x20) {
            return invalid(gate, "a string holds a control character, write it as an escape");
        } else {
            size_t length = utf8_sequence_length(gate->cursor, (size_t)(gate->end - gate->cursor));
            if (length == 0)
                return invalid(gate, "the text is not valid UTF-8");
            gate->cursor += length;
        }
    }
}

/* One digit or more. */
static bool read_digits(struct json_gate *gate) {
    const char *first = gate->cursor;
    while (gate->cursor < gate->end && *gate->cursor >= '0' && *gate->cursor <= '9')
        gate->cursor++;
    return gate->cursor > first || invalid(gate, "a digit is missing in a number");
}

static bool read_number(struct json_gate *gate) {
    const char *first = gate->cursor;
    if (at(gate, '-'))
        gate->cursor++;
    bool is_zero = at(gate, '0');
    if (!read_digits(gate))
        return false;
    if (is_zero && gate->cursor - first > (*first == '-' ? 2 : 1))
        return invalid(gate, "a number begins with a superfluous zero");
    if (at(gate, '.')) {
        gate->cursor++;
        if (!read_digits(gate))
            return false;
    }
    if (at(gate, 'e') || at(gate, 'E')) {
        gate->cursor++;
        if (at(gate, '+') || at(gate, '-'))
            gate->cursor++;
        if (!read_digits(gate))
            return false;
    }
    const char *end = gate->cursor;
    if (end - first > CJSON_NUMBER_BYTES_MAX) {
        gate->cursor = first;
        char *patch = patch_here(gate);
        gate->cursor = end;
        if (patch == NULL)
            return false;
        memset(patch, ' ', (size_t)(end - first));
        patch[end - first - 1] = '0';
    }
    return true;
}

static bool read_word(struct json_gate *gate, struct bk_slice word) {
    struct bk_slice rest = bk_slice_make(gate->cursor, (size_t)(gate->end - gate->cursor));
    if (!bk_slice_starts_with(rest, word))
        return invalid(gate, "a value was expected");
    gate->cursor += word.length;
    return true;
}

static struct bk_json *new_node(struct json_gate *gate) {
    _Static_assert(BK_JSON_VALUES_MAX == 200000, "the message below names it");
    if (gate->value_count == BK_JSON_VALUES_MAX) {
        refuse(gate, BK_TOO_LARGE, "the text has too many values: at most 200000");
        return NULL;
    }
    gate->value_count++;
    struct bk_json *node = bk_arena_alloc(gate->arena, sizeof *node);
    /* Emergency memory is shared: nodes in it would link to themselves. */
    if (gate->arena->is_overflown) {
        refuse(gate, bk_arena_status(gate->arena), "the text takes more memory than it may");
        return NULL;
    }
    *node = (struct bk_json){.type = BK_JSON_NULL};
    return node;
}

static struct bk_json *read_value(struct json_gate *gate, int depth);

static bool read_member_name(struct json_gate *gate) {
    if (!at(gate, '"'))
        return invalid(gate, "a member's name in double quotes was expected");
    if (!read_string(gate))
        return false;
    skip_space(gate);
    if (!at(gate, ':'))
        return invalid(gate, "':' was expected after a member's name");
    gate->cursor++;
    skip_space(gate);
    return true;
}

/* The elements of an array or the members of an object, and the bracket at the end. */
static bool read_children(struct json_gate *gate, struct bk_json *parent, int depth) {
    bool is_object = parent->type == BK_JSON_OBJECT;
    char closing = is_object ? '}' : ']';
    if (depth > BK_JSON_DEPTH_MAX)
        return invalid(gate, "the text is nested too deep");
    gate->cursor++;
    skip_space(gate);
    if (at(gate, closing)) {
        gate->cursor++;
        return true;
    }
    struct bk_json **link = &parent->child;
    for (;;) {
        if (is_object && !read_member_name(gate))
            return false;
        struct bk_json *child = read_value(gate, depth);
        if (child == NULL)
            return false;
        *link = child;
        link = &child->next;
        parent->child_count++;
        skip_space(gate);
        if (at(gate, closing)) {
            gate->cursor++;
            return true;
        }
        if (!at(gate, ','))
            return invalid(gate, is_object ? "',' or '}' was expected" : "',' or ']' was expected");
        gate->cursor++;
        skip_space(gate);
    }
}

static bool read_by_first_byte(struct json_gate *gate, struct bk_json *node, int depth) {
    char first = gate->cursor == gate->end ? '\0' : *gate->cursor;
    if (first == '-' || (first >= '0' && first <= '9')) {
        node->type = BK_JSON_NUMBER;
        return read_number(gate);
    }
    switch (first) {
    case '{':
        node->type = BK_JSON_OBJECT;
        return read_children(gate, node, depth + 1);
    case '[':
        node->type = BK_JSON_ARRAY;
        return read_children(gate, node, depth + 1);
    case '"':
        node->type = BK_JSON_STRING;
        return read_string(gate);
    case 't':
        node->type = BK_JSON_BOOL;
        node->boolean = true;
        return read_word(gate, BK_SLICE("true"));
    case 'f':
        node->type = BK_JSON_BOOL;
        return read_word(gate, BK_SLICE("false"));
    case 'n':
        return read_word(gate, BK_SLICE("null"));
    default:
        return invalid(gate, "a value was expected");
    }
}

static struct bk_json *read_value(struct json_gate *gate, int depth) {
    struct bk_json *node = new_node(gate);
    if (node == NULL)
        return NULL;
    const char *first = gate->cursor;
    if (!read_by_first_byte(gate, node, depth))
        return NULL;
    node->text = bk_slice_make(first, (size_t)(gate->cursor - first));
    return node;
}

struct bk_json *json_gate_read(struct json_gate *gate, struct bk_arena *arena,
                               struct bk_slice text) {
    const char *start = text.length == 0 ? "" : text.data;
    *gate = (struct json_gate){
        .arena = arena, .start = start, .cursor = start, .end = start + text.length};
    if (bk_slice_starts_with(text, BK_SLICE("\xEF\xBB\xBF"))) {
        invalid(gate, "the text begins with a byte order mark, leave it out");
        return NULL;
    }
    skip_space(gate);
    struct bk_json *root = read_value(gate, 0);
    if (root == NULL)
        return NULL;
    skip_space(gate);
    if (gate->cursor < gate->end) {
        invalid(gate, "text follows after the value");
        return NULL;
    }
    return root;
}
