/*
 * What a tenant's superusers have set, as far as somebody uses it. The settings module keeps it and
 * puts it into tenant->settings while the tenant is open; where there is no such module everything
 * is as it is from the start. All on the loop: copy what is needed on another thread.
 */
#ifndef BAKEND_SETTINGS_H
#define BAKEND_SETTINGS_H

#include "bakend/tenant.h"

enum {
    BK_BATCH_REQUESTS_MAX = 50,
    BK_BATCH_SECONDS_MAX = 3,
};
/* Of a batch's body where the settings name no maximum: 128 MiB, the contract's. */
#define BK_BATCH_BODY_MAX_BYTES ((size_t)128 * 1024 * 1024)

struct bk_settings {
    /* Of POST /api/batch. */
    bool allows_batch;
    int64_t batch_requests_max;
    int64_t batch_seconds_max;
    int64_t batch_body_bytes_max; /* never 0 */
};

/* Never NULL. Borrowed: it may be another one in the next turn. */
static inline const struct bk_settings *bk_settings_of(const struct bk_tenant *tenant) {
    static const struct bk_settings initial = {.batch_requests_max = BK_BATCH_REQUESTS_MAX,
                                               .batch_seconds_max = BK_BATCH_SECONDS_MAX,
                                               .batch_body_bytes_max =
                                                   (int64_t)BK_BATCH_BODY_MAX_BYTES};
    return tenant->settings == NULL ? &initial : tenant->settings;
}

#endif
