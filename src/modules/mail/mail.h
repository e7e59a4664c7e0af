/* What the files of this module share. */
#ifndef MAIL_PRIVATE_H
#define MAIL_PRIVATE_H

#include "bakend/module.h"
#include "bakend/settings.h"

enum {
    MAIL_RECIPIENTS_MAX = BK_OUTBOUND_RECIPIENTS_MAX,
    MAIL_HEADERS_MAX = 20,
    MAIL_SUBJECT_BYTES_MAX = 1000,
    MAIL_NAME_BYTES_MAX = 255,         /* of a person */
    MAIL_HEADER_BYTES_MAX = 2000,      /* of a header's value */
    MAIL_VARIABLES_MAX = 400,          /* of a template: fields of a record and a few more */
    MAIL_TEXT_BYTES_MAX = 1024 * 1024, /* a body with all that was put into it */
    MAIL_BYTES_MAX = 8 * 1024 * 1024,  /* a message: two bodies of it, encoded */
    MAIL_ARENA_BYTES_MAX = 8 * 1024 * 1024,
    MAIL_ERROR_BYTES_MAX = BK_WORK_ERROR_MAX_BYTES,
};

/* --- address.c -------------------------------------------------------------------------------- */

struct mail_address {
    struct mail_address *next;
    struct bk_slice address, name;
};
/* local@domain in ASCII, without quotes: what can stand in an envelope and in a head alike. */
bool mail_address_is_valid(struct bk_slice text);
/* CR, LF, NUL and the rest of what has no place on a line; a tab has none either. */
bool mail_has_control(struct bk_slice text);

/* --- message.c -------------------------------------------------------------------------------- */

enum mail_template {
    MAIL_NO_TEMPLATE,
    MAIL_VERIFICATION,
    MAIL_PASSWORD_RESET,
    MAIL_EMAIL_CHANGE,
    MAIL_OTP,
    MAIL_LOGIN_ALERT
};
/* MAIL_NO_TEMPLATE when there is none of this name. */
enum mail_template mail_template_named(struct bk_slice name);

struct mail_header {
    struct mail_header *next;
    struct bk_slice name, value;
};

/* A payload, judged. Texts borrow from its JSON. */
struct mail_message {
    struct mail_address *to, *cc, *bcc, *reply_to;
    uint32_t recipient_count; /* of to, cc and bcc */
    struct bk_slice subject, text, html;
    struct mail_header *headers;
    int64_t expires_ms; /* wall time; 0: never */
    /* Of those that have a template, in place of subject, text and html. */
    enum mail_template template;
    struct bk_slice template_name, collection, record;
    const struct bk_json *variables;
    const struct mail_filling_in *filling_in; /* what is put into it; NULL: it is not resolved */
    struct bk_slice public_subject;           /* what an event may show of it */
    /* Of the rest of one that some recipients have got already. */
    const struct bk_json *only; /* their addresses; NULL: all of them */
    struct bk_slice message_id; /* of the first; empty: it is made */
};
/* BK_INVALID: see problems, whose fields are paths of the payload. The message is made in the
 * problems' arena. A payload may be {"message":payload,"only":[address],"messageId":"…"}, too:
 * what is left to do of one. */
enum bk_status mail_message_read(const struct bk_json *payload, struct bk_problems *problems,
                                 struct mail_message *message);

/* --- header.c --------------------------------------------------------------------------------- */

/* Whole lines, folded. Whatever the text holds, it does not leave its header. */
void mail_header_write(struct bk_buffer *out, const char *name, struct bk_slice text);
/* The same for a structured value, whose words are not to be touched. */
void mail_header_write_raw(struct bk_buffer *out, struct bk_slice name, struct bk_slice value);
void mail_header_write_addresses(struct bk_buffer *out, const char *name,
                                 const struct mail_address *first);

/* --- body.c ----------------------------------------------------------------------------------- */

/* Content-Type, Content-Transfer-Encoding, an empty line, and the text in lines of at most 76. */
void mail_body_write(struct bk_buffer *out, const char *type, struct bk_slice text);

/* --- html_text.c ------------------------------------------------------------------------------ */

/* Appends what a person reads of HTML, lines ending in LF. */
void mail_html_to_text(struct bk_slice html, struct bk_buffer *out);

/* --- compose.c -------------------------------------------------------------------------------- */

struct mail_composing {
    struct bk_slice id; /* of the task; of no use to anybody but as a boundary between parts */
    int64_t wall_ms;
    struct mail_address from; /* its address was judged */
    struct bk_slice message_id;
};
/* "id@domain of the sender" */
struct bk_slice mail_message_id(struct bk_slice id, struct bk_slice sender, struct bk_arena *arena);
/* Appends the message of RFC 5322. BK_TOO_LARGE, BK_NO_MEMORY. */
enum bk_status mail_compose(const struct mail_message *message,
                            const struct mail_composing *composing, struct bk_buffer *out);

/* --- template.c ------------------------------------------------------------------------------- */

struct mail_variable {
    struct bk_slice name, value; /* "APP_NAME", "RECORD:email" */
    bool is_public;              /* may be seen in an event */
};
struct mail_variables {
    struct mail_variable each[MAIL_VARIABLES_MAX];
    size_t count;
};
/* The first of a name counts; past the maximum they are left out. */
void mail_variables_add(struct mail_variables *variables, struct bk_slice name,
                        struct bk_slice value, bool is_public);

enum mail_filling { MAIL_FILL_HTML, MAIL_FILL_LINE, MAIL_FILL_PUBLIC_LINE };
/* Appends the text with each {NAME} replaced; unknown ones stay as they are. */
void mail_template_fill(struct bk_slice text, const struct mail_variables *variables,
                        enum mail_filling filling, struct bk_buffer *out);
/* Whether the text has {name} in it, and there is nothing to put there. */
bool mail_template_lacks(struct bk_slice text, const struct mail_variables *variables,
                         struct bk_slice name);
/* Puts the body of a template into a page, unless it is one already. */
void mail_layout_write(struct bk_slice body, struct bk_buffer *out);

/* --- resolve.c -------------------------------------------------------------------------------- */

/* A template and what is to be put into it, in the arena. */
struct mail_filling_in {
    struct bk_slice subject, body;
    struct mail_variables variables;
};
/* On the loop: reads what the tenant has now for a message that has a template: filling_in, and to
 * where it has none. BK_NOT_FOUND: its collection, template or record is gone, see error. */
enum bk_status mail_resolve(const struct bk_module_context *context, struct bk_tenant *tenant,
                            struct bk_arena *arena, struct mail_message *message,
                            struct bk_error *error);
/* The same with a record that nobody has, whose fields tell their names. */
enum bk_status mail_resolve_sample(const struct bk_collection *collection,
                                   const struct bk_tenant *tenant, struct bk_arena *arena,
                                   struct mail_message *message, struct bk_error *error);
/* Those of its template's own variables (TOKEN, OTP …) that the resolved message has a place and no
 * value for; returns how many. */
enum { MAIL_OWN_VARIABLES_MAX = 2 };
size_t mail_find_lacking(const struct mail_message *message,
                         const char *names[MAIL_OWN_VARIABLES_MAX]);
/* Any thread: makes subject and html of a resolved message. BK_TOO_LARGE, BK_NO_MEMORY. */
enum bk_status mail_fill_in(struct mail_message *message, struct bk_arena *arena);

/* --- module.c --------------------------------------------------------------------------------- */

struct mail_options {
    const char *allow; /* --mail-allow */
    int64_t timeout_ms;
};

enum { MAIL_POOL_THREADS = 2 };

struct mail_state {
    struct bk_module_context *context;
    struct bk_outbound_channel *operators; /* of the tenant "default": any address */
    struct bk_outbound_channel *tenants;   /* of all others */
    struct bk_network *allowed;
    size_t allowed_count;
    struct bk_pool *pool;              /* that composes messages, writes files and removes them */
    bool gives_way[MAIL_POOL_THREADS]; /* each thread's own */
    struct bk_subscription settings;
    uint32_t open_count;   /* channels that are not closed yet */
    uint32_t active_count; /* of sendings, and of jobs of the pool */
    bool is_stopping;
    void (*stopped)(void *user);
    void *stopped_user;
};
/* On the pool, before anything else: requests come first where there are few processors. */
void mail_give_way(struct mail_state *state, uint32_t thread_index);
/* Ends the stop when nothing is left. */
void mail_stop_when_done(struct mail_state *state);

/* --- file.c ----------------------------------------------------------------------------------- */

enum { MAIL_FILES_MAX = 1000, MAIL_PATH_BYTES = 4096 };
#define MAIL_FILES_BYTES_MAX ((int64_t)64 * 1024 * 1024)

/* "data/mail" of the operators' tenant, "data/tenants/NAME/mail" of another. False: too long. */
bool mail_directory(const struct bk_module_context *context, const struct bk_tenant *tenant,
                    char path[MAIL_PATH_BYTES]);
/* Blocking. Writes NAME.eml there, then removes the oldest until no more than so many files and
 * bytes are left. */
enum bk_status mail_file_write(const char *directory, struct bk_slice name, struct bk_slice data,
                               size_t files_max, int64_t bytes_max, struct bk_error *error);
/* Blocking. Removes those that were written before that time; returns how many. None are in a
 * directory that is not there. */
uint64_t mail_files_remove_before(const char *directory, int64_t wall_ms);

/* --- sending.c: on the loop ------------------------------------------------------------------- */

enum mail_outcome {
    MAIL_SENT,
    MAIL_AGAIN,   /* might go well later */
    MAIL_DEAD,    /* never will */
    MAIL_STOPPED, /* it was cancelled before anybody said anything */
    MAIL_BUSY,    /* there was no place for it: nothing was tried */
};

/* Embed it, zeroed but for the caller's part. */
struct mail_sending {
    /* The caller's. The message is judged and resolved; arena is nobody else's until done. */
    struct mail_state *state;
    struct bk_tenant *tenant; /* the caller holds it */
    struct bk_slice id;       /* of the task, or one of its own */
    struct mail_message message;
    struct bk_arena *arena;
    void (*begun)(struct mail_sending *sending); /* it has a connection's place; or NULL */
    void (*done)(struct mail_sending *sending);  /* maybe before mail_send returns */
    /* How it went. */
    enum mail_outcome outcome;
    struct bk_error error;
    uint32_t status;       /* SMTP's last reply; 0: none */
    const char *transport; /* "smtp" or "file"; NULL: it never got that far */
    struct bk_slice message_id;
    const struct bk_slice *recipients; /* of the envelope */
    size_t recipient_count;
    const uint16_t *replies; /* to each of them; NULL: unknown */
    /* Its own. */
    struct bk_settings_meta meta; /* as they were at the beginning */
    struct bk_settings_smtp server;
    struct bk_buffer bytes;
    enum bk_status prepared;
    struct bk_smtp smtp;
    struct bk_outbound_request request;
    struct bk_job job;
    char directory[MAIL_PATH_BYTES];
    bool is_submitted, is_cancelled;
};
void mail_send(struct mail_sending *sending);
/* A wish. */
void mail_send_cancel(struct mail_sending *sending);
/* A wish, too, but for what the mail server may have acted on already. */
void mail_send_withdraw(struct mail_sending *sending);
/* Whether a recipient was refused though others were not, and whether for good. */
bool mail_is_refused(const struct mail_sending *sending, size_t index);

/* --- task.c ----------------------------------------------------------------------------------- */

enum { MAIL_KIND_COUNT = 2 };
extern const struct bk_work_kind mail_work_kinds[MAIL_KIND_COUNT];

/* --- tidy.c: the handler of the second kind --------------------------------------------------- */

void mail_tidy(struct bk_work_task *task, void *user);

/* --- routes.c --------------------------------------------------------------------------------- */

void mail_enqueue(struct bk_request *request);
void mail_test(struct bk_request *request);

#endif
