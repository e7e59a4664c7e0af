/*
 * The ceilings of reading: SQLite alone on a database that the server made, one thread, no HTTP.
 *
 *   journal_pages FILE journal           pages through the journal, 1,000 rows each: events per
 *                                        second
 *   journal_pages FILE list TABLE COUNT  COUNT times the first 20 rows by id, written as JSON:
 *                                        lists per second
 *
 * Prints one number.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 1000, ROWS = 20, COLUMNS_MAX = 64 };

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static sqlite3_stmt *prepare(sqlite3 *database, const char *sql) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) != SQLITE_OK) {
        fprintf(stderr, "journal_pages: %s\n", sqlite3_errmsg(database));
        exit(1);
    }
    return statement;
}

static volatile size_t sink;

static double read_journal(sqlite3 *database) {
    sqlite3_stmt *page = prepare(
        database, "SELECT sequence, id, type, timestamp, source, subject, actor, version, depth, "
                  "cause, payload, previous, omitted FROM _journal WHERE sequence > ?1 ORDER BY "
                  "sequence LIMIT ?2");
    sqlite3_int64 after = 0;
    double start = now_s();
    long count = 0, page_count;
    do {
        page_count = 0;
        sqlite3_bind_int64(page, 1, after);
        sqlite3_bind_int(page, 2, PAGE);
        while (sqlite3_step(page) == SQLITE_ROW) {
            after = sqlite3_column_int64(page, 0);
            for (int i = 1; i < 13; i++)
                sink += sqlite3_column_text(page, i) == NULL
                            ? 0U
                            : (size_t)sqlite3_column_bytes(page, i);
            page_count++;
        }
        sqlite3_reset(page);
        count += page_count;
    } while (page_count == PAGE);
    sqlite3_finalize(page);
    return (double)count / (now_s() - start);
}

/* Straight from the columns; names escaped beforehand, values without anything to escape. */
static double read_lists(sqlite3 *database, const char *table, long repeat) {
    static char json[64 * 1024];
    char sql[256];
    snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\" ORDER BY id LIMIT %d", table, ROWS);
    sqlite3_stmt *list = prepare(database, sql);
    int columns = sqlite3_column_count(list);
    double start = now_s();
    for (long round = 0; round < repeat; round++) {
        size_t length = 0;
        while (sqlite3_step(list) == SQLITE_ROW)
            for (int i = 0; i < columns; i++) {
                const char *name = sqlite3_column_name(list, i);
                const char *text = (const char *)sqlite3_column_text(list, i);
                size_t name_length = strlen(name),
                       text_length = (size_t)sqlite3_column_bytes(list, i);
                json[length++] = '"';
                memcpy(json + length, name, name_length);
                length += name_length;
                memcpy(json + length, "\":\"", 3);
                length += 3;
                memcpy(json + length, text, text_length);
                length += text_length;
                memcpy(json + length, "\",", 2);
                length += 2;
            }
        sqlite3_reset(list);
        sink += length;
    }
    double rate = (double)repeat / (now_s() - start);
    sqlite3_finalize(list);
    return rate;
}

int main(int argument_count, char **arguments) {
    sqlite3 *database;
    if (argument_count < 3 || (strcmp(arguments[2], "list") == 0 && argument_count != 5)) {
        fprintf(stderr, "usage: journal_pages FILE journal | FILE list TABLE COUNT\n");
        return 2;
    }
    if (sqlite3_open_v2(arguments[1], &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return 1;
    double rate = strcmp(arguments[2], "journal") == 0
                      ? read_journal(database)
                      : read_lists(database, arguments[3], strtol(arguments[4], NULL, 10));
    printf("%.0f\n", rate);
    sqlite3_close(database);
    return 0;
}
