/*
 * Addresses that nobody has, when a one-time password is asked for: they are answered as if
 * somebody had them, so that nobody finds out who has an account. That is
 *
 *   an id      a new one ten times, then the last one again, as long as a code would be good
 *   a limit    five entries in three minutes, over all ids that the address was given
 *
 * In memory, bounded: what is forgotten looks like a code whose time is over. Ids are made of
 * address and moment under a key of the instance, so that none has to be kept.
 */
#include "auth.h"
#include "bakend/clock.h"
#include "bakend/crypto.h"

enum {
    KEPT_MAX = 20000,    /* two for each address; about 2 MB */
    TIME_CHARACTERS = 8, /* of an id, see id.h */
};

void auth_otp_unknown_init(struct auth_state *state) {
    bk_tally_init(&state->otp_unknown, KEPT_MAX);
}

void auth_otp_unknown_fini(struct auth_state *state) { bk_tally_fini(&state->otp_unknown); }

static struct auth_state *state_of(const struct bk_request *request) {
    const struct bk_module_context *context = request->module;
    return context->state;
}

static uint64_t key_of(const struct bk_request *request, const struct bk_collection *collection,
                       struct bk_slice kind, struct bk_slice text) {
    const struct bk_slice texts[] = {kind, request->tenant->name, collection->id, text};
    return bk_tally_key(texts, BK_COUNT_OF(texts));
}

/* An id of that moment, whose end nobody can tell from a random one. */
static void make_id(const struct bk_module_context *context, uint64_t address, int64_t at_ms,
                    char id[BK_RECORD_ID_BYTES]) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    uint8_t secret[BK_KEY_BYTES], mac[BK_SHA256_BYTES];
    bk_derive_key(secret, context->instance_key, BK_SLICE("bakend ids for unknown addresses"));
    bk_hmac_sha256(mac, bk_slice_make((const char *)secret, sizeof secret),
                   bk_slice_make((const char *)&address, sizeof address),
                   bk_slice_make((const char *)&at_ms, sizeof at_ms));
    bk_crypto_wipe(secret, sizeof secret);
    bk_record_id_make(id, at_ms);
    for (size_t i = TIME_CHARACTERS; i < BK_RECORD_ID_BYTES; i++)
        id[i] = digits[mac[i] % (sizeof digits - 1)];
}

/* By wall time, which ids are made of. */
void auth_otp_pretend(const struct bk_request *request, const struct bk_collection *collection,
                      struct bk_slice address, char id[BK_RECORD_ID_BYTES]) {
    struct bk_tally *unknown = &state_of(request)->otp_unknown;
    uint64_t now_ms = (uint64_t)bk_clock_wall_ms();
    uint64_t window_ms = (uint64_t)auth_option_number(collection, "otp", "duration") * 1000;
    uint64_t key = key_of(request, collection, BK_SLICE("address"), address);
    struct bk_tally_entry *asked = bk_tally_take(unknown, key, now_ms, window_ms);
    if (asked->count < AUTH_OTP_PENDING_MAX) {
        uint64_t begun_ms = asked->begun_ms < now_ms ? asked->begun_ms : now_ms;
        uint32_t age_ms = (uint32_t)(now_ms - begun_ms);
        bool is_later = asked->count == 0 || age_ms > asked->open_count;
        asked->open_count = is_later ? age_ms : asked->open_count + 1; /* of the last id */
        asked->count++;
    }
    make_id(request->module, key, (int64_t)(asked->begun_ms + asked->open_count), id);
    /* By the id the address is found again. */
    struct bk_slice text = bk_slice_make(id, BK_RECORD_ID_BYTES);
    uint64_t id_key = key_of(request, collection, BK_SLICE("id"), text);
    bk_tally_take(unknown, id_key, now_ms, window_ms)->count = (uint32_t)key;
}

bool auth_otp_pretended(const struct bk_request *request, const struct bk_collection *collection,
                        struct bk_slice id, uint32_t *address) {
    const struct bk_tally_entry *entry = bk_tally_find(
        &state_of(request)->otp_unknown, key_of(request, collection, BK_SLICE("id"), id),
        (uint64_t)bk_clock_wall_ms());
    if (entry != NULL)
        *address = entry->count;
    return entry != NULL;
}
