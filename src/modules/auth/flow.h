/*
 * What the ways by mail have in common: an address is asked for and gets a ticket, a ticket comes
 * back and changes its record. See flow.c.
 */
#ifndef AUTH_FLOW_H
#define AUTH_FLOW_H

#include "auth.h"

enum { AUTH_ADDRESS_BYTES_MAX = 255 /* the contract's */ };

/* --- asking: a mail with a ticket ---- */

struct auth_asking {
    struct bk_write write;
    struct bk_request *request;
    struct bk_schema *schema; /* pinned */
    const struct bk_collection *collection;
    const char *type, *template;
    struct bk_slice email;     /* to find the record by; empty: it is the actor's */
    struct bk_slice new_email; /* that the mail goes to instead; empty: the record's */
    int64_t recent_max;        /* more of them within the pause are quietly left out */
    bool is_for_unverified;    /* who is verified gets none */
    bool is_second;            /* once more, since the schema has changed */
};
/* Answers 204, whether there is such a record or not. The asking is in the request's arena. */
void auth_ask(struct auth_asking *asking);

/* --- confirming: a ticket is used ---- */

/* A problem of the request. */
void auth_confirm_add(struct bk_request *request, const char *field, const char *code,
                      const char *message);
/* Of what was shown: BK_OK, BK_UNAUTHORIZED, or it could not be told. */
enum auth_attempt_outcome auth_confirm_outcome(enum bk_status status);
/* The form's token, judged on the loop: what is wrong with it is a problem of the request. False:
 * the request was answered. */
bool auth_confirm_read(struct bk_request *request, const struct bk_collection *collection,
                       struct bk_slice token, struct auth_ticket *ticket);

/* Zeroed, in the request's arena. */
struct auth_confirming {
    struct bk_write write;
    struct bk_request *request;
    struct auth_ticket ticket;
    struct bk_schema *schema; /* pinned by begin */
    struct bk_origin origin;
    struct bk_slice password; /* the hash of a new one; empty: it stays */
    struct bk_field_work work;
    struct bk_value value;
    struct bk_job job;
    enum bk_status status;       /* of the job */
    struct auth_attempt attempt; /* of a password that is shown */
    /* On the writer, when the ticket was used; credentials: of the record as it is. */
    enum bk_status (*change)(struct auth_confirming *confirming, struct bk_transaction *transaction,
                             const struct auth_credentials *credentials);
    const char *message; /* of what is wrong with the record */
};
/* Before anything that takes time: pins the schema that the ticket was judged by. */
void auth_confirm_begin(struct auth_confirming *confirming, struct bk_request *request);
/* Uses the ticket and answers 204. */
void auth_confirm(struct auth_confirming *confirming);
/* Answers why not. */
void auth_confirm_refuse(struct auth_confirming *confirming, enum bk_status status);

#endif
