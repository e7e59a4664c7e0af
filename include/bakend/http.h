/*
 * The HTTP/1.1 transport (RFC 9110, RFC 9112): sockets in, requests to the api, answers out.
 *
 * Connections are kept alive and may pipeline: the next request is read when the one before it was
 * answered. A request whose framing is in any doubt is refused with 400 and its connection closed;
 * after any other error the connection goes on. Everything has a limit and a time, named below.
 *
 * Everything is on the loop.
 */
#ifndef BAKEND_HTTP_H
#define BAKEND_HTTP_H

#include "bakend/api.h"
#include "bakend/error.h"
#include "bakend/log.h"
#include "bakend/loop.h"

struct bk_http;

struct bk_http_options {
    struct bk_loop *loop;
    struct bk_api *api;
    struct bk_log log;
    /* Proxies whose X-Forwarded-For is believed: addresses or CIDR blocks ("10.0.0.0/8, ::1")
     * separated by commas. NULL: none. */
    const char *trusted_proxies;
    const struct bk_upgrader *upgrader; /* NULL: there are no message channels */
    /* At this many the next one waits until another goes; one that has been idle for 5 s is made
     * to. 0: what descriptors allow, but for those that are kept for all else. */
    uint32_t connections_max;
    uint32_t descriptors_kept; /* for files and connections of others; 128 by default */
    /* Of one client address, WebSockets too; one more is told 503 and closed. Not counted are
     * trusted proxies, 127.0.0.1 and ::1; of IPv6 the first 64 bits count. 0: half of
     * connections_max. */
    uint32_t connections_per_address_max;
    size_t line_max_bytes;         /* request line: 414 */
    size_t head_max_bytes;         /* request line and headers: 431 */
    size_t discard_max_bytes;      /* of an unwanted body, read so that the connection can go on */
    size_t buffered_max_bytes;     /* request bodies of all connections: 503 */
    size_t stream_queue_bytes;     /* past it bk_stream_write says to wait */
    size_t output_max_bytes;       /* of one connection, unsent: past it, it is cut */
    size_t output_total_max_bytes; /* of all: past it who holds most for longest is cut */
    size_t pending_max_bytes;      /* of all, sent ahead of answers: past it sockets are not read */
    uint32_t head_timeout_ms;      /* from the first byte of a head to its last: 408 */
    uint32_t body_timeout_ms;      /* without a byte of a body: 408 */
    uint32_t body_rate_min;        /* bytes a second, after the first body_timeout_ms: 408 */
    uint32_t idle_timeout_ms;      /* between requests */
    uint32_t write_timeout_ms;     /* a client that reads less than … */
    uint32_t read_rate_min;        /* … so many bytes a second is cut */
    uint32_t linger_timeout_ms;    /* after the last answer, for the client to close first */
};
/* The defaults: 8 KiB, 16 KiB, 1 MiB, 256 MiB, 256 KiB, 64 MiB, 256 MiB, 64 MiB, 10 s, 30 s,
 * 512 B/s, 75 s, 30 s, 512 B/s, 2 s. */
void bk_http_options_init(struct bk_http_options *options);

/* BK_INVALID when trusted_proxies cannot be read; *http is set on BK_OK only. Strings are
 * copied. */
enum bk_status bk_http_create(const struct bk_http_options *options, struct bk_http **http,
                              struct bk_error *error);

/* host: an address or a name ("127.0.0.1", "::1", "localhost"); NULL or "*": every address. port 0:
 * the system chooses. bound_port (may be NULL) gets the port. BK_IO or BK_INVALID with what to do
 * in error. */
enum bk_status bk_http_listen(struct bk_http *http, const char *host, uint16_t port,
                              uint16_t *bound_port, struct bk_error *error);
/* A control socket: mode 0600, its requests are the system's. A stale socket of that name is
 * replaced; the caller owns the folder (it holds its lock). Removed with the drain. */
enum bk_status bk_http_listen_control(struct bk_http *http, const char *path,
                                      struct bk_error *error);

/* Answers what runs with "Connection: close", and so what was sent already and lies unread in a
 * socket: listeners are closed after 40 ms, idle connections after 100 ms (with a shorter deadline
 * at once). After deadline_ms what is left is cut. drained comes once, never before this returns,
 * when every connection is closed and every request that the api was given has come back. */
void bk_http_drain(struct bk_http *http, uint32_t deadline_ms, void (*drained)(void *user),
                   void *user);
/* During a drain: cuts every connection now. */
void bk_http_force(struct bk_http *http);
/* After drained (or when it never listened). */
void bk_http_destroy(struct bk_http *http);

struct bk_http_figures {
    uint64_t accepted, refused; /* connections; requests refused for their framing or a limit */
    uint64_t timeouts;          /* of any kind but idle */
    uint64_t bytes_in, bytes_out;
    uint32_t connections, requests; /* open now, with the api now */
    uint64_t buffered_bytes;        /* request bodies in memory */
    uint64_t unsent_bytes;          /* answers in memory */
    uint64_t pending_bytes;         /* input that waits for the request before it */
    uint64_t overloads;             /* connections cut for output_total_max_bytes */
    uint64_t turned_away;           /* connections closed for connections_per_address_max */
};
struct bk_http_figures bk_http_figures(const struct bk_http *http);

#endif
