/* page, perPage and skipTotal, and the head of a list answer, as the contract has them. */
#include "collections.h"

static int64_t clamp(int64_t value, int64_t minimum, int64_t maximum) {
    return value < minimum ? minimum : value > maximum ? maximum : value;
}

/* Absent or empty is the fallback; what is no number is a problem. A plus is taken, as in the
 * contract. */
static int64_t read_number(struct bk_request *request, struct bk_slice name, int64_t fallback) {
    struct bk_slice text = bk_request_query(request, name);
    int64_t value = fallback;
    if (text.length > 1 && text.data[0] == '+' && text.data[1] != '-')
        text = bk_slice_make(text.data + 1, text.length - 1);
    if (text.length > 0 && !bk_slice_to_int64(text, &value))
        bk_problems_add(&request->problems, name, "validation_not_a_number",
                        "Must be a whole number.");
    return value;
}

static bool is_one_of(struct bk_slice text, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bk_slice_equal(text, bk_slice_from(words[i])))
            return true;
    return false;
}

/* Absent or empty is false. */
static bool read_flag(struct bk_request *request, struct bk_slice name) {
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"", "0", "f", "F", "false", "FALSE", "False"};
    struct bk_slice text = bk_request_query(request, name);
    if (is_one_of(text, yes, BK_COUNT_OF(yes)))
        return true;
    if (!is_one_of(text, no, BK_COUNT_OF(no)))
        bk_problems_add(&request->problems, name, "validation_not_a_boolean",
                        "Must be true or false, 1 or 0.");
    return false;
}

bool collections_page_read(struct bk_request *request, struct collections_page *page) {
    int64_t number = read_number(request, BK_SLICE("page"), 1);
    int64_t size = read_number(request, BK_SLICE("perPage"), COLLECTIONS_PER_PAGE_DEFAULT);
    page->page = clamp(number, 1, COLLECTIONS_PAGE_MAX);
    page->per_page =
        size <= 0 ? COLLECTIONS_PER_PAGE_DEFAULT : clamp(size, 1, COLLECTIONS_PER_PAGE_MAX);
    page->skip_total = read_flag(request, BK_SLICE("skipTotal"));
    return request->problems.count == 0;
}

void collections_page_write_head(struct bk_buffer *out, const struct collections_page *page) {
    bk_buffer_append_literal(out, "\"page\":");
    bk_buffer_append_int(out, page->page);
    bk_buffer_append_literal(out, ",\"perPage\":");
    bk_buffer_append_int(out, page->per_page);
}

void collections_page_write_totals(struct bk_buffer *out, const struct collections_page *page,
                                   int64_t total) {
    int64_t pages = total < 0 ? -1 : (total + page->per_page - 1) / page->per_page;
    bk_buffer_append_literal(out, "\"totalItems\":");
    bk_buffer_append_int(out, total);
    bk_buffer_append_literal(out, ",\"totalPages\":");
    bk_buffer_append_int(out, pages);
}

void collections_page_write(struct bk_buffer *out, const struct collections_page *page,
                            int64_t total) {
    collections_page_write_head(out, page);
    bk_buffer_append_char(out, ',');
    collections_page_write_totals(out, page, total);
}
