/* LIKE in statements is the program's own (like.h), which keeps deadlines: SQLite's takes seconds
 * for a pattern of clients on a long text, and no deadline is looked at meanwhile. */
#include "store_private.h"

#include "bakend/like.h"

static bool on_look(void *user) { return store_connection_is_late(user); }

static struct bk_slice text_of(sqlite3_value *value) {
    const char *text = (const char *)sqlite3_value_text(value);
    return bk_slice_make(text, text == NULL ? 0 : (size_t)sqlite3_value_bytes(value));
}

static bool read_escape(sqlite3_context *context, sqlite3_value *value, int *escape) {
    struct bk_slice text = text_of(value);
    if (text.length != 1) {
        sqlite3_result_error(context, "ESCAPE must be one byte", -1);
        return false;
    }
    *escape = (unsigned char)text.data[0];
    return true;
}

/* like(pattern, text [, escape]) */
static void on_like(sqlite3_context *context, int count, sqlite3_value **values) {
    struct bk_like like = {
        .escape = BK_LIKE_NO_ESCAPE, .is_late = on_look, .user = sqlite3_user_data(context)};
    if (sqlite3_value_type(values[0]) == SQLITE_NULL ||
        sqlite3_value_type(values[1]) == SQLITE_NULL)
        return;
    if (count == 3 && !read_escape(context, values[2], &like.escape))
        return;
    like.pattern = text_of(values[0]);
    like.text = text_of(values[1]);
    if (like.pattern.data == NULL || like.text.data == NULL) {
        sqlite3_result_error_nomem(context);
        return;
    }
    enum bk_like_answer answer = bk_like_match(&like);
    if (answer == BK_LIKE_LATE)
        sqlite3_result_error_code(context, SQLITE_INTERRUPT);
    else
        sqlite3_result_int(context, answer == BK_LIKE_YES);
}

int store_like_register(struct bk_connection *connection) {
    int code = SQLITE_OK;
    for (int count = 2; count <= 3 && code == SQLITE_OK; count++)
        code = sqlite3_create_function_v2(connection->handle, "like", count,
                                          SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                                          connection, on_like, NULL, NULL, NULL);
    return code;
}
