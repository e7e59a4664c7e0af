/*
 * A transfer: the options that all have, and what became of it.
 *
 * Every option must be taken: one that libcurl refuses (a build without it) would be a limit or a
 * check that silently is not there, so nothing is sent then.
 *
 * Off, in the order of the harm that they would do: proxies of the environment (they would be what
 * is connected to, and the target out of sight), other protocols (file:// connects to nothing at
 * all), redirects, netrc, decompression, signals. Cookies, HSTS, alt-svc, DoH and Unix sockets are
 * off where nobody asks for them.
 */
#define _GNU_SOURCE 1 /* strerrordesc_np */
#include "outbound_private.h"

#include "bakend/clock.h"

#include <stdio.h>

enum { CONNECT_TIMEOUT_MS = 5000, TIMEOUT_MS = 15000, DNS_CACHE_S = 30, NS_PER_US = 1000 };

/* --- options ---------------------------------------------------------------------------------- */

static void note_option(struct bk_outbound_call *call, CURLcode code) {
    if (code != CURLE_OK)
        call->has_bad_option = true;
}

void outbound_set_long(struct bk_outbound_call *call, CURLoption option, long value) {
    note_option(call, curl_easy_setopt(call->easy, option, value));
}

void outbound_set_pointer(struct bk_outbound_call *call, CURLoption option, const void *value) {
    note_option(call, curl_easy_setopt(call->easy, option, value));
}

void outbound_set_large(struct bk_outbound_call *call, CURLoption option, size_t value) {
    curl_off_t offset = value > INT64_MAX ? INT64_MAX : (curl_off_t)value;
    note_option(call, curl_easy_setopt(call->easy, option, offset));
}

void outbound_set_slice(struct bk_outbound_call *call, CURLoption option, struct bk_slice value) {
    struct bk_buffer text;
    bk_buffer_init(&text, value.length + 1);
    bk_buffer_append_slice(&text, value);
    bk_buffer_append_char(&text, '\0');
    bk_buffer_insist(&text);
    outbound_set_pointer(call, option, text.data); /* libcurl copies it */
    bk_buffer_fini(&text);
}

void outbound_add_line(struct bk_outbound_call *call, struct curl_slist **list, const char *line) {
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL)
        call->has_bad_option = true;
    else
        *list = longer;
}

static void set_limits(struct bk_outbound_call *call) {
    const struct bk_outbound_request *request = call->request;
    uint32_t connect_ms = request->connect_timeout_ms, total_ms = request->timeout_ms;
    outbound_set_long(call, CURLOPT_CONNECTTIMEOUT_MS,
                      (long)(connect_ms == 0 ? CONNECT_TIMEOUT_MS : connect_ms));
    outbound_set_long(call, CURLOPT_TIMEOUT_MS, (long)(total_ms == 0 ? TIMEOUT_MS : total_ms));
    outbound_set_long(call, CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S);
}

static void set_tls(struct bk_outbound_call *call) {
    outbound_set_long(call, CURLOPT_SSL_VERIFYPEER, 1);
    outbound_set_long(call, CURLOPT_SSL_VERIFYHOST, 2);
    outbound_set_long(call, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    if (call->channel->policy.ca_file == NULL)
        return;
    outbound_set_pointer(call, CURLOPT_CAINFO, call->channel->policy.ca_file);
    /* Debian's libcurl has a folder of the public ones built in, beside the file. */
    outbound_set_pointer(call, CURLOPT_CAPATH, NULL);
}

static void set_manners(struct bk_outbound_call *call) {
    outbound_set_pointer(call, CURLOPT_PROXY, "");
    outbound_set_long(call, CURLOPT_NETRC, CURL_NETRC_IGNORED);
    outbound_set_long(call, CURLOPT_FOLLOWLOCATION, 0);
    outbound_set_long(call, CURLOPT_MAXREDIRS, 0);
    outbound_set_long(call, CURLOPT_NOSIGNAL, 1);
    outbound_set_long(call, CURLOPT_NOPROGRESS, 1);
    /* A transfer that ends while its name is being resolved leaves the resolver's thread behind
     * instead of waiting for it. */
    outbound_set_long(call, CURLOPT_QUICK_EXIT, 1);
    outbound_set_pointer(call, CURLOPT_ERRORBUFFER, call->detail);
    outbound_set_pointer(call, CURLOPT_PRIVATE, call);
}

static CURL *take_handle(struct outbound_worker *worker) {
    return worker->spare_count > 0 ? worker->spare[--worker->spare_count] : curl_easy_init();
}

/* One that is reset has no option left of the call before. Of one that failed libcurl keeps more,
 * such as the number of the system's error: it is not used again. Nor is a mail's, whose login it
 * would keep until the next. */
static void put_handle(struct bk_outbound_call *call) {
    struct outbound_worker *worker = call->worker;
    bool was_good = call->reason[0] != '\0' && call->failure == BK_OUTBOUND_OK;
    if (!was_good || call->request->smtp != NULL ||
        worker->spare_count == BK_COUNT_OF(worker->spare)) {
        curl_easy_cleanup(call->easy);
        return;
    }
    curl_easy_reset(call->easy);
    worker->spare[worker->spare_count++] = call->easy;
}

void outbound_transfers_forget(struct outbound_worker *worker) {
    while (worker->spare_count > 0)
        curl_easy_cleanup(worker->spare[--worker->spare_count]);
}

bool outbound_transfer_prepare(struct bk_outbound_call *call) {
    call->easy = take_handle(call->worker);
    call->start_ns = bk_clock_monotonic_ns();
    if (call->easy == NULL) {
        outbound_call_settle(call, BK_OUTBOUND_CONNECT, "there was no memory for the request");
        return false;
    }
    outbound_set_pointer(call, CURLOPT_CURLU, call->url);
    set_manners(call);
    set_limits(call);
    set_tls(call);
    outbound_gate_prepare(call);
    if (call->request->smtp == NULL)
        outbound_web_prepare(call);
    else
        outbound_mail_prepare(call);
    if (call->has_bad_option)
        outbound_call_settle(call, BK_OUTBOUND_CONNECT,
                             "the request could not be made with this libcurl");
    return !call->has_bad_option;
}

void outbound_transfer_release(struct bk_outbound_call *call) {
    put_handle(call);
    curl_slist_free_all(call->headers);
    curl_slist_free_all(call->recipients);
    call->easy = NULL;
    call->headers = call->recipients = NULL;
}

/* --- what became of it ------------------------------------------------------------------------ */

static uint64_t large_info(struct bk_outbound_call *call, CURLINFO info) {
    curl_off_t value = 0;
    if (curl_easy_getinfo(call->easy, info, &value) != CURLE_OK || value < 0)
        return 0;
    return (uint64_t)value;
}

static long long_info(struct bk_outbound_call *call, CURLINFO info) {
    long value = 0;
    if (curl_easy_getinfo(call->easy, info, &value) != CURLE_OK || value < 0)
        return 0;
    return value;
}

static void measure(struct bk_outbound_call *call) {
    call->duration_us = (bk_clock_monotonic_ns() - call->start_ns) / NS_PER_US;
    call->sent_bytes =
        large_info(call, CURLINFO_SIZE_UPLOAD_T) + (uint64_t)long_info(call, CURLINFO_REQUEST_SIZE);
    call->received_bytes = large_info(call, CURLINFO_SIZE_DOWNLOAD_T) + call->head_bytes;
    call->was_reused = call->opened_count == 0 && call->denied_count == 0 &&
                       long_info(call, CURLINFO_NUM_CONNECTS) == 0 &&
                       long_info(call, CURLINFO_PRIMARY_PORT) != 0;
}

/* What this part itself has said no to. */
static bool conclude_by_flag(struct bk_outbound_call *call, CURLcode code) {
    bool is_cancelled = atomic_load(&call->is_cancelled) ||
                        atomic_load(&call->word) == OUTBOUND_WITHDRAWN ||
                        atomic_load(&call->worker->is_ending);
    /* What libcurl says of a line of the head that is longer than it takes. */
    bool is_long_line = code == CURLE_OUT_OF_MEMORY && call->is_begun && !call->is_head_complete;
    bool is_unconnected = code == CURLE_COULDNT_CONNECT && call->opened_count == 0;
    if (call->is_denied || (is_unconnected && call->denied_count > 0))
        outbound_call_settle(call, BK_OUTBOUND_BLOCKED, NULL);
    else if (is_cancelled && code != CURLE_OK)
        outbound_call_settle(call, BK_OUTBOUND_CANCELLED, NULL);
    else if (call->is_crowded)
        outbound_call_settle(call, BK_OUTBOUND_RESOLVE,
                             "too many names are being resolved: try again later");
    else if (call->is_out_of_memory)
        outbound_call_settle(call, BK_OUTBOUND_CONNECT, "there was no memory for the answer");
    else if (call->is_too_large || is_long_line)
        outbound_call_settle(call, BK_OUTBOUND_TOO_LARGE, NULL);
    else if (call->lacks_tls)
        outbound_call_settle(call, BK_OUTBOUND_TLS, NULL);
    else if (call->lacks_login)
        outbound_call_settle(call, BK_OUTBOUND_LOGIN, "the server does not offer this login");
    else
        return false;
    return true;
}

/* The system's words for a connection that was not made, libcurl's own for one that is not secure:
 * they name hosts, never what was blocked. "" in all other cases. */
static const char *detail_of(struct bk_outbound_call *call, enum bk_outbound_failure failure) {
    long number = 0;
    if (failure == BK_OUTBOUND_TLS)
        return call->detail;
    if (failure != BK_OUTBOUND_CONNECT ||
        curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &number) != CURLE_OK || number == 0)
        return "";
    return strerrordesc_np((int)number);
}

static void conclude_by_code(struct bk_outbound_call *call, CURLcode code) {
    enum bk_outbound_failure failure = outbound_failure_of(code);
    const char *detail = detail_of(call, failure);
    char text[OUTBOUND_REASON_BYTES];
    if (detail == NULL || detail[0] == '\0') {
        outbound_call_settle(call, failure, NULL);
        return;
    }
    (void)snprintf(text, sizeof(text), "%s: %.180s", outbound_failure_text(failure), detail);
    outbound_text_tidy(text, strlen(text)); /* a certificate may have any name in it */
    outbound_call_settle(call, failure, text);
}

void outbound_transfer_conclude(struct bk_outbound_call *call, CURLcode code) {
    bool is_mail = call->request->smtp != NULL;
    measure(call);
    if (is_mail)
        call->body.length = outbound_text_tidy(call->body.data, call->body.length);
    else
        call->status = (uint32_t)long_info(call, CURLINFO_RESPONSE_CODE);
    /* libcurl takes a head that ends in the middle for one without a body. */
    if (code == CURLE_OK && !is_mail && !call->is_head_complete)
        code = CURLE_GOT_NOTHING;
    if (conclude_by_flag(call, code))
        return;
    if (code == CURLE_OK || call->was_cut || (is_mail && outbound_mail_was_refused(call, code))) {
        call->status = is_mail ? call->reply.code : call->status;
        outbound_call_settle(call, BK_OUTBOUND_OK, NULL);
        return;
    }
    if (code == CURLE_LOGIN_DENIED)
        call->status = call->reply.code;
    conclude_by_code(call, code);
}
