/*
 * The head: a small file beside a database with a journal, that tells an older copy of the database
 * from the one that was in force. Whoever copies data.db back by hand takes the journal back with
 * it; the numbers that follow would be given out a second time, and a reader with a cursor from
 * before would miss them without a word. So such a database gets a new epoch when it is opened, and
 * cursors of before are refused (409 cursor_epoch_changed).
 *
 *   epoch       of the database
 *   base        a sequence that is certainly committed in this epoch
 *   reserved    as far as sequences may go before the head is written again; equal to base: the
 *               database was closed, or has been given no event since it was opened
 *
 * What is found when a database is opened, and what becomes of it:
 *
 *   no head                          a head is written: a new database, one from before there were
 *                                    heads, a restored backup (it brings an epoch of its own)
 *   it cannot be read (I/O, rights)  the opening fails: this says nothing about the database
 *   it is damaged                    new epoch: nobody knows how far the old one went
 *   of another epoch                 new epoch: a database of another time was put here. A renewal
 *                                    that was cut off before the head was written looks the same
 *                                    and is done once more: nobody has seen that epoch
 *   same epoch, last < base          new epoch: an older copy was put back
 *   same epoch, base < reserved,     new epoch: a copy made after a clean stop was put back, since
 *     yet marked as closed           the database that the head knows was never closed
 *   same epoch, last > reserved      the head is written anew: it is the older one, or a program
 *                                    that knows no heads has written meanwhile. Nothing is lost
 *   same epoch, otherwise            kept: also after kill -9, and when the directory was moved
 *
 * A new epoch where none was needed costs the readers one reading of everything; an epoch that
 * should have been renewed costs them events that they never hear of. Where both may be meant, it
 * is renewed. Not recognised: the whole directory put back, head and all, which looks like a moved
 * one; and after a kill, a copy of a running database that lacks less than STEP events.
 *
 * It costs a write about nothing: the head is written once per STEP sequences, before the commit
 * that would pass `reserved`, and synced once a second at most. Between syncs a power cut leaves an
 * older head, which is true as well, only with a lower base. The database's mark "clean" is taken
 * away, on the disk, before the head says base < reserved, and set after the head says that they
 * are equal: that both stand there at once is therefore never the work of a crash.
 *
 * The file has two slots, a page of the file system apart, written in turns and in place. So a
 * write that is cut off spoils one slot and leaves the other, needs neither a rename nor a sync of
 * the directory, and works on a full disk. Only the first write makes a file, through a rename.
 * When the head cannot be written, writes go on: that is logged, and tried again a step later.
 *
 * A slot, numbers little-endian:
 *    0  8  "bakdhead"       16  8  count of writes; the slot with the higher one is in force
 *    8  4  version, 1       24  8  epoch
 *   12  4  0                32  8  base         40  8  reserved
 *   48  8  the first bytes of SHA-256 of all this
 */
#include "store_private.h"

#include "bakend/crypto.h"
#include "bakend/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
    STEP = 1024,
    SYNC_MS = 1000,
    VERSION = 1,
    SLOT_DISTANCE_BYTES = 4096,
    FILE_BYTES = 2 * SLOT_DISTANCE_BYTES,
    VERSION_AT = 8,
    COUNT_AT = 16,
    EPOCH_AT = 24,
    BASE_AT = 32,
    RESERVED_AT = 40,
    CHECKSUM_AT = 48,
    CHECKSUM_BYTES = 8,
    SLOT_BYTES = CHECKSUM_AT + CHECKSUM_BYTES
};

static const char magic[] = "bakdhead";

/* --- slots ------------------------------------------------------------------------------------ */

static void put_number(uint8_t *bytes, size_t length, uint64_t number) {
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
}

static uint64_t get_number(const uint8_t *bytes, size_t length) {
    uint64_t number = 0;
    for (size_t i = length; i > 0; i--)
        number = number << 8 | bytes[i - 1];
    return number;
}

static void make_checksum(uint8_t checksum[BK_SHA256_BYTES], const uint8_t *slot) {
    bk_sha256(checksum, bk_slice_make((const char *)slot, CHECKSUM_AT));
}

static void encode_slot(uint8_t slot[SLOT_BYTES], const struct store_head *head) {
    uint8_t checksum[BK_SHA256_BYTES];
    memset(slot, 0, SLOT_BYTES);
    memcpy(slot, magic, VERSION_AT);
    put_number(slot + VERSION_AT, 4, VERSION);
    put_number(slot + COUNT_AT, 8, head->write_count);
    memcpy(slot + EPOCH_AT, head->epoch, STORE_EPOCH_BYTES);
    put_number(slot + BASE_AT, 8, head->base);
    put_number(slot + RESERVED_AT, 8, head->reserved);
    make_checksum(checksum, slot);
    memcpy(slot + CHECKSUM_AT, checksum, CHECKSUM_BYTES);
}

/* Takes the slot's values over when it is whole and newer than what the head has. */
static void decode_slot(struct store_head *head, const uint8_t *slot) {
    uint8_t checksum[BK_SHA256_BYTES];
    make_checksum(checksum, slot);
    if (memcmp(slot, magic, VERSION_AT) != 0 || get_number(slot + VERSION_AT, 4) != VERSION ||
        memcmp(slot + CHECKSUM_AT, checksum, CHECKSUM_BYTES) != 0)
        return;
    if (get_number(slot + COUNT_AT, 8) <= head->write_count)
        return;
    head->write_count = get_number(slot + COUNT_AT, 8);
    memcpy(head->epoch, slot + EPOCH_AT, STORE_EPOCH_BYTES);
    head->base = get_number(slot + BASE_AT, 8);
    head->reserved = get_number(slot + RESERVED_AT, 8);
}

/* --- the file --------------------------------------------------------------------------------- */

/* The first write: a file with one slot in it, in the place of whatever there was. */
static enum bk_status create_file(const struct store_head *head, struct bk_error *error) {
    uint8_t bytes[FILE_BYTES] = {0};
    encode_slot(bytes + head->write_count % 2 * SLOT_DISTANCE_BYTES, head);
    return bk_file_write_atomic(head->path, bk_slice_make((const char *)bytes, sizeof(bytes)),
                                error);
}

static enum bk_status write_slot(const struct store_head *head, bool must_sync,
                                 struct bk_error *error) {
    uint8_t slot[SLOT_BYTES];
    off_t at = (off_t)(head->write_count % 2 * SLOT_DISTANCE_BYTES);
    int descriptor = open(head->path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    bool is_written;
    encode_slot(slot, head);
    is_written = descriptor >= 0 && pwrite(descriptor, slot, sizeof(slot), at) == SLOT_BYTES &&
                 (!must_sync || fdatasync(descriptor) == 0);
    if (!is_written)
        (void)bk_error_set(error, BK_IO, "%s cannot be written: %s", head->path, strerror(errno));
    if (descriptor >= 0)
        (void)close(descriptor);
    return is_written ? BK_OK : BK_IO;
}

/* A write that failed is not counted, so the next one goes to the same slot, and the other one
 * stays whole. */
static bool write_head(struct bk_database *database, bool must_sync) {
    struct store_head *head = &database->head;
    uint64_t now_ns = bk_clock_monotonic_ns();
    struct bk_error error = BK_ERROR_INIT;
    enum bk_status status = BK_FAILPOINT("store.head");
    must_sync = must_sync || now_ns - head->synced_ns >= SYNC_MS * STORE_NS_PER_MS;
    head->write_count++;
    if (status == BK_OK)
        status = head->has_file ? write_slot(head, must_sync, &error) : create_file(head, &error);
    if (status == BK_OK) {
        head->has_file = true;
        if (must_sync)
            head->synced_ns = now_ns;
        return true;
    }
    head->write_count--;
    bk_log_warn(&database->store->log, "head_not_written", BK_STRING("tenant", database->tenant),
                BK_TEXT("path", head->path), BK_TEXT("error", error.message),
                BK_TEXT("effect", "an older copy of the database that is put back may not be "
                                  "recognised; it is tried again"));
    return false;
}

/* --- opening ---------------------------------------------------------------------------------- */

static enum bk_status read_head(struct store_head *head, bool *is_there, struct bk_error *error) {
    struct bk_buffer bytes;
    enum bk_status status;
    *is_there = true;
    bk_buffer_init(&bytes, FILE_BYTES);
    status = bk_file_read(head->path, &bytes, error);
    for (size_t at = 0; status == BK_OK && at + SLOT_BYTES <= bytes.length;
         at += SLOT_DISTANCE_BYTES)
        decode_slot(head, (const uint8_t *)bytes.data + at);
    bk_buffer_fini(&bytes);
    if (status != BK_NOT_FOUND && status != BK_TOO_LARGE)
        return status;
    /* One that is too large is a damaged one. */
    *is_there = status == BK_TOO_LARGE;
    *error = (struct bk_error)BK_ERROR_INIT;
    return BK_OK;
}

/* Why the database needs a new epoch, or NULL. */
static const char *judge(const struct bk_database *database) {
    const struct store_head *head = &database->head;
    if (!head->has_file)
        return "the head is damaged, and with it the record of how far the journal went";
    if (memcmp(head->epoch, database->epoch, STORE_EPOCH_BYTES) != 0)
        return "the database is of another epoch than the head beside it: it was put here by hand";
    if (database->counter.last < head->base)
        return "the journal ends before a sequence that was committed: an older copy of the "
               "database was put back";
    if (!database->was_unclean && head->base < head->reserved)
        return "the database was closed, and the one in use here never was: an older copy was put "
               "back";
    return NULL;
}

enum bk_status store_head_examine(struct bk_database *database, struct bk_error *error) {
    struct store_head *head = &database->head;
    bool is_there = false;
    enum bk_status status;
    if (head->path == NULL)
        return BK_OK;
    status = read_head(head, &is_there, error);
    if (status != BK_OK) {
        bk_error_prefix(error, "the head of the database must be readable");
        return status;
    }
    head->has_file = head->write_count > 0;
    head->former_base = head->base;
    head->renewal = is_there ? judge(database) : NULL;
    return BK_OK;
}

static void tell_renewal(const struct bk_database *database) {
    bk_log_warn(&database->store->log, "epoch_renewed", BK_STRING("tenant", database->tenant),
                BK_TEXT("path", database->path), BK_TEXT("reason", database->head.renewal),
                BK_INT("last", database->counter.last), BK_INT("base", database->head.former_base),
                BK_TEXT("effect", "cursors of before get 409 cursor_epoch_changed: their readers "
                                  "read everything again"));
}

static bool is_up_to_date(const struct bk_database *database) {
    const struct store_head *head = &database->head;
    return head->has_file && memcmp(head->epoch, database->epoch, STORE_EPOCH_BYTES) == 0 &&
           database->counter.last <= head->reserved;
}

void store_head_begin(struct bk_database *database) {
    struct store_head *head = &database->head;
    if (head->path == NULL)
        return;
    if (head->renewal != NULL)
        tell_renewal(database);
    head->renewal = NULL;
    if (is_up_to_date(database))
        return;
    /* With a file of its own, so that no slot of another epoch stays behind. */
    head->has_file = false;
    memcpy(head->epoch, database->epoch, STORE_EPOCH_BYTES);
    head->base = head->reserved = database->counter.last;
    (void)write_head(database, true);
}

/* --- in use, and closing ---------------------------------------------------------------------- */

void store_head_reserve(struct bk_database *database, uint64_t committed) {
    struct store_head *head = &database->head;
    uint64_t last = database->counter.last;
    if (last <= head->reserved || head->path == NULL)
        return;
    BK_ASSERT(committed <= last);
    head->base = committed;
    head->reserved = committed + STEP > last ? committed + STEP : last;
    (void)write_head(database, false);
}

bool store_head_end(struct bk_database *database) {
    struct store_head *head = &database->head;
    uint64_t last = database->counter.last;
    if (head->path == NULL || (head->has_file && head->base == last && head->reserved == last))
        return true;
    head->base = head->reserved = last;
    return write_head(database, true);
}
