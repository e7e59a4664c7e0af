/*
 * What a token costs a request: who asks, found again in memory and for the first time.
 *
 *   token                 prints CACHED_NS FIRST_NS of one check
 *   token ROUNDS COUNT    checks for the first time, to be counted under callgrind (see
 *                         instructions.mjs): bench_mark before each round of COUNT and behind all
 *
 * A superuser signs in in process; the token is then checked over and over, with the cache and
 * without. The first time is the signature and the rows that it depends on.
 */
#include "module_fixture.h"

#include "bakend/config.h"
#include "bakend/crypto.h"
#include "measure.h"

#include <stdio.h>
#include <string.h>

enum { CHECK_COUNT = 200 * 1000, TOKEN_BYTES = 4096, ARENA_BYTES = 64 * 1024 };

extern const struct bk_module bk_module_auth;

static struct support_module fixture;
static struct bk_module module;
static char options[1024];

struct waiting {
    struct bk_write write;
    struct bk_call call;
    bool is_done;
};

void bench_mark(void);

/* callgrind writes what it counted when this is entered. */
__attribute__((noipa)) void bench_mark(void) { __asm__ volatile(""); }

/* --- signing in ------------------------------------------------------------------------------- */

static enum bk_status on_run(struct bk_transaction *transaction, struct bk_write *write) {
    char hash[BK_PASSWORD_HASH_BYTES], sql[1024];
    (void)write;
    if (bk_password_hash(hash, BK_SLICE("correct horse 42")) != BK_OK)
        return BK_NO_MEMORY;
    (void)snprintf(sql, sizeof sql,
                   "INSERT INTO _superusers (id, email, password, tokenKey, created, updated) "
                   "VALUES ('bench0000000000', 'bench@example.com', '%s', '%050d', "
                   "'2026-01-01 00:00:00.000Z', '2026-01-01 00:00:00.000Z')",
                   hash, 7);
    return bk_connection_execute(bk_transaction_connection(transaction), bk_slice_from(sql));
}

static void on_written(struct bk_write *write, enum bk_status status) {
    if (status != BK_OK)
        bench_fail("the superuser cannot be written: %s", bk_status_text(status));
    bk_container_of(write, struct waiting, write)->is_done = true;
}

static void on_answer(struct bk_call *call) {
    bk_buffer_append_slice(&fixture.answer, call->answer);
    bk_container_of(call, struct waiting, call)->is_done = true;
}

/* The text between `"token":"` and the next quote. */
static struct bk_slice token_of(char out[TOKEN_BYTES]) {
    static const char name[] = "\"token\":\"";
    bk_buffer_append_char(&fixture.answer, '\0');
    const char *begin = strstr(fixture.answer.data, name);
    if (begin == NULL)
        bench_fail("no token: %s", fixture.answer.data);
    begin += sizeof name - 1;
    size_t length = strcspn(begin, "\"");
    if (length >= TOKEN_BYTES)
        bench_fail("the token is too long");
    memcpy(out, begin, length);
    return bk_slice_make(out, length);
}

static struct bk_slice sign_in(char out[TOKEN_BYTES]) {
    struct waiting waiting = {
        .write = {.run = on_run, .done = on_written},
        .call = {.actor = &bk_actor_guest,
                 .method = BK_POST,
                 .target = BK_SLICE("/api/collections/_superusers/auth-with-password"),
                 .body = BK_SLICE("{\"identity\":\"bench@example.com\","
                                  "\"password\":\"correct horse 42\"}"),
                 .done = on_answer}};
    if (bk_store_write(fixture.kernel.tenant->database, &waiting.write) != BK_OK)
        bench_fail("the store takes no write");
    bk_loop_run_until(fixture.kernel.loop, &waiting.is_done);
    waiting.is_done = false;
    bk_api_call(fixture.api, &waiting.call);
    bk_loop_run_until(fixture.kernel.loop, &waiting.is_done);
    return token_of(out);
}

/* --- checking --------------------------------------------------------------------------------- */

/* What the server does for all modules. */
static enum bk_status on_init(struct bk_module_context *context, struct bk_error *error) {
    bk_schema_set_rule_check(context->schema, bk_rule_is_valid);
    return bk_module_auth.init(context, error);
}

static void open_with(const char *cache_max) {
    char flag[] = "--token-cache-max", value[16], program[] = "token";
    char *arguments[] = {program, flag, value, NULL};
    int count = 3;
    struct bk_config *config = bk_config_create();
    (void)snprintf(value, sizeof value, "%s", cache_max);
    if (bk_module_auth.options_size > sizeof options)
        bench_fail("the module's options need %zu bytes", bk_module_auth.options_size);
    bk_config_add(config, "auth", bk_module_auth.options, bk_module_auth.option_count, options);
    if (bk_config_read_flags(config, &count, arguments, NULL) != BK_OK)
        bench_fail("%s is no longer an option", flag);
    module = bk_module_auth;
    module.init = on_init;
    module.start = NULL; /* nothing goes out to providers here */
    module.stop = NULL;
    support_module_open(&fixture, &module, options, NULL);
    bk_config_destroy(config);
}

static void check(struct bk_slice token, long count) {
    struct bk_arena arena;
    struct bk_actor actor;
    bk_arena_init(&arena, ARENA_BYTES);
    for (long i = 0; i < count; i++) {
        if (bk_api_authenticate(fixture.api, fixture.kernel.tenant, token, &arena, &actor) != BK_OK)
            bench_fail("the token is not taken");
        bk_arena_reset(&arena);
    }
    bk_arena_fini(&arena);
}

static double check_ns(const char *cache_max) {
    char text[TOKEN_BYTES];
    open_with(cache_max);
    struct bk_slice token = sign_in(text);
    uint64_t begun_ns = bench_now_ns();
    check(token, CHECK_COUNT);
    uint64_t taken_ns = bench_now_ns() - begun_ns;
    support_module_close(&fixture);
    return (double)taken_ns / CHECK_COUNT;
}

static void check_counted(long round_count, long count) {
    char text[TOKEN_BYTES];
    open_with("0");
    struct bk_slice token = sign_in(text);
    for (long round = 0; round < round_count; round++) {
        bench_mark();
        check(token, count);
    }
    bench_mark();
    support_module_close(&fixture);
}

int main(int argument_count, char **arguments) {
    if (bk_crypto_init() != BK_OK)
        bench_fail("nothing can be signed");
    if (argument_count == 3) {
        check_counted(bench_number(arguments[1], 1, 100), bench_number(arguments[2], 1, 100000));
        return 0;
    }
    double cached_ns = check_ns("10000");
    printf("%.1f %.1f\n", cached_ns, check_ns("0"));
    return 0;
}
