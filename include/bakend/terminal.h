/* What commands print, on a terminal or into a pipe. */
#ifndef BAKEND_TERMINAL_H
#define BAKEND_TERMINAL_H

#include "bakend/slice.h"

#include <stdint.h>

/* UTF-8 on standard output; of what a terminal may obey (control characters, DEL and C1) there is a
 * question mark. */
void bk_terminal_print(struct bk_slice text);
/* Local time, "2026-11-23 01:31:01.042". */
void bk_terminal_print_time(int64_t wall_ms);
/* The start of a text, at most so many bytes, and not up to the middle of a character. */
struct bk_slice bk_terminal_shorten(struct bk_slice text, size_t bytes_max);
/* What was printed is on its way. False: nobody reads it any more, or it cannot be written, which
 * is said. */
bool bk_terminal_flush(void);

#endif
