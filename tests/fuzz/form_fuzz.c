/*
 * Bodies of forms. The input's first line is a Content-Type, the rest the body: multipart when the
 * line begins so, else pairs.
 *
 * Whatever both are: a part lies within the body, in order, and ends where a delimiter stands; a
 * name is text; what is refused has a reason; and what values make is a JSON object that reads,
 * in which every text of a value is the text that was sent.
 */
#include "fuzz.h"

#include "kernel/api/form.h"
#include "kernel/api/multipart.h"

enum { ARENA_BYTES_MAX = 64 * 1024 * 1024 };

static void check_part(const struct api_part *part, struct bk_slice body, const char **end) {
    BK_ASSERT(part->data.data >= *end);
    BK_ASSERT(part->data.data + part->data.length <= body.data + body.length);
    BK_ASSERT(part->name.length <= API_MULTIPART_NAME_BYTES_MAX);
    BK_ASSERT(bk_slice_is_utf8(part->name) && bk_slice_is_utf8(part->file_name));
    BK_ASSERT(part->name.length == 0 || memchr(part->name.data, '\0', part->name.length) == NULL);
    BK_ASSERT(part->file_name.length < 2 ||
              memchr(part->file_name.data, '/', part->file_name.length) == NULL);
    *end = part->data.data + part->data.length;
}

/* Behind a part stands the boundary on a line of its own, or what ends the last one. */
static void check_delimiter(struct bk_slice boundary, const struct api_part *part,
                            struct bk_slice body) {
    const char *at = part->data.data + part->data.length, *end = body.data + body.length;
    if (at < end && *at == '\r')
        at++;
    if (at < end && *at == '\n')
        at++;
    BK_ASSERT((size_t)(end - at) >= boundary.length + 2 && memcmp(at, "--", 2) == 0);
    BK_ASSERT(memcmp(at + 2, boundary.data, boundary.length) == 0);
    at += 2 + boundary.length;
    BK_ASSERT(at == end || *at == ' ' || *at == '\t' || *at == '\r' || *at == '\n' ||
              (end - at >= 2 && memcmp(at, "--", 2) == 0));
}

static enum bk_status read_parts(struct api_form *form, struct bk_slice type,
                                 struct bk_slice body) {
    struct api_multipart multipart;
    struct api_part part;
    const char *end = body.data;
    uint32_t count = 0;
    enum bk_status status = api_multipart_init(&multipart, form->arena, type, body, form->error);
    while (status == BK_OK && (status = api_multipart_next(&multipart, &part)) == BK_OK) {
        BK_ASSERT(++count <= API_MULTIPART_PARTS_MAX);
        check_part(&part, body, &end);
        check_delimiter(bk_slice_make(multipart.delimiter + 4, multipart.delimiter_length - 4),
                        &part, body);
        if (part.name.length > 0 && part.file_name.length == 0)
            status = api_form_add(form, part.name, part.data);
    }
    return status == BK_END ? BK_OK : status;
}

static void check_object(const struct bk_json *object) {
    BK_ASSERT(object->type == BK_JSON_OBJECT);
    for (const struct bk_json *member = object->child; member != NULL; member = member->next) {
        BK_ASSERT(bk_slice_is_utf8(member->key));
        if (member->type == BK_JSON_NUMBER && member->string.length > 0)
            BK_ASSERT(bk_slice_equal(member->string, member->text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size), body = copy, again;
    struct bk_slice type = fuzz_take(&body, '\n');
    struct bk_arena arena;
    struct bk_error error = BK_ERROR_INIT;
    struct api_form form;
    struct bk_json *object = NULL, *parsed = NULL;
    enum bk_status status;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    api_form_init(&form, &arena, &error);
    if (bk_slice_starts_with(type, BK_SLICE("multipart/form-data")))
        status = read_parts(&form, type, body);
    else
        status = api_form_add_pairs(&form, body);
    if (status == BK_OK)
        status = api_form_finish(&form, &object);
    if (status == BK_OK) {
        check_object(object);
        again = object->text;
        BK_ASSERT(bk_json_parse(&arena, again, &parsed, NULL) == BK_OK);
        BK_ASSERT(parsed->child_count == object->child_count);
    } else {
        BK_ASSERT(status == BK_INVALID || status == BK_TOO_LARGE);
        BK_ASSERT(error.message[0] != '\0');
    }
    api_form_fini(&form);
    bk_arena_fini(&arena);
    fuzz_free(copy);
    return 0;
}
