/*
 * Events: what happened, as every part of the program sees it. An event is one allocation,
 * immutable, reference-counted across threads. `json` is its bytes as made once by the writer;
 * nobody parses or writes the payload again:
 *
 *   {"id":"evt_…","type":"posts.created","timestamp":"2026-06-08T12:00:00.000Z",
 *    "source":"collections","payload":{…},"tenant":"default","subject":"posts/abc","sequence":1,
 *    "actor":"users/abc","version":1
 *    [,"previous":{…}][,"cause":"evt_…"][,"omitted":["body"]]}
 *
 * A transient event has no sequence: the key is left out. The same function makes these bytes for a
 * new event and for one read back from the journal, so they are equal.
 */
#ifndef BAKEND_EVENT_H
#define BAKEND_EVENT_H

#include "bakend/buffer.h"
#include "bakend/status.h"

enum {
    BK_EVENT_BYTES_MAX = 256 * 1024, /* of payload and previous together */
    BK_EVENT_TYPE_BYTES_MAX = 300,
    BK_CAUSE_DEPTH_MAX = 8, /* a longer chain of causes is cut */
};

/* What an event consists of. Slices are borrowed. JSON texts are compact and valid. */
struct bk_event_fields {
    uint64_t sequence;      /* 0: transient */
    int64_t timestamp_ms;   /* wall time */
    uint32_t version;       /* of the type's schema, from 1 */
    uint32_t depth;         /* length of its chain of causes; 0: caused by a request */
    struct bk_slice id;     /* "evt_…" */
    struct bk_slice type;   /* noun.verb */
    struct bk_slice source; /* the module that made it */
    struct bk_slice tenant;
    struct bk_slice subject;  /* the aggregate, "posts/abc"; may be empty */
    struct bk_slice actor;    /* "users/abc", "key/…", "system", "guest" */
    struct bk_slice cause;    /* event id or empty */
    struct bk_slice payload;  /* JSON text; never empty */
    struct bk_slice previous; /* JSON object text or empty */
    struct bk_slice omitted;  /* JSON array text or empty */
    struct bk_slice
        hidden; /* JSON object of hidden fields or empty; in memory only, never in json */
    struct bk_slice hidden_previous; /* likewise, former values of those that changed */
};

struct bk_event {
    struct bk_event_fields fields; /* point into this allocation */
    struct bk_slice json;          /* likewise */
    int reference_count;           /* atomic; use ref and unref */
};

/* Appends the bytes. */
void bk_event_write_json(struct bk_buffer *out, const struct bk_event_fields *fields);
/* Copies the fields and makes the bytes, in one allocation with one reference. Any thread. */
struct bk_event *bk_event_create(const struct bk_event_fields *fields);
struct bk_event *bk_event_ref(struct bk_event *event);
void bk_event_unref(struct bk_event *event); /* NULL is fine */
/* Leaves out the largest top-level members of payload, then of previous, until both fit in
 * BK_EVENT_BYTES_MAX; names them in omitted. Texts are replaced by ones in the buffer scratch. Does
 * nothing when they fit. */
enum bk_status bk_event_fit(struct bk_event_fields *fields, struct bk_buffer *scratch);
/* A type: 1..300 bytes, dot-separated words of [A-Za-z0-9_], at least two. */
bool bk_event_type_is_valid(struct bk_slice type);

/* --- patterns of types, the vocabulary of feed, bus, realtime and webhooks -------------------- */

/* "posts.created"; "users.*" ('*' as the last word: all the rest, one word or more); "*.created"
 * ('*' elsewhere: one word); "*": all but those that begin with '_'; "_*": all that begin with
 * '_'. */
bool bk_event_pattern_is_valid(struct bk_slice pattern);
bool bk_event_pattern_matches(struct bk_slice pattern, struct bk_slice type);

#endif
