"""People with a browser, whom clients send to the gateway's pages, and the gateway's config that knows them."""

import asyncio
import base64
import hashlib
import json
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2

from .children import PYTHON, Children
from .gate import TOKEN, Gate

PERSON = Path(__file__).parent.parent / "clients" / "person.py"
PASSWORD = "interop-password-5d1f"


@dataclass(frozen=True)
class Person:
    """Somebody; `seen` is what clients have asked for. Who has no name logs in at the identity provider."""

    name: str
    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / f"seen-by-{self.name}.jsonl"

    def env(self, gate: Gate) -> dict[str, str]:
        """What a client runs with, so that this is who opens its pages. It has no token."""
        return {
            **{name: value for name, value in gate.env.items() if name != "INTEROP_TOKEN"},
            "BROWSER": f"{PYTHON} -E {PERSON}",
            "INTEROP_USER": self.name,
            "INTEROP_PASSWORD": PASSWORD,
            "INTEROP_SEEN": str(self._file),
            # No other browser, whatever desktop there is.
            **dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY", "XDG_CURRENT_DESKTOP", "DESKTOP_SESSION"), ""),
        }

    def seen(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    def why(self) -> str:
        """The last thing that went wrong for this person, if something did."""
        return next((f"; {self.name} saw {seen['failed']}" for seen in reversed(self.seen()) if "failed" in seen), "")

    async def open(self, children: Children, gate: Gate, url: str) -> None:
        """Opens a page, as a client has it opened."""
        ended = await children.run([PYTHON, "-E", str(PERSON), url], self.env(gate), 30)
        if ended.code != 0:
            raise RuntimeError(f"nobody was let in: {ended.why()}{self.why()}")


def oauth(binary: str, folder: Path, names: list[str], **auth: Any) -> Mapping[str, Any]:
    """What adds to the config's `proxy`, so that these people may log in, and the run's token goes on beside it."""
    hashing = subprocess.run([binary, "user", "hash"], input=f"{PASSWORD}\n", capture_output=True, text=True, check=True)
    users = {name: {"passwordHash": hashing.stdout.split()[0]} for name in names}
    return {
        "stateDir": str(folder / "state"),
        "auth": {"kind": "oauth", "tokens": {"interop": TOKEN}, "users": users, **auth},
    }


async def access_token(children: Children, gate: Gate, person: Person, resource: str) -> str:
    """What a client has for `resource` that registers, and that this person lets in."""
    verifier = secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def called_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        code.set_result(dict(parse_qsl(urlsplit(target).query))["code"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with (
        await asyncio.start_server(called_back, "127.0.0.1", 0) as listener,
        httpx2.AsyncClient(base_url=gate.base, timeout=10) as client,
    ):
        redirect = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/callback"
        about = {"client_name": "interop", "redirect_uris": [redirect]}
        registered = (await client.post("/register", json=about)).raise_for_status().json()
        asked = {
            "response_type": "code",
            "client_id": registered["client_id"],
            "redirect_uri": redirect,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "resource": resource,
        }
        await person.open(children, gate, f"{gate.base}/authorize?{urlencode(asked)}")
        redeemed = {
            "grant_type": "authorization_code",
            "client_id": registered["client_id"],
            "redirect_uri": redirect,
            "code": await code,
            "code_verifier": verifier,
        }
        return (await client.post("/token", data=redeemed)).raise_for_status().json()["access_token"]
