# Sourced: how each nginx is configured. Sets `source`, and the array `options` for ./configure.
# shellcheck shell=bash disable=SC2034

nginx_options() { # debian | stable | asan
    local modules=(
        --with-compat --with-threads --with-pcre-jit --with-debug
        --with-http_ssl_module --with-http_v2_module --with-http_realip_module --with-http_auth_request_module --with-http_sub_module
        --with-http_gunzip_module --with-http_addition_module --with-http_slice_module --with-http_stub_status_module
        --with-stream --with-stream_ssl_module
        "--prefix=$BUILD/nginx/$1" --error-log-path=stderr
    )
    # -MMD: nginx's makefiles know no headers of an addon; the compiler does.
    case $1 in
    debian)
        source=/usr/share/nginx/src
        # shellcheck source=/dev/null
        . $source/conf_flags
        options=("${NGX_CONF_FLAGS[@]}" "--with-cc-opt=-g -O2 -fPIC -MMD -MP" --with-ld-opt=-fPIC)
        ;;
    stable)
        source=$DEPS/nginx-$NGINX_VERSION
        options=("${modules[@]}" "--with-cc-opt=-g -O2 -fPIC -MMD -MP" --with-ld-opt=-fPIC)
        ;;
    asan)
        source=$DEPS/nginx-$NGINX_VERSION
        # NGX_DEBUG_PALLOC makes each pool allocation a malloc, so that the sanitizer sees pools. The two checks that are
        # off complain about nginx itself.
        options=("${modules[@]}"
            "--with-cc-opt=-g -O1 -fPIC -MMD -MP -fsanitize=address,undefined -fno-sanitize=alignment,nonnull-attribute -fno-omit-frame-pointer -DNGX_DEBUG_PALLOC=1"
            "--with-ld-opt=-fPIC -fsanitize=address,undefined")
        # Leaks of configure's little test programs are nobody's.
        export ASAN_OPTIONS=detect_leaks=0
        ;;
    *) die "no nginx named '$1'" ;;
    esac
}

# configure writes a Makefile into its folder, and Debian's belongs to root: run it in a folder of links.
linked_sources() { # folder
    local entry
    mkdir -p "$1"
    for entry in auto configure src conf contrib docs man; do
        [ ! -e "$source/$entry" ] || ln -sfn "$source/$entry" "$1/$entry"
    done
}

# Runs quietly; shows the end of the log where it fails.
quietly() { # log command...
    local log=$1
    shift
    "$@" >"$log" 2>&1 && return
    grep -vE "^(cc|gcc|make\\[|$(printf '\t'))|^checking | \.\.\. (found|not found)$" "$log" | tail -n 60 >&2 || true
    die "failed: $1 (the whole output: $log)"
}
