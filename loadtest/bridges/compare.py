"""Measures the contenders; `bridges.sh` prepares them and starts this."""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import processes
from harness.wire import Connection, Session

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target"
NODE = TARGET / "bridges/node_modules/.bin/node"
SUPERGATEWAY = TARGET / "bridges/node_modules/supergateway/dist/index.js"
MCP_PROXY = TARGET / "bridges/venv/bin/mcp-proxy"
RIG = TARGET / "rig/release/rig"

PROXY_CPU = os.environ.get("PROXY_CPU", "1")
LOAD_CPU = os.environ.get("LOAD_CPU", "0")
TOKEN = "load-test-token-0123456789abcdef0123456789"

# What is behind every contender; it runs beside the load, so that the bridge has its core to itself.
SERVER = ["taskset", "-c", LOAD_CPU, str(RIG), "stdio"]
TEXT = "q" * 200

READY_SECONDS = 30
WARM_SECONDS = 1.0
# After it nothing that opening sessions began still goes on.
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Figures:
    """Of one measurement; CPU in µs per call, latency in µs."""

    bridge: float
    all: float
    calls: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Contender:
    """`command` is made from a port and a folder; `path` is where it serves."""

    command: Callable[[int, Path], list[str]]
    path: str


def gate_command(binary: str) -> Callable[[int, Path], list[str]]:
    def command(port: int, folder: Path) -> list[str]:
        text = (HERE / "gate.json").read_text()
        for name, value in {
            "PORT": str(port),
            "TOKEN": TOKEN,
            "COMMAND": SERVER[0],
            "ARGS": json.dumps(SERVER[1:]),
        }.items():
            text = text.replace(f"@{name}@", value)
        config = folder / f"gate-{port}.json"
        config.touch(mode=0o600)
        config.write_text(text)
        return [binary, "serve", "-c", str(config)]

    return command


def contenders(gate: str) -> dict[str, Contender]:
    command = " ".join(SERVER)
    return {
        "gate": Contender(gate_command(gate), "/echo/mcp"),
        "supergateway": Contender(
            lambda port, _: [
                *(str(NODE), str(SUPERGATEWAY), "--stdio", command, "--outputTransport", "streamableHttp"),
                *("--stateful", "--port", str(port), "--logLevel", "none"),
            ],
            "/mcp",
        ),
        "mcp-proxy": Contender(
            lambda port, _: [str(MCP_PROXY), "--port", str(port), "--log-level", "ERROR", "--", *SERVER], "/mcp"
        ),
    }


class Running:
    """A contender on a core of its own, for as long as the `with` block lasts."""

    def __init__(self, contender: Contender, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}{contender.path}"
        self._command = ["taskset", "-c", PROXY_CPU, *contender.command(self._port, folder)]
        self._log = folder / f"{self._port}.log"

    def __enter__(self) -> "Running":
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")
        self.pid = self._process.pid
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
                return self
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(f"not ready: {self._command}: {self._log.read_text()[-2000:]}") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        below = processes.Identities(processes.descendants(self.pid))
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # A bridge that leaves its children behind must not disturb what is measured next.
        for pid in below.alive():
            os.kill(pid, signal.SIGKILL)

    def cpu(self) -> tuple[float, float]:
        """Seconds of the bridge alone, and with all that it started."""
        bridge = processes.cpu_seconds(self.pid)
        return bridge, bridge + sum(processes.cpu_seconds(pid) for pid in processes.descendants(self.pid))


async def calls(url: str, sessions: int, seconds: float, running: Running) -> Figures:
    latencies: list[float] = []
    stop = asyncio.Event()

    async def caller() -> None:
        async with Connection(url, TOKEN) as connection:
            session, number = await Session.open(connection), 0
            while not stop.is_set():
                number += 1
                began = time.perf_counter()
                answer = await session.call(number, "echo", {"text": TEXT})
                latencies.append(time.perf_counter() - began)
                if answer.response(number)["result"]["content"][0]["text"] != TEXT:
                    raise ValueError(f"a wrong answer: {answer}")
            await session.close()

    async def clock() -> tuple[tuple[float, float], tuple[float, float], list[float], float]:
        await asyncio.sleep(WARM_SECONDS)
        latencies.clear()
        began, before = time.perf_counter(), running.cpu()
        await asyncio.sleep(seconds)
        after, taken, elapsed = running.cpu(), list(latencies), time.perf_counter() - began
        stop.set()
        return before, after, taken, elapsed

    (before, after, taken, elapsed), *_ = await asyncio.gather(clock(), *(caller() for _ in range(sessions)))
    percent = statistics.quantiles(taken, n=100)
    return Figures(
        bridge=(after[0] - before[0]) / len(taken) * 1e6,
        all=(after[1] - before[1]) / len(taken) * 1e6,
        calls=len(taken) / elapsed,
        p50=percent[49] * 1e6,
        p99=percent[98] * 1e6,
    )


async def idle(url: str, sessions: int, running: Running) -> float:
    """Bytes that the bridge grows by for a session that nothing happens on, its connection closed."""
    # What the first session makes once is not a session's.
    async with Connection(url, TOKEN) as connection:
        await Session.open(connection)
    await asyncio.sleep(SETTLE_SECONDS)
    before = processes.resident_bytes(running.pid)
    for _ in range(sessions):
        async with Connection(url, TOKEN) as connection:
            await Session.open(connection)
    await asyncio.sleep(SETTLE_SECONDS)
    return (processes.resident_bytes(running.pid) - before) / sessions


def median(figures: list[Figures], name: str) -> float:
    return statistics.median(getattr(one, name) for one in figures)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bridges.sh")
    parser.add_argument("--gate", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=3)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--idle", type=int, default=200)
    parser.add_argument("--only", default="gate,supergateway,mcp-proxy")
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CPU)})

    chosen = {name: one for name, one in contenders(options.gate).items() if name in options.only.split(",")}
    figures: dict[str, list[Figures]] = {name: [] for name in chosen}
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="sluicegate-bridges-") as folder:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for name in (*chosen, *reversed(chosen)):
                with Running(chosen[name], Path(folder)) as running:
                    figures[name].append(asyncio.run(calls(running.url, options.sessions, options.secs, running)))
        for name, contender in chosen.items():
            with Running(contender, Path(folder)) as running:
                memory[name] = asyncio.run(idle(running.url, options.idle, running))

    print("| bridge | CPU µs per call | with the server's | gate ÷ this | calls per s | p50 / p99, µs | KiB per idle session |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in figures.items():
        alone = median(runs, "bridge")
        ratio = f"{median(figures['gate'], 'bridge') / alone:.2f}" if "gate" in figures else "–"
        cells = (f"{alone:.1f}", f"{median(runs, 'all'):.1f}", ratio, f"{median(runs, 'calls'):.0f}")
        times = f"{median(runs, 'p50'):.0f} / {median(runs, 'p99'):.0f}"
        print(f"| {name} | {' | '.join(cells)} | {times} | {memory[name] / 1024:.1f} |")


main()
