/*
 * The gate: which addresses a socket may connect to.
 *
 * libcurl asks for a socket once a name is resolved, for each address that it tries: what is not
 * allowed gets none, and not a packet leaves. Then it asks once more, with the peer's address,
 * before a request is written: that is what covers a connection that was kept open. Resolving again
 * between check and use (DNS rebinding) gains nothing, since the address that is checked is the one
 * that is used.
 *
 * Whoever asks for something forbidden is told one text, at once, whether there is something behind
 * the address or not.
 *
 * The gate also knows the sockets of the worker's connections, so that another thread can end what
 * waits on them: libcurl 7.88 waits for some replies of SMTP with its thread.
 */
#include "outbound_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- what is allowed -------------------------------------------------------------------------- */

static bool is_allowed_by_name(const struct bk_outbound_policy *policy, const uint8_t address[16]) {
    for (size_t i = 0; i < policy->allowed_count; i++) {
        if (bk_network_contains(&policy->allowed[i], address))
            return true;
    }
    return false;
}

bool outbound_may_reach(const struct bk_outbound_policy *policy, bool is_plain,
                        const uint8_t address[16]) {
    if (is_allowed_by_name(policy, address))
        return true;
    if (is_plain && !policy->allows_plain)
        return false;
    return policy->allows_any_address || bk_address_reason(address) == NULL;
}

bool outbound_may_reach_port(const struct bk_outbound_policy *policy, int port) {
    for (size_t i = 0; i < policy->denied_port_count; i++) {
        if (policy->denied_ports[i] == port)
            return false;
    }
    return true;
}

static int port_of(const struct sockaddr *from) {
    struct sockaddr_in address;
    memcpy(&address, from, sizeof(address));
    return ntohs(address.sin_port); /* at the same place in both families */
}

/* IPv4 as ::ffff:a.b.c.d; false for every other family than the two. */
static bool address_of(const struct sockaddr *from, uint8_t address[16]) {
    if (from->sa_family == AF_INET) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, from, sizeof(ipv4));
        memset(address, 0, 10);
        memset(address + 10, 0xff, 2);
        memcpy(address + 12, &ipv4.sin_addr, sizeof(ipv4.sin_addr));
        return true;
    }
    if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *ipv6 = (const void *)from;
        memcpy(address, &ipv6->sin6_addr, 16);
        return true;
    }
    return false;
}

/* --- sockets ---------------------------------------------------------------------------------- */

static size_t find_socket(const struct outbound_worker *worker, int descriptor) {
    size_t place = 0;
    while (place < worker->socket_count && worker->sockets[place] != descriptor)
        place++;
    return place;
}

/* A number that the kernel gives to no other socket; 0: there is no such socket. */
static uint64_t cookie_of(int descriptor) {
    uint64_t cookie = 0;
    socklen_t size = sizeof(cookie);
    if (getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0)
        return 0;
    return cookie;
}

static uint16_t local_port_of(int descriptor) {
    struct sockaddr_in6 address = {.sin6_port = 0};
    socklen_t size = sizeof(address);
    if (getsockname(descriptor, (void *)&address, &size) != 0)
        return 0;
    return ntohs(address.sin6_port); /* at the same place in both families */
}

/* The last ones: libcurl tries two at a time. */
static void note_opened(struct bk_outbound_call *call, int descriptor) {
    size_t place = call->opened_count++ % BK_COUNT_OF(call->opened);
    call->opened[place].descriptor = descriptor;
    call->opened[place].cookie = cookie_of(descriptor);
}

/* Those that libcurl tried and gave up it has closed unseen, and others may have their numbers. */
static bool is_open(const struct bk_outbound_call *call, size_t place) {
    uint64_t cookie = call->opened[place].cookie;
    return cookie != 0 && cookie_of(call->opened[place].descriptor) == cookie;
}

void outbound_gate_end(struct bk_outbound_call *call) {
    for (size_t i = 0; i < BK_COUNT_OF(call->opened); i++) {
        if (is_open(call, i))
            (void)shutdown(call->opened[i].descriptor, SHUT_RDWR);
    }
}

void outbound_gate_stop_reading(struct bk_outbound_call *call) {
    struct outbound_worker *worker = call->worker;
    for (size_t i = 0; i < BK_COUNT_OF(call->opened); i++) {
        if (is_open(call, i))
            (void)shutdown(call->opened[i].descriptor, SHUT_RD);
    }
    (void)pthread_mutex_lock(&worker->mutex);
    for (size_t i = 0; i < worker->socket_count; i++)
        (void)shutdown(worker->sockets[i], SHUT_RD);
    (void)pthread_mutex_unlock(&worker->mutex);
}

bool outbound_gate_is_quiet(struct outbound_worker *worker) {
    bool is_quiet = true;
    char byte;
    (void)pthread_mutex_lock(&worker->mutex);
    for (size_t i = 0; i < worker->socket_count && is_quiet; i++)
        is_quiet = recv(worker->sockets[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
                   (errno == EAGAIN || errno == EWOULDBLOCK);
    (void)pthread_mutex_unlock(&worker->mutex);
    return is_quiet;
}

static bool add_socket(struct outbound_worker *worker, int descriptor) {
    bool is_new;
    (void)pthread_mutex_lock(&worker->mutex);
    if (worker->socket_count == worker->socket_capacity) {
        worker->socket_capacity = worker->socket_capacity * 2 + 8;
        worker->sockets =
            bk_realloc(worker->sockets, worker->socket_capacity * sizeof(*worker->sockets));
    }
    is_new = find_socket(worker, descriptor) == worker->socket_count;
    if (is_new)
        worker->sockets[worker->socket_count++] = descriptor;
    (void)pthread_mutex_unlock(&worker->mutex);
    return is_new;
}

/* Now that a connection is in use, libcurl will close it by the callback. One that is used again
 * was opened by another call, and is known. */
static void remember_connection(struct bk_outbound_call *call, int local_port) {
    for (size_t i = 0; i < BK_COUNT_OF(call->opened); i++) {
        int descriptor = call->opened[i].descriptor;
        if (!is_open(call, i) || local_port_of(descriptor) != local_port ||
            !add_socket(call->worker, descriptor))
            continue;
        (void)atomic_fetch_add(&call->channel->open_count, 1);
        (void)atomic_fetch_add(&call->channel->opened_count, 1);
    }
}

/* Closed under the mutex: an interruption must not hit a stranger who got the same number. */
static int on_close_socket(void *user, curl_socket_t descriptor) {
    struct outbound_worker *worker = user;
    size_t place;
    int result;
    (void)pthread_mutex_lock(&worker->mutex);
    place = find_socket(worker, descriptor);
    if (place < worker->socket_count) {
        worker->sockets[place] = worker->sockets[--worker->socket_count];
        (void)atomic_fetch_sub(&worker->channel->open_count, 1);
    }
    result = close(descriptor);
    (void)pthread_mutex_unlock(&worker->mutex);
    return result;
}

void outbound_gate_interrupt(struct outbound_worker *worker) {
    (void)pthread_mutex_lock(&worker->mutex);
    for (size_t i = 0; i < worker->socket_count; i++)
        (void)shutdown(worker->sockets[i], SHUT_RDWR);
    (void)pthread_mutex_unlock(&worker->mutex);
}

static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *peer) {
    struct bk_outbound_call *call = user;
    uint8_t address[16];
    int descriptor;
    outbound_worker_end_resolving(call);
    if (purpose != CURLSOCKTYPE_IPCXN || !address_of(&peer->addr, address) ||
        !outbound_may_reach_port(&call->channel->policy, port_of(&peer->addr)) ||
        !outbound_may_reach(&call->channel->policy, call->is_plain, address)) {
        call->denied_count++;
        return CURL_SOCKET_BAD;
    }
    descriptor = socket(peer->family, peer->socktype | SOCK_CLOEXEC, peer->protocol);
    note_opened(call, descriptor);
    return descriptor < 0 ? CURL_SOCKET_BAD : descriptor;
}

/* --- the second look -------------------------------------------------------------------------- */

static bool has_tls(struct bk_outbound_call *call) {
    struct curl_tlssessioninfo *session = NULL;
    return curl_easy_getinfo(call->easy, CURLINFO_TLS_SSL_PTR, &session) == CURLE_OK &&
           session != NULL && session->internals != NULL;
}

/* The connection is up, TLS and login are done: the last chance before the request itself. */
static bool is_ready(struct bk_outbound_call *call, const char *peer, int port) {
    const struct bk_smtp *smtp = call->request->smtp;
    struct bk_network network;
    if (peer == NULL || !outbound_may_reach_port(&call->channel->policy, port) ||
        bk_network_parse(bk_slice_from(peer), &network) != BK_OK ||
        !outbound_may_reach(&call->channel->policy, call->is_plain, network.address)) {
        call->is_denied = true;
        return false;
    }
    call->is_begun = true;
    if (smtp == NULL)
        return outbound_call_say(call);
    call->lacks_tls = smtp->security != BK_SMTP_PLAIN &&
                      smtp->security != BK_SMTP_STARTTLS_IF_OFFERED && !has_tls(call);
    /* libcurl goes on without a login where none is offered. One that is reused has done it. */
    call->lacks_login =
        smtp->login != BK_SMTP_LOGIN_NONE && call->opened_count > 0 && !call->reply.is_logged_in;
    call->reply.is_transacting = true;
    call->reply.count = 0;
    if (!call->lacks_tls && !call->lacks_login)
        return true;
    outbound_gate_stop_reading(call);
    return false;
}

static int on_ready(void *user, char *peer, char *local, int peer_port, int local_port) {
    struct bk_outbound_call *call = user;
    (void)local;
    outbound_worker_end_resolving(call);
    remember_connection(call, local_port);
    return is_ready(call, peer, peer_port) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

/* Asked before a name is resolved that libcurl has not kept, and for addresses, too. */
static int on_resolve(void *resolver, void *reserved, void *user) {
    struct bk_outbound_call *call = user;
    (void)resolver;
    (void)reserved;
    return outbound_worker_begin_resolving(call) ? 0 : 1;
}

static void set_callback(struct bk_outbound_call *call, CURLcode code) {
    if (code != CURLE_OK)
        call->has_bad_option = true;
}

void outbound_gate_prepare(struct bk_outbound_call *call) {
    CURL *easy = call->easy;
    set_callback(call, curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket));
    outbound_set_pointer(call, CURLOPT_OPENSOCKETDATA, call);
    set_callback(call, curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket));
    outbound_set_pointer(call, CURLOPT_CLOSESOCKETDATA, call->worker);
    set_callback(call, curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_ready));
    outbound_set_pointer(call, CURLOPT_PREREQDATA, call);
    set_callback(call, curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, on_resolve));
    outbound_set_pointer(call, CURLOPT_RESOLVER_START_DATA, call);
}
