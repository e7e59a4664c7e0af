/*
 * A peer on 127.0.0.1 for what this program asks of other machines: each connection is served by a
 * function of the test, in a thread of its own, with plain blocking calls. And the asking side:
 * requests that remember what became of them.
 */
#ifndef BAKEND_TESTS_PEER_FIXTURE_H
#define BAKEND_TESTS_PEER_FIXTURE_H

#include "support.h"

#include "bakend/outbound.h"

enum { SUPPORT_PEER_TEXT_BYTES = 64 * 1024, SUPPORT_PEER_CONNECTIONS_MAX = 64 };

/* --- the peer --------------------------------------------------------------------------------- */

struct support_peer;

struct support_connection {
    struct support_peer *peer;
    int socket;
    uint32_t index; /* of the peer's connections */
    char *text;     /* what was read and not yet taken, NUL-terminated */
    size_t text_length;
};

struct support_peer *support_peer_start(void (*serve)(struct support_connection *connection),
                                        void *user);
/* Ends what is still being served. */
void support_peer_stop(struct support_peer *peer);
uint16_t support_peer_port(const struct support_peer *peer);
void *support_peer_user(const struct support_peer *peer);
uint32_t support_peer_connection_count(struct support_peer *peer);
/* A port of 127.0.0.1 where nobody listens. */
uint16_t support_closed_port(void);
/* Listens, but its queue is full: the kernel drops who wants to connect. */
struct support_full_listener;
struct support_full_listener *support_full_listener_create(void);
uint16_t support_full_listener_port(const struct support_full_listener *listener);
void support_full_listener_destroy(struct support_full_listener *listener);

/* Reads up to and with the mark, which may be NULL: up to the end. The text is NUL-terminated and
 * lasts until the next read; NULL: the connection ended before. */
const char *support_connection_read(struct support_connection *connection, const char *mark);
/* Waits for more text to stand in the connection; false: it ended. */
bool support_connection_peek(struct support_connection *connection);
/* Exactly so many bytes; false: the connection ended before. */
bool support_connection_skip(struct support_connection *connection, size_t length);
/* False: the other side is gone. */
bool support_connection_send(struct support_connection *connection, const char *text);
bool support_connection_send_bytes(struct support_connection *connection, const void *data,
                                   size_t length);
/* Until the other side is gone or the peer stops. */
void support_connection_hang(struct support_connection *connection);
/* So that the other side sees an end in the middle (RST). */
void support_connection_reset(struct support_connection *connection);

/* --- the asking side -------------------------------------------------------------------------- */

struct support_exchange {
    struct bk_outbound_request request;
    struct bk_smtp smtp;
    char url[256];
    bool is_done;
    uint32_t done_count;
    /* Copies of the answer. */
    char answer[SUPPORT_PEER_TEXT_BYTES];
    char reason[512];
    char header[256]; /* of the name in header_name */
    const char *header_name;
};

/* A GET, zeroed but for that, of http://127.0.0.1:port/path. */
void support_exchange_init(struct support_exchange *exchange, uint16_t port, const char *path);
/* A mail to 127.0.0.1:port, one recipient, no login, no TLS. */
void support_exchange_init_mail(struct support_exchange *exchange, uint16_t port);
/* Submits it, which must succeed, and runs the loop until it is done. */
void support_exchange_run(struct support_exchange *exchange, struct bk_loop *loop,
                          struct bk_outbound_channel *channel);
void support_exchange_submit(struct support_exchange *exchange,
                             struct bk_outbound_channel *channel);

/* The operators' own: any address, plain text too. */
struct bk_outbound_policy support_trusting_policy(void);
/* Closes and runs the loop until it is closed; returns how long that took. */
uint64_t support_channel_close_ms(struct bk_outbound_channel *channel, struct bk_loop *loop);

#endif
