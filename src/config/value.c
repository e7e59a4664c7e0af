/*
 * Texts as values: "64MiB" is 67108864, "12h" is 43200000 ms. Units are exact and case matters only
 * where it must not be guessed: KB is 1000 bytes, KiB is 1024. A duration always names its unit,
 * since a bare number would be seconds to one reader and milliseconds to the next; 0 needs none.
 */
#include "config_private.h"

#include <inttypes.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit byte_units[] = {
    {"", 1},
    {"B", 1},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
    {"KiB", 1024},
    {"MiB", 1024 * 1024},
    {"GiB", 1024 * 1024 * 1024},
    {"TiB", 1024LL * 1024 * 1024 * 1024},
};
static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000},
};

/* Digits, then one of the units. */
static bool parse_with_unit(struct bk_slice text, const struct unit *units, size_t unit_count,
                            int64_t *value) {
    size_t digits = 0;
    while (digits < text.length && text.data[digits] >= '0' && text.data[digits] <= '9')
        digits++;
    int64_t number = 0;
    if (!bk_slice_to_int64(bk_slice_make(text.data, digits), &number))
        return false;
    struct bk_slice name = bk_slice_make(text.data + digits, text.length - digits);
    if (number == 0 && name.length == 0) {
        *value = 0;
        return true;
    }
    for (size_t i = 0; i < unit_count; i++)
        if (bk_slice_equal(name, bk_slice_from(units[i].name)))
            return !__builtin_mul_overflow(number, units[i].factor, value);
    return false;
}

static bool parse_bool(struct bk_slice text, bool *value) {
    bool is_true = bk_slice_is(text, "true");
    if (!is_true && !bk_slice_is(text, "false"))
        return false;
    *value = is_true;
    return true;
}

static bool parse_number(enum bk_option_type type, struct bk_slice text, int64_t *value) {
    switch (type) {
    case BK_OPTION_INT:
        return bk_slice_to_int64(text, value);
    case BK_OPTION_BYTES:
        return parse_with_unit(text, byte_units, BK_COUNT_OF(byte_units), value);
    case BK_OPTION_DURATION:
        return parse_with_unit(text, duration_units, BK_COUNT_OF(duration_units), value);
    case BK_OPTION_TEXT:
    case BK_OPTION_SECRET:
    case BK_OPTION_BOOL:
        break;
    }
    BK_UNREACHABLE();
}

static const char *kind_of_number(enum bk_option_type type) {
    switch (type) {
    case BK_OPTION_BYTES:
        return "a number of bytes such as 4096, 64MiB or 10GB";
    case BK_OPTION_DURATION:
        return "a duration such as 250ms, 10s, 5m, 12h or 30d";
    default:
        return "a whole number";
    }
}

static const char *unit_of_number(enum bk_option_type type) {
    return type == BK_OPTION_BYTES ? " bytes" : type == BK_OPTION_DURATION ? " ms" : "";
}

static bool store_number(const struct bk_option *option, struct bk_slice text, char *place,
                         struct bk_buffer *why) {
    int64_t value = 0;
    if (!parse_number(option->type, text, &value)) {
        bk_buffer_format(why, "must be %s", kind_of_number(option->type));
        return false;
    }
    bool is_bounded = option->minimum != 0 || option->maximum != 0;
    if (is_bounded && (value < option->minimum || value > option->maximum)) {
        bk_buffer_format(why, "must be from %" PRId64 " to %" PRId64 "%s", option->minimum,
                         option->maximum, unit_of_number(option->type));
        return false;
    }
    memcpy(place, &value, sizeof value);
    return true;
}

bool config_value_store(const struct bk_option *option, const char *text, char *values,
                        struct bk_buffer *why) {
    BK_ASSERT(text != NULL && values != NULL);
    char *place = values + option->offset;
    switch (option->type) {
    case BK_OPTION_TEXT:
    case BK_OPTION_SECRET:
        if (option->refuse != NULL && option->refuse(text) != NULL) {
            bk_buffer_format(why, "%s", option->refuse(text));
            return false;
        }
        memcpy(place, &text, sizeof text);
        return true;
    case BK_OPTION_BOOL: {
        bool value = false;
        if (!parse_bool(bk_slice_from(text), &value)) {
            bk_buffer_format(why, "must be true or false");
            return false;
        }
        memcpy(place, &value, sizeof value);
        return true;
    }
    case BK_OPTION_INT:
    case BK_OPTION_BYTES:
    case BK_OPTION_DURATION:
        return store_number(option, bk_slice_from(text), place, why);
    }
    BK_UNREACHABLE();
}

/* The largest unit that leaves a whole number; the tables go up, bytes in thousands and then again
 * in steps of 1024. */
void config_value_write(enum bk_option_type type, int64_t value, struct bk_buffer *out) {
    const struct unit *units = type == BK_OPTION_DURATION ? duration_units : byte_units;
    size_t count = type == BK_OPTION_DURATION ? BK_COUNT_OF(duration_units)
                   : type == BK_OPTION_BYTES  ? BK_COUNT_OF(byte_units)
                                              : 0;
    const char *name = "";
    int64_t factor = 1;
    for (size_t i = 0; i < count && value != 0; i++)
        if (value % units[i].factor == 0 && units[i].factor >= factor) {
            factor = units[i].factor;
            name = units[i].name;
        }
    bk_buffer_format(out, "%" PRId64 "%s", value / factor, name);
}
