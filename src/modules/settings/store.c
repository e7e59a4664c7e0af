/* Where settings are: one row of the tenant's database, with all values and secrets. A tenant whose
 * settings nobody has changed has none, and what a later version adds is as it is from the start.
 */
#include "settings.h"

#include "bakend/alloc.h"
#include "bakend/crypto.h"

const struct bk_migration settings_migrations[SETTINGS_MIGRATION_COUNT] = {
    {.name = "settings_1_whole",
     .sql = "CREATE TABLE _settings (id INTEGER PRIMARY KEY CHECK (id = 1), value TEXT NOT NULL)"},
};

static enum bk_status read_row(struct bk_connection *connection, struct bk_arena *arena,
                               struct bk_slice *text) {
    static const struct bk_slice select = BK_SLICE_INIT("SELECT value FROM _settings");
    const struct bk_sql sql = bk_sql_make(select);
    struct bk_statement *statement;
    *text = BK_SLICE("{}");
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *text = bk_arena_copy(arena, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

enum bk_status settings_lay(const struct bk_json *given, const struct bk_json *former,
                            struct bk_arena *arena, struct bk_json **whole,
                            struct bk_error *error) {
    struct bk_buffer out;
    bk_buffer_init(&out, SETTINGS_BYTES_MAX);
    enum bk_status status = bk_shape_lay(&settings_shape, given, former, &out, error);
    if (status == BK_OK)
        status = bk_buffer_status(&out);
    if (status == BK_OK)
        status = bk_json_parse(arena, bk_arena_copy(arena, bk_buffer_slice(&out)), whole, error);
    bk_buffer_fini(&out);
    return status == BK_OK ? bk_arena_status(arena) : status;
}

enum bk_status settings_read(struct bk_connection *connection, struct bk_arena *arena,
                             struct bk_json **whole, struct bk_error *error) {
    struct bk_slice text;
    struct bk_json *stored;
    enum bk_status status = read_row(connection, arena, &text);
    if (status == BK_OK)
        status = bk_json_parse(arena, text, &stored, error);
    return status == BK_OK ? settings_lay(NULL, stored, arena, whole, error) : status;
}

enum bk_status settings_write(struct bk_transaction *transaction, struct bk_slice text) {
    static const struct bk_slice upsert =
        BK_SLICE_INIT("INSERT INTO _settings (id, value) VALUES (1, ?1) "
                      "ON CONFLICT (id) DO UPDATE SET value = ?1");
    const struct bk_sql sql = bk_sql_make(upsert);
    struct bk_connection *connection = bk_transaction_connection(transaction);
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, text);
    return bk_statement_run(statement);
}

static int64_t number_of(const struct bk_json *group, struct bk_slice name) {
    int64_t number = 0;
    const struct bk_json *member = bk_json_get(group, name);
    if (member != NULL)
        bk_json_to_int64(member, &number);
    return number;
}

static bool flag_of(const struct bk_json *group, struct bk_slice name) {
    const struct bk_json *member = bk_json_get(group, name);
    return member != NULL && member->boolean;
}

enum { TEXT_COUNT = 9 };

static void texts_of(struct bk_settings *shared, struct bk_slice *texts[TEXT_COUNT]) {
    struct bk_slice *const all[TEXT_COUNT] = {
        &shared->meta.app_name,       &shared->meta.app_url, &shared->meta.sender_name,
        &shared->meta.sender_address, &shared->smtp.host,    &shared->smtp.user,
        &shared->smtp.password,       &shared->smtp.login,   &shared->smtp.local_name,
    };
    memcpy(texts, all, sizeof all);
}

void settings_share(const struct bk_json *whole, struct bk_arena *arena,
                    struct bk_settings *shared) {
    const struct bk_json *batch = bk_json_get(whole, BK_SLICE("batch"));
    const struct bk_json *meta = bk_json_get(whole, BK_SLICE("meta"));
    const struct bk_json *smtp = bk_json_get(whole, BK_SLICE("smtp"));
    int64_t body_bytes_max = number_of(batch, BK_SLICE("maxBodySize"));
    struct bk_slice *texts[TEXT_COUNT];
    *shared = (struct bk_settings){
        .allows_batch = flag_of(batch, BK_SLICE("enabled")),
        .batch_requests_max = number_of(batch, BK_SLICE("maxRequests")),
        .batch_seconds_max = number_of(batch, BK_SLICE("timeout")),
        .batch_body_bytes_max =
            body_bytes_max > 0 ? body_bytes_max : (int64_t)BK_BATCH_BODY_MAX_BYTES,
        .meta = {.app_name = bk_json_get_string(meta, BK_SLICE("appName")),
                 .app_url = bk_json_get_string(meta, BK_SLICE("appURL")),
                 .sender_name = bk_json_get_string(meta, BK_SLICE("senderName")),
                 .sender_address = bk_json_get_string(meta, BK_SLICE("senderAddress"))},
        .smtp = {.is_enabled = flag_of(smtp, BK_SLICE("enabled")),
                 .is_tls = flag_of(smtp, BK_SLICE("tls")),
                 .port = number_of(smtp, BK_SLICE("port")),
                 .host = bk_json_get_string(smtp, BK_SLICE("host")),
                 .user = bk_json_get_string(smtp, BK_SLICE("username")),
                 .password = bk_json_get_string(smtp, BK_SLICE("password")),
                 .login = bk_json_get_string(smtp, BK_SLICE("authMethod")),
                 .local_name = bk_json_get_string(smtp, BK_SLICE("localName"))},
    };
    texts_of(shared, texts);
    for (size_t i = 0; i < TEXT_COUNT; i++)
        *texts[i] = bk_arena_copy(arena, *texts[i]);
}

void settings_forget(struct settings_tenant *state) {
    if (state->texts != NULL)
        bk_crypto_wipe(state->texts, state->text_bytes);
    bk_free(state->texts);
    state->texts = NULL;
}

void settings_keep(struct settings_tenant *state, const struct bk_settings *shared) {
    struct bk_slice *texts[TEXT_COUNT];
    settings_forget(state);
    state->shared = *shared;
    texts_of(&state->shared, texts);
    state->text_bytes = 0;
    for (size_t i = 0; i < TEXT_COUNT; i++)
        state->text_bytes += texts[i]->length;
    char *end = state->texts = bk_alloc(state->text_bytes + 1);
    for (size_t i = 0; i < TEXT_COUNT; i++) {
        if (texts[i]->length > 0)
            memcpy(end, texts[i]->data, texts[i]->length);
        texts[i]->data = end;
        end += texts[i]->length;
    }
}
