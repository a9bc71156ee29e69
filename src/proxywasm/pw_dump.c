/*
 * What is known of a guest when it traps: for trap dumps. While they are on, an instance is linked to functions that note each host call
 * before they make it (pw_table.c); otherwise nothing of this is on the way of a call.
 */
#include "pw_dump.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sl_dump.h"

enum { TEXT_MAX = 256 * 1024, PATH_MAX_SHOWN = 2048 };

/* ---- host calls ---- */

pw_trace_t *pw_trace_new(void) {
    return calloc(1, sizeof(pw_trace_t));
}

sl_status_t pw_trace_call(sl_instance_t *instance, sl_raw_t *args, const char *name, const char *sig, sl_host_fn_t fn) {
    pw_vm_t *vm = instance->user;
    pw_traced_t *call = &vm->trace->at[vm->trace->n++ % PW_TRACE_CALLS];
    *call = (pw_traced_t){.name = name, .sig = sig};
    for (size_t i = 0; sig[i] != ':' && i < PW_TRACE_ARGS; i++) {
        call->args[i] = sig[i] == 'I' ? args[i].u64 : args[i].u32;
    }
    sl_status_t rc = fn(instance, args); /* its guest's allocator makes no calls but proxy_log: the slot is still ours */
    call->returned = rc == SL_OK;
    call->result = args[0].u32;
    return rc;
}

static void write_call(sl_buf_t *out, const pw_traced_t *call) {
    sl_buf_printf(out, "  %s(", call->name);
    size_t i = 0;
    for (; call->sig[i] != ':' && i < PW_TRACE_ARGS; i++) {
        sl_buf_printf(out, "%s%llu", i != 0 ? ", " : "", (unsigned long long)call->args[i]);
    }
    sl_buf_append_char(out, ')');
    if (!call->returned) {
        sl_buf_append_cstr(out, " did not return");
    } else if (call->sig[strcspn(call->sig, ":") + 1] != '\0') {
        sl_buf_printf(out, " = %llu", (unsigned long long)call->result);
    }
    sl_buf_append_char(out, '\n');
}

static void write_calls(sl_buf_t *out, const pw_trace_t *trace) {
    uint32_t first = trace->n > PW_TRACE_CALLS ? trace->n - PW_TRACE_CALLS : 0;
    sl_buf_printf(out, "host calls: %u, the last ones:\n", (unsigned)trace->n);
    for (uint32_t i = first; i < trace->n; i++) {
        write_call(out, &trace->at[i % PW_TRACE_CALLS]);
    }
}

/* ---- the text ---- */

static void write_time(sl_buf_t *out, uint64_t ns) {
    time_t seconds = (time_t)(ns / 1000000000u);
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    sl_buf_printf(out, "time: %s.%03uZ\n", text, (unsigned)(ns / 1000000u % 1000u));
}

/* In one line, whatever a client or a guest has put there. */
static void write_clean(sl_buf_t *out, sl_str_t text) {
    for (size_t i = 0; i < text.len && i < PATH_MAX_SHOWN; i++) {
        unsigned char c = (unsigned char)text.data[i];
        sl_buf_append_char(out, c < 0x20 || c == 0x7f ? '?' : (char)c);
    }
}

static void write_request(sl_buf_t *out, const pw_vm_t *vm, const pw_ctx_t *ctx) {
    const pw_host_ops_t *ops = vm->worker->ops;
    sl_str_t value;
    if (ctx == NULL || ctx->stream == NULL || ctx->stream->gone) {
        return;
    }
    sl_buf_append_cstr(out, "request:");
    static const char *const names[] = {":method", ":authority", ":path"};
    for (size_t i = 0; i < 3; i++) {
        if (ops->map_get(ctx->stream->host, PW_MAP_REQUEST_HEADERS, sl_cstr(names[i]), &value) == SL_OK) {
            sl_buf_append_char(out, ' ');
            write_clean(out, value);
        }
    }
    sl_buf_append_char(out, '\n');
}

static void write_head(sl_buf_t *out, const pw_vm_t *vm, const pw_ctx_t *ctx, const char *where) {
    const pw_worker_t *w = vm->worker;
    const uint8_t *sha256 = sl_module_info(vm->module)->sha256;
    sl_buf_append_cstr(out, SL_DUMP_HEAD);
    write_time(out, w->ops->now_ns(w->host, false));
    sl_buf_append_cstr(out, "filter: ");
    write_clean(out, ctx != NULL ? ctx->root->filter->conf.name : vm->starter);
    sl_buf_append_cstr(out, "\nmodule: ");
    for (size_t i = 0; i < 32; i++) {
        sl_buf_printf(out, "%02x", sha256[i]);
    }
    sl_buf_printf(out, "\ncontext: %u\ncallback: %s\n", ctx != NULL ? (unsigned)ctx->node.id : 0, where);
    write_request(out, vm, ctx);
}

static void write_trap(sl_buf_t *out, const char *text) {
    size_t reason = strcspn(text, "\n");
    sl_buf_append_cstr(out, "reason: ");
    sl_buf_append(out, text, reason);
    sl_buf_printf(out, "\nbacktrace:%s\n", text + reason);
}

/* Start functions trap without a context. */
static bool too_soon(const pw_vm_t *vm, const pw_ctx_t *ctx) {
    pw_numbers_t *n = ctx != NULL ? ctx->root->filter->numbers : vm->numbers;
    uint64_t now = vm->worker->ops->now_ns(vm->worker->host, true);
    if (n->dumped_ns != 0 && now - n->dumped_ns < PW_DUMP_NS) {
        return true;
    }
    n->dumped_ns = now;
    return false;
}

void pw_dump_trap(pw_vm_t *vm, const pw_ctx_t *ctx, const char *where, const char *text) {
    pw_worker_t *w = vm->worker;
    sl_buf_t out;
    if (vm->instance == NULL || too_soon(vm, ctx)) {
        return;
    }
    sl_buf_init(&out, TEXT_MAX);
    write_head(&out, vm, ctx, where);
    write_trap(&out, text);
    write_calls(&out, vm->trace);
    sl_buf_append_cstr(&out, "globals:\n");
    sl_instance_globals(vm->instance, &out);
    sl_instance_refresh(vm->instance);
    w->ops->trap_dump(w->host, sl_buf_str(&out), sl_str(vm->instance->mem, vm->instance->mem_size));
    sl_buf_deinit(&out);
}
