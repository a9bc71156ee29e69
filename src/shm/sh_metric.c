#include "sh_metric.h"

#include "sl_digest.h"

#define MAGIC 0x534c53484d450001u /* kind, version of the layout */
#define SLOTS_MAX 256u
#define ROW_ALIGN 64u /* rows share no cache line */
#define NAME_BYTES 64 /* that a definition has on average, for the partition */

typedef struct sh_metrics_head_s {
    uint64_t magic;
    uint64_t size_bytes, seed;
    uint32_t n_slots;
    uint32_t max_defs, n_buckets, n_cells; /* cells of a row */
    uint32_t max_names;                    /* bytes */
    uint32_t refused;
    uint32_t n_defs;                                  /* published */
    uint32_t n_linked;                                /* of these, in a bucket */
    uint64_t buckets_at, defs_at, names_at, cells_at; /* from the start */
} head_t;

typedef struct sh_metric_def_s {
    uint32_t type;
    uint32_t cell; /* its first */
    uint32_t next; /* id in the same bucket */
    uint32_t hash;
    uint32_t owner_at, owner_len, name_len; /* owner, then name, in names */
    uint32_t unused;
} def_t;

static uint32_t *buckets(const sh_metrics_t *ms) {
    return (uint32_t *)(ms->base + ms->head->buckets_at);
}

static def_t *def(const sh_metrics_t *ms, uint32_t id) {
    return (def_t *)(ms->base + ms->head->defs_at) + (id - 1);
}

static char *names(const sh_metrics_t *ms) {
    return (char *)(ms->base + ms->head->names_at);
}

static uint64_t *cell(const sh_metrics_t *ms, uint32_t slot, uint32_t index) {
    return (uint64_t *)(ms->base + ms->head->cells_at) + (size_t)slot * ms->head->n_cells + index;
}

static uint32_t cells_of(uint32_t type) {
    return type == SH_HISTOGRAM ? SH_BINS + 1 : 1;
}

/* ---- set up -------------------------------------------------------------------------------------------------------- */

static size_t align(size_t n, size_t to) {
    return (n + to - 1) & ~(to - 1);
}

/* A quarter for definitions and names, the rest for cells. */
static sl_status_t partition(head_t *h) {
    size_t size = h->size_bytes, at = align(sizeof(*h), 8);
    size_t per_def = sizeof(def_t) + NAME_BYTES + 2 * sizeof(uint32_t);
    size_t defs = size / 4 / per_def;
    h->max_defs = defs > 1u << 20 ? 1u << 20 : (uint32_t)defs;
    h->n_buckets = 16;
    while (h->n_buckets < h->max_defs) {
        h->n_buckets *= 2;
    }
    h->max_names = h->max_defs * NAME_BYTES;
    h->buckets_at = at;
    h->defs_at = at += align(h->n_buckets * sizeof(uint32_t), 8);
    h->names_at = at += h->max_defs * sizeof(def_t);
    h->cells_at = at = align(at + h->max_names, ROW_ALIGN);
    if (h->max_defs == 0 || at >= size) {
        return SL_NO_MEMORY;
    }
    size_t row = (size - at) / h->n_slots & ~(size_t)(ROW_ALIGN - 1);
    h->n_cells = row / 8 > UINT32_MAX ? UINT32_MAX : (uint32_t)(row / 8);
    return h->n_cells < cells_of(SH_HISTOGRAM) ? SL_NO_MEMORY : SL_OK;
}

sl_status_t sh_metrics_open(sh_metrics_t *ms, void *mem, size_t size_bytes, bool fresh, uint64_t seed, uint32_t n_slots) {
    if ((uintptr_t)mem % 8 != 0) {
        return SL_INVALID;
    }
    if (size_bytes < sizeof(head_t) || size_bytes > (size_t)UINT32_MAX * 8) {
        return SL_NO_MEMORY;
    }
    ms->head = mem;
    ms->base = mem;
    ms->slot = 0;
    if (!fresh) {
        return ms->head->magic == MAGIC && ms->head->size_bytes == size_bytes ? SL_OK : SL_INVALID;
    }
    if (n_slots == 0 || n_slots > SLOTS_MAX) {
        return SL_INVALID;
    }
    head_t h = {.size_bytes = size_bytes, .seed = seed, .n_slots = n_slots};
    sl_status_t rc = partition(&h);
    while (rc != SL_OK && h.n_slots > 1) {
        h.n_slots /= 2; /* a small region has fewer rows, which workers share */
        rc = partition(&h);
    }
    if (rc == SL_OK) {
        memset(mem, 0, size_bytes);
        h.magic = MAGIC;
        *ms->head = h;
    }
    return rc;
}

void sh_metrics_slot(sh_metrics_t *ms, uint32_t slot) {
    ms->slot = slot % ms->head->n_slots;
}

/* ---- definitions --------------------------------------------------------------------------------------------------- */

static sl_str_t owner_of(const sh_metrics_t *ms, const def_t *d) {
    return sl_str(names(ms) + d->owner_at, d->owner_len);
}

static sl_str_t name_of(const sh_metrics_t *ms, const def_t *d) {
    return sl_str(names(ms) + d->owner_at + d->owner_len, d->name_len);
}

static void step(const sh_metrics_t *ms) {
    if (ms->step != NULL) {
        ms->step(ms->ud);
    }
}

/* With the lock held. What a killed process has published and not linked is linked by the next one that comes. */
static void link_published(sh_metrics_t *ms) {
    head_t *h = ms->head;
    while (h->n_linked < h->n_defs) {
        uint32_t id = h->n_linked + 1;
        uint32_t *bucket = &buckets(ms)[def(ms, id)->hash & (h->n_buckets - 1)];
        if (*bucket != id) {
            def(ms, id)->next = *bucket;
            step(ms);
            __atomic_store_n(bucket, id, __ATOMIC_RELEASE);
        }
        step(ms);
        __atomic_store_n(&h->n_linked, id, __ATOMIC_RELEASE);
    }
}

static uint32_t find(const sh_metrics_t *ms, uint32_t type, uint32_t hash, sl_str_t owner, sl_str_t name) {
    uint32_t id = buckets(ms)[hash & (ms->head->n_buckets - 1)];
    for (; id != 0; id = def(ms, id)->next) {
        const def_t *d = def(ms, id);
        if (d->hash == hash && d->type == type && sl_str_eq(owner_of(ms, d), owner) && sl_str_eq(name_of(ms, d), name)) {
            return id;
        }
    }
    return 0;
}

/* What definitions have taken is read off the last one, so that publishing its number takes all at once. */
static uint32_t names_used(const sh_metrics_t *ms) {
    const def_t *d = ms->head->n_defs != 0 ? def(ms, ms->head->n_defs) : NULL;
    return d != NULL ? d->owner_at + d->owner_len + d->name_len : 0;
}

static uint32_t cells_used(const sh_metrics_t *ms) {
    const def_t *d = ms->head->n_defs != 0 ? def(ms, ms->head->n_defs) : NULL;
    return d != NULL ? d->cell + cells_of(d->type) : 0;
}

/* What an owner's definitions take, or all of them, or what there is for them. */
typedef struct {
    uint64_t defs, names, cells;
} room_t;

/* An eighth of the room stays for others, whatever they have taken of it: no owner leaves the others without metrics. */
static bool leaves_an_eighth(uint64_t own, uint64_t others, uint64_t all) {
    return own <= (all - others) / 8 * 7;
}

static bool fits(room_t own, room_t others, room_t all) {
    return leaves_an_eighth(own.defs, others.defs, all.defs) && leaves_an_eighth(own.names, others.names, all.names) &&
           leaves_an_eighth(own.cells, others.cells, all.cells);
}

static room_t taken_by(const sh_metrics_t *ms, sl_str_t owner) {
    room_t own = {0};
    for (uint32_t id = 1; id <= ms->head->n_defs; id++) {
        const def_t *d = def(ms, id);
        if (sl_str_eq(owner_of(ms, d), owner)) {
            own.defs++;
            own.names += d->owner_len + d->name_len;
            own.cells += cells_of(d->type);
        }
    }
    return own;
}

/* Definitions are looked through only when the region is nearly full: before that nobody can have too much of it. */
static bool has_room(const sh_metrics_t *ms, uint32_t type, sl_str_t owner, sl_str_t name) {
    const head_t *h = ms->head;
    const room_t all = {.defs = h->max_defs, .names = h->max_names, .cells = h->n_cells};
    room_t used = {.defs = h->n_defs + 1u, .names = names_used(ms) + owner.len + name.len, .cells = cells_used(ms) + cells_of(type)};
    if (used.defs > all.defs || used.names > all.names || used.cells > all.cells) {
        return false;
    }
    if (fits(used, (room_t){0}, all)) {
        return true;
    }
    room_t own = taken_by(ms, owner);
    own.defs++;
    own.names += owner.len + name.len;
    own.cells += cells_of(type);
    return fits(own, (room_t){.defs = used.defs - own.defs, .names = used.names - own.names, .cells = used.cells - own.cells}, all);
}

static uint32_t make(sh_metrics_t *ms, uint32_t type, uint32_t hash, sl_str_t owner, sl_str_t name) {
    head_t *h = ms->head;
    if (!has_room(ms, type, owner, name)) {
        return 0;
    }
    uint32_t id = h->n_defs + 1;
    step(ms);
    def_t *d = def(ms, id);
    *d = (def_t){.type = type, .cell = cells_used(ms), .hash = hash, .owner_at = names_used(ms)};
    d->owner_len = (uint32_t)owner.len;
    d->name_len = (uint32_t)name.len;
    if (owner.len != 0) {
        memcpy(names(ms) + d->owner_at, owner.data, owner.len);
    }
    if (name.len != 0) {
        memcpy(names(ms) + d->owner_at + owner.len, name.data, name.len);
    }
    step(ms);
    __atomic_store_n(&h->n_defs, id, __ATOMIC_RELEASE);
    step(ms);
    link_published(ms);
    return id;
}

sl_status_t sh_metric_define(sh_metrics_t *ms, sh_metric_type_t type, sl_str_t owner, sl_str_t name, uint32_t *id) {
    if ((uint32_t)type > SH_HISTOGRAM) {
        return SL_INVALID;
    }
    *id = 0;
    if (owner.len <= ms->head->max_names && name.len <= ms->head->max_names) {
        uint32_t hash = (uint32_t)sl_hash(name, sl_hash(owner, ms->head->seed)) + type;
        ms->lock(ms->ud);
        link_published(ms);
        *id = find(ms, type, hash, owner, name);
        if (*id == 0) {
            *id = make(ms, type, hash, owner, name);
        }
        ms->unlock(ms->ud);
    }
    if (*id == 0) {
        (void)__atomic_fetch_add(&ms->head->refused, 1, __ATOMIC_RELAXED);
    }
    return *id != 0 ? SL_OK : SL_NO_MEMORY;
}

/* ---- values -------------------------------------------------------------------------------------------------------- */

static const def_t *by_id(const sh_metrics_t *ms, uint32_t id) {
    return id - 1 < __atomic_load_n(&ms->head->n_defs, __ATOMIC_ACQUIRE) ? def(ms, id) : NULL;
}

static void add(uint64_t *at, uint64_t n) {
    (void)__atomic_fetch_add(at, n, __ATOMIC_RELAXED);
}

static uint64_t sum(const sh_metrics_t *ms, uint32_t index) {
    uint64_t total = 0;
    for (uint32_t slot = 0; slot < ms->head->n_slots; slot++) {
        total += __atomic_load_n(cell(ms, slot, index), __ATOMIC_RELAXED);
    }
    return total;
}

sl_status_t sh_metric_add(sh_metrics_t *ms, uint32_t id, int64_t delta) {
    const def_t *d = by_id(ms, id);
    if (d == NULL) {
        return SL_NOT_FOUND;
    }
    if (d->type == SH_HISTOGRAM || (d->type == SH_COUNTER && delta <= 0)) {
        return SL_INVALID;
    }
    add(cell(ms, d->type == SH_COUNTER ? ms->slot : 0, d->cell), (uint64_t)delta);
    return SL_OK;
}

/* Of the first power of two that is not below. */
static uint32_t bin_of(uint64_t value) {
    uint32_t bin = value <= 1 ? 0 : 64u - (uint32_t)__builtin_clzll(value - 1);
    return bin < SH_BINS ? bin : SH_BINS - 1;
}

sl_status_t sh_metric_record(sh_metrics_t *ms, uint32_t id, uint64_t value) {
    const def_t *d = by_id(ms, id);
    if (d == NULL) {
        return SL_NOT_FOUND;
    }
    if (d->type == SH_COUNTER) {
        add(cell(ms, ms->slot, d->cell), value);
    } else if (d->type == SH_GAUGE) {
        __atomic_store_n(cell(ms, 0, d->cell), value, __ATOMIC_RELAXED);
    } else {
        add(cell(ms, ms->slot, d->cell + bin_of(value)), 1);
        add(cell(ms, ms->slot, d->cell + SH_BINS), value);
    }
    return SL_OK;
}

sl_status_t sh_metric_get(const sh_metrics_t *ms, uint32_t id, uint64_t *value) {
    const def_t *d = by_id(ms, id);
    if (d == NULL) {
        return SL_NOT_FOUND;
    }
    if (d->type == SH_HISTOGRAM) {
        return SL_INVALID;
    }
    *value = sum(ms, d->cell);
    return SL_OK;
}

/* ---- looking ------------------------------------------------------------------------------------------------------- */

uint32_t sh_metrics_count(const sh_metrics_t *ms) {
    return __atomic_load_n(&ms->head->n_defs, __ATOMIC_ACQUIRE);
}

bool sh_metric_view(const sh_metrics_t *ms, uint32_t id, sh_metric_view_t *view) {
    const def_t *d = by_id(ms, id);
    if (d == NULL) {
        return false;
    }
    *view = (sh_metric_view_t){.type = (sh_metric_type_t)d->type, .owner = owner_of(ms, d), .name = name_of(ms, d)};
    if (d->type != SH_HISTOGRAM) {
        view->value = sum(ms, d->cell);
        return true;
    }
    for (uint32_t bin = 0; bin < SH_BINS; bin++) {
        view->bins[bin] = sum(ms, d->cell + bin);
        view->count += view->bins[bin];
    }
    view->value = sum(ms, d->cell + SH_BINS);
    return true;
}

void sh_metrics_copy(sh_metrics_t *to, const sh_metrics_t *from) {
    uint32_t n = sh_metrics_count(from), made;
    for (uint32_t id = 1; id <= n; id++) {
        const def_t *d = def(from, id);
        if (sh_metric_define(to, (sh_metric_type_t)d->type, owner_of(from, d), name_of(from, d), &made) != SL_OK) {
            return;
        }
        for (uint32_t i = 0; i < cells_of(d->type); i++) {
            add(cell(to, 0, def(to, made)->cell + i), sum(from, d->cell + i));
        }
    }
}

sh_metrics_stats_t sh_metrics_stats(const sh_metrics_t *ms) {
    const head_t *h = ms->head;
    return (sh_metrics_stats_t){
        .defined = sh_metrics_count(ms),
        .refused = h->refused,
        .used_bytes = names_used(ms) + (size_t)h->n_defs * sizeof(def_t) + (size_t)cells_used(ms) * 8 * h->n_slots,
        .total_bytes = h->size_bytes,
    };
}
