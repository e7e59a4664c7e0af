/* What the files of this module share. */
#ifndef LIMITS_PRIVATE_H
#define LIMITS_PRIVATE_H

#include "bakend/module.h"
#include "bakend/settings.h"
#include "bakend/tally.h"

/* --- rule.c ---- */

/* What a request is called, the narrowest first: "users:create", "*:create", "POST /api/x",
 * "/api/x". */
enum { LIMITS_LABELS_MAX = 8 };
struct limits_labels {
    struct bk_slice texts[LIMITS_LABELS_MAX];
    uint32_t count;
};
/* collection: of its path; NULL: none. In the request's arena. */
void limits_labels_make(struct bk_request *request, const struct bk_collection *collection,
                        struct limits_labels *labels);
/* The one rule that a request of this audience is held to; NULL: none. */
const struct bk_settings_limit *limits_rule_find(const struct bk_settings_limits *limits,
                                                 const struct limits_labels *labels, bool is_guest);

#endif
