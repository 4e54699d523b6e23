"""Clients of one transport, servers of another: everything that a session can carry arrives."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import upstreams
from .certificates import Certificates
from .children import Children
from .conversations import SPEAKERS, Speakers, Step, call, compare, logged
from .gate import start
from .report import Report

WATCHED = "test://watched-resource"

STEPS: dict[str, list[Step]] = {
    "legacy": [
        ["list"],
        ["level", "debug"],
        call("test_tool_with_progress"),
        call("test_tool_with_logging"),
        ["wait", "logs"],
        call("test_sampling", prompt="a question"),
        call("test_elicitation", message="a form"),
        ["subscribe", WATCHED],
        call("touch", uri=WATCHED),
        ["wait", "updated"],
        ["read", "test://static-text"],
        ["prompt", "test_simple_prompt", {}],
    ],
    "modern": [
        ["list"],
        ["listen"],
        call("test_tool_with_progress"),
        logged("test_logging_tool"),
        call("test_input_required_result_sampling"),
        call("test_input_required_result_elicitation"),
        call("test_trigger_tool_change"),
        ["wait", "changed"],
        ["read", "test://static-text"],
        ["prompt", "test_simple_prompt", {}],
    ],
}

READ = ["This is the content of the static text resource.", "This is a simple prompt for testing."]
FILLED = "{'username': 'ada', 'email': 'ada@example.com', 'name': 'Ada'}"

EXPECTED: dict[str, dict[str, Any]] = {
    "legacy": {
        "tools": {"echo", "touch"},
        "prompts": {"test_simple_prompt"},
        "resources": {WATCHED},
        "texts": [
            "Tool with progress done",
            "Tool with logging done",
            "LLM response: sampled by the client",
            f"Elicitation completed: action=accept, content={FILLED}",
            "Touched",
            *READ,
        ],
        "logs": ["Tool execution started", "Tool processing data", "Tool execution completed"],
        "sampled": ["a question"],
        "elicited": ["a form"],
        "updated": [WATCHED],
    },
    "modern": {
        "version": "2026-07-28",
        "tools": {"echo", "touch"},
        "prompts": {"test_simple_prompt"},
        "resources": {WATCHED},
        "texts": ["Tool with progress done", "Logged", "sampled by the client", "Hello, Ada!", "Told", *READ],
        "logs": ["A line for those who opted in"],
        "sampled": ["What is the capital of France?"],
        "elicited": ["What is your name?"],
        "changed": ["tools"],
    },
}

# A client that knows both eras asks which one it is, and a server of the older one has to look like that.
FALLBACK_STEPS = [call("echo", message="hello")]
FALLBACK = {"version": "2025-11-25", "texts": ["Echo: hello"]}

# Server and door of other transports.
CROSSINGS = (("on-stdio", "mcp"), ("on-stdio", "sse"), ("on-streamable-http", "sse"), ("on-sse", "mcp"))


async def run(children: Children, folder: Path, report: Report, binary: str | None, tls: Certificates) -> None:
    # Without a gateway the same conversations are held with the fixture itself, over its own two transports.
    base = await upstreams.fixture(children, "fixture-bridged")
    addresses = {("direct", "mcp"): f"{base}/mcp", ("direct", "sse"): f"{base}/sse"}
    env: Mapping[str, str] = {}
    gate = None
    if binary:
        servers = {
            "on-stdio": upstreams.local_fixture(),
            "on-streamable-http": {"url": f"{base}/mcp"},
            "on-sse": {"url": f"{base}/sse"},
            "older": upstreams.local_everything(),
        }
        gate = await start(children, folder, "gate-bridged", binary, servers, tls)
        addresses = {(server, door): gate.url(door, server) for server, door in CROSSINGS}
        env = gate.env
    speakers = Speakers(children, env)

    async def check(client: str, era: str, server: str, door: str, url: str) -> None:
        seen = await speakers.converse(client, url, "sse" if door == "sse" else "http", era, STEPS[era])
        problem = compare(seen, EXPECTED[era])
        if problem is None and isinstance(seen, dict) and seen["progress"][0] != [0, 50, 100]:
            problem = f"progress: {seen['progress'][0]}"
        report.check(f"bridged {client} {era} at /{door}, server {server}", problem)

    async def falls_back(client: str, door: str, url: str) -> None:
        seen = await speakers.converse(client, url, "sse" if door == "sse" else "http", "auto", FALLBACK_STEPS)
        report.check(f"bridged {client} auto at /{door}, server of the older era on stdio", compare(seen, FALLBACK))

    await asyncio.gather(
        *(
            falls_back(client, door, gate.url(door, "older"))
            for client, (_, eras) in SPEAKERS.items()
            for door in ("mcp", "sse")
            if gate and "modern" in eras
        ),
        *(
            check(client, era, server, door, url)
            for (server, door), url in addresses.items()
            for client, (_, eras) in SPEAKERS.items()
            for era in eras
        ),
    )
