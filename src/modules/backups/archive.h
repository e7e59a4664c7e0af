/* The archive of a backup: a zip of the tenant's database and a manifest. Blocking; any thread. */
#ifndef BAKEND_BACKUPS_ARCHIVE_H
#define BAKEND_BACKUPS_ARCHIVE_H

#include "bakend/error.h"
#include "bakend/slice.h"

/* Writes path (a new file, synced) from the database file, with a manifest that says whose it is.
 * The file is removed again when anything fails. */
enum bk_status backups_archive_write(const char *path, const char *database_path,
                                     struct bk_slice tenant, struct bk_error *error);
/* Takes the database of this tenant out of the archive into a new file, synced. BK_CONFLICT when it
 * is another tenant's, BK_INVALID when it is no archive
 * of ours, BK_CORRUPT when it was cut off or a checksum is wrong. */
enum bk_status backups_archive_read(const char *path, const char *database_path,
                                    struct bk_slice tenant, struct bk_error *error);

#endif
