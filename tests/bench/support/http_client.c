/* See http_client.h. */
#define _GNU_SOURCE /* strcasestr */
#include "http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

enum { CONNECTIONS_PER_ADDRESS = 8192, REQUEST_BYTES = 8192 };

int bench_connect(int port, unsigned index, bool is_blocking) {
    struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr = {htonl(INADDR_LOOPBACK + index / CONNECTIONS_PER_ADDRESS)}};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int descriptor = socket(AF_INET, SOCK_STREAM | (is_blocking ? 0 : SOCK_NONBLOCK), 0), one = 1;
    /* Ended with a reset: a run leaves no ports that wait. */
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (descriptor < 0)
        bench_fail("socket: %s", strerror(errno));
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    if (bind(descriptor, (struct sockaddr *)&from, sizeof(from)) != 0)
        bench_fail("bind: %s", strerror(errno));
    if (connect(descriptor, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)
        bench_fail("connect: %s", strerror(errno));
    return descriptor;
}

void bench_http_init(struct bench_http *client, int port) {
    client->descriptor = bench_connect(port, 0, true);
    client->is_waiting = false;
    client->length = 0;
}

void bench_http_send(struct bench_http *client, const char *method, const char *path,
                     const char *authorization, const char *body) {
    char request[REQUEST_BYTES];
    if (client->is_waiting)
        bench_fail("%s %s: the answer before is not in", method, path);
    int length = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s%s%s",
                          method, path, authorization[0] != '\0' ? "Authorization: " : "",
                          authorization, authorization[0] != '\0' ? "\r\n" : "");
    if (body != NULL)
        length += snprintf(request + length, sizeof(request) - (size_t)length,
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                           strlen(body), body);
    else
        length += snprintf(request + length, sizeof(request) - (size_t)length, "\r\n");
    if (length >= REQUEST_BYTES)
        bench_fail("%s %s: the request is too long", method, path);
    if (write(client->descriptor, request, (size_t)length) != length)
        bench_fail("%s %s: write: %s", method, path, strerror(errno));
    client->is_waiting = true;
    client->length = 0;
}

const char *bench_http_receive(struct bench_http *client) {
    char *input = client->input;
    ssize_t count =
        read(client->descriptor, input + client->length, BENCH_ANSWER_BYTES - client->length);
    if (count <= 0)
        bench_fail("the server ended a connection: %s", count < 0 ? strerror(errno) : "closed");
    client->length += (size_t)count;
    input[client->length] = '\0';
    const char *end = strstr(input, "\r\n\r\n"), *field = strcasestr(input, "\r\ncontent-length:");
    if (end == NULL)
        return NULL;
    if (strncmp(input, "HTTP/1.1 2", 10) != 0 || field == NULL || field > end)
        bench_fail("not the answer that was expected: %s", input);
    size_t needed = (size_t)(end + 4 - input) + strtoul(field + 17, NULL, 10);
    if (needed > BENCH_ANSWER_BYTES)
        bench_fail("an answer of %zu bytes is too long", needed);
    if (client->length < needed)
        return NULL;
    client->is_waiting = false;
    return end + 4;
}
