/*
 * Proves what a store promises on a disk that fails: each call of the file system fails once at
 * each place where it is made, and from there on for ever, while a store opens, writes, reads,
 * prunes, copies, checkpoints and closes.
 *
 *   acknowledged    is there, once, with one row in the journal; also after a power cut
 *   refused         is not there, also after a restart …
 *   failed, BK_IO   … or nobody knows: then it is there as a whole or not at all
 *   afterwards      the same process takes writes again, the journal has no gap and the bus has
 *                   skipped nothing that is in it; a restart finds a whole file
 *
 * How a round ends:
 *
 *   goes on         as above, then closes and opens again
 *   is killed       at once: another store opens what the kernel has
 *   loses power     after it has gone on: another store opens what the disk certainly has
 *   both            is killed, another store goes on with what the kernel has, and then the power
 *                   is cut: what the kernel had was never all on the disk
 *
 * A round copies a directory whose store was killed, so that each opening has a WAL to recover.
 * The short form takes SHORT_ROUNDS places of each kind of call, evenly spread, with one ending
 * each; BAKEND_LONG=1 takes all places, up to LONG_ROUNDS, with all endings. BAKEND_VERBOSE=1 names
 * each.
 */
#include "fault_vfs.h"
#include "store_fixture.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/clock.h"
#include "bakend/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum ending { ENDING_GOES_ON, ENDING_KILL, ENDING_POWER, ENDING_KILL_AND_POWER, ENDINGS };

enum {
    SHORT_ROUNDS = 2,
    SHORT_ROUNDS_SLOW = 2,
    ROUNDS_LARGE = 8,
    LONG_ROUNDS = 400,
    LONG_ROUNDS_SLOW = 24,
    ITEMS_AT_FIRST = 40,
    ITEMS_MAX = 64,
    BATCH = 5,
    RECOVERY_MS = 8000,
    BLOB_BYTES = 64 * 1024,
    BLOBS = 66 /* past the 4 MB of a checkpoint */
};

struct item {
    char name[16];
    struct support_write write;
    enum bk_status status; /* BK_BUSY: was not accepted */
};

struct round {
    struct support_store store;
    char *directory;
    struct item items[ITEMS_MAX];
    size_t item_count;
};

struct scenario {
    const char *name;
    void (*run)(struct round *round);
    bool begins_closed; /* opens the store itself */
    bool is_slow;       /* it writes megabytes */
    bool is_large;      /* what the disk has of it is not remembered */
    uint64_t retention_max_bytes;
};

static char *template_directory;
static uint64_t total_rounds;

/* --- writing ---------------------------------------------------------------------------------- */

static enum bk_status fail_after_item(struct bk_transaction *transaction, void *user) {
    enum bk_status status = support_run_item(transaction, user);
    return status == BK_OK ? BK_UNPROCESSABLE : status;
}

static void submit(struct round *round, support_run_cb run) {
    struct item *item = &round->items[round->item_count];
    BK_ASSERT(round->item_count < ITEMS_MAX);
    (void)snprintf(item->name, sizeof(item->name), "new%zu", round->item_count++);
    support_write_init(&item->write, run, item->name);
    item->status = bk_store_write(round->store.database, &item->write.write);
    item->write.is_done = item->status != BK_OK;
    item->write.status = item->status;
}

static void await(struct round *round) {
    for (size_t i = 0; i < round->item_count; i++) {
        struct item *item = &round->items[i];
        if (!item->write.is_done)
            support_loop_run_until(round->store.loop, &item->write.is_done);
        item->status = item->write.status;
    }
}

static void write_batch(struct round *round, support_run_cb third) {
    for (int i = 0; i < BATCH; i++)
        submit(round, i == 2 ? third : support_run_item);
    await(round);
}

static size_t count_status(const struct round *round, bool is_unknown) {
    size_t count = 0;
    for (size_t i = 0; i < round->item_count; i++)
        count += round->items[i].status == (is_unknown ? BK_IO : BK_OK);
    return count;
}

/* A read tells the truth or fails. */
struct counting {
    int64_t count;
};

static enum bk_status count_items(struct bk_connection *connection, void *user) {
    const struct bk_sql sql = bk_sql_make(BK_SLICE("SELECT count(*) FROM items WHERE id > 0"));
    struct counting *counting = user;
    struct bk_statement *statement;
    enum bk_status status = bk_connection_statement(connection, &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK)
        counting->count = bk_statement_int(statement, 0);
    return status;
}

static void read_truly(struct round *round) {
    struct counting counting = {0};
    enum bk_status status = support_store_read(&round->store, count_items, &counting);
    int64_t least = ITEMS_AT_FIRST + (int64_t)count_status(round, false);
    if (status != BK_OK)
        return;
    assert_in_range(counting.count, least, least + (int64_t)count_status(round, true));
}

/* --- scenarios -------------------------------------------------------------------------------- */

static void run_writes(struct round *round) {
    write_batch(round, support_run_item);
    read_truly(round);
    write_batch(round, fail_after_item);
    submit(round, support_run_item);
    await(round);
    write_batch(round, support_run_item);
    read_truly(round);
}

static enum bk_status write_blobs(struct bk_transaction *transaction, void *user) {
    char sql[256];
    (void)user;
    (void)snprintf(sql, sizeof(sql),
                   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) "
                   "INSERT INTO blobs SELECT zeroblob(%d) FROM n",
                   BLOBS, BLOB_BYTES);
    return bk_connection_execute(bk_transaction_connection(transaction), bk_slice_from(sql));
}

/* Two of them, so that the second starts the WAL over. */
static void run_checkpoint(struct round *round) {
    for (int i = 0; i < 2; i++) {
        (void)support_store_run(&round->store, write_blobs, NULL);
        write_batch(round, support_run_item);
    }
    read_truly(round);
}

/* More frames than one block of the WAL's index holds, so that the COMMIT itself needs another one:
 * after all has been written and synced. */
static enum bk_status run_large_item(struct bk_transaction *transaction, void *user) {
    enum bk_status status = support_run_item(transaction, user);
    for (int i = 0; i < 4 && status == BK_OK; i++)
        status = write_blobs(transaction, NULL);
    return status;
}

static void run_large(struct round *round) {
    submit(round, run_large_item);
    await(round);
    read_truly(round);
}

static void run_prune(struct round *round) {
    write_batch(round, support_run_item);
    support_loop_run_for(round->store.loop, 15);
    write_batch(round, support_run_item);
}

struct copying {
    struct bk_database_copy copy;
    bool is_done;
    enum bk_status status;
};

static void on_copied(struct bk_database_copy *copy, enum bk_status status) {
    struct copying *self = bk_container_of(copy, struct copying, copy);
    self->is_done = true;
    self->status = status;
}

static void run_copy(struct round *round) {
    char path[SUPPORT_STORE_PATH_BYTES];
    struct copying copying = {.copy = {.path = path, .done = on_copied}};
    (void)snprintf(path, sizeof(path), "%s/copy.db", round->directory);
    assert_int_equal(bk_database_copy(round->store.database, &copying.copy), BK_OK);
    write_batch(round, support_run_item);
    support_loop_run_until(round->store.loop, &copying.is_done);
    (void)support_vfs_disarm();
    if (copying.status == BK_OK)
        assert_int_equal(bk_database_check_file(path, NULL), BK_OK);
    else
        assert_int_equal(bk_file_size(path), -1);
    (void)bk_file_remove(path, NULL);
}

static const struct bk_migration more_migrations[] = {
    {"items_1", "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE)"},
    {"items_2", "ALTER TABLE items ADD COLUMN size INTEGER; UPDATE items SET size = id"},
    {"items_3", "CREATE TABLE more (id INTEGER PRIMARY KEY, name TEXT); "
                "INSERT INTO more SELECT id, name FROM items"},
};

static void run_opening(struct round *round) {
    round->store.opening.options.migrations = more_migrations;
    round->store.opening.options.migration_count = BK_COUNT_OF(more_migrations);
    if (support_store_open(&round->store) == BK_OK) {
        write_batch(round, support_run_item);
    } else {
        assert_true(round->store.opening.error.message[0] != '\0');
        assert_null(round->store.database);
    }
}

static void run_closing(struct round *round) {
    write_batch(round, support_run_item);
    support_store_close(&round->store);
}

static const struct scenario scenarios[] = {
    {.name = "writes", .run = run_writes},
    {.name = "checkpoint", .run = run_checkpoint, .is_slow = true},
    {.name = "prune", .run = run_prune, .retention_max_bytes = 300},
    {.name = "copy", .run = run_copy},
    {.name = "large", .run = run_large, .is_slow = true, .is_large = true},
    {.name = "opening", .run = run_opening, .begins_closed = true},
    {.name = "closing", .run = run_closing},
};

/* --- a round ---------------------------------------------------------------------------------- */

static void start_store(struct round *round, const struct scenario *scenario) {
    struct bk_store_options options;
    bk_store_options_init(&options);
    options.writer_count = options.reader_count = 1;
    options.retention_max_bytes = scenario->retention_max_bytes;
    options.prune_interval_ms = 5;
    support_store_start(&round->store, &options);
}

static void set_head(struct support_store *store, char path[SUPPORT_STORE_PATH_BYTES]) {
    (void)snprintf(path, SUPPORT_STORE_PATH_BYTES, "%s/head", store->directory);
    store->opening.options.head_path = path;
}

static void begin_round(struct round *round, const struct scenario *scenario,
                        char head[SUPPORT_STORE_PATH_BYTES]) {
    memset(round, 0, sizeof(*round));
    support_store_prepare(&round->store);
    round->directory = round->store.directory;
    set_head(&round->store, head);
    support_vfs_kill(template_directory, round->directory);
    start_store(round, scenario);
    if (!scenario->begins_closed)
        assert_int_equal(support_store_open(&round->store), BK_OK);
}

/* The disk is well again, and then so is the store, without a restart. */
static void assert_takes_writes(struct round *round) {
    uint64_t end_ns = bk_clock_monotonic_ns() + RECOVERY_MS * UINT64_C(1000000);
    char name[] = "afterwards";
    enum bk_status status;
    if (round->store.database == NULL)
        assert_int_equal(support_store_open(&round->store), BK_OK);
    while ((status = support_store_run(&round->store, support_run_item, name)) != BK_OK) {
        assert_true(bk_clock_monotonic_ns() < end_ns);
        support_loop_run_for(round->store.loop, 20);
    }
}

static void assert_bus_skipped_nothing(const struct round *round) {
    const struct support_store *store = &round->store;
    for (size_t i = 1; i < store->event_count; i++)
        assert_int_equal(store->events[i], store->events[i - 1] + 1);
}

static int64_t count_of(struct round *round, const char *sql, const char *name) {
    char text[256];
    (void)snprintf(text, sizeof(text), sql, name);
    return support_store_number(&round->store, text);
}

/* prunes: the rows of the journal may be gone. */
static void assert_item(struct round *round, const struct item *item, bool prunes) {
    int64_t rows = count_of(round, "SELECT count(*) FROM items WHERE name = '%s'", item->name);
    int64_t events =
        count_of(round, "SELECT count(*) FROM _journal WHERE subject = '%s'", item->name);
    if (item->status == BK_OK)
        assert_int_equal(rows, 1);
    else if (item->status != BK_IO)
        assert_int_equal(rows, 0);
    assert_true(events == rows || (prunes && events == 0));
}

/* What must be true whenever the store is open and well. */
static void assert_whole(struct round *round, bool prunes) {
    assert_int_equal(count_of(round, "SELECT count(*) FROM items WHERE id <= %s", "40"),
                     ITEMS_AT_FIRST);
    for (size_t i = 0; i < round->item_count; i++)
        assert_item(round, &round->items[i], prunes);
    assert_true(count_of(round,
                         "SELECT count(*) = max(sequence) - min(sequence) + 1 "
                         "FROM _journal%s",
                         ""));
    if (!prunes)
        assert_int_equal(
            count_of(round, "SELECT count(*) FROM items WHERE name = '%s'", "afterwards"),
            count_of(round, "SELECT count(*) FROM _journal WHERE subject = '%s'", "afterwards"));
    assert_int_equal(bk_journal_state(round->store.database).last,
                     count_of(round, "SELECT max(sequence) FROM _journal%s", ""));
}

/* A store on another directory that remembers the same items. */
static void follow(struct round *round, const struct scenario *scenario, enum ending ending) {
    struct round *next = bk_alloc_zero(sizeof(*next));
    char head[SUPPORT_STORE_PATH_BYTES];
    support_store_prepare(&next->store);
    set_head(&next->store, head);
    next->directory = next->store.directory;
    next->item_count = round->item_count;
    for (size_t i = 0; i < round->item_count; i++)
        next->items[i] = round->items[i];
    if (ending == ENDING_POWER)
        support_vfs_power_cut(round->directory, next->directory);
    else
        support_vfs_kill(round->directory, next->directory);
    start_store(next, scenario);
    if (support_store_open(&next->store) != BK_OK)
        fail_msg("%s", next->store.opening.error.message);
    if (ending == ENDING_KILL_AND_POWER) {
        write_batch(next, support_run_item);
        follow(next, scenario, ENDING_POWER);
    }
    assert_whole(next, scenario->retention_max_bytes > 0);
    support_store_close(&next->store);
    if (bk_database_check_file(next->store.path, NULL) != BK_OK)
        fail_msg("the file is damaged");
    support_store_destroy(&next->store);
    bk_free(next);
}

static void reopen_and_assert(struct round *round, const struct scenario *scenario) {
    bool prunes = scenario->retention_max_bytes > 0;
    struct bk_error error = BK_ERROR_INIT;
    support_store_close(&round->store);
    if (bk_database_check_file(round->store.path, &error) != BK_OK)
        fail_msg("%s", error.message);
    assert_int_equal(support_store_open(&round->store), BK_OK);
    assert_whole(round, prunes);
    support_store_close(&round->store);
}

static uint32_t play(const struct scenario *scenario, enum support_vfs_call call, uint32_t nth,
                     bool is_sticky, enum ending ending) {
    struct round *round = bk_alloc_zero(sizeof(*round));
    char head[SUPPORT_STORE_PATH_BYTES];
    uint32_t count;
    support_vfs_remember(ending >= ENDING_POWER);
    begin_round(round, scenario, head);
    support_vfs_arm(call, nth, is_sticky);
    scenario->run(round);
    count = support_vfs_disarm();
    if (ending == ENDING_KILL || ending == ENDING_KILL_AND_POWER)
        follow(round, scenario, ending);
    assert_takes_writes(round);
    assert_bus_skipped_nothing(round);
    if (ending == ENDING_POWER)
        follow(round, scenario, ending);
    reopen_and_assert(round, scenario);
    support_store_destroy(&round->store);
    bk_free(round);
    support_vfs_remember(false);
    total_rounds++;
    return count;
}

/* --- all places ------------------------------------------------------------------------------- */

static bool is_long(void) {
    const char *text = getenv("BAKEND_LONG");
    return text != NULL && strcmp(text, "1") == 0;
}

/* The ith of so many places, evenly spread from the first to the last. */
static uint32_t place(uint32_t i, uint32_t rounds, uint32_t total) {
    return rounds < 2 ? 1 : 1 + (uint32_t)((uint64_t)i * (total - 1) / (rounds - 1));
}

/* In the short form each place has one ending, in turn. */
static void play_place(const struct scenario *scenario, enum support_vfs_call call, uint32_t nth,
                       uint32_t turn) {
    uint32_t count = scenario->is_large ? ENDING_POWER : ENDINGS;
    for (int is_sticky = 0; is_sticky <= 1; is_sticky++) {
        for (uint32_t ending = 0; ending < count; ending++) {
            if (!is_long() && !scenario->is_large && ending != (turn + (uint32_t)is_sticky) % count)
                continue;
            if (getenv("BAKEND_VERBOSE") != NULL)
                print_message("%s: %s at %u%s, ending %u\n", scenario->name,
                              support_vfs_names[call], nth, is_sticky ? " and after" : "", ending);
            (void)play(scenario, call, nth, is_sticky != 0, (enum ending)ending);
        }
    }
}

static void play_all_places(const struct scenario *scenario, enum support_vfs_call call) {
    uint64_t started_ns = bk_clock_monotonic_ns();
    uint32_t total = play(scenario, call, 0, false, ENDING_GOES_ON);
    uint32_t most = scenario->is_slow ? (is_long() ? LONG_ROUNDS_SLOW : SHORT_ROUNDS_SLOW)
                                      : (is_long() ? LONG_ROUNDS : SHORT_ROUNDS);
    uint32_t rounds;
    if (scenario->is_large)
        most = ROUNDS_LARGE;
    rounds = total < most ? total : most;
    for (uint32_t i = 0; i < rounds; i++)
        play_place(scenario, call, place(i, rounds, total), i);
    print_message("%s: %s: %u of %u places, %u ms\n", scenario->name, support_vfs_names[call],
                  rounds, total, (unsigned)((bk_clock_monotonic_ns() - started_ns) / 1000000));
}

static void make_template(void) {
    struct support_store *store = bk_alloc(sizeof(*store));
    char head[SUPPORT_STORE_PATH_BYTES];
    char table[] = "CREATE TABLE blobs (data)";
    support_store_create(store, NULL);
    set_head(store, head);
    assert_int_equal(support_store_open(store), BK_OK);
    assert_int_equal(support_store_run(store, support_run_sql, table), BK_OK);
    for (int i = 0; i < ITEMS_AT_FIRST; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "old%d", i);
        assert_int_equal(support_store_run(store, support_run_item, name), BK_OK);
    }
    template_directory = support_directory_create();
    support_vfs_kill(store->directory, template_directory);
    support_store_close(store);
    support_store_destroy(store);
    bk_free(store);
}

static int setup(void **state) {
    (void)state;
    support_vfs_install();
    make_template();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_directory_remove(template_directory);
    support_vfs_uninstall();
    if (total_rounds > 0)
        support_promise("faults of the disk", "%llu rounds, 0 acknowledged lost, 0 refused there",
                        (unsigned long long)total_rounds);
    return 0;
}

/* Its calls are many, and only those at its end are other than those of other scenarios. */
static void play_large(const struct scenario *scenario) {
    static const enum support_vfs_call calls[] = {SUPPORT_VFS_SHM_MAP, SUPPORT_VFS_SHM_FULL};
    for (size_t i = 0; i < BK_COUNT_OF(calls); i++)
        play_all_places(scenario, calls[i]);
}

static void play_scenario(const char *name) {
    for (size_t i = 0; i < BK_COUNT_OF(scenarios); i++) {
        if (strcmp(scenarios[i].name, name) != 0)
            continue;
        if (scenarios[i].is_large) {
            play_large(&scenarios[i]);
            continue;
        }
        for (int call = 0; call < SUPPORT_VFS_CALLS; call++)
            play_all_places(&scenarios[i], (enum support_vfs_call)call);
    }
}

static void writes_survive_a_failing_disk(void **state) {
    (void)state;
    play_scenario("writes");
}

static void checkpoints_survive_a_failing_disk(void **state) {
    (void)state;
    play_scenario("checkpoint");
}

static void a_large_commit_survives_a_failing_disk(void **state) {
    (void)state;
    play_scenario("large");
}

static void pruning_survives_a_failing_disk(void **state) {
    (void)state;
    play_scenario("prune");
}

static void copies_survive_a_failing_disk(void **state) {
    (void)state;
    play_scenario("copy");
}

static void openings_survive_a_failing_disk(void **state) {
    (void)state;
    play_scenario("opening");
}

static void closings_survive_a_failing_disk(void **state) {
    (void)state;
    play_scenario("closing");
}

/* An argument is a pattern of the tests to run. */
int main(int argument_count, char **arguments) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_survive_a_failing_disk),
        cmocka_unit_test(checkpoints_survive_a_failing_disk),
        cmocka_unit_test(a_large_commit_survives_a_failing_disk),
        cmocka_unit_test(pruning_survives_a_failing_disk),
        cmocka_unit_test(copies_survive_a_failing_disk),
        cmocka_unit_test(openings_survive_a_failing_disk),
        cmocka_unit_test(closings_survive_a_failing_disk),
    };
    if (argument_count > 1)
        cmocka_set_test_filter(arguments[1]);
    return cmocka_run_group_tests(tests, setup, teardown);
}
