/*
 * What the files of the transport share.
 *
 * A connection moves through these states; connection_move knows no other way:
 *
 *            ┌──────────────── answered, body read ────────────────────────────┐
 *            v                                                                 │
 *   ──> IDLE ──> HEAD ──> BODY ──> HANDLING ──> STREAMING ─────────────────────┤
 *                 │         │         └── answered before the body was read ──> DISCARDING
 *                 └─────────┴──────── may not go on ──> LINGERING ──> CLOSED
 *
 * CLOSED can come from anywhere: the client is gone or its time is up.
 */
#ifndef BAKEND_HTTP_PRIVATE_H
#define BAKEND_HTTP_PRIVATE_H

#include "bakend/http.h"
#include "bakend/map.h"
#include "chunks.h"
#include "gate.h"
#include "output.h"

#include <llhttp.h>
#include <uv.h>

enum {
    HTTP_READ_BUFFER_BYTES = 64 * 1024,
    HTTP_PENDING_BYTES_MAX = 64 * 1024, /* input that waits for the request before it */
    HTTP_SCARCE_READ_BYTES = 4 * 1024,  /* read at once when much of it waits already */
    HTTP_SPARE_EXCHANGES_MAX = 256,
    HTTP_SPARE_CONNECTIONS_MAX = 256,
    HTTP_ADDRESS_BYTES = 46,             /* an IPv6 address in text */
    HTTP_ADDRESS_KEY_BYTES = 16,         /* any address; IPv4 as ::ffff:a.b.c.d */
    HTTP_DATE_BYTES = 29,                /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    HTTP_CHUNK_OVERHEAD_BASE = 8 * 1024, /* of a chunked body: trailers, extensions … */
    HTTP_CHUNK_OVERHEAD_EACH = 64,       /* … and for each chunk its size line */
    HTTP_TICK_MS = 250,
    HTTP_KEEPALIVE_SECONDS = 60, /* a stream's peer that vanished without a word is found out */
};

enum http_state {
    HTTP_STATE_IDLE,
    HTTP_STATE_HEAD,       /* part of a head is here */
    HTTP_STATE_BODY,       /* the body is being read */
    HTTP_STATE_HANDLING,   /* the api has the request */
    HTTP_STATE_STREAMING,  /* likewise, and its answer has begun */
    HTTP_STATE_DISCARDING, /* answered; the rest of the body is thrown away */
    HTTP_STATE_LINGERING, /* nothing more is answered; the client is given time to read and close */
    HTTP_STATE_CLOSED
};

/* What a connection's time is measured by; each has one timeout, so each list is in order. */
enum http_clock {
    HTTP_CLOCK_NONE,
    HTTP_CLOCK_IDLE,
    HTTP_CLOCK_HEAD,
    HTTP_CLOCK_BODY,
    HTTP_CLOCK_LINGER,
    HTTP_CLOCK_COUNT
};

/* A request and what it borrows. It outlives its connection when the client goes away. */
struct http_exchange {
    struct bk_list link; /* among the spare ones */
    struct bk_request request;
    struct bk_http *http;
    struct http_connection *connection; /* NULL: gone */
    struct bk_buffer head, body;
    size_t body_max_bytes, counted_bytes; /* counted: in http->figures.buffered_bytes */
    size_t scanned, line_start;           /* of the head, so far */
    struct bk_header headers[BK_REQUEST_HEADERS_MAX];
    char address[HTTP_ADDRESS_BYTES];
    uint8_t address_length;
    bool is_body_too_large;
    bool is_chunked; /* the answer */
    bool waits_for_drain;
};

struct http_connection {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    uv_write_t write;
    uv_shutdown_t shutdown;
    llhttp_t parser;
    struct bk_http *http;
    struct http_exchange *exchange;
    struct bk_lease *lease; /* on the count of its address; NULL: not counted */
    struct http_output output;
    struct bk_buffer pending; /* received and not looked at yet */
    struct bk_slice behind;   /* while input is looked at: what follows the request; else NULL */
    struct bk_list link;      /* of all connections; or among the spare ones */
    struct bk_list clock_link, write_link, dirty_link;
    struct bk_task resume;
    uint64_t clock_since_ms, body_since_ms;
    uint64_t unsent_since_ms; /* while output waits for the client: since it does */
    uint64_t write_since_ms;  /* likewise: since the rate was judged */
    int64_t delivered_bytes;  /* likewise: that the client had by then */
    uint64_t written_bytes;   /* given to the socket, by writes that ended */
    size_t in_flight_bytes;   /* of output, in a uv_write */
    uint64_t body_bytes;      /* of this request's body, read so far */
    uint64_t wire_bytes;      /* likewise, as they came */
    uint64_t chunk_count;     /* likewise */
    uint64_t body_length;     /* Content-Length */
    struct http_chunks chunks;
    char address[HTTP_ADDRESS_BYTES];
    uint8_t address_length;
    uint8_t state, clock, minor_version;
    bool is_control, keeps_alive;
    bool has_chunked_body, expects_continue, is_body_complete, do_readers_agree;
    bool has_eof;       /* the client sends no more */
    bool is_paused;     /* we do not read for now */
    bool is_shut;       /* our FIN is on its way */
    bool may_skip_crlf; /* one empty line before a request line is forgiven (RFC 9112, 2.2) */
};

struct http_listener {
    struct bk_list link;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    struct bk_http *http;
    char *path;       /* of a control socket */
    bool has_waiting; /* a client waits that was not accepted, at the cap */
    bool is_control;
};

struct http_proxies;

struct bk_http {
    struct bk_http_options options;
    struct http_proxies *proxies;
    struct bk_map addresses; /* of clients with connections */
    struct bk_list listeners, connections;
    struct bk_list clocks[HTTP_CLOCK_COUNT], writing, dirty;
    struct bk_list spare_exchanges, spare_connections;
    uint32_t spare_exchange_count, spare_connection_count;
    uint32_t exchange_count, listener_count;
    struct http_block_pool blocks;
    size_t closing_bytes; /* of the blocks: held by connections that are cut, free in a moment */
    struct bk_turn_hook hook;
    struct bk_timer *timer;
    bool is_ticking;
    char *read_buffer;
    char date[HTTP_DATE_BYTES];
    uint64_t date_made_ms; /* of the loop's clock; 0: never */
    llhttp_settings_t parser_settings;
    struct bk_http_figures figures;
    struct bk_metrics_source metrics;
    uint64_t complained_ms; /* of the cap; 0: never */
    uint64_t complained_of_address_ms;
    bool is_draining, is_retired, is_drained;
    uint32_t retire_ticks; /* since the drain began */
    struct bk_timer *retire_timer;
    uint64_t drain_deadline_ms;
    struct bk_task drained_task;
    void (*drained)(void *user);
    void *drained_user;
};

/* connection.c */
void http_connection_accept(struct http_listener *listener);
void http_connection_move(struct http_connection *connection, enum http_state state);
/* Ends it at once; a request in the api is told that its client is gone. */
void http_connection_cut(struct http_connection *connection);
void http_connection_wind(struct http_connection *connection, enum http_clock clock);
/* Goes on with input that waited, later in this turn. */
void http_connection_resume(struct http_connection *connection);
/* Between requests: waits for the next one, or ends when there is to be none. */
void http_connection_rest(struct http_connection *connection);
/* Too much unsent to take on more work. */
bool http_connection_is_clogged(const struct http_connection *connection);

/* reading.c: looks at input; returns how much was used. Stops where a request has to be answered
 * first. */
size_t http_reading_consume(struct http_connection *connection, const char *data, size_t length);
void http_reading_init_parser(llhttp_settings_t *settings);
/* Answers a request that is no request and ends the connection after it. */
void http_reading_refuse(struct http_connection *connection, int status, const char *reason);

/* upgrading.c: hands the connection over to the upgrader. */
enum bk_status http_channel_accept(struct bk_request *request,
                                   const struct bk_channel_handler *handler, void *user,
                                   struct bk_channel **channel);
void http_channel_accepted(struct bk_request *request);

/* responding.c */
extern const struct bk_responder http_responder;
struct http_exchange *http_exchange_create(struct http_connection *connection);
/* After the answer, or for a request that never was one. */
void http_exchange_end(struct http_exchange *exchange);
void http_exchange_free(struct http_exchange *exchange);
void http_exchanges_fini(struct bk_http *http);

/* sending.c */
void http_sending_mark(struct http_connection *connection);
void http_sending_flush(struct http_connection *connection);
void http_sending_on_turn_end(struct bk_turn_hook *hook);
/* Sends what the socket takes at once; whether that was all there is. */
bool http_sending_finish(struct http_connection *connection);
/* Cuts the clients that read too slowly. */
void http_sending_check(struct bk_http *http);
/* Memory of what waits to be sent. */
size_t http_sending_held_bytes(const struct bk_http *http);

/* proxies.c */
struct http_proxies *http_proxies_create(const char *text, struct bk_error *error);
void http_proxies_destroy(struct http_proxies *proxies);
/* The client's address as the nearest trusted proxy tells it; peer where peer is no proxy. */
struct bk_slice http_proxies_client(const struct http_proxies *proxies, struct bk_slice peer,
                                    const struct bk_header *headers, uint32_t count);
bool http_proxies_trust(const struct http_proxies *proxies, struct bk_slice address);
bool http_address_read(struct bk_slice text, uint8_t out[HTTP_ADDRESS_KEY_BYTES], bool *is_ipv4);

/* addresses.c */
/* Counts a connection that was just accepted; false: its address has as many as it may have. */
bool http_address_enter(struct http_connection *connection);
/* Tells it so and ends it. */
void http_address_turn_away(struct http_connection *connection);

/* http.c */
void http_connection_closed(struct bk_http *http);
void http_check_drained(struct bk_http *http);
/* Accepts those that wait at the cap, as far as there is room again. */
void http_accept_waiting(struct bk_http *http);
void http_clocks_start(struct bk_http *http);
struct bk_slice http_date(struct bk_http *http);

#endif
