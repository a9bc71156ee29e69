/*
 * The filter of probe.c with the marker and the signatures of ABI 0.2.0; configured like it.
 */
#define PROXY_WASM_ABI_0_2_0
#include "probe.c"
