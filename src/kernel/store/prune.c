/*
 * Pruning the journal: by age and by size, oldest first, in slices of SLICE_ROWS through the
 * background lane, so that requests pass in between. A timer looks at every open database; one that
 * had a full slice to prune is given the next at once.
 *
 * Readers that are still to see an event keep it from being pruned by age, not by size: `prunable`
 * is as far as the feed lets a slice go by age.
 *
 * The time is the one of age_clock.h, so that a wall clock that leaps by years empties no journal.
 *
 * What is pruned keeps its numbers: the counter only moves its `oldest`. It stops at the first row
 * that is young enough, also where the wall clock was set back and older times stand behind it.
 */
#include "store_private.h"

enum { SLICE_ROWS = 500 /* 20 ms at worst */ };

/* What a slice takes away. */
struct slice {
    uint64_t upto; /* the last sequence to prune; 0: none */
    uint64_t row_count, bytes;
};

static bool is_due(const struct bk_database *database, int64_t now_ms, uint64_t sequence,
                   int64_t timestamp_ms, uint64_t retained_bytes) {
    const struct bk_store_options *options = &database->store->options;
    if (options->retention_ms > 0 && timestamp_ms < now_ms - options->retention_ms &&
        sequence <= database->prunable)
        return true;
    return options->retention_max_bytes > 0 && retained_bytes > options->retention_max_bytes;
}

static enum bk_status measure(struct bk_transaction *transaction, struct slice *slice) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE(
        "SELECT sequence, timestamp, length(CAST(payload AS BLOB)) + "
        "coalesce(length(CAST(previous AS BLOB)), 0) FROM _journal ORDER BY sequence LIMIT ?1"));
    const struct bk_database *database = transaction->database;
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(transaction->connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, SLICE_ROWS);
    while ((status = bk_statement_step(statement)) == BK_OK) {
        uint64_t retained =
            database->counter.bytes > slice->bytes ? database->counter.bytes - slice->bytes : 0;
        uint64_t sequence = (uint64_t)bk_statement_int(statement, 0);
        if (!is_due(database, database->prune_now_ms, sequence, bk_statement_int(statement, 1),
                    retained))
            break;
        slice->upto = sequence;
        slice->bytes += (uint64_t)bk_statement_int(statement, 2);
        slice->row_count++;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status remove_rows(struct bk_connection *connection, uint64_t upto) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("DELETE FROM _journal WHERE sequence <= ?1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, (int64_t)upto);
    return bk_statement_run(statement);
}

/* On the writer. The counter is taken back when this fails. */
static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct bk_database *database = transaction->database;
    struct store_counter *counter = &database->counter;
    struct slice slice = {0};
    enum bk_status status = measure(transaction, &slice);
    BK_ASSERT(write == &database->prune_write);
    database->has_more_to_prune = false;
    if (status != BK_OK || slice.upto == 0)
        return status;
    status = remove_rows(transaction->connection, slice.upto);
    if (status != BK_OK)
        return status;
    counter->oldest = slice.upto + 1;
    counter->bytes -= slice.bytes < counter->bytes ? slice.bytes : counter->bytes;
    database->has_more_to_prune = slice.row_count == SLICE_ROWS;
    return BK_OK;
}

/* --- the time --------------------------------------------------------------------------------- */

static uint64_t monotonic_ms(void) { return bk_clock_monotonic_ns() / STORE_NS_PER_MS; }

int64_t bk_store_age_now_ms(struct bk_store *store) {
    BK_ASSERT(bk_loop_is_current(store->options.loop));
    return bk_age_clock_look(&store->age_clock, bk_clock_wall_ms(), monotonic_ms());
}

static bool read_newest(struct bk_database *database, int64_t *timestamp_ms) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT timestamp FROM _journal ORDER BY sequence DESC LIMIT 1"));
    struct bk_connection *connection = bk_store_read_now(database);
    struct bk_statement *statement;
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK)
        return false;
    bool is_there = bk_statement_step(statement) == BK_OK;
    if (is_there)
        *timestamp_ms = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return is_there;
}

void store_prune_on_opened(struct bk_database *database) {
    struct bk_store *store = database->store;
    int64_t newest_ms;
    if (!store->age_clock.is_set && database->has_journal && read_newest(database, &newest_ms))
        bk_age_clock_seed(&store->age_clock, newest_ms, monotonic_ms());
}

/* --- slices, one after the other -------------------------------------------------------------- */

static void start(struct bk_database *database) {
    struct bk_store *store = database->store;
    database->prune_now_ms = bk_store_age_now_ms(store);
    database->prunable =
        store->prunable == NULL ? UINT64_MAX : store->prunable(store->prunable_user, database);
    if (bk_store_write(database, &database->prune_write) == BK_OK)
        database->is_pruning = true;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct bk_database *database = write->database;
    database->is_pruning = false;
    if (status != BK_OK)
        bk_log_warn(&database->store->log, "prune_failed", BK_STRING("tenant", database->tenant),
                    BK_TEXT("status", bk_status_name(status)));
    else if (database->has_more_to_prune && !bk_database_is_stopping(database))
        start(database);
}

void bk_store_on_prune(struct bk_store *store,
                       uint64_t (*prunable)(void *user, struct bk_database *database), void *user) {
    BK_ASSERT(prunable == NULL || store->prunable == NULL);
    store->prunable = prunable;
    store->prunable_user = user;
}

void store_prune_init(struct bk_database *database) {
    database->prune_write = (struct bk_write){
        .lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_done, .database = database};
}

static void on_timer(struct bk_timer *timer, void *user) {
    struct bk_store *store = user;
    (void)timer;
    BK_LIST_FOR_EACH(node, &store->databases) {
        struct bk_database *database = bk_container_of(node, struct bk_database, link);
        bool has_events = database->journal.oldest <= database->journal.last;
        if (database->has_journal && has_events && !database->is_pruning &&
            !bk_database_is_stopping(database))
            start(database);
    }
}

void store_prune_start_timer(struct bk_store *store) {
    const struct bk_store_options *options = &store->options;
    store->prune_timer = bk_timer_create(options->loop, on_timer, store);
    bk_timer_set_background(store->prune_timer);
    if (options->prune_interval_ms > 0 &&
        (options->retention_ms > 0 || options->retention_max_bytes > 0))
        bk_timer_start(store->prune_timer, options->prune_interval_ms, options->prune_interval_ms);
}
