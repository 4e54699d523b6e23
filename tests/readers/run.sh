#!/usr/bin/env bash
# run.sh [TEXTS] [SEED]: random JSON texts, a million by default, read by the gateway, serde, Python and Go. Whatever the gateway lets
# through, all have to read alike. Without Go it says so, and compares the others.
set -euo pipefail
cd "$(dirname "$0")/../.."

export SLUICEGATE_TEXTS=${1:-1000000} SLUICEGATE_SEED=${2:-$RANDOM}
command -v go >/dev/null || echo "no Go on this machine: install it (golang-go) to have its reading compared" >&2
echo "$SLUICEGATE_TEXTS texts of seed $SLUICEGATE_SEED"
exec cargo test --test readers -- --nocapture
