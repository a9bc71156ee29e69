/* Instances, and calls from the host into them. */
#include "wasmtime_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "module_rewriter.h"
#include "sl_watch.h"

static_assert(sizeof(sl_raw_t) == sizeof(wasmtime_val_raw_t), "arguments are passed to Wasmtime as they are");
static_assert(_Alignof(sl_raw_t) <= _Alignof(wasmtime_val_raw_t), "Wasmtime's slots are read as ours");
static_assert(offsetof(sl_raw_t, i64) == offsetof(wasmtime_val_raw_t, i64), "members of the two unions begin together");
#define MAX_TABLE_ELEMENTS (1 << 20)
#define MAX_TABLES 16
#define MAX_MEMORIES 2 /* the guest's, and the cell of the rewriter */

static bool lookup(wt_instance_t *in, sl_str_t name, wasmtime_extern_t *out) {
    return wasmtime_instance_export_get(in->ctx, &in->instance, name.data, name.len, out);
}

static void find_memory(wt_instance_t *in) {
    const sl_extern_t *export = ((wt_module_t *)in->head.module)->memory;
    wasmtime_extern_t item;
    if (export == NULL || !lookup(in, export->name, &item) || item.kind != WASMTIME_EXTERN_MEMORY) {
        return;
    }
    in->memory = item.of.memory;
    in->has_memory = true;
    in->head.mem = wasmtime_memory_data(in->ctx, &in->memory);
    in->linear = sl_linear_at(in->head.mem);
}

void wt_instance_refresh(sl_instance_t *instance) {
    wt_refresh((wt_instance_t *)instance);
}

void wt_instance_free(sl_instance_t *instance) {
    wt_instance_t *in = (wt_instance_t *)instance;
    wt_slices_free(in);
    if (in->store != NULL) {
        wasmtime_store_delete(in->store);
    }
    wt_links_free(in->own_links);
    free(in->funcs);
    free(in->globals);
    free(in->sequences);
    sl_instance_head_deinit(instance);
    free(in);
}

static bool has_frames(wasmtime_error_t *error) {
    wasm_frame_vec_t frames;
    wasmtime_error_wasm_trace(error, &frames);
    bool some = frames.size != 0;
    wasm_frame_vec_delete(&frames);
    return some;
}

/* Wasmtime's own limit; ours take its place where the memory is known (refusals are counted). Memory that is not exported has this one. */
static void limit(wt_instance_t *in, int64_t max_memory_bytes) {
    wasmtime_store_limiter(in->store, max_memory_bytes, MAX_TABLE_ELEMENTS, 1, MAX_TABLES, MAX_MEMORIES);
}

static sl_status_t own_limits(wt_instance_t *in, uint64_t max_memory_bytes, sl_err_t *err) {
    if (in->linear == NULL) {
        return SL_OK;
    }
    limit(in, -1);
    return sl_linear_limit(in->linear, &in->head, max_memory_bytes > SIZE_MAX ? SIZE_MAX : (size_t)max_memory_bytes, err);
}

static sl_status_t instantiate(wt_instance_t *in, const wt_links_t *links, sl_err_t *err) {
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = wasmtime_instance_pre_instantiate(links->pre, in->ctx, &in->instance, &trap);
    if (trap != NULL || (error != NULL && has_frames(error))) {
        return wt_set_trap(err, &in->head, error, trap);
    }
    if (error != NULL) {
        return wt_set_error(err, SL_NO_MEMORY, "cannot make an instance", error);
    }
    find_memory(in);
    wt_refresh(in);
    return SL_OK;
}

/* The guest has seen that the engine's counter moved on: for its own call, or for that of another thread. */
static wasmtime_error_t *on_epoch(const wasmtime_context_t *ctx, void *data, uint64_t *delta, wasmtime_update_deadline_kind_t *kind) {
    (void)ctx;
    wt_instance_t *in = data;
    *delta = 1;
    *kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
    if (in->slices != NULL && in->slices->running) {
        return wt_slices_epoch(in, kind);
    }
    if (in->head.watch != NULL && sl_watch_expired(in->head.watch)) {
        sl_instance_over_budget(&in->head, sl_watch_budget_ms(in->head.watch));
        return wasmtime_error_new(in->head.trap);
    }
    return NULL;
}

static void watch_epochs(wt_instance_t *in) {
    wasmtime_store_epoch_deadline_callback(in->store, on_epoch, in, NULL);
    wasmtime_context_set_epoch_deadline(in->ctx, 1);
}

/* The start section is an export of the rewritten module, see module_rewriter.h. */
static sl_status_t run_start(wt_instance_t *in, sl_err_t *err) {
    wasmtime_extern_t item;
    wasmtime_val_raw_t none;
    wasm_trap_t *trap = NULL;
    if (!lookup(in, SL_STR(SL_REWRITER_START), &item) || item.kind != WASMTIME_EXTERN_FUNC) {
        return SL_OK;
    }
    wasmtime_error_t *error = wasmtime_func_call_unchecked(in->ctx, &item.of.func, &none, 0, &trap);
    if (error != NULL || trap != NULL) {
        return wt_set_trap(err, &in->head, error, trap);
    }
    wt_refresh(in);
    return SL_OK;
}

sl_status_t wt_instance_new(sl_module_t *m, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                            bool start, sl_instance_t **out, sl_err_t *err) {
    wt_instance_t *in = calloc(1, sizeof(*in));
    if (in == NULL) {
        return wt_no_memory(err);
    }
    sl_instance_head_init(&in->head, m, limits, user);
    wt_links_t *links = NULL;
    sl_status_t rc = wt_links_get(in, imports, n, &links, err);
    if (rc == SL_OK) {
        in->store = wasmtime_store_new(((wt_engine_t *)m->engine)->wasm, in, NULL);
        in->ctx = wasmtime_store_context(in->store);
        watch_epochs(in);
        limit(in, limits->max_memory_bytes > INT64_MAX ? INT64_MAX : (int64_t)limits->max_memory_bytes);
        rc = instantiate(in, links, err);
    }
    rc = rc == SL_OK ? own_limits(in, limits->max_memory_bytes, err) : rc;
    if (rc == SL_OK && start && m->info.has_start) {
        rc = run_start(in, err);
    }
    if (rc != SL_OK) {
        wt_instance_free(&in->head);
        return rc;
    }
    *out = &in->head;
    return SL_OK;
}

static size_t slots_of(const char *sig) {
    size_t n_params = strcspn(sig, ":");
    size_t n_results = strlen(sig) - n_params - 1;
    return n_params > n_results ? n_params : n_results;
}

sl_func_t *wt_instance_func(sl_instance_t *instance, const sl_extern_t *export) {
    wt_instance_t *in = (wt_instance_t *)instance;
    const sl_module_info_t *info = &instance->module->info;
    if (in->funcs == NULL) {
        in->funcs = calloc(info->n_exports, sizeof(*in->funcs));
    }
    wasmtime_extern_t item;
    if (in->funcs == NULL || !lookup(in, export->name, &item) || item.kind != WASMTIME_EXTERN_FUNC) {
        return NULL;
    }
    wt_func_t *f = &in->funcs[export - info->exports];
    f->func = item.of.func;
    f->n_slots = slots_of(export->sig);
    f->sig = export->sig;
    return (sl_func_t *)f;
}

/* ---- sequences ---- */

static bool find_sequences(wt_instance_t *in) {
    static const char *const types[SL_SEQUENCES] = {"iiii:i", "iiii:i", "i:", "i:"};
    wasmtime_extern_t item;
    in->sequences = calloc(SL_SEQUENCES, sizeof(*in->sequences));
    if (in->sequences == NULL || !lookup(in, SL_STR(SL_REWRITER_CELL), &item) || item.kind != WASMTIME_EXTERN_MEMORY) {
        return false;
    }
    in->part = (volatile int32_t *)wasmtime_memory_data(in->ctx, &item.of.memory);
    for (unsigned i = 0; i < SL_SEQUENCES; i++) {
        char name[64];
        int len = snprintf(name, sizeof(name), SL_REWRITER_SEQUENCE "%u", i);
        if (lookup(in, sl_str(name, (size_t)len), &item) && item.kind == WASMTIME_EXTERN_FUNC) {
            in->sequences[i] = (wt_func_t){.func = item.of.func, .n_slots = slots_of(types[i]), .sig = types[i]};
        }
    }
    return true;
}

sl_func_t *wt_instance_sequence(sl_instance_t *instance, sl_sequence_t which) {
    wt_instance_t *in = (wt_instance_t *)instance;
    if (((const wt_module_t *)instance->module)->n_sequences == 0 || (in->sequences == NULL && !find_sequences(in))) {
        return NULL;
    }
    return in->sequences[which].sig != NULL ? (sl_func_t *)&in->sequences[which] : NULL;
}

uint32_t wt_instance_part(sl_instance_t *instance) {
    const wt_instance_t *in = (const wt_instance_t *)instance;
    return in->part != NULL ? (uint32_t)*in->part : 0;
}

/* No member has this number. */
void wt_instance_stop(sl_instance_t *instance) {
    const wt_instance_t *in = (const wt_instance_t *)instance;
    if (in->part != NULL) {
        *in->part = INT32_MAX;
    }
}

/* From a host function of a call in slices: this one runs to its end. */
static __attribute__((noinline, cold)) wasmtime_error_t *call_nested(wt_instance_t *in, const wt_func_t *f, sl_raw_t *args,
                                                                     wasm_trap_t **trap) {
    wt_slices_t *outer = in->slices;
    outer->nested++;
    outer->nested_since_ns = sl_watch_cpu_ns();
    wasmtime_error_t *error = wasmtime_func_call_unchecked(in->ctx, &f->func, (wasmtime_val_raw_t *)args, f->n_slots, trap);
    outer->nested--;
    return error;
}

sl_status_t wt_instance_call(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, sl_err_t *err) {
    wt_instance_t *in = (wt_instance_t *)instance;
    const wt_func_t *f = (const wt_func_t *)func;
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = __builtin_expect(in->slices == NULL, 1)
                                  ? wasmtime_func_call_unchecked(in->ctx, &f->func, (wasmtime_val_raw_t *)args, f->n_slots, &trap)
                                  : call_nested(in, f, args, &trap);
    if (__builtin_expect(error != NULL || trap != NULL, 0)) {
        return wt_set_trap(err, instance, error, trap);
    }
    return SL_OK;
}
