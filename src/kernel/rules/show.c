/* See show.h. Who may manage a record is asked only where it makes a difference: of one with an
 * email address that is neither shown nor the asker's own. */
#include "bakend/show.h"

struct bk_show {
    const struct bk_collection *collection;
    const struct bk_actor *actor;
    enum bk_view view;
    bool asks_manager; /* an expression says who sees email addresses */
    struct bk_question manager;
};

/* --- making ----------------------------------------------------------------------------------- */

static enum bk_status make_manager(struct bk_show *show, struct bk_arena *arena,
                                   const struct bk_asker *asker) {
    if (show->collection->type != BK_COLLECTION_AUTH || show->view != BK_VIEW_PUBLIC)
        return BK_OK;
    switch (bk_rules_authorize(asker->actor, show->collection, BK_MAY_MANAGE)) {
    case BK_DENIED:
        return BK_OK;
    case BK_ALLOWED:
        show->view = BK_VIEW_OWNER;
        return BK_OK;
    case BK_ASKED:
        break;
    }
    show->asks_manager = true;
    return bk_question_make(&show->manager, arena, asker, show->collection,
                            show->collection->rules[BK_MAY_MANAGE], BK_QUESTION_OF_STORED);
}

enum bk_status bk_show_make(struct bk_show **show, struct bk_arena *arena,
                            const struct bk_asker *asker, const struct bk_collection *collection,
                            struct bk_slice expand) {
    (void)expand;
    struct bk_show *made = bk_arena_alloc_zero(arena, sizeof *made);
    if (arena->is_overflown)
        return bk_arena_status(arena);
    made->collection = collection;
    made->actor = asker->actor;
    made->view = bk_rules_view(asker->actor, collection);
    *show = made;
    return make_manager(made, arena, asker);
}

bool bk_show_needs_tables(const struct bk_show *show) { return show->asks_manager; }

/* --- writing ---------------------------------------------------------------------------------- */

static bool is_own(const struct bk_show *show, struct bk_slice id) {
    return show->actor->kind == BK_ACTOR_RECORD && bk_slice_equal(show->actor->id, id) &&
           bk_slice_equal(show->actor->collection_id, show->collection->id);
}

static enum bk_status choose_view(const struct bk_show *show, struct bk_connection *connection,
                                  const struct bk_value *values, enum bk_view *view) {
    struct bk_slice id = values[show->collection->id_field->index].text;
    *view = show->view;
    if (*view != BK_VIEW_PUBLIC || !bk_record_hides_email(show->collection, values))
        return BK_OK;
    if (is_own(show, id)) {
        *view = BK_VIEW_OWNER;
        return BK_OK;
    }
    if (!show->asks_manager)
        return BK_OK;
    enum bk_status status = bk_question_ask(&show->manager, connection, id);
    if (status == BK_OK)
        *view = BK_VIEW_OWNER;
    return status == BK_NOT_FOUND ? BK_OK : status;
}

enum bk_status bk_show_write(struct bk_show *show, struct bk_connection *connection,
                             const struct bk_value *values, struct bk_buffer *out) {
    enum bk_view view;
    enum bk_status status = choose_view(show, connection, values, &view);
    if (status == BK_OK)
        bk_record_write_json(show->collection, values, view, out);
    return status;
}
