/*
 * Writing the words of records that were there before the option `search`: in slices, so that
 * neither a change of the schema nor a write has to wait for all of them.
 *
 *   schema change   table of words (empty) → row of _searches → first slice      one transaction
 *   loop            the change is installed ─┐
 *                   the tenant is opened ────┴→ a slice → a slice → … → search_built
 *
 * _searches has a row for each collection that can be searched. Records with
 * done < rowid <= upto have no words yet, all others do. upto is the last rowid when the table of
 * words was made; done grows, with the words, by each slice. Whoever writes a record looks whether
 * it has words by its rowid alone (search.c), so it makes no difference whether a write comes
 * before or after the slice that reaches its record, whether a rowid is used again, and where a
 * crash falls: a slice is a transaction.
 *
 * A slice ends after so many records or bytes, not by the clock, and earlier where requests wait
 * for its commit, which is theirs too. Between two of them the batches of requests pass. What
 * cannot be written now (a full disk) is logged once and tried again; a tenant that closes stops
 * the building, and its next opening goes on.
 *
 * Until done is upto nothing can be searched: some of what is there would seem not to be.
 */
#include "schema_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/failpoint.h"
#include "bakend/loop.h"
#include <stdio.h>

enum {
    SLICE_ROWS_MAX = 500,
    SLICE_BYTES_MAX = 256 * 1024,
    SLICE_ROWS_MIN = 50,   /* beside requests: a millisecond */
    AGAIN_FIRST_MS = 1000, /* after a slice that failed, doubling */
    AGAIN_MAX_MS = 60 * 1000,
};

struct schema_building {
    struct bk_write write;
    struct schema_state *state;
    struct bk_timer *timer; /* after a failure */
    uint64_t again_ms;      /* after the last one; 0: it did not fail */
    enum bk_status failure; /* as it was logged; BK_OK: nothing is wrong */
    struct bk_schema *schema;
    bool is_running;                                 /* a slice is on its way */
    bool has_more;                                   /* as the slice has found it */
    char finished[BK_COLLECTION_NAME_BYTES_MAX + 1]; /* by this slice; or "" */
};

/* --- rows of _searches ------------------------------------------------------------------------ */

static enum bk_status statement_of(struct bk_connection *connection, struct bk_slice text,
                                   struct bk_slice collection_id, struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(text);
    enum bk_status status = bk_connection_statement(connection, &sql, statement);
    if (status == BK_OK)
        bk_statement_bind_text(*statement, 1, collection_id);
    return status;
}

enum bk_status schema_search_is_made(struct bk_connection *connection,
                                     const struct bk_collection *collection, bool *is_made) {
    struct bk_statement *statement;
    enum bk_status status = statement_of(
        connection, BK_SLICE("SELECT 1 FROM _searches WHERE collection=?1 AND made_of=?2"),
        collection->id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 2, collection->search->made_of);
    status = bk_statement_step(statement);
    *is_made = status == BK_OK;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status forget(struct bk_connection *connection, struct bk_slice collection_id) {
    struct bk_statement *statement;
    enum bk_status status =
        statement_of(connection, BK_SLICE("DELETE FROM _searches WHERE collection=?1"),
                     collection_id, &statement);
    return status == BK_OK ? bk_statement_run(statement) : status;
}

enum bk_status schema_search_forget(struct bk_connection *connection,
                                    const struct bk_collection *collection) {
    return forget(connection, collection->id);
}

/* --- a slice ---------------------------------------------------------------------------------- */

struct slice {
    const struct bk_transaction *transaction; /* NULL: nobody can wait for it */
    struct bk_connection *connection;
    const struct bk_collection *collection;
    int64_t done, upto;
    uint32_t row_count;
    size_t bytes;
};

static enum bk_status read_place(struct slice *slice) {
    struct bk_statement *statement;
    enum bk_status status = statement_of(
        slice->connection, BK_SLICE("SELECT done, upto FROM _searches WHERE collection=?1"),
        slice->collection->id, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status != BK_OK)
        return status;
    slice->done = bk_statement_int(statement, 0);
    slice->upto = bk_statement_int(statement, 1);
    bk_statement_reset(statement);
    return BK_OK;
}

static enum bk_status store_place(const struct slice *slice) {
    struct bk_statement *statement;
    enum bk_status status = statement_of(
        slice->connection, BK_SLICE("UPDATE _searches SET done=?2 WHERE collection=?1"),
        slice->collection->id, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 2, slice->done);
    return bk_statement_run(statement);
}

/* The words of the record that `row` stands at. */
static enum bk_status add_words(struct slice *slice, struct bk_statement *row) {
    const struct bk_search *search = slice->collection->search;
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(slice->connection, &search->add, &statement);
    if (status != BK_OK)
        return status;
    slice->done = bk_statement_int(row, 0);
    bk_statement_bind_int(statement, 1, slice->done);
    for (uint32_t i = 0; i < search->field_count; i++) {
        struct bk_value value = bk_statement_value(row, (int)i + 1);
        bk_statement_bind(statement, (int)i + 2, &value);
        slice->bytes += value.type == BK_VALUE_TEXT ? value.text.length : 0;
    }
    slice->row_count++;
    return bk_statement_run(statement);
}

static enum bk_status add_next(struct slice *slice) {
    struct bk_statement *row;
    enum bk_status status =
        bk_connection_statement(slice->connection, &slice->collection->search->next, &row);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(row, 1, slice->done);
    bk_statement_bind_int(row, 2, slice->upto);
    status = bk_statement_step(row);
    if (status == BK_OK)
        status = add_words(slice, row);
    else if (status == BK_END)
        slice->done = slice->upto;
    bk_statement_reset(row);
    return status == BK_END ? BK_OK : status;
}

static bool is_full(const struct slice *slice) {
    return slice->row_count >= SLICE_ROWS_MAX || slice->bytes >= SLICE_BYTES_MAX ||
           (slice->row_count >= SLICE_ROWS_MIN && slice->transaction != NULL &&
            bk_transaction_awaiting_count(slice->transaction) > 0);
}

static enum bk_status write_slice(struct slice *slice) {
    enum bk_status status = read_place(slice);
    while (status == BK_OK && slice->done < slice->upto && !is_full(slice))
        status = add_next(slice);
    return status == BK_OK ? store_place(slice) : status;
}

enum bk_status schema_search_begin(struct bk_connection *connection,
                                   const struct bk_collection *collection) {
    struct slice slice = {.connection = connection, .collection = collection};
    struct bk_buffer sql;
    struct bk_statement *statement;
    bk_buffer_init(&sql, SCHEMA_DEFINITION_BYTES_MAX);
    bk_buffer_format(&sql,
                     "REPLACE INTO _searches (collection, made_of, done, upto) SELECT ?1, ?2, 0, "
                     "coalesce(max(_rowid_), 0) FROM %.*s",
                     BK_SLICE_PRINT(collection->quoted));
    enum bk_status status = bk_buffer_status(&sql);
    if (status == BK_OK)
        status = statement_of(connection, bk_buffer_slice(&sql), collection->id, &statement);
    bk_buffer_fini(&sql);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 2, collection->search->made_of);
    status = bk_statement_run(statement);
    return status == BK_OK ? write_slice(&slice) : status;
}

/* An id. */
struct unfinished {
    char id[BK_COLLECTION_NAME_BYTES_MAX];
    size_t length;
};

/* --- one after the other ---------------------------------------------------------------------- */

/* The id of the first one that has not all its words; empty: there is none. */
static enum bk_status find_unfinished(struct bk_connection *connection, struct unfinished *found) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT collection FROM _searches WHERE done<upto LIMIT 1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    found->length = 0;
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_slice id = bk_statement_text(statement, 0);
        found->length = id.length < sizeof found->id ? id.length : sizeof found->id;
        memcpy(found->id, id.data, found->length);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* By its id alone, which may be the name of another one. */
static const struct bk_collection *find_searched(const struct bk_schema *schema,
                                                 struct bk_slice id) {
    for (size_t i = 0; i < bk_schema_count(schema); i++) {
        const struct bk_collection *collection = bk_schema_at(schema, i);
        if (bk_slice_equal(collection->id, id))
            return collection->search == NULL ? NULL : collection;
    }
    return NULL;
}

static enum bk_status write_next(struct schema_building *building, struct slice *slice,
                                 const struct unfinished *found) {
    struct bk_slice id = bk_slice_make(found->id, found->length);
    slice->collection = find_searched(building->schema, id);
    if (slice->collection == NULL)
        return forget(slice->connection, id); /* what a file says may be anything */
    enum bk_status status = write_slice(slice);
    if (status == BK_OK && slice->done == slice->upto)
        (void)snprintf(building->finished, sizeof building->finished, "%.*s",
                       BK_SLICE_PRINT(slice->collection->name));
    return status;
}

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct schema_building *building = bk_container_of(write, struct schema_building, write);
    struct slice slice = {.transaction = transaction,
                          .connection = bk_transaction_connection(transaction)};
    struct unfinished found = {.length = 0};
    building->finished[0] = '\0';
    enum bk_status status = BK_FAILPOINT("schema.search_slice");
    if (status == BK_OK)
        status = bk_schema_verify(building->schema, transaction);
    if (status == BK_OK)
        status = find_unfinished(slice.connection, &found);
    building->has_more = found.length > 0;
    return status == BK_OK && building->has_more ? write_next(building, &slice, &found) : status;
}

static void start(struct schema_building *building);

static void on_timer(struct bk_timer *timer, void *user) {
    (void)timer;
    start(user);
}

static void try_again(struct schema_building *building, enum bk_status status) {
    struct schema_state *state = building->state;
    uint64_t again_ms = building->again_ms == 0 ? AGAIN_FIRST_MS : 2 * building->again_ms;
    building->again_ms = again_ms < AGAIN_MAX_MS ? again_ms : AGAIN_MAX_MS;
    if (status != building->failure)
        bk_log_warn(&state->kind->log, "search_build_failed",
                    BK_STRING("tenant", state->tenant->name),
                    BK_TEXT("status", bk_status_name(status)));
    building->failure = status;
    bk_timer_start(building->timer, building->again_ms, 0);
}

static void note_success(struct schema_building *building) {
    struct schema_state *state = building->state;
    if (building->failure != BK_OK)
        bk_log_info(&state->kind->log, "search_build_resumed",
                    BK_STRING("tenant", state->tenant->name));
    building->failure = BK_OK;
    building->again_ms = 0;
    if (building->finished[0] != '\0')
        bk_log_info(&state->kind->log, "search_built", BK_STRING("tenant", state->tenant->name),
                    BK_TEXT("collection", building->finished));
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct schema_building *building = bk_container_of(write, struct schema_building, write);
    struct schema_state *state = building->state;
    building->is_running = false;
    bk_schema_unref(building->schema);
    if (status == BK_OK)
        note_success(building);
    if (bk_database_is_stopping(state->tenant->database))
        return;
    /* What makes a slice stale is a change that was answered before it. */
    if (status == BK_STALE || (status == BK_OK && building->has_more))
        start(building);
    else if (status != BK_OK)
        try_again(building, status);
}

static void start(struct schema_building *building) {
    struct schema_state *state = building->state;
    BK_ASSERT(!building->is_running);
    building->write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_done};
    building->schema = bk_schema_ref(state->current);
    enum bk_status status = bk_store_write(state->tenant->database, &building->write);
    building->is_running = status == BK_OK;
    if (status == BK_OK)
        return;
    bk_schema_unref(building->schema);
    if (status != BK_CLOSING)
        try_again(building, status);
}

static bool is_needed(const struct schema_state *state) {
    struct bk_connection *connection = bk_store_read_now(state->tenant->database);
    struct unfinished found;
    if (connection == NULL)
        return true; /* the slice finds out */
    return find_unfinished(connection, &found) != BK_OK || found.length > 0;
}

void schema_search_build(struct schema_state *state) {
    struct schema_building *building = state->building;
    if ((building != NULL && building->is_running) || !is_needed(state))
        return;
    if (building == NULL) {
        building = state->building = bk_alloc_zero(sizeof *building);
        building->state = state;
        building->timer = bk_timer_create(bk_store_loop(bk_tenants_store(state->kind->tenants)),
                                          on_timer, building);
    }
    bk_timer_stop(building->timer);
    start(building);
}

void schema_search_close(struct schema_state *state) {
    struct schema_building *building = state->building;
    if (building == NULL)
        return;
    BK_ASSERT(!building->is_running);
    bk_timer_close(building->timer);
    bk_free(building);
    state->building = NULL;
}

/* --- for who searches ------------------------------------------------------------------------- */

enum bk_status bk_search_progress(struct bk_connection *connection,
                                  const struct bk_collection *collection, uint32_t *percent) {
    struct slice slice = {.connection = connection, .collection = collection};
    enum bk_status status = read_place(&slice);
    if (status != BK_OK || slice.done == slice.upto)
        return status == BK_OK ? BK_END : status;
    *percent = (uint32_t)(100.0 * (double)slice.done / (double)slice.upto);
    return BK_OK;
}
