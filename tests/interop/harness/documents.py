"""A network of its own, in which hosts have public addresses and yet nothing leaves the machine; and a host of documents in it.

The gateway fetches the document of a client from addresses of the public Internet only. Here the loopback interface has one,
and `/etc/hosts` its name, for this process and what it starts.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .certificates import DOCUMENTS_HOST, Certificates

# Any address that is global would do.
ADDRESS = "93.184.216.34"

ENTER = (
    *("unshare", "--map-root-user", "--net", "--mount", "sh", "-ceu"),
    'ip link set lo up; ip address add "$1/32" dev lo; mount --bind "$2" /etc/hosts; shift 2; exec "$@"',
    "sh",
)


def inside(folder: Path) -> list[str]:
    """What runs a command in such a network."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{ADDRESS} {DOCUMENTS_HOST}\n")
    return [*ENTER, ADDRESS, str(hosts)]


def url(path: str) -> str:
    return f"https://{DOCUMENTS_HOST}{path}"


@asynccontextmanager
async def served(tls: Certificates, documents: Mapping[str, Any]) -> AsyncIterator[list[str]]:
    """Serves documents by their paths; gives the paths that are asked for."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        asked.append(path)
        body = json.dumps({"client_id": url(path), **documents[path]}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    async with await asyncio.start_server(answer, ADDRESS, 443, ssl=context):
        yield asked
