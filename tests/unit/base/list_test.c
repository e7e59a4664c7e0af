/* The intrusive list: order, removal inside a walk, nodes outside of any list. */
#include "bakend/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int number;
    struct bk_list link;
};

static int item_number(struct bk_list *node) {
    return bk_container_of(node, struct item, link)->number;
}

static void test_push_and_pop_keep_the_order(void **state) {
    (void)state;
    struct bk_list list;
    bk_list_init(&list);
    assert_true(bk_list_is_empty(&list));
    assert_null(bk_list_pop(&list));
    struct item items[] = {{.number = 1}, {.number = 2}, {.number = 3}};
    bk_list_push(&list, &items[1].link);
    bk_list_push(&list, &items[2].link);
    bk_list_push_front(&list, &items[0].link);
    for (int expected = 1; expected <= 3; expected++)
        assert_int_equal(item_number(bk_list_pop(&list)), expected);
    assert_true(bk_list_is_empty(&list));
}

static void test_removal_is_harmless_outside_of_a_list(void **state) {
    (void)state;
    struct bk_list list;
    bk_list_init(&list);
    struct item item = {.number = 1};
    bk_list_init(&item.link);
    bk_list_remove(&item.link);
    bk_list_push(&list, &item.link);
    bk_list_remove(&item.link);
    bk_list_remove(&item.link);
    assert_true(bk_list_is_empty(&list));
    assert_true(bk_list_is_empty(&item.link));
}

static void test_current_node_may_be_removed_in_a_walk(void **state) {
    (void)state;
    struct bk_list list;
    bk_list_init(&list);
    struct item items[6];
    for (int i = 0; i < 6; i++) {
        items[i].number = i;
        bk_list_push(&list, &items[i].link);
    }
    int visited = 0;
    BK_LIST_FOR_EACH(node, &list) {
        assert_int_equal(item_number(node), visited);
        visited++;
        if (item_number(node) % 2 == 0)
            bk_list_remove(node);
    }
    assert_int_equal(visited, 6);
    for (int expected = 1; expected < 6; expected += 2)
        assert_int_equal(item_number(bk_list_pop(&list)), expected);
    assert_null(bk_list_pop(&list));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push_and_pop_keep_the_order),
        cmocka_unit_test(test_removal_is_harmless_outside_of_a_list),
        cmocka_unit_test(test_current_node_may_be_removed_in_a_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
