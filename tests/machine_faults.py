#!/usr/bin/env python3
"""What goes wrong on the machine that a gateway runs on, one story each.

    SLUICEGATE_BIN=target/release/sluicegate tests/machine_faults.py [STORY…]

- `descriptors`: no descriptor is left. Established connections go on, nothing spins, the log says it a few times, and a new
  connection is served within a second after there is room again.
- `full_disk`: no line of the log can be written. The gateway serves, counts the lines, and stops when told.
- `stalled_log`: nobody reads the log. The gateway serves, and stops within a few seconds.
- `clock`: the wall clock jumps forwards over the expiry of a token and back. The token stays expired; streams of others go
  on, and nothing that has a time-out is cut. Needs libfaketime.

The exit code is 1 if a story fails. A story that the machine cannot run is skipped, and says so.
"""

import argparse
import glob
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from script_parts import Server

TOKEN = "machine-token-0123456789abcdef01"
BRIEF = "machine-brief-0123456789abcdef01"


class Skipped(Exception):
    """What this machine lacks."""


class Upstream(BaseHTTPRequestHandler):
    """Answers a POST with `{}`, and a GET with an event every 100 ms without an end."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"9\r\ndata: x\n\n\r\n")
            time.sleep(0.1)

    def log_message(self, *_):
        pass


class Gate:
    def __init__(self, folder, upstream, out=None, environment=None, tokens=None):
        (self.port,) = (free_port(),)
        config = Path(folder) / "gate.json"
        proxy = {
            "addr": f"127.0.0.1:{self.port}",
            "allowedHosts": ["localhost"],
            "workers": 1,
            "shutdownGrace": "1s",
            "limits": {"maxConnections": 1000, "maxRequests": 1000},
            "auth": {"tokens": {"all": TOKEN} | (tokens or {})},
        }
        config.write_text(json.dumps({"proxy": proxy, "mcpServers": {"http": {"url": f"http://127.0.0.1:{upstream}/mcp"}}}))
        config.chmod(0o600)
        self.log = Path(folder) / "gate.log"

        with self.log.open("wb") as log:
            binary = os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")
            command = [binary, "serve", "-c", str(config)]
            self.process = subprocess.Popen(
                command,
                stdout=log if out is None else out,
                stderr=log,
                env=os.environ | (environment or {}),
            )
        until("the gateway serves", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway did not start: {self.log.read_text()[-2000:]}")
        try:
            return self.get("/health").startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def get(self, path, token=None):
        """The head and what comes with it of a GET on a connection of its own."""
        peer = self.open(path, token)
        try:
            return peer.recv(4096)
        finally:
            peer.close()

    def open(self, path, token=None):
        peer = socket.create_connection(("127.0.0.1", self.port), 5)
        auth = f"Authorization: Bearer {token}\r\n" if token else ""
        peer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{auth}Accept: text/event-stream\r\n\r\n".encode())
        return peer

    def call(self, token=TOKEN):
        """The status of a call."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as peer:
            body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
            head = f"POST /http/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            peer.sendall(head.encode() + body)
            return int(peer.recv(4096)[9:12])

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Tells it to stop; how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        assert code == 0, f"it ended with {code}"
        return time.monotonic() - began


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until(what, done, seconds=20):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def descriptors(folder, upstream):
    gate = Gate(folder, upstream)
    try:
        streams = [gate.open("/http/mcp", TOKEN) for _ in range(4)]
        heads = [stream.recv(4096) for stream in streams]
        assert all(head.startswith(b"HTTP/1.1 200") for head in heads), f"{heads}"
        # As if the rest had gone to something else: the gateway's own limits leave enough.
        few = len(os.listdir(f"/proc/{gate.process.pid}/fd")) + 8
        resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE, (few, few))
        before = gate.cpu()
        crowd = []
        for _ in range(300):
            peer = socket.socket()
            peer.setblocking(False)
            try:
                peer.connect(("127.0.0.1", gate.port))
            except BlockingIOError:
                pass
            crowd.append(peer)
        time.sleep(5)
        spent = gate.cpu() - before
        for stream in streams:
            assert b"data: x" in stream.recv(65536), "a stream stands still"
        for peer in crowd:
            peer.close()
        until("a new connection is served", lambda: gate.call() == 200, 2)
        lines = gate.log.read_text().splitlines()
        assert spent < 1, f"it used {spent:.2f} s of CPU in 5 s"
        assert len(lines) < 700, f"{len(lines)} log lines"
        return f"{spent:.2f} s of CPU in 5 s, {len(lines)} log lines"
    finally:
        gate.stop()


def full_disk(folder, upstream):
    with open("/dev/full", "wb") as full:
        gate = Gate(folder, upstream, out=full)
    try:
        for _ in range(200):
            assert gate.call() == 200
    finally:
        took = gate.stop()
    return f"200 calls, stopped in {took:.1f} s"


def stalled_log(folder, upstream):
    reads, writes = os.pipe()
    gate = Gate(folder, upstream, out=writes)
    os.close(writes)
    try:
        for _ in range(2000):
            assert gate.call() == 200
    finally:
        took = gate.stop()
    os.close(reads)
    assert took < 10, f"it took {took:.1f} s to stop"
    return f"2,000 calls, stopped in {took:.1f} s"


def clock(folder, upstream):
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)
    if library is None:
        raise Skipped("libfaketime is not installed")
    now = Path(folder) / "now"
    now.write_text("+0")
    environment = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(now),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    tokens = {"brief": {"value": BRIEF, "expires": expires}}
    gate = Gate(folder, upstream, environment=environment, tokens=tokens)
    try:
        stream, ending = gate.open("/http/mcp", TOKEN), gate.open("/http/mcp", BRIEF)
        assert stream.recv(4096).startswith(b"HTTP/1.1 200") and ending.recv(4096).startswith(b"HTTP/1.1 200")
        assert gate.call(BRIEF) == 200
        now.write_text("+2h")
        until("the token has expired", lambda: gate.call(BRIEF) == 401, 5)
        ending.settimeout(5)
        while ending.recv(65536):
            pass
        for jump in ("-2h", "+0", "-400d", "+0"):
            now.write_text(jump)
            time.sleep(1.5)
            assert gate.call(BRIEF) == 401, f"a jump to {jump} revived an expired token"
            assert gate.call() == 200
            assert b"data: x" in stream.recv(65536), f"a jump to {jump} ended a stream"
        return "+2 h, -2 h, -400 d"
    finally:
        gate.stop()


STORIES = {story.__name__: story for story in (descriptors, full_disk, stalled_log, clock)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("story", nargs="*", choices=[*STORIES, []], help="by default all")
    args = parser.parse_args()
    upstream = Server(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    failed = 0
    for name in args.story or STORIES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(f"ok       {name}: {STORIES[name](folder, upstream.server_address[1])}", flush=True)
            except Skipped as why:
                print(f"skipped  {name}: {why}", flush=True)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
                failed += 1
                print(f"FAIL     {name}: {e}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
