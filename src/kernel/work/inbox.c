/*
 * On the writer: the inbox, where most tasks come in.
 *
 * An enqueue is paid by the request that it is part of, and `_work` costs three b-trees a row. So a
 * task that is neither unique nor ordered by key is appended to a table that is one b-tree, and a
 * round of its tenant moves what came in to `_work`, many rows with one statement. That is before
 * anything is claimed; the loop is told of each task at once, so a task that is due is in `_work`
 * when it begins. Rows by the id that was given out: who asks for one that is still in the inbox
 * moves it first.
 *
 * Both are in the same database, and a move is one transaction: whatever happens, a task is in just
 * one of them.
 */
#include "work_private.h"

#include "bakend/failpoint.h"

/* The number of the first row that stays, or INT64_MAX when none does. */
static enum bk_status find_end(struct bk_work *work, struct bk_connection *connection,
                               uint32_t row_limit, int64_t *end) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, WORK_SQL_INBOX_END, &statement);
    if (status != BK_OK)
        return status;
    bk_statement_bind_int(statement, 1, row_limit);
    status = bk_statement_step(statement);
    *end = status == BK_OK ? bk_statement_int(statement, 0) : INT64_MAX;
    bk_statement_reset(statement);
    return status == BK_END ? BK_OK : status;
}

static enum bk_status run_up_to(struct bk_work *work, struct bk_connection *connection,
                                enum work_sql sql, int64_t end) {
    struct bk_statement *statement;
    enum bk_status status = work_statement(work, connection, sql, &statement);
    if (status != BK_OK)
        return status;
    if (sql != WORK_SQL_INBOX_RENAME)
        bk_statement_bind_int(statement, 1, end);
    return bk_statement_run(statement);
}

/* An id that clashes, once in some thousand years, is made anew here, where it is seen. */
enum bk_status work_inbox_move(struct bk_work *work, struct bk_transaction *transaction,
                               uint32_t row_limit, bool *is_empty) {
    struct bk_connection *connection = bk_transaction_connection(transaction);
    int64_t end = 0;
    enum bk_status status = find_end(work, connection, row_limit, &end);
    *is_empty = end == INT64_MAX;
    if (status == BK_OK)
        status = run_up_to(work, connection, WORK_SQL_INBOX_MOVE, end);
    if (status == BK_CONFLICT) {
        status = run_up_to(work, connection, WORK_SQL_INBOX_RENAME, end);
        if (status == BK_OK)
            status = run_up_to(work, connection, WORK_SQL_INBOX_MOVE, end);
    }
    if (status == BK_OK)
        status = run_up_to(work, connection, WORK_SQL_INBOX_CLEAR, end);
    return status == BK_OK ? BK_FAILPOINT("work.moved") : status;
}
