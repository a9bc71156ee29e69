#include "sl_watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine_ops.h"

#define TICK_NS 4000000
#define SIGNAL SIGVTALRM

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

typedef struct watch_s watch_t;

/* One of the two timers. Its address comes with the signal. */
typedef struct {
    timer_t id;
    watch_t *watch;
    void (*tick)(watch_t *w);
} ticker_t;

struct watch_s {
    sl_watch_t head;
    sl_engine_t *engine;
    ticker_t budget;  /* on the CPU clock of the thread */
    ticker_t slice;   /* on the monotonic clock: the CPU clock ticks no finer than the kernel's own timer */
    bool was_blocked; /* the signal, in this thread */
    /* The handler's own. */
    unsigned timed;    /* the call that is being timed */
    uint64_t since_ns; /* CPU clock at the first tick in it */
    unsigned sliced;   /* the slice that was seen at the last tick */
};

uint64_t sl_watch_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t sl_watch_call_ns(const sl_watch_t *watch) {
    return sl_watch_cpu_ns() - ((const watch_t *)watch)->since_ns + TICK_NS;
}

static void set_timer(const ticker_t *t, long interval_ns) {
    struct itimerspec spec = {.it_interval = {0, interval_ns}, .it_value = {0, interval_ns}};
    timer_settime(t->id, 0, &spec, NULL);
}

void sl_watch_arm(sl_watch_t *watch) {
    atomic_store_explicit(&watch->armed, true, memory_order_relaxed);
    set_timer(&((watch_t *)watch)->budget, TICK_NS);
}

void sl_watch_arm_slices(sl_watch_t *watch) {
    atomic_store_explicit(&watch->slice_armed, true, memory_order_relaxed);
    set_timer(&((watch_t *)watch)->slice, SL_WATCH_SLICE_NS);
}

/* Runs on the thread that it watches, between two of its instructions; async-signal-safe calls only. */
static void budget_tick(watch_t *w) {
    unsigned calls = atomic_load_explicit(&w->head.calls, memory_order_relaxed);
    uint32_t budget_ms = sl_watch_budget_ms(&w->head);
    if (budget_ms != 0) {
        atomic_store_explicit(&w->head.ticked, true, memory_order_relaxed);
    }
    if (calls != w->timed) {
        w->timed = calls;
        w->since_ns = sl_watch_cpu_ns();
    } else if (budget_ms == 0) {
        atomic_store_explicit(&w->head.armed, false, memory_order_relaxed);
        set_timer(&w->budget, 0);
    } else if (sl_watch_cpu_ns() - w->since_ns >= (uint64_t)budget_ms * 1000000u) {
        atomic_store_explicit(&w->head.expired, true, memory_order_relaxed);
        w->engine->ops->engine_tick(w->engine);
    }
}

static void slice_tick(watch_t *w) {
    unsigned slices = atomic_load_explicit(&w->head.slices, memory_order_relaxed);
    if (atomic_load_explicit(&w->head.slicing, memory_order_relaxed)) {
        atomic_store_explicit(&w->head.slice_over, true, memory_order_relaxed);
        w->engine->ops->engine_tick(w->engine);
    } else if (slices == w->sliced) {
        atomic_store_explicit(&w->head.slice_armed, false, memory_order_relaxed);
        set_timer(&w->slice, 0);
    }
    w->sliced = slices;
}

static void tick(const ticker_t *t) {
    t->tick(t->watch);
}

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    int error = errno;
    if (info->si_code == SI_TIMER && info->si_value.sival_ptr != NULL) {
        tick(info->si_value.sival_ptr);
    }
    errno = error;
}

static int take_signal(watch_t *w) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGNAL, &action, NULL) != 0) {
        return errno;
    }
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    int error = pthread_sigmask(SIG_UNBLOCK, &set, &before);
    w->was_blocked = error == 0 && sigismember(&before, SIGNAL) == 1;
    return error;
}

static int make_timer(watch_t *w, ticker_t *t, clockid_t clock, void (*tick_fn)(watch_t *w)) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL, .sigev_value = {.sival_ptr = t}};
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    t->watch = w;
    t->tick = tick_fn;
    return timer_create(clock, &event, &t->id) == 0 ? 0 : errno;
}

static int make_timers(watch_t *w) {
    int error = make_timer(w, &w->budget, CLOCK_THREAD_CPUTIME_ID, budget_tick);
    if (error != 0) {
        return error;
    }
    error = make_timer(w, &w->slice, CLOCK_MONOTONIC, slice_tick);
    if (error != 0) {
        timer_delete(w->budget.id);
    }
    return error;
}

static void block_signal(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    pthread_sigmask(how, &set, NULL);
}

sl_status_t sl_watch_new(sl_engine_t *engine, sl_watch_t **out, sl_err_t *err) {
    watch_t *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "CPU budgets: out of memory");
    }
    w->engine = engine;
    int error = take_signal(w);
    error = error == 0 ? make_timers(w) : error;
    if (error != 0) {
        free(w);
        return sl_err_set(err, SL_FAILED, "CPU budgets: the kernel gives no timer: %s", strerror(error));
    }
    *out = &w->head;
    return SL_OK;
}

void sl_watch_free(sl_watch_t *watch) {
    watch_t *w = (watch_t *)watch;
    if (w == NULL) {
        return;
    }
    /* A tick that is on its way is delivered before timer_delete returns to us, or not at all: the signal is blocked while it goes. */
    block_signal(SIG_BLOCK);
    timer_delete(w->budget.id);
    timer_delete(w->slice.id);
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGNAL);
    struct timespec now = {0, 0};
    while (sigtimedwait(&set, &info, &now) == SIGNAL) {
        const ticker_t *t = info.si_code == SI_TIMER ? info.si_value.sival_ptr : NULL;
        if (t != NULL && t != &w->budget && t != &w->slice) {
            tick(t); /* of another watch of this thread */
        }
    }
    if (!w->was_blocked) {
        block_signal(SIG_UNBLOCK);
    }
    free(w);
}
