/*
 * What an auth collection has beyond a base one, as it is declared: each option with its type and
 * its value until somebody says otherwise. Durations are in seconds. All of it is the contract's,
 * the mails too, since applications and their texts count on it.
 */
#include "schema_private.h"

/* --- mails ------------------------------------------------------------------------------------ */

static const struct bk_shape_member verification_mail_members[] = {
    {"subject", BK_SHAPE_TEXT, "\"Verify your {APP_NAME} email\"", NULL},
    {"body", BK_SHAPE_TEXT,
     "\"<p>Hello,</p>\\n"
     "<p>Thank you for joining us at {APP_NAME}.</p>\\n"
     "<p>Click on the button below to verify your email address.</p>\\n"
     "<p>\\n"
     "  <a class=\\\"btn\\\" "
     "href=\\\"{APP_URL}/_/#/auth/confirm-verification/{TOKEN}\\\" "
     "target=\\\"_blank\\\" rel=\\\"noopener\\\">Verify</a>\\n"
     "</p>\\n"
     "<p><i>If you didn't recently register, please ignore this email.</i></p>\\n"
     "<p>\\n"
     "  Thanks,<br/>\\n"
     "  {APP_NAME} team\\n"
     "</p>\"",
     NULL},
};
static const struct bk_shape verification_mail = {verification_mail_members, 2, NULL};
static const struct bk_shape_member reset_mail_members[] = {
    {"subject", BK_SHAPE_TEXT, "\"Reset your {APP_NAME} password\"", NULL},
    {"body", BK_SHAPE_TEXT,
     "\"<p>Hello,</p>\\n"
     "<p>Click on the button below to reset your password.</p>\\n"
     "<p>\\n"
     "  <a class=\\\"btn\\\" "
     "href=\\\"{APP_URL}/_/#/auth/confirm-password-reset/{TOKEN}\\\" "
     "target=\\\"_blank\\\" rel=\\\"noopener\\\">Reset password</a>\\n"
     "</p>\\n"
     "<p><i>If you didn't ask to reset your password, please ignore this "
     "email.</i></p>\\n"
     "<p>\\n"
     "  Thanks,<br/>\\n"
     "  {APP_NAME} team\\n"
     "</p>\"",
     NULL},
};
static const struct bk_shape reset_mail = {reset_mail_members, 2, NULL};
static const struct bk_shape_member change_mail_members[] = {
    {"subject", BK_SHAPE_TEXT, "\"Confirm your {APP_NAME} new email address\"", NULL},
    {"body", BK_SHAPE_TEXT,
     "\"<p>Hello,</p>\\n"
     "<p>Click on the button below to confirm your new email address.</p>\\n"
     "<p>\\n"
     "  <a class=\\\"btn\\\" "
     "href=\\\"{APP_URL}/_/#/auth/confirm-email-change/{TOKEN}\\\" "
     "target=\\\"_blank\\\" rel=\\\"noopener\\\">Confirm new email</a>\\n"
     "</p>\\n"
     "<p><i>If you didn't ask to change your email address, please ignore this "
     "email.</i></p>\\n"
     "<p>\\n"
     "  Thanks,<br/>\\n"
     "  {APP_NAME} team\\n"
     "</p>\"",
     NULL},
};
static const struct bk_shape change_mail = {change_mail_members, 2, NULL};
static const struct bk_shape_member otp_mail_members[] = {
    {"subject", BK_SHAPE_TEXT, "\"OTP for {APP_NAME}\"", NULL},
    {"body", BK_SHAPE_TEXT,
     "\"<p>Hello,</p>\\n"
     "<p>Your one-time password is: <strong>{OTP}</strong></p>\\n"
     "<p><i>If you didn't ask for the one-time password, you can ignore this "
     "email.</i></p>\\n"
     "<p>\\n"
     "  Thanks,<br/>\\n"
     "  {APP_NAME} team\\n"
     "</p>\"",
     NULL},
};
static const struct bk_shape otp_mail = {otp_mail_members, 2, NULL};
static const struct bk_shape_member alert_mail_members[] = {
    {"subject", BK_SHAPE_TEXT, "\"Login from a new location\"", NULL},
    {"body", BK_SHAPE_TEXT,
     "\"<p>Hello,</p>\\n"
     "<p>We noticed a login to your {APP_NAME} account from a new location:</p>\\n"
     "<p><em>{ALERT_INFO}</em></p>\\n"
     "<p><strong>If this wasn't you, you should immediately change your {APP_NAME} "
     "account password to revoke access from all other locations.</strong></p>\\n"
     "<p>If this was you, you may disregard this email.</p>\\n"
     "<p>\\n"
     "  Thanks,<br/>\\n"
     "  {APP_NAME} team\\n"
     "</p>\"",
     NULL},
};
static const struct bk_shape alert_mail = {alert_mail_members, 2, NULL};

/* --- ways to sign in -------------------------------------------------------------------------- */

static const struct bk_shape_member alert_members[] = {
    {"enabled", BK_SHAPE_BOOL, "true", NULL},
    {"emailTemplate", BK_SHAPE_OBJECT, NULL, &alert_mail},
};
static const struct bk_shape alert = {alert_members, BK_COUNT_OF(alert_members), NULL};

static const struct bk_shape_member provider_members[] = {
    {"pkce", BK_SHAPE_MAYBE_BOOL, NULL, NULL},  {"name", BK_SHAPE_TEXT, NULL, NULL},
    {"clientId", BK_SHAPE_TEXT, NULL, NULL},    {"clientSecret", BK_SHAPE_SECRET, NULL, NULL},
    {"authURL", BK_SHAPE_TEXT, NULL, NULL},     {"tokenURL", BK_SHAPE_TEXT, NULL, NULL},
    {"userInfoURL", BK_SHAPE_TEXT, NULL, NULL}, {"displayName", BK_SHAPE_TEXT, NULL, NULL},
    {"extra", BK_SHAPE_MAP, NULL, NULL},
};
/* By name: a secret never comes to another provider because the list was put in another order. */
static const struct bk_shape provider = {provider_members, BK_COUNT_OF(provider_members), "name"};

static const struct bk_shape_member mapped_members[] = {
    {"id", BK_SHAPE_TEXT, NULL, NULL},
    {"name", BK_SHAPE_TEXT, NULL, NULL},
    {"username", BK_SHAPE_TEXT, NULL, NULL},
    {"avatarURL", BK_SHAPE_TEXT, NULL, NULL},
};
static const struct bk_shape mapped = {mapped_members, BK_COUNT_OF(mapped_members), NULL};

static const struct bk_shape_member oauth2_members[] = {
    {"providers", BK_SHAPE_OBJECTS, NULL, &provider},
    {"mappedFields", BK_SHAPE_OBJECT, NULL, &mapped},
    {"enabled", BK_SHAPE_BOOL, NULL, NULL},
};
static const struct bk_shape oauth2 = {oauth2_members, BK_COUNT_OF(oauth2_members), NULL};

static const struct bk_shape_member password_members[] = {
    {"enabled", BK_SHAPE_BOOL, "true", NULL},
    {"identityFields", BK_SHAPE_TEXTS, "[\"email\"]", NULL},
};
static const struct bk_shape password = {password_members, BK_COUNT_OF(password_members), NULL};

static const struct bk_shape_member mfa_members[] = {
    {"enabled", BK_SHAPE_BOOL, NULL, NULL},
    {"duration", BK_SHAPE_INT, "600", NULL},
    {"rule", BK_SHAPE_TEXT, NULL, NULL},
};
static const struct bk_shape mfa = {mfa_members, BK_COUNT_OF(mfa_members), NULL};

static const struct bk_shape_member otp_members[] = {
    {"enabled", BK_SHAPE_BOOL, NULL, NULL},
    {"duration", BK_SHAPE_INT, "180", NULL},
    {"length", BK_SHAPE_INT, "8", NULL},
    {"emailTemplate", BK_SHAPE_OBJECT, NULL, &otp_mail},
};
static const struct bk_shape otp = {otp_members, BK_COUNT_OF(otp_members), NULL};

/* --- tokens ----------------------------------------------------------------------------------- */

#define TOKEN(name, duration)                                                                      \
    static const struct bk_shape_member name##_members[] = {                                       \
        {"secret", BK_SHAPE_GENERATED, NULL, NULL},                                                \
        {"duration", BK_SHAPE_INT, duration, NULL},                                                \
    };                                                                                             \
    static const struct bk_shape name = {name##_members, BK_COUNT_OF(name##_members), NULL}

TOKEN(auth_token, "432000");
TOKEN(password_reset_token, "1800");
TOKEN(email_change_token, "1800");
TOKEN(verification_token, "86400");
TOKEN(file_token, "180");

/* --- the whole -------------------------------------------------------------------------------- */

static const struct bk_shape_member members[] = {
    {"authRule", BK_SHAPE_MAYBE_TEXT, "\"\"", NULL},
    {"manageRule", BK_SHAPE_MAYBE_TEXT, NULL, NULL},
    {"authAlert", BK_SHAPE_OBJECT, NULL, &alert},
    {"oauth2", BK_SHAPE_OBJECT, NULL, &oauth2},
    {"passwordAuth", BK_SHAPE_OBJECT, NULL, &password},
    {"mfa", BK_SHAPE_OBJECT, NULL, &mfa},
    {"otp", BK_SHAPE_OBJECT, NULL, &otp},
    {"authToken", BK_SHAPE_OBJECT, NULL, &auth_token},
    {"passwordResetToken", BK_SHAPE_OBJECT, NULL, &password_reset_token},
    {"emailChangeToken", BK_SHAPE_OBJECT, NULL, &email_change_token},
    {"verificationToken", BK_SHAPE_OBJECT, NULL, &verification_token},
    {"fileToken", BK_SHAPE_OBJECT, NULL, &file_token},
    {"verificationTemplate", BK_SHAPE_OBJECT, NULL, &verification_mail},
    {"resetPasswordTemplate", BK_SHAPE_OBJECT, NULL, &reset_mail},
    {"confirmEmailChangeTemplate", BK_SHAPE_OBJECT, NULL, &change_mail},
};
const struct bk_shape schema_auth_shape = {members, BK_COUNT_OF(members), NULL};
