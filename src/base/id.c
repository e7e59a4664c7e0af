/*
 * Randomness and identifiers.
 *
 * Each thread asks the kernel for 4 KiB at a time, since a record id takes a few bytes and a system
 * call would cost more than the rest of it. Bytes are wiped as they are handed out, so a later look
 * into memory finds no token of the past. A fork empties the child's buffer: parent and child must
 * not draw the same ids.
 */
#include "bakend/id.h"

#include "bakend/assert.h"
#include <errno.h>
#include <pthread.h>
#include <sys/random.h>

enum { POOL_BYTES = 4096, DIRECT_BYTES = 256, RECORD_TIME_DIGITS = 8, EVENT_PREFIX_BYTES = 4 };

static const int64_t RECORD_EPOCH_MS = 1577836800000; /* 2020-01-01T00:00:00Z */
static const int64_t RECORD_TIME_MAX = 2821109907455; /* 36^8 - 1: the year 2109 */
static const int64_t EVENT_TIME_MAX = (INT64_C(1) << 48) - 1;
static const char BASE36_DIGITS[] = "0123456789abcdefghijklmnopqrstuvwxyz";
static const char CROCKFORD_DIGITS[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static _Thread_local struct {
    unsigned char bytes[POOL_BYTES];
    size_t left; /* the unused ones are the last */
} pool;

static pthread_once_t fork_handler_once = PTHREAD_ONCE_INIT;

static void on_fork_child(void) { pool.left = 0; }

static void install_fork_handler(void) {
    int result = pthread_atfork(NULL, NULL, on_fork_child);
    BK_ASSERT(result == 0);
}

static void ask_kernel(void *out, size_t length) {
    unsigned char *cursor = out;
    while (length > 0) {
        ssize_t got = getrandom(cursor, length, 0);
        if (got < 0) {
            BK_ASSERT(errno == EINTR);
            continue;
        }
        cursor += got;
        length -= (size_t)got;
    }
}

void bk_random_bytes(void *out, size_t length) {
    /* Large requests would only pass through the pool. */
    if (length > DIRECT_BYTES) {
        ask_kernel(out, length);
        return;
    }
    if (length == 0)
        return;
    if (pool.left < length) {
        pthread_once(&fork_handler_once, install_fork_handler);
        ask_kernel(pool.bytes, POOL_BYTES);
        pool.left = POOL_BYTES;
    }
    unsigned char *source = pool.bytes + (POOL_BYTES - pool.left);
    memcpy(out, source, length);
    explicit_bzero(source, length);
    pool.left -= length;
}

uint64_t bk_random_u64(void) {
    uint64_t value;
    bk_random_bytes(&value, sizeof value);
    return value;
}

void bk_random_text(char *out, size_t length, struct bk_slice alphabet) {
    BK_ASSERT(alphabet.length >= 1 && alphabet.length <= 256);
    /* Bytes at or above the largest multiple of the alphabet's size would favour its beginning. */
    size_t limit = 256 - 256 % alphabet.length;
    size_t written = 0;
    while (written < length) {
        unsigned char bytes[64];
        size_t wanted = length - written < sizeof bytes ? length - written : sizeof bytes;
        bk_random_bytes(bytes, wanted);
        for (size_t i = 0; i < wanted; i++) {
            if (bytes[i] < limit)
                out[written++] = alphabet.data[bytes[i] % alphabet.length];
        }
        explicit_bzero(bytes, wanted);
    }
}

void bk_record_id_make(char out[BK_RECORD_ID_BYTES], int64_t wall_ms) {
    int64_t ms = wall_ms < RECORD_EPOCH_MS ? 0 : wall_ms - RECORD_EPOCH_MS;
    if (ms > RECORD_TIME_MAX)
        ms = RECORD_TIME_MAX;
    for (int i = RECORD_TIME_DIGITS - 1; i >= 0; i--) {
        out[i] = BASE36_DIGITS[ms % 36];
        ms /= 36;
    }
    bk_random_text(out + RECORD_TIME_DIGITS, BK_RECORD_ID_BYTES - RECORD_TIME_DIGITS,
                   BK_SLICE("0123456789abcdefghijklmnopqrstuvwxyz"));
}

/*
 * The 128 bits of a ULID as two words, and 26 digits of 5 bits from the highest on; the first digit
 * holds the 3 bits that are left over.
 *
 *   high  [ 48 milliseconds ][ 16 upper bits of the sequence ]
 *   low   [ 32 lower bits of the sequence ][ 32 random bits  ]
 */
void bk_event_id_make(char out[BK_EVENT_ID_BYTES], int64_t wall_ms, uint64_t sequence,
                      uint32_t entropy) {
    BK_ASSERT(sequence < UINT64_C(1) << 48);
    int64_t ms = wall_ms < 0 ? 0 : wall_ms > EVENT_TIME_MAX ? EVENT_TIME_MAX : wall_ms;
    uint64_t high = (uint64_t)ms << 16 | sequence >> 32;
    uint64_t low = sequence << 32 | entropy;
    memcpy(out, "evt_", EVENT_PREFIX_BYTES);
    for (int i = BK_EVENT_ID_BYTES - 1; i >= EVENT_PREFIX_BYTES; i--) {
        out[i] = CROCKFORD_DIGITS[low & 31];
        low = low >> 5 | high << 59;
        high >>= 5;
    }
}

static int crockford_value(char c) {
    const char *found = c == '\0' ? NULL : strchr(CROCKFORD_DIGITS, c);
    return found == NULL ? -1 : (int)(found - CROCKFORD_DIGITS);
}

bool bk_event_id_parse(struct bk_slice text, int64_t *wall_ms, uint64_t *sequence,
                       uint32_t *entropy) {
    if (text.length != BK_EVENT_ID_BYTES || memcmp(text.data, "evt_", EVENT_PREFIX_BYTES) != 0)
        return false;
    if (text.data[EVENT_PREFIX_BYTES] > '7') /* more than 128 bits */
        return false;
    uint64_t high = 0;
    uint64_t low = 0;
    for (size_t i = EVENT_PREFIX_BYTES; i < BK_EVENT_ID_BYTES; i++) {
        int value = crockford_value(text.data[i]);
        if (value < 0)
            return false;
        high = high << 5 | low >> 59;
        low = low << 5 | (uint64_t)value;
    }
    if (wall_ms != NULL)
        *wall_ms = (int64_t)(high >> 16);
    if (sequence != NULL)
        *sequence = (high & 0xFFFF) << 32 | low >> 32;
    if (entropy != NULL)
        *entropy = (uint32_t)low;
    return true;
}
