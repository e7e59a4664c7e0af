/*
 * What a write removed. A rule of a record may speak of others that went with it: the messages of
 * a room are for its members, and a room takes both along. When the deletion of a message is
 * judged, its members are in no table any more; they are read from their own events.
 *
 *   bus ─ a commit: each write with several deletions ─> gone ─ each of its events ─> asked of
 *                                                                                     both
 *
 * Rows that are gone and rows that are there in one table would be read from end to end for each
 * question. So it is asked of what is gone alone, in place of the tables that it joins, and of what
 * is there alone; only where the latter says yes by itself, of both together. (Where nothing is
 * left, a field of it is null, which some rules take for the empty id of a guest.)
 *
 * Events of one actor and one time, side by side, are one write. Kept until its last event is sent.
 * More than ROWS_MAX rows of one collection are not looked at, since each question would go through
 * them. What is read from the journal later (replay.c) asks what there is.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"

enum {
    EVENTS_MAX = 20 * 1000,
    TABLES_MAX = 8,
    ROWS_MAX = 500,
    ROWS_BYTES_MAX = 4 * 1024 * 1024,
    ARENA_BYTES_MAX = 64 * 1024 * 1024,
};

struct realtime_gone {
    struct bk_list link;
    uint64_t first, last; /* of the write */
    uint32_t event_count;
    /* Rows that were asked for, by a schema. */
    uint64_t generation;
    struct bk_arena arena;
    struct bk_former_rows tables[TABLES_MAX];
    uint32_t table_count;
    struct bk_event *events[]; /* deletions, referred to */
};

/* --- from the bus ----------------------------------------------------------------------------- */

static bool is_deletion(const struct bk_event *event) {
    return bk_slice_ends_with(event->fields.type, BK_SLICE(".deleted"));
}

/* Those of one write. */
static void keep(struct realtime_tenant *own, struct bk_event *const *events, size_t event_count) {
    uint32_t count = 0;
    for (size_t i = 0; i < event_count; i++)
        count += is_deletion(events[i]) ? 1 : 0;
    if (count < 2 || count > EVENTS_MAX)
        return;
    struct realtime_gone *gone = bk_alloc_zero(sizeof *gone + count * sizeof(struct bk_event *));
    gone->first = events[0]->fields.sequence;
    gone->last = events[event_count - 1]->fields.sequence;
    for (size_t i = 0; i < event_count; i++)
        if (is_deletion(events[i]))
            gone->events[gone->event_count++] = bk_event_ref(events[i]);
    bk_arena_init(&gone->arena, ARENA_BYTES_MAX);
    bk_list_init(&gone->link);
    bk_list_push(&own->gone, &gone->link);
}

static bool is_of_one_write(const struct bk_event *one, const struct bk_event *other) {
    return one->fields.timestamp_ms == other->fields.timestamp_ms &&
           bk_slice_equal(one->fields.actor, other->fields.actor);
}

void realtime_gone_keep(struct realtime_tenant *own, struct bk_event *const *events,
                        size_t event_count) {
    if (bk_interests_count(own->interests) == 0)
        return;
    for (size_t start = 0, end; start < event_count; start = end) {
        for (end = start + 1; end < event_count && is_of_one_write(events[start], events[end]);)
            end++;
        keep(own, events + start, end - start);
    }
}

static void destroy(struct realtime_gone *gone) {
    bk_list_remove(&gone->link);
    for (uint32_t i = 0; i < gone->event_count; i++)
        bk_event_unref(gone->events[i]);
    bk_arena_fini(&gone->arena);
    bk_free(gone);
}

void realtime_gone_forget(struct realtime_tenant *own, uint64_t before) {
    BK_LIST_FOR_EACH(node, &own->gone) {
        struct realtime_gone *gone = bk_container_of(node, struct realtime_gone, link);
        if (gone->last < before)
            destroy(gone);
    }
}

struct realtime_gone *realtime_gone_of(struct realtime_tenant *own, uint64_t sequence) {
    BK_LIST_FOR_EACH(node, &own->gone) {
        struct realtime_gone *gone = bk_container_of(node, struct realtime_gone, link);
        if (gone->first <= sequence && sequence <= gone->last)
            return gone;
    }
    return NULL;
}

/* --- rows, on a reader ------------------------------------------------------------------------ */

static void write_value(const struct bk_value *value, struct bk_buffer *out) {
    switch (value->type) {
    case BK_VALUE_NULL:
        bk_buffer_append_literal(out, "null");
        return;
    case BK_VALUE_INT:
        bk_json_write_int(out, value->integer);
        return;
    case BK_VALUE_REAL:
        bk_json_write_double(out, value->real);
        return;
    case BK_VALUE_TEXT:
        bk_json_write_string(out, value->text);
        return;
    }
}

/* What an event left out for its size, or never has, is empty. */
static bool write_row(const struct bk_collection *collection, const struct bk_event *event,
                      struct bk_arena *arena, struct bk_buffer *out) {
    struct bk_json *payload = NULL, *hidden = NULL;
    if (bk_json_parse(arena, event->fields.payload, &payload, NULL) != BK_OK ||
        (event->fields.hidden.length > 0 &&
         bk_json_parse(arena, event->fields.hidden, &hidden, NULL) != BK_OK))
        return false;
    bk_buffer_append_char(out, '[');
    for (uint32_t i = 0; i < collection->field_count; i++) {
        const struct bk_field *field = &collection->fields[i];
        const struct bk_json *json = bk_json_get(payload, field->name);
        struct bk_value value;
        if (json == NULL)
            json = bk_json_get(hidden, field->name);
        if (json == NULL)
            field->type->empty(field, &value);
        else
            value = realtime_value_of(field, json);
        if (i > 0)
            bk_buffer_append_char(out, ',');
        write_value(&value, out);
    }
    bk_buffer_append_char(out, ']');
    return true;
}

static bool is_of(const struct bk_event *event, const struct bk_collection *collection) {
    return bk_slice_equal(event->fields.type, collection->event_types[REALTIME_DELETED]) &&
           bk_slice_equal(event->fields.source, collection->source);
}

/* rows stays empty when there are none, or too many. */
static struct bk_slice make_rows(struct realtime_gone *gone,
                                 const struct bk_collection *collection) {
    struct bk_arena scratch;
    struct bk_buffer out;
    uint32_t count = 0;
    bool is_whole = true;
    bk_arena_init(&scratch, ARENA_BYTES_MAX);
    bk_buffer_init(&out, ROWS_BYTES_MAX);
    bk_buffer_append_char(&out, '[');
    for (uint32_t i = 0; i < gone->event_count && is_whole; i++) {
        if (!is_of(gone->events[i], collection))
            continue;
        if (count++ > 0)
            bk_buffer_append_char(&out, ',');
        is_whole = count <= ROWS_MAX && write_row(collection, gone->events[i], &scratch, &out) &&
                   !out.is_overflown;
        bk_arena_reset(&scratch);
    }
    bk_buffer_append_char(&out, ']');
    struct bk_slice rows = BK_SLICE_EMPTY;
    if (is_whole && count > 0)
        rows = bk_arena_copy(&gone->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    bk_arena_fini(&scratch);
    return rows;
}

static struct bk_slice rows_of(struct realtime_gone *gone, const struct bk_collection *collection) {
    for (uint32_t i = 0; i < gone->table_count; i++)
        if (gone->tables[i].collection == collection)
            return gone->tables[i].rows;
    struct bk_slice rows = make_rows(gone, collection);
    if (gone->table_count < TABLES_MAX)
        gone->tables[gone->table_count++] =
            (struct bk_former_rows){.collection = collection, .rows = rows};
    return rows;
}

enum bk_status realtime_gone_ask(struct realtime_gone *gone,
                                 const struct realtime_question *question,
                                 struct bk_connection *connection, const struct bk_value *values) {
    const struct bk_collection *joined[TABLES_MAX];
    struct bk_former_rows tables[TABLES_MAX];
    uint32_t table_count = 0;
    uint32_t joined_count = bk_question_tables(&question->question, joined, TABLES_MAX);
    if (gone->generation != bk_schema_generation(question->schema)) {
        gone->generation = bk_schema_generation(question->schema);
        gone->table_count = 0;
        bk_arena_reset(&gone->arena);
    }
    for (uint32_t i = 0; i < joined_count; i++) {
        struct bk_slice rows = rows_of(gone, joined[i]);
        if (rows.length > 0)
            tables[table_count++] = (struct bk_former_rows){.collection = joined[i], .rows = rows};
    }
    const struct bk_question *asked = &question->question;
    if (table_count == 0)
        return bk_question_ask_values(asked, connection, values);
    enum bk_status status =
        bk_question_ask_former(asked, connection, values, tables, table_count, false);
    if (status != BK_NOT_FOUND)
        return status;
    status = bk_question_ask_values(asked, connection, values);
    return status == BK_OK
               ? bk_question_ask_former(asked, connection, values, tables, table_count, true)
               : status;
}
