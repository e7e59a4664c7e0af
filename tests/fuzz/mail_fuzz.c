/*
 * Mails: payloads that are judged, the messages made of them, and what is put into templates.
 *
 * The input's first character says what the rest is:
 *
 *   m   a payload, JSON
 *   b   a body
 *   h   a page, of which a text is made
 *   t   a template
 *
 * Whatever it is: a payload that is refused has a problem by name; a message is lines of ASCII that
 * end in CR LF, none of them longer than a wire carries or a dot alone, its head has each field
 * once that may be there once, none that was not meant, and no blind copy; a body is, decoded by a
 * reader of its own, the text with all line ends made one kind; a text made of a page is text; and
 * what is put into a template never adds a tag to a page or a line to a subject.
 */
#define _GNU_SOURCE /* memmem */
#include "fuzz.h"

#include "modules/mail/mail.h"

enum { ARENA_BYTES_MAX = 16 * 1024 * 1024, WIRE_LINE_BYTES_MAX = 998 };
static const int64_t wall_ms = 1795348023000;

/* --- a message -------------------------------------------------------------------------------- */

/* Off the front of *rest, without its end, which must be CR LF. */
static struct bk_slice take_line(struct bk_slice *rest) {
    const char *end = memmem(rest->data, rest->length, "\r\n", 2);
    BK_ASSERT(end != NULL);
    struct bk_slice line = bk_slice_make(rest->data, (size_t)(end - rest->data));
    *rest = bk_slice_make(end + 2, rest->length - line.length - 2);
    return line;
}

static void check_line(struct bk_slice line) {
    BK_ASSERT(line.length <= WIRE_LINE_BYTES_MAX && !bk_slice_is(line, "."));
    for (size_t i = 0; i < line.length; i++)
        BK_ASSERT(line.data[i] == '\t' || (line.data[i] >= ' ' && line.data[i] <= '~'));
}

/* What the sender sets, and nobody else. */
static const char *const fixed[] = {"Date",       "From",           "To",
                                    "Cc",         "Reply-To",       "Subject",
                                    "Message-ID", "Auto-Submitted", "MIME-Version",
                                    "Bcc",        "Content-Type",   "Content-Transfer-Encoding"};

static bool is_of_payload(const struct mail_message *message, struct bk_slice name) {
    for (const struct mail_header *each = message->headers; each != NULL; each = each->next)
        if (bk_slice_equal(each->name, name))
            return true;
    return false;
}

static void check_head(struct bk_slice text, const struct mail_message *message) {
    uint32_t counts[BK_COUNT_OF(fixed)] = {0}, others = 0, wanted = 0;
    for (struct bk_slice line = take_line(&text); line.length > 0; line = take_line(&text)) {
        struct bk_slice name = bk_slice_make(line.data, bk_slice_find(line, ':'));
        size_t i = 0;
        check_line(line);
        if (line.data[0] == ' ' || line.data[0] == '\t')
            continue; /* folded */
        BK_ASSERT(name.length > 0 && name.length < line.length);
        while (i < BK_COUNT_OF(fixed) && !bk_slice_equal_ignore_case(name, bk_slice_from(fixed[i])))
            i++;
        if (i < BK_COUNT_OF(fixed)) {
            counts[i]++;
        } else {
            BK_ASSERT(is_of_payload(message, name));
            others++;
        }
    }
    for (size_t i = 0; i < BK_COUNT_OF(fixed); i++)
        BK_ASSERT(counts[i] <= 1);
    BK_ASSERT(counts[0] + counts[1] + counts[5] + counts[6] + counts[8] + counts[10] == 6);
    BK_ASSERT(counts[9] == 0);
    for (const struct mail_header *each = message->headers; each != NULL; each = each->next)
        wanted++;
    BK_ASSERT(others == wanted);
    while (text.length > 0)
        check_line(take_line(&text));
}

static void check_message(const struct mail_message *message) {
    const struct mail_composing composing = {
        .id = BK_SLICE("abcdefghijklmno"),
        .wall_ms = wall_ms,
        .from = {.address = BK_SLICE("from@example.com"), .name = message->subject},
        .message_id = BK_SLICE("abc@example.com")};
    struct bk_buffer out;
    bk_buffer_init(&out, MAIL_BYTES_MAX);
    if (mail_compose(message, &composing, &out) == BK_OK)
        check_head(bk_buffer_slice(&out), message);
    bk_buffer_fini(&out);
}

static void fuzz_payload(struct bk_slice text) {
    struct bk_arena arena;
    struct bk_problems problems;
    struct bk_json *payload = NULL;
    struct mail_message message;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bk_problems_init(&problems, &arena);
    if (bk_json_parse(&arena, text, &payload, NULL) == BK_OK) {
        enum bk_status status = mail_message_read(payload, &problems, &message);
        BK_ASSERT((status == BK_OK) == (problems.count == 0));
        if (status == BK_OK && message.template == MAIL_NO_TEMPLATE)
            check_message(&message);
    }
    bk_arena_fini(&arena);
}

/* --- a body ----------------------------------------------------------------------------------- */

static int value_of(const char *digits, char c) {
    const char *found = c == '\0' ? NULL : strchr(digits, c);
    return found == NULL ? -1 : (int)(found - digits);
}

static void decode_quoted(struct bk_slice rest, struct bk_buffer *out) {
    static const char digits[] = "0123456789ABCDEF";
    while (rest.length > 0) {
        struct bk_slice line = take_line(&rest);
        bool is_soft = line.length > 0 && line.data[line.length - 1] == '=';
        BK_ASSERT(line.length <= 76);
        for (size_t i = 0; i < line.length - is_soft; i++) {
            char c = line.data[i];
            if (c == '=') {
                BK_ASSERT(i + 2 < line.length);
                int high = value_of(digits, line.data[i + 1]);
                int low = value_of(digits, line.data[i + 2]);
                BK_ASSERT(high >= 0 && low >= 0);
                c = (char)(high << 4 | low);
                i += 2;
            }
            bk_buffer_append_char(out, c);
        }
        if (!is_soft)
            bk_buffer_append_literal(out, "\r\n");
    }
}

static void decode_base64(struct bk_slice rest, struct bk_buffer *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    while (rest.length > 0) {
        struct bk_slice line = take_line(&rest);
        BK_ASSERT(line.length % 4 == 0 && line.length <= 76);
        for (size_t i = 0; i < line.length; i += 4) {
            uint32_t bits = 0;
            int count = line.data[i + 2] == '=' ? 1 : line.data[i + 3] == '=' ? 2 : 3;
            for (size_t j = 0; j < 4; j++) {
                int value = value_of(digits, line.data[i + j]);
                BK_ASSERT(value >= 0 || (line.data[i + j] == '=' && (int)j > count));
                bits = bits << 6 | (uint32_t)(value < 0 ? 0 : value);
            }
            for (int j = 0; j < count; j++)
                bk_buffer_append_char(out, (char)(bits >> (16 - 8 * j) & 0xff));
        }
    }
}

/* Each line ends in CR LF, also the last. */
static void normalise(struct bk_slice text, struct bk_buffer *out) {
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] == '\r' && i + 1 < text.length && text.data[i + 1] == '\n')
            i++;
        if (text.data[i] == '\r' || text.data[i] == '\n')
            bk_buffer_append_literal(out, "\r\n");
        else
            bk_buffer_append_char(out, text.data[i]);
    }
    if (text.length > 0 && text.data[text.length - 1] != '\n' && text.data[text.length - 1] != '\r')
        bk_buffer_append_literal(out, "\r\n");
}

static void fuzz_body(struct bk_slice text) {
    struct bk_buffer out, decoded, wanted;
    bk_buffer_init(&out, MAIL_BYTES_MAX);
    bk_buffer_init(&decoded, MAIL_BYTES_MAX);
    bk_buffer_init(&wanted, MAIL_BYTES_MAX);
    mail_body_write(&out, "text/plain", text);
    struct bk_slice rest = bk_buffer_slice(&out);
    (void)take_line(&rest);
    struct bk_slice encoding = take_line(&rest);
    BK_ASSERT(take_line(&rest).length == 0);
    for (struct bk_slice lines = rest; lines.length > 0;)
        check_line(take_line(&lines));
    if (bk_slice_ends_with(encoding, BK_SLICE("base64")))
        decode_base64(rest, &decoded);
    else
        decode_quoted(rest, &decoded);
    normalise(text, &wanted);
    BK_ASSERT(bk_slice_equal(bk_buffer_slice(&decoded), bk_buffer_slice(&wanted)));
    bk_buffer_fini(&wanted);
    bk_buffer_fini(&decoded);
    bk_buffer_fini(&out);
}

/* --- a page, a template ----------------------------------------------------------------------- */

static void fuzz_page(struct bk_slice html) {
    struct bk_buffer out;
    bk_buffer_init(&out, MAIL_TEXT_BYTES_MAX);
    mail_html_to_text(html, &out);
    if (bk_buffer_status(&out) == BK_OK && bk_slice_is_utf8(html))
        BK_ASSERT(bk_slice_is_utf8(bk_buffer_slice(&out)));
    bk_buffer_fini(&out);
}

static size_t count_of(struct bk_slice text, char c) {
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += text.data[i] == c;
    return count;
}

static bool has(struct bk_slice text, const char *part) {
    return text.length > 0 && memmem(text.data, text.length, part, strlen(part)) != NULL;
}

static void fuzz_template(struct bk_slice text) {
    static const char secret[] = "7f3a91";
    static struct mail_variables variables;
    struct bk_buffer out;
    variables.count = 0;
    mail_variables_add(&variables, BK_SLICE("TOKEN"), bk_slice_from(secret), false);
    mail_variables_add(&variables, BK_SLICE("RECORD:name"), BK_SLICE("<i>\"{TOKEN}'\r\nBcc: &"),
                       false);
    mail_variables_add(&variables, BK_SLICE("APP_NAME"), BK_SLICE("App <\n>"), true);
    for (int filling = MAIL_FILL_HTML; filling <= MAIL_FILL_PUBLIC_LINE; filling++) {
        bk_buffer_init(&out, MAIL_TEXT_BYTES_MAX);
        mail_template_fill(text, &variables, (enum mail_filling)filling, &out);
        struct bk_slice filled = bk_buffer_slice(&out);
        if (filling == MAIL_FILL_HTML)
            BK_ASSERT(count_of(filled, '<') == count_of(text, '<') &&
                      count_of(filled, '"') == count_of(text, '"'));
        else
            BK_ASSERT(!mail_has_control(filled));
        /* What was put in is not looked at again, and a secret is no part of what all may see. */
        if (has(filled, secret) && !has(text, secret))
            BK_ASSERT(filling != MAIL_FILL_PUBLIC_LINE && has(text, "{TOKEN}"));
        bk_buffer_fini(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size);
    struct bk_slice rest = bk_slice_make(copy.data + 1, size > 0 ? size - 1 : 0);
    switch (size > 0 ? data[0] : '\0') {
    case 'm':
        fuzz_payload(rest);
        break;
    case 'b':
        fuzz_body(rest);
        break;
    case 'h':
        fuzz_page(rest);
        break;
    case 't':
        fuzz_template(rest);
        break;
    default:
        break;
    }
    fuzz_free(copy);
    return 0;
}
