#!/usr/bin/env bash
# A local command behind the gateway, behind supergateway and behind mcp-proxy, side by side. See README.md.
set -euo pipefail

usage() {
    cat <<'END'
usage: loadtest/bridges.sh [options]

  --rounds N     rounds, each measuring every contender twice: A B C C B A   (default: 3)
  --secs S       seconds of one measurement                                  (default: 3)
  --sessions N   sessions that call, each with one connection                (default: 8)
  --idle N       sessions that are only kept, for their memory               (default: 200)
  --only NAMES   contenders, comma-separated: gate,supergateway,mcp-proxy
  --gate FILE    gate to measure            (default: built from this checkout)

Environment: PROXY_CPU (1) and LOAD_CPU (0), the cores to pin to.
END
}

case ${1:-} in -h | --help) usage && exit ;; esac

root=$(cd "$(dirname "$0")/.." && pwd)
gate=$root/target/release/sluicegate
arguments=()
while (($#)); do
    case $1 in
        --gate) gate=$(realpath "$2") && built=1 && shift ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
cd "$root/loadtest"

"$root/tests/interop/install.sh" "$root/target/bridges" bridges
cargo build --release --locked --quiet --manifest-path rig/Cargo.toml --target-dir "$root/target/rig"
[[ -n ${built:-} ]] || cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml"
ulimit -n "$(ulimit -Hn)"
export PYTHONPATH=$root/tests/interop PYTHONDONTWRITEBYTECODE=1
exec timeout -k 3 1h python3 bridges/compare.py --gate "$gate" "${arguments[@]}"
