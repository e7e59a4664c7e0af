/*
 * Networks, and which addresses are of the public internet.
 *
 * One form for both families: 16 bytes, IPv4 as ::ffff:a.b.c.d. An address that carries another one
 * is judged by that: ::ffff:0:0/96 since the kernel connects to what is inside, 64:ff9b::/96 since
 * a NAT64 gateway does. The tunnels of old (6to4, Teredo, IPv4-compatible) lead to public addresses
 * only by way of relays that are gone, so they are never public; what they carry gives the better
 * reason.
 *
 * What is not clearly public is not: IPv6 outside of 2000::/3 is not assigned to anybody.
 *
 * The sources are the registries of special-purpose addresses (RFC 6890 and after). Two rows are in
 * no registry: 168.63.129.16 is a public address that only answers inside of Azure, as its metadata
 * service, and fd00:ec2::254 is named for its reason; the prefix around it is private anyhow.
 */
#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/buffer.h"
#include "bakend/outbound.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>

enum {
    IPV4_OFFSET = 12, /* in the common form */
    IPV4_PREFIX_BITS = 96,
    NETWORKS_MAX_BYTES = 64 * 1024, /* of a list */
    PREFIX_DIGITS_MAX = 3
};

struct block {
    const char *network, *reason;
};

/* The first row that contains an address wins: what is more special stands first. */
static const struct block IPV4_BLOCKS[] = {
    {"169.254.169.254/32", "metadata"}, /* nearly every cloud */
    {"169.254.170.2/32", "metadata"},   /* containers of Amazon */
    {"100.100.100.200/32", "metadata"}, /* Alibaba */
    {"168.63.129.16/32", "metadata"},   /* Azure */
    {"0.0.0.0/8", "unspecified"},       /* Linux connects 0.0.0.0 to itself */
    {"10.0.0.0/8", "private"},
    {"100.64.0.0/10", "shared"},
    {"127.0.0.0/8", "loopback"},
    {"169.254.0.0/16", "link-local"},
    {"172.16.0.0/12", "private"},
    {"192.0.0.0/24", "reserved"},
    {"192.0.2.0/24", "documentation"},
    {"192.88.99.0/24", "reserved"},
    {"192.168.0.0/16", "private"},
    {"198.18.0.0/15", "benchmarking"},
    {"198.51.100.0/24", "documentation"},
    {"203.0.113.0/24", "documentation"},
    {"224.0.0.0/4", "multicast"},
    {"255.255.255.255/32", "broadcast"},
    {"240.0.0.0/4", "reserved"},
};

static const struct block IPV6_BLOCKS[] = {
    {"::/128", "unspecified"},
    {"::1/128", "loopback"},
    {"::/96", "reserved"},         /* IPv4-compatible */
    {"64:ff9b:1::/48", "private"}, /* NAT64 of one's own */
    {"100::/64", "reserved"},      /* discard */
    {"2001::/23", "reserved"},     /* protocols: Teredo, ORCHID, benchmarking */
    {"2001:db8::/32", "documentation"},
    {"2002::/16", "reserved"}, /* 6to4 */
    {"3fff::/20", "documentation"},
    {"5f00::/16", "reserved"}, /* segment routing */
    {"fd00:ec2::254/128", "metadata"},
    {"fc00::/7", "private"},
    {"fe80::/10", "link-local"},
    {"fec0::/10", "private"}, /* site-local, as it was */
    {"ff00::/8", "multicast"},
};

/* --- networks --------------------------------------------------------------------------------- */

static bool parse_address(struct bk_slice text, uint8_t address[16], bool *is_ipv4) {
    char copy[INET6_ADDRSTRLEN];
    if (text.data == NULL || text.length == 0 || text.length >= sizeof(copy) ||
        memchr(text.data, '\0', text.length))
        return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    *is_ipv4 = memchr(copy, ':', text.length) == NULL;
    if (!*is_ipv4)
        return inet_pton(AF_INET6, copy, address) == 1;
    memset(address, 0, IPV4_OFFSET);
    address[10] = address[11] = 0xff;
    return inet_pton(AF_INET, copy, address + IPV4_OFFSET) == 1;
}

static bool parse_prefix(struct bk_slice text, bool is_ipv4, uint8_t *prefix_bits) {
    int64_t bits;
    if (text.length == 0 || text.length > PREFIX_DIGITS_MAX || text.data[0] == '-')
        return false;
    if (!bk_slice_to_int64(text, &bits) || bits > (is_ipv4 ? 32 : 128))
        return false;
    *prefix_bits = (uint8_t)(is_ipv4 ? bits + IPV4_PREFIX_BITS : bits);
    return true;
}

enum bk_status bk_network_parse(struct bk_slice text, struct bk_network *network) {
    size_t slash = bk_slice_find(text, '/');
    struct bk_network found = {.prefix_bits = 128};
    bool is_ipv4;
    if (!parse_address(bk_slice_make(text.data, slash), found.address, &is_ipv4))
        return BK_INVALID;
    if (slash < text.length &&
        !parse_prefix(bk_slice_make(text.data + slash + 1, text.length - slash - 1), is_ipv4,
                      &found.prefix_bits))
        return BK_INVALID;
    *network = found;
    return BK_OK;
}

static bool is_separator(char c) { return c == ',' || c == ' ' || c == '\t' || c == '\n'; }

static bool next_word(struct bk_slice *rest, struct bk_slice *word) {
    size_t begin = 0, end;
    while (begin < rest->length && is_separator(rest->data[begin]))
        begin++;
    for (end = begin; end < rest->length && !is_separator(rest->data[end]);)
        end++;
    if (begin == end)
        return false;
    *word = bk_slice_make(rest->data + begin, end - begin);
    *rest = bk_slice_make(rest->data + end, rest->length - end);
    return true;
}

enum bk_status bk_networks_parse(struct bk_slice text, struct bk_network **networks, size_t *count,
                                 struct bk_error *error) {
    struct bk_slice word, rest = text;
    struct bk_network *found;
    size_t found_count = 0;
    if (text.length > NETWORKS_MAX_BYTES)
        return bk_error_set(error, BK_TOO_LARGE, "the list of networks is longer than %d bytes",
                            NETWORKS_MAX_BYTES);
    while (next_word(&rest, &word))
        found_count++;
    found = bk_alloc_zero(sizeof(*found) * found_count);
    rest = text;
    for (size_t i = 0; next_word(&rest, &word); i++) {
        if (bk_network_parse(word, &found[i]) == BK_OK)
            continue;
        bk_free(found);
        return bk_error_set(error, BK_INVALID,
                            "\"%.*s\" is no network: write an address, or an address and a prefix, "
                            "such as 10.0.0.0/8 or fd00::/8",
                            (int)(word.length < 100 ? word.length : 100), word.data);
    }
    *networks = found;
    *count = found_count;
    return BK_OK;
}

void bk_address_client(struct bk_slice text, uint8_t client[16]) {
    bool is_ipv4;
    if (!parse_address(text, client, &is_ipv4))
        memset(client, 0, 16);
    if (memcmp(client, (const uint8_t[IPV4_OFFSET]){[10] = 0xff, [11] = 0xff}, IPV4_OFFSET) != 0)
        memset(client + 8, 0, 8);
}

bool bk_network_contains(const struct bk_network *network, const uint8_t address[16]) {
    size_t whole_bytes = network->prefix_bits / 8;
    unsigned rest_bits = network->prefix_bits % 8;
    BK_ASSERT(network->prefix_bits <= 128);
    if (memcmp(network->address, address, whole_bytes) != 0)
        return false;
    if (rest_bits == 0)
        return true;
    return ((network->address[whole_bytes] ^ address[whole_bytes]) >> (8 - rest_bits)) == 0;
}

/* --- what is public --------------------------------------------------------------------------- */

/* What the functions below ask for by name. */
enum special { MAPPED, NAT64, TEREDO, SIX_TO_FOUR, COMPATIBLE, FIRST_TWO, GLOBAL, SPECIAL_COUNT };

static const char *const SPECIAL_TEXTS[SPECIAL_COUNT] = {
    [MAPPED] = "::ffff:0:0/96",  [NAT64] = "64:ff9b::/96", [TEREDO] = "2001::/32",
    [SIX_TO_FOUR] = "2002::/16", [COMPATIBLE] = "::/96",   [FIRST_TWO] = "::/127",
    [GLOBAL] = "2000::/3",
};

/* The tables as numbers: read once, by whoever asks first. */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;
static struct bk_network ipv4_networks[BK_COUNT_OF(IPV4_BLOCKS)];
static struct bk_network ipv6_networks[BK_COUNT_OF(IPV6_BLOCKS)];
static struct bk_network special_networks[SPECIAL_COUNT];

static void read_network(const char *text, struct bk_network *network) {
    BK_ASSERT(bk_network_parse(bk_slice_from(text), network) == BK_OK);
}

static void read_tables(void) {
    for (size_t i = 0; i < BK_COUNT_OF(IPV4_BLOCKS); i++)
        read_network(IPV4_BLOCKS[i].network, &ipv4_networks[i]);
    for (size_t i = 0; i < BK_COUNT_OF(IPV6_BLOCKS); i++)
        read_network(IPV6_BLOCKS[i].network, &ipv6_networks[i]);
    for (size_t i = 0; i < SPECIAL_COUNT; i++)
        read_network(SPECIAL_TEXTS[i], &special_networks[i]);
}

static bool is_in(enum special special, const uint8_t address[16]) {
    return bk_network_contains(&special_networks[special], address);
}

static const char *find_block(const struct block *blocks, const struct bk_network *networks,
                              size_t count, const uint8_t address[16]) {
    for (size_t i = 0; i < count; i++) {
        if (bk_network_contains(&networks[i], address))
            return blocks[i].reason;
    }
    return NULL;
}

static const char *ipv4_reason(const uint8_t ipv4[4]) {
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff};
    memcpy(address + IPV4_OFFSET, ipv4, 4);
    return find_block(IPV4_BLOCKS, ipv4_networks, BK_COUNT_OF(IPV4_BLOCKS), address);
}

/* Teredo (RFC 4380) has its server's address, and with all bits turned over that of its client. */
static const char *teredo_reason(const uint8_t address[16]) {
    uint8_t client[4];
    const char *reason;
    for (size_t i = 0; i < sizeof(client); i++)
        client[i] = (uint8_t)~address[IPV4_OFFSET + i];
    reason = ipv4_reason(client);
    return reason != NULL ? reason : ipv4_reason(address + 4);
}

/* Of the address inside; NULL when there is none, or a public one. */
static const char *tunnel_reason(const uint8_t address[16]) {
    if (is_in(TEREDO, address))
        return teredo_reason(address);
    if (is_in(SIX_TO_FOUR, address))
        return ipv4_reason(address + 2);
    if (is_in(COMPATIBLE, address) && !is_in(FIRST_TWO, address))
        return ipv4_reason(address + IPV4_OFFSET);
    return NULL;
}

const char *bk_address_reason(const uint8_t address[16]) {
    const char *reason;
    BK_ASSERT(pthread_once(&tables_once, read_tables) == 0);
    if (is_in(MAPPED, address) || is_in(NAT64, address))
        return ipv4_reason(address + IPV4_OFFSET);
    reason = tunnel_reason(address);
    if (reason == NULL)
        reason = find_block(IPV6_BLOCKS, ipv6_networks, BK_COUNT_OF(IPV6_BLOCKS), address);
    if (reason == NULL && !is_in(GLOBAL, address))
        reason = "reserved";
    return reason;
}
