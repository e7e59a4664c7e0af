/* Mailboxes: nothing is lost and order is kept per sender while many threads post; bounds and
 * ends. */
#include "bakend/clock.h"
#include "bakend/mailbox.h"
#include "bakend/thread.h"
#include "support.h"

#include <string.h>

enum { SENDER_COUNT = 4, MESSAGES_PER_SENDER = 20000, SMALL_CAPACITY = 64 };

struct receipt;

struct letter {
    struct bk_message message;
    uint32_t sender, number;
    struct receipt *receipt;
};

/* What the receiver saw; its thread's alone. */
struct receipt {
    uint32_t next_number[SENDER_COUNT];
    uint32_t total;
    bool is_complete, is_in_order;
};

struct sender {
    struct bk_mailbox *mailbox;
    struct letter *letters;
    uint32_t busy_count;
};

static struct letter letters[SENDER_COUNT][MESSAGES_PER_SENDER];

static void receive(struct letter *letter) {
    struct receipt *receipt = letter->receipt;
    if (letter->number != receipt->next_number[letter->sender])
        receipt->is_in_order = false;
    receipt->next_number[letter->sender] = letter->number + 1;
    receipt->total++;
    receipt->is_complete = receipt->total == SENDER_COUNT * MESSAGES_PER_SENDER;
}

static void on_letter(struct bk_message *message) {
    receive(bk_container_of(message, struct letter, message));
}

/* A full mailbox is tried again. */
static void send_all(void *argument) {
    struct sender *sender = argument;
    for (uint32_t i = 0; i < MESSAGES_PER_SENDER; i++) {
        while (bk_mailbox_post(sender->mailbox, &sender->letters[i].message) != BK_OK)
            sender->busy_count++;
    }
}

static void prepare(struct bk_mailbox *mailbox, struct receipt *receipt, struct sender *senders) {
    *receipt = (struct receipt){.is_in_order = true};
    for (uint32_t s = 0; s < SENDER_COUNT; s++) {
        senders[s] = (struct sender){.mailbox = mailbox, .letters = letters[s]};
        for (uint32_t i = 0; i < MESSAGES_PER_SENDER; i++)
            letters[s][i] = (struct letter){
                .message.on_message = on_letter, .sender = s, .number = i, .receipt = receipt};
    }
}

static void start_senders(struct sender *senders, struct bk_thread **threads) {
    for (uint32_t s = 0; s < SENDER_COUNT; s++)
        threads[s] = bk_thread_start("sender", send_all, &senders[s]);
}

static void join_senders(struct bk_thread **threads) {
    for (uint32_t s = 0; s < SENDER_COUNT; s++)
        bk_thread_join(threads[s]);
}

static void test_a_loop_gets_every_message_of_four_threads_in_order(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_loop(*state);
    struct bk_thread *threads[SENDER_COUNT];
    struct sender senders[SENDER_COUNT];
    struct receipt receipt;
    prepare(mailbox, &receipt, senders);
    bk_mailbox_set_keep_alive(mailbox, true);
    start_senders(senders, threads);
    support_loop_run_until(*state, &receipt.is_complete);
    join_senders(threads);
    assert_true(receipt.is_in_order);
    bk_mailbox_close(mailbox);
    bk_mailbox_destroy(mailbox);
}

static void test_a_thread_gets_every_message_of_four_threads_in_order(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_thread(SMALL_CAPACITY);
    struct bk_thread *threads[SENDER_COUNT];
    struct sender senders[SENDER_COUNT];
    struct receipt receipt;
    (void)state;
    prepare(mailbox, &receipt, senders);
    start_senders(senders, threads);
    while (!receipt.is_complete) {
        struct bk_message *message = bk_mailbox_take_all(mailbox, SUPPORT_PATIENCE_MS);
        assert_non_null(message);
        while (message != NULL) {
            struct bk_message *next = message->next;
            on_letter(message);
            message = next;
        }
    }
    join_senders(threads);
    assert_true(receipt.is_in_order);
    bk_mailbox_close(mailbox);
    bk_mailbox_destroy(mailbox);
}

/* --- bounds and ends -------------------------------------------------------------------------- */

static void test_a_full_mailbox_is_busy_until_it_is_emptied(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_thread(2);
    struct bk_message messages[3] = {{0}};
    (void)state;
    assert_int_equal(bk_mailbox_post(mailbox, &messages[0]), BK_OK);
    assert_int_equal(bk_mailbox_post(mailbox, &messages[1]), BK_OK);
    assert_int_equal(bk_mailbox_post(mailbox, &messages[2]), BK_BUSY);
    assert_int_equal(bk_mailbox_length(mailbox), 2);
    assert_ptr_equal(bk_mailbox_take_all(mailbox, 0), &messages[0]);
    assert_ptr_equal(messages[0].next, &messages[1]);
    assert_null(messages[1].next);
    assert_int_equal(bk_mailbox_post(mailbox, &messages[2]), BK_OK);
    assert_ptr_equal(bk_mailbox_take_all(mailbox, -1), &messages[2]);
    bk_mailbox_close(mailbox);
    bk_mailbox_destroy(mailbox);
}

static void test_a_take_waits_as_long_as_told(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_thread(1);
    uint64_t start_ns = bk_clock_monotonic_ns();
    (void)state;
    assert_null(bk_mailbox_take_all(mailbox, 0));
    assert_null(bk_mailbox_take_all(mailbox, 20));
    assert_true(bk_clock_monotonic_ns() - start_ns >= 20ULL * 1000000);
    bk_mailbox_close(mailbox);
    bk_mailbox_destroy(mailbox);
}

static void test_a_closed_mailbox_takes_nothing_more_but_gives_what_waits(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_thread(2);
    struct bk_message messages[2] = {{0}};
    (void)state;
    assert_int_equal(bk_mailbox_post(mailbox, &messages[0]), BK_OK);
    assert_false(bk_mailbox_is_closed(mailbox));
    bk_mailbox_close(mailbox);
    assert_true(bk_mailbox_is_closed(mailbox));
    assert_int_equal(bk_mailbox_post(mailbox, &messages[1]), BK_CLOSING);
    assert_ptr_equal(bk_mailbox_take_all(mailbox, -1), &messages[0]);
    assert_null(bk_mailbox_take_all(mailbox, -1));
    bk_mailbox_destroy(mailbox);
}

static void wait_for_close(void *argument) {
    struct bk_mailbox *mailbox = argument;
    while (!bk_mailbox_is_closed(mailbox))
        (void)bk_mailbox_take_all(mailbox, -1);
}

static void test_closing_wakes_the_thread_that_waits(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_thread(1);
    struct bk_thread *receiver = bk_thread_start("receiver", wait_for_close, mailbox);
    (void)state;
    bk_mailbox_close(mailbox);
    bk_thread_join(receiver);
    bk_mailbox_destroy(mailbox);
}

static void test_a_loop_mailbox_does_not_keep_the_loop_alive(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_loop(*state);
    bk_loop_run(*state);
    bk_mailbox_close(mailbox);
    bk_mailbox_destroy(mailbox);
}

/* --- posting and ending while messages are delivered ------------------------------------------ */

struct chain {
    struct bk_message message;
    struct bk_mailbox *mailbox;
    uint32_t left;
    bool is_done;
};

static void on_chain(struct bk_message *message) {
    struct chain *chain = bk_container_of(message, struct chain, message);
    if (chain->left-- > 0)
        assert_int_equal(bk_mailbox_post(chain->mailbox, message), BK_OK);
    else
        chain->is_done = true;
}

static void test_messages_posted_during_a_drain_are_not_lost(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_loop(*state);
    struct chain chain = {.message.on_message = on_chain, .mailbox = mailbox, .left = 1000};
    bk_mailbox_set_keep_alive(mailbox, true);
    assert_int_equal(bk_mailbox_post(mailbox, &chain.message), BK_OK);
    support_loop_run_until(*state, &chain.is_done);
    bk_mailbox_close(mailbox);
    bk_mailbox_destroy(mailbox);
}

struct delivery {
    struct bk_message message;
    struct bk_mailbox *destroys;
    uint32_t *count;
    bool came;
};

static void on_delivery(struct bk_message *message) {
    struct delivery *delivery = bk_container_of(message, struct delivery, message);
    delivery->came = true;
    (*delivery->count)++;
    if (delivery->destroys != NULL) {
        bk_mailbox_close(delivery->destroys);
        bk_mailbox_destroy(delivery->destroys);
    }
}

static void test_destroying_delivers_what_waits(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_loop(*state);
    uint32_t count = 0;
    struct delivery delivery = {.message.on_message = on_delivery, .count = &count};
    assert_int_equal(bk_mailbox_post(mailbox, &delivery.message), BK_OK);
    bk_mailbox_close(mailbox);
    bk_mailbox_destroy(mailbox);
    assert_int_equal(count, 1);
}

static void test_a_message_may_destroy_its_mailbox_and_the_others_still_come(void **state) {
    struct bk_mailbox *mailbox = bk_mailbox_create_for_loop(*state);
    uint32_t count = 0;
    struct delivery deliveries[3];
    for (size_t i = 0; i < 3; i++) {
        deliveries[i] = (struct delivery){.message.on_message = on_delivery,
                                          .destroys = i == 1 ? mailbox : NULL,
                                          .count = &count};
        assert_int_equal(bk_mailbox_post(mailbox, &deliveries[i].message), BK_OK);
    }
    bk_mailbox_set_keep_alive(mailbox, true);
    support_loop_run_until(*state, &deliveries[2].came);
    assert_int_equal(count, 3);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_a_loop_gets_every_message_of_four_threads_in_order),
        cmocka_unit_test(test_a_thread_gets_every_message_of_four_threads_in_order),
        cmocka_unit_test(test_a_full_mailbox_is_busy_until_it_is_emptied),
        cmocka_unit_test(test_a_take_waits_as_long_as_told),
        cmocka_unit_test(test_a_closed_mailbox_takes_nothing_more_but_gives_what_waits),
        cmocka_unit_test(test_closing_wakes_the_thread_that_waits),
        LOOP_TEST(test_a_loop_mailbox_does_not_keep_the_loop_alive),
        LOOP_TEST(test_messages_posted_during_a_drain_are_not_lost),
        LOOP_TEST(test_destroying_delivers_what_waits),
        LOOP_TEST(test_a_message_may_destroy_its_mailbox_and_the_others_still_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
