/*
 * gzip by zlib, from a whole text into a bounded buffer. The bound is the buffer's, and it is
 * looked at before each step, so that a bomb costs no more memory than was granted for it. A step
 * grows the buffer by CHUNK_BYTES. On failure the buffer is as it was.
 *
 * gunzip takes a series of members, as the RFC has it, and refuses anything else behind them.
 */
#define ZLIB_CONST 1 /* next_in is read only */
#include "bakend/compress.h"
#include "bakend/alloc.h"
#include "bakend/assert.h"

#include <zlib.h>

enum {
    CHUNK_BYTES = 65536,
    PIECE_BYTES = 1 << 30, /* zlib counts input in 32 bits */
    GZIP_WINDOW_BITS = 31, /* the largest window, 15, and 16 for "gzip, not zlib" */
    MEMORY_LEVEL = 8       /* zlib's default: 256 KiB to compress */
};

typedef int (*step_function)(z_streamp stream, int flush);

static voidpf allocate(voidpf user, uInt count, uInt size_bytes) {
    (void)user;
    return bk_try_alloc((size_t)count * size_bytes);
}

static void release(voidpf user, voidpf memory) {
    (void)user;
    bk_free(memory);
}

/* --- moving bytes ----------------------------------------------------------------------------- */

/* Points the stream at free room of the buffer. */
static enum bk_status offer_room(z_stream *stream, struct bk_buffer *out) {
    size_t left_bytes = out->max_bytes - out->length;
    size_t room_bytes = left_bytes < CHUNK_BYTES ? left_bytes : CHUNK_BYTES;
    if (room_bytes == 0)
        return BK_TOO_LARGE;
    if (!bk_buffer_reserve(out, room_bytes))
        return BK_NO_MEMORY;
    stream->next_out = (Bytef *)out->data + out->length;
    stream->avail_out = (uInt)room_bytes;
    return BK_OK;
}

static void offer_input(z_stream *stream, struct bk_slice *rest) {
    size_t piece = rest->length < PIECE_BYTES ? rest->length : PIECE_BYTES;
    if (stream->avail_in > 0 || piece == 0)
        return;
    stream->next_in = (const Bytef *)rest->data;
    stream->avail_in = (uInt)piece;
    rest->data += piece;
    rest->length -= piece;
}

/* One step: as much as fits in the room on offer. Returns zlib's code, or Z_MEM_ERROR and
 * *status. */
static int step(z_stream *stream, struct bk_slice *rest, struct bk_buffer *out,
                step_function function, enum bk_status *status) {
    uInt before;
    int code;
    *status = offer_room(stream, out);
    if (*status != BK_OK)
        return Z_MEM_ERROR;
    offer_input(stream, rest);
    before = stream->avail_out;
    code = function(stream, rest->length == 0 ? Z_FINISH : Z_NO_FLUSH);
    out->length += before - stream->avail_out;
    return code;
}

/* --- compress --------------------------------------------------------------------------------- */

static enum bk_status deflate_all(z_stream *stream, struct bk_slice data, struct bk_buffer *out) {
    enum bk_status status = BK_OK;
    int code = Z_OK;
    while (code != Z_STREAM_END) {
        code = step(stream, &data, out, deflate, &status);
        if (status != BK_OK)
            return status;
        BK_ASSERT(code == Z_OK || code == Z_BUF_ERROR || code == Z_STREAM_END);
    }
    return BK_OK;
}

enum bk_status bk_gzip(struct bk_slice data, int level, struct bk_buffer *out) {
    z_stream stream = {.zalloc = allocate, .zfree = release};
    size_t length_before = out->length;
    enum bk_status status;
    BK_ASSERT(level >= 1 && level <= 9);
    if (out->is_overflown)
        return BK_TOO_LARGE;
    if (deflateInit2(&stream, level, Z_DEFLATED, GZIP_WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return BK_NO_MEMORY;
    status = deflate_all(&stream, data, out);
    (void)deflateEnd(&stream);
    if (status != BK_OK)
        out->length = length_before;
    return status;
}

/* --- decompress ------------------------------------------------------------------------------- */

/* At the full bound the end of the stream may still be ahead without a byte of output: zlib is
 * given one byte of its own to prove that it wants more. */
static enum bk_status inflate_at_bound(z_stream *stream, struct bk_slice *rest, int *code) {
    Bytef extra;
    stream->next_out = &extra;
    stream->avail_out = 1;
    offer_input(stream, rest);
    *code = inflate(stream, Z_NO_FLUSH);
    return stream->avail_out == 0 ? BK_TOO_LARGE : BK_OK;
}

static enum bk_status translate_inflate(int code) {
    if (code == Z_OK || code == Z_STREAM_END)
        return BK_OK;
    /* Z_BUF_ERROR: the input ended too early, since there was room. */
    return code == Z_MEM_ERROR ? BK_NO_MEMORY : BK_CORRUPT;
}

static int inflate_step(z_streamp stream, int flush) {
    (void)flush; /* Z_FINISH would call an end of the room an error */
    return inflate(stream, Z_NO_FLUSH);
}

static enum bk_status inflate_all(z_stream *stream, struct bk_slice data, struct bk_buffer *out) {
    enum bk_status status = BK_OK;
    int code = Z_OK;
    while (code != Z_STREAM_END || stream->avail_in > 0 || data.length > 0) {
        if (code == Z_STREAM_END && inflateReset(stream) != Z_OK)
            return BK_CORRUPT;
        if (out->length == out->max_bytes)
            status = inflate_at_bound(stream, &data, &code);
        else
            code = step(stream, &data, out, inflate_step, &status);
        if (status == BK_OK)
            status = translate_inflate(code);
        if (status != BK_OK)
            return status;
    }
    return BK_OK;
}

enum bk_status bk_gunzip(struct bk_slice data, struct bk_buffer *out) {
    z_stream stream = {.zalloc = allocate, .zfree = release};
    size_t length_before = out->length;
    enum bk_status status;
    if (out->is_overflown)
        return BK_TOO_LARGE;
    if (inflateInit2(&stream, GZIP_WINDOW_BITS) != Z_OK)
        return BK_NO_MEMORY;
    status = inflate_all(&stream, data, out);
    (void)inflateEnd(&stream);
    if (status != BK_OK)
        out->length = length_before;
    return status;
}
