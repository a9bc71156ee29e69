#include "sh_kv.h"

#include "sl_digest.h"

#define KIND 0x4b560001u /* "KV", version of the layout */
#define BYTES_PER_BUCKET 128

/* Followed by vm_id, key and value. */
typedef struct {
    sh_ref_t chain;        /* of the bucket */
    sh_ref_t newer, older; /* of the entries of its size class */
    uint32_t hash;
    uint64_t used_at; /* tables_t.clock when it was used last */
    uint32_t cas;
    uint32_t vm_len, key_len, value_len;
} entry_t;

typedef struct {
    uint64_t clock;
    uint64_t evicted, refused;
    uint32_t entries;
    uint32_t n_buckets; /* a power of two */
    sh_ref_t newest[SH_CLASSES_MAX], oldest[SH_CLASSES_MAX];
    sh_ref_t buckets[];
} tables_t;

/* A write, taken apart once. */
typedef struct {
    sl_str_t vm_id, key, value;
    uint32_t hash;
    size_t bytes;
} write_t;

static tables_t *tables(const sh_kv_t *kv) {
    return sh_tables(&kv->zone);
}

static entry_t *entry_at(const sh_kv_t *kv, sh_ref_t ref) {
    return sh_at(&kv->zone, ref);
}

static char *bytes_of(const entry_t *e) {
    return (char *)(e + 1);
}

static uint32_t buckets_for(size_t size_bytes) {
    return sh_buckets_for(size_bytes, BYTES_PER_BUCKET);
}

static void clear(sh_zone_t *zone) {
    tables_t *t = sh_tables(zone);
    t->n_buckets = buckets_for(zone->head->size_bytes);
}

sl_status_t sh_kv_open(sh_kv_t *kv, void *mem, size_t size_bytes, bool fresh, uint64_t seed, sh_evict_t policy, const sh_env_t *env) {
    sh_layout_t layout = {.kind = KIND, .clear = clear};
    layout.table_bytes = sizeof(tables_t) + buckets_for(size_bytes & ~(size_t)(SH_UNIT - 1)) * sizeof(sh_ref_t);
    kv->policy = policy;
    return sh_zone_open(&kv->zone, mem, size_bytes, fresh, seed, &layout, env);
}

/* ---- finding ------------------------------------------------------------------------------------------------------- */

static uint32_t hash_of(const sh_kv_t *kv, sl_str_t vm_id, sl_str_t key) {
    uint64_t seed = kv->zone.head->seed;
    return (uint32_t)sl_hash(key, vm_id.len != 0 ? sl_hash(vm_id, seed) : seed);
}

static sh_ref_t *bucket_of(const sh_kv_t *kv, uint32_t hash) {
    tables_t *t = tables(kv);
    return &t->buckets[hash & (t->n_buckets - 1)];
}

static bool is(const entry_t *e, uint32_t hash, sl_str_t vm_id, sl_str_t key) {
    return e->hash == hash && sl_str_eq(sl_str(bytes_of(e), e->vm_len), vm_id) &&
           sl_str_eq(sl_str(bytes_of(e) + e->vm_len, e->key_len), key);
}

static sl_str_t value_of(const entry_t *e) {
    return sl_str(bytes_of(e) + e->vm_len + e->key_len, e->value_len);
}

static sh_ref_t find(const sh_kv_t *kv, uint32_t hash, sl_str_t vm_id, sl_str_t key) {
    sh_ref_t ref = *bucket_of(kv, hash);
    while (ref != 0 && !is(entry_at(kv, ref), hash, vm_id, key)) {
        ref = entry_at(kv, ref)->chain;
    }
    return ref;
}

/* ---- the order of use ---------------------------------------------------------------------------------------------- */

static void order_add(sh_kv_t *kv, sh_ref_t ref) {
    tables_t *t = tables(kv);
    entry_t *e = entry_at(kv, ref);
    uint32_t c = sh_class_of(&kv->zone, ref);
    e->newer = 0;
    e->older = t->newest[c];
    if (e->older != 0) {
        entry_at(kv, e->older)->newer = ref;
    } else {
        t->oldest[c] = ref;
    }
    sh_step(&kv->zone);
    t->newest[c] = ref;
    e->used_at = ++t->clock;
}

static void order_remove(sh_kv_t *kv, sh_ref_t ref) {
    tables_t *t = tables(kv);
    const entry_t *e = entry_at(kv, ref);
    uint32_t c = sh_class_of(&kv->zone, ref);
    *(e->newer != 0 ? &entry_at(kv, e->newer)->older : &t->newest[c]) = e->older;
    sh_step(&kv->zone);
    *(e->older != 0 ? &entry_at(kv, e->older)->newer : &t->oldest[c]) = e->newer;
}

static void used(sh_kv_t *kv, sh_ref_t ref) {
    entry_t *e = entry_at(kv, ref);
    if (kv->policy == SH_EVICT_NONE) {
        return;
    }
    if (e->newer == 0) {
        e->used_at = ++tables(kv)->clock; /* the order stays: two single words, no change to announce */
        return;
    }
    sh_begin(&kv->zone);
    order_remove(kv, ref);
    order_add(kv, ref);
    sh_end(&kv->zone);
}

/* ---- getting ------------------------------------------------------------------------------------------------------- */

sl_status_t sh_kv_get(sh_kv_t *kv, sl_str_t vm_id, sl_str_t key, sl_buf_t *value, uint32_t *cas) {
    uint32_t hash = hash_of(kv, vm_id, key);
    sl_status_t rc = SL_NOT_FOUND;
    sh_lock(&kv->zone);
    sh_ref_t ref = find(kv, hash, vm_id, key);
    if (ref != 0) {
        used(kv, ref);
        *cas = entry_at(kv, ref)->cas;
        rc = sl_buf_append_str(value, value_of(entry_at(kv, ref)));
    }
    sh_unlock(&kv->zone);
    return rc;
}

/* ---- making room --------------------------------------------------------------------------------------------------- */

/* Frees nothing: the block may be wanted again. */
static void unlink_entry(sh_kv_t *kv, sh_ref_t ref) {
    sh_ref_t *at = bucket_of(kv, entry_at(kv, ref)->hash);
    while (*at != ref) {
        at = &entry_at(kv, *at)->chain;
    }
    *at = entry_at(kv, ref)->chain;
    sh_step(&kv->zone);
    tables(kv)->entries--;
}

static void discard(sh_kv_t *kv, sh_ref_t ref) {
    order_remove(kv, ref);
    unlink_entry(kv, ref);
    sh_free(&kv->zone, ref);
}

static sh_ref_t oldest_of_all(const sh_kv_t *kv) {
    const tables_t *t = tables(kv);
    sh_ref_t oldest = 0;
    for (uint32_t c = 0; c < kv->zone.head->n_classes; c++) {
        sh_ref_t ref = t->oldest[c];
        if (ref != 0 && (oldest == 0 || entry_at(kv, ref)->used_at < entry_at(kv, oldest)->used_at)) {
            oldest = ref;
        }
    }
    return oldest;
}

static sh_ref_t oldest_near(const sh_kv_t *kv, uint32_t class) {
    const tables_t *t = tables(kv);
    for (uint32_t c = class; c < kv->zone.head->n_classes; c++) {
        if (t->oldest[c] != 0) {
            return t->oldest[c];
        }
    }
    for (uint32_t c = class; c-- > 0;) {
        if (t->oldest[c] != 0) {
            return t->oldest[c];
        }
    }
    return 0;
}

static bool evict(sh_kv_t *kv, size_t for_bytes) {
    sh_ref_t ref = 0;
    if (kv->policy == SH_EVICT_LRU) {
        ref = oldest_of_all(kv);
    } else if (kv->policy == SH_EVICT_SLRU) {
        ref = oldest_near(kv, sh_class_of_units((uint32_t)((for_bytes + 8 + SH_UNIT - 1) / SH_UNIT)));
    }
    if (ref == 0) {
        return false;
    }
    discard(kv, ref);
    tables(kv)->evicted++;
    return true;
}

/* `old` (0: none) is in no order and not evicted; it is freed if, and only if, there is room. */
static sh_ref_t make_room(sh_kv_t *kv, size_t bytes, sh_ref_t old) {
    for (;;) {
        sh_ref_t ref = sh_alloc(&kv->zone, bytes);
        if (ref != 0) {
            if (old != 0) {
                unlink_entry(kv, old);
                sh_free(&kv->zone, old);
            }
            return ref;
        }
        if (old != 0) {
            /* The bucket must not lead to the block when it changes. */
            sh_ref_t *bucket = bucket_of(kv, entry_at(kv, old)->hash);
            unlink_entry(kv, old);
            ref = sh_exchange(&kv->zone, old, bytes);
            if (ref != 0) {
                return ref;
            }
            entry_at(kv, old)->chain = *bucket;
            *bucket = old;
            tables(kv)->entries++;
        }
        if (!evict(kv, bytes)) {
            return 0;
        }
    }
}

/* ---- setting ------------------------------------------------------------------------------------------------------- */

static uint32_t fresh_cas(sh_kv_t *kv) {
    uint32_t *last = &kv->zone.head->counter;
    *last = *last >= SH_CAS_NEVER - 1 ? 1 : *last + 1;
    return *last;
}

static void copy(char *to, sl_str_t s) {
    if (s.len != 0) {
        memcpy(to, s.data, s.len);
    }
}

static void fill(sh_kv_t *kv, sh_ref_t ref, const write_t *w) {
    entry_t *e = entry_at(kv, ref);
    char *to = bytes_of(e);
    e->hash = w->hash;
    e->vm_len = (uint32_t)w->vm_id.len;
    e->key_len = (uint32_t)w->key.len;
    e->value_len = (uint32_t)w->value.len;
    e->cas = fresh_cas(kv);
    copy(to, w->vm_id);
    copy(to + w->vm_id.len, w->key);
    copy(to + w->vm_id.len + w->key.len, w->value);
    sh_step(&kv->zone);
}

static void link_entry(sh_kv_t *kv, sh_ref_t ref) {
    entry_t *e = entry_at(kv, ref);
    sh_ref_t *bucket = bucket_of(kv, e->hash);
    e->chain = *bucket;
    sh_step(&kv->zone);
    *bucket = ref;
    tables(kv)->entries++;
    order_add(kv, ref);
}

/* The key is the same, and lies where it will lie. */
static void overwrite(sh_kv_t *kv, sh_ref_t ref, const write_t *w) {
    entry_t *e = entry_at(kv, ref);
    copy(bytes_of(e) + e->vm_len + e->key_len, w->value);
    sh_step(&kv->zone);
    e->value_len = (uint32_t)w->value.len;
    e->cas = fresh_cas(kv);
    sh_step(&kv->zone);
    if (e->newer == 0) {
        e->used_at = ++tables(kv)->clock; /* the newest of its class already */
        return;
    }
    order_remove(kv, ref);
    order_add(kv, ref);
}

/* Without wasting much. */
static bool fits_as_it_is(const sh_kv_t *kv, sh_ref_t ref, const write_t *w) {
    size_t capacity = sh_capacity(&kv->zone, ref);
    return w->bytes <= capacity && capacity - w->bytes <= capacity / 4 + 2 * SH_UNIT;
}

static sl_status_t write_entry(sh_kv_t *kv, sh_ref_t old, const write_t *w) {
    if (w->bytes > sh_capacity_max(&kv->zone)) {
        return SL_NO_MEMORY;
    }
    if (old != 0 && fits_as_it_is(kv, old, w)) {
        overwrite(kv, old, w);
        return SL_OK;
    }
    if (old != 0) {
        order_remove(kv, old);
    }
    /* Under slru blocks of a class have one size, so that one of them makes room for another. */
    size_t bytes = kv->policy == SH_EVICT_SLRU ? sh_round_up(w->bytes) : w->bytes;
    sh_ref_t ref = make_room(kv, bytes <= sh_capacity_max(&kv->zone) ? bytes : w->bytes, old);
    if (ref == 0) {
        if (old != 0) {
            order_add(kv, old);
        }
        return SL_NO_MEMORY;
    }
    fill(kv, ref, w);
    link_entry(kv, ref);
    return SL_OK;
}

/* false: no region has room for such a key. */
static bool describe(const sh_kv_t *kv, sl_str_t vm_id, sl_str_t key, sl_str_t value, write_t *w) {
    size_t room = sh_capacity_max(&kv->zone) - sizeof(entry_t);
    if (vm_id.len > room || key.len > room - vm_id.len) {
        return false;
    }
    *w = (write_t){.vm_id = vm_id, .key = key, .value = value, .hash = hash_of(kv, vm_id, key)};
    w->bytes = value.len > room ? SIZE_MAX : sizeof(entry_t) + vm_id.len + key.len + value.len;
    return true;
}

sl_status_t sh_kv_set(sh_kv_t *kv, sl_str_t vm_id, sl_str_t key, sl_str_t value, uint32_t cas, uint32_t *new_cas) {
    write_t w = {0};
    bool possible = describe(kv, vm_id, key, value, &w);
    sl_status_t rc = SL_NO_MEMORY;
    sh_lock(&kv->zone);
    sh_ref_t old = possible ? find(kv, w.hash, vm_id, key) : 0;
    if (old != 0 && cas != SH_CAS_ANY && cas != entry_at(kv, old)->cas) {
        rc = SL_CONFLICT;
    } else if (possible) {
        sh_begin(&kv->zone);
        rc = write_entry(kv, old, &w);
        sh_end(&kv->zone);
    }
    if (rc == SL_NO_MEMORY) {
        tables(kv)->refused++;
    }
    if (rc == SL_OK && new_cas != NULL) {
        *new_cas = kv->zone.head->counter;
    }
    sh_unlock(&kv->zone);
    return rc;
}

sl_status_t sh_kv_remove(sh_kv_t *kv, sl_str_t vm_id, sl_str_t key, uint32_t cas) {
    uint32_t hash = hash_of(kv, vm_id, key);
    sl_status_t rc = SL_NOT_FOUND;
    sh_lock(&kv->zone);
    sh_ref_t ref = find(kv, hash, vm_id, key);
    if (ref != 0 && cas != SH_CAS_ANY && cas != entry_at(kv, ref)->cas) {
        rc = SL_CONFLICT;
    } else if (ref != 0) {
        sh_begin(&kv->zone);
        discard(kv, ref);
        sh_end(&kv->zone);
        rc = SL_OK;
    }
    sh_unlock(&kv->zone);
    return rc;
}

/* at[c]: the oldest of class c that has not been taken yet. Takes the oldest of all. */
static sh_ref_t next_in_order(const sh_kv_t *kv, sh_ref_t *at, uint32_t n_classes) {
    sh_ref_t oldest = 0;
    uint32_t class = 0;
    for (uint32_t c = 0; c < n_classes; c++) {
        if (at[c] != 0 && (oldest == 0 || entry_at(kv, at[c])->used_at < entry_at(kv, oldest)->used_at)) {
            oldest = at[c];
            class = c;
        }
    }
    if (oldest != 0) {
        at[class] = entry_at(kv, oldest)->newer;
    }
    return oldest;
}

static void copy_entry(sh_kv_t *to, const entry_t *e) {
    sl_str_t vm_id = sl_str(bytes_of(e), e->vm_len), key = sl_str(bytes_of(e) + e->vm_len, e->key_len);
    if (sh_kv_set(to, vm_id, key, value_of(e), SH_CAS_ANY, NULL) == SL_OK) {
        entry_at(to, find(to, hash_of(to, vm_id, key), vm_id, key))->cas = e->cas;
    }
}

void sh_kv_copy(sh_kv_t *to, sh_kv_t *from) {
    sh_ref_t at[SH_CLASSES_MAX];
    uint32_t n_classes = from->zone.head->n_classes;
    sh_lock(&from->zone);
    memcpy(at, tables(from)->oldest, sizeof(at));
    for (sh_ref_t ref = next_in_order(from, at, n_classes); ref != 0; ref = next_in_order(from, at, n_classes)) {
        copy_entry(to, entry_at(from, ref));
    }
    to->zone.head->counter = from->zone.head->counter;
    sh_unlock(&from->zone);
}

/* ---- looking ------------------------------------------------------------------------------------------------------- */

void sh_kv_page(sh_kv_t *kv, uint64_t *cursor, size_t n, void (*each)(void *ud, const sh_kv_entry_t *entry), void *ud) {
    size_t shown = 0;
    sh_lock(&kv->zone);
    const tables_t *t = tables(kv);
    uint64_t bucket = *cursor;
    for (; bucket < t->n_buckets && shown < n; bucket++) {
        for (sh_ref_t ref = t->buckets[bucket]; ref != 0; ref = entry_at(kv, ref)->chain, shown++) {
            const entry_t *e = entry_at(kv, ref);
            sh_kv_entry_t out = {
                .vm_id = sl_str(bytes_of(e), e->vm_len), .key = sl_str(bytes_of(e) + e->vm_len, e->key_len), .cas = e->cas};
            out.value = value_of(e);
            each(ud, &out);
        }
    }
    *cursor = bucket < t->n_buckets ? bucket : 0;
    sh_unlock(&kv->zone);
}

sh_kv_stats_t sh_kv_stats(sh_kv_t *kv) {
    sh_lock(&kv->zone);
    const tables_t *t = tables(kv);
    sh_kv_stats_t s = {
        .entries = t->entries,
        .used_bytes = sh_used_bytes(&kv->zone),
        .total_bytes = sh_total_bytes(&kv->zone),
        .evicted = t->evicted,
        .refused = t->refused,
        .resets = kv->zone.head->resets,
    };
    sh_unlock(&kv->zone);
    return s;
}

static const char *check_order(const sh_kv_t *kv, uint32_t class, size_t *n) {
    const tables_t *t = tables(kv);
    sh_ref_t newer = 0;
    uint64_t used_at = UINT64_MAX;
    for (sh_ref_t ref = t->newest[class]; ref != 0; newer = ref, ref = entry_at(kv, ref)->older) {
        const entry_t *e = entry_at(kv, ref);
        if (e->newer != newer || sh_class_of(&kv->zone, ref) != class || e->used_at >= used_at || *n == 0) {
            return "the order of a size class is wrong";
        }
        used_at = e->used_at;
        --*n;
    }
    return t->oldest[class] == newer ? NULL : "the oldest of a size class is wrong";
}

const char *sh_kv_check(const sh_kv_t *kv) {
    const tables_t *t = tables(kv);
    const char *wrong = sh_zone_check(&kv->zone);
    size_t n = 0;
    for (uint32_t i = 0; wrong == NULL && i < t->n_buckets; i++) {
        for (sh_ref_t ref = t->buckets[i]; ref != 0; ref = entry_at(kv, ref)->chain, n++) {
            const entry_t *e = entry_at(kv, ref);
            if (n >= t->entries || &t->buckets[i] != bucket_of(kv, e->hash) ||
                sizeof(*e) + e->vm_len + e->key_len + e->value_len > sh_capacity(&kv->zone, ref)) {
                return "a bucket is wrong";
            }
        }
    }
    if (wrong == NULL && n != t->entries) {
        return "the count of entries is wrong";
    }
    for (uint32_t c = 0; wrong == NULL && c < kv->zone.head->n_classes; c++) {
        wrong = check_order(kv, c, &n);
    }
    return wrong != NULL ? wrong : n == 0 ? NULL : "an entry is in no order";
}
