/*
 * A client that catches up: reads the change feed from the start, page by page on one connection,
 * as fast as it is answered, and prints events per second.
 *
 *   feed_reader PORT TOKEN
 */
#define _GNU_SOURCE /* strcasestr */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_BYTES = 8 * 1024 * 1024 };

static char answer[ANSWER_BYTES + 1];

static void fail(const char *what) {
    fprintf(stderr, "feed_reader: %s\n", what);
    exit(1);
}

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Reads one answer with a Content-Length; returns its body. */
static char *read_answer(int descriptor) {
    size_t length = 0;
    char *body = NULL;
    for (size_t needed = 1; length < needed;) {
        if (length == ANSWER_BYTES)
            fail("the answer is too large");
        ssize_t count = read(descriptor, answer + length, ANSWER_BYTES - length);
        if (count <= 0)
            fail("the connection ended");
        length += (size_t)count;
        answer[length] = '\0';
        needed = length + 1;
        if (body == NULL && (body = strstr(answer, "\r\n\r\n")) != NULL)
            body += 4;
        if (body != NULL) {
            const char *field = strcasestr(answer, "content-length:");
            if (field == NULL || field > body)
                fail("no Content-Length");
            needed = (size_t)(body - answer) + strtoul(field + 15, NULL, 10);
        }
    }
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
        fail(answer);
    return body;
}

/* The text of a member near the end of the page, copied. */
static void copy_member(const char *tail, const char *name, char *out, size_t size) {
    const char *found = strstr(tail, name);
    if (found == NULL)
        fail("a member is missing");
    found += strlen(name);
    size_t length = strcspn(found, "\",}");
    if (length >= size)
        fail("a member is too long");
    memcpy(out, found, length);
    out[length] = '\0';
}

int main(int argument_count, char **arguments) {
    if (argument_count != 3)
        fail("usage: feed_reader PORT TOKEN");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtol(arguments[1], NULL, 10)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int descriptor = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(descriptor, (struct sockaddr *)&address, sizeof(address)) != 0)
        fail("cannot connect");
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    char after[128] = "start", more[16] = "true", first[32], last[32], request[4096];
    double start = now_s();
    long events = 0;
    while (strcmp(more, "true") == 0) {
        int length = snprintf(request, sizeof(request),
                              "GET /api/events?limit=1000&types=_*,*&after=%s HTTP/1.1\r\nHost: "
                              "127.0.0.1\r\nAuthorization: %s\r\n\r\n",
                              after, arguments[2]);
        if (write(descriptor, request, (size_t)length) != length)
            fail("cannot write");
        const char *body = read_answer(descriptor);
        size_t size = strlen(body);
        const char *tail = size > 1024 ? body + size - 1024 : body;
        copy_member(tail, "\"next\":\"", after, sizeof(after));
        copy_member(tail, "\"hasMore\":", more, sizeof(more));
        copy_member(tail, "\"firstSequence\":", first, sizeof(first));
        copy_member(tail, "\"lastSequence\":", last, sizeof(last));
        events += strtol(last, NULL, 10) - strtol(first, NULL, 10) + 1;
    }
    printf("%.0f\n", (double)events / (now_s() - start));
    close(descriptor);
    return 0;
}
