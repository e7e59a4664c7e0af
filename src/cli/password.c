/*
 * A password: typed without echo on a terminal, else the first line of standard input. While it is
 * typed Ctrl-C is read as a character like any other, so that no signal can leave the terminal
 * silent.
 */
#include "cli_private.h"

#include <errno.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

enum { CONTROL_C = 3, CONTROL_D = 4 };

/* One character; -1 at the end of the input. */
static int read_character(void) {
    unsigned char character;
    ssize_t count;
    do
        count = read(STDIN_FILENO, &character, 1);
    while (count < 0 && errno == EINTR);
    return count == 1 ? character : -1;
}

/* Up to the end of the line, not kept. False when nothing came, or when the input was cancelled. */
static bool read_line(struct bk_buffer *out, bool is_terminal) {
    int character;
    while ((character = read_character()) >= 0 && character != '\n' && character != '\r') {
        if (is_terminal && (character == CONTROL_C || character == CONTROL_D))
            return false;
        bk_buffer_append_char(out, (char)character);
    }
    return out->length > 0 && !out->is_overflown;
}

bool cli_read_password(struct bk_buffer *out) {
    struct termios former;
    bool is_terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &former) == 0;
    if (!is_terminal)
        return read_line(out, false);
    struct termios silent = former;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
    fprintf(stderr, "Password: ");
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) != 0)
        return false;
    bool is_given = read_line(out, true);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &former);
    fprintf(stderr, "\n");
    return is_given;
}
