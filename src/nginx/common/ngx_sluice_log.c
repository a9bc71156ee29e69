#include "ngx_sluice.h"

static const ngx_uint_t levels[] = {NGX_LOG_DEBUG, NGX_LOG_DEBUG, NGX_LOG_INFO, NGX_LOG_WARN, NGX_LOG_ERR, NGX_LOG_CRIT};

void ngx_sluice_log_line(ngx_log_t *log, uint32_t level, sl_str_t line) {
    ngx_uint_t ngx_level = level < PW_LOG_OFF ? levels[level] : NGX_LOG_CRIT;

    if (log->log_level >= ngx_level) {
        ngx_log_error_core(ngx_level, log, 0, "%*s", line.len, line.data);
    }
}

uint32_t ngx_sluice_log_level(const ngx_log_t *log) {
    if (log->log_level >= NGX_LOG_DEBUG) {
        return PW_LOG_TRACE;
    }
    if (log->log_level >= NGX_LOG_INFO) {
        return PW_LOG_INFO;
    }
    if (log->log_level >= NGX_LOG_WARN) {
        return PW_LOG_WARN;
    }
    return log->log_level >= NGX_LOG_ERR ? PW_LOG_ERROR : PW_LOG_CRITICAL;
}

/* nginx ends a record at 2048 bytes; a backtrace goes line by line. */
void ngx_sluice_log_error(ngx_uint_t level, ngx_log_t *log, const char *text) {
    const char *end;

    for (; *text; text = *end ? end + 1 : end) {
        end = strchr(text, '\n');
        if (end == NULL) {
            end = text + strlen(text);
        }
        ngx_log_error(level, log, 0, "[proxy-wasm] %*s", (size_t)(end - text), text);
    }
}
