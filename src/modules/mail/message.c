/*
 * The payload of a task of kind "mail", which other modules write and the route POST /api/mail
 * takes: a message as it is, or a template of a collection with what is to be put into it.
 *
 *   {"to":[{"address":"ann@example.com","name":"Ann"}],"subject":"Hi","text":"…","html":"…"}
 *   {"template":"otp","collection":"users","record":"abc","variables":{"OTP":"123456"}}
 *
 * Everything that comes into the head is judged here, field by field, so that what would break a
 * line is refused with the name of its field, and not mended in silence.
 */
#include "mail.h"

#include "bakend/clock.h"

struct reading {
    const struct bk_json *payload;
    struct bk_problems *problems;
    struct mail_message *message;
};

static const char not_a_text[] = "Must be a text.";
static const char has_breaks[] = "Must be one line, without line breaks and control characters.";

static void add(struct reading *reading, struct bk_slice field, const char *code,
                const char *message) {
    bk_problems_add(reading->problems, field, code, message);
}

enum mail_template mail_template_named(struct bk_slice name) {
    static const char *const names[] = {
        [MAIL_VERIFICATION] = "verification", [MAIL_PASSWORD_RESET] = "password-reset",
        [MAIL_EMAIL_CHANGE] = "email-change", [MAIL_OTP] = "otp",
        [MAIL_LOGIN_ALERT] = "login-alert",
    };
    for (size_t i = 1; i < BK_COUNT_OF(names); i++)
        if (bk_slice_equal(name, bk_slice_from(names[i])))
            return (enum mail_template)i;
    return MAIL_NO_TEMPLATE;
}

/* --- texts ------------------------------------------------------------------------------------ */

static bool is_absent(const struct bk_json *json) {
    return json == NULL || json->type == BK_JSON_NULL;
}

/* Of any length and any number of lines. */
static struct bk_slice read_text(struct reading *reading, const struct bk_json *object,
                                 const char *name, struct bk_slice field) {
    const struct bk_json *json = bk_json_get(object, bk_slice_from(name));
    if (is_absent(json))
        return BK_SLICE_EMPTY;
    if (json->type == BK_JSON_STRING)
        return json->string;
    add(reading, field, "validation_invalid_type", not_a_text);
    return BK_SLICE_EMPTY;
}

/* For the head. */
static struct bk_slice read_line(struct reading *reading, const struct bk_json *object,
                                 const char *name, struct bk_slice field, size_t bytes_max) {
    struct bk_slice text = read_text(reading, object, name, field);
    if (mail_has_control(text)) {
        add(reading, field, "validation_invalid_line", has_breaks);
    } else if (text.length > bytes_max) {
        struct bk_arena *arena = reading->problems->arena;
        add(reading, field, "validation_length_too_long",
            bk_arena_format(arena, "Must be no longer than %zu bytes.", bytes_max).data);
    }
    return text;
}

/* --- people ----------------------------------------------------------------------------------- */

static void judge_address(struct reading *reading, struct bk_slice address, struct bk_slice field) {
    if (address.length == 0)
        add(reading, field, "validation_required", "Cannot be blank.");
    else if (mail_has_control(address))
        add(reading, field, "validation_invalid_line", has_breaks);
    else if (!mail_address_is_valid(address))
        add(reading, field, "validation_is_email",
            "Must be a valid email address in ASCII; write a domain with other letters as xn--….");
}

/* {"address","name"}, or the address alone. */
static struct mail_address *read_address(struct reading *reading, const struct bk_json *json,
                                         struct bk_slice path) {
    struct bk_arena *arena = reading->problems->arena;
    struct mail_address *person = bk_arena_alloc_zero(arena, sizeof *person);
    if (json->type == BK_JSON_STRING) {
        person->address = json->string;
        judge_address(reading, person->address, path);
        return person;
    }
    if (json->type != BK_JSON_OBJECT) {
        add(reading, path, "validation_invalid_type",
            "Must be an address or an object of address and name.");
        return person;
    }
    struct bk_slice field = bk_arena_format(arena, "%.*s.address", BK_SLICE_PRINT(path));
    person->address = read_text(reading, json, "address", field);
    judge_address(reading, person->address, field);
    field = bk_arena_format(arena, "%.*s.name", BK_SLICE_PRINT(path));
    person->name = read_line(reading, json, "name", field, MAIL_NAME_BYTES_MAX);
    return person;
}

/* A list of them, or one. */
static struct mail_address *read_people(struct reading *reading, const char *name,
                                        uint32_t *count) {
    const struct bk_json *json = bk_json_get(reading->payload, bk_slice_from(name));
    struct mail_address *first = NULL, **next = &first;
    if (is_absent(json) || (json->type == BK_JSON_STRING && json->string.length == 0))
        return NULL;
    if (json->type != BK_JSON_ARRAY) {
        ++*count;
        return read_address(reading, json, bk_slice_from(name));
    }
    if (json->child_count > MAIL_RECIPIENTS_MAX) {
        *count += json->child_count;
        return NULL;
    }
    uint32_t index = 0;
    for (const struct bk_json *item = json->child; item != NULL; item = item->next, index++) {
        struct bk_slice path = bk_arena_format(reading->problems->arena, "%s.%u", name, index);
        *next = read_address(reading, item, path);
        next = &(*next)->next;
    }
    *count += index;
    return first;
}

static void read_everybody(struct reading *reading) {
    struct mail_message *message = reading->message;
    uint32_t reply_count = 0;
    message->to = read_people(reading, "to", &message->recipient_count);
    message->cc = read_people(reading, "cc", &message->recipient_count);
    message->bcc = read_people(reading, "bcc", &message->recipient_count);
    message->reply_to = read_people(reading, "replyTo", &reply_count);
    if (message->recipient_count > MAIL_RECIPIENTS_MAX)
        add(reading, BK_SLICE("to"), "validation_length_too_long",
            "Must be no more than 100 recipients with cc and bcc; send several mails.");
    if (reply_count > MAIL_RECIPIENTS_MAX)
        add(reading, BK_SLICE("replyTo"), "validation_length_too_long",
            "Must be no more than 100 addresses.");
    if (message->recipient_count == 0 && message->template == MAIL_NO_TEMPLATE)
        add(reading, BK_SLICE("to"), "validation_required", "Cannot be blank.");
}

/* --- headers ---------------------------------------------------------------------------------- */

/* Those that are made here, and those that are for servers on the way to make. */
static bool is_ours(struct bk_slice name) {
    static const char *const ours[] = {
        "from",        "sender",   "to",         "cc",           "bcc",
        "reply-to",    "date",     "message-id", "subject",      "mime-version",
        "return-path", "received", "resent",     "delivered-to", "auto-submitted"};
    for (size_t i = 0; i < BK_COUNT_OF(ours); i++)
        if (bk_slice_equal_ignore_case(name, bk_slice_from(ours[i])))
            return true;
    static const struct bk_slice content = BK_SLICE_INIT("content-");
    return name.length >= content.length &&
           bk_slice_equal_ignore_case(bk_slice_make(name.data, content.length), content);
}

static bool is_header_name(struct bk_slice name) {
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-')
            return false;
    }
    return name.length > 0 && name.length <= 64;
}

/* A line of a message ends at 998 bytes, and it can be folded only where there is a space. */
static bool has_long_word(struct bk_slice value) {
    enum { WORD_BYTES_MAX = 900 };
    struct bk_slice rest = value, word;
    while (bk_slice_split(&rest, ' ', &word))
        if (word.length > WORD_BYTES_MAX)
            return true;
    return false;
}

static struct mail_header *read_header(struct reading *reading, const struct bk_json *json) {
    struct bk_arena *arena = reading->problems->arena;
    struct bk_slice field = bk_arena_format(arena, "headers.%.*s", BK_SLICE_PRINT(json->key));
    struct mail_header *header = bk_arena_alloc_zero(arena, sizeof *header);
    header->name = json->key;
    if (!is_header_name(header->name)) {
        add(reading, BK_SLICE("headers"), "validation_invalid_header",
            "Each name must be 1 to 64 letters, digits and hyphens.");
        return header;
    }
    if (is_ours(header->name)) {
        add(reading, field, "validation_invalid_header",
            "Is made by the server; use to, cc, bcc, replyTo and subject.");
        return header;
    }
    if (json->type != BK_JSON_STRING) {
        add(reading, field, "validation_invalid_type", not_a_text);
        return header;
    }
    header->value = json->string;
    if (mail_has_control(header->value))
        add(reading, field, "validation_invalid_line", has_breaks);
    else if (header->value.length > MAIL_HEADER_BYTES_MAX || has_long_word(header->value))
        add(reading, field, "validation_length_too_long",
            "Must be no longer than 2000 bytes, and no word of it than 900.");
    return header;
}

static void read_headers(struct reading *reading) {
    const struct bk_json *json = bk_json_get(reading->payload, BK_SLICE("headers"));
    struct mail_header **next = &reading->message->headers;
    if (is_absent(json))
        return;
    if (json->type != BK_JSON_OBJECT || json->child_count > MAIL_HEADERS_MAX) {
        add(reading, BK_SLICE("headers"), "validation_invalid_header",
            "Must be an object of at most 20 names and texts.");
        return;
    }
    for (const struct bk_json *item = json->child; item != NULL; item = item->next) {
        *next = read_header(reading, item);
        next = &(*next)->next;
    }
}

/* --- the whole -------------------------------------------------------------------------------- */

static void read_content(struct reading *reading) {
    struct mail_message *message = reading->message;
    message->subject = read_line(reading, reading->payload, "subject", BK_SLICE("subject"),
                                 MAIL_SUBJECT_BYTES_MAX);
    message->text = read_text(reading, reading->payload, "text", BK_SLICE("text"));
    message->html = read_text(reading, reading->payload, "html", BK_SLICE("html"));
    if (bk_slice_trim(message->subject).length == 0)
        add(reading, BK_SLICE("subject"), "validation_required", "Cannot be blank.");
    if (message->text.length == 0 && message->html.length == 0)
        add(reading, BK_SLICE("text"), "validation_required",
            "Cannot be blank where there is no html.");
}

static void read_template(struct reading *reading) {
    struct mail_message *message = reading->message;
    const struct bk_json *payload = reading->payload;
    message->collection = read_text(reading, payload, "collection", BK_SLICE("collection"));
    message->record = read_text(reading, payload, "record", BK_SLICE("record"));
    message->variables = bk_json_get(payload, BK_SLICE("variables"));
    if (message->template == MAIL_NO_TEMPLATE)
        add(reading, BK_SLICE("template"), "validation_in_invalid",
            "Must be one of verification, password-reset, email-change, otp and login-alert.");
    if (message->collection.length == 0)
        add(reading, BK_SLICE("collection"), "validation_required", "Cannot be blank.");
    if (message->record.length == 0)
        add(reading, BK_SLICE("record"), "validation_required", "Cannot be blank.");
    if (!is_absent(message->variables) && message->variables->type != BK_JSON_OBJECT)
        add(reading, BK_SLICE("variables"), "validation_invalid_type",
            "Must be an object of names and texts.");
}

static void read_expiry(struct reading *reading) {
    struct bk_slice text = read_text(reading, reading->payload, "expires", BK_SLICE("expires"));
    if (text.length > 0 && !bk_time_parse(text, &reading->message->expires_ms))
        add(reading, BK_SLICE("expires"), "validation_invalid_date",
            "Must be a date, such as 2030-01-31 12:00:00Z.");
}

/* The rest of one, as its own end has written it (task.c). */
static const struct bk_json *read_rest(struct reading *reading, const struct bk_json *payload) {
    struct mail_message *message = reading->message;
    const struct bk_json *whole = bk_json_get(payload, BK_SLICE("message"));
    if (whole == NULL || whole->type != BK_JSON_OBJECT)
        return payload;
    message->only = bk_json_get(payload, BK_SLICE("only"));
    message->message_id =
        read_line(reading, payload, "messageId", BK_SLICE("messageId"), MAIL_SUBJECT_BYTES_MAX);
    if (message->message_id.length > 0 && !mail_address_is_valid(message->message_id))
        add(reading, BK_SLICE("messageId"), "validation_invalid_line", "Must be ID@DOMAIN.");
    return whole;
}

enum bk_status mail_message_read(const struct bk_json *payload, struct bk_problems *problems,
                                 struct mail_message *message) {
    struct reading reading = {NULL, problems, message};
    *message = (struct mail_message){.template = MAIL_NO_TEMPLATE};
    payload = reading.payload = read_rest(&reading, payload);
    if (payload == NULL || payload->type != BK_JSON_OBJECT) {
        add(&reading, BK_SLICE("payload"), "validation_invalid_type", "Must be an object.");
        return BK_INVALID;
    }
    bool has_template = !is_absent(bk_json_get(payload, BK_SLICE("template")));
    message->template_name = read_text(&reading, payload, "template", BK_SLICE("template"));
    message->template = mail_template_named(message->template_name);
    if (has_template)
        read_template(&reading);
    else
        read_content(&reading);
    read_everybody(&reading);
    read_headers(&reading);
    read_expiry(&reading);
    if (problems->count > 0)
        return BK_INVALID;
    return bk_arena_status(problems->arena);
}
