/*
 * libcurl's codes, some ninety of them, as the dozen that a caller can act on. Those that this part
 * causes itself (a callback that says no) never come here: the call knows better.
 */
#include "outbound_private.h"

static const struct {
    const char *name, *text;
} FAILURES[] = {
    [BK_OUTBOUND_OK] = {"ok", "answered"},
    /* One text for all that is blocked: it must not tell what there is behind an address. */
    [BK_OUTBOUND_BLOCKED] = {"blocked", "this address may not be reached from here"},
    [BK_OUTBOUND_URL] = {"url", "the URL is malformed"},
    [BK_OUTBOUND_RESOLVE] = {"resolve", "the name of the host could not be resolved"},
    [BK_OUTBOUND_CONNECT] = {"connect", "the host could not be connected to"},
    [BK_OUTBOUND_TLS] = {"tls", "no secure connection could be made"},
    [BK_OUTBOUND_TIMEOUT] = {"timeout", "there was no answer in time"},
    [BK_OUTBOUND_CUT] = {"cut", "the connection ended before the answer was complete"},
    [BK_OUTBOUND_PROTOCOL] = {"protocol", "what came is no answer of this protocol"},
    [BK_OUTBOUND_TOO_LARGE] = {"too_large", "the answer is too large"},
    [BK_OUTBOUND_LOGIN] = {"login", "the login was refused"},
    [BK_OUTBOUND_CANCELLED] = {"cancelled", "the request was cancelled"},
};

const char *bk_outbound_failure_name(enum bk_outbound_failure failure) {
    BK_ASSERT(failure < BK_COUNT_OF(FAILURES));
    return FAILURES[failure].name;
}

const char *outbound_failure_text(enum bk_outbound_failure failure) {
    BK_ASSERT(failure < BK_COUNT_OF(FAILURES));
    return FAILURES[failure].text;
}

static bool is_of_tls(CURLcode code) {
    switch (code) {
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_SHUTDOWN_FAILED:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
        return true;
    default:
        return false;
    }
}

enum bk_outbound_failure outbound_failure_of(CURLcode code) {
    if (is_of_tls(code))
        return BK_OUTBOUND_TLS;
    switch (code) {
    case CURLE_OK:
        return BK_OUTBOUND_OK;
    case CURLE_URL_MALFORMAT:
        return BK_OUTBOUND_URL;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
        return BK_OUTBOUND_RESOLVE;
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED:
    case CURLE_OUT_OF_MEMORY:
    case CURLE_NO_CONNECTION_AVAILABLE:
        return BK_OUTBOUND_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return BK_OUTBOUND_TIMEOUT;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return BK_OUTBOUND_CUT;
    case CURLE_FILESIZE_EXCEEDED:
        return BK_OUTBOUND_TOO_LARGE;
    case CURLE_LOGIN_DENIED:
        return BK_OUTBOUND_LOGIN;
    default:
        /* Also an answer of HTTP/0.9, which is any bytes at all. */
        return BK_OUTBOUND_PROTOCOL;
    }
}
