/*
 * trap_dumps of wasm{}: what a guest was when it trapped, as files (sl_dump.h). The guest's memory is copied in the event loop, since the
 * guest goes at once; a thread writes it.
 */
#include "ngx_sluice.h"

#include <ngx_event.h>
#if (NGX_THREADS)
#include <ngx_thread_pool.h>
#endif

#include <fcntl.h>
#include <sys/stat.h>

#include "sl_dump.h"
#include "sl_file.h"

#define DEFAULT_BYTES ((off_t)256 << 20)
#define DEFAULT_FILES 16
#define IN_FLIGHT_MAX 4 /* a disk that is slow must not fill the memory */

typedef struct {
    sl_dump_t *dump;
    sl_dumps_t where;
    char name[SL_DUMP_NAME];
    sl_status_t rc;
    sl_err_t err;
    ngx_pool_t *pool; /* of the task that this is part of */
} job_t;

static ngx_uint_t in_flight;

/* ---- the directive ----------------------------------------------------------------------------------------------------------- */

#if (NGX_THREADS)
static ngx_str_t pool_name = ngx_string("sluice");

/* The gateway's own, or the default one. */
static ngx_thread_pool_t *pool_of(ngx_cycle_t *cycle) {
    static ngx_str_t any = ngx_string("default");
    ngx_thread_pool_t *pool = ngx_thread_pool_get(cycle, &pool_name);

    return pool != NULL ? pool : ngx_thread_pool_get(cycle, &any);
}
#endif

static char *option(ngx_conf_t *cf, ngx_sluice_conf_t *scf, ngx_str_t *value) {
    ngx_str_t rest;

    if (value->len > 4 && ngx_strncmp(value->data, "max=", 4) == 0) {
        rest.data = value->data + 4;
        rest.len = value->len - 4;
        scf->dumps_bytes = ngx_parse_offset(&rest);
        if (scf->dumps_bytes >= 65536) {
            return NGX_CONF_OK;
        }
    } else if (value->len > 6 && ngx_strncmp(value->data, "count=", 6) == 0) {
        scf->dumps_files = ngx_atoi(value->data + 6, value->len - 6);
        if (scf->dumps_files > 0 && scf->dumps_files <= 10000) {
            return NGX_CONF_OK;
        }
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid option \"%V\": max=<size of at least 64k> or count=<1 to 10000>", value);
    return NGX_CONF_ERROR;
}

char *ngx_sluice_set_trap_dumps(ngx_conf_t *cf, ngx_command_t *cmd, void *conf) {
    ngx_sluice_conf_t *scf = conf;
    ngx_str_t *value = cf->args->elts;

    if (scf->dumps_dir.data != NULL) {
        return "is duplicate";
    }
    scf->dumps_bytes = DEFAULT_BYTES;
    scf->dumps_files = DEFAULT_FILES;
    for (ngx_uint_t i = 2; i < cf->args->nelts; i++) {
        if (option(cf, scf, &value[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }
    scf->dumps_dir = value[1];
    if (ngx_strcmp(value[1].data, "off") == 0) {
        scf->dumps_dir.len = 0;
        return NGX_CONF_OK;
    }
    if (ngx_conf_full_name(cf->cycle, &scf->dumps_dir, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
#if (NGX_THREADS)
    if (ngx_thread_pool_get(cf->cycle, &pool_name) == NULL && ngx_thread_pool_add(cf, NULL) == NULL) {
        return NGX_CONF_ERROR;
    }
#endif
    return NGX_CONF_OK;
}

/* Only its last part is for the workers alone: they must get there. */
static sl_status_t make_folder(char *path, sl_err_t *err) {
    char *slash = strrchr(path, '/');
    sl_status_t rc = SL_OK;

    if (slash != NULL && slash != path) {
        *slash = '\0';
        rc = sl_dir_make(path, 0755, err);
        *slash = '/';
    }
    return rc == SL_OK ? sl_dir_make(path, 0700, err) : rc;
}

/*
 * The folder belongs to whom the workers run as. We may be root, and the folder above may be theirs: a link that they have put in its place
 * is not followed, and what belongs to neither of us is left as it is.
 */
static ngx_int_t give_folder(const char *path, ngx_uid_t user, ngx_log_t *log) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    ngx_int_t rc = NGX_ERROR;

    if (fd < 0 || fstat(fd, &st) != 0) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "trap_dumps: \"%s\" cannot be used, it must be a folder and no link", path);
    } else if (st.st_uid != user && st.st_uid != 0) {
        ngx_log_error(NGX_LOG_EMERG, log, 0, "trap_dumps: \"%s\" belongs to user %d, it must belong to the workers' user %d", path,
                      (int)st.st_uid, (int)user);
    } else if (st.st_uid != user && fchown(fd, user, (gid_t)-1) != 0) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno, "trap_dumps: chown(\"%s\") failed", path);
    } else {
        rc = NGX_OK;
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

ngx_int_t ngx_sluice_dump_init(ngx_sluice_conf_t *scf) {
    const ngx_core_conf_t *ccf = (ngx_core_conf_t *)ngx_get_conf(scf->cycle->conf_ctx, ngx_core_module);
    char *path = (char *)scf->dumps_dir.data;
    sl_err_t err;

    if (scf->dumps_dir.len == 0) {
        return NGX_OK;
    }
    while (scf->dumps_dir.len > 1 && path[scf->dumps_dir.len - 1] == '/') { /* it would be followed if it were a link */
        path[--scf->dumps_dir.len] = '\0';
    }
    if (make_folder(path, &err) != SL_OK) {
        ngx_log_error(NGX_LOG_EMERG, scf->cycle->log, 0, "trap_dumps: %s", err.text);
        return NGX_ERROR;
    }
    return geteuid() == 0 && ccf->user != (ngx_uid_t)NGX_CONF_UNSET_UINT ? give_folder(path, ccf->user, scf->cycle->log) : NGX_OK;
}

/* ---- a trap ------------------------------------------------------------------------------------------------------------------ */

static void write_dump(job_t *job) {
    job->rc = sl_dump_write(job->dump, &job->where, job->name, &job->err);
}

static void written(job_t *job) {
    sl_dump_free(job->dump);
    job->dump = NULL;
    if (job->rc == SL_OK) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0, "[wasm] trap dump written: %s/%s", job->where.folder, job->name);
    } else {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[wasm] trap dump not written: %s", job->err.text);
    }
}

#if (NGX_THREADS)

static void in_thread(void *data, ngx_log_t *log) {
    write_dump(data);
}

static void done(ngx_event_t *event) {
    ngx_thread_task_t *task = event->data;
    job_t *job = task->ctx;

    in_flight--;
    written(job);
    ngx_destroy_pool(job->pool);
}

/* The task and its job live in a pool of their own. */
static ngx_int_t post(const job_t *job) {
    ngx_thread_pool_t *threads = pool_of((ngx_cycle_t *)ngx_cycle);
    ngx_pool_t *pool = threads != NULL ? ngx_create_pool(2048, ngx_cycle->log) : NULL;
    ngx_thread_task_t *task = pool != NULL ? ngx_thread_task_alloc(pool, sizeof(job_t)) : NULL;

    if (task == NULL) {
        if (pool != NULL) {
            ngx_destroy_pool(pool);
        }
        return NGX_DECLINED;
    }
    ngx_memcpy(task->ctx, job, sizeof(job_t));
    ((job_t *)task->ctx)->pool = pool;
    task->handler = in_thread;
    task->event.handler = done;
    task->event.data = task;
    if (ngx_thread_task_post(threads, task) != NGX_OK) {
        ngx_destroy_pool(pool);
        return NGX_DECLINED;
    }
    in_flight++;
    return NGX_OK;
}

#else

static ngx_int_t post(const job_t *job) {
    return NGX_DECLINED;
}

#endif

void ngx_sluice_trap_dump(void *worker, sl_str_t text, sl_str_t memory) {
    const ngx_sluice_conf_t *scf = worker;
    job_t job = {
        .where = {(char *)scf->dumps_dir.data, (uint64_t)scf->dumps_bytes, (uint32_t)scf->dumps_files},
    };

    if (in_flight >= IN_FLIGHT_MAX) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0, "[wasm] no trap dump: %ui are being written", in_flight);
        return;
    }
    job.dump = sl_dump_new(text, memory);
    if (job.dump == NULL) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0, "[wasm] no trap dump: out of memory");
        return;
    }
    if (post(&job) != NGX_OK) { /* no threads here */
        write_dump(&job);
        written(&job);
    }
}
