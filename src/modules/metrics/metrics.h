/* What the files of this module share. */
#ifndef BAKEND_METRICS_H
#define BAKEND_METRICS_H

#include "bakend/module.h"

struct metrics_state {
    struct bk_metrics_source source;
    const struct bk_module_context *context;
};

/* figures.c: the store's, the events', the process's. */
void metrics_write_store(const struct bk_module_context *context, struct bk_buffer *out);
void metrics_write_events(const struct bk_module_context *context, struct bk_buffer *out);
void metrics_write_process(const struct bk_module_context *context, struct bk_buffer *out);

#endif
