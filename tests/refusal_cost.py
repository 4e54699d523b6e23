#!/usr/bin/env python3
"""What a refused request costs the gateway, by the length of its path: over HTTP/1.1, and over HTTP/2 with TLS.

A stranger chooses the path. If a long one cost much more than a short one, some kilobytes a second would keep a core busy.

    SLUICEGATE_BIN=target/release/sluicegate tests/refusal_cost.py [--requests 200] [--rounds 15]

CPU time is the gateway's own, of all its threads, from the scheduler (/proc/PID/task/*/schedstat). A round asks for both
lengths, one after the other, and gives a ratio; the median of the rounds' ratios counts, since a machine that others use
too has spells of seconds in which everything costs half as much again. The exit code is 1 if a path of 8 KiB costs too
much in times of one of 10 bytes:

- more than 1.5 (`--most`) where each request has a connection of its own;
- more than 6 (`--most-kept`) where one connection carries all of them. There the kernel and the HTTP parsers, which have to
  read the bytes, take most of it. Measured, of 6 to 15 µs for the short one: 2.5 times as much over HTTP/1.1, 1.8 over
  HTTP/2, 4 over HTTP/2 with Huffman codes, of which the gateway's own part is 2 µs.

Debug builds are not what this is about.
"""

import argparse
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHORT, LONG = 10, 8192
# Paths of one length, as a stranger may write them; each must be refused, with or without being looked at closely.
SHAPES = {
    "one segment": lambda length: "/" + "a" * (length - 1),
    "many segments": lambda length: "/a" * (length // 2),
    "escapes": lambda length: ("/" + "%41" * ((length - 1) // 3)).ljust(length, "a"),
    "many separators": lambda length: ("/a;b=c,d&e:" * length)[:length],
}
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
TLS.set_alpn_protocols(["h2"])
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Gate:
    """A gateway with one worker that knows no token."""

    def __init__(self, binary, folder, tls):
        proxy = {"addr": "127.0.0.1:0", "workers": 1, "allowedHosts": ["localhost"]}
        if tls:
            proxy["tls"] = {"selfSigned": True}
        config = folder / f"{'tls' if tls else 'plain'}.json"
        server = {"url": "http://127.0.0.1:9/mcp"}
        config.write_text(json.dumps({"proxy": proxy, "mcpServers": {f"server-{n}": server for n in range(100)}}))
        command = [binary, "serve", "-c", str(config)]
        self.lines = config.with_suffix(".log")
        with self.lines.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out)
        self.addr = None
        while self.addr is None:
            if self.process.poll() is not None:
                raise SystemExit("the gateway did not start")
            time.sleep(0.01)
            lines = [line for line in self.log().splitlines(keepends=True) if line.endswith("\n")]
            for logged in map(json.loads, lines):
                if logged["msg"] == "Listening":
                    host, _, port = logged["url"].rpartition("/")[2].rpartition(":")
                    self.addr = (host, int(port))

    def log(self):
        return self.lines.read_text()

    def cpu(self):
        """Nanoseconds on a core so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks)

    def end(self):
        self.process.kill()
        self.process.wait()


class OverHttp1:
    def __init__(self, gate):
        self.socket = socket.create_connection(gate.addr)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def prepare(self, path):
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def ask(self, request):
        self.socket.sendall(request)
        answer = received(self.socket)
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            answer += received(self.socket)
        return int(answer[9:12])


class OverHttp2:
    """Just enough of RFC 9113 and RFC 7541 to send a GET and to see its answer end."""

    huffman = False

    def __init__(self, gate):
        plain = socket.create_connection(gate.addr)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = TLS.wrap_socket(plain, server_hostname="localhost")
        self.socket.sendall(HTTP2 + frame(4, 0, 0, b"") + frame(8, 0, 0, (1 << 30).to_bytes(4, "big")))
        self.stream, self.buffer = -1, b""

    def prepare(self, path):
        # :method GET and :scheme https by index, :path and :authority as literals that are not indexed.
        return b"\x82\x87\x04" + text(path.encode(), self.huffman) + b"\x01" + text(b"localhost", False)

    def ask(self, head):
        self.stream += 2
        self.socket.sendall(frame(1, 5, self.stream, head))
        answer = b""
        while True:
            kind, flags, stream, payload = self.next()
            if kind == 7:
                raise SystemExit(f"the gateway ended the connection: {payload!r}")
            if kind == 4 and not flags & 1:
                self.socket.sendall(frame(4, 1, 0, b""))
            if stream != self.stream:
                continue
            if kind == 0:
                answer += payload
            if flags & 1:
                return 401 if b'"unauthorized"' in answer else answer

    def next(self):
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            self.buffer += received(self.socket)
        length = int.from_bytes(self.buffer[:3], "big")
        kind, flags = self.buffer[3], self.buffer[4]
        stream = int.from_bytes(self.buffer[5:9], "big")
        payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
        return kind, flags, stream, payload


class OverHttp2Compressed(OverHttp2):
    huffman = True


def received(connection):
    piece = connection.recv(65536)
    if not piece:
        raise SystemExit("the gateway closed the connection")
    return piece


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


# Codes of the bytes that the paths above are made of (RFC 7541, appendix B).
CODES = {
    "/": "011000", "a": "00011", "b": "100011", "c": "00100", "d": "100100", "e": "00101", "%": "010101", "4": "011010",
    "1": "00001", ";": "11111011", "=": "100000", ",": "11111010", "&": "11111000", ":": "1011100",
}  # fmt: skip


def text(value, huffman):
    """A string literal (RFC 7541 §5.2)."""
    if huffman:
        bits = "".join(CODES[chr(byte)] for byte in value)
        bits += "1" * (-len(bits) % 8)
        value = int(bits, 2).to_bytes(len(bits) // 8, "big")
    flag, length = 0x80 if huffman else 0, len(value)
    if length < 127:
        return bytes([flag | length]) + value
    encoded, length = bytes([flag | 127]), length - 127
    while length >= 128:
        encoded, length = encoded + bytes([length % 128 + 128]), length // 128
    return encoded + bytes([length]) + value


def measure(gate, over, client, path, requests):
    """Microseconds a request; without a client, on a connection each."""
    before = gate.cpu()
    for _ in range(requests):
        one = client or over(gate)
        one.ask(one.prepare(path))
        if client is None:
            one.socket.close()
    return (gate.cpu() - before) / requests / 1000


WAYS = [
    ("HTTP/1.1, a connection each", False, OverHttp1, False),
    ("HTTP/1.1", False, OverHttp1, True),
    ("HTTP/2, a connection each", True, OverHttp2, False),
    ("HTTP/2", True, OverHttp2, True),
    ("HTTP/2, Huffman", True, OverHttp2Compressed, True),
]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--requests", type=int, default=200, help="in a round")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--most", type=float, default=1.5, help="on a connection each, in times the short one")
    options.add_argument("--most-kept", type=float, default=6, help="on one connection")
    options = options.parse_args()
    binary = os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, tls, over, is_kept in WAYS:
            gate = Gate(binary, Path(folder), tls)
            most = options.most_kept if is_kept else options.most
            try:
                client = over(gate) if is_kept else None
                for shape, path in SHAPES.items():
                    paths = [path(length) for length in (SHORT, LONG)]
                    for path in paths:
                        one = over(gate)
                        status = one.ask(one.prepare(path))
                        assert status == 401, f"{name}, {shape}: {status}"
                    cost = [[], []]
                    for _ in range(options.rounds):
                        for length, path in enumerate(paths):
                            cost[length].append(measure(gate, over, client, path, options.requests))
                    short, long = map(statistics.median, cost)
                    ratio = statistics.median(long / short for short, long in zip(*cost, strict=True))
                    verdict = "ok" if ratio <= most else f"more than {most}"
                    failed |= verdict != "ok"
                    print(f"{name:28} {shape:16} {short:7.2f} µs {long:7.2f} µs {ratio:5.2f} ×  {verdict}", flush=True)
            except BaseException:
                print(*gate.log().splitlines()[-5:], sep="\n", file=sys.stderr)
                raise
            finally:
                gate.end()
    sys.exit(failed)


if __name__ == "__main__":
    main()
