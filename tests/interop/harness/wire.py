"""MCP over Streamable HTTP by hand, where an SDK's client would be too slow, or would hide what was answered."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MODERN = "2026-07-28"
LEGACY = "2025-11-25"


@dataclass(frozen=True)
class Answer:
    """`messages` are the JSON-RPC messages of the body, in order; a body of another kind has none."""

    status: int
    headers: Mapping[str, str]
    messages: list[dict[str, Any]]

    def response(self, request: int) -> dict[str, Any]:
        """The response to the request with this id; ValueError without one."""
        for message in self.messages:
            if message.get("id") == request and "method" not in message:
                return message
        raise ValueError(f"status {self.status}, no response to request {request} in {self.messages}")


class Connection:
    """One kept plain connection to an endpoint. OSError and asyncio.IncompleteReadError when it is lost."""

    def __init__(self, url: str, token: str) -> None:
        self._token = token
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> "Connection":
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    async def send(
        self, verb: str, headers: Mapping[str, str], message: dict[str, Any] | bytes | None = None
    ) -> Answer:
        """Sends a request, and gives its answer. A message that JSON has no other way to write comes as bytes."""
        assert self._reader and self._writer
        body = message if isinstance(message, bytes) else b"" if message is None else json.dumps(message).encode()
        fields = {
            "Host": f"{self._address[0]}:{self._address[1]}",
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }
        head = f"{verb} {self._target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._writer.write(head.encode() + b"\r\n" + body)
        return await self._answer()

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readuntil(b"\r\n")
        else:
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), headers, messages(headers.get("content-type", ""), body))


def messages(kind: str, body: bytes) -> list[dict[str, Any]]:
    # Some say what kind of body they have when they have none.
    if kind.startswith("application/json") and body:
        parsed = [json.loads(body)]
    elif kind.startswith("text/event-stream"):
        events = (line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:"))
        parsed = [json.loads(data) for data in events if data]
    else:
        parsed = []
    return [message for message in parsed if "jsonrpc" in message]


async def modern_call(connection: Connection, number: int, tool: str, arguments: dict[str, Any]) -> Answer:
    """Calls a tool in the modern era, with the request's id as its progress token."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": number,
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    return await connection.send("POST", headers, request(number, "tools/call", params))


class Session:
    """A legacy session on a connection of its own."""

    def __init__(self, connection: Connection, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.fields = headers

    @classmethod
    async def open(cls, connection: Connection) -> "Session":
        hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "interop", "version": "1"}}
        answer = await connection.send("POST", {}, request(0, "initialize", hello))
        if "result" not in answer.response(0):
            raise ValueError(f"status {answer.status}, {answer.messages}")
        session = cls(
            connection, {"MCP-Protocol-Version": LEGACY, "Mcp-Session-Id": answer.headers["mcp-session-id"]}
        )
        await connection.send("POST", session.fields, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        return session

    async def call(self, number: int, tool: str, arguments: dict[str, Any]) -> Answer:
        params = {"name": tool, "arguments": arguments}
        return await self._connection.send("POST", self.fields, request(number, "tools/call", params))

    async def close(self) -> Answer:
        return await self._connection.send("DELETE", self.fields)


def request(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def echoed(response: Mapping[str, Any]) -> dict[str, Any]:
    """What the small server's `echo` returned: `nonce`, `pid` and `family`."""
    return json.loads(response["result"]["content"][0]["text"])
