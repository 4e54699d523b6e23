#!/usr/bin/env bash
# install.sh CACHE [PINS]: installs what is pinned in PINS (by default beside this script: the clients and servers of these
# tests) into the folder CACHE; does nothing when it is there already.
set -euo pipefail

cache=$1
here=$(cd "${2:-$(dirname "$0")}" && pwd)
pins=("$here/package-lock.json" "$here/requirements.txt")
stamp=$cache/installed

# Registries drop connections now and then; the installs themselves are idempotent.
retry() {
  local try
  for try in 1 2 3; do
    "$@" && return
    echo "try $try of 3 failed: $*" >&2
    sleep $((try * 2))
  done
  return 1
}

if cat "${pins[@]}" | cmp -s - "$stamp"; then
  exit 0
fi

mkdir -p "$cache"
rm -f "$stamp"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$cache/"
cd "$cache"
retry npm ci --loglevel=error
python3 -m venv --clear venv
retry venv/bin/pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cat "${pins[@]}" >"$stamp"
