#include "sl_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#define MAX_PATTERN_BYTES 65536
/* A client chooses the subject: what it may cost is bounded. Ordinary matches need a few dozen steps. */
#define MATCH_LIMIT 500000u
#define HEAP_LIMIT_KIB 4096u
/* Of expressions, which may search many times. */
#define MAX_TEXT_PATTERN_BYTES 4096
#define TEXT_OPTIONS (PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C)

struct sl_regex_s {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static sl_status_t compile(sl_str_t pattern, uint32_t options, pcre2_code **out, sl_err_t *err) {
    size_t max = (options & PCRE2_UTF) != 0 ? MAX_TEXT_PATTERN_BYTES : MAX_PATTERN_BYTES;
    if (pattern.len > max) {
        return sl_err_set(err, SL_INVALID, "regular expression is longer than %zu bytes", max);
    }
    int code;
    PCRE2_SIZE at;
    *out = pcre2_compile((PCRE2_SPTR)(pattern.data ? pattern.data : ""), pattern.len, options, &code, &at, NULL);
    if (*out != NULL) {
        return SL_OK;
    }
    if (code == PCRE2_ERROR_HEAP_FAILED) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(code, text, sizeof(text));
    return sl_err_set(err, SL_INVALID, "%s at offset %zu", (const char *)text, (size_t)at);
}

sl_status_t sl_regex_check(sl_str_t pattern, sl_err_t *err) {
    pcre2_code *code;
    sl_status_t rc = compile(pattern, PCRE2_DOTALL | PCRE2_ANCHORED, &code, err);
    if (rc == SL_OK) {
        pcre2_code_free(code);
    }
    return rc;
}

static sl_status_t make(sl_str_t pattern, uint32_t options, sl_regex_t **out, sl_err_t *err) {
    sl_regex_t *re = calloc(1, sizeof(*re));
    if (re == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_status_t rc = compile(pattern, options, &re->code, err);
    if (rc != SL_OK) {
        goto failed;
    }
    /* Without JIT the interpreter does the same, slower. */
    (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
    re->data = pcre2_match_data_create(1, NULL); /* only the whole match is of interest */
    re->context = pcre2_match_context_create(NULL);
    if (re->data == NULL || re->context == NULL) {
        rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
        goto failed;
    }
    pcre2_set_match_limit(re->context, MATCH_LIMIT);
    pcre2_set_heap_limit(re->context, HEAP_LIMIT_KIB);
    *out = re;
    return SL_OK;

failed:
    sl_regex_free(re);
    return rc;
}

sl_status_t sl_regex_new(sl_str_t pattern, bool anchored, sl_regex_t **out, sl_err_t *err) {
    return make(pattern, PCRE2_DOTALL | (anchored ? PCRE2_ANCHORED : 0), out, err);
}

sl_status_t sl_regex_new_text(sl_str_t pattern, sl_regex_t **out, sl_err_t *err) {
    return make(pattern, TEXT_OPTIONS, out, err);
}

void sl_regex_limit(sl_regex_t *re, uint32_t steps) {
    pcre2_set_match_limit(re->context, steps);
}

size_t sl_regex_bytes(const sl_regex_t *re) {
    size_t code = 0, jit = 0;
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_SIZE, &code);
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_JITSIZE, &jit);
    return sizeof(*re) + code + jit;
}

void sl_regex_free(sl_regex_t *re) {
    if (re == NULL) {
        return;
    }
    pcre2_match_data_free(re->data);
    pcre2_match_context_free(re->context);
    pcre2_code_free(re->code);
    free(re);
}

sl_status_t sl_regex_match(sl_regex_t *re, sl_str_t subject, size_t *end) {
    PCRE2_SPTR text = (PCRE2_SPTR)(subject.data ? subject.data : "");
    int rc = pcre2_match(re->code, text, subject.len, 0, 0, re->data, re->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter keeps its state on the heap */
        rc = pcre2_match(re->code, text, subject.len, 0, PCRE2_NO_JIT, re->data, re->context);
    }
    if (rc >= 0) { /* 0: there are more groups than slots */
        *end = pcre2_get_ovector_pointer(re->data)[1];
        return SL_OK;
    }
    bool not_utf8 = rc <= PCRE2_ERROR_UTF8_ERR1 && rc >= PCRE2_ERROR_UTF8_ERR21; /* a pattern that begins with (*UTF) */
    if (rc == PCRE2_ERROR_NOMATCH || not_utf8) {
        return SL_NOT_FOUND;
    }
    return rc == PCRE2_ERROR_NOMEMORY ? SL_NO_MEMORY : SL_FAILED;
}

size_t sl_regex_n_groups(const sl_regex_t *re) {
    uint32_t n = 0;
    (void)pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &n);
    return n;
}

sl_status_t sl_regex_groups(sl_regex_t *re, sl_str_t subject, sl_str_t *groups, size_t n) {
    PCRE2_SPTR text = (PCRE2_SPTR)(subject.data ? subject.data : "");
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re->code, NULL);
    if (data == NULL) {
        return SL_NO_MEMORY;
    }
    int rc = pcre2_match(re->code, text, subject.len, 0, 0, data, re->context);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data);
    for (size_t i = 0; rc > 0 && i < n; i++) {
        bool set = i < (size_t)rc && at[2 * i] != PCRE2_UNSET && at[2 * i] <= at[2 * i + 1];
        groups[i] = set ? sl_str((const char *)text + at[2 * i], at[2 * i + 1] - at[2 * i]) : SL_STR_NULL;
    }
    pcre2_match_data_free(data);
    return rc > 0 ? SL_OK : rc == PCRE2_ERROR_NOMATCH ? SL_NOT_FOUND : rc == PCRE2_ERROR_NOMEMORY ? SL_NO_MEMORY : SL_FAILED;
}

/* ---- literal prefixes ---------------------------------------------------------------------------------------------------- */

static bool contains(sl_str_t s, const char *what) {
    return s.len > 0 && memmem(s.data, s.len, what, strlen(what)) != NULL;
}

/* Index of the ']' that ends the class whose '[' is at i, or s.len. */
static size_t class_end(sl_str_t s, size_t i) {
    i++;
    i += i < s.len && s.data[i] == '^';
    i += i < s.len && s.data[i] == ']'; /* a literal one */
    while (i < s.len && s.data[i] != ']') {
        if (s.data[i] == '\\') {
            i++;
        } else if (s.data[i] == '[' && i + 1 < s.len && (s.data[i + 1] == ':' || s.data[i + 1] == '.' || s.data[i + 1] == '=')) {
            return s.len; /* [[:alpha:]]: not worth following */
        }
        i++;
    }
    return i;
}

/* Groups that leave the syntax as it is: ( (?: (?<name> (?P<name> (?'name' (?= (?! (?<= (?<! (?> */
static bool plain_group(sl_str_t s, size_t i) {
    if (i + 1 >= s.len || s.data[i + 1] != '?') {
        return i + 1 < s.len && s.data[i + 1] != '*';
    }
    if (i + 2 >= s.len) {
        return false;
    }
    char c = s.data[i + 2];
    return c == ':' || c == '<' || c == '\'' || c == '=' || c == '!' || c == '>' || (c == 'P' && i + 3 < s.len && s.data[i + 3] == '<');
}

/* True when no alternative at the top level can begin otherwise, and nothing changes how the pattern is read. */
static bool one_branch(sl_str_t s) {
    if (contains(s, "\\Q") || contains(s, "\\E") || contains(s, "\\K") || contains(s, "\\c")) {
        return false;
    }
    size_t depth = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];
        if (c == '\\') {
            i++;
        } else if (c == '[') {
            i = class_end(s, i);
            if (i == s.len) {
                return false;
            }
        } else if (c == '(') {
            if (!plain_group(s, i)) {
                return false;
            }
            depth++;
        } else if (c == ')') {
            if (depth-- == 0) {
                return false;
            }
        } else if (c == '|' && depth == 0) {
            return false;
        }
    }
    return depth == 0;
}

static bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

size_t sl_regex_literal_prefix(sl_str_t pattern, char *out) {
    if (!one_branch(pattern)) {
        return 0;
    }
    size_t n = 0;
    size_t i = pattern.len > 0 && pattern.data[0] == '^'; /* anchored twice */
    while (i < pattern.len) {
        size_t width = 1;
        char c = pattern.data[i];
        if (c == '\\' && i + 1 < pattern.len && !is_alnum(pattern.data[i + 1]) && (unsigned char)pattern.data[i + 1] < 0x80) {
            c = pattern.data[i + 1];
            width = 2;
        } else if (memchr("\\^$.[|()?*+{", c, 12) != NULL) {
            break;
        }
        if (i + width < pattern.len && memchr("?*+{", pattern.data[i + width], 4) != NULL) {
            break; /* this one may be absent */
        }
        out[n++] = c;
        i += width;
    }
    return n;
}
