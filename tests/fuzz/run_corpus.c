/*
 * Feeds every file of the folders and files named on the command line to a fuzz target, so that
 * what libFuzzer once found stays tested in the ordinary suite, where libFuzzer is not linked.
 *
 * A target fails by crashing; the file in work is printed first, since a crash does not return.
 * A folder that is missing or empty is an error: a corpus that runs nothing proves nothing.
 */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path, size_t size_bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    /* Exactly as large as the input, so that the sanitizer sees the first byte read past it. */
    uint8_t *data = malloc(size_bytes > 0 ? size_bytes : 1);
    size_t length = data == NULL ? 0 : fread(data, 1, size_bytes, file);
    fclose(file);
    if (data == NULL || length != size_bytes) {
        fprintf(stderr, "%s: cannot be read\n", path);
        free(data);
        return -1;
    }
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size_bytes);
    free(data);
    return 1;
}

/* The number of inputs run below path, or -1. */
static int run_path(const char *path);

static int run_folder(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) {
        perror(path);
        return -1;
    }
    int count = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char inner[PATH_MAX];
        if (entry->d_name[0] == '.')
            continue;
        int length = snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        int added = length < (int)sizeof(inner) ? run_path(inner) : -1;
        if (added < 0) {
            closedir(folder);
            return -1;
        }
        count += added;
    }
    closedir(folder);
    return count;
}

static int run_path(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) {
        perror(path);
        return -1;
    }
    return S_ISDIR(info.st_mode) ? run_folder(path) : run_file(path, (size_t)info.st_size);
}

int main(int argc, char **argv) {
    int count = 0;
    for (int i = 1; i < argc; i++) {
        int added = run_path(argv[i]);
        if (added < 0)
            return EXIT_FAILURE;
        count += added;
    }
    if (count == 0) {
        fprintf(stderr, "no inputs: add files to the corpus folder of this target\n");
        return EXIT_FAILURE;
    }
    printf("%d inputs\n", count);
    return EXIT_SUCCESS;
}
