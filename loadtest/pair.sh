#!/usr/bin/env bash
# Two builds of the gateway, or two kinds of callers of one, under the same load, in turns: what does the one cost next to the
# other? See README.md.
set -euo pipefail

usage() {
    cat <<'END'
usage: loadtest/pair.sh [options] OLD NEW [WORKLOAD...]
       loadtest/pair.sh [options] --callers KIND[,KIND] GATE [WORKLOAD...]

  OLD, NEW       two gates to measure
  --callers      one gate, by a static token and by another kind: session (a login's token), access (the token of a
                 client of OAuth), jwt (a token of an issuer), rules (a static token, with roles, tags, tool rules and
                 limits, all of which it meets), kept (the same, and some tools are kept from it)
  WORKLOAD       paced rpc call bulk idle bridge; without one, all but idle
  --plain, --tls only one of them                                       (default: both; bridge is always plain)
  --pairs N      pairs of measurements, each with fresh processes        (default: 9)
  --secs S       seconds of one measurement                              (default: 2)

Environment: PROXY_CPU (1) and LOAD_CPU (0), the cores to pin to.
END
}

case ${1:-} in -h | --help) usage && exit ;; '') usage >&2 && exit 2 ;; esac

root=$(cd "$(dirname "$0")/.." && pwd)
for tool in cargo openssl taskset python3; do
    command -v "$tool" >/dev/null || { echo "pair.sh: $tool is missing" >&2 && exit 1; }
done
cargo build --release --locked --quiet --manifest-path "$root/loadtest/rig/Cargo.toml" --target-dir "$root/target/rig"
ulimit -n "$(ulimit -Hn)"
export PYTHONPATH=$root/tests/interop PYTHONDONTWRITEBYTECODE=1
exec timeout -k 3 2h python3 "$root/loadtest/pair.py" "$@"
