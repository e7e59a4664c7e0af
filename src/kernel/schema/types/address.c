/* Email addresses, URLs and domains, to the letter of what the contract takes: an address with its
 * domain's last label beginning with a letter, a URL with or without a scheme. */
#include "types.h"

#include "bakend/assert.h"

enum {
    URL_CHARACTERS_MAX = 2082,
    URL_BYTES_MIN = 4,
    PORT_DIGITS_MAX = 5,
    DOMAIN_BYTES_MAX = 255,
    LABEL_BYTES_MAX = 63,
};

static bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
/* A byte of a character past ASCII. */
static bool is_wide(unsigned char c) { return c >= 0x80; }
static bool is_space(unsigned char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static unsigned char at(struct bk_slice text, size_t i) { return (unsigned char)text.data[i]; }

static struct bk_slice part(struct bk_slice text, size_t from, size_t to) {
    return bk_slice_make(text.data + from, to - from);
}

/* The index of the last c, or text.length. */
static size_t find_last(struct bk_slice text, char c) {
    for (size_t i = text.length; i > 0; i--)
        if (text.data[i - 1] == c)
            return i - 1;
    return text.length;
}

/* --- email ------------------------------------------------------------------------------------ */

/* Quoted local parts, which RFC 5321 knows, the contract does not take. */
static bool is_local(struct bk_slice local) {
    bool is_after_dot = true; /* no dot at the ends, no two together */
    for (size_t i = 0; i < local.length; i++) {
        unsigned char c = at(local, i);
        if (c == '.') {
            if (is_after_dot)
                return false;
            is_after_dot = true;
            continue;
        }
        is_after_dot = false;
        if (!is_letter(c) && !is_digit(c) && !is_wide(c) &&
            (c == '\0' || strchr("!#$%&'*+-/=?^_`{|}~", c) == NULL))
            return false;
    }
    return !is_after_dot;
}

static bool is_label_end(unsigned char c) { return is_letter(c) || is_digit(c) || is_wide(c); }

static bool is_mail_domain(struct bk_slice domain) {
    if (domain.length > 0 && at(domain, domain.length - 1) == '.')
        domain.length--;
    if (domain.length < 3 || !is_label_end(at(domain, 0)))
        return false;
    unsigned char last = at(domain, domain.length - 1);
    if (!is_letter(last) && !is_wide(last))
        return false;
    bool has_top = false;
    for (size_t i = 0; i < domain.length; i++) {
        unsigned char c = at(domain, i);
        if (!is_label_end(c) && strchr("-._~", c) == NULL)
            return false;
        if (c == '\0')
            return false;
        if (c == '.' && i > 0 && i + 1 < domain.length && is_label_end(at(domain, i - 1)) &&
            (is_letter(at(domain, i + 1)) || is_wide(at(domain, i + 1))))
            has_top = true;
    }
    return has_top;
}

bool schema_email_is_valid(struct bk_slice text) {
    size_t mark = find_last(text, '@');
    if (mark == text.length || mark == 0)
        return false;
    return is_local(part(text, 0, mark)) && is_mail_domain(part(text, mark + 1, text.length));
}

/* --- URL -------------------------------------------------------------------------------------- */

/* Takes "https://" off the front; false when there is another scheme. */
static bool take_scheme(struct bk_slice *text) {
    static const char *const schemes[] = {"ftp://", "tcp://",  "udp://",  "ws://",
                                          "wss://", "http://", "https://"};
    for (size_t i = 0; i < BK_COUNT_OF(schemes); i++) {
        struct bk_slice scheme = bk_slice_from(schemes[i]);
        if (bk_slice_starts_with(*text, scheme)) {
            *text = part(*text, scheme.length, text->length);
            return true;
        }
    }
    return false;
}

/* Where the path, the query or the fragment begins. */
static size_t authority_length(struct bk_slice text) {
    size_t i = 0;
    while (i < text.length && strchr("/?#", text.data[i]) == NULL)
        i++;
    return i;
}

static bool is_port(struct bk_slice port) {
    for (size_t i = 0; i < port.length; i++)
        if (!is_digit(at(port, i)))
            return false;
    return port.length >= 1 && port.length <= PORT_DIGITS_MAX;
}

static bool is_label(struct bk_slice label) {
    for (size_t i = 0; i < label.length; i++) {
        unsigned char c = at(label, i);
        if (!is_label_end(c) && c != '-' && c != '_')
            return false;
    }
    return label.length > 0 && is_label_end(at(label, 0)) &&
           is_label_end(at(label, label.length - 1));
}

/* Four numbers, the first one of an address that a host can have. */
static bool is_address(struct bk_slice host) {
    struct bk_slice label;
    int64_t number = 0, count = 0;
    while (bk_slice_split(&host, '.', &label)) {
        if (!bk_slice_to_int64(label, &number) || number < 0 || number > 255)
            return false;
        if (count++ == 0 && (number == 0 || (number > 223 && number < 240)))
            return false;
    }
    return count == 4;
}

/* A word, or labels of which the last one is of letters. */
static bool is_host(struct bk_slice host) {
    if (is_address(host))
        return true;
    if (host.length > 0 && at(host, host.length - 1) == '.')
        host.length--;
    struct bk_slice label = BK_SLICE_EMPTY;
    uint32_t count = 0;
    while (bk_slice_split(&host, '.', &label)) {
        if (!is_label(label))
            return false;
        count++;
    }
    for (size_t i = 0; count > 1 && i < label.length; i++)
        if (!is_letter(at(label, i)) && !is_wide(at(label, i)))
            return false;
    return count > 0;
}

static bool is_bracketed(struct bk_slice host) {
    if (host.length < 4 || at(host, 0) != '[' || at(host, host.length - 1) != ']')
        return false;
    size_t colons = 0;
    for (size_t i = 1; i + 1 < host.length; i++) {
        unsigned char c = at(host, i);
        colons += c == ':';
        if (!is_letter(c) && !is_digit(c) && c != ':' && c != '.' && c != '%')
            return false;
    }
    return colons >= 2;
}

static bool is_authority(struct bk_slice authority) {
    size_t mark = find_last(authority, '@');
    if (mark < authority.length) {
        if (mark == 0)
            return false;
        authority = part(authority, mark + 1, authority.length);
    }
    size_t colon = find_last(authority, ':'), bracket = find_last(authority, ']');
    if (colon < authority.length && (bracket == authority.length || bracket < colon)) {
        if (!is_port(part(authority, colon + 1, authority.length)))
            return false;
        authority = part(authority, 0, colon);
    }
    return is_host(authority) || is_bracketed(authority);
}

static size_t count_characters(struct bk_slice text) {
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++)
        count += (at(text, i) & 0xC0) != 0x80;
    return count;
}

/* Broken percent escapes make a URL unreadable. */
static bool has_good_escapes(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] != '%')
            continue;
        for (size_t k = 1; k <= 2; k++)
            if (i + k >= text.length ||
                strchr("0123456789abcdefABCDEF", text.data[i + k]) == NULL ||
                text.data[i + k] == '\0')
                return false;
    }
    return true;
}

bool schema_url_is_valid(struct bk_slice text) {
    if (text.length < URL_BYTES_MIN || count_characters(text) > URL_CHARACTERS_MAX ||
        at(text, 0) == '.')
        return false;
    for (size_t i = 0; i < text.length; i++)
        if (is_space(at(text, i)) || at(text, i) < 0x20 || at(text, i) == 0x7F)
            return false;
    struct bk_slice rest = text;
    bool has_scheme = take_scheme(&rest);
    size_t length = authority_length(rest);
    struct bk_slice authority = part(rest, 0, length);
    /* Without a scheme only a name with a dot, or one with a port, is more than a word. */
    if (!has_scheme && bk_slice_find(text, ':') == text.length &&
        bk_slice_find(part(text, 0, length), '.') == length &&
        bk_slice_find(text, '.') == text.length)
        return false;
    struct bk_slice path = part(rest, length, rest.length);
    path.length = bk_slice_find(path, '?');
    return is_authority(authority) && has_good_escapes(path);
}

struct bk_slice schema_url_host(struct bk_slice text) {
    struct bk_slice rest = text;
    if (!take_scheme(&rest))
        return BK_SLICE("");
    struct bk_slice authority = part(rest, 0, authority_length(rest));
    size_t mark = find_last(authority, '@');
    return mark == authority.length ? authority : part(authority, mark + 1, authority.length);
}

/* --- domain ----------------------------------------------------------------------------------- */

bool schema_domain_is_valid(struct bk_slice text) {
    if (text.length == 0 || text.length > DOMAIN_BYTES_MAX)
        return false;
    struct bk_slice rest = text, label, last = BK_SLICE_EMPTY;
    uint32_t label_count = 0;
    while (bk_slice_split(&rest, '.', &label)) {
        if (label.length == 0 || label.length > LABEL_BYTES_MAX)
            return false;
        for (size_t i = 0; i < label.length; i++) {
            unsigned char c = at(label, i);
            bool is_end = i == 0 || i + 1 == label.length;
            if (!is_letter(c) && !is_digit(c) && (is_end || c != '-'))
                return false;
        }
        last = label;
        label_count++;
    }
    for (size_t i = 0; i < last.length; i++)
        if (!is_letter(at(last, i)))
            return false;
    return label_count >= 2;
}
