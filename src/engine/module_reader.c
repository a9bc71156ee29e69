#include "module_reader.h"

#include <stdlib.h>

/* Ceilings. The first four are those that engines have agreed on; the others keep our own tables small. */
#define MAX_TYPES 1000000
#define MAX_FUNCTIONS 1000000
#define MAX_VALUES 1000 /* parameters, and results, of one function type */
#define MAX_NAME_BYTES 100000
#define MAX_IMPORTS 10000
#define MAX_EXPORTS 100000
#define MAX_MODULE_BYTES ((size_t)1 << 30)

typedef struct {
    const uint8_t *begin; /* of the whole module, for offsets in texts */
    const uint8_t *at;
    const uint8_t *end; /* of the section being read */

    uint32_t *types; /* offset of each function type behind its form byte */
    size_t n_types;
    uint32_t *funcs; /* type of each function, imported ones first */
    size_t n_funcs;
    size_t n_imported_funcs;

    sl_extern_t *imports;
    sl_extern_t *exports;
    sl_arena_t *arena;
    sl_custom_t *customs;
    sl_module_info_t *info;
    sl_err_t *err;
} reader_t;

static sl_status_t bad(const reader_t *r, const char *what) {
    sl_err_set(r->err, SL_INVALID, "not a valid WebAssembly module: byte %zu: %s", (size_t)(r->at - r->begin), what);
    return SL_INVALID; /* spelled out: the compiler then sees that callers stop here */
}

static sl_status_t no_memory(const reader_t *r) {
    return sl_err_set(r->err, SL_NO_MEMORY, "out of memory while reading the module (byte %zu)", (size_t)(r->at - r->begin));
}

static size_t left(const reader_t *r) {
    return (size_t)(r->end - r->at);
}

/* ---- numbers and names ------------------------------------------------------------------------------------------ */

static sl_status_t read_byte(reader_t *r, uint8_t *out) {
    if (left(r) == 0) {
        return bad(r, "cut short");
    }
    *out = *r->at++;
    return SL_OK;
}

/* LEB128 of at most `bits` bits; unsigned, so that the last byte may not carry more than what is left of them. */
static sl_status_t read_leb(reader_t *r, unsigned bits, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte;
        if (read_byte(r, &byte) != SL_OK) {
            return SL_INVALID;
        }
        if (bits - shift < 7 && (byte & 0x7f) >> (bits - shift) != 0) {
            return bad(r, "a number that is too large");
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *out = value;
            return SL_OK;
        }
    }
    return bad(r, "a number that is too long");
}

static sl_status_t read_u32(reader_t *r, uint32_t *out) {
    uint64_t value;
    sl_status_t rc = read_leb(r, 32, &value);
    if (rc == SL_OK) {
        *out = (uint32_t)value;
    }
    return rc;
}

/* Each item takes at least `item_bytes`, so a count that the section cannot hold is refused before anything is allocated. */
static sl_status_t read_count(reader_t *r, size_t max, size_t item_bytes, uint32_t *out) {
    if (read_u32(r, out) != SL_OK) {
        return SL_INVALID;
    }
    if (*out > max) {
        return bad(r, "more items than are allowed");
    }
    return *out > left(r) / item_bytes ? bad(r, "a count that the section cannot hold") : SL_OK;
}

static sl_status_t read_name(reader_t *r, sl_str_t *out) {
    uint32_t len;
    if (read_u32(r, &len) != SL_OK) {
        return SL_INVALID;
    }
    if (len > MAX_NAME_BYTES || len > left(r)) {
        return bad(r, "a name that is too long");
    }
    *out = sl_str(r->at, len);
    if (!sl_utf8_valid(*out, NULL)) {
        return bad(r, "a name that is not UTF-8");
    }
    r->at += len;
    return SL_OK;
}

static sl_status_t keep_name(reader_t *r, sl_str_t *out) {
    sl_str_t name;
    if (read_name(r, &name) != SL_OK) {
        return SL_INVALID;
    }
    *out = sl_arena_dup(r->arena, name);
    return out->data != NULL ? SL_OK : no_memory(r);
}

/* ---- types ------------------------------------------------------------------------------------------------------ */

/* *letter: as in a signature, '?' for a type that a signature cannot say. */
static sl_status_t read_value_type(reader_t *r, char *letter) {
    uint8_t byte;
    if (read_byte(r, &byte) != SL_OK) {
        return SL_INVALID;
    }
    static const char numbers[] = "FfIi"; /* 0x7c to 0x7f */
    if (byte >= 0x7c && byte <= 0x7f) {
        *letter = numbers[byte - 0x7c];
        return SL_OK;
    }
    *letter = '?';
    if (byte == 0x63 || byte == 0x64) { /* a reference with a heap type: a signed number of 33 bits */
        uint64_t heap_type;
        return read_leb(r, 35, &heap_type);
    }
    return byte >= 0x65 && byte <= 0x7b ? SL_OK : bad(r, "an unknown value type");
}

static sl_status_t skip_values(reader_t *r) {
    uint32_t n;
    sl_status_t rc = read_count(r, MAX_VALUES, 1, &n);
    char letter;
    for (uint32_t i = 0; i < n && rc == SL_OK; i++) {
        rc = read_value_type(r, &letter);
    }
    return rc;
}

static sl_status_t read_types(reader_t *r) {
    uint32_t n;
    if (read_count(r, MAX_TYPES, 3, &n) != SL_OK) {
        return SL_INVALID;
    }
    r->types = calloc((size_t)n + 1, sizeof(*r->types));
    if (r->types == NULL) {
        return no_memory(r);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint8_t form;
        if (read_byte(r, &form) != SL_OK) {
            return SL_INVALID;
        }
        if (form != 0x60) {
            return bad(r, "a type that is no function type");
        }
        r->types[i] = (uint32_t)(r->at - r->begin);
        if (skip_values(r) != SL_OK || skip_values(r) != SL_OK) {
            return SL_INVALID;
        }
    }
    r->n_types = n;
    return SL_OK;
}

/* Appends the letters of one list of values; false when they do not fit or cannot be said. */
static bool say_values(reader_t *r, uint32_t n, char *sig, size_t *len) {
    for (uint32_t i = 0; i < n; i++) {
        char letter;
        if (read_value_type(r, &letter) != SL_OK || letter == '?' || *len == SL_SIG_MAX - 1) {
            return false;
        }
        sig[(*len)++] = letter;
    }
    return true;
}

/* The type was read once already, so reading cannot fail here; it is bounded all the same. */
static bool say_type(reader_t *r, char *sig) {
    size_t len = 0;
    uint32_t n;
    if (read_u32(r, &n) != SL_OK || !say_values(r, n, sig, &len) || len == SL_SIG_MAX - 1) {
        return false;
    }
    sig[len++] = ':';
    if (read_u32(r, &n) != SL_OK || n > 1 || !say_values(r, n, sig, &len)) {
        return false;
    }
    sig[len] = '\0';
    return true;
}

static void write_sig(const reader_t *r, uint32_t type, char *sig) {
    reader_t there = *r;
    there.at = r->begin + r->types[type];
    there.err = NULL;
    if (!say_type(&there, sig)) {
        sig[0] = '?';
        sig[1] = '\0';
    }
}

/* ---- imports and functions -------------------------------------------------------------------------------------- */

static sl_status_t skip_limits(reader_t *r) {
    uint8_t flags;
    uint64_t n;
    if (read_byte(r, &flags) != SL_OK) {
        return SL_INVALID;
    }
    if (flags > 0x0f) {
        return bad(r, "unknown limits");
    }
    sl_status_t rc = read_leb(r, 64, &n);
    if (rc == SL_OK && (flags & 0x01) != 0) {
        rc = read_leb(r, 64, &n);
    }
    if (rc == SL_OK && (flags & 0x08) != 0) {
        rc = read_leb(r, 32, &n);
    }
    return rc;
}

static sl_status_t read_imported_func(reader_t *r, sl_extern_t *e) {
    uint32_t type;
    if (read_u32(r, &type) != SL_OK) {
        return SL_INVALID;
    }
    if (type >= r->n_types) {
        return bad(r, "an import whose type does not exist");
    }
    write_sig(r, type, e->sig);
    r->funcs[r->n_funcs++] = type;
    return SL_OK;
}

static sl_status_t read_import_kind(reader_t *r, sl_extern_t *e) {
    uint8_t kind;
    uint32_t type;
    char letter;
    if (read_byte(r, &kind) != SL_OK) {
        return SL_INVALID;
    }
    e->kind = (sl_extern_kind_t)kind;
    switch (kind) {
    case SL_EXTERN_FUNC:
        return read_imported_func(r, e);
    case SL_EXTERN_TABLE:
        return read_value_type(r, &letter) == SL_OK ? skip_limits(r) : SL_INVALID;
    case SL_EXTERN_MEMORY:
        return skip_limits(r);
    case SL_EXTERN_GLOBAL:
        return read_value_type(r, &letter) == SL_OK ? read_byte(r, &kind) : SL_INVALID;
    case SL_EXTERN_OTHER: /* a tag */
        return read_byte(r, &kind) == SL_OK ? read_u32(r, &type) : SL_INVALID;
    default:
        return bad(r, "an import of an unknown kind");
    }
}

static sl_status_t read_imports(reader_t *r) {
    uint32_t n;
    if (read_count(r, MAX_IMPORTS, 4, &n) != SL_OK) {
        return SL_INVALID;
    }
    r->imports = sl_arena_zalloc(r->arena, ((size_t)n + 1) * sizeof(*r->imports));
    r->funcs = calloc((size_t)n + 1, sizeof(*r->funcs));
    if (r->imports == NULL || r->funcs == NULL) {
        return no_memory(r);
    }
    sl_status_t rc = SL_OK;
    for (uint32_t i = 0; i < n && rc == SL_OK; i++) {
        sl_extern_t *e = &r->imports[i];
        rc = keep_name(r, &e->module);
        rc = rc == SL_OK ? keep_name(r, &e->name) : rc;
        rc = rc == SL_OK ? read_import_kind(r, e) : rc;
    }
    r->n_imported_funcs = r->n_funcs;
    r->info->imports = r->imports;
    r->info->n_imports = n;
    return rc;
}

static sl_status_t read_functions(reader_t *r) {
    uint32_t n;
    if (read_count(r, MAX_FUNCTIONS, 1, &n) != SL_OK) {
        return SL_INVALID;
    }
    uint32_t *funcs = realloc(r->funcs, (r->n_funcs + n + 1) * sizeof(*funcs));
    if (funcs == NULL) {
        return no_memory(r);
    }
    r->funcs = funcs;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t type;
        if (read_u32(r, &type) != SL_OK) {
            return SL_INVALID;
        }
        if (type >= r->n_types) {
            return bad(r, "a function whose type does not exist");
        }
        r->funcs[r->n_funcs++] = type;
    }
    return SL_OK;
}

/* ---- exports and the rest --------------------------------------------------------------------------------------- */

static sl_status_t read_export(reader_t *r, sl_extern_t *e) {
    uint8_t kind;
    uint32_t index;
    sl_status_t rc = keep_name(r, &e->name);
    if (rc != SL_OK) {
        return rc;
    }
    if (read_byte(r, &kind) != SL_OK || read_u32(r, &index) != SL_OK) {
        return SL_INVALID;
    }
    if (kind > SL_EXTERN_OTHER) {
        return bad(r, "an export of an unknown kind");
    }
    e->kind = (sl_extern_kind_t)kind;
    if (kind != SL_EXTERN_FUNC) {
        return SL_OK;
    }
    if (index >= r->n_funcs) {
        return bad(r, "an export of a function that does not exist");
    }
    write_sig(r, r->funcs[index], e->sig);
    return SL_OK;
}

static sl_status_t read_exports(reader_t *r) {
    uint32_t n;
    if (read_count(r, MAX_EXPORTS, 3, &n) != SL_OK) {
        return SL_INVALID;
    }
    r->exports = sl_arena_zalloc(r->arena, ((size_t)n + 1) * sizeof(*r->exports));
    if (r->exports == NULL) {
        return no_memory(r);
    }
    sl_status_t rc = SL_OK;
    for (uint32_t i = 0; i < n && rc == SL_OK; i++) {
        rc = read_export(r, &r->exports[i]);
    }
    r->info->exports = r->exports;
    r->info->n_exports = n;
    return rc;
}

static sl_status_t read_start(reader_t *r) {
    uint32_t index;
    if (read_u32(r, &index) != SL_OK) {
        return SL_INVALID;
    }
    r->info->has_start = true;
    return index < r->n_funcs ? SL_OK : bad(r, "a start function that does not exist");
}

static sl_status_t read_data(reader_t *r) {
    uint32_t n;
    if (read_count(r, UINT32_MAX, 1, &n) != SL_OK) {
        return SL_INVALID;
    }
    r->info->n_data_segments = n;
    r->at = r->end; /* the segments themselves are the engine's business */
    return SL_OK;
}

static sl_status_t read_custom(reader_t *r) {
    sl_str_t name;
    if (read_name(r, &name) != SL_OK) {
        return SL_INVALID;
    }
    r->info->has_name_section = r->info->has_name_section || sl_str_eq(name, SL_STR("name"));
    r->info->has_dwarf = r->info->has_dwarf || sl_str_starts(name, SL_STR(".debug_"));
    if (r->customs == NULL) {
        r->customs = sl_arena_zalloc(r->arena, SL_CUSTOMS_MAX * sizeof(*r->customs));
        r->info->customs = r->customs;
    }
    if (r->customs == NULL) {
        return no_memory(r);
    }
    if (r->info->n_customs < SL_CUSTOMS_MAX) {
        r->customs[r->info->n_customs++] = (sl_custom_t){name, left(r)};
    }
    r->at = r->end;
    return SL_OK;
}

static sl_status_t skip_section(reader_t *r) {
    r->at = r->end;
    return SL_OK;
}

/* ---- sections --------------------------------------------------------------------------------------------------- */

/* By id. Sections other than custom ones come once each, in the order of their rank. */
static const struct {
    unsigned rank;
    sl_status_t (*read)(reader_t *r);
} sections[] = {
    {0, read_custom},   {1, read_types},    {2, read_imports},  {3, read_functions}, /* custom, type, import, function */
    {4, skip_section},  {5, skip_section},  {7, skip_section},  {8, read_exports},   /* table, memory, global, export */
    {9, read_start},    {10, skip_section}, {12, skip_section}, {13, read_data},     /* start, element, code, data */
    {11, skip_section}, {6, skip_section},                                           /* data count, tag */
};
enum { N_SECTIONS = sizeof(sections) / sizeof(sections[0]) };

static sl_status_t read_section(reader_t *r, const uint8_t *module_end, unsigned *rank) {
    uint8_t id;
    uint32_t size;
    if (read_byte(r, &id) != SL_OK || read_u32(r, &size) != SL_OK) {
        return SL_INVALID;
    }
    if (id >= N_SECTIONS) {
        return bad(r, "an unknown section");
    }
    if (size > left(r)) {
        return bad(r, "a section that is cut short");
    }
    if (id != 0 && sections[id].rank <= *rank) {
        return bad(r, "a section out of order");
    }
    *rank = id != 0 ? sections[id].rank : *rank;
    r->end = r->at + size;
    sl_status_t rc = sections[id].read(r);
    if (rc == SL_OK && r->at != r->end) {
        rc = bad(r, "bytes left over at the end of a section");
    }
    r->end = module_end;
    return rc;
}

static sl_status_t read_preamble(reader_t *r) {
    static const uint8_t magic[4] = {0, 'a', 's', 'm'}, core[4] = {1, 0, 0, 0}, component[4] = {13, 0, 1, 0};
    if (left(r) < 8 || memcmp(r->at, magic, 4) != 0) {
        return sl_err_set(r->err, SL_INVALID, "not a WebAssembly module: it does not begin with \"\\0asm\" and a version");
    }
    if (memcmp(r->at + 4, component, 4) == 0) {
        return sl_err_set(r->err, SL_INVALID, "a WebAssembly component: Proxy-Wasm filters are core modules");
    }
    if (memcmp(r->at + 4, core, 4) != 0) {
        return sl_err_set(r->err, SL_INVALID, "a WebAssembly module of an unknown version");
    }
    r->at += 8;
    return SL_OK;
}

sl_status_t sl_module_read(sl_str_t bytes, sl_arena_t *arena, sl_module_info_t *info, sl_err_t *err) {
    memset(info, 0, sizeof(*info));
    if (bytes.len > MAX_MODULE_BYTES) {
        return sl_err_set(err, SL_INVALID, "a module of %zu bytes; the limit is %zu", bytes.len, MAX_MODULE_BYTES);
    }
    if (bytes.len == 0) {
        return sl_err_set(err, SL_INVALID, "not a WebAssembly module: it is empty");
    }
    const uint8_t *begin = (const uint8_t *)bytes.data;
    reader_t r = {.begin = begin, .at = begin, .end = begin + bytes.len, .arena = arena, .info = info, .err = err};
    unsigned rank = 0;
    sl_status_t rc = read_preamble(&r);
    while (rc == SL_OK && left(&r) > 0) {
        rc = read_section(&r, begin + bytes.len, &rank);
    }
    free(r.types);
    free(r.funcs);
    return rc;
}
