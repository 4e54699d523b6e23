"""python python_client.py URL http|sse legacy|auto|modern

Lists the tools, calls `echo`, and prints what it saw as one JSON object.
"""

import asyncio
import json
import sys

from connect import transport
from mcp.client import Client


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
