/* Certificates, against a server of the openssl program: who is trusted, for which name, and by
 * which file. */
#define _GNU_SOURCE 1
#include "peer_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* On a machine with nothing else to do it is some tens. */
enum { CLOSE_MAX_MS = 3000 };

struct world {
    struct bk_loop *loop;
    struct bk_outbound *outbound;
    struct support_exchange exchange;
    char *folder;
    char key[256], certificate[256];
    pid_t server;
    uint16_t port;
};

/* Its standard output, if that is wanted, is read from *output. */
static pid_t run_openssl(char *const arguments[], int *output) {
    int ends[2];
    pid_t child;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)dup2(open("/dev/null", O_RDWR), STDERR_FILENO);
        (void)execvp("openssl", arguments);
        _exit(127);
    }
    (void)close(ends[1]);
    if (output != NULL)
        *output = ends[0];
    else
        (void)close(ends[0]);
    return child;
}

static void make_certificate(struct world *world, const char *names) {
    char alternative[128];
    char *arguments[] = {"openssl",
                         "req",
                         "-x509",
                         "-newkey",
                         "ec",
                         "-pkeyopt",
                         "ec_paramgen_curve:P-256",
                         "-nodes",
                         "-keyout",
                         world->key,
                         "-out",
                         world->certificate,
                         "-days",
                         "2",
                         "-subj",
                         "/CN=a test",
                         "-addext",
                         alternative,
                         NULL};
    int status = 1;
    (void)snprintf(alternative, sizeof(alternative), "subjectAltName=%s", names);
    (void)snprintf(world->key, sizeof(world->key), "%s/key.pem", world->folder);
    (void)snprintf(world->certificate, sizeof(world->certificate), "%s/certificate.pem",
                   world->folder);
    assert_int_not_equal(waitpid(run_openssl(arguments, NULL), &status, 0), -1);
    assert_int_equal(status, 0);
}

/* "ACCEPT 127.0.0.1:35383" */
static void start_server(struct world *world) {
    char *arguments[] = {"openssl",          "s_server", "-accept",  "127.0.0.1:0", "-cert",
                         world->certificate, "-key",     world->key, "-www",        NULL};
    char line[256];
    int output;
    FILE *stream;
    world->server = run_openssl(arguments, &output);
    stream = fdopen(output, "r");
    assert_non_null(stream);
    while (world->port == 0 && fgets(line, sizeof(line), stream) != NULL) {
        if (strncmp(line, "ACCEPT ", 7) == 0)
            world->port = (uint16_t)strtoul(strrchr(line, ':') + 1, NULL, 10);
    }
    (void)fclose(stream);
    assert_true(world->port > 0);
}

static void setup_world(struct world *world, void **state, const char *names) {
    memset(world, 0, sizeof(*world));
    world->loop = *state;
    world->folder = support_directory_create();
    make_certificate(world, names);
    start_server(world);
}

static void teardown_world(struct world *world) {
    (void)kill(world->server, SIGKILL);
    (void)waitpid(world->server, NULL, 0);
    support_directory_remove(world->folder);
}

static void ask(struct world *world, const char *host, const char *ca_file) {
    struct bk_outbound_policy policy = {
        .name = "test", .allows_any_address = true, .ca_file = ca_file};
    struct bk_outbound *outbound = bk_outbound_create(world->loop);
    struct bk_outbound_channel *channel = bk_outbound_open(outbound, &policy);
    support_exchange_init(&world->exchange, world->port, "/");
    (void)snprintf(world->exchange.url, sizeof(world->exchange.url), "https://%s:%u/", host,
                   world->port);
    world->exchange.request.url = bk_slice_from(world->exchange.url);
    support_exchange_run(&world->exchange, world->loop, channel);
    assert_in_range(support_channel_close_ms(channel, world->loop), 0, CLOSE_MAX_MS);
    bk_outbound_destroy(outbound);
}

static void test_only_a_certificate_of_somebody_trusted_will_do(void **state) {
    struct world world;
    setup_world(&world, state, "DNS:localhost,IP:127.0.0.1");
    ask(&world, "127.0.0.1", NULL);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_TLS);
    assert_non_null(strstr(world.exchange.reason, "certificate"));
    ask(&world, "127.0.0.1", world.certificate);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    assert_int_equal(world.exchange.request.status, 200);
    ask(&world, "localhost", world.certificate);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    ask(&world, "127.0.0.1", "/nowhere/at/all.pem");
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_TLS);
    teardown_world(&world);
}

static void test_a_certificate_for_another_name_will_not_do(void **state) {
    struct world world;
    setup_world(&world, state, "DNS:other.example.com");
    ask(&world, "localhost", world.certificate);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_TLS);
    ask(&world, "127.0.0.1", world.certificate);
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_TLS);
    teardown_world(&world);
}

static void test_the_environment_may_name_who_is_trusted(void **state) {
    struct world world;
    setup_world(&world, state, "IP:127.0.0.1");
    assert_int_equal(setenv("SSL_CERT_FILE", world.certificate, 1), 0);
    ask(&world, "127.0.0.1", NULL);
    (void)unsetenv("SSL_CERT_FILE");
    assert_int_equal(world.exchange.request.failure, BK_OUTBOUND_OK);
    teardown_world(&world);
}

int main(void) {
#define LOOP_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, support_loop_setup, support_loop_teardown)
    const struct CMUnitTest tests[] = {
        LOOP_TEST(test_only_a_certificate_of_somebody_trusted_will_do),
        LOOP_TEST(test_a_certificate_for_another_name_will_not_do),
        LOOP_TEST(test_the_environment_may_name_who_is_trusted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
