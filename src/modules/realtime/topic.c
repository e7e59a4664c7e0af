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

/* What the contract makes of a value: one text. */
static struct bk_slice text_of(const struct bk_json *value) {
    switch (value->type) {
    case BK_JSON_STRING:
        return value->string;
    case BK_JSON_NUMBER:
    case BK_JSON_BOOL:
        return value->text;
    default:
        return BK_SLICE_EMPTY;
    }
}

static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

static bool is_word(char c) {
    return is_upper(c) || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* x_token for X-Token and for xToken. */
static void write_header_name(struct bk_buffer *out, struct bk_slice name) {
    size_t start = out->length;
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool begins = i > 0 && is_word(c) &&
                      (!is_word(name.data[i - 1]) || (is_upper(c) && !is_upper(name.data[i - 1])));
        if (begins && out->length > start)
            bk_buffer_append_char(out, '_');
        if (is_word(c))
            bk_buffer_append_char(out, is_upper(c) ? (char)(c - 'A' + 'a') : c);
    }
}

static void write_texts(struct bk_buffer *out, const struct bk_json *object, bool are_headers) {
    bk_buffer_append_char(out, '{');
    for (const struct bk_json *each =
             object == NULL || object->type != BK_JSON_OBJECT ? NULL : object->child;
         each != NULL; each = each->next) {
        struct bk_buffer name;
        bk_buffer_init(&name, REALTIME_TOPIC_BYTES_MAX * 2);
        if (are_headers)
            write_header_name(&name, each->key);
        else
            bk_buffer_append_slice(&name, each->key);
        bk_json_write_member_string(out, bk_buffer_slice(&name), text_of(each));
        bk_buffer_fini(&name);
    }
    bk_buffer_append_char(out, '}');
}

/* @request.query and @request.headers of those who subscribe so. */
static struct bk_slice write_options(struct bk_arena *arena, const struct bk_json *options) {
    struct bk_buffer out;
    bk_buffer_init(&out, 64 * REALTIME_TOPIC_BYTES_MAX);
    bk_buffer_append_literal(&out, "\"query\":");
    write_texts(&out, bk_json_get(options, BK_SLICE("query")), false);
    bk_buffer_append_literal(&out, ",\"headers\":");
    write_texts(&out, bk_json_get(options, BK_SLICE("headers")), true);
    struct bk_slice text =
        out.is_overflown ? BK_SLICE_EMPTY : bk_arena_copy(arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    return text;
}

static struct bk_slice query_text(const struct bk_json *query, const char *name) {
    const struct bk_json *value = bk_json_get(query, bk_slice_from(name));
    return value == NULL ? BK_SLICE_EMPTY : text_of(value);
}

static void read_options(struct bk_arena *arena, struct bk_slice text,
                         struct realtime_topic *topic) {
    struct bk_json *options = NULL;
    if (text.length == 0 || bk_json_parse(arena, text, &options, NULL) != BK_OK ||
        options->type != BK_JSON_OBJECT)
        return;
    const struct bk_json *query = bk_json_get(options, BK_SLICE("query"));
    topic->fields = bk_slice_trim(query_text(query, "fields"));
    topic->since = bk_json_get_string(query, BK_SLICE("since"));
    topic->wording.filter = query_text(query, "filter");
    topic->wording.expand = query_text(query, "expand");
    if (options->child_count > 0)
        topic->wording.options = write_options(arena, options);
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
