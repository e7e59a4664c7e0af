/*
 * The ceiling of a fan-out: one thread that calls write() with the same bytes for each of the
 * sockets that wait, and nothing else: no journal, no bus, no rules, no queues, no limits. The
 * server is measured against it by the same clients (websocket_load.c).
 *
 *   fanout_ceiling PORT BYTES
 *
 * Takes any GET for a WebSocket, any short message for a subscription, and answers any POST; then
 * its body, padded with blanks until the frame has BYTES, goes to every WebSocket.
 */
#define _GNU_SOURCE /* accept4, memmem */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

enum {
    SOCKETS_MAX = 65536,
    EVENTS_MAX = 512,
    INPUT_BYTES = 16384,
    FRAME_BYTES_MAX = 65536 + 4,
    HEADER_BYTES = 4,    /* of a frame whose length has two bytes */
    PAYLOAD_LEAST = 126, /* below it the length would have none */
};

static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char created[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
static const char subscribed[] = "\x81\x12{\"id\":1,\"ok\":true}";

static int sockets[SOCKETS_MAX];
static size_t socket_count;
static uint8_t frame[FRAME_BYTES_MAX];
static size_t frame_bytes;

static void send_all(int descriptor, const void *data, size_t length) {
    if (write(descriptor, data, length) != (ssize_t)length)
        bench_fail("write: %s", strerror(errno));
}

/* What is measured. */
static void fan_out(const char *body, size_t length) {
    if (length > frame_bytes - HEADER_BYTES)
        bench_fail("a body of %zu bytes is longer than the frame", length);
    memset(frame + HEADER_BYTES, ' ', frame_bytes - HEADER_BYTES);
    memcpy(frame + HEADER_BYTES, body, length);
    for (size_t i = 0; i < socket_count; i++)
        send_all(sockets[i], frame, frame_bytes);
}

static void on_request(int descriptor, const char *input, size_t length) {
    if (memcmp(input, "GET ", 4) == 0) {
        if (socket_count == SOCKETS_MAX)
            bench_fail("too many connections");
        sockets[socket_count++] = descriptor;
        send_all(descriptor, upgraded, sizeof(upgraded) - 1);
    } else if (memcmp(input, "POST", 4) == 0) {
        const char *body = memmem(input, length, "\r\n\r\n", 4);
        if (body == NULL)
            bench_fail("a request came in parts");
        send_all(descriptor, created, sizeof(created) - 1);
        fan_out(body + 4, length - (size_t)(body + 4 - input));
    } else {
        send_all(descriptor, subscribed, sizeof(subscribed) - 1);
    }
}

static void on_readable(int descriptor) {
    char input[INPUT_BYTES];
    ssize_t length = read(descriptor, input, sizeof(input));
    if (length >= 4) {
        on_request(descriptor, input, (size_t)length);
        return;
    }
    close(descriptor);
    for (size_t i = 0; i < socket_count; i++)
        if (sockets[i] == descriptor)
            sockets[i--] = sockets[--socket_count];
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 1024) != 0)
        bench_fail("port %d: %s", port, strerror(errno));
    return listener;
}

static void on_connection(int poll_descriptor, int listener) {
    int descriptor = accept4(listener, NULL, NULL, 0), one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (descriptor < 0)
        bench_fail("accept: %s", strerror(errno));
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    epoll_ctl(poll_descriptor, EPOLL_CTL_ADD, descriptor, &event);
}

int main(int argument_count, char **arguments) {
    struct epoll_event events[EVENTS_MAX];
    if (argument_count != 3)
        bench_fail("usage: fanout_ceiling PORT BYTES");
    bench_raise_descriptors(1024);
    frame_bytes =
        (size_t)bench_number(arguments[2], HEADER_BYTES + PAYLOAD_LEAST, FRAME_BYTES_MAX - 1);
    frame[0] = 0x81;
    frame[1] = 126;
    frame[2] = (uint8_t)((frame_bytes - HEADER_BYTES) >> 8);
    frame[3] = (uint8_t)(frame_bytes - HEADER_BYTES);
    int listener = listen_on((int)bench_number(arguments[1], 1, 65535));
    int poll_descriptor = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poll_descriptor, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll_descriptor, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                on_connection(poll_descriptor, listener);
            else
                on_readable(events[i].data.fd);
        }
    }
}
