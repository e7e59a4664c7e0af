/* What a form says, gathered key by key, as the JSON object that it stands for. */
#ifndef BAKEND_API_FORM_H
#define BAKEND_API_FORM_H

#include "bakend/json.h"
#include "bakend/map.h"

enum {
    API_FORM_VALUES_MAX = 10000,
    API_FORM_TEXT_BYTES_MAX = 10 * 1024 * 1024, /* of an urlencoded body, as the contract has it */
};

struct form_entry;

struct api_form {
    struct bk_arena *arena;
    struct bk_map by_key; /* of struct form_entry */
    struct form_entry *first, **end;
    struct form_payload *payloads, **payload_end;
    uint32_t value_count;
    struct bk_error *error;
};

/* error: gets the reason of what is refused, for the client. */
void api_form_init(struct api_form *form, struct bk_arena *arena, struct bk_error *error);
void api_form_fini(struct api_form *form);
/* A value; key and value are borrowed as long as the arena. BK_INVALID for what is no text,
 * BK_TOO_LARGE past API_FORM_VALUES_MAX. */
enum bk_status api_form_add(struct api_form *form, struct bk_slice key, struct bk_slice value);
/* All pairs of "a=1&b=2". */
enum bk_status api_form_add_pairs(struct api_form *form, struct bk_slice text);
/* The object, in the arena. The statuses of bk_json_parse. */
enum bk_status api_form_finish(struct api_form *form, struct bk_json **object);

#endif
