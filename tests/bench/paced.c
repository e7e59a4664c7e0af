/*
 * Requests at a steady pace, far below what the server can do: how long one takes beside other
 * work.
 *
 *   paced PORT SECONDS A_SECOND METHOD PATH [BODY]
 *
 * "@now" in the body is replaced by the time, of CLOCK_MONOTONIC in ns, at which it is sent.
 * One request at a time on one connection; the delay of each is from when it was due to its answer,
 * so that one that is held up counts for those behind it as well. Prints P50_MS P95_MS P99_MS
 * MAX_MS REQUESTS.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "http_client.h"
#include "measure.h"

enum { BODY_BYTES_MAX = 8192 };

static struct bench_http client;
static struct bench_delays delays;

static void wait_until(uint64_t time_ns) {
    struct timespec time = {.tv_sec = (time_t)(time_ns / 1000000000),
                            .tv_nsec = (long)(time_ns % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static const char *stamped(const char *body) {
    static char text[BODY_BYTES_MAX];
    const char *at = strstr(body, "@now");
    if (at == NULL)
        return body;
    snprintf(text, sizeof(text), "%.*s%llu%s", (int)(at - body), body,
             (unsigned long long)bench_now_ns(), at + strlen("@now"));
    return text;
}

int main(int argument_count, char **arguments) {
    if (argument_count != 6 && argument_count != 7)
        bench_fail("usage: paced PORT SECONDS A_SECOND METHOD PATH [BODY]");
    uint64_t interval_ns = 1000000000 / (uint64_t)bench_number(arguments[3], 1, 100000);
    bench_http_init(&client, (int)bench_number(arguments[1], 1, 65535));
    bench_delays_init(&delays);
    uint64_t due_ns = bench_now_ns(),
             end_ns = due_ns + (uint64_t)bench_number(arguments[2], 1, 3600) * 1000000000;
    for (; due_ns < end_ns; due_ns += interval_ns) {
        wait_until(due_ns);
        bench_http_send(&client, arguments[4], arguments[5], "",
                        argument_count == 7 ? stamped(arguments[6]) : NULL);
        while (bench_http_receive(&client) == NULL)
            continue;
        bench_delays_add(&delays, bench_now_ns() - due_ns);
    }
    printf("%.3f %.3f %.3f %.3f %llu\n", bench_delays_at(&delays, 0.5),
           bench_delays_at(&delays, 0.95), bench_delays_at(&delays, 0.99),
           bench_delays_at(&delays, 1), (unsigned long long)delays.count);
    return 0;
}
