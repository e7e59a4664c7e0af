/* What the files of the feed share: its state, the tail of a tenant and the judging of events. */
#ifndef BAKEND_FEED_PRIVATE_H
#define BAKEND_FEED_PRIVATE_H

#include "bakend/feed.h"

/* --- the tail: the newest events of one tenant, in memory ------------------------------------- */

struct feed_tail {
    struct bk_event **events; /* a ring */
    uint32_t head, count, capacity;
    uint64_t first_sequence; /* of the oldest one; those that follow are contiguous */
    size_t bytes, max_bytes;
};

void feed_tail_init(struct feed_tail *tail, size_t max_bytes);
void feed_tail_fini(struct feed_tail *tail);
/* Keeps a reference to each. events are in order. */
void feed_tail_append(struct feed_tail *tail, struct bk_event *const *events, size_t event_count);
/* NULL when it is not in the tail. */
struct bk_event *feed_tail_get(const struct feed_tail *tail, uint64_t sequence);

/* --- what the feed keeps of an open tenant ---------------------------------------------------- */

struct feed_tenant {
    struct feed_tail tail;
    struct bk_list pins; /* bk_feed_pin.link */
};

struct feed_tenant *feed_tenant_of(const struct bk_feed *feed, const struct bk_tenant *tenant);

/* pins.c: how far the journal may be pruned by age. */
uint64_t feed_pins_prunable(void *user, struct bk_database *database);

/* --- judging: does a query ask for an event? -------------------------------------------------- */

bool feed_query_matches(const struct bk_feed_query *query, struct bk_slice type,
                        struct bk_slice subject);

/* --- pages: what a read gathers, from whichever source ---------------------------------------- */

/* Accounts for the next event of the range in the direction of the read. False: the page ended
 * before it, since it does not fit any more. json is empty when the bytes are to be made from
 * fields. */
bool feed_page_take(struct bk_feed_read *read, const struct bk_event_fields *fields,
                    struct bk_slice json);
/* True when the page has as many events as were asked for. */
bool feed_page_is_full(const struct bk_feed_read *read);
/* Rows looked at. */
uint64_t feed_page_row_count(const struct bk_feed_read *read);

/* On a reader thread: the rest of the page, read->from..to, from the journal. */
enum bk_status feed_journal_run(struct bk_connection *connection, struct bk_read *read);

/* position_world.c: all positions of all tenants. After the feed's own slot. */
struct feed_position_world;
struct feed_position_world *feed_position_world_create(struct bk_feed *feed, struct bk_bus *bus,
                                                       struct bk_tenants *tenants);
void feed_position_world_destroy(struct feed_position_world *world);

struct bk_feed {
    struct bk_loop *loop;
    struct bk_store *store;
    struct bk_bus_tap tap;
    struct bk_log log;
    uint32_t slot;
    size_t tail_max_bytes;
    struct bk_feed_figures figures;
    struct feed_position_world *positions;
};

#endif
