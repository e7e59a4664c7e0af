/* What the files of this folder share: the list of options, and the ways to spell one and read it.
 */
#ifndef BAKEND_CONFIG_PRIVATE_H
#define BAKEND_CONFIG_PRIVATE_H

#include "bakend/arena.h"
#include "bakend/assert.h"
#include "bakend/config.h"

struct config_entry {
    const struct bk_option *option;
    const char *owner;
    char *values;     /* of the owner; the value is at option->offset */
    const char *text; /* in force, as it was written; NULL: none */
    enum bk_config_origin origin;
};

struct bk_config {
    struct bk_arena arena; /* holds the texts */
    struct config_entry *entries;
    size_t count, capacity;
    const char *file; /* path of the file that was read, for messages; NULL: none */
};

/* value.c: checks the text and stores it; why names what is allowed. */
bool config_value_store(const struct bk_option *option, const char *text, char *values,
                        struct bk_buffer *why);

/* "64MiB", "30d", "7": as it would be written. */
void config_value_write(enum bk_option_type type, int64_t value, struct bk_buffer *out);

/* name.c */
struct config_entry *config_find(const struct bk_config *config, struct bk_slice name);
/* "retentionMaxBytes", "BAKEND_RETENTION_MAX_BYTES" */
void config_name_in_file(char out[BK_CONFIG_NAME_BYTES_MAX + 1], const char *name);
void config_name_in_environment(char out[BK_CONFIG_NAME_BYTES_MAX + 1], const char *name);
enum config_spelling { CONFIG_AS_FLAG, CONFIG_IN_FILE, CONFIG_IN_ENVIRONMENT };
void config_name_spell(char out[BK_CONFIG_NAME_BYTES_MAX + 1], const char *name,
                       enum config_spelling spelling);
/* The option whose spelling is closest to what was written, or NULL when none is close. */
const struct config_entry *config_nearest(const struct bk_config *config, struct bk_slice written,
                                          enum config_spelling spelling);

/* config.c: takes a value from a place, unless a stronger one has spoken. */
enum bk_status config_set(struct bk_config *config, struct config_entry *entry,
                          struct bk_slice text, enum bk_config_origin origin,
                          struct bk_error *error);

#endif
