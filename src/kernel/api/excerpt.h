/* `:excerpt` of the parameter `fields`: the beginning of a text without its HTML. */
#ifndef API_EXCERPT_H
#define API_EXCERPT_H

#include "bakend/arena.h"
#include "bakend/buffer.h"

/* Appends at most max characters of what a reader of the page would see; with "..." behind them
 * when it was longer and has_ellipsis. html: valid UTF-8. */
void api_excerpt(struct bk_slice html, size_t max, bool has_ellipsis, struct bk_buffer *out);

/* What `&name;` stands for; 0 when there is no such name. (entities.c) */
uint32_t api_entity(struct bk_slice name);

#endif
