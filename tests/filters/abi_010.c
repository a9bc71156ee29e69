/*
 * The filter of probe.c with the marker and the signatures of ABI 0.1.0. Its configuration comes by proxy_get_configuration.
 */
#define PROXY_WASM_ABI_0_1_0
#include "probe.c"
