#include "engine_null.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine_ops.h"
#include "image.h"
#include "sl_coro.h"
#include "sl_watch.h"

#define MAX_GUESTS 64
#define PREFIX "null:"
#define SLICED_STACK_BYTES ((size_t)1 << 20)

static const sl_null_guest_t *guests[MAX_GUESTS];
static size_t n_guests;

typedef struct {
    sl_module_t head;
    const sl_null_guest_t *guest;
} null_module_t;

/* Rows of the guest's own table; engine.h keeps the type opaque. */
typedef struct {
    const sl_null_export_t *export;
} null_func_t;

typedef struct {
    sl_instance_t head;
    const sl_null_guest_t *guest;
    sl_import_t *linked; /* one per import of the guest, in its order; copies, the caller's list may go */
    null_func_t *funcs;  /* one per export of the guest, in its order */
    void *state;
    uint64_t max_memory_bytes;
    size_t counted_bytes; /* of memory, with what instances have together */
    /* The call in slices. */
    sl_coro_t *coro;
    sl_func_t *func;
    sl_raw_t *args;
    sl_err_t err;
    sl_status_t status;
    bool running; /* on the coroutine */
    bool dropped;
} null_instance_t;

sl_status_t sl_null_register(const sl_null_guest_t *guest) {
    for (size_t i = 0; i < n_guests; i++) {
        if (strcmp(guests[i]->name, guest->name) == 0) {
            guests[i] = guest;
            return SL_OK;
        }
    }
    if (n_guests == MAX_GUESTS) {
        return SL_NO_MEMORY;
    }
    guests[n_guests++] = guest;
    return SL_OK;
}

static const sl_null_guest_t *find_guest(sl_str_t name) {
    for (size_t i = 0; i < n_guests; i++) {
        if (sl_str_eq(sl_cstr(guests[i]->name), name)) {
            return guests[i];
        }
    }
    return NULL;
}

/* ---- engine and modules ----------------------------------------------------------------------------------------------- */

static sl_status_t null_engine_new(const sl_engine_conf_t *conf, sl_engine_t **out, sl_err_t *err) {
    (void)conf;
    sl_engine_t *engine = calloc(1, sizeof(*engine));
    if (engine == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "engine null: out of memory");
    }
    engine->ops = &sl_null_ops;
    engine->dirty = SL_DIRTY_REMAP;
    snprintf(engine->fingerprint, sizeof(engine->fingerprint), "null/1");
    *out = engine;
    return SL_OK;
}

static void null_engine_free(sl_engine_t *engine) {
    free(engine);
}

static void null_engine_tick(sl_engine_t *engine) {
    (void)engine; /* its guests look at the watch at each host call */
}

static bool copy_extern(sl_arena_t *a, sl_extern_t *to, const char *module, const char *name, const char *sig) {
    to->module = module != NULL ? sl_arena_dup(a, sl_cstr(module)) : SL_STR_NULL;
    to->name = sl_arena_dup(a, sl_cstr(name));
    to->kind = sig != NULL ? SL_EXTERN_FUNC : SL_EXTERN_MEMORY;
    snprintf(to->sig, sizeof(to->sig), "%s", sig != NULL ? sig : "");
    return to->name.data != NULL && (module == NULL || to->module.data != NULL);
}

static sl_status_t describe(null_module_t *m) {
    const sl_null_guest_t *g = m->guest;
    sl_arena_t *a = &m->head.arena;
    sl_extern_t *imports = sl_arena_zalloc(a, (g->n_imports + 1) * sizeof(*imports));
    sl_extern_t *exports = sl_arena_zalloc(a, (g->n_exports + 1) * sizeof(*exports));
    if (imports == NULL || exports == NULL) {
        return SL_NO_MEMORY;
    }
    bool ok = true;
    for (size_t i = 0; i < g->n_imports; i++) {
        ok = ok && copy_extern(a, &imports[i], g->imports[i].module, g->imports[i].name, g->imports[i].sig);
    }
    for (size_t i = 0; i < g->n_exports; i++) {
        ok = ok && copy_extern(a, &exports[i], NULL, g->exports[i].name, g->exports[i].sig);
    }
    /* Functions come first, so that an export's place in the list is its row in
     * the guest's table. */
    ok = ok && copy_extern(a, &exports[g->n_exports], NULL, "memory", NULL);
    m->head.info = (sl_module_info_t){
        .imports = imports, .n_imports = g->n_imports, .exports = exports, .n_exports = g->n_exports + (g->memory_bytes != 0)};
    return ok ? SL_OK : SL_NO_MEMORY;
}

static sl_status_t null_module_new(sl_engine_t *engine, sl_str_t bytes, const sl_precompiled_t *code, sl_module_t **out, sl_err_t *err) {
    (void)code;
    if (!sl_str_starts(bytes, SL_STR(PREFIX))) {
        return sl_err_set(err, SL_INVALID, "not a module of the null engine: expected \"" PREFIX "<name>\"");
    }
    sl_str_t name = sl_str(bytes.data + sizeof(PREFIX) - 1, bytes.len - (sizeof(PREFIX) - 1));
    const sl_null_guest_t *guest = find_guest(name);
    if (guest == NULL) {
        return sl_err_set(err, SL_INVALID, "no native guest is registered as \"%.*s\"", SL_FMT(name));
    }
    null_module_t *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "null:%s: out of memory", guest->name);
    }
    sl_module_head_init(&m->head, engine);
    m->guest = guest;
    if (describe(m) != SL_OK) {
        sl_module_unref(&m->head);
        return sl_err_set(err, SL_NO_MEMORY, "null:%s: out of memory", guest->name);
    }
    *out = &m->head;
    return SL_OK;
}

static void null_module_free(sl_module_t *m) {
    free(m);
}

/* ---- instances -------------------------------------------------------------------------------------------------------- */

/* Counts it, too. */
static void set_size(null_instance_t *in, size_t bytes) {
    sl_memory_count(in->head.together, in->counted_bytes, bytes);
    in->counted_bytes = bytes;
    in->head.mem_size = bytes;
}

static void null_instance_free(sl_instance_t *instance) {
    null_instance_t *in = (null_instance_t *)instance;
    set_size(in, 0);
    free(instance->mem);
    free(in->state);
    free(in->linked);
    free(in->funcs);
    sl_coro_free(in->coro);
    sl_instance_head_deinit(instance);
    free(in);
}

static bool allocate_parts(null_instance_t *in) {
    const sl_null_guest_t *g = in->guest;
    in->linked = calloc(g->n_imports + 1, sizeof(*in->linked));
    in->funcs = calloc(g->n_exports + 1, sizeof(*in->funcs));
    in->state = calloc(1, g->state_bytes + 1);
    in->head.mem = g->memory_bytes != 0 ? calloc(1, g->memory_bytes) : NULL;
    in->head.mem_size = in->head.mem != NULL ? g->memory_bytes : 0;
    return in->linked != NULL && in->funcs != NULL && in->state != NULL && in->head.mem_size == g->memory_bytes;
}

static sl_status_t link_imports(null_instance_t *in, const sl_import_t *imports, size_t n, sl_err_t *err) {
    const sl_module_info_t *info = &in->head.module->info;
    for (size_t i = 0; i < info->n_imports; i++) {
        const sl_import_t *found = sl_import_find(imports, n, &info->imports[i], err);
        if (found == NULL) {
            return SL_INVALID;
        }
        in->linked[i] = *found;
    }
    return SL_OK;
}

static sl_status_t null_instance_new(sl_module_t *m, const sl_import_t *imports, size_t n, const sl_instance_limits_t *limits, void *user,
                                     bool start, sl_instance_t **out, sl_err_t *err) {
    (void)start; /* native guests have no start section */
    const sl_null_guest_t *g = ((null_module_t *)m)->guest;
    if (g->memory_bytes > limits->max_memory_bytes) {
        return sl_err_set(err, SL_NO_MEMORY, "null:%s: needs %zu bytes of memory, the limit is %ju", g->name, g->memory_bytes,
                          (uintmax_t)limits->max_memory_bytes);
    }
    null_instance_t *in = calloc(1, sizeof(*in));
    if (in == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "null:%s: out of memory", g->name);
    }
    sl_instance_head_init(&in->head, m, limits, user);
    in->guest = g;
    in->max_memory_bytes = limits->max_memory_bytes;
    sl_status_t rc =
        allocate_parts(in) ? link_imports(in, imports, n, err) : sl_err_set(err, SL_NO_MEMORY, "null:%s: out of memory", g->name);
    if (rc == SL_OK && !sl_memory_fits(limits->together, g->memory_bytes)) {
        rc = sl_instance_no_room(&in->head, g->memory_bytes, err);
    }
    if (rc != SL_OK) {
        null_instance_free(&in->head);
        return rc;
    }
    set_size(in, in->head.mem_size);
    *out = &in->head;
    return SL_OK;
}

static sl_func_t *null_instance_func(sl_instance_t *instance, const sl_extern_t *export) {
    null_instance_t *in = (null_instance_t *)instance;
    size_t row = (size_t)(export - instance->module->info.exports);
    in->funcs[row].export = &in->guest->exports[row];
    return (sl_func_t *)&in->funcs[row];
}

static sl_status_t null_instance_call(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, sl_err_t *err) {
    const null_instance_t *in = (null_instance_t *)instance;
    const sl_null_export_t *export = ((null_func_t *)func)->export;
    if (export->fn(instance, args) == SL_OK) {
        return SL_OK;
    }
    if (instance->trap[0] == '\0') {
        sl_instance_trap(instance, "the guest trapped");
    }
    return sl_err_set(err, SL_TRAP, "%s\n  at %s (null:%s)", instance->trap, export->name, in->guest->name);
}

static void run_sliced(void *arg) {
    null_instance_t *in = arg;
    in->status = null_instance_call(&in->head, in->func, in->args, &in->err);
}

static sl_status_t null_call_begin(sl_instance_t *instance, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, sl_err_t *err) {
    null_instance_t *in = (null_instance_t *)instance;
    (void)cpu_budget_ms; /* the guest says itself when it stops */
    in->coro = in->coro != NULL ? in->coro : sl_coro_new(SLICED_STACK_BYTES);
    if (in->coro == NULL) {
        return sl_err_set(err, SL_NO_MEMORY, "null:%s: out of memory", in->guest->name);
    }
    in->func = func;
    in->args = args;
    in->dropped = false;
    sl_coro_begin(in->coro, run_sliced, in);
    return SL_OK;
}

static sl_status_t null_call_poll(sl_instance_t *instance, sl_err_t *err) {
    null_instance_t *in = (null_instance_t *)instance;
    in->running = true;
    bool done = sl_coro_resume(in->coro);
    in->running = false;
    if (!done) {
        return SL_AGAIN;
    }
    return in->status == SL_OK ? SL_OK : sl_err_set(err, in->status, "%s", in->err.text);
}

static sl_status_t null_call_drop(sl_instance_t *instance, sl_err_t *err) {
    null_instance_t *in = (null_instance_t *)instance;
    in->dropped = true;
    while (null_call_poll(instance, err) == SL_AGAIN) {
    }
    return SL_TRAP;
}

static void null_instance_refresh(sl_instance_t *instance) {
    (void)instance; /* mem and mem_size are the memory itself */
}

/* The guest's own state goes with the image, as globals of a module do. */
static size_t null_image_slots(const sl_instance_t *instance) {
    return (((const null_instance_t *)instance)->guest->state_bytes + sizeof(sl_raw_t) - 1) / sizeof(sl_raw_t);
}

static sl_status_t null_image_save(sl_instance_t *instance, sl_raw_t *slots) {
    const null_instance_t *in = (null_instance_t *)instance;
    memcpy(slots, in->state, in->guest->state_bytes);
    return SL_OK;
}

static sl_status_t null_instance_restore(sl_instance_t *instance, sl_image_t *image, bool again) {
    (void)again;
    null_instance_t *in = (null_instance_t *)instance;
    if (instance->mem_size != image->size) {
        uint8_t *mem = malloc(image->size + 1);
        if (mem == NULL) {
            return SL_NO_MEMORY;
        }
        free(instance->mem);
        instance->mem = mem;
        set_size(in, image->size);
    }
    if (image->size != 0) {
        memcpy(instance->mem, image->bytes, image->size);
    }
    memcpy(in->state, image->globals, in->guest->state_bytes);
    instance->trap[0] = '\0';
    return SL_OK;
}

/* ---- for guests ------------------------------------------------------------------------------------------------------- */

void *sl_null_state(sl_instance_t *instance) {
    return ((null_instance_t *)instance)->state;
}

sl_status_t sl_null_import(sl_instance_t *instance, const char *module, const char *name, sl_raw_t *args) {
    const null_instance_t *in = (null_instance_t *)instance;
    for (size_t i = 0; i < in->guest->n_imports; i++) {
        const sl_import_t *import = &in->linked[i];
        if (strcmp(import->name, name) != 0 || strcmp(import->module, module) != 0) {
            continue;
        }
        if (instance->watch != NULL && sl_watch_expired(instance->watch)) {
            return sl_instance_over_budget(instance, sl_watch_budget_ms(instance->watch));
        }
        sl_status_t rc = import->fn(instance, args);
        if (rc != SL_OK && instance->trap[0] == '\0') {
            sl_instance_trap(instance, "host function %s.%s failed", module, name);
        }
        return rc == SL_OK ? SL_OK : SL_TRAP;
    }
    return sl_instance_trap(instance, "the guest calls %s.%s, which it did not declare as an import", module, name);
}

sl_status_t sl_null_slice(sl_instance_t *instance) {
    null_instance_t *in = (null_instance_t *)instance;
    if (!in->running) {
        return SL_OK;
    }
    in->running = false;
    sl_coro_yield(in->coro);
    in->running = true;
    return in->dropped ? sl_instance_trap(instance, "ended in the middle") : SL_OK;
}

sl_status_t sl_null_grow(sl_instance_t *instance, size_t more_bytes) {
    null_instance_t *in = (null_instance_t *)instance;
    if (instance->mem_size > in->max_memory_bytes || more_bytes > in->max_memory_bytes - instance->mem_size) {
        sl_instance_refused(instance, SL_REFUSED_BY_INSTANCE);
        return SL_NO_MEMORY;
    }
    if (!sl_memory_fits(instance->together, more_bytes)) {
        sl_instance_refused(instance, SL_REFUSED_TOGETHER);
        return SL_NO_MEMORY;
    }
    /* Always moves, so that a view which was kept over guest code is an error
     * that a sanitizer sees. */
    uint8_t *mem = calloc(1, instance->mem_size + more_bytes + 1);
    if (mem == NULL) {
        return SL_NO_MEMORY;
    }
    if (instance->mem_size != 0) {
        memcpy(mem, instance->mem, instance->mem_size);
    }
    free(instance->mem);
    instance->mem = mem;
    set_size(in, instance->mem_size + more_bytes);
    return SL_OK;
}

const sl_engine_ops_t sl_null_ops = {
    .name = "null",
    .engine_new = null_engine_new,
    .engine_free = null_engine_free,
    .engine_tick = null_engine_tick,
    .module_new = null_module_new,
    .module_free = null_module_free,
    .instance_new = null_instance_new,
    .instance_free = null_instance_free,
    .instance_func = null_instance_func,
    .instance_call = null_instance_call,
    .call_begin = null_call_begin,
    .call_poll = null_call_poll,
    .call_drop = null_call_drop,
    .call_pause = sl_null_slice,
    .instance_refresh = null_instance_refresh,
    .image_slots = null_image_slots,
    .image_save = null_image_save,
    .instance_restore = null_instance_restore,
};
