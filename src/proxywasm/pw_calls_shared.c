/* Shared data and queues: the proxy keeps them. Without it there is nothing to find and nothing can be stored. */
#include "pw_calls.h"

#include <stdlib.h>

#include "pw_guest.h"

static uint64_t result_of(sl_status_t rc) {
    switch (rc) {
    case SL_OK:
        return PW_OK;
    case SL_NOT_FOUND:
        return PW_NOT_FOUND;
    case SL_AGAIN:
        return PW_EMPTY;
    case SL_CONFLICT:
        return PW_CAS_MISMATCH;
    case SL_INVALID:
        return PW_BAD_ARGUMENT;
    default:
        return PW_INTERNAL_FAILURE;
    }
}

uint64_t pw_call_get_shared_data(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    sl_str_t key;
    uint32_t cas = 0;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &key) || !pw_guest_ok(vm, a[4].u32, 4)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (key.len > PW_SHARED_KEY_MAX || !pw_granted(vm, PW_G_SHARED_DATA, key)) {
        return PW_NOT_FOUND;
    }
    sl_buf_reset(&w->value);
    sl_status_t rc = w->ops->shared_get != NULL ? w->ops->shared_get(w->host, vm->vm_id, key, &w->value, &cas) : SL_NOT_FOUND;
    if (rc != SL_OK) {
        return result_of(rc);
    }
    pw_result_t given = pw_guest_give(vm, a[2].u32, a[3].u32, sl_buf_str(&w->value));
    if (given == PW_OK) {
        pw_guest_put_u32(vm, a[4].u32, cas);
    }
    return given;
}

/* WasmX: 0 means "must not exist", and a null value removes the key, which must be there. Its cas values start at 1, as ours do. */
static uint64_t wasmx_set(pw_worker_t *w, const pw_vm_t *vm, sl_str_t key, sl_str_t value, uint32_t cas) {
    sl_status_t rc = w->ops->shared_set(w->host, vm->vm_id, key, value, cas != 0 ? cas : PW_CAS_NEVER);
    return rc == SL_NOT_FOUND ? PW_CAS_MISMATCH : result_of(rc);
}

uint64_t pw_call_set_shared_data(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    sl_str_t key, value;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &key) || !pw_guest_in(vm, a[2].u32, a[3].u32, &value)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (key.len > PW_SHARED_KEY_MAX || value.len > PW_SHARED_BYTES_MAX) {
        return PW_INTERNAL_FAILURE; /* as where there is no room */
    }
    if (!pw_granted(vm, PW_G_SHARED_DATA, key)) {
        return PW_NOT_FOUND;
    }
    if (w->ops->shared_set == NULL) {
        return PW_INTERNAL_FAILURE;
    }
    if (pw_vm_dialect(vm) == SL_DIALECT_WASMX) {
        return wasmx_set(w, vm, key, a[2].u32 == 0 && value.len == 0 ? SL_STR_NULL : value, a[4].u32);
    }
    return result_of(w->ops->shared_set(w->host, vm->vm_id, key, value, a[4].u32));
}

/*
 * Ids of queues are small numbers, and the same for everybody. So that nobody gets at the queues of others by counting, an id is of use to
 * the filters of a vm_id, in a worker, after one of them has registered or resolved it by its name.
 */
typedef struct {
    pw_id_node_t node; /* the queue's id; only in the first of those with the same id */
    struct known_s *first;
} known_queue_t;

typedef struct known_s {
    struct known_s *next;
    sl_str_t vm_id, name;
    char bytes[];
} known_t;

static const known_t *known(const pw_vm_t *vm, uint32_t id) {
    const known_queue_t *q = (const known_queue_t *)pw_id_map_find(&vm->worker->known_queues, id);
    const known_t *k = q != NULL ? q->first : NULL;
    while (k != NULL && !sl_str_eq(k->vm_id, vm->vm_id)) {
        k = k->next;
    }
    return k;
}

static known_queue_t *known_queue(pw_worker_t *w, uint32_t id) {
    known_queue_t *q = (known_queue_t *)pw_id_map_find(&w->known_queues, id);
    if (q != NULL) {
        return q;
    }
    q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return NULL;
    }
    q->node.id = id;
    if (!pw_id_map_add(&w->known_queues, &q->node)) {
        free(q);
        return NULL;
    }
    return q;
}

/* false: no memory. */
static bool learn(const pw_vm_t *vm, uint32_t id, sl_str_t name) {
    if (known(vm, id) != NULL) {
        return true;
    }
    known_queue_t *q = known_queue(vm->worker, id);
    known_t *k = q != NULL ? malloc(sizeof(*k) + vm->vm_id.len + name.len) : NULL;
    if (k == NULL) {
        return false;
    }
    memcpy(k->bytes, vm->vm_id.len != 0 ? vm->vm_id.data : "", vm->vm_id.len);
    memcpy(k->bytes + vm->vm_id.len, name.len != 0 ? name.data : "", name.len);
    k->vm_id = sl_str(k->bytes, vm->vm_id.len);
    k->name = sl_str(k->bytes + vm->vm_id.len, name.len);
    k->next = q->first;
    q->first = k;
    return true;
}

void pw_worker_forget_queues(pw_worker_t *w) {
    pw_id_map_t *map = &w->known_queues;
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        while (map->buckets[i] != NULL) {
            known_queue_t *q = (known_queue_t *)map->buckets[i];
            for (known_t *k = q->first, *next; k != NULL; k = next) {
                next = k->next;
                free(k);
            }
            pw_id_map_remove(map, &q->node);
            free(q);
        }
    }
    pw_id_map_deinit(map);
}

/* A filter with other grants may have the same vm_id. */
static bool may_use(pw_vm_t *vm, uint32_t id) {
    const known_t *k = known(vm, id);
    return k != NULL && pw_granted(vm, PW_G_QUEUES, k->name);
}

uint64_t pw_call_register_shared_queue(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    pw_root_t *root = pw_root_plugin(pw_vm_ctx(vm)->root);
    sl_str_t name;
    uint32_t id = 0;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &name) || !pw_guest_ok(vm, a[2].u32, 4)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (!pw_granted(vm, PW_G_QUEUES, name)) {
        return PW_NOT_FOUND;
    }
    if (name.len > PW_SHARED_KEY_MAX || w->ops->queue_register == NULL || root == NULL || root->gone) {
        return PW_INTERNAL_FAILURE;
    }
    sl_status_t rc = w->ops->queue_register(w->host, vm->vm_id, name, root, &id);
    rc = rc == SL_OK && !learn(vm, id, name) ? SL_NO_MEMORY : rc;
    if (rc == SL_OK) {
        pw_guest_put_u32(vm, a[2].u32, id);
        if (!root->vm->used) {
            pw_root_note_queue(root, name, id);
        }
    }
    return result_of(rc);
}

uint64_t pw_call_resolve_shared_queue(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    sl_str_t vm_id, name;
    uint32_t id = 0;
    if (!pw_guest_in(vm, a[0].u32, a[1].u32, &vm_id) || !pw_guest_in(vm, a[2].u32, a[3].u32, &name) || !pw_guest_ok(vm, a[4].u32, 4)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (name.len > PW_SHARED_KEY_MAX || !pw_granted(vm, PW_G_QUEUES, name)) {
        return PW_NOT_FOUND;
    }
    vm_id = vm_id.len != 0 ? vm_id : vm->vm_id;
    sl_status_t rc = w->ops->queue_resolve != NULL ? w->ops->queue_resolve(w->host, vm_id, name, &id) : SL_NOT_FOUND;
    rc = rc == SL_OK && !learn(vm, id, name) ? SL_NO_MEMORY : rc;
    if (rc == SL_OK) {
        pw_guest_put_u32(vm, a[4].u32, id);
    }
    return result_of(rc);
}

uint64_t pw_call_enqueue_shared_queue(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    sl_str_t data;
    if (!pw_guest_in(vm, a[1].u32, a[2].u32, &data)) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    if (data.len > PW_SHARED_BYTES_MAX) {
        return PW_INTERNAL_FAILURE; /* as where there is no room */
    }
    return result_of(w->ops->queue_push != NULL && may_use(vm, a[0].u32) ? w->ops->queue_push(w->host, a[0].u32, data) : SL_NOT_FOUND);
}

uint64_t pw_call_dequeue_shared_queue(pw_vm_t *vm, const sl_raw_t *a) {
    pw_worker_t *w = vm->worker;
    if (!pw_guest_ok(vm, a[1].u32, 4) || !pw_guest_ok(vm, a[2].u32, 4)) {
        return PW_INVALID_MEMORY_ACCESS; /* before an item is taken that nobody would get */
    }
    sl_buf_reset(&w->value);
    sl_status_t rc = w->ops->queue_pop != NULL && may_use(vm, a[0].u32) ? w->ops->queue_pop(w->host, a[0].u32, &w->value) : SL_NOT_FOUND;
    return rc == SL_OK ? pw_guest_give(vm, a[1].u32, a[2].u32, sl_buf_str(&w->value)) : result_of(rc);
}
