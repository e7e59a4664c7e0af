/*
 * Bodies of a few texts, judged in the contract's words: what is no text is not loaded at all; what
 * is missing, too long or no address is named by its field.
 */
#include "auth.h"

#include <stdio.h>

/* JSON's own numbers, lists and objects are no texts; of a form everything is one. */
static bool is_text(const struct bk_json *member) {
    return member == NULL || member->type == BK_JSON_NULL || member->type == BK_JSON_STRING ||
           member->string.data != NULL;
}

static void judge(struct bk_request *request, const struct auth_form_text *text) {
    struct bk_slice path = bk_slice_from(text->name);
    size_t minimum = text->bytes_min > 1 ? text->bytes_min : 1;
    char message[64], params[64];
    if (text->value->length == 0 && text->is_required) {
        bk_problems_add(&request->problems, path, "validation_required", "Cannot be blank.");
    } else if (text->value->length > text->bytes_max ||
               (text->value->length > 0 && text->value->length < minimum)) {
        snprintf(message, sizeof message, "The length must be between %zu and %zu.", minimum,
                 text->bytes_max);
        snprintf(params, sizeof params, "{\"max\":%zu,\"min\":%zu}", text->bytes_max, minimum);
        bk_problems_add_params(&request->problems, path, "validation_length_out_of_range", message,
                               bk_slice_from(params));
    } else if (text->is_email && text->value->length > 0 && !bk_email_is_valid(*text->value)) {
        bk_problems_add(&request->problems, path, "validation_is_email",
                        "Must be a valid email address.");
    }
}

bool auth_form_load(struct bk_request *request, const struct auth_form_text *texts, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!is_text(bk_json_get(request->json, bk_slice_from(texts[i].name)))) {
            bk_answer_error(request, BK_INVALID,
                            "An error occurred while loading the submitted data.");
            return false;
        }
    for (size_t i = 0; i < count; i++) {
        *texts[i].value = bk_json_get_string(request->json, bk_slice_from(texts[i].name));
        judge(request, &texts[i]);
    }
    return true;
}

bool auth_form_is_right(struct bk_request *request) {
    if (request->problems.count == 0)
        return true;
    bk_answer_problems(request, BK_INVALID,
                       "An error occurred while validating the submitted data.");
    return false;
}

bool auth_form_read(struct bk_request *request, const struct auth_form_text *texts, size_t count) {
    return auth_form_load(request, texts, count) && auth_form_is_right(request);
}
