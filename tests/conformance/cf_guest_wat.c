#include "cf_guest.h"

static const char *type_name(char c) {
    return c == 'I' ? "i64" : c == 'F' ? "f64" : "i32";
}

/* Parameters and result of a signature, as WebAssembly writes them. */
static void put_type(sl_buf_t *out, const char *sig) {
    const char *p = sig;
    for (; *p != ':'; p++) {
        sl_buf_printf(out, " (param %s)", type_name(*p));
    }
    if (p[1] != '\0') {
        sl_buf_printf(out, " (result %s)", type_name(p[1]));
    }
}

static void put_import(sl_buf_t *out, const cf_import_t *import, size_t row) {
    sl_buf_printf(out, "(import \"%s\" \"%s\" (func $i%zu", import->module, import->name, row);
    put_type(out, import->sig);
    sl_buf_append_cstr(out, "))\n");
}

/*
 * Some functions are offered with two types, and a module can import only one: guests of ABI 0.1.0 take the one without a result (its row
 * has an alias and comes second), the others the one with a result. The other row's wrapper calls the one that is imported.
 */
static bool is_void_twin(const cf_import_t *imports, size_t row) {
    return imports[row].alias != NULL && row > 0 && strcmp(imports[row].name, imports[row - 1].name) == 0;
}

static size_t imported_row(const cf_import_t *imports, size_t n, cf_abi_t abi, size_t row) {
    if (abi == CF_ABI_0_1_0) {
        return row + 1 < n && is_void_twin(imports, row + 1) ? row + 1 : row;
    }
    return is_void_twin(imports, row) ? row - 1 : row;
}

static void put_twin_wrapper(sl_buf_t *out, const cf_import_t *import, size_t row, size_t twin) {
    bool answers = strchr(import[twin].sig, ':')[1] != '\0';
    sl_buf_printf(out, "(func $w%zu %s(call $i%zu)%s)\n", row, answers ? "(drop " : "(i32.store (i32.const 0x1010) (i32.const 0)) ", twin,
                  answers ? ")" : "");
}

/* Takes the arguments from CF_ARGS and leaves the result in CF_RES. */
static void put_wrapper(sl_buf_t *out, const cf_import_t *import, size_t row) {
    const char *colon = strchr(import->sig, ':');
    sl_buf_printf(out, "(func $w%zu ", row);
    if (colon[1] != '\0') {
        sl_buf_printf(out, "(%s.store (i32.const %d) ", type_name(colon[1]), CF_RES);
    }
    sl_buf_printf(out, "(call $i%zu", row);
    for (const char *p = import->sig; p != colon; p++) {
        sl_buf_printf(out, " (%s.load (i32.const %d))", type_name(*p), CF_ARGS + 8 * (int)(p - import->sig));
    }
    sl_buf_append_cstr(out, colon[1] != '\0' ? ")))\n" : "))\n");
}

static void put_callback(sl_buf_t *out, const cf_callback_t *cb, unsigned id, const char *sig) {
    const char *colon = strchr(sig, ':');
    sl_buf_printf(out, "(func (export \"%s\")", cb->name);
    put_type(out, sig);
    for (int i = 0; i < 5; i++) {
        sl_buf_printf(out, " (i32.store (i32.const %d) (%s %d))", CF_CBARGS + 4 * i, i < colon - sig ? "local.get" : "i32.const",
                      i < colon - sig ? i : 0);
    }
    sl_buf_printf(out, " (call $run (i32.const %u) (i32.const %u))", id, cb->default_return);
    sl_buf_append_cstr(out, colon[1] != '\0' ? ")\n" : " drop)\n");
}

/* $hex writes one byte at $p; $report writes a report; the numbers stand for the addresses of cf_abi.h. */
static const char interpreter[] =
    "(func $digit (param $v i32) (result i32)\n"
    "  (i32.add (local.get $v) (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $v) (i32.const 10)))))\n"
    "(func $hex (param $p i32) (param $b i32) (result i32)\n"
    "  (i32.store8 (local.get $p) (call $digit (i32.shr_u (local.get $b) (i32.const 4))))\n"
    "  (i32.store8 offset=1 (local.get $p) (call $digit (i32.and (local.get $b) (i32.const 15))))\n"
    "  (i32.add (local.get $p) (i32.const 2)))\n"
    "(func $report (param $tag i32) (param $id i32) (param $at i32) (param $len i32) (local $p i32) (local $end i32)\n"
    "  (if (i32.gt_u (local.get $len) (i32.const 1500)) (then (local.set $len (i32.const 1500))))\n"
    "  (i32.store16 (i32.const 0x2000) (i32.const 0x4040))\n"
    "  (i32.store8 (i32.const 0x2002) (local.get $tag))\n"
    "  (local.set $p (call $hex (i32.const 0x2003) (i32.shr_u (local.get $id) (i32.const 24))))\n"
    "  (local.set $p (call $hex (local.get $p) (i32.and (i32.const 255) (i32.shr_u (local.get $id) (i32.const 16)))))\n"
    "  (local.set $p (call $hex (local.get $p) (i32.and (i32.const 255) (i32.shr_u (local.get $id) (i32.const 8)))))\n"
    "  (local.set $p (call $hex (local.get $p) (i32.and (i32.const 255) (local.get $id))))\n"
    "  (i32.store8 (local.get $p) (i32.const 58))\n"
    "  (local.set $p (i32.add (local.get $p) (i32.const 1)))\n"
    "  (local.set $end (i32.add (local.get $at) (local.get $len)))\n"
    "  (block $done (loop $again\n"
    "    (br_if $done (i32.eq (local.get $at) (local.get $end)))\n"
    "    (local.set $p (call $hex (local.get $p) (i32.load8_u (local.get $at))))\n"
    "    (local.set $at (i32.add (local.get $at) (i32.const 1)))\n"
    "    (br $again)))\n"
    "  (i32.store8 (local.get $p) (i32.const 46))\n"
    "  (drop (call $log (i32.const 2) (i32.const 0x2000) (i32.sub (local.get $p) (i32.const 0x1fff)))))\n"
    /* CALL: puts the arguments in place and calls the wrapper. */
    "(func $arg (param $at i32) (result i64) (local $low i32)\n"
    "  (local.set $low (i32.load offset=4 (local.get $at)))\n"
    "  (if (i32.eqz (i32.load (local.get $at))) (then (return (i64.load offset=4 align=4 (local.get $at)))))\n"
    "  (if (i32.eq (i32.load (local.get $at)) (i32.const 1)) (then (return (i64.load32_u (local.get $low)))))\n"
    "  (i64.load (local.get $low)))\n"
    "(func $op_call (param $id i32) (param $at i32) (local $n i32) (local $i i32)\n"
    "  (local.set $n (i32.load offset=4 (local.get $at)))\n"
    "  (block $done (loop $again\n"
    "    (br_if $done (i32.ge_u (local.get $i) (local.get $n)))\n"
    "    (i64.store (i32.add (i32.const 0x1020) (i32.mul (local.get $i) (i32.const 8)))\n"
    "      (call $arg (i32.add (local.get $at) (i32.add (i32.const 8) (i32.mul (local.get $i) (i32.const 12))))))\n"
    "    (local.set $i (i32.add (local.get $i) (i32.const 1)))\n"
    "    (br $again)))\n"
    "  (call_indirect (type $void) (i32.load (local.get $at)))\n"
    "  (call $report (i32.const 82) (local.get $id) (i32.const 0x1010) (i32.const 4)))\n"
    "(func $exec (param $op i32) (param $id i32) (param $at i32)\n"
    "  (block $cbargs (block $trap (block $return (block $showref (block $show (block $store (block $call\n"
    "    (br_table $trap $call $store $show $showref $return $trap $cbargs $trap (local.get $op)))\n"
    "    (call $op_call (local.get $id) (local.get $at)) (return))\n"
    "    (memory.copy (i32.load (local.get $at)) (i32.add (local.get $at) (i32.const 8)) (i32.load offset=4 (local.get $at))) (return))\n"
    "    (call $report (i32.const 77) (local.get $id) (i32.load (local.get $at)) (i32.load offset=4 (local.get $at))) (return))\n"
    "    (call $report (i32.const 86) (local.get $id) (i32.load (i32.load (local.get $at)))\n"
    "      (i32.load (i32.load offset=4 (local.get $at)))) (return))\n"
    "    (i32.store (i32.const 0x1008) (i32.load (local.get $at))) (return))\n"
    "    unreachable)\n"
    "  (call $report (i32.const 65) (local.get $id) (i32.const 0x10c0) (i32.mul (i32.const 4) (i32.load (local.get $at)))))\n"
    "(func $run (param $cb i32) (param $default i32) (result i32)\n"
    "    (local $at i32) (local $end i32) (local $head i32) (local $nth i32) (local $count i32) (local $here i32)\n"
    "  (if (i32.eqz (i32.load (i32.const 0x1000)))\n"
    "    (then (drop (call $get_buffer (i32.const 6) (i32.const 0) (i32.const 0x7fffffff) (i32.const 0x1000) (i32.const 0x1004)))))\n"
    "  (local.set $here (i32.add (i32.const 0x1100) (i32.mul (local.get $cb) (i32.const 4))))\n"
    "  (local.set $count (i32.add (i32.load (local.get $here)) (i32.const 1)))\n"
    "  (i32.store (local.get $here) (local.get $count))\n"
    "  (i32.store (i32.const 0x1008) (local.get $default))\n"
    "  (local.set $at (i32.load (i32.const 0x1000)))\n"
    "  (local.set $end (i32.add (local.get $at) (i32.load (i32.const 0x1004))))\n"
    "  (block $done (loop $again\n"
    "    (br_if $done (i32.eq (local.get $at) (local.get $end)))\n"
    "    (local.set $here (local.get $at))\n"
    "    (local.set $head (i32.load (local.get $at)))\n"
    "    (local.set $nth (i32.shr_u (local.get $head) (i32.const 16)))\n"
    "    (local.set $at (i32.add (local.get $at) (i32.add (i32.const 12) (i32.mul (i32.const 4) (i32.load offset=4 (local.get $at))))))\n"
    "    (br_if $again (i32.ne (i32.and (i32.const 255) (i32.shr_u (local.get $head) (i32.const 8))) (local.get $cb)))\n"
    "    (br_if $again (i32.and (i32.ne (local.get $nth) (i32.const 0)) (i32.ne (local.get $nth) (local.get $count))))\n"
    "    (call $exec (i32.and (i32.const 255) (local.get $head)) (i32.load offset=8 (local.get $here)) (i32.add (local.get $here) "
    "(i32.const 12)))\n"
    "    (br $again)))\n"
    "  (i32.load (i32.const 0x1008)))\n"
    "(func (export \"malloc\") (param $size i32) (result i32) (local $heap i32) (local $mode i32)\n"
    "  (local.set $mode (i32.load (i32.const 0x10f4)))\n"
    "  (local.set $heap (i32.load (i32.const 0x10f0)))\n"
    "  (if (i32.eqz (local.get $heap)) (then (local.set $heap (i32.const 0x10000))))\n"
    "  (if (i32.eq (local.get $mode) (i32.const 3)) (then unreachable))\n"
    "  (if (i32.eq (local.get $mode) (i32.const 4)) (then (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))\n"
    "  (if (i32.eq (local.get $mode) (i32.const 1)) (then (return (i32.const 0))))\n"
    "  (if (i32.eq (local.get $mode) (i32.const 2)) (then (return (i32.const 0xfffffff0))))\n"
    "  (if (i32.gt_u (local.get $size) (i32.sub (i32.const 0x100000) (local.get $heap))) (then (return (i32.const 0))))\n"
    "  (i32.store (i32.const 0x10f0) (i32.and (i32.add (i32.add (local.get $heap) (local.get $size)) (i32.const 7)) (i32.const -8)))\n"
    "  (local.get $heap))\n";

sl_status_t cf_wat_guest(const cf_import_t *imports, size_t n_imports, cf_abi_t abi, sl_buf_t *out) {
    sl_buf_append_cstr(out, "(module\n(type $void (func))\n");
    for (size_t i = 0; i < n_imports; i++) {
        if (imported_row(imports, n_imports, abi, i) == i) {
            put_import(out, &imports[i], i);
        }
    }
    sl_buf_append_cstr(out, "(import \"env\" \"proxy_log\" (func $log (param i32 i32 i32) (result i32)))\n"
                            "(import \"env\" \"proxy_get_buffer_bytes\" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))\n"
                            "(memory (export \"memory\") 16)\n");
    sl_buf_printf(out, "(func (export \"%s\"))\n(table %zu funcref)\n(elem (i32.const 0)", cf_markers[abi], n_imports);
    for (size_t i = 0; i < n_imports; i++) {
        sl_buf_printf(out, " $w%zu", i);
    }
    sl_buf_append_cstr(out, ")\n");
    for (size_t i = 0; i < n_imports; i++) {
        size_t used = imported_row(imports, n_imports, abi, i);
        if (used == i) {
            put_wrapper(out, &imports[i], i);
        } else {
            put_twin_wrapper(out, imports, i, used);
        }
    }
    sl_buf_append_cstr(out, interpreter);
    for (unsigned i = 0; i < CF_CALLBACK_N; i++) {
        put_callback(out, &cf_callbacks[i], i, abi == CF_ABI_0_1_0 ? cf_callbacks[i].sig_0_1_0 : cf_callbacks[i].sig);
    }
    return sl_buf_append_cstr(out, ")\n");
}
