/*
 * LIKE, as SQL has it: % for any text, _ for one character, whatever the case of ASCII letters. One
 * matcher, for statements and for filters that are computed in memory.
 */
#ifndef BAKEND_LIKE_H
#define BAKEND_LIKE_H

#include "bakend/slice.h"

enum { BK_LIKE_NO_ESCAPE = 256, BK_LIKE_LOOK_STEPS = 4096 };

enum bk_like_answer { BK_LIKE_NO, BK_LIKE_YES, BK_LIKE_LATE };

struct bk_like {
    struct bk_slice pattern, text;
    int escape; /* a byte, or BK_LIKE_NO_ESCAPE */
    /* Asked each BK_LIKE_LOOK_STEPS steps whether to give up: a pattern of clients can take long on
     * a long text. NULL: never. */
    bool (*is_late)(void *user);
    void *user;
};
/* Any thread. */
enum bk_like_answer bk_like_match(const struct bk_like *like);

#endif
