/* Opening and closing, stage by stage; see server.h for the order. */
#include "server.h"

#include "data_directory.h"

#include "bakend/crypto.h"
#include "bakend/file.h"
#include "bakend/position.h"

enum {
    AWAKE_MS = 1000,
    IDLE_CHECK_MS = 1,
    WORK_GRACE_MS = 10 * 1000 /* less than the end of the program may take (serve.c) */
};

static void on_awake(struct bk_timer *timer, void *user) {
    (void)timer;
    (void)user;
}

/* An answer may be under way on a thread whose mailbox does not keep the loop alive; the timer
 * does. */
void server_wait(struct server *server, const bool *flag) {
    struct bk_timer *awake = bk_timer_create(server->loop, on_awake, NULL);
    bk_timer_start(awake, AWAKE_MS, AWAKE_MS);
    bool is_set = bk_loop_run_until(server->loop, flag);
    BK_ASSERT(is_set);
    bk_timer_close(awake);
}

/* --- the tenant "default" --------------------------------------------------------------------- */

struct default_open {
    struct bk_tenant_hold hold;
    enum bk_status status;
    bool is_done;
};

static void on_default_held(struct bk_tenant_hold *hold, enum bk_status status) {
    struct default_open *open = bk_container_of(hold, struct default_open, hold);
    open->status = status;
    open->is_done = true;
}

static enum bk_status open_default(struct server *server, struct bk_error *error) {
    struct bk_slice name = BK_SLICE("default");
    if (!bk_tenant_exists(server->tenants, name)) {
        enum bk_status status = bk_tenant_create(server->tenants, name, error);
        if (status != BK_OK)
            return status;
    }
    struct default_open open = {.hold = {.done = on_default_held, .error = BK_ERROR_INIT}};
    bk_tenant_hold(server->tenants, name, &open.hold);
    server_wait(server, &open.is_done);
    if (open.status != BK_OK) {
        const char *message = open.hold.error.message;
        return bk_error_set(error, open.status, "tenant default: %s",
                            message[0] != '\0' ? message : bk_status_text(open.status));
    }
    server->default_tenant = open.hold.tenant;
    return BK_OK;
}

static void on_flag(void *user) {
    bool *flag = user;
    *flag = true;
}

struct idle_wait {
    const struct bk_bus *bus;
    bool is_idle;
};

static void on_idle_check(struct bk_timer *timer, void *user) {
    struct idle_wait *wait = user;
    (void)timer;
    wait->is_idle = bk_bus_is_idle(wait->bus);
}

/* The last facts reach their handlers while tenants are open. */
static void wait_for_bus(struct server *server) {
    struct idle_wait wait = {.bus = server->bus, .is_idle = bk_bus_is_idle(server->bus)};
    struct bk_timer *timer = bk_timer_create(server->loop, on_idle_check, &wait);
    bk_timer_start(timer, IDLE_CHECK_MS, IDLE_CHECK_MS);
    server_wait(server, &wait.is_idle);
    bk_timer_close(timer);
}

static void close_tenants(struct server *server) {
    bool is_closed = false;
    if (server->default_tenant != NULL)
        bk_tenant_release(server->default_tenant);
    server->default_tenant = NULL;
    bk_tenants_close(server->tenants, on_flag, &is_closed);
    server_wait(server, &is_closed);
}

/* --- work ------------------------------------------------------------------------------------- */

/* A program that does one thing and ends begins nothing that it would have to wait for. */
static void start_work(struct server *server) {
    if (!server->is_serving)
        return;
    bk_work_start(server->work);
    server->is_working = true;
}

static void stop_work(struct server *server) {
    bool is_stopped = false;
    if (!server->is_working)
        return;
    bk_work_stop(server->work, WORK_GRACE_MS, on_flag, &is_stopped);
    server_wait(server, &is_stopped);
    server->is_working = false;
}

static void close_work(struct server *server) {
    bool is_closed = false;
    bk_work_close(server->work, on_flag, &is_closed);
    server_wait(server, &is_closed);
}

/* --- stages ----------------------------------------------------------------------------------- */

static enum bk_status take_directory(struct server *server, bool *is_new_key,
                                     struct bk_error *error) {
    const char *path = server->options->data;
    size_t missing = data_directory_missing(path);
    enum bk_status status = data_directory_lock(path, &server->lock, error);
    if (status != BK_OK)
        return status;
    server->stage = SERVER_LOCKED;
    status = data_directory_read_key(path, server->instance_key, is_new_key, error);
    /* Where a key was, another process has been in between. */
    server->made_length = *is_new_key ? missing : 0;
    return status;
}

static enum bk_status open_stages(struct server *server, struct bk_error *error) {
    bool is_new_key = false;
    enum bk_status status = take_directory(server, &is_new_key, error);
    if (status == BK_OK)
        status = server_compose(server, error);
    if (status != BK_OK)
        return status;
    server->stage = SERVER_COMPOSED;
    if (is_new_key)
        bk_log_info(&server->log, "instance_key_created",
                    BK_TEXT("directory", server->options->data));
    server_register_modules(server);
    status = server_add_routes(server, error);
    if (status == BK_OK)
        status = server_init_modules(server, error);
    if (status != BK_OK)
        return status;
    server->stage = SERVER_INITIALISED;
    status = server_prepare_modules(server, error);
    if (status == BK_OK)
        status = open_default(server, error);
    if (status == BK_OK)
        status = server_start_modules(server, error);
    if (status == BK_OK) {
        server->stage = SERVER_OPEN;
        start_work(server);
    }
    return status;
}

enum bk_status server_open(struct server *server, struct bk_error *error) {
    BK_ASSERT(server->stage == SERVER_CLOSED && server->options != NULL);
    enum bk_status status = open_stages(server, error);
    if (status != BK_OK)
        server_abandon(server);
    return status;
}

static void close_stages(struct server *server) {
    if (server->stage >= SERVER_INITIALISED) {
        stop_work(server);
        server_stop_modules(server);
        wait_for_bus(server);
        bk_feed_flush(server->feed);
        close_tenants(server);
    }
    if (server->stage >= SERVER_COMPOSED) {
        close_work(server);
        server_fini_modules(server);
        server_decompose(server);
    }
    bk_crypto_wipe(server->instance_key, sizeof server->instance_key);
}

static void leave_directory(struct server *server) {
    if (server->stage >= SERVER_LOCKED)
        bk_file_unlock(server->lock);
    server->stage = SERVER_CLOSED;
    server->made_length = 0;
}

void server_close(struct server *server) {
    close_stages(server);
    leave_directory(server);
}

/* The lock is held until the directory is gone, so that no other process begins in it. */
void server_abandon(struct server *server) {
    close_stages(server);
    if (server->made_length > 0)
        data_directory_discard(server->options->data, server->made_length);
    leave_directory(server);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct waiting_call {
    struct bk_call call;
    struct bk_buffer *out;
    bool is_done;
};

static void on_call_done(struct bk_call *call) {
    struct waiting_call *waiting = bk_container_of(call, struct waiting_call, call);
    bk_buffer_append_slice(waiting->out, call->answer);
    waiting->is_done = true;
}

int server_call(struct server *server, struct bk_slice tenant, enum bk_method method,
                const char *target, struct bk_slice body, struct bk_buffer *out) {
    BK_ASSERT(server->stage == SERVER_OPEN);
    struct waiting_call waiting = {.call = {.actor = &bk_actor_system,
                                            .tenant = tenant,
                                            .method = method,
                                            .target = bk_slice_from(target),
                                            .body = body,
                                            .done = on_call_done},
                                   .out = out};
    bk_api_call(server->api, &waiting.call);
    server_wait(server, &waiting.is_done);
    return waiting.call.status;
}
