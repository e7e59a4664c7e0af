/*
 * A backup as a stream: a piece is read on the pool, written to the client, and the next one is
 * read when the client has room again. A file that fails in the middle ends the stream; a zip
 * without its end is noticed by every reader of zips.
 */
#include "backups_private.h"

#include "bakend/alloc.h"
#include "bakend/file.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 * 1024 };

struct download {
    struct bk_request *request;
    struct backups_state *state;
    struct bk_job job;
    int descriptor;
    bool waits_for_drain;
    ssize_t length; /* of the piece; 0: the end; -1: it could not be read */
    char *piece;
};

static void end(struct download *download) {
    struct bk_request *request = download->request;
    if (download->length < 0)
        bk_log_error(&download->state->context->log, "backup_unreadable",
                     BK_STRING("key", bk_request_parameter(request, BK_SLICE("key"))));
    close(download->descriptor);
    bk_free(download->piece);
    bk_stream_end(request);
}

static void on_read_run(struct bk_job *job, uint32_t thread_index) {
    struct download *download = bk_container_of(job, struct download, job);
    (void)thread_index;
    do
        download->length = read(download->descriptor, download->piece, PIECE_BYTES);
    while (download->length < 0 && errno == EINTR);
}

static void on_read_done(struct bk_job *job);

static void read_next(struct download *download) {
    download->job = (struct bk_job){.run = on_read_run, .done = on_read_done};
    if (bk_pool_submit(download->state->pool, &download->job) == BK_OK)
        return;
    download->length = -1;
    end(download);
}

static void on_read_done(struct bk_job *job) {
    struct download *download = bk_container_of(job, struct download, job);
    if (download->length <= 0 || download->request->is_aborted) {
        end(download);
        return;
    }
    struct bk_slice piece = bk_slice_make(download->piece, (size_t)download->length);
    if (bk_stream_write(download->request, piece))
        read_next(download);
    else
        download->waits_for_drain = true;
}

static void go_on(struct bk_request *request) {
    struct download *download = request->state;
    if (!download->waits_for_drain)
        return;
    download->waits_for_drain = false;
    if (request->is_aborted)
        end(download);
    else
        read_next(download);
}

void backups_download(struct bk_request *request) {
    struct bk_module_context *context = request->module;
    struct bk_slice key = bk_request_parameter(request, BK_SLICE("key"));
    char path[BACKUPS_PATH_BYTES];
    int descriptor = -1;
    if (backups_key_is_valid(key) && backups_path(path, request->tenant->directory, "", key, ""))
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) {
        bk_answer_error(request, BK_NOT_FOUND, NULL);
        return;
    }
    struct download *download = bk_arena_alloc_zero(&request->arena, sizeof *download);
    *download = (struct download){.request = request,
                                  .state = context->state,
                                  .descriptor = descriptor,
                                  .piece = bk_alloc(PIECE_BYTES)};
    request->state = download;
    request->on_drain = go_on;
    request->on_abort = go_on;
    request->content_type = "application/zip";
    bk_answer_header(
        request, "Content-Disposition",
        bk_arena_format(&request->arena, "attachment; filename=\"%.*s\"", BK_SLICE_PRINT(key)));
    bk_stream_begin(request, 200);
    read_next(download);
}
