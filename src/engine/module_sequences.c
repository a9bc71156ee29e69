#include "module_sequences.h"

#include "module_code.h"

enum { TYPE = 1, IMPORT = 2, FUNCTION = 3, MEMORY = 5, EXPORT = 7, CODE = 10 };
enum { CALL = 0x10, DROP = 0x1a, LOCAL_GET = 0x20, I32_LOAD = 0x28, I32_STORE = 0x36, I32_CONST = 0x41, I32_NE = 0x47 };
enum { IF = 0x04, RETURN = 0x0f, END = 0x0b, NO_VALUE = 0x40, I32 = 0x7f, FUNC = 0x60 };
enum { MEMBERS_MAX = 3, PARAMS_MAX = 4 };

/* ---- which ---- */

typedef struct {
    const char *name;
    uint8_t n_params, more_params; /* the type has so many i32, or (when not 0) so many */
    bool answers;                  /* an i32 */
    bool needed;                   /* without it there is no sequence */
    uint8_t args[PARAMS_MAX];      /* parameters of the sequence */
} member_t;

typedef struct {
    uint8_t n_params;
    bool answers; /* what its last member does */
    member_t members[MEMBERS_MAX];
} sequence_t;

#define CREATE {"proxy_on_context_create", 2, 0, false, true, {0, 1}}
#define DONE(needed) {"proxy_on_done", 1, 0, true, needed, {0}}
#define DELETE(needed) {"proxy_on_delete", 1, 0, false, needed, {0}}
static const sequence_t sequences[SL_SEQUENCES] = {
    [SL_SEQUENCE_REQUEST] = {4, true, {CREATE, {"proxy_on_request_headers", 2, 3, true, true, {0, 2, 3}}}},
    [SL_SEQUENCE_RESPONSE] = {4, true, {CREATE, {"proxy_on_response_headers", 2, 3, true, true, {0, 2, 3}}}},
    [SL_SEQUENCE_END] = {1, false, {{"proxy_on_log", 1, 0, false, true, {0}}, DONE(false), DELETE(false)}},
    [SL_SEQUENCE_LEAVE] = {1, false, {DONE(true), DELETE(true)}},
};

/* ---- the module ---- */

typedef struct {
    sl_bytes_t types, imports, functions, exports; /* without the count in front */
    uint32_t n_types, n_imports, n_functions, n_exports, n_memories;
    uint32_t imported_functions, imported_memories;
    uint32_t n_bodies;
    size_t count_size; /* of n_bodies as it is written */
} module_t;

static uint8_t skip_value_type(sl_bytes_t *b) {
    uint8_t type = sl_bytes_u8(b);
    if (type == 0x63 || type == 0x64) {
        sl_bytes_skip_leb(b);
    }
    return type;
}

static void skip_limits(sl_bytes_t *b) {
    uint8_t flags = sl_bytes_u8(b);
    sl_bytes_skip_leb(b);
    if ((flags & 1) != 0) {
        sl_bytes_skip_leb(b);
    }
}

/* The kind of one import, and the type of a function. */
static uint8_t read_import(sl_bytes_t *b, uint32_t *type) {
    sl_bytes_skip(b, sl_bytes_u32(b));
    sl_bytes_skip(b, sl_bytes_u32(b));
    uint8_t kind = sl_bytes_u8(b);
    switch (kind) {
    case 0:
        *type = sl_bytes_u32(b);
        break;
    case 1:
        skip_value_type(b);
        skip_limits(b);
        break;
    case 2:
        skip_limits(b);
        break;
    case 3:
        skip_value_type(b);
        sl_bytes_skip(b, 1);
        break;
    default:
        b->bad = true;
        break;
    }
    return kind;
}

static void count_imports(module_t *m) {
    sl_bytes_t b = m->imports;
    for (uint32_t i = 0; i < m->n_imports && !b.bad; i++) {
        uint32_t type;
        uint8_t kind = read_import(&b, &type);
        m->imported_functions += kind == 0;
        m->imported_memories += kind == 2;
    }
    m->imports.bad = m->imports.bad || b.bad;
}

static void find_section(module_t *m, uint8_t id, sl_bytes_t body) {
    const uint8_t *from = body.at;
    uint32_t n = id != 0 ? sl_bytes_u32(&body) : 0;
    switch (id) {
    case TYPE:
        m->types = body;
        m->n_types = n;
        break;
    case IMPORT:
        m->imports = body;
        m->n_imports = n;
        break;
    case FUNCTION:
        m->functions = body;
        m->n_functions = n;
        break;
    case MEMORY:
        m->n_memories = n;
        break;
    case EXPORT:
        m->exports = body;
        m->n_exports = n;
        break;
    case CODE:
        m->n_bodies = n;
        m->count_size = (size_t)(body.at - from);
        break;
    default:
        break;
    }
}

/* false: no module that could be added to. */
static bool find_sections(module_t *m, sl_str_t sections) {
    sl_bytes_t b = {.at = (const uint8_t *)sections.data, .end = (const uint8_t *)sections.data + sections.len};
    while (b.at != b.end && !b.bad) {
        uint8_t id = sl_bytes_u8(&b);
        sl_bytes_t body = sl_bytes_take(&b, sl_bytes_u32(&b));
        find_section(m, id, body);
    }
    count_imports(m);
    bool bad = b.bad || m->types.bad || m->imports.bad || m->functions.bad || m->exports.bad;
    return !bad && m->n_memories != 0 && m->n_bodies != 0 && m->n_bodies == m->n_functions;
}

static bool find_export(const module_t *m, const char *name, uint32_t *function) {
    sl_bytes_t b = m->exports;
    size_t wanted = strlen(name);
    for (uint32_t i = 0; i < m->n_exports && !b.bad; i++) {
        uint32_t len = sl_bytes_u32(&b);
        sl_bytes_t text = sl_bytes_take(&b, len);
        uint8_t kind = sl_bytes_u8(&b);
        *function = sl_bytes_u32(&b);
        if (!b.bad && kind == 0 && len == wanted && memcmp(text.at, name, wanted) == 0) {
            return true;
        }
    }
    return false;
}

static bool type_of_import(const module_t *m, uint32_t function, uint32_t *type) {
    sl_bytes_t b = m->imports;
    for (uint32_t i = 0; i < m->n_imports && !b.bad; i++) {
        if (read_import(&b, type) == 0 && function-- == 0) {
            return !b.bad;
        }
    }
    return false;
}

static bool type_of(const module_t *m, uint32_t function, uint32_t *type) {
    if (function < m->imported_functions) {
        return type_of_import(m, function, type);
    }
    sl_bytes_t b = m->functions;
    function -= m->imported_functions;
    if (function >= m->n_functions) {
        return false;
    }
    for (uint32_t i = 0; i <= function && !b.bad; i++) {
        *type = sl_bytes_u32(&b);
    }
    return !b.bad;
}

/* How many parameters a type has that knows i32 only; *answers: whether it has a result. -1: another type. */
static int read_type(sl_bytes_t *b, bool *answers) {
    bool plain = true;
    if (sl_bytes_u8(b) != FUNC) {
        b->bad = true;
        return -1;
    }
    uint32_t n = sl_bytes_u32(b);
    for (uint32_t i = 0; i < n && !b->bad; i++) {
        plain = skip_value_type(b) == I32 && plain;
    }
    uint32_t results = sl_bytes_u32(b);
    for (uint32_t i = 0; i < results && !b->bad; i++) {
        plain = skip_value_type(b) == I32 && plain;
    }
    *answers = results != 0;
    return !b->bad && plain && results <= 1 && n <= PARAMS_MAX ? (int)n : -1;
}

/* The parameters of a function, when its result is what is expected; else -1. */
static int params_of(const module_t *m, uint32_t function, bool answers) {
    uint32_t type;
    bool has_result = false;
    int n = -1;
    if (!type_of(m, function, &type) || type >= m->n_types) {
        return -1;
    }
    sl_bytes_t b = m->types;
    for (uint32_t i = 0; i <= type && !b.bad; i++) {
        n = read_type(&b, &has_result);
    }
    return b.bad || has_result != answers ? -1 : n;
}

/* ---- writing ---- */

static void put(sl_buf_t *to, uint8_t byte) {
    sl_buf_append_char(to, (char)byte);
}

static void put_u32(sl_buf_t *to, uint32_t value) {
    for (; value >= 0x80; value >>= 7) {
        put(to, (uint8_t)(value | 0x80));
    }
    put(to, (uint8_t)value);
}

static void put_with(sl_buf_t *to, uint8_t opcode, uint32_t value) {
    put(to, opcode);
    put_u32(to, value);
}

/* A load or store of an i32 at the address on the stack; the flag 0x40 says that a memory is named. */
static void put_access(sl_buf_t *to, uint8_t opcode, uint32_t memory) {
    put_with(to, opcode, 0x40 | 2);
    put_u32(to, memory);
    put(to, 0);
}

/* Values are small: one byte is the same signed or not. */
static void put_part(sl_buf_t *to, uint32_t memory, uint32_t part) {
    put_with(to, I32_CONST, 0);
    put_with(to, I32_CONST, part);
    put_access(to, I32_STORE, memory);
}

/* Returns where the host has changed the part. */
static void put_check(sl_buf_t *to, uint32_t memory, uint32_t part, bool answers) {
    put_with(to, I32_CONST, 0);
    put_access(to, I32_LOAD, memory);
    put_with(to, I32_CONST, part);
    put(to, I32_NE);
    put_with(to, IF, NO_VALUE);
    if (answers) {
        put_with(to, I32_CONST, 0);
    }
    put(to, RETURN);
    put(to, END);
}

typedef struct {
    uint32_t function;
    int n_params; /* -1: the module has no such export */
} found_t;

static void put_body(sl_buf_t *to, const sequence_t *s, const found_t *found, uint32_t memory) {
    int before = -1;
    put(to, 0); /* locals */
    for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
        const member_t *member = &s->members[i];
        if (member->name == NULL || found[i].n_params < 0) {
            continue;
        }
        if (before >= 0) {
            put_check(to, memory, (uint32_t)before, s->answers);
        }
        put_part(to, memory, i);
        for (int k = 0; k < found[i].n_params; k++) {
            put_with(to, LOCAL_GET, member->args[k]);
        }
        put_with(to, CALL, found[i].function);
        if (member->answers && !s->answers) {
            put(to, DROP);
        }
        before = (int)i;
    }
    put(to, END);
}

static void put_type(sl_buf_t *to, const sequence_t *s) {
    put_with(to, FUNC, s->n_params);
    for (uint32_t i = 0; i < s->n_params; i++) {
        put(to, I32);
    }
    put(to, s->answers);
    if (s->answers) {
        put(to, I32);
    }
}

/* ---- */

static bool find_members(const module_t *m, const sequence_t *s, found_t *found) {
    size_t n = 0;
    for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
        const member_t *member = &s->members[i];
        found[i].n_params = -1;
        if (member->name == NULL) {
            continue;
        }
        if (find_export(m, member->name, &found[i].function)) {
            int params = params_of(m, found[i].function, member->answers);
            bool fits = params == member->n_params || (member->more_params != 0 && params == member->more_params);
            found[i].n_params = fits ? params : -1;
        }
        if (found[i].n_params < 0 && member->needed) {
            return false;
        }
        n += found[i].n_params >= 0;
    }
    return n > 1;
}

static void add(sl_sequences_t *plan, const module_t *m, uint32_t which, const found_t *found) {
    sl_buf_t body;
    sl_buf_init(&body, 1024);
    put_body(&body, &sequences[which], found, plan->memory);
    put_type(&plan->types, &sequences[which]);
    put_u32(&plan->functions, m->n_types + plan->n);
    put_u32(&plan->bodies, (uint32_t)body.len);
    sl_buf_append(&plan->bodies, body.data, body.len);
    plan->bodies.failed = plan->bodies.failed || body.failed;
    sl_buf_deinit(&body);
    plan->which[plan->n++] = which;
    plan->n_types++;
}

static size_t length_of_u32(uint32_t value) {
    size_t n = 1;
    for (; value >= 0x80; value >>= 7) {
        n++;
    }
    return n;
}

sl_status_t sl_sequences_plan(sl_str_t sections, sl_sequences_t *plan) {
    module_t m = {.n_types = 0};
    *plan = (sl_sequences_t){.n = 0};
    sl_buf_init(&plan->types, 4096);
    sl_buf_init(&plan->functions, 4096);
    sl_buf_init(&plan->bodies, 4096);
    sl_buf_init(&plan->memories, 64);
    if (!find_sections(&m, sections)) {
        return SL_OK;
    }
    plan->memory = m.imported_memories + m.n_memories;
    plan->first_function = m.imported_functions + m.n_functions;
    for (uint32_t which = 0; which < SL_SEQUENCES; which++) {
        found_t found[MEMBERS_MAX];
        if (find_members(&m, &sequences[which], found)) {
            add(plan, &m, which, found);
        }
    }
    /* Code must not move by a byte: debuggers' tables count from the begin of its section, and so does what Wasmtime reads of them. */
    if (m.count_size != length_of_u32(m.n_bodies + plan->n)) {
        plan->n = 0;
    }
    static const uint8_t one_page[] = {1, 1, 1};
    sl_buf_append(&plan->memories, one_page, sizeof(one_page));
    bool failed = plan->types.failed || plan->functions.failed || plan->bodies.failed || plan->memories.failed;
    return failed ? SL_NO_MEMORY : SL_OK;
}

void sl_sequences_deinit(sl_sequences_t *plan) {
    sl_buf_deinit(&plan->types);
    sl_buf_deinit(&plan->functions);
    sl_buf_deinit(&plan->bodies);
    sl_buf_deinit(&plan->memories);
}
