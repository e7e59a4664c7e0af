/* What the other files of the platform need to know of a loop beyond its public face. */
#ifndef BAKEND_PLATFORM_LOOP_PRIVATE_H
#define BAKEND_PLATFORM_LOOP_PRIVATE_H

#include "bakend/loop.h"

/* Outside of bk_loop_run the cached time stands still. Whoever starts something timed calls this
 * first; during a turn it does nothing, so that a turn has one time. */
void loop_refresh_idle_time(struct bk_loop *loop);

#endif
