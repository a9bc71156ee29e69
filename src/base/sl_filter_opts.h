/*
 * How a filter is run: the options that a chain entry, the directives proxy_wasm_<name> and the settings SLUICE_WASM_<NAME> share.
 * One table says their names, kinds, ranges and defaults (sl_filter_opts.def); whoever reads or shows them walks it.
 *
 * An option is absent (its bit in `set` is clear) or set. Levels are laid over one another, the nearest that sets an option wins:
 * chain entry or proxy_wasm line > location > server > http > wasm{} or settings > default.
 *
 * Plain values without ownership: texts are borrowed until sl_filter_opts_own(). Any thread.
 */
#ifndef SL_FILTER_OPTS_H
#define SL_FILTER_OPTS_H

#include "sl_arena.h"
#include "sl_buf.h"
#include "sl_types.h"

typedef enum { SL_DIALECT_ENVOY, SL_DIALECT_WASMX } sl_dialect_t;
typedef enum {
    SL_ISOLATION_SHARED,  /* one VM per worker for each module and VM configuration */
    SL_ISOLATION_REQUEST, /* each request has an instance reset to what it was right after proxy_on_configure */
    SL_ISOLATION_FILTER   /* as shared, but one VM for each chain entry (WasmX's `filter`) */
} sl_isolation_t;
typedef enum {
    SL_FAIL_CLOSED,    /* 500 (503 while the breaker is open), or reset where headers have gone */
    SL_FAIL_OPEN,      /* the filter is bypassed from here on */
    SL_FAIL_SKIP_CHAIN /* this and all later filters are bypassed */
} sl_fail_t;

/*
 * Texts of a kind. ENUM: one of the values. BOOL: on, off, true, false. UINT: digits; "off" is 0 where 0 is allowed. SIZE: digits and
 * at most one of k, m, g; "off" likewise. LIST: items separated by commas or spaces, kept as "a,b"; "none" or "" is the empty list.
 * TEXT: UTF-8 without control characters.
 */
typedef enum { SL_OPT_ENUM, SL_OPT_BOOL, SL_OPT_UINT, SL_OPT_SIZE, SL_OPT_LIST, SL_OPT_TEXT } sl_opt_kind_t;

/* NULL-terminated, in the order of the enums. */
extern const char *const sl_dialects[], *const sl_isolations[], *const sl_fails[];

typedef enum {
#define SL_FILTER_OPT(id, field, name, kind, def, values, min, max) SL_FOPT_##id,
#include "sl_filter_opts.def"
#undef SL_FILTER_OPT
    SL_FOPT_N
} sl_filter_opt_id_t;
#define SL_FOPT_BIT(id) (1u << (SL_FOPT_##id))

/* Values hold the default where the bit is clear, so that code which runs filters need not look at `set`. */
typedef struct {
    uint32_t set;                /* SL_FOPT_BIT */
    uint8_t dialect;             /* sl_dialect_t */
    uint8_t isolation;           /* sl_isolation_t */
    uint8_t fail;                /* sl_fail_t */
    bool slice;                  /* runs on a stack of its own and yields to the event loop */
    bool headers_stop_iteration; /* Pause (1) in a headers callback lets this filter's body callbacks run */
    uint32_t cpu_budget_ms;      /* CPU time of a callback; 0: no budget */
    uint32_t start_budget_ms;    /* the same of start functions, proxy_on_vm_start and proxy_on_configure */
    uint32_t breaker_traps;      /* so many traps within the window open the breaker; 0: it never opens */
    uint32_t breaker_window_ms;
    uint32_t breaker_backoff_ms; /* how long it stays open at first */
    uint64_t memory_budget;      /* bytes of linear memory of an instance */
    uint64_t memory_recycle;     /* an instance with more is replaced between requests; 0: never */
    sl_str_t grants;             /* comma list without spaces; empty with the bit set: none at all */
    sl_str_t vm_id;              /* filters with equal vm_id may share VMs and share the name space of shared data */
    sl_str_t root_id;            /* plugin_root_id: which of its root contexts a module is to be, for SDKs that register several */
} sl_filter_opts_t;

typedef struct {
    const char *name; /* "cpu_budget_ms" */
    sl_opt_kind_t kind;
    const char *def;           /* as text */
    const char *const *values; /* SL_OPT_ENUM: NULL-terminated, in the order of the enum */
    uint64_t min, max;         /* see sl_filter_opts.def */
    size_t offset;             /* of the member; for sl_filter_opts.c */
} sl_filter_opt_t;

extern const sl_filter_opt_t sl_filter_opts[SL_FOPT_N]; /* by sl_filter_opt_id_t */

void sl_filter_opts_init(sl_filter_opts_t *opts); /* nothing set, all defaults */
/* Gives those options their default that are neither set nor other than zero: a zeroed struct becomes one with all defaults. */
void sl_filter_opts_complete(sl_filter_opts_t *opts);
/* NULL: no such option. `name` as in the table. */
const sl_filter_opt_t *sl_filter_opt_find(sl_str_t name);
bool sl_filter_opt_is_set(const sl_filter_opts_t *opts, const sl_filter_opt_t *opt);

/*
 * Sets one option from text ("50", "64m", "on", "closed"), again where it was set. Texts are borrowed; a list that is not in its kept
 * form (spaces, empty items) needs `arena`, SL_INVALID without one.
 * SL_INVALID: opts is as before; err says what was expected and what came, without the option's name. SL_NO_MEMORY.
 */
sl_status_t sl_filter_opts_set(sl_filter_opts_t *opts, const sl_filter_opt_t *opt, sl_str_t value, sl_arena_t *arena, sl_err_t *err);

/* The effective value as text that sl_filter_opts_set() takes; in `room` or borrowed from opts and the table. */
#define SL_FILTER_OPT_TEXT 24
sl_str_t sl_filter_opts_text(const sl_filter_opts_t *opts, const sl_filter_opt_t *opt, char room[SL_FILTER_OPT_TEXT]);

/* What is set as lines "name=value\n", in the table's order: equal options, equal bytes. A failure shows in the buffer. */
void sl_filter_opts_write(const sl_filter_opts_t *opts, sl_buf_t *lines);
/* Sets what the lines say; texts are borrowed from them. SL_INVALID: no such lines, err says what is wrong. */
sl_status_t sl_filter_opts_read(sl_filter_opts_t *opts, sl_str_t lines, sl_err_t *err);

/* What is absent in `opts` is taken from `under`. */
void sl_filter_opts_inherit(sl_filter_opts_t *opts, const sl_filter_opts_t *under);
bool sl_filter_opts_equal(const sl_filter_opts_t *a, const sl_filter_opts_t *b); /* by effective values */
/* Copies the texts into `arena`. SL_NO_MEMORY: opts is as before. */
sl_status_t sl_filter_opts_own(sl_filter_opts_t *opts, sl_arena_t *arena);

/* Whether an item is in a comma list as SL_OPT_LIST keeps it. */
bool sl_list_has(sl_str_t list, sl_str_t item);
/* "65536", "64k", "1m", "2g" (also upper case) as bytes; false: something else, or more than 64 bits hold. */
bool sl_size_parse(sl_str_t text, uint64_t *bytes);

#endif
