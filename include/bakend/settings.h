/*
 * What a tenant's superusers have set, as far as somebody uses it. The settings module keeps it and
 * puts it into tenant->settings while the tenant is open; where there is no such module everything
 * is as it is from the start. All on the loop: copy what is needed on another thread or in a later
 * turn, and of the password no more than that.
 */
#ifndef BAKEND_SETTINGS_H
#define BAKEND_SETTINGS_H

#include "bakend/outbound.h"
#include "bakend/tenant.h"

enum {
    BK_BATCH_REQUESTS_MAX = 50,
    BK_BATCH_SECONDS_MAX = 3,
};
/* Of a batch's body where the settings name no maximum: 128 MiB, the contract's. */
#define BK_BATCH_BODY_MAX_BYTES ((size_t)128 * 1024 * 1024)

/* How the application and its mails name themselves. */
struct bk_settings_meta {
    struct bk_slice app_name, app_url, sender_name, sender_address;
};

/* The mail server. */
struct bk_settings_smtp {
    bool is_enabled;
    bool is_tls;  /* from the first byte on; else STARTTLS */
    int64_t port; /* of any size */
    struct bk_slice host, user, password;
    struct bk_slice login;      /* "PLAIN", "LOGIN" or empty */
    struct bk_slice local_name; /* of EHLO; may be empty */
};

/* How often a client may ask. */
struct bk_settings_limit {
    /* "users:create", "*:auth", "POST /api/batch"; with a '/' at its end, all below it: "/api/" */
    struct bk_slice label;
    struct bk_slice audience; /* "@guest", "@auth" or empty: both */
    int64_t seconds, requests_max;
};
struct bk_settings_limits {
    bool is_enabled;
    const struct bk_settings_limit *rules;
    uint32_t rule_count;
    const struct bk_network *excluded; /* whose clients have no limits */
    uint32_t excluded_count;
};

struct bk_settings {
    uint64_t revision; /* another one after each change */
    /* Of POST /api/batch. */
    bool allows_batch;
    int64_t batch_requests_max;
    int64_t batch_seconds_max;
    int64_t batch_body_bytes_max; /* never 0 */
    struct bk_settings_meta meta;
    struct bk_settings_smtp smtp;
    struct bk_settings_limits limits;
    const struct bk_network *superuser_networks; /* from where superusers may ask; none: anywhere */
    uint32_t superuser_network_count;
};

/* Never NULL. Borrowed: it may be another one in the next turn. */
static inline const struct bk_settings *bk_settings_of(const struct bk_tenant *tenant) {
    static const struct bk_settings initial = {
        .batch_requests_max = BK_BATCH_REQUESTS_MAX,
        .batch_seconds_max = BK_BATCH_SECONDS_MAX,
        .batch_body_bytes_max = (int64_t)BK_BATCH_BODY_MAX_BYTES,
        .meta = {.app_name = BK_SLICE_INIT("Acme"),
                 .app_url = BK_SLICE_INIT("http://localhost:8090"),
                 .sender_name = BK_SLICE_INIT("Support"),
                 .sender_address = BK_SLICE_INIT("support@example.com")},
    };
    return tenant->settings == NULL ? &initial : tenant->settings;
}

#endif
