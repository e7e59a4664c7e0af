/* The wall clock of the program under test is the real one and an offset. */
#include "support.h"

#include "bakend/clock.h"

static int64_t offset_ms;

static void apply(int64_t new_offset_ms) {
    offset_ms = new_offset_ms;
    bk_clock_set_offset_ms(offset_ms);
}

void support_clock_set(int64_t wall_ms) { apply(offset_ms + wall_ms - bk_clock_wall_ms()); }

void support_clock_advance(int64_t by_ms) { apply(offset_ms + by_ms); }

void support_clock_reset(void) { apply(0); }
