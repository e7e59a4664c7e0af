/*
 * Health of an endpoint: its breaker, since when it fails, and what its owner is told of that.
 *
 *   attempt ─> breaker.c ── opens ──> nothing is sent but a probe now and then; its lane rests
 *          └─> failing.c ── opens for the first time, after 1, 3 and 4 days: webhook.failing
 *                          └─ after --webhooks-disable-after: disabled
 *
 * Since when an endpoint has failed without a success is in its row of _webhookStates, since a
 * server that is restarted every day is to disable what is dead, too; so are its breaker and the
 * pause that it asked for. They are written when they change: at the first failure, at the next
 * success, at a warning; when the breaker opens, again or not, when it closes, and when a pause
 * begins. That is in the turn in which the attempt is recorded, and before it, so that both are in
 * one commit as a rule; what changes while the last change is being written is written behind it.
 * One that succeeds again and again writes nothing. An endpoint that fails every other time would
 * write at each attempt, so behind a success the next failures are kept in memory for some seconds.
 *
 * Days are counted by the loop's clock, and over a restart by the clock of ages: a wall clock that
 * leaps disables nobody. They are looked at when an attempt fails, so that an endpoint that nothing
 * was sent to is not called dead for it.
 *
 * 410, or the header that says so, disables at once.
 */
#include "breaker.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"
#include "bakend/id.h"
#include "bakend/work.h"

enum {
    SETTLE_MS = 10 * 1000,    /* behind a success, failures are not stored */
    SAVE_AGAIN_MS = 5 * 1000, /* what could not be stored */
    ASK_AGAIN_MS = 10 * 1000, /* to be disabled */
    EVENT_BYTES_MAX = 4096
};

struct webhooks_health {
    struct webhooks_breaker breaker;
    struct webhooks_breaker_mark mark, stored_mark;
    struct webhooks_failing now, stored;
    uint64_t clear_loop_ms; /* when it was last stored that it works */
    uint64_t asked_loop_ms; /* when it was last asked to be disabled; 0: never */
    uint64_t save_loop_ms;  /* what could not be stored is tried again then; 0: there is none */
    uint32_t status;        /* of the newest failure */
    char error[WEBHOOKS_REASON_BYTES];
    size_t error_length;
    struct bk_timer *timer; /* when something may be sent again, or stored */
    bool is_saving, is_narrow;
};

static struct bk_loop *loop_of(const struct webhooks_endpoint *endpoint) {
    return endpoint->of->state->context->loop;
}

static uint64_t now_of(const struct webhooks_endpoint *endpoint) {
    return bk_loop_now_ms(loop_of(endpoint));
}

static int64_t age_now_of(const struct webhooks_endpoint *endpoint) {
    return bk_store_age_now_ms(endpoint->of->state->context->store);
}

static int64_t disable_after_of(const struct webhooks_endpoint *endpoint) {
    const struct webhooks_options *options = endpoint->of->state->context->options;
    return options->disable_after_ms;
}

/* --- stored, and told ------------------------------------------------------------------------- */

struct saving {
    struct bk_write write;
    struct webhooks_endpoint *endpoint;
    struct webhooks_failing failing, former;
    struct webhooks_breaker_mark mark;
    char id[WEBHOOKS_ID_BYTES];
    uint32_t status;
    char error[WEBHOOKS_REASON_BYTES];
    size_t error_length;
};

static void write_event(struct bk_buffer *out, const struct saving *saving) {
    char since[BK_TIME_TEXT_BYTES];
    bk_time_format(since, saving->failing.since_ms, 'T');
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("webhook"),
                                bk_slice_make(saving->id, sizeof saving->id));
    bk_json_write_member_string(out, BK_SLICE("failingSince"), bk_slice_make(since, sizeof since));
    bk_json_write_member_int(out, BK_SLICE("days"), webhooks_failing_days(saving->failing.level));
    if (saving->status > 0)
        bk_json_write_member_int(out, BK_SLICE("status"), saving->status);
    bk_json_write_member_string(out, BK_SLICE("error"),
                                bk_slice_make(saving->error, saving->error_length));
    bk_buffer_append_char(out, '}');
}

static enum bk_status emit_failing(struct bk_transaction *transaction,
                                   const struct saving *saving) {
    struct bk_buffer payload;
    bk_buffer_init(&payload, EVENT_BYTES_MAX);
    write_event(&payload, saving);
    bk_buffer_insist(&payload);
    const struct bk_event_draft draft = {
        .type = BK_SLICE("webhook.failing"),
        .source = BK_SLICE("webhooks"),
        .subject = bk_arena_format(bk_transaction_arena(transaction), "webhooks/%.*s",
                                   WEBHOOKS_ID_BYTES, saving->id),
        .payload = bk_buffer_slice(&payload)};
    enum bk_status status = bk_transaction_emit(transaction, &draft);
    bk_buffer_fini(&payload);
    return status;
}

/* Of an endpoint that is gone meanwhile nothing is told. */
static enum bk_status on_save(struct bk_transaction *transaction, struct bk_write *write) {
    const struct saving *saving = bk_container_of(write, struct saving, write);
    const struct bk_sql sql = bk_sql_make(
        BK_SLICE("UPDATE _webhookStates SET failingSince = ?2, warned = ?3, opens = ?4, "
                 "probeAt = ?5, pausedUntil = ?6 WHERE webhook = ?1 RETURNING 1"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, bk_slice_make(saving->id, sizeof saving->id));
    bk_statement_bind_int(statement, 2, saving->failing.since_ms);
    bk_statement_bind_int(statement, 3, saving->failing.level);
    bk_statement_bind_int(statement, 4, saving->mark.opens);
    bk_statement_bind_int(statement, 5, saving->mark.probe_at_ms);
    bk_statement_bind_int(statement, 6, saving->mark.paused_until_ms);
    status = bk_statement_step(statement);
    bool is_there = status == BK_OK;
    bk_statement_reset(statement);
    if (status != BK_OK && status != BK_END)
        return status;
    if (is_there && saving->failing.level > saving->former.level)
        return emit_failing(transaction, saving);
    return BK_OK;
}

static void save(struct webhooks_endpoint *endpoint);
static void arm(struct webhooks_endpoint *endpoint);

static void on_saved(struct bk_write *write, enum bk_status status) {
    struct saving *saving = bk_container_of(write, struct saving, write);
    struct webhooks_endpoint *endpoint = saving->endpoint;
    struct webhooks_health *health = endpoint->health;
    if (health != NULL) {
        health->is_saving = false;
        health->save_loop_ms = 0;
        if (status == BK_OK) {
            health->stored = saving->failing;
            health->stored_mark = saving->mark;
            save(endpoint);
        } else {
            health->save_loop_ms = now_of(endpoint) + SAVE_AGAIN_MS;
            arm(endpoint);
        }
    }
    bk_free(saving);
    webhooks_endpoint_unref(endpoint);
}

static bool is_settling(const struct webhooks_endpoint *endpoint) {
    const struct webhooks_health *health = endpoint->health;
    return health->stored.since_ms == 0 && health->now.level == 0 && health->clear_loop_ms > 0 &&
           now_of(endpoint) < health->clear_loop_ms + SETTLE_MS;
}

static bool is_stored(const struct webhooks_endpoint *endpoint) {
    const struct webhooks_health *health = endpoint->health;
    bool is_same = health->now.since_ms == health->stored.since_ms &&
                   health->now.level == health->stored.level;
    return webhooks_breaker_mark_is_same(&health->mark, &health->stored_mark) &&
           (is_same || is_settling(endpoint));
}

/* What differs from what is stored, one write at a time. */
static void save(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = endpoint->health;
    if (health->is_saving || endpoint->is_gone || is_stored(endpoint))
        return;
    struct saving *saving = bk_alloc_zero(sizeof *saving);
    saving->endpoint = endpoint;
    saving->failing = health->now;
    saving->former = health->stored;
    saving->mark = health->mark;
    /* What is stored is of an earlier time: its warnings count no more. */
    if (saving->former.since_ms != saving->failing.since_ms)
        saving->former.level = 0;
    memcpy(saving->id, endpoint->id, sizeof saving->id);
    saving->status = health->status;
    memcpy(saving->error, health->error, health->error_length);
    saving->error_length = health->error_length;
    saving->write = (struct bk_write){.lane = BK_LANE_BACKGROUND, .run = on_save, .done = on_saved};
    if (health->now.since_ms == 0)
        health->clear_loop_ms = now_of(endpoint);
    webhooks_endpoint_ref(endpoint);
    health->is_saving = true;
    if (bk_store_write(endpoint->of->tenant->database, &saving->write) == BK_OK)
        return;
    health->is_saving = false;
    health->save_loop_ms = now_of(endpoint) + SAVE_AGAIN_MS;
    bk_free(saving);
    arm(endpoint);
    webhooks_endpoint_unref(endpoint);
}

/* --- its lane and its queue ------------------------------------------------------------------- */

/* The next time that something changes by itself. */
static void arm(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = endpoint->health;
    uint64_t now_ms = now_of(endpoint), until_ms = webhooks_breaker_until_ms(&health->breaker);
    if (until_ms <= now_ms)
        until_ms = UINT64_MAX;
    if (health->save_loop_ms > 0 && health->save_loop_ms < until_ms)
        until_ms = health->save_loop_ms;
    if (until_ms != UINT64_MAX)
        bk_timer_start(health->timer, until_ms > now_ms ? until_ms - now_ms : 0, 0);
    else
        bk_timer_stop(health->timer);
}

/* One that is broken or slow may take up few of the places where work is done. */
static void set_narrow(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = endpoint->health;
    bool is_narrow = webhooks_health_is_narrow(endpoint);
    if (is_narrow == health->is_narrow)
        return;
    health->is_narrow = is_narrow;
    webhooks_retry_configure(endpoint);
}

static void wake(struct webhooks_endpoint *endpoint) {
    webhooks_queue_wake(endpoint);
    webhooks_retry_wake(endpoint);
}

static void on_timer(struct bk_timer *timer, void *user) {
    struct webhooks_endpoint *endpoint = user;
    struct webhooks_health *health = endpoint->health;
    (void)timer;
    webhooks_endpoint_ref(endpoint);
    if (health->save_loop_ms > 0 && health->save_loop_ms <= now_of(endpoint)) {
        health->save_loop_ms = 0;
        save(endpoint);
    }
    arm(endpoint);
    if (webhooks_breaker_allows(&health->breaker, now_of(endpoint)) > 0)
        wake(endpoint);
    webhooks_endpoint_unref(endpoint);
}

static void follow(struct webhooks_endpoint *endpoint, enum webhooks_breaker_change change) {
    struct webhooks_health *health = endpoint->health;
    uint64_t now_ms = now_of(endpoint), until_ms = webhooks_breaker_until_ms(&health->breaker);
    const struct bk_log *log = &endpoint->of->state->context->log;
    set_narrow(endpoint);
    if (change == WEBHOOKS_NO_CHANGE)
        return;
    arm(endpoint);
    if (change == WEBHOOKS_HAS_CLOSED) {
        bk_log_info(log, "endpoint_works", BK_STRING("tenant", endpoint->of->tenant->name),
                    BK_TEXT("webhook", endpoint->id));
        wake(endpoint);
        return;
    }
    if (change == WEBHOOKS_HAS_OPENED && health->breaker.opens == 1)
        bk_log_warn(log, "endpoint_fails", BK_STRING("tenant", endpoint->of->tenant->name),
                    BK_TEXT("webhook", endpoint->id),
                    BK_INT("probe_in_ms", health->breaker.probe_ms - now_ms),
                    BK_STRING("reason", bk_slice_make(health->error, health->error_length)));
    if (until_ms > now_ms)
        webhooks_retry_rest(endpoint, until_ms - now_ms);
}

/* --- since when it fails ---------------------------------------------------------------------- */

static void remember_failure(struct webhooks_health *health, const struct webhooks_result *result) {
    size_t length = result->error.length;
    if (length > sizeof health->error)
        length = sizeof health->error;
    while (length > 0 && length < result->error.length &&
           ((unsigned char)result->error.data[length] & 0xC0) == 0x80)
        length--;
    health->status = result->status;
    if (length > 0)
        memcpy(health->error, result->error.data, length);
    health->error_length = length;
}

static void ask_to_disable(struct webhooks_endpoint *endpoint, const char *reason) {
    struct webhooks_health *health = endpoint->health;
    uint64_t now_ms = now_of(endpoint);
    if (!endpoint->config->is_enabled ||
        (health->asked_loop_ms > 0 && now_ms < health->asked_loop_ms + ASK_AGAIN_MS))
        return;
    health->asked_loop_ms = now_ms > 0 ? now_ms : 1;
    webhooks_disable(endpoint, reason);
}

static void note_failure(struct webhooks_endpoint *endpoint, const struct webhooks_result *result) {
    struct webhooks_health *health = endpoint->health;
    remember_failure(health, result);
    bool is_over =
        webhooks_failing_note(&health->now, (int64_t)now_of(endpoint), age_now_of(endpoint),
                              health->breaker.opens > 0, disable_after_of(endpoint));
    save(endpoint);
    if (result->verdict == WEBHOOKS_GONE)
        ask_to_disable(endpoint, "gone");
    else if (is_over)
        ask_to_disable(endpoint, "failing");
}

static void note_success(struct webhooks_endpoint *endpoint) {
    endpoint->health->now = (struct webhooks_failing){0};
    save(endpoint);
}

static void mark(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = endpoint->health;
    webhooks_breaker_mark(&health->breaker, now_of(endpoint), bk_clock_wall_ms(), &health->mark);
}

void webhooks_health_report(struct webhooks_endpoint *endpoint,
                            const struct webhooks_result *result) {
    struct webhooks_health *health = endpoint->health;
    if (health == NULL)
        return;
    webhooks_endpoint_ref(endpoint);
    enum webhooks_breaker_change change =
        webhooks_breaker_report(&health->breaker, now_of(endpoint), result, bk_random_u64());
    if (change != WEBHOOKS_NO_CHANGE)
        mark(endpoint);
    if (result->verdict == WEBHOOKS_OK || result->verdict == WEBHOOKS_STOP)
        note_success(endpoint);
    else
        note_failure(endpoint, result);
    follow(endpoint, change);
    webhooks_endpoint_unref(endpoint);
}

void webhooks_health_heal(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = endpoint->health;
    if (health == NULL)
        return;
    webhooks_endpoint_ref(endpoint);
    webhooks_breaker_close(&health->breaker);
    mark(endpoint);
    health->asked_loop_ms = 0;
    note_success(endpoint);
    set_narrow(endpoint);
    arm(endpoint);
    wake(endpoint);
    webhooks_endpoint_unref(endpoint);
}

/* --- asked ------------------------------------------------------------------------------------ */

uint32_t webhooks_health_allows(struct webhooks_endpoint *endpoint) {
    if (endpoint->health == NULL)
        return UINT32_MAX;
    return webhooks_breaker_allows(&endpoint->health->breaker, now_of(endpoint));
}

struct webhooks_health_times webhooks_health_times(const struct webhooks_endpoint *endpoint) {
    struct webhooks_breaker_mark mark = {0};
    if (endpoint->health != NULL)
        webhooks_breaker_mark(&endpoint->health->breaker, now_of(endpoint), bk_clock_wall_ms(),
                              &mark);
    return (struct webhooks_health_times){mark.probe_at_ms, mark.paused_until_ms};
}

const char *webhooks_health_name(const struct webhooks_endpoint *endpoint) {
    static const char *const names[] = {
        [WEBHOOKS_CLOSED] = "closed", [WEBHOOKS_OPEN] = "open", [WEBHOOKS_HALF_OPEN] = "half-open"};
    if (endpoint->health == NULL)
        return names[WEBHOOKS_CLOSED];
    return names[webhooks_breaker_state(&endpoint->health->breaker, now_of(endpoint))];
}

bool webhooks_health_is_slow(const struct webhooks_endpoint *endpoint) {
    return endpoint->health != NULL && webhooks_breaker_is_slow(&endpoint->health->breaker);
}

bool webhooks_health_is_narrow(const struct webhooks_endpoint *endpoint) {
    return endpoint->health != NULL && (endpoint->health->breaker.opens > 0 ||
                                        webhooks_breaker_is_slow(&endpoint->health->breaker));
}

/* --- life cycle ------------------------------------------------------------------------------- */

static void read_stored(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = endpoint->health;
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT failingSince, warned, opens, probeAt, pausedUntil FROM "
                             "_webhookStates WHERE webhook = ?1"));
    struct bk_connection *connection = bk_store_read_now(endpoint->of->tenant->database);
    struct bk_statement *statement;
    if (connection == NULL || bk_connection_statement(connection, &sql, &statement) != BK_OK)
        return;
    bk_statement_bind_text(statement, 1, bk_slice_from(endpoint->id));
    if (bk_statement_step(statement) == BK_OK) {
        health->stored.since_ms = bk_statement_int(statement, 0);
        health->stored.level = (uint32_t)bk_statement_int(statement, 1);
        health->stored_mark.opens = (uint32_t)bk_statement_int(statement, 2);
        health->stored_mark.probe_at_ms = bk_statement_int(statement, 3);
        health->stored_mark.paused_until_ms = bk_statement_int(statement, 4);
    }
    bk_statement_reset(statement);
}

void webhooks_health_open(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = bk_alloc_zero(sizeof *health);
    endpoint->health = health;
    health->timer = bk_timer_create(loop_of(endpoint), on_timer, endpoint);
    bk_timer_set_background(health->timer);
    read_stored(endpoint);
    health->now = health->stored;
    webhooks_failing_restore(&health->now, (int64_t)now_of(endpoint), age_now_of(endpoint));
    health->mark = health->stored_mark;
    webhooks_breaker_restore(&health->breaker, now_of(endpoint), bk_clock_wall_ms(), &health->mark);
    health->is_narrow = webhooks_health_is_narrow(endpoint);
}

void webhooks_health_begin(struct webhooks_endpoint *endpoint) {
    uint64_t now_ms = now_of(endpoint);
    uint64_t until_ms = webhooks_breaker_until_ms(&endpoint->health->breaker);
    arm(endpoint);
    if (until_ms > now_ms)
        webhooks_retry_rest(endpoint, until_ms - now_ms);
}

void webhooks_health_close(struct webhooks_endpoint *endpoint) {
    struct webhooks_health *health = endpoint->health;
    if (health == NULL)
        return;
    endpoint->health = NULL;
    bk_timer_close(health->timer);
    bk_free(health);
}
