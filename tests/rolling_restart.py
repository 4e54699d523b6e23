#!/usr/bin/env python3
"""Two gates behind HAProxy or nginx, restarted one after the other under load: no request fails.

The balancer's config is the one that docs/balancers.md shows, with the addresses of this run in place of its own.

    SLUICEGATE_BIN=target/release/sluicegate tests/rolling_restart.py [--balancer haproxy] [--rounds 1] [--callers 8]

Callers ask without a pause, over connections that they keep, each kind with tokens of its own:

- calls that pass byte for byte to an HTTP server;
- event streams of that server, which must end whole: what a stop cuts would be a failure;
- calls of MCP 2026-07-28 to a command, and to the same at `/mcp`.

A caller whose session of an older MCP version is at a gateway that stops has to initialize again; that is MCP, and not asked
here. The exit code is 1 if any request fails, and 77 if the balancer is not installed.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from script_parts import COMMAND, META, Server

ROOT = Path(__file__).resolve().parent.parent
HOST = "mcp.example.com"
# More than HAProxy's three failed checks, 2 s apart.
DELAY = 8
EVENTS = 5
TOKENS = {f"t{n}": f"rolling-token-{n}-0123456789abcdef" for n in range(8)}


class Upstream(BaseHTTPRequestHandler):
    """Answers each POST with JSON, or, if it asks for a stream, with some events."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {}}).encode()
        if asked["method"] != "stream":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(EVENTS):
            event = b"data: " + answer + b"\n\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Gate:
    def __init__(self, binary, folder, port, upstream):
        self.binary, self.port = binary, port
        self.config = folder / f"gate-{port}.json"
        self.log = folder / f"gate-{port}.log"
        proxy = {
            "addr": f"127.0.0.1:{port}",
            "baseUrl": f"https://{HOST}",
            "allowedHosts": [HOST],
            "trustedProxies": ["127.0.0.1"],
            "shutdownDelay": f"{DELAY}s",
            "shutdownGrace": "10s",
            "workers": 2,
            "auth": {"tokens": TOKENS},
        }
        servers = {
            "http": {"url": f"http://127.0.0.1:{upstream}/mcp", "authTokens": list(TOKENS)},
            "command": {"command": sys.executable, "args": ["-c", COMMAND], "authTokens": list(TOKENS)},
        }
        self.config.write_text(json.dumps({"proxy": proxy, "mcpServers": servers}))
        self.config.chmod(0o600)

    def start(self):
        with self.log.open("ab") as out:
            command = [self.binary, "serve", "-c", str(self.config)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        wait("a gateway is ready", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"the gateway did not start: {self.log.read_text()[-2000:]}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/health/ready", headers={"Host": HOST})
            return connection.getresponse().status == 200
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        if code != 0:
            raise SystemExit(f"a gateway ended with {code}")


class Balancer:
    """The config of docs/balancers.md for one balancer, running."""

    def __init__(self, kind, folder, gates):
        self.kind = kind
        (self.port,) = free_ports(1)
        page = (ROOT / "docs" / "balancers.md").read_text()
        text = re.search(rf"^```{kind}\n(.*?)^```", page, re.M | re.S)[1]
        for number, gate in enumerate(gates, 11):
            text = text.replace(f"10.0.0.{number}:8080", f"127.0.0.1:{gate.port}")
        self.stats = folder / "stats"
        if kind == "haproxy":
            text = re.sub(r"bind :443 .*", f"bind 127.0.0.1:{self.port}", text)
            text = text.replace("global\n", f"global\n    stats socket {self.stats}\n", 1)
            # Another program's default, as a machine's limit may be lower than the page's.
            text = text.replace("maxconn 20000", "maxconn 1000")
            command = ["haproxy", "-db", "-f", str(folder / "balancer.cfg")]
        else:
            text = re.sub(r"listen 443 .*", f"listen 127.0.0.1:{self.port};", text)
            text = re.sub(r" *ssl_.*\n", "", text)
            paths = "".join(
                f"{each}_temp_path {folder}/{each};" for each in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
            )
            text = (
                f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log notice;\n"
                f"events {{}}\nhttp {{ access_log off; {paths}\n{text}}}\n"
            )
            command = ["nginx", "-p", str(folder), "-e", f"{folder}/nginx.log", "-c", str(folder / "balancer.cfg")]
        (folder / "balancer.cfg").write_text(text)
        self.log = folder / "balancer.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        wait("the balancer serves", lambda: self.serves(gates))

    def serves(self, gates):
        if self.process.poll() is not None:
            raise SystemExit(f"the balancer did not start: {self.log.read_text()[-2000:]}")
        return all(self.is_up(number) for number, _ in enumerate(gates, 1))

    def is_up(self, number):
        """Whether it sends requests to a gateway. nginx has no checks: whether it listens."""
        try:
            if self.kind == "nginx":
                socket.create_connection(("127.0.0.1", self.port), 2).close()
                return True
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(self.stats))
                asking.sendall(b"show stat\n")
                rows = asking.makefile().read().splitlines()
        except OSError:
            return False
        # "UP 1/2" is one that is about to be taken out.
        return any(row.startswith(f"gates,gate-{number},") and row.split(",")[17] == "UP" for row in rows)

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=20)


def wait(what, done):
    end = time.monotonic() + 30
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"not within 30 s: {what}")
        time.sleep(0.05)


class Load:
    """Callers of all kinds, until told to stop."""

    def __init__(self, port, callers):
        self.port = port
        self.over = threading.Event()
        self.done, self.failed = Counter(), Counter()
        self.lock = threading.Lock()
        kinds = [
            ("byte path", "/http/mcp", "ping", None),
            ("event stream", "/http/mcp", "stream", None),
            ("call of a command", "/command/mcp", "tools/call", "hello"),
            ("call at /mcp", "/mcp", "tools/call", "command__hello"),
        ]
        self.threads = [
            threading.Thread(target=self.ask, args=(*kind, list(TOKENS.values())[n % len(TOKENS)]))
            for kind in kinds
            for n in range(callers)
        ]
        for thread in self.threads:
            thread.start()

    def ask(self, kind, path, method, tool, token):
        connection, number = None, 0
        while not self.over.is_set():
            number += 1
            params = {} if tool is None else {"name": tool, "arguments": {}, "_meta": META}
            body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            fields = {
                "Host": HOST,
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
            }
            if tool is not None:
                fields |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": tool}
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request("POST", path, body, fields)
                response = connection.getresponse()
                text = response.read().decode()
                whole = text.count('"result"') == (EVENTS if method == "stream" else 1)
                problem = None if response.status == 200 and whole else f"{response.status} {text[:200]}"
            except (OSError, http.client.HTTPException) as e:
                problem, connection = repr(e), None
            with self.lock:
                self.done[kind] += 1
                if problem is not None:
                    self.failed[kind, problem] += 1
            time.sleep(0.005)

    def count(self):
        with self.lock:
            return sum(self.done.values())

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--balancer", choices=["haproxy", "nginx"], default="haproxy")
    parser.add_argument("--rounds", type=int, default=1, help="how often each gate is restarted")
    parser.add_argument("--callers", type=int, default=8, help="callers of each kind")
    args = parser.parse_args()
    binary = os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")
    if shutil.which(args.balancer) is None:
        print(f"{args.balancer} is not installed")
        return 77
    upstream = Server(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gates = [Gate(binary, folder, port, upstream.server_address[1]) for port in free_ports(2)]
        running, balancer, load = [], None, None
        try:
            for gate in gates:
                gate.start()
                running.append(gate)
            balancer = Balancer(args.balancer, folder, gates)
            load = Load(balancer.port, args.callers)
            for _ in range(args.rounds):
                for number, gate in enumerate(gates, 1):
                    before = load.count()
                    began = time.monotonic()
                    gate.stop()
                    took = time.monotonic() - began
                    gate.start()
                    wait("the balancer takes the gateway back", lambda n=number: balancer.is_up(n))
                    print(f"gate {number}: stopped in {took:.1f} s, {load.count() - before} requests meanwhile")
            load.end()
        finally:
            if load is not None:
                load.end()
            if balancer is not None:
                balancer.end()
            for gate in running:
                gate.process.kill()
        if os.environ.get("KEEP_LOGS"):
            shutil.copytree(folder, os.environ["KEEP_LOGS"], dirs_exist_ok=True)
    for kind, count in sorted(load.done.items()):
        print(f"{kind}: {count} requests")
    for (kind, problem), count in load.failed.most_common(20):
        print(f"FAILED {count} times: {kind}: {problem}")
    print(f"{args.balancer}: {sum(load.done.values())} requests, {sum(load.failed.values())} failed")
    return 1 if load.failed else 0


if __name__ == "__main__":
    sys.exit(main())
