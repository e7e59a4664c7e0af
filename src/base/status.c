/* The three columns of the status table, each as an array indexed by the status. */
#include "bakend/status.h"

#include "bakend/assert.h"

static const struct {
    const char *upper_name;
    const char *text;
    int http;
} rows[] = {
#define STATUS_ROW(name, text, http) {#name, text, http},
    BK_STATUS_TABLE(STATUS_ROW)
#undef STATUS_ROW
};

enum { NAME_BYTES = 24 }; /* the longest name, UNSUPPORTED_TYPE, has 16 */

/* The preprocessor has no lower case, so the names are lowered once, before main. */
static char names[BK_COUNT_OF(rows)][NAME_BYTES];

__attribute__((constructor)) static void fill_names(void) {
    for (size_t row = 0; row < BK_COUNT_OF(rows); row++) {
        const char *upper = rows[row].upper_name;
        for (size_t i = 0; upper[i] != '\0'; i++) {
            BK_ASSERT(i + 1 < NAME_BYTES);
            char c = upper[i];
            names[row][i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        }
    }
}

const char *bk_status_name(enum bk_status status) {
    BK_ASSERT((size_t)status < BK_COUNT_OF(rows));
    return names[status];
}

const char *bk_status_text(enum bk_status status) {
    BK_ASSERT((size_t)status < BK_COUNT_OF(rows));
    return rows[status].text;
}

int bk_status_http(enum bk_status status) {
    BK_ASSERT((size_t)status < BK_COUNT_OF(rows));
    return rows[status].http;
}
