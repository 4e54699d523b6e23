"""Clients log in: the SDKs' and the Inspector's, by registration and by the document that says what they are, at each door. Those
that can ask their user for more once a tool takes it.

All of it runs in a network of its own, see `documents`; the gateway finds the document by its system's names and certificates. A
machine on which none can be made goes without documents, and says so. And the conformance suite for authorization servers.
"""

import asyncio
import itertools
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import documents, upstreams
from .certificates import Certificates
from .children import CACHE, NODE, PYTHON, Children, Ended, free_port
from .conformance import SUITE
from .gate import Gate, start
from .inspector import CALL, INSPECTOR, LIST
from .people import Person, oauth
from .report import Report

CLIENTS = Path(__file__).parent.parent / "clients"
CLIENT_SECONDS = 60

# Each client of an SDK that logs in, and the era that it speaks.
COMMANDS = {
    "@modelcontextprotocol/sdk": [NODE, str(CLIENTS / "login.mjs"), "sdk", "legacy"],
    "@modelcontextprotocol/client": [NODE, str(CLIENTS / "login.mjs"), "client", "auto"],
    "mcp for Python": [PYTHON, str(CLIENTS / "login.py"), "auto"],
}
INSPECTOR_NAME = "the Inspector"
BY_REGISTRATION, BY_DOCUMENT = "by registration", "by document"
WAYS = (BY_REGISTRATION, BY_DOCUMENT)
# Each has a user of its own, so that none of them logs in too often.
USERS = {
    who: f"user{number}"
    for number, who in enumerate([*itertools.product((*COMMANDS, INSPECTOR_NAME), WAYS), "conformance"])
}

SERVER = "everything"
# Each door, and the tool that echoes behind it.
DOORS = {f"/{SERVER}/mcp": "echo", "/mcp": f"{SERVER}__echo", f"/{SERVER}/sse": "echo"}

# A server whose tool takes a scope of its own. The older TypeScript library refreshes in place of asking, and gives up.
GUARDED = "guarded"
SCOPE = "echo:say"
ASKS_FOR_MORE = ("@modelcontextprotocol/client", "mcp for Python")

SAID = {
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
}
# The ports of clients on this machine are free.
DOCUMENTS = {
    "/sdk.json": {"client_name": "An SDK", "redirect_uris": ["http://127.0.0.1/callback"], **SAID},
    "/inspector.json": {"client_name": "Inspector", "redirect_uris": ["http://127.0.0.1/oauth/callback"], **SAID},
}


async def run(children: Children, folder: Path, report: Report, binary: str | None, _tls: Certificates) -> None:
    if binary is None:
        return
    network = documents.inside(folder)
    possible = await children.run([*network, "true"], {}, 10)
    if possible.code != 0:
        print(f"SKIPPED  oauth by document: no network of its own ({possible.why()})", flush=True)
        network = []
    command = [*network, sys.executable, "-m", "harness.oauth", str(folder), binary, "documents" if network else ""]
    ended = await children.run(command, {}, 240)
    for line in ended.stdout.splitlines():
        report.check(*json.loads(line))
    report.check("oauth to its end", None if ended.code == 0 else ended.why())


class Told(Report):
    """Tells whoever started this process."""

    def check(self, name: str, problem: str | None) -> None:
        print(json.dumps([f"oauth {name}", problem]), flush=True)


async def within(folder: Path, binary: str, has_documents: bool) -> None:
    tls = Certificates.of(folder)
    report = Told()
    async with Children(folder) as children:
        server = {**upstreams.local_everything(), "users": list(USERS.values())}
        servers = {SERVER: server, GUARDED: {**server, "tools": {"echo": {"scopes": [SCOPE]}}}}
        client = {"conformance": {"redirectUris": ["http://127.0.0.1/callback"]}}
        # A machine that does other things too is slow to start the servers of all who come at once.
        slow = {"aggregate": {"discoveryTimeout": "30s"}}
        proxy = {**oauth(binary, folder, list(USERS.values()), clients=client), **slow}
        gate = await start(children, folder, "gate-oauth", binary, servers, tls, proxy)
        slots = asyncio.Semaphore(os.cpu_count() or 2)
        if not has_documents:
            await all_of(children, folder, report, gate, slots, WAYS[:1])
            return
        async with documents.served(tls, DOCUMENTS) as asked:
            await all_of(children, folder, report, gate, slots, WAYS)
        # Once each, however many ask.
        problem = None if sorted(asked) == sorted(DOCUMENTS) else f"asked for {asked}"
        report.check("documents are fetched once", problem)


async def all_of(
    children: Children, folder: Path, report: Report, gate: Gate, slots: asyncio.Semaphore, ways: Sequence[str]
) -> None:
    async def sdk(client: str, way: str) -> None:
        document = documents.url("/sdk.json") if way == BY_DOCUMENT else ""
        person = Person(USERS[client, way], folder)
        doors = DOORS | ({f"/{GUARDED}/mcp": "echo"} if client in ASKS_FOR_MORE else {})
        async with slots:
            command = [*COMMANDS[client], document, *(gate.base + door for door in doors)]
            ended = await children.run(command, person.env(gate), CLIENT_SECONDS)
        visits = json.loads(ended.stdout) if ended.code == 0 else []
        for number, (door, tool) in enumerate(doors.items()):
            problem = problem_of(visits[number], tool, document) if visits else ended.why() + person.why()
            report.check(f"{client} {way} at {door}", problem)

    async def inspector(way: str) -> None:
        person = Person(USERS[INSPECTOR_NAME, way], folder)
        home = folder / f"inspector {way}"
        home.mkdir()
        for door, tool in DOORS.items():
            async with slots:
                problem = await inspect(children, gate, person, home, door, tool, way)
            report.check(f"{INSPECTOR_NAME} {way} at {door}", problem)

    await asyncio.gather(
        *(sdk(client, way) for client in COMMANDS for way in ways),
        *(inspector(way) for way in ways),
        suite(children, report, gate, Person(USERS["conformance"], folder)),
    )


def problem_of(visit: dict[str, Any], tool: str, document: str) -> str | None:
    seen = {"tool": tool, "text": "Echo: over the wire"}
    if visit["seen"] != [seen, seen]:
        return f"it saw {visit['seen']}"
    if not visit["refreshed"]:
        return "its token is as it was"
    if visit["client"] != document and (document or not visit["client"].startswith("sgc_")):
        return f"it was known as {visit['client']}"
    if GUARDED in visit["url"] and SCOPE not in visit["scope"].split():
        return f"it has the scope {visit['scope']!r}"
    return None


async def inspect(
    children: Children, gate: Gate, person: Person, home: Path, door: str, tool: str, way: str
) -> str | None:
    """Lists, for which it has to log in, and calls by what it has kept of that."""
    env = {**person.env(gate), "HOME": str(home), "MCP_AUTO_OPEN_ENABLED": "true", "MCP_INSPECTOR_SECRET_STORE": "file"}
    transport = "sse" if door.endswith("/sse") else "http"
    command = [NODE, INSPECTOR, "--cli", "--server-url", gate.base + door, "--transport", transport]
    command += ["--callback-url", f"http://127.0.0.1:{free_port()}/oauth/callback", "--format", "json", "-q"]
    if way == BY_DOCUMENT:
        command += ["--client-metadata-url", documents.url("/inspector.json")]
    before = len(person.seen())
    ended = await children.run([*command, *LIST], env, CLIENT_SECONDS)
    if ended.code != 0:
        return ended.why() + person.why()
    if tool not in (found["name"] for found in json.loads(ended.stdout)["result"]["tools"]):
        return f"the listing has no `{tool}`"
    named = [tool if part == "echo" else part for part in CALL]
    ended = await children.run([*command, *named, "--use-stored-auth"], env, CLIENT_SECONDS)
    if ended.code != 0:
        return ended.why() + person.why()
    if (text := json.loads(ended.stdout)["result"]["content"][0]["text"]) != "Echo: over the wire":
        return f"the call returned {text!r}"
    asked = len(person.seen()) - before
    return None if asked == 1 else f"its user was asked {asked} times"


async def suite(
    children: Children, report: Report, gate: Gate, person: Person, check: str = "conformance authorization"
) -> None:
    """The conformance suite for authorization servers. It prints a URL, which this person has to open."""
    port = free_port()
    command = [NODE, SUITE, "authorization", "--url", gate.base, "--client-id", "conformance"]
    command += ["--resource", gate.url("mcp"), "-p", str(port)]
    name = check.replace(" ", "-")
    child = await children.serve(name, command, {"NODE_EXTRA_CA_CERTS": gate.env["INTEROP_CA"]})
    log = children.log(name)
    ended = asyncio.ensure_future(child.wait())
    try:
        async with asyncio.timeout(CLIENT_SECONDS):
            while not (found := re.search(rf"^{gate.base}/authorize\?\S+\n", log.read_text(), re.M)) and not ended.done():
                await asyncio.sleep(0.05)
            if found:
                await person.open(children, gate, found[0].strip())
            code = await ended
        said = log.read_text()
    except (RuntimeError, TimeoutError) as error:
        code, said = None, f"{error}: {log.read_text()}"
    total = re.search(r"^Total: .*$", said, re.M)
    passed = code == 0 and total and total[0] == "Total: 3 passed, 0 failed"
    report.check(check, None if passed else Ended(code, said, "").why())


if __name__ == "__main__":
    asyncio.run(within(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "documents"))
