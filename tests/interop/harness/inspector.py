"""The MCP Inspector's command line: lists and calls with the token, and is turned away without it."""

import asyncio
import json
import os
from pathlib import Path

from . import servers
from .certificates import Certificates
from .children import CACHE, NODE, Children, Ended
from .gate import TOKEN
from .report import Report

INSPECTOR = str(CACHE / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js")
INSPECTOR_SECONDS = 30
EXIT_UNAUTHORIZED = 3

LIST = ("--method", "tools/list")
CALL = ("--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=over the wire")


async def run(children: Children, folder: Path, report: Report, binary: str | None, tls: Certificates) -> None:
    entry = await servers.start(children, folder, "inspector", binary, tls)
    slots = asyncio.Semaphore(os.cpu_count() or 2)
    # It keeps a catalogue of servers in its user's home.
    env = {**entry.env, "HOME": str(folder)}

    async def inspect(server: str, transport: str, era: str, method: tuple[str, ...], token: str | None) -> Ended:
        url = entry.urls[f"{server}-{transport}"]
        command = [NODE, INSPECTOR, "--cli", "--server-url", url, "--transport", transport, "--protocol-era", era]
        header = ["--header", f"Authorization: Bearer {token}"] if token else []
        async with slots:
            return await children.run(
                [*command, *header, *method, "--format", "json", "-q"], env, INSPECTOR_SECONDS
            )

    async def lists(server: str, transport: str, era: str) -> None:
        ended = await inspect(server, transport, era, LIST, TOKEN)
        problem = None if ended.code == 0 else ended.why()
        if problem is None and "echo" not in (tool["name"] for tool in json.loads(ended.stdout)["result"]["tools"]):
            problem = "the listing has no `echo`"
        report.check(f"inspector tools/list {era} over {transport} to {server}", problem)

    async def calls(server: str, transport: str, era: str) -> None:
        ended = await inspect(server, transport, era, CALL, TOKEN)
        problem = None if ended.code == 0 else ended.why()
        if problem is None and json.loads(ended.stdout)["result"]["content"][0]["text"] != "Echo: over the wire":
            problem = f"the call returned {ended.stdout}"
        report.check(f"inspector tools/call {era} over {transport} to {server}", problem)

    async def refused(transport: str, era: str) -> None:
        ended = await inspect("python", transport, era, LIST, None)
        problem = None if ended.code == EXIT_UNAUTHORIZED else ended.why()
        report.check(f"inspector without a token {era} over {transport}: exit code {EXIT_UNAUTHORIZED}", problem)

    checks = [
        check(server, transport, era)
        for server, era in servers.EXPECTED
        for transport in ("http", "sse")
        for check in (lists, calls)
    ]
    if entry.gated:
        checks += [refused(transport, era) for transport in ("http", "sse") for era in ("legacy", "auto", "modern")]
    await asyncio.gather(*checks)
