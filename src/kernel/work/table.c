/*
 * The rows: the collection `_work` with its indexes, the tables beside it, and all SQL about them.
 *
 * An insert costs three b-trees (which is why most tasks come in by another table, inbox.c): the
 * table, its ids, and (lane, due) of those that wait, which serves the head of each lane, the next
 * lane with a head, and the claims. All other indexes are partial and small: tasks that run (to
 * find those of a crash), chains of ordered keys, what is unique, and what is pruned one day. So a
 * row is written three times in its life, and the backlog is read by its ends only.
 *
 *   due       waiting, blocked: when it may begin. running: the end of its lease. Else empty.
 *   chain     lane and key, while it is ordered and has not ended; of a chain just one waits or
 *             runs, the others are blocked, in the order of their rowids
 *   expires   of what is dead or done: when it is pruned
 *
 * Secrets are in a table of their own: a hidden field is shown to superusers, and any column of a
 * collection can be read by a view.
 */
#include "work_private.h"

#define HIDDEN_TEXT(name) "{\"name\":\"" name "\",\"type\":\"text\",\"hidden\":true},"
#define TEXT(name) "{\"name\":\"" name "\",\"type\":\"text\"},"
#define NUMBER(name) "{\"name\":\"" name "\",\"type\":\"number\"},"

const char bk_work_definition[] =
    "{\"name\":\"_work\",\"type\":\"base\",\"system\":true,\"fields\":[" TEXT("kind") TEXT("lane")
        TEXT("key") "{\"name\":\"state\",\"type\":\"select\",\"maxSelect\":1,"
                    "\"values\":[\"waiting\",\"blocked\",\"running\",\"done\",\"dead\"]},"
                    "{\"name\":\"due\",\"type\":\"date\"}," NUMBER("attempts") TEXT("error")
                        NUMBER("progressDone") NUMBER("progressTotal") TEXT("cause") TEXT(
                            "actor") "{\"name\":\"payload\",\"type\":\"json\",\"hidden\":true},"
                                     "{\"name\":\"depth\",\"type\":\"number\",\"hidden\":true}"
                                     "," HIDDEN_TEXT("chain") HIDDEN_TEXT(
                                         "uniqueKey") "{\"name\":\"cancelled\",\"type\":\"bool\","
                                                      "\"hidden\":true},"
                                                      "{\"name\":\"expires\",\"type\":\"date\"},"
                                                      "{\"name\":\"created\",\"type\":\"date\"},"
                                                      "{\"name\":\"updated\",\"type\":\"date\"}],"
                                                      "\"indexes\":["
                                                      "\"CREATE INDEX `idx__work_due` ON `_work` "
                                                      "(`lane`, `due`) WHERE state = 'waiting'\","
                                                      "\"CREATE INDEX `idx__work_running` ON "
                                                      "`_work` (`due`) WHERE state = 'running'\","
                                                      "\"CREATE INDEX `idx__work_chain` ON `_work` "
                                                      "(`chain`) WHERE chain != ''\","
                                                      "\"CREATE UNIQUE INDEX `idx__work_unique` ON "
                                                      "`_work` (`uniqueKey`) "
                                                      "WHERE uniqueKey != '' AND state != 'dead' "
                                                      "AND state != 'done'\","
                                                      "\"CREATE INDEX `idx__work_expires` ON "
                                                      "`_work` (`expires`, `kind`, `state`) "
                                                      "WHERE state = 'dead' OR state = 'done'\"]}";

const struct bk_migration work_table_migrations[] = {
    {.name = "work_1_lanes",
     .sql = "CREATE TABLE _work_lanes (name TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE _work_secrets (id TEXT PRIMARY KEY NOT NULL, payload TEXT NOT NULL) "
            "WITHOUT ROWID;"
            "CREATE TABLE _work_inbox (number INTEGER PRIMARY KEY, id TEXT NOT NULL, "
            "lane TEXT NOT NULL, payload TEXT NOT NULL, created TEXT NOT NULL, due TEXT, "
            "cause TEXT, actor TEXT, depth INTEGER);"
            "CREATE TABLE _work_state (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) "
            "WITHOUT ROWID"},
    {.name = "work_2_clearings",
     .sql = "CREATE TABLE _work_clearings (lane TEXT PRIMARY KEY NOT NULL, until TEXT NOT NULL, "
            "stage INTEGER NOT NULL, place TEXT NOT NULL, place_row INTEGER NOT NULL, "
            "gone INTEGER NOT NULL) WITHOUT ROWID"},
};
const size_t work_table_migration_count = BK_COUNT_OF(work_table_migrations);

#define LIVE_UNIQUE "uniqueKey = ?1 AND uniqueKey != '' AND state != 'dead' AND state != 'done'"
#define TASK_COLUMNS                                                                               \
    "rowid, id, lane, \"key\", attempts, due, payload, cause, actor, depth, "                      \
    "chain"

static const char *const texts[WORK_SQL_COUNT] = {
    [WORK_SQL_HAS_TABLE] = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_work'",
    [WORK_SQL_INSERT] =
        "INSERT INTO _work (id, kind, lane, \"key\", state, due, payload, cause, actor, depth, "
        "chain, uniqueKey, created, updated) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)",
    [WORK_SQL_INBOX_ADD] =
        "INSERT INTO _work_inbox (id, lane, payload, created, due, cause, actor, "
        "depth) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [WORK_SQL_INBOX_END] = "SELECT number FROM _work_inbox ORDER BY number LIMIT 1 OFFSET ?1",
    [WORK_SQL_INBOX_MOVE] =
        "INSERT INTO _work (id, kind, lane, state, due, payload, cause, actor, depth, created, "
        "updated) SELECT id, substr(lane, 1, instr(lane || '/', '/') - 1), lane, 'waiting', "
        "coalesce(due, created), payload, coalesce(cause, ''), coalesce(actor, ''), "
        "coalesce(depth, 0), created, created FROM _work_inbox WHERE number < ?1 ORDER BY number",
    [WORK_SQL_INBOX_RENAME] =
        "UPDATE _work_inbox SET id = substr(id, 1, 8) || substr(lower(hex(randomblob(4))), 1, 7) "
        "WHERE id IN (SELECT id FROM _work) OR "
        "number NOT IN (SELECT min(number) FROM _work_inbox GROUP BY id)",
    [WORK_SQL_INBOX_CLEAR] = "DELETE FROM _work_inbox WHERE number < ?1",
    [WORK_SQL_INBOX_DUE] = "SELECT min(coalesce(due, created)) FROM _work_inbox",
    [WORK_SQL_FIND_UNIQUE] = "SELECT id, rowid FROM _work WHERE " LIVE_UNIQUE,
    [WORK_SQL_FIND_CHAIN] = "SELECT rowid, due, state FROM _work WHERE chain = ?1 AND chain != '' "
                            "ORDER BY rowid LIMIT 1",
    [WORK_SQL_INSERT_SECRET] = "INSERT INTO _work_secrets (id, payload) VALUES (?1, ?2)",
    [WORK_SQL_READ_SECRET] = "SELECT payload FROM _work_secrets WHERE id = ?1",
    [WORK_SQL_DELETE_SECRET] = "DELETE FROM _work_secrets WHERE id = ?1",
    [WORK_SQL_FIND_DUE] = "SELECT " TASK_COLUMNS " FROM _work WHERE state = 'waiting' AND "
                          "lane = ?1 ORDER BY due LIMIT ?2",
    [WORK_SQL_CLAIM] = "UPDATE _work SET state = 'running', attempts = attempts + 1, due = ?2, "
                       "updated = ?3 WHERE rowid = ?1",
    [WORK_SQL_NEXT_LANE] = "SELECT lane, due FROM _work WHERE state = 'waiting' AND lane > ?1 "
                           "ORDER BY lane, due LIMIT 1",
    [WORK_SQL_HAS_LANE] = "SELECT 1 FROM _work WHERE state = 'waiting' AND lane = ?1 LIMIT 1",
    [WORK_SQL_FIND_ORPHANS] = "SELECT " TASK_COLUMNS " FROM _work WHERE state = 'running' AND "
                              "due <= ?1 LIMIT ?2",
    [WORK_SQL_HAS_RUNNING] = "SELECT 1 FROM _work WHERE state = 'running' LIMIT 1",
    [WORK_SQL_FIND_CANCELLED] = "SELECT id FROM _work WHERE state = 'running' AND cancelled = 1 "
                                "LIMIT ?1",
    [WORK_SQL_FIND_PAUSED] = "SELECT name FROM _work_lanes",
    [WORK_SQL_COUNT_PAUSED] = "SELECT count(*) FROM _work_lanes",
    [WORK_SQL_PAUSE] = "INSERT OR IGNORE INTO _work_lanes (name) VALUES (?1)",
    [WORK_SQL_RESUME] = "DELETE FROM _work_lanes WHERE name = ?1",
    [WORK_SQL_COUNT_CLEARINGS] = "SELECT count(*) FROM _work_clearings",
    [WORK_SQL_HAS_CLEARINGS] = "SELECT 1 FROM _work_clearings LIMIT 1",
    [WORK_SQL_CLEARING_ADD] = "INSERT OR REPLACE INTO _work_clearings (lane, until, stage, place, "
                              "place_row, gone) VALUES (?1, ?2, 0, '', 0, 0)",
    [WORK_SQL_CLEARING_FIND] = "SELECT until FROM _work_clearings WHERE lane = ?1",
    [WORK_SQL_CLEARING_FIRST] = "SELECT lane, until, stage, place, place_row, gone "
                                "FROM _work_clearings ORDER BY lane LIMIT 1",
    [WORK_SQL_CLEARING_MOVE] = "UPDATE _work_clearings SET stage = ?2, place = ?3, place_row = ?4, "
                               "gone = ?5 WHERE lane = ?1",
    [WORK_SQL_CLEARING_END] = "DELETE FROM _work_clearings WHERE lane = ?1",
    /* By the index of the chains, and by that of those that wait: each has the rowid behind it. */
    [WORK_SQL_CLEARING_BLOCKED] =
        "SELECT rowid, id, chain, chain, created, state = 'blocked' FROM _work WHERE chain != '' "
        "AND chain >= ?2 AND chain < ?1 AND (+chain > ?2 OR +rowid > ?3) ORDER BY chain, rowid "
        "LIMIT ?4",
    [WORK_SQL_CLEARING_WAITING] =
        "SELECT rowid, id, due, chain, created, 1 FROM _work WHERE state = 'waiting' AND "
        "lane = ?1 AND due >= ?2 AND (+due > ?2 OR +rowid > ?3) ORDER BY due, rowid LIMIT ?4",
    [WORK_SQL_CLEARING_TASK] =
        "SELECT id, lane, created, CASE WHEN state = 'blocked' THEN '' ELSE chain END FROM _work "
        "WHERE rowid = ?1 AND (state = 'waiting' OR state = 'blocked')",
    [WORK_SQL_CANCEL_LANE] = "UPDATE _work SET cancelled = 1 WHERE state = 'running' AND lane = ?1",
    [WORK_SQL_DELETE] = "DELETE FROM _work WHERE rowid = ?1 AND id = ?2",
    [WORK_SQL_IS_CANCELLED] = "SELECT cancelled FROM _work WHERE rowid = ?1 AND id = ?2 AND "
                              "state = 'running' AND attempts = ?3",
    [WORK_SQL_WAIT] = "UPDATE _work SET state = 'waiting', attempts = ?2, due = ?3, error = ?4, "
                      "updated = ?5 WHERE rowid = ?1",
    [WORK_SQL_END] = "UPDATE _work SET state = ?2, due = '', chain = '', cancelled = 0, "
                     "error = ?3, expires = ?4, updated = ?5 WHERE rowid = ?1",
    [WORK_SQL_UNBLOCK] =
        "UPDATE _work SET state = 'waiting', due = ?2, updated = ?3 WHERE rowid = ?1",
    [WORK_SQL_PROGRESS] = "UPDATE _work SET progressDone = ?3, progressTotal = ?4 "
                          "WHERE rowid = ?1 AND id = ?2",
    [WORK_SQL_FIND] = "SELECT rowid, state, lane, \"key\", kind, chain, payload, cause, actor, "
                      "attempts, depth, uniqueKey FROM _work WHERE id = ?1",
    [WORK_SQL_RETRY] = "UPDATE _work SET state = ?2, attempts = 0, due = ?3, chain = ?4, "
                       "cancelled = 0, expires = '', updated = ?5 WHERE rowid = ?1",
    [WORK_SQL_CANCEL_RUNNING] = "UPDATE _work SET cancelled = 1 WHERE rowid = ?1",
    [WORK_SQL_FIND_EXPIRED] =
        "SELECT rowid, id, expires FROM _work WHERE (state = 'dead' OR state = 'done') AND "
        "expires <= ?1 ORDER BY expires LIMIT ?2",
    [WORK_SQL_FIRST_EXPIRES] =
        "SELECT expires FROM _work WHERE (state = 'dead' OR state = 'done') AND expires > '' "
        "ORDER BY expires LIMIT 1",
    [WORK_SQL_STORE_TIME] = "INSERT INTO _work_state (name, value) VALUES ('time', ?1) "
                            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    [WORK_SQL_COUNT_WAITING] = "SELECT count(*) FROM (SELECT 1 FROM _work WHERE "
                               "state = 'waiting' AND lane = ?1 LIMIT ?2)",
    [WORK_SQL_COUNT_DUE] = "SELECT count(*) FROM (SELECT 1 FROM _work WHERE "
                           "state = 'waiting' AND lane = ?1 AND due <= ?2 LIMIT ?3)",
    [WORK_SQL_COUNT_DEAD] = "SELECT kind, count(*) FROM (SELECT kind, state FROM _work WHERE "
                            "(state = 'dead' OR state = 'done') AND expires > '' LIMIT ?1) "
                            "WHERE state = 'dead' GROUP BY kind",
};

void work_sql_init(struct bk_work *work) {
    for (size_t i = 0; i < WORK_SQL_COUNT; i++)
        work->sql[i] = bk_sql_make(bk_slice_from(texts[i]));
}

enum bk_status work_statement(const struct bk_work *work, struct bk_connection *connection,
                              enum work_sql sql, struct bk_statement **statement) {
    return bk_connection_statement(connection, &work->sql[sql], statement);
}

/* --- times ------------------------------------------------------------------------------------ */

void work_time_write(char out[BK_TIME_TEXT_BYTES], int64_t time_ms) {
    bk_time_format(out, time_ms, ' ');
}

int64_t work_time_read(struct bk_slice text) {
    int64_t time_ms = 0;
    return text.length > 0 && bk_time_parse(text, &time_ms) ? time_ms : 0;
}

void work_bind_time(struct bk_statement *statement, int index, char room[BK_TIME_TEXT_BYTES],
                    int64_t time_ms) {
    work_time_write(room, time_ms);
    bk_statement_bind_text(statement, index, bk_slice_make(room, BK_TIME_TEXT_BYTES));
}
