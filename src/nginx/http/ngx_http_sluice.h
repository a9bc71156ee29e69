/*
 * The HTTP adapter's interface for other modules of this shared object (the gateway).
 *
 * A module that decides at request time which filters run calls, from a rewrite or access handler:
 *
 *     rc = ngx_http_sluice_attach(r, chain, &hooks, data);   once
 *     rc = ngx_http_sluice_run_request(r);                    each time its handler is entered
 *
 * run_request: NGX_DECLINED the request may go on; NGX_DONE it waits, or it has been answered: return NGX_DONE from the handler and
 * touch nothing; the phases run again from this handler when the filters have resumed. Responses, bodies and the end of
 * the request are then driven by the adapter's filters.
 *
 * A chain that was attached stays with the request through internal redirects and named locations; one from `proxy_wasm`
 * directives ends with its location (the target location's chain starts anew), as in WasmX.
 */
#ifndef NGX_HTTP_SLUICE_H
#define NGX_HTTP_SLUICE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "pw.h"

/* Moments of a request that carries an attachment. Any member may be NULL. `data` as given to attach. */
typedef struct {
    /* The filters have released the request's headers: it goes on to the upstream now. */
    void (*request_released)(ngx_http_request_t *r, void *data);
    /* A response is there, filters have not seen it. NGX_ERROR ends the request. */
    ngx_int_t (*response_begin)(ngx_http_request_t *r, void *data);
    /* Its headers go on to the client now. NGX_ERROR ends the request. */
    ngx_int_t (*response_released)(ngx_http_request_t *r, void *data);
    /* The log phase, before the filters' on_log. */
    void (*log)(ngx_http_request_t *r, void *data);
    /* Properties of the module; they win over the adapter's. As in pw_host.h. */
    sl_status_t (*property_get)(ngx_http_request_t *r, void *data, sl_str_t path, sl_buf_t *scratch, pw_value_t *out);
    sl_status_t (*property_set)(ngx_http_request_t *r, void *data, sl_str_t path, sl_str_t value);
} ngx_http_sluice_hooks_t;

/* chain NULL: no filters, only the hooks. Takes its own reference. NGX_ERROR: no memory; NGX_DECLINED: the request has one already. */
ngx_int_t ngx_http_sluice_attach(ngx_http_request_t *r, pw_chain_t *chain, const ngx_http_sluice_hooks_t *hooks, void *data);
ngx_int_t ngx_http_sluice_run_request(ngx_http_request_t *r);
/*
 * The request waits for something that does not come from its client, and whoever waits for it calls this once, when nothing else is left
 * to do: a client who leaves ends the request from now on, also one who had left before. Who goes on sets r->write_event_handler.
 * NGX_ERROR: the request cannot be watched, and has to end.
 */
ngx_int_t ngx_http_sluice_suspend(ngx_http_request_t *r);
/* The data of the attachment, NULL where there is none. */
void *ngx_http_sluice_attached(ngx_http_request_t *r);
/* The request's stream, until the end of the log phase; NULL: no filters. */
const pw_stream_t *ngx_http_sluice_stream(ngx_http_request_t *r);
/* Whether the answer was made by a filter, and not by the upstream or nginx. */
ngx_uint_t ngx_http_sluice_replied(ngx_http_request_t *r);

/* A place where a name can be called: `host[:port]`, or the name of an upstream{} if it is the only one. Bytes in the pool or static. */
typedef struct {
    sl_str_t host;
    ngx_uint_t weight; /* > 0 */
} ngx_http_sluice_place_t;

/* Names of call outs that a module knows. NGX_OK: `places`, an empty array of the above, has been filled, and *tls says how to speak to
 * them. NGX_DECLINED: not mine. */
typedef ngx_int_t (*ngx_http_sluice_call_name_pt)(ngx_pool_t *pool, sl_str_t name, ngx_array_t *places, bool *tls);
extern ngx_http_sluice_call_name_pt ngx_http_sluice_call_name;

/* The worker's objects; made at the first use. NULL: logged why not. */
pw_worker_t *ngx_http_sluice_worker(void);
sl_engine_t *ngx_http_sluice_engine(void);

#endif
