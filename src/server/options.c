/* One row per option: `bakend help serve`, `bakend config` and the checks are made from it. */
#include "options.h"

#include "bakend/assert.h"

#define OPTION(option_name, option_type, field, default_text, least, most, argument_name,          \
               sentence)                                                                           \
    {                                                                                              \
        .name = (option_name), .type = (option_type),                                              \
        .offset = offsetof(struct server_options, field), .default_value = (default_text),         \
        .minimum = (least), .maximum = (most), .argument = (argument_name), .help = (sentence)     \
    }
#define MINUTES(count) ((int64_t)(count)*60 * 1000)
#define YEARS(count) (MINUTES(count) * 60 * 24 * 366)
#define MIB ((int64_t)1024 * 1024)
#define TIB (MIB * 1024 * 1024)

const struct bk_option server_option_table[] = {
    OPTION("listen", BK_OPTION_TEXT, listen, "127.0.0.1:8090", 0, 0, "ADDRESS:PORT",
           "Where to accept connections; port 0 lets the system choose."),
    OPTION("data", BK_OPTION_TEXT, data, "data", 0, 0, "DIR",
           "The data directory; one process at a time has it."),
    OPTION("app", BK_OPTION_TEXT, app, ".", 0, 0, "DIR",
           "The working folder with public, functions and migrations."),
    OPTION("config", BK_OPTION_TEXT, config, "bakend.json", 0, 0, "FILE",
           "The configuration file; the default one may be missing."),
    OPTION("log-level", BK_OPTION_TEXT, log_level, "info", 0, 0, "LEVEL",
           "What is logged: debug, info, warn, error or off."),
    OPTION("writers", BK_OPTION_INT, writers, "2", 1, 4, "COUNT",
           "Writer threads; a tenant always has the same one."),
    OPTION("readers", BK_OPTION_INT, readers, "2", 1, 16, "COUNT",
           "Reader threads, for lists and filters."),
    OPTION("queue-max", BK_OPTION_INT, queue_max, "4096", 16, 1000000, "COUNT",
           "Writes that may wait per tenant; past it the answer is 503."),
    OPTION("read-queue-max", BK_OPTION_INT, read_queue_max, "1024", 16, 1000000, "COUNT",
           "Reads that may wait in all; past it the answer is 503."),
    OPTION("open-tenants-max", BK_OPTION_INT, open_tenants_max, "64", 1, 10000, "COUNT",
           "Tenants open at once; the least recently used one closes."),
    OPTION("retention-max-age", BK_OPTION_DURATION, retention_max_age_ms, "30d", 0, YEARS(100),
           "TIME", "Events older than this are pruned; 0 keeps them for ever."),
    OPTION("retention-max-bytes", BK_OPTION_BYTES, retention_max_bytes, "0", 0, TIB * 1024, "BYTES",
           "Past it a tenant's oldest events are pruned; 0 is no bound."),
    OPTION("tail-max-bytes", BK_OPTION_BYTES, tail_max_bytes, "4MiB", 64 * 1024, TIB, "BYTES",
           "Recent events kept in memory per open tenant."),
    OPTION("tenant-domain", BK_OPTION_TEXT, tenant_domain, NULL, 0, 0, "DOMAIN",
           "acme.DOMAIN names the tenant acme; off unless given."),
    OPTION("cors-origins", BK_OPTION_TEXT, cors_origins, "*", 0, 0, "ORIGINS",
           "Origins that browsers may call from, separated by commas, or *."),
    OPTION("trusted-proxies", BK_OPTION_TEXT, trusted_proxies, NULL, 0, 0, "CIDR,…",
           "Proxies whose X-Forwarded-For is believed; none unless given."),
    OPTION("connections-max", BK_OPTION_INT, connections_max, "0", 0, 1000000, "COUNT",
           "Connections open at once; 0 is what the descriptors allow."),
    OPTION("bodies-max-bytes", BK_OPTION_BYTES, bodies_max_bytes, "256MiB", MIB, TIB, "BYTES",
           "Request bodies in memory, of all connections; past it the answer is 503."),
    OPTION("head-timeout", BK_OPTION_DURATION, head_timeout_ms, "10s", 100, MINUTES(60), "TIME",
           "The head of a request must have arrived by then."),
    OPTION("body-timeout", BK_OPTION_DURATION, body_timeout_ms, "30s", 100, MINUTES(60), "TIME",
           "A request's body may pause no longer than this."),
    OPTION("idle-timeout", BK_OPTION_DURATION, idle_timeout_ms, "75s", 100, MINUTES(60 * 24),
           "TIME", "A connection without requests is closed after this."),
    OPTION("write-timeout", BK_OPTION_DURATION, write_timeout_ms, "30s", 100, MINUTES(60), "TIME",
           "A client that reads nothing for this long is cut off."),
    OPTION("drain-timeout", BK_OPTION_DURATION, drain_timeout_ms, "10s", 0, MINUTES(60), "TIME",
           "Requests in flight get this long to finish when the server stops."),
};
const size_t server_option_count = BK_COUNT_OF(server_option_table);
