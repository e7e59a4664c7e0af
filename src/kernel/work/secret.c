/*
 * Payloads of kinds that have secrets, at rest: beside the tables that people read, and sealed
 * under a key of the instance, bound to tenant and task. A database or a copy of it that somebody
 * gets hold of, without the instance key, has no link to a new password in it that is still good.
 *
 * Where the data of another instance was put back, or the key is another, a payload does not open:
 * its task is dead, and says so.
 *
 * A row of before they were sealed is JSON, which never begins like a sealed one.
 */
#include "work_private.h"

#include "bakend/alloc.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

#include <stdio.h>

static const struct bk_slice sealed_head = BK_SLICE_INIT("sealed:");
const struct bk_slice work_secret_is_shut =
    BK_SLICE_INIT("its payload was sealed under another instance key: put instance.key of that "
                  "instance back and retry it, or ask for it anew");

void work_secrets_init(struct bk_work *work, struct bk_slice instance_key) {
    bk_derive_key(work->secret_key, instance_key, BK_SLICE("bakend payloads of work"));
}

/* What a payload belongs to: "tenant/id", where no name of a tenant has a slash in it. */
struct belonging {
    char text[BK_TENANT_NAME_BYTES_MAX + 1 + BK_WORK_ID_BYTES + 1];
};

static struct bk_slice belong(struct belonging *to, struct bk_transaction *transaction,
                              struct bk_slice id) {
    struct bk_slice tenant = bk_transaction_tenant(transaction);
    int length = snprintf(to->text, sizeof to->text, "%.*s/%.*s", BK_SLICE_PRINT(tenant),
                          BK_SLICE_PRINT(id));
    BK_ASSERT(length > 0 && (size_t)length < sizeof to->text);
    return bk_slice_make(to->text, (size_t)length);
}

/* For the caller to free. */
static char *seal(const struct bk_work *work, struct bk_slice payload, struct bk_slice belongs_to,
                  struct bk_slice *text) {
    size_t length = payload.length + BK_SEAL_BYTES;
    uint8_t *sealed = bk_alloc(length);
    char *memory = bk_alloc(sealed_head.length + BK_BASE64URL_BYTES(length));
    bk_seal(sealed, work->secret_key, payload, belongs_to);
    memcpy(memory, sealed_head.data, sealed_head.length);
    size_t written = bk_base64url_encode(memory + sealed_head.length, sealed, length);
    *text = bk_slice_make(memory, sealed_head.length + written);
    bk_free(sealed);
    return memory;
}

enum bk_status work_secret_insert(struct bk_work *work, struct bk_transaction *transaction,
                                  struct bk_slice id, struct bk_slice payload) {
    struct bk_statement *statement;
    struct belonging to;
    struct bk_slice text;
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_INSERT_SECRET, &statement);
    if (status != BK_OK)
        return status;
    char *memory = seal(work, payload, belong(&to, transaction, id), &text);
    bk_statement_bind_text(statement, 1, id);
    bk_statement_bind_text(statement, 2, text);
    status = bk_statement_run(statement);
    bk_free(memory);
    return status;
}

static void open_sealed(const struct bk_work *work, struct bk_slice text,
                        struct bk_slice belongs_to, struct work_secret *secret) {
    size_t length = text.length;
    uint8_t *sealed = bk_alloc(length + 1);
    secret->memory = bk_alloc(length + 1);
    secret->is_shut = !bk_base64url_decode(text, sealed, &length) || length < BK_SEAL_BYTES ||
                      !bk_unseal((uint8_t *)secret->memory, work->secret_key,
                                 bk_slice_make((const char *)sealed, length), belongs_to);
    if (!secret->is_shut)
        secret->payload = bk_slice_make(secret->memory, length - BK_SEAL_BYTES);
    bk_free(sealed);
}

static void open_row(const struct bk_work *work, struct bk_slice text, struct bk_slice belongs_to,
                     struct work_secret *secret) {
    if (bk_slice_starts_with(text, sealed_head)) {
        text = bk_slice_make(text.data + sealed_head.length, text.length - sealed_head.length);
        open_sealed(work, text, belongs_to, secret);
    } else {
        secret->memory = bk_alloc(text.length + 1);
        memcpy(secret->memory, text.data, text.length);
        secret->payload = bk_slice_make(secret->memory, text.length);
    }
}

enum bk_status work_secret_read(struct bk_work *work, struct bk_transaction *transaction,
                                struct bk_slice id, struct work_secret *secret) {
    struct bk_statement *statement;
    struct belonging to;
    *secret = (struct work_secret){.payload = BK_SLICE("null")};
    enum bk_status status = work_statement(work, bk_transaction_connection(transaction),
                                           WORK_SQL_READ_SECRET, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        open_row(work, bk_statement_text(statement, 0), belong(&to, transaction, id), secret);
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

void work_secret_free(struct work_secret *secret) {
    if (secret->memory != NULL)
        bk_crypto_wipe(secret->memory, secret->payload.length);
    bk_free(secret->memory);
}
