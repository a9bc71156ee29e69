/*
 * Everything between the settings and nginx: folders under the prefix, the declarative file into a plan, the files that the
 * generated nginx.conf needs.
 *
 *   <prefix>/nginx.conf, sluice.json, .sluice_env, ssl/        written by whoever runs the CLI
 *   <prefix>/logs/, pids/, tmp/                                 nginx
 *   <prefix>/state/{plan,cache/,sluice.db}                      the worker user, mode 0700
 *   <prefix>/sluice.db                                          a link to state/sluice.db
 *
 * When the CLI is root, whatever reads compiled code or writes under state/ runs in a child with the worker user's rights.
 */
#ifndef PREPARE_H
#define PREPARE_H

#include <sys/types.h>

#include "listen.h"
#include "nd_config.h"
#include "settings.h"

typedef struct {
    char prefix[4096];
    char nginx[4096];  /* binary */
    char module[4096]; /* our dynamic module */
    char user[128];    /* "nobody nogroup"; empty when not root */
    uid_t uid;
    gid_t gid;
    char node_id[37];
    listens_t proxy, admin, status;
    bool draft; /* files are written beside those in use, for a try */
} prepared_t;

/* Finds and checks what a start needs: binary, module, user, listen values, database mode. Changes nothing. */
sl_status_t prepare_check(const settings_t *s, prepared_t *p, sl_err_t *err);
/*
 * Folders, node id, certificates, plan, nginx.conf, sluice.json. Problems of the declarative file are printed line by line, but for
 * the last one, which is in err; err->text is empty when all have been printed.
 */
sl_status_t prepare_prefix(const settings_t *s, prepared_t *p, sl_err_t *err);
/* The same under a running gateway: nothing of it is touched before nginx and the filters have accepted the new settings. */
sl_status_t prepare_reload(const settings_t *s, prepared_t *p, sl_err_t *err);

/* Validates a declarative file and tries its filters; writes nothing. */
sl_status_t prepare_check_file(const settings_t *s, const char *path, sl_err_t *err);

/* Whether the embedded store is what is served: it was asked for, or nothing was. */
bool prepare_has_store(const settings_t *s);
/* For commands on the store: prefix, user and folders. SL_INVALID: the database is off. */
sl_status_t prepare_for_store(const settings_t *s, prepared_t *p, sl_err_t *err);
/* The same for commands that only look: makes no folders, and the database may be off. */
sl_status_t prepare_for_reading(const settings_t *s, prepared_t *p, sl_err_t *err);
/* Runs fn with the worker user's rights, as root in a child. err->text is empty when the child has printed why. */
sl_status_t prepare_as_worker(const prepared_t *p, sl_status_t (*fn)(void *ud, sl_err_t *err), void *ud, sl_err_t *err);
/* The parts of a node that settings describe, without a cache. `modules`: the folder of nd_modules.h, NULL: none. To be closed also after a
 * failure. */
sl_status_t prepare_node_open(const settings_t *s, const char *modules, nd_node_t *node, sl_err_t *err);
/* Adds the uploads of a store. */
sl_status_t prepare_node_uploads(nd_node_t *node, st_store_t *store, sl_err_t *err);
/* The same from the store of a prefix, where there is one; `path` keeps its path. */
sl_status_t prepare_node_uploads_of(nd_node_t *node, const char *prefix, char path[4200], sl_err_t *err);
void prepare_node_close(nd_node_t *node);
/* Validates a document and tries its filters; *entities (the caller's) only on SL_OK. Problems are printed as by prepare_prefix. */
sl_status_t prepare_check_text(const nd_node_t *node, const char *name, sl_str_t text, json_t **entities, sl_err_t *err);

/* Without trying filters. */
sl_status_t prepare_validate_text(const nd_node_t *node, const char *name, sl_str_t text, json_t **entities, sl_err_t *err);

/* ---- prepare_store.c ---- */

#define PREPARE_STORE "state/sluice.db"

/* All that the store has, as the worker user. *entities is the caller's. */
sl_status_t prepare_load_store(const prepared_t *p, json_t **entities, sl_err_t *err);
/* Makes <prefix>/sluice.db point to the store. */
sl_status_t prepare_link_store(const prepared_t *p, sl_err_t *err);
/* As the worker user: opens the store, makes it if there is none, tries its filters and writes the plan. A store that cannot be read is a
 * warning while there is a plan of it; that plan stays. */
sl_status_t prepare_plan_from_store(nd_node_t *node, const prepared_t *p, sl_err_t *err);

/* Renders nginx.conf (nginx_conf.c). */
sl_status_t nginx_conf_render(const settings_t *s, const prepared_t *p, sl_buf_t *out, sl_err_t *err);

#endif
