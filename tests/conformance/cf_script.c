#include "cf_script.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_SLOTS = 64, MAX_ARGS = 16 };

typedef struct {
    cf_script_t *s;
    const cf_import_t *imports;
    size_t n_imports;
    unsigned section, nth;
    char slots[MAX_SLOTS][16];
    size_t n_slots;
    uint32_t data; /* next free address of constants */
    const char *statement;
} compiler_t;

static bool fail(compiler_t *c, const char *what) {
    snprintf(c->s->error, sizeof(c->s->error), "%s in \"%s\"", what, c->statement);
    return false;
}

/* ---- words ---- */

static int hex_digit(char ch) {
    return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static const char *unescape(const char *p, sl_buf_t *out) {
    switch (*p) {
    case '0':
        sl_buf_append_char(out, '\0');
        return p + 1;
    case 'n':
        sl_buf_append_char(out, '\n');
        return p + 1;
    case 'r':
        sl_buf_append_char(out, '\r');
        return p + 1;
    case 't':
        sl_buf_append_char(out, '\t');
        return p + 1;
    case 'x':
        sl_buf_append_char(out, (char)(hex_digit(p[1]) << 4 | hex_digit(p[2])));
        return p + 3;
    default:
        sl_buf_append_char(out, *p);
        return p + 1;
    }
}

/* Raw words: quotes and braces keep their content together. */
static size_t split(const char *text, char words[][512], size_t max) {
    size_t n = 0;
    while (*text != '\0' && n < max) {
        text += strspn(text, " ");
        if (*text == '\0') {
            break;
        }
        size_t len = *text == '@' ? 2 : 1;
        char end = text[len - 1] == '\'' ? '\'' : text[len - 1] == '{' ? '}' : ' ';
        while (text[len] != '\0' && text[len] != end) {
            len += text[len] == '\\' && text[len + 1] != '\0' ? 2 : 1;
        }
        len += end != ' ' && text[len] == end;
        snprintf(words[n++], 512, "%.*s", (int)len, text);
        text += len;
    }
    return n;
}

static void decode(const char *quoted, sl_buf_t *out) {
    for (const char *p = quoted + 1; *p != '\0' && !(*p == '\'' && p[1] == '\0');) {
        if (*p == '\\') {
            p = unescape(p + 1, out);
        } else {
            sl_buf_append_char(out, *p++);
        }
    }
}

static void put32(sl_buf_t *out, uint32_t v) {
    sl_buf_append(out, &v, sizeof(v));
}

/* {k=v,k=v} in the ABI's serialization */
static void encode_pairs(const char *braced, sl_buf_t *out) {
    sl_buf_t plain;
    sl_buf_init(&plain, 1 << 16);
    for (const char *p = braced + 1; *p != '\0' && *p != '}';) {
        if (*p == '\\') {
            p = unescape(p + 1, &plain);
        } else {
            sl_buf_append_char(&plain, *p++);
        }
    }
    sl_buf_t bytes;
    sl_buf_init(&bytes, 1 << 16);
    uint32_t n = 0;
    size_t count_at = out->len;
    put32(out, 0);
    for (size_t at = 0; at < plain.len;) {
        const char *key = plain.data + at;
        const char *comma = memchr(key, ',', plain.len - at);
        size_t len = comma != NULL ? (size_t)(comma - key) : plain.len - at;
        const char *eq = memchr(key, '=', len);
        size_t key_len = eq != NULL ? (size_t)(eq - key) : len, value_len = eq != NULL ? len - key_len - 1 : 0;
        put32(out, (uint32_t)key_len);
        put32(out, (uint32_t)value_len);
        sl_buf_append(&bytes, key, key_len);
        sl_buf_append_char(&bytes, '\0');
        sl_buf_append(&bytes, eq != NULL ? eq + 1 : "", value_len);
        sl_buf_append_char(&bytes, '\0');
        n++;
        at += len + 1;
    }
    memcpy(out->data + count_at, &n, sizeof(n));
    sl_buf_append(out, bytes.data, bytes.len);
    sl_buf_deinit(&plain);
    sl_buf_deinit(&bytes);
}

static bool value_of(const char *word, sl_buf_t *out) {
    if (*word == '\'') {
        decode(word, out);
        return true;
    }
    if (*word == '{') {
        encode_pairs(word, out);
        return true;
    }
    return false;
}

static bool number(const char *word, uint64_t *out) {
    char *end;
    *out = *word == '-' ? (uint64_t)strtoll(word, &end, 0) : strtoull(word, &end, 0);
    return end != word && *end == '\0';
}

/* ---- records ---- */

static uint32_t slot(compiler_t *c, const char *name) {
    for (size_t i = 0; i < c->n_slots; i++) {
        if (strcmp(c->slots[i], name) == 0) {
            return (uint32_t)(CF_SLOTS + 16 * i);
        }
    }
    if (c->n_slots == MAX_SLOTS) {
        fail(c, "too many slots");
        return CF_SLOTS;
    }
    snprintf(c->slots[c->n_slots], sizeof(c->slots[0]), "%s", name);
    return (uint32_t)(CF_SLOTS + 16 * c->n_slots++);
}

static cf_expect_t *expect(compiler_t *c, char tag, cf_expect_kind_t kind) {
    cf_script_t *s = c->s;
    if (s->n_expects == CF_EXPECT_MAX) {
        fail(c, "too many expectations");
        return &s->expects[0];
    }
    cf_expect_t *e = &s->expects[s->n_expects++];
    e->tag = tag;
    e->kind = kind;
    sl_buf_init(&e->bytes, 1 << 16);
    snprintf(e->text, sizeof(e->text), "%s", c->statement);
    return e;
}

static void record(compiler_t *c, uint32_t op, uint32_t words) {
    sl_buf_t *p = &c->s->program;
    put32(p, op | c->section << 8 | c->nth << 16);
    put32(p, words);
    put32(p, (uint32_t)c->s->n_expects - 1); /* the expectation just made, when the operation reports */
}

static void store(compiler_t *c, uint32_t at, const char *data, size_t len) {
    size_t padded = (len + 3) / 4;
    record(c, CF_OP_STORE, (uint32_t)(2 + padded));
    put32(&c->s->program, at);
    put32(&c->s->program, (uint32_t)len);
    sl_buf_append(&c->s->program, data, len);
    sl_buf_append(&c->s->program, "\0\0\0", padded * 4 - len);
}

static uint32_t constant(compiler_t *c, const sl_buf_t *bytes) {
    uint32_t at = c->data;
    store(c, at, bytes->data, bytes->len);
    c->data += (uint32_t)bytes->len + 1; /* odd addresses on purpose: nothing may assume alignment */
    if (c->data > CF_SLOTS) {
        fail(c, "too many constants");
    }
    return at;
}

typedef struct {
    uint32_t kind;
    uint64_t value;
} arg_t;

/* One word makes one or two arguments. */
static size_t argument(compiler_t *c, const char *word, arg_t *out) {
    static const char filler[16] = "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa";
    sl_buf_t bytes;
    sl_buf_init(&bytes, 1 << 16);
    size_t n = 1;
    if (strcmp(word, "null") == 0) {
        out[0] = out[1] = (arg_t){CF_ARG_LITERAL, 0};
        n = 2;
    } else if (*word == '&') {
        out[0] = (arg_t){CF_ARG_LITERAL, slot(c, word + 1)};
        store(c, (uint32_t)out[0].value, filler, sizeof(filler));
    } else if (strncmp(word, "**", 2) == 0) {
        out[0] = (arg_t){CF_ARG_U64_AT, slot(c, word + 2)};
    } else if (*word == '*') {
        out[0] = (arg_t){CF_ARG_U32_AT, slot(c, word + 1)};
    } else if (*word == '@' && value_of(word + 1, &bytes)) {
        out[0] = (arg_t){CF_ARG_LITERAL, constant(c, &bytes)};
    } else if (value_of(word, &bytes)) {
        out[1] = (arg_t){CF_ARG_LITERAL, bytes.len};
        out[0] = (arg_t){CF_ARG_LITERAL, constant(c, &bytes)};
        n = 2;
    } else {
        out[0].kind = CF_ARG_LITERAL;
        if (!number(word, &out[0].value)) {
            fail(c, "not an argument");
        }
    }
    sl_buf_deinit(&bytes);
    return n;
}

static bool find_import(const compiler_t *c, const char *name, uint32_t *row) {
    for (size_t i = 0; i < c->n_imports; i++) {
        if (strcmp(c->imports[i].alias != NULL ? c->imports[i].alias : c->imports[i].name, name) == 0) {
            *row = (uint32_t)i;
            return true;
        }
    }
    return false;
}

static void put_args(sl_buf_t *p, const arg_t *args, size_t n) {
    for (size_t i = 0; i < n; i++) {
        put32(p, args[i].kind);
        put32(p, (uint32_t)args[i].value);
        put32(p, (uint32_t)(args[i].value >> 32));
    }
}

static bool call(compiler_t *c, char words[][512], size_t n) {
    uint32_t row;
    if (n < 2 || !find_import(c, words[1], &row)) {
        return fail(c, "no such host call");
    }
    arg_t args[MAX_ARGS + 2];
    size_t n_args = 0, i = 2;
    uint64_t status = 0;
    cf_expect_kind_t kind = CF_EXPECT_BYTES;
    for (; i < n && strcmp(words[i], "=") != 0 && strcmp(words[i], "traps") != 0 && n_args < MAX_ARGS; i++) {
        n_args += argument(c, words[i], &args[n_args]);
    }
    const char *sig = c->imports[row].sig, *colon = strchr(sig, ':');
    if (n_args != (size_t)(colon - sig)) {
        return fail(c, "wrong number of arguments");
    }
    if (i < n && strcmp(words[i], "traps") == 0) {
        kind = CF_EXPECT_NEVER;
        c->s->traps = true;
    } else if ((i + 1 < n && strcmp(words[i + 1], "?") == 0) || colon[1] != 'i') {
        kind = CF_EXPECT_ANY;
    } else if (i + 1 < n && !number(words[i + 1], &status)) {
        return fail(c, "not a status");
    }
    cf_expect_t *e = expect(c, 'R', kind);
    put32(&e->bytes, (uint32_t)status);
    record(c, CF_OP_CALL, (uint32_t)(2 + 3 * n_args));
    put32(&c->s->program, row);
    put32(&c->s->program, (uint32_t)n_args);
    put_args(&c->s->program, args, n_args);
    return true;
}

static bool show(compiler_t *c, char words[][512], size_t n) {
    if (n != 5) {
        return fail(c, "show P N = VALUE");
    }
    cf_expect_t *e = expect(c, 'V', strcmp(words[3], "has") == 0 ? CF_EXPECT_HAS : CF_EXPECT_BYTES);
    if (!value_of(words[4], &e->bytes)) {
        return fail(c, "not a value");
    }
    uint32_t pointer = slot(c, words[1]), length = slot(c, words[2]);
    record(c, CF_OP_SHOWREF, 2);
    put32(&c->s->program, pointer);
    put32(&c->s->program, length);
    return true;
}

static void show_slot(compiler_t *c, const char *name, uint32_t len) {
    uint32_t at = slot(c, name);
    record(c, CF_OP_SHOW, 2);
    put32(&c->s->program, at);
    put32(&c->s->program, len);
}

static bool slot_is(compiler_t *c, char words[][512], size_t n) {
    uint64_t v;
    uint32_t len = words[0][1] == '6' ? 8 : 4;
    if (n != 4 || !number(words[3], &v)) {
        return fail(c, "SLOT = NUMBER");
    }
    cf_expect_t *e = expect(c, 'M', CF_EXPECT_BYTES);
    sl_buf_append(&e->bytes, &v, len);
    show_slot(c, words[1], len);
    return true;
}

static bool args_are(compiler_t *c, char words[][512], size_t n) {
    cf_expect_t *e = expect(c, 'A', CF_EXPECT_BYTES);
    for (size_t i = 1; i < n; i++) {
        uint64_t v;
        if (!number(words[i], &v)) {
            return fail(c, "not a number");
        }
        put32(&e->bytes, (uint32_t)v);
    }
    record(c, CF_OP_CBARGS, 1);
    put32(&c->s->program, (uint32_t)n - 1);
    return true;
}

static bool set_malloc(compiler_t *c, const char *mode) {
    static const char *const modes[] = {"ok", "fail", "wild", "trap", "grow"};
    for (uint32_t i = 0; i < 5; i++) {
        if (strcmp(modes[i], mode) == 0) {
            store(c, CF_MALLOC_MODE, (const char *)&i, sizeof(i));
            return true;
        }
    }
    return fail(c, "no such mode");
}

static bool begin_section(compiler_t *c, char words[][512], size_t n) {
    uint64_t nth = 0;
    if (n == 3 && !number(words[2], &nth)) {
        return fail(c, "not a number");
    }
    for (unsigned i = 0; n >= 2 && i < CF_CALLBACK_N; i++) {
        if (strcmp(cf_callbacks[i].script_name, words[1]) == 0) {
            c->section = i;
            c->nth = (unsigned)nth;
            return true;
        }
    }
    return fail(c, "no such callback");
}

static bool host(compiler_t *c, char words[][512], size_t n) {
    cf_script_t *s = c->s;
    if (s->n_hosts == CF_HOST_MAX) {
        return fail(c, "too many statements");
    }
    cf_host_t *h = &s->hosts[s->n_hosts++];
    snprintf(h->text, sizeof(h->text), "%s", c->statement);
    for (h->n = 0; h->n < n; h->n++) {
        size_t from = s->words.len;
        if (!value_of(words[h->n], &s->words)) {
            sl_buf_append_cstr(&s->words, words[h->n]);
        }
        h->words[h->n] = sl_str(s->words.data + from, s->words.len - from);
        sl_buf_append_char(&s->words, '\0');
    }
    return !s->words.failed || fail(c, "too long");
}

static bool statement(compiler_t *c, char words[][512], size_t n) {
    const char *verb = words[0];
    uint64_t v = 0;
    if (strcmp(verb, "at") == 0) {
        return begin_section(c, words, n);
    }
    if (strcmp(verb, "call") == 0) {
        return call(c, words, n);
    }
    if (strcmp(verb, "show") == 0) {
        return show(c, words, n);
    }
    if (strcmp(verb, "u32") == 0 || strcmp(verb, "u64") == 0) {
        return slot_is(c, words, n);
    }
    if (strcmp(verb, "nonzero") == 0 && n == 2) {
        expect(c, 'M', CF_EXPECT_NONZERO);
        show_slot(c, words[1], 4);
        return true;
    }
    if (strcmp(verb, "untouched") == 0 && n == 2) {
        sl_buf_append_cstr(&expect(c, 'M', CF_EXPECT_BYTES)->bytes, "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa");
        show_slot(c, words[1], 8);
        return true;
    }
    if (strcmp(verb, "args") == 0) {
        return args_are(c, words, n);
    }
    if (strcmp(verb, "reached") == 0 || strcmp(verb, "never") == 0) {
        expect(c, 'M', *verb == 'n' ? CF_EXPECT_NEVER : CF_EXPECT_ANY);
        show_slot(c, "reached", 4);
        return true;
    }
    if (strcmp(verb, "return") == 0 && n == 2 && number(words[1], &v)) {
        record(c, CF_OP_RETURN, 1);
        put32(&c->s->program, (uint32_t)v);
        return true;
    }
    if (strcmp(verb, "trap") == 0) {
        record(c, CF_OP_TRAP, 0);
        c->s->traps = true;
        return true;
    }
    if (strcmp(verb, "maytrap") == 0) {
        c->s->may_trap = true;
        return true;
    }
    if (strcmp(verb, "malloc") == 0 && n == 2) {
        return set_malloc(c, words[1]);
    }
    if (strcmp(verb, "message") == 0 || strcmp(verb, "host") == 0 || strcmp(verb, "expect") == 0) {
        return host(c, words, n);
    }
    return fail(c, "no such statement");
}

/* The length of a statement: up to ';' or a line's end outside of quotes. */
static size_t statement_len(const char *p) {
    bool quoted = false;
    size_t n = 0;
    for (; p[n] != '\0' && (quoted || (p[n] != ';' && p[n] != '\n')); n++) {
        if (p[n] == '\\' && p[n + 1] != '\0') {
            n++;
        } else if (p[n] == '\'') {
            quoted = !quoted;
        }
    }
    return n;
}

bool cf_script_compile(cf_script_t *s, const char *text, const cf_import_t *imports, size_t n_imports) {
    memset(s, 0, sizeof(*s));
    sl_buf_init(&s->program, 60000);
    sl_buf_init(&s->words, 16384);
    sl_buf_reserve(&s->words, 16384);
    compiler_t *c = calloc(1, sizeof(*c));
    char(*words)[512] = calloc(32, sizeof(*words));
    char line[2048];
    *c = (compiler_t){.s = s, .imports = imports, .n_imports = n_imports, .section = CF_REQH, .data = CF_DATA, .statement = line};
    for (const char *p = text; *p != '\0' && s->error[0] == '\0';) {
        size_t len = statement_len(p);
        const char *from = p + strspn(p, " ");
        snprintf(line, sizeof(line), "%.*s", from < p + len ? (int)(p + len - from) : 0, from);
        size_t n = split(line, words, 32);
        if (n != 0) {
            statement(c, words, n);
        }
        p += len + (p[len] != '\0');
    }
    if (s->program.failed) {
        snprintf(s->error, sizeof(s->error), "the program is too long");
    }
    free(words);
    free(c);
    return s->error[0] == '\0';
}

void cf_script_deinit(cf_script_t *s) {
    for (size_t i = 0; i < s->n_expects; i++) {
        sl_buf_deinit(&s->expects[i].bytes);
    }
    sl_buf_deinit(&s->program);
    sl_buf_deinit(&s->words);
}

/* ---- reports ---- */

static bool matches(const cf_expect_t *e, sl_str_t got) {
    static const char zeros[8];
    switch (e->kind) {
    case CF_EXPECT_ANY:
        return true;
    case CF_EXPECT_NEVER:
        return false;
    case CF_EXPECT_NONZERO:
        return got.len <= sizeof(zeros) && memcmp(got.data, zeros, got.len) != 0;
    case CF_EXPECT_HAS:
        return memmem(got.data, got.len, e->bytes.data, e->bytes.len) != NULL;
    case CF_EXPECT_BYTES:
        return sl_str_eq(got, sl_buf_str(&e->bytes));
    }
    return false;
}

void cf_script_report(cf_script_t *s, sl_str_t line) {
    const char *at = memmem(line.data, line.len, "@@", 2);
    const char *end = at != NULL ? memchr(at, '.', line.len - (size_t)(at - line.data)) : NULL;
    if (end == NULL || end - at < 12) {
        return;
    }
    char id_text[9] = {0};
    memcpy(id_text, at + 3, 8);
    size_t id = strtoul(id_text, NULL, 16);
    if (id >= s->n_expects || s->expects[id].tag != at[2]) {
        snprintf(s->error, sizeof(s->error), "a report that nobody expects: %.*s", (int)(end - at), at);
        return;
    }
    cf_expect_t *e = &s->expects[id];
    uint8_t bytes[CF_SHOW_MAX + 4];
    size_t n = 0;
    for (const char *p = at + 12; p + 1 < end && n < sizeof(bytes); p += 2) {
        bytes[n++] = (uint8_t)(hex_digit(p[0]) << 4 | hex_digit(p[1]));
    }
    e->seen++;
    if (!matches(e, sl_str(bytes, n)) && !e->failed) {
        e->failed = true;
        snprintf(e->got, sizeof(e->got), "%.*s", (int)(end - at - 12), at + 12);
    }
}

/* ---- hostile arguments ---- */

typedef struct {
    const char *const *words;
    unsigned n;
} variants_t;

static const char *const wild_inputs[] = {"0xffffffff 1",          "0xfffff 2", "0x100000 1", "0x4000 0xffffffff", "0xffffffff 0xffffffff",
                                          "0x80000000 0x80000000", "0x100001 0"};
static const char *const wild_outputs[] = {"0xffffffff", "0xffffd", "0x100000", "0x80000000"};
static const char *const odd_inputs[] = {"0xffffe 2", "0x100000 0", "0 0", "0 0x4000", "0xc000 32"};
static const char *const odd_outputs[] = {"0", "0x4000", "0x4001", "0xc002", "0xc010", "0xffff0"};
#define VARIANTS(a) {a, sizeof(a) / sizeof((a)[0])}
static const variants_t of_input[2] = {VARIANTS(wild_inputs), VARIANTS(odd_inputs)};
static const variants_t of_output[2] = {VARIANTS(wild_outputs), VARIANTS(odd_outputs)};
static const variants_t none = {NULL, 0};

static const variants_t *variants_of(const char *word, bool odd) {
    if (*word == '&' || *word == '@') {
        return &of_output[odd];
    }
    return *word == '\'' || *word == '{' ? &of_input[odd] : &none;
}

bool cf_script_hostile(const char *call_text, unsigned nth, bool odd, char *out, size_t size) {
    char(*words)[512] = calloc(32, sizeof(*words));
    size_t n = split(call_text, words, 32);
    const char *wild = NULL;
    size_t which = 0;
    for (size_t i = 2; i < n && wild == NULL; i++) {
        const variants_t *v = variants_of(words[i], odd);
        if (nth < v->n) {
            wild = v->words[nth];
            which = i;
        } else {
            nth -= v->n;
        }
    }
    size_t len = 0;
    for (size_t i = 0; i < n && wild != NULL && len < size; i++) {
        len += (size_t)snprintf(out + len, size - len, "%s%s", i == 0 ? "" : " ", i == which ? wild : words[i]);
    }
    free(words);
    return wild != NULL;
}
