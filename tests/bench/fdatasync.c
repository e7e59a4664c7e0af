/* What the disk asks for durability: writes 4 KiB over what is there, as a write-ahead log does,
 * and calls
 * fdatasync, again and again; prints how many a second.   fdatasync FILE COUNT */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 1000 };

int main(int argument_count, char **arguments) {
    static char page[4096];
    struct timespec start, end;
    if (argument_count != 3)
        return 2;
    int descriptor = open(arguments[1], O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    long count = strtol(arguments[2], NULL, 10);
    memset(page, 'x', sizeof(page));
    for (off_t i = 0; i < PAGES; i++)
        if (pwrite(descriptor, page, sizeof(page), i * (off_t)sizeof(page)) != sizeof(page))
            return 1;
    if (fsync(descriptor) != 0)
        return 1;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long i = 0; i < count; i++)
        if (pwrite(descriptor, page, sizeof(page), (off_t)(i % PAGES) * (off_t)sizeof(page)) !=
                sizeof(page) ||
            fdatasync(descriptor) != 0)
            return 1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds =
        (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    printf("%.0f\n", (double)count / seconds);
    close(descriptor);
    return unlink(arguments[1]);
}
