/* Where settings are: one row of the tenant's database, with all values and secrets. A tenant whose
 * settings nobody has changed has none, and what a later version adds is as it is from the start.
 */
#include "settings.h"

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

void settings_share(const struct bk_json *whole, struct bk_settings *shared) {
    const struct bk_json *batch = bk_json_get(whole, BK_SLICE("batch"));
    const struct bk_json *enabled = bk_json_get(batch, BK_SLICE("enabled"));
    int64_t body_bytes_max = number_of(batch, BK_SLICE("maxBodySize"));
    *shared = (struct bk_settings){
        .allows_batch = enabled != NULL && enabled->boolean,
        .batch_requests_max = number_of(batch, BK_SLICE("maxRequests")),
        .batch_seconds_max = number_of(batch, BK_SLICE("timeout")),
        .batch_body_bytes_max =
            body_bytes_max > 0 ? body_bytes_max : (int64_t)BK_BATCH_BODY_MAX_BYTES,
    };
}
