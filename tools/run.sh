#!/bin/bash
# Called by `make run` after the build: the example of examples/hello with a local upstream, in the foreground.
#   PROXY_PORT (8000), ADMIN_PORT (8001), UPSTREAM_PORT (9000); ONCE=1 stops after the first request, with its result.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

filter=${RUN_FILTER:?}
nginx=${RUN_NGINX:-debian}
run=$BUILD/run
upstream='' gateway='' away=''

# Workers of root's gateway run as nobody, and root may have cloned into a folder that is closed to others, such as its home.
if [ "$(id -u)" = 0 ] && ! setpriv --reuid=nobody --regid=nogroup --clear-groups test -x "$BUILD"; then
    run=$(mktemp -d /tmp/sluice-run.XXXXXX)
    chmod 755 "$run"
    away=$run
fi

# Settings of the caller's own gateway are not meant for this one.
while IFS= read -r name; do
    unset "$name"
done < <(compgen -e | grep -E '^(KONG|SLUICE)_' || true)

stop() {
    local status=$?
    trap - EXIT INT TERM
    [ -z "$gateway" ] || kill -TERM "$gateway" 2>/dev/null || true
    [ -z "$gateway" ] || wait "$gateway" 2>/dev/null || true
    [ -z "$upstream" ] || kill -TERM "$upstream" 2>/dev/null || true
    [ -z "$upstream" ] || wait "$upstream" 2>/dev/null || true
    [ -z "$away" ] || [ $status != 0 ] || rm -rf "$away"
}
trap stop EXIT
trap 'true; stop; exit 0' INT TERM

# Binding is the one sure test; SO_REUSEADDR as servers do, so that old connections do not count.
check_port() { # variable default
    local port=${!1:-$2}
    python3 - "$port" 2>/dev/null <<'PY' || die "port $port is in use (or not a port); choose another with $1, e.g.: make run $1=$((${2} + 10000))"
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(1)
PY
    printf -v "$1" '%s' "$port"
}
check_port PROXY_PORT 8000
check_port ADMIN_PORT 8001
check_port UPSTREAM_PORT 9000

# The example as it is, but for the filter's name where Go is missing, and for the upstream's port where it was chosen.
name=$(basename "$filter" .wasm)
rm -rf "$run/filters" "$run/config" "$run/upstream.log"
mkdir -p "$run/filters" "$run/config"
cp "$filter" "$run/filters/"
sed -e "s/my-go-filter/$name/" -e "s/127\.0\.0\.1:9000/127.0.0.1:$UPSTREAM_PORT/" examples/hello/kong.yml >"$run/config/kong.yml"

python3 tools/echo_upstream.py "$UPSTREAM_PORT" >"$run/upstream.log" 2>&1 </dev/null &
upstream=$!
until [ -s "$run/upstream.log" ] 2>/dev/null; do # its first line says that it listens
    kill -0 "$upstream" 2>/dev/null || die "the upstream did not start: $(cat "$run/upstream.log")"
    sleep 0.05
done

export KONG_WASM=on KONG_WASM_FILTERS_PATH=$run/filters KONG_DATABASE=off KONG_DECLARATIVE_CONFIG=$run/config/kong.yml
export KONG_PREFIX=$run/prefix KONG_PROXY_LISTEN=127.0.0.1:$PROXY_PORT KONG_ADMIN_LISTEN=127.0.0.1:$ADMIN_PORT KONG_NGINX_DAEMON=off
if [ "$nginx" != debian ]; then
    export SLUICE_NGINX_BINARY=$BUILD/nginx/$nginx/sbin/nginx SLUICE_WASM_DYNAMIC_MODULE=$BUILD/nginx/$nginx/modules/ngx_http_sluice_module.so
    [ "$nginx" != asan ] || export ASAN_OPTIONS=${ASAN_OPTIONS-detect_odr_violation=0:detect_leaks=0}
fi
say "filter $name, proxy http://127.0.0.1:$PROXY_PORT, Admin API http://127.0.0.1:$ADMIN_PORT, upstream http://127.0.0.1:$UPSTREAM_PORT"
"$BUILD/bin/sluice" start </dev/null &
gateway=$!

url=http://127.0.0.1:$PROXY_PORT/echo
for ((i = 0; ; i++)); do
    curl -s -o /dev/null --max-time 5 "$url" && break
    kill -0 "$gateway" 2>/dev/null || { gateway='' && die "the gateway has ended; its log is in $run/prefix/logs"; }
    [ $i -lt 600 ] || die "the gateway does not answer at $url; its log is in $run/prefix/logs"
    sleep 0.1
done

echo "\$ curl -i $url"
head=$(curl -s --max-time 10 -o /dev/null -D - "$url" | tr -d '\r')
printf '%s\n\n' "$head"
status=0
grep -q '^HTTP/1.1 200' <<<"$head" && grep -qi '^X-Greeting: ' <<<"$head" || status=1
[ $status = 0 ] || say "this is not the answer that the example should give; see $run/prefix/logs/error.log"

[ -z "${ONCE-}" ] || exit $status
say "serving until Ctrl-C"
wait "$gateway" || true
