/*
 * Channels over real sockets: queues, closing, clocks, drains. HTTP's part is played by the test,
 * which gives one end of a TCP connection away and keeps the other.
 */
#include "bakend/alloc.h"
#include "bakend/websocket.h"
#include "client_frames.h"
#include "support.h"
#include "websocket_private.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEERS = 3, KIB = 1024, STEPS_MAX = 5000 };

struct peer {
    int socket;
    struct bk_channel *channel;
    struct bk_buffer received; /* what the server sent */
    struct bk_buffer messages; /* what the handler was given: "text:hello " */
    int close_code;            /* 0: not closed */
    uint32_t drain_count;
    bool has_eof, was_reset;
};

static struct bk_loop *loop;
static struct bk_api *api;
static struct bk_websockets *websockets;
static struct bk_websocket_options options;
static struct peer peers[PEERS];
static bool is_draining, is_drained;

/* --- handlers --------------------------------------------------------------------------------- */

static void on_message(struct bk_channel *channel, struct bk_slice message, bool is_binary) {
    struct peer *peer = channel->user;
    assert_ptr_equal(peer->channel, channel);
    bk_buffer_append_slice(&peer->messages, bk_slice_from(is_binary ? "binary:" : "text:"));
    bk_buffer_append_slice(&peer->messages, message);
    bk_buffer_append_char(&peer->messages, ' ');
}

static void on_drain(struct bk_channel *channel) {
    struct peer *peer = channel->user;
    peer->drain_count++;
}

static void on_close(struct bk_channel *channel, int code) {
    struct peer *peer = channel->user;
    assert_int_equal(peer->close_code, 0);
    peer->close_code = code;
    peer->channel = NULL;
}

static const struct bk_channel_handler handler = {
    .on_message = on_message, .on_drain = on_drain, .on_close = on_close};

static void on_send(struct bk_request *request) { (void)request; }
static const struct bk_responder responder = {.send = on_send};

static struct bk_header headers[] = {
    {BK_SLICE_INIT("upgrade"), BK_SLICE_INIT("websocket")},
    {BK_SLICE_INIT("connection"), BK_SLICE_INIT("Upgrade")},
    {BK_SLICE_INIT("sec-websocket-version"), BK_SLICE_INIT("13")},
    {BK_SLICE_INIT("sec-websocket-key"), BK_SLICE_INIT("dGhlIHNhbXBsZSBub25jZQ==")},
};

/* --- the server ------------------------------------------------------------------------------- */

/* Each connection has one, and has given it back when all is over. */
static int lease_count;

static void on_lease_end(struct bk_lease *ended) {
    assert_non_null(ended->end);
    lease_count--;
}

static struct bk_lease lease = {.end = on_lease_end};

static int setup(void **state) {
    struct bk_api_options api_options = {.request_arena_bytes = 65536, .answer_max_bytes = 65536};
    (void)support_loop_setup(state);
    loop = *state;
    api_options.loop = loop;
    api = bk_api_create(&api_options);
    bk_websocket_options_init(&options);
    options.loop = loop;
    options.api = api;
    options.queue_max_bytes = 64 * KIB;
    is_draining = is_drained = false;
    return 0;
}

static void on_drained(void *user) {
    bool *flag = user;
    *flag = true;
}

static void drain(uint32_t deadline_ms) {
    is_draining = true;
    bk_websockets_drain(websockets, deadline_ms, on_drained, &is_drained);
    assert_false(is_drained);
}

static int teardown(void **state) {
    if (!is_draining)
        drain(0);
    if (!is_drained) {
        bk_websockets_force(websockets);
        support_loop_run_until(loop, &is_drained);
    }
    assert_int_equal(bk_websockets_figures(websockets).queued_bytes, 0);
    assert_int_equal(bk_api_figures(api)->connections, 0);
    assert_int_equal(lease_count, 0);
    bk_websockets_destroy(websockets);
    for (size_t i = 0; i < PEERS; i++) {
        if (peers[i].socket > 0)
            close(peers[i].socket);
        bk_buffer_fini(&peers[i].received);
        bk_buffer_fini(&peers[i].messages);
        peers[i] = (struct peer){.socket = 0};
    }
    bk_api_destroy(api);
    return support_loop_teardown(state);
}

/* Both ends of a TCP connection; small buffers, so that a peer that does not read is soon felt. */
static void make_pair(int *ours, int *theirs) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), size = 16 * KIB;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    *theirs = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(setsockopt(*theirs, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
    assert_int_equal(connect(*theirs, (struct sockaddr *)&address, length), 0);
    *ours = accept(listener, NULL, NULL);
    assert_true(*ours >= 0);
    assert_int_equal(setsockopt(*ours, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    assert_int_equal(fcntl(*theirs, F_SETFL, O_NONBLOCK), 0);
    close(listener);
}

static enum bk_status take(struct peer *peer, struct bk_slice received) {
    const struct bk_upgrader *upgrader;
    struct bk_request request;
    enum bk_status status;
    int ours = -1;
    if (websockets == NULL || peers[0].socket == 0)
        websockets = bk_websockets_create(&options);
    upgrader = bk_websockets_upgrader(websockets);
    bk_request_init(&request, api);
    request.method = BK_GET;
    request.responder = &responder;
    request.headers = headers;
    request.header_count = BK_COUNT_OF(headers);
    make_pair(&ours, &peer->socket);
    bk_buffer_init(&peer->received, ROOM_BYTES);
    bk_buffer_init(&peer->messages, ROOM_BYTES);
    status = upgrader->check(upgrader->user, &request);
    if (status == BK_OK)
        status = upgrader->take(upgrader->user, &request, ours, &lease, received, &handler, peer,
                                &peer->channel);
    else
        close(ours);
    lease_count += status == BK_OK;
    bk_request_fini(&request);
    return status;
}

/* --- the peers -------------------------------------------------------------------------------- */

static void receive(struct peer *peer) {
    char chunk[16 * KIB];
    ssize_t length;
    while ((length = recv(peer->socket, chunk, sizeof(chunk), 0)) > 0)
        bk_buffer_append(&peer->received, chunk, (size_t)length);
    peer->has_eof = peer->has_eof || length == 0;
}

static void turn(void) { support_loop_run_for(loop, 1); }

/* Until so many bytes have come, or the end. */
static void wait_bytes(struct peer *peer, size_t length) {
    for (int i = 0; i < STEPS_MAX && peer->received.length < length && !peer->has_eof; i++) {
        turn();
        receive(peer);
    }
    assert_true(peer->received.length >= length);
}

static void wait_end(struct peer *peer) {
    for (int i = 0; i < STEPS_MAX && !peer->has_eof; i++) {
        turn();
        receive(peer);
    }
    assert_true(peer->has_eof);
}

static void wait_closed(struct peer *peer, int code) {
    for (int i = 0; i < STEPS_MAX && peer->close_code == 0; i++)
        turn();
    assert_int_equal(peer->close_code, code);
}

static void begin(struct peer *peer) {
    static const char end[] = "\r\n\r\n";
    assert_int_equal(take(peer, BK_SLICE_EMPTY), BK_OK);
    while (peer->received.length < sizeof(end) ||
           memcmp(peer->received.data + peer->received.length - 4, end, 4) != 0)
        wait_bytes(peer, peer->received.length + 1);
    bk_buffer_clear(&peer->received);
}

static void send_all(struct peer *peer, const struct bk_buffer *bytes) {
    size_t at = 0;
    while (at < bytes->length) {
        ssize_t sent = send(peer->socket, bytes->data + at, bytes->length - at, MSG_NOSIGNAL);
        if (sent > 0)
            at += (size_t)sent;
        turn();
    }
}

static void send_frame(struct peer *peer, int first_byte, const char *text) {
    struct bk_buffer bytes;
    bk_buffer_init(&bytes, ROOM_BYTES);
    put_text(&bytes, first_byte, text);
    send_all(peer, &bytes);
    bk_buffer_fini(&bytes);
}

static void send_close(struct peer *peer, int code) {
    struct bk_buffer bytes;
    bk_buffer_init(&bytes, ROOM_BYTES);
    put_close(&bytes, code, "");
    send_all(peer, &bytes);
    bk_buffer_fini(&bytes);
}

static void has_received(struct peer *peer, const void *bytes, size_t length) {
    wait_bytes(peer, length);
    assert_int_equal(peer->received.length, length);
    assert_memory_equal(peer->received.data, bytes, length);
    bk_buffer_clear(&peer->received);
}

#define HAS_RECEIVED(peer, literal) has_received((peer), literal, sizeof(literal) - 1)

static void was_given(struct peer *peer, const char *expected) {
    for (int i = 0; i < STEPS_MAX && peer->messages.length < strlen(expected); i++)
        turn();
    bk_buffer_append_char(&peer->messages, '\0');
    assert_string_equal(peer->messages.data, expected);
}

/* Until the queue is full; returns how many went. */
static size_t fill(struct peer *peer, size_t message_bytes) {
    static const char text[64 * KIB];
    size_t count = 0;
    int quiet = 0;
    while (quiet < 50) {
        enum bk_status status =
            bk_channel_send(peer->channel, bk_slice_make(text, message_bytes), true);
        quiet = status == BK_OK ? 0 : quiet + 1;
        count += status == BK_OK;
        if (status != BK_OK)
            turn();
    }
    return count;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void is_small_when_it_idles(void **state) {
    (void)state;
    print_message("a connection: %zu bytes\n", sizeof(struct websocket_connection));
    assert_true(sizeof(struct websocket_connection) <= 800);
    begin(&peers[0]);
}

static void sends_what_follows_the_handshake_with_it(void **state) {
    (void)state;
    assert_int_equal(take(&peers[0], BK_SLICE_EMPTY), BK_OK);
    assert_int_equal(bk_channel_send(peers[0].channel, BK_SLICE("hi"), false), BK_OK);
    wait_bytes(&peers[0], 100);
    assert_memory_equal(peers[0].received.data, "HTTP/1.1 101 ", 13);
    assert_memory_equal(peers[0].received.data + peers[0].received.length - 8, "\r\n\r\n\x81\x02hi",
                        8);
}

static void reads_what_came_with_the_request(void **state) {
    struct bk_buffer bytes;
    (void)state;
    bk_buffer_init(&bytes, ROOM_BYTES);
    put_text(&bytes, FINAL | 1, "early");
    put_text(&bytes, 2, "in ");
    assert_int_equal(take(&peers[0], bk_buffer_slice(&bytes)), BK_OK);
    assert_int_equal(peers[0].messages.length, 0);
    send_frame(&peers[0], FINAL, "parts");
    was_given(&peers[0], "text:early binary:in parts ");
    bk_buffer_fini(&bytes);
}

static void sends_one_frame_to_many(void **state) {
    const struct bk_slice parts[] = {BK_SLICE("{\"a\":"), BK_SLICE("1}")};
    struct bk_shared *shared = bk_shared_create(parts, BK_COUNT_OF(parts));
    (void)state;
    for (size_t i = 0; i < PEERS; i++)
        begin(&peers[i]);
    for (size_t i = 0; i < PEERS; i++)
        assert_int_equal(bk_channel_send_shared(peers[i].channel, shared), BK_OK);
    assert_int_equal(shared->reference_count, 1 + PEERS);
    for (size_t i = 0; i < PEERS; i++)
        HAS_RECEIVED(&peers[i], "\x81\x07{\"a\":1}");
    assert_int_equal(shared->reference_count, 1);
    assert_int_equal(bk_websockets_figures(websockets).messages_out, PEERS);
    bk_shared_unref(shared);
}

static void keeps_the_order_of_what_is_sent(void **state) {
    struct bk_slice text = BK_SLICE("b");
    struct bk_shared *shared = bk_shared_create(&text, 1);
    (void)state;
    begin(&peers[0]);
    (void)bk_channel_send(peers[0].channel, BK_SLICE("a"), false);
    (void)bk_channel_send_shared(peers[0].channel, shared);
    bk_shared_unref(shared);
    (void)bk_channel_send(peers[0].channel, BK_SLICE("c"), true);
    (void)bk_channel_send(peers[0].channel, BK_SLICE(""), false);
    HAS_RECEIVED(&peers[0], "\x81\x01\x61\x81\x01\x62\x82\x01\x63\x81\x00");
}

static void is_busy_when_its_queue_is_full(void **state) {
    struct peer *peer = &peers[0];
    size_t count;
    (void)state;
    begin(peer);
    count = fill(peer, KIB);
    assert_true(bk_channel_queued_bytes(peer->channel) > options.queue_max_bytes / 2);
    assert_true(bk_channel_queued_bytes(peer->channel) <= options.queue_max_bytes);
    assert_int_equal(peer->drain_count, 0);
    wait_bytes(peer, count * (KIB + 4));
    assert_int_equal(peer->received.length, count * (KIB + 4));
    assert_int_equal(peer->drain_count, 1);
    assert_int_equal(bk_channel_queued_bytes(peer->channel), 0);
}

static void counts_empty_messages_too(void **state) {
    (void)state;
    begin(&peers[0]);
    for (uint32_t i = 0; i < options.queue_max_bytes; i++)
        if (bk_channel_send(peers[0].channel, BK_SLICE_EMPTY, false) == BK_BUSY)
            break;
    assert_true(bk_channel_queued_bytes(peers[0].channel) < options.queue_max_bytes / 16);
}

static void takes_one_message_larger_than_the_queue(void **state) {
    static char large[200 * KIB];
    (void)state;
    begin(&peers[0]);
    assert_int_equal(bk_channel_send(peers[0].channel, bk_slice_make(large, sizeof(large)), true),
                     BK_OK);
    assert_int_equal(bk_channel_send(peers[0].channel, BK_SLICE("x"), true), BK_BUSY);
    wait_bytes(&peers[0], sizeof(large) + 10);
    assert_int_equal(peers[0].drain_count, 1);
}

static void bounds_what_all_queue_of_their_own(void **state) {
    struct bk_slice text = BK_SLICE("shared");
    struct bk_shared *shared = bk_shared_create(&text, 1);
    (void)state;
    options.queued_max_bytes = 8 * KIB;
    begin(&peers[0]);
    begin(&peers[1]);
    (void)fill(&peers[0], 6 * KIB);
    assert_int_equal(bk_channel_send(peers[1].channel, BK_SLICE_EMPTY, true), BK_OK);
    HAS_RECEIVED(&peers[1], "\x82\x00");
    assert_int_equal(
        bk_channel_send(peers[1].channel, bk_slice_make(peers[0].received.data, 4 * KIB), true),
        BK_BUSY);
    assert_int_equal(bk_channel_send_shared(peers[1].channel, shared), BK_OK);
    HAS_RECEIVED(&peers[1], "\x81\x06shared");
    assert_int_equal(peers[1].drain_count, 0);
    for (int i = 0; i < STEPS_MAX && peers[1].drain_count == 0; i++) {
        turn();
        receive(&peers[0]);
    }
    assert_int_equal(peers[1].drain_count, 1);
    bk_shared_unref(shared);
}

static void a_peer_that_never_reads_does_not_hold_up_others(void **state) {
    (void)state;
    begin(&peers[0]);
    begin(&peers[1]);
    (void)fill(&peers[0], KIB);
    (void)bk_channel_send(peers[1].channel, BK_SLICE("now"), false);
    HAS_RECEIVED(&peers[1], "\x81\x03now");
}

/* --- pings ------------------------------------------------------------------------------------ */

static void answers_pings(void **state) {
    (void)state;
    begin(&peers[0]);
    send_frame(&peers[0], FINAL | 9, "are you there");
    HAS_RECEIVED(&peers[0], "\x8a\x0d"
                            "are you there");
    send_frame(&peers[0], FINAL | 10, "unasked");
    send_frame(&peers[0], FINAL | 9, "");
    HAS_RECEIVED(&peers[0], "\x8a\x00");
}

static void of_many_pings_answers_the_newest(void **state) {
    struct bk_buffer bytes;
    char text[16];
    (void)state;
    bk_buffer_init(&bytes, ROOM_BYTES);
    for (int i = 0; i < 500; i++) {
        (void)snprintf(text, sizeof(text), "%03d", i);
        put_text(&bytes, FINAL | 9, text);
    }
    assert_int_equal(take(&peers[0], bk_buffer_slice(&bytes)), BK_OK);
    for (int i = 0; i < 20; i++)
        turn();
    receive(&peers[0]);
    assert_memory_equal(peers[0].received.data + peers[0].received.length - 5,
                        "\x8a\x03"
                        "499",
                        5);
    assert_true(peers[0].received.length < 200 + 5 * 40);
    bk_buffer_fini(&bytes);
}

static void pings_a_silent_peer_and_believes_its_pong(void **state) {
    (void)state;
    options.ping_interval_ms = 50;
    options.pong_timeout_ms = 1000;
    begin(&peers[0]);
    for (int i = 0; i < 3; i++) {
        HAS_RECEIVED(&peers[0], "\x89\x00");
        send_frame(&peers[0], FINAL | 10, "");
    }
    assert_int_equal(peers[0].close_code, 0);
}

static void gives_up_a_peer_that_does_not_answer(void **state) {
    (void)state;
    options.ping_interval_ms = 50;
    options.pong_timeout_ms = 50;
    begin(&peers[0]);
    wait_closed(&peers[0], 1006);
    wait_end(&peers[0]);
    assert_int_equal(bk_websockets_figures(websockets).timeouts, 1);
}

static void cuts_a_peer_that_takes_nothing(void **state) {
    (void)state;
    options.write_timeout_ms = 100;
    begin(&peers[0]);
    (void)fill(&peers[0], KIB);
    wait_closed(&peers[0], 1006);
    assert_int_equal(bk_websockets_figures(websockets).timeouts, 1);
}

static void bears_with_a_peer_that_takes_little(void **state) {
    char byte;
    (void)state;
    options.write_timeout_ms = 500;
    begin(&peers[0]);
    (void)fill(&peers[0], KIB);
    for (int i = 0; i < 40; i++) {
        char chunk[8 * KIB];
        support_loop_run_for(loop, 20);
        assert_true(recv(peers[0].socket, i % 4 == 0 ? chunk : &byte,
                         i % 4 == 0 ? sizeof(chunk) : 1, 0) > 0);
    }
    assert_int_equal(peers[0].close_code, 0);
}

/* It takes a little in each window, and so would keep the memory of all for long. */
static void does_not_bear_with_it_at_the_cost_of_others(void **state) {
    char chunk[8 * KIB], text[6 * KIB] = {0};
    (void)state;
    options.write_timeout_ms = 500;
    options.queue_max_bytes = 1024 * KIB;
    options.queued_max_bytes = 512 * KIB;
    begin(&peers[0]);
    begin(&peers[1]);
    (void)fill(&peers[0], sizeof(text));
    assert_int_equal(bk_channel_send(peers[1].channel, bk_slice_make(text, sizeof(text)), true),
                     BK_BUSY);
    for (int i = 0; i < 400 && peers[1].drain_count == 0; i++) {
        support_loop_run_for(loop, 20);
        if (i % 4 == 0)
            (void)recv(peers[0].socket, chunk, sizeof(chunk), MSG_DONTWAIT);
    }
    assert_int_equal(peers[1].drain_count, 1);
    assert_int_equal(peers[0].close_code, 1006);
    assert_int_equal(peers[1].close_code, 0);
}

/* --- closing ---------------------------------------------------------------------------------- */

static void closes_behind_what_waits(void **state) {
    struct peer *peer = &peers[0];
    (void)state;
    begin(peer);
    (void)bk_channel_send(peer->channel, BK_SLICE("last"), false);
    bk_channel_close(peer->channel, 4000, BK_SLICE("done"));
    bk_channel_close(peer->channel, 4001, BK_SLICE_EMPTY);
    assert_int_equal(bk_channel_send(peer->channel, BK_SLICE("late"), false), BK_CLOSING);
    assert_int_equal(peer->close_code, 0);
    HAS_RECEIVED(peer, "\x81\x04last\x88\x06\x0f\xa0"
                       "done");
    send_frame(peer, FINAL | 1, "not heard");
    send_frame(peer, FINAL | 9, "not answered");
    send_close(peer, 4000);
    wait_closed(peer, 4000);
    wait_end(peer);
    assert_int_equal(peer->received.length, 0);
    assert_int_equal(peer->messages.length, 0);
}

static void does_not_wait_for_an_answer_for_ever(void **state) {
    (void)state;
    options.close_timeout_ms = 50;
    begin(&peers[0]);
    bk_channel_close(peers[0].channel, 4000, BK_SLICE_EMPTY);
    wait_closed(&peers[0], 4000);
    wait_end(&peers[0]);
}

static void answers_the_peer_s_close_frame_with_its_code(void **state) {
    (void)state;
    begin(&peers[0]);
    (void)bk_channel_send(peers[0].channel, BK_SLICE("last"), false);
    send_close(&peers[0], 4321);
    wait_closed(&peers[0], 4321);
    wait_end(&peers[0]);
    HAS_RECEIVED(&peers[0], "\x81\x04last\x88\x02\x10\xe1");
}

static void hears_nothing_after_a_close_frame(void **state) {
    struct bk_buffer bytes;
    (void)state;
    begin(&peers[0]);
    bk_buffer_init(&bytes, ROOM_BYTES);
    put_text(&bytes, FINAL | 8, "");
    put_text(&bytes, FINAL | 1, "late");
    put_text(&bytes, FINAL | 3, "wrong");
    send_all(&peers[0], &bytes);
    bk_buffer_fini(&bytes);
    wait_closed(&peers[0], 1005);
    wait_end(&peers[0]);
    HAS_RECEIVED(&peers[0], "\x88\x00");
    assert_int_equal(peers[0].messages.length, 0);
}

static void ends_with_the_code_of_a_violation(void **state) {
    (void)state;
    begin(&peers[0]);
    send_frame(&peers[0], FINAL | 1, "\xff");
    wait_closed(&peers[0], 1007);
    wait_end(&peers[0]);
    HAS_RECEIVED(&peers[0], "\x88\x02\x03\xef");
    assert_int_equal(bk_websockets_figures(websockets).violations, 1);
}

static void sends_what_waits_to_a_peer_that_breaks_the_rules(void **state) {
    struct peer *peer = &peers[0];
    size_t count;
    (void)state;
    begin(peer);
    count = fill(peer, KIB);
    send_frame(peer, FINAL | 3, "");
    wait_closed(peer, 1002);
    wait_end(peer);
    assert_int_equal(peer->received.length, count * (KIB + 4) + 4);
    assert_memory_equal(peer->received.data + peer->received.length - 4, "\x88\x02\x03\xea", 4);
}

static void a_violation_after_our_close_frame_gets_no_second_one(void **state) {
    (void)state;
    begin(&peers[0]);
    bk_channel_close(peers[0].channel, 4000, BK_SLICE_EMPTY);
    HAS_RECEIVED(&peers[0], "\x88\x02\x0f\xa0");
    send_frame(&peers[0], FINAL | 3, "");
    wait_closed(&peers[0], 4000);
    wait_end(&peers[0]);
    assert_int_equal(peers[0].received.length, 0);
}

static void tells_of_a_peer_that_is_gone(void **state) {
    (void)state;
    begin(&peers[0]);
    close(peers[0].socket);
    peers[0].socket = -1;
    wait_closed(&peers[0], 1006);
}

static void bounds_what_comes_in_parts(void **state) {
    char text[5 * KIB + 1] = {0};
    (void)state;
    options.queued_max_bytes = 8 * KIB;
    begin(&peers[0]);
    begin(&peers[1]);
    memset(text, 'x', 5 * KIB);
    send_frame(&peers[0], 1, text);
    send_frame(&peers[1], 1, text);
    wait_closed(&peers[1], 1013);
    assert_int_equal(peers[0].close_code, 0);
}

/* --- drains ----------------------------------------------------------------------------------- */

static void sends_its_peers_away_at_the_deadline(void **state) {
    (void)state;
    begin(&peers[0]);
    begin(&peers[1]);
    drain(100);
    bk_channel_close(peers[1].channel, 4002, BK_SLICE_EMPTY);
    HAS_RECEIVED(&peers[1], "\x88\x02\x0f\xa2");
    send_close(&peers[1], 4002);
    wait_closed(&peers[1], 4002);
    assert_int_equal(peers[0].close_code, 0);
    wait_bytes(&peers[0], 4);
    assert_memory_equal(peers[0].received.data, "\x88\x1d\x03\xe9", 4);
    send_close(&peers[0], 1001);
    wait_closed(&peers[0], 1001);
    close(peers[0].socket);
    close(peers[1].socket);
    peers[0].socket = peers[1].socket = -1;
    support_loop_run_until(loop, &is_drained);
}

static void cuts_those_that_stay_after_a_drain(void **state) {
    (void)state;
    begin(&peers[0]);
    drain(0);
    support_loop_run_until(loop, &is_drained);
    assert_int_equal(peers[0].close_code, 1001);
}

static void takes_none_while_it_drains(void **state) {
    (void)state;
    begin(&peers[0]);
    drain(0);
    assert_int_equal(take(&peers[1], BK_SLICE_EMPTY), BK_CLOSING);
    bk_websockets_force(websockets);
    assert_int_equal(peers[0].close_code, 1006);
    support_loop_run_until(loop, &is_drained);
}

static void writes_metrics(void **state) {
    struct bk_buffer out;
    (void)state;
    begin(&peers[0]);
    bk_buffer_init(&out, ROOM_BYTES);
    bk_api_write_metrics(api, &out);
    bk_buffer_append_char(&out, '\0');
    assert_non_null(strstr(out.data, "\nbakend_websocket_connections 1\n"));
    assert_non_null(strstr(out.data, "\nbakend_websocket_accepted_total 1\n"));
    bk_buffer_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(is_small_when_it_idles),
        TEST(sends_what_follows_the_handshake_with_it),
        TEST(reads_what_came_with_the_request),
        TEST(sends_one_frame_to_many),
        TEST(keeps_the_order_of_what_is_sent),
        TEST(is_busy_when_its_queue_is_full),
        TEST(counts_empty_messages_too),
        TEST(takes_one_message_larger_than_the_queue),
        TEST(bounds_what_all_queue_of_their_own),
        TEST(a_peer_that_never_reads_does_not_hold_up_others),
        TEST(answers_pings),
        TEST(of_many_pings_answers_the_newest),
        TEST(pings_a_silent_peer_and_believes_its_pong),
        TEST(gives_up_a_peer_that_does_not_answer),
        TEST(cuts_a_peer_that_takes_nothing),
        TEST(bears_with_a_peer_that_takes_little),
        TEST(does_not_bear_with_it_at_the_cost_of_others),
        TEST(closes_behind_what_waits),
        TEST(does_not_wait_for_an_answer_for_ever),
        TEST(answers_the_peer_s_close_frame_with_its_code),
        TEST(hears_nothing_after_a_close_frame),
        TEST(ends_with_the_code_of_a_violation),
        TEST(sends_what_waits_to_a_peer_that_breaks_the_rules),
        TEST(a_violation_after_our_close_frame_gets_no_second_one),
        TEST(tells_of_a_peer_that_is_gone),
        TEST(bounds_what_comes_in_parts),
        TEST(sends_its_peers_away_at_the_deadline),
        TEST(cuts_those_that_stay_after_a_drain),
        TEST(takes_none_while_it_drains),
        TEST(writes_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
