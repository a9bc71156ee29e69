/*
 * Connections of HTTP calls that wait for the next call to the same peer. All of a worker are in one list, the newest first; the oldest
 * goes when there are too many. One that the peer closes, or that says something unasked, goes at once.
 */
#include "ngx_http_sluice_dial.h"

#define IDLE_MAX 512 /* of all destinations */

typedef struct {
    ngx_queue_t queue;
    ngx_connection_t *c;
    ngx_str_t key; /* behind the structure */
} idle_t;

static ngx_queue_t idles = {&idles, &idles};
static ngx_uint_t n_idles;

/* The connection goes on, its place in the list not. */
static ngx_connection_t *leave(idle_t *idle) {
    ngx_connection_t *c = idle->c;

    ngx_queue_remove(&idle->queue);
    n_idles--;
    ngx_free(idle);
    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }
    c->idle = 0;
    c->data = NULL;
    return c;
}

/* The peer has closed it, or sends what nobody has asked for. */
static ngx_uint_t stale(ngx_connection_t *c) {
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK) != -1 || ngx_socket_errno != NGX_EAGAIN;
}

static void read_handler(ngx_event_t *rev) {
    ngx_connection_t *c = rev->data;

    if (c->close || rev->timedout || stale(c) || ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_sluice_connection_close(leave(c->data));
        return;
    }
    rev->ready = 0;
}

static void write_handler(ngx_event_t *wev) {
}

static idle_t *find(const ngx_str_t *key) {
    for (ngx_queue_t *q = ngx_queue_head(&idles); q != ngx_queue_sentinel(&idles); q = ngx_queue_next(q)) {
        idle_t *idle = ngx_queue_data(q, idle_t, queue);
        if (idle->key.len == key->len && ngx_memcmp(idle->key.data, key->data, key->len) == 0) {
            return idle;
        }
    }
    return NULL;
}

static ngx_uint_t count(const ngx_str_t *key) {
    ngx_uint_t n = 0;

    for (ngx_queue_t *q = ngx_queue_head(&idles); q != ngx_queue_sentinel(&idles); q = ngx_queue_next(q)) {
        idle_t *idle = ngx_queue_data(q, idle_t, queue);
        n += idle->key.len == key->len && ngx_memcmp(idle->key.data, key->data, key->len) == 0;
    }
    return n;
}

ngx_connection_t *ngx_http_sluice_pool_take(const ngx_str_t *key) {
    idle_t *idle;

    while ((idle = find(key)) != NULL) {
        ngx_connection_t *c = leave(idle);
        if (!stale(c)) {
            return c;
        }
        ngx_http_sluice_connection_close(c);
    }
    return NULL;
}

void ngx_http_sluice_pool_put(ngx_sluice_conf_t *scf, ngx_connection_t *c, const ngx_str_t *key) {
    ngx_uint_t keep = (ngx_uint_t)scf->call_keepalive > count(key) && !ngx_exiting && !ngx_terminate && !c->read->eof && !c->read->error;
    idle_t *idle = keep ? ngx_alloc(sizeof(idle_t) + key->len, ngx_cycle->log) : NULL;

    if (idle == NULL || ngx_handle_read_event(c->read, 0) != NGX_OK || stale(c)) {
        ngx_free(idle);
        ngx_http_sluice_connection_close(c);
        return;
    }
    idle->c = c;
    idle->key.len = key->len;
    idle->key.data = (u_char *)(idle + 1);
    ngx_memcpy(idle->key.data, key->data, key->len);
    ngx_queue_insert_head(&idles, &idle->queue);
    if (++n_idles > IDLE_MAX) {
        ngx_http_sluice_connection_close(leave(ngx_queue_data(ngx_queue_last(&idles), idle_t, queue)));
    }
    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }
    c->data = idle;
    c->idle = 1; /* nginx closes it when the worker is told to end */
    c->log = c->pool->log = c->read->log = c->write->log = (ngx_log_t *)ngx_cycle->log;
    c->read->handler = read_handler;
    c->write->handler = write_handler;
    c->read->cancelable = 1;
    ngx_add_timer(c->read, scf->call_keepalive_timeout);
}

void ngx_http_sluice_pool_stop(void) {
    while (!ngx_queue_empty(&idles)) {
        ngx_http_sluice_connection_close(leave(ngx_queue_data(ngx_queue_head(&idles), idle_t, queue)));
    }
}
