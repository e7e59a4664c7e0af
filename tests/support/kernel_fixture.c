/* The store is the real one: what stands on it is tested with commits, threads and files as they
 * are. */
#include "kernel_fixture.h"

#include "bakend/loop.h"

/* No page is to be shorter because the machine, a sanitizer or valgrind is slow. */
enum { OPEN_MAX = 8, READ_DEADLINE_MS = 60 * 1000 };

static void create_store(struct support_kernel *kernel) {
    kernel->store = bk_store_create(&kernel->store_options);
    kernel->tenants =
        bk_tenants_create(kernel->store, (struct bk_log){0}, kernel->directory, OPEN_MAX);
}

void support_kernel_create(struct support_kernel *kernel, const struct bk_store_options *options) {
    *kernel = (struct support_kernel){.loop = bk_loop_create()};
    kernel->directory = support_directory_create();
    bk_store_options_init(&kernel->store_options);
    kernel->store_options.read_deadline_ms = READ_DEADLINE_MS;
    if (options != NULL)
        kernel->store_options = *options;
    kernel->store_options.loop = kernel->loop;
    create_store(kernel);
}

void support_kernel_restart(struct support_kernel *kernel) {
    bk_tenants_destroy(kernel->tenants);
    bk_store_destroy(kernel->store);
    create_store(kernel);
}

struct waiting_hold {
    struct bk_tenant_hold hold;
    bool is_done;
    enum bk_status status;
};

static void on_held(struct bk_tenant_hold *hold, enum bk_status status) {
    struct waiting_hold *waiting = bk_container_of(hold, struct waiting_hold, hold);
    waiting->is_done = true;
    waiting->status = status;
}

struct bk_tenant *support_kernel_hold(struct support_kernel *kernel, struct bk_slice name) {
    struct waiting_hold waiting = {.hold.done = on_held};
    if (!bk_tenant_exists(kernel->tenants, name))
        assert_int_equal(bk_tenant_create(kernel->tenants, name, NULL), BK_OK);
    bk_tenant_hold(kernel->tenants, name, &waiting.hold);
    support_loop_run_until(kernel->loop, &waiting.is_done);
    if (waiting.status != BK_OK)
        print_error("%s\n", waiting.hold.error.message);
    assert_int_equal(waiting.status, BK_OK);
    return waiting.hold.tenant;
}

void support_kernel_open(struct support_kernel *kernel) {
    kernel->tenant = support_kernel_hold(kernel, BK_SLICE("default"));
}

static void on_flag(void *user) { *(bool *)user = true; }

void support_kernel_close(struct support_kernel *kernel) {
    bool is_closed = false;
    if (kernel->tenant != NULL)
        bk_tenant_release(kernel->tenant);
    kernel->tenant = NULL;
    bk_tenants_close(kernel->tenants, on_flag, &is_closed);
    support_loop_run_until(kernel->loop, &is_closed);
}

void support_kernel_destroy(struct support_kernel *kernel) {
    void *state = kernel->loop;
    bk_tenants_destroy(kernel->tenants);
    bk_store_destroy(kernel->store);
    support_directory_remove(kernel->directory);
    assert_int_equal(support_loop_teardown(&state), 0);
}

struct emitting_write {
    struct bk_write write;
    const struct bk_event_draft *draft;
    uint32_t count;
    bool is_done;
    enum bk_status status;
};

static enum bk_status run_emit(struct bk_transaction *transaction, struct bk_write *write) {
    struct emitting_write *emitting = bk_container_of(write, struct emitting_write, write);
    for (uint32_t i = 0; i < emitting->count; i++) {
        enum bk_status status = bk_transaction_emit(transaction, emitting->draft);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

static void on_emitted(struct bk_write *write, enum bk_status status) {
    struct emitting_write *emitting = bk_container_of(write, struct emitting_write, write);
    emitting->is_done = true;
    emitting->status = status;
}

enum bk_status support_kernel_emit(struct support_kernel *kernel, struct bk_tenant *tenant,
                                   const struct bk_event_draft *draft, uint32_t count,
                                   const struct bk_origin *origin) {
    struct emitting_write emitting = {
        .write = {.origin = origin, .run = run_emit, .done = on_emitted},
        .draft = draft,
        .count = count};
    enum bk_status status = bk_store_write(tenant->database, &emitting.write);
    if (status != BK_OK)
        return status;
    support_loop_run_until(kernel->loop, &emitting.is_done);
    return emitting.status;
}
