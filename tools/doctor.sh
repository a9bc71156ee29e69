#!/bin/bash
# What this machine has, with versions, and what is missing. Changes nothing. Exit 1 when something that `make all` or
# `make test` needs is missing (both would install it).
. "$(dirname "$0")/lib.sh"
status=0

line() { # state name detail
    printf '%-9s %-26s %s\n' "$1" "$2" "$3"
}

tool() { # required|optional command purpose version-command...
    local need=$1 name=$2 purpose=$3 version
    shift 3
    if have "$name"; then
        version=$("$@" 2>&1 | grep -v '^$' | head -n 1)
        line ok "$name" "$version"
    elif [ "$need" = required ]; then
        line MISSING "$name" "$purpose"
        status=1
    else
        line none "$name" "$purpose"
    fi
}

package() { # name purpose
    local version
    version=$(dpkg-query -W -f '${Status} ${Version}' "$1" 2>/dev/null)
    case $version in
    'install ok installed '*) line ok "$1" "${version#install ok installed }" ;;
    *)
        line MISSING "$1" "$2"
        status=1
        ;;
    esac
}

fetched() { # path name version
    if [ -e "$1" ]; then
        line ok "$2" "$3"
    else
        line 'to fetch' "$2" "$3; the build fetches it"
    fi
}

line system "$(uname -m)" "$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME-unknown}")"
echo '--- to build'
tool required gcc 'the compiler' gcc --version
tool required make 'the conductor' make --version
tool required python3 'fetches Wasmtime, runs the tests' python3 --version
tool required cargo 'fetches crates' cargo --version
for p in libjansson-dev libyaml-dev libpcre2-dev libsqlite3-dev libnghttp2-dev libssl-dev zlib1g-dev; do
    package $p 'library'
done
tool required nginx 'the default target' nginx -v
package nginx-dev "headers of Debian's nginx; not needed with NGINX=stable"
fetched "$DEPS/wasmtime/.version-$WASMTIME_VERSION" wasmtime "$WASMTIME_VERSION"
fetched "$DEPS/nginx-$NGINX_VERSION/configure" 'nginx sources' "$NGINX_VERSION"

echo '--- to test'
tool required "clang-$CLANG_MAJOR" 'guests in C, fuzzers, lint' "clang-$CLANG_MAJOR" --version
tool required "wasm-ld-$CLANG_MAJOR" 'guests in C' "wasm-ld-$CLANG_MAJOR" --version
tool required wat2wasm 'guests in text form' wat2wasm --version
tool required curl 'make run and tests' curl --version
tool required nghttp 'HTTP/2 tests' nghttp --version
package libcmocka-dev 'unit tests'
fetched "$BUILD/venv/.requirements" 'Python packages' 'tools/requirements.txt'

echo '--- for more'
tool optional "clang-format-$CLANG_MAJOR" 'make lint, make format' "clang-format-$CLANG_MAJOR" --version
tool optional valgrind 'make bench' valgrind --version
if go_is_usable; then
    line ok go "$(go_version)"
else
    line none go "$GO_MIN_VERSION or newer builds templates/go$(have go && echo "; found $(go_version)")"
fi
if "$ROOT/tools/have-template.sh" rust; then
    line ok rust "$(rustc --version)"
else
    line none rust 'a rustc with the wasm32-wasip1 library, or rustc-web cargo-web rust-web-src, builds templates/rust'
fi

echo
if [ $status = 0 ]; then
    echo 'Everything that make all and make test need is here.'
else
    echo 'make all and make test will install what is MISSING (with sudo where needed).'
fi
exit $status
