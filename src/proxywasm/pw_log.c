#include "pw_internal.h"

#include <stdarg.h>
#include <stdio.h>

bool pw_log_wanted(pw_worker_t *worker, void *host_stream, uint32_t level) {
    return level >= worker->ops->log_level(worker->host, host_stream);
}

static void escape(sl_buf_t *line, sl_str_t text, size_t max) {
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < text.len; i++) {
        if (line->len + 4 > max) {
            sl_buf_append_cstr(line, "...");
            return;
        }
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c != 0x7f) {
            sl_buf_append_char(line, (char)c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            char pair[2] = {'\\', c == '\n' ? 'n' : c == '\r' ? 'r' : 't'};
            sl_buf_append(line, pair, sizeof(pair));
        } else {
            char four[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
            sl_buf_append(line, four, sizeof(four));
        }
    }
}

static void emit(pw_worker_t *worker, void *host_stream, sl_str_t filter, uint32_t id, uint32_t level, sl_str_t text) {
    sl_buf_t *line = &worker->line;
    sl_buf_reset(line);
    sl_buf_append_cstr(line, "[proxy-wasm][\"");
    escape(line, filter, 256);
    sl_buf_printf(line, "\" #%u] ", id);
    escape(line, text, line->len + worker->limits.log_line_bytes);
    if (!line->failed) {
        worker->ops->log(worker->host, host_stream, level, sl_buf_str(line));
    }
}

void pw_log_guest(pw_vm_t *vm, const pw_ctx_t *ctx, uint32_t level, sl_str_t text) {
    void *host_stream = ctx != NULL && ctx->stream != NULL && !ctx->stream->gone ? ctx->stream->host : NULL;
    if (!pw_log_wanted(vm->worker, host_stream, level)) {
        return;
    }
    if (ctx == NULL) {
        emit(vm->worker, NULL, vm->starter, 0, level, text);
        return;
    }
    const pw_filter_conf_t *conf = &ctx->root->filter->conf;
    bool zero = conf->opts.dialect == SL_DIALECT_WASMX && ctx->stream == NULL; /* WasmX shows root contexts as #0 */
    emit(vm->worker, host_stream, conf->name, zero ? 0 : ctx->node.id, level, text);
}

void pw_log_filter(pw_worker_t *worker, void *host_stream, sl_str_t filter, uint32_t id, uint32_t level, const char *fmt, ...) {
    if (!pw_log_wanted(worker, host_stream, level)) {
        return;
    }
    char text[sizeof(sl_err_t) + 256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *at = text, *end; at != NULL && *at != '\0'; at = end) {
        end = strchr(at, '\n');
        size_t len = end != NULL ? (size_t)(end - at) : strlen(at);
        if (len != 0) {
            emit(worker, host_stream, filter, id, level, sl_str(at, len));
        }
        end = end != NULL ? end + 1 : NULL;
    }
}

/* ---- stdout and stderr: by line, what is unfinished waits for the end of the callback ---- */

static const uint32_t std_level[2] = {PW_LOG_INFO, PW_LOG_ERROR};

static void std_line(pw_vm_t *vm, int which, sl_str_t end) {
    sl_buf_t *b = &vm->std[which];
    if (b->len == 0) {
        pw_log_guest(vm, pw_vm_ctx(vm), std_level[which], end);
        return;
    }
    size_t room = b->max - b->len;
    sl_buf_append(b, end.data, end.len < room ? end.len : room);
    pw_log_guest(vm, pw_vm_ctx(vm), std_level[which], sl_buf_str(b));
    sl_buf_reset(b);
}

void pw_log_std(pw_vm_t *vm, int which, sl_str_t text) {
    while (text.len != 0) {
        const char *end = memchr(text.data, '\n', text.len);
        if (end == NULL) {
            sl_buf_t *b = &vm->std[which];
            size_t room = b->max - b->len;
            sl_buf_append(b, text.data, text.len < room ? text.len : room);
            return;
        }
        size_t len = (size_t)(end - text.data);
        std_line(vm, which, sl_str(text.data, len));
        text = sl_str(end + 1, text.len - len - 1);
    }
}

void pw_log_std_flush(pw_vm_t *vm) {
    for (int which = 0; which < 2; which++) {
        if (vm->std[which].len != 0) {
            std_line(vm, which, SL_STR_NULL);
        }
    }
}
