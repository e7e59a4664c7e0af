/* Names of backups: they are file names, so nothing that could mean another place gets through. */
#include "backups_private.h"

#include "bakend/clock.h"
#include <stdio.h>

static bool is_key_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

bool backups_key_is_valid(struct bk_slice key) {
    struct bk_slice ending = BK_SLICE(".zip");
    if (key.length <= ending.length || key.length > BACKUPS_KEY_BYTES_MAX ||
        !bk_slice_ends_with(key, ending))
        return false;
    for (size_t i = 0; i < key.length - ending.length; i++)
        if (!is_key_character(key.data[i]))
            return false;
    return true;
}

void backups_key_make(char out[BACKUPS_KEY_BYTES_MAX + 1], struct bk_slice tenant,
                      int64_t wall_ms) {
    char time[BK_TIME_TEXT_BYTES], digits[BK_TIME_TEXT_BYTES + 1];
    size_t count = 0;
    bk_time_format(time, wall_ms, 'T');
    for (size_t i = 0; i < BK_TIME_TEXT_BYTES; i++)
        if (time[i] >= '0' && time[i] <= '9')
            digits[count++] = time[i];
    digits[count] = '\0';
    snprintf(out, BACKUPS_KEY_BYTES_MAX + 1, "bakend_backup_%.*s_%s.zip", BK_SLICE_PRINT(tenant),
             digits);
    BK_ASSERT(backups_key_is_valid(bk_slice_from(out)));
}

bool backups_path(char out[BACKUPS_PATH_BYTES], const char *tenant_directory, const char *prefix,
                  struct bk_slice key, const char *suffix) {
    int length = snprintf(out, BACKUPS_PATH_BYTES, "%s/backups/%s%.*s%s", tenant_directory, prefix,
                          BK_SLICE_PRINT(key), suffix);
    return length > 0 && length < BACKUPS_PATH_BYTES;
}
