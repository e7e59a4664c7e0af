/*
 * What a write's run may do: statements on the writer's connection, scratch memory, events.
 *
 * An event is complete when it is emitted: it has its number, id and time, and its bytes are made
 * here, once. It is kept by the batch until the loop has handed it to the bus, or dropped with the
 * write.
 */
#include "store_private.h"

#include "bakend/id.h"

enum {
    SCRATCH_BYTES_MAX = 2 * BK_EVENT_BYTES_MAX, /* of an event that had to be made smaller */
    EVENTS_AT_FIRST = 16,
    RANDOM_BITS = 32
};

struct bk_connection *bk_transaction_connection(struct bk_transaction *transaction) {
    return transaction->connection;
}

struct bk_slice bk_transaction_tenant(struct bk_transaction *transaction) {
    return transaction->database->tenant;
}

int64_t bk_transaction_now_ms(struct bk_transaction *transaction) { return transaction->now_ms; }

const struct bk_origin *bk_transaction_origin(const struct bk_transaction *transaction) {
    return transaction->origin;
}

void bk_transaction_set_origin(struct bk_transaction *transaction, const struct bk_origin *origin) {
    transaction->origin = origin;
}

uint64_t bk_transaction_sequence(const struct bk_transaction *transaction) {
    return transaction->database->counter.last;
}

struct bk_arena *bk_transaction_arena(struct bk_transaction *transaction) {
    return &transaction->batch->arena;
}

void bk_transaction_set_budget(struct bk_transaction *transaction, uint32_t budget_ms) {
    transaction->connection->budget_end_ns =
        budget_ms == 0 ? 0 : bk_clock_monotonic_ns() + budget_ms * STORE_NS_PER_MS;
}

void bk_transaction_set_steps(struct bk_transaction *transaction, uint64_t step_max) {
    transaction->connection->step_max = step_max;
    transaction->connection->steps_taken = 0;
}

uint32_t bk_transaction_awaiting_count(const struct bk_transaction *transaction) {
    const struct store_batch *batch = transaction->batch;
    return (uint32_t)batch->request_count +
           __atomic_load_n(&batch->writer->requests_waiting, __ATOMIC_RELAXED);
}

/* --- events ----------------------------------------------------------------------------------- */

static struct bk_slice actor_of(const struct bk_transaction *transaction,
                                const struct bk_event_draft *draft) {
    if (draft->actor.length > 0)
        return draft->actor;
    if (transaction->origin != NULL && transaction->origin->actor.length > 0)
        return transaction->origin->actor;
    return BK_SLICE("system");
}

static void keep_event(struct store_batch *batch, struct bk_event *event) {
    if (batch->event_count == batch->event_capacity) {
        size_t capacity = batch->event_capacity == 0 ? EVENTS_AT_FIRST : batch->event_capacity * 2;
        batch->events = bk_realloc(batch->events, capacity * sizeof(struct bk_event *));
        batch->event_capacity = capacity;
    }
    batch->events[batch->event_count++] = event;
}

/* Ids go up as the numbers do, also while the wall clock is set back. */
static int64_t id_time(const struct bk_transaction *transaction) {
    struct bk_database *database = transaction->database;
    if (transaction->now_ms > database->id_ms)
        database->id_ms = transaction->now_ms;
    return database->id_ms;
}

/* texts: payload, previous and what was omitted; the event gets copies. */
static struct bk_event *make_event(const struct bk_transaction *transaction,
                                   const struct bk_event_draft *draft,
                                   const struct bk_event_fields *texts) {
    struct bk_event_fields fields = *texts;
    char id[BK_EVENT_ID_BYTES];
    const struct bk_origin *origin = transaction->origin;
    if (!draft->is_transient)
        fields.sequence = transaction->database->counter.last + 1;
    bk_event_id_make(id, id_time(transaction), fields.sequence,
                     (uint32_t)(bk_random_u64() >> RANDOM_BITS));
    fields.id = bk_slice_make(id, sizeof(id));
    fields.timestamp_ms = transaction->now_ms;
    fields.version = draft->version == 0 ? 1 : draft->version;
    fields.type = draft->type;
    fields.source = draft->source;
    fields.subject = draft->subject;
    fields.tenant = transaction->database->tenant;
    fields.actor = actor_of(transaction, draft);
    fields.hidden = draft->hidden;
    fields.hidden_previous = draft->hidden_previous;
    if (origin != NULL) {
        fields.cause = origin->cause;
        fields.depth = origin->depth;
    }
    return bk_event_create(&fields);
}

static enum bk_status emit(struct bk_transaction *transaction, const struct bk_event_draft *draft,
                           struct bk_buffer *scratch) {
    struct bk_event_fields fields = {.payload = draft->payload, .previous = draft->previous};
    struct store_counter *counter = &transaction->database->counter;
    struct bk_event *event;
    enum bk_status status = bk_event_fit(&fields, scratch);
    if (status != BK_OK)
        return status;
    event = make_event(transaction, draft, &fields);
    if (draft->is_transient) {
        keep_event(transaction->batch, event);
        transaction->batch->transient_count++;
        return BK_OK;
    }
    status = store_journal_append(transaction->connection, event);
    if (status != BK_OK) {
        bk_event_unref(event);
        return status;
    }
    counter->last++;
    counter->bytes += fields.payload.length + fields.previous.length;
    keep_event(transaction->batch, event);
    return BK_OK;
}

enum bk_status bk_transaction_emit(struct bk_transaction *transaction,
                                   const struct bk_event_draft *draft) {
    struct bk_buffer scratch;
    enum bk_status status;
    BK_ASSERT(!transaction->is_before_commit);
    BK_ASSERT(draft->type.length > 0 && draft->payload.length > 0);
    if (!draft->is_transient && !transaction->database->has_journal) {
        status = BK_NOT_SUPPORTED;
    } else {
        bk_buffer_init(&scratch, SCRATCH_BYTES_MAX);
        status = emit(transaction, draft, &scratch);
        bk_buffer_fini(&scratch);
    }
    if (status != BK_OK && transaction->failure == BK_OK)
        transaction->failure = status;
    return status;
}
