#include "sl_cache.h"

#include "engine_ops.h"

sl_status_t sl_module_get(sl_engine_t *engine, sl_cache_t *cache, sl_str_t bytes, sl_module_t **out, sl_err_t *err) {
    (void)cache;
    return sl_module_compile(engine, bytes, out, err);
}
