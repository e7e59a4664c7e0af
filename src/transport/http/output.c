/* What a connection has to send (see output.h). */
#include "output.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

void http_output_init(struct http_output *output, struct http_block_pool *pool) {
    *output = (struct http_output){.pool = pool};
}

static struct http_block *take_block(struct http_block_pool *pool, size_t capacity) {
    struct http_block *block = pool->spare;
    bool is_common = capacity <= HTTP_BLOCK_BYTES;
    if (is_common && block != NULL) {
        pool->spare = block->next;
        pool->spare_count--;
    } else {
        capacity = is_common ? HTTP_BLOCK_BYTES : capacity;
        block = bk_alloc(sizeof(*block) + capacity);
        block->capacity = capacity;
        block->is_common = is_common;
    }
    block->data = (char *)(block + 1);
    block->next = NULL;
    block->start = block->end = 0;
    return block;
}

static void free_block(struct http_block_pool *pool, struct http_block *block) {
    if (block->is_common && pool->spare_count < HTTP_SPARE_BLOCKS_MAX) {
        block->next = pool->spare;
        pool->spare = block;
        pool->spare_count++;
        return;
    }
    if (block->data != (char *)(block + 1))
        bk_free(block->data);
    bk_free(block);
}

static void push(struct http_output *output, struct http_block *block) {
    output->held_bytes += block->capacity;
    output->pool->held_bytes += block->capacity;
    if (output->last == NULL)
        output->first = block;
    else
        output->last->next = block;
    output->last = block;
}

char *http_output_reserve(struct http_output *output, size_t size_bytes) {
    struct http_block *last = output->last;
    if (last == NULL || last->capacity - last->end < size_bytes) {
        last = take_block(output->pool, size_bytes);
        push(output, last);
    }
    return last->data + last->end;
}

void http_output_commit(struct http_output *output, size_t size_bytes) {
    struct http_block *last = output->last;
    BK_ASSERT(last != NULL && last->capacity - last->end >= size_bytes);
    last->end += size_bytes;
    output->length += size_bytes;
}

void http_output_append(struct http_output *output, struct bk_slice data) {
    if (data.length == 0)
        return;
    memcpy(http_output_reserve(output, data.length), data.data, data.length);
    http_output_commit(output, data.length);
}

void http_output_take(struct http_output *output, char *data, size_t length, size_t capacity) {
    struct http_block *block = bk_alloc(sizeof(*block));
    *block = (struct http_block){.data = data, .end = length, .capacity = capacity};
    push(output, block);
    output->length += length;
}

void http_output_consume(struct http_output *output, size_t size_bytes) {
    BK_ASSERT(size_bytes <= output->length);
    output->length -= size_bytes;
    while (output->first != NULL) {
        struct http_block *block = output->first;
        size_t unsent = block->end - block->start;
        if (size_bytes < unsent) {
            block->start += size_bytes;
            return;
        }
        size_bytes -= unsent;
        output->first = block->next;
        if (output->first == NULL)
            output->last = NULL;
        output->held_bytes -= block->capacity;
        output->pool->held_bytes -= block->capacity;
        free_block(output->pool, block);
    }
}

void http_output_fini(struct http_output *output) {
    http_output_consume(output, output->length);
    BK_ASSERT(output->first == NULL);
}

void http_block_pool_fini(struct http_block_pool *pool) {
    struct http_block *block;
    while ((block = pool->spare) != NULL) {
        pool->spare = block->next;
        bk_free(block);
    }
    pool->spare_count = 0;
}
