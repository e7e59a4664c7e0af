/*
 * The way of a request: tenants, tokens, guards, bodies, in process and as a transport sends it,
 * with real tenants and an authenticator whose tokens read "<tenant>:<kind>:<name>".
 */
#include "kernel_fixture.h"

#include "bakend/alloc.h"
#include "bakend/api.h"

#include <string.h>

struct fixture {
    struct support_kernel kernel;
    struct bk_api *api;
    struct bk_request request;
    struct bk_header headers[4];
    bool is_answered;
    uint32_t observed;
    struct bk_request_observer observer;
    char answer[4096];
    size_t answer_length;
};

static struct fixture *now;

/* --- a transport and a module ----------------------------------------------------------------- */

static void on_send(struct bk_request *request) {
    struct fixture *fixture = request->transport;
    struct bk_slice out = bk_buffer_slice(&request->out);
    assert_false(fixture->is_answered);
    assert_true(out.length < sizeof(fixture->answer));
    if (out.length > 0)
        memcpy(fixture->answer, out.data, out.length);
    fixture->answer[out.length] = '\0';
    fixture->answer_length = out.length;
    fixture->is_answered = true;
}

static const struct bk_responder responder = {.send = on_send};

static void on_answered(struct bk_request_observer *observer, const struct bk_request *request) {
    struct fixture *fixture = bk_container_of(observer, struct fixture, observer);
    assert_true(request->status > 0);
    fixture->observed++;
}

static void handle_who(struct bk_request *request) {
    bk_json_write_string(&request->out, request->tenant->name);
    bk_json_write_string(&request->out, request->origin.actor);
    bk_answer(request, 200);
}

static void handle_json(struct bk_request *request) {
    bk_buffer_append_slice(&request->out,
                           request->json == NULL ? BK_SLICE("none") : request->json->text);
    bk_answer(request, 200);
}

static void handle_too_much(struct bk_request *request) {
    for (size_t i = 0; i < 100000; i++)
        bk_buffer_append_literal(&request->out, "0123456789");
    bk_answer(request, 200);
}

static void handle_greedy(struct bk_request *request) {
    for (size_t i = 0; i < 10000; i++)
        (void)bk_arena_alloc(&request->arena, 1000);
    bk_answer(request, 200);
}

static void handle_query(struct bk_request *request) {
    int64_t page = bk_request_query_int(request, BK_SLICE("page"), 1, 1000, 1);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "The query is not valid.");
        return;
    }
    bk_buffer_append_int(&request->out, page);
    bk_buffer_append_slice(&request->out, bk_request_query(request, BK_SLICE("name")));
    bk_answer(request, 200);
}

static const struct bk_route routes[] = {
    {.method = BK_GET, .path = "/who", .handle = handle_who},
    {.method = BK_GET, .path = "/actor", .access = BK_ACCESS_ACTOR, .handle = handle_who},
    {.method = BK_GET,
     .path = "/superuser",
     .access = BK_ACCESS_SUPERUSER,
     .scope = "events:read",
     .handle = handle_who},
    {.method = BK_GET, .path = "/operator", .access = BK_ACCESS_OPERATOR, .handle = handle_who},
    {.method = BK_GET,
     .path = "/instance",
     .access = BK_ACCESS_OPERATOR,
     .scope = "events:read",
     .handle = handle_who},
    {.method = BK_POST,
     .path = "/json",
     .body_max_bytes = 1000,
     .has_json_body = true,
     .handle = handle_json},
    {.method = BK_GET, .path = "/too-much", .handle = handle_too_much},
    {.method = BK_GET, .path = "/greedy", .handle = handle_greedy},
    {.method = BK_GET, .path = "/query", .handle = handle_query},
};

/* --- tokens ----------------------------------------------------------------------------------- */

static struct bk_slice tenant_of(void *user, struct bk_slice token) {
    (void)user;
    return bk_slice_make(token.data, bk_slice_find(token, ':'));
}

static enum bk_status authenticate(void *user, struct bk_tenant *tenant, struct bk_slice token,
                                   struct bk_request *request) {
    struct bk_slice name, kind;
    (void)user;
    assert_true(bk_slice_split(&token, ':', &name));
    if (!bk_slice_split(&token, ':', &kind) || !bk_slice_equal(name, tenant->name))
        return BK_UNAUTHORIZED;
    if (bk_slice_is(kind, "unreadable"))
        return BK_TIMEOUT;
    request->actor = bk_actor_guest;
    request->actor.label = token;
    request->actor.tenant = tenant->name;
    if (bk_slice_is(kind, "user"))
        request->actor.kind = BK_ACTOR_RECORD;
    else if (bk_slice_is(kind, "super"))
        request->actor.kind = BK_ACTOR_SUPERUSER;
    else if (bk_slice_is(kind, "key"))
        request->actor.kind = BK_ACTOR_KEY;
    else
        return BK_UNAUTHORIZED;
    request->actor.scopes = BK_SLICE("events:read");
    request->actor.is_operator = bk_slice_is(kind, "super") && bk_slice_is(tenant->name, "default");
    return BK_OK;
}

static const struct bk_authenticator authenticator = {.tenant_of = tenant_of,
                                                      .authenticate = authenticate};

/* --- fixture ---------------------------------------------------------------------------------- */

static int setup(void **state) {
    struct fixture *fixture = bk_alloc_zero(sizeof(*fixture));
    struct bk_api_options options = {.request_arena_bytes = 1024 * 1024,
                                     .requests_memory_max = 500 * 1000,
                                     .answer_max_bytes = 100 * 1024,
                                     .tenant_domain = "example.com",
                                     .cors_origins = "http://a.example, http://b.example"};
    support_kernel_create(&fixture->kernel, NULL);
    support_kernel_open(&fixture->kernel);
    assert_int_equal(bk_tenant_create(fixture->kernel.tenants, BK_SLICE("acme"), NULL), BK_OK);
    options.loop = fixture->kernel.loop;
    options.tenants = fixture->kernel.tenants;
    fixture->api = bk_api_create(&options);
    assert_int_equal(bk_api_add_routes(fixture->api, routes, BK_COUNT_OF(routes), fixture), BK_OK);
    bk_api_set_authenticator(fixture->api, &authenticator);
    fixture->observer.on_answered = on_answered;
    bk_api_add_observer(fixture->api, &fixture->observer);
    bk_request_init(&fixture->request, fixture->api);
    *state = now = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_request_fini(&fixture->request);
    bk_api_destroy(fixture->api);
    support_kernel_close(&fixture->kernel);
    support_kernel_destroy(&fixture->kernel);
    bk_free(fixture);
    return 0;
}

static struct bk_request *fresh(enum bk_method method, const char *target) {
    struct bk_request *request = &now->request;
    size_t at;
    bk_request_reset(request);
    now->is_answered = false;
    request->responder = &responder;
    request->transport = now;
    request->method = method;
    request->target = bk_slice_from(target);
    at = bk_slice_find(request->target, '?');
    request->path = bk_slice_make(target, at);
    if (at < request->target.length)
        request->query = bk_slice_from(target + at + 1);
    request->headers = now->headers;
    return request;
}

static void add_header(const char *name, const char *value) {
    if (value == NULL)
        return;
    now->headers[now->request.header_count++] =
        (struct bk_header){bk_slice_from(name), bk_slice_from(value)};
}

static int run(const char *body) {
    size_t body_max_bytes = 0;
    if (bk_api_begin(now->api, &now->request, &body_max_bytes)) {
        now->request.body = bk_slice_from(body);
        bk_api_dispatch(&now->request);
    }
    support_loop_run_until(now->kernel.loop, &now->is_answered);
    return now->request.status;
}

static int get(const char *target, const char *token, const char *tenant) {
    (void)fresh(BK_GET, target);
    add_header("authorization", token);
    add_header("x-bakend-tenant", tenant);
    return run("");
}

static void answer_is(const char *text) { assert_string_equal(now->answer, text); }

static bool answer_has(const char *text) { return strstr(now->answer, text) != NULL; }

/* --- who asks, and about which tenant --------------------------------------------------------- */

static void takes_default_without_a_name(void **state) {
    (void)state;
    assert_int_equal(get("/who", NULL, NULL), 200);
    answer_is("\"default\"\"guest\"");
    assert_int_equal(get("/who", "default:user:users/ann", NULL), 200);
    answer_is("\"default\"\"users/ann\"");
}

static void takes_the_tenant_of_the_token(void **state) {
    (void)state;
    assert_int_equal(get("/who", "acme:user:users/bob", NULL), 200);
    answer_is("\"acme\"\"users/bob\"");
    assert_int_equal(get("/who", "Bearer acme:user:users/bob", NULL), 200);
    answer_is("\"acme\"\"users/bob\"");
    assert_int_equal(get("/who", "bEARER acme:user:users/bob", "acme"), 200);
    answer_is("\"acme\"\"users/bob\"");
}

static void takes_the_tenant_that_is_named(void **state) {
    (void)state;
    assert_int_equal(get("/who", NULL, "acme"), 200);
    answer_is("\"acme\"\"guest\"");
    fresh(BK_GET, "/who")->host = BK_SLICE("acme.example.com:8090");
    assert_int_equal(run(""), 200);
    answer_is("\"acme\"\"guest\"");
    fresh(BK_GET, "/who")->host = BK_SLICE("example.com");
    assert_int_equal(run(""), 200);
    answer_is("\"default\"\"guest\"");
}

static void refuses_a_token_of_another_tenant(void **state) {
    (void)state;
    assert_int_equal(get("/who", "acme:user:users/bob", "default"), 401);
    assert_int_equal(get("/who", "acme:super:_superusers/x", "default"), 401);
    assert_int_equal(get("/who", "acme:bad", "default"), 401);
    assert_int_equal(get("/who", "default:user:users/ann", "acme"), 401);
}

static void lets_operators_name_any_tenant(void **state) {
    (void)state;
    assert_int_equal(get("/who", "default:super:_superusers/root", "acme"), 200);
    answer_is("\"acme\"\"_superusers/root\"");
}

static void names_the_tenant_that_does_not_exist(void **state) {
    (void)state;
    assert_int_equal(get("/who", NULL, "nobody"), 404);
    assert_true(answer_has("There is no tenant \\\"nobody\\\"."));
    assert_int_equal(get("/who", NULL, "../x"), 404);
    assert_int_equal(get("/who", "default:super:_superusers/root", "nobody"), 404);
}

static void takes_a_bad_token_for_a_guest(void **state) {
    (void)state;
    assert_int_equal(get("/who", "default:forged:x", NULL), 200);
    answer_is("\"default\"\"guest\"");
    assert_int_equal(get("/who", "nobody:user:x", NULL), 200);
    answer_is("\"default\"\"guest\"");
    assert_int_equal(get("/who", "%%%", NULL), 200);
    answer_is("\"default\"\"guest\"");
    assert_int_equal(get("/actor", "default:forged:x", NULL), 401);
}

static void does_not_take_who_cannot_be_told_for_a_guest(void **state) {
    (void)state;
    assert_int_equal(get("/who", "default:unreadable:x", NULL), 503);
    assert_int_equal(get("/who", "default:unreadable:x", "acme"), 503);
    assert_true(answer_has("\"status\":503"));
}

static void is_the_system_on_the_control_socket(void **state) {
    (void)state;
    fresh(BK_GET, "/operator")->is_control = true;
    assert_int_equal(run(""), 200);
    answer_is("\"default\"\"system\"");
    fresh(BK_GET, "/operator")->is_control = true;
    add_header("x-bakend-tenant", "acme");
    assert_int_equal(run(""), 200);
    answer_is("\"acme\"\"system\"");
}

static void guards_by_access_and_scope(void **state) {
    static const struct {
        const char *token;
        int actor, superuser, op, op_or_key;
    } rows[] = {
        {NULL, 401, 401, 401, 401},
        {"default:user:users/ann", 200, 403, 403, 403},
        {"default:key:key/k", 403, 200, 403, 200}, /* for what its scopes name */
        {"acme:key:key/k", 403, 200, 403, 403},
        {"acme:super:_superusers/x", 200, 200, 403, 403},
        {"default:super:_superusers/x", 200, 200, 200, 200},
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(rows); i++) {
        assert_int_equal(get("/actor", rows[i].token, NULL), rows[i].actor);
        assert_int_equal(get("/superuser", rows[i].token, NULL), rows[i].superuser);
        assert_int_equal(get("/operator", rows[i].token, NULL), rows[i].op);
        assert_int_equal(get("/instance", rows[i].token, NULL), rows[i].op_or_key);
    }
}

/* --- routes, bodies, answers ------------------------------------------------------------------ */

static void answers_errors_in_the_contracts_shape(void **state) {
    (void)state;
    assert_int_equal(get("/nothing", NULL, NULL), 404);
    assert_ptr_equal(strstr(now->answer,
                            "{\"data\":{},\"message\":\"The requested resource wasn't found.\","
                            "\"status\":404,\"requestId\":\""),
                     now->answer);
    assert_int_equal(get("/query?page=x", NULL, NULL), 400);
    assert_true(answer_has("{\"data\":{\"page\":{\"code\":"));
}

static int post_json(const char *type, const char *body) {
    (void)fresh(BK_POST, "/json");
    add_header("content-type", type);
    return run(body);
}

static void reads_json_bodies(void **state) {
    (void)state;
    assert_int_equal(post_json("application/json", " {\"a\":1} "), 200);
    answer_is("{\"a\":1}");
    assert_int_equal(post_json("application/json; charset=utf-8", "{}"), 200);
    assert_int_equal(post_json("application/json", ""), 200);
    answer_is("none");
    assert_int_equal(post_json("application/json", "null"), 200);
    answer_is("none");
    assert_int_equal(post_json(NULL, ""), 200);
    assert_int_equal(post_json("application/json", "[]"), 400);
    assert_int_equal(post_json("application/json", "{\"a\":1,\"a\":2}"), 400);
    assert_true(answer_has("An error occurred while loading the submitted data. "));
    assert_int_equal(post_json("application/json", "{\"a\":[1e400]}"), 400);
    assert_int_equal(post_json("text/plain", "{}"), 400);
    assert_true(answer_has("multipart/form-data"));
    assert_int_equal(post_json("application/JSON", "{}"), 400);
    assert_int_equal(post_json(NULL, "{}"), 400);
}

static void reads_forms(void **state) {
    static const char multipart[] = "multipart/form-data; boundary=x";
    (void)state;
    assert_int_equal(post_json("application/x-www-form-urlencoded; charset=utf-8", "a=1&b=x+y"),
                     200);
    answer_is("{\"a\":1,\"b\":\"x y\"}");
    assert_int_equal(post_json("application/x-www-form-urlencoded", "a=%"), 400);
    assert_int_equal(post_json(multipart, "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n"
                                          "true\r\n--x--"),
                     200);
    answer_is("{\"a\":true}");
    assert_int_equal(post_json(multipart, "x"), 400);
    assert_true(answer_has("An error occurred while loading the submitted data. "));
    assert_int_equal(post_json(multipart, "--x--"), 200);
    answer_is("{}");
}

static void joins_the_query_to_a_form(void **state) {
    (void)state;
    (void)fresh(BK_POST, "/json?a=1&fields=a");
    add_header("content-type", "application/x-www-form-urlencoded");
    assert_int_equal(run("a=2"), 200);
    answer_is("{\"a\":[2,1],\"fields\":\"a\"}");
    (void)fresh(BK_POST, "/json?a=1");
    add_header("content-type", "application/json");
    assert_int_equal(run("{}"), 200);
    answer_is("{}");
}

static void gives_the_files_of_a_form(void **state) {
    const struct bk_request_file *file;
    (void)state;
    assert_int_equal(post_json("multipart/form-data; boundary=x",
                               "--x\r\nContent-Disposition: form-data; name=\"docs+\"; "
                               "filename=\"a/b.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
                               "--x\r\nContent-Disposition: form-data; name=c; filename=d\r\n\r\n"
                               "\r\n--x--"),
                     200);
    answer_is("{}");
    file = now->request.files;
    assert_true(bk_slice_is(file->key, "docs+") && bk_slice_is(file->name, "b.txt"));
    assert_true(bk_slice_is(file->content_type, "text/plain"));
    assert_true(bk_slice_is(file->data, "hello"));
    file = file->next;
    assert_true(bk_slice_is(file->key, "c") && file->data.length == 0 && file->next == NULL);
    assert_int_equal(post_json("application/json", "{}"), 200);
    assert_null(now->request.files);
}

static const struct bk_route *find_any(struct bk_fallback *fallback, struct bk_request *request) {
    (void)fallback;
    request->parameter_count = 0;
    return &routes[0];
}

static void asks_fallbacks_for_paths_that_no_route_has(void **state) {
    static struct bk_fallback fallback = {.find = find_any};
    (void)state;
    bk_api_add_fallback(now->api, &fallback);
    assert_int_equal(get("/posts", NULL, NULL), 200);
    fresh(BK_POST, "/who");
    assert_int_equal(run(""), 404);
    assert_true(answer_has("The requested resource wasn't found: this path has no POST."));
    bk_list_remove(&fallback.link);
}

static void tells_the_transport_the_bodys_limit(void **state) {
    size_t body_max_bytes = 0;
    (void)state;
    (void)fresh(BK_POST, "/json");
    assert_true(bk_api_begin(now->api, &now->request, &body_max_bytes));
    assert_int_equal(body_max_bytes, 1000);
    bk_api_abort(&now->request);
    assert_true(now->is_answered);
    assert_int_equal(bk_api_figures(now->api)->in_flight, 0);
}

static void does_not_send_what_outgrew_its_memory(void **state) {
    (void)state;
    assert_int_equal(get("/too-much", NULL, NULL), 500);
    assert_true(answer_has("\"status\":500"));
    assert_int_equal(get("/greedy", NULL, NULL), 500);
    assert_int_equal(get("/who", NULL, NULL), 200);
}

static void reads_the_query(void **state) {
    (void)state;
    assert_int_equal(get("/query", NULL, NULL), 200);
    answer_is("1");
    assert_int_equal(get("/query?page=7&name=a%20b+c&name=d", NULL, NULL), 200);
    answer_is("7a b c");
    assert_int_equal(get("/query?n%61me=x&page=", NULL, NULL), 200);
    answer_is("1x");
    assert_int_equal(get("/query?page=1001", NULL, NULL), 400);
    assert_int_equal(get("/query?page=-1", NULL, NULL), 400);
}

static bool head_has(const char *line) {
    struct bk_slice head = bk_buffer_slice(&now->request.head);
    size_t length = strlen(line);
    for (size_t i = 0; i + length <= head.length; i++)
        if (memcmp(head.data + i, line, length) == 0)
            return true;
    return false;
}

static void refuses_bodies_while_requests_fill_the_memory(void **state) {
    struct bk_request other;
    (void)state;
    bk_request_init(&other, now->api);
    for (int i = 0; i < 600; i++)
        (void)bk_arena_alloc(&other.arena, 1000);
    fresh(BK_POST, "/json");
    add_header("content-type", "application/json");
    assert_int_equal(run("{}"), 503);
    assert_true(head_has("Retry-After: 1\r\n"));
    assert_int_equal(bk_api_figures(now->api)->overloads, 1);
    /* What brings no body, and the operator, are served. */
    fresh(BK_GET, "/who");
    assert_int_equal(run(""), 200);
    fresh(BK_POST, "/json")->is_control = true;
    assert_int_equal(run("{}"), 200);
    bk_request_reset(&other);
    fresh(BK_POST, "/json");
    add_header("content-type", "application/json");
    assert_int_equal(run("{}"), 200);
    bk_request_fini(&other);
}

static void allows_only_listed_origins(void **state) {
    (void)state;
    (void)fresh(BK_GET, "/who");
    add_header("origin", "http://b.example");
    assert_int_equal(run(""), 200);
    assert_true(head_has("Access-Control-Allow-Origin: http://b.example\r\n"));
    assert_true(head_has("Vary: Origin\r\n"));
    (void)fresh(BK_GET, "/who");
    add_header("origin", "http://evil.example");
    assert_int_equal(run(""), 200);
    assert_false(head_has("Access-Control"));
    (void)fresh(BK_OPTIONS, "/nothing");
    add_header("origin", "http://evil.example");
    assert_int_equal(run(""), 204);
    assert_false(head_has("Access-Control"));
}

static void counts_and_shows_every_answer(void **state) {
    struct bk_api_figures *figures = bk_api_figures(now->api);
    uint64_t count = 0, observed = now->observed, before = figures->requests;
    (void)state;
    assert_int_equal(get("/who", NULL, NULL), 200);
    assert_int_equal(get("/nothing", NULL, NULL), 404);
    assert_int_equal(figures->requests, before + 2);
    assert_int_equal(now->observed, observed + 2);
    for (size_t i = 0; i < BK_COUNT_OF(figures->time_buckets); i++)
        count += figures->time_buckets[i];
    assert_int_equal(count, figures->requests);
    assert_int_equal(figures->in_flight, 0);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct call {
    struct bk_call call;
    bool is_done;
    char answer[256];
};

static void on_done(struct bk_call *call) {
    struct call *own = bk_container_of(call, struct call, call);
    assert_false(own->is_done);
    assert_true(call->answer.length < sizeof(own->answer));
    memcpy(own->answer, call->answer.data, call->answer.length);
    own->answer[call->answer.length] = '\0';
    own->is_done = true;
}

static int call(const struct bk_actor *actor, const char *tenant, enum bk_method method,
                const char *target, const char *body, const char *expected) {
    struct call own = {.call = {.actor = actor,
                                .tenant = bk_slice_from(tenant),
                                .method = method,
                                .target = bk_slice_from(target),
                                .body = bk_slice_from(body),
                                .done = on_done}};
    bk_api_call(now->api, &own.call);
    assert_false(own.is_done);
    support_loop_run_until(now->kernel.loop, &own.is_done);
    if (expected != NULL)
        assert_string_equal(own.answer, expected);
    return own.call.status;
}

static void calls_pass_the_same_guards(void **state) {
    struct bk_actor ann = bk_actor_guest;
    (void)state;
    ann.kind = BK_ACTOR_RECORD;
    ann.label = BK_SLICE("users/ann");
    assert_int_equal(call(&bk_actor_system, "", BK_GET, "/operator", "", "\"default\"\"system\""),
                     200);
    assert_int_equal(call(&ann, "acme", BK_GET, "/actor", "", "\"acme\"\"users/ann\""), 200);
    assert_int_equal(call(&ann, "", BK_GET, "/superuser", "", NULL), 403);
    assert_int_equal(call(&bk_actor_guest, "", BK_GET, "/actor", "", NULL), 401);
    assert_int_equal(call(&ann, "nobody", BK_GET, "/who", "", NULL), 404);
    assert_int_equal(call(&ann, "", BK_GET, "/nothing", "", NULL), 404);
    assert_int_equal(call(&ann, "", BK_POST, "/json", "{\"x\":[1]}", "{\"x\":[1]}"), 200);
    assert_int_equal(call(&ann, "", BK_POST, "/json", "{", NULL), 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_default_without_a_name),
        cmocka_unit_test(takes_the_tenant_of_the_token),
        cmocka_unit_test(takes_the_tenant_that_is_named),
        cmocka_unit_test(refuses_a_token_of_another_tenant),
        cmocka_unit_test(lets_operators_name_any_tenant),
        cmocka_unit_test(names_the_tenant_that_does_not_exist),
        cmocka_unit_test(takes_a_bad_token_for_a_guest),
        cmocka_unit_test(does_not_take_who_cannot_be_told_for_a_guest),
        cmocka_unit_test(is_the_system_on_the_control_socket),
        cmocka_unit_test(guards_by_access_and_scope),
        cmocka_unit_test(answers_errors_in_the_contracts_shape),
        cmocka_unit_test(reads_json_bodies),
        cmocka_unit_test(reads_forms),
        cmocka_unit_test(joins_the_query_to_a_form),
        cmocka_unit_test(gives_the_files_of_a_form),
        cmocka_unit_test(asks_fallbacks_for_paths_that_no_route_has),
        cmocka_unit_test(tells_the_transport_the_bodys_limit),
        cmocka_unit_test(does_not_send_what_outgrew_its_memory),
        cmocka_unit_test(refuses_bodies_while_requests_fill_the_memory),
        cmocka_unit_test(reads_the_query),
        cmocka_unit_test(allows_only_listed_origins),
        cmocka_unit_test(counts_and_shows_every_answer),
        cmocka_unit_test(calls_pass_the_same_guards),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
