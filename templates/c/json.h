/*
 * Reads one string out of a JSON object: the whole text is checked to be JSON (RFC 8259), and the value of one member of the outermost
 * object is decoded. No allocation: the caller lends a buffer. Bytes above 127 are taken as they are.
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    JSON_FOUND,
    JSON_ABSENT,     /* a good object without that member */
    JSON_NOT_STRING, /* the member is there and is something else */
    JSON_MALFORMED,  /* no JSON, or no object */
} json_result_t;

/*
 * Looks for the member `name` and writes its decoded value to out, which must have room for text_len bytes; *out_len is its length. Of two
 * members with the same name the later one counts.
 */
static json_result_t json_get_string(const char *text, size_t text_len, const char *name, char *out, size_t *out_len);

#define JSON_DEPTH_MAX 64

typedef struct {
    const char *at;
    const char *end;
    unsigned depth;
} json_reader_t;

static void json_skip_space(json_reader_t *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) {
        in->at++;
    }
}

static bool json_take(json_reader_t *in, char c) {
    if (in->at == in->end || *in->at != c) {
        return false;
    }
    in->at++;
    return true;
}

static bool json_take_word(json_reader_t *in, const char *word) {
    for (; *word != '\0'; word++) {
        if (!json_take(in, *word)) {
            return false;
        }
    }
    return true;
}

static bool json_hex4(json_reader_t *in, unsigned *code) {
    *code = 0;
    for (int i = 0; i < 4; i++, in->at++) {
        if (in->at == in->end) {
            return false;
        }
        char c = *in->at;
        char lower = (char)(c | 0x20);
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : lower >= 'a' && lower <= 'f' ? (unsigned)(lower - 'a') + 10 : 16;
        if (digit > 15) {
            return false;
        }
        *code = *code * 16 + digit;
    }
    return true;
}

/* After the `\u`. A surrogate must be followed by its other half. */
static bool json_unicode(json_reader_t *in, unsigned *code) {
    unsigned low;
    if (!json_hex4(in, code) || (*code >= 0xdc00 && *code <= 0xdfff)) {
        return false;
    }
    if (*code < 0xd800 || *code > 0xdfff) {
        return true;
    }
    if (!json_take(in, '\\') || !json_take(in, 'u') || !json_hex4(in, &low) || low < 0xdc00 || low > 0xdfff) {
        return false;
    }
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

/* At most four bytes, and never more than the escape had. */
static size_t json_put_utf8(char *out, unsigned code) {
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)(lead[len] | code); /* lead[1] is 0: ASCII */
    return len;
}

static bool json_escape(json_reader_t *in, unsigned *code) {
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (json_take(in, 'u')) {
        return json_unicode(in, code);
    }
    for (size_t i = 0; i < sizeof(from) - 1; i++) {
        if (json_take(in, from[i])) {
            *code = (unsigned char)to[i];
            return true;
        }
    }
    return false;
}

/* out NULL: only checks. Decoding never makes a string longer. */
static bool json_string(json_reader_t *in, char *out, size_t *out_len) {
    size_t len = 0;
    if (!json_take(in, '"')) {
        return false;
    }
    while (in->at < in->end && *in->at != '"') {
        char bytes[4] = {*in->at++};
        size_t n = 1;
        unsigned code;
        if ((unsigned char)bytes[0] < 0x20) {
            return false;
        }
        if (bytes[0] == '\\') {
            if (!json_escape(in, &code)) {
                return false;
            }
            n = json_put_utf8(bytes, code);
        }
        for (size_t i = 0; i < n && out != NULL; i++) {
            out[len + i] = bytes[i];
        }
        len += n;
    }
    *out_len = len;
    return json_take(in, '"');
}

static bool json_digits(json_reader_t *in) {
    const char *start = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') {
        in->at++;
    }
    return in->at > start;
}

static bool json_number(json_reader_t *in) {
    (void)json_take(in, '-');
    if (!json_take(in, '0') && !json_digits(in)) {
        return false;
    }
    if (json_take(in, '.') && !json_digits(in)) {
        return false;
    }
    if (json_take(in, 'e') || json_take(in, 'E')) {
        (void)(json_take(in, '+') || json_take(in, '-'));
        return json_digits(in);
    }
    return true;
}

static bool json_value(json_reader_t *in);

/* Arrays and objects, from behind the opening bracket; in an object each value has a name before it. */
static bool json_members(json_reader_t *in, char close) {
    size_t ignored;
    json_skip_space(in);
    if (json_take(in, close)) {
        return true;
    }
    do {
        json_skip_space(in);
        if (close == '}') {
            if (!json_string(in, NULL, &ignored)) {
                return false;
            }
            json_skip_space(in);
            if (!json_take(in, ':')) {
                return false;
            }
        }
        if (!json_value(in)) {
            return false;
        }
    } while (json_take(in, ','));
    return json_take(in, close);
}

/* One value with the space around it. */
static bool json_value(json_reader_t *in) {
    bool good;
    size_t ignored;
    json_skip_space(in);
    if (in->at == in->end || in->depth == JSON_DEPTH_MAX) {
        return false;
    }
    in->depth++;
    switch (*in->at) {
    case '{':
    case '[':
        good = json_members(in, *in->at++ == '{' ? '}' : ']');
        break;
    case '"':
        good = json_string(in, NULL, &ignored);
        break;
    case 't':
        good = json_take_word(in, "true");
        break;
    case 'f':
        good = json_take_word(in, "false");
        break;
    case 'n':
        good = json_take_word(in, "null");
        break;
    default:
        good = json_number(in);
        break;
    }
    in->depth--;
    json_skip_space(in);
    return good;
}

/* Where the value of a member begins, in text that is known to be a good object; NULL: no such member. scratch has room for any name. */
static const char *json_find(json_reader_t *in, const char *name, char *scratch) {
    const char *found = NULL;
    size_t len;
    json_skip_space(in);
    while (json_string(in, scratch, &len)) {
        size_t same = 0;
        while (same < len && name[same] != '\0' && scratch[same] == name[same]) {
            same++;
        }
        json_skip_space(in);
        (void)json_take(in, ':');
        json_skip_space(in);
        if (same == len && name[same] == '\0') {
            found = in->at;
        }
        (void)json_value(in);
        (void)json_take(in, ',');
        json_skip_space(in);
    }
    return found;
}

static json_result_t json_get_string(const char *text, size_t text_len, const char *name, char *out, size_t *out_len) {
    json_reader_t in = {text, text + text_len, 0};
    if (!json_value(&in) || in.at != in.end) {
        return JSON_MALFORMED;
    }
    in.at = text;
    json_skip_space(&in);
    if (!json_take(&in, '{')) {
        return JSON_MALFORMED;
    }
    in.at = json_find(&in, name, out);
    if (in.at == NULL) {
        return JSON_ABSENT;
    }
    return json_string(&in, out, out_len) ? JSON_FOUND : JSON_NOT_STRING;
}

#endif
