/*
 * The routes. Each is a row of in-process calls, so the collections' own checks hold; this file
 * only orders them and undoes what was begun. `_tenants` is written by the system alone: its
 * records are made, changed and removed in the system's name here, under the label of who asked.
 *
 *   create   (directory) ─> SUPERUSER ─> RECORD ─> answered
 *                               └──────────┴─(refused)─> UNDOING ─> answered
 *   delete   (marker) ─> RECORD_GONE ─> DIRECTORY_GONE ─> answered
 */
#include "tenants_private.h"

#include "bakend/failpoint.h"

struct creation {
    struct bk_request *request;
    struct bk_module_context *context;
    struct bk_slice name;
    const struct bk_json *superuser; /* NULL: none is made */
    struct bk_buffer body;           /* of the call under way */
    struct bk_actor writer;          /* of `_tenants` */
    struct bk_call call;
};

/* Everything but creation: one call of the records route. */
struct forwarding {
    struct bk_request *request;
    struct bk_module_context *context;
    struct tenants_record record;
    struct bk_slice target;
    struct bk_actor writer; /* of `_tenants` */
    struct bk_call call;
};

/* The system, which alone writes `_tenants`; events name the one who asked. */
static struct bk_actor writer_for(const struct bk_request *request) {
    struct bk_actor writer = bk_actor_system;
    writer.label = request->actor.label;
    return writer;
}

/* The answer of a call becomes the request's. */
static void forward(struct bk_request *request, const struct bk_call *call) {
    bk_buffer_append_slice(&request->out, call->answer);
    bk_answer(request, call->status);
}

static bool is_success(const struct bk_call *call) {
    return call->status >= 200 && call->status < 300;
}

/* --- create: what is asked for ---------------------------------------------------------------- */

static void check_name(struct creation *creation) {
    struct bk_problems *problems = &creation->request->problems;
    if (creation->name.length == 0)
        bk_problems_add(problems, BK_SLICE("name"), "validation_required", "Cannot be blank.");
    else if (!bk_tenant_name_is_valid(creation->name))
        bk_problems_add(problems, BK_SLICE("name"), "validation_invalid_format",
                        "Must be 1 to 63 of a-z, 0-9 and -, and begin with a letter or digit.");
    else if (bk_tenant_exists(creation->context->tenants, creation->name))
        bk_problems_add(problems, BK_SLICE("name"), "validation_not_unique",
                        "A tenant of this name exists already.");
}

static void check_superuser(struct creation *creation) {
    const struct bk_json *superuser = bk_json_get(creation->request->json, BK_SLICE("superuser"));
    if (superuser == NULL || superuser->type == BK_JSON_NULL)
        return;
    if (superuser->type != BK_JSON_OBJECT)
        bk_problems_add(&creation->request->problems, BK_SLICE("superuser"),
                        "validation_invalid_format", "Must be an object with email and password.");
    creation->superuser = superuser;
}

/* --- create: undoing -------------------------------------------------------------------------- */

static void on_undone(void *user, enum bk_status status) {
    struct creation *creation = user;
    struct bk_request *request = creation->request;
    if (status != BK_OK && status != BK_NOT_FOUND)
        bk_log_error(&creation->context->log, "tenant_not_undone",
                     BK_STRING("tenant", creation->name),
                     BK_TEXT("status", bk_status_name(status)));
    bk_buffer_fini(&creation->body);
    if (request->problems.count > 0)
        bk_answer_problems(request, BK_INVALID, "Failed to create the tenant.");
    else if (request->status < 300) /* no call was refused, but what comes between two */
        bk_answer_error(request, BK_INTERNAL, NULL);
    else
        bk_answer(request, request->status);
}

/* The fields that the superuser's collection refused, as fields of this request. */
static void adopt_problems(struct bk_request *request, struct bk_slice answer) {
    struct bk_json *root = NULL;
    struct bk_slice copy = bk_arena_copy(&request->arena, answer);
    if (bk_json_parse(&request->arena, copy, &root, NULL) != BK_OK)
        return;
    const struct bk_json *data = bk_json_get(root, BK_SLICE("data"));
    if (data == NULL || data->type != BK_JSON_OBJECT)
        return;
    for (const struct bk_json *field = data->child; field != NULL; field = field->next) {
        struct bk_slice name =
            bk_arena_format(&request->arena, "superuser.%.*s", BK_SLICE_PRINT(field->key));
        struct bk_slice code = bk_json_get_string(field, BK_SLICE("code"));
        struct bk_slice message = bk_json_get_string(field, BK_SLICE("message"));
        if (code.length > 0 && message.length > 0)
            bk_problems_add(&request->problems, name, bk_arena_copy(&request->arena, code).data,
                            bk_arena_copy(&request->arena, message).data);
    }
}

/* Keeps what the refused call answered, takes the directory away, then answers. */
static void undo(struct creation *creation, bool is_superusers) {
    struct bk_request *request = creation->request;
    if (is_superusers && creation->call.status == 400)
        adopt_problems(request, creation->call.answer);
    request->status = creation->call.status;
    bk_buffer_append_slice(&request->out, creation->call.answer);
    bk_tenant_delete(creation->context->tenants, creation->name, on_undone, creation);
}

/* --- create: step by step --------------------------------------------------------------------- */

static void call(struct creation *creation, const struct bk_actor *actor, struct bk_slice tenant,
                 const char *target, void (*done)(struct bk_call *call)) {
    creation->call = (struct bk_call){.actor = actor,
                                      .tenant = tenant,
                                      .method = BK_POST,
                                      .target = bk_slice_from(target),
                                      .body = bk_buffer_slice(&creation->body),
                                      .done = done};
    bk_api_call(creation->context->api, &creation->call);
}

static void on_record_made(struct bk_call *done) {
    struct creation *creation = bk_container_of(done, struct creation, call);
    struct bk_request *request = creation->request;
    if (!is_success(done)) {
        undo(creation, false);
        return;
    }
    (void)BK_FAILPOINT("tenants.after_record");
    tenants_marker_clear(creation->context, creation->name);
    bk_log_info(&creation->context->log, "tenant_created", BK_STRING("tenant", creation->name));
    bk_buffer_fini(&creation->body);
    forward(request, done);
}

static void make_record(struct creation *creation) {
    struct bk_buffer *body = &creation->body;
    bk_buffer_clear(body);
    bk_buffer_append_char(body, '{');
    bk_json_write_member_string(body, BK_SLICE("name"), creation->name);
    bk_json_write_member_string(
        body, BK_SLICE("description"),
        bk_json_get_string(creation->request->json, BK_SLICE("description")));
    bk_buffer_append_char(body, '}');
    creation->writer = writer_for(creation->request);
    call(creation, &creation->writer, BK_SLICE("default"), TENANTS_RECORDS, on_record_made);
}

static void on_superuser_made(struct bk_call *done) {
    struct creation *creation = bk_container_of(done, struct creation, call);
    if (is_success(done) && BK_FAILPOINT("tenants.before_record") == BK_OK)
        make_record(creation);
    else
        undo(creation, true);
}

static void make_superuser(struct creation *creation) {
    struct bk_buffer *body = &creation->body;
    struct bk_slice password = bk_json_get_string(creation->superuser, BK_SLICE("password"));
    bk_buffer_append_char(body, '{');
    bk_json_write_member_string(body, BK_SLICE("email"),
                                bk_json_get_string(creation->superuser, BK_SLICE("email")));
    bk_json_write_member_string(body, BK_SLICE("password"), password);
    bk_json_write_member_string(body, BK_SLICE("passwordConfirm"), password);
    bk_buffer_append_char(body, '}');
    call(creation, &creation->request->actor, creation->name,
         "/api/collections/_superusers/records", on_superuser_made);
}

/* The next start removes what is left: it has no record. */
static void on_forgotten(void *user, enum bk_status status) {
    (void)user;
    (void)status;
}

static enum bk_status make_directory(struct creation *creation, struct bk_error *error) {
    enum bk_status status = bk_tenant_create(creation->context->tenants, creation->name, error);
    if (status != BK_OK)
        return status;
    status = BK_FAILPOINT("tenants.after_directory");
    if (status == BK_OK)
        status = tenants_marker_set(creation->context, creation->name, error);
    if (status != BK_OK)
        bk_tenant_delete(creation->context->tenants, creation->name, on_forgotten, NULL);
    return status;
}

void tenants_create(struct bk_request *request) {
    struct bk_module_context *context = request->module;
    struct bk_error error = BK_ERROR_INIT;
    struct creation *creation = bk_arena_alloc_zero(&request->arena, sizeof *creation);
    creation->request = request;
    creation->context = context;
    creation->name = bk_json_get_string(request->json, BK_SLICE("name"));
    check_name(creation);
    check_superuser(creation);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "Failed to create the tenant.");
        return;
    }
    enum bk_status status = make_directory(creation, &error);
    if (status == BK_BUSY) {
        bk_log_info(&context->log, "tenant_not_created", BK_STRING("tenant", creation->name),
                    BK_TEXT("reason", error.message));
        bk_answer_error(request, status,
                        "A tenant of this name is being deleted, or too many files are open: try "
                        "again.");
        return;
    }
    if (status != BK_OK) {
        bk_log_error(&context->log, "tenant_not_created", BK_STRING("tenant", creation->name),
                     BK_TEXT("reason", error.message));
        bk_answer_error(request, status, NULL);
        return;
    }
    bk_buffer_init(&creation->body, TENANTS_BODY_MAX_BYTES * 4);
    if (creation->superuser != NULL)
        make_superuser(creation);
    else
        make_record(creation);
}

/* --- view ------------------------------------------------------------------------------------- */

/* The record that the path names, by id or name; false when the request was answered instead. */
static bool find_record(struct bk_request *request, struct tenants_record *record) {
    struct bk_module_context *context = request->module;
    enum bk_status status = tenants_find(context, bk_request_parameter(request, BK_SLICE("tenant")),
                                         &request->arena, record);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
    return status == BK_OK;
}

static void on_viewed(struct bk_call *done) {
    struct forwarding *forwarding = bk_container_of(done, struct forwarding, call);
    forward(forwarding->request, done);
}

/* A call of the records route with the query of the request; path is what follows the route's. */
static struct forwarding *prepare_call(struct bk_request *request, struct bk_slice path,
                                       enum bk_method method, void (*done)(struct bk_call *call)) {
    struct forwarding *forwarding = bk_arena_alloc_zero(&request->arena, sizeof *forwarding);
    forwarding->request = request;
    forwarding->context = request->module;
    forwarding->target =
        bk_arena_format(&request->arena, TENANTS_RECORDS "%.*s%s%.*s", BK_SLICE_PRINT(path),
                        request->query.length > 0 ? "?" : "", BK_SLICE_PRINT(request->query));
    forwarding->writer = writer_for(request);
    forwarding->call = (struct bk_call){.actor = &forwarding->writer,
                                        .tenant = BK_SLICE("default"),
                                        .method = method,
                                        .target = forwarding->target,
                                        .done = done};
    return forwarding;
}

/* NULL: there is no such record, and the request was answered. */
static struct forwarding *begin_call(struct bk_request *request, enum bk_method method,
                                     void (*done)(struct bk_call *call)) {
    struct tenants_record record;
    if (!find_record(request, &record))
        return NULL;
    struct bk_slice path = bk_arena_format(&request->arena, "/%.*s", BK_SLICE_PRINT(record.id));
    struct forwarding *forwarding = prepare_call(request, path, method, done);
    forwarding->record = record;
    return forwarding;
}

void tenants_list(struct bk_request *request) {
    struct forwarding *forwarding = prepare_call(request, BK_SLICE_EMPTY, BK_GET, on_viewed);
    bk_api_call(forwarding->context->api, &forwarding->call);
}

void tenants_view(struct bk_request *request) {
    struct forwarding *forwarding = begin_call(request, BK_GET, on_viewed);
    if (forwarding != NULL)
        bk_api_call(forwarding->context->api, &forwarding->call);
}

/* --- update ----------------------------------------------------------------------------------- */

/* A tenant's name is its directory, and what clients were given: it stays. */
static bool keeps_name(struct bk_request *request, struct bk_slice name) {
    const struct bk_json *given = bk_json_get(request->json, BK_SLICE("name"));
    if (given == NULL || bk_slice_equal(given->string, name))
        return true;
    bk_problems_add(&request->problems, BK_SLICE("name"), "validation_not_changeable",
                    "A tenant's name cannot be changed.");
    bk_answer_problems(request, BK_INVALID, "Failed to update the tenant.");
    return false;
}

void tenants_update(struct bk_request *request) {
    struct forwarding *forwarding = begin_call(request, BK_PATCH, on_viewed);
    if (forwarding == NULL || !keeps_name(request, forwarding->record.name))
        return;
    forwarding->call.body = request->body;
    bk_api_call(forwarding->context->api, &forwarding->call);
}

/* --- delete ----------------------------------------------------------------------------------- */

static void on_directory_gone(void *user, enum bk_status status) {
    struct forwarding *forwarding = user;
    if (status == BK_OK || status == BK_NOT_FOUND) {
        bk_log_info(&forwarding->context->log, "tenant_deleted",
                    BK_STRING("tenant", forwarding->record.name));
        bk_answer_empty(forwarding->request);
        return;
    }
    bk_log_error(&forwarding->context->log, "tenant_directory_left",
                 BK_STRING("tenant", forwarding->record.name),
                 BK_TEXT("status", bk_status_name(status)));
    bk_answer_error(forwarding->request, status,
                    "The tenant is gone, but its directory could not be removed: the next start "
                    "tries again.");
}

static void on_record_gone(struct bk_call *done) {
    struct forwarding *forwarding = bk_container_of(done, struct forwarding, call);
    if (!is_success(done)) {
        tenants_marker_clear(forwarding->context, forwarding->record.name);
        forward(forwarding->request, done);
        return;
    }
    (void)BK_FAILPOINT("tenants.before_removal");
    bk_tenant_delete(forwarding->context->tenants, forwarding->record.name, on_directory_gone,
                     forwarding);
}

/* The deletion waits until nobody holds the tenant, and the request holds the one that it names,
 * maybe the same: it goes over to default. False: the request was answered. */
static bool let_go(struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    struct bk_tenant *home = bk_tenant_hold_open(context->tenants, BK_SLICE("default"));
    if (home == NULL) {
        bk_answer_error(request, BK_CLOSING, NULL);
        return false;
    }
    request->actor.tenant = bk_arena_copy(&request->arena, request->actor.tenant);
    if (request->actor_tenant != NULL)
        bk_tenant_release(request->actor_tenant);
    request->actor_tenant = NULL;
    bk_tenant_release(request->tenant);
    request->tenant = home;
    return true;
}

void tenants_delete(struct bk_request *request) {
    struct bk_error error = BK_ERROR_INIT;
    if (!let_go(request))
        return;
    if (bk_slice_is(bk_request_parameter(request, BK_SLICE("tenant")), "default")) {
        bk_answer_error(request, BK_INVALID, "The tenant default cannot be deleted.");
        return;
    }
    struct forwarding *forwarding = begin_call(request, BK_DELETE, on_record_gone);
    if (forwarding == NULL)
        return;
    enum bk_status status = BK_OK;
    if (bk_tenant_exists(forwarding->context->tenants, forwarding->record.name))
        status = tenants_marker_set(forwarding->context, forwarding->record.name, &error);
    if (status == BK_OK)
        status = BK_FAILPOINT("tenants.before_deletion");
    if (status == BK_OK) {
        bk_api_call(forwarding->context->api, &forwarding->call);
        return;
    }
    bk_log_error(&forwarding->context->log, "tenant_not_deleted",
                 BK_STRING("tenant", forwarding->record.name), BK_TEXT("reason", error.message));
    bk_answer_error(request, status, NULL);
}
