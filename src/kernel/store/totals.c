/*
 * Totals of what is selected, remembered: a list that is asked for again costs its page only.
 *
 * Every change of a collection's records has an event, so what was counted holds until the journal
 * goes on. A reader looks up how far that is in its own transaction, which is the state that it
 * would count in. So there is nothing to invalidate, and nobody is told: an outcome of another
 * sequence is not found any more. While a database is written to all the time this remembers
 * nothing of use, and costs a lookup in a page that is in memory anyway.
 *
 * One of many slots, chosen by the statement's hash: the next one there takes its place.
 */
#include "store_private.h"

#include "bakend/crypto.h"

enum {
    SLOT_COUNT = 512, /* of 32 bytes, for a database that counts */
    KEY_BYTES = 16,
    QUESTION_BYTES_MAX = 64 * 1024, /* a longer one is counted each time */
};

struct slot {
    uint8_t key[KEY_BYTES];
    uint64_t sequence; /* 0: nothing is here */
    int64_t count;
};

struct store_totals {
    pthread_mutex_t mutex;
    struct slot slots[SLOT_COUNT];
};

void store_totals_destroy(struct bk_database *database) {
    struct store_totals *totals = database->totals;
    if (totals == NULL)
        return;
    pthread_mutex_destroy(&totals->mutex);
    bk_free(totals);
}

/* Made by the first reader that counts; of two at once one is thrown away. */
static struct store_totals *get_totals(struct bk_database *database) {
    struct store_totals *totals = __atomic_load_n(&database->totals, __ATOMIC_ACQUIRE), *made;
    if (totals != NULL)
        return totals;
    made = bk_alloc_zero(sizeof *made);
    pthread_mutex_init(&made->mutex, NULL);
    if (__atomic_compare_exchange_n(&database->totals, &totals, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return made;
    pthread_mutex_destroy(&made->mutex);
    bk_free(made);
    return totals;
}

static void write_value(struct bk_buffer *out, const struct bk_value *value) {
    struct bk_slice bytes = value->text;
    if (value->type == BK_VALUE_INT)
        bytes = bk_slice_make((const char *)&value->integer, sizeof value->integer);
    else if (value->type == BK_VALUE_REAL)
        bytes = bk_slice_make((const char *)&value->real, sizeof value->real);
    else if (value->type == BK_VALUE_NULL)
        bytes = BK_SLICE_EMPTY;
    bk_buffer_append_char(out, (char)('0' + value->type));
    bk_buffer_append(out, &bytes.length, sizeof bytes.length);
    bk_buffer_append_slice(out, bytes);
}

/* False: too long. */
static bool make_key(const struct bk_sql *sql, const struct bk_value *values, uint32_t value_count,
                     uint8_t key[KEY_BYTES]) {
    uint8_t hash[BK_SHA256_BYTES];
    struct bk_buffer question;
    bk_buffer_init(&question, QUESTION_BYTES_MAX);
    bk_buffer_append_slice(&question, sql->text);
    for (uint32_t i = 0; i < value_count; i++)
        write_value(&question, &values[i]);
    bool fits = bk_buffer_status(&question) == BK_OK;
    if (fits) {
        bk_sha256(hash, bk_buffer_slice(&question));
        memcpy(key, hash, KEY_BYTES);
    }
    bk_buffer_fini(&question);
    return fits;
}

/* As of this connection's transaction; 0: there is no journal, or nothing in it. */
static enum bk_status read_sequence(struct bk_connection *connection, uint64_t *sequence) {
    static const struct bk_slice text =
        BK_SLICE_INIT("SELECT value FROM _meta WHERE name='journal_last'");
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    *sequence = 0;
    if (!connection->database->has_journal)
        return BK_OK;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK)
        *sequence = (uint64_t)bk_statement_int(statement, 0);
    if (status == BK_OK)
        bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static struct slot *slot_of(struct store_totals *totals, const uint8_t key[KEY_BYTES]) {
    return &totals->slots[(key[0] | (uint32_t)key[1] << 8) % SLOT_COUNT];
}

static bool find(struct store_totals *totals, const struct slot *wanted, int64_t *count) {
    pthread_mutex_lock(&totals->mutex);
    const struct slot *slot = slot_of(totals, wanted->key);
    bool is_found =
        slot->sequence == wanted->sequence && memcmp(slot->key, wanted->key, sizeof slot->key) == 0;
    if (is_found)
        *count = slot->count;
    pthread_mutex_unlock(&totals->mutex);
    return is_found;
}

static void keep(struct store_totals *totals, const struct slot *counted) {
    pthread_mutex_lock(&totals->mutex);
    *slot_of(totals, counted->key) = *counted;
    pthread_mutex_unlock(&totals->mutex);
}

static enum bk_status count_rows(struct bk_connection *connection, const struct bk_sql *sql,
                                 const struct bk_value *values, uint32_t value_count,
                                 int64_t *count) {
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, sql, &statement);
    if (status != BK_OK)
        return status;
    for (uint32_t i = 0; i < value_count; i++)
        bk_statement_bind(statement, 1 + (int)i, &values[i]);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *count = bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status;
}

enum bk_status bk_rows_count(struct bk_connection *connection, const struct bk_sql *sql,
                             const struct bk_value *values, uint32_t value_count,
                             bool changes_with_events, int64_t *count) {
    struct slot slot = {0};
    if (changes_with_events && connection->kind == STORE_CONNECTION_READER) {
        enum bk_status status = read_sequence(connection, &slot.sequence);
        if (status != BK_OK)
            return status;
    }
    if (slot.sequence == 0 || !make_key(sql, values, value_count, slot.key))
        return count_rows(connection, sql, values, value_count, count);
    struct store_totals *totals = get_totals(connection->database);
    if (find(totals, &slot, count))
        return BK_OK;
    enum bk_status status = count_rows(connection, sql, values, value_count, &slot.count);
    if (status != BK_OK)
        return status;
    keep(totals, &slot);
    *count = slot.count;
    return BK_OK;
}
