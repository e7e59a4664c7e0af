/*
 * Cursors, ids and times: the texts that say from where to read.
 *
 * Whatever the bytes: what is read as a cursor is written as the same text; a cursor of any epoch
 * and sequence reads back; no other text than the one written is that cursor; a time that is read
 * is written as one that reads back, and the calendar is that of the C library; base64url has one
 * text for each value.
 */
#include "fuzz.h"

#include "bakend/clock.h"
#include "bakend/encode.h"
#include "bakend/feed.h"
#include "kernel/schema/types/types.h"

#include <stdio.h>
#include <time.h>

enum { EPOCH_BYTES = 8, DECODED_BYTES_MAX = 4096, ARENA_BYTES_MAX = 64 * 1024 };

static void check_cursor(struct bk_slice text) {
    uint8_t epoch[EPOCH_BYTES];
    uint64_t sequence;
    char again[BK_CURSOR_BYTES];
    if (!bk_cursor_parse(text, epoch, &sequence))
        return;
    bk_cursor_make(again, epoch, sequence);
    BK_ASSERT(bk_slice_equal(text, bk_slice_make(again, sizeof(again))));
}

/* A cursor made of the first bytes, then spoilt in one place by the next two. */
static void check_made(const uint8_t *data, size_t size) {
    uint8_t epoch[EPOCH_BYTES], epoch_again[EPOCH_BYTES];
    uint64_t sequence, sequence_again;
    char text[BK_CURSOR_BYTES];
    if (size < EPOCH_BYTES + sizeof(sequence) + 2)
        return;
    memcpy(epoch, data, EPOCH_BYTES);
    memcpy(&sequence, data + EPOCH_BYTES, sizeof(sequence));
    bk_cursor_make(text, epoch, sequence);
    struct bk_slice cursor = bk_slice_make(text, sizeof(text));
    BK_ASSERT(bk_cursor_parse(cursor, epoch_again, &sequence_again));
    BK_ASSERT(memcmp(epoch, epoch_again, EPOCH_BYTES) == 0 && sequence == sequence_again);
    text[data[16] % BK_CURSOR_BYTES] = (char)data[17];
    check_cursor(cursor);
}

/* The C library's text of the same moment. */
static void check_calendar(int64_t wall_ms) {
    char text[BK_TIME_TEXT_BYTES], expected[64];
    int64_t milliseconds = (wall_ms % 1000 + 1000) % 1000, again;
    time_t seconds = (time_t)((wall_ms - milliseconds) / 1000);
    struct tm parts;
    bk_time_format(text, wall_ms, 'T');
    BK_ASSERT(gmtime_r(&seconds, &parts) != NULL);
    int length = snprintf(expected, sizeof(expected), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                          parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                          parts.tm_min, parts.tm_sec, (int)milliseconds);
    BK_ASSERT(length == BK_TIME_TEXT_BYTES && memcmp(text, expected, sizeof(text)) == 0);
    BK_ASSERT(bk_time_parse(bk_slice_make(text, sizeof(text)), &again) && again == wall_ms);
}

static void check_time(struct bk_slice text) {
    int64_t wall_ms, of_record;
    if (!bk_time_parse(text, &wall_ms))
        return;
    check_calendar(wall_ms);
    /* A record's date reads every time that the feed reads, as the same moment. */
    BK_ASSERT(schema_date_parse(text, &of_record) && of_record == wall_ms);
}

static void check_record_date(struct bk_slice text) {
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    struct bk_slice date = schema_date_normalise(text, &arena);
    BK_ASSERT(date.length == 0 || date.length == BK_TIME_TEXT_BYTES);
    BK_ASSERT(bk_slice_equal(schema_date_normalise(date, &arena), date));
    bk_arena_fini(&arena);
}

/* Every moment that can be written. */
static void check_any_moment(const uint8_t *data, size_t size) {
    static const int64_t first_ms = -62167219200000, count = 315569520000000;
    uint64_t number;
    if (size < sizeof(number))
        return;
    memcpy(&number, data, sizeof(number));
    check_calendar(first_ms + (int64_t)(number % (uint64_t)count));
}

static void check_base64url(struct bk_slice text) {
    uint8_t decoded[DECODED_BYTES_MAX];
    char again[BK_BASE64URL_BYTES(DECODED_BYTES_MAX)];
    size_t length = sizeof(decoded);
    if (bk_base64url_decode(text, decoded, &length)) {
        size_t written = bk_base64url_encode(again, decoded, length);
        BK_ASSERT(bk_slice_equal(text, bk_slice_make(again, written)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice text = fuzz_copy(data, size);
    check_cursor(text);
    check_made(data, size);
    check_time(text);
    check_record_date(text);
    check_any_moment(data, size);
    check_base64url(text);
    fuzz_free(text);
    return 0;
}
