#!/usr/bin/env bash
# install.sh CACHE [PINS]: installs what is pinned in PINS (by default beside this script: the clients and servers of these
# tests) into the folder CACHE; does nothing when it is there already.
set -euo pipefail

cache=$1
here=$(cd "${2:-$(dirname "$0")}" && pwd)
pins=("$here/package-lock.json" "$here/requirements.txt")
folding=("$here/folding/go.sum" "$here/folding/main.go")
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

# The server in Go that takes keys in any letter case: where there is no Go, the piece that needs it says so.
install_folding() {
  [[ -e ${folding[0]} ]] || return 0
  if cat "${folding[@]}" | cmp -s - "$cache/folding.installed"; then
    return
  fi
  rm -f "$cache/folding" "$cache/folding.installed"
  if ! command -v go >/dev/null; then
    echo "no Go on this machine: its server is not built, and the piece hostile is skipped" >&2
  elif (cd "$here/folding" && retry go build -trimpath -o "$cache/folding" .); then
    cat "${folding[@]}" >"$cache/folding.installed"
  else
    echo "$(go version) cannot build the server in Go: the piece hostile is skipped" >&2
  fi
}

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
install_folding

if cat "${pins[@]}" | cmp -s - "$stamp"; then
  exit 0
fi

rm -f "$stamp"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$cache/"
cd "$cache"
retry npm ci --loglevel=error
python3 -m venv --clear venv
retry venv/bin/pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cat "${pins[@]}" >"$stamp"
