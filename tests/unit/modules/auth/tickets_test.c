/* Tickets: used once, ended by another token key, swept when they are over, and
 * counted for the pause between two mails. What a request says with one is
 * tested with the real program. */
#include "auth.h"
#include "module_fixture.h"

#include "bakend/clock.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

extern const struct bk_module bk_module_auth;

enum { ARENA_BYTES = 1024 * 1024, HOUR_MS = 3600 * 1000 };

static const struct auth_options options = {.password_threads = 1,
                                            .password_queue_max = 1,
                                            .token_cache_max = 10,
                                            .failures_memory_max = 100};

/* An auth collection of no others. */
#define FIELD(name, type) "{\"system\":true,\"name\":\"" name "\",\"type\":\"" type "\""
#define ID_FIELD                                                                                   \
    FIELD("id", "text")                                                                            \
    ",\"primaryKey\":true,\"required\":true,\"min\":15,\"max\":15,"                                \
    "\"pattern\":\"^[a-z0-9]+$\",\"autogeneratePattern\":\"[a-z0-9]{15}\"},"
#define PASSWORD_FIELD                                                                             \
    FIELD("password", "password") ",\"hidden\":true,\"required\":true,\"min\":8},"
#define TOKEN_KEY_FIELD                                                                            \
    FIELD("tokenKey", "text")                                                                      \
    ",\"hidden\":true,\"required\":true,\"min\":30,\"max\":60,"                                    \
    "\"autogeneratePattern\":\"[a-zA-Z0-9]{50}\"},"
#define OTHER_FIELDS                                                                               \
    FIELD("email", "email")                                                                        \
    ",\"required\":true}," FIELD("emailVisibility", "bool") "}," FIELD("verified", "bool") "}"
#define INDEXES                                                                                    \
    "\"CREATE UNIQUE INDEX `idx_tokenKey_people` ON `_people` (`tokenKey`)\","                     \
    "\"CREATE UNIQUE INDEX `idx_email_people` ON `_people` (`email`) WHERE `email` != ''\""
static const struct bk_system_collection declared[] = {
    {.definition = "{\"id\":\"people000000001\",\"name\":\"_people\",\"type\":\"auth\","
                   "\"system\":true,\"passwordResetToken\":{\"duration\":60},"
                   "\"fields\":[" ID_FIELD PASSWORD_FIELD TOKEN_KEY_FIELD OTHER_FIELDS "],"
                   "\"indexes\":[" INDEXES "]}",
     .role = BK_ROLE_CONFIGURATION},
};

static struct support_module fixture;
static struct bk_module module;
static struct bk_arena arena;

/* --- on the writer ---------------------------------------------------------------------------- */

struct run {
    struct bk_write write;
    enum bk_status (*run)(struct bk_transaction *transaction, struct run *run);
    struct auth_ticket ticket;
    struct bk_buffer token;
    int64_t expires_ms, count;
    struct bk_slice hash;
    bool is_done;
    enum bk_status status;
};

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    struct run *run = bk_container_of(write, struct run, write);
    return run->run(transaction, run);
}

static void on_done(struct bk_write *write, enum bk_status status) {
    struct run *run = bk_container_of(write, struct run, write);
    run->status = status;
    run->is_done = true;
}

static enum bk_status do_run(struct run *run,
                             enum bk_status (*what)(struct bk_transaction *, struct run *)) {
    run->write = (struct bk_write){.run = on_run, .done = on_done};
    run->run = what;
    run->is_done = false;
    assert_int_equal(bk_store_write(fixture.kernel.tenant->database, &run->write), BK_OK);
    support_loop_run_until(fixture.kernel.loop, &run->is_done);
    return run->status;
}

static enum bk_status insert_person(struct bk_transaction *transaction, struct run *run) {
    const struct auth_value values[] = {{"email", BK_VALUE_OF_TEXT(BK_SLICE("ann@example.com"))},
                                        {"password", BK_VALUE_OF_TEXT(BK_SLICE("a hash"))}};
    char id[BK_RECORD_ID_BYTES + 1];
    enum bk_status status =
        auth_row_insert(transaction, run->ticket.collection, values, BK_COUNT_OF(values), id);
    return status == BK_OK ? auth_credentials_find(&arena, bk_transaction_connection(transaction),
                                                   run->ticket.collection, bk_slice_from(id),
                                                   &run->ticket.credentials)
                           : status;
}

static enum bk_status issue(struct bk_transaction *transaction, struct run *run) {
    return auth_ticket_issue(&fixture.context, transaction, &run->ticket, &run->token,
                             &run->expires_ms);
}

static enum bk_status use(struct bk_transaction *transaction, struct run *run) {
    struct auth_credentials credentials;
    return auth_ticket_use(transaction, &run->ticket, &credentials);
}

static enum bk_status change_token_key(struct bk_transaction *transaction, struct run *run) {
    (void)run;
    return bk_connection_execute(bk_transaction_connection(transaction),
                                 BK_SLICE("UPDATE _people SET tokenKey = 'another'"));
}

static enum bk_status count_recent(struct bk_transaction *transaction, struct run *run) {
    return auth_ticket_count_recent(transaction, &run->ticket, &run->count);
}

static enum bk_status count_rows(struct bk_transaction *transaction, struct run *run) {
    const struct bk_sql sql =
        bk_sql_make(BK_SLICE("SELECT count(*), min(hash) FROM _auth_tickets"));
    struct bk_statement *statement;
    enum bk_status status =
        bk_connection_statement(bk_transaction_connection(transaction), &sql, &statement);
    if (status == BK_OK)
        status = bk_statement_step(statement);
    if (status == BK_OK)
        run->count = bk_statement_int(statement, 0);
    run->hash = bk_arena_copy(&arena, bk_statement_text(statement, 1));
    bk_statement_reset(statement);
    return status;
}

static enum bk_status pretend(struct bk_transaction *transaction, struct run *run) {
    (void)run;
    return auth_ticket_pretend(transaction);
}

/* --- a person with a ticket ------------------------------------------------------------------- */

static int setup(void **state) {
    static struct run run;
    module = bk_module_auth;
    module.collections = declared;
    module.collection_count = BK_COUNT_OF(declared);
    module.start = NULL; /* nobody is asked for anything over a network here */
    module.stop = NULL;
    support_module_open(&fixture, &module, &options, NULL);
    bk_arena_init(&arena, ARENA_BYTES);
    run = (struct run){.is_done = false};
    run.ticket.type = "passwordReset";
    run.ticket.collection = bk_schema_find(bk_schema_current(fixture.schema, fixture.kernel.tenant),
                                           BK_SLICE("_people"));
    assert_non_null(run.ticket.collection);
    bk_buffer_init(&run.token, AUTH_TOKEN_BYTES_MAX);
    assert_int_equal(do_run(&run, insert_person), BK_OK);
    run.ticket.email = run.ticket.credentials.email;
    *state = &run;
    return 0;
}

static int teardown(void **state) {
    struct run *run = *state;
    bk_clock_set_offset_ms(0);
    bk_buffer_fini(&run->token);
    bk_arena_fini(&arena);
    support_module_close(&fixture);
    return 0;
}

/* With the jti that only the token has. */
static void take(struct run *run) {
    struct auth_claims claims;
    bk_buffer_clear(&run->token);
    assert_int_equal(do_run(run, issue), BK_OK);
    assert_true(auth_ticket_peek(&arena, bk_buffer_slice(&run->token), &claims));
    run->ticket.jti = claims.jti;
}

static int64_t count(struct run *run,
                     enum bk_status (*what)(struct bk_transaction *, struct run *)) {
    assert_int_equal(do_run(run, what), BK_OK);
    return run->count;
}

static void test_a_ticket_is_used_once(void **state) {
    struct run *run = *state;
    take(run);
    assert_int_equal(do_run(run, use), BK_OK);
    assert_int_equal(do_run(run, use), BK_UNAUTHORIZED);
}

static void test_one_of_two_stays_when_the_other_is_used(void **state) {
    struct run *run = *state;
    take(run);
    struct bk_slice first = run->ticket.jti;
    take(run);
    assert_int_equal(do_run(run, use), BK_OK);
    run->ticket.jti = first;
    assert_int_equal(do_run(run, use), BK_OK);
}

static void test_another_token_key_ends_it(void **state) {
    struct run *run = *state;
    take(run);
    assert_int_equal(do_run(run, change_token_key), BK_OK);
    assert_int_equal(do_run(run, use), BK_UNAUTHORIZED);
}

static void test_a_jti_that_was_never_issued_is_of_no_use(void **state) {
    struct run *run = *state;
    take(run);
    run->ticket.jti = BK_SLICE("AAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_int_equal(do_run(run, use), BK_UNAUTHORIZED);
}

static void test_the_table_has_the_digest_alone(void **state) {
    struct run *run = *state;
    uint8_t digest[BK_SHA256_BYTES];
    char text[2 * BK_SHA256_BYTES];
    take(run);
    assert_in_range(run->expires_ms - bk_clock_wall_ms(), 50 * 1000, 60 * 1000);
    assert_int_equal(count(run, count_rows), 1);
    bk_sha256(digest, run->ticket.jti);
    bk_hex_encode(text, digest, sizeof digest);
    assert_true(bk_slice_equal(run->hash, bk_slice_make(text, sizeof text)));
    assert_in_range(run->ticket.jti.length, 22, 64); /* 128 bits at least */
}

static void test_those_of_the_last_two_minutes_are_counted(void **state) {
    struct run *run = *state;
    take(run);
    assert_int_equal(count(run, count_recent), 1);
    bk_clock_set_offset_ms(AUTH_TICKET_PAUSE_MS + 1000);
    assert_int_equal(count(run, count_recent), 0);
    bk_clock_set_offset_ms(-HOUR_MS);
    assert_int_equal(count(run, count_recent), 0); /* a clock that was set back holds nobody up */
}

static void test_those_that_are_over_are_swept_by_the_next(void **state) {
    struct run *run = *state;
    take(run);
    take(run);
    bk_clock_set_offset_ms(90 * 1000); /* expired, but they hold up the next mail */
    assert_int_equal(do_run(run, pretend), BK_OK);
    assert_int_equal(count(run, count_rows), 3);
    bk_clock_set_offset_ms(HOUR_MS);
    assert_int_equal(do_run(run, pretend), BK_OK);
    assert_int_equal(count(run, count_rows), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_ticket_is_used_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_of_two_stays_when_the_other_is_used, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_another_token_key_ends_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_jti_that_was_never_issued_is_of_no_use, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_table_has_the_digest_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_those_of_the_last_two_minutes_are_counted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_those_that_are_over_are_swept_by_the_next, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
