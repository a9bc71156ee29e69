/*
 * For cmocka programs in which Wasmtime guests trap. Wasmtime turns signals into traps with handlers that it installs once per
 * process; cmocka puts its own in their place around every test. So: engine_signals_save() at the begin of main, and
 * engine_signals_use() inside each test (or its helper) before a guest may trap.
 */
#ifndef ENGINE_SIGNALS_H
#define ENGINE_SIGNALS_H

#include <signal.h>

#include "engine.h"

static const int engine_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
static struct sigaction engine_signals_kept[sizeof(engine_signals) / sizeof(engine_signals[0])];

static inline int engine_signals_save(void) {
    sl_engine_t *engine;
    if (sl_engine_new(NULL, &engine, NULL) != SL_OK) {
        return -1;
    }
    sl_engine_free(engine);
    for (size_t i = 0; i < sizeof(engine_signals) / sizeof(engine_signals[0]); i++) {
        sigaction(engine_signals[i], NULL, &engine_signals_kept[i]);
    }
    return 0;
}

static inline void engine_signals_use(void) {
    for (size_t i = 0; i < sizeof(engine_signals) / sizeof(engine_signals[0]); i++) {
        sigaction(engine_signals[i], &engine_signals_kept[i], NULL);
    }
}

#endif
