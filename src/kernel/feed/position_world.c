/*
 * The positions of the feed as a whole: its subscriptions to the bus, what it keeps of each open
 * tenant, the timers that all share, and the figures.
 *
 * Four subscriptions, "*" and "_*" in both phases, see every durable event once in each phase and
 * move that phase's head. They take events whose chain of causes was cut, too: a reader that causes
 * nothing may see them, and the others are kept from them here.
 *
 * A tenant is held open as long as one of its positions has something to do or to store. The hold
 * is given back in a task of its own, since that may close the tenant.
 */
#include "position_private.h"

#include "bakend/alloc.h"

enum { IDLE_MS = 60 * 1000 /* how often those that idle are stored */ };

struct feed_positions *feed_positions_of(const struct bk_feed *feed,
                                         const struct bk_tenant *tenant) {
    return tenant->slots[feed->positions->slot];
}

/* --- the hold of a tenant --------------------------------------------------------------------- */

static bool needs_tenant(const struct feed_positions *all) {
    if (all->store.is_writing || all->scan.step == FEED_SCAN_READING ||
        !bk_list_is_empty(&all->store.dirty))
        return true;
    return all->holding_count > 0 && !all->is_leaving;
}

static void on_release(struct bk_task *task) {
    struct feed_positions *all = bk_container_of(task, struct feed_positions, release);
    if (!all->is_held || needs_tenant(all))
        return;
    feed_scan_drop_rows(all);
    all->is_held = false;
    bk_tenant_release(all->tenant);
}

void feed_positions_settle(struct feed_positions *all) {
    if (all->is_closed)
        return;
    bool needs = needs_tenant(all);
    if (needs && !all->is_held) {
        all->is_held = true;
        bk_tenant_ref(all->tenant);
    } else if (!needs && all->is_held) {
        bk_loop_defer(all->feed->loop, &all->release);
    }
}

bool feed_positions_is_leaving(struct feed_positions *all) {
    if (!all->is_leaving && !bk_tenant_exists(all->tenant->tenants, all->tenant->name)) {
        all->is_leaving = true;
        feed_positions_settle(all);
    }
    return all->is_leaving;
}

/* --- tenants ---------------------------------------------------------------------------------- */

static enum bk_status on_tenant_open(struct bk_tenant *tenant, void **state, void *user,
                                     struct bk_error *error) {
    struct feed_position_world *world = user;
    struct feed_positions *all = bk_alloc_zero(sizeof *all);
    (void)error;
    all->feed = world->feed;
    all->tenant = tenant;
    bk_map_init(&all->names);
    bk_list_init(&all->all);
    bk_list_init(&all->link);
    bk_list_push(&world->tenants, &all->link);
    bk_task_init(&all->release, on_release);
    for (size_t i = 0; i < FEED_SIDE_COUNT; i++)
        all->sides[i] = (struct feed_side){.head = bk_journal_state(tenant->database).last,
                                           .live = bk_interests_create(),
                                           .behind = bk_interests_create()};
    feed_scan_init(all);
    feed_store_init(all);
    *state = all;
    return BK_OK;
}

void feed_positions_destroy(struct feed_positions *all) {
    BK_ASSERT(bk_list_is_empty(&all->all));
    bk_task_cancel(&all->store.task);
    bk_timer_close(all->store.timer);
    bk_map_fini(&all->names);
    bk_free(all);
}

/* Readers close their positions before. A last write may still be under way when this returns. */
static void on_tenant_close(struct bk_tenant *tenant, void *state, void *user) {
    struct feed_positions *all = state;
    (void)tenant;
    (void)user;
    bk_list_remove(&all->link);
    bk_task_cancel(&all->release);
    feed_scan_fini(all);
    for (size_t i = 0; i < FEED_SIDE_COUNT; i++) {
        bk_interests_destroy(all->sides[i].live);
        bk_interests_destroy(all->sides[i].behind);
    }
    if (all->is_held)
        bk_tenant_release(all->tenant);
    all->is_held = false;
    feed_store_close(all);
}

/* --- timers ----------------------------------------------------------------------------------- */

static void on_idle(struct bk_timer *timer, void *user) {
    struct feed_position_world *world = user;
    (void)timer;
    BK_LIST_FOR_EACH(node, &world->tenants) {
        struct feed_positions *all = bk_container_of(node, struct feed_positions, link);
        if (!feed_positions_is_leaving(all))
            feed_store_touch_idle(all);
    }
}

void bk_feed_flush(struct bk_feed *feed) {
    BK_LIST_FOR_EACH(node, &feed->positions->tenants) {
        struct feed_positions *all = bk_container_of(node, struct feed_positions, link);
        feed_store_touch_idle(all);
        feed_store_hurry(all);
    }
}

/* --- life cycle ------------------------------------------------------------------------------- */

static void subscribe(struct feed_position_world *world, size_t side, size_t which) {
    static const struct bk_slice patterns[] = {BK_SLICE_INIT("*"), BK_SLICE_INIT("_*")};
    struct feed_subscription *own = &world->subscriptions[side][which];
    own->world = world;
    own->side = side;
    own->subscription =
        (struct bk_subscription){.name = "feed.positions",
                                 .phase = (enum bk_phase)(BK_PHASE_FUNCTIONS + side),
                                 .pattern = patterns[which],
                                 .takes_cut = true,
                                 .on_event = feed_position_on_bus};
    enum bk_status status = bk_bus_subscribe(world->bus, &own->subscription);
    BK_ASSERT(status == BK_OK);
}

struct feed_position_world *feed_position_world_create(struct bk_feed *feed, struct bk_bus *bus,
                                                       struct bk_tenants *tenants) {
    struct feed_position_world *world = bk_alloc_zero(sizeof *world);
    struct bk_tenant_slot slot = {.name = "positions",
                                  .migrations = feed_position_migrations,
                                  .migration_count = feed_position_migration_count,
                                  .on_open = on_tenant_open,
                                  .on_close = on_tenant_close,
                                  .user = world};
    world->feed = feed;
    world->bus = bus;
    world->slot = bk_tenants_add_slot(tenants, &slot);
    world->retry_first_ms = BK_POSITION_RETRY_FIRST_MS;
    world->retry_max_ms = BK_POSITION_RETRY_MAX_MS;
    bk_list_init(&world->tenants);
    bk_list_init(&world->kinds);
    bk_list_init(&world->waiting);
    world->retry = bk_timer_create(feed->loop, feed_position_on_retry, world);
    world->idle = bk_timer_create(feed->loop, on_idle, world);
    bk_timer_set_background(world->idle);
    bk_timer_start(world->idle, IDLE_MS, IDLE_MS);
    for (size_t side = 0; side < FEED_SIDE_COUNT; side++)
        for (size_t which = 0; which < BK_COUNT_OF(world->subscriptions[side]); which++)
            subscribe(world, side, which);
    return world;
}

void feed_position_world_destroy(struct feed_position_world *world) {
    struct bk_list *node;
    BK_ASSERT(bk_list_is_empty(&world->tenants) && bk_list_is_empty(&world->waiting));
    for (size_t side = 0; side < FEED_SIDE_COUNT; side++)
        for (size_t which = 0; which < BK_COUNT_OF(world->subscriptions[side]); which++)
            bk_bus_unsubscribe(world->bus, &world->subscriptions[side][which].subscription);
    while ((node = bk_list_pop(&world->kinds)) != NULL)
        bk_free(bk_container_of(node, struct feed_kind, link));
    bk_timer_close(world->retry);
    bk_timer_close(world->idle);
    bk_free(world);
}

/* --- figures ---------------------------------------------------------------------------------- */

static void add_tenant(const struct feed_positions *all, const struct feed_kind *kind,
                       struct bk_position_figures *figures) {
    for (const struct bk_list *node = all->all.next; node != &all->all; node = node->next) {
        const struct feed_position *own =
            bk_const_container_of(node, struct feed_position, all_link);
        if (own->kind != kind || own->position == NULL)
            continue;
        struct bk_position_facts facts = bk_position_facts(own->position);
        figures->states[facts.state]++;
        if (facts.lag > figures->lag_max)
            figures->lag_max = facts.lag;
    }
}

size_t bk_feed_position_figures(const struct bk_feed *feed, struct bk_position_figures *figures,
                                size_t count) {
    const struct feed_position_world *world = feed->positions;
    size_t used = 0;
    BK_LIST_FOR_EACH(kind_node, &world->kinds) {
        const struct feed_kind *kind = bk_container_of(kind_node, struct feed_kind, link);
        if (used == count)
            break;
        figures[used] = (struct bk_position_figures){.kind = kind->name,
                                                     .handed = kind->handed,
                                                     .acknowledged = kind->acknowledged,
                                                     .failed = kind->failed,
                                                     .lost = kind->lost};
        BK_LIST_FOR_EACH(node, &world->tenants) {
            add_tenant(bk_container_of(node, struct feed_positions, link), kind, &figures[used]);
        }
        used++;
    }
    return used;
}
