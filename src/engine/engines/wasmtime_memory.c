/* Linear memory of Wasmtime's instances is ours (linear_memory.h); images of instances. */
#include "wasmtime_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "module_rewriter.h"

/* ---- memories for Wasmtime ---- */

static uint8_t *get(void *env, size_t *bytes, size_t *capacity) {
    const sl_linear_t *memory = env;
    *bytes = sl_linear_size(memory);
    *capacity = sl_linear_capacity(memory);
    return sl_linear_base(memory);
}

static wasmtime_error_t *grow(void *env, size_t bytes) {
    return sl_linear_grow(env, bytes) ? NULL : wasmtime_error_new("out of memory");
}

static void finish(void *env) {
    sl_linear_free(env);
}

static wasmtime_error_t *create(void *env, const wasm_memorytype_t *type, size_t minimum, size_t maximum, size_t reserved, size_t guard,
                                wasmtime_linear_memory_t *out) {
    const wt_engine_t *engine = env;
    (void)type;
    (void)maximum; /* Wasmtime sees to it */
    sl_linear_t *memory = sl_linear_new(minimum, reserved, guard, engine->head.dirty);
    if (memory == NULL) {
        return wasmtime_error_new("no address space for a linear memory (is it limited, as by ulimit -v?)");
    }
    *out = (wasmtime_linear_memory_t){.env = memory, .get_memory = get, .grow_memory = grow, .finalizer = finish};
    return NULL;
}

void wt_use_own_memory(wasm_config_t *config, wt_engine_t *engine) {
    wasmtime_memory_creator_t creator = {.env = engine, .new_memory = create};
    wasmtime_config_host_memory_creator_set(config, &creator);
}

/* ---- images ---- */

static bool find_globals(wt_instance_t *in) {
    uint32_t n = ((const wt_module_t *)in->head.module)->n_globals;
    if (in->globals != NULL) {
        return true;
    }
    wasmtime_global_t *globals = calloc((size_t)n + 1, sizeof(*globals));
    for (uint32_t i = 0; i < n && globals != NULL; i++) {
        char name[64];
        wasmtime_extern_t item;
        int len = snprintf(name, sizeof(name), SL_REWRITER_GLOBAL "%u", (unsigned)i);
        if (!wasmtime_instance_export_get(in->ctx, &in->instance, name, (size_t)len, &item) || item.kind != WASMTIME_EXTERN_GLOBAL) {
            free(globals);
            return false;
        }
        globals[i] = item.of.global;
    }
    in->globals = globals;
    return globals != NULL;
}

static void write_value(sl_buf_t *lines, const wasmtime_val_t *value) {
    switch (value->kind) {
    case WASMTIME_I32:
        sl_buf_printf(lines, "i32 %u\n", (unsigned)value->of.i32);
        break;
    case WASMTIME_I64:
        sl_buf_printf(lines, "i64 %llu\n", (unsigned long long)value->of.i64);
        break;
    case WASMTIME_F32:
        sl_buf_printf(lines, "f32 %a\n", (double)value->of.f32);
        break;
    case WASMTIME_F64:
        sl_buf_printf(lines, "f64 %a\n", value->of.f64);
        break;
    case WASMTIME_V128:
        for (size_t i = 0; i < sizeof(value->of.v128); i++) {
            sl_buf_printf(lines, i == 0 ? "v128 %02x" : " %02x", value->of.v128[i]);
        }
        sl_buf_append_char(lines, '\n');
        break;
    default:
        sl_buf_append_cstr(lines, "a reference\n");
    }
}

void wt_globals_write(sl_instance_t *instance, sl_buf_t *lines) {
    wt_instance_t *in = (wt_instance_t *)instance;
    if (!find_globals(in)) {
        return;
    }
    for (uint32_t i = 0; i < ((const wt_module_t *)instance->module)->n_globals; i++) {
        wasmtime_val_t value;
        wasmtime_global_get(in->ctx, &in->globals[i], &value);
        sl_buf_printf(lines, "  %u ", (unsigned)i);
        write_value(lines, &value);
    }
}

/* Two slots for each: value and kind. */
size_t wt_image_slots(const sl_instance_t *instance) {
    return 2 * (size_t)((const wt_module_t *)instance->module)->n_globals;
}

sl_status_t wt_image_save(sl_instance_t *instance, sl_raw_t *slots) {
    wt_instance_t *in = (wt_instance_t *)instance;
    if (!find_globals(in)) {
        return SL_NO_MEMORY;
    }
    for (uint32_t i = 0; i < ((const wt_module_t *)instance->module)->n_globals; i++) {
        wasmtime_val_t value;
        wasmtime_global_get(in->ctx, &in->globals[i], &value);
        memcpy(&slots[2 * i], &value.of, sizeof(slots[0]));
        slots[2 * i + 1].u32 = value.kind;
    }
    return SL_OK;
}

static bool restore_globals(wt_instance_t *in, const sl_raw_t *slots) {
    for (uint32_t i = 0; i < ((const wt_module_t *)in->head.module)->n_globals; i++) {
        wasmtime_val_t value = {.kind = (wasmtime_valkind_t)slots[2 * i + 1].u32};
        memcpy(&value.of, &slots[2 * i], sizeof(slots[0]));
        wasmtime_error_t *error = wasmtime_global_set(in->ctx, &in->globals[i], &value);
        if (error != NULL) {
            wasmtime_error_delete(error);
            return false;
        }
    }
    return true;
}

static bool tell_grown(wt_instance_t *in, size_t pages) {
    uint64_t before;
    wasmtime_error_t *error = wasmtime_memory_grow(in->ctx, &in->memory, pages, &before);
    if (error != NULL) {
        wasmtime_error_delete(error);
        return false;
    }
    return true;
}

/*
 * Wasmtime has no way to make a memory smaller, but asks for its size before it grows: it is told one page less than it shall have, and
 * grown by that page. Should it ever not ask, the size differs afterwards and the instance is dropped.
 */
static bool tell_size(wt_instance_t *in, size_t size) {
    if (sl_linear_size(in->linear) == size) {
        return true; /* as it was told when it grew, if it did */
    }
    size_t now = wasmtime_memory_data_size(in->ctx, &in->memory);
    if (now < size && !tell_grown(in, (size - now) / SL_WASM_PAGE)) {
        return false;
    }
    if (now > size && (!sl_linear_expect(in->linear, size) || !tell_grown(in, 1))) {
        return false;
    }
    return wasmtime_memory_data_size(in->ctx, &in->memory) == size;
}

static sl_status_t restore_memory(wt_instance_t *in, sl_image_t *image, bool again) {
    if (in->linear == NULL || !tell_size(in, image->size)) {
        return SL_FAILED;
    }
    sl_status_t rc = again ? sl_linear_restore(in->linear, image) : sl_linear_load(in->linear, image);
    if (rc == SL_OK) {
        in->head.mem_size = image->size;
    }
    return rc;
}

sl_status_t wt_instance_restore(sl_instance_t *instance, sl_image_t *image, bool again) {
    wt_instance_t *in = (wt_instance_t *)instance;
    if (image->module != instance->module || !find_globals(in)) {
        return SL_FAILED;
    }
    sl_status_t rc = in->has_memory ? restore_memory(in, image, again) : SL_OK;
    if (rc != SL_OK) {
        return rc;
    }
    in->head.trap[0] = '\0';
    return restore_globals(in, image->globals) ? SL_OK : SL_FAILED;
}
