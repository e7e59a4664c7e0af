/* What a replay is of, as the payload of its task has it. */
#include "replay.h"

#include "support.h"

enum { BYTES_MAX = 64 * 1024 };

struct fixture {
    struct bk_buffer payload;
    struct bk_arena arena;
    struct webhooks_replay_range range;
};

static int setup(void **state) {
    static struct fixture fixture;
    bk_buffer_init(&fixture.payload, BYTES_MAX);
    bk_arena_init(&fixture.arena, BYTES_MAX);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_buffer_fini(&fixture->payload);
    bk_arena_fini(&fixture->arena);
    return 0;
}

static enum bk_status read_back(struct fixture *fixture,
                                const struct webhooks_replay_range *range) {
    webhooks_replay_range_write(&fixture->payload, range);
    return webhooks_replay_range_read(&fixture->arena, bk_buffer_slice(&fixture->payload),
                                      &fixture->range);
}

static void test_all_that_is_asked_for_comes_back(void **state) {
    struct fixture *fixture = *state;
    const struct bk_slice types[] = {BK_SLICE_INIT("posts.*"), BK_SLICE_INIT("*.deleted")};
    const struct webhooks_replay_range range = {.after = 7,
                                                .until = INT64_MAX,
                                                .types = types,
                                                .type_count = BK_COUNT_OF(types),
                                                .state = BK_SLICE_INIT("failed"),
                                                .is_missing = true,
                                                .is_gap = true};
    assert_int_equal(read_back(fixture, &range), BK_OK);
    const struct webhooks_replay_range *read = &fixture->range;
    assert_int_equal(read->after, 7);
    assert_int_equal(read->until, INT64_MAX);
    assert_int_equal(read->type_count, 2);
    assert_true(bk_slice_is(read->types[1], "*.deleted"));
    assert_true(bk_slice_is(read->state, "failed"));
    assert_true(read->is_missing && read->is_gap);
}

static void test_what_is_not_asked_for_is_any(void **state) {
    struct fixture *fixture = *state;
    const struct webhooks_replay_range range = {.after = 0, .until = 3};
    assert_int_equal(read_back(fixture, &range), BK_OK);
    const struct webhooks_replay_range *read = &fixture->range;
    assert_int_equal(read->until, 3);
    assert_int_equal(read->type_count, 0);
    assert_int_equal(read->state.length, 0);
    assert_false(read->is_missing || read->is_gap);
}

static void test_a_payload_without_bounds_is_refused(void **state) {
    struct fixture *fixture = *state;
    static const struct bk_slice wrong[] = {BK_SLICE_INIT("null"), BK_SLICE_INIT("{\"after\":1}"),
                                            BK_SLICE_INIT("{\"after\":-1,\"until\":2}"),
                                            BK_SLICE_INIT("{\"after\":1,\"until\":\"2\"}"),
                                            BK_SLICE_INIT("{")};
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++)
        assert_int_equal(webhooks_replay_range_read(&fixture->arena, wrong[i], &fixture->range),
                         BK_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_that_is_asked_for_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_not_asked_for_is_any, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_payload_without_bounds_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
