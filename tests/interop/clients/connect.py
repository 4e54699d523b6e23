"""How the Python clients reach a server: over either transport, with the run's token and authority."""

import os
import ssl
from typing import Any

import httpx2
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
