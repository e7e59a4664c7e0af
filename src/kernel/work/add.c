/*
 * Adding: a row in the caller's transaction.
 *
 * What is said of one thing is added once while it is there (unique). With a key in a lane that is
 * ordered, the task joins the chain of that key: blocked, when the chain has any that has not
 * ended. All others go to the inbox (inbox.c), which costs the caller's transaction least.
 *
 * An event that a position was handed becomes a task in a write of its own, unique by position and
 * event, and is acknowledged when that is on disk. Its position may be closed meanwhile: its owner
 * says so first (bk_work_forget), and nobody is told.
 */
#include "work_private.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"
#include "bakend/id.h"

enum { ID_ATTEMPTS_MAX = 3, MS_PER_DAY = 24 * 60 * 60 * 1000 };

size_t work_lane_name(const struct work_kind *kind, struct bk_slice lane, bool is_replay,
                      char room[BK_WORK_LANE_MAX_BYTES]) {
    static const struct bk_slice replay = BK_SLICE_INIT("/replay");
    size_t length = kind->name.length + (lane.length > 0 ? 1 + lane.length : 0) +
                    (is_replay ? replay.length : 0);
    if (length > BK_WORK_LANE_MAX_BYTES)
        return 0;
    char *end = room;
    memcpy(end, kind->name.data, kind->name.length);
    end += kind->name.length;
    if (lane.length > 0) {
        *end++ = '/';
        memcpy(end, lane.data, lane.length);
        end += lane.length;
    }
    if (is_replay)
        memcpy(end, replay.data, replay.length);
    return length;
}

struct bk_slice work_chain_name(struct bk_transaction *transaction, struct bk_slice lane,
                                struct bk_slice key) {
    char *name = bk_arena_alloc(bk_transaction_arena(transaction), lane.length + 1 + key.length);
    memcpy(name, lane.data, lane.length);
    name[lane.length] = '\n';
    memcpy(name + lane.length + 1, key.data, key.length);
    return bk_slice_make(name, lane.length + 1 + key.length);
}

/* --- on the writer ---------------------------------------------------------------------------- */

struct addition {
    struct bk_work *work;
    struct bk_transaction *transaction;
    const struct bk_work_draft *draft;
    struct work_kind *kind;
    struct bk_slice lane, chain;
    char lane_room[BK_WORK_LANE_MAX_BYTES];
    char id[BK_WORK_ID_BYTES];
    int64_t now_ms, due_ms;
    struct bk_slice unique; /* with its kind */
    bool is_blocked;
};

static enum bk_status check(struct addition *addition) {
    const struct bk_work_draft *draft = addition->draft;
    if (draft->payload.length > BK_WORK_PAYLOAD_MAX_BYTES ||
        draft->key.length > BK_WORK_KEY_MAX_BYTES ||
        draft->unique.length > BK_WORK_UNIQUE_MAX_BYTES)
        return BK_TOO_LARGE;
    size_t length =
        work_lane_name(addition->kind, draft->lane, draft->is_replay, addition->lane_room);
    if (length == 0)
        return BK_TOO_LARGE;
    addition->lane = bk_slice_make(addition->lane_room, length);
    if (draft->delay_ms > (uint64_t)BK_WORK_DELAY_MAX_DAYS * MS_PER_DAY)
        return BK_INVALID;
    if (draft->payload.length > 0 && !work_payload_is_json(draft->payload))
        return BK_INVALID;
    return BK_OK;
}

/* BK_END: there is none. */
static enum bk_status read_unique(struct addition *addition, int64_t *rowid) {
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(addition->work, bk_transaction_connection(addition->transaction),
                       WORK_SQL_FIND_UNIQUE, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, addition->unique);
    status = bk_statement_step(statement);
    if (status == BK_OK) {
        struct bk_slice id = bk_statement_text(statement, 0);
        memcpy(addition->id, id.data,
               id.length < sizeof addition->id ? id.length : sizeof addition->id);
        *rowid = bk_statement_int(statement, 1);
    }
    bk_statement_reset(statement);
    return status;
}

/* BK_OK: there is one, and id is its. BK_END: there is none, but for what is being cleared. */
static enum bk_status find_unique(struct addition *addition) {
    int64_t rowid = 0;
    bool is_gone = false;
    if (addition->draft->unique.length == 0)
        return BK_END;
    addition->unique =
        bk_arena_format(bk_transaction_arena(addition->transaction), "%s %.*s",
                        addition->draft->kind, BK_SLICE_PRINT(addition->draft->unique));
    enum bk_status status = read_unique(addition, &rowid);
    if (status == BK_OK)
        status = work_clear_task(addition->work, addition->transaction, rowid, &is_gone);
    return status == BK_OK && is_gone ? BK_END : status;
}

static enum bk_status join_chain(struct addition *addition) {
    struct bk_statement *statement;
    struct bk_connection *connection = bk_transaction_connection(addition->transaction);
    if (addition->draft->key.length == 0 ||
        !work_lane_is_ordered(addition->work, addition->transaction, addition->kind,
                              addition->lane))
        return BK_OK;
    addition->chain = work_chain_name(addition->transaction, addition->lane, addition->draft->key);
    enum bk_status status =
        work_statement(addition->work, connection, WORK_SQL_FIND_CHAIN, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, addition->chain);
    status = bk_statement_step(statement);
    addition->is_blocked = status == BK_OK;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

/* A lane with tasks may always have more. */
static enum bk_status check_room(struct addition *addition) {
    struct bk_statement *statement;
    struct bk_connection *connection = bk_transaction_connection(addition->transaction);
    int64_t cleared_ms;
    bool are_full = work_lanes_are_full(addition->work, addition->transaction, &cleared_ms);
    addition->now_ms = work_clearing_add_ms(addition->now_ms, cleared_ms);
    addition->due_ms = addition->now_ms + (int64_t)addition->draft->delay_ms;
    if (!are_full)
        return BK_OK;
    enum bk_status status =
        work_statement(addition->work, connection, WORK_SQL_HAS_LANE, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_text(statement, 1, addition->lane);
    status = bk_statement_step(statement);
    bk_statement_reset(statement);
    return status == BK_END ? BK_BUSY : status;
}

static struct bk_slice cause_of(const struct addition *addition, const struct bk_origin *origin) {
    if (addition->draft->cause.length > 0 || origin == NULL)
        return addition->draft->cause;
    return origin->cause;
}

static struct bk_slice actor_of(const struct addition *addition, const struct bk_origin *origin) {
    if (addition->draft->actor.length > 0 || origin == NULL)
        return addition->draft->actor;
    return origin->actor;
}

static void bind(struct addition *addition, struct bk_statement *statement, bool is_secret,
                 char now[BK_TIME_TEXT_BYTES], char due[BK_TIME_TEXT_BYTES]) {
    const struct bk_work_draft *draft = addition->draft;
    const struct bk_origin *origin = bk_transaction_origin(addition->transaction);
    bk_statement_bind_text(statement, 1, bk_slice_make(addition->id, sizeof addition->id));
    bk_statement_bind_text(statement, 2, addition->kind->name);
    bk_statement_bind_text(statement, 3, addition->lane);
    bk_statement_bind_text(statement, 4, draft->key);
    bk_statement_bind_text(statement, 5,
                           addition->is_blocked ? BK_SLICE("blocked") : BK_SLICE("waiting"));
    work_bind_time(statement, 13, now, addition->now_ms);
    if (addition->due_ms == addition->now_ms)
        bk_statement_bind_text(statement, 6, bk_slice_make(now, BK_TIME_TEXT_BYTES));
    else
        work_bind_time(statement, 6, due, addition->due_ms);
    bk_statement_bind_text(
        statement, 7, draft->payload.length == 0 || is_secret ? BK_SLICE("null") : draft->payload);
    bk_statement_bind_text(statement, 8, cause_of(addition, origin));
    bk_statement_bind_text(statement, 9, actor_of(addition, origin));
    bk_statement_bind_int(statement, 10, origin == NULL ? 0 : origin->depth);
    bk_statement_bind_text(statement, 11, addition->chain);
    bk_statement_bind_text(statement, 12, addition->unique);
}

/* What is empty is left unbound, which is NULL. */
static enum bk_status insert_into_inbox(struct addition *addition, bool is_secret) {
    const struct bk_origin *origin = bk_transaction_origin(addition->transaction);
    struct bk_slice payload = addition->draft->payload;
    struct bk_slice cause = cause_of(addition, origin), actor = actor_of(addition, origin);
    char now[BK_TIME_TEXT_BYTES], due[BK_TIME_TEXT_BYTES];
    struct bk_statement *statement;
    enum bk_status status =
        work_statement(addition->work, bk_transaction_connection(addition->transaction),
                       WORK_SQL_INBOX_ADD, &statement);
    if (status != BK_OK)
        return status;
    bk_record_id_make(addition->id, addition->now_ms);
    bk_statement_bind_text(statement, 1, bk_slice_make(addition->id, sizeof addition->id));
    bk_statement_bind_text(statement, 2, addition->lane);
    bk_statement_bind_text(statement, 3,
                           payload.length == 0 || is_secret ? BK_SLICE("null") : payload);
    work_bind_time(statement, 4, now, addition->now_ms);
    if (addition->due_ms != addition->now_ms)
        work_bind_time(statement, 5, due, addition->due_ms);
    if (cause.length > 0)
        bk_statement_bind_text(statement, 6, cause);
    if (actor.length > 0)
        bk_statement_bind_text(statement, 7, actor);
    if (origin != NULL && origin->depth > 0)
        bk_statement_bind_int(statement, 8, origin->depth);
    return bk_statement_run(statement);
}

/* An id that clashes is drawn again; what is unique was looked for in this transaction. */
static enum bk_status insert_into_table(struct addition *addition, bool is_secret) {
    enum bk_status status = BK_CONFLICT;
    for (int i = 0; i < ID_ATTEMPTS_MAX && status == BK_CONFLICT; i++) {
        struct bk_statement *statement;
        char now[BK_TIME_TEXT_BYTES], due[BK_TIME_TEXT_BYTES];
        status = work_statement(addition->work, bk_transaction_connection(addition->transaction),
                                WORK_SQL_INSERT, &statement);
        if (status != BK_OK)
            return status;
        bk_record_id_make(addition->id, addition->now_ms);
        bind(addition, statement, is_secret, now, due);
        status = bk_statement_run(statement);
    }
    return status;
}

/* A key in a lane that is not ordered is only shown. */
static enum bk_status insert(struct addition *addition) {
    const struct bk_work_draft *draft = addition->draft;
    bool is_secret = addition->kind->declared->has_secrets && draft->payload.length > 0;
    bool is_plain = draft->unique.length == 0 && draft->key.length == 0;
    enum bk_status status =
        is_plain ? insert_into_inbox(addition, is_secret) : insert_into_table(addition, is_secret);
    if (status != BK_OK || !is_secret)
        return status;
    return work_secret_insert(addition->work, addition->transaction,
                              bk_slice_make(addition->id, sizeof addition->id), draft->payload);
}

static enum bk_status add(struct addition *addition) {
    enum bk_status status = check(addition);
    if (status != BK_OK)
        return status;
    status = find_unique(addition);
    if (status != BK_END)
        return status;
    status = join_chain(addition);
    if (status == BK_OK)
        status = check_room(addition);
    if (status == BK_OK)
        status = insert(addition);
    if (status != BK_OK)
        return status;
    if (!addition->is_blocked)
        work_note_due(addition->work, addition->transaction, addition->lane, addition->due_ms);
    (void)__atomic_fetch_add(&addition->kind->added, 1, __ATOMIC_RELAXED);
    return BK_FAILPOINT("work.added");
}

enum bk_status bk_work_add(struct bk_work *work, struct bk_transaction *transaction,
                           const struct bk_work_draft *draft, char *id) {
    struct addition addition;
    addition.work = work;
    addition.transaction = transaction;
    addition.draft = draft;
    addition.kind = work_kind_of_name(work, bk_slice_from(draft->kind));
    if (addition.kind == NULL)
        return BK_NOT_FOUND;
    addition.chain = addition.unique = BK_SLICE_EMPTY;
    addition.is_blocked = false;
    addition.now_ms = work_now_ms(work);
    addition.due_ms = addition.now_ms + (int64_t)draft->delay_ms;
    enum bk_status status = add(&addition);
    if (status == BK_OK && id != NULL) {
        memcpy(id, addition.id, sizeof addition.id);
        id[sizeof addition.id] = '\0';
    }
    return status;
}

/* --- from a position -------------------------------------------------------------------------- */

/* The events of a position that are being added. Behind one that fails none is added: they come
 * again, in order. The flag is atomic. */
struct intake_line {
    uint32_t count;
    bool has_failed;
};

struct intake {
    struct intake_line *line;
    struct bk_list link; /* bk_work.intakes */
    struct bk_write write;
    struct bk_task refusal; /* there is no write: the position is told after it has handed over */
    enum bk_status status;
    struct bk_work *work;
    struct bk_tenant *tenant;
    struct bk_position *position; /* NULL: it was closed */
    struct bk_event *event;
    struct bk_work_draft draft;
    struct bk_origin origin;
    struct bk_arena arena; /* of the draft's texts */
};

static enum bk_status run_intake(struct bk_transaction *transaction, struct bk_write *write) {
    const struct intake *intake = bk_container_of(write, struct intake, write);
    if (__atomic_load_n(&intake->line->has_failed, __ATOMIC_RELAXED))
        return BK_CANCELLED;
    enum bk_status status = bk_work_add(intake->work, transaction, &intake->draft, NULL);
    if (status != BK_OK)
        __atomic_store_n(&intake->line->has_failed, true, __ATOMIC_RELAXED);
    return status;
}

static void finish_intake(struct intake *intake, enum bk_status status) {
    struct bk_position *position = intake->position;
    uint64_t sequence = intake->event->fields.sequence;
    struct bk_tenant *tenant = intake->tenant;
    if (status != BK_OK)
        bk_log_warn(&intake->work->log, "event_not_added", BK_STRING("tenant", tenant->name),
                    BK_STRING("event", intake->event->fields.id),
                    BK_TEXT("kind", intake->draft.kind), BK_TEXT("status", bk_status_name(status)));
    bk_list_remove(&intake->link);
    if (--intake->line->count == 0)
        bk_free(intake->line);
    bk_event_unref(intake->event);
    bk_arena_fini(&intake->arena);
    bk_free(intake);
    if (position != NULL && status == BK_OK)
        bk_position_acknowledge(position, sequence);
    else if (position != NULL)
        bk_position_fail(position, sequence);
    bk_tenant_release(tenant);
}

static void on_intake(struct bk_write *write, enum bk_status status) {
    finish_intake(bk_container_of(write, struct intake, write), status);
}

static void on_refusal(struct bk_task *task) {
    struct intake *intake = bk_container_of(task, struct intake, refusal);
    finish_intake(intake, intake->status);
}

/* That of the position's other events, when there are any. */
static struct intake_line *join_line(struct bk_work *work, const struct bk_position *position) {
    struct intake_line *line = NULL;
    BK_LIST_FOR_EACH(node, &work->intakes) {
        const struct intake *intake = bk_container_of(node, struct intake, link);
        if (intake->position == position)
            line = intake->line;
    }
    if (line == NULL)
        line = bk_alloc_zero(sizeof *line);
    line->count++;
    return line;
}

static void copy_draft(struct intake *intake, const struct bk_work_draft *draft) {
    const struct bk_event_fields *fields = &intake->event->fields;
    struct bk_arena *arena = &intake->arena;
    intake->draft = *draft;
    intake->draft.lane = bk_arena_copy(arena, draft->lane);
    intake->draft.key = bk_arena_copy(arena, draft->key);
    intake->draft.payload = bk_arena_copy(arena, draft->payload);
    intake->draft.actor = bk_arena_copy(arena, draft->actor);
    intake->draft.unique = bk_arena_format(
        arena, "%.*s %.*s", BK_SLICE_PRINT(intake->position->name), BK_SLICE_PRINT(fields->id));
    intake->draft.cause = fields->id;
    intake->origin =
        (struct bk_origin){.actor = fields->actor, .cause = fields->id, .depth = fields->depth + 1};
}

void bk_work_add_from(struct bk_work *work, struct bk_position *position, struct bk_event *event,
                      const struct bk_work_draft *draft) {
    struct intake *intake = bk_alloc_zero(sizeof *intake);
    intake->work = work;
    intake->tenant = position->tenant;
    intake->position = position;
    intake->event = bk_event_ref(event);
    bk_arena_init(&intake->arena, 2 * BK_WORK_PAYLOAD_MAX_BYTES);
    copy_draft(intake, draft);
    intake->write = (struct bk_write){.lane = BK_LANE_BACKGROUND,
                                      .origin = &intake->origin,
                                      .run = run_intake,
                                      .done = on_intake};
    intake->line = join_line(work, position);
    bk_list_push(&work->intakes, &intake->link);
    bk_tenant_ref(intake->tenant);
    bk_task_init(&intake->refusal, on_refusal);
    intake->status = bk_arena_status(&intake->arena);
    if (intake->status == BK_OK)
        intake->status = bk_store_write(intake->tenant->database, &intake->write);
    if (intake->status != BK_OK) {
        __atomic_store_n(&intake->line->has_failed, true, __ATOMIC_RELAXED);
        bk_loop_defer(work->loop, &intake->refusal);
    }
}

void bk_work_forget(struct bk_work *work, const struct bk_position *position) {
    BK_LIST_FOR_EACH(node, &work->intakes) {
        struct intake *intake = bk_container_of(node, struct intake, link);
        if (intake->position == position)
            intake->position = NULL;
    }
}
