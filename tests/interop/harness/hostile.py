"""Two callers of one shared server that takes keys in any letter case, one of them hostile: neither reaches the other.

The server is one of a real framework (mark3labs/mcp-go). Callers of MCP 2026-07-28 share its process; among all servers as
one, so do programs with the same token. In the session era each has a process of its own.
"""

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path

from . import upstreams
from .certificates import Certificates
from .children import FOLDING, Children
from .gate import TOKEN, Gate, start
from .report import Report
from .wire import LEGACY, MODERN, Connection, Session, echoed, modern_call

ATTACKER = "interop-attacker-5b1f0c9d8e7a46b3a2f1e0d9c8b7a695"
CALLS = 10_000
VICTIMS = 10
ATTACKERS = 10
# Of all calls, how many are the victims'.
HONEST = 0.25
# What is not answered by then was answered to somebody else.
PATIENCE = 2

META = f'"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientCapabilities":{{}}'

# By what they are after: the method that the header fields may name, and the body. `N` is a guess of the number that another
# caller's request has at the server, `I` the attacker's own id.
ATTACKS = {
    "id": [
        ("tools/call", '{"jsonrpc":"2.0","id":I,"ID":N,"method":"tools/call","params":{CALL,"_meta":{META}}}'),
        ("tools/call", '{"jsonrpc":"2.0","Id":N,"id":I,"iD":N,"method":"tools/call","params":{CALL,"_meta":{META}}}'),
        ("tools/call", '{"jsonrpc":"2.0","id":I,"\\u0049D":N,"method":"tools/call","params":{CALL,"_meta":{META}}}'),
    ],
    "progress": [
        (
            "tools/call",
            '{"jsonrpc":"2.0","id":I,"method":"tools/call","params":{CALL,"_meta":{META},"_Meta":{META,"progressToken":N}}}',
        ),
        (
            "tools/call",
            '{"jsonrpc":"2.0","id":I,"method":"tools/call","params":{CALL,"_meta":{META}},"Params":{CALL,"_meta":{META,"progressToken":N}}}',
        ),
        (
            "tools/call",
            '{"jsonrpc":"2.0","id":I,"method":"tools/call","params":{CALL,"_meta":{META,"progressToken":I,"PROGRESSTOKEN":N}}}',
        ),
        (
            "tools/call",
            '{"jsonrpc":"2.0","id":I,"method":"tools/call","param\u017f":{CALL,"_meta":{META,"progressToken":N}},"params":{CALL,"_meta":{META}}}',
        ),
    ],
    "cancel": [
        (
            "notifications/x",
            '{"jsonrpc":"2.0","method":"notifications/x","Method":"notifications/cancelled","params":{"requestId":N}}',
        ),
        (
            "notifications/cancelled",
            '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":I},"PARAMS":{"requestId":N}}',
        ),
        (
            "ping",
            '{"jsonrpc":"2.0","id":null,"method":"ping","METHOD":"notifications/cancelled","params":{"requestId":N,"_meta":{META}}}',
        ),
    ],
    "subscription": [
        (
            "subscriptions/listen",
            '{"jsonrpc":"2.0","id":I,"ID":N,"method":"subscriptions/listen","params":{"notifications":{},"_meta":{META}}}',
        ),
        (
            "tools/call",
            '{"jsonrpc":"2.0","id":I,"method":"tools/call","params":{CALL,"_meta":{META,"io.modelcontextprotocol/SubscriptionId":N}}}',
        ),
    ],
    "header": [
        ("ping", '{"jsonrpc":"2.0","id":I,"method":"ping","Method":"tools/call","params":{CALL,"_meta":{META}}}'),
    ],
    "poison": [
        ("tools/call", '{"jsonrpc":"2.0","id":I,"method":"tools/call","params":{CALL,"_meta":{META},"x":DEEP}}'),
    ],
}


class Tally:
    """What happened, and how many requests there were: by that a hostile caller guesses what numbers are in use."""

    def __init__(self) -> None:
        self.sent = 0
        self.effects: list[str] = []
        self.statuses: Counter[tuple[str, int]] = Counter()

    def guess(self) -> int:
        return max(1, self.sent + random.randint(-VICTIMS - 4, 4))


async def run(children: Children, folder: Path, report: Report, binary: str | None, _tls: Certificates) -> None:
    if binary is None:
        return
    if not FOLDING.exists():
        print("SKIPPED  hostile: no Go server was built on this machine (see the beginning of the output)", flush=True)
        return
    tokens = {"interop": TOKEN, "attacker": ATTACKER}
    server = {**upstreams.folding(), "authTokens": ["interop", "attacker"]}
    proxy = {"auth": {"kind": "bearer_token", "tokens": tokens}}
    gate = await start(children, folder, "gate-hostile", binary, {"go": server}, None, proxy)
    # Among all servers as one, who has the same token shares a process.
    for url, tool, attacker in ((gate.url("mcp", "go"), "echo", ATTACKER), (gate.url("mcp"), "go__echo", TOKEN)):
        began = time.monotonic()
        tally = await shared(url, tool, attacker)
        judge(report, f"hostile {CALLS} calls to {tool} of callers that share a process", tally, began)
    began = time.monotonic()
    judge(report, "hostile calls in sessions", await sessions(gate), began)


def judge(report: Report, name: str, tally: Tally, began: float) -> None:
    passed = {kind: count for (kind, status), count in tally.statuses.items() if status != 400}
    problems = []
    if tally.effects:
        problems.append(f"{len(tally.effects)} effects on another caller, first: {tally.effects[0]}")
    if passed:
        problems.append(f"hostile messages were taken: {passed}")
    report.check(f"{name}, {tally.sent} in {time.monotonic() - began:.1f} s", "; ".join(problems) or None)


async def shared(url: str, tool: str, attacker: str) -> Tally:
    tally = Tally()
    listening = asyncio.ensure_future(listen(url, tally))
    await asyncio.sleep(0)
    victims = [victim(number, url, tool, tally) for number in range(VICTIMS)]
    attackers = [attack(number, url, tool, attacker, tally) for number in range(ATTACKERS)]
    await asyncio.gather(*victims, *attackers)
    if listening.done():
        tally.effects.append(f"a subscription ended: {listening.result()}")
    listening.cancel()
    return tally


async def victim(number: int, url: str, tool: str, tally: Tally) -> None:
    """Makes calls with progress, some of which wait, and finds in each answer its own or an effect."""
    connection = await Connection(url, TOKEN).__aenter__()
    for call in range(int(CALLS * HONEST) // VICTIMS):
        nonce = f"victim {number} call {call}"
        tally.sent += 1
        try:
            delay = {"nonce": nonce, "delay": (0.002, 0.01, 0.03)[call % 3]}
            answer = await asyncio.wait_for(modern_call(connection, call, tool, delay), PATIENCE)
            text = answer.response(call)["result"]["content"][0]["text"]
            if text == "cancelled" or json.loads(text)["nonce"] != nonce:
                tally.effects.append(f"{nonce}: answered {text!r}")
            progress = {(m["params"]["progressToken"], m["params"]["message"]) for m in answer.messages if "method" in m}
            if progress - {(call, nonce)}:
                tally.effects.append(f"{nonce}: progress {progress}")
        except (TimeoutError, ValueError, KeyError) as error:
            tally.effects.append(f"{nonce}: {error!r}")
            connection = await Connection(url, TOKEN).__aenter__()


async def listen(url: str, tally: Tally) -> object:
    """Waits on a subscription, which nobody ends."""
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "subscriptions/listen"}
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": "mine", "method": "subscriptions/listen", "params": params}
    tally.sent += 1
    async with Connection(url, TOKEN) as connection:
        return (await connection.send("POST", headers, message)).messages


def hostile(kind: str, tool: str, own: int, guess: int) -> tuple[dict[str, str], bytes]:
    method, body = random.choice(ATTACKS[kind])
    call = f'"name":"{tool}","arguments":{{"nonce":"hostile"}}'
    for name, value in (("CALL", call), ("META", META), ("DEEP", "[" * 3000 + "]" * 3000)):
        body = body.replace(name, value)
    for name, value in ((":I", own), (":N", guess)):
        body = body.replace(name, f":{value}")
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    if method == "tools/call":
        headers["Mcp-Name"] = tool
    return headers, body.encode()


async def attack(number: int, url: str, tool: str, token: str, tally: Tally) -> None:
    """Sends hostile messages of all kinds, and now and then an honest call, whose answer is its own too."""
    connection = await Connection(url, token).__aenter__()
    kinds = list(ATTACKS)
    for call in range(int(CALLS * (1 - HONEST)) // ATTACKERS):
        tally.sent += 1
        try:
            if call % 50 == 49:
                nonce = f"attacker {number} call {call}"
                answer = await asyncio.wait_for(modern_call(connection, call, tool, {"nonce": nonce}), PATIENCE)
                if echoed(answer.response(call))["nonce"] != nonce:
                    tally.effects.append(f"{nonce}: got {answer.messages}")
                continue
            kind = kinds[call % len(kinds)]
            headers, body = hostile(kind, tool, call, tally.guess())
            answer = await asyncio.wait_for(connection.send("POST", headers, body), PATIENCE)
            tally.statuses[kind, answer.status] += 1
        except (TimeoutError, ValueError, KeyError, asyncio.IncompleteReadError):
            # Answered to somebody else, who notices.
            tally.statuses[kind, 0] += 1
            connection = await Connection(url, token).__aenter__()


async def sessions(gate: Gate) -> Tally:
    """The same in sessions, where what is hostile reaches nobody but its sender, and is not taken either."""
    tally = Tally()
    async with Connection(gate.url("mcp", "go"), ATTACKER) as mine, Connection(gate.url("mcp", "go"), TOKEN) as other:
        attacking, honest = await Session.open(mine), await Session.open(other)
        for call in range(1, 200):
            tally.sent += 1
            kind = list(ATTACKS)[call % len(ATTACKS)]
            _, body = hostile(kind, "echo", call, call)
            answer = await mine.send("POST", {"MCP-Protocol-Version": LEGACY, **attacking.fields}, body)
            tally.statuses[kind, answer.status] += 1
            nonce = f"session call {call}"
            if echoed((await honest.call(call, "echo", {"nonce": nonce})).response(call))["nonce"] != nonce:
                tally.effects.append(nonce)
    return tally
