/*
 * Cuts: an event whose chain of causes is BK_CAUSE_DEPTH_MAX long was kept from the phases that
 * could cause more, and bus.chain_cut is written about it: a durable event, so a write of its own
 * in the background lane. It stands at that depth itself and is never cut again, so that a cut
 * cannot lead to a cut.
 *
 *   in flight ── BK_BUSY ──> waits RETRY_MS ──> in flight …
 *       └── committed, or failed for good (logged) ──> gone
 *
 * At most CUTS_MAX are under way: a loop of functions makes many of them, and each says the same.
 * What is past that is logged and counted only.
 */
#include "bus_private.h"

#include "bakend/alloc.h"
#include "bakend/json.h"

enum { CUTS_MAX = 1024, RETRY_MS = 100, PAYLOAD_BYTES_MAX = 4096 };

struct cut {
    struct bk_write write;
    struct bk_list link;
    struct bk_bus *bus;
    struct bk_tenant *tenant;
    struct bk_event *event;
    struct bk_origin origin;
};

static const struct bk_slice cut_type = BK_SLICE_INIT("bus.chain_cut");
static const struct bk_slice cut_source = BK_SLICE_INIT("bus");

bool bus_is_cut(const struct bk_event *event) {
    return bk_slice_equal(event->fields.type, cut_type) &&
           bk_slice_equal(event->fields.source, cut_source);
}

static void drop_cut(struct cut *cut) {
    cut->bus->cut_count--;
    bk_event_unref(cut->event);
    bk_tenant_release(cut->tenant);
    bk_free(cut);
}

/* On the writer. */
static enum bk_status run_cut(struct bk_transaction *transaction, struct bk_write *write) {
    struct cut *cut = bk_container_of(write, struct cut, write);
    const struct bk_event_fields *fields = &cut->event->fields;
    struct bk_buffer payload;
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    bk_buffer_append_char(&payload, '{');
    bk_json_write_member_string(&payload, BK_SLICE("event"), fields->id);
    bk_json_write_member_string(&payload, BK_SLICE("type"), fields->type);
    bk_json_write_member_int(&payload, BK_SLICE("depth"), fields->depth);
    bk_buffer_append_char(&payload, '}');
    bk_buffer_insist(&payload);
    struct bk_event_draft draft = {
        .type = cut_type, .source = cut_source, .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

static void report_failure(struct cut *cut, enum bk_status status) {
    bk_log_error(&cut->bus->log, "chain_cut_not_written", BK_TEXT("status", bk_status_name(status)),
                 BK_STRING("tenant", cut->tenant->name), BK_STRING("id", cut->event->fields.id),
                 BK_STRING("type", cut->event->fields.type));
}

static void retry_later(struct cut *cut) {
    struct bk_bus *bus = cut->bus;
    if (bk_list_is_empty(&bus->cuts))
        bk_timer_start(bus->retry_cuts, RETRY_MS, 0);
    bk_list_push(&bus->cuts, &cut->link);
}

static void on_cut_done(struct bk_write *write, enum bk_status status) {
    struct cut *cut = bk_container_of(write, struct cut, write);
    if (status == BK_BUSY) {
        retry_later(cut);
        return;
    }
    if (status != BK_OK)
        report_failure(cut, status);
    drop_cut(cut);
}

static void submit_cut(struct cut *cut) {
    enum bk_status status = bk_store_write(cut->tenant->database, &cut->write);
    if (status != BK_OK)
        on_cut_done(&cut->write, status);
}

static void on_retry(struct bk_timer *timer, void *user) {
    (void)timer;
    struct bk_bus *bus = user;
    struct bk_list waiting;
    bk_list_init(&waiting);
    struct bk_list *node;
    while ((node = bk_list_pop(&bus->cuts)) != NULL)
        bk_list_push(&waiting, node);
    while ((node = bk_list_pop(&waiting)) != NULL)
        submit_cut(bk_container_of(node, struct cut, link));
}

void bus_cut_chain(struct bk_bus *bus, struct bk_tenant *tenant, struct bk_event *event) {
    BK_ASSERT(!bus_is_cut(event));
    bus->figures.chains_cut++;
    bk_log_warn(&bus->log, "chain_cut", BK_STRING("tenant", tenant->name),
                BK_STRING("id", event->fields.id), BK_STRING("type", event->fields.type),
                BK_INT("depth", event->fields.depth));
    if (bus->cut_count >= CUTS_MAX) {
        bus->figures.dropped++;
        return;
    }
    struct cut *cut = bk_alloc_zero(sizeof *cut);
    bk_tenant_ref(tenant);
    cut->bus = bus;
    cut->tenant = tenant;
    cut->event = bk_event_ref(event);
    cut->origin = (struct bk_origin){
        .actor = BK_SLICE("system"), .cause = event->fields.id, .depth = BK_CAUSE_DEPTH_MAX};
    cut->write = (struct bk_write){
        .lane = BK_LANE_BACKGROUND, .origin = &cut->origin, .run = run_cut, .done = on_cut_done};
    bk_list_init(&cut->link);
    bus->cut_count++;
    submit_cut(cut);
}

void bus_cuts_init(struct bk_bus *bus) {
    bk_list_init(&bus->cuts);
    bus->retry_cuts = bk_timer_create(bus->loop, on_retry, bus);
}

void bus_cuts_fini(struct bk_bus *bus) {
    BK_ASSERT(bus->cut_count == 0);
    bk_timer_close(bus->retry_cuts);
}
