/*
 * What a change of an auth record means to signing in, whatever door it came through: a route, a
 * batch, a ticket of a mail, the command line. In the transaction of the change, behind its event.
 *
 *   created                        auth.register
 *   a new password or token key    its sessions end, each with auth.session_revoked
 *   verified now                   auth.verified
 *   another address                auth.email_changed
 *   deleted                        its sessions end; other belongings go with the record anyway
 *   another secret of the tokens of its collection, or the end of that
 *                                  all sessions there are over, with auth.sessions_revoked; their
 *                                  rows go behind it (secrets.c)
 *
 * A user who sets a new password is signed out everywhere, also here: whoever stole a session loses
 * it, and so has the contract it.
 */
#include "auth.h"

/* A record, before and after. */
struct change {
    struct bk_transaction *transaction;
    const struct bk_collection *collection;
    const struct bk_value *before, *after;
    struct bk_slice id;
};

static const struct bk_value *value_of(const struct change *change, const struct bk_value *values,
                                       const char *name) {
    const struct bk_field *field = bk_collection_field(change->collection, bk_slice_from(name));
    return field == NULL ? NULL : &values[field->index];
}

static struct bk_slice text_of(const struct change *change, const struct bk_value *values,
                               const char *name) {
    const struct bk_value *value = value_of(change, values, name);
    return value != NULL && value->type == BK_VALUE_TEXT ? value->text : BK_SLICE_EMPTY;
}

static bool is_changed(const struct change *change, const char *name) {
    return !bk_slice_equal(text_of(change, change->before, name),
                           text_of(change, change->after, name));
}

static bool is_on(const struct change *change, const struct bk_value *values, const char *name) {
    const struct bk_value *value = value_of(change, values, name);
    return value != NULL && value->type == BK_VALUE_INT && value->integer != 0;
}

static enum bk_status tell(const struct change *change, const char *type) {
    const struct auth_fact fact = {
        .type = type, .collection = change->collection->name, .id = change->id};
    return auth_event_emit(change->transaction, &fact);
}

static enum bk_status end_sessions(const struct change *change, const char *reason) {
    const struct auth_session_ending ending = {.collection_id = change->collection->id,
                                               .collection = change->collection->name,
                                               .id = change->id,
                                               .reason = reason};
    enum bk_status status = auth_sessions_end(change->transaction, &ending, NULL);
    /* What a superuser lent to himself lives long: it goes with what he could begin it by. */
    if (status != BK_OK || !bk_slice_is(change->collection->name, "_superusers"))
        return status;
    return auth_sessions_end_lent(
        change->transaction,
        bk_arena_format(bk_transaction_arena(change->transaction), "%.*s/%.*s",
                        BK_SLICE_PRINT(change->collection->name), BK_SLICE_PRINT(change->id)));
}

static enum bk_status on_update(const struct change *change) {
    enum bk_status status = BK_OK;
    if (is_changed(change, "password"))
        status = end_sessions(change, "password");
    else if (is_changed(change, "tokenKey"))
        status = end_sessions(change, "tokenKey");
    if (status == BK_OK && is_on(change, change->after, "verified") &&
        !is_on(change, change->before, "verified"))
        status = tell(change, "auth.verified");
    if (status == BK_OK && is_changed(change, "email"))
        status = tell(change, "auth.email_changed");
    return status;
}

enum bk_status auth_on_change(void *user, struct bk_transaction *transaction,
                              const struct bk_collection *collection, const struct bk_value *before,
                              const struct bk_value *after) {
    const struct bk_value *values = after != NULL ? after : before;
    const struct change change = {.transaction = transaction,
                                  .collection = collection,
                                  .before = before,
                                  .after = after,
                                  .id = values[collection->id_field->index].text};
    (void)user;
    if (before == NULL)
        return tell(&change, "auth.register");
    return after == NULL ? end_sessions(&change, "deleted") : on_update(&change);
}

enum bk_status auth_on_collection(void *user, struct bk_transaction *transaction,
                                  const struct bk_collection *before,
                                  const struct bk_collection *after) {
    (void)user;
    if (after == NULL)
        return auth_sessions_tell_all(transaction, before, "deleted");
    if (bk_slice_equal(before->token_secret, after->token_secret))
        return BK_OK;
    return auth_sessions_tell_all(transaction, after, "secret");
}
