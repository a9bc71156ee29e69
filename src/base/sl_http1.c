#include "sl_http1.h"

#include <stdlib.h>

enum { HEAD, BODY, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_CR, CHUNK_LF, TAIL, DONE, FAILED };
enum { TO_END, BY_LENGTH, BY_CHUNKS };
enum { CHUNK_DIGITS_MAX = 15, INFORMATIONAL_MAX = 32 };

void sl_http1_init(sl_http1_t *p, bool to_head, size_t max_head_bytes, size_t max_body_bytes, sl_ceiling_t *ceiling) {
    *p = (sl_http1_t){.to_head = to_head};
    sl_buf_init_under(&p->head, max_head_bytes, ceiling);
    sl_buf_init_under(&p->tail, max_head_bytes, ceiling);
    sl_buf_init_under(&p->body, max_body_bytes, ceiling);
}

void sl_http1_deinit(sl_http1_t *p) {
    sl_buf_deinit(&p->head);
    sl_buf_deinit(&p->tail);
    sl_buf_deinit(&p->body);
    free(p->fields);
    free(p->trailers);
    *p = (sl_http1_t){.state = FAILED};
}

static sl_status_t bad(sl_http1_t *p, sl_err_t *err, const char *what) {
    p->state = FAILED;
    return sl_err_set(err, SL_INVALID, "invalid response: %s", what);
}

static sl_status_t full(sl_http1_t *p, sl_err_t *err, const char *what) {
    p->state = FAILED;
    return sl_err_set(err, SL_NO_MEMORY, "the response's %s is too large", what);
}

/* ---- fields ---- */

static bool is_token(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static sl_str_t trim(sl_str_t s) {
    while (s.len != 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s = sl_str(s.data + 1, s.len - 1);
    }
    while (s.len != 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* Cuts the next line, without its end, off the front. */
static sl_str_t next_line(sl_str_t *rest) {
    const char *lf = memchr(rest->data, '\n', rest->len);
    size_t len = lf != NULL ? (size_t)(lf - rest->data) : rest->len;
    sl_str_t line = sl_str(rest->data, len);
    size_t used = lf != NULL ? len + 1 : len;
    *rest = sl_str(rest->data + used, rest->len - used);
    if (line.len != 0 && line.data[line.len - 1] == '\r') {
        line.len--;
    }
    return line;
}

static bool parse_field(sl_str_t line, sl_http1_field_t *field) {
    size_t name = 0;
    while (name < line.len && is_token((unsigned char)line.data[name])) {
        name++;
    }
    if (name == 0 || name == line.len || line.data[name] != ':') {
        return false;
    }
    field->name = sl_str(line.data, name);
    field->value = trim(sl_str(line.data + name + 1, line.len - name - 1));
    for (size_t i = 0; i < field->value.len; i++) {
        if (field->value.data[i] == '\0' || field->value.data[i] == '\r') {
            return false;
        }
    }
    return true;
}

/* All lines up to the empty one. */
static sl_status_t parse_fields(sl_http1_t *p, sl_str_t text, sl_http1_field_t **fields, size_t *n, sl_err_t *err) {
    size_t lines = 0;
    for (size_t i = 0; i < text.len; i++) {
        lines += text.data[i] == '\n';
    }
    if (lines > SL_HTTP1_FIELDS_MAX + 1) {
        return full(p, err, "list of headers");
    }
    free(*fields);
    *n = 0;
    *fields = calloc(lines + 1, sizeof(**fields));
    if (*fields == NULL) {
        p->state = FAILED;
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    for (sl_str_t line = next_line(&text); line.len != 0; line = next_line(&text)) {
        if (!parse_field(line, &(*fields)[*n])) {
            return bad(p, err, "a header line");
        }
        ++*n;
    }
    return SL_OK;
}

/* ---- the head ---- */

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

static bool parse_status_line(sl_http1_t *p, sl_str_t line) {
    if (line.len < 12 || memcmp(line.data, "HTTP/1.", 7) != 0 || !digit(line.data[7]) || line.data[8] != ' ') {
        return false;
    }
    if (!digit(line.data[9]) || !digit(line.data[10]) || !digit(line.data[11]) || (line.len > 12 && line.data[12] != ' ')) {
        return false;
    }
    p->status = (uint32_t)((line.data[9] - '0') * 100 + (line.data[10] - '0') * 10 + (line.data[11] - '0'));
    p->keepalive = line.data[7] != '0';
    return p->status >= 100;
}

static bool parse_length(sl_str_t s, uint64_t *length) {
    uint64_t n = 0;
    if (s.len == 0 || s.len > 18) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!digit(s.data[i])) {
            return false;
        }
        n = n * 10 + (uint64_t)(s.data[i] - '0');
    }
    *length = n;
    return true;
}

/* Whether a list of tokens holds this one. */
static bool lists(sl_str_t list, sl_str_t token) {
    while (list.len != 0) {
        const char *comma = memchr(list.data, ',', list.len);
        size_t len = comma != NULL ? (size_t)(comma - list.data) : list.len;
        if (sl_str_eq_nocase(trim(sl_str(list.data, len)), token)) {
            return true;
        }
        len += comma != NULL;
        list = sl_str(list.data + len, list.len - len);
    }
    return false;
}

static sl_status_t find_framing(sl_http1_t *p, sl_err_t *err) {
    bool length_known = false;
    p->framing = TO_END;
    p->rest = 0;
    for (size_t i = 0; i < p->n_fields; i++) {
        const sl_http1_field_t *f = &p->fields[i];
        uint64_t length;
        if (sl_str_eq_nocase(f->name, SL_STR("content-length"))) {
            if (!parse_length(f->value, &length) || (length_known && length != p->rest)) {
                return bad(p, err, "the content-length");
            }
            p->rest = length;
            length_known = true;
        } else if (sl_str_eq_nocase(f->name, SL_STR("transfer-encoding"))) {
            if (!sl_str_eq_nocase(f->value, SL_STR("chunked")) || p->framing == BY_CHUNKS) {
                return bad(p, err, "the transfer-encoding");
            }
            p->framing = BY_CHUNKS;
        } else if (sl_str_eq_nocase(f->name, SL_STR("connection")) && lists(f->value, SL_STR("close"))) {
            p->keepalive = false;
        }
    }
    if (p->framing == BY_CHUNKS && length_known) {
        return bad(p, err, "a content-length beside chunks");
    }
    if (length_known) {
        p->framing = BY_LENGTH;
    }
    return SL_OK;
}

static void begin_body(sl_http1_t *p) {
    if (p->to_head || p->status == 204 || p->status == 304 || (p->framing == BY_LENGTH && p->rest == 0)) {
        p->state = DONE;
        return;
    }
    p->state = p->framing == BY_CHUNKS ? CHUNK_SIZE : BODY;
    p->digits = 0;
    if (p->framing == TO_END) {
        p->keepalive = false;
    }
}

static sl_status_t parse_head(sl_http1_t *p, sl_err_t *err) {
    sl_str_t text = sl_buf_str(&p->head);
    if (!parse_status_line(p, next_line(&text))) {
        return bad(p, err, "the status line");
    }
    if (p->status == 101) {
        return bad(p, err, "a protocol switch that nobody asked for");
    }
    if (p->status < 200) {
        sl_buf_reset(&p->head); /* the real one follows */
        return ++p->informational <= INFORMATIONAL_MAX ? SL_OK : full(p, err, "number of informational responses");
    }
    sl_status_t rc = parse_fields(p, text, &p->fields, &p->n_fields, err);
    if (rc == SL_OK) {
        rc = find_framing(p, err);
    }
    if (rc == SL_OK) {
        if (p->framing == BY_LENGTH && !p->to_head && p->rest > p->body.max) {
            return full(p, err, "body");
        }
        begin_body(p);
    }
    return rc;
}

/* Whether the lines collected so far end with an empty one. */
static bool ends_empty(const sl_buf_t *b) {
    const char *d = b->data;
    size_t n = b->len;
    if (n == 0 || d[n - 1] != '\n') {
        return false;
    }
    n--;
    n -= n != 0 && d[n - 1] == '\r';
    return n == 0 || d[n - 1] == '\n';
}

/* Collects up to the empty line. true: it is there. */
static bool collect(sl_buf_t *b, const char **at, const char *end) {
    while (*at < end && !b->failed) {
        const char *lf = memchr(*at, '\n', (size_t)(end - *at));
        const char *stop = lf != NULL ? lf + 1 : end;
        sl_buf_append(b, *at, (size_t)(stop - *at));
        *at = stop;
        if (lf != NULL && !b->failed && ends_empty(b)) {
            return true;
        }
    }
    return false;
}

/* ---- the body ---- */

static sl_status_t take_body(sl_http1_t *p, const char **at, const char *end, sl_err_t *err) {
    size_t n = (size_t)(end - *at);
    if (p->framing != TO_END && n > p->rest) {
        n = (size_t)p->rest;
    }
    if (sl_buf_append(&p->body, *at, n) != SL_OK) {
        return full(p, err, "body");
    }
    *at += n;
    if (p->framing != TO_END) {
        p->rest -= n;
    }
    return SL_OK;
}

static int hex(char c) {
    if (digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void chunk_size_known(sl_http1_t *p) {
    p->state = p->rest == 0 ? TAIL : CHUNK_DATA;
}

static sl_status_t chunk_size_char(sl_http1_t *p, char c, sl_err_t *err) {
    int value = hex(c);
    if (value >= 0) {
        if (p->digits == CHUNK_DIGITS_MAX) {
            return full(p, err, "chunk");
        }
        p->rest = (p->digits++ == 0 ? 0 : p->rest) * 16 + (uint64_t)value;
        return SL_OK;
    }
    if (p->digits == 0) {
        return bad(p, err, "the size of a chunk");
    }
    if (c == ';' || c == ' ' || c == '\t') {
        p->state = CHUNK_EXTENSION;
    } else if (c == '\r') {
        p->state = CHUNK_SIZE_LF;
    } else {
        return bad(p, err, "the size of a chunk");
    }
    return SL_OK;
}

static sl_status_t chunk_char(sl_http1_t *p, char c, sl_err_t *err) {
    switch (p->state) {
    case CHUNK_SIZE:
        return chunk_size_char(p, c, err);
    case CHUNK_EXTENSION:
        if (c == '\r') {
            p->state = CHUNK_SIZE_LF;
        }
        return c == '\n' ? bad(p, err, "the end of a chunk's size") : SL_OK;
    case CHUNK_SIZE_LF:
        if (c != '\n') {
            return bad(p, err, "the end of a chunk's size");
        }
        chunk_size_known(p);
        return SL_OK;
    case CHUNK_CR:
        if (c != '\r') {
            return bad(p, err, "the end of a chunk");
        }
        p->state = CHUNK_LF;
        return SL_OK;
    default: /* CHUNK_LF */
        if (c != '\n') {
            return bad(p, err, "the end of a chunk");
        }
        p->state = CHUNK_SIZE;
        p->digits = 0;
        return SL_OK;
    }
}

static sl_status_t step(sl_http1_t *p, const char **at, const char *end, sl_err_t *err) {
    sl_status_t rc;
    switch (p->state) {
    case HEAD:
        if (collect(&p->head, at, end)) {
            return parse_head(p, err);
        }
        return p->head.failed ? full(p, err, "header") : SL_OK;
    case BODY:
        rc = take_body(p, at, end, err);
        if (rc == SL_OK && p->framing == BY_LENGTH && p->rest == 0) {
            p->state = DONE;
        }
        return rc;
    case CHUNK_DATA:
        rc = take_body(p, at, end, err);
        if (rc == SL_OK && p->rest == 0) {
            p->state = CHUNK_CR;
        }
        return rc;
    case TAIL:
        if (collect(&p->tail, at, end)) {
            p->state = DONE;
            return parse_fields(p, sl_buf_str(&p->tail), &p->trailers, &p->n_trailers, err);
        }
        return p->tail.failed ? full(p, err, "trailer") : SL_OK;
    default:
        return chunk_char(p, *(*at)++, err);
    }
}

sl_status_t sl_http1_feed(sl_http1_t *p, const char *data, size_t len, sl_err_t *err) {
    const char *at = data, *end = data + len;
    if (p->state == FAILED) {
        return sl_err_set(err, SL_INVALID, "the response was refused before");
    }
    while (at < end && p->state != DONE) {
        sl_status_t rc = step(p, &at, end, err);
        if (rc != SL_OK) {
            return rc;
        }
    }
    p->excess = (size_t)(end - at);
    return p->state == DONE ? SL_OK : SL_AGAIN;
}

sl_status_t sl_http1_end(sl_http1_t *p, sl_err_t *err) {
    if (p->state == BODY && p->framing == TO_END) {
        p->state = DONE;
    }
    return p->state == DONE ? SL_OK : bad(p, err, "the connection ended in the middle of it");
}
