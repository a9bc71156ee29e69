;; Imports a function of WASI that is not in preview 1, and a second one that nobody provides: both have to be named.
(module
  (import "wasi_snapshot_preview1" "thread_spawn" (func (param i32) (result i32)))
  (import "env" "proxy_not_in_any_abi" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024)))
