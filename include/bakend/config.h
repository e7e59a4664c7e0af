/*
 * Configuration: each option is a row of a table (struct bk_option), owned by the server or by a
 * module. One option has three spellings, and the first place that names it decides:
 *
 *   flag         --retention-max-bytes 10GB          (or --retention-max-bytes=10GB)
 *   environment  BAKEND_RETENTION_MAX_BYTES=10GB
 *   file         {"retentionMaxBytes": "10GB"}
 *   default      as its row says
 *
 * A value is checked where it is read, also when a stronger place overrides it, so that no wrong
 * one lies hidden. An error names the option as it was spelled, where it stands, and what is
 * allowed. Of a flag given twice the last one counts. Secrets come from the file or the
 * environment, never from a flag, since everybody on the machine sees those.
 *
 * Before threads start; nothing here is shared.
 */
#ifndef BAKEND_CONFIG_H
#define BAKEND_CONFIG_H

#include "bakend/buffer.h"
#include "bakend/error.h"
#include "bakend/option.h"

struct bk_config;

enum bk_config_origin { BK_CONFIG_DEFAULT, BK_CONFIG_FILE, BK_CONFIG_ENVIRONMENT, BK_CONFIG_FLAG };

enum { BK_CONFIG_FILE_BYTES_MAX = 1024 * 1024, BK_CONFIG_NAME_BYTES_MAX = 63 };

struct bk_config *bk_config_create(void);
void bk_config_destroy(struct bk_config *config); /* the texts in the values go with it */

/* Declares the options of an owner ("server", "auth"); values is the struct that their offsets
 * refer to and gets the defaults now. Tables, owner and values outlive the config. Two options of
 * one name, or a default that its own row forbids, are programmer errors (asserted). */
void bk_config_add(struct bk_config *config, const char *owner, const struct bk_option *options,
                   size_t option_count, void *values);

/* Takes the flags it knows, with their values, out of arguments, in place; what it does not know
 * stays.
 * "--" ends the flags and is taken out too. BK_INVALID. */
enum bk_status bk_config_read_flags(struct bk_config *config, int *argument_count, char **arguments,
                                    struct bk_error *error);
/* NAME=value entries ended by NULL. Other variables are left alone, unless one that begins with
 * BAKEND_ is a slip of the pen for one of ours. BK_INVALID. */
enum bk_status bk_config_read_environment(struct bk_config *config, char *const *environment,
                                          struct bk_error *error);
/* A JSON object; an array of texts stands for the same with commas. BK_NOT_FOUND, BK_TOO_LARGE,
 * BK_INVALID. */
enum bk_status bk_config_read_file(struct bk_config *config, const char *path,
                                   struct bk_error *error);
/* BK_INVALID with "unknown option --lisen: did you mean --listen? See `bakend help serve`". */
enum bk_status bk_config_refuse_flag(const struct bk_config *config, const char *flag,
                                     struct bk_error *error);

/* Where the value in force came from; the option is asserted to exist. */
enum bk_config_origin bk_config_origin(const struct bk_config *config, const char *name);

/* All options with their values and origins, a line each, or one JSON object
 * {"listen":{"value":"127.0.0.1:8090","origin":"flag","from":"--listen"},…}. Secrets are masked. */
void bk_config_write_text(const struct bk_config *config, struct bk_buffer *out);
void bk_config_write_json(const struct bk_config *config, struct bk_buffer *out);
/* The options with arguments, defaults and sentences, for the help. */
void bk_config_write_help(const struct bk_config *config, struct bk_buffer *out);

#endif
