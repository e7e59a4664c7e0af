/*
 * What is SMTP's. libcurl speaks it; this file reads the replies as they pass, since libcurl tells
 * only at which step a mail was refused, and its caller must know by which reply: 4xx is worth
 * another try, 5xx is not.
 *
 *   greeting EHLO STARTTLS EHLO AUTH │ MAIL RCPT … RCPT DATA │ text
 *                          on_ready ─┘   0    1  …   n
 *
 * Replies are counted from on_ready on (gate.c), so that those to RCPT are known by their place.
 * The one to QUIT, which libcurl says at once when a mail was refused, does not count.
 *
 * TLS that is asked for is never done without: CURLUSESSL_ALL, and a second look before MAIL. Where
 * it is wished for, what was written in plain text so far is EHLO.
 *
 * libcurl says QUIT when it gives up a connection, and waits two minutes for the answer with the
 * thread. So once the last word was said, what would be read ends.
 *
 * A server may think about a mail for minutes, so nothing but the timeout ends the wait.
 */
#include "outbound_private.h"

#include <string.h>

enum { FIRST_REFUSAL = 400, LOGIN_DONE = 235, FAREWELL = 221, CODE_DIGITS = 3 };

static long ssl_level(const struct bk_outbound_call *call) {
    switch (call->request->smtp->security) {
    case BK_SMTP_PLAIN:
        return CURLUSESSL_NONE;
    case BK_SMTP_STARTTLS_IF_OFFERED:
        return call->channel->policy.allows_plain ? CURLUSESSL_TRY : CURLUSESSL_ALL;
    case BK_SMTP_STARTTLS:
    case BK_SMTP_TLS:
        break;
    }
    return CURLUSESSL_ALL;
}

/* --- replies ---------------------------------------------------------------------------------- */

/* "250-text", "250 text" or "250"; false: it is no line of a reply. */
static bool read_line(struct bk_slice line, uint32_t *code, bool *is_continued) {
    *code = 0;
    if (line.length < CODE_DIGITS)
        return false;
    for (size_t i = 0; i < CODE_DIGITS; i++) {
        if (line.data[i] < '0' || line.data[i] > '9')
            return false;
        *code = *code * 10 + (uint32_t)(line.data[i] - '0');
    }
    *is_continued = line.length > CODE_DIGITS && line.data[CODE_DIGITS] == '-';
    return *is_continued || line.length == CODE_DIGITS || line.data[CODE_DIGITS] == ' ';
}

/* Whether libcurl sends no more commands of this mail after the reply in this place. */
static bool is_last_word(const struct bk_outbound_call *call, uint32_t place, uint32_t code) {
    const struct bk_smtp *smtp = call->request->smtp;
    bool is_of_recipient = place >= 1 && place <= smtp->recipient_count;
    if (code < FIRST_REFUSAL)
        return place > smtp->recipient_count + 1;
    if (!is_of_recipient || smtp->replies == NULL)
        return true;
    return place == smtp->recipient_count && call->reply.accepted_count == 0;
}

/* The same of the replies before: to the greeting 0, EHLO 1, then STARTTLS, HELO or AUTH. */
static bool is_last_word_before(const struct bk_outbound_call *call, uint32_t place,
                                uint32_t code) {
    enum bk_smtp_security security = call->request->smtp->security;
    bool needs_offer = place == 1 && security != BK_SMTP_TLS && ssl_level(call) == CURLUSESSL_ALL;
    bool is_of_starttls = place == 2 && call->reply.offers_starttls;
    if (code < FIRST_REFUSAL)
        return needs_offer && !call->reply.offers_starttls;
    if (is_of_starttls)
        return ssl_level(call) == CURLUSESSL_ALL;
    return place != 1; /* HELO is tried after EHLO */
}

static void note_reply_before(struct bk_outbound_call *call, uint32_t code) {
    if (is_last_word_before(call, call->reply.count, code))
        outbound_gate_stop_reading(call);
    call->reply.is_logged_in = call->reply.is_logged_in || code == LOGIN_DONE;
    call->reply.count++;
}

static void note_reply(struct bk_outbound_call *call, uint32_t code) {
    const struct bk_smtp *smtp = call->request->smtp;
    uint32_t place = call->reply.count;
    call->reply.code = code;
    if (!call->reply.is_transacting) {
        note_reply_before(call, code);
        return;
    }
    if (place >= 1 && place <= smtp->recipient_count) {
        call->reply.accepted_count += code < FIRST_REFUSAL;
        if (smtp->replies != NULL)
            smtp->replies[place - 1] = (uint16_t)code;
    }
    call->reply.is_over = is_last_word(call, place, code);
    if (call->reply.is_over && code >= FIRST_REFUSAL)
        outbound_gate_stop_reading(call);
    call->reply.count++;
}

static bool offers_starttls(struct bk_slice line) {
    struct bk_slice word = BK_SLICE("STARTTLS");
    return line.length >= CODE_DIGITS + 1 + word.length &&
           bk_slice_equal_ignore_case(bk_slice_make(line.data + CODE_DIGITS + 1, word.length),
                                      word);
}

/* The texts of a reply's lines, one behind the other. */
static void keep_text(struct bk_outbound_call *call, struct bk_slice line) {
    struct bk_slice text = BK_SLICE_EMPTY;
    size_t room = BK_OUTBOUND_REPLY_MAX_BYTES - call->body.length;
    if (line.length > CODE_DIGITS + 1)
        text = bk_slice_make(line.data + CODE_DIGITS + 1, line.length - CODE_DIGITS - 1);
    if (call->body.length > 0 && text.length > 0 && room > 0) {
        bk_buffer_append_char(&call->body, ' ');
        room--;
    }
    bk_buffer_append(&call->body, text.data, text.length < room ? text.length : room);
}

/* Each line of each reply. */
static size_t on_reply_line(char *data, size_t size, size_t count, void *user) {
    struct bk_outbound_call *call = user;
    size_t length = size * count;
    struct bk_slice line = bk_slice_trim(bk_slice_make(data, length));
    bool is_continued;
    uint32_t code;
    call->head_bytes += length;
    if (call->head_bytes > BK_OUTBOUND_HEAD_MAX_BYTES) {
        call->is_too_large = true;
        return 0;
    }
    if (call->reply.is_over || !read_line(line, &code, &is_continued) || code == FAREWELL)
        return length;
    if (!call->reply.is_continued)
        bk_buffer_clear(&call->body);
    if (!call->reply.is_transacting && call->reply.count == 1)
        call->reply.offers_starttls |= offers_starttls(line);
    keep_text(call, line);
    call->reply.is_continued = is_continued;
    if (!is_continued)
        note_reply(call, code);
    return length;
}

bool outbound_mail_was_refused(const struct bk_outbound_call *call, CURLcode code) {
    if (call->reply.code < FIRST_REFUSAL || call->reply.is_continued)
        return false;
    return code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_REMOTE_ACCESS_DENIED ||
           code == CURLE_SEND_ERROR || code == CURLE_UPLOAD_FAILED;
}

/* --- the mail --------------------------------------------------------------------------------- */

static size_t on_upload(char *room, size_t size, size_t count, void *user) {
    struct bk_outbound_call *call = user;
    struct bk_slice message = call->request->smtp->message;
    size_t length = message.length - call->uploaded_bytes;
    if (!outbound_call_say(call))
        return CURL_READFUNC_ABORT;
    if (length > size * count)
        length = size * count;
    memcpy(room, message.data + call->uploaded_bytes, length);
    call->uploaded_bytes += length;
    return length;
}

static void set_recipients(struct bk_outbound_call *call) {
    const struct bk_smtp *smtp = call->request->smtp;
    for (size_t i = 0; i < smtp->recipient_count; i++) {
        struct bk_buffer line;
        bk_buffer_init(&line, smtp->recipients[i].length + 1);
        bk_buffer_append_slice(&line, smtp->recipients[i]);
        bk_buffer_append_char(&line, '\0');
        bk_buffer_insist(&line);
        outbound_add_line(call, &call->recipients, line.data);
        bk_buffer_fini(&line);
    }
    outbound_set_pointer(call, CURLOPT_MAIL_RCPT, call->recipients);
    outbound_set_long(call, CURLOPT_MAIL_RCPT_ALLLOWFAILS, smtp->replies != NULL);
    if (smtp->replies != NULL)
        memset(smtp->replies, 0, sizeof(*smtp->replies) * smtp->recipient_count);
}

static void set_login(struct bk_outbound_call *call) {
    const struct bk_smtp *smtp = call->request->smtp;
    if (smtp->login == BK_SMTP_LOGIN_NONE)
        return;
    outbound_set_slice(call, CURLOPT_USERNAME, smtp->user);
    outbound_set_slice(call, CURLOPT_PASSWORD, smtp->password);
    outbound_set_pointer(call, CURLOPT_LOGIN_OPTIONS,
                         smtp->login == BK_SMTP_LOGIN_PLAIN ? "AUTH=PLAIN" : "AUTH=LOGIN");
}

void outbound_mail_prepare(struct bk_outbound_call *call) {
    const struct bk_smtp *smtp = call->request->smtp;
    outbound_set_pointer(call, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    outbound_set_pointer(call, CURLOPT_REDIR_PROTOCOLS_STR, "smtp,smtps");
    outbound_set_long(call, CURLOPT_USE_SSL, ssl_level(call));
    set_login(call);
    outbound_set_slice(call, CURLOPT_MAIL_FROM, smtp->from);
    set_recipients(call);
    outbound_set_long(call, CURLOPT_UPLOAD, 1);
    outbound_set_large(call, CURLOPT_INFILESIZE_LARGE, smtp->message.length);
    if (curl_easy_setopt(call->easy, CURLOPT_READFUNCTION, on_upload) != CURLE_OK ||
        curl_easy_setopt(call->easy, CURLOPT_HEADERFUNCTION, on_reply_line) != CURLE_OK)
        call->has_bad_option = true;
    outbound_set_pointer(call, CURLOPT_READDATA, call);
    outbound_set_pointer(call, CURLOPT_HEADERDATA, call);
}
