#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine_ops.h"
#include "image.h"
#include "sl_digest.h"
#include "sl_watch.h"
#include "written_pages.h"

#define ENGINE_STACK_BYTES ((size_t)1 << 20) /* beside the guest: linking, and backtraces that read DWARF */
#define DEFAULT_MAX_MEMORY_BYTES ((uint64_t)1 << 30)

/* The first one is the default. */
static const sl_engine_ops_t *const engines[] = {&sl_wasmtime_ops, &sl_null_ops};
enum { N_ENGINES = sizeof(engines) / sizeof(engines[0]) };

static const sl_engine_ops_t *find_engine(const char *name) {
    if (name == NULL) {
        return engines[0];
    }
    for (size_t i = 0; i < N_ENGINES; i++) {
        if (strcmp(engines[i]->name, name) == 0) {
            return engines[i];
        }
    }
    return NULL;
}

static sl_status_t no_such_engine(const char *name, sl_err_t *err) {
    sl_buf_t names;
    sl_buf_init(&names, 256);
    for (size_t i = 0; i < N_ENGINES; i++) {
        sl_buf_printf(&names, "%s%s", i == 0 ? "" : ", ", engines[i]->name);
    }
    const char *text = sl_buf_cstr(&names);
    sl_err_set(err, SL_NOT_FOUND, "no engine is called \"%s\"; there are: %s", name, text != NULL ? text : "?");
    sl_buf_deinit(&names);
    return SL_NOT_FOUND;
}

sl_status_t sl_engine_new(const sl_engine_conf_t *conf, sl_engine_t **out, sl_err_t *err) {
    static const sl_engine_conf_t defaults = {.name = NULL};
    conf = conf != NULL ? conf : &defaults;
    const sl_engine_ops_t *ops = find_engine(conf->name);
    if (ops == NULL) {
        return no_such_engine(conf->name, err);
    }
    return ops->engine_new(conf, out, err);
}

void sl_engine_free(sl_engine_t *engine) {
    if (engine != NULL) {
        engine->ops->engine_free(engine);
    }
}

const char *sl_engine_name(const sl_engine_t *engine) {
    return engine->ops->name;
}

size_t sl_engine_stack_bytes(const sl_engine_t *engine) {
    return engine->stack_bytes + ENGINE_STACK_BYTES;
}

sl_str_t sl_engine_fingerprint(const sl_engine_t *engine) {
    return sl_cstr(engine->fingerprint);
}

const char *sl_engine_dirty_name(const sl_engine_t *engine) {
    return sl_dirty_name(engine->dirty);
}

/* ---- modules ---------------------------------------------------------------------------------------------------------- */

void sl_module_head_init(sl_module_t *m, sl_engine_t *engine) {
    m->ops = engine->ops;
    m->engine = engine;
    atomic_init(&m->refs, 1);
    memset(&m->info, 0, sizeof(m->info));
    sl_arena_init(&m->arena, 4096, SL_MODULE_ARENA_MAX);
    m->code_fd = -1;
}

sl_status_t sl_module_open(sl_engine_t *engine, sl_str_t bytes, const uint8_t sha256[32], const sl_precompiled_t *code, sl_module_t **out,
                           sl_err_t *err) {
    sl_module_t *m;
    sl_status_t rc = engine->ops->module_new(engine, bytes, code, &m, err);
    if (rc != SL_OK) {
        return rc;
    }
    memcpy(m->info.sha256, sha256, sizeof(m->info.sha256));
    m->info.size_bytes = bytes.len;
    *out = m;
    return SL_OK;
}

sl_status_t sl_module_compile(sl_engine_t *engine, sl_str_t bytes, sl_module_t **out, sl_err_t *err) {
    uint8_t sha256[SL_SHA256_SIZE];
    if (sl_sha256(bytes, sha256) != SL_OK) {
        return sl_err_set(err, SL_FAILED, "cannot compute the SHA-256 of the module");
    }
    return sl_module_open(engine, bytes, sha256, NULL, out, err);
}

sl_module_t *sl_module_ref(sl_module_t *m) {
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void sl_module_unref(sl_module_t *m) {
    if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (m->code_fd >= 0) {
        close(m->code_fd);
    }
    sl_arena_deinit(&m->arena);
    m->ops->module_free(m);
}

const sl_module_info_t *sl_module_info(const sl_module_t *m) {
    return &m->info;
}

sl_engine_t *sl_module_engine(const sl_module_t *m) {
    return m->engine;
}

const sl_extern_t *sl_module_export(const sl_module_t *m, const char *name, sl_extern_kind_t kind) {
    sl_str_t wanted = sl_cstr(name);
    for (size_t i = 0; i < m->info.n_exports; i++) {
        const sl_extern_t *e = &m->info.exports[i];
        if (e->kind == kind && sl_str_eq(e->name, wanted)) {
            return e;
        }
    }
    return NULL;
}

/* ---- linking ---------------------------------------------------------------------------------------------------------- */

const sl_import_t *sl_import_find(const sl_import_t *imports, size_t n, const sl_extern_t *wanted, sl_err_t *err) {
    if (wanted->kind != SL_EXTERN_FUNC) {
        sl_err_set(err, SL_INVALID, "import %.*s.%.*s: only functions can be imported", SL_FMT(wanted->module), SL_FMT(wanted->name));
        return NULL;
    }
    const char *other = NULL; /* the same name with another type; some functions are offered with two */
    for (size_t i = 0; i < n; i++) {
        if (!sl_str_eq(sl_cstr(imports[i].name), wanted->name) || !sl_str_eq(sl_cstr(imports[i].module), wanted->module)) {
            continue;
        }
        if (strcmp(imports[i].sig, wanted->sig) == 0) {
            return &imports[i];
        }
        other = imports[i].sig;
    }
    if (other != NULL) {
        sl_err_set(err, SL_INVALID, "import %.*s.%.*s: the module wants the type %s, the host offers %s", SL_FMT(wanted->module),
                   SL_FMT(wanted->name), wanted->sig, other);
        return NULL;
    }
    sl_err_set(err, SL_INVALID, "import %.*s.%.*s: the host has no such function", SL_FMT(wanted->module), SL_FMT(wanted->name));
    return NULL;
}

/* ---- instances -------------------------------------------------------------------------------------------------------- */

void sl_instance_head_init(sl_instance_t *instance, sl_module_t *m, const sl_instance_limits_t *limits, void *user) {
    *instance = (sl_instance_t){.user = user, .ops = m->ops, .module = sl_module_ref(m), .watch = limits->watch};
    instance->together = limits->together;
    instance->refused = limits->refused;
}

bool sl_memory_fits(const sl_memory_t *together, uint64_t bytes) {
    return together == NULL || together->limit == 0 || (together->used <= together->limit && bytes <= together->limit - together->used);
}

void sl_memory_count(sl_memory_t *together, uint64_t before, uint64_t after) {
    if (together != NULL) {
        together->used = together->used - before + after;
        together->peak = together->used > together->peak ? together->used : together->peak;
    }
}

void sl_instance_refused(sl_instance_t *instance, sl_refused_t by) {
    if (instance->refused != NULL) {
        instance->refused(instance, by);
    }
}

sl_status_t sl_instance_no_room(sl_instance_t *instance, uint64_t bytes, sl_err_t *err) {
    const sl_memory_t *together = instance->together;
    sl_instance_refused(instance, SL_REFUSED_TOGETHER);
    return sl_err_set(err, SL_NO_MEMORY, "an instance needs %ju bytes of memory; all of them together have %ju, and may have %ju",
                      (uintmax_t)bytes, (uintmax_t)together->used, (uintmax_t)together->limit);
}

sl_status_t sl_instance_over_budget(sl_instance_t *instance, uint32_t budget_ms) {
    return sl_instance_trap(instance, "the CPU budget of %u ms is used up", (unsigned)budget_ms);
}

void sl_instance_head_deinit(sl_instance_t *instance) {
    sl_module_unref(instance->module);
}

static sl_instance_limits_t all_limits(const sl_instance_limits_t *limits) {
    sl_instance_limits_t own = limits != NULL ? *limits : (sl_instance_limits_t){0};
    own.max_memory_bytes = own.max_memory_bytes != 0 ? own.max_memory_bytes : DEFAULT_MAX_MEMORY_BYTES;
    return own;
}

sl_status_t sl_instance_new(sl_module_t *m, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                            sl_instance_t **out, sl_err_t *err) {
    sl_instance_limits_t own = all_limits(limits);
    return m->ops->instance_new(m, imports, n, &own, user, true, out, err);
}

void sl_instance_free(sl_instance_t *instance) {
    if (instance != NULL) {
        instance->ops->instance_free(instance);
    }
}

sl_status_t sl_instance_func(sl_instance_t *instance, const char *name, const char *sig, sl_func_t **out, sl_err_t *err) {
    const sl_extern_t *e = sl_module_export(instance->module, name, SL_EXTERN_FUNC);
    if (e == NULL) {
        return sl_err_set(err, SL_NOT_FOUND, "the module exports no function %s", name);
    }
    if (strcmp(e->sig, sig) != 0 || strcmp(sig, "?") == 0) {
        return sl_err_set(err, SL_INVALID, "export %s: the module has the type %s, expected %s", name, e->sig, sig);
    }
    *out = instance->ops->instance_func(instance, e);
    return *out != NULL ? SL_OK : sl_err_set(err, SL_NO_MEMORY, "export %s: out of memory", name);
}

sl_status_t sl_instance_call(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, sl_err_t *err) {
    return instance->ops->instance_call(instance, func, args, err);
}

sl_func_t *sl_instance_sequence(sl_instance_t *instance, sl_sequence_t which) {
    return instance->ops->instance_sequence != NULL ? instance->ops->instance_sequence(instance, which) : NULL;
}

uint32_t sl_instance_part(sl_instance_t *instance) {
    return instance->ops->instance_part != NULL ? instance->ops->instance_part(instance) : 0;
}

void sl_instance_stop(sl_instance_t *instance) {
    if (instance->ops->instance_stop != NULL) {
        instance->ops->instance_stop(instance);
    }
}

sl_status_t sl_instance_call_begin(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, sl_err_t *err) {
    instance->charged_ns = 0;
    return instance->ops->call_begin(instance, func, args, cpu_budget_ms, err);
}

void sl_instance_charge(sl_instance_t *instance, uint64_t cpu_ns) {
    instance->charged_ns += cpu_ns;
}

sl_status_t sl_instance_call_poll(sl_instance_t *instance, sl_err_t *err) {
    return instance->ops->call_poll(instance, err);
}

sl_status_t sl_instance_call_drop(sl_instance_t *instance, sl_err_t *err) {
    return instance->ops->call_drop(instance, err);
}

sl_status_t sl_instance_pause(sl_instance_t *instance) {
    return instance->ops->call_pause(instance);
}

void sl_instance_refresh(sl_instance_t *instance) {
    instance->ops->instance_refresh(instance);
}

void sl_instance_globals(sl_instance_t *instance, sl_buf_t *lines) {
    if (instance->ops->globals_write != NULL) {
        instance->ops->globals_write(instance, lines);
    }
}

sl_status_t sl_instance_trap(sl_instance_t *instance, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(instance->trap, sizeof(instance->trap), fmt, ap);
    va_end(ap);
    return SL_TRAP;
}

/* ---- images ----------------------------------------------------------------------------------------------------------- */

sl_status_t sl_image_take(sl_instance_t *instance, const char *folder, sl_image_t **out, sl_err_t *err) {
    const sl_engine_ops_t *ops = instance->ops;
    if (instance->module->info.no_image != NULL) {
        return sl_err_set(err, SL_INVALID, "an image cannot hold the state of this module: %s", instance->module->info.no_image);
    }
    sl_instance_refresh(instance);
    sl_image_t *image;
    sl_status_t rc =
        sl_image_new(instance->module, sl_str(instance->mem, instance->mem_size), folder, ops->image_slots(instance), &image, err);
    if (rc != SL_OK) {
        return rc;
    }
    rc = ops->image_save(instance, image->globals);
    if (rc != SL_OK) {
        sl_image_unref(image);
        return sl_err_set(err, rc, "the globals of an instance cannot be read");
    }
    *out = image;
    return SL_OK;
}

sl_status_t sl_instance_from_image(sl_image_t *image, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                                   sl_instance_t **out, sl_err_t *err) {
    sl_module_t *m = image->module;
    sl_instance_t *instance;
    sl_instance_limits_t own = all_limits(limits);
    sl_status_t rc = m->ops->instance_new(m, imports, n, &own, user, false, &instance, err);
    if (rc != SL_OK) {
        return rc;
    }
    if (!sl_memory_fits(own.together, image->size > instance->mem_size ? image->size - instance->mem_size : 0)) {
        rc = sl_instance_no_room(instance, image->size, err);
    } else {
        rc = sl_instance_restore(instance, image);
        rc = rc == SL_OK ? SL_OK : sl_err_set(err, rc, "an instance cannot be brought to the state of its image");
    }
    if (rc != SL_OK) {
        sl_instance_free(instance);
        return rc;
    }
    *out = instance;
    return SL_OK;
}

sl_status_t sl_instance_restore(sl_instance_t *instance, sl_image_t *image) {
    return instance->ops->instance_restore(instance, image, true);
}

sl_status_t sl_instance_reload(sl_instance_t *instance, sl_image_t *image) {
    return instance->ops->instance_restore(instance, image, false);
}
