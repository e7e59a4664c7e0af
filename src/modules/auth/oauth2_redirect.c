/*
 * Where a provider sends people back to. The page that began listens on an event stream, under the
 * topic @oauth2, and the state that it gave the provider is the id of that stream: it alone is told
 * the code, once, and goes on with it; the popup ends at a page that says how it went, see pages.c.
 *
 * Whoever is tricked into ending a sign-in that somebody else has begun comes from another address
 * than the stream, and nobody is told. The id of a stream is 40 random characters that only its
 * client has seen, so of whichever tenant it is, it is found here.
 *
 * Apple tells the name of a person here, and never again: it is kept for a minute, for whoever
 * comes with the code.
 */
#include "bakend/crypto.h"
#include "oauth2.h"

enum { NAME_MS = 60 * 1000, MESSAGE_BYTES_MAX = 256 * 1024, TEMPORARY = 307, SEE_OTHER = 303 };

#define TOPIC "@oauth2"

/* --- names ------------------------------------------------------------------------------------ */

static struct bk_slice cut(struct bk_slice text, size_t length) {
    if (text.length <= length)
        return text;
    while (length > 0 && ((unsigned char)text.data[length] & 0xC0U) == 0x80U)
        length--;
    return bk_slice_make(text.data, length);
}

/* {"name":{"firstName":"…","lastName":"…"}}; what cannot be read is left out. */
static void keep_name(struct bk_request *request, struct bk_slice code, struct bk_slice user) {
    const struct bk_module_context *context = request->module;
    const struct auth_state *state = context->state;
    struct auth_oauth2 *oauth2 = state->oauth2;
    struct bk_json *json;
    if (user.length == 0 || bk_json_parse(&request->arena, user, &json, NULL) != BK_OK)
        return;
    const struct bk_json *name = bk_json_get(json, BK_SLICE("name"));
    struct bk_slice first = bk_json_get_string(name, BK_SLICE("firstName"));
    struct bk_slice last = bk_json_get_string(name, BK_SLICE("lastName"));
    struct bk_slice whole = bk_slice_trim(cut(
        bk_arena_format(&request->arena, "%.*s %.*s", BK_SLICE_PRINT(first), BK_SLICE_PRINT(last)),
        OAUTH2_NAME_BYTES_MAX));
    if (whole.length == 0)
        return;
    struct oauth2_name *kept = &oauth2->names[oauth2->next_name++ % OAUTH2_NAMES_MAX];
    bk_sha256(kept->code, code);
    kept->expires_ms = bk_loop_now_ms(context->loop) + NAME_MS;
    kept->length = (uint32_t)whole.length;
    memcpy(kept->text, whole.data, whole.length);
}

struct bk_slice auth_oauth2_name_take(struct auth_oauth2 *oauth2, struct bk_slice code,
                                      struct bk_arena *arena) {
    uint64_t now_ms = bk_loop_now_ms(oauth2->context->loop);
    uint8_t digest[BK_SHA256_BYTES];
    bk_sha256(digest, code);
    for (size_t i = 0; i < OAUTH2_NAMES_MAX; i++) {
        struct oauth2_name *name = &oauth2->names[i];
        if (name->length == 0 || memcmp(name->code, digest, sizeof digest) != 0)
            continue;
        struct bk_slice text = now_ms < name->expires_ms
                                   ? bk_arena_copy(arena, bk_slice_make(name->text, name->length))
                                   : BK_SLICE_EMPTY;
        memset(name, 0, sizeof *name);
        return text;
    }
    return BK_SLICE_EMPTY;
}

/* --- the redirect ----------------------------------------------------------------------------- */

static struct bk_slice read_text(struct bk_request *request, const char *name) {
    return request->method == BK_POST ? bk_json_get_string(request->json, bk_slice_from(name))
                                      : bk_request_query(request, bk_slice_from(name));
}

static enum bk_status tell(struct bk_request *request, struct bk_slice state, struct bk_slice code,
                           struct bk_slice error) {
    struct bk_buffer data;
    bk_buffer_init(&data, MESSAGE_BYTES_MAX);
    bk_buffer_append_char(&data, '{');
    bk_json_write_member_string(&data, BK_SLICE("state"), state);
    bk_json_write_member_string(&data, BK_SLICE("code"), code);
    if (error.length > 0)
        bk_json_write_member_string(&data, BK_SLICE("error"), error);
    bk_buffer_append_char(&data, '}');
    const struct bk_client_message message = {.client_id = state,
                                              .address = request->remote_address,
                                              .topic = BK_SLICE(TOPIC),
                                              .data = bk_buffer_slice(&data)};
    enum bk_status status = bk_buffer_status(&data);
    if (status == BK_OK)
        status = bk_api_tell_client(request->api, &message);
    bk_buffer_fini(&data);
    return status;
}

void auth_oauth2_redirect(struct bk_request *request) {
    struct bk_slice state = read_text(request, "state"), code = read_text(request, "code");
    struct bk_slice error = read_text(request, "error");
    bool is_told = state.length > 0 && tell(request, state, code, error) == BK_OK;
    bool is_well = is_told && error.length == 0 && code.length > 0;
    if (is_well && request->method == BK_POST)
        keep_name(request, code, read_text(request, "user"));
    request->content_type = "";
    bk_answer_header(request, "Location",
                     is_well ? BK_SLICE("../_/#/auth/oauth2-redirect-success")
                             : BK_SLICE("../_/#/auth/oauth2-redirect-failure"));
    bk_answer_header(request, "Cache-Control", BK_SLICE("no-store"));
    bk_answer_header(request, "Referrer-Policy", BK_SLICE("no-referrer"));
    bk_answer(request, request->method == BK_POST ? SEE_OTHER : TEMPORARY);
}
