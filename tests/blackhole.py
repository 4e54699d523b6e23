#!/usr/bin/env python3
"""Peers that vanish without a word: what they had is gone within 75 s.

    SLUICEGATE_BIN=target/release/sluicegate tests/blackhole.py [--most 75]

A client and a server, each in a network namespace of its own, are cut off in the middle of silent event streams: no FIN, no
reset, no answer to anything. One stream has comments, as by default, whose acknowledgments are missed; the others are silent, so
that keep-alive has to notice. Then the gateway must have let go
of the client's connections, of the session of one of them and its process, and of the connection to the server, whose
client on this side is told. Nothing may be left open that was not open before.

It takes as long as the gateway takes. It needs `unshare`, `nsenter` and `ip`, and root or user namespaces; without them it is
skipped, with exit code 77.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKEN = "a-token-of-vanishing-peers-0123456789"
SKIPPED = 77
GATE, CLIENT, TO_SERVER, SERVER = "10.9.1.1", "10.9.1.2", "10.9.2.1", "10.9.2.2"
PORT, SERVER_PORT = 8080, 9000
# An MCP server on a pipe that answers what it has to and says nothing else.
COMMAND = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        result = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2024-11-05",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        },
    }
)


def request(method, path, body=""):
    fields = f"Host: {GATE}\r\nAuthorization: Bearer {TOKEN}\r\n"
    if body:
        fields += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n{body}".encode()


def until(connection, wanted):
    seen = b""
    while not re.search(wanted, seen):
        piece = connection.recv(4096)
        if not piece:
            raise SystemExit(f"closed behind {seen!r}")
        seen += piece
    return seen


def stream(path, wanted, host=GATE):
    connection = socket.create_connection((host, PORT))
    connection.sendall(request("GET", path))
    until(connection, rb"HTTP/1.1 200 [\s\S]*" + wanted)
    return connection


def play_client():
    """Opens streams of the server's, and a session with the command; then there is nothing more of it."""
    of_server = [stream(path, rb"\r\n\r\n") for path in ("/far", "/talks")]
    of_command = socket.create_connection((GATE, PORT))
    of_command.sendall(request("GET", "/near/sse"))
    endpoint = re.search(rb"data: \S*?(/near/message\S*)", until(of_command, rb"data: .*\n")).group(1).decode()
    call = socket.create_connection((GATE, PORT))
    call.sendall(request("POST", endpoint, INITIALIZE))
    until(call, rb"HTTP/1.1 202 ")
    until(of_command, rb"serverInfo")
    print("ready", flush=True)
    time.sleep(3600)
    return of_server, of_command, call


def play_server():
    listener = socket.create_server((SERVER, SERVER_PORT))
    print("ready", flush=True)
    held = []
    while True:
        connection, _ = listener.accept()
        until(connection, rb"\r\n\r\n")
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        held.append(connection)


def run(*command):
    subprocess.run(command, check=True)


class Peer:
    """A namespace, with a cable to this one."""

    def __init__(self, name, here, there):
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "3600"])
        self.inside = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        mine = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == mine:
            time.sleep(0.01)
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "up0", "netns", str(self.holder.pid))
        run("ip", "addr", "add", f"{here}/24", "dev", name)
        run("ip", "link", "set", name, "up")
        run(*self.inside, "ip", "addr", "add", f"{there}/24", "dev", "up0")
        run(*self.inside, "ip", "link", "set", "up0", "up")
        self.here, self.roles = here, []

    def play(self, role):
        command = [*self.inside, sys.executable, __file__, "--role", role]
        self.roles.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        if self.roles[-1].stdout.readline() != "ready\n":
            raise SystemExit(f"the {role} did not get as far as it should")

    def vanish(self):
        """From now on it hears and says nothing; what its kernel would send at the end of a process goes nowhere either."""
        run(*self.inside, "ip", "route", "add", "blackhole", f"{self.here}/32")

    def end(self):
        for process in [*self.roles, self.holder]:
            process.kill()
            process.wait()


def descriptors(process):
    held = (f"/proc/{process.pid}/fd/{fd}" for fd in os.listdir(f"/proc/{process.pid}/fd"))
    names = []
    for fd in held:
        try:
            names.append(os.readlink(fd).partition(":")[0])
        except FileNotFoundError:
            pass
    return {kind: names.count(kind) for kind in ("socket", "pipe")}


def commands(folder):
    found = 0
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += str(folder / "command.py").encode() in line.read_bytes()
        except OSError:
            pass
    return found


def inside(options, binary):
    run("ip", "link", "set", "lo", "up")
    peers = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "command.py").write_text(COMMAND)
        config = {
            "proxy": {
                "addr": f"0.0.0.0:{PORT}",
                "allowPlainHttp": True,
                "allowedHosts": ["*"],
                "workers": 1,
                "keepAlive": "0s",
                "auth": {"tokens": {"dev": TOKEN}},
            },
            "mcpServers": {
                "talks": {"url": f"http://{SERVER}:{SERVER_PORT}/mcp", "keepAlive": "15s"},
                "far": {"url": f"http://{SERVER}:{SERVER_PORT}/mcp"},
                "near": {"command": sys.executable, "args": [str(folder / "command.py")]},
            },
        }
        (folder / "gate.json").write_text(json.dumps(config))
        log = folder / "log"
        with log.open("wb") as out:
            gate = subprocess.Popen([binary, "serve", "-c", str(folder / "gate.json")], stdout=out)
        try:
            client, server = Peer("c0", GATE, CLIENT), Peer("s0", TO_SERVER, SERVER)
            peers += [client, server]
            while '"Listening"' not in log.read_text():
                if gate.poll() is not None:
                    raise SystemExit("the gateway did not start")
                time.sleep(0.02)
            server.play("server")
            # The first process begins what all of them share.
            warm = socket.create_connection(("127.0.0.1", PORT))
            warm.sendall(request("GET", "/near/sse"))
            until(warm, rb"data: .*\n")
            warm.close()
            while commands(folder):
                time.sleep(0.1)
            time.sleep(0.5)
            before = descriptors(gate)
            client.play("client")
            # A client that stays, and whose server goes.
            stays = stream("/far", rb"\r\n\r\n", "127.0.0.1")
            with_them = descriptors(gate)
            assert commands(folder) == 1 and with_them["socket"] >= before["socket"] + 7, (before, with_them)
            began = time.monotonic()
            client.vanish()
            server.vanish()
            print(f"before {before}, with them {with_them}; they vanished", flush=True)
            stays.settimeout(options.most)
            # The stream is broken off, not ended.
            while piece := stays.recv(4096):
                assert not piece.endswith(b"0\r\n\r\n"), piece
            print(f"{time.monotonic() - began:5.1f} s: the server's stream is broken off", flush=True)
            stays.close()
            while True:
                now, running, took = descriptors(gate), commands(folder), time.monotonic() - began
                if now == before and not running:
                    print(f"{took:5.1f} s: connections, session, process and descriptors are gone", flush=True)
                    return
                if took > options.most:
                    print(*log.read_text().splitlines()[-10:], sep="\n", file=sys.stderr)
                    raise SystemExit(f"{took:.0f} s: open {now} instead of {before}, {running} processes")
                time.sleep(0.25)
        except TimeoutError:
            raise SystemExit(f"the stream of a server that vanished is open after {options.most:g} s") from None
        finally:
            for peer in peers:
                peer.end()
            gate.terminate()
            gate.wait()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--most", type=float, default=75, help="seconds")
    options.add_argument("--role", choices=["client", "server"], help=argparse.SUPPRESS)
    options.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.role:
        {"client": play_client, "server": play_server}[options.role]()
        return
    binary = str(Path(os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")).resolve())
    if options.inside:
        inside(options, binary)
        return
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    tools = all(map(shutil.which, ("unshare", "nsenter", "ip")))
    probe = "ip link add probe type veth && unshare -n true"
    if not tools or subprocess.run([*unshare, "sh", "-c", probe], capture_output=True).returncode:
        print("skipped: it takes unshare, nsenter and ip, and root or user namespaces")
        sys.exit(SKIPPED)
    again = [*unshare, sys.executable, __file__, "--inside", "--most", str(options.most)]
    sys.exit(subprocess.run(again, env={**os.environ, "SLUICEGATE_BIN": binary}).returncode)


if __name__ == "__main__":
    main()
