/* For the tests of memhost: a native guest whose callbacks are functions of the test. */
#ifndef MT_H
#define MT_H

#include "cmocka_all.h"

#include "engine_null.h"
#include "mh.h"

/* What the guest does in a callback; answers what the callback returns. NULL: nothing, and Continue or success. */
typedef uint32_t (*mt_fn_t)(sl_instance_t *in, uint32_t ctx, uint32_t a1, uint32_t a2);

typedef struct {
    mt_fn_t vm_start, configure, tick, queue, request_headers, request_body, request_trailers, response_headers, response_body,
        response_trailers, call_response, log, done, delete;
    bool trap; /* set by a function: the callback traps when it returns */
} mt_hooks_t;
extern mt_hooks_t mt; /* zeroed by mt_setup */

typedef struct {
    sl_engine_t *engine;
    sl_module_t *module;
    mh_t *mh;
    pw_filter_t *filter;
    pw_chain_t *chain;
} mt_world_t;

void mt_setup(mt_world_t *w, const mh_conf_t *conf); /* a proxy; no filter yet */
void mt_start(mt_world_t *w);                        /* a filter "guest" with vm_id "vm" and a chain of it */
void mt_teardown(mt_world_t *w);

/* Host calls of the guest. Texts are placed in its memory. */
uint32_t mt_call(sl_instance_t *in, const char *name, const uint32_t *args, size_t n);
uint32_t mt_text(sl_instance_t *in, const char *text); /* its address */
void mt_log(sl_instance_t *in, const char *text);
uint32_t mt_header_add(sl_instance_t *in, uint32_t map, const char *key, const char *value);
uint32_t mt_reply(sl_instance_t *in, uint32_t status, const char *body);
uint32_t mt_http_call(sl_instance_t *in, const char *upstream, uint32_t timeout_ms);
uint32_t mt_resume(sl_instance_t *in, uint32_t stream_ctx, uint32_t type); /* from a root */

#define MT_PAIR(k, v) {{k, sizeof(k) - 1}, {v, sizeof(v) - 1}}
#define assert_str(got, want) mt_assert_str(got, want, __FILE__, __LINE__)
void mt_assert_str(sl_str_t got, const char *want, const char *file, int line);

#endif
