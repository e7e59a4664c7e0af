/*
 * Tokens, as strangers send them.
 *
 * The input's first character says what the rest is:
 *
 *   t   a token
 *   p   the JSON of its header and that of its claims, a line each
 *   s   two bytes, where and how one that is right is spoilt, and the id that it is of
 *
 * Whatever it is: what can be read names a tenant that may be and a key that may be; the quick
 * reader of what we write says what the parser of JSON says; what was read, made into a token, is
 * read as the same, and right; and one that is spoilt is never right.
 */
#include "fuzz.h"

#include "bakend/encode.h"
#include "bakend/tenant.h"
#include "modules/auth/auth.h"

enum {
    ARENA_BYTES_MAX = 1024 * 1024,
    KEY_NUMBER_MAX = 9999,
    ESCAPED_BYTES = 6 /* of a character in JSON, at most */
};

static const struct auth_secrets secrets = {
    .instance_key = BK_SLICE_INIT("0123456789abcdef0123456789abcdef"),
    .collection_secret = BK_SLICE_INIT("collection secret"),
    .token_key = BK_SLICE_INIT("token key"),
};

static bool are_equal(const struct auth_claims *a, const struct auth_claims *b) {
    return bk_slice_equal(a->tenant, b->tenant) && a->key_number == b->key_number &&
           bk_slice_equal(a->id, b->id) && bk_slice_equal(a->collection_id, b->collection_id) &&
           bk_slice_equal(a->type, b->type) && bk_slice_equal(a->session, b->session) &&
           bk_slice_equal(a->email, b->email) && bk_slice_equal(a->new_email, b->new_email) &&
           bk_slice_equal(a->jti, b->jti) && a->is_refreshable == b->is_refreshable &&
           a->expires_s == b->expires_s;
}

static void append_part(struct bk_buffer *out, const char *head, struct bk_slice json) {
    struct bk_buffer text;
    bk_buffer_init(&text, ARENA_BYTES_MAX);
    bk_buffer_append_slice(&text, bk_slice_from(head));
    bk_buffer_append_slice(&text, json);
    if (text.length > 0 && bk_buffer_reserve(out, BK_BASE64URL_BYTES(text.length)))
        out->length += bk_base64url_encode(out->data + out->length, text.data, text.length);
    bk_buffer_fini(&text);
}

/* A blank in front of the JSON, which the quick reader leaves to the parser, changes nothing. */
static void check_readers(struct bk_slice header, struct bk_slice body) {
    static const char *const heads[] = {"", " "};
    struct auth_claims claims[2] = {{.expires_s = 0}, {.expires_s = 0}};
    struct bk_buffer tokens[2];
    struct bk_arena arena;
    bool is_read[2];
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    for (size_t i = 0; i < 2; i++) {
        bk_buffer_init(&tokens[i], ARENA_BYTES_MAX);
        append_part(&tokens[i], heads[i], header);
        bk_buffer_append_char(&tokens[i], '.');
        append_part(&tokens[i], heads[i], body);
        bk_buffer_append_char(&tokens[i], '.');
        is_read[i] = auth_token_read(&arena, bk_buffer_slice(&tokens[i]), &claims[i]);
    }
    if (tokens[1].length <= AUTH_TOKEN_BYTES_MAX)
        BK_ASSERT(is_read[0] == is_read[1] && (!is_read[0] || are_equal(&claims[0], &claims[1])));
    bk_buffer_fini(&tokens[0]);
    bk_buffer_fini(&tokens[1]);
    bk_arena_fini(&arena);
}

static void check_decoded(struct bk_arena *arena, struct bk_slice token) {
    struct bk_slice parts[2], decoded[2];
    for (size_t i = 0; i < 2; i++) {
        if (!bk_slice_split(&token, '.', &parts[i]))
            return;
        size_t length = parts[i].length;
        char *text = bk_arena_alloc(arena, length + 1);
        if (text == NULL || !bk_base64url_decode(parts[i], text, &length))
            return;
        decoded[i] = bk_slice_make(text, length);
    }
    check_readers(decoded[0], decoded[1]);
}

static void check_made_again(struct bk_arena *arena, const struct auth_claims *claims) {
    struct auth_claims wanted = *claims, again = {.expires_s = 0};
    struct bk_buffer token;
    bk_buffer_init(&token, ARENA_BYTES_MAX);
    if (!bk_slice_is(claims->type, "auth"))
        wanted.is_refreshable = false; /* of others it is not written */
    auth_token_make(&token, &wanted, &secrets);
    struct bk_slice text = bk_buffer_slice(&token);
    BK_ASSERT(auth_token_read(arena, text, &again) && are_equal(&again, &wanted));
    BK_ASSERT(auth_token_verify(text, &again, &secrets));
    bk_buffer_fini(&token);
}

static void fuzz_token(struct bk_slice token) {
    struct auth_claims claims = {.expires_s = 0};
    struct bk_arena arena;
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    if (auth_token_read(&arena, token, &claims)) {
        BK_ASSERT(token.length <= AUTH_TOKEN_BYTES_MAX && bk_tenant_name_is_valid(claims.tenant));
        BK_ASSERT(claims.key_number >= 1 && claims.key_number <= KEY_NUMBER_MAX);
        (void)auth_token_verify(token, &claims, &secrets);
        if (token.length * ESCAPED_BYTES <= AUTH_TOKEN_BYTES_MAX)
            check_made_again(&arena, &claims);
    }
    check_decoded(&arena, token);
    bk_arena_fini(&arena);
}

static void fuzz_parts(struct bk_slice rest) {
    struct bk_slice header = fuzz_take(&rest, '\n'), body = fuzz_take(&rest, '\n');
    struct bk_buffer token;
    bk_buffer_init(&token, ARENA_BYTES_MAX);
    append_part(&token, "", header);
    bk_buffer_append_char(&token, '.');
    append_part(&token, "", body);
    bk_buffer_append_literal(&token, ".c2lnbmF0dXJl");
    fuzz_token(bk_buffer_slice(&token));
    bk_buffer_fini(&token);
}

static void fuzz_spoilt(struct bk_slice rest) {
    static const struct auth_claims base = {.tenant = BK_SLICE_INIT("acme"),
                                            .key_number = 1,
                                            .collection_id = BK_SLICE_INIT("pbc_1"),
                                            .type = BK_SLICE_INIT("auth"),
                                            .is_refreshable = true,
                                            .expires_s = 4102444800};
    struct auth_claims claims = base, read = {.expires_s = 0};
    struct bk_buffer token;
    struct bk_arena arena;
    if (rest.length < 2 || rest.length * ESCAPED_BYTES > AUTH_TOKEN_BYTES_MAX / 2)
        return;
    claims.id = bk_slice_make(rest.data + 2, rest.length - 2);
    bk_buffer_init(&token, ARENA_BYTES_MAX);
    bk_arena_init(&arena, ARENA_BYTES_MAX);
    auth_token_make(&token, &claims, &secrets);
    char *spoilt = &token.data[(unsigned char)rest.data[0] * token.length / 256];
    bool is_same = *spoilt == rest.data[1];
    *spoilt = rest.data[1];
    if (auth_token_read(&arena, bk_buffer_slice(&token), &read))
        BK_ASSERT(auth_token_verify(bk_buffer_slice(&token), &read, &secrets) == is_same);
    bk_buffer_fini(&token);
    bk_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bk_slice copy = fuzz_copy(data, size);
    struct bk_slice rest = bk_slice_make(copy.data + 1, size > 0 ? size - 1 : 0);
    switch (size > 0 ? data[0] : '\0') {
    case 't':
        fuzz_token(rest);
        break;
    case 'p':
        fuzz_parts(rest);
        break;
    case 's':
        fuzz_spoilt(rest);
        break;
    default:
        break;
    }
    fuzz_free(copy);
    return 0;
}
