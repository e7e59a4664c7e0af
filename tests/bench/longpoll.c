/*
 * Readers of the change feed that wait: from a create to the answers of all long polls.
 *
 *   longpoll PORT TOKEN WAITERS SECONDS PATH TYPES
 *
 * Each of the waiters asks `GET /api/events?wait=60` after the last event it saw. When all wait, a
 * record is created by POST to PATH with the time in a text of it; the delay of an answer is from
 * there to its receipt, so that the create and its commit are part of it. Prints P50_MS P95_MS
 * P99_MS MAX_MS EVENTS.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "http_client.h"
#include "measure.h"

enum {
    WAITERS_MAX = 4096,
    EVENTS_MAX = 256,
    CURSOR_BYTES = 128,
    SETTLE_NS = 5 * 1000 * 1000, /* in which the polls that were sent begin to wait */
    TIMEOUT_MS = 30000,
};

struct waiter {
    struct bench_http http;
    char after[CURSOR_BYTES];
};

static const char *authorization, *types;
static struct waiter *waiters;
static struct bench_http sender;
static struct bench_delays delays;
static int poll_descriptor;
static size_t waiter_count, answered_count;

static void copy_next(const char *body, char *out) {
    static const char member[] = "\"next\":\"";
    const char *found = strstr(body, member);
    size_t length = found != NULL ? strcspn(found += sizeof(member) - 1, "\"") : CURSOR_BYTES;
    if (length >= CURSOR_BYTES)
        bench_fail("no cursor in %s", body);
    memcpy(out, found, length);
    out[length] = '\0';
}

static void ask(struct waiter *waiter) {
    char path[512];
    snprintf(path, sizeof(path), "/api/events?wait=60&types=%s&after=%s", types, waiter->after);
    bench_http_send(&waiter->http, "GET", path, authorization, NULL);
}

static void on_readable(struct waiter *waiter) {
    static const char stamp[] = "stamp=";
    const char *body = bench_http_receive(&waiter->http);
    if (body == NULL)
        return;
    const char *found = strstr(body, stamp);
    copy_next(body, waiter->after);
    if (found != NULL) {
        bench_delays_add(&delays, bench_now_ns() - strtoull(found + sizeof(stamp) - 1, NULL, 10));
        answered_count++;
    }
    ask(waiter);
}

static void create_and_await(const char *path) {
    struct epoll_event events[EVENTS_MAX];
    char body[256];
    answered_count = 0;
    snprintf(body, sizeof(body), "{\"email\":\"john@example.com\",\"name\":\"stamp=%llu\"}",
             (unsigned long long)bench_now_ns());
    bench_http_send(&sender, "POST", path, "", body);
    while (answered_count < waiter_count || sender.is_waiting) {
        int count = epoll_wait(poll_descriptor, events, EVENTS_MAX, TIMEOUT_MS);
        if (count <= 0)
            bench_fail("%zu of %zu polls were answered", answered_count, waiter_count);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 < waiter_count)
                on_readable(&waiters[events[i].data.u64]);
            else
                bench_http_receive(&sender);
        }
    }
}

static void begin(int port) {
    char path[64] = "/api/events?limit=1&after=now", after[CURSOR_BYTES];
    const char *body;
    bench_http_init(&sender, port);
    bench_http_send(&sender, "GET", path, authorization, NULL);
    while ((body = bench_http_receive(&sender)) == NULL)
        continue;
    copy_next(body, after);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = waiter_count};
    epoll_ctl(poll_descriptor, EPOLL_CTL_ADD, sender.descriptor, &event);
    for (size_t i = 0; i < waiter_count; i++) {
        bench_http_init(&waiters[i].http, port);
        event.data.u64 = i;
        epoll_ctl(poll_descriptor, EPOLL_CTL_ADD, waiters[i].http.descriptor, &event);
        memcpy(waiters[i].after, after, sizeof(after));
        ask(&waiters[i]);
    }
}

int main(int argument_count, char **arguments) {
    if (argument_count != 7)
        bench_fail("usage: longpoll PORT TOKEN WAITERS SECONDS PATH TYPES");
    authorization = arguments[2];
    types = arguments[6];
    waiter_count = (size_t)bench_number(arguments[3], 1, WAITERS_MAX);
    bench_raise_descriptors(waiter_count + 64);
    waiters = calloc(waiter_count, sizeof(*waiters));
    poll_descriptor = epoll_create1(0);
    if (waiters == NULL || poll_descriptor < 0)
        bench_fail("no memory");
    bench_delays_init(&delays);
    begin((int)bench_number(arguments[1], 1, 65535));
    uint64_t end_ns = bench_now_ns() + (uint64_t)bench_number(arguments[4], 1, 3600) * 1000000000;
    long events = 0;
    for (; bench_now_ns() < end_ns; events++) {
        nanosleep(&(struct timespec){.tv_nsec = SETTLE_NS}, NULL);
        create_and_await(arguments[5]);
    }
    printf("%.3f %.3f %.3f %.3f %ld\n", bench_delays_at(&delays, 0.5),
           bench_delays_at(&delays, 0.95), bench_delays_at(&delays, 0.99),
           bench_delays_at(&delays, 1), events);
    return 0;
}
