/*
 * Patterns of text fields, by PCRE2. A pattern is compiled once, when its collection is read, into
 * the arena that the collection lives in: PCRE2 gets its memory from there and gives none back, so
 * that a collection needs no destructor for it. Matching is bounded by PCRE2's own limits, since
 * the pattern and the text come from people who may not mean well; a text that reaches them does
 * not match.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "types.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include <pcre2.h>

enum {
    MATCH_LIMIT = 100000,  /* steps: a few milliseconds */
    DEPTH_LIMIT = 1000,    /* nested backtracking points */
    HEAP_LIMIT_KIB = 1024, /* of one match */
    PATTERN_BYTES_MAX = 4096,
    REASON_BYTES_MAX = 160,
};

struct schema_pattern {
    pcre2_code *code;
    bool is_lowercase_id; /* ^[a-z0-9]+$ , which every record's id is matched with */
};

static void *allocate_in_arena(PCRE2_SIZE size, void *arena) {
    struct bk_arena *memory = arena;
    void *block = bk_arena_alloc(memory, size);
    return memory->is_overflown ? NULL : block;
}

static void keep_in_arena(void *memory, void *arena) {
    (void)memory;
    (void)arena;
}

static void *allocate_on_heap(PCRE2_SIZE size, void *user) {
    (void)user;
    return bk_try_alloc(size);
}

static void release_on_heap(void *memory, void *user) {
    (void)user;
    bk_free(memory);
}

static bool is_among(char c, const char *characters) {
    return c != '\0' && strchr(characters, c) != NULL;
}

/* A group that begins here and is more than one: (?: (?P<name> (?<name> and (?i) are known. */
static bool is_foreign_group(struct bk_slice rest) {
    if (rest.length < 3 || rest.data[0] != '(' || rest.data[1] != '?')
        return bk_slice_starts_with(rest, BK_SLICE("(*"));
    char kind = rest.data[2], next = rest.length > 3 ? rest.data[3] : '\0';
    if (kind == '<')
        return next == '=' || next == '!';
    if (kind == 'P')
        return next != '<';
    return !is_among(kind, ":imsU-");
}

/* Where PCRE2 knows more than the contract's patterns, which match in linear time; text.length when
 * nowhere. */
static size_t find_foreign(struct bk_slice text) {
    bool is_in_class = false;
    for (size_t i = 0; i < text.length; i++) {
        struct bk_slice rest = bk_slice_make(text.data + i, text.length - i);
        char c = text.data[i], next = rest.length > 1 ? rest.data[1] : '\0';
        if (c == '\\' && !is_in_class && is_among(next, "123456789gkGKRXZNHVhvC"))
            return i;
        if (c == '\\')
            i++;
        else if (is_in_class)
            is_in_class = c != ']';
        else if (c == '[')
            is_in_class = true;
        else if (is_foreign_group(rest) || (is_among(c, "*+?}") && next == '+'))
            return i;
        if (c == '[' && is_in_class && bk_slice_starts_with(rest, BK_SLICE("[^]")))
            i += 2;
        else if (c == '[' && is_in_class && next == ']')
            i++;
    }
    return text.length;
}

struct schema_pattern *schema_pattern_compile(struct bk_slice text, struct bk_arena *arena,
                                              struct bk_error *error) {
    size_t foreign = find_foreign(text);
    if (foreign < text.length) {
        bk_error_set(error, BK_INVALID, "look-around and references are not supported, at byte %zu",
                     foreign);
        return NULL;
    }
    if (text.length > PATTERN_BYTES_MAX) {
        bk_error_set(error, BK_INVALID, "longer than %d bytes", PATTERN_BYTES_MAX);
        return NULL;
    }
    pcre2_general_context *general =
        pcre2_general_context_create(allocate_in_arena, keep_in_arena, arena);
    pcre2_compile_context *context = general == NULL ? NULL : pcre2_compile_context_create(general);
    if (context == NULL) {
        bk_error_set(error, BK_TOO_LARGE, "too large");
        return NULL;
    }
    int number;
    PCRE2_SIZE offset;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text.data, text.length,
                                     PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C,
                                     &number, &offset, context);
    if (code == NULL) {
        PCRE2_UCHAR reason[REASON_BYTES_MAX];
        if (pcre2_get_error_message(number, reason, sizeof reason) < 0)
            reason[0] = '\0';
        bk_error_set(error, BK_INVALID, "%s at byte %zu", (const char *)reason, offset);
        return NULL;
    }
    struct schema_pattern *pattern = bk_arena_alloc(arena, sizeof *pattern);
    pattern->code = code;
    pattern->is_lowercase_id = bk_slice_is(text, "^[a-z0-9]+$");
    return pattern;
}

static bool is_lowercase_id(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9'))
            return false;
    }
    return text.length > 0;
}

bool schema_pattern_matches(const struct schema_pattern *pattern, struct bk_slice text) {
    if (pattern->is_lowercase_id)
        return is_lowercase_id(text);
    pcre2_general_context *general =
        pcre2_general_context_create(allocate_on_heap, release_on_heap, NULL);
    pcre2_match_context *context = general == NULL ? NULL : pcre2_match_context_create(general);
    pcre2_match_data *data = general == NULL ? NULL : pcre2_match_data_create(1, general);
    bool matches = false;
    if (context != NULL && data != NULL) {
        pcre2_set_match_limit(context, MATCH_LIMIT);
        pcre2_set_depth_limit(context, DEPTH_LIMIT);
        pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
        const char *start = text.length == 0 ? "" : text.data;
        matches =
            pcre2_match(pattern->code, (PCRE2_SPTR)start, text.length, 0, 0, data, context) >= 0;
    }
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_general_context_free(general);
    return matches;
}
