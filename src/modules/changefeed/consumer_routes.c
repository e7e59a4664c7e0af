/*
 * Named consumers as a resource: defining, looking at, listing, removing; and how they are shown.
 *
 * Its definition is a superuser's; whoever may read events may poll, commit and seek, since that
 * shows no more than the feed does.
 */
#include "consumer.h"

enum { PER_PAGE_DEFAULT = 30, PER_PAGE_MAX = 200, PAGE_MAX = 1000000 };

/* --- how it is shown -------------------------------------------------------------------------- */

static bool on_oldest(void *user, const struct bk_event_fields *fields) {
    int64_t *timestamp_ms = user;
    *timestamp_ms = fields->timestamp_ms;
    return false;
}

/* The first event behind its position, asked for or not. */
static uint64_t oldest_sequence(const struct changefeed_consumer *consumer) {
    struct bk_journal_state journal = bk_journal_state(consumer->tenant->database);
    uint64_t sequence = changefeed_consumer_position(consumer) + 1;
    return sequence < journal.oldest ? journal.oldest : sequence;
}

/* Its timestamp; 0 when there is none. */
static int64_t read_timestamp(struct bk_connection *connection, uint64_t sequence) {
    int64_t timestamp_ms = 0;
    struct bk_journal_query query = {.from = sequence,
                                     .to = sequence,
                                     .row_limit = 1,
                                     .on_row = on_oldest,
                                     .user = &timestamp_ms};
    if (bk_journal_read(connection, &query) != BK_OK)
        return 0;
    return timestamp_ms;
}

/* One row, on the loop. */
static int64_t oldest_timestamp(const struct changefeed_consumer *consumer) {
    struct bk_database *database = consumer->tenant->database;
    uint64_t sequence = oldest_sequence(consumer);
    struct bk_connection *connection = NULL;
    if (!changefeed_consumer_is_foreign(consumer) && sequence <= bk_journal_state(database).last)
        connection = bk_store_read_now(database);
    return connection == NULL ? 0 : read_timestamp(connection, sequence);
}

static int64_t age_ms(int64_t timestamp_ms) {
    int64_t age = bk_clock_wall_ms() - timestamp_ms;
    return timestamp_ms != 0 && age > 0 ? age : 0;
}

static const char *state_of(const struct changefeed_consumer *consumer) {
    if (changefeed_consumer_is_foreign(consumer))
        return "epochChanged";
    if (changefeed_consumer_is_lost(consumer))
        return "lost";
    return changefeed_consumer_is_leased(consumer) ? "leased" : "ready";
}

static void write_types(struct bk_buffer *out,
                        const struct changefeed_consumer_definition *definition) {
    bk_buffer_append_char(out, '[');
    for (size_t i = 0; i < definition->type_count; i++) {
        bk_json_write_separator(out);
        bk_json_write_string(out, definition->types[i]);
    }
    bk_buffer_append_char(out, ']');
}

static void write_place(const struct changefeed_consumer *consumer, int64_t timestamp_ms,
                        struct bk_buffer *out) {
    struct bk_journal_state journal = bk_journal_state(consumer->tenant->database);
    uint64_t position = changefeed_consumer_position(consumer);
    bool is_foreign = changefeed_consumer_is_foreign(consumer);
    bool is_leased = changefeed_consumer_is_leased(consumer);
    char cursor[BK_CURSOR_BYTES], until[BK_TIME_TEXT_BYTES];
    uint64_t lag = is_foreign || position > journal.last ? 0 : journal.last - position;
    bk_cursor_make(cursor, consumer->place.epoch, position);
    bk_time_format(until, consumer->place.until_ms, 'T');
    bk_json_write_member_string(out, BK_SLICE("state"), bk_slice_from(state_of(consumer)));
    bk_json_write_member_string(out, BK_SLICE("cursor"), bk_slice_make(cursor, BK_CURSOR_BYTES));
    bk_json_write_member_int(out, BK_SLICE("lag"), (int64_t)lag);
    bk_json_write_member_int(out, BK_SLICE("oldestAgeMs"), is_foreign ? 0 : age_ms(timestamp_ms));
    bk_json_write_member_bool(out, BK_SLICE("leased"), is_leased);
    bk_json_write_member_string(out, BK_SLICE("leaseUntil"),
                                bk_slice_make(until, is_leased ? sizeof until : 0));
}

static void write_json(const struct changefeed_consumer *consumer, int64_t timestamp_ms,
                       struct bk_buffer *out) {
    bk_buffer_append_char(out, '{');
    bk_json_write_member_string(out, BK_SLICE("id"),
                                bk_slice_make(consumer->id, sizeof consumer->id));
    bk_json_write_member_string(out, BK_SLICE("name"), consumer->name);
    bk_json_write_key(out, BK_SLICE("types"));
    write_types(out, consumer->definition);
    bk_json_write_member_string(out, BK_SLICE("subject"), consumer->definition->subject);
    bk_json_write_member_string(out, BK_SLICE("filter"), consumer->definition->filter_text);
    write_place(consumer, timestamp_ms, out);
    bk_json_write_member_string(out, BK_SLICE("created"),
                                bk_slice_make(consumer->created, sizeof consumer->created));
    bk_json_write_member_string(out, BK_SLICE("updated"),
                                bk_slice_make(consumer->updated, sizeof consumer->updated));
    bk_buffer_append_char(out, '}');
}

void changefeed_consumer_answer(struct bk_request *request,
                                const struct changefeed_consumer *consumer) {
    bk_buffer_clear(&request->out);
    write_json(consumer, oldest_timestamp(consumer), &request->out);
    bk_answer(request, 200);
}

void changefeed_consumer_answer_trouble(struct bk_request *request, enum bk_feed_problem problem,
                                        struct bk_slice after) {
    struct bk_feed_read read = {.query.after = after, .problem = problem};
    enum bk_status status = problem == BK_FEED_CURSOR_EXPIRED         ? BK_GONE
                            : problem == BK_FEED_CURSOR_EPOCH_CHANGED ? BK_CONFLICT
                                                                      : BK_INVALID;
    changefeed_problem_answer(request, &read, status);
}

struct bk_slice changefeed_consumer_text(struct bk_request *request, struct bk_slice field) {
    const struct bk_json *value = bk_json_get(request->json, field);
    if (value != NULL && value->type != BK_JSON_STRING && value->type != BK_JSON_NULL)
        bk_problems_add(&request->problems, field, "validation_invalid_type", "Must be a text.");
    return bk_json_get_string(request->json, field);
}

struct changefeed_consumer *changefeed_consumer_of(struct bk_request *request) {
    struct changefeed_consumer *consumer =
        changefeed_consumer_find(changefeed_state_of(request), request->tenant,
                                 bk_request_parameter(request, BK_SLICE("name")), false);
    if (consumer == NULL)
        bk_answer_error(request, BK_NOT_FOUND, "There is no such consumer: PUT makes it.");
    return consumer;
}

/* --- reading ---------------------------------------------------------------------------------- */

void changefeed_consumer_view(struct bk_request *request) {
    const struct changefeed_consumer *consumer = changefeed_consumer_of(request);
    if (consumer != NULL)
        changefeed_consumer_answer(request, consumer);
}

/* A page of the list: the timestamps are read on a reader, since each is a row, and then it is
 * written by what the consumers are by then. */
struct listing {
    struct bk_request *request;
    struct bk_read read;
    int64_t page, per_page;
    size_t count;
    struct listed {
        char id[BK_RECORD_ID_BYTES];
        uint64_t sequence; /* 0: there is nothing behind it */
        int64_t timestamp_ms;
    } listed[PER_PAGE_MAX];
};

/* Of those that are to be seen, the ones on the page. Returns how many there are in all. */
static int64_t for_each_on_page(struct listing *listing,
                                void (*on_consumer)(struct listing *listing,
                                                    const struct changefeed_consumer *consumer)) {
    struct bk_request *request = listing->request;
    struct changefeed_tenant *own =
        changefeed_tenant_of(changefeed_state_of(request), request->tenant);
    int64_t index = 0, first = (listing->page - 1) * listing->per_page;
    BK_LIST_FOR_EACH(node, &own->consumers) {
        const struct changefeed_consumer *consumer =
            bk_container_of(node, struct changefeed_consumer, link);
        if (consumer->is_new)
            continue;
        if (index >= first && index < first + listing->per_page)
            on_consumer(listing, consumer);
        index++;
    }
    return index;
}

static void note(struct listing *listing, const struct changefeed_consumer *consumer) {
    struct listed *listed = &listing->listed[listing->count++];
    uint64_t sequence = oldest_sequence(consumer);
    bool is_there = sequence <= bk_journal_state(consumer->tenant->database).last &&
                    !changefeed_consumer_is_foreign(consumer);
    memcpy(listed->id, consumer->id, sizeof listed->id);
    listed->sequence = is_there ? sequence : 0;
}

static enum bk_status run_listing(struct bk_connection *connection, struct bk_read *read) {
    struct listing *listing = bk_container_of(read, struct listing, read);
    const struct listed *before = NULL; /* many stand at one place */
    for (size_t i = 0; i < listing->count; i++) {
        struct listed *listed = &listing->listed[i];
        if (before != NULL && before->sequence == listed->sequence)
            listed->timestamp_ms = before->timestamp_ms;
        else if (listed->sequence != 0)
            listed->timestamp_ms = read_timestamp(connection, listed->sequence);
        before = listed;
    }
    return BK_OK;
}

/* One that was made meanwhile has no age yet. */
static void write_listed(struct listing *listing, const struct changefeed_consumer *consumer) {
    int64_t timestamp_ms = 0;
    for (size_t i = 0; i < listing->count; i++)
        if (memcmp(listing->listed[i].id, consumer->id, sizeof consumer->id) == 0)
            timestamp_ms = listing->listed[i].timestamp_ms;
    bk_json_write_separator(&listing->request->out);
    write_json(consumer, timestamp_ms, &listing->request->out);
}

static void on_listing_read(struct bk_read *read, enum bk_status status) {
    struct listing *listing = bk_container_of(read, struct listing, read);
    struct bk_request *request = listing->request;
    struct bk_buffer *out = &request->out;
    if (status != BK_OK) {
        bk_answer_error(request, status, NULL);
        return;
    }
    bk_buffer_append_literal(out, "{\"items\":[");
    int64_t count = for_each_on_page(listing, write_listed);
    bk_buffer_append_char(out, ']');
    bk_json_write_member_int(out, BK_SLICE("page"), listing->page);
    bk_json_write_member_int(out, BK_SLICE("perPage"), listing->per_page);
    bk_json_write_member_int(out, BK_SLICE("totalItems"), count);
    bk_json_write_member_int(out, BK_SLICE("totalPages"),
                             (count + listing->per_page - 1) / listing->per_page);
    bk_buffer_append_char(out, '}');
    bk_answer(request, 200);
}

void changefeed_consumers_list(struct bk_request *request) {
    struct listing *listing = bk_arena_alloc_zero(&request->arena, sizeof *listing);
    listing->request = request;
    listing->page = bk_request_query_int(request, BK_SLICE("page"), 1, PAGE_MAX, 1);
    listing->per_page =
        bk_request_query_int(request, BK_SLICE("perPage"), 1, PER_PAGE_MAX, PER_PAGE_DEFAULT);
    if (request->problems.count > 0) {
        bk_answer_problems(request, BK_INVALID, "The consumers cannot be listed like this.");
        return;
    }
    (void)for_each_on_page(listing, note);
    listing->read = (struct bk_read){.run = run_listing, .done = on_listing_read};
    enum bk_status status = bk_store_read(request->tenant->database, &listing->read);
    if (status != BK_OK)
        bk_answer_error(request, status, NULL);
}

/* --- defining --------------------------------------------------------------------------------- */

struct definition {
    struct bk_request *request;
    struct changefeed_consumer_change change;
    struct bk_slice types[CONSUMER_TYPES_MAX];
    size_t type_count;
    struct bk_slice subject, after, filter_text;
    struct bk_event_filter *filter; /* until the definition is made */
    bool has_position, has_time;
    uint64_t position;
    struct bk_feed_read read; /* of a time */
};

static struct definition *definition_of(struct changefeed_consumer_change *change) {
    return bk_container_of(change, struct definition, change);
}

static void problem(struct bk_request *request, const char *field, const char *code,
                    const char *message) {
    bk_problems_add(&request->problems, bk_slice_from(field), code, message);
}

static bool is_name_byte(char c, bool is_first) {
    bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return is_word || (!is_first && (c == '-' || c == '_' || c == '.'));
}

static void check_name(struct bk_request *request) {
    struct bk_slice name = bk_request_parameter(request, BK_SLICE("name"));
    bool is_valid = name.length > 0 && name.length <= CONSUMER_NAME_BYTES_MAX;
    for (size_t i = 0; is_valid && i < name.length; i++)
        is_valid = is_name_byte(name.data[i], i == 0);
    if (!is_valid)
        problem(request, "name", "validation_invalid_format",
                "Must be 1 to 100 of A-Z, a-z, 0-9, '-', '_' and '.', and begin with a letter or "
                "digit.");
}

static void read_types(struct definition *definition) {
    struct bk_request *request = definition->request;
    const struct bk_json *list = bk_json_get(request->json, BK_SLICE("types"));
    if (list == NULL || list->type == BK_JSON_NULL ||
        (list->type == BK_JSON_ARRAY && list->child_count == 0)) {
        definition->types[definition->type_count++] = BK_SLICE("*");
        return;
    }
    if (list->type != BK_JSON_ARRAY) {
        problem(request, "types", "validation_invalid_type",
                "Must be a list of event types or patterns: [\"posts.created\", \"users.*\"].");
        return;
    }
    if (list->child_count > CONSUMER_TYPES_MAX) {
        problem(request, "types", "validation_too_many",
                "Name at most 100 event types; a pattern such as posts.* stands for many.");
        return;
    }
    for (const struct bk_json *item = list->child; item != NULL; item = item->next) {
        if (item->type != BK_JSON_STRING || !bk_event_pattern_is_valid(item->string)) {
            problem(request, "types", "validation_invalid_type",
                    "Each must be an event type or a pattern: posts.created, users.*, *.deleted, "
                    "* or _*.");
            return;
        }
        definition->types[definition->type_count++] = item->string;
    }
}

static void read_subject(struct definition *definition) {
    struct bk_request *request = definition->request;
    struct bk_slice subject = changefeed_consumer_text(request, BK_SLICE("subject"));
    size_t slash = bk_slice_find(subject, '/');
    definition->subject = subject;
    if (subject.length > CONSUMER_SUBJECT_BYTES_MAX)
        problem(request, "subject", "validation_too_long",
                "Must be at most 1024 bytes, such as posts/abc.");
    else if (subject.length > 0 && (slash == 0 || slash + 1 >= subject.length))
        problem(request, "subject", "validation_invalid_subject",
                "Must be a collection and an id with a slash between them: posts/abc. For all of a "
                "collection, use types: [\"posts.*\"].");
}

static void read_filter(struct definition *definition) {
    struct bk_request *request = definition->request;
    definition->filter_text = changefeed_consumer_text(request, BK_SLICE("filter"));
    definition->filter = changefeed_filter_parse(request, definition->filter_text);
}

/* For a definition that is not made. */
static void release(struct definition *definition) {
    bk_event_filter_unref(definition->filter);
    definition->filter = NULL;
}

/* False: the request was answered. */
static bool read_after(struct definition *definition) {
    struct bk_request *request = definition->request;
    struct bk_slice after = changefeed_consumer_text(request, BK_SLICE("after"));
    enum bk_feed_problem trouble;
    int64_t time_ms;
    definition->has_position = after.length > 0;
    if (after.length == 0)
        after = BK_SLICE("now");
    enum bk_status status =
        bk_feed_resolve(request->tenant, after, &definition->position, &trouble);
    if (status == BK_OK)
        return true;
    definition->after = after;
    definition->has_time = status == BK_NOT_SUPPORTED && bk_time_parse(after, &time_ms);
    if (definition->has_time)
        return true;
    changefeed_consumer_answer_trouble(request, trouble, after);
    return false;
}

static struct bk_slice types_json(struct bk_request *request,
                                  const struct changefeed_consumer_definition *definition) {
    struct bk_buffer json;
    bk_buffer_init(&json, (size_t)8 * CHANGEFEED_CONSUMER_BODY_BYTES_MAX);
    write_types(&json, definition);
    struct bk_slice copy = bk_arena_copy(&request->arena, bk_buffer_slice(&json));
    bk_buffer_fini(&json);
    return copy;
}

/* What is there keeps its position unless another is named; a new one begins where it is told. */
static bool begin_definition(struct changefeed_consumer_change *change) {
    const struct definition *definition = definition_of(change);
    struct bk_journal_state journal = bk_journal_state(change->consumer->tenant->database);
    bool is_new = change->consumer->is_new;
    change->kind = is_new ? CONSUMER_WRITE_NEW : CONSUMER_WRITE_DEFINITION;
    change->is_jump = is_new || definition->has_position;
    if (!change->is_jump)
        return true;
    change->next = (struct changefeed_consumer_place){.position = definition->position};
    memcpy(change->next.epoch, journal.epoch, sizeof change->next.epoch);
    return true;
}

static void on_defined(struct changefeed_consumer_change *change, enum bk_status status) {
    struct bk_request *request = definition_of(change)->request;
    if (status == BK_OK)
        changefeed_consumer_answer(request, change->consumer);
    else if (status == BK_NOT_FOUND)
        bk_answer_error(request, BK_CONFLICT,
                        "The consumer was removed at the same time: try again.");
    else
        bk_answer_error(request, status, NULL);
}

/* NULL: there are as many as there may be, and the request was answered. */
static struct changefeed_consumer *
find_or_create(struct bk_request *request, struct changefeed_consumer_definition *definition) {
    struct changefeed_state *state = changefeed_state_of(request);
    struct bk_slice name = bk_request_parameter(request, BK_SLICE("name"));
    struct changefeed_consumer *consumer =
        changefeed_consumer_find(state, request->tenant, name, true);
    if (consumer != NULL)
        return consumer;
    if (changefeed_tenant_of(state, request->tenant)->consumer_count >= CONSUMERS_MAX) {
        problem(request, "name", "validation_too_many",
                "A tenant has at most 1000 consumers: remove one first.");
        bk_answer_problems(request, BK_INVALID, "The consumer cannot be made.");
        return NULL;
    }
    consumer = changefeed_consumer_create(state, request->tenant, name,
                                          changefeed_consumer_definition_ref(definition));
    bk_record_id_make(consumer->id, bk_clock_wall_ms());
    return consumer;
}

static void define(struct definition *definition) {
    struct bk_request *request = definition->request;
    struct changefeed_consumer_definition *made = changefeed_consumer_definition_create(
        definition->types, definition->type_count, definition->subject, definition->filter_text,
        definition->filter);
    definition->filter = NULL; /* it is the definition's */
    definition->change = (struct changefeed_consumer_change){.lane = BK_LANE_REQUEST,
                                                             .definition = made,
                                                             .types = types_json(request, made),
                                                             .origin = &request->origin,
                                                             .begin = begin_definition,
                                                             .done = on_defined};
    struct changefeed_consumer *consumer = find_or_create(request, made);
    if (consumer == NULL)
        changefeed_consumer_definition_unref(made);
    else
        changefeed_consumer_change_submit(consumer, &definition->change);
}

static void on_time_read(struct bk_feed_read *read, enum bk_status status) {
    struct definition *definition = bk_container_of(read, struct definition, read);
    bk_buffer_clear(&definition->request->out);
    definition->position = read->first_sequence - 1;
    if (status == BK_OK) {
        define(definition);
        return;
    }
    release(definition);
    bk_answer_error(definition->request, status, NULL);
}

void changefeed_consumer_put(struct bk_request *request) {
    static const struct bk_slice known[] = {BK_SLICE_INIT("name"),    BK_SLICE_INIT("types"),
                                            BK_SLICE_INIT("subject"), BK_SLICE_INIT("filter"),
                                            BK_SLICE_INIT("after"),   {NULL, 0}};
    struct definition *definition = bk_arena_alloc_zero(&request->arena, sizeof *definition);
    definition->request = request;
    changefeed_refuse_unknown_members(request, known);
    check_name(request);
    read_types(definition);
    read_subject(definition);
    read_filter(definition);
    if (!read_after(definition)) {
        release(definition);
        return;
    }
    if (request->problems.count > 0) {
        release(definition);
        bk_answer_problems(request, BK_INVALID, "The consumer cannot be defined like this.");
        return;
    }
    if (definition->has_time)
        changefeed_consumer_read_time(request, &definition->read, definition->after, on_time_read);
    else
        define(definition);
}

/* --- removing --------------------------------------------------------------------------------- */

struct removal {
    struct bk_request *request;
    struct changefeed_consumer_change change;
};

static void on_removed(struct changefeed_consumer_change *change, enum bk_status status) {
    struct bk_request *request = bk_container_of(change, struct removal, change)->request;
    if (status == BK_OK)
        bk_answer_empty(request);
    else
        bk_answer_error(request, status, NULL);
}

void changefeed_consumer_delete(struct bk_request *request) {
    struct removal *removal = bk_arena_alloc_zero(&request->arena, sizeof *removal);
    struct changefeed_consumer *consumer = changefeed_consumer_of(request);
    if (consumer == NULL)
        return;
    removal->request = request;
    removal->change = (struct changefeed_consumer_change){.kind = CONSUMER_WRITE_REMOVAL,
                                                          .lane = BK_LANE_REQUEST,
                                                          .origin = &request->origin,
                                                          .done = on_removed};
    changefeed_consumer_change_submit(consumer, &removal->change);
}
