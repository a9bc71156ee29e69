#!/bin/bash
# usage: SLUICE_INCS=... FLAVOR=release|asan LIBS="liba.a ..." build-module.sh debian|stable|asan OUTPUT.so
# Configures our addon for that nginx (again only when its configuration changed) and builds it; libwasmtime.so goes beside.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/nginx-options.sh"

name=$1
out=$ROOT/$2
addon=${SLUICE_ADDON:-$ROOT/src/nginx}
dest=$BUILD/nginx/$name
obj=$dest/module
so=$obj/$(basename "$out")
modules=$(dirname "$out")

[ -f "$addon/config" ] || die "$addon/config does not exist: no module to build"
nginx_options "$name"
lock "module-$name"
linked_sources "$dest/src"
cd "$dest/src"

archives=()
for lib in $LIBS; do
    archives+=("$BUILD/$FLAVOR/$lib")
done
# exclude-libs: the module exports nginx's symbols only; Bsymbolic-functions and no-semantic-interposition: nobody puts functions of his own in
# the place of ours, so that they are called directly, or inlined. @ORIGIN@ (the engine's library lies beside the module) becomes
# $ORIGIN after configure, which would need three layers of quoting for it.
export SLUICE_LIBS="-Wl,--start-group ${archives[*]} -Wl,--end-group -Wl,--exclude-libs,ALL -Wl,-Bsymbolic-functions -Wl,--as-needed -L$DEPS/wasmtime/lib -lwasmtime -Wl,-rpath,@ORIGIN@ -ljansson -lyaml -lpcre2-8 -lsqlite3 -lnghttp2 -lz -lcrypto -lssl -lpthread -lm -ldl"
export SLUICE_INCS

fingerprint=$({
    printf '%s\n' "${options[@]}" "$SLUICE_LIBS" "$SLUICE_INCS"
    cat "$addon/config"
    find "$addon" -name '*.[ch]' | sort
    if [ "$name" = debian ]; then nginx -v 2>&1; fi
} | sha256sum)
if [ ! -f "$obj/Makefile" ] || [ "$(cat "$obj/.fingerprint" 2>/dev/null)" != "$fingerprint" ]; then
    rm -rf "$obj"
    quietly "$dest/module-configure.log" ./configure "${options[@]}" "--add-dynamic-module=$addon" "--builddir=$obj"
    sed -i "s/@ORIGIN@/'\$\$ORIGIN'/; s/^CFLAGS = /&-fno-semantic-interposition /" "$obj/Makefile"
    printf '\n-include $(wildcard %s/addon/*/*.d)\n' "$obj" >>"$obj/Makefile"
    printf '%s\n' "$fingerprint" >"$obj/.fingerprint"
fi

# nginx's makefile does not know the archives that we link.
for archive in "${archives[@]}"; do
    [ ! "$archive" -nt "$so" ] || rm -f "$so"
done
quietly "$dest/module-make.log" make -j2 -f "$obj/Makefile" modules

mkdir -p "$modules"
if ! cmp -s "$DEPS/wasmtime/lib/libwasmtime.so" "$modules/libwasmtime.so"; then
    cp "$DEPS/wasmtime/lib/libwasmtime.so" "$modules/libwasmtime.so.$$"
    mv "$modules/libwasmtime.so.$$" "$modules/libwasmtime.so"
fi
cp "$so" "$out.$$"
mv "$out.$$" "$out"
say "built ${out#"$ROOT"/} ($name)"
