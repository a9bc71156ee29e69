#include "st.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAPPINGS 16

static struct {
    void *mem;
    size_t size;
} mappings[MAPPINGS];

typedef struct {
    uint32_t holder; /* pid */
    unsigned resets;
} shared_t;

static shared_t *shared;
static unsigned locks, steps, die_at;

void *st_memory(size_t size_bytes) {
    for (size_t i = 0; i < MAPPINGS; i++) {
        if (mappings[i].mem == NULL) {
            void *mem = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            assert_true(mem != MAP_FAILED);
            mappings[i].mem = mem;
            mappings[i].size = size_bytes;
            return mem;
        }
    }
    fail_msg("too many mappings");
    return NULL;
}

void st_reset(void) {
    for (size_t i = 0; i < MAPPINGS; i++) {
        if (mappings[i].mem != NULL) {
            munmap(mappings[i].mem, mappings[i].size);
            mappings[i].mem = NULL;
        }
    }
    shared = NULL;
    locks = steps = die_at = 0;
}

static shared_t *shared_page(void) {
    if (shared == NULL) {
        shared = st_memory(sizeof(shared_t));
    }
    return shared;
}

static void lock(void *ud) {
    (void)ud;
    shared_t *s = shared_page();
    uint32_t nobody = 0;
    while (!__atomic_compare_exchange_n(&s->holder, &nobody, (uint32_t)getpid(), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        nobody = 0;
        sched_yield();
    }
    locks++;
}

static void unlock(void *ud) {
    (void)ud;
    __atomic_store_n(&shared->holder, 0, __ATOMIC_RELEASE);
}

static void was_reset(void *ud) {
    (void)ud;
    shared_page()->resets++;
}

static void step(void *ud) {
    (void)ud;
    if (++steps == die_at) {
        kill(getpid(), SIGKILL);
    }
}

const sh_env_t st_env = {.lock = lock, .unlock = unlock, .reset = was_reset, .step = step};

unsigned st_lock_count(void) {
    return locks;
}

unsigned st_reset_count(void) {
    return shared_page()->resets;
}

void st_die_at_step(unsigned nth) {
    steps = 0;
    die_at = nth;
}

unsigned st_steps(void) {
    return steps;
}

unsigned st_run(unsigned n, void (*body)(unsigned process, void *ud), void *ud) {
    pid_t pids[64];
    unsigned well = 0;
    shared_page();
    assert_true(n <= 64);
    for (unsigned i = 0; i < n; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            body(i, ud);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        int status;
        pid_t pid = wait(&status);
        assert_true(pid > 0);
        well += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (WIFSIGNALED(status)) {
            uint32_t holder = (uint32_t)pid;
            (void)__atomic_compare_exchange_n(&shared->holder, &holder, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
        }
    }
    return well;
}

uint32_t st_random(st_random_t *r, uint32_t below) {
    r->state = r->state * 6364136223846793005u + 1442695040888963407u;
    return below == 0 ? 0 : (uint32_t)((r->state >> 33) % below);
}
