/*
 * Is this file a database that may be opened? Looked at as a plain file, before SQLite does, since
 * SQLite would recover, convert or create. Only while nobody has it open: closing any descriptor of
 * a file drops this process's POSIX locks on it.
 *
 * The header (SQLite file format, section 1.3):
 *   0   16  "SQLite format 3\0"
 *   16   2  page size, big-endian; ours is 4096
 *   18   1  write version, 1 rollback journal, 2 WAL; 19 the same for reading
 *   24   4  change counter; 92 4 the counter for which the size below is valid
 *   28   4  size in pages
 * The WAL (section 4.1): 0 4 magic 0x377f0682 or …83; an empty one, or none, is fine.
 *
 * A file that is shorter than its header says may be whole together with its WAL: a checkpoint was
 * cut off in the middle. Without a WAL it is damaged.
 */
#include "store_private.h"

#include "bakend/file.h"
#include "bakend/id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 100,
    PAGE_SIZE_AT = 16,
    WRITE_VERSION_AT = 18,
    READ_VERSION_AT = 19,
    CHANGE_COUNTER_AT = 24,
    PAGE_COUNT_AT = 28,
    VALID_FOR_AT = 92,
    WAL_MAGIC_BYTES = 4,
    PATH_BYTES_MAX = 4096,
    TABLE_BYTES_MAX = 512,
    WHAT_BYTES = 256 /* so that the remedy fits into a message, behind a long path, too */
};

#define WAL_MAGIC UINT32_C(0x377f0682) /* the lowest bit tells the byte order of checksums */

/* --- what is said of a damaged file ----------------------------------------------------------- */

void store_text_tidy(char *text) {
    bool is_utf8 = bk_slice_is_utf8(bk_slice_from(text));
    for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++)
        if (*at < ' ' || *at == 0x7f || (!is_utf8 && *at > 0x7f))
            *at = '?';
}

static enum bk_status refuse(struct bk_error *error, const char *path, const char *how,
                             const char *what) {
    char text[WHAT_BYTES];
    (void)snprintf(text, sizeof(text), "%.*s", WHAT_BYTES - 1, what);
    store_text_tidy(text);
    return bk_error_set(error, BK_CORRUPT,
                        "%s %s: %s. It was left as it is: restore a backup with `bakend restore`",
                        path, how, text);
}

enum bk_status store_error_damaged(struct bk_error *error, const char *path, const char *what) {
    return refuse(error, path, "is damaged", what);
}

bool store_is_of_content(enum bk_status status) {
    switch (status) {
    case BK_CORRUPT:
    case BK_INVALID:
    case BK_NOT_FOUND:
    case BK_CONFLICT:
    case BK_EXISTS:
    case BK_TOO_LARGE:
    case BK_END:
        return true;
    default:
        return false;
    }
}

/* The message, which may end with a prefix only, and what SQLite said where it is not in it. */
static void join(char *text, size_t size, const char *message, const char *said) {
    struct bk_slice begun = bk_slice_from(message);
    while (begun.length > 0 && strchr(": ", begun.data[begun.length - 1]) != NULL)
        begun.length--;
    if (said[0] == '\0' || strstr(message, said) != NULL)
        (void)snprintf(text, size, "%.*s", BK_SLICE_PRINT(begun));
    else
        (void)snprintf(text, size, "%.*s%s%s", BK_SLICE_PRINT(begun), begun.length > 0 ? ": " : "",
                       said);
}

enum bk_status store_error_explain(struct bk_error *error, enum bk_status status, const char *path,
                                   const char *said) {
    char text[BK_ERROR_MESSAGE_BYTES];
    if (error == NULL || strstr(error->message, path) != NULL)
        return store_is_of_content(status) ? BK_CORRUPT : status;
    join(text, sizeof(text), error->message,
         said[0] == '\0' && error->message[0] == '\0' ? bk_status_text(status) : said);
    if (status == BK_CORRUPT)
        return refuse(error, path, "is damaged", text);
    if (store_is_of_content(status))
        return refuse(error, path, "is damaged, or another program has changed it", text);
    return bk_error_set(error, status, "%s cannot be opened: %s", path, text);
}

static uint32_t read_number(const uint8_t *bytes, size_t length) {
    uint32_t number = 0;
    for (size_t i = 0; i < length; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* *length: bytes read, fewer than wanted at the end of the file. */
static enum bk_status read_beginning(const char *path, uint8_t *bytes, size_t wanted,
                                     size_t *length, struct bk_error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count;
    if (descriptor < 0)
        return bk_error_set(error, BK_IO, "%s cannot be read: %s", path, strerror(errno));
    count = pread(descriptor, bytes, wanted, 0);
    (void)close(descriptor);
    if (count < 0)
        return bk_error_set(error, BK_IO, "%s cannot be read: %s", path, strerror(errno));
    *length = (size_t)count;
    return BK_OK;
}

static bool wal_path(char *out, const char *path) {
    int length = snprintf(out, PATH_BYTES_MAX, "%s-wal", path);
    return length > 0 && length < PATH_BYTES_MAX;
}

bool store_has_wal(const char *path) {
    char wal[PATH_BYTES_MAX];
    return wal_path(wal, path) && bk_file_size(wal) > 0;
}

/* What is wrong with the header, or NULL. */
static const char *judge_header(const uint8_t *header, size_t length, int64_t size, bool has_wal) {
    int64_t page_count;
    bool is_page_count_valid;
    if (length < HEADER_BYTES)
        return "it is shorter than the header of a database";
    if (memcmp(header, "SQLite format 3", 16) != 0)
        return "the file is not a database";
    if (read_number(header + PAGE_SIZE_AT, 2) != STORE_PAGE_BYTES)
        return "its page size is not 4096";
    if (header[WRITE_VERSION_AT] < 1 || header[WRITE_VERSION_AT] > 2 ||
        header[READ_VERSION_AT] < 1 || header[READ_VERSION_AT] > 2)
        return "its header is of an unknown version";
    if (has_wal)
        return NULL;
    if (size % STORE_PAGE_BYTES != 0)
        return "its size is not a multiple of its page size";
    page_count = read_number(header + PAGE_COUNT_AT, 4);
    is_page_count_valid =
        read_number(header + CHANGE_COUNTER_AT, 4) == read_number(header + VALID_FOR_AT, 4);
    if (is_page_count_valid && size < page_count * STORE_PAGE_BYTES)
        return "it is shorter than its header says";
    return NULL;
}

static enum bk_status inspect_wal(const char *path, struct bk_error *error) {
    char wal[PATH_BYTES_MAX];
    uint8_t bytes[WAL_MAGIC_BYTES] = {0};
    size_t length = 0;
    enum bk_status status;
    uint32_t magic;
    if (!wal_path(wal, path))
        return bk_error_set(error, BK_INVALID, "the path of the database is too long");
    if (bk_file_size(wal) <= 0)
        return BK_OK;
    status = read_beginning(wal, bytes, sizeof(bytes), &length, error);
    if (status != BK_OK)
        return status;
    /* Zeros: the power went before the header was written. */
    magic = read_number(bytes, sizeof(bytes));
    if (length < sizeof(bytes) || magic == 0 || (magic & ~UINT32_C(1)) == WAL_MAGIC)
        return BK_OK;
    return bk_error_set(error, BK_CORRUPT,
                        "%s is damaged: it is not a write-ahead log. The database was left as it "
                        "is: restore a backup with `bakend restore`, or move this file away to go "
                        "on without the changes that were in it",
                        wal);
}

enum bk_status store_inspect_file(const char *path, enum store_file_state *state,
                                  struct bk_error *error) {
    uint8_t header[HEADER_BYTES];
    size_t length = 0;
    int64_t size = bk_file_size(path);
    bool has_wal = store_has_wal(path);
    const char *what = NULL;
    enum bk_status status;
    if (size <= 0 && has_wal)
        return store_error_damaged(error, path, "it is empty, but its write-ahead log is not");
    if (size <= 0) {
        *state = STORE_FILE_NEW;
        return BK_OK;
    }
    status = read_beginning(path, header, sizeof(header), &length, error);
    if (status != BK_OK)
        return status;
    what = judge_header(header, length, size, has_wal);
    if (what != NULL)
        return store_error_damaged(error, path, what);
    *state = STORE_FILE_DATABASE;
    return inspect_wal(path, error);
}

/* --- files that nobody has open --------------------------------------------------------------- */

static enum bk_status check_integrity(struct bk_connection *connection, const char *path,
                                      struct bk_error *error) {
    sqlite3_stmt *statement = NULL;
    enum bk_status status = BK_OK;
    int code =
        sqlite3_prepare_v2(connection->handle, "PRAGMA integrity_check(1)", -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code != SQLITE_ROW) {
        (void)store_connection_fail(connection, code);
        status = store_error_damaged(error, path, connection->error);
    } else if (strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0) {
        status = store_error_damaged(error, path, (const char *)sqlite3_column_text(statement, 0));
    }
    (void)sqlite3_finalize(statement);
    return status;
}

/* Opens an existing database of ours; nothing is written unless the caller does. */
static enum bk_status open_existing(const char *path, struct bk_connection **connection,
                                    struct bk_error *error) {
    enum store_file_state state = STORE_FILE_NEW;
    enum bk_status status = store_inspect_file(path, &state, error);
    if (status != BK_OK)
        return status;
    if (state == STORE_FILE_NEW)
        return bk_error_set(error, BK_NOT_FOUND, "%s is missing or empty", path);
    return store_connection_open(NULL, path, STORE_CONNECTION_WRITER, connection, error);
}

static enum bk_status check_journal(struct bk_connection *connection, struct bk_error *error) {
    int64_t table_count = 0;
    enum bk_status status = store_connection_query_int(
        connection, "SELECT count(*) FROM sqlite_schema WHERE name = '_journal'", 0, &table_count);
    if (status == BK_OK && table_count > 0)
        status = store_journal_check_all(connection, error);
    return status;
}

enum bk_status bk_database_check_file(const char *path, struct bk_error *error) {
    struct bk_connection *connection = NULL;
    bool had_wal = store_has_wal(path), is_empty;
    enum bk_status status = open_existing(path, &connection, error);
    if (status != BK_OK)
        return status;
    BK_ASSERT(connection != NULL);
    status = check_integrity(connection, path, error);
    if (status == BK_OK)
        status = store_check_identity(connection, path, &is_empty, error);
    if (status == BK_OK)
        status = check_journal(connection, error);
    store_connection_close(connection, !had_wal);
    return status;
}

/* --- numbers of rows -------------------------------------------------------------------------- */

static enum bk_status count_rows(struct bk_connection *connection, const char *table,
                                 int64_t *count) {
    char *sql = sqlite3_mprintf("SELECT count(*) FROM \"%w\"", table);
    if (sql == NULL)
        return BK_NO_MEMORY;
    enum bk_status status = store_connection_query_int(connection, sql, 0, count);
    sqlite3_free(sql);
    return status;
}

static enum bk_status mend_number(struct bk_connection *connection, const char *table,
                                  int64_t count) {
    char *sql = sqlite3_mprintf("UPDATE _meta SET value = %lld WHERE name = 'rows.%q'",
                                (long long)count, table);
    if (sql == NULL)
        return BK_NO_MEMORY;
    enum bk_status status = bk_connection_execute(connection, bk_slice_from(sql));
    sqlite3_free(sql);
    return status;
}

static enum bk_status check_number(struct bk_connection *connection,
                                   const struct bk_rows_check *check, const char *table,
                                   int64_t kept) {
    int64_t counted = 0;
    enum bk_status status = count_rows(connection, table, &counted);
    if (status != BK_OK || counted == kept)
        return status;
    check->on_wrong(check->user, table, kept, counted);
    return check->mends ? mend_number(connection, table, counted) : BK_OK;
}

/* The names are read before any number is mended. */
static enum bk_status check_numbers(struct bk_connection *connection,
                                    const struct bk_rows_check *check) {
    static const struct bk_slice text = BK_SLICE_INIT(
        "SELECT substr(m.name, 6), m.value FROM _meta m WHERE m.name GLOB 'rows.*' AND m.name > ?1 "
        "AND EXISTS (SELECT 1 FROM sqlite_schema s WHERE s.type = 'table' AND "
        "s.name = substr(m.name, 6)) ORDER BY m.name LIMIT 1");
    const struct bk_sql sql = bk_sql_make(text);
    char key[TABLE_BYTES_MAX] = "rows.";
    enum bk_status status = BK_OK;
    while (status == BK_OK) {
        struct bk_statement *statement;
        status = bk_connection_statement(connection, &sql, &statement);
        if (status != BK_OK)
            return status;
        bk_statement_bind_text(statement, 1, bk_slice_from(key));
        status = bk_statement_step(statement);
        if (status != BK_OK)
            break;
        struct bk_slice name = bk_statement_text(statement, 0);
        int64_t kept = bk_statement_int(statement, 1);
        int length = snprintf(key, sizeof(key), "rows.%.*s", BK_SLICE_PRINT(name));
        BK_ASSERT(length > 0 && (size_t)length < sizeof(key));
        bk_statement_reset(statement);
        status = check_number(connection, check, key + strlen("rows."), kept);
    }
    return status == BK_END ? BK_OK : status;
}

enum bk_status bk_rows_check_file(const char *path, const struct bk_rows_check *check,
                                  struct bk_error *error) {
    struct bk_connection *connection = NULL;
    bool had_wal = store_has_wal(path), is_empty = false;
    enum bk_status status = open_existing(path, &connection, error);
    if (status != BK_OK)
        return status;
    BK_ASSERT(connection != NULL);
    status = store_check_identity(connection, path, &is_empty, error);
    // Power may have gone between the making of the file and that of its tables.
    if (status == BK_OK && !is_empty)
        status = check_numbers(connection, check);
    if (status != BK_OK)
        (void)bk_error_set(error, status, "%s: its rows cannot be counted: %s", path,
                           connection->error);
    store_connection_close(connection, !had_wal || check->mends);
    return status;
}

/* --- epochs ----------------------------------------------------------------------------------- */

enum bk_status store_epoch_renew(struct bk_connection *connection) {
    uint8_t epoch[STORE_EPOCH_BYTES];
    sqlite3_stmt *statement = NULL;
    enum bk_status status = BK_OK;
    int code =
        sqlite3_prepare_v2(connection->handle, "UPDATE _meta SET value = ?1 WHERE name = 'epoch'",
                           -1, &statement, NULL);
    bk_random_bytes(epoch, sizeof(epoch));
    if (code == SQLITE_OK)
        code = sqlite3_bind_blob(statement, 1, epoch, sizeof(epoch), SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code != SQLITE_DONE)
        status = store_connection_fail(connection, code);
    else if (sqlite3_changes(connection->handle) == 0)
        status = BK_NOT_SUPPORTED;
    (void)sqlite3_finalize(statement);
    return status;
}

enum bk_status bk_database_renew_epoch(const char *path, struct bk_error *error) {
    struct bk_connection *connection = NULL;
    enum bk_status status = open_existing(path, &connection, error);
    if (status != BK_OK)
        return status;
    BK_ASSERT(connection != NULL);
    status = store_epoch_renew(connection);
    if (status == BK_NOT_SUPPORTED)
        (void)bk_error_set(error, status, "%s has no journal, so no epoch to renew", path);
    else if (status != BK_OK)
        (void)bk_error_set(error, status, "%s cannot be given a new epoch: %s", path,
                           connection->error);
    store_connection_close(connection, status == BK_OK);
    return status;
}
