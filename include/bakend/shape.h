/*
 * Objects whose members are known: settings, and the options of auth collections, which clients
 * read as a whole and change in part.
 *
 * A shape says which members there are, of which type, and what each is until somebody says
 * otherwise. One laying of what was given over what was there makes the whole again, in the shape's
 * order; members that the shape does not know are dropped. Secrets are in the whole and in nothing
 * that is shown.
 */
#ifndef BAKEND_SHAPE_H
#define BAKEND_SHAPE_H

#include "bakend/json.h"

enum bk_shape_type {
    BK_SHAPE_BOOL,
    BK_SHAPE_INT,
    BK_SHAPE_TEXT,
    BK_SHAPE_SECRET,     /* a text that is never shown */
    BK_SHAPE_GENERATED,  /* the same, made at random when there is none */
    BK_SHAPE_MAYBE_BOOL, /* or null */
    BK_SHAPE_MAYBE_TEXT,
    BK_SHAPE_MAP,     /* an object of any members, or null */
    BK_SHAPE_TEXTS,   /* a list */
    BK_SHAPE_OBJECT,  /* of a shape */
    BK_SHAPE_OBJECTS, /* a list of objects of a shape */
};

enum { BK_SHAPE_GENERATED_BYTES = 50 };

struct bk_shape;
struct bk_shape_member {
    const char *name;
    enum bk_shape_type type;
    const char *fallback;         /* JSON; NULL: false, 0, "", null or [] */
    const struct bk_shape *shape; /* of BK_SHAPE_OBJECT and BK_SHAPE_OBJECTS */
};
struct bk_shape {
    const struct bk_shape_member *members;
    size_t count;
    /* In a list: the member by which an object is the same as one that was there, whose members it
     * keeps where it gives none. NULL: by its place in the list. */
    const char *key;
};

/* Appends the whole: given (an object, or NULL) over former (a whole of this shape, or NULL). A
 * null takes the place of an optional value and empties a list; anything else it leaves as it was.
 * BK_INVALID: a member of another type, named in error. */
enum bk_status bk_shape_lay(const struct bk_shape *shape, const struct bk_json *given,
                            const struct bk_json *former, struct bk_buffer *out,
                            struct bk_error *error);
/* A fresh secret, as BK_SHAPE_GENERATED makes it; no NUL. */
void bk_shape_generate(char secret[BK_SHAPE_GENERATED_BYTES]);
/* Appends the members of a whole without its secrets, each preceded by a comma unless out ends in
 * '{' or is empty. */
void bk_shape_write_members(const struct bk_shape *shape, const struct bk_json *whole,
                            struct bk_buffer *out);

#endif
