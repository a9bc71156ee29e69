#!/bin/bash
# usage: install-deps.sh GROUP...   (build nginx test lint fuzz bench run rust all)
# Installs the Debian packages of the groups that are missing, after saying which. A command that exists is kept, whoever
# installed it. SLUICE_SKIP_DEPS=1 only looks. LIST=1 prints the packages of the groups and ends.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

clang=clang-$CLANG_MAJOR
lld=wasm-ld-$CLANG_MAJOR:lld-$CLANG_MAJOR

# "command:package" where the command is what is needed, "package" where the package is (libraries, and nginx, whose
# version must be that of nginx-dev).
packages_of() {
    case $1 in
    build) echo gcc:gcc ar:binutils libc6-dev python3:python3 cargo:cargo-web ca-certificates libjansson-dev libyaml-dev libpcre2-dev libsqlite3-dev libnghttp2-dev libssl-dev zlib1g-dev ;;
    nginx) echo nginx nginx-dev ;;
    test) echo valgrind:valgrind libcmocka-dev redis-server:redis-server libnginx-mod-http-lua luajit2 curl:curl "$clang:$clang" "$lld" wat2wasm:wabt wasi-libc "libclang-rt-$CLANG_MAJOR-dev-wasm32" "libc++-$CLANG_MAJOR-dev-wasm32" "libc++abi-$CLANG_MAJOR-dev-wasm32" nghttp:nghttp2-client openssl:openssl ;;
    run) echo curl:curl "$clang:$clang" "$lld" ;;
    lint) echo "$clang:$clang" "clang-format-$CLANG_MAJOR:clang-format-$CLANG_MAJOR" libcmocka-dev nginx-dev ;;
    fuzz) echo "$clang:$clang" "libclang-rt-$CLANG_MAJOR-dev" ;;
    bench) echo valgrind:valgrind wrk:wrk nginx libnginx-mod-http-lua libnginx-mod-http-js "$clang:$clang" "$lld" ;;
    rust) echo wasi-libc "$lld" ;;
    *) die "install-deps.sh: no group named '$1'" ;;
    esac
}

is_missing() { # entry of packages_of
    case $1 in
    *:*) ! have "${1%%:*}" ;;
    *) ! dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$' ;;
    esac
}

# A Python that brings venv and pip itself (pyenv, a vendor's build) needs no Debian package for it.
venv_is_missing() {
    ! have python3 || ! python3 -c 'import venv, ensurepip' 2>/dev/null
}

# The Rust template can use any rustc that has the wasm32-wasip1 standard library; else Debian's, which builds it from
# source. A machine with another cargo or rustc keeps it, so the Debian packages are added only where there is none.
rust_packages() {
    if ! have rustc; then
        echo rustc-web cargo-web rust-web-src
    elif [ "$(command -v rustc)" = /usr/bin/rustc ] && dpkg-query -W rustc-web >/dev/null 2>&1; then
        echo rust-web-src
    fi
}

# nginx's package starts a server on port 80 when it is installed; nobody asked for that. Removed again at exit.
policy=/usr/sbin/policy-rc.d
forbid_services() {
    [ -e $policy ] && return
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    trap 'as_root rm -f $policy' EXIT
}

logged() {
    "$@" >"$DEPS/apt.log" 2>&1 </dev/null || {
        tail -n 20 "$DEPS/apt.log" >&2
        die "failed: $* (the whole output: build/deps/apt.log)"
    }
}

check_nginx() {
    if have nginx && is_missing nginx; then
        die "$(command -v nginx) is not Debian's package, which nginx-dev belongs to; use: make NGINX=stable (nginx $NGINX_VERSION, built from source)"
    fi
}

[ -n "${LIST-}" ] || lock packages # whoever waited looks again at what is missing
groups=("$@")
[ "${1-}" = all ] && groups=(build nginx test run lint fuzz bench rust)
missing=()
for group in "${groups[@]}"; do
    entries=$(packages_of "$group")
    [ "$group" = nginx ] && [ -z "${LIST-}" ] && check_nginx
    [ "$group" = build ] && venv_is_missing && entries="$entries python3-venv"
    [ "$group" = rust ] && entries="$entries $(rust_packages)"
    for entry in $entries; do
        if [ -n "${LIST-}" ] || is_missing "$entry"; then
            missing+=("${entry#*:}")
        fi
    done
done
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sed '/^$/d' | sort -u)

if [ -n "${LIST-}" ]; then
    printf '%s\n' "${missing[@]}"
    exit 0
fi

if [ ${#missing[@]} -gt 0 ]; then
    [ -z "${SLUICE_SKIP_DEPS-}" ] || die "missing: ${missing[*]} (SLUICE_SKIP_DEPS is set, nothing is installed)"
    have apt-get || die "missing: ${missing[*]} (Debian's names; this machine has no apt-get, install them by hand)"
    say "will install these Debian packages: ${missing[*]}"
    nginx_is_new=
    case " ${missing[*]} " in *' nginx '*) nginx_is_new=1 ;; esac
    forbid_services
    logged as_root apt-get update -qq
    logged as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    if [ -n "$nginx_is_new" ] && have systemctl; then
        as_root systemctl disable nginx >/dev/null 2>&1 || true
    fi
fi

mkdir -p "$DEPS"
for group in "${groups[@]}"; do
    touch "$DEPS/.packages-$group"
done
