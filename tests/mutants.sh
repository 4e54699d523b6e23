#!/usr/bin/env bash
# Changes the code that decides, one place after the other, and looks whether a unit test of that module fails:
#
#     tests/mutants.sh [GROUP] [ARGUMENTS OF cargo mutants]
#     tests/mutants.sh framing --shard 0/20      a twentieth of one group
#
# Needs `cargo install cargo-mutants`. A mutant costs a build of the library's tests, so all of them take hours. What survives is
# listed in target/mutants/GROUP/mutants.out/missed.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Name, source files, unit tests.
groups='
auth       src/identity/**,src/secret.rs                                        identity:: secret::
policy     src/policy/**,src/mcp/accept.rs                                      policy:: mcp::accept
validation src/downstream/head.rs,src/downstream/path.rs,src/mcp/walk/**,src/mcp/reading/**,src/mcp/scan.rs,src/mcp/header.rs  downstream::head downstream::path mcp::walk mcp::reading mcp::scan mcp::header mcp::message
sessions   src/mcp/seal.rs                                                      mcp::seal
framing    src/upstream/codec.rs,src/upstream/raw.rs,src/downstream/frames.rs,src/downstream/hpack.rs,src/downstream/interim.rs,src/mcp/sse/end.rs,src/mcp/sse/endpoint_guard.rs  upstream:: downstream::frames downstream::hpack downstream::interim mcp::sse
'

wanted=
if [[ ${1:-} =~ ^[a-z]+$ ]]; then
    wanted=$1
    shift
    grep -q "^$wanted " <<<"$groups" || { echo "no group $wanted" >&2 && exit 2; }
fi

while read -r group files tests <&3; do
    [[ -n $group && ${wanted:-$group} == "$group" ]] || continue
    mkdir -p "target/mutants/$group"
    chosen=()
    IFS=, read -ra globs <<<"$files"
    for glob in "${globs[@]}"; do chosen+=(--file "$glob"); done
    # shellcheck disable=SC2086 # One filter is one word.
    cargo mutants --output "target/mutants/$group" "${chosen[@]}" "$@" -- --lib -- $tests || true
    for kind in caught missed timeout unviable; do
        printf '%s %s: %s\n' "$group" "$kind" "$(grep -c . "target/mutants/$group/mutants.out/$kind.txt" || true)"
    done
done 3<<<"$groups"
