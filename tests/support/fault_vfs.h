/*
 * A disk that fails: a VFS of SQLite in front of the real one, the default as long as it is
 * installed. The nth call of one kind fails, once or for ever, with the code that SQLite's own VFS
 * would give. It also knows what is certainly on the disk: what was written and then synced without
 * an error. A sync that fails forgets what it was to write, as Linux does, so that the next one
 * succeeds without it.
 */
#ifndef BAKEND_TESTS_FAULT_VFS_H
#define BAKEND_TESTS_FAULT_VFS_H

#include <stdbool.h>
#include <stdint.h>

enum support_vfs_call {
    SUPPORT_VFS_OPEN,
    SUPPORT_VFS_DELETE,
    SUPPORT_VFS_READ,
    SUPPORT_VFS_WRITE,
    SUPPORT_VFS_WRITE_SHORT, /* half of it is written, then it fails */
    SUPPORT_VFS_WRITE_FULL,  /* likewise, for want of space, and files grow no more */
    SUPPORT_VFS_TRUNCATE,
    SUPPORT_VFS_SYNC,
    SUPPORT_VFS_SYNC_FULL, /* some file systems find out here that there is no space */
    SUPPORT_VFS_FILE_SIZE,
    SUPPORT_VFS_LOCK,
    SUPPORT_VFS_SHM_MAP,
    SUPPORT_VFS_SHM_FULL, /* the same for want of space */
    SUPPORT_VFS_SHM_LOCK,
    SUPPORT_VFS_CALLS
};

extern const char *const support_vfs_names[SUPPORT_VFS_CALLS];

/* Before the first database is opened. Any number of times. */
void support_vfs_install(void);
void support_vfs_uninstall(void);
/* From now on the calls of this kind are counted, and the nth (from 1) fails; 0: none does. */
void support_vfs_arm(enum support_vfs_call call, uint32_t nth, bool is_sticky);
/* Faults end. Returns how many calls were counted since it was armed. */
uint32_t support_vfs_disarm(void);

/* What the disk has is remembered for files of these names from now on; false: no more. */
void support_vfs_remember(bool remembers);
/* The power goes: writes to the directory what the disk certainly has of the databases in another
 * one. */
void support_vfs_power_cut(const char *from, const char *to);
/* The process goes, the machine stays: what the kernel has is copied, and what the disk has of it
 * is known of the copy as of the original. */
void support_vfs_kill(const char *from, const char *to);

#endif
