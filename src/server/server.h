/*
 * The composition: kernel and modules on one data directory, with or without a listener. `bakend
 * serve` and the commands that find no server running use the same one.
 *
 *   open   lock · key · loop · log · store tenants bus feed schema work outbound api · modules
 *          init · modules prepare · tenant "default" opens · modules start · work starts
 *   close  work stops · modules stop (in reverse) · the bus is empty · positions are stored ·
 *          tenants close · work closes · modules fini · api outbound work schema feed bus tenants
 *          store · log · loop · unlock
 *
 * Both run turns of the loop until they are done. An open that fails closes what it opened, and
 * takes back a data directory that it made.
 */
#ifndef BAKEND_SERVER_SERVER_H
#define BAKEND_SERVER_SERVER_H

#include "options.h"

#include "bakend/module.h"
#include "bakend/thread.h"

enum { SERVER_MODULES_MAX = 64 };

/* How far an open went; close starts from there. */
enum server_stage {
    SERVER_CLOSED,
    SERVER_LOCKED,
    SERVER_COMPOSED,
    SERVER_INITIALISED,
    SERVER_OPEN
};

struct server {
    /* The caller's. */
    const struct server_options *options;
    const struct bk_module *const *modules; /* ended by NULL */
    void *const *module_options;            /* in the same order */
    enum bk_log_level log_level;
    bool is_serving; /* not for one command */

    enum server_stage stage;
    int lock;
    size_t made_length; /* the beginning of the data directory's path that we made; 0: nothing */
    uint8_t instance_key[32];
    struct bk_loop *loop;
    struct bk_timer *awake; /* keeps the loop alive while somebody waits for an answer */
    struct bk_logger *logger;
    struct bk_log log;
    struct bk_store *store;
    struct bk_tenants *tenants;
    struct bk_bus *bus;
    struct bk_feed *feed;
    struct bk_schema_kind *schema;
    struct bk_work *work;
    struct bk_outbound *outbound;
    struct bk_api *api;
    struct bk_tenant *default_tenant; /* held as long as the server is open */
    struct bk_module_context contexts[SERVER_MODULES_MAX];
    size_t module_count, initialised_count, started_count;
    bool is_working; /* tasks are handed over */
};

enum bk_status server_open(struct server *server, struct bk_error *error);
/* Also after a failed open, where it does nothing. */
void server_close(struct server *server);
/* Close, of a server that nobody was told of: a data directory that its open made is removed. */
void server_abandon(struct server *server);
/* Runs turns until *flag is true. */
void server_wait(struct server *server, const bool *flag);
/* A request of the program itself, through the router; returns its HTTP status. */
int server_call(struct server *server, struct bk_slice tenant, enum bk_method method,
                const char *target, struct bk_slice body, struct bk_buffer *out);

/* composition.c */
enum bk_status server_compose(struct server *server, struct bk_error *error);
void server_decompose(struct server *server);

/* module_life.c */
void server_register_modules(struct server *server);
enum bk_status server_add_routes(struct server *server, struct bk_error *error);
enum bk_status server_init_modules(struct server *server, struct bk_error *error);
enum bk_status server_prepare_modules(struct server *server, struct bk_error *error);
enum bk_status server_start_modules(struct server *server, struct bk_error *error);
void server_stop_modules(struct server *server);
void server_fini_modules(struct server *server);

#endif
