/*
 * The one way between threads: a queue of messages that many may post to and one thread takes from.
 * A message is embedded in the sender's own struct and is not copied. Order is kept per sender.
 * The receiver is a loop (its callback runs there) or a thread that waits.
 */
#ifndef BAKEND_MAILBOX_H
#define BAKEND_MAILBOX_H

#include "bakend/loop.h"

struct bk_mailbox;

struct bk_message {
    struct bk_message *next; /* the mailbox's */
    void (*on_message)(
        struct bk_message *self); /* called by a loop mailbox; unused by a thread's */
};

/* A loop mailbox: every wake drains all of it (wakes coalesce). Not bounded itself: it carries
 * answers to requests that were bounded when they were submitted. Does not keep the loop alive. */
struct bk_mailbox *bk_mailbox_create_for_loop(struct bk_loop *loop);
/* On the loop, for who waits for an answer: while true, a loop mailbox does keep the loop alive. */
void bk_mailbox_set_keep_alive(struct bk_mailbox *mailbox, bool keeps_alive);
/* A thread mailbox: at most capacity messages wait. */
struct bk_mailbox *bk_mailbox_create_for_thread(uint32_t capacity);

/* Any thread. BK_OK, BK_BUSY (full) or BK_CLOSING. On failure nothing was taken. */
enum bk_status bk_mailbox_post(struct bk_mailbox *mailbox, struct bk_message *message);

/* The receiving thread: all that waits, oldest first, linked by next; NULL after timeout_ms with
 * nothing (-1 waits for ever, 0 not at all) or when closed and drained. */
struct bk_message *bk_mailbox_take_all(struct bk_mailbox *mailbox, int timeout_ms);
bool bk_mailbox_is_closed(struct bk_mailbox *mailbox);
/* Further posts get BK_CLOSING; what waits can still be taken. */
void bk_mailbox_close(struct bk_mailbox *mailbox);
uint32_t bk_mailbox_length(struct bk_mailbox *mailbox);
/* After close, with no sender left. For a loop mailbox: on the loop; what waits is delivered
 * first. */
void bk_mailbox_destroy(struct bk_mailbox *mailbox);

#endif
