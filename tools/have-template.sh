#!/bin/bash
# usage: have-template.sh go|rust|as
# Exit 0 when this machine can compile the template, or the tests' filters, of that language.
. "$(dirname "$0")/lib.sh"

# A rustc that has the target's standard library, or Debian's with the library's sources to build it from.
rust_is_usable() {
    have cargo && have rustc || return 1
    [ -d "$(rustc --print target-libdir --target wasm32-wasip1 2>/dev/null)" ] && return 0
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std" ] &&
        have "wasm-ld-$CLANG_MAJOR" && [ -d /usr/lib/wasm32-wasi ]
}

case ${1-} in
go) go_is_usable ;;
rust) rust_is_usable ;;
as) have node && have npm ;; # AssemblyScript
*) die "usage: have-template.sh go|rust|as" ;;
esac
