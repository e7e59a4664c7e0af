/*
 * Proves what the whole program promises when memory is gone: the nth allocation of a kind fails,
 * once and from there on for ever, at each n, while a request of each kind is served.
 *
 *   what input sizes, SQLite           the request is done or refused (503), or its connection is
 *                                      closed; the next one is served; nothing is torn, nothing
 *                                      leaks (the sanitizer looks when the program ends)
 *   small allocations, libuv           the process may end with its message; started again it has
 *                                      all that it had acknowledged
 *
 * The short form takes SHORT_ROUNDS places of each kind, evenly spread; BAKEND_LONG=1 takes all of
 * them. BAKEND_VERBOSE=1 names each. Where the answer may be other than 503:
 *
 *   500    after a commit of unknown outcome, when memory was also lacking to find that out
 */
#include "program.h"
#include "support.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SHORT_ROUNDS = 8,
    SHORT_ROUNDS_SMALL = 2,
    SHORT_ROUNDS_OPENING = 2,
    TEXT_BYTES = 12 * 1024, /* of a record: several pages of the database */
    LARGE_BYTES = 300 * 1024,
    RECOVERY_ROUNDS = 100,
    FRAME_BYTES = 4096
};

enum outcome { OUTCOME_DONE, OUTCOME_REFUSED, OUTCOME_UNKNOWN };

struct world {
    struct program_under_fault program;
    uint32_t record_count; /* made so far; each has a number, which is its id */
    char *body;            /* LARGE_BYTES and some */
    char *expected;        /* the body of an answer without faults; NULL: not yet known */
    uint32_t ended_count, refused_count, round_count;
};

struct scenario {
    const char *name;
    void (*prepare)(struct world *world); /* without faults; may be NULL */
    int (*act)(struct world *world);      /* returns a status as program_request does */
    void (*check)(struct world *world, enum outcome outcome); /* without faults; may be NULL */
    bool is_upgrade;                                          /* its status may be anything */
};

static uint32_t total_rounds, total_ends;

/* --- records ---------------------------------------------------------------------------------- */

static const char records[] = "/api/collections/notes/records";

static void make_record(struct world *world, size_t text_length, char letter) {
    int head = snprintf(world->body, 128, "{\"id\":\"%015u\",\"text\":\"", world->record_count);
    memset(world->body + head, letter, text_length);
    (void)snprintf(world->body + (size_t)head + text_length, 8, "\"}");
}

static const char *record_path(const struct world *world) {
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%015u", records, world->record_count);
    return path;
}

static int post_record(struct world *world, size_t text_length) {
    make_record(world, text_length, 'a');
    return program_request(&world->program, false, "POST", records, world->body);
}

/* The length of the text that the record has, all of the letter; -1: there is none. */
static long text_length(struct world *world, char letter) {
    int status = program_request(&world->program, false, "GET", record_path(world), NULL);
    const char *text = strstr(program_body(&world->program), "\"text\":\"");
    long length = 0;
    if (status == 404)
        return -1;
    assert_int_equal(status, 200);
    assert_non_null(text);
    text += strlen("\"text\":\"");
    while (text[length] == letter)
        length++;
    assert_int_equal(text[length], '"');
    return length;
}

static void prepare_record(struct world *world) {
    world->record_count++;
    assert_int_equal(post_record(world, TEXT_BYTES), 200);
}

static void prepare_number(struct world *world) { world->record_count++; }

/* --- scenarios -------------------------------------------------------------------------------- */

static int act_create(struct world *world) { return post_record(world, TEXT_BYTES); }

static void check_length(struct world *world, enum outcome outcome, long expected) {
    long length = text_length(world, 'a');
    if (outcome == OUTCOME_DONE)
        assert_int_equal(length, expected);
    else if (outcome == OUTCOME_REFUSED)
        assert_int_equal(length, -1);
    else
        assert_true(length == expected || length == -1);
}

static void check_create(struct world *world, enum outcome outcome) {
    check_length(world, outcome, TEXT_BYTES);
}

static int act_large(struct world *world) { return post_record(world, LARGE_BYTES); }

static void check_large(struct world *world, enum outcome outcome) {
    check_length(world, outcome, LARGE_BYTES);
}

/* What is answered is the truth, or nothing is. Behind the last bracket stands what changes. */
static int get(struct world *world, bool as_operator, const char *target) {
    int status = program_request(&world->program, as_operator, "GET", target, NULL);
    const char *body, *end;
    size_t length;
    if (status != 200)
        return status;
    body = program_body(&world->program);
    end = strrchr(body, ']') == NULL ? body + strlen(body) : strrchr(body, ']');
    length = (size_t)(end - body);
    if (world->expected == NULL) {
        world->expected = bk_alloc(length + 1);
        memcpy(world->expected, body, length);
        world->expected[length] = '\0';
    }
    assert_int_equal(length, strlen(world->expected));
    assert_memory_equal(body, world->expected, length);
    return status;
}

static int act_read(struct world *world) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%015u", records, 1);
    return get(world, false, path);
}

static int act_list(struct world *world) {
    return get(world, false, "/api/collections/notes/records?perPage=5&sort=id&skipTotal=true");
}

static int act_feed(struct world *world) { return get(world, true, "/api/events?limit=5"); }

/* A stream may break off in its middle, which its reader sees from the missing last line. */
static int act_snapshot(struct world *world) {
    return program_request(&world->program, true, "GET", "/api/collections/notes/snapshot", NULL);
}

static int act_update(struct world *world) {
    make_record(world, TEXT_BYTES + 1, 'b');
    return program_request(&world->program, false, "PATCH", record_path(world), world->body);
}

static void check_update(struct world *world, enum outcome outcome) {
    long length = 0;
    int status = program_request(&world->program, false, "GET", record_path(world), NULL);
    bool is_new = strstr(program_body(&world->program), "\"text\":\"b") != NULL;
    assert_int_equal(status, 200);
    length = text_length(world, is_new ? 'b' : 'a');
    assert_int_equal(length, is_new ? TEXT_BYTES + 1 : TEXT_BYTES);
    if (outcome != OUTCOME_UNKNOWN)
        assert_int_equal(is_new, outcome == OUTCOME_DONE);
}

static int act_delete(struct world *world) {
    return program_request(&world->program, false, "DELETE", record_path(world), NULL);
}

static void check_delete(struct world *world, enum outcome outcome) {
    long length = text_length(world, 'a');
    if (outcome == OUTCOME_DONE)
        assert_int_equal(length, -1);
    else if (outcome == OUTCOME_REFUSED)
        assert_int_equal(length, TEXT_BYTES);
    else
        assert_true(length == -1 || length == TEXT_BYTES);
}

static const char backup_path[] = "/api/backups/fault.zip";

static int act_backup(struct world *world) {
    return program_request(&world->program, true, "POST", "/api/backups",
                           "{\"name\":\"fault.zip\"}");
}

static void check_backup(struct world *world, enum outcome outcome) {
    int status = program_request(&world->program, true, "DELETE", backup_path, NULL);
    if (status != 204 && (status != 400 || outcome == OUTCOME_DONE))
        fail_msg("%s", world->program.answer);
}

/* A text frame with a mask of zeros. */
static void send_frame(int descriptor, const char *text) {
    char frame[256] = {(char)0x81};
    size_t length = strlen(text);
    BK_ASSERT(length < 126);
    frame[1] = (char)(0x80 | length);
    memcpy(frame + 6, text, length);
    (void)send(descriptor, frame, length + 6, MSG_NOSIGNAL);
}

/* Reads until the text came: 200, or the connection ended: 0. */
static int wait_for(int descriptor, const char *text) {
    static char bytes[8 * FRAME_BYTES];
    size_t length = 0;
    while (length < sizeof(bytes) - 1) {
        ssize_t got = recv(descriptor, bytes + length, sizeof(bytes) - 1 - length, 0);
        if (got <= 0)
            return got == 0 ? 0 : -1;
        for (ssize_t i = 0; i < got; i++)
            if (bytes[length + (size_t)i] == '\0')
                bytes[length + (size_t)i] = ' ';
        length += (size_t)got;
        bytes[length] = '\0';
        if (strstr(bytes, text) != NULL)
            return 200;
        if (strstr(bytes, "\"ok\":false") != NULL || strstr(bytes, "HTTP/1.1 5") != NULL)
            return 503;
    }
    return 0;
}

static int act_websocket(struct world *world) {
    static const char hello[] =
        "GET /api/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    int status, descriptor = program_connect(&world->program);
    if (descriptor < 0)
        return 0;
    (void)send(descriptor, hello, strlen(hello), MSG_NOSIGNAL);
    status = wait_for(descriptor, "101 ");
    if (status == 200) {
        send_frame(descriptor, "{\"id\":1,\"op\":\"subscribe\",\"types\":[\"notes.*\"]}");
        status = wait_for(descriptor, "\"ok\":true");
    }
    if (status == 200)
        status = post_record(world, 100);
    if (status == 200)
        status = wait_for(descriptor, "notes.created");
    (void)close(descriptor);
    return status;
}

static const struct scenario scenarios[] = {
    {"create", prepare_number, act_create, check_create, false},
    {"read", NULL, act_read, NULL, false},
    {"list", NULL, act_list, NULL, false},
    {"update", prepare_record, act_update, check_update, false},
    {"delete", prepare_record, act_delete, check_delete, false},
    {"large body", prepare_number, act_large, check_large, false},
    {"feed page", NULL, act_feed, NULL, false},
    {"websocket", prepare_number, act_websocket, NULL, true},
    {"snapshot", NULL, act_snapshot, NULL, false},
    {"backup", NULL, act_backup, check_backup, false},
};

/* --- rounds ----------------------------------------------------------------------------------- */

static bool is_long(void) {
    const char *text = getenv("BAKEND_LONG");
    return text != NULL && strcmp(text, "1") == 0;
}

/* The ith of so many places, evenly spread from the first to the last. */
static uint32_t place(uint32_t i, uint32_t rounds, uint32_t total) {
    return rounds < 2 ? 1 : 1 + (uint32_t)((uint64_t)i * (total - 1) / (rounds - 1));
}

static void tell(const char *name, enum program_memory memory, uint32_t nth, bool is_sticky) {
    if (getenv("BAKEND_VERBOSE") != NULL)
        print_message("%s: %s at %u%s\n", name, program_memory_names[memory], nth,
                      is_sticky ? " and after" : "");
}

/* What it had acknowledged is checked by whoever asked for it. */
static void start_again(struct world *world) {
    assert_int_equal(program_stop(&world->program), PROGRAM_END_CLEAN);
    assert_true(program_start(&world->program));
    world->ended_count++;
}

static void assert_serves(struct world *world) {
    int status = 0;
    /* What failed is tried again for a moment: a database, a listener. */
    for (int i = 0; i < RECOVERY_ROUNDS; i++) {
        status = program_request(&world->program, false, "GET", "/api/health", NULL);
        if (status == 200)
            break;
        (void)usleep(20000);
    }
    if (status != 200)
        print_error("it ended: %d\n", (int)program_stop(&world->program));
    assert_int_equal(status, 200);
    for (int i = 0; i < RECOVERY_ROUNDS; i++) {
        world->record_count++;
        status = post_record(world, 10);
        if (status == 200)
            break;
        (void)usleep(20000);
    }
    if (status != 200)
        print_error("a write: %s\n", world->program.answer);
    assert_int_equal(status, 200);
    assert_int_equal(text_length(world, 'a'), 10);
}

static enum outcome outcome_of(const struct world *world, const struct scenario *scenario,
                               enum program_memory memory, int status) {
    if (status >= 200 && status < 300)
        return OUTCOME_DONE;
    if (status == 503)
        return OUTCOME_REFUSED;
    if (status == 0 || (status == 500 && memory == PROGRAM_MEMORY_SQLITE) || scenario->is_upgrade)
        return OUTCOME_UNKNOWN;
    fail_msg("%s: %d: %s", scenario->name, status, world->program.answer);
    return OUTCOME_UNKNOWN;
}

static uint32_t play(struct world *world, const struct scenario *scenario,
                     enum program_memory memory, uint32_t nth, bool is_sticky) {
    uint32_t count, number;
    enum outcome outcome;
    int status;
    tell(scenario->name, memory, nth, is_sticky);
    if (scenario->prepare != NULL)
        scenario->prepare(world);
    program_arm(memory, nth, is_sticky);
    status = scenario->act(world);
    count = program_disarm();
    if (nth == 0 && (status < 200 || status > 299))
        fail_msg("%s: without a fault: %s", scenario->name, world->program.answer);
    outcome = outcome_of(world, scenario, memory, status);
    if (memory == PROGRAM_MEMORY_SMALL && nth != 0 && nth <= count) {
        assert_true(program_is_gone(&world->program));
        start_again(world);
    } else if (memory == PROGRAM_MEMORY_SIZED && status == 0 && program_is_gone(&world->program)) {
        start_again(world); /* a bounded text, which is as small as what bk_alloc is asked for */
    }
    number = world->record_count;
    assert_serves(world);
    world->record_count = number;
    if (scenario->check != NULL)
        scenario->check(world, outcome);
    world->record_count = number + RECOVERY_ROUNDS;
    world->refused_count += outcome != OUTCOME_DONE;
    world->round_count++;
    return count;
}

static void play_all_places(struct world *world, const struct scenario *scenario,
                            enum program_memory memory) {
    bool is_small = memory == PROGRAM_MEMORY_SMALL;
    uint32_t total = play(world, scenario, memory, 0, false);
    uint32_t most = is_small ? SHORT_ROUNDS_SMALL : SHORT_ROUNDS, rounds;
    rounds = total < most || is_long() ? total : most;
    for (uint32_t i = 0; i < rounds; i++) {
        (void)play(world, scenario, memory, place(i, rounds, total), false);
        if (!is_small)
            (void)play(world, scenario, memory, place(i, rounds, total), true);
    }
    print_message("%s: %s: %u of %u places\n", scenario->name, program_memory_names[memory], rounds,
                  total);
}

/* --- a data directory ------------------------------------------------------------------------- */

static void set_up_collection(struct world *world) {
    static const char definition[] =
        "{\"name\":\"notes\",\"type\":\"base\",\"listRule\":\"\",\"viewRule\":\"\","
        "\"createRule\":\"\",\"updateRule\":\"\",\"deleteRule\":\"\","
        "\"fields\":[{\"name\":\"text\",\"type\":\"text\",\"max\":1000000}]}";
    int status = program_request(&world->program, true, "POST", "/api/collections", definition);
    if (status != 200)
        fail_msg("%s", world->program.answer);
    for (int i = 0; i < 5; i++)
        prepare_record(world);
}

static int setup(void **state) {
    struct world *world = bk_alloc_zero(sizeof(*world));
    char *directory = support_directory_create();
    program_init(&world->program, directory);
    world->body = bk_alloc(LARGE_BYTES + 256);
    assert_true(program_start(&world->program));
    set_up_collection(world);
    assert_int_equal(program_stop(&world->program), PROGRAM_END_WELL);
    *state = world;
    test_free(directory);
    return 0;
}

static int teardown(void **state) {
    struct world *world = *state;
    char *directory = test_malloc(PROGRAM_PATH_BYTES);
    (void)snprintf(directory, PROGRAM_PATH_BYTES, "%s", world->program.directory);
    program_fini(&world->program);
    support_directory_remove(directory);
    total_rounds += world->round_count;
    total_ends += world->ended_count;
    bk_free(world->expected);
    bk_free(world->body);
    bk_free(world);
    return 0;
}

static void play_scenarios(struct world *world, enum program_memory memory) {
    for (size_t i = 0; i < BK_COUNT_OF(scenarios); i++) {
        assert_true(program_start(&world->program));
        play_all_places(world, &scenarios[i], memory);
        assert_int_equal(program_stop(&world->program), PROGRAM_END_WELL);
        bk_free(world->expected);
        world->expected = NULL;
    }
    print_message("%s: %u rounds, %u not done, %u ended and started again\n",
                  program_memory_names[memory], world->round_count, world->refused_count,
                  world->ended_count);
}

static void requests_survive_what_input_sizes(void **state) {
    play_scenarios(*state, PROGRAM_MEMORY_SIZED);
}

static void requests_survive_without_memory_for_sqlite(void **state) {
    play_scenarios(*state, PROGRAM_MEMORY_SQLITE);
}

static void what_was_acknowledged_survives_a_clean_end(void **state) {
    play_scenarios(*state, PROGRAM_MEMORY_SMALL);
}

/* --- opening ---------------------------------------------------------------------------------- */

static uint32_t play_opening(struct world *world, enum program_memory memory, uint32_t nth,
                             bool is_sticky) {
    bool is_open;
    enum program_end end;
    uint32_t count;
    tell("opening", memory, nth, is_sticky);
    program_arm(memory, nth, is_sticky);
    is_open = program_start(&world->program);
    count = program_disarm();
    if (nth == 0)
        assert_true(is_open);
    /* What begins when it has just opened may be what failed. */
    if (memory == PROGRAM_MEMORY_SMALL && nth != 0 && is_open)
        is_open = !program_is_gone(&world->program);
    if (is_open)
        assert_serves(world);
    end = program_stop(&world->program);
    assert_int_not_equal(end, PROGRAM_END_BAD);
    if (is_open)
        assert_int_equal(end, PROGRAM_END_WELL);
    world->record_count += RECOVERY_ROUNDS;
    world->refused_count += end == PROGRAM_END_REFUSED;
    world->ended_count += end == PROGRAM_END_CLEAN;
    world->round_count++;
    return count;
}

static void openings_without_memory(void **state) {
    struct world *world = *state;
    for (int memory = 0; memory < PROGRAM_MEMORIES; memory++) {
        uint32_t total = play_opening(world, (enum program_memory)memory, 0, false);
        uint32_t rounds = total < SHORT_ROUNDS_OPENING || is_long() ? total : SHORT_ROUNDS_OPENING;
        for (uint32_t i = 0; i < rounds; i++)
            for (int is_sticky = 0; is_sticky <= (memory != PROGRAM_MEMORY_SMALL); is_sticky++)
                (void)play_opening(world, (enum program_memory)memory, place(i, rounds, total),
                                   is_sticky != 0);
        print_message("opening: %s: %u of %u places\n", program_memory_names[memory], rounds,
                      total);
    }
    assert_true(program_start(&world->program));
    assert_serves(world);
    assert_int_equal(program_stop(&world->program), PROGRAM_END_WELL);
}

static int tell_promise(void **state) {
    (void)state;
    support_promise("faults of memory", "%u rounds, %u clean ends, 0 acknowledged lost, 0 leaks",
                    total_rounds, total_ends);
    return 0;
}

/* An argument is a pattern of the tests to run. */
int main(int argument_count, char **arguments) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_survive_what_input_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(requests_survive_without_memory_for_sqlite, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_was_acknowledged_survives_a_clean_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(openings_without_memory, setup, teardown),
    };
    if (argument_count > 1)
        cmocka_set_test_filter(arguments[1]);
    return cmocka_run_group_tests(tests, NULL, tell_promise);
}
