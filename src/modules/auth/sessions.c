/*
 * Sessions: rows of `_sessions`, one for each time that somebody came in. A row is written in the
 * transaction of the event that tells of it, and every token of a record names its row (`sid`); one
 * whose row is gone or over is a guest's. Rows are written here alone; they are read as records,
 * by their rules one's own.
 *
 *   open ──> lives ── extend (a token for a token) ──> lives
 *              │ end: signed out, revoked, a new password, deleted, one too many
 *              v
 *            gone, an event each           its time is over: sweep.c, no event
 *
 * Time. A session that was used in a future which never came is of a clock that was wrong: it may
 * be good for years by today's, so it counts as over. An hour back hurts nobody, see
 * AUTH_CLOCK_SLACK_S. lastUsed is noted every TOUCH_S at most, in the background, and may be lost;
 * a leap of the clock ahead is not believed for it, so that one who is good for long outlives it.
 */
#include "auth.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum { TOUCH_S = 5 * 60, TOUCHES_MAX = 1024 /* being noted at once; past it a use is not noted */ };

/* Dates have no year past 9999. */
#define LATEST_S INT64_C(253402300799)

struct date {
    char text[BK_TIME_TEXT_BYTES];
};

static struct bk_slice date_of(struct date *date, int64_t seconds) {
    bk_time_format(date->text, (seconds > LATEST_S ? LATEST_S : seconds) * 1000, ' ');
    return bk_slice_make(date->text, sizeof date->text);
}

static int64_t seconds_of(struct bk_slice date) {
    int64_t wall_ms;
    return bk_time_parse(date, &wall_ms) ? wall_ms / 1000 : 0;
}

static enum bk_status prepare(struct bk_connection *connection, const char *text,
                              struct bk_statement **statement) {
    const struct bk_sql sql = bk_sql_make(bk_slice_from(text));
    return bk_connection_statement(connection, &sql, statement);
}

/* --- looking ---------------------------------------------------------------------------------- */

enum bk_status auth_session_read(struct bk_tenant *tenant, const struct auth_claims *claims,
                                 struct auth_session *session) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = prepare(connection,
                                    "SELECT lastUsed, expires FROM _sessions "
                                    "WHERE id = ?1 AND collectionRef = ?2 AND recordRef = ?3",
                                    &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, claims->session);
    bk_statement_bind_text(statement, 2, claims->collection_id);
    bk_statement_bind_text(statement, 3, claims->id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        int64_t now_s = bk_clock_wall_ms() / 1000;
        session->used_s = seconds_of(bk_statement_text(statement, 0));
        session->expires_s = seconds_of(bk_statement_text(statement, 1));
        if (session->expires_s <= now_s || session->used_s > now_s + AUTH_CLOCK_SLACK_S)
            status = BK_NOT_FOUND;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* --- in use ----------------------------------------------------------------------------------- */

struct touch {
    struct bk_write write;
    struct auth_state *state;
    struct bk_tenant *tenant;
    int64_t now_s;
    char id[AUTH_SESSION_ID_BYTES];
};

static enum bk_status run_touch(struct bk_transaction *transaction, struct bk_write *write) {
    const struct touch *touch = bk_container_of(write, struct touch, write);
    struct bk_statement *statement;
    struct date now;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                "UPDATE _sessions SET lastUsed = ?2 WHERE id = ?1 AND lastUsed < ?2", &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(touch->id, sizeof touch->id));
    bk_statement_bind_text(statement, 2, date_of(&now, touch->now_s));
    return bk_statement_run(statement);
}

static void on_touched(struct bk_write *write, enum bk_status status) {
    struct touch *touch = bk_container_of(write, struct touch, write);
    (void)status; /* the next use notes it again */
    BK_ASSERT(touch->state->touches > 0);
    touch->state->touches--;
    bk_tenant_release(touch->tenant);
    bk_free(touch);
}

void auth_session_touch(struct auth_state *state, struct bk_tenant *tenant,
                        struct auth_cached *cached) {
    if (bk_clock_wall_ms() / 1000 < cached->used_s + TOUCH_S || state->touches == TOUCHES_MAX ||
        cached->session.length != AUTH_SESSION_ID_BYTES)
        return;
    int64_t now_s = bk_store_age_now_ms(state->context->store) / 1000;
    if (now_s < cached->used_s + TOUCH_S)
        return;
    struct touch *touch = bk_alloc_zero(sizeof *touch);
    touch->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = run_touch, .done = on_touched};
    touch->state = state;
    touch->tenant = tenant;
    touch->now_s = now_s;
    memcpy(touch->id, cached->session.data, sizeof touch->id);
    if (bk_store_write(tenant->database, &touch->write) != BK_OK) {
        bk_free(touch);
        return;
    }
    bk_tenant_ref(tenant);
    state->touches++;
    cached->used_s = now_s;
}

/* --- opening ---------------------------------------------------------------------------------- */

static enum bk_status insert(const struct auth_grant *grant, struct bk_transaction *transaction,
                             struct bk_slice id) {
    const struct bk_request *request = grant->request;
    struct bk_slice impersonator =
        bk_slice_is(grant->method, "impersonation") ? request->actor.label : BK_SLICE_EMPTY;
    struct bk_statement *statement;
    struct date now, expires;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                "INSERT INTO _sessions (id, collectionRef, recordRef, method, remoteAddress, "
                "userAgent, impersonator, created, lastUsed, expires) "
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)",
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    bk_statement_bind_text(statement, 2, grant->collection->id);
    bk_statement_bind_text(statement, 3, grant->credentials.id);
    bk_statement_bind_text(statement, 4, grant->method);
    bk_statement_bind_text(statement, 5, request->remote_address);
    bk_statement_bind_text(statement, 6,
                           auth_user_agent_cut(bk_request_header(request, BK_SLICE("user-agent"))));
    bk_statement_bind_text(statement, 7, impersonator);
    bk_statement_bind_text(statement, 8, date_of(&now, bk_transaction_now_ms(transaction) / 1000));
    bk_statement_bind_text(statement, 9, date_of(&expires, grant->expires_s));
    return bk_statement_run(statement);
}

/* The one that is over goes without an event; ?3: now. */
static enum bk_status forget_expired(const struct auth_grant *grant,
                                     struct bk_transaction *transaction) {
    struct bk_statement *statement;
    struct date now;
    enum bk_status status = prepare(bk_transaction_connection(transaction),
                                    "DELETE FROM _sessions WHERE collectionRef = ?1 AND "
                                    "recordRef = ?2 AND expires < ?3",
                                    &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, grant->collection->id);
    bk_statement_bind_text(statement, 2, grant->credentials.id);
    bk_statement_bind_text(statement, 3, date_of(&now, bk_transaction_now_ms(transaction) / 1000));
    return bk_statement_run(statement);
}

/* The one that was opened first of more than AUTH_SESSIONS_MAX, in the transaction's arena; empty:
 * there are not so many. Ids are in the order of time. */
static enum bk_status find_excess(const struct auth_grant *grant,
                                  struct bk_transaction *transaction, struct bk_slice *id) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                "SELECT id FROM _sessions WHERE collectionRef = ?1 AND recordRef = ?2 "
                "ORDER BY created DESC, id DESC LIMIT 1 OFFSET ?3",
                &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, grant->collection->id);
    bk_statement_bind_text(statement, 2, grant->credentials.id);
    bk_statement_bind_int(statement, 3, AUTH_SESSIONS_MAX);
    status = bk_statement_step(statement);
    *id = BK_SLICE_EMPTY;
    if (status == BK_OK)
        *id = bk_arena_copy(bk_transaction_arena(transaction), bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status make_room(const struct auth_grant *grant,
                                struct bk_transaction *transaction) {
    struct auth_session_ending ending = {.collection_id = grant->collection->id,
                                         .collection = grant->collection->name,
                                         .id = grant->credentials.id,
                                         .reason = "limit"};
    enum bk_status status = find_excess(grant, transaction, &ending.session);
    if (status == BK_OK && ending.session.length > 0)
        status = forget_expired(grant, transaction);
    if (status == BK_OK && ending.session.length > 0)
        status = find_excess(grant, transaction, &ending.session);
    if (status == BK_OK && ending.session.length > 0)
        status = auth_sessions_end(transaction, &ending, NULL);
    return status;
}

enum bk_status auth_session_open(const struct auth_grant *grant, struct bk_transaction *transaction,
                                 char id[AUTH_SESSION_ID_BYTES + 1]) {
    BK_ASSERT(grant->expires_s > 0);
    bk_record_id_make(id, bk_transaction_now_ms(transaction));
    id[AUTH_SESSION_ID_BYTES] = '\0';
    enum bk_status status = insert(grant, transaction, bk_slice_make(id, AUTH_SESSION_ID_BYTES));
    return status == BK_OK ? make_room(grant, transaction) : status;
}

enum bk_status auth_session_extend(const struct auth_grant *grant,
                                   struct bk_transaction *transaction) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    struct date now, expires;
    enum bk_status status = prepare(connection,
                                    "SELECT 1 FROM _sessions WHERE id = ?1 AND collectionRef = ?2 "
                                    "AND recordRef = ?3",
                                    &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, grant->session);
    bk_statement_bind_text(statement, 2, grant->collection->id);
    bk_statement_bind_text(statement, 3, grant->credentials.id);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    if (status == BK_OK)
        status = prepare(connection,
                         "UPDATE _sessions SET lastUsed = max(lastUsed, ?2), "
                         "expires = max(expires, ?3) WHERE id = ?1",
                         &statement);
    if (status != BK_OK)
        return status == BK_END ? BK_UNAUTHORIZED : status;
    bk_statement_bind_text(statement, 1, grant->session);
    bk_statement_bind_text(statement, 2, date_of(&now, bk_transaction_now_ms(transaction) / 1000));
    bk_statement_bind_text(statement, 3, date_of(&expires, grant->expires_s));
    return bk_statement_run(statement);
}

/* --- ending ----------------------------------------------------------------------------------- */

struct ended {
    struct bk_slice id, method;
};

/* In the transaction's arena. */
static enum bk_status find(struct bk_transaction *transaction,
                           const struct auth_session_ending *ending, struct ended *ended,
                           uint32_t *count) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status = prepare(bk_transaction_connection(transaction),
                                    "SELECT id, method FROM _sessions WHERE collectionRef = ?1 AND "
                                    "recordRef = ?2 AND (?3 = '' OR id = ?3) AND id != ?4 LIMIT ?5",
                                    &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, ending->collection_id);
    bk_statement_bind_text(statement, 2, ending->id);
    bk_statement_bind_text(statement, 3, ending->session);
    bk_statement_bind_text(statement, 4, ending->kept);
    bk_statement_bind_int(statement, 5, AUTH_SESSIONS_MAX);
    for (*count = 0; *count < AUTH_SESSIONS_MAX && (status = bk_statement_step(statement)) == BK_OK;
         (*count)++) {
        ended[*count].id = bk_arena_copy(arena, bk_statement_text(statement, 0));
        ended[*count].method = bk_arena_copy(arena, bk_statement_text(statement, 1));
    }
    bk_statement_reset(statement);
    return status == BK_END ? bk_arena_status(arena) : status;
}

static enum bk_status end(struct bk_transaction *transaction,
                          const struct auth_session_ending *ending, const struct ended *ended) {
    struct bk_statement *statement;
    enum bk_status status = prepare(bk_transaction_connection(transaction),
                                    "DELETE FROM _sessions WHERE id = ?1", &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, ended->id);
    status = bk_statement_run(statement);
    if (status != BK_OK)
        return status;
    const char *type = ending->type != NULL ? ending->type : "auth.session_revoked";
    const struct auth_fact fact = {.type = type,
                                   .collection = ending->collection,
                                   .id = ending->id,
                                   .texts = {{"session", ended->id},
                                             {"method", ended->method},
                                             {"reason", bk_slice_from(ending->reason)}}};
    return auth_event_emit(transaction, &fact);
}

enum bk_status auth_sessions_end(struct bk_transaction *transaction,
                                 const struct auth_session_ending *ending, uint32_t *count) {
    struct ended ended[AUTH_SESSIONS_MAX];
    uint32_t found = AUTH_SESSIONS_MAX, total = 0;
    enum bk_status status = BK_OK;
    while (status == BK_OK && found == AUTH_SESSIONS_MAX) {
        status = find(transaction, ending, ended, &found);
        for (uint32_t i = 0; i < found && status == BK_OK; i++)
            status = end(transaction, ending, &ended[i]);
        total += found;
    }
    if (count != NULL && status == BK_OK)
        *count = total;
    return status;
}

/* BK_END: it has none. */
static enum bk_status find_any(struct bk_transaction *transaction, struct bk_slice collection_id) {
    struct bk_statement *statement;
    enum bk_status status =
        prepare(bk_transaction_connection(transaction),
                "SELECT 1 FROM _sessions WHERE collectionRef = ?1 LIMIT 1", &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, collection_id);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status;
}

enum bk_status auth_sessions_tell_all(struct bk_transaction *transaction,
                                      const struct bk_collection *collection, const char *reason) {
    enum bk_status status = find_any(transaction, collection->id);
    if (status != BK_OK)
        return status == BK_END ? BK_OK : status;
    const struct auth_fact fact = {.type = "auth.sessions_revoked",
                                   .collection = collection->name,
                                   .subject = bk_arena_format(bk_transaction_arena(transaction),
                                                              "_collections/%.*s",
                                                              BK_SLICE_PRINT(collection->id)),
                                   .texts = {{"reason", bk_slice_from(reason)}}};
    return auth_event_emit(transaction, &fact);
}

/* --- impersonations --------------------------------------------------------------------------- */

/* The next one behind ending->session, in the transaction's arena. BK_END: none. In the order of
 * ids, so that the table is gone through once. */
static enum bk_status find_lent(struct bk_transaction *transaction, struct bk_slice label,
                                struct auth_session_ending *ending) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status = prepare(bk_transaction_connection(transaction),
                                    "SELECT s.id, s.recordRef, c.id, c.name FROM _sessions s "
                                    "CROSS JOIN _collections c ON c.id = s.collectionRef "
                                    "WHERE s.impersonator = ?1 AND s.id > ?2 ORDER BY s.id LIMIT 1",
                                    &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, label);
    bk_statement_bind_text(statement, 2, ending->session);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        ending->session = bk_arena_copy(arena, bk_statement_text(statement, 0));
        ending->id = bk_arena_copy(arena, bk_statement_text(statement, 1));
        ending->collection_id = bk_arena_copy(arena, bk_statement_text(statement, 2));
        ending->collection = bk_arena_copy(arena, bk_statement_text(statement, 3));
        status = bk_arena_status(arena);
    }
    bk_statement_reset(statement);
    return status;
}

enum bk_status auth_sessions_end_lent(struct bk_transaction *transaction, struct bk_slice label) {
    struct auth_session_ending ending = {.reason = "impersonator"};
    enum bk_status status = find_lent(transaction, label, &ending);
    while (status == BK_OK) {
        status = auth_sessions_end(transaction, &ending, NULL);
        if (status == BK_OK)
            status = find_lent(transaction, label, &ending);
    }
    return status == BK_END ? BK_OK : status;
}
