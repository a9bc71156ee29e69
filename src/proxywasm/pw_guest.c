#include "pw_guest.h"

/* The ABI is little-endian and promises no alignment. */
bool pw_guest_put_u32(pw_vm_t *vm, uint32_t ptr, uint32_t value) {
    uint8_t b[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    return pw_guest_fill(vm, ptr, b, sizeof(b));
}

bool pw_guest_put_u64(pw_vm_t *vm, uint32_t ptr, uint64_t value) {
    uint8_t b[8];
    for (size_t i = 0; i < sizeof(b); i++) {
        b[i] = (uint8_t)(value >> (8 * i));
    }
    return pw_guest_fill(vm, ptr, b, sizeof(b));
}

bool pw_guest_get_u32(const pw_vm_t *vm, uint32_t ptr, uint32_t *value) {
    sl_str_t s;
    if (!pw_guest_in(vm, ptr, 4, &s)) {
        return false;
    }
    const uint8_t *b = (const uint8_t *)s.data;
    *value = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return true;
}

bool pw_guest_fill(pw_vm_t *vm, uint32_t ptr, const void *data, size_t len) {
    if (len > UINT32_MAX || !pw_guest_ok(vm, ptr, (uint32_t)len)) {
        return false;
    }
    if (len != 0) {
        memcpy(vm->instance->mem + ptr, data, len);
    }
    return true;
}

/* 0: the allocator failed or trapped. */
static uint32_t allocate(pw_vm_t *vm, uint32_t len) {
    sl_raw_t args[1] = {{.u32 = len}};
    sl_err_t err;
    pw_cb_t running = vm->running;
    vm->during |= PW_DURING_ALLOC;
    vm->instance->inner_ms = PW_ALLOC_MS + len / PW_ALLOC_BYTES_PER_MS;
    sl_status_t rc = sl_instance_call(vm->instance, vm->alloc, args, &err);
    vm->during &= (uint8_t)~PW_DURING_ALLOC;
    vm->running = running;
    if (rc != SL_OK) {
        pw_vm_trap(vm, "in the guest's allocator: %.300s", err.text);
        return 0;
    }
    return args[0].u32;
}

pw_result_t pw_guest_reserve(pw_vm_t *vm, uint32_t ptr_ptr, uint32_t size_ptr, size_t len, char **at) {
    if (!pw_guest_ok(vm, ptr_ptr, 4) || !pw_guest_ok(vm, size_ptr, 4) || len > UINT32_MAX) {
        return PW_INVALID_MEMORY_ACCESS;
    }
    uint32_t ptr = 0;
    if (len != 0) {
        ptr = allocate(vm, (uint32_t)len);
        if (ptr == 0 || !pw_guest_ok(vm, ptr, (uint32_t)len)) {
            return PW_INVALID_MEMORY_ACCESS;
        }
    }
    pw_guest_put_u32(vm, ptr_ptr, ptr);
    pw_guest_put_u32(vm, size_ptr, (uint32_t)len);
    *at = (char *)vm->instance->mem + ptr;
    return PW_OK;
}

pw_result_t pw_guest_give(pw_vm_t *vm, uint32_t ptr_ptr, uint32_t size_ptr, sl_str_t bytes) {
    char *at;
    pw_result_t rc = pw_guest_reserve(vm, ptr_ptr, size_ptr, bytes.len, &at);
    if (rc == PW_OK && bytes.len != 0) {
        memcpy(at, bytes.data, bytes.len);
    }
    return rc;
}
