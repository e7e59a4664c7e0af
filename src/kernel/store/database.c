/*
 * Databases, the loop's side: open, close, and what is in between. The work is in opening.c, on the
 * database's writer.
 *
 *   bk_database_open ─> writer: store_opening_run ─> on_opened ─> done, then the opening's events
 *   bk_database_close ─> nothing outstanding any more ─> writer: store_closing_run ─> on_closed
 *
 * What is submitted after the close began gets BK_CLOSING; what was submitted before is finished.
 */
#include "store_private.h"

/* --- life cycle ------------------------------------------------------------------------------- */

static struct bk_database *database_create(struct bk_store *store,
                                           const struct bk_database_options *options) {
    struct bk_database *database = bk_alloc_zero(sizeof(*database));
    char *tenant = bk_alloc(options->tenant.length + 1);
    if (options->tenant.length > 0)
        memcpy(tenant, options->tenant.data, options->tenant.length);
    tenant[options->tenant.length] = '\0';
    database->store = store;
    database->path = store_text_copy(options->path);
    database->tenant = bk_slice_make(tenant, options->tenant.length);
    database->writer =
        &store->writers[bk_map_hash(bk_slice_from(database->path)) % store->options.writer_count];
    database->has_journal = options->has_journal;
    BK_ASSERT(options->head_path == NULL || options->has_journal);
    if (options->head_path != NULL)
        database->head.path = store_text_copy(options->head_path);
    database->synchronous = options->synchronous;
    bk_list_init(&database->link);
    bk_list_init(&database->turn_link);
    bk_list_init(&database->ready_link);
    bk_list_init(&database->idle_link);
    bk_list_init(&database->lanes[BK_LANE_REQUEST]);
    bk_list_init(&database->lanes[BK_LANE_BACKGROUND]);
    store_prune_init(database);
    return database;
}

static void database_destroy(struct bk_database *database) {
    BK_ASSERT(database->connection == NULL && database->loop_connection == NULL);
    BK_ASSERT(database->outstanding_count == 0);
    bk_free((void *)(uintptr_t)database->tenant.data);
    bk_free(database->head.path);
    store_totals_destroy(database);
    bk_free(database->path);
    bk_free(database);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void finish_opening(struct bk_database *database) {
    struct bk_store *store = database->store;
    bk_list_push(&store->databases, &database->link);
    store->database_count++;
    database->journal = store_journal_snapshot(database);
    store_prune_on_opened(database);
    if (database->was_unclean)
        store_check_in_background(database);
}

static void on_opened(struct bk_message *message) {
    struct bk_database_open *open = bk_container_of(message, struct bk_database_open, message);
    struct bk_database *database = open->database;
    struct bk_store *store = database->store;
    struct store_batch *batch = database->opening_batch;
    enum bk_status status = open->error.status;
    database->opening_batch = NULL;
    if (status == BK_OK)
        finish_opening(database);
    else
        open->database = NULL;
    open->done(open, status);
    if (status == BK_OK)
        store_deliver_events(store, batch);
    store_batch_recycle(batch);
    store_arrived(store, database);
    if (status == BK_OK)
        store_database_continue_closing(database);
    else
        database_destroy(database);
}

/* On the writer. */
static void on_open_arrived(struct bk_message *message) {
    struct bk_database_open *open = bk_container_of(message, struct bk_database_open, message);
    struct bk_database *database = open->database;
    enum bk_status status;
    database->opening_batch = store_batch_take(database->writer, database);
    status = store_opening_run(database, &open->options, &open->error);
    if (status != BK_OK && open->error.message[0] == '\0')
        (void)bk_error_set(&open->error, status, "%s cannot be opened", database->path);
    open->error.status = status;
    open->message.on_message = on_opened;
    BK_ASSERT(bk_mailbox_post(database->store->answers, &open->message) == BK_OK);
}

void bk_database_open(struct bk_store *store, struct bk_database_open *open) {
    BK_ASSERT(open->done != NULL && open->options.path != NULL);
    open->database = database_create(store, &open->options);
    open->error = (struct bk_error)BK_ERROR_INIT;
    open->message.on_message = on_open_arrived;
    store_await(store, open->database);
    store_writer_post(open->database->writer, &open->message);
}

enum bk_status bk_database_explain(const struct bk_database *database, enum bk_status status,
                                   struct bk_error *error) {
    return store_is_of_content(status) ? store_error_explain(error, status, database->path, "")
                                       : status;
}

/* --- closing ---------------------------------------------------------------------------------- */

static void on_closed(struct bk_message *message) {
    struct bk_database *database = bk_container_of(message, struct bk_database, close_message);
    struct bk_store *store = database->store;
    void (*closed)(void *user) = database->on_closed;
    void *user = database->on_closed_user;
    bk_list_remove(&database->link);
    store->database_count--;
    store_arrived(store, NULL);
    database_destroy(database);
    closed(user);
}

/* On the writer. */
static void on_close_arrived(struct bk_message *message) {
    struct bk_database *database = bk_container_of(message, struct bk_database, close_message);
    store_closing_run(database);
    message->on_message = on_closed;
    BK_ASSERT(bk_mailbox_post(database->store->answers, message) == BK_OK);
}

/* The caller of on_quiet may close the database. */
static void tell_quiet(struct bk_database *database) {
    void (*on_quiet)(void *user) = database->on_quiet;
    if (on_quiet == NULL || database->outstanding_count > 0)
        return;
    database->on_quiet = NULL;
    on_quiet(database->on_quiet_user);
}

void store_database_when_quiet(struct bk_database *database, void (*on_quiet)(void *user),
                               void *user) {
    BK_ASSERT(database->on_quiet == NULL && !database->is_closing);
    database->on_quiet = on_quiet;
    database->on_quiet_user = user;
    __atomic_store_n(&database->is_stopping, true, __ATOMIC_RELAXED);
    tell_quiet(database);
}

bool bk_database_is_stopping(const struct bk_database *database) {
    return __atomic_load_n(&database->is_stopping, __ATOMIC_RELAXED);
}

void store_database_continue_closing(struct bk_database *database) {
    tell_quiet(database);
    if (!database->is_closing || database->is_close_posted || database->outstanding_count > 0)
        return;
    database->is_close_posted = true;
    database->close_message.on_message = on_close_arrived;
    store_writer_post(database->writer, &database->close_message);
}

void bk_database_close(struct bk_database *database, void (*closed)(void *user), void *user) {
    BK_ASSERT(!database->is_closing && closed != NULL);
    database->is_closing = true;
    database->on_closed = closed;
    database->on_closed_user = user;
    __atomic_store_n(&database->is_stopping, true, __ATOMIC_RELAXED);
    store_read_now_end(database);
    store_await(database->store, NULL);
    store_database_continue_closing(database);
}
