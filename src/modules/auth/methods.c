/* How one may sign in to a collection, for clients that draw a form of it. */
#include "auth.h"

static void write_password(const struct bk_collection *collection, bool is_on,
                           struct bk_buffer *out) {
    const struct bk_json *fields = auth_option(collection, "passwordAuth", "identityFields");
    bk_buffer_append_literal(out, "\"password\":{");
    bk_json_write_member_raw(out, BK_SLICE("identityFields"),
                             is_on && fields != NULL ? fields->text : BK_SLICE("[]"));
    bk_json_write_member_bool(out, BK_SLICE("enabled"), is_on);
    bk_buffer_append_char(out, '}');
}

/* A second factor or a one-time password: how long it is good for is said where it is on. */
static void write_timed(const struct bk_collection *collection, const char *group,
                        struct bk_buffer *out) {
    bool is_on = auth_option_is_on(collection, group, "enabled");
    bk_json_write_key(out, bk_slice_from(group));
    bk_buffer_append_char(out, '{');
    bk_json_write_member_bool(out, BK_SLICE("enabled"), is_on);
    bk_json_write_member_int(out, BK_SLICE("duration"),
                             is_on ? auth_option_number(collection, group, "duration") : 0);
    bk_buffer_append_char(out, '}');
}

static bool has_identity_field(const struct bk_collection *collection, struct bk_slice name) {
    const struct bk_json *fields = auth_option(collection, "passwordAuth", "identityFields");
    for (const struct bk_json *item = fields == NULL ? NULL : fields->child; item != NULL;
         item = item->next)
        if (bk_slice_equal(item->string, name))
            return true;
    return false;
}

/* The last three members are older forms of what comes before them, which old clients read. */
static void write_methods(const struct bk_collection *collection, struct bk_slice providers,
                          struct bk_buffer *out) {
    bool has_password = auth_option_is_on(collection, "passwordAuth", "enabled");
    bool has_oauth2 = auth_option_is_on(collection, "oauth2", "enabled");
    bk_buffer_append_char(out, '{');
    write_password(collection, has_password, out);
    bk_buffer_append_literal(out, ",\"oauth2\":{");
    bk_json_write_member_raw(out, BK_SLICE("providers"), providers);
    bk_json_write_member_bool(out, BK_SLICE("enabled"), has_oauth2);
    bk_buffer_append_char(out, '}');
    write_timed(collection, "mfa", out);
    write_timed(collection, "otp", out);
    bk_json_write_member_raw(out, BK_SLICE("authProviders"),
                             has_oauth2 ? providers : BK_SLICE("null"));
    bk_json_write_member_bool(out, BK_SLICE("usernamePassword"),
                              has_password && has_identity_field(collection, BK_SLICE("username")));
    bk_json_write_member_bool(out, BK_SLICE("emailPassword"),
                              has_password && has_identity_field(collection, BK_SLICE("email")));
    bk_buffer_append_char(out, '}');
}

void auth_methods(struct bk_request *request) {
    enum { PROVIDERS_BYTES_MAX = 4 * 1024 * 1024 };
    const struct bk_collection *collection = auth_collection(request);
    struct bk_buffer providers;
    if (collection == NULL)
        return;
    bk_buffer_init(&providers, PROVIDERS_BYTES_MAX);
    auth_providers_write(collection, &providers);
    enum bk_status status = bk_buffer_status(&providers);
    if (status == BK_OK) {
        write_methods(collection, bk_buffer_slice(&providers), &request->out);
        status = bk_answer_pick_fields(request, bk_request_query(request, BK_SLICE("fields")));
    }
    bk_buffer_fini(&providers);
    if (status == BK_OK)
        bk_answer(request, 200);
    else
        bk_answer_error(request, status, NULL);
}
