/*
 * Requests that are sent again. A client that never saw the answer sends the same request with the
 * same Idempotency-Key, and what was done is not done twice: its outcome is kept, for a day, in the
 * transaction that did it, and the answer is built again from that.
 *
 *   loop     bk_retry_read
 *   writer   bk_retry_find ── BK_OK: the answer is built from the outcome
 *                          └─ BK_END: it is done, then bk_retry_keep
 *
 * For requests that are answered 2xx once they are on disk; not for those that hand out secrets.
 */
#ifndef BAKEND_RETRY_H
#define BAKEND_RETRY_H

#include "bakend/api.h"
#include "bakend/crypto.h"

enum {
    BK_RETRY_DIGEST_BYTES = 2 * BK_SHA256_BYTES, /* in hex */
    BK_RETRY_MIGRATION_COUNT = 1,
};

/* Of the table, which modules/collections declares. */
extern const struct bk_migration bk_retry_migrations[BK_RETRY_MIGRATION_COUNT];

struct bk_retry {
    bool is_asked; /* the request has a key */
    char key[BK_RETRY_DIGEST_BYTES];
    char body[BK_RETRY_DIGEST_BYTES];
};

/* Loop. False: the request was answered, since its key is no good. */
bool bk_retry_read(struct bk_request *request, struct bk_retry *retry);

/* Writer. BK_OK: the request was here before; *outcome is the array that was kept, in the arena.
 * BK_END: it was not, or has no key. BK_UNPROCESSABLE: another one with this key was. */
enum bk_status bk_retry_find(const struct bk_retry *retry, struct bk_transaction *transaction,
                             struct bk_arena *arena, const struct bk_json **outcome);
/* Writer. Keeps the outcome, "[…]", of a request that has a key; some that are too old go. */
enum bk_status bk_retry_keep(const struct bk_retry *retry, struct bk_transaction *transaction,
                             struct bk_slice outcome);

extern const char bk_retry_conflict_message[];

#endif
