#!/bin/bash
# Makes build/venv with the packages of tools/requirements.txt, checksums required.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

stamp=$BUILD/venv/.requirements
lock venv
[ -f "$stamp" ] && cmp -s "$stamp" "$ROOT/tools/requirements.txt" && touch "$stamp" && exit 0
make_venv
say "installing the Python packages of the tests into build/venv"
"$BUILD/venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$ROOT/tools/requirements.txt"
cp "$ROOT/tools/requirements.txt" "$stamp"
