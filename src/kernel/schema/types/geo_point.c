/* geoPoint: a place, kept as the text {"lon":…,"lat":…}. The one at 0, 0 is the empty value. Of
 * input that is only in part a place that part counts: a member that is no number ends the reading
 * there. */
#include "types.h"

#include <math.h>

#define NOWHERE BK_SLICE("{\"lon\":0,\"lat\":0}")

struct place {
    double longitude, latitude;
};

static struct place read_place(const struct bk_json *input) {
    struct place place = {0, 0};
    for (const struct bk_json *member = input->child;
         input->type == BK_JSON_OBJECT && member != NULL; member = member->next) {
        double *target = NULL;
        if (bk_slice_equal_ignore_case(member->key, BK_SLICE("lon")))
            target = &place.longitude;
        else if (bk_slice_equal_ignore_case(member->key, BK_SLICE("lat")))
            target = &place.latitude;
        if (target != NULL && member->type == BK_JSON_NUMBER)
            bk_json_to_double(member, target);
    }
    return place;
}

static void normalise(const struct bk_field *field, const struct bk_json *input,
                      struct bk_value *value, struct bk_arena *arena) {
    (void)field;
    struct bk_json *parsed;
    if (input->type == BK_JSON_STRING &&
        bk_json_parse(arena, input->string, &parsed, NULL) == BK_OK)
        input = parsed;
    struct place place = read_place(input);
    struct bk_buffer out;
    bk_buffer_init(&out, 128);
    bk_buffer_append_literal(&out, "{\"lon\":");
    bk_json_write_double(&out, place.longitude);
    bk_buffer_append_literal(&out, ",\"lat\":");
    bk_json_write_double(&out, place.latitude);
    bk_buffer_append_char(&out, '}');
    *value = BK_VALUE_OF_TEXT(bk_arena_copy(arena, bk_buffer_slice(&out)));
    bk_buffer_fini(&out);
}

static void empty(const struct bk_field *field, struct bk_value *value) {
    (void)field;
    *value = BK_VALUE_OF_TEXT(NOWHERE);
}

/* The number behind the name, in the form that normalise writes. */
static double number_after(struct bk_slice text, struct bk_slice name) {
    struct bk_json number = {.type = BK_JSON_NUMBER};
    double value = 0;
    for (size_t i = 0; i + name.length < text.length; i++) {
        if (memcmp(text.data + i, name.data, name.length) != 0)
            continue;
        struct bk_slice rest =
            bk_slice_make(text.data + i + name.length, text.length - i - name.length);
        rest.length = bk_slice_find(rest, ',');
        number.text = bk_slice_make(rest.data, bk_slice_find(rest, '}'));
        bk_json_to_double(&number, &value);
        break;
    }
    return value;
}

static void validate(const struct bk_field *field, const struct bk_value *value,
                     struct bk_problems *problems) {
    if (schema_value_is_empty_text(value) || bk_slice_equal(value->text, NOWHERE)) {
        schema_problem_if_required(field, problems);
        return;
    }
    if (fabs(number_after(value->text, BK_SLICE("\"lat\":"))) > 90)
        bk_problems_add(problems, field->name, "validation_invalid_latitude",
                        "Latitude must be between -90 and 90 degrees.");
    else if (fabs(number_after(value->text, BK_SLICE("\"lon\":"))) > 180)
        bk_problems_add(problems, field->name, "validation_invalid_longitude",
                        "Longitude must be between -180 and 180 degrees.");
}

static void write_json(const struct bk_field *field, const struct bk_value *value,
                       struct bk_buffer *out) {
    (void)field;
    bk_buffer_append_slice(out, schema_value_is_empty_text(value) ? NOWHERE : value->text);
}

const struct bk_field_type schema_type_geo_point = {
    .name = "geoPoint",
    .column = "TEXT DEFAULT '{\"lon\":0,\"lat\":0}' NOT NULL",
    .normalise = normalise,
    .empty = empty,
    .validate = validate,
    .write_json = write_json,
};
