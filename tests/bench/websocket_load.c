/*
 * Many WebSocket clients in one process, and the events that reach them.
 *
 *   websocket_load PORT COUNT
 *
 * Opens COUNT connections to /api/realtime and says `open SECONDS`. Then it does what standard
 * input says, a line each, and answers each with one:
 *
 *   subscribe TYPES                       on every connection → subscribed SECONDS
 *   fanout PATH SECONDS INTERVAL_MS BURST
 *                               → fanout RATE FLOW P50_MS P95_MS P99_MS MAX_MS EVENTS BYTES
 *
 * and ends with its input. In between it answers pings.
 *
 * A fan-out creates BURST records at once, each over a connection of its own, by POST to PATH. Each
 * carries the time at which it was sent in a text of the record, and the delay of a frame is from
 * there to its receipt: the create and its commit are part of it. The next events are sent when all
 * frames of those before have arrived, and not before INTERVAL_MS after them; then the stamp says
 * when they were due. RATE is frames a second of the time in which frames were awaited, FLOW
 * of the time from the first to the last of them, without the create; BYTES is the size of one with
 * its header.
 *
 * A delay is taken when the frame was read, by the thread that reads for all: what waits for it
 * counts as the server's. So the same program measures the ceiling (fanout_ceiling.c).
 */
#define _GNU_SOURCE /* memmem */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_client.h"
#include "measure.h"

enum {
    OPENING_MAX = 256,        /* handshakes at a time */
    BURST_MAX = 64,           /* senders */
    EVENTS_MAX = 512,         /* of one epoll_wait */
    INPUT_BYTES = 256 * 1024, /* one for all clients: more than a frame */
    TIMEOUT_MS = 30000,       /* without any progress */
    DESCRIPTORS_MORE = 128,
};

enum opcode { OPCODE_TEXT = 1, OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10 };
enum state { STATE_CONNECTING, STATE_UPGRADING, STATE_OPEN };

struct client {
    int descriptor;
    enum state state;
    uint8_t *held; /* a part of a frame */
    size_t held_length;
};

static const char handshake[] = "GET /api/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Version: 13\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static struct client *clients;
static struct bench_http senders[BURST_MAX];
static struct bench_delays delays;
static uint8_t input[INPUT_BYTES];
static int poll_descriptor, server_port;
static size_t client_count, started_count, open_count, answer_count, sender_count;
static uint64_t frame_count, frame_bytes, received_first_ns, received_last_ns, unanswered_count;

/* --- frames ----------------------------------------------------------------------------------- */

static void send_frame(struct client *client, enum opcode opcode, const void *data, size_t length) {
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t frame[1024] = {(uint8_t)(0x80 | opcode)};
    size_t header = length < 126 ? 2 : 4;
    if (length + 8 > sizeof(frame))
        bench_fail("a message is too long");
    frame[1] = (uint8_t)(0x80 | (header == 2 ? length : 126));
    if (header == 4) {
        frame[2] = (uint8_t)(length >> 8);
        frame[3] = (uint8_t)length;
    }
    memcpy(frame + header, mask, sizeof(mask));
    for (size_t i = 0; i < length; i++)
        frame[header + 4 + i] = ((const uint8_t *)data)[i] ^ mask[i % 4];
    length += header + 4;
    if (write(client->descriptor, frame, length) != (ssize_t)length)
        bench_fail("a connection takes no message: %s", strerror(errno));
}

static void on_text(const char *text, size_t length, size_t frame_length) {
    static const char stamp[] = "stamp=";
    const char *found = memmem(text, length, stamp, sizeof(stamp) - 1);
    if (found != NULL) {
        uint64_t sent_ns = strtoull(found + sizeof(stamp) - 1, NULL, 10);
        received_last_ns = bench_now_ns();
        if (received_first_ns == 0)
            received_first_ns = received_last_ns;
        bench_delays_add(&delays, received_last_ns - sent_ns);
        frame_bytes = frame_length;
        frame_count++;
    } else if (memmem(text, length, "\"ok\":true", 9) != NULL) {
        answer_count++;
    } else if (memmem(text, length, "\"ok\":false", 10) != NULL) {
        bench_fail("the server refuses: %.*s", (int)length, text);
    }
}

static void on_frame(struct client *client, enum opcode opcode, const uint8_t *payload,
                     size_t length, size_t frame_length) {
    if (opcode == OPCODE_TEXT)
        on_text((const char *)payload, length, frame_length);
    else if (opcode == OPCODE_PING)
        send_frame(client, OPCODE_PONG, payload, length);
    else if (opcode == OPCODE_CLOSE)
        bench_fail("the server closed a connection with %u",
                   length >= 2 ? (unsigned)(payload[0] << 8 | payload[1]) : 1005);
}

/* Handles the first frame of data and returns its size; 0 when it is not complete. */
static size_t take_frame(struct client *client, const uint8_t *data, size_t available) {
    if (available < 2)
        return 0;
    size_t header = 2, length = data[1] & 0x7f;
    if (length >= 126) {
        size_t size_bytes = length == 126 ? 2 : 8;
        header += size_bytes;
        if (available < header)
            return 0;
        length = 0;
        for (size_t i = 0; i < size_bytes; i++)
            length = length << 8 | data[2 + i];
    }
    if (length > INPUT_BYTES / 2)
        bench_fail("a frame of %zu bytes is too long", length);
    if (available < header + length)
        return 0;
    on_frame(client, data[0] & 0x0f, data + header, length, header + length);
    return header + length;
}

/* --- connections ------------------------------------------------------------------------------ */

static void poll_for(int operation, int descriptor, uint32_t what, uint64_t index) {
    struct epoll_event event = {.events = what, .data.u64 = index};
    if (epoll_ctl(poll_descriptor, operation, descriptor, &event) != 0)
        bench_fail("epoll_ctl: %s", strerror(errno));
}

static void on_connected(struct client *client) {
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(client->descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0)
        bench_fail("connect: %s", strerror(error));
    if (write(client->descriptor, handshake, sizeof(handshake) - 1) != sizeof(handshake) - 1)
        bench_fail("a connection takes no handshake: %s", strerror(errno));
    client->state = STATE_UPGRADING;
    poll_for(EPOLL_CTL_MOD, client->descriptor, EPOLLIN, (uint64_t)(client - clients));
}

/* Returns how much of data the answer to the handshake is; 0 when it is not complete. */
static size_t take_handshake(struct client *client, const uint8_t *data, size_t available) {
    const uint8_t *end = memmem(data, available, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    if (memcmp(data, "HTTP/1.1 101", 12) != 0)
        bench_fail("no WebSocket: %.*s", (int)available, (const char *)data);
    client->state = STATE_OPEN;
    open_count++;
    return (size_t)(end + 4 - data);
}

static void hold(struct client *client, const uint8_t *data, size_t length) {
    if (length > 0) {
        client->held = realloc(client->held, length);
        if (client->held == NULL)
            bench_fail("no memory");
        memcpy(client->held, data, length);
    }
    client->held_length = length;
}

static void on_readable(struct client *client) {
    size_t length = client->held_length, used = 0, taken;
    if (length > 0)
        memcpy(input, client->held, length);
    ssize_t count = read(client->descriptor, input + length, INPUT_BYTES - length);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0)
        bench_fail("the server ended a connection: %s", count < 0 ? strerror(errno) : "closed");
    length += (size_t)count;
    do {
        taken = client->state == STATE_UPGRADING
                    ? take_handshake(client, input + used, length - used)
                    : take_frame(client, input + used, length - used);
        used += taken;
    } while (taken > 0 && used < length);
    hold(client, input + used, length - used);
}

static void open_more(void) {
    while (started_count < client_count && started_count - open_count < OPENING_MAX) {
        struct client *client = &clients[started_count];
        client->descriptor = bench_connect(server_port, (unsigned)started_count, false);
        poll_for(EPOLL_CTL_ADD, client->descriptor, EPOLLOUT, started_count++);
    }
}

static void open_senders(size_t count) {
    for (; sender_count < count; sender_count++) {
        bench_http_init(&senders[sender_count], server_port);
        poll_for(EPOLL_CTL_ADD, senders[sender_count].descriptor, EPOLLIN,
                 client_count + sender_count);
    }
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Handles what happens within the time; returns whether standard input has something. */
static bool advance(int timeout_ms) {
    struct epoll_event events[EVENTS_MAX];
    bool has_input = false;
    int count = epoll_wait(poll_descriptor, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < count; i++) {
        uint64_t index = events[i].data.u64;
        if (index >= client_count + BURST_MAX)
            has_input = true;
        else if (index >= client_count)
            unanswered_count -= bench_http_receive(&senders[index - client_count]) != NULL;
        else if (clients[index].state == STATE_CONNECTING)
            on_connected(&clients[index]);
        else
            on_readable(&clients[index]);
    }
    return has_input;
}

/* Until the counter has reached the value; fails when it no longer grows. */
static void await(const size_t *counter, size_t value, const char *what) {
    size_t seen = *counter;
    uint64_t seen_ns = bench_now_ns();
    while (*counter < value) {
        open_more();
        advance(100);
        uint64_t now_ns = bench_now_ns();
        if (*counter != seen) {
            seen = *counter;
            seen_ns = now_ns;
        } else if (now_ns - seen_ns > TIMEOUT_MS * 1000000ULL) {
            bench_fail("%s: %zu of %zu after %d s of silence", what, seen, value,
                       TIMEOUT_MS / 1000);
        }
    }
}

static double seconds_since(uint64_t start_ns) { return (double)(bench_now_ns() - start_ns) / 1e9; }

static void subscribe(const char *types) {
    char text[512];
    uint64_t start_ns = bench_now_ns();
    int length =
        snprintf(text, sizeof(text), "{\"id\":1,\"op\":\"subscribe\",\"types\":[\"%s\"]}", types);
    answer_count = 0;
    for (size_t i = 0; i < client_count; i++)
        send_frame(&clients[i], OPCODE_TEXT, text, (size_t)length);
    await(&answer_count, client_count, "subscribed");
    printf("subscribed %.3f\n", seconds_since(start_ns));
}

/* --- fan-out ---------------------------------------------------------------------------------- */

static void send_events(const char *path, size_t burst, uint64_t stamp_ns) {
    char body[256];
    snprintf(body, sizeof(body), "{\"email\":\"john@example.com\",\"name\":\"stamp=%llu\"}",
             (unsigned long long)stamp_ns);
    for (size_t i = 0; i < burst; i++)
        bench_http_send(&senders[i], "POST", path, "", body);
    unanswered_count += burst;
}

/* Sends them and waits until all frames and answers are in. */
static void fan_out_once(const char *path, size_t burst, uint64_t stamp_ns) {
    uint64_t expected = frame_count + client_count * burst, seen_ns = bench_now_ns(), seen = 0;
    received_first_ns = 0;
    send_events(path, burst, stamp_ns);
    while (frame_count < expected || unanswered_count > 0) {
        advance(100);
        uint64_t now_ns = bench_now_ns();
        if (frame_count != seen) {
            seen = frame_count;
            seen_ns = now_ns;
        } else if (now_ns - seen_ns > TIMEOUT_MS * 1000000ULL) {
            bench_fail("%llu frames are missing after %d s of silence",
                       (unsigned long long)(expected - frame_count), TIMEOUT_MS / 1000);
        }
    }
    if (frame_count > expected)
        bench_fail("%llu frames too many", (unsigned long long)(frame_count - expected));
}

/* The loop goes on until the time. */
static void wait_until(uint64_t time_ns) {
    for (uint64_t now_ns; (now_ns = bench_now_ns()) < time_ns;)
        advance(time_ns - now_ns > 2000000 ? (int)((time_ns - now_ns) / 1000000 - 1) : 0);
}

static void fan_out(const char *path, double seconds, uint64_t interval_ns, size_t burst) {
    uint64_t start_ns = bench_now_ns(), due_ns = start_ns, awaited_ns = 0, flow_ns = 0;
    uint64_t events = 0, turns = 0;
    bench_delays_reset(&delays);
    frame_count = 0;
    open_senders(burst);
    while (seconds_since(start_ns) < seconds) {
        wait_until(due_ns);
        uint64_t sent_ns = bench_now_ns();
        fan_out_once(path, burst, interval_ns > 0 ? due_ns : sent_ns);
        awaited_ns += received_last_ns - sent_ns;
        flow_ns += received_last_ns - received_first_ns;
        turns++;
        events += burst;
        due_ns += interval_ns;
    }
    printf("fanout %.0f %.0f %.3f %.3f %.3f %.3f %llu %llu\n",
           (double)frame_count / ((double)awaited_ns / 1e9),
           (double)(frame_count - turns) / ((double)flow_ns / 1e9), bench_delays_at(&delays, 0.5),
           bench_delays_at(&delays, 0.95), bench_delays_at(&delays, 0.99),
           bench_delays_at(&delays, 1), (unsigned long long)events,
           (unsigned long long)frame_bytes);
}

static void obey(const char *line) {
    char text[256];
    double seconds;
    unsigned interval_ms, burst;
    if (sscanf(line, "subscribe %255s", text) == 1)
        subscribe(text);
    else if (sscanf(line, "fanout %255s %lf %u %u", text, &seconds, &interval_ms, &burst) == 4 &&
             burst >= 1 && burst <= BURST_MAX)
        fan_out(text, seconds, interval_ms * 1000000ULL, burst);
    else
        bench_fail("an unknown command: %s", line);
    fflush(stdout);
}

int main(int argument_count, char **arguments) {
    char line[512];
    if (argument_count != 3)
        bench_fail("usage: websocket_load PORT COUNT");
    server_port = (int)bench_number(arguments[1], 1, 65535);
    client_count = (size_t)bench_number(arguments[2], 1, 1000000);
    bench_raise_descriptors(client_count + DESCRIPTORS_MORE);
    bench_delays_init(&delays);
    clients = calloc(client_count, sizeof(*clients));
    poll_descriptor = epoll_create1(0);
    if (clients == NULL || poll_descriptor < 0)
        bench_fail("no memory");
    uint64_t start_ns = bench_now_ns();
    await(&open_count, client_count, "open");
    printf("open %.3f\n", seconds_since(start_ns));
    fflush(stdout);
    setvbuf(stdin, NULL, _IONBF, 0);
    poll_for(EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, client_count + BURST_MAX);
    for (;;) {
        if (!advance(-1))
            continue;
        if (fgets(line, sizeof(line), stdin) == NULL)
            return 0;
        obey(line);
    }
}
