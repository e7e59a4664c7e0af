/*
 * The gate of chunked bodies, and llhttp behind it.
 *
 * Whatever the bytes: the gate says the same however they are cut; it uses no more than there is;
 * and where it finds the end of a body, llhttp finds it too or refuses the body, and nowhere else.
 */
#include "transport/http/chunks.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/slice.h"

#include <llhttp.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct found {
    enum http_chunks_result result;
    size_t used;
};

static struct found read_at_once(const char *text, size_t length) {
    struct http_chunks chunks = {0};
    struct found found;
    found.result = http_chunks_read(&chunks, text, length, &found.used);
    BK_ASSERT(found.used <= length);
    BK_ASSERT(found.result != HTTP_CHUNKS_MORE || found.used == length);
    return found;
}

static struct found read_in_pieces(const char *text, size_t length, size_t piece) {
    struct http_chunks chunks = {0};
    struct found found = {HTTP_CHUNKS_MORE, 0};
    while (found.used < length && found.result == HTTP_CHUNKS_MORE) {
        size_t left = length - found.used, used;
        found.result =
            http_chunks_read(&chunks, text + found.used, left < piece ? left : piece, &used);
        found.used += used;
    }
    return found;
}

static int on_message_complete(llhttp_t *parser) {
    (void)parser;
    return HPE_PAUSED;
}

static void check_parser(const char *text, size_t length, struct found found) {
    static const struct bk_slice head =
        BK_SLICE_INIT("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    llhttp_settings_t settings;
    llhttp_t parser;
    enum llhttp_errno result;
    llhttp_settings_init(&settings);
    settings.on_message_complete = on_message_complete;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    BK_ASSERT(llhttp_execute(&parser, head.data, head.length) == HPE_OK);
    result = llhttp_execute(&parser, text, length);
    if (found.result == HTTP_CHUNKS_MORE)
        BK_ASSERT(result != HPE_PAUSED);
    if (found.result == HTTP_CHUNKS_END && result == HPE_PAUSED)
        BK_ASSERT(llhttp_get_error_pos(&parser) == text + found.used);
    if (found.result == HTTP_CHUNKS_END)
        BK_ASSERT(result != HPE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = bk_alloc(size + 1);
    struct found found;
    if (size > 0)
        memcpy(text, data, size);
    found = read_at_once(text, size);
    for (size_t piece = 1; piece <= 3; piece++) {
        struct found again = read_in_pieces(text, size, piece);
        BK_ASSERT(again.result == found.result && again.used == found.used);
    }
    if (size > 0)
        check_parser(text, size, found);
    bk_free(text);
    return 0;
}
