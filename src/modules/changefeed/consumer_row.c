/*
 * The table `_consumers`. Positions are kept as cursors, which hold the history that they are of:
 * a consumer of a restored tenant is told from one that stands where it stood.
 */
#include "consumer.h"

#define COLUMNS                                                                                    \
    "id, name, types, subject, filter, created, updated, cursor, isLost, lease, leaseUntil, "      \
    "leaseCursor"

enum {
    COLUMN_ID,
    COLUMN_NAME,
    COLUMN_TYPES,
    COLUMN_SUBJECT,
    COLUMN_FILTER,
    COLUMN_CREATED,
    COLUMN_UPDATED,
    COLUMN_CURSOR,
    COLUMN_IS_LOST,
    COLUMN_LEASE,
    COLUMN_LEASE_UNTIL,
    COLUMN_LEASE_CURSOR
};

/* --- reading ---------------------------------------------------------------------------------- */

static void read_lease(struct bk_statement *statement, struct changefeed_consumer_place *place) {
    struct bk_slice lease = bk_statement_text(statement, COLUMN_LEASE);
    uint8_t epoch[8];
    if (lease.length == 0 || lease.length > sizeof place->lease ||
        !bk_cursor_parse(bk_statement_text(statement, COLUMN_LEASE_CURSOR), epoch, &place->handed))
        return;
    memcpy(place->lease, lease.data, lease.length);
    place->lease_length = (uint8_t)lease.length;
    if (!bk_time_parse(bk_statement_text(statement, COLUMN_LEASE_UNTIL), &place->until_ms))
        place->until_ms = 0;
}

/* What is no cursor is of no history: the consumer has to be sought. */
static void read_place(struct bk_statement *statement, struct changefeed_consumer_place *place) {
    *place = (struct changefeed_consumer_place){.position = 0};
    place->is_lost = bk_statement_int(statement, COLUMN_IS_LOST) != 0;
    if (bk_cursor_parse(bk_statement_text(statement, COLUMN_CURSOR), place->epoch,
                        &place->position))
        read_lease(statement, place);
}

enum bk_status
changefeed_consumer_rows_read(struct bk_connection *connection,
                              void (*on_row)(void *user, const struct changefeed_consumer_row *row),
                              void *user) {
    struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT " COLUMNS " FROM _consumers ORDER BY name"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    while ((status = bk_statement_step(statement)) == BK_OK) {
        struct changefeed_consumer_row row = {
            .id = bk_statement_text(statement, COLUMN_ID),
            .name = bk_statement_text(statement, COLUMN_NAME),
            .types = bk_statement_text(statement, COLUMN_TYPES),
            .subject = bk_statement_text(statement, COLUMN_SUBJECT),
            .filter = bk_statement_text(statement, COLUMN_FILTER),
            .created = bk_statement_text(statement, COLUMN_CREATED),
            .updated = bk_statement_text(statement, COLUMN_UPDATED),
        };
        read_place(statement, &row.place);
        on_row(user, &row);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct row_texts {
    char cursor[BK_CURSOR_BYTES], lease_cursor[BK_CURSOR_BYTES];
    char until[BK_TIME_TEXT_BYTES], now[BK_TIME_TEXT_BYTES];
};

/* ?1 the name, ?2… where it stands. */
static void bind_place(struct bk_statement *statement,
                       const struct changefeed_consumer_change *change, struct row_texts *texts) {
    const struct changefeed_consumer_place *place = &change->next;
    bool has_lease = place->lease_length > 0;
    size_t until_length = place->until_ms != 0 ? BK_TIME_TEXT_BYTES : 0;
    bk_cursor_make(texts->cursor, place->epoch, place->position);
    bk_cursor_make(texts->lease_cursor, place->epoch, place->handed);
    bk_time_format(texts->until, place->until_ms, ' ');
    bk_statement_bind_text(statement, 1, change->consumer->name);
    bk_statement_bind_text(statement, 2, bk_slice_make(texts->cursor, BK_CURSOR_BYTES));
    bk_statement_bind_int(statement, 3, place->is_lost);
    bk_statement_bind_text(statement, 4, bk_slice_make(place->lease, place->lease_length));
    bk_statement_bind_text(statement, 5, bk_slice_make(texts->until, until_length));
    bk_statement_bind_text(statement, 6,
                           bk_slice_make(texts->lease_cursor, has_lease ? BK_CURSOR_BYTES : 0));
}

/* ?7… what it reads. */
static void bind_definition(struct bk_statement *statement,
                            const struct changefeed_consumer_change *change,
                            struct row_texts *texts) {
    bk_time_format(texts->now, change->now_ms, ' ');
    bk_statement_bind_text(statement, 7, change->types);
    bk_statement_bind_text(statement, 8, change->definition->subject);
    bk_statement_bind_text(statement, 9, bk_slice_make(texts->now, BK_TIME_TEXT_BYTES));
    bk_statement_bind_text(statement, 10, change->definition->filter_text);
}

#define SET_PLACE "cursor = ?2, isLost = ?3, lease = ?4, leaseUntil = ?5, leaseCursor = ?6"

static struct bk_slice sql_of(enum changefeed_consumer_write kind) {
    switch (kind) {
    case CONSUMER_WRITE_NEW:
        return BK_SLICE("INSERT INTO _consumers (name, cursor, isLost, lease, leaseUntil, "
                        "leaseCursor, types, subject, created, updated, filter, id) "
                        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11)");
    case CONSUMER_WRITE_DEFINITION:
        return BK_SLICE("UPDATE _consumers SET " SET_PLACE ", types = ?7, subject = ?8, "
                        "updated = ?9, filter = ?10 WHERE name = ?1");
    case CONSUMER_WRITE_PLACE:
        return BK_SLICE("UPDATE _consumers SET " SET_PLACE " WHERE name = ?1");
    case CONSUMER_WRITE_REMOVAL:
        return BK_SLICE("DELETE FROM _consumers WHERE name = ?1");
    }
    BK_UNREACHABLE();
}

static bool on_oldest(void *user, const struct bk_event_fields *fields) {
    uint64_t *oldest = user;
    *oldest = fields->sequence;
    return false;
}

/* As of this transaction: the writer that prunes is the one that is here. */
static void find_oldest(struct bk_connection *connection,
                        struct changefeed_consumer_change *change) {
    struct bk_journal_query query = {.from = change->oldest,
                                     .to = INT64_MAX,
                                     .row_limit = 1,
                                     .on_row = on_oldest,
                                     .user = &change->oldest};
    (void)bk_journal_read(connection, &query); /* else it stays what the loop knew */
}

static enum bk_status emit_loss(struct bk_transaction *transaction,
                                const struct changefeed_consumer_change *change) {
    const struct changefeed_consumer *consumer = change->consumer;
    char cursor[BK_CURSOR_BYTES], oldest[BK_CURSOR_BYTES];
    struct bk_buffer payload;
    bk_buffer_init(&payload, 1024);
    bk_cursor_make(cursor, change->next.epoch, change->next.position);
    bk_cursor_make(oldest, change->next.epoch, change->oldest - 1);
    bk_buffer_append_char(&payload, '{');
    bk_json_write_member_string(&payload, BK_SLICE("name"), consumer->name);
    bk_json_write_member_string(&payload, BK_SLICE("cursor"),
                                bk_slice_make(cursor, BK_CURSOR_BYTES));
    bk_json_write_member_string(&payload, BK_SLICE("oldest"),
                                bk_slice_make(oldest, BK_CURSOR_BYTES));
    bk_buffer_append_char(&payload, '}');
    bk_buffer_insist(&payload);
    struct bk_slice subject = bk_arena_format(bk_transaction_arena(transaction), "_consumers/%.*s",
                                              BK_RECORD_ID_BYTES, consumer->id);
    struct bk_event_draft draft = {.type = BK_SLICE("consumer.lost"),
                                   .source = BK_SLICE("changefeed"),
                                   .subject = subject,
                                   .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

enum bk_status changefeed_consumer_row_write(struct bk_transaction *transaction,
                                             struct changefeed_consumer_change *change) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_sql sql = bk_sql_make(sql_of(change->kind));
    struct bk_statement *statement;
    struct row_texts texts;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    change->now_ms = bk_transaction_now_ms(transaction);
    if (change->kind == CONSUMER_WRITE_REMOVAL)
        bk_statement_bind_text(statement, 1, change->consumer->name);
    else
        bind_place(statement, change, &texts);
    if (change->kind == CONSUMER_WRITE_NEW || change->kind == CONSUMER_WRITE_DEFINITION)
        bind_definition(statement, change, &texts);
    if (change->kind == CONSUMER_WRITE_NEW)
        bk_statement_bind_text(statement, 11,
                               bk_slice_make(change->consumer->id, BK_RECORD_ID_BYTES));
    status = bk_statement_run(statement);
    if (status == BK_OK && change->tells_loss)
        find_oldest(connection, change);
    if (status == BK_OK && change->tells_loss)
        status = emit_loss(transaction, change);
    return status;
}
