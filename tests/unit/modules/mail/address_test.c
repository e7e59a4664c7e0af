/* Which addresses go into an envelope. */
#include "mail.h"

#include "support.h"

static void plain_addresses_are_taken(void **state) {
    static const char *const good[] = {
        "a@b",
        "ann@example.com",
        "ann.lee+tag@mail.example.co.uk",
        "o'brien@example.com",
        "x@xn--mller-kva.example",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "a@1.example",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(good); i++)
        if (!mail_address_is_valid(bk_slice_from(good[i])))
            fail_msg("refused: %s", good[i]);
}

static void what_a_server_could_read_in_another_way_is_refused(void **state) {
    static const char *const bad[] = {
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@example.com@example.org",
        "ann@example..com",
        "ann@.example.com",
        "ann@example.com.",
        "ann@-example.com",
        "ann@example-.com",
        ".ann@example.com",
        "ann.@example.com",
        "an..n@example.com",
        "ann @example.com",
        "ann@exam ple.com",
        "\"ann\"@example.com",
        "ann@[127.0.0.1]",
        "ann@127.0.0.1",
        "ann@example.com\r\nRCPT TO:<eve@example.com>",
        "ann\n@example.com",
        "ann@example.com>",
        "<ann@example.com>",
        "ann,eve@example.com",
        "m\xc3\xbcller@example.com",
        "ann@m\xc3\xbcller.example",
    };
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(bad); i++)
        if (mail_address_is_valid(bk_slice_from(bad[i])))
            fail_msg("taken: %s", bad[i]);
    assert_false(mail_address_is_valid(BK_SLICE("ann\0x@example.com")));
    assert_false(mail_address_is_valid(BK_SLICE("ann@example\0.com")));
}

static void lengths_are_those_of_the_protocol(void **state) {
    char text[400];
    (void)state;
    memset(text, 'a', sizeof text);
    text[64] = '@';
    assert_true(mail_address_is_valid(bk_slice_make(text, 64 + 1 + 63)));
    assert_false(mail_address_is_valid(bk_slice_make(text, 64 + 1 + 64)));
    text[64] = 'a';
    text[65] = '@';
    assert_false(mail_address_is_valid(bk_slice_make(text, 80)));
}

static void control_characters_are_seen(void **state) {
    (void)state;
    assert_false(mail_has_control(BK_SLICE("Gr\xc3\xbc\xc3\x9f"
                                           "e, Ann")));
    assert_true(mail_has_control(BK_SLICE("a\rb")));
    assert_true(mail_has_control(BK_SLICE("a\nb")));
    assert_true(mail_has_control(BK_SLICE("a\0b")));
    assert_true(mail_has_control(BK_SLICE("a\tb")));
    assert_true(mail_has_control(BK_SLICE("a\x7f")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_addresses_are_taken),
        cmocka_unit_test(what_a_server_could_read_in_another_way_is_refused),
        cmocka_unit_test(lengths_are_those_of_the_protocol),
        cmocka_unit_test(control_characters_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
