/*
 * One request: the body is written, signed at that moment, posted, and what came of it is judged.
 *
 *   2xx                                   OK
 *   410, `webhook-delivery: disable`      GONE: the endpoint wants nothing more
 *   `webhook-delivery: abort-message`     STOP: this delivery ends
 *   anything else, nobody there, too late AGAIN, no sooner than Retry-After says
 *
 * A redirect is not followed: it is an answer like others. Of the answer 4 KiB are kept, and no
 * more is read. Why an address is not allowed is told to nobody, since the answer would map the
 * network that we are in.
 *
 * The memory of requests is used again: arena, body and headers of one that is over serve the next.
 */
#include "places.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"

#include <stdio.h>

enum {
    ARENA_BYTES_MAX = 1024 * 1024,
    BODY_BYTES_MAX = 4 * 1024 * 1024,
    BODY_KEPT_BYTES = 64 * 1024,
    SPARE_MAX = 64,
    MS_PER_SECOND = 1000,
    US_PER_MS = 1000,
    RETRY_AFTER_MAX_MS = 24 * 60 * 60 * 1000,
};

#define BLOCKED_TEXT                                                                               \
    "The address of this endpoint is not allowed. Addresses that are not public have to be named " \
    "by --webhooks-allow."

struct webhooks_sending {
    struct bk_outbound_request request;
    struct bk_list link; /* in places->spare */
    struct webhooks_send *send;
    struct webhooks_config *config; /* as it was when it began */
    struct bk_arena arena;
    struct bk_buffer body;
    int64_t time_ms;
    bool is_test;
};

/* --- memory ----------------------------------------------------------------------------------- */

static struct webhooks_sending *sending_take(struct webhooks_places *places) {
    struct bk_list *node = bk_list_pop(&places->spare);
    if (node != NULL) {
        places->spare_count--;
        return bk_container_of(node, struct webhooks_sending, link);
    }
    struct webhooks_sending *sending = bk_alloc_zero(sizeof *sending);
    bk_list_init(&sending->link);
    bk_arena_init(&sending->arena, ARENA_BYTES_MAX);
    bk_buffer_init(&sending->body, BODY_BYTES_MAX);
    return sending;
}

static void sending_free(struct webhooks_sending *sending) {
    bk_arena_fini(&sending->arena);
    bk_buffer_fini(&sending->body);
    bk_free(sending);
}

static void sending_give_back(struct webhooks_places *places, struct webhooks_sending *sending) {
    webhooks_config_unref(sending->config);
    sending->config = NULL;
    sending->send = NULL;
    if (places->spare_count >= SPARE_MAX) {
        sending_free(sending);
        return;
    }
    bk_arena_reset(&sending->arena);
    if (sending->body.capacity > BODY_KEPT_BYTES) {
        bk_buffer_fini(&sending->body);
        bk_buffer_init(&sending->body, BODY_BYTES_MAX);
    }
    bk_buffer_clear(&sending->body);
    bk_list_push_front(&places->spare, &sending->link);
    places->spare_count++;
}

void webhooks_sendings_free(struct webhooks_places *places) {
    struct bk_list *node;
    while ((node = bk_list_pop(&places->spare)) != NULL)
        sending_free(bk_container_of(node, struct webhooks_sending, link));
}

/* --- what the answer says --------------------------------------------------------------------- */

/* "Sun, 06 Nov 1994 08:49:37 GMT", the one form that is written today. */
static bool parse_date(struct bk_slice text, int64_t *date_ms) {
    enum { DATE_BYTES = 29, DAY = 5, MONTH = 8, YEAR = 12, TIME = 17, MONTHS = 12 };
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char plain[sizeof "1994-11-06T08:49:37Z"];
    if (text.length != DATE_BYTES || !bk_slice_ends_with(text, BK_SLICE(" GMT")))
        return false;
    for (int month = 0; month < MONTHS; month++) {
        if (memcmp(months + (ptrdiff_t)month * 3, text.data + MONTH, 3) != 0)
            continue;
        int length = snprintf(plain, sizeof plain, "%.4s-%02d-%.2sT%.8sZ", text.data + YEAR,
                              month + 1, text.data + DAY, text.data + TIME);
        return length == (int)sizeof plain - 1 &&
               bk_time_parse(bk_slice_make(plain, (size_t)length), date_ms);
    }
    return false;
}

static bool is_number(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return text.length > 0;
}

uint64_t webhooks_retry_after_read(struct bk_slice text, int64_t now_ms) {
    int64_t seconds = RETRY_AFTER_MAX_MS / MS_PER_SECOND, delay_ms = 0, date_ms;
    text = bk_slice_trim(text);
    if (is_number(text)) {
        int64_t said = seconds; /* more digits than a number has: long enough */
        if (bk_slice_to_int64(text, &said) && said < seconds)
            seconds = said;
        return (uint64_t)seconds * MS_PER_SECOND;
    }
    if (parse_date(text, &date_ms))
        delay_ms = date_ms - now_ms;
    if (delay_ms > RETRY_AFTER_MAX_MS)
        return RETRY_AFTER_MAX_MS;
    return delay_ms > 0 ? (uint64_t)delay_ms : 0;
}

static enum webhooks_verdict verdict_of(const struct bk_outbound_request *request) {
    struct bk_slice wish =
        bk_slice_trim(bk_outbound_answer_header(request, BK_SLICE("webhook-delivery")));
    if (request->failure != BK_OUTBOUND_OK)
        return WEBHOOKS_AGAIN;
    if (request->status == 410 || bk_slice_equal_ignore_case(wish, BK_SLICE("disable")))
        return WEBHOOKS_GONE;
    if (request->status >= 200 && request->status <= 299)
        return WEBHOOKS_OK;
    if (bk_slice_equal_ignore_case(wish, BK_SLICE("abort-message")))
        return WEBHOOKS_STOP;
    return WEBHOOKS_AGAIN;
}

static struct bk_slice error_of(struct webhooks_sending *sending) {
    const struct bk_outbound_request *request = &sending->request;
    switch (request->failure) {
    case BK_OUTBOUND_OK:
        break;
    case BK_OUTBOUND_BLOCKED:
        return BK_SLICE(BLOCKED_TEXT);
    case BK_OUTBOUND_TIMEOUT:
        return bk_arena_format(&sending->arena, "No answer came within %u ms.",
                               request->timeout_ms);
    case BK_OUTBOUND_URL:
    case BK_OUTBOUND_RESOLVE:
    case BK_OUTBOUND_CONNECT:
    case BK_OUTBOUND_TLS:
    case BK_OUTBOUND_CUT:
    case BK_OUTBOUND_PROTOCOL:
    case BK_OUTBOUND_TOO_LARGE:
    case BK_OUTBOUND_LOGIN:
    case BK_OUTBOUND_CANCELLED:
        return bk_arena_format(&sending->arena, "%s: %.*s",
                               bk_outbound_failure_name(request->failure),
                               BK_SLICE_PRINT(request->reason));
    }
    if (request->status >= 300 && request->status <= 399)
        return bk_arena_format(&sending->arena,
                               "The endpoint answered %u. Redirects are not followed: save the "
                               "address that it names.",
                               request->status);
    return bk_arena_format(&sending->arena, "The endpoint answered %u.", request->status);
}

/* A copy in which each byte that is no UTF-8, and each NUL, is a question mark. */
static struct bk_slice make_text(struct bk_arena *arena, struct bk_slice bytes) {
    enum { SEQUENCE_MAX = 4 };
    size_t length =
        bytes.length < WEBHOOKS_ANSWER_KEPT_BYTES ? bytes.length : WEBHOOKS_ANSWER_KEPT_BYTES;
    if (length == 0)
        return BK_SLICE_EMPTY;
    char *text = bk_arena_alloc(arena, length);
    memcpy(text, bytes.data, length);
    if (memchr(text, '\0', length) == NULL && bk_slice_is_utf8(bk_slice_make(text, length)))
        return bk_slice_make(text, length);
    for (size_t at = 0; at < length;) {
        size_t step = 1, rest = length - at;
        while (step <= SEQUENCE_MAX && step <= rest &&
               !bk_slice_is_utf8(bk_slice_make(text + at, step)))
            step++;
        bool is_good = step <= SEQUENCE_MAX && step <= rest && text[at] != '\0';
        if (!is_good)
            text[at] = '?';
        at += is_good ? step : 1;
    }
    return bk_slice_make(text, length);
}

static void judge(struct webhooks_sending *sending, struct webhooks_result *result) {
    const struct bk_outbound_request *request = &sending->request;
    *result = (struct webhooks_result){
        .verdict = verdict_of(request),
        .status = request->status,
        .time_ms = sending->time_ms,
        .latency_ms = (uint32_t)(request->duration_us / US_PER_MS),
        .is_timeout = request->failure == BK_OUTBOUND_TIMEOUT,
        .was_blocked = request->failure == BK_OUTBOUND_BLOCKED,
    };
    if (request->failure == BK_OUTBOUND_OK)
        result->answer = make_text(&sending->arena, request->answer);
    if (result->verdict == WEBHOOKS_OK)
        return;
    if (request->failure == BK_OUTBOUND_OK)
        result->retry_after_ms = webhooks_retry_after_read(
            bk_outbound_answer_header(request, BK_SLICE("retry-after")), bk_clock_wall_ms());
    result->error = error_of(sending);
}

/* --- its end ---------------------------------------------------------------------------------- */

static void count(struct webhooks_send *send) {
    struct webhooks_state *state = send->endpoint->of->state;
    state->attempts++;
    if (send->result.verdict == WEBHOOKS_OK)
        state->delivered++;
    else
        state->failed++;
    webhooks_figures_count(send->endpoint, &send->result);
    /* What the former address says is nothing about this one. */
    if (send->generation == send->endpoint->generation)
        webhooks_health_report(send->endpoint, &send->result);
}

/* After done nothing is known of send. */
static void end(struct webhooks_sending *sending, enum bk_status status) {
    struct webhooks_send *send = sending->send;
    struct webhooks_endpoint *endpoint = send->endpoint;
    struct webhooks_places *places = endpoint->of->state->places;
    struct bk_event *event = send->event;
    send->status = status;
    send->sending = NULL;
    send->event = NULL;
    if (status == BK_OK && !sending->is_test)
        count(send);
    if (sending->is_test)
        bk_list_remove(&send->link);
    else
        webhooks_queue_ended(send);
    send->done(send);
    bk_event_unref(event);
    sending_give_back(places, sending);
    webhooks_endpoint_unref(endpoint);
}

static void on_done(struct bk_outbound_request *request) {
    struct webhooks_sending *sending = bk_container_of(request, struct webhooks_sending, request);
    struct webhooks_send *send = sending->send;
    if (request->failure == BK_OUTBOUND_CANCELLED) {
        end(sending, BK_CANCELLED);
        return;
    }
    judge(sending, &send->result);
    end(sending, BK_OK);
}

static void on_begun(struct bk_outbound_request *request) {
    struct webhooks_sending *sending = bk_container_of(request, struct webhooks_sending, request);
    struct webhooks_send *send = sending->send;
    send->has_begun = true;
    sending->time_ms = bk_clock_wall_ms();
    if (send->begun != NULL)
        send->begun(send);
}

/* --- its beginning ---------------------------------------------------------------------------- */

struct lookup {
    struct bk_slice id;
    struct bk_event *event;
};

static bool on_row(void *user, const struct bk_event_fields *fields) {
    struct lookup *lookup = user;
    if (bk_slice_equal(fields->id, lookup->id))
        lookup->event = bk_event_create(fields);
    return false;
}

/* A row by its key. */
static enum bk_status read_event(struct webhooks_send *send) {
    struct bk_database *database = send->endpoint->of->tenant->database;
    struct bk_journal_state journal = bk_journal_state(database);
    struct lookup lookup = {.id = send->event_id};
    uint64_t sequence;
    if (!bk_event_id_parse(send->event_id, NULL, &sequence, NULL) || sequence == 0 ||
        sequence > journal.last)
        return BK_NOT_FOUND;
    if (sequence < journal.oldest)
        return BK_GONE;
    struct bk_connection *connection = bk_store_read_now(database);
    if (connection == NULL)
        return BK_CANCELLED;
    struct bk_journal_query query = {
        .from = sequence, .to = sequence, .row_limit = 1, .on_row = on_row, .user = &lookup};
    enum bk_status status = bk_journal_read(connection, &query);
    send->event = lookup.event;
    if (status != BK_OK)
        return BK_BUSY; /* the disk's trouble: it is tried again */
    return lookup.event == NULL ? BK_NOT_FOUND : BK_OK;
}

static enum bk_status build(struct webhooks_sending *sending) {
    struct webhooks_send *send = sending->send;
    const struct webhooks_config *config = sending->config;
    struct webhooks_tenant *of = send->endpoint->of;
    struct bk_journal_state journal = bk_journal_state(of->tenant->database);
    struct webhooks_form form = {.format = send->format, .after = send->after};
    memcpy(form.epoch, journal.epoch, sizeof form.epoch);
    sending->time_ms = bk_clock_wall_ms();
    if (!bk_buffer_reserve(&sending->body, webhooks_body_bytes_max(send->fields)))
        return bk_buffer_status(&sending->body);
    webhooks_body_write(&sending->body, send->fields, &form);
    if (bk_buffer_status(&sending->body) != BK_OK)
        return bk_buffer_status(&sending->body);
    sending->request = (struct bk_outbound_request){
        .method = "POST",
        .url = config->url,
        .body = bk_buffer_slice(&sending->body),
        .group = of->tenant->name,
        .timeout_ms = config->timeout_ms,
        .answer_max_bytes = WEBHOOKS_ANSWER_KEPT_BYTES,
        .cuts_answer = true,
        .begun = on_begun,
        .done = on_done,
    };
    struct webhooks_signing signing = {
        .state = of->state,
        .config = config,
        .event = send->fields,
        .form = &form,
        .body = sending->request.body,
        .now_s = sending->time_ms / MS_PER_SECOND,
    };
    return webhooks_sign(&signing, &sending->arena, &sending->request);
}

/* It never was on its way, and another time would not help: the endpoint's own doing. */
static void fail(struct webhooks_sending *sending, struct bk_slice error) {
    struct webhooks_send *send = sending->send;
    send->result = (struct webhooks_result){
        .verdict = WEBHOOKS_AGAIN, .time_ms = sending->time_ms, .error = error};
    end(sending, BK_OK);
}

static void put_back(struct webhooks_sending *sending) {
    struct webhooks_send *send = sending->send;
    struct webhooks_endpoint *endpoint = send->endpoint;
    if (sending->is_test) {
        end(sending, BK_BUSY);
        return;
    }
    send->sending = NULL;
    sending_give_back(endpoint->of->state->places, sending);
    webhooks_queue_again(send);
}

static void submit(struct webhooks_sending *sending) {
    struct webhooks_state *state = sending->send->endpoint->of->state;
    enum bk_status status = build(sending);
    if (BK_FAILPOINT("webhooks.before_sent") != BK_OK)
        status = BK_BUSY;
    if (status == BK_NO_MEMORY)
        status = BK_BUSY;
    else if (status == BK_OK)
        status = state->channel == NULL ? BK_CLOSING
                                        : bk_outbound_submit(state->channel, &sending->request);
    if (status == BK_OK)
        return;
    if (status == BK_CLOSING)
        end(sending, BK_CANCELLED);
    else if (status == BK_BUSY)
        put_back(sending);
    else
        fail(sending, BK_SLICE("The request cannot be made: save the webhook with another url or "
                               "other headers."));
}

static void begin(struct webhooks_send *send, bool is_test) {
    struct webhooks_endpoint *endpoint = send->endpoint;
    struct webhooks_sending *sending = sending_take(endpoint->of->state->places);
    enum bk_status status = BK_OK;
    sending->send = send;
    sending->is_test = is_test;
    sending->config = webhooks_config_ref(endpoint->config);
    send->sending = sending;
    if (send->event == NULL)
        status = read_event(send);
    send->fields = send->event == NULL ? NULL : &send->event->fields;
    if (status == BK_BUSY)
        put_back(sending);
    else if (status != BK_OK)
        end(sending, status);
    else
        submit(sending);
}

void webhooks_send_begin(struct webhooks_send *send) { begin(send, false); }

void webhooks_send_test(struct webhooks_send *send) {
    BK_ASSERT(send->event != NULL);
    webhooks_endpoint_ref(send->endpoint);
    bk_list_push(&send->endpoint->queue->tests, &send->link);
    begin(send, true);
}

void webhooks_send_cancel(struct webhooks_send *send) {
    if (send->sending != NULL)
        bk_outbound_cancel(&send->sending->request);
}
