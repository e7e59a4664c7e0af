/*
 * An endpoint as its record says it is, read once after each change and then immutable: what is on
 * its way keeps the one that it began with.
 *
 * The record was judged when it was saved. It is not believed all the same, since rows come in by
 * restores and imports, too: what cannot be read, or would say what the signature says, makes a
 * configuration that is switched off.
 */
#include "webhooks.h"

#include "bakend/alloc.h"
#include "bakend/settings.h"

enum {
    CONFIG_BYTES_MAX = 256 * 1024,
    SCRATCH_BYTES_MAX = 1024 * 1024,
};

static const char *const format_names[WEBHOOKS_FORMAT_COUNT] = {
    [WEBHOOKS_STANDARD] = "standard",
    [WEBHOOKS_CLOUDEVENTS] = "cloudevents",
    [WEBHOOKS_CLOUDEVENTS_BINARY] = "cloudevents-binary",
};

enum webhooks_format webhooks_format_named(struct bk_slice name) {
    enum webhooks_format format = WEBHOOKS_STANDARD;
    while (format < WEBHOOKS_FORMAT_COUNT &&
           !bk_slice_equal(name, bk_slice_from(format_names[format])))
        format++;
    return format;
}

const char *webhooks_format_name(enum webhooks_format format) {
    BK_ASSERT(format < WEBHOOKS_FORMAT_COUNT);
    return format_names[format];
}

/* --- the record ------------------------------------------------------------------------------- */

struct reading {
    const struct webhooks_state *state;
    const struct bk_tenant *tenant;
    const struct bk_collection *collection;
    struct bk_value *values;
    struct webhooks_config *config;
    const struct bk_json *header_names; /* NULL: there are none */
    struct bk_arena scratch;
};

static const struct bk_value *value_of(const struct reading *reading, struct bk_slice name) {
    const struct bk_field *field = bk_collection_field(reading->collection, name);
    BK_ASSERT(field != NULL);
    return &reading->values[field->index];
}

static struct bk_slice text_of(const struct reading *reading, struct bk_slice name) {
    const struct bk_value *value = value_of(reading, name);
    return value->type == BK_VALUE_TEXT ? value->text : BK_SLICE_EMPTY;
}

/* Not negative, and at most max. */
static uint32_t number_of(const struct reading *reading, struct bk_slice name, uint32_t max) {
    const struct bk_value *value = value_of(reading, name);
    double number = value->type == BK_VALUE_INT ? (double)value->integer : value->real;
    if (value->type != BK_VALUE_INT && value->type != BK_VALUE_REAL)
        number = 0;
    return !(number > 0) ? 0 : number > max ? max : (uint32_t)number;
}

/* NULL: null, or nothing that could be read, which *is_wrong says. */
static const struct bk_json *json_of(struct reading *reading, struct bk_slice name,
                                     enum bk_json_type type, bool *is_wrong) {
    struct bk_slice text = text_of(reading, name);
    struct bk_json *json;
    if (text.length == 0)
        return NULL;
    if (bk_json_parse(&reading->scratch, text, &json, NULL) != BK_OK ||
        (json->type != type && json->type != BK_JSON_NULL)) {
        *is_wrong = true;
        return NULL;
    }
    return json->type == BK_JSON_NULL ? NULL : json;
}

static bool read_types(struct reading *reading) {
    struct webhooks_config *config = reading->config;
    bool is_wrong = false;
    const struct bk_json *list = json_of(reading, BK_SLICE("types"), BK_JSON_ARRAY, &is_wrong);
    if (is_wrong || (list != NULL && list->child_count > WEBHOOKS_TYPES_MAX))
        return false;
    if (list == NULL || list->child_count == 0)
        return true;
    config->types = bk_arena_alloc_zero(&config->arena, list->child_count * sizeof *config->types);
    for (const struct bk_json *item = list->child; item != NULL; item = item->next) {
        if (item->type != BK_JSON_STRING || !bk_event_pattern_is_valid(item->string))
            return false;
        config->types[config->type_count++] = bk_arena_copy(&config->arena, item->string);
    }
    return true;
}

/* The names as the record has them; false: they are none. NULL: there are none. */
static bool read_header_names(struct reading *reading) {
    bool is_wrong = false;
    const struct bk_json *names = json_of(reading, BK_SLICE("headers"), BK_JSON_OBJECT, &is_wrong);
    if (is_wrong || (names != NULL && names->child_count > WEBHOOKS_HEADERS_MAX))
        return false;
    for (const struct bk_json *header = names == NULL ? NULL : names->child; header != NULL;
         header = header->next)
        if (webhooks_header_trouble(header, names->child) != NULL)
            return false;
    reading->header_names = names == NULL || names->child_count == 0 ? NULL : names;
    reading->config->has_clear_headers = webhooks_headers_any_clear(names);
    return true;
}

static bool read_filter(struct reading *reading) {
    struct bk_slice text = text_of(reading, BK_SLICE("filter"));
    return text.length == 0 || bk_event_filter_parse(text, &reading->config->filter, NULL) == BK_OK;
}

static void read_limits(struct reading *reading) {
    const struct webhooks_options *options = reading->state->context->options;
    struct webhooks_config *config = reading->config;
    uint32_t own = number_of(reading, BK_SLICE("rateLimit"), WEBHOOKS_RATE_MAX);
    uint32_t allowed = number_of(reading, BK_SLICE("allowedRate"), WEBHOOKS_RATE_MAX);
    config->rate_per_minute = own == 0 || (allowed > 0 && allowed < own) ? allowed : own;
    config->in_flight_max = number_of(reading, BK_SLICE("maxInFlight"), WEBHOOKS_IN_FLIGHT_MAX);
    if (config->in_flight_max == 0)
        config->in_flight_max = WEBHOOKS_IN_FLIGHT;
    config->timeout_ms = number_of(reading, BK_SLICE("timeoutMs"), WEBHOOKS_TIMEOUT_MAX_MS);
    if (config->timeout_ms == 0)
        config->timeout_ms = (uint32_t)options->timeout_ms;
}

struct bk_slice webhooks_origin(const struct webhooks_state *state,
                                const struct bk_tenant *tenant) {
    const struct webhooks_options *options = state->context->options;
    struct bk_slice given = bk_slice_from(options->origin), url, part;
    if (given.length > 0)
        return given;
    url = bk_settings_of(tenant)->meta.app_url;
    size_t scheme = bk_slice_find(url, ':');
    if (url.length - scheme <= strlen("://"))
        return BK_SLICE_EMPTY;
    url = bk_slice_make(url.data + scheme + 3, url.length - scheme - 3);
    url.length = bk_slice_find(url, '/');
    part = url;
    while (part.length > 0 && part.data[part.length - 1] >= '0' &&
           part.data[part.length - 1] <= '9')
        part.length--;
    if (part.length > 1 && part.data[part.length - 1] == ':')
        url.length = part.length - 1;
    return url;
}

/* False: it cannot be followed as it is. */
static bool read_record(struct reading *reading) {
    struct webhooks_config *config = reading->config;
    struct bk_slice format = text_of(reading, BK_SLICE("format"));
    config->url = bk_arena_copy(&config->arena, text_of(reading, BK_SLICE("url")));
    config->subject = bk_arena_copy(&config->arena, text_of(reading, BK_SLICE("subject")));
    config->format = format.length == 0 ? WEBHOOKS_STANDARD : webhooks_format_named(format);
    config->is_enabled = value_of(reading, BK_SLICE("enabled"))->integer != 0;
    config->is_ordered = value_of(reading, BK_SLICE("ordered"))->integer != 0;
    config->is_verified = text_of(reading, BK_SLICE("verifiedAt")).length > 0;
    if (config->is_verified)
        config->origin =
            bk_arena_copy(&config->arena, webhooks_origin(reading->state, reading->tenant));
    read_limits(reading);
    bool is_format = config->format < WEBHOOKS_FORMAT_COUNT;
    if (!is_format)
        config->format = WEBHOOKS_STANDARD;
    bool has_names = read_header_names(reading); /* whatever else: values in clear are sealed */
    return is_format && has_names && read_types(reading) && read_filter(reading) &&
           bk_arena_status(&config->arena) == BK_OK;
}

/* BK_NOT_FOUND, BK_CORRUPT: a value is not there, or opens with another key. */
static enum bk_status read_headers(struct reading *reading, struct bk_connection *connection) {
    struct webhooks_config *config = reading->config;
    const struct webhooks_owner owner = {reading->tenant->name, config->id};
    const struct bk_json *names = reading->header_names, *sealed = NULL;
    enum bk_status status = BK_OK;
    if (names == NULL)
        return BK_OK;
    if (webhooks_headers_keep_any(names))
        status =
            webhooks_headers_read(reading->state, connection, &owner, &reading->scratch, &sealed);
    if (status != BK_OK)
        return status;
    config->headers =
        bk_arena_alloc_zero(&config->arena, names->child_count * sizeof *config->headers);
    for (const struct bk_json *header = names->child; header != NULL; header = header->next) {
        const struct bk_json *value = webhooks_header_sealed(header, sealed);
        if (value == NULL)
            return BK_NOT_FOUND;
        config->headers[config->header_count++] =
            (struct bk_outbound_header){bk_arena_copy(&config->arena, header->key),
                                        bk_arena_copy(&config->arena, value->string)};
    }
    return bk_arena_status(&config->arena);
}

static enum bk_status read_keys(struct reading *reading, struct bk_connection *connection) {
    struct webhooks_config *config = reading->config;
    enum bk_status status = webhooks_keys_read(reading->state, connection, reading->tenant->name,
                                               config->id, &config->keys);
    if (status == BK_OK && config->keys.has_seed)
        bk_ed25519_key_init(&config->signer, config->keys.seed);
    return status == BK_NOT_FOUND ? BK_CORRUPT : status;
}

/* Of one that can sign. */
static enum bk_status judge_rest(struct reading *reading, struct bk_connection *connection,
                                 bool is_sound) {
    enum bk_status status = is_sound ? read_headers(reading, connection) : BK_OK;
    if (!is_sound)
        reading->config->problem = WEBHOOKS_NO_SENSE;
    else if (status == BK_NOT_FOUND || status == BK_CORRUPT)
        reading->config->problem = WEBHOOKS_NO_HEADERS;
    else
        return status;
    return BK_CORRUPT;
}

/* row: at the record. */
static enum bk_status read_row(struct reading *reading, struct bk_connection *connection,
                               struct bk_statement *row) {
    struct webhooks_config *config = reading->config;
    reading->values = bk_arena_alloc_zero(&reading->scratch, reading->collection->field_count *
                                                                 sizeof *reading->values);
    bk_record_read(reading->collection, row, reading->values);
    config->id = bk_arena_copy(&config->arena, text_of(reading, BK_SLICE("id")));
    bool is_sound = read_record(reading);
    enum bk_status status = read_keys(reading, connection);
    if (status == BK_CORRUPT)
        config->problem = WEBHOOKS_NO_SECRET;
    else if (status == BK_OK)
        status = judge_rest(reading, connection, is_sound);
    config->is_resting = config->is_enabled && status == BK_CORRUPT;
    config->is_enabled = config->is_enabled && status == BK_OK;
    return status;
}

/* --- life ------------------------------------------------------------------------------------- */

static enum bk_status find_row(struct bk_connection *connection,
                               const struct bk_collection *collection, struct bk_slice id,
                               struct bk_statement **row) {
    enum bk_status status = bk_connection_statement(connection, &collection->select_by_id, row);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(*row, 1, id);
    status = bk_statement_step(*row);
    return status == BK_END ? BK_NOT_FOUND : status;
}

const char *webhooks_problem_text(enum webhooks_problem problem) {
    static const char *const texts[] = {
        [WEBHOOKS_SOUND] = "",
        [WEBHOOKS_NO_SECRET] =
            "Its secret cannot be read with this instance key, so nothing is sent: bring back the "
            "key, or make another secret by POST /api/webhooks/{id}/rotate.",
        [WEBHOOKS_NO_HEADERS] =
            "Its headers cannot be read with this instance key, so nothing is sent: bring back the "
            "key, or say all of them again with PATCH, {\"headers\":{…}}.",
        [WEBHOOKS_NO_SENSE] = "Its record cannot be followed, so nothing is sent: its types, "
                              "filter, format or headers were not saved by this API. Say them "
                              "again with PATCH."};
    return texts[problem];
}

enum bk_status webhooks_config_read(const struct webhooks_state *state, struct bk_tenant *tenant,
                                    struct bk_slice id, struct webhooks_config **config) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct reading reading = {.state = state,
                              .tenant = tenant,
                              .collection =
                                  bk_schema_find(bk_schema_current(state->context->schema, tenant),
                                                 BK_SLICE("_webhooks"))};
    struct bk_statement *row;
    BK_ASSERT(reading.collection != NULL);
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = find_row(connection, reading.collection, id, &row);
    if (status != BK_OK)
        return status;
    reading.config = bk_alloc_zero(sizeof *reading.config);
    reading.config->reference_count = 1;
    bk_arena_init(&reading.config->arena, CONFIG_BYTES_MAX);
    bk_arena_init(&reading.scratch, SCRATCH_BYTES_MAX);
    status = read_row(&reading, connection, row);
    bk_statement_reset(row);
    bk_arena_fini(&reading.scratch);
    if (status == BK_OK || status == BK_CORRUPT)
        *config = reading.config;
    else
        webhooks_config_unref(reading.config);
    return status;
}

struct webhooks_config *webhooks_config_ref(struct webhooks_config *config) {
    BK_ASSERT(config->reference_count > 0);
    config->reference_count++;
    return config;
}

void webhooks_config_unref(struct webhooks_config *config) {
    if (config == NULL || --config->reference_count > 0)
        return;
    bk_event_filter_unref(config->filter);
    bk_crypto_wipe(&config->keys, sizeof config->keys);
    bk_crypto_wipe(&config->signer, sizeof config->signer);
    for (size_t i = 0; i < config->header_count; i++)
        if (config->headers[i].value.length > 0)
            bk_crypto_wipe((void *)(uintptr_t)config->headers[i].value.data,
                           config->headers[i].value.length);
    bk_arena_fini(&config->arena);
    bk_free(config);
}
