/*
 * The gate over the bytes of a head, and llhttp behind it.
 *
 * Whatever the bytes: no read or write outside them; the end of a head is found at the same place
 * however the bytes are cut; what the gate lets through holds no folded line, no stray CR or LF and
 * no odd byte in names and target; and llhttp reads the same framing, or refuses.
 */
#include "transport/http/gate.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

#include <llhttp.h>

enum { LINE_BYTES_MAX = 8 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Byte by byte, as a slow client sends. */
static size_t find_end_slowly(const char *text, size_t length) {
    struct http_refusal refusal = {0, NULL};
    size_t scanned = 0, line_start = 0;
    for (size_t i = 1; i <= length; i++) {
        size_t end = http_gate_find_end(text, i, &scanned, &line_start, &refusal);
        if (end > 0)
            return end;
        if (refusal.status != 0)
            return 0;
    }
    return 0;
}

static void check_bytes(const struct http_head *head) {
    for (size_t i = 0; i < head->target.length; i++)
        BK_ASSERT(head->target.data[i] >= 0x21 && head->target.data[i] <= 0x7e);
    for (uint32_t i = 0; i < head->header_count; i++) {
        const struct bk_header *header = &head->headers[i];
        BK_ASSERT(header->name.length > 0);
        for (size_t k = 0; k < header->name.length; k++)
            BK_ASSERT(header->name.data[k] > 0x20 && header->name.data[k] != ':' &&
                      !(header->name.data[k] >= 'A' && header->name.data[k] <= 'Z'));
        for (size_t k = 0; k < header->value.length; k++)
            BK_ASSERT((uint8_t)header->value.data[k] >= 0x20 || header->value.data[k] == '\t');
    }
}

struct second_reader {
    llhttp_t parser;
    bool has_head;
};

static int on_headers_complete(llhttp_t *parser) {
    struct second_reader *reader = parser->data;
    reader->has_head = true;
    return HPE_PAUSED;
}

static void check_framing(const char *text, size_t length, const struct http_head *head) {
    struct second_reader reader = {.has_head = false};
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_headers_complete = on_headers_complete;
    llhttp_init(&reader.parser, HTTP_REQUEST, &settings);
    reader.parser.data = &reader;
    (void)llhttp_execute(&reader.parser, text, length);
    if (!reader.has_head)
        return;
    BK_ASSERT(reader.parser.http_major == 1 && reader.parser.http_minor == head->minor_version);
    BK_ASSERT(((reader.parser.flags & F_CHUNKED) != 0) == head->is_chunked);
    BK_ASSERT(head->is_chunked || reader.parser.content_length == head->content_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_header headers[BK_REQUEST_HEADERS_MAX];
    struct http_head head = {.headers = headers};
    struct http_refusal refusal = {0, NULL};
    size_t scanned = 0, line_start = 0, end;
    char *text = bk_alloc(size + 1);
    if (size > 0)
        memcpy(text, data, size);
    end = http_gate_find_end(text, size, &scanned, &line_start, &refusal);
    BK_ASSERT(end == find_end_slowly(text, size));
    BK_ASSERT(end == 0 || refusal.status == 0);
    if (end > 2) {
        refusal = http_gate_read(text, end, LINE_BYTES_MAX, &head);
        if (refusal.status == 0) {
            check_bytes(&head);
            check_framing(text, end, &head);
        }
    }
    bk_free(text);
    return 0;
}
