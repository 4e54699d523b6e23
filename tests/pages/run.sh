#!/usr/bin/env bash
# The pages of the gateway in headless Chromium, at 360 and 1280 px, in light, dark and forced colours: axe-core finds nothing,
# nothing is wider than the window. First samples of each page; then a person goes through those of a gateway that runs, from the
# question of a program to its end. Pages of others try to be let in, and are not. Then people log in by oidc-provider and
# oauth2-mock-server, which takes two minutes: so often somebody is asked about. At last, people connect accounts that they have at a
# server of oidc-provider.
#
#   tests/pages/run.sh             all of it
#   tests/pages/run.sh --small     the narrowest window, in dark, only, and fewer attempts
#   tests/pages/run.sh --pictures  writes docs/pictures anew, too
#
# Exits with 77 if there is no Chromium or no Node. CHROMIUM names one that is not found by itself, and SLUICEGATE_BIN the gateway
# that is run; without it, the debug build is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
skip() { echo "skipped: $*"; exit 77; }

for browser in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
  [[ -n $browser ]] && CHROMIUM=$(command -v "$browser") && break
done
[[ -n ${CHROMIUM:-} ]] || skip "no Chromium"
command -v npm >/dev/null || skip "no Node"
export CHROMIUM

cache=${PAGES_CACHE:-${CARGO_TARGET_DIR:-$root/target}/pages}
mkdir -p "$cache"
cp "$here"/{package.json,package-lock.json,.npmrc} "$here"/*.mjs "$cache"
if ! cmp -s "$here/package-lock.json" "$cache/installed"; then
  (cd "$cache" && npm ci --loglevel=error)
  cp "$here/package-lock.json" "$cache/installed"
fi

pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
flags=() written=$pages/pictures
for flag in "$@"; do
  case $flag in
    --small) flags+=(--small) ;;
    --pictures) flags+=(--pictures "$written") ;;
    *) echo "usage: run.sh [--small] [--pictures]" >&2; exit 2 ;;
  esac
done
if [[ -z ${SLUICEGATE_BIN:-} ]]; then
  (cd "$root" && cargo build --locked --quiet)
  SLUICEGATE_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/sluicegate
fi
export SLUICEGATE_BIN
SLUICEGATE_BIN=$(realpath "$SLUICEGATE_BIN")
(cd "$root" && SLUICEGATE_PAGES=$pages cargo test --locked --quiet --lib pages::tests::samples)
node "$cache/look.mjs" "$pages" "${flags[@]}"
node "$cache/flow.mjs" "${flags[@]}"
node "$cache/attacks.mjs" "${flags[@]}"
node "$cache/idp.mjs"
node "$cache/connect.mjs"
if [[ -d $written ]]; then
  # A quarter of the size. Without it they are as good to look at.
  if command -v pngquant >/dev/null; then pngquant --force --ext .png 64 "$written"/*.png; fi
  rm -rf "$root/docs/pictures"
  mv "$written" "$root/docs/pictures"
fi
