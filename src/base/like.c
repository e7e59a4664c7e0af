/*
 * LIKE: SQLite's own takes seconds for a pattern of clients on a long text, and no deadline is
 * looked at meanwhile. This one goes back to the last % only, and looks every BK_LIKE_LOOK_STEPS
 * steps. Behind a % it runs to the next place where the text can go on, since that is where it
 * spends its time: `%word%` in a million texts.
 */
#include "bakend/like.h"

enum {
    BYTES_RUN_A_STEP = 8, /* as much time as one step of the others takes, about */
    BLOCK_BYTES = 16,
};

struct matching {
    struct bk_slice pattern, text;
    int escape;
    size_t at, text_at;     /* how far both are matched */
    size_t star, star_text; /* behind the last %, and where the text went on from there */
    bool has_star;
    uint32_t steps;
};

static unsigned char fold(char c) {
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static bool is_continuation(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

/* Behind the character at `at`. */
static size_t next_character(struct bk_slice text, size_t at) {
    at++;
    while (at < text.length && is_continuation(text.data[at]))
        at++;
    return at;
}

/* One character of the pattern and one of the text; false: they differ. */
static bool match_one(struct matching *matching) {
    struct bk_slice pattern = matching->pattern;
    char wanted = pattern.data[matching->at];
    bool is_escaped = (unsigned char)wanted == matching->escape;
    if (is_escaped) {
        if (matching->at + 1 == pattern.length)
            return false;
        wanted = pattern.data[++matching->at];
    }
    if (!is_escaped && wanted == '_') {
        matching->text_at = next_character(matching->text, matching->text_at);
    } else {
        if (fold(wanted) != fold(matching->text.data[matching->text_at]))
            return false;
        matching->text_at++;
    }
    matching->at++;
    return true;
}

static bool take_star(struct matching *matching) {
    char c = matching->pattern.data[matching->at];
    if (c != '%' || matching->escape == '%')
        return false;
    matching->star = ++matching->at;
    matching->star_text = matching->text_at;
    matching->has_star = true;
    return true;
}

/* The byte that the text must go on with behind the last %; false: it may be any. One inside of a
 * character is not looked for: what goes on begins with a whole one. */
static bool find_wanted(const struct matching *matching, char *wanted) {
    size_t at = matching->star;
    if (at >= matching->pattern.length)
        return false;
    *wanted = matching->pattern.data[at];
    bool is_escaped = (unsigned char)*wanted == matching->escape;
    if (is_escaped && at + 1 == matching->pattern.length)
        return false;
    if (is_escaped)
        *wanted = matching->pattern.data[at + 1];
    return (is_escaped || (*wanted != '_' && *wanted != '%')) && !is_continuation(*wanted);
}

/* Without a branch inside, so that the compiler compares many bytes at once. */
static bool is_in_block(const unsigned char *bytes, unsigned char lower, unsigned char upper) {
    unsigned char found = 0;
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        found |= (unsigned char)((bytes[i] == lower) | (bytes[i] == upper));
    return found != 0;
}

/* The first place from `at` on where the byte stands in either case; the end when there is none. */
static size_t run_to(struct bk_slice text, size_t at, char wanted) {
    unsigned char lower = fold(wanted);
    unsigned char upper = lower >= 'a' && lower <= 'z' ? (unsigned char)(lower - 'a' + 'A') : lower;
    const unsigned char *bytes = (const unsigned char *)text.data;
    while (at + BLOCK_BYTES <= text.length && !is_in_block(bytes + at, lower, upper))
        at += BLOCK_BYTES;
    while (at < text.length && bytes[at] != lower && bytes[at] != upper)
        at++;
    return at;
}

/* The last % takes more characters, up to where the text can go on; false: there is none. */
static bool go_back(struct matching *matching) {
    char wanted;
    if (!matching->has_star)
        return false;
    size_t from = matching->star_text;
    matching->star_text = next_character(matching->text, from);
    if (find_wanted(matching, &wanted))
        matching->star_text = run_to(matching->text, matching->star_text, wanted);
    matching->steps += (uint32_t)((matching->star_text - from) / BYTES_RUN_A_STEP);
    matching->text_at = matching->star_text;
    matching->at = matching->star;
    return true;
}

static bool is_late(const struct bk_like *like, struct matching *matching) {
    if (++matching->steps < BK_LIKE_LOOK_STEPS)
        return false;
    matching->steps = 0;
    return like->is_late != NULL && like->is_late(like->user);
}

enum bk_like_answer bk_like_match(const struct bk_like *like) {
    struct matching matching = {
        .pattern = like->pattern, .text = like->text, .escape = like->escape};
    while (matching.text_at < matching.text.length) {
        if (is_late(like, &matching))
            return BK_LIKE_LATE;
        bool has_more = matching.at < matching.pattern.length;
        if (has_more && take_star(&matching))
            continue;
        if ((!has_more || !match_one(&matching)) && !go_back(&matching))
            return BK_LIKE_NO;
    }
    while (matching.at < matching.pattern.length && matching.pattern.data[matching.at] == '%')
        matching.at++;
    return matching.at == matching.pattern.length ? BK_LIKE_YES : BK_LIKE_NO;
}
