/* Documents and the store: a sample, a check, import and export. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "gw_schema.h"
#include "nd_publish.h"
#include "prepare.h"
#include "sl_file.h"

#define DOCUMENT_MAX ((size_t)256 * 1024 * 1024)
#define DEFAULT_FILE "kong.yml"

static const char sample[] = "# A declarative configuration. Serve it with SLUICE_DECLARATIVE_CONFIG=<this file>, or import it: sluice "
                             "config db_import <this file>\n"
                             "_format_version: \"3.0\"\n"
                             "_transform: true\n"
                             "\n"
                             "# services:\n"
                             "# - name: example\n"
                             "#   url: http://127.0.0.1:9000\n"
                             "#   routes:\n"
                             "#   - name: everything\n"
                             "#     paths: [/]\n"
                             "#   filter_chains:\n"
                             "#   - filters:\n"
                             "#     - name: my-filter\n"
                             "#       config: '{}'\n"
                             "#\n"
                             "# consumers:\n"
                             "# - username: somebody\n"
                             "#\n"
                             "# upstreams:\n"
                             "# - name: pool.internal\n"
                             "#   targets:\n"
                             "#   - {target: \"127.0.0.1:9001\", weight: 100}\n"
                             "#   - {target: \"127.0.0.1:9002\", weight: 100}\n";

/* ---- files that must not exist yet ------------------------------------------------------------------------------------- */

static int create_file(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
        cli_fail("%s already exists.\nWill not overwrite it.", path);
    } else if (fd < 0) {
        cli_fail("%s: %s", path, strerror(errno));
    }
    return fd;
}

static sl_status_t write_all(int fd, sl_str_t text, sl_err_t *err) {
    while (text.len > 0) {
        ssize_t n = write(fd, text.data, text.len);
        if (n < 0 && errno != EINTR) {
            return sl_err_set(err, SL_IO, "cannot write the file: %s", strerror(errno));
        }
        n = n > 0 ? n : 0;
        text = sl_str(text.data + n, text.len - (size_t)n);
    }
    return fsync(fd) == 0 ? SL_OK : sl_err_set(err, SL_IO, "cannot write the file: %s", strerror(errno));
}

static int init(const char *path) {
    sl_err_t err;
    int fd = create_file(path);
    if (fd < 0) {
        return 1;
    }
    sl_status_t rc = write_all(fd, SL_STR(sample), &err);
    close(fd);
    return rc == SL_OK ? 0 : cli_fail_err(&err);
}

/* ---- parse ---------------------------------------------------------------------------------------------------------------- */

static int parse(const settings_t *s, const char *path) {
    sl_err_t err = {.text = ""};
    if (prepare_check_file(s, path, &err) != SL_OK) {
        return cli_fail_err(&err);
    }
    puts("parse successful");
    return 0;
}

/* ---- import --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const settings_t *s;
    const prepared_t *p;
    const char *path;
    sl_str_t text; /* import */
    int fd;        /* export */
} job_t;

static sl_status_t open_store(const prepared_t *p, st_store_t **store, sl_err_t *err) {
    char path[4200];
    snprintf(path, sizeof(path), "%s/" PREPARE_STORE, p->prefix);
    st_conf_t conf = {.path = path, .busy_timeout_ms = 30000};
    return st_store_open(&conf, store, err);
}

static const char *label_of(const gw_entity_t *kind, const json_t *entity) {
    const char *key = kind->endpoint_key != NULL ? json_string_value(json_object_get(entity, kind->endpoint_key)) : NULL;
    return key != NULL ? key : json_string_value(json_object_get(entity, "id"));
}

/* How far it is, on a terminal or wherever errors go, when it takes long: a line for every second. */
typedef struct {
    size_t done, all;
    time_t said;
} progress_t;

static void progress_step(progress_t *p) {
    p->done++;
    if (p->done % 256 == 0 && time(NULL) > p->said) {
        p->said = time(NULL);
        fprintf(stderr, "%zu of %zu entities\n", p->done, p->all);
    }
}

static size_t count_all(const json_t *entities) {
    size_t n = 0;
    for (const gw_entity_t *kind = gw_entities; kind->name != NULL; kind++) {
        n += json_object_size(json_object_get(entities, kind->name));
    }
    return n;
}

static sl_status_t put_collection(progress_t *progress, st_tx_t *tx, const gw_entity_t *kind, const json_t *collection, sl_err_t *err) {
    const char *id;
    json_t *entity;
    json_object_foreach((json_t *)(uintptr_t)collection, id, entity) {
        sl_status_t rc = st_tx_put(tx, sl_cstr(kind->name), entity, err);
        if (rc != SL_OK) {
            sl_err_prefix(err, "%s '%s': ", kind->name, label_of(kind, entity));
            return rc;
        }
        progress_step(progress);
    }
    return SL_OK;
}

static sl_status_t put_all(st_store_t *store, const json_t *entities, sl_err_t *err) {
    st_tx_t *tx;
    progress_t progress = {.all = count_all(entities), .said = time(NULL)};
    sl_status_t rc = st_tx_begin(store, ST_WRITE, ST_ANY_REVISION, &tx, err);
    if (rc != SL_OK) {
        return rc;
    }
    for (const gw_entity_t *kind = gw_entities; rc == SL_OK && kind->name != NULL; kind++) {
        rc = put_collection(&progress, tx, kind, json_object_get(entities, kind->name), err);
    }
    if (rc != SL_OK) {
        st_tx_rollback(tx);
        return rc;
    }
    return st_tx_commit(tx, NULL, err);
}

static sl_status_t import(void *ud, sl_err_t *err) {
    const job_t *job = ud;
    st_store_t *store = NULL;
    json_t *entities = NULL;
    nd_node_t node;
    char path[4200];
    snprintf(path, sizeof(path), "%s/" PREPARE_STORE, job->p->prefix);
    sl_status_t rc = prepare_node_open(job->s, NULL, &node, err);
    node.store_path = path;
    rc = rc == SL_OK ? open_store(job->p, &store, err) : rc;
    rc = rc == SL_OK ? prepare_node_uploads(&node, store, err) : rc;
    rc = rc == SL_OK ? prepare_check_text(&node, job->path, job->text, &entities, err) : rc;
    if (rc == SL_OK) {
        puts("parse successful, beginning import");
        fflush(stdout);
    }
    rc = rc == SL_OK ? put_all(store, entities, err) : rc;
    if (rc == SL_OK) {
        puts("import successful");
    }
    st_store_close(store);
    json_decref(entities);
    prepare_node_close(&node);
    return rc;
}

static int db_import(const settings_t *s, const prepared_t *p, const char *path) {
    sl_err_t err = {.text = ""};
    sl_buf_t text;
    sl_buf_init(&text, DOCUMENT_MAX);
    sl_status_t rc = sl_file_read(path, &text, &err);
    job_t job = {.s = s, .p = p, .path = path, .text = sl_buf_str(&text)};
    rc = rc == SL_OK ? prepare_as_worker(p, import, &job, &err) : rc;
    sl_buf_deinit(&text);
    return rc == SL_OK ? 0 : cli_fail_err(&err);
}

/* ---- export --------------------------------------------------------------------------------------------------------------- */

static sl_status_t load(st_store_t *store, json_t **entities, sl_err_t *err) {
    st_tx_t *tx;
    sl_status_t rc = st_tx_begin(store, ST_READ, ST_ANY_REVISION, &tx, err);
    if (rc == SL_OK) {
        rc = st_tx_load(tx, entities, err);
        st_tx_rollback(tx);
    }
    return rc;
}

static sl_status_t export(void *ud, sl_err_t *err) {
    const job_t *job = ud;
    st_store_t *store = NULL;
    json_t *entities = NULL;
    sl_buf_t yaml;
    sl_buf_init(&yaml, 4 * DOCUMENT_MAX);
    sl_status_t rc = open_store(job->p, &store, err);
    rc = rc == SL_OK ? load(store, &entities, err) : rc;
    if (rc == SL_OK && gw_config_export(entities, &yaml) != SL_OK) {
        rc = sl_err_set(err, SL_NO_MEMORY, "out of memory");
    }
    rc = rc == SL_OK ? write_all(job->fd, sl_buf_str(&yaml), err) : rc;
    json_decref(entities);
    st_store_close(store);
    sl_buf_deinit(&yaml);
    return rc;
}

static int db_export(const settings_t *s, const prepared_t *p, const char *path) {
    sl_err_t err = {.text = ""};
    job_t job = {.s = s, .p = p, .path = path, .fd = create_file(path)};
    if (job.fd < 0) {
        return 1;
    }
    sl_status_t rc = prepare_as_worker(p, export, &job, &err);
    close(job.fd);
    if (rc != SL_OK) {
        unlink(path);
        return cli_fail_err(&err);
    }
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------------------------------------ */

static int run_on_store(const settings_t *s, const char *path, int (*run)(const settings_t *s, const prepared_t *p, const char *path)) {
    static prepared_t p;
    sl_err_t err = {.text = ""};
    return prepare_for_store(s, &p, &err) == SL_OK ? run(s, &p, path) : cli_fail_err(&err);
}

static int wrong_usage(void) {
    fputs("Usage: sluice config init [FILE] | parse FILE | db_import FILE | db_export [FILE] | diff FILE\n", stderr);
    return 2;
}

int cmd_config(const cli_options_t *o) {
    const char *what = o->n_args > 0 ? o->args[0] : "", *path = o->n_args > 1 ? o->args[1] : NULL;
    bool is_diff = strcmp(what, "diff") == 0, needs_file = is_diff || strcmp(what, "parse") == 0 || strcmp(what, "db_import") == 0;
    settings_t *s;
    if (o->n_args > 2 || (needs_file && path == NULL)) {
        return wrong_usage();
    }
    path = path != NULL ? path : DEFAULT_FILE;
    if (strcmp(what, "init") == 0) {
        return init(path);
    }
    if (!needs_file && strcmp(what, "db_export") != 0) {
        return wrong_usage();
    }
    if (cli_running_settings(o, &s) != SL_OK) {
        return 1;
    }
    int code = is_diff                      ? cmd_config_diff(s, path)
               : strcmp(what, "parse") == 0 ? parse(s, path)
                                            : run_on_store(s, path, needs_file ? db_import : db_export);
    settings_free(s);
    return code;
}
