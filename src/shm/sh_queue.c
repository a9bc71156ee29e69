#include "sh_queue.h"

#include "sl_digest.h"

#define KIND 0x51550001u /* "QU", version of the layout */
#define BYTES_PER_BUCKET 2048

/* Followed by vm_id and name. */
typedef struct {
    sh_ref_t by_name, by_id; /* chains of the buckets */
    uint32_t hash, id;
    sh_ref_t first, last; /* item_t */
    sh_ref_t listeners;   /* listener_t, the last one that registered in front */
    uint32_t items;
    uint32_t to_tell; /* items of which no listener has been told */
    uint32_t n_listeners;
    uint64_t bytes, pushed, popped, refused;
    uint32_t vm_len, name_len;
} queue_t;

/* Followed by the bytes. */
typedef struct {
    sh_ref_t next;
    uint32_t len;
} item_t;

typedef struct {
    sh_ref_t next;
    sh_listener_t who;
} listener_t;

typedef struct {
    uint32_t queues;
    uint32_t n_buckets; /* a power of two */
    sh_ref_t buckets[]; /* by name; as many by id behind them */
} tables_t;

static tables_t *tables(const sh_queues_t *qs) {
    return sh_tables(&qs->zone);
}

static queue_t *queue_at(const sh_queues_t *qs, sh_ref_t ref) {
    return sh_at(&qs->zone, ref);
}

static item_t *item_at(const sh_queues_t *qs, sh_ref_t ref) {
    return sh_at(&qs->zone, ref);
}

static listener_t *listener_at(const sh_queues_t *qs, sh_ref_t ref) {
    return sh_at(&qs->zone, ref);
}

static uint32_t buckets_for(size_t size_bytes) {
    return sh_buckets_for(size_bytes, BYTES_PER_BUCKET);
}

static void clear(sh_zone_t *zone) {
    tables_t *t = sh_tables(zone);
    t->n_buckets = buckets_for(zone->head->size_bytes);
}

sl_status_t sh_queues_open(sh_queues_t *qs, void *mem, size_t size_bytes, bool fresh, uint64_t seed, const sh_env_t *env) {
    sh_layout_t layout = {.kind = KIND, .clear = clear};
    layout.table_bytes = sizeof(tables_t) + 2 * buckets_for(size_bytes & ~(size_t)(SH_UNIT - 1)) * sizeof(sh_ref_t);
    return sh_zone_open(&qs->zone, mem, size_bytes, fresh, seed, &layout, env);
}

/* ---- finding ------------------------------------------------------------------------------------------------------- */

static uint32_t hash_of(const sh_queues_t *qs, sl_str_t vm_id, sl_str_t name) {
    uint64_t seed = qs->zone.head->seed;
    return (uint32_t)sl_hash(name, vm_id.len != 0 ? sl_hash(vm_id, seed) : seed);
}

static sh_ref_t *name_bucket(const sh_queues_t *qs, uint32_t hash) {
    tables_t *t = tables(qs);
    return &t->buckets[hash & (t->n_buckets - 1)];
}

/* Ids are given one after the other, so they spread by themselves. */
static sh_ref_t *id_bucket(const sh_queues_t *qs, uint32_t id) {
    tables_t *t = tables(qs);
    return &t->buckets[t->n_buckets + (id & (t->n_buckets - 1))];
}

static sl_str_t vm_of(const queue_t *q) {
    return sl_str((const char *)(q + 1), q->vm_len);
}

static sl_str_t name_of(const queue_t *q) {
    return sl_str((const char *)(q + 1) + q->vm_len, q->name_len);
}

static queue_t *by_name(const sh_queues_t *qs, sl_str_t vm_id, sl_str_t name) {
    uint32_t hash = hash_of(qs, vm_id, name);
    for (sh_ref_t ref = *name_bucket(qs, hash); ref != 0; ref = queue_at(qs, ref)->by_name) {
        queue_t *q = queue_at(qs, ref);
        if (q->hash == hash && sl_str_eq(vm_of(q), vm_id) && sl_str_eq(name_of(q), name)) {
            return q;
        }
    }
    return NULL;
}

static queue_t *by_id(const sh_queues_t *qs, uint32_t id) {
    for (sh_ref_t ref = *id_bucket(qs, id); ref != 0; ref = queue_at(qs, ref)->by_id) {
        if (queue_at(qs, ref)->id == id) {
            return queue_at(qs, ref);
        }
    }
    return NULL;
}

sl_status_t sh_queue_resolve(sh_queues_t *qs, sl_str_t vm_id, sl_str_t name, uint32_t *id) {
    sh_lock(&qs->zone);
    const queue_t *q = by_name(qs, vm_id, name);
    *id = q != NULL ? q->id : *id;
    sh_unlock(&qs->zone);
    return q != NULL ? SL_OK : SL_NOT_FOUND;
}

bool sh_queue_exists(sh_queues_t *qs, uint32_t id) {
    sh_lock(&qs->zone);
    bool found = by_id(qs, id) != NULL;
    sh_unlock(&qs->zone);
    return found;
}

/* ---- listeners ----------------------------------------------------------------------------------------------------- */

static bool same(sh_listener_t a, sh_listener_t b) {
    return a.pid == b.pid && a.slot == b.slot && a.serial == b.serial;
}

static sh_listener_t in_front(const sh_queues_t *qs, const queue_t *q) {
    return q->listeners != 0 ? listener_at(qs, q->listeners)->who : (sh_listener_t){.pid = 0};
}

static sh_listener_t to_be_told(const sh_queues_t *qs, const queue_t *q) {
    return q->to_tell != 0 ? in_front(qs, q) : (sh_listener_t){.pid = 0};
}

/* Where the reference to the listener is; NULL: it is not among them. */
static sh_ref_t *listener_find(const sh_queues_t *qs, queue_t *q, sh_listener_t who) {
    for (sh_ref_t *at = &q->listeners; *at != 0; at = &listener_at(qs, *at)->next) {
        if (same(listener_at(qs, *at)->who, who)) {
            return at;
        }
    }
    return NULL;
}

static void listener_drop(sh_queues_t *qs, queue_t *q, sh_ref_t *at) {
    sh_ref_t ref = *at;
    *at = listener_at(qs, ref)->next;
    q->n_listeners--;
    sh_step(&qs->zone);
    sh_free(&qs->zone, ref);
}

static sl_status_t listener_put(sh_queues_t *qs, queue_t *q, sh_listener_t who) {
    sh_ref_t *at = listener_find(qs, q, who);
    if (at != NULL) {
        listener_drop(qs, q, at);
    }
    sh_ref_t ref = sh_alloc(&qs->zone, sizeof(listener_t));
    if (ref == 0) {
        return SL_NO_MEMORY;
    }
    if (q->listeners == 0 && q->to_tell > q->items) {
        q->to_tell = q->items; /* others took the rest meanwhile */
    }
    *listener_at(qs, ref) = (listener_t){.next = q->listeners, .who = who};
    sh_step(&qs->zone);
    q->listeners = ref;
    q->n_listeners++;
    return SL_OK;
}

/* ---- registering --------------------------------------------------------------------------------------------------- */

uint32_t sh_queue_new_id(sh_queues_t *qs) {
    sh_lock(&qs->zone);
    uint32_t *last = &qs->zone.head->counter;
    *last = *last == UINT32_MAX ? 1 : *last + 1;
    uint32_t id = *last;
    sh_unlock(&qs->zone);
    return id;
}

static queue_t *make(sh_queues_t *qs, sl_str_t vm_id, sl_str_t name, uint32_t id) {
    size_t room = sh_capacity_max(&qs->zone) - sizeof(queue_t);
    if (vm_id.len > room || name.len > room - vm_id.len) {
        return NULL;
    }
    sh_ref_t ref = sh_alloc(&qs->zone, sizeof(queue_t) + vm_id.len + name.len);
    if (ref == 0) {
        return NULL;
    }
    queue_t *q = queue_at(qs, ref);
    *q = (queue_t){.hash = hash_of(qs, vm_id, name), .id = id, .vm_len = (uint32_t)vm_id.len, .name_len = (uint32_t)name.len};
    if (vm_id.len != 0) {
        memcpy(q + 1, vm_id.data, vm_id.len);
    }
    if (name.len != 0) {
        memcpy((char *)(q + 1) + vm_id.len, name.data, name.len);
    }
    sh_ref_t *names = name_bucket(qs, q->hash), *ids = id_bucket(qs, id);
    q->by_name = *names;
    q->by_id = *ids;
    *names = ref;
    sh_step(&qs->zone);
    *ids = ref;
    tables(qs)->queues++;
    return q;
}

static sl_status_t register_locked(sh_queues_t *qs, sl_str_t vm_id, sl_str_t name, sh_listener_t listener, uint32_t *id,
                                   sh_listener_t *tell) {
    queue_t *q = by_name(qs, vm_id, name);
    if (q == NULL && *id == 0) {
        return SL_NOT_FOUND;
    }
    q = q != NULL ? q : make(qs, vm_id, name, *id);
    if (q == NULL) {
        return SL_NO_MEMORY;
    }
    *id = q->id;
    sl_status_t rc = listener_put(qs, q, listener);
    *tell = to_be_told(qs, q);
    return rc;
}

sl_status_t sh_queue_register(sh_queues_t *qs, sl_str_t vm_id, sl_str_t name, sh_listener_t listener, uint32_t *id, sh_listener_t *tell) {
    *tell = (sh_listener_t){.pid = 0};
    sh_lock(&qs->zone);
    sh_begin(&qs->zone);
    sl_status_t rc = register_locked(qs, vm_id, name, listener, id, tell);
    sh_end(&qs->zone);
    sh_unlock(&qs->zone);
    return rc;
}

/* ---- items --------------------------------------------------------------------------------------------------------- */

static sl_status_t append(sh_queues_t *qs, queue_t *q, sl_str_t data) {
    sh_ref_t ref = data.len > sh_capacity_max(&qs->zone) - sizeof(item_t) ? 0 : sh_alloc(&qs->zone, sizeof(item_t) + data.len);
    if (ref == 0) {
        q->refused++;
        return SL_NO_MEMORY;
    }
    item_t *item = item_at(qs, ref);
    *item = (item_t){.len = (uint32_t)data.len};
    if (data.len != 0) {
        memcpy(item + 1, data.data, data.len);
    }
    *(q->last != 0 ? &item_at(qs, q->last)->next : &q->first) = ref;
    sh_step(&qs->zone);
    q->last = ref;
    q->items++;
    q->to_tell += q->to_tell < q->items || q->listeners != 0; /* while nobody listens, no more than there are */
    q->pushed++;
    q->bytes += data.len;
    return SL_OK;
}

sl_status_t sh_queue_push(sh_queues_t *qs, uint32_t id, sl_str_t data, sh_listener_t *tell) {
    sl_status_t rc = SL_NOT_FOUND;
    *tell = (sh_listener_t){.pid = 0};
    sh_lock(&qs->zone);
    queue_t *q = by_id(qs, id);
    if (q != NULL) {
        sh_begin(&qs->zone);
        rc = append(qs, q, data);
        sh_end(&qs->zone);
        *tell = rc == SL_OK ? in_front(qs, q) : *tell;
    }
    sh_unlock(&qs->zone);
    return rc;
}

static void remove_first(sh_queues_t *qs, queue_t *q) {
    sh_ref_t ref = q->first;
    const item_t *item = item_at(qs, ref);
    q->first = item->next;
    sh_step(&qs->zone);
    q->last = q->first != 0 ? q->last : 0;
    q->items--;
    q->popped++;
    q->bytes -= item->len;
    sh_free(&qs->zone, ref);
}

static sl_status_t pop(sh_queues_t *qs, queue_t *q, sl_buf_t *data) {
    if (q->first == 0) {
        return SL_AGAIN;
    }
    const item_t *item = item_at(qs, q->first);
    sl_status_t rc = sl_buf_append(data, item + 1, item->len);
    if (rc != SL_OK) {
        return rc;
    }
    sh_begin(&qs->zone);
    remove_first(qs, q);
    sh_end(&qs->zone);
    return SL_OK;
}

sl_status_t sh_queue_pop(sh_queues_t *qs, uint32_t id, sl_buf_t *data) {
    sh_lock(&qs->zone);
    queue_t *q = by_id(qs, id);
    sl_status_t rc = q != NULL ? pop(qs, q, data) : SL_NOT_FOUND;
    sh_unlock(&qs->zone);
    return rc;
}

/* ---- telling ------------------------------------------------------------------------------------------------------- */

uint32_t sh_queue_take(sh_queues_t *qs, uint32_t id, sh_listener_t listener, uint32_t max) {
    uint32_t n = 0;
    sh_lock(&qs->zone);
    queue_t *q = by_id(qs, id);
    if (q != NULL && same(in_front(qs, q), listener)) {
        n = q->to_tell < max ? q->to_tell : max;
        q->to_tell -= n;
    }
    sh_unlock(&qs->zone);
    return n;
}

void sh_queue_forget(sh_queues_t *qs, uint32_t id, sh_listener_t listener, sh_listener_t *tell) {
    *tell = (sh_listener_t){.pid = 0};
    sh_lock(&qs->zone);
    queue_t *q = by_id(qs, id);
    sh_ref_t *at = q != NULL ? listener_find(qs, q, listener) : NULL;
    if (at != NULL) {
        sh_begin(&qs->zone);
        listener_drop(qs, q, at);
        sh_end(&qs->zone);
        *tell = to_be_told(qs, q);
    }
    sh_unlock(&qs->zone);
}

static bool purge_queue(sh_queues_t *qs, queue_t *q, bool (*alive)(void *ud, sh_listener_t listener), void *ud) {
    sh_listener_t front = in_front(qs, q);
    for (sh_ref_t *at = &q->listeners; *at != 0;) {
        if (alive(ud, listener_at(qs, *at)->who)) {
            at = &listener_at(qs, *at)->next;
        } else {
            listener_drop(qs, q, at);
        }
    }
    return !same(front, in_front(qs, q));
}

void sh_queues_purge(sh_queues_t *qs, bool (*alive)(void *ud, sh_listener_t listener), void (*tell)(void *ud, sh_listener_t listener),
                     void *ud) {
    sh_lock(&qs->zone);
    const tables_t *t = tables(qs);
    for (uint32_t i = 0; i < t->n_buckets; i++) {
        for (sh_ref_t ref = t->buckets[i]; ref != 0; ref = queue_at(qs, ref)->by_name) {
            queue_t *q = queue_at(qs, ref);
            sh_begin(&qs->zone);
            bool changed = purge_queue(qs, q, alive, ud);
            sh_end(&qs->zone);
            if (changed && to_be_told(qs, q).pid != 0) {
                tell(ud, to_be_told(qs, q));
            }
        }
    }
    sh_unlock(&qs->zone);
}

/* ---- copying ------------------------------------------------------------------------------------------------------- */

static void copy_queue(sh_queues_t *to, const sh_queues_t *from, const queue_t *q) {
    queue_t *made = make(to, vm_of(q), name_of(q), q->id);
    if (made == NULL) {
        return;
    }
    for (sh_ref_t ref = q->first; ref != 0; ref = item_at(from, ref)->next) {
        const item_t *item = item_at(from, ref);
        (void)append(to, made, sl_str(item + 1, item->len));
    }
    made->to_tell = q->to_tell < made->items ? q->to_tell : made->items;
}

void sh_queues_copy(sh_queues_t *to, sh_queues_t *from) {
    sh_lock(&from->zone);
    sh_lock(&to->zone);
    sh_begin(&to->zone);
    const tables_t *t = tables(from);
    for (uint32_t i = 0; i < t->n_buckets; i++) {
        for (sh_ref_t ref = t->buckets[i]; ref != 0; ref = queue_at(from, ref)->by_name) {
            copy_queue(to, from, queue_at(from, ref));
        }
    }
    to->zone.head->counter = from->zone.head->counter;
    sh_end(&to->zone);
    sh_unlock(&to->zone);
    sh_unlock(&from->zone);
}

/* ---- looking ------------------------------------------------------------------------------------------------------- */

static sh_queue_view_t view_of(const queue_t *q) {
    return (sh_queue_view_t){
        .vm_id = vm_of(q),
        .name = name_of(q),
        .id = q->id,
        .items = q->items,
        .listeners = q->n_listeners,
        .bytes = q->bytes,
        .pushed = q->pushed,
        .popped = q->popped,
        .refused = q->refused,
    };
}

void sh_queues_page(sh_queues_t *qs, uint64_t *cursor, size_t n, void (*each)(void *ud, const sh_queue_view_t *queue), void *ud) {
    size_t shown = 0;
    sh_lock(&qs->zone);
    const tables_t *t = tables(qs);
    uint64_t bucket = *cursor;
    for (; bucket < t->n_buckets && shown < n; bucket++) {
        for (sh_ref_t ref = t->buckets[bucket]; ref != 0; ref = queue_at(qs, ref)->by_name, shown++) {
            sh_queue_view_t view = view_of(queue_at(qs, ref));
            each(ud, &view);
        }
    }
    *cursor = bucket < t->n_buckets ? bucket : 0;
    sh_unlock(&qs->zone);
}

sh_queues_stats_t sh_queues_stats(sh_queues_t *qs) {
    sh_lock(&qs->zone);
    sh_queues_stats_t s = {
        .queues = tables(qs)->queues,
        .used_bytes = sh_used_bytes(&qs->zone),
        .total_bytes = sh_total_bytes(&qs->zone),
        .resets = qs->zone.head->resets,
    };
    sh_unlock(&qs->zone);
    return s;
}

static const char *check_queue(const sh_queues_t *qs, const queue_t *q) {
    uint32_t items = 0, listeners = 0;
    uint64_t bytes = 0;
    sh_ref_t last = 0;
    for (sh_ref_t ref = q->first; ref != 0 && items <= q->items; last = ref, ref = item_at(qs, ref)->next, items++) {
        bytes += item_at(qs, ref)->len;
        if (item_at(qs, ref)->len + sizeof(item_t) > sh_capacity(&qs->zone, ref)) {
            return "an item is longer than its block";
        }
    }
    for (sh_ref_t ref = q->listeners; ref != 0 && listeners <= q->n_listeners; ref = listener_at(qs, ref)->next) {
        listeners++;
    }
    if (items != q->items || bytes != q->bytes || last != q->last || q->pushed - q->popped != q->items || listeners != q->n_listeners) {
        return "a queue's counts are wrong";
    }
    return by_id(qs, q->id) == q ? NULL : "a queue cannot be found by its id";
}

const char *sh_queues_check(const sh_queues_t *qs) {
    const tables_t *t = tables(qs);
    const char *wrong = sh_zone_check(&qs->zone);
    uint32_t n = 0;
    for (uint32_t i = 0; wrong == NULL && i < t->n_buckets; i++) {
        for (sh_ref_t ref = t->buckets[i]; wrong == NULL && ref != 0; ref = queue_at(qs, ref)->by_name) {
            wrong = ++n > t->queues ? "a bucket is wrong" : check_queue(qs, queue_at(qs, ref));
        }
    }
    return wrong != NULL ? wrong : n == t->queues ? NULL : "the count of queues is wrong";
}
