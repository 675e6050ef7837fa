#!/usr/bin/env bash
# Makes $VENV with ric, its development tools and the versions of constraints.txt.
set -euo pipefail

fail() { echo "ric: $1" >&2; exit 1; }

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=${PYTHON:-}
if [ -n "$python" ]; then
    command -v "$python" >/dev/null || fail "PYTHON=$python is not there."
    usable "$python" || fail "PYTHON=$python is older than Python 3.11."
else
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        if command -v "$name" >/dev/null && usable "$name"; then python=$name; break; fi
    done
    [ -n "$python" ] || fail "no Python 3.11 or newer on PATH; install one, or name it: make PYTHON=/path/to/python"
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no ensurepip; on Debian and Ubuntu: apt install python3-venv"
free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
[ "$free_kb" -ge $((8 * 1024 * 1024)) ] ||
    fail "$((free_kb / 1024 / 1024)) GB of disk are free here; 8 GB are needed."

echo "ric: making $VENV with $("$python" --version); about two minutes" >&2
rm -rf "$VENV"
"$python" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable '.[dev]'
