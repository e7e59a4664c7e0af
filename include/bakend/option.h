/*
 * Options as rows of a table: what a module (or the server) can be told, in three spellings of one
 * name:
 * --retention-max-bytes, retentionMaxBytes, BAKEND_RETENTION_MAX_BYTES.
 */
#ifndef BAKEND_OPTION_H
#define BAKEND_OPTION_H

#include <stddef.h>
#include <stdint.h>

enum bk_option_type {
    BK_OPTION_TEXT,     /* const char * */
    BK_OPTION_INT,      /* int64_t, within minimum..maximum */
    BK_OPTION_BOOL,     /* bool */
    BK_OPTION_BYTES,    /* int64_t; "64MiB", "10GB", "4096" */
    BK_OPTION_DURATION, /* int64_t milliseconds; "30d", "12h", "5m", "10s", "250ms" */
    BK_OPTION_SECRET,   /* const char *, never shown and not to be given as a flag */
};

struct bk_option {
    const char *name; /* as on the command line, without the dashes: "retention-max-bytes" */
    enum bk_option_type type;
    size_t offset;             /* in the options struct */
    const char *default_value; /* as text; NULL: none */
    int64_t minimum, maximum;  /* for numbers; both 0: any */
    const char *argument;      /* in the help: "BYTES" */
    const char *help;          /* a sentence */
    /* For texts: what the value must be ("must be a name"), or NULL when it is that. NULL: any. */
    const char *(*refuse)(const char *text);
};

#endif
