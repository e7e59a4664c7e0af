/*
 * One-time passwords: a few digits that come by mail and are good once, for a few minutes.
 *
 *   reader   the record of the address, if there is one
 *   writer   a row of _otps, its mail as work, auth.otp_requested; for an address that nobody has
 *            the event alone: both cost a commit, and both are answered with an id
 *   bus      mail.sent names the task of that mail: then the row notes where it went (sentTo). A
 *            code that comes back before its mail has left proves no address
 *
 * What is kept of a code is an HMAC under a key of the instance. Against guesses at so few digits a
 * slow hash is no help, a count is; and whoever reads the database alone gets nothing from it. Rows
 * that a superuser makes through the records routes have the hash of any password.
 *
 * Beside the contract's row, `_auth_codes` has the guesses that were made at an id, whether or not
 * there is such a code, and the task of its mail. Who asks again and again gets the last code that
 * is pending once there are ten; addresses that nobody has are treated alike (otp_unknown.c). How
 * often may be asked is counted before anything is looked up, so that neither mails nor events nor
 * what otp_unknown.c keeps grow with what somebody sends.
 */
#include "auth.h"
#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

enum {
    ADDRESS_BYTES_MAX = 255,
    SALT_BYTES = 16,
    SWEPT_ROWS = 4,
    DAY_S = 24 * 60 * 60, /* no code lives longer */
    NOTE_BYTES_MAX = 64 * 1024,
    ASKS_MAX = 12, /* for an address of mail, in */
    ASKS_WINDOW_MS = 5 * 60 * 1000,
    TRIES_KEPT_MAX = 10000, /* records, from one address each; about 1 MB */
};

#define HASH_PREFIX BK_SLICE("hmac-sha256$")

const char auth_codes_table[] =
    "CREATE TABLE _auth_codes (id TEXT PRIMARY KEY NOT NULL, attempts INTEGER NOT NULL,"
    "created INTEGER NOT NULL, task TEXT) WITHOUT ROWID;"
    "CREATE INDEX _auth_codes_created ON _auth_codes (created);"
    "CREATE INDEX _auth_codes_task ON _auth_codes (task) WHERE task IS NOT NULL";

/* --- what is kept of a code ------------------------------------------------------------------- */

static void sign(uint8_t mac[BK_SHA256_BYTES], const struct bk_module_context *context,
                 const uint8_t salt[SALT_BYTES], struct bk_slice code) {
    uint8_t key[BK_KEY_BYTES];
    bk_derive_key(key, context->instance_key, BK_SLICE("bakend one-time passwords"));
    bk_hmac_sha256(mac, bk_slice_make((const char *)key, sizeof key),
                   bk_slice_make((const char *)salt, SALT_BYTES), code);
    bk_crypto_wipe(key, sizeof key);
}

/* "hmac-sha256$", salt and MAC in base64url. */
static struct bk_slice make_hash(const struct bk_module_context *context, struct bk_slice code,
                                 struct bk_arena *arena) {
    uint8_t both[SALT_BYTES + BK_SHA256_BYTES];
    char text[BK_BASE64URL_BYTES(sizeof both)];
    bk_random_bytes(both, SALT_BYTES);
    sign(both + SALT_BYTES, context, both, code);
    bk_base64url_encode(text, both, sizeof both);
    return bk_arena_format(arena, "%.*s%.*s", BK_SLICE_PRINT(HASH_PREFIX), (int)sizeof text, text);
}

enum bk_status auth_otp_compare(const struct bk_module_context *context, struct bk_slice hash,
                                struct bk_slice code) {
    uint8_t both[SALT_BYTES + BK_SHA256_BYTES], mac[BK_SHA256_BYTES];
    size_t length = sizeof both;
    if (!bk_slice_starts_with(hash, HASH_PREFIX))
        return BK_NOT_SUPPORTED;
    struct bk_slice text =
        bk_slice_make(hash.data + HASH_PREFIX.length, hash.length - HASH_PREFIX.length);
    if (!bk_base64url_decode(text, both, &length) || length != sizeof both)
        return BK_UNAUTHORIZED;
    sign(mac, context, both, code);
    return bk_crypto_equal(mac, both + SALT_BYTES, sizeof mac) ? BK_OK : BK_UNAUTHORIZED;
}

/* --- rows ------------------------------------------------------------------------------------- */

enum bk_status auth_otp_find(struct bk_connection *connection, struct bk_arena *arena,
                             const struct bk_collection *collection, struct bk_slice id,
                             int64_t now_ms, struct auth_otp_row *row) {
    static const struct bk_slice text = BK_SLICE_INIT(
        "SELECT \"recordRef\", \"password\", \"sentTo\", \"created\", \"collectionRef\" "
        "FROM \"_otps\" WHERE \"id\" = ?1");
    const struct bk_sql sql = bk_sql_make(text);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        row->record = bk_arena_copy(arena, bk_statement_text(statement, 0));
        row->hash = bk_arena_copy(arena, bk_statement_text(statement, 1));
        row->sent_to = bk_arena_copy(arena, bk_statement_text(statement, 2));
        if (!bk_slice_equal(bk_statement_text(statement, 4), collection->id) ||
            auth_is_over(bk_statement_text(statement, 3),
                         auth_option_number(collection, "otp", "duration"), now_ms))
            status = BK_END;
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* --- asking for one: on the writer ------------------------------------------------------------ */

struct otp_request {
    struct bk_read read;
    struct bk_write write;
    struct bk_request *request;
    struct bk_schema *schema; /* pinned */
    struct auth_identity identity;
    struct auth_credentials credentials;
    bool is_known, is_second;
    char id[BK_RECORD_ID_BYTES + 1];
};

static const struct bk_module_context *context_of(const struct otp_request *otp) {
    return otp->request->module;
}

/* The record's that are over go; of the others the last one and how many there are. */
static enum bk_status count_pending(struct otp_request *otp, struct bk_transaction *transaction,
                                    int64_t *count) {
    const struct bk_collection *collection = otp->identity.collection;
    int64_t duration_ms = auth_option_number(collection, "otp", "duration") * 1000;
    char oldest[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    bk_time_format(oldest, bk_transaction_now_ms(transaction) - duration_ms, ' ');
    enum bk_status status = auth_statement(
        transaction,
        BK_SLICE("DELETE FROM \"_otps\" WHERE \"collectionRef\" = ?1 AND \"recordRef\" = ?2 "
                 "AND \"created\" < ?3"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, collection->id);
    bk_statement_bind_text(statement, 2, otp->credentials.id);
    bk_statement_bind_text(statement, 3, bk_slice_make(oldest, sizeof oldest));
    status = bk_statement_run(statement);
    if (status == BK_OK)
        status = auth_statement(
            transaction,
            BK_SLICE("SELECT \"id\", count(*) OVER () FROM \"_otps\" WHERE \"collectionRef\" = ?1 "
                     "AND \"recordRef\" = ?2 ORDER BY \"created\" DESC, rowid DESC LIMIT 1"),
            &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, collection->id);
    bk_statement_bind_text(statement, 2, otp->credentials.id);
    *count = 0;
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        *count = bk_statement_int(statement, 1);
        struct bk_slice last = bk_statement_text(statement, 0);
        if (*count >= AUTH_OTP_PENDING_MAX && last.length == BK_RECORD_ID_BYTES)
            memcpy(otp->id, last.data, last.length);
    }
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* Nothing was guessed yet, and this is the task of its mail. A few rows of those that are over go
 * along, so there are never more than a day has brought. */
static enum bk_status keep_task(struct bk_transaction *transaction, struct bk_slice id,
                                struct bk_slice task) {
    struct bk_statement *statement;
    enum bk_status status = auth_statement(
        transaction,
        BK_SLICE("INSERT INTO _auth_codes (id, attempts, created, task) VALUES (?1, 0, ?2, ?3)"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    bk_statement_bind_int(statement, 2, bk_transaction_now_ms(transaction));
    bk_statement_bind_text(statement, 3, task);
    status = bk_statement_run(statement);
    return status == BK_OK ? auth_otp_sweep(transaction) : status;
}

enum bk_status auth_otp_sweep(struct bk_transaction *transaction) {
    struct bk_statement *statement;
    enum bk_status status =
        auth_statement(transaction,
                       BK_SLICE("DELETE FROM _auth_codes WHERE id IN (SELECT id FROM _auth_codes "
                                "WHERE created < ?1 ORDER BY created LIMIT ?2)"),
                       &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, bk_transaction_now_ms(transaction) - (int64_t)DAY_S * 1000);
    bk_statement_bind_int(statement, 2, SWEPT_ROWS);
    return bk_statement_run(statement);
}

static enum bk_status add(struct otp_request *otp, struct bk_transaction *transaction) {
    const struct bk_collection *collection = otp->identity.collection;
    const struct bk_collection *otps = bk_schema_find(otp->schema, BK_SLICE("_otps"));
    int64_t length = auth_option_number(collection, "otp", "length");
    char code[AUTH_OTP_CODE_BYTES_MAX], task[BK_WORK_ID_BYTES + 1];
    size_t size = length < AUTH_OTP_CODE_BYTES_MAX ? (size_t)length : AUTH_OTP_CODE_BYTES_MAX;
    BK_ASSERT(otps != NULL && length > 0);
    bk_random_text(code, size, BK_SLICE("0123456789"));
    struct bk_slice hash =
        make_hash(context_of(otp), bk_slice_make(code, size), bk_transaction_arena(transaction));
    const struct auth_value values[] = {
        {"collectionRef", BK_VALUE_OF_TEXT(collection->id)},
        {"recordRef", BK_VALUE_OF_TEXT(otp->credentials.id)},
        {"password", BK_VALUE_OF_TEXT(hash)},
    };
    enum bk_status status =
        auth_row_insert(transaction, otps, values, BK_COUNT_OF(values), otp->id);
    const struct auth_mail mail = {
        .template = "otp",
        .collection = collection->id,
        .record = otp->credentials.id,
        .variables = {{"OTP", bk_slice_make(code, size)}, {"OTP_ID", bk_slice_from(otp->id)}},
        .expires_ms = bk_transaction_now_ms(transaction) +
                      auth_option_number(collection, "otp", "duration") * 1000,
    };
    if (status == BK_OK)
        status = auth_mail_add(context_of(otp), transaction, &mail, task);
    bk_crypto_wipe(code, sizeof code);
    return status == BK_OK ? keep_task(transaction, bk_slice_from(otp->id), bk_slice_from(task))
                           : status;
}

static enum bk_status on_add(struct bk_transaction *transaction, struct bk_write *write) {
    struct otp_request *otp = bk_container_of(write, struct otp_request, write);
    struct auth_credentials now;
    int64_t pending_count = 0;
    enum bk_status status = auth_schema_verify(otp->schema, otp->identity.collection, transaction);
    bool is_known = otp->is_known;
    if (status == BK_OK && is_known) {
        status = auth_credentials_find(bk_transaction_arena(transaction),
                                       bk_transaction_connection(transaction),
                                       otp->identity.collection, otp->credentials.id, &now);
        is_known = status == BK_OK; /* it was deleted meanwhile: an address that nobody has */
        if (status == BK_NOT_FOUND)
            status = BK_OK;
    }
    if (status == BK_OK && is_known)
        status = count_pending(otp, transaction, &pending_count);
    if (status == BK_OK && is_known && pending_count < AUTH_OTP_PENDING_MAX)
        status = add(otp, transaction);
    if (status != BK_OK)
        return status;
    const struct auth_fact fact = {.type = "auth.otp_requested",
                                   .collection = otp->identity.collection->name,
                                   .id = is_known ? otp->credentials.id : BK_SLICE_EMPTY};
    return auth_event_emit(transaction, &fact);
}

/* --- asking for one: step by step ------------------------------------------------------------- */

static void begin(struct otp_request *otp);

static void settle(struct otp_request *otp, enum bk_status status) {
    struct bk_request *request = otp->request;
    if (status != BK_OK) {
        bk_schema_unref(otp->schema);
        bk_answer_error(request, status, NULL);
        return;
    }
    if (otp->id[0] == '\0') /* it was deleted meanwhile */
        auth_otp_pretend(request, otp->identity.collection, otp->identity.value, otp->id);
    bk_buffer_append_char(&request->out, '{');
    bk_json_write_member_string(&request->out, BK_SLICE("otpId"), bk_slice_from(otp->id));
    bk_buffer_append_char(&request->out, '}');
    bk_schema_unref(otp->schema);
    bk_answer(request, 200);
}

static void on_added(struct bk_write *write, enum bk_status status) {
    struct otp_request *otp = bk_container_of(write, struct otp_request, write);
    if (status != BK_STALE || otp->is_second) {
        settle(otp, status);
        return;
    }
    bk_schema_unref(otp->schema);
    otp->is_second = true;
    begin(otp);
}

static enum bk_status on_find(struct bk_connection *connection, struct bk_read *read) {
    struct otp_request *otp = bk_container_of(read, struct otp_request, read);
    return auth_identity_find(&otp->identity, connection, &otp->request->arena, &otp->credentials);
}

static void on_found(struct bk_read *read, enum bk_status status) {
    struct otp_request *otp = bk_container_of(read, struct otp_request, read);
    struct bk_request *request = otp->request;
    otp->is_known = status == BK_OK;
    if (status == BK_OK || status == BK_NOT_FOUND) {
        if (!otp->is_known)
            auth_otp_pretend(request, otp->identity.collection, otp->identity.value, otp->id);
        otp->write.origin = &request->origin;
        otp->write.run = on_add;
        otp->write.done = on_added;
        status = bk_store_write(request->tenant->database, &otp->write);
    }
    if (status != BK_OK)
        settle(otp, status);
}

/* With the schema of now; what was read of the body stays. */
static void begin(struct otp_request *otp) {
    struct bk_request *request = otp->request;
    const struct bk_module_context *context = request->module;
    const struct bk_collection *collection = auth_otp_collection(request);
    if (collection == NULL)
        return;
    otp->schema = bk_schema_ref(bk_schema_current(context->schema, request->tenant));
    otp->identity.collection = collection;
    otp->read.run = on_find;
    otp->read.done = on_found;
    enum bk_status status = bk_store_read(request->tenant->database, &otp->read);
    if (status != BK_OK)
        settle(otp, status);
}

const struct bk_collection *auth_otp_collection(struct bk_request *request) {
    const struct bk_collection *collection = auth_collection(request);
    if (collection == NULL || auth_option_is_on(collection, "otp", "enabled"))
        return collection;
    bk_answer_error(request, BK_FORBIDDEN,
                    "The collection is not configured to allow OTP authentication.");
    return NULL;
}

static struct bk_slice fold(struct bk_slice text, char folded[ADDRESS_BYTES_MAX]) {
    BK_ASSERT(text.length <= ADDRESS_BYTES_MAX);
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        folded[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    return bk_slice_make(folded, text.length);
}

struct ask_limit {
    uint64_t key, window_ms;
    int64_t max;
};
enum { ASK_LIMITS = 3 };

/* Of one client or network as long as codes live: so long otp_unknown.c keeps what was answered. */
static void make_ask_limits(const struct otp_request *otp, struct ask_limit limits[ASK_LIMITS]) {
    const struct bk_request *request = otp->request;
    const struct auth_options *options = context_of(otp)->options;
    const struct bk_collection *collection = otp->identity.collection;
    struct auth_client client;
    char folded[ADDRESS_BYTES_MAX];
    auth_client_of(request->remote_address, &client);
    const struct bk_slice what[ASK_LIMITS][2] = {
        {BK_SLICE("network"), bk_slice_make((const char *)client.network, sizeof client.network)},
        {BK_SLICE("client"), bk_slice_make((const char *)client.address, sizeof client.address)},
        {BK_SLICE("mail"), fold(otp->identity.value, folded)},
    };
    const int64_t address_max = options->failures_address_max;
    const int64_t maxima[ASK_LIMITS] = {address_max * AUTH_NETWORK_SHARE, address_max, ASKS_MAX};
    uint64_t life_ms = (uint64_t)auth_option_number(collection, "otp", "duration") * 1000;
    for (size_t i = 0; i < ASK_LIMITS; i++) {
        const struct bk_slice texts[] = {request->tenant->name, collection->id, what[i][0],
                                         what[i][1]};
        bool is_long = i < ASK_LIMITS - 1 && life_ms > ASKS_WINDOW_MS;
        limits[i].key = bk_tally_key(texts, BK_COUNT_OF(texts));
        limits[i].window_ms = is_long ? life_ms : ASKS_WINDOW_MS;
        limits[i].max = maxima[i];
    }
}

/* How long it has to wait; 0: it may be asked, and was counted. */
static uint64_t count_ask(const struct otp_request *otp) {
    struct auth_state *state = context_of(otp)->state;
    struct ask_limit limits[ASK_LIMITS];
    uint64_t now = bk_clock_monotonic_ns() / 1000000;
    if (otp->request->is_control || otp->request->remote_address.length == 0)
        return 0;
    make_ask_limits(otp, limits);
    for (size_t i = 0; i < ASK_LIMITS; i++) {
        const struct bk_tally_entry *entry = bk_tally_find(&state->otp_asks, limits[i].key, now);
        if (entry != NULL && entry->count >= limits[i].max)
            return entry->ends_ms - now;
    }
    for (size_t i = 0; i < ASK_LIMITS; i++)
        bk_tally_take(&state->otp_asks, limits[i].key, now, limits[i].window_ms)->count++;
    return 0;
}

void auth_request_otp(struct bk_request *request) {
    const struct bk_collection *collection = auth_otp_collection(request);
    if (collection == NULL)
        return;
    struct otp_request *otp = bk_arena_alloc_zero(&request->arena, sizeof *otp);
    const struct auth_form_text texts[] = {{.name = "email",
                                            .value = &otp->identity.value,
                                            .bytes_max = ADDRESS_BYTES_MAX,
                                            .is_required = true,
                                            .is_email = true}};
    if (!auth_form_read(request, texts, BK_COUNT_OF(texts)))
        return;
    otp->request = request;
    otp->identity.collection = collection;
    otp->identity.field = BK_SLICE("email");
    uint64_t wait_ms = count_ask(otp);
    if (wait_ms > 0) {
        request->retry_after_s = (uint32_t)((wait_ms + 999) / 1000);
        struct bk_slice message =
            bk_arena_format(&request->arena, "Too many codes were asked for: try again in %u s.",
                            request->retry_after_s);
        bk_answer_error(request, BK_TOO_MANY, message.data);
        return;
    }
    begin(otp);
}

/* --- where it went ---------------------------------------------------------------------------- */

/* A mail has left; on the heap until that is noted. */
struct note {
    struct bk_write write;
    struct bk_tenant *tenant; /* held */
    char task[BK_WORK_ID_BYTES];
    struct bk_slice address; /* behind the struct */
};

static enum bk_status on_note(struct bk_transaction *transaction, struct bk_write *write) {
    const struct note *note = bk_container_of(write, struct note, write);
    struct bk_statement *statement;
    enum bk_status status = auth_statement(
        transaction,
        BK_SLICE("UPDATE \"_otps\" SET \"sentTo\" = ?2 WHERE \"sentTo\" = '' AND \"id\" = "
                 "(SELECT id FROM _auth_codes WHERE task = ?1)"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(note->task, sizeof note->task));
    bk_statement_bind_text(statement, 2, note->address);
    return bk_statement_run(statement);
}

/* What could not be noted proves no address: the code is good for signing in all the same. */
static void on_noted(struct bk_write *write, enum bk_status status) {
    struct note *note = bk_container_of(write, struct note, write);
    (void)status;
    bk_tenant_release(note->tenant);
    bk_free(note);
}

static enum bk_status keep_note(struct bk_tenant *tenant, struct bk_slice task,
                                struct bk_slice address) {
    struct note *note = bk_alloc_zero(sizeof *note + address.length);
    char *text = (char *)(note + 1);
    memcpy(text, address.data, address.length);
    memcpy(note->task, task.data, sizeof note->task);
    note->address = bk_slice_make(text, address.length);
    note->tenant = tenant;
    bk_tenant_ref(tenant);
    note->write.run = on_note;
    note->write.done = on_noted;
    enum bk_status status = bk_store_write(tenant->database, &note->write);
    if (status != BK_OK)
        on_noted(&note->write, status);
    return status;
}

static enum bk_status on_mail(struct bk_subscription *subscription, struct bk_tenant *tenant,
                              struct bk_event *event) {
    struct bk_arena arena;
    struct bk_json *payload;
    (void)subscription;
    bk_arena_init(&arena, NOTE_BYTES_MAX);
    enum bk_status status = bk_json_parse(&arena, event->fields.payload, &payload, NULL);
    if (status == BK_OK && bk_slice_is(bk_json_get_string(payload, BK_SLICE("template")), "otp")) {
        struct bk_slice task = bk_json_get_string(payload, BK_SLICE("task"));
        const struct bk_json *to = bk_json_get(payload, BK_SLICE("to"));
        struct bk_slice address =
            to == NULL || to->child == NULL ? BK_SLICE_EMPTY : to->child->string;
        if (task.length == BK_WORK_ID_BYTES && address.length > 0)
            status = keep_note(tenant, task, address);
    }
    bk_arena_fini(&arena);
    return status;
}

void auth_otp_init(struct auth_state *state) {
    const struct auth_options *options = state->context->options;
    bk_tally_init(&state->otp_asks, (uint32_t)options->failures_memory_max);
    bk_tally_init(&state->otp_tries, TRIES_KEPT_MAX);
    auth_otp_unknown_init(state);
    state->otp_mails = (struct bk_subscription){.name = "auth.otp_sent",
                                                .phase = BK_PHASE_FUNCTIONS,
                                                .pattern = BK_SLICE("mail.sent"),
                                                .on_event = on_mail};
    enum bk_status status = bk_bus_subscribe(state->context->bus, &state->otp_mails);
    BK_ASSERT(status == BK_OK); /* the pattern is right */
}

void auth_otp_fini(struct auth_state *state) {
    bk_bus_unsubscribe(state->context->bus, &state->otp_mails);
    bk_tally_fini(&state->otp_asks);
    bk_tally_fini(&state->otp_tries);
    auth_otp_unknown_fini(state);
}
