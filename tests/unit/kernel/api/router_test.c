/* Which route a path finds. */
#include "support.h"

#include "bakend/alloc.h"
#include "bakend/api.h"
#include "router.h"

#include <string.h>

static void handle(struct bk_request *request) { (void)request; }

static const struct bk_route routes[] = {
    {.method = BK_GET, .path = "/", .handle = handle},
    {.method = BK_GET, .path = "/api/health", .handle = handle},
    {.method = BK_GET, .path = "/api/collections", .handle = handle},
    {.method = BK_GET, .path = "/api/collections/{collection}", .handle = handle},
    {.method = BK_PATCH, .path = "/api/collections/{collection}", .handle = handle},
    {.method = BK_GET, .path = "/api/collections/meta/scaffolds", .handle = handle},
    {.method = BK_PUT, .path = "/api/collections/import", .handle = handle},
    {.method = BK_GET, .path = "/api/collections/{collection}/records", .handle = handle},
    {.method = BK_GET, .path = "/api/collections/{collection}/records/{id}", .handle = handle},
    {.method = BK_GET, .path = "/_/{path...}", .handle = handle},
    {.method = BK_GET, .path = "/api/storage/{bucket}/{path...}", .handle = handle},
};

struct fixture {
    struct api_router router;
    struct bk_request request;
};

static int setup(void **state) {
    struct fixture *fixture = bk_alloc_zero(sizeof(*fixture));
    api_router_init(&fixture->router);
    bk_arena_init(&fixture->request.arena, 65536);
    for (size_t i = 0; i < BK_COUNT_OF(routes); i++)
        assert_int_equal(api_router_add(&fixture->router, &routes[i], fixture), BK_OK);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_arena_fini(&fixture->request.arena);
    api_router_fini(&fixture->router);
    bk_free(fixture);
    return 0;
}

static const char *find(struct fixture *fixture, enum bk_method method, const char *path) {
    struct bk_request *request = &fixture->request;
    request->method = method;
    request->path = bk_slice_from(path);
    request->route = NULL;
    if (api_router_find(&fixture->router, request) != BK_OK)
        return NULL;
    assert_ptr_equal(request->module, fixture);
    return request->route->path;
}

static void expect(void **state, enum bk_method method, const char *path, const char *found) {
    const char *result = find(*state, method, path);
    if ((found == NULL) != (result == NULL) || (found != NULL && strcmp(found, result) != 0))
        fail_msg("%s %s found %s", bk_method_name(method), path, result ? result : "nothing");
}

static bool parameter_is(void **state, const char *name, const char *value) {
    const struct fixture *fixture = *state;
    return bk_slice_equal(bk_request_parameter(&fixture->request, bk_slice_from(name)),
                          bk_slice_from(value));
}

static void finds_literal_paths(void **state) {
    expect(state, BK_GET, "/", "/");
    expect(state, BK_GET, "/api/health", "/api/health");
    expect(state, BK_GET, "/api/h%65alth", "/api/health");
    expect(state, BK_GET, "/api/HEALTH", NULL);
    expect(state, BK_GET, "/api/health/", NULL);
    expect(state, BK_GET, "/api//health", NULL);
    expect(state, BK_GET, "/api", NULL);
    expect(state, BK_GET, "/api/", NULL);
    expect(state, BK_GET, "api/health", NULL);
    expect(state, BK_GET, "", NULL);
}

static void answers_head_by_get(void **state) {
    expect(state, BK_HEAD, "/api/health", "/api/health");
    expect(state, BK_HEAD, "/api/collections/import", "/api/collections/{collection}");
}

static void knows_no_other_method(void **state) {
    expect(state, BK_POST, "/api/health", NULL);
    expect(state, BK_METHOD_OTHER, "/api/health", NULL);
    expect(state, BK_DELETE, "/api/collections/posts", NULL);
}

static void prefers_literals_per_method(void **state) {
    expect(state, BK_GET, "/api/collections/meta/scaffolds", "/api/collections/meta/scaffolds");
    expect(state, BK_PUT, "/api/collections/import", "/api/collections/import");
    expect(state, BK_GET, "/api/collections/import", "/api/collections/{collection}");
    expect(state, BK_PATCH, "/api/collections/import", "/api/collections/{collection}");
    assert_true(parameter_is(state, "collection", "import"));
    /* "meta" leads nowhere by its literal: the choice is taken back. */
    expect(state, BK_GET, "/api/collections/meta/records", "/api/collections/{collection}/records");
    assert_true(parameter_is(state, "collection", "meta"));
}

static void decodes_parameters(void **state) {
    expect(state, BK_GET, "/api/collections/a%2Fb/records/%C3%A9+1",
           "/api/collections/{collection}/records/{id}");
    assert_true(parameter_is(state, "collection", "a/b"));
    assert_true(parameter_is(state, "id", "\xc3\xa9+1"));
}

static void wants_parameters_that_are_not_empty(void **state) {
    expect(state, BK_GET, "/api/collections/", NULL);
    expect(state, BK_GET, "/api/collections//records", NULL);
    expect(state, BK_GET, "/api/collections/posts/records/", NULL);
}

static void takes_the_rest_of_a_path(void **state) {
    expect(state, BK_GET, "/_/", "/_/{path...}");
    assert_true(parameter_is(state, "path", ""));
    expect(state, BK_GET, "/_/a/b%20c/d", "/_/{path...}");
    assert_true(parameter_is(state, "path", "a/b c/d"));
    expect(state, BK_GET, "/_", NULL);
    expect(state, BK_GET, "/api/storage/photos/2026/x.png", "/api/storage/{bucket}/{path...}");
    assert_true(parameter_is(state, "bucket", "photos"));
    assert_true(parameter_is(state, "path", "2026/x.png"));
    expect(state, BK_GET,
           "/_/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28",
           "/_/{path...}");
    assert_true(
        parameter_is(state, "path",
                     "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28"));
}

static void refuses_paths_that_do_not_decode(void **state) {
    static const char *const paths[] = {"/api/collections/%", "/api/collections/%zz",
                                        "/api/collections/%00", "/api/collections/%ff",
                                        "/api/collections/%c3%28"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < BK_COUNT_OF(paths); i++) {
        fixture->request.method = BK_GET;
        fixture->request.path = bk_slice_from(paths[i]);
        assert_int_equal(api_router_find(&fixture->router, &fixture->request), BK_INVALID);
    }
}

static void refuses_a_second_route_of_the_same_shape(void **state) {
    static const struct bk_route same = {
        .method = BK_GET, .path = "/api/collections/{other}", .handle = handle};
    struct fixture *fixture = *state;
    assert_int_equal(api_router_add(&fixture->router, &same, NULL), BK_EXISTS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_literal_paths),
        cmocka_unit_test(answers_head_by_get),
        cmocka_unit_test(knows_no_other_method),
        cmocka_unit_test(prefers_literals_per_method),
        cmocka_unit_test(decodes_parameters),
        cmocka_unit_test(wants_parameters_that_are_not_empty),
        cmocka_unit_test(takes_the_rest_of_a_path),
        cmocka_unit_test(refuses_paths_that_do_not_decode),
        cmocka_unit_test(refuses_a_second_route_of_the_same_shape),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
