/*
 * Codes of authenticator apps (RFC 6238): HMAC-SHA-1 of a shared secret and the number of the half
 * minute, six digits. The row of a record in `_totps`:
 *
 *   (none) ── enroll: a secret ──> pending ── confirm: a code of it ──> on ── disable ──> (none)
 *                                    └─ enroll: another secret ─┘
 *
 * The secret is sealed under a key of the instance and bound to its record, so the database alone
 * tells no codes, and a row that is moved to another record opens nothing. Codes of recovery, for
 * whoever has lost the app, are shown once; what is kept is an HMAC of each under another key of
 * the instance. They have 80 bits, to be typed by hand, and are good once.
 *
 * A code is good for its half minute and the ones beside it, and once: the last step that was used
 * is kept. After five wrong ones in a row none is judged for a minute, which doubles with each
 * further one, up to an hour; codes of recovery are judged always, nobody guesses those. Times that
 * lie farther ahead than they can are from a clock that was wrong, and do not count.
 *
 * On the writer, all of it, so that what is judged and what is used up are one.
 */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

enum {
    STEP_MS = 30 * 1000,
    STEPS_BESIDE = 1,
    CODE_DIGITS = 6,
    CODE_LIMIT = 1000000,          /* 10 to the power of CODE_DIGITS */
    STEPS_AHEAD_MAX = 2 * 60 * 24, /* a day's */
    FAILURES_MAX = 5,
    LOCK_FIRST_MS = 60 * 1000,
    LOCK_DOUBLINGS_MAX = 6, /* about an hour */
    RECOVERY_BYTES = 10,
    RECOVERY_TEXT_BYTES = 16, /* of it in base32, without dashes */
    RECOVERY_GROUP = 4,
    RECOVERY_LIST_BYTES_MAX = 4096,
};

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/* --- pure ------------------------------------------------------------------------------------- */

uint32_t auth_totp_code(struct bk_slice secret, int64_t step) {
    uint8_t counter[8], mac[BK_SHA1_BYTES];
    for (size_t i = 0; i < sizeof counter; i++)
        counter[i] = (uint8_t)((uint64_t)step >> (56U - 8U * i));
    bk_hmac_sha1(mac, secret, bk_slice_make((const char *)counter, sizeof counter));
    const uint8_t *at = mac + (mac[BK_SHA1_BYTES - 1] & 0x0fU); /* RFC 4226, 5.3 */
    uint32_t number = (uint32_t)(at[0] & 0x7fU) << 24U | (uint32_t)at[1] << 16U |
                      (uint32_t)at[2] << 8U | (uint32_t)at[3];
    bk_crypto_wipe(mac, sizeof mac);
    return number % CODE_LIMIT;
}

/* RFC 4648, no padding: bytes are a multiple of five. */
void auth_totp_base32(char *out, const uint8_t *bytes, size_t length) {
    BK_ASSERT(length % 5 == 0);
    for (size_t i = 0; i < length; i += 5) {
        uint64_t group = 0;
        for (size_t k = 0; k < 5; k++)
            group = group << 8U | bytes[i + k];
        for (size_t k = 0; k < 8; k++)
            *out++ = base32[group >> (35U - 5U * k) & 31U];
    }
}

/* Spaces and dashes are for the eye, and so is the case. Returns the length; past room it is no
 * code. */
static size_t normalise(struct bk_slice typed, char *out, size_t room) {
    size_t length = 0;
    for (size_t i = 0; i < typed.length; i++) {
        char c = typed.data[i];
        if (c == ' ' || c == '-')
            continue;
        if (length == room)
            return 0;
        out[length++] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    return length;
}

/* The step that the code is of, of those that count now; -1: of none. All are computed. */
static int64_t find_step(struct bk_slice secret, struct bk_slice code, int64_t now_step) {
    int64_t number, found = -1;
    if (!bk_slice_to_int64(code, &number) || number < 0)
        return -1;
    for (int64_t step = now_step - STEPS_BESIDE; step <= now_step + STEPS_BESIDE; step++)
        if (auth_totp_code(secret, step) == (uint32_t)number)
            found = step;
    return found;
}

/* --- at rest ---------------------------------------------------------------------------------- */

static struct bk_slice owner_text(const struct auth_owner *owner, struct bk_arena *arena) {
    return bk_arena_format(arena, "%.*s/%.*s", BK_SLICE_PRINT(owner->collection_id),
                           BK_SLICE_PRINT(owner->id));
}

static struct bk_slice seal(const struct bk_module_context *context, const struct auth_owner *owner,
                            const uint8_t secret[AUTH_TOTP_SECRET_BYTES], struct bk_arena *arena) {
    uint8_t key[BK_KEY_BYTES], sealed[AUTH_TOTP_SECRET_BYTES + BK_SEAL_BYTES];
    char text[BK_BASE64URL_BYTES(sizeof sealed)];
    bk_derive_key(key, context->instance_key, BK_SLICE("bakend secrets of authenticator apps"));
    bk_seal(sealed, key, bk_slice_make((const char *)secret, AUTH_TOTP_SECRET_BYTES),
            owner_text(owner, arena));
    bk_crypto_wipe(key, sizeof key);
    bk_base64url_encode(text, sealed, sizeof sealed);
    return bk_arena_copy(arena, bk_slice_make(text, sizeof text));
}

static bool unseal(const struct bk_module_context *context, const struct auth_owner *owner,
                   struct bk_slice text, uint8_t secret[AUTH_TOTP_SECRET_BYTES],
                   struct bk_arena *arena) {
    uint8_t key[BK_KEY_BYTES], sealed[AUTH_TOTP_SECRET_BYTES + BK_SEAL_BYTES];
    size_t length = sizeof sealed;
    if (!bk_base64url_decode(text, sealed, &length) || length != sizeof sealed)
        return false;
    bk_derive_key(key, context->instance_key, BK_SLICE("bakend secrets of authenticator apps"));
    bool is_open = bk_unseal(secret, key, bk_slice_make((const char *)sealed, sizeof sealed),
                             owner_text(owner, arena));
    bk_crypto_wipe(key, sizeof key);
    return is_open;
}

static void hash_recovery(const struct bk_module_context *context, const struct auth_owner *owner,
                          struct bk_slice code, char text[AUTH_TOTP_HASH_BYTES],
                          struct bk_arena *arena) {
    uint8_t key[BK_KEY_BYTES], mac[BK_SHA256_BYTES];
    _Static_assert((int)AUTH_TOTP_HASH_BYTES == (int)BK_BASE64URL_BYTES(BK_SHA256_BYTES),
                   "base64url");
    bk_derive_key(key, context->instance_key, BK_SLICE("bakend codes of recovery"));
    bk_hmac_sha256(mac, bk_slice_make((const char *)key, sizeof key), owner_text(owner, arena),
                   code);
    bk_base64url_encode(text, mac, sizeof mac);
    bk_crypto_wipe(key, sizeof key);
}

/* --- the row ---------------------------------------------------------------------------------- */

struct row {
    struct bk_slice id, sealed, recovery; /* recovery: a JSON list of hashes */
    bool is_on;
    int64_t last_step, failure_count, locked_until_ms;
};

static enum bk_status find(struct bk_transaction *transaction, const struct auth_owner *owner,
                           struct row *row) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status = auth_statement(
        transaction,
        BK_SLICE("SELECT \"id\", \"secret\", \"recovery\", \"enabled\", \"lastStep\", "
                 "\"failures\", \"lockedUntil\" FROM \"_totps\" "
                 "WHERE \"collectionRef\" = ?1 AND \"recordRef\" = ?2"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, owner->collection_id);
    bk_statement_bind_text(statement, 2, owner->id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *row = (struct row){
            .id = bk_arena_copy(arena, bk_statement_text(statement, 0)),
            .sealed = bk_arena_copy(arena, bk_statement_text(statement, 1)),
            .recovery = bk_arena_copy(arena, bk_statement_text(statement, 2)),
            .is_on = bk_statement_int(statement, 3) != 0,
            .last_step = bk_statement_int(statement, 4),
            .failure_count = bk_statement_int(statement, 5),
            .locked_until_ms = bk_statement_int(statement, 6),
        };
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* What changes of it. */
static enum bk_status store(struct bk_transaction *transaction, const struct row *row) {
    struct bk_statement *statement;
    char now[BK_TIME_TEXT_BYTES];
    enum bk_status status = auth_statement(
        transaction,
        BK_SLICE("UPDATE \"_totps\" SET \"recovery\" = ?2, \"enabled\" = ?3, \"lastStep\" = ?4, "
                 "\"failures\" = ?5, \"lockedUntil\" = ?6, \"updated\" = ?7 WHERE \"id\" = ?1"),
        &statement);
    if (status != BK_OK)
        return status;
    bk_time_format(now, bk_transaction_now_ms(transaction), ' ');
    bk_statement_bind_text(statement, 1, row->id);
    bk_statement_bind_text(statement, 2, row->recovery);
    bk_statement_bind_int(statement, 3, row->is_on);
    bk_statement_bind_int(statement, 4, row->last_step);
    bk_statement_bind_int(statement, 5, row->failure_count);
    bk_statement_bind_int(statement, 6, row->locked_until_ms);
    bk_statement_bind_text(statement, 7, bk_slice_make(now, sizeof now));
    return bk_statement_run(statement);
}

enum bk_status auth_totp_is_on(struct bk_transaction *transaction, const struct auth_owner *owner,
                               bool *is_on) {
    struct row row;
    enum bk_status status = find(transaction, owner, &row);
    *is_on = status == BK_OK && row.is_on;
    return status == BK_NOT_FOUND ? BK_OK : status;
}

enum bk_status auth_totp_begin(const struct bk_module_context *context,
                               struct bk_transaction *transaction, const struct bk_schema *schema,
                               const struct auth_owner *owner,
                               const uint8_t secret[AUTH_TOTP_SECRET_BYTES]) {
    const struct bk_collection *totps = bk_schema_find(schema, BK_SLICE("_totps"));
    struct row row;
    BK_ASSERT(totps != NULL);
    enum bk_status status = find(transaction, owner, &row);
    if (status == BK_OK && row.is_on)
        return BK_EXISTS;
    if (status == BK_OK)
        status = auth_row_remove(transaction, totps, row.id);
    if (status != BK_OK && status != BK_NOT_FOUND)
        return status;
    const struct auth_value values[] = {
        {"collectionRef", BK_VALUE_OF_TEXT(owner->collection_id)},
        {"recordRef", BK_VALUE_OF_TEXT(owner->id)},
        {"secret",
         BK_VALUE_OF_TEXT(seal(context, owner, secret, bk_transaction_arena(transaction)))},
        {"recovery", BK_VALUE_OF_TEXT(BK_SLICE("[]"))},
    };
    return auth_row_insert(transaction, totps, values, BK_COUNT_OF(values), NULL);
}

enum bk_status auth_totp_remove(struct bk_transaction *transaction, const struct bk_schema *schema,
                                const struct auth_owner *owner, bool *was_on) {
    const struct bk_collection *totps = bk_schema_find(schema, BK_SLICE("_totps"));
    struct row row;
    BK_ASSERT(totps != NULL);
    enum bk_status status = find(transaction, owner, &row);
    *was_on = status == BK_OK && row.is_on;
    return status == BK_OK ? auth_row_remove(transaction, totps, row.id) : status;
}

/* --- judging ---------------------------------------------------------------------------------- */

static int64_t step_of(struct bk_transaction *transaction) {
    return bk_transaction_now_ms(transaction) / STEP_MS;
}

static bool is_used(const struct row *row, int64_t step, int64_t now_step) {
    return step <= row->last_step && row->last_step <= now_step + STEPS_AHEAD_MAX;
}

static bool is_locked(const struct row *row, int64_t now_ms) {
    int64_t left_ms = row->locked_until_ms - now_ms;
    return left_ms > 0 && left_ms <= (int64_t)LOCK_FIRST_MS << LOCK_DOUBLINGS_MAX;
}

/* Whether the code is one of recovery; its hash, then. All of the list is looked at. */
static bool find_recovery(const struct bk_module_context *context, const struct auth_owner *owner,
                          const struct row *row, struct bk_slice code, struct auth_totp_use *use,
                          struct bk_arena *arena) {
    struct bk_json *list;
    bool is_found = false;
    if (bk_json_parse(arena, row->recovery, &list, NULL) != BK_OK)
        return false;
    hash_recovery(context, owner, code, use->hash, arena);
    for (const struct bk_json *item = list->child; item != NULL; item = item->next)
        is_found |= item->string.length == sizeof use->hash &&
                    bk_crypto_equal(item->string.data, use->hash, sizeof use->hash);
    return is_found;
}

static enum bk_status count_failure(struct bk_transaction *transaction, struct row *row) {
    row->failure_count++;
    if (row->failure_count >= FAILURES_MAX) {
        int64_t doublings = row->failure_count - FAILURES_MAX;
        doublings = doublings < LOCK_DOUBLINGS_MAX ? doublings : LOCK_DOUBLINGS_MAX;
        row->locked_until_ms =
            bk_transaction_now_ms(transaction) + ((int64_t)LOCK_FIRST_MS << doublings);
    }
    return store(transaction, row);
}

static enum auth_totp_verdict judge_step(const struct bk_module_context *context,
                                         struct bk_transaction *transaction,
                                         const struct auth_owner *owner, const struct row *row,
                                         struct bk_slice code, struct auth_totp_use *use) {
    uint8_t secret[AUTH_TOTP_SECRET_BYTES];
    int64_t now_step = step_of(transaction);
    if (is_locked(row, bk_transaction_now_ms(transaction)))
        return AUTH_TOTP_LOCKED;
    if (code.length != CODE_DIGITS ||
        !unseal(context, owner, row->sealed, secret, bk_transaction_arena(transaction)))
        return AUTH_TOTP_WRONG;
    use->step = find_step(bk_slice_make((const char *)secret, sizeof secret), code, now_step);
    bk_crypto_wipe(secret, sizeof secret);
    return use->step < 0 || is_used(row, use->step, now_step) ? AUTH_TOTP_WRONG : AUTH_TOTP_RIGHT;
}

enum bk_status auth_totp_judge(const struct bk_module_context *context,
                               struct bk_transaction *transaction, const struct auth_owner *owner,
                               struct bk_slice typed, bool is_pending, struct auth_totp_use *use,
                               enum auth_totp_verdict *verdict) {
    char text[RECOVERY_TEXT_BYTES];
    struct bk_slice code = bk_slice_make(text, normalise(typed, text, sizeof text));
    struct row row;
    enum bk_status status = find(transaction, owner, &row);
    *use = (struct auth_totp_use){.step = -1};
    *verdict = AUTH_TOTP_ABSENT;
    if (status != BK_OK || row.is_on == is_pending)
        return status == BK_NOT_FOUND ? BK_OK : status;
    if (code.length == RECOVERY_TEXT_BYTES)
        use->is_recovery =
            find_recovery(context, owner, &row, code, use, bk_transaction_arena(transaction));
    *verdict = use->is_recovery ? AUTH_TOTP_RIGHT
                                : judge_step(context, transaction, owner, &row, code, use);
    return *verdict == AUTH_TOTP_WRONG ? count_failure(transaction, &row) : BK_OK;
}

/* --- using up --------------------------------------------------------------------------------- */

/* The list without that one. BK_NOT_FOUND: it is gone. */
static enum bk_status drop_recovery(struct row *row, struct bk_slice hash, struct bk_arena *arena) {
    struct bk_buffer out;
    struct bk_json *list;
    bool is_there = false;
    enum bk_status status = bk_json_parse(arena, row->recovery, &list, NULL);
    if (status != BK_OK)
        return status;
    bk_buffer_init(&out, RECOVERY_LIST_BYTES_MAX);
    bk_buffer_append_char(&out, '[');
    for (const struct bk_json *item = list->child; item != NULL; item = item->next) {
        if (bk_slice_equal(item->string, hash)) {
            is_there = true;
            continue;
        }
        bk_json_write_separator(&out);
        bk_json_write_string(&out, item->string);
    }
    bk_buffer_append_char(&out, ']');
    bk_buffer_insist(&out);
    row->recovery = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return is_there ? BK_OK : BK_NOT_FOUND;
}

static enum bk_status use_up(struct bk_transaction *transaction, const struct auth_totp_use *use,
                             struct row *row) {
    struct bk_arena *arena = bk_transaction_arena(transaction);
    if (use->is_recovery)
        return drop_recovery(row, bk_slice_make(use->hash, sizeof use->hash), arena);
    if (is_used(row, use->step, step_of(transaction)))
        return BK_NOT_FOUND;
    row->last_step = use->step;
    return bk_arena_status(arena);
}

enum bk_status auth_totp_use_up(struct bk_transaction *transaction, const struct auth_owner *owner,
                                const struct auth_totp_use *use) {
    struct row row;
    enum bk_status status = find(transaction, owner, &row);
    if (status == BK_OK)
        status = use_up(transaction, use, &row);
    row.failure_count = 0;
    row.locked_until_ms = 0;
    return status == BK_OK ? store(transaction, &row) : status;
}

/* "abcd-efgh-jklm-npqr": in small letters, which are read more easily. */
static void write_recovery(const char code[RECOVERY_TEXT_BYTES],
                           char text[AUTH_TOTP_RECOVERY_BYTES]) {
    size_t length = 0;
    for (size_t i = 0; i < RECOVERY_TEXT_BYTES; i++) {
        if (i > 0 && i % RECOVERY_GROUP == 0)
            text[length++] = '-';
        text[length++] = code[i] >= 'A' && code[i] <= 'Z' ? (char)(code[i] - 'A' + 'a') : code[i];
    }
    BK_ASSERT(length == AUTH_TOTP_RECOVERY_BYTES);
}

static struct bk_slice make_recovery(const struct bk_module_context *context,
                                     const struct auth_owner *owner,
                                     char codes[][AUTH_TOTP_RECOVERY_BYTES],
                                     struct bk_arena *arena) {
    struct bk_buffer out;
    bk_buffer_init(&out, RECOVERY_LIST_BYTES_MAX);
    bk_buffer_append_char(&out, '[');
    for (size_t i = 0; i < AUTH_TOTP_RECOVERY_COUNT; i++) {
        uint8_t bytes[RECOVERY_BYTES];
        char text[RECOVERY_TEXT_BYTES], hash[AUTH_TOTP_HASH_BYTES];
        bk_random_bytes(bytes, sizeof bytes);
        auth_totp_base32(text, bytes, sizeof bytes);
        write_recovery(text, codes[i]);
        hash_recovery(context, owner, bk_slice_make(text, sizeof text), hash, arena);
        bk_json_write_separator(&out);
        bk_json_write_string(&out, bk_slice_make(hash, sizeof hash));
        bk_crypto_wipe(bytes, sizeof bytes);
        bk_crypto_wipe(text, sizeof text);
    }
    bk_buffer_append_char(&out, ']');
    bk_buffer_insist(&out);
    struct bk_slice list = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return list;
}

enum bk_status auth_totp_turn_on(const struct bk_module_context *context,
                                 struct bk_transaction *transaction, const struct auth_owner *owner,
                                 const struct auth_totp_use *use,
                                 char codes[][AUTH_TOTP_RECOVERY_BYTES]) {
    struct row row;
    enum bk_status status = find(transaction, owner, &row);
    if (status != BK_OK)
        return status;
    row.is_on = true;
    row.last_step = use->step;
    row.failure_count = 0;
    row.locked_until_ms = 0;
    row.recovery = make_recovery(context, owner, codes, bk_transaction_arena(transaction));
    status = bk_arena_status(bk_transaction_arena(transaction));
    return status == BK_OK ? store(transaction, &row) : status;
}
