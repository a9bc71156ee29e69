/*
 * Guests for the null engine: native C functions that play a module. A "module" for this engine is the text "null:<name>",
 * where <name> was registered. Memory is a plain array with the ceiling of the instance's limits.
 */
#ifndef SL_ENGINE_NULL_H
#define SL_ENGINE_NULL_H

#include "engine.h"

typedef struct {
    const char *name;
    const char *sig;
    sl_status_t (*fn)(sl_instance_t *instance, sl_raw_t *args); /* SL_TRAP after sl_instance_trap() plays a trap */
} sl_null_export_t;

typedef struct {
    const char *name;
    const sl_null_export_t *exports;
    size_t n_exports;
    const sl_import_t *imports; /* module, name, sig; fn is ignored */
    size_t n_imports;
    size_t memory_bytes; /* at the start */
    size_t state_bytes;  /* zeroed per-instance memory for the guest's own globals, see sl_null_state */
} sl_null_guest_t;

/* The guest must outlive every engine. Registering the same name again replaces it. Not thread-safe: before any use. */
sl_status_t sl_null_register(const sl_null_guest_t *guest);
void *sl_null_state(sl_instance_t *instance);
/* The guest calls a host function that it declared as an import. SL_TRAP must be passed on by returning it. */
sl_status_t sl_null_import(sl_instance_t *instance, const char *module, const char *name, sl_raw_t *args);
/* The guest has used up its slice, if it runs in slices. SL_TRAP: it was dropped meanwhile, and must return that. */
sl_status_t sl_null_slice(sl_instance_t *instance);
/* memory.grow: SL_NO_MEMORY over the limit. */
sl_status_t sl_null_grow(sl_instance_t *instance, size_t more_bytes);

#endif
