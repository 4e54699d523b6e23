"""Clients with the same request ids and progress tokens on one shared server: every answer at its caller."""

import asyncio
import time
from pathlib import Path

from . import upstreams
from .certificates import Certificates
from .children import Children
from .gate import TOKEN, start
from .report import Report
from .wire import Connection, echoed, modern_call

CLIENTS = 50
CALLS = 200

# Some answers wait, so that the server answers in another order than it was asked.
DELAYS = (0, 0, 0.002, 0, 0.01)


async def run(children: Children, folder: Path, report: Report, binary: str | None, _tls: Certificates) -> None:
    if binary is None:
        return
    # Node takes every number for a floating-point one, the ids and progress tokens of the gateway's included.
    servers = {"tiny": upstreams.tiny(), "node": upstreams.node()}
    gate = await start(children, folder, "gate-isolation", binary, servers)
    for server, url, tool in (
        ("tiny", gate.url("mcp", "tiny"), "echo"),
        ("node", gate.url("mcp", "node"), "echo"),
        ("all as one", gate.url("mcp"), "tiny__echo"),
    ):
        began = time.monotonic()
        answers = await asyncio.gather(*(client(number, url, tool) for number in range(CLIENTS)))
        seconds = time.monotonic() - began
        wrong = [problem for problems, _ in answers for problem in problems]
        processes = {pid for _, pids in answers for pid in pids}
        if not wrong and len(processes) != 1:
            wrong = [f"{len(processes)} processes answered"]
        calls = f"{CLIENTS * CALLS} calls of {CLIENTS} clients with equal ids to {tool} of {server}"
        name = f"isolation {calls} in {seconds:.1f} s"
        report.check(name, f"{len(wrong)} wrong, first: {wrong[0]}" if wrong else None)


async def client(number: int, url: str, tool: str) -> tuple[list[str], set[int]]:
    """What went wrong, and the processes that answered."""
    wrong, processes = [], set()
    async with Connection(url, TOKEN) as connection:
        for call in range(CALLS):
            nonce = f"client {number} call {call}"
            delay = DELAYS[(number + call) % len(DELAYS)]
            try:
                answer = await modern_call(connection, call, tool, {"nonce": nonce, "delay": delay})
                echo = echoed(answer.response(call))
            except (ValueError, KeyError) as error:
                wrong.append(f"{nonce}: {error!r}")
                continue
            processes.add(echo["pid"])
            progress = [(m["params"]["progressToken"], m["params"]["message"]) for m in answer.messages if "method" in m]
            if echo["nonce"] != nonce or progress != [(call, nonce)]:
                wrong.append(f"{nonce}: got {echo['nonce']!r} with progress {progress}")
    return wrong, processes
