/* The directives inside wasm{}; for ngx_sluice_module.c only. */
#ifndef NGX_SLUICE_WASM_H
#define NGX_SLUICE_WASM_H

#include "ngx_sluice.h"

#define NGX_SLUICE_WASM_MODULE 0x4d534157 /* "WASM" */
#define NGX_SLUICE_WASM_CONF 0x02000000
#define NGX_SLUICE_METRICS_CONF 0x04000000
#define NGX_SLUICE_RUNTIME_CONF 0x08000000

extern ngx_module_t ngx_sluice_wasm_module;

void ngx_sluice_wasm_conf_init(ngx_sluice_conf_t *scf); /* all unset */
/* What only the configuration's parser can make. */
char *ngx_sluice_wasm_block_end(ngx_conf_t *cf, ngx_sluice_conf_t *scf);
ngx_int_t ngx_sluice_wasm_conf_defaults(ngx_sluice_conf_t *scf);

#endif
