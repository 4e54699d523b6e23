"""Where clients connect: through a gate started for the purpose, or straight to the servers."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
    """Starts a gate in front of `upstreams` (server name to full URL) and waits until it is ready.

    It listens with TLS when there are certificates, and takes one token for every server.
    """
    scheme = "https" if certificates else "http"
    address = f"127.0.0.1:{free_port()}"
    proxy = {
        "name": "interop",
        "baseUrl": f"{scheme}://{address}",
        "addr": address,
        "auth": {"kind": "bearer_token", "tokens": {"interop": TOKEN}},
    }
    if certificates:
        proxy["tls"] = {"cert": str(certificates.certificate), "key": str(certificates.key)}
    servers = {server: {"url": url, "authTokens": ["interop"]} for server, url in upstreams.items()}
    config = folder / f"{name}.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"version": "1.0", "proxy": proxy, "mcpServers": servers}, indent=2))

    child = await children.serve(name, [binary, "serve", "-c", str(config)])
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
    # The last part of an upstream's URL says which transport it speaks; the gate's path ends the same way.
    urls = {server: f"{scheme}://{address}/{server}/{url.rsplit('/', 1)[1]}" for server, url in upstreams.items()}
    return Entry(urls=urls, env=env, gated=True)
