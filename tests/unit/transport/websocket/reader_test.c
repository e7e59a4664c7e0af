/*
 * A client's bytes as messages: RFC 6455, sections 5.4 to 5.6, 7.1 and 8.1.
 *
 * Each test writes frames, reads them, and compares what was found, written as a line of words:
 * "text:hello ping: close:1000 violation:1002".
 */
#include "reader.h"

#include "client_frames.h"
#include "support.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

enum { MESSAGE_MAX_BYTES = 1000, SPLITS = 2000, SOUP_ROUNDS = 3000, SOUP_FRAMES = 8 };

static struct bk_buffer frames, found_text;
static struct websocket_reader reader;

static int setup(void **state) {
    (void)state;
    bk_buffer_init(&frames, ROOM_BYTES);
    bk_buffer_init(&found_text, ROOM_BYTES);
    websocket_reader_init(&reader, MESSAGE_MAX_BYTES);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    websocket_reader_fini(&reader);
    bk_buffer_fini(&frames);
    bk_buffer_fini(&found_text);
    return 0;
}

static void write_found(struct bk_buffer *out, enum websocket_event event,
                        const struct websocket_found *found) {
    static const char *const names[] = {[WEBSOCKET_EVENT_PING] = "ping",
                                        [WEBSOCKET_EVENT_PONG] = "pong",
                                        [WEBSOCKET_EVENT_CLOSE] = "close",
                                        [WEBSOCKET_EVENT_VIOLATION] = "violation"};
    if (out->length > 0)
        bk_buffer_append_char(out, ' ');
    if (event == WEBSOCKET_EVENT_CLOSE || event == WEBSOCKET_EVENT_VIOLATION) {
        bk_buffer_format(out, "%s:%d", names[event], found->code);
        return;
    }
    bk_buffer_format(out, "%s:",
                     event != WEBSOCKET_EVENT_MESSAGE ? names[event]
                     : found->is_binary               ? "binary"
                                                      : "text");
    bk_buffer_append_slice(out, found->payload);
}

/* Reads a copy, as large as what it is a copy of, so that the sanitizer sees each step too far.
 * False: nothing more may be read. */
static bool feed(struct websocket_reader *to, const char *data, size_t length,
                 struct bk_buffer *out) {
    char *copy = bk_alloc(length > 0 ? length : 1);
    struct websocket_input input = {.data = copy, .length = length};
    enum websocket_event event;
    struct websocket_found found;
    if (length > 0)
        memcpy(copy, data, length);
    while ((event = websocket_reader_next(to, &input, &found)) != WEBSOCKET_EVENT_MORE) {
        write_found(out, event, &found);
        if (event == WEBSOCKET_EVENT_VIOLATION || event == WEBSOCKET_EVENT_CLOSE)
            break;
    }
    if (event == WEBSOCKET_EVENT_MORE)
        assert_int_equal(input.length, 0);
    bk_free(copy);
    return event == WEBSOCKET_EVENT_MORE;
}

static void finds(const char *expected) {
    (void)feed(&reader, frames.data, frames.length, &found_text);
    bk_buffer_append_char(&found_text, '\0');
    assert_string_equal(found_text.data, expected);
}

/* --- messages --------------------------------------------------------------------------------- */

static void reads_text_and_binary(void **state) {
    (void)state;
    put_text(&frames, FINAL | 1, "hello");
    put_text(&frames, FINAL | 2, "\xff\xfe");
    put_text(&frames, FINAL | 1, "");
    finds("text:hello binary:\xff\xfe text:");
}

static void owns_no_memory_between_messages(void **state) {
    (void)state;
    put_text(&frames, 1, "hel");
    put_text(&frames, FINAL, "lo");
    put_text(&frames, FINAL | 1, "whole");
    finds("text:hello text:whole");
    assert_null(reader.gathered.data);
}

static void joins_fragments(void **state) {
    (void)state;
    put_text(&frames, 1, "a");
    put_text(&frames, 0, "");
    put_text(&frames, 0, "b");
    put_text(&frames, FINAL, "c");
    put_text(&frames, 2, "");
    put_text(&frames, FINAL, "");
    finds("text:abc binary:");
}

static void reads_control_frames_between_fragments(void **state) {
    (void)state;
    put_text(&frames, 1, "a");
    put_text(&frames, FINAL | 9, "one");
    put_text(&frames, 0, "b");
    put_text(&frames, FINAL | 10, "two");
    put_text(&frames, FINAL, "c");
    finds("ping:one pong:two text:abc");
}

static void refuses_a_continuation_of_nothing(void **state) {
    (void)state;
    put_text(&frames, FINAL | 1, "a");
    put_text(&frames, FINAL, "b");
    finds("text:a violation:1002");
}

static void refuses_a_message_inside_a_message(void **state) {
    (void)state;
    put_text(&frames, 1, "a");
    put_text(&frames, FINAL | 1, "b");
    finds("violation:1002");
}

static void refuses_reserved_bits(void **state) {
    (void)state;
    put_text(&frames, FINAL | RESERVED_1 | 1, "compressed?");
    finds("violation:1002");
}

/* --- limits ----------------------------------------------------------------------------------- */

static void takes_a_message_as_long_as_the_limit(void **state) {
    char text[MESSAGE_MAX_BYTES + 1] = {0};
    (void)state;
    memset(text, 'x', MESSAGE_MAX_BYTES);
    put_text(&frames, FINAL | 1, text);
    (void)feed(&reader, frames.data, frames.length, &found_text);
    assert_int_equal(found_text.length, strlen("text:") + MESSAGE_MAX_BYTES);
}

static void refuses_a_long_message_by_its_head(void **state) {
    (void)state;
    bk_buffer_append_char(&frames, (char)(FINAL | 1));
    put_length(&frames, 2, MESSAGE_MAX_BYTES + 1);
    put_masked(&frames, "", 0);
    finds("violation:1009");
    assert_null(reader.gathered.data);
}

static void refuses_the_longest_length_there_is(void **state) {
    (void)state;
    put_text(&frames, 2, "a");
    bk_buffer_append_char(&frames, (char)FINAL);
    put_length(&frames, 8, INT64_MAX);
    put_masked(&frames, "", 0);
    finds("violation:1009");
}

static void counts_all_fragments_together(void **state) {
    char text[501] = {0};
    (void)state;
    memset(text, 'x', 500);
    put_text(&frames, 1, text);
    put_text(&frames, 0, text);
    put_text(&frames, FINAL, "x");
    finds("violation:1009");
}

static void has_room_for_a_ping_in_a_full_message(void **state) {
    char text[MESSAGE_MAX_BYTES + 1] = {0}, ping[126] = {0};
    struct websocket_found found;
    (void)state;
    memset(text, 'x', MESSAGE_MAX_BYTES);
    memset(ping, 'p', 125);
    put_text(&frames, 1, text);
    put_text(&frames, FINAL | 9, ping);
    for (size_t i = 0; i < frames.length; i++) {
        struct websocket_input input = {.data = frames.data + i, .length = 1};
        enum websocket_event event = websocket_reader_next(&reader, &input, &found);
        assert_int_equal(event,
                         i + 1 < frames.length ? WEBSOCKET_EVENT_MORE : WEBSOCKET_EVENT_PING);
    }
    assert_int_equal(found.payload.length, 125);
    assert_memory_equal(found.payload.data, ping, 125);
}

/* --- text ------------------------------------------------------------------------------------- */

static void takes_a_character_that_fragments_cut(void **state) {
    (void)state;
    put_text(&frames, 1, "\xe2\x82");
    put_text(&frames, FINAL, "\xac");
    finds("text:\xe2\x82\xac");
}

static void refuses_broken_text(void **state) {
    (void)state;
    put_text(&frames, FINAL | 1, "a\xed\xa0\x80");
    finds("violation:1007");
}

static void refuses_text_that_ends_inside_a_character(void **state) {
    (void)state;
    put_text(&frames, FINAL | 1, "\xe2\x82");
    finds("violation:1007");
}

static void refuses_broken_text_before_the_message_ends(void **state) {
    (void)state;
    put_text(&frames, 1, "a\xff");
    finds("violation:1007");
}

static void refuses_broken_text_before_the_frame_ends(void **state) {
    (void)state;
    put_text(&frames, FINAL | 1, "a\xff and more");
    frames.length -= 8;
    finds("violation:1007");
}

static void starts_each_text_afresh(void **state) {
    (void)state;
    put_text(&frames, FINAL | 2, "\xe2");
    put_text(&frames, FINAL | 1, "a");
    finds("binary:\xe2 text:a");
}

/* --- close frames ----------------------------------------------------------------------------- */

static void reads_close_frames(void **state) {
    (void)state;
    put_close(&frames, 4001, "bye");
    finds("close:4001");
}

static void reads_a_close_frame_without_a_code(void **state) {
    (void)state;
    put_text(&frames, FINAL | 8, "");
    finds("close:1005");
}

static void refuses_a_close_frame_of_one_byte(void **state) {
    (void)state;
    put_text(&frames, FINAL | 8, "\x03");
    finds("violation:1002");
}

static void refuses_a_code_that_is_never_sent(void **state) {
    (void)state;
    put_close(&frames, 1006, "");
    finds("violation:1002");
}

static void refuses_a_reason_that_is_no_text(void **state) {
    (void)state;
    put_close(&frames, 1000, "\xc3");
    finds("violation:1007");
}

/* --- however the bytes are cut ---------------------------------------------------------------- */

static uint32_t random_state = 7;

static size_t random_below(size_t limit) {
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % limit;
}

/* The model: the same bytes at once. */
static void check_splits(const struct bk_buffer *bytes, size_t rounds) {
    struct bk_buffer whole, parts;
    struct websocket_reader other;
    bk_buffer_init(&whole, ROOM_BYTES);
    bk_buffer_init(&parts, ROOM_BYTES);
    websocket_reader_init(&other, MESSAGE_MAX_BYTES);
    (void)feed(&other, bytes->data, bytes->length, &whole);
    websocket_reader_fini(&other);
    for (size_t round = 0; round < rounds; round++) {
        size_t at = 0, step_max = 1 + random_below(40);
        bool goes_on = true;
        bk_buffer_clear(&parts);
        websocket_reader_init(&other, MESSAGE_MAX_BYTES);
        while (goes_on && at < bytes->length) {
            size_t left = bytes->length - at, step = 1 + random_below(step_max);
            step = step < left ? step : left;
            goes_on = feed(&other, bytes->data + at, step, &parts);
            at += step;
        }
        websocket_reader_fini(&other);
        assert_int_equal(parts.length, whole.length);
        if (whole.length > 0)
            assert_memory_equal(parts.data, whole.data, whole.length);
    }
    bk_buffer_fini(&whole);
    bk_buffer_fini(&parts);
}

static void finds_the_same_however_the_bytes_are_cut(void **state) {
    char text[301] = {0};
    (void)state;
    memset(text, 't', 300);
    put_text(&frames, FINAL | 1, "h\xc3\xa9llo");
    put_text(&frames, 2, text);
    put_text(&frames, FINAL | 9, "between");
    put_text(&frames, 0, text);
    put_text(&frames, FINAL | 9, "");
    put_text(&frames, FINAL, "");
    put_text(&frames, FINAL | 1, text);
    put_text(&frames, FINAL | 10, "pong");
    put_close(&frames, 1000, "fin");
    check_splits(&frames, SPLITS);
}

static void put_any_frame(void) {
    static const char *const texts[] = {"", "a", "\xe2\x82", "\xac", "ok \xc3\xa9", "\x03\xe8"};
    static const int firsts[] = {1,     2,         0,          FINAL | 1, FINAL | 2,
                                 FINAL, FINAL | 9, FINAL | 10, FINAL | 8, FINAL | 3};
    put_text(&frames, firsts[random_below(BK_COUNT_OF(firsts))],
             texts[random_below(BK_COUNT_OF(texts))]);
}

static void finds_the_same_in_any_order_of_frames(void **state) {
    (void)state;
    for (int round = 0; round < SOUP_ROUNDS; round++) {
        bk_buffer_clear(&frames);
        for (size_t i = random_below(SOUP_FRAMES) + 1; i > 0; i--)
            put_any_frame();
        if (round % 3 == 0)
            frames.data[random_below(frames.length)] ^= (char)(1 << random_below(8));
        check_splits(&frames, 2);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(reads_text_and_binary),
        TEST(owns_no_memory_between_messages),
        TEST(joins_fragments),
        TEST(reads_control_frames_between_fragments),
        TEST(refuses_a_continuation_of_nothing),
        TEST(refuses_a_message_inside_a_message),
        TEST(refuses_reserved_bits),
        TEST(takes_a_message_as_long_as_the_limit),
        TEST(refuses_a_long_message_by_its_head),
        TEST(refuses_the_longest_length_there_is),
        TEST(counts_all_fragments_together),
        TEST(has_room_for_a_ping_in_a_full_message),
        TEST(takes_a_character_that_fragments_cut),
        TEST(refuses_broken_text),
        TEST(refuses_text_that_ends_inside_a_character),
        TEST(refuses_broken_text_before_the_message_ends),
        TEST(refuses_broken_text_before_the_frame_ends),
        TEST(starts_each_text_afresh),
        TEST(reads_close_frames),
        TEST(reads_a_close_frame_without_a_code),
        TEST(refuses_a_close_frame_of_one_byte),
        TEST(refuses_a_code_that_is_never_sent),
        TEST(refuses_a_reason_that_is_no_text),
        TEST(finds_the_same_however_the_bytes_are_cut),
        TEST(finds_the_same_in_any_order_of_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
