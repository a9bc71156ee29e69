#!/bin/bash
# usage: build-assemblyscript.sh FOLDER OUT.wasm
# Installs what FOLDER/package-lock.json pins (npm checks each checksum) into build/deps and compiles FOLDER/assembly/index.ts there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

folder=$1 out=$(realpath -m "$2")
work=$DEPS/assemblyscript
mkdir -p "$work"
if ! cmp -s "$folder/package-lock.json" "$work/installed.json"; then
    cp "$folder/package.json" "$folder/package-lock.json" "$work/"
    (cd "$work" && npm ci --silent --no-audit --no-fund --ignore-scripts >npm.log 2>&1) || {
        tail -n 20 "$work/npm.log" >&2
        die "npm ci failed for $folder"
    }
    cp "$folder/package-lock.json" "$work/installed.json"
fi
rm -rf "$work/assembly"
cp -r "$folder/assembly" "$work/"
cd "$work"
node node_modules/assemblyscript/bin/asc assembly/index.ts --optimize --debug --use abort=abort_proc_exit -b "$out.$$" >asc.log 2>&1 || {
    cat asc.log >&2
    rm -f "$out.$$"
    die "asc failed for $folder"
}
mv "$out.$$" "$out"
