/*
 * Media types by content.
 *
 * Three steps: a table of bytes at fixed places; families whose members tell themselves apart
 * further in (ZIP by its first names, MP4 by its brand, Matroska by its document type); and texts,
 * which is whatever holds no binary bytes: HTML, XML, SVG, JSON, CSV by how they begin. The order
 * of the table is that of the tests, the longer of two that begin alike comes first.
 *
 * It decides what may be uploaded, so in doubt a type that a browser would run is named before a
 * harmless one: a text that begins as HTML is HTML.
 */
#include "bakend/media_type.h"

#include "bakend/assert.h"

/* As much as deciding takes, and what the formats below need. */
enum { SNIFFED_BYTES_MAX = 3072, SIGNATURE_BYTES_MAX = 16 };

static const struct bk_media_type unknown = {"application/octet-stream", "", NULL};
static const struct bk_media_type plain = {"text/plain", ".txt", NULL};

static struct bk_slice from(struct bk_slice text, size_t offset) {
    if (offset > text.length)
        offset = text.length;
    return bk_slice_make(text.data + offset, text.length - offset);
}

static bool has_at(struct bk_slice data, size_t offset, struct bk_slice bytes) {
    return bk_slice_starts_with(from(data, offset), bytes) && data.length >= offset + bytes.length;
}

static bool contains(struct bk_slice text, struct bk_slice word) {
    for (size_t i = 0; i + word.length <= text.length; i++)
        if (memcmp(text.data + i, word.data, word.length) == 0)
            return true;
    return false;
}

/* --- bytes at fixed places -------------------------------------------------------------------- */

struct signature {
    uint16_t offset;
    uint8_t length;
    char bytes[SIGNATURE_BYTES_MAX + 1];
    struct bk_media_type type;
};

#define AT(offset, bytes) offset, sizeof(bytes) - 1, bytes

static const struct signature signatures[] = {
    {AT(0, "\x89PNG\r\n\x1a\n"), {"image/png", ".png", NULL}},
    {AT(0, "\xff\xd8\xff"), {"image/jpeg", ".jpg", NULL}},
    {AT(0, "GIF87a"), {"image/gif", ".gif", NULL}},
    {AT(0, "GIF89a"), {"image/gif", ".gif", NULL}},
    {AT(0, "%PDF-"), {"application/pdf", ".pdf", "application/x-pdf"}},
    {AT(0, "%!PS-Adobe-"), {"application/postscript", ".ps", NULL}},
    {AT(0, "II*\0"), {"image/tiff", ".tiff", NULL}},
    {AT(0, "MM\0*"), {"image/tiff", ".tiff", NULL}},
    {AT(0, "8BPS"), {"image/vnd.adobe.photoshop", ".psd", "image/x-psd application/photoshop"}},
    {AT(0, "\0\0\0\x0cJXL \r\n\x87\n"), {"image/jxl", ".jxl", NULL}},
    {AT(0, "\xff\x0a"), {"image/jxl", ".jxl", NULL}},
    {AT(0, "\0\0\1\0"), {"image/x-icon", ".ico", NULL}},
    {AT(0, "7z\xbc\xaf\x27\x1c"), {"application/x-7z-compressed", ".7z", NULL}},
    {AT(0, "Rar!\x1a\7"), {"application/x-rar-compressed", ".rar", "application/x-rar"}},
    {AT(0, "\x1f\x8b"),
     {"application/gzip", ".gz",
      "application/x-gzip application/x-gunzip application/gzipped application/gzip-compressed "
      "application/x-gzip-compressed gzip/document"}},
    {AT(0, "BZh"), {"application/x-bzip2", ".bz2", NULL}},
    {AT(0, "\xfd\x37zXZ\0"), {"application/x-xz", ".xz", NULL}},
    {AT(0, "\x28\xb5\x2f\xfd"), {"application/zstd", ".zst", NULL}},
    {AT(257, "ustar"), {"application/x-tar", ".tar", NULL}},
    {AT(0, "fLaC"), {"audio/flac", ".flac", NULL}},
    {AT(0, "ID3"), {"audio/mpeg", ".mp3", "audio/x-mpeg audio/mp3"}},
    {AT(0, "\xff\xfb"), {"audio/mpeg", ".mp3", "audio/x-mpeg audio/mp3"}},
    {AT(0, "\xff\xf3"), {"audio/mpeg", ".mp3", "audio/x-mpeg audio/mp3"}},
    {AT(0, "\xff\xf2"), {"audio/mpeg", ".mp3", "audio/x-mpeg audio/mp3"}},
    {AT(0, "\xff\xf1"), {"audio/aac", ".aac", NULL}},
    {AT(0, "\xff\xf9"), {"audio/aac", ".aac", NULL}},
    {AT(0, "MThd"), {"audio/midi", ".midi", "audio/mid audio/sp-midi audio/x-mid audio/x-midi"}},
    {AT(0, "#!AMR"), {"audio/amr", ".amr", "audio/amr-nb"}},
    {AT(0, "FLV\1"), {"video/x-flv", ".flv", NULL}},
    {AT(0, "\0\0\1\xba"), {"video/mpeg", ".mpeg", NULL}},
    {AT(0, "\0\0\1\xb3"), {"video/mpeg", ".mpeg", NULL}},
    {AT(0, "\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
     {"video/x-ms-asf", ".asf", "video/asf video/x-ms-wmv"}},
    {AT(0, "wOFF"), {"font/woff", ".woff", NULL}},
    {AT(0, "wOF2"), {"font/woff2", ".woff2", NULL}},
    {AT(0, "OTTO"), {"font/otf", ".otf", NULL}},
    {AT(0, "ttcf"), {"font/collection", ".ttc", NULL}},
    {AT(0, "\0\1\0\0\0"),
     {"font/ttf", ".ttf", "font/sfnt application/x-font-ttf application/font-sfnt"}},
    {AT(0, "\0asm"), {"application/wasm", ".wasm", NULL}},
    {AT(0, "SQLite format 3\0"), {"application/vnd.sqlite3", ".sqlite", "application/x-sqlite3"}},
    {AT(0, "MZ"), {"application/vnd.microsoft.portable-executable", ".exe", NULL}},
    {AT(0, "\x7f"
           "ELF"),
     {"application/x-elf", "", NULL}},
    {AT(0, "BM"), {"image/bmp", ".bmp", "image/x-bmp image/x-ms-bmp"}},
    {AT(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), {"application/x-ole-storage", "", NULL}},
    {AT(0, "PAR1"), {"application/vnd.apache.parquet", ".parquet", "application/x-parquet"}},
    {AT(0, "glTF"), {"model/gltf-binary", ".glb", NULL}},
};

/* RIFF and FORM name what they hold behind their length. */
static const struct signature containers[] = {
    {AT(8, "WEBP"), {"image/webp", ".webp", NULL}},
    {AT(8, "WAVE"), {"audio/wav", ".wav", "audio/x-wav audio/vnd.wave audio/wave"}},
    {AT(8, "AVI "), {"video/x-msvideo", ".avi", "video/avi video/msvideo"}},
    {AT(8, "AIFF"), {"audio/aiff", ".aiff", "audio/x-aiff"}},
};

/* The brand of an ISO base media file, at byte 8. */
static const struct signature brands[] = {
    {AT(8, "avif"), {"image/avif", ".avif", NULL}},
    {AT(8, "avis"), {"image/avif", ".avif", NULL}},
    {AT(8, "heic"), {"image/heic", ".heic", NULL}},
    {AT(8, "heix"), {"image/heic", ".heic", NULL}},
    {AT(8, "mif1"), {"image/heif", ".heif", NULL}},
    {AT(8, "heim"), {"image/heif", ".heif", NULL}},
    {AT(8, "hevc"), {"image/heic-sequence", ".heic", NULL}},
    {AT(8, "msf1"), {"image/heif-sequence", ".heif", NULL}},
    {AT(8, "M4A "), {"audio/x-m4a", ".m4a", NULL}},
    {AT(8, "M4V"), {"video/x-m4v", ".m4v", NULL}},
    {AT(8, "3gp"), {"video/3gpp", ".3gp", "video/3gp audio/3gpp"}},
    {AT(8, "3g2"), {"video/3gpp2", ".3g2", "video/3g2 audio/3gpp2"}},
    {AT(8, "qt"), {"video/quicktime", ".mov", NULL}},
    {AT(4, "ftyp"), {"video/mp4", ".mp4", NULL}},
};

static const struct bk_media_type *find(const struct signature *table, size_t count,
                                        struct bk_slice data) {
    for (size_t i = 0; i < count; i++) {
        const struct signature *signature = &table[i];
        BK_ASSERT(signature->length <= SIGNATURE_BYTES_MAX);
        if (has_at(data, signature->offset, bk_slice_make(signature->bytes, signature->length)))
            return &signature->type;
    }
    return NULL;
}

/* --- families --------------------------------------------------------------------------------- */

/* What a ZIP is, by a name in it. */
struct zip_kind {
    const char *mark;
    struct bk_media_type type;
};

static const struct zip_kind zip_kinds[] = {
    {"mimetypeapplication/epub+zip", {"application/epub+zip", ".epub", NULL}},
    {"mimetypeapplication/vnd.oasis.opendocument.text",
     {"application/vnd.oasis.opendocument.text", ".odt",
      "application/x-vnd.oasis.opendocument.text"}},
    {"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
     {"application/vnd.oasis.opendocument.spreadsheet", ".ods",
      "application/x-vnd.oasis.opendocument.spreadsheet"}},
    {"mimetypeapplication/vnd.oasis.opendocument.presentation",
     {"application/vnd.oasis.opendocument.presentation", ".odp",
      "application/x-vnd.oasis.opendocument.presentation"}},
    {"word/",
     {"application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx", NULL}},
    {"xl/", {"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx", NULL}},
    {"ppt/",
     {"application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx", NULL}},
    {"META-INF/MANIFEST.MF",
     {"application/java-archive", ".jar",
      "application/jar application/jar-archive application/x-java-archive"}},
};

static const struct bk_media_type *sniff_zip(struct bk_slice data) {
    static const struct bk_media_type zip = {"application/zip", ".zip",
                                             "application/x-zip application/x-zip-compressed"};
    if (!has_at(data, 0, BK_SLICE("PK\3\4")) && !has_at(data, 0, BK_SLICE("PK\5\6")) &&
        !has_at(data, 0, BK_SLICE("PK\7\10")))
        return NULL;
    for (size_t i = 0; i < BK_COUNT_OF(zip_kinds); i++)
        if (contains(data, bk_slice_from(zip_kinds[i].mark)))
            return &zip_kinds[i].type;
    return &zip;
}

static const struct bk_media_type *sniff_matroska(struct bk_slice data) {
    static const struct bk_media_type webm = {"video/webm", ".webm", "audio/webm"};
    static const struct bk_media_type matroska = {"video/x-matroska", ".mkv", NULL};
    if (!has_at(data, 0, BK_SLICE("\x1a\x45\xdf\xa3")))
        return NULL;
    return contains(data, BK_SLICE("webm")) ? &webm : &matroska;
}

static const struct bk_media_type *sniff_ogg(struct bk_slice data) {
    static const struct bk_media_type audio = {"audio/ogg", ".oga", NULL};
    static const struct bk_media_type video = {"video/ogg", ".ogv", NULL};
    static const struct bk_media_type other = {"application/ogg", ".ogg", "application/x-ogg"};
    if (!has_at(data, 0, BK_SLICE("OggS\0")))
        return NULL;
    if (has_at(data, 28,
               BK_SLICE("\x7f"
                        "FLAC")) ||
        has_at(data, 28, BK_SLICE("\1vorbis")) || has_at(data, 28, BK_SLICE("OpusHead")) ||
        has_at(data, 28, BK_SLICE("Speex  ")))
        return &audio;
    if (has_at(data, 28, BK_SLICE("\x80theora")) || has_at(data, 28, BK_SLICE("fishead\0")))
        return &video;
    return &other;
}

/* --- texts ------------------------------------------------------------------------------------ */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static struct bk_slice skip_space(struct bk_slice text) {
    while (text.length > 0 && is_space(text.data[0]))
        text = from(text, 1);
    return text;
}

/* WHATWG's binary data bytes. */
static bool is_text(struct bk_slice data) {
    for (size_t i = 0; i < data.length; i++) {
        unsigned char c = (unsigned char)data.data[i];
        if (c <= 0x08 || c == 0x0b || (c >= 0x0e && c <= 0x1a) || (c >= 0x1c && c <= 0x1f))
            return false;
    }
    return true;
}

static bool begins_tag(struct bk_slice text, const char *tag) {
    size_t length = strlen(tag);
    if (text.length <= length ||
        !bk_slice_equal_ignore_case(bk_slice_make(text.data, length), bk_slice_from(tag)))
        return false;
    return is_space(text.data[length]) || text.data[length] == '>';
}

static bool is_html(struct bk_slice text) {
    static const char *const tags[] = {
        "<!doctype html", "<html", "<head",  "<script", "<iframe", "<h1",   "<div", "<font",
        "<table",         "<a",    "<style", "<title",  "<b",      "<body", "<br",  "<p",
        "<link",
    };
    for (size_t i = 0; i < BK_COUNT_OF(tags); i++)
        if (begins_tag(text, tags[i]))
            return true;
    return bk_slice_starts_with(text, BK_SLICE("<!--"));
}

static const struct bk_media_type *sniff_markup(struct bk_slice text) {
    static const struct bk_media_type html = {"text/html", ".html", NULL};
    static const struct bk_media_type xml = {"text/xml", ".xml", "application/xml"};
    static const struct bk_media_type svg = {"image/svg+xml", ".svg", NULL};
    static const struct bk_media_type xhtml = {"application/xhtml+xml", ".html", NULL};
    bool is_xml = begins_tag(text, "<?xml");
    if (text.length == 0 || text.data[0] != '<')
        return NULL;
    if ((is_xml || begins_tag(text, "<svg") || begins_tag(text, "<!doctype svg") ||
         bk_slice_starts_with(text, BK_SLICE("<!--"))) &&
        contains(text, BK_SLICE("<svg")))
        return &svg;
    if (is_xml && contains(text, BK_SLICE("<html")))
        return &xhtml;
    if (is_xml)
        return &xml;
    return is_html(text) ? &html : NULL;
}

/* Whether brackets and quotes fit as far as the text goes. */
static bool is_json(struct bk_slice text, bool is_cut) {
    size_t depth = 0, i = 0;
    bool is_quoted = false;
    for (; i < text.length; i++) {
        char c = text.data[i];
        if (is_quoted && c == '\\')
            i++;
        else if (c == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && (c == '{' || c == '['))
            depth++;
        else if (!is_quoted && (c == '}' || c == ']') && --depth == 0)
            break;
    }
    if (depth > 0)
        return is_cut;
    return skip_space(from(text, i + 1)).length == 0;
}

static const struct bk_media_type *sniff_json(struct bk_slice text, bool is_cut) {
    static const struct bk_media_type json = {"application/json", ".json", NULL};
    struct bk_slice inner = skip_space(from(text, 1));
    char next = inner.length == 0 ? '\0' : inner.data[0];
    if (text.length == 0 || (text.data[0] != '{' && text.data[0] != '['))
        return NULL;
    if (text.data[0] == '{' ? next != '"' && next != '}'
                            : next == '\0' || strchr("{[]\"-0123456789tfn", next) == NULL)
        return NULL;
    return is_json(text, is_cut) ? &json : NULL;
}

/* The number of separators of the first line, outside quotes, which is taken off; -1 for a line
 * that is cut off within quotes. */
static int take_row(struct bk_slice *rest, char separator) {
    bool is_quoted = false;
    int count = 0;
    size_t i = 0;
    for (; i < rest->length && (is_quoted || rest->data[i] != '\n'); i++) {
        if (rest->data[i] == '"')
            is_quoted = !is_quoted;
        count += !is_quoted && rest->data[i] == separator;
    }
    *rest = from(*rest, i + 1);
    return is_quoted ? -1 : count;
}

/* Two rows or more, with the same number of fields, more than one. */
static bool is_table(struct bk_slice text, char separator, bool is_cut) {
    int first = take_row(&text, separator), rows = 1;
    if (first < 1)
        return false;
    while (text.length > 0) {
        int count = take_row(&text, separator);
        if (text.length == 0 && is_cut)
            break; /* half a row */
        if (count != first)
            return false;
        rows++;
    }
    return rows > 1;
}

static const struct bk_media_type *sniff_text(struct bk_slice data, bool is_cut) {
    static const struct bk_media_type csv = {"text/csv", ".csv", NULL};
    static const struct bk_media_type tsv = {"text/tab-separated-values", ".tsv", NULL};
    static const struct bk_media_type rtf = {"text/rtf", ".rtf", "application/rtf"};
    static const struct bk_media_type calendar = {"text/calendar", ".ics", NULL};
    static const struct bk_media_type card = {"text/vcard", ".vcf", NULL};
    static const struct bk_media_type vtt = {"text/vtt", ".vtt", NULL};
    const struct bk_media_type *found;
    struct bk_slice text;
    if (has_at(data, 0, BK_SLICE("\xfe\xff")) || has_at(data, 0, BK_SLICE("\xff\xfe")))
        return &plain;
    if (!is_text(data))
        return NULL;
    text = skip_space(has_at(data, 0, BK_SLICE("\xef\xbb\xbf")) ? from(data, 3) : data);
    if ((found = sniff_markup(text)) != NULL || (found = sniff_json(text, is_cut)) != NULL)
        return found;
    if (bk_slice_starts_with(text, BK_SLICE("{\\rtf")))
        return &rtf;
    if (bk_slice_starts_with(text, BK_SLICE("BEGIN:VCALENDAR")))
        return &calendar;
    if (bk_slice_starts_with(text, BK_SLICE("BEGIN:VCARD")))
        return &card;
    if (bk_slice_starts_with(text, BK_SLICE("WEBVTT")))
        return &vtt;
    if (is_table(text, ',', is_cut))
        return &csv;
    return is_table(text, '\t', is_cut) ? &tsv : &plain;
}

/* --- all of it -------------------------------------------------------------------------------- */

const struct bk_media_type *bk_media_type_sniff(struct bk_slice data) {
    const struct bk_media_type *found;
    bool is_cut = data.length > SNIFFED_BYTES_MAX;
    if (is_cut)
        data.length = SNIFFED_BYTES_MAX;
    if (data.length == 0)
        return &plain;
    if ((found = sniff_zip(data)) != NULL || (found = sniff_matroska(data)) != NULL ||
        (found = sniff_ogg(data)) != NULL)
        return found;
    if (has_at(data, 0, BK_SLICE("RIFF")) || has_at(data, 0, BK_SLICE("FORM")))
        found = find(containers, BK_COUNT_OF(containers), data);
    else if (has_at(data, 4, BK_SLICE("ftyp")))
        found = find(brands, BK_COUNT_OF(brands), data);
    if (found == NULL)
        found = find(signatures, BK_COUNT_OF(signatures), data);
    if (found == NULL)
        found = sniff_text(data, is_cut);
    return found == NULL ? &unknown : found;
}

bool bk_media_type_is(const struct bk_media_type *type, struct bk_slice name) {
    struct bk_slice rest = bk_slice_from(type->aliases), alias;
    name = bk_slice_trim(bk_slice_make(name.data, bk_slice_find(name, ';')));
    if (bk_slice_equal_ignore_case(name, bk_slice_from(type->name)))
        return true;
    while (rest.length > 0 && bk_slice_split(&rest, ' ', &alias))
        if (bk_slice_equal_ignore_case(name, alias))
            return true;
    return false;
}
