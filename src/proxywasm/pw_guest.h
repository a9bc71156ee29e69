/*
 * Guest memory: the only file that turns a guest's offsets into bytes. Every range is checked, by subtraction. What is handed out by
 * pw_guest_in is valid until the guest runs again; its allocator, which pw_guest_reserve calls, is the guest running.
 */
#ifndef PW_GUEST_H
#define PW_GUEST_H

#include "pw_internal.h"

/* Memory only grows while a guest runs, so asking how large it is now can wait for a range that does not fit. */
static inline bool pw_guest_fits(const pw_vm_t *vm, uint32_t ptr, uint32_t len) {
    size_t size = vm->instance->mem_size;
    return ptr <= size && len <= size - ptr;
}
static inline bool pw_guest_ok(const pw_vm_t *vm, uint32_t ptr, uint32_t len) {
    if (__builtin_expect(pw_guest_fits(vm, ptr, len), 1)) {
        return true;
    }
    sl_instance_refresh(vm->instance);
    return pw_guest_fits(vm, ptr, len);
}
/* Borrows len bytes at ptr. false: outside memory. Length 0 is legal anywhere inside, also at its end. */
static inline bool pw_guest_in(const pw_vm_t *vm, uint32_t ptr, uint32_t len, sl_str_t *out) {
    if (!pw_guest_ok(vm, ptr, len)) {
        return false;
    }
    *out = sl_str(vm->instance->mem + ptr, len);
    return true;
}
bool pw_guest_put_u32(pw_vm_t *vm, uint32_t ptr, uint32_t value);
bool pw_guest_put_u64(pw_vm_t *vm, uint32_t ptr, uint64_t value);
bool pw_guest_get_u32(const pw_vm_t *vm, uint32_t ptr, uint32_t *value);
bool pw_guest_fill(pw_vm_t *vm, uint32_t ptr, const void *data, size_t len);

/*
 * Allocates exactly len bytes in the guest, writes where and how many to ptr_ptr and size_ptr, and gives the bytes in *at to be filled at
 * once. len 0: writes 0 and 0 without calling the allocator. PW_INVALID_MEMORY_ACCESS: an out pointer lies outside, or the allocator
 * failed; after a trap in it vm->trapped is set too.
 */
pw_result_t pw_guest_reserve(pw_vm_t *vm, uint32_t ptr_ptr, uint32_t size_ptr, size_t len, char **at);
/* The same with the bytes, which must not lie in guest memory. */
pw_result_t pw_guest_give(pw_vm_t *vm, uint32_t ptr_ptr, uint32_t size_ptr, sl_str_t bytes);

#endif
