/*
 * What the files of this module share.
 *
 *   model.c        definitions → collections in order, each with the name of its types
 *   name.c         names and texts as TypeScript has them
 *   declaration.c  what is declared once: helpers, maps, the typed client
 *   record.c       what is declared for each collection
 *   module.c       the command
 */
#ifndef TYPES_PRIVATE_H
#define TYPES_PRIVATE_H

#include "bakend/json.h"
#include "bakend/module.h"

enum {
    TYPES_TEXT_BYTES_MAX = 64 * 1024 * 1024,
    TYPES_ARENA_BYTES_MAX = 256 * 1024 * 1024,
    TYPES_NAME_BYTES_MAX = 300,
};

struct types_collection {
    const struct bk_json *definition;
    struct bk_slice name, id;
    struct bk_slice type; /* "BlogPosts": the beginning of the names of its types */
    bool is_auth, is_view;
};

struct types_model {
    struct types_collection *collections; /* in the order of names */
    size_t count;
    struct bk_arena *arena;
};

/* definitions: linked by next; borrowed. */
void types_model_init(struct types_model *model, const struct bk_json *definitions,
                      struct bk_arena *arena);
/* NULL: none has this id. */
const struct types_collection *types_model_find(const struct types_model *model,
                                                struct bk_slice id);
/* Of a definition; NULL when there are none. */
const struct bk_json *types_fields(const struct types_collection *collection);
bool types_field_is(const struct bk_json *field, const char *type);
bool types_flag(const struct bk_json *object, const char *name);
/* More than one value: files, relations, choices. */
bool types_is_multiple(const struct bk_json *field);
/* Whether at most one record of the collection has the same value: a unique index on it alone. */
bool types_is_unique(const struct types_collection *collection, struct bk_slice field);

/* "blog_posts" → "BlogPosts". */
struct bk_slice types_name(struct bk_arena *arena, struct bk_slice name);
/* A key as it is, or in quotes. suffix: "+" … */
void types_write_key(struct bk_buffer *out, const char *prefix, struct bk_slice name,
                     const char *suffix);

/* One after the other. */
void types_write_head(struct bk_buffer *out);
void types_write_collection(struct bk_buffer *out, const struct types_model *model,
                            const struct types_collection *collection);
void types_write_client(struct bk_buffer *out, const struct types_model *model);

#endif
