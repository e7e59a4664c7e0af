/*
 * The api: routes, guards and answers. Transports bring requests in, modules answer them, and
 * neither knows the other.
 *
 *   transport  headers read  → bk_api_begin     finds the route: the body's limit, or an answer at
 *                                               once
 *              body read     → bk_api_dispatch  tenant → who asks → guards → route->handle(request)
 *   module     exactly one of: a whole answer, a stream, a message channel; now or later, on the
 *              loop
 *
 * Everything is on the loop unless it says otherwise.
 */
#ifndef BAKEND_API_H
#define BAKEND_API_H

#include "bakend/json.h"
#include "bakend/problem.h"
#include "bakend/rules.h"
#include "bakend/tenant.h"

struct bk_api;
struct bk_request;
struct bk_companion;
struct bk_channel;
struct bk_channel_handler;

enum bk_method {
    BK_GET,
    BK_HEAD,
    BK_POST,
    BK_PUT,
    BK_PATCH,
    BK_DELETE,
    BK_OPTIONS,
    BK_METHOD_OTHER
};
const char *bk_method_name(enum bk_method method);
enum bk_method bk_method_parse(struct bk_slice name);

enum {
    BK_PATH_PARAMETERS_MAX = 8,
    BK_REQUEST_ID_BYTES = 16,
    BK_QUERY_PARAMETERS_MAX = 100,
    BK_REQUEST_HEADERS_MAX = 100,
};
/* Default body limit of a route: 32 MiB, the contract's. */
#define BK_BODY_MAX_BYTES ((size_t)32 * 1024 * 1024)

/* Who may call a route. Records routes are public here and judged by their collection's rules. */
enum bk_access {
    BK_ACCESS_PUBLIC,
    BK_ACCESS_ACTOR /* any but guests */,
    BK_ACCESS_SUPERUSER,
    BK_ACCESS_OPERATOR /* of the whole instance: superusers and keys of "default" */
};

struct bk_route_parameter {
    const char *name;
    const char *in;   /* "path", "query", "header", "body"; "body!": a member that must be there */
    const char *type; /* "string", "integer", "boolean"; with a default: "integer=30" */
    const char *summary;
};

struct bk_route {
    enum bk_method method; /* HEAD is answered by GET's route */
    /* Segments are literal or "{name}"; a last "{name...}" takes the rest. A literal beats a
     * parameter. */
    const char *path;
    enum bk_access access;
    const char *scope;     /* an API key with this scope may call it too: "events:read"; or NULL */
    size_t body_max_bytes; /* 0: no body is read (a longer one is 413) */
    /* The body, when there is one, is parsed into request->json (an object), be it JSON or a form,
     * and the files of a form are in request->files. */
    bool has_json_body;
    /* What the rate limits of the settings call it beside its path, words separated by blanks, the
     * narrowest first: "authWithPassword auth". Of the collection of the path; NULL: nothing. */
    const char *labels;
    const char *summary; /* a sentence for the OpenAPI document */
    const char *tag;     /* likewise, the group */
    const struct bk_route_parameter
        *parameters; /* query and header; ended by a NULL name; or NULL */
    void (*handle)(struct bk_request *request);
};

struct bk_header {
    struct bk_slice name; /* lower case */
    struct bk_slice value;
};

/* A file of a multipart/form-data body; texts and data borrow from the body. */
struct bk_request_file {
    struct bk_request_file *next; /* in the order of the body */
    struct bk_slice key;          /* of the form's field: "docs", "docs+", "requests.0.docs" */
    struct bk_slice name;         /* as the client gave it, without folders; UTF-8, not empty */
    struct bk_slice content_type; /* as the client gave it, or empty: what it is, the bytes say */
    struct bk_slice data;
};

/* What a transport (or bk_api_call) does with answers. */
struct bk_responder {
    /* Whole: status, head and out are complete. The request is the responder's again: it ends
     * it. */
    void (*send)(struct bk_request *request);
    /* Stream: sends the head; then data as it comes. */
    void (*stream_begin)(struct bk_request *request);
    /* Copies. False: more than the send queue's limit waits, wait for on_drain. */
    bool (*stream_write)(struct bk_request *request, struct bk_slice data);
    void (*stream_end)(struct bk_request *request);
    /* A message channel (a WebSocket): answers the handshake. BK_OK: channel_accepted follows, with
     * which the request is the responder's again. Any other status: it was answered with what is
     * wrong; BK_NOT_SUPPORTED: nothing was done. */
    enum bk_status (*channel_accept)(struct bk_request *request,
                                     const struct bk_channel_handler *handler, void *user,
                                     struct bk_channel **channel);
    void (*channel_accepted)(struct bk_request *request);
};

struct bk_request {
    /* The transport's, valid until the answer. */
    enum bk_method method;
    struct bk_slice target; /* as received, "/api/x?y=1" */
    struct bk_slice path;   /* before '?', not decoded */
    struct bk_slice query;  /* after '?' */
    const struct bk_header *headers;
    uint32_t header_count;
    struct bk_slice body;
    struct bk_slice remote_address; /* "127.0.0.1": after trusted proxies */
    struct bk_slice host;
    bool is_control; /* came over the control socket: the system, an operator */
    bool is_aborted; /* the client went away: the answer will be dropped */
    const struct bk_responder *responder;
    void *transport;
    uint64_t started_ns;
    struct bk_arena arena; /* of the request; capped; freed after the answer */
    struct bk_buffer out;  /* the answer's body is written here; any thread that has the request */

    /* The api's, set before handle. */
    struct bk_api *api;
    const struct bk_route *route;
    void *module; /* of the route: its struct bk_module_context */
    struct bk_slice parameters[BK_PATH_PARAMETERS_MAX]; /* decoded, in the order of the path */
    uint32_t parameter_count;
    char id[BK_REQUEST_ID_BYTES]; /* of the request, in errors and logs */
    struct bk_tenant *tenant;     /* held until the answer */
    struct bk_actor actor;
    struct bk_origin origin;             /* for writes: the actor's label, cause and depth */
    const struct bk_json *json;          /* the body as an object; NULL without one */
    const struct bk_request_file *files; /* of a form; NULL: none */
    struct bk_companion *companion;      /* of a call in process; NULL: none */

    /* The handler's. */
    void *state;                                  /* a struct in the arena, as a rule */
    void (*on_abort)(struct bk_request *request); /* the client went away; may be NULL */
    /* With on_abort: one that has closed its sending side may still read, and is given a moment. */
    bool may_half_close;
    void (*on_drain)(struct bk_request *request); /* a stream may write again */
    struct bk_problems problems;                  /* field errors, for bk_answer_problems */

    /* The answer. */
    int status;
    struct bk_buffer head;    /* "Name: value\r\n" lines */
    const char *content_type; /* default "application/json"; "": there is none */
    bool is_compressed;
    bool is_frameable; /* leaves X-Frame-Options out: files that other sites may embed */
    bool is_answered;
    uint32_t retry_after_s; /* of an answer of 429 or 503; 0: a second */
    /* Private to the api. */
    struct bk_tenant_hold hold;
    struct bk_task task;
    struct bk_tenant *actor_tenant;
    uint8_t step;
};

/* --- reading a request ------------------------------------------------------------------------ */

/* An empty slice with NULL data when absent. name in lower case. */
struct bk_slice bk_request_header(const struct bk_request *request, struct bk_slice name);
/* Decoded; NULL data when absent (an empty value has data). The first one counts. */
struct bk_slice bk_request_query(struct bk_request *request, struct bk_slice name);
/* An integer within bounds, or fallback when absent; a problem for name when it is neither. */
int64_t bk_request_query_int(struct bk_request *request, struct bk_slice name, int64_t minimum,
                             int64_t maximum, int64_t fallback);
bool bk_request_query_bool(struct bk_request *request, struct bk_slice name);
/* The path parameter of this name; asserted to exist. */
struct bk_slice bk_request_parameter(const struct bk_request *request, struct bk_slice name);
/* Puts the files of a form that belong to fields of the collection which take uploads into the
 * body: under "docs", "+docs" and "docs+" it has a list of the stored names then, after the names
 * that it had under "docs" before. prefix: "", or "requests.0" for "requests.0.docs". *body: an
 * object, or NULL; a new one is made in the arena where something is put in. *uploads: a list, NULL
 * at first, is added to. The status of the arena. Any thread. */
enum bk_status bk_request_take_uploads(struct bk_arena *arena, const struct bk_request_file *files,
                                       struct bk_slice prefix,
                                       const struct bk_collection *collection,
                                       const struct bk_json **body, struct bk_upload **uploads);
/* Of its Authorization header, without "Bearer "; empty when absent. Whether it is any good says
 * the actor. */
struct bk_slice bk_request_token(const struct bk_request *request);
/* The tenant that it names, by X-Bakend-Tenant or by the subdomain; empty when it names none. */
struct bk_slice bk_request_named_tenant(const struct bk_request *request);

/* Who asks, for rules and filters. body: what @request.body is, an object or NULL; context: what
 * @request.context is, "default" as a rule. In the request's arena. */
enum bk_status bk_request_asker(struct bk_request *request, const struct bk_schema *schema,
                                const struct bk_json *body, struct bk_slice context,
                                struct bk_asker *asker);

/* --- answering -------------------------------------------------------------------------------- */

/* Adds a header line; value must not hold CR or LF (asserted). */
void bk_answer_header(struct bk_request *request, const char *name, struct bk_slice value);
/* Sends request->out as it is. After any of these the request must not be touched again. */
void bk_answer(struct bk_request *request, int http_status);
/* 204 without a body. */
void bk_answer_empty(struct bk_request *request);
/* The error shape {"status","message","data":{},"requestId"}; out is cleared first. message NULL:
 * the status's own text, as a sentence. BK_BUSY and BK_TOO_MANY carry Retry-After. */
void bk_answer_error(struct bk_request *request, enum bk_status status, const char *message);
/* The same with request->problems as data; 400 "message". */
void bk_answer_problems(struct bk_request *request, enum bk_status status, const char *message);
/* The same with data as it is, a JSON object. */
void bk_answer_error_data(struct bk_request *request, enum bk_status status, const char *message,
                          struct bk_slice data);
/* Appends the error shape without the id of a request, for an answer that tells of several. Any
 * thread. */
void bk_answer_describe(const struct bk_problems *problems, enum bk_status status,
                        const char *message, struct bk_buffer *out);
/* 413 that says how large a body the route takes. */
void bk_answer_too_large(struct bk_request *request);
/* The error shape with a status that no bk_status has (408, 414, 431 …): for transports. */
void bk_answer_refusal(struct bk_request *request, int http_status, const char *message);
/* Any thread that has the request: compresses out when the client takes gzip, it is worth it (≥
 * 1,400 bytes) and the body is text. Not on the loop. */
void bk_answer_compress(struct bk_request *request);

/* Keeps only what `fields` names ("id,body:excerpt(20),expand.*") of the JSON in out: an object, an
 * array, or a list answer whose items are cut. Empty fields: nothing happens. BK_INVALID: it cannot
 * be read. Any thread. */
enum { BK_FIELDS_MAX = 200 };
enum bk_status bk_answer_pick_fields(struct bk_request *request, struct bk_slice fields);
/* For those who must know before they pick: BK_LIMIT past BK_FIELDS_MAX paths, BK_INVALID. */
enum bk_status bk_fields_check(struct bk_slice fields);
/* Whether the check is BK_OK. */
bool bk_fields_fit(struct bk_slice fields);
/* The same for any JSON text: appends what `fields` (not empty) names of it. The tree is made in
 * the arena. BK_INVALID when json is none, BK_LIMIT past BK_FIELDS_MAX paths, BK_TOO_LARGE when
 * arena or out overflow; then what out holds is of no use. Any thread. */
enum bk_status bk_fields_pick(struct bk_arena *arena, struct bk_slice json, struct bk_slice fields,
                              struct bk_buffer *out);

/* A stream: head now, then data. */
void bk_stream_begin(struct bk_request *request, int http_status);
bool bk_stream_write(struct bk_request *request, struct bk_slice data);
void bk_stream_end(struct bk_request *request);

/* A message that goes to many: made once, immutable, counted. The transport keeps its own head in
 * front of the text, so that the bytes are shared too. On the loop. */
enum { BK_SHARED_HEAD_BYTES = 10 };
struct bk_shared {
    uint32_t reference_count;
    uint32_t head_length; /* of the head, right before text; 0: the transport has not made it */
    size_t length;        /* of text */
    char room[];          /* BK_SHARED_HEAD_BYTES, then text */
};
/* The parts, one after the other; one reference. */
struct bk_shared *bk_shared_create(const struct bk_slice *parts, size_t count);
struct bk_shared *bk_shared_ref(struct bk_shared *shared);
void bk_shared_unref(struct bk_shared *shared); /* NULL is fine */

/* A message channel: a WebSocket. All on the loop. */
struct bk_channel_handler {
    /* Text is valid UTF-8. */
    void (*on_message)(struct bk_channel *channel, struct bk_slice message, bool is_binary);
    /* The queue is nearly empty again, after a send said BK_BUSY or length was asked to be watched.
     * May be NULL. */
    void (*on_drain)(struct bk_channel *channel);
    /* Once, last: the channel is gone when it returns. code: as the peer or we closed it; 1006: the
     * connection broke. */
    void (*on_close)(struct bk_channel *channel, int code);
};
struct bk_channel_operations {
    enum bk_status (*send)(struct bk_channel *channel, struct bk_slice message, bool is_binary);
    enum bk_status (*send_shared)(struct bk_channel *channel, struct bk_shared *text);
    size_t (*queued_bytes)(const struct bk_channel *channel);
    void (*close)(struct bk_channel *channel, int code, struct bk_slice reason);
};
struct bk_channel {
    const struct bk_channel_operations *operations;
    const struct bk_channel_handler *handler;
    void *user; /* the handler's */
};
/* Answers the handshake. BK_OK: the request is over and must not be touched again; what the handler
 * wants of it (its tenant, held; its actor) was copied before. Any other status: the request was
 * answered with what is wrong, and is over too; BK_NOT_SUPPORTED: it was not, nothing was done. */
enum bk_status bk_channel_accept(struct bk_request *request,
                                 const struct bk_channel_handler *handler, void *user,
                                 struct bk_channel **channel);
/* Copies. BK_OK; BK_BUSY: the queue is full, nothing was taken, on_drain will come; BK_CLOSING. */
enum bk_status bk_channel_send(struct bk_channel *channel, struct bk_slice message, bool is_binary);
/* Takes a reference of its own. The same statuses. */
enum bk_status bk_channel_send_shared(struct bk_channel *channel, struct bk_shared *text);
/* Of messages that wait for the peer to read. */
size_t bk_channel_queued_bytes(const struct bk_channel *channel);
/* Sends what waits, then the close frame; on_close follows when the peer has answered it or its
 * time is up, never before this returns. code: 1000..4999; reason: at most 123 bytes. Again:
 * nothing happens. */
void bk_channel_close(struct bk_channel *channel, int code, struct bk_slice reason);

/* --- in process ------------------------------------------------------------------------------- */

/* What a caller in process has done in the transaction of the write that it calls for, right behind
 * it: both are there, or neither. Records routes know it (create, update, upsert, delete); a call
 * of any other route must not have one. */
struct bk_companion {
    /* On the writer. May run again when the write does: what it notes of a run is of the last one.
     * id: of the record. Any status but BK_OK fails the write with it. */
    enum bk_status (*run)(struct bk_companion *companion, struct bk_transaction *transaction,
                          struct bk_slice id);
    struct bk_slice context; /* @request.context of the rules; empty: "default" */
    /* An auth record that is created with just this address is verified, whoever creates it. */
    bool verifies;
    struct bk_slice email;
    /* What an auth record that is created has for its password, which the body does not name then;
     * empty: the body has one, as from everybody. */
    struct bk_slice password_hash;
};

/* A command through the router: the same guards, no socket. Embed it. */
struct bk_call {
    const struct bk_actor *actor;
    struct bk_slice tenant; /* name; empty: "default" */
    enum bk_method method;
    struct bk_slice target;              /* path and query */
    struct bk_slice body;                /* JSON or empty */
    const struct bk_request_file *files; /* that go with it; NULL: none */
    struct bk_companion *companion;      /* NULL: none */
    struct bk_slice cause;               /* the event that led to it, or empty */
    uint32_t depth;
    struct bk_slice remote_address, user_agent; /* for the origin of what it writes; or empty */
    void (*done)(struct bk_call *call);
    /* The answer, valid during done. */
    int status;
    struct bk_slice answer;
    /* Private to the api. */
    struct bk_request *request;
    struct bk_task task;
};
/* Texts are borrowed until done, which comes once and never before this returns. */
void bk_api_call(struct bk_api *api, struct bk_call *call);

/* --- composing -------------------------------------------------------------------------------- */

struct bk_api_options {
    struct bk_loop *loop;
    struct bk_log log;
    struct bk_tenants *tenants; /* NULL: requests have no tenant (tests of transports) */
    const char *tenant_domain;  /* "example.com": the subdomain names the tenant; NULL: off */
    const char *cors_origins;   /* "*" or origins separated by commas */
    size_t request_arena_bytes; /* cap per request beside its body */
    size_t requests_memory_max; /* arenas of all requests: past it bodies get 503; 0: 256 MiB */
    size_t answer_max_bytes;
};
struct bk_api *bk_api_create(const struct bk_api_options *options);
void bk_api_destroy(struct bk_api *api);
/* Before the first request. A clash of two routes is BK_EXISTS. routes and module outlive the
 * api. */
enum bk_status bk_api_add_routes(struct bk_api *api, const struct bk_route *routes, size_t count,
                                 void *module);
/* All scopes that routes name, each once, with spaces between them: what an API key can hold. */
void bk_api_write_scopes(const struct bk_api *api, struct bk_buffer *out);
/* Handles what no route does (functions, public files, the short form): tried in the order added,
 * before 404. True: it took the request (or changed request->path and wants it routed again). */
struct bk_fallback {
    struct bk_list link;
    /* Called by bk_api_begin, headers read. Returns a route to use (with parameters filled in), or
     * NULL. */
    const struct bk_route *(*find)(struct bk_fallback *fallback, struct bk_request *request);
    void *module;
};
void bk_api_add_fallback(struct bk_api *api, struct bk_fallback *fallback);

/* The one who knows tokens: the auth module. */
struct bk_authenticator {
    void *user;
    /* The tenant that a token says it belongs to (not verified yet); empty when it says none. */
    struct bk_slice (*tenant_of)(void *user, struct bk_slice token);
    /* Fills in request->actor from the token, with request->actor_tenant open. BK_OK or
     * BK_UNAUTHORIZED: a bad token is a guest, as the contract has it, unless it names another
     * tenant. Any other status (the row cannot be read now) is the request's answer. On the loop,
     * may read single rows. */
    enum bk_status (*authenticate)(void *user, struct bk_tenant *tenant, struct bk_slice token,
                                   struct bk_request *request);
};
void bk_api_set_authenticator(struct bk_api *api, const struct bk_authenticator *authenticator);
/* The same without a request, for tokens that come over a channel. The tenant that the token says
 * it belongs to (not verified); empty when it says none; borrowed until the next call. */
struct bk_slice bk_api_token_tenant(struct bk_api *api, struct bk_slice token);
/* Who the token stands for in this tenant, which the caller holds; the texts are in the arena.
 * BK_UNAUTHORIZED: nobody (any more), and *actor is untouched; any other status: it cannot be told
 * now. */
enum bk_status bk_api_authenticate(struct bk_api *api, struct bk_tenant *tenant,
                                   struct bk_slice token, struct bk_arena *arena,
                                   struct bk_actor *actor);

/* What somebody came in with is of no use from now on. The authenticator's to tell, on the loop,
 * when its cache has forgotten it; whoever keeps a connection open for longer than a request hears
 * of it and closes those that are meant, at once. */
struct bk_revocation {
    struct bk_tenant *tenant;
    struct bk_slice label;   /* of the actor: "users/abc", "key/abc"; empty: all with a session */
    struct bk_slice session; /* that alone, whatever the label; empty: all of the actor's */
    struct bk_slice collection_id; /* of records of this collection only; empty: of any */
    /* Of an event stream, whose client is a guest then, as the contract has it: what else is open
     * ends all the same. */
    bool leaves_guest;
};
struct bk_revocation_hook {
    struct bk_list link;
    void (*on_revoked)(struct bk_revocation_hook *hook, const struct bk_revocation *revocation);
};
void bk_api_add_revocation_hook(struct bk_api *api, struct bk_revocation_hook *hook);
void bk_api_revoke(struct bk_api *api, const struct bk_revocation *revocation);
/* Whether a connection of this actor, in whatever tenant it works, is meant. */
bool bk_revocation_means(const struct bk_revocation *revocation, const struct bk_actor *actor);

/* One message for one client that listens on an event stream, from who is no event: the provider's
 * answer to the popup that it signs in with. */
struct bk_client_message {
    struct bk_slice client_id; /* as the stream was told it: whoever knows it may be told here */
    struct bk_slice address;   /* that the stream must have come from */
    struct bk_slice topic;     /* that it must be subscribed to, which ends with this message */
    struct bk_slice data;      /* JSON on one line */
};
/* Of the module that keeps the streams. BK_NOT_FOUND: there is no such client, or it does not
 * listen to this. */
struct bk_client_hook {
    enum bk_status (*tell)(struct bk_client_hook *hook, const struct bk_client_message *message);
};
/* At init. One owner. */
void bk_api_set_client_hook(struct bk_api *api, struct bk_client_hook *hook);
enum bk_status bk_api_tell_client(struct bk_api *api, const struct bk_client_message *message);

/* Who has limits for what clients do. Asked about each request when it is known who asks, before
 * the access of its route is looked at; never about calls in process and the control socket. */
struct bk_guard {
    struct bk_list link;
    /* Optional. Whether who asks may come from this address to this tenant, by request or by a
     * token over a channel. Asked before ask, of the tenant that the token is of, too. */
    enum bk_status (*ask_actor)(struct bk_guard *guard, const struct bk_tenant *tenant,
                                const struct bk_actor *actor, struct bk_slice remote_address);
    const char *stranger; /* what somebody is told who may not come from there; NULL: nothing */
    /* BK_OK: it may go on. Another status is its answer, with request->retry_after_s; guards behind
     * this one are not asked then. */
    enum bk_status (*ask)(struct bk_guard *guard, struct bk_request *request);
};
void bk_api_add_guard(struct bk_api *api, struct bk_guard *guard);
/* For one that is a part of another, of a batch: with route, parameters, path, who asks and from
 * where, and the responder of the whole. Answers nothing. */
enum bk_status bk_request_ask_guards(struct bk_request *request);
/* For a token over a channel: home is the tenant that it is of. */
enum bk_status bk_api_ask_guards(struct bk_api *api, const struct bk_tenant *tenant,
                                 const struct bk_tenant *home, const struct bk_actor *actor,
                                 struct bk_slice remote_address);

/* Called for each answered request (after the answer is queued): request logs, metrics. */
struct bk_request_observer {
    struct bk_list link;
    void (*on_answered)(struct bk_request_observer *observer, const struct bk_request *request);
};
void bk_api_add_observer(struct bk_api *api, struct bk_request_observer *observer);

/* Text for /metrics, from whoever has figures. */
struct bk_metrics_source {
    struct bk_list link;
    void (*write)(struct bk_metrics_source *source, struct bk_buffer *out);
};
void bk_api_add_metrics(struct bk_api *api, struct bk_metrics_source *source);
void bk_api_write_metrics(struct bk_api *api, struct bk_buffer *out);
/* "# HELP", "# TYPE" and one sample without labels. */
void bk_metric_write(struct bk_buffer *out, const char *name, const char *type, const char *help,
                     double value);

/* The OpenAPI 3.1 document of all routes, made from the table. */
void bk_api_write_openapi(struct bk_api *api, struct bk_buffer *out);

/* Told when the server is to stop: streams, long polls and channels come to their end, each in its
 * own way, within deadline_ms. New ones are no longer begun by then. */
struct bk_drain_hook {
    struct bk_list link;
    void (*on_drain)(struct bk_drain_hook *hook, uint32_t deadline_ms);
};
void bk_api_add_drain_hook(struct bk_api *api, struct bk_drain_hook *hook);
/* Once, before the transports drain. */
void bk_api_drain(struct bk_api *api, uint32_t deadline_ms);
bool bk_api_is_draining(const struct bk_api *api);

/* --- for transports --------------------------------------------------------------------------- */

/* What a connection holds for as long as it lives, whoever has it. */
struct bk_lease {
    void (*end)(struct bk_lease *lease);
};

/* Who goes on with a connection in another protocol: the WebSocket transport takes over what HTTP
 * gives it. */
struct bk_upgrader {
    void *user;
    /* Judges the head. BK_OK, or the request was answered with what is wrong. */
    enum bk_status (*check)(void *user, struct bk_request *request);
    /* Takes the socket over, which is its own from now on, answers the handshake, and makes the
     * channel. received: what the client has sent behind the request. The request goes on to belong
     * to the caller. BK_OK, and the lease (may be NULL) is ended with the connection; else the
     * socket was closed, and the lease is left to the caller. */
    enum bk_status (*take)(void *user, struct bk_request *request, int descriptor,
                           struct bk_lease *lease, struct bk_slice received,
                           const struct bk_channel_handler *handler, void *channel_user,
                           struct bk_channel **channel);
    /* Connections that it has: they count with HTTP's own. */
    uint32_t (*connection_count)(void *user);
};

/* The largest body that the route takes, once method, path, query and headers are set. False: the
 * request was answered already (404, 403 of CORS …); its body is to be discarded. */
bool bk_api_begin(struct bk_api *api, struct bk_request *request, size_t *body_max_bytes);
/* The body is complete. */
void bk_api_dispatch(struct bk_request *request);
/* The client went away before the answer: calls on_abort; the answer still comes to the
 * responder. */
void bk_api_abort(struct bk_request *request);
/* Sets up what is the api's in a fresh request (arena, buffers, id) and tears it down. Reuses
 * memory. */
void bk_request_init(struct bk_request *request, struct bk_api *api);
void bk_request_reset(struct bk_request *request);
void bk_request_fini(struct bk_request *request);
struct bk_api_figures {
    uint64_t requests, answers[6];          /* by hundreds of the status */
    uint64_t time_ns_sum, time_buckets[16]; /* count of answers that took < 2^(i+16) ns */
    uint32_t in_flight;
    size_t memory_bytes; /* arenas of all requests, spare ones too: bk_arena_total */
    uint64_t overloads;  /* requests refused for requests_memory_max */
    int64_t connections; /* open now, set by transports */
    uint64_t connections_total;
};
struct bk_api_figures *bk_api_figures(struct bk_api *api);

#endif
