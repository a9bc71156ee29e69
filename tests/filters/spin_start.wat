;; Never comes back from its start function.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 0))
  (func $spin (loop $again (br $again)))
  (start $spin))
