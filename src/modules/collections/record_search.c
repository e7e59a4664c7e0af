/*
 * `search` of a list: the words of a person as a question to FTS5.
 *
 *   red fox        both words
 *   "red fox"      one behind the other
 *   fo*            a word that begins so
 *
 * Each word is quoted, so that nothing in it has a meaning of its own: no text is an error. What
 * has neither letters nor digits is left out.
 */
#include "collections.h"

enum { ROOM_PER_BYTE = 4 };

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool has_letters(struct bk_slice word) {
    for (size_t i = 0; i < word.length; i++) {
        unsigned char c = (unsigned char)word.data[i];
        if (c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            return true;
    }
    return false;
}

/* The next word or phrase, without its quotes and its star. */
static bool next_word(struct bk_slice *rest, struct bk_slice *word, bool *is_prefix) {
    size_t i = 0, end;
    while (i < rest->length && is_space(rest->data[i]))
        i++;
    if (i == rest->length)
        return false;
    bool is_phrase = rest->data[i] == '"';
    size_t begin = is_phrase ? i + 1 : i;
    for (end = begin; end < rest->length; end++)
        if (is_phrase ? rest->data[end] == '"' : is_space(rest->data[end]))
            break;
    *word = bk_slice_make(rest->data + begin, end - begin);
    size_t next = is_phrase && end < rest->length ? end + 1 : end;
    *is_prefix = is_phrase ? next < rest->length && rest->data[next] == '*'
                           : word->length > 1 && word->data[word->length - 1] == '*';
    if (is_phrase && *is_prefix)
        next++;
    else if (*is_prefix)
        word->length--;
    *rest = bk_slice_make(rest->data + next, rest->length - next);
    return true;
}

static void write_word(struct bk_slice word, bool is_prefix, struct bk_buffer *out) {
    if (out->length > 0)
        bk_buffer_append_char(out, ' ');
    bk_buffer_append_char(out, '"');
    for (size_t i = 0; i < word.length; i++) {
        if (word.data[i] == '"')
            bk_buffer_append_char(out, '"');
        bk_buffer_append_char(out, word.data[i] == '\0' ? ' ' : word.data[i]);
    }
    bk_buffer_append_char(out, '"');
    if (is_prefix)
        bk_buffer_append_char(out, '*');
}

static void search_problem(struct bk_request *request, const char *code, const char *message) {
    bk_problems_add(&request->problems, BK_SLICE("search"), code, message);
}

struct bk_slice collections_search_read(struct bk_request *request,
                                        const struct bk_collection *collection) {
    struct bk_slice text = bk_request_query(request, BK_SLICE("search")), word;
    struct bk_buffer out;
    uint32_t count = 0;
    bool is_prefix;
    if (bk_slice_trim(text).length == 0)
        return BK_SLICE_EMPTY;
    if (collection->search == NULL)
        search_problem(request, "validation_not_searchable",
                       "The collection has no search: give it the option search with the fields "
                       "whose words are to be found.");
    else if (text.length > BK_SEARCH_BYTES_MAX)
        search_problem(request, "validation_max_text_constraint",
                       "At most 1000 bytes can be searched for.");
    if (request->problems.count > 0)
        return BK_SLICE_EMPTY;
    bk_buffer_init(&out, ROOM_PER_BYTE * BK_SEARCH_BYTES_MAX);
    while (next_word(&text, &word, &is_prefix))
        if (has_letters(word) && ++count <= BK_SEARCH_WORDS_MAX)
            write_word(word, is_prefix, &out);
    if (count > BK_SEARCH_WORDS_MAX)
        search_problem(request, "validation_too_many", "At most 32 words can be searched for.");
    if (count == 0)
        bk_buffer_append_literal(&out, "\"\""); /* nothing is found */
    struct bk_slice match = bk_arena_copy(&request->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return match;
}
