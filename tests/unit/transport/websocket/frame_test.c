/* Heads, masks and close codes: RFC 6455, sections 5.2, 5.3, 5.5 and 7.4. */
#include "frame.h"

#include "bakend/assert.h"
#include "support.h"

static struct websocket_head head;

#define READ(...)                                                                                  \
    websocket_head_read(&head, (const uint8_t[]){__VA_ARGS__},                                     \
                        sizeof((const uint8_t[]){__VA_ARGS__}))

static void reads_a_short_head(void **state) {
    (void)state;
    assert_int_equal(READ(0x81, 0x85, 1, 2, 3, 4, 'x'), WEBSOCKET_HEAD_WHOLE);
    assert_int_equal(head.size, 6);
    assert_int_equal(head.payload_length, 5);
    assert_int_equal(head.opcode, WEBSOCKET_TEXT);
    assert_true(head.is_final);
    assert_memory_equal(head.mask, ((uint8_t[]){1, 2, 3, 4}), 4);
}

static void reads_the_longer_lengths(void **state) {
    (void)state;
    assert_int_equal(READ(0x02, 0xfe, 0, 126, 1, 2, 3, 4), WEBSOCKET_HEAD_WHOLE);
    assert_int_equal(head.payload_length, 126);
    assert_int_equal(head.size, 8);
    assert_false(head.is_final);
    assert_int_equal(READ(0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4), WEBSOCKET_HEAD_WHOLE);
    assert_int_equal(head.payload_length, 65536);
    assert_int_equal(head.size, 14);
}

static void waits_for_the_rest_of_a_head(void **state) {
    static const uint8_t bytes[] = {0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4};
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        assert_int_equal(websocket_head_read(&head, bytes, i), WEBSOCKET_HEAD_PARTIAL);
    assert_int_equal(websocket_head_read(&head, bytes, sizeof(bytes)), WEBSOCKET_HEAD_WHOLE);
}

static void refuses_each_reserved_bit_at_once(void **state) {
    (void)state;
    assert_int_equal(READ(0xc1), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0xa1), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x91), WEBSOCKET_HEAD_BROKEN);
}

static void refuses_each_reserved_opcode_at_once(void **state) {
    (void)state;
    for (uint8_t opcode = 0; opcode < 16; opcode++) {
        uint8_t byte = (uint8_t)(0x80 | opcode);
        bool is_known = opcode <= 2 || (opcode >= 8 && opcode <= 10);
        assert_int_equal(websocket_head_read(&head, &byte, 1),
                         is_known ? WEBSOCKET_HEAD_PARTIAL : WEBSOCKET_HEAD_BROKEN);
    }
}

static void refuses_an_unmasked_frame(void **state) {
    (void)state;
    assert_int_equal(READ(0x81, 0x05), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x88, 0x00), WEBSOCKET_HEAD_BROKEN);
}

static void refuses_a_fragmented_control_frame(void **state) {
    (void)state;
    assert_int_equal(READ(0x08), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x09), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x0a), WEBSOCKET_HEAD_BROKEN);
}

static void refuses_a_long_control_frame(void **state) {
    (void)state;
    assert_int_equal(READ(0x89, 0xfd), WEBSOCKET_HEAD_PARTIAL);
    assert_int_equal(READ(0x89, 0xfe), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x8a, 0xff), WEBSOCKET_HEAD_BROKEN);
}

static void refuses_a_length_in_more_bytes_than_it_needs(void **state) {
    (void)state;
    assert_int_equal(READ(0x81, 0xfe, 0, 125), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x81, 0xfe, 0, 126), WEBSOCKET_HEAD_PARTIAL);
    assert_int_equal(READ(0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0), WEBSOCKET_HEAD_PARTIAL);
}

static void refuses_a_length_with_its_top_bit_set(void **state) {
    (void)state;
    assert_int_equal(READ(0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0), WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
                     WEBSOCKET_HEAD_BROKEN);
    assert_int_equal(READ(0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
                     WEBSOCKET_HEAD_PARTIAL);
}

static void writes_the_shortest_head(void **state) {
    static const struct {
        size_t length, size;
        uint8_t bytes[10];
    } cases[] = {
        {0, 2, {0x81, 0}},
        {125, 2, {0x81, 125}},
        {126, 4, {0x81, 126, 0, 126}},
        {65535, 4, {0x81, 126, 0xff, 0xff}},
        {65536, 10, {0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(cases); i++) {
        char room[WEBSOCKET_SERVER_HEAD_BYTES_MAX], *end = room + sizeof(room);
        assert_int_equal(websocket_head_write(end, WEBSOCKET_TEXT, cases[i].length), cases[i].size);
        assert_memory_equal(end - cases[i].size, cases[i].bytes, cases[i].size);
    }
}

static void unmasks_in_pieces_as_in_one(void **state) {
    static const uint8_t mask[] = {0x12, 0x34, 0x56, 0x78};
    (void)state;
    for (size_t cut = 0; cut <= 40; cut++) {
        char text[41], whole[41];
        uint8_t own[4];
        for (size_t i = 0; i < sizeof(text); i++)
            text[i] = whole[i] = (char)(i * 7);
        for (size_t i = 0; i < sizeof(whole); i++)
            whole[i] = (char)((uint8_t)whole[i] ^ mask[i % 4]);
        memcpy(own, mask, sizeof(own));
        websocket_unmask(text, cut, own);
        websocket_unmask(text + cut, sizeof(text) - cut, own);
        assert_memory_equal(text, whole, sizeof(text));
    }
}

static void knows_the_close_codes(void **state) {
    static const int right[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
                                1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
    static const int wrong[] = {0,    1,    999,  1004, 1005, 1006, 1015,
                                1016, 1100, 2000, 2999, 5000, 65535};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(right); i++)
        assert_true(websocket_code_is_valid(right[i]));
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_false(websocket_code_is_valid(wrong[i]));
}

static void reads_a_close_frame(void **state) {
    int code = 0;
    (void)state;
    assert_int_equal(websocket_close_read(BK_SLICE("\x03\xe8"), &code), 0);
    assert_int_equal(code, 1000);
    assert_int_equal(websocket_close_read(BK_SLICE("\x0f\xa1 bye \xc3\xa9"), &code), 0);
    assert_int_equal(code, 4001);
    assert_int_equal(websocket_close_read(BK_SLICE_EMPTY, &code), 0);
    assert_int_equal(code, WEBSOCKET_CODE_NONE);
}

static void refuses_a_wrong_close_frame(void **state) {
    int code = 0;
    (void)state;
    assert_int_equal(websocket_close_read(BK_SLICE("\x03"), &code), 1002);
    assert_int_equal(websocket_close_read(BK_SLICE("\x03\xec"), &code), 1002);
    assert_int_equal(websocket_close_read(BK_SLICE("\x03\xe8\xff"), &code), 1007);
    assert_int_equal(code, 0);
}

static void writes_what_it_reads(void **state) {
    char payload[WEBSOCKET_CONTROL_BYTES_MAX];
    int code = 0;
    size_t length = websocket_close_write(payload, 4999, BK_SLICE("why"));
    (void)state;
    assert_int_equal(length, 5);
    assert_int_equal(websocket_close_read(bk_slice_make(payload, length), &code), 0);
    assert_int_equal(code, 4999);
    assert_memory_equal(payload + 2, "why", 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_short_head),
        cmocka_unit_test(reads_the_longer_lengths),
        cmocka_unit_test(waits_for_the_rest_of_a_head),
        cmocka_unit_test(refuses_each_reserved_bit_at_once),
        cmocka_unit_test(refuses_each_reserved_opcode_at_once),
        cmocka_unit_test(refuses_an_unmasked_frame),
        cmocka_unit_test(refuses_a_fragmented_control_frame),
        cmocka_unit_test(refuses_a_long_control_frame),
        cmocka_unit_test(refuses_a_length_in_more_bytes_than_it_needs),
        cmocka_unit_test(refuses_a_length_with_its_top_bit_set),
        cmocka_unit_test(writes_the_shortest_head),
        cmocka_unit_test(unmasks_in_pieces_as_in_one),
        cmocka_unit_test(knows_the_close_codes),
        cmocka_unit_test(reads_a_close_frame),
        cmocka_unit_test(refuses_a_wrong_close_frame),
        cmocka_unit_test(writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
