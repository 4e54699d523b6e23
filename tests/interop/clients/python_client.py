"""python python_client.py URL http|sse legacy|auto|modern

Lists the tools, calls `echo`, and prints what it saw as one JSON object.
"""

import asyncio
import json
import os
import ssl
import sys
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

TOKEN = os.environ.get("INTEROP_TOKEN")
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}


def http_client(
    headers: dict[str, str] | None = None, timeout: httpx2.Timeout | None = None, auth: httpx2.Auth | None = None
) -> httpx2.AsyncClient:
    """A client that trusts the run's own authority; streams may be silent for a while."""
    verify = ssl.create_default_context(cafile=os.environ.get("INTEROP_CA"))
    return httpx2.AsyncClient(verify=verify, headers=headers, timeout=timeout or httpx2.Timeout(10, read=60), auth=auth)


def transport(url: str, kind: str) -> Any:
    if kind == "sse":
        return sse_client(url, headers=HEADERS, httpx_client_factory=http_client)
    return streamable_http_client(url, http_client=http_client(HEADERS))


async def main(url: str, kind: str, era: str) -> None:
    mode = "2026-07-28" if era == "modern" else era
    async with Client(transport(url, kind), mode=mode) as client:
        tools = (await client.list_tools()).tools
        result = await client.call_tool("echo", {"message": "over the wire"})
        seen = {
            "tools": [tool.name for tool in tools],
            "text": getattr(result.content[0], "text", None),
            "version": client.protocol_version,
        }
        print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
