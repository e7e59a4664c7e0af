/* One row per option: `bakend help serve`, `bakend config` and the checks are made from it. */
#include "options.h"

#include "address.h"

#include "bakend/assert.h"
#include "bakend/log.h"
#include "bakend/slice.h"
#include <arpa/inet.h>

/* --- what texts must be ----------------------------------------------------------------------- */

/* True when each of the texts between commas is right; an empty list is. */
static bool all_are(const char *text, bool (*is_right)(struct bk_slice part)) {
    struct bk_slice rest = bk_slice_from(text), part;
    while (rest.length > 0 && bk_slice_split(&rest, ',', &part))
        if (!is_right(bk_slice_trim(part)))
            return false;
    return true;
}

static bool is_host_text(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] <= ' ' || strchr("/?#@\"'<>\\*", text.data[i]) != NULL)
            return false;
    return text.length > 0;
}

/* What browsers send as Origin: a scheme and a host, no path. */
static bool is_origin(struct bk_slice text) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < BK_COUNT_OF(schemes); i++) {
        struct bk_slice scheme = bk_slice_from(schemes[i]);
        if (bk_slice_starts_with(text, scheme))
            return is_host_text(
                bk_slice_make(text.data + scheme.length, text.length - scheme.length));
    }
    return false;
}

static const char *refuse_origins(const char *text) {
    if (strcmp(text, "*") == 0 || all_are(text, is_origin))
        return NULL;
    return "must be * or origins separated by commas, such as https://app.example.com";
}

static const char *refuse_domain(const char *text) {
    struct bk_slice rest = bk_slice_from(text), label;
    bool is_right = rest.length == 0 || text[rest.length - 1] != '.';
    while (is_right && rest.length > 0 && bk_slice_split(&rest, '.', &label)) {
        is_right = label.length > 0 && label.length <= 63;
        for (size_t i = 0; i < label.length; i++) {
            char c = label.data[i];
            is_right = is_right && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                    (c >= '0' && c <= '9') || c == '-');
        }
    }
    return is_right ? NULL : "must be a domain, such as example.com, without a scheme or port";
}

static bool is_address_block(struct bk_slice text) {
    char address[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    size_t length = bk_slice_find(text, '/');
    int64_t bits = 0;
    if (length == 0 || length >= sizeof address)
        return false;
    memcpy(address, text.data, length);
    address[length] = '\0';
    bool is_ipv4 = inet_pton(AF_INET, address, bytes) == 1;
    if (!is_ipv4 && inet_pton(AF_INET6, address, bytes) != 1)
        return false;
    if (length == text.length)
        return true;
    struct bk_slice tail = bk_slice_make(text.data + length + 1, text.length - length - 1);
    return bk_slice_to_int64(tail, &bits) && bits >= 0 && bits <= (is_ipv4 ? 32 : 128);
}

static const char *refuse_proxies(const char *text) {
    return all_are(text, is_address_block)
               ? NULL
               : "must be addresses or blocks separated by commas, such as 10.0.0.0/8 or ::1";
}

static const char *refuse_level(const char *text) {
    enum bk_log_level level;
    return bk_log_level_parse(bk_slice_from(text), &level)
               ? NULL
               : "must be debug, info, warn, error or off";
}

static const char *refuse_listen(const char *text) {
    struct listen_address address;
    return listen_address_parse(&address, text, NULL) == BK_OK
               ? NULL
               : "must be an address and a port, such as 127.0.0.1:8090, [::1]:8090 or *:8090";
}

/* --- the table -------------------------------------------------------------------------------- */

#define OPTION(option_name, option_type, field, default_text, least, most, argument_name,          \
               sentence)                                                                           \
    {                                                                                              \
        .name = (option_name), .type = (option_type),                                              \
        .offset = offsetof(struct server_options, field), .default_value = (default_text),         \
        .minimum = (least), .maximum = (most), .argument = (argument_name), .help = (sentence)     \
    }
#define TEXT(option_name, field, default_text, check, argument_name, sentence)                     \
    {                                                                                              \
        .name = (option_name), .type = BK_OPTION_TEXT,                                             \
        .offset = offsetof(struct server_options, field), .default_value = (default_text),         \
        .argument = (argument_name), .help = (sentence), .refuse = (check)                         \
    }
#define MINUTES(count) ((int64_t)(count)*60 * 1000)
#define YEARS(count) (MINUTES(count) * 60 * 24 * 366)
#define MIB ((int64_t)1024 * 1024)
#define TIB (MIB * 1024 * 1024)

const struct bk_option server_option_table[] = {
    TEXT("listen", listen, "127.0.0.1:8090", refuse_listen, "ADDRESS:PORT",
         "Where to accept connections; port 0 lets the system choose."),
    TEXT("data", data, "data", NULL, "DIR", "The data directory; one process at a time has it."),
    TEXT("app", app, ".", NULL, "DIR", "The working folder with public, functions and migrations."),
    TEXT("config", config, "bakend.json", NULL, "FILE",
         "The configuration file; the default one may be missing."),
    TEXT("log-level", log_level, "info", refuse_level, "LEVEL",
         "What is logged: debug, info, warn, error or off."),
    OPTION("writers", BK_OPTION_INT, writers, "2", 1, 4, "COUNT",
           "Writer threads; a tenant always has the same one."),
    OPTION("readers", BK_OPTION_INT, readers, "2", 1, 16, "COUNT",
           "Reader threads, for lists and filters; as many more for long ones."),
    OPTION("queue-max", BK_OPTION_INT, queue_max, "4096", 16, 1000000, "COUNT",
           "Writes that may wait per tenant; past it the answer is 503."),
    OPTION("read-queue-max", BK_OPTION_INT, read_queue_max, "1024", 16, 1000000, "COUNT",
           "Reads that may wait in all; past it the answer is 503."),
    OPTION("open-tenants-max", BK_OPTION_INT, open_tenants_max, "64", 2, 10000, "COUNT",
           "Tenants open at once, default among them; the least recently used one closes."),
    OPTION("retention-max-age", BK_OPTION_DURATION, retention_max_age_ms, "30d", 0, YEARS(100),
           "TIME", "Events older than this are pruned; 0 keeps them for ever."),
    OPTION("retention-max-bytes", BK_OPTION_BYTES, retention_max_bytes, "0", 0, TIB * 1024, "BYTES",
           "Past it a tenant's oldest events are pruned; 0 is no bound."),
    OPTION("tail-max-bytes", BK_OPTION_BYTES, tail_max_bytes, "4MiB", 64 * 1024, TIB, "BYTES",
           "Recent events kept in memory per open tenant."),
    TEXT("tenant-domain", tenant_domain, NULL, refuse_domain, "DOMAIN",
         "acme.DOMAIN names the tenant acme; off unless given."),
    TEXT("cors-origins", cors_origins, "*", refuse_origins, "ORIGINS",
         "Origins that browsers may call from, separated by commas, or *."),
    TEXT("trusted-proxies", trusted_proxies, NULL, refuse_proxies, "CIDR,…",
         "Proxies whose X-Forwarded-For is believed; none unless given."),
    OPTION("connections-max", BK_OPTION_INT, connections_max, "0", 0, 1000000, "COUNT",
           "Connections open at once; 0 is what the descriptors allow."),
    OPTION("connections-per-address-max", BK_OPTION_INT, connections_per_address_max, "0", 0,
           1000000, "COUNT",
           "Of them from one address but a trusted proxy; 503 past it; 0 is half of them."),
    OPTION("bodies-max-bytes", BK_OPTION_BYTES, bodies_max_bytes, "256MiB", MIB, TIB, "BYTES",
           "Request bodies in memory, of all connections; past it the answer is 503."),
    OPTION("requests-max-bytes", BK_OPTION_BYTES, requests_max_bytes, "256MiB", MIB, TIB, "BYTES",
           "Memory of all requests being handled beside their bodies; past it the answer is 503."),
    OPTION("answers-max-bytes", BK_OPTION_BYTES, answers_max_bytes, "256MiB", MIB, TIB, "BYTES",
           "Answers in memory that clients have not read; past it the one who holds most is cut."),
    OPTION("head-timeout", BK_OPTION_DURATION, head_timeout_ms, "10s", 100, MINUTES(60), "TIME",
           "The head of a request must have arrived by then."),
    OPTION("body-timeout", BK_OPTION_DURATION, body_timeout_ms, "30s", 100, MINUTES(60), "TIME",
           "A request's body may pause no longer than this."),
    OPTION("idle-timeout", BK_OPTION_DURATION, idle_timeout_ms, "75s", 100, MINUTES(60 * 24),
           "TIME", "A connection without requests is closed after this."),
    OPTION("write-timeout", BK_OPTION_DURATION, write_timeout_ms, "30s", 100, MINUTES(60), "TIME",
           "A client that reads nothing for this long is cut off."),
    OPTION("websocket-message-max-bytes", BK_OPTION_BYTES, websocket_message_max_bytes, "64KiB",
           1024, 64 * MIB, "BYTES",
           "A message that a WebSocket may send; after a larger one it is closed with 1009."),
    OPTION("websocket-queue-max-bytes", BK_OPTION_BYTES, websocket_queue_max_bytes, "1MiB",
           16 * 1024, 1024 * MIB, "BYTES",
           "What may wait for a WebSocket to read; past it the client has to come back."),
    OPTION("websocket-ping-interval", BK_OPTION_DURATION, websocket_ping_interval_ms, "25s", 100,
           MINUTES(60 * 24), "TIME", "A WebSocket that was silent for so long is pinged."),
    OPTION("drain-timeout", BK_OPTION_DURATION, drain_timeout_ms, "10s", 0, MINUTES(60), "TIME",
           "Requests in flight get this long to finish when the server stops."),
};
const size_t server_option_count = BK_COUNT_OF(server_option_table);
