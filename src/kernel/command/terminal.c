/* What a terminal is shown is text, whoever wrote it: nothing in it is obeyed. */
#include "bakend/terminal.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

/* C1 is what UTF-8 writes in two bytes: C2 80 to C2 9F. */
void bk_terminal_print(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool is_c1 = c == 0xc2 && i + 1 < text.length && (unsigned char)text.data[i + 1] < 0xa0;
        (void)putchar(c < 0x20 || c == 0x7f || is_c1 ? '?' : c);
        i += is_c1;
    }
}

void bk_terminal_print_time(int64_t wall_ms) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm local;
    char text[32] = "";
    if (localtime_r(&seconds, &local) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local) == 0)
        text[0] = '\0';
    printf("%s.%03d", text, (int)(wall_ms % 1000));
}

struct bk_slice bk_terminal_shorten(struct bk_slice text, size_t bytes_max) {
    if (text.length <= bytes_max)
        return text;
    text.length = bytes_max;
    while (text.length > 0 && ((unsigned char)text.data[text.length] & 0xc0) == 0x80)
        text.length--;
    return text;
}

bool bk_terminal_flush(void) {
    if (fflush(stdout) == 0)
        return true;
    if (errno != EPIPE)
        fprintf(stderr, "bakend: cannot write to standard output\n");
    return false;
}
