/*
 * Runs SQL on the database of a server that is stopped:
 *
 *   rows DATABASE < SQL
 *
 * What a benchmark fills with millions of rows it writes past the server, as the server would have
 * written them; ten million requests would take an hour. A file that it leaves half done is of no
 * use, so nothing is synced.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "measure.h"

enum { SQL_BYTES_MAX = 1024 * 1024 };

static sqlite3 *database;

static void run(const char *sql) {
    char *message = NULL;
    if (sqlite3_exec(database, sql, NULL, NULL, &message) != SQLITE_OK)
        bench_fail("%s: %s", message, sql);
}

int main(int argument_count, char **arguments) {
    static char sql[SQL_BYTES_MAX];
    if (argument_count != 2)
        bench_fail("usage: rows DATABASE < SQL");
    sql[fread(sql, 1, sizeof(sql) - 1, stdin)] = '\0';
    if (sqlite3_open_v2(arguments[1], &database, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        bench_fail("%s: %s", arguments[1], sqlite3_errmsg(database));
    run("PRAGMA cache_size=-1048576; PRAGMA synchronous=OFF; BEGIN");
    run(sql);
    run("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
    sqlite3_close(database);
    return 0;
}
