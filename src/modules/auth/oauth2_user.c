/*
 * What a provider says of somebody, read by the paths of its row. Answers are others' texts: what
 * is of another kind than it should be is as if it were not there; who has no id is nobody.
 */
#include "bakend/clock.h"
#include "oauth2.h"

/* --- members ---------------------------------------------------------------------------------- */

static const struct bk_json *element(const struct bk_json *list, struct bk_slice number) {
    const struct bk_json *item = list->child;
    int64_t index;
    if (!bk_slice_to_int64(number, &index) || index < 0)
        return NULL;
    while (item != NULL && index-- > 0)
        item = item->next;
    return item;
}

static const struct bk_json *follow(const struct bk_json *json, struct bk_slice path) {
    struct bk_slice name;
    while (json != NULL && bk_slice_split(&path, '.', &name))
        json = json->type == BK_JSON_ARRAY ? element(json, name) : bk_json_get(json, name);
    return json;
}

const struct bk_json *auth_oauth2_member(const struct bk_json *json, const char *path) {
    return path == NULL ? NULL : follow(json, bk_slice_from(path));
}

struct bk_slice auth_oauth2_text(const struct bk_json *json) {
    if (json == NULL)
        return BK_SLICE_EMPTY;
    if (json->type == BK_JSON_STRING)
        return json->string;
    return json->type == BK_JSON_NUMBER || json->type == BK_JSON_BOOL ? json->text : BK_SLICE_EMPTY;
}

bool auth_oauth2_is_true(const struct bk_json *json) {
    struct bk_slice text = auth_oauth2_text(json);
    int64_t wall_ms = 0;
    return bk_slice_is(text, "true") || bk_slice_is(text, "1") ||
           (text.length > 0 && bk_time_parse(text, &wall_ms) && wall_ms > 0);
}

static struct bk_slice copy_text(const struct oauth2_reading *reading, const char *path) {
    return bk_arena_copy(reading->arena, auth_oauth2_text(auth_oauth2_member(reading->raw, path)));
}

/* --- the user --------------------------------------------------------------------------------- */

static bool are_all_true(const struct bk_json *raw, const char *paths) {
    struct bk_slice rest = bk_slice_from(paths), path;
    while (bk_slice_split(&rest, ' ', &path))
        if (!auth_oauth2_is_true(follow(raw, path)))
            return false;
    return true;
}

static bool is_active(const struct bk_json *raw, const char *rule) {
    struct bk_slice rest = bk_slice_from(rule), path, value;
    if (rule == NULL)
        return true;
    BK_ASSERT(bk_slice_split(&rest, '=', &path) && bk_slice_split(&rest, '=', &value));
    return bk_slice_equal(auth_oauth2_text(follow(raw, path)), value);
}

/* The texts of several paths with a blank between them. */
static struct bk_slice join(const struct oauth2_reading *reading, const char *paths) {
    struct bk_slice rest = bk_slice_from(paths), path, all = BK_SLICE_EMPTY;
    while (paths != NULL && bk_slice_split(&rest, ' ', &path)) {
        struct bk_slice text = auth_oauth2_text(follow(reading->raw, path));
        if (all.length > 0 && text.length > 0)
            all = bk_arena_format(reading->arena, "%.*s %.*s", BK_SLICE_PRINT(all),
                                  BK_SLICE_PRINT(text));
        else if (text.length > 0)
            all = bk_arena_copy(reading->arena, text);
    }
    return all;
}

const char *auth_oauth2_user_read(struct oauth2_reading *reading) {
    const struct oauth2_provider *provider = reading->provider;
    const struct oauth2_paths *paths = &provider->paths;
    struct oauth2_user *user = reading->user;
    if (!is_active(reading->raw, paths->active))
        return "the account is not active";
    user->id = copy_text(reading, paths->id);
    user->name = join(reading, paths->name);
    user->username = copy_text(reading, paths->username);
    user->avatar = copy_text(reading, paths->avatar);
    user->email = copy_text(reading, paths->email);
    user->is_email_verified =
        paths->verified == NULL || are_all_true(reading->raw, paths->verified);
    user->raw = bk_arena_copy(reading->arena, reading->raw->text);
    if (user->id.length == 0)
        return "the user has no id";
    if (provider->finish != NULL)
        provider->finish(reading);
    else if (!user->is_email_verified)
        user->email = BK_SLICE_EMPTY;
    user->is_email_verified = user->is_email_verified && user->email.length > 0;
    return NULL;
}

/* --- lists of addresses ----------------------------------------------------------------------- */

/* Gitee has a list of what an address is. */
static bool is_primary(const struct bk_json *item) {
    const struct bk_json *scopes = bk_json_get(item, BK_SLICE("scope"));
    if (auth_oauth2_is_true(bk_json_get(item, BK_SLICE("primary"))) ||
        auth_oauth2_is_true(bk_json_get(item, BK_SLICE("is_primary"))))
        return true;
    for (const struct bk_json *scope = scopes == NULL ? NULL : scopes->child; scope != NULL;
         scope = scope->next)
        if (bk_slice_is(scope->string, "primary"))
            return true;
    return false;
}

static bool is_verified(const struct bk_json *item) {
    return auth_oauth2_is_true(bk_json_get(item, BK_SLICE("verified"))) ||
           auth_oauth2_is_true(bk_json_get(item, BK_SLICE("is_confirmed"))) ||
           bk_slice_is(bk_json_get_string(item, BK_SLICE("state")), "confirmed");
}

struct bk_slice auth_oauth2_emails_read(const struct bk_json *list, struct bk_arena *arena) {
    if (list->type == BK_JSON_OBJECT)
        list = bk_json_get(list, BK_SLICE("values"));
    for (const struct bk_json *item = list == NULL ? NULL : list->child; item != NULL;
         item = item->next)
        if (is_primary(item) && is_verified(item))
            return bk_arena_copy(arena, bk_json_get_string(item, BK_SLICE("email")));
    return BK_SLICE_EMPTY;
}

/* --- the peculiar ----------------------------------------------------------------------------- */

/* https://discord.com/developers/docs/reference#image-formatting; who still has a discriminator is
 * told apart by it. */
void auth_oauth2_finish_discord(struct oauth2_reading *reading) {
    struct oauth2_user *user = reading->user;
    struct bk_slice number = auth_oauth2_text(auth_oauth2_member(reading->raw, "discriminator"));
    if (user->name.length == 0 && number.length > 0 && !bk_slice_is(number, "0"))
        user->name = bk_arena_format(reading->arena, "%.*s#%.*s", BK_SLICE_PRINT(user->username),
                                     BK_SLICE_PRINT(number));
    else if (user->name.length == 0)
        user->name = user->username;
    if (user->avatar.length > 0)
        user->avatar =
            bk_arena_format(reading->arena, "https://cdn.discordapp.com/avatars/%.*s/%.*s.png",
                            BK_SLICE_PRINT(user->id), BK_SLICE_PRINT(user->avatar));
    if (!user->is_email_verified)
        user->email = BK_SLICE_EMPTY;
}

/* Its user names are addresses as a rule. */
void auth_oauth2_finish_mailcow(struct oauth2_reading *reading) {
    struct bk_slice *username = &reading->user->username;
    username->length = bk_slice_find(*username, '@');
}

static bool is_of_one_tenant(struct bk_slice token_url) {
    static const struct bk_slice shared[] = {
        BK_SLICE_INIT("/common/"), BK_SLICE_INIT("/organizations/"), BK_SLICE_INIT("/consumers/")};
    for (size_t i = 0; i < BK_COUNT_OF(shared); i++)
        for (size_t at = 0; at + shared[i].length <= token_url.length; at++)
            if (memcmp(token_url.data + at, shared[i].data, shared[i].length) == 0)
                return false;
    return true;
}

/* `mail` of Microsoft Graph is what the administrators of the user's own directory have set, and
 * anybody can have a directory: behind an endpoint for all of them it is known, but not verified.
 * Which claim of the id_token to believe instead is said by extra.idTokenEmailClaim; what is there
 * counts. */
void auth_oauth2_finish_microsoft(struct oauth2_reading *reading) {
    struct oauth2_user *user = reading->user;
    struct bk_slice claim =
        auth_oauth2_text(auth_oauth2_extra(reading->config, "idTokenEmailClaim"));
    struct bk_slice email = BK_SLICE_EMPTY;
    bool is_any = bk_slice_is(claim, "any_verified");
    if (claim.length == 0) {
        user->is_email_verified = is_of_one_tenant(
            auth_oauth2_url(reading->config, "tokenURL", reading->provider->token_url));
        return;
    }
    if (is_any || bk_slice_is(claim, "verified_primary_email"))
        email = auth_oauth2_text(auth_oauth2_member(reading->claims, "verified_primary_email"));
    if (email.length == 0 && (is_any || bk_slice_is(claim, "email_and_xms_edov")) &&
        auth_oauth2_is_true(auth_oauth2_member(reading->claims, "xms_edov")))
        email = auth_oauth2_text(auth_oauth2_member(reading->claims, "email"));
    if (bk_slice_is(claim, "email"))
        email = auth_oauth2_text(auth_oauth2_member(reading->claims, "email"));
    user->email = bk_arena_copy(reading->arena, email);
}

void auth_oauth2_finish_wakatime(struct oauth2_reading *reading) {
    struct oauth2_user *user = reading->user;
    if (!auth_oauth2_is_true(auth_oauth2_member(reading->raw, "data.photo_public")))
        user->avatar = BK_SLICE_EMPTY;
    if (!user->is_email_verified)
        user->email = BK_SLICE_EMPTY;
}

void auth_oauth2_finish_yandex(struct oauth2_reading *reading) {
    struct oauth2_user *user = reading->user;
    bool has_avatar = !auth_oauth2_is_true(auth_oauth2_member(reading->raw, "is_avatar_empty"));
    user->avatar = has_avatar
                       ? bk_arena_format(reading->arena,
                                         "https://avatars.yandex.net/get-yapic/%.*s/islands-200",
                                         BK_SLICE_PRINT(user->avatar))
                       : BK_SLICE_EMPTY;
}
