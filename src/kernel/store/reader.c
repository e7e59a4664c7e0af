/*
 * Reading: on reader threads for whatever may take its time, and on the loop for single rows by
 * key.
 *
 * Readers are of two kinds, so that whoever asks for little does not wait for those who ask for
 * much: not even when these have gone meanwhile, which nobody may notice.
 *
 *   submitted ──> readers ──────────────── done
 *       │            └─ works on, others wait: rolled back ─┐
 *       └─ has a long deadline ───────────────────────> long readers ── done
 *
 * A read that has worked for STORE_READ_SLICE_MS gives way as soon as another waits that no idle
 * reader takes, provided that it may be run again: it ends as if its time were over, and begins
 * anew among the long ones, with all of its time. What that costs is what it did until then, once.
 * There are as many long readers as others, with a lower priority; each kind has its queue.
 *
 * Each reader thread keeps a connection per database it has read, opened when first needed, up to a
 * number of them; past it the least recently used one is closed. A read runs in one read
 * transaction with a deadline, so that nobody keeps checkpoints from resetting the WAL.
 *
 * The loop's connection is opened with the database. Its read transaction begins with the first
 * read of a turn and ends with the turn: beginning and ending one costs more than the row itself.
 * It ends early when a commit of its database is answered, so that whoever wrote reads what was
 * written.
 *
 * A thread's list of connections has a mutex, for one reason: a database that closes takes its
 * connections out from another thread. No read of it is under way then.
 */
#include "store_private.h"

/* --- the threads' connections ----------------------------------------------------------------- */

static void take_out(struct store_reader_thread *thread, struct bk_connection *connection,
                     uint32_t index) {
    bk_list_remove(&connection->pool_link);
    connection->database->reader_connections[index] = NULL;
    thread->connection_count--;
}

/* The connection of this thread for the database, moved to the front; NULL when there is none. */
static struct bk_connection *find_connection(struct store_reader_thread *thread,
                                             struct bk_database *database, uint32_t index) {
    struct bk_connection *connection;
    (void)pthread_mutex_lock(&thread->mutex);
    connection = database->reader_connections[index];
    if (connection != NULL) {
        bk_list_remove(&connection->pool_link);
        bk_list_push_front(&thread->connections, &connection->pool_link);
    }
    (void)pthread_mutex_unlock(&thread->mutex);
    return connection;
}

/* Puts a new connection in front; returns the one that has to go, or NULL. */
static struct bk_connection *add_connection(struct store_reader_thread *thread,
                                            struct bk_connection *connection, uint32_t index) {
    uint32_t max = index < STORE_READERS_MAX ? STORE_READER_CONNECTIONS_MAX
                                             : STORE_LONG_READER_CONNECTIONS_MAX;
    struct bk_connection *oldest = NULL;
    (void)pthread_mutex_lock(&thread->mutex);
    if (thread->connection_count >= max) {
        oldest = bk_container_of(thread->connections.previous, struct bk_connection, pool_link);
        take_out(thread, oldest, index);
    }
    bk_list_push_front(&thread->connections, &connection->pool_link);
    connection->database->reader_connections[index] = connection;
    thread->connection_count++;
    (void)pthread_mutex_unlock(&thread->mutex);
    return oldest;
}

static enum bk_status borrow(struct bk_database *database, uint32_t index,
                             struct bk_connection **connection) {
    struct store_reader_thread *thread = &database->store->reader_threads[index];
    struct bk_error error = BK_ERROR_INIT;
    struct bk_connection *oldest;
    enum bk_status status;
    *connection = find_connection(thread, database, index);
    if (*connection != NULL) {
        store_connection_refresh(*connection);
        return BK_OK;
    }
    status = store_connection_open(database, database->path, STORE_CONNECTION_READER, connection,
                                   &error);
    if (status != BK_OK) {
        bk_log_warn(&database->store->log, "reader_not_opened",
                    BK_STRING("tenant", database->tenant), BK_TEXT("error", error.message));
        return status;
    }
    oldest = add_connection(thread, *connection, index);
    if (oldest != NULL)
        store_connection_close(oldest, false);
    return BK_OK;
}

void store_readers_close_database(struct bk_database *database) {
    for (uint32_t i = 0; i < STORE_READER_THREADS_MAX; i++) {
        struct store_reader_thread *thread = &database->store->reader_threads[i];
        struct bk_connection *connection;
        (void)pthread_mutex_lock(&thread->mutex);
        connection = database->reader_connections[i];
        if (connection != NULL)
            take_out(thread, connection, i);
        (void)pthread_mutex_unlock(&thread->mutex);
        if (connection != NULL)
            store_connection_close(connection, false);
    }
}

void store_readers_init(struct bk_store *store) {
    const struct bk_store_options *options = &store->options;
    for (uint32_t i = 0; i < STORE_READER_THREADS_MAX; i++) {
        struct store_reader_thread *thread = &store->reader_threads[i];
        BK_ASSERT(pthread_mutex_init(&thread->mutex, NULL) == 0);
        bk_list_init(&thread->connections);
    }
    store->readers =
        bk_pool_create(options->loop, "reader", options->reader_count, options->read_queue_max);
    store->long_readers =
        bk_pool_create(options->loop, "long-reads", options->reader_count, options->read_queue_max);
}

uint32_t store_readers_waiting_count(struct bk_store *store) {
    return bk_pool_waiting_count(store->readers) + bk_pool_waiting_count(store->long_readers);
}

void store_readers_fini(struct bk_store *store) {
    bk_pool_destroy(store->readers);
    bk_pool_destroy(store->long_readers);
    for (uint32_t i = 0; i < STORE_READER_THREADS_MAX; i++) {
        BK_ASSERT(store->reader_threads[i].connection_count == 0);
        (void)pthread_mutex_destroy(&store->reader_threads[i].mutex);
    }
}

/* --- a read on a reader thread ---------------------------------------------------------------- */

static enum bk_status read_in_transaction(struct bk_connection *connection, struct bk_read *read) {
    enum bk_status status = store_connection_run_fixed(connection, STORE_FIXED_BEGIN);
    if (status != BK_OK)
        return status;
    uint64_t deadline_ms = read->deadline_ms != 0
                               ? read->deadline_ms
                               : connection->database->store->options.read_deadline_ms;
    uint64_t worked_ns = bk_clock_thread_ns();
    connection->work_end_ns = worked_ns + deadline_ms * STORE_NS_PER_MS;
    connection->deadline_ns =
        bk_clock_monotonic_ns() + STORE_READ_PATIENCE * deadline_ms * STORE_NS_PER_MS;
    connection->has_given_way = false;
    connection->slice_end_ns = read->may_run_again && !read->is_long
                                   ? worked_ns + STORE_READ_SLICE_MS * STORE_NS_PER_MS
                                   : 0;
    connection->is_cancelled = &read->is_cancelled;
    status = read->run(connection, read);
    connection->is_cancelled = NULL;
    read->has_given_way = connection->has_given_way && status == BK_TIMEOUT;
    connection->deadline_ns = connection->work_end_ns = connection->slice_end_ns = 0;
    store_connection_give_back(connection);
    if (store_connection_has_transaction(connection))
        (void)store_connection_run_fixed(connection, STORE_FIXED_COMMIT);
    store_connection_roll_back(connection);
    return status;
}

static bool is_cancelled(const struct bk_read *read) {
    return __atomic_load_n(&read->is_cancelled, __ATOMIC_RELAXED);
}

static struct store_reader_thread *thread_of(const struct bk_read *read, uint32_t *index) {
    struct store_reader_thread *thread;
    if (read->is_long)
        *index += STORE_READERS_MAX;
    thread = &read->database->store->reader_threads[*index];
    if (read->is_long && !thread->has_lower_priority) {
        thread->has_lower_priority = true;
        bk_thread_lower_priority();
    }
    return thread;
}

/* On the reader thread. */
static void on_read_run(struct bk_job *job, uint32_t index) {
    struct bk_read *read = bk_container_of(job, struct bk_read, job);
    struct store_reader_thread *thread = thread_of(read, &index);
    struct bk_connection *connection = NULL;
    if (!is_cancelled(read))
        read->status = borrow(read->database, index, &connection);
    if (connection != NULL)
        read->status = read_in_transaction(connection, read);
    if (is_cancelled(read) && (connection == NULL || read->status == BK_TIMEOUT))
        read->status = BK_CANCELLED;
    if (read->has_given_way)
        return;
    store_count(&thread->reads, 1);
    if (read->status == BK_TIMEOUT)
        store_count(&thread->reads_timed_out, 1);
}

static enum bk_status submit(struct bk_read *read) {
    struct bk_store *store = read->database->store;
    read->status = BK_OK;
    read->has_given_way = false;
    return bk_pool_submit(read->is_long ? store->long_readers : store->readers, &read->job);
}

/* True: it is on its way once more. */
static bool begin_anew(struct bk_read *read) {
    enum bk_status status;
    if (!read->has_given_way || read->status == BK_CANCELLED)
        return false;
    read->is_long = true;
    status = submit(read);
    if (status != BK_OK)
        read->status = status;
    return status == BK_OK;
}

static void on_read_done(struct bk_job *job) {
    struct bk_read *read = bk_container_of(job, struct bk_read, job);
    struct bk_database *database = read->database;
    if (begin_anew(read))
        return;
    read->done(read, read->status);
    store_arrived(database->store, database);
    store_database_continue_closing(database);
}

enum bk_status bk_store_read(struct bk_database *database, struct bk_read *read) {
    enum bk_status status;
    BK_ASSERT(read->run != NULL && read->done != NULL);
    if (database->is_closing)
        return BK_CLOSING;
    read->database = database;
    read->is_cancelled = false;
    read->is_long = read->deadline_ms > database->store->options.read_deadline_ms;
    read->job.run = on_read_run;
    read->job.done = on_read_done;
    status = submit(read);
    if (status == BK_OK)
        store_await(database->store, database);
    return status;
}

void bk_store_read_cancel(struct bk_read *read) {
    __atomic_store_n(&read->is_cancelled, true, __ATOMIC_RELAXED);
}

/* --- the loop's connection -------------------------------------------------------------------- */

struct bk_connection *bk_store_read_now(struct bk_database *database) {
    struct bk_connection *connection = database->loop_connection;
    BK_ASSERT(bk_loop_is_current(database->store->options.loop));
    if (database->is_closing || database->has_failed || connection == NULL)
        return NULL;
    if (!bk_list_is_empty(&database->turn_link))
        return connection;
    store_connection_refresh(connection);
    if (store_connection_run_fixed(connection, STORE_FIXED_BEGIN) != BK_OK)
        return NULL;
    bk_list_push(&database->store->reading_now, &database->turn_link);
    return connection;
}

void store_read_now_end(struct bk_database *database) {
    struct bk_connection *connection = database->loop_connection;
    if (bk_list_is_empty(&database->turn_link))
        return;
    bk_list_remove(&database->turn_link);
    store_connection_give_back(connection);
    if (store_connection_has_transaction(connection))
        (void)store_connection_run_fixed(connection, STORE_FIXED_COMMIT);
    store_connection_roll_back(connection);
}

void store_on_turn_end(struct bk_turn_hook *hook) {
    struct bk_store *store = bk_container_of(hook, struct bk_store, turn_hook);
    while (!bk_list_is_empty(&store->reading_now))
        store_read_now_end(bk_container_of(store->reading_now.next, struct bk_database, turn_link));
}
