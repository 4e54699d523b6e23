#!/usr/bin/env python3
"""Everything that clients do, for as long as asked, over TLS: what the gateway holds must stay, and go.

    SLUICEGATE_BIN=target/release/sluicegate tests/soak.py [--minutes 30]

Calls that pass byte for byte, event streams that are read to their end and ones that are left in the middle, sessions with a
command that are ended and ones that are left behind, all servers as one, HTTP+SSE, calls of MCP 2026-07-28, refused
requests, connections that say nothing, and a reload every few seconds that turns a token.

It fails (exit code 1) if

- a request fails that should not;
- memory grows: the median of the last sixth of the time is more than 5 % and 4 MiB above that of the sixth that follows the
  first third (with 30 minutes: minutes 25-30 against 10-15);
- processes, sessions or descriptors are left when all is quiet for `idleTimeout` and a bit.
"""

import argparse
import json
import os
import random
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from script_parts import COMMAND, META, Server

IDLE = 15
TOKEN = "soak-token-0123456789abcdef0123"
OPERATOR = "soak-operator-0123456789abcdef0123"
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


class Upstream(BaseHTTPRequestHandler):
    """Answers a POST with JSON, and a GET with ten events."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"text": "x" * random.randrange(4000)}})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for _ in range(10):
                event = b"data: " + b"x" * random.randrange(2000) + b"\n\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                self.wfile.flush()
                time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Gate:
    def __init__(self, binary, folder, upstream):
        self.config, self.log, self.upstream = folder / "soak.json", folder / "soak.log", upstream
        self.turn = 0
        self.save()
        with self.log.open("wb") as out:
            command = [binary, "serve", "-c", str(self.config)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        self.port = None
        end = time.monotonic() + 20
        while self.port is None:
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the gateway did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and '"Listening"' in line:
                    self.port = int(json.loads(line)["url"].rpartition(":")[2])

    def save(self):
        """A config with another token than the one before, saved by rename."""
        self.turn += 1
        tokens = {
            "soak": TOKEN,
            "operator": {"value": OPERATOR, "roles": ["admin"]},
            "turning": f"turning-token-{self.turn}-0123456789abcdef",
        }
        proxy = {
            "addr": "127.0.0.1:0",
            "tls": {"selfSigned": True},
            "allowedHosts": ["127.0.0.1"],
            "workers": 2,
            "shutdownGrace": "5s",
            "log": {"level": "warn"} if self.turn > 1 else {},
            "auth": {"tokens": tokens},
            # The refused ones are all of one address.
            "rateLimits": {"authFailures": "off"},
        }
        everyone = ["soak", "turning"]
        servers = {
            "http": {"url": f"http://127.0.0.1:{self.upstream}/mcp", "authTokens": everyone},
            "command": {
                "command": sys.executable,
                "args": ["-c", COMMAND],
                "authTokens": everyone,
                "idleTimeout": f"{IDLE}s",
            },
        }
        new = self.config.with_suffix(".new")
        new.write_text(json.dumps({"proxy": proxy, "mcpServers": servers}))
        new.chmod(0o600)
        new.rename(self.config)

    def status(self, name):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
        raise SystemExit("the gateway is gone")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def commands(self):
        """Processes of the command that run."""
        found = 0
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += b'"name": "stand-in"' in each.read_bytes()
            except OSError:
                pass
        return found


class Load:
    def __init__(self, gate):
        self.gate = gate
        self.over = threading.Event()
        self.done, self.failed = Counter(), Counter()
        self.lock = threading.Lock()
        kinds = [
            self.bytes,
            self.stream,
            self.left_stream,
            self.session,
            self.all_servers,
            self.sse,
            self.modern,
            self.refused,
            self.silent,
        ]
        self.threads = [threading.Thread(target=self.again, args=(kind,)) for kind in kinds for _ in range(2)]
        self.threads.append(threading.Thread(target=self.reload))
        for thread in self.threads:
            thread.start()

    def again(self, kind):
        while not self.over.is_set():
            try:
                problem = kind()
            except (OSError, HTTPException, ValueError, KeyError, AssertionError) as e:
                problem = f"{e!r} at line {e.__traceback__.tb_lineno if e.__traceback__ else 0}"
            with self.lock:
                self.done[kind.__name__] += 1
                if problem:
                    self.failed[kind.__name__, problem] += 1
            self.over.wait(random.random() * 0.04)

    def reload(self):
        while not self.over.wait(5):
            self.gate.save()

    def connect(self):
        return HTTPSConnection("127.0.0.1", self.gate.port, timeout=20, context=TLS)

    def post(self, connection, path, body, fields=None):
        sent = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        connection.request("POST", path, json.dumps({"jsonrpc": "2.0", **body}), sent | (fields or {}))
        response = connection.getresponse()
        return response, response.read().decode()

    def bytes(self):
        connection = self.connect()
        for number in range(random.randrange(1, 30)):
            response, text = self.post(connection, "/http/mcp", {"id": number, "method": "ping"})
            assert response.status == 200 and '"result"' in text, text
        connection.close()

    def stream(self):
        connection = self.connect()
        fields = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}
        connection.request("GET", "/http/mcp", headers=fields)
        response = connection.getresponse()
        count = response.read().count(b"data: ")
        connection.close()
        return None if count == 10 else f"{response.status}, {count} events"

    def left_stream(self):
        connection = self.connect()
        fields = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}
        connection.request("GET", "/http/mcp", headers=fields)
        connection.getresponse().read(100)
        # No farewell of TLS, and a reset in place of an end.
        raw = connection.sock
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()

    def initialize(self, connection, path):
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}
        response, text = self.post(connection, path, {"id": 0, "method": "initialize", "params": client})
        assert response.status == 200, f"{response.status} {text[:200]}"
        session = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}
        response, text = self.post(connection, path, {"method": "notifications/initialized"}, session)
        assert response.status == 202, f"{response.status} {text[:200]}"
        return session

    def conversation(self, path, tool):
        connection = self.connect()
        session = self.initialize(connection, path)
        _, text = self.post(connection, path, {"id": 1, "method": "tools/list"}, session)
        assert tool in text, text[:200]
        body = {"id": 2, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
        _, text = self.post(connection, path, body, session)
        assert "hello" in text, text[:200]
        # Half of them are left behind, for idleTimeout.
        if random.random() < 0.5:
            connection.request("DELETE", path, headers=session | {"Authorization": f"Bearer {TOKEN}"})
            connection.getresponse().read()
        connection.close()
        self.over.wait(1)

    def session(self):
        self.conversation("/command/mcp", "hello")

    def all_servers(self):
        self.conversation("/mcp?servers=command", "command__hello")

    def sse(self):
        listening, sending = self.connect(), self.connect()
        fields = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}
        listening.request("GET", "/command/sse", headers=fields)
        events = listening.getresponse()
        assert events.status == 200, f"{events.status}"

        def data():
            while line := events.readline():
                if line.startswith(b"data: "):
                    return line[6:].strip().decode()
            raise ValueError("the stream ended")

        endpoint = data()
        client = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}
        self.post(sending, endpoint, {"id": 0, "method": "initialize", "params": client})
        assert '"result"' in data()
        listening.close()
        sending.close()
        self.over.wait(1)

    def modern(self):
        connection = self.connect()
        for path, tool in [("/command/mcp", "hello"), ("/mcp?servers=command", "command__hello")]:
            params = {"name": tool, "arguments": {}, "_meta": META}
            fields = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
            _, text = self.post(connection, path, {"id": 1, "method": "tools/call", "params": params}, fields)
            assert "hello" in text, text[:200]
        connection.close()

    def refused(self):
        connection = self.connect()
        for path, token, status in [("/http/mcp", "x" * 32, 401), ("/none/mcp", TOKEN, 404), ("/a/../b", TOKEN, 400)]:
            fields = {"Authorization": f"Bearer {token}"}
            connection.request("GET", path, headers=fields)
            response = connection.getresponse()
            response.read()
            assert response.status == status, f"{path}: {response.status}"
            if response.will_close:
                connection.close()
        connection.close()

    def silent(self):
        with socket.create_connection(("127.0.0.1", self.gate.port), 5) as peer:
            peer.sendall(b"\x16\x03\x01"[: random.randrange(4)])
            self.over.wait(0.2)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    args = parser.parse_args()
    binary = os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")
    upstream = Server(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    problems = []
    with tempfile.TemporaryDirectory() as name:
        gate = Gate(binary, Path(name), upstream.server_address[1])
        try:
            quiet = gate.descriptors()
            seconds = args.minutes * 60
            load, began, memory = Load(gate), time.monotonic(), []
            pause = max(1, seconds / 180)
            said = began
            while time.monotonic() - began < seconds:
                time.sleep(pause)
                memory.append(gate.status("VmRSS:"))
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    minutes = (said - began) / 60
                    print(
                        f"{minutes:.0f} min: RSS {memory[-1] / 1024:.1f} MiB, {gate.descriptors()} descriptors, "
                        f"{gate.commands()} commands, {sum(load.done.values())} conversations, "
                        f"{sum(load.failed.values())} failed",
                        flush=True,
                    )
            load.end()
            sixth = len(memory) // 6
            early, late = (statistics.median(part) for part in (memory[2 * sixth : 3 * sixth], memory[-sixth:]))
            print(f"RSS: {early / 1024:.1f} MiB after a third of the time, {late / 1024:.1f} MiB at its end")
            if late > early * 1.05 + 4096:
                problems.append("memory grows")
            end, left = time.monotonic() + IDLE + 20, None
            while time.monotonic() < end and left != (0, quiet):
                time.sleep(1)
                left = gate.commands(), min(gate.descriptors(), quiet) if gate.descriptors() <= quiet + 4 else gate.descriptors()
            print(f"left when quiet: {left[0]} commands, {gate.descriptors()} descriptors (at the start {quiet})")
            if left != (0, quiet):
                problems.append("something is left when all is quiet")
        finally:
            gate.process.send_signal(signal.SIGTERM)
            if gate.process.wait(timeout=30) != 0:
                problems.append("the gateway did not end well")
    for kind, count in sorted(load.done.items()):
        print(f"{kind}: {count}")
    for (kind, problem), count in load.failed.most_common(20):
        print(f"FAILED {count} times: {kind}: {problem}")
    if load.failed:
        problems.append("requests failed")
    print("; ".join(problems) or "good")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
