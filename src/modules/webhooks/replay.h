/* What the files of replays share: what one is of. replay.c has the design. */
#ifndef BAKEND_WEBHOOKS_REPLAY_H
#define BAKEND_WEBHOOKS_REPLAY_H

#include "webhooks.h"

/* The payload of its task. Slices are borrowed. */
struct webhooks_replay_range {
    uint64_t after, until;        /* sequences: those behind the one, up to the other */
    const struct bk_slice *types; /* patterns, beside those of the endpoint; none: all of these */
    size_t type_count;
    struct bk_slice state; /* of their deliveries: "failed", "delivered"; empty: any */
    bool is_missing;       /* those without a delivery alone */
    bool is_gap;           /* its bounds are those between which the webhook was off */
};

void webhooks_replay_range_write(struct bk_buffer *out, const struct webhooks_replay_range *range);
/* Into the arena. BK_INVALID. */
enum bk_status webhooks_replay_range_read(struct bk_arena *arena, struct bk_slice payload,
                                          struct webhooks_replay_range *range);

/* What is known of a delivery before it is sent again. */
struct webhooks_replay_row {
    bool exists;
    bool is_waiting; /* for its next attempt */
    uint64_t after;
    enum webhooks_format format;
};
/* Whether an event is to be sent again. Any thread that has the connection. */
enum bk_status webhooks_replay_range_wants(struct bk_connection *connection,
                                           const struct webhooks_replay_range *range,
                                           const struct webhooks_config *config,
                                           const struct bk_event_fields *fields,
                                           struct webhooks_replay_row *row, bool *is_wanted);
/* The newest event before this one that the endpoint has a delivery of; `otherwise` when there is
 * none: what a first delivery of it names as the one before. */
enum bk_status webhooks_replay_range_before(struct bk_connection *connection,
                                            struct bk_slice webhook, uint64_t sequence,
                                            uint64_t otherwise, uint64_t *before);

#endif
