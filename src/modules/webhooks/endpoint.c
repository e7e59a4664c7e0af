/*
 * The endpoints of a tenant that is open: made when it opens and as their records are, changed when
 * these change (the bus tells), gone with them.
 *
 * One that is enabled is a position of the feed. It begins at the stored watermark,
 * `_webhookStates.sequence`, which the transaction that creates or enables a webhook sets to the
 * journal's head, so that nothing is missed from then on and the first `after` is the same one
 * however often it is begun. The position's own row is what it has passed by beside that.
 *
 * What a change means:
 *   types, subject, filter   the position is opened anew where it stands
 *   enabled                  it is closed, and opened at the watermark of then
 *   anything else            the next request is made with it
 *
 * What was pruned before it was sent is lost. The endpoint goes on with what is left, and the next
 * `after` is a cursor that the receiver does not have: so it sees the gap.
 *
 * While something of an endpoint is under way it holds its tenant. One that is being deleted waits
 * for that: so it is looked at once a second whether there is such a one, and then it is ended.
 */
#include "places.h"

#include "bakend/alloc.h"

enum {
    TICK_MS = 250,
    LOOK_EVERY = 4,
    STOP_LOOK_MS = 10,
    STOP_GRACE_MS = 2000,
    IDS_BYTES_MAX = 1024 * 1024
};

/* --- who is there ----------------------------------------------------------------------------- */

struct webhooks_tenant *webhooks_tenant_of(const struct webhooks_state *state,
                                           const struct bk_tenant *tenant) {
    return tenant->slots[state->context->tenant_slot];
}

struct webhooks_endpoint *webhooks_endpoint_find(const struct webhooks_state *state,
                                                 const struct bk_tenant *tenant,
                                                 struct bk_slice id) {
    const struct webhooks_tenant *own = webhooks_tenant_of(state, tenant);
    return own == NULL ? NULL : bk_map_get(&own->by_id, id);
}

static struct bk_slice id_of(const struct webhooks_endpoint *endpoint) {
    return bk_slice_make(endpoint->id, WEBHOOKS_ID_BYTES);
}

/* --- its life --------------------------------------------------------------------------------- */

static void destroy(struct webhooks_endpoint *endpoint) {
    BK_ASSERT(endpoint->use_count == 0 && endpoint->is_gone && !endpoint->is_open);
    webhooks_hand_free(endpoint);
    webhooks_retry_forget(endpoint);
    webhooks_queue_close(endpoint);
    webhooks_health_close(endpoint);
    webhooks_figures_close(endpoint);
    webhooks_config_unref(endpoint->config);
    webhooks_config_unref(endpoint->asked);
    bk_free(endpoint);
}

void webhooks_endpoint_ref(struct webhooks_endpoint *endpoint) {
    endpoint->use_count++;
    endpoint->of->use_count++;
    bk_tenant_ref(endpoint->of->tenant);
}

void webhooks_endpoint_unref(struct webhooks_endpoint *endpoint) {
    struct webhooks_tenant *of = endpoint->of;
    BK_ASSERT(endpoint->use_count > 0 && of->use_count > 0);
    of->use_count--;
    if (--endpoint->use_count == 0 && endpoint->is_gone)
        destroy(endpoint);
    bk_tenant_release(of->tenant);
}

/* --- its position ----------------------------------------------------------------------------- */

static void on_lost(struct bk_position *position) {
    struct webhooks_endpoint *endpoint = position->user;
    uint64_t oldest = bk_journal_state(position->tenant->database).oldest;
    if (oldest - 1 > endpoint->last_sent)
        endpoint->last_sent = oldest - 1;
    (void)bk_position_seek(position, BK_SLICE("start"), NULL);
}

static void close_position(struct webhooks_endpoint *endpoint, bool is_dropped) {
    endpoint->wants_open = false;
    if (!endpoint->is_open)
        return;
    endpoint->is_open = false;
    if (is_dropped)
        bk_position_drop(&endpoint->position);
    else
        bk_position_close(&endpoint->position);
}

static void begin_opening(struct webhooks_endpoint *endpoint);

static void refused(struct webhooks_endpoint *endpoint, enum bk_status status) {
    endpoint->is_open = false;
    if (status == BK_CLOSING)
        return;
    if (status == BK_GONE) { /* it was never stored, and what comes next was pruned */
        endpoint->ended = bk_journal_state(endpoint->of->tenant->database).oldest - 1;
        endpoint->last_sent = endpoint->ended;
        begin_opening(endpoint);
        return;
    }
    bk_log_error(&endpoint->of->state->context->log, "webhook_not_begun",
                 BK_STRING("tenant", endpoint->of->tenant->name),
                 BK_STRING("webhook", id_of(endpoint)), BK_TEXT("status", bk_status_name(status)),
                 BK_TEXT("effect", "it is tried again in a second"));
    endpoint->wants_open = true;
}

/* Stored where it was passed by, it may stand before the watermark: what is between has ended. */
static void on_opened(struct bk_position *position, enum bk_status status,
                      enum bk_feed_problem problem) {
    struct webhooks_endpoint *endpoint = position->user;
    (void)problem;
    if (status != BK_OK)
        refused(endpoint, status);
    else if (bk_position_facts(position).acknowledged < endpoint->ended)
        (void)bk_position_seek(position, bk_slice_make(endpoint->cursor, BK_CURSOR_BYTES), NULL);
}

static void begin_opening(struct webhooks_endpoint *endpoint) {
    struct webhooks_tenant *of = endpoint->of;
    const struct webhooks_config *config = endpoint->config;
    struct bk_journal_state journal = bk_journal_state(of->tenant->database);
    bk_cursor_make(endpoint->cursor, journal.epoch, endpoint->ended);
    webhooks_config_unref(endpoint->asked);
    endpoint->asked = webhooks_config_ref(endpoint->config);
    endpoint->position = (struct bk_position){
        .kind = WEBHOOKS_KIND,
        .name = bk_slice_from(endpoint->position_name),
        .phase = BK_PHASE_PLUGINS,
        .interest = {.types = config->types,
                     .type_count = config->type_count,
                     .subject = config->subject,
                     .test = config->filter == NULL ? NULL : bk_event_filter_test(config->filter)},
        .after = bk_slice_make(endpoint->cursor, BK_CURSOR_BYTES),
        .window = WEBHOOKS_WINDOW,
        .sees_cut_chains = true,
        .on_event = webhooks_hand_take,
        .on_lost = on_lost,
        .user = endpoint,
    };
    endpoint->wants_open = false;
    endpoint->is_open = true;
    bk_position_open(of->state->context->feed, of->tenant, &endpoint->position, on_opened);
}

static enum bk_status read_watermark(const struct webhooks_endpoint *endpoint, uint64_t *sequence) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT sequence FROM _webhookStates WHERE webhook = ?1"));
    struct bk_connection *connection = bk_store_read_now(endpoint->of->tenant->database);
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, id_of(endpoint));
    status = bk_statement_step(statement);
    if (status == BK_OK)
        *sequence = (uint64_t)bk_statement_int(statement, 0);
    bk_statement_reset(statement);
    return status == BK_END ? BK_NOT_FOUND : status;
}

/* One that rests tells by that how far it is behind. */
static void note_watermark(struct webhooks_endpoint *endpoint) {
    uint64_t sequence = 0;
    if (endpoint->config->is_resting && read_watermark(endpoint, &sequence) == BK_OK)
        endpoint->ended = sequence;
}

/* From where it has ended. */
static void open_position(struct webhooks_endpoint *endpoint) {
    struct webhooks_state *state = endpoint->of->state;
    uint64_t sequence = 0;
    if (endpoint->is_open || !endpoint->config->is_enabled || state->channel == NULL ||
        state->is_stopping)
        return;
    enum bk_status status = read_watermark(endpoint, &sequence);
    if (status != BK_OK) {
        refused(endpoint, status);
        return;
    }
    endpoint->ended = endpoint->last_sent = sequence;
    endpoint->has_returned = false;
    endpoint->look_ups = WEBHOOKS_WINDOW;
    begin_opening(endpoint);
}

/* --- changes ---------------------------------------------------------------------------------- */

static bool asks_the_same(const struct webhooks_config *a, const struct webhooks_config *b) {
    if (a->type_count != b->type_count || !bk_slice_equal(a->subject, b->subject) ||
        (a->filter == NULL) != (b->filter == NULL))
        return false;
    for (size_t i = 0; i < a->type_count; i++)
        if (!bk_slice_equal(a->types[i], b->types[i]))
            return false;
    return a->filter == NULL ||
           bk_slice_equal(bk_event_filter_text(a->filter), bk_event_filter_text(b->filter));
}

static void add(struct webhooks_tenant *own, struct webhooks_config *config) {
    struct webhooks_endpoint *endpoint = bk_alloc_zero(sizeof *endpoint);
    BK_ASSERT(config->id.length == WEBHOOKS_ID_BYTES);
    endpoint->of = own;
    endpoint->config = config;
    memcpy(endpoint->id, config->id.data, WEBHOOKS_ID_BYTES);
    memcpy(endpoint->position_name, "webhooks/", sizeof "webhooks/" - 1);
    memcpy(endpoint->position_name + sizeof "webhooks/" - 1, endpoint->id, WEBHOOKS_ID_BYTES);
    bk_list_init(&endpoint->hand);
    bk_list_push(&own->endpoints, &endpoint->link);
    bk_map_put(&own->by_id, id_of(endpoint), endpoint);
    own->endpoint_count++;
    webhooks_queue_open(endpoint);
    webhooks_figures_open(endpoint);
    webhooks_health_open(endpoint);
    webhooks_retry_configure(endpoint);
    webhooks_health_begin(endpoint);
    own->has_clear_headers |= config->has_clear_headers;
    note_watermark(endpoint);
    open_position(endpoint);
}

static void change(struct webhooks_endpoint *endpoint, struct webhooks_config *config) {
    bool moves = !bk_slice_equal(endpoint->config->url, config->url);
    bool is_mended = config->is_enabled && (moves || !endpoint->config->is_enabled);
    if (moves)
        webhooks_queue_doubt(endpoint);
    webhooks_config_unref(endpoint->config);
    endpoint->config = config;
    endpoint->of->has_clear_headers |= config->has_clear_headers;
    endpoint->generation += moves || is_mended;
    if (is_mended)
        webhooks_health_heal(endpoint);
    if (!config->is_enabled) {
        close_position(endpoint, false);
        webhooks_hand_return(endpoint);
        note_watermark(endpoint);
    } else if (!endpoint->is_open) {
        open_position(endpoint);
    } else if (!asks_the_same(endpoint->asked, config)) {
        close_position(endpoint, false);
        begin_opening(endpoint);
    }
    webhooks_retry_configure(endpoint);
    webhooks_queue_wake(endpoint);
}

static void drop(struct webhooks_endpoint *endpoint, bool forgets_position) {
    struct webhooks_tenant *own = endpoint->of;
    endpoint->use_count++; /* its tenant is held by those who call, or closing */
    endpoint->is_gone = true;
    bk_list_remove(&endpoint->link);
    bk_map_remove(&own->by_id, id_of(endpoint));
    own->endpoint_count--;
    close_position(endpoint, forgets_position);
    webhooks_hand_return(endpoint);
    if (--endpoint->use_count == 0)
        destroy(endpoint);
}

void webhooks_endpoint_apply(struct webhooks_tenant *own, struct bk_slice id) {
    struct webhooks_endpoint *endpoint = bk_map_get(&own->by_id, id);
    struct webhooks_config *config = NULL;
    enum bk_status status = webhooks_config_read(own->state, own->tenant, id, &config);
    if (status == BK_NOT_FOUND) {
        if (endpoint != NULL)
            drop(endpoint, true);
        return;
    }
    if (config == NULL) {
        bk_log_error(&own->state->context->log, "webhook_not_read",
                     BK_STRING("tenant", own->tenant->name), BK_STRING("webhook", id),
                     BK_TEXT("status", bk_status_name(status)),
                     BK_TEXT("effect", "it goes on as it was"));
        return;
    }
    if (endpoint == NULL)
        add(own, config);
    else
        change(endpoint, config);
}

/* Subjects are "_webhooks/<id>". */
static enum bk_status on_change(struct bk_subscription *subscription, struct bk_tenant *tenant,
                                struct bk_event *event) {
    struct webhooks_state *state = bk_container_of(subscription, struct webhooks_state, changes);
    struct webhooks_tenant *own = webhooks_tenant_of(state, tenant);
    struct bk_slice id = event->fields.subject;
    size_t slash = bk_slice_find(id, '/');
    if (own == NULL || slash + 1 + WEBHOOKS_ID_BYTES != id.length)
        return BK_OK;
    webhooks_endpoint_apply(own, bk_slice_make(id.data + slash + 1, WEBHOOKS_ID_BYTES));
    return BK_OK;
}

/* --- a tenant --------------------------------------------------------------------------------- */

static enum bk_status read_ids(struct webhooks_tenant *own, struct bk_buffer *ids) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT id FROM _webhooks"));
    struct bk_connection *connection = bk_store_read_now(own->tenant->database);
    struct bk_statement *statement;
    if (connection == NULL)
        return BK_CLOSING;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status != BK_OK)
        return status;
    while ((status = bk_statement_step(statement)) == BK_OK)
        if (bk_statement_text(statement, 0).length == WEBHOOKS_ID_BYTES)
            bk_buffer_append_slice(ids, bk_statement_text(statement, 0));
    bk_statement_reset(statement);
    return status == BK_END ? bk_buffer_status(ids) : status;
}

enum bk_status webhooks_endpoints_open(struct webhooks_state *state, struct bk_tenant *tenant,
                                       struct webhooks_tenant *own, struct bk_error *error) {
    struct bk_buffer ids;
    own->state = state;
    own->tenant = tenant;
    bk_list_init(&own->endpoints);
    bk_map_init(&own->by_id);
    webhooks_line_open(own);
    webhooks_recorder_open(own);
    bk_buffer_init(&ids, IDS_BYTES_MAX);
    enum bk_status status = read_ids(own, &ids);
    if (status == BK_OK)
        for (size_t at = 0; at < ids.length; at += WEBHOOKS_ID_BYTES)
            webhooks_endpoint_apply(own, bk_slice_make(ids.data + at, WEBHOOKS_ID_BYTES));
    bk_buffer_fini(&ids);
    webhooks_retry_open(own);
    if (status == BK_OK)
        webhooks_headers_seal(own);
    if (status == BK_OK)
        return BK_OK;
    webhooks_endpoints_close(own);
    return bk_error_set(error, status, "webhooks: they cannot be read: %s", bk_status_text(status));
}

/* What is left is gone on with at the next start, without a request. */
static void note_unfinished(struct webhooks_tenant *own) {
    bool has_any = false;
    BK_LIST_FOR_EACH(node, &own->endpoints)
        has_any |= bk_container_of(node, struct webhooks_endpoint, link)->config->is_enabled;
    if (own->state->is_stopping && has_any &&
        (own->is_behind || bk_journal_state(own->tenant->database).last != own->stopped_at))
        bk_work_wake_at_start(own->state->context->work, own->tenant);
}

void webhooks_endpoints_close(struct webhooks_tenant *own) {
    note_unfinished(own);
    webhooks_retry_close(own);
    BK_LIST_FOR_EACH(node, &own->endpoints)
        drop(bk_container_of(node, struct webhooks_endpoint, link), false);
    BK_ASSERT(own->use_count == 0);
    webhooks_recorder_close(own);
    webhooks_line_close(own);
    bk_map_fini(&own->by_id);
}

/* --- once a second ---------------------------------------------------------------------------- */

static void let_go(struct webhooks_tenant *own) {
    bk_tenant_ref(own->tenant);
    BK_LIST_FOR_EACH(node, &own->endpoints)
        drop(bk_container_of(node, struct webhooks_endpoint, link), false);
    bk_tenant_release(own->tenant);
}

static void look_at(struct bk_tenant *tenant, void *user) {
    struct webhooks_state *state = user;
    struct webhooks_tenant *own = webhooks_tenant_of(state, tenant);
    if (own == NULL)
        return;
    if (own->use_count > 0 && !bk_tenant_exists(state->context->tenants, tenant->name)) {
        let_go(own);
        return;
    }
    BK_LIST_FOR_EACH(node, &own->endpoints) {
        struct webhooks_endpoint *endpoint = bk_container_of(node, struct webhooks_endpoint, link);
        if (endpoint->wants_open)
            open_position(endpoint);
    }
    webhooks_headers_seal(own);
}

static void open_all(struct bk_tenant *tenant, void *user) {
    struct webhooks_tenant *own = webhooks_tenant_of(user, tenant);
    if (own == NULL)
        return;
    BK_LIST_FOR_EACH(node, &own->endpoints)
        open_position(bk_container_of(node, struct webhooks_endpoint, link));
}

/* --- stopping --------------------------------------------------------------------------------- */

static bool is_behind(const struct webhooks_endpoint *endpoint) {
    if (!endpoint->is_open)
        return endpoint->wants_open;
    struct bk_position_facts facts = bk_position_facts(&endpoint->position);
    return facts.state != BK_POSITION_LIVE || facts.handed > 0;
}

static void stop_one(struct bk_tenant *tenant, void *user) {
    struct webhooks_tenant *own = webhooks_tenant_of(user, tenant);
    if (own == NULL)
        return;
    own->stopped_at = bk_journal_state(tenant->database).last;
    BK_LIST_FOR_EACH(node, &own->endpoints) {
        struct webhooks_endpoint *endpoint = bk_container_of(node, struct webhooks_endpoint, link);
        own->is_behind = own->is_behind || is_behind(endpoint);
        close_position(endpoint, false);
        webhooks_hand_return(endpoint);
    }
}

static void count_uses(struct bk_tenant *tenant, void *user) {
    uint32_t *count = ((void **)user)[1];
    const struct webhooks_tenant *own = webhooks_tenant_of(((void **)user)[0], tenant);
    *count += own == NULL ? 0 : own->use_count;
}

static void on_channel_closed(void *user) {
    struct webhooks_state *state = user;
    state->channel = NULL;
    state->places->is_closed = true;
}

/* What is on its way has a moment; then it is cut; then what is being recorded is waited for. */
static void look_at_stop(struct webhooks_state *state) {
    struct webhooks_places *places = state->places;
    uint32_t uses = 0;
    void *user[] = {state, &uses};
    bool is_late = bk_loop_now_ms(state->context->loop) >= places->stop_by_ms;
    if (!places->is_closing && (places->taken == 0 || is_late)) {
        places->is_closing = true;
        if (state->channel == NULL)
            places->is_closed = true;
        else
            bk_outbound_close(state->channel, on_channel_closed, state);
    }
    bk_tenants_for_each_open(state->context->tenants, count_uses, user);
    if (!places->is_closed || uses > 0)
        return;
    bk_timer_stop(places->tick);
    state->stopped(state->stopped_user);
}

static void on_tick(struct bk_timer *timer, void *user) {
    struct webhooks_state *state = user;
    (void)timer;
    if (state->is_stopping)
        look_at_stop(state);
    else if (++state->places->ticks % LOOK_EVERY == 0)
        bk_tenants_for_each_open(state->context->tenants, look_at, state);
    webhooks_places_look(state);
}

void webhooks_endpoints_stop(struct webhooks_state *state, void (*stopped)(void *user),
                             void *user) {
    struct webhooks_places *places = state->places;
    state->is_stopping = true;
    state->stopped = stopped;
    state->stopped_user = user;
    places->stop_by_ms = bk_loop_now_ms(state->context->loop) + STOP_GRACE_MS;
    bk_tenants_for_each_open(state->context->tenants, stop_one, state);
    bk_timer_stop(places->tick);
    bk_timer_set_background(places->tick);
    bk_timer_start(places->tick, 1, STOP_LOOK_MS);
}

/* --- the module ------------------------------------------------------------------------------- */

void webhooks_endpoints_init(struct webhooks_state *state) {
    webhooks_places_init(state);
    state->places->tick = bk_timer_create(state->context->loop, on_tick, state);
    bk_timer_set_background(state->places->tick);
    state->changes = (struct bk_subscription){.name = "webhooks.changes",
                                              .phase = BK_PHASE_LOGGING,
                                              .pattern = BK_SLICE_INIT("_webhooks.*"),
                                              .takes_cut = true,
                                              .on_event = on_change};
    enum bk_status status = bk_bus_subscribe(state->context->bus, &state->changes);
    BK_ASSERT(status == BK_OK);
}

void webhooks_endpoints_start(struct webhooks_state *state) {
    BK_ASSERT(state->channel != NULL);
    bk_timer_start(state->places->tick, TICK_MS, TICK_MS);
    bk_tenants_for_each_open(state->context->tenants, open_all, state);
}

void webhooks_endpoints_fini(struct webhooks_state *state) {
    if (state->places == NULL)
        return;
    bk_bus_unsubscribe(state->context->bus, &state->changes);
    bk_timer_close(state->places->tick);
    webhooks_places_fini(state);
}
