/*
 * The part of a page that comes from the journal, on a reader thread: read->from..to, both
 * included, of which the loop knew when it asked. Two things may have changed since:
 *
 * - The oldest rows were pruned. Where the reader named its position, what comes next is gone and
 *   it is told so; where it asked for the start, or for a time, it begins with what is left.
 *   Backward, it is the end.
 * - More was committed. That belongs to the next page.
 *
 * A deadline that passes ends the page where it stands, since a shorter page is a correct one. Any
 * other hole between two rows is damage.
 */
#include "feed_private.h"

struct page_walk {
    struct bk_feed_read *read;
    uint64_t expected; /* the sequence of the next row */
    bool is_pruned;    /* rows are missing at the old end, where the reader stood */
    bool is_broken;    /* rows are missing elsewhere */
    bool is_too_large; /* the first event does not fit into the buffer */
};

/* Where the rows begin that are left. */
static bool begin_later(struct page_walk *walk, uint64_t sequence) {
    struct bk_feed_read *read = walk->read;
    if (feed_page_row_count(read) > 0) {
        walk->is_broken = true;
        return false;
    }
    if (!read->is_lenient) {
        walk->is_pruned = true;
        return false;
    }
    read->first_sequence = sequence;
    read->last_sequence = sequence - 1;
    walk->expected = sequence;
    return true;
}

static bool on_row(void *user, const struct bk_event_fields *fields) {
    struct page_walk *walk = user;
    struct bk_feed_read *read = walk->read;
    bool is_descending = read->query.is_descending;
    if (fields->sequence != walk->expected) {
        /* Backward, pruning cannot take a row and leave an older one. */
        walk->is_broken = is_descending;
        if (is_descending || !begin_later(walk, fields->sequence))
            return false;
    }
    if (!feed_page_take(read, fields, BK_SLICE_EMPTY)) {
        walk->is_too_large = feed_page_row_count(read) == 0;
        return false;
    }
    walk->expected = is_descending ? walk->expected - 1 : walk->expected + 1;
    return !feed_page_is_full(read);
}

/* Turns a time into a place: the first event that is not before it, or the end. */
static enum bk_status seek_time(struct bk_connection *connection, struct bk_feed_read *read) {
    uint64_t sequence;
    enum bk_status status = bk_journal_seek(connection, read->after_ms, &sequence);
    if (status != BK_OK)
        return status;
    if (sequence > read->to + 1)
        sequence = read->to + 1;
    if (sequence < read->from)
        sequence = read->from;
    read->first_sequence = sequence;
    read->last_sequence = sequence - 1;
    if (read->query.is_descending) {
        read->to = sequence - 1;
        if (read->to >= read->from + BK_FEED_SCAN_MAX)
            read->from = read->to - BK_FEED_SCAN_MAX + 1;
    } else {
        read->from = sequence;
        if (read->to >= read->from + BK_FEED_SCAN_MAX)
            read->to = read->from + BK_FEED_SCAN_MAX - 1;
    }
    return BK_OK;
}

/* Rows were there when the loop asked; none came. */
static bool has_lost_all(const struct bk_feed_read *read, const struct page_walk *walk) {
    return walk->is_pruned || (feed_page_row_count(read) == 0 && !read->is_lenient);
}

enum bk_status feed_journal_run(struct bk_connection *connection, struct bk_read *journal_read) {
    struct bk_feed_read *read = bk_container_of(journal_read, struct bk_feed_read, journal_read);
    if (read->is_time) {
        enum bk_status status = seek_time(connection, read);
        if (status != BK_OK)
            return status;
    }
    if (read->from > read->to)
        return BK_OK;
    struct page_walk walk = {.read = read,
                             .expected = read->query.is_descending ? read->to : read->from};
    struct bk_journal_query query = {.from = read->from,
                                     .to = read->to,
                                     .is_descending = read->query.is_descending,
                                     .row_limit = BK_FEED_SCAN_MAX,
                                     .on_row = on_row,
                                     .user = &walk};
    enum bk_status status = bk_journal_read(connection, &query);
    if (status == BK_TIMEOUT && feed_page_row_count(read) > 0)
        status = BK_OK;
    if (status != BK_OK)
        return status;
    if (walk.is_broken)
        return BK_CORRUPT;
    if (walk.is_too_large)
        return BK_TOO_LARGE;
    return has_lost_all(read, &walk) ? BK_GONE : BK_OK;
}
