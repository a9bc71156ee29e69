/* How a filter fares: its numbers and its breaker. */
#include "pw_internal.h"

#include <stdlib.h>

#define BACKOFF_MAX_NS ((uint64_t)60 * 1000000000u)

/* ---- numbers ---- */

static pw_numbers_t *numbers_find(const pw_worker_t *w, sl_str_t name) {
    pw_numbers_t *n = w->numbers;
    while (n != NULL && !sl_str_eq(n->name, name)) {
        n = n->next;
    }
    return n;
}

pw_numbers_t *pw_numbers_get(pw_worker_t *w, sl_str_t name) {
    pw_numbers_t *n = numbers_find(w, name);
    if (n != NULL) {
        return n;
    }
    n = calloc(1, sizeof(*n) + name.len);
    if (n == NULL) {
        return NULL;
    }
    if (name.len != 0) {
        memcpy(n->text, name.data, name.len);
    }
    n->name = sl_str(n->text, name.len);
    n->worker = w;
    n->next = w->numbers;
    w->numbers = n;
    return n;
}

void pw_numbers_free_all(pw_worker_t *w) {
    for (pw_numbers_t *n = w->numbers, *next; n != NULL; n = next) {
        next = n->next;
        free(n);
    }
    w->numbers = NULL;
}

static void tell(pw_numbers_t *n, pw_number_t which, uint64_t value) {
    const pw_worker_t *w = n->worker;
    if (w->ops->number != NULL) {
        w->ops->number(w->host, n->name, which, &n->ids[which], value);
    }
}

void pw_number_add(pw_numbers_t *n, pw_number_t which, uint64_t delta) {
    n->values[which] += delta;
    tell(n, which, delta);
}

void pw_number_set(pw_numbers_t *n, pw_number_t which, uint64_t value) {
    if (n->values[which] != value) {
        n->values[which] = value;
        tell(n, which, value);
    }
}

uint64_t pw_worker_number(const pw_worker_t *w, sl_str_t filter, pw_number_t which) {
    const pw_numbers_t *n = numbers_find(w, filter);
    return n != NULL ? n->values[which] : 0;
}

/* ---- the breaker ---- */

static uint64_t now(const pw_worker_t *w) {
    return w->ops->now_ns(w->host, true);
}

bool pw_health_init(pw_filter_t *f) {
    const sl_filter_opts_t *opts = &f->conf.opts;
    pw_breaker_conf_t conf = {
        .traps = opts->breaker_traps,
        .window_ns = (uint64_t)opts->breaker_window_ms * 1000000u,
        .backoff_ns = (uint64_t)opts->breaker_backoff_ms * 1000000u,
        .backoff_max_ns = BACKOFF_MAX_NS,
    };
    uint64_t *times = conf.traps != 0 ? sl_arena_alloc(&f->arena, conf.traps * sizeof(*times)) : NULL;
    pw_breaker_init(&f->breaker, &conf, times);
    f->numbers = pw_numbers_get(f->worker, f->conf.name);
    return f->numbers != NULL && (times != NULL || conf.traps == 0);
}

/* Entries of equal name have a breaker each and one number: that of the worst. */
static void count_state(pw_filter_t *f, pw_breaker_state_t before) {
    pw_numbers_t *n = f->numbers;
    n->breakers[before] -= before != PW_BREAKER_CLOSED;
    n->breakers[f->breaker.state] += f->breaker.state != PW_BREAKER_CLOSED;
    uint32_t worst = n->breakers[PW_BREAKER_OPEN] != 0        ? PW_BREAKER_OPEN
                     : n->breakers[PW_BREAKER_HALF_OPEN] != 0 ? PW_BREAKER_HALF_OPEN
                                                              : 0;
    pw_number_set(n, PW_N_BREAKER, worst);
}

static void state_changed(pw_filter_t *f, pw_breaker_state_t before) {
    const pw_breaker_t *b = &f->breaker;
    if (b->state == before) {
        return;
    }
    count_state(f, before);
    switch (b->state) {
    case PW_BREAKER_OPEN:
        pw_number_add(f->numbers, PW_N_OPENED, 1);
        pw_log_filter(f->worker, NULL, f->conf.name, 0, PW_LOG_ERROR, "breaker opens for %llu ms: the filter fails too often",
                      (unsigned long long)(b->backoff_ns / 1000000u));
        break;
    case PW_BREAKER_HALF_OPEN:
        pw_log_filter(f->worker, NULL, f->conf.name, 0, PW_LOG_INFO, "breaker is half-open: one request tries the filter");
        break;
    default:
        pw_log_filter(f->worker, NULL, f->conf.name, 0, PW_LOG_WARN, "breaker closes: the filter works again");
    }
}

void pw_health_forget(pw_filter_t *f) {
    if (f->numbers == NULL || f->breaker.state == PW_BREAKER_CLOSED) {
        return;
    }
    pw_breaker_state_t before = f->breaker.state;
    f->breaker.state = PW_BREAKER_CLOSED;
    count_state(f, before);
}

bool pw_health_admit_slowly(pw_filter_t *f, bool *probe) {
    pw_breaker_state_t before = f->breaker.state;
    bool admitted = pw_breaker_admit(&f->breaker, now(f->worker), probe);
    state_changed(f, before);
    return admitted;
}

void pw_health_probed(pw_filter_t *f, bool ran) {
    pw_breaker_state_t before = f->breaker.state;
    pw_breaker_probed(&f->breaker, ran, now(f->worker));
    state_changed(f, before);
}

void pw_health_failed(pw_filter_t *f, pw_number_t reason) {
    pw_number_add(f->numbers, reason, 1);
    if (f->refs == 0) {
        return; /* it is on its way out */
    }
    pw_breaker_state_t before = f->breaker.state;
    pw_breaker_fail(&f->breaker, now(f->worker));
    state_changed(f, before);
}

uint32_t pw_health_retry_after(const pw_filter_t *f) {
    uint32_t seconds = pw_breaker_seconds_left(&f->breaker, now(f->worker));
    return seconds != 0 ? seconds : 1;
}
