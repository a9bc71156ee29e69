#!/bin/sh
# Checks a built filter: what it exports (where wasm-objdump is installed), and, with SLUICE=<sluice binary>, that kong.yml starts with it.
# FILTER is the .wasm file.
set -eu
cd "$(dirname "$0")"
FILTER=${FILTER:?set FILTER to the .wasm file}

[ -s "$FILTER" ] || { echo "$FILTER: not built" >&2; exit 1; }

if command -v wasm-objdump >/dev/null 2>&1; then
    exports=$(wasm-objdump -x -j Export "$FILTER")
    for name in proxy_abi_version_0_2_ proxy_on_memory_allocate proxy_on_context_create proxy_on_configure proxy_on_response_headers; do
        case $exports in
        *"$name"*) ;;
        *) echo "$FILTER: does not export $name" >&2; exit 1 ;;
        esac
    done
    echo "exports: ok"
else
    echo "exports: not checked, wasm-objdump (package wabt) is not installed"
fi

if [ -n "${SLUICE:-}" ]; then
    prefix=$(mktemp -d)
    trap 'rm -rf "$prefix"' EXIT
    "$SLUICE" check --prefix "$prefix" --filters "$PWD" kong.yml
else
    echo "sluice check: not run, SLUICE is not set"
fi
