#include "pw_internal.h"

#include <stdlib.h>

pw_chain_t *pw_chain_new(pw_worker_t *worker, pw_filter_t *const *filters, size_t n, const pw_chain_conf_t *conf) {
    const uint32_t of_requests = PW_CB_BIT(PW_CB_REQUEST_HEADERS) | PW_CB_BIT(PW_CB_REQUEST_BODY) | PW_CB_BIT(PW_CB_REQUEST_TRAILERS);
    pw_chain_t *c = n <= 1024 ? calloc(1, sizeof(*c) + n * sizeof(c->filters[0])) : NULL;
    if (c == NULL) {
        return NULL;
    }
    c->worker = worker;
    c->refs = 1;
    c->conf = conf != NULL ? *conf : (pw_chain_conf_t){0};
    size_t fallback = worker->limits.body_buffer_bytes;
    c->body_bytes[PW_DIR_REQUEST] = c->conf.request_body_bytes != 0 ? c->conf.request_body_bytes : fallback;
    c->body_bytes[PW_DIR_RESPONSE] = c->conf.response_body_bytes != 0 ? c->conf.response_body_bytes : fallback;
    c->reversed[PW_DIR_RESPONSE] = c->conf.reverse_response;
    c->n = n;
    for (size_t i = 0; i < n; i++) {
        c->filters[i] = pw_filter_ref(filters[i]);
        c->callbacks |= filters[i]->callbacks;
        c->sliced |= filters[i]->conf.opts.slice;
        c->wasmx |= filters[i]->conf.opts.dialect == SL_DIALECT_WASMX;
    }
    c->wants_requests = (c->callbacks & of_requests) != 0;
    c->last_words = (c->callbacks & (PW_CB_BIT(PW_CB_LOG) | PW_CB_BIT(PW_CB_DONE))) != 0;
    return c;
}

pw_chain_t *pw_chain_ref(pw_chain_t *chain) {
    chain->refs++;
    return chain;
}

void pw_chain_unref(pw_chain_t *chain) {
    if (chain != NULL && --chain->refs == 0) {
        pw_chain_free(chain);
    }
}

void pw_chain_free(pw_chain_t *chain) {
    for (size_t i = 0; i < chain->n; i++) {
        pw_filter_unref(chain->filters[i]);
    }
    free(chain);
}

bool pw_chain_wants_body(const pw_chain_t *chain, pw_dir_t dir) {
    return (chain->callbacks & PW_CB_BIT(dir == PW_DIR_REQUEST ? PW_CB_REQUEST_BODY : PW_CB_RESPONSE_BODY)) != 0;
}

bool pw_chain_wants_empty_body(const pw_chain_t *chain) {
    return chain->wasmx && pw_chain_wants_body(chain, PW_DIR_RESPONSE);
}

bool pw_chain_wants_trailers(const pw_chain_t *chain, pw_dir_t dir) {
    return (chain->callbacks & PW_CB_BIT(dir == PW_DIR_REQUEST ? PW_CB_REQUEST_TRAILERS : PW_CB_RESPONSE_TRAILERS)) != 0;
}

bool pw_chain_wants_requests(const pw_chain_t *chain) {
    return chain->wants_requests;
}
