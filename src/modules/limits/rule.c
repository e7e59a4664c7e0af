/*
 * Which rule a request is held to: one, the first that fits the narrowest of its labels. A label is
 * tried as it is, then as the end of a path that rules end with a '/' for.
 *
 *   users:authWithPassword  users:auth  *:authWithPassword  *:auth  POST /api/…  /api/…
 */
#include "limits.h"

#include "bakend/encode.h"

/* --- labels ----------------------------------------------------------------------------------- */

static void add(struct limits_labels *labels, struct bk_slice text) {
    BK_ASSERT(labels->count < LIMITS_LABELS_MAX);
    labels->texts[labels->count++] = text;
}

static void add_words(struct bk_arena *arena, struct bk_slice owner, const char *words,
                      struct limits_labels *labels) {
    struct bk_slice rest = bk_slice_from(words), word;
    while (bk_slice_split(&rest, ' ', &word))
        add(labels,
            bk_arena_format(arena, "%.*s:%.*s", BK_SLICE_PRINT(owner), BK_SLICE_PRINT(word)));
}

/* As rules write it: two spellings of a path are one. */
static struct bk_slice decoded_path(struct bk_request *request) {
    struct bk_slice path = request->path, decoded;
    if (bk_slice_find(path, '%') == path.length ||
        !bk_percent_decode(&request->arena, path, false, &decoded))
        return path;
    return decoded;
}

void limits_labels_make(struct bk_request *request, const struct bk_collection *collection,
                        struct limits_labels *labels) {
    struct bk_arena *arena = &request->arena;
    struct bk_slice path = decoded_path(request);
    labels->count = 0;
    if (collection != NULL) {
        add_words(arena, collection->name, request->route->labels, labels);
        add_words(arena, BK_SLICE("*"), request->route->labels, labels);
    }
    add(labels,
        bk_arena_format(arena, "%s %.*s", bk_method_name(request->method), BK_SLICE_PRINT(path)));
    add(labels, path);
}

/* --- rules ------------------------------------------------------------------------------------ */

static bool is_for(const struct bk_settings_limit *rule, bool is_guest) {
    return rule->audience.length == 0 ||
           bk_slice_equal(rule->audience, is_guest ? BK_SLICE("@guest") : BK_SLICE("@auth"));
}

/* "/api/x" is below "/api/", and "/api" is too. */
static bool is_below(struct bk_slice label, struct bk_slice prefix) {
    if (prefix.length == 0 || prefix.data[prefix.length - 1] != '/')
        return false;
    if (prefix.length == label.length + 1)
        return bk_slice_starts_with(prefix, label);
    return bk_slice_starts_with(label, prefix);
}

const struct bk_settings_limit *limits_rule_find(const struct bk_settings_limits *limits,
                                                 const struct limits_labels *labels,
                                                 bool is_guest) {
    for (uint32_t i = 0; i < labels->count; i++) {
        struct bk_slice label = labels->texts[i];
        const struct bk_settings_limit *below = NULL;
        for (uint32_t j = 0; j < limits->rule_count; j++) {
            const struct bk_settings_limit *rule = &limits->rules[j];
            if (!is_for(rule, is_guest))
                continue;
            if (bk_slice_equal(rule->label, label))
                return rule;
            if (below == NULL && is_below(label, rule->label))
                below = rule;
        }
        if (below != NULL)
            return below;
    }
    return NULL;
}
