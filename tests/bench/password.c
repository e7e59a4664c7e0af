/*
 * What the cores can hash: verifies one password on a thread for each core.
 *
 *   password SECONDS
 *
 * Prints verifications a second of all threads together: what signing in by password can reach at
 * most.
 */
#include "bakend/crypto.h"
#include "bakend/thread.h"
#include "measure.h"

#include <stdio.h>

enum { THREADS_MAX = 256 };

struct worker {
    struct bk_thread *thread;
    uint64_t end_ns, count, taken_ns;
};

static char hash[BK_PASSWORD_HASH_BYTES];

/* The time of the last one is in full, like those before it. */
static void run(void *argument) {
    struct worker *worker = argument;
    uint64_t begun_ns = bench_now_ns(), now_ns = begun_ns;
    while (now_ns < worker->end_ns) {
        if (bk_password_verify(bk_slice_from(hash), BK_SLICE("correct horse 42")) != BK_OK)
            bench_fail("the password is not the one that was hashed");
        worker->count++;
        now_ns = bench_now_ns();
    }
    worker->taken_ns = now_ns - begun_ns;
}

int main(int argument_count, char **arguments) {
    static struct worker workers[THREADS_MAX];
    if (argument_count != 2)
        bench_fail("usage: password SECONDS");
    uint64_t end_ns = bench_now_ns() + (uint64_t)bench_number(arguments[1], 1, 3600) * 1000000000;
    uint32_t count = bk_processor_count() < THREADS_MAX ? bk_processor_count() : THREADS_MAX;
    double rate = 0;
    if (bk_crypto_init() != BK_OK || bk_password_hash(hash, BK_SLICE("correct horse 42")) != BK_OK)
        bench_fail("nothing can be hashed");
    for (uint32_t i = 0; i < count; i++) {
        workers[i].end_ns = end_ns;
        workers[i].thread = bk_thread_start("hash", run, &workers[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        bk_thread_join(workers[i].thread);
        rate += (double)workers[i].count * 1e9 / (double)workers[i].taken_ns;
    }
    printf("%.3f\n", rate);
    return 0;
}
