/*
 * First attempts: from the position's hand to the disk.
 *
 *   taken ─┬─> queued ─> sent ─┬─> being recorded ─> recorded: acknowledged
 *          │      ^            └─> cancelled: given back, the position hands it over again
 *          └─> held: of an ordered endpoint, one of its subject is before it
 *          └─> parked: one of its subject is tried again; it becomes a task behind that
 *
 * The list of what was taken is in order, so the end of its first run that has ended is how far
 * the endpoint is: all up to it have ended. What is recorded behind one that has not stays in the
 * list, the last of a run only, so that the watermark finds it; a request that hangs costs no more
 * memory than the window.
 *
 * `after` of each is the sequence before it in this list, whatever came of that: the same one when
 * it is handed over again after a crash, since the list begins anew at the stored watermark. What
 * was recorded behind the watermark before a crash is found by its row, and not sent again.
 */
#include "places.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"

struct handed {
    struct bk_list link; /* endpoint->hand */
    struct webhooks_send send;
    struct webhooks_record record;
    struct bk_slice type, subject;
    uint64_t subject_hash;
    uint32_t ahead; /* of its subject, before it and not recorded: it is held while there are */
    uint32_t depth; /* of its chain of causes */
    bool is_put, has_ended, is_recorded;
    char texts[];
};

static struct handed *handed_of(struct bk_list *node) {
    return bk_container_of(node, struct handed, link);
}

static void forget(struct handed *handed) {
    struct webhooks_tenant *of = handed->send.endpoint->of;
    webhooks_queue_let_go(&handed->send);
    of->line->handed--;
    of->state->places->handed--;
    bk_list_remove(&handed->link);
    bk_event_unref(handed->send.event);
    bk_free(handed);
}

/* --- recording -------------------------------------------------------------------------------- */

/* All up to which have ended; 0: the first has not, or some were given back. */
static uint64_t watermark_of(struct webhooks_endpoint *endpoint) {
    uint64_t watermark = 0;
    if (endpoint->has_returned)
        return 0;
    BK_LIST_FOR_EACH(node, &endpoint->hand) {
        if (!handed_of(node)->has_ended)
            break;
        watermark = handed_of(node)->send.sequence;
    }
    return watermark;
}

static void put(struct handed *handed);

static void let_next_go(struct webhooks_endpoint *endpoint, const struct handed *ended) {
    if (ended->subject.length == 0)
        return;
    BK_LIST_FOR_EACH(node, &endpoint->hand) {
        struct handed *handed = handed_of(node);
        if (handed->ahead == 0 || handed->send.sequence < ended->send.sequence ||
            handed->subject_hash != ended->subject_hash)
            continue;
        if (--handed->ahead == 0 && !handed->is_put)
            put(handed);
    }
}

static bool is_recorded(const struct webhooks_endpoint *endpoint, struct bk_list *node) {
    return node != &endpoint->hand && handed_of(node)->is_recorded;
}

/* Of a run of recorded ones the last stays; of the first run none. */
static void tidy(struct webhooks_endpoint *endpoint, struct handed *handed) {
    struct bk_list *before = handed->link.previous;
    if (is_recorded(endpoint, before))
        forget(handed_of(before));
    if (is_recorded(endpoint, handed->link.next))
        forget(handed);
    while (is_recorded(endpoint, endpoint->hand.next))
        forget(handed_of(endpoint->hand.next));
}

static void on_recorded(struct webhooks_record *record, enum bk_status status) {
    struct handed *handed = bk_container_of(record, struct handed, record);
    struct webhooks_endpoint *endpoint = handed->send.endpoint;
    if (status != BK_OK) { /* the program stops: it comes again */
        endpoint->has_returned = true;
        forget(handed);
        return;
    }
    if (record->ended > endpoint->ended)
        endpoint->ended = record->ended;
    handed->is_recorded = true;
    if (endpoint->is_open)
        bk_position_acknowledge(&endpoint->position, handed->send.sequence);
    let_next_go(endpoint, handed);
    tidy(endpoint, handed);
}

static void record(struct handed *handed, enum webhooks_delivery_state state, int64_t next_ms,
                   const struct webhooks_result *result) {
    struct webhooks_endpoint *endpoint = handed->send.endpoint;
    handed->has_ended = true;
    handed->record = (struct webhooks_record){
        .endpoint = endpoint,
        .attempt = {.webhook = bk_slice_make(endpoint->id, WEBHOOKS_ID_BYTES),
                    .event = handed->send.event_id,
                    .type = handed->type,
                    .subject = handed->subject,
                    .sequence = handed->send.sequence,
                    .after = handed->send.after,
                    .depth = handed->depth,
                    .format = handed->send.format,
                    .state = state,
                    .next_ms = next_ms,
                    .number = result == NULL ? 0 : 1,
                    .result = result},
        .ended = watermark_of(endpoint),
        .recorded = on_recorded,
    };
    if (result != NULL)
        handed->record.result = *result;
    webhooks_record(&handed->record);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void record_answer(struct handed *handed) {
    const struct webhooks_state *state = handed->send.endpoint->of->state;
    const struct webhooks_result *result = &handed->send.result;
    if (result->verdict == WEBHOOKS_OK) {
        record(handed, WEBHOOKS_DELIVERED, 0, result);
        return;
    }
    int64_t delay_ms = result->verdict == WEBHOOKS_STOP
                           ? -1
                           : webhooks_retry_delay(state, 1, result->retry_after_ms);
    if (delay_ms < 0)
        record(handed, WEBHOOKS_FAILED, 0, result);
    else
        record(handed, WEBHOOKS_RETRYING, bk_clock_wall_ms() + delay_ms, result);
}

static void on_sent(struct webhooks_send *send) {
    struct handed *handed = bk_container_of(send, struct handed, send);
    struct webhooks_endpoint *endpoint = send->endpoint;
    const struct webhooks_result lost = {
        .verdict = WEBHOOKS_STOP,
        .time_ms = bk_clock_wall_ms(),
        .error = BK_SLICE_INIT("The event is no longer in the journal: --retention-max-bytes.")};
    if (BK_FAILPOINT("webhooks.answered") != BK_OK)
        send->status = BK_CANCELLED;
    if (send->status == BK_CANCELLED || endpoint->is_gone) {
        endpoint->has_returned = true;
        forget(handed);
    } else if (send->status == BK_OK) {
        record_answer(handed);
    } else {
        record(handed, WEBHOOKS_FAILED, 0, &lost);
    }
}

static void put(struct handed *handed) {
    struct webhooks_endpoint *endpoint = handed->send.endpoint;
    handed->is_put = true;
    if (endpoint->config->is_ordered && handed->subject.length > 0 &&
        webhooks_retry_blocks(endpoint, handed->subject))
        record(handed, WEBHOOKS_RETRYING, bk_clock_wall_ms(), NULL);
    else
        webhooks_queue_put(&handed->send);
}

/* --- taking ----------------------------------------------------------------------------------- */

static bool has_row(const struct webhooks_endpoint *endpoint, uint64_t sequence) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT 1 FROM _deliveries WHERE id = ?1"));
    struct bk_connection *connection = bk_store_read_now(endpoint->of->tenant->database);
    struct bk_statement *statement;
    char id[WEBHOOKS_ID_BYTES];
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK)
        return false;
    webhooks_delivery_id(id, sequence, bk_slice_make(endpoint->id, WEBHOOKS_ID_BYTES));
    bk_statement_bind_text(statement, 1, bk_slice_make(id, sizeof id));
    bool is_there = bk_statement_step(statement) == BK_OK;
    bk_statement_reset(statement);
    return is_there;
}

/* Behind the watermark of the last run there may be what was recorded: as long as some is found,
 * and for a window more. */
static bool was_recorded(struct webhooks_endpoint *endpoint, uint64_t sequence) {
    if (endpoint->look_ups == 0)
        return false;
    bool is_there = has_row(endpoint, sequence);
    endpoint->look_ups = is_there ? WEBHOOKS_WINDOW : endpoint->look_ups - 1;
    return is_there;
}

static struct bk_slice copy(char **cursor, struct bk_slice text) {
    struct bk_slice result = bk_slice_make(*cursor, text.length);
    if (text.length > 0)
        memcpy(*cursor, text.data, text.length);
    *cursor += text.length;
    return result;
}

static struct handed *make(struct webhooks_endpoint *endpoint, struct bk_event *event) {
    const struct bk_event_fields *fields = &event->fields;
    struct handed *handed = bk_alloc_zero(sizeof *handed + fields->id.length + fields->type.length +
                                          fields->subject.length);
    char *cursor = handed->texts;
    handed->send = (struct webhooks_send){
        .endpoint = endpoint,
        .class = WEBHOOKS_FIRST,
        .sequence = fields->sequence,
        .after = endpoint->last_sent,
        .format = endpoint->config->format,
        .event_id = copy(&cursor, fields->id),
        .event = bk_event_ref(event),
        .done = on_sent,
    };
    handed->type = copy(&cursor, fields->type);
    handed->subject = copy(&cursor, fields->subject);
    handed->depth = fields->depth;
    return handed;
}

static void line_up(struct webhooks_endpoint *endpoint, struct handed *handed) {
    if (!endpoint->config->is_ordered || handed->subject.length == 0)
        return;
    handed->subject_hash = bk_map_hash(handed->subject);
    BK_LIST_FOR_EACH(node, &endpoint->hand)
        handed->ahead +=
            !handed_of(node)->is_recorded && handed_of(node)->subject_hash == handed->subject_hash;
}

static bool is_in_hand(const struct webhooks_endpoint *endpoint, uint64_t sequence) {
    BK_LIST_FOR_EACH(node, &endpoint->hand)
        if (handed_of(node)->send.sequence == sequence)
            return !handed_of(node)->is_recorded;
    return false;
}

/* Of all that are in hand a tenant has no more than it leaves free; a few each endpoint has. */
static uint32_t window_of(const struct webhooks_endpoint *endpoint) {
    const struct webhooks_places *places = endpoint->of->state->places;
    bool has_share = endpoint->of->line->handed + places->handed < PLACES_HANDED_MAX;
    return has_share ? WEBHOOKS_WINDOW : PLACES_WINDOW_MIN;
}

enum bk_handed webhooks_hand_take(struct bk_position *position, struct bk_event *event) {
    struct webhooks_endpoint *endpoint = position->user;
    uint64_t sequence = event->fields.sequence;
    if (BK_FAILPOINT("webhooks.handed") != BK_OK)
        return BK_HANDED_FAILED;
    if (sequence <= endpoint->ended)
        return BK_HANDED_DONE;
    /* The position was opened anew, with another filter: what is under way goes on, and what was
     * passed by stays so. */
    if (sequence <= endpoint->last_sent)
        return is_in_hand(endpoint, sequence) ? BK_HANDED_TAKEN : BK_HANDED_DONE;
    if (was_recorded(endpoint, sequence)) {
        endpoint->last_sent = sequence;
        return BK_HANDED_DONE;
    }
    struct handed *handed = make(endpoint, event);
    endpoint->last_sent = sequence;
    line_up(endpoint, handed);
    bk_list_push(&endpoint->hand, &handed->link);
    endpoint->of->line->handed++;
    endpoint->of->state->places->handed++;
    position->window = window_of(endpoint);
    if (handed->ahead == 0)
        put(handed);
    else
        webhooks_queue_hold(&handed->send);
    return BK_HANDED_TAKEN;
}

void webhooks_hand_return(struct webhooks_endpoint *endpoint) {
    webhooks_endpoint_ref(endpoint);
    BK_LIST_FOR_EACH(node, &endpoint->hand) {
        struct handed *handed = handed_of(node);
        if (handed->is_put)
            continue;
        endpoint->has_returned = true;
        forget(handed);
    }
    webhooks_queue_clear(endpoint);
    webhooks_endpoint_unref(endpoint);
}

void webhooks_hand_free(struct webhooks_endpoint *endpoint) {
    while (!bk_list_is_empty(&endpoint->hand))
        forget(handed_of(endpoint->hand.next));
}

int64_t webhooks_hand_oldest_ms(const struct webhooks_endpoint *endpoint) {
    int64_t wall_ms = 0;
    for (struct bk_list *node = endpoint->hand.next; node != &endpoint->hand; node = node->next) {
        const struct handed *handed = handed_of(node);
        if (!handed->is_recorded && bk_event_id_parse(handed->send.event_id, &wall_ms, NULL, NULL))
            return wall_ms;
    }
    return 0;
}
