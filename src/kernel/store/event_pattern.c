/* Types of events and the patterns that pick them: dot-separated words, and '*'. */
#include "bakend/event.h"

static bool is_word(struct bk_slice word) {
    for (size_t i = 0; i < word.length; i++) {
        char c = word.data[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_letter && !(c >= '0' && c <= '9') && c != '_')
            return false;
    }
    return word.length > 0;
}

static bool is_star(struct bk_slice word) { return bk_slice_is(word, "*"); }

bool bk_event_type_is_valid(struct bk_slice type) {
    struct bk_slice rest = type, word;
    size_t word_count = 0;
    if (type.length == 0 || type.length > BK_EVENT_TYPE_BYTES_MAX)
        return false;
    while (bk_slice_split(&rest, '.', &word)) {
        if (!is_word(word))
            return false;
        word_count++;
    }
    return word_count >= 2;
}

bool bk_event_pattern_is_valid(struct bk_slice pattern) {
    struct bk_slice rest = pattern, word;
    size_t word_count = 0;
    if (pattern.length == 0 || pattern.length > BK_EVENT_TYPE_BYTES_MAX)
        return false;
    if (is_star(pattern) || bk_slice_is(pattern, "_*"))
        return true;
    while (bk_slice_split(&rest, '.', &word)) {
        if (!is_word(word) && !is_star(word))
            return false;
        word_count++;
    }
    return word_count >= 2;
}

/* Word by word; a star in front never stands for a word that begins with '_'. */
static bool matches_words(struct bk_slice pattern, struct bk_slice type) {
    struct bk_slice wanted, word;
    bool is_first = true;
    while (bk_slice_split(&pattern, '.', &wanted)) {
        if (!bk_slice_split(&type, '.', &word))
            return false;
        if (is_star(wanted)) {
            if (is_first && word.length > 0 && word.data[0] == '_')
                return false;
            if (pattern.data == NULL)
                return true;
        } else if (!bk_slice_equal(wanted, word)) {
            return false;
        }
        is_first = false;
    }
    return type.data == NULL;
}

bool bk_event_pattern_matches(struct bk_slice pattern, struct bk_slice type) {
    if (bk_slice_is(pattern, "_*"))
        return type.length > 0 && type.data[0] == '_';
    return matches_words(pattern, type);
}
