/* An HTTP server with a few routes on a loop, and clients that write raw bytes to it. */
#ifndef BAKEND_TESTS_HTTP_FIXTURE_H
#define BAKEND_TESTS_HTTP_FIXTURE_H

#include "support.h"

#include "bakend/http.h"

/*
 * The routes:
 *   GET  /api/hello       {"hello":"world"}
 *   GET  /api/big         BIG_BYTES of 'x'
 *   POST /api/echo        the body, at most ECHO_BYTES_MAX
 *   POST /api/json        the JSON body's text
 *   GET  /api/address     the client's address and whether it came over the control socket
 *   GET  /api/later       answered by support_http_answer_later
 *   GET  /api/wait        likewise, and wants to be told when the client goes away
 *   GET  /api/stream      three pieces, each in a turn of its own
 *   GET  /api/flood       writes as fast as the client reads, until FLOOD_BYTES
 */
enum {
    SUPPORT_HTTP_BIG_BYTES = 100000,
    SUPPORT_HTTP_ECHO_BYTES_MAX = 64 * 1024,
    SUPPORT_HTTP_FLOOD_BYTES = 16 * 1024 * 1024,
};

struct support_http {
    struct bk_loop *loop;
    struct bk_api *api;
    struct bk_http *http;
    uint16_t port;
    bool is_drained;
    struct bk_request *later;                      /* the request that waits, or NULL */
    uint32_t later_count, abort_count, stop_count; /* stop: times that flood was told to wait */
};

/* configure (may be NULL) changes the options before the server starts. */
void support_http_start(struct support_http *server, void (*configure)(struct bk_http_options *));
void support_http_stop(struct support_http *server);
void support_http_answer_later(struct support_http *server);

struct support_client {
    struct support_http *server;
    int socket;
    char *data; /* all that came, NUL-terminated */
    size_t length, capacity;
    bool has_eof, was_reset;
};

void support_client_connect(struct support_client *client, struct support_http *server);
void support_client_connect_path(struct support_client *client, struct support_http *server,
                                 const char *path);
void support_client_close(struct support_client *client);
void support_client_send(struct support_client *client, const char *text);
void support_client_send_bytes(struct support_client *client, const void *data, size_t length);
/* No more will be sent. */
void support_client_half_close(struct support_client *client);
/* Runs the loop until count times text has come; fails when the connection ends before that. */
void support_client_wait_count(struct support_client *client, const char *text, size_t count);
void support_client_wait(struct support_client *client, const char *text);
/* Runs the loop until the server has closed. */
void support_client_wait_end(struct support_client *client);
/* Runs the loop until so many bytes have come. */
void support_client_wait_bytes(struct support_client *client, size_t length);
size_t support_client_count(const struct support_client *client, const char *text);
/* Forgets what came. */
void support_client_clear(struct support_client *client);

#endif
