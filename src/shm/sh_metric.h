/*
 * Metrics in a region of memory that several processes share: definitions that are only ever added, and cells that are added to without
 * a lock.
 *
 *   | head | buckets | definitions ...  | names ...  | rows of cells, one for each slot of workers |
 *
 * A counter is one cell, which each worker adds to in the row of its slot; reading sums the rows. Slots may be shared: adding is atomic.
 * A gauge is one cell, of the first row. A histogram is SH_BINS cells and one for the sum. Nothing is ever half done: a definition
 * counts when its number has been published, so a process that is killed leaves nothing to repair.
 */
#ifndef SH_METRIC_H
#define SH_METRIC_H

#include "sl_buf.h"
#include "sl_types.h"

typedef enum { SH_COUNTER, SH_GAUGE, SH_HISTOGRAM } sh_metric_type_t;

/* Bin i counts samples of at most 2^i that are in no bin before; the last one the rest. */
#define SH_BINS 33u

struct sh_metrics_head_s;
struct sh_metric_def_s;

typedef struct {
    struct sh_metrics_head_s *head;
    uint8_t *base;
    uint32_t slot;          /* of this process */
    void (*lock)(void *ud); /* only for definitions */
    void (*unlock)(void *ud);
    void (*step)(void *ud); /* for tests: called between the writes of a definition. NULL: never */
    void *ud;
} sh_metrics_t;

/*
 * fresh: `mem` is made new with `n_slots` (1..256) rows. Else it must be a region of this layout and size (SL_INVALID), and has the rows
 * that it was made with. slot: any number, taken modulo the rows. SL_NO_MEMORY: too small. The members lock, unlock and ud are set by the
 * caller.
 */
sl_status_t sh_metrics_open(sh_metrics_t *ms, void *mem, size_t size_bytes, bool fresh, uint64_t seed, uint32_t n_slots);
void sh_metrics_slot(sh_metrics_t *ms, uint32_t slot);

/*
 * The same type, owner and name have the same id. SL_NO_MEMORY: no room for another, or the owner has seven eighths of what the others
 * have left to it. Ids are never 0.
 */
sl_status_t sh_metric_define(sh_metrics_t *ms, sh_metric_type_t type, sl_str_t owner, sl_str_t name, uint32_t *id);

/* SL_NOT_FOUND: no such id; SL_INVALID: not for this type, or a counter and delta <= 0. */
sl_status_t sh_metric_add(sh_metrics_t *ms, uint32_t id, int64_t delta);     /* counter, gauge */
sl_status_t sh_metric_record(sh_metrics_t *ms, uint32_t id, uint64_t value); /* gauge: is set; histogram: one sample; counter: is added */
sl_status_t sh_metric_get(const sh_metrics_t *ms, uint32_t id, uint64_t *value); /* counter, gauge */

typedef struct {
    sh_metric_type_t type;
    sl_str_t owner, name; /* stay valid as long as the region */
    uint64_t value;       /* counter, gauge (a two's complement); histogram: sum of the samples */
    uint64_t count;       /* histogram: number of samples */
    uint64_t bins[SH_BINS];
} sh_metric_view_t;
/* Ids are 1 .. sh_metrics_count(), in the order of definition. false: no such id. */
uint32_t sh_metrics_count(const sh_metrics_t *ms);
bool sh_metric_view(const sh_metrics_t *ms, uint32_t id, sh_metric_view_t *view);

/* Defines the metrics of another region and adds their values, as far as there is room; ids stay. `to` must be new. */
void sh_metrics_copy(sh_metrics_t *to, const sh_metrics_t *from);

typedef struct {
    uint32_t defined, refused; /* metrics; definitions that found no room */
    size_t used_bytes, total_bytes;
} sh_metrics_stats_t;
sh_metrics_stats_t sh_metrics_stats(const sh_metrics_t *ms);

#endif
