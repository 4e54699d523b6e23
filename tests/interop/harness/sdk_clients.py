"""The official SDKs' clients: list and call tools over both transports and in both protocol eras."""

import asyncio
import json
import os
from pathlib import Path

from . import servers
from .certificates import Certificates
from .children import NODE, PYTHON, Children, Ended
from .report import Report

CLIENTS = Path(__file__).parent.parent / "clients"
CLIENT_SECONDS = 30

# Each client with the eras it can be asked for.
COMMANDS = {
    "@modelcontextprotocol/sdk": ([NODE, str(CLIENTS / "typescript.mjs"), "sdk"], {"legacy"}),
    "@modelcontextprotocol/client": ([NODE, str(CLIENTS / "typescript.mjs"), "client"], {"legacy", "auto", "modern"}),
    "mcp for Python": ([PYTHON, str(CLIENTS / "python_client.py")], {"legacy", "auto", "modern"}),
}


async def run(children: Children, folder: Path, report: Report, binary: str | None, tls: Certificates) -> None:
    entry = await servers.start(children, folder, "sdk", binary, tls)
    slots = asyncio.Semaphore(os.cpu_count() or 2)

    async def check(client: str, server: str, transport: str, era: str, version: str) -> None:
        command, _ = COMMANDS[client]
        url = entry.urls[f"{server}-{transport}"]
        async with slots:
            ended = await children.run([*command, url, transport, era], entry.env, CLIENT_SECONDS)
        report.check(f"sdk {client} {era} over {transport} to {server}", problem(ended, version))

    await asyncio.gather(
        *(
            check(client, server, transport, era, version)
            for client, (_, eras) in COMMANDS.items()
            for (server, era), version in servers.EXPECTED.items()
            if era in eras
            for transport in ("http", "sse")
        )
    )


def problem(ended: Ended, version: str) -> str | None:
    if ended.code != 0:
        return ended.why()
    seen = json.loads(ended.stdout)
    if "echo" not in seen["tools"]:
        return f"the listing has no `echo`: {seen['tools']}"
    if seen["text"] != "Echo: over the wire":
        return f"the call returned {seen['text']!r}"
    if seen["version"] not in (version, None):
        return f"negotiated {seen['version']}, expected {version}"
    return None
