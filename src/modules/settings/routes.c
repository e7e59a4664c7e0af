/*
 * GET and PATCH /api/settings. A change is laid over what is stored inside the transaction that
 * stores it, so that of two at once none is lost:
 *
 *   writer  read → laid over → judged → written → settings.updated
 *   loop    what others use of it → the answer
 *
 * Neither the answer nor the event has a secret.
 */
#include "settings.h"

#define LIST "superuserIPs"

struct settings_change {
    struct bk_write write;
    struct bk_request *request;
    struct bk_settings shared;
    struct bk_slice unreadable; /* why it could not be read, in the request's arena */
};

static void write_shown(const struct bk_json *whole, struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_shape_write_members(&settings_shape, whole, out);
    bk_buffer_append_char(out, '}');
}

static void answer(struct bk_request *request, enum bk_status status) {
    if (status == BK_OK)
        status = bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}

void settings_view(struct bk_request *request) {
    struct bk_json *whole;
    struct bk_connection *connection = bk_store_read_now(request->tenant->database);
    enum bk_status status = BK_CLOSING;
    if (connection != NULL)
        status = settings_read(connection, &request->arena, &whole, NULL);
    if (status == BK_OK)
        write_shown(whole, &request->out);
    answer(request, status);
}

/* --- changing --------------------------------------------------------------------------------- */

static enum bk_status emit(struct bk_transaction *transaction, const struct bk_json *whole,
                           const struct bk_json *former) {
    struct bk_buffer payload, previous;
    bk_buffer_init(&payload, SETTINGS_BYTES_MAX);
    bk_buffer_init(&previous, SETTINGS_BYTES_MAX);
    write_shown(whole, &payload);
    write_shown(former, &previous);
    enum bk_status status = bk_buffer_status(&payload);
    if (status == BK_OK)
        status = bk_buffer_status(&previous);
    if (status == BK_OK) {
        const struct bk_event_draft draft = {.type = BK_SLICE("settings.updated"),
                                             .source = BK_SLICE("settings"),
                                             .subject = BK_SLICE("settings"),
                                             .payload = bk_buffer_slice(&payload),
                                             .previous = bk_buffer_slice(&previous)};
        status = bk_transaction_emit(transaction, &draft);
    }
    bk_buffer_fini(&payload);
    bk_buffer_fini(&previous);
    return status;
}

enum bk_status settings_store(struct bk_transaction *transaction, const struct bk_json *whole,
                              const struct bk_json *former) {
    enum bk_status status = settings_write(transaction, whole->text);
    return status == BK_OK ? emit(transaction, whole, former) : status;
}

/* Whoever changes the list may go on: a wrong one would lock out those who can mend it. The control
 * socket, to which the list does not apply, may set any. */
static void check_lock_out(struct bk_request *request, const struct bk_settings *shared) {
    struct bk_network own;
    uint32_t count = shared->superuser_network_count;
    if (request->is_control || count == 0 || bk_json_get(request->json, BK_SLICE(LIST)) == NULL ||
        bk_network_parse(request->remote_address, &own) != BK_OK)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (bk_network_contains(&shared->superuser_networks[i], own.address))
            return;
    struct bk_slice message =
        bk_arena_format(&request->arena, "It would lock you out: add your own address, %.*s.",
                        BK_SLICE_PRINT(request->remote_address));
    if (message.length > 0)
        bk_problems_add(&request->problems, BK_SLICE(LIST), "validation_locks_out", message.data);
}

/* May run again: begins anew. */
static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct settings_change *change = bk_container_of(write, struct settings_change, write);
    struct bk_request *request = change->request;
    struct bk_json *former, *whole;
    bk_problems_init(&request->problems, &request->arena);
    change->unreadable = BK_SLICE_EMPTY;
    enum bk_status status = settings_read(bk_transaction_connection(transaction),
                                          bk_transaction_arena(transaction), &former, NULL);
    if (status != BK_OK)
        return status;
    struct bk_error error = BK_ERROR_INIT;
    status = settings_lay(request->json, former, bk_transaction_arena(transaction), &whole, &error);
    if (status == BK_INVALID)
        change->unreadable = bk_arena_format(
            &request->arena, "An error occurred while loading the submitted data: %s.",
            error.message);
    if (status != BK_OK)
        return status;
    settings_check(whole, &request->problems);
    if (request->problems.count > 0)
        return BK_INVALID;
    bk_buffer_clear(&request->out);
    write_shown(whole, &request->out);
    settings_share(whole, &request->arena, &change->shared);
    check_lock_out(request, &change->shared);
    status = bk_arena_status(&request->arena);
    if (status == BK_OK && request->problems.count > 0)
        status = BK_INVALID;
    if (status != BK_OK)
        return status;
    if (bk_slice_equal(whole->text, former->text))
        return BK_OK;
    return settings_store(transaction, whole, former);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct settings_change *change = bk_container_of(write, struct settings_change, write);
    struct bk_request *request = change->request;
    const struct bk_module_context *context = request->module;
    struct settings_tenant *state = request->tenant->slots[context->tenant_slot];
    if (status == BK_OK)
        settings_keep(state, &change->shared);
    if (change->unreadable.length > 0)
        bk_answer_error(request, BK_INVALID, change->unreadable.data);
    else if (status == BK_INVALID)
        bk_answer_problems(request, status, "An error occurred while saving the new settings.");
    else
        answer(request, status);
}

void settings_update(struct bk_request *request) {
    struct settings_change *change = bk_arena_alloc_zero(&request->arena, sizeof *change);
    change->request = request;
    change->write.origin = &request->origin;
    change->write.run = on_run;
    change->write.done = on_done;
    enum bk_status status = bk_store_write(request->tenant->database, &change->write);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}
