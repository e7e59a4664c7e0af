/*
 * The loop's side of a write: submit, and answer.
 *
 * What is submitted in one turn of the loop is gathered in a ring per writer and posted as one
 * message for every few, the rest by a task that runs when the turn's sockets have been served: one
 * lock and at most one wake for all of them, and the writer already runs the first while the loop
 * still reads the others. Nothing waits longer than the turn it came in.
 *
 * A batch comes back as one message. First the loop's own read transaction ends, so that whoever is
 * answered reads what was written; then each done in the order of the batch; then the events, in
 * the order of their numbers, to the bus. So a done must not begin a request: it would be judged by
 * what taps have not forgotten yet, as a token whose end was just answered. Who has got an answer
 * is read from in a later turn, also where the next request came along with the first.
 */
#include "store_private.h"

/* --- submitting ------------------------------------------------------------------------------- */

/* On the writer: deals the writes of the ring out to the lanes of their databases. */
static void on_writes_arrived(struct bk_message *message) {
    struct bk_list *node = &bk_container_of(message, struct bk_write, message)->link;
    struct bk_list *last = node->previous, *next;
    for (bool is_last = false; !is_last; node = next) {
        struct bk_write *write = bk_container_of(node, struct bk_write, link);
        struct bk_database *database = write->database;
        is_last = node == last;
        next = node->next;
        bk_list_push(&database->lanes[write->lane], node);
        if (bk_list_is_empty(&database->ready_link))
            bk_list_push(&database->writer->ready, &database->ready_link);
    }
}

static void post_gathered(struct store_writer *writer) {
    struct bk_write *first = writer->gathered;
    BK_ASSERT(first != NULL);
    writer->gathered = NULL;
    writer->gathered_count = 0;
    first->message.on_message = on_writes_arrived;
    store_writer_post(writer, &first->message);
}

static void on_flush(struct bk_task *task) {
    post_gathered(bk_container_of(task, struct store_writer, flush));
}

void store_submit_init(struct store_writer *writer) { bk_task_init(&writer->flush, on_flush); }

static void gather(struct store_writer *writer, struct bk_write *write) {
    bk_list_init(&write->link);
    if (writer->gathered == NULL) {
        writer->gathered = write;
        bk_loop_defer(writer->store->options.loop, &writer->flush);
    } else {
        bk_list_push(&writer->gathered->link, &write->link);
    }
    if (++writer->gathered_count >= writer->store->options.gather_max) {
        bk_task_cancel(&writer->flush);
        post_gathered(writer);
    }
}

enum bk_status bk_store_write(struct bk_database *database, struct bk_write *write) {
    struct bk_store *store = database->store;
    BK_ASSERT(bk_loop_is_current(store->options.loop));
    BK_ASSERT(write->run != NULL && write->done != NULL && write->lane <= BK_LANE_BACKGROUND);
    if (database->is_closing)
        return BK_CLOSING;
    if (database->has_failed && bk_clock_monotonic_ns() < database->try_again_ns)
        return BK_IO;
    if (database->waiting[write->lane] >= store->options.queue_max)
        return BK_BUSY;
    write->database = database;
    write->status = BK_OK;
    write->queued_ns = bk_clock_monotonic_ns();
    database->waiting[write->lane]++;
    if (write->lane == BK_LANE_REQUEST)
        (void)__atomic_add_fetch(&database->writer->requests_waiting, 1, __ATOMIC_RELAXED);
    store_await(store, database);
    gather(database->writer, write);
    return BK_OK;
}

uint32_t bk_database_waiting_count(const struct bk_database *database) {
    return database->waiting[BK_LANE_REQUEST] + database->waiting[BK_LANE_BACKGROUND];
}

/* --- answering -------------------------------------------------------------------------------- */

void store_deliver_events(struct bk_store *store, struct store_batch *batch) {
    (void)BK_FAILPOINT("store.before_bus");
    if (batch->event_count > 0 && store->on_committed != NULL)
        store->on_committed(store->on_committed_user, batch->database, batch->events,
                            batch->event_count);
}

/* done may free the write or submit it again. */
static void answer_writes(struct store_batch *batch) {
    struct bk_database *database = batch->database;
    for (size_t i = 0; i < batch->write_count; i++) {
        struct bk_write *write = batch->writes[i];
        BK_ASSERT(database->waiting[write->lane] > 0);
        database->waiting[write->lane]--;
        write->done(write, write->status);
    }
}

void store_batch_on_answered(struct bk_message *message) {
    struct store_batch *batch = bk_container_of(message, struct store_batch, message);
    struct bk_database *database = batch->database;
    struct bk_store *store = database->store;
    store_read_now_end(database);
    database->journal = batch->journal;
    database->has_failed = batch->has_failed_database;
    if (database->has_failed)
        database->try_again_ns = bk_clock_monotonic_ns() + STORE_REOPEN_MS * STORE_NS_PER_MS;
    (void)BK_FAILPOINT("store.before_answer");
    answer_writes(batch);
    store_deliver_events(store, batch);
    for (size_t i = 0; i < batch->write_count; i++)
        store_arrived(store, database);
    store_batch_recycle(batch);
    store_database_continue_closing(database);
}
