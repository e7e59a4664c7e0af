/*
 * What is asked of other machines, and how they answer.
 *
 * The input's first character says what the rest is:
 *
 *   u   a URL
 *   n   a list of networks
 *   a   an address, 16 bytes
 *   h   the name of a header, on a line, and the head of an answer
 *   w   a peer's words
 *
 * Whatever it is: a URL that is let through names no address that is not public, in any spelling
 * that the C library reads; it is refused with a reason else; a network contains its own address;
 * what an address carries is judged as it is by itself; a header is of one line of the head; and
 * words for people have no control characters and are UTF-8.
 */
#include "fuzz.h"

#include "platform/outbound/outbound_private.h"

#include <arpa/inet.h>

static const struct bk_outbound_policy closed = {.name = "fuzz"};
static const struct bk_outbound_policy open = {
    .name = "fuzz", .allows_any_address = true, .allows_plain = true};

/* --- URLs ------------------------------------------------------------------------------------- */

/* The C library reads 1, 0x7f.1 and 017700000001 as addresses, too. */
static bool read_numbers(const char *host, uint8_t address[16]) {
    struct in_addr ipv4;
    if (inet_aton(host, &ipv4) == 0)
        return false;
    memset(address, 0, 16);
    address[10] = address[11] = 0xff;
    memcpy(address + 12, &ipv4, sizeof ipv4);
    return true;
}

static void check_host(CURLU *url) {
    char *host = NULL;
    uint8_t address[16];
    BK_ASSERT(curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK && host[0] != '\0');
    if (read_numbers(host, address))
        BK_ASSERT(bk_address_reason(address) == NULL);
    curl_free(host);
}

static void fuzz_url(struct bk_slice text) {
    enum bk_outbound_failure failure;
    struct bk_error error = BK_ERROR_INIT;
    struct bk_buffer key;
    CURLU *url;
    bool is_plain, has_address;
    enum bk_status status = bk_outbound_check_url(&closed, text, &error);
    BK_ASSERT((status == BK_OK) == (error.message[0] == '\0'));
    if (status == BK_OK)
        BK_ASSERT(bk_outbound_check_url(&open, text, NULL) == BK_OK);
    if (bk_outbound_check_url(&open, text, NULL) != BK_OK)
        return;
    BK_ASSERT(outbound_url_parse(text, &url, &is_plain, &failure, NULL) == BK_OK);
    if (status == BK_OK) {
        BK_ASSERT(!is_plain);
        check_host(url);
    }
    bk_buffer_init(&key, (size_t)4 * BK_OUTBOUND_URL_MAX_BYTES);
    outbound_url_host_key(&key, url, NULL);
    (void)outbound_url_domain_hash(url, &has_address);
    BK_ASSERT(bk_buffer_status(&key) == BK_OK &&
              bk_slice_starts_with(bk_buffer_slice(&key),
                                   is_plain ? BK_SLICE("http://") : BK_SLICE("https://")));
    bk_buffer_fini(&key);
    curl_url_cleanup(url);
}

/* --- addresses -------------------------------------------------------------------------------- */

static void fuzz_networks(struct bk_slice text) {
    struct bk_network *networks = NULL;
    struct bk_error error = BK_ERROR_INIT;
    uint8_t client[16];
    size_t count = 0;
    enum bk_status status = bk_networks_parse(text, &networks, &count, &error);
    BK_ASSERT((status == BK_OK) == (error.message[0] == '\0'));
    for (size_t i = 0; i < count; i++)
        BK_ASSERT(bk_network_contains(&networks[i], networks[i].address));
    bk_free(networks);
    bk_address_client(text, client);
}

static void fuzz_address(struct bk_slice bytes) {
    uint8_t plain[16] = {[10] = 0xff, [11] = 0xff}, nat64[16] = {0x00, 0x64, 0xff, 0x9b};
    if (bytes.length < sizeof plain)
        return;
    (void)bk_address_reason((const uint8_t *)bytes.data);
    memcpy(plain + 12, bytes.data + 12, 4);
    memcpy(nat64 + 12, bytes.data + 12, 4);
    BK_ASSERT(bk_address_reason(plain) == bk_address_reason(nat64));
}

/* --- answers ---------------------------------------------------------------------------------- */

static void fuzz_head(struct bk_slice rest) {
    struct bk_slice name = fuzz_take(&rest, '\n');
    const struct bk_outbound_request request = {.head = rest};
    struct bk_slice value = bk_outbound_answer_header(&request, name);
    if (value.length == 0)
        return;
    BK_ASSERT(value.data >= rest.data && value.data + value.length <= rest.data + rest.length);
    BK_ASSERT(bk_slice_find(value, '\n') == value.length);
}

static void fuzz_words(struct bk_slice text) {
    char *copy = bk_alloc(text.length + 1);
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    size_t kept = outbound_text_tidy(copy, text.length);
    BK_ASSERT(kept <= text.length);
    BK_ASSERT(bk_slice_is_utf8(bk_slice_make(copy, kept)));
    BK_ASSERT(outbound_text_is_line(bk_slice_make(copy, kept)));
    bk_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size);
    struct bk_slice rest = bk_slice_make(copy.data + 1, size > 0 ? size - 1 : 0);
    static void (*const fuzz[])(struct bk_slice rest) = {
        ['u'] = fuzz_url,  ['n'] = fuzz_networks, ['a'] = fuzz_address,
        ['h'] = fuzz_head, ['w'] = fuzz_words,
    };
    if (size > 0 && data[0] < BK_COUNT_OF(fuzz) && fuzz[data[0]] != NULL)
        fuzz[data[0]](rest);
    fuzz_free(copy);
    return 0;
}
