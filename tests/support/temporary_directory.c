/* A directory per test, below TMPDIR or /tmp. */
#include "support.h"

#include "bakend/error.h"
#include "bakend/file.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATH_BYTES = 4096 };

char *support_directory_create(void) {
    const char *parent = getenv("TMPDIR");
    char *path = test_malloc(PATH_BYTES);
    if (!bk_path_join(path, PATH_BYTES, parent == NULL ? "/tmp" : parent, "bakend-test-XXXXXX") ||
        mkdtemp(path) == NULL)
        fail_msg("cannot make a directory below %s", parent == NULL ? "/tmp" : parent);
    return path;
}

void support_directory_remove(char *path) {
    struct bk_error error = BK_ERROR_INIT;
    if (bk_directory_remove(path, &error) != BK_OK)
        print_error("%s\n", error.message);
    test_free(path);
}

int support_directory_setup(void **state) {
    *state = support_directory_create();
    return 0;
}

int support_directory_teardown(void **state) {
    support_directory_remove(*state);
    return 0;
}
