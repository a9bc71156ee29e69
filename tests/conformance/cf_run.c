#include "cf_run.h"

#include "cf_guest.h"
#include "cf_script.h"
#include "mh.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- engines ---- */

static sl_status_t compile_guest(cf_env_t *env, cf_abi_t abi, sl_err_t *err) {
    sl_buf_t text;
    sl_buf_init(&text, 1 << 20);
    if (strcmp(env->name, "null") == 0) {
        sl_buf_printf(&text, "null:conformance-%s", cf_markers[abi] + strlen("proxy_abi_version_"));
    } else {
        cf_wat_guest(cf_imports, cf_n_imports, abi, &text);
    }
    sl_status_t rc = sl_module_compile(env->engine, sl_buf_str(&text), &env->modules[abi], err);
    sl_buf_deinit(&text);
    return rc;
}

sl_status_t cf_env_init(cf_env_t *env, const char *engine, sl_err_t *err) {
    *env = (cf_env_t){.name = engine};
    sl_status_t rc = cf_null_register(cf_imports, cf_n_imports);
    if (rc == SL_OK) {
        rc = sl_engine_new(&(sl_engine_conf_t){.name = engine}, &env->engine, err);
    }
    for (cf_abi_t abi = 0; rc == SL_OK && abi < CF_ABI_N; abi++) {
        rc = compile_guest(env, abi, err);
    }
    return rc;
}

void cf_env_deinit(cf_env_t *env) {
    for (cf_abi_t abi = 0; abi < CF_ABI_N; abi++) {
        if (env->modules[abi] != NULL) {
            sl_module_unref(env->modules[abi]);
        }
    }
    if (env->engine != NULL) {
        sl_engine_free(env->engine);
    }
}

/* ---- messages ---- */

#define P(k, v) {{k, sizeof(k) - 1}, {v, sizeof(v) - 1}}
#define S(v) {v, sizeof(v) - 1}

static const pw_pair_t request_headers[] = {
    P(":method", "POST"),
    P(":path", "/p/a?x=1&y=2"),
    P(":authority", "example.test"),
    P(":scheme", "http"),
    P("x-one", "1"),
    P("x-two", "a"),
    P("x-two", "b"),
    P("X-Mixed", "M"),
    P("x-empty", ""),
};
static const pw_pair_t response_headers[] = {P(":status", "200"), P("content-type", "text/plain"), P("x-up", "u"), P("set-cookie", "a=1"),
                                             P("set-cookie", "b=2")};
static const pw_pair_t trailers[] = {P("t-one", "1"), P("t-two", "2")};
static const sl_str_t request_chunks[] = {S("hello "), S("world")};
static const sl_str_t response_chunks[] = {S("resp"), S("onse")};

static const pw_pair_t call_headers[] = {P(":status", "201"), P("x-call", "c")};
static const pw_pair_t call_trailers[] = {P("ct", "v")};

#define N(a) (sizeof(a) / sizeof((a)[0]))

typedef struct {
    const cf_case_t *c;
    cf_script_t *s;
    mh_t *mh;
    pw_filter_t *filter;
    pw_chain_t *chain;
    mh_stream_t *stream;
    mh_message_t request, response;
    bool early, played, started, wasmx;
    sl_err_t err;
    sl_buf_t log;
    char *why;
    size_t why_size;
} run_t;

static bool fail(run_t *r, const char *what, const char *statement) {
    snprintf(r->why, r->why_size, "%s: \"%s\"", what, statement);
    return false;
}

static bool fail_got(run_t *r, const char *statement, sl_str_t got) {
    snprintf(r->why, r->why_size, "\"%s\", but got \"%.*s\"%s", statement, SL_FMT(got), got.data == NULL ? " (none)" : "");
    return false;
}

static bool fail_number(run_t *r, const char *statement, uint64_t got) {
    snprintf(r->why, r->why_size, "\"%s\", but got %llu", statement, (unsigned long long)got);
    return false;
}

static void message(run_t *r, sl_str_t kind) {
    r->request = (mh_message_t){request_headers, N(request_headers), request_chunks, N(request_chunks), NULL, 0, false};
    r->response = (mh_message_t){response_headers, N(response_headers), response_chunks, N(response_chunks), NULL, 0, false};
    if (sl_str_eq(kind, SL_STR("get")) || sl_str_eq(kind, SL_STR("empty"))) {
        r->request.n_chunks = 0;
    }
    if (sl_str_eq(kind, SL_STR("empty"))) {
        r->response.n_chunks = 0;
    }
    if (sl_str_eq(kind, SL_STR("trailers"))) {
        r->request.trailers = r->response.trailers = trailers;
        r->request.n_trailers = r->response.n_trailers = N(trailers);
    }
    r->request.late_end = r->response.late_end = sl_str_eq(kind, SL_STR("late"));
    r->early = sl_str_eq(kind, SL_STR("early"));
}

static void on_log(void *ud, uint32_t level, sl_str_t line) {
    run_t *r = ud;
    (void)level;
    sl_buf_append_str(&r->log, line);
    sl_buf_append_char(&r->log, '\n');
    cf_script_report(r->s, line);
}

/* ---- what the proxy does ---- */

static uint64_t to_number(sl_str_t word) {
    char text[32];
    snprintf(text, sizeof(text), "%.*s", SL_FMT(word));
    return strtoull(text, NULL, 0);
}

static bool is(sl_str_t word, const char *text) {
    return sl_str_eq(word, sl_cstr(text));
}

static bool play(run_t *r) {
    if (r->played) {
        return true;
    }
    r->played = true;
    mh_exchange(r->stream, &r->request, &r->response, r->early);
    return true;
}

static bool answer(run_t *r) {
    pw_call_response_t response = {.headers = call_headers,
                                   .n_headers = N(call_headers),
                                   .body = S("answer"),
                                   .trailers = call_trailers,
                                   .n_trailers = N(call_trailers)};
    return mh_call_answer(r->mh, 0, &response) && mh_run(r->mh);
}

static bool prop(run_t *r, const cf_host_t *h) {
    pw_value_t value = {.kind = PW_VALUE_STRING, .str = h->words[3]};
    uint64_t v = to_number(h->words[3]);
    mh_prop_mode_t mode = MH_PROP_PLAIN;
    if (h->n > 4) {
        sl_str_t kind = h->words[4];
        if (is(kind, "int")) {
            value = (pw_value_t){.kind = PW_VALUE_INT, .i = (int64_t)v};
        } else if (is(kind, "uint")) {
            value = (pw_value_t){.kind = PW_VALUE_UINT, .u = v};
        } else if (is(kind, "bool")) {
            value = (pw_value_t){.kind = PW_VALUE_BOOL, .b = v != 0};
        } else if (is(kind, "double")) {
            value = (pw_value_t){.kind = PW_VALUE_DOUBLE, .d = (double)v / 4};
        } else if (is(kind, "timestamp")) {
            value = (pw_value_t){.kind = PW_VALUE_TIMESTAMP, .i = (int64_t)v};
        } else if (is(kind, "duration")) {
            value = (pw_value_t){.kind = PW_VALUE_DURATION, .i = (int64_t)v};
        } else if (is(kind, "list")) {
            value.kind = PW_VALUE_LIST;
        } else if (is(h->words[4], "address")) {
            value.kind = PW_VALUE_ADDRESS;
        } else if (is(kind, "readonly")) {
            mode = MH_PROP_READ_ONLY;
        } else if (is(kind, "writable")) {
            mode = MH_PROP_WRITABLE;
        }
    }
    return mh_prop_set(r->mh, NULL, h->words[2], &value, mode) == SL_OK;
}

/* What comes before the filter starts. */
static bool prepare(run_t *r, const cf_host_t *h) {
    if (is(h->words[0], "message")) {
        message(r, h->words[1]);
        return true;
    }
    if (is(h->words[0], "host") && is(h->words[1], "upstream")) {
        return mh_upstream_add(r->mh, h->words[2].data);
    }
    if (is(h->words[0], "host") && is(h->words[1], "prop")) {
        return prop(r, h);
    }
    if (is(h->words[0], "host") && is(h->words[1], "refuse")) {
        mh_calls_refuse(r->mh, h->n > 2 && is(h->words[2], "place") ? SL_INVALID : SL_FAILED);
        return true;
    }
    if (is(h->words[0], "host") && is(h->words[1], "dialect")) {
        r->wasmx = true;
        return true;
    }
    if (is(h->words[0], "host") && is(h->words[1], "loglevel")) {
        mh_log_level_set(r->mh, (uint32_t)to_number(h->words[2]));
        return true;
    }
    return false;
}

/* What the peer of the oldest gRPC call does. */
static bool grpc(run_t *r, const cf_host_t *h) {
    const pw_pair_t headers[] = {P(":status", "200"), P("content-type", "application/grpc"), P("x-first", "1")};
    const pw_pair_t trailers[] = {P("grpc-status", "0"), P("x-last", "2")};
    sl_str_t what = h->words[2];
    bool ok = is(what, "headers")    ? mh_grpc_metadata(r->mh, 0, false, headers, N(headers))
              : is(what, "none")     ? mh_grpc_metadata(r->mh, 0, false, NULL, 0)
              : is(what, "trailers") ? mh_grpc_metadata(r->mh, 0, true, trailers, N(trailers))
              : is(what, "message")  ? mh_grpc_message(r->mh, 0, h->words[3])
              : is(what, "close")    ? mh_grpc_close(r->mh, 0, (uint32_t)to_number(h->words[3]), h->n > 4 ? h->words[4] : SL_STR(""))
                                     : false;
    return ok ? mh_run(r->mh) : fail(r, "no such gRPC call or action", h->text);
}

/* The oldest name: an address of 4 or 16 bytes, or `none`. */
static bool resolved(run_t *r, const cf_host_t *h) {
    pw_address_t a = {.len = (uint8_t)h->words[2].len, .ttl_s = 60};
    bool none = is(h->words[2], "none");
    if (!none && h->words[2].len != 4 && h->words[2].len != 16) {
        return fail(r, "no address", h->text);
    }
    if (!none) {
        memcpy(a.bytes, h->words[2].data, a.len);
    }
    return mh_resolve_answer(r->mh, 0, &a, !none) ? mh_run(r->mh) : fail(r, "nothing to resolve", h->text);
}

static bool act(run_t *r, const cf_host_t *h) {
    sl_str_t verb = h->words[1];
    if (is(verb, "exchange")) {
        return true;
    }
    if (is(verb, "tick")) {
        return mh_tick(r->mh, 0) && mh_run(r->mh);
    }
    if (is(verb, "run")) {
        return mh_run(r->mh);
    }
    if (is(verb, "answer")) {
        return answer(r);
    }
    if (is(verb, "fail")) {
        return mh_call_fail(r->mh, 0, "broken connection") && mh_run(r->mh);
    }
    if (is(verb, "timeout")) {
        return mh_call_fail(r->mh, 0, "timeout") && mh_run(r->mh);
    }
    if (is(verb, "grpc")) {
        return grpc(r, h);
    }
    if (is(verb, "resolved")) {
        return resolved(r, h);
    }
    if (is(verb, "redis")) {
        return mh_redis_answer(r->mh, 0, h->words[2]) ? mh_run(r->mh) : fail(r, "no request to Redis", h->text);
    }
    if (is(verb, "redisfail")) {
        return mh_redis_answer(r->mh, 0, SL_STR_NULL) ? mh_run(r->mh) : fail(r, "no request to Redis", h->text);
    }
    if (is(verb, "gone")) {
        mh_exchange_client_gone(r->stream);
        return mh_run(r->mh);
    }
    if (is(verb, "advance")) {
        mh_advance(r->mh, to_number(h->words[2]));
        return true;
    }
    if (is(verb, "free")) {
        mh_stream_free(r->stream);
        r->stream = NULL;
        return mh_run(r->mh);
    }
    if (is(verb, "push")) {
        return mh_queue_push(r->mh, SL_STR("vm"), h->words[2], h->words[3]) == SL_OK && mh_run(r->mh);
    }
    return fail(r, "no such action", h->text);
}

/* ---- what it must see ---- */

static bool expect_text(run_t *r, const cf_host_t *h, sl_str_t got, sl_str_t want) {
    return sl_str_eq(got, want) || fail_got(r, h->text, got);
}

static bool expect_number(run_t *r, const cf_host_t *h, uint64_t got) {
    return got == to_number(h->words[2]) || fail_number(r, h->text, got);
}

static sl_str_t pair_value(const pw_pair_t *pairs, size_t n, sl_str_t key) {
    for (size_t i = 0; i < n; i++) {
        if (sl_str_eq_nocase(pairs[i].key, key)) {
            return pairs[i].value;
        }
    }
    return SL_STR_NULL;
}

static bool expect_pair(run_t *r, const cf_host_t *h, const pw_pair_t *pairs, size_t n) {
    sl_str_t got = pair_value(pairs, n, h->words[2]);
    if (is(h->words[3], "none")) {
        return got.data == NULL || fail_got(r, h->text, got);
    }
    return got.data == NULL ? fail_got(r, h->text, got) : expect_text(r, h, got, h->words[3]);
}

static bool expect_outcome(run_t *r, const cf_host_t *h) {
    static const char *const names[] = {"paused", "done", "reset"};
    const char *got = names[mh_exchange_outcome(r->stream)];
    return is(h->words[2], got) || fail_got(r, h->text, sl_cstr(got));
}

static bool expect_log(run_t *r, const cf_host_t *h, bool want) {
    bool found = memmem(r->log.data, r->log.len, h->words[2].data, h->words[2].len) != NULL;
    return found == want || fail_got(r, h->text, sl_buf_str(&r->log));
}

static bool expect_call(run_t *r, const cf_host_t *h) {
    const mh_call_t *call = mh_call_at(r->mh, 0);
    if (call == NULL) {
        return fail(r, "no call", h->text);
    }
    if (is(h->words[1], "callname")) {
        return expect_text(r, h, call->upstream, h->words[2]);
    }
    return is(h->words[1], "callbody") ? expect_text(r, h, call->body, h->words[2]) : expect_pair(r, h, call->headers, call->n_headers);
}

static bool expect_grpc(run_t *r, const cf_host_t *h) {
    const mh_grpc_t *call = mh_grpc_at(r->mh, 0);
    sl_str_t what = h->words[2], want = h->words[3];
    if (call == NULL) {
        return fail(r, "no gRPC call", h->text);
    }
    if (is(what, "sent")) {
        size_t i = to_number(want);
        sl_str_t got = i < call->n_messages ? call->messages[i] : SL_STR("(none)");
        return sl_str_eq(got, h->words[4]) || fail_got(r, h->text, got);
    }
    if (is(what, "metadata")) {
        sl_str_t got = pair_value(call->metadata, call->n_metadata, want);
        return (is(h->words[4], "none") ? got.data == NULL : sl_str_eq(got, h->words[4])) || fail_got(r, h->text, got);
    }
    if (is(what, "finished") || is(what, "tls") || is(what, "timeout") || is(what, "messages")) {
        uint64_t got = is(what, "finished")  ? call->finished
                       : is(what, "tls")     ? call->tls
                       : is(what, "timeout") ? call->timeout_ms
                                             : call->n_messages;
        return got == to_number(want) || fail_number(r, h->text, got);
    }
    sl_str_t got = is(what, "upstream")    ? call->upstream
                   : is(what, "authority") ? call->authority
                   : is(what, "service")   ? call->service
                   : is(what, "method")    ? call->method
                                           : SL_STR("(no such thing)");
    return sl_str_eq(got, want) || fail_got(r, h->text, got);
}

static bool expect_redis(run_t *r, const cf_host_t *h) {
    const mh_redis_t *call = mh_redis_at(r->mh, 0);
    sl_str_t what = h->words[2], want = h->words[3];
    if (call == NULL) {
        return fail(r, "no request to Redis", h->text);
    }
    if (is(what, "database") || is(what, "commands") || is(what, "timeout") || is(what, "blocks") || is(what, "tls")) {
        uint64_t got = is(what, "database")   ? call->database
                       : is(what, "commands") ? call->n_commands
                       : is(what, "timeout")  ? call->timeout_ms
                       : is(what, "tls")      ? call->tls
                                              : call->blocks;
        return got == to_number(want) || fail_number(r, h->text, got);
    }
    sl_str_t got = is(what, "upstream")   ? call->upstream
                   : is(what, "username") ? call->username
                   : is(what, "password") ? call->password
                   : is(what, "query")    ? call->query
                                          : SL_STR("(no such thing)");
    return sl_str_eq(got, want) || fail_got(r, h->text, got);
}

static bool expect_shared(run_t *r, const cf_host_t *h) {
    sl_buf_t value;
    uint32_t cas;
    sl_buf_init(&value, 1 << 16);
    bool found = mh_shared_get(r->mh, SL_STR("vm"), h->words[2], &value, &cas) == SL_OK;
    bool ok = found ? expect_text(r, h, sl_buf_str(&value), h->words[3]) : fail(r, "no such key", h->text);
    sl_buf_deinit(&value);
    return ok;
}

static bool expect_metric(run_t *r, const cf_host_t *h) {
    uint64_t got = 0;
    if (mh_metric_value(r->mh, SL_STR("conformance"), h->words[2], &got) != SL_OK) {
        return fail(r, "no such metric", h->text);
    }
    return got == to_number(h->words[3]) || fail_number(r, h->text, got);
}

static bool expect_samples(run_t *r, const cf_host_t *h) {
    uint64_t got = mh_metric_samples(r->mh, SL_STR("conformance"), h->words[2]);
    return got == to_number(h->words[3]) || fail_number(r, h->text, got);
}

static bool expect_queue(run_t *r, const cf_host_t *h) {
    uint64_t got = mh_queue_len(r->mh, SL_STR("vm"), h->words[2]);
    return got == to_number(h->words[3]) || fail_number(r, h->text, got);
}

/* Those about the exchange; the stream is there. */
static bool check_exchange(run_t *r, const cf_host_t *h, bool *known) {
    const mh_sent_t *up = mh_exchange_upstream(r->stream), *down = mh_exchange_downstream(r->stream);
    sl_str_t what = h->words[1];
    *known = true;
    if (is(what, "outcome")) {
        return expect_outcome(r, h);
    }
    if (is(what, "status")) {
        return expect_number(r, h, mh_exchange_status(r->stream));
    }
    if (is(what, "up")) {
        return expect_pair(r, h, up->headers, up->n_headers);
    }
    if (is(what, "down")) {
        return expect_pair(r, h, down->headers, down->n_headers);
    }
    if (is(what, "uptrailer")) {
        return expect_pair(r, h, up->trailers, up->n_trailers);
    }
    if (is(what, "downtrailer")) {
        return expect_pair(r, h, down->trailers, down->n_trailers);
    }
    if (is(what, "upbody")) {
        return expect_text(r, h, up->body, h->words[2]);
    }
    if (is(what, "downbody")) {
        return expect_text(r, h, down->body, h->words[2]);
    }
    if (is(what, "routeclears")) {
        return expect_number(r, h, mh_stream_route_clears(r->stream));
    }
    *known = false;
    return false;
}

static bool check(run_t *r, const cf_host_t *h) {
    sl_str_t what = h->words[1];
    bool known = false, ok = r->stream != NULL && check_exchange(r, h, &known);
    if (known) {
        return ok;
    }
    if (is(what, "dead")) {
        uint64_t failed = pw_worker_stats(mh_worker(r->mh)).vms_failed;
        return failed != 0 || fail_number(r, h->text, failed);
    }
    if (is(what, "log") || is(what, "nolog")) {
        return expect_log(r, h, is(what, "log"));
    }
    if (is(what, "calls")) {
        return expect_number(r, h, mh_call_count(r->mh));
    }
    if (is(what, "grpcs")) {
        return expect_number(r, h, mh_grpc_count(r->mh));
    }
    if (is(what, "grpccancels")) {
        return expect_number(r, h, mh_grpc_cancelled(r->mh));
    }
    if (is(what, "redises")) {
        return expect_number(r, h, mh_redis_count(r->mh));
    }
    if (is(what, "resolves")) {
        return expect_number(r, h, mh_resolve_count(r->mh));
    }
    if (is(what, "outcancels")) {
        return expect_number(r, h, mh_out_cancelled(r->mh));
    }
    if (is(what, "dropped")) {
        return expect_number(r, h, pw_worker_stats(mh_worker(r->mh)).calls_dropped);
    }
    if (is(what, "redis")) {
        return expect_redis(r, h);
    }
    if (is(what, "grpc")) {
        return expect_grpc(r, h);
    }
    if (is(what, "timers")) {
        return expect_number(r, h, mh_timer_count(r->mh));
    }
    if (is(what, "period")) {
        return expect_number(r, h, mh_timer_period_ms(r->mh, 0));
    }
    if (is(what, "callname") || is(what, "callhead") || is(what, "callbody")) {
        return expect_call(r, h);
    }
    if (is(what, "shared")) {
        return expect_shared(r, h);
    }
    if (is(what, "metric")) {
        return expect_metric(r, h);
    }
    if (is(what, "samples")) {
        return expect_samples(r, h);
    }
    if (is(what, "queue")) {
        return expect_queue(r, h);
    }
    return fail(r, "no such expectation", h->text);
}

/* ---- one case ---- */

static bool start(run_t *r, const cf_env_t *env) {
    const pw_pair_t variables[] = {P("NAME", "value"), P("X", "")};
    pw_filter_conf_t conf = {.name = SL_STR("conformance"),
                             .opts.root_id = SL_STR("root"),
                             .opts.vm_id = SL_STR("vm"),
                             .opts.isolation = env->isolated ? SL_ISOLATION_REQUEST : SL_ISOLATION_SHARED,
                             .vm_config = sl_buf_str(&r->s->program),
                             .config = SL_STR("the plugin configuration"),
                             .module = env->modules[r->c->abi],
                             .opts.dialect = r->wasmx ? SL_DIALECT_WASMX : SL_DIALECT_ENVOY,
                             .env = variables,
                             .n_env = N(variables)};
    if (pw_filter_new(mh_worker(r->mh), &conf, &r->filter, &r->err) != SL_OK) {
        return false;
    }
    r->chain = pw_chain_new(mh_worker(r->mh), &r->filter, 1, &(pw_chain_conf_t){0});
    r->stream = r->chain != NULL ? mh_stream_new(r->mh, r->chain) : NULL;
    return r->stream != NULL;
}

static bool starts_with(const cf_host_t *h, const char *a, const char *b) {
    return h->n >= 2 && is(h->words[0], a) && is(h->words[1], b);
}

static bool perform(run_t *r) {
    for (size_t i = 0; i < r->s->n_hosts; i++) {
        const cf_host_t *h = &r->s->hosts[i];
        if (starts_with(h, "expect", "start")) {
            bool found = !r->started && strstr(r->err.text, h->words[3].data) != NULL;
            if (!found) {
                return fail_got(r, h->text, sl_cstr(r->started ? "it started" : r->err.text));
            }
            continue;
        }
        if (!r->started && !starts_with(h, "expect", "log") && !starts_with(h, "expect", "dead")) {
            continue;
        }
        bool before = is(h->words[0], "message") || starts_with(h, "host", "upstream") || starts_with(h, "host", "prop") ||
                      starts_with(h, "host", "refuse") || starts_with(h, "host", "loglevel") || starts_with(h, "host", "dialect");
        if (before) {
            continue;
        }
        r->played = r->played || (starts_with(h, "host", "free") && h->n == 3);
        bool ok = (!r->started || play(r)) && (is(h->words[0], "host") ? act(r, h) : check(r, h));
        if (!ok && !is(h->words[h->n - 1], "maybe")) {
            return r->why[0] != '\0' ? false : fail(r, "could not", h->text);
        }
    }
    return true;
}

static bool expects_start_failure(const cf_script_t *s) {
    for (size_t i = 0; i < s->n_hosts; i++) {
        if (starts_with(&s->hosts[i], "expect", "start")) {
            return true;
        }
    }
    return false;
}

static bool run(run_t *r, const cf_env_t *env) {
    message(r, SL_STR("post"));
    for (size_t i = 0; i < r->s->n_hosts; i++) {
        prepare(r, &r->s->hosts[i]);
    }
    r->started = start(r, env);
    if (!r->started && !expects_start_failure(r->s) && !r->s->may_trap) {
        return fail(r, "the filter does not start", r->err.text);
    }
    if (!perform(r)) {
        return false;
    }
    if (r->started) {
        play(r);
        mh_stream_free(r->stream); /* on_log, on_done and on_delete belong to the case */
        r->stream = NULL;
    }
    bool dead = pw_worker_stats(mh_worker(r->mh)).vms_failed != 0;
    if (dead != r->s->traps && !r->s->may_trap) {
        return fail_got(r, dead ? "no trap expected" : "a trap expected", sl_buf_str(&r->log));
    }
    return true;
}

static void finish(run_t *r) {
    mh_stream_free(r->stream);
    if (r->chain != NULL) {
        pw_chain_unref(r->chain);
    }
    if (r->filter != NULL) {
        pw_filter_unref(r->filter);
    }
    mh_free(r->mh);
}

static bool reports_ok(run_t *r) {
    for (size_t i = 0; i < r->s->n_expects; i++) {
        const cf_expect_t *e = &r->s->expects[i];
        if (e->failed) {
            snprintf(r->why, r->why_size, "\"%s\", but the guest reports %s", e->text, e->got);
            return false;
        }
        if (e->seen == 0 && e->kind != CF_EXPECT_NEVER && !r->s->may_trap) {
            return fail(r, "never reached", e->text);
        }
    }
    return r->s->error[0] == '\0' || fail(r, "the script", r->s->error);
}

bool cf_run_case(const cf_env_t *env, const cf_case_t *c, char *why, size_t why_size) {
    why[0] = '\0';
    cf_script_t *s = calloc(1, sizeof(*s));
    run_t r = {.c = c, .s = s, .why = why, .why_size = why_size};
    bool ok = cf_script_compile(s, c->script, cf_imports, cf_n_imports);
    if (!ok) {
        fail(&r, "the script", s->error);
    } else {
        sl_buf_init(&r.log, 1 << 20);
        mh_conf_t conf = {.log = on_log, .log_ud = &r};
        r.mh = mh_new(&conf);
        ok = run(&r, env);
        finish(&r);
        ok = ok && reports_ok(&r);
        sl_buf_deinit(&r.log);
    }
    cf_script_deinit(s);
    free(s);
    return ok;
}
