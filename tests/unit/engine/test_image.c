/* Images of instances and the way back to them, by each way of finding the pages that were written. */
#include "cmocka_all.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"
#include "engine_null.h"
#include "engine_signals.h"

#define WASM_PAGE ((size_t)65536)

static const char guest[] =
    "(module (import \"env\" \"host\" (func $host (param i32))) (memory (export \"memory\") 8) (data (i32.const 100) \"begin\")"
    "  (global $g (mut i32) (i32.const 5)) (global $l (mut i64) (i64.const 6)) (global $d (mut f64) (f64.const 1.5))"
    "  (global $f (mut f32) (f32.const 2.5)) (global $v (mut v128) (v128.const i32x4 1 2 3 4)) (global $c i32 (i32.const 9))"
    "  (func $begin (call $host (i32.const 1))) (start $begin)"
    "  (func (export \"put\") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))"
    "  (func (export \"fill\") (param i32 i32) (memory.fill (local.get 0) (i32.const 170) (local.get 1)))"
    "  (func (export \"globals\") (param i32) (global.set $g (local.get 0)) (global.set $l (i64.extend_i32_u (local.get 0)))"
    "    (global.set $d (f64.convert_i32_s (local.get 0))) (global.set $f (f32.convert_i32_s (local.get 0)))"
    "    (global.set $v (i32x4.splat (local.get 0))))"
    "  (func (export \"sum\") (result f64) (f64.add (f64.add (f64.convert_i32_s (global.get $g)) (f64.convert_i64_s (global.get $l)))"
    "    (f64.add (f64.add (global.get $d) (f64.promote_f32 (global.get $f)))"
    "             (f64.convert_i32_s (i32x4.extract_lane 2 (global.get $v))))))"
    "  (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))"
    "  (func (export \"size\") (result i32) (memory.size))"
    "  (func (export \"trap\") (param i32) (i32.store (i32.const 8192) (local.get 0)) unreachable)"
    "  (func (export \"read\") (param i32) (result i32) (i32.load8_u (local.get 0))))";

typedef struct {
    sl_dirty_t dirty;
    sl_engine_t *engine;
    sl_module_t *module;
    sl_instance_t *instance;
    sl_image_t *image;
    sl_err_t err;
    unsigned host_calls;
} rig_t;

static sl_status_t host(sl_instance_t *in, sl_raw_t *args) {
    (void)args;
    ((rig_t *)in->user)->host_calls++;
    return SL_OK;
}

static const sl_import_t imports[] = {{"env", "host", "i:", host}};

static void ok(const rig_t *rig, sl_status_t rc) {
    if (rc != SL_OK) {
        fail_msg("%d: %s", (int)rc, rig->err.text);
    }
}

static void start(rig_t *rig, const char *wat) {
    sl_engine_conf_t conf = {.dirty = rig->dirty};
    engine_signals_use();
    ok(rig, sl_engine_new(&conf, &rig->engine, &rig->err));
    ok(rig, sl_module_compile(rig->engine, sl_cstr(wat), &rig->module, &rig->err));
    ok(rig, sl_instance_new(rig->module, imports, 1, NULL, rig, &rig->instance, &rig->err));
}

static sl_status_t call(rig_t *rig, sl_instance_t *in, const char *name, const char *sig, uint32_t a, uint32_t b, sl_raw_t *result) {
    sl_func_t *f;
    sl_raw_t args[2] = {{.u32 = a}, {.u32 = b}};
    ok(rig, sl_instance_func(in, name, sig, &f, &rig->err));
    sl_status_t rc = sl_instance_call(in, f, args, &rig->err);
    if (result != NULL) {
        *result = args[0];
    }
    return rc;
}

static void put(rig_t *rig, sl_instance_t *in, uint32_t at, uint32_t value) {
    ok(rig, call(rig, in, "put", "ii:", at, value, NULL));
}

static void same_as_image(const rig_t *rig, sl_instance_t *in) {
    sl_instance_refresh(in);
    sl_str_t image = sl_image_memory(rig->image);
    assert_int_equal(in->mem_size, image.len);
    assert_memory_equal(in->mem, image.data, image.len);
}

static void take(rig_t *rig, const char *folder) {
    ok(rig, sl_image_take(rig->instance, folder, &rig->image, &rig->err));
}

static sl_instance_t *another(rig_t *rig) {
    sl_instance_t *in;
    ok(rig, sl_instance_from_image(rig->image, imports, 1, NULL, rig, &in, &rig->err));
    return in;
}

static void finish(rig_t *rig) {
    sl_instance_free(rig->instance);
    sl_image_unref(rig->image);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
}

static void each_way(void (*test)(rig_t *rig)) {
    for (sl_dirty_t how = SL_DIRTY_AUTO; how <= SL_DIRTY_REMAP; how++) {
        rig_t rig = {.dirty = how};
        start(&rig, guest);
        test(&rig);
        finish(&rig);
    }
}

static void the_way_is_chosen_at_the_start_and_has_a_name(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    assert_string_equal(sl_engine_dirty_name(rig.engine), "write protection"); /* the signal handlers are the engine's here */
    take(&rig, NULL);
    finish(&rig);
    rig = (rig_t){.dirty = SL_DIRTY_PAGEMAP};
    start(&rig, guest);
    assert_string_equal(sl_engine_dirty_name(rig.engine), "/proc/self/pagemap");
    finish(&rig);
}

/* ---- what restoring restores ---- */

static void any_writes_are_undone_with(rig_t *rig) {
    put(rig, rig->instance, 4242, 7);
    take(rig, NULL);
    sl_instance_t *in = another(rig);
    uint32_t seed = 1;
    for (int round = 0; round < 600; round++) {
        int writes = round % 50 == 0 ? 400 : round % 7;
        for (int i = 0; i < writes; i++) {
            seed = seed * 1664525 + 1013904223;
            put(rig, in, (i % 3 == 0 ? seed % 8192 : seed % (8 * WASM_PAGE)), seed >> 24);
        }
        if (round % 11 == 0) {
            ok(rig, call(rig, in, "fill", "ii:", 70000, 65536, NULL));
        }
        assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
        same_as_image(rig, in);
    }
    sl_instance_free(in);
}

static void any_writes_are_undone(void **state) {
    (void)state;
    each_way(any_writes_are_undone_with);
}

static void what_the_host_writes_is_undone_with(rig_t *rig) {
    take(rig, NULL);
    sl_instance_t *in = another(rig);
    for (int round = 0; round < 40; round++) {
        memset(in->mem + 3 * 4096 + 17, round, 9000);
        assert_int_equal(in->mem[3 * 4096 + 17], round);
        assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
        same_as_image(rig, in);
    }
    sl_instance_free(in);
}

static void what_the_host_writes_is_undone(void **state) {
    (void)state;
    each_way(what_the_host_writes_is_undone_with);
}

/* 2560 pages: more than one question about pages holds. `plant` writes the secret n times, `step` bytes apart; `find` counts it. */
static const char large_guest[] =
    "(module (import \"env\" \"host\" (func $host (param i32))) (memory (export \"memory\") 160)"
    "  (func (export \"plant\") (param $step i32) (param $n i32) (local $at i32)"
    "    (loop $next (i32.store (local.get $at) (i32.const 0x5ec2e701)) (local.set $at (i32.add (local.get $at) (local.get $step)))"
    "      (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $next (local.get $n))))"
    "  (func (export \"find\") (result i32) (local $at i32) (local $n i32)"
    "    (loop $next (local.set $n (i32.add (local.get $n) (i32.eq (i32.load (local.get $at)) (i32.const 0x5ec2e701))))"
    "      (local.set $at (i32.add (local.get $at) (i32.const 4)))"
    "      (br_if $next (i32.lt_u (local.get $at) (i32.const 10485760)))) (local.get $n)))";

static void a_secret_is_not_found(rig_t *rig, sl_instance_t *in, uint32_t step, uint32_t n) {
    sl_raw_t found;
    ok(rig, call(rig, in, "plant", "ii:", step, n, NULL));
    ok(rig, call(rig, in, "find", ":i", 0, 0, &found));
    assert_int_equal(found.u32, n);
    assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    ok(rig, call(rig, in, "find", ":i", 0, 0, &found));
    assert_int_equal(found.u32, 0);
}

static void a_guest_finds_nothing_that_a_former_use_left(void **state) {
    (void)state;
    static const struct {
        uint32_t step, n;
    } uses[] = {{4096, 2}, {10485756, 2}, {49152, 200}, {32768, 320}, {4096, 2560}, {8384512, 2}, {4096, 40}};
    for (sl_dirty_t how = SL_DIRTY_AUTO; how <= SL_DIRTY_REMAP; how++) {
        rig_t rig = {.dirty = how};
        start(&rig, large_guest);
        take(&rig, NULL);
        sl_instance_t *in = another(&rig);
        for (size_t i = 0; i < 3 * sizeof(uses) / sizeof(uses[0]); i++) {
            size_t use = i % (sizeof(uses) / sizeof(uses[0]));
            a_secret_is_not_found(&rig, in, uses[use].step, uses[use].n);
        }
        sl_instance_free(in);
        finish(&rig);
    }
}

static void globals_of_all_types_come_back_with(rig_t *rig) {
    sl_raw_t sum;
    take(rig, NULL);
    sl_instance_t *in = another(rig);
    ok(rig, call(rig, in, "globals", "i:", 100, 0, NULL));
    ok(rig, call(rig, in, "sum", ":F", 0, 0, &sum));
    assert_true(sum.f64 == 500);
    assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    ok(rig, call(rig, in, "sum", ":F", 0, 0, &sum));
    assert_true(sum.f64 == 5 + 6 + 1.5 + 2.5 + 3);
    sl_instance_free(in);
}

static void globals_of_all_types_come_back(void **state) {
    (void)state;
    each_way(globals_of_all_types_come_back_with);
}

static void memory_that_grew_is_cut_with(rig_t *rig) {
    sl_raw_t size;
    take(rig, NULL);
    sl_instance_t *in = another(rig);
    for (int round = 0; round < 10; round++) {
        ok(rig, call(rig, in, "grow", "i:i", (uint32_t)(round % 3 + 1), 0, &size));
        assert_int_equal(size.u32, 8);
        put(rig, in, 8 * WASM_PAGE + 5, 99);
        put(rig, in, 7, 99);
        assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
        same_as_image(rig, in);
        ok(rig, call(rig, in, "size", ":i", 0, 0, &size));
        assert_int_equal(size.u32, 8);
        assert_int_equal(call(rig, in, "read", "i:i", 8 * WASM_PAGE, 0, NULL), SL_TRAP);
        assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    }
    ok(rig, call(rig, in, "grow", "i:i", 1, 0, NULL));
    ok(rig, call(rig, in, "read", "i:i", 8 * WASM_PAGE + 5, 0, &size));
    assert_int_equal(size.u32, 0);
    sl_instance_free(in);
}

static void memory_that_grew_is_cut_and_what_was_there_is_gone(void **state) {
    (void)state;
    each_way(memory_that_grew_is_cut_with);
}

static void a_trap_leaves_nothing_with(rig_t *rig) {
    take(rig, NULL);
    sl_instance_t *in = another(rig);
    for (int round = 0; round < 30; round++) {
        assert_int_equal(call(rig, in, "trap", "i:", 77, 0, NULL), SL_TRAP);
        assert_non_null(strstr(rig->err.text, "unreachable"));
        assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
        same_as_image(rig, in);
        assert_int_equal(in->trap[0], 0);
        put(rig, in, 300, 1);
        assert_int_equal(call(rig, in, "read", "i:i", 0x7fffffff, 0, NULL), SL_TRAP);
        assert_non_null(strstr(rig->err.text, "out of bounds"));
        assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    }
    sl_instance_free(in);
}

static void a_trap_leaves_nothing_behind(void **state) {
    (void)state;
    each_way(a_trap_leaves_nothing_with);
}

static void an_instance_that_was_not_made_from_it_can_become_the_image(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    take(&rig, NULL);
    put(&rig, rig.instance, 555, 1);
    ok(&rig, call(&rig, rig.instance, "grow", "i:i", 3, 0, NULL));
    assert_int_equal(sl_instance_restore(rig.instance, rig.image), SL_OK);
    same_as_image(&rig, rig.instance);
    put(&rig, rig.instance, 555, 2);
    assert_int_equal(sl_instance_restore(rig.instance, rig.image), SL_OK);
    same_as_image(&rig, rig.instance);
    finish(&rig);
}

/* By reloading, as after a trap of an instance that no request has for itself. */
static void a_reload_brings_back_everything_with(rig_t *rig) {
    put(rig, rig->instance, 4242, 7);
    take(rig, NULL);
    sl_instance_t *in = rig->instance;
    for (uint32_t round = 0; round < 20; round++) {
        sl_raw_t sum, size;
        put(rig, in, 4242 + 4096 * (round % 7), round);
        ok(rig, call(rig, in, "globals", "i:", 100, 0, NULL));
        ok(rig, call(rig, in, "grow", "i:i", round % 3, 0, &size));
        assert_int_equal(call(rig, in, "trap", "i:", 77, 0, NULL), SL_TRAP);
        assert_int_equal(sl_instance_reload(in, rig->image), SL_OK);
        same_as_image(rig, in);
        ok(rig, call(rig, in, "sum", ":F", 0, 0, &sum));
        assert_true(sum.f64 == 5 + 6 + 1.5 + 2.5 + 3);
        ok(rig, call(rig, in, "size", ":i", 0, 0, &size));
        assert_int_equal(size.u32, 8);
    }
    /* and it may change to the other way, and back */
    put(rig, in, 9000, 1);
    assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    put(rig, in, 9000, 1);
    assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    same_as_image(rig, in);
    put(rig, in, 9000, 1);
    assert_int_equal(sl_instance_reload(in, rig->image), SL_OK);
    same_as_image(rig, in);
}

static void a_reload_brings_back_everything(void **state) {
    (void)state;
    each_way(a_reload_brings_back_everything_with);
}

/* What the guest has never touched takes no room in an image. */
static void an_image_has_holes_where_memory_is_zero(void **state) {
    (void)state;
    char folder[] = "/tmp/sl-image-XXXXXX", path[600];
    struct stat st = {.st_size = 0};
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    assert_non_null(mkdtemp(folder));
    start(&rig, guest);
    put(&rig, rig.instance, 5 * WASM_PAGE, 7);
    take(&rig, folder);
    same_as_image(&rig, rig.instance);
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.') {
            assert_int_equal(fstatat(dirfd(d), e->d_name, &st, 0), 0);
            snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        }
    }
    closedir(d);
    assert_int_equal(st.st_size, 8 * WASM_PAGE);
    assert_true((size_t)st.st_blocks * 512 < WASM_PAGE);
    finish(&rig);
    unlink(path);
    rmdir(folder);
}

static void an_image_of_grown_memory_makes_instances_of_that_size(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    ok(&rig, call(&rig, rig.instance, "grow", "i:i", 5, 0, NULL));
    put(&rig, rig.instance, 12 * WASM_PAGE, 44);
    take(&rig, NULL);
    sl_instance_t *in = another(&rig);
    same_as_image(&rig, in);
    sl_raw_t size;
    ok(&rig, call(&rig, in, "size", ":i", 0, 0, &size));
    assert_int_equal(size.u32, 13);
    sl_instance_free(in);
    finish(&rig);
}

static void an_instance_from_an_image_runs_no_start_function(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    assert_int_equal(rig.host_calls, 1);
    take(&rig, NULL);
    sl_instance_t *in = another(&rig);
    assert_int_equal(rig.host_calls, 1);
    sl_instance_free(in);
    finish(&rig);
}

static void instances_of_one_image_do_not_see_each_other(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    take(&rig, NULL);
    sl_instance_t *a = another(&rig), *b = another(&rig);
    put(&rig, a, 4096, 1);
    same_as_image(&rig, b);
    put(&rig, b, 4096, 2);
    assert_int_equal(a->mem[4096], 1);
    assert_int_equal(sl_image_memory(rig.image).data[4096], 0);
    sl_instance_free(a);
    assert_int_equal(b->mem[4096], 2);
    sl_instance_free(b);
    finish(&rig);
}

static void a_limit_holds_for_instances_from_images_too(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    take(&rig, NULL);
    sl_instance_limits_t limits = {.max_memory_bytes = 9 * WASM_PAGE};
    sl_instance_t *in;
    sl_raw_t got;
    ok(&rig, sl_instance_from_image(rig.image, imports, 1, &limits, &rig, &in, &rig.err));
    for (int round = 0; round < 3; round++) {
        ok(&rig, call(&rig, in, "grow", "i:i", 1, 0, &got));
        assert_int_equal(got.i32, 8);
        ok(&rig, call(&rig, in, "grow", "i:i", 1, 0, &got));
        assert_int_equal(got.i32, -1);
        assert_int_equal(sl_instance_restore(in, rig.image), SL_OK);
    }
    sl_instance_free(in);
    finish(&rig);
}

/* ---- what no image can hold ---- */

static void refuses(const char *wat, const char *why) {
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, wat);
    assert_int_equal(sl_image_take(rig.instance, NULL, &rig.image, &rig.err), SL_INVALID);
    if (strstr(rig.err.text, why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", rig.err.text, why);
    }
    finish(&rig);
}

static void modules_whose_state_is_more_than_memory_and_globals_have_no_image(void **state) {
    (void)state;
    refuses("(module (table 4 funcref) (func $f (table.set (i32.const 0) (ref.null func))))", "it writes to tables");
    refuses("(module (table 4 funcref) (func $f (drop (table.grow (ref.null func) (i32.const 1)))))", "it writes to tables");
    refuses("(module (table 4 funcref) (func $f (table.fill (i32.const 0) (ref.null func) (i32.const 1))))", "it writes to tables");
    refuses("(module (table 4 funcref) (func $f (table.copy (i32.const 0) (i32.const 1) (i32.const 1))))", "it writes to tables");
    refuses("(module (table 4 funcref) (func $f (block) (table.init 0 (i32.const 0) (i32.const 0) (i32.const 1))) (elem func $f))",
            "it writes to tables");
    refuses("(module (func $f (elem.drop 0)) (elem func $f))", "it drops segments");
    refuses("(module (memory (export \"memory\") 1) (func (data.drop 0)) (data \"x\"))", "it drops segments");
    refuses("(module (global (mut funcref) (ref.null func)))", "a global holds a reference");
    refuses("(module (table (export \"t\") 1 funcref))", "it exports a table");
    refuses("(module (memory 1))", "its memory is not exported");
}

static void modules_that_only_read_tables_have_one(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, "(module (memory (export \"memory\") 1) (table 2 funcref) (elem (i32.const 0) $f) (type $t (func))"
                "  (func $f (call_indirect (type $t) (i32.const 0)) (drop (table.get (i32.const 1))) (drop (table.size))"
                "    (memory.copy (i32.const 0) (i32.const 1) (i32.const 2)) (br_table 0 0 0 (i32.const 1)))"
                "  (func (result v128) (v128.load offset=16 (i32.const 0)) (v128.const i64x2 1 2) (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 "
                "12 13 14 15)))");
    take(&rig, NULL);
    finish(&rig);
}

static void a_reserved_export_is_refused(void **state) {
    (void)state;
    sl_engine_t *engine;
    sl_module_t *m;
    sl_err_t err;
    assert_int_equal(sl_engine_new(NULL, &engine, &err), SL_OK);
    assert_int_equal(sl_module_compile(engine, SL_STR("(module (func (export \"sluice:start\")))"), &m, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "reserved"));
    sl_engine_free(engine);
}

static void reserved_exports_are_not_shown(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    const sl_module_info_t *info = sl_module_info(rig.module);
    assert_int_equal(info->n_exports, 9);
    for (size_t i = 0; i < info->n_exports; i++) {
        assert_false(sl_str_starts(info->exports[i].name, SL_STR("sluice:")));
    }
    assert_true(info->has_start);
    finish(&rig);
}

/* ---- files and processes ---- */

static unsigned images_in(const char *folder) {
    unsigned n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        n += sl_str_ends(sl_cstr(e->d_name), SL_STR(".image"));
    }
    closedir(dir);
    return n;
}

static void the_same_memory_is_one_file_and_unused_files_go(void **state) {
    (void)state;
    char folder[] = "/tmp/sl-image-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    rig_t rig = {.dirty = SL_DIRTY_AUTO}, other = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    start(&other, guest);
    take(&rig, folder);
    take(&other, folder);
    assert_int_equal(images_in(folder), 1);
    sl_image_t *first = rig.image;
    put(&rig, rig.instance, 1, 1);
    take(&rig, folder);
    assert_int_equal(images_in(folder), 2);
    sl_image_unref(first);
    sl_image_unref(other.image);
    put(&other, other.instance, 2, 2);
    take(&other, folder); /* the first one is held by nobody now */
    assert_int_equal(images_in(folder), 2);
    sl_instance_t *in = another(&rig);
    same_as_image(&rig, in);
    sl_instance_free(in);
    finish(&rig);
    finish(&other);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void a_file_that_was_changed_is_not_used(void **state) {
    (void)state;
    char folder[] = "/tmp/sl-image-XXXXXX", command[256];
    assert_non_null(mkdtemp(folder));
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    start(&rig, guest);
    take(&rig, folder);
    sl_image_unref(rig.image);
    snprintf(command, sizeof(command), "printf X | dd of=$(echo %s/*.image) bs=1 seek=99 conv=notrunc status=none", folder);
    assert_int_equal(system(command), 0);
    take(&rig, folder);
    same_as_image(&rig, rig.instance);
    finish(&rig);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void a_forked_child_restores_for_itself_with(rig_t *rig) {
    take(rig, NULL);
    sl_instance_t *in = another(rig);
    for (int round = 0; round < 8; round++) {
        put(rig, in, 9000, 1);
        assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    }
    put(rig, in, 5000, 3);
    pid_t child = fork();
    if (child == 0) {
        put(rig, in, 20000, 4);
        bool good = in->mem[5000] == 3 && sl_instance_restore(in, rig->image) == SL_OK &&
                    memcmp(in->mem, sl_image_memory(rig->image).data, in->mem_size) == 0;
        put(rig, in, 30000, 4);
        good = good && sl_instance_restore(in, rig->image) == SL_OK && memcmp(in->mem, sl_image_memory(rig->image).data, in->mem_size) == 0;
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(in->mem[20000], 0);
    assert_int_equal(in->mem[5000], 3);
    assert_int_equal(sl_instance_restore(in, rig->image), SL_OK);
    same_as_image(rig, in);
    sl_instance_free(in);
}

static void a_forked_child_restores_for_itself(void **state) {
    (void)state;
    each_way(a_forked_child_restores_for_itself_with);
}

static void *use_an_instance(void *arg) {
    rig_t *rig = arg;
    sl_instance_t *in;
    if (sl_instance_from_image(rig->image, imports, 1, NULL, rig, &in, NULL) != SL_OK) {
        return arg;
    }
    void *bad = NULL;
    for (int round = 0; round < 300 && bad == NULL; round++) {
        memset(in->mem + (round % 100) * 4096, round, 5000);
        bool good = sl_instance_restore(in, rig->image) == SL_OK && memcmp(in->mem, sl_image_memory(rig->image).data, in->mem_size) == 0;
        bad = good ? NULL : arg;
    }
    sl_instance_free(in);
    return bad;
}

static void threads_restore_instances_of_their_own(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    pthread_t threads[3];
    start(&rig, guest);
    take(&rig, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_an_instance, &rig), 0);
    }
    for (int i = 0; i < 3; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    finish(&rig);
}

static void write_protection_is_not_used_where_the_handler_is_not_ours(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    struct sigaction theirs = {.sa_handler = SIG_DFL}, ours;
    start(&rig, guest);
    take(&rig, NULL);
    sigaction(SIGSEGV, &theirs, &ours);
    sl_instance_t *in = another(&rig);
    put(&rig, in, 5, 5);
    assert_int_equal(sl_instance_restore(in, rig.image), SL_OK);
    same_as_image(&rig, in);
    sigaction(SIGSEGV, &ours, NULL);
    sl_instance_free(in);
    finish(&rig);
}

/* ---- the null engine ---- */

static sl_status_t null_bump(sl_instance_t *in, sl_raw_t *args) {
    uint32_t *state = sl_null_state(in);
    args[0].u32 = ++*state;
    in->mem[10]++;
    return in->mem[10] == 3 ? sl_null_grow(in, 100) : SL_OK;
}

static const sl_null_export_t null_exports[] = {{"bump", ":i", null_bump}};
static const sl_null_guest_t null_guest = {.name = "image", .exports = null_exports, .n_exports = 1, .memory_bytes = 64, .state_bytes = 4};

static void native_guests_are_restored_too(void **state) {
    (void)state;
    rig_t rig = {.dirty = SL_DIRTY_AUTO};
    sl_engine_conf_t conf = {.name = "null"};
    sl_raw_t got;
    assert_int_equal(sl_null_register(&null_guest), SL_OK);
    ok(&rig, sl_engine_new(&conf, &rig.engine, &rig.err));
    ok(&rig, sl_module_compile(rig.engine, SL_STR("null:image"), &rig.module, &rig.err));
    ok(&rig, sl_instance_new(rig.module, NULL, 0, NULL, NULL, &rig.instance, &rig.err));
    ok(&rig, call(&rig, rig.instance, "bump", ":i", 0, 0, &got));
    take(&rig, NULL);
    for (int i = 0; i < 3; i++) {
        ok(&rig, call(&rig, rig.instance, "bump", ":i", 0, 0, &got));
        assert_int_equal(got.u32, 2);
        ok(&rig, call(&rig, rig.instance, "bump", ":i", 0, 0, &got));
        assert_int_equal(rig.instance->mem_size, 164);
        assert_int_equal(sl_instance_restore(rig.instance, rig.image), SL_OK);
        same_as_image(&rig, rig.instance);
    }
    sl_instance_t *in;
    ok(&rig, sl_instance_from_image(rig.image, NULL, 0, NULL, NULL, &in, &rig.err));
    ok(&rig, call(&rig, in, "bump", ":i", 0, 0, &got));
    assert_int_equal(got.u32, 2);
    sl_instance_free(in);
    finish(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_way_is_chosen_at_the_start_and_has_a_name),
        cmocka_unit_test(any_writes_are_undone),
        cmocka_unit_test(what_the_host_writes_is_undone),
        cmocka_unit_test(a_guest_finds_nothing_that_a_former_use_left),
        cmocka_unit_test(globals_of_all_types_come_back),
        cmocka_unit_test(memory_that_grew_is_cut_and_what_was_there_is_gone),
        cmocka_unit_test(a_trap_leaves_nothing_behind),
        cmocka_unit_test(an_instance_that_was_not_made_from_it_can_become_the_image),
        cmocka_unit_test(a_reload_brings_back_everything),
        cmocka_unit_test(an_image_has_holes_where_memory_is_zero),
        cmocka_unit_test(an_image_of_grown_memory_makes_instances_of_that_size),
        cmocka_unit_test(an_instance_from_an_image_runs_no_start_function),
        cmocka_unit_test(instances_of_one_image_do_not_see_each_other),
        cmocka_unit_test(a_limit_holds_for_instances_from_images_too),
        cmocka_unit_test(modules_whose_state_is_more_than_memory_and_globals_have_no_image),
        cmocka_unit_test(modules_that_only_read_tables_have_one),
        cmocka_unit_test(a_reserved_export_is_refused),
        cmocka_unit_test(reserved_exports_are_not_shown),
        cmocka_unit_test(the_same_memory_is_one_file_and_unused_files_go),
        cmocka_unit_test(a_file_that_was_changed_is_not_used),
        cmocka_unit_test(a_forked_child_restores_for_itself),
        cmocka_unit_test(threads_restore_instances_of_their_own),
        cmocka_unit_test(write_protection_is_not_used_where_the_handler_is_not_ours),
        cmocka_unit_test(native_guests_are_restored_too),
    };
    return engine_signals_save() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
