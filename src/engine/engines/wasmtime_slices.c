/*
 * Calls that stop in the middle: Wasmtime's asynchronous calls, which run on a stack of their own (a fiber, kept by the store) and leave it
 * where the guest looks at the epoch. What is on that stack below the guest, host functions and what they call in turn, never stops.
 */
#include "wasmtime_internal.h"

#include <stdlib.h>

#include "sl_watch.h"

static wasmtime_val_t to_val(char letter, const sl_raw_t *raw) {
    wasmtime_val_t val = {.kind = WASMTIME_I32};
    switch (letter) {
    case 'i':
        val.of.i32 = raw->i32;
        break;
    case 'I':
        val.kind = WASMTIME_I64;
        val.of.i64 = raw->i64;
        break;
    case 'f':
        val.kind = WASMTIME_F32;
        val.of.f32 = raw->f32;
        break;
    default:
        val.kind = WASMTIME_F64;
        val.of.f64 = raw->f64;
    }
    return val;
}

static void from_val(const wasmtime_val_t *val, sl_raw_t *raw) {
    switch (val->kind) {
    case WASMTIME_I32:
        raw->i32 = val->of.i32;
        break;
    case WASMTIME_I64:
        raw->i64 = val->of.i64;
        break;
    case WASMTIME_F32:
        raw->f32 = val->of.f32;
        break;
    default:
        raw->f64 = val->of.f64;
    }
}

void wt_slices_free(wt_instance_t *in) {
    if (in->slices != NULL && in->slices->future != NULL) {
        wasmtime_call_future_delete(in->slices->future);
    }
    free(in->slices);
    in->slices = NULL;
}

static bool over_budget(const wt_slices_t *sl) {
    return sl->budget_ms != 0 && sl->used_ns + (sl_watch_cpu_ns() - sl->since_ns) >= (uint64_t)sl->budget_ms * 1000000u;
}

wasmtime_error_t *wt_slices_epoch(wt_instance_t *in, wasmtime_update_deadline_kind_t *kind) {
    wt_slices_t *sl = in->slices;
    if (over_budget(sl)) {
        sl_instance_over_budget(&in->head, sl->budget_ms);
        return wasmtime_error_new(in->head.trap);
    }
    if (sl->nested == 0 && in->head.watch != NULL && sl_watch_slice_over(in->head.watch)) {
        *kind = WASMTIME_UPDATE_DEADLINE_YIELD;
    }
    return NULL;
}

sl_status_t wt_call_begin(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, sl_err_t *err) {
    wt_instance_t *in = (wt_instance_t *)instance;
    const wt_func_t *f = (const wt_func_t *)func;
    if (in->slices == NULL) {
        in->slices = calloc(1, sizeof(*in->slices));
        if (in->slices == NULL) {
            return wt_no_memory(err);
        }
    }
    wt_slices_t *sl = in->slices;
    size_t n = strcspn(f->sig, ":");
    for (size_t i = 0; i < n; i++) {
        sl->args[i] = to_val(f->sig[i], &args[i]);
    }
    sl->out = args;
    sl->budget_ms = cpu_budget_ms;
    sl->used_ns = 0;
    sl->nested = 0;
    sl->trap = NULL;
    sl->error = NULL;
    sl->future = wasmtime_func_call_async(in->ctx, &f->func, sl->args, n, sl->results, strlen(f->sig) - n - 1, &sl->trap, &sl->error);
    sl->sig = f->sig;
    return SL_OK;
}

static sl_status_t end(wt_instance_t *in, sl_err_t *err) {
    wt_slices_t *sl = in->slices;
    wasmtime_call_future_delete(sl->future);
    sl->future = NULL;
    if (sl->error != NULL || sl->trap != NULL) {
        return wt_set_trap(err, &in->head, sl->error, sl->trap);
    }
    if (sl->sig[strcspn(sl->sig, ":") + 1] != '\0') {
        from_val(&sl->results[0], &sl->out[0]);
    }
    return SL_OK;
}

sl_status_t wt_call_poll(sl_instance_t *instance, sl_err_t *err) {
    wt_instance_t *in = (wt_instance_t *)instance;
    wt_slices_t *sl = in->slices;
    sl->since_ns = sl_watch_cpu_ns();
    sl->running = true;
    if (instance->watch != NULL) {
        sl_watch_slice_begin(instance->watch);
    }
    bool ready = wasmtime_call_future_poll(sl->future);
    uint64_t took_ns = sl_watch_cpu_ns() - sl->since_ns;
    if (instance->watch != NULL) {
        sl_watch_slice_end(instance->watch);
        instance->watch->slice_ns = took_ns;
    }
    sl->running = false;
    if (ready) {
        return end(in, err);
    }
    sl->used_ns += took_ns;
    return SL_AGAIN;
}

/* Wasmtime unwinds the guest's stack: only its own frames are on it. */
sl_status_t wt_call_drop(sl_instance_t *instance, sl_err_t *err) {
    wt_instance_t *in = (wt_instance_t *)instance;
    wasmtime_call_future_delete(in->slices->future);
    in->slices->future = NULL;
    sl_instance_trap(instance, "ended in the middle");
    return sl_err_set(err, SL_TRAP, "%s", instance->trap);
}
