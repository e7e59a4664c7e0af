/*
 * Files are private from the first one on. A core dump would hold keys and passwords, so there is
 * none. Sockets are descriptors, and the soft limit of 1,024 is a relic of select(): it is raised
 * to what the system allows at most. Left alone, the allocator learns from the first large body
 * that large blocks are common, and from then on keeps up to 64 MiB that nobody uses: it is told
 * once what is large.
 */
#include "process_setup.h"

#include "bakend/crypto.h"
#include "bakend/failpoint.h"
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PRIVATE_UMASK = 077,
    DESCRIPTORS_MAX = 1024 * 1024,      /* beyond it only tables grow */
    LARGE_BLOCK_BYTES = 1024 * 1024,    /* from here on the system has it back when it is freed */
    UNUSED_BYTES_MAX = 4 * 1024 * 1024, /* kept at the heap's end for what comes next */
};

static void forbid_core_dumps(void) {
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void bound_unused_memory(void) {
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, UNUSED_BYTES_MAX);
}

/* A closed standard descriptor would be given to the database, and the log written into it. */
static enum bk_status open_standard_descriptors(struct bk_error *error) {
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDWR);
    while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    if (descriptor < 0)
        return bk_error_set(error, BK_IO, "cannot open /dev/null");
    close(descriptor);
    return BK_OK;
}

enum bk_status process_setup(struct bk_error *error) {
    umask(PRIVATE_UMASK);
    forbid_core_dumps();
    raise_descriptor_limit();
    bound_unused_memory();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on files is a full disk: EFBIG */
    enum bk_status status = open_standard_descriptors(error);
    if (status == BK_OK && bk_failpoint_configure(getenv("BAKEND_FAILPOINT")) != BK_OK)
        status = bk_error_set(error, BK_INVALID,
                              "BAKEND_FAILPOINT in the environment: must be a "
                              "list of name:action[@n], see failpoint.h");
    if (status == BK_OK && bk_crypto_init() != BK_OK)
        status = bk_error_set(error, BK_INTERNAL, "the cryptography library does not start");
    return status;
}
