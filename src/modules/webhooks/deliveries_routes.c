/*
 * Deliveries over REST, as the records of a collection that nobody but the module writes: one for
 * each event that an endpoint was sent, with its attempts.
 *
 * The call is made in the system's name. A filter or a sort that reaches for other collections
 * would tell a key with webhooks:read of what it must not see: for all but superusers these are
 * refused, of webhooks and of deliveries alike.
 */
#include "routes.h"

#define RECORDS "/api/collections/_deliveries/records"

static bool holds(struct bk_slice text, struct bk_slice part) {
    for (size_t i = 0; i + part.length <= text.length; i++)
        if (memcmp(text.data + i, part.data, part.length) == 0)
            return true;
    return false;
}

bool webhooks_query_is_own(struct bk_request *request) {
    static const struct bk_slice names[] = {BK_SLICE_INIT("filter"), BK_SLICE_INIT("sort"),
                                            BK_SLICE_INIT("expand")};
    static const struct bk_slice others[] = {BK_SLICE_INIT("@collection"), BK_SLICE_INIT("_via_")};
    if (bk_actor_is_superuser(&request->actor))
        return true;
    for (size_t i = 0; i < BK_COUNT_OF(names); i++)
        for (size_t j = 0; j < BK_COUNT_OF(others); j++)
            if (holds(bk_request_query(request, names[i]), others[j])) {
                bk_answer_error(request, BK_FORBIDDEN,
                                "Other collections can be looked at by superusers only: leave out "
                                "@collection and _via_.");
                return false;
            }
    return true;
}

/* --- the call --------------------------------------------------------------------------------- */

/* In the request's arena. */
struct asking {
    struct bk_request *request;
    struct bk_actor reader;
    struct bk_call call;
};

static void on_done(struct bk_call *call) {
    struct asking *asking = bk_container_of(call, struct asking, call);
    bk_buffer_append_slice(&asking->request->out, call->answer);
    bk_answer(asking->request, call->status);
}

static void ask(struct bk_request *request, struct bk_slice id) {
    const struct bk_module_context *context = request->module;
    struct asking *asking;
    if (!webhooks_query_is_own(request))
        return;
    asking = bk_arena_alloc_zero(&request->arena, sizeof(*asking));
    asking->request = request;
    asking->reader = bk_actor_system;
    asking->reader.label = request->actor.label;
    asking->call = (struct bk_call){
        .actor = &asking->reader,
        .tenant = request->tenant->name,
        .method = BK_GET,
        .target = bk_arena_format(&request->arena, RECORDS "%s%.*s%s%.*s", id.length > 0 ? "/" : "",
                                  BK_SLICE_PRINT(id), request->query.length > 0 ? "?" : "",
                                  BK_SLICE_PRINT(request->query)),
        .remote_address = request->origin.remote_address,
        .user_agent = request->origin.user_agent,
        .done = on_done};
    if (bk_arena_status(&request->arena) == BK_OK)
        bk_api_call(context->api, &asking->call);
    else
        bk_answer_error(request, BK_TOO_LARGE, NULL);
}

void webhooks_deliveries_list(struct bk_request *request) { ask(request, BK_SLICE_EMPTY); }

/* An id is 15 characters: anything else has no place in a path. */
void webhooks_delivery_view(struct bk_request *request) {
    struct bk_slice id = bk_request_parameter(request, BK_SLICE("id"));
    bool is_id = id.length == WEBHOOKS_ID_BYTES;
    for (size_t i = 0; is_id && i < id.length; i++)
        is_id =
            (id.data[i] >= 'a' && id.data[i] <= 'z') || (id.data[i] >= '0' && id.data[i] <= '9');
    if (is_id)
        ask(request, id);
    else
        bk_answer_error(request, BK_NOT_FOUND, NULL);
}
