/* What the files of the batch route share. */
#ifndef BATCH_H
#define BATCH_H

#include "retry.h"

/* One request of the list. It has memory and an answer of its own. */
struct batch_part {
    struct bk_request request;
    struct record_change change;
    enum record_action action;
    struct bk_slice collection_name, id; /* of its URL, or of its body */
    struct bk_slice fields;              /* of its answer */
    enum bk_status read_status;          /* BK_OK unless what it asks for does not exist */
    enum bk_status status;               /* why it cannot be run; BK_OK: it can */
    const char *message;                 /* beside a status; or NULL */
    int http_status;
    bool is_limited; /* its status is a guard's */
};

struct batch {
    struct bk_write write;
    struct bk_request *request;
    struct batch_part *parts;
    uint32_t part_count, prepared_count;
    uint32_t failed_index; /* of the part that failed, when one did */
    bool has_failed_part;
    bool is_preparing, is_waiting; /* see prepare_next */
    bool is_done_before;           /* the answer is to a batch that was here before */
    struct bk_retry retry;
    uint64_t timeout_ns;
    uint32_t plans;
};

/* --- batch_part.c ----------------------------------------------------------------------------- */

/* Reads the list: false when its form is no good. *list: its elements. */
bool collections_batch_list_read(const struct bk_json *body, const struct bk_json **list);
/* What a part asks for. Sets its status when it asks for nothing that there is. */
void collections_batch_part_init(struct batch_part *part, struct bk_request *request,
                                 const struct bk_json *element);
/* Whether a client may do it now: each part counts as the request that it could be. */
enum bk_status collections_batch_part_ask_guards(struct batch_part *part);
/* All parts, before the batch is answered. */
void collections_batch_release(struct batch *batch);

/* --- batch_answer.c --------------------------------------------------------------------------- */

/* The answer into the batch's request->out, as parts are done. On the writer. */
void collections_batch_answer_begin(struct batch *batch);
/* Takes the part's own answer, which is not kept. */
enum bk_status collections_batch_answer_add(struct batch *batch, struct batch_part *part);
enum bk_status collections_batch_answer_end(struct batch *batch);
/* Releases the parts and answers with the failure. */
void collections_batch_answer_failure(struct batch *batch, enum bk_status status);

#endif
