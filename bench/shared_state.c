/*
 * What shared state costs: nanoseconds for a get, a set and a push with a pop, for an increment of a metric; alone, and with four processes
 * at it at once. The lock is a word that is spun on, as nginx's is.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sh_kv.h"
#include "sh_metric.h"
#include "sh_queue.h"

#define SIZE (16u << 20)
#define ROUNDS 1000000u
#define KEYS 1000u

static uint32_t *lock_word;
static sh_kv_t kv;
static sh_queues_t queues;
static sh_metrics_t metrics;
static uint32_t queue, counter, histogram;
static sl_buf_t buf;
static char value[100];

static void lock(void *ud) {
    (void)ud;
    uint32_t free_word = 0;
    while (!__atomic_compare_exchange_n(lock_word, &free_word, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        free_word = 0;
        sched_yield();
    }
}

static void unlock(void *ud) {
    (void)ud;
    __atomic_store_n(lock_word, 0, __ATOMIC_RELEASE);
}

static const sh_env_t env = {.lock = lock, .unlock = unlock};

static void *memory(size_t size) {
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return mem;
}

static sl_str_t key(unsigned i) {
    static char text[32];
    return sl_str(text, (size_t)snprintf(text, sizeof(text), "session:%u", i % KEYS));
}

/* What the others contain, too. */
static void key_alone(unsigned i) {
    __asm__ volatile("" ::"r"(key(i).data) : "memory");
}

static void get(unsigned i) {
    uint32_t cas;
    sl_buf_reset(&buf);
    if (sh_kv_get(&kv, SL_STR("vm"), key(i), &buf, &cas) != SL_OK) {
        abort();
    }
}

static void set(unsigned i) {
    if (sh_kv_set(&kv, SL_STR("vm"), key(i), sl_str(value, sizeof(value)), 0, NULL) != SL_OK) {
        abort();
    }
}

static void push_pop(unsigned i) {
    sh_listener_t tell;
    (void)i;
    sl_buf_reset(&buf);
    if (sh_queue_push(&queues, queue, sl_str(value, sizeof(value)), &tell) != SL_OK || sh_queue_pop(&queues, queue, &buf) != SL_OK) {
        abort();
    }
}

static void add(unsigned i) {
    (void)i;
    (void)sh_metric_add(&metrics, counter, 1);
}

static void record(unsigned i) {
    (void)sh_metric_record(&metrics, histogram, i);
}

static const struct {
    const char *name;
    void (*run)(unsigned i);
} rows[] = {
    {"(making a key)", key_alone},     {"shared data, get 100 bytes", get}, {"shared data, set 100 bytes", set},
    {"queue, push and pop", push_pop}, {"metric, increment", add},          {"metric, record in a histogram", record},
};

static double now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void rounds(void (*run)(unsigned i), unsigned slot) {
    sh_metrics_slot(&metrics, slot);
    for (unsigned i = 0; i < ROUNDS; i++) {
        run(i * 7919);
    }
}

/* Nanoseconds of wall time per operation of one process. */
static double measure(void (*run)(unsigned i), unsigned processes) {
    double start = now_ns();
    for (unsigned p = 1; p < processes; p++) {
        if (fork() == 0) {
            rounds(run, p);
            _exit(0);
        }
    }
    rounds(run, 0);
    for (unsigned p = 1; p < processes; p++) {
        (void)wait(NULL);
    }
    return (now_ns() - start) / ROUNDS;
}

static sl_status_t set_up(void) {
    sh_listener_t me = {.pid = 1}, tell;
    lock_word = memory(64);
    queue = 1;
    metrics = (sh_metrics_t){.lock = lock, .unlock = unlock};
    sl_buf_init(&buf, 1 << 20);
    sl_status_t rc = sh_kv_open(&kv, memory(SIZE), SIZE, true, 1, SH_EVICT_SLRU, &env);
    rc = rc == SL_OK ? sh_queues_open(&queues, memory(SIZE), SIZE, true, 1, &env) : rc;
    rc = rc == SL_OK ? sh_queue_register(&queues, SL_STR("vm"), SL_STR("q"), me, &queue, &tell) : rc;
    rc = rc == SL_OK ? sh_metrics_open(&metrics, memory(SIZE), SIZE, true, 1, 4) : rc;
    rc = rc == SL_OK ? sh_metric_define(&metrics, SH_COUNTER, SL_STR("f"), SL_STR("c"), &counter) : rc;
    rc = rc == SL_OK ? sh_metric_define(&metrics, SH_HISTOGRAM, SL_STR("f"), SL_STR("h"), &histogram) : rc;
    for (unsigned i = 0; rc == SL_OK && i < KEYS; i++) {
        set(i);
    }
    return rc;
}

int main(void) {
    if (set_up() != SL_OK) {
        fprintf(stderr, "cannot set up\n");
        return 1;
    }
    printf("%-34s %12s %12s   ns per operation\n", "", "1 process", "4 processes");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double one = measure(rows[i].run, 1);
        printf("%-34s %12.1f %12.1f\n", rows[i].name, one, measure(rows[i].run, 4));
    }
    return 0;
}
