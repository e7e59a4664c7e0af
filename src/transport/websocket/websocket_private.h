/*
 * What the files of the transport share.
 *
 * A connection moves through these states; websocket_connection_move knows no other way:
 *
 *   ──> OPEN ── bk_channel_close ──> CLOSING ─── the peer's close frame, or a violation ──┐
 *         │                                                                               v
 *         └───────────── the peer's close frame (it is answered), or a violation ──> ENDING
 *
 * CLOSED can come from anywhere: the peer is gone or its time is up. In ENDING nothing is listened
 * to: what is queued is sent, then our FIN, then the peer ends the connection or its time does.
 */
#ifndef BAKEND_WEBSOCKET_PRIVATE_H
#define BAKEND_WEBSOCKET_PRIVATE_H

#include "bakend/websocket.h"
#include "queue.h"
#include "reader.h"

#include <uv.h>

enum {
    /* libuv reads up to 32 times before others have their turn: half a megabyte of one peer. */
    WEBSOCKET_READ_BUFFER_BYTES = 16 * 1024,
    WEBSOCKET_PONGS_MAX = 16, /* in a queue; of further pings the newest is answered */
    WEBSOCKET_TICK_MS = 100,
    WEBSOCKET_TICK_PINGS_MAX = 1024,  /* pings of one tick: those of many go in portions */
    WEBSOCKET_TURN_FLUSHES_MAX = 128, /* of one turn, so that an event to many holds nobody up */
    WEBSOCKET_CUT_MS = 1000,          /* "soon after" the end of a drain */
};

enum websocket_state {
    WEBSOCKET_STATE_OPEN,
    WEBSOCKET_STATE_CLOSING, /* our close frame is queued or sent; the peer's has not come */
    WEBSOCKET_STATE_ENDING,
    WEBSOCKET_STATE_CLOSED
};

/* What a connection's time is measured by; each has one timeout, so each list is in order. */
enum websocket_clock {
    WEBSOCKET_CLOCK_NONE,
    WEBSOCKET_CLOCK_QUIET,   /* since the peer was heard */
    WEBSOCKET_CLOCK_PINGED,  /* since it was pinged, and not heard */
    WEBSOCKET_CLOCK_CLOSING, /* since the close frame, or the last of it */
    WEBSOCKET_CLOCK_COUNT
};

/* What came behind the handshake's request, until the channel's user is ready for it. */
struct websocket_early;

struct websocket_connection {
    struct bk_channel channel; /* handler NULL: on_close was called */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
    } socket;
    struct bk_websockets *websockets;
    struct bk_list link; /* of all connections */
    struct bk_list clock_link, write_link, dirty_link, drain_link;
    struct websocket_reader reader;
    struct websocket_queue queue;
    uv_write_t *write;             /* while libuv has part of the queue */
    struct bk_shared *newest_pong; /* of pings past WEBSOCKET_PONGS_MAX; NULL: none */
    struct websocket_early *early;
    struct bk_lease *lease; /* NULL: none */
    size_t first_sent;      /* bytes of the queue's first frame */
    size_t in_flight_bytes; /* of the queue, in write */
    uint64_t clock_since_ms;
    uint64_t unsent_since_ms; /* while output waits for the peer: since it does */
    uint64_t write_since_ms;  /* likewise: since it was judged */
    uint64_t written_bytes;   /* taken by the socket */
    int64_t delivered_bytes;  /* that the peer had when it was judged */
    uint32_t counted_bytes;   /* of the reader's memory, in websockets->gathered_bytes */
    uint16_t code;            /* as we closed it */
    uint8_t state, clock, pong_count;
    bool is_watched; /* on_drain is to be called */
    bool is_shut;    /* our FIN is on its way */
};

struct bk_websockets {
    struct bk_websocket_options options;
    struct bk_upgrader upgrader;
    struct bk_list connections;
    struct bk_list clocks[WEBSOCKET_CLOCK_COUNT], writing, dirty;
    struct bk_list drained_ones; /* to be told by drain_task */
    struct bk_list starved;      /* wait for own_bytes to fall */
    struct bk_task drain_task, more_task, drained_task;
    struct bk_turn_hook hook;
    struct bk_timer *timer;
    bool is_ticking;
    char *read_buffer;
    struct bk_shared *ping;
    size_t own_bytes;      /* queued frames that are not shared */
    size_t gathered_bytes; /* memory of messages that have come in part */
    struct bk_websocket_figures figures;
    struct bk_metrics_source metrics;
    bool is_draining, is_drained, has_sent_away;
    uint64_t drain_deadline_ms;
    void (*drained)(void *user);
    void *drained_user;
};

/* connection.c */
enum bk_status websocket_connection_take(void *user, struct bk_request *request, int descriptor,
                                         struct bk_lease *lease, struct bk_slice received,
                                         const struct bk_channel_handler *handler,
                                         void *channel_user, struct bk_channel **channel);
/* Our close frame behind what waits; nothing unless it is open. */
void websocket_connection_close(struct websocket_connection *connection, int code,
                                struct bk_slice reason);
/* The peer is gone, or is to be: ends it at once. */
void websocket_connection_break(struct websocket_connection *connection);
void websocket_connection_wind(struct websocket_connection *connection, enum websocket_clock clock);
/* All that was queued is sent. */
void websocket_connection_settle(struct websocket_connection *connection);

/* sending.c */
extern const struct bk_channel_operations websocket_operations;
/* A frame of its own, with one reference. */
struct bk_shared *websocket_frame_create(enum websocket_opcode opcode, struct bk_slice payload);
/* Takes the reference over; sent at the end of the turn. */
void websocket_sending_push(struct websocket_connection *connection, struct bk_shared *frame,
                            enum websocket_kind kind);
void websocket_sending_answer_ping(struct websocket_connection *connection,
                                   struct bk_slice payload);
/* The answer to the newest of the pings that were too many, if there were. */
void websocket_sending_queue_newest_pong(struct websocket_connection *connection);
/* Forgets all that is queued, of a connection that is closed. */
void websocket_sending_fini(struct websocket_connection *connection);
void websocket_sending_on_turn_end(struct bk_turn_hook *hook);
void websocket_sending_on_drain_task(struct bk_task *task);
/* Cuts the peers that take nothing. */
void websocket_sending_check(struct bk_websockets *websockets);

/* websockets.c */
void websocket_clocks_start(struct bk_websockets *websockets);
void websocket_check_drained(struct bk_websockets *websockets);

#endif
