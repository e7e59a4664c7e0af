/*
 * The ceiling of webhooks: libcurl posting bodies of one size over kept connections, unsigned, and
 * nothing recorded.
 *
 *   webhook_poster PORT CONNECTIONS SECONDS BODY_BYTES
 *
 * Prints how many a second were answered.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"

enum { CONNECTIONS_MAX = 1024, BODY_BYTES_MAX = 256 * 1024 };

static char url[64], *body;
static long body_bytes;
static struct curl_slist *headers;
static CURLM *multi;

static size_t on_answer(char *data, size_t size, size_t count, void *user) {
    (void)data;
    (void)user;
    return size * count;
}

static void post(CURL *easy) {
    if (curl_multi_add_handle(multi, easy) != CURLM_OK)
        bench_fail("a request cannot be made");
}

static CURL *create(void) {
    CURL *easy = curl_easy_init();
    if (easy == NULL)
        bench_fail("no memory");
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, body_bytes);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    return easy;
}

/* The handles whose requests were answered. */
static unsigned long again(void) {
    unsigned long answered = 0;
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(multi, &left)) != NULL; answered++) {
        CURL *easy = message->easy_handle;
        if (message->msg != CURLMSG_DONE || message->data.result != CURLE_OK)
            bench_fail("%s", curl_easy_strerror(message->data.result));
        curl_multi_remove_handle(multi, easy);
        post(easy);
    }
    return answered;
}

int main(int argument_count, char **arguments) {
    if (argument_count != 5)
        bench_fail("usage: webhook_poster PORT CONNECTIONS SECONDS BODY_BYTES");
    snprintf(url, sizeof(url), "http://127.0.0.1:%ld/", bench_number(arguments[1], 1, 65535));
    long connections = bench_number(arguments[2], 1, CONNECTIONS_MAX);
    long seconds = bench_number(arguments[3], 1, 3600);
    body_bytes = bench_number(arguments[4], 1, BODY_BYTES_MAX);
    body = malloc((size_t)body_bytes);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (body == NULL || multi == NULL || headers == NULL)
        bench_fail("no memory");
    memset(body, 'x', (size_t)body_bytes);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections);
    for (long i = 0; i < connections; i++)
        post(create());
    unsigned long answered = 0;
    uint64_t begin_ns = bench_now_ns(), end_ns = begin_ns + (uint64_t)seconds * 1000000000;
    while (bench_now_ns() < end_ns) {
        int running;
        curl_multi_perform(multi, &running);
        answered += again();
        curl_multi_poll(multi, NULL, 0, 100, NULL);
    }
    printf("%.1f\n", (double)answered / ((double)(bench_now_ns() - begin_ns) / 1e9));
    return 0;
}
