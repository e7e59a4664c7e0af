/*
 * Topics of the contract's streams:
 *
 *   posts and posts/ with a star   the records of a collection, by its list rule
 *   posts/abc                      one record, by its view rule
 *
 * A collection may be named by its id. Behind "?" there may be options=<JSON, percent-encoded>:
 * {"query":{"fields":…,"filter":…,"expand":…,"since":…},"headers":{…}}. What cannot be read there
 * is as if it were not, as in the contract; any other topic is taken and never heard of again.
 */
#include "realtime_private.h"

#include "bakend/encode.h"

static struct bk_slice find_options(struct bk_arena *arena, struct bk_slice query) {
    struct bk_slice part, value = BK_SLICE_EMPTY;
    while (query.length > 0 && bk_slice_split(&query, '&', &part))
        if (bk_slice_starts_with(part, BK_SLICE("options=")) &&
            bk_percent_decode(arena, bk_slice_make(part.data + 8, part.length - 8), true, &value))
            return value;
    return BK_SLICE_EMPTY;
}

static void read_options(struct bk_arena *arena, struct bk_slice text,
                         struct realtime_topic *topic) {
    struct bk_json *options = NULL;
    if (text.length == 0 || bk_json_parse(arena, text, &options, NULL) != BK_OK)
        return;
    const struct bk_json *query = bk_json_get(options, BK_SLICE("query"));
    topic->fields = bk_slice_trim(bk_json_get_string(query, BK_SLICE("fields")));
    topic->since = bk_json_get_string(query, BK_SLICE("since"));
    topic->has_expand = bk_json_get_string(query, BK_SLICE("expand")).length > 0;
    topic->has_filter = bk_json_get_string(query, BK_SLICE("filter")).length > 0;
}

static bool is_name(struct bk_slice name) {
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '_')
            return false;
    }
    return name.length > 0 && name.length <= BK_COLLECTION_NAME_BYTES_MAX;
}

/* It stands in a line of its frames. */
static bool has_line_end(struct bk_slice text) {
    return bk_slice_find(text, '\n') < text.length || bk_slice_find(text, '\r') < text.length;
}

void realtime_topic_parse(struct bk_arena *arena, struct bk_slice text,
                          struct realtime_topic *topic) {
    size_t mark = bk_slice_find(text, '?');
    struct bk_slice path = bk_slice_make(text.data, mark);
    size_t slash = bk_slice_find(path, '/');
    *topic = (struct realtime_topic){.text = text, .collection = bk_slice_make(path.data, slash)};
    if (mark < text.length)
        read_options(
            arena, find_options(arena, bk_slice_make(text.data + mark + 1, text.length - mark - 1)),
            topic);
    if (slash < path.length)
        topic->id = bk_slice_make(path.data + slash + 1, path.length - slash - 1);
    topic->is_deaf = !is_name(topic->collection) || has_line_end(text) ||
                     (slash < path.length && topic->id.length == 0);
    if (bk_slice_is(topic->id, "*"))
        topic->id = BK_SLICE_EMPTY;
}
