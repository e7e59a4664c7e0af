/*
 * A small blocking HTTP/1.1 client for the control socket (data/bakend.sock): one request a
 * connection, `Connection: close`. The other end is our own server, so only what it sends is
 * understood: a length, or chunks, or the end of the connection. An answer may be as large as the
 * caller's buffer allows.
 */
#define _GNU_SOURCE 1 /* memmem */
#include "cli_private.h"

#include "bakend/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEAD_MAX_BYTES = 64 * 1024, READ_BYTES = 64 * 1024, FRAMING_MAX_BYTES = 1024 * 1024 };

/* A path longer than sun_path holds is reached by way of its directory's descriptor. */
static int connect_to(const char *path, int directory) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) < sizeof address.sun_path)
        memcpy(address.sun_path, path, strlen(path) + 1);
    else
        snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/bakend.sock",
                 directory);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    if (connect(descriptor, (const struct sockaddr *)&address, sizeof address) == 0)
        return descriptor;
    close(descriptor);
    return -1;
}

int control_client_connect(const char *data_directory) {
    char path[4096];
    if (!bk_path_join(path, sizeof path, data_directory, "bakend.sock"))
        return -1;
    int directory = open(data_directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return -1;
    int descriptor = connect_to(path, directory);
    close(directory);
    return descriptor;
}

/* --- reading an answer ------------------------------------------------------------------------ */

static void read_header_line(struct control_answer *answer, struct bk_slice line) {
    size_t colon = bk_slice_find(line, ':');
    if (colon == line.length)
        return;
    struct bk_slice name = bk_slice_make(line.data, colon);
    struct bk_slice value =
        bk_slice_trim(bk_slice_make(line.data + colon + 1, line.length - colon - 1));
    if (bk_slice_equal_ignore_case(name, BK_SLICE("content-length")))
        bk_slice_to_int64(value, &answer->content_length);
    else if (bk_slice_equal_ignore_case(name, BK_SLICE("transfer-encoding")))
        answer->is_chunked = bk_slice_equal_ignore_case(value, BK_SLICE("chunked"));
}

bool control_answer_read_head(struct control_answer *answer, struct bk_slice text,
                              struct bk_error *error) {
    const char *end = text.length == 0 ? NULL : memmem(text.data, text.length, "\r\n\r\n", 4);
    if (end == NULL)
        return false;
    *answer = (struct control_answer){.content_length = -1};
    answer->head_length = (size_t)(end - text.data) + 4;
    struct bk_slice rest = bk_slice_make(text.data, (size_t)(end - text.data)), line;
    bool has_line = bk_slice_split(&rest, '\n', &line);
    int64_t status = 0;
    if (!has_line || line.length < 12 || !bk_slice_starts_with(line, BK_SLICE("HTTP/1.")) ||
        !bk_slice_to_int64(bk_slice_make(line.data + 9, 3), &status)) {
        bk_error_set(error, BK_INVALID, "the answer is not HTTP");
        return false;
    }
    answer->status = (int)status;
    while (bk_slice_split(&rest, '\n', &line))
        read_header_line(answer, bk_slice_trim(line));
    return true;
}

static bool read_hex(struct bk_slice text, size_t *value) {
    size_t number = 0;
    if (text.length == 0 || text.length > 8)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        const char *digits = "0123456789abcdef";
        char c =
            text.data[i] >= 'A' && text.data[i] <= 'F' ? (char)(text.data[i] | 0x20) : text.data[i];
        const char *digit = memchr(digits, c, 16);
        if (digit == NULL)
            return false;
        number = number * 16 + (size_t)(digit - digits);
    }
    *value = number;
    return true;
}

enum bk_status control_answer_read_chunks(struct bk_slice text, struct bk_buffer *out,
                                          struct bk_error *error) {
    while (text.length > 0) {
        const char *end = memmem(text.data, text.length, "\r\n", 2);
        if (end == NULL)
            return BK_OK;
        struct bk_slice line = bk_slice_make(text.data, (size_t)(end - text.data));
        line.length = bk_slice_find(line, ';');
        size_t size = 0, head = (size_t)(end - text.data) + 2;
        if (!read_hex(line, &size))
            return bk_error_set(error, BK_INVALID, "the answer has a broken chunk");
        if (size == 0)
            return BK_END;
        if (text.length - head < size + 2)
            return BK_OK;
        bk_buffer_append(out, text.data + head, size);
        text.data += head + size + 2;
        text.length -= head + size + 2;
    }
    return BK_OK;
}

/* --- the exchange ----------------------------------------------------------------------------- */

static bool send_all(int descriptor, struct bk_slice data) {
    while (data.length > 0) {
        ssize_t count = send(descriptor, data.data, data.length, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        data.data += count;
        data.length -= (size_t)count;
    }
    return true;
}

static bool send_request(int descriptor, const struct control_request *request) {
    struct bk_buffer head;
    bk_buffer_init(&head, HEAD_MAX_BYTES);
    bk_buffer_format(&head, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
                     bk_method_name(request->method), request->target);
    if (request->tenant.length > 0)
        bk_buffer_format(&head, "X-Bakend-Tenant: %.*s\r\n", BK_SLICE_PRINT(request->tenant));
    if (request->body.length > 0)
        bk_buffer_format(&head, "Content-Type: application/json\r\n");
    if (request->body.length > 0 || request->method == BK_POST)
        bk_buffer_format(&head, "Content-Length: %zu\r\n", request->body.length);
    bk_buffer_append_literal(&head, "\r\n");
    bool is_sent = !head.is_overflown && send_all(descriptor, bk_buffer_slice(&head)) &&
                   send_all(descriptor, request->body);
    bk_buffer_fini(&head);
    return is_sent;
}

/* Everything until the other end closes: it was asked to. */
static bool receive_all(int descriptor, struct bk_buffer *received) {
    for (;;) {
        if (!bk_buffer_reserve(received, READ_BYTES))
            return false;
        ssize_t count = recv(descriptor, received->data + received->length, READ_BYTES, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count == 0;
        received->length += (size_t)count;
    }
}

static int read_answer(struct bk_slice text, struct bk_buffer *out, struct bk_error *error) {
    struct control_answer answer;
    bk_error_set(error, BK_IO, "the server closed the connection without an answer");
    if (!control_answer_read_head(&answer, text, error))
        return -1;
    struct bk_slice body =
        bk_slice_make(text.data + answer.head_length, text.length - answer.head_length);
    bool is_whole = true;
    if (answer.is_chunked) {
        is_whole = control_answer_read_chunks(body, out, error) == BK_END;
    } else {
        is_whole = answer.content_length < 0 || (size_t)answer.content_length == body.length;
        bk_buffer_append_slice(out, body);
    }
    if (is_whole && !out->is_overflown)
        return answer.status;
    bk_error_set(error, BK_IO,
                 out->is_overflown ? "the answer is too large"
                                   : "the connection ended within the answer");
    return -1;
}

int control_client_call(int descriptor, const struct control_request *request,
                        struct bk_buffer *out, struct bk_error *error) {
    BK_ASSERT(descriptor >= 0 && request->target[0] == '/');
    struct bk_buffer received;
    bk_buffer_init(&received, out->max_bytes + HEAD_MAX_BYTES + FRAMING_MAX_BYTES);
    int status = -1;
    if (!send_request(descriptor, request))
        bk_error_set(error, BK_IO, "cannot send the request: %s", strerror(errno));
    else if (!receive_all(descriptor, &received))
        bk_error_set(error, BK_IO, "cannot read the answer: %s",
                     received.is_overflown ? "it is too large" : strerror(errno));
    else
        status = read_answer(bk_buffer_slice(&received), out, error);
    bk_buffer_fini(&received);
    close(descriptor);
    return status;
}
