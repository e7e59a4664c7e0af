/*
 * Headers of an endpoint's own, often with a token of the receiver's: `Authorization: Bearer …`.
 *
 * Names are in the record, with WEBHOOKS_HEADER_KEPT in each value's place; the values are in
 * `_webhookStates.headers`, all in one text that is sealed like the secrets and bound to tenant,
 * webhook and column. So lists, events, snapshots and backups have no value, and no answer shows
 * one again. Whoever changes headers says KEPT for those that stay, as he was shown them.
 *
 * An earlier version kept values in the record. When a tenant is opened, what is still there is
 * sealed, in slices that give way to requests; until then webhooks are not shown.
 */
#include "webhooks.h"

#include "bakend/alloc.h"
#include "bakend/json.h"

enum {
    HEADER_NAME_BYTES_MAX = 100,
    DELETE = 0x7f,
    /* Each character may be escaped. */
    HEADERS_BYTES_MAX =
        WEBHOOKS_HEADERS_MAX * 2 * (HEADER_NAME_BYTES_MAX + WEBHOOKS_HEADER_BYTES_MAX + 4),
    SLICE_ROWS = 50,
};

static const struct bk_slice kept_value = BK_SLICE_INIT(WEBHOOKS_HEADER_KEPT);

/* --- what they may be ------------------------------------------------------------------------- */

/* Those that say where a message ends, how the connection goes on and what the body is; and those
 * that receivers verify. svix-id and the like would be verified in place of ours. A trailing '-'
 * stands for all that begin so. */
static const char *const taken_headers[] = {
    "host",     "connection",        "keep-alive", "upgrade", "te",
    "trailer",  "transfer-encoding", "date",       "expect",  "http2-settings",
    "content-", "user-agent",        "ce-",        "proxy-",  "svix-",
    "webhook-",
};

static bool is_taken(struct bk_slice name) {
    for (size_t i = 0; i < BK_COUNT_OF(taken_headers); i++) {
        struct bk_slice taken = bk_slice_from(taken_headers[i]), head = name;
        if (taken.data[taken.length - 1] == '-' && head.length > taken.length)
            head.length = taken.length;
        if (bk_slice_equal_ignore_case(head, taken))
            return true;
    }
    return false;
}

/* A token (RFC 9110, 5.6.2). */
static bool is_name(struct bk_slice name) {
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return name.length > 0 && name.length <= HEADER_NAME_BYTES_MAX;
}

static bool is_value(struct bk_slice value) {
    for (size_t i = 0; i < value.length; i++)
        if (value.data[i] < ' ' || value.data[i] >= DELETE)
            return false;
    return value.length > 0 && value.length <= WEBHOOKS_HEADER_BYTES_MAX &&
           bk_slice_trim(value).length == value.length;
}

const char *webhooks_header_trouble(const struct bk_json *header, const struct bk_json *first) {
    if (!is_name(header->key))
        return "is no name of a header: use letters, digits and dashes, 100 at most.";
    if (is_taken(header->key))
        return "is set by Bakend or says how the message is framed: use another name.";
    if (header->type != BK_JSON_STRING || !is_value(header->string))
        return "must be a text of 1 to 2000 printable ASCII characters without a space at either "
               "end.";
    for (; first != header; first = first->next)
        if (bk_slice_equal_ignore_case(first->key, header->key))
            return "is there twice: the case of letters makes no difference.";
    return NULL;
}

/* NULL: none has this name. */
static const struct bk_json *find(const struct bk_json *headers, struct bk_slice name) {
    const struct bk_json *header = headers == NULL ? NULL : headers->child;
    while (header != NULL && !bk_slice_equal_ignore_case(header->key, name))
        header = header->next;
    return header;
}

static bool is_kept(const struct bk_json *header) {
    return header->type == BK_JSON_STRING && bk_slice_equal(header->string, kept_value);
}

static void add_trouble(struct bk_problems *problems, const struct bk_json *header,
                        const char *trouble) {
    struct bk_slice name = header->key;
    if (name.length > HEADER_NAME_BYTES_MAX)
        name.length = HEADER_NAME_BYTES_MAX;
    bk_problems_add(
        problems, BK_SLICE("headers"), "validation_invalid_header",
        bk_arena_format(problems->arena, "The header \"%.*s\" %s", BK_SLICE_PRINT(name), trouble)
            .data);
}

void webhooks_headers_check(struct bk_problems *problems, const struct bk_json *headers,
                            const struct bk_json *known) {
    static const struct bk_slice field = BK_SLICE_INIT("headers");
    if (headers == NULL || headers->type == BK_JSON_NULL)
        return;
    if (headers->type != BK_JSON_OBJECT) {
        bk_problems_add(problems, field, "validation_invalid_type",
                        "Must be an object of names and values: {\"X-Name\": \"value\"}.");
        return;
    }
    if (headers->child_count > WEBHOOKS_HEADERS_MAX)
        bk_problems_add(problems, field, "validation_too_many", "Must be 20 headers at most.");
    for (const struct bk_json *header = headers->child; header != NULL; header = header->next) {
        const char *trouble = webhooks_header_trouble(header, headers->child);
        if (trouble == NULL && is_kept(header) && find(known, header->key) == NULL)
            trouble = "has no value that could be kept, which is what " WEBHOOKS_HEADER_KEPT
                      " stands for: say its value.";
        if (trouble != NULL)
            add_trouble(problems, header, trouble);
    }
}

bool webhooks_headers_keep_any(const struct bk_json *headers) {
    const struct bk_json *header = headers == NULL ? NULL : headers->child;
    while (header != NULL && !is_kept(header))
        header = header->next;
    return header != NULL;
}

bool webhooks_headers_any_clear(const struct bk_json *headers) {
    const struct bk_json *header = headers == NULL ? NULL : headers->child;
    while (header != NULL && is_kept(header))
        header = header->next;
    return header != NULL;
}

void webhooks_headers_write_names(struct bk_buffer *out, const struct bk_json *headers) {
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *header = headers->child; header != NULL; header = header->next)
        bk_json_write_member_string(out, header->key, kept_value);
    bk_buffer_append_char(out, '}');
}

/* --- at rest ---------------------------------------------------------------------------------- */

/* Empty: there are none, or they are still in the record. BK_END: there is no such row. */
static enum bk_status read_sealed(struct bk_connection *connection, struct bk_slice id,
                                  struct bk_arena *arena, struct bk_slice *sealed) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT headers FROM _webhookStates WHERE webhook = ?1"));
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *sealed = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status;
}

enum bk_status webhooks_headers_read(const struct webhooks_state *state,
                                     struct bk_connection *connection,
                                     const struct webhooks_owner *owner, struct bk_arena *arena,
                                     const struct bk_json **headers) {
    struct bk_slice sealed, text;
    struct bk_json *json;
    enum bk_status status = read_sealed(connection, owner->webhook, arena, &sealed);
    if (status != BK_OK)
        return status == BK_END ? BK_NOT_FOUND : status;
    if (sealed.length == 0)
        return BK_NOT_FOUND;
    if (!webhooks_unseal(state, owner, "headers", sealed, arena, &text) ||
        bk_json_parse(arena, text, &json, NULL) != BK_OK || json->type != BK_JSON_OBJECT)
        return BK_CORRUPT;
    *headers = json;
    return BK_OK;
}

const struct bk_json *webhooks_header_sealed(const struct bk_json *header,
                                             const struct bk_json *sealed) {
    return is_kept(header) ? find(sealed, header->key) : header;
}

/* may_lack: one whose value cannot be kept is left out, and its endpoint rests until it is said. */
static enum bk_status write_values(struct bk_buffer *out, const struct bk_json *headers,
                                   const struct bk_json *sealed, bool may_lack) {
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *header = headers->child; header != NULL; header = header->next) {
        const struct bk_json *value = webhooks_header_sealed(header, sealed);
        if (value != NULL)
            bk_json_write_member_string(out, header->key, value->string);
        else if (!may_lack)
            return BK_CONFLICT;
    }
    bk_buffer_append_char(out, '}');
    return bk_buffer_status(out);
}

static enum bk_status store(const struct webhooks_state *state, struct bk_transaction *transaction,
                            const struct webhooks_owner *owner, struct bk_slice values) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("INSERT INTO _webhookStates (webhook, headers) VALUES (?1, ?2) "
                             "ON CONFLICT (webhook) DO UPDATE SET headers = ?2"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, owner->webhook);
    bk_statement_bind_text(
        statement, 2,
        webhooks_seal(state, owner, "headers", values, bk_transaction_arena(transaction)));
    return bk_statement_run(statement);
}

static enum bk_status seal_values(const struct webhooks_state *state,
                                  struct bk_transaction *transaction, struct bk_slice id,
                                  const struct bk_json *headers, bool may_lack) {
    const struct webhooks_owner owner = {bk_transaction_tenant(transaction), id};
    const struct bk_json *sealed = NULL;
    struct bk_buffer values;
    enum bk_status status = BK_OK;
    if (webhooks_headers_keep_any(headers))
        status = webhooks_headers_read(state, bk_transaction_connection(transaction), &owner,
                                       bk_transaction_arena(transaction), &sealed);
    if (status == BK_NOT_FOUND || (status == BK_CORRUPT && may_lack))
        status = BK_OK;
    if (status != BK_OK)
        return status;
    bk_buffer_init(&values, HEADERS_BYTES_MAX);
    status = write_values(&values, headers, sealed, may_lack);
    if (status == BK_OK)
        status = store(state, transaction, &owner, bk_buffer_slice(&values));
    bk_crypto_wipe(values.data, values.length);
    bk_buffer_fini(&values);
    return status;
}

enum bk_status webhooks_headers_write(const struct webhooks_state *state,
                                      struct bk_transaction *transaction, struct bk_slice id,
                                      const struct bk_json *headers) {
    return seal_values(state, transaction, id, headers, false);
}

/* --- what an earlier version left in the record ----------------------------------------------- */

struct webhooks_sealing {
    struct bk_write write;
    struct webhooks_tenant *of;
    char from[WEBHOOKS_ID_BYTES]; /* what comes behind it is looked at; empty: all */
    size_t from_length;
    /* Of the last run. */
    char last[WEBHOOKS_ID_BYTES];
    bool is_over;
};

struct clear_row {
    struct bk_slice id, headers;
};

static enum bk_status read_rows(const struct webhooks_sealing *sealing,
                                struct bk_transaction *transaction, struct clear_row *rows,
                                size_t *count) {
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("SELECT id, headers FROM _webhooks WHERE id > ?1 AND length(id) = 15 AND headers "
                 "NOT IN ('', '{}', 'null') ORDER BY id LIMIT 50"));
    struct bk_arena *arena = bk_transaction_arena(transaction);
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(sealing->from, sealing->from_length));
    while (*count < SLICE_ROWS && (status = bk_statement_step(statement)) == BK_OK)
        rows[(*count)++] =
            (struct clear_row){bk_arena_copy(arena, bk_statement_text(statement, 0)),
                               bk_arena_copy(arena, bk_statement_text(statement, 1))};
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status hide_values(struct bk_transaction *transaction, struct bk_slice id,
                                  const struct bk_json *headers) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("UPDATE _webhooks SET headers = ?2 WHERE id = ?1"));
    struct bk_statement *statement;
    struct bk_buffer names;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_buffer_init(&names, HEADERS_BYTES_MAX);
    webhooks_headers_write_names(&names, headers);
    bk_buffer_insist(&names);
    bk_statement_bind_text(statement, 1, id);
    bk_statement_bind_text(statement, 2, bk_buffer_slice(&names));
    status = bk_statement_run(statement);
    bk_buffer_fini(&names);
    return status;
}

/* What is no list of headers is not followed either, see config.c, and stays as it is. */
static enum bk_status seal_row(const struct webhooks_sealing *sealing,
                               struct bk_transaction *transaction, const struct clear_row *row) {
    struct bk_json *headers;
    if (bk_json_parse(bk_transaction_arena(transaction), row->headers, &headers, NULL) != BK_OK ||
        headers->type != BK_JSON_OBJECT || headers->child_count > WEBHOOKS_HEADERS_MAX ||
        !webhooks_headers_any_clear(headers))
        return BK_OK;
    for (const struct bk_json *header = headers->child; header != NULL; header = header->next)
        if (webhooks_header_trouble(header, headers->child) != NULL)
            return BK_OK;
    enum bk_status status = seal_values(sealing->of->state, transaction, row->id, headers, true);
    return status == BK_OK ? hide_values(transaction, row->id, headers) : status;
}

static enum bk_status on_seal(struct bk_transaction *transaction, struct bk_write *write) {
    struct webhooks_sealing *sealing = bk_container_of(write, struct webhooks_sealing, write);
    struct clear_row rows[SLICE_ROWS];
    size_t count = 0;
    enum bk_status status = read_rows(sealing, transaction, rows, &count);
    for (size_t i = 0; i < count && status == BK_OK; i++)
        status = seal_row(sealing, transaction, &rows[i]);
    sealing->is_over = count < SLICE_ROWS;
    if (count > 0)
        memcpy(sealing->last, rows[count - 1].id.data, sizeof sealing->last);
    return status;
}

static void submit(struct webhooks_sealing *sealing);

static void end_sealing(struct webhooks_sealing *sealing, enum bk_status status) {
    struct webhooks_tenant *own = sealing->of;
    const struct bk_log *log = &own->state->context->log;
    own->sealing = NULL;
    own->use_count--;
    if (status == BK_OK) {
        own->has_clear_headers = false;
        bk_log_info(log, "webhook_headers_sealed", BK_STRING("tenant", own->tenant->name));
    } else if (!own->state->is_stopping) {
        bk_log_warn(log, "webhook_headers_not_sealed", BK_STRING("tenant", own->tenant->name),
                    BK_TEXT("status", bk_status_name(status)),
                    BK_TEXT("effect", "webhooks are not shown until they are; tried again"));
    }
    bk_free(sealing);
    bk_tenant_release(own->tenant);
}

static void on_sealed(struct bk_write *write, enum bk_status status) {
    struct webhooks_sealing *sealing = bk_container_of(write, struct webhooks_sealing, write);
    if (status != BK_OK || sealing->is_over || sealing->of->state->is_stopping) {
        end_sealing(sealing, status == BK_OK && !sealing->is_over ? BK_CLOSING : status);
        return;
    }
    memcpy(sealing->from, sealing->last, sizeof sealing->from);
    sealing->from_length = sizeof sealing->from;
    submit(sealing);
}

static void submit(struct webhooks_sealing *sealing) {
    sealing->write =
        (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_seal, .done = on_sealed};
    enum bk_status status = bk_store_write(sealing->of->tenant->database, &sealing->write);
    if (status != BK_OK)
        end_sealing(sealing, status);
}

void webhooks_headers_seal(struct webhooks_tenant *own) {
    if (!own->has_clear_headers || own->sealing != NULL || own->state->is_stopping)
        return;
    own->sealing = bk_alloc_zero(sizeof *own->sealing);
    own->sealing->of = own;
    own->use_count++;
    bk_tenant_ref(own->tenant);
    submit(own->sealing);
}
