"""People who log in at an identity provider: the conformance suite for authorization servers passes as with the gateway's own users.

The provider is oauth2-mock-server, which sends everybody back at once. What browsers see is in tests/pages.
"""

from pathlib import Path

import httpx2

from . import upstreams
from .certificates import Certificates
from .children import CACHE, NODE, Children, free_port, until
from .gate import TOKEN, start
from .oauth import suite
from .people import Person
from .report import Report

MOCK = CACHE / "node_modules" / "oauth2-mock-server" / "dist" / "oauth2-mock-server.mjs"


async def run(children: Children, folder: Path, report: Report, binary: str | None, tls: Certificates) -> None:
    if binary is None:
        return
    port = free_port()
    issuer = f"http://localhost:{port}"
    await children.serve("provider", [NODE, str(MOCK), "-p", str(port)], {})
    async with httpx2.AsyncClient(timeout=5) as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"{issuer}/.well-known/openid-configuration")).status_code == 200
            except httpx2.TransportError:
                return False

        await until("provider", ready)

    proxy = {
        "stateDir": str(folder / "state-idp"),
        "auth": {
            "kind": "oauth",
            "tokens": {"interop": TOKEN},
            "idp": {"provider": "oidc", "issuer": issuer, "clientId": "gate"},
            "assign": [{"if": {"claim": "sub", "has": "johndoe"}, "roles": ["user"]}],
            "clients": {"conformance": {"redirectUris": ["http://127.0.0.1/callback"]}},
        },
    }
    servers = {"everything": {**upstreams.local_everything(), "roles": ["user"]}}
    gate = await start(children, folder, "gate-idp", binary, servers, tls, proxy)
    await suite(children, report, gate, Person("", folder), "conformance authorization by a provider")
