/*
 * What a command needs that follows the journal, page by page, by the server's router:
 *
 *   begin ─> [ask for where to start] ─> next ─> its events are dealt with ─> move ─┐
 *                                        ^ long polls ──────────────────────────────┘
 *
 * The cursor is moved on behind what was dealt with, so whoever goes on from it may see an event
 * twice and misses none. A server that goes away is waited for, and the reason told. Ctrl-C ends
 * the program where it stands, with the cursor as its last words: a blocking call cannot be left in
 * any other way, and nothing is open but sockets. So there is one of these in a process.
 */
#ifndef BAKEND_FOLLOW_H
#define BAKEND_FOLLOW_H

#include "bakend/command.h"
#include "bakend/feed.h"

enum {
    BK_FOLLOW_CURSOR_BYTES = 64, /* a cursor, a word or a time, and a NUL */
    BK_FOLLOW_PAGE_EVENTS = 100,
    BK_FOLLOW_RETRY_MS = 500, /* from one attempt at who is away to the next */
};

struct bk_follow {
    struct bk_command_context *command;
    /* The flags of the same names, borrowed; NULL: any. */
    const char *types, *subject, *filter;
    char cursor[BK_FOLLOW_CURSOR_BYTES]; /* where it stands; see bk_follow_move */
    bool has_after;                      /* --after was given, and is the cursor */
    const struct bk_json *page;          /* the answer to the last call, while there is no next */
    /* Its own. */
    bool is_away;
    struct bk_buffer flags, answer;
    struct bk_arena arena; /* of the page */
};

void bk_follow_init(struct bk_follow *follow, struct bk_command_context *command);
void bk_follow_fini(struct bk_follow *follow);

/* Of the command line. */
enum bk_follow_flag {
    BK_FOLLOW_FLAG_TAKEN,
    BK_FOLLOW_FLAG_WRONG, /* what is wrong was said */
    BK_FOLLOW_FLAG_OTHER  /* none of --types, --subject, --filter, --after with a value */
};
enum bk_follow_flag bk_follow_read_flag(struct bk_follow *follow, int *index, int argument_count,
                                        char **arguments);

/* Before the first call, and when its flags were read. False: they are too long, which was said.
 * From now on Ctrl-C and SIGTERM end the program with the cursor, where a server runs; a directory
 * that is opened in this process has its own way of ending. */
bool bk_follow_begin(struct bk_follow *follow);
/* One page of /api/events, with the flags; after: a cursor or a word, more: further parameters, as
 * "&order=desc", or "". 200 and the page; other HTTP statuses, for bk_follow_say_refusal; -1:
 * nobody answered, or the answer cannot be read. */
int bk_follow_ask(struct bk_follow *follow, const char *after, uint32_t limit, const char *more);
/* The next page behind the cursor, of at most so many events. waits: it is a long poll, and a
 * server that is away is waited for. As bk_follow_ask. */
int bk_follow_next(struct bk_follow *follow, uint32_t limit, bool waits);
/* All up to it was dealt with. */
void bk_follow_move(struct bk_follow *follow, struct bk_slice cursor);
/* The first event of the page; its siblings follow. NULL: it has none. */
const struct bk_json *bk_follow_first(const struct bk_follow *follow);
/* The page's "next". */
struct bk_slice bk_follow_page_end(const struct bk_follow *follow);
bool bk_follow_has_more(const struct bk_follow *follow);

/* Why a call was answered with another status than 200, field by field where the answer has some.
 * Of a status below 0 nothing is said. */
void bk_follow_say_refusal(const struct bk_follow *follow, int status);
/* "bakend: go on with --after …" */
void bk_follow_say_end(const struct bk_follow *follow);

#endif
