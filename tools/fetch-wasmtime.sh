#!/bin/bash
# Puts the pinned Wasmtime library and its C headers into build/deps/wasmtime. Does nothing when they are there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

dest=$DEPS/wasmtime
stamp=$dest/.version-$WASMTIME_VERSION
[ -f "$stamp" ] && exit 0
lock wasmtime
[ -f "$stamp" ] && exit 0

machine=$(uname -m)
case $machine in
x86_64) wheel_sha256=$WASMTIME_WHEEL_SHA256_X86_64 ;;
aarch64) wheel_sha256=$WASMTIME_WHEEL_SHA256_AARCH64 ;;
*) die "no pinned Wasmtime library for $machine; x86_64 and aarch64 are known" ;;
esac

work=$(mktemp -d "$DEPS/wasmtime.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/out/lib" "$work/out/include" "$work/crate"

make_venv
say "fetching wasmtime $WASMTIME_VERSION (library)"
printf 'wasmtime==%s --hash=sha256:%s\n' "$WASMTIME_VERSION" "$wheel_sha256" >"$work/requirements.txt"
"$BUILD/venv/bin/pip" download -q --no-deps --only-binary :all: --require-hashes --disable-pip-version-check -d "$work" -r "$work/requirements.txt" ||
    die "wasmtime $WASMTIME_VERSION: pip could not download it (its message is above)"
wheel=$(ls "$work"/wasmtime-*.whl)
sha256_is "$wheel" "$wheel_sha256" || die "$(basename "$wheel"): checksum is not the one in tools/versions.env"
python3 -m zipfile -e "$wheel" "$work/wheel"
cp "$work/wheel/wasmtime/linux-$machine/_libwasmtime.so" "$work/out/lib/libwasmtime.so"
chmod 755 "$work/out/lib/libwasmtime.so"
cp "$work"/wheel/wasmtime-*.dist-info/licenses/LICENSE "$work/out/LICENSE" 2>/dev/null || true

crate=$(fetch_crate "$WASMTIME_CRATE" "$WASMTIME_VERSION" "$WASMTIME_CRATE_SHA256")
tar -xzf "$crate" -C "$work/crate" --strip-components=1
(cd "$work/crate/include" && find . -name "*.h" -exec cp --parents -t "$work/out/include" {} +)

# conf.h says which features the library has. The wheel is built with the crate's defaults: each "feature(name ON)".
awk 'FNR == NR { if (match($0, /^feature\([a-z0-9-]+ ON\)/)) { s = substr($0, 9, RLENGTH - 12); gsub("-", "_", s); on[toupper(s)] = 1 }; next }
     /^#cmakedefine WASMTIME_FEATURE_/ { f = substr($2, 18); if (f in on) print "#define " $2; else print "/* #undef " $2 " */"; next }
     { print }' "$work/crate/cmake/features.cmake" "$work/crate/include/wasmtime/conf.h.in" >"$work/out/include/wasmtime/conf.h"
grep -q '^#define WASMTIME_FEATURE_CRANELIFT' "$work/out/include/wasmtime/conf.h" || die "conf.h of wasmtime $WASMTIME_VERSION: the layout of the crate has changed"

touch "$work/out/.version-$WASMTIME_VERSION"
rm -rf "$dest"
mv "$work/out" "$dest"
