/*
 * An event in the logs: one structured line on standard error, and a row. Never its payload: that
 * may hold anything, and it is in the journal.
 */
#include "logging_private.h"

enum { DATA_BYTES_MAX = 16 * 1024 };

static void write_row(struct logging_journal *journal, const struct bk_event_fields *fields) {
    struct bk_buffer data;
    bk_buffer_init(&data, DATA_BYTES_MAX);
    bk_buffer_append_char(&data, '{');
    bk_json_write_member_string(&data, BK_SLICE("actor"), fields->actor);
    if (fields->cause.length > 0)
        bk_json_write_member_string(&data, BK_SLICE("cause"), fields->cause);
    bk_json_write_member_string(&data, BK_SLICE("id"), fields->id);
    if (fields->sequence != 0)
        bk_json_write_member_int(&data, BK_SLICE("sequence"), (int64_t)fields->sequence);
    bk_json_write_member_string(&data, BK_SLICE("source"), fields->source);
    bk_json_write_member_string(&data, BK_SLICE("subject"), fields->subject);
    bk_json_write_member_string(&data, BK_SLICE("type"), BK_SLICE("event"));
    bk_buffer_append_char(&data, '}');
    if (!data.is_overflown)
        logging_rows_add(journal, LOGGING_INFO, fields->type, bk_buffer_slice(&data));
    bk_buffer_fini(&data);
}

void logging_event(struct logging *logging, struct logging_journal *journal,
                   const struct bk_event *event) {
    const struct bk_event_fields *fields = &event->fields;
    bk_log_info(&logging->context->log, "event", BK_STRING("type", fields->type),
                BK_STRING("id", fields->id), BK_INT("sequence", fields->sequence),
                BK_STRING("subject", fields->subject), BK_STRING("actor", fields->actor),
                BK_STRING("tenant", fields->tenant), BK_STRING("source", fields->source));
    if (journal != NULL && logging_rows_admit(journal))
        write_row(journal, fields);
}
