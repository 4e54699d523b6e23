"""Requests framed so that two parsers may see two different ones, through the gateway to real parsers.

Behind the gateway are h11, Node with its lenient parser, and nginx with that Node behind it, which reads bodies to their end.
What counts is that each of them sees the requests that the gateway let pass, and no other: a request for `/smuggled`, which
stands in the bodies, is never seen, and the number of whole requests is the number of answers that the gateway's log names.
(What turns out to be broken after its head has passed is cut off: no parser takes it for whole.)
"""

import asyncio
import itertools
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import h11

from .certificates import Certificates
from .children import NODE, Children, accepts, free_port, until
from .gate import TOKEN, start
from .report import Report

# How long a connection may be silent before the next payload's turn.
PATIENCE = 0.3
AT_ONCE = 24

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r\n"

NODE_SERVER = """
import { createServer } from "node:http";
createServer({ insecureHTTPParser: true }, (request, response) => {
  request.resume().on("end", () => {
    console.log(JSON.stringify({ path: request.url, case: request.headers["x-case"] ?? null }));
    response.end("{}");
  });
}).on("clientError", (_, socket) => socket.destroy()).listen(Number(process.argv[2]), "127.0.0.1");
"""

NGINX = """
daemon off; pid FOLDER/framing-nginx.pid; worker_processes 1;
events { worker_connections 1024; }
http {
    log_format seen escape=json '{"path":"$request_uri","case":"$http_x_case"}';
    map $status $whole { 200 1; default 0; }
    access_log /dev/stdout seen if=$whole;
    client_body_temp_path FOLDER/nginx-body; proxy_temp_path FOLDER/nginx-proxy; fastcgi_temp_path FOLDER/nginx-fastcgi;
    scgi_temp_path FOLDER/nginx-scgi; uwsgi_temp_path FOLDER/nginx-uwsgi;
    server { listen 127.0.0.1:PORT; location / { proxy_pass http://127.0.0.1:NODE; } }
}
"""


def payloads() -> Iterator[bytes]:
    """Every way known to say twice, or unclearly, where a request ends."""
    chunked = b"0\r\n\r\n"
    lengths = [b"0", b"5", b"05", b"+5", b"-1", b"5, 5", b"5,6", b"0x5", b"5 ", b" 5", b"5;", b"", b"\t5", b"5\x0b", b"5e0", b"5.0"]
    lengths += [b"9" * 20, b"9" * 30, b"18446744073709551621", b"4294967301", b"%d" % len(SMUGGLED)]
    codings = [b"chunked", b"Chunked", b"CHUNKED", b"identity", b"gzip", b"chunked, identity", b"identity, chunked"]
    codings += [b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunked;q=1", b"chunked ", b" chunked", b"\tchunked"]
    codings += [b"\x0bchunked", b"chunked\x00", b'"chunked"', b"chun\xadked", b"chunke\xe4", b",chunked", b"chunked,", b"", b"\x85chunked"]
    names = [b"Transfer-Encoding", b"transfer-encoding", b"Transfer_Encoding", b"Transfer-Encoding ", b"Transfer-Encoding\t"]
    names += [b" Transfer-Encoding", b"Transfer-Encoding\x00", b"Transfer-\x00Encoding", b"X: y\nTransfer-Encoding"]
    names += [b"X: y\rTransfer-Encoding", b"X:\r\n Transfer-Encoding", b"Content-Length", b"Content_Length", b"Content-Length "]

    def post(fields: bytes, body: bytes, end: bytes = b"\r\n", version: bytes = b"HTTP/1.1") -> bytes:
        head = b"POST /ID/mcp " + version + b"\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode()
        head += b"\r\nX-Case: CASE\r\nContent-Type: application/json\r\n"
        return (head + fields + b"\r\n").replace(b"\r\n", end) + body

    for length in lengths:
        yield post(b"Content-Length: " + length + b"\r\n", b"{}   " + SMUGGLED)
        yield post(b"Content-Length: " + length + b"\r\nContent-Length: 5\r\n", b"{}   " + SMUGGLED)
        yield post(b"Content-Length: 5\r\nContent-Length: " + length + b"\r\n", b"{}   " + SMUGGLED)
        yield post(b"Transfer-Encoding: chunked\r\nContent-Length: " + length + b"\r\n", chunked + SMUGGLED)
        yield post(b"Content-Length: " + length + b"\r\nTransfer-Encoding: chunked\r\n", chunked + SMUGGLED)
    for coding in codings:
        yield post(b"Transfer-Encoding: " + coding + b"\r\n", chunked + SMUGGLED)
        yield post(b"Transfer-Encoding:" + coding + b"\r\nContent-Length: 5\r\n", chunked + SMUGGLED)
        yield post(b"Content-Length: %d\r\nTransfer-Encoding: " % (5 + len(SMUGGLED)) + coding + b"\r\n", chunked + SMUGGLED)
        yield post(b"Transfer-Encoding: " + coding + b"\r\nTransfer-Encoding: chunked\r\n", chunked + SMUGGLED)
        yield post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: " + coding + b"\r\n", chunked + SMUGGLED)
        yield post(b"Transfer-Encoding: " + coding + b"\r\n", chunked + SMUGGLED, version=b"HTTP/1.0")
    for name, value in itertools.product(names, [b"chunked", b"0", b"5"]):
        yield post(name + b": " + value + b"\r\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED)
        yield post(name + b": " + value + b"\r\n", chunked + SMUGGLED)
        yield post(b"Content-Length: 5\r\n" + name + b": " + value + b"\r\n", chunked + SMUGGLED)
    size = b"%x" % len(SMUGGLED)
    sizes = [size, b"0" + size, b"0" * 20 + size, b"0x" + size, size + b" ", b" " + size, b"+" + size, b"-1", size.upper() + b";a=b"]
    sizes += [size + b';a="\r\n"', size + b";\n" + b"0", size + b"\x00", b"\t" + size, b"fffffffffffffffff", b"1" + b"0" * 16, b"", b";a"]
    for text, end in itertools.product(sizes, [b"\r\n", b"\n", b"\r", b"\r\r\n"]):
        body = text + end + SMUGGLED + end + b"0" + end + end
        yield post(b"Transfer-Encoding: chunked\r\n", body)
        yield post(b"Transfer-Encoding: chunked\r\n", text + end + SMUGGLED + b"XX0\r\n\r\n" + SMUGGLED)
    for trailer in [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: other", b" folded", b"no colon", b"X: y\nZ: z", b": empty"]:
        yield post(b"Transfer-Encoding: chunked\r\n", b"0\r\n" + trailer + b"\r\n\r\n" + SMUGGLED)
        yield post(b"Transfer-Encoding: chunked\r\nTrailer: X\r\n", b"2\r\n{}\r\n0\r\n" + trailer + b"\r\n\r\n" + SMUGGLED)
    for end in [b"\n", b"\r", b"\r\r\n", b"\n\r"]:
        yield post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED, end)
        yield post(b"Transfer-Encoding: chunked\r\n", chunked + SMUGGLED, end)
    for fields in [b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"]:
        yield post(fields + b"Content-Length: 5\r\n", b"{}   " + SMUGGLED)
    for expect in [b"100-continue", b"100-Continue", b"100-continue, x", b"junk"]:
        yield post(b"Expect: " + expect + b"\r\nContent-Length: 5\r\n", b"{}   " + SMUGGLED)
    for method in [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"]:
        request = post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED)
        yield request.replace(b"POST", method, 1)
        yield post(b"Transfer-Encoding: chunked\r\n", chunked + SMUGGLED).replace(b"POST", method, 1)
    for target in [b"/ID/mcp#/smuggled", b"/ID/mcp HTTP/1.1\r\nX: y", b"/ID/mcp\x00", b"/ID/mcp\x0b", b"http://localhost/ID/mcp", b"//smuggled"]:
        yield post(b"Content-Length: 5\r\n", b"{}   ").replace(b"/ID/mcp", target, 1)


class Seen:
    """What one back end saw: paths, and how many requests each payload became."""

    def __init__(self) -> None:
        self.paths: Counter[str] = Counter()
        self.cases: Counter[str] = Counter()

    def add(self, path: str, case: str | None) -> None:
        self.paths[path] += 1
        self.cases[case or ""] += 1


@asynccontextmanager
async def h11_server(port: int, seen: Seen) -> AsyncIterator[None]:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = h11.Connection(h11.SERVER)
        try:
            while True:
                event = state.next_event()
                if event is h11.NEED_DATA:
                    state.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.EndOfMessage):
                    case = dict(request.headers).get(b"x-case", b"").decode()
                    seen.add(request.target.decode("latin-1"), case)
                    head = h11.Response(status_code=200, headers=[("Content-Length", "2")])
                    for part in (head, h11.Data(data=b"{}"), h11.EndOfMessage()):
                        writer.write(state.send(part) or b"")
                    await writer.drain()
                    if state.our_state is h11.MUST_CLOSE:
                        return
                    state.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    return
        except (h11.ProtocolError, OSError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(connection, "127.0.0.1", port):
        yield


async def run(children: Children, folder: Path, report: Report, binary: str | None, _tls: Certificates) -> None:
    if binary is None:
        return
    ports = {"h11": free_port(), "node": free_port()}
    seen = {"h11": Seen()}
    script = folder / "framing.mjs"
    script.write_text(NODE_SERVER)
    await children.serve("framing-node", [NODE, str(script), str(ports["node"])])
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx:
        ports["nginx"] = free_port()
        config = folder / "framing-nginx.conf"
        config.write_text(NGINX.replace("FOLDER", str(folder)).replace("PORT", str(ports["nginx"])).replace("NODE", str(ports["node"])))
        await children.serve("framing-nginx", [nginx, "-e", str(folder / "nginx-error.log"), "-p", str(folder), "-c", str(config)])
    else:
        print("SKIPPED  framing: nginx is not installed, it goes without it", flush=True)
    async with h11_server(ports["h11"], seen["h11"]):
        for name, port in ports.items():
            await until(name, lambda port=port: accepts(port))
        servers = {name: {"url": f"http://127.0.0.1:{port}/mcp"} for name, port in ports.items()}
        gate = await start(children, folder, "gate-framing", binary, servers)
        port = int(gate.base.rpartition(":")[2])
        room = asyncio.Semaphore(AT_ONCE)
        for name in servers:
            texts = [
                text.replace(b"/ID/", f"/{name}/".encode()).replace(b"X-Case: CASE", b"X-Case: %d" % number)
                for number, text in enumerate(payloads())
            ]
            answers = await asyncio.gather(*(send(port, text, room) for text in texts))
            if name != "h11":
                seen[name] = logged(children.log(f"framing-{name}"))
            judge(report, name, seen[name], passed(gate.log, name), answers)


async def send(port: int, text: bytes, room: asyncio.Semaphore) -> bytes:
    """Sends `text` and returns what comes back until nothing does."""
    async with room:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = b""
        try:
            writer.write(text)
            while part := await asyncio.wait_for(reader.read(65536), PATIENCE):
                answer += part
        except (TimeoutError, OSError):
            pass
        writer.close()
        return answer


def logged(log: Path) -> Seen:
    seen = Seen()
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            seen.add(entry["path"], entry["case"])
    return seen


def passed(log: Path, server: str) -> int:
    """How many requests the gateway let pass to `server`, by its own log."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return sum(line.get("server") == server and line.get("status") == 200 for line in lines)


def judge(report: Report, name: str, seen: Seen, passed: int, answers: list[bytes]) -> None:
    problems = []
    if others := {path for path in seen.paths if path != "/mcp"}:
        problems.append(f"it saw requests for {sorted(others)[:5]}")
    if twice := [case for case, count in seen.cases.items() if count > 1]:
        problems.append(f"payloads that became more than one request: {sorted(twice)[:10]}")
    total = sum(seen.paths.values())
    if total != passed:
        problems.append(f"it saw {total} requests, the gateway let {passed} pass")
    if total == 0:
        problems.append("no request reached it")
    said = Counter(answer[9:12].decode("latin-1") for answer in answers)
    counts = ", ".join(f"{status or 'closed'}: {count}" for status, count in sorted(said.items()))
    report.check(f"framing of {len(answers)} payloads before {name}, {total} seen ({counts})", "; ".join(problems) or None)
