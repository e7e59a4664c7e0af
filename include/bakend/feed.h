/*
 * The feed: how readers follow the journal. One shared tail of recent events in memory per tenant,
 * filled in commit order by the bus; further back, the journal in pages on a reader thread. Readers
 * hold a cursor and nothing else: there is no queue per reader, and nobody waits for a reader.
 *
 * Cursor: opaque text, base64url of version (1 byte), epoch (8), sequence (8, big endian) and a
 * check (3, over the rest), 27 characters. Valid with any filter and on every surface.
 * It stands right behind the event of its sequence: reading forward begins with the next one,
 * reading backward with that one.
 */
#ifndef BAKEND_FEED_H
#define BAKEND_FEED_H

#include "bakend/bus.h"
#include "bakend/interest.h"

struct bk_feed;

enum {
    BK_CURSOR_BYTES = 27,
    BK_FEED_LIMIT_MAX = 1000,
    BK_FEED_SCAN_MAX = 10000,
    BK_FEED_PAGE_BYTES_MAX =
        4 * 1024 * 1024,              /* a page ends before the event that would exceed it */
    BK_FEED_PAGE_MARGIN_BYTES = 1024, /* left free in the caller's buffer, for its own end */
};

void bk_cursor_make(char out[BK_CURSOR_BYTES], const uint8_t epoch[8], uint64_t sequence);
/* False when text is no cursor. */
bool bk_cursor_parse(struct bk_slice text, uint8_t epoch[8], uint64_t *sequence);

/* tail_max_bytes bounds the events kept in memory per tenant. Registers a tenant slot and a bus
 * tap. */
struct bk_feed *bk_feed_create(struct bk_loop *loop, struct bk_bus *bus, struct bk_tenants *tenants,
                               struct bk_log log, size_t tail_max_bytes);
void bk_feed_destroy(struct bk_feed *feed);

/* What to read: the one vocabulary of feed, realtime, webhooks and consumers. Borrowed during the
 * read. */
struct bk_feed_query {
    const struct bk_slice *types; /* patterns; none: "*" */
    size_t type_count;
    struct bk_slice subject;          /* empty: any */
    const struct bk_event_test *test; /* of what has the type and the subject; NULL: none */
    struct bk_slice
        after;      /* a cursor, "start", "now", an RFC 3339 time; empty: "start" ascending, the
                                head descending */
    uint32_t limit; /* events, 1..BK_FEED_LIMIT_MAX */
    bool is_descending;
};

enum bk_feed_problem {
    BK_FEED_NO_PROBLEM,
    BK_FEED_CURSOR_INVALID,       /* 400 cursor_invalid */
    BK_FEED_CURSOR_IN_FUTURE,     /* 400 cursor_in_future */
    BK_FEED_CURSOR_EPOCH_CHANGED, /* 409 cursor_epoch_changed */
    BK_FEED_CURSOR_EXPIRED,       /* 410 cursor_expired: what comes next was pruned */
};

struct bk_feed_read;
/* Writes one event of a page. Any thread: touches nothing but out and the read's user. json is
 * empty when the bytes are to be made of fields (bk_event_write_json). is_first: of its page. */
typedef void (*bk_feed_write_cb)(struct bk_feed_read *read, struct bk_buffer *out,
                                 const struct bk_event_fields *fields, struct bk_slice json,
                                 bool is_first);

/* Embed it. */
struct bk_feed_read {
    struct bk_tenant *tenant; /* the caller holds it */
    struct bk_feed_query query;
    struct bk_buffer
        *events; /* the caller's: the events' bytes, separated by commas, are appended */
    bk_feed_write_cb write_event; /* NULL: the event's bytes, separated by commas */
    size_t write_bytes_max; /* that write_event writes beyond the event's bytes; 0 without one */
    void *user;
    void (*done)(struct bk_feed_read *read, enum bk_status status);
    /* The result. */
    enum bk_feed_problem problem; /* with BK_INVALID, BK_CONFLICT or BK_GONE */
    uint64_t first_sequence,
        last_sequence;      /* the range looked at; first = last + 1 when it is empty */
    uint64_t next_sequence; /* for the cursor: the page after this one begins behind it */
    uint64_t skipped;       /* looked at and not asked for */
    uint32_t event_count;
    bool has_more; /* the head was not reached (descending: the oldest) */
    /* The feed's. */
    struct bk_read journal_read;
    struct bk_task task;
    struct bk_feed *feed;
    uint64_t from, to;
    int64_t after_ms;
    size_t start_length;
    bool is_time, is_lenient;
};
/* done comes once, never before this returns. At most BK_FEED_SCAN_MAX rows are looked at.
 * BK_TOO_LARGE when the buffer does not take even the first event; else what does not fit is left
 * to the next page. */
void bk_feed_read(struct bk_feed *feed, struct bk_feed_read *read);
/* One event by its id, its bytes appended to events (event_count 0 or 1); BK_NOT_FOUND, BK_GONE.
 * Only query.after is used: the id. */
void bk_feed_get(struct bk_feed *feed, struct bk_feed_read *read);

/* Turns "start", "now" or a cursor into the sequence of the event that it stands behind. A time
 * takes a read: BK_NOT_SUPPORTED, like anything that is none of these. */
enum bk_status bk_feed_resolve(struct bk_tenant *tenant, struct bk_slice after, uint64_t *sequence,
                               enum bk_feed_problem *problem);

/* Keeps the events behind its sequence from being pruned by age. Past retention_max_bytes it keeps
 * nothing: what it needs next is pruned, and it is lost. Embed it; only while its tenant is
 * open. */
struct bk_feed_pin {
    uint64_t sequence; /* the caller may move it */
    /* Once, when what comes next was pruned. May unpin it. May be NULL. */
    void (*on_lost)(struct bk_feed_pin *pin);
    struct bk_list link;
    bool is_lost;
};
void bk_feed_pin(struct bk_feed *feed, struct bk_tenant *tenant, struct bk_feed_pin *pin);
/* Harmless when it is not pinned. */
void bk_feed_unpin(struct bk_feed_pin *pin);

struct bk_feed_figures {
    uint64_t tail_reads, journal_reads, tail_events, tail_bytes;
};
struct bk_feed_figures bk_feed_figures(const struct bk_feed *feed);

#endif
