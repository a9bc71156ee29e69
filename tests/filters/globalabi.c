/*
 * The marker of the ABI's version is exported as a global variable, not as a function: that does not count as one. Not configured.
 */
#define PROXY_WASM_ABI_NONE
#define PROXY_WASM_IMPLEMENTATION
#include "proxy_wasm.h"

__asm__(".globaltype proxy_abi_version_0_2_1, i32, immutable\n"
        ".globl proxy_abi_version_0_2_1\n"
        ".export_name proxy_abi_version_0_2_1, proxy_abi_version_0_2_1\n"
        "proxy_abi_version_0_2_1:\n");
