/*
 * What a template says today: the collection's template and the record are read when the mail is
 * sent, not when it was asked for, so that a changed template or address counts from then on. They
 * are read on the loop; that they are put together, which may take long, is for the pool.
 *
 * Names come from the settings first, then from the record, then from who has asked for the mail;
 * the first one counts, so that nobody can put another address of the application into a link.
 * Fields that are hidden or secret have no name here.
 *
 * A name that is unknown stays as it stands; but not one for which the mail is sent: without its
 * token or password it would be of no use, and tell its reader so.
 */
#include "mail.h"

struct resolving {
    const struct bk_collection *collection;
    struct bk_arena *arena;
    struct mail_message *message;
    struct mail_filling_in *filling_in;
    struct mail_variables *variables; /* of it */
    struct bk_slice address;          /* of the record */
};

/* --- the template ----------------------------------------------------------------------------- */

static const struct bk_json *template_of(const struct bk_collection *collection,
                                         enum mail_template template) {
    static const struct {
        const char *group, *name;
    } places[] = {
        [MAIL_VERIFICATION] = {NULL, "verificationTemplate"},
        [MAIL_PASSWORD_RESET] = {NULL, "resetPasswordTemplate"},
        [MAIL_EMAIL_CHANGE] = {NULL, "confirmEmailChangeTemplate"},
        [MAIL_OTP] = {"otp", "emailTemplate"},
        [MAIL_LOGIN_ALERT] = {"authAlert", "emailTemplate"},
    };
    const struct bk_json *options = collection->auth;
    BK_ASSERT(template != MAIL_NO_TEMPLATE && template <BK_COUNT_OF(places));
    if (places[template].group != NULL)
        options = bk_json_get(options, bk_slice_from(places[template].group));
    return bk_json_get(options, bk_slice_from(places[template].name));
}

static void add_settings(struct resolving *resolving, const struct bk_tenant *tenant) {
    const struct bk_settings_meta *meta = &bk_settings_of(tenant)->meta;
    mail_variables_add(resolving->variables, BK_SLICE("APP_NAME"),
                       bk_arena_copy(resolving->arena, meta->app_name), true);
    mail_variables_add(resolving->variables, BK_SLICE("APP_URL"),
                       bk_arena_copy(resolving->arena, meta->app_url), true);
}

static void add_given(struct resolving *resolving) {
    const struct bk_json *given = resolving->message->variables;
    for (const struct bk_json *item = given == NULL ? NULL : given->child; item != NULL;
         item = item->next)
        mail_variables_add(resolving->variables, item->key,
                           item->type == BK_JSON_STRING ? item->string : item->text, false);
}

/* The settings, the template and the record are all there. */
static enum bk_status finish(struct resolving *resolving, struct bk_error *error) {
    struct mail_message *message = resolving->message;
    const struct bk_json *template = template_of(resolving->collection, message->template);
    add_given(resolving);
    resolving->filling_in->subject =
        bk_arena_copy(resolving->arena, bk_json_get_string(template, BK_SLICE("subject")));
    resolving->filling_in->body =
        bk_arena_copy(resolving->arena, bk_json_get_string(template, BK_SLICE("body")));
    message->filling_in = resolving->filling_in;
    if (message->to == NULL) {
        struct mail_address *to = bk_arena_alloc_zero(resolving->arena, sizeof *to);
        to->address = resolving->address;
        message->to = to;
        message->recipient_count++;
        if (!mail_address_is_valid(to->address))
            return bk_error_set(error, BK_NOT_FOUND,
                                "the record's email is no address that mail can be sent to");
    }
    if (bk_arena_status(resolving->arena) == BK_OK)
        return BK_OK;
    return bk_error_set(error, bk_arena_status(resolving->arena), "the mail becomes too large");
}

/* --- the record ------------------------------------------------------------------------------- */

static bool is_shown(const struct bk_field *field) {
    return !field->is_hidden && !field->is_secret;
}

static struct bk_slice variable_name(struct resolving *resolving, const struct bk_field *field) {
    return bk_arena_format(resolving->arena, "RECORD:%.*s", BK_SLICE_PRINT(field->name));
}

/* As a person writes it: a text without quotes, nothing for null. */
static struct bk_slice text_of(struct resolving *resolving, const struct bk_field *field,
                               const struct bk_value *value) {
    struct bk_buffer out;
    struct bk_json *json;
    if (value->type == BK_VALUE_NULL)
        return BK_SLICE_EMPTY;
    bk_buffer_init(&out, MAIL_TEXT_BYTES_MAX);
    field->type->write_json(field, value, &out);
    struct bk_slice text = bk_arena_copy(resolving->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    if (text.length > 0 && text.data[0] == '"' &&
        bk_json_parse(resolving->arena, text, &json, NULL) == BK_OK)
        return json->string;
    return bk_slice_is(text, "null") ? BK_SLICE_EMPTY : text;
}

static void add_record(struct resolving *resolving, struct bk_statement *statement) {
    const struct bk_collection *collection = resolving->collection;
    struct bk_value *values =
        bk_arena_alloc_zero(resolving->arena, collection->field_count * sizeof *values);
    bk_record_read(collection, statement, values);
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (field == collection->email_field)
            resolving->address = bk_arena_copy(resolving->arena, values[i].text);
        if (is_shown(field))
            mail_variables_add(resolving->variables, variable_name(resolving, field),
                               text_of(resolving, field, &values[i]), false);
    }
}

static enum bk_status read_record(struct resolving *resolving, struct bk_tenant *tenant,
                                  struct bk_error *error) {
    struct bk_connection *connection = bk_store_read_now(tenant->database);
    struct bk_statement *statement;
    enum bk_status status = BK_CLOSING;
    if (connection != NULL)
        status =
            bk_connection_statement(connection, &resolving->collection->select_by_id, &statement);
    if (status != BK_OK)
        return bk_error_set(error, status, "the record cannot be read");
    bk_statement_bind_text(statement, 1, resolving->message->record);
    status = bk_statement_step(statement);
    if (status == BK_OK)
        add_record(resolving, statement);
    bk_statement_reset(statement);
    if (status == BK_END)
        return bk_error_set(error, BK_NOT_FOUND, "the record is gone");
    return status == BK_OK ? BK_OK : bk_error_set(error, status, "the record cannot be read");
}

/* --- the two ways ----------------------------------------------------------------------------- */

static struct resolving begin(const struct bk_collection *collection, struct bk_arena *arena,
                              struct mail_message *message) {
    struct mail_filling_in *filling_in = bk_arena_alloc_zero(arena, sizeof *filling_in);
    return (struct resolving){
        .collection = collection,
        .arena = arena,
        .message = message,
        .filling_in = filling_in,
        .variables = &filling_in->variables,
    };
}

enum bk_status mail_resolve(const struct bk_module_context *context, struct bk_tenant *tenant,
                            struct bk_arena *arena, struct mail_message *message,
                            struct bk_error *error) {
    const struct bk_schema *schema = bk_schema_current(context->schema, tenant);
    const struct bk_collection *collection = bk_schema_find(schema, message->collection);
    if (collection == NULL || collection->type != BK_COLLECTION_AUTH)
        return bk_error_set(error, BK_NOT_FOUND, "there is no such collection with accounts");
    struct resolving resolving = begin(collection, arena, message);
    add_settings(&resolving, tenant);
    enum bk_status status = read_record(&resolving, tenant, error);
    if (status != BK_OK)
        return status;
    return finish(&resolving, error);
}

enum bk_status mail_resolve_sample(const struct bk_collection *collection,
                                   const struct bk_tenant *tenant, struct bk_arena *arena,
                                   struct mail_message *message, struct bk_error *error) {
    struct resolving resolving = begin(collection, arena, message);
    BK_ASSERT(collection->type == BK_COLLECTION_AUTH && message->to != NULL);
    add_settings(&resolving, tenant);
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        if (is_shown(field))
            mail_variables_add(
                resolving.variables, variable_name(&resolving, field),
                field == collection->email_field
                    ? message->to->address
                    : bk_arena_format(arena, "test_%.*s", BK_SLICE_PRINT(field->name)),
                false);
    }
    return finish(&resolving, error);
}

size_t mail_find_lacking(const struct mail_message *message,
                         const char *names[MAIL_OWN_VARIABLES_MAX]) {
    static const char *const own[][MAIL_OWN_VARIABLES_MAX] = {
        [MAIL_NO_TEMPLATE] = {NULL, NULL},       [MAIL_VERIFICATION] = {"TOKEN", NULL},
        [MAIL_PASSWORD_RESET] = {"TOKEN", NULL}, [MAIL_EMAIL_CHANGE] = {"TOKEN", NULL},
        [MAIL_OTP] = {"OTP", "OTP_ID"},          [MAIL_LOGIN_ALERT] = {"ALERT_INFO", NULL},
    };
    const struct mail_filling_in *in = message->filling_in;
    size_t count = 0;
    BK_ASSERT(in != NULL && message->template <BK_COUNT_OF(own));
    for (size_t i = 0; i < MAIL_OWN_VARIABLES_MAX; i++) {
        const char *name = own[message->template][i];
        if (name != NULL &&
            (mail_template_lacks(in->subject, &in->variables, bk_slice_from(name)) ||
             mail_template_lacks(in->body, &in->variables, bk_slice_from(name))))
            names[count++] = name;
    }
    return count;
}

/* --- putting together: any thread ------------------------------------------------------------- */

static struct bk_slice filled(const struct mail_filling_in *filling_in, struct bk_slice text,
                              enum mail_filling filling, struct bk_arena *arena) {
    struct bk_buffer inner, page;
    bk_buffer_init(&inner, MAIL_TEXT_BYTES_MAX);
    bk_buffer_init(&page, MAIL_TEXT_BYTES_MAX);
    mail_template_fill(text, &filling_in->variables, filling, &inner);
    struct bk_slice result = bk_buffer_slice(&inner);
    if (filling == MAIL_FILL_HTML) {
        mail_layout_write(result, &page);
        result = bk_buffer_slice(&page);
    }
    result = bk_arena_copy(arena, result);
    if (inner.is_overflown || page.is_overflown)
        arena->is_overflown = true;
    bk_buffer_fini(&inner);
    bk_buffer_fini(&page);
    return result;
}

enum bk_status mail_fill_in(struct mail_message *message, struct bk_arena *arena) {
    const struct mail_filling_in *in = message->filling_in;
    BK_ASSERT(in != NULL);
    message->subject = filled(in, in->subject, MAIL_FILL_LINE, arena);
    message->public_subject = filled(in, in->subject, MAIL_FILL_PUBLIC_LINE, arena);
    message->html = filled(in, in->body, MAIL_FILL_HTML, arena);
    return bk_arena_status(arena);
}
