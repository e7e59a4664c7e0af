/* What instance.c (the file) and instance_wake.c (who is opened) share. On the loop. */
#ifndef BAKEND_WORK_INSTANCE_PRIVATE_H
#define BAKEND_WORK_INSTANCE_PRIVATE_H

#include "work_private.h"

#include "bakend/loop.h"

enum {
    INSTANCE_PATH_BYTES = 4096,
    /* Opened side by side: each opening waits for the disk, and what is due in them shares one
     * loop. */
    INSTANCE_WAKES_MAX = 4,
};

enum instance_state {
    INSTANCE_WAITS, /* for the first tenant or the start */
    INSTANCE_OPENING,
    INSTANCE_FAILED, /* it is opened again later */
    INSTANCE_OPEN,
    INSTANCE_CLOSING,
    INSTANCE_CLOSED
};

/* What the file is to say of a tenant, until it does. */
struct instance_mark {
    char name[BK_TENANT_NAME_BYTES_MAX];
    size_t name_length;
    bool is_open, is_gone;
    int64_t due_ms;
    uint64_t version;
};

/* A tenant that is held from its opening until what is due in it has begun. */
struct instance_wake {
    struct work_instance *instance;
    bool is_used, is_held, was_opened, is_settled;
    char name[BK_TENANT_NAME_BYTES_MAX];
    size_t name_length;
    uint64_t began_ms; /* of the pace */
    struct bk_tenant *tenant;
    struct bk_tenant_hold hold;
};

struct instance_storing; /* a write that is under way */

struct work_instance {
    struct bk_work *work;
    struct bk_loop *loop;
    struct bk_store *store;
    struct bk_tenants *tenants;
    struct bk_log log;
    struct work_clock *clock;
    char path[INSTANCE_PATH_BYTES], tenants_path[INSTANCE_PATH_BYTES]; /* "": there is no file */

    /* instance.c */
    enum instance_state state;
    struct bk_database *database;
    struct bk_database_open opening;
    struct bk_buffer
        names;           /* of all tenants when the file is opened, each with its length before */
    bool is_damaged;     /* it is closed to be put aside */
    bool is_renewed;     /* it was put aside and not used since */
    uint64_t retry_ms;   /* of the pace: nothing is tried before that */
    struct bk_map marks; /* struct instance_mark by name */
    uint64_t version;
    struct instance_storing *storing;
    bool wants_judge; /* dues of a future that never came */
    void (*closed)(void *user);
    void *closed_user;
    struct bk_task closed_task;

    /* instance_wake.c */
    bool is_started;
    struct bk_timer *tick;  /* once a second: the clock, and what is to be tried again */
    struct bk_timer *timer; /* at the first due */
    uint64_t busy_until_ms; /* of the pace: as many tenants as may be open are in use */
    int64_t sleep_ms;       /* of the machine, as far as it was seen */
    bool was_doubting;
    struct instance_wake wakes[INSTANCE_WAKES_MAX];
};

/* --- instance.c ------------------------------------------------------------------------------- */

struct bk_slice work_instance_name_of(const char *name, size_t length);
/* Opens the file if it is not. */
void work_instance_begin(struct work_instance *instance);
/* Replaces what is to be said of the tenant. */
void work_instance_put_mark(struct work_instance *instance, struct bk_slice name, bool is_open,
                            bool is_gone, int64_t due_ms);
bool work_instance_has_mark(const struct work_instance *instance, struct bk_slice name);
/* Stores what is to be stored, or tries to open the file again. */
void work_instance_flush(struct work_instance *instance);

/* --- instance_wake.c -------------------------------------------------------------------------- */

/* Opens what is due, as many as may be; sets the timer for the next. */
void work_instance_wake_due(struct work_instance *instance);
void work_instance_end_wakes(struct work_instance *instance);

#endif
