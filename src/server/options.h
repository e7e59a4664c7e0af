/* The options of the server itself; modules have tables of their own. */
#ifndef BAKEND_SERVER_OPTIONS_H
#define BAKEND_SERVER_OPTIONS_H

#include "bakend/option.h"

struct server_options {
    const char *listen, *data, *app, *config, *log_level;
    int64_t writers, readers, queue_max, read_queue_max;
    int64_t open_tenants_max;
    int64_t retention_max_age_ms, retention_max_bytes, tail_max_bytes;
    const char *tenant_domain, *cors_origins, *trusted_proxies;
    int64_t connections_max, connections_per_address_max, bodies_max_bytes, requests_max_bytes,
        answers_max_bytes;
    int64_t head_timeout_ms, body_timeout_ms, idle_timeout_ms, write_timeout_ms;
    int64_t websocket_message_max_bytes, websocket_queue_max_bytes, websocket_ping_interval_ms;
    int64_t drain_timeout_ms;
};

extern const struct bk_option server_option_table[];
extern const size_t server_option_count;

#endif
