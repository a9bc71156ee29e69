/* What errors and traps of Wasmtime say to the layers above. */
#include "wasmtime_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_FRAMES 20
#define MAX_FRAME_NAME 160

sl_status_t wt_no_memory(sl_err_t *err) {
    return sl_err_set(err, SL_NO_MEMORY, "wasmtime: out of memory");
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

typedef struct {
    char *at;
    size_t left; /* with the NUL */
} wt_text_t;

static wt_text_t text_begin(sl_err_t *err) {
    return (wt_text_t){err->text, sizeof(err->text)};
}

/* A piece that does not fit is left out whole. */
static bool text_add(wt_text_t *t, const char *piece) {
    size_t len = strlen(piece);
    if (len >= t->left) {
        return false;
    }
    memcpy(t->at, piece, len + 1);
    t->at += len;
    t->left -= len;
    return true;
}

/* One line: names come from guests and must not be able to write lines of a log. */
static void copy_line(char *out, size_t size, const char *data, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < size; i++) {
        unsigned char c = (unsigned char)data[i];
        bool space = isspace(c) || c == '\0';
        if (space && (n == 0 || out[n - 1] == ' ')) {
            continue;
        }
        out[n++] = space ? ' ' : iscntrl(c) ? '?' : (char)c;
    }
    while (n > 0 && out[n - 1] == ' ') {
        n--;
    }
    out[n] = '\0';
}

/* Takes the error. */
sl_status_t wt_set_error(sl_err_t *err, sl_status_t status, const char *what, wasmtime_error_t *error) {
    wasm_name_t message;
    wasmtime_error_message(error, &message);
    char line[900];
    copy_line(line, sizeof(line), message.data, message.size);
    wasm_byte_vec_delete(&message);
    wasmtime_error_delete(error);
    return sl_err_set(err, status, "%s: %s", what, line);
}

/* ---- traps ------------------------------------------------------------------------------------------------------ */

/* By Wasmtime's code. The guests that we run cannot raise the others. */
static const char *const reasons[] = {
    "stack overflow",
    "memory access out of bounds",
    "misaligned atomic access",
    "table access out of bounds",
    "call through an empty table entry",
    "call through a table entry of another type",
    "integer overflow",
    "integer division by zero",
    "a float that no integer can hold",
    "unreachable code was reached",
    "interrupted",
    "out of fuel",
};

/* Takes error or trap (one of them is set). Frames point into it, so it lives until the text is written. */
typedef struct {
    wasmtime_error_t *error;
    wasm_trap_t *trap;
} wt_failure_t;

static void failure_free(wt_failure_t *f) {
    if (f->error != NULL) {
        wasmtime_error_delete(f->error);
    }
    if (f->trap != NULL) {
        wasm_trap_delete(f->trap);
    }
}

static void failure_message(const wt_failure_t *f, wasm_byte_vec_t *out) {
    if (f->trap != NULL) {
        wasm_trap_message(f->trap, out);
    } else {
        wasmtime_error_message(f->error, out);
    }
}

static void failure_frames(const wt_failure_t *f, wasm_frame_vec_t *out) {
    if (f->trap != NULL) {
        wasm_trap_trace(f->trap, out);
    } else {
        wasmtime_error_wasm_trace(f->error, out);
    }
}

/* instance->trap becomes the reason, unless a host function has written it already. */
static void keep_reason(sl_instance_t *instance, const wt_failure_t *f) {
    wasmtime_trap_code_t code;
    if (instance->trap[0] != '\0') {
        return;
    }
    if (f->trap != NULL && wasmtime_trap_code(f->trap, &code) && code < sizeof(reasons) / sizeof(reasons[0])) {
        sl_instance_trap(instance, "%s", reasons[code]);
        return;
    }
    wasm_byte_vec_t message;
    failure_message(f, &message);
    copy_line(instance->trap, sizeof(instance->trap), message.data, message.size);
    wasm_byte_vec_delete(&message);
}

/* ---- Wasmtime's own rendering of a frame: names as their language writes them, and positions ---- */

#define POSITION "\n                    at "
#define INLINED "\n                - "

/* What is rendered of one frame, up to the next one; data NULL: nothing. */
typedef struct {
    const char *at; /* in all of it */
    sl_str_t text;
} wt_rendered_t;

/*
 * A frame is "\n    <n>: 0x<offset> - <module>!<name>". With debug information it is a name for each function that was inlined there,
 * innermost first, and then the function itself, each with a line of its position. The frames are taken in their order.
 */
static void render_frame(wt_rendered_t *r, size_t n) {
    char head[24];
    r->text = SL_STR_NULL;
    if (r->at == NULL) {
        return;
    }
    snprintf(head, sizeof(head), "\n%5zu: ", n);
    const char *frame = strstr(r->at, head);
    if (frame == NULL) {
        return;
    }
    frame += strlen(head);
    snprintf(head, sizeof(head), "\n%5zu: ", n + 1);
    const char *next = strstr(frame, head);
    r->at = next != NULL ? next : frame;
    r->text = sl_str(frame, next != NULL ? (size_t)(next - frame) : strlen(frame));
}

/* What follows the first (or last) `mark` in its line; data NULL: there is none. */
static sl_str_t after(sl_str_t text, const char *mark, bool last) {
    size_t len = strlen(mark);
    sl_str_t found = SL_STR_NULL;
    for (const char *at = memmem(text.data, text.len, mark, len); at != NULL;
         at = memmem(at, (size_t)(text.data + text.len - at), mark, len)) {
        at += len;
        const char *end = memchr(at, '\n', (size_t)(text.data + text.len - at));
        found = sl_str(at, (size_t)((end != NULL ? end : text.data + text.len) - at));
        if (!last) {
            break;
        }
    }
    return found;
}

static bool is_hash(const char *at, const char *end, size_t digits) {
    for (size_t i = 0; i < digits; i++, at++) {
        if (at == end || !isxdigit((unsigned char)*at)) {
            return false;
        }
    }
    return true;
}

/* Without what only compilers tell apart by: crate[0123456789abcdef]::name, crate::name::h0123456789abcdef. */
static size_t without_hashes(char *name) {
    enum { DIGITS = 16 };
    const char *end = name + strlen(name);
    char *out = name;
    for (const char *in = name; in < end; in++) {
        if (*in == '[' && is_hash(in + 1, end, DIGITS) && in + 1 + DIGITS < end && in[1 + DIGITS] == ']') {
            in += 1 + DIGITS;
        } else if (end - in == 3 + DIGITS && memcmp(in, "::h", 3) == 0 && is_hash(in + 3, end, DIGITS)) {
            break;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return (size_t)(out - name);
}

/* Linkers leave some names of Rust and C++ mangled. false: this one is not, or nobody can read it. */
static bool readable_name(const wt_rendered_t *r, const wasm_name_t *raw, char *out, size_t size) {
    if (raw->size < 3 || raw->data[0] != '_' || (raw->data[1] != 'R' && raw->data[1] != 'Z') || r->text.data == NULL) {
        return false;
    }
    sl_str_t name = after(r->text, INLINED, true);
    if (name.data == NULL) {
        name = after(r->text, " - ", false);
        const char *module = memchr(name.data, '!', name.len);
        if (after(r->text, POSITION, false).data == NULL && module != NULL) {
            name = sl_str(module + 1, name.len - (size_t)(module + 1 - name.data));
        }
    }
    copy_line(out, size, name.data, name.len);
    return without_hashes(out) != 0 && strcmp(out, "<inlined function>") != 0;
}

/* "  at name (module)"; the module's name section may name neither. */
static bool add_frame(wt_text_t *t, const wasm_frame_t *frame, const wt_rendered_t *r, const sl_module_info_t *info) {
    char func[MAX_FRAME_NAME], module[MAX_FRAME_NAME / 2], line[2 * MAX_FRAME_NAME];
    const wasm_name_t *name = wasmtime_frame_func_name(frame);
    if (name == NULL) {
        snprintf(func, sizeof(func), "#%u", (unsigned)wasm_frame_func_index(frame));
    } else if (!readable_name(r, name, func, sizeof(func))) {
        copy_line(func, sizeof(func), name->data, name->size);
    }
    name = wasmtime_frame_module_name(frame);
    if (name != NULL && name->size != 0) {
        copy_line(module, sizeof(module), name->data, name->size);
    } else {
        snprintf(module, sizeof(module), "module %02x%02x%02x%02x", info->sha256[0], info->sha256[1], info->sha256[2], info->sha256[3]);
    }
    snprintf(line, sizeof(line), "\n  at %s (%s)", func, module);
    return text_add(t, line);
}

/* Where in the function it was; and, where that was in another one that the compiler has put into it, where in that. */
static void add_position(wt_text_t *t, const wt_rendered_t *r) {
    char line[MAX_FRAME_NAME], whole[2 * MAX_FRAME_NAME];
    sl_str_t own = r->text.data != NULL ? after(r->text, POSITION, true) : SL_STR_NULL;
    if (own.data == NULL) {
        return;
    }
    copy_line(line, sizeof(line), own.data, own.len);
    snprintf(whole, sizeof(whole), " %s", line);
    text_add(t, whole);
    sl_str_t inlined = after(r->text, POSITION, false);
    if (inlined.data != own.data) {
        copy_line(line, sizeof(line), inlined.data, inlined.len);
        snprintf(whole, sizeof(whole), " (inlined: %s)", line);
        text_add(t, whole);
    }
}

static void add_frames(wt_text_t *t, const sl_instance_t *instance, const wt_failure_t *f) {
    bool positions = ((const wt_engine_t *)instance->module->engine)->backtraces;
    wasm_byte_vec_t message;
    failure_message(f, &message);
    char *rendered = strndup(message.data, message.size); /* NULL: then it is the raw names */
    wasm_byte_vec_delete(&message);
    wasm_frame_vec_t frames;
    failure_frames(f, &frames);
    wt_rendered_t r = {.at = rendered, .text = SL_STR_NULL};
    uint32_t first_added = ((const wt_module_t *)instance->module)->first_added;
    for (size_t i = 0; i < frames.size && i < MAX_FRAMES; i++) {
        render_frame(&r, i);
        if (wasm_frame_func_index(frames.data[i]) >= first_added) {
            continue; /* the rewriter's, not the guest's */
        }
        if (!add_frame(t, frames.data[i], &r, &instance->module->info)) {
            break;
        }
        if (positions) {
            add_position(t, &r);
        }
    }
    wasm_frame_vec_delete(&frames);
    free(rendered);
}

/* Takes error or trap. */
__attribute__((cold, noinline)) sl_status_t wt_set_trap(sl_err_t *err, sl_instance_t *instance, wasmtime_error_t *error,
                                                        wasm_trap_t *trap) {
    wt_failure_t f = {error, trap};
    keep_reason(instance, &f);
    if (err != NULL) {
        wt_text_t t = text_begin(err);
        text_add(&t, instance->trap);
        add_frames(&t, instance, &f);
    }
    failure_free(&f);
    return SL_TRAP;
}
