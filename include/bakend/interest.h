/*
 * Interests: who wants to know of which events. A set of them is indexed by type and subject, so
 * that an event costs those that it concerns and not those that wait: 10,000 interests of which ten
 * match cost what ten cost. A test is asked once for each event, however many interests share it.
 * Positions, realtime and the waiting readers of the change feed each keep sets of their own, one
 * per tenant.
 *
 * On the loop.
 */
#ifndef BAKEND_INTEREST_H
#define BAKEND_INTEREST_H

#include "bakend/event.h"
#include "bakend/list.h"
#include "bakend/status.h"

struct bk_interests; /* a set */

/* What is asked of a whole event, beyond type and subject: a filter, made by who knows of such.
 * Immutable; any thread. */
struct bk_event_test {
    struct bk_slice key; /* those with equal keys are equal */
    bool (*holds)(const struct bk_event_test *test, const struct bk_event_fields *fields);
};

/* Embed it. Texts are borrowed as long as it is in a set. */
struct bk_interest {
    /* The caller's. */
    const struct bk_slice *types; /* patterns; none: "*" */
    size_t type_count;
    struct bk_slice subject;          /* empty: any */
    const struct bk_event_test *test; /* borrowed, too; NULL: none */
    /* The set's. */
    struct bk_interests *set; /* NULL: in none */
    struct interest_entry *entries;
    struct interest_test *shared; /* with all that have an equal test */
    struct bk_list of_shared;
    uint64_t order; /* of adding */
    uint64_t seen;  /* the last match that it was in … */
    uint32_t slot;  /* … and where */
    uint32_t entry_count;
};

struct bk_interests *bk_interests_create(void);
/* It is empty by now. */
void bk_interests_destroy(struct bk_interests *set);
/* BK_INVALID for a wrong pattern. Also during a match: it is not called for that event. */
enum bk_status bk_interests_add(struct bk_interests *set, struct bk_interest *interest);
/* Harmless when it is in no set. Also during a match: it is not called any more, and its memory is
 * not touched again. */
void bk_interests_remove(struct bk_interest *interest);
size_t bk_interests_count(const struct bk_interests *set);
/* What the set takes in memory by now, without the interests themselves and their texts. */
size_t bk_interests_bytes(const struct bk_interests *set);
/* What such an interest would add to it, at most, when its tables grow bit by bit. */
size_t bk_interest_bytes_max(const struct bk_interest *interest);
/* What its tables would grow by now if one more key came into each. */
size_t bk_interests_growth(const struct bk_interests *set);
/* Whether it asks for such an event, in a set or not. */
bool bk_interest_matches(const struct bk_interest *interest, struct bk_slice type,
                         struct bk_slice subject);
/* Calls on_match once for each interest that asks for such an event, however many of its patterns
 * match, in the order in which they were added. Not nested. */
void bk_interests_match(struct bk_interests *set, struct bk_slice type, struct bk_slice subject,
                        void (*on_match)(struct bk_interest *interest, void *user), void *user);
/* The same of a whole event: those with a test are called where it holds. (Without the event they
 * are called whatever their tests say.) */
void bk_interests_match_event(struct bk_interests *set, const struct bk_event_fields *fields,
                              void (*on_match)(struct bk_interest *interest, void *user),
                              void *user);
/* How often tests were asked, ever. */
uint64_t bk_interests_tested(const struct bk_interests *set);

#endif
