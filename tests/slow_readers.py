#!/usr/bin/env python3
"""What streams cost whose clients read nothing while their server floods them: memory of the gateway, and of the kernel for it.

    SLUICEGATE_BIN=target/release/sluicegate tests/slow_readers.py [--count 300] [--settle 5] [--ways h1,tls,h2]

Starts a server that writes without end, a gateway in front of it, and clients that ask for an event stream and do not read.
Once nothing grows any more, it prints for each way (HTTP/1.1, the same within TLS, HTTP/2 within TLS with 100 streams a
connection):

- the gateway's resident memory (`VmRSS`), above what it had before;
- what the kernel keeps for the gateway's sockets, towards clients and towards servers (`sock_diag`, SKMEMINFO: memory of
  queued packets, with their overhead). That of the clients and of the server, on this machine too, is not the gateway's;
- the same of all sockets of the machine (`/proc/net/sockstat`), which is not judged.

Then the clients leave; `--settle` seconds later it looks at the resident memory again. The exit code is 1 if a stream costs
more than `--most-rss` (over HTTP/2 `--most-rss-h2`) or `--most-kernel` (KiB; 9,000 streams then are 1 GiB and 640 MiB), or
if the gateway keeps more than `--most-kept` MiB at the end. In full: `--count 9000 --settle 60`.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKEN = "a-token-of-slow-readers-0123456789"
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
STREAMS = 100


class Flood(asyncio.Protocol):
    """Answers whatever comes with an event stream that has no end, as fast as it is taken."""

    EVENT = b"data: " + b"x" * 1000 + b"\n\n"
    CHUNKS = (f"{len(EVENT):x}\r\n".encode() + EVENT + b"\r\n") * 16
    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    def connection_made(self, transport):
        self.transport, self.begun = transport, False
        transport.set_write_buffer_limits(0)
        # What this side keeps is not what is measured.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def data_received(self, data):
        if not self.begun:
            self.begun = self.is_writing = True
            self.transport.write(self.HEAD)
            self.resume_writing()

    def pause_writing(self):
        self.is_writing = False

    def resume_writing(self):
        self.is_writing = True
        while self.is_writing and not self.transport.is_closing():
            self.transport.write(self.CHUNKS)


def serve(pipe):
    async def run():
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        server = await loop.create_server(Flood, sock=listener)
        pipe.send(listener.getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class Gate:
    def __init__(self, binary, folder, tls, server, count):
        limits = {
            "maxConnections": 4 * count + 100,
            "maxRequests": 4 * count + 100,
            "perAddress": {"connections": 4 * count + 100},
            "slowReaderTimeout": "1h",
        }
        proxy = {
            "addr": "127.0.0.1:0",
            "workers": 2,
            "allowedHosts": ["localhost"],
            "auth": {"tokens": {"dev": TOKEN}},
            "limits": limits,
        }
        if tls:
            proxy["tls"] = {"selfSigned": True}
        config = folder / f"{'tls' if tls else 'plain'}.json"
        url = f"http://127.0.0.1:{server}/mcp"
        config.write_text(json.dumps({"proxy": proxy, "mcpServers": {"db": {"url": url}}}))
        self.lines = config.with_suffix(".log")
        with self.lines.open("wb") as out:
            self.process = subprocess.Popen([binary, "serve", "-c", str(config)], stdout=out)
        self.port = None
        while self.port is None:
            if self.process.poll() is not None:
                raise SystemExit("the gateway did not start")
            time.sleep(0.02)
            whole = [line for line in self.lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
            for logged in map(json.loads, whole):
                if logged["msg"] == "Listening":
                    self.port = int(logged["url"].rpartition(":")[2])

    def rss(self):
        """KiB"""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])

    def end(self):
        self.process.kill()
        self.process.wait()


def kernel(gate, server):
    """KiB that the kernel keeps for the gateway's sockets: towards clients, and towards the server."""
    diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    # sock_diag(7): all TCP sockets over IPv4, with INET_DIAG_SKMEMINFO.
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 1 << 6, 0, 0xFFFFFFFF) + bytes(48)
    diag.send(struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0) + request)
    of_clients = of_servers = 0
    while True:
        answer = diag.recv(1 << 20)
        while answer:
            length, kind = struct.unpack_from("=IH", answer)
            if kind == 3:
                return of_clients // 1024, of_servers // 1024
            message, answer = answer[16:length], answer[(length + 3) & ~3 :]
            source, target = struct.unpack_from(">HH", message, 4)
            attributes = message[72:]
            while len(attributes) >= 4:
                size, name = struct.unpack_from("=HH", attributes)
                if name == 7:
                    read, _, _, _, forward, written = struct.unpack_from("=6I", attributes, 4)
                    if source == gate.port:
                        of_clients += read + forward + written
                    elif target == server:
                        of_servers += read + forward + written
                attributes = attributes[(size + 3) & ~3 :]


def machine():
    """KiB in all TCP sockets of the machine."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def connect(gate):
    connection = socket.socket()
    # What this side keeps is not what is measured.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", gate.port))
    return connection


REQUEST = f"GET /db/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nAccept: text/event-stream\r\n\r\n".encode()


def over_http1(gate, count):
    for _ in range(count):
        connection = connect(gate)
        connection.sendall(REQUEST)
        yield connection


def over_tls(gate, count):
    for _ in range(count):
        connection = TLS.wrap_socket(connect(gate), server_hostname="localhost")
        connection.sendall(REQUEST)
        yield connection


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text(value):
    return bytes([len(value)]) + value.encode()


def over_http2(gate, count):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    # :method GET, :scheme https, :authority, :path, authorization, accept
    block = b"\x82\x87\x01" + text("localhost") + b"\x04" + text("/db/mcp") + b"\x0f\x08" + text(f"Bearer {TOKEN}")
    block += b"\x0f\x04" + text("text/event-stream")
    for first in range(0, count, STREAMS):
        connection = context.wrap_socket(connect(gate), server_hostname="localhost")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        for n in range(min(STREAMS, count - first)):
            connection.sendall(frame(1, 5, 2 * n + 1, block))
        yield connection


WAYS = {"h1": (False, over_http1), "tls": (True, over_tls), "h2": (True, over_http2)}


def steady(measure):
    """What `measure` says once it says the same, within a hundredth, for three seconds."""
    last, since = measure(), time.monotonic()
    while time.monotonic() < since + 3:
        time.sleep(0.5)
        now = measure()
        if any(abs(a - b) > max(256, b // 100) for a, b in zip(now, last, strict=True)):
            last, since = now, time.monotonic()
    return measure()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=300, help="streams")
    options.add_argument("--ways", default="h1,tls,h2")
    options.add_argument("--settle", type=float, default=5, help="seconds until the gateway is looked at again")
    options.add_argument("--most-rss", type=float, default=116, help="KiB a stream")
    options.add_argument("--most-rss-h2", type=float, default=32, help="KiB a stream over HTTP/2")
    options.add_argument("--most-kernel", type=float, default=72, help="KiB a stream")
    options.add_argument("--most-kept", type=float, default=128, help="MiB when all have left")
    options = options.parse_args()
    binary = os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pipe, other = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(other,), daemon=True)
    server.start()
    port = pipe.recv()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for way in options.ways.split(","):
            tls, clients = WAYS[way]
            gate = Gate(binary, Path(folder), tls, port, options.count)
            try:
                # Whatever a first connection costs is not a stream's.
                next(clients(gate, 1)).close()
                time.sleep(0.5)
                idle, before = gate.rss(), machine()
                held = list(clients(gate, options.count))
                rss, of_clients, of_servers = steady(lambda gate=gate: (gate.rss(), *kernel(gate, port)))
                all_sockets = machine() - before
                for one in held:
                    one.close()
                time.sleep(options.settle)
                kept = (gate.rss() - idle) / 1024
            except BaseException:
                print(*gate.lines.read_text().splitlines()[-5:], sep="\n", file=sys.stderr)
                raise
            finally:
                gate.end()
            a_stream = [kib / options.count for kib in (rss - idle, of_clients, of_servers, all_sockets)]
            wrong = []
            most_rss = options.most_rss_h2 if way == "h2" else options.most_rss
            if a_stream[0] > most_rss:
                wrong.append(f"RSS of more than {most_rss:g} KiB a stream")
            if a_stream[1] + a_stream[2] > options.most_kernel:
                wrong.append(f"more than {options.most_kernel:g} KiB a stream in the kernel")
            if kept > options.most_kept:
                wrong.append(f"more than {options.most_kept:g} MiB kept")
            failed |= bool(wrong)
            print(
                f"{way:4} {options.count} streams, KiB each: RSS {a_stream[0]:6.1f}, kernel {a_stream[1]:6.1f} towards "
                f"clients, {a_stream[2]:6.1f} towards servers (machine {a_stream[3]:6.1f}); RSS {idle / 1024:.0f} MiB "
                f"before, {rss / 1024:.0f} with them, {kept:+.1f} MiB {options.settle:g} s after; {'; '.join(wrong) or 'ok'}",
                flush=True,
            )
    server.terminate()
    sys.exit(failed)


if __name__ == "__main__":
    main()
