/*
 * Guesses at what somebody should know: passwords, codes, tokens of mails. Each
 * is counted as a failure before it is judged and given back when it was right,
 * so that a thousand guesses at once are no more than a thousand one after the
 * other. Counted are, in windows of `sign-in-window`:
 *
 *   pair      the account from this address     sign-in-failures-max
 *   account   from all addresses                sign-in-failures-account-max
 *   address   at all accounts                   sign-in-failures-address-max
 *   network   likewise, of a /48 of IPv6        three times that
 *   tenant    all of them                       sign-in-failures-tenant-max
 *
 * Whoever has signed in to the account from this address before is held to the
 * first alone: a stranger's failures lock nobody out who comes from where he
 * always comes from. Such places are kept in memory, and so is all of this: a
 * restart begins anew. The limit of the tenant, which many addresses can reach
 * together, holds for neither superusers nor whoever has a session of the account
 * or a ticket. Tickets alone are counted by address apart from the rest, since no
 * guess finds 160 bits.
 *
 * The account is what the client has typed, not what was found. Else a limit
 * would tell whether two names are one account, and whether there is any.
 *
 * Failures are events (auth.login_failed), but a flood of them is not to fill
 * the journal: past a few in a minute they are only counted, and the next event
 * says how many there were. No answer waits for an event.
 */
#include "auth.h"
#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/outbound.h"

enum attempt_key { KEY_TENANT, KEY_ADDRESS, KEY_NETWORK, KEY_PAIR, KEY_ACCOUNT };

enum {
    PLACE_WINDOW_DAYS = 30,
    REPORT_WINDOW_MS = 60 * 1000,
    EVENT_BYTES_MAX = 4 * 1024,
    USER_AGENT_BYTES_MAX = 512,
    ACCOUNT_BYTES_MAX = 255, /* longer ones are told apart by so many bytes */
    NETWORK_BYTES = 6,       /* of an address of IPv6: a /48 */
    NS_PER_MS = 1000 * 1000,
    MS_PER_SECOND = 1000,
};
/* Events in a minute, by enum attempt_key. */
static const uint32_t reports_max[AUTH_ATTEMPT_KEYS_MAX] = {60, 10, 30, 3, 5};

#define PLACE_WINDOW_MS ((uint64_t)PLACE_WINDOW_DAYS * 24 * 3600 * MS_PER_SECOND)

static const struct bk_module_context *context_of(const struct auth_attempt *attempt) {
    return attempt->context != NULL ? attempt->context : attempt->request->module;
}

static struct auth_attempts *attempts_of(const struct auth_attempt *attempt) {
    struct auth_state *state = context_of(attempt)->state;
    return &state->attempts;
}

static uint64_t now_ms(void) { return bk_clock_monotonic_ns() / NS_PER_MS; }

void auth_attempts_init(struct auth_attempts *attempts, const struct auth_options *options) {
    uint32_t memory_max = (uint32_t)options->failures_memory_max;
    bk_tally_init(&attempts->failures, memory_max);
    bk_tally_init(&attempts->tickets, memory_max);
    bk_tally_init(&attempts->reports, memory_max);
    bk_tally_init(&attempts->places, memory_max);
}

void auth_attempts_fini(struct auth_attempts *attempts) {
    bk_tally_fini(&attempts->failures);
    bk_tally_fini(&attempts->tickets);
    bk_tally_fini(&attempts->reports);
    bk_tally_fini(&attempts->places);
}

/* --- who counts ------------------------------------------------------------------------------- */

void auth_client_of(struct bk_slice remote_address, struct auth_client *client) {
    static const uint8_t ipv4[12] = {[10] = 0xff, [11] = 0xff};
    bk_address_client(remote_address, client->address);
    memcpy(client->network, client->address, sizeof client->network);
    if (memcmp(client->address, ipv4, sizeof ipv4) != 0)
        memset(client->network + NETWORK_BYTES, 0, sizeof client->network - NETWORK_BYTES);
}

static bool is_counted_by(const struct auth_attempt *attempt, uint32_t key) {
    bool is_of_account = key == KEY_PAIR || key == KEY_ACCOUNT;
    if (attempt->account.length == 0)
        return key == KEY_ADDRESS;
    return is_of_account || !attempt->is_further;
}

static bool is_known(const struct auth_attempt *attempt) {
    const struct bk_actor *actor = &attempt->request->actor;
    return attempt->has_ticket || bk_slice_is(attempt->collection->name, "_superusers") ||
           (actor->kind == BK_ACTOR_RECORD && bk_slice_equal(actor->id, attempt->account));
}

static struct bk_tally *tally_of(struct auth_attempts *attempts,
                                 const struct auth_attempt *attempt) {
    return attempt->account.length > 0 ? &attempts->failures : &attempts->tickets;
}

/* In lower case: whether names differ by it is the collection's business. */
static struct bk_slice fold(struct bk_slice text, char folded[ACCOUNT_BYTES_MAX]) {
    size_t length = text.length < ACCOUNT_BYTES_MAX ? text.length : ACCOUNT_BYTES_MAX;
    for (size_t i = 0; i < length; i++) {
        char c = text.data[i];
        folded[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    return bk_slice_make(folded, length);
}

static void make_keys(struct auth_attempt *attempt) {
    const struct bk_request *request = attempt->request;
    struct auth_client client;
    char folded[ACCOUNT_BYTES_MAX];
    auth_client_of(request->remote_address, &client);
    const struct bk_slice tenant = request->tenant->name,
                          address =
                              bk_slice_make((const char *)client.address, sizeof client.address),
                          network =
                              bk_slice_make((const char *)client.network, sizeof client.network),
                          account = fold(attempt->account, folded);
    const struct bk_slice texts[] = {tenant, attempt->collection->id, account, address};
    const struct bk_slice of_address[] = {tenant, address};
    const struct bk_slice of_network[] = {tenant, network, BK_SLICE("network")};
    attempt->keys[KEY_TENANT] = bk_tally_key(texts, 1);
    attempt->keys[KEY_ADDRESS] = bk_tally_key(of_address, 2);
    attempt->keys[KEY_NETWORK] = bk_tally_key(of_network, 3);
    attempt->keys[KEY_PAIR] = bk_tally_key(texts, 4);
    attempt->keys[KEY_ACCOUNT] = bk_tally_key(texts, 3);
}

static int64_t limit_of(const struct auth_attempt *attempt, uint32_t key) {
    const struct auth_options *options = context_of(attempt)->options;
    switch (key) {
    case KEY_TENANT:
        return options->failures_tenant_max;
    case KEY_ADDRESS:
        return options->failures_address_max;
    case KEY_NETWORK:
        return options->failures_address_max * AUTH_NETWORK_SHARE;
    case KEY_PAIR:
        return attempt->failures_max > 0 ? attempt->failures_max : options->failures_max;
    default:
        return options->failures_account_max;
    }
}

/* How long this one limit makes it wait; 0: not at all. One that is reached by
 * guesses that are being judged may be free again in a moment. */
static uint64_t wait_ms(struct auth_attempts *attempts, const struct auth_attempt *attempt,
                        uint32_t key, uint64_t now) {
    const struct bk_tally_entry *entry =
        bk_tally_find(tally_of(attempts, attempt), attempt->keys[key], now);
    int64_t limit = limit_of(attempt, key);
    if (entry == NULL || entry->count < limit)
        return 0;
    return entry->count - entry->open_count < limit ? 1 : entry->ends_ms - now;
}

static bool holds(const struct auth_attempt *attempt, uint32_t key, bool is_at_home) {
    if (!is_counted_by(attempt, key))
        return false;
    return is_at_home ? key == KEY_PAIR : key != KEY_TENANT || !is_known(attempt);
}

static uint64_t longest_wait_ms(struct auth_attempts *attempts, const struct auth_attempt *attempt,
                                uint64_t now) {
    uint64_t longest = 0;
    bool is_at_home = attempt->account.length > 0 &&
                      bk_tally_find(&attempts->places, attempt->keys[KEY_PAIR], now) != NULL;
    for (uint32_t i = 0; i < AUTH_ATTEMPT_KEYS_MAX; i++) {
        uint64_t wait = holds(attempt, i, is_at_home) ? wait_ms(attempts, attempt, i, now) : 0;
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

/* --- begin ------------------------------------------------------------------------------------ */

static void count(struct auth_attempts *attempts, struct auth_attempt *attempt, uint64_t now) {
    const struct auth_options *options = context_of(attempt)->options;
    for (uint32_t i = 0; i < AUTH_ATTEMPT_KEYS_MAX; i++) {
        if (!is_counted_by(attempt, i))
            continue;
        struct bk_tally_entry *entry = bk_tally_take(tally_of(attempts, attempt), attempt->keys[i],
                                                     now, (uint64_t)options->failures_window_ms);
        entry->count++;
        entry->open_count++;
        attempt->begun_ms[i] = entry->begun_ms;
    }
    attempt->is_counted = true;
}

enum bk_status auth_attempt_try(struct auth_attempt *attempt) {
    struct bk_request *request = attempt->request;
    struct auth_attempts *attempts = attempts_of(attempt);
    /* The control socket and calls in process come from no address. */
    if (request->is_control || request->remote_address.length == 0)
        return BK_OK;
    uint64_t now = now_ms();
    make_keys(attempt);
    uint64_t wait = longest_wait_ms(attempts, attempt, now);
    if (wait == 0) {
        count(attempts, attempt, now);
        return BK_OK;
    }
    attempts->refused_count++;
    request->retry_after_s = (uint32_t)((wait + MS_PER_SECOND - 1) / MS_PER_SECOND);
    return BK_TOO_MANY;
}

bool auth_attempt_begin(struct auth_attempt *attempt) {
    struct bk_request *request = attempt->request;
    enum bk_status status = auth_attempt_try(attempt);
    struct bk_slice message = bk_slice_from(attempt->message == NULL ? "" : attempt->message);
    if (status != BK_OK && message.length == 0)
        message = bk_arena_format(&request->arena,
                                  "Too many failed attempts to sign in: try again in %u s.",
                                  request->retry_after_s);
    if (status != BK_OK)
        bk_answer_error(request, status, message.data);
    return status == BK_OK;
}

/* --- the event -------------------------------------------------------------------------------- */

struct report {
    struct bk_write write;
    struct bk_origin origin;
    struct bk_arena arena;
    struct bk_tenant *tenant;
    struct bk_slice subject, payload;
};

static void report_free(struct report *report) {
    bk_tenant_release(report->tenant);
    bk_arena_fini(&report->arena);
    bk_free(report);
}

static enum bk_status on_report(struct bk_transaction *transaction, struct bk_write *write) {
    const struct report *report = bk_container_of(write, struct report, write);
    const struct bk_event_draft draft = {.type = BK_SLICE("auth.login_failed"),
                                         .source = BK_SLICE("auth"),
                                         .subject = report->subject,
                                         .payload = report->payload};
    return bk_transaction_emit(transaction, &draft);
}

static void on_reported(struct bk_write *write, enum bk_status status) {
    (void)status; /* what cannot be written now is in the metrics still */
    report_free(bk_container_of(write, struct report, write));
}

static struct bk_slice cut(struct bk_slice text, size_t length) {
    while (length > 0 && length < text.length &&
           ((unsigned char)text.data[length] & 0xC0U) == 0x80U)
        length--;
    return text.length <= length ? text : bk_slice_make(text.data, length);
}

static struct bk_slice write_payload(const struct auth_attempt *attempt, struct bk_slice id,
                                     uint32_t omitted_count, struct bk_arena *arena) {
    const struct bk_request *request = attempt->request;
    struct bk_buffer out;
    bk_buffer_init(&out, EVENT_BYTES_MAX);
    bk_buffer_append_char(&out, '{');
    bk_json_write_member_string(&out, BK_SLICE("collection"), attempt->collection->name);
    if (id.length > 0)
        bk_json_write_member_string(&out, BK_SLICE("id"), id);
    bk_json_write_member_string(&out, BK_SLICE("method"), bk_slice_from(attempt->method));
    bk_json_write_member_string(&out, BK_SLICE("remoteAddress"), request->remote_address);
    bk_json_write_member_string(
        &out, BK_SLICE("userAgent"),
        cut(bk_request_header(request, BK_SLICE("user-agent")), USER_AGENT_BYTES_MAX));
    bk_json_write_member_int(&out, BK_SLICE("omitted"), omitted_count);
    bk_buffer_append_char(&out, '}');
    struct bk_slice payload = bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return payload;
}

static void report(const struct auth_attempt *attempt, struct bk_slice id, uint32_t omitted_count) {
    const struct bk_request *request = attempt->request;
    struct report *own = bk_alloc_zero(sizeof *own);
    bk_arena_init(&own->arena, 4 * EVENT_BYTES_MAX);
    own->tenant = request->tenant;
    bk_tenant_ref(own->tenant);
    own->payload = write_payload(attempt, id, omitted_count, &own->arena);
    if (id.length > 0)
        own->subject =
            bk_arena_format(&own->arena, "%.*s/%.*s", BK_SLICE_PRINT(attempt->collection->name),
                            BK_SLICE_PRINT(id));
    own->origin.actor = bk_arena_copy(&own->arena, request->actor.label);
    own->write.origin = &own->origin;
    own->write.run = on_report;
    own->write.done = on_reported;
    if (bk_store_write(own->tenant->database, &own->write) != BK_OK)
        report_free(own);
}

static bool is_reported_by(const struct auth_attempt *attempt, uint32_t key) {
    return key == KEY_TENANT || is_counted_by(attempt, key);
}

static void tell(struct auth_attempts *attempts, const struct auth_attempt *attempt,
                 struct bk_slice id, uint64_t now) {
    struct bk_tally *reports = &attempts->reports;
    bool is_told = true;
    for (uint32_t i = 0; i < AUTH_ATTEMPT_KEYS_MAX; i++)
        is_told &=
            !is_reported_by(attempt, i) ||
            bk_tally_take(reports, attempt->keys[i], now, REPORT_WINDOW_MS)->count < reports_max[i];
    /* What was left out is the tenant's. */
    struct bk_tally_entry *tenant =
        bk_tally_take(reports, attempt->keys[KEY_TENANT], now, REPORT_WINDOW_MS);
    if (!is_told) {
        tenant->kept_count++;
        attempts->unreported_count++;
        return;
    }
    uint32_t omitted_count = tenant->kept_count;
    tenant->kept_count = 0;
    for (uint32_t i = 0; i < AUTH_ATTEMPT_KEYS_MAX; i++)
        if (is_reported_by(attempt, i))
            bk_tally_take(reports, attempt->keys[i], now, REPORT_WINDOW_MS)->count++;
    report(attempt, id, omitted_count);
}

/* --- end -------------------------------------------------------------------------------------- */

/* Counts that have gone, or whose window has begun anew, have forgotten it
 * already. */
static void settle(struct auth_attempts *attempts, const struct auth_attempt *attempt,
                   bool is_given_back, uint64_t now) {
    for (uint32_t i = 0; i < AUTH_ATTEMPT_KEYS_MAX; i++) {
        if (!is_counted_by(attempt, i))
            continue;
        struct bk_tally_entry *entry =
            bk_tally_find(tally_of(attempts, attempt), attempt->keys[i], now);
        if (entry == NULL || entry->begun_ms != attempt->begun_ms[i] || entry->open_count == 0)
            continue;
        entry->open_count--;
        entry->count -= is_given_back;
    }
}

/* The account's owner has been here: at home for as long as nobody newer needs
 * the memory. */
static void remember_place(struct auth_attempts *attempts, const struct auth_attempt *attempt,
                           uint64_t now) {
    struct bk_tally_entry *place = bk_tally_find(&attempts->places, attempt->keys[KEY_PAIR], now);
    if (place != NULL)
        place->ends_ms = now; /* its time begins anew */
    bk_tally_take(&attempts->places, attempt->keys[KEY_PAIR], now, PLACE_WINDOW_MS);
}

void auth_attempt_end(struct auth_attempt *attempt, enum auth_attempt_outcome outcome,
                      struct bk_slice id) {
    uint64_t now = now_ms();
    if (!attempt->is_counted) /* perhaps it was never begun */
        return;
    struct auth_attempts *attempts = attempts_of(attempt);
    attempt->is_counted = false;
    settle(attempts, attempt, outcome != AUTH_ATTEMPT_FAILED, now);
    if (outcome == AUTH_ATTEMPT_PASSED && attempt->account.length > 0)
        remember_place(attempts, attempt, now);
    if (outcome == AUTH_ATTEMPT_FAILED && !attempt->is_further) {
        attempts->failed_count++;
        tell(attempts, attempt, id, now);
    }
}

void auth_attempts_write_metrics(const struct auth_attempts *attempts, struct bk_buffer *out) {
    bk_metric_write(out, "bakend_auth_attempts_failed_total", "counter",
                    "Wrong passwords, codes and tokens of mails.", (double)attempts->failed_count);
    bk_metric_write(out, "bakend_auth_attempts_refused_total", "counter",
                    "Attempts to sign in that were answered 429, not judged.",
                    (double)attempts->refused_count);
    bk_metric_write(out, "bakend_auth_attempts_unreported_total", "counter",
                    "Failures that are in no event, since there were many in a minute.",
                    (double)attempts->unreported_count);
    bk_metric_write(out, "bakend_auth_attempts_memory", "gauge",
                    "Accounts, addresses and pairs whose failures are counted.",
                    (double)attempts->failures.by_key.count);
}
