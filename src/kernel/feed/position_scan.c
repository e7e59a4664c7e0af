/*
 * Catching up: the scan of a tenant serves all its positions that are behind, page by page.
 *
 *   IDLE ─ one is behind ─> SCHEDULED ─┬─ in memory ───────────> HANDING ─ page over ─┐
 *                  ^  ^                └─ READING ─ on a reader ────^                 │
 *                  │  └── the store is busy, PAUSE_MS ──┘                             │
 *                  └───────── others are behind: the next turn ───────────────────────┤
 *                                                             nobody is ──> IDLE <────┘
 *
 * The first of the list is served, with a page from the tail, from the rows that were read last, or
 * from the journal. A page begins as far before it as there are others that stand there, so that
 * positions that are near each other go on together: ten thousand at one place cost one scan.
 * Everyone whose place lies in the page takes part. When it is over those that took part and have
 * seen all are live, and the others go to the end of the list: one that is far behind holds nobody
 * up.
 *
 * A page goes through the index of those that are behind, event by event, in slices, and ends early
 * when nobody takes part any more: all are full, say. The rows of the journal are kept until the
 * next are read or nobody needs the tenant, since a position that was full goes on in them.
 *
 * A scan hands over nothing that was not dispatched in the position's phase: what comes after is
 * the bus's. What is missing at the old end of a page was pruned, and who stood there is lost.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum { SLICE_EVENTS = 256, SLICE_NS = 2 * 1000 * 1000, PAUSE_MS = 50 };

static struct feed_positions *positions_of(struct feed_scan *scan) {
    return bk_container_of(scan, struct feed_positions, scan);
}

static struct feed_position *position_of(struct bk_list *link) {
    return bk_container_of(link, struct feed_position, link);
}

/* --- who takes part --------------------------------------------------------------------------- */

static void take_part(struct feed_scan *scan, struct feed_position *own) {
    own->next = feed_position_next(own);
    own->page = scan->number;
    scan->participant_count++;
}

/* The event at `at` may be going through the index already: who stands there waits for the next
 * page. */
void feed_scan_join(struct feed_position *own) {
    struct feed_scan *scan = &own->of->scan;
    uint64_t place = feed_position_place(own);
    if (scan->step == FEED_SCAN_HANDING && place > scan->at && place <= scan->last)
        take_part(scan, own);
}

/* Its next is written down by now. */
void feed_scan_leave(struct feed_position *own) {
    if (own->page == 0)
        return;
    own->page = 0;
    BK_ASSERT(own->of->scan.participant_count > 0);
    own->of->scan.participant_count--;
}

/* Those that took part become live or go to the end of the list. */
static void end_page(struct feed_scan *scan) {
    struct bk_list over;
    struct bk_list *node;
    bk_list_init(&over);
    BK_LIST_FOR_EACH(link, &scan->behind) {
        if (position_of(link)->page == 0)
            continue;
        bk_list_remove(link);
        bk_list_push(&over, link);
    }
    while ((node = bk_list_pop(&over)) != NULL) {
        struct feed_position *own = position_of(node);
        own->next = feed_position_next(own);
        feed_scan_leave(own);
        bk_list_push(&scan->behind, node);
        if (feed_position_place(own) > feed_position_side(own)->head)
            feed_position_move(own, BK_POSITION_LIVE);
    }
    BK_ASSERT(scan->participant_count == 0);
    scan->step = FEED_SCAN_IDLE;
}

/* --- a page ----------------------------------------------------------------------------------- */

/* Borrowed; NULL when it is neither in the tail nor among the rows. */
static struct bk_event *event_at(struct feed_scan *scan, uint64_t sequence) {
    struct feed_positions *all = positions_of(scan);
    struct bk_event *event = feed_tail_get(&feed_tenant_of(all->feed, all->tenant)->tail, sequence);
    if (event != NULL)
        return event;
    if (scan->rows != NULL && sequence >= scan->first_row &&
        sequence - scan->first_row < scan->row_count)
        return scan->rows[sequence - scan->first_row];
    return NULL;
}

/* In the next turn, after sockets were served. */
static void resume(struct feed_scan *scan) {
    bk_loop_defer_last(positions_of(scan)->feed->loop, &scan->task);
}

/* The next page is for the next turn, so that sockets are served. */
static void go_on(struct feed_scan *scan) {
    struct feed_positions *all = positions_of(scan);
    BK_ASSERT(scan->step == FEED_SCAN_IDLE);
    if (!bk_list_is_empty(&scan->behind)) {
        scan->step = FEED_SCAN_SCHEDULED;
        resume(scan);
    }
    feed_positions_settle(all);
}

static void hand_slice(struct feed_scan *scan) {
    struct feed_positions *all = positions_of(scan);
    uint64_t started_ns = bk_clock_monotonic_ns();
    for (uint32_t i = 0; scan->participant_count > 0 && scan->at <= scan->last; i++) {
        struct bk_event *event = event_at(scan, scan->at);
        if (event == NULL)
            break; /* it has left the tail meanwhile */
        if (i == SLICE_EVENTS || bk_clock_monotonic_ns() - started_ns >= SLICE_NS) {
            resume(scan);
            return;
        }
        (void)bk_event_ref(event);
        feed_position_hand_scanned(all, event);
        bk_event_unref(event);
        scan->at++;
    }
    end_page(scan);
    go_on(scan);
}

static uint64_t head_of(const struct feed_positions *all) {
    uint64_t functions = all->sides[0].head, plugins = all->sides[1].head;
    return functions < plugins ? functions : plugins;
}

/* The lowest place of one that is behind in lowest … place. */
static uint64_t lowest_place(const struct feed_scan *scan, uint64_t lowest, uint64_t place) {
    uint64_t found = place;
    for (const struct bk_list *node = scan->behind.next; node != &scan->behind; node = node->next) {
        uint64_t other =
            feed_position_place(bk_const_container_of(node, struct feed_position, link));
        if (other >= lowest && other < found)
            found = other;
    }
    return found;
}

/* How far before a place a page may begin so that it still takes the place in. */
static uint64_t window_before(uint64_t place) {
    return place > FEED_SCAN_ROWS_MAX ? place - FEED_SCAN_ROWS_MAX + 1 : 1;
}

/* The oldest event of the source that has this one. */
static uint64_t oldest_with(const struct feed_scan *scan, uint64_t place) {
    const struct feed_positions *all = bk_const_container_of(scan, struct feed_positions, scan);
    const struct feed_tail *tail = &feed_tenant_of(all->feed, all->tenant)->tail;
    return feed_tail_get(tail, place) != NULL ? tail->first_sequence : scan->first_row;
}

static void begin_page(struct feed_scan *scan, uint64_t place) {
    uint64_t lowest = window_before(place), oldest = oldest_with(scan, place);
    uint64_t first = lowest_place(scan, lowest < oldest ? oldest : lowest, place);
    uint64_t head = head_of(positions_of(scan));
    scan->number++;
    scan->at = first;
    scan->last = first + FEED_SCAN_ROWS_MAX - 1 < head ? first + FEED_SCAN_ROWS_MAX - 1 : head;
    scan->step = FEED_SCAN_HANDING;
    BK_LIST_FOR_EACH(link, &scan->behind) {
        struct feed_position *own = position_of(link);
        uint64_t stands = feed_position_place(own);
        if (stands >= first && stands <= scan->last)
            take_part(scan, own);
    }
    hand_slice(scan);
}

/* --- rows of the journal ---------------------------------------------------------------------- */

void feed_scan_drop_rows(struct feed_positions *all) {
    struct feed_scan *scan = &all->scan;
    if (scan->step == FEED_SCAN_READING)
        return;
    for (uint32_t i = 0; i < scan->row_count; i++)
        bk_event_unref(scan->rows[i]);
    bk_free(scan->rows);
    scan->rows = NULL;
    scan->row_count = 0;
    scan->row_bytes = 0;
}

/* On the reader. A hole behind the first row ends the page; the next one begins with it. */
static bool on_row(void *user, const struct bk_event_fields *fields) {
    struct feed_scan *scan = user;
    if (scan->row_count == 0)
        scan->first_row = fields->sequence;
    else if (fields->sequence != scan->first_row + scan->row_count)
        return false;
    struct bk_event *event = bk_event_create(fields);
    scan->rows[scan->row_count++] = event;
    scan->row_bytes += event->json.length;
    return scan->row_bytes < FEED_SCAN_BYTES_MAX;
}

static enum bk_status run_read(struct bk_connection *connection, struct bk_read *read) {
    struct feed_scan *scan = bk_container_of(read, struct feed_scan, read);
    struct bk_journal_query query = {.from = scan->from,
                                     .to = scan->to,
                                     .row_limit = FEED_SCAN_ROWS_MAX,
                                     .on_row = on_row,
                                     .user = scan};
    enum bk_status status = bk_journal_read(connection, &query);
    return status == BK_TIMEOUT && scan->row_count > 0 ? BK_OK : status;
}

/* Those that stand in from … to, which is gone. Each is told, and may close others. */
static void lose(struct feed_scan *scan, uint64_t from, uint64_t to) {
    struct bk_list lost;
    struct bk_list *node;
    bk_list_init(&lost);
    BK_LIST_FOR_EACH(link, &scan->behind) {
        uint64_t place = feed_position_place(position_of(link));
        if (place < from || place > to)
            continue;
        bk_list_remove(link);
        bk_list_push(&lost, link);
    }
    while ((node = bk_list_pop(&lost)) != NULL)
        feed_position_lose(position_of(node));
}

static void pause_scan(struct feed_scan *scan, enum bk_status status) {
    struct feed_positions *all = positions_of(scan);
    if (status != BK_BUSY && status != BK_TIMEOUT)
        bk_log_error(&all->feed->log, "positions_not_read", BK_STRING("tenant", all->tenant->name),
                     BK_TEXT("status", bk_status_name(status)), BK_INT("from", scan->from),
                     BK_INT("to", scan->to));
    scan->step = FEED_SCAN_SCHEDULED;
    bk_timer_start(scan->resume,
                   status == BK_BUSY || status == BK_TIMEOUT ? PAUSE_MS : 20 * PAUSE_MS, 0);
}

static bool has_one_in(const struct feed_scan *scan, uint64_t first, uint64_t last) {
    return !bk_list_is_empty(&scan->behind) && lowest_place(scan, first, last + 1) <= last;
}

static void on_read(struct bk_read *read, enum bk_status status) {
    struct feed_scan *scan = bk_container_of(read, struct feed_scan, read);
    struct feed_positions *all = positions_of(scan);
    scan->step = FEED_SCAN_SCHEDULED; /* by this call: nobody else begins a page meanwhile */
    if (status != BK_OK) {
        feed_scan_drop_rows(all);
        pause_scan(scan, status);
        feed_positions_settle(all);
        return;
    }
    uint64_t gone = scan->row_count == 0 ? scan->to : scan->first_row - 1;
    if (gone >= scan->from)
        lose(scan, scan->from, gone);
    uint64_t last = scan->first_row + scan->row_count - 1;
    if (scan->row_count > 0 && has_one_in(scan, scan->first_row, last)) {
        begin_page(scan, lowest_place(scan, scan->first_row, last));
        return;
    }
    scan->step = FEED_SCAN_IDLE;
    go_on(scan);
}

static void read_journal(struct feed_scan *scan, uint64_t place, uint64_t oldest) {
    struct feed_positions *all = positions_of(scan);
    uint64_t lowest = window_before(place), head = head_of(all);
    feed_scan_drop_rows(all);
    scan->from = lowest_place(scan, lowest < oldest ? oldest : lowest, place);
    scan->to = scan->from + FEED_SCAN_ROWS_MAX - 1;
    if (scan->to > head)
        scan->to = head;
    scan->rows = bk_alloc(FEED_SCAN_ROWS_MAX * sizeof(struct bk_event *));
    scan->read = (struct bk_read){.run = run_read, .done = on_read};
    scan->step = FEED_SCAN_READING;
    enum bk_status status = bk_store_read(all->tenant->database, &scan->read);
    if (status != BK_OK) {
        scan->step = FEED_SCAN_IDLE;
        pause_scan(scan, status);
    }
}

/* --- the next page ---------------------------------------------------------------------------- */

/* While those that are lost are told, their readers may do anything, also make others stand
 * behind. */
static void begin_next(struct feed_scan *scan) {
    struct feed_positions *all = positions_of(scan);
    scan->step = FEED_SCAN_SCHEDULED;
    while (!bk_list_is_empty(&scan->behind) && !feed_positions_is_leaving(all)) {
        struct feed_position *own = position_of(scan->behind.next);
        uint64_t place = feed_position_place(own);
        uint64_t oldest = bk_journal_state(all->tenant->database).oldest;
        if (place > feed_position_side(own)->head) {
            feed_position_move(own, BK_POSITION_LIVE);
        } else if (event_at(scan, place) != NULL) {
            begin_page(scan, place);
            return;
        } else if (place < oldest) {
            lose(scan, place, oldest - 1);
        } else {
            read_journal(scan, place, oldest);
            feed_positions_settle(all);
            return;
        }
    }
    scan->step = FEED_SCAN_IDLE;
    feed_positions_settle(all);
}

static void on_task(struct bk_task *task) {
    struct feed_scan *scan = bk_container_of(task, struct feed_scan, task);
    if (scan->step == FEED_SCAN_HANDING)
        hand_slice(scan);
    else
        begin_next(scan);
}

static void on_resume(struct bk_timer *timer, void *user) {
    (void)timer;
    begin_next(user);
}

void feed_scan_schedule(struct feed_positions *all) {
    struct feed_scan *scan = &all->scan;
    if (scan->step != FEED_SCAN_IDLE)
        return;
    scan->step = FEED_SCAN_SCHEDULED;
    bk_loop_defer_last(all->feed->loop, &scan->task);
}

/* --- life cycle ------------------------------------------------------------------------------- */

void feed_scan_init(struct feed_positions *all) {
    bk_list_init(&all->scan.behind);
    bk_task_init(&all->scan.task, on_task);
    all->scan.resume = bk_timer_create(all->feed->loop, on_resume, &all->scan);
}

void feed_scan_fini(struct feed_positions *all) {
    BK_ASSERT(bk_list_is_empty(&all->scan.behind) && all->scan.step != FEED_SCAN_READING);
    bk_task_cancel(&all->scan.task);
    bk_timer_close(all->scan.resume);
    feed_scan_drop_rows(all);
}
