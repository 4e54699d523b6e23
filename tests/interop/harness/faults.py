"""Kills without warning: children of the gateway under load, and the gateway itself.

`INTEROP_CHILD_KILLS` and `INTEROP_GATE_KILLS` say how many.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import processes, upstreams
from .certificates import Certificates
from .children import Children
from .gate import TOKEN, Gate, start
from .report import Report
from .wire import MODERN, Answer, Connection, Session, echoed, modern_call

CHILD_KILLS = int(os.environ.get("INTEROP_CHILD_KILLS", 100))
GATE_KILLS = int(os.environ.get("INTEROP_GATE_KILLS", 10))

# Sessions of one server that lose their processes. After that it is left alone: the gateway waits before it starts again
# what keeps failing, ever longer.
BATCH = 50
# Sessions beside them that must notice nothing.
WITNESSES = 4
# Callers of a shared process.
CALLERS = 8

# A pending call has its error by then, and orphans are gone by then.
ERROR_SECONDS = 1.0
ORPHAN_SECONDS = 2.0
# A call that no kill would end within the bounds.
LONG_SECONDS = 60
ON_THE_WAY_SECONDS = 0.2
REST_SECONDS = 20
SETTLED_SECONDS = 1.0


async def run(children: Children, folder: Path, report: Report, binary: str | None, _tls: Certificates) -> None:
    if binary is None:
        return
    await sessions_lose_their_processes(children, folder, report, binary)
    await shared_process_is_killed(children, folder, report, binary)
    await gate_is_killed(children, folder, report, binary)


async def sessions_lose_their_processes(children: Children, folder: Path, report: Report, binary: str) -> None:
    batches = {f"victim-{first}": min(BATCH, CHILD_KILLS - first) for first in range(0, CHILD_KILLS, BATCH)}
    servers = {name: upstreams.tiny() for name in ("witness", *batches)}
    gate = await start(children, folder, "gate-faults", binary, servers)
    # What the gateway opens once and keeps is not a leak.
    async with Connection(gate.url("mcp", "witness"), TOKEN) as connection:
        await (await Session.open(connection)).close()
    before = await at_rest(gate)

    tally = Tally()
    done = asyncio.Event()
    witnesses = [asyncio.ensure_future(witness(gate.url("mcp", "witness"), done, tally)) for _ in range(WITNESSES)]
    for name, kills in batches.items():
        await batch(gate, gate.url("mcp", name), kills, tally)
    done.set()
    await asyncio.gather(*witnesses)

    name = f"faults {CHILD_KILLS} processes killed: each call fails within {ERROR_SECONDS} s, {tally.calls} others do not"
    report.check(f"{name} (slowest {tally.slowest * 1000:.0f} ms)", tally.problem())
    report.check("faults no process and no descriptor left after the kills", await leaks(gate, before))


@dataclass
class Tally:
    """What came of the kills; `calls` are those of the sessions beside."""

    slowest: float = 0.0
    calls: int = 0
    wrong: list[str] = field(default_factory=list)

    def problem(self) -> str | None:
        return f"{len(self.wrong)} wrong, first: {self.wrong[0]}" if self.wrong else None


async def batch(gate: Gate, url: str, kills: int, tally: Tally) -> None:
    """Opens sessions, and when all have a call that is pending, kills the processes of all."""
    ready = asyncio.Barrier(kills)
    await asyncio.gather(*(victim(gate, url, ready, tally) for _ in range(kills)))


async def victim(gate: Gate, url: str, ready: asyncio.Barrier, tally: Tally) -> None:
    try:
        async with Connection(url, TOKEN) as connection:
            session = await Session.open(connection)
            pid = echoed((await session.call(1, "echo", {"nonce": "whose"})).response(1))["pid"]
            owner = processes.stat(pid)
            if owner is None or owner.parent != gate.pid:
                raise ValueError(f"process {pid} is not a child of the gateway: {owner}")
            pending = asyncio.ensure_future(session.call(2, "echo", {"nonce": "lost", "delay": LONG_SECONDS}))
            await ready.wait()
            # The last of the calls is still on its way to its process.
            await asyncio.sleep(ON_THE_WAY_SECONDS)
            seconds, problem = await killed(pid, pending, 2)
            tally.slowest = max(tally.slowest, seconds)
            if problem:
                tally.wrong.append(problem)
    except (OSError, ValueError, KeyError, asyncio.IncompleteReadError, asyncio.BrokenBarrierError) as error:
        # The others would wait for this one.
        await ready.abort()
        tally.wrong.append(f"a new session: {error!r}")


async def killed(pid: int, pending: "asyncio.Future[Answer]", number: int) -> tuple[float, str | None]:
    """Kills a process in the middle of a call; how long the caller waited then, and what was wrong."""
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


async def witness(url: str, done: asyncio.Event, tally: Tally) -> None:
    """Calls on a session of its own, while others lose theirs."""
    try:
        async with Connection(url, TOKEN) as connection:
            session, number = await Session.open(connection), 0
            while not done.is_set():
                number += 1
                nonce = f"witness {number}"
                if echoed((await session.call(number, "echo", {"nonce": nonce})).response(number))["nonce"] != nonce:
                    tally.wrong.append(f"not the answer to {nonce}")
                tally.calls += 1
                # The load is beside the point; that calls succeed all the time is.
                await asyncio.sleep(0.005)
            await session.close()
    except (OSError, ValueError, KeyError, asyncio.IncompleteReadError) as error:
        tally.wrong.append(f"a session beside: {error!r}")


@dataclass(frozen=True)
class Rest:
    """What a gateway holds when nothing happens."""

    children: set[int]
    descriptors: Counter[str]


async def at_rest(gate: Gate) -> Rest:
    """Waits until what the gateway holds stays the same for a moment: it lets go of what clients closed a little later."""
    last, since = None, time.monotonic()
    while True:
        now = Rest(set(processes.children(gate.pid)), kinds(processes.descriptors(gate.pid)))
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > SETTLED_SECONDS:
            return now
        await asyncio.sleep(0.05)


async def leaks(gate: Gate, before: Rest) -> str | None:
    """Waits until the gateway has no more children and descriptors than `before`; what is left in the end."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        left = {pid: child for pid, child in processes.children(gate.pid).items() if pid not in before.children}
        more = kinds(processes.descriptors(gate.pid)) - before.descriptors
        if not left and not more:
            return None
        if time.monotonic() > deadline:
            states = Counter(child.state for child in left.values())
            return f"children by state {dict(states)}, more descriptors {dict(more)}"
        await asyncio.sleep(0.05)


def kinds(descriptors: list[str]) -> Counter[str]:
    return Counter(descriptor.split(":")[0] for descriptor in descriptors)


async def shared_process_is_killed(children: Children, folder: Path, report: Report, binary: str) -> None:
    """Every caller of a shared process is told, and the next one finds a new process."""
    gate = await start(children, folder, "gate-faults-shared", binary, {"shared": upstreams.tiny()})
    url, wrong, slowest = gate.url("mcp", "shared"), [], 0.0
    for kill in range(3):
        async with Connection(url, TOKEN) as asking:
            pid, waited = await shared_pid(asking, kill)
            if pid is None:
                wrong.append(f"no answer before kill {kill + 1}: {waited}")
                break
        connections = [Connection(url, TOKEN) for _ in range(CALLERS)]
        pending = [asyncio.ensure_future(pending_call(connection, kill)) for connection in connections]
        await asyncio.sleep(ON_THE_WAY_SECONDS)
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        _, late = await asyncio.wait(pending, timeout=10 * ERROR_SECONDS)
        slowest = max(slowest, time.monotonic() - began)
        wrong += ["a caller was not told" for _ in late]
        wrong += [problem for call in pending if call not in late and (problem := not_an_error(call, kill))]
    if slowest > ERROR_SECONDS:
        wrong.append(f"an error only after {slowest:.2f} s")
    name = f"faults a shared process killed 3 times: {CALLERS} callers are told within {ERROR_SECONDS} s, then it is back"
    report.check(f"{name} (slowest {slowest * 1000:.0f} ms)", "; ".join(wrong[:3]) or None)


async def pending_call(connection: Connection, number: int) -> Answer:
    async with connection:
        return await modern_call(connection, number, "echo", {"nonce": "lost", "delay": LONG_SECONDS})


async def shared_pid(connection: Connection, number: int) -> tuple[int | None, str]:
    """The process that answers, which may take as long as the gateway waits before it starts one again."""
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
    """No process that the gateway started outlives it, whatever it has started itself and does not listen to."""
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
        # With the helpers that it may have.
        family = processes.Identities({*(pid for pair in pids for pid in pair if pid), *processes.descendants(gate.pid)})
        began = time.monotonic()
        os.kill(gate.pid, signal.SIGKILL)
        left = await asyncio.to_thread(family.gone_within, ORPHAN_SECONDS)
        slowest = max(slowest, time.monotonic() - began)
        named = {pid: server for server, pair in zip(servers, pids, strict=True) for pid in pair}
        orphans += [f"{named.get(pid, 'a helper')} after kill {kill + 1}" for pid in left]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    name = f"faults the gateway killed {GATE_KILLS} times: no orphans after {ORPHAN_SECONDS} s"
    report.check(f"{name} (slowest {slowest * 1000:.0f} ms)", f"{len(orphans)} orphans: {orphans[:4]}" if orphans else None)


async def family_of(url: str) -> tuple[int, int]:
    """The process behind a new session, and the one beside it or 0."""
    async with Connection(url, TOKEN) as connection:
        session = await Session.open(connection)
        echo = echoed((await session.call(1, "echo", {"nonce": "whose"})).response(1))
        return echo["pid"], echo["family"]
