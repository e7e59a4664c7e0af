/*
 * The body of a request as what its route wants: a JSON object in request->json, and the files of a
 * form in request->files.
 *
 *   application/json                    as it is; null is no body
 *   multipart/form-data                 values and files (multipart.c, form.c)
 *   application/x-www-form-urlencoded   values (form.c)
 *
 * A form's values are joined by the parameters of the query, as the contract has it. Types are
 * compared as the contract's server does, by how they begin. Anything else is refused: a page of
 * another origin may send text/plain anywhere without asking first, and a form only because what
 * counts, the token, is in a header that it cannot set.
 */
#include "api_private.h"

#include "form.h"
#include "multipart.h"

/* Not in the request's arena, which may be what is full. */
static bool refuse(struct bk_request *request, enum bk_status status, const char *reason) {
    struct bk_error error = BK_ERROR_INIT;
    (void)bk_error_set(&error, status, "An error occurred while loading the submitted data. %s",
                       reason);
    bk_answer_error(request, status, error.message);
    return false;
}

/* --- JSON ------------------------------------------------------------------------------------- */

/* Of a value as a tree, about, however short its text. */
enum { JSON_VALUE_BYTES = 150 };

static bool refuse_large_json(struct bk_request *request) {
    struct bk_error error = BK_ERROR_INIT;
    (void)bk_error_set(&error, BK_TOO_LARGE,
                       "It has too many values for the %zu bytes of memory that a request may have "
                       "(about %zu values): send it in parts.",
                       request->arena.max_bytes, request->arena.max_bytes / JSON_VALUE_BYTES);
    return refuse(request, BK_TOO_LARGE, error.message);
}

static const char huge_number[] = "A number is larger than a double can be (1.8e308).";

/* 1e400 is JSON and no number: what would be stored for it is not what was sent. */
static bool has_huge_number(const struct bk_json *value) {
    double number;
    if (value->type == BK_JSON_NUMBER)
        return !bk_json_to_double(value, &number);
    for (const struct bk_json *child = value->child; child != NULL; child = child->next)
        if (has_huge_number(child))
            return true;
    return false;
}

static bool read_json(struct bk_request *request) {
    struct bk_error error = BK_ERROR_INIT;
    struct bk_json *value = NULL;
    enum bk_status status = bk_json_parse(&request->arena, request->body, &value, &error);
    if (status != BK_OK && request->arena.is_overflown)
        return refuse_large_json(request);
    if (status != BK_OK)
        return refuse(request, status == BK_TOO_LARGE ? status : BK_INVALID, error.message);
    if (value->type == BK_JSON_NULL)
        return true;
    if (value->type != BK_JSON_OBJECT)
        return refuse(request, BK_INVALID, "The body must be a JSON object.");
    if (has_huge_number(value))
        return refuse(request, BK_INVALID, huge_number);
    request->json = value;
    return true;
}

/* --- forms ------------------------------------------------------------------------------------ */

static enum bk_status add_file(struct bk_request *request, const struct api_part *part,
                               struct bk_request_file ***end) {
    struct bk_request_file *file = bk_arena_alloc_zero(&request->arena, sizeof(*file));
    if (request->arena.is_overflown)
        return bk_arena_status(&request->arena);
    file->key = part->name;
    file->name = part->file_name;
    file->content_type = part->content_type;
    file->data = part->data;
    **end = file;
    *end = &file->next;
    return BK_OK;
}

static enum bk_status gather_parts(struct bk_request *request, struct bk_slice content_type,
                                   struct api_form *form) {
    struct bk_request_file *files = NULL, **end = &files;
    struct api_multipart multipart;
    struct api_part part;
    enum bk_status status =
        api_multipart_init(&multipart, &request->arena, content_type, request->body, form->error);
    while (status == BK_OK && (status = api_multipart_next(&multipart, &part)) == BK_OK) {
        if (part.name.length == 0)
            continue;
        status = part.file_name.length > 0 ? add_file(request, &part, &end)
                                           : api_form_add(form, part.name, part.data);
    }
    request->files = files;
    return status == BK_END ? BK_OK : status;
}

static enum bk_status gather_pairs(struct bk_request *request, struct api_form *form) {
    if (request->body.length > API_FORM_TEXT_BYTES_MAX)
        return bk_error_set(form->error, BK_INVALID,
                            "A form of the type application/x-www-form-urlencoded may have at most "
                            "%d bytes: send it as multipart/form-data.",
                            API_FORM_TEXT_BYTES_MAX);
    return api_form_add_pairs(form, request->body);
}

static bool read_form(struct bk_request *request, struct bk_slice content_type, bool is_multipart) {
    struct bk_error error = BK_ERROR_INIT;
    struct api_form form;
    struct bk_json *object = NULL;
    enum bk_status status = BK_OK;
    api_form_init(&form, &request->arena, &error);
    if (!is_multipart)
        status = gather_pairs(request, &form);
    if (status == BK_OK)
        status = api_form_add_pairs(&form, request->query);
    if (status == BK_OK && is_multipart)
        status = gather_parts(request, content_type, &form);
    if (status == BK_OK)
        status = api_form_finish(&form, &object);
    api_form_fini(&form);
    if (status != BK_OK && request->arena.is_overflown)
        return refuse(request, BK_TOO_LARGE, "The form takes more memory than a request may have.");
    if (status != BK_OK)
        return refuse(request, status, error.message);
    if (has_huge_number(object))
        return refuse(request, BK_INVALID, huge_number);
    request->json = object;
    return true;
}

/* --- which of them ---------------------------------------------------------------------------- */

bool api_body_read(struct bk_request *request) {
    struct bk_slice type = bk_request_header(request, BK_SLICE("content-type"));
    if (!request->route->has_json_body || request->body.length == 0)
        return true;
    /* Calls and the control socket bring JSON by agreement. */
    if (api_is_call(request) || request->is_control ||
        bk_slice_starts_with(type, BK_SLICE("application/json")))
        return read_json(request);
    if (bk_slice_starts_with(type, BK_SLICE("multipart/form-data")))
        return read_form(request, type, true);
    if (bk_slice_starts_with(type, BK_SLICE("application/x-www-form-urlencoded")))
        return read_form(request, type, false);
    return refuse(request, BK_INVALID,
                  "Unsupported Content-Type: send application/json, multipart/form-data or "
                  "application/x-www-form-urlencoded.");
}
