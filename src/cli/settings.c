#include "settings.h"

#include "settings_kong.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sl_file.h"

extern char **environ;

/* TOKEN: goes into nginx.conf as it is, so only letters, digits, space and . _ - are allowed. COUNT: a number or "auto". SIZE: as nginx has
 * them. */
/* OPTION: of filters, wasm_<name>. CIPHERS: as OpenSSL has them. */
/* MEMORY: a size without an end, or "off".
 * PATH: relative to the folder that the command was given in. PORTS: port_maps. HEADERS: a comma list of `values`, in any case of letters.
 */
typedef enum { TEXT, PATH, BOOL, NUMBER, COUNT, ENUM, SECRET, TOKEN, SIZE, MEMORY, OPTION, CIPHERS, PORTS, HEADERS } kind_t;

typedef struct {
    const char *name;
    const char *fallback; /* NULL: unset */
    kind_t kind;
    const char *values; /* ENUM, HEADERS: comma list */
    const char *alias;  /* another name of the same property */
} property_t;

#define LEVELS "debug,info,notice,warn,error,crit,alert,emerg"

#define HEADERS_OF_RESPONSES                                                                                                               \
    "off,server_tokens,server,via,latency_tokens,x-kong-proxy-latency,x-kong-upstream-latency,x-kong-response-latency,"                    \
    "x-kong-admin-latency,x-kong-upstream-status,x-kong-request-id"

static const property_t properties[] = {
    {"prefix", "/usr/local/sluice", TEXT, NULL, NULL},
    {"role", "traditional", ENUM, "traditional", NULL},
    {"log_level", "notice", ENUM, LEVELS, NULL},
    {"proxy_access_log", "logs/access.log", TEXT, NULL, NULL},
    {"proxy_access_log_format", "text", ENUM, "text,json", NULL},
    {"proxy_error_log", "logs/error.log", TEXT, NULL, NULL},
    {"admin_access_log", "logs/admin_access.log", TEXT, NULL, NULL},
    {"admin_error_log", "logs/error.log", TEXT, NULL, NULL},
    {"proxy_listen", "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384", TEXT, NULL, NULL},
    {"admin_listen", "127.0.0.1:8001 reuseport backlog=16384, 127.0.0.1:8444 http2 ssl reuseport backlog=16384", TEXT, NULL, NULL},
    {"status_listen", "off", TEXT, NULL, NULL},
    {"stream_listen", "off", ENUM, "off", NULL},
    {"port_maps", NULL, PORTS, NULL, NULL},
    {"status_access_log", "off", TEXT, NULL, NULL},
    {"status_error_log", "logs/error.log", TEXT, NULL, NULL},
    {"metrics_memory", "8m", TOKEN, NULL, NULL},
    {"nginx_main_worker_processes", "auto", COUNT, NULL, "nginx_worker_processes"},
    {"nginx_main_daemon", "on", BOOL, NULL, "nginx_daemon"},
    {"nginx_main_user", NULL, TOKEN, NULL, "nginx_user"},
    {"nginx_binary", NULL, PATH, NULL, NULL},
    {"wasm_dynamic_module", NULL, PATH, NULL, NULL},
    {"database", NULL, ENUM, "off,sqlite,postgres", NULL},
    {"declarative_config", NULL, PATH, NULL, NULL},
    {"declarative_config_string", NULL, SECRET, NULL, NULL},
    {"wasm", "on", BOOL, NULL, NULL},
    {"wasm_filters_path", NULL, PATH, NULL, NULL},
    {"wasm_filters", "bundled,user", TEXT, NULL, NULL},
    {"wasm_backtraces", "on", BOOL, NULL, NULL},
    {"wasm_response_order", NULL, ENUM, "forward,reverse", NULL},
    {"wasm_request_body_limit", NULL, SIZE, NULL, NULL},
    {"wasm_response_body_limit", NULL, SIZE, NULL, NULL},
    {"wasm_over_limit", NULL, ENUM, "fail,pass", NULL},
    {"wasm_shm_kv_size", "1m", SIZE, NULL, NULL},
    {"wasm_shm_kv_eviction", "slru", ENUM, "slru,lru,none", NULL},
    {"wasm_shm_queue_size", "1m", SIZE, NULL, NULL},
    {"wasm_shm_metrics_size", "5m", SIZE, NULL, NULL},
    {"wasm_trap_dumps", NULL, PATH, NULL, NULL},
    {"wasm_worker_memory_limit", "off", MEMORY, NULL, NULL},
    {"wasm_call_keepalive", "16", NUMBER, NULL, NULL},
    {"wasm_cache_size", "1g", TOKEN, NULL, NULL},
    {"wasm_cache_age", "30d", TOKEN, NULL, NULL},
    {"wasm_call_memory_limit", "256m", SIZE, NULL, NULL},
    {"wasm_tls_trusted_certificate", NULL, PATH, NULL, NULL},
    {"wasm_tls_verify", NULL, BOOL, NULL, NULL},
#define SL_FILTER_OPT(id, field, name, kind, def, values, min, max) {"wasm_" name, NULL, OPTION, NULL, NULL},
#include "sl_filter_opts.def"
#undef SL_FILTER_OPT
    {"router_flavor", "traditional_compatible", ENUM, "traditional,traditional_compatible", NULL},
    {"headers", "server_tokens, latency_tokens, x-kong-request-id", HEADERS, HEADERS_OF_RESPONSES, NULL},
    {"headers_upstream", "x-kong-request-id", HEADERS, "off,x-kong-request-id", NULL},
    {"allow_debug_header", "off", BOOL, NULL, NULL},
    {"error_default_type", "text/plain", ENUM, "text/plain,text/html,application/json,application/xml", NULL},
    {"error_template_json", NULL, PATH, NULL, NULL},
    {"error_template_plain", NULL, PATH, NULL, NULL},
    {"error_template_html", NULL, PATH, NULL, NULL},
    {"error_template_xml", NULL, PATH, NULL, NULL},
    {"trusted_ips", NULL, TEXT, NULL, NULL},
    {"real_ip_header", "X-Real-IP", TOKEN, NULL, NULL},
    {"real_ip_recursive", "off", BOOL, NULL, NULL},
    {"dns_resolver", NULL, TEXT, NULL, NULL},
    {"dns_hostsfile", "/etc/hosts", PATH, NULL, NULL},
    {"ssl_cert", NULL, TEXT, NULL, NULL},
    {"ssl_cert_key", NULL, SECRET, NULL, NULL},
    {"admin_ssl_cert", NULL, TEXT, NULL, NULL},
    {"admin_ssl_cert_key", NULL, SECRET, NULL, NULL},
    {"admin_ssl_client_ca", NULL, PATH, NULL, NULL},
    {"status_ssl_cert", NULL, TEXT, NULL, NULL},
    {"status_ssl_cert_key", NULL, SECRET, NULL, NULL},
    {"ssl_protocols", "TLSv1.2 TLSv1.3", TOKEN, NULL, NULL},
    {"ssl_cipher_suite", "intermediate", ENUM, "modern,intermediate,old,custom", NULL},
    {"ssl_ciphers", NULL, CIPHERS, NULL, NULL},
    {"ssl_prefer_server_ciphers", "on", BOOL, NULL, NULL},
    {"ssl_session_tickets", "on", BOOL, NULL, NULL},
    {"ssl_session_timeout", "1d", TOKEN, NULL, NULL},
    {"ssl_session_cache_size", "10m", TOKEN, NULL, NULL},
    {"client_ssl", "off", BOOL, NULL, NULL},
    {"client_ssl_cert", NULL, PATH, NULL, NULL},
    {"client_ssl_cert_key", NULL, PATH, NULL, NULL},
    {"lua_ssl_trusted_certificate", "system", TEXT, NULL, "ssl_trusted_certificate"},
    {"lua_ssl_verify_depth", "1", NUMBER, NULL, "ssl_verify_depth"},
    {"upstream_keepalive_pool_size", "512", NUMBER, NULL, NULL},
    {"upstream_keepalive_max_requests", "10000", NUMBER, NULL, NULL},
    {"upstream_keepalive_idle_timeout", "60", NUMBER, NULL, NULL},
    {"nginx_http_client_max_body_size", "0", TOKEN, NULL, NULL},
    {"nginx_http_client_body_buffer_size", "8k", TOKEN, NULL, NULL},
    {"nginx_admin_client_max_body_size", "64m", TOKEN, NULL, NULL},
    {"nginx_admin_client_body_buffer_size", "10m", TOKEN, NULL, NULL},
    {"nginx_events_worker_connections", "auto", COUNT, NULL, NULL},
    {"node_id", NULL, TEXT, NULL, NULL},
};
#define N_PROPERTIES (sizeof(properties) / sizeof(properties[0]))

typedef struct {
    const char *value;
    const char *origin; /* NULL: the default */
    bool from_file;     /* of the settings file, which is read again */
} setting_t;

typedef struct injected_s {
    struct injected_s *next;
    const char *block, *directive, *value;
    bool from_file;
} injected_t;

struct settings_s {
    sl_arena_t arena;
    setting_t values[N_PROPERTIES];
    injected_t *injected;
    const char *file; /* that was named; NULL: none */
    bool in_file;     /* while the settings file is read */
    void (*warn)(const char *line);
};

static const char *const blocks[] = {"main", "events", "http", "upstream", "proxy", "location", "admin", "status", "wasm"};

static size_t find(const char *name) {
    for (size_t i = 0; i < N_PROPERTIES; i++) {
        if (strcmp(properties[i].name, name) == 0 || (properties[i].alias != NULL && strcmp(properties[i].alias, name) == 0)) {
            return i;
        }
    }
    return N_PROPERTIES;
}

static void warnf(const settings_t *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void warnf(const settings_t *s, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (s->warn != NULL) {
        s->warn(line);
    }
}

static bool in_list(const char *list, const char *value) {
    size_t len = strlen(value);
    for (const char *p = list; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, value, len) == 0 && (p[len] == ',' || p[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static bool is_on(const char *value) {
    return strcmp(value, "on") == 0 || strcmp(value, "true") == 0;
}

static bool is_number(const char *value) {
    return value[0] != '\0' && value[strspn(value, "0123456789")] == '\0' && strlen(value) <= 9;
}

static const sl_filter_opt_t *option_of(const property_t *p) {
    return sl_filter_opt_find(sl_cstr(p->name + strlen("wasm_")));
}

static sl_status_t check_option(const property_t *p, const char *value, const char *origin, sl_err_t *err) {
    sl_filter_opts_t opts;
    sl_arena_t arena;
    sl_filter_opts_init(&opts);
    sl_arena_init(&arena, 1024, 65536);
    sl_status_t rc = sl_filter_opts_set(&opts, option_of(p), sl_cstr(value), &arena, err);
    sl_arena_deinit(&arena);
    if (rc != SL_OK) {
        sl_err_prefix(err, "%s: %s has an invalid value: ", origin, p->name);
    }
    return rc;
}

/* "a,b" as people write lists: "a, b". */
static const char *spaced(const char *list, char *out, size_t size) {
    size_t n = 0;
    for (const char *p = list; *p != '\0' && n + 3 < size; p++) {
        out[n++] = *p;
        if (*p == ',') {
            out[n++] = ' ';
        }
    }
    out[n] = '\0';
    return out;
}

static sl_status_t check_enum(const property_t *p, const char *value, const char *origin, sl_err_t *err) {
    char list[512];
    const char *why = settings_kong_refusal(p->name, value);
    if (in_list(p->values, value)) {
        return SL_OK;
    }
    return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (%s)%s%s", origin, p->name, value,
                      spaced(p->values, list, sizeof(list)), why != NULL ? ": " : "", why != NULL ? why : "");
}

static sl_status_t check_headers(const property_t *p, const char *value, const char *origin, sl_err_t *err) {
    char word[64], list[512];
    for (const char *at = value + strspn(value, ", \t"); *at != '\0'; at += strspn(at, ", \t")) {
        size_t len = strcspn(at, ", \t");
        for (size_t i = 0; i < len && i < sizeof(word); i++) {
            word[i] = (char)tolower((unsigned char)at[i]);
        }
        word[len < sizeof(word) ? len : 0] = '\0';
        if (!in_list(p->values, word) || word[0] == '\0') {
            return sl_err_set(err, SL_INVALID, "%s: %s: invalid entry '%.*s' (%s)", origin, p->name, (int)len, at,
                              spaced(p->values, list, sizeof(list)));
        }
        at += len;
    }
    return SL_OK;
}

static sl_status_t check_ports(const property_t *p, const char *value, const char *origin, sl_err_t *err) {
    settings_port_map_t map;
    for (const char *at = value; (at = settings_port_map_next(at, &map)) != NULL;) {
        if (map.listening == 0) {
            return sl_err_set(err, SL_INVALID,
                              "%s: %s: invalid port mapping '%.*s' (the port that clients see and the one of proxy_listen: "
                              "80:8000, 443:8443)",
                              origin, p->name, (int)map.len, map.text);
        }
    }
    return SL_OK;
}

static sl_status_t check_value(const property_t *p, const char *value, const char *origin, sl_err_t *err) {
    uint64_t bytes;
    if (!sl_utf8_valid(sl_cstr(value), NULL)) {
        return sl_err_set(err, SL_INVALID, "%s: %s: not valid UTF-8", origin, p->name);
    }
    for (const char *c = value; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c) && p->kind != SECRET) {
            return sl_err_set(err, SL_INVALID, "%s: %s: control characters are not allowed", origin, p->name);
        }
    }
    switch (p->kind) {
    case BOOL:
        if (!in_list("on,off,true,false", value)) {
            return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (on, off)", origin, p->name, value);
        }
        break;
    case NUMBER:
        if (!is_number(value)) {
            return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (a number)", origin, p->name, value);
        }
        break;
    case COUNT:
        if (strcmp(value, "auto") != 0 && (!is_number(value) || value[strspn(value, "0")] == '\0')) {
            return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (auto, or a number above 0)", origin, p->name, value);
        }
        break;
    case ENUM:
        return check_enum(p, value, origin, err);
    case HEADERS:
        return check_headers(p, value, origin, err);
    case PORTS:
        return check_ports(p, value, origin, err);
    case TOKEN:
        if (value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._- ")] != '\0') {
            return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (letters, digits, space and . _ -)", origin, p->name,
                              value);
        }
        break;
    case CIPHERS:
        if (value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+!@=:-")] != '\0') {
            return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (a list of ciphers as OpenSSL has it)", origin, p->name,
                              value);
        }
        break;
    case SIZE:
        if (!sl_size_parse(sl_cstr(value), &bytes) || bytes == 0 || bytes > INT32_MAX) {
            return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (a size such as 64k or 2m)", origin, p->name, value);
        }
        break;
    case MEMORY:
        if (strcmp(value, "off") != 0 && (!sl_size_parse(sl_cstr(value), &bytes) || bytes < 65536)) {
            return sl_err_set(err, SL_INVALID, "%s: %s has an invalid value: '%s' (off, or a size of at least 64k)", origin, p->name,
                              value);
        }
        break;
    case OPTION:
        return check_option(p, value, origin, err);
    case TEXT:
    case PATH:
    case SECRET:
        break;
    }
    return SL_OK;
}

/* Lists in the one form that needs no memory to read. */
static const char *kept_value(const property_t *p, const char *value, sl_arena_t *arena) {
    const sl_filter_opt_t *opt = option_of(p);
    char room[SL_FILTER_OPT_TEXT];
    sl_filter_opts_t opts;
    if (opt->kind != SL_OPT_LIST) {
        return value;
    }
    sl_filter_opts_init(&opts);
    bool good = sl_filter_opts_set(&opts, opt, sl_cstr(value), arena, NULL) == SL_OK;
    return good ? sl_arena_dup(arena, sl_filter_opts_text(&opts, opt, room)).data : NULL;
}

sl_status_t settings_override(settings_t *s, const char *name, const char *value, const char *origin, sl_err_t *err) {
    size_t i = find(name);
    if (i == N_PROPERTIES) {
        return sl_err_set(err, SL_NOT_FOUND, "%s: unknown property '%s'", origin, name);
    }
    sl_status_t rc = value[0] != '\0' ? check_value(&properties[i], value, origin, err) : SL_OK;
    if (rc != SL_OK) {
        return rc;
    }
    if (value[0] != '\0' && properties[i].kind == OPTION) {
        value = kept_value(&properties[i], value, &s->arena);
        if (value == NULL) {
            return sl_err_set(err, SL_NO_MEMORY, "out of memory");
        }
    }
    /* Empty means unset, as with Kong; what cannot be unset, such as a number, has its default then. */
    bool text = properties[i].kind == TEXT || properties[i].kind == SECRET || properties[i].kind == HEADERS || properties[i].kind == PORTS;
    s->values[i].value = value[0] != '\0' ? sl_arena_dup(&s->arena, sl_cstr(value)).data : text ? NULL : properties[i].fallback;
    s->values[i].origin = sl_arena_dup(&s->arena, sl_cstr(origin)).data;
    s->values[i].from_file = s->in_file;
    return SL_OK;
}

sl_status_t settings_filter_opts(const settings_t *s, sl_filter_opts_t *opts, sl_err_t *err) {
    sl_filter_opts_init(opts);
    sl_status_t rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < N_PROPERTIES; i++) {
        if (properties[i].kind == OPTION && s->values[i].value != NULL) {
            rc = sl_filter_opts_set(opts, option_of(&properties[i]), sl_cstr(s->values[i].value), NULL, err);
        }
    }
    return rc;
}

/* nginx_<block>_<directive>; false when the name is no such thing. */
static bool split_injected(const char *name, size_t *block, const char **directive) {
    if (strncmp(name, "nginx_", 6) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        size_t len = strlen(blocks[i]);
        if (strncmp(name + 6, blocks[i], len) == 0 && name[6 + len] == '_' && name[7 + len] != '\0') {
            *block = i;
            *directive = name + 7 + len;
            return true;
        }
    }
    return false;
}

/* What would run filters beside the chains of the gateway. */
static bool is_the_gateways(const char *block, const char *directive) {
    static const char *const names[] = {"wasm_call", "proxy_wasm", "proxy_wasm_request_headers_in_access", "resolver_add"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(directive, names[i]) == 0) {
            return true;
        }
    }
    return strcmp(block, "wasm") == 0 && strcmp(directive, "module") == 0;
}

static sl_status_t inject(settings_t *s, size_t block, const char *directive, const char *value, const char *origin, sl_err_t *err) {
    if (is_the_gateways(blocks[block], directive)) {
        return sl_err_set(err, SL_INVALID, "%s: filters of a gateway come from its configuration, '%s' cannot be added", origin, directive);
    }
    if (directive[strspn(directive, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0' || strpbrk(value, "{};\n\r") != NULL) {
        return sl_err_set(err, SL_INVALID, "%s: an nginx directive and its value must not hold { } ; or line ends", origin);
    }
    for (injected_t *i = s->injected; i != NULL; i = i->next) {
        if (strcmp(i->block, blocks[block]) == 0 && strcmp(i->directive, directive) == 0) {
            i->value = sl_arena_dup(&s->arena, sl_cstr(value)).data;
            i->from_file = s->in_file;
            return SL_OK;
        }
    }
    injected_t *i = sl_arena_zalloc(&s->arena, sizeof(*i));
    if (i == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    i->block = blocks[block];
    i->directive = sl_arena_dup(&s->arena, sl_cstr(directive)).data;
    i->value = sl_arena_dup(&s->arena, sl_cstr(value)).data;
    i->from_file = s->in_file;
    /* Sorted, so that the generated file does not depend on the order of the environment. */
    injected_t **at = &s->injected;
    while (*at != NULL && strcmp((*at)->directive, i->directive) < 0) {
        at = &(*at)->next;
    }
    i->next = *at;
    *at = i;
    return SL_OK;
}

static sl_status_t set_any(settings_t *s, const char *name, const char *value, const char *origin, bool known_only, sl_err_t *err) {
    if (find(name) != N_PROPERTIES) {
        return settings_override(s, name, value, origin, err);
    }
    size_t block;
    const char *directive;
    if (split_injected(name, &block, &directive)) {
        return inject(s, block, directive, value, origin, err);
    }
    if (strncmp(name, "pg_", 3) == 0) {
        return sl_err_set(err, SL_INVALID, "%s: PostgreSQL is not supported yet; leave it out to use the embedded store", origin);
    }
    if (known_only && !settings_kong_knows(name)) {
        return sl_err_set(err, SL_INVALID, "%s: unknown property '%s'", origin, name);
    }
    if (known_only) {
        warnf(s, "%s: '%s' is not known here and has no effect", origin, name);
    } else {
        warnf(s, "%s is not known and has no effect", origin);
    }
    return SL_OK;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */

static char *trim(char *p) {
    while (isspace((unsigned char)*p)) {
        p++;
    }
    char *end = p + strlen(p);
    while (end > p && isspace((unsigned char)end[-1])) {
        *--end = '\0';
    }
    return p;
}

/* name := "a JSON string": values with line ends, as settings_save writes them. */
static sl_status_t take_json(settings_t *s, const char *name, const char *text, const char *origin, sl_err_t *err) {
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    const char *string = json_string_value(value);
    sl_status_t rc = string != NULL ? set_any(s, name, string, origin, true, err)
                                    : sl_err_set(err, SL_INVALID, "%s: expected a JSON string after ':='", origin);
    json_decref(value);
    return rc;
}

static sl_status_t take_line(settings_t *s, const char *path, size_t number, char *line, sl_err_t *err) {
    /* '#' begins a comment; '\#' is a plain '#'. */
    for (char *p = line; *p != '\0'; p++) {
        if (p[0] == '\\' && p[1] == '#') {
            memmove(p, p + 1, strlen(p));
        } else if (*p == '#') {
            *p = '\0';
            break;
        }
    }
    line = trim(line);
    if (*line == '\0') {
        return SL_OK;
    }
    char origin[4200];
    snprintf(origin, sizeof(origin), "%s line %zu", path, number);
    char *eq = strchr(line, '=');
    if (eq == NULL) {
        return sl_err_set(err, SL_INVALID, "%s: expected 'name = value'", origin);
    }
    *eq = '\0';
    if (eq > line && eq[-1] == ':') {
        eq[-1] = '\0';
        return take_json(s, trim(line), trim(eq + 1), origin, err);
    }
    return set_any(s, trim(line), trim(eq + 1), origin, true, err);
}

static sl_status_t load_file(settings_t *s, const char *path, sl_err_t *err) {
    sl_buf_t text;
    sl_buf_init(&text, 64 * 1024 * 1024);
    sl_status_t rc = sl_file_read(path, &text, err);
    char *p = rc == SL_OK ? (char *)(uintptr_t)sl_buf_cstr(&text) : NULL;
    if (rc == SL_OK && (p == NULL || strlen(p) != text.len)) {
        rc = sl_err_set(err, SL_INVALID, "%s: not a text file", path);
    }
    for (size_t number = 1; rc == SL_OK && p != NULL; number++) {
        char *end = strchr(p, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        rc = take_line(s, path, number, p, err);
        p = end;
    }
    sl_buf_deinit(&text);
    return rc;
}

static const char *absolute(const char *path, char buf[8192]) {
    char cwd[4096];
    if (path[0] == '/' || getcwd(cwd, sizeof(cwd)) == NULL) {
        return path;
    }
    snprintf(buf, 8192, "%s/%s", cwd, path);
    return buf;
}

static sl_status_t load_files(settings_t *s, const char *file, sl_err_t *err) {
    if (file != NULL) {
        char buf[8192];
        s->file = sl_arena_dup(&s->arena, sl_cstr(absolute(file, buf))).data;
        return load_file(s, file, err);
    }
    static const char *const places[] = {"/etc/sluice/sluice.conf", "/etc/sluice.conf", "/etc/kong/kong.conf", "/etc/kong.conf"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (access(places[i], F_OK) == 0) {
            return load_file(s, places[i], err);
        }
    }
    return SL_OK;
}

/* ---- the environment ----------------------------------------------------------------------------------------------------- */

static bool lower_name(const char *variable, size_t len, char *out, size_t size) {
    if (len == 0 || len >= size) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        out[i] = (char)tolower((unsigned char)variable[i]);
    }
    out[len] = '\0';
    return true;
}

/* Whether SLUICE_<rest> is set too and says something else. */
static void warn_if_different(const settings_t *s, const char *rest, size_t len, const char *value) {
    char name[160];
    if (snprintf(name, sizeof(name), "SLUICE_%.*s", (int)len, rest) >= (int)sizeof(name)) {
        return;
    }
    const char *ours = getenv(name);
    if (ours != NULL && strcmp(ours, value) != 0) {
        warnf(s, "%s='%s' is used; KONG_%.*s='%s' differs and is ignored", name, ours, (int)len, rest, value);
    }
}

static sl_status_t load_env(settings_t *s, const char *family, sl_err_t *err) {
    size_t flen = strlen(family);
    for (char **e = environ; *e != NULL; e++) {
        char *eq = strchr(*e, '=');
        if (eq == NULL || strncmp(*e, family, flen) != 0) {
            continue;
        }
        size_t len = (size_t)(eq - *e) - flen;
        char name[128], origin[160];
        if (!lower_name(*e + flen, len, name, sizeof(name))) {
            continue;
        }
        snprintf(origin, sizeof(origin), "%.*s", (int)(eq - *e), *e);
        if (strcmp(family, "KONG_") == 0) {
            warn_if_different(s, *e + flen, len, eq + 1);
        }
        sl_status_t rc = set_any(s, name, eq + 1, origin, false, err);
        if (rc != SL_OK) {
            return rc;
        }
    }
    return SL_OK;
}

static sl_status_t load_all(settings_t *s, const char *file, const char *saved, sl_err_t *err) {
    s->in_file = true;
    sl_status_t rc = load_files(s, file, err);
    s->in_file = false;
    rc = rc == SL_OK && saved != NULL ? load_file(s, saved, err) : rc;
    rc = rc == SL_OK ? load_env(s, "KONG_", err) : rc;
    return rc == SL_OK ? load_env(s, "SLUICE_", err) : rc;
}

static sl_status_t load(const char *file, const char *saved, void (*warn)(const char *line), settings_t **out, sl_err_t *err) {
    settings_t *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    sl_arena_init(&s->arena, 16384, (size_t)256 * 1024 * 1024);
    s->warn = warn;
    for (size_t i = 0; i < N_PROPERTIES; i++) {
        s->values[i].value = properties[i].fallback;
    }
    sl_status_t rc = load_all(s, file, saved, err);
    if (rc != SL_OK) {
        settings_free(s);
        return rc;
    }
    *out = s;
    return SL_OK;
}

sl_status_t settings_load(const char *file, void (*warn)(const char *line), settings_t **out, sl_err_t *err) {
    return load(file, NULL, warn, out, err);
}

#define FILE_LINE "# settings file: "

sl_status_t settings_load_again(const char *saved, void (*warn)(const char *line), settings_t **out, sl_err_t *err) {
    char line[4200] = "";
    FILE *f = fopen(saved, "re");
    if (f != NULL) {
        if (fgets(line, sizeof(line), f) == NULL) {
            line[0] = '\0';
        }
        fclose(f);
    }
    line[strcspn(line, "\n")] = '\0';
    bool named = strncmp(line, FILE_LINE, strlen(FILE_LINE)) == 0;
    return load(named ? line + strlen(FILE_LINE) : NULL, saved, warn, out, err);
}

void settings_free(settings_t *s) {
    if (s != NULL) {
        sl_arena_deinit(&s->arena);
        free(s);
    }
}

const char *settings_get(const settings_t *s, const char *name) {
    size_t i = find(name);
    return i < N_PROPERTIES ? s->values[i].value : NULL;
}

bool settings_on(const settings_t *s, const char *name) {
    const char *value = settings_get(s, name);
    return value != NULL && is_on(value);
}

const char *settings_origin(const settings_t *s, const char *name) {
    size_t i = find(name);
    return i < N_PROPERTIES && s->values[i].origin != NULL ? s->values[i].origin : "the default";
}

bool settings_is_default(const settings_t *s, const char *name) {
    size_t i = find(name);
    return i < N_PROPERTIES && s->values[i].origin == NULL;
}

void settings_injected(const settings_t *s, const char *block, void (*each)(void *ud, const char *directive, const char *value), void *ud) {
    for (const injected_t *i = s->injected; i != NULL; i = i->next) {
        if (strcmp(i->block, block) == 0) {
            each(ud, i->directive, i->value);
        }
    }
}

static void save_text(sl_buf_t *b, const char *value) {
    sl_buf_append_cstr(b, " = ");
    for (const char *p = value; *p != '\0'; p++) {
        sl_buf_append_cstr(b, *p == '#' ? "\\" : "");
        sl_buf_append_char(b, *p);
    }
    sl_buf_append_char(b, '\n');
}

/* On one line, and without a '#', which would begin a comment. */
static void save_lines(sl_buf_t *b, const char *value) {
    json_t *string = json_string_nocheck(value);
    char *text = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    sl_buf_append_cstr(b, " := ");
    for (const char *p = text; p != NULL && *p != '\0'; p++) {
        if (*p == '#') {
            sl_buf_append_cstr(b, "\\u0023");
        } else {
            sl_buf_append_char(b, *p);
        }
    }
    sl_buf_append_char(b, '\n');
    b->failed = b->failed || text == NULL;
    free(text);
    json_decref(string);
}

static void save_value(sl_buf_t *b, const property_t *p, const char *value) {
    char buf[8192];
    sl_buf_append_cstr(b, p->name);
    value = p->kind == PATH ? absolute(value, buf) : value;
    if (strpbrk(value, "\r\n") != NULL) {
        save_lines(b, value);
    } else {
        save_text(b, value);
    }
}

sl_status_t settings_save(const settings_t *s, const char *path, sl_err_t *err) {
    sl_buf_t b;
    sl_buf_init(&b, 64 * 1024 * 1024);
    if (s->file != NULL) {
        sl_buf_printf(&b, FILE_LINE "%s\n", s->file);
    }
    for (size_t i = 0; i < N_PROPERTIES; i++) {
        if (s->values[i].origin != NULL && s->values[i].value != NULL && !s->values[i].from_file) {
            save_value(&b, &properties[i], s->values[i].value);
        }
    }
    for (const injected_t *i = s->injected; i != NULL; i = i->next) {
        if (!i->from_file) {
            sl_buf_printf(&b, "nginx_%s_%s", i->block, i->directive);
            save_text(&b, i->value);
        }
    }
    sl_status_t rc = b.failed ? sl_err_set(err, SL_FAILED, "%s: out of memory, or a setting is not UTF-8", path)
                              : sl_file_write_atomic(path, sl_buf_str(&b), 0600, err);
    sl_buf_deinit(&b);
    return rc;
}

json_t *settings_json(const settings_t *s) {
    json_t *o = json_object();
    for (size_t i = 0; o != NULL && i < N_PROPERTIES; i++) {
        const property_t *p = &properties[i];
        const char *v = s->values[i].value;
        json_t *j = v == NULL           ? json_null()
                    : p->kind == SECRET ? json_string("******")
                    : p->kind == BOOL   ? json_boolean(is_on(v))
                    : p->kind == NUMBER ? json_integer(strtol(v, NULL, 10))
                                        : json_string(v);
        if (j == NULL || json_object_set_new(o, p->name, j) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}
