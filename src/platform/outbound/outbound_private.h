/*
 * What the files of the outbound part know of each other.
 *
 *   outbound.c   on the loop: requests come in and go out with what became of them
 *   channel.c    on the loop: a channel's workers, its limits and its end
 *   queue.c      on the loop: who waits in a channel, and whose turn it is
 *   worker.c     a thread: takes calls, runs libcurl's multi, gives them back
 *   transfer.c   a worker's: the options of a transfer, and the callbacks common to all
 *   gate.c       a worker's: sockets, and which addresses they may connect to
 *   web.c mail.c a worker's: what is HTTP's and SMTP's
 *   url.c text.c address.c failure.c   what needs neither thread nor loop
 */
#ifndef BAKEND_PLATFORM_OUTBOUND_PRIVATE_H
#define BAKEND_PLATFORM_OUTBOUND_PRIVATE_H

#include "bakend/alloc.h"
#include "bakend/assert.h"
#include "bakend/buffer.h"
#include "bakend/list.h"
#include "bakend/map.h"
#include "bakend/outbound.h"
#include "bakend/thread.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#define OUTBOUND_CLOSING_TEXT "the server is shutting down"

enum {
    OUTBOUND_WORKERS_MAX = BK_OUTBOUND_SMTP_MAX, /* of a lane */
    OUTBOUND_RESOLVING_MAX = 64,                 /* threads of the resolver, of a worker */
    OUTBOUND_RESOLVING_PER_DOMAIN_MAX = 8,
    OUTBOUND_SPARE_MAX = 64, /* handles that are kept of a worker: 25 KiB and TLS sessions each */
    OUTBOUND_REASON_BYTES = 256
};

/* Whether the peer may act on a request: said by the worker, or withdrawn by the loop before. */
enum outbound_word { OUTBOUND_UNSAID, OUTBOUND_SAID, OUTBOUND_WITHDRAWN };

/* --- a call: one request on its way ----------------------------------------------------------- */

/* The loop's while it waits and when it is back, its worker's in between; the message carries it
 * over. The request is the caller's, and read by both. */
struct bk_outbound_call {
    struct bk_message message; /* to the worker and back */
    struct bk_message cancel;  /* likewise; out at most once */
    struct bk_list link;       /* of whichever list it waits in */
    struct outbound_group *group;
    struct outbound_queue *queue; /* in which it waits, or of which it runs; NULL: neither */
    struct bk_outbound_channel *channel;
    struct bk_outbound_request *request; /* NULL once it is done */
    struct outbound_host *host;          /* the loop's; NULL: it failed before it was queued */
    struct outbound_worker *worker;      /* NULL: it waits on the loop */
    uint64_t host_hash, domain_hash;
    bool has_address; /* in the URL, in place of a name */
    CURLU *url;
    bool is_plain;                   /* no TLS, or none for certain */
    bool is_cancel_out, is_answered; /* the loop's */
    atomic_bool is_cancelled;        /* wished */
    atomic_int word;                 /* enum outbound_word */

    /* The worker's. */
    CURL *easy;
    struct curl_slist *headers, *recipients;
    char detail[CURL_ERROR_SIZE];
    bool has_bad_option;      /* libcurl refused one: nothing is sent */
    uint32_t resolving_place; /* of the worker's resolving, from 1; 0: no name is being resolved */
    bool is_crowded;          /* none was free; it tries again */
    uint64_t crowded_since_ns;
    bool is_too_large, is_out_of_memory, is_denied, lacks_login, lacks_tls;
    uint32_t opened_count, denied_count; /* sockets */
    struct {
        int descriptor;
        uint64_t cookie;
    } opened[4]; /* the last ones */
    uint64_t start_ns;
    bool is_begun;     /* the request is being written */
    size_t head_bytes; /* all that came, with what was dropped */
    bool is_head_complete;
    size_t uploaded_bytes;       /* of a mail */
    struct bk_buffer head, body; /* mail: body is the last reply */
    struct {
        uint32_t code;     /* of the last reply that is complete */
        uint32_t count;    /* replies since the login, so that each is known by its place */
        bool is_continued; /* the last line is not the reply's last */
        uint32_t accepted_count;
        bool offers_starttls;
        bool is_transacting, is_logged_in, is_over;
    } reply;

    /* What became of it. */
    enum bk_outbound_failure failure;
    uint32_t status;
    bool was_cut, was_reused;
    uint64_t duration_us, sent_bytes, received_bytes;
    char reason[OUTBOUND_REASON_BYTES];
};

/* Says once what became of a call; a later word is not heard. */
void outbound_call_settle(struct bk_outbound_call *call, enum bk_outbound_failure failure,
                          const char *reason);
void outbound_call_free(struct bk_outbound_call *call);
/* On the worker, before the first byte that the peer may act on; false: it was withdrawn. */
bool outbound_call_say(struct bk_outbound_call *call);

/* --- channels (the loop's) -------------------------------------------------------------------- */

/* How many run, and who waits for one of them to end. Gone when there is neither. */
struct outbound_host {
    struct bk_slice key; /* "https://example.com:443", behind the struct */
    uint64_t hash;
    struct outbound_lane *lane;
    struct bk_list queues; /* outbound_queue.of_host */
    struct bk_list full;   /* outbound_queue.link */
    uint32_t running_count;
};

/* Whose requests they are. Gone when none is left. */
struct outbound_group {
    struct bk_slice key; /* behind the struct */
    struct outbound_lane *lane;
    struct bk_list link;   /* lane->ready: it has a queue that may begin one, and may itself … */
    bool is_sated;         /* … or sated: it may not */
    struct bk_list queues; /* outbound_queue.link: those that may begin one */
    uint32_t call_count, running_count;
};

/* Those of a group at one host. Gone when none waits or runs. */
struct outbound_queue {
    struct outbound_group *group;
    struct outbound_host *host;
    struct bk_list link;    /* group->queues or host->full */
    struct bk_list of_host; /* host->queues */
    struct bk_list waiting; /* bk_outbound_call.link */
    uint32_t running_count;
};

/* HTTP has one worker with many calls, SMTP several with one each. */
struct outbound_lane {
    struct bk_outbound_channel *channel;
    struct bk_map groups;
    struct bk_list ready, sated; /* outbound_group.link */
    struct outbound_worker *workers[OUTBOUND_WORKERS_MAX];
    uint32_t worker_count, worker_max;
    uint32_t running_count, running_max, running_per_worker_max;
    uint32_t running_per_host_max;
};

enum outbound_lane_kind { OUTBOUND_WEB, OUTBOUND_MAIL, OUTBOUND_LANE_COUNT };

struct bk_outbound_channel {
    struct bk_list link; /* bk_outbound.channels */
    struct bk_outbound *outbound;
    struct bk_outbound_policy policy; /* with its own allowed and ca_file (NULL: the system's) */
    struct outbound_lane lanes[OUTBOUND_LANE_COUNT];
    struct bk_map hosts;
    uint32_t call_count; /* that are not done */
    uint32_t waiting_count;
    uint32_t stopping_count; /* workers */
    struct bk_task dispatch, close;
    bool is_closing;
    void (*closed)(void *user);
    void *closed_user;
    struct bk_outbound_figures figures;
    atomic_uint_fast32_t open_count;
    atomic_uint_fast64_t opened_count;
};

struct bk_outbound {
    struct bk_loop *loop;
    struct bk_mailbox *answers;
    struct bk_list channels;
    struct bk_list ending;            /* calls that end without a worker */
    struct bk_list answered, expired; /* their memory is the caller's for a turn */
    struct bk_task end, expire;
    uint32_t busy_count; /* calls and workers to wait for: the loop is kept alive */
    char *ca_file;
};

struct outbound_lane *outbound_lane_of(struct bk_outbound_channel *channel,
                                       const struct bk_outbound_request *request);
/* The call's host is known; begins what may begin, later in this turn. */
void outbound_channel_queue(struct bk_outbound_channel *channel, struct bk_outbound_call *call,
                            struct bk_slice host_key);
/* A worker gave it back. */
void outbound_channel_release(struct bk_outbound_call *call);
/* A call is done, or a worker has stopped. */
void outbound_channel_note_end(struct bk_outbound_channel *channel);

/* --- who waits (the loop's) ------------------------------------------------------------------- */

/* A call belongs to its group until it is done. */
bool outbound_group_is_full(const struct outbound_lane *lane, struct bk_slice key);
void outbound_group_join(struct outbound_lane *lane, struct bk_outbound_call *call);
void outbound_group_leave(struct bk_outbound_call *call);
void outbound_queue_add(struct outbound_lane *lane, struct bk_outbound_call *call,
                        struct bk_slice host_key);
/* It has not begun. */
void outbound_queue_remove(struct bk_outbound_call *call);
/* The one whose turn it is, which counts as running from then on; NULL: none may begin. */
struct bk_outbound_call *outbound_queue_take(struct outbound_lane *lane);
/* It runs no more. */
void outbound_queue_release(struct bk_outbound_call *call);
/* Any that waits; NULL: none does. */
struct bk_outbound_call *outbound_queue_find(const struct bk_outbound_channel *channel);

/* --- in and out ------------------------------------------------------------------------------- */

/* The loop stays alive until the count is 0 again. */
void outbound_busy(struct bk_outbound *outbound, int change);
/* done comes later in this turn; the call says what became of it. */
void outbound_end_later(struct bk_outbound_call *call);
/* From a worker. */
void outbound_on_answered(struct bk_message *message);
void outbound_on_cancel_returned(struct bk_message *message);

/* --- workers ---------------------------------------------------------------------------------- */

/* A thread of libcurl's resolver. */
struct outbound_resolving {
    uint64_t domain_hash;
    uint64_t until_ns; /* that it counts; UINT64_MAX: a call waits for it */
};

struct outbound_worker {
    struct bk_outbound_channel *channel;
    struct bk_thread *thread;
    struct bk_mailbox *inbox;
    struct bk_message stop; /* to the worker, and back when it has stopped */
    atomic_bool is_ending;  /* what breaks from now on was cancelled */
    /* The loop's. */
    uint32_t running_count;
    uint64_t host_hash; /* of the last call: its connection may still be open */

    pthread_mutex_t mutex; /* guards what follows: wakes and interruptions come from the loop */
    CURLM *multi;          /* written by the worker alone */
    int *sockets;
    size_t socket_count, socket_capacity;

    atomic_bool is_asleep; /* or about to be: whoever has something for it wakes it */

    /* The worker's. */
    CURL *spare[OUTBOUND_SPARE_MAX]; /* handles for the calls to come */
    uint32_t spare_count;
    struct bk_list waiting, running; /* bk_outbound_call.link */
    struct bk_list crowded;          /* bk_outbound_call.link */
    struct bk_list ended;            /* likewise, in this round */
    uint64_t crowded_until_ns;
    uint32_t running_total;
    struct outbound_resolving resolving[OUTBOUND_RESOLVING_MAX];
    uint64_t idle_since_ns;
    uint64_t mail_hash; /* of the peer that the connections are to */
    bool is_stopping;
};

/* On the loop. */
struct outbound_worker *outbound_worker_start(struct bk_outbound_channel *channel);
void outbound_worker_take(struct outbound_worker *worker, struct bk_outbound_call *call);
void outbound_worker_cancel(struct outbound_worker *worker, struct bk_outbound_call *call);
/* All that it has ends, soon, and then it. */
void outbound_worker_stop(struct outbound_worker *worker);
/* On the worker: a name is about to be resolved; false: too many are. And: it has been. */
bool outbound_worker_begin_resolving(struct bk_outbound_call *call);
void outbound_worker_end_resolving(struct bk_outbound_call *call);

/* --- transfers (the worker's) ----------------------------------------------------------------- */

/* Makes call->easy; false: it cannot run, and says why. */
bool outbound_transfer_prepare(struct bk_outbound_call *call);
/* What libcurl says became of it. */
void outbound_transfer_conclude(struct bk_outbound_call *call, CURLcode code);
void outbound_transfer_release(struct bk_outbound_call *call);
/* Spare handles go, and the TLS sessions that they keep. */
void outbound_transfers_forget(struct outbound_worker *worker);
/* Options, each of which must be taken or nothing is sent. */
void outbound_set_long(struct bk_outbound_call *call, CURLoption option, long value);
void outbound_set_pointer(struct bk_outbound_call *call, CURLoption option, const void *value);
void outbound_set_large(struct bk_outbound_call *call, CURLoption option, size_t value);
void outbound_set_slice(struct bk_outbound_call *call, CURLoption option, struct bk_slice value);
void outbound_add_line(struct bk_outbound_call *call, struct curl_slist **list, const char *line);

void outbound_web_prepare(struct bk_outbound_call *call);
void outbound_mail_prepare(struct bk_outbound_call *call);
/* Refused by a reply: libcurl's code only says at which step. */
bool outbound_mail_was_refused(const struct bk_outbound_call *call, CURLcode code);

/* --- addresses -------------------------------------------------------------------------------- */

void outbound_gate_prepare(struct bk_outbound_call *call);
/* Ends the worker's connections as far as reading and writing goes: who waits on one, wakes. Any
 * thread. */
void outbound_gate_interrupt(struct outbound_worker *worker);
/* On the worker, between calls: no peer has said or ended anything. */
bool outbound_gate_is_quiet(struct outbound_worker *worker);
/* On the worker: the call's own connection, whatever step it is at. */
void outbound_gate_end(struct bk_outbound_call *call);
/* Likewise of a mail, as far as reading goes: libcurl says QUIT and waits for nothing. */
void outbound_gate_stop_reading(struct bk_outbound_call *call);
bool outbound_may_reach(const struct bk_outbound_policy *policy, bool is_plain,
                        const uint8_t address[16]);
bool outbound_may_reach_port(const struct bk_outbound_policy *policy, int port);

/* --- texts ------------------------------------------------------------------------------------ */

/* A peer's words, for logs and records: printable, whole characters. The length that is left. */
size_t outbound_text_tidy(char *text, size_t length);
/* No control characters. */
bool outbound_text_is_line(struct bk_slice text);
/* Whether it can be written on the wire as it is; not whether the URL has a meaning. */
bool outbound_web_is_sendable(const struct bk_outbound_request *request);
bool outbound_mail_is_sendable(const struct bk_smtp *smtp);

enum bk_status outbound_url_parse(struct bk_slice text, CURLU **url, bool *is_plain,
                                  enum bk_outbound_failure *failure, struct bk_error *error);
enum bk_status outbound_mail_url(const struct bk_smtp *smtp, CURLU **url, struct bk_error *error);
/* "https://example.com:443"; of a mail its security is part of it. */
void outbound_url_host_key(struct bk_buffer *key, CURLU *url, const struct bk_smtp *smtp);
/* Of a name's last two labels: whose name servers may hang together. */
uint64_t outbound_url_domain_hash(CURLU *url, bool *has_address);

enum bk_outbound_failure outbound_failure_of(CURLcode code);
const char *outbound_failure_text(enum bk_outbound_failure failure);

#endif
