#include "pw_breaker.h"

#include <stddef.h>

void pw_breaker_init(pw_breaker_t *b, const pw_breaker_conf_t *conf, uint64_t *times) {
    *b = (pw_breaker_t){.conf = *conf, .times = times};
    if (times == NULL) {
        b->conf.traps = 0;
    }
    if (b->conf.backoff_max_ns < b->conf.backoff_ns) {
        b->conf.backoff_max_ns = b->conf.backoff_ns;
    }
}

/* A probe whose request takes very long must not keep all others out. */
static bool probe_is_lost(const pw_breaker_t *b, uint64_t now_ns) {
    return now_ns >= b->probe_ns && now_ns - b->probe_ns >= b->backoff_ns;
}

bool pw_breaker_admit(pw_breaker_t *b, uint64_t now_ns, bool *probe) {
    *probe = false;
    if (b->state == PW_BREAKER_CLOSED) {
        return true;
    }
    bool waits = b->state == PW_BREAKER_OPEN ? now_ns < b->until_ns : b->probe_ns != 0 && !probe_is_lost(b, now_ns);
    if (waits) {
        return false;
    }
    b->state = PW_BREAKER_HALF_OPEN;
    b->probe_ns = now_ns != 0 ? now_ns : 1;
    *probe = true;
    return true;
}

void pw_breaker_probed(pw_breaker_t *b, bool ran, uint64_t now_ns) {
    if (b->state != PW_BREAKER_HALF_OPEN) {
        return;
    }
    b->probe_ns = 0;
    if (ran) {
        b->state = PW_BREAKER_CLOSED;
        b->closed_ns = now_ns != 0 ? now_ns : 1;
        b->n = 0;
    }
}

static uint64_t twice(const pw_breaker_t *b) {
    return b->backoff_ns > b->conf.backoff_max_ns / 2 ? b->conf.backoff_max_ns : b->backoff_ns * 2;
}

static void open_for(pw_breaker_t *b, uint64_t backoff_ns, uint64_t now_ns) {
    b->state = PW_BREAKER_OPEN;
    b->backoff_ns = backoff_ns;
    b->until_ns = now_ns + backoff_ns;
    b->probe_ns = 0;
    b->n = 0;
}

static bool too_many(pw_breaker_t *b, uint64_t now_ns) {
    b->times[b->next] = now_ns;
    b->next = (b->next + 1) % b->conf.traps;
    b->n += b->n < b->conf.traps;
    return b->n == b->conf.traps && now_ns - b->times[b->next] <= b->conf.window_ns; /* next: the oldest of them */
}

void pw_breaker_fail(pw_breaker_t *b, uint64_t now_ns) {
    if (b->conf.traps == 0) {
        return;
    }
    if (b->state != PW_BREAKER_CLOSED) {
        open_for(b, twice(b), now_ns);
        return;
    }
    if (!too_many(b, now_ns)) {
        return;
    }
    bool again = b->closed_ns != 0 && now_ns - b->closed_ns <= b->conf.window_ns;
    open_for(b, again ? twice(b) : b->conf.backoff_ns, now_ns);
}

uint32_t pw_breaker_seconds_left(const pw_breaker_t *b, uint64_t now_ns) {
    if (b->state != PW_BREAKER_OPEN || now_ns >= b->until_ns) {
        return 0;
    }
    return (uint32_t)((b->until_ns - now_ns + 999999999u) / 1000000000u);
}

const char *pw_breaker_name(pw_breaker_state_t state) {
    static const char *const names[] = {"closed", "half-open", "open"};
    return names[state];
}
