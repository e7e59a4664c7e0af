/*
 * What makes the options of an auth collection wrong, with the contract's codes. Each option is
 * judged by itself first; only when all of them are right is it asked whether they fit together:
 * enough ways to sign in for a second factor, and identity fields that name one record each.
 */
#include "schema_private.h"
#include "types/types.h"

#include "bakend/assert.h"
#include <stdio.h>

enum {
    SECRET_BYTES_MIN = 30,
    SECRET_BYTES_MAX = 255,
    DURATION_SECONDS_MIN = 10,
    TOKEN_SECONDS_MAX = 94670856, /* three years */
    CODE_SECONDS_MAX = 86400,
    CODE_LENGTH_MIN = 4,
    FACTORS_MIN = 2,
};

/* Of OAuth2, as the contract names them. */
static const char *const provider_names[] = {
    "apple",    "bitbucket", "box",      "discord", "facebook",   "gitea",
    "gitee",    "github",    "gitlab",   "google",  "instagram2", "kakao",
    "lark",     "linear",    "livechat", "mailcow", "microsoft",  "monday",
    "notion",   "oidc",      "oidc2",    "oidc3",   "patreon",    "planningcenter",
    "spotify",  "strava",    "trakt",    "twitch",  "twitter",    "vk",
    "wakatime", "yandex",
};

struct auth_check {
    const struct bk_schema_kind *kind;
    const struct bk_schema *schema;
    const struct schema_box *box, *old;
    bool is_own;
    const struct bk_json *whole;
    struct bk_problems *problems;
};

/* --- problems --------------------------------------------------------------------------------- */

static struct bk_slice path_of(const struct auth_check *check, const char *group,
                               const char *name) {
    return bk_arena_format(check->problems->arena, "%s.%s", group, name);
}

static void add_blank(const struct auth_check *check, struct bk_slice path) {
    bk_problems_add(check->problems, path, "validation_required", "Cannot be blank.");
}

static void add_threshold(const struct auth_check *check, struct bk_slice path, bool is_minimum,
                          int64_t threshold) {
    char message[64], params[64];
    snprintf(message, sizeof message, "Must be no %s than %lld.", is_minimum ? "less" : "greater",
             (long long)threshold);
    snprintf(params, sizeof params, "{\"threshold\":%lld}", (long long)threshold);
    bk_problems_add_params(check->problems, path,
                           is_minimum ? "validation_min_greater_equal_than_required"
                                      : "validation_max_less_equal_than_required",
                           message, bk_slice_from(params));
}

/* code and message with the name of what they are about; format has one %s. */
static void add_named(const struct auth_check *check, struct bk_slice path, const char *code,
                      const char *parameter, const char *before, struct bk_slice name,
                      const char *after) {
    struct bk_arena *arena = check->problems->arena;
    struct bk_buffer params;
    bk_buffer_init(&params, SCHEMA_DEFINITION_BYTES_MAX);
    bk_buffer_append_char(&params, '{');
    bk_json_write_member_string(&params, bk_slice_from(parameter), name);
    bk_buffer_append_char(&params, '}');
    struct bk_slice message =
        bk_arena_format(arena, "%s%.*s%s", before, BK_SLICE_PRINT(name), after);
    bk_problems_add_params(check->problems, path, code, message.length == 0 ? "" : message.data,
                           params.is_overflown ? BK_SLICE_EMPTY : bk_buffer_slice(&params));
    bk_buffer_fini(&params);
}

/* --- single options --------------------------------------------------------------------------- */

static int64_t integer_of(const struct auth_check *check, const char *group, const char *name) {
    int64_t number = 0;
    const struct bk_json *member = schema_auth_get(check->whole, group, name);
    BK_ASSERT(member != NULL);
    bk_json_to_int64(member, &number);
    return number;
}

static void check_number(const struct auth_check *check, const char *group, const char *name,
                         int64_t minimum, int64_t maximum) {
    int64_t number = integer_of(check, group, name);
    struct bk_slice path = path_of(check, group, name);
    if (number == 0)
        add_blank(check, path);
    else if (number < minimum)
        add_threshold(check, path, true, minimum);
    else if (maximum > 0 && number > maximum)
        add_threshold(check, path, false, maximum);
}

static void check_token(const struct auth_check *check, const char *group) {
    struct bk_slice secret = schema_auth_get(check->whole, group, "secret")->string;
    struct bk_slice path = path_of(check, group, "secret");
    if (secret.length == 0)
        add_blank(check, path);
    else if (secret.length < SECRET_BYTES_MIN || secret.length > SECRET_BYTES_MAX)
        bk_problems_add_params(check->problems, path, "validation_length_out_of_range",
                               "The length must be between 30 and 255.",
                               BK_SLICE("{\"max\":255,\"min\":30}"));
    check_number(check, group, "duration", DURATION_SECONDS_MIN, TOKEN_SECONDS_MAX);
}

static void check_mail(const struct auth_check *check, const char *path,
                       const struct bk_json *mail) {
    if (bk_json_get_string(mail, BK_SLICE("subject")).length == 0)
        add_blank(check, path_of(check, path, "subject"));
    if (bk_json_get_string(mail, BK_SLICE("body")).length == 0)
        add_blank(check, path_of(check, path, "body"));
}

static bool check_rule(const struct auth_check *check, const char *path, struct bk_slice rule) {
    return rule.length == 0 ||
           check->kind->is_rule_valid(check->schema, &check->box->collection, rule,
                                      bk_slice_from(path), check->problems);
}

static void check_auth_rule(const struct auth_check *check) {
    struct bk_slice rule = check->box->collection.auth_rule;
    if (!check_rule(check, "authRule", rule) || check->old == NULL || check->is_own ||
        !check->old->collection.is_system)
        return;
    struct bk_slice former = check->old->collection.auth_rule;
    if (!bk_slice_equal(rule, former) || (rule.data == NULL) != (former.data == NULL))
        bk_problems_add(check->problems, BK_SLICE("authRule"),
                        "validation_collection_system_rule_change",
                        "System collection API rule cannot be changed.");
}

/* A null manage rule is for superusers only; an empty one would be for everyone. */
static void check_manage_rule(const struct auth_check *check) {
    struct bk_slice rule = check->box->collection.rules[BK_MAY_MANAGE];
    if (rule.data != NULL && rule.length == 0)
        bk_problems_add(check->problems, BK_SLICE("manageRule"),
                        "validation_nil_or_not_empty_required", "Cannot be blank.");
}

/* --- OAuth2 ----------------------------------------------------------------------------------- */

static bool is_provider(struct bk_slice name) {
    for (size_t i = 0; i < BK_COUNT_OF(provider_names); i++)
        if (bk_slice_equal(name, bk_slice_from(provider_names[i])))
            return true;
    return false;
}

static bool check_duplicates(const struct auth_check *check, const struct bk_json *providers) {
    uint32_t index = 0;
    for (const struct bk_json *item = providers->child; item != NULL; item = item->next, index++) {
        struct bk_slice name = bk_json_get_string(item, BK_SLICE("name"));
        for (const struct bk_json *before = providers->child; before != item && name.length > 0;
             before = before->next) {
            if (!bk_slice_equal(bk_json_get_string(before, BK_SLICE("name")), name))
                continue;
            struct bk_slice path =
                bk_arena_format(check->problems->arena, "oauth2.providers.%u.name", index);
            add_named(check, path, "validation_duplicated_provider", "name", "The provider ", name,
                      " is already registered.");
            return false;
        }
    }
    return true;
}

static void check_provider(const struct auth_check *check, const struct bk_json *provider,
                           uint32_t index) {
    static const char *const required[] = {"clientId", "clientSecret"};
    static const char *const urls[] = {"authURL", "tokenURL", "userInfoURL"};
    char group[48];
    snprintf(group, sizeof group, "oauth2.providers.%u", index);
    struct bk_slice name = bk_json_get_string(provider, BK_SLICE("name"));
    if (name.length == 0)
        add_blank(check, path_of(check, group, "name"));
    else if (!is_provider(name))
        add_named(check, path_of(check, group, "name"), "validation_missing_provider", "name",
                  "Invalid or missing provider with name ", name, ".");
    for (size_t i = 0; i < BK_COUNT_OF(required); i++)
        if (bk_json_get_string(provider, bk_slice_from(required[i])).length == 0)
            add_blank(check, path_of(check, group, required[i]));
    for (size_t i = 0; i < BK_COUNT_OF(urls); i++) {
        struct bk_slice url = bk_json_get_string(provider, bk_slice_from(urls[i]));
        if (url.length > 0 && !schema_url_is_valid(url))
            bk_problems_add(check->problems, path_of(check, group, urls[i]), "validation_is_url",
                            "Must be a valid URL.");
    }
}

static void check_oauth2(const struct auth_check *check) {
    const struct bk_json *providers = schema_auth_get(check->whole, "oauth2", "providers");
    uint32_t index = 0;
    if (!schema_auth_flag(check->whole, "oauth2", "enabled") || !check_duplicates(check, providers))
        return;
    for (const struct bk_json *item = providers->child; item != NULL; item = item->next)
        check_provider(check, item, index++);
}

/* --- ways to sign in -------------------------------------------------------------------------- */

static void check_ways(const struct auth_check *check) {
    const struct bk_json *whole = check->whole;
    const struct bk_json *fields = schema_auth_get(whole, "passwordAuth", "identityFields");
    if (schema_auth_flag(whole, "passwordAuth", "enabled") && fields->child == NULL)
        add_blank(check, BK_SLICE("passwordAuth.identityFields"));
    if (schema_auth_flag(whole, "otp", "enabled")) {
        check_number(check, "otp", "duration", DURATION_SECONDS_MIN, CODE_SECONDS_MAX);
        check_number(check, "otp", "length", CODE_LENGTH_MIN, 0);
    }
    if (schema_auth_flag(whole, "mfa", "enabled"))
        check_number(check, "mfa", "duration", DURATION_SECONDS_MIN, CODE_SECONDS_MAX);
}

static bool check_factors(const struct auth_check *check) {
    static const char *const ways[] = {"passwordAuth", "oauth2", "otp"};
    int count = 0;
    if (!schema_auth_flag(check->whole, "mfa", "enabled"))
        return true;
    for (size_t i = 0; i < BK_COUNT_OF(ways); i++)
        count += schema_auth_flag(check->whole, ways[i], "enabled");
    if (count < FACTORS_MIN)
        bk_problems_add(check->problems, BK_SLICE("mfa.enabled"), "validation_mfa_not_enough_auths",
                        "MFA requires at least 2 auth methods to be enabled.");
    return count >= FACTORS_MIN &&
           check_rule(check, "mfa.rule", schema_auth_get(check->whole, "mfa", "rule")->string);
}

static void check_identity_fields(const struct auth_check *check) {
    static const struct bk_slice path = BK_SLICE_INIT("passwordAuth.identityFields");
    const struct bk_collection *collection = &check->box->collection;
    const struct bk_json *fields = schema_auth_get(check->whole, "passwordAuth", "identityFields");
    if (!schema_auth_flag(check->whole, "passwordAuth", "enabled"))
        return;
    for (const struct bk_json *item = fields->child; item != NULL; item = item->next) {
        if (bk_collection_field(collection, item->string) == NULL) {
            add_named(check, path, "validation_missing_field", "fieldName",
                      "Invalid or missing field ", item->string, ".");
            return;
        }
        if (!schema_index_is_unique_on(collection, item->string, check->problems->arena)) {
            add_named(check, path, "validation_missing_unique_constraint", "fieldName",
                      "The field ", item->string, " doesn't have a UNIQUE constraint.");
            return;
        }
    }
}

void schema_auth_check(const struct bk_schema_kind *kind, const struct bk_schema *schema,
                       const struct schema_box *box, const struct schema_box *old, bool is_own,
                       struct bk_problems *problems) {
    static const char *const tokens[] = {"authToken", "passwordResetToken", "emailChangeToken",
                                         "verificationToken", "fileToken"};
    static const char *const mails[] = {"verificationTemplate", "resetPasswordTemplate",
                                        "confirmEmailChangeTemplate"};
    const struct auth_check check = {kind,    schema, box, old, is_own, box->collection.auth,
                                     problems};
    uint32_t before = problems->count;
    if (box->collection.type != BK_COLLECTION_AUTH)
        return;
    check_auth_rule(&check);
    check_manage_rule(&check);
    check_ways(&check);
    check_oauth2(&check);
    for (size_t i = 0; i < BK_COUNT_OF(tokens); i++)
        check_token(&check, tokens[i]);
    for (size_t i = 0; i < BK_COUNT_OF(mails); i++)
        check_mail(&check, mails[i], schema_auth_get(check.whole, mails[i], NULL));
    check_mail(&check, "authAlert.emailTemplate",
               schema_auth_get(check.whole, "authAlert", "emailTemplate"));
    check_mail(&check, "otp.emailTemplate", schema_auth_get(check.whole, "otp", "emailTemplate"));
    if (problems->count == before && check_factors(&check))
        check_identity_fields(&check);
}
