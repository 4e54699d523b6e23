#!/usr/bin/env bash
# Fuzzes the targets that are named, or all, one after the other: `fuzz/run.sh [--runs N] [TARGET…]`.
#
# Needs a nightly toolchain and `cargo install cargo-fuzz`. What is new goes into fuzz/work, which is not committed; an input
# that fails is left there, too, and its name is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=10000000
if [[ ${1:-} == --runs ]]; then
    runs=$2
    shift 2
fi
targets=("$@")
if ((${#targets[@]} == 0)); then
    for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# The sources have no unsafe code that a target reaches, so a sanitizer would find nothing and take half of the speed; overflows
# are found by the debug assertions, which are on. Fat LTO would take minutes for each target.
export CARGO_PROFILE_RELEASE_LTO=off RUSTUP_TOOLCHAIN=${FUZZ_TOOLCHAIN:-nightly}
build=(--sanitizer none --codegen-units 16)
cargo fuzz build "${build[@]}"

failed=()
for target in "${targets[@]}"; do
    mkdir -p "fuzz/work/$target"
    length=128
    # Slow ones find more in short inputs.
    [[ $target != accept && $target != endpoint ]] || length=64
    began=$SECONDS
    nice -n 19 cargo fuzz run "${build[@]}" "$target" "fuzz/work/$target" "fuzz/corpus/$target" -- \
        -runs="$runs" -max_len=$length -verbosity=0 -print_final_stats=1 -artifact_prefix="fuzz/work/$target-" \
        2>&1 | tee "fuzz/work/$target.log" | grep -aE 'panicked|Test unit written|number_of_executed_units' ||
        true
    grep -aqE 'panicked|ERROR: libFuzzer' "fuzz/work/$target.log" && failed+=("$target")
    echo "$target: $((SECONDS - began)) s"
done
((${#failed[@]} == 0)) || { echo "failed: ${failed[*]}" && exit 1; }
