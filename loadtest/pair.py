"""Measures two builds, or two kinds of callers, in turns; `pair.sh` prepares and starts this.

Each pair is OLD NEW or NEW OLD in turn, each with a fresh process, but for the tokens of a login, a client or an issuer beside static
ones: one process has both. The ratio of a workload is the median of the ratios of its
pairs, with a 95 % interval by bootstrap.
"""

import argparse
import asyncio
import base64
import html
import http.server
import json
import os
import random
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from harness import processes
from harness.wire import Connection, Session

HERE = Path(__file__).resolve().parent
RIG = HERE.parent / "target/rig/release/rig"
PROXY_CPU = os.environ.get("PROXY_CPU", "1")
LOAD_CPU = os.environ.get("LOAD_CPU", "0")
TOKEN = "load-test-token-0123456789abcdef0123456789"

# Of each workload: what the rig is asked for, and the figure that counts.
WORKLOADS = {
    "paced": (["sse", "--path", "/events?rate=500", "--conns", "64"], "cpu_us_per_unit"),
    "rpc": (["rpc", "--path", "/rpc?size=1024", "--conns", "32", "--body", "300"], "cpu_us_per_unit"),
    "call": (["rpc", "--path", "/events?n=1", "--conns", "32", "--body", "300"], "cpu_us_per_unit"),
    "bulk": (["bulk", "--path", "/bulk?size=67108864", "--conns", "1"], "gb_per_cpu_s"),
    "idle": (["sse", "--path", "/events?rate=0.25", "--conns", "4000", "--warm", "4"], "rss_per_conn"),
    "bridge": ([], "cpu_us_per_unit"),
}
SESSIONS = 8
TEXT = "q" * 200

# A hash of "password123" at the least cost, and who has it.
USER = {"passwordHash": "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$rqReNQSuNpi+3YF2W7U7W9ByJ6959j7LZ/qa31zY2Gg"}
LIMITS = {"principal": "1000000/s", "peer": "1000000/s", "server": "1000000/s", "authFailures": "off"}
# What is kept from the caller by "kept", and what it may have by both.
TOOLS = {"export_*": {"roles": ["load"]}, "read_*": {"roles": ["load", "another"]}}
KEPT = {"delete_*": {"roles": ["admin"]}}


# A client of OAuth, and what it shows for its code (RFC 7636, appendix B).
CLIENT = {"redirectUris": ["http://127.0.0.1/callback"]}
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def of_kind(text: str, kind: str, base: str) -> dict:
    """The config as JSON, with what this kind of caller needs. Each has the user, so that nothing else differs by it."""
    config = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))
    proxy, servers = config["proxy"], config["mcpServers"]
    proxy["auth"]["users"] = {"load": USER}
    for server in servers.values():
        server["users"] = ["load"]
    if kind == "access":
        proxy["auth"].update(kind="oauth", clients={"load": CLIENT})
        proxy["baseUrl"] = base
    if kind == "jwt":
        proxy["auth"].update(issuers={"load": Issuer.the().config()}, assign=[{"if": {"issuer": "load"}, "roles": ["load"]}])
        proxy["auth"]["tokens"]["load"] = {"value": TOKEN, "roles": ["load"]}
        for server in servers.values():
            # A list of tokens or users has none of an issuer.
            server.pop("authTokens", None)
            server.pop("users")
            server["roles"] = ["load"]
    if kind in ("rules", "kept"):
        proxy["auth"]["tokens"]["load"] = {"value": TOKEN, "roles": ["load", "other"], "tags": ["load", "x"]}
        proxy["rateLimits"] = LIMITS
        for server in servers.values():
            server.update(roles=["first", "load"], tags=["z", "load"], tools=TOOLS | (KEPT if kind == "kept" else {}))
    return config


def base_url(port: int, tls: bool) -> str:
    return f"{'https' if tls else 'http'}://127.0.0.1:{port}"


def log_in(port: int, tls: bool) -> str:
    """The session token of a login."""
    url = base_url(port, tls) + "/auth/login"
    body = json.dumps({"username": "load", "password": "password123"}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    context = ssl._create_unverified_context() if tls else None
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return json.load(answer)["token"]


def let_in(port: int, tls: bool) -> str:
    """The access token of a client that the user lets in at the pages."""
    base, cookies = base_url(port, tls), {}
    context = ssl._create_unverified_context() if tls else None

    def ask(path: str, form: dict | None = None) -> str:
        body = urllib.parse.urlencode(form).encode() if form else None
        fields = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()), "Origin": base}
        request = urllib.request.Request(base + path, body, fields)
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            for cookie in answer.headers.get_all("Set-Cookie") or []:
                name, value = cookie.split(";")[0].split("=", 1)
                cookies[name] = value
            return answer.read().decode()

    def hidden(page: str) -> dict:
        return {name: html.unescape(re.search(f'name="{name}" value="([^"]*)"', page)[1]) for name in ("csrf", "flow")}

    asked = {"response_type": "code", "client_id": "load", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    page = ask("/authorize?" + urllib.parse.urlencode(asked))
    page = ask("/oauth/login", hidden(page) | {"username": "load", "password": "password123"})
    page = ask("/oauth/consent", hidden(page) | {"answer": "approve", "scope:mcp": "on"})
    code = re.search(r"[?;&]code=([\w-]+)", html.unescape(page))[1]
    form = {"grant_type": "authorization_code", "client_id": "load", "code": code, "code_verifier": VERIFIER}
    return json.loads(ask("/token", form))["access_token"]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens, and publishes the key by which the gateway checks them."""

    _one: "Issuer | None" = None

    @classmethod
    def the(cls) -> "Issuer":
        cls._one = cls._one or cls()
        return cls._one

    def __init__(self) -> None:
        openssl = lambda *command, data=None: subprocess.run(["openssl", *command], input=data, check=True, capture_output=True).stdout
        self._folder = tempfile.TemporaryDirectory(prefix="sluicegate-issuer-")
        key = f"{self._folder.name}/key.pem"
        openssl("genrsa", "-out", key, "2048")
        modulus = bytes.fromhex(openssl("rsa", "-in", key, "-noout", "-modulus").decode().strip().split("=")[1])
        keys = {"keys": [{"kty": "RSA", "kid": "load", "use": "sig", "n": base64url(modulus), "e": "AQAB"}]}
        self._sign = lambda data: openssl("dgst", "-sha256", "-sign", key, data=data)

        class Keys(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(keys).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._url = f"http://127.0.0.1:{server.server_port}"

    def config(self) -> dict:
        return {"issuer": self._url, "jwksUrl": f"{self._url}/keys", "audiences": ["load"]}

    def token(self, *_: object) -> str:
        """One as issuers make them: with some claims, of some 700 bytes."""
        now = int(time.time())
        claims = {"iss": self._url, "aud": "load", "sub": "load", "scope": "mcp", "iat": now, "exp": now + 3600, "jti": "j" * 22}
        claims |= {"client_id": "load", "groups": ["engineering", "operations"], "email": "load@example.com"}
        header = {"alg": "RS256", "typ": "at+jwt", "kid": "load"}
        message = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{message}.{base64url(self._sign(message.encode()))}"


# Kinds of callers whose token is had of the gateway, or of an issuer, and how.
GIVEN = {"session": log_in, "access": let_in, "jwt": lambda *_: Issuer.the().token()}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until_open(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


class Running:
    """A process on a core, for as long as the `with` block lasts."""

    def __init__(self, cpu: str, port: int, command: list[str], log: Path) -> None:
        self._command, self.port, self._log = ["taskset", "-c", cpu, *command], port, log

    def __enter__(self) -> "Running":
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        try:
            until_open(self.port)
        except RuntimeError:
            self._process.kill()
            raise RuntimeError(self._log.read_text()[-2000:]) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Bench:
    def __init__(self, folder: Path, upstream: int, secs: float) -> None:
        self._folder, self._upstream, self._secs = folder, upstream, secs

    def config(self, gate: str, kind: str | None, port: int, tls: bool) -> Path:
        text = (HERE / "peers/gate.json").read_text()
        schema = subprocess.run([gate, "schema"], check=True, capture_output=True, text=True).stdout
        if '"perAddress"' not in schema:
            # A build from before there was such a limit.
            text = re.sub(r'^ *"(limits|rateLimits)":.*\n', "", text, flags=re.M)
        files = f'"tls": {{ "cert": "{self._folder}/cert.pem", "key": "{self._folder}/key.pem" }},' if tls else ""
        for name, value in {"PORT": port, "UPSTREAM": self._upstream, "TOKEN": TOKEN, "TLS": files}.items():
            text = text.replace(f"@{name}@", str(value))
        echo = {"command": "taskset", "args": ["-c", LOAD_CPU, str(RIG), "stdio"]}
        text = text.replace('"mcpServers": {', f'"mcpServers": {{ "echo": {json.dumps(echo)},')
        if kind:
            text = json.dumps(of_kind(text, kind, base_url(port, tls)))
        path = self._folder / "gate.json"
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def measure(self, side: tuple[str, str | None], workload: str, tls: bool) -> float:
        gate, kind = side
        with self.running(side, tls) as running:
            token = GIVEN[kind](running.port, tls) if kind in GIVEN else TOKEN
            return self.cost(running, token, workload, tls)

    def in_turns(
        self, side: tuple[str, str], workload: str, tls: bool, count: int, told: Callable
    ) -> list[tuple[float, float]]:
        """Pairs of a static token and one that is given at one process: nothing else differs, not even where its memory is."""
        pairs = []
        with self.running(side, tls) as running:
            tokens = [TOKEN, GIVEN[side[1]](running.port, tls)]
            for number in range(count):
                order = (0, 1) if number % 2 == 0 else (1, 0)
                costs = {side: self.cost(running, tokens[side], workload, tls) for side in order}
                pairs.append((costs[0], costs[1]))
                told(number, pairs[-1])
        return pairs

    def running(self, side: tuple[str, str | None], tls: bool) -> Running:
        (gate, kind), port = side, free_port()
        command = [gate, "serve", "-c", str(self.config(gate, kind, port, tls))]
        return Running(PROXY_CPU, port, command, self._folder / "gate.log")

    def cost(self, running: Running, token: str, workload: str, tls: bool) -> float:
        arguments, figure = WORKLOADS[workload]
        if workload == "bridge":
            return asyncio.run(self.bridge(running.port, running.pid, token))
        load = ["taskset", "-c", LOAD_CPU, str(RIG), "load", *arguments, "--target", f"127.0.0.1:{running.port}"]
        load += ["--bearer", token, "--pid", str(running.pid), "--secs", str(self._secs)]
        load += ["--tls"] if tls else []
        out = subprocess.run(load, check=True, capture_output=True, text=True, timeout=120).stdout
        result = json.loads(out)
        if figure == "gb_per_cpu_s":
            # As a cost, like the others.
            return 1 / result[figure]
        return result[figure]

    async def bridge(self, port: int, pid: int, token: str) -> float:
        """CPU in µs of a call of a command."""
        stop, calls = asyncio.Event(), 0

        async def caller() -> None:
            nonlocal calls
            async with Connection(f"http://127.0.0.1:{port}/echo/mcp", token) as connection:
                session, number = await Session.open(connection), 0
                while not stop.is_set():
                    number += 1
                    await session.call(number, "echo", {"text": TEXT})
                    calls += 1

        async def clock() -> float:
            await asyncio.sleep(0.5)
            before, first = processes.cpu_seconds(pid), calls
            await asyncio.sleep(self._secs)
            cost = (processes.cpu_seconds(pid) - before) / (calls - first) * 1e6
            stop.set()
            return cost

        cost, *_ = await asyncio.gather(clock(), *(caller() for _ in range(SESSIONS)))
        return cost


def interval(ratios: list[float]) -> tuple[float, float]:
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return medians[250], medians[9_750]


def main() -> None:
    parser = argparse.ArgumentParser(prog="pair.sh")
    parser.add_argument("gates", nargs="+")
    parser.add_argument("--callers", type=lambda text: text.split(","))
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--secs", type=float, default=2)
    options = parser.parse_args()
    of_gates = 1 if options.callers else 2
    gates, workloads = options.gates[:of_gates], options.gates[of_gates:]
    if len(gates) < of_gates:
        parser.error("two gates, or one and --callers")
    for kind in options.callers or []:
        if kind not in (*GIVEN, "rules", "kept"):
            parser.error(f"no kind of caller {kind}; there are {', '.join(GIVEN)}, rules, kept")
    workloads = workloads or (["rpc", "call"] if options.callers else [name for name in WORKLOADS if name != "idle"])
    for name in workloads:
        if name not in WORKLOADS:
            parser.error(f"no workload {name}; there are {', '.join(WORKLOADS)}")
    modes = [False] if options.plain else [True] if options.tls else [False, True]
    os.sched_setaffinity(0, {int(LOAD_CPU)})

    with tempfile.TemporaryDirectory(prefix="sluicegate-pair-") as name:
        folder = Path(name)
        builds = []
        for number, build in enumerate(gates):
            # Copies: a build in the meantime must not change what is measured.
            copy = folder / f"gate-{number}"
            copy.write_bytes(Path(build).read_bytes())
            copy.chmod(0o700)
            builds.append(str(copy))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            + ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
            check=True,
            capture_output=True,
        )
        upstream = free_port()
        command = [str(RIG), "upstream", "--listen", f"127.0.0.1:{upstream}"]
        if options.callers:
            matches = [((builds[0], "static"), (builds[0], kind), f", {kind} / static") for kind in options.callers]
        else:
            matches = [((builds[0], None), (builds[1], None), "")]
        print("| workload | old | new | new / old | 95 % |\n|---|---|---|---|---|")
        with Running(LOAD_CPU, upstream, command, folder / "upstream.log"):
            bench = Bench(folder, upstream, options.secs)
            for workload in workloads:
                for tls in modes if workload != "bridge" else [False]:
                    for old_side, new_side, title in matches:
                        name = f"{workload}{', TLS' if tls else ''}{title}"
                        compare(bench, (old_side, new_side), workload, tls, options.pairs, name)


def compare(bench: Bench, sides: tuple, workload: str, tls: bool, count: int, title: str) -> None:
    """Measures both sides so many times in turns, and prints the line of the table."""
    def told(number: int, costs: tuple[float, float]) -> None:
        print(f"  {title} {number + 1}/{count} {costs[1] / costs[0]:.3f}", file=sys.stderr)

    if sides[0][1] == "static" and sides[1][1] in GIVEN:
        pairs = bench.in_turns(sides[1], workload, tls, count, told)
    else:
        pairs = []
        for number in range(count):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            costs = {side: bench.measure(sides[side], workload, tls) for side in order}
            pairs.append((costs[0], costs[1]))
            told(number, pairs[-1])
    old, new = (statistics.median(costs) for costs in zip(*pairs))
    ratios = [new / old for old, new in pairs]
    low, high = interval(ratios)
    print(f"| {title} | {old:.3g} | {new:.3g} | {statistics.median(ratios):.3f} | {low:.3f}–{high:.3f} |", flush=True)


main()
