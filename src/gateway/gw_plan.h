/*
 * The plan: the compiled configuration. A compact, immutable, position-independent image; written to a file, mapped
 * read-only by every worker, checked once when it is opened. One generation of configuration is one plan.
 *
 *   header (magic, format, size, SHA-256 of the rest) | strings | services | routes | chains | filters |
 *   router tables | entities (canonical JSON, with indexes by id and by key, for the Admin API)
 *
 * All references are offsets from the start of the image or indexes into its tables, checked on open (the file may be
 * damaged or hostile: opening it verifies the digest and every reference, so that reading needs no checks).
 *
 * Threads: building and opening are pure and may run on any thread. An open plan may be handed from thread to thread, but
 * gw_plan_match() fills a cache of compiled regexes in the handle, so that one handle serves one thread at a time; workers
 * open the same sealed memory once each and share its pages. All other reads are lock-free and allocation-free.
 */
#ifndef GW_PLAN_H
#define GW_PLAN_H

#include <jansson.h>

#include "sl_buf.h"

typedef struct gw_plan_s gw_plan_t;

/*
 * Builds the image from canonical entities (gw_config.h): appended to `image`, which must be empty; its ceiling (and 4 GiB) is the
 * largest image. SL_INVALID: the text says which entity (a regex that does not compile, a reference to nothing...).
 * Absent fields get the defaults of the entity tables.
 */
typedef struct {
    sl_str_t config_hash; /* MD5 of the text as 32 hex digits, for /status and check_hash; 32 zeros when empty */
    bool traditional;     /* router flavor `traditional` instead of `traditional_compatible` */
    uint64_t generation;
    uint64_t store_revision; /* of the store that the entities come from; 0: they come from a document */
    /*
     * The SHA-256 of the module that an entry of a chain (or a filter configured as a plugin) is to run. A failure ends the building with
     * it. NULL: the plan does not say which modules run.
     */
    sl_status_t (*module_of)(void *ud, const json_t *entry, uint8_t sha256[32], sl_err_t *err);
    void *ud;
    /* A digest of everything that the answers of module_of depend on beside the entry; equal ones: equal answers. Zeros: not known. */
    uint8_t modules[32];
} gw_plan_conf_t;
sl_status_t gw_plan_build(const json_t *entities, const gw_plan_conf_t *conf, sl_buf_t *image, sl_err_t *err);

/*
 * The same from the plan of before and what has changed since: the work is in proportion to the changes, but for copying, the tries and
 * the digest. `changed`: the new and changed entities, as above. `gone`: by collection the ids that are no longer there (an array of
 * texts); an id in both is a changed one. NULL: none. The plan is what gw_plan_build() makes of all entities, though not byte by byte.
 * SL_CONFLICT: build it from all entities, `base` is no base for it (other flavor, other modules, too much of it is no longer used).
 */
sl_status_t gw_plan_update(const gw_plan_t *base, const json_t *changed, const json_t *gone, const gw_plan_conf_t *conf, sl_buf_t *image,
                           sl_err_t *err);

/*
 * Opens an image in memory (borrowed, 8-byte aligned, outlives the plan), one in sealed memory, or a file. SL_INVALID: damaged, the text
 * says where. Reads every byte once (the digest; about 35 ms for 100,000 routes): a caller with a deadline opens on another thread and
 * takes the handle over.
 */
sl_status_t gw_plan_open(sl_str_t image, gw_plan_t **out, sl_err_t *err);
/* Maps what nd_image_seal() made, shared; the descriptor stays the caller's. SL_FAILED: it is not sealed, so it could change later. */
sl_status_t gw_plan_open_sealed(int fd, gw_plan_t **out, sl_err_t *err);
/* The same of memory whose digest somebody has checked since it was sealed, or who has made it: all but the digest is checked again. */
sl_status_t gw_plan_open_shared(int fd, gw_plan_t **out, sl_err_t *err);
/* Reads the file into memory of this process: whatever happens to the file later, the plan stays what it was. */
sl_status_t gw_plan_open_file(const char *path, gw_plan_t **out, sl_err_t *err);
/* What the head of a file says, unchecked; 0: no plan. For who wants to know whether opening it is worth while. */
uint64_t gw_plan_peek_generation(const char *path);
/* A second handle on the image of `plan`, which must outlive it: for another thread, or beside requests. NULL without memory. */
gw_plan_t *gw_plan_view(const gw_plan_t *plan);
bool gw_plan_traditional(const gw_plan_t *plan); /* router flavor */
void gw_plan_close(gw_plan_t *plan); /* frees what was built lazily (regexes); after the last request that uses it; NULL is fine */

uint64_t gw_plan_generation(const gw_plan_t *plan);
uint64_t gw_plan_store_revision(const gw_plan_t *plan);
const uint8_t *gw_plan_modules(const gw_plan_t *plan); /* 32 bytes: what gw_plan_conf_t said */
sl_str_t gw_plan_config_hash(const gw_plan_t *plan);

/* ---- what a request needs ------------------------------------------------------------------------------------------- */

typedef enum {
    GW_HTTP = 1,
    GW_HTTPS = 2,
    GW_GRPC = 4,
    GW_GRPCS = 8,
    GW_TCP = 16,
    GW_TLS = 32,
    GW_UDP = 64,
    GW_TLS_PASSTHROUGH = 128
} gw_protocol_t;

typedef struct {
    sl_str_t id, name, host, path; /* path: {NULL,0} when unset */
    gw_protocol_t protocol;
    uint32_t port, retries, connect_timeout_ms, write_timeout_ms, read_timeout_ms;
    bool enabled;
    int tls_verify; /* -1 unset, 0, 1 */
} gw_service_t;

typedef struct {
    sl_str_t id, name;
    uint32_t protocols; /* gw_protocol_t bits */
    uint32_t https_redirect_status;
    bool strip_path, preserve_host, request_buffering, response_buffering;
    bool path_v1; /* path_handling v1; never set in the flavor traditional_compatible, which ignores it */
    bool has_service;
    uint32_t service; /* index for gw_plan_service */
    int32_t chain;    /* index for gw_plan_chain of the ordered, enabled filters to run; -1: none */
} gw_route_t;

/* One entry of a chain as it runs. `key` is equal for equal (name, config, module, options): a worker keeps the running filter across
 * plans. */
typedef struct {
    sl_str_t name, config; /* config: the bytes for the filter */
    uint8_t key[32];
    uint8_t module[32]; /* SHA-256 of the module; zeros: the plan does not say */
    sl_str_t chain_id, chain_name;
    sl_str_t options; /* what the entry sets, for sl_filter_opts_read() */
    bool from_service;
} gw_filter_t;

/* Services and routes are numbered in id order, as gw_plan_entity_at() numbers them. */
size_t gw_plan_n_services(const gw_plan_t *plan);
size_t gw_plan_n_routes(const gw_plan_t *plan);
/* Distinct runnable chains: that of each service, and for each route with a chain of its own the combined one (or its own alone). */
size_t gw_plan_n_chains(const gw_plan_t *plan);
void gw_plan_service(const gw_plan_t *plan, uint32_t index, gw_service_t *out); /* the indexes must be in range */
void gw_plan_route(const gw_plan_t *plan, uint32_t index, gw_route_t *out);
size_t gw_plan_chain(const gw_plan_t *plan, uint32_t index); /* number of filters */
void gw_plan_chain_filter(const gw_plan_t *plan, uint32_t index, size_t i, gw_filter_t *out);
/* All entries of all chains, each once, in no order that means anything. */
size_t gw_plan_n_filters(const gw_plan_t *plan);
void gw_plan_filter(const gw_plan_t *plan, uint32_t index, gw_filter_t *out);

/* Input of a match. Headers are asked for by lower-case name, so nothing is collected that no route needs. */
typedef struct {
    sl_str_t method;
    sl_str_t host; /* Host header as sent, may hold a port */
    uint32_t port; /* listening port, for hosts with ports */
    sl_str_t path; /* raw, as received, with or without query */
    bool https;
    sl_str_t sni; /* {NULL,0}: none */
    /* the i-th value of a request header, {NULL,0} with data NULL after the last; may be NULL: no headers */
    sl_str_t (*header)(void *ud, sl_str_t lower_name, size_t i);
    void *ud;
} gw_match_in_t;

typedef struct {
    uint32_t route;
    sl_str_t matched_prefix; /* of the normalised path: what strip_path removes; {NULL,0} when no path attribute matched; in `scratch` */
    sl_str_t upstream_path;  /* composed path without the query, escaped, ready to send; in `scratch` */
} gw_match_t;

/*
 * SL_NOT_FOUND: no route. SL_NO_MEMORY: the ceiling of `scratch`, or no memory for a regex. SL_FAILED: a regex of the route that would
 * have decided passed its match limit (a hostile path: answer 500 rather than another route).
 * `scratch` receives the normalised and the composed path (reset first; ceiling: its max; five times the longest path and header
 * value, plus three times the longest path of a service, always suffices).
 */
sl_status_t gw_plan_match(const gw_plan_t *plan, const gw_match_in_t *in, sl_buf_t *scratch, gw_match_t *out);

/* ---- what the Admin API reads ------------------------------------------------------------------------------------------ */

/* Canonical JSON of one entity by collection ("services") and id (either case) or key (name; username of a consumer...). {NULL,0}: none. */
sl_str_t gw_plan_entity(const gw_plan_t *plan, sl_str_t collection, sl_str_t id_or_key);
/* The n-th entity of a collection in id order; {NULL,0} past the end. */
sl_str_t gw_plan_entity_at(const gw_plan_t *plan, sl_str_t collection, size_t n);
size_t gw_plan_entity_count(const gw_plan_t *plan, sl_str_t collection);
/*
 * Positions, in id order, of those entities of a collection whose reference `field` ("service") is the entity `parent_id` (lower case) of
 * its collection, or that have a tag. Cheap whatever the size of the collection.
 */
typedef struct {
    const char *first; /* internal */
    size_t stride, n;
    uint32_t base;
} gw_plan_set_t;
gw_plan_set_t gw_plan_children(const gw_plan_t *plan, sl_str_t collection, sl_str_t field, sl_str_t parents, sl_str_t parent_id);
gw_plan_set_t gw_plan_tagged(const gw_plan_t *plan, sl_str_t collection, sl_str_t tag);
size_t gw_plan_set_at(const gw_plan_set_t *set, size_t i);          /* for gw_plan_entity_at(); i < set->n */
size_t gw_plan_set_from(const gw_plan_set_t *set, size_t position); /* the first i that is not before the position */
/* Index of the first entity whose id sorts after `id`, for pagination. */
size_t gw_plan_entity_after(const gw_plan_t *plan, sl_str_t collection, sl_str_t id);

#endif
