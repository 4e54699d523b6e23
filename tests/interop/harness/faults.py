"""Kills without warning: children of the gate under load, and the gate itself.

`INTEROP_CHILD_KILLS` and `INTEROP_GATE_KILLS` say how many.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from . import processes, upstreams
from .certificates import Certificates
from .children import Children
from .gate import TOKEN, Gate, start
from .report import Report
from .wire import MODERN, Answer, Connection, Session, echoed, modern_call

CHILD_KILLS = int(os.environ.get("INTEROP_CHILD_KILLS", 100))
GATE_KILLS = int(os.environ.get("INTEROP_GATE_KILLS", 10))

# Sessions that lose their process at a time, and sessions beside them that must notice nothing.
VICTIMS = 8
WITNESSES = 4

# A pending call has its error by then, and orphans are gone by then.
ERROR_SECONDS = 1.0
ORPHAN_SECONDS = 2.0
# A call that no kill would end within the bounds.
LONG_SECONDS = 60
REST_SECONDS = 20


async def run(children: Children, folder: Path, report: Report, binary: str | None, _tls: Certificates) -> None:
    if binary is None:
        return
    servers = {"tiny": upstreams.tiny(), "shared": upstreams.tiny()}
    gate = await start(children, folder, "gate-faults", binary, servers)
    await sessions_lose_their_process(report, gate)
    await shared_process_is_killed(report, gate)
    await gate_is_killed(children, folder, report, binary)


async def sessions_lose_their_process(report: Report, gate: Gate) -> None:
    url = gate.url("mcp", "tiny")
    # What the gate opens once and keeps is not a leak.
    async with Connection(url, TOKEN) as connection:
        await (await Session.open(connection)).close()
    await at_rest(gate, [])
    before = processes.descriptors(gate.pid)

    left = iter(range(CHILD_KILLS))
    slowest, wrong, calls = [0.0], [], [0]
    done = asyncio.Event()
    witnesses = [asyncio.ensure_future(witness(url, done, wrong, calls)) for _ in range(WITNESSES)]
    await asyncio.gather(*(victims(gate, url, left, slowest, wrong) for _ in range(VICTIMS)))
    done.set()
    await asyncio.gather(*witnesses)

    name = f"faults {CHILD_KILLS} processes killed: each call fails within {ERROR_SECONDS} s, {calls[0]} others do not"
    report.check(f"{name} (slowest {slowest[0] * 1000:.0f} ms)", f"{len(wrong)} wrong, first: {wrong[0]}" if wrong else None)
    report.check("faults no zombies and no descriptors left after the kills", await at_rest(gate, before))


async def victims(gate: Gate, url: str, left: Any, slowest: list[float], wrong: list[str]) -> None:
    """Opens sessions and kills the process of each while a call is pending."""
    for _ in left:
        try:
            async with Connection(url, TOKEN) as connection:
                session = await Session.open(connection)
                pid = echoed((await session.call(1, "echo", {"nonce": "whose"})).response(1))["pid"]
                owner = processes.stat(pid)
                if owner is None or owner.parent != gate.pid:
                    wrong.append(f"process {pid} is not a child of the gate: {owner}")
                    continue
                seconds, problem = await killed(pid, session.call(2, "echo", {"nonce": "lost", "delay": LONG_SECONDS}), 2)
                slowest[0] = max(slowest[0], seconds)
                if problem:
                    wrong.append(problem)
        except (OSError, ValueError, KeyError, asyncio.IncompleteReadError) as error:
            wrong.append(f"a new session: {error!r}")


async def killed(pid: int, call: Any, number: int) -> tuple[float, str | None]:
    """Kills a process in the middle of a call; how long the caller waited then, and what was wrong."""
    pending = asyncio.ensure_future(call)
    # Long enough for the call to get to the process.
    await asyncio.sleep(0.02)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    done, _ = await asyncio.wait([pending], timeout=10 * ERROR_SECONDS)
    seconds = time.monotonic() - began
    if not done:
        pending.cancel()
        return seconds, f"no answer {seconds:.1f} s after the kill"
    if problem := not_an_error(pending, number):
        return seconds, problem
    return seconds, f"an error only after {seconds:.2f} s" if seconds > ERROR_SECONDS else None


def not_an_error(pending: "asyncio.Future[Answer]", number: int) -> str | None:
    """Why a call that lost its server was not told so."""
    if error := pending.exception():
        return f"the connection was cut: {error!r}"
    answer = pending.result()
    if answer.status >= 500:
        return None
    try:
        response = answer.response(number)
    except ValueError as error:
        return str(error)
    return None if "error" in response else f"a result: {response}"


async def witness(url: str, done: asyncio.Event, wrong: list[str], calls: list[int]) -> None:
    """Calls on a session of its own, while others lose theirs."""
    try:
        async with Connection(url, TOKEN) as connection:
            session = await Session.open(connection)
            while not done.is_set():
                calls[0] += 1
                nonce = f"witness {calls[0]}"
                if echoed((await session.call(calls[0], "echo", {"nonce": nonce})).response(calls[0]))["nonce"] != nonce:
                    wrong.append(f"not the answer to {nonce}")
                # The load is beside the point; that calls succeed all the time is.
                await asyncio.sleep(0.005)
            await session.close()
    except (OSError, ValueError, KeyError, asyncio.IncompleteReadError) as error:
        wrong.append(f"a session beside: {error!r}")


async def at_rest(gate: Gate, before: list[str]) -> str | None:
    """Waits until the gate has neither children nor more descriptors than `before`; what is left in the end."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        left = processes.children(gate.pid)
        # Connections to clients end a moment after these close them.
        more = kinds(processes.descriptors(gate.pid)) - kinds(before) if before else Counter()
        if not left and not more:
            return None
        if time.monotonic() > deadline:
            states = Counter(child.state for child in left.values())
            return f"children by state {dict(states)}, more descriptors {dict(more)}"
        await asyncio.sleep(0.05)


def kinds(descriptors: list[str]) -> Counter[str]:
    return Counter(descriptor.split(":")[0] for descriptor in descriptors)


async def shared_process_is_killed(report: Report, gate: Gate) -> None:
    """Every caller of a shared process is told, and the next one finds a new process."""
    url, wrong, slowest = gate.url("mcp", "shared"), [], 0.0
    for kill in range(3):
        async with Connection(url, TOKEN) as asking:
            pid, waited = await shared_pid(asking, kill)
            if pid is None:
                wrong.append(f"no answer before kill {kill + 1}: {waited}")
                break
        connections = [Connection(url, TOKEN) for _ in range(VICTIMS)]
        pending = [asyncio.ensure_future(pending_call(connection, kill)) for connection in connections]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        _, late = await asyncio.wait(pending, timeout=10 * ERROR_SECONDS)
        slowest = max(slowest, time.monotonic() - began)
        wrong += ["a caller was not told" for _ in late]
        wrong += [problem for call in pending if call not in late and (problem := not_an_error(call, kill))]
    if slowest > ERROR_SECONDS:
        wrong.append(f"an error only after {slowest:.2f} s")
    name = f"faults a shared process killed 3 times: {VICTIMS} callers are told within {ERROR_SECONDS} s, then it is back"
    report.check(f"{name} (slowest {slowest * 1000:.0f} ms)", "; ".join(wrong[:3]) or None)


async def pending_call(connection: Connection, number: int) -> Answer:
    async with connection:
        return await modern_call(connection, number, "echo", {"nonce": "lost", "delay": LONG_SECONDS})


async def shared_pid(connection: Connection, number: int) -> tuple[int | None, str]:
    """The process that answers, which may take as long as the gate waits before it starts one again."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        answer = await modern_call(connection, number, "echo", {"nonce": "whose"})
        try:
            return echoed(answer.response(number))["pid"], ""
        except (ValueError, KeyError) as error:
            if time.monotonic() > deadline:
                return None, f"{MODERN}: {error!r} in {answer}"
            await asyncio.sleep(0.05)


async def gate_is_killed(children: Children, folder: Path, report: Report, binary: str) -> None:
    """No process that the gate started outlives it, whatever it has started itself and does not listen to."""
    servers = {
        "plain": upstreams.tiny(),
        "family": upstreams.tiny("--family"),
        "deaf": upstreams.tiny("--deaf"),
        "deaf-family": upstreams.tiny("--deaf", "--family"),
    }
    orphans, slowest = [], 0.0
    for kill in range(GATE_KILLS):
        gate = await start(children, folder, f"gate-kill-{kill}", binary, servers)
        pids = await asyncio.gather(*(family_of(gate.url("mcp", server)) for server in servers))
        family = processes.Identities(pid for pair in pids for pid in pair if pid)
        began = time.monotonic()
        os.kill(gate.pid, signal.SIGKILL)
        left = await asyncio.to_thread(family.gone_within, ORPHAN_SECONDS)
        slowest = max(slowest, time.monotonic() - began)
        named = {pid: server for server, pair in zip(servers, pids, strict=True) for pid in pair}
        orphans += [f"{named[pid]} after kill {kill + 1}" for pid in left]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    name = f"faults the gate killed {GATE_KILLS} times: no orphans after {ORPHAN_SECONDS} s"
    report.check(f"{name} (slowest {slowest * 1000:.0f} ms)", f"{len(orphans)} orphans: {orphans[:4]}" if orphans else None)


async def family_of(url: str) -> tuple[int, int]:
    """The process behind a new session, and the one beside it or 0."""
    async with Connection(url, TOKEN) as connection:
        session = await Session.open(connection)
        echo = echoed((await session.call(1, "echo", {"nonce": "whose"})).response(1))
        return echo["pid"], echo["family"]
