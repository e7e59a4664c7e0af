/*
 * A message as it goes over the wire (RFC 5322, MIME): head, then a text, a page, or both as
 * alternatives of which the reader shows the last that it can. Where there is only a page, the text
 * is made of it. Who gets a blind copy is in the envelope and not in here.
 *
 * Nothing but the date differs from one attempt to the next, and above all not the Message-ID: who
 * gets the message twice can tell by it.
 */
#include "mail.h"

#include "bakend/clock.h"

enum { DAY_MS = 24 * 3600 * 1000, DATE_BYTES_MAX = 64 };

/* "Sun, 22 Nov 2026 12:47:03 +0000" */
static void write_date(struct bk_buffer *out, int64_t wall_ms) {
    static const char days[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char text[BK_TIME_TEXT_BYTES];
    int64_t month = 1;
    bk_time_format(text, wall_ms, 'T');
    bk_slice_to_int64(bk_slice_make(text + 5, 2), &month);
    BK_ASSERT(wall_ms >= 0 && month >= 1 && month <= 12);
    bk_buffer_format(out, "Date: %.3s, %.2s %.3s %.4s %.8s +0000\r\n",
                     days + wall_ms / DAY_MS % 7 * 3, text + 8, months + (month - 1) * 3, text,
                     text + 11);
}

struct bk_slice mail_message_id(struct bk_slice id, struct bk_slice sender,
                                struct bk_arena *arena) {
    size_t at = bk_slice_find(sender, '@');
    return bk_arena_format(arena, "%.*s%.*s", BK_SLICE_PRINT(id), (int)(sender.length - at),
                           sender.data + at);
}

static void write_head(const struct mail_message *message, const struct mail_composing *composing,
                       struct bk_buffer *out) {
    write_date(out, composing->wall_ms);
    mail_header_write_addresses(out, "From", &composing->from);
    if (message->to != NULL)
        mail_header_write_addresses(out, "To", message->to);
    else if (message->cc == NULL)
        bk_buffer_append_literal(out, "To: undisclosed-recipients:;\r\n");
    if (message->cc != NULL)
        mail_header_write_addresses(out, "Cc", message->cc);
    if (message->reply_to != NULL)
        mail_header_write_addresses(out, "Reply-To", message->reply_to);
    mail_header_write(out, "Subject", message->subject);
    bk_buffer_format(out, "Message-ID: <%.*s>\r\nAuto-Submitted: auto-generated\r\n",
                     BK_SLICE_PRINT(composing->message_id));
    for (const struct mail_header *header = message->headers; header != NULL; header = header->next)
        mail_header_write_raw(out, header->name, header->value);
    bk_buffer_append_literal(out, "MIME-Version: 1.0\r\n");
}

/* "=_" is in no body: neither of the two encodings makes it. */
static void write_alternatives(struct bk_slice id, struct bk_slice text, struct bk_slice html,
                               struct bk_buffer *out) {
    bk_buffer_format(out,
                     "Content-Type: multipart/alternative;\r\n boundary=\"=_%.*s\"\r\n\r\n"
                     "--=_%.*s\r\n",
                     BK_SLICE_PRINT(id), BK_SLICE_PRINT(id));
    mail_body_write(out, "text/plain", text);
    bk_buffer_format(out, "--=_%.*s\r\n", BK_SLICE_PRINT(id));
    mail_body_write(out, "text/html", html);
    bk_buffer_format(out, "--=_%.*s--\r\n", BK_SLICE_PRINT(id));
}

enum bk_status mail_compose(const struct mail_message *message,
                            const struct mail_composing *composing, struct bk_buffer *out) {
    struct bk_buffer derived;
    struct bk_slice text = message->text;
    BK_ASSERT(mail_address_is_valid(composing->from.address));
    BK_ASSERT(composing->id.length > 0 && composing->message_id.length > 0);
    write_head(message, composing, out);
    if (message->html.length == 0) {
        mail_body_write(out, "text/plain", text);
        return bk_buffer_status(out);
    }
    bk_buffer_init(&derived, MAIL_TEXT_BYTES_MAX);
    if (text.length == 0) {
        mail_html_to_text(message->html, &derived);
        text = bk_buffer_slice(&derived);
    }
    write_alternatives(composing->id, text, message->html, out);
    enum bk_status status = bk_buffer_status(&derived);
    bk_buffer_fini(&derived);
    return status == BK_OK ? bk_buffer_status(out) : status;
}
