/* What show.c and expand.c share. */
#ifndef SHOW_PRIVATE_H
#define SHOW_PRIVATE_H

#include "bakend/show.h"

/* --- show.c ----------------------------------------------------------------------------------- */

/* The records of one collection, as who asks gets to see them. */
struct show_face {
    const struct bk_collection *collection;
    const struct bk_actor *actor;
    enum bk_view view;
    bool asks_manager; /* an expression says who sees email addresses */
    struct bk_question manager;
};

enum bk_status show_face_make(struct show_face *face, struct bk_arena *arena,
                              const struct bk_asker *asker, const struct bk_collection *collection);
enum bk_status show_face_write(const struct show_face *face, struct bk_connection *connection,
                               const struct bk_value *values, struct bk_buffer *out);

/* --- expand.c --------------------------------------------------------------------------------- */

struct expand_tree;

/* *tree is NULL when nothing is asked for. BK_LIMIT past BK_EXPAND_NODES_MAX; else as
 * bk_show_make. */
enum bk_status expand_make(struct expand_tree **tree, struct bk_arena *arena,
                           const struct bk_asker *asker, const struct bk_collection *collection,
                           struct bk_slice paths);
/* Appends `,"expand":{…}` to the members of a record, unless no path is left. */
enum bk_status expand_write(struct expand_tree *tree, struct bk_connection *connection,
                            const struct bk_value *values, struct bk_buffer *out);
/* Of paths that were met and lead nowhere. */
uint32_t expand_dropped(const struct expand_tree *tree);

#endif
