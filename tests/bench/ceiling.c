/*
 * The ceiling of a durable create: bare libuv, llhttp, cJSON and a writer thread with group commit,
 * and nothing else: no router, rules, schema, bus, log or limits. The server is measured against
 * it.
 *
 *   ceiling PORT FILE product    writes into a database that the server made (collection `bench`
 *                                with the fields email and name, and its own journal), with its WAL
 *                                settings
 *   ceiling PORT FILE bare       a schema of its own: users and events, fewer columns
 *
 * Answers POST with {"email","name"} on any path. Prints the mean batch on SIGTERM.
 */
#include <cjson/cJSON.h>
#include <llhttp.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { BATCH_MAX = 128, BODY_BYTES = 4096, JSON_BYTES = 1024 };

struct connection {
    uv_tcp_t tcp;
    llhttp_t parser;
    char input[16384];
    char body[BODY_BYTES];
    size_t body_length;
};

struct create {
    struct create *next;
    struct connection *connection;
    char id[40], email[64], name[64], subject[64], json[JSON_BYTES];
    int json_length;
};

static llhttp_settings_t settings;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t is_waiting = PTHREAD_COND_INITIALIZER;
static struct create *queue_first, *queue_last, *done_first;
static uv_async_t done_async;
static long sequence, commit_count, create_count;
static const char *file_path;
static bool is_product;

/* --- loop ------------------------------------------------------------------------------------- */

static void copy_text(char *out, size_t size, const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    snprintf(out, size, "%s", cJSON_IsString(item) ? item->valuestring : "");
}

static int on_body(llhttp_t *parser, const char *data, size_t length) {
    struct connection *connection = parser->data;
    if (connection->body_length + length < sizeof(connection->body)) {
        memcpy(connection->body + connection->body_length, data, length);
        connection->body_length += length;
    }
    return 0;
}

static int on_message(llhttp_t *parser) {
    struct connection *connection = parser->data;
    cJSON *body = cJSON_ParseWithLength(connection->body, connection->body_length);
    struct create *create = calloc(1, sizeof(*create));
    connection->body_length = 0;
    create->connection = connection;
    copy_text(create->email, sizeof(create->email), body, "email");
    copy_text(create->name, sizeof(create->name), body, "name");
    cJSON_Delete(body);
    snprintf(create->id, sizeof(create->id), "%08lx%07x", sequence++, rand() & 0xfffffff);
    create->json_length =
        snprintf(create->json, sizeof(create->json),
                 "{\"id\":\"%s\",\"email\":\"%s\",\"name\":\"%s\",\"created\":\"2026-06-08 "
                 "12:00:00.000Z\",\"updated\":\"2026-06-08 12:00:00.000Z\"}",
                 create->id, create->email, create->name);
    snprintf(create->subject, sizeof(create->subject), "bench/%s", create->id);
    pthread_mutex_lock(&mutex);
    if (queue_last != NULL) {
        queue_last->next = create;
    } else {
        queue_first = create;
        pthread_cond_signal(&is_waiting);
    }
    queue_last = create;
    pthread_mutex_unlock(&mutex);
    return 0;
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buffer) {
    struct connection *connection = handle->data;
    (void)size;
    *buffer = uv_buf_init(connection->input, sizeof(connection->input));
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer) {
    struct connection *connection = stream->data;
    if (length > 0)
        llhttp_execute(&connection->parser, buffer->base, (size_t)length);
    else if (length < 0)
        uv_close((uv_handle_t *)stream, NULL);
}

static void on_connection(uv_stream_t *server, int status) {
    struct connection *connection = calloc(1, sizeof(*connection));
    (void)status;
    uv_tcp_init(server->loop, &connection->tcp);
    connection->tcp.data = connection;
    uv_accept(server, (uv_stream_t *)&connection->tcp);
    uv_tcp_nodelay(&connection->tcp, 1);
    llhttp_init(&connection->parser, HTTP_REQUEST, &settings);
    connection->parser.data = connection;
    uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read);
}

static void on_done(uv_async_t *async) {
    (void)async;
    pthread_mutex_lock(&mutex);
    struct create *create = done_first;
    done_first = NULL;
    pthread_mutex_unlock(&mutex);
    while (create != NULL) {
        struct create *next = create->next;
        char answer[2 * JSON_BYTES];
        int length = snprintf(answer, sizeof(answer),
                              "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                              "Content-Length: %d\r\n\r\n%s",
                              create->json_length, create->json);
        uv_buf_t buffer = uv_buf_init(answer, (unsigned)length);
        uv_stream_t *stream = (uv_stream_t *)&create->connection->tcp;
        if (!uv_is_closing((uv_handle_t *)stream))
            uv_try_write(stream, &buffer, 1);
        free(create);
        create = next;
    }
}

/* --- writer ----------------------------------------------------------------------------------- */

enum { BEGIN, COMMIT, SAVEPOINT, RELEASE, INSERT_RECORD, INSERT_EVENT, COUNTER, STATEMENT_COUNT };

static const char *const product_sql[STATEMENT_COUNT] = {
    "BEGIN IMMEDIATE",
    "COMMIT",
    "SAVEPOINT s",
    "RELEASE s",
    "INSERT INTO bench (id, email, name, created, updated) VALUES (?1, ?2, ?3, ?4, ?4)",
    "INSERT INTO _journal (sequence, id, type, timestamp, source, subject, actor, version, depth, "
    "cause, payload, previous, omitted) VALUES (?1, ?2, 'bench.created', ?3, 'collections', ?4, "
    "'guest', 1, 0, NULL, ?5, NULL, NULL)",
    "UPDATE _meta SET value = ?1 WHERE name = 'journal_last'",
};
static const char *const bare_sql[STATEMENT_COUNT] = {
    "BEGIN IMMEDIATE",
    "COMMIT",
    "SAVEPOINT s",
    "RELEASE s",
    "INSERT INTO users VALUES (?1, ?2, ?3, ?4, ?4)",
    "INSERT INTO events (sequence, id, type, timestamp, subject, payload) VALUES (?1, ?2, "
    "'users.created', ?3, ?4, ?5)",
    "SELECT 1",
};
static const char bare_schema[] =
    "CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT, name TEXT, created TEXT, updated TEXT) "
    "WITHOUT ROWID;"
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY, id TEXT, type TEXT, timestamp INT, subject "
    "TEXT, payload TEXT)";

static void check(sqlite3 *database, int code) {
    if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW)
        return;
    fprintf(stderr, "ceiling: %s\n", sqlite3_errmsg(database));
    exit(1);
}

static void step(sqlite3 *database, sqlite3_stmt *statement) {
    check(database, sqlite3_step(statement));
    sqlite3_reset(statement);
}

static long last_sequence(sqlite3 *database, const char *sql) {
    sqlite3_stmt *statement;
    check(database, sqlite3_prepare_v2(database, sql, -1, &statement, NULL));
    long value =
        sqlite3_step(statement) == SQLITE_ROW ? (long)sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return value;
}

static void write_create(sqlite3 *database, sqlite3_stmt **statements, struct create *create,
                         long number) {
    static const char created[] = "2026-06-08 12:00:00.000Z",
                      event_id[] = "evt_01J00000000000000000000000";
    sqlite3_stmt *record = statements[INSERT_RECORD], *event = statements[INSERT_EVENT];
    step(database, statements[SAVEPOINT]);
    sqlite3_bind_text(record, 1, create->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(record, 2, create->email, -1, SQLITE_STATIC);
    sqlite3_bind_text(record, 3, create->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(record, 4, created, sizeof(created) - 1, SQLITE_STATIC);
    step(database, record);
    sqlite3_bind_int64(event, 1, number);
    sqlite3_bind_text(event, 2, event_id, sizeof(event_id) - 1, SQLITE_STATIC);
    sqlite3_bind_int64(event, 3, 1780920000000);
    sqlite3_bind_text(event, 4, create->subject, -1, SQLITE_STATIC);
    sqlite3_bind_text(event, 5, create->json, create->json_length, SQLITE_STATIC);
    step(database, event);
    step(database, statements[RELEASE]);
}

static sqlite3 *open_database(sqlite3_stmt **statements) {
    sqlite3 *database;
    check(NULL,
          sqlite3_open_v2(file_path, &database,
                          SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL));
    sqlite3_exec(database,
                 "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;"
                 "PRAGMA wal_autocheckpoint=1000",
                 NULL, NULL, NULL);
    if (!is_product)
        check(database, sqlite3_exec(database, bare_schema, NULL, NULL, NULL));
    for (int i = 0; i < STATEMENT_COUNT; i++)
        check(database, sqlite3_prepare_v3(database, is_product ? product_sql[i] : bare_sql[i], -1,
                                           SQLITE_PREPARE_PERSISTENT, &statements[i], NULL));
    return database;
}

static void *write_batches(void *argument) {
    sqlite3_stmt *statements[STATEMENT_COUNT];
    sqlite3 *database = open_database(statements);
    long number = last_sequence(database, is_product ? "SELECT max(sequence) FROM _journal"
                                                     : "SELECT max(sequence) FROM events");
    (void)argument;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (queue_first == NULL)
            pthread_cond_wait(&is_waiting, &mutex);
        struct create *batch = queue_first, *last = batch;
        for (int i = 1; i < BATCH_MAX && last->next != NULL; i++)
            last = last->next;
        queue_first = last->next;
        if (queue_first == NULL)
            queue_last = NULL;
        last->next = NULL;
        pthread_mutex_unlock(&mutex);

        step(database, statements[BEGIN]);
        for (struct create *create = batch; create != NULL; create = create->next, create_count++)
            write_create(database, statements, create, ++number);
        if (is_product)
            sqlite3_bind_int64(statements[COUNTER], 1, number);
        step(database, statements[COUNTER]);
        step(database, statements[COMMIT]);
        commit_count++;

        pthread_mutex_lock(&mutex);
        last->next = done_first;
        done_first = batch;
        pthread_mutex_unlock(&mutex);
        uv_async_send(&done_async);
    }
    return NULL;
}

static void on_terminate(int signal_number) {
    (void)signal_number;
    fprintf(stderr, "mean batch %.1f\n",
            commit_count > 0 ? (double)create_count / (double)commit_count : 0.0);
    _exit(0);
}

int main(int argument_count, char **arguments) {
    struct sockaddr_in address;
    pthread_t writer;
    uv_tcp_t server;
    if (argument_count != 4) {
        fprintf(stderr, "usage: ceiling PORT FILE product|bare\n");
        return 2;
    }
    file_path = arguments[2];
    is_product = strcmp(arguments[3], "product") == 0;
    signal(SIGTERM, on_terminate);
    signal(SIGPIPE, SIG_IGN);
    llhttp_settings_init(&settings);
    settings.on_body = on_body;
    settings.on_message_complete = on_message;
    uv_async_init(uv_default_loop(), &done_async, on_done);
    pthread_create(&writer, NULL, write_batches, NULL);
    uv_tcp_init(uv_default_loop(), &server);
    uv_ip4_addr("127.0.0.1", (int)strtol(arguments[1], NULL, 10), &address);
    uv_tcp_bind(&server, (struct sockaddr *)&address, 0);
    if (uv_listen((uv_stream_t *)&server, 1024, on_connection) != 0)
        return 1;
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
