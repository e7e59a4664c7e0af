/* Flags of commands, as they are written on a command line. */
#include "bakend/command.h"

#include <stdio.h>
#include <string.h>

const char *bk_command_flag_value(const char *name, int *index, int argument_count,
                                  char **arguments) {
    size_t length = strlen(name);
    const char *argument = arguments[*index];
    if (strncmp(argument, name, length) != 0)
        return NULL;
    if (argument[length] == '=')
        return argument + length + 1;
    if (argument[length] != '\0')
        return NULL;
    if (*index + 1 >= argument_count) {
        fprintf(stderr, "bakend: %s needs a value behind it\n", name);
        return NULL;
    }
    return arguments[++*index];
}
