"""Where clients connect: through a gateway started for the purpose, or straight to the servers."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from .certificates import Certificates
from .children import Children, free_port, until

TOKEN = "interop-0f6c1d2e9b7a4853a1e4c5d6b7f80912"


@dataclass(frozen=True)
class Entry:
    """How clients reach the servers: a URL per server name, and the environment that lets them in."""

    urls: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False


@dataclass(frozen=True)
class Gate:
    """A gateway that is ready."""

    base: str
    env: Mapping[str, str]
    pid: int
    log: Path

    def url(self, door: str, server: str | None = None) -> str:
        """The address of `door` (`mcp` or `sse`) to one server, or to all as one."""
        return "/".join(part for part in (self.base, server, door) if part)


def direct(upstreams: Mapping[str, str]) -> Entry:
    return Entry(urls=upstreams)


async def through_gate(
    children: Children,
    folder: Path,
    name: str,
    binary: str,
    upstreams: Mapping[str, str],
    certificates: Certificates | None,
) -> Entry:
    """Starts a gateway in front of `upstreams` (server name to full URL); clients use the transport of the upstream."""
    servers = {server: {"url": url} for server, url in upstreams.items()}
    gate = await start(children, folder, name, binary, servers, certificates)
    # The last part of an upstream's URL says which transport it speaks; the gateway's path ends the same way.
    urls = {server: gate.url(url.rsplit("/", 1)[1], server) for server, url in upstreams.items()}
    return Entry(urls=urls, env=gate.env, gated=True)


async def start(
    children: Children,
    folder: Path,
    name: str,
    binary: str,
    servers: Mapping[str, Mapping[str, Any]],
    certificates: Certificates | None = None,
    proxy: Mapping[str, Any] | None = None,
) -> Gate:
    """Starts a gateway with these `mcpServers` and waits until it is ready.

    It listens with TLS when there are certificates, and takes one token for every server that has no roles. `proxy` adds to the config's
    section of that name. What it connects to it trusts by the certificates' authority.
    """
    scheme = "https" if certificates else "http"
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "name": "interop",
        "baseUrl": f"{scheme}://{address}",
        "addr": address,
        "auth": {"kind": "bearer_token", "tokens": {"interop": TOKEN}},
        **(proxy or {}),
    }
    if certificates:
        settings["tls"] = {"cert": str(certificates.certificate), "key": str(certificates.key)}
    tokens = {"authTokens": ["interop"]}
    entries = {server: {**({} if "roles" in entry else tokens), **entry} for server, entry in servers.items()}
    config = folder / f"{name}.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"version": "1.0", "proxy": settings, "mcpServers": entries}, indent=2))

    trust = {"SSL_CERT_FILE": str(certificates.authority)} if certificates else {}
    child = await children.serve(name, [binary, "serve", "-c", str(config)], trust)
    verify = ssl.create_default_context(cafile=str(certificates.authority)) if certificates else True
    async with httpx2.AsyncClient(verify=verify, timeout=5) as client:

        async def ready() -> bool:
            if child.returncode is not None:
                raise RuntimeError(f"{name} ended with {child.returncode}: {children.log(name).read_text()}")
            try:
                answer = await client.get(f"{scheme}://{address}/health/ready")
            except httpx2.TransportError:
                return False
            return answer.status_code == 200

        await until(name, ready)

    env = {"INTEROP_TOKEN": TOKEN}
    if certificates:
        env["NODE_EXTRA_CA_CERTS"] = env["INTEROP_CA"] = str(certificates.authority)
    return Gate(base=f"{scheme}://{address}", env=env, pid=child.pid, log=children.log(name))
