/*
 * What the files of the HTTP adapter share.
 *
 * One context for a request and a chain:
 *
 *   request side   IDLE -> RUNNING -> (PAUSED ->) RELEASED             driven by a phase handler, then by the request body filter
 *   response side  NONE -> (HELD | FIRST ->) BODY                      driven by the header filter, then by the body filters
 *
 * HELD: a filter paused on headers and wants no body: the hold filter at the head of the chain queues everything.
 * FIRST: nothing has gone out yet, body flows to the filters: either one paused on headers and reads the body, or the length is
 *        known and the header waits for the first piece, so that Content-Length can still follow a change.
 *
 * Nothing is resumed from inside a guest: wake() posts the context's event.
 */
#ifndef NGX_HTTP_SLUICE_INT_H
#define NGX_HTTP_SLUICE_INT_H

#include "ngx_http_sluice.h"
#include "ngx_sluice.h"

/* A bit of r->buffered that no module of nginx uses together with us (image_filter takes it for subrequests of its own). */
#define NGX_HTTP_SLUICE_BUFFERED 0x08

typedef struct {
    ngx_array_t *filters; /* of ngx_sluice_filter_t; inherited whole */
    ngx_sluice_settings_t settings;
    ngx_sluice_chain_t *chain; /* NULL: no filters here */
    ngx_flag_t request_headers_in_access;
    ngx_flag_t lua_resolver, log_dispatch_errors;
    ngx_flag_t postpone_rewrite, postpone_access;
    ngx_bufs_t response_body_buffers;
    ngx_msec_t socket_connect_timeout, socket_send_timeout, socket_read_timeout;
    size_t socket_buffer_size;
    ngx_flag_t socket_buffer_reuse;
    ngx_bufs_t socket_large_buffers;
} ngx_http_sluice_loc_conf_t;

typedef enum {
    NGX_HTTP_SLUICE_REQ_IDLE,
    NGX_HTTP_SLUICE_REQ_RUNNING,
    NGX_HTTP_SLUICE_REQ_PAUSED,
    NGX_HTTP_SLUICE_REQ_RELEASED
} ngx_http_sluice_req_e;
typedef enum {
    NGX_HTTP_SLUICE_RESP_NONE,
    NGX_HTTP_SLUICE_RESP_HELD,
    NGX_HTTP_SLUICE_RESP_FIRST,
    NGX_HTTP_SLUICE_RESP_BODY
} ngx_http_sluice_resp_e;

typedef struct ngx_http_sluice_ctx_s ngx_http_sluice_ctx_t;

/* Down to `request`, all is zero in a new context; what lies behind it is filled in or kept: see ctx_new(). */
struct ngx_http_sluice_ctx_s {
    const ngx_http_sluice_hooks_t *hooks;
    void *data;
    void *upstream_ssl; /* the upstream's, for as long as the request; NULL: no TLS there */
    ngx_http_sluice_req_e req;
    ngx_http_sluice_resp_e resp;

    /* request */
    ngx_chain_t *req_in;    /* links of ours to buffers that nginx holds busy: not given to filters yet */
    ngx_chain_t *req_ready; /* released, not yet passed on */
    ngx_chain_t *req_free, *req_busy;
    off_t req_out_bytes;                                /* what has been passed on */
    ngx_int_t (*create_request)(ngx_http_request_t *r); /* the upstream's own, while ours stands in front */
    ngx_str_t scheme;                                   /* set by a filter */

    /* response */
    ngx_chain_t *hold_queue; /* at the head of the chain, while HELD */
    ngx_chain_t *resp_in;    /* links of ours at our place, while filters want no more */
    ngx_chain_t *resp_free, *resp_busy;
    ngx_chain_t *reply_body;
    ngx_chain_t *made_body; /* that a filter has given to a response without one: in the place of the origin's end */
    off_t made_bytes;
    off_t resp_in_bytes, resp_out_bytes;

    unsigned attached : 1;
    unsigned woken_request : 1;
    unsigned woken_response : 1;
    unsigned quiet_read : 1; /* the client is not to blame for what takes long: no timeout on reading */
    unsigned logged : 1;
    unsigned ended : 1; /* the request has: nothing of it is resumed any more */

    unsigned req_eos : 1; /* the end of the request has been told */
    unsigned req_changed : 1;
    unsigned req_cut : 1;         /* a filter has ended the request before its body: what comes of that is dropped */
    unsigned req_last_ready : 1;  /* the last buffer is among the ready ones, or passed on */
    unsigned req_reading : 1;     /* we read the body, before the content handler */
    unsigned req_read_begins : 1; /* the call that begins to read is on the stack */
    unsigned req_read_done : 1;
    unsigned req_replying : 1; /* an error response of nginx is under way whose place the reply takes */

    unsigned resp_begun : 1;      /* there is a response */
    unsigned resp_bypass : 1;     /* filters see no more of the response */
    unsigned resp_wants_body : 1; /* body is given to the filters */
    unsigned resp_released : 1;   /* filters have released the headers */
    unsigned resp_header_passed : 1;
    unsigned resp_eos : 1;      /* its end has been told */
    unsigned resp_end_out : 1;  /* and released */
    unsigned resp_last_in : 1;  /* nginx's last buffer has come */
    unsigned resp_last_out : 1; /* the last buffer has been passed on */
    unsigned resp_passing : 1;  /* the body filters below are at work, on our behalf */
    unsigned resp_flush : 1;    /* a flush was asked for while nothing could go on */
    unsigned resp_changed : 1;
    unsigned resp_made : 1;    /* a filter makes the body; once it is all there, the headers go */
    unsigned resp_through : 1; /* its body is nobody's business here */
    unsigned resp_clear : 1;   /* since the last piece of the body, nothing of the response is held */
    unsigned resp_drop : 1;    /* the answer was replaced: what still comes from the origin is thrown away */
    unsigned replied : 1;
    unsigned failed : 1;

    ngx_http_request_t *request;
    ngx_http_sluice_ctx_t *next; /* older contexts of this request */
    ngx_sluice_stream_t stream;  /* pw NULL: no filters, or they have ended */
    ngx_sluice_conf_t *scf;
    pw_chain_t *chain; /* the stream's: not there without it */
    ngx_uint_t client_method;
    off_t resp_length; /* Content-Length before filters saw it; -1: none */
    ngx_http_cleanup_t request_end;
    ngx_pool_cleanup_t pool_end;
    ngx_event_t wake_event; /* posted by wake() and by the adapter itself */
    ngx_event_t hold_timer; /* keeps an exiting worker for a stream that waits */
};

extern ngx_module_t ngx_http_sluice_module;
extern ngx_module_t ngx_http_sluice_hold_module;

/* ---- ngx_http_sluice_ctx.c -------------------------------------------------------------------------------------------------- */

/* In operations of pw_host.h: of the filter that asks. */
static ngx_inline sl_dialect_t ngx_http_sluice_dialect(const ngx_http_sluice_ctx_t *ctx) {
    return pw_worker_dialect(ctx->scf->worker);
}

/* The same as ngx_http_sluice_ctx(), for a request whose module contexts nginx may have cleared. */
ngx_http_sluice_ctx_t *ngx_http_sluice_ctx_again(ngx_http_request_t *r);

/* The context in charge of r, or NULL. */
static ngx_inline ngx_http_sluice_ctx_t *ngx_http_sluice_ctx(ngx_http_request_t *r) {
    ngx_http_sluice_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_sluice_module);

    return ctx != NULL || !(r->internal || r->filter_finalize) ? ctx : ngx_http_sluice_ctx_again(r);
}

/* Whether the location has filters. */
static ngx_inline ngx_uint_t ngx_http_sluice_filtered(ngx_http_request_t *r) {
    ngx_http_sluice_loc_conf_t *slcf = ngx_http_get_module_loc_conf(r, ngx_http_sluice_module);

    return slcf->chain != NULL;
}

/* Makes one for the location's chain. *ctx NULL: there are no filters here. NGX_ERROR: no memory. */
ngx_int_t ngx_http_sluice_ctx_location(ngx_http_request_t *r, ngx_http_sluice_ctx_t **ctx);
ngx_http_sluice_ctx_t *ngx_http_sluice_ctx_all(ngx_http_request_t *r); /* the newest; follow next */
void ngx_http_sluice_ctx_free_spare(void);                             /* the worker ends */
/* Runs ctx's event soon. */
void ngx_http_sluice_post(ngx_http_sluice_ctx_t *ctx);
/* The stream waits for a filter, maybe for long. */
void ngx_http_sluice_hold(ngx_http_sluice_ctx_t *ctx);

/* ---- ngx_http_sluice_request.c ---------------------------------------------------------------------------------------------- */

ngx_int_t ngx_http_sluice_rewrite_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_sluice_access_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_sluice_request_body_init(void);
void ngx_http_sluice_request_resume(ngx_http_sluice_ctx_t *ctx);
void ngx_http_sluice_request_quiet(ngx_http_sluice_ctx_t *ctx);

/* ---- ngx_http_sluice_response.c --------------------------------------------------------------------------------------------- */

void ngx_http_sluice_response_init(void); /* puts the header and body filter in */
void ngx_http_sluice_response_resume(ngx_http_sluice_ctx_t *ctx);

/* ---- ngx_http_sluice_hold.c -------------------------------------------------------------------------------------------------- */

/* Puts the queue back at the head of the chain. */
ngx_int_t ngx_http_sluice_hold_flush(ngx_http_sluice_ctx_t *ctx);
/* The response does not move on now: keeps the request alive and the writers quiet. */
void ngx_http_sluice_block(ngx_http_request_t *r);
void ngx_http_sluice_unblock(ngx_http_request_t *r);
/* Lists of links of ours to buffers of others. */
ngx_int_t ngx_http_sluice_links_append(ngx_pool_t *pool, ngx_chain_t **list, ngx_chain_t *in);
void ngx_http_sluice_links_free(ngx_pool_t *pool, ngx_chain_t **list);
void ngx_http_sluice_consume(ngx_chain_t *in); /* marks the bytes as used */

/* ---- ngx_http_sluice_reply.c -------------------------------------------------------------------------------------------------- */

/* Fills headers_out from the stream's reply; *body: its bytes in a buffer with last flags. */
ngx_int_t ngx_http_sluice_reply_headers(ngx_http_sluice_ctx_t *ctx, ngx_chain_t **body);
/* The same for a bare status. */
ngx_int_t ngx_http_sluice_status_headers(ngx_http_sluice_ctx_t *ctx, ngx_uint_t status, ngx_chain_t **body);
/* From a phase handler or an event: answers through all filters, finalizes. */
void ngx_http_sluice_reply_send(ngx_http_sluice_ctx_t *ctx);
/* Gives up the upstream, if there is one; the request must then be finalized. NGX_DECLINED: there is none. */
ngx_int_t ngx_http_sluice_upstream_close(ngx_http_request_t *r);
/* The rest of the request's body will not be read: this connection cannot take another request. */
void ngx_http_sluice_body_unread(ngx_http_request_t *r);
/* While a breaker is open, the answer says when to come again. */
void ngx_http_sluice_retry_after(ngx_http_sluice_ctx_t *ctx);
/* Ends a request from an event, whoever else holds it. */
void ngx_http_sluice_abort(ngx_http_request_t *r, ngx_int_t rc);

ngx_uint_t ngx_http_sluice_is_grpc(ngx_http_request_t *r); /* the request says so */
/* The mapping that gRPC prescribes for answers of proxies. */
ngx_uint_t ngx_http_sluice_grpc_status_of(ngx_uint_t status);

/* ---- ngx_http_sluice_headers_in.c, _out.c --------------------------------------------------------------------------------------- */

typedef bool (*ngx_http_sluice_each_pt)(void *ud, sl_str_t key, sl_str_t value);

sl_status_t ngx_http_sluice_in_each(ngx_http_sluice_ctx_t *ctx, ngx_http_sluice_each_pt each, void *ud);
size_t ngx_http_sluice_in_count(ngx_http_sluice_ctx_t *ctx);
sl_status_t ngx_http_sluice_in_get(ngx_http_sluice_ctx_t *ctx, sl_str_t key, sl_str_t *value);
sl_status_t ngx_http_sluice_in_edit(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value);
void ngx_http_sluice_out_init(void);
sl_status_t ngx_http_sluice_out_each(ngx_http_sluice_ctx_t *ctx, ngx_http_sluice_each_pt each, void *ud);
size_t ngx_http_sluice_out_count(ngx_http_sluice_ctx_t *ctx);
sl_status_t ngx_http_sluice_out_get(ngx_http_sluice_ctx_t *ctx, sl_str_t key, sl_str_t *value);
sl_status_t ngx_http_sluice_out_edit(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value);
/* The same without asking whether a response is there: for our own answers. */
sl_status_t ngx_http_sluice_out_change(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value);
sl_status_t ngx_http_sluice_trailers_edit(ngx_http_sluice_ctx_t *ctx, pw_map_op_t op, sl_str_t key, sl_str_t value);
void ngx_http_sluice_clear_content_length(ngx_http_request_t *r);

/* Lists of ngx_table_elt_t, shared by both. */
ngx_int_t ngx_http_sluice_list_each(const ngx_list_t *list, ngx_http_sluice_each_pt each, void *ud); /* NGX_DONE: stopped */
ngx_table_elt_t *ngx_http_sluice_list_find(const ngx_list_t *list, sl_str_t key);
/* And is not hidden. */
static inline ngx_uint_t ngx_http_sluice_key_is(const ngx_table_elt_t *h, sl_str_t key) {
    return h->key.len == key.len && h->hash != 0 && (key.len == 0 || ((h->key.data[0] ^ (u_char)key.data[0]) & ~0x20) == 0) &&
           sl_str_eq_nocase(sl_str(h->key.data, h->key.len), key);
}
/* Copies key and value into the pool. */
ngx_table_elt_t *ngx_http_sluice_list_add(ngx_http_request_t *r, ngx_list_t *list, sl_str_t key, sl_str_t value);
/* The same for a response's, where nginx and its modules fill and read neither lowcase_key nor the hash of a name. */
ngx_table_elt_t *ngx_http_sluice_list_add_out(ngx_http_request_t *r, ngx_list_t *list, sl_str_t key, sl_str_t value);
/* Gives an element of a list of responses another name and value, in memory of their own. */
ngx_int_t ngx_http_sluice_elt_set(ngx_pool_t *pool, ngx_table_elt_t *h, sl_str_t key, sl_str_t value);
sl_status_t ngx_http_sluice_copy(ngx_pool_t *pool, sl_str_t from, ngx_str_t *to); /* NUL-terminated */
/* No control character but tab; a name is not empty. */
ngx_uint_t ngx_http_sluice_header_valid(sl_str_t key, sl_str_t value);

/* ---- ngx_http_sluice_properties.c --------------------------------------------------------------------------------------------------- */

sl_status_t ngx_http_sluice_property_get(void *worker, void *stream, sl_str_t path, sl_buf_t *scratch, pw_value_t *out);
sl_status_t ngx_http_sluice_property_set(void *worker, void *stream, sl_str_t path, sl_str_t value);

/* Keeps what TLS knows about the upstream for the log, when its connection has gone. */
void ngx_http_sluice_upstream_tls_keep(ngx_http_sluice_ctx_t *ctx);

/* ---- ngx_http_sluice_call.c: operations of pw_host_ops_t ----------------------------------------------------------------------------- */

sl_status_t ngx_http_sluice_http_call(void *worker, void *stream, const pw_http_call_t *request, void **handle);
void ngx_http_sluice_http_call_cancel(void *worker, void *handle);
sl_status_t ngx_http_sluice_http_call_detach(void *worker, void *handle);
void ngx_http_sluice_pool_stop(void);     /* closes the connections that wait for calls */
void ngx_http_sluice_call_tls_free(void); /* what all calls of the worker share */

/* ---- ngx_http_sluice_grpc.c: operations of pw_host_ops_t; ngx_http_sluice_grpc_session.c --------------------------------------------- */

sl_status_t ngx_http_sluice_grpc_open(void *worker, void *stream, const pw_grpc_call_t *request, void **handle);
sl_status_t ngx_http_sluice_grpc_send(void *worker, void *handle, sl_str_t message);
void ngx_http_sluice_grpc_finish(void *worker, void *handle);
void ngx_http_sluice_grpc_cancel(void *worker, void *handle);
void ngx_http_sluice_grpc_stop(void); /* closes the connections of the worker; its calls have ended */

/* ---- ngx_http_sluice_resolve.c: operations of pw_host_ops_t ----------------------------------------------------------------------------
 */

sl_status_t ngx_http_sluice_resolve(void *worker, void *stream, const pw_resolve_t *request, void **handle);
void ngx_http_sluice_resolve_cancel(void *worker, void *handle);

/* ---- ngx_http_sluice_redis.c: operations of pw_host_ops_t; ngx_http_sluice_redis_conn.c ------------------------------------------------
 */

sl_status_t ngx_http_sluice_redis_call(void *worker, void *stream, const pw_redis_call_t *request, void **handle);
void ngx_http_sluice_redis_cancel(void *worker, void *handle);
void ngx_http_sluice_redis_stop(void); /* closes the connections of the worker; its calls have ended */

/* ---- ngx_http_sluice_ops.c --------------------------------------------------------------------------------------------------------------
 */

void ngx_http_sluice_ops_init(void);

/* ---- ngx_http_sluice_metrics.c: the directive sluice_metrics ----------------------------------------------------------------- */

char *ngx_http_sluice_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

#endif
