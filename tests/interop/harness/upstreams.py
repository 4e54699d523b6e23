"""The MCP servers behind the gateway: the fixture on the Python SDK, `server-everything` on the TypeScript SDK."""

import asyncio
from pathlib import Path
from typing import Any

from .children import CACHE, FOLDING, NODE, PYTHON, Children, accepts, free_port, until

EVERYTHING = str(CACHE / "node_modules/@modelcontextprotocol/server-everything/dist/index.js")
HERE = str(Path(__file__).parent.parent)


def local_fixture() -> dict[str, Any]:
    """The fixture as a command of the gateway's."""
    env = {"PYTHONPATH": HERE, "PYTHONDONTWRITEBYTECODE": "1"}
    return {"command": PYTHON, "args": ["-m", "fixture", "stdio"], "env": env}


def local_everything() -> dict[str, Any]:
    """`server-everything` as a command of the gateway's."""
    return {"command": NODE, "args": [EVERYTHING, "stdio"]}


def tiny(*options: str) -> dict[str, Any]:
    """The small server as a command of the gateway's; see its file for the options."""
    return {"command": PYTHON, "args": ["-S", "-E", f"{HERE}/fixture/tiny.py", *options]}


def node() -> dict[str, Any]:
    """The small server on the TypeScript SDK as a command of the gateway's."""
    return {"command": NODE, "args": [f"{HERE}/fixture/echo.mjs"], "cwd": str(CACHE)}


def folding() -> dict[str, Any]:
    """The Go server, which takes keys in any letter case, as a command of the gateway's."""
    return {"command": str(FOLDING)}


async def fixture(children: Children, name: str) -> str:
    """Starts a fixture and returns the base URL it prints, with `/mcp` and `/sse` below it."""
    await children.serve(name, [PYTHON, "-m", "fixture", "http"])

    base = ""

    async def announced() -> bool:
        nonlocal base
        lines = children.log(name).read_text().splitlines(keepends=True)
        base = next((line.strip() for line in lines if line.startswith("http://") and line.endswith("\n")), "")
        return bool(base)

    await until(name, announced)
    return base


async def everything(children: Children, mode: str) -> str:
    """Starts `server-everything` in `mode` (`sse` or `streamableHttp`) and returns its base URL."""
    port = free_port()
    await children.serve(f"everything-{mode}", [NODE, EVERYTHING, mode], {"PORT": str(port)})

    await until(f"server-everything {mode}", lambda: accepts(port))
    return f"http://127.0.0.1:{port}"
