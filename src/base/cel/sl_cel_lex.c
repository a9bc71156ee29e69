/* CEL: text to tokens. */
#include "sl_cel_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { DIGITS_MAX = 400 }; /* of a double; more say nothing */

sl_status_t sl_cel_wrong(cel_lex_t *lex, size_t at, const char *fmt, ...) {
    char text[256];
    va_list args;
    if (lex->status != SL_OK) {
        return lex->status;
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    lex->token.kind = CEL_T_BAD;
    return lex->status = sl_err_set(lex->err, SL_INVALID, "byte %zu: %s", at, text);
}

static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

static bool is_word(int c) {
    return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex(int c) {
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The character so many behind, or -1. */
static int peek(const cel_lex_t *lex, size_t ahead) {
    return ahead < lex->text.len - lex->at ? (unsigned char)lex->text.data[lex->at + ahead] : -1;
}

static void skip_space(cel_lex_t *lex) {
    for (;;) {
        int c = peek(lex, 0);
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
            lex->at++;
        } else if (c == '/' && peek(lex, 1) == '/') {
            while (peek(lex, 0) != -1 && peek(lex, 0) != '\n') {
                lex->at++;
            }
        } else {
            return;
        }
    }
}

/* ---- numbers ---- */

static void whole_number(cel_lex_t *lex, size_t start, bool sixteen) {
    uint64_t n = 0, base = sixteen ? 16 : 10;
    for (size_t i = start + (sixteen ? 2 : 0); i < lex->at; i++) {
        uint64_t digit = (uint64_t)hex((unsigned char)lex->text.data[i]);
        if (n > (UINT64_MAX - digit) / base) {
            sl_cel_wrong(lex, start, "this number is too large");
            return;
        }
        n = n * base + digit;
    }
    bool is_uint = peek(lex, 0) == 'u' || peek(lex, 0) == 'U';
    lex->at += is_uint;
    if (!is_uint && n > (uint64_t)INT64_MAX + 1) {
        sl_cel_wrong(lex, start, "this number is too large for an int");
        return;
    }
    lex->token.kind = is_uint ? CEL_T_UINT : CEL_T_INT;
    lex->token.value = cel_uint(n);
}

static void fraction(cel_lex_t *lex, size_t start) {
    char text[DIGITS_MAX + 1];
    size_t len = lex->at - start;
    if (len > DIGITS_MAX) {
        sl_cel_wrong(lex, start, "a number with more than %d digits", DIGITS_MAX);
        return;
    }
    memcpy(text, lex->text.data + start, len);
    text[len] = '\0';
    lex->token.kind = CEL_T_DOUBLE;
    lex->token.value = cel_double(strtod(text, NULL));
}

static void digits(cel_lex_t *lex) {
    while (is_digit(peek(lex, 0))) {
        lex->at++;
    }
}

/* Whether there is an exponent, which is skipped then. */
static bool exponent(cel_lex_t *lex) {
    size_t sign = peek(lex, 1) == '+' || peek(lex, 1) == '-';
    if ((peek(lex, 0) != 'e' && peek(lex, 0) != 'E') || !is_digit(peek(lex, 1 + sign))) {
        return false;
    }
    lex->at += 1 + sign;
    digits(lex);
    return true;
}

static void number(cel_lex_t *lex) {
    size_t start = lex->at;
    bool sixteen = peek(lex, 0) == '0' && (peek(lex, 1) == 'x' || peek(lex, 1) == 'X') && hex(peek(lex, 2)) >= 0;
    if (sixteen) {
        lex->at += 2;
        while (hex(peek(lex, 0)) >= 0) {
            lex->at++;
        }
        whole_number(lex, start, true);
    } else {
        digits(lex);
        bool dot = peek(lex, 0) == '.' && is_digit(peek(lex, 1));
        if (dot) {
            lex->at++;
            digits(lex);
        }
        if (exponent(lex) || dot) {
            fraction(lex, start);
        } else {
            whole_number(lex, start, false);
        }
    }
    if (lex->status == SL_OK && is_word(peek(lex, 0))) {
        sl_cel_wrong(lex, lex->at, "a letter in a number");
    }
}

/* ---- strings ---- */

typedef struct {
    bool raw, bytes;
    int quote;
    size_t n_quotes; /* 1 or 3 */
} quoting_t;

static size_t put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) {
        out[i] = (char)(0x80 | (c & 0x3f));
    }
    out[0] = (char)((0xf00 >> n) | c);
    return n;
}

/* So many digits as one number; -1: they are not there. */
static int64_t escape_number(cel_lex_t *lex, size_t n, int base) {
    int64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        int digit = hex(peek(lex, i));
        if (digit < 0 || digit >= base) {
            return -1;
        }
        value = value * base + digit;
    }
    lex->at += n;
    return value;
}

/* Behind a backslash. Answers how many bytes were written; 0: wrong. */
static size_t escape(cel_lex_t *lex, const quoting_t *q, char *out) {
    static const char names[] = "abfnrtv\\?\"'`", meant[] = "\a\b\f\n\r\t\v\\?\"'`";
    int c = peek(lex, 0);
    const char *simple = c > 0 ? strchr(names, c) : NULL;
    if (simple != NULL) {
        lex->at++;
        out[0] = meant[simple - names];
        return 1;
    }
    int64_t value = -1;
    if (c == 'x' || c == 'X') {
        lex->at++;
        value = escape_number(lex, 2, 16);
    } else if ((c == 'u' || c == 'U') && !q->bytes) {
        lex->at++;
        value = escape_number(lex, c == 'u' ? 4 : 8, 16);
    } else if (c >= '0' && c <= '3') {
        value = escape_number(lex, 3, 8);
    }
    if (value < 0 || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
        sl_cel_wrong(lex, lex->at, "no such escape in a string");
        return 0;
    }
    if (q->bytes) {
        out[0] = (char)value;
        return 1;
    }
    return put_utf8(out, (uint32_t)value);
}

static bool at_quotes(const cel_lex_t *lex, const quoting_t *q, size_t at) {
    for (size_t i = 0; i < q->n_quotes; i++) {
        if (at + i >= lex->text.len || lex->text.data[at + i] != q->quote) {
            return false;
        }
    }
    return true;
}

/* Where the quotes are that end the string whose first byte is at `at`; the end of the text: nowhere. */
static size_t end_of_string(const cel_lex_t *lex, const quoting_t *q, size_t at) {
    while (at < lex->text.len && !at_quotes(lex, q, at)) {
        char c = lex->text.data[at];
        if (q->n_quotes == 1 && (c == '\n' || c == '\r')) {
            return lex->text.len;
        }
        at += c == '\\' && !q->raw ? 2 : 1;
    }
    return at < lex->text.len ? at : lex->text.len;
}

/* Nothing gets longer when it is decoded. */
static size_t decode(cel_lex_t *lex, const quoting_t *q, size_t end, char *out) {
    size_t len = 0;
    while (lex->at < end && lex->status == SL_OK) {
        char c = lex->text.data[lex->at++];
        if (c == '\\' && !q->raw) {
            len += escape(lex, q, out + len);
        } else {
            out[len++] = c;
        }
    }
    return len;
}

static void string(cel_lex_t *lex, quoting_t q) {
    q.quote = peek(lex, 0);
    q.n_quotes = peek(lex, 1) == q.quote && peek(lex, 2) == q.quote ? 3 : 1;
    size_t end = end_of_string(lex, &q, lex->at + q.n_quotes);
    if (end == lex->text.len) {
        sl_cel_wrong(lex, lex->at, "a string that does not end");
        return;
    }
    lex->at += q.n_quotes;
    char *out = sl_arena_alloc(lex->arena, end - lex->at + 1);
    if (out == NULL) {
        lex->status = sl_err_set(lex->err, SL_NO_MEMORY, "out of memory");
        lex->token.kind = CEL_T_BAD;
        return;
    }
    size_t len = decode(lex, &q, end, out);
    if (lex->status != SL_OK) {
        return;
    }
    lex->at = end + q.n_quotes;
    lex->token.kind = q.bytes ? CEL_T_BYTES : CEL_T_STRING;
    lex->token.value = (sl_cel_value_t){.kind = q.bytes ? SL_CEL_BYTES : SL_CEL_STRING, .str = sl_str(out, len)};
}

/* Letters before the quotes: r, b, or both. false: this is no string. */
static bool is_string(const cel_lex_t *lex, quoting_t *q, size_t *prefix) {
    *q = (quoting_t){0};
    for (*prefix = 0; *prefix < 3; ++*prefix) {
        int c = peek(lex, *prefix);
        if (c == '"' || c == '\'') {
            return true;
        }
        bool *flag = c == 'r' || c == 'R' ? &q->raw : c == 'b' || c == 'B' ? &q->bytes : NULL;
        if (flag == NULL || *flag) {
            return false;
        }
        *flag = true;
    }
    return false;
}

/* ---- the rest ---- */

static void name(cel_lex_t *lex) {
    size_t start = lex->at;
    while (is_word(peek(lex, 0))) {
        lex->at++;
    }
    lex->token.kind = CEL_T_NAME;
    lex->token.text = sl_str(lex->text.data + start, lex->at - start);
}

static void punctuation(cel_lex_t *lex) {
    static const struct {
        char text[3];
        int kind;
    } pairs[] = {{"&&", CEL_T_AND},       {"||", CEL_T_OR},         {"==", CEL_T_EQUAL},
                 {"!=", CEL_T_NOT_EQUAL}, {"<=", CEL_T_LESS_EQUAL}, {">=", CEL_T_GREATER_EQUAL}};
    int c = peek(lex, 0);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        if (pairs[i].text[0] == c && pairs[i].text[1] == peek(lex, 1)) {
            lex->at += 2;
            lex->token.kind = pairs[i].kind;
            return;
        }
    }
    if (c == '\0' || strchr("()[]{}.,:?!+-*/%<>", c) == NULL) {
        sl_cel_wrong(lex, lex->at, "this character begins nothing");
        return;
    }
    lex->at++;
    lex->token.kind = c;
}

void sl_cel_next(cel_lex_t *lex) {
    quoting_t q;
    size_t prefix;
    if (lex->status != SL_OK) {
        return;
    }
    skip_space(lex);
    lex->token = (cel_token_t){.kind = CEL_T_END, .at = lex->at};
    int c = peek(lex, 0);
    if (c == -1) {
        return;
    }
    if (is_string(lex, &q, &prefix)) {
        lex->at += prefix;
        string(lex, q);
    } else if (is_digit(c) || (c == '.' && is_digit(peek(lex, 1)))) {
        number(lex);
    } else if (is_word(c)) {
        name(lex);
    } else {
        punctuation(lex);
    }
}
