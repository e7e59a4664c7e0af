/*
 * Calls in process: a command through the router, with a responder that hands the answer to the
 * caller.
 *
 * The call starts in a task of its own, so that done never comes before bk_api_call returns, and a
 * chain of calls does not nest. The tenant travels as the header that a client would send. A stream
 * is gathered into a whole answer; one that outgrows the buffer is aborted, as by a client that
 * went away.
 */
#include "api_private.h"

#include "bakend/alloc.h"

struct api_call {
    struct bk_list link; /* among the spare ones */
    struct bk_request request;
    struct bk_header tenant_header;
    struct bk_call *call;
};

static void recycle(struct bk_api *api, struct api_call *own) {
    if (api->spare_call_count < API_CALLS_SPARE_MAX) {
        bk_request_reset(&own->request);
        bk_list_push(&api->spare_calls, &own->link);
        api->spare_call_count++;
        return;
    }
    bk_request_fini(&own->request);
    bk_free(own);
}

static void finish(struct bk_request *request) {
    struct api_call *own = request->transport;
    struct bk_call *call = own->call;
    call->status = request->status;
    call->answer = bk_buffer_slice(&request->out);
    call->request = NULL;
    call->done(call);
    recycle(request->api, own);
}

static void on_stream_begin(struct bk_request *request) { bk_buffer_clear(&request->out); }

static bool on_stream_write(struct bk_request *request, struct bk_slice data) {
    bk_buffer_append_slice(&request->out, data);
    if (!request->out.is_overflown)
        return true;
    request->status = 500;
    bk_api_abort(request);
    return false;
}

static const struct bk_responder call_responder = {
    .send = finish,
    .stream_begin = on_stream_begin,
    .stream_write = on_stream_write,
    .stream_end = finish,
};

bool api_is_call(const struct bk_request *request) { return request->responder == &call_responder; }

static struct api_call *take_spare(struct bk_api *api) {
    struct bk_list *link = bk_list_pop(&api->spare_calls);
    struct api_call *own;
    if (link != NULL) {
        api->spare_call_count--;
        return bk_container_of(link, struct api_call, link);
    }
    own = bk_alloc_zero(sizeof(*own));
    bk_list_init(&own->link);
    bk_request_init(&own->request, api);
    return own;
}

static void on_start(struct bk_task *task) {
    struct bk_call *call = bk_container_of(task, struct bk_call, task);
    struct bk_request *request = call->request;
    size_t body_max_bytes = 0;
    if (!bk_api_begin(request->api, request, &body_max_bytes))
        return;
    if (call->body.length > body_max_bytes)
        bk_answer_too_large(request);
    else
        bk_api_dispatch(request);
}

void bk_api_call(struct bk_api *api, struct bk_call *call) {
    struct api_call *own = take_spare(api);
    struct bk_request *request = &own->request;
    BK_ASSERT(call->actor != NULL && call->done != NULL && call->target.length > 0);
    own->call = call;
    own->tenant_header.name = BK_SLICE("x-bakend-tenant");
    own->tenant_header.value = call->tenant;
    request->headers = &own->tenant_header;
    request->header_count = call->tenant.length > 0 ? 1 : 0;
    request->responder = &call_responder;
    request->transport = own;
    request->method = call->method;
    request->target = call->target;
    api_request_split_target(request);
    request->body = call->body;
    request->files = call->files;
    request->companion = call->companion;
    request->actor = *call->actor;
    request->origin.cause = call->cause;
    request->origin.depth = call->depth;
    request->origin.remote_address = call->remote_address;
    request->origin.user_agent = call->user_agent;
    call->request = request;
    bk_task_init(&call->task, on_start);
    bk_loop_defer(api->options.loop, &call->task);
}

void api_calls_fini(struct bk_api *api) {
    struct bk_list *link;
    while ((link = bk_list_pop(&api->spare_calls)) != NULL) {
        struct api_call *own = bk_container_of(link, struct api_call, link);
        bk_request_fini(&own->request);
        bk_free(own);
    }
}
