#!/usr/bin/env bash
# The same load against the gateway, nginx, HAProxy and a bare TCP relay, side by side on this machine. See README.md.
set -euo pipefail
shopt -s inherit_errexit

usage() {
    cat <<'END'
usage: loadtest/compare.sh [options] [WORKLOAD...]

  WORKLOAD       paced batch16 rpc call bulk idle growth; without one, all but growth
  --plain        only plain HTTP            (default: both)
  --tls          only TLS 1.3
  --rounds N     rounds, each measuring every contender twice: A B C D D C B A   (default: 3)
  --secs S       seconds of one measurement                                      (default: 3)
  --quick        one round of 1.5 s: for a first look
  --only NAMES   contenders, comma-separated: relay,gate,nginx,haproxy
  --gate FILE    gate to measure            (default: built from this checkout)

Environment: PROXY_CPU (1) and LOAD_CPU (0), the cores to pin to; PORT (18080), the first of two loopback ports.
END
}

cd "$(dirname "$0")"
HERE=$PWD
OUT=$HERE/out
# Beside the configs, not among them: the gateway watches the directory that its config is in.
LOGS=$OUT/logs
TARGET=$HERE/../target
PROXY_CPU=${PROXY_CPU:-1} LOAD_CPU=${LOAD_CPU:-0}
UPSTREAM=${PORT:-18080} PORT=$((${PORT:-18080} + 1))
TOKEN=load-test-token-0123456789abcdef0123456789
# No process outlives this, whatever becomes of this script.
LONGEST=300

rounds=3 secs=3 gate='' only=relay,gate,nginx,haproxy modes='plain tls' workloads=()
while (($#)); do
    case $1 in
        --plain) modes=plain ;;
        --tls) modes=tls ;;
        --rounds) rounds=$2 && shift ;;
        --secs) secs=$2 && shift ;;
        --quick) rounds=1 secs=1.5 ;;
        --only) only=$2 && shift ;;
        --gate) gate=$(realpath "$2") && shift ;;
        -h | --help) usage && exit ;;
        paced | batch16 | rpc | call | bulk | idle | growth) workloads+=("$1") ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
((${#workloads[@]})) || workloads=(paced batch16 rpc call bulk idle)

for tool in cargo openssl taskset timeout nginx haproxy; do
    command -v "$tool" >/dev/null || { echo "compare.sh: $tool is missing" >&2 && exit 1; }
done
ulimit -n "$(ulimit -Hn)"
# Two descriptors for each stream in a proxy, and some for itself.
idle_streams=$((($(ulimit -n) - 1000) / 2 < 9000 ? ($(ulimit -n) - 1000) / 2 : 9000))

cargo build --release --locked --quiet --manifest-path rig/Cargo.toml --target-dir "$TARGET/rig"
umask 077
mkdir -p "$LOGS"
cp "$TARGET/rig/release/rig" "$OUT/rig"
if [[ -z $gate ]]; then
    cargo build --release --locked --quiet --manifest-path ../Cargo.toml
    gate=$TARGET/release/sluicegate
fi
# A copy: a build in the meantime must not change what is measured.
cp "$gate" "$OUT/sluicegate"
rig=$OUT/rig

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$OUT/key.pem" -out "$OUT/cert.pem" 2>/dev/null

watched=() # the `timeout` around each process that runs
proxy='' pid=''

stop() {
    kill -TERM "$1" 2>/dev/null || return 0
    wait "$1" 2>/dev/null || true
}

cleanup() {
    trap - EXIT
    for process in "${watched[@]}"; do stop "$process"; done
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# start CPU LOG COMMAND...: runs a command pinned and bounded; sets `started`.
start() {
    rm -f "$LOGS"/*.err
    timeout -k 3 "$LONGEST" taskset -c "$1" "${@:3}" >"$2" 2>"$2.err" &
    started=$!
    watched+=("$started")
}

until_open() {
    for _ in {1..200}; do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    echo "compare.sh: nothing listens on port $1" >&2
    cat "$LOGS"/*.err >&2
    exit 1
}

# config FILE MODE: fills in the contender's config.
config() {
    local ssl='' tls=''
    if [[ $2 == tls ]]; then
        tls="\"tls\": { \"cert\": \"$OUT/cert.pem\", \"key\": \"$OUT/key.pem\" },"
        [[ $1 == nginx.conf ]] && ssl=ssl || ssl="ssl crt $OUT/both.pem"
        cat "$OUT/cert.pem" "$OUT/key.pem" >"$OUT/both.pem"
    fi
    sed -e "s|@PORT@|$PORT|; s|@UPSTREAM@|$UPSTREAM|; s|@TOKEN@|$TOKEN|; s|@OUT@|$OUT|" \
        -e "s|@SSL@|$ssl|; s|@TLS@|$tls|" "$HERE/peers/$1" >"$OUT/$1"
}

# start_proxy CONTENDER MODE: sets `proxy`, what to stop, and `pid`, what to measure.
start_proxy() {
    case $1 in
        relay) start "$PROXY_CPU" "$LOGS/relay.log" "$rig" relay --listen "127.0.0.1:$PORT" --target "127.0.0.1:$UPSTREAM" ;;
        gate) config gate.json "$2" && start "$PROXY_CPU" "$LOGS/gate.log" "$OUT/sluicegate" serve -c "$OUT/gate.json" ;;
        nginx) config nginx.conf "$2" && start "$PROXY_CPU" "$LOGS/nginx.out" nginx -p "$OUT" -e "$LOGS/nginx-error.log" -c "$OUT/nginx.conf" ;;
        haproxy) config haproxy.cfg "$2" && start "$PROXY_CPU" "$LOGS/haproxy.log" haproxy -db -f "$OUT/haproxy.cfg" ;;
    esac
    proxy=$started
    until_open "$PORT"
    pid=$(pgrep -P "$proxy")
    # nginx works in a child of its own.
    [[ $1 != nginx ]] || pid=$(pgrep -P "$pid")
}

stop_proxy() {
    stop "$proxy"
    unset 'watched[-1]'
}

# measure CONTENDER MODE WORKLOAD KIND PATH OPTION...: one line for the results.
measure() {
    local contender=$1 mode=$2 workload=$3 kind=$4 path=$5 tls=()
    [[ $mode == plain ]] || tls=(--tls)
    # A relay does not know routes: it is asked for what the others ask the upstream for.
    [[ $contender != relay ]] || path=${path/#\/events/\/sse}
    start_proxy "$contender" "$mode"
    start "$LOAD_CPU" "$OUT/load.json" "$rig" load "$kind" --target "127.0.0.1:$PORT" --path "$path" --bearer "$TOKEN" \
        --pid "$pid" --workload "$workload" --contender "$contender" --secs "$secs" "${tls[@]}" "${@:6}"
    # In the background, so that an interrupt ends it at once.
    if wait "$started"; then
        cat "$OUT/load.json" >>"$OUT/runs.jsonl"
    else
        echo "compare.sh: $workload ($mode) failed for $contender: $(<"$OUT/load.json.err")" >&2
    fi
    unset 'watched[-1]'
    stop_proxy
}

# compare CONTENDERS MODE WORKLOAD KIND PATH OPTION...: every contender, there and back.
compare() {
    local there=() back=() contender
    for contender in ${1//,/ }; do
        [[ ,$only, == *,$contender,* ]] || continue
        # A relay does not end TLS.
        [[ $contender != relay || $2 == plain ]] || continue
        there+=("$contender") back=("$contender" "${back[@]}")
    done
    for contender in "${there[@]}" "${back[@]}"; do
        measure "$contender" "${@:2}"
    done
    echo "  $3 ($2)" >&2
}

run_workload() {
    local all=relay,gate,nginx,haproxy mode=$1
    case $2 in
        # Token by token: 64 streams of 500 events a second, each event its own write.
        paced) compare "$all" "$mode" paced sse '/events?rate=500' --conns 64 ;;
        # A fast model: 16 events in each write of the server.
        batch16) compare "$all" "$mode" batch16 sse '/events?rate=4000&batch=16' --conns 64 ;;
        # Tool calls answered with JSON.
        rpc) compare "$all" "$mode" rpc rpc '/rpc?size=1024' --conns 32 --body 300 ;;
        # Tool calls answered with a stream of one event.
        call) compare "$all" "$mode" call rpc '/events?n=1' --conns 32 --body 300 ;;
        # A large resource, chunked.
        bulk) compare "$all" "$mode" bulk bulk '/bulk?size=67108864' --conns 1 ;;
        # Streams on which next to nothing happens: each has had an event when memory is looked at.
        idle) compare "$all" "$mode" idle sse '/events?rate=0.25' --conns "$idle_streams" --warm 4 ;;
        # The same events a second on ever more streams. The relay shows how much of the growth is the kernel's.
        growth)
            local total streams
            for total in 8192 32768; do
                for streams in 64 512 4096; do
                    compare relay,gate "$mode" "growth, $total/s on $streams streams" \
                        sse "/events?rate=$((total / streams))" --conns "$streams"
                done
            done
            ;;
    esac
}

: >"$OUT/runs.jsonl"
LONGEST=86400 start "$LOAD_CPU" "$LOGS/upstream.log" "$rig" upstream --listen "127.0.0.1:$UPSTREAM"
until_open "$UPSTREAM"
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for mode in $modes; do
        for workload in "${workloads[@]}"; do run_workload "$mode" "$workload"; done
    done
done
"$rig" report "$OUT/runs.jsonl" "$OUT/compare.json"
