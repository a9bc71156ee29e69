/*
 * What crossing the border of a guest costs: nanoseconds per call into the guest, per call out of it, per instance.
 *
 *   make lib-engine lib-base
 *   gcc -O2 -D_GNU_SOURCE -Isrc/base -Isrc/engine bench/engine_calls.c build/release/libengine.a build/release/libbase.a \
 *       -Lbuild/deps/wasmtime/lib -lwasmtime -Wl,-rpath,build/deps/wasmtime/lib -lcrypto -lm -o build/engine_calls
 *   build/engine_calls [module.wasm]      (a module: also the time to compile it, with and without the cache)
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine.h"
#include "sl_cache.h"
#include "sl_file.h"

#define CALLS 2000000
#define INSTANCES 5000
#define ROUNDS 7

static double now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static sl_status_t host(sl_instance_t *in, sl_raw_t *args) {
    (void)in;
    args[0].i32 = 0;
    return SL_OK;
}

static const sl_import_t imports[] = {{"env", "host", "iii:i", host}};

static const char guest[] = "(module (import \"env\" \"host\" (func $host (param i32 i32 i32) (result i32)))"
                            "  (memory (export \"memory\") 17) (data (i32.const 1024) \"some data\")"
                            "  (func (export \"noop\") (param i32) (result i32) (local.get 0))"
                            "  (func (export \"out\") (param i32) (result i32)"
                            "    (loop $again (drop (call $host (i32.const 1) (i32.const 2) (i32.const 3)))"
                            "      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (i32.const 0)))";

static _Noreturn void die(const char *what, const sl_err_t *err) {
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

static sl_func_t *func(sl_instance_t *in, const char *name) {
    sl_func_t *f;
    sl_err_t err;
    if (sl_instance_func(in, name, "i:i", &f, &err) != SL_OK) {
        die(name, &err);
    }
    return f;
}

static void call(sl_instance_t *in, sl_func_t *f, int32_t arg) {
    sl_raw_t args[1] = {{.i32 = arg}};
    sl_err_t err;
    if (sl_instance_call(in, f, args, &err) != SL_OK) {
        die("call", &err);
    }
}

/* The fastest of some rounds: other programs only ever make it slower. */
static double calls_in(sl_instance_t *in) {
    sl_func_t *noop = func(in, "noop");
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        for (int i = 0; i < CALLS; i++) {
            call(in, noop, i);
        }
        double took = (now_ns() - begin) / CALLS;
        best = took < best ? took : best;
    }
    return best;
}

static double calls_out(sl_instance_t *in) {
    sl_func_t *out = func(in, "out");
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        call(in, out, CALLS);
        double took = (now_ns() - begin) / CALLS;
        best = took < best ? took : best;
    }
    return best;
}

static double instances(sl_module_t *m) {
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        for (int i = 0; i < INSTANCES; i++) {
            sl_instance_t *in;
            sl_err_t err;
            if (sl_instance_new(m, imports, 1, NULL, NULL, &in, &err) != SL_OK) {
                die("instance", &err);
            }
            sl_instance_free(in);
        }
        double took = (now_ns() - begin) / INSTANCES;
        best = took < best ? took : best;
    }
    return best;
}

static void time_get(sl_engine_t *engine, sl_cache_t *cache, sl_str_t bytes, const char *what) {
    sl_module_t *m;
    sl_err_t err;
    double begin = now_ns();
    if (sl_module_get(engine, cache, bytes, &m, &err) != SL_OK) {
        die("module", &err);
    }
    printf("%-34s %10.2f ms\n", what, (now_ns() - begin) / 1e6);
    sl_module_unref(m);
}

static void time_module(sl_engine_t *engine, const char *path) {
    char folder[] = "/tmp/sl-bench-XXXXXX", command[64];
    sl_buf_t file;
    sl_err_t err;
    sl_buf_init(&file, (size_t)256 << 20);
    if (sl_file_read(path, &file, &err) != SL_OK) {
        die("module", &err);
    }
    sl_cache_t *cache = mkdtemp(folder) != NULL ? sl_cache_new(folder, NULL, NULL) : NULL;
    time_get(engine, NULL, sl_buf_str(&file), "compile");
    time_get(engine, cache, sl_buf_str(&file), "compile, store and map");
    time_get(engine, cache, sl_buf_str(&file), "from the cache");
    sl_cache_free(cache);
    sl_buf_deinit(&file);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    if (system(command) != 0) {
        fprintf(stderr, "%s is left behind\n", folder);
    }
}

int main(int argc, char **argv) {
    sl_engine_t *engine;
    sl_module_t *m;
    sl_instance_t *in;
    sl_err_t err;
    if (sl_engine_new(NULL, &engine, &err) != SL_OK || sl_module_compile(engine, SL_STR(guest), &m, &err) != SL_OK ||
        sl_instance_new(m, imports, 1, NULL, NULL, &in, &err) != SL_OK) {
        die("start", &err);
    }
    printf("%.*s\n", SL_FMT(sl_engine_fingerprint(engine)));
    printf("%-34s %10.1f ns\n", "host to guest, nothing done there", calls_in(in));
    printf("%-34s %10.1f ns\n", "guest to host, three arguments", calls_out(in));
    printf("%-34s %10.1f ns\n", "make and free an instance", instances(m));
    if (argc > 1) {
        time_module(engine, argv[1]);
    }
    sl_instance_free(in);
    sl_module_unref(m);
    sl_engine_free(engine);
    return 0;
}
