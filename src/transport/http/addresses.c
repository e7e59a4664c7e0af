/*
 * How many connections each client address has.
 *
 * A connection counts as long as it lives, also after it was given away as a message channel: what
 * it holds is a lease on the count of its address, which goes along and is given back at its end.
 * Of IPv6 the first 64 bits are an address, since that much is what one client is given. Who stands
 * in front of many clients is not counted: trusted proxies, and 127.0.0.1 and ::1, where a proxy on
 * the same machine comes from.
 *
 * One too many is told with 503 and closed. What it has sent until then is read first, or the
 * kernel would send a reset that destroys the answer; who sends later learns less.
 */
#include "http_private.h"

#include "bakend/alloc.h"

#include <sys/socket.h>

enum { PREFIX_BYTES = 8, COMPLAINT_MS = 60000 };

struct http_address {
    struct bk_lease lease;
    struct bk_http *http;
    uint8_t key[HTTP_ADDRESS_KEY_BYTES];
    uint32_t count;
};

static const char busy_answer[] =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    "Content-Type: application/json\r\nContent-Length: 96\r\n\r\n"
    "{\"data\":{},\"message\":\"Too many connections from your address: close some of "
    "them.\",\"status\":503}";

static struct bk_slice key_of(const struct http_address *own) {
    return bk_slice_make((const char *)own->key, sizeof(own->key));
}

static void on_lease_end(struct bk_lease *lease) {
    struct http_address *own = bk_container_of(lease, struct http_address, lease);
    BK_ASSERT(own->count > 0);
    if (--own->count > 0)
        return;
    (void)bk_map_remove(&own->http->addresses, key_of(own));
    bk_free(own);
}

/* IPv4 as ::ffff:a.b.c.d, also of a socket for both. False: not counted. */
static bool read_key(const struct bk_http *http, const struct http_connection *connection,
                     uint8_t key[HTTP_ADDRESS_KEY_BYTES]) {
    struct bk_slice text = bk_slice_make(connection->address, connection->address_length);
    bool is_ipv4;
    if (connection->is_control || !http_address_read(text, key, &is_ipv4) ||
        bk_slice_is(text, "127.0.0.1") || bk_slice_is(text, "::1") ||
        (http->proxies != NULL && http_proxies_trust(http->proxies, text)))
        return false;
    if (!is_ipv4)
        memset(key + PREFIX_BYTES, 0, HTTP_ADDRESS_KEY_BYTES - PREFIX_BYTES);
    return true;
}

static struct http_address *find(struct bk_http *http, const uint8_t *key) {
    struct bk_slice text = bk_slice_make((const char *)key, HTTP_ADDRESS_KEY_BYTES);
    struct http_address *own = bk_map_get(&http->addresses, text);
    if (own != NULL)
        return own;
    own = bk_alloc_zero(sizeof(*own));
    own->lease.end = on_lease_end;
    own->http = http;
    memcpy(own->key, key, sizeof(own->key));
    (void)bk_map_put(&http->addresses, key_of(own), own);
    return own;
}

/* Once a minute at most, as for the cap of all. */
static void complain(struct bk_http *http, const struct http_connection *connection) {
    uint64_t now_ms = bk_loop_now_ms(http->options.loop);
    http->figures.turned_away++;
    if (http->complained_of_address_ms != 0 &&
        now_ms - http->complained_of_address_ms < COMPLAINT_MS)
        return;
    http->complained_of_address_ms = now_ms;
    bk_log_warn(
        &http->options.log, "address_full",
        BK_STRING("address", bk_slice_make(connection->address, connection->address_length)),
        BK_INT("connections", http->options.connections_per_address_max),
        BK_TEXT("remedy", "if it is a proxy, name it in --trusted-proxies"));
}

bool http_address_enter(struct http_connection *connection) {
    struct bk_http *http = connection->http;
    uint8_t key[HTTP_ADDRESS_KEY_BYTES];
    struct http_address *own;
    if (!read_key(http, connection, key))
        return true;
    own = find(http, key);
    if (own->count == http->options.connections_per_address_max) {
        complain(http, connection);
        return false;
    }
    own->count++;
    connection->lease = &own->lease;
    return true;
}

void http_address_turn_away(struct http_connection *connection) {
    uv_buf_t answer = uv_buf_init((char *)(uintptr_t)busy_answer, sizeof(busy_answer) - 1);
    int descriptor = -1;
    if (uv_fileno(&connection->socket.handle, &descriptor) == 0)
        (void)recv(descriptor, connection->http->read_buffer, HTTP_READ_BUFFER_BYTES, MSG_DONTWAIT);
    (void)uv_try_write(&connection->socket.stream, &answer, 1);
    http_connection_cut(connection);
}
