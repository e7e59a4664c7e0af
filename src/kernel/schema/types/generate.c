/*
 * Random texts from a pattern, for autogeneratePattern. What it reads is the part of a regular
 * expression that says how to make a text rather than how to find one:
 *
 *   alternatives := sequence { "|" sequence }
 *   sequence     := { atom [ "?" | "*" | "+" | "{" n [ "," [ m ] ] "}" ] }
 *   atom         := character | "." | "[" ranges "]" | "(" alternatives ")"
 *                   | "\" ( "d" | "w" | "s" | "n" | "t" | punctuation )
 *
 * An open-ended repetition stops at six. Anchors, classes of what not to take, flags and references
 * are refused with a reason. An alternative is chosen before it is read, so each is parsed when it
 * is made; those not chosen are read too, without making anything, to find the end.
 */
#include "types.h"

#include "bakend/assert.h"
#include "bakend/id.h"

enum {
    DEPTH_MAX = 16,        /* of groups */
    ALTERNATIVES_MAX = 64, /* of one group */
    RANGES_MAX = 64,       /* of one class */
    OPEN_REPEAT_MAX = 6,   /* "*", "+" and "{3,}" (at least its minimum) */
    REPEAT_MAX = 1000,
    PATTERN_BYTES_MAX = 4096,
    STEPS_MAX = 200000, /* groups in groups repeat each other: a bound on the whole */
};

struct generator {
    struct bk_slice pattern;
    size_t position;
    struct bk_buffer *out;
    struct bk_error *error;
    uint32_t steps;
    bool has_failed;
};

struct ranges {
    uint32_t low[RANGES_MAX], high[RANGES_MAX];
    size_t count;
};

static void write_alternatives(struct generator *generator, bool makes, int depth);

static void fail(struct generator *generator, const char *reason) {
    if (!generator->has_failed)
        bk_error_set(generator->error, BK_INVALID, "%s at byte %zu", reason, generator->position);
    generator->has_failed = true;
    generator->position = generator->pattern.length;
}

static bool is_at_end(const struct generator *generator) {
    return generator->position >= generator->pattern.length;
}

static char peek(const struct generator *generator) {
    return is_at_end(generator) ? '\0' : generator->pattern.data[generator->position];
}

static uint64_t pick(uint64_t count) {
    BK_ASSERT(count > 0);
    return bk_random_u64() % count; /* count is below 2^21: the bias is below 2^-43 */
}

/* --- characters ------------------------------------------------------------------------------- */

/* The next character of the pattern, which is UTF-8. */
static uint32_t take_character(struct generator *generator) {
    const unsigned char *byte =
        (const unsigned char *)generator->pattern.data + generator->position;
    size_t left = generator->pattern.length - generator->position;
    size_t length = byte[0] < 0x80 ? 1 : byte[0] < 0xE0 ? 2 : byte[0] < 0xF0 ? 3 : 4;
    if (length > left || byte[0] == 0) {
        fail(generator, "a broken character");
        return 'x';
    }
    static const unsigned char masks[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t character = byte[0] & masks[length];
    for (size_t i = 1; i < length; i++)
        character = character << 6 | (byte[i] & 0x3F);
    generator->position += length;
    return character;
}

static void write_character(struct bk_buffer *out, uint32_t c) {
    char bytes[4];
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = length - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    bytes[0] = (char)(leads[length] | c);
    bk_buffer_append(out, bytes, length);
}

static void add_range(struct generator *generator, struct ranges *ranges, uint32_t low,
                      uint32_t high) {
    if (ranges->count == RANGES_MAX || low > high) {
        fail(generator, low > high ? "a range that ends before it begins" : "too many ranges");
        return;
    }
    if (low < 0xE000 && high > 0xD7FF) {
        fail(generator, "a range over the surrogates");
        return;
    }
    ranges->low[ranges->count] = low;
    ranges->high[ranges->count++] = high;
}

/* After a backslash: a class of characters, or one of them. */
static void take_escape(struct generator *generator, struct ranges *ranges) {
    char c = peek(generator);
    generator->position++;
    switch (c) {
    case 'w':
        add_range(generator, ranges, '_', '_');
        add_range(generator, ranges, 'a', 'z');
        add_range(generator, ranges, 'A', 'Z');
        add_range(generator, ranges, '0', '9');
        return;
    case 'd':
        add_range(generator, ranges, '0', '9');
        return;
    case 's':
        add_range(generator, ranges, ' ', ' ');
        return;
    case 'n':
        add_range(generator, ranges, '\n', '\n');
        return;
    case 't':
        add_range(generator, ranges, '\t', '\t');
        return;
    default:
        if (c > ' ' && c < 0x7F && (c < '0' || c > '9') && (c < 'A' || c > 'Z') &&
            (c < 'a' || c > 'z'))
            add_range(generator, ranges, (uint32_t)c, (uint32_t)c);
        else
            fail(generator, "an escape that cannot be generated");
    }
}

/* One end of a range inside brackets. */
static uint32_t take_class_end(struct generator *generator) {
    if (peek(generator) != '\\')
        return take_character(generator);
    generator->position++;
    struct ranges one = {.count = 0};
    take_escape(generator, &one);
    if (one.count != 1 || one.low[0] != one.high[0]) {
        fail(generator, "a class as the end of a range");
        return 'x';
    }
    return one.low[0];
}

/* After '['. */
static void take_class(struct generator *generator, struct ranges *ranges) {
    if (peek(generator) == '^') {
        fail(generator, "a class of what not to take cannot be generated");
        return;
    }
    bool is_first = true;
    while (!is_at_end(generator) && (is_first || peek(generator) != ']')) {
        is_first = false;
        if (peek(generator) == '[' && generator->position + 1 < generator->pattern.length &&
            generator->pattern.data[generator->position + 1] == ':') {
            fail(generator, "a named class cannot be generated");
            return;
        }
        size_t before = generator->position;
        if (peek(generator) == '\\') {
            generator->position++;
            size_t count = ranges->count;
            take_escape(generator, ranges);
            if (ranges->count != count + 1 || ranges->low[count] != ranges->high[count] ||
                peek(generator) != '-')
                continue;
            ranges->count = count; /* "\.-x": it may be the start of a range */
            generator->position = before;
        }
        uint32_t low = take_class_end(generator), high = low;
        if (peek(generator) == '-' && generator->position + 1 < generator->pattern.length &&
            generator->pattern.data[generator->position + 1] != ']') {
            generator->position++;
            high = take_class_end(generator);
        }
        add_range(generator, ranges, low, high);
    }
    if (peek(generator) != ']')
        fail(generator, "a class without its ]");
    generator->position++;
}

static void write_one_of(struct generator *generator, const struct ranges *ranges) {
    uint64_t total = 0;
    for (size_t i = 0; i < ranges->count; i++)
        total += ranges->high[i] - ranges->low[i] + 1;
    if (total == 0) {
        fail(generator, "an empty class");
        return;
    }
    uint64_t index = pick(total);
    for (size_t i = 0; i < ranges->count; i++) {
        uint64_t size = ranges->high[i] - ranges->low[i] + 1;
        if (index < size) {
            write_character(generator->out, ranges->low[i] + (uint32_t)index);
            return;
        }
        index -= size;
    }
}

/* --- atoms ------------------------------------------------------------------------------------ */

/* After '('. */
static void write_group(struct generator *generator, bool makes, int depth) {
    if (peek(generator) == '?') {
        if (generator->position + 1 >= generator->pattern.length ||
            generator->pattern.data[generator->position + 1] != ':') {
            fail(generator, "flags, names and lookarounds cannot be generated");
            return;
        }
        generator->position += 2;
    }
    write_alternatives(generator, makes, depth + 1);
    if (peek(generator) != ')')
        fail(generator, "a group without its )");
    generator->position++;
}

static void write_atom(struct generator *generator, bool makes, int depth) {
    char c = peek(generator);
    if (++generator->steps > STEPS_MAX) {
        fail(generator, "more than can be generated");
        return;
    }
    if (c == '(') {
        generator->position++;
        write_group(generator, makes, depth);
        return;
    }
    if (strchr("^$*+?{", c) != NULL && c != '\0') {
        fail(generator, c == '^' || c == '$' ? "anchors cannot be generated: leave them out"
                                             : "a repetition of nothing");
        return;
    }
    struct ranges ranges = {.count = 0};
    if (c == '\\' || c == '[' || c == '.') {
        generator->position++;
        if (c == '\\')
            take_escape(generator, &ranges);
        else if (c == '[')
            take_class(generator, &ranges);
        if (c == '.') {
            add_range(generator, &ranges, 'a', 'z');
            add_range(generator, &ranges, 'A', 'Z');
            add_range(generator, &ranges, '0', '9');
        }
    } else {
        uint32_t character = take_character(generator);
        add_range(generator, &ranges, character, character);
    }
    if (makes && !generator->has_failed)
        write_one_of(generator, &ranges);
}

/* --- repetition ------------------------------------------------------------------------------- */

static bool take_count(struct generator *generator, uint32_t *count) {
    size_t start = generator->position;
    uint32_t number = 0;
    while (peek(generator) >= '0' && peek(generator) <= '9' && number <= REPEAT_MAX) {
        number = number * 10 + (uint32_t)(peek(generator) - '0');
        generator->position++;
    }
    if (generator->position == start)
        return false;
    if (number > REPEAT_MAX)
        fail(generator, "a repetition of more than 1000");
    *count = number;
    return true;
}

/* How often the atom just read is to come; 1 and 1 without a mark. */
static void take_repetition(struct generator *generator, uint32_t *minimum, uint32_t *maximum) {
    char c = peek(generator);
    *minimum = *maximum = 1;
    if (c == '\0' || strchr("?*+{", c) == NULL)
        return;
    generator->position++;
    if (c != '{') {
        *minimum = c == '+';
        *maximum = c == '?' ? 1 : OPEN_REPEAT_MAX;
    } else {
        if (!take_count(generator, minimum))
            fail(generator, "a number is missing after {");
        *maximum = *minimum;
        if (peek(generator) == ',') {
            generator->position++;
            if (!take_count(generator, maximum))
                *maximum = *minimum > OPEN_REPEAT_MAX ? *minimum : OPEN_REPEAT_MAX;
        }
        if (peek(generator) != '}' || *maximum < *minimum)
            fail(generator, "a repetition that cannot be read");
        generator->position++;
    }
    if (peek(generator) == '?') /* the lazy form makes no difference here */
        generator->position++;
}

/* Reads the atom once without making it, to find its repetition, then makes it that many times. */
static void write_repeated(struct generator *generator, bool makes, int depth) {
    size_t start = generator->position;
    uint32_t minimum, maximum;
    write_atom(generator, false, depth);
    take_repetition(generator, &minimum, &maximum);
    size_t end = generator->position;
    if (!makes)
        return;
    uint64_t count = generator->has_failed ? 0 : minimum + pick((uint64_t)maximum - minimum + 1);
    for (uint64_t i = 0; i < count && !generator->has_failed; i++) {
        generator->position = start;
        write_atom(generator, true, depth);
        if (generator->out->is_overflown)
            fail(generator, "a text that is too long");
    }
    generator->position = end;
}

static void write_sequence(struct generator *generator, bool makes, int depth) {
    while (!is_at_end(generator) && peek(generator) != '|' && peek(generator) != ')')
        write_repeated(generator, makes, depth);
}

static void write_alternatives(struct generator *generator, bool makes, int depth) {
    size_t starts[ALTERNATIVES_MAX], count = 0;
    if (depth > DEPTH_MAX) {
        fail(generator, "groups that are nested too deep");
        return;
    }
    do {
        if (count == ALTERNATIVES_MAX) {
            fail(generator, "too many alternatives");
            return;
        }
        if (count > 0)
            generator->position++;
        starts[count++] = generator->position;
        write_sequence(generator, false, depth);
    } while (peek(generator) == '|');
    if (!makes || generator->has_failed)
        return;
    size_t end = generator->position;
    generator->position = starts[pick(count)];
    write_sequence(generator, true, depth);
    generator->position = end;
}

enum bk_status schema_generate(struct bk_slice pattern, struct bk_buffer *out,
                               struct bk_error *error) {
    struct generator generator = {.pattern = pattern, .out = out, .error = error};
    if (pattern.length > PATTERN_BYTES_MAX)
        return bk_error_set(error, BK_INVALID, "longer than %d bytes", PATTERN_BYTES_MAX);
    write_alternatives(&generator, true, 0);
    if (!generator.has_failed && !is_at_end(&generator))
        fail(&generator, "a ) without its group");
    return generator.has_failed || out->is_overflown ? BK_INVALID : BK_OK;
}
