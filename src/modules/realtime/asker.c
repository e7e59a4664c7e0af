/*
 * Askers: on whose behalf rules are asked. All viewers of one actor share one asker, whatever their
 * tokens; a stream's subscription whose options say more of the request (@request.query and
 * .headers) has one of its own, as do others that say the same. What is judged is judged once for
 * each.
 *
 * An asker keeps the rules that it was asked, ready to be asked again: compiled by one schema, with
 * what its own record says at that time (@request.auth). They go when that record changes, when the
 * schema does, and when QUESTIONS_MAX others were asked since.
 */
#include "realtime_private.h"

#include "bakend/alloc.h"
#include "bakend/clock.h"

enum {
    QUESTIONS_MAX = 4096,                 /* kept, of all askers */
    QUESTION_BYTES_MAX = 8 * 1024 * 1024, /* of one */
};

/* --- life ------------------------------------------------------------------------------------- */

static struct bk_slice put(char **cursor, struct bk_slice text) {
    char *start = *cursor;
    if (text.length > 0)
        memcpy(start, text.data, text.length);
    *cursor += text.length;
    return bk_slice_make(start, text.length);
}

static void copy_actor(struct realtime_asker *asker, const struct bk_actor *actor, char **cursor) {
    asker->actor = *actor;
    asker->actor.id = put(cursor, actor->id);
    asker->actor.collection_id = put(cursor, actor->collection_id);
    asker->actor.scopes = put(cursor, actor->scopes);
    asker->actor.tenant = put(cursor, actor->tenant);
}

static struct realtime_asker *create(struct realtime_tenant *tenant, const struct bk_actor *actor,
                                     const struct realtime_wording *wording) {
    size_t bytes = actor->label.length + 1 + wording->options.length + actor->id.length +
                   actor->collection_id.length + actor->scopes.length + actor->tenant.length +
                   wording->filter.length + wording->expand.length;
    struct realtime_asker *asker = bk_alloc(sizeof *asker + bytes);
    char *cursor = (char *)(asker + 1), *start = cursor;
    *asker = (struct realtime_asker){.tenant = tenant, .reference_count = 1};
    copy_actor(asker, actor, &cursor);
    asker->filter = put(&cursor, wording->filter);
    asker->expand = put(&cursor, wording->expand);
    start = cursor;
    asker->actor.label = put(&cursor, actor->label);
    (void)put(&cursor, BK_SLICE("\n"));
    asker->options = put(&cursor, wording->options);
    asker->key = bk_slice_make(start, (size_t)(cursor - start));
    bk_list_init(&asker->questions);
    bk_list_init(&asker->kin);
    bk_map_put(&tenant->askers, asker->key, asker);
    return asker;
}

static bool is_same_actor(const struct bk_actor *one, const struct bk_actor *other) {
    return one->kind == other->kind && bk_slice_equal(one->id, other->id) &&
           bk_slice_equal(one->collection_id, other->collection_id) &&
           bk_slice_equal(one->scopes, other->scopes) && bk_slice_equal(one->tenant, other->tenant);
}

static struct realtime_asker *find(struct realtime_tenant *tenant, const struct bk_actor *actor,
                                   struct bk_slice options) {
    struct bk_buffer key;
    bk_buffer_init(&key, SIZE_MAX / 2);
    bk_buffer_append_slice(&key, actor->label);
    bk_buffer_append_char(&key, '\n');
    bk_buffer_append_slice(&key, options);
    bk_buffer_insist(&key);
    struct realtime_asker *asker = bk_map_get(&tenant->askers, bk_buffer_slice(&key));
    bk_buffer_fini(&key);
    return asker;
}

/* Of two actors of one label, a token's that was renewed say, the newer one is found. */
struct realtime_asker *realtime_asker_get(struct realtime_tenant *tenant,
                                          const struct bk_actor *actor,
                                          const struct realtime_wording *wording) {
    static const struct realtime_wording plain = {0};
    const struct realtime_wording *words = wording == NULL ? &plain : wording;
    struct realtime_asker *asker = find(tenant, actor, words->options);
    if (asker != NULL && is_same_actor(&asker->actor, actor)) {
        asker->reference_count++;
        return asker;
    }
    asker = create(tenant, actor, words);
    if (words->options.length > 0) {
        asker->base = realtime_asker_get(tenant, actor, NULL);
        bk_list_push(&asker->base->kin, &asker->kin);
    }
    return asker;
}

struct realtime_asker *realtime_asker_ref(struct realtime_asker *asker) {
    asker->reference_count++;
    return asker;
}

/* --- questions -------------------------------------------------------------------------------- */

static void unlink_question(struct realtime_question *question) {
    if (!question->is_kept)
        return;
    question->is_kept = false;
    bk_list_remove(&question->link);
    bk_list_remove(&question->recent);
    question->realtime->question_count--;
    realtime_question_unref(question);
}

static void forget_all(struct realtime_asker *asker) {
    BK_LIST_FOR_EACH(node, &asker->questions) {
        unlink_question(bk_container_of(node, struct realtime_question, link));
    }
}

void realtime_question_unref(struct realtime_question *question) {
    BK_ASSERT(question->reference_count > 0);
    if (--question->reference_count > 0)
        return;
    bk_arena_fini(&question->arena);
    bk_schema_unref(question->schema);
    bk_free(question);
}

void realtime_asker_unref(struct realtime_asker *asker) {
    if (asker == NULL)
        return;
    BK_ASSERT(asker->reference_count > 0);
    if (--asker->reference_count > 0)
        return;
    struct realtime_asker *base = asker->base;
    forget_all(asker);
    if (bk_map_get(&asker->tenant->askers, asker->key) == asker)
        (void)bk_map_remove(&asker->tenant->askers, asker->key);
    if (base != NULL)
        bk_list_remove(&asker->kin);
    bk_free(asker);
    realtime_asker_unref(base);
}

void realtime_askers_on_change(struct realtime_tenant *tenant, struct bk_slice subject) {
    const struct bk_actor who = {.label = subject};
    struct realtime_asker *asker =
        tenant->askers.count == 0 ? NULL : find(tenant, &who, BK_SLICE_EMPTY);
    if (asker == NULL)
        return;
    forget_all(asker);
    BK_LIST_FOR_EACH(node, &asker->kin) {
        forget_all(bk_container_of(node, struct realtime_asker, kin));
    }
}

/* --- making them ------------------------------------------------------------------------------ */

/* @request, as text: what it is made of is texts. */
static const struct bk_json *describe(struct realtime_question *question,
                                      const struct realtime_asker *asker) {
    struct bk_buffer out;
    struct bk_json *request = NULL;
    bk_buffer_init(&out, QUESTION_BYTES_MAX);
    bk_buffer_append_literal(&out, "{\"context\":\"realtime\",\"method\":\"GET\",\"body\":{},");
    if (asker->options.length > 0)
        bk_buffer_append_slice(&out, asker->options);
    else
        bk_buffer_append_literal(&out, "\"query\":{},\"headers\":{}");
    if (question->asker.auth_collection != NULL) {
        bk_buffer_append_literal(&out, ",\"auth\":{");
        bk_json_write_member_string(&out, BK_SLICE("id"), asker->actor.id);
        bk_json_write_member_string(&out, BK_SLICE("collectionId"),
                                    question->asker.auth_collection->id);
        bk_json_write_member_string(&out, BK_SLICE("collectionName"),
                                    question->asker.auth_collection->name);
        bk_buffer_append_char(&out, '}');
    }
    bk_buffer_append_char(&out, '}');
    struct bk_slice text = bk_arena_copy(&question->arena, bk_buffer_slice(&out));
    bk_buffer_fini(&out);
    (void)bk_json_parse(&question->arena, text, &request, NULL);
    return request;
}

/* The record of who asks, when the text asks for more of it than what the token has. */
static const struct bk_value *read_record(struct realtime_question *question,
                                          const struct realtime_asker *asker) {
    const struct bk_collection *collection = question->asker.auth_collection;
    struct bk_connection *connection;
    struct bk_statement *statement;
    if (collection == NULL ||
        realtime_find(question->text, BK_SLICE("@request.auth")) == question->text.length ||
        (connection = bk_store_read_now(asker->tenant->tenant->database)) == NULL ||
        bk_connection_statement(connection, &collection->select_by_id, &statement) != BK_OK)
        return NULL;
    struct bk_value *values =
        bk_arena_alloc(&question->arena, collection->field_count * sizeof *values);
    bk_statement_bind_text(statement, 1, asker->actor.id);
    bool is_there = values != NULL && bk_statement_step(statement) == BK_OK;
    if (is_there) {
        bk_record_read(collection, statement, values);
        for (uint32_t i = 0; i < collection->field_count; i++)
            if (values[i].type == BK_VALUE_TEXT)
                values[i].text = bk_arena_copy(&question->arena, values[i].text);
    }
    bk_statement_reset(statement);
    return is_there ? values : NULL;
}

static struct realtime_question *make(struct realtime_asker *asker,
                                      const struct bk_collection *collection,
                                      const struct realtime_words *words) {
    struct realtime *realtime = asker->tenant->realtime;
    struct realtime_question *question = bk_alloc_zero(sizeof *question);
    bk_arena_init(&question->arena, QUESTION_BYTES_MAX);
    question->realtime = realtime;
    question->reference_count = 1;
    question->collection = collection;
    question->words = *words;
    question->text = question->words.text = bk_arena_copy(&question->arena, words->text);
    question->schema =
        bk_schema_ref(bk_schema_current(realtime->context->schema, asker->tenant->tenant));
    /* The actor's texts are the asker's, which may go before the question. */
    question->actor = asker->actor;
    question->actor.id = bk_arena_copy(&question->arena, asker->actor.id);
    question->actor.collection_id = bk_arena_copy(&question->arena, asker->actor.collection_id);
    question->actor.scopes = bk_arena_copy(&question->arena, asker->actor.scopes);
    question->actor.label = question->actor.tenant = question->actor.session = BK_SLICE_EMPTY;
    bk_asker_init(&question->asker, question->schema, &question->actor, NULL);
    question->asker.request = describe(question, asker);
    question->asker.auth_values = read_record(question, asker);
    if (words->is_expand)
        question->status = bk_arena_status(&question->arena);
    else
        question->status =
            bk_question_make_filter(&question->question, &question->arena, &question->asker,
                                    collection, question->text, words->of, words->trust, NULL);
    return question;
}

static bool is_same(const struct realtime_question *question, const struct bk_schema *schema,
                    const struct bk_collection *collection, const struct realtime_words *words) {
    return question->schema == schema && question->collection == collection &&
           question->words.of == words->of && question->words.trust == words->trust &&
           question->words.is_expand == words->is_expand &&
           bk_slice_equal(question->text, words->text);
}

static void keep(struct realtime_asker *asker, struct realtime_question *question) {
    struct realtime *realtime = question->realtime;
    question->is_kept = true;
    bk_list_init(&question->link);
    bk_list_init(&question->recent);
    bk_list_push(&asker->questions, &question->link);
    bk_list_push(&realtime->questions, &question->recent);
    if (++realtime->question_count > QUESTIONS_MAX)
        unlink_question(
            bk_container_of(realtime->questions.next, struct realtime_question, recent));
}

/* @now is the time of each asking, unless it is being asked on a reader. */
static void use(struct realtime_question *question) {
    struct realtime *realtime = question->realtime;
    bk_list_remove(&question->recent);
    bk_list_push(&realtime->questions, &question->recent);
    if (question->reference_count == 1 && !question->words.is_expand && question->status == BK_OK)
        bk_question_set_now(&question->question, bk_clock_wall_ms());
}

struct realtime_question *realtime_asker_question(struct realtime_asker *asker,
                                                  const struct bk_collection *collection,
                                                  const struct realtime_words *words) {
    const struct bk_schema *schema =
        bk_schema_current(asker->tenant->realtime->context->schema, asker->tenant->tenant);
    BK_LIST_FOR_EACH(node, &asker->questions) {
        struct realtime_question *question = bk_container_of(node, struct realtime_question, link);
        if (is_same(question, schema, collection, words)) {
            use(question);
            return question;
        }
        if (question->schema != schema)
            unlink_question(question);
    }
    struct realtime_question *question = make(asker, collection, words);
    keep(asker, question);
    return question;
}
