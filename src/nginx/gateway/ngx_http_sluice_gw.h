/*
 * The gateway inside nginx: where plan, router, filters and nginx meet.
 *
 *   sluice.json --- main conf (one per cycle) --- shm: generation, who is loading, what each worker serves
 *                                                   |  eventfd + 1 s poll
 *   worker: current generation --- plan (mapped), filters (kept across plans by key), chains
 *              ^ a reference by each request, so that it ends as it began
 */
#ifndef NGX_HTTP_SLUICE_GW_H
#define NGX_HTTP_SLUICE_GW_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "gw_admin.h"
#include "nd_config.h"
#include "pw.h"
#include "store.h"

#define NGX_HTTP_SLUICE_GW_MAX_WORKERS 512

extern ngx_module_t ngx_http_sluice_gateway_module;

/* ---- settings ---------------------------------------------------------------------------------------------------- */

enum {
    NGX_HTTP_SLUICE_GW_SERVER_TOKENS = 1,
    NGX_HTTP_SLUICE_GW_VIA = 2,
    NGX_HTTP_SLUICE_GW_PROXY_LATENCY = 4,
    NGX_HTTP_SLUICE_GW_REQUEST_ID = 8,
    NGX_HTTP_SLUICE_GW_UPSTREAM_STATUS = 16,
    NGX_HTTP_SLUICE_GW_UPSTREAM_LATENCY = 32,
    NGX_HTTP_SLUICE_GW_RESPONSE_LATENCY = 64,
    NGX_HTTP_SLUICE_GW_ADMIN_LATENCY = 128,
};

typedef struct {
    ngx_uint_t listening, shown; /* a port of ours, and the one under which clients reach it */
} ngx_http_sluice_gw_port_map_t;

typedef struct {
    ngx_str_t path; /* of sluice.json; empty: no gateway in this nginx */
    json_t *settings;
    char prefix[4096], plan_path[4200], cache_path[4200], modules_path[4200], image_path[4200];
    char *filters_path;     /* NULL: none */
    const char *store_path; /* of the embedded store; NULL: database off */
    ngx_str_t filters_choose;
    ngx_str_t via_1, via_2, server; /* "1.1 sluice/0.1.0", "2 sluice/0.1.0", "sluice/0.1.0" */
    ngx_uint_t tokens;              /* bits above: what responses get */
    ngx_uint_t upstream_tokens;     /* what upstreams are told; only the request's id */
    ngx_array_t port_maps;          /* ngx_http_sluice_gw_port_map_t */
    const char *error_default_type;
    ngx_str_t error_templates[4]; /* JSON, plain, HTML, XML; len 0: the built-in one. The first %s is the message, the next one the id */
    unsigned wasm : 1;
    unsigned time_filters : 1; /* the access log says what filters take */
    unsigned traditional : 1;
    unsigned debug_header : 1; /* Kong-Debug is answered */
    ngx_shm_zone_t *zone;
    ngx_array_t hosts;                /* ngx_http_sluice_gw_host_t: the hosts file */
    ngx_array_t *trusted;             /* ngx_cidr_t, NULL: nobody */
    const char *trusted_certificates; /* authorities of upstreams: a comma list of PEM files and "system" */
    ngx_uint_t verify_depth;          /* of their certificates, where a service says nothing */
#if (NGX_HTTP_SSL)
    ngx_array_t ssl_servers; /* ngx_ssl_t *: of the servers with a location of the gateway */
#endif
} ngx_http_sluice_gw_main_conf_t;

typedef struct {
    ngx_flag_t proxy;  /* this location is the gateway's */
    ngx_flag_t admin;  /* this location is the Admin API */
    ngx_flag_t status; /* this location shows the node's status, and no more */
} ngx_http_sluice_gw_loc_conf_t;

/* ---- generations (ngx_http_sluice_gw_state.c) ---------------------------------------------------------------------- */

typedef struct ngx_http_sluice_gw_gen_s ngx_http_sluice_gw_gen_t;

ngx_int_t ngx_http_sluice_gw_zone_add(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf);
ngx_int_t ngx_http_sluice_gw_init_module(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf);
ngx_int_t ngx_http_sluice_gw_init_worker(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf);
void ngx_http_sluice_gw_exit_worker(ngx_cycle_t *cycle);

/* What this worker serves now; NULL: nothing yet. ref/unref on the worker's thread only. */
ngx_http_sluice_gw_gen_t *ngx_http_sluice_gw_current(void);
ngx_http_sluice_gw_gen_t *ngx_http_sluice_gw_gen_ref(ngx_http_sluice_gw_gen_t *gen);
void ngx_http_sluice_gw_gen_unref(ngx_http_sluice_gw_gen_t *gen);
const gw_plan_t *ngx_http_sluice_gw_gen_plan(const ngx_http_sluice_gw_gen_t *gen);
pw_chain_t *ngx_http_sluice_gw_gen_chain(const ngx_http_sluice_gw_gen_t *gen, int32_t index); /* borrowed; NULL: none */

/* Of the generation that is served, or whose filters are being started. NULL: nothing yet. */
const gw_plan_t *ngx_http_sluice_gw_naming_plan(void);
/* For call outs; a ngx_http_sluice_call_name_pt (ngx_http_sluice_gw_call.c). */
ngx_int_t ngx_http_sluice_gw_call_name(ngx_pool_t *pool, sl_str_t name, ngx_array_t *places, bool *tls);
/* Of the hosts file: *address has room for an address and is shortened to it. NGX_DECLINED: not there. */
ngx_int_t ngx_http_sluice_gw_hosts_find(sl_str_t name, ngx_str_t *address);

/* The node as a thread may use it (installed filters are scanned anew by nd_filters_scan in that thread). */
void ngx_http_sluice_gw_node(ngx_http_sluice_gw_main_conf_t *mcf, nd_node_t *node);

/* One load of a configuration at a time over all workers. */
ngx_int_t ngx_http_sluice_gw_load_begin(void);         /* NGX_OK, NGX_BUSY */
void ngx_http_sluice_gw_load_end(uint64_t generation); /* 0: nothing changed; else tells every worker */
/* Tells every worker, and those who wait for a revision, before the load has ended; any thread. */
void ngx_http_sluice_gw_announce(uint64_t generation, uint64_t revision);
uint64_t ngx_http_sluice_gw_latest(void);
/* Whether every worker of this cycle serves `generation` or a later one. */
unsigned ngx_http_sluice_gw_all_serve(uint64_t generation);
size_t ngx_http_sluice_gw_worker_pids(int64_t *pids, size_t max);
/* Appends what there is to say about generations and switches, as text for Prometheus. */
sl_status_t ngx_http_sluice_gw_render_switches(sl_buf_t *out);

/* ---- the store (ngx_http_sluice_gw_store.c) ------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_gw_store_init_worker(ngx_cycle_t *cycle, ngx_http_sluice_gw_main_conf_t *mcf);
void ngx_http_sluice_gw_store_exit_worker(void);
unsigned ngx_http_sluice_gw_has_store(void);
/* A handle for one thread. `sound` 0: something failed with it, the next one is opened anew. */
sl_status_t ngx_http_sluice_gw_store_take(st_store_t **out, sl_err_t *err);
void ngx_http_sluice_gw_store_give(st_store_t *store, unsigned sound);
/* Publishes what the store has, unless somebody else is at it: who waits for something calls again. */
void ngx_http_sluice_gw_publish(void);
/* The revision of the plan that the workers have been told of (ngx_http_sluice_gw_state.c). */
uint64_t ngx_http_sluice_gw_published_revision(void);
/* Ends what ngx_http_sluice_gw_load_begin() began: generation 0: nothing new. */
void ngx_http_sluice_gw_store_published(uint64_t generation, uint64_t revision);

/* ---- upstreams (ngx_http_sluice_gw_pool.c) ----------------------------------------------------------------------------- */

typedef struct ngx_http_sluice_gw_pool_s ngx_http_sluice_gw_pool_t;

typedef struct {
    struct sockaddr *sockaddr;
    socklen_t socklen;
} ngx_http_sluice_gw_sockaddr_t;

/* ---- a request (ngx_http_sluice_gw_proxy.c) ------------------------------------------------------------------------- */

typedef struct {
    struct sockaddr *sockaddr;
    socklen_t socklen;
    ngx_str_t name;
} ngx_http_sluice_gw_addr_t;

/* What filters have said of the upstream. It counts whatever route is matched afterwards. */
typedef struct {
    sl_str_t host; /* {NULL,0}: nothing */
    uint32_t port;
    unsigned protocol;    /* GW_HTTP, GW_HTTPS; 0: nothing */
    unsigned balance : 1; /* `host` is the name of an upstream; else the request goes to that host itself, whatever upstreams there are */
} ngx_http_sluice_gw_chosen_t;

typedef struct {
    ngx_http_request_t *request;
    ngx_http_sluice_gw_gen_t *gen;
    gw_route_t route;
    uint32_t route_index;
    gw_service_t service;
    ngx_http_sluice_gw_chosen_t chosen;
    ngx_str_t upstream_path; /* composed, without query */
    ngx_str_t prefix;        /* what strip_path removed */
    ngx_str_t original_uri;  /* unparsed, as it was matched: a filter may change the request's */
    ngx_str_t original_host;
    ngx_str_t request_id;
    ngx_http_sluice_gw_addr_t *addrs;
    ngx_uint_t n_addrs, next_addr;
    u_char name_key[16]; /* of a TLS upstream's name, see get_peer() */
    size_t name_key_len;
    ngx_resolver_ctx_t *resolving;
    ngx_http_sluice_gw_pool_t *pool;  /* that the service's host names, the generation's; NULL: it is a host */
    ngx_http_sluice_gw_pool_t *named; /* a reference to `pool` when a filter has named it */
    ngx_queue_t waiting;              /* while `waits`: in the pool's queue */
    ngx_str_t target_host;            /* of the pool's target whose turn it is */
    in_port_t target_port;
    ngx_int_t (*process_header)(ngx_http_request_t *r);
    ngx_int_t (*reinit_request)(ngx_http_request_t *r);
    void *tls;                   /* ngx_http_sluice_gw_tls_t of the service; NULL: it is not reached by TLS */
    ngx_msec_t upstream_started; /* ngx_current_msec of the first try */
    ngx_int_t name_state;        /* the resolver's, once `failed` */
    unsigned matched : 1;
    unsigned resolved : 1;
    unsigned failed : 1; /* the name has no address */
    unsigned waits : 1;
    unsigned grpc : 1; /* goes to the upstream by grpc_pass */
    unsigned proxied : 1;
    unsigned attached : 1;
    unsigned tokens_done : 1;
    ngx_uint_t tokens_of; /* once `tokens_done`: r->err_status then */
} ngx_http_sluice_gw_ctx_t;

ngx_http_sluice_gw_ctx_t *ngx_http_sluice_gw_ctx(ngx_http_request_t *r);      /* also after an internal redirect; NULL: none */
ngx_http_sluice_gw_ctx_t *ngx_http_sluice_gw_ctx_make(ngx_http_request_t *r); /* for one that has none; NULL: no memory */
void ngx_http_sluice_gw_match_deinit(void);                                   /* at the worker's end */
void ngx_http_sluice_gw_apply_chosen(ngx_http_sluice_gw_ctx_t *ctx);
ngx_int_t ngx_http_sluice_gw_rewrite_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_sluice_gw_access_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_sluice_gw_precontent_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_sluice_gw_add_variables(ngx_conf_t *cf);
ngx_int_t ngx_http_sluice_gw_header_filter_init(void);
char *ngx_http_sluice_gw_balancer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* NGX_OK: ctx->addrs are set; NGX_AGAIN: the phases go on when it is known; NGX_DECLINED: no such name. */
ngx_int_t ngx_http_sluice_gw_resolve(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx);
ngx_int_t ngx_http_sluice_gw_add_addr(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, const struct sockaddr *sa, socklen_t len,
                                      in_port_t port);
/* What needs no name server: an address, or what the hosts file says of a name. How many there are; borrowed from `pool` or the conf. */
ngx_uint_t ngx_http_sluice_gw_fixed_addrs(ngx_pool_t *pool, ngx_http_sluice_gw_main_conf_t *mcf, ngx_str_t host,
                                          ngx_http_sluice_gw_sockaddr_t *out, ngx_uint_t max);

/* *out NULL: the service's host is not the name of an upstream. */
ngx_int_t ngx_http_sluice_gw_pool_of(ngx_http_sluice_gw_main_conf_t *mcf, ngx_http_sluice_gw_gen_t *gen, uint32_t index,
                                     const gw_service_t *service, ngx_http_sluice_gw_pool_t **out);
/* The pool of an upstream by its name, with a reference; *out NULL: no such upstream. */
ngx_int_t ngx_http_sluice_gw_pool_named(ngx_http_sluice_gw_main_conf_t *mcf, ngx_http_sluice_gw_gen_t *gen, sl_str_t name,
                                        ngx_http_sluice_gw_pool_t **out);
void ngx_http_sluice_gw_pool_unref(ngx_http_sluice_gw_pool_t *pool); /* NULL allowed */
/*
 * One more address of ctx->pool, not one that ctx has had unless there is no other. NGX_AGAIN: nobody knows an address yet, see
 * pool_wait(); NGX_DECLINED: there is none.
 */
ngx_int_t ngx_http_sluice_gw_pool_pick(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx);
/* The phases go on as soon as an address is known. */
void ngx_http_sluice_gw_pool_wait(ngx_http_sluice_gw_ctx_t *ctx);
void ngx_http_sluice_gw_pool_leave(ngx_http_sluice_gw_ctx_t *ctx);
void ngx_http_sluice_gw_pool_exit_worker(void);                                       /* after the last generation */
ngx_str_t ngx_http_sluice_gw_pool_host_header(const ngx_http_sluice_gw_pool_t *pool); /* empty: none */
sl_str_t ngx_http_sluice_gw_pool_certificate(const ngx_http_sluice_gw_pool_t *pool);  /* id; {NULL,0}: none */

#if (NGX_HTTP_SSL)
/* From now on the store's certificates are shown where there is one for the name that a client asks for. */
void ngx_http_sluice_gw_cert_init(ngx_ssl_t *ssl);
#endif
char *ngx_http_sluice_gw_read_hosts(ngx_conf_t *cf, ngx_http_sluice_gw_main_conf_t *mcf, const char *path);

/* ---- ngx_http_sluice_gw_request.c ----------------------------------------------------------------------------------- */

/* The nth header of a list by its name, compared without case; removed ones do not count. NULL: none. */
ngx_table_elt_t *ngx_http_sluice_gw_find_header(ngx_list_t *headers, sl_str_t name, size_t nth);
/* The nth value of a header by its lower-case name; NULL: none. */
ngx_table_elt_t *ngx_http_sluice_gw_request_header(ngx_http_request_t *r, sl_str_t lower, size_t nth);
ngx_uint_t ngx_http_sluice_gw_local_port(ngx_http_request_t *r); /* of the listener */
ngx_uint_t ngx_http_sluice_gw_shown_port(ngx_http_request_t *r); /* the same as clients see it: port_maps */
unsigned ngx_http_sluice_gw_peer_trusted(ngx_http_request_t *r); /* trusted_ips */
ngx_str_t ngx_http_sluice_gw_peer(ngx_http_request_t *r);        /* address of the connection, whatever real_ip_header says */
/* What Connection names ends here; called before the request goes to the upstream. */
void ngx_http_sluice_gw_drop_hop_headers(ngx_http_request_t *r);
unsigned ngx_http_sluice_gw_is_tls(ngx_http_request_t *r);
ngx_str_t ngx_http_sluice_gw_host(ngx_http_request_t *r); /* as sent, with its port; may be empty */
ngx_int_t ngx_http_sluice_gw_add_header(ngx_http_request_t *r, const char *name, ngx_str_t value); /* to the response; borrows both */
ngx_int_t ngx_http_sluice_gw_set_server(ngx_http_request_t *r, ngx_str_t value); /* empty: the response has no Server, not even nginx's */
/* b, or "a, b" when there is an a. */
ngx_int_t ngx_http_sluice_gw_join(ngx_http_request_t *r, ngx_table_elt_t *a, ngx_str_t b, ngx_str_t *out);

/* ---- ngx_http_sluice_gw_variables.c, ngx_http_sluice_gw_headers.c ------------------------------------------------------ */

/* The value of one of the gateway's variables; NGX_DECLINED: no such variable. */
ngx_int_t ngx_http_sluice_gw_variable(ngx_http_request_t *r, const char *name, ngx_str_t *out);

/* ---- properties (ngx_http_sluice_gw_properties.c): hooks of the HTTP adapter --------------------------------------------- */

sl_status_t ngx_http_sluice_gw_property_get(ngx_http_request_t *r, void *data, sl_str_t path, sl_buf_t *scratch, pw_value_t *out);
sl_status_t ngx_http_sluice_gw_property_set(ngx_http_request_t *r, void *data, sl_str_t path, sl_str_t value);

/* ---- errors (ngx_http_sluice_gw_error.c) --------------------------------------------------------------------------------- */

/* A decision of the gateway (no route...): the type comes from Accept, JSON without one. Returns what a phase handler returns. */
ngx_int_t ngx_http_sluice_gw_send_error(ngx_http_request_t *r, ngx_uint_t status, const char *message);
/* The end of a call of gRPC: HTTP's status is 200 then. */
ngx_int_t ngx_http_sluice_gw_send_grpc(ngx_http_request_t *r, const char *status, const char *message);
/* Content handler of the location that error_page points to. */
ngx_int_t ngx_http_sluice_gw_error_handler(ngx_http_request_t *r);

/* ---- Admin API (ngx_http_sluice_gw_admin.c) --------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_gw_admin_handler(ngx_http_request_t *r);

/* Before the event's memory is used for something else: a timer that is set is part of nginx's tree. */
static inline void ngx_http_sluice_gw_stop_timer(ngx_event_t *ev) {
    if (ev->timer_set) {
        ngx_del_timer(ev);
    }
}

static inline sl_str_t ngx_sluice_to_sl(ngx_str_t s) {
    return sl_str(s.data, s.len);
}

#endif
