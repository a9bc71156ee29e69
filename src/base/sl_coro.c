#include "sl_coro.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define CORO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CORO_ASAN 1
#endif
#endif

#ifdef CORO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

struct sl_coro_s {
    ucontext_t inside, outside;
    void (*fn)(void *arg);
    void *arg;
    char *stack; /* begins with the guard page */
    size_t size; /* with it */
    size_t guard;
    bool entered; /* the context runs, or has run, on the stack */
    bool returned;
#ifdef CORO_ASAN
    void *fake_inside, *fake_outside;
    const void *outside_stack;
    size_t outside_size;
#endif
};

/* AddressSanitizer has to know on which stack it is. */
#ifdef CORO_ASAN
static void leave_outside(sl_coro_t *c) {
    __sanitizer_start_switch_fiber(&c->fake_outside, c->stack + c->guard, c->size - c->guard);
}
static void back_outside(sl_coro_t *c) {
    __sanitizer_finish_switch_fiber(c->fake_outside, NULL, NULL);
}
static void leave_inside(sl_coro_t *c) {
    __sanitizer_start_switch_fiber(&c->fake_inside, c->outside_stack, c->outside_size);
}
static void back_inside(sl_coro_t *c) {
    __sanitizer_finish_switch_fiber(c->fake_inside, &c->outside_stack, &c->outside_size);
}
#else
static void leave_outside(sl_coro_t *c) {
    (void)c;
}
static void back_outside(sl_coro_t *c) {
    (void)c;
}
static void leave_inside(sl_coro_t *c) {
    (void)c;
}
static void back_inside(sl_coro_t *c) {
    (void)c;
}
#endif

sl_coro_t *sl_coro_new(size_t stack_bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    sl_coro_t *c = calloc(1, sizeof(*c));
    if (c == NULL || stack_bytes > SIZE_MAX / 4) {
        free(c);
        return NULL;
    }
    c->guard = page;
    c->size = (stack_bytes + page - 1) / page * page + page;
    c->stack = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (c->stack == MAP_FAILED) {
        free(c);
        return NULL;
    }
    if (mprotect(c->stack, page, PROT_NONE) != 0) {
        sl_coro_free(c);
        return NULL;
    }
    return c;
}

void sl_coro_free(sl_coro_t *c) {
    if (c != NULL) {
        munmap(c->stack, c->size);
        free(c);
    }
}

void sl_coro_begin(sl_coro_t *c, void (*fn)(void *arg), void *arg) {
    c->fn = fn;
    c->arg = arg;
    c->returned = false;
}

void sl_coro_yield(sl_coro_t *c) {
    leave_inside(c);
    swapcontext(&c->inside, &c->outside);
    back_inside(c);
}

/* The context never ends: the next function finds it where the last one has returned. */
static void run(unsigned low, unsigned high) {
    sl_coro_t *c = (sl_coro_t *)((size_t)low | ((size_t)high << 32)); /* makecontext passes ints */
    back_inside(c);
    for (;;) {
        c->fn(c->arg);
        c->returned = true;
        sl_coro_yield(c);
    }
}

static void enter(sl_coro_t *c) {
    getcontext(&c->inside);
    c->inside.uc_stack.ss_sp = c->stack + c->guard;
    c->inside.uc_stack.ss_size = c->size - c->guard;
    c->inside.uc_link = NULL;
    makecontext(&c->inside, (void (*)(void))run, 2, (unsigned)(size_t)c, (unsigned)((size_t)c >> 32));
    c->entered = true;
}

bool sl_coro_resume(sl_coro_t *c) {
    if (!c->entered) {
        enter(c);
    }
    leave_outside(c);
    swapcontext(&c->outside, &c->inside);
    back_outside(c);
    return c->returned;
}
