#!/bin/bash
# usage: build-rust.sh FOLDER OUT.wasm [EXAMPLE]
# Builds the crate of a folder for wasm32-wasip1 (its example, if one is named) and copies the module to OUT.wasm. As
# templates/rust/Makefile does, with the standard library of rustup where it has one for that target, else with Debian's, which
# is compiled from the package's sources. CARGO_TARGET_DIR is shared, so that this happens once.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

target=wasm32-wasip1
folder=$1 out=$(realpath -m "$2") example=${3-}
cd "$folder"
args=(build --quiet --release --locked --target "$target" ${example:+--example "$example"})
if [ -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
    cargo "${args[@]}"
else
    PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld-$CLANG_MAJOR \
        CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-Clink-self-contained=no -Lnative=/usr/lib/wasm32-wasi" \
        cargo "${args[@]}" -Zbuild-std=std,panic_abort
fi
name=${example:-$(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | head -n 1 | tr - _)}
cp "$CARGO_TARGET_DIR/$target/release/${example:+examples/}$name.wasm" "$out.$$"
mv "$out.$$" "$out"
