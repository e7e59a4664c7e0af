/*
 * An account whose address was never verified may have been made by a stranger, in the name of its
 * owner and before them. When the owner comes, by a mail or an account elsewhere that proves the
 * address, what the stranger could come back by goes: accounts elsewhere that are linked, an
 * authenticator app. Passwords, sessions and codes go with the token key.
 */
#include "auth.h"

enum bk_status auth_stranger_remove(struct bk_transaction *transaction,
                                    const struct bk_schema *schema,
                                    const struct bk_collection *collection, struct bk_slice id) {
    const struct auth_owner owner = {collection->id, id};
    const struct auth_fact fact = {.type = "auth.mfa_disabled",
                                   .collection = collection->name,
                                   .id = id,
                                   .texts = {{"method", BK_SLICE("totp")}}};
    bool was_on = false;
    enum bk_status status = auth_rows_remove_of(transaction, schema, "_externalAuths", &owner);
    if (status == BK_OK)
        status = auth_totp_remove(transaction, schema, &owner, &was_on);
    if (status == BK_NOT_FOUND)
        return BK_OK;
    return status == BK_OK && was_on ? auth_event_emit(transaction, &fact) : status;
}
