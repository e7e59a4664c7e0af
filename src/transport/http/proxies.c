/*
 * Trusted proxies: whose X-Forwarded-For is believed.
 *
 * Each proxy appends the address that it was called from, to the last line of the header or as a
 * line of its own: all lines are one list (RFC 9110, 5.3). It is read from its end, and the first
 * address that is no trusted proxy is the client; what stands before it may be anybody's invention.
 */
#include "http_private.h"

#include "bakend/alloc.h"

enum { PROXIES_MAX = 32, ADDRESS_BYTES = HTTP_ADDRESS_KEY_BYTES };

struct block {
    uint8_t address[ADDRESS_BYTES]; /* IPv4 as ::ffff:a.b.c.d */
    uint32_t prefix_bits;
};

struct http_proxies {
    struct block blocks[PROXIES_MAX];
    uint32_t count;
};

bool http_address_read(struct bk_slice text, uint8_t out[ADDRESS_BYTES], bool *is_ipv4) {
    char copy[HTTP_ADDRESS_BYTES];
    text = bk_slice_trim(text);
    if (text.length == 0 || text.length >= sizeof(copy))
        return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    memset(out, 0, ADDRESS_BYTES);
    *is_ipv4 = uv_inet_pton(AF_INET, copy, out + 12) == 0;
    if (*is_ipv4)
        out[10] = out[11] = 0xff;
    return *is_ipv4 || uv_inet_pton(AF_INET6, copy, out) == 0;
}

static bool read_block(struct bk_slice text, struct block *block) {
    size_t at = bk_slice_find(text, '/');
    int64_t bits;
    bool is_ipv4;
    if (!http_address_read(bk_slice_make(text.data, at), block->address, &is_ipv4))
        return false;
    bits = is_ipv4 ? 32 : 128;
    if (at < text.length) {
        int64_t most = bits;
        struct bk_slice tail = bk_slice_make(text.data + at + 1, text.length - at - 1);
        if (!bk_slice_to_int64(bk_slice_trim(tail), &bits) || bits < 0 || bits > most)
            return false;
    }
    block->prefix_bits = (uint32_t)(is_ipv4 ? bits + 96 : bits);
    return true;
}

struct http_proxies *http_proxies_create(const char *text, struct bk_error *error) {
    struct http_proxies *proxies = bk_alloc_zero(sizeof(*proxies));
    struct bk_slice rest = bk_slice_from(text), part;
    while (rest.length > 0 && bk_slice_split(&rest, ',', &part)) {
        if (proxies->count < PROXIES_MAX && read_block(part, &proxies->blocks[proxies->count])) {
            proxies->count++;
            continue;
        }
        (void)bk_error_set(error, BK_INVALID,
                           "trusted proxies: \"%.*s\" is no address and no block like 10.0.0.0/8 "
                           "(at most %d of them, separated by commas)",
                           BK_SLICE_PRINT(part), PROXIES_MAX);
        bk_free(proxies);
        return NULL;
    }
    return proxies;
}

void http_proxies_destroy(struct http_proxies *proxies) { bk_free(proxies); }

static bool is_inside(const uint8_t address[ADDRESS_BYTES], const struct block *block) {
    uint32_t bytes = block->prefix_bits / 8, bits = block->prefix_bits % 8;
    uint8_t mask = (uint8_t)(0xff00U >> bits);
    if (memcmp(address, block->address, bytes) != 0)
        return false;
    return bits == 0 || (address[bytes] & mask) == (block->address[bytes] & mask);
}

bool http_proxies_trust(const struct http_proxies *proxies, struct bk_slice text) {
    uint8_t address[ADDRESS_BYTES];
    bool is_ipv4;
    if (!http_address_read(text, address, &is_ipv4))
        return false;
    for (uint32_t i = 0; i < proxies->count; i++)
        if (is_inside(address, &proxies->blocks[i]))
            return true;
    return false;
}

/* Steps back from *client over what one line of the header names; false: no further. */
static bool step_back(const struct http_proxies *proxies, struct bk_slice line,
                      struct bk_slice *client) {
    size_t end = line.length;
    while (end > 0) {
        uint8_t address[ADDRESS_BYTES];
        struct bk_slice part;
        size_t start = end;
        bool is_ipv4;
        while (start > 0 && line.data[start - 1] != ',')
            start--;
        part = bk_slice_trim(bk_slice_make(line.data + start, end - start));
        if (!http_proxies_trust(proxies, *client) || !http_address_read(part, address, &is_ipv4))
            return false;
        *client = part;
        end = start > 0 ? start - 1 : 0;
    }
    return true;
}

struct bk_slice http_proxies_client(const struct http_proxies *proxies, struct bk_slice peer,
                                    const struct bk_header *headers, uint32_t count) {
    struct bk_slice client = peer;
    for (uint32_t i = count; i > 0; i--)
        if (bk_slice_is(headers[i - 1].name, "x-forwarded-for") &&
            !step_back(proxies, headers[i - 1].value, &client))
            break;
    return client;
}
