/* Files and directories: private modes (0700, 0600), atomic replacement, locks. Blocking calls. */
#ifndef BAKEND_FILE_H
#define BAKEND_FILE_H

#include "bakend/buffer.h"
#include "bakend/error.h"

/* Makes the directory and its parents, mode 0700; existing ones are left as they are. */
enum bk_status bk_directory_create(const char *path, struct bk_error *error);
/* Removes a directory and all below it; never follows a link. Missing is BK_OK. */
enum bk_status bk_directory_remove(const char *path, struct bk_error *error);
/* Calls for each entry but "." and "..", in no order. */
enum bk_status bk_directory_list(const char *path,
                                 void (*on_entry)(void *user, const char *name, bool is_directory),
                                 void *user, struct bk_error *error);
bool bk_file_exists(const char *path);
/* BK_NOT_FOUND, BK_TOO_LARGE past the buffer's maximum. */
enum bk_status bk_file_read(const char *path, struct bk_buffer *out, struct bk_error *error);
/* Temporary file, fsync, rename, fsync of the directory; mode 0600. */
enum bk_status bk_file_write_atomic(const char *path, struct bk_slice data, struct bk_error *error);
enum bk_status bk_file_rename(const char *from, const char *to, struct bk_error *error);
/* The removal is on the disk: a power cut does not bring the file back. */
enum bk_status bk_file_remove(const char *path, struct bk_error *error);
int64_t bk_file_size(const char *path); /* -1 when missing */
/* An exclusive lock (flock) on a file of its own, held until the descriptor is closed. The file
 * holds the process id of the owner. BK_CONFLICT when another process has it, with its id in the
 * error. */
enum bk_status bk_file_lock(const char *path, int *descriptor, struct bk_error *error);
void bk_file_unlock(int descriptor);
/* Joins with one '/'; the result is bounded by size and NUL-terminated; false when it does not
 * fit. */
bool bk_path_join(char *out, size_t size_bytes, const char *directory, const char *name);

#endif
