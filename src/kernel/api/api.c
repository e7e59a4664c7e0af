/*
 * The api itself: what routers, transports and modules hang their parts on. Routes, fallbacks,
 * guards, observers and metrics are added before the first request and stay until the end.
 */
#include "api_private.h"

#include "bakend/alloc.h"
#include "bakend/id.h"

struct bk_api *bk_api_create(const struct bk_api_options *options) {
    struct bk_api *api = bk_alloc_zero(sizeof(*api));
    BK_ASSERT(options->loop != NULL && options->request_arena_bytes > 0 &&
              options->answer_max_bytes > 0);
    api->options = *options;
    if (api->options.requests_memory_max == 0)
        api->options.requests_memory_max = API_REQUESTS_MEMORY_MAX;
    if (api->options.cors_origins == NULL)
        api->options.cors_origins = "*";
    api->allows_any_origin = strcmp(api->options.cors_origins, "*") == 0;
    bk_random_text(api->run_id, sizeof(api->run_id), BK_SLICE("0123456789abcdef"));
    api_router_init(&api->router);
    bk_list_init(&api->fallbacks);
    bk_list_init(&api->guards);
    bk_list_init(&api->observers);
    bk_list_init(&api->metrics);
    bk_list_init(&api->spare_calls);
    bk_list_init(&api->drain_hooks);
    bk_list_init(&api->revocation_hooks);
    return api;
}

void bk_api_destroy(struct bk_api *api) {
    BK_ASSERT(api->figures.in_flight == 0);
    api_calls_fini(api);
    api_router_fini(&api->router);
    bk_free(api);
}

enum bk_status bk_api_add_routes(struct bk_api *api, const struct bk_route *routes, size_t count,
                                 void *module) {
    for (size_t i = 0; i < count; i++) {
        enum bk_status status = api_router_add(&api->router, &routes[i], module);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

void bk_api_add_fallback(struct bk_api *api, struct bk_fallback *fallback) {
    bk_list_push(&api->fallbacks, &fallback->link);
}

void bk_api_set_authenticator(struct bk_api *api, const struct bk_authenticator *authenticator) {
    BK_ASSERT(api->authenticator == NULL);
    api->authenticator = authenticator;
}

void bk_api_add_guard(struct bk_api *api, struct bk_guard *guard) {
    BK_ASSERT(guard->ask != NULL);
    bk_list_push(&api->guards, &guard->link);
}

void bk_api_add_observer(struct bk_api *api, struct bk_request_observer *observer) {
    bk_list_push(&api->observers, &observer->link);
}

void bk_api_add_drain_hook(struct bk_api *api, struct bk_drain_hook *hook) {
    BK_ASSERT(hook->on_drain != NULL);
    bk_list_push(&api->drain_hooks, &hook->link);
}

void bk_api_drain(struct bk_api *api, uint32_t deadline_ms) {
    BK_ASSERT(!api->is_draining);
    api->is_draining = true;
    BK_LIST_FOR_EACH(link, &api->drain_hooks) {
        struct bk_drain_hook *hook = bk_container_of(link, struct bk_drain_hook, link);
        hook->on_drain(hook, deadline_ms);
    }
}

void bk_api_write_scopes(const struct bk_api *api, struct bk_buffer *out) {
    api_router_write_scopes(&api->router, out);
}

bool bk_api_is_draining(const struct bk_api *api) { return api->is_draining; }

void bk_api_add_revocation_hook(struct bk_api *api, struct bk_revocation_hook *hook) {
    BK_ASSERT(hook->on_revoked != NULL);
    bk_list_push(&api->revocation_hooks, &hook->link);
}

void bk_api_revoke(struct bk_api *api, const struct bk_revocation *revocation) {
    BK_LIST_FOR_EACH(link, &api->revocation_hooks) {
        struct bk_revocation_hook *hook = bk_container_of(link, struct bk_revocation_hook, link);
        hook->on_revoked(hook, revocation);
    }
}

bool bk_revocation_means(const struct bk_revocation *revocation, const struct bk_actor *actor) {
    if (!bk_slice_equal(revocation->tenant->name, actor->tenant))
        return false;
    /* A connection may be older than a new name of its actor's collection, so a session is known
     * by its id alone. */
    if (revocation->session.length > 0)
        return bk_slice_equal(revocation->session, actor->session);
    if (revocation->collection_id.length > 0 &&
        !bk_slice_equal(revocation->collection_id, actor->collection_id))
        return false;
    return revocation->label.length > 0 ? bk_slice_equal(revocation->label, actor->label)
                                        : actor->session.length > 0;
}

void bk_api_set_client_hook(struct bk_api *api, struct bk_client_hook *hook) {
    BK_ASSERT(hook->tell != NULL && api->client_hook == NULL);
    api->client_hook = hook;
}

enum bk_status bk_api_tell_client(struct bk_api *api, const struct bk_client_message *message) {
    return api->client_hook == NULL ? BK_NOT_FOUND
                                    : api->client_hook->tell(api->client_hook, message);
}

void bk_api_add_metrics(struct bk_api *api, struct bk_metrics_source *source) {
    bk_list_push(&api->metrics, &source->link);
}

void bk_api_write_metrics(struct bk_api *api, struct bk_buffer *out) {
    api_metrics_write(&api->figures, out);
    BK_LIST_FOR_EACH(link, &api->metrics) {
        struct bk_metrics_source *source = bk_container_of(link, struct bk_metrics_source, link);
        source->write(source, out);
    }
}

struct bk_api_figures *bk_api_figures(struct bk_api *api) {
    return &api->figures;
}
