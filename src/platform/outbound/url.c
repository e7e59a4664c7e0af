/*
 * URLs, by libcurl's own parser: two that read one text in two ways are how a check is passed by
 * (https://allowed\@forbidden). The parsed URL is what is then asked, not the text.
 *
 * A check before resolving is a courtesy, so that who saves a URL hears of it at once. It refuses
 * literal addresses in all their spellings (libcurl reads 0x7f.1 as 127.0.0.1) and names of this
 * machine; what a name leads to is judged when a socket is about to connect (gate.c).
 */
#include "outbound_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_BEYOND_ASCII = 0x80, PARSE_FLAGS = CURLU_DISALLOW_USER | CURLU_URLENCODE };

/* --- parsing ---------------------------------------------------------------------------------- */

static enum bk_status describe_problem(CURLUcode code, enum bk_outbound_failure *failure,
                                       struct bk_error *error) {
    *failure = BK_OUTBOUND_URL;
    switch (code) {
    case CURLUE_USER_NOT_ALLOWED:
        return bk_error_set(error, BK_INVALID,
                            "a URL may not have a user or a password: send them in a header");
    case CURLUE_UNSUPPORTED_SCHEME:
        *failure = BK_OUTBOUND_BLOCKED;
        return bk_error_set(error, BK_INVALID,
                            "the URL's protocol is not one that can be used: begin with https://");
    case CURLUE_BAD_SCHEME:
        return bk_error_set(error, BK_INVALID, "the URL has no protocol: begin with https://");
    case CURLUE_NO_HOST:
    case CURLUE_BAD_HOSTNAME:
    case CURLUE_BAD_IPV6:
        return bk_error_set(error, BK_INVALID,
                            "the URL has no valid host: write https://host/path, with a name of "
                            "other letters in its form of ASCII (xn--…)");
    case CURLUE_BAD_PORT_NUMBER:
        return bk_error_set(error, BK_INVALID, "the URL's port is not one of 1 to 65535");
    case CURLUE_OUT_OF_MEMORY:
        *failure = BK_OUTBOUND_CONNECT;
        return bk_error_set(error, BK_NO_MEMORY, "there was no memory for the URL");
    default:
        return bk_error_set(error, BK_INVALID,
                            "the URL is malformed: write https://host/path, with other characters "
                            "than letters and digits percent-encoded");
    }
}

/* The part, freed with curl_free; NULL: there is none. */
static char *take_part(CURLU *url, CURLUPart part, unsigned flags) {
    char *text = NULL;
    if (curl_url_get(url, part, &text, flags) != CURLUE_OK)
        return NULL;
    return text;
}

static enum bk_status check_protocol(CURLU *url, bool *is_plain, enum bk_outbound_failure *failure,
                                     struct bk_error *error) {
    char *scheme = take_part(url, CURLUPART_SCHEME, 0);
    struct bk_slice name = bk_slice_from(scheme);
    bool is_http = bk_slice_equal_ignore_case(name, BK_SLICE("http"));
    bool is_https = bk_slice_equal_ignore_case(name, BK_SLICE("https"));
    curl_free(scheme);
    *is_plain = is_http;
    return is_http || is_https ? BK_OK
                               : describe_problem(CURLUE_UNSUPPORTED_SCHEME, failure, error);
}

/* libcurl reads other letters by the locale, which a server has none of. */
static bool is_ascii(const char *text) {
    while (*text != '\0' && (unsigned char)*text < FIRST_BEYOND_ASCII)
        text++;
    return *text == '\0';
}

/* A host is there, in ASCII, and the port is one that can be connected to. */
static enum bk_status check_authority(CURLU *url, enum bk_outbound_failure *failure,
                                      struct bk_error *error) {
    char *host = take_part(url, CURLUPART_HOST, 0);
    char *port = take_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    bool has_host = host != NULL && host[0] != '\0' && is_ascii(host);
    bool has_port = port != NULL && strcmp(port, "0") != 0;
    curl_free(host);
    curl_free(port);
    if (!has_host)
        return describe_problem(CURLUE_NO_HOST, failure, error);
    return has_port ? BK_OK : describe_problem(CURLUE_BAD_PORT_NUMBER, failure, error);
}

enum bk_status outbound_url_parse(struct bk_slice text, CURLU **url, bool *is_plain,
                                  enum bk_outbound_failure *failure, struct bk_error *error) {
    char copy[BK_OUTBOUND_URL_MAX_BYTES + 1] BK_UNINITIALIZED;
    CURLU *parsed = curl_url();
    CURLUcode code = CURLUE_OUT_OF_MEMORY;
    enum bk_status status;
    BK_ASSERT(text.length < sizeof(copy));
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    if (parsed != NULL)
        code = curl_url_set(parsed, CURLUPART_URL, copy, PARSE_FLAGS);
    status = code == CURLUE_OK ? check_protocol(parsed, is_plain, failure, error)
                               : describe_problem(code, failure, error);
    if (status == BK_OK)
        status = check_authority(parsed, failure, error);
    if (status == BK_OK)
        *url = parsed;
    else
        curl_url_cleanup(parsed);
    return status;
}

/* --- SMTP ------------------------------------------------------------------------------------- */

/* The name that EHLO says is the path. */
static CURLUcode set_mail_parts(CURLU *url, const struct bk_smtp *smtp) {
    bool has_colon = bk_slice_find(smtp->host, ':') < smtp->host.length;
    bool is_bare_ipv6 = has_colon && smtp->host.data[0] != '[';
    const char *scheme = smtp->security == BK_SMTP_TLS ? "smtps" : "smtp";
    struct bk_slice name = smtp->local_name.length > 0 ? smtp->local_name : BK_SLICE("localhost");
    struct bk_buffer text;
    CURLUcode code;
    bk_buffer_init(&text, BK_OUTBOUND_URL_MAX_BYTES);
    bk_buffer_format(&text, is_bare_ipv6 ? "%s://[%.*s]:%u/%.*s" : "%s://%.*s:%u/%.*s", scheme,
                     BK_SLICE_PRINT(smtp->host), (unsigned)smtp->port, BK_SLICE_PRINT(name));
    bk_buffer_append_char(&text, '\0');
    bk_buffer_insist(&text);
    code = curl_url_set(url, CURLUPART_URL, text.data, CURLU_DISALLOW_USER);
    bk_buffer_fini(&text);
    return code;
}

enum bk_status outbound_mail_url(const struct bk_smtp *smtp, CURLU **url, struct bk_error *error) {
    CURLU *parsed = curl_url();
    CURLUcode code = parsed == NULL ? CURLUE_OUT_OF_MEMORY : set_mail_parts(parsed, smtp);
    if (code == CURLUE_OK) {
        *url = parsed;
        return BK_OK;
    }
    curl_url_cleanup(parsed);
    return bk_error_set(error, BK_INVALID, "the SMTP host is not a name or an address");
}

static const char *security_name(enum bk_smtp_security security) {
    switch (security) {
    case BK_SMTP_PLAIN:
        return "plain+";
    case BK_SMTP_STARTTLS:
        return "starttls+";
    case BK_SMTP_STARTTLS_IF_OFFERED:
        return "offered+";
    case BK_SMTP_TLS:
        break;
    }
    return "";
}

void outbound_url_host_key(struct bk_buffer *key, CURLU *url, const struct bk_smtp *smtp) {
    char *scheme = take_part(url, CURLUPART_SCHEME, 0);
    char *host = take_part(url, CURLUPART_HOST, 0);
    char *port = take_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    if (smtp != NULL)
        bk_buffer_append_slice(key, bk_slice_from(security_name(smtp->security)));
    bk_buffer_append_slice(key, bk_slice_from(scheme));
    bk_buffer_append_literal(key, "://");
    for (const char *c = host; c != NULL && *c != '\0'; c++)
        bk_buffer_append_char(key, (char)(*c >= 'A' && *c <= 'Z' ? *c + ('a' - 'A') : *c));
    bk_buffer_append_char(key, ':');
    bk_buffer_append_slice(key, bk_slice_from(port));
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
}

/* As libcurl will read it: dotted when it is IPv4 in any spelling, in brackets when it is IPv6. */
static bool literal_address(struct bk_slice host, uint8_t address[16]) {
    struct bk_network network;
    if (host.length > 2 && host.data[0] == '[')
        host = bk_slice_make(host.data + 1, host.length - 2);
    if (bk_slice_find(host, '/') < host.length || bk_network_parse(host, &network) != BK_OK)
        return false;
    memcpy(address, network.address, sizeof(network.address));
    return true;
}

uint64_t outbound_url_domain_hash(CURLU *url, bool *has_address) {
    char *host = take_part(url, CURLUPART_HOST, 0);
    struct bk_slice name = bk_slice_from(host);
    uint8_t address[16];
    size_t begin = name.length;
    uint64_t hash;
    *has_address = literal_address(name, address);
    for (int labels = 0; begin > 0; begin--) {
        if (name.data[begin - 1] == '.' && ++labels == 2)
            break;
    }
    hash = bk_map_hash(bk_slice_make(name.data + begin, name.length - begin));
    curl_free(host);
    return hash;
}

/* --- the check before ------------------------------------------------------------------------- */

static bool is_name_of_this_machine(struct bk_slice host) {
    struct bk_slice ending = BK_SLICE(".localhost");
    if (host.length > 0 && host.data[host.length - 1] == '.')
        host.length--;
    if (bk_slice_equal_ignore_case(host, BK_SLICE("localhost")))
        return true;
    return host.length > ending.length &&
           bk_slice_equal_ignore_case(
               bk_slice_make(host.data + host.length - ending.length, ending.length), ending);
}

static enum bk_status check_host(const struct bk_outbound_policy *policy, bool is_plain,
                                 struct bk_slice host, struct bk_error *error) {
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    bool is_literal = literal_address(host, address);
    if (!is_literal && !is_name_of_this_machine(host)) {
        if (is_plain && !policy->allows_plain && policy->allowed_count == 0)
            return bk_error_set(error, BK_INVALID, "the URL must begin with https://");
        return BK_OK;
    }
    if (outbound_may_reach(policy, false, address))
        return outbound_may_reach(policy, is_plain, address)
                   ? BK_OK
                   : bk_error_set(error, BK_INVALID, "the URL must begin with https://");
    return bk_error_set(error, BK_INVALID,
                        "the URL's host is not a public address: only those can be reached, and "
                        "what the operator has allowed");
}

static enum bk_status check_port(const struct bk_outbound_policy *policy, CURLU *url,
                                 struct bk_error *error) {
    char *port = take_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    int64_t number = 0;
    bool may_reach = bk_slice_to_int64(bk_slice_from(port), &number) &&
                     outbound_may_reach_port(policy, (int)number);
    curl_free(port);
    return may_reach ? BK_OK
                     : bk_error_set(error, BK_INVALID,
                                    "the URL's port is one that may not be reached: leave it out");
}

enum bk_status bk_outbound_check_url(const struct bk_outbound_policy *policy, struct bk_slice url,
                                     struct bk_error *error) {
    enum bk_outbound_failure failure;
    enum bk_status status;
    CURLU *parsed = NULL;
    char *host;
    bool is_plain = false;
    if (url.length > BK_OUTBOUND_URL_MAX_BYTES)
        return bk_error_set(error, BK_INVALID, "the URL is longer than %d bytes",
                            BK_OUTBOUND_URL_MAX_BYTES);
    if (!outbound_text_is_line(url))
        return bk_error_set(error, BK_INVALID,
                            "the URL has a control character in it: percent-encode it");
    status = outbound_url_parse(url, &parsed, &is_plain, &failure, error);
    if (status != BK_OK)
        return status;
    host = take_part(parsed, CURLUPART_HOST, 0);
    status = check_host(policy, is_plain, bk_slice_from(host), error);
    curl_free(host);
    if (status == BK_OK)
        status = check_port(policy, parsed, error);
    curl_url_cleanup(parsed);
    return status;
}
