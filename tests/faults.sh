#!/usr/bin/env bash
# What goes wrong around a gateway that runs: peers, balancers, the machine. Real tools, and a build as users run it.
#
#     cargo build --release
#     tests/faults.sh [--small] [NAME…]     all of them take about an hour; --small, as in CI, some minutes
#
# Each is a script of its own that can be called alone; README.md in this folder says what each shows. SLUICEGATE_BIN names
# another binary. A script that lacks a tool on this machine is skipped, and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export SLUICEGATE_BIN=${SLUICEGATE_BIN:-target/release/sluicegate}

# Name, what it is called with in small, what in full.
list='
machine         |                                         |
h2spec          |                                         |
framing         |                                         |
blackhole       |                                         |
slow_readers    | --count 1200 --settle 10                | --count 9000 --settle 60
haproxy         | --rounds 1 --callers 4                  | --rounds 10
nginx           | --rounds 1 --callers 4                  | --rounds 10
soak            | --minutes 0.5                           | --minutes 30
'

run() {
    case $1 in
        machine) tests/machine_faults.py ;;
        h2spec) tests/h2spec.py ;;
        framing) tests/interop/run.sh framing ;;
        haproxy | nginx) tests/rolling_restart.py --balancer "$@" ;;
        *) "tests/$1.py" "${@:2}" ;;
    esac
}

small=
[[ ${1:-} != --small ]] || { small=yes && shift; }
for name in "$@"; do
    grep -q "^$name " <<<"$list" || {
        printf 'no such script: %s; there are:\n%s' "$name" "$list" >&2
        exit 2
    }
done

failed=()
while IFS='|' read -r name in_small in_full <&3; do
    name=${name// /}
    [[ -n $name ]] || continue
    (($# == 0)) || [[ " $* " == *" $name "* ]] || continue
    [[ $small ]] && chosen=$in_small || chosen=$in_full
    read -ra arguments <<<"$chosen"
    printf '\n== %s %s\n' "$name" "${arguments[*]}"
    began=$SECONDS status=0
    run "$name" "${arguments[@]}" </dev/null || status=$?
    case $status in
        0) verdict=ok ;;
        77) verdict=skipped ;;
        *) verdict="FAILED with $status" && failed+=("$name") ;;
    esac
    printf -- '-- %s: %s, %d s\n' "$name" "$verdict" $((SECONDS - began))
done 3<<<"$list"

((${#failed[@]} == 0)) || {
    echo "FAILED: ${failed[*]}"
    exit 1
}
