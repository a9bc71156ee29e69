#include "sl_resp.h"

#define LINE_BYTES_MAX (64 * 1024)
#define COUNT_MAX ((int64_t)1 << 31)
#define COMMANDS_MAX 65536
#define KEEP_BYTES (16 * 1024) /* of a buffer between answers */

/* ---- numbers ---- */

/* Decimal, with a sign; nothing else. */
static bool to_number(sl_str_t s, int64_t *out) {
    bool negative = s.len != 0 && s.data[0] == '-';
    size_t i = negative;
    int64_t value = 0;
    if (i == s.len || s.len - i > 18) {
        return false;
    }
    for (; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9') {
            return false;
        }
        value = value * 10 + (s.data[i] - '0');
    }
    *out = negative ? -value : value;
    return true;
}

/* ---- answers ---- */

void sl_resp_init(sl_resp_t *r, size_t max_bytes, sl_ceiling_t *ceiling) {
    *r = (sl_resp_t){.pending = 1};
    sl_buf_init_under(&r->bytes, max_bytes, ceiling);
}

void sl_resp_deinit(sl_resp_t *r) {
    sl_buf_deinit(&r->bytes);
}

void sl_resp_next(sl_resp_t *r) {
    if (r->bytes.cap > KEEP_BYTES) {
        sl_buf_deinit(&r->bytes);
    }
    sl_buf_reset(&r->bytes);
    *r = (sl_resp_t){.bytes = r->bytes, .pending = 1};
}

static sl_status_t broken(sl_resp_t *r, const char *why) {
    r->broken = why;
    return SL_INVALID;
}

static sl_status_t begin_bulk(sl_resp_t *r, int64_t len) {
    if (len == -1) {
        r->pending--;
        return SL_OK;
    }
    if (len < 0) {
        return broken(r, "a string of negative length");
    }
    if ((uint64_t)len > r->bytes.max - r->bytes.len || r->bytes.max - r->bytes.len - (size_t)len < 2) {
        return broken(r, "the answer is too large");
    }
    r->bulk_left = (size_t)len + 2;
    return SL_OK;
}

/* An attribute stands before its value, and is none itself. */
static sl_status_t begin_aggregate(sl_resp_t *r, char type, int64_t n) {
    if (n < -1 || n > COUNT_MAX || (n == -1 && type != '*')) {
        return broken(r, "a count that cannot be");
    }
    r->pending -= type != '|';
    if (n > 0) {
        r->pending += (uint64_t)n * (type == '%' || type == '|' ? 2 : 1);
    }
    return SL_OK;
}

static sl_status_t take_line(sl_resp_t *r, sl_str_t line) {
    int64_t n = 0;
    if (line.len == 0) {
        return broken(r, "an empty line");
    }
    char type = line.data[0];
    sl_str_t rest = sl_str(line.data + 1, line.len - 1);
    if (r->line == 0) {
        r->push = type == '>';
        r->error = type == '-' || type == '!';
    }
    switch (type) {
    case '+':
    case '-':
    case ':':
    case ',':
    case '#':
    case '(':
    case '_':
        r->pending--;
        return SL_OK;
    case '$':
    case '=':
    case '!':
        return to_number(rest, &n) ? begin_bulk(r, n) : broken(r, "a length that is no number");
    case '*':
    case '~':
    case '>':
    case '%':
    case '|':
        return to_number(rest, &n) ? begin_aggregate(r, type, n) : broken(r, "a count that is no number");
    default:
        return broken(r, "no type of RESP");
    }
}

static sl_status_t feed_bulk(sl_resp_t *r, const char *bytes, size_t len, size_t *used) {
    size_t part = len < r->bulk_left ? len : r->bulk_left;
    if (sl_buf_append(&r->bytes, bytes, part) != SL_OK) {
        return broken(r, "no room for the answer");
    }
    *used += part;
    r->bulk_left -= part;
    if (r->bulk_left != 0) {
        return SL_AGAIN;
    }
    if (memcmp(r->bytes.data + r->bytes.len - 2, "\r\n", 2) != 0) {
        return broken(r, "a string without its end");
    }
    r->pending--;
    r->line = r->bytes.len;
    return SL_OK;
}

static sl_status_t feed_line(sl_resp_t *r, const char *bytes, size_t len, size_t *used) {
    const char *end = memchr(bytes, '\n', len);
    size_t part = end != NULL ? (size_t)(end - bytes) + 1 : len;
    if (part > LINE_BYTES_MAX - (r->bytes.len - r->line)) {
        return broken(r, "a line is too long");
    }
    if (sl_buf_append(&r->bytes, bytes, part) != SL_OK) {
        return broken(r, "no room for the answer");
    }
    *used += part;
    if (end == NULL) {
        return SL_AGAIN;
    }
    sl_str_t line = sl_str(r->bytes.data + r->line, r->bytes.len - r->line);
    if (line.len < 2 || line.data[line.len - 2] != '\r') {
        return broken(r, "a line without its end");
    }
    sl_status_t rc = take_line(r, sl_str(line.data, line.len - 2));
    r->line = r->bytes.len;
    return rc;
}

sl_status_t sl_resp_feed(sl_resp_t *r, const void *bytes, size_t len, size_t *used) {
    sl_status_t rc = r->broken != NULL ? SL_INVALID : SL_OK;
    *used = 0;
    while (rc == SL_OK && r->pending != 0) {
        const char *at = (const char *)bytes + *used;
        if (*used == len) {
            return SL_AGAIN;
        }
        rc = r->bulk_left != 0 ? feed_bulk(r, at, len - *used, used) : feed_line(r, at, len - *used, used);
    }
    return rc;
}

/* ---- requests ---- */

/* Commands that change what the connection is for those who come after. */
static const char *const forbidden[] = {"AUTH",      "HELLO",      "SELECT",     "RESET",       "QUIT",         "MONITOR",
                                        "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
                                        "SYNC",      "PSYNC",      "REPLCONF",   "CLIENT",      "WATCH",        "UNWATCH",
                                        "ASKING",    "READONLY",   "READWRITE",  NULL};
static const char *const blocking[] = {"BLPOP",    "BRPOP",  "BRPOPLPUSH", "BLMOVE",  "BLMPOP", "BZPOPMIN",
                                       "BZPOPMAX", "BZMPOP", "WAIT",       "WAITAOF", NULL};

static bool is_one_of(sl_str_t word, const char *const *names) {
    for (; *names != NULL; names++) {
        if (sl_str_eq_nocase(word, sl_cstr(*names))) {
            return true;
        }
    }
    return false;
}

/* A line's number after its type. */
static bool take_count(sl_str_t *in, char type, int64_t *n) {
    const char *end = memchr(in->data, '\n', in->len < 32 ? in->len : 32);
    if (end == NULL || end - in->data < 3 || in->data[0] != type || end[-1] != '\r') {
        return false;
    }
    bool ok = to_number(sl_str(in->data + 1, (size_t)(end - in->data) - 2), n);
    size_t used = (size_t)(end - in->data) + 1;
    *in = sl_str(in->data + used, in->len - used);
    return ok;
}

static bool take_word(sl_str_t *in, sl_str_t *word) {
    int64_t len;
    if (in->len == 0 || !take_count(in, '$', &len) || len < 0 || (uint64_t)len > in->len || in->len - (size_t)len < 2 ||
        memcmp(in->data + len, "\r\n", 2) != 0) {
        return false;
    }
    *word = sl_str(in->data, (size_t)len);
    *in = sl_str(in->data + len + 2, in->len - (size_t)len - 2);
    return true;
}

typedef struct {
    sl_str_t name;
    bool block; /* one of its words is BLOCK */
} command_t;

static bool take_command(sl_str_t *in, command_t *c) {
    int64_t n;
    sl_str_t word;
    *c = (command_t){0};
    if (!take_count(in, '*', &n) || n < 1) {
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!take_word(in, &word)) {
            return false;
        }
        if (i == 0) {
            c->name = word;
        }
        c->block = c->block || sl_str_eq_nocase(word, SL_STR("BLOCK"));
    }
    return true;
}

static bool may_block(const command_t *c) {
    bool reads = sl_str_eq_nocase(c->name, SL_STR("XREAD")) || sl_str_eq_nocase(c->name, SL_STR("XREADGROUP"));
    return is_one_of(c->name, blocking) || (reads && c->block);
}

static sl_status_t refuse(const char **why, const char *text) {
    *why = text;
    return SL_INVALID;
}

sl_status_t sl_resp_request(sl_str_t query, sl_resp_request_t *out, const char **why) {
    bool multi = false;
    command_t c;
    *out = (sl_resp_request_t){0};
    if (query.len == 0) {
        return refuse(why, "the request is empty");
    }
    while (query.len != 0) {
        if (!take_command(&query, &c)) {
            return refuse(why, "the request is not an array of strings");
        }
        if (is_one_of(c.name, forbidden)) {
            return refuse(why, "the command would change a connection that others use, too");
        }
        bool begins = sl_str_eq_nocase(c.name, SL_STR("MULTI"));
        bool ends = sl_str_eq_nocase(c.name, SL_STR("EXEC")) || sl_str_eq_nocase(c.name, SL_STR("DISCARD"));
        if (begins ? multi : ends && !multi) {
            return refuse(why, "a transaction must be whole");
        }
        multi = begins || (multi && !ends);
        out->blocks = out->blocks || may_block(&c);
        if (++out->n_commands > COMMANDS_MAX) {
            return refuse(why, "too many commands");
        }
    }
    return multi ? refuse(why, "a transaction must be whole") : SL_OK;
}

sl_status_t sl_resp_write_command(sl_buf_t *out, const sl_str_t *words, size_t n) {
    sl_buf_printf(out, "*%zu\r\n", n);
    for (size_t i = 0; i < n; i++) {
        sl_buf_printf(out, "$%zu\r\n", words[i].len);
        sl_buf_append_str(out, words[i]);
        sl_buf_append(out, "\r\n", 2);
    }
    return out->failed ? SL_NO_MEMORY : SL_OK;
}
