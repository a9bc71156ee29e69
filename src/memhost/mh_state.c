#include "mh_int.h"

#include <stdlib.h>

typedef struct shared_s {
    struct shared_s *next;
    sl_str_t vm_id, key, value; /* owned */
    uint32_t cas;
} shared_t;

typedef struct item_s {
    struct item_s *next;
    sl_str_t data; /* owned */
} item_t;

typedef struct queue_s {
    struct queue_s *next;
    sl_str_t vm_id, name; /* owned */
    uint32_t id;
    pw_root_t *root; /* who registered last; NULL: has gone */
    item_t *first, *last;
    size_t n, bytes;
    size_t to_tell; /* notifications that are due, one per pushed item */
} queue_t;

/* Ids name (type, filter, name) in the low bits' order of Envoy: a multiple of four plus the type. One metric may have many ids. */
typedef struct metric_s {
    struct metric_s *next;
    sl_str_t filter, name; /* owned */
    uint32_t type;
    uint64_t value;
    size_t samples;
} metric_t;

struct mh_state_s {
    shared_t *shared;
    size_t n_shared, shared_bytes;
    uint32_t last_cas;
    queue_t *queues; /* in the order of registration */
    size_t n_queues;
    metric_t *metrics;
    metric_t *ids[MH_METRICS]; /* id / 4 - 1 */
    size_t n_ids;
};

mh_state_t *mh_state_new(void) {
    return calloc(1, sizeof(mh_state_t));
}

static void shared_free(shared_t *s) {
    free((char *)s->vm_id.data);
    free((char *)s->key.data);
    free((char *)s->value.data);
    free(s);
}

static void item_free(item_t *item) {
    free((char *)item->data.data);
    free(item);
}

static void queue_free(queue_t *q) {
    for (item_t *i = q->first, *next; i != NULL; i = next) {
        next = i->next;
        item_free(i);
    }
    free((char *)q->vm_id.data);
    free((char *)q->name.data);
    free(q);
}

static void metric_free(metric_t *m) {
    free((char *)m->filter.data);
    free((char *)m->name.data);
    free(m);
}

void mh_state_free(mh_state_t *st) {
    if (st == NULL) {
        return;
    }
    for (shared_t *s = st->shared, *next; s != NULL; s = next) {
        next = s->next;
        shared_free(s);
    }
    for (queue_t *q = st->queues, *next; q != NULL; q = next) {
        next = q->next;
        queue_free(q);
    }
    for (metric_t *m = st->metrics, *next; m != NULL; m = next) {
        next = m->next;
        metric_free(m);
    }
    free(st);
}

static mh_state_t *state_of(void *worker) {
    return ((mh_t *)worker)->state;
}

/* ---- shared data ---- */

static shared_t *shared_find(mh_state_t *st, sl_str_t vm_id, sl_str_t key) {
    for (shared_t *s = st->shared; s != NULL; s = s->next) {
        if (sl_str_eq(s->vm_id, vm_id) && sl_str_eq(s->key, key)) {
            return s;
        }
    }
    return NULL;
}

static uint32_t fresh_cas(mh_state_t *st) {
    st->last_cas = st->last_cas >= PW_CAS_NEVER - 1 ? 1 : st->last_cas + 1; /* never 0, which means "whatever it is" */
    return st->last_cas;
}

sl_status_t mh_op_shared_get(void *worker, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas) {
    const shared_t *s = shared_find(state_of(worker), vm_id, key);
    if (s == NULL) {
        return SL_NOT_FOUND;
    }
    *cas = s->cas;
    return sl_buf_append_str(value, s->value);
}

static sl_status_t shared_insert(mh_state_t *st, sl_str_t vm_id, sl_str_t key, sl_str_t value) {
    size_t room = MH_SHARED_BYTES - st->shared_bytes;
    if (st->n_shared >= MH_SHARED_ITEMS || key.len > room || value.len > room - key.len) {
        return SL_NO_MEMORY;
    }
    shared_t *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return SL_NO_MEMORY;
    }
    *s = (shared_t){.vm_id = mh_dup(vm_id), .key = mh_dup(key), .value = mh_dup(value), .next = st->shared};
    if (s->vm_id.data == NULL || s->key.data == NULL || s->value.data == NULL) {
        shared_free(s);
        return SL_NO_MEMORY;
    }
    s->cas = fresh_cas(st);
    st->shared = s;
    st->n_shared++;
    st->shared_bytes += key.len + value.len;
    return SL_OK;
}

static void shared_remove(mh_state_t *st, shared_t *s) {
    shared_t **at = &st->shared;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    st->n_shared--;
    st->shared_bytes -= s->key.len + s->value.len;
    shared_free(s);
}

sl_status_t mh_op_shared_set(void *worker, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas) {
    mh_state_t *st = state_of(worker);
    shared_t *s = shared_find(st, vm_id, key);
    if (s == NULL && value.data == NULL) {
        return SL_NOT_FOUND;
    }
    if (s == NULL) {
        return shared_insert(st, vm_id, key, value); /* whatever cas was given, as Envoy does */
    }
    if (cas != 0 && cas != s->cas) {
        return SL_CONFLICT;
    }
    if (value.data == NULL) {
        shared_remove(st, s);
        return SL_OK;
    }
    size_t others = st->shared_bytes - s->value.len;
    sl_str_t copy = value.len > MH_SHARED_BYTES - others ? SL_STR_NULL : mh_dup(value);
    if (copy.data == NULL) {
        return SL_NO_MEMORY;
    }
    free((char *)s->value.data);
    s->value = copy;
    s->cas = fresh_cas(st);
    st->shared_bytes = others + value.len;
    return SL_OK;
}

sl_status_t mh_shared_get(mh_t *mh, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas) {
    return mh_op_shared_get(mh, vm_id, key, value, cas);
}

sl_status_t mh_shared_set(mh_t *mh, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas) {
    return mh_op_shared_set(mh, vm_id, key, value, cas);
}

/* ---- queues ---- */

static queue_t *queue_named(mh_state_t *st, sl_str_t vm_id, sl_str_t name) {
    for (queue_t *q = st->queues; q != NULL; q = q->next) {
        if (sl_str_eq(q->vm_id, vm_id) && sl_str_eq(q->name, name)) {
            return q;
        }
    }
    return NULL;
}

static queue_t *queue_by_id(mh_state_t *st, uint32_t id) {
    for (queue_t *q = st->queues; q != NULL; q = q->next) {
        if (q->id == id) {
            return q;
        }
    }
    return NULL;
}

static queue_t *queue_create(mh_state_t *st, sl_str_t vm_id, sl_str_t name) {
    queue_t *q = st->n_queues < MH_QUEUES ? calloc(1, sizeof(*q)) : NULL;
    if (q == NULL) {
        return NULL;
    }
    q->vm_id = mh_dup(vm_id);
    q->name = mh_dup(name);
    if (q->vm_id.data == NULL || q->name.data == NULL) {
        queue_free(q);
        return NULL;
    }
    q->id = (uint32_t)++st->n_queues;
    q->next = st->queues;
    st->queues = q;
    return q;
}

sl_status_t mh_op_queue_register(void *worker, sl_str_t vm_id, sl_str_t name, pw_root_t *root, uint32_t *id) {
    mh_state_t *st = state_of(worker);
    queue_t *q = queue_named(st, vm_id, name);
    q = q != NULL ? q : queue_create(st, vm_id, name);
    if (q == NULL) {
        return SL_NO_MEMORY;
    }
    q->root = root;
    *id = q->id;
    return SL_OK;
}

sl_status_t mh_op_queue_resolve(void *worker, sl_str_t vm_id, sl_str_t name, uint32_t *id) {
    const queue_t *q = queue_named(state_of(worker), vm_id, name);
    if (q == NULL) {
        return SL_NOT_FOUND;
    }
    *id = q->id;
    return SL_OK;
}

static sl_status_t push(queue_t *q, sl_str_t data) {
    if (q->n >= MH_QUEUE_ITEMS || data.len > MH_QUEUE_BYTES - q->bytes) {
        return SL_NO_MEMORY;
    }
    item_t *item = calloc(1, sizeof(*item));
    if (item == NULL) {
        return SL_NO_MEMORY;
    }
    item->data = mh_dup(data);
    if (item->data.data == NULL) {
        free(item);
        return SL_NO_MEMORY;
    }
    if (q->last == NULL) {
        q->first = item;
    } else {
        q->last->next = item;
    }
    q->last = item;
    q->n++;
    q->bytes += data.len;
    q->to_tell++;
    return SL_OK;
}

sl_status_t mh_op_queue_push(void *worker, uint32_t id, sl_str_t data) {
    queue_t *q = queue_by_id(state_of(worker), id);
    return q == NULL ? SL_NOT_FOUND : push(q, data);
}

sl_status_t mh_op_queue_pop(void *worker, uint32_t id, sl_buf_t *data) {
    queue_t *q = queue_by_id(state_of(worker), id);
    if (q == NULL) {
        return SL_NOT_FOUND;
    }
    item_t *item = q->first;
    if (item == NULL) {
        return SL_AGAIN;
    }
    sl_status_t rc = sl_buf_append_str(data, item->data);
    if (rc != SL_OK) {
        return rc; /* the item stays */
    }
    q->first = item->next;
    q->last = q->first == NULL ? NULL : q->last;
    q->n--;
    q->bytes -= item->data.len;
    item_free(item);
    return SL_OK;
}

void mh_state_root_gone(mh_state_t *st, const pw_root_t *root) {
    for (queue_t *q = st->queues; q != NULL; q = q->next) {
        if (q->root == root) {
            q->root = NULL;
            q->to_tell = 0;
        }
    }
}

bool mh_state_next_item(mh_state_t *st, pw_root_t **root, uint32_t *queue) {
    for (queue_t *q = st->queues; q != NULL; q = q->next) {
        if (q->to_tell != 0 && q->root != NULL) {
            q->to_tell--;
            *root = q->root;
            *queue = q->id;
            return true;
        }
    }
    return false;
}

sl_status_t mh_queue_push(mh_t *mh, sl_str_t vm_id, sl_str_t name, sl_str_t data) {
    queue_t *q = queue_named(mh->state, vm_id, name);
    return q == NULL ? SL_NOT_FOUND : push(q, data);
}

size_t mh_queue_len(mh_t *mh, sl_str_t vm_id, sl_str_t name) {
    const queue_t *q = queue_named(mh->state, vm_id, name);
    return q == NULL ? 0 : q->n;
}

/* ---- metrics ---- */

static metric_t *metric_named(mh_state_t *st, uint32_t type, sl_str_t filter, sl_str_t name) {
    for (metric_t *m = st->metrics; m != NULL; m = m->next) {
        if (m->type == type && sl_str_eq(m->filter, filter) && sl_str_eq(m->name, name)) {
            return m;
        }
    }
    return NULL;
}

static metric_t *metric_create(mh_state_t *st, uint32_t type, sl_str_t filter, sl_str_t name) {
    metric_t *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    *m = (metric_t){.filter = mh_dup(filter), .name = mh_dup(name), .type = type, .next = st->metrics};
    if (m->filter.data == NULL || m->name.data == NULL) {
        metric_free(m);
        return NULL;
    }
    st->metrics = m;
    return m;
}

sl_status_t mh_op_metric_define(void *worker, uint32_t type, sl_str_t filter, sl_str_t name, uint32_t *id) {
    mh_state_t *st = state_of(worker);
    if (type > PW_METRIC_HISTOGRAM) {
        return SL_INVALID;
    }
    if (st->n_ids >= MH_METRICS) {
        return SL_NO_MEMORY;
    }
    metric_t *m = metric_named(st, type, filter, name);
    m = m != NULL ? m : metric_create(st, type, filter, name);
    if (m == NULL) {
        return SL_NO_MEMORY;
    }
    st->ids[st->n_ids] = m;
    *id = (uint32_t)(++st->n_ids * 4 + type); /* a new id each time, bound to the same value */
    return SL_OK;
}

static metric_t *metric_by_id(mh_state_t *st, uint32_t id) {
    size_t i = id / 4;
    if (i == 0 || i > st->n_ids || st->ids[i - 1]->type != id % 4) {
        return NULL;
    }
    return st->ids[i - 1];
}

sl_status_t mh_op_metric_add(void *worker, uint32_t id, int64_t delta) {
    metric_t *m = metric_by_id(state_of(worker), id);
    if (m == NULL) {
        return SL_NOT_FOUND;
    }
    if (m->type == PW_METRIC_HISTOGRAM || (m->type == PW_METRIC_COUNTER && delta <= 0)) {
        return SL_INVALID;
    }
    m->value += (uint64_t)delta;
    return SL_OK;
}

sl_status_t mh_op_metric_record(void *worker, uint32_t id, uint64_t value) {
    metric_t *m = metric_by_id(state_of(worker), id);
    if (m == NULL) {
        return SL_NOT_FOUND;
    }
    m->samples++;
    m->value = m->type == PW_METRIC_COUNTER ? m->value + value : value;
    return SL_OK;
}

sl_status_t mh_op_metric_get(void *worker, uint32_t id, uint64_t *value) {
    const metric_t *m = metric_by_id(state_of(worker), id);
    if (m == NULL) {
        return SL_NOT_FOUND;
    }
    if (m->type == PW_METRIC_HISTOGRAM) {
        return SL_INVALID;
    }
    *value = m->value;
    return SL_OK;
}

static const metric_t *metric_any(mh_state_t *st, sl_str_t filter, sl_str_t name) {
    for (uint32_t type = 0; type <= PW_METRIC_HISTOGRAM; type++) {
        const metric_t *m = metric_named(st, type, filter, name);
        if (m != NULL) {
            return m;
        }
    }
    return NULL;
}

sl_status_t mh_metric_value(mh_t *mh, sl_str_t filter, sl_str_t name, uint64_t *value) {
    const metric_t *m = metric_any(mh->state, filter, name);
    if (m == NULL) {
        return SL_NOT_FOUND;
    }
    *value = m->value;
    return SL_OK;
}

size_t mh_metric_samples(mh_t *mh, sl_str_t filter, sl_str_t name) {
    const metric_t *m = metric_any(mh->state, filter, name);
    return m == NULL ? 0 : m->samples;
}
