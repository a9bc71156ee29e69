# Sourced by the scripts of this folder: where things are, how to say things, how to fetch a pinned crate.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/build
DEPS=$BUILD/deps
# shellcheck source=versions.env
. "$ROOT/tools/versions.env"

# Where nginx is; not every user's PATH has it.
PATH=$PATH:/usr/sbin:/sbin

# The makes that the scripts call are not parts of ours: neither its variables nor its jobs are theirs.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

say() {
    printf '%s\n' "sluice: $*" >&2
}

die() {
    say "$*"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# One process at a time in the part that fetches and unpacks; the lock ends with the process.
lock() {
    mkdir -p "$DEPS"
    exec 9>"$DEPS/.lock-$1"
    flock 9
}

sha256_is() {
    [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$2" ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "root is needed for: $* (run it as root, or install sudo)"
    fi
}

version_at_least() { # have want
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

go_version() {
    have go && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//'
}

go_is_usable() {
    local v
    v=$(go_version) && [ -n "$v" ] && version_at_least "$v" "$GO_MIN_VERSION"
}

# Cargo's download cache keeps the archive as published, so its checksum can be compared with ours.
cached_crate() { # name version sha256 -> path
    local file
    for file in "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/"$1-$2.crate"; do
        if sha256_is "$file" "$3"; then
            printf '%s\n' "$file"
            return 0
        fi
    done
    return 1
}

# A throw-away package that depends on the crate: works with every cargo, fetches a little more than needed.
fetch_by_manifest() { # name version
    local dir rc=0
    dir=$(mktemp -d) || return 1
    mkdir "$dir/src" && : >"$dir/src/lib.rs"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n' "$1" "${2%%+*}" >"$dir/Cargo.toml"
    (cd "$dir" && cargo fetch) >&2 || rc=$?
    rm -rf "$dir"
    return $rc
}

fetch_crate() { # name version sha256 -> path of the verified archive
    cached_crate "$@" && return 0
    have cargo || die "cargo is missing; run tools/install-deps.sh build"
    say "fetching crate $1 $2"
    cargo info "$1@$2" >/dev/null 2>&1 || fetch_by_manifest "$1" "$2" || die "crate $1 $2: cargo could not fetch it (its message is above)"
    cached_crate "$@" || die "crate $1 $2: not fetched, or its checksum is not the one in tools/versions.env"
}

# The build's own Python environment: pip for the wheel, pytest for the tests.
make_venv() {
    if [ ! -x "$BUILD/venv/bin/pip" ]; then
        rm -rf "$BUILD/venv"
        python3 -m venv "$BUILD/venv" || die "python3 -m venv failed; on Debian install python3-venv"
    fi
}
