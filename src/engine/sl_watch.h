/*
 * CPU budgets: a watch that stops a guest which runs too long. One for each thread that calls guests.
 *
 * While calls are made, a timer on the CPU clock of the thread ticks every few milliseconds; it is armed by the first call and disarms
 * itself at a tick that finds that no call was made since the last one, so an idle proxy has no timer and a call costs three stores. Time
 * in which the thread does not run (a loaded machine) does not count. A call that has used up its budget is ended by a trap at the
 * guest's next loop iteration or function entry: not before the budget, and no later than SL_WATCH_LATE_MS after it.
 */
#ifndef SL_WATCH_H
#define SL_WATCH_H

#include <stdatomic.h>

#include "engine.h"

#define SL_WATCH_LATE_MS 15

/* What a call in slices runs before it stops, in time of the clock on the wall. */
#define SL_WATCH_SLICE_NS 1000000

/* Written by the thread and by the handler of its own timer signal. Only for the functions below. */
struct sl_watch_s {
    atomic_uint budget_ms; /* of the call that runs; 0: none, or one without a budget */
    atomic_uint calls;     /* that began so far */
    atomic_bool armed;
    atomic_bool expired; /* the call that runs is over its budget */
    atomic_bool ticked;  /* the timer has fired while a call with a budget ran; for whoever puts it back */
    /* Slices: a second timer, which disarms itself the same way. */
    atomic_uint slices;      /* that began so far */
    atomic_bool slicing;     /* one runs */
    atomic_bool slice_armed; /* the timer */
    atomic_bool slice_over;  /* the one that runs has to stop */
    uint64_t slice_ns;       /* CPU time of the latest one; not the handler's */
};

/*
 * A watch for the calling thread over instances of `engine`, which are bound to it by sl_instance_limits_t. It takes the signal SIGVTALRM
 * of the process, and unblocks it in this thread. SL_FAILED: the kernel gives no timer.
 */
sl_status_t sl_watch_new(sl_engine_t *engine, sl_watch_t **out, sl_err_t *err);
void sl_watch_free(sl_watch_t *watch); /* by the same thread; NULL is fine */

void sl_watch_arm(sl_watch_t *watch);

/* Around a call of a guest; calls that this one makes in turn share its budget. 0: as long as it likes. */
static inline void sl_watch_begin(sl_watch_t *watch, uint32_t budget_ms) {
    atomic_store_explicit(&watch->calls, atomic_load_explicit(&watch->calls, memory_order_relaxed) + 1, memory_order_relaxed);
    atomic_store_explicit(&watch->budget_ms, budget_ms, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (__builtin_expect(!atomic_load_explicit(&watch->armed, memory_order_relaxed), 0) && budget_ms != 0) {
        sl_watch_arm(watch);
    }
}

static inline void sl_watch_end(sl_watch_t *watch) {
    atomic_store_explicit(&watch->budget_ms, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&watch->expired, false, memory_order_relaxed);
}

void sl_watch_arm_slices(sl_watch_t *watch);

/* For engines, around a slice. The first may be shorter than SL_WATCH_SLICE_NS, none is longer but for where a guest can stop. */
static inline void sl_watch_slice_begin(sl_watch_t *watch) {
    atomic_store_explicit(&watch->slices, atomic_load_explicit(&watch->slices, memory_order_relaxed) + 1, memory_order_relaxed);
    atomic_store_explicit(&watch->slice_over, false, memory_order_relaxed);
    atomic_store_explicit(&watch->slicing, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&watch->slice_armed, memory_order_relaxed)) {
        sl_watch_arm_slices(watch);
    }
}

static inline void sl_watch_slice_end(sl_watch_t *watch) {
    atomic_store_explicit(&watch->slicing, false, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static inline bool sl_watch_slice_over(const sl_watch_t *watch) {
    return atomic_load_explicit(&watch->slice_over, memory_order_relaxed);
}

/* CPU time of the latest call that the timer has fired in (`ticked`); some milliseconds too much, as it began before the first tick. */
uint64_t sl_watch_call_ns(const sl_watch_t *watch);
/* CPU time of the calling thread. */
uint64_t sl_watch_cpu_ns(void);

/* For engines: whether the call that runs is to be ended, and what its budget was. */
static inline bool sl_watch_expired(const sl_watch_t *watch) {
    return atomic_load_explicit(&watch->expired, memory_order_relaxed);
}
static inline uint32_t sl_watch_budget_ms(const sl_watch_t *watch) {
    return atomic_load_explicit(&watch->budget_ms, memory_order_relaxed);
}

#endif
