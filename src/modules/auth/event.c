/*
 * What happens to an account, as an event: whose it is, who did it and from where. Never a secret:
 * no identity as it was typed, no token, no code.
 */
#include "auth.h"

enum { PAYLOAD_BYTES_MAX = 16 * 1024, USER_AGENT_BYTES_MAX = 512 };

/* Not in the middle of a character. */
struct bk_slice auth_user_agent_cut(struct bk_slice user_agent) {
    size_t length = USER_AGENT_BYTES_MAX;
    while (length > 0 && length < user_agent.length &&
           ((unsigned char)user_agent.data[length] & 0xC0U) == 0x80U)
        length--;
    return user_agent.length <= length ? user_agent : bk_slice_make(user_agent.data, length);
}

static void write_payload(const struct auth_fact *fact, struct bk_slice remote_address,
                          struct bk_slice user_agent, struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("collection"), fact->collection);
    if (fact->subject.length == 0)
        bk_json_write_member_string(out, BK_SLICE("id"), fact->id);
    for (size_t i = 0; i < AUTH_FACT_TEXTS_MAX && fact->texts[i].name != NULL; i++)
        bk_json_write_member_string(out, bk_slice_from(fact->texts[i].name), fact->texts[i].value);
    bk_json_write_member_string(out, BK_SLICE("remoteAddress"), remote_address);
    bk_json_write_member_string(out, BK_SLICE("userAgent"), auth_user_agent_cut(user_agent));
    bk_buffer_append_char(out, '}');
}

/* Empty: nobody's, as of a wrong address. */
static struct bk_slice subject_of(const struct auth_fact *fact,
                                  struct bk_transaction *transaction) {
    if (fact->id.length == 0)
        return fact->subject;
    return bk_arena_format(bk_transaction_arena(transaction), "%.*s/%.*s",
                           BK_SLICE_PRINT(fact->collection), BK_SLICE_PRINT(fact->id));
}

enum bk_status auth_event_emit(struct bk_transaction *transaction, const struct auth_fact *fact) {
    static const struct bk_origin nowhere;
    const struct bk_origin *origin = bk_transaction_origin(transaction);
    struct bk_buffer payload;
    BK_ASSERT(fact->type != NULL && fact->collection.length > 0);
    if (origin == NULL)
        origin = &nowhere;
    bk_buffer_init(&payload, PAYLOAD_BYTES_MAX);
    write_payload(fact,
                  fact->remote_address.length > 0 ? fact->remote_address : origin->remote_address,
                  fact->user_agent.length > 0 ? fact->user_agent : origin->user_agent, &payload);
    enum bk_status status = bk_buffer_status(&payload);
    if (status == BK_OK) {
        const struct bk_event_draft draft = {.type = bk_slice_from(fact->type),
                                             .source = BK_SLICE("auth"),
                                             .subject = subject_of(fact, transaction),
                                             .actor = fact->actor,
                                             .payload = bk_buffer_slice(&payload)};
        status = bk_transaction_emit(transaction, &draft);
    }
    bk_buffer_fini(&payload);
    return status;
}
