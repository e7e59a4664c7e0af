/*
 * Forms as JSON, in the way of the contract.
 *
 *   title=a              {"title": "a"}
 *   tags=a, tags=b       {"tags": ["a", "b"]}         a key that comes again is a list
 *   n=12, ok=true        {"n": 12, "ok": true}        what reads back as the same text is no text
 *   @jsonPayload={"o":…} {"o": …}                     its members are the object's; they come last
 *                                                     and replace what has their name
 * Keys are names, whatever dots or brackets they hold.
 *
 * A number or a boolean that was guessed keeps its text as `string`: a password of digits is one
 * to whoever asks for a text (bk_json_get_string).
 *
 * The object is written as JSON text and parsed as any body is, so that there is one gate with one
 * set of limits, and every value has the text that it stands for.
 */
#include "form.h"

#include "bakend/assert.h"
#include "bakend/encode.h"

struct form_value {
    struct form_value *next;
    struct bk_slice text;
};

struct form_entry {
    struct form_entry *next;
    struct bk_slice key;
    struct form_value *first, **end;
    uint32_t count;
    struct bk_slice json; /* of a payload: instead of values */
};

struct form_payload {
    struct form_payload *next;
    struct bk_slice text;
};

static const struct bk_slice payload_key = BK_SLICE_INIT("@jsonPayload");

void api_form_init(struct api_form *form, struct bk_arena *arena, struct bk_error *error) {
    memset(form, 0, sizeof(*form));
    form->arena = arena;
    form->error = error;
    form->end = &form->first;
    form->payload_end = &form->payloads;
    bk_map_init(&form->by_key);
}

void api_form_fini(struct api_form *form) { bk_map_fini(&form->by_key); }

static enum bk_status refuse(struct api_form *form, const char *reason) {
    return bk_error_set(form->error, BK_INVALID, "%s", reason);
}

/* --- gathering -------------------------------------------------------------------------------- */

static enum bk_status check_memory(struct api_form *form) {
    enum bk_status status = bk_arena_status(form->arena);
    return status == BK_OK ? BK_OK
                           : bk_error_set(form->error, status,
                                          "The form takes more memory than a request may have.");
}

/* NULL when the arena is full, whose memory then is shared. */
static struct form_entry *entry_of(struct api_form *form, struct bk_slice key) {
    struct form_entry *entry = bk_map_get(&form->by_key, key);
    if (entry != NULL)
        return entry;
    entry = bk_arena_alloc_zero(form->arena, sizeof(*entry));
    if (form->arena->is_overflown)
        return NULL;
    entry->key = key;
    entry->end = &entry->first;
    (void)bk_map_put(&form->by_key, key, entry);
    *form->end = entry;
    form->end = &entry->next;
    return entry;
}

static bool is_text(struct bk_slice text) {
    return text.length == 0 ||
           (memchr(text.data, '\0', text.length) == NULL && bk_slice_is_utf8(text));
}

static enum bk_status add_payload(struct api_form *form, struct bk_slice text) {
    struct form_payload *payload = bk_arena_alloc_zero(form->arena, sizeof(*payload));
    if (form->arena->is_overflown)
        return check_memory(form);
    payload->text = text;
    *form->payload_end = payload;
    form->payload_end = &payload->next;
    return BK_OK;
}

enum bk_status api_form_add(struct api_form *form, struct bk_slice key, struct bk_slice value) {
    struct form_entry *entry;
    struct form_value *own;
    if (++form->value_count > API_FORM_VALUES_MAX)
        return bk_error_set(form->error, BK_TOO_LARGE, "The form may have at most %d values.",
                            API_FORM_VALUES_MAX);
    if (!is_text(key) || !is_text(value))
        return refuse(form, "Values of a form must be UTF-8 without NUL bytes: send other bytes as "
                            "a file.");
    if (bk_slice_equal(key, payload_key))
        return add_payload(form, value);
    entry = entry_of(form, key);
    own = bk_arena_alloc_zero(form->arena, sizeof(*own));
    if (form->arena->is_overflown)
        return check_memory(form);
    own->text = value;
    *entry->end = own;
    entry->end = &own->next;
    entry->count++;
    return BK_OK;
}

static enum bk_status add_pair(struct api_form *form, struct bk_slice pair) {
    size_t at = bk_slice_find(pair, '=');
    struct bk_slice key = bk_slice_make(pair.data, at), value = BK_SLICE("");
    if (at < pair.length)
        value = bk_slice_make(pair.data + at + 1, pair.length - at - 1);
    if (bk_slice_find(pair, ';') < pair.length)
        return refuse(form, "Pairs of a form are separated by \"&\"; write \"%3B\" for a "
                            "semicolon.");
    if (!bk_percent_decode(form->arena, key, true, &key) ||
        !bk_percent_decode(form->arena, value, true, &value)) {
        enum bk_status status = check_memory(form);
        return status == BK_OK ? refuse(form, "The form has a \"%\" that two hexadecimal digits do "
                                              "not follow.")
                               : status;
    }
    if (form->arena->is_overflown)
        return check_memory(form);
    return api_form_add(form, key, value);
}

enum bk_status api_form_add_pairs(struct api_form *form, struct bk_slice text) {
    struct bk_slice pair;
    enum bk_status status = BK_OK;
    if (text.length == 0)
        return BK_OK;
    while (status == BK_OK && bk_slice_split(&text, '&', &pair))
        if (pair.length > 0)
            status = add_pair(form, pair);
    return status;
}

/* --- payloads --------------------------------------------------------------------------------- */

static enum bk_status merge_members(struct api_form *form, const struct bk_json *object) {
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        struct form_entry *entry = entry_of(form, member->key);
        if (entry == NULL)
            return check_memory(form);
        entry->count = 0;
        entry->json = member->text;
    }
    return BK_OK;
}

static void forget_all(struct api_form *form) {
    bk_map_fini(&form->by_key);
    bk_map_init(&form->by_key);
    form->first = NULL;
    form->end = &form->first;
}

static enum bk_status merge_payload(struct api_form *form, struct bk_slice text) {
    struct bk_json *payload = NULL;
    enum bk_status status = bk_json_parse(form->arena, text, &payload, form->error);
    if (status != BK_OK) {
        bk_error_prefix(form->error, "@jsonPayload");
        return status;
    }
    if (payload->type == BK_JSON_OBJECT)
        return merge_members(form, payload);
    if (payload->type != BK_JSON_NULL)
        return refuse(form, "@jsonPayload must be a JSON object.");
    forget_all(form);
    return BK_OK;
}

/* --- guessing --------------------------------------------------------------------------------- */

/* Of a decimal text: whether it has the form that a number is printed in, without an exponent. */
static bool is_decimal(struct bk_slice text) {
    size_t start = text.length > 0 && text.data[0] == '-' ? 1 : 0, at = start, point;
    while (at < text.length && text.data[at] >= '0' && text.data[at] <= '9')
        at++;
    if (at == start || (at - start > 1 && text.data[start] == '0'))
        return false;
    if (at == text.length)
        return true;
    if (text.data[at] != '.')
        return false;
    point = at++;
    while (at < text.length && text.data[at] >= '0' && text.data[at] <= '9')
        at++;
    return at == text.length && at > point + 1 && text.data[at - 1] != '0';
}

/* The digits that count, leading and trailing zeros and the point left out, up to an exponent. */
static size_t significant_digits(struct bk_slice text, char *digits, size_t size) {
    size_t length = 0, last = 0;
    for (size_t i = 0; i < text.length && text.data[i] != 'e'; i++) {
        char c = text.data[i];
        if (c < '0' || c > '9' || (length == 0 && c == '0'))
            continue;
        if (length == size)
            return size + 1;
        digits[length++] = c;
        last = c == '0' ? last : length;
    }
    return last;
}

enum { NUMBER_BYTES_MAX = 400 /* of 1.7e308 written out */, DIGITS_MAX = 400 };

/* Whether a double holds it and prints the same digits, which are the shortest that read back. */
static bool is_number(struct bk_slice text) {
    const struct bk_json json = {.type = BK_JSON_NUMBER, .text = text};
    char given[DIGITS_MAX], printed[DIGITS_MAX];
    struct bk_buffer out;
    double number;
    if (text.length > NUMBER_BYTES_MAX || !is_decimal(text) || !bk_json_to_double(&json, &number))
        return false;
    bk_buffer_init(&out, NUMBER_BYTES_MAX);
    bk_json_write_double(&out, number);
    size_t count = significant_digits(text, given, sizeof(given));
    bool is_same = !out.is_overflown && count <= sizeof(given) &&
                   count == significant_digits(bk_buffer_slice(&out), printed, sizeof(printed)) &&
                   memcmp(given, printed, count) == 0;
    bk_buffer_fini(&out);
    return is_same;
}

static bool is_guessed(struct bk_slice text) {
    return bk_slice_is(text, "true") || bk_slice_is(text, "false") || is_number(text);
}

/* --- the object ------------------------------------------------------------------------------- */

static void write_value(struct bk_buffer *out, struct bk_slice text) {
    if (is_guessed(text))
        bk_buffer_append_slice(out, text);
    else
        bk_json_write_string(out, text);
}

static void write_entry(struct bk_buffer *out, const struct form_entry *entry) {
    bk_json_write_key(out, entry->key);
    if (entry->count == 0) {
        bk_buffer_append_slice(out, entry->json);
        return;
    }
    if (entry->count == 1) {
        write_value(out, entry->first->text);
        return;
    }
    bk_buffer_append_char(out, '[');
    for (const struct form_value *value = entry->first; value != NULL; value = value->next) {
        if (value != entry->first)
            bk_buffer_append_char(out, ',');
        write_value(out, value->text);
    }
    bk_buffer_append_char(out, ']');
}

static enum bk_status write_object(struct api_form *form, struct bk_slice *text) {
    struct bk_buffer out;
    enum bk_status status;
    bk_buffer_init(&out, form->arena->max_bytes);
    bk_buffer_append_char(&out, '{');
    for (const struct form_entry *entry = form->first; entry != NULL; entry = entry->next)
        write_entry(&out, entry);
    bk_buffer_append_char(&out, '}');
    status = bk_buffer_status(&out);
    if (status == BK_OK) {
        *text = bk_arena_copy(form->arena, bk_buffer_slice(&out));
        status = bk_arena_status(form->arena);
    }
    bk_buffer_fini(&out);
    if (status == BK_TOO_LARGE)
        (void)bk_error_set(form->error, status,
                           "The form takes more memory than a request may have.");
    return status;
}

static void keep_text(struct bk_json *value) {
    if (value->type == BK_JSON_NUMBER || value->type == BK_JSON_BOOL)
        value->string = value->text;
}

/* The members stand in the order of the entries. */
static void keep_texts(const struct api_form *form, struct bk_json *object) {
    struct bk_json *member = object->child;
    for (const struct form_entry *entry = form->first; entry != NULL; entry = entry->next) {
        BK_ASSERT(member != NULL);
        if (entry->count == 1)
            keep_text(member);
        for (struct bk_json *item = entry->count > 1 ? member->child : NULL; item != NULL;
             item = item->next)
            keep_text(item);
        member = member->next;
    }
}

enum bk_status api_form_finish(struct api_form *form, struct bk_json **object) {
    enum bk_status status = BK_OK;
    struct bk_slice text;
    for (const struct form_payload *payload = form->payloads; payload != NULL && status == BK_OK;
         payload = payload->next)
        status = merge_payload(form, payload->text);
    if (status == BK_OK)
        status = write_object(form, &text);
    if (status == BK_OK)
        status = bk_json_parse(form->arena, text, object, form->error);
    if (status == BK_OK)
        keep_texts(form, *object);
    return status;
}
