/*
 * One batch: writes of one database that share a commit.
 *
 *   BEGIN IMMEDIATE
 *   each write: run
 *   head, now and then (head.c)
 *   counter, before_commit hooks
 *   COMMIT                                       returns when it is on disk
 *   post to the loop
 *
 * Nearly every write that fails does so before it has changed a row (its rules, its validation, its
 * only INSERT), and then there is nothing to take back. So savepoints, which cost SQLite a copy of
 * each page that a write touches, are not set at first. A write that fails later spoils the
 * attempt: everything is rolled back and the batch is run again with a savepoint around each write,
 * and so are the next ones for a while, since such failures come in swarms.
 *
 * A batch of one needs no savepoint: ROLLBACK does. How an attempt may end:
 *
 *   committed   each write has its own status
 *   spoilt      a write failed after it had changed something: again, with savepoints
 *   lost        nothing of it is committed: SQLite dropped the transaction (after any failure
 *               sqlite3_get_autocommit tells), BEGIN or a hook failed, or COMMIT said so. Then each
 *               write is attempted again alone, once, so that only the culprit fails.
 *   refused     BEGIN waited for another process that writes to the file, and gave up: BK_BUSY.
 *   unknown     COMMIT failed when all of it may have been written already: any failure but a disk
 *               that was full before the last frame. A restart could find it. Linux may also have
 *               dropped the dirty pages, so another fsync would prove nothing. The connection is
 *               closed, the file opened again with recovery, and the WAL emptied, so that nothing
 *               of the commit is left there. If the journal then holds the events of the writes,
 *               the bus gets them, since its numbers must not skip what readers of the journal see,
 *               and the transient ones with them, and the writes fail with BK_IO. If it does not,
 *               they fail with the cause. Without a durable event nothing proves the commit: BK_IO,
 *               and the bus gets nothing.
 *   broken      The file could not be opened again. Writes fail with BK_IO; the first one of each
 *               STORE_REOPEN_MS tries to open it.
 *
 * Events and the counter follow: what an attempt has added is taken back unless it is committed.
 *
 * The arena is scratch memory of one run, and then of the hooks: it is empty before each of them,
 * so what a neighbour or an earlier attempt has used never counts. A run that needs more than there
 * is fails, whatever it says itself, since texts that did not fit have become empty ones.
 */
#include "store_private.h"

enum {
    EVENTS_KEPT = 512,     /* room for so many stays with a batch that is used again */
    COMMIT_NS_SHIFT = 16,  /* the first bucket is below 2^16 ns */
    SLOW_COMMIT_MS = 1000, /* a disk in trouble */
    CAREFUL_BATCHES = 64   /* with savepoints, after one was spoilt */
};

enum outcome { OUTCOME_COMMITTED, OUTCOME_SPOILT, OUTCOME_LOST, OUTCOME_REFUSED, OUTCOME_UNKNOWN };

/* How it goes on after a write. */
enum step { STEP_NEXT, STEP_SPOILT, STEP_LOST };

/* What there was before an attempt or a write. */
struct mark {
    size_t event_count;
    struct store_counter counter;
    size_t row_mark;
    int64_t change_count; /* rows that the connection has changed */
};

/* --- life cycle ------------------------------------------------------------------------------- */

struct store_batch *store_batch_take(struct store_writer *writer, struct bk_database *database) {
    struct bk_message *message = bk_mailbox_take_all(writer->spare, 0);
    struct store_batch *batch;
    if (message == NULL) {
        size_t writes_bytes = sizeof(struct bk_write *) * writer->store->options.batch_max;
        batch = bk_alloc_zero(sizeof(*batch));
        batch->writer = writer;
        batch->writes = bk_alloc(writes_bytes);
        bk_arena_init(&batch->arena, STORE_BATCH_ARENA_BYTES_MAX);
    } else {
        /* One is taken, the others go back: there are few, and never many at once. */
        struct bk_message *rest = message->next;
        batch = bk_container_of(message, struct store_batch, message);
        while (rest != NULL) {
            struct bk_message *next = rest->next;
            if (bk_mailbox_post(writer->spare, rest) != BK_OK)
                store_batch_free(bk_container_of(rest, struct store_batch, message));
            rest = next;
        }
    }
    batch->database = database;
    batch->message.on_message = store_batch_on_answered;
    batch->write_count = batch->request_count = 0;
    batch->event_count = batch->transient_count = 0;
    batch->has_failed_database = false;
    return batch;
}

void store_batch_free(struct store_batch *batch) {
    bk_arena_fini(&batch->arena);
    bk_free(batch->events);
    bk_free(batch->writes);
    bk_free(batch);
}

void store_batch_drop_events(struct store_batch *batch, size_t from) {
    while (batch->event_count > from) {
        struct bk_event *event = batch->events[--batch->event_count];
        if (event->fields.sequence == 0)
            batch->transient_count--;
        bk_event_unref(event);
    }
}

void store_batch_recycle(struct store_batch *batch) {
    store_batch_drop_events(batch, 0);
    bk_arena_reset(&batch->arena);
    if (batch->event_capacity > EVENTS_KEPT) {
        bk_free(batch->events);
        batch->events = NULL;
        batch->event_capacity = 0;
    }
    if (bk_mailbox_post(batch->writer->spare, &batch->message) != BK_OK)
        store_batch_free(batch);
}

/* --- one write -------------------------------------------------------------------------------- */

static struct mark take_mark(const struct bk_transaction *transaction) {
    return (struct mark){.event_count = transaction->batch->event_count,
                         .counter = transaction->database->counter,
                         .row_mark = store_rows_mark(transaction->connection),
                         .change_count = store_connection_change_count(transaction->connection)};
}

static void return_to_mark(struct bk_transaction *transaction, const struct mark *mark) {
    store_batch_drop_events(transaction->batch, mark->event_count);
    transaction->database->counter = mark->counter;
    store_rows_return(transaction->connection, mark->row_mark);
}

/* What an interrupted write does to its neighbours, for tests: SQLite rolls everything back. */
static enum bk_status interrupt_for_test(struct bk_transaction *transaction) {
    enum bk_status status = BK_FAILPOINT("store.write");
    if (status != BK_OK)
        store_connection_roll_back(transaction->connection);
    return status;
}

static enum bk_status call_run(struct bk_transaction *transaction, struct bk_write *write) {
    enum bk_status status;
    transaction->origin = write->origin;
    transaction->now_ms = bk_clock_wall_ms();
    transaction->failure = BK_OK;
    bk_arena_reset(&transaction->batch->arena);
    status = write->run(transaction, write);
    transaction->connection->budget_end_ns = 0;
    transaction->connection->step_max = 0;
    store_connection_give_back(transaction->connection);
    if (status == BK_OK)
        status = transaction->failure;
    if (status == BK_OK && transaction->batch->arena.is_overflown)
        status = BK_TOO_LARGE;
    if (transaction->batch->arena.lacks_memory)
        status = BK_NO_MEMORY;
    if (status == BK_OK)
        status = interrupt_for_test(transaction);
    return status;
}

/* The write has failed, in a transaction that goes on with others: what it did is undone. */
static enum step take_back(struct bk_transaction *transaction, const struct mark *mark,
                           bool has_savepoint) {
    struct bk_connection *connection = transaction->connection;
    return_to_mark(transaction, mark);
    if (!has_savepoint)
        return store_connection_change_count(connection) == mark->change_count ? STEP_NEXT
                                                                               : STEP_SPOILT;
    return store_connection_run_fixed(connection, STORE_FIXED_ROLLBACK_TO) == BK_OK &&
                   store_connection_run_fixed(connection, STORE_FIXED_RELEASE) == BK_OK
               ? STEP_NEXT
               : STEP_LOST;
}

/* Sets the write's status. */
static enum step run_write(struct bk_transaction *transaction, struct bk_write *write,
                           bool has_savepoint) {
    struct bk_connection *connection = transaction->connection;
    struct mark mark = take_mark(transaction);
    write->status = BK_OK;
    if (has_savepoint)
        write->status = store_connection_run_fixed(connection, STORE_FIXED_SAVEPOINT);
    if (write->status != BK_OK)
        return STEP_LOST;
    write->status = call_run(transaction, write);
    if (!store_connection_has_transaction(connection)) {
        if (write->status == BK_OK)
            write->status = BK_IO;
        return STEP_LOST;
    }
    if (write->status != BK_OK)
        return take_back(transaction, &mark, has_savepoint);
    if (has_savepoint && store_connection_run_fixed(connection, STORE_FIXED_RELEASE) != BK_OK)
        return STEP_LOST;
    return STEP_NEXT;
}

/* --- the commit ------------------------------------------------------------------------------- */

/* The durable events from first on: the batch's own array unless transient ones are among them. */
static struct bk_event *const *durable_events(struct store_batch *batch, size_t first,
                                              size_t *count) {
    struct bk_event **durable;
    *count = batch->event_count - first;
    if (batch->transient_count == 0 || *count == 0)
        return batch->events == NULL ? NULL : batch->events + first;
    durable = bk_arena_alloc(&batch->arena, *count * sizeof(struct bk_event *));
    *count = 0;
    if (durable == NULL)
        return NULL;
    for (size_t i = first; i < batch->event_count; i++) {
        if (batch->events[i]->fields.sequence > 0)
            durable[(*count)++] = batch->events[i];
    }
    return durable;
}

static enum bk_status call_hooks(struct bk_transaction *transaction, size_t first_event) {
    enum bk_status status = BK_OK;
    struct bk_store *store = transaction->database->store;
    size_t count;
    struct bk_event *const *events;
    if (!transaction->database->has_journal || bk_list_is_empty(&store->commit_hooks))
        return BK_OK;
    bk_arena_reset(&transaction->batch->arena);
    events = durable_events(transaction->batch, first_event, &count);
    if (transaction->batch->arena.is_overflown)
        return BK_NO_MEMORY;
    /* Without writes it is the opening transaction, of which hooks learn only what they must. */
    if (count == 0 && transaction->batch->write_count == 0)
        return BK_OK;
    transaction->is_before_commit = true;
    BK_LIST_FOR_EACH(node, &store->commit_hooks) {
        struct bk_commit_hook *hook = bk_container_of(node, struct bk_commit_hook, link);
        if (status == BK_OK)
            status = hook->before_commit(hook, transaction, events, count);
    }
    if (status == BK_OK && transaction->batch->arena.is_overflown)
        status = BK_NO_MEMORY;
    transaction->is_before_commit = false;
    store_connection_give_back(transaction->connection);
    return status;
}

static void count_commit(struct store_writer *writer, uint64_t took_ns) {
    size_t bucket = 0;
    while (bucket + 1 < BK_COUNT_OF(writer->commit_ns_buckets) &&
           took_ns >= UINT64_C(1) << (bucket + COMMIT_NS_SHIFT))
        bucket++;
    store_count(&writer->commits, 1);
    store_count(&writer->commit_ns_sum, took_ns);
    store_count(&writer->commit_ns_buckets[bucket], 1);
}

static void warn_of_slow_commit(const struct bk_transaction *transaction, uint64_t took_ns) {
    const struct bk_database *database = transaction->database;
    const struct store_batch *batch = transaction->batch;
    uint64_t waited_ns = 0;
    if (batch->write_count > 0)
        waited_ns = bk_clock_monotonic_ns() - batch->writes[0]->queued_ns;
    bk_log_warn(&database->store->log, "slow_commit", BK_STRING("tenant", database->tenant),
                BK_INT("took_ms", took_ns / STORE_NS_PER_MS),
                BK_INT("oldest_waited_ms", waited_ns / STORE_NS_PER_MS));
}

static enum bk_status commit(struct bk_transaction *transaction, bool *is_unknown) {
    struct bk_connection *connection = transaction->connection;
    uint64_t started_ns = bk_clock_monotonic_ns(), took_ns;
    enum bk_status status = store_connection_run_fixed(connection, STORE_FIXED_COMMIT);
    if (status == BK_OK && BK_FAILPOINT("store.after_commit") != BK_OK) {
        status = BK_IO;
        connection->is_certain = false;
    }
    *is_unknown = status != BK_OK && !connection->is_certain;
    if (status != BK_OK)
        return status;
    took_ns = bk_clock_monotonic_ns() - started_ns;
    count_commit(transaction->database->writer, took_ns);
    if (took_ns > SLOW_COMMIT_MS * STORE_NS_PER_MS)
        warn_of_slow_commit(transaction, took_ns);
    return BK_OK;
}

enum bk_status store_batch_commit(struct bk_transaction *transaction, size_t first_event,
                                  const struct store_counter *former, bool *is_unknown) {
    const struct store_counter *counter = &transaction->database->counter;
    enum bk_status status = call_hooks(transaction, first_event);
    *is_unknown = false;
    if (status == BK_OK && memcmp(counter, former, sizeof(*counter)) != 0)
        status = store_journal_store_counter(transaction->connection, counter);
    if (status == BK_OK)
        status = store_rows_store(transaction->connection);
    if (status == BK_OK && !store_connection_has_transaction(transaction->connection))
        status = BK_IO;
    if (status == BK_OK)
        status = BK_FAILPOINT("store.before_commit");
    if (status == BK_OK)
        status = commit(transaction, is_unknown);
    if (status != BK_OK)
        store_rows_doubt(transaction->connection);
    return status;
}

/* --- attempts --------------------------------------------------------------------------------- */

static enum bk_status begin(struct bk_connection *connection) {
    enum bk_status status = BK_FAILPOINT("store.before_begin");
    if (status == BK_OK)
        status = store_connection_run_fixed(connection, STORE_FIXED_BEGIN_IMMEDIATE);
    if (status == BK_OK)
        status = BK_FAILPOINT("store.after_begin");
    return status;
}

/* Runs the writes, until the transaction is of no use any more. *success_count: what may be
 * committed. */
static enum step run_writes(struct bk_transaction *transaction, struct bk_write **writes,
                            size_t count, size_t *success_count, enum bk_status *cause) {
    bool is_careful = count > 1 && transaction->database->careful_batches > 0;
    enum step step = STEP_NEXT;
    *success_count = 0;
    for (size_t i = 0; i < count; i++) {
        step = run_write(transaction, writes[i], is_careful);
        /* Nothing is left of a write that was alone once the transaction is rolled back. */
        if (step == STEP_SPOILT && count == 1)
            step = STEP_NEXT;
        if (step != STEP_NEXT) {
            *cause = writes[i]->status == BK_OK ? BK_IO : writes[i]->status;
            return step;
        }
        if (writes[i]->status == BK_OK)
            (*success_count)++;
    }
    return step;
}

static void set_statuses(struct bk_write **writes, size_t count, enum bk_status status) {
    for (size_t i = 0; i < count; i++)
        writes[i]->status = status;
}

static enum outcome resolve_unknown(struct bk_transaction *transaction, const struct mark *mark,
                                    enum bk_status *cause) {
    struct bk_database *database = transaction->database;
    uint64_t expected_last = database->counter.last;
    bool is_provable = expected_last != mark->counter.last;
    bk_log_error(&database->store->log, "commit_outcome_unknown",
                 BK_STRING("tenant", database->tenant), BK_TEXT("path", database->path),
                 BK_TEXT("error", database->connection->error),
                 BK_TEXT("remedy", "look at the disk; the file is opened again and recovered"));
    store_reopen(database);
    if (!is_provable || database->is_broken) {
        store_batch_drop_events(transaction->batch, mark->event_count);
        *cause = BK_IO;
    } else if (database->counter.last == expected_last) {
        *cause = BK_IO;
    } else {
        store_batch_drop_events(transaction->batch, mark->event_count);
    }
    return OUTCOME_UNKNOWN;
}

/* One transaction with these writes. When lost, *cause says why. */
static enum outcome attempt(struct store_batch *batch, struct bk_write **writes, size_t count,
                            enum bk_status *cause) {
    struct bk_database *database = batch->database;
    struct bk_transaction transaction = {
        .batch = batch, .database = database, .connection = database->connection};
    store_rows_begin(transaction.connection);
    struct mark mark = take_mark(&transaction);
    enum step step = STEP_LOST;
    size_t success_count = 0;
    bool is_unknown = false;
    *cause = begin(transaction.connection);
    if (*cause == BK_BUSY)
        return OUTCOME_REFUSED;
    if (*cause == BK_OK)
        step = run_writes(&transaction, writes, count, &success_count, cause);
    if (step == STEP_NEXT && success_count == 0) {
        store_connection_roll_back(transaction.connection);
        return OUTCOME_COMMITTED;
    }
    if (step == STEP_NEXT) {
        store_head_reserve(database, mark.counter.last);
        *cause = store_batch_commit(&transaction, mark.event_count, &mark.counter, &is_unknown);
    }
    if (is_unknown)
        return resolve_unknown(&transaction, &mark, cause);
    if (*cause == BK_OK)
        return OUTCOME_COMMITTED;
    store_connection_roll_back(transaction.connection);
    return_to_mark(&transaction, &mark);
    return step == STEP_SPOILT ? OUTCOME_SPOILT : OUTCOME_LOST;
}

/* All of them in one commit, with savepoints where it takes those. */
static enum outcome attempt_together(struct store_batch *batch, enum bk_status *cause) {
    struct bk_database *database = batch->database;
    enum outcome outcome = attempt(batch, batch->writes, batch->write_count, cause);
    if (outcome == OUTCOME_SPOILT) {
        store_count(&batch->writer->batches_spoilt, 1);
        database->careful_batches = CAREFUL_BATCHES;
        outcome = attempt(batch, batch->writes, batch->write_count, cause);
    }
    if (database->careful_batches > 0)
        database->careful_batches--;
    return outcome;
}

/* Each write alone, once. */
static void run_again(struct store_batch *batch) {
    store_count(&batch->writer->batches_rerun, 1);
    for (size_t i = 0; i < batch->write_count; i++) {
        struct bk_write **write = &batch->writes[i];
        enum bk_status cause = BK_IO;
        if (batch->database->is_broken || attempt(batch, write, 1, &cause) != OUTCOME_COMMITTED)
            (*write)->status = cause;
    }
}

/* A schema change shows in the schema's version: then other connections must forget, too. */
static void tell_others_to_forget(struct bk_database *database, bool ran_alone) {
    struct bk_connection *connection = database->connection;
    int64_t version = database->schema_version;
    if (!ran_alone && !connection->has_forgotten)
        return;
    /* When it cannot be read, it may have changed. */
    if (store_connection_query_int(connection, "PRAGMA schema_version", 0, &version) != BK_OK ||
        version != database->schema_version || connection->has_forgotten)
        bk_database_forget_statements(database);
    database->schema_version = version;
    connection->has_forgotten = false;
}

static void count_batch(struct store_batch *batch) {
    struct store_writer *writer = batch->writer;
    size_t bucket = 0, failed_count = 0;
    while (bucket + 1 < BK_COUNT_OF(writer->batch_size_buckets) &&
           batch->write_count >= (size_t)1 << (bucket + 1))
        bucket++;
    for (size_t i = 0; i < batch->write_count; i++)
        failed_count += batch->writes[i]->status != BK_OK;
    store_count(&writer->batch_size_buckets[bucket], 1);
    store_count(&writer->writes, batch->write_count);
    store_count(&writer->writes_failed, failed_count);
    store_count(&writer->events, batch->event_count - batch->transient_count);
}

static void run(struct store_batch *batch) {
    struct bk_database *database = batch->database;
    bool ran_alone = batch->writes[0]->runs_alone;
    enum bk_status cause = BK_IO;
    enum outcome outcome;
    if (database->is_broken && bk_clock_monotonic_ns() >= database->reopen_at_ns)
        store_reopen(database);
    if (database->is_broken) {
        set_statuses(batch->writes, batch->write_count, BK_IO);
        return;
    }
    store_connection_refresh(database->connection);
    outcome = attempt_together(batch, &cause);
    if (outcome == OUTCOME_LOST)
        run_again(batch);
    else if (outcome != OUTCOME_COMMITTED)
        set_statuses(batch->writes, batch->write_count, cause);
    if (!database->is_broken)
        tell_others_to_forget(database, ran_alone);
}

void store_batch_run(struct store_batch *batch) {
    struct bk_database *database = batch->database;
    BK_ASSERT(batch->write_count > 0);
    run(batch);
    count_batch(batch);
    batch->journal = store_journal_snapshot(database);
    batch->has_failed_database = database->is_broken;
    BK_ASSERT(bk_mailbox_post(database->store->answers, &batch->message) == BK_OK);
}
