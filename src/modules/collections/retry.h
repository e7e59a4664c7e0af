/*
 * Requests that are sent again. A client that never saw the answer sends the same request with the
 * same Idempotency-Key, and what was done is not done twice: the outcome of a change is kept in the
 * transaction of the change, and the answer is built again from it.
 */
#ifndef RETRY_H
#define RETRY_H

#include "bakend/crypto.h"
#include "record_change.h"

enum {
    RETRY_KEY_BYTES_MAX = 255,
    RETRY_KEPT_MS = 24 * 60 * 60 * 1000,
    RETRY_DIGEST_BYTES = 2 * BK_SHA256_BYTES, /* in hex */
};

enum { RETRY_MIGRATION_COUNT = 1 };
extern const struct bk_migration collections_retry_migrations[RETRY_MIGRATION_COUNT];

struct retry {
    bool is_asked; /* the request has a key */
    char key[RETRY_DIGEST_BYTES];
    char body[RETRY_DIGEST_BYTES];
};

/* Loop. False: the request was answered, since its key is no good. */
bool collections_retry_read(struct bk_request *request, struct retry *retry);

/* --- on the writer ---------------------------------------------------------------------------- */

/* BK_OK: the request was here before; *outcome is an array with an element for each change. BK_END:
 * it was not. BK_UNPROCESSABLE: another one with this key was. */
enum bk_status collections_retry_find(const struct retry *retry, struct bk_transaction *transaction,
                                      struct bk_arena *arena, const struct bk_json **outcome);
/* Appends the element of a change that was done. */
enum bk_status collections_retry_note(const struct record_change *change,
                                      struct bk_buffer *outcome);
/* Keeps the outcome, "[…]"; some that are too old go. */
enum bk_status collections_retry_keep(const struct retry *retry, struct bk_transaction *transaction,
                                      struct bk_slice outcome);
/* The answer to a change that was done before into change->request->out: the record as it is now.
 * Of one that is gone, or has changed to what the actor may not view, only the id. */
enum bk_status collections_retry_show(struct record_change *change,
                                      struct bk_transaction *transaction,
                                      const struct bk_json *element, int *http_status);

extern const char collections_retry_conflict_message[];

#endif
