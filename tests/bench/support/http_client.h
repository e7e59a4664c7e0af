/*
 * A keep-alive HTTP/1.1 connection to a server on 127.0.0.1 with one request at a time, for
 * programs that wait in epoll or not at all. Answers have a Content-Length.
 */
#ifndef BENCH_HTTP_CLIENT_H
#define BENCH_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

enum { BENCH_ANSWER_BYTES = 32 * 1024 };

struct bench_http {
    int descriptor;
    bool is_waiting; /* for an answer */
    size_t length;
    char input[BENCH_ANSWER_BYTES + 1];
};

/* A TCP connection from an address of its own for each 8,192 of index: one address has not the
 * ports for many. Returns at once when it is not to block. */
int bench_connect(int port, unsigned index, bool is_blocking);
void bench_http_init(struct bench_http *client, int port);
/* authorization may be empty; body NULL for none. */
void bench_http_send(struct bench_http *client, const char *method, const char *path,
                     const char *authorization, const char *body);
/* Reads once, blocking when nothing is there. The body of the answer when that is complete, else
 * NULL; valid until the next call. Fails for any other status than 2xx. */
const char *bench_http_receive(struct bench_http *client);

#endif
