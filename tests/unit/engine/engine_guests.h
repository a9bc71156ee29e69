/* The guest of test_engine.c, twice: native and as WebAssembly text; and the
 * host functions that it imports. Test-only. */
#ifndef ENGINE_GUESTS_H
#define ENGINE_GUESTS_H

#include "engine.h"
#include "engine_null.h"

#define PAGE 65536

/* ---- host functions
 * ---------------------------------------------------------------------------------------------
 */

static sl_status_t test_host_twice(sl_instance_t *instance, sl_raw_t *args) {
    (void)instance;
    args[0].i32 *= 2;
    return SL_OK;
}

/* Calls the guest's `alloc`, as host functions do that hand bytes to the guest.
 */
static sl_status_t test_host_nested(sl_instance_t *instance, sl_raw_t *args) {
    sl_func_t *alloc;
    sl_err_t err;
    if (sl_instance_func(instance, "alloc", "i:i", &alloc, &err) != SL_OK) {
        return sl_instance_trap(instance, "%s", err.text);
    }
    sl_raw_t inner[1] = {{.i32 = args[0].i32}};
    if (sl_instance_call(instance, alloc, inner, &err) != SL_OK) {
        return SL_TRAP;
    }
    args[0].i32 = inner[0].i32;
    return SL_OK;
}

static sl_status_t test_host_trap(sl_instance_t *instance, sl_raw_t *args) {
    (void)args;
    return sl_instance_trap(instance, "the host says no: %d", 7);
}

static sl_status_t test_host_mem_size(sl_instance_t *instance, sl_raw_t *args) {
    sl_instance_refresh(instance);
    args[0].i32 = (int32_t)instance->mem_size;
    return SL_OK;
}

/* ---- the native guest
 * -------------------------------------------------------------------------------------------
 */

static sl_status_t guest_add(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    args[0].u32 = args[0].u32 + args[1].u32;
    return SL_OK;
}

static sl_status_t guest_wide(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    args[0].f64 = (double)args[0].i64 + (double)args[1].f32 + args[2].f64;
    return SL_OK;
}

static sl_status_t guest_twice(sl_instance_t *in, sl_raw_t *args) {
    return sl_null_import(in, "env", "host_twice", args);
}

static sl_status_t guest_nested(sl_instance_t *in, sl_raw_t *args) {
    return sl_null_import(in, "env", "host_nested", args);
}

static sl_status_t guest_alloc(sl_instance_t *in, sl_raw_t *args) {
    if (args[0].i32 < 0) {
        return sl_instance_trap(in, "unreachable");
    }
    args[0].i32 += 1000;
    return SL_OK;
}

static sl_status_t guest_boom(sl_instance_t *in, sl_raw_t *args) {
    (void)args;
    return sl_instance_trap(in, "unreachable");
}

static sl_status_t guest_call_trap(sl_instance_t *in, sl_raw_t *args) {
    return sl_null_import(in, "env", "host_trap", args);
}

static sl_status_t guest_peek(sl_instance_t *in, sl_raw_t *args) {
    if (args[0].u32 >= in->mem_size) {
        return sl_instance_trap(in, "out of bounds");
    }
    args[0].i32 = in->mem[args[0].u32];
    return SL_OK;
}

static sl_status_t guest_grow(sl_instance_t *in, sl_raw_t *args) {
    int32_t before = (int32_t)(in->mem_size / PAGE);
    args[0].i32 = sl_null_grow(in, (size_t)args[0].u32 * PAGE) == SL_OK ? before : -1;
    return SL_OK;
}

static sl_status_t guest_grow_then_ask(sl_instance_t *in, sl_raw_t *args) {
    guest_grow(in, args);
    return sl_null_import(in, "env", "host_mem_size", args);
}

static const sl_null_export_t test_null_exports[] = {
    {"add", "ii:i", guest_add},          {"wide", "IfF:F", guest_wide},
    {"twice", "i:i", guest_twice},       {"nested", "i:i", guest_nested},
    {"alloc", "i:i", guest_alloc},       {"boom", ":", guest_boom},
    {"call_trap", ":", guest_call_trap}, {"peek", "i:i", guest_peek},
    {"grow", "i:i", guest_grow},         {"grow_then_ask", "i:i", guest_grow_then_ask},
};

static const sl_import_t test_null_imports[] = {
    {"env", "host_twice", "i:i", NULL},
    {"env", "host_nested", "i:i", NULL},
    {"env", "host_trap", ":", NULL},
    {"env", "host_mem_size", ":i", NULL},
};

static const sl_null_guest_t test_null_guest = {
    .name = "calc",
    .exports = test_null_exports,
    .n_exports = sizeof(test_null_exports) / sizeof(test_null_exports[0]),
    .imports = test_null_imports,
    .n_imports = sizeof(test_null_imports) / sizeof(test_null_imports[0]),
    .memory_bytes = PAGE,
    .state_bytes = 16,
};

/* ---- the same guest as WebAssembly text ------------------------------------------------------------------------- */

#define TEST_WAT                                                                                                                           \
    "(module $calc"                                                                                                                        \
    "  (import \"env\" \"host_twice\" (func $twice (param i32) (result i32)))"                                                             \
    "  (import \"env\" \"host_nested\" (func $nested (param i32) (result i32)))"                                                           \
    "  (import \"env\" \"host_trap\" (func $trap))"                                                                                        \
    "  (import \"env\" \"host_mem_size\" (func $mem_size (result i32)))"                                                                   \
    "  (memory (export \"memory\") 1)"                                                                                                     \
    "  (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))"                                         \
    "  (func (export \"wide\") (param i64 f32 f64) (result f64)"                                                                           \
    "    (f64.add (f64.add (f64.convert_i64_s (local.get 0)) (f64.promote_f32 (local.get 1))) (local.get 2)))"                             \
    "  (func (export \"twice\") (param i32) (result i32) (call $twice (local.get 0)))"                                                     \
    "  (func (export \"nested\") (param i32) (result i32) (call $nested (local.get 0)))"                                                   \
    "  (func $alloc (export \"alloc\") (param i32) (result i32)"                                                                           \
    "    (if (i32.lt_s (local.get 0) (i32.const 0)) (then unreachable))"                                                                   \
    "    (i32.add (local.get 0) (i32.const 1000)))"                                                                                        \
    "  (func $boom (export \"boom\") unreachable)"                                                                                         \
    "  (func $call_trap (export \"call_trap\") (call $trap))"                                                                              \
    "  (func (export \"peek\") (param i32) (result i32) (i32.load8_u (local.get 0)))"                                                      \
    "  (func $grow (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))"                                                \
    "  (func (export \"grow_then_ask\") (param i32) (result i32) (drop (call $grow (local.get 0))) (call $mem_size)))"

static const struct {
    const char *name;
    const char *guest; /* what is given to sl_module_compile */
} test_engines[] = {
    {"wasmtime", TEST_WAT},
    {"null", "null:calc"},
};
enum { TEST_N_ENGINES = sizeof(test_engines) / sizeof(test_engines[0]) };

#endif
