/*
 * Calls that stop in the middle: Wasmtime's asynchronous calls, which run on a stack of their own (a fiber, kept by the store) and leave it
 * where the guest looks at the epoch. What a host function calls in turn never stops (and may be given a time). A host function itself
 * stops by calling an asynchronous function of Wasmtime's kind, which is not done yet when it is first asked: it leaves the stack to the
 * next poll, with the frames of the guest and of the host function on it.
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
        in->slices->dropped = true;
        wasmtime_call_future_delete(in->slices->future);
    }
    free(in->slices);
    in->slices = NULL;
}

static bool over_budget(const wt_instance_t *in) {
    const wt_slices_t *sl = in->slices;
    uint64_t used_ns = sl->used_ns + (sl_watch_cpu_ns() - sl->since_ns) + in->head.charged_ns;
    return sl->budget_ms != 0 && used_ns >= (uint64_t)sl->budget_ms * 1000000u;
}

static bool nested_too_long(const wt_instance_t *in) {
    uint32_t most_ms = in->slices->nested != 0 ? in->head.inner_ms : 0;
    return most_ms != 0 && sl_watch_cpu_ns() - in->slices->nested_since_ns >= (uint64_t)most_ms * 1000000u;
}

wasmtime_error_t *wt_slices_epoch(wt_instance_t *in, wasmtime_update_deadline_kind_t *kind) {
    wt_slices_t *sl = in->slices;
    if (over_budget(in)) {
        sl_instance_over_budget(&in->head, sl->budget_ms);
        return wasmtime_error_new(in->head.trap);
    }
    if (nested_too_long(in)) {
        sl_instance_trap(&in->head, "it does not stop, and has held the event loop for more than %u ms", in->head.inner_ms);
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
    sl->dropped = false;
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

/* Wasmtime unwinds the guest's stack. A host function that has stopped on it learns of it, and returns. */
sl_status_t wt_call_drop(sl_instance_t *instance, sl_err_t *err) {
    wt_instance_t *in = (wt_instance_t *)instance;
    in->slices->dropped = true;
    wasmtime_call_future_delete(in->slices->future);
    in->slices->future = NULL;
    sl_instance_trap(instance, "ended in the middle");
    return sl_err_set(err, SL_TRAP, "%s", instance->trap);
}

/* ---- host functions that stop ---- */

static bool second_time(void *env) {
    wt_slices_t *sl = env;
    bool done = sl->paused;
    sl->paused = true;
    return done;
}

static void stop_once(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t n_args, wasmtime_val_t *results,
                      size_t n_results, wasm_trap_t **trap, wasmtime_async_continuation_t *then) {
    (void)env, (void)args, (void)n_args, (void)results, (void)n_results, (void)trap;
    const wt_instance_t *in = wasmtime_context_get_data(wasmtime_caller_context(caller));
    in->slices->paused = false;
    *then = (wasmtime_async_continuation_t){.callback = second_time, .env = in->slices};
}

wasmtime_linker_t *wt_pauses_new(wasm_engine_t *engine) {
    wasmtime_linker_t *linker = wasmtime_linker_new(engine);
    wasm_functype_t *type = wasm_functype_new_0_0();
    wasmtime_error_t *error = wasmtime_linker_define_async_func(linker, "", 0, "pause", 5, type, stop_once, NULL, NULL);
    wasm_functype_delete(type);
    if (error != NULL) {
        wasmtime_error_delete(error);
        wasmtime_linker_delete(linker);
        return NULL;
    }
    return linker;
}

static bool find_pause(wt_instance_t *in) {
    wt_slices_t *sl = in->slices;
    wasmtime_extern_t item;
    if (!sl->has_pause && wasmtime_linker_get(((wt_engine_t *)in->head.module->engine)->pauses, in->ctx, "", 0, "pause", 5, &item)) {
        sl->pause = item.of.func;
        sl->has_pause = true;
    }
    return sl->has_pause;
}

static sl_status_t stop_here(wt_instance_t *in) {
    wasmtime_val_raw_t none;
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = find_pause(in) ? wasmtime_func_call_unchecked(in->ctx, &in->slices->pause, &none, 0, &trap) : NULL;
    if (error != NULL) { /* it is being dropped */
        wasmtime_error_delete(error);
    }
    if (trap != NULL) {
        wasm_trap_delete(trap);
    }
    return error == NULL && trap == NULL ? SL_OK : sl_instance_trap(&in->head, "ended in the middle");
}

static sl_status_t pause_slices(wt_instance_t *in) {
    wt_slices_t *sl = in->slices;
    if (sl->dropped) {
        return SL_TRAP;
    }
    if (over_budget(in)) {
        return sl_instance_over_budget(&in->head, sl->budget_ms);
    }
    if (sl->nested != 0 || in->head.watch == NULL || !sl_watch_slice_over(in->head.watch)) {
        return SL_OK;
    }
    return stop_here(in);
}

sl_status_t wt_call_pause(sl_instance_t *instance) {
    wt_instance_t *in = (wt_instance_t *)instance;
    if (in->slices != NULL && in->slices->future != NULL) {
        return pause_slices(in);
    }
    return instance->watch != NULL && sl_watch_expired(instance->watch)
               ? sl_instance_over_budget(instance, sl_watch_budget_ms(instance->watch))
               : SL_OK;
}
