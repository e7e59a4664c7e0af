/*
 * Outbound threads: requests to other machines, by HTTP and SMTP (libcurl multi). The loop hands a
 * request over and is answered on the loop; nothing here blocks it. Threads start with the first
 * request that needs them.
 *
 * Who may be spoken to is a channel's: each has connections of its own, reused within it and never
 * lent to another, since a connection that was opened for a trusted peer would carry the request of
 * an untrusted one past the check of addresses. Addresses are judged when a socket is about to
 * connect, so after names were resolved, and again before the first byte is sent on a connection
 * that is reused. Redirects are not followed, proxies of the environment and netrc are not looked
 * at, protocols are those named here and no other.
 *
 * Requests may say whose they are (group: a tenant). Turns go round the groups, then round the
 * hosts of each; one group takes up no more than a quarter of a channel's places, and of those that
 * run at once no more than it leaves to others.
 *
 * Sizes and times are bounded: the answer's head and body, the request as a whole, the time to
 * connect, the time in which nothing moves. What is compressed is not decompressed.
 *
 * Peers' certificates are checked against those of the system, or against the file that the
 * environment names as SSL_CERT_FILE when the part is created.
 *
 * On the loop, but for networks and addresses: any thread.
 */
#ifndef BAKEND_OUTBOUND_H
#define BAKEND_OUTBOUND_H

#include "bakend/error.h"
#include "bakend/loop.h"
#include "bakend/mailbox.h"
#include "bakend/slice.h"

enum {
    BK_OUTBOUND_HEADERS_MAX = 64,
    BK_OUTBOUND_URL_MAX_BYTES = 8 * 1024,
    BK_OUTBOUND_HEAD_MAX_BYTES = 64 * 1024, /* of an answer */
    BK_OUTBOUND_QUEUE_MAX = 4096,           /* requests of a channel that are not done: BK_BUSY */
    BK_OUTBOUND_GROUP_MAX = 1024,           /* likewise, of one of its groups */
    BK_OUTBOUND_RECIPIENTS_MAX = 100,
    BK_OUTBOUND_REPLY_MAX_BYTES = 500, /* what is kept of an SMTP reply */
    BK_OUTBOUND_SMTP_MAX = 16,         /* mails of a channel that are sent at once, a thread each */
    BK_OUTBOUND_IDLE_S = 30,           /* HTTP where nothing moves for so long: TIMEOUT */
};

/* --- addresses -------------------------------------------------------------------------------- */

/* 10.0.0.0/8, ::1/128, 203.0.113.7 */
struct bk_network {
    uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint8_t prefix_bits; /* of 128 */
};
enum bk_status bk_network_parse(struct bk_slice text, struct bk_network *network);
/* A list of them, separated by commas and spaces; the wrong one is named in error. Freed with
 * bk_free. "" is an empty list. */
enum bk_status bk_networks_parse(struct bk_slice text, struct bk_network **networks, size_t *count,
                                 struct bk_error *error);
bool bk_network_contains(const struct bk_network *network, const uint8_t address[16]);
/* Why an address is not one of the public internet ("loopback", "private", "link-local",
 * "metadata", "multicast", "reserved" …), static text; NULL: it is. Those inside NAT64, 6to4,
 * Teredo and mapped ones are unwrapped. Any thread. */
const char *bk_address_reason(const uint8_t address[16]);
/* Whom limits count an address as: itself, and one of IPv6 as its /64, of which a customer has at
 * least one to himself. Text that is no address: all zeros. Any thread. */
void bk_address_client(struct bk_slice text, uint8_t client[16]);

/* --- channels --------------------------------------------------------------------------------- */

struct bk_outbound;
struct bk_outbound_channel;

struct bk_outbound *bk_outbound_create(struct bk_loop *loop);
/* On the loop, when no channel is open. */
void bk_outbound_destroy(struct bk_outbound *outbound);

struct bk_outbound_policy {
    const char *name;                 /* "webhooks", in metrics; static */
    bool allows_any_address;          /* the operators' own peers */
    const struct bk_network *allowed; /* beside public addresses; copied */
    size_t allowed_count;
    const uint16_t *denied_ports; /* of public and allowed addresses alike; copied */
    size_t denied_port_count;
    bool allows_plain; /* http:// to public addresses, SMTP without TLS; those in allowed always */
    uint32_t connections_max;          /* 0: 256 */
    uint32_t connections_per_host_max; /* 0: 16 */
    bool multiplexes;                  /* HTTP/2 where the peer has it */
    const char *ca_file; /* PEM, in place of the system's certificates; copied. NULL: see above */
};
struct bk_outbound_channel *bk_outbound_open(struct bk_outbound *outbound,
                                             const struct bk_outbound_policy *policy);
/* What is not done ends with BK_CLOSING; closed comes on the loop after the last done. */
void bk_outbound_close(struct bk_outbound_channel *channel, void (*closed)(void *user), void *user);

/* --- a request -------------------------------------------------------------------------------- */

struct bk_outbound_header {
    struct bk_slice name, value;
};

/* Where a request failed, for messages and for who may try again. */
enum bk_outbound_failure {
    BK_OUTBOUND_OK,      /* an answer came, whatever its status; SMTP: 2xx, or what refused it */
    BK_OUTBOUND_BLOCKED, /* an address or a protocol that the policy forbids */
    BK_OUTBOUND_URL,     /* malformed */
    BK_OUTBOUND_RESOLVE, /* the name is unknown, or the resolver failed */
    BK_OUTBOUND_CONNECT, /* refused or unreachable */
    BK_OUTBOUND_TLS,     /* handshake or certificate */
    BK_OUTBOUND_TIMEOUT,
    BK_OUTBOUND_CUT,       /* the connection ended in the middle of an answer */
    BK_OUTBOUND_PROTOCOL,  /* what came is none */
    BK_OUTBOUND_TOO_LARGE, /* the answer */
    BK_OUTBOUND_LOGIN,     /* SMTP AUTH was refused */
    BK_OUTBOUND_CANCELLED
};
const char *bk_outbound_failure_name(enum bk_outbound_failure failure);

enum bk_smtp_security {
    BK_SMTP_PLAIN,
    BK_SMTP_STARTTLS, /* no mail without it */
    BK_SMTP_TLS,
    /* Whoever is in the middle can take the offer away. A handshake that was begun must succeed;
     * without allows_plain it is STARTTLS. */
    BK_SMTP_STARTTLS_IF_OFFERED
};
enum bk_smtp_login { BK_SMTP_LOGIN_NONE, BK_SMTP_LOGIN_PLAIN, BK_SMTP_LOGIN_LOGIN };

/* Of an SMTP request, in place of method, url, headers and body. The connect timeout is that until
 * the server was greeted, TLS is up and the login done. */
struct bk_smtp {
    struct bk_slice host;
    uint16_t port;
    enum bk_smtp_security security;
    enum bk_smtp_login login; /* a server that does not offer it: LOGIN, nothing is sent */
    struct bk_slice user, password;
    struct bk_slice local_name; /* of EHLO; empty: localhost */
    struct bk_slice from;       /* a bare address; empty: <> */
    const struct bk_slice *recipients;
    size_t recipient_count;
    /* One a recipient, or NULL: the code that answered its RCPT, 0: it was not asked. With it,
     * those who are refused do not keep the mail from the others; it fails when all are. */
    uint16_t *replies;
    struct bk_slice message; /* RFC 5322, lines end in CRLF; dots are stuffed here */
};

/* Embed it, zeroed. The caller's part is borrowed until done. */
struct bk_outbound_request {
    /* The caller's. */
    const char *method; /* "POST" */
    struct bk_slice url;
    const struct bk_outbound_header *headers;
    size_t header_count;
    struct bk_slice body;
    const struct bk_smtp *smtp; /* NULL: HTTP */
    struct bk_slice group; /* whose it is; empty: the channel's own, which has no share but all */
    /* From when it is begun, not from when it was queued. */
    uint32_t connect_timeout_ms; /* 0: 5 s */
    uint32_t timeout_ms;         /* 0: 15 s */
    size_t answer_max_bytes;     /* of its body: what is more is TOO_LARGE … */
    bool cuts_answer;            /* … or left out, and the connection ended */
    /* When its time begins: it has waited for its turn. Must not cancel it. NULL: nobody asks. */
    void (*begun)(struct bk_outbound_request *request);
    void (*done)(struct bk_outbound_request *request);
    /* The answer, until the next turn or bk_outbound_submit of the same one. */
    enum bk_outbound_failure failure;
    uint32_t status; /* HTTP's; SMTP: of the last reply, if failure is OK or LOGIN; 0: none came */
    struct bk_slice answer; /* the body; SMTP: text of the last reply, cut at 500 bytes */
    bool was_cut;
    struct bk_slice reason; /* in words, without addresses where it was BLOCKED */
    uint64_t duration_us;
    bool was_reused; /* the connection */
    /* The part's. */
    struct bk_slice head;          /* of the answer, as it came */
    struct bk_outbound_call *call; /* until done */
};

/* Of the answer's head, name without regard to case; data NULL: there is none. In done. */
struct bk_slice bk_outbound_answer_header(const struct bk_outbound_request *request,
                                          struct bk_slice name);

/* BK_OK: done comes once, never before this returns. BK_BUSY: the channel is full, or its group has
 * its share: try again when one is done; BK_CLOSING; BK_INVALID: a method, a
 * URL, a header or an SMTP text that has no place on a line (CR, LF, NUL), too many or too long, a
 * header that says how a message is framed (host, connection, content-length, …), a message with a
 * bare CR or LF: never. A request that failed on a connection that was kept open, before any byte
 * of an answer came, is sent again on a new one (not a mail). */
enum bk_status bk_outbound_submit(struct bk_outbound_channel *channel,
                                  struct bk_outbound_request *request);
/* A wish: done still comes, with CANCELLED or with what came first. Nothing after done. */
void bk_outbound_cancel(struct bk_outbound_request *request);
/* A wish for what the peer cannot have acted on: once an HTTP request or the text of a mail is
 * being sent, nothing changes, and done comes with the answer. */
void bk_outbound_withdraw(struct bk_outbound_request *request);

/* Whether a URL may be asked by this policy, as far as can be told without resolving: protocol, a
 * host, no user or password in it, no control characters, an address that is not forbidden. error
 * says what and the remedy. */
enum bk_status bk_outbound_check_url(const struct bk_outbound_policy *policy, struct bk_slice url,
                                     struct bk_error *error);

struct bk_outbound_figures {
    const char *name;
    uint32_t waiting, running, connections;
    uint64_t requests, failures, blocked, bytes_sent, bytes_received, connections_opened;
};
size_t bk_outbound_figures(struct bk_outbound *outbound, struct bk_outbound_figures *figures,
                           size_t count);

#endif
