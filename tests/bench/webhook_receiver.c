/*
 * What webhooks are posted to: takes each request, answers it with 200, and counts.
 *
 *   webhook_receiver PORT
 *
 * Prints PORT HOLE: its own port (of its choice when PORT is 0), and one that accepts and never
 * answers. Then one line of standard input is one question:
 *
 *   begin     forgets what was counted; answers "begun"
 *   figures   COUNT RATE P50_MS P95_MS P99_MS MAX_MS
 *
 * The rate is of the time from the first to the last request. Delays are those of requests whose
 * body has "stamp=" and a time of CLOCK_MONOTONIC in ns: from there to their receipt. Ends with its
 * input.
 */
#define _GNU_SOURCE /* strcasestr, memmem, accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

enum { EVENTS_MAX = 256, INPUT_BYTES = 512 * 1024, CONNECTIONS_MAX = 4096 };

struct peer {
    int descriptor;
    size_t length;
    char *input; /* INPUT_BYTES */
};

static struct bench_delays delays;
static uint64_t count, first_ns, last_ns;
static int poll_descriptor, listener, hole;

static int listen_on(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(descriptor, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(descriptor, 1024) != 0)
        bench_fail("port %d: %s", port, strerror(errno));
    return descriptor;
}

static int port_of(int descriptor) {
    struct sockaddr_in at;
    socklen_t length = sizeof(at);
    getsockname(descriptor, (struct sockaddr *)&at, &length);
    return ntohs(at.sin_port);
}

static void watch(int descriptor, void *what) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    if (epoll_ctl(poll_descriptor, EPOLL_CTL_ADD, descriptor, &event) != 0)
        bench_fail("epoll: %s", strerror(errno));
}

/* The hole's connections are left to the kernel. */
static void on_connection(int from) {
    int descriptor = accept4(from, NULL, NULL, SOCK_NONBLOCK), one = 1;
    if (descriptor < 0 || from == hole)
        return;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL || (peer->input = malloc(INPUT_BYTES + 1)) == NULL)
        bench_fail("no memory");
    peer->descriptor = descriptor;
    watch(descriptor, peer);
}

static void leave(struct peer *peer) {
    close(peer->descriptor);
    free(peer->input);
    free(peer);
}

static void note(const char *body, size_t length) {
    static const char stamp[] = "stamp=";
    uint64_t now_ns = bench_now_ns();
    const char *found = memmem(body, length, stamp, sizeof(stamp) - 1);
    if (count++ == 0)
        first_ns = now_ns;
    last_ns = now_ns;
    if (found != NULL)
        bench_delays_add(&delays, now_ns - strtoull(found + sizeof(stamp) - 1, NULL, 10));
}

/* Bytes of the request that is complete at the start of the input; 0: there is none yet. */
static size_t take_request(struct peer *peer) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    peer->input[peer->length] = '\0';
    const char *end = strstr(peer->input, "\r\n\r\n");
    const char *size = strcasestr(peer->input, "\r\ncontent-length:");
    if (end == NULL)
        return 0;
    size_t head = (size_t)(end + 4 - peer->input);
    size_t body = size != NULL && size < end ? strtoul(size + 17, NULL, 10) : 0;
    if (head + body > INPUT_BYTES)
        bench_fail("a request of %zu bytes", head + body);
    if (peer->length < head + body)
        return 0;
    note(peer->input + head, body);
    if (write(peer->descriptor, answer, sizeof(answer) - 1) < 0)
        return 0;
    return head + body;
}

static void on_readable(struct peer *peer) {
    ssize_t read_count =
        read(peer->descriptor, peer->input + peer->length, INPUT_BYTES - peer->length);
    if (read_count < 0 && errno == EAGAIN)
        return;
    if (read_count <= 0) {
        leave(peer);
        return;
    }
    peer->length += (size_t)read_count;
    for (size_t taken; (taken = take_request(peer)) > 0;) {
        peer->length -= taken;
        memmove(peer->input, peer->input + taken, peer->length);
    }
}

static void on_question(void) {
    char line[64];
    ssize_t length = read(STDIN_FILENO, line, sizeof(line) - 1);
    if (length <= 0)
        exit(0);
    line[length] = '\0';
    if (strncmp(line, "begin", 5) == 0) {
        bench_delays_reset(&delays);
        count = 0;
        puts("begun");
    } else {
        double seconds = (double)(last_ns - first_ns) / 1e9;
        printf("%llu %.1f %.3f %.3f %.3f %.3f\n", (unsigned long long)count,
               count > 1 && seconds > 0 ? (double)(count - 1) / seconds : 0,
               bench_delays_at(&delays, 0.5), bench_delays_at(&delays, 0.95),
               bench_delays_at(&delays, 0.99), bench_delays_at(&delays, 1));
    }
    fflush(stdout);
}

int main(int argument_count, char **arguments) {
    struct epoll_event events[EVENTS_MAX];
    if (argument_count != 2)
        bench_fail("usage: webhook_receiver PORT");
    bench_raise_descriptors(CONNECTIONS_MAX);
    bench_delays_init(&delays);
    poll_descriptor = epoll_create1(0);
    listener = listen_on((int)bench_number(arguments[1], 0, 65535));
    hole = listen_on(0);
    watch(listener, &listener);
    watch(hole, &hole);
    watch(STDIN_FILENO, NULL);
    printf("%d %d\n", port_of(listener), port_of(hole));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll_descriptor, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL)
                on_question();
            else if (events[i].data.ptr == &listener || events[i].data.ptr == &hole)
                on_connection(*(int *)events[i].data.ptr);
            else
                on_readable(events[i].data.ptr);
        }
    }
}
