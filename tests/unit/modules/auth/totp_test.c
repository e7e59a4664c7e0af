/* Codes of authenticator apps: the vectors of the standards. What is kept of them is tested on the
 * real binary. */
#include "auth.h"
#include "support.h"

static const struct bk_slice secret = BK_SLICE_INIT("12345678901234567890");

/* RFC 6238, appendix B, SHA-1: the last six of its eight digits. */
static void test_the_vectors_of_rfc_6238(void **state) {
    static const struct {
        int64_t seconds;
        uint32_t code;
    } vectors[] = {{59, 287082},       {1111111109, 81804},  {1111111111, 50471},
                   {1234567890, 5924}, {2000000000, 279037}, {20000000000, 353130}};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(vectors); i++)
        assert_int_equal(auth_totp_code(secret, vectors[i].seconds / 30), vectors[i].code);
}

/* RFC 4226, appendix D: the same of the first ten steps. */
static void test_the_vectors_of_rfc_4226(void **state) {
    static const uint32_t codes[] = {755224, 287082, 359152, 969429, 338314,
                                     254676, 287922, 162583, 399871, 520489};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(codes); i++)
        assert_int_equal(auth_totp_code(secret, (int64_t)i), codes[i]);
}

/* RFC 4648, section 10, those that need no padding. */
static void test_base32(void **state) {
    char text[17] = {0};
    (void)state;
    auth_totp_base32(text, (const uint8_t *)"fooba", 5);
    assert_string_equal(text, "MZXW6YTB");
    auth_totp_base32(text, (const uint8_t *)"\0\0\0\0\0\xff\xff\xff\xff\xff", 10);
    assert_string_equal(text, "AAAAAAAA77777777");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_vectors_of_rfc_6238),
        cmocka_unit_test(test_the_vectors_of_rfc_4226),
        cmocka_unit_test(test_base32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
