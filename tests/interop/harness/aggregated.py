"""All servers as one: a local command and a remote server, and one that is down, at the gateway's own `/mcp` and `/sse`."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import httpx2

from . import upstreams
from .certificates import Certificates
from .children import Children, free_port
from .conversations import SPEAKERS, Speakers, Step, call, compare, logged
from .gate import TOKEN, Gate, start
from .report import Report

STEPS: list[Step] = [
    ["list"],
    ["level", "debug"],
    call("everything__echo", message="one"),
    call("fixture__echo", message="two"),
    call("everything__trigger-long-running-operation", duration=0.3, steps=3),
    call("fixture__test_tool_with_progress"),
    call("everything__trigger-sampling-request", prompt="from the one", maxTokens=10),
    call("fixture__test_sampling", prompt="from the other"),
    call("fixture__test_elicitation", message="a form"),
    call("fixture__test_tool_with_logging"),
    ["wait", "logs"],
    ["prompt", "fixture__test_simple_prompt", {}],
    ["read", "test://static-text"],
]

EXPECTED: dict[str, Any] = {
    "tools": {"everything__echo", "everything__get-sum", "fixture__echo", "fixture__touch"},
    "prompts": {"everything__simple-prompt", "fixture__test_simple_prompt"},
    "resources": {"test://static-text"},
    "logs": {"Tool execution started", "Tool processing data", "Tool execution completed"},
    "sampled": ["Resource trigger-sampling-request context: from the one", "from the other"],
    "elicited": ["a form"],
}

# Two of the same, of another era.
MODERN_STEPS: list[Step] = [
    ["list"],
    ["listen"],
    call("local__test_tool_with_progress"),
    call("remote__test_tool_with_progress"),
    logged("local__test_logging_tool"),
    call("remote__test_input_required_result_sampling"),
    call("local__test_input_required_result_elicitation"),
    call("remote__test_trigger_tool_change"),
    ["wait", "changed"],
    ["prompt", "local__test_simple_prompt", {}],
]

MODERN_EXPECTED: dict[str, Any] = {
    "version": "2026-07-28",
    "tools": {"local__echo", "remote__echo"},
    "prompts": {"local__test_simple_prompt", "remote__test_simple_prompt"},
    "texts": [
        *("Tool with progress done", "Tool with progress done", "Logged", "sampled by the client", "Hello, Ada!", "Told"),
        "This is a simple prompt for testing.",
    ],
    "logs": ["A line for those who opted in"],
    "sampled": ["What is the capital of France?"],
    "elicited": ["What is your name?"],
    "changed": {"tools"},
}

# The query of a listing, and the servers that it has to show.
SELECTIONS = {
    "": {"everything", "fixture"},
    "?servers=fixture": {"fixture"},
    "?servers=fixture,everything": {"everything", "fixture"},
    "?servers=down": set(),
    "?tags=local": {"everything"},
    "?tags=local,remote": {"everything", "fixture"},
    "?tags=test,remote&match=all": {"fixture"},
    "?tags=local,remote&match=all": set(),
}

DISCOVERY_SECONDS = 3


async def run(children: Children, folder: Path, report: Report, binary: str | None, tls: Certificates) -> None:
    if binary is None:
        return
    remote = {"url": await upstreams.fixture(children, "fixture-aggregated") + "/mcp"}
    servers = {
        "everything": {**upstreams.local_everything(), "tags": ["local", "test"]},
        "fixture": {**remote, "tags": ["remote", "test"]},
        "down": {"url": f"http://127.0.0.1:{free_port()}/mcp", "tags": ["test"]},
    }
    proxy = {"aggregate": {"discoveryTimeout": f"{DISCOVERY_SECONDS}s"}}
    gate = await start(children, folder, "gate-aggregated", binary, servers, tls, proxy)
    twins = {"local": upstreams.local_fixture(), "remote": remote}
    modern = await start(children, folder, "gate-aggregated-modern", binary, twins, tls)
    speakers = Speakers(children, gate.env)

    async def converses(client: str, door: str) -> None:
        kind = "sse" if door == "sse" else "http"
        seen = await speakers.converse(client, gate.url(door), kind, "legacy", STEPS)
        report.check(f"aggregated {client} at /{door}", compare(seen, EXPECTED) or unequal(seen))

    async def converses_modern(client: str) -> None:
        seen = await speakers.converse(client, modern.url("mcp"), "http", "modern", MODERN_STEPS)
        problem = compare(seen, MODERN_EXPECTED)
        if problem is None and isinstance(seen, dict) and seen["progress"][:2] != [[0, 50, 100]] * 2:
            problem = f"progress: {seen['progress'][:2]}"
        report.check(f"aggregated {client} modern at /mcp", problem)

    async def selects(client: str, door: str, query: str, expected: set[str]) -> None:
        kind = "sse" if door == "sse" else "http"
        seen = await speakers.converse(client, gate.url(door) + query, kind, "legacy", [["list"]])
        problem = seen if isinstance(seen, str) else None
        if isinstance(seen, dict) and (found := {tool.split("__")[0] for tool in seen["tools"]}) != expected:
            problem = f"tools of {sorted(found)}, expected {sorted(expected)}"
        report.check(f"aggregated {client} at /{door}{query}", problem)

    await asyncio.gather(
        *(converses(client, door) for client in SPEAKERS for door in ("mcp", "sse")),
        *(converses_modern(client) for client, (_, eras) in SPEAKERS.items() if "modern" in eras),
        *(
            selects("mcp for Python", door, query, expected)
            for query, expected in SELECTIONS.items()
            for door in ("mcp", "sse")
        ),
    )
    await report_two_selectors(report, gate, tls)


def unequal(seen: dict[str, Any] | str) -> str | None:
    """What else is wrong in a conversation that got to its end."""
    if isinstance(seen, str):
        return seen
    texts, progress = seen["texts"], seen["progress"]
    if texts[:2] != ["Echo: one", "Echo: two"]:
        return f"the echoes were {texts[:2]}"
    # The TypeScript SDK loses the last one if the result is in the same read.
    if progress[2][:2] != [1, 2] or progress[3] != [0, 50, 100]:
        return f"progress: {progress[2]} and {progress[3]}"
    answers = ("sampled by the client", "LLM response: sampled by the client", "Elicitation completed: action=accept")
    for answer, text in zip(answers, texts[4:7], strict=True):
        if answer not in text:
            return f"no {answer!r} in {text!r}"
    if any(tool.startswith("down__") for tool in seen["tools"]):
        return "the listing has tools of a server that is down"
    return None


async def report_two_selectors(report: Report, gate: Gate, tls: Certificates) -> None:
    """Two kinds of selector are refused, whatever the door."""
    verify = ssl.create_default_context(cafile=str(tls.authority))
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "interop", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    async with httpx2.AsyncClient(verify=verify, headers=headers, timeout=10) as client:
        query = "?servers=fixture&tags=test"
        for door, answer in {
            "mcp": await client.post(gate.url("mcp") + query, content=body),
            "sse": await client.get(gate.url("sse") + query, headers={"Accept": "text/event-stream"}),
        }.items():
            problem = None if answer.status_code == 400 else f"status {answer.status_code}"
            report.check(f"aggregated /{door}{query}: 400", problem)
