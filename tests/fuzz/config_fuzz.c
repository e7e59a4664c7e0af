/*
 * The configuration: the file and the environment.
 *
 * The input's last part, behind the first NUL, is the environment, a variable a line; what comes
 * before it is the file. Whatever they are: a refusal says why; what is in force is printed as JSON
 * that reads; each value that the file set, given in the environment as it is printed, is the same
 * value; numbers are within their bounds; and nothing shows a secret.
 */
#define _GNU_SOURCE /* memmem, memfd_create */
#include "fuzz.h"

#include "bakend/config.h"
#include "bakend/json.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    ARENA_BYTES_MAX = 16 * 1024 * 1024,
    TEXT_BYTES_MAX = 8 * 1024 * 1024,
    VARIABLES_MAX = 16,
    PATH_BYTES = 64
};

struct values {
    const char *listen, *name, *secret;
    int64_t threads, any, size, duration, bounded_size;
    bool is_on;
};

static const char *refuse_name(const char *text) {
    return strlen(text) <= 8 && strchr(text, ' ') == NULL ? NULL
                                                          : "must be a short name without spaces";
}

static const struct bk_option options[] = {
    {"listen", BK_OPTION_TEXT, offsetof(struct values, listen), "127.0.0.1:8090", 0, 0, NULL, "",
     NULL},
    {"tenant-name", BK_OPTION_TEXT, offsetof(struct values, name), NULL, 0, 0, NULL, "",
     refuse_name},
    {"key", BK_OPTION_SECRET, offsetof(struct values, secret), NULL, 0, 0, NULL, "", NULL},
    {"threads", BK_OPTION_INT, offsetof(struct values, threads), "2", 1, 64, NULL, "", NULL},
    {"any-number", BK_OPTION_INT, offsetof(struct values, any), "0", 0, 0, NULL, "", NULL},
    {"retention-max-bytes", BK_OPTION_BYTES, offsetof(struct values, size), "10GB", 0, 0, NULL, "",
     NULL},
    {"cache", BK_OPTION_BYTES, offsetof(struct values, bounded_size), "64MiB", 4096, 1 << 30, NULL,
     "", NULL},
    {"retention-age", BK_OPTION_DURATION, offsetof(struct values, duration), "30d", 0, 0, NULL, "",
     NULL},
    {"is-on", BK_OPTION_BOOL, offsetof(struct values, is_on), "true", 0, 0, NULL, "", NULL},
};

static const char *const keys[] = {"listen",  "tenantName",   "key",
                                   "threads", "anyNumber",    "retentionMaxBytes",
                                   "cache",   "retentionAge", "isOn"};
static const char *const variables[] = {
    "BAKEND_LISTEN",  "BAKEND_TENANT_NAME",   "BAKEND_KEY",
    "BAKEND_THREADS", "BAKEND_ANY_NUMBER",    "BAKEND_RETENTION_MAX_BYTES",
    "BAKEND_CACHE",   "BAKEND_RETENTION_AGE", "BAKEND_IS_ON"};

static struct bk_config *create(struct values *values) {
    struct bk_config *config = bk_config_create();
    memset(values, 0, sizeof(*values));
    bk_config_add(config, "server", options, BK_COUNT_OF(options), values);
    return config;
}

/* --- the places ------------------------------------------------------------------------------- */

static enum bk_status read_file(struct bk_config *config, struct bk_slice text,
                                struct bk_error *error) {
    static int file = -1;
    char path[PATH_BYTES];
    if (file < 0)
        file = memfd_create("bakend.json", 0);
    BK_ASSERT(file >= 0 && ftruncate(file, 0) == 0);
    BK_ASSERT(pwrite(file, text.data, text.length, 0) == (ssize_t)text.length);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return bk_config_read_file(config, path, error);
}

/* The lines become C strings in place. */
static enum bk_status read_environment(struct bk_config *config, char *text, size_t length,
                                       struct bk_error *error) {
    char *entries[VARIABLES_MAX + 1] = {NULL};
    size_t count = 0;
    text[length] = '\0';
    while (count < VARIABLES_MAX && text != NULL) {
        char *end = strchr(text, '\n');
        if (end != NULL)
            *end++ = '\0';
        entries[count++] = text;
        text = end;
    }
    return bk_config_read_environment(config, entries, error);
}

/* --- what must hold --------------------------------------------------------------------------- */

static void check_values(const struct values *values) {
    BK_ASSERT(values->threads >= 1 && values->threads <= 64);
    BK_ASSERT(values->bounded_size >= 4096 && values->bounded_size <= 1 << 30);
    BK_ASSERT(values->size >= 0 && values->duration >= 0);
    BK_ASSERT(values->name == NULL || refuse_name(values->name) == NULL);
}

static bool is_same_text(const char *a, const char *b) {
    return bk_slice_equal(bk_slice_from(a), bk_slice_from(b));
}

static void check_same(const struct values *a, const struct values *b) {
    BK_ASSERT(is_same_text(a->listen, b->listen) && is_same_text(a->name, b->name));
    BK_ASSERT(a->threads == b->threads && a->any == b->any && a->size == b->size);
    BK_ASSERT(a->bounded_size == b->bounded_size && a->duration == b->duration);
    BK_ASSERT(a->is_on == b->is_on);
}

/* What is printed, given again, is the same. */
static void check_again(const struct bk_json *printed, const struct values *values) {
    struct values again;
    struct bk_config *config = create(&again);
    struct bk_buffer variable;
    bk_buffer_init(&variable, TEXT_BYTES_MAX);
    for (size_t i = 0; i < BK_COUNT_OF(keys); i++) {
        const struct bk_json *option = bk_json_get(printed, bk_slice_from(keys[i]));
        const struct bk_json *value = bk_json_get(option, BK_SLICE("value"));
        struct bk_error error = BK_ERROR_INIT;
        BK_ASSERT(option != NULL && value != NULL);
        if (value->type == BK_JSON_NULL || options[i].type == BK_OPTION_SECRET)
            continue;
        bk_buffer_clear(&variable);
        bk_buffer_format(&variable, "%s=", variables[i]);
        bk_buffer_append_slice(&variable,
                               value->type == BK_JSON_STRING ? value->string : value->text);
        bk_buffer_append_char(&variable, '\0');
        char *entries[] = {variable.data, NULL};
        /* A text that is no UTF-8 is printed with what stands for it. */
        if (memmem(variable.data, variable.length, "\xEF\xBF\xBD", 3) != NULL)
            again.listen = values->listen, again.name = values->name;
        else
            BK_ASSERT(bk_config_read_environment(config, entries, &error) == BK_OK);
    }
    check_same(values, &again);
    bk_buffer_fini(&variable);
    bk_config_destroy(config);
}

static void check_printed(const struct bk_config *config, const struct values *values) {
    struct bk_buffer out;
    struct bk_arena arena;
    struct bk_json *printed = NULL;
    bk_buffer_init(&out, TEXT_BYTES_MAX);
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    bk_config_write_text(config, &out);
    bk_buffer_clear(&out);
    bk_config_write_json(config, &out);
    BK_ASSERT(bk_json_parse(&arena, bk_buffer_slice(&out), &printed, NULL) == BK_OK);
    const struct bk_json *key = bk_json_get(printed, BK_SLICE("key"));
    struct bk_slice shown = bk_json_get_string(key, BK_SLICE("value"));
    BK_ASSERT(shown.length == 0 || bk_slice_is(shown, "********"));
    check_again(printed, values);
    bk_arena_fini(&arena);
    bk_buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice text = fuzz_copy(data, size);
    size_t at = bk_slice_find(text, '\0');
    struct bk_slice file = bk_slice_make(text.data, at);
    struct bk_error error = BK_ERROR_INIT;
    struct values values;
    struct bk_config *config = create(&values);
    char *environment = bk_alloc(size + 1);
    size_t length = at < size ? size - at - 1 : 0;
    enum bk_status status = file.length == 0 ? BK_OK : read_file(config, file, &error);
    if (length > 0)
        memcpy(environment, text.data + at + 1, length);
    if (status == BK_OK && length > 0)
        status = read_environment(config, environment, length, &error);
    check_values(&values);
    if (status == BK_OK)
        check_printed(config, &values);
    else
        BK_ASSERT(error.message[0] != '\0');
    bk_config_destroy(config);
    bk_free(environment);
    fuzz_free(text);
    return 0;
}
