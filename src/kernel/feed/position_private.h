/* What the files of the positions share. All of it is on the loop, but for the rows of a scan and
 * the items of a write while they are on their threads. */
#ifndef BAKEND_POSITION_PRIVATE_H
#define BAKEND_POSITION_PRIVATE_H

#include "bakend/position.h"
#include "feed_private.h"

#include "bakend/map.h"

enum {
    FEED_SIDE_COUNT = 2, /* the phases that positions live in: functions and plugins */
    FEED_SCAN_ROWS_MAX = 1000,
    FEED_SCAN_BYTES_MAX = 1024 * 1024, /* of a page of the journal; its first event may be larger */
    FEED_STORE_ITEMS_MAX = 1000,       /* positions in one write: about 10 ms of the writer */
};

/* --- one position ----------------------------------------------------------------------------- */

enum feed_stored {
    FEED_STORED_UNKNOWN, /* its row was not looked for */
    FEED_STORED_NOT,     /* there is none that counts */
    FEED_STORED
};

/* Lives from the opening until it is closed and stored. */
struct feed_position {
    struct bk_position *position; /* NULL: closed, and being stored */
    struct feed_positions *of;
    struct feed_kind *kind;
    struct bk_slice name;    /* in this allocation */
    struct bk_list all_link; /* feed_positions.all */
    struct bk_list link;     /* of the behind or the waiting ones */
    struct bk_list dirty_link;
    struct bk_feed_pin pin;
    enum bk_position_state state;
    uint32_t generation; /* of its caller's view: what was handed before a seek or a close is old */
    uint32_t calls;      /* of on_event under way */
    bool is_stray;       /* the name was taken: it only waits to say so */
    bool is_holding;     /* counted in of->holding_count */
    /* What it has handed over: the sequences that are not acknowledged, ascending. The first
     * handed_count are in the reader's hands; those after them failed and come again. */
    uint64_t *hand;
    uint32_t hand_count, handed_count, hand_capacity;
    uint64_t next; /* behind all of hand; see feed_position_next */
    uint64_t page; /* the page of the scan that it takes part in; 0: none */
    uint32_t failures;
    uint64_t failed_sequence, due_ms; /* of the last failure; when it goes on */
    /* Storing. */
    enum feed_stored stored_state;
    uint64_t stored; /* the sequence in its row */
    bool is_dirty, is_in_flight, is_dropped;
    uint32_t store_failures; /* since it was closed */
    /* Opening. */
    struct bk_task opening;
    void (*opened)(struct bk_position *position, enum bk_status status,
                   enum bk_feed_problem problem);
};

/* --- the positions of one tenant -------------------------------------------------------------- */

struct feed_side {
    uint64_t head;        /* the newest event that was dispatched in this phase */
    uint64_t dispatching; /* the one being dispatched; 0: none */
    struct bk_interests *live, *behind;
};

enum feed_scan_step { FEED_SCAN_IDLE, FEED_SCAN_SCHEDULED, FEED_SCAN_READING, FEED_SCAN_HANDING };

struct feed_scan {
    enum feed_scan_step step;
    struct bk_list behind; /* feed_position.link; the first is served next */
    struct bk_task task;
    struct bk_timer *resume;
    /* The page under way: at … last are still to be handed. */
    uint64_t number, at, last;
    uint32_t participant_count;
    /* The page of the journal that was read last; a full position may go on in it. */
    struct bk_read read;
    uint64_t from, to; /* what was asked for */
    struct bk_event **rows;
    uint32_t row_count;
    size_t row_bytes;
    uint64_t first_row; /* its sequence; the others follow without a gap */
};

struct feed_store_item {
    struct feed_position *own;
    uint64_t sequence;
    bool is_deletion;
};

struct feed_store {
    struct bk_list dirty; /* feed_position.dirty_link */
    struct bk_timer *timer;
    struct bk_task task;
    bool is_timed, is_urgent, is_writing;
    struct bk_write write;
    struct feed_store_item *items;
    size_t item_count;
};

struct feed_positions {
    struct bk_feed *feed;
    struct bk_tenant *tenant;
    struct bk_list link; /* feed_position_kind.tenants */
    struct bk_map names;
    struct bk_list all;
    struct feed_side sides[FEED_SIDE_COUNT];
    struct feed_scan scan;
    struct feed_store store;
    struct bk_task release;
    uint32_t holding_count; /* positions that hold the tenant open */
    bool is_held;
    bool is_leaving; /* the tenant is being deleted: it waits for nobody */
    bool is_closed;  /* only its last write is under way */
};

/* --- of the feed ------------------------------------------------------------------------------ */

struct feed_kind {
    struct bk_list link;
    const char *name;
    uint64_t handed, acknowledged, failed, lost;
};

struct feed_subscription {
    struct bk_subscription subscription;
    struct feed_position_world *world;
    size_t side;
};

/* All positions. */
struct feed_position_world {
    struct bk_feed *feed;
    struct bk_bus *bus;
    uint32_t slot;
    struct feed_subscription subscriptions[FEED_SIDE_COUNT][2]; /* "*" and "_*" */
    struct bk_list tenants;                                     /* feed_positions.link */
    struct bk_list kinds;
    struct bk_list waiting; /* feed_position.link, of all tenants */
    struct bk_timer *retry;
    uint64_t retry_at_ms; /* when it runs; 0: it does not */
    struct bk_timer *idle;
    uint32_t retry_first_ms, retry_max_ms; /* tests shorten them */
    uint64_t visits;                       /* of positions, for events */
};

/* position.c */
struct feed_side *feed_position_side(const struct feed_position *own);
/* The first event that it has not seen, leaving out those that come again. */
uint64_t feed_position_next(const struct feed_position *own);
/* The first event that it has to be handed: one that comes again, or the next. */
uint64_t feed_position_place(const struct feed_position *own);
uint64_t feed_position_watermark(const struct feed_position *own);
void feed_position_move(struct feed_position *own, enum bk_position_state state);
/* Goes on: live when it has seen all, else behind. */
void feed_position_wake(struct feed_position *own);
void feed_position_lose(struct feed_position *own);
/* After anything that changed whether it holds its tenant; frees it when nothing is left to do.
 * The tenant is released in a task. */
void feed_position_settle(struct feed_position *own);
/* What it begins with is stored, or cannot be. */
void feed_position_opened(struct feed_position *own);
void feed_position_refuse(struct feed_position *own, enum bk_status status,
                          enum bk_feed_problem problem);
/* position_world.c */
struct feed_positions *feed_positions_of(const struct bk_feed *feed,
                                         const struct bk_tenant *tenant);
void feed_positions_settle(struct feed_positions *all);
/* Notices that the tenant is being deleted: then nobody is waited for. */
bool feed_positions_is_leaving(struct feed_positions *all);
void feed_positions_destroy(struct feed_positions *all);

/* position_hand.c */
enum bk_status feed_position_on_bus(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                    struct bk_event *event);
/* To all behind ones that take part in the page. */
void feed_position_hand_scanned(struct feed_positions *all, struct bk_event *event);
void feed_position_wait(struct feed_position *own);
void feed_position_on_retry(struct bk_timer *timer, void *user);

/* position_store.c */
extern const struct bk_migration feed_position_migrations[];
extern const size_t feed_position_migration_count;
/* Finds where it was stored; BK_OK in any case but a failure. */
enum bk_status feed_position_find(struct feed_position *own);
/* It has something to store, soon or at once. */
void feed_position_touch(struct feed_position *own);
void feed_store_hurry(struct feed_positions *all);
/* Those that idle and have moved on are stored too. */
void feed_store_touch_idle(struct feed_positions *all);
void feed_store_init(struct feed_positions *all);
/* The tenant closes: what is dirty is written; frees all when that is done. */
void feed_store_close(struct feed_positions *all);

/* position_scan.c */
void feed_scan_init(struct feed_positions *all);
void feed_scan_fini(struct feed_positions *all);
void feed_scan_schedule(struct feed_positions *all);
/* A position came to stand behind: it takes part in the page under way when it stands in what is
 * left of it. */
void feed_scan_join(struct feed_position *own);
void feed_scan_leave(struct feed_position *own);
/* Nobody needs the rows that were kept. */
void feed_scan_drop_rows(struct feed_positions *all);

#endif
