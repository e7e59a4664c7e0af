/*
 * The store's life cycle, its options and its figures.
 *
 * The store keeps the loop alive while something is on its way through its threads, and lets it end
 * otherwise. Figures are counters that one thread adds to and any may read.
 */
#include "store_private.h"

enum {
    DEFAULT_WRITERS = 2,
    DEFAULT_READERS = 2,
    DEFAULT_QUEUE_MAX = 4096,
    DEFAULT_READ_QUEUE_MAX = 1024,
    DEFAULT_BATCH_MAX = 128, /* 512 bring stalls of 58 ms */
    DEFAULT_GATHER_MAX = 8,  /* a lock each costs more, and a whole turn lets the writer wait */
    DEFAULT_READ_DEADLINE_MS = 100,
    DEFAULT_RETENTION_DAYS = 30,
    DEFAULT_PRUNE_INTERVAL_MS = 60 * 1000,
    MS_PER_DAY = 24 * 60 * 60 * 1000,
    MAINTENANCE_QUEUE_MAX = 1024
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

/* SQLite's own statistics of memory would take a lock at each allocation. */
static void init_library(void) {
    int code;
    BK_ASSERT(sqlite3_threadsafe() != 0);
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    code = sqlite3_initialize();
    if ((code & 0xff) == SQLITE_NOMEM)
        bk_alloc_give_up(0);
    BK_ASSERT(code == SQLITE_OK);
    store_journal_init();
}

void bk_store_options_init(struct bk_store_options *options) {
    *options = (struct bk_store_options){
        .writer_count = DEFAULT_WRITERS,
        .reader_count = DEFAULT_READERS,
        .queue_max = DEFAULT_QUEUE_MAX,
        .read_queue_max = DEFAULT_READ_QUEUE_MAX,
        .batch_max = DEFAULT_BATCH_MAX,
        .gather_max = DEFAULT_GATHER_MAX,
        .read_deadline_ms = DEFAULT_READ_DEADLINE_MS,
        .retention_ms = (int64_t)DEFAULT_RETENTION_DAYS * MS_PER_DAY,
        .prune_interval_ms = DEFAULT_PRUNE_INTERVAL_MS,
    };
}

/* --- life cycle ------------------------------------------------------------------------------- */

struct bk_store *bk_store_create(const struct bk_store_options *options) {
    struct bk_store *store;
    BK_ASSERT(options->writer_count >= 1 && options->writer_count <= STORE_WRITERS_MAX);
    BK_ASSERT(options->reader_count >= 1 && options->reader_count <= STORE_READERS_MAX);
    BK_ASSERT(options->batch_max >= 1 && options->queue_max >= 1);
    BK_ASSERT(options->gather_max >= 1);
    BK_ASSERT(pthread_once(&library_once, init_library) == 0);
    store = bk_alloc_zero(sizeof(*store));
    store->options = *options;
    store->log = (struct bk_log){.logger = options->logger, .component = "store"};
    bk_list_init(&store->commit_hooks);
    bk_list_init(&store->databases);
    bk_list_init(&store->reading_now);
    store->answers = bk_mailbox_create_for_loop(options->loop);
    store_readers_init(store);
    store->maintenance = bk_pool_create(options->loop, "maintenance", 1, MAINTENANCE_QUEUE_MAX);
    for (uint32_t i = 0; i < options->writer_count; i++)
        store_writer_start(&store->writers[i], store, i);
    store->turn_hook.on_turn_end = store_on_turn_end;
    bk_loop_add_turn_hook(options->loop, &store->turn_hook);
    store_prune_start_timer(store);
    return store;
}

struct bk_loop *bk_store_loop(const struct bk_store *store) {
    return store->options.loop;
}

void bk_store_destroy(struct bk_store *store) {
    BK_ASSERT(bk_list_is_empty(&store->databases));
    BK_ASSERT(store->outstanding_count == 0);
    bk_timer_close(store->prune_timer);
    bk_loop_remove_turn_hook(&store->turn_hook);
    for (uint32_t i = 0; i < store->options.writer_count; i++)
        store_writer_stop(&store->writers[i]);
    store_readers_fini(store);
    bk_pool_destroy(store->maintenance);
    bk_mailbox_close(store->answers);
    bk_mailbox_destroy(store->answers);
    bk_free(store);
}

void bk_store_add_commit_hook(struct bk_store *store, struct bk_commit_hook *hook) {
    BK_ASSERT(hook->before_commit != NULL);
    bk_list_push(&store->commit_hooks, &hook->link);
}

void bk_store_on_committed(struct bk_store *store, bk_committed_cb on_committed, void *user) {
    BK_ASSERT(store->on_committed == NULL || on_committed == NULL);
    store->on_committed = on_committed;
    store->on_committed_user = user;
}

/* --- what is on its way ----------------------------------------------------------------------- */

void store_await(struct bk_store *store, struct bk_database *database) {
    if (database != NULL)
        database->outstanding_count++;
    if (store->outstanding_count++ == 0)
        bk_mailbox_set_keep_alive(store->answers, true);
}

void store_arrived(struct bk_store *store, struct bk_database *database) {
    BK_ASSERT(database == NULL || database->outstanding_count > 0);
    BK_ASSERT(store->outstanding_count > 0);
    if (database != NULL)
        database->outstanding_count--;
    if (--store->outstanding_count == 0)
        bk_mailbox_set_keep_alive(store->answers, false);
}

char *store_text_copy(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = bk_alloc(size);
    memcpy(copy, text, size);
    return copy;
}

/* --- figures ---------------------------------------------------------------------------------- */

/* One thread adds, so a load and a store will do: no locked instruction on the hot path. */
void store_count(uint64_t *counter, uint64_t amount) {
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + amount,
                     __ATOMIC_RELAXED);
}

uint64_t store_counted(const uint64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void add_writer(struct bk_store_figures *figures, const struct store_writer *writer) {
    figures->commits += store_counted(&writer->commits);
    figures->writes += store_counted(&writer->writes);
    figures->writes_failed += store_counted(&writer->writes_failed);
    figures->batches_rerun += store_counted(&writer->batches_rerun);
    figures->batches_spoilt += store_counted(&writer->batches_spoilt);
    figures->events += store_counted(&writer->events);
    figures->commit_ns_sum += store_counted(&writer->commit_ns_sum);
    for (size_t i = 0; i < BK_COUNT_OF(figures->commit_ns_buckets); i++)
        figures->commit_ns_buckets[i] += store_counted(&writer->commit_ns_buckets[i]);
    for (size_t i = 0; i < BK_COUNT_OF(figures->batch_size_buckets); i++)
        figures->batch_size_buckets[i] += store_counted(&writer->batch_size_buckets[i]);
}

struct bk_store_figures bk_store_figures(struct bk_store *store) {
    struct bk_store_figures figures = {.databases_open = store->database_count,
                                       .waiting_reads = store_readers_waiting_count(store)};
    for (uint32_t i = 0; i < store->options.writer_count; i++)
        add_writer(&figures, &store->writers[i]);
    for (uint32_t i = 0; i < STORE_READER_THREADS_MAX; i++) {
        figures.reads += store_counted(&store->reader_threads[i].reads);
        figures.reads_timed_out += store_counted(&store->reader_threads[i].reads_timed_out);
    }
    BK_LIST_FOR_EACH(node, &store->databases) {
        struct bk_database *database = bk_container_of(node, struct bk_database, link);
        figures.waiting_requests += database->waiting[BK_LANE_REQUEST];
        figures.waiting_background += database->waiting[BK_LANE_BACKGROUND];
        figures.wal_bytes += __atomic_load_n(&database->wal_bytes, __ATOMIC_RELAXED);
    }
    return figures;
}
