#include "sl_parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum { MAX_THREADS = 16 };

typedef struct {
    atomic_size_t next;
    size_t n;
    void (*fn)(void *ud, size_t i);
    void *ud;
} work_t;

static void *run(void *data) {
    work_t *w = data;
    for (size_t i = atomic_fetch_add(&w->next, 1); i < w->n; i = atomic_fetch_add(&w->next, 1)) {
        w->fn(w->ud, i);
    }
    return NULL;
}

/* Those that this process may use. */
static unsigned processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static size_t n_threads(size_t n, unsigned most) {
    size_t threads = most != 0 ? most : processors();
    threads = threads < MAX_THREADS ? threads : MAX_THREADS;
    return threads < n ? threads : n;
}

void sl_parallel(size_t n, unsigned max_threads, void (*fn)(void *ud, size_t i), void *ud) {
    work_t w = {.n = n, .fn = fn, .ud = ud};
    pthread_t threads[MAX_THREADS];
    size_t wanted = n_threads(n, max_threads), started = 0;
    sigset_t all, before;
    atomic_init(&w.next, 0);
    sigfillset(&all);
    if (wanted > 1 && pthread_sigmask(SIG_SETMASK, &all, &before) == 0) {
        while (started < wanted - 1 && pthread_create(&threads[started], NULL, run, &w) == 0) {
            started++;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    run(&w);
    while (started > 0) {
        pthread_join(threads[--started], NULL);
    }
}
