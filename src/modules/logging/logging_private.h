/* What the files of the logging module share. */
#ifndef BAKEND_LOGGING_PRIVATE_H
#define BAKEND_LOGGING_PRIVATE_H

#include "bakend/module.h"

struct logging_options {
    int64_t rows_per_second, max_days;
};

enum {
    LOGGING_PATH_BYTES = 4096,
    LOGGING_ROWS_WAITING_MAX = 10000, /* per tenant, in memory */
    LOGGING_FLUSH_MS = 500,
};

/* As PocketBase numbers them. */
enum logging_level { LOGGING_DEBUG = -4, LOGGING_INFO = 0, LOGGING_WARN = 4, LOGGING_ERROR = 8 };

/* --- the module ------------------------------------------------------------------------------- */

struct logging;

struct logging_subscription {
    struct bk_subscription subscription;
    struct logging *logging;
};

struct logging {
    struct bk_module_context *context;
    struct logging_subscription subscriptions[2];
    struct bk_request_observer observer;
    struct bk_metrics_source metrics;
    struct bk_timer *flush_timer;
    struct bk_list
        journals; /* of struct logging_journal: those of open tenants, and those closing */
    uint64_t rows_written, rows_dropped;
    bool is_stopping;
    void (*stopped)(void *user);
    void *stopped_user;
};

/* --- a row that waits ------------------------------------------------------------------------- */

struct logging_row {
    struct bk_list link;
    int64_t created_ms;
    enum logging_level level;
    struct bk_slice message, data; /* in this allocation; data is a JSON object */
};

/* --- the logs of one tenant, in logs.db ------------------------------------------------------- */

enum logging_journal_state {
    LOGGING_WAITS,   /* a former one of the same tenant is still closing */
    LOGGING_OPENING, /* rows wait in memory, readers too */
    LOGGING_OPEN,
    LOGGING_FAILED, /* logs.db cannot be opened: rows are dropped and counted */
    LOGGING_CLOSING,
    LOGGING_CLOSED,
};

struct logging_journal {
    struct bk_list link;
    struct logging *logging;
    enum logging_journal_state state;
    bool is_detached; /* its tenant is closed: goes as soon as it can */
    bool is_damaged;  /* it is closing to be moved aside */
    bool is_renewed;  /* it was moved aside before: not twice, or a bad disk would keep it busy */
    struct bk_database *database;
    struct bk_database_open open;
    char path[LOGGING_PATH_BYTES];
    char tenant[BK_TENANT_NAME_BYTES_MAX];
    size_t tenant_length;
    struct bk_list rows, batch; /* that wait; of the write in flight */
    uint32_t row_count, batch_count;
    uint64_t budget_second;
    uint32_t budget_used;
    uint64_t dropped, dropped_reported, reported_ms;
    struct bk_list readers; /* of struct logging_reader, until it is open */
    struct bk_write write;
    bool is_writing;
    int64_t prune_before_ms; /* in the write in flight; 0: not this time */
    uint64_t pruned_ms;      /* loop time of the last pruning */
};

/* journal.c */
/* NULL when the path does not fit. */
struct logging_journal *logging_journal_open(struct logging *logging, struct bk_tenant *tenant);
/* Writes what waits and closes the database, now or later; freed only when it is detached, too.
 * Calls logging->stopped when it was the last one that a stop waits for. */
void logging_journal_end(struct logging_journal *journal);
/* Its tenant closes: it ends, and nobody knows it any more. */
void logging_journal_detach(struct logging_journal *journal);
/* A write has met damage: the database closes, is moved aside and made anew, unless it was before.
 * Rows and readers wait for the new one. */
void logging_journal_renew(struct logging_journal *journal);
/* Whether its database is closed and will stay so. */
bool logging_journal_is_over(const struct logging_journal *journal);

struct logging_reader {
    struct bk_read read;
    struct bk_list link;
};
/* Runs the read when the database is open. A failure comes to its done. */
void logging_journal_read(struct logging_journal *journal, struct logging_reader *reader);

/* damaged.c */
/* Moves logs.db, which nobody has open, out of the way and logs where to. One is kept. */
enum bk_status logging_move_aside(const struct logging_journal *journal, struct bk_error *error);

/* rows.c */
/* False when the budget of this second is used up: the row is dropped and counted; do not make
 * it. */
bool logging_rows_admit(struct logging_journal *journal);
void logging_rows_add(struct logging_journal *journal, enum logging_level level,
                      struct bk_slice message, struct bk_slice data);
/* Writes what waits, unless a write is in flight or the database is not open. */
void logging_rows_flush(struct logging_journal *journal);
/* Drops what waits, counted. */
void logging_rows_drop(struct logging_journal *journal);
/* Logs how many were dropped, now and then. */
void logging_rows_report(struct logging_journal *journal);

/* event_row.c, request_row.c */
void logging_event(struct logging *logging, struct logging_journal *journal,
                   const struct bk_event *event);
void logging_request(struct logging *logging, struct logging_journal *journal,
                     const struct bk_request *request);
/* The text with the values of secret parameters replaced: "/a?token=***". */
struct bk_slice logging_hide_secrets(struct bk_arena *arena, struct bk_slice target);

/* routes.c */
void logging_list(struct bk_request *request);
void logging_stats(struct bk_request *request);
void logging_view(struct bk_request *request);

#endif
