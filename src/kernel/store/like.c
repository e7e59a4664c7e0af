/*
 * LIKE, as SQLite has it: % for any text, _ for one character, whatever the case of ASCII letters.
 * SQLite's own takes seconds for a pattern of clients on a long text, and no deadline is looked at
 * meanwhile. This one goes back to the last % only, and looks every LOOK_STEPS steps.
 */
#include "store_private.h"

enum { LOOK_STEPS = 4096, NONE = 256 };

struct matching {
    struct bk_connection *connection;
    struct bk_slice pattern, text;
    int escape;             /* a byte, or NONE */
    size_t at, text_at;     /* how far both are matched */
    size_t star, star_text; /* behind the last %, and where the text went on from there */
    bool has_star, is_late;
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

/* The last % takes one character more; false: there is none. */
static bool go_back(struct matching *matching) {
    if (!matching->has_star)
        return false;
    matching->star_text = next_character(matching->text, matching->star_text);
    matching->text_at = matching->star_text;
    matching->at = matching->star;
    return true;
}

static bool is_late(struct matching *matching) {
    if (++matching->steps % LOOK_STEPS == 0)
        matching->is_late = store_connection_is_late(matching->connection);
    return matching->is_late;
}

static bool is_match(struct matching *matching) {
    while (matching->text_at < matching->text.length) {
        if (is_late(matching))
            return false;
        bool has_more = matching->at < matching->pattern.length;
        if (has_more && take_star(matching))
            continue;
        if ((!has_more || !match_one(matching)) && !go_back(matching))
            return false;
    }
    while (matching->at < matching->pattern.length && matching->pattern.data[matching->at] == '%')
        matching->at++;
    return matching->at == matching->pattern.length;
}

static struct bk_slice text_of(sqlite3_value *value) {
    const char *text = (const char *)sqlite3_value_text(value);
    return bk_slice_make(text, text == NULL ? 0 : (size_t)sqlite3_value_bytes(value));
}

/* like(pattern, text [, escape]) */
static void on_like(sqlite3_context *context, int count, sqlite3_value **values) {
    struct matching matching = {.connection = sqlite3_user_data(context), .escape = NONE};
    if (sqlite3_value_type(values[0]) == SQLITE_NULL ||
        sqlite3_value_type(values[1]) == SQLITE_NULL)
        return;
    if (count == 3) {
        struct bk_slice escape = text_of(values[2]);
        if (escape.length != 1) {
            sqlite3_result_error(context, "ESCAPE must be one byte", -1);
            return;
        }
        matching.escape = (unsigned char)escape.data[0];
    }
    matching.pattern = text_of(values[0]);
    matching.text = text_of(values[1]);
    if (matching.pattern.data == NULL || matching.text.data == NULL) {
        sqlite3_result_error_nomem(context);
        return;
    }
    bool is_found = is_match(&matching);
    if (matching.is_late)
        sqlite3_result_error_code(context, SQLITE_INTERRUPT);
    else
        sqlite3_result_int(context, is_found);
}

int store_like_register(struct bk_connection *connection) {
    int code = SQLITE_OK;
    for (int count = 2; count <= 3 && code == SQLITE_OK; count++)
        code = sqlite3_create_function_v2(connection->handle, "like", count,
                                          SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                                          connection, on_like, NULL, NULL, NULL);
    return code;
}
