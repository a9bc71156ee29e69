#include "sh_zone.h"

#define MAGIC 0x534c534800000000u
#define USED 0x80000000u
#define SCAN_MAX 32 /* blocks of one class looked at for one that just fits */

/* Before each block. Sizes are in units and include these 8 bytes. */
typedef struct {
    uint32_t size;     /* USED or free */
    uint32_t previous; /* size of the block before; 0: there is none */
} block_t;

/* What a free block has in its payload. */
typedef struct {
    sh_ref_t next, previous;
} links_t;

static block_t *block_at(const sh_zone_t *zone, sh_ref_t ref) {
    return (block_t *)(zone->base + (size_t)ref * SH_UNIT);
}

static links_t *links_at(const sh_zone_t *zone, sh_ref_t ref) {
    return sh_at(zone, ref);
}

static uint32_t units_of(const block_t *b) {
    return b->size & ~USED;
}

static bool is_free(const block_t *b) {
    return (b->size & USED) == 0;
}

/* ---- classes ------------------------------------------------------------------------------------------------------- */

static uint32_t log2_of(uint32_t n) {
    return 31u - (uint32_t)__builtin_clz(n);
}

uint32_t sh_class_of_units(uint32_t units) {
    if (units < SH_SUBCLASSES) {
        return units;
    }
    uint32_t l = log2_of(units);
    return (l - 2) * SH_SUBCLASSES + ((units >> (l - 3)) & (SH_SUBCLASSES - 1));
}

static uint32_t round_units(uint32_t units) {
    if (units < SH_SUBCLASSES) {
        return units;
    }
    uint32_t step = 1u << (log2_of(units) - 3);
    return (units + step - 1) & ~(step - 1);
}

/* 0: more than a region can have. */
static uint32_t units_for(size_t bytes) {
    size_t most = (size_t)(USED >> 2) * SH_UNIT;
    return bytes > most ? 0 : (uint32_t)((bytes + 8 + SH_UNIT - 1) / SH_UNIT);
}

size_t sh_round_up(size_t bytes) {
    uint32_t units = units_for(bytes);
    return units == 0 ? bytes : (size_t)round_units(units) * SH_UNIT - 8;
}

uint32_t sh_class_of(const sh_zone_t *zone, sh_ref_t ref) {
    return sh_class_of_units(units_of(block_at(zone, ref)));
}

size_t sh_capacity(const sh_zone_t *zone, sh_ref_t ref) {
    return (size_t)units_of(block_at(zone, ref)) * SH_UNIT - 8;
}

size_t sh_total_bytes(const sh_zone_t *zone) {
    return (size_t)(zone->head->end - zone->head->first) * SH_UNIT;
}

size_t sh_capacity_max(const sh_zone_t *zone) {
    return sh_total_bytes(zone) - 8;
}

size_t sh_used_bytes(const sh_zone_t *zone) {
    return (size_t)zone->head->used_units * SH_UNIT;
}

/* ---- free lists ---------------------------------------------------------------------------------------------------- */

static void list_add(sh_zone_t *zone, sh_ref_t ref) {
    sh_head_t *h = zone->head;
    uint32_t c = sh_class_of(zone, ref);
    links_t *l = links_at(zone, ref);
    l->previous = 0;
    l->next = zone->free_lists[c];
    if (l->next != 0) {
        links_at(zone, l->next)->previous = ref;
    }
    sh_step(zone);
    zone->free_lists[c] = ref;
    h->octaves |= 1u << (c / SH_SUBCLASSES);
    h->subclasses[c / SH_SUBCLASSES] |= (uint8_t)(1u << (c % SH_SUBCLASSES));
}

static void list_remove(sh_zone_t *zone, sh_ref_t ref) {
    sh_head_t *h = zone->head;
    uint32_t c = sh_class_of(zone, ref), octave = c / SH_SUBCLASSES;
    const links_t *l = links_at(zone, ref);
    if (l->next != 0) {
        links_at(zone, l->next)->previous = l->previous;
    }
    sh_step(zone);
    if (l->previous != 0) {
        links_at(zone, l->previous)->next = l->next;
        return;
    }
    zone->free_lists[c] = l->next;
    if (l->next == 0) {
        h->subclasses[octave] &= (uint8_t)~(1u << (c % SH_SUBCLASSES));
        h->octaves &= h->subclasses[octave] != 0 ? ~0u : ~(1u << octave);
    }
}

/* The first free block of class c or above; 0: none. */
static sh_ref_t list_first(const sh_zone_t *zone, uint32_t c) {
    const sh_head_t *h = zone->head;
    if (c >= h->n_classes) {
        return 0;
    }
    uint32_t octave = c / SH_SUBCLASSES;
    uint32_t subs = h->subclasses[octave] & (0xffu << (c % SH_SUBCLASSES));
    if (subs == 0) {
        uint32_t octaves = octave >= 31 ? 0 : h->octaves & (~0u << (octave + 1));
        if (octaves == 0) {
            return 0;
        }
        octave = (uint32_t)__builtin_ctz(octaves);
        subs = h->subclasses[octave];
    }
    return zone->free_lists[octave * SH_SUBCLASSES + (uint32_t)__builtin_ctz(subs)];
}

/* ---- blocks -------------------------------------------------------------------------------------------------------- */

static sh_ref_t next_block(const sh_zone_t *zone, sh_ref_t ref) {
    sh_ref_t next = ref + units_of(block_at(zone, ref));
    return next == zone->head->end ? 0 : next;
}

static sh_ref_t previous_block(const sh_zone_t *zone, sh_ref_t ref) {
    uint32_t size = block_at(zone, ref)->previous;
    return size == 0 ? 0 : ref - size;
}

static void set_size(sh_zone_t *zone, sh_ref_t ref, uint32_t units, uint32_t used) {
    block_at(zone, ref)->size = units | used;
    sh_step(zone);
    sh_ref_t next = next_block(zone, ref);
    if (next != 0) {
        block_at(zone, next)->previous = units;
    }
}

/* A block that is in no list becomes a used one of `units`; the rest becomes free. */
static sh_ref_t carve(sh_zone_t *zone, sh_ref_t ref, uint32_t units) {
    uint32_t have = units_of(block_at(zone, ref));
    set_size(zone, ref, units, USED);
    if (have > units) {
        sh_ref_t rest = ref + units;
        block_at(zone, rest)->previous = units;
        set_size(zone, rest, have - units, 0);
        list_add(zone, rest);
    }
    zone->head->used_units += units;
    return ref;
}

static sh_ref_t find(const sh_zone_t *zone, uint32_t units) {
    sh_ref_t ref = list_first(zone, sh_class_of_units(round_units(units)));
    if (ref != 0) {
        return ref;
    }
    /* Those of its own class may be large enough, too. */
    uint32_t c = sh_class_of_units(units);
    ref = c < zone->head->n_classes ? zone->free_lists[c] : 0;
    for (int n = 0; ref != 0 && n < SCAN_MAX; n++, ref = links_at(zone, ref)->next) {
        if (units_of(block_at(zone, ref)) >= units) {
            return ref;
        }
    }
    return 0;
}

sh_ref_t sh_alloc(sh_zone_t *zone, size_t bytes) {
    uint32_t units = units_for(bytes);
    sh_ref_t ref = units != 0 ? find(zone, units) : 0;
    if (ref == 0) {
        return 0;
    }
    list_remove(zone, ref);
    return carve(zone, ref, units);
}

/* Free neighbours are taken out of their lists; what comes is in none. */
static sh_ref_t join(sh_zone_t *zone, sh_ref_t ref) {
    uint32_t units = units_of(block_at(zone, ref));
    sh_ref_t next = next_block(zone, ref), previous = previous_block(zone, ref);
    zone->head->used_units -= units;
    if (next != 0 && is_free(block_at(zone, next))) {
        list_remove(zone, next);
        units += units_of(block_at(zone, next));
    }
    if (previous != 0 && is_free(block_at(zone, previous))) {
        list_remove(zone, previous);
        units += units_of(block_at(zone, previous));
        ref = previous;
    }
    set_size(zone, ref, units, 0);
    return ref;
}

void sh_free(sh_zone_t *zone, sh_ref_t ref) {
    list_add(zone, join(zone, ref));
}

static uint32_t joined_units(const sh_zone_t *zone, sh_ref_t ref) {
    uint32_t units = units_of(block_at(zone, ref));
    sh_ref_t next = next_block(zone, ref), previous = previous_block(zone, ref);
    units += next != 0 && is_free(block_at(zone, next)) ? units_of(block_at(zone, next)) : 0;
    return units + (previous != 0 && is_free(block_at(zone, previous)) ? units_of(block_at(zone, previous)) : 0);
}

sh_ref_t sh_exchange(sh_zone_t *zone, sh_ref_t ref, size_t bytes) {
    uint32_t units = units_for(bytes);
    if (units == 0 || joined_units(zone, ref) < units) {
        return 0;
    }
    return carve(zone, join(zone, ref), units);
}

/* ---- the region ---------------------------------------------------------------------------------------------------- */

static size_t align(size_t n) {
    return (n + SH_UNIT - 1) & ~(size_t)(SH_UNIT - 1);
}

uint32_t sh_buckets_for(size_t size_bytes, size_t bytes_per_item) {
    size_t want = size_bytes / bytes_per_item;
    uint32_t n = 16;
    while (n < want && n < 1u << 24) {
        n *= 2;
    }
    return n;
}

/* Everything free, the tables as new. Runs as one change. */
static void empty(sh_zone_t *zone) {
    sh_head_t *h = zone->head;
    memset(zone->free_lists, 0, h->n_classes * sizeof(sh_ref_t));
    memset(h->subclasses, 0, sizeof(h->subclasses));
    h->octaves = 0;
    h->used_units = 0;
    sh_step(zone);
    block_at(zone, h->first)->previous = 0;
    set_size(zone, h->first, h->end - h->first, 0);
    list_add(zone, h->first);
    uint8_t *tables = sh_tables(zone);
    memset(tables, 0, (size_t)(zone->base + (size_t)h->first * SH_UNIT - tables));
    zone->clear(zone);
}

static sl_status_t format(sh_zone_t *zone, size_t size_bytes, uint64_t seed, const sh_layout_t *layout) {
    sh_head_t *h = zone->head;
    uint32_t n_classes = sh_class_of_units((uint32_t)(size_bytes / SH_UNIT)) + 1;
    n_classes = (n_classes + SH_SUBCLASSES - 1) / SH_SUBCLASSES * SH_SUBCLASSES;
    size_t fixed = align(sizeof(*h) + n_classes * sizeof(sh_ref_t)) + align(layout->table_bytes);
    if (n_classes > SH_CLASSES_MAX || fixed > size_bytes || size_bytes - fixed < 16 * SH_UNIT) {
        return SL_NO_MEMORY;
    }
    *h = (sh_head_t){.size_bytes = size_bytes, .seed = seed, .n_classes = n_classes};
    h->first = (uint32_t)(fixed / SH_UNIT);
    h->end = (uint32_t)(size_bytes / SH_UNIT);
    sh_begin(zone);
    empty(zone);
    sh_end(zone);
    h->magic = MAGIC | layout->kind;
    return SL_OK;
}

sl_status_t sh_zone_open(sh_zone_t *zone, void *mem, size_t size_bytes, bool fresh, uint64_t seed, const sh_layout_t *layout,
                         const sh_env_t *env) {
    size_bytes &= ~(size_t)(SH_UNIT - 1);
    if ((uintptr_t)mem % SH_UNIT != 0) {
        return SL_INVALID;
    }
    if (size_bytes < sizeof(sh_head_t) + 64 * SH_UNIT || size_bytes / SH_UNIT > (USED >> 2)) {
        return SL_NO_MEMORY;
    }
    *zone = (sh_zone_t){.base = mem, .head = mem, .env = *env, .clear = layout->clear};
    zone->free_lists = (sh_ref_t *)(zone->base + sizeof(sh_head_t));
    if (fresh) {
        return format(zone, size_bytes, seed, layout);
    }
    return zone->head->magic == (MAGIC | layout->kind) && zone->head->size_bytes == size_bytes ? SL_OK : SL_INVALID;
}

/* ---- repair -------------------------------------------------------------------------------------------------------- */

void sh_repair(sh_zone_t *zone) {
    empty(zone);
    zone->head->resets++;
    sh_end(zone);
    if (zone->env.reset != NULL) {
        zone->env.reset(zone->env.ud);
    }
}

/* ---- checking ------------------------------------------------------------------------------------------------------ */

static const char *check_blocks(const sh_zone_t *zone, uint32_t *n_free) {
    const sh_head_t *h = zone->head;
    uint32_t before = 0, used = 0;
    bool free_before = false;
    for (uint32_t at = h->first; at < h->end; at += before) {
        const block_t *b = block_at(zone, at);
        if (b->previous != before) {
            return "a block's idea of the one before it is wrong";
        }
        before = units_of(b);
        if (before == 0 || before > h->end - at) {
            return "a block passes the end";
        }
        if (is_free(b) && free_before) {
            return "two free blocks side by side";
        }
        free_before = is_free(b);
        *n_free += free_before;
        used += free_before ? 0 : before;
    }
    return used == h->used_units ? NULL : "the count of used units is wrong";
}

const char *sh_zone_check(const sh_zone_t *zone) {
    const sh_head_t *h = zone->head;
    uint32_t n_free = 0;
    const char *wrong = check_blocks(zone, &n_free);
    for (uint32_t c = 0; wrong == NULL && c < h->n_classes; c++) {
        bool marked = (h->subclasses[c / SH_SUBCLASSES] & (1u << (c % SH_SUBCLASSES))) != 0;
        if (marked != (zone->free_lists[c] != 0)) {
            return "a class's mark is wrong";
        }
        if (marked && (h->octaves & (1u << (c / SH_SUBCLASSES))) == 0) {
            return "an octave's mark is wrong";
        }
        sh_ref_t before = 0;
        for (sh_ref_t ref = zone->free_lists[c]; ref != 0; before = ref, ref = links_at(zone, ref)->next) {
            if (ref < h->first || ref >= h->end || !is_free(block_at(zone, ref)) || sh_class_of(zone, ref) != c ||
                links_at(zone, ref)->previous != before) {
                return "a free list is wrong";
            }
            n_free--;
        }
    }
    return wrong != NULL ? wrong : n_free == 0 ? NULL : "a free block is in no list";
}
