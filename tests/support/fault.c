/* Counts passings and picks the one that fails; a test walks n from 1 until a round needs no
 * nth. */
#include "support.h"

bool support_fault_strikes(struct support_fault *fault) {
    fault->pass_count++;
    if (fault->fail_at == 0)
        return false;
    return fault->is_sticky ? fault->pass_count >= fault->fail_at
                            : fault->pass_count == fault->fail_at;
}

bool support_fault_next(struct support_fault *fault) {
    bool has_more = fault->fail_at == 0 || fault->pass_count >= fault->fail_at;
    fault->fail_at++;
    fault->pass_count = 0;
    return has_more;
}
