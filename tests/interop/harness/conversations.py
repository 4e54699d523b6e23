"""What the SDKs' clients do to find out whether nothing of a server is lost on the way, and whether it was."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .children import NODE, PYTHON, Children

CLIENTS = Path(__file__).parent.parent / "clients"
CLIENT_SECONDS = 40

# Each client with the eras it speaks.
SPEAKERS = {
    "@modelcontextprotocol/sdk": ([NODE, str(CLIENTS / "conversation.mjs"), "sdk"], ("legacy",)),
    "@modelcontextprotocol/client": ([NODE, str(CLIENTS / "conversation.mjs"), "client"], ("legacy", "modern")),
    "mcp for Python": ([PYTHON, str(CLIENTS / "conversation.py")], ("legacy", "modern")),
}

Step = list[Any]


def call(tool: str, **arguments: Any) -> Step:
    return ["call", tool, arguments]


def logged(tool: str) -> Step:
    """A call that asks for log lines, as those of the modern era have to."""
    return ["logged", tool, {}]


class Speakers:
    """Runs conversations, no more at a time than there are cores."""

    def __init__(self, children: Children, env: Mapping[str, str]) -> None:
        self._children = children
        self._env = env
        self._slots = asyncio.Semaphore(os.cpu_count() or 2)

    async def converse(self, client: str, url: str, kind: str, era: str, steps: Sequence[Step]) -> dict[str, Any] | str:
        """What the client saw, or why it did not get to the end."""
        command = [*SPEAKERS[client][0], url, kind, era, json.dumps(steps)]
        async with self._slots:
            ended = await self._children.run(command, self._env, CLIENT_SECONDS)
        return json.loads(ended.stdout) if ended.code == 0 else ended.why()


def compare(seen: dict[str, Any] | str, expected: Mapping[str, Any]) -> str | None:
    """Why what was seen is not as expected. A set has to be contained, anything else to be equal."""
    if isinstance(seen, str):
        return seen
    for key, wanted in expected.items():
        found = seen[key]
        if isinstance(wanted, set):
            if missing := wanted - set(found):
                return f"{key}: {sorted(missing)} missing in {found}"
        elif found != wanted:
            return f"{key}: {found}, expected {wanted}"
    return None
