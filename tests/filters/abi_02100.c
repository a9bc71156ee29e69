/*
 * The filter of probe.c with the marker of an extended ABI 0.2.1, as one family of SDKs has it; configured like it.
 */
#define PROXY_WASM_ABI_NONE
#include "probe.c"

PW_EXPORT_AS("proxy_abi_version_0_2_100") void proxy_abi_version_0_2_100(void);

void proxy_abi_version_0_2_100(void) {
}
