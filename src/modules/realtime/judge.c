/*
 * Judging: who may see an event, and what of it.
 *
 *   by a rule that is null or ""     known at once
 *   by an expression                 asked of the record as the event has it (as it was, if it was
 *                                    deleted), in memory; once for each asker, and once for all
 *                                    where the rule does not say who asks
 *   where that takes other tables    open: all that is open of an item goes to a reader at once
 *
 * An item keeps a verdict for each asker. What the event does not say (a secret, a field that was
 * left out for its size, in the journal a hidden one) is asked of the stored record, where the rule
 * speaks of it; of a deleted one the answer is no. Of other records that went in the same write,
 * see gone.c.
 *
 * A reader has PIECE_QUESTIONS a read, and a deadline for each read. The question at which that
 * passed although it came first is answered no, and after LATE_MAX of these the rest of the item
 * too: a rule that is too slow shows nobody anything, and holds up nobody for long.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

enum {
    PIECE_QUESTIONS = 256,
    LATE_MAX = 3,
    RETRY_MS = 20, /* while readers have no room */
    SHOWN_BYTES_MAX = 16 * 1024 * 1024,
    SHOW_ARENA_BYTES = 16 * 1024 * 1024,
    VERDICTS_AT_FIRST = 4,
};

enum answer { UNKNOWN, OPEN, NO, YES };

struct realtime_verdict {
    struct realtime_asker *asker;
    uint8_t answers[REALTIME_ASKED_COUNT];
    struct realtime_question *questions[REALTIME_ASKED_COUNT]; /* of those that are open */
    struct bk_buffer shown;
};

/* --- verdicts --------------------------------------------------------------------------------- */

static void close_questions(struct realtime_verdict *verdict) {
    for (size_t i = 0; i < REALTIME_ASKED_COUNT; i++) {
        if (verdict->questions[i] != NULL)
            realtime_question_unref(verdict->questions[i]);
        verdict->questions[i] = NULL;
    }
}

void realtime_verdicts_drop(struct realtime_item *item) {
    for (uint32_t i = 0; i < item->verdict_count; i++) {
        close_questions(&item->verdicts[i]);
        bk_buffer_fini(&item->verdicts[i].shown);
        realtime_asker_unref(item->verdicts[i].asker);
    }
    bk_free(item->verdicts);
    item->verdicts = NULL;
    item->verdict_count = item->verdict_capacity = 0;
    item->open_count = 0;
    memset(item->rules, 0, sizeof item->rules);
}

/* Where the asker says it is; another item may have come between. */
static struct realtime_verdict *find_verdict(struct realtime_item *item,
                                             const struct realtime_asker *asker) {
    if (asker->serial == item->serial && asker->slot < item->verdict_count &&
        item->verdicts[asker->slot].asker == asker)
        return &item->verdicts[asker->slot];
    for (uint32_t i = 0; i < item->verdict_count; i++)
        if (item->verdicts[i].asker == asker)
            return &item->verdicts[i];
    return NULL;
}

static struct realtime_verdict *verdict_of(struct realtime_item *item,
                                           struct realtime_asker *asker) {
    struct realtime_verdict *verdict = item->verdict_count == 0 ? NULL : find_verdict(item, asker);
    if (verdict == NULL) {
        if (item->verdict_count == item->verdict_capacity) {
            item->verdict_capacity =
                item->verdict_capacity == 0 ? VERDICTS_AT_FIRST : 2 * item->verdict_capacity;
            item->verdicts =
                bk_realloc(item->verdicts, item->verdict_capacity * sizeof *item->verdicts);
        }
        verdict = &item->verdicts[item->verdict_count++];
        *verdict = (struct realtime_verdict){.asker = realtime_asker_ref(asker)};
        bk_buffer_init(&verdict->shown, SHOWN_BYTES_MAX);
    }
    asker->serial = item->serial;
    asker->slot = (uint32_t)(verdict - item->verdicts);
    return verdict;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* The event's values say all of it, or the table has them. */
static enum answer answer_of(struct realtime_item *item, struct realtime_verdict *verdict,
                             enum realtime_asked asked, const struct realtime_words *words) {
    struct realtime_figures *figures = &verdict->asker->tenant->realtime->figures;
    bool is_before = asked == REALTIME_LIST_BEFORE || asked == REALTIME_VIEW_BEFORE;
    const struct bk_value *values = realtime_item_values(item, is_before);
    bool is_stored = words->of == BK_QUESTION_OF_STORED;
    if (values == NULL || (is_stored && (is_before || item->change == REALTIME_DELETED)))
        return NO;
    struct realtime_question *question =
        realtime_asker_question(verdict->asker, item->collection, words);
    if (question->status != BK_OK)
        return NO;
    enum bk_answer answer = is_stored || words->is_expand
                                ? BK_ANSWER_NEEDS_TABLES
                                : bk_question_judge(&question->question, values);
    if (answer == BK_ANSWER_NEEDS_TABLES) {
        question->reference_count++;
        verdict->questions[asked] = question;
        item->open_count++;
        return OPEN;
    }
    figures->judged_in_memory++;
    return answer == BK_ANSWER_YES ? YES : NO;
}

static enum answer ask(struct realtime_item *item, struct realtime_asker *asker,
                       enum realtime_asked asked, const struct realtime_words *words) {
    struct realtime_verdict *verdict = verdict_of(item, asker);
    if (verdict->answers[asked] == UNKNOWN)
        verdict->answers[asked] = (uint8_t)answer_of(item, verdict, asked, words);
    return (enum answer)verdict->answers[asked];
}

static bool speaks_of(struct bk_slice text, const char *name) {
    return realtime_find(text, bk_slice_from(name)) < text.length;
}

static const struct realtime_rule *rule_of(struct realtime_item *item, enum realtime_asked asked,
                                           struct bk_slice text) {
    struct realtime_rule *rule = &item->rules[asked];
    if (rule->is_known)
        return rule;
    rule->is_known = true;
    rule->lacks_values = realtime_item_lacks(item, text);
    rule->of = REALTIME_OF_ANYBODY;
    if (speaks_of(text, "@request.query") || speaks_of(text, "@request.headers"))
        rule->of = REALTIME_OF_SUBSCRIPTION;
    else if (speaks_of(text, "@request"))
        rule->of = REALTIME_OF_ACTOR;
    return rule;
}

static struct realtime_asker *asker_of(const struct realtime_subscription *subscription) {
    return subscription->asker != NULL ? subscription->asker : subscription->peer->viewer->asker;
}

static struct realtime_asker *asker_for(const struct realtime_rule *rule,
                                        const struct realtime_subscription *subscription) {
    struct realtime_viewer *viewer = subscription->peer->viewer;
    struct realtime_tenant *own = viewer->tenant;
    if (rule->of == REALTIME_OF_SUBSCRIPTION)
        return asker_of(subscription);
    if (rule->of == REALTIME_OF_ACTOR)
        return viewer->asker;
    if (own->anybody == NULL)
        own->anybody = realtime_asker_get(own, &bk_actor_guest, NULL);
    return own->anybody;
}

static enum answer ask_rule(struct realtime_item *item,
                            const struct realtime_subscription *subscription,
                            enum realtime_asked asked) {
    static const enum bk_operation operations[REALTIME_RULE_COUNT] = {
        [REALTIME_LIST] = BK_MAY_LIST,
        [REALTIME_VIEW] = BK_MAY_VIEW,
        [REALTIME_MANAGE] = BK_MAY_MANAGE,
        [REALTIME_LIST_BEFORE] = BK_MAY_LIST,
        [REALTIME_VIEW_BEFORE] = BK_MAY_VIEW};
    const struct bk_slice *rules = item->collection->rules;
    bool is_same = bk_slice_equal(rules[BK_MAY_VIEW], rules[BK_MAY_LIST]);
    if (is_same && asked == REALTIME_VIEW)
        asked = REALTIME_LIST;
    if (is_same && asked == REALTIME_VIEW_BEFORE)
        asked = REALTIME_LIST_BEFORE;
    struct bk_slice text = rules[operations[asked]];
    const struct realtime_rule *rule = rule_of(item, asked, text);
    const struct realtime_words words = {.text = text,
                                         .of = rule->lacks_values ? BK_QUESTION_OF_STORED
                                                                  : BK_QUESTION_OF_EVENT,
                                         .trust = BK_FILTER_OF_RULE};
    return ask(item, asker_for(rule, subscription), asked, &words);
}

/* --- looking ---------------------------------------------------------------------------------- */

bool realtime_item_is_asked(const struct realtime_item *item) {
    const struct bk_slice *rules = item->collection == NULL ? NULL : item->collection->rules;
    return rules != NULL && (rules[BK_MAY_LIST].length > 0 || rules[BK_MAY_VIEW].length > 0);
}

static bool is_wanted(const struct realtime_subscription *subscription,
                      const struct realtime_item *item, bool as_deleted) {
    const struct bk_event_fields *fields = &item->fields;
    return bk_interest_matches(&subscription->interest,
                               as_deleted ? item->collection->event_types[REALTIME_DELETED]
                                          : fields->type,
                               fields->subject);
}

static enum realtime_sight look_by_rule(struct realtime_item *item,
                                        const struct realtime_subscription *subscription,
                                        struct realtime_look *look) {
    bool by_subject = subscription->interest.subject.length > 0;
    bool has_past = item->change == REALTIME_UPDATED && !subscription->peer->is_stream &&
                    (item->fields.previous.length > 0 || item->fields.hidden_previous.length > 0);
    enum answer now = ask_rule(item, subscription, by_subject ? REALTIME_VIEW : REALTIME_LIST);
    enum answer before = NO;
    if (has_past)
        before =
            ask_rule(item, subscription, by_subject ? REALTIME_VIEW_BEFORE : REALTIME_LIST_BEFORE);
    if (now == OPEN || before == OPEN)
        return REALTIME_OPEN;
    look->with_previous = before == YES;
    if (now == YES)
        return is_wanted(subscription, item, false) ? REALTIME_SEEN : REALTIME_UNSEEN;
    return before == YES && is_wanted(subscription, item, true) ? REALTIME_LEFT : REALTIME_UNSEEN;
}

static bool is_own(const struct bk_actor *actor, const struct realtime_item *item) {
    const struct bk_field *id = item->collection->id_field;
    return actor->kind == BK_ACTOR_RECORD &&
           bk_slice_equal(actor->collection_id, item->collection->id) && item->values != NULL &&
           bk_slice_equal(actor->id, item->values[id->index].text);
}

/* Who sees an address that is not shown: its owner, and who may manage the record. */
static enum realtime_sight look_at_email(struct realtime_item *item,
                                         const struct realtime_subscription *subscription,
                                         struct realtime_look *look) {
    const struct bk_actor *actor = &subscription->peer->viewer->actor;
    if (look->view != BK_VIEW_PUBLIC || !realtime_item_hides_email(item))
        return REALTIME_SEEN;
    if (is_own(actor, item)) {
        look->view = BK_VIEW_OWNER;
        return REALTIME_SEEN;
    }
    if (actor->kind != BK_ACTOR_RECORD ||
        bk_rules_authorize(actor, item->collection, BK_MAY_MANAGE) != BK_ASKED)
        return REALTIME_SEEN;
    switch (ask_rule(item, subscription, REALTIME_MANAGE)) {
    case YES:
        look->view = BK_VIEW_OWNER;
        return REALTIME_SEEN;
    case OPEN:
        return REALTIME_OPEN;
    default:
        return REALTIME_SEEN;
    }
}

/* What a stream's options ask for: a filter of the record, and its relations. */
static enum realtime_sight look_by_options(struct realtime_item *item,
                                           const struct realtime_subscription *subscription,
                                           struct realtime_look *look) {
    struct realtime_asker *asker = subscription->asker;
    if (asker == NULL)
        return REALTIME_SEEN;
    if (asker->filter.length > 0) {
        const struct realtime_words words = {
            .text = asker->filter,
            .of = realtime_item_lacks(item, asker->filter) ? BK_QUESTION_OF_STORED
                                                           : BK_QUESTION_OF_EVENT,
            .trust =
                bk_actor_is_superuser(&asker->actor) ? BK_FILTER_OF_RULE : BK_FILTER_OF_CLIENT};
        enum answer answer = ask(item, asker, REALTIME_FILTER, &words);
        if (answer != YES)
            return answer == OPEN ? REALTIME_OPEN : REALTIME_UNSEEN;
    }
    if (asker->expand.length > 0) {
        const struct realtime_words words = {
            .text = asker->expand, .of = BK_QUESTION_OF_EVENT, .is_expand = true};
        enum answer answer = ask(item, asker, REALTIME_EXPAND, &words);
        if (answer == OPEN)
            return REALTIME_OPEN;
        if (answer == YES)
            look->shown = bk_buffer_slice(&verdict_of(item, asker)->shown);
    }
    return REALTIME_SEEN;
}

static enum realtime_sight look_at_record(struct realtime_item *item,
                                          const struct realtime_subscription *subscription,
                                          struct realtime_look *look) {
    const struct bk_actor *actor = &subscription->peer->viewer->actor;
    bool by_subject = subscription->interest.subject.length > 0;
    enum realtime_sight sight = REALTIME_SEEN;
    enum bk_verdict verdict =
        bk_rules_authorize(actor, item->collection, by_subject ? BK_MAY_VIEW : BK_MAY_LIST);
    look->view = bk_rules_view(actor, item->collection);
    if (verdict == BK_DENIED)
        return REALTIME_UNSEEN;
    if (verdict == BK_ASKED)
        sight = look_by_rule(item, subscription, look);
    else if (realtime_item_is_asked(item) && !is_wanted(subscription, item, false))
        return REALTIME_UNSEEN; /* it waits for what leaves its rule, and has none */
    if (sight == REALTIME_SEEN)
        sight = look_by_options(item, subscription, look);
    if (sight == REALTIME_SEEN)
        sight = look_at_email(item, subscription, look);
    return sight;
}

enum realtime_sight realtime_look(struct realtime_item *item,
                                  const struct realtime_subscription *subscription,
                                  struct realtime_look *look) {
    const struct bk_actor *actor = &subscription->peer->viewer->actor;
    enum realtime_sight sight = REALTIME_UNSEEN;
    *look = (struct realtime_look){.view = BK_VIEW_PUBLIC, .with_previous = true};
    if (item->collection != NULL) {
        sight = look_at_record(item, subscription, look);
    } else if (bk_actor_has_scope(actor, BK_SLICE("events:read"))) {
        sight = REALTIME_SEEN;
        if (bk_actor_is_superuser(actor))
            look->view = BK_VIEW_FULL;
    }
    if (sight == REALTIME_SEEN && subscription->filter != NULL &&
        !realtime_filter_passes(subscription->filter, item, look))
        sight = REALTIME_UNSEEN;
    return sight;
}

/* --- on a reader ------------------------------------------------------------------------------ */

struct job {
    struct bk_read read;
    struct realtime *realtime;
    struct bk_tenant *tenant; /* held */
    struct realtime_item *item;
    void (*done)(void *user);
    void *user;
    struct bk_timer *retry;
    uint32_t verdict, asked; /* the next one */
    uint32_t answered;       /* by this read */
    uint32_t late_count;
};

static struct realtime_verdict *next_open(struct job *job) {
    struct realtime_item *item = job->item;
    for (; job->verdict < item->verdict_count; job->verdict++, job->asked = 0)
        for (; job->asked < REALTIME_ASKED_COUNT; job->asked++)
            if (item->verdicts[job->verdict].answers[job->asked] == OPEN)
                return &item->verdicts[job->verdict];
    return NULL;
}

/* The record with its relations; without them, if they cannot be had. */
static enum bk_status show(struct bk_connection *connection, struct realtime_item *item,
                           struct realtime_verdict *verdict,
                           const struct realtime_question *question) {
    struct bk_arena arena;
    struct bk_show *shown;
    bk_arena_init(&arena, SHOW_ARENA_BYTES);
    bk_buffer_clear(&verdict->shown);
    enum bk_status status =
        bk_show_make(&shown, &arena, &question->asker, question->collection, question->text);
    if (status == BK_OK)
        status = bk_show_write(shown, connection, item->values, &verdict->shown);
    if (status == BK_OK)
        status = bk_buffer_status(&verdict->shown);
    bk_arena_fini(&arena);
    return status;
}

static enum bk_status answer_on_reader(struct bk_connection *connection, struct job *job,
                                       struct realtime_verdict *verdict) {
    struct realtime_item *item = job->item;
    const struct realtime_question *question = verdict->questions[job->asked];
    bool is_before = job->asked == REALTIME_LIST_BEFORE || job->asked == REALTIME_VIEW_BEFORE;
    if (question->words.is_expand)
        return show(connection, item, verdict, question);
    if (question->words.of == BK_QUESTION_OF_STORED)
        return bk_question_ask(&question->question, connection,
                               item->values[item->collection->id_field->index].text);
    const struct bk_value *values = is_before ? item->before : item->values;
    if (item->gone != NULL && (is_before || item->change == REALTIME_DELETED))
        return realtime_gone_ask(item->gone, question, connection, values);
    return bk_question_ask_values(&question->question, connection, values);
}

static enum bk_status on_run(struct bk_connection *connection, struct bk_read *read) {
    struct job *job = bk_container_of(read, struct job, read);
    struct realtime_verdict *verdict;
    for (job->answered = 0; job->answered < PIECE_QUESTIONS; job->answered++) {
        verdict = next_open(job);
        if (verdict == NULL)
            return BK_OK;
        enum bk_status status = answer_on_reader(connection, job, verdict);
        if (status == BK_TIMEOUT)
            return status;
        verdict->answers[job->asked] = status == BK_OK ? YES : NO;
    }
    return BK_OK;
}

static void finish(struct job *job) {
    struct realtime_item *item = job->item;
    struct bk_tenant *tenant = job->tenant;
    void (*done)(void *user) = job->done;
    void *user = job->user;
    for (uint32_t i = 0; i < item->verdict_count; i++)
        close_questions(&item->verdicts[i]);
    item->open_count = 0;
    bk_timer_close(job->retry);
    bk_free(job);
    done(user);
    bk_tenant_release(tenant);
}

static void answer_no(struct job *job, bool to_all) {
    for (struct realtime_verdict *verdict = next_open(job); verdict != NULL;
         verdict = to_all ? next_open(job) : NULL) {
        verdict->answers[job->asked] = NO;
        job->realtime->figures.judged_too_late++;
    }
}

static void submit(struct job *job);

static void on_retry(struct bk_timer *timer, void *user) {
    (void)timer;
    struct job *job = user;
    if (next_open(job) == NULL)
        finish(job);
    else
        submit(job);
}

static void retry(struct job *job) {
    if (job->retry == NULL)
        job->retry = bk_timer_create(job->realtime->context->loop, on_retry, job);
    bk_timer_start(job->retry, RETRY_MS, 0);
}

static void on_done(struct bk_read *read, enum bk_status status) {
    struct job *job = bk_container_of(read, struct job, read);
    job->realtime->figures.judged_by_tables += job->answered;
    if (status == BK_TIMEOUT) {
        if (job->answered == 0)
            answer_no(job, ++job->late_count >= LATE_MAX);
    } else if (status == BK_BUSY) {
        retry(job);
        return;
    } else if (status != BK_OK) {
        answer_no(job, true);
    }
    if (next_open(job) == NULL)
        finish(job);
    else
        submit(job);
}

static void submit(struct job *job) {
    job->read = (struct bk_read){.run = on_run, .done = on_done};
    enum bk_status status = bk_store_read(job->tenant->database, &job->read);
    if (status == BK_OK)
        return;
    /* Never within the call that begins it. */
    if (status != BK_BUSY)
        answer_no(job, true);
    retry(job);
}

void realtime_judge(struct realtime_tenant *own, struct realtime_item *item,
                    void (*done)(void *user), void *user) {
    struct job *job = bk_alloc_zero(sizeof *job);
    BK_ASSERT(item->open_count > 0);
    job->realtime = own->realtime;
    job->tenant = own->tenant;
    bk_tenant_ref(own->tenant);
    job->item = item;
    job->done = done;
    job->user = user;
    submit(job);
}
