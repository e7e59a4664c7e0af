/*
 * What a connection has to send: a chain of blocks.
 *
 * Heads and small bodies are copied into blocks of 4 KiB from the transport's free list, one after
 * the other, so that all answers of a turn usually lie in one piece. A body of 16 KiB or more is a
 * block of its own, whose memory is taken over from the request, without a copy.
 */
#ifndef BAKEND_HTTP_OUTPUT_H
#define BAKEND_HTTP_OUTPUT_H

#include "bakend/buffer.h"
#include "bakend/list.h"

enum {
    HTTP_BLOCK_BYTES = 4096 - 64,
    HTTP_SPARE_BLOCKS_MAX = 256,
    HTTP_OWN_BLOCK_BYTES_MIN = 16 * 1024, /* copying less is cheaper than another iovec */
};

struct http_block {
    struct http_block *next;
    char *data;
    size_t start, end, capacity; /* unsent: data[start, end) */
    bool is_common;              /* of HTTP_BLOCK_BYTES, behind this struct */
};

struct http_block_pool {
    struct http_block *spare;
    uint32_t spare_count;
    size_t held_bytes; /* by all outputs, sent parts of a block included */
};

struct http_output {
    struct http_block_pool *pool;
    struct http_block *first, *last;
    size_t length;     /* bytes unsent */
    size_t held_bytes; /* of memory, for those */
};

void http_output_init(struct http_output *output, struct http_block_pool *pool);
void http_output_fini(struct http_output *output);
/* A contiguous place for up to size_bytes; tell how many were written. */
char *http_output_reserve(struct http_output *output, size_t size_bytes);
void http_output_commit(struct http_output *output, size_t size_bytes);
void http_output_append(struct http_output *output, struct bk_slice data);
/* Takes over memory from bk_buffer_take, of so large a capacity. */
void http_output_take(struct http_output *output, char *data, size_t length, size_t capacity);
/* Frees what was sent. */
void http_output_consume(struct http_output *output, size_t size_bytes);
void http_block_pool_fini(struct http_block_pool *pool);

#endif
