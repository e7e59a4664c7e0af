/* JSON trees written, compactly for hashes and in lines for people, and compared. */
#include "migrations_private.h"

void migrations_write_compact(struct bk_buffer *out, const struct bk_json *value) {
    bool is_object = value->type == BK_JSON_OBJECT;
    if (value->type == BK_JSON_STRING) {
        bk_json_write_string(out, value->string);
    } else if (!is_object && value->type != BK_JSON_ARRAY) {
        bk_buffer_append_slice(out, value->text);
    } else {
        bk_buffer_append_char(out, is_object ? '{' : '[');
        for (const struct bk_json *child = value->child; child != NULL; child = child->next) {
            if (child != value->child)
                bk_buffer_append_char(out, ',');
            if (is_object) {
                bk_json_write_string(out, child->key);
                bk_buffer_append_char(out, ':');
            }
            migrations_write_compact(out, child);
        }
        bk_buffer_append_char(out, is_object ? '}' : ']');
    }
}

static void write_line(struct bk_buffer *out, uint32_t depth) {
    bk_buffer_append_char(out, '\n');
    for (uint32_t i = 0; i < depth; i++)
        bk_buffer_append_literal(out, "  ");
}

void migrations_write_pretty(struct bk_buffer *out, const struct bk_json *value, uint32_t depth) {
    bool is_object = value->type == BK_JSON_OBJECT;
    if ((!is_object && value->type != BK_JSON_ARRAY) || value->child == NULL) {
        migrations_write_compact(out, value);
        return;
    }
    bk_buffer_append_char(out, is_object ? '{' : '[');
    for (const struct bk_json *child = value->child; child != NULL; child = child->next) {
        if (child != value->child)
            bk_buffer_append_char(out, ',');
        write_line(out, depth + 1);
        if (is_object) {
            bk_json_write_string(out, child->key);
            bk_buffer_append_literal(out, ": ");
        }
        migrations_write_pretty(out, child, depth + 1);
    }
    write_line(out, depth);
    bk_buffer_append_char(out, is_object ? '}' : ']');
}

/* --- comparing -------------------------------------------------------------------------------- */

static bool has_same_items(const struct bk_json *one, const struct bk_json *other,
                           bool (*is_same)(const struct bk_json *, const struct bk_json *)) {
    const struct bk_json *left = one->child, *right = other->child;
    for (; left != NULL && right != NULL; left = left->next, right = right->next)
        if (!is_same(left, right))
            return false;
    return left == NULL && right == NULL;
}

static bool is_same_scalar(const struct bk_json *one, const struct bk_json *other) {
    return one->type == BK_JSON_STRING ? bk_slice_equal(one->string, other->string)
                                       : bk_slice_equal(one->text, other->text);
}

bool migrations_json_covers(const struct bk_json *there, const struct bk_json *wanted) {
    if (there == NULL || there->type != wanted->type)
        return false;
    if (wanted->type == BK_JSON_ARRAY)
        return has_same_items(there, wanted, migrations_json_covers);
    if (wanted->type != BK_JSON_OBJECT)
        return is_same_scalar(there, wanted);
    for (const struct bk_json *member = wanted->child; member != NULL; member = member->next)
        if (!migrations_json_covers(bk_json_get(there, member->key), member))
            return false;
    return true;
}

bool migrations_json_equal(const struct bk_json *one, const struct bk_json *other) {
    if (one == NULL || other == NULL)
        return one == other;
    if (one->type != other->type)
        return false;
    if (one->type == BK_JSON_ARRAY)
        return has_same_items(one, other, migrations_json_equal);
    if (one->type != BK_JSON_OBJECT)
        return is_same_scalar(one, other);
    if (one->child_count != other->child_count)
        return false;
    for (const struct bk_json *member = one->child; member != NULL; member = member->next)
        if (!migrations_json_equal(member, bk_json_get(other, member->key)))
            return false;
    return true;
}
