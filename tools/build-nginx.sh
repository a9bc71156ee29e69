#!/bin/bash
# usage: build-nginx.sh stable|asan
# Builds the pinned nginx, without our module, into build/nginx/<name>/sbin/nginx.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/nginx-options.sh"

name=$1
dest=$BUILD/nginx/$name
nginx_options "$name"
lock "nginx-$name"
[ -x "$dest/sbin/nginx" ] && [ "$dest/sbin/nginx" -nt "$source/configure" ] && [ "$dest/sbin/nginx" -nt "$ROOT/tools/nginx-options.sh" ] && exit 0

say "building nginx $NGINX_VERSION ($name)"
linked_sources "$dest/src"
mkdir -p "$dest/sbin" "$dest/modules" "$dest/logs"
cd "$dest/src"
quietly "$dest/configure.log" ./configure "${options[@]}" "--builddir=$dest/obj"
quietly "$dest/make.log" make -j2 -f "$dest/obj/Makefile" binary
cp -r "$source/conf" "$dest/"
cp "$dest/obj/nginx" "$dest/sbin/nginx.new"
mv "$dest/sbin/nginx.new" "$dest/sbin/nginx"
