/*
 * Addresses, as narrow as what is delivered everywhere: a dot-atom and a domain of RFC 5321, in
 * ASCII. Quoted local parts and address literals are refused, and so are letters beyond ASCII: they
 * would need SMTPUTF8 on every server of the way. A domain has an ASCII form of its own, xn--….
 */
#include "mail.h"

enum { LOCAL_BYTES_MAX = 64, DOMAIN_BYTES_MAX = 253, LABEL_BYTES_MAX = 63 };

bool mail_has_control(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return true;
    return false;
}

static bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_atom(struct bk_slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] == '\0' ||
            (!is_alphanumeric(text.data[i]) && strchr("!#$%&'*+-/=?^_`{|}~", text.data[i]) == NULL))
            return false;
    return text.length > 0;
}

static bool is_local(struct bk_slice local) {
    struct bk_slice rest = local, atom;
    if (local.length == 0 || local.length > LOCAL_BYTES_MAX || local.data[local.length - 1] == '.')
        return false;
    while (bk_slice_split(&rest, '.', &atom))
        if (!is_atom(atom))
            return false;
    return true;
}

static bool is_label(struct bk_slice label) {
    if (label.length == 0 || label.length > LABEL_BYTES_MAX || label.data[0] == '-' ||
        label.data[label.length - 1] == '-')
        return false;
    for (size_t i = 0; i < label.length; i++)
        if (!is_alphanumeric(label.data[i]) && label.data[i] != '-')
            return false;
    return true;
}

static bool is_domain(struct bk_slice domain) {
    struct bk_slice rest = domain, label = BK_SLICE_EMPTY;
    int64_t number;
    if (domain.length == 0 || domain.length > DOMAIN_BYTES_MAX ||
        domain.data[domain.length - 1] == '.')
        return false;
    while (bk_slice_split(&rest, '.', &label))
        if (!is_label(label))
            return false;
    return !bk_slice_to_int64(label, &number); /* an IPv4 address is none */
}

bool mail_address_is_valid(struct bk_slice text) {
    size_t at = bk_slice_find(text, '@');
    return at < text.length && is_local(bk_slice_make(text.data, at)) &&
           is_domain(bk_slice_make(text.data + at + 1, text.length - at - 1));
}
