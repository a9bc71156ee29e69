#include "cf_guest.h"

#include <stdio.h>

#include "engine_null.h"

/* Where the guest is written in C: its "linear memory" is in->mem, whose address changes whenever the host runs. */

static uint32_t load32(const sl_instance_t *in, uint32_t at) {
    uint32_t v;
    memcpy(&v, in->mem + at, sizeof(v));
    return v;
}

static void store32(sl_instance_t *in, uint32_t at, uint32_t v) {
    memcpy(in->mem + at, &v, sizeof(v));
}

static bool inside(const sl_instance_t *in, uint32_t at, uint32_t len) {
    return at <= in->mem_size && len <= in->mem_size - at;
}

static const cf_import_t *declared;

static sl_status_t call_import(sl_instance_t *in, uint32_t row, sl_raw_t *args) {
    return sl_null_import(in, declared[row].module, declared[row].name, args);
}

static sl_status_t report(sl_instance_t *in, char tag, uint32_t id, uint32_t at, uint32_t len) {
    static const char digits[] = "0123456789abcdef";
    len = len > CF_SHOW_MAX ? CF_SHOW_MAX : len;
    if (!inside(in, at, len)) {
        return sl_instance_trap(in, "out of bounds");
    }
    char *p = (char *)in->mem + CF_REPORT;
    p += sprintf(p, "@@%c%08x:", tag, (unsigned)id);
    for (uint32_t i = 0; i < len; i++) {
        *p++ = digits[in->mem[at + i] >> 4];
        *p++ = digits[in->mem[at + i] & 15];
    }
    *p++ = '.';
    sl_raw_t args[3] = {{.u32 = 2}, {.u32 = CF_REPORT}, {.u32 = (uint32_t)(p - (char *)in->mem) - CF_REPORT}};
    return sl_null_import(in, "env", "proxy_log", args);
}

static uint64_t argument(const sl_instance_t *in, uint32_t at) {
    uint32_t kind = load32(in, at), low = load32(in, at + 4), high = load32(in, at + 8);
    if (kind == CF_ARG_LITERAL) {
        return (uint64_t)high << 32 | low;
    }
    uint64_t v = 0;
    if (inside(in, low, 8)) {
        memcpy(&v, in->mem + low, kind == CF_ARG_U64_AT ? 8 : 4);
    }
    return v;
}

static sl_status_t op_call(sl_instance_t *in, uint32_t id, uint32_t at) {
    sl_raw_t args[16] = {{0}};
    uint32_t row = load32(in, at), n = load32(in, at + 4);
    for (uint32_t i = 0; i < n && i < 16; i++) {
        args[i].u64 = argument(in, at + 8 + 12 * i);
    }
    sl_status_t rc = call_import(in, row, args);
    if (rc != SL_OK) {
        return rc;
    }
    store32(in, CF_RES, args[0].u32);
    return report(in, 'R', id, CF_RES, 4);
}

static sl_status_t op_store(sl_instance_t *in, uint32_t at) {
    uint32_t to = load32(in, at), len = load32(in, at + 4);
    if (!inside(in, to, len)) {
        return sl_instance_trap(in, "out of bounds");
    }
    memcpy(in->mem + to, in->mem + at + 8, len);
    return SL_OK;
}

static sl_status_t exec(sl_instance_t *in, uint32_t op, uint32_t id, uint32_t at) {
    switch (op) {
    case CF_OP_CALL:
        return op_call(in, id, at);
    case CF_OP_STORE:
        return op_store(in, at);
    case CF_OP_SHOW:
        return report(in, 'M', id, load32(in, at), load32(in, at + 4));
    case CF_OP_SHOWREF:
        return report(in, 'V', id, load32(in, load32(in, at)), load32(in, load32(in, at + 4)));
    case CF_OP_RETURN:
        store32(in, CF_RET, load32(in, at));
        return SL_OK;
    case CF_OP_CBARGS:
        return report(in, 'A', id, CF_CBARGS, 4 * load32(in, at));
    default:
        return sl_instance_trap(in, "unreachable");
    }
}

static sl_status_t load_program(sl_instance_t *in) {
    sl_raw_t args[5] = {{.u32 = 6}, {.u32 = 0}, {.u32 = 0x7fffffff}, {.u32 = CF_PROG}, {.u32 = CF_PROG_LEN}};
    return sl_null_import(in, "env", "proxy_get_buffer_bytes", args);
}

static sl_status_t run(sl_instance_t *in, cf_callback_id_t cb, sl_raw_t *args) {
    for (uint32_t i = 0; i < 5; i++) {
        store32(in, CF_CBARGS + 4 * i, args[i].u32);
    }
    if (load32(in, CF_PROG) == 0) {
        sl_status_t rc = load_program(in);
        if (rc != SL_OK) {
            return rc;
        }
    }
    uint32_t count = load32(in, CF_COUNTS + 4 * (uint32_t)cb) + 1;
    store32(in, CF_COUNTS + 4 * (uint32_t)cb, count);
    store32(in, CF_RET, cf_callbacks[cb].default_return);
    uint32_t at = load32(in, CF_PROG), end = at + load32(in, CF_PROG_LEN);
    for (uint32_t next; at != end; at = next) {
        uint32_t head = load32(in, at), nth = head >> 16;
        next = at + 12 + 4 * load32(in, at + 4);
        if ((head >> 8 & 0xff) != (uint32_t)cb || (nth != 0 && nth != count)) {
            continue;
        }
        sl_status_t rc = exec(in, head & 0xff, load32(in, at + 8), at + 12);
        if (rc != SL_OK) {
            return rc;
        }
    }
    args[0].u32 = load32(in, CF_RET);
    return SL_OK;
}

static sl_status_t guest_malloc(sl_instance_t *in, sl_raw_t *args) {
    uint32_t size = args[0].u32, mode = load32(in, CF_MALLOC_MODE);
    uint32_t heap = load32(in, CF_HEAP);
    heap = heap == 0 ? CF_HEAP_START : heap;
    if (mode == CF_MALLOC_TRAP) {
        return sl_instance_trap(in, "malloc gave up");
    }
    if (mode == CF_MALLOC_GROW && sl_null_grow(in, 65536) != SL_OK) {
        return sl_instance_trap(in, "no growth");
    }
    args[0].u32 = heap;
    if (mode == CF_MALLOC_FAIL || size > CF_MEMORY - heap) {
        args[0].u32 = 0;
    } else if (mode == CF_MALLOC_WILD) {
        args[0].u32 = 0xfffffff0u;
    } else {
        store32(in, CF_HEAP, (heap + size + 7) & ~7u);
    }
    return SL_OK;
}

static sl_status_t guest_marker(sl_instance_t *in, sl_raw_t *args) {
    (void)in, (void)args;
    return SL_OK;
}

static sl_status_t callback(sl_instance_t *in, sl_raw_t *args, cf_callback_id_t cb, const char *sig) {
    sl_raw_t copy[5] = {{0}};
    memcpy(copy, args, (size_t)(strchr(sig, ':') - sig) * sizeof(copy[0]));
    sl_status_t rc = run(in, cb, copy);
    args[0] = copy[0];
    return rc;
}

#define CALLBACK_FUNCTIONS(id, name, sig2, sig1, ret)                                                                                      \
    static sl_status_t cb2_##id(sl_instance_t *in, sl_raw_t *args) {                                                                       \
        return callback(in, args, CF_##id, sig2);                                                                                          \
    }                                                                                                                                      \
    static sl_status_t cb1_##id(sl_instance_t *in, sl_raw_t *args) {                                                                       \
        return callback(in, args, CF_##id, sig1);                                                                                          \
    }
CF_CALLBACKS(CALLBACK_FUNCTIONS)

#define EXPORT_2(id, name, sig2, sig1, ret) {name, sig2, cb2_##id},
#define EXPORT_1(id, name, sig2, sig1, ret) {name, sig1, cb1_##id},
static const sl_null_export_t exports_0_2_1[] = {
    {"proxy_abi_version_0_2_1", ":", guest_marker}, {"malloc", "i:i", guest_malloc}, CF_CALLBACKS(EXPORT_2)};
static const sl_null_export_t exports_0_2_0[] = {
    {"proxy_abi_version_0_2_0", ":", guest_marker}, {"malloc", "i:i", guest_malloc}, CF_CALLBACKS(EXPORT_2)};
static const sl_null_export_t exports_0_1_0[] = {
    {"proxy_abi_version_0_1_0", ":", guest_marker}, {"malloc", "i:i", guest_malloc}, CF_CALLBACKS(EXPORT_1)};

static sl_import_t null_imports[256];

static sl_null_guest_t guests[CF_ABI_N] = {
    {.name = "conformance-0_2_1", .exports = exports_0_2_1},
    {.name = "conformance-0_2_0", .exports = exports_0_2_0},
    {.name = "conformance-0_1_0", .exports = exports_0_1_0},
};

sl_status_t cf_null_register(const cf_import_t *imports, size_t n_imports) {
    if (n_imports > sizeof(null_imports) / sizeof(null_imports[0])) {
        return SL_NO_MEMORY;
    }
    declared = imports;
    for (size_t i = 0; i < n_imports; i++) {
        null_imports[i] = (sl_import_t){imports[i].module, imports[i].name, imports[i].sig, NULL};
    }
    for (size_t i = 0; i < CF_ABI_N; i++) {
        guests[i].n_exports = sizeof(exports_0_2_1) / sizeof(exports_0_2_1[0]);
        guests[i].imports = null_imports;
        guests[i].n_imports = n_imports;
        guests[i].memory_bytes = CF_MEMORY;
        sl_status_t rc = sl_null_register(&guests[i]);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}
