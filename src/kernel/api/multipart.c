/*
 * multipart/form-data.
 *
 *   preamble                                     skipped, line by line
 *   --boundary CRLF                              a delimiter
 *   Content-Disposition: form-data; name="a"     a head: lines up to an empty one
 *   CRLF
 *   any bytes                                    up to CRLF--boundary
 *   CRLF--boundary-- CRLF                        the last delimiter; what follows is not looked at
 *
 * The body is in memory, so parts borrow from it and nothing is copied. Lines end in CRLF; a body
 * whose first delimiter ends in LF alone is read with LF throughout, which some clients write and
 * the contract's server reads. Each byte is looked at a bounded number of times, whatever the
 * boundary is.
 *
 * A part without a name belongs to nothing and is skipped. What could be read in two ways is
 * refused: a header that comes twice, folded lines, control characters, a transfer encoding that
 * would have to be undone. A multipart within a part is that part's bytes.
 */
#define _GNU_SOURCE 1 /* memmem */

#include "multipart.h"

#include "bakend/assert.h"
#include "header_value.h"

static enum bk_status refuse(struct api_multipart *multipart, const char *reason) {
    return bk_error_set(multipart->error, BK_INVALID, "%s", reason);
}

/* --- the boundary ----------------------------------------------------------------------------- */

/* RFC 2046's bchars; a boundary does not end in a space. */
static bool is_boundary(struct bk_slice text) {
    if (text.length == 0 || text.length > API_MULTIPART_BOUNDARY_BYTES_MAX ||
        text.data[text.length - 1] == ' ')
        return false;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        bool is_alphanumeric =
            (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_alphanumeric && (c == '\0' || strchr("'()+_,-./:=? ", c) == NULL))
            return false;
    }
    return true;
}

enum bk_status api_multipart_init(struct api_multipart *multipart, struct bk_arena *arena,
                                  struct bk_slice content_type, struct bk_slice body,
                                  struct bk_error *error) {
    struct api_header_parameter boundary = {.name = "boundary"};
    struct bk_slice type;
    memset(multipart, 0, sizeof(*multipart));
    multipart->arena = arena;
    multipart->rest = body;
    multipart->newline_length = 2;
    multipart->error = error;
    if (!api_header_value_read(arena, content_type, &type, &boundary, 1) ||
        !bk_slice_equal_ignore_case(type, BK_SLICE("multipart/form-data")))
        return refuse(multipart, "The Content-Type is not multipart/form-data; boundary=...");
    if (boundary.value.length == 0)
        return refuse(multipart, "The Content-Type multipart/form-data names no boundary.");
    if (!is_boundary(boundary.value))
        return refuse(multipart, "The boundary must have 1 to 70 of the characters that RFC 2046 "
                                 "allows in it.");
    memcpy(multipart->delimiter, "\r\n--", 4);
    memcpy(multipart->delimiter + 4, boundary.value.data, boundary.value.length);
    multipart->delimiter_length = 4 + boundary.value.length;
    return BK_OK;
}

/* "--boundary" */
static struct bk_slice dash_boundary(const struct api_multipart *multipart) {
    return bk_slice_make(multipart->delimiter + 2, multipart->delimiter_length - 2);
}

/* "\r\n--boundary", or without the CR. */
static struct bk_slice delimiter(const struct api_multipart *multipart) {
    size_t skipped = 2 - multipart->newline_length;
    return bk_slice_make(multipart->delimiter + skipped, multipart->delimiter_length - skipped);
}

static struct bk_slice newline(const struct api_multipart *multipart) {
    return bk_slice_make(multipart->delimiter + 2 - multipart->newline_length,
                         multipart->newline_length);
}

/* --- lines ------------------------------------------------------------------------------------ */

static struct bk_slice from(struct bk_slice text, size_t offset) {
    BK_ASSERT(offset <= text.length);
    return bk_slice_make(text.data + offset, text.length - offset);
}

/* With its end, which the last one may lack; false when nothing is left. */
static bool take_line(struct api_multipart *multipart, struct bk_slice *line) {
    struct bk_slice rest = multipart->rest;
    size_t end = rest.length == 0 ? 0 : bk_slice_find(rest, '\n');
    if (rest.length == 0)
        return false;
    *line = bk_slice_make(rest.data, end < rest.length ? end + 1 : end);
    multipart->rest = from(rest, line->length);
    return true;
}

/* What follows prefix in the line, white space skipped; false when it does not begin with it. */
static bool begins(struct bk_slice line, struct bk_slice prefix, struct bk_slice *rest) {
    if (!bk_slice_starts_with(line, prefix))
        return false;
    *rest = from(line, prefix.length);
    while (rest->length > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t'))
        *rest = from(*rest, 1);
    return true;
}

static bool is_delimiter_line(struct api_multipart *multipart, struct bk_slice line) {
    struct bk_slice rest;
    if (!begins(line, dash_boundary(multipart), &rest))
        return false;
    if (multipart->part_count == 0 && bk_slice_is(rest, "\n"))
        multipart->newline_length = 1;
    return bk_slice_equal(rest, newline(multipart));
}

static bool is_last_line(const struct api_multipart *multipart, struct bk_slice line) {
    struct bk_slice rest;
    if (!begins(line, dash_boundary(multipart), &rest) ||
        rest.data != line.data + multipart->delimiter_length - 2 ||
        !begins(rest, BK_SLICE("--"), &rest))
        return false;
    return rest.length == 0 || bk_slice_equal(rest, newline(multipart));
}

/* Up to and with the next delimiter. Between a part and its delimiter stands one newline, or none
 * when the part is empty. */
static enum bk_status find_part(struct api_multipart *multipart) {
    bool is_first = multipart->part_count == 0, has_newline = false;
    struct bk_slice line;
    while (take_line(multipart, &line)) {
        if (is_delimiter_line(multipart, line)) {
            if (++multipart->part_count <= API_MULTIPART_PARTS_MAX)
                return BK_OK;
            return bk_error_set(multipart->error, BK_TOO_LARGE,
                                "The form may have at most %d parts.", API_MULTIPART_PARTS_MAX);
        }
        if (is_last_line(multipart, line))
            return BK_END;
        if (is_first)
            continue;
        if (has_newline || !bk_slice_equal(line, newline(multipart)))
            return refuse(multipart, "The form has text behind a delimiter.");
        has_newline = true;
    }
    return refuse(multipart, is_first ? "The body holds no delimiter with the boundary of its "
                                        "Content-Type."
                                      : "The form ends before its last delimiter.");
}

/* --- the head of a part ----------------------------------------------------------------------- */

struct head {
    struct bk_slice disposition, content_type, transfer_encoding;
    size_t bytes;
};

/* RFC 9110's tokens. */
static bool is_header_name(struct bk_slice name) {
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c) != NULL)
            return false;
    }
    return name.length > 0;
}

static bool has_control(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

static struct bk_slice *slot_of(struct head *head, struct bk_slice name) {
    if (bk_slice_equal_ignore_case(name, BK_SLICE("content-disposition")))
        return &head->disposition;
    if (bk_slice_equal_ignore_case(name, BK_SLICE("content-type")))
        return &head->content_type;
    if (bk_slice_equal_ignore_case(name, BK_SLICE("content-transfer-encoding")))
        return &head->transfer_encoding;
    return NULL;
}

/* line: without its end. */
static enum bk_status read_header(struct api_multipart *multipart, struct bk_slice line,
                                  struct head *head) {
    size_t colon = bk_slice_find(line, ':');
    struct bk_slice name = bk_slice_make(line.data, colon), value, *slot;
    if (colon == line.length || !is_header_name(name))
        return refuse(multipart, "A part has a header line that is not \"Name: value\".");
    value = bk_slice_trim(from(line, colon + 1));
    if (has_control(value))
        return refuse(multipart, "A part has a header with control characters.");
    slot = slot_of(head, name);
    if (slot == NULL)
        return BK_OK;
    if (slot->data != NULL)
        return refuse(multipart, "A part has the same header twice.");
    *slot = value;
    return BK_OK;
}

static enum bk_status read_head(struct api_multipart *multipart, struct head *head) {
    struct bk_slice line;
    memset(head, 0, sizeof(*head));
    while (take_line(multipart, &line)) {
        if (!bk_slice_ends_with(line, newline(multipart)))
            return refuse(multipart, "A header line of a part does not end as its delimiter does.");
        line.length -= multipart->newline_length;
        if (line.length == 0)
            return BK_OK;
        head->bytes += line.length;
        if (head->bytes > API_MULTIPART_HEAD_BYTES_MAX)
            return bk_error_set(multipart->error, BK_TOO_LARGE,
                                "The headers of a part may have at most %d bytes.",
                                API_MULTIPART_HEAD_BYTES_MAX);
        enum bk_status status = read_header(multipart, line, head);
        if (status != BK_OK)
            return status;
    }
    return refuse(multipart, "The form ends within the headers of a part.");
}

static bool is_plain(struct bk_slice encoding) {
    static const char *const plain[] = {"", "7bit", "8bit", "binary"};
    for (size_t i = 0; i < BK_COUNT_OF(plain); i++)
        if (bk_slice_equal_ignore_case(encoding, bk_slice_from(plain[i])))
            return true;
    return false;
}

/* Without folders: what a client's disk looks like is nobody's business here. */
static struct bk_slice base_name(struct bk_slice path) {
    while (path.length > 1 && path.data[path.length - 1] == '/')
        path.length--;
    for (size_t i = path.length; i > 1; i--)
        if (path.data[i - 2] == '/')
            return from(path, i - 1);
    return path;
}

static bool is_text(struct bk_slice text) { return !has_control(text) && bk_slice_is_utf8(text); }

static enum bk_status name_part(struct api_multipart *multipart, const struct head *head,
                                struct api_part *part) {
    struct api_header_parameter wanted[] = {{.name = "name"}, {.name = "filename"}};
    struct bk_slice main;
    memset(part, 0, sizeof(*part));
    if (!is_plain(head->transfer_encoding))
        return refuse(multipart, "A part has a Content-Transfer-Encoding: send its bytes as they "
                                 "are.");
    if (!api_header_value_read(multipart->arena, head->disposition, &main, wanted,
                               BK_COUNT_OF(wanted)))
        return refuse(multipart, "The Content-Disposition of a part cannot be read.");
    if (!bk_slice_equal_ignore_case(main, BK_SLICE("form-data")))
        return BK_OK;
    if (wanted[0].value.length > API_MULTIPART_NAME_BYTES_MAX)
        return bk_error_set(multipart->error, BK_TOO_LARGE,
                            "The name of a form's field may have at most %d bytes.",
                            API_MULTIPART_NAME_BYTES_MAX);
    if (!is_text(wanted[0].value) || !is_text(wanted[1].value))
        return refuse(multipart, "The names of fields and files must be UTF-8 without control "
                                 "characters.");
    part->name = wanted[0].value;
    part->file_name = base_name(wanted[1].value);
    part->content_type = head->content_type;
    return BK_OK;
}

/* --- the bytes of a part ---------------------------------------------------------------------- */

/* Whether what follows a boundary makes it a delimiter: "--b" must not end a part of "--bc". */
static bool ends_delimiter(struct bk_slice behind) {
    char next = behind.length == 0 ? '\n' : behind.data[0];
    return next == ' ' || next == '\t' || next == '\r' || next == '\n' ||
           bk_slice_starts_with(behind, BK_SLICE("--"));
}

static enum bk_status read_data(struct api_multipart *multipart, struct api_part *part) {
    struct bk_slice rest = multipart->rest, mark = delimiter(multipart);
    size_t offset = 0;
    part->data = bk_slice_make(rest.data, 0);
    if (bk_slice_starts_with(rest, dash_boundary(multipart)) &&
        ends_delimiter(from(rest, mark.length - multipart->newline_length)))
        return BK_OK;
    while (rest.length - offset >= mark.length) {
        const char *found =
            memmem(rest.data + offset, rest.length - offset, mark.data, mark.length);
        if (found == NULL)
            break;
        offset = (size_t)(found - rest.data);
        if (ends_delimiter(from(rest, offset + mark.length))) {
            part->data.length = offset;
            multipart->rest = from(rest, offset);
            return BK_OK;
        }
        offset += mark.length;
    }
    return refuse(multipart, "The form ends within a part: its last delimiter is missing.");
}

enum bk_status api_multipart_next(struct api_multipart *multipart, struct api_part *part) {
    struct head head;
    enum bk_status status = find_part(multipart);
    if (status == BK_OK)
        status = read_head(multipart, &head);
    if (status == BK_OK)
        status = name_part(multipart, &head, part);
    if (status == BK_OK)
        status = read_data(multipart, part);
    return status;
}
