/*
 * Storing: the table _positions has a row for each position, the sequence that it has acknowledged.
 *
 *   acknowledged ─> dirty ── DELAY_MS after the first, or at once ──> one write ─> stored
 *                     ^                                                  │
 *                     └───────────────── it failed, RETRY_MS ────────────┘
 *
 * A tenant has one write in flight at most, with as many positions as ITEMS_MAX; it goes through
 * the background lane and so into the next commit that there is anyway. What is written is copied
 * on the loop when the write is submitted. What changes meanwhile is dirty again.
 *
 * After a crash a position goes on from its row: what was acknowledged since comes again. While it
 * is dirty the position holds its tenant open, and the row is its pin: what stands behind it is not
 * pruned by age.
 *
 * A database that can write no more must not keep its tenant open for ever, so a closed position is
 * given up after FAILURES_MAX attempts; its reader then begins where the last one was stored.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"

enum { DELAY_MS = 100, RETRY_MS = 1000, FAILURES_MAX = 3 };

const struct bk_migration feed_position_migrations[] = {
    {.name = "feed_1_positions",
     .sql = "CREATE TABLE _positions (name TEXT PRIMARY KEY NOT NULL, sequence INTEGER NOT NULL,"
            "updated INTEGER NOT NULL) WITHOUT ROWID"},
};
const size_t feed_position_migration_count = BK_COUNT_OF(feed_position_migrations);

/* --- finding ---------------------------------------------------------------------------------- */

enum bk_status feed_position_find(struct feed_position *own) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT sequence FROM _positions WHERE name = ?1"));
    struct bk_database *database = own->of->tenant->database;
    struct bk_connection *connection = bk_store_read_now(database);
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, own->name);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        uint64_t last = bk_journal_state(database).last;
        uint64_t sequence = (uint64_t)bk_statement_int(statement, 0);
        own->stored_state = FEED_STORED;
        own->stored = sequence < last ? sequence : last;
        own->next = own->stored + 1;
        bk_statement_reset(statement);
    } else if (status == BK_END) {
        own->stored_state = FEED_STORED_NOT;
        status = BK_OK;
    }
    return status;
}

/* --- on the writer ---------------------------------------------------------------------------- */

static enum bk_status run_item(struct bk_transaction *transaction,
                               const struct feed_store_item *item) {
    const struct bk_sql insert =
        bk_sql_make(BK_SLICE("INSERT INTO _positions (name, sequence, updated) VALUES (?1, ?2, ?3) "
                             "ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, "
                             "updated = excluded.updated"));
    const struct bk_sql delete = bk_sql_make(BK_SLICE("DELETE FROM _positions WHERE name = ?1"));
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(connection, item->is_deletion ? &delete : &insert, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, item->own->name);
    if (!item->is_deletion) {
        bk_statement_bind_int(statement, 2, (int64_t)item->sequence);
        bk_statement_bind_int(statement, 3, bk_transaction_now_ms(transaction));
    }
    return bk_statement_run(statement);
}

/* Of a position it reads the name, which does not change. */
static enum bk_status run_store(struct bk_transaction *transaction, struct bk_write *write) {
    struct feed_store *store = bk_container_of(write, struct feed_store, write);
    enum bk_status status = BK_FAILPOINT("feed.before_stored");
    for (size_t i = 0; i < store->item_count && status == BK_OK; i++)
        status = run_item(transaction, &store->items[i]);
    return status;
}

enum bk_status bk_positions_forget(struct bk_transaction *transaction, struct bk_slice prefix) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("DELETE FROM _positions WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1 "
                 "AND name < ?1 || char(1114111)"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, prefix);
    return bk_statement_run(statement);
}

/* --- dirty ------------------------------------------------------------------------------------ */

static void start_later(struct feed_store *store, uint64_t delay_ms) {
    if (store->is_writing || store->is_timed)
        return;
    store->is_timed = true;
    bk_timer_start(store->timer, delay_ms, 0);
}

/* With what the row has, or will have when the write in flight is done. */
static bool differs(const struct feed_position *own) {
    return own->is_dropped || own->is_in_flight || own->stored_state != FEED_STORED ||
           own->stored != feed_position_watermark(own);
}

static void make_dirty(struct feed_position *own) {
    own->is_dirty = true;
    bk_list_push(&own->of->store.dirty, &own->dirty_link);
}

void feed_position_touch(struct feed_position *own) {
    if (!own->is_dirty && differs(own)) {
        make_dirty(own);
        start_later(&own->of->store, DELAY_MS);
    }
    if (own->position != NULL)
        feed_position_settle(own);
}

void feed_store_hurry(struct feed_positions *all) {
    struct feed_store *store = &all->store;
    if (bk_list_is_empty(&store->dirty))
        return;
    store->is_urgent = true;
    if (!store->is_writing)
        bk_loop_defer(all->feed->loop, &store->task);
}

void feed_store_touch_idle(struct feed_positions *all) {
    BK_LIST_FOR_EACH(node, &all->all) {
        struct feed_position *own = bk_container_of(node, struct feed_position, all_link);
        if (own->position != NULL && own->state != BK_POSITION_OPENING)
            feed_position_touch(own);
    }
}

/* --- the write -------------------------------------------------------------------------------- */

/* A tenant that closes has one write left for all. */
static size_t count_items(const struct feed_positions *all) {
    size_t count = 0;
    for (const struct bk_list *node = all->store.dirty.next; node != &all->store.dirty;
         node = node->next) {
        if (count == FEED_STORE_ITEMS_MAX && !all->is_closed)
            break;
        count++;
    }
    return count;
}

static void take_items(struct feed_positions *all) {
    struct feed_store *store = &all->store;
    size_t count = count_items(all);
    store->items = bk_alloc(count * sizeof *store->items);
    store->item_count = 0;
    while (store->item_count < count) {
        struct feed_position *own =
            bk_container_of(bk_list_pop(&store->dirty), struct feed_position, dirty_link);
        own->is_dirty = false;
        own->is_in_flight = true;
        store->items[store->item_count++] =
            (struct feed_store_item){.own = own,
                                     .sequence = own->is_dropped ? 0 : feed_position_watermark(own),
                                     .is_deletion = own->is_dropped};
    }
}

static void on_item_stored(const struct feed_store_item *item) {
    struct feed_position *own = item->own;
    own->store_failures = 0;
    if (own->is_dropped && !item->is_deletion)
        return;
    own->stored_state = item->is_deletion ? FEED_STORED_NOT : FEED_STORED;
    own->stored = item->sequence;
    /* After a seek backward the pin stands before what was in flight. */
    if (own->position == NULL || own->state == BK_POSITION_OPENING)
        return;
    uint64_t watermark = feed_position_watermark(own);
    own->pin.sequence = own->stored < watermark ? own->stored : watermark;
}

static void on_item_failed(const struct feed_store_item *item, enum bk_status status) {
    struct feed_position *own = item->own;
    if (own->is_dirty)
        return;
    if (own->position != NULL && own->state == BK_POSITION_OPENING && status != BK_BUSY) {
        if (!bk_task_is_waiting(&own->opening))
            feed_position_refuse(own, status, BK_FEED_NO_PROBLEM);
        return;
    }
    if (own->position == NULL && status != BK_BUSY && ++own->store_failures >= FAILURES_MAX) {
        bk_log_error(&own->of->feed->log, "position_not_stored",
                     BK_STRING("tenant", own->of->tenant->name), BK_STRING("position", own->name),
                     BK_TEXT("status", bk_status_name(status)), BK_INT("sequence", item->sequence));
        return;
    }
    make_dirty(own);
}

static bool is_ready_to_open(const struct feed_position *own) {
    return own->position != NULL && own->state == BK_POSITION_OPENING && !own->is_dirty &&
           own->stored_state == FEED_STORED && !bk_task_is_waiting(&own->opening);
}

/* A reader that is told of its opening may close any of the others: each is looked at when its turn
 * comes, and lives until then since it is in flight. */
static void finish_items(struct feed_store *store, enum bk_status status) {
    struct feed_store_item *items = store->items;
    size_t count = store->item_count;
    store->items = NULL;
    store->item_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct feed_position *own = items[i].own;
        if (status == BK_OK)
            on_item_stored(&items[i]);
        own->calls++;
        own->is_in_flight = false;
        if (status != BK_OK)
            on_item_failed(&items[i], status);
        else if (is_ready_to_open(own))
            feed_position_opened(own);
        own->calls--;
        feed_position_settle(own);
    }
    bk_free(items);
}

static void destroy_closed(struct feed_positions *all);
static void start_write(struct feed_positions *all);

static void finish_write(struct feed_positions *all, enum bk_status status) {
    struct feed_store *store = &all->store;
    if (status != BK_OK && status != BK_BUSY)
        bk_log_warn(&all->feed->log, "positions_not_stored", BK_STRING("tenant", all->tenant->name),
                    BK_TEXT("status", bk_status_name(status)), BK_INT("count", store->item_count));
    finish_items(store, status);
    store->is_writing = false;
    if (bk_list_is_empty(&store->dirty))
        store->is_urgent = false;
    else if (status != BK_OK)
        start_later(store, status == BK_BUSY ? DELAY_MS : RETRY_MS);
    else if (store->is_urgent)
        start_write(all);
    else
        start_later(store, DELAY_MS);
    if (all->is_closed && !store->is_writing)
        destroy_closed(all);
    else
        feed_positions_settle(all);
}

static void on_stored(struct bk_write *write, enum bk_status status) {
    struct feed_store *store = bk_container_of(write, struct feed_store, write);
    (void)BK_FAILPOINT("feed.after_stored");
    finish_write(bk_container_of(store, struct feed_positions, store), status);
}

static void start_write(struct feed_positions *all) {
    struct feed_store *store = &all->store;
    BK_ASSERT(!store->is_writing);
    store->is_timed = false;
    bk_timer_stop(store->timer);
    bk_task_cancel(&store->task);
    if (bk_list_is_empty(&store->dirty))
        return;
    take_items(all);
    store->is_writing = true;
    store->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = run_store, .done = on_stored};
    enum bk_status status = bk_store_write(all->tenant->database, &store->write);
    if (status != BK_OK)
        finish_write(all, status);
}

static void on_timer(struct bk_timer *timer, void *user) {
    struct feed_positions *all = user;
    (void)timer;
    all->store.is_timed = false;
    if (!all->store.is_writing)
        start_write(all);
}

static void on_task(struct bk_task *task) {
    struct feed_store *store = bk_container_of(task, struct feed_store, task);
    if (!store->is_writing)
        start_write(bk_container_of(store, struct feed_positions, store));
}

/* --- life cycle ------------------------------------------------------------------------------- */

void feed_store_init(struct feed_positions *all) {
    struct feed_store *store = &all->store;
    bk_list_init(&store->dirty);
    bk_task_init(&store->task, on_task);
    store->timer = bk_timer_create(all->feed->loop, on_timer, all);
}

static void forget(struct feed_positions *all) {
    struct bk_list *node;
    while ((node = bk_list_pop(&all->store.dirty)) != NULL) {
        struct feed_position *own = bk_container_of(node, struct feed_position, dirty_link);
        own->is_dirty = false;
        feed_position_settle(own);
    }
}

static void destroy_closed(struct feed_positions *all) {
    forget(all);
    feed_positions_destroy(all);
}

/* The database finishes what is queued before it closes, and calls back. */
void feed_store_close(struct feed_positions *all) {
    all->is_closed = true;
    if (bk_list_is_empty(&all->store.dirty))
        destroy_closed(all);
    else
        start_write(all);
}
