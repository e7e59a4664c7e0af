/* The three spellings of an option's name, and the one that somebody probably meant. */
#include "config_private.h"

enum { NEAREST_DISTANCE_MAX = 2 /* edits; more is another word, not a slip */ };

struct config_entry *config_find(const struct bk_config *config, struct bk_slice name) {
    for (size_t i = 0; i < config->count; i++)
        if (bk_slice_equal(bk_slice_from(config->entries[i].option->name), name))
            return &config->entries[i];
    return NULL;
}

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

void config_name_in_file(char out[BK_CONFIG_NAME_BYTES_MAX + 1], const char *name) {
    size_t length = 0;
    bool is_start = false;
    for (; *name != '\0'; name++) {
        if (*name == '-') {
            is_start = true;
            continue;
        }
        BK_ASSERT(length < BK_CONFIG_NAME_BYTES_MAX);
        out[length++] = is_start ? upper(*name) : *name;
        is_start = false;
    }
    out[length] = '\0';
}

void config_name_in_environment(char out[BK_CONFIG_NAME_BYTES_MAX + 1], const char *name) {
    static const char prefix[] = "BAKEND_";
    size_t length = sizeof prefix - 1;
    memcpy(out, prefix, length);
    for (; *name != '\0'; name++) {
        BK_ASSERT(length < BK_CONFIG_NAME_BYTES_MAX);
        out[length++] = *name == '-' ? '_' : upper(*name);
    }
    out[length] = '\0';
}

void config_name_spell(char out[BK_CONFIG_NAME_BYTES_MAX + 1], const char *name,
                       enum config_spelling spelling) {
    size_t length = strlen(name);
    switch (spelling) {
    case CONFIG_IN_FILE:
        config_name_in_file(out, name);
        return;
    case CONFIG_IN_ENVIRONMENT:
        config_name_in_environment(out, name);
        return;
    case CONFIG_AS_FLAG:
        BK_ASSERT(length + 2 <= BK_CONFIG_NAME_BYTES_MAX);
        memcpy(out, "--", 2);
        memcpy(out + 2, name, length + 1);
        return;
    }
    BK_UNREACHABLE();
}

/* Levenshtein's distance, one row at a time. */
static size_t distance(struct bk_slice a, struct bk_slice b) {
    size_t row[BK_CONFIG_NAME_BYTES_MAX + 1];
    BK_ASSERT(b.length <= BK_CONFIG_NAME_BYTES_MAX);
    for (size_t j = 0; j <= b.length; j++)
        row[j] = j;
    for (size_t i = 0; i < a.length; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b.length; j++) {
            size_t replaced = diagonal + (a.data[i] == b.data[j] ? 0 : 1);
            size_t shorter = row[j] < row[j + 1] ? row[j] : row[j + 1];
            diagonal = row[j + 1];
            row[j + 1] = replaced < shorter + 1 ? replaced : shorter + 1;
        }
    }
    return row[b.length];
}

const struct config_entry *config_nearest(const struct bk_config *config, struct bk_slice written,
                                          enum config_spelling spelling) {
    const struct config_entry *nearest = NULL;
    size_t best = NEAREST_DISTANCE_MAX + 1;
    if (written.length > BK_CONFIG_NAME_BYTES_MAX)
        return NULL;
    for (size_t i = 0; i < config->count; i++) {
        char name[BK_CONFIG_NAME_BYTES_MAX + 1] = "";
        config_name_spell(name, config->entries[i].option->name, spelling);
        size_t edits = distance(written, bk_slice_from(name));
        if (edits < best) {
            best = edits;
            nearest = &config->entries[i];
        }
    }
    return nearest;
}
