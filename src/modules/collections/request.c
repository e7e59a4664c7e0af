/* What requests have in common: parameters that are not there yet, and `fields` of a change.
 *
 * A change that is committed has happened, and its answer must say so. Whatever could still fail
 * the answer is therefore looked at before the write; what is left to fail afterwards, the picking
 * of fields, falls back to the whole. */
#include "collections.h"

bool collections_refuse_unready(struct bk_request *request, bool reads_filter) {
    static const char *const unready[] = {"expand", "filter"};
    for (size_t i = 0; i < (reads_filter ? 1 : BK_COUNT_OF(unready)); i++) {
        struct bk_slice name = bk_slice_from(unready[i]);
        if (bk_request_query(request, name).length == 0)
            continue;
        bk_problems_add(&request->problems, name, "validation_not_supported",
                        "Not supported by this version of the server: leave it out.");
    }
    if (request->problems.count == 0)
        return false;
    bk_answer_problems(request, BK_INVALID, "The request asks for what this server cannot do yet.");
    return true;
}

bool collections_refuse_unready_change(struct bk_request *request) {
    if (bk_request_header(request, BK_SLICE("idempotency-key")).data != NULL)
        bk_problems_add(
            &request->problems, BK_SLICE("Idempotency-Key"), "validation_not_supported",
            "Not supported by this version of the server, which would do it again: leave "
            "the header out.");
    return collections_refuse_unready(request, false);
}

bool collections_fields_read(struct bk_request *request, struct bk_slice *fields) {
    *fields = bk_request_query(request, BK_SLICE("fields"));
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE,
                        "The request needs more memory than a request may have.");
        return false;
    }
    if (bk_fields_fit(*fields))
        return true;
    bk_problems_add(&request->problems, BK_SLICE("fields"), "validation_too_many",
                    "At most 200 fields can be named.");
    bk_answer_problems(request, BK_INVALID, "Something went wrong while processing your request.");
    return false;
}

void collections_answer_changed(struct bk_request *request, struct bk_slice fields) {
    if (fields.length > 0)
        (void)bk_answer_pick_fields(request, fields);
    bk_answer(request, 200);
}
