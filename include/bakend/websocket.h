/*
 * The WebSocket transport (RFC 6455): connections that the HTTP transport hands over, as message
 * channels of the api.
 *
 * What goes to many is one frame, made once, of which each connection queues a pointer; a turn's
 * frames leave with one writev per connection. Server frames are not masked, so the bytes are the
 * same for all. A connection that idles owns no buffer. One timer serves all: pings, close
 * handshakes, and peers that are gone.
 *
 * Everything is on the loop.
 */
#ifndef BAKEND_WEBSOCKET_H
#define BAKEND_WEBSOCKET_H

#include "bakend/api.h"
#include "bakend/log.h"
#include "bakend/loop.h"

struct bk_websockets;

struct bk_websocket_options {
    struct bk_loop *loop;
    struct bk_api *api; /* for metrics; NULL: none */
    struct bk_log log;
    size_t message_max_bytes;  /* received, all fragments together: 1009 */
    size_t queue_max_bytes;    /* to send, of one connection: past it BK_BUSY */
    size_t queued_max_bytes;   /* likewise of all that are not shared: past it BK_BUSY */
    uint32_t ping_interval_ms; /* a peer that was silent so long is pinged … */
    uint32_t pong_timeout_ms;  /* … and gone when it stays silent so long: 1006 */
    uint32_t close_timeout_ms; /* for the peer's answer to our close frame */
    uint32_t write_timeout_ms; /* a peer that takes nothing for so long is cut: 1006 */
};
/* The defaults: 64 KiB, 1 MiB, 256 MiB, 25 s, 20 s, 5 s, 30 s. */
void bk_websocket_options_init(struct bk_websocket_options *options);

struct bk_websockets *bk_websockets_create(const struct bk_websocket_options *options);
/* For the HTTP transport; lives as long as the websockets. */
const struct bk_upgrader *bk_websockets_upgrader(struct bk_websockets *websockets);
/* Takes no more connections. Those that are left are closed with 1001 when deadline_ms is over, and
 * cut soon after; those whose handler closes them earlier (see bk_drain_hook) are gone by then.
 * drained comes once, never before this returns, when there are none. */
void bk_websockets_drain(struct bk_websockets *websockets, uint32_t deadline_ms,
                         void (*drained)(void *user), void *user);
/* During a drain: cuts every connection now. */
void bk_websockets_force(struct bk_websockets *websockets);
/* There are no connections by now. */
void bk_websockets_destroy(struct bk_websockets *websockets);

struct bk_websocket_figures {
    uint64_t accepted, refused;         /* handshakes */
    uint64_t messages_in, messages_out; /* out: given to a socket */
    uint64_t bytes_in, bytes_out;
    uint64_t violations;   /* connections ended for breaking the protocol */
    uint64_t timeouts;     /* peers that were gone */
    uint32_t connections;  /* now */
    uint64_t queued_bytes; /* waiting to be sent, shared ones counted for each */
};
struct bk_websocket_figures bk_websockets_figures(const struct bk_websockets *websockets);

#endif
