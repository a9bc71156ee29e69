#include "sl_aside.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct sl_aside_s {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool done;
    uint64_t cpu_ns;
    void (*fn)(void *arg);
    void *arg;
};

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *run(void *data) {
    sl_aside_t *a = data;
    a->fn(a->arg);
    pthread_mutex_lock(&a->mutex);
    a->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    a->done = true;
    pthread_cond_signal(&a->ended);
    pthread_mutex_unlock(&a->mutex);
    return NULL;
}

static void init_cond(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

static void aside_free(sl_aside_t *a) {
    pthread_cond_destroy(&a->ended);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}

sl_aside_t *sl_aside_begin(void (*fn)(void *arg), void *arg) {
    sl_aside_t *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    a->fn = fn;
    a->arg = arg;
    pthread_mutex_init(&a->mutex, NULL);
    init_cond(&a->ended);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&a->thread, NULL, run, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        aside_free(a);
        return NULL;
    }
    return a;
}

bool sl_aside_wait(sl_aside_t *a, uint32_t wait_us) {
    uint64_t until = clock_ns(CLOCK_MONOTONIC) + (uint64_t)wait_us * 1000;
    struct timespec then = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
    pthread_mutex_lock(&a->mutex);
    for (int error = 0; !a->done && error == 0;) {
        error = pthread_cond_timedwait(&a->ended, &a->mutex, &then);
    }
    bool done = a->done;
    pthread_mutex_unlock(&a->mutex);
    return done;
}

uint64_t sl_aside_end(sl_aside_t *a) {
    pthread_join(a->thread, NULL);
    uint64_t cpu_ns = a->cpu_ns;
    aside_free(a);
    return cpu_ns;
}
