/* The outcome of changes of records whose requests may be sent again: see bakend/retry.h. */
#ifndef RETRY_H
#define RETRY_H

#include "bakend/retry.h"
#include "record_change.h"

/* On the writer. Appends the element of a change that was done. */
enum bk_status collections_retry_note(const struct record_change *change,
                                      struct bk_buffer *outcome);
/* The answer to a change that was done before into change->request->out: the record as it is now.
 * Of one that is gone, or has changed to what the actor may not view, only the id. */
enum bk_status collections_retry_show(struct record_change *change,
                                      struct bk_transaction *transaction,
                                      const struct bk_json *element, int *http_status);

#endif
