/* Metrics. The proxy keeps the values; here are the guest's handles, which carry the type in their low two bits as in Envoy. */
#include "pw_calls.h"
#include "pw_guest.h"

#include <stdlib.h>

static bool handles_grow(pw_vm_t *vm) {
    if (vm->n_metrics < vm->cap_metrics) {
        return true;
    }
    uint32_t cap = vm->cap_metrics != 0 ? vm->cap_metrics * 2 : 16;
    pw_metric_handle_t *grown = realloc(vm->metrics, cap * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    vm->metrics = grown;
    vm->cap_metrics = cap;
    return true;
}

/* Each definition gets a handle of its own, until there are many: then one that says the same is used again. */
static bool handle_for(pw_vm_t *vm, uint32_t type, uint32_t host_id, uint32_t *index) {
    if (vm->n_metrics >= PW_METRICS_MAX) {
        for (*index = 0; *index < vm->n_metrics; ++*index) {
            if (vm->metrics[*index].type == type && vm->metrics[*index].host_id == host_id) {
                return true;
            }
        }
        return false;
    }
    if (!handles_grow(vm)) {
        return false;
    }
    *index = vm->n_metrics;
    vm->metrics[vm->n_metrics++] = (pw_metric_handle_t){type, host_id};
    return true;
}

static const pw_metric_handle_t *find(const pw_vm_t *vm, uint32_t id) {
    uint32_t index = (id >> 2) - 1;
    return index < vm->n_metrics && vm->metrics[index].type == (id & 3) ? &vm->metrics[index] : NULL;
}

static uint64_t result_of(sl_status_t rc) {
    return rc == SL_OK ? PW_OK : rc == SL_NOT_FOUND ? PW_NOT_FOUND : rc == SL_INVALID ? PW_BAD_ARGUMENT : PW_INTERNAL_FAILURE;
}

uint64_t pw_call_define_metric(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    const pw_ctx_t *ctx = pw_vm_ctx(vm);
    sl_str_t name;
    uint32_t host_id, index;
    if (a[0].u32 > PW_METRIC_HISTOGRAM) {
        return pw_vm_misuse(vm, PW_BAD_ARGUMENT, "could not define metric: unknown type");
    }
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &name) || !pw_guest_ok(vm, a[3].u32, 4)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (w->ops->metric_define == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    sl_status_t rc = w->ops->metric_define(w->host, a[0].u32, ctx->root->filter->conf.name, name, &host_id);
    if (rc != SL_OK) {
        return result_of(rc);
    }
    if (!handle_for(vm, a[0].u32, host_id, &index)) {
        return PW_INTERNAL_FAILURE;
    }
    pw_guest_put_u32(vm, a[3].u32, (index + 1) << 2 | a[0].u32);
    return PW_OK;
}

uint64_t pw_call_increment_metric(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    const pw_metric_handle_t *m = find(vm, a[0].u32);
    bool wasmx = pw_vm_dialect(vm) == SL_DIALECT_WASMX;
    if (m == NULL) {
        return pw_vm_misuse(vm, PW_NOT_FOUND, "could not increment metric: metric not found");
    }
    if (m->type == PW_METRIC_GAUGE && wasmx) {
        return pw_vm_misuse(vm, PW_OK, "could not increment metric: metric not a counter");
    }
    if (m->type == PW_METRIC_COUNTER && a[1].i64 == 0 && wasmx) {
        return PW_OK;
    }
    if (m->type == PW_METRIC_HISTOGRAM || (m->type == PW_METRIC_COUNTER && a[1].i64 <= 0)) {
        return pw_vm_misuse(vm, PW_BAD_ARGUMENT, "could not increment metric");
    }
    return result_of(w->ops->metric_add != NULL ? w->ops->metric_add(w->host, m->host_id, a[1].i64) : SL_NOT_FOUND);
}

/* Recording on a counter adds, as in Envoy; in WasmX it is misuse. */
uint64_t pw_call_record_metric(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    const pw_metric_handle_t *m = find(vm, a[0].u32);
    if (m == NULL) {
        return pw_vm_misuse(vm, PW_NOT_FOUND, "could not record metric: metric not found");
    }
    if (m->type == PW_METRIC_COUNTER && pw_vm_dialect(vm) == SL_DIALECT_WASMX) {
        return pw_vm_misuse(vm, PW_OK, "could not record metric: metric is a counter");
    }
    if (m->type == PW_METRIC_COUNTER) {
        int64_t delta = a[1].u64 > INT64_MAX ? INT64_MAX : (int64_t)a[1].u64;
        return result_of(w->ops->metric_add != NULL ? w->ops->metric_add(w->host, m->host_id, delta) : SL_NOT_FOUND);
    }
    return result_of(w->ops->metric_record != NULL ? w->ops->metric_record(w->host, m->host_id, a[1].u64) : SL_NOT_FOUND);
}

uint64_t pw_call_get_metric(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    const pw_metric_handle_t *m = find(vm, a[0].u32);
    uint64_t value = 0;
    if (m == NULL) {
        return pw_vm_misuse(vm, PW_NOT_FOUND, "could not get metric: metric not found");
    }
    if (m->type == PW_METRIC_HISTOGRAM) {
        return pw_vm_misuse(vm, PW_BAD_ARGUMENT, "could not get metric: metric is a histogram");
    }
    sl_status_t rc = w->ops->metric_get != NULL ? w->ops->metric_get(w->host, m->host_id, &value) : SL_NOT_FOUND;
    if (rc != SL_OK) {
        return result_of(rc);
    }
    return pw_guest_put_u64(vm, a[1].u32, value) ? PW_OK : PW_INVALID_MEMORY_ACCESS;
}
