/* gRPC calls out: there is no transport for them here yet, so none can be started and no token is one of them. */
#include "pw_calls.h"
#include "pw_guest.h"

/* The low two bits of a token: what kind of call it is. */
enum { KIND_HTTP = 0, KIND_GRPC_STREAM = 2 };

static uint64_t refuse(pw_vm_t *vm, const sl_raw_t *a, size_t n_slices, size_t token) {
    sl_str_t s;
    for (size_t i = 0; i < n_slices; i++) {
        if (!pw_guest_in(vm, a[2 * i].u32, a[2 * i + 1].u32, &s)) {
            return PW_INVALID_MEMORY_ACCESS;
        }
    }
    return pw_guest_put_u32(vm, a[token].u32, 0) ? PW_INTERNAL_FAILURE : PW_INVALID_MEMORY_ACCESS;
}

uint64_t pw_call_grpc_call(pw_vm_t *vm, const sl_raw_t *a) {
    return refuse(vm, a, 5, 11);
}

uint64_t pw_call_grpc_stream(pw_vm_t *vm, const sl_raw_t *a) {
    return refuse(vm, a, 4, 8);
}

uint64_t pw_call_grpc_send(pw_vm_t *vm, const sl_raw_t *a) {
    sl_str_t message;
    if ((a[0].u32 & 3) != KIND_GRPC_STREAM) {
        return PW_BAD_ARGUMENT;
    }
    return pw_guest_in(vm, a[1].u32, a[2].u32, &message) ? PW_NOT_FOUND : PW_INVALID_MEMORY_ACCESS;
}

uint64_t pw_call_grpc_end(pw_vm_t *vm, const sl_raw_t *a) {
    (void)vm;
    return (a[0].u32 & 3) == KIND_HTTP ? PW_BAD_ARGUMENT : PW_NOT_FOUND;
}
