#include "prepare.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "problems.h"
#include "selfsigned.h"
#include "sl_digest.h"
#include "settings_kong.h"
#include "sl_file.h"

#define DRAFT ".draft"
#define NO_CONFIGURATION "_format_version: '3.0'\n"
#define DECLARATIVE_MAX_BYTES ((size_t)256 * 1024 * 1024)

/* ---- what a start needs ------------------------------------------------------------------------------------------------ */

static sl_status_t find_nginx(const settings_t *s, prepared_t *p, sl_err_t *err) {
    const char *given = settings_get(s, "nginx_binary");
    if (given != NULL) {
        snprintf(p->nginx, sizeof(p->nginx), "%s", given);
        return access(p->nginx, X_OK) == 0
                   ? SL_OK
                   : sl_err_set(err, SL_NOT_FOUND, "%s: '%s' is not executable", settings_origin(s, "nginx_binary"), given);
    }
    static const char *const places[] = {"/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx", "/usr/bin/nginx"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (access(places[i], X_OK) == 0) {
            snprintf(p->nginx, sizeof(p->nginx), "%s", places[i]);
            return SL_OK;
        }
    }
    return sl_err_set(err, SL_NOT_FOUND, "nginx is not installed; install it (Debian: apt-get install nginx) or set SLUICE_NGINX_BINARY");
}

static sl_status_t find_module(const settings_t *s, prepared_t *p, sl_err_t *err) {
    const char *given = settings_get(s, "wasm_dynamic_module");
    if (given != NULL) {
        snprintf(p->module, sizeof(p->module), "%s", given);
        return access(p->module, R_OK) == 0
                   ? SL_OK
                   : sl_err_set(err, SL_NOT_FOUND, "%s: '%s' cannot be read", settings_origin(s, "wasm_dynamic_module"), given);
    }
    char exe[2048];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    exe[n < 0 ? 0 : n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    static const char *const folders[] = {"modules", "lib/sluice"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/../%s/ngx_http_sluice_module.so", exe, folders[i]);
        char *real = realpath(path, NULL);
        if (real != NULL) {
            snprintf(p->module, sizeof(p->module), "%s", real);
            free(real);
            return SL_OK;
        }
    }
    return sl_err_set(err, SL_NOT_FOUND,
                      "ngx_http_sluice_module dynamic module shared object not found; set SLUICE_WASM_DYNAMIC_MODULE to its path");
}

/* The user that workers run as; only root can choose one. */
static sl_status_t find_user(const settings_t *s, prepared_t *p, sl_err_t *err) {
    p->user[0] = '\0';
    p->uid = geteuid();
    p->gid = getegid();
    if (p->uid != 0) {
        return SL_OK;
    }
    const char *given = settings_get(s, "nginx_main_user");
    char name[64], group[64] = "";
    sscanf(given != NULL ? given : "nobody", "%63s %63s", name, group);
    struct passwd *pw = getpwnam(name);
    if (pw == NULL) {
        return sl_err_set(err, SL_NOT_FOUND, "user '%s' does not exist; set SLUICE_NGINX_USER to the user that workers shall run as", name);
    }
    p->uid = pw->pw_uid;
    p->gid = pw->pw_gid;
    struct group *gr = group[0] != '\0' ? getgrnam(group) : getgrgid(pw->pw_gid);
    if (gr == NULL) {
        return sl_err_set(err, SL_NOT_FOUND, "group '%s' does not exist; set SLUICE_NGINX_USER to \"<user> <group>\"", group);
    }
    p->gid = gr->gr_gid;
    snprintf(p->user, sizeof(p->user), "%s %s", name, gr->gr_name);
    return SL_OK;
}

static bool has_document(const settings_t *s) {
    return settings_get(s, "declarative_config") != NULL || settings_get(s, "declarative_config_string") != NULL;
}

bool prepare_has_store(const settings_t *s) {
    const char *db = settings_get(s, "database");
    return db != NULL ? strcmp(db, "sqlite") == 0 : !has_document(s);
}

static sl_status_t make_folders(const prepared_t *p, sl_err_t *err);

static sl_status_t check_database(const settings_t *s, sl_err_t *err) {
    const char *db = settings_get(s, "database");
    if (db != NULL && strcmp(db, "postgres") == 0) {
        return sl_err_set(err, SL_INVALID, "%s: database 'postgres' is not supported yet; set SLUICE_DATABASE=sqlite, or leave it out",
                          settings_origin(s, "database"));
    }
    if (db != NULL && strcmp(db, "sqlite") == 0 && has_document(s)) {
        return sl_err_set(err, SL_INVALID,
                          "%s: a declarative file is not served with database 'sqlite'; import it with `sluice config db_import FILE`, or "
                          "set SLUICE_DATABASE=off",
                          settings_origin(s, "declarative_config"));
    }
    return SL_OK;
}

sl_status_t prepare_for_store(const settings_t *s, prepared_t *p, sl_err_t *err) {
    memset(p, 0, sizeof(*p));
    sl_status_t rc = cli_prefix(s, p->prefix, err);
    rc = rc == SL_OK ? check_database(s, err) : rc;
    if (rc == SL_OK && !prepare_has_store(s)) {
        rc = sl_err_set(err, SL_INVALID,
                        "there is no database: it is off; leave SLUICE_DATABASE and SLUICE_DECLARATIVE_CONFIG unset, or set "
                        "SLUICE_DATABASE=sqlite");
    }
    rc = rc == SL_OK ? find_user(s, p, err) : rc;
    return rc == SL_OK ? make_folders(p, err) : rc;
}

sl_status_t prepare_for_reading(const settings_t *s, prepared_t *p, sl_err_t *err) {
    memset(p, 0, sizeof(*p));
    sl_status_t rc = cli_prefix(s, p->prefix, err);
    rc = rc == SL_OK ? check_database(s, err) : rc;
    return rc == SL_OK ? find_user(s, p, err) : rc;
}

static sl_status_t check_status_listen(const settings_t *s, prepared_t *p, sl_err_t *err) {
    const char *origin = settings_origin(s, "status_listen");
    sl_status_t rc = listens_parse(settings_get(s, "status_listen"), origin, &p->status, err);
    rc = rc == SL_OK ? listens_distinct(&p->status, origin, &p->proxy, "proxy_listen", err) : rc;
    return rc == SL_OK ? listens_distinct(&p->status, origin, &p->admin, "admin_listen", err) : rc;
}

/* A certificate can only be asked for where there is TLS: elsewhere only this machine may come in. */
static sl_status_t check_client_ca(const settings_t *s, const prepared_t *p, sl_err_t *err) {
    const char *ca = settings_get(s, "admin_ssl_client_ca"), *origin = settings_origin(s, "admin_ssl_client_ca");
    if (ca == NULL) {
        return SL_OK;
    }
    if (access(ca, R_OK) != 0) {
        return sl_err_set(err, SL_NOT_FOUND, "%s: '%s' cannot be read: %s", origin, ca, strerror(errno));
    }
    for (size_t i = 0; i < p->admin.n; i++) {
        const listen_t *l = &p->admin.at[i];
        bool local = strncmp(l->address, "127.", 4) == 0 || strncmp(l->address, "[::1]:", 6) == 0 || strncmp(l->address, "unix:", 5) == 0;
        if (!l->ssl && !local) {
            return sl_err_set(err, SL_INVALID,
                              "%s: %s in admin_listen is without TLS, so that no certificate can be asked for there; add ssl to it", origin,
                              l->address);
        }
    }
    return SL_OK;
}

static size_t count_entries(const char *list) {
    size_t n = 0;
    for (const char *at = list; at != NULL && *at != '\0'; n++) {
        at = strchr(at, ',');
        at = at != NULL ? at + 1 : NULL;
    }
    return n;
}

/* Certificates and keys are lists of the same length. */
static sl_status_t check_pairs(const settings_t *s, sl_err_t *err) {
    static const char *const names[] = {"ssl_cert", "admin_ssl_cert", "status_ssl_cert"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char key[64];
        snprintf(key, sizeof(key), "%s_key", names[i]);
        size_t certs = count_entries(settings_get(s, names[i])), keys = count_entries(settings_get(s, key));
        if (certs != keys) {
            return sl_err_set(err, SL_INVALID, "%s was specified %zu times while %s was specified %zu times", names[i], certs, key, keys);
        }
    }
    return SL_OK;
}

sl_status_t prepare_check(const settings_t *s, prepared_t *p, sl_err_t *err) {
    memset(p, 0, sizeof(*p));
    sl_status_t rc = cli_prefix(s, p->prefix, err);
    rc = rc == SL_OK ? check_database(s, err) : rc;
    rc = rc == SL_OK ? listens_parse(settings_get(s, "proxy_listen"), settings_origin(s, "proxy_listen"), &p->proxy, err) : rc;
    rc = rc == SL_OK ? listens_parse(settings_get(s, "admin_listen"), settings_origin(s, "admin_listen"), &p->admin, err) : rc;
    rc = rc == SL_OK ? listens_distinct(&p->proxy, settings_origin(s, "proxy_listen"), &p->admin, "admin_listen", err) : rc;
    rc = rc == SL_OK ? listens_distinct(&p->admin, settings_origin(s, "admin_listen"), &p->proxy, "proxy_listen", err) : rc;
    rc = rc == SL_OK ? check_status_listen(s, p, err) : rc;
    rc = rc == SL_OK ? check_client_ca(s, p, err) : rc;
    rc = rc == SL_OK ? check_pairs(s, err) : rc;
    rc = rc == SL_OK ? find_nginx(s, p, err) : rc;
    rc = rc == SL_OK ? find_module(s, p, err) : rc;
    return rc == SL_OK ? find_user(s, p, err) : rc;
}

/* ---- folders and small files ---------------------------------------------------------------------------------------------- */

static sl_status_t make_folder(const prepared_t *p, const char *name, unsigned mode, bool workers, sl_err_t *err) {
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s", p->prefix, name);
    sl_status_t rc = sl_dir_make(path, mode, err);
    if (rc == SL_OK && workers && geteuid() == 0 && (lchown(path, p->uid, p->gid) != 0 || chmod(path, (mode_t)mode) != 0)) {
        rc = sl_err_set(err, SL_IO, "%s: cannot give it to the worker user: %s", path, strerror(errno));
    }
    return rc;
}

static sl_status_t make_folders(const prepared_t *p, sl_err_t *err) {
    sl_status_t rc = sl_dir_make(p->prefix, 0755, err);
    if (rc != SL_OK) {
        sl_err_prefix(err, "prefix '%s': ", p->prefix);
        return rc;
    }
    if (access(p->prefix, W_OK) != 0) {
        return sl_err_set(err, SL_IO, "prefix '%s': no permission to write there; set SLUICE_PREFIX (or KONG_PREFIX) to another folder",
                          p->prefix);
    }
    rc = make_folder(p, "logs", 0755, false, err);
    rc = rc == SL_OK ? make_folder(p, "pids", 0755, false, err) : rc;
    rc = rc == SL_OK ? make_folder(p, "tmp", 0755, false, err) : rc;
    rc = rc == SL_OK ? make_folder(p, "ssl", 0700, false, err) : rc;
    return rc == SL_OK ? make_folder(p, "state", 0700, true, err) : rc;
}

static sl_status_t node_id(const settings_t *s, prepared_t *p, sl_err_t *err) {
    const char *given = settings_get(s, "node_id");
    if (given != NULL) {
        if (!sl_uuid_valid(sl_cstr(given))) {
            return sl_err_set(err, SL_INVALID, "%s: node_id must be a valid UUID", settings_origin(s, "node_id"));
        }
        snprintf(p->node_id, sizeof(p->node_id), "%s", given);
        return SL_OK;
    }
    char path[4200];
    snprintf(path, sizeof(path), "%s/node.id", p->prefix);
    sl_buf_t b;
    sl_buf_init(&b, 64);
    if (sl_file_read(path, &b, NULL) == SL_OK && b.len >= 36 && sl_uuid_valid(sl_str(b.data, 36))) {
        snprintf(p->node_id, sizeof(p->node_id), "%.36s", b.data);
        sl_buf_deinit(&b);
        return SL_OK;
    }
    sl_buf_deinit(&b);
    if (sl_uuid_v4(p->node_id) != SL_OK) {
        return sl_err_set(err, SL_FAILED, "no random numbers");
    }
    return sl_file_write_atomic(path, sl_str(p->node_id, 36), 0644, err);
}

static bool any_ssl(const listens_t *l) {
    for (size_t i = 0; i < l->n; i++) {
        if (l->at[i].ssl) {
            return true;
        }
    }
    return false;
}

static sl_status_t certificates(const settings_t *s, const prepared_t *p, sl_err_t *err) {
    bool needed = (any_ssl(&p->proxy) && settings_get(s, "ssl_cert") == NULL) ||
                  (any_ssl(&p->admin) && settings_get(s, "admin_ssl_cert") == NULL) ||
                  (any_ssl(&p->status) && settings_get(s, "status_ssl_cert") == NULL);
    if (!needed) {
        return SL_OK;
    }
    char cert[4200], key[4200];
    snprintf(cert, sizeof(cert), "%s/ssl/default.crt", p->prefix);
    snprintf(key, sizeof(key), "%s/ssl/default.key", p->prefix);
    return selfsigned_ensure(cert, key, err);
}

/* An absolute form of a path setting, relative to the folder the command was given in. */
static json_t *path_json(const char *path) {
    if (path == NULL) {
        return json_null();
    }
    char *real = realpath(path, NULL);
    json_t *j = json_string(real != NULL ? real : path);
    free(real);
    return j;
}

/* [listening, shown] of each entry. */
static json_t *port_maps_json(const settings_t *s) {
    const char *at = settings_get(s, "port_maps");
    json_t *list = json_array();
    settings_port_map_t map;
    while (at != NULL && (at = settings_port_map_next(at, &map)) != NULL) {
        json_array_append_new(list, json_pack("[i,i]", (int)map.listening, (int)map.shown));
    }
    return list;
}

static const char *or_off(const char *value) {
    return value != NULL ? value : "off";
}

static sl_status_t write_json(const settings_t *s, const prepared_t *p, sl_err_t *err) {
    char host[256] = "localhost", store[4200];
    snprintf(store, sizeof(store), "%s/state/sluice.db", p->prefix);
    gethostname(host, sizeof(host) - 1);
    json_t *o =
        json_pack("{s:b, s:b, s:s, s:s, s:s?, s:o, s:b, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:s, s:b, s:o, s:o}", "time_filters",
                  strcmp(settings_get(s, "proxy_access_log_format"), "json") == 0, "allow_debug_header",
                  settings_on(s, "allow_debug_header"), "metrics_memory", settings_get(s, "metrics_memory"), "prefix", p->prefix, "store",
                  prepare_has_store(s) ? store : NULL, "filters_path", path_json(settings_get(s, "wasm_filters_path")), "wasm",
                  settings_on(s, "wasm"), "wasm_filters", settings_get(s, "wasm_filters") != NULL ? settings_get(s, "wasm_filters") : "",
                  "router_flavor", settings_get(s, "router_flavor"), "node_id", p->node_id, "version", SLUICE_VERSION, "hostname", host,
                  "headers", or_off(settings_get(s, "headers")), "headers_upstream", or_off(settings_get(s, "headers_upstream")),
                  "trusted_ips", settings_get(s, "trusted_ips"), "error_default_type", settings_get(s, "error_default_type"),
                  "wasm_backtraces", settings_on(s, "wasm_backtraces"), "port_maps", port_maps_json(s), "configuration", settings_json(s));
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
    char path[4200];
    snprintf(path, sizeof(path), "%s/sluice.json%s", p->prefix, p->draft ? DRAFT : "");
    sl_status_t rc = text != NULL ? sl_file_write_atomic(path, sl_cstr(text), 0644, err)
                                  : sl_err_set(err, SL_FAILED, "sluice.json: out of memory, or a setting is not UTF-8");
    free(text);
    json_decref(o);
    return rc;
}

static sl_status_t write_conf(const settings_t *s, const prepared_t *p, sl_err_t *err) {
    sl_buf_t b;
    sl_buf_init(&b, 4 * 1024 * 1024);
    sl_status_t rc = nginx_conf_render(s, p, &b, err);
    if (rc == SL_OK) {
        char path[4200];
        snprintf(path, sizeof(path), "%s/nginx.conf%s", p->prefix, p->draft ? DRAFT : "");
        rc = sl_file_write_atomic(path, sl_buf_str(&b), 0644, err);
    }
    sl_buf_deinit(&b);
    return rc;
}

/* ---- the plan ---------------------------------------------------------------------------------------------------------------- */

static sl_status_t advise(sl_status_t rc, sl_err_t *err, const char *what) {
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof(err->text) - used, "; %s", what);
    return rc;
}

static sl_status_t read_declarative(const settings_t *s, sl_buf_t *text, const char **name, sl_err_t *err) {
    const char *path = settings_get(s, "declarative_config");
    const char *given = settings_get(s, "declarative_config_string");
    if (path != NULL) {
        *name = path;
        sl_status_t rc = sl_file_read(path, text, err);
        return rc == SL_OK ? rc : advise(rc, err, "set SLUICE_DECLARATIVE_CONFIG to a file that can be read");
    }
    *name = given != NULL ? "declarative_config_string" : "the empty configuration";
    return sl_buf_append_cstr(text, given != NULL ? given : NO_CONFIGURATION);
}

static void cache_note(void *ud, const char *text) {
    (void)ud;
    cli_warn(text);
}

static sl_status_t parse_and_validate(const nd_node_t *node, const char *name, sl_str_t text, json_t **doc, json_t **entities,
                                      sl_err_t *err) {
    sl_status_t rc = gw_document_parse(text, GW_TEXT_AUTO, NULL, doc, err);
    if (rc != SL_OK) {
        sl_err_prefix(err, "%s: ", name);
        return rc;
    }
    gw_validate_env_t env;
    nd_validate_env(node, &env);
    json_t *fields = NULL;
    rc = gw_config_validate(*doc, &env, entities, &fields);
    if (rc == SL_INVALID) {
        rc = problems_print(name, *doc, fields, node->filters, err);
    } else if (rc != SL_OK) {
        sl_err_set(err, rc, "%s: out of memory", name);
    }
    json_decref(fields);
    return rc;
}

sl_status_t prepare_validate_text(const nd_node_t *node, const char *name, sl_str_t text, json_t **entities, sl_err_t *err) {
    json_t *doc = NULL;
    *entities = NULL;
    sl_status_t rc = parse_and_validate(node, name, text, &doc, entities, err);
    json_decref(doc);
    return rc;
}

sl_status_t prepare_check_text(const nd_node_t *node, const char *name, sl_str_t text, json_t **entities, sl_err_t *err) {
    sl_status_t rc = prepare_validate_text(node, name, text, entities, err);
    if (rc == SL_OK) {
        rc = nd_config_try(node, *entities, err);
        if (rc != SL_OK) {
            sl_err_prefix(err, "%s: ", name);
            json_decref(*entities);
            *entities = NULL;
        }
    }
    return rc;
}

static sl_status_t build_plan(const nd_node_t *node, const char *name, sl_str_t text, sl_err_t *err) {
    json_t *entities = NULL;
    sl_status_t rc = prepare_check_text(node, name, text, &entities, err);
    if (rc != SL_OK) {
        return rc;
    }
    char hash[33];
    uint64_t generation = 1;
    snprintf(hash, sizeof(hash), "%032d", 0);
    rc = sl_str_eq(text, SL_STR(NO_CONFIGURATION)) ? SL_OK : sl_md5_hex(text, hash);
    rc = rc == SL_OK ? nd_plan_write(node, entities, sl_str(hash, 32), &generation, err) : sl_err_set(err, rc, "%s: out of memory", name);
    json_decref(entities);
    return rc;
}

sl_status_t prepare_node_open(const settings_t *s, const char *modules, nd_node_t *node, sl_err_t *err) {
    bool wasm = settings_on(s, "wasm");
    const char *choose = settings_get(s, "wasm_filters");
    *node = (nd_node_t){
        .wasm_enabled = wasm,
        .traditional = strcmp(settings_get(s, "router_flavor"), "traditional") == 0,
        .filters_path = wasm ? settings_get(s, "wasm_filters_path") : NULL,
        .filters_choose = sl_cstr(choose != NULL ? choose : ""),
        .modules = nd_modules_new(modules),
    };
    nd_filters_t *filters = NULL;
    sl_status_t rc = node->modules != NULL ? nd_filters_open(node, NULL, &filters, err) : sl_err_set(err, SL_NO_MEMORY, "out of memory");
    node->filters = filters;
    rc = rc == SL_OK ? settings_filter_opts(s, &node->opts, err) : rc;
    if (rc == SL_IO) {
        return advise(rc, err, "set SLUICE_WASM_FILTERS_PATH to the folder of the .wasm files");
    }
    sl_engine_conf_t engine_conf = {.name = NULL, .backtraces = settings_on(s, "wasm_backtraces")};
    return rc == SL_OK ? sl_engine_new(&engine_conf, &node->engine, err) : rc;
}

sl_status_t prepare_node_uploads(nd_node_t *node, st_store_t *store, sl_err_t *err) {
    st_tx_t *tx;
    nd_filters_t *filters;
    sl_status_t rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = nd_filters_open(node, tx, &filters, err);
    st_tx_rollback(tx);
    if (rc == SL_OK) {
        nd_filters_free((nd_filters_t *)(uintptr_t)node->filters);
        node->filters = filters;
    }
    return rc;
}

sl_status_t prepare_node_uploads_of(nd_node_t *node, const char *prefix, char path[4200], sl_err_t *err) {
    st_store_t *store;
    snprintf(path, 4200, "%s/" PREPARE_STORE, prefix);
    if (access(path, F_OK) != 0) {
        return SL_OK;
    }
    st_conf_t conf = {.path = path, .read_only = true, .busy_timeout_ms = 30000};
    sl_status_t rc = st_store_open(&conf, &store, err);
    if (rc == SL_OK) {
        node->store_path = path;
        rc = prepare_node_uploads(node, store, err);
        st_store_close(store);
    }
    return rc;
}

void prepare_node_close(nd_node_t *node) {
    sl_cache_free(node->cache);
    nd_modules_free(node->modules);
    sl_engine_free(node->engine);
    nd_filters_free((nd_filters_t *)(uintptr_t)node->filters);
}

typedef struct {
    const settings_t *s;
    const prepared_t *p;
    const char *name; /* of the document; NULL: what the store has */
    sl_str_t text;
} plan_job_t;

/* With the worker user's rights. */
static sl_status_t write_the_plan(void *ud, sl_err_t *err) {
    const plan_job_t *job = ud;
    char cache_dir[4200], plan_path[4200], modules[4200], store[4200];
    snprintf(cache_dir, sizeof(cache_dir), "%s/state/cache", job->p->prefix);
    snprintf(plan_path, sizeof(plan_path), "%s/state/plan", job->p->prefix);
    snprintf(modules, sizeof(modules), "%s/state/modules", job->p->prefix);
    snprintf(store, sizeof(store), "%s/" PREPARE_STORE, job->p->prefix);
    nd_node_t node;
    sl_status_t rc = prepare_node_open(job->s, modules, &node, err);
    if (rc == SL_OK) {
        node.plan_path = plan_path;
        node.store_path = job->name != NULL ? NULL : store;
        node.cache = sl_cache_new(cache_dir, cache_note, NULL);
        rc = job->name != NULL ? build_plan(&node, job->name, job->text, err) : prepare_plan_from_store(&node, job->p, err);
    }
    prepare_node_close(&node);
    return rc;
}

sl_status_t prepare_check_file(const settings_t *s, const char *path, sl_err_t *err) {
    nd_node_t node;
    sl_buf_t text;
    sl_buf_init(&text, DECLARATIVE_MAX_BYTES);
    json_t *entities = NULL;
    sl_status_t rc = sl_file_read(path, &text, err);
    if (rc == SL_OK) {
        rc = prepare_node_open(s, NULL, &node, err);
        rc = rc == SL_OK ? prepare_check_text(&node, path, sl_buf_str(&text), &entities, err) : rc;
        prepare_node_close(&node);
    }
    json_decref(entities);
    sl_buf_deinit(&text);
    return rc;
}

static int become_worker_and_run(const prepared_t *p, sl_status_t (*fn)(void *ud, sl_err_t *err), void *ud) {
    sl_err_t err = {.text = ""};
    if (setgroups(1, &p->gid) != 0 || setgid(p->gid) != 0 || setuid(p->uid) != 0) {
        return cli_fail("cannot become the worker user '%s': %s", p->user, strerror(errno));
    }
    umask(077);
    int code = fn(ud, &err) == SL_OK ? 0 : cli_fail_err(&err);
    fflush(NULL);
    return code;
}

sl_status_t prepare_as_worker(const prepared_t *p, sl_status_t (*fn)(void *ud, sl_err_t *err), void *ud, sl_err_t *err) {
    if (geteuid() != 0) {
        return fn(ud, err);
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(become_worker_and_run(p, fn, ud));
    }
    int status = 1;
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return sl_err_set(err, SL_FAILED, "cannot start a process: %s", strerror(errno));
    }
    if (WIFSIGNALED(status)) {
        return sl_err_set(err, SL_FAILED, "a process was ended by signal %d while it prepared the configuration", WTERMSIG(status));
    }
    /* The child has printed why. */
    return WEXITSTATUS(status) == 0 ? SL_OK : sl_err_set(err, SL_INVALID, "%s", "");
}

static sl_status_t prepare_plan(const settings_t *s, const prepared_t *p, sl_err_t *err) {
    sl_buf_t text;
    plan_job_t job = {.s = s, .p = p};
    sl_buf_init(&text, DECLARATIVE_MAX_BYTES);
    sl_status_t rc = prepare_has_store(s) ? prepare_link_store(p, err) : read_declarative(s, &text, &job.name, err);
    job.text = sl_buf_str(&text);
    rc = rc == SL_OK ? prepare_as_worker(p, write_the_plan, &job, err) : rc;
    sl_buf_deinit(&text);
    return rc;
}

static sl_status_t write_files(const settings_t *s, const prepared_t *p, sl_err_t *err) {
    sl_status_t rc = write_json(s, p, err);
    return rc == SL_OK ? write_conf(s, p, err) : rc;
}

static sl_status_t make_prefix(const settings_t *s, prepared_t *p, sl_err_t *err) {
    sl_status_t rc = make_folders(p, err);
    rc = rc == SL_OK ? node_id(s, p, err) : rc;
    return rc == SL_OK ? certificates(s, p, err) : rc;
}

static sl_status_t commit(const settings_t *s, const prepared_t *p, sl_err_t *err) {
    char env[4200];
    snprintf(env, sizeof(env), "%s/.sluice_env", p->prefix);
    sl_status_t rc = prepare_plan(s, p, err);
    rc = rc == SL_OK ? write_files(s, p, err) : rc;
    return rc == SL_OK ? settings_save(s, env, err) : rc;
}

sl_status_t prepare_prefix(const settings_t *s, prepared_t *p, sl_err_t *err) {
    sl_status_t rc = make_prefix(s, p, err);
    return rc == SL_OK ? commit(s, p, err) : rc;
}

/* ---- reload ------------------------------------------------------------------------------------------------------------------ */

/* Runs `nginx -t` on the drafts; what it says first becomes the error. */
static sl_status_t ask_nginx(const prepared_t *p, sl_err_t *err) {
    char conf[4200], line[1024] = "";
    int fds[2];
    snprintf(conf, sizeof(conf), "%s/nginx.conf" DRAFT, p->prefix);
    if (pipe(fds) != 0) {
        return sl_err_set(err, SL_FAILED, "cannot make a pipe: %s", strerror(errno));
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        execl(p->nginx, p->nginx, "-t", "-q", "-p", p->prefix, "-c", conf, "-e", "stderr", (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    FILE *said = fdopen(fds[0], "r");
    for (char text[1024]; said != NULL && fgets(text, sizeof(text), said) != NULL;) {
        text[strcspn(text, "\r\n")] = '\0';
        if (line[0] == '\0') {
            snprintf(line, sizeof(line), "%s", text);
        }
    }
    if (said != NULL) {
        fclose(said);
    }
    int status = 1;
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return sl_err_set(err, SL_FAILED, "cannot start %s: %s", p->nginx, strerror(errno));
    }
    return status == 0 ? SL_OK : sl_err_set(err, SL_INVALID, "nginx refuses the new settings: %s", line[0] != '\0' ? line : "it was ended");
}

static sl_status_t try_drafts(const settings_t *s, prepared_t *p, sl_err_t *err) {
    p->draft = true;
    sl_status_t rc = write_files(s, p, err);
    rc = rc == SL_OK ? ask_nginx(p, err) : rc;
    p->draft = false;
    static const char *const names[] = {"sluice.json" DRAFT, "nginx.conf" DRAFT};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[4200];
        snprintf(path, sizeof(path), "%s/%s", p->prefix, names[i]);
        unlink(path);
    }
    return rc;
}

/* Those listeners that the running gateway does not have must be free. */
static sl_status_t probe_new(const prepared_t *p, sl_err_t *err) {
    char path[4200];
    snprintf(path, sizeof(path), "%s/nginx.conf", p->prefix);
    sl_buf_t old;
    sl_buf_init(&old, 4 * 1024 * 1024);
    const char *text = sl_file_read(path, &old, NULL) == SL_OK ? sl_buf_cstr(&old) : NULL;
    sl_status_t rc = listens_probe(&p->proxy, "PROXY_LISTEN", text, p->prefix, err);
    rc = rc == SL_OK ? listens_probe(&p->admin, "ADMIN_LISTEN", text, p->prefix, err) : rc;
    rc = rc == SL_OK ? listens_probe(&p->status, "STATUS_LISTEN", text, p->prefix, err) : rc;
    sl_buf_deinit(&old);
    return rc;
}

sl_status_t prepare_reload(const settings_t *s, prepared_t *p, sl_err_t *err) {
    sl_status_t rc = probe_new(p, err);
    rc = rc == SL_OK ? make_prefix(s, p, err) : rc;
    rc = rc == SL_OK ? try_drafts(s, p, err) : rc;
    return rc == SL_OK ? commit(s, p, err) : rc;
}
