/* A kernel with a schema on it, and blocking ways to change it and to write records. */
#ifndef BAKEND_TESTS_SCHEMA_FIXTURE_H
#define BAKEND_TESTS_SCHEMA_FIXTURE_H

#include "kernel_fixture.h"

#include "bakend/schema.h"

enum { SUPPORT_SCHEMA_TEXT_BYTES = 16 * 1024, SUPPORT_SCHEMA_FIELDS_MAX = 32 };

struct support_schema {
    struct support_kernel kernel;
    struct bk_schema_kind *kind;
    struct bk_arena arena;
    struct bk_problems problems; /* of the last change or record */
    struct bk_error error;       /* of the last change */
    char text[SUPPORT_SCHEMA_TEXT_BYTES];
};

/* For setup and teardown: *state is a struct support_schema whose tenant "default" is open. */
int support_schema_setup(void **state);
int support_schema_teardown(void **state);
/* In steps: types and system collections are added between the two. */
void support_schema_create(struct support_schema *fixture);
void support_schema_open(struct support_schema *fixture);
void support_schema_close(struct support_schema *fixture);
void support_schema_destroy(struct support_schema *fixture);

/* json: apostrophes stand for quotes, so that definitions read well in C. NULL for a delete. */
enum bk_status support_schema_change(struct support_schema *fixture, enum bk_schema_action action,
                                     const char *target, const char *json);
/* What was wrong, as JSON with apostrophes for quotes. */
const char *support_schema_problems(struct support_schema *fixture);
/* By name, in the current snapshot; fails when there is none. */
const struct bk_collection *support_schema_find(struct support_schema *fixture, const char *name);
/* The collection's definition with apostrophes for quotes. */
const char *support_schema_definition(struct support_schema *fixture, const char *name);
/* Parses with apostrophes for quotes, into the fixture's arena. */
const struct bk_json *support_schema_json(struct support_schema *fixture, const char *json);

/* Normalises, fills, validates, checks and inserts a record; BK_INVALID with problems. */
enum bk_status support_schema_insert(struct support_schema *fixture, const char *collection,
                                     const char *json);
/* The record of this id as JSON for superusers, with apostrophes for quotes; "" when there is
 * none. */
const char *support_schema_record(struct support_schema *fixture, const char *collection,
                                  const char *id);
/* Runs SQL on the writer. */
enum bk_status support_schema_execute(struct support_schema *fixture, const char *sql);
/* The first column of the first row as text; "" when there is none. Read on the loop. */
const char *support_schema_query(struct support_schema *fixture, const char *sql);

#endif
