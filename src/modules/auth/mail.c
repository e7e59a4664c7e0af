/*
 * Mails of this module: one of the collection's templates with what only this module knows, a token
 * or a code. A mail is work of the transaction that it follows from: no token without its mail, no
 * mail of a change that was taken back. Everything else (the template, the record, the
 * application's address) is read when it is sent, from what the tenant has then and from nowhere
 * else: no request has a say in where its links lead.
 */
#include "auth.h"
#include "bakend/clock.h"

enum { PAYLOAD_BYTES_MAX = BK_WORK_PAYLOAD_MAX_BYTES };

static void write_variables(const struct auth_mail *mail, struct bk_buffer *out) {
    bk_json_write_key(out, BK_SLICE("variables"));
    bk_buffer_append_char(out, '{');
    for (size_t i = 0; i < BK_COUNT_OF(mail->variables); i++)
        if (mail->variables[i].name != NULL)
            bk_json_write_member_string(out, bk_slice_from(mail->variables[i].name),
                                        mail->variables[i].value);
    bk_buffer_append_char(out, '}');
}

static void write_payload(const struct auth_mail *mail, struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("template"), bk_slice_from(mail->template));
    bk_json_write_member_string(out, BK_SLICE("collection"), mail->collection);
    bk_json_write_member_string(out, BK_SLICE("record"), mail->record);
    if (mail->to.length > 0)
        bk_json_write_member_string(out, BK_SLICE("to"), mail->to);
    write_variables(mail, out);
    if (mail->expires_ms > 0) {
        char text[BK_TIME_TEXT_BYTES];
        bk_time_format(text, mail->expires_ms, 'T');
        bk_json_write_member_string(out, BK_SLICE("expires"), bk_slice_make(text, sizeof text));
    }
    bk_buffer_append_char(out, '}');
}

enum bk_status auth_mail_add(const struct bk_module_context *context,
                             struct bk_transaction *transaction, const struct auth_mail *mail,
                             char task[BK_WORK_ID_BYTES + 1]) {
    struct bk_buffer payload;
    BK_ASSERT(mail->template != NULL && mail->collection.length > 0 && mail->record.length > 0);
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    write_payload(mail, &payload);
    enum bk_status status = bk_buffer_status(&payload);
    if (status == BK_OK) {
        const struct bk_work_draft draft = {.kind = "mail", .payload = bk_buffer_slice(&payload)};
        status = bk_work_add(context->work, transaction, &draft, task);
    }
    bk_buffer_fini(&payload);
    return status;
}
