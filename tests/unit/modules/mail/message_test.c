/* What a payload may be, and that what would break a head is refused by the name of its field. */
#include "mail.h"

#include "support.h"
#include <stdio.h>

struct fixture {
    struct bk_arena arena;
    struct bk_problems problems;
    struct mail_message message;
};

static int setup(void **state) {
    static struct fixture fixture;
    bk_arena_init(&fixture.arena, 4 * 1024 * 1024);
    *state = &fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    bk_arena_fini(&fixture->arena);
    return 0;
}

/* Apostrophes stand for quotes. */
static enum bk_status read(struct fixture *fixture, const char *payload) {
    struct bk_slice text = bk_arena_copy(&fixture->arena, bk_slice_from(payload));
    struct bk_json *json;
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] == '\'')
            ((char *)(uintptr_t)text.data)[i] = '"';
    assert_int_equal(bk_json_parse(&fixture->arena, text, &json, NULL), BK_OK);
    bk_problems_init(&fixture->problems, &fixture->arena);
    return mail_message_read(json, &fixture->problems, &fixture->message);
}

static void assert_refused(struct fixture *fixture, const char *payload, const char *field,
                           const char *code) {
    assert_int_equal(read(fixture, payload), BK_INVALID);
    const struct bk_problem *first = fixture->problems.first;
    if (!bk_slice_equal(first->field, bk_slice_from(field)) ||
        !bk_slice_equal(first->code, bk_slice_from(code)))
        fail_msg("%s: %.*s %.*s", payload, BK_SLICE_PRINT(first->field),
                 BK_SLICE_PRINT(first->code));
}

static void a_message_is_read_with_all_it_has(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(read(fixture, "{'to':[{'address':'ann@example.com','name':'Ann'},"
                                   "'bob@example.com'],'cc':{'address':'cy@example.com'},"
                                   "'bcc':'dee@example.com','replyTo':[{'address':'e@x.org'}],"
                                   "'subject':'Hi','text':'A','html':'<p>A','unknown':1,"
                                   "'headers':{'List-Unsubscribe':'<https://x.org/u>'},"
                                   "'expires':'2030-01-01 00:00:00.000Z'}"),
                     BK_OK);
    struct mail_message *message = &fixture->message;
    assert_true(bk_slice_is(message->to->name, "Ann"));
    assert_true(bk_slice_is(message->to->next->address, "bob@example.com"));
    assert_null(message->to->next->next);
    assert_true(bk_slice_is(message->cc->address, "cy@example.com"));
    assert_true(bk_slice_is(message->bcc->address, "dee@example.com"));
    assert_true(bk_slice_is(message->reply_to->address, "e@x.org"));
    assert_int_equal(message->recipient_count, 4);
    assert_true(bk_slice_is(message->headers->name, "List-Unsubscribe"));
    assert_int_equal(message->expires_ms, 1893456000000);
    assert_int_equal(message->template, MAIL_NO_TEMPLATE);
}

static void a_template_needs_no_recipient(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(read(fixture, "{'template':'password-reset','collection':'users',"
                                   "'record':'abc','variables':{'TOKEN':'t'}}"),
                     BK_OK);
    assert_int_equal(fixture->message.template, MAIL_PASSWORD_RESET);
    assert_true(bk_slice_is(fixture->message.record, "abc"));
    assert_null(fixture->message.to);
}

static void what_is_missing_is_named(void **state) {
    static const struct {
        const char *payload, *field, *code;
    } rows[] = {
        {"{'subject':'a','text':'b'}", "to", "validation_required"},
        {"{'to':[],'subject':'a','text':'b'}", "to", "validation_required"},
        {"{'to':'a@b.c','text':'b'}", "subject", "validation_required"},
        {"{'to':'a@b.c','subject':'  ','text':'b'}", "subject", "validation_required"},
        {"{'to':'a@b.c','subject':'a'}", "text", "validation_required"},
        {"{'to':[{'name':'a'}],'subject':'a','text':'b'}", "to.0.address", "validation_required"},
        {"{'to':[7],'subject':'a','text':'b'}", "to.0", "validation_invalid_type"},
        {"{'to':['nope'],'subject':'a','text':'b'}", "to.0", "validation_is_email"},
        {"{'to':'a@b.c','subject':7,'text':'b'}", "subject", "validation_invalid_type"},
        {"{'to':'a@b.c','subject':'a','text':[]}", "text", "validation_invalid_type"},
        {"{'template':'nope','collection':'u','record':'r'}", "template", "validation_in_invalid"},
        {"{'template':'otp','record':'r'}", "collection", "validation_required"},
        {"{'template':'otp','collection':'u'}", "record", "validation_required"},
        {"{'template':'otp','collection':'u','record':'r','variables':[]}", "variables",
         "validation_invalid_type"},
        {"{'to':'a@b.c','subject':'a','text':'b','expires':'soon'}", "expires",
         "validation_invalid_date"},
    };
    for (size_t i = 0; i < BK_COUNT_OF(rows); i++)
        assert_refused(*state, rows[i].payload, rows[i].field, rows[i].code);
}

/* Each place that comes into the head or the envelope, with each way to end a line. */
static void nothing_can_break_a_head(void **state) {
    static const struct {
        const char *before, *behind, *field;
    } rows[] = {
        {"{'to':['a@b.c", "'],'subject':'a','text':'b'}", "to.0"},
        {"{'to':[{'address':'a@b.c", "'}],'subject':'a','text':'b'}", "to.0.address"},
        {"{'to':[{'address':'a@b.c','name':'A", "'}],'subject':'a','text':'b'}", "to.0.name"},
        {"{'to':'a@b.c','cc':['a@b.c", "'],'subject':'a','text':'b'}", "cc.0"},
        {"{'to':'a@b.c','bcc':['a@b.c", "'],'subject':'a','text':'b'}", "bcc.0"},
        {"{'to':'a@b.c','replyTo':[{'address':'a@b.c','name':'", "'}],'subject':'a','text':'b'}",
         "replyTo.0.name"},
        {"{'to':'a@b.c','subject':'a", "','text':'b'}", "subject"},
        {"{'to':'a@b.c','subject':'a','text':'b','headers':{'X-A':'", "'}}", "headers.X-A"},
    };
    static const char *const breaks[] = {
        "\\r\\nBcc: eve@example.com", "\\nX: y", "\\rX: y", "\\u000bX", "\\u007f", "\\t"};
    char payload[512];
    for (size_t i = 0; i < BK_COUNT_OF(rows); i++)
        for (size_t j = 0; j < BK_COUNT_OF(breaks); j++) {
            snprintf(payload, sizeof payload, "%s%s%s", rows[i].before, breaks[j], rows[i].behind);
            assert_refused(*state, payload, rows[i].field, "validation_invalid_line");
        }
}

static void headers_that_are_ours_are_refused(void **state) {
    static const char *const names[] = {"From",         "bcc",       "Message-ID",
                                        "Content-Type", "content-x", "Received",
                                        "MIME-Version", "Subject",   "Auto-Submitted"};
    char payload[512], field[64];
    for (size_t i = 0; i < BK_COUNT_OF(names); i++) {
        snprintf(payload, sizeof payload,
                 "{'to':'a@b.c','subject':'a','text':'b','headers':{'%s':'x'}}", names[i]);
        snprintf(field, sizeof field, "headers.%s", names[i]);
        assert_refused(*state, payload, field, "validation_invalid_header");
    }
    assert_refused(*state, "{'to':'a@b.c','subject':'a','text':'b','headers':{'X A':'x'}}",
                   "headers", "validation_invalid_header");
    assert_refused(*state, "{'to':'a@b.c','subject':'a','text':'b','headers':{'X:A\\r\\n':'x'}}",
                   "headers", "validation_invalid_header");
}

static const char *crowd(struct fixture *fixture, int count) {
    struct bk_slice text = BK_SLICE("{'subject':'a','text':'b','cc':'c@d.e','to':['a@b.c'");
    for (int i = 1; i < count; i++)
        text = bk_arena_format(&fixture->arena, "%.*s,'a@b.c'", BK_SLICE_PRINT(text));
    return bk_arena_format(&fixture->arena, "%.*s]}", BK_SLICE_PRINT(text)).data;
}

static void no_more_than_a_hundred_get_a_message(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(read(fixture, crowd(fixture, 99)), BK_OK);
    assert_refused(fixture, crowd(fixture, 100), "to", "validation_length_too_long");
    assert_refused(fixture, crowd(fixture, 300), "to", "validation_length_too_long");
}

/* Written by the end of a mail that some have got, and by nobody else: it is judged all the same.
 */
static void the_rest_of_a_message_is_read(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(read(fixture, "{'message':{'to':['a@b.c','d@e.f'],'subject':'a','text':'b'},"
                                   "'only':['d@e.f'],'messageId':'task@b.c'}"),
                     BK_OK);
    assert_int_equal(fixture->message.recipient_count, 2);
    assert_true(bk_slice_is(fixture->message.only->child->string, "d@e.f"));
    assert_true(bk_slice_is(fixture->message.message_id, "task@b.c"));
    assert_refused(fixture,
                   "{'message':{'to':'a@b.c','subject':'a','text':'b'},'only':[],"
                   "'messageId':'a@b.c>\\r\\nBcc: e@x.y'}",
                   "messageId", "validation_invalid_line");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_is_read_with_all_it_has, setup, teardown),
        cmocka_unit_test_setup_teardown(a_template_needs_no_recipient, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_can_break_a_head, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_that_are_ours_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_than_a_hundred_get_a_message, setup, teardown),
        cmocka_unit_test_setup_teardown(the_rest_of_a_message_is_read, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
