/* The data directory: made, locked, and the key that all others are derived from. */
#ifndef BAKEND_SERVER_DATA_DIRECTORY_H
#define BAKEND_SERVER_DATA_DIRECTORY_H

#include "bakend/crypto.h"
#include "bakend/error.h"

enum { INSTANCE_KEY_TEXT_BYTES = 43 /* base64url of 32 bytes */ };

/* Makes the directory (0700) when it is missing and locks it. BK_CONFLICT names the process that
 * has it. */
enum bk_status data_directory_lock(const char *path, int *lock, struct bk_error *error);
/* How much of the path names the first directory on it that is missing; 0 when none is. */
size_t data_directory_missing(const char *path);
/* Removes the directory with all that is in it, and those above it that data_directory_missing
 * named and that are empty. Only what this process has made may go. */
void data_directory_discard(const char *path, size_t missing);
/* Takes the lock without writing anything. *lock: -1 when the directory has no lock file, since no
 * server ever ran there. BK_CONFLICT. */
enum bk_status data_directory_hold(const char *path, int *lock, struct bk_error *error);
/* Whether the directory has an entry of this name. */
bool data_directory_has(const char *path, const char *name);
/* Reads data/instance.key, or makes it. BK_FORBIDDEN when others may read it, BK_CORRUPT when it is
 * no key. The bytes are the caller's to wipe. */
enum bk_status data_directory_read_key(const char *path, uint8_t key[BK_KEY_BYTES], bool *is_new,
                                       struct bk_error *error);
/* The permission bits of a file or directory; -1 when it is missing. */
int data_directory_mode(const char *path);

#endif
