/* What makes settings wrong, with the contract's codes and paths. All groups are judged, whether
 * somebody uses them yet or not, so that what is stored can be counted on. */
#include "settings.h"

#include "bakend/schema.h"
#include "bakend/work.h"
#include <arpa/inet.h>
#include <stdio.h>

enum { NAME_BYTES_MAX = 255, COLOR_BYTES = 7, ADDRESS_BYTES_MAX = 64, LABEL_BYTES_MAX = 63 };

struct settings_group {
    const struct bk_json *json;
    const char *path; /* "smtp" */
    struct bk_problems *problems;
};

/* --- problems --------------------------------------------------------------------------------- */

static struct bk_slice path_of(const struct settings_group *group, const char *name) {
    return bk_arena_format(group->problems->arena, "%s.%s", group->path, name);
}

static void add(const struct settings_group *group, const char *name, const char *code,
                const char *message) {
    bk_problems_add(group->problems, path_of(group, name), code, message);
}

static void add_blank(const struct settings_group *group, const char *name) {
    add(group, name, "validation_required", "Cannot be blank.");
}

/* --- values ----------------------------------------------------------------------------------- */

static struct bk_slice text_of(const struct settings_group *group, const char *name) {
    return bk_json_get_string(group->json, bk_slice_from(name));
}

static bool is_on(const struct settings_group *group) {
    const struct bk_json *enabled = bk_json_get(group->json, BK_SLICE("enabled"));
    return enabled != NULL && enabled->type == BK_JSON_BOOL && enabled->boolean;
}

/* 0 is absence, as everywhere in the contract. */
static void check_number(const struct settings_group *group, const char *name, int64_t minimum,
                         bool is_required) {
    char message[64], params[64];
    int64_t number = 0;
    const struct bk_json *json = bk_json_get(group->json, bk_slice_from(name));
    if (json != NULL)
        bk_json_to_int64(json, &number);
    if (number == 0 && is_required)
        add_blank(group, name);
    if (number == 0 || number >= minimum)
        return;
    snprintf(message, sizeof message, "Must be no less than %lld.", (long long)minimum);
    snprintf(params, sizeof params, "{\"threshold\":%lld}", (long long)minimum);
    bk_problems_add_params(group->problems, path_of(group, name),
                           "validation_min_greater_equal_than_required", message,
                           bk_slice_from(params));
}

static bool check_there(const struct settings_group *group, const char *name) {
    bool is_there = text_of(group, name).length > 0;
    if (!is_there)
        add_blank(group, name);
    return is_there;
}

static void check_name(const struct settings_group *group, const char *name) {
    if (check_there(group, name) && text_of(group, name).length > NAME_BYTES_MAX)
        bk_problems_add_params(
            group->problems, path_of(group, name), "validation_length_out_of_range",
            "The length must be between 1 and 255.", BK_SLICE("{\"max\":255,\"min\":1}"));
}

static void check_url(const struct settings_group *group, const char *name) {
    struct bk_slice url = text_of(group, name);
    if (url.length > 0 && !bk_url_is_valid(url))
        add(group, name, "validation_is_url", "Must be a valid URL.");
}

/* --- addresses -------------------------------------------------------------------------------- */

static bool is_address(struct bk_slice text, int family) {
    char address[ADDRESS_BYTES_MAX];
    unsigned char bytes[16];
    if (text.length == 0 || text.length >= sizeof address)
        return false;
    memcpy(address, text.data, text.length);
    address[text.length] = '\0';
    return inet_pton(family, address, bytes) == 1;
}

bool settings_network_is_valid(struct bk_slice text) {
    struct bk_slice rest = text, address, bits;
    int64_t count;
    if (!bk_slice_split(&rest, '/', &address))
        return false;
    bool is_four = is_address(address, AF_INET);
    if (!is_four && !is_address(address, AF_INET6))
        return false;
    if (!bk_slice_split(&rest, '/', &bits))
        return true;
    return rest.data == NULL && bk_slice_to_int64(bits, &count) && count >= 0 &&
           count <= (is_four ? 32 : 128);
}

static bool is_label(struct bk_slice label) {
    for (size_t i = 0; i < label.length; i++) {
        char c = label.data[i];
        bool is_word =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (!is_word && (c != '-' || i == 0))
            return false;
    }
    return label.length > 0 && label.length <= LABEL_BYTES_MAX;
}

bool settings_host_is_valid(struct bk_slice text) {
    struct bk_slice rest = text, label;
    if (is_address(text, AF_INET) || is_address(text, AF_INET6))
        return true;
    if (rest.length > 0 && rest.data[rest.length - 1] == '.')
        rest.length--;
    if (rest.length == 0 || rest.length > NAME_BYTES_MAX)
        return false;
    while (bk_slice_split(&rest, '.', &label))
        if (!is_label(label))
            return false;
    return true;
}

static void check_host(const struct settings_group *group, const char *name) {
    struct bk_slice host = text_of(group, name);
    if (host.length > 0 && !settings_host_is_valid(host))
        add(group, name, "validation_is_host", "Must be a valid IP address or DNS name.");
}

/* The contract has no such maximum; the lists are looked through for each request. */
static bool check_count(const struct bk_json *list, uint32_t maximum, const char *path,
                        struct bk_problems *problems) {
    char message[64], params[64];
    if (list == NULL || list->child_count <= maximum)
        return true;
    snprintf(message, sizeof message, "The length must be no more than %u.", maximum);
    snprintf(params, sizeof params, "{\"max\":%u,\"min\":0}", maximum);
    bk_problems_add_params(problems, bk_slice_from(path), "validation_length_too_long", message,
                           bk_slice_from(params));
    return false;
}

static void check_networks(const struct bk_json *list, const char *path,
                           struct bk_problems *problems) {
    uint32_t index = 0;
    if (!check_count(list, SETTINGS_NETWORKS_MAX, path, problems))
        return;
    for (const struct bk_json *item = list == NULL ? NULL : list->child; item != NULL;
         item = item->next, index++) {
        struct bk_slice field = bk_arena_format(problems->arena, "%s.%u", path, index);
        if (item->string.length == 0)
            bk_problems_add(problems, field, "validation_required", "Cannot be blank.");
        else if (!settings_network_is_valid(item->string))
            bk_problems_add(problems, field, "validation_invlaid_ip_or_subnet", /* the contract's */
                            "Invalid IP or CIDR subnet.");
    }
}

/* --- groups ----------------------------------------------------------------------------------- */

static void check_color(const struct settings_group *meta) {
    struct bk_slice color = text_of(meta, "accentColor");
    if (color.length == 0)
        return;
    if (color.length != COLOR_BYTES) {
        bk_problems_add_params(meta->problems, path_of(meta, "accentColor"),
                               "validation_length_invalid", "The length must be exactly 7.",
                               BK_SLICE("{\"max\":7,\"min\":7}"));
        return;
    }
    for (size_t i = 0; i < color.length; i++) {
        char c = color.data[i];
        bool is_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (i == 0 ? c == '#' : is_digit)
            continue;
        add(meta, "accentColor", "validation_is_hex_color",
            "Must be a valid hexadecimal color code.");
        return;
    }
}

static void check_meta(const struct settings_group *meta) {
    check_color(meta);
    check_name(meta, "appName");
    check_name(meta, "senderName");
    check_there(meta, "appURL");
    check_url(meta, "appURL");
    struct bk_slice sender = text_of(meta, "senderAddress");
    if (check_there(meta, "senderAddress") && !bk_email_is_valid(sender))
        add(meta, "senderAddress", "validation_is_email", "Must be a valid email address.");
}

static void check_smtp(const struct settings_group *smtp) {
    struct bk_slice method = text_of(smtp, "authMethod");
    if (is_on(smtp))
        check_there(smtp, "host");
    check_host(smtp, "host");
    check_number(smtp, "port", 0, is_on(smtp));
    if (method.length > 0 && !bk_slice_is(method, "LOGIN") && !bk_slice_is(method, "PLAIN"))
        add(smtp, "authMethod", "validation_in_invalid", "Must be a valid value.");
    check_host(smtp, "localName");
}

static void check_s3(const struct settings_group *s3) {
    static const char *const required[] = {"endpoint", "bucket", "region", "accessKey", "secret"};
    check_url(s3, "endpoint");
    for (size_t i = 0; i < BK_COUNT_OF(required) && is_on(s3); i++)
        check_there(s3, required[i]);
}

static void check_backups(const struct settings_group *backups) {
    struct bk_slice cron = text_of(backups, "cron");
    const struct settings_group s3 = {bk_json_get(backups->json, BK_SLICE("s3")), "backups.s3",
                                      backups->problems};
    check_s3(&s3);
    check_number(backups, "cronMaxKeep", 1, cron.length > 0);
    if (cron.length == 0)
        return;
    struct bk_slice problem = bk_cron_problem(cron, backups->problems->arena);
    if (problem.length > 0)
        bk_problems_add(backups->problems, path_of(backups, "cron"), "validation_invalid_cron",
                        bk_arena_copy(backups->problems->arena, problem).data);
}

static void check_batch(const struct settings_group *batch) {
    check_number(batch, "maxRequests", 0, is_on(batch));
    check_number(batch, "timeout", 0, is_on(batch));
    check_number(batch, "maxBodySize", 0, false);
}

static void check_logs(const struct settings_group *logs) {
    check_number(logs, "maxDays", 0, false);
}

/* --- rate limits ------------------------------------------------------------------------------ */

/* The length of the word (letters, digits, _) that text begins with. */
static size_t word_length(struct bk_slice text) {
    size_t length = 0;
    while (length < text.length) {
        char c = text.data[length];
        if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_')
            break;
        length++;
    }
    return length;
}

static bool is_path(struct bk_slice text) {
    if (text.length == 0 || text.data[0] != '/')
        return false;
    for (size_t i = 1; i < text.length; i++)
        if (word_length(bk_slice_make(text.data + i, 1)) == 0 && text.data[i] != '/' &&
            text.data[i] != '-')
            return false;
    return true;
}

bool settings_label_is_valid(struct bk_slice label) {
    size_t length = label.length > 0 && label.data[0] == '*' ? 1 : word_length(label);
    struct bk_slice rest = bk_slice_make(label.data + length, label.length - length);
    if (length == 0)
        return is_path(label);
    if (rest.length == 0)
        return label.data[0] != '*';
    struct bk_slice behind = bk_slice_make(rest.data + 1, rest.length - 1);
    if (rest.data[0] == ' ')
        return label.data[0] != '*' && is_path(behind);
    return rest.data[0] == ':' && behind.length > 0 && word_length(behind) == behind.length;
}

static bool conflicts(const struct bk_json *a, const struct bk_json *b, struct bk_arena *arena) {
    struct bk_slice keys[2];
    const struct bk_json *rules[] = {a, b};
    for (size_t i = 0; i < BK_COUNT_OF(rules); i++)
        keys[i] = bk_arena_format(
            arena, "%.*s@@%.*s", BK_SLICE_PRINT(bk_json_get_string(rules[i], BK_SLICE("label"))),
            BK_SLICE_PRINT(bk_json_get_string(rules[i], BK_SLICE("audience"))));
    return bk_slice_starts_with(keys[0], keys[1]) || bk_slice_starts_with(keys[1], keys[0]);
}

/* Whether each rule is of its own; the first that is not is the only problem. */
static bool check_conflicts(const struct settings_group *limits, const struct bk_json *rules) {
    uint32_t index = 0;
    for (const struct bk_json *rule = rules->child; rule != NULL; rule = rule->next, index++) {
        for (const struct bk_json *before = rules->child; before != rule; before = before->next) {
            struct bk_arena *arena = limits->problems->arena;
            if (!conflicts(before, rule, arena))
                continue;
            struct bk_slice label = bk_json_get_string(rule, BK_SLICE("label"));
            struct bk_buffer params;
            bk_buffer_init(&params, SETTINGS_BYTES_MAX);
            bk_buffer_append_char(&params, '{');
            bk_json_write_member_string(&params, BK_SLICE("label"), label);
            bk_buffer_append_char(&params, '}');
            struct bk_slice message = bk_arena_format(
                arena,
                "Rate limit rule configuration with label %.*s already exists or conflicts with "
                "another rule.",
                BK_SLICE_PRINT(label));
            bk_problems_add_params(
                limits->problems, bk_arena_format(arena, "rateLimits.rules.%u.label", index),
                "validation_conflicting_rate_limit_rule", message.length == 0 ? "" : message.data,
                params.is_overflown ? BK_SLICE_EMPTY : bk_buffer_slice(&params));
            bk_buffer_fini(&params);
            return false;
        }
    }
    return true;
}

static void check_rate_rule(const struct settings_group *rule) {
    struct bk_slice label = text_of(rule, "label"), audience = text_of(rule, "audience");
    if (check_there(rule, "label") && !settings_label_is_valid(label))
        add(rule, "label", "validation_match_invalid", "Must be in a valid format.");
    check_number(rule, "maxRequests", 1, true);
    check_number(rule, "duration", 1, true);
    if (audience.length > 0 && !bk_slice_is(audience, "@guest") && !bk_slice_is(audience, "@auth"))
        add(rule, "audience", "validation_in_invalid", "Must be a valid value.");
}

static void check_rate_limits(const struct settings_group *limits) {
    char path[48];
    uint32_t index = 0;
    const struct bk_json *rules = bk_json_get(limits->json, BK_SLICE("rules"));
    if (rules == NULL)
        return;
    if (rules->child == NULL && is_on(limits))
        add_blank(limits, "rules");
    if (check_count(rules, SETTINGS_RULES_MAX, "rateLimits.rules", limits->problems) &&
        check_conflicts(limits, rules))
        for (const struct bk_json *item = rules->child; item != NULL; item = item->next) {
            snprintf(path, sizeof path, "rateLimits.rules.%u", index++);
            const struct settings_group rule = {item, path, limits->problems};
            check_rate_rule(&rule);
        }
    check_networks(bk_json_get(limits->json, BK_SLICE("excludedIPs")), "rateLimits.excludedIPs",
                   limits->problems);
}

void settings_check(const struct bk_json *whole, struct bk_problems *problems) {
    static const struct {
        const char *name;
        void (*check)(const struct settings_group *group);
    } groups[] = {
        {"meta", check_meta},
        {"logs", check_logs},
        {"smtp", check_smtp},
        {"s3", check_s3},
        {"backups", check_backups},
        {"batch", check_batch},
        {"rateLimits", check_rate_limits},
    };
    check_networks(bk_json_get(whole, BK_SLICE("superuserIPs")), "superuserIPs", problems);
    for (size_t i = 0; i < BK_COUNT_OF(groups); i++) {
        const struct settings_group group = {bk_json_get(whole, bk_slice_from(groups[i].name)),
                                             groups[i].name, problems};
        groups[i].check(&group);
    }
}
