#include "module_idle.h"

#include "module_code.h"

enum { IMPORT = 2, EXPORT = 7, CODE = 10 };
enum { I32_CONST = 0x41, RETURN = 0x0f, END = 0x0b };
enum { CALLBACKS_MAX = 64 };

typedef struct {
    uint32_t function;
    sl_extern_t *export;
} callback_t;

typedef struct {
    sl_bytes_t imports, exports, code;
    callback_t callbacks[CALLBACKS_MAX];
    size_t n;
} search_t;

static sl_bytes_t *section(search_t *s, uint8_t id) {
    return id == IMPORT ? &s->imports : id == EXPORT ? &s->exports : id == CODE ? &s->code : NULL;
}

static void find_sections(search_t *s, sl_str_t bytes) {
    sl_bytes_t b = {.at = (const uint8_t *)bytes.data, .end = (const uint8_t *)bytes.data + bytes.len};
    sl_bytes_skip(&b, 8);
    while (b.at != b.end && !b.bad) {
        uint8_t id = sl_bytes_u8(&b);
        sl_bytes_t body = sl_bytes_take(&b, sl_bytes_u32(&b));
        if (section(s, id) != NULL) {
            *section(s, id) = body;
        }
    }
}

static void find_callbacks(search_t *s, sl_extern_t *exports, size_t n) {
    uint32_t count = sl_bytes_u32(&s->exports);
    for (size_t i = 0; i < n && i < count && !s->exports.bad && s->n < CALLBACKS_MAX; i++) {
        sl_bytes_skip(&s->exports, sl_bytes_u32(&s->exports));
        sl_bytes_skip(&s->exports, 1);
        uint32_t function = sl_bytes_u32(&s->exports);
        if (exports[i].kind == SL_EXTERN_FUNC && sl_str_starts(exports[i].name, SL_STR("proxy_on_"))) {
            s->callbacks[s->n++] = (callback_t){.function = function, .export = &exports[i]};
        }
    }
}

/* A signed LEB128 of 32 bits. */
static int32_t signed_number(sl_bytes_t *b) {
    uint32_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = sl_bytes_u8(b);
        value |= shift < 32 ? (uint32_t)(byte & 0x7f) << shift : 0;
        shift += 7;
    } while ((byte & 0x80) != 0 && shift < 35 && !b->bad);
    if ((byte & 0x40) != 0 && shift < 32) {
        value |= UINT32_MAX << shift;
    }
    return (int32_t)value;
}

/* Nothing, or one constant, perhaps returned. */
static bool is_idle(sl_bytes_t b, int32_t *answer) {
    *answer = 0;
    if (sl_bytes_u32(&b) != 0) {
        return false; /* what has local variables does something with them */
    }
    uint8_t opcode = sl_bytes_u8(&b);
    if (opcode == I32_CONST) {
        *answer = signed_number(&b);
        opcode = sl_bytes_u8(&b);
    }
    if (opcode == RETURN) {
        opcode = sl_bytes_u8(&b);
    }
    return opcode == END && b.at == b.end && !b.bad;
}

static void mark(search_t *s, uint32_t function, int32_t answer) {
    for (size_t i = 0; i < s->n; i++) {
        if (s->callbacks[i].function == function) {
            s->callbacks[i].export->idle = true;
            s->callbacks[i].export->answer = answer;
        }
    }
}

static uint32_t count_imported(sl_bytes_t b) {
    uint32_t functions = 0, n = sl_bytes_u32(&b);
    for (uint32_t i = 0; i < n && !b.bad; i++) {
        sl_bytes_skip(&b, sl_bytes_u32(&b));
        sl_bytes_skip(&b, sl_bytes_u32(&b));
        if (sl_bytes_u8(&b) != SL_EXTERN_FUNC) {
            return UINT32_MAX; /* filters import functions only */
        }
        sl_bytes_skip_leb(&b);
        functions++;
    }
    return b.bad ? UINT32_MAX : functions;
}

void sl_module_find_idle(sl_str_t bytes, sl_extern_t *exports, size_t n) {
    search_t s = {.n = 0};
    find_sections(&s, bytes);
    find_callbacks(&s, exports, n);
    uint32_t first = s.imports.at != NULL ? count_imported(s.imports) : 0;
    uint32_t count = sl_bytes_u32(&s.code);
    if (s.n == 0 || s.code.at == NULL || first == UINT32_MAX || count > UINT32_MAX - first) {
        return;
    }
    for (uint32_t i = 0; i < count && !s.code.bad; i++) {
        int32_t answer;
        sl_bytes_t body = sl_bytes_take(&s.code, sl_bytes_u32(&s.code));
        if (!s.code.bad && is_idle(body, &answer)) {
            mark(&s, first + i, answer);
        }
    }
}
