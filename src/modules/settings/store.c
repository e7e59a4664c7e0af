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

/* --- what others use -------------------------------------------------------------------------- */

static void read_groups(const struct bk_json *whole, struct bk_settings *shared) {
    const struct bk_json *batch = bk_json_get(whole, BK_SLICE("batch"));
    const struct bk_json *meta = bk_json_get(whole, BK_SLICE("meta"));
    const struct bk_json *smtp = bk_json_get(whole, BK_SLICE("smtp"));
    int64_t body_bytes_max = number_of(batch, BK_SLICE("maxBodySize"));
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
}

static uint32_t count_of(const struct bk_json *list, uint32_t maximum) {
    size_t count = list == NULL ? 0 : list->child_count;
    return count < maximum ? (uint32_t)count : maximum;
}

static void read_rules(const struct bk_json *list, struct bk_arena *arena,
                       struct bk_settings_limits *limits) {
    uint32_t count = count_of(list, SETTINGS_RULES_MAX);
    struct bk_settings_limit *rules = bk_arena_alloc_zero(arena, count * sizeof *rules);
    for (const struct bk_json *item = count == 0 ? NULL : list->child; limits->rule_count < count;
         item = item->next)
        rules[limits->rule_count++] = (struct bk_settings_limit){
            .label = bk_json_get_string(item, BK_SLICE("label")),
            .audience = bk_json_get_string(item, BK_SLICE("audience")),
            .seconds = number_of(item, BK_SLICE("duration")),
            .requests_max = number_of(item, BK_SLICE("maxRequests")),
        };
    limits->rules = rules;
}

static const struct bk_network *read_networks(const struct bk_json *list, struct bk_arena *arena,
                                              uint32_t *count) {
    uint32_t left = count_of(list, SETTINGS_NETWORKS_MAX);
    struct bk_network *networks = bk_arena_alloc_zero(arena, left * sizeof *networks);
    *count = 0;
    for (const struct bk_json *item = left == 0 ? NULL : list->child; left > 0;
         item = item->next, left--)
        if (bk_network_parse(item->string, &networks[*count]) == BK_OK)
            ++*count;
    return networks;
}

/* All but the password. */
static void copy_texts(struct bk_settings *shared, struct bk_arena *arena) {
    struct bk_slice *const texts[] = {
        &shared->meta.app_name,       &shared->meta.app_url,    &shared->meta.sender_name,
        &shared->meta.sender_address, &shared->smtp.host,       &shared->smtp.user,
        &shared->smtp.login,          &shared->smtp.local_name,
    };
    for (size_t i = 0; i < BK_COUNT_OF(texts); i++)
        *texts[i] = bk_arena_copy(arena, *texts[i]);
}

static void copy_rules(struct bk_settings_limits *limits, struct bk_arena *arena) {
    struct bk_settings_limit *rules =
        bk_arena_alloc_zero(arena, limits->rule_count * sizeof *rules);
    for (uint32_t i = 0; i < limits->rule_count; i++) {
        rules[i] = limits->rules[i];
        rules[i].label = bk_arena_copy(arena, rules[i].label);
        rules[i].audience = bk_arena_copy(arena, rules[i].audience);
    }
    limits->rules = rules;
}

static const struct bk_network *copy_networks(const struct bk_network *networks, uint32_t count,
                                              struct bk_arena *arena) {
    struct bk_network *copy = bk_arena_alloc_zero(arena, count * sizeof *copy);
    for (uint32_t i = 0; i < count; i++)
        copy[i] = networks[i];
    return copy;
}

void settings_share(const struct bk_json *whole, struct bk_arena *arena,
                    struct bk_settings *shared) {
    const struct bk_json *limits = bk_json_get(whole, BK_SLICE("rateLimits"));
    read_groups(whole, shared);
    shared->limits.is_enabled = flag_of(limits, BK_SLICE("enabled"));
    read_rules(bk_json_get(limits, BK_SLICE("rules")), arena, &shared->limits);
    shared->limits.excluded = read_networks(bk_json_get(limits, BK_SLICE("excludedIPs")), arena,
                                            &shared->limits.excluded_count);
    shared->superuser_networks = read_networks(bk_json_get(whole, BK_SLICE("superuserIPs")), arena,
                                               &shared->superuser_network_count);
    copy_texts(shared, arena);
    copy_rules(&shared->limits, arena);
    shared->smtp.password = bk_arena_copy(arena, shared->smtp.password);
}

/* --- of an open tenant ------------------------------------------------------------------------ */

void settings_tenant_init(struct settings_tenant *state) {
    *state = (struct settings_tenant){.secret = NULL};
    bk_arena_init(&state->arena, SETTINGS_TREE_BYTES_MAX);
}

void settings_forget(struct settings_tenant *state) {
    if (state->secret != NULL)
        bk_crypto_wipe(state->secret, state->shared.smtp.password.length);
    bk_free(state->secret);
    state->secret = NULL;
    bk_arena_fini(&state->arena);
}

void settings_keep(struct settings_tenant *state, const struct bk_settings *shared) {
    uint64_t revision = state->shared.revision + 1;
    size_t length = shared->smtp.password.length;
    settings_forget(state);
    bk_arena_init(&state->arena, SETTINGS_TREE_BYTES_MAX);
    struct bk_settings *kept = &state->shared;
    *kept = *shared;
    kept->revision = revision;
    copy_texts(kept, &state->arena);
    copy_rules(&kept->limits, &state->arena);
    kept->limits.excluded =
        copy_networks(kept->limits.excluded, kept->limits.excluded_count, &state->arena);
    kept->superuser_networks =
        copy_networks(kept->superuser_networks, kept->superuser_network_count, &state->arena);
    state->secret = bk_alloc(length + 1);
    if (length > 0)
        memcpy(state->secret, shared->smtp.password.data, length);
    kept->smtp.password = bk_slice_make(state->secret, length);
}
