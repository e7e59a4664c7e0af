/*
 * The token secrets of collections: a new one makes all tokens of before worthless, and so does the
 * end of the collection. Connections that came with one of them are closed, and the sessions go,
 * in slices and without an event each: watch.c has told of all of them in one.
 *
 * What is remembered of a secret is a hash, to see that it has changed.
 */
#include "auth.h"

#include "bakend/alloc.h"

enum { SLICE_ROWS = 500 };

struct auth_secret {
    struct bk_slice id; /* of the collection; points behind the struct */
    uint64_t hash;
};

/* --- the sessions ----------------------------------------------------------------------------- */

struct clearing {
    struct bk_write write;
    struct bk_tenant *tenant;
    struct bk_slice id; /* points behind the struct */
    uint32_t row_count;
};

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct clearing *clearing = bk_container_of(write, struct clearing, write);
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("DELETE FROM _sessions WHERE id IN "
                 "(SELECT id FROM _sessions WHERE collectionRef = ?1 LIMIT ?2) RETURNING 1"));
    struct bk_statement *statement;
    clearing->row_count = 0;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, clearing->id);
    bk_statement_bind_int(statement, 2, SLICE_ROWS);
    while ((status = bk_statement_step(statement)) == BK_OK)
        clearing->row_count++;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct clearing *clearing = bk_container_of(write, struct clearing, write);
    if (status == BK_OK && clearing->row_count == SLICE_ROWS &&
        !bk_database_is_stopping(clearing->tenant->database) &&
        bk_store_write(clearing->tenant->database, &clearing->write) == BK_OK)
        return;
    bk_tenant_release(clearing->tenant); /* what is left is worthless, and goes when it is over */
    bk_free(clearing);
}

static void clear(struct bk_tenant *tenant, struct bk_slice id) {
    struct clearing *clearing = bk_alloc_zero(sizeof *clearing + id.length);
    char *text = (char *)(clearing + 1);
    memcpy(text, id.data, id.length);
    clearing->id = bk_slice_make(text, id.length);
    clearing->tenant = tenant;
    clearing->write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_run, .done = on_done};
    if (bk_store_write(tenant->database, &clearing->write) == BK_OK)
        bk_tenant_ref(tenant);
    else
        bk_free(clearing);
}

/* --- comparing -------------------------------------------------------------------------------- */

static void remember(struct bk_map *secrets, const struct bk_collection *collection) {
    struct auth_secret *secret = bk_alloc_zero(sizeof *secret + collection->id.length);
    char *text = (char *)(secret + 1);
    memcpy(text, collection->id.data, collection->id.length);
    secret->id = bk_slice_make(text, collection->id.length);
    secret->hash = bk_map_hash(collection->token_secret);
    bk_map_put(secrets, secret->id, secret);
}

void auth_secrets_open(const struct bk_schema *schema, struct bk_map *secrets) {
    bk_map_init(secrets);
    for (size_t i = 0; i < bk_schema_count(schema); i++)
        if (bk_schema_at(schema, i)->type == BK_COLLECTION_AUTH)
            remember(secrets, bk_schema_at(schema, i));
}

void auth_secrets_close(struct bk_map *secrets) {
    size_t cursor = 0;
    for (struct bk_map_entry *entry; (entry = bk_map_next(secrets, &cursor)) != NULL;)
        bk_free(entry->value);
    bk_map_fini(secrets);
}

void auth_secrets_compare(const struct bk_module_context *context, struct bk_tenant *tenant) {
    const struct bk_schema *schema = bk_schema_current(context->schema, tenant);
    struct auth_tenant *own = tenant->slots[context->tenant_slot];
    size_t cursor = 0;
    if (own == NULL) /* it is being opened */
        return;
    struct bk_map former = own->secrets;
    auth_secrets_open(schema, &own->secrets);
    for (struct bk_map_entry *entry; (entry = bk_map_next(&former, &cursor)) != NULL;) {
        const struct auth_secret *before = entry->value;
        const struct auth_secret *after = bk_map_get(&own->secrets, before->id);
        if (after != NULL && after->hash == before->hash)
            continue;
        const struct bk_revocation revocation = {.tenant = tenant, .collection_id = before->id};
        bk_api_revoke(context->api, &revocation);
        clear(tenant, before->id);
    }
    auth_secrets_close(&former);
}
