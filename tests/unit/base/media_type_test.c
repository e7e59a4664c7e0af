/* What bytes are taken for. */
#include "support.h"

#include "bakend/assert.h"
#include "bakend/media_type.h"

struct expectation {
    struct bk_slice data;
    const char *name, *extension;
};

static void expect_all(const struct expectation *all, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct bk_media_type *type = bk_media_type_sniff(all[i].data);
        assert_string_equal(type->name, all[i].name);
        assert_string_equal(type->extension, all[i].extension);
    }
}

static void knows_formats_by_their_bytes(void **state) {
    static const struct expectation all[] = {
        {BK_SLICE_INIT("\x89PNG\r\n\x1a\n"), "image/png", ".png"},
        {BK_SLICE_INIT("\xff\xd8\xff\xe0"), "image/jpeg", ".jpg"},
        {BK_SLICE_INIT("GIF89a"), "image/gif", ".gif"},
        {BK_SLICE_INIT("RIFF\1\2\3\4WEBPVP8 "), "image/webp", ".webp"},
        {BK_SLICE_INIT("RIFF\1\2\3\4WAVE"), "audio/wav", ".wav"},
        {BK_SLICE_INIT("\0\0\0\x1c"
                       "ftypavif"),
         "image/avif", ".avif"},
        {BK_SLICE_INIT("\0\0\0\x1c"
                       "ftypheic"),
         "image/heic", ".heic"},
        {BK_SLICE_INIT("\0\0\0\x1c"
                       "ftypisom"),
         "video/mp4", ".mp4"},
        {BK_SLICE_INIT("\0\0\0\x14"
                       "ftypqt  "),
         "video/quicktime", ".mov"},
        {BK_SLICE_INIT("\x1a\x45\xdf\xa3\x01\x42\x82\x84webm"), "video/webm", ".webm"},
        {BK_SLICE_INIT("\x1a\x45\xdf\xa3\x01\x42\x82\x88matroska"), "video/x-matroska", ".mkv"},
        {BK_SLICE_INIT("%PDF-1.7"), "application/pdf", ".pdf"},
        {BK_SLICE_INIT("\x1f\x8b\x08"), "application/gzip", ".gz"},
        {BK_SLICE_INIT("PK\3\4____________"), "application/zip", ".zip"},
        {BK_SLICE_INIT("PK\3\4______________word/document.xml"),
         "application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"},
        {BK_SLICE_INIT("\0\1\0\0\0"), "font/ttf", ".ttf"},
        {BK_SLICE_INIT("ID3\3"), "audio/mpeg", ".mp3"},
        {BK_SLICE_INIT("\0\1\2\3\4\5"), "application/octet-stream", ""},
        {BK_SLICE_INIT("text with a \1 byte"), "application/octet-stream", ""},
    };
    (void)state;
    expect_all(all, BK_COUNT_OF(all));
}

static void tells_texts_apart(void **state) {
    static const struct expectation all[] = {
        {BK_SLICE_INIT(""), "text/plain", ".txt"},
        {BK_SLICE_INIT("hello"), "text/plain", ".txt"},
        {BK_SLICE_INIT("\xef\xbb\xbfh\xc3\xa9llo"), "text/plain", ".txt"},
        {BK_SLICE_INIT(" \n<!DOCTYPE html><p>"), "text/html", ".html"},
        {BK_SLICE_INIT("<ScRiPt>alert(1)</script>"), "text/html", ".html"},
        {BK_SLICE_INIT("<scripture>"), "text/plain", ".txt"},
        {BK_SLICE_INIT("<?xml version=\"1.0\"?><a/>"), "text/xml", ".xml"},
        {BK_SLICE_INIT("<?xml version=\"1.0\"?><!-- --><svg xmlns=\"\">"), "image/svg+xml", ".svg"},
        {BK_SLICE_INIT("<svg onload=\"\">"), "image/svg+xml", ".svg"},
        {BK_SLICE_INIT(" {\"a\": [1, \"}\"]}\n"), "application/json", ".json"},
        {BK_SLICE_INIT("[1, 2]"), "application/json", ".json"},
        {BK_SLICE_INIT("{\"a\": 1} more"), "text/plain", ".txt"},
        {BK_SLICE_INIT("{curly}"), "text/plain", ".txt"},
        {BK_SLICE_INIT("[link](there)"), "text/plain", ".txt"},
        {BK_SLICE_INIT("a,b\n1,\"x,\ny\"\n"), "text/csv", ".csv"},
        {BK_SLICE_INIT("a\tb\n1\t2\n"), "text/tab-separated-values", ".tsv"},
        {BK_SLICE_INIT("a,b\n1\n"), "text/plain", ".txt"},
        {BK_SLICE_INIT("Hello, world"), "text/plain", ".txt"},
    };
    (void)state;
    expect_all(all, BK_COUNT_OF(all));
}

static void looks_at_the_beginning_alone(void **state) {
    static char large[100000];
    (void)state;
    memset(large, ' ', sizeof(large));
    large[sizeof(large) - 1] = '\0';
    assert_string_equal(bk_media_type_sniff(bk_slice_make(large, sizeof(large)))->name,
                        "text/plain");
    memcpy(large, "{\"a\":[", 6);
    assert_string_equal(bk_media_type_sniff(bk_slice_make(large, sizeof(large)))->name,
                        "application/json");
}

static void knows_other_names_of_a_type(void **state) {
    const struct bk_media_type *gzip = bk_media_type_sniff(BK_SLICE("\x1f\x8b"));
    (void)state;
    assert_true(bk_media_type_is(gzip, BK_SLICE("application/gzip")));
    assert_true(bk_media_type_is(gzip, BK_SLICE("Application/X-Gzip; q=1")));
    assert_true(bk_media_type_is(gzip, BK_SLICE("gzip/document")));
    assert_false(bk_media_type_is(gzip, BK_SLICE("application/*")));
    assert_false(bk_media_type_is(gzip, BK_SLICE("")));
    assert_false(bk_media_type_is(bk_media_type_sniff(BK_SLICE("GIF89a")), BK_SLICE("image/png")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_formats_by_their_bytes),
        cmocka_unit_test(tells_texts_apart),
        cmocka_unit_test(looks_at_the_beginning_alone),
        cmocka_unit_test(knows_other_names_of_a_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
