/* What the files of this module share. */
#ifndef COLLECTIONS_H
#define COLLECTIONS_H

#include "bakend/filter.h"
#include "bakend/module.h"
#include "bakend/show.h"

enum {
    COLLECTIONS_PER_PAGE_DEFAULT = 30,
    COLLECTIONS_PER_PAGE_MAX = 1000, /* the contract's: getFullList asks for so many */
    COLLECTIONS_SORT_KEYS_MAX = 8,
    COLLECTIONS_CASCADE_MAX = 10000, /* rows that one delete may touch */
    /* And how many steps of SQLite's program to find them, 7 for a record that is looked at (27
     * where the relation is a list): some 0.4 s, for which all other writes of the tenant wait. Not
     * a time, so that a deletion that is refused here is refused everywhere. */
    COLLECTIONS_CASCADE_STEPS = 10 * 1000 * 1000,
};

/* So that an offset fits in 63 bits. */
#define COLLECTIONS_PAGE_MAX (INT64_MAX / COLLECTIONS_PER_PAGE_MAX)

/* page, perPage and skipTotal as the contract reads them: out of range becomes the nearest allowed
 * value, what is no number (no boolean) is a problem. */
struct collections_page {
    int64_t page, per_page;
    bool skip_total;
};
bool collections_page_read(struct bk_request *request, struct collections_page *page);
/* `"page":…,"perPage":…` and `"totalItems":…,"totalPages":…`; total -1: not counted. */
void collections_page_write_head(struct bk_buffer *out, const struct collections_page *page);
void collections_page_write_totals(struct bk_buffer *out, const struct collections_page *page,
                                   int64_t total);
/* Both, one after the other. */
void collections_page_write(struct bk_buffer *out, const struct collections_page *page,
                            int64_t total);

/* 400 with the first of request->problems: what is wrong with a parameter of the contract stands in
 * the message, since `data` is empty there; of others in `data`. */
void collections_answer_query_problems(struct bk_request *request);
/* Whoever is no superuser may not write @request. and @collection. anywhere in filter and sort;
 * true when the request was answered for that. */
bool collections_refuse_special_names(struct bk_request *request);
/* The parameter `search` as a question to FTS5, in the request's arena; empty: nothing is searched
 * for. What is wrong with it is a problem. */
struct bk_slice collections_search_read(struct bk_request *request,
                                        const struct bk_collection *collection);
/* How records of the collection are shown to who asks, with what `expand` asks for. Borrows from
 * the schema. False: the request was answered. */
bool collections_show_make(struct bk_request *request, const struct bk_schema *schema,
                           const struct bk_collection *collection, struct bk_show **show);
/* `fields` of a change, read and bounded before anything is written, since afterwards nothing may
 * fail. False: the request was answered. */
bool collections_fields_read(struct bk_request *request, struct bk_slice *fields);
/* Answers what a change has left in request->out, cut to fields where that can be done. */
void collections_answer_changed(struct bk_request *request, struct bk_slice fields);

/* --- routes ---- */
void collections_definitions_list(struct bk_request *request);
void collections_definition_view(struct bk_request *request);
void collections_definition_create(struct bk_request *request);
void collections_definition_update(struct bk_request *request);
void collections_definition_delete(struct bk_request *request);
void collections_definitions_import(struct bk_request *request);
void collections_definition_truncate(struct bk_request *request);
void collections_definition_scaffolds(struct bk_request *request);
void collections_definition_providers(struct bk_request *request);
void collections_definition_dry_run(struct bk_request *request);
void collections_records_list(struct bk_request *request);
void collections_record_view(struct bk_request *request);
void collections_record_create(struct bk_request *request);
void collections_record_update(struct bk_request *request);
void collections_record_delete(struct bk_request *request);
void collections_batch(struct bk_request *request);

void collections_snapshot(struct bk_request *request);

/* --- snapshots ---- */

/* Those that run. */
struct collections_snapshots {
    struct bk_loop *loop;
    struct bk_list active;
    uint32_t active_count;
    struct bk_drain_hook drain_hook;
};
void collections_snapshots_init(struct collections_snapshots *owner,
                                const struct bk_module_context *context);
struct collections_snapshots *collections_snapshots_of(const struct bk_module_context *context);

/* --- records ---- */

/* The collection of the path in the current schema when the actor may do this with it; else the
 * request was answered and NULL is returned. The schema is borrowed for the turn. rule: what each
 * record is to be asked; empty: nothing. */
const struct bk_collection *collections_open(struct bk_request *request,
                                             enum bk_operation operation, struct bk_schema **schema,
                                             struct bk_slice *rule);

/* Says that the collection of a path is missing, and which. Outside /api a path may have been meant
 * for anything: NULL. */
const char *collections_missing_message(struct bk_request *request, struct bk_slice name);
/* Of one who may not: which scope a key lacks. */
const char *collections_denied_message(struct bk_request *request,
                                       const struct bk_collection *collection,
                                       enum bk_operation operation);

/* Values of an SQL row, copied out of the statement into the arena; BK_TOO_LARGE when they do not
 * fit. */
enum bk_status collections_record_copy(const struct bk_collection *collection,
                                       struct bk_statement *statement, struct bk_value *values,
                                       struct bk_arena *arena);

/* Deletes the row and what refers to it, one event per record. BK_NOT_FOUND; BK_CONFLICT when a
 * required relation refers to it, and when what loses its reference would not be unique any more,
 * of which the problems name the fields; BK_LIMIT past COLLECTIONS_CASCADE_MAX rows; BK_TIMEOUT
 * past COLLECTIONS_CASCADE_STEPS; BK_TOO_LARGE; BK_INVALID with a message when a collection keeps
 * its last record. The message may be none; it lives as long as the problems do. On the writer. */
enum bk_status collections_record_remove(struct bk_transaction *transaction,
                                         const struct bk_schema *schema,
                                         const struct bk_collection *collection, struct bk_slice id,
                                         struct bk_problems *problems, const char **message);
/* After a BK_CONFLICT: a problem for each field that must be unique. An index over an expression
 * names none. */
void collections_conflict_explain(const struct bk_collection *collection,
                                  struct bk_connection *connection, struct bk_problems *problems);

/* Ids of those records in belongings that belong to some of one auth collection; ids: a JSON array
 * of those. ?3 of the statement is how many at most. On the writer. */
bool collections_belongs(const struct bk_collection *collection);
enum bk_status collections_belonging_find(struct bk_transaction *transaction,
                                          const struct bk_collection *belongings,
                                          struct bk_slice collection_id, struct bk_slice ids,
                                          struct bk_statement **statement);

#endif
