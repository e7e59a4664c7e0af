/* Connections that are handed over, to an upgrader that only keeps what it is given. */
#include "http_fixture.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO "GET /api/hello HTTP/1.1\r\nHost: a\r\n\r\n"
#define LATER "GET /api/later HTTP/1.1\r\nHost: a\r\n\r\n"
#define CHANNEL "GET /api/channel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

enum { RECEIVED_MAX_BYTES = 256 };

static struct support_http server;
static struct support_client client;
static struct bk_channel made;
static struct bk_request *waiting; /* one that is accepted later */
static bool is_accepted_later;
static enum bk_status check_status, take_status, accept_status;
static int descriptor;
static uint32_t connection_count;
static char received[RECEIVED_MAX_BYTES + 1];

/* --- the upgrader ----------------------------------------------------------------------------- */

static enum bk_status on_check(void *user, struct bk_request *request) {
    (void)user;
    if (check_status != BK_OK)
        bk_answer_refusal(request, 426, "Not so.");
    return check_status;
}

static enum bk_status on_take(void *user, struct bk_request *request, int given,
                              struct bk_lease *lease, struct bk_slice behind,
                              const struct bk_channel_handler *handler, void *channel_user,
                              struct bk_channel **channel) {
    (void)user;
    (void)lease;
    (void)request;
    assert_true(behind.length <= RECEIVED_MAX_BYTES);
    if (take_status != BK_OK) {
        close(given);
        return take_status;
    }
    descriptor = given;
    if (behind.length > 0)
        memcpy(received, behind.data, behind.length);
    received[behind.length] = '\0';
    made = (struct bk_channel){.handler = handler, .user = channel_user};
    *channel = &made;
    return BK_OK;
}

static uint32_t on_count(void *user) {
    (void)user;
    return connection_count;
}

static const struct bk_upgrader upgrader = {
    .check = on_check, .take = on_take, .connection_count = on_count};

/* --- the route -------------------------------------------------------------------------------- */

static void on_message(struct bk_channel *channel, struct bk_slice message, bool is_binary) {
    (void)channel;
    (void)message;
    (void)is_binary;
}

static void on_close(struct bk_channel *channel, int code) {
    (void)channel;
    (void)code;
}

static const struct bk_channel_handler handler = {.on_message = on_message, .on_close = on_close};

static void accept_channel(struct bk_request *request) {
    struct bk_channel *channel = NULL;
    accept_status = bk_channel_accept(request, &handler, NULL, &channel);
    assert_int_equal(channel != NULL, accept_status == BK_OK);
    if (accept_status == BK_NOT_SUPPORTED)
        bk_answer_error(request, BK_NOT_SUPPORTED, NULL);
}

static void handle_channel(struct bk_request *request) {
    if (is_accepted_later)
        waiting = request;
    else
        accept_channel(request);
}

static const struct bk_route route = {
    .method = BK_GET, .path = "/api/channel", .handle = handle_channel};

/* --- the server ------------------------------------------------------------------------------- */

static void configure(struct bk_http_options *options) {
    options->upgrader = &upgrader;
    options->connections_max = 2;
}

static void start(void (*with)(struct bk_http_options *)) {
    support_http_start(&server, with);
    assert_int_equal(bk_api_add_routes(server.api, &route, 1, NULL), BK_OK);
    check_status = take_status = accept_status = BK_OK;
    descriptor = -1;
    connection_count = 0;
    is_accepted_later = false;
    support_client_connect(&client, &server);
}

static int setup(void **state) {
    (void)state;
    start(configure);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (descriptor >= 0)
        close(descriptor);
    support_client_close(&client);
    support_http_stop(&server);
    return 0;
}

/* That the connection lives, and is HTTP's no more. */
static void answers_for_itself(void) {
    for (int i = 0; i < 1000 && bk_http_figures(server.http).connections > 0; i++)
        support_loop_run_for(server.loop, 1);
    assert_int_equal(bk_http_figures(server.http).connections, 0);
    assert_int_equal(bk_http_figures(server.http).requests, 0);
    assert_int_equal(send(descriptor, "another protocol", 16, MSG_NOSIGNAL), 16);
    support_client_wait(&client, "another protocol");
}

/* --- tests ------------------------------------------------------------------------------------ */

static void gives_the_connection_away(void **state) {
    (void)state;
    support_client_send(&client, CHANNEL);
    for (int i = 0; i < 1000 && descriptor < 0; i++)
        support_loop_run_for(server.loop, 1);
    answers_for_itself();
    assert_string_equal(received, "");
    assert_ptr_equal(strstr(client.data, "another protocol"), client.data);
}

static void gives_what_came_behind_the_request(void **state) {
    (void)state;
    support_client_send(&client, CHANNEL "GET not a request");
    for (int i = 0; i < 1000 && descriptor < 0; i++)
        support_loop_run_for(server.loop, 1);
    assert_string_equal(received, "GET not a request");
    answers_for_itself();
}

static void gives_what_came_while_the_request_waited(void **state) {
    (void)state;
    is_accepted_later = true;
    support_client_send(&client, CHANNEL "one ");
    support_loop_run_for(server.loop, 20);
    support_client_send(&client, "two");
    support_loop_run_for(server.loop, 20);
    accept_channel(waiting);
    assert_string_equal(received, "one two");
    answers_for_itself();
}

static void sends_the_answers_before_it_first(void **state) {
    (void)state;
    support_client_send(&client, HELLO HELLO CHANNEL "behind");
    for (int i = 0; i < 1000 && descriptor < 0; i++)
        support_loop_run_for(server.loop, 1);
    answers_for_itself();
    assert_int_equal(support_client_count(&client, "{\"hello\":\"world\"}"), 2);
    assert_string_equal(received, "behind");
}

/* The request waited behind another one: it is read from what was kept. */
static void gives_what_is_left_of_kept_input(void **state) {
    (void)state;
    support_client_send(&client, LATER CHANNEL);
    support_loop_run_for(server.loop, 20);
    assert_int_equal(descriptor, -1);
    support_http_answer_later(&server);
    for (int i = 0; i < 1000 && descriptor < 0; i++)
        support_loop_run_for(server.loop, 1);
    assert_string_equal(received, "");
    answers_for_itself();
    assert_int_equal(support_client_count(&client, "{\"hello\":\"world\"}"), 1);
}

static void goes_on_after_a_refusal(void **state) {
    (void)state;
    check_status = BK_INVALID;
    support_client_send(&client, CHANNEL HELLO);
    support_client_wait(&client, "{\"hello\":\"world\"}");
    assert_int_equal(accept_status, BK_INVALID);
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 426 Upgrade Required\r\n"), client.data);
}

static void goes_on_when_the_upgrader_cannot_take_it(void **state) {
    (void)state;
    take_status = BK_IO;
    support_client_send(&client, CHANNEL HELLO);
    support_client_wait(&client, "{\"hello\":\"world\"}");
    assert_int_equal(accept_status, BK_IO);
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 500 "), client.data);
}

static void wants_http_1_1(void **state) {
    (void)state;
    support_client_send(&client, "GET /api/channel HTTP/1.0\r\n\r\n");
    support_client_wait_end(&client);
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 400 "), client.data);
    assert_int_equal(descriptor, -1);
}

static void knows_when_the_client_is_gone(void **state) {
    const struct linger reset = {.l_onoff = 1};
    (void)state;
    is_accepted_later = true;
    support_client_send(&client, CHANNEL);
    support_loop_run_for(server.loop, 20);
    assert_int_equal(setsockopt(client.socket, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(client.socket);
    client.socket = -1;
    support_loop_run_for(server.loop, 20);
    accept_channel(waiting);
    assert_int_equal(accept_status, BK_CANCELLED);
    assert_int_equal(descriptor, -1);
}

static void counts_the_upgrader_s_connections(void **state) {
    struct support_client other;
    (void)state;
    support_client_send(&client, CHANNEL);
    for (int i = 0; i < 1000 && descriptor < 0; i++)
        support_loop_run_for(server.loop, 1);
    answers_for_itself();
    connection_count = 2;
    support_client_connect(&other, &server);
    support_client_send(&other, HELLO);
    support_loop_run_for(server.loop, 50);
    assert_int_equal(bk_http_figures(server.http).accepted, 1);
    connection_count = 1;
    support_client_wait(&other, "{\"hello\":\"world\"}");
    support_client_close(&other);
}

static void does_nothing_without_an_upgrader(void **state) {
    (void)state;
    start(NULL);
    support_client_send(&client, CHANNEL HELLO);
    support_client_wait(&client, "{\"hello\":\"world\"}");
    assert_int_equal(accept_status, BK_NOT_SUPPORTED);
    assert_ptr_equal(strstr(client.data, "HTTP/1.1 501 "), client.data);
    teardown(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(gives_the_connection_away),
        TEST(gives_what_came_behind_the_request),
        TEST(gives_what_came_while_the_request_waited),
        TEST(sends_the_answers_before_it_first),
        TEST(gives_what_is_left_of_kept_input),
        TEST(goes_on_after_a_refusal),
        TEST(goes_on_when_the_upgrader_cannot_take_it),
        TEST(wants_http_1_1),
        TEST(counts_the_upgrader_s_connections),
        TEST(knows_when_the_client_is_gone),
        cmocka_unit_test(does_nothing_without_an_upgrader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
