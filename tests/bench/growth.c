/*
 * Fills the database of a server that is stopped, as many creates would have done:
 *
 *   growth DATABASE COUNT
 *
 * COUNT records of the collection `growth` (see growth.mjs), with ids in the order of their
 * creation, and for each the event that tells of it, with the times of the milliseconds until now.
 * It writes past the server's own schema with SQLite alone, without a log, since ten million
 * requests would take an hour; a file that it leaves half done is of no use.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "measure.h"

enum { CACHE_KIB = 1024 * 1024, SQL_BYTES = 1024 };

static sqlite3 *database;

static void run(const char *format, long count) {
    char sql[SQL_BYTES], *message = NULL;
    if (snprintf(sql, sizeof(sql), format, count) >= SQL_BYTES)
        bench_fail("a statement is too long");
    if (sqlite3_exec(database, sql, NULL, NULL, &message) != SQLITE_OK)
        bench_fail("%s: %s", message, sql);
}

/* Numbers from 1 on, all digits: they lie before every id that a server makes from now on. */
#define ID "printf('%%015d', n)"
/* With the 26 digits that an event's id has. */
#define EVENT_ID "'evt_01M00000' || printf('%%018d', n)"
#define STAMP "'2026-01-01 00:00:00.000Z'"
#define EMAIL "'user' || n || '@example.com'"
#define NUMBERS                                                                                    \
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %ld)"

static void fill(long count) {
    run(NUMBERS " INSERT INTO growth (id, email, name, team, created, updated) SELECT " ID
                ", " EMAIL ", 'User ' || n, printf('team%%02d', n %% 100), " STAMP ", " STAMP
                " FROM numbers",
        count);
    run("CREATE TEMP TABLE start AS SELECT (SELECT value FROM _meta WHERE name = 'journal_last') "
        "AS last, CAST(strftime('%%s', 'now') AS INTEGER) * 1000 - %ld AS wall",
        count);
    run(NUMBERS
        " INSERT INTO _journal (sequence, id, type, timestamp, source, subject, actor, version, "
        "depth, payload) SELECT start.last + n, " EVENT_ID ", 'growth.created', start.wall + n, "
        "'collections', 'growth/' || " ID ", '_superusers/2rwx98nzgvt5spp', 1, 0, "
        "'{\"id\":\"' || " ID " || '\",\"email\":\"' || " EMAIL
        " || '\",\"name\":\"User ' || n || '\",\"team\":\"' || printf('team%%02d', n %% 100) || "
        "'\",\"created\":\"2026-01-01 00:00:00.000Z\",\"updated\":\"2026-01-01 00:00:00.000Z\"}' "
        "FROM numbers, start",
        count);
    run("UPDATE _meta SET value = value + %ld WHERE name = 'journal_last'", count);
    run("UPDATE _meta SET value = (SELECT sum(length(CAST(payload AS BLOB))) FROM _journal) "
        "WHERE name = 'journal_bytes'",
        0);
    /* Its total is counted anew when the server opens the database. */
    run("DELETE FROM _meta WHERE name = 'rows.growth'", 0);
}

int main(int argument_count, char **arguments) {
    if (argument_count != 3)
        bench_fail("usage: growth DATABASE COUNT");
    long count = bench_number(arguments[2], 1, 1000L * 1000 * 1000);
    if (sqlite3_open_v2(arguments[1], &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        bench_fail("%s: %s", arguments[1], sqlite3_errmsg(database));
    run("PRAGMA cache_size = -%ld", CACHE_KIB);
    run("PRAGMA synchronous = OFF", 0);
    run("PRAGMA journal_mode = OFF", 0);
    run("BEGIN IMMEDIATE", 0);
    fill(count);
    run("COMMIT", 0);
    run("PRAGMA journal_mode = WAL", 0);
    sqlite3_close(database);
    return 0;
}
