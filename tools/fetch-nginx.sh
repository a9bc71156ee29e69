#!/bin/bash
# Unpacks the pinned nginx sources into build/deps/nginx-<version>. Does nothing when they are there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

dest=$DEPS/nginx-$NGINX_VERSION
[ -x "$dest/configure" ] && exit 0
lock nginx
[ -x "$dest/configure" ] && exit 0

crate=$(fetch_crate "$NGINX_CRATE" "$NGINX_CRATE_VERSION" "$NGINX_CRATE_SHA256")
work=$(mktemp -d "$DEPS/nginx.XXXXXX")
trap 'rm -rf "$work"' EXIT
tar -xzf "$crate" -C "$work" --strip-components=2 "$NGINX_CRATE-$NGINX_CRATE_VERSION/nginx"
cp "$work/auto/configure" "$work/configure"
chmod 755 "$work/configure"
rm -rf "$dest"
mv "$work" "$dest"
