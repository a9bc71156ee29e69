/* WASI preview 1, as far as guests of a proxy need it: clocks, randomness, environment, stdout and stderr as log. No files, no sockets. */
#include "pw_calls.h"
#include "pw_guest.h"

enum { OK = 0, BADF = 8, FAULT = 21, INVAL = 28, NOENT = 44, NOSYS = 52, NOTDIR = 54, NOTSUP = 58 };
enum { MAX_IOVECS = 1024, MAX_WRITE = 65536, MAX_RANDOM = 65536, RIGHT_FD_WRITE = 64 };

#define ANSWER(function, errno_value)                                                                                                      \
    uint64_t function(pw_vm_t *vm, const sl_raw_t *a) {                                                                                    \
        (void)vm;                                                                                                                          \
        (void)a;                                                                                                                           \
        return errno_value;                                                                                                                \
    }
ANSWER(pw_wasi_ok, OK)
ANSWER(pw_wasi_nosys, NOSYS)
ANSWER(pw_wasi_badf, BADF)
ANSWER(pw_wasi_notsup, NOTSUP)
ANSWER(pw_wasi_noent, NOENT)

static bool is_std(uint32_t fd) {
    return fd == 1 || fd == 2;
}

static uint64_t put2(pw_vm_t *vm, uint32_t p1, uint32_t v1, uint32_t p2, uint32_t v2) {
    return pw_guest_put_u32(vm, p1, v1) && pw_guest_put_u32(vm, p2, v2) ? OK : FAULT;
}

uint64_t pw_wasi_std_ok(pw_vm_t *vm, const sl_raw_t *a) {
    (void)vm;
    return is_std(a[0].u32) ? OK : BADF;
}

uint64_t pw_wasi_fd_renumber(pw_vm_t *vm, const sl_raw_t *a) {
    (void)vm;
    return is_std(a[0].u32) ? NOTSUP : BADF;
}

/* ---- arguments: none; environment: what the filter's configuration names ---- */

uint64_t pw_wasi_args_get(pw_vm_t *vm, const sl_raw_t *a) {
    (void)vm;
    (void)a;
    return OK;
}

uint64_t pw_wasi_args_sizes_get(pw_vm_t *vm, const sl_raw_t *a) {
    return put2(vm, a[0].u32, 0, a[1].u32, 0);
}

uint64_t pw_wasi_environ_sizes_get(pw_vm_t *vm, const sl_raw_t *a) {
    size_t bytes = 0;
    for (size_t i = 0; i < vm->n_env; i++) {
        bytes += vm->env[i].key.len + vm->env[i].value.len + 2;
    }
    return put2(vm, a[0].u32, (uint32_t)vm->n_env, a[1].u32, (uint32_t)bytes);
}

uint64_t pw_wasi_environ_get(pw_vm_t *vm, const sl_raw_t *a) {
    uint32_t at = a[1].u32;
    for (size_t i = 0; i < vm->n_env; i++) {
        const pw_pair_t *e = &vm->env[i];
        uint64_t slot = (uint64_t)a[0].u32 + 4 * i;
        uint64_t need = (uint64_t)e->key.len + e->value.len + 2;
        if (slot > UINT32_MAX || need > UINT32_MAX || !pw_guest_ok(vm, at, (uint32_t)need) || !pw_guest_put_u32(vm, (uint32_t)slot, at)) {
            return FAULT;
        }
        pw_guest_fill(vm, at, e->key.data, e->key.len);
        pw_guest_fill(vm, at + (uint32_t)e->key.len, "=", 1);
        pw_guest_fill(vm, at + (uint32_t)e->key.len + 1, e->value.data, e->value.len);
        pw_guest_fill(vm, at + (uint32_t)need - 1, "", 1);
        at += (uint32_t)need;
    }
    return OK;
}

/* ---- clocks, randomness, waiting ---- */

uint64_t pw_wasi_clock_res_get(pw_vm_t *vm, const sl_raw_t *a) {
    if (a[0].u32 > 1) {
        return NOTSUP;
    }
    return pw_guest_put_u64(vm, a[1].u32, 1) ? OK : FAULT;
}

uint64_t pw_wasi_clock_time_get(pw_vm_t *vm, const sl_raw_t *a) {
    if (a[0].u32 > 1) {
        return NOTSUP;
    }
    uint64_t now = vm->worker->ops->now_ns(vm->worker->host, a[0].u32 == 1);
    now = now != 0 ? now : 1; /* Go's runtime aborts on a monotonic clock that says 0 */
    return pw_guest_put_u64(vm, a[2].u32, now) ? OK : FAULT;
}

uint64_t pw_wasi_random_get(pw_vm_t *vm, const sl_raw_t *a) {
    uint8_t bytes[512];
    uint32_t at = a[0].u32, left = a[1].u32;
    if (left > MAX_RANDOM) {
        return INVAL;
    }
    if (!pw_guest_ok(vm, at, left)) {
        return FAULT;
    }
    while (left != 0) {
        uint32_t part = left < sizeof(bytes) ? left : (uint32_t)sizeof(bytes);
        if (vm->worker->ops->random(vm->worker->host, bytes, part) != SL_OK) {
            return INVAL;
        }
        pw_guest_fill(vm, at, bytes, part);
        at += part;
        left -= part;
    }
    return OK;
}

/* Go's scheduler sleeps by it, also inside the allocator, and aborts on an error. Nothing ever waits here. */
uint64_t pw_wasi_poll_oneoff(pw_vm_t *vm, const sl_raw_t *a) {
    return pw_guest_put_u32(vm, a[3].u32, 0) ? OK : FAULT;
}

uint64_t pw_wasi_proc_exit(pw_vm_t *vm, const sl_raw_t *a) {
    vm->exited = true;
    vm->exit_code = a[0].u32;
    return pw_vm_trap(vm, "the guest called proc_exit(%u)", a[0].u32);
}

/* ---- files: stdout and stderr only ---- */

typedef struct {
    uint32_t iovs, n;
} pw_iovecs_t;

/* Checks all pieces before any is written; the sum may be more than memory, for pieces may overlap. */
static uint64_t measure(const pw_vm_t *vm, pw_iovecs_t v, uint64_t *total) {
    *total = 0;
    if (v.n > MAX_IOVECS) {
        return INVAL;
    }
    for (uint32_t i = 0; i < v.n; i++) {
        uint64_t at = (uint64_t)v.iovs + 8 * (uint64_t)i;
        uint32_t ptr, len;
        if (at + 4 > UINT32_MAX || !pw_guest_get_u32(vm, (uint32_t)at, &ptr) || !pw_guest_get_u32(vm, (uint32_t)at + 4, &len) ||
            !pw_guest_ok(vm, ptr, len)) {
            return FAULT;
        }
        *total += len;
    }
    return *total > INT32_MAX ? INVAL : OK;
}

static uint64_t write_out(pw_vm_t *vm, uint32_t fd, pw_iovecs_t v, uint32_t n_written) {
    uint64_t total;
    uint32_t left = MAX_WRITE; /* what is longer is cut, not refused */
    if (!is_std(fd)) {
        return BADF;
    }
    uint64_t rc = measure(vm, v, &total);
    if (rc != OK) {
        return rc;
    }
    if (!pw_guest_put_u32(vm, n_written, (uint32_t)total)) {
        return FAULT;
    }
    for (uint32_t i = 0; i < v.n && left != 0; i++) {
        uint32_t ptr, len;
        sl_str_t piece;
        /* n_written may have overwritten an iovec */
        if (!pw_guest_get_u32(vm, v.iovs + 8 * i, &ptr) || !pw_guest_get_u32(vm, v.iovs + 8 * i + 4, &len) ||
            !pw_guest_in(vm, ptr, len, &piece)) {
            return FAULT;
        }
        piece.len = piece.len < left ? piece.len : left;
        left -= (uint32_t)piece.len;
        pw_log_std(vm, fd == 2, piece);
    }
    return OK;
}

uint64_t pw_wasi_fd_write(pw_vm_t *vm, const sl_raw_t *a) {
    return write_out(vm, a[0].u32, (pw_iovecs_t){a[1].u32, a[2].u32}, a[3].u32);
}

uint64_t pw_wasi_fd_pwrite(pw_vm_t *vm, const sl_raw_t *a) {
    return write_out(vm, a[0].u32, (pw_iovecs_t){a[1].u32, a[2].u32}, a[4].u32);
}

uint64_t pw_wasi_fd_fdstat_get(pw_vm_t *vm, const sl_raw_t *a) {
    if (!is_std(a[0].u32)) {
        return BADF;
    }
    uint8_t stat[24] = {0};
    stat[8] = RIGHT_FD_WRITE;
    return pw_guest_fill(vm, a[1].u32, stat, sizeof(stat)) ? OK : FAULT;
}

uint64_t pw_wasi_fd_tell(pw_vm_t *vm, const sl_raw_t *a) {
    if (!is_std(a[0].u32)) {
        return BADF;
    }
    return pw_guest_put_u64(vm, a[1].u32, 0) ? OK : FAULT;
}

uint64_t pw_wasi_fd_readdir(pw_vm_t *vm, const sl_raw_t *a) {
    return pw_guest_put_u32(vm, a[4].u32, 0) ? NOTDIR : FAULT;
}

/* ---- sockets: there are none ---- */

uint64_t pw_wasi_sock_accept(pw_vm_t *vm, const sl_raw_t *a) {
    return pw_guest_put_u32(vm, a[2].u32, 0) ? NOTSUP : FAULT;
}

uint64_t pw_wasi_sock_recv(pw_vm_t *vm, const sl_raw_t *a) {
    return put2(vm, a[4].u32, 0, a[5].u32, 0) == OK ? NOTSUP : FAULT;
}

uint64_t pw_wasi_sock_send(pw_vm_t *vm, const sl_raw_t *a) {
    return pw_guest_put_u32(vm, a[4].u32, 0) ? NOTSUP : FAULT;
}
