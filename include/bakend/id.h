/*
 * Identifiers.
 *   record id  15 of [a-z0-9]: 8 of base-36 milliseconds since 2020-01-01 and 7 random ones, so
 *              that inserts touch the end of the tree and nobody guesses the next one.
 *   event id   "evt_" and a ULID (Crockford base32, 26 upper-case digits) of 48 bits of wall
 *              milliseconds, 48 bits of sequence and 32 random bits: found by id without an index.
 */
#ifndef BAKEND_ID_H
#define BAKEND_ID_H

#include "bakend/slice.h"

enum { BK_RECORD_ID_BYTES = 15, BK_EVENT_ID_BYTES = 30 };

/* From the kernel (getrandom), through a buffer per thread. Never fails. Any thread. */
void bk_random_bytes(void *out, size_t length);
uint64_t bk_random_u64(void);
/* length characters of alphabet (at most 256), unbiased; no NUL. */
void bk_random_text(char *out, size_t length, struct bk_slice alphabet);

void bk_record_id_make(char out[BK_RECORD_ID_BYTES], int64_t wall_ms);
/* sequence < 2^48. */
void bk_event_id_make(char out[BK_EVENT_ID_BYTES], int64_t wall_ms, uint64_t sequence,
                      uint32_t entropy);
/* False when text is not an event id. Outputs may be NULL. */
bool bk_event_id_parse(struct bk_slice text, int64_t *wall_ms, uint64_t *sequence,
                       uint32_t *entropy);

#endif
