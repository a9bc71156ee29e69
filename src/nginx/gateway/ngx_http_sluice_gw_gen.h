/*
 * What the files share that bring a generation of the configuration into service. Internal to them; others: ngx_http_sluice_gw.h.
 *
 *   ngx_http_sluice_gw_state.c   numbers in shared memory, who is loading, telling workers; the life of a worker
 *   ngx_http_sluice_gw_switch.c  from "there is a newer one" to serving it, without holding the event loop
 *   ngx_http_sluice_gw_gen.c     one generation: plan, modules, filters, chains
 *   ngx_http_sluice_gw_image.c   the plan in memory that all workers share
 */
#ifndef NGX_HTTP_SLUICE_GW_GEN_H
#define NGX_HTTP_SLUICE_GW_GEN_H

#include "ngx_http_sluice_gw.h"

/* ---- the image -------------------------------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_gw_image_init(ngx_log_t *log); /* once, in the master */

/*
 * A plan of generation `least` or later: the one that workers share, else a copy of the file, which they share from then on. Blocks; any
 * thread. `older`: not NULL when an older one is better than none: where the file is of no use, the shared one is taken, SL_OK, and *older
 * says why; its text is empty otherwise.
 */
sl_status_t ngx_http_sluice_gw_image_open(const char *path, uint64_t least, gw_plan_t **out, sl_err_t *older, sl_err_t *err);
/* nd_node_t's share: what workers share from now on; with a revision they are told of it at once. Blocks; any thread. */
bool ngx_http_sluice_gw_image_share(void *plan_path, sl_str_t image, uint64_t generation, uint64_t revision);

/* ---- a generation ----------------------------------------------------------------------------------------------------- */

/* What a thread needs to make one; borrowed until it has ended. */
typedef struct {
    nd_node_t node;
    uint64_t least;                           /* a generation before this one is of no use */
    const ngx_http_sluice_gw_gen_t *previous; /* its modules are taken over where their files are the same; NULL: none */
} ngx_http_sluice_gw_source_t;

typedef struct {
    ngx_http_sluice_gw_gen_t *gen;
    nd_filters_t *filters; /* what is installed now; NULL: it is not known, `scan` says why, and those of the source were used */
    sl_err_t scan, older;  /* empty texts, or why something is not as it should be (`older`: see above) */
} ngx_http_sluice_gw_opened_t;

/*
 * Opens the plan, loads the modules that its filters need, and reserves memory for all of it: everything that blocks. Any thread. A plan
 * that is older than `least` will do when there is no `previous`. After a failure there is nothing to free.
 */
sl_status_t ngx_http_sluice_gw_gen_open(const ngx_http_sluice_gw_source_t *source, ngx_http_sluice_gw_opened_t *out, sl_err_t *err);

/* On the worker's thread: makes one more chain, starting those of its filters that `previous` does not have running. SL_NOT_FOUND: all are
 * made. */
sl_status_t ngx_http_sluice_gw_gen_build(ngx_http_sluice_gw_gen_t *gen, const ngx_http_sluice_gw_gen_t *previous, sl_err_t *err);
size_t ngx_http_sluice_gw_gen_n_filters(const ngx_http_sluice_gw_gen_t *gen); /* running */
size_t ngx_http_sluice_gw_gen_n_chains(const ngx_http_sluice_gw_gen_t *gen);

/* On the worker's thread: lets go of one more chain or filter; 0: there is none left. */
unsigned ngx_http_sluice_gw_gen_take_down(ngx_http_sluice_gw_gen_t *gen);
/* What is left then. Any thread. */
void ngx_http_sluice_gw_gen_free(ngx_http_sluice_gw_gen_t *gen);

/* For a list of generations that wait to be taken down. */
ngx_http_sluice_gw_gen_t **ngx_http_sluice_gw_gen_link(ngx_http_sluice_gw_gen_t *gen);

/* ---- switching -------------------------------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_gw_switch_init_worker(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf);
void ngx_http_sluice_gw_switch_exit_worker(void);
/* Looks whether there is something newer than what is served or being built, and begins to take it over. `now`: all at once, blocking. */
void ngx_http_sluice_gw_look(unsigned now);
/* The last reference is gone: it is taken down when there is time. */
void ngx_http_sluice_gw_discard(ngx_http_sluice_gw_gen_t *gen);

/* ---- holds: how long the event loop of a worker stood still for a switch ---------------------------------------------------- */

typedef struct {
    uint64_t wall_us, cpu_us;
} ngx_http_sluice_gw_clock_t;

ngx_http_sluice_gw_clock_t ngx_http_sluice_gw_clock(void);
/* What was done since; logged and counted if it was long. `name` may be empty. */
void ngx_http_sluice_gw_held(ngx_http_sluice_gw_clock_t since, const char *what, sl_str_t name);

/* Over all workers of a cycle and of those before it, in shared memory; for ngx_http_sluice_gw_state.c to show. */
typedef struct {
    ngx_atomic_t switches; /* generations that workers took over */
    ngx_atomic_t holds;    /* of more than 5 ms */
    ngx_atomic_t longest_us;
    ngx_atomic_t refused; /* generations that a worker could not serve */
} ngx_http_sluice_gw_counters_t;

ngx_http_sluice_gw_counters_t *ngx_http_sluice_gw_counters(void);

/* ---- what switching asks of ngx_http_sluice_gw_state.c ----------------------------------------------------------------------- */

uint64_t ngx_http_sluice_gw_announced(void); /* the generation that workers have been told of */
/* This worker serves `generation` now. */
void ngx_http_sluice_gw_serves(uint64_t generation);
/* What is installed, as of the last switch; the next call frees it. Takes `fresh` over. */
void ngx_http_sluice_gw_set_filters(nd_filters_t *fresh);

#endif
