#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "prepare.h"
#include "sl_file.h"

/* A quoted word of nginx's configuration language. Control characters were refused when the settings were loaded. */
static void word(sl_buf_t *b, const char *text) {
    sl_buf_append_char(b, '"');
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            sl_buf_append_char(b, '\\');
        }
        sl_buf_append_char(b, *p);
    }
    sl_buf_append_char(b, '"');
}

static void path_word(sl_buf_t *b, const prepared_t *p, const char *path) {
    char full[8192];
    snprintf(full, sizeof(full), "%s%s%s", path[0] == '/' ? "" : p->prefix, path[0] == '/' ? "" : "/", path);
    word(b, full);
}

/* An empty value and NONE only take the line away that would be there without. */
static bool is_none(const char *value) {
    return value[0] == '\0' || strcmp(value, "NONE") == 0;
}

static void injected_line(void *ud, const char *directive, const char *value) {
    if (!is_none(value)) {
        sl_buf_printf(ud, "    %s %s;\n", directive, value);
    }
}

static void look_for(void *ud, const char *directive, const char *value) {
    (void)value;
    const char **name = ud;
    if (*name != NULL && strcmp(*name, directive) == 0) {
        *name = NULL;
    }
}

static bool injects(const settings_t *s, const char *block, const char *directive) {
    const char *name = directive;
    settings_injected(s, block, look_for, &name);
    return name == NULL;
}

typedef struct {
    sl_buf_t *b;
    const settings_t *s;
    bool lua; /* nginx has Lua */
} http_lines_t;

static const char lua_socket[] = "lua_socket_";

/* Kong's timeouts of Lua's sockets are those of calls out here; the directive itself is for an nginx that has Lua. */
static void http_line(void *ud, const char *directive, const char *value) {
    http_lines_t *lines = ud;
    const char *what = strncmp(directive, lua_socket, sizeof(lua_socket) - 1) == 0 ? directive + sizeof(lua_socket) - 1 : NULL;
    char ours[64];
    if (what == NULL || is_none(value)) {
        injected_line(lines->b, directive, value);
        return;
    }
    snprintf(ours, sizeof(ours), "wasm_socket_%s", what);
    bool have = strcmp(what, "connect_timeout") == 0 || strcmp(what, "send_timeout") == 0 || strcmp(what, "read_timeout") == 0 ||
                strcmp(what, "buffer_size") == 0;
    if (have && !injects(lines->s, "http", ours)) {
        injected_line(lines->b, ours, value);
    }
    if (lines->lua) {
        injected_line(lines->b, directive, value);
    }
}

static void look_for_lua(void *ud, const char *directive, const char *value) {
    bool *lua = ud;
    *lua = *lua || (strcmp(directive, "load_module") == 0 && strstr(value, "lua") != NULL);
}

/* Whether nginx takes the directive more than once in a block. */
static bool repeats(const char *directive) {
    return strcmp(directive, "proxy_set_header") == 0 || strcmp(directive, "proxy_pass_header") == 0 ||
           strcmp(directive, "error_page") == 0;
}

/* Lines of a block, but for those whose directive is injected into it. */
static void defaults(sl_buf_t *b, const settings_t *s, const char *block, const char *text) {
    char directive[64];
    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        const char *word = text + strspn(text, " ");
        snprintf(directive, sizeof(directive), "%.*s", (int)strcspn(word, " ;\n"), word);
        if (repeats(directive) || !injects(s, block, directive)) {
            sl_buf_append(b, text, (size_t)(end - text) + 1);
        }
    }
}

/* The same of lines that are made first; lets go of them. */
static void defaults_of(sl_buf_t *b, const settings_t *s, const char *block, sl_buf_t *lines) {
    const char *text = sl_buf_cstr(lines);
    b->failed |= text == NULL;
    if (text != NULL) {
        defaults(b, s, block, text);
    }
    sl_buf_deinit(lines);
}

/* Where the name of a format of one's own begins, as in "logs/x.log combined buffer=32k"; NULL: there is none. */
static const char *own_format(const char *value) {
    const char *space = strchr(value, ' ');
    bool name = space != NULL && (isalpha((unsigned char)space[1]) || space[1] == '_');
    bool plain = name && space[strspn(space, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=:. ")] == '\0';
    return plain ? space : NULL;
}

/* "logs/x.log", "off", or nginx's own syntax ("syslog:server=... "); the value as a whole becomes the first argument. */
static void access_log(sl_buf_t *b, const prepared_t *p, const char *value, const char *format) {
    if (value == NULL || strcmp(value, "off") == 0) {
        sl_buf_append_cstr(b, "        access_log off;\n");
        return;
    }
    char path[4096];
    const char *own = own_format(value);
    snprintf(path, sizeof(path), "%.*s", (int)(own != NULL ? (size_t)(own - value) : strlen(value)), value);
    sl_buf_append_cstr(b, "        access_log ");
    if (strncmp(value, "syslog:", 7) == 0) {
        word(b, path);
    } else {
        path_word(b, p, path);
    }
    sl_buf_printf(b, " %s;\n", own != NULL ? own + 1 : format);
}

static void error_log(sl_buf_t *b, const settings_t *s, const prepared_t *p, const char *value, const char *indent) {
    const char *level = settings_get(s, "log_level");
    value = value != NULL ? value : "logs/error.log"; /* nginx cannot do without one */
    sl_buf_printf(b, "%serror_log ", indent);
    if (strncmp(value, "syslog:", 7) == 0 || strcmp(value, "stderr") == 0) {
        word(b, value);
    } else {
        path_word(b, p, value);
    }
    sl_buf_printf(b, " %s;\n", level);
}

/* Name servers of the machine for nginx's resolver, which needs them spelled out. */
static void resolver(sl_buf_t *b, const settings_t *s) {
    const char *given = settings_get(s, "dns_resolver");
    if (given != NULL) {
        sl_buf_append_cstr(b, "    resolver");
        char *copy = strdup(given);
        char *save = NULL;
        for (char *w = copy != NULL ? strtok_r(copy, ", ", &save) : NULL; w != NULL; w = strtok_r(NULL, ", ", &save)) {
            if (w[strspn(w, "0123456789abcdefABCDEF.:[]")] == '\0') {
                sl_buf_printf(b, " %s", w);
            }
        }
        free(copy);
        sl_buf_append_cstr(b, ";\n");
        return;
    }
    sl_buf_t text;
    sl_buf_init(&text, 65536);
    const char *p = sl_file_read("/etc/resolv.conf", &text, NULL) == SL_OK ? sl_buf_cstr(&text) : NULL;
    size_t n = 0;
    for (; p != NULL && n < 3; p = strchr(p, '\n')) {
        p += *p == '\n';
        char address[64];
        if (sscanf(p, "nameserver %63s", address) == 1 && address[strspn(address, "0123456789abcdefABCDEF.:")] == '\0') {
            bool six = strchr(address, ':') != NULL;
            sl_buf_printf(b, "%s%s%s%s", n++ == 0 ? "    resolver " : " ", six ? "[" : "", address, six ? "]" : "");
        }
        if (*p == '\0') {
            break;
        }
    }
    sl_buf_append_cstr(b, n != 0 ? ";\n" : "");
    sl_buf_deinit(&text);
}

static void main_block(sl_buf_t *b, const settings_t *s, const prepared_t *p) {
    sl_buf_append_cstr(
        b, "# Written by `sluice start`; changes are lost. Use settings (SLUICE_NGINX_HTTP_... and so on) to add directives.\n");
    sl_buf_append_cstr(b, "load_module ");
    word(b, p->module);
    sl_buf_printf(b, ";\ndaemon %s;\npid pids/nginx.pid;\n", settings_on(s, "nginx_main_daemon") ? "on" : "off");
    error_log(b, s, p, settings_get(s, "proxy_error_log"), "");
    sl_buf_printf(b, "worker_processes %s;\n", settings_get(s, "nginx_main_worker_processes"));
    if (p->user[0] != '\0') {
        sl_buf_printf(b, "user %s;\n", p->user);
    }
    sl_buf_append_cstr(b, "thread_pool sluice threads=4 max_queue=65536;\n");
    settings_injected(s, "main", injected_line, b);
}

static void wasm_line(sl_buf_t *b, const settings_t *s, const char *name) {
    char property[64];
    snprintf(property, sizeof(property), "wasm_%s", name);
    const char *value = settings_get(s, property);
    if (value != NULL) {
        sl_buf_printf(b, "    proxy_wasm_%s ", name);
        word(b, value);
        sl_buf_append_cstr(b, ";\n");
    }
}

static bool begins(const char *text, const char *with, const char **rest) {
    size_t len = strlen(with);
    *rest = text + len;
    return strncmp(text, with, len) == 0 && **rest != '\0';
}

/* Kong's way to name a zone is in the name of the setting: nginx_wasm_shm_kv_<zone> = <size>. So are flags of the engine. */
static void wasm_injected_line(void *ud, const char *directive, const char *value) {
    const char *rest;
    if (is_none(value)) {
        return;
    }
    if (begins(directive, "shm_kv_", &rest)) {
        sl_buf_printf(ud, "    shm_kv %s %s;\n", rest, value);
    } else if (begins(directive, "shm_queue_", &rest)) {
        sl_buf_printf(ud, "    shm_queue %s %s;\n", rest, value);
    } else if (strcmp(directive, "shm_kv") == 0 || strcmp(directive, "shm_queue") == 0) {
        sl_buf_printf(ud, "    %s * %s;\n", directive, value);
    } else if (begins(directive, "wasmtime_", &rest)) {
        sl_buf_printf(ud, "    wasmtime { flag %s %s; }\n", rest, value);
    } else {
        injected_line(ud, directive, value);
    }
}

/* Zones, and how calls go out; what is injected counts more. */
static void wasm_settings(sl_buf_t *b, const settings_t *s) {
    if (!injects(s, "wasm", "shm_kv")) {
        sl_buf_printf(b, "    shm_kv * %s eviction=%s;\n", settings_get(s, "wasm_shm_kv_size"), settings_get(s, "wasm_shm_kv_eviction"));
    }
    if (!injects(s, "wasm", "shm_queue")) {
        sl_buf_printf(b, "    shm_queue * %s;\n", settings_get(s, "wasm_shm_queue_size"));
    }
    sl_buf_printf(b, "    metrics { slab_size %s; }\n", settings_get(s, "wasm_shm_metrics_size"));
    if (settings_get(s, "wasm_trap_dumps") != NULL && !injects(s, "wasm", "trap_dumps")) {
        sl_buf_append_cstr(b, "    trap_dumps ");
        word(b, settings_get(s, "wasm_trap_dumps"));
        sl_buf_append_cstr(b, ";\n");
    }
    if (!injects(s, "wasm", "backtraces")) {
        sl_buf_printf(b, "    backtraces %s;\n", settings_on(s, "wasm_backtraces") ? "on" : "off");
    }
    if (!injects(s, "wasm", "worker_memory_limit")) {
        sl_buf_printf(b, "    worker_memory_limit %s;\n", settings_get(s, "wasm_worker_memory_limit"));
    }
    if (!injects(s, "wasm", "call_keepalive")) {
        sl_buf_printf(b, "    call_keepalive %s;\n", settings_get(s, "wasm_call_keepalive"));
    }
    if (!injects(s, "wasm", "cache_size")) {
        sl_buf_printf(b, "    cache_size %s;\n", settings_get(s, "wasm_cache_size"));
    }
    if (!injects(s, "wasm", "cache_age")) {
        sl_buf_printf(b, "    cache_age %s;\n", settings_get(s, "wasm_cache_age"));
    }
    if (!injects(s, "wasm", "call_memory_limit")) {
        sl_buf_printf(b, "    call_memory_limit %s;\n", settings_get(s, "wasm_call_memory_limit"));
    }
    if (settings_get(s, "wasm_tls_trusted_certificate") != NULL && !injects(s, "wasm", "tls_trusted_certificate")) {
        sl_buf_append_cstr(b, "    tls_trusted_certificate ");
        word(b, settings_get(s, "wasm_tls_trusted_certificate"));
        sl_buf_append_cstr(b, ";\n");
    }
    if (settings_get(s, "wasm_tls_verify") != NULL && !injects(s, "wasm", "tls_verify_cert") && !injects(s, "wasm", "tls_verify_host")) {
        const char *verify = settings_on(s, "wasm_tls_verify") ? "on" : "off";
        sl_buf_printf(b, "    tls_verify_cert %s;\n    tls_verify_host %s;\n", verify, verify);
    }
    if (!injects(s, "wasm", "resolver")) {
        resolver(b, s);
    }
}

/* How filters and chains are run where their entries say nothing. */
static void wasm_block(sl_buf_t *b, const settings_t *s) {
    static const char *const of_chains[] = {"response_order", "request_body_limit", "response_body_limit", "over_limit"};
    sl_buf_append_cstr(b, "wasm {\n");
    for (size_t i = 0; i < SL_FOPT_N; i++) {
        wasm_line(b, s, sl_filter_opts[i].name);
    }
    for (size_t i = 0; i < sizeof(of_chains) / sizeof(of_chains[0]); i++) {
        wasm_line(b, s, of_chains[i]);
    }
    wasm_settings(b, s);
    settings_injected(s, "wasm", wasm_injected_line, b);
    sl_buf_append_cstr(b, "}\n");
}

static void events_block(sl_buf_t *b, const settings_t *s) {
    const char *given = settings_get(s, "nginx_events_worker_connections");
    struct rlimit rl;
    unsigned long n = getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < 16384 ? (unsigned long)rl.rlim_cur : 16384;
    sl_buf_append_cstr(b, "events {\n");
    if (strcmp(given, "auto") == 0) {
        sl_buf_printf(b, "    worker_connections %lu;\n", n);
    } else {
        sl_buf_printf(b, "    worker_connections %s;\n", given);
    }
    defaults(b, s, "events", "    multi_accept on;\n");
    settings_injected(s, "events", injected_line, b);
    sl_buf_append_cstr(b, "}\n");
}

static void trusted(sl_buf_t *b, const settings_t *s) {
    const char *ips = settings_get(s, "trusted_ips");
    if (ips == NULL) {
        return;
    }
    char *copy = strdup(ips);
    char *save = NULL;
    for (char *w = copy != NULL ? strtok_r(copy, ", \t", &save) : NULL; w != NULL; w = strtok_r(NULL, ", \t", &save)) {
        if (w[strspn(w, "0123456789abcdefABCDEF.:/")] == '\0' || strcmp(w, "unix:") == 0) {
            sl_buf_printf(b, "    set_real_ip_from %s;\n", w);
        }
    }
    free(copy);
    sl_buf_append_cstr(b, "    real_ip_header ");
    word(b, settings_get(s, "real_ip_header"));
    sl_buf_printf(b, ";\n    real_ip_recursive %s;\n", settings_on(s, "real_ip_recursive") ? "on" : "off");
}

static void listens(sl_buf_t *b, const listens_t *l) {
    for (size_t i = 0; i < l->n; i++) {
        sl_buf_printf(b, "        listen %s%s;\n", l->at[i].address, l->at[i].flags);
    }
}

/* The lists that Mozilla recommends; a client of TLS 1.3 has its own. */
static const char *ciphers_of(const char *suite) {
#define INTERMEDIATE                                                                                                                       \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                 \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384"
    if (strcmp(suite, "old") != 0) {
        return INTERMEDIATE;
    }
    return INTERMEDIATE ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
                        "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA:"
                        "DES-CBC3-SHA:@SECLEVEL=0";
}

static void tls_rules(sl_buf_t *b, const settings_t *s, const char *block) {
    sl_buf_t lines;
    sl_buf_init(&lines, 65536);
    const char *suite = settings_get(s, "ssl_cipher_suite"), *own = settings_get(s, "ssl_ciphers");
    bool custom = strcmp(suite, "custom") == 0 && own != NULL;
    const char *protocols = strcmp(suite, "modern") == 0 ? "TLSv1.3"
                            : strcmp(suite, "old") == 0  ? "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3"
                                                         : settings_get(s, "ssl_protocols");
    sl_buf_printf(&lines, "        ssl_protocols %s;\n        ssl_ciphers %s;\n        ssl_prefer_server_ciphers %s;\n", protocols,
                  custom ? own : ciphers_of(suite), settings_on(s, "ssl_prefer_server_ciphers") ? "on" : "off");
    sl_buf_printf(&lines, "        ssl_session_cache shared:SSL:%s;\n        ssl_session_timeout %s;\n        ssl_session_tickets %s;\n",
                  settings_get(s, "ssl_session_cache_size"), settings_get(s, "ssl_session_timeout"),
                  settings_on(s, "ssl_session_tickets") ? "on" : "off");
    defaults_of(b, s, block, &lines);
}

/* A line for each path of a comma list: one certificate of each kind of key. */
static void certificate_lines(sl_buf_t *b, const prepared_t *p, const char *directive, const char *paths) {
    char path[4096];
    for (const char *at = paths; *at != '\0'; at += *at == ',') {
        at += strspn(at, " \t");
        size_t len = strcspn(at, ",");
        size_t used = len;
        while (used > 0 && (at[used - 1] == ' ' || at[used - 1] == '\t')) {
            used--;
        }
        if (used > 0) {
            snprintf(path, sizeof(path), "%.*s", (int)used, at);
            sl_buf_printf(b, "        %s ", directive);
            path_word(b, p, path);
            sl_buf_append_cstr(b, ";\n");
        }
        at += len;
    }
}

static void tls(sl_buf_t *b, const settings_t *s, const prepared_t *p, const listens_t *l, const char *cert, const char *key,
                const char *block) {
    bool any = false;
    for (size_t i = 0; i < l->n; i++) {
        any = any || l->at[i].ssl;
    }
    if (!any) {
        return;
    }
    const char *c = settings_get(s, cert);
    const char *k = settings_get(s, key);
    certificate_lines(b, p, "ssl_certificate", c != NULL ? c : "ssl/default.crt");
    certificate_lines(b, p, "ssl_certificate_key", k != NULL ? k : "ssl/default.key");
    tls_rules(b, s, block);
}

/* What the upstream is told; the same in the locations of both protocols. */
static void upstream_headers(sl_buf_t *b, const char *module) {
    static const char *const headers[][2] = {
        {"Host", "$sluice_upstream_host"},
        {"Via", "$sluice_upstream_via"},
        {"X-Real-IP", "$remote_addr"},
        {"X-Forwarded-For", "$sluice_forwarded_for"},
        {"X-Forwarded-Proto", "$sluice_forwarded_proto"},
        {"X-Forwarded-Host", "$sluice_forwarded_host"},
        {"X-Forwarded-Port", "$sluice_forwarded_port"},
        {"X-Forwarded-Path", "$sluice_forwarded_path"},
        {"X-Forwarded-Prefix", "$sluice_forwarded_prefix"},
        {"X-Kong-Request-Id", "$sluice_request_id_header"},
        {"Keep-Alive", "''"},
        {"Proxy", "''"},
        {"Proxy-Connection", "''"},
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        sl_buf_printf(b, "            %s_set_header %s %s;\n", module, headers[i][0], headers[i][1]);
    }
}

/* What comes back, failures, TLS. */
static void upstream_rules(sl_buf_t *b, const settings_t *s, const prepared_t *p, const char *module) {
    static const char rules[] =
        "            %1$s_pass_header Server;\n"
        "            %1$s_pass_header Date;\n"
        "            %1$s_pass_header X-Accel-Redirect;\n"
        "            %1$s_ignore_headers X-Accel-Redirect X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset%2$s;\n"
        "            %1$s_next_upstream error timeout;\n"
        "            %1$s_ssl_server_name on;\n"
        "            %1$s_ssl_session_reuse off;\n"
        "            %1$s_ssl_name $sluice_upstream_sni;\n";
    bool grpc = strcmp(module, "grpc") == 0;
    const char *cert = settings_get(s, "client_ssl_cert"), *key = settings_get(s, "client_ssl_cert_key");
    sl_buf_printf(b, rules, module, grpc ? "" : " X-Accel-Expires Expires Cache-Control Set-Cookie Vary");
    if (settings_on(s, "client_ssl") && cert != NULL && key != NULL) {
        sl_buf_printf(b, "            %s_ssl_certificate ", module);
        path_word(b, p, cert);
        sl_buf_printf(b, ";\n            %s_ssl_certificate_key ", module);
        path_word(b, p, key);
        sl_buf_append_cstr(b, ";\n");
    }
}

static void proxy_location(sl_buf_t *b, const settings_t *s, const prepared_t *p) {
    sl_buf_t lines;
    sl_buf_init(&lines, 65536);
    sl_buf_append_cstr(
        &lines, "        location / {\n            default_type '';\n            sluice_proxy;\n            proxy_http_version 1.1;\n");
    upstream_headers(&lines, "proxy");
    sl_buf_append_cstr(&lines, "            proxy_set_header Connection $sluice_upstream_connection;\n"
                               "            proxy_set_header Upgrade $sluice_upstream_upgrade;\n"
                               "            proxy_set_header TE $sluice_upstream_te;\n"
                               "            proxy_redirect off;\n");
    upstream_rules(&lines, s, p, "proxy");
    defaults_of(b, s, "location", &lines);
    settings_injected(s, "location", injected_line, b);
    sl_buf_append_cstr(b, "            proxy_pass $sluice_upstream_scheme://sluice$sluice_upstream_uri;\n        }\n");
}

/* Where the module takes requests to services of gRPC. */
static void grpc_location(sl_buf_t *b, const settings_t *s, const prepared_t *p) {
    sl_buf_append_cstr(b, "        location @sluice_grpc {\n            default_type '';\n            sluice_proxy;\n");
    upstream_headers(b, "grpc");
    upstream_rules(b, s, p, "grpc");
    sl_buf_append_cstr(b, "            grpc_pass $sluice_upstream_scheme://sluice;\n        }\n");
}

static void proxy_server(sl_buf_t *b, const settings_t *s, const prepared_t *p) {
    if (p->proxy.n == 0) {
        return;
    }
    sl_buf_append_cstr(b, "    server {\n        server_name sluice;\n");
    listens(b, &p->proxy);
    tls(b, s, p, &p->proxy, "ssl_cert", "ssl_cert_key", "proxy");
    bool json = strcmp(settings_get(s, "proxy_access_log_format"), "json") == 0;
    access_log(b, p, settings_get(s, "proxy_access_log"), json ? "sluice_json" : "sluice");
    error_log(b, s, p, settings_get(s, "proxy_error_log"), "        ");
    sl_buf_append_cstr(b, "        error_page 400 404 405 408 411 412 413 414 417 500 501 502 503 504 505 $sluice_error_page;\n"
                          "        error_page 494 =494 $sluice_error_page;\n        error_page 497 =497 $sluice_error_page;\n");
    settings_injected(s, "proxy", injected_line, b);
    proxy_location(b, s, p);
    grpc_location(b, s, p);
    sl_buf_append_cstr(b, "        location @sluice_error {\n            sluice_error;\n        }\n    }\n");
}

/* Whoever has no certificate of this authority is turned away while the connection is set up, or with a 400. */
static void client_certificates(sl_buf_t *b, const settings_t *s, const prepared_t *p) {
    const char *ca = settings_get(s, "admin_ssl_client_ca");
    if (ca != NULL) {
        sl_buf_append_cstr(b, "        ssl_client_certificate ");
        path_word(b, p, ca);
        sl_buf_append_cstr(b, ";\n        ssl_verify_client on;\n        ssl_verify_depth 4;\n");
    }
}

static void admin_server(sl_buf_t *b, const settings_t *s, const prepared_t *p) {
    if (p->admin.n == 0) {
        return;
    }
    sl_buf_append_cstr(b, "    server {\n        server_name sluice_admin;\n");
    listens(b, &p->admin);
    tls(b, s, p, &p->admin, "admin_ssl_cert", "admin_ssl_cert_key", "admin");
    client_certificates(b, s, p);
    access_log(b, p, settings_get(s, "admin_access_log"), "sluice");
    error_log(b, s, p, settings_get(s, "admin_error_log"), "        ");
    sl_buf_printf(b, "        client_max_body_size %s;\n        client_body_buffer_size %s;\n",
                  settings_get(s, "nginx_admin_client_max_body_size"), settings_get(s, "nginx_admin_client_body_buffer_size"));
    settings_injected(s, "admin", injected_line, b);
    sl_buf_append_cstr(b, "        location / {\n            sluice_admin;\n            error_page 413 @sluice_too_large;\n        }\n");
    sl_buf_printf(b,
                  "        location @sluice_too_large {\n            internal;\n            default_type application/json;\n"
                  "            return 413 '{\"message\":\"the body is larger than %s, the setting nginx_admin_client_max_body_size\"}';\n"
                  "        }\n    }\n",
                  settings_get(s, "nginx_admin_client_max_body_size"));
}

static void status_server(sl_buf_t *b, const settings_t *s, const prepared_t *p) {
    if (p->status.n == 0) {
        return;
    }
    sl_buf_append_cstr(b, "    server {\n        server_name sluice_status;\n");
    listens(b, &p->status);
    tls(b, s, p, &p->status, "status_ssl_cert", "status_ssl_cert_key", "status");
    access_log(b, p, settings_get(s, "status_access_log"), "sluice");
    error_log(b, s, p, settings_get(s, "status_error_log"), "        ");
    settings_injected(s, "status", injected_line, b);
    sl_buf_append_cstr(b, "        location / {\n            sluice_status;\n        }\n    }\n");
}

static bool is_zero(const char *number) {
    return strtol(number, NULL, 10) == 0;
}

/* Kong's 0 is "none" for the pool and "without end" for the others; nginx refuses the first and closes at once for the others. */
static void upstream_keepalive(sl_buf_t *b, const settings_t *s) {
    const char *size = settings_get(s, "upstream_keepalive_pool_size"), *requests = settings_get(s, "upstream_keepalive_max_requests"),
               *idle = settings_get(s, "upstream_keepalive_idle_timeout");
    sl_buf_t lines;
    sl_buf_init(&lines, 512);
    if (!is_zero(size)) {
        sl_buf_printf(&lines, "        keepalive %s;\n", size);
    }
    sl_buf_printf(&lines, "        keepalive_requests %s;\n        keepalive_timeout %ss;\n", is_zero(requests) ? "2147483647" : requests,
                  is_zero(idle) ? "31536000" : idle);
    defaults_of(b, s, "upstream", &lines);
}

sl_status_t nginx_conf_render(const settings_t *s, const prepared_t *p, sl_buf_t *b, sl_err_t *err) {
    main_block(b, s, p);
    wasm_block(b, s);
    events_block(b, s);
    sl_buf_append_cstr(b, "http {\n    sluice_gateway ");
    path_word(b, p, p->draft ? "sluice.json.draft" : "sluice.json");
    sl_buf_append_cstr(
        b, ";\n    log_format sluice '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" "
           "\"$http_user_agent\" kong_request_id: \"$sluice_request_id\"';\n"
           "    log_format sluice_json escape=none '$sluice_access_json';\n"
           "    client_body_temp_path tmp/client_body;\n    proxy_temp_path tmp/proxy;\n    fastcgi_temp_path tmp/fastcgi;\n"
           "    uwsgi_temp_path tmp/uwsgi;\n    scgi_temp_path tmp/scgi;\n");
    defaults(b, s, "http",
             "    server_tokens off;\n    underscores_in_headers on;\n    sendfile on;\n    tcp_nopush on;\n    keepalive_requests 10000;\n"
             "    proxy_headers_hash_max_size 1024;\n    variables_hash_max_size 2048;\n    large_client_header_buffers 4 16k;\n");
    sl_buf_printf(b, "    client_max_body_size %s;\n    client_body_buffer_size %s;\n", settings_get(s, "nginx_http_client_max_body_size"),
                  settings_get(s, "nginx_http_client_body_buffer_size"));
    resolver(b, s);
    trusted(b, s);
    http_lines_t lines = {.b = b, .s = s};
    settings_injected(s, "main", look_for_lua, &lines.lua);
    settings_injected(s, "http", http_line, &lines);
    sl_buf_append_cstr(b, "    upstream sluice {\n        server 0.0.0.1;\n        sluice_balancer;\n");
    upstream_keepalive(b, s);
    settings_injected(s, "upstream", injected_line, b);
    sl_buf_append_cstr(b, "    }\n");
    proxy_server(b, s, p);
    admin_server(b, s, p);
    status_server(b, s, p);
    sl_buf_append_cstr(b, "}\n");
    return b->failed ? sl_err_set(err, SL_NO_MEMORY, "nginx.conf would be too large") : SL_OK;
}
