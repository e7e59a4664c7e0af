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
    HEADER_NAME_BYTES_MAX = 100,
    DELETE = 0x7f,
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

/* --- headers of its own ----------------------------------------------------------------------- */

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

/* What is wrong with a member, behind its name in a message; NULL: nothing. */
static const char *header_trouble(const struct bk_json *header, const struct bk_json *first) {
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

void webhooks_headers_check(struct bk_problems *problems, const struct bk_json *headers) {
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
        const char *trouble = header_trouble(header, headers->child);
        if (trouble != NULL)
            bk_problems_add(
                problems, field, "validation_invalid_header",
                bk_arena_format(problems->arena, "The header \"%.*s\" %s",
                                BK_SLICE_PRINT(bk_slice_make(
                                    header->key.data, header->key.length < HEADER_NAME_BYTES_MAX
                                                          ? header->key.length
                                                          : HEADER_NAME_BYTES_MAX)),
                                trouble)
                    .data);
    }
}

/* --- the record ------------------------------------------------------------------------------- */

struct reading {
    const struct webhooks_state *state;
    const struct bk_tenant *tenant;
    const struct bk_collection *collection;
    struct bk_value *values;
    struct webhooks_config *config;
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

static bool read_headers(struct reading *reading) {
    struct webhooks_config *config = reading->config;
    bool is_wrong = false;
    const struct bk_json *object = json_of(reading, BK_SLICE("headers"), BK_JSON_OBJECT, &is_wrong);
    if (is_wrong || (object != NULL && object->child_count > WEBHOOKS_HEADERS_MAX))
        return false;
    if (object == NULL || object->child_count == 0)
        return true;
    config->headers =
        bk_arena_alloc_zero(&config->arena, object->child_count * sizeof *config->headers);
    for (const struct bk_json *header = object->child; header != NULL; header = header->next) {
        if (header_trouble(header, object->child) != NULL)
            return false;
        config->headers[config->header_count++] =
            (struct bk_outbound_header){bk_arena_copy(&config->arena, header->key),
                                        bk_arena_copy(&config->arena, header->string)};
    }
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
    return is_format && read_types(reading) && read_headers(reading) && read_filter(reading) &&
           bk_arena_status(&config->arena) == BK_OK;
}

static enum bk_status read_keys(struct reading *reading, struct bk_connection *connection) {
    struct webhooks_config *config = reading->config;
    enum bk_status status = webhooks_keys_read(reading->state, connection, reading->tenant->name,
                                               config->id, &config->keys);
    if (status == BK_OK && config->keys.has_seed)
        bk_ed25519_key_init(&config->signer, config->keys.seed);
    return status == BK_NOT_FOUND ? BK_CORRUPT : status;
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
    if (status == BK_OK && !is_sound)
        status = BK_CORRUPT;
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
    bk_arena_fini(&config->arena);
    bk_free(config);
}
