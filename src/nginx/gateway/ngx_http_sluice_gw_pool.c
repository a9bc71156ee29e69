/*
 * Upstreams: a service whose host is the name of one is balanced over its targets.
 *
 *   pool --- targets --- addresses (one, or those that a name has now)
 *
 * Whose turn it is: weighted round-robin over all addresses (gw_turns.h), each with the weight of its target; in any row of picks as long
 * as the sum of the weights, each address has exactly its share. Names are looked up anew when their time (TTL) is over, in the background;
 * only when no address is known at all does a request wait. A pool whose targets are the same in the next generation goes on there.
 *
 * Small pools are made when they are first needed, large ones are read by the thread that opens the generation: nothing that takes time in
 * proportion to all targets happens on the loop, but for one look at each of them when addresses have changed, and once a second at names.
 */
#include "ngx_http_sluice_gw_gen.h"

#include "gw_turns.h"
#include "ngx_http_sluice_gw_lazy.h"
#include "sl_digest.h"

#define BUCKETS 256
#define ADDRS_MAX 64       /* of one name */
#define FAILED_SECONDS 1   /* until a name is asked for again that could not be looked up */
#define NO_NAME_SECONDS 30 /* ... that does not exist */
#define REST_SECONDS 600   /* that a pool is kept which no generation has */
#define RESTING_MAX 1000
#define FIRST_STEPS 64 /* workers do not all begin with the same target */
#define LARGE 100      /* targets */
#define LOOKUPS_MAX 64 /* names of a pool that are asked for at the same time */

typedef struct pool_target_s pool_target_t;

typedef struct {
    gw_turn_t turn; /* first: what gw_turns_next() answers is the address */
    ngx_sockaddr_t sockaddr;
    socklen_t socklen;
    pool_target_t *target; /* of those that take part in the turns */
} pool_addr_t;

struct pool_target_s {
    ngx_http_sluice_gw_pool_t *pool;
    ngx_str_t host; /* lower case, without brackets */
    in_port_t port;
    uint32_t weight;
    pool_addr_t *addrs;
    ngx_uint_t n_addrs;
    ngx_resolver_ctx_t *asking;
    time_t expires;     /* of what is known of the name */
    unsigned fixed : 1; /* an address, or a name of the hosts file */
    unsigned known : 1; /* it has been looked up, perhaps in vain */
};

struct ngx_http_sluice_gw_pool_s {
    ngx_uint_t refs;
    ngx_pool_t *mem;
    ngx_queue_t link;    /* in its bucket, the newest first */
    ngx_queue_t waiters; /* ngx_http_sluice_gw_ctx_t.waiting */
    unsigned waited_for; /* there are some */
    ngx_queue_t rest;    /* while nobody refers to it */
    time_t rest_until;
    ngx_str_t id, name, host_header, certificate, algorithm;
    pool_target_t *targets;
    ngx_uint_t n_targets, n_asking;
    ngx_uint_t n_names;       /* targets that are looked up */
    time_t looked_at;         /* when it was last seen which names are to be looked up */
    unsigned look_again : 1;  /* an answer has come since */
    unsigned asking_new : 1;  /* then somebody was being asked whose answer may make a difference */
    unsigned turns_stale : 1; /* addresses have changed: `turns` holds none */
    gw_turns_t turns;         /* all addresses of targets with a weight */
    uint32_t *index;          /* of a large one: open addressing over targets, n_slots (a power of two) of them; position + 1, 0: free */
    ngx_uint_t n_slots;
};

static ngx_queue_t buckets[BUCKETS];
/*
 * A generation asks for its pools when it needs them, and then the one before may be gone: the newest pool of an upstream is kept for a
 * while without a reference, with its addresses and turns. The oldest first.
 */
static ngx_queue_t resting;
static ngx_uint_t n_resting;

/* ---- life ------------------------------------------------------------------------------------------------------------------ */

static ngx_queue_t *bucket_of(ngx_str_t id) {
    ngx_queue_t *bucket = &buckets[ngx_crc32_short(id.data, id.len) % BUCKETS];
    if (bucket->next == NULL) {
        ngx_queue_init(bucket);
    }
    return bucket;
}

static unsigned same_text(ngx_str_t a, ngx_str_t b) {
    return a.len == b.len && ngx_memcmp(a.data, b.data, a.len) == 0;
}

static ngx_http_sluice_gw_pool_t *newest(ngx_str_t id) {
    ngx_queue_t *bucket = bucket_of(id);
    for (ngx_queue_t *q = ngx_queue_head(bucket); q != ngx_queue_sentinel(bucket); q = ngx_queue_next(q)) {
        ngx_http_sluice_gw_pool_t *pool = ngx_queue_data(q, ngx_http_sluice_gw_pool_t, link);
        if (same_text(pool->id, id)) {
            return pool;
        }
    }
    return NULL;
}

static void pool_free(ngx_http_sluice_gw_pool_t *pool) {
    if (pool->link.next != NULL) {
        ngx_queue_remove(&pool->link);
    }
    for (ngx_uint_t i = 0; i < pool->n_targets; i++) {
        if (pool->targets[i].asking != NULL) {
            ngx_resolve_name_done(pool->targets[i].asking);
        }
        free(pool->targets[i].addrs);
    }
    gw_turns_deinit(&pool->turns);
    ngx_destroy_pool(pool->mem);
}

static void wake_up(ngx_http_sluice_gw_pool_t *pool) {
    if (pool->refs++ == 0 && pool->rest_until != 0) {
        ngx_queue_remove(&pool->rest);
        pool->rest_until = 0;
        n_resting--;
    }
}

static void end_rest(time_t now, ngx_uint_t keep) {
    while (n_resting > 0) {
        ngx_http_sluice_gw_pool_t *pool = ngx_queue_data(ngx_queue_head(&resting), ngx_http_sluice_gw_pool_t, rest);
        if (pool->rest_until > now && n_resting <= keep) {
            return;
        }
        ngx_queue_remove(&pool->rest);
        n_resting--;
        pool_free(pool);
    }
}

void ngx_http_sluice_gw_pool_exit_worker(void) {
    end_rest(0, 0);
}

void ngx_http_sluice_gw_pool_unref(ngx_http_sluice_gw_pool_t *pool) {
    if (pool == NULL || --pool->refs != 0) {
        return;
    }
    if (newest(pool->id) != pool) {
        pool_free(pool);
        return;
    }
    if (resting.next == NULL) {
        ngx_queue_init(&resting);
    }
    pool->rest_until = ngx_time() + REST_SECONDS;
    ngx_queue_insert_tail(&resting, &pool->rest);
    n_resting++;
    end_rest(ngx_time(), RESTING_MAX);
}

static ngx_int_t keep_text(ngx_pool_t *mem, sl_str_t text, ngx_str_t *out) {
    out->len = text.len;
    out->data = ngx_pnalloc(mem, text.len + 1);
    if (out->data == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(out->data, text.data != NULL ? text.data : "", text.len);
    out->data[text.len] = '\0';
    return NGX_OK;
}

/* ---- addresses --------------------------------------------------------------------------------------------------------------- */

static unsigned same_addr(const struct sockaddr *a, socklen_t a_len, const struct sockaddr *b, socklen_t b_len) {
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

static const pool_addr_t *find_addr(const pool_addr_t *addrs, ngx_uint_t n, const pool_addr_t *wanted) {
    for (ngx_uint_t i = 0; i < n; i++) {
        if (same_addr(&addrs[i].sockaddr.sockaddr, addrs[i].socklen, &wanted->sockaddr.sockaddr, wanted->socklen)) {
            return &addrs[i];
        }
    }
    return NULL;
}

static unsigned has_all(const pool_addr_t *addrs, ngx_uint_t n, const pool_addr_t *wanted, ngx_uint_t n_wanted) {
    for (ngx_uint_t i = 0; i < n_wanted; i++) {
        if (find_addr(addrs, n, &wanted[i]) == NULL) {
            return 0;
        }
    }
    return 1;
}

/* No address takes part in the turns until the next pick. */
static void stop_turns(ngx_http_sluice_gw_pool_t *pool) {
    gw_turns_clear(&pool->turns);
    pool->turns_stale = 1;
}

/* Name servers give the same addresses in any order: those that stay keep their turns, and where all do nothing changes. */
static ngx_int_t set_addrs(pool_target_t *t, ngx_http_sluice_gw_sockaddr_t *found, ngx_uint_t n) {
    n = ngx_min(n, ADDRS_MAX);
    pool_addr_t *addrs = calloc(n + 1, sizeof(*addrs));
    if (addrs == NULL) {
        return NGX_ERROR;
    }
    for (ngx_uint_t i = 0; i < n; i++) {
        ngx_memcpy(&addrs[i].sockaddr, found[i].sockaddr, found[i].socklen);
        addrs[i].socklen = found[i].socklen;
        ngx_inet_set_port(&addrs[i].sockaddr.sockaddr, t->port);
        const pool_addr_t *old = find_addr(t->addrs, t->n_addrs, &addrs[i]);
        if (old != NULL) {
            addrs[i].turn = old->turn;
        }
    }
    if (has_all(t->addrs, t->n_addrs, addrs, n) && has_all(addrs, n, t->addrs, t->n_addrs)) {
        free(addrs);
        return NGX_OK;
    }
    stop_turns(t->pool);
    free(t->addrs);
    t->addrs = addrs;
    t->n_addrs = n;
    return NGX_OK;
}

/* ---- names -------------------------------------------------------------------------------------------------------------------- */

static void wake(ngx_http_sluice_gw_pool_t *pool) {
    ngx_queue_t all;
    if (ngx_queue_empty(&pool->waiters)) {
        return;
    }
    /* Who has to wait again joins the pool's queue anew; who leaves takes himself out of this one. */
    ngx_queue_init(&all);
    ngx_queue_add(&all, &pool->waiters);
    ngx_queue_init(&pool->waiters);
    pool->refs++;
    while (!ngx_queue_empty(&all)) {
        ngx_queue_t *q = ngx_queue_head(&all);
        ngx_http_sluice_gw_ctx_t *ctx = ngx_queue_data(q, ngx_http_sluice_gw_ctx_t, waiting);
        ngx_http_request_t *r = ctx->request;
        ngx_connection_t *c = r->connection;
        ngx_http_sluice_gw_pool_leave(ctx);
        ngx_http_set_log_request(c->log, r);
        r->read_event_handler = ngx_http_block_reading;
        r->write_event_handler = ngx_http_core_run_phases;
        ngx_http_core_run_phases(r);
        ngx_http_run_posted_requests(c);
    }
    ngx_http_sluice_gw_pool_unref(pool);
}

static void looked_up(ngx_resolver_ctx_t *rctx) {
    pool_target_t *t = rctx->data;
    ngx_http_sluice_gw_sockaddr_t found[ADDRS_MAX];
    ngx_uint_t n = 0;
    unsigned async = rctx->async;
    t->asking = NULL;
    t->pool->n_asking--;
    t->pool->look_again = 1;
    t->known = 1;
    if (rctx->state == NGX_OK) {
        for (; n < rctx->naddrs && n < ADDRS_MAX; n++) {
            found[n] = (ngx_http_sluice_gw_sockaddr_t){rctx->addrs[n].sockaddr, rctx->addrs[n].socklen};
        }
        (void)set_addrs(t, found, n);
        t->expires = ngx_max(rctx->valid, ngx_time() + 1);
    } else {
        /* A name that nobody can say anything about now keeps its addresses; one that is no more does not. */
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[sluice] target %V of upstream '%V' could not be resolved (%i: %s)", &t->host,
                      &t->pool->name, rctx->state, ngx_resolver_strerror(rctx->state));
        unsigned gone = rctx->state == NGX_RESOLVE_NXDOMAIN;
        if (gone && t->n_addrs != 0) {
            stop_turns(t->pool);
            t->n_addrs = 0;
        }
        t->expires = ngx_time() + (gone ? NO_NAME_SECONDS : FAILED_SECONDS);
    }
    ngx_resolve_name_done(rctx);
    if (async) {
        wake(t->pool);
    }
}

static void ask(ngx_http_request_t *r, pool_target_t *t) {
    ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    ngx_resolver_ctx_t temp = {.name = t->host};
    ngx_resolver_ctx_t *rctx = ngx_resolve_start(clcf->resolver, &temp);
    t->known = rctx == NULL || rctx == NGX_NO_RESOLVER ? 1 : t->known;
    t->expires = ngx_time() + FAILED_SECONDS;
    if (rctx == NGX_NO_RESOLVER) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "[sluice] no name server to resolve %V; set SLUICE_DNS_RESOLVER", &t->host);
    }
    if (rctx == NULL || rctx == NGX_NO_RESOLVER) {
        return;
    }
    rctx->name = t->host;
    rctx->handler = looked_up;
    rctx->data = t;
    rctx->timeout = clcf->resolver_timeout;
    rctx->cancelable = !t->pool->waited_for;
    t->asking = rctx;
    t->pool->n_asking++;
    if (ngx_resolve_name(rctx) != NGX_OK) {
        t->asking = NULL;
        t->pool->n_asking--;
        t->pool->look_again = 1;
        t->known = 1;
    }
}

static unsigned is_due(const pool_target_t *t) {
    return !t->fixed && t->weight > 0 && t->asking == NULL && (!t->known || t->expires <= ngx_time());
}

static void look(ngx_http_request_t *r, ngx_http_sluice_gw_pool_t *pool) {
    unsigned asking = 0;
    pool->look_again = 0;
    for (ngx_uint_t i = 0; i < pool->n_targets; i++) {
        pool_target_t *t = &pool->targets[i];
        if (is_due(t) && pool->n_asking < LOOKUPS_MAX) {
            ask(r, t);
        }
        asking |= t->asking != NULL && !t->known;
    }
    pool->asking_new = asking;
    pool->looked_at = ngx_time();
}

/* 1: somebody is being asked whose answer may make a difference. Names expire by the second, so that one look a second is enough. */
static unsigned refresh(ngx_http_request_t *r, ngx_http_sluice_gw_pool_t *pool) {
    if (pool->n_names != 0 && (pool->look_again || pool->looked_at != ngx_time())) {
        look(r, pool);
    }
    return pool->asking_new;
}

/* ---- making one ------------------------------------------------------------------------------------------------------------------ */

/* "host:port", as the store has it. */
static ngx_int_t read_target(ngx_http_sluice_gw_main_conf_t *mcf, ngx_http_sluice_gw_pool_t *pool, const json_t *json, pool_target_t *t) {
    sl_str_t text = ngx_http_sluice_gw_json_str(json, "target");
    const json_t *weight = json_object_get(json, "weight");
    size_t colon = text.len;
    while (colon > 0 && text.data[colon - 1] != ':') {
        colon--;
    }
    ngx_int_t port = colon > 0 ? ngx_atoi((u_char *)(uintptr_t)text.data + colon, text.len - colon) : NGX_ERROR;
    sl_str_t host = sl_str(text.data, colon > 0 ? colon - 1 : 0);
    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
        host = sl_str(host.data + 1, host.len - 2);
    }
    if (port < 0 || port > 65535 || host.len == 0 || keep_text(pool->mem, host, &t->host) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_strlow(t->host.data, t->host.data, t->host.len);
    t->pool = pool;
    t->port = (in_port_t)port;
    t->weight = json_is_integer(weight) ? (uint32_t)ngx_min(json_integer_value(weight), 65535) : 100;
    ngx_http_sluice_gw_sockaddr_t found[ADDRS_MAX];
    ngx_uint_t n = ngx_http_sluice_gw_fixed_addrs(pool->mem, mcf, t->host, found, ADDRS_MAX);
    t->fixed = n != 0;
    pool->n_names += n == 0;
    return n != 0 ? set_addrs(t, found, n) : NGX_OK;
}

static ngx_int_t read_targets(ngx_http_sluice_gw_main_conf_t *mcf, const gw_plan_t *plan, ngx_http_sluice_gw_pool_t *pool) {
    gw_plan_set_t set =
        gw_plan_children(plan, SL_STR("targets"), SL_STR("upstream"), SL_STR("upstreams"), sl_str(pool->id.data, pool->id.len));
    pool->targets = ngx_pcalloc(pool->mem, (set.n + 1) * sizeof(*pool->targets));
    if (pool->targets == NULL) {
        return NGX_ERROR;
    }
    for (size_t i = 0; i < set.n; i++) {
        sl_str_t text = gw_plan_entity_at(plan, SL_STR("targets"), gw_plan_set_at(&set, i));
        json_t *json = text.data != NULL ? json_loadb(text.data, text.len, 0, NULL) : NULL;
        ngx_int_t rc = json != NULL ? read_target(mcf, pool, json, &pool->targets[pool->n_targets]) : NGX_ERROR;
        json_decref(json);
        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
        pool->n_targets++;
    }
    return NGX_OK;
}

static ngx_uint_t slot_of(const ngx_http_sluice_gw_pool_t *pool, const pool_target_t *t) {
    return (ngx_uint_t)sl_hash(sl_str(t->host.data, t->host.len), t->port) & (pool->n_slots - 1);
}

static ngx_int_t make_index(ngx_http_sluice_gw_pool_t *pool) {
    for (pool->n_slots = 16; pool->n_slots < 2 * pool->n_targets; pool->n_slots *= 2) {
    }
    pool->index = ngx_pcalloc(pool->mem, pool->n_slots * sizeof(*pool->index));
    for (ngx_uint_t i = 0; pool->index != NULL && i < pool->n_targets; i++) {
        ngx_uint_t slot = slot_of(pool, &pool->targets[i]);
        while (pool->index[slot] != 0) {
            slot = (slot + 1) & (pool->n_slots - 1);
        }
        pool->index[slot] = (uint32_t)i + 1;
    }
    return pool->index != NULL ? NGX_OK : NGX_ERROR;
}

static unsigned same_target(const pool_target_t *a, const pool_target_t *b) {
    return a->port == b->port && same_text(a->host, b->host);
}

static unsigned same_pool(const ngx_http_sluice_gw_pool_t *a, const ngx_http_sluice_gw_pool_t *b) {
    if (!same_text(a->name, b->name) || !same_text(a->host_header, b->host_header) || !same_text(a->certificate, b->certificate) ||
        !same_text(a->algorithm, b->algorithm) || a->n_targets != b->n_targets) {
        return 0;
    }
    for (ngx_uint_t i = 0; i < a->n_targets; i++) {
        if (!same_target(&a->targets[i], &b->targets[i]) || a->targets[i].weight != b->targets[i].weight) {
            return 0;
        }
    }
    return 1;
}

/* The same target of another pool, if that has addresses. */
static const pool_target_t *find_known(const ngx_http_sluice_gw_pool_t *pool, const pool_target_t *t) {
    for (ngx_uint_t i = 0; pool->index == NULL && i < pool->n_targets; i++) {
        if (same_target(t, &pool->targets[i]) && pool->targets[i].n_addrs != 0) {
            return &pool->targets[i];
        }
    }
    for (ngx_uint_t at = pool->index != NULL ? slot_of(pool, t) : 0; pool->index != NULL && pool->index[at] != 0;
         at = (at + 1) & (pool->n_slots - 1)) {
        const pool_target_t *other = &pool->targets[pool->index[at] - 1];
        if (same_target(t, other) && other->n_addrs != 0) {
            return other;
        }
    }
    return NULL;
}

/* Addresses of names that both have, so that nobody waits for them again. */
static void inherit(ngx_http_sluice_gw_pool_t *pool, const ngx_http_sluice_gw_pool_t *old) {
    for (ngx_uint_t i = 0; old != NULL && i < pool->n_targets; i++) {
        pool_target_t *t = &pool->targets[i];
        const pool_target_t *from = t->fixed || t->known ? NULL : find_known(old, t);
        if (from == NULL) {
            continue;
        }
        t->addrs = calloc(from->n_addrs, sizeof(*t->addrs));
        if (t->addrs != NULL) {
            ngx_memcpy(t->addrs, from->addrs, from->n_addrs * sizeof(*t->addrs));
            t->n_addrs = from->n_addrs;
            t->expires = from->expires;
            t->known = 1;
        }
    }
    if (old != NULL) {
        pool->turns.last = old->turns.last;
        stop_turns(pool);
    }
}

static pool_addr_t *next(ngx_http_sluice_gw_pool_t *pool, ngx_http_sluice_gw_ctx_t *ctx);

static void step(ngx_http_sluice_gw_pool_t *pool) {
    for (long n = ngx_random() % FIRST_STEPS; n > 0 && next(pool, NULL) != NULL; n--) {
    }
}

static void say_algorithm(const ngx_http_sluice_gw_pool_t *pool) {
    if (pool->algorithm.len != 0 && ngx_strcmp(pool->algorithm.data, "round-robin") != 0) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "[sluice] upstream '%V': algorithm %V is not there yet, round-robin is used",
                      &pool->name, &pool->algorithm);
    }
}

/* What the plan says of an upstream; nobody knows it yet. In any thread. */
static ngx_http_sluice_gw_pool_t *read_pool(ngx_http_sluice_gw_main_conf_t *mcf, const gw_plan_t *plan, const json_t *json) {
    ngx_pool_t *mem = ngx_create_pool(1024, ngx_cycle->log);
    ngx_http_sluice_gw_pool_t *pool = mem != NULL ? ngx_pcalloc(mem, sizeof(*pool)) : NULL;
    if (pool == NULL) {
        if (mem != NULL) {
            ngx_destroy_pool(mem);
        }
        return NULL;
    }
    pool->refs = 1;
    pool->mem = mem;
    ngx_queue_init(&pool->waiters);
    if (keep_text(mem, ngx_http_sluice_gw_json_str(json, "id"), &pool->id) != NGX_OK ||
        keep_text(mem, ngx_http_sluice_gw_json_str(json, "name"), &pool->name) != NGX_OK ||
        keep_text(mem, ngx_http_sluice_gw_json_str(json, "algorithm"), &pool->algorithm) != NGX_OK ||
        keep_text(mem, ngx_http_sluice_gw_json_str(json, "host_header"), &pool->host_header) != NGX_OK ||
        keep_text(mem, ngx_http_sluice_gw_json_ref(json, "client_certificate"), &pool->certificate) != NGX_OK ||
        read_targets(mcf, plan, pool) != NGX_OK || (pool->n_targets > LARGE && make_index(pool) != NGX_OK)) {
        pool_free(pool);
        return NULL;
    }
    return pool;
}

/* The pool that is used for what has been read: the one before where nothing has changed. Takes the reference, gives one. */
static ngx_http_sluice_gw_pool_t *adopt(ngx_http_sluice_gw_pool_t *pool) {
    ngx_http_sluice_gw_pool_t *old = newest(pool->id);
    if (old != NULL && same_pool(pool, old)) {
        wake_up(old);
        pool_free(pool);
        return old;
    }
    inherit(pool, old);
    step(pool);
    say_algorithm(pool);
    ngx_queue_insert_head(bucket_of(pool->id), &pool->link);
    return pool;
}

/* ---- of a generation ---------------------------------------------------------------------------------------------------------------- */

static size_t n_targets_of(const gw_plan_t *plan, const json_t *upstream) {
    return gw_plan_children(plan, SL_STR("targets"), SL_STR("upstream"), SL_STR("upstreams"), ngx_http_sluice_gw_json_str(upstream, "id"))
        .n;
}

static ngx_int_t push_pool(ngx_http_sluice_gw_lazy_t *lazy, ngx_http_sluice_gw_pool_t *pool) {
    ngx_http_sluice_gw_pool_t **pools = realloc(lazy->pools, (lazy->n_pools + 1) * sizeof(*pools));
    if (pools == NULL) {
        return NGX_ERROR;
    }
    pools[lazy->n_pools++] = pool;
    lazy->pools = pools;
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_pools_read(ngx_http_sluice_gw_lazy_t *lazy, const gw_plan_t *plan) {
    ngx_http_sluice_gw_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_sluice_gateway_module);
    size_t n = gw_plan_entity_count(plan, SL_STR("targets")) > LARGE ? gw_plan_entity_count(plan, SL_STR("upstreams")) : 0;
    ngx_int_t rc = NGX_OK;
    for (size_t i = 0; i < n && rc == NGX_OK; i++) {
        sl_str_t text = gw_plan_entity_at(plan, SL_STR("upstreams"), i);
        json_t *json = text.data != NULL ? json_loadb(text.data, text.len, 0, NULL) : NULL;
        if (json != NULL && n_targets_of(plan, json) > LARGE) {
            ngx_http_sluice_gw_pool_t *pool = read_pool(mcf, plan, json);
            rc = pool != NULL ? push_pool(lazy, pool) : NGX_ERROR;
            if (pool != NULL && rc != NGX_OK) {
                pool_free(pool);
            }
        }
        json_decref(json);
    }
    return rc;
}

void ngx_http_sluice_gw_pools_drop(ngx_http_sluice_gw_lazy_t *lazy) {
    for (size_t i = 0; i < lazy->n_pools; i++) {
        pool_free(lazy->pools[i]);
    }
    free(lazy->pools);
    lazy->pools = NULL;
    lazy->n_pools = 0;
}

/* One of those that were read before. */
static ngx_http_sluice_gw_pool_t *take_large(ngx_http_sluice_gw_lazy_t *lazy, sl_str_t name) {
    for (size_t i = 0; i < lazy->n_pools; i++) {
        ngx_http_sluice_gw_pool_t *pool = lazy->pools[i];
        if (!sl_str_eq(sl_str(pool->name.data, pool->name.len), name)) {
            continue;
        }
        if (pool->link.next == NULL) { /* this is its first use */
            lazy->pools[i] = pool = adopt(pool);
        }
        pool->refs++;
        return pool;
    }
    return NULL;
}

static ngx_http_sluice_gw_pool_t *make(ngx_http_sluice_gw_main_conf_t *mcf, ngx_http_sluice_gw_gen_t *gen, const json_t *json) {
    ngx_http_sluice_gw_pool_t *pool = take_large(ngx_http_sluice_gw_gen_lazy(gen), ngx_http_sluice_gw_json_str(json, "name"));
    if (pool != NULL) {
        return pool;
    }
    pool = read_pool(mcf, ngx_http_sluice_gw_gen_plan(gen), json);
    return pool != NULL ? adopt(pool) : NULL;
}

ngx_int_t ngx_http_sluice_gw_pool_of(ngx_http_sluice_gw_main_conf_t *mcf, ngx_http_sluice_gw_gen_t *gen, uint32_t index,
                                     const gw_service_t *service, ngx_http_sluice_gw_pool_t **out) {
    const gw_plan_t *plan = ngx_http_sluice_gw_gen_plan(gen);
    *out = NULL;
    if (gw_plan_entity_count(plan, SL_STR("upstreams")) == 0) {
        return NGX_OK;
    }
    ngx_http_sluice_gw_service_t *known = ngx_http_sluice_gw_gen_service(gen, index);
    if (known == NULL) {
        return NGX_ERROR;
    }
    if (!known->pool_known) {
        json_t *json = ngx_http_sluice_gw_upstream_named(plan, service->host);
        if (json != NULL) {
            ngx_http_sluice_gw_clock_t start = ngx_http_sluice_gw_clock();
            known->pool = make(mcf, gen, json);
            ngx_http_sluice_gw_held(start, "the first use of upstream", service->host);
            if (known->pool == NULL) {
                json_decref(json);
                return NGX_ERROR;
            }
        }
        json_decref(json);
        known->pool_known = 1;
    }
    *out = known->pool;
    return NGX_OK;
}

ngx_int_t ngx_http_sluice_gw_pool_named(ngx_http_sluice_gw_main_conf_t *mcf, ngx_http_sluice_gw_gen_t *gen, sl_str_t name,
                                        ngx_http_sluice_gw_pool_t **out) {
    json_t *json = ngx_http_sluice_gw_upstream_named(ngx_http_sluice_gw_gen_plan(gen), name);
    *out = json != NULL ? make(mcf, gen, json) : NULL;
    ngx_int_t rc = json == NULL || *out != NULL ? NGX_OK : NGX_ERROR;
    json_decref(json);
    return rc;
}

/* ---- whose turn it is ---------------------------------------------------------------------------------------------------------------- */

static bool tried(void *ud, const gw_turn_t *turn) {
    const ngx_http_sluice_gw_ctx_t *ctx = ud;
    const pool_addr_t *a = (const pool_addr_t *)turn;
    for (ngx_uint_t i = 0; i < ctx->n_addrs; i++) {
        if (same_addr(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen, &a->sockaddr.sockaddr, a->socklen)) {
            return true;
        }
    }
    return false;
}

static void start_turns(ngx_http_sluice_gw_pool_t *pool) {
    for (ngx_uint_t i = 0; i < pool->n_targets; i++) {
        pool_target_t *t = &pool->targets[i];
        for (ngx_uint_t k = 0; t->weight > 0 && k < t->n_addrs; k++) {
            t->addrs[k].target = t;
            if (gw_turns_add(&pool->turns, &t->addrs[k].turn, t->weight) != SL_OK) {
                return; /* the others have their turns; the next pick tries again */
            }
        }
    }
    pool->turns_stale = 0;
}

/* The next one of those that this request (NULL: none) has not tried. */
static pool_addr_t *next(ngx_http_sluice_gw_pool_t *pool, ngx_http_sluice_gw_ctx_t *ctx) {
    if (pool->turns_stale) {
        gw_turns_clear(&pool->turns);
        start_turns(pool);
    }
    return (pool_addr_t *)gw_turns_next(&pool->turns, ctx != NULL && ctx->n_addrs != 0 ? tried : NULL, ctx);
}

static ngx_int_t give(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx, const pool_addr_t *a) {
    const pool_target_t *t = a->target;
    ctx->target_host = (ngx_str_t){t->host.len, ngx_pnalloc(r->pool, t->host.len + 1)};
    if (ctx->target_host.data == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(ctx->target_host.data, t->host.data, t->host.len);
    ctx->target_port = t->port;
    return ngx_http_sluice_gw_add_addr(r, ctx, &a->sockaddr.sockaddr, a->socklen, t->port);
}

ngx_int_t ngx_http_sluice_gw_pool_pick(ngx_http_request_t *r, ngx_http_sluice_gw_ctx_t *ctx) {
    unsigned asking = refresh(r, ctx->pool);
    pool_addr_t *a = next(ctx->pool, ctx);
    if (a == NULL && ctx->n_addrs != 0) {
        a = next(ctx->pool, NULL); /* all have been tried: from the beginning */
    }
    if (a != NULL) {
        return give(r, ctx, a);
    }
    return asking ? NGX_AGAIN : NGX_DECLINED;
}

/* A worker that exits waits for the answers that requests wait for, and for no others. */
static void set_waited_for(ngx_http_sluice_gw_pool_t *pool, unsigned waited_for) {
    if (pool->waited_for == waited_for) {
        return;
    }
    pool->waited_for = waited_for;
    for (ngx_uint_t i = 0; i < pool->n_targets; i++) {
        ngx_resolver_ctx_t *asking = pool->targets[i].asking;
        if (asking != NULL && asking->event != NULL) {
            asking->event->cancelable = !waited_for;
        }
    }
}

void ngx_http_sluice_gw_pool_wait(ngx_http_sluice_gw_ctx_t *ctx) {
    set_waited_for(ctx->pool, 1);
    ngx_queue_insert_tail(&ctx->pool->waiters, &ctx->waiting);
    ctx->waits = 1;
}

void ngx_http_sluice_gw_pool_leave(ngx_http_sluice_gw_ctx_t *ctx) {
    if (ctx->waits) {
        ngx_queue_remove(&ctx->waiting);
        ctx->waits = 0;
        if (ngx_queue_empty(&ctx->pool->waiters)) {
            set_waited_for(ctx->pool, 0);
        }
    }
}

ngx_str_t ngx_http_sluice_gw_pool_host_header(const ngx_http_sluice_gw_pool_t *pool) {
    return pool->host_header;
}

sl_str_t ngx_http_sluice_gw_pool_certificate(const ngx_http_sluice_gw_pool_t *pool) {
    return pool->certificate.len != 0 ? sl_str(pool->certificate.data, pool->certificate.len) : SL_STR_NULL;
}
