"""python login.py ERA DOCUMENT URL...

Logs in at each URL, lists the tools, calls `echo` (for which its user may have to be asked once more), refreshes its tokens and
calls again; prints what it saw as one JSON list. DOCUMENT is the URL of the document that says what this client is; if it is empty, the client registers.
"""

import asyncio
import json
import os
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from connect import http_client
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken


class Storage:
    """What the client has of one place. Who it is, it is everywhere."""

    information: OAuthClientInformationFull | None = None

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return Storage.information

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        Storage.information = client_info


class Browser:
    """Opens pages, and hears what the last of them leads to."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[AuthorizationCodeResult] = asyncio.Queue()

    async def heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        query = parse_qs(urlsplit(head.split()[1].decode()).query)
        said = {name: query.get(name, [None])[0] for name in ("code", "state", "iss")}
        await self._answers.put(AuthorizationCodeResult(**said))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nDone.")
        await writer.drain()
        writer.close()

    async def open(self, url: str) -> None:
        child = await asyncio.create_subprocess_exec(*os.environ["BROWSER"].split(), url)
        if await child.wait() != 0:
            raise RuntimeError("nobody was let in")

    async def answer(self) -> AuthorizationCodeResult:
        return await self._answers.get()


async def visit(url: str, era: str, document: str, redirect: str, browser: Browser) -> dict[str, Any]:
    storage = Storage()
    metadata = OAuthClientMetadata(
        client_name="interop python", redirect_uris=[redirect], token_endpoint_auth_method="none"
    )
    provider = OAuthClientProvider(
        url, metadata, storage, browser.open, browser.answer, client_metadata_url=document or None
    )
    if urlsplit(url).path.endswith("/sse"):
        transport: Any = sse_client(url, auth=provider, httpx_client_factory=http_client)
    else:
        transport = streamable_http_client(url, http_client=http_client(auth=provider))
    seen, tokens = [], []
    async with Client(transport, mode=era) as client:
        # Once with what it has by its code, and once with what it has by its refresh token.
        for _ in ("code", "refresh"):
            name = next(tool.name for tool in (await client.list_tools()).tools if tool.name.endswith("echo"))
            result = await client.call_tool(name, {"message": "over the wire"})
            seen.append({"tool": name, "text": getattr(result.content[0], "text", None)})
            assert storage.tokens
            tokens.append(storage.tokens.access_token)
            # It takes its token for one that has ended.
            provider.context.token_expiry_time = 1
    assert Storage.information and storage.tokens
    visit = {"url": url, "seen": seen, "refreshed": tokens[0] != tokens[1], "scope": storage.tokens.scope}
    return visit | {"client": Storage.information.client_id}


async def main(era: str, document: str, *urls: str) -> None:
    browser = Browser()
    listener = await asyncio.start_server(browser.heard, "127.0.0.1", 0)
    redirect = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/callback"
    print(json.dumps([await visit(url, era, document, redirect, browser) for url in urls]))
    listener.close()


asyncio.run(main(*sys.argv[1:]))
