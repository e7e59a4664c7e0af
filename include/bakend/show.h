/*
 * How records are shown to who asks: hidden fields are for superusers; an email address is shown
 * where its owner shows it, to its owner, and to those who may manage the record; related records
 * come along as `expand` asks for them, as far as their own view rules let them be seen. One way
 * for every door: REST, login, realtime.
 */
#ifndef BAKEND_SHOW_H
#define BAKEND_SHOW_H

#include "bakend/rules.h"

enum {
    BK_EXPAND_DEPTH_MAX = 6,        /* relations of a path; what is asked for beyond is left out */
    BK_EXPAND_NODES_MAX = 100,      /* of all paths, those that begin alike counted once */
    BK_EXPAND_BACK_MAX = 1000,      /* records that refer to one, by posts_via_author */
    BK_EXPAND_BYTES_MAX = 8 * 1024, /* of the parameter */
};

/* What is to be done with each record of a collection. */
struct bk_show;

/* In the arena, with what it borrows of asker. expand: as asked, "author,comments_via_post.author";
 * empty: none. What leads nowhere is left out, as the contract has it. BK_TOO_LARGE: the arena is
 * full; BK_INVALID: a rule no longer fits the schema; BK_LIMIT: expand asks for more than
 * BK_EXPAND_NODES_MAX relations. */
enum bk_status bk_show_make(struct bk_show **show, struct bk_arena *arena,
                            const struct bk_asker *asker, const struct bk_collection *collection,
                            struct bk_slice expand);
/* Whether other rows are looked at, so that it is a reader's or the writer's to do. */
bool bk_show_needs_tables(const struct bk_show *show);
/* Appends the record as a JSON object. connection: NULL when it needs no tables. Any thread, one
 * at a time. */
enum bk_status bk_show_write(struct bk_show *show, struct bk_connection *connection,
                             const struct bk_value *values, struct bk_buffer *out);
/* How many paths of expand were found to lead nowhere. Such a path is not followed from any record
 * of an answer: when the number is another one after a page than before it, the page is to be
 * written once more. */
uint32_t bk_show_dropped(const struct bk_show *show);

#endif
