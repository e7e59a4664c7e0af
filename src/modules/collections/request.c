/* What requests have in common: how their records are shown, and `fields` of a change.
 *
 * A change that is committed has happened, and its answer must say so. Whatever could still fail
 * the answer is therefore looked at before the write; what is left to fail afterwards, the picking
 * of fields, falls back to the whole. */
#include "collections.h"

static bool is_superuser(const struct bk_request *request) {
    return bk_actor_is_superuser(&request->actor);
}

void collections_answer_query_problems(struct bk_request *request) {
    static const char *const contracted[] = {"page", "perPage", "skipTotal", "sort"};
    const struct bk_problem *first = request->problems.first;
    for (size_t i = 0; i < BK_COUNT_OF(contracted); i++) {
        if (!bk_slice_equal(first->field, bk_slice_from(contracted[i])))
            continue;
        struct bk_slice message =
            bk_arena_format(&request->arena, "Invalid %.*s: %.*s", BK_SLICE_PRINT(first->field),
                            BK_SLICE_PRINT(first->message));
        bk_answer_error(request, BK_INVALID, message.data);
        return;
    }
    bk_answer_problems(request, BK_INVALID, "Something went wrong while processing your request.");
}

bool collections_refuse_special_names(struct bk_request *request) {
    static const char *const parameters[] = {"filter", "sort"};
    static const char *const names[] = {"@collection.", "@request."};
    /* Nearly always there is no "@" at all. */
    bool has_at = bk_slice_find(request->query, '@') < request->query.length ||
                  bk_slice_find(request->query, '%') < request->query.length;
    if (!has_at || is_superuser(request))
        return false;
    for (size_t i = 0; i < BK_COUNT_OF(parameters) * BK_COUNT_OF(names); i++) {
        struct bk_slice text = bk_request_query(request, bk_slice_from(parameters[i / 2]));
        struct bk_slice name = bk_slice_from(names[i % 2]);
        for (size_t k = 0; k + name.length <= text.length; k++) {
            if (memcmp(text.data + k, name.data, name.length) != 0)
                continue;
            bk_answer_error(
                request, BK_FORBIDDEN,
                bk_arena_format(&request->arena, "Only superusers can filter by %s", names[i % 2])
                    .data);
            return true;
        }
    }
    return false;
}

/* @request is made only where a rule may speak of it: most records are shown without. */
static enum bk_status make_asker(struct bk_request *request, const struct bk_schema *schema,
                                 const struct bk_collection *collection, bool has_expand,
                                 struct bk_asker *asker) {
    if (!has_expand && (collection->type != BK_COLLECTION_AUTH || is_superuser(request))) {
        bk_asker_init(asker, schema, &request->actor, NULL);
        return BK_OK;
    }
    return bk_request_asker(request, schema, request->json, BK_SLICE("default"), asker);
}

bool collections_show_make(struct bk_request *request, const struct bk_schema *schema,
                           const struct bk_collection *collection, struct bk_show **show) {
    struct bk_slice expand = bk_request_query(request, BK_SLICE("expand"));
    struct bk_asker *asker = bk_arena_alloc_zero(&request->arena, sizeof *asker);
    enum bk_status status = bk_arena_status(&request->arena);
    if (status == BK_OK)
        status = make_asker(request, schema, collection, expand.length > 0, asker);
    if (status == BK_OK)
        status = bk_show_make(show, &request->arena, asker, collection, expand);
    if (status == BK_OK)
        return true;
    if (status != BK_LIMIT) {
        bk_answer_error(request, status, NULL);
        return false;
    }
    bk_problems_add(&request->problems, BK_SLICE("expand"), "validation_too_many",
                    "At most 100 relations in 8192 bytes can be expanded: ask for fewer paths.");
    bk_answer_problems(request, BK_INVALID, "Something went wrong while processing your request.");
    return false;
}

bool collections_fields_read(struct bk_request *request, struct bk_slice *fields) {
    *fields = bk_request_query(request, BK_SLICE("fields"));
    if (request->arena.is_overflown) {
        bk_answer_error(request, BK_TOO_LARGE,
                        "The request needs more memory than a request may have.");
        return false;
    }
    enum bk_status status = bk_fields_check(*fields);
    if (status == BK_OK)
        return true;
    if (status == BK_INVALID) {
        bk_answer_error(request, BK_INVALID,
                        "Invalid fields: names with commas between them, and name:excerpt(20,true) "
                        "are expected.");
        return false;
    }
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
