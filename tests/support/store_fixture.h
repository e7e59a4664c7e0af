/* One database of a store in a temporary directory, and blocking ways to write and to read. */
#ifndef BAKEND_TESTS_STORE_FIXTURE_H
#define BAKEND_TESTS_STORE_FIXTURE_H

#include "support.h"

#include "bakend/store.h"

enum { SUPPORT_STORE_EVENTS_MAX = 4096, SUPPORT_STORE_PATH_BYTES = 512 };

struct support_store {
    struct bk_loop *loop;
    char *directory;
    char path[SUPPORT_STORE_PATH_BYTES]; /* of data.db */
    struct bk_store *store;
    struct bk_database *database;
    struct bk_database_open opening; /* set options here before support_store_open, if need be */
    /* Sequences of the events that went to the bus (0: transient), in order, and how many times. */
    uint64_t events[SUPPORT_STORE_EVENTS_MAX];
    size_t event_count, committed_count;
};

typedef enum bk_status (*support_run_cb)(struct bk_transaction *transaction, void *user);
typedef enum bk_status (*support_read_cb)(struct bk_connection *connection, void *user);

/* A write whose run is a plain function. Submit it with bk_store_write(database, &write.write). */
struct support_write {
    struct bk_write write;
    support_run_cb run;
    void *user;
    bool is_done;
    enum bk_status status;
};

/* For setup and teardown: *state is a struct support_store with an open database that has a journal
 * and a table items(id INTEGER PRIMARY KEY, name TEXT UNIQUE). */
int support_store_setup(void **state);
int support_store_teardown(void **state);

/* The same in steps. NULL options: the defaults. */
void support_store_create(struct support_store *fixture, const struct bk_store_options *options);
enum bk_status support_store_open(struct support_store *fixture);
void support_store_close(struct support_store *fixture);
void support_store_destroy(struct support_store *fixture);
/* Directory and options only: no thread has started yet. */
void support_store_prepare(struct support_store *fixture);
/* Loop and store only, over the same directory. */
void support_store_start(struct support_store *fixture, const struct bk_store_options *options);
void support_store_stop(struct support_store *fixture);

void support_write_init(struct support_write *write, support_run_cb run, void *user);
/* Submits, waits and returns the write's status. */
enum bk_status support_store_run(struct support_store *fixture, support_run_cb run, void *user);
enum bk_status support_store_read(struct support_store *fixture, support_read_cb run, void *user);
/* Ready-made runs. user of the first: SQL text; of the second: the name of an item to insert, with
 * an event "items.created". */
enum bk_status support_run_sql(struct bk_transaction *transaction, void *user);
enum bk_status support_run_item(struct bk_transaction *transaction, void *user);
/* The number that the SQL's first column is, read on a reader. */
int64_t support_store_number(struct support_store *fixture, const char *sql);

#endif
