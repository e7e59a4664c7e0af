/*
 * Writers: threads that commit. A database always has the same one.
 *
 * The inbox carries whatever the loop wants done here; a message's on_message runs on this thread.
 * The body takes all that waits, then runs one batch of the database whose turn it is, and looks
 * again: what queued up while that batch synced is in the next one. No timer gathers a batch.
 *
 *   inbox ─> database's lanes (request, background) ─> batch ─> the loop's mailbox
 *
 * Databases with waiting writes stand in `ready` and take turns, one batch each. In a batch,
 * background writes get at most a quarter of the room while requests wait, and at least that much,
 * so that neither lane starves. A write that runs alone is a batch by itself; one at the head of
 * the background lane is passed over by one batch of requests at most.
 *
 * With nothing to do the thread sleeps until something comes or a WAL has been idle long enough to
 * be truncated.
 */
#include "store_private.h"

#include <stdio.h>

enum {
    INBOX_MAX = 1 << 30, /* what is in it was bounded when it was submitted */
    SPARE_BATCHES_MAX = 4,
    BACKGROUND_SHARE = 4 /* one of so many */
};

/* --- filling a batch -------------------------------------------------------------------------- */

static struct bk_write *head_of(const struct bk_list *lane) {
    if (bk_list_is_empty(lane))
        return NULL;
    return bk_container_of(lane->next, struct bk_write, link);
}

static bool head_runs_alone(const struct bk_list *lane) {
    const struct bk_write *head = head_of(lane);
    return head != NULL && head->runs_alone;
}

static void take_one(struct store_batch *batch, struct bk_list *lane) {
    struct bk_write *write = head_of(lane);
    BK_ASSERT(write != NULL);
    bk_list_remove(&write->link);
    batch->writes[batch->write_count++] = write;
    if (write->lane == BK_LANE_REQUEST) {
        batch->request_count++;
        (void)__atomic_sub_fetch(&batch->writer->requests_waiting, 1, __ATOMIC_RELAXED);
    }
}

static size_t length_up_to(const struct bk_list *lane, size_t max) {
    size_t length = 0;
    for (struct bk_list *node = lane->next; node != lane && length < max; node = node->next)
        length++;
    return length;
}

/* Takes writes until the batch has so many or the next one must run alone. */
static void take_together(struct store_batch *batch, struct bk_list *lane, size_t fill_to) {
    while (batch->write_count < fill_to && !bk_list_is_empty(lane) && !head_runs_alone(lane))
        take_one(batch, lane);
}

/* Whether a write that runs alone is the next batch. */
static bool take_alone(struct store_batch *batch, struct bk_database *database) {
    struct bk_list *requests = &database->lanes[BK_LANE_REQUEST];
    struct bk_list *background = &database->lanes[BK_LANE_BACKGROUND];
    bool is_background_due =
        head_runs_alone(background) && (bk_list_is_empty(requests) || database->owes_background);
    database->owes_background = false;
    if (is_background_due)
        take_one(batch, background);
    else if (head_runs_alone(requests))
        take_one(batch, requests);
    return batch->write_count > 0;
}

static void fill(struct store_batch *batch, struct bk_database *database, size_t batch_max) {
    struct bk_list *requests = &database->lanes[BK_LANE_REQUEST];
    struct bk_list *background = &database->lanes[BK_LANE_BACKGROUND];
    size_t share = batch_max / BACKGROUND_SHARE > 0 ? batch_max / BACKGROUND_SHARE : 1;
    size_t reserved;
    bool has_requests;
    if (take_alone(batch, database))
        return;
    has_requests = !bk_list_is_empty(requests);
    reserved = head_runs_alone(background) ? 0 : length_up_to(background, share);
    if (reserved >= batch_max)
        reserved = 0;
    take_together(batch, requests, batch_max - reserved);
    if (head_runs_alone(background))
        database->owes_background = true;
    else
        take_together(batch, background, has_requests ? batch->write_count + reserved : batch_max);
}

/* --- the thread ------------------------------------------------------------------------------- */

static bool has_waiting(const struct bk_database *database) {
    return !bk_list_is_empty(&database->lanes[BK_LANE_REQUEST]) ||
           !bk_list_is_empty(&database->lanes[BK_LANE_BACKGROUND]);
}

static void run_next_batch(struct store_writer *writer) {
    struct bk_list *node = bk_list_pop(&writer->ready);
    struct bk_database *database;
    struct store_batch *batch;
    if (node == NULL)
        return;
    database = bk_container_of(node, struct bk_database, ready_link);
    batch = store_batch_take(writer, database);
    fill(batch, database, writer->store->options.batch_max);
    if (has_waiting(database))
        bk_list_push(&writer->ready, &database->ready_link);
    store_batch_run(batch);
    store_checkpoint_after_commit(database);
}

static void take_messages(struct store_writer *writer, int timeout_ms) {
    struct bk_message *message = bk_mailbox_take_all(writer->inbox, timeout_ms);
    while (message != NULL) {
        struct bk_message *next = message->next;
        message->on_message(message);
        message = next;
    }
}

static void writer_main(void *argument) {
    struct store_writer *writer = argument;
    int timeout_ms = -1;
    while (true) {
        take_messages(writer, timeout_ms);
        run_next_batch(writer);
        timeout_ms = store_checkpoint_idle(writer);
        if (!bk_list_is_empty(&writer->ready))
            timeout_ms = 0;
        else if (bk_mailbox_is_closed(writer->inbox) && bk_mailbox_length(writer->inbox) == 0)
            return;
    }
}

void store_writer_start(struct store_writer *writer, struct bk_store *store, uint32_t index) {
    char name[16];
    (void)snprintf(name, sizeof(name), "writer-%u", index % STORE_WRITERS_MAX);
    writer->store = store;
    writer->inbox = bk_mailbox_create_for_thread(INBOX_MAX);
    writer->spare = bk_mailbox_create_for_thread(SPARE_BATCHES_MAX);
    bk_list_init(&writer->ready);
    bk_list_init(&writer->idle);
    store_submit_init(writer);
    writer->thread = bk_thread_start(name, writer_main, writer);
}

void store_writer_stop(struct store_writer *writer) {
    struct bk_message *message;
    bk_mailbox_close(writer->inbox);
    bk_thread_join(writer->thread);
    bk_mailbox_destroy(writer->inbox);
    message = bk_mailbox_take_all(writer->spare, 0);
    while (message != NULL) {
        struct bk_message *next = message->next;
        store_batch_free(bk_container_of(message, struct store_batch, message));
        message = next;
    }
    bk_mailbox_close(writer->spare);
    bk_mailbox_destroy(writer->spare);
}

void store_writer_post(struct store_writer *writer, struct bk_message *message) {
    BK_ASSERT(bk_mailbox_post(writer->inbox, message) == BK_OK);
}
