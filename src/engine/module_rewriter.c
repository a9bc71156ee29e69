#include "module_rewriter.h"

#include <stdio.h>
#include <stdlib.h>

#include "module_code.h"
#include "module_sequences.h"

enum { TYPE = 1, IMPORT = 2, FUNCTION = 3, MEMORY = 5, GLOBAL = 6, EXPORT = 7, START = 8, CODE = 10, DATA_COUNT = 12, N_SECTIONS = 14 };

typedef struct {
    const uint8_t *begin; /* of the module */
    sl_bytes_t in;        /* what has not been read */
    sl_buf_t exports;     /* bodies of the exports that are added */
    uint32_t n_added;
    uint32_t n_global_imports;
    bool exported; /* the export section has been written */
    bool has_memory, memory_is_exported;
    sl_sequences_t sequences; /* functions that are added */
    sl_rewrite_t *found;
    sl_buf_t *out; /* NULL: only looking */
    sl_err_t *err;
} rewriter_t;

static sl_status_t bad(const rewriter_t *r, const char *what) {
    sl_err_set(r->err, SL_INVALID, "not a valid WebAssembly module: before byte %zu: %s", (size_t)(r->in.at - r->begin), what);
    return SL_INVALID;
}

static void cannot_reset(rewriter_t *r, const char *why) {
    r->found->no_reset = r->found->no_reset != NULL ? r->found->no_reset : why;
}

/* ---- writing ---- */

static void put(rewriter_t *r, const void *bytes, size_t n) {
    if (r->out != NULL) {
        sl_buf_append(r->out, bytes, n);
    }
}

static void append_u32(sl_buf_t *to, uint32_t value) {
    for (; value >= 0x80; value >>= 7) {
        sl_buf_append_char(to, (char)(value | 0x80));
    }
    sl_buf_append_char(to, (char)value);
}

static void put_u32(rewriter_t *r, uint32_t value) {
    if (r->out != NULL) {
        append_u32(r->out, value);
    }
}

static size_t length_of_u32(uint32_t value) {
    size_t n = 1;
    for (; value >= 0x80; value >>= 7) {
        n++;
    }
    return n;
}

static void add_export(rewriter_t *r, const char *name, uint8_t kind, uint32_t index) {
    size_t len = strlen(name);
    append_u32(&r->exports, (uint32_t)len);
    sl_buf_append(&r->exports, name, len);
    sl_buf_append_char(&r->exports, (char)kind);
    append_u32(&r->exports, index);
    r->n_added++;
}

/* A section of `n` things that are there and `n_more` that are added. */
static void put_section(rewriter_t *r, uint8_t id, uint32_t n, sl_bytes_t old, uint32_t n_more, const sl_buf_t *more) {
    size_t old_len = (size_t)(old.end - old.at);
    put(r, &id, 1);
    put_u32(r, (uint32_t)(length_of_u32(n + n_more) + old_len + more->len));
    put_u32(r, n + n_more);
    put(r, old.at, old_len);
    put(r, more->data, more->len);
}

static void put_exports(rewriter_t *r, uint32_t n, sl_bytes_t old) {
    r->exported = true;
    if (n + r->n_added != 0) {
        put_section(r, EXPORT, n, old, r->n_added, &r->exports);
    }
}

/* ---- sections ---- */

static void skip_limits(sl_bytes_t *b) {
    uint8_t flags = sl_bytes_u8(b);
    sl_bytes_skip_leb(b);
    if ((flags & 1) != 0) {
        sl_bytes_skip_leb(b);
    }
    if ((flags & 8) != 0) {
        sl_bytes_skip_leb(b);
    }
}

/* The letter of a number or vector, 0 for a reference. */
static uint8_t value_type(sl_bytes_t *b) {
    uint8_t type = sl_bytes_u8(b);
    if (type == 0x63 || type == 0x64) {
        sl_bytes_skip_leb(b);
    }
    return type >= 0x7b && type <= 0x7f ? type : 0;
}

static void skip_name(sl_bytes_t *b) {
    sl_bytes_skip(b, sl_bytes_u32(b));
}

static void read_import(rewriter_t *r, sl_bytes_t *b) {
    skip_name(b);
    skip_name(b);
    switch (sl_bytes_u8(b)) {
    case 0: /* function */
        sl_bytes_skip_leb(b);
        break;
    case 1: /* table */
        cannot_reset(r, "it imports a table");
        value_type(b);
        skip_limits(b);
        break;
    case 2: /* memory */
        cannot_reset(r, "it imports its memory");
        skip_limits(b);
        break;
    case 3: /* global */
        r->n_global_imports++;
        value_type(b);
        if (sl_bytes_u8(b) != 0) {
            cannot_reset(r, "it imports a mutable global");
        }
        break;
    default: /* a tag */
        sl_bytes_skip(b, 1);
        sl_bytes_skip_leb(b);
        break;
    }
}

static sl_status_t read_imports(rewriter_t *r, sl_bytes_t *b) {
    for (uint32_t n = sl_bytes_u32(b); n > 0 && !b->bad; n--) {
        read_import(r, b);
    }
    return SL_OK;
}

static sl_status_t read_memories(rewriter_t *r, sl_bytes_t *b) {
    uint32_t n = sl_bytes_u32(b);
    r->has_memory = r->has_memory || n != 0;
    return n > 1 ? bad(r, "more than one memory, which filters cannot have") : SL_OK;
}

static void read_global(rewriter_t *r, sl_bytes_t *b, uint32_t index) {
    uint8_t type = value_type(b);
    bool is_mutable = sl_bytes_u8(b) != 0;
    sl_code_t code;
    do {
        code = sl_code_next(b);
        b->bad = b->bad || code == SL_CODE_UNKNOWN;
    } while (code != SL_CODE_END && !b->bad);
    if (!is_mutable || b->bad) {
        return;
    }
    if (type == 0) {
        cannot_reset(r, "a global holds a reference");
        return;
    }
    if (r->found->n_globals == SL_REWRITER_GLOBALS_MAX) {
        cannot_reset(r, "it has too many mutable globals");
        return;
    }
    char name[64];
    snprintf(name, sizeof(name), SL_REWRITER_GLOBAL "%u", (unsigned)r->found->n_globals);
    add_export(r, name, 3, index);
    r->found->n_globals++;
}

static sl_status_t read_globals(rewriter_t *r, sl_bytes_t *b) {
    uint32_t n = sl_bytes_u32(b);
    for (uint32_t i = 0; i < n && !b->bad; i++) {
        read_global(r, b, r->n_global_imports + i);
    }
    return SL_OK;
}

/* What follows the export section may have to be in it. */
static sl_status_t find_start(rewriter_t *r, sl_bytes_t rest) {
    while (rest.at != rest.end && !rest.bad) {
        uint8_t id = sl_bytes_u8(&rest);
        sl_bytes_t body = sl_bytes_take(&rest, sl_bytes_u32(&rest));
        if (id == START && !rest.bad) {
            r->found->has_start = true;
            add_export(r, SL_REWRITER_START, 0, sl_bytes_u32(&body));
            return body.bad ? bad(r, "a start section that is cut short") : SL_OK;
        }
    }
    return SL_OK;
}

static void add_sequences(rewriter_t *r) {
    const sl_sequences_t *added = &r->sequences;
    if (added->n == 0) {
        return;
    }
    for (uint32_t i = 0; i < added->n; i++) {
        char name[64];
        snprintf(name, sizeof(name), SL_REWRITER_SEQUENCE "%u", (unsigned)added->which[i]);
        add_export(r, name, 0, added->first_function + i);
    }
    add_export(r, SL_REWRITER_CELL, 2, added->memory);
    r->found->n_sequences = added->n;
    r->found->first_added = added->first_function;
}

static sl_status_t read_exports(rewriter_t *r, sl_bytes_t *b) {
    static const char reserved[] = SL_REWRITER_PREFIX;
    uint32_t n = sl_bytes_u32(b);
    sl_bytes_t old = *b;
    for (uint32_t i = 0; i < n && !b->bad; i++) {
        uint32_t len = sl_bytes_u32(b);
        sl_bytes_t name = sl_bytes_take(b, len);
        if (!b->bad && len >= sizeof(reserved) - 1 && memcmp(name.at, reserved, sizeof(reserved) - 1) == 0) {
            return bad(r, "an export whose name begins with \"" SL_REWRITER_PREFIX "\", which is reserved");
        }
        uint8_t kind = sl_bytes_u8(b);
        if (kind == 1) {
            cannot_reset(r, "it exports a table");
        }
        r->memory_is_exported = r->memory_is_exported || kind == 2;
        sl_bytes_skip_leb(b);
    }
    if (b->bad) {
        return SL_OK; /* the caller says so */
    }
    add_sequences(r);
    put_exports(r, n, old);
    return SL_OK;
}

/* One function; what is not known may do anything. */
static void read_body(rewriter_t *r, sl_bytes_t b) {
    for (uint32_t n = sl_bytes_u32(&b); n > 0 && !b.bad; n--) {
        sl_bytes_skip_leb(&b);
        value_type(&b);
    }
    while (b.at != b.end && !b.bad && r->found->no_reset == NULL) {
        switch (sl_code_next(&b)) {
        case SL_CODE_TABLE:
            cannot_reset(r, "it writes to tables");
            break;
        case SL_CODE_DROP:
            cannot_reset(r, "it drops segments");
            break;
        case SL_CODE_UNKNOWN:
            cannot_reset(r, "it has instructions that are not known to leave tables alone");
            break;
        default:
            break;
        }
    }
    if (b.bad) {
        cannot_reset(r, "its code cannot be read");
    }
}

static sl_status_t read_code(rewriter_t *r, sl_bytes_t *b) {
    for (uint32_t n = sl_bytes_u32(b); n > 0 && !b->bad && r->found->no_reset == NULL; n--) {
        read_body(r, sl_bytes_take(b, sl_bytes_u32(b)));
    }
    return SL_OK;
}

/* ---- the module ---- */

/* What sequences need in the section; false: it stays as it is. */
static bool add_to_section(rewriter_t *r, uint8_t id, sl_bytes_t body) {
    const sl_sequences_t *added = &r->sequences;
    const sl_buf_t *more = id == TYPE ? &added->types : id == FUNCTION ? &added->functions : id == CODE ? &added->bodies : &added->memories;
    if (added->n == 0 || (id != TYPE && id != FUNCTION && id != CODE && id != MEMORY)) {
        return false;
    }
    uint32_t n = sl_bytes_u32(&body);
    put_section(r, id, n, body, id == MEMORY ? 1 : added->n, more);
    return true;
}

/* Whether an export section, where there is none, has to stand before this one. */
static bool after_exports(uint8_t id) {
    return id >= START && id <= DATA_COUNT;
}

static sl_status_t rewrite_section(rewriter_t *r) {
    const uint8_t *from = r->in.at;
    uint8_t id = sl_bytes_u8(&r->in);
    sl_bytes_t body = sl_bytes_take(&r->in, sl_bytes_u32(&r->in));
    sl_status_t rc = SL_OK;
    if (r->in.bad || id >= N_SECTIONS) {
        return bad(r, "a section that is cut short");
    }
    if (id == EXPORT) {
        rc = find_start(r, r->in);
        rc = rc == SL_OK ? read_exports(r, &body) : rc;
        return rc == SL_OK && body.bad ? bad(r, "exports that are cut short") : rc;
    }
    if (!r->exported && after_exports(id)) {
        rc = find_start(r, (sl_bytes_t){.at = from, .end = r->in.end});
        put_exports(r, 0, (sl_bytes_t){.at = from, .end = from});
    }
    if (rc != SL_OK || id == START) {
        return rc; /* find_start() made it an export */
    }
    static sl_status_t (*const read[N_SECTIONS])(rewriter_t *r, sl_bytes_t *b) = {
        [IMPORT] = read_imports, [MEMORY] = read_memories, [GLOBAL] = read_globals, [CODE] = read_code};
    if (!add_to_section(r, id, body)) {
        put(r, from, (size_t)(r->in.at - from));
    }
    rc = read[id] != NULL ? read[id](r, &body) : SL_OK;
    return rc == SL_OK && body.bad ? bad(r, "a section whose contents are cut short") : rc;
}

sl_status_t sl_module_rewrite(sl_str_t bytes, sl_buf_t *out, sl_rewrite_t *found, sl_err_t *err) {
    const uint8_t *begin = (const uint8_t *)bytes.data;
    *found = (sl_rewrite_t){.first_added = UINT32_MAX};
    rewriter_t r = {.begin = begin, .in = {.at = begin, .end = begin + bytes.len}, .found = found, .out = out, .err = err};
    sl_buf_init(&r.exports, (size_t)1 << 20);
    if (bytes.len < 8) {
        return bad(&r, "cut short");
    }
    sl_bytes_skip(&r.in, 8);
    put(&r, begin, 8);
    sl_status_t rc = sl_sequences_plan(sl_str(begin + 8, bytes.len - 8), &r.sequences);
    bool out_of_memory = rc != SL_OK;
    while (rc == SL_OK && r.in.at != r.in.end) {
        rc = rewrite_section(&r);
    }
    if (rc == SL_OK && !r.exported) {
        put_exports(&r, 0, (sl_bytes_t){.at = r.in.at, .end = r.in.at});
    }
    if (r.has_memory && !r.memory_is_exported) {
        cannot_reset(&r, "its memory is not exported");
    }
    if (out_of_memory || (rc == SL_OK && (r.exports.failed || (out != NULL && out->failed)))) {
        rc = sl_err_set(err, SL_NO_MEMORY, "out of memory while preparing the module");
    }
    sl_buf_deinit(&r.exports);
    sl_sequences_deinit(&r.sequences);
    return rc;
}
