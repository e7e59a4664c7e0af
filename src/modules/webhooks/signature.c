/*
 * The headers of a delivery, as Standard Webhooks 1.0.0 has them, made for each attempt: a
 * signature whose time is too old is refused by whoever verifies it.
 *
 *   webhook-id         the event's id: the same at each attempt, resending and replay
 *   webhook-timestamp  seconds, of this attempt
 *   webhook-signature  v1,… with the secret; v1,… with the previous one while that counts;
 *                      v1a,… (Ed25519) where it was asked for: one space between
 *
 * What is signed is id "." timestamp "." body, the body as it is sent, in each format. Receivers
 * take the first entry that fits, so the newest secret stands first.
 */
#include "webhooks.h"

#include "bakend/encode.h"

enum {
    HEADERS_OF_OURS = 6,
    MAC_TEXT_BYTES = BK_BASE64_BYTES(BK_SHA256_BYTES),
    SIGNATURE_TEXT_BYTES = BK_BASE64_BYTES(BK_ED25519_SIGNATURE_BYTES),
    ENTRIES_BYTES = 2 * (sizeof "v1, " + MAC_TEXT_BYTES) + sizeof "v1a," + SIGNATURE_TEXT_BYTES,
};

struct headers {
    struct bk_outbound_header *all;
    size_t count, room;
};

static void add(struct headers *headers, struct bk_slice name, struct bk_slice value) {
    BK_ASSERT(headers->count < headers->room);
    headers->all[headers->count++] = (struct bk_outbound_header){name, value};
}

/* --- the signature ---------------------------------------------------------------------------- */

struct entries {
    char *text;
    size_t length;
    struct bk_slice head, body; /* what is signed */
};

static void add_entry(struct entries *entries, struct bk_slice version, const uint8_t *bytes,
                      size_t length) {
    if (entries->length > 0)
        entries->text[entries->length++] = ' ';
    memcpy(entries->text + entries->length, version.data, version.length);
    entries->length += version.length;
    entries->length += bk_base64_encode(entries->text + entries->length, bytes, length);
    BK_ASSERT(entries->length <= ENTRIES_BYTES);
}

static void add_mac(struct entries *entries, const uint8_t *secret, uint32_t length) {
    uint8_t mac[BK_SHA256_BYTES];
    bk_hmac_sha256(mac, bk_slice_make((const char *)secret, length), entries->head, entries->body);
    add_entry(entries, BK_SLICE("v1,"), mac, sizeof mac);
}

static struct bk_slice make_entries(const struct webhooks_signing *signing, struct bk_slice head,
                                    struct bk_arena *arena) {
    const struct webhooks_config *config = signing->config;
    const struct webhooks_keys *keys = &config->keys;
    uint8_t signature[BK_ED25519_SIGNATURE_BYTES];
    struct entries entries = {
        .text = bk_arena_alloc(arena, ENTRIES_BYTES), .head = head, .body = signing->body};
    add_mac(&entries, keys->secret, keys->secret_length);
    if (keys->previous_length > 0 && signing->now_s * 1000 < keys->previous_until_ms)
        add_mac(&entries, keys->previous, keys->previous_length);
    if (keys->has_seed) {
        bk_ed25519_sign(signature, &config->signer, head, signing->body);
        add_entry(&entries, BK_SLICE("v1a,"), signature, sizeof signature);
    }
    return bk_slice_make(entries.text, entries.length);
}

static void add_signature(const struct webhooks_signing *signing, struct bk_arena *arena,
                          struct headers *headers) {
    struct bk_slice id = signing->event->id;
    struct bk_slice head =
        bk_arena_format(arena, "%.*s.%lld.", BK_SLICE_PRINT(id), (long long)signing->now_s);
    struct bk_slice time = bk_slice_make(head.data + id.length + 1, head.length - id.length - 2);
    add(headers, BK_SLICE("webhook-id"), id);
    add(headers, BK_SLICE("webhook-timestamp"), time);
    add(headers, BK_SLICE("webhook-signature"), make_entries(signing, head, arena));
}

/* --- the others ------------------------------------------------------------------------------- */

static struct bk_slice content_type(enum webhooks_format format) {
    return format == WEBHOOKS_CLOUDEVENTS ? BK_SLICE("application/cloudevents+json; charset=utf-8")
                                          : BK_SLICE("application/json");
}

/* The attributes of an event whose body is the data alone. */
static void add_attributes(const struct webhooks_signing *signing, struct bk_arena *arena,
                           struct headers *headers) {
    struct webhooks_cloudevent *made = bk_arena_alloc(arena, sizeof *made);
    webhooks_cloudevent_init(made, signing->event, signing->form);
    for (uint32_t i = 0; i < made->event.attribute_count; i++) {
        const struct bk_cloudevent_attribute *attribute = &made->event.attributes[i];
        add(headers, bk_arena_format(arena, "ce-%.*s", BK_SLICE_PRINT(attribute->name)),
            bk_cloudevent_header_value(attribute, arena));
    }
}

enum bk_status webhooks_sign(const struct webhooks_signing *signing, struct bk_arena *arena,
                             struct bk_outbound_request *request) {
    const struct webhooks_config *config = signing->config;
    struct headers headers = {.room = HEADERS_OF_OURS + BK_CLOUDEVENT_ATTRIBUTES_MAX +
                                      config->header_count};
    BK_ASSERT(headers.room <= BK_OUTBOUND_HEADERS_MAX && signing->body.length > 0);
    if (config->keys.secret_length == 0)
        return BK_CORRUPT;
    headers.all = bk_arena_alloc(arena, headers.room * sizeof *headers.all);
    add(&headers, BK_SLICE("content-type"), content_type(signing->form->format));
    add(&headers, BK_SLICE("user-agent"), BK_SLICE("Bakend"));
    add_signature(signing, arena, &headers);
    if (signing->form->format == WEBHOOKS_CLOUDEVENTS_BINARY)
        add_attributes(signing, arena, &headers);
    if (config->origin.length > 0)
        add(&headers, BK_SLICE("webhook-request-origin"), config->origin);
    for (size_t i = 0; i < config->header_count; i++)
        add(&headers, config->headers[i].name, config->headers[i].value);
    request->headers = headers.all;
    request->header_count = headers.count;
    return bk_arena_status(arena);
}
