/* SMTP to a server that goes by a script. */
#define _GNU_SOURCE 1 /* memmem */
#include "peer_fixture.h"

#include "bakend/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is answered when a line begins so; the first that fits. An answer of NULL ends the
 * connection, "hang" says nothing more. */
struct step {
    const char *command, *answer;
};

enum { STEPS_MAX = 16 };

/* On a machine with nothing else to do it is some tens. */
enum { CLOSE_MAX_MS = 3000 };

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct bk_outbound_channel *channel;
    struct support_peer *peer;
    struct support_exchange exchange;
    const char *greeting;
    pthread_mutex_t mutex; /* guards what follows: the peer has a thread a connection */
    struct step steps[STEPS_MAX];
    char seen[16384]; /* all that came */
    size_t line_count;
    bool ends_after_mail;
    bool sleeps_in_data; /* takes nothing of the mail until it wakes */
    /* Set by the peer, and read without a lock by a test that waits for it. */
    atomic_bool hangs, wakes, has_ended, saw_end_of_mail;
    atomic_size_t hang_bytes; /* that came while it said nothing */
};

static const struct step USUAL[] = {
    {"EHLO", "250-peer\r\n250-SIZE 1000000\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n"},
    {"AUTH", "334 \r\n"},
    {"MAIL", "250 2.1.0 Ok\r\n"},
    {"RCPT", "250 2.1.5 Ok\r\n"},
    {"DATA", "354 Go on\r\n"},
    {".\r\n", "250 2.0.0 Ok: queued as 7\r\n"},
    {"QUIT", "221 2.0.0 Bye\r\n"},
};

static const char *find_answer(const struct step *steps, size_t count, const char *line) {
    for (size_t i = 0; i < count && steps[i].command != NULL; i++) {
        if (strncmp(line, steps[i].command, strlen(steps[i].command)) == 0)
            return steps[i].answer == NULL ? "" : steps[i].answer;
    }
    return NULL;
}

/* NULL: the connection is to end. */
static const char *note_line(struct world *world, const char *line) {
    const char *answer;
    size_t length;
    (void)pthread_mutex_lock(&world->mutex);
    length = strlen(world->seen);
    (void)snprintf(world->seen + length, sizeof(world->seen) - length, "%s", line);
    world->line_count++;
    answer = find_answer(world->steps, STEPS_MAX, line);
    (void)pthread_mutex_unlock(&world->mutex);
    if (answer == NULL)
        answer = find_answer(USUAL, BK_COUNT_OF(USUAL), line);
    return answer == NULL || answer[0] == '\0' ? NULL : answer;
}

static void set_answer(struct world *world, size_t place, const char *command, const char *answer) {
    (void)pthread_mutex_lock(&world->mutex);
    world->steps[place] = (struct step){command, answer};
    (void)pthread_mutex_unlock(&world->mutex);
}

static void hang(struct world *world, struct support_connection *connection) {
    char byte;
    world->hangs = true;
    while (recv(connection->socket, &byte, 1, 0) > 0)
        world->hang_bytes++;
}

static void sleep_in_data(struct world *world, struct support_connection *connection) {
    static char bytes[256 * 1024];
    size_t kept = 0;
    ssize_t got;
    world->hangs = true;
    while (!world->wakes)
        (void)usleep(1000);
    while ((got = recv(connection->socket, bytes + kept, sizeof(bytes) - kept, 0)) > 0) {
        size_t length = kept + (size_t)got;
        if (memmem(bytes, length, "\r\n.\r\n", 5) != NULL)
            world->saw_end_of_mail = true;
        kept = length < 4 ? length : 4;
        memmove(bytes, bytes + length - kept, kept);
    }
    world->has_ended = true;
}

static void serve_smtp(struct support_connection *connection) {
    struct world *world = support_peer_user(connection->peer);
    bool is_in_data = false;
    const char *line;
    if (!support_connection_send(connection, world->greeting))
        return;
    while ((line = support_connection_read(connection, "\r\n")) != NULL) {
        const char *answer = note_line(world, line);
        if (is_in_data && strcmp(line, ".\r\n") != 0)
            continue;
        if (answer == NULL)
            return;
        if (strcmp(answer, "hang") == 0) {
            hang(world, connection);
            return;
        }
        if (!support_connection_send(connection, answer))
            return;
        if (world->ends_after_mail && is_in_data) {
            (void)support_connection_send(connection, "421 4.4.2 Idle\r\n");
            return;
        }
        is_in_data = strncmp(answer, "354", 3) == 0;
        if (is_in_data && world->sleeps_in_data) {
            sleep_in_data(world, connection);
            return;
        }
    }
}

static void setup_world(struct world *world, void **state) {
    struct bk_outbound_policy policy = support_trusting_policy();
    memset(world, 0, sizeof(*world));
    world->loop = *state;
    world->outbound = bk_outbound_create(*state);
    world->channel = bk_outbound_open(world->outbound, &policy);
    world->greeting = "220 peer ESMTP\r\n";
    (void)pthread_mutex_init(&world->mutex, NULL);
    world->peer = support_peer_start(serve_smtp, world);
    support_exchange_init_mail(&world->exchange, support_peer_port(world->peer));
}

static void teardown_world(struct world *world) {
    assert_in_range(support_channel_close_ms(world->channel, world->loop), 0, CLOSE_MAX_MS);
    bk_outbound_destroy(world->outbound);
    support_peer_stop(world->peer);
    (void)pthread_mutex_destroy(&world->mutex);
}

static void run(struct world *world) {
    support_exchange_run(&world->exchange, world->loop, world->channel);
}

static void expect(struct world *world, enum bk_outbound_failure failure, uint32_t status) {
    run(world);
    if (world->exchange.request.failure != failure || world->exchange.request.status != status)
        fail_msg("%s %u (%s, %s), not %s %u",
                 bk_outbound_failure_name(world->exchange.request.failure),
                 world->exchange.request.status, world->exchange.reason, world->exchange.answer,
                 bk_outbound_failure_name(failure), status);
}

/* One mail to a server that answers a command so. */
static void expect_of(void **state, const char *command, const char *answer,
                      enum bk_outbound_failure failure, uint32_t status) {
    struct world world;
    setup_world(&world, state);
    set_answer(&world, 0, command, answer);
    expect(&world, failure, status);
    teardown_world(&world);
}

/* --- what is sent ----------------------------------------------------------------------------- */

static void test_a_mail_is_sent(void **state) {
    struct world world;
    setup_world(&world, state);
    expect(&world, BK_OUTBOUND_OK, 250);
    assert_string_equal(world.exchange.answer, "2.0.0 Ok: queued as 7");
    assert_string_equal(world.seen, "EHLO localhost\r\n"
                                    "MAIL FROM:<from@example.com> SIZE=25\r\n"
                                    "RCPT TO:<to@example.com>\r\n"
                                    "DATA\r\n"
                                    "Subject: hello\r\n\r\nHello\r\n.\r\n");
    teardown_world(&world);
}

static void test_dots_are_stuffed_and_the_end_is_made(void **state) {
    struct world world;
    setup_world(&world, state);
    world.exchange.smtp.message = BK_SLICE(".first\r\n.\r\n..two\r\na.b\r\n.");
    expect(&world, BK_OUTBOUND_OK, 250);
    assert_non_null(strstr(world.seen, "DATA\r\n..first\r\n..\r\n...two\r\na.b\r\n..\r\n.\r\n"));
    teardown_world(&world);
}

static void test_a_large_mail_arrives_whole(void **state) {
    static char message[140 * 1024];
    struct world world;
    setup_world(&world, state);
    memset(message, 'x', sizeof(message));
    for (size_t i = 0; i < sizeof(message); i += 70) {
        message[i] = '.';
        memcpy(message + i + 68, "\r\n", 2);
    }
    world.exchange.smtp.message = bk_slice_make(message, sizeof(message));
    expect(&world, BK_OUTBOUND_OK, 250);
    assert_int_equal(world.line_count, sizeof(message) / 70 + 5);
    teardown_world(&world);
}

static void test_the_name_and_the_envelope_are_as_given(void **state) {
    static const struct bk_slice recipients[] = {BK_SLICE_INIT("one@example.com"),
                                                 BK_SLICE_INIT("two@example.com")};
    struct world world;
    setup_world(&world, state);
    world.exchange.smtp.local_name = BK_SLICE("mail.example.com");
    world.exchange.smtp.from = BK_SLICE_EMPTY;
    world.exchange.smtp.recipients = recipients;
    world.exchange.smtp.recipient_count = 2;
    expect(&world, BK_OUTBOUND_OK, 250);
    assert_non_null(strstr(world.seen, "EHLO mail.example.com\r\nMAIL FROM:<>"));
    assert_non_null(
        strstr(world.seen, "RCPT TO:<one@example.com>\r\nRCPT TO:<two@example.com>\r\nDATA\r\n"));
    teardown_world(&world);
}

static void test_the_next_mail_goes_over_the_same_connection(void **state) {
    struct world world;
    setup_world(&world, state);
    for (int i = 0; i < 3; i++) {
        expect(&world, BK_OUTBOUND_OK, 250);
        assert_int_equal(world.exchange.request.was_reused, i > 0);
    }
    assert_int_equal(support_peer_connection_count(world.peer), 1);
    teardown_world(&world);
}

static void test_a_connection_that_the_server_ended_is_not_used_again(void **state) {
    struct world world;
    setup_world(&world, state);
    world.ends_after_mail = true;
    for (int i = 0; i < 3; i++) {
        expect(&world, BK_OUTBOUND_OK, 250);
        support_loop_run_for(world.loop, 20);
    }
    assert_int_equal(support_peer_connection_count(world.peer), 3);
    teardown_world(&world);
}

static void test_no_kind_of_security_takes_the_connection_of_another(void **state) {
    struct world world;
    setup_world(&world, state);
    expect(&world, BK_OUTBOUND_OK, 250);
    world.exchange.smtp.security = BK_SMTP_STARTTLS;
    expect(&world, BK_OUTBOUND_TLS, 0);
    world.exchange.smtp.security = BK_SMTP_PLAIN;
    expect(&world, BK_OUTBOUND_OK, 250);
    assert_int_equal(support_peer_connection_count(world.peer), 3);
    teardown_world(&world);
}

/* --- logging in ------------------------------------------------------------------------------- */

static void log_in(struct world *world, enum bk_smtp_login login) {
    world->exchange.smtp.login = login;
    world->exchange.smtp.user = BK_SLICE("user");
    world->exchange.smtp.password = BK_SLICE("pass word");
}

static void test_both_logins_are_spoken(void **state) {
    struct world world;
    setup_world(&world, state);
    log_in(&world, BK_SMTP_LOGIN_PLAIN);
    set_answer(&world, 0, "AHVzZXIAcGFzcyB3b3Jk\r\n", "235 2.7.0 In\r\n");
    expect(&world, BK_OUTBOUND_OK, 250);
    assert_non_null(strstr(world.seen, "AUTH PLAIN\r\nAHVzZXIAcGFzcyB3b3Jk\r\nMAIL"));
    teardown_world(&world);
    setup_world(&world, state);
    log_in(&world, BK_SMTP_LOGIN_LOGIN);
    set_answer(&world, 0, "AUTH LOGIN", "334 VXNlcm5hbWU6\r\n");
    set_answer(&world, 1, "dXNlcg==\r\n", "334 UGFzc3dvcmQ6\r\n");
    set_answer(&world, 2, "cGFzcyB3b3Jk\r\n", "235 2.7.0 In\r\n");
    expect(&world, BK_OUTBOUND_OK, 250);
    expect(&world, BK_OUTBOUND_OK, 250); /* the second does not log in again */
    assert_int_equal(support_peer_connection_count(world.peer), 1);
    teardown_world(&world);
}

static void test_a_login_that_is_refused_is_told(void **state) {
    struct world world;
    setup_world(&world, state);
    log_in(&world, BK_SMTP_LOGIN_PLAIN);
    set_answer(&world, 0, "AHVz", "535 5.7.8 No\r\n");
    expect(&world, BK_OUTBOUND_LOGIN, 535);
    assert_string_equal(world.exchange.answer, "5.7.8 No");
    set_answer(&world, 0, "AUTH", "454 4.7.0 Later\r\n");
    expect(&world, BK_OUTBOUND_LOGIN, 454);
    assert_null(strstr(world.seen, "MAIL"));
    teardown_world(&world);
}

static void test_without_the_login_that_was_asked_for_nothing_is_sent(void **state) {
    static const char *const offers[] = {"250 peer\r\n", "250-peer\r\n250 AUTH CRAM-MD5\r\n",
                                         "250-peer\r\n250 AUTH LOGIN\r\n"};
    for (size_t i = 0; i < 3; i++) {
        struct world world;
        setup_world(&world, state);
        log_in(&world, BK_SMTP_LOGIN_PLAIN);
        set_answer(&world, 0, "EHLO", offers[i]);
        run(&world);
        assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_LOGIN);
        assert_null(strstr(world.seen, "MAIL"));
        assert_null(strstr(world.seen, "AHVz"));
        teardown_world(&world);
    }
}

/* --- TLS -------------------------------------------------------------------------------------- */

static void test_without_starttls_there_is_no_mail_that_asks_for_it(void **state) {
    struct world world;
    setup_world(&world, state);
    world.exchange.smtp.security = BK_SMTP_STARTTLS;
    log_in(&world, BK_SMTP_LOGIN_PLAIN);
    expect(&world, BK_OUTBOUND_TLS, 0);
    assert_string_equal(world.seen, "EHLO localhost\r\n");
    teardown_world(&world);
}

static void test_starttls_that_is_refused_is_no_leave_to_go_on(void **state) {
    static const enum bk_smtp_security kinds[] = {BK_SMTP_STARTTLS, BK_SMTP_STARTTLS_IF_OFFERED};
    for (size_t i = 0; i < 2; i++) {
        struct world world;
        setup_world(&world, state);
        world.exchange.smtp.security = kinds[i];
        world.exchange.request.timeout_ms = 1000;
        set_answer(&world, 0, "EHLO", "250-peer\r\n250 STARTTLS\r\n");
        /* A server that says yes and then speaks no TLS. */
        set_answer(&world, 1, "STARTTLS", "220 Go on\r\n250 not TLS at all\r\n");
        run(&world);
        assert_int_not_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
        assert_null(strstr(world.seen, "MAIL"));
        teardown_world(&world);
    }
    expect_of(state, "nothing", "", BK_OUTBOUND_OK, 250);
}

static void test_where_it_is_not_offered_a_wish_for_tls_is_one(void **state) {
    struct bk_outbound_policy policy = support_trusting_policy();
    struct bk_outbound_channel *strict;
    struct world world;
    setup_world(&world, state);
    world.exchange.smtp.security = BK_SMTP_STARTTLS_IF_OFFERED;
    expect(&world, BK_OUTBOUND_OK, 250);
    policy.allows_plain = false;
    strict = bk_outbound_open(world.outbound, &policy);
    support_exchange_run(&world.exchange, world.loop, strict);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_TLS);
    world.exchange.smtp.security = BK_SMTP_PLAIN;
    support_exchange_run(&world.exchange, world.loop, strict);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_BLOCKED);
    (void)support_channel_close_ms(strict, world.loop);
    teardown_world(&world);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void expect_greeting(void **state, const char *greeting, enum bk_outbound_failure failure,
                            uint32_t status) {
    struct world world;
    setup_world(&world, state);
    world.greeting = greeting;
    if (failure == BK_OUTBOUND_TIMEOUT)
        world.exchange.request.connect_timeout_ms = 100;
    expect(&world, failure, status);
    teardown_world(&world);
}

static void test_a_refusal_is_known_by_its_reply_at_each_step(void **state) {
    expect_greeting(state, "421 4.3.2 Busy\r\n", BK_OUTBOUND_OK, 421);
    expect_greeting(state, "554-No\r\n554 Never\r\n", BK_OUTBOUND_OK, 554);
    expect_of(state, "MAIL", "451 4.3.0 Later\r\n", BK_OUTBOUND_OK, 451);
    expect_of(state, "MAIL", "550 5.1.0 Sender\r\n", BK_OUTBOUND_OK, 550);
    expect_of(state, "RCPT", "450 4.2.1 Later\r\n", BK_OUTBOUND_OK, 450);
    expect_of(state, "RCPT", "550 5.1.1 Unknown\r\n", BK_OUTBOUND_OK, 550);
    expect_of(state, "DATA", "452 4.3.1 Full\r\n", BK_OUTBOUND_OK, 452);
    expect_of(state, "DATA", "554 5.5.1 Nobody\r\n", BK_OUTBOUND_OK, 554);
    expect_of(state, ".\r\n", "451 4.7.1 Greylisted\r\n", BK_OUTBOUND_OK, 451);
    expect_of(state, ".\r\n", "554 5.7.1 Spam\r\n", BK_OUTBOUND_OK, 554);
    expect_of(state, "RCPT", "421 4.4.2 Going down\r\n", BK_OUTBOUND_OK, 421);
}

static void test_the_text_of_a_refusal_is_tidy_and_short(void **state) {
    struct world world;
    setup_world(&world, state);
    set_answer(&world, 0, "RCPT", "550-5.1.1 No\x01one\r\n550-\r\n550 h\xc3\xb6re\r\n");
    expect(&world, BK_OUTBOUND_OK, 550);
    assert_string_equal(world.exchange.answer, "5.1.1 No one h\xc3\xb6re");
    set_answer(&world, 0, "RCPT", "550 bad \xff bytes\r\n");
    expect(&world, BK_OUTBOUND_OK, 550);
    assert_string_equal(world.exchange.answer, "bad ? bytes");
    teardown_world(&world);
}

static void test_a_long_reply_is_cut_at_a_whole_character(void **state) {
    static char reply[1200];
    struct world world;
    size_t length = 0;
    setup_world(&world, state);
    length = (size_t)snprintf(reply, sizeof(reply), "550 x");
    while (length < 1000) {
        memcpy(reply + length, "\xc3\xb6", 2);
        length += 2;
    }
    memcpy(reply + length, "\r\n", 3);
    set_answer(&world, 0, "RCPT", reply);
    expect(&world, BK_OUTBOUND_OK, 550);
    assert_int_equal(strlen(world.exchange.answer), 499);
    teardown_world(&world);
}

static void test_each_recipient_has_a_reply(void **state) {
    static const struct bk_slice recipients[] = {BK_SLICE_INIT("one@example.com"),
                                                 BK_SLICE_INIT("two@example.com"),
                                                 BK_SLICE_INIT("three@example.com")};
    uint16_t replies[3] = {9, 9, 9};
    struct world world;
    setup_world(&world, state);
    world.exchange.smtp.recipients = recipients;
    world.exchange.smtp.recipient_count = 3;
    world.exchange.smtp.replies = replies;
    set_answer(&world, 0, "RCPT TO:<two", "550-5.1.1 Un\r\n550 known\r\n");
    expect(&world, BK_OUTBOUND_OK, 250);
    assert_true(replies[0] == 250 && replies[1] == 550 && replies[2] == 250);
    assert_non_null(strstr(world.seen, "DATA"));
    expect(&world, BK_OUTBOUND_OK, 250); /* on a connection that is used again */
    assert_true(replies[0] == 250 && replies[1] == 550 && replies[2] == 250);
    set_answer(&world, 0, "RCPT", "450 4.2.1 Later\r\n");
    expect(&world, BK_OUTBOUND_OK, 450);
    assert_true(replies[0] == 450 && replies[1] == 450 && replies[2] == 450);
    set_answer(&world, 0, "MAIL", "451 4.3.0 Later\r\n");
    expect(&world, BK_OUTBOUND_OK, 451);
    assert_true(replies[0] == 0 && replies[1] == 0 && replies[2] == 0);
    world.exchange.smtp.replies = NULL;
    set_answer(&world, 0, "RCPT TO:<two", "550 5.1.1 Unknown\r\n");
    expect(&world, BK_OUTBOUND_OK, 550);
    teardown_world(&world);
}

/* --- servers that break ----------------------------------------------------------------------- */

static void test_a_connection_that_ends_is_a_cut_at_each_step(void **state) {
    expect_greeting(state, "", BK_OUTBOUND_TIMEOUT, 0);
    expect_of(state, "EHLO", NULL, BK_OUTBOUND_CUT, 0);
    expect_of(state, "MAIL", NULL, BK_OUTBOUND_CUT, 0);
    expect_of(state, "RCPT", NULL, BK_OUTBOUND_CUT, 0);
    expect_of(state, "DATA", NULL, BK_OUTBOUND_CUT, 0);
    expect_of(state, ".\r\n", NULL, BK_OUTBOUND_CUT, 0);
}

static void expect_stall(void **state, const char *command) {
    struct world world;
    setup_world(&world, state);
    set_answer(&world, 0, command, "hang");
    world.exchange.request.timeout_ms = 100;
    expect(&world, BK_OUTBOUND_TIMEOUT, 0);
    assert_in_range(world.exchange.request.duration_us, 50000, 2000000);
    teardown_world(&world);
}

static void test_a_server_that_stalls_times_out_at_each_step(void **state) {
    expect_stall(state, "EHLO");
    expect_stall(state, "MAIL");
    expect_stall(state, "RCPT");
    expect_stall(state, "DATA");
    expect_stall(state, ".\r\n");
}

static void test_garbage_is_no_reply(void **state) {
    expect_greeting(state, "HTTP/1.1 400 Bad Request\r\n\r\n", BK_OUTBOUND_TIMEOUT, 0);
    expect_greeting(state, "\xff\xfe\xfd\r\n", BK_OUTBOUND_TIMEOUT, 0);
    expect_of(state, "MAIL", "banana\r\n250 Ok\r\n", BK_OUTBOUND_OK, 250);
    expect_of(state, "MAIL", "999 what\r\n", BK_OUTBOUND_OK, 999);
    expect_of(state, "RCPT", "199 what\r\n", BK_OUTBOUND_CUT, 0);
}

static void serve_endless_reply(struct support_connection *connection) {
    while (support_connection_send(connection, "220-and on and on and on and on and on\r\n")) {
    }
}

static void test_a_reply_without_end_is_too_large(void **state) {
    struct support_peer *peer = support_peer_start(serve_endless_reply, NULL);
    struct world world;
    setup_world(&world, state);
    world.exchange.smtp.port = support_peer_port(peer);
    expect(&world, BK_OUTBOUND_TOO_LARGE, 0);
    teardown_world(&world);
    support_peer_stop(peer);
}

/* libcurl says QUIT when it gives up a connection, and would wait two minutes for the answer. */
static void expect_soon(void **state, const char *command, const char *answer, bool logs_in,
                        enum bk_smtp_security security, enum bk_outbound_failure failure) {
    uint64_t start_ns = bk_clock_monotonic_ns();
    struct world world;
    setup_world(&world, state);
    set_answer(&world, 0, command, answer);
    set_answer(&world, 1, "QUIT", "hang");
    if (logs_in)
        log_in(&world, BK_SMTP_LOGIN_PLAIN);
    world.exchange.smtp.security = security;
    run(&world);
    assert_int_equal(world.exchange.request.failure, failure);
    teardown_world(&world);
    assert_in_range((bk_clock_monotonic_ns() - start_ns) / 1000000, 0, CLOSE_MAX_MS);
}

static void test_nobody_waits_for_the_answer_to_a_farewell(void **state) {
    const enum bk_smtp_security plain = BK_SMTP_PLAIN;
    expect_soon(state, "RCPT", "550 5.1.1 Unknown\r\n", false, plain, BK_OUTBOUND_OK);
    expect_soon(state, "MAIL", "451 4.3.0 Later\r\n", false, plain, BK_OUTBOUND_OK);
    expect_soon(state, ".\r\n", "554 5.7.1 Spam\r\n", false, plain, BK_OUTBOUND_OK);
    expect_soon(state, "AHVz", "535 5.7.8 No\r\n", true, plain, BK_OUTBOUND_LOGIN);
    expect_soon(state, "EHLO", "250 peer\r\n", true, plain, BK_OUTBOUND_LOGIN);
    expect_soon(state, "EHLO", "250 peer\r\n", false, BK_SMTP_STARTTLS, BK_OUTBOUND_TLS);
}

/* --- cancelling ------------------------------------------------------------------------------- */

/* Cancelled while the server says nothing to a command: the mail must not count as complete there,
 * and done comes soon. */
static void expect_cancel(void **state, const char *command, bool by_closing) {
    struct world world;
    uint64_t start_ns;
    setup_world(&world, state);
    set_answer(&world, 0, command, "hang");
    support_exchange_submit(&world.exchange, world.channel);
    while (!world.hangs)
        support_loop_run_for(world.loop, 5);
    support_loop_run_for(world.loop, 20);
    start_ns = bk_clock_monotonic_ns();
    if (!by_closing) {
        bk_outbound_cancel(&world.exchange.request);
        bk_outbound_cancel(&world.exchange.request);
        support_loop_run_until(world.loop, &world.exchange.is_done);
    }
    teardown_world(&world);
    assert_int_equal(world.exchange.done_count, 1);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_CANCELLED);
    assert_in_range((bk_clock_monotonic_ns() - start_ns) / 1000000, 0, CLOSE_MAX_MS);
    assert_int_equal(world.hang_bytes, 0);
}

static void test_a_mail_can_be_cancelled_at_each_step(void **state) {
    static const char *const commands[] = {"EHLO", "MAIL", "RCPT", "DATA", ".\r\n"};
    for (size_t i = 0; i < BK_COUNT_OF(commands); i++) {
        expect_cancel(state, commands[i], false);
        expect_cancel(state, commands[i], true);
    }
}

/* When the server falls silent after a command; patience_ms 0: until it is done. */
static bool is_withdrawn(void **state, const char *command, uint32_t patience_ms) {
    struct world world;
    bool is_done;
    setup_world(&world, state);
    set_answer(&world, 0, command, "hang");
    support_exchange_submit(&world.exchange, world.channel);
    while (!world.hangs)
        support_loop_run_for(world.loop, 5);
    bk_outbound_withdraw(&world.exchange.request);
    if (patience_ms > 0)
        support_loop_run_for(world.loop, patience_ms);
    else
        support_loop_run_until(world.loop, &world.exchange.is_done);
    is_done = world.exchange.is_done;
    teardown_world(&world);
    assert_int_equal(world.exchange.done_count, 1);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_CANCELLED);
    return is_done;
}

static void test_a_mail_can_be_withdrawn_until_its_text_is_sent(void **state) {
    static const char *const commands[] = {"EHLO", "MAIL", "RCPT", "DATA"};
    struct world world;
    for (size_t i = 0; i < BK_COUNT_OF(commands); i++)
        assert_true(is_withdrawn(state, commands[i], 0));
    assert_false(is_withdrawn(state, ".\r\n", 200));
    setup_world(&world, state);
    run(&world);
    bk_outbound_withdraw(&world.exchange.request); /* after: nothing */
    assert_int_equal(world.exchange.request.status, 250);
    teardown_world(&world);
}

/* The server takes nothing after DATA, so that the mail stands half-way in the socket. */
static void test_half_a_mail_does_not_become_one(void **state) {
    static char message[8 * 1024 * 1024];
    struct world world;
    setup_world(&world, state);
    for (size_t i = 0; i + 80 <= sizeof(message); i += 80) {
        memset(message + i, 'x', 78);
        memcpy(message + i + 78, "\r\n", 2);
    }
    world.exchange.smtp.message = bk_slice_make(message, sizeof(message) / 80 * 80);
    world.sleeps_in_data = true;
    support_exchange_submit(&world.exchange, world.channel);
    while (!world.hangs)
        support_loop_run_for(world.loop, 5);
    support_loop_run_for(world.loop, 50);
    bk_outbound_cancel(&world.exchange.request);
    support_loop_run_until(world.loop, &world.exchange.is_done);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_CANCELLED);
    world.wakes = true;
    while (!world.has_ended)
        support_loop_run_for(world.loop, 5);
    assert_false(world.saw_end_of_mail);
    teardown_world(&world);
}

/* --- what is refused before it is sent -------------------------------------------------------- */

static void test_texts_that_have_no_place_on_a_line_are_refused(void **state) {
    static const struct bk_slice wrong[] = {
        BK_SLICE_INIT("a@b\r\nRCPT TO:<c@d>"), BK_SLICE_INIT("a@b\n"), BK_SLICE_INIT("a@b\0"),
        BK_SLICE_INIT("a@b> SIZE=1"),          BK_SLICE_INIT("<a@b>"), BK_SLICE_INIT("a b@c"),
    };
    static const struct bk_slice messages[] = {
        BK_SLICE_INIT(""),     BK_SLICE_INIT("a\nb"),
        BK_SLICE_INIT("a\rb"), BK_SLICE_INIT("a\n.\nMAIL FROM:<x>"),
        BK_SLICE_INIT("a\r"),  BK_SLICE_INIT("a\0b"),
        BK_SLICE_INIT("\na"),
    };
    static const struct bk_slice names[] = {
        BK_SLICE_INIT("a/b"), BK_SLICE_INIT("a b"), BK_SLICE_INIT("a\r\nb"), BK_SLICE_INIT("a%0d"),
        BK_SLICE_INIT("a@b"), BK_SLICE_INIT("a?b"), BK_SLICE_INIT("a#b"),
    };
    struct world world;
    setup_world(&world, state);
#define EXPECT_INVALID(field, value)                                                               \
    do {                                                                                           \
        struct bk_smtp before = world.exchange.smtp;                                               \
        world.exchange.smtp.field = (value);                                                       \
        assert_int_equal(bk_outbound_submit(world.channel, &world.exchange.request), BK_INVALID);  \
        world.exchange.smtp = before;                                                              \
    } while (0)
    for (size_t i = 0; i < BK_COUNT_OF(wrong); i++) {
        EXPECT_INVALID(from, wrong[i]);
        EXPECT_INVALID(recipients, &wrong[i]);
    }
    for (size_t i = 0; i < BK_COUNT_OF(messages); i++)
        EXPECT_INVALID(message, messages[i]);
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        EXPECT_INVALID(local_name, names[i]);
        EXPECT_INVALID(host, names[i]);
    }
    EXPECT_INVALID(user, BK_SLICE("a\nb"));
    EXPECT_INVALID(password, BK_SLICE("a\0b"));
    EXPECT_INVALID(host, BK_SLICE_EMPTY);
    EXPECT_INVALID(port, 0);
    EXPECT_INVALID(recipient_count, 0);
    EXPECT_INVALID(recipient_count, BK_OUTBOUND_RECIPIENTS_MAX + 1);
    expect(&world, BK_OUTBOUND_OK, 250);
    teardown_world(&world);
}

/* --- many ------------------------------------------------------------------------------------- */

static void test_mails_are_sent_side_by_side_up_to_a_few(void **state) {
    static struct support_exchange exchanges[40];
    struct world world;
    setup_world(&world, state);
    for (size_t i = 0; i < BK_COUNT_OF(exchanges); i++) {
        support_exchange_init_mail(&exchanges[i], support_peer_port(world.peer));
        support_exchange_submit(&exchanges[i], world.channel);
    }
    for (size_t i = 0; i < BK_COUNT_OF(exchanges); i++) {
        support_loop_run_until(world.loop, &exchanges[i].is_done);
        assert_int_equal(exchanges[i].request.failure, BK_OUTBOUND_OK);
        assert_int_equal(exchanges[i].request.status, 250);
    }
    assert_in_range(support_peer_connection_count(world.peer), 1, BK_OUTBOUND_SMTP_MAX);
    teardown_world(&world);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_a_mail_is_sent),
        LOOP_TEST(test_dots_are_stuffed_and_the_end_is_made),
        LOOP_TEST(test_a_large_mail_arrives_whole),
        LOOP_TEST(test_the_name_and_the_envelope_are_as_given),
        LOOP_TEST(test_the_next_mail_goes_over_the_same_connection),
        LOOP_TEST(test_a_connection_that_the_server_ended_is_not_used_again),
        LOOP_TEST(test_no_kind_of_security_takes_the_connection_of_another),
        LOOP_TEST(test_both_logins_are_spoken),
        LOOP_TEST(test_a_login_that_is_refused_is_told),
        LOOP_TEST(test_without_the_login_that_was_asked_for_nothing_is_sent),
        LOOP_TEST(test_without_starttls_there_is_no_mail_that_asks_for_it),
        LOOP_TEST(test_starttls_that_is_refused_is_no_leave_to_go_on),
        LOOP_TEST(test_where_it_is_not_offered_a_wish_for_tls_is_one),
        LOOP_TEST(test_a_refusal_is_known_by_its_reply_at_each_step),
        LOOP_TEST(test_the_text_of_a_refusal_is_tidy_and_short),
        LOOP_TEST(test_a_long_reply_is_cut_at_a_whole_character),
        LOOP_TEST(test_each_recipient_has_a_reply),
        LOOP_TEST(test_a_connection_that_ends_is_a_cut_at_each_step),
        LOOP_TEST(test_a_server_that_stalls_times_out_at_each_step),
        LOOP_TEST(test_garbage_is_no_reply),
        LOOP_TEST(test_a_reply_without_end_is_too_large),
        LOOP_TEST(test_nobody_waits_for_the_answer_to_a_farewell),
        LOOP_TEST(test_a_mail_can_be_cancelled_at_each_step),
        LOOP_TEST(test_a_mail_can_be_withdrawn_until_its_text_is_sent),
        LOOP_TEST(test_half_a_mail_does_not_become_one),
        LOOP_TEST(test_texts_that_have_no_place_on_a_line_are_refused),
        LOOP_TEST(test_mails_are_sent_side_by_side_up_to_a_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
