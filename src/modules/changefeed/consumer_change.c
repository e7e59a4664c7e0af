/*
 * Changes of a consumer, one after the other: each begins when the one before is on disk, so that
 * it judges what is, and is taken over by the consumer in memory when it is itself.
 *
 *   submit ─> queued ─> begin ─┬─ nothing to write
 *                              └─> written ─> settled ─> done ─> the next one
 */
#include "consumer.h"

#include "bakend/failpoint.h"

static void run_next(struct changefeed_consumer *consumer);

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    enum bk_status status = BK_FAILPOINT("changefeed.before_place");
    if (status != BK_OK)
        return status;
    return changefeed_consumer_row_write(
        transaction, bk_container_of(write, struct changefeed_consumer_change, write));
}

/* The row is new, or has another definition. */
static void settle_definition(struct changefeed_consumer *consumer,
                              struct changefeed_consumer_change *change) {
    bk_time_format(consumer->updated, change->now_ms, ' ');
    if (change->kind == CONSUMER_WRITE_NEW) {
        bk_time_format(consumer->created, change->now_ms, ' ');
        consumer->is_new = false;
    }
    if (change->definition != NULL)
        changefeed_consumer_define(consumer, change->definition);
    change->definition = NULL;
}

static void settle(struct changefeed_consumer *consumer,
                   struct changefeed_consumer_change *change) {
    if (change->kind != CONSUMER_WRITE_PLACE)
        settle_definition(consumer, change);
    changefeed_consumer_settle(consumer, &change->next, change->is_jump);
}

/* A definition that was not taken over is given back. */
static void end(struct changefeed_consumer_change *change, enum bk_status status) {
    changefeed_consumer_definition_unref(change->definition);
    change->definition = NULL;
    change->done(change, status);
}

void changefeed_consumer_changes_refuse(struct changefeed_consumer *consumer) {
    struct bk_list *node;
    while ((node = bk_list_pop(&consumer->changes)) != NULL)
        end(bk_container_of(node, struct changefeed_consumer_change, link), BK_NOT_FOUND);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct changefeed_consumer_change *change =
        bk_container_of(write, struct changefeed_consumer_change, write);
    struct changefeed_consumer *consumer = change->consumer;
    struct bk_tenant *tenant = consumer->tenant;
    (void)BK_FAILPOINT("changefeed.after_place");
    bool is_gone = change->kind == CONSUMER_WRITE_REMOVAL ? status == BK_OK
                                                          : consumer->is_new && status != BK_OK;
    bk_tenant_ref(tenant);
    consumer->running = NULL;
    if (is_gone) {
        changefeed_consumer_destroy(consumer);
        end(change, status);
    } else {
        if (status == BK_OK)
            settle(consumer, change);
        end(change, status);
        run_next(consumer);
    }
    bk_tenant_release(tenant);
}

static bool begin(struct changefeed_consumer *consumer, struct changefeed_consumer_change *change) {
    change->consumer = consumer;
    change->next = consumer->place;
    change->next.position = changefeed_consumer_position(consumer);
    change->next.is_lost = consumer->is_loss_stored; /* it stands in the row once it was told */
    change->oldest = bk_journal_state(consumer->tenant->database).oldest;
    if (change->begin != NULL && !change->begin(change))
        return false;
    change->write = (struct bk_write){
        .lane = change->lane, .origin = change->origin, .run = on_run, .done = on_done};
    return true;
}

/* Begins the next one, if there is one, and lets those who poll go on. */
static void run_next(struct changefeed_consumer *consumer) {
    struct bk_tenant *tenant = consumer->tenant;
    struct bk_list *node;
    bk_tenant_ref(tenant); /* what a change holds it lets go of */
    while (consumer->running == NULL && (node = bk_list_pop(&consumer->changes)) != NULL) {
        struct changefeed_consumer_change *change =
            bk_container_of(node, struct changefeed_consumer_change, link);
        if (!begin(consumer, change))
            continue;
        consumer->running = change;
        enum bk_status status = bk_store_write(tenant->database, &change->write);
        if (status != BK_OK) {
            on_done(&change->write, status);
            consumer = NULL; /* it has gone on from there, or is gone */
            break;
        }
    }
    if (consumer != NULL)
        changefeed_consumer_advance(consumer);
    bk_tenant_release(tenant);
}

void changefeed_consumer_change_submit(struct changefeed_consumer *consumer,
                                       struct changefeed_consumer_change *change) {
    change->consumer = consumer;
    bk_list_init(&change->link);
    bk_list_push(&consumer->changes, &change->link);
    run_next(consumer);
}
