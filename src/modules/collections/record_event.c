/* What a change of a record tells others: the event of the kernel's, see bk_record_emit. */
#include "collections.h"

bool collections_value_equal(const struct bk_value *a, const struct bk_value *b) {
    return bk_value_equal(a, b);
}

enum bk_status collections_record_emit(struct bk_transaction *transaction,
                                       const struct bk_collection *collection,
                                       enum collections_change change,
                                       const struct bk_value *values,
                                       const struct bk_value *before) {
    bool is_gone = change == COLLECTIONS_DELETED;
    return bk_record_emit(transaction, collection, is_gone ? values : before,
                          is_gone ? NULL : values);
}
