/*
 * Tokens that were verified before. A look-up replaces parsing, a row and three HMACs. Bounded: the
 * one used longest ago goes. What an event says about a record or its collection is forgotten at
 * once, before the next request is read, so that a revoked token is not taken from here. Every
 * changed record asks for that, whatever its collection, so the tokens of a record are found by its
 * label. An entry stands for its session too: the end of a session is an event of its record.
 */
#include "auth.h"
#include "bakend/alloc.h"

void auth_cache_init(struct auth_cache *cache, uint32_t count_max) {
    bk_map_init(&cache->by_token);
    bk_map_init(&cache->by_label);
    bk_list_init(&cache->by_age);
    cache->count_max = count_max;
}

/* The key of a map is a text of its value, so the label's has to move when its entry goes. */
static void leave_label(struct auth_cache *cache, struct auth_cached *entry) {
    struct auth_cached *next = bk_container_of(entry->same.next, struct auth_cached, same);
    bool is_first = bk_map_get(&cache->by_label, entry->label) == entry;
    bk_list_remove(&entry->same);
    if (is_first && next != entry)
        bk_map_put(&cache->by_label, next->label, next);
    else if (is_first)
        bk_map_remove(&cache->by_label, entry->label);
}

static void join_label(struct auth_cache *cache, struct auth_cached *entry) {
    struct auth_cached *first = bk_map_get(&cache->by_label, entry->label);
    bk_list_init(&entry->same);
    if (first == NULL)
        bk_map_put(&cache->by_label, entry->label, entry);
    else
        bk_list_push(&first->same, &entry->same);
}

static void drop(struct auth_cache *cache, struct auth_cached *entry) {
    bk_map_remove(&cache->by_token, entry->token);
    leave_label(cache, entry);
    bk_list_remove(&entry->link);
    bk_free(entry);
    cache->count--;
}

void auth_cache_fini(struct auth_cache *cache) {
    BK_LIST_FOR_EACH(node, &cache->by_age)
        drop(cache, bk_container_of(node, struct auth_cached, link));
    bk_map_fini(&cache->by_token);
    bk_map_fini(&cache->by_label);
}

struct auth_cached *auth_cache_find(struct auth_cache *cache, struct bk_slice token,
                                    int64_t now_s) {
    struct auth_cached *entry = bk_map_get(&cache->by_token, token);
    if (entry == NULL) {
        cache->misses++;
        return NULL;
    }
    if (entry->expires_s <= now_s || now_s < entry->begins_s) {
        drop(cache, entry);
        cache->misses++;
        return NULL;
    }
    cache->hits++;
    bk_list_remove(&entry->link);
    bk_list_push(&cache->by_age, &entry->link);
    return entry;
}

static struct bk_slice copy(char **at, struct bk_slice text) {
    char *start = *at;
    if (text.length > 0)
        memcpy(start, text.data, text.length);
    *at += text.length;
    return bk_slice_make(start, text.length);
}

void auth_cache_add(struct auth_cache *cache, const struct auth_cached *entry) {
    if (cache->count_max == 0 || bk_map_get(&cache->by_token, entry->token) != NULL)
        return;
    if (cache->count == cache->count_max)
        drop(cache, bk_container_of(cache->by_age.next, struct auth_cached, link));
    size_t text_bytes = entry->token.length + entry->tenant.length + entry->label.length +
                        entry->id.length + entry->collection_id.length + entry->session.length;
    struct auth_cached *added = bk_alloc(sizeof(*added) + text_bytes);
    char *at = (char *)(added + 1);
    *added = *entry;
    added->token = copy(&at, entry->token);
    added->tenant = copy(&at, entry->tenant);
    added->label = copy(&at, entry->label);
    added->id = copy(&at, entry->id);
    added->collection_id = copy(&at, entry->collection_id);
    added->session = copy(&at, entry->session);
    bk_list_init(&added->link);
    bk_list_push(&cache->by_age, &added->link);
    bk_map_put(&cache->by_token, added->token, added);
    join_label(cache, added);
    cache->count++;
}

static void forget_tenant(struct auth_cache *cache, struct bk_slice tenant) {
    BK_LIST_FOR_EACH(node, &cache->by_age) {
        struct auth_cached *entry = bk_container_of(node, struct auth_cached, link);
        if (bk_slice_equal(entry->tenant, tenant))
            drop(cache, entry);
    }
}

void auth_cache_forget(struct auth_cache *cache, struct bk_slice tenant, struct bk_slice label) {
    struct auth_cached *first;
    if (label.length == 0) {
        forget_tenant(cache, tenant);
        return;
    }
    first = bk_map_get(&cache->by_label, label);
    if (first == NULL)
        return;
    BK_LIST_FOR_EACH(node, &first->same) {
        struct auth_cached *entry = bk_container_of(node, struct auth_cached, same);
        if (bk_slice_equal(entry->tenant, tenant))
            drop(cache, entry);
    }
    if (bk_slice_equal(first->tenant, tenant))
        drop(cache, first);
}
