/* What the files of the api share. */
#ifndef BAKEND_API_PRIVATE_H
#define BAKEND_API_PRIVATE_H

#include "bakend/api.h"
#include "router.h"

/* What the trees of all bodies being handled, and what is planned from them, may take. */
#define API_REQUESTS_MEMORY_MAX ((size_t)256 * 1024 * 1024)

/* Lines that answers carry: two dozen of them with room to spare. */
enum { API_HEAD_BYTES_MAX = 16 * 1024, API_CALLS_SPARE_MAX = 32, API_RUN_ID_BYTES = 8 };

/*
 * The way of a request. Each step names what was done last:
 *
 *   FRESH ─> BEGUN ─> ACTOR_TENANT ─> TENANT ─> HANDLING ─> ANSWERED
 *              └─────────────┴──────────┴─────────────────────^  (an answer ends it anywhere)
 */
enum api_step {
    API_STEP_FRESH,        /* nobody has begun it, or it could not be read */
    API_STEP_BEGUN,        /* routed; the body is being read */
    API_STEP_ACTOR_TENANT, /* waits for the tenant that the token names */
    API_STEP_TENANT,       /* waits for the tenant that the request is about */
    API_STEP_HANDLING,     /* the route has it */
    API_STEP_STREAMING,
    API_STEP_ANSWERED
};

struct bk_api {
    struct bk_api_options options;
    struct api_router router;
    const struct bk_authenticator *authenticator;
    struct bk_list fallbacks, guards, observers, metrics;
    struct bk_list spare_calls; /* of struct api_call, at most API_CALLS_SPARE_MAX */
    uint32_t spare_call_count;
    struct bk_list drain_hooks, revocation_hooks;
    struct bk_client_hook *client_hook; /* NULL: nobody keeps streams */
    bool is_draining;
    bool allows_any_origin;
    char run_id[API_RUN_ID_BYTES]; /* random: tells the requests of two runs apart */
    uint64_t request_count;        /* ids given out */
    struct bk_api_figures figures;
};

/* cors.c: adds the lines that the contract has on every answer. */
void api_cors_write(struct bk_request *request);
/* Adds the lines of a preflight's answer. */
void api_cors_write_preflight(struct bk_request *request);

/* answer.c: the contract's wording of a status. */
struct bk_slice api_answer_text(int http_status);
/* answer.c: counts the answer, of which the status is known. */
void api_answer_count(struct bk_request *request);
/* answer.c: the last thing that is done to a request before its responder has it again. */
void api_request_end(struct bk_request *request);
/* answer.c: 204 without the security headers, as the contract's preflights are. */
void api_answer_preflight(struct bk_request *request);

/* body.c: reads the body into json and files, as the route has it; false when the request was
 * answered with what is wrong. */
bool api_body_read(struct bk_request *request);

/* pipeline.c: what both kinds of requests do once their tenant is known. */
void api_pipeline_run(struct bk_request *request);
/* request.c: sets path and query from target. */
void api_request_split_target(struct bk_request *request);
/* request.c: the next id. */
void api_request_make_id(struct bk_request *request);

/* call.c: whether it came in process. */
bool api_is_call(const struct bk_request *request);
/* call.c: frees the spare calls. */
void api_calls_fini(struct bk_api *api);

/* metrics.c */
void api_metrics_write(const struct bk_api_figures *figures, struct bk_buffer *out);

#endif
