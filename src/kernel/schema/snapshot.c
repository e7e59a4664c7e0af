/*
 * Snapshots: immutable lists of collections with two hash tables. A change makes a new list that
 * shares every box but one.
 *
 * Stale ones are told by their generation. The writer raises the head's as the first act of a
 * change and nobody lowers it but the loop, when the change has failed; so a request of the former
 * schema that comes to the writer after the change finds a newer head, whether it was queued before
 * or after. Between a failed change and its news on the loop requests are told that they are stale:
 * they are planned again after that news, since both take the same way back.
 */
#include "schema_private.h"

#include "bakend/alloc.h"
#include "bakend/assert.h"

static struct schema_head *head_create(uint64_t generation) {
    struct schema_head *head = bk_alloc_zero(sizeof *head);
    head->newest = generation;
    head->reference_count = 1;
    return head;
}

static struct schema_head *head_ref(struct schema_head *head) {
    __atomic_fetch_add(&head->reference_count, 1, __ATOMIC_RELAXED);
    return head;
}

static void head_unref(struct schema_head *head) {
    if (__atomic_fetch_sub(&head->reference_count, 1, __ATOMIC_ACQ_REL) == 1)
        bk_free(head);
}

void schema_head_set(struct schema_head *head, uint64_t generation) {
    __atomic_store_n(&head->newest, generation, __ATOMIC_RELEASE);
}

struct bk_schema *schema_snapshot_create(struct schema_box *const *boxes, size_t count,
                                         struct schema_head *head, uint64_t generation) {
    struct bk_schema *schema = bk_alloc_zero(sizeof *schema);
    schema->reference_count = 1;
    schema->generation = generation;
    schema->head = head == NULL ? head_create(generation) : head_ref(head);
    schema->boxes = bk_alloc(sizeof(struct schema_box *) * (count + 1));
    schema->count = count;
    bk_map_init(&schema->by_name);
    bk_map_init(&schema->by_id);
    for (size_t i = 0; i < count; i++) {
        schema->boxes[i] = boxes[i];
        bk_map_put(&schema->by_name, boxes[i]->folded, boxes[i]);
        bk_map_put(&schema->by_id, boxes[i]->collection.id, boxes[i]);
    }
    return schema;
}

struct bk_schema *schema_snapshot_change(const struct bk_schema *schema,
                                         const struct schema_box *old_box,
                                         struct schema_box *new_box, uint64_t generation) {
    struct schema_box **boxes = bk_alloc(sizeof(struct schema_box *) * (schema->count + 1));
    size_t count = 0;
    for (size_t i = 0; i < schema->count; i++) {
        if (schema->boxes[i] != old_box)
            boxes[count++] = schema_box_ref(schema->boxes[i]);
        else if (new_box != NULL)
            boxes[count++] = new_box;
    }
    if (old_box == NULL && new_box != NULL)
        boxes[count++] = new_box;
    struct bk_schema *changed = schema_snapshot_create(boxes, count, schema->head, generation);
    bk_free(boxes);
    return changed;
}

struct bk_schema *bk_schema_ref(struct bk_schema *schema) {
    int before = __atomic_fetch_add(&schema->reference_count, 1, __ATOMIC_RELAXED);
    BK_ASSERT(before > 0);
    return schema;
}

void bk_schema_unref(struct bk_schema *schema) {
    if (schema == NULL || __atomic_fetch_sub(&schema->reference_count, 1, __ATOMIC_ACQ_REL) > 1)
        return;
    for (size_t i = 0; i < schema->count; i++)
        schema_box_unref(schema->boxes[i]);
    bk_map_fini(&schema->by_name);
    bk_map_fini(&schema->by_id);
    bk_free(schema->boxes);
    head_unref(schema->head);
    bk_free(schema);
}

uint64_t bk_schema_generation(const struct bk_schema *schema) { return schema->generation; }

const struct bk_collection *bk_schema_find(const struct bk_schema *schema,
                                           struct bk_slice name_or_id) {
    char folded[BK_COLLECTION_NAME_BYTES_MAX];
    if (name_or_id.length == 0 || name_or_id.length > sizeof folded)
        return NULL;
    for (size_t i = 0; i < name_or_id.length; i++) {
        char c = name_or_id.data[i];
        folded[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    struct schema_box *box = bk_map_get(&schema->by_name, bk_slice_make(folded, name_or_id.length));
    if (box == NULL)
        box = bk_map_get(&schema->by_id, name_or_id);
    return box == NULL ? NULL : &box->collection;
}

size_t bk_schema_count(const struct bk_schema *schema) { return schema->count; }

const struct bk_collection *bk_schema_at(const struct bk_schema *schema, size_t index) {
    BK_ASSERT(index < schema->count);
    return &schema->boxes[index]->collection;
}

const struct bk_field *bk_collection_field(const struct bk_collection *collection,
                                           struct bk_slice name) {
    for (uint32_t i = 0; i < collection->field_count; i++)
        if (bk_slice_equal(collection->fields[i].name, name))
            return &collection->fields[i];
    return NULL;
}

bool bk_field_is_multiple(const struct bk_field *field) {
    return field->type->column_of != NULL &&
           bk_slice_starts_with(bk_slice_from(field->type->column_of(field)), BK_SLICE("JSON "));
}

void bk_schema_relations_to(const struct bk_schema *schema, const struct bk_collection *target,
                            bool (*on_relation)(void *user, const struct bk_relation *relation),
                            void *user) {
    for (size_t i = 0; i < schema->count; i++) {
        const struct bk_collection *collection = &schema->boxes[i]->collection;
        for (uint32_t k = 0; k < collection->field_count; k++) {
            struct bk_relation relation;
            if (bk_relation_of(&collection->fields[k], &relation) &&
                bk_slice_equal(relation.target_id, target->id) && !on_relation(user, &relation))
                return;
        }
    }
}

enum bk_status bk_schema_verify(const struct bk_schema *schema,
                                struct bk_transaction *transaction) {
    BK_ASSERT(transaction != NULL);
    uint64_t newest = __atomic_load_n(&schema->head->newest, __ATOMIC_ACQUIRE);
    return newest == schema->generation ? BK_OK : BK_STALE;
}
