/*
 * Records as they are shown. See show.h.
 *
 * Who may manage a record is asked only where it makes a difference: of one with an email address
 * that is neither shown nor the asker's own. An empty manage rule makes nobody a manager.
 *
 * A path of `expand` that leads nowhere is dropped when a record is met from which it was to be
 * followed, as the contract has it; what was written with it by then is written once more.
 */
#include "show_private.h"

struct bk_show {
    struct show_face face;
    struct expand_tree *expand; /* NULL: nothing is asked for */
};

/* --- faces ------------------------------------------------------------------------------------ */

enum bk_status show_face_make(struct show_face *face, struct bk_arena *arena,
                              const struct bk_asker *asker,
                              const struct bk_collection *collection) {
    *face = (struct show_face){.collection = collection,
                               .actor = asker->actor,
                               .view = bk_rules_view(asker->actor, collection)};
    if (collection->type != BK_COLLECTION_AUTH || face->view != BK_VIEW_PUBLIC ||
        bk_rules_authorize(asker->actor, collection, BK_MAY_MANAGE) != BK_ASKED)
        return BK_OK;
    face->asks_manager = true;
    return bk_question_make(&face->manager, arena, asker, collection,
                            collection->rules[BK_MAY_MANAGE], BK_QUESTION_OF_STORED);
}

static bool is_own(const struct show_face *face, struct bk_slice id) {
    return face->actor->kind == BK_ACTOR_RECORD && bk_slice_equal(face->actor->id, id) &&
           bk_slice_equal(face->actor->collection_id, face->collection->id);
}

static enum bk_status choose_view(const struct show_face *face, struct bk_connection *connection,
                                  const struct bk_value *values, enum bk_view *view) {
    struct bk_slice id = values[face->collection->id_field->index].text;
    *view = face->view;
    if (*view != BK_VIEW_PUBLIC || !bk_record_hides_email(face->collection, values))
        return BK_OK;
    if (is_own(face, id)) {
        *view = BK_VIEW_OWNER;
        return BK_OK;
    }
    if (!face->asks_manager)
        return BK_OK;
    enum bk_status status = bk_question_ask(&face->manager, connection, id);
    if (status == BK_OK)
        *view = BK_VIEW_OWNER;
    return status == BK_NOT_FOUND ? BK_OK : status;
}

enum bk_status show_face_write(const struct show_face *face, struct bk_connection *connection,
                               const struct bk_value *values, struct bk_buffer *out) {
    enum bk_view view;
    enum bk_status status = choose_view(face, connection, values, &view);
    if (status == BK_OK)
        bk_record_write_json(face->collection, values, view, out);
    return status;
}

/* --- a record and what comes along with it ---------------------------------------------------- */

enum bk_status bk_show_make(struct bk_show **show, struct bk_arena *arena,
                            const struct bk_asker *asker, const struct bk_collection *collection,
                            struct bk_slice expand) {
    struct bk_show *made = bk_arena_alloc_zero(arena, sizeof *made);
    if (arena->is_overflown)
        return bk_arena_status(arena);
    *show = made;
    enum bk_status status = show_face_make(&made->face, arena, asker, collection);
    return status == BK_OK ? expand_make(&made->expand, arena, asker, collection, expand) : status;
}

bool bk_show_needs_tables(const struct bk_show *show) {
    return show->face.asks_manager || show->expand != NULL;
}

static enum bk_status write_once(struct bk_show *show, struct bk_connection *connection,
                                 const struct bk_value *values, struct bk_buffer *out) {
    enum bk_status status = show_face_write(&show->face, connection, values, out);
    if (status != BK_OK || show->expand == NULL || out->is_overflown)
        return status;
    out->length--; /* the brace: one more member comes */
    status = expand_write(show->expand, connection, values, out);
    bk_buffer_append_char(out, '}');
    return status;
}

enum bk_status bk_show_write(struct bk_show *show, struct bk_connection *connection,
                             const struct bk_value *values, struct bk_buffer *out) {
    size_t length = out->length;
    uint32_t dropped = bk_show_dropped(show);
    enum bk_status status = write_once(show, connection, values, out);
    if (status != BK_OK || dropped == bk_show_dropped(show) || out->is_overflown)
        return status;
    out->length = length;
    return write_once(show, connection, values, out);
}

uint32_t bk_show_dropped(const struct bk_show *show) {
    return show->expand == NULL ? 0 : expand_dropped(show->expand);
}
