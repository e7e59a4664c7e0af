/* Identifiers: their shape, that their order is the order of time, and what is not one. */
#include "bakend/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t EPOCH_MS = 1577836800000; /* 2020-01-01 */

static bool is_zero(const unsigned char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static void test_random_bytes_of_every_length(void **state) {
    (void)state;
    for (size_t length = 0; length < 5000; length += 37) {
        unsigned char bytes[5000 + 8] = {0};
        bk_random_bytes(bytes, length);
        assert_true(is_zero(bytes + length, 8));
        if (length >= 16) {
            assert_false(is_zero(bytes, 16));
            assert_false(is_zero(bytes + length - 16, 16));
        }
    }
}

static void test_random_numbers_differ(void **state) {
    (void)state;
    uint64_t seen[2000];
    for (size_t i = 0; i < 2000; i++) {
        seen[i] = bk_random_u64();
        for (size_t k = 0; k < i; k++)
            assert_true(seen[i] != seen[k]);
    }
}

static void test_random_text_is_even(void **state) {
    (void)state;
    /* 100 of 256: taking the rest of the division would double the odds of the first 56. */
    char alphabet[100];
    for (size_t i = 0; i < sizeof alphabet; i++)
        alphabet[i] = (char)(i + 1);
    size_t counts[101] = {0};
    static char text[200000];
    bk_random_text(text, sizeof text, bk_slice_make(alphabet, sizeof alphabet));
    for (size_t i = 0; i < sizeof text; i++) {
        assert_in_range(text[i], 1, 100);
        counts[(size_t)text[i]]++;
    }
    /* 2000 expected, standard deviation 45: eight of those never happen. */
    for (size_t i = 1; i <= 100; i++)
        assert_in_range(counts[i], 1640, 2360);
    bk_random_text(text, 5, BK_SLICE("x"));
    assert_memory_equal(text, "xxxxx", 5);
}

static void test_child_of_a_fork_draws_other_bytes(void **state) {
    (void)state;
    bk_random_u64();
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    uint64_t mine = bk_random_u64();
    if (child == 0)
        _exit(write(ends[1], &mine, sizeof mine) == sizeof mine ? 0 : 1);
    uint64_t theirs = mine;
    assert_int_equal(read(ends[0], &theirs, sizeof theirs), sizeof theirs);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(mine != theirs);
    close(ends[0]);
    close(ends[1]);
}

static void test_record_id_has_its_alphabet(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char id[BK_RECORD_ID_BYTES + 1];
        id[BK_RECORD_ID_BYTES] = '!';
        bk_record_id_make(id, EPOCH_MS + i * INT64_C(1234567890));
        for (size_t k = 0; k < BK_RECORD_ID_BYTES; k++)
            assert_true((id[k] >= 'a' && id[k] <= 'z') || (id[k] >= '0' && id[k] <= '9'));
        assert_int_equal(id[BK_RECORD_ID_BYTES], '!');
    }
}

static void test_record_ids_sort_by_time(void **state) {
    (void)state;
    char former[BK_RECORD_ID_BYTES], id[BK_RECORD_ID_BYTES];
    bk_record_id_make(former, EPOCH_MS);
    assert_memory_equal(former, "00000000", 8);
    int64_t ms = EPOCH_MS;
    for (int64_t step = 1; ms < 4398946707000; step += step / 50 + 1) {
        ms += step;
        bk_record_id_make(id, ms);
        assert_true(memcmp(former, id, 8) < 0);
        memcpy(former, id, sizeof id);
    }
}

static void test_record_id_time_is_clamped(void **state) {
    (void)state;
    char id[BK_RECORD_ID_BYTES];
    bk_record_id_make(id, EPOCH_MS - 1);
    assert_memory_equal(id, "00000000", 8);
    bk_record_id_make(id, EPOCH_MS + 35);
    assert_memory_equal(id, "0000000z", 8);
    bk_record_id_make(id, EPOCH_MS + 2821109907455);
    assert_memory_equal(id, "zzzzzzzz", 8);
    bk_record_id_make(id, INT64_MAX);
    assert_memory_equal(id, "zzzzzzzz", 8);
}

static void test_event_id_round_trips(void **state) {
    (void)state;
    static const uint64_t sequences[] = {
        0, 1, 31, 32, UINT32_MAX, UINT64_C(1) << 32, (UINT64_C(1) << 48) - 1};
    static const int64_t times[] = {0, 1, 1780920000123, (INT64_C(1) << 48) - 1};
    static const uint32_t entropies[] = {0, 1, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < 7 * 4 * 4; i++) {
        char id[BK_EVENT_ID_BYTES];
        bk_event_id_make(id, times[i % 4], sequences[i / 16], entropies[i / 4 % 4]);
        int64_t wall_ms;
        uint64_t sequence;
        uint32_t entropy;
        assert_true(bk_event_id_parse(bk_slice_make(id, sizeof id), &wall_ms, &sequence, &entropy));
        assert_true(wall_ms == times[i % 4]);
        assert_true(sequence == sequences[i / 16]);
        assert_true(entropy == entropies[i / 4 % 4]);
        assert_true(bk_event_id_parse(bk_slice_make(id, sizeof id), NULL, NULL, NULL));
    }
}

static void test_event_id_is_a_ulid(void **state) {
    (void)state;
    char id[BK_EVENT_ID_BYTES];
    bk_event_id_make(id, 0, 0, 0);
    assert_memory_equal(id, "evt_00000000000000000000000000", BK_EVENT_ID_BYTES);
    bk_event_id_make(id, (INT64_C(1) << 48) - 1, (UINT64_C(1) << 48) - 1, UINT32_MAX);
    assert_memory_equal(id, "evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", BK_EVENT_ID_BYTES);
    /* The time example of the ULID specification. */
    bk_event_id_make(id, 1469918176385, 0, 0);
    assert_memory_equal(id, "evt_01ARYZ6S41", 14);
    bk_event_id_make(id, -5, 0, 0);
    assert_memory_equal(id, "evt_0000000000", 14);
}

static void test_event_ids_sort_by_time_and_sequence(void **state) {
    (void)state;
    char former[BK_EVENT_ID_BYTES], id[BK_EVENT_ID_BYTES];
    bk_event_id_make(former, 1780920000000, 0, UINT32_MAX);
    for (uint64_t i = 1; i < 10000; i++) {
        bk_event_id_make(id, 1780920000000 + (int64_t)(i / 7), i * 99999,
                         (uint32_t)bk_random_u64());
        assert_true(memcmp(former, id, sizeof id) < 0);
        memcpy(former, id, sizeof id);
    }
}

static void test_what_is_no_event_id(void **state) {
    (void)state;
    static const char *refused[] = {
        "",
        "evt_",
        "evt_0000000000000000000000000",
        "evt_000000000000000000000000000",
        "evt_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        "EVT_00000000000000000000000000",
        "evt-00000000000000000000000000",
        "evt_0000000000000000000000000I",
        "evt_0000000000000000000000000L",
        "evt_0000000000000000000000000O",
        "evt_0000000000000000000000000U",
        "evt_0000000000000000000000000a",
        "evt_000000000000\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        uint64_t sequence = 77;
        if (bk_event_id_parse(bk_slice_from(refused[i]), NULL, &sequence, NULL))
            fail_msg("accepted: %s", refused[i]);
        assert_int_equal(sequence, 77);
    }
    char with_nul[BK_EVENT_ID_BYTES];
    memset(with_nul, '0', sizeof with_nul);
    memcpy(with_nul, "evt_", 4);
    with_nul[20] = '\0';
    assert_false(bk_event_id_parse(bk_slice_make(with_nul, sizeof with_nul), NULL, NULL, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_bytes_of_every_length),
        cmocka_unit_test(test_random_numbers_differ),
        cmocka_unit_test(test_random_text_is_even),
        cmocka_unit_test(test_child_of_a_fork_draws_other_bytes),
        cmocka_unit_test(test_record_id_has_its_alphabet),
        cmocka_unit_test(test_record_ids_sort_by_time),
        cmocka_unit_test(test_record_id_time_is_clamped),
        cmocka_unit_test(test_event_id_round_trips),
        cmocka_unit_test(test_event_id_is_a_ulid),
        cmocka_unit_test(test_event_ids_sort_by_time_and_sequence),
        cmocka_unit_test(test_what_is_no_event_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
